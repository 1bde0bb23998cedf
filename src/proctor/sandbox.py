"""Starts, limits and ends the processes in which student code runs.

This is the plain level: a process of its own with resource limits, an empty working folder and a bare
environment, killed with all its children. It keeps what a submission computes away from what scores it. Levels
that keep it away from the machine as well are chosen in ``Sandbox.start``.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proctor.wire import Connection


@dataclass(frozen=True, slots=True)
class Limits:
    """What one submission may use. Times are wall-clock seconds, sizes bytes."""

    start_seconds: float = 120.0  # for the first, cold start of the student's side
    cell_seconds: float = 60.0  # for one cell of the notebook
    cells_seconds: float = 120.0  # for all cells together
    call_seconds: float = 10.0  # for one call that a check makes
    total_seconds: float = 300.0  # for the submission, everything included
    memory: int = 4 << 30  # of address space
    file: int = 256 << 20  # of one file that is written
    files: int = 256  # open at a time

    def rlimits(self) -> dict[str, int]:
        """The limits that the kernel keeps, by the names of the ``resource`` module."""
        return {
            "RLIMIT_AS": self.memory,
            "RLIMIT_CPU": int(self.total_seconds) + 1,
            "RLIMIT_FSIZE": self.file,
            "RLIMIT_NOFILE": self.files,
            "RLIMIT_CORE": 0,
        }


class SandboxError(RuntimeError):
    """The student's side could not be started: a fault of the machine, not of the submission."""


class Sandbox:
    """A warm process on the student's side that forks one process for each submission.

    One submission at a time; several sandboxes run side by side. Use as a context manager.
    """

    def __init__(self, limits: Limits | None = None, preload: tuple[str, ...] = ()) -> None:
        self.limits = limits or Limits()
        self.preload = preload
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._home: Path | None = None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the warm process, if it does not run. Raises SandboxError where that fails."""
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._home = Path(tempfile.mkdtemp(prefix="proctor-"))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-I", "-m", "proctor.worker", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(),),
            env=_bare_environment(self._home),
            cwd=self._home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        self._control = ours
        ours.settimeout(self.limits.start_seconds)
        self._order({"preload": list(self.preload)})

    @contextmanager
    def submission(self) -> Iterator[Connection]:
        """Fork a process for one submission; yield the wire to it; end it with everything it started."""
        self.start()
        assert self._home is not None
        folder = Path(tempfile.mkdtemp(prefix="work-", dir=self._home))
        ours, theirs = socket.socketpair()
        order = {"op": "fork", "folder": str(folder), "rlimits": self.limits.rlimits()}
        connection = Connection(ours)
        try:
            with theirs:
                self._order(order, theirs.fileno())
            yield connection
        finally:
            connection.close()
            try:
                self._order({"op": "end"})
            except SandboxError:
                self.close()  # the submission has killed the warm process: the next one gets a new one
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """End the warm process and remove its folder."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def _order(self, order: dict[str, object], *descriptors: int) -> dict[str, object]:
        if self._control is None:
            raise SandboxError("the student's side is not running")
        try:
            message = json.dumps(order).encode()
            if descriptors:
                socket.send_fds(self._control, [message], list(descriptors))
            else:
                self._control.send(message)
            answer = self._control.recv(1 << 16)
        except OSError as error:
            raise SandboxError(f"the student's side does not answer: {error}") from error
        if not answer:
            raise SandboxError(
                "the student's side has ended; run `proctor doctor` to see what this machine offers"
            )
        return json.loads(answer)


def _end(process: subprocess.Popen[bytes]) -> None:
    import psutil

    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.kill()
    for child in family:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def _bare_environment(home: Path) -> dict[str, str]:
    """Nothing of the teacher's environment but what finds programs and letters."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
    return {
        **kept,
        "HOME": str(home),
        "TMPDIR": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "OMP_NUM_THREADS": "1",
        "PROCTOR_GRADING": "1",
    }
