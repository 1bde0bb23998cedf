"""The first process in a submission's namespaces: it starts the one that runs the code, and keeps order after it.

As the first process it cannot be killed from inside, inherits every orphan, and takes all others along when it ends.
Between two exercises it *sweeps*: what the checks of one have started is gone, and the files are as the cells left
them, before those of the next begin; what the notebook's own cells had started stays.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from proctor import confine
from proctor.belongings import Belongings

_PAUSE = 0.25  # seconds between two looks at the memory that is taken
_PASSES = 50  # of killing, before a sweep gives up


def keep(channel: socket.socket, keeps: int, memory: int) -> None:
    """Answer orders until the channel closes or the processes here take more than ``memory`` bytes together.

    ``keeps`` is the process that runs the cells; it is never swept away.
    """
    kept: set[int] | None = None
    belongings: Belongings | None = None
    own = _pages("self")
    while True:
        ready, _, _ = select.select([channel], [], [], _PAUSE)
        _reap()
        if not ready:
            if _memory(own) > memory:
                return
            continue
        if not channel.recv(1):
            return
        if (
            kept is None or belongings is None
        ):  # the first sweep, right after the cells: all here is the notebook's
            kept, belongings = {keeps, *_processes()}, Belongings(confine.folders())
            swept = True
        else:
            with suppress(ProcessLookupError):
                os.kill(keeps, signal.SIGCONT)  # a check may have stopped it
            swept = _sweep(kept)
            belongings.put_back()
        channel.sendall(b"y" if swept else b"n")


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _processes() -> list[int]:
    """The numbers of the processes here that still run, but for this one."""
    try:
        found = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names are all it takes
    except OSError:
        found = []
    if not found:  # a container may not let this namespace have a /proc
        return _counted()
    return [pid for pid in found if pid != 1 and _runs(pid)]


def _runs(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has waited for yet has."""
    try:
        stat = Path("/proc", str(pid), "stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[:1] not in ([b"Z"], [b"X"])


def _counted() -> list[int]:
    # They are counted up, and one more tells how far.
    newest = os.fork()
    if not newest:
        os._exit(0)
    os.waitpid(newest, 0)
    found = []
    for pid in range(2, newest):
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            found.append(pid)
    return found


def _sweep(kept: set[int]) -> bool:
    """Kill every process that is not kept; whether none is left."""
    swept: list[int] = []
    for turn in range(_PASSES):
        before, swept = swept, [pid for pid in _processes() if pid not in kept]
        # Without a /proc nobody sees that one has ended which is not waited for: those that stay the same have.
        if not swept or (swept == before and turn > 3 and not Path("/proc/self").exists()):
            return True
        for pid in swept:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap()
        time.sleep(0.001 * turn)  # one that is killed may need a moment to end
    return False


def _memory(own: int) -> int:
    """Bytes that all processes here take beyond the ``own`` pages of each from the warm process; 0 without a /proc."""
    taken: list[int] = []
    with suppress(OSError, ValueError):
        for name in os.listdir("/proc"):  # noqa: PTH208 - names are all it takes
            if name.isdigit():
                with suppress(OSError):
                    taken.append(max(0, _pages(name) - own))
    return sum(taken) * os.sysconf("SC_PAGE_SIZE")


def _pages(name: str) -> int:
    """Resident pages of a process, but for what is mapped from files; 0 where /proc is not at hand."""
    with suppress(OSError, ValueError, IndexError):
        sizes = Path("/proc", name, "statm").read_text(encoding="utf-8").split()
        return int(sizes[1]) - int(sizes[2])
    return 0
