"""A class for benchmarks: submissions of one unit, mixed as a real class mixes them, always the same ones."""

from __future__ import annotations

import ast
import itertools
import random
import shutil
from pathlib import Path

import nbformat
from measure import run

from proctor.course import Course, Unit, find_course, read_release
from proctor.demo import Class

WHEN = "2026-11-02 10:00:00.000000 UTC"
FULL, MISTAKEN, HALF, EMPTY = 10, 10, 3, 1  # of thirty; the other six write in another accepted style
Answers = dict[str, str]


def thirty(room: Class) -> list[tuple[str, Answers, str]]:
    """What thirty students hand in: a kind, the answers by exercise, and a cell of their own."""
    names = list(room.answers)
    every = [(name, mistake) for name in names for mistake in room.exercises[name].mistakes]
    # One mistake of each exercise in turn, so that all exercises are among the first ten.
    turns = itertools.zip_longest(*([m for m in every if m[0] == name] for name in names))
    mistakes = [mistake for turn in turns for mistake in turn if mistake is not None]
    class_ = [("all right", room.answers, "")] * FULL
    for name, mistake in mistakes[:MISTAKEN]:
        class_.append(
            (
                f"{name}: {mistake.name}",
                {**room.answers, name: mistake.applied_to(room.answers[name])},
                "",
            )
        )
    for done in range(1, HALF + 1):
        half = names[: len(names) * done // (HALF + 1)]
        class_.append(("half done", {name: room.answers[name] for name in half}, ""))
    class_ += [("untouched", {}, "")] * EMPTY
    styles = itertools.cycle(sorted((room.graders / "accepted").glob("*.py")))
    while len(class_) < 30:
        class_.append(in_style(room, next(styles)))
    random.Random(8).shuffle(class_)
    return class_


def in_style(room: Class, path: Path) -> tuple[str, Answers, str]:
    """The answers of an accepted style, and what it defines besides."""
    lines = path.read_text().splitlines()
    own, first = {}, len(lines)
    for node in ast.parse("\n".join(lines)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min(first, node.lineno - 1)
            own[node.name] = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    answers = {name: own.pop(name, answer) for name, answer in room.answers.items()}
    return f"style {path.stem}", answers, "\n\n".join(["\n".join(lines[:first]).strip(), *own.values()])


def hand_in(
    root: Path, unit: Unit, release: Path, class_: list[tuple[str, Answers, str]], count: int
) -> None:
    """Put submissions where collecting puts them, made from a released notebook; the class again and again."""
    for number, (_, answers, extra) in zip(range(count), itertools.cycle(class_), strict=False):
        notebook = nbformat.read(release, as_version=4)
        for cell in notebook.cells:
            about = cell.metadata.get("nbgrader", {})
            if about.get("solution") and about["grade_id"] in answers:
                cell.source = answers[about["grade_id"]]
        if extra:
            notebook.cells.insert(2, nbformat.v4.new_code_cell(extra, id="my-own"))
        folder = root / "submitted" / f"student-{number:04}" / unit.name
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{unit.notebook}.ipynb")
        (folder / "timestamp.txt").write_text(WHEN)
        (folder / "submission_secret.txt").write_text(f"secret-{number}")


class Classes:
    """Course folders to grade in: ours, and one for nbgrader as it comes; each run gets a copy of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        from proctor.grade import course_key
        from proctor.nbgrader.classroom import release_all

        course = find_course()
        self.unit = course.unit(name)
        self.folder = folder
        self.room = Class(course, self.unit, folder / "ours")
        self.course = Course(root=self.room.root, title=course.title, parts=course.parts, units=(self.unit,))
        self._numbers = itertools.count()
        release_all(self.room.root, [self.unit.name])
        course_key(self.room.root)  # the same for all copies: the same inputs
        self.class_ = thirty(self.room)

    def ours(self, count: int, class_: list[tuple[str, Answers, str]] | None = None) -> Path:
        """A new course folder with so many submissions, configured as this course is."""
        root = self.folder / f"run{next(self._numbers)}"
        shutil.copytree(self.room.root, root)
        release = self.course.release(self.unit)
        hand_in(root, self.unit, release, class_ or self.class_, count)
        return root

    def stock(self, submissions: range) -> Path:
        """A new course folder for nbgrader as it comes: the released notebook, and the checks beside it."""
        root, plain = self.folder / f"run{next(self._numbers)}", self.folder / "stock"
        if not plain.exists():
            source = plain / "source" / self.unit.name
            shutil.copytree(self.course.solution(self.unit).parent, source)
            shutil.copytree(self.course.release(self.unit).parent / "checks", source / "checks")
            settings = "c = get_config()\nc.CourseDirectory.course_id = 'stock'\n"
            (plain / "nbgrader_config.py").write_text(settings)
            run(["nbgrader", "generate_assignment", self.unit.name], plain)
        shutil.copytree(plain, root)
        release = plain / "release" / self.unit.name / f"{self.unit.notebook}.ipynb"
        hand_in(root, self.unit, release, self.class_, submissions.stop)
        for number in range(submissions.start):
            shutil.rmtree(root / "submitted" / f"student-{number:04}")
        return root

    def known(self) -> dict[str, float]:
        """The scores that are known beforehand: of right answers in every style, and of none."""
        exercises = read_release(self.course.release(self.unit).parent).exercises
        full = sum(exercise.points for exercise in exercises)
        return {
            f"student-{number:04}": 0.0 if kind == "untouched" else full
            for number, (kind, *_) in enumerate(self.class_)
            if kind in ("all right", "untouched") or kind.startswith("style ")
        }


def forget(root: Path) -> None:
    """Remove a course folder that has served."""
    shutil.rmtree(root)


def finished(root: Path, unit: Unit, kind: str) -> list[float]:
    """When each submission of a run was graded (``autograded``), or its page written (``feedback``)."""
    paths = root.glob(f"{kind}/*/{unit.name}/{unit.notebook}.*")
    return sorted(path.stat().st_mtime for path in paths)
