"""A class at a glance, for a terminal: who has how many points, and the reason of each loss in a line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from proctor.report import MARKS, one_line, parts, points
from proctor.results import CheckResult, Outcome, Verdict
from proctor.shortcuts import ALREADY, kind_of


def _over_lines(name: str, width: int = 10) -> str:
    """A long name over several lines, broken after an underscore or before a capital."""
    pieces = re.sub(r"(_+|(?<=[a-z])(?=[A-Z]))", r"\1 ", name)
    return textwrap.fill(pieces, width).replace(" ", "")


def _loss(check: CheckResult, width: int) -> str:
    """Why points were lost, in a line: what came back or was raised, and the check where there is room for both."""
    if check.outcome is Outcome.NOT_ATTEMPTED:
        return "not written yet"
    broke = "grader error in: " if check.outcome is Outcome.GRADER_ERROR else ""
    told = {
        label: text for label, text in reversed(list(parts(check.message))) if label not in ("Called", "Ask")
    }
    gist = one_line(told.get("") or told.get("Got") or told.get("Raised") or "; ".join(told.values()), 300)
    title = broke + one_line(check.title, 200)
    whole = f"{title} — {gist}" if gist else title
    return textwrap.shorten(
        gist if gist and len(whole) > width and not broke else whole, width, placeholder="…"
    )


def for_a_person(student: str, verdict: Verdict) -> Iterator[tuple[str, str]]:
    """What a person should look at, as (what, sentence): broken checks, mended notebooks, suspected shortcuts."""
    if verdict.needs_person:
        broken = [e.name for e in verdict.exercises if e.outcome is Outcome.GRADER_ERROR]
        problem = verdict.problem or f"a check broke in {', '.join(broken)}"
        yield "a person must look", problem
    for note in verdict.notes:
        yield kind_of(note), note
    for exercise in verdict.exercises:
        told = [c.message for c in exercise.checks if c.outcome is Outcome.FAILED and ALREADY in c.message]
        if told:
            yield "suspected shortcut", f"{exercise.name}: {told[0]}"


def verdict_table(
    verdicts: Mapping[str, Verdict], console: Console, remarks: Sequence[tuple[str, str]] = ()
) -> None:
    """The class as a table; below it who needs a person, and the reason of each loss in a line.

    ``remarks`` are further sentences for the teacher, as (student, sentence).
    """
    names = list(dict.fromkeys(e.name for verdict in verdicts.values() for e in verdict.exercises))
    narrow = console.width < 22 + 13 * len(names)  # then columns are numbered, and named below
    student = Column("Student", overflow="fold", min_width=8)
    table = Table(student, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, name in enumerate(names, 1):
        head = str(number) if narrow else _over_lines(one_line(name, 60))
        table.add_column(Text(head), justify="right", no_wrap=True)
    table.add_column("Total", justify="right", no_wrap=True)
    persons, losses = Table.grid(), Table.grid()
    losses.add_column(overflow="ellipsis", no_wrap=True)
    for student, verdict in verdicts.items():
        who, row = one_line(student, 24), [Text(one_line(student, 40))]
        results = {exercise.name: exercise for exercise in verdict.exercises}
        for name in names:
            if not (result := results.get(name)):
                row.append(Text("—"))
                continue
            symbol, _, _, style = MARKS[result.outcome]
            row.append(Text(f"{symbol} {points(result.score)}/{points(result.max_score)}", style))
            if (loss := result.first_loss) and not verdict.problem:  # else it is told once, above
                head = f"{who} · {one_line(name, 40)} · −{points(result.max_score - result.score)} · "
                losses.add_row(Text(head + _loss(loss, max(20, console.width - len(head)))))
        total = f"{points(verdict.score)}/{points(verdict.max_score)}"
        table.add_row(*row, Text(f"! {total}" if verdict.needs_person else total, "bold"))
        for what, sentence in for_a_person(student, verdict):
            style = MARKS[Outcome.GRADER_ERROR][3] if verdict.needs_person else ""
            persons.add_row(Text(f"! {who} · {what}: {one_line(sentence, 1_000)}", style))
    for student, sentence in remarks:
        who = f"{one_line(student, 24)} · " if student else ""
        persons.add_row(Text(f"! {who}{one_line(sentence, 1_000)}"))
    console.print(table)
    if narrow:
        console.print(
            Text("\n" + "  ".join(f"{n} {one_line(name, 60)}" for n, name in enumerate(names, 1)), "dim")
        )
    for heading, lines in (("Needs a person", persons), ("Where points were lost", losses)):
        if lines.row_count:
            console.print(Text(f"\n{heading}", "bold"), lines, sep="\n")
