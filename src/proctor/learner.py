"""What a learner's notebook calls: ``check("causal_mask")`` and ``hint("causal_mask")``."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

from proctor.course import CourseError, ReleasedUnit, find_course, read_release

WIDTH = 88  # columns of a hint that is shown as plain text


class Score(float):
    """The points of one exercise: prints as a plain number, which is what nbgrader reads; shows as the rubric."""

    html = ""

    def _repr_html_(self) -> str | None:
        return self.html or None


class NotChecked(CourseError):
    """Why nothing could be checked; a notebook shows the sentence, and no traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def check(exercise: str) -> Score:
    """Check one exercise of this notebook, show its rubric, and return the points earned.

    Raises CourseError where there is no such exercise, or no checks lie beside the notebook.
    """
    try:
        return _check(_name(exercise))
    except CourseError as error:
        raise NotChecked(str(error)) from None


def hint(exercise: str) -> None:
    """Show one more hint for an exercise: a question, then the tool, then the way in pseudocode.

    Raises CourseError where there is no such exercise, or no hints lie beside the notebook.
    """
    try:
        folder = release_folder()
        lines = next_hints(read_release(folder), _name(exercise), folder)
    except CourseError as error:
        raise NotChecked(str(error)) from None
    print("\n".join(lines))


def _name(exercise: Any) -> str:
    """The name of an exercise, also where the answer itself was given: ``check(causal_mask)``."""
    return exercise if isinstance(exercise, str) else str(getattr(exercise, "__name__", exercise))


def _check(exercise: str) -> Score:
    if os.environ.get("PROCTOR_GRADING"):
        return Score(0.0)  # in grading the scoring happens elsewhere, and not on this one's word
    from proctor.checks import Door, run_checks
    from proctor.grade import released_material
    from proctor.remote import Local
    from proctor.report import rubric_html, rubric_text
    from proctor.shortcuts import find_shortcut

    namespace, history = _notebook()
    folder = release_folder()
    read_release(folder).exercise(exercise)  # raises CourseError before anything runs
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


def next_hints(unit: ReleasedUnit, exercise: str, folder: Path) -> list[str]:
    """The hints seen so far and one more; how far somebody has climbed is kept in the folder of the exercise."""
    hints = unit.exercise(exercise).hints
    path = folder / ".hints.json"
    try:
        climbed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        climbed = {}
    climbed = {k: n for k, n in climbed.items() if type(n) is int} if isinstance(climbed, dict) else {}
    climbed[exercise] = rung = min(max(0, climbed.get(exercise, 0)) + 1, len(hints))
    new = path.with_name(f".hints.{os.getpid()}")
    try:
        new.write_text(json.dumps(climbed), encoding="utf-8")
        new.replace(path)
    except OSError:  # a folder that cannot be written to forgets how far one has climbed, and no more
        with suppress(OSError):
            new.unlink()
    lines = [_wrapped(f"Hint {i} of {len(hints)}:", text) for i, text in enumerate(hints[:rung], 1)]
    return lines or [f"There is no hint for {exercise}."]


def _wrapped(title: str, text: str) -> str:
    """A hint in lines that fit; pseudocode keeps its lines and their margins, and stands below its title."""
    if "\n" not in text.strip():
        return textwrap.fill(f"{title} {text.strip()}", WIDTH, break_long_words=False, break_on_hyphens=False)
    lines = [title]
    for line in text.strip("\n").splitlines():
        margin = "    " + line[: len(line) - len(line.lstrip())]
        further = f"{margin}    "
        lines += textwrap.wrap(
            line.strip(), WIDTH, initial_indent=margin, subsequent_indent=further, break_long_words=False
        ) or [""]
    return "\n".join(lines)


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
        return shell.user_ns, [str(source) for source in shell.history_manager.input_hist_parsed]
    main = vars(sys.modules["__main__"])
    path = Path(str(main.get("__file__", "")))
    return main, [path.read_text(encoding="utf-8", errors="replace")] if path.is_file() else []


def _shows_html() -> bool:
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return False
    return get_ipython() is not None and get_ipython().__class__.__name__ == "ZMQInteractiveShell"
