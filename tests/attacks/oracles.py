"""What holds for every attack. Each file of attacks imports these, and is a class of its own that is graded once."""

from __future__ import annotations

import re

from attacks.arena import Batch, Result
from attacks.model import FULL

# What an attack stumbles over that has not been written well.
MISTAKES = {"NameError", "SyntaxError", "AttributeError", "ImportError", "ModuleNotFoundError", "TypeError"}


class TestEveryAttack:
    def test_gets_what_honest_grading_gives(self, result: Result) -> None:
        attack, row = result.attack, result.row
        assert not row.stopped, row.stopped
        assert row.verdict["needs_person"] is attack.person, row.verdict
        assert row.score == attack.score, row.verdict
        assert row.verdict["max_score"] == FULL
        for told in (row.verdict["problem"], *(check["message"] for check in _checks(row.verdict))):
            assert not re.match("the grad(er|ing process) (broke|ended)", told), told

    def test_is_in_the_gradebook_as_in_the_verdict(self, result: Result) -> None:
        for row in result.rows:
            score, person = row.verdict.get("score"), row.verdict.get("needs_person")
            assert row.saved == (score, None, person), row.stopped

    def test_leaves_its_classmates_alone(self, result: Result) -> None:
        assert result.untouched() == []

    def test_learns_nothing(self, result: Result) -> None:
        assert result.leaked() == []

    def test_leaves_nothing_behind(self, result: Result) -> None:
        assert result.left == []

    def test_is_over_in_time(self, result: Result) -> None:
        assert result.row.seconds < result.attack.seconds

    def test_was_carried_out(self, result: Result) -> None:
        """An attack with a slip in it would prove nothing."""
        for row in result.rows:
            errors = {
                output["ename"]
                for name, outputs in row.outputs().items()
                for output in outputs
                if name.startswith("extra-") and output["output_type"] == "error"
            }
            assert not errors & MISTAKES, row.outputs()
        assert result.attack.proof in result.row.came_back()


class TestTheClass:
    def test_nothing_of_the_teachers_has_changed(self, batch: Batch) -> None:
        assert batch.changed == []

    def test_nobody_reached_the_network(self, batch: Batch) -> None:
        assert batch.calls == 0

    def test_the_process_that_grades_lives(self, batch: Batch) -> None:
        assert batch.trouble == ""
        assert batch.workers == 1, "it was started anew"


def _checks(verdict: dict) -> list[dict]:
    return [check for exercise in verdict["exercises"] for check in exercise["checks"]]
