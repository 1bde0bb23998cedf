"""Starts, limits and ends the processes in which student code runs.

A warm process, the *zygote*, has loaded what every submission needs and holds nothing else: no secret, no database,
no file of the course. It stands behind the outer wall of the level that this machine offers (``walls.py``) and forks
the process of each submission, which puts up the inner wall itself (``confine.py``). When a submission ends,
everything that it has started ends with it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from proctor import branch, confine, walls
from proctor.processes import end_process, remove
from proctor.wire import Connection, WireClosed, WireError, WireTimeout

_INSIDE = "/learner/proctor-home"  # in memory, behind the wall


@dataclass(frozen=True, slots=True)
class Limits:
    """What one submission may use. Times are wall-clock seconds, sizes bytes."""

    start_seconds: float = 120.0  # for the first, cold start of the student's side
    fork_seconds: float = 20.0  # for starting and for ending the process of one submission
    cell_seconds: float = 60.0  # for one cell of the notebook
    cells_seconds: float = 120.0  # for all cells together
    call_seconds: float = 10.0  # for one call that a check makes
    total_seconds: float = 300.0  # for the submission, everything included
    memory: int = 4 << 30  # of address space, for one process; twice that for all together
    file: int = 256 << 20  # of one file that is written, and of all together where they lie in memory
    files: int = 256  # open at a time
    processes: int = 128  # at a time, threads counted like processes

    def rlimits(self) -> dict[str, int]:
        """The limits that the kernel keeps, by the names of the ``resource`` module."""
        return {
            "RLIMIT_AS": self.memory,
            "RLIMIT_CPU": int(self.total_seconds) + 1,
            "RLIMIT_FSIZE": self.file,
            "RLIMIT_NOFILE": self.files,
            "RLIMIT_NPROC": self.processes,
            "RLIMIT_CORE": 0,
        }


class SandboxError(RuntimeError):
    """The student's side could not be started: a fault of the machine, not of the submission."""


@dataclass(slots=True)
class Submission:
    """The ways to one submission in the sandbox: to the process that runs its cells, and to fresh forks of that."""

    sandbox: Sandbox
    connection: Connection
    _branch: Connection | None = None

    def branch(self) -> Connection:
        """The wire to a fresh fork of the process, after everything that an earlier fork has left is ended.

        Raises WireClosed, WireError or WireTimeout where that process does not make one.
        """
        if self._branch is not None:
            self._branch.close()
            self._branch = None
        if not self.sandbox.sweep():
            raise WireClosed
        self._branch = branch.ask(self.connection, monotonic() + self.sandbox.limits.fork_seconds)
        return self._branch

    def close(self) -> None:
        """Close every way."""
        for connection in (self._branch, self.connection):
            if connection is not None:
                connection.close()


