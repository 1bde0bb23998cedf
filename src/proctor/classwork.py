"""The teacher's side of the command line: grading one notebook, or a class."""

from __future__ import annotations

from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from proctor.course import Course, CourseError, Unit
from proctor.grade import Graded, course_material, grade_notebook
from proctor.pool import Job, Pool
from proctor.report import print_rubric, to_gradescope
from proctor.results import Verdict, to_json
from proctor.sandbox import Sandbox


def grade_one(
    course: Course, unit: Unit, path: Path, console: Console, *, json: bool = False, gradescope: bool = False
) -> None:
    """Grade one notebook on the practice inputs and print the result. Raises CourseError, NotebookError."""
    from proctor.notebook import read_untrusted

    read_untrusted(path)
    material = course_material(course, unit)
    with Sandbox(preload=material.preload) as sandbox:
        verdict = grade_notebook(material, path, sandbox).verdict
    if verdict.problem:
        raise CourseError(verdict.problem)
    if gradescope:
        print(msgspec.json.format(msgspec.json.encode(to_gradescope(verdict)), indent=2).decode())
    elif json:
        print(to_json(verdict))
    else:
        for note in verdict.notes:
            console.print(note, markup=False)
        for result in verdict.exercises:
            print_rubric(result, console)
        console.print(f"{verdict.score:g} of {verdict.max_score:g} points", markup=False)


def submissions(course: Course, unit: Unit) -> list[Job]:
    """The collected submissions of a unit, in the order of the students' names."""
    found = sorted(path for path in (course.root / "submitted").glob(f"*/{unit.name}") if path.is_dir())
    if not found:
        raise CourseError(
            f"no submission of {unit.name} has been collected; `nbgrader collect {unit.name}` fetches them"
        )
    return [
        Job(
            root=course.root,
            unit=unit.name,
            student=path.parent.name,
            path=path / f"{unit.notebook}.ipynb",
        )
        for path in found
    ]


def grade_class(
    course: Course, unit: Unit, jobs: int, console: Console, *, feedback: bool = True
) -> dict[str, Verdict]:
    """Grade every collected submission into nbgrader's gradebook; the verdicts by student."""
    from proctor.nbgrader import classroom as nbgrader

    todo = submissions(course, unit)
    graded: dict[str, Graded] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    api = nbgrader.classroom(course.root)
    with Progress(*columns, console=console, transient=True) as progress, Pool(min(jobs, len(todo))) as pool:
        task = progress.add_task(f"grading {unit.name}", total=len(todo))
        for job, result in pool.grade_all(todo):
            graded[job.student] = result
            nbgrader.grade_unit(course.root, unit.name, {job.student: result}, api)
            progress.advance(task)
    if feedback:
        nbgrader.write_feedback(course.root, unit.name, api)
    return {student: graded[student].verdict for student in sorted(graded)}
