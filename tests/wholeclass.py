"""A class for the teacher's view: submissions of one unit as a class hands them in, always the same ones.

Most answers are right or untouched, the others make the known mistakes of ``exercises.toml``, weaker learners more of
them; one has been copied and renamed. Some notebooks are damaged, and some learners are named to harm.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat

from proctor.course import Course, Unit
from proctor.demo import Class

HOSTILE = (
    "=HYPERLINK(1,2)",
    "<script>alert(1)<",
    "{{ 7*7 }}\" onload='x'",
    "+cmd|' ",
    "bela\u202egnp",
)
CRASH = "raise RuntimeError('<img src=x onerror=alert(1)> SECRET-OF-MINE')"
OWN = """\
def attention_weights(scores, mask=None):
    filled = torch.zeros_like(scores)
    for place in itertools.product(*[range(size) for size in scores.shape[:-1]]):
        row = [float(number) for number in scores[place].detach().tolist()]
        keys = list(range(len(row)))
        if mask is not None:
            own = mask.expand(scores.shape)[place].tolist()
            keys = [key for key, yes in zip(keys, own) if yes is True or (yes is not False and yes > float("-inf"))]
            row = [number + (0.0 if isinstance(yes, bool) else yes) for number, yes in zip(row, own)]
        if not keys:
            continue
        highest = max(row[key] for key in keys)
        powers = {key: math.exp(row[key] - highest) for key in keys}
        total = math.fsum(powers.values())
        for key, power in powers.items():
            filled[(*place, key)] = power / total
    return filled"""
DAMAGED = '{"cells": [}'
WHEN = "2026-11-02 10:{:02}:00.000000 UTC"


def work_of(room: Class, count: int, seed: int = 8) -> Iterator[tuple[str, dict[str, str] | str]]:
    """What each of a class hands in: a name, and answers by exercise, or the text of a damaged notebook."""
    random_ = random.Random(seed)
    names = list(room.answers)
    styles = [_answers_of(path) for path in sorted((room.graders / "accepted").glob("*.py"))]
    for number in range(count):
        student = HOSTILE[number] if number < len(HOSTILE) else f"learner-{number:04}"
        if number % 40 == 17:
            yield student, DAMAGED
            continue
        skill, done = random_.betavariate(4, 1.6), random_.random()
        answers = {}
        for place, name in enumerate(names):
            if number % 30 == 11 or place / len(names) > done + 0.5:
                continue  # nothing at all, or not that far
            answers[name] = room.answers[name]
            own = [style[name] for style in styles if name in style]
            if random_.random() < 0.4 and own:
                answers[name] = random_.choice(own)
            mistakes = room.exercises[name].mistakes
            if random_.random() > skill and mistakes:
                # Some mistakes are made by many, most by few.
                mistake = mistakes[min(int(random_.expovariate(0.35)), len(mistakes) - 1)]
                answers[name] = mistake.applied_to(room.answers[name])
        if number in (20, 61, 142) and "attention_weights" in room.answers:
            answers["attention_weights"] = (
                f"import itertools\n{OWN}" if number == 20 else renamed(OWN, number)
            )
        if number % 25 == 5 and names[0] in answers:
            lines = room.answers[names[0]].splitlines()
            body = next(i for i, line in enumerate(lines, 1) if line.endswith(":"))
            answers[names[0]] = "\n".join([*lines[:body], f"    {CRASH}"])
        yield student, answers


def renamed(answer: str, number: int) -> str:
    """An answer as somebody hands it in who has copied it: other names, other layout, a comment of their own."""
    names = {
        "filled": "out",
        "place": "idx",
        "row": "line",
        "keys": "ok",
        "own": "m",
        "highest": "top",
        "powers": "e",
    }
    for old, new in names.items():
        answer = re.sub(rf"\b{old}\b", f"{new}_{number}", answer)
    return f"import itertools\n\n# my own idea\n{answer.replace('    ', '  ')}"


def hand_in(
    root: Path, unit: Unit, release: Path, student: str, work: dict[str, str] | str, minute: int = 0
) -> None:
    """Put a submission where collecting puts it."""
    folder = root / "submitted" / student / unit.name
    folder.mkdir(parents=True)
    path = folder / f"{unit.notebook}.ipynb"
    if isinstance(work, str):
        path.write_text(work)
    else:
        notebook = nbformat.read(release, as_version=4)
        for cell in notebook.cells:
            about = cell.metadata.get("nbgrader", {})
            if about.get("solution") and about["grade_id"] in work:
                cell.source = work[about["grade_id"]]
        nbformat.write(notebook, path)
    (folder / "timestamp.txt").write_text(WHEN.format(minute % 60))


def make_whole_class(course: Course, unit: Unit, folder: Path, count: int) -> Course:
    """A course folder with a unit of ``course`` released, and so many submissions collected."""
    from proctor.nbgrader.classroom import release_all

    room = Class(course, unit, folder)
    release_all(room.root, [unit.name])
    copied = Course(root=room.root, title=course.title, parts=course.parts, units=(unit,))
    for number, (student, work) in enumerate(work_of(room, count)):
        hand_in(room.root, unit, copied.release(unit), student, work, number)
    return copied


def _answers_of(path: Path) -> dict[str, str]:
    """The answers of an accepted style that need nothing but themselves."""
    text = path.read_text()
    lines, tree = text.splitlines(), ast.parse(text)
    return {
        node.name: "\n".join(
            [
                *(lines[n.lineno - 1] for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)),
                "",
                *lines[node.lineno - 1 : node.end_lineno],
            ]
        )
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
