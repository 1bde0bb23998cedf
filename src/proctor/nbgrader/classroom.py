"""nbgrader's own operations on a course folder, in process: release, exchange, autograding, feedback, scores."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbgrader.api
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.exchange.default import Exchange, ExchangeFetchAssignment, ExchangeSubmit
from nbgrader.utils import capture_log, temp_attrs
from sqlalchemy.exc import SAWarning
from traitlets.config.loader import ConfigFileNotFound, PyFileConfigLoader

from proctor.course import CourseError

logging.getLogger("proctor.nbgrader").addHandler(logging.NullHandler())
# nbgrader asks a subprocess for its schema's version at every new gradebook; one answer serves a whole process.
nbgrader.api.get_alembic_version = functools.cache(nbgrader.api.get_alembic_version)
_CAUSE = re.compile(r"([A-Za-z_.]+(?:Error|Exception)): (.*)")


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder, as nbgrader does: its commands mean the course that they are called in."""
    before, path = Path.cwd(), os.environ.get("PATH", "")
    os.chdir(folder)
    os.environ["PATH"] = str(Path(sys.executable).parent) + os.pathsep + path  # it calls `alembic` by name
    try:
        with warnings.catch_warnings():
            # nbgrader's own queries, misspelt arguments and files left open: nothing that a teacher can mend.
            warnings.simplefilter("ignore", SAWarning)
            warnings.filterwarnings("ignore", "Passing unrecognized arguments", DeprecationWarning)
            warnings.filterwarnings("ignore", "unclosed file .*timestamp", ResourceWarning)
            yield
    finally:
        os.environ["PATH"] = path
        os.chdir(before)


def classroom(root: Path, **settings: Mapping[str, Any]) -> NbGraderAPI:
    """nbgrader's own interface on a course folder, configured as its ``nbgrader_config.py`` says.

    ``settings`` are further traits by class, such as ``Exchange={"root": …}``.
    """
    try:
        config = PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()
    except ConfigFileNotFound as error:
        raise CourseError(
            f"nbgrader_config.py is missing in {root}; put back the one that comes with the course"
        ) from error
    config.CourseDirectory.root = str(root)
    for name, traits in settings.items():
        config[name].update(traits)
    # nbgrader's steps log into `told`, which tells what went wrong once; nothing else reaches the screen.
    log = logging.getLogger("proctor.nbgrader")
    log.propagate = False
    log.setLevel(logging.INFO)
    return NbGraderAPI(config=config, log=log)


def told(answer: Mapping[str, Any], what: str) -> None:
    """Raise CourseError with the cause in its own words where one of nbgrader's steps has failed."""
    if answer["success"]:
        return
    lines = f"{answer.get('log', '')}\n{answer.get('error', '')}".splitlines()
    causes = [
        match
        for line in lines
        if (match := _CAUSE.match(line.strip())) and "NbGraderException" not in match[1]
    ]
    errors = [line.removeprefix("[ERROR] ") for line in lines if line.startswith("[ERROR] ")]
    if causes:
        kind, text = causes[-1].groups()
        raise CourseError(text if kind.endswith("CourseError") else f"{what} failed: {kind}: {text}"[:500])
    raise CourseError(f"{what} failed: {(errors or lines)[-1][:400]}")


def release_all(root: Path, units: Sequence[str]) -> None:
    """Make the exercises of units in the course in ``root``, in its ``exercises/``."""
    api = classroom(root)
    with inside(root):
        for unit in units:
            told(api.generate_assignment(unit, force=True), f"releasing {unit}")


def write_feedback(root: Path, unit: str, api: NbGraderAPI | None = None) -> None:
    """Write the feedback page of every graded submission, through nbgrader."""
    api = api or classroom(root)
    with inside(root):
        told(api.generate_feedback(unit), f"writing feedback on {unit}")


def release(api: NbGraderAPI, root: Path, unit: str) -> None:
    """Make the exercises of a unit and put them into the exchange."""
    with inside(root):
        told(api.generate_assignment(unit, force=True), f"releasing {unit}")
        told(api.release_assignment(unit), f"releasing {unit}")


def collect(api: NbGraderAPI, root: Path, unit: str) -> None:
    """Collect what learners have submitted."""
    with inside(root):
        told(api.collect(unit), f"collecting {unit}")


def release_feedback(api: NbGraderAPI, root: Path, unit: str) -> None:
    """Put the feedback pages into the exchange."""
    with inside(root):
        told(api.release_feedback(unit), f"releasing the feedback on {unit}")


def fetch(api: NbGraderAPI, home: Path, unit: str) -> None:
    """Fetch an exercise into a learner's folder."""
    with inside(home):
        _exchange(ExchangeFetchAssignment, api, unit, f"fetching {unit}")


def submit(api: NbGraderAPI, home: Path, unit: str) -> None:
    """Submit an exercise from a learner's folder."""
    with inside(home):
        _exchange(ExchangeSubmit, api, unit, f"submitting {unit}")


def scores(root: Path, unit: str) -> dict[str, float]:
    """The scores of a unit as nbgrader's gradebook has them, by student."""
    api = classroom(root)
    with Gradebook(api.coursedir.db_url) as gradebook:
        return {
            submission.student.id: submission.score for submission in gradebook.assignment_submissions(unit)
        }


def _exchange(kind: type[Exchange], api: NbGraderAPI, unit: str, what: str) -> None:
    with temp_attrs(api.coursedir, assignment_id=unit):
        told(capture_log(kind(coursedir=api.coursedir, authenticator=api.authenticator, parent=api)), what)
