"""A course of one tiny unit, for tests of the machinery: two exercises, written into a folder of the test's own."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import nbformat

from proctor.course import Course, read_course

ROOT = Path(__file__).parents[1]
UNIT = "01_mini"
ANSWERS = {
    "double": "def double(x):\n    return x * 2",
    "norm": "def norm(x):\n    return double(x).square().sum().sqrt() / 2",
}
TITLES = {"double": "Twice as much", "norm": "The length of a vector"}
CHECKS = '''\
import pytest
import torch

from proctor import expect


@pytest.mark.exercise("double")
class TestDouble:
    @pytest.mark.points(2)
    def test_values(self, student, rng):
        """doubles every entry"""
        x = rng.tensor(*rng.distinct(2))
        got = student.double(x)
        expect.close(got, x + x, mistakes={"the square of the input": x * x}, ask="Which operator doubles?")

    @pytest.mark.needs("test_values")
    def test_unchanged(self, student, rng):
        """leaves its input as it was"""
        x = rng.tensor(3)
        with expect.unchanged(x=x):
            student.double(x)


@pytest.mark.exercise("norm")
class TestNorm:
    @pytest.mark.points(3)
    def test_matches_torch(self, student, rng):
        """agrees with torch.linalg.norm"""
        x = rng.tensor(rng.distinct(1)[0])
        expect.close(student.norm(x), torch.linalg.vector_norm(x), ask="Is there a root?")
'''
EXERCISES = """\
[double]
title = "Twice as much"
difficulty = 1
minutes = 5
hints = ["What is x + x?", "The operator `*`.", "return 2 times x"]

[[double.mistakes]]
name = "squared"
replace = "x * 2"
with = "x * x"
caught_by = "test_values"
says = "the square of the input"

[norm]
title = "The length of a vector"
difficulty = 2
minutes = 5
hints = ["What is the length of (3, 4)?", "`square`, `sum`, `sqrt`.", "root of the sum of squares"]
forbidden = ["torch.linalg", "torch.norm"]
allowed = "Use square, sum and sqrt."
"""
MANIFEST = f'''\
title = "A miniature course"
parts = ["Beginnings"]

[[units]]
name = "{UNIT}"
title = "Mini"
part = "Beginnings"
notebook = "mini"
lesson_minutes = 1
exercise_minutes = 10
'''


def about(**fields: object) -> dict[str, object]:
    """nbgrader's metadata of a cell."""
    plain = {"grade": False, "locked": False, "schema_version": 3, "solution": False, "task": False}
    return {"nbgrader": {**plain, **fields}}


def make_solution() -> nbformat.NotebookNode:
    """The solution notebook of the unit."""
    new = nbformat.v4
    notebook = new.new_notebook()
    setup = "import torch\nfrom proctor import check, hint"
    notebook.cells = [
        new.new_markdown_cell("# Mini", id="intro"),
        new.new_code_cell(setup, id="setup", metadata=about(locked=True, grade_id="setup")),
    ]
    for name, answer in ANSWERS.items():
        header, body = answer.split("\n", 1)
        source = f"{header}\n    ### BEGIN SOLUTION\n{body}\n    ### END SOLUTION"
        points = 3
        notebook.cells += [
            new.new_markdown_cell(f"## {TITLES[name]}", id=f"text-{name}"),
            new.new_code_cell(source, id=name, metadata=about(solution=True, grade_id=name)),
            new.new_code_cell(
                f'check("{name}")',
                id=f"check-{name}",
                metadata=about(grade=True, locked=True, points=points, grade_id=f"check-{name}"),
            ),
        ]
    return notebook


def make_course(root: Path) -> Course:
    """Write the course into a folder, unreleased."""
    (root / "graders" / UNIT).mkdir(parents=True)
    (root / "solutions" / UNIT).mkdir(parents=True)
    (root / "course.toml").write_text(MANIFEST)
    shutil.copy(ROOT / "nbgrader_config.py", root)
    (root / "graders" / UNIT / "test_mini.py").write_text(CHECKS)
    (root / "graders" / UNIT / "exercises.toml").write_text(EXERCISES)
    nbformat.write(make_solution(), root / "solutions" / UNIT / "mini.ipynb")
    return read_course(root)


def make_class(folder: Path, answers: dict[str, dict[str, str]]) -> Course:
    """Write the course into ``folder/course``, release it, and collect what each student hands in, as teachers do."""
    from proctor.grade import course_key
    from proctor.nbgrader import classroom

    course = make_course(folder / "course")
    (folder / "exchange").mkdir()
    (folder / "exchange").chmod(0o777)
    exchange = {
        "Exchange": {"root": str(folder / "exchange"), "cache": str(folder / "cache")},
        "ExchangeCollect": {"check_owner": False},
    }
    teacher = classroom.classroom(course.root, **exchange)
    classroom.release(teacher, course.root, UNIT)
    for name, own in answers.items():
        home = folder / name
        home.mkdir()
        student = classroom.classroom(course.root, **exchange, CourseDirectory={"student_id": name})
        classroom.fetch(student, home, UNIT)
        path = home / UNIT / "mini.ipynb"
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            cell.source = own.get(cell.id, cell.source)
        nbformat.write(notebook, path)
        classroom.submit(student, home, UNIT)
    classroom.collect(teacher, course.root, UNIT)
    course_key(course.root)  # made here, so that every copy of the course draws the same inputs
    return course


_ROWS = {
    "courses": "SELECT id FROM course",
    "students": "SELECT id, first_name, last_name, email FROM student",
    "submissions": "SELECT s.student_id, a.name, s.timestamp, s.extension FROM submitted_assignment s "
    "JOIN assignment a ON a.id = s.assignment_id",
    "notebooks": "SELECT s.student_id, n.name, b.flagged, b.late_submission_penalty FROM submitted_notebook b "
    "JOIN submitted_assignment s ON s.id = b.assignment_id JOIN notebook n ON n.id = b.notebook_id",
    "grades": "SELECT s.student_id, c.name, g.auto_score, g.manual_score, g.extra_credit, g.needs_manual_grade "
    "FROM grade g JOIN base_cell c ON c.id = g.cell_id JOIN submitted_notebook b ON b.id = g.notebook_id "
    "JOIN submitted_assignment s ON s.id = b.assignment_id",
    "comments": "SELECT s.student_id, c.name, k.auto_comment, k.manual_comment "
    "FROM comment k JOIN base_cell c ON c.id = k.cell_id JOIN submitted_notebook b ON b.id = k.notebook_id "
    "JOIN submitted_assignment s ON s.id = b.assignment_id",
}


def gradebook_rows(root: Path) -> dict[str, list[tuple[object, ...]]]:
    """All that the gradebook says about students, with names in the place of its random ids."""
    with closing(sqlite3.connect(root / "gradebook.db")) as connection:
        return {what: sorted(connection.execute(query).fetchall(), key=str) for what, query in _ROWS.items()}


def graded_files(root: Path, *rooms: str) -> dict[str, tuple[int, bytes]]:
    """Every file and folder that grading leaves (hidden ones, too), with its permissions and its content."""
    return {
        path.relative_to(root).as_posix(): (
            path.lstat().st_mode,
            path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for room in rooms or ("autograded", "feedback")
        for path in sorted((root / room).rglob("*"))
    }
