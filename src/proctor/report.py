"""Results told to people: the rubric, the class at a glance, the feedback page, Gradescope's form.

Every text in a result may be a student's: it is cleaned of control characters wherever it is shown, escaped
by Jinja2 in HTML, and never read as rich markup. All numbers are those of ``proctor.results``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal
from unicodedata import category

import jinja2
from markupsafe import Markup
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from proctor.results import SCHEMA, CheckResult, ExerciseResult, Outcome, Verdict

LIMITS = {"message": 4_000, "text": 20_000, "cells": 400, "outputs": 40, "image": 8_000_000}

# A symbol and a word carry the outcome; the colour (Okabe-Ito: on a page, on a terminal) only helps.
MARKS = {
    Outcome.PASSED: ("✓", "passed", "#009E73", "#009E73"),
    Outcome.FAILED: ("✗", "failed", "#D55E00", "#D55E00"),
    Outcome.NOT_ATTEMPTED: ("○", "not attempted", "#0072B2", "#56B4E9"),
    Outcome.SKIPPED: ("–", "skipped", "currentColor", "default"),
    Outcome.GRADER_ERROR: ("!", "grader error", "#CC79A7", "bold #CC79A7"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackOutput:
    """One output of a cell: text, or a PNG as base64."""

    text: str = ""
    png_base64: str = ""
    error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackCell:
    """One cell of the student's notebook; ``exercise`` names the exercise that it answers."""

    kind: Literal["code", "markdown"]
    source: str
    outputs: tuple[FeedbackOutput, ...] = ()
    exercise: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackExercise:
    """One exercise as it goes back: ``score`` is what counts, after a teacher's change (``manual``)."""

    result: ExerciseResult
    score: float
    comment: str = ""
    manual: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackPage:
    """All that the feedback page shows. ``score`` is final: ``late_penalty`` is taken off already."""

    student: str
    unit_title: str
    unit: str
    verdict: Verdict
    score: float
    max_score: float
    late_penalty: float = 0.0
    exercises: tuple[FeedbackExercise, ...] = ()
    cells: tuple[FeedbackCell, ...] = ()


