"""Kept verdicts: found by everything that they depend on, by nobody else's, and by nothing else."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minicourse import UNIT, make_course
from proctor import cache
from proctor.author import sync
from proctor.cache import Verdicts
from proctor.course import Course, read_course
from proctor.grade import Graded, Material, course_material
from proctor.results import CheckResult, ExerciseResult, Outcome, Verdict

KEY = bytes(range(32))
OUTPUTS = {"a": [{"output_type": "display_data", "data": {"text/plain": "π\n"}, "metadata": {}}]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Course:
    course = make_course(tmp_path_factory.mktemp("cache") / "course")
    sync(course)
    return course


@pytest.fixture
def course(made: Course, tmp_path: Path) -> Course:
    course = read_course(shutil.copytree(made.root, tmp_path / "course"))
    (course.root / ".proctor").mkdir(mode=0o700)
    return course


def material(course: Course) -> Material:
    return course_material(course, course.unit(UNIT))


def opened(course: Course, key: bytes = KEY) -> Verdicts:
    return Verdicts(course.root, material(course), key)


def graded(outcome: Outcome = Outcome.PASSED, **fields: Any) -> Graded:
    check = CheckResult(name="test", title="a ‹title›", points=2, outcome=outcome, message="line\nline")
    result = ExerciseResult(name="double", title="Twice", checks=(check,))
    return Graded(
        verdict=Verdict(unit=UNIT, exercises=(result,), notes=("mended",)), outputs=OUTPUTS, **fields
    )


def test_what_is_put_is_got_by_the_next_run(course: Course) -> None:
    first = opened(course)
    name = first.name_of("ada", b"notebook")
    assert first.get(name) is None
    first.put(name, graded())
    assert opened(course).get(name) == graded()
    folder = course.root / ".proctor" / "verdicts"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / UNIT)] == [0o700, 0o700]
    assert stat.S_IMODE((folder / UNIT / name).stat().st_mode) == 0o600
    assert KEY.hex() not in (folder / UNIT / name).read_text()


def test_failed_checks_are_kept_but_nothing_that_a_regrade_may_mend(course: Course) -> None:
    verdicts = opened(course)
    none = Graded(verdict=Verdict(unit=UNIT, exercises=()))
    problem = Graded(verdict=replace(graded().verdict, problem="a person must look"))
    for number, each in enumerate(
        (none, problem, graded(Outcome.GRADER_ERROR), graded(undisturbed=False), graded(Outcome.FAILED))
    ):
        verdicts.put(str(number), each)
    assert [verdicts.get(str(number)) is not None for number in range(5)] == [False] * 4 + [True]


def edit(path: Path) -> Callable[[Course], None]:
    def change(course: Course) -> None:
        file = course.root / path
        file.parent.mkdir(exist_ok=True)
        file.write_text((file.read_text() if file.exists() else "") + "\n")

    return change


MATTERS: dict[str, Callable[[Course], None]] = {
    "a check": edit(Path("graders", UNIT, "test_mini.py")),
    "a private check": edit(Path("graders", UNIT, "private", "test_more.py")),
    "data of the checks": edit(Path("graders", UNIT, "data.csv")),
    "the exercises": edit(Path("graders", UNIT, "exercises.toml")),
    "the release": edit(Path("exercises", UNIT, "mini.ipynb")),
}


@pytest.mark.parametrize("what", MATTERS)
def test_a_change_of_the_course_is_another_verdict(what: str, course: Course) -> None:
    before = opened(course).name_of("ada", b"notebook")
    MATTERS[what](course)
    assert opened(course).name_of("ada", b"notebook") != before


def test_so_is_another_student_notebook_key_library_or_environment(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [
        opened(course).name_of("ada", b"notebook"),
        opened(course).name_of("ad", b"anotebook"),
        opened(course).name_of("bela", b"notebook"),
        opened(course).name_of("ada", b"notebook "),
        opened(course, bytes(32)).name_of("ada", b"notebook"),
    ]
    monkeypatch.setattr(cache, "library_digest", lambda: b"another library")
    names.append(opened(course).name_of("ada", b"notebook"))
    monkeypatch.setattr(cache, "environment_digest", lambda: b"another torch")
    names.append(opened(course).name_of("ada", b"notebook"))
    assert len(set(names)) == len(names)


def test_what_no_verdict_depends_on_changes_nothing(course: Course) -> None:
    before = opened(course).name_of("ada", b"notebook")
    for path in ("accepted/other.py", "__pycache__/x.py", "private/__pycache__/y.pyc", "z.pyc"):
        file = course.graders(UNIT) / path
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text("1")
    for file in course.root.rglob("*"):
        os.utime(file, (1, 1))
    assert opened(course).name_of("ada", b"notebook") == before


def test_the_library_and_what_is_installed_are_told_by_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache.environment_digest()
    (tmp_path / "torch-99.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    cache.environment_digest.cache_clear()
    assert cache.environment_digest() != before
    cache.environment_digest.cache_clear()
    assert len(cache.library_digest()) == 32


def test_what_no_run_asks_for_any_more_is_removed(course: Course) -> None:
    first = opened(course)
    names = [first.name_of("ada", content) for content in (b"old", b"new")]
    for name in names:
        first.put(name, graded())
    folder = course.root / ".proctor" / "verdicts" / UNIT
    (folder / ".new-abc").write_text("half")
    second = opened(course)
    second.get(names[1])
    second.prune()
    assert [path.name for path in folder.iterdir()] == [names[1]]
