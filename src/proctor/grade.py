"""One submission to one verdict.

The learner's notebook is rebuilt from the release, its cells run in the sandbox, and the checks run here, against
proxies. What comes out is a ``Verdict`` and the outputs of the learner's own cells.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import nbformat

from proctor.course import Course, CourseError, Unit, read_release
from proctor.notebook import Cell, Limits, NotebookError, cells_of, parse, read_untrusted
from proctor.rebuild import rebuild
from proctor.results import CheckResult, ExerciseResult, Outcome, Verdict
from proctor.sandbox import Sandbox
from proctor.shortcuts import find_shortcut, find_suspicion
from proctor.unavailable import blocked_modules
from proctor.walls import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What it takes to grade a unit: its checks, its released notebook, and what its exercises say."""

    unit: str
    checks: Path
    notebook: Path
    titles: dict[str, str]
    points: dict[str, float]
    forbidden: dict[str, tuple[str, ...]]
    allowed: dict[str, str]
    preload: tuple[str, ...] = ()
    private: bool = True  # whether the checks at hand are all there are, with those that a release leaves out


def course_material(course: Course, unit: Unit) -> Material:
    """The material of a course: the checks with their private ones. Raises CourseError."""
    exercises = course.exercises(unit)
    if not course.release(unit).is_file():
        raise CourseError(
            f"{unit.name} is not released yet; `proctor release {unit.name}` makes the exercise"
        )
    release = read_release(course.release(unit).parent)
    if odd := sorted({exercise.name for exercise in release.exercises} ^ set(exercises)):
        raise CourseError(
            f"exercises/{unit.name} and graders/{unit.name} do not have the same exercises "
            f"(`{odd[0]}` is in one of them); run `proctor release {unit.name}`"
        )
    return Material(
        unit=unit.name,
        checks=course.graders(unit),
        notebook=course.release(unit),
        titles={name: exercise.title for name, exercise in exercises.items()},
        points={exercise.name: exercise.points for exercise in release.exercises},
        forbidden={name: exercise.forbidden for name, exercise in exercises.items()},
        allowed={name: exercise.allowed for name, exercise in exercises.items()},
        preload=unit.preload,
    )


def released_material(folder: Path) -> Material:
    """The material that a learner has: what lies beside the released notebook. Raises CourseError."""
    release = read_release(folder)
    return Material(
        unit=release.unit,
        checks=folder / "checks",
        notebook=folder / f"{release.notebook}.ipynb",
        titles={exercise.name: exercise.title for exercise in release.exercises},
        points={exercise.name: exercise.points for exercise in release.exercises},
        forbidden={exercise.name: exercise.forbidden for exercise in release.exercises},
        allowed={exercise.name: exercise.allowed for exercise in release.exercises},
        private=False,
    )


