"""The learner's side of the command line: starting, checking, hints, progress, JupyterLab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proctor.course import Course, CourseError, Unit, find_course, read_release
from proctor.grade import (
    Material,
    course_material,
    grade_notebook,
    released_material,
    released_notebook,
    sandbox_for,
)
from proctor.learner import next_hints
from proctor.report import points
from proctor.results import Outcome, Verdict
from proctor.tables import unknown


def start_unit(course: Course, unit: Unit) -> tuple[bool, Path]:
    """Copy a unit's exercise into my-work/, unless it is there; whether it is new, and the notebook."""
    work = course.work(unit)
    if work.parent.exists():
        return False, work
    release = course.release(unit).parent
    released_notebook(course_material(course, unit))  # a course that is not whole is told now
    work.parent.parent.mkdir(exist_ok=True)
    half = work.parent.with_name(f".{unit.name}.{os.getpid()}")
    try:
        shutil.copytree(release, half, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        half.rename(work.parent)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return True, work


def reset_unit(course: Course, unit: Unit) -> tuple[Path, Path | None]:
    """Put a fresh copy into my-work/; returns the notebook, and where the old folder went, if there was one."""
    folder = course.work(unit).parent
    released_notebook(course_material(course, unit))  # what cannot be put there is told before anything moves
    kept = None
    if folder.exists():
        kept = folder.with_name(f"{unit.name}.{time.strftime('%Y-%m-%d-%H%M%S')}")
        number = 1
        while kept.exists():
            number += 1
            kept = kept.with_name(f"{kept.name.split('~')[0]}~{number}")
        folder.rename(kept)
    return start_unit(course, unit)[1], kept


def check_notebook(path: Path, exercise: str | None = None) -> Verdict:
    """Check a notebook on the practice inputs, in a process of its own. Raises CourseError, NotebookError."""
    from proctor.notebook import read_untrusted

    read_untrusted(path)  # what cannot be read is told before anything starts
    material = material_for(path)
    if exercise is not None and exercise not in material.titles:
        raise unknown(f"unit {material.unit} has no exercise", exercise, list(material.titles))
    with sandbox_for(material) as sandbox:
        verdict = grade_notebook(material, path, sandbox, exercise=exercise).verdict
    if verdict.problem:
        raise CourseError(verdict.problem)
    return verdict


def material_for(path: Path) -> Material:
    """What checks a learner's notebook: what lies beside it, or the release of the unit its folder is named for."""
    folder = path.resolve().parent
    if (folder / "checks" / "unit.json").is_file():
        released = released_material(folder)
        if released.notebook.exists():
            try:
                course = find_course(folder)
                return course_material(course, course.unit(released.unit))
            except CourseError:
                return released
    course = find_course(folder)
    return course_material(course, course.unit(folder.name))


def hints_for(course: Course, unit: Unit, exercise: str) -> list[str]:
    """The hints seen so far and the next one; the ladder is remembered in the learner's folder."""
    work = course.work(unit).parent
    release = read_release(course.release(unit).parent)
    if not work.is_dir():
        work = course.root / ".proctor" / "hints" / unit.name
        with suppress(OSError):  # then it is forgotten how far one has climbed, and no more
            work.mkdir(mode=0o700, parents=True, exist_ok=True)
    return next_hints(release, exercise, work)


def show_progress(course: Course, console: Console) -> None:
    """Print the map of the course: every unit, done, begun or untouched, with its points."""
    table = Table(title=course.title, title_justify="left")
    for column in ("", "unit", "exercises", "points"):
        table.add_column(column, justify="right" if column == "points" else "left")
    earned = at_stake = 0.0
    for part in course.parts:
        units = [unit for unit in course.units if unit.part == part]
        if units:
            table.add_row("", f"[bold]{escape(part)}[/bold]", "", "")
        for unit in units:
            state, shown, score, most = _standing(course, unit)
            earned, at_stake = earned + score, at_stake + most
            table.add_row(
                state, f"{unit.name}  {escape(unit.title)}", shown, f"{points(score)} of {points(most)}"
            )
    console.print(table)
    console.print(
        f"✓ done  ◐ begun  ○ untouched      {points(earned)} of {points(at_stake)} points", markup=False
    )


def _standing(course: Course, unit: Unit) -> tuple[str, str, float, float]:
    """A unit on the map: its mark, that of its exercises, points earned and at stake."""
    from proctor.notebook import NotebookError

    if not course.release(unit).is_file():
        return "○", "not released", 0.0, 0.0
    most = sum(course_material(course, unit).points.values())
    work = course.work(unit)
    if not work.is_file():
        return "○", "not started", 0.0, most
    try:
        verdict = check_notebook(work)
    except (CourseError, NotebookError) as error:  # one damaged notebook does not hide the others
        return "!", escape(str(error)), 0.0, most
    marks = {Outcome.PASSED: "✓", Outcome.NOT_ATTEMPTED: "○"}
    shown = " ".join(marks.get(result.outcome, "◐") for result in verdict.exercises)
    return "✓" if verdict.passed else "◐" if verdict.score else "○", shown, verdict.score, most


def open_lab(course: Course) -> None:
    """Start JupyterLab on the course, in front; ends with it."""
    for unit in course.units:
        start_unit(course, unit)
    first = course.units[0]
    arguments = [
        f"--ServerApp.root_dir={course.root}",
        f"--LabApp.default_url=/lab/tree/lessons/{first.name}.ipynb",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")
    # Our settings switch Jupyter's announcements off: they look on the network, and open with a question about news.
    ours = {"PATH": Path(sys.executable).parent, "JUPYTER_CONFIG_PATH": Path(__file__).parent / "jupyter"}
    environment = dict(os.environ)
    for name, folder in ours.items():
        environment[name] = os.pathsep.join(filter(None, (str(folder), environment.get(name))))
    command = [sys.executable, "-m", "jupyterlab", *arguments]
    with subprocess.Popen(command, env=environment, cwd=course.root) as server:
        while True:
            with suppress(KeyboardInterrupt):  # the server answers Ctrl-C: it asks, and ends its kernels
                raise SystemExit(server.wait())
