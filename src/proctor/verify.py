"""Tests the checks themselves: ``proctor verify``.

For every unit: the released stubs score nothing, the solution scores all on many draws, every known mistake is
caught by its check with its words, every accepted style scores all, and no garbage that a function may return
scores a point or breaks a check. All of it through the sandbox and the wire, as grading does it.
"""

from __future__ import annotations

import ast
import atexit
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from proctor.author import read_notebook
from proctor.course import Course, CourseError, Unit, read_course
from proctor.grade import (
    Graded,
    Material,
    course_material,
    grade_cells,
    released_notebook,
    run_cells,
    sandbox_for,
)
from proctor.results import ExerciseResult, Outcome
from proctor.sandbox import Sandbox
from proctor.tables import read_text

DRAWS = 20
KINDS = {
    "stub": "stubs at 0",
    "solution": "solutions full",
    "mistake": "mistakes named",
    "garbage": "garbage at 0",
    "accepted": "styles full",
}
GARBAGE = {
    "None": "None",
    "a number": "0",
    "a text": "'garbage'",
    "an empty tuple": "()",
    "a list": "[[1.0]]",
    "a scalar tensor": "torch.zeros(())",
    "an empty tensor": "torch.zeros(0)",
    "a tensor of another shape": "torch.ones(2, 3)",
    "a NumPy array": "torch.ones(2, 3, 4).numpy()",
    "an object": "object()",
    "a ragged list": "[[1.0], [1.0, 2.0]]",
    "a NumPy number": "np.float64(1.0)",
    "an empty array": "np.zeros(0)",
    "an array of another shape": "np.ones((2, 3))",
    "an array of single precision": "np.ones((3, 4), dtype=np.float32)",
    "an array of booleans": "np.ones((2, 3), dtype=bool)",
    "an array of objects": "np.array([[1.0, None], [object(), 'x']])",
    "an array of texts": "np.array(['garbage'])",
    "an array of complex numbers": "args[0] * (1 + 2j) if args else np.zeros(3, dtype=complex)",
    "a tensor": "torch.from_numpy(np.ones((2, 3)))",
    "what it was given": "args[0] if args else None",
    "what it was given, twice": "(args[0], args[0]) if args else None",
    "NaN": "args[0] * float('nan') if args else None",
}
# A unit's garbage is that of the libraries that it imports; an expression of both belongs to the first.
_LIBRARIES = {"np.": "numpy", "torch.": "torch"}