class Sandbox:
    """A warm process on the student's side that forks one process for each submission.

    One submission at a time; several sandboxes run side by side. Use as a context manager.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        preload: tuple[str, ...] = (),
        *,
        level: walls.Level | None = None,
        hidden: Mapping[str, str] | None = None,
    ) -> None:
        """Nothing is started yet; ``level`` is the best that this machine offers, unless one is named.

        ``hidden`` holds the modules that a submission cannot import, each with the sentence that says why.
        """
        self.limits = limits or Limits()
        self.preload = preload
        self.level = walls.best() if level is None else level
        self.hidden = dict(hidden or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._home: Path | None = None
        self._warm = False

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the warm process, if it does not run. Raises SandboxError where that fails."""
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        inner = self.level.inner
        if not inner:  # otherwise its folders lie in memory, behind the wall
            self._home = Path(tempfile.mkdtemp(prefix="proctor-"))
            if os.geteuid() == 0 and self.level.isolated:
                os.chown(self._home, confine.NOBODY, confine.NOBODY)
        home = self._home or Path(_INSIDE)
        ours, theirs = socket.socketpair()
        command = [*walls.command(self.level, self.hidden), sys.executable, "-I", "-m", "proctor.worker"]
        with theirs:
            self._control = ours
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(home)],
                pass_fds=(theirs.fileno(),),
                env=_bare_environment(home / "zygote"),
                cwd=self._home or "/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for this side, which then ends the other
            )
        order = {"level": self.level, "preload": list(self.preload), "hidden": self.hidden}
        self._order(order, seconds=self.limits.start_seconds)
        self._warm = True

    @contextmanager
    def submission(self) -> Iterator[Submission]:
        """Fork a process for one submission; yield the ways to it; end it with everything it started.

        Raises SandboxError where the machine does not let it start.
        """
        self.start()
        ours, theirs = socket.socketpair()
        connection = Connection(ours)
        opened = Submission(self, connection)
        try:
            with theirs:
                told = self._order(self._fork(), theirs.fileno())
            try:  # it says so itself, before the first line of the submission has run
                if "error" not in told:
                    told, _ = connection.receive(monotonic() + self.limits.fork_seconds)
            except (WireClosed, WireError, WireTimeout) as error:
                raise SandboxError("a process for the submission could not be started") from error
            if "error" in told:
                raise SandboxError(f"a process for the submission could not be started: {told['error']}")
            yield opened
        finally:
            opened.close()
            self._end_submission()

    def _fork(self) -> dict[str, object]:
        order: dict[str, object] = {"op": "fork", "rlimits": self.limits.rlimits()}
        order |= {"fences": self.level.isolated, "disk": self.limits.file, "memory": 2 * self.limits.memory}
        if self._home is not None:
            folder = tempfile.mkdtemp(prefix="work-", dir=self._home)
            if os.geteuid() == 0 and self.level.isolated:
                os.chown(folder, confine.NOBODY, confine.NOBODY)
            shown = [str(path) for what, path in walls.readable(self.hidden) if what == "="]
            order |= {"folder": folder, "readable": [*shown, str(self._home / "zygote")]}
        return order

    def sweep(self) -> bool:
        """End what the checks of an exercise have left behind; whether nothing of it runs any more."""
        try:
            return self._order({"op": "sweep"}).get("swept") is True
        except SandboxError:
            return False

    def close(self) -> None:
        """End the warm process and remove its folder."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            end_process(self._process, self._home, 10.0 if self._warm else 0.0)
        self._process, self._warm = None, False
        if self._home is not None:
            remove(self._home)
            self._home = None

    def _end_submission(self) -> None:
        if self._control is None:
            return
        try:
            if self._order({"op": "end"}).get("ended") is not True:
                self.close()
                return
        except SandboxError:
            return  # the submission has killed the warm process: the next one gets a new one
        for path in (
            self._home.iterdir() if self._home is not None else ()
        ):  # its own folder, and whatever it has written beside that
            if path.name != "zygote":
                remove(path)

    def _order(
        self, order: dict[str, object], *descriptors: int, seconds: float | None = None
    ) -> dict[str, object]:
        # Whatever goes wrong ends the warm process: an answer that comes late would be taken for that to the next.
        if self._control is None:
            raise SandboxError("the student's side is not running")
        answer = b""
        try:
            self._control.settimeout(seconds or self.limits.fork_seconds)
            message = json.dumps(order).encode() + b"\n"
            if descriptors:
                socket.send_fds(self._control, [message], list(descriptors))
            else:
                self._control.sendall(message)
            while not answer.endswith(b"\n"):
                part = self._control.recv(1 << 16)
                if not part:
                    raise SandboxError(
                        "the student's side has ended; run `proctor doctor` to see what this machine offers"
                    )
                answer += part
        except OSError as error:
            self._warm = False  # so do not wait for it either
            self.close()
            raise SandboxError(f"the student's side does not answer: {error}") from error
        except BaseException:
            self.close()
            raise
        return json.loads(answer)


# No threads, which a fork would lose; no notices; sums in one order.
_TENSORFLOW = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
}


def _bare_environment(home: Path) -> dict[str, str]:
    """Nothing of the teacher's environment but its language."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ") if name in os.environ}
    return {
        **kept,
        "PATH": os.pathsep.join((str(Path(sys.prefix, "bin")), "/usr/local/bin", "/usr/bin", "/bin")),
        "USER": "learner",
        "HOME": str(home),
        "TMPDIR": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PROCTOR_GRADING": "1",
        # Keras asks once, at its first import; its home, where it would write its settings, is nowhere.
        "KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "torch"),
        "KERAS_HOME": os.devnull,
        **_TENSORFLOW,
    }
