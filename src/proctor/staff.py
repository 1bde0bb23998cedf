"""Processes that work side by side, each with a connection of its own to the one that started them.

Whoever starts them may be killed at any moment: they notice and end, with whatever they have started themselves.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any

GROWTH = 512 << 20  # bytes that a process may grow by before a new one takes its place
PATIENCE = 2.0  # seconds that processes have to end what they started


@dataclass(slots=True, eq=False)
class Worker:
    """A process, the way to it, and the jobs that it holds: the first one is at work."""

    process: Any
    connection: Connection
    jobs: deque[Any] = field(default_factory=deque)
    ready: bool = False
    tired: bool = False  # it has grown too large: it gets no more jobs
    core: int | None = None  # the one that it is held to


def start(main: Callable[[Connection], None], core: int | None = None) -> Worker:
    """Start a process that runs ``main`` with its end of the connection; on one core, where one is named."""
    context = get_context("spawn")  # not forked: torch's threads do not survive that
    ours, theirs = context.Pipe()
    process = context.Process(target=main, args=(theirs,))
    with _held_back(signal.SIGINT):
        process.start()
    theirs.close()
    if core is not None:
        with suppress(OSError):  # the core has been taken away meanwhile
            os.sched_setaffinity(process.pid, {core})
    return Worker(process, ours, core=core)


def next_core(workers: Sequence[Worker], count: int) -> int | None:
    """The core for one more of ``count`` processes; None where they leave others free.

    Each works in turn with the one that it has started, and the two wake each other a tenth cheaper on one core.
    Held to a core only where there is none to spare, they keep out of nobody's way who has started others.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    taken = [worker.core for worker in workers]
    return min(cores, key=taken.count) if count >= len(cores) else None


def end(workers: Sequence[Worker]) -> None:
    """End processes, kindly first: each ends what it has started, and removes what that has left."""
    for worker in workers:
        worker.connection.close()
        worker.process.terminate()
    last = monotonic() + PATIENCE
    for worker in workers:
        worker.process.join(max(0.0, last - monotonic()))
        worker.process.kill()  # then the student's side ends by itself
        worker.process.join()
        worker.process.close()


def serve(
    connection: Connection, answer: Callable[[Any], tuple[str, Any]], leave: Callable[[], None]
) -> None:
    """What a process does: answer one job after another, until it is told to end or nobody is left to answer."""

    def on_end(*_: object) -> None:
        leave()
        os._exit(0)

    # Ctrl-C at a terminal reaches every process; the one that started this one decides what it means.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, on_end)
    jobs: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_take_in, args=(connection, jobs), daemon=True).start()
    connection.send(("ready", None, False))
    small = 0
    while True:
        kind, content = answer(jobs.get())
        size = _size()
        small = small or size  # with everything loaded that the first job has needed
        connection.send((kind, content, size - small > GROWTH))


def _take_in(connection: Connection, jobs: SimpleQueue[Any]) -> None:
    """Take jobs as they come, so that nobody waits to hand one over; end when the other side has gone."""
    try:
        while True:
            jobs.put(connection.recv())
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
        sleep(2 * PATIENCE)
        os._exit(1)  # the main thread hangs where no signal reaches it


@contextmanager
def _held_back(number: int) -> Iterator[None]:
    """Hold a signal back: a process that starts now begins with it blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _size() -> int:
    import psutil

    return psutil.Process().memory_info().rss
