"""A class's work on a unit, counted: scores, exercises, checks, mistakes, and what waits for a person.

Counts are of learners, and every learner is in one part of every count.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from proctor.course import Exercise, Unit
from proctor.gathered import Gathered, Learner, State
from proctor.likeness import Alike, alike
from proctor.mistakes import MistakeCount, mistakes_in
from proctor.results import CheckResult, ExerciseResult, Outcome
from proctor.shortcuts import ALREADY, kind_of

BINS = 10  # of the scores, and one for full marks


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The final scores of a class; ``bins`` counts tenths of what there is to earn, and last, full marks."""

    count: int
    most: float
    median: float
    mean: float
    low: float  # a quarter of the class has no more, and
    high: float  # a quarter no less
    full: int
    none: int
    bins: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckCount:
    """How a check has ended, by learners."""

    title: str
    points: float
    outcomes: Mapping[Outcome, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExerciseCount:
    """An exercise: who has solved it, partly or not at all, has not tried, and whose answer waits for a person."""

    name: str
    title: str
    most: float
    solved: int
    partly: int
    wrong: int
    untouched: int
    waiting: int
    mean: float  # points, of all that were judged
    checks: tuple[CheckCount, ...]
    mistakes: tuple[MistakeCount, ...]

    @property
    def attempted(self) -> int:
        """How many wrote an answer."""
        return self.solved + self.partly + self.wrong

    @property
    def judged(self) -> int:
        """How many answers the checks could judge."""
        return self.attempted + self.untouched


@dataclass(frozen=True, slots=True, kw_only=True)
class Matter:
    """Something that a person should look at: whose, what kind of thing, and a sentence."""

    learner: str
    what: str
    says: str
    pressing: bool = False  # whether the score is not final before


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """All that the teacher's view shows."""

    course: str
    unit: Unit
    learners: tuple[Learner, ...]
    states: Mapping[State, int]
    scores: Scores | None
    by_hand: int
    late: int
    exercises: tuple[ExerciseCount, ...]
    matters: tuple[Matter, ...]
    alike: tuple[Alike, ...]

    @property
    def judged(self) -> int:
        """How many submissions have a verdict."""
        return self.states[State.FINAL] + self.states[State.WAITS]

    def common(self, count: int) -> list[MistakeCount]:
        """The mistakes that most of the class made, over all exercises."""
        every = [mistake for exercise in self.exercises for mistake in exercise.mistakes]
        return sorted(every, key=lambda mistake: -mistake.learners)[:count]


def tally(
    gathered: Gathered, exercises: Mapping[str, Exercise], known: Mapping[str, Sequence[str]] | None = None
) -> Tally:
    """Count a class's work. ``known`` are sources by exercise that say nothing about where an answer comes from."""
    judged = gathered.judged
    found: dict[str, list[tuple[Learner, ExerciseResult]]] = {name: [] for name in exercises}
    for learner in judged:
        for result in learner.verdict.exercises if learner.verdict else ():
            found.setdefault(result.name, []).append((learner, result))
    final = [learner for learner in judged if learner.state is State.FINAL]
    return Tally(
        course=gathered.course,
        unit=gathered.unit,
        learners=gathered.learners,
        states={state: sum(learner.state is state for learner in gathered.learners) for state in State},
        scores=_scores([learner.mark.counted for learner in final], gathered.max_score) if final else None,
        by_hand=sum(bool(learner.mark.by_hand) for learner in judged),
        late=sum(learner.mark.penalty > 0 for learner in judged),
        exercises=tuple(
            _exercise(name, [result for _, result in those], exercises.get(name))
            for name, those in found.items()
            if those
        ),
        matters=tuple(matter for learner in gathered.learners for matter in _matters(learner)),
        alike=tuple(
            group
            for name, those in found.items()
            for group in alike(
                name, _tried(name, those), [gathered.stubs.get(name, ""), *(known or {}).get(name, ())]
            )
        ),
    )


def _scores(scores: list[float], most: float) -> Scores:
    full, bins = most - 1e-9, [0] * (BINS + 1)  # sums of halves and thirds are not quite what they should be
    for score in scores:
        bins[BINS if score >= full else min(BINS - 1, int(BINS * score / most + 1e-9))] += 1
    low, median, high = (
        statistics.quantiles(scores, n=4, method="inclusive") if len(scores) > 1 else scores * 3
    )
    return Scores(
        count=len(scores),
        most=most,
        median=median,
        mean=statistics.fmean(scores),
        low=low,
        high=high,
        full=bins[BINS],
        none=sum(score <= 0 for score in scores),
        bins=tuple(bins),
    )


def _exercise(name: str, results: Sequence[ExerciseResult], about: Exercise | None) -> ExerciseCount:
    judged = [result for result in results if result.outcome is not Outcome.GRADER_ERROR]
    ends = Counter(result.outcome for result in results)
    partly = sum(result.outcome is Outcome.FAILED and result.score > 0 for result in judged)
    first = next(iter(judged or results))
    return ExerciseCount(
        name=name,
        title=about.title if about else first.title,
        most=first.max_score,
        solved=ends[Outcome.PASSED],
        partly=partly,
        wrong=ends[Outcome.FAILED] - partly,
        untouched=ends[Outcome.NOT_ATTEMPTED],
        waiting=ends[Outcome.GRADER_ERROR],
        mean=statistics.fmean(result.score for result in judged) if judged else 0.0,
        checks=tuple(_checks(judged)),
        mistakes=tuple(mistakes_in(name, judged, about)),
    )


def _checks(results: Sequence[ExerciseResult]) -> Iterator[CheckCount]:
    titles: dict[str, CheckResult] = {}
    ends: dict[str, Counter[Outcome]] = {}
    for check in (check for result in results for check in result.checks):
        titles.setdefault(check.name, check)
        ends.setdefault(check.name, Counter())[check.outcome] += 1
    for name, check in titles.items():
        yield CheckCount(title=check.title, points=check.points, outcomes=ends[name])


def _matters(learner: Learner) -> Iterator[Matter]:
    """What a person should look at. Nothing that a learner has written is repeated."""

    def matter(what: str, says: str, pressing: bool = False) -> Matter:
        return Matter(learner=learner.name, what=what, says=says, pressing=pressing)

    verdict = learner.verdict
    if learner.state is State.UNGRADED:
        yield matter("not graded", "`proctor grade` has not judged this submission yet", True)
    if learner.anew:
        yield matter(
            "handed in anew",
            "what is shown here is the submission before; `proctor grade` judges the new one",
        )
    if verdict is None:
        return
    broken = [e.name for e in verdict.exercises if e.outcome is Outcome.GRADER_ERROR]
    if learner.state is State.WAITS:
        names = ", ".join(f"`{name}`" for name in broken)
        by_hand = f"a check broke in {names}" if broken else "cells of it are graded by hand, and are not yet"
        yield matter("no final score", verdict.problem or by_hand, True)
    if learner.old:
        yield matter(
            "judged by other checks", "most of the class was judged by newer or older ones; grade it again"
        )
    for note in verdict.notes:
        yield matter(kind_of(note), note)
    for exercise in verdict.exercises:
        if any(check.outcome is Outcome.FAILED and ALREADY in check.message for check in exercise.checks):
            yield matter(
                "shortcut", f"`{exercise.name}` uses what the exercise asks to write; it scored nothing"
            )


def _tried(name: str, those: Sequence[tuple[Learner, ExerciseResult]]) -> dict[str, str]:
    return {
        learner.name: learner.answers[name]
        for learner, result in those
        if name in learner.answers and result.outcome is not Outcome.NOT_ATTEMPTED
    }
