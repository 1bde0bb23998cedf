"""Forks of the process in which the cells have run: each exercise's checks talk to a fresh one.

The trusted side sends ``branch`` and, after it, one end of a new socket; the process forks, and the fork goes on
at that socket with everything that the cells have left. What the checks of one exercise do to it, the next never sees.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from proctor.wire import Connection

# As they were before the learner's code may put others in their place; Windows has no fork, and grades nobody.
_fork, _waitpid = getattr(os, "fork", None), getattr(os, "waitpid", None)


def ask(connection: Connection, deadline: float) -> Connection:
    """The wire to a fresh fork of the process behind ``connection``.

    Raises WireClosed, WireError or WireTimeout where that process does not make one.
    """
    ours, theirs = socket.socketpair()
    fresh = Connection(ours)
    try:
        with theirs:
            connection.send({"op": "branch"}, [], deadline)
            connection.pass_descriptor(theirs.fileno(), deadline)
        connection.receive(deadline)
        fresh.receive(deadline)
    except BaseException:
        fresh.close()
        raise
    return fresh


def make(connection: Connection, earlier: list[int]) -> Connection:
    """Fork: the old wire in this process, the new one in the fork. ``earlier`` holds the forks made before."""
    descriptor = connection.take_descriptor()
    earlier[:] = [pid for pid in earlier if _runs(pid)]
    pid = _fork()
    if pid:
        os.close(descriptor)
        earlier.append(pid)
        connection.send({"pid": pid}, [])
        return connection
    connection.close()
    os.setsid()
    fresh = Connection(socket.socket(fileno=descriptor))
    fresh.send({"ready": True}, [])
    return fresh


def _runs(pid: int) -> bool:
    with suppress(ChildProcessError):
        return _waitpid(pid, os.WNOHANG)[0] == 0
    return False
