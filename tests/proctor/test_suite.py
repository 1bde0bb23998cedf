"""Checks called directly and checks run by pytest: the same results, and nothing left from one run to the next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minicourse import ANSWERS, CHECKS
from proctor.checks import Door, run_checks
from proctor.remote import Local
from proctor.results import ExerciseResult, Outcome
from proctor.suite import plain_checks
from proctor.undisturbed import undisturbed

TITLES = {"double": "Twice as much", "norm": "The length of a vector"}
HEAD = """import pytest, torch
from proctor import expect

made = []

"""
PLAIN = '''@pytest.mark.exercise("double")
class TestDouble:
    def test_it(self, student, rng):
        """doubles"""
        x = rng.tensor(3)
        expect.close(student.double(x), 2 * x)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_it")
    def test_again(self, student):
        """doubles again"""
        expect.close(student.double(torch.ones(2)), torch.full((2,), 2.0))
'''
WITH_PYTEST = {
    "a fixture of its own": (
        "@pytest.fixture\ndef two():\n    return 2\n\n\n"
        + PLAIN.replace("(self, student):", "(self, student, two):")
    ),
    "a set-up": PLAIN.replace(
        "    def test_it", "    def setup_method(self):\n        made.clear()\n\n    def test_it"
    ),
    "a parameter": PLAIN.replace(
        "    @pytest.mark.points(2)", '    @pytest.mark.parametrize("n", [1])\n    @pytest.mark.points(2)'
    ).replace("(self, student):", "(self, student, n):"),
    "a mark of pytest's": PLAIN.replace(
        "    @pytest.mark.points(2)",
        "    @pytest.mark.skipif(False, reason='never')\n    @pytest.mark.points(2)",
    ),
    "a test that is no check": PLAIN + "\n\ndef test_other():\n    assert True\n",
}


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What pytest was called with, call by call."""
    seen: list[list[str]] = []
    main = pytest.main

    def counted(args: Any = None, plugins: Any = None) -> Any:
        seen.append(list(args))
        return main(args, plugins)

    monkeypatch.setattr(pytest, "main", counted)
    return seen


def write(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "test_mini.py").write_text(text)
    return folder


def run(folder: Path, answer: str = ANSWERS["double"]) -> tuple[ExerciseResult, ...]:
    names: dict[str, Any] = {}
    exec("import torch\n" + answer, names)
    return run_checks(folder, Door(lambda _: Local(names)), {"double": TITLES["double"]})


def test_pytest_reads_plain_checks_once_for_any_number_of_learners(
    tmp_path: Path, sessions: list[list[str]]
) -> None:
    folder = write(tmp_path / "checks", HEAD + PLAIN)
    assert [run(folder)[0].score for _ in range(5)] == [3.0] * 5
    assert run(folder, "def double(x):\n    return 3 * x")[0].score == 0.0
    assert len(sessions) == 1
    assert "--collect-only" in sessions[0]


@pytest.mark.parametrize("why", WITH_PYTEST)
@pytest.mark.parametrize("answer", [ANSWERS["double"], "def double(x):\n    return 3 * x"])
def test_what_needs_pytest_is_run_by_it_and_comes_to_the_same(
    why: str, answer: str, tmp_path: Path, sessions: list[list[str]]
) -> None:
    direct = run(write(tmp_path / "plain", HEAD + PLAIN), answer)
    before = len(sessions)
    found = run(write(tmp_path / "checks", HEAD + WITH_PYTEST[why]), answer)
    assert [(c.title, c.points, c.outcome, c.message) for c in found[0].checks] == [
        (c.title, c.points, c.outcome, c.message) for c in direct[0].checks
    ]
    assert any("--collect-only" not in args for args in sessions[before:])


def test_nothing_passes_from_one_run_to_the_next(tmp_path: Path) -> None:
    body = PLAIN.replace(
        '"""doubles"""', '"""doubles"""\n        made.append(1)\n        assert len(made) <= 3'
    )
    body = body.replace("class TestDouble:", "class TestDouble:\n    kept = []\n")
    body = body.replace(
        '"""doubles again"""',
        '"""doubles again"""\n        self.kept.append(1)\n        assert len(self.kept) == 1\n'
        "        assert not hasattr(self, 'own')\n        self.own = 1",
    )
    folder = write(tmp_path / "checks", HEAD + body)
    for _ in range(3):
        assert [check.outcome for check in run(folder)[0].checks] == [Outcome.PASSED] * 2


def test_checks_that_were_edited_are_read_again(tmp_path: Path, sessions: list[list[str]]) -> None:
    folder = write(tmp_path / "checks", HEAD + PLAIN)
    assert run(folder)[0].score == 3.0
    write(folder, HEAD + PLAIN.replace("points(2)", "points(5)"))
    assert run(folder)[0].score == 6.0
    before = (folder / "test_mini.py").stat()
    (folder / "test_mini.py").write_text(HEAD + PLAIN.replace("points(2)", "points(4)"))
    os.utime(folder / "test_mini.py", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert run(folder)[0].score == 5.0
    assert len(sessions) == 3


def test_an_exercise_of_several_is_run_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "checks", CHECKS)
    called = []

    def open_exercise(name: str) -> Local:
        called.append(name)
        names: dict[str, Any] = {}
        exec("import torch\n" + "\n".join(ANSWERS.values()), names)
        return Local(names)

    [result] = run_checks(folder, Door(open_exercise), TITLES, "norm")
    assert result.score == result.max_score > 0
    assert set(called) == {"norm"}


def test_a_module_that_breaks_at_the_second_time_is_a_grader_error(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = f"import pathlib\nmark = pathlib.Path({str(mark)!r})\nassert not mark.exists()\n" + HEAD + PLAIN
    folder = write(tmp_path / "checks", text)
    assert run(folder)[0].score == 3.0
    mark.touch()
    assert [check.outcome for check in run(folder)[0].checks] == [Outcome.GRADER_ERROR]


def test_the_courses_own_checks_are_called_directly() -> None:
    graders = Path(__file__).parents[2] / "graders"
    for folder in sorted(path for path in graders.iterdir() if path.is_dir()):
        with undisturbed(folder):
            assert plain_checks(folder) is not None, folder.name
