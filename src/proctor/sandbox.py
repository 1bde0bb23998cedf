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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from proctor.wire import Connection, WireClosed, WireError, WireTimeout

if TYPE_CHECKING:
    import psutil


@dataclass(frozen=True, slots=True)
class Limits:
    """What one submission may use. Times are wall-clock seconds, sizes bytes."""

    start_seconds: float = 120.0  # for the first, cold start of the student's side
    fork_seconds: float = 20.0  # for starting and for ending the process of one submission
    cell_seconds: float = 60.0  # for one cell of the notebook
    cells_seconds: float = 120.0  # for all cells together
    call_seconds: float = 10.0  # for one call that a check makes
    total_seconds: float = 300.0  # for the submission, everything included
    memory: int = 4 << 30  # of address space
    file: int = 256 << 20  # of one file that is written
    files: int = 256  # open at a time
    processes: int = 256  # beside those of the account that run already; the kernel does not hold root to it

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
        self._home = Path(tempfile.mkdtemp(prefix="proctor-"))
        (self._home / "zygote").mkdir()
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-I", "-m", "proctor.worker", str(theirs.fileno()), str(self._home)]
        with theirs:
            self._control = ours
            self._process = subprocess.Popen(
                command,
                pass_fds=(theirs.fileno(),),
                env=_bare_environment(self._home / "zygote"),
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for this side, which then ends the other
            )
        self._order({"preload": list(self.preload)}, seconds=self.limits.start_seconds)
        self._warm = True

    @contextmanager
    def submission(self) -> Iterator[Connection]:
        """Fork a process for one submission; yield the wire to it; end it with everything it started.

        Raises SandboxError where the machine does not let it start.
        """
        self.start()
        folder = Path(tempfile.mkdtemp(prefix="work-", dir=self._home))
        ours, theirs = socket.socketpair()
        connection = Connection(ours)
        try:
            with theirs:
                order = {"op": "fork", "folder": str(folder), "rlimits": self.limits.rlimits()}
                self._order(order, theirs.fileno())
            try:  # it says so itself, before the first line of the submission has run
                connection.receive(monotonic() + self.limits.fork_seconds)
            except (WireClosed, WireError, WireTimeout) as error:
                raise SandboxError("a process for the submission could not be started") from error
            yield connection
        finally:
            connection.close()
            self._end_submission()

    def close(self) -> None:
        """End the warm process and remove its folder."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None and self._home is not None:
            _end(self._process, self._home, 10.0 if self._warm else 0.0)
        self._process, self._warm = None, False
        if self._home is not None:
            _remove(self._home)
            self._home = None

    def _end_submission(self) -> None:
        if self._control is None or self._home is None:
            return
        try:
            if self._order({"op": "end"}).get("ended") is not True:
                self.close()
                return
        except SandboxError:
            return  # the submission has killed the warm process: the next one gets a new one
        for path in self._home.iterdir():  # its own folder, and whatever it has written beside that
            if path.name != "zygote":
                _remove(path)

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


def _end(process: subprocess.Popen[bytes], home: Path, patience: float) -> None:
    """End the warm process, whose control socket is closed, and whatever else still runs in its folder."""
    import psutil

    killed = process.poll() is not None
    try:
        process.wait(patience)  # it ends its children first, then itself
    except subprocess.TimeoutExpired:
        killed = True
    if not killed and process.returncode == 0:
        return
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.kill()
    process.wait()
    # Orphans of a warm process that was killed are nobody's children: known by their folder, where they did not leave.
    for _ in range(100):
        for other in family:
            with suppress(psutil.Error):
                other.kill()
        family = [other for other in psutil.process_iter() if _lives_in(other, home)]
        if not family:
            return


def _lives_in(process: psutil.Process, home: Path) -> bool:
    import psutil

    if process.pid == os.getpid():
        return False
    with suppress(psutil.Error, OSError):
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if Path(process.cwd()).is_relative_to(home):
            return True
    with suppress(psutil.Error, OSError):
        return Path(process.environ().get("HOME", "/")).is_relative_to(home)
    return False


def _remove(path: Path) -> None:
    """Remove a file or a folder, also one whose owner has locked himself out."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    with suppress(OSError):
        path.chmod(0o700)
    for folder, names, _ in os.walk(path):
        for inner in (Path(folder, name) for name in names):
            if not inner.is_symlink():
                with suppress(OSError):
                    inner.chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)


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
