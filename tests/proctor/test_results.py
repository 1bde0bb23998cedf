"""The result model: what is written is read back, and what contradicts itself is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctor.results import (
    CheckResult,
    ExerciseResult,
    Outcome,
    ResultError,
    Verdict,
    from_json,
    to_dict,
    to_json,
)

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
CHECKS = st.builds(
    CheckResult,
    name=TEXT,
    title=TEXT,
    points=st.floats(0, 100) | st.integers(0, 100).map(float),
    outcome=st.sampled_from(Outcome),
    message=TEXT,
    mistake=TEXT,
    ask=TEXT,
)
EXERCISES = st.builds(ExerciseResult, name=TEXT, title=TEXT, checks=st.lists(CHECKS, max_size=4).map(tuple))
VERDICTS = st.builds(
    Verdict,
    unit=TEXT,
    exercises=st.lists(EXERCISES, max_size=3, unique_by=lambda exercise: exercise.name).map(tuple),
    problem=TEXT,
    notes=st.lists(TEXT, max_size=2).map(tuple),
)


def check(outcome: Outcome = Outcome.PASSED, points: float = 2, message: str = "") -> CheckResult:
    return CheckResult(name="test_it", title="does it", points=points, outcome=outcome, message=message)


def exercise(*outcomes: Outcome, name: str = "double") -> ExerciseResult:
    return ExerciseResult(name=name, title="Twice", checks=tuple(map(check, outcomes)))


VERDICT = Verdict(unit="01_mini", exercises=(exercise(Outcome.PASSED, Outcome.FAILED),))


class TestJson:
    @given(VERDICTS)
    def test_what_is_written_is_read_back(self, verdict: Verdict) -> None:
        assert from_json(to_json(verdict)) == verdict
        assert from_json(to_json(verdict).encode()) == verdict

    def test_it_is_the_documented_model(self) -> None:
        assert to_dict(VERDICT) == {
            "schema": 1,
            "unit": "01_mini",
            "score": 2.0,
            "max_score": 4.0,
            "problem": "",
            "notes": [],
            "exercises": [
                {
                    "name": "double",
                    "title": "Twice",
                    "score": 2.0,
                    "max_score": 4.0,
                    "outcome": "failed",
                    "checks": [
                        {
                            "name": "test_it",
                            "title": "does it",
                            "points": 2,
                            "earned": earned,
                            "outcome": outcome,
                            "message": "",
                        }
                        for earned, outcome in ((2, "passed"), (0.0, "failed"))
                    ],
                }
            ],
        }

    def test_what_a_check_names_is_told_only_where_it_names_something(self) -> None:
        named = CheckResult(
            name="a", title="b", points=1, outcome=Outcome.FAILED, mistake="a sum", ask="Why?"
        )
        for each, more in ((named, {"mistake": "a sum", "ask": "Why?"}), (check(), {})):
            verdict = Verdict(unit="u", exercises=(ExerciseResult(name="e", title="E", checks=(each,)),))
            told = to_dict(verdict)["exercises"][0]["checks"][0]
            assert {key: told[key] for key in ("mistake", "ask") if key in told} == more

    def test_a_verdict_from_before_mistakes_had_names_is_read_as_ever(self) -> None:
        checks = [
            {"name": "a", "title": "b", "points": 2, "earned": 0.0, "outcome": "failed", "message": "m"}
        ]
        sums = {"score": 0.0, "max_score": 2.0}
        told = {"name": "e", "title": "E", **sums, "outcome": "failed", "checks": checks}
        text = {"schema": 1, "unit": "u", **sums, "problem": "", "notes": [], "exercises": [told]}
        (result,) = from_json(json.dumps(text)).exercises[0].checks
        assert (result.mistake, result.ask, result.message) == ("", "", "m")

    @given(VERDICTS, st.data())
    def test_a_verdict_that_was_tampered_with_is_refused(self, verdict: Verdict, data: st.DataObject) -> None:
        told = json.loads(to_json(verdict))
        places: list[tuple[dict[str, Any], str]] = [(told, "score"), (told, "max_score"), (told, "schema")]
        for one in told["exercises"]:
            places += [(one, "score"), (one, "max_score"), (one, "outcome")]
            places += [(each, "earned") for each in one["checks"]]
        table, key = data.draw(st.sampled_from(places))
        table[key] = "passed" if key == "outcome" and table[key] != "passed" else 999.5
        with pytest.raises(ResultError):
            from_json(json.dumps(told))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "null",
            "[]",
            "{}",
            '{"schema": 1}',
            '{"schema": 2, "unit": "a", "exercises": []}',
            '{"schema": true, "unit": "a", "exercises": []}',
            '{"schema": 1, "unit": 3, "exercises": []}',
            '{"schema": 1, "unit": "a", "exercises": {}}',
            '{"schema": 1, "unit": "a", "exercises": [], "more": 1}',
            '{"schema": 1, "unit": "a", "exercises": [], "score": NaN}',
            "[" * 100_000,
            b"\xff\xfe",
            "\ud800",
            to_json(VERDICT)[:-20],
            to_json(VERDICT).replace('"failed"', '"wonderful"'),
            to_json(VERDICT).replace('"points": 2', '"points": -2'),
            to_json(VERDICT).replace('"points": 2', '"points": 1e999'),
            to_json(VERDICT).replace('"points": 2', '"points": "2"'),
        ],
    )
    def test_what_is_no_verdict_is_refused(self, text: str | bytes) -> None:
        with pytest.raises(ResultError):
            from_json(text)

    @given(st.text() | st.binary())
    def test_any_text_is_a_verdict_or_refused(self, text: str | bytes) -> None:
        with pytest.raises(ResultError):
            from_json(text)


class TestOutcome:
    @given(st.lists(st.sampled_from(Outcome), max_size=5))
    def test_an_exercise_passes_only_where_every_check_passed_and_there_was_one(
        self, outcomes: list[Outcome]
    ) -> None:
        result = exercise(*outcomes)
        every = bool(outcomes) and set(outcomes) == {Outcome.PASSED}
        assert (result.outcome is Outcome.PASSED) == every
        assert (result.score == result.max_score > 0) == every
        assert (result.outcome is Outcome.GRADER_ERROR) == (not outcomes or Outcome.GRADER_ERROR in outcomes)
        assert Verdict(unit="u", exercises=(result,)).passed == every

    def test_not_attempted_is_all_or_nothing(self) -> None:
        stub, skipped = Outcome.NOT_ATTEMPTED, Outcome.SKIPPED
        assert exercise(stub, skipped).outcome is stub
        assert exercise(stub, Outcome.FAILED).outcome is Outcome.FAILED

    def test_the_first_loss_is_one_with_a_reason(self) -> None:
        result = exercise(Outcome.PASSED, Outcome.SKIPPED, Outcome.FAILED)
        assert result.first_loss is result.checks[2]
        assert exercise(Outcome.SKIPPED).first_loss is not None
        assert exercise(Outcome.PASSED).first_loss is None

    def test_an_empty_verdict_never_passes(self) -> None:
        empty = Verdict(unit="u", exercises=())
        assert empty.needs_person
        assert not empty.passed
        assert Verdict(unit="u", exercises=(exercise(),)).needs_person

    def test_a_problem_needs_a_person_whatever_the_score(self) -> None:
        verdict = Verdict(unit="u", exercises=(exercise(Outcome.PASSED),), problem="unreadable")
        assert verdict.needs_person
        assert not verdict.passed


@pytest.mark.parametrize("points", [-1, 1000, float("nan"), float("inf")])
def test_impossible_points_are_refused(points: float) -> None:
    with pytest.raises(ResultError, match="0 to 1000 are possible"):
        check(points=points)


def test_a_verdict_speaks_once_of_each_exercise() -> None:
    with pytest.raises(ResultError, match="twice"):
        Verdict(unit="u", exercises=(exercise(Outcome.PASSED), exercise(Outcome.FAILED)))
    with pytest.raises(ResultError, match="says nothing about exercise 'norm'"):
        VERDICT.exercise("norm")
