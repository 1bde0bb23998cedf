"""What is known of a class's work on a unit: verdicts and answers from the graded notebooks, marks from the gradebook.

Everything is read, nothing is run and nothing changed. A graded notebook was made from the release and holds the
verdict on it, whichever way it was graded; what the learner wrote in it is text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import msgspec

from proctor.course import Course, CourseError, Unit
from proctor.files import read_plain
from proctor.notebook import exercise_of
from proctor.results import ExerciseResult, Outcome, ResultError, Verdict, from_json

MAX_NOTEBOOK = 200 << 20  # bytes of a graded one: the learner's figures are in it


class State(StrEnum):
    """How far a learner's work on the unit has come."""

    FINAL = "graded"
    WAITS = "waits for a person"
    UNGRADED = "handed in, not graded yet"
    NOTHING = "nothing handed in"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What the gradebook says of a learner; ``points`` and ``by_hand`` are by cell of the unit's notebook.

    ``handed_in`` is None where nothing was, ``by_hand`` tells what a person has changed, ``open`` what waits for one.
    """

    student: str
    last_name: str = ""
    first_name: str = ""
    handed_in: datetime | None = None
    points: Mapping[str, float] = field(default_factory=dict)
    score: float = 0.0
    max_score: float = 0.0
    penalty: float = 0.0
    by_hand: frozenset[str] = frozenset()
    open: frozenset[str] = frozenset()

    @property
    def counted(self) -> float:
        """The points that count: without what is taken off for being late, and never below none."""
        return max(0.0, self.score - self.penalty)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """One of a class; ``anew``: a later submission is there; ``old``: other checks than the class's have judged it."""

    name: str
    state: State
    mark: Mark
    verdict: Verdict | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    points: Mapping[str, float] = field(default_factory=dict)  # that count, by exercise
    anew: bool = False
    old: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """A class's work on a unit; ``stubs`` are what its answers began with."""

    course: str
    unit: Unit
    learners: tuple[Learner, ...]
    stubs: Mapping[str, str]
    max_score: float

    @property
    def judged(self) -> list[Learner]:
        """Those with a verdict, in the order of their names."""
        return [learner for learner in self.learners if learner.verdict is not None]


class _Marks(msgspec.Struct):
    grade_id: str = ""
    grade: bool = False
    solution: bool = False


class _About(msgspec.Struct):
    nbgrader: _Marks | None = None


class _Cell(msgspec.Struct):
    source: str | list[str]
    metadata: _About

    @property
    def text(self) -> str:
        return self.source if isinstance(self.source, str) else "".join(self.source)


class _Kept(msgspec.Struct):
    verdict: str = ""


class _Whole(msgspec.Struct):
    proctor: _Kept = msgspec.field(default_factory=_Kept)


class _Notebook(msgspec.Struct):
    cells: list[_Cell]
    metadata: _Whole = msgspec.field(default_factory=_Whole)

    def marked(self) -> Iterator[tuple[_Marks, str]]:
        """The cells that are nbgrader's: what it says of them, and their text."""
        return ((cell.metadata.nbgrader, cell.text) for cell in self.cells if cell.metadata.nbgrader)

    def answers(self) -> dict[str, str]:
        return {about.grade_id: text for about, text in self.marked() if about.solution}


_decoder = msgspec.json.Decoder(_Notebook)


