"""What a learner's notebook calls: ``check("causal_mask")`` and ``hint("causal_mask")``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from proctor.course import CourseError, ReleasedUnit, find_course, read_release


class Score(float):
    """The points of one exercise: prints as a plain number, which is what nbgrader reads; shows as the rubric."""

    html = ""

    def _repr_html_(self) -> str | None:
        return self.html or None


def check(exercise: str) -> Score:
    """Check one exercise of this notebook, show its rubric, and return the points earned.

    Raises CourseError where there is no such exercise, or no checks lie beside the notebook.
    """
    if os.environ.get("PROCTOR_GRADING"):
        return Score(0.0)  # in grading the scoring happens elsewhere, and not on this one's word
    from proctor.checks import Door, run_checks
    from proctor.grade import released_material
    from proctor.remote import Local
    from proctor.report import rubric_html, rubric_text
    from proctor.shortcuts import find_shortcut

    namespace, history = _notebook()
    folder = release_folder()
    read_release(folder).exercise(exercise)  # an unknown name is told before anything runs
    material = released_material(folder)

    def shortcut(name: str) -> str:
        return find_shortcut(history, name, material.forbidden[name], material.allowed[name])

    local = Local(namespace)
    [result] = run_checks(
        material.checks, Door(lambda _: local, shortcut=shortcut), material.titles, exercise
    )
    score = Score(result.score)
    if _shows_html():
        score.html = rubric_html(result)
    else:
        print(rubric_text(result))
    return score


def hint(exercise: str) -> None:
    """Show one more hint for an exercise: a question, then the tool, then the way in pseudocode."""
    folder = release_folder()
    unit = read_release(folder)
    for line in next_hints(unit, exercise, folder):
        print(line)


def next_hints(unit: ReleasedUnit, exercise: str, folder: Path) -> list[str]:
    """The hints seen so far and one more; how far somebody has climbed is kept in the folder of the exercise."""
    hints = unit.exercise(exercise).hints
    path = folder / ".hints.json"
    try:
        climbed = json.loads(path.read_text())
        rung = int(climbed.get(exercise, 0))
    except (OSError, ValueError, TypeError, AttributeError):
        climbed, rung = {}, 0
    rung = max(0, min(rung + 1, len(hints)))
    if not isinstance(climbed, dict):
        climbed = {}
    new = path.with_name(f".hints.{os.getpid()}")
    try:
        new.write_text(json.dumps({**climbed, exercise: rung}))
        new.replace(path)
    except OSError:
        pass  # a folder that cannot be written to forgets how far one has climbed, and no more
    lines = [f"Hint {i} of {len(hints)}: {text}" for i, text in enumerate(hints[:rung], 1)]
    return lines or [f"There is no hint for {exercise}."]


def release_folder(start: Path | None = None) -> Path:
    """The folder of the released exercise: this one, or, in a course, that of the notebook's unit.

    Raises CourseError.
    """
    here = start or Path.cwd()
    if (here / "checks" / "unit.json").is_file():
        return here
    try:
        course = find_course(here)
        return course.release(course.unit(here.resolve().name)).parent
    except CourseError:
        raise CourseError(
            "There are no checks beside this notebook: keep it in the folder it came in, next to `checks`, "
            "or get a new copy with `proctor start`."
        ) from None


def _notebook() -> tuple[dict[str, Any], list[str]]:
    """The learner's names, and the cells that have been run in this session."""
    try:
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
    except ImportError:
        shell = None
    if shell is not None:
        return shell.user_ns, [str(source) for source in shell.user_ns.get("In", [])]
    main = vars(sys.modules["__main__"])
    path = Path(str(main.get("__file__", "")))
    return main, [path.read_text()] if path.is_file() else []


def _shows_html() -> bool:
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return False
    return get_ipython() is not None and get_ipython().__class__.__name__ == "ZMQInteractiveShell"
