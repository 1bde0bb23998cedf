"""What this machine offers for running other people's code, and the repair of a damaged notebook."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from rich.console import Console

from proctor import walls
from proctor.course import CourseError, find_course
from proctor.grade import released_notebook
from proctor.learn import material_for
from proctor.rebuild import repair
from proctor.sandbox import Sandbox, SandboxError
from proctor.walls import Level


def examine(console: Console) -> int:
    """Print how student code would be kept apart here, and whether the course is whole; 0 if it is usable."""
    sound = True

    def say(ok: bool, text: str) -> None:
        nonlocal sound
        sound = sound and ok
        console.print(f"{'✓' if ok else '✗'} {text}", markup=False)

    say(sys.version_info >= (3, 11), f"Python {platform.python_version()} (3.11 or newer is needed)")
    try:
        course = find_course()
        missing = [unit.name for unit in course.units if not course.release(unit).is_file()]
        released = f"{len(course.units) - len(missing)} of {len(course.units)} units released"
        say(not missing, f"course at {course.root}: {released}" + (", run `make sync`" if missing else ""))
    except CourseError as error:
        say(False, str(error))
    level = walls.best()
    try:
        with Sandbox(level=level) as sandbox, sandbox.submission():
            say(True, "student code runs in a process of its own, with limits, behind the data-only wire")
    except SandboxError as error:
        say(False, str(error))
    say(level.isolated, f"isolation level {len(Level) - level} of {len(Level)}: {level.described}")
    for better in sorted(Level, reverse=True):
        if better > level:
            console.print(f"    not {better.name.lower()}: {walls.obstacle(better)}", markup=False)
    if advice := walls.advice():
        console.print(f"    to raise it: {advice}", markup=False)
    if not level.isolated:
        text = "your own work can be checked; grading other people's is refused, unless --trust-submissions is given"
        console.print(f"    {text}", markup=False)
    return 0 if sound else 1


def repair_notebook(path: Path) -> list[str]:
    """Rebuild a notebook from its release, with the learner's code in it; the old one is kept beside it."""
    if not path.exists():
        raise CourseError(f"{path} is missing; check the name, or get a new copy with `proctor start`")
    material = material_for(path)
    notes = repair(path, released_notebook(material), unit=material.unit)
    return (
        [*notes, f"{path.name} is whole again."] if notes else [f"{path.name} is whole; nothing was changed."]
    )
