"""Says how far a long piece of work has come: a bar on a terminal, plain lines everywhere else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn


class Reporter:
    """Writes to a console what is being done, and what is done."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """Write a line."""
        self.console.print(line, markup=False)

    @contextmanager
    def work(self, what: str, size: int = 0) -> Iterator["Meter"]:
        """Show a piece of work while it is done, and leave one line of it; ``size`` is its bytes, where it has any."""
        meter, began = Meter(), time.monotonic()
        if self.console.is_terminal:
            columns = (BarColumn(24), DownloadColumn(), TransferSpeedColumn()) if size else ()
            with Progress(
                TextColumn("data: {task.description}", markup=False),
                *columns,
                console=self.console,
                transient=True,
            ) as bar:
                task = bar.add_task(what, total=size or None)
                meter.show = lambda at: bar.update(task, completed=min(at, size))
                yield meter
        else:
            yield meter
        self.say(f"data: {what}{meter.result}, {time.monotonic() - began:.0f} s")


class Meter:
    """Is told how many bytes of a piece of work are done, and what came of it."""

    result = ""

    def show(self, at: int) -> None:
        """Show that so many bytes are done; where there is no bar, nothing is shown."""


def megabytes(size: int) -> str:
    """Return a size as people say it: 0.4 MB, 83 MB."""
    return f"{size / 1e6:.1f} MB" if size < 10e6 else f"{size / 1e6:.0f} MB"
