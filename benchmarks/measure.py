"""Commands and calls, measured: time, memory of the whole family of processes, and where the time goes."""

from __future__ import annotations

import importlib
import os
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import psutil

BIN = Path(sys.executable).parent
LOOK = 0.2  # seconds between two looks at the memory


@dataclass
class Measured:
    """What a command has cost: wall-clock and processor seconds, and the most memory that it held, in bytes."""

    wall: float
    cpu: float
    peak: int


def run(command: list[str], root: Path) -> Measured:
    """Run a command of the course in a folder, as a user does. Raises SystemExit where it fails."""
    home = root / ".home"
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(home)}
    log = home / "log"
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with log.open("w") as out:
        process = subprocess.Popen(
            [BIN / command[0], *command[1:]], cwd=root, env=environment, stdout=out, stderr=out
        )
        peaks = [0]
        watching = threading.Thread(target=_watch, args=(process, peaks))
        watching.start()
        code = process.wait()
        wall = time.perf_counter() - start
    watching.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise SystemExit(f"`{' '.join(command)}` ended with {code}:\n{log.read_text()[-3000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(wall, cpu, max(peaks))


def _watch(process: subprocess.Popen[bytes], peaks: list[int]) -> None:
    while process.poll() is None:
        with suppress(psutil.Error):
            parent = psutil.Process(process.pid)
            peaks.append(sum(memory_of(each) for each in (parent, *parent.children(recursive=True))))
        time.sleep(LOOK)


def memory_of(process: psutil.Process) -> int:
    """What a process holds; pages that it shares are shared out among those that have them."""
    with suppress(psutil.NoSuchProcess):
        with suppress(psutil.AccessDenied):
            return process.memory_full_info().pss
        return process.memory_info().rss
    return 0


class Stopwatch:
    """Shares the time of calls out among labels; what a call inside another takes is that one's own."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._labels = ["rest"]
        self._since = time.perf_counter()

    @contextmanager
    def on(self, label: str) -> Iterator[None]:
        """Charge what follows to a label."""
        self._charge()
        self._labels.append(label)
        try:
            yield
        finally:
            self._charge()
            self._labels.pop()

    def _charge(self) -> None:
        now = time.perf_counter()
        self.spent[self._labels[-1]] += now - self._since
        self._since = now

    def reset(self) -> None:
        """Begin anew."""
        self._charge()
        self.spent.clear()

    def watch(self, module: str, name: str, label: str, *, only_in: str = "") -> None:
        """Charge every call of a method to a label (where ``only_in`` is being charged, if that is given)."""
        owner: Any = importlib.import_module(module)
        *outer, last = name.split(".")
        for part in outer:
            owner = getattr(owner, part)
        setattr(owner, last, self._timed(getattr(owner, last), label, only_in))

    def _timed(self, call: Callable[..., Any], label: str, only_in: str) -> Callable[..., Any]:
        @wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if only_in and self._labels[-1] != only_in:
                return call(*args, **kwargs)
            with self.on(label):
                return call(*args, **kwargs)

        return timed

    def watch_context(self, module: str, name: str, label: str) -> None:
        """The same for a method that is a context manager: its beginning and its end, not what lies between."""
        owner = getattr(importlib.import_module(module), name.split(".")[0])
        entered = getattr(owner, name.split(".")[1])

        @contextmanager
        def timed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            manager = entered(*args, **kwargs)
            with self.on(label):
                value = manager.__enter__()
            kind = error = trace = None
            try:
                yield value
            except BaseException as raised:
                kind, error, trace = type(raised), raised, raised.__traceback__
                raise
            finally:
                with self.on(label):
                    manager.__exit__(kind, error, trace)

        setattr(owner, name.split(".")[1], timed)