_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[ -/]*[0-OQ-WYZ`-~\\]"  # colours and cursor moves
    r"|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"  # window titles, links
)
_BREAK = re.compile("\r\n|[\r\x85\u2028\u2029]")
_VISIBLE = {  # control, bidi and other invisible characters; joiners belong to scripts and emoji
    code: f"⟨{code:04X}⟩"
    for code in (*range(0x3000), *range(0xD800, 0xE000), *range(0xFE00, 0x10000), *range(0xE0000, 0xE0080))
    if category(chr(code)) in ("Cc", "Cf", "Cs") and chr(code) not in "\n\u200c\u200d"
}


def clean(text: str) -> str:
    """Plain text: escape codes removed, control and invisible characters made visible."""
    if text.isprintable():  # nearly every text is: then none of what follows would find anything
        return text
    return _BREAK.sub("\n", _ESCAPE.sub("", text)).expandtabs(4).translate(_VISIBLE)


def capped(text: str, limit: int = LIMITS["text"]) -> tuple[str, str]:
    """The beginning of a text, cleaned, and a sentence about what was cut ("" if nothing was)."""
    cut = f"Cut here: the first {limit:,} of {len(text):,} characters are shown." if len(text) > limit else ""
    return clean(text[:limit]), cut


def one_line(text: str, limit: int = 200) -> str:
    """A cleaned text on one line, for a title, a name or a student."""
    line = " ".join(clean(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def points(number: float) -> str:
    """5.0 → "5", 2.5 → "2.5", 1/3 → "0.33"."""
    return f"{number:.2f}".rstrip("0").rstrip(".")


def earned(check: CheckResult) -> str:
    """The points of one check; those of a broken one are open."""
    score = "—" if check.outcome is Outcome.GRADER_ERROR else points(check.earned)
    return f"{score} of {points(check.points)}"


def standing(exercise: ExerciseResult, graded: bool = False) -> str:
    """The points in a sentence. Before grading, what was not earned yet is still at stake."""
    sentence = f"{points(exercise.score)} of {points(exercise.max_score)} points"
    if exercise.outcome is Outcome.GRADER_ERROR:
        return sentence + "; not final, a person must look"
    lost = exercise.max_score - exercise.score
    return sentence if graded or not lost else f"{sentence}; {points(lost)} still at stake in grading"


def remark(exercise: ExerciseResult) -> str:
    """The one calm sentence over an exercise that has nothing to judge yet, else ""."""
    if not exercise.checks:
        return "No check ran. This is the grader's fault: a person must look, and it never counts as a zero."
    if exercise.outcome is not Outcome.NOT_ATTEMPTED:
        return ""
    if all(check.outcome is Outcome.SKIPPED for check in exercise.checks):
        return "Not checked yet: these checks wait for an earlier one to pass."
    return "Not written yet: the stub still raises NotImplementedError. What it should do:"


def told(exercise: ExerciseResult, check: CheckResult) -> str:
    """What stands below a check: its message, where that says more than the mark."""
    if check.outcome is Outcome.FAILED:
        return check.message or "The check did not pass, and gave no reason."
    if check.outcome is Outcome.GRADER_ERROR:
        sentence = "The check itself broke, not your code: a person must look, and it never counts as a zero."
        return f"{sentence}\n{check.message}"
    quiet = check.outcome is Outcome.PASSED or exercise.outcome is Outcome.NOT_ATTEMPTED
    return "" if quiet else check.message


_PART = re.compile(r"^([A-Z][A-Za-z]*(?: [a-z]+){0,2})( {2,})(\S.*(?:\n +\S.*)*)|^(.*\S.*)$", re.MULTILINE)


def parts(message: str) -> Iterator[tuple[str, str]]:
    """The lines of a message as (label, text); an indented line goes on with the labelled one above it."""
    text, cut = capped(message, LIMITS["message"])
    for label, gap, value, line in _PART.findall(text):
        yield label, re.sub(rf"\n {{1,{len(label + gap)}}}", "\n", value) if label else line.rstrip()
    yield from [("", cut)] if cut else []


def _inline(text: str) -> Markup:
    pieces = re.split(r"`([^`\n]+)`", clean(text))  # every other one stood between backticks
    code = Markup('<code style="background:transparent">{}</code>')
    return Markup("").join(code.format(p) if i % 2 else p for i, p in enumerate(pieces))


def _png(text: str) -> tuple[str, str]:
    """An image as tidy base64, or a sentence about why it is not shown."""
    try:
        data = base64.b64decode("".join(text.split()), validate=True) if len(text) <= LIMITS["image"] else b""
    except ValueError:
        data = b""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return base64.b64encode(data).decode(), ""
    return "", "An image is not shown here: it is not a PNG, or it is too big."


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.loader, environment.undefined = jinja2.PackageLoader("proctor"), jinja2.StrictUndefined
    environment.finalize = lambda value: clean(value) if type(value) is str else value
    environment.filters.update(points=points, earned=earned, line=one_line, capped=capped, parts=parts)
    environment.filters.update(inline=_inline, png=_png, standing=standing, remark=remark)
    environment.globals.update(MARKS=MARKS, LIMITS=LIMITS, Outcome=Outcome, told=told)
    return environment.get_template(name)


def rubric_html(exercise: ExerciseResult, *, lost_hint: str = "", graded: bool = False) -> str:
    """The rubric below ``check("…")``, a learner's or, once ``graded``, in formgrader.

    ``lost_hint`` closes it while points are missing.
    """
    return _template("rubric.html").render(exercise=exercise, lost_hint=lost_hint, graded=graded)


def feedback_html(page: FeedbackPage) -> str:
    """The page that a student gets back: one file without scripts, and with nothing to load."""
    answers = {cell.exercise: n for n, cell in [*enumerate(page.cells[: LIMITS["cells"]], 1)][::-1]}
    return _template("feedback.html").render(page=page, answers=answers)


def _lines(exercise: ExerciseResult) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """The rubric as lines: an indent, and pieces of text with their rich style."""
    name, title = one_line(exercise.name), one_line(exercise.title)
    heading = [(title, "bold"), (f" ({name})", "dim")] if title and title != name else [(name, "bold")]
    yield 0, [*heading, (f": {standing(exercise)}", "")]
    if sentence := remark(exercise):
        yield 2, [(sentence, "")]
    for check in exercise.checks:
        symbol, word, _, style = MARKS[check.outcome]
        yield 2, [(f"{symbol} {word:<13}  {earned(check):<8}  ", style), (one_line(check.title), "")]
        for label, text in parts(told(exercise, check)):
            if label == "Ask":
                yield 6, [(f"→ {' '.join(text.split())}", "bold")]
                continue
            for number, line in enumerate(text.split("\n")):
                yield 6, [(f"{'' if number else label:<10}" if label else "", "dim"), (line, "")]


def rubric_text(exercise: ExerciseResult) -> str:
    """The rubric as plain text."""
    return "\n".join((n * " " + "".join(text for text, _ in line)).rstrip() for n, line in _lines(exercise))


def print_rubric(exercise: ExerciseResult, console: Console) -> None:
    """The rubric on a terminal, in colour where it has one."""
    for indent, line in _lines(exercise):
        console.print(Padding(Text.assemble(*line), (0, 0, 0, indent), expand=False))


def to_gradescope(verdict: Verdict) -> dict[str, Any]:
    """Gradescope's results.json. A broken check has no state of its own there: the output says it in words."""
    tests = []
    for i, exercise in enumerate(verdict.exercises, start=1):
        for j, check in enumerate(exercise.checks, start=1):
            lines = [f"{label:<10}{text}" if label else text for label, text in parts(told(exercise, check))]
            test = {"name": f"{one_line(exercise.name)}: {one_line(check.title)}", "number": f"{i}.{j}"}
            status = "passed" if check.outcome is Outcome.PASSED else "failed"
            test |= {"score": check.earned, "max_score": check.points, "status": status}
            test |= {"output": "\n".join([check.outcome, *lines]), "output_format": "text"}
            tests.append(test | {"name_format": "text", "visibility": "visible"})
    said = [f"A person must look at this submission. {verdict.problem}"] if verdict.needs_person else []
    output = "\n".join(clean(line.strip()) for line in (*said, *verdict.notes))
    extra = {"schema": SCHEMA, "unit": verdict.unit, "needs_person": verdict.needs_person}
    result = {"score": verdict.score, "output": output, "output_format": "text", "visibility": "visible"}
    return {**result, "stdout_visibility": "hidden", "extra_data": extra, "tests": tests}
