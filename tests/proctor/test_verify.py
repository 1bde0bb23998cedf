"""The proof of the checks: each kind of defect, made on purpose in the mini course, is found and named."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import nbformat
import pytest
from rich.console import Console

from minicourse import ANSWERS, CHECKS, EXERCISES, UNIT, make_course
from proctor import verify as proofs
from proctor.course import Course, CourseError, read_course
from proctor.nbgrader.classroom import release_all
from proctor.sandbox import Sandbox
from proctor.verify import GARBAGE, Bench, show_proof, verify

LOOP = "import torch\n\n\ndef double(x):\n    return torch.stack([x, x]).sum(0)\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The mini course with an answer in another style, released; tests leave it as it is."""
    course = make_course(tmp_path_factory.mktemp("verify") / "course")
    (course.graders(UNIT) / "accepted").mkdir()
    (course.graders(UNIT) / "accepted" / "loop.py").write_text(LOOP)
    release_all(course.root, [UNIT])
    return course


@pytest.fixture
def course(made: Course, tmp_path: Path) -> Course:
    """A copy of it, to be spoilt."""
    return read_course(shutil.copytree(made.root, tmp_path / "course"))


Prove = Callable[..., str]


@pytest.fixture
def prove(course: Course, sandbox: Sandbox) -> Prove:
    """What is wrong with one thing that is to be proved."""

    def run(kind: str, name: str, which: str = "", draws: int = 3) -> str:
        return Bench(course, course.unit(UNIT), sandbox, draws).prove((kind, name, which)).problem

    return run


def checks(course: Course, old: str, new: str) -> None:
    """Spoil a check."""
    assert old in CHECKS
    (course.graders(UNIT) / "test_mini.py").write_text(CHECKS.replace(old, new))


def mistakes(course: Course, old: str, new: str) -> None:
    """Spoil what is said of a mistake."""
    assert old in EXERCISES
    (course.graders(UNIT) / "exercises.toml").write_text(EXERCISES.replace(old, new))


def answer(course: Course, name: str, source: str) -> None:
    """Spoil the solution."""
    notebook = nbformat.read(course.solution(UNIT), as_version=4)
    for cell in notebook.cells:
        if cell.id == name:
            cell.source = source
    nbformat.write(notebook, course.solution(UNIT))


