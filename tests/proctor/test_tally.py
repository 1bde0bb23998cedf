"""What is counted of a class: every learner once, mistakes by their names, and nothing of what they wrote."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctor.course import Exercise, Mistake, Unit
from proctor.gathered import Gathered, Learner, Mark, State
from proctor.results import CheckResult, ExerciseResult, Outcome, Verdict
from proctor.shortcuts import find_shortcut, find_suspicion
from proctor.tally import Tally, tally

UNIT = Unit(name="01_mini", title="Mini", part="P", notebook="mini", lesson_minutes=1, exercise_minutes=1)
PASSED, FAILED, UNTOUCHED, SKIPPED, BROKEN = Outcome
KNOWN = Mistake(name="no root", replace="a", with_="b", caught_by="test_b", says="the square")
EXERCISES = {
    "norm": Exercise(
        name="norm", title="The length", difficulty=1, minutes=1, hints=("a", "b", "c"), mistakes=(KNOWN,)
    )
}


def check(outcome: Outcome, name: str = "test_a", **fields: Any) -> CheckResult:
    return CheckResult(name=name, title=f"title of {name}", points=2, outcome=outcome, **fields)


def learner(name: str, *checks: CheckResult, score: float | None = None, **fields: Any) -> Learner:
    """Somebody with a verdict on one exercise, whose gradebook says the same if nothing else is given."""
    problem = fields.pop("problem", "")
    notes = fields.pop("notes", ())
    result = ExerciseResult(name="norm", title="The length", checks=checks)
    verdict = Verdict(unit=UNIT.name, exercises=(result,), problem=problem, notes=notes)
    marked = verdict.score if score is None else score
    mark = Mark(student=name, score=marked, max_score=verdict.max_score, **fields.pop("mark", {}))
    fields.setdefault("state", State.WAITS if verdict.needs_person else State.FINAL)
    return Learner(name=name, verdict=verdict, mark=mark, **fields)


def absent(name: str, state: State) -> Learner:
    return Learner(name=name, state=state, mark=Mark(student=name, max_score=4))


def counted(*learners: Learner) -> Tally:
    gathered = Gathered(
        course="C", unit=UNIT, learners=learners, stubs={"norm": "def norm(x):\n    pass"}, max_score=4
    )
    return tally(gathered, EXERCISES)


def two(first: Outcome, second: Outcome, **second_fields: Any) -> tuple[CheckResult, CheckResult]:
    return check(first), check(second, "test_b", **second_fields)


class TestExercises:
    @given(st.lists(st.tuples(st.sampled_from(Outcome), st.sampled_from(Outcome))))
    def test_every_learner_is_in_exactly_one_part(self, class_: list[tuple[Outcome, Outcome]]) -> None:
        seen = counted(*(learner(f"l{i}", *two(*ends)) for i, ends in enumerate(class_))).exercises
        assert len(seen) == bool(class_)
        for exercise in seen:
            parts = (exercise.solved, exercise.partly, exercise.wrong, exercise.untouched, exercise.waiting)
            assert sum(parts) == len(class_)
            assert min(parts) >= 0
            assert exercise.judged == sum(BROKEN not in ends for ends in class_)
            assert exercise.solved == class_.count((PASSED, PASSED))
            for each in exercise.checks:
                assert sum(each.outcomes.values()) == exercise.judged

    def test_points_are_the_mean_of_those_that_could_be_judged(self) -> None:
        class_ = [
            learner("a", *two(PASSED, PASSED)),
            learner("b", *two(PASSED, FAILED)),
            learner("c", check(BROKEN)),
        ]
        (exercise,) = counted(*class_).exercises
        assert (exercise.mean, exercise.most, exercise.waiting) == (3.0, 4.0, 1)


class TestMistakes:
    def test_a_named_mistake_counts_once_a_learner_whatever_its_numbers(self) -> None:
        class_ = [
            learner(
                str(n),
                *(check(FAILED, t, mistake=f"axis {n}, not {n + 1.5:g}", ask="Which?") for t in ("a", "b")),
            )
            for n in range(3)
        ]
        (mistake,) = counted(*class_).exercises[0].mistakes
        assert (mistake.learners, mistake.named, mistake.ask) == (3, True, "Which?")
        assert mistake.says == "axis 0, not 1.5"

    def test_the_sentence_is_the_one_that_most_have_read(self) -> None:
        class_ = [learner(str(n), check(FAILED, mistake=f"axis {says}")) for n, says in enumerate((0, 1, 1))]
        assert counted(*class_).exercises[0].mistakes[0].says == "axis 1"

    def test_without_a_name_the_first_check_that_failed_counts_by_its_question(self) -> None:
        class_ = [
            learner("a", check(FAILED, ask="Which of 3?"), check(FAILED, "test_b", ask="And that?")),
            learner("b", check(FAILED, ask="Which of 7?")),
            learner("c", check(FAILED, ask="Another?")),
        ]
        told = [(m.says, m.named, m.ask, m.learners) for m in counted(*class_).exercises[0].mistakes]
        assert told == [
            ("title of test_a", False, "Which of 3?", 2),
            ("title of test_a", False, "Another?", 1),
        ]

    def test_where_a_check_names_it_what_fails_besides_does_not_count(self) -> None:
        class_ = [learner("a", *two(FAILED, FAILED, mistake="the square of it"))]
        assert [m.says for m in counted(*class_).exercises[0].mistakes] == ["the square of it"]

    def test_the_author_s_name_of_a_mistake_is_found_by_its_words(self) -> None:
        by_name = learner("a", *two(PASSED, FAILED, mistake="the square of it"))
        by_message = learner("b", *two(PASSED, FAILED, message="Got  the square"))
        elsewhere = learner("c", *two(FAILED, PASSED, message="the square"))
        known = [
            m.known for one in (by_name, by_message, elsewhere) for m in counted(one).exercises[0].mistakes
        ]
        assert known == [("no root",), ("no root",), ()]

    def test_verdicts_from_before_mistakes_had_names_are_told_by_their_checks(self) -> None:
        (mistake,) = counted(learner("a", check(FAILED, message="Got  something"))).exercises[0].mistakes
        assert (mistake.says, mistake.ask, mistake.named) == ("title of test_a", "", False)

    def test_the_most_frequent_come_first_over_all_exercises(self) -> None:
        class_ = [learner(str(n), check(FAILED, mistake="few" if n == 0 else "many")) for n in range(3)]
        assert [(m.says, m.learners) for m in counted(*class_).common(5)] == [("many", 2), ("few", 1)]
        assert len(counted(*class_).common(1)) == 1


class TestScores:
    @given(st.lists(st.integers(0, 24).map(lambda n: n / 6), min_size=1))
    def test_every_score_is_in_one_bin(self, scores: list[float]) -> None:
        seen = counted(*(learner(str(i), check(PASSED), score=s) for i, s in enumerate(scores))).scores
        assert seen is not None
        assert sum(seen.bins) == seen.count == len(scores)
        assert seen.bins[-1] == seen.full == scores.count(4)
        assert seen.bins[0] == sum(score < 0.4 for score in scores)
        assert min(scores) <= seen.low <= seen.median <= seen.high <= max(scores)

    def test_extra_points_are_full_marks_and_a_penalty_never_goes_below_none(self) -> None:
        late = learner("a", check(FAILED), score=1, mark={"penalty": 3.0})
        extra = learner("b", check(PASSED), score=7)
        seen = counted(late, extra)
        assert seen.scores is not None
        assert (seen.scores.none, seen.scores.full, seen.late) == (1, 1, 1)
        assert (seen.scores.bins[0], seen.scores.bins[-1]) == (1, 1)

    def test_what_waits_for_a_person_is_no_zero(self) -> None:
        seen = counted(learner("a", *two(PASSED, PASSED)), learner("b", check(BROKEN)))
        assert seen.scores is not None
        assert (seen.scores.count, seen.scores.median, seen.states[State.WAITS]) == (1, 4.0, 1)

    def test_where_all_wait_there_is_no_score(self) -> None:
        assert counted(learner("a", check(BROKEN))).scores is None


class TestMatters:
    @pytest.mark.parametrize(
        ("one", "says", "pressing"),
        [
            (learner("a", check(BROKEN, message="SECRET")), "a check broke in `norm`", True),
            (learner("a", check(BROKEN), problem="mini.ipynb is not JSON"), "mini.ipynb is not JSON", True),
            (
                learner("a", check(PASSED), state=State.WAITS),
                "cells of it are graded by hand, and are not yet",
                True,
            ),
            (learner("a", check(PASSED), notes=("The cell is gone.",)), "The cell is gone.", False),
            (learner("a", check(PASSED), anew=True), "what is shown here is the submission before", False),
            (learner("a", check(PASSED), old=True), "was judged by newer or older ones", False),
            (absent("a", State.UNGRADED), "`proctor grade` has not judged this submission yet", True),
        ],
    )
    def test_each_is_one_sentence_with_the_learner(self, one: Learner, says: str, pressing: bool) -> None:
        (matter,) = counted(one).matters
        assert (matter.learner, matter.pressing) == ("a", pressing)
        assert says in matter.says
        assert "SECRET" not in matter.says

    def test_a_shortcut_and_a_suspicion_are_told_without_the_learner_s_words(self) -> None:
        source = ["import torch\n\ndef norm(x):\n    return torch.linalg.norm(x, SECRET)"]
        told = find_shortcut(source, "norm", ["torch.linalg"])
        suspicion = find_suspicion(["def norm(x):\n    return eval(x)"], "norm", ["torch.linalg"])
        assert told
        assert suspicion
        seen = counted(learner("a", check(FAILED, message=told), notes=(suspicion,))).matters
        assert [matter.what for matter in seen] == ["suspected shortcut", "shortcut"]
        assert not any("SECRET" in matter.says for matter in seen)

    def test_who_handed_in_nothing_is_counted_and_no_matter(self) -> None:
        seen = counted(learner("a", check(PASSED)), absent("b", State.NOTHING))
        assert seen.matters == ()
        assert (seen.judged, seen.states[State.NOTHING]) == (1, 1)

    def test_a_class_in_order_needs_nobody(self) -> None:
        assert counted(learner("a", check(PASSED)), learner("b", check(FAILED))).matters == ()
