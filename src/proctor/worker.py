"""The student's side of the wire: runs the cells of a notebook and answers calls into its namespace.

``python -m proctor.worker FD`` is the *zygote*: it loads what every submission needs once, then forks one
process for each request on its control socket. It holds no secret, no database and no file of the course. A
forked process runs the learner's code and talks over its own socket until that closes; when it ends,
everything that it started ends with it.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import importlib
import io
import json
import os
import resource
import shutil
import signal
import socket
import sys
from dataclasses import dataclass, field
from typing import Any

MAX_OUTPUT = 64_000  # characters of text that one cell may print
MAX_IMAGE = 1 << 20  # bytes of one figure
MAX_DISPLAYS = 10  # figures and values that one cell may show

PR_SET_CHILD_SUBREAPER = 36


class Full(io.StringIO):
    """A text buffer that stops taking at a limit, so that endless printing fills no memory."""

    def __init__(self, limit: int = MAX_OUTPUT) -> None:
        super().__init__()
        self.left, self.cut = limit, False

    def write(self, text: str) -> int:
        kept = text[: self.left]
        self.left -= len(kept)
        self.cut = self.cut or len(kept) < len(text)
        super().write(kept)
        return len(text)


class Cells:
    """The learner's namespace: an IPython shell without history, screen or kernel."""

    def __init__(self) -> None:
        from IPython.core.interactiveshell import InteractiveShell

        self.shell = InteractiveShell.instance()
        self.shell.history_manager.enabled = False
        self.shell.showtraceback = lambda *_, **__: None  # errors travel as data, not as printed text
        self.namespace = self.shell.user_ns

    def run(self, source: str) -> dict[str, Any]:
        """Run one cell. Returns its outputs as plain data and the error that ended it, if one did."""
        from IPython.core.displayhook import CapturingDisplayHook
        from IPython.core.displaypub import CapturingDisplayPublisher

        from proctor.peer import describe

        out, err = Full(), Full()
        publisher = CapturingDisplayPublisher()
        shown: list[Any] = publisher.outputs
        self.shell.display_pub = publisher
        self.shell.display_trap.hook = CapturingDisplayHook(self.shell, shown)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            result = self.shell.run_cell(source, store_history=False)
        error = result.error_before_exec or result.error_in_exec
        outputs = [
            {"kind": name, "text": stream.getvalue() + ("\n… the rest was cut" if stream.cut else "")}
            for name, stream in (("stdout", out), ("stderr", err))
            if stream.getvalue()
        ]
        outputs += [self._display(output) for output in shown[:MAX_DISPLAYS]]
        trouble = describe(error) if error is not None else None
        return {
            "outputs": outputs,
            "error": None
            if trouble is None
            else [trouble.type, trouble.text[:4000], list(trouble.rows[-5:])],
        }

    def _display(self, output: Any) -> dict[str, str]:
        # Text and pictures only: a learner's HTML never reaches a teacher's screen.
        data = output.get("data", {}) if isinstance(output, dict) else {}
        png = data.get("image/png")
        if isinstance(png, bytes):
            png = base64.b64encode(png).decode()
        png = png if isinstance(png, str) and len(png) <= 2 * MAX_IMAGE else ""
        return {"kind": "display", "text": str(data.get("text/plain", ""))[:MAX_OUTPUT], "png": png}


