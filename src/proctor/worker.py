"""The student's side of the wire: runs the cells of a notebook and answers calls into its namespace.

``python -m proctor.worker FD FOLDER`` is the *zygote*: it loads what every submission needs once, then forks one
process for each request on its control socket. It holds no secret, no database and no file of the course. A
forked process runs the learner's code and talks over its own socket until that closes; when it ends,
everything that it started ends with it, and when the zygote ends, its folder goes.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from proctor import confine, kernel
from proctor.belongings import Belongings
from proctor.cells import Cells, Full
from proctor.keeper import keep as keep_order
from proctor.processes import descendants, end_children
from proctor.student import Student


def preload(modules: list[str], hidden: dict[str, str] | None = None) -> Cells:
    """Load what a submission needs, so that a fork starts warm; ``hidden`` modules cannot be imported, and why."""
    import torch

    # Before anything else: with a thread pool running, children of a fork deadlock. And it stays at one.
    torch.set_num_threads(1)
    torch.set_num_threads = torch.set_num_interop_threads = lambda count: None
    import matplotlib
    import numpy  # noqa: F401
    import psutil  # noqa: F401

    matplotlib.use("module://matplotlib_inline.backend_inline")
    matplotlib.interactive(True)  # a figure shows at the end of its cell, as in a notebook
    import jaxtyping  # noqa: F401 - with `proctor.learner`, what the first cell of every notebook imports
    import matplotlib.pyplot
    import matplotlib_inline.backend_inline as inline

    import proctor.learner
    import proctor.peer
    import proctor.values  # noqa: F401

    if hidden:
        from proctor import blocked

        blocked.install(hidden)
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    if tensorflow := sys.modules.get("tensorflow"):
        # A `tf.function` runs in a thread pool, which a fork loses: it would wait for ever. Its operations run as
        # they come.
        tensorflow.config.run_functions_eagerly(True)
    cells = Cells()
    inline.configure_inline_support(cells.shell, "module://matplotlib_inline.backend_inline")
    cells.run("1 + 1")
    gc.collect()
    gc.freeze()  # otherwise the first collection in each fork copies every page
    if kernel.known_machine():
        kernel.collapse_memory()
    return cells


def zygote(control: socket.socket, home: Path) -> None:
    """Fork a process for every request until the control socket closes; end each with all it has started."""
    submission = Submission()
    try:
        order, _ = _take_order(control)
        inner = order["level"] >= 2
        if order["level"]:
            confine.settle(inner=inner)
        (home / "zygote").mkdir(parents=True, exist_ok=True)
        if kernel.known_machine():
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        cells = preload(order["preload"], order["hidden"])
        _answer(control, {"ready": True})
        while True:
            order, descriptors = _take_order(control)
            if order["op"] == "fork":
                try:
                    submission = start(cells, control, descriptors[0], order, inner=inner)
                    _answer(control, {"pid": submission.pid})
                except OSError as error:
                    _answer(control, {"error": str(error)})
                for descriptor in descriptors:
                    os.close(descriptor)
            elif order["op"] == "sweep":
                _answer(control, {"swept": submission.sweep()})
            else:
                _answer(control, {"ended": submission.end()})
    except (EOFError, OSError):
        pass  # the other side has closed, or has died: leave nothing behind
    finally:
        ended = end_children()
        shutil.rmtree(home, ignore_errors=True)
    os._exit(
        0 if ended else 1
    )  # at 1 the other side looks for what is left; torch would take seconds to tidy up


@dataclass(slots=True)
class Submission:
    """The processes of one submission, as the zygote that has started them sees them."""

    pid: int | None = None  # of the first process in its namespaces, or of the one that runs the code
    channel: socket.socket | None = None  # to that first process
    folder: Path | None = None  # that it writes in, where it has no namespaces with folders of their own
    kept: set[int] | None = None
    belongings: Belongings | None = None

    def sweep(self) -> bool:
        """End what the checks of an exercise have started; whether nothing of it is left."""
        if self.pid is None:
            return False
        if self.channel is not None:
            self.channel.settimeout(10.0)
            self.channel.sendall(b"s")
            return self.channel.recv(1) == b"y"
        if self.kept is None or self.belongings is None:
            self.kept = {self.pid, *(child.pid for child in descendants())}
            self.belongings = Belongings([self.folder] if self.folder else [])
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)  # a check may have stopped it
        swept = end_children(keep=self.kept)
        self.belongings.put_back()
        return swept

    def end(self) -> bool:
        """End all of them; whether none is left."""
        pid, channel = self.pid, self.channel
        self.pid = self.channel = self.kept = self.belongings = None
        if channel is None:
            return end_children(pid)
        channel.close()
        if pid is not None:  # the kernel ends a namespace with its first process
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        return True


def start(
    cells: Cells, control: socket.socket, descriptor: int, order: dict[str, Any], *, inner: bool
) -> Submission:
    """Fork the process of a submission, in namespaces of its own where ``inner``."""
    if not inner:
        child = os.fork()
        if child == 0:
            control.close()
            _run_to_the_end(lambda: become_student(cells, descriptor, order, inner=False), descriptor)
        return Submission(child, folder=Path(order["folder"]))
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        control.close()
        ours.close()
        _run_to_the_end(lambda: _found(cells, descriptor, order, theirs), descriptor)
    theirs.close()
    os.waitpid(child, 0)
    told = ours.recv(1 << 10)  # from the process that has left for the new namespaces, and is gone
    if not told.isdigit():
        raise OSError(told.decode() or "no namespaces")
    return Submission(int(told), ours)


def _found(cells: Cells, descriptor: int, order: dict[str, Any], channel: socket.socket) -> None:
    """Make new namespaces, start their first process, and tell its number."""
    try:
        confine.enter()
        first = os.fork()
    except OSError as error:
        channel.sendall(str(error).encode()[:1000])
        return
    if first:
        channel.sendall(str(first).encode())
        return
    confine.furnish(order["disk"])
    student = os.fork()
    if student == 0:
        channel.close()
        become_student(cells, descriptor, order, inner=True)
        return
    keep_channel = os.dup2(channel.fileno(), 3)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.closerange(4, 4096)
    keep_order(socket.socket(fileno=keep_channel), student, order["memory"])


def _run_to_the_end(work: Callable[[], None], wire: int) -> NoReturn:
    """Do what a fork is for, and end; what the kernel refuses is told over the wire, which nobody else uses yet."""
    from proctor.wire import Connection

    status = 1
    try:
        work()
        status = 0
    except Exception as error:
        for descriptor in (wire, 3):  # where it is before and after `become_student`
            with contextlib.suppress(Exception):
                Connection(socket.socket(fileno=descriptor)).send({"error": str(error)}, [])
                break
    finally:
        os._exit(status)


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


def become_student(cells: Cells, descriptor: int, order: dict[str, Any], *, inner: bool) -> None:
    """Turn a fork of the zygote into the process of one submission, within its limits, and serve it."""
    from proctor.wire import Connection

    folder = str(confine.WORK) if inner else order["folder"]
    os.setsid()
    os.chdir(folder)
    os.environ.update(HOME=folder, TMPDIR=folder)
    tempfile.tempdir = None
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    keep = os.dup2(descriptor, 3)
    os.set_inheritable(keep, False)
    os.closerange(4, 4096)
    for name, value in order["rlimits"].items():
        set_limit(name, value, alone=inner)
    if order["fences"]:
        confine.renounce(inner=inner, readable=order.get("readable", []), work=folder)
    sys.stdout = sys.stderr = Full()
    student = Student(cells)
    os.register_at_fork(after_in_child=student.hang_up)  # a child that lives on must not keep the wire open
    student.serve(Connection(socket.socket(fileno=keep)))


def set_limit(name: str, value: int, *, alone: bool = False) -> None:
    """Set a limit of this process by its name in ``resource``; ``RLIMIT_NPROC`` on top of what runs already.

    ``alone``: in a user namespace of its own, where the kernel counts nothing else.
    """
    import psutil

    if name == "RLIMIT_NPROC" and not alone:  # the kernel counts all that the account runs, in threads
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


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    if not folder.name.startswith("proctor-"):  # it is removed in the end, with all it holds
        raise SystemExit("started by proctor.sandbox only")
    zygote(socket.socket(fileno=int(sys.argv[1])), folder)
