"""The student's side of the wire: runs the cells of a notebook and answers calls into its namespace.

``python -m proctor.worker FD FOLDER`` is the *zygote*: it loads what every submission needs once, then forks one
process for each request on its control socket. It holds no secret, no database and no file of the course. A
forked process runs the learner's code and talks over its own socket until that closes; when it ends,
everything that it started ends with it, and when the zygote ends, its folder goes.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from proctor.cells import Cells, Full
from proctor.student import Student

PR_SET_CHILD_SUBREAPER = 36


def preload(modules: list[str]) -> Cells:
    """Load what a submission needs, so that a fork starts warm."""
    import torch

    torch.set_num_threads(1)  # before anything else: with a thread pool running, children of a fork deadlock
    import matplotlib
    import numpy  # noqa: F401
    import psutil  # noqa: F401

    matplotlib.use("module://matplotlib_inline.backend_inline")
    matplotlib.interactive(True)  # a figure shows at the end of its cell, as in a notebook
    import matplotlib.pyplot
    import matplotlib_inline.backend_inline as inline

    import proctor.peer
    import proctor.values  # noqa: F401

    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    cells = Cells()
    inline.configure_inline_support(cells.shell, "module://matplotlib_inline.backend_inline")
    cells.run("1 + 1")
    return cells


def zygote(control: socket.socket, home: Path) -> None:
    """Fork a process for every request until the control socket closes; end each with all it has started."""
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1)
        order, _ = _take_order(control)
        cells = preload(order["preload"])
        _answer(control, {"ready": True})
        child = None
        while True:
            order, descriptors = _take_order(control)
            if order["op"] == "fork":
                child = os.fork()
                if child == 0:
                    control.close()
                    status = 1
                    try:
                        become_student(cells, descriptors[0], order)
                        status = 0
                    finally:
                        os._exit(status)
                for descriptor in descriptors:
                    os.close(descriptor)
                _answer(control, {"pid": child})
            else:
                _answer(control, {"ended": end_children(child)})
                child = None
    except (EOFError, OSError):
        pass  # the other side has closed, or has died: leave nothing behind
    finally:
        ended = end_children()
        shutil.rmtree(home, ignore_errors=True)
    os._exit(
        0 if ended else 1
    )  # at 1 the other side looks for what is left; torch would take seconds to tidy up


def _take_order(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    # A line of JSON: sockets that keep messages apart (SOCK_SEQPACKET) do not exist on macOS.
    text, descriptors = b"", []
    while not text.endswith(b"\n"):
        part, passed, _, _ = socket.recv_fds(control, 1 << 16, 4)
        if not part:
            raise EOFError
        text += part
        descriptors += passed
    return json.loads(text), descriptors


def _answer(control: socket.socket, answer: dict[str, Any]) -> None:
    control.sendall(json.dumps(answer).encode() + b"\n")


def become_student(cells: Cells, descriptor: int, order: dict[str, Any]) -> None:
    """Turn a fork of the zygote into the process of one submission, within its limits, and serve it."""
    from proctor.wire import Connection

    os.setsid()
    os.chdir(order["folder"])
    os.environ.update(HOME=order["folder"], TMPDIR=order["folder"])
    tempfile.tempdir = None
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    keep = os.dup2(descriptor, 3, inheritable=False)
    os.set_inheritable(keep, False)
    os.closerange(4, 4096)
    for name, value in order["rlimits"].items():
        set_limit(name, value)
    sys.stdout = sys.stderr = Full()
    wire = Connection(socket.socket(fileno=keep))
    os.register_at_fork(after_in_child=wire.close)  # a child that lives on must not keep the wire open
    Student(cells).serve(wire)


def set_limit(name: str, value: int) -> None:
    """Set a limit of this process by its name in ``resource``; ``RLIMIT_NPROC`` on top of what runs already."""
    import psutil

    if name == "RLIMIT_NPROC":  # the kernel counts everything that the account runs, in threads
        mine = (p for p in psutil.process_iter(["uids", "num_threads"]) if p.info["uids"])
        value += sum(p.info["num_threads"] or 0 for p in mine if p.info["uids"].real == os.getuid())
    limit = getattr(resource, name)
    _, hard = resource.getrlimit(limit)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(limit, (value, value))
    except (ValueError, OSError):
        if sys.platform == "linux":
            raise  # macOS refuses some, such as a limit of address space; there a learner grades their own work


def end_children(leader: int | None = None, seconds: float = 10.0) -> bool:
    """Kill every descendant, the group of ``leader`` at one blow; whether none is left.

    As their reaper, this process inherits those whose parents have gone.
    """
    import psutil

    if leader is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        children = psutil.Process().children(recursive=True)
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # never wait for one: it may have been forked since
                pass
        if not children:
            return True
        time.sleep(0.001)
    return False


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    if not folder.name.startswith("proctor-"):  # it is removed in the end, with all it holds
        raise SystemExit("started by proctor.sandbox only")
    zygote(socket.socket(fileno=int(sys.argv[1])), folder)