@pytest.fixture
def warm(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole units are proved in this process, in the sandbox that is warm."""
    monkeypatch.setattr(proofs, "sandbox_for", lambda *_: nullcontext(sandbox))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


@pytest.mark.usefixtures("warm")
def test_a_sound_unit_is_proved_in_full(made: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        proofs, "GARBAGE", {name: GARBAGE[name] for name in ("None", "a text", "what it was given")}
    )
    findings = list(verify(made, made.unit(UNIT), draws=2))
    assert [finding.problem for finding in findings] == [""] * 12
    assert {(finding.kind, finding.name) for finding in findings} >= {
        ("accepted", "loop"),
        ("solution", "norm"),
        ("stub", "double"),
        ("mistake", "double: squared"),
        ("garbage", "norm: a text"),
    }


@pytest.mark.parametrize("what", GARBAGE)
def test_no_garbage_scores_in_a_sound_unit(what: str, prove: Prove) -> None:
    assert prove("garbage", "double", what) == ""


class TestGarbage:
    def test_is_that_of_the_libraries_a_unit_imports(
        self, course: Course, prove: Prove, sandbox: Sandbox
    ) -> None:
        def garbage() -> set[str]:
            return set(Bench(course, course.unit(UNIT), sandbox, 1).garbage())

        both = garbage()
        assert "a scalar tensor" in both
        answer(course, "double", "import numpy as np\ndef double(x):\n    return np.add(x, x)")
        assert garbage() >= {"an array of objects", "a ragged list", "a scalar tensor"}
        assert garbage() == set(GARBAGE)
        assert both == {what for what, value in GARBAGE.items() if "np." not in value}


class TestDefects:
    def test_a_check_that_cannot_fail_gives_points_to_garbage(self, course: Course, prove: Prove) -> None:
        checks(
            course,
            "        expect.close(student.norm(x)",
            "        return\n        expect.close(student.norm(x)",
        )
        assert prove("garbage", "norm", "None") == "it scores 3 points"

    def test_a_check_that_garbage_breaks_is_named(self, course: Course, prove: Prove) -> None:
        checks(course, "expect.close(student.norm(x)", "expect.close(student.norm(x).sum()")
        problem = prove("garbage", "norm", "None")
        assert problem.startswith("test_matches_torch: the check itself broke: AttributeError")

    def test_a_mistake_that_is_not_caught_is_named(self, course: Course, prove: Prove) -> None:
        mistakes(course, 'with = "x * x"', 'with = "x + x"')
        assert (
            prove("mistake", "double", "squared") == "test_values ends as passed; no check has lost a point"
        )

    def test_a_mistake_caught_by_another_check_is_named(self, course: Course, prove: Prove) -> None:
        mistakes(course, 'caught_by = "test_values"', 'caught_by = "test_unchanged"')
        assert prove("mistake", "double", "squared").startswith(
            "test_unchanged ends as skipped; test_values:"
        )

    def test_a_check_that_is_not_there_is_named(self, course: Course, prove: Prove) -> None:
        mistakes(course, 'caught_by = "test_values"', 'caught_by = "test_nothing"')
        assert prove("mistake", "double", "squared") == "there is no check 'test_nothing'"

    def test_wrong_words_are_told_beside_the_right_ones(self, course: Course, prove: Prove) -> None:
        mistakes(course, 'says = "the square of the input"', 'says = "the cube"')
        problem = prove("mistake", "double", "squared")
        assert problem.startswith("test_values does not say 'the cube', but:")
        assert "the square of the input" in problem

    def test_a_mistake_that_is_not_in_the_answer_is_named(self, course: Course, prove: Prove) -> None:
        mistakes(course, 'replace = "x * 2"', 'replace = "x * 3"')
        assert "replaces 'x * 3', which is not in the answer" in prove("mistake", "double", "squared")

    def test_a_check_that_a_mistake_breaks_is_named(self, course: Course, prove: Prove) -> None:
        checks(course, "        with expect.un", "        assert x is None\n        with expect.un")
        mistakes(course, 'with = "x * x"', 'with = "x * 2.0"')
        assert (
            prove("mistake", "double", "squared")
            == "the check test_unchanged broke: the check failed without saying why"
        )

    def test_a_stub_that_scores_is_named(self, course: Course, prove: Prove) -> None:
        notebook = nbformat.read(course.release(UNIT), as_version=4)
        for cell in notebook.cells:
            if cell.id == "double":
                cell.source = ANSWERS["double"]
        nbformat.write(notebook, course.release(UNIT))
        assert prove("stub", "double") == "the stub scores 3 and counts as passed; no check has lost a point"
        assert prove("stub", "norm") == ""

    def test_a_stub_that_runs_in_silence_is_named(self, course: Course, prove: Prove) -> None:
        notebook = nbformat.read(course.release(UNIT), as_version=4)
        notebook.cells[3].source = "def double(x):\n    return None"
        nbformat.write(notebook, course.release(UNIT))
        assert prove("stub", "double").startswith("the stub scores 0 and counts as failed; test_values:")

    def test_a_solution_that_fails_is_named(self, course: Course, prove: Prove) -> None:
        answer(course, "double", "def double(x):\n    return x * 3")
        assert prove("solution", "double").startswith("double scores 0 of 3; test_values: Called")

    def test_a_check_that_sometimes_fails_the_right_answer_is_named(
        self, course: Course, prove: Prove
    ) -> None:
        flaky = "expect.holds(rng.integers(4) > 0, expected='luck')\n        x = rng.tensor(3)\n        with"
        checks(course, "x = rng.tensor(3)\n        with", flaky)
        assert prove("solution", "double", draws=1) == ""
        assert "luck" in prove("solution", "double", draws=40)

    def test_an_accepted_style_that_fails_is_named(self, course: Course, prove: Prove) -> None:
        folder = course.graders(UNIT) / "accepted"
        (folder / "loop.py").write_text(LOOP.replace("sum(0)", "sum(1)"))
        assert prove("accepted", "loop").startswith("double scores 0 of 3; test_values:")

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("def triple(x):\n    return 3 * x", "it defines none of the unit's answers"),
            ("", "it defines none of the unit's answers"),
            ("def double(:", "it is no Python: invalid syntax"),
            ("\0", "it is no Python"),
        ],
    )
    def test_an_accepted_style_that_is_no_answer_is_named(
        self, text: str, says: str, course: Course, prove: Prove
    ) -> None:
        (course.graders(UNIT) / "accepted" / "loop.py").write_text(text)
        assert says in prove("accepted", "loop")

    def test_an_accepted_style_that_takes_a_shortcut_is_named(self, course: Course, prove: Prove) -> None:
        style = "import torch\n\n\ndef norm(x):\n    return torch.linalg.vector_norm(x)\n"
        (course.graders(UNIT) / "accepted" / "loop.py").write_text(style)
        assert "Use square, sum and sqrt." in prove("accepted", "loop")

    def test_an_answer_cell_that_is_missing_is_named(self, course: Course, prove: Prove) -> None:
        notebook = nbformat.read(course.solution(UNIT), as_version=4)
        notebook.cells[3].metadata["nbgrader"]["grade_id"] = "twice"
        nbformat.write(notebook, course.solution(UNIT))
        says = "solutions/01_mini has no answer cell of the grade_id `double`"
        assert prove("garbage", "double", "None") == says
        assert prove("mistake", "double", "squared") == says

    def test_garbage_takes_the_place_of_a_class_too(self, course: Course, prove: Prove) -> None:
        answer(course, "double", "import math\n\n# twice\n@staticmethod\nclass double:\n    pass")
        assert "object is not callable" not in prove("garbage", "double", "a list")


@pytest.mark.usefixtures("warm")
def test_the_table_counts_what_was_proved_and_tells_every_problem(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs, "GARBAGE", {"None": "None"})
    mistakes(course, 'says = "the square of the input"', 'says = "[bold]the cube"')
    out = io.StringIO()
    units = (course.unit(UNIT),)
    assert show_proof(course, units, 1, Console(file=out, width=120)) == 1
    told = out.getvalue()
    assert "0 of 1" in told
    assert "✗ 01_mini, mistake double: squared" in told
    assert "does not say '[bold]the cube', but:" in told
    assert "1 problems; right answers tried on 1 draws each." in told
    monkeypatch.setattr(proofs, "verify", lambda *_, **__: iter(()))
    assert show_proof(course, units, 1, Console(file=io.StringIO())) == 0


def test_a_course_that_is_not_whole_is_one_sentence(course: Course) -> None:
    course.solution(UNIT).write_text("{")
    with pytest.raises(CourseError, match=r"01_mini/mini.ipynb is no notebook"):
        list(verify(course, course.unit(UNIT)))