def released_notebook(material: Material) -> nbformat.NotebookNode:
    """The notebook as it was released. Raises CourseError."""
    shown = f"exercises/{material.unit}/{material.notebook.name}"
    try:
        return nbformat.read(material.notebook, as_version=4)
    except FileNotFoundError as error:
        raise CourseError(
            f"{shown} is missing; `proctor release` or `proctor start` brings it back"
        ) from error
    except Exception as error:
        raise CourseError(
            f"{shown} is damaged; `proctor release` or `proctor start` brings a whole one"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A verdict, and what the learner's own cells printed and showed (nbformat outputs, by cell id).

    ``undisturbed`` tells whether the student's process lived through it: where it was stopped or has ended, a machine
    that is busy or short of memory may have had a part in that.
    """

    verdict: Verdict
    outputs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    undisturbed: bool = True


def course_key(root: Path) -> bytes:
    """The secret that the inputs of grading derive from; made on first use, for the teacher's eyes only."""
    path = root / ".proctor" / "course.key"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if not path.exists():
        descriptor, fresh = tempfile.mkstemp(
            dir=path.parent, prefix="course.key."
        )  # readable for nobody else
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(fresh, path)  # the first of several that start at once wins
        Path(fresh).unlink()
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except ValueError:
        key = b""
    if len(key) != 32:
        raise CourseError(
            f"{path.name} in .proctor is damaged; put back a copy of it, or remove it to begin anew"
        )
    return key


def grade_notebook(
    material: Material,
    path: Path,
    sandbox: Sandbox,
    *,
    seed: Callable[[str, int], int] | None = None,
    exercise: str | None = None,
    draws: int | None = None,
    content: bytes | None = None,
    release: nbformat.NotebookNode | None = None,
) -> Graded:
    """Grade one notebook of a unit (one exercise of it, if named), in a sandbox that is given.

    ``content`` and ``release`` are the bytes of the notebook and the released notebook, where the caller has them at
    hand. A notebook that cannot be read is a matter for a person: every exercise is a grader error, none a zero.
    """
    release = release or released_notebook(material)
    try:
        rebuilt = rebuild(release, submitted_cells(path, content), unit=material.unit)
    except NotebookError as error:
        return Graded(verdict=unreadable(material, str(error)))
    return grade_cells(
        material,
        run_cells(rebuilt.notebook),
        sandbox,
        seed=seed,
        exercise=exercise,
        draws=draws,
        notes=rebuilt.notes,
    )


def submitted_cells(path: Path, content: bytes | None = None) -> list[Cell]:
    """The cells of a submission, from its bytes where these have been read already. Raises NotebookError."""
    if content is None:
        return read_untrusted(path)
    limits = Limits()
    return cells_of(path, parse(path, content, limits), limits)


def sandbox_for(material: Material, level: Level | None = None) -> Sandbox:
    """A sandbox for submissions of a unit: what it imports is loaded, what holds its answers is not there."""
    hidden = blocked_modules(material.forbidden, material.allowed, material.preload)
    return Sandbox(preload=material.preload, hidden=hidden, level=level)


def run_cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """The cells to run for grading: all code but the checks and the reward, by id."""
    cells = []
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code" and not about.get("grade") and about.get("grade_id") != "reward":
            cells.append((cell.id, cell.source))
    return cells


def grade_cells(
    material: Material,
    cells: list[tuple[str, str]],
    sandbox: Sandbox,
    *,
    seed: Callable[[str, int], int] | None = None,
    exercise: str | None = None,
    draws: int | None = None,
    notes: Iterable[str] = (),
) -> Graded:
    """Run cells in the sandbox and the checks here; the verdict fails closed, never to full marks."""
    # Torch and pytest are imported here, so that asking what a unit consists of stays quick.
    from proctor.checks import DRAWS, Door, run_checks
    from proctor.draws import practice_seed
    from proctor.remote import Backend
    from proctor.session import Session

    sources = [source for _, source in cells]

    @cache  # every check asks, and the answer is the same
    def shortcut(name: str) -> str:
        return find_shortcut(sources, name, material.forbidden.get(name, ()), material.allowed.get(name, ""))

    session = Session(sandbox, cells)
    opened: list[Backend] = []

    def open_exercise(name: str) -> Backend:
        opened.append(session.open_exercise(name))
        return opened[-1]

    try:
        door = Door(open_exercise, seed or practice_seed, draws or DRAWS, shortcut)
        results = run_checks(material.checks, door, material.titles, exercise)
    finally:
        session.close()
    results = tuple(_hold_to_points(result, material) for result in results)
    suspicions = (find_suspicion(sources, name, material.forbidden.get(name, ())) for name in material.titles)
    # A cell that ended the process is left out of the next one, and its output says so.
    stopped = any(
        output.get("ename") == "CellStopped" for shown in session.outputs.values() for output in shown
    )
    return Graded(
        verdict=Verdict(unit=material.unit, exercises=results, notes=(*notes, *filter(None, suspicions))),
        outputs=session.outputs,
        undisturbed=not stopped and not any(getattr(remote, "gone", "") for remote in opened),
    )


def _hold_to_points(result: ExerciseResult, material: Material) -> ExerciseResult:
    """The result itself, if it speaks of the points that the exercise is worth; otherwise a grader error."""
    points = material.points.get(result.name, 0.0)
    if result.max_score == points or not material.private:
        return result
    message = f"its checks came to {result.max_score:g} points, but the exercise is worth {points:g}; "
    message += f"run `proctor release {material.unit}`"
    told = next(
        (c.message for c in result.checks if c.outcome is Outcome.GRADER_ERROR and c.message), message
    )
    return _broken(result.name, result.title, points, told)


def _broken(name: str, title: str, points: float, message: str) -> ExerciseResult:
    check = CheckResult(
        name="checks",
        title="the checks could be run",
        points=points,
        outcome=Outcome.GRADER_ERROR,
        message=message,
    )
    return ExerciseResult(name=name, title=title, checks=(check,))


def unreadable(material: Material, problem: str) -> Verdict:
    """The verdict where nothing could be graded: a person must look."""
    exercises = tuple(
        _broken(name, title, material.points.get(name, 0.0), problem)
        for name, title in material.titles.items()
    )
    return Verdict(unit=material.unit, exercises=exercises, problem=problem)
