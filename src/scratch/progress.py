"""A bar that says how far a training has come: one line that is written over, in a notebook as on a terminal."""

import sys
import time
from typing import Any

WIDTH = 30


def bar(done: int, total: int, note: str = "") -> str:
    """Return a line such as ``██████░░░░ 60/100 steps  loss 1.23``."""
    full = WIDTH * done // max(total, 1)
    return f"{'█' * full}{'░' * (WIDTH - full)} {done}/{total} steps{'  ' if note else ''}{note}"


class Progress:
    """Shows the bar of a training of ``total`` steps: call it with the step and its loss.

    Nothing is shown before the first step, so that a training that was done already stays silent. In a notebook the
    line replaces itself; on a terminal too; where standard error is a file, only the last line is written.
    """

    PAUSE = 0.5  # seconds between two changes of the line
    EVERY = 50  # steps that are always shown, so that a training that stops before its end has said where

    def __init__(self, total: int, notebook: bool | None = None):
        """Show ``total`` steps; ``notebook`` says where, None finds it out."""
        self.total, self.shown, self.place = total, 0.0, None
        self.notebook = _in_notebook() if notebook is None else notebook

    def __call__(self, step: int, loss: float) -> None:
        """Show that so many steps are done."""
        last = step >= self.total
        if not last and step % self.EVERY and time.monotonic() - self.shown < self.PAUSE:
            return
        self.shown = time.monotonic()
        line = bar(step, self.total, f"loss {loss:.2f}")
        if self.notebook:
            self.place = _display(line, self.place)
        elif sys.stderr.isatty():
            print(f"\r{line}", end="\n" if last else "", file=sys.stderr, flush=True)
        elif last:
            print(line, file=sys.stderr)


def _display(line: str, place: Any) -> Any:
    from IPython.display import display

    if place is None:
        return display({"text/plain": line}, raw=True, display_id=True)
    place.update({"text/plain": line}, raw=True)
    return place


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None
