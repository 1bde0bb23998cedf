"""Which mistakes a class made in an exercise, by the sentences that its checks told them in.

What a learner did wrong are the mistakes that the checks name, each once; where none has a name, the first check that
failed: those after it mostly fail for the same reason. Numbers in a sentence are those of one draw, and the same
sentence with others is the same mistake.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proctor.course import Exercise
from proctor.results import CheckResult, ExerciseResult, Outcome

_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class MistakeCount:
    """A mistake, and how many made it.

    ``says`` is the sentence that names it, or, where the check has no name for what it saw, the check's title. ``ask``
    is the question that was asked, ``known`` the names in ``exercises.toml`` of mistakes that are told so.
    """

    exercise: str
    says: str
    named: bool
    ask: str
    known: tuple[str, ...]
    learners: int


def mistakes_in(
    exercise: str, results: Sequence[ExerciseResult], about: Exercise | None
) -> list[MistakeCount]:
    """The mistakes in an exercise, the most frequent first; ``about`` is what its author says of it."""
    makers: Counter[tuple[str, str]] = Counter()
    seen: dict[tuple[str, str], list[CheckResult]] = {}
    for result in results:
        failed = [check for check in result.checks if check.outcome is Outcome.FAILED]
        own = {_key(check): check for check in [check for check in failed if check.mistake] or failed[:1]}
        makers.update(own.keys())
        for key, check in own.items():
            seen.setdefault(key, []).append(check)
    counts = []
    for key, learners in makers.most_common():
        checks = seen[key]
        named = checks[0].mistake != ""
        counts.append(
            MistakeCount(
                exercise=exercise,
                says=_usual(check.mistake if named else check.title for check in checks),
                named=named,
                ask=_usual(check.ask for check in checks),
                known=_known(checks, about),
                learners=learners,
            )
        )
    return counts


def _key(check: CheckResult) -> tuple[str, str]:
    """What makes two failures the same mistake: its name, or else the check and its question."""
    if check.mistake:
        return "", _NUMBER.sub("#", check.mistake)
    return check.name, _NUMBER.sub("#", check.ask)


def _usual(texts: Iterable[str]) -> str:
    return Counter(texts).most_common(1)[0][0]


def _known(checks: Sequence[CheckResult], about: Exercise | None) -> tuple[str, ...]:
    """The mistakes of ``exercises.toml`` that these checks catch with these words, in the file's order."""
    told = {(check.name, check.mistake or check.message) for check in checks}
    listed = about.mistakes if about else ()
    return tuple(
        mistake.name
        for mistake in listed
        if any(name == mistake.caught_by and mistake.says in text for name, text in told)
    )
