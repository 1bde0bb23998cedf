"""Similar answers: what is built alike is found whatever it is called, and what everybody may write never is."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicourse import ROOT
from proctor import likeness
from proctor.course import Course, Unit, read_course
from proctor.gathered import known_answers
from proctor.likeness import alike, runs_of
from wholeclass import OWN, renamed

STUB = """\
def attention_weights(scores, mask=None):
    'Weights.'
    raise NotImplementedError("attention_weights")"""
USUAL = """\
def attention_weights(scores, mask=None):
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.softmax(scores, dim=-1)"""


def variant(number: int) -> str:
    """An answer that nobody else writes."""
    choose = random.Random(number).choice
    steps = [
        f"    {choose('abcde')} = scores.{choose(['exp', 'tanh', 'sum', 'mean', 'abs', 'relu', 'sqrt', 'sign'])}"
        f"({choose(['', 'dim=-1', 'dim=0', 'dim=-2'])}) {choose('+-*/@')} {choose(['mask', '2', '0.5', 'total[0]'])}"
        for _ in range(16)
    ]
    return "def attention_weights(scores, mask=None):\n" + "\n".join([*steps, "    return a"])


CLASS = {f"learner {number}": variant(number) for number in range(30)}


class TestWhatIsFound:
    def test_a_copy_with_other_names_layout_and_comments(self) -> None:
        found = alike("e", {**CLASS, "ada": OWN, "bela": renamed(OWN, 2)}, [STUB, USUAL])
        assert [(group.exercise, group.learners) for group in found] == [("e", ("ada", "bela"))]
        assert found[0].share == 1.0
        assert found[0].runs >= likeness.LEAST

    def test_a_copy_with_docstring_annotations_and_lines_of_its_own(self) -> None:
        changed = renamed(OWN, 3).replace(
            "mask=None):", 'mask: int | None = None) -> object:\n  """Mine."""\n  x = 1'
        )
        assert ast.parse(changed)
        found = alike("e", {**CLASS, "ada": OWN, "bela": changed}, [STUB])
        assert [group.learners for group in found] == [("ada", "bela")]
        assert likeness.ALIKE <= found[0].share < 1

    def test_learners_who_share_one_source_are_one_group(self) -> None:
        found = alike("e", {**CLASS, "ada": OWN, "bela": renamed(OWN, 2), "chen": renamed(OWN, 3)}, [STUB])
        assert [group.learners for group in found] == [("ada", "bela", "chen")]


class TestWhatIsNot:
    def test_answers_of_which_each_is_its_own(self) -> None:
        assert alike("e", CLASS, [STUB]) == ()

    def test_a_short_answer_that_two_have_written(self) -> None:
        assert alike("e", {"ada": USUAL, "bela": USUAL, **CLASS}, [STUB]) == ()

    def test_a_known_right_answer(self) -> None:
        assert alike("e", {"ada": OWN, "bela": renamed(OWN, 2), **CLASS}, [STUB, OWN]) == ()

    def test_what_many_of_the_class_have_written(self) -> None:
        many = {f"friend {number}": renamed(OWN, number) for number in range(likeness.FEW + 1)}
        assert alike("e", {**CLASS, **many}, [STUB]) == ()

    def test_answers_that_are_no_python_too_long_or_not_there(self) -> None:
        for source in (
            "",
            "def f(:",
            "x" * 20_000,
            OWN + "#" * 10_000,
            "(" * 500,
            "\0",
            "# The answer to `a` is in …",
        ):
            assert alike("e", {"ada": source, "bela": source}) == ()

    def test_answers_that_have_half_in_common(self) -> None:
        one, other = variant(1), variant(2)
        mixed = "\n".join([*one.splitlines()[:10], *other.splitlines()[10:]])
        assert alike("e", {"ada": one, "bela": mixed}) == ()


def stubs_of(course: Course, unit: Unit) -> dict[str, str]:
    release = nbformat.read(course.release(unit), as_version=4)
    return {cell.metadata.get("nbgrader", {}).get("grade_id"): cell.source for cell in release.cells}


@pytest.mark.parametrize("name", [unit.name for unit in read_course(ROOT).units])
def test_right_answers_in_known_styles_and_known_mistakes_are_never_listed(name: str) -> None:
    course = read_course(ROOT)
    unit = course.unit(name)
    stubs = stubs_of(course, unit)
    for exercise, sources in known_answers(course, unit).items():
        class_ = {f"{copy} {number}": source for number, source in enumerate(sources) for copy in "ab"}
        assert alike(exercise, class_, [stubs[exercise], *sources]) == ()


def test_right_answers_of_independent_styles_share_half_of_what_is_listed_at_most() -> None:
    course, shares = read_course(ROOT), [0.0]
    for unit in course.units:
        styles = [path.read_text() for path in sorted((course.graders(unit) / "accepted").glob("*.py"))]
        stubs = stubs_of(course, unit)
        for exercise, (right, *_) in known_answers(course, unit).items():
            sources = [right, *(_own(style, exercise) for style in styles)]
            answers = [runs_of(own) - runs_of(stubs[exercise]) for own in sources]
            pairs = [(one, other) for i, one in enumerate(answers) for other in answers[:i]]
            shares += [len(a & b) / len(a | b) for a, b in pairs if len(a & b) >= likeness.LEAST]
    assert max(shares) < likeness.ALIKE / 2


def _own(style: str, exercise: str) -> str:
    return "\n".join(
        ast.unparse(node) for node in ast.parse(style).body if getattr(node, "name", "") == exercise
    )


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_can_be_compared(one: str, other: str) -> None:
    assert alike("e", {"ada": one, "bela": other}, [one]) == ()


def test_the_order_of_a_class_changes_nothing() -> None:
    class_ = {**CLASS, "ada": OWN, "bela": renamed(OWN, 2), "dora": variant(99), "emil": variant(99)}
    shuffled = dict(random.Random(1).sample(list(class_.items()), len(class_)))
    assert alike("e", class_) == alike("e", shuffled) != ()


def test_reading_never_runs_anything(tmp_path: Path) -> None:
    path = tmp_path / "ran"
    trap = f"open({str(path)!r}, 'w')\n{OWN}"
    alike("e", {"ada": trap, "bela": trap}, [trap])
    assert not path.exists()