Task = tuple[str, str, str]  # the kind, the exercise or style, and which mistake or garbage


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was proved, or was not: which unit, of what kind, and why not."""

    unit: str
    kind: str  # stub, solution, mistake, accepted, garbage
    name: str
    problem: str = ""


class Bench:
    """A unit on the bench: its material, and its solution's cells with each answer's place among them."""

    def __init__(self, course: Course, unit: Unit, sandbox: Sandbox, draws: int) -> None:
        self.course, self.unit, self.sandbox, self.draws = course, unit, sandbox, draws
        self.material: Material = course_material(course, unit)
        solution, release = read_notebook(course.solution(unit)), released_notebook(self.material)
        self.solution, self.stubs = run_cells(solution), run_cells(release)
        self.answers = {
            cell.metadata.nbgrader.grade_id: cell.id
            for cell in solution.cells
            if cell.metadata.get("nbgrader", {}).get("solution")
        }

    def grade(self, cells: list[tuple[str, str]], exercise: str | None = None, draws: int = 1) -> Graded:
        return grade_cells(self.material, cells, self.sandbox, exercise=exercise, draws=draws)

    def answer(self, exercise: str) -> str:
        if exercise not in self.answers:
            raise CourseError(f"solutions/{self.unit.name} has no answer cell of the grade_id `{exercise}`")
        return dict(self.solution)[self.answers[exercise]]

    def with_answer(self, exercise: str, source: str) -> list[tuple[str, str]]:
        place = self.answers[exercise]
        return [(name, source if name == place else text) for name, text in self.solution]

    def tasks(self) -> list[Task]:
        """What there is to prove, the longest first, each by itself."""
        styles = sorted((self.course.graders(self.unit) / "accepted").glob("*.py"))
        exercises = self.course.exercises(self.unit).values()
        return [
            *(("accepted", path.stem, "") for path in styles),
            *(("solution", e.name, "") for e in exercises),
            *(("stub", e.name, "") for e in exercises),
            *(("mistake", e.name, mistake.name) for e in exercises for mistake in e.mistakes),
            *(("garbage", e.name, what) for e in exercises for what in self.garbage()),
        ]

    def garbage(self) -> list[str]:
        """What may come back in place of an answer, in a unit that uses these libraries."""
        source = "\n".join(text for _, text in self.solution)
        used = {
            name for name in _LIBRARIES.values() if re.search(rf"^\s*(import|from) {name}\b", source, re.M)
        }

        def library(value: str) -> str:
            return next((name for mark, name in _LIBRARIES.items() if mark in value), "")

        return [what for what, value in GARBAGE.items() if library(value) in {"", *used}]

    def prove(self, task: Task) -> Finding:
        """Prove one thing."""
        kind, name, which = task
        proofs = {
            "accepted": self._accepted,
            "solution": self._solution,
            "stub": self._stub,
            "mistake": self._mistake,
            "garbage": self._garbage,
        }
        try:
            problem = proofs[kind](name, which)
        except CourseError as error:
            problem = str(error)
        return Finding(
            unit=self.unit.name, kind=kind, name=f"{name}: {which}" if which else name, problem=problem
        )

    def _stub(self, exercise: str, _: str) -> str:
        [result] = self.grade(self.stubs, exercise).verdict.exercises
        if not result.score and result.outcome is Outcome.NOT_ATTEMPTED:
            return ""
        return f"the stub scores {result.score:g} and counts as {result.outcome.value}; {_first(result)}"

    def _solution(self, exercise: str, _: str) -> str:
        [result] = self.grade(self.solution, exercise, draws=self.draws).verdict.exercises
        return _not_full(result)

    def _mistake(self, name: str, which: str) -> str:
        exercise = self.course.exercises(self.unit)[name]
        mistake = next(mistake for mistake in exercise.mistakes if mistake.name == which)
        source = mistake.applied_to(self.answer(name))
        [result] = self.grade(self.with_answer(name, source), name).verdict.exercises
        for check in result.checks:
            if check.outcome is Outcome.GRADER_ERROR:
                return f"the check {check.name} broke: {check.message}"
            if check.outcome is Outcome.FAILED and not check.message:
                return f"the check {check.name} fails without a word"
        caught = next((check for check in result.checks if check.name == mistake.caught_by), None)
        if caught is None:
            return f"there is no check {mistake.caught_by!r}"
        if caught.outcome is not Outcome.FAILED:
            return f"{mistake.caught_by} ends as {caught.outcome.value}; {_first(result)}"
        if mistake.says not in caught.message:
            return f"{mistake.caught_by} does not say {mistake.says!r}, but: {caught.message}"
        return ""

    def _accepted(self, name: str, _: str) -> str:
        path = self.course.graders(self.unit) / "accepted" / f"{name}.py"
        style = read_text(path, path.relative_to(self.course.root).as_posix())
        try:
            body = ast.parse(style).body
        except (SyntaxError, ValueError) as error:
            return f"it is no Python: {error}"
        defined = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        places = {self.answers[name] for name in defined if name in self.answers}
        if not places:
            return "it defines none of the unit's answers"
        cells = [cell for cell in self.solution if cell[0] not in places]
        verdict = self.grade([cells[0], ("style", style), *cells[1:]], draws=self.draws).verdict
        return "; ".join(filter(None, map(_not_full, verdict.exercises)))

    def _garbage(self, exercise: str, which: str) -> str:
        answer, value = self.answer(exercise), GARBAGE[which]
        source = f"def {exercise}(*args, **kwargs):\n    return {value}\n"
        if any(isinstance(node, ast.ClassDef) and node.name == exercise for node in ast.parse(answer).body):
            source = (
                f"class {exercise}(torch.nn.Module):\n"
                "    def __init__(self, *args, **kwargs):\n        super().__init__()\n"
                "    def load_state_dict(self, *args, **kwargs):\n        pass\n"
                f"    def forward(self, *args, **kwargs):\n        return {value}\n"
            )
        source = "import numpy as np\nimport torch\n" + source
        [result] = self.grade(self.with_answer(exercise, source), exercise, draws=1).verdict.exercises
        if result.outcome is Outcome.GRADER_ERROR:
            return _first(result)
        return f"it scores {result.score:g} points" if result.score else ""


def _not_full(result: ExerciseResult) -> str:
    if result.outcome is Outcome.PASSED and result.max_score > 0:
        return ""
    return f"{result.name} scores {result.score:g} of {result.max_score:g}; {_first(result)}"


def _first(result: ExerciseResult) -> str:
    lost = result.first_loss
    return f"{lost.name}: {lost.message}" if lost else "no check has lost a point"


def verify(course: Course, unit: Unit, draws: int = DRAWS, jobs: int = 1) -> Iterator[Finding]:
    """Prove a unit, in ``jobs`` processes side by side; yields each finding as it is made."""
    tasks = Bench(course, unit, Sandbox(), draws).tasks()
    with benches(course, unit, draws, jobs) as on_a_bench:
        yield from on_a_bench(Bench.prove, tasks)


@contextmanager
def benches(course: Course, unit: Unit, draws: int = DRAWS, jobs: int = 1) -> Iterator[Callable[..., Any]]:
    """``jobs`` benches side by side: gives a function ``(work, tasks)`` that does ``work(bench, task)`` for every task.

    What it yields comes in the order in which it is done. ``work`` is a function of a module.
    """
    if jobs == 1:
        with sandbox_for(course_material(course, unit)) as sandbox:
            bench = Bench(course, unit, sandbox, draws)
            yield lambda work, tasks: (work(bench, task) for task in tasks)
        return
    start = (course.root, unit.name, draws)
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_set_up, initargs=start) as pool:

        def side_by_side(work: Callable[..., Any], tasks: Iterable[Any]) -> Iterator[Any]:
            for future in as_completed([pool.submit(_on_a_bench, work, task) for task in tasks]):
                yield future.result()

        try:
            yield side_by_side
        except BrokenProcessPool as error:
            raise CourseError(f"a process that proves {unit.name} was ended; run this again") from error
        finally:
            pool.shutdown(cancel_futures=True)


_bench: list[Bench] = []


def _set_up(root: Path, unit: str, draws: int) -> None:
    course = read_course(root)
    sandbox = sandbox_for(course_material(course, course.unit(unit)))
    atexit.register(sandbox.close)
    _bench[:] = [Bench(course, course.unit(unit), sandbox, draws)]


def _on_a_bench(work: Callable[..., Any], task: Any) -> Any:
    return work(_bench[0], task)


def show_proof(course: Course, units: tuple[Unit, ...], draws: int, console: Console) -> int:
    """Print the table of what was proved and every problem; 0 where there is none, 1 otherwise."""
    table = Table(title="proctor verify", title_justify="left")
    table.add_column("unit", no_wrap=True)
    for kind in KINDS:
        table.add_column(KINDS[kind], justify="right")
    problems: list[Finding] = []
    for unit in units:
        found: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
        with console.status(f"proving {unit.name}"):
            for finding in verify(course, unit, draws, jobs=os.cpu_count() or 1):
                found[finding.kind].append(finding)
        problems += [finding for kind in KINDS for finding in found[kind] if finding.problem]
        row = [f"{sum(not f.problem for f in found[kind])} of {len(found[kind])}" for kind in KINDS]
        table.add_row(unit.name, *row)
    console.print(table)
    for finding in problems:
        console.print(f"✗ {finding.unit}, {finding.kind} {finding.name}", markup=False, style="bold")
        console.print(finding.problem, markup=False)
    console.print(f"{len(problems)} problems; right answers tried on {draws} draws each.", markup=False)
    return 1 if problems else 0
