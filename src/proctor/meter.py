"""How far a long run has come: a bar on a terminal, a plain line now and then elsewhere, both on stderr."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

EVERY = 10.0  # seconds between plain lines


class Meter:
    """Counts what is done of ``total``. Use as a context manager."""

    def __init__(self, what: str, total: int, console: Console) -> None:
        self.what, self.total, self.done, self.worked = what, total, 0, 0
        self._console = Console(stderr=True, quiet=console.quiet, highlight=False)
        self._begun = self._told = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> Meter:
        if self._console.is_terminal and not self._console.quiet:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Pace(self))
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.add_task(self.what, total=self.total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, *, worked: bool = True) -> None:
        """One more is done; ``worked`` says that it took the time that the others will take."""
        self.done += 1
        self.worked += worked
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])
        elif time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            line = f"{self.what}: {self.done} of {self.total}, {self.pace()}"
            self._console.print(line, markup=False, soft_wrap=True)

    def pace(self) -> str:
        """Submissions a second, and the time that is left."""
        rate = self.worked / max(1e-9, time.monotonic() - self._begun)
        if not self.worked:
            return ""
        left = round((self.total - self.done) / rate)
        minutes, seconds = divmod(left, 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        return f"{rate:.1f}/s, {clock} left"


class _Pace(ProgressColumn):
    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def render(self, task: Task) -> Text:
        """What the meter says."""
        return Text(self._meter.pace())
