"""A process of its own for what the formgrader's buttons do.

nbgrader changes the working folder, the environment and the loggers of the process that it works in, and takes its
time. So the Jupyter server hands the work over: an order is a line of JSON, and so is the answer, which is the one that
nbgrader's own interface gives. One order after the other. The desk ends when the server does, however that ended.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import queue
import socket
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Any

PATIENCE = 5.0  # seconds that the work at hand may take once the server has gone
COMMAND = (
    "from proctor.nbgrader.desk import serve; serve({})"  # no main module for the grading processes to load
)
Order = Mapping[str, Any]


def serve(descriptor: int) -> None:
    """Do what comes in through a socket, until it closes."""
    os.set_inheritable(descriptor, False)
    orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
    _one_engine()
    with socket.socket(fileno=descriptor) as wire:
        threading.Thread(target=_listen, args=(wire, orders), daemon=True).start()
        while (order := orders.get()) is not None:
            wire.sendall(json.dumps(done(order)).encode() + b"\n")


def _listen(wire: socket.socket, orders: queue.SimpleQueue[Order | None]) -> None:
    try:
        with wire.makefile("rb") as lines:
            for line in lines:
                orders.put(json.loads(line))
    finally:
        orders.put(None)
        sleep(PATIENCE)  # the process is still here: it is grading, for nobody
        os._exit(1)  # the grading processes notice, and end what they have started


def done(order: Order) -> dict[str, Any]:
    """Carry out one order; the answer in nbgrader's form, whatever happens."""
    from proctor.nbgrader.classroom import inside

    root = Path(order["course"]["root"])
    try:
        with inside(root):
            if order["do"] == "warm":
                return warm(order)
            return getattr(interface(order), order["do"])(*order["names"]) or {"success": False}
    except BaseException as error:  # a configuration file may also call sys.exit
        return {"success": False, "error": traceback.format_exc(), "log": f"[ERROR] {error}"}


def interface(order: Order) -> Any:
    """nbgrader's interface as the formgrader makes it: the files of this moment, then what the server was told."""
    from nbgrader.apps import NbGraderAPI
    from nbgrader.apps.baseapp import NbGrader
    from traitlets.config import Application

    log = logging.getLogger("proctor.nbgrader")
    log.propagate = False  # what is logged is in the answer
    log.setLevel(logging.INFO)
    app = NbGrader(log=log)
    app.raise_config_file_errors = True  # with half a configuration, nbgrader would run the submission itself
    app.load_config_file()
    Application.load_config_file(app, "nbgrader_config.py", path=order["course"]["root"])
    config = app.config.copy()
    for name, traits in (*order["settings"].items(), ("CourseDirectory", order["course"])):
        config[name].update(traits)
    return NbGraderAPI(config=config, log=log)


def warm(order: Order) -> dict[str, Any]:
    """Get ready to grade a unit, as far as that goes without a submission.

    The grading process and the student's side grade the exercise as it was released, for nobody; here, nbgrader's
    schemas are compiled and its queries translated.
    """
    import nbformat
    from nbgrader.api import MissingEntry
    from nbgrader.preprocessors import CheckCellMetadata

    from proctor import pool
    from proctor.course import read_course
    from proctor.nbgrader import steps

    root = Path(order["course"]["root"])
    course = read_course(root)
    unit = course.unit(*order["names"])
    release = course.release(unit)
    steps.graders.grade(pool.Job(root=root, unit=unit.name, student="", path=release))
    notebook = nbformat.read(release, as_version=4)
    CheckCellMetadata().preprocess(notebook, {})
    nbformat.validate(nbformat.from_dict({**notebook, "nbformat_minor": 4}), relax_add_props=True)
    nbformat.writes(notebook)
    with interface(order).gradebook as gradebook, suppress(MissingEntry):
        gradebook.find_notebook(unit.notebook, unit.name)
    return {"success": True}


def _one_engine() -> None:
    """Keep a database's engine with the queries that it has translated: nbgrader makes seven for a submission."""
    import nbgrader.api

    nbgrader.api.create_engine = functools.cache(nbgrader.api.create_engine)
