"""Measures the checks: ``proctor mutate``.

Every answer of a unit is changed in one small place at a time (``mutants.py``), and each mutant is graded like a
learner's work. A mutant that loses points is killed. One that does not tells of something that no check looks at,
unless it behaves as the answer does: then ``graders/UNIT/equivalents.toml`` lists it, with the reason.
"""

from __future__ import annotations

import ast
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from time import monotonic

import msgspec
from rich.console import Console
from rich.status import Status
from rich.table import Table

from proctor.cache import environment_digest, library_digest, material_digest
from proctor.course import Course, CourseError, Unit
from proctor.files import read_plain, write_whole
from proctor.mutants import Mutant, mutants_of
from proctor.results import Outcome
from proctor.sandbox import Sandbox
from proctor.survivors import (
    BROKE,
    KILLED,
    SURVIVED,
    Ending,
    Equivalent,
    Tried,
    equivalents_of,
    excuse,
    score_of,
)
from proctor.tables import unknown
from proctor.verify import Bench, benches

BAR = 0.95  # the share of mutants that a unit's checks kill
MAX_KEPT = 64 << 20  # bytes of the file of endings
PATIENCE = 4.0, 4.0  # a call has so many seconds, and so many times what all checks of the right answer take


class Endings:
    """How mutants ended, kept in ``.proctor/mutants/UNIT.json`` under all that it depends on."""

    def __init__(self, bench: Bench) -> None:
        digests = [material_digest(bench.material), library_digest().hex(), environment_digest().hex()]
        self._basis, self._bench = digests, bench
        self._path = bench.course.root / ".proctor" / "mutants" / f"{bench.unit.name}.json"
        self._kept: dict[str, Ending] = {}
        with suppress(msgspec.MsgspecError):
            self._kept = msgspec.json.decode(read_plain(self._path, MAX_KEPT) or b"", type=dict[str, Ending])
        self._used: set[str] = set()

    def name_of(self, exercise: str, source: str) -> str:
        """The name of an ending: of this answer to that exercise, in this notebook, under these checks."""
        parts = [self._basis, exercise, self._bench.with_answer(exercise, source)]
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()

    def get(self, name: str) -> Ending | None:
        self._used.add(name)
        return self._kept.get(name)

    def put(self, name: str, ending: Ending) -> None:
        self._used.add(name)
        self._kept[name] = ending

    def save(self, *, prune: bool) -> None:
        """Write them; with ``prune``, those alone that this run has asked for. Raises OSError."""
        kept = {name: ending for name, ending in self._kept.items() if not prune or name in self._used}
        for folder in (self._path.parent.parent, self._path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        write_whole(self._path, msgspec.json.encode(kept))


Task = tuple[str, str, str, float]  # the ending's name, the exercise, the answer, the seconds that a call has


def try_out(bench: Bench, task: Task) -> tuple[str, Ending]:
    """Grade an answer on a bench: the checks of its exercise, on the draws of grading."""
    name, exercise, source, seconds = task
    limits, begun = bench.sandbox.limits, monotonic()
    bench.sandbox.limits = replace(limits, call_seconds=min(limits.call_seconds, seconds))
    try:
        cells = bench.with_answer(exercise, source)
        [result] = bench.grade(cells, exercise, draws=None).verdict.exercises
    finally:
        bench.sandbox.limits = limits
    broken = next((check for check in result.checks if check.outcome is Outcome.GRADER_ERROR), None)
    lost = broken or result.first_loss
    how = BROKE if broken else KILLED if result.score < result.max_score else SURVIVED
    told = {"check": lost.name, "told": lost.message} if lost else {}
    return name, Ending(how=how, seconds=round(monotonic() - begun, 3), **told)


def mutate(
    course: Course,
    unit: Unit,
    *,
    exercise: str | None = None,
    jobs: int = 1,
    fresh: bool = False,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[Tried]:
    """Try every mutant of a unit's answers, or of one; ``fresh`` asks for no ending that was kept.

    Raises CourseError, also where the right answer itself does not score full marks.
    """
    exercises = list(course.exercises(unit))
    if exercise is not None and exercise not in exercises:
        raise unknown(f"unit {unit.name} has no exercise", exercise, exercises)
    listed = equivalents_of(course, unit)
    bench = Bench(course, unit, Sandbox(), 1)
    answers = {name: bench.answer(name) for name in ([exercise] if exercise else exercises)}
    modules = imported(bench)
    mutants = {name: mutants_of(source, modules) for name, source in answers.items()}
    endings = Endings(bench)
    done = False
    try:
        _try_all(bench, answers, mutants, endings, jobs, fresh, progress)
        done = True
    finally:  # a run that was stopped goes on where it was
        endings.save(prune=done and exercise is None)
    tried = []
    for name, source in answers.items():
        ended = [(m, endings.get(endings.name_of(name, m.source)) or Ending(BROKE)) for m in mutants[name]]
        tried.append(excuse(Tried(name, ended), listed.get(name, []), source))
    return tried


def _try_all(
    bench: Bench,
    answers: dict[str, str],
    mutants: dict[str, list[Mutant]],
    endings: Endings,
    jobs: int,
    fresh: bool,
    progress: Callable[[int, int], None],
) -> None:
    def missing(tasks: Iterable[tuple[str, str, float]], *lasting: str) -> Iterator[Task]:
        for exercise, source, seconds in tasks:
            name = endings.name_of(exercise, source)
            kept = endings.get(name)
            if fresh or kept is None or kept.how not in lasting:
                yield (name, exercise, source, seconds)

    every = bench.sandbox.limits.call_seconds
    with benches(bench.course, bench.unit, 1, jobs) as on_a_bench:
        rights = list(missing(((name, source, every) for name, source in answers.items()), SURVIVED))
        for name, ending in on_a_bench(try_out, rights):
            endings.put(name, ending)
        seconds = {}
        for exercise, source in answers.items():
            right = endings.get(endings.name_of(exercise, source))
            if right is None or right.how != SURVIVED:
                says = f"; {right.check}: {right.told}" if right else ""
                raise CourseError(
                    f"{bench.unit.name}: the right answer to `{exercise}` has lost points{says}"
                )
            seconds[exercise] = PATIENCE[0] + PATIENCE[1] * right.seconds
        changed = ((name, m.source, seconds[name]) for name, those in mutants.items() for m in those)
        tasks = list(missing(changed, KILLED, SURVIVED))
        for done, (name, ending) in enumerate(on_a_bench(try_out, tasks), 1):
            endings.put(name, ending)
            progress(done, len(tasks))


def imported(bench: Bench) -> set[str]:
    """The names that the notebook's imports bind."""
    found: set[str] = set()
    for _, source in bench.solution:
        with suppress(SyntaxError, ValueError):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    found |= {(one.asname or one.name).partition(".")[0] for one in node.names}
    return found


def show_score(
    course: Course,
    units: tuple[Unit, ...],
    console: Console,
    *,
    exercise: str | None = None,
    jobs: int = 1,
    bar: float = BAR,
    every: bool = False,
    fresh: bool = False,
) -> int:
    """Print the table of each unit, what survived and what is stale; 0 where all is as it should be, 1 otherwise.

    ``every`` prints all mutants, with how they ended.
    """
    wrong = False
    for unit in units:
        begun = monotonic()
        with console.status(f"trying the mutants of {unit.name}") as status:

            def progress(done: int, of: int, name: str = unit.name, status: Status = status) -> None:
                status.update(f"{done} of {of} mutants of {name}")

            tried = mutate(course, unit, exercise=exercise, jobs=jobs, fresh=fresh, progress=progress)
        console.print(_table(unit, tried))
        for one in tried:
            for mutant, ending in one.endings if every else one.left:
                _show(one, mutant, ending, console)
            for equivalent, why in one.stale:
                console.print(f"stale in equivalents.toml, {one.exercise}: {why}", markup=False, style="bold")
                _show_lines(equivalent, console)
        score = score_of(tried)
        wrong |= score < bar or any(one.stale or any(e.how == BROKE for _, e in one.left) for one in tried)
        says = f"{unit.name}: {_percent(score)} killed, {_percent(bar)} wanted; {monotonic() - begun:.0f} s."
        if any(one.left for one in tried):
            says += f" Kill what is left with a check, or list it in graders/{unit.name}/equivalents.toml."
        console.print(says, markup=False)
    return 1 if wrong else 0


def _table(unit: Unit, tried: list[Tried]) -> Table:
    table = Table(title=f"proctor mutate {unit.name}", title_justify="left")
    table.add_column("exercise", no_wrap=True)
    for column in ("mutants", "killed", "listed", "left", "score"):
        table.add_column(column, justify="right")
    for name, those in [*((one.exercise, [one]) for one in tried), ("all", tried)]:
        counts = [sum(count) for count in zip(*map(_counts, those), strict=True)]
        table.add_row(name, *map(str, counts), _percent(score_of(those)), end_section=those[-1] is tried[-1])
    return table


def _counts(one: Tried) -> tuple[int, int, int, int]:
    return len(one.endings), one.killed, len(one.excused), len(one.left)


def _show(one: Tried, mutant: Mutant, ending: Ending, console: Console) -> None:
    how = "equivalent" if mutant in one.excused else ending.how
    how += f" {ending.check}: {ending.told}" if how == BROKE else f" by {ending.check}" * (how == KILLED)
    sign = "✓" if how.startswith((KILLED, "equivalent")) else "✗"
    console.print(
        f"{sign} {one.exercise}, line {mutant.number}, {mutant.kind}: {how}", markup=False, style="bold"
    )
    _show_lines(mutant, console)


def _show_lines(change: Mutant | Equivalent, console: Console) -> None:
    console.print(f"  - {change.line}\n  + {change.becomes}", markup=False, soft_wrap=True)


def _percent(share: float) -> str:
    """Rounded down: what is below the bar does not read as the bar."""
    return f"{math.floor(1000 * share) / 10:.1f} %"
