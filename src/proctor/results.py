"""The one result model: what a check, an exercise and a submission came to.

Frozen dataclasses with a versioned JSON form. Grading writes them; reports, the gradebook and the feedback
pages read them, and compute nothing of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

SCHEMA = 1


class ResultError(ValueError):
    """A stored verdict that cannot be read, or that contradicts itself."""


class Outcome(StrEnum):
    """How a check, or an exercise as a whole, ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_ATTEMPTED = "not attempted"  # the stub still raises NotImplementedError
    SKIPPED = "skipped"  # a check that this one needs has not passed
    GRADER_ERROR = "grader error"  # the check itself broke: a person must look, and it is never a zero


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check of one exercise. ``title`` is the sentence the learner reads, ``message`` what went wrong.

    ``mistake`` is the known mistake that the answer makes, in the words that the message tells it in, and ``ask`` the
    question that the message ends with. Both are the check's own words, with nothing of the learner's in them.
    """

    name: str
    title: str
    points: float
    outcome: Outcome
    message: str = ""
    mistake: str = ""
    ask: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.points < 1000:
            raise ResultError(f"check {self.name!r} is worth {self.points} points; 0 to 1000 are possible")

    @property
    def earned(self) -> float:
        """Points earned: all of them or none."""
        return self.points if self.outcome is Outcome.PASSED else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExerciseResult:
    """All checks of one exercise, in the order in which they are written."""

    name: str
    title: str
    checks: tuple[CheckResult, ...]

    @property
    def score(self) -> float:
        """Points earned."""
        return sum((check.earned for check in self.checks), 0.0)

    @property
    def max_score(self) -> float:
        """Points at stake."""
        return sum((check.points for check in self.checks), 0.0)

    @property
    def outcome(self) -> Outcome:
        """The exercise as a whole.

        A grader error outweighs everything (a person must look); no check at all is a grader error too,
        so that an empty result can never read as a pass.
        """
        outcomes = [check.outcome for check in self.checks]
        if not outcomes or Outcome.GRADER_ERROR in outcomes:
            return Outcome.GRADER_ERROR
        if all(outcome is Outcome.PASSED for outcome in outcomes):
            return Outcome.PASSED
        if all(outcome in (Outcome.NOT_ATTEMPTED, Outcome.SKIPPED) for outcome in outcomes):
            return Outcome.NOT_ATTEMPTED
        return Outcome.FAILED

    @property
    def first_loss(self) -> CheckResult | None:
        """The first check that did not pass: the reason to tell where there is room for one."""
        lost = [check for check in self.checks if check.outcome is not Outcome.PASSED]
        told = [check for check in lost if check.outcome is not Outcome.SKIPPED]
        return (told or lost or [None])[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one submitted notebook came to.

    ``problem`` is one sentence that says why a person must look at the submission (an unreadable
    notebook, a grader that broke); ``notes`` say what was mended on the way to grading it.
    """

    unit: str
    exercises: tuple[ExerciseResult, ...]
    problem: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [exercise.name for exercise in self.exercises]
        if len(set(names)) < len(names):
            raise ResultError(f"the verdict on unit {self.unit!r} speaks twice of one exercise")

    @property
    def score(self) -> float:
        """Points earned."""
        return sum((exercise.score for exercise in self.exercises), 0.0)

    @property
    def max_score(self) -> float:
        """Points at stake."""
        return sum((exercise.max_score for exercise in self.exercises), 0.0)

    @property
    def needs_person(self) -> bool:
        """Whether the score may not stand before a person has looked; a verdict on nothing may not."""
        broken = any(exercise.outcome is Outcome.GRADER_ERROR for exercise in self.exercises)
        return bool(self.problem) or broken or not self.exercises

    @property
    def passed(self) -> bool:
        """Whether every exercise passed, and there was one."""
        passed = all(exercise.outcome is Outcome.PASSED for exercise in self.exercises)
        return passed and not self.needs_person

    def exercise(self, name: str) -> ExerciseResult:
        """The result of one exercise. Raises ResultError where the verdict has none of that name."""
        for exercise in self.exercises:
            if exercise.name == name:
                return exercise
        raise ResultError(f"the verdict on unit {self.unit!r} says nothing about exercise {name!r}")


def to_dict(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain data, with the sums that a reader wants to find in it.

    ``mistake`` and ``ask`` came later: they are there where there is something to say, so that what was written
    before them reads as ever.
    """
    return {
        "schema": SCHEMA,
        "unit": verdict.unit,
        "score": verdict.score,
        "max_score": verdict.max_score,
        "problem": verdict.problem,
        "notes": list(verdict.notes),
        "exercises": [
            {
                "name": exercise.name,
                "title": exercise.title,
                "score": exercise.score,
                "max_score": exercise.max_score,
                "outcome": exercise.outcome.value,
                "checks": [
                    {
                        "name": check.name,
                        "title": check.title,
                        "points": check.points,
                        "earned": check.earned,
                        "outcome": check.outcome.value,
                        "message": check.message,
                        **({"mistake": check.mistake} if check.mistake else {}),
                        **({"ask": check.ask} if check.ask else {}),
                    }
                    for check in exercise.checks
                ],
            }
            for exercise in verdict.exercises
        ],
    }


def to_json(verdict: Verdict) -> str:
    """The verdict as JSON text (schema 1)."""
    return msgspec.json.format(msgspec.json.encode(to_dict(verdict)), indent=2).decode()


def from_json(text: str | bytes) -> Verdict:
    """Read a verdict back. Raises ResultError for anything that ``to_json`` would not have written."""
    try:
        data = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ResultError(f"the verdict is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("schema") is not SCHEMA:
        raise ResultError(f"the verdict is not of schema {SCHEMA}")
    try:
        verdict = msgspec.convert(data, Verdict)
    except msgspec.ValidationError as error:
        raise ResultError(f"the verdict is malformed: {error}") from error
    if to_dict(verdict) != {**to_dict(verdict), **data}:
        raise ResultError("the verdict contradicts itself: its sums are not those of its checks")
    return verdict
