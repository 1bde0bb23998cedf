"""A class's results as files for other programs: a table for spreadsheets, and Gradescope's form.

Spreadsheets take a cell that begins like a formula for one, and whoever names a student chooses how it begins: such
cells get an apostrophe, which spreadsheets take for "this is text".
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from proctor.course import CourseError
from proctor.files import write_whole
from proctor.gathered import Learner, State
from proctor.report import MARKS, one_line, points, to_gradescope
from proctor.results import Outcome
from proctor.tally import Tally

LONGEST = 200  # bytes of a file's name
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # also as full-width letters


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula; a number stays one."""
    if not text.lstrip().startswith(FORMULA) and not text.startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def class_csv(tally: Tally) -> bytes:
    """A row for every learner: who, how far, what counts, and each exercise with its points and how it ended."""
    file = io.StringIO(newline="")
    table = csv.writer(file)
    names = [exercise.name for exercise in tally.exercises]
    head = ["student", "last_name", "first_name", "state", "handed_in", "score", "max_score", "late_penalty"]
    head += [
        "changed_by_hand",
        *(f"{name}{suffix}" for name in names for suffix in ("", "_outcome")),
        "for_a_person",
    ]
    table.writerow(head)
    matters: dict[str, list[str]] = {}
    for matter in tally.matters:
        matters.setdefault(matter.learner, []).append(one_line(f"{matter.what}: {matter.says}", 500))
    for learner in tally.learners:
        said = "; ".join(matters.get(learner.name, ()))
        table.writerow([harmless(cell) for cell in (*_row(learner, names), said)])
    return file.getvalue().encode("utf-8-sig")  # without the mark, Excel reads umlauts as something else


def _row(learner: Learner, names: list[str]) -> Iterator[str]:
    mark, verdict = learner.mark, learner.verdict
    yield from (one_line(text) for text in (learner.name, mark.last_name, mark.first_name))
    yield learner.state.value
    yield f"{mark.handed_in:%Y-%m-%d %H:%M:%S}" if mark.handed_in else ""
    if verdict is None:
        yield from ("", "", "", "", *("" for _ in names for _ in range(2)))
    else:
        final = (
            points(mark.counted) if learner.state is State.FINAL else ""
        )  # what waits for a person is no zero
        yield from (final, points(mark.max_score or verdict.max_score), points(mark.penalty))
        yield "yes" if mark.by_hand else "no"
        found = {result.name: result for result in verdict.exercises}
        for name in names:
            result = found.get(name)
            open_ = not result or (result.outcome is Outcome.GRADER_ERROR and not mark.by_hand)
            yield "" if open_ else points(learner.points.get(name, result.score))
            yield MARKS[result.outcome][1] if result else ""


def gradescope_files(tally: Tally) -> dict[str, bytes]:
    """Gradescope's ``results.json`` of everybody with a final score, by the file's name.

    The score is the one that counts in the gradebook.
    """
    files = {}
    for learner in tally.learners:
        if learner.verdict is None or learner.state is not State.FINAL:
            continue
        result = to_gradescope(learner.verdict)
        result["output"] = "\n".join(filter(None, (result["output"], *_changed(learner, result))))
        result["score"] = learner.mark.counted if learner.points else result["score"]
        files[f"{_file_name(learner.name)}.json"] = (
            msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"
        )
    return files


def _file_name(name: str) -> str:
    """A learner's name as a file's; the name of a folder may be as long as one can be, and then leaves no room."""
    if len(name.encode()) <= LONGEST:
        return name
    return f"{name[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _changed(learner: Learner, result: dict[str, Any]) -> Iterator[str]:
    mark = learner.mark
    if learner.points and mark.counted != result["score"]:
        late = f", {points(mark.penalty)} taken off for being late" if mark.penalty else ""
        by_hand = ", points changed by a teacher" if mark.by_hand else ""
        yield f"In the gradebook: {points(mark.counted)} of {points(mark.max_score)} points{by_hand}{late}."


def check_folder(folder: Path) -> None:
    """Refuse a place where no folder can be. Raises CourseError."""
    if folder.exists() and not folder.is_dir():
        raise CourseError(f"{folder} is not a folder; name one that is, or one that is new")
    if not folder.absolute().parent.is_dir():
        raise CourseError(f"there is no folder {folder.parent} to put {folder.name} into; make it first")


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder, each whole or not at all. Raises CourseError, OSError."""
    check_folder(folder)
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        write_whole(folder / name, content)
