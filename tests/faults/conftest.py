"""A class, what an undisturbed run leaves of it, and copies of both to be disturbed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from faults.room import CLASS, Grader, Left, grade, left
from minicourse import UNIT, make_class
from proctor import classwork
from proctor.course import read_course


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The class, collected and not graded."""
    return make_class(tmp_path_factory.mktemp("class"), CLASS).root


@pytest.fixture(scope="session")
def graded(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The class after a run that nothing has disturbed."""
    root = shutil.copytree(collected, tmp_path_factory.mktemp("graded") / "course")
    assert grade(root) == []
    return root


@pytest.fixture(scope="session")
def undisturbed(graded: Path) -> Left:
    """What that run has left."""
    return left(graded)


@pytest.fixture
def root(collected: Path, tmp_path: Path) -> Path:
    """A copy of the class to be disturbed."""
    return shutil.copytree(collected, tmp_path / "course")


@pytest.fixture
def remembered(root: Path, graded: Path) -> Path:
    """A copy with all verdicts kept and none in the gradebook, as after a run that ended before it saved any."""
    shutil.copytree(graded / ".proctor" / "verdicts", root / ".proctor" / "verdicts")
    return root


@pytest.fixture
def grader(graded: Path, monkeypatch: pytest.MonkeyPatch) -> Grader:
    """A grader that knows all verdicts of the class, and takes down whom it was asked about."""
    course = read_course(graded)
    kept = classwork.Verdicts(
        graded, classwork.course_material(course, course.unit(UNIT)), classwork.course_key(graded)
    )
    grader = Grader()
    for name in CLASS:
        content = (graded / "submitted" / name / UNIT / "mini.ipynb").read_bytes()
        grader.verdicts[content] = kept.get(kept.name_of(name, content))
    monkeypatch.setattr(classwork, "Pool", lambda jobs: grader)
    return grader