@dataclass(slots=True)
class Student:
    """Answers the trusted side's requests about the learner's namespace."""

    cells: Cells
    handles: dict[int, Any] = field(default_factory=dict)
    peer: Any = None
    _serial: int = 0

    def run(self, content: dict[str, Any]) -> Any:
        """Run one cell of the notebook."""
        return self.cells.run(content["source"])

    def get(self, content: dict[str, Any]) -> Any:
        """The value of a name that the notebook has defined."""
        name = content["name"]
        if name not in self.cells.namespace:
            raise NameError(name)
        return self.cells.namespace[name]

    def has(self, content: dict[str, Any]) -> bool:
        """Whether the notebook has defined a name."""
        return content["name"] in self.cells.namespace

    def invoke(self, content: dict[str, Any]) -> Any:
        """Call a method of an object, ``__call__`` for the object itself."""
        target, method = content["target"], content["method"]
        function = target if method == "__call__" else getattr(target, method)
        try:
            return function(*content["args"], **content["kwargs"])
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            raise RuntimeError(f"{type(error).__name__} was raised") from error

    def attribute(self, content: dict[str, Any]) -> Any:
        """An attribute of an object."""
        return getattr(content["target"], content["name"])

    def assign(self, content: dict[str, Any]) -> None:
        """Set an attribute of an object."""
        setattr(content["target"], content["name"], content["value"])

    def seed(self, content: dict[str, Any]) -> None:
        """Seed every generator that a layer may draw from."""
        import random

        import numpy as np
        import torch

        random.seed(content["seed"])
        np.random.seed(content["seed"] % 2**32)  # noqa: NPY002 - the learner's code may use the old one
        torch.manual_seed(content["seed"])

    def export(self, value: Any) -> dict[str, Any]:
        """An object that is no plain data stays here, behind a handle."""
        self._serial += 1
        self.handles[self._serial] = value
        name = getattr(value, "__name__", "")
        return {"handle": [self._serial, type(value).__name__, name if isinstance(name, str) else ""]}

    def resolve(self, tag: str, content: Any) -> Any:
        """What a handle or a callback of the other side stands for."""
        if tag == "handle":
            return self.handles[content]
        if tag == "callback":
            return self._callback(content)
        from proctor.wire import WireError

        raise WireError(f"unknown tag {tag!r}")

    def _callback(self, number: int) -> Any:
        def callback(*args: Any, **kwargs: Any) -> Any:
            content = {"target": number, "method": "__call__", "args": list(args), "kwargs": kwargs}
            return self.peer.request("invoke", content)

        return callback

    def serve(self, connection: Any) -> None:
        """Answer requests until the other side has gone."""
        from proctor.peer import Peer
        from proctor.wire import WireClosed, WireError

        names = ("run", "get", "has", "invoke", "attribute", "assign", "seed")
        answer = {name: getattr(self, name) for name in names}
        self.peer = Peer(connection, answer, self.export, self.resolve)
        answer["vjp"] = self.peer.vjp
        while True:
            try:
                header, buffers = connection.receive()
                self.peer.reply(header, buffers)
            except WireClosed:
                return
            except WireError:
                return


def preload(modules: list[str]) -> Cells:
    """Load what a submission needs, so that a fork starts warm."""
    import torch

    torch.set_num_threads(1)  # before anything else: with a thread pool running, children of a fork deadlock
    import matplotlib
    import numpy  # noqa: F401

    matplotlib.use("module://matplotlib_inline.backend_inline")
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


def zygote(control: socket.socket) -> None:
    """Fork a process for every request until the control socket closes; end each with all it has started."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1)
    order = json.loads(control.recv(1 << 16))
    cells = preload(order["preload"])
    control.send(b'{"ready": true}')
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1 << 16, 4)
        if not message:  # the other side has closed, or has died: leave nothing behind
            end_children()
            shutil.rmtree(os.environ["HOME"], ignore_errors=True)
            return
        order = json.loads(message)
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
            answer = {"pid": child}
        else:
            end_children()
            answer = {"ended": True}
        control.send(json.dumps(answer).encode())


def become_student(cells: Cells, descriptor: int, order: dict[str, Any]) -> None:
    """Turn a fork of the zygote into the process of one submission, within its limits, and serve it."""
    from proctor.wire import Connection

    os.setsid()
    os.chdir(order["folder"])
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    keep = os.dup2(descriptor, 3)
    os.closerange(4, 4096)
    for name, value in order["rlimits"].items():
        limit = getattr(resource, name)
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    sys.stdout = sys.stderr = Full()
    Student(cells).serve(Connection(socket.socket(fileno=keep)))


def end_children() -> None:
    """Kill every descendant. As their reaper, this process inherits those whose parents have gone."""
    import psutil

    for _ in range(1000):
        children = psutil.Process().children(recursive=True)
        if not children:
            break
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0)[0]:
                pass


if __name__ == "__main__":
    zygote(socket.socket(fileno=int(sys.argv[1])))
