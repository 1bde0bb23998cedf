"""What a benchmark has found: tables for the terminal and for the documentation, and scores held against each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table


class Report:
    """Tables for the terminal and for the documentation."""

    def __init__(self) -> None:
        self.console = Console(width=max(110, Console().width), highlight=False)
        self.written: list[str] = []

    def table(
        self, title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]], note: str = ""
    ) -> None:
        """Print a table, and keep it."""
        shown = Table(title=title, title_justify="left")
        for number, column in enumerate(columns):
            shown.add_column(column, justify="right" if number else "left")
        lines = [f"## {title}", "", f"| {' | '.join(columns)} |", "|---" + "|---:" * (len(columns) - 1) + "|"]
        for row in rows:
            shown.add_row(*row)
            lines.append(f"| {' | '.join(row)} |")
        self.console.print(shown)
        if note:
            self.console.print(note, markup=False)
            lines += ["", note]
        self.written += [*lines, ""]


class Scores:
    """What every way of grading gave, held against the first."""

    def __init__(self) -> None:
        self.first: dict[str, float] = {}
        self.checks: dict[str, Any] = {}
        self.odd: list[str] = []
        self.compared = 0

    def hold(self, way: str, scores: dict[str, float], checks: dict[str, Any] | None = None) -> None:
        """Note where scores (and the outcomes of the checks, if they are known) are others than before."""
        for known, found in ((self.first, scores), (self.checks, checks or {})):
            for student, value in found.items():
                self.compared += 1
                if known.setdefault(student, value) != value:
                    self.odd.append(f"{way}: {student} got {value}, not {known[student]}")


def outcomes(verdict: Any) -> list[tuple[str, float, list[str]]]:
    """What a verdict says of each exercise and each check."""
    from proctor.results import from_json

    verdict = from_json(verdict) if isinstance(verdict, str) else verdict
    return [(e.name, e.score, [f"{c.name}: {c.outcome}" for c in e.checks]) for e in verdict.exercises]