def gather(course: Course, unit: Unit) -> Gathered:
    """Read all that there is of a unit. Raises CourseError where nothing has been graded."""
    from proctor.nbgrader.export import unit_marks

    graded = _folders(course.root / "autograded", unit)
    handed_in = _folders(course.root / "submitted", unit)
    if not graded:
        known = f"; {len(handed_in)} are collected" if handed_in else ""
        raise CourseError(
            f"no submission of {unit.name} has been graded yet{known}; `proctor grade {unit.name}` grades them"
        )
    release = _read(course.release(unit))
    if release is None:
        raise CourseError(
            f"the release of {unit.name} cannot be read; `proctor release {unit.name}` makes it anew"
        )
    exercises = {about.grade_id: exercise_of(text) for about, text in release.marked() if about.grade}
    marks = unit_marks(course.root, unit.name)
    usual: dict[str, Counter[object]] = {}
    read = {
        name: _verdict_in(_read(folder / f"{unit.notebook}.ipynb"), usual) for name, folder in graded.items()
    }
    ordinary = {name: counts.most_common(1)[0][0] for name, counts in usual.items()}
    learners = []
    for name in sorted({*graded, *handed_in, *marks}):
        verdict, answers = read.get(name, (None, {}))
        mark = marks.get(name, Mark(student=name))
        learners.append(
            Learner(
                name=name,
                state=_state(verdict, mark, name in handed_in or name in graded),
                mark=mark,
                verdict=verdict,
                answers=answers,
                points={
                    exercise: mark.points[cell] for cell, exercise in exercises.items() if cell in mark.points
                },
                anew=name in graded and name in handed_in and _time(graded[name]) != _time(handed_in[name]),
                old=any(_form(e) != ordinary[e.name] for e in verdict.exercises if _form(e))
                if verdict
                else False,
            )
        )
    known = [
        learner.verdict.max_score for learner in learners if learner.verdict and not learner.verdict.problem
    ]
    return Gathered(
        course=course.title,
        unit=unit,
        learners=tuple(learners),
        stubs=release.answers(),
        max_score=max([mark.max_score for mark in marks.values()] or known, default=0.0),
    )


def known_answers(course: Course, unit: Unit) -> dict[str, list[str]]:
    """By exercise, what everybody may come to: the right answers at hand, and the known mistakes made in them."""
    solution = _read(course.solution(unit))
    right = solution.answers() if solution else {}
    styles = [
        path.read_text(errors="replace") for path in sorted((course.graders(unit) / "accepted").glob("*.py"))
    ]
    known = {}
    for name, exercise in course.exercises(unit).items():
        known[name] = [*([right[name]] if name in right else []), *styles]
        for mistake in exercise.mistakes:
            with suppress(CourseError):
                known[name].append(mistake.applied_to(right.get(name, "")))
    return known


def _folders(room: Path, unit: Unit) -> dict[str, Path]:
    """The learners' folders in a room of nbgrader's, by their names; hidden ones are nobody's."""
    found = {path.parent.name: path for path in room.glob(f"*/{unit.name}") if path.is_dir()}
    return {name: path for name, path in found.items() if not name.startswith(".") and _is_text(name)}


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _read(path: Path) -> _Notebook | None:
    with suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
        return _decoder.decode(read_plain(path, MAX_NOTEBOOK) or b"")
    return None


def _verdict_in(
    notebook: _Notebook | None, usual: dict[str, Counter[object]]
) -> tuple[Verdict | None, dict[str, str]]:
    """The verdict and the answers in a graded notebook; ``usual`` counts by what checks each exercise was judged."""
    if notebook is None:
        return None, {}
    with suppress(ResultError):
        verdict = from_json(notebook.metadata.proctor.verdict)
        for exercise in verdict.exercises:
            usual.setdefault(exercise.name, Counter())[_form(exercise)] += 1 if _form(exercise) else 0
        return verdict, notebook.answers() if not verdict.problem else {}
    return None, {}


def _form(exercise: ExerciseResult) -> object:
    """By which checks an exercise was judged; nothing where they broke."""
    if exercise.outcome is Outcome.GRADER_ERROR:
        return None
    return tuple((check.name, check.points) for check in exercise.checks)


def _state(verdict: Verdict | None, mark: Mark, handed_in: bool) -> State:
    if verdict is None:
        return State.UNGRADED if handed_in else State.NOTHING
    # What a person has looked at and given points for is final, whatever the checks could not do.
    return State.WAITS if mark.open or (verdict.needs_person and not mark.by_hand) else State.FINAL


def _time(folder: Path) -> bytes | None:
    return read_plain(folder / "timestamp.txt", 1000)
