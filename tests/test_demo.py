"""The class in miniature, end to end: what `make demo` shows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from proctor.course import read_course
from proctor.demo import LEARNERS, UNIT, hold_class
from proctor.results import Outcome, Verdict

ROOT = Path(__file__).parents[1]


def state_of_checkout() -> str:
    """What git sees of the checkout, ignored files included."""
    command = ["git", "status", "--porcelain", "--ignored", "--untracked-files=all", "--", ".", ":!.venv"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return "\n".join(
        line for line in done.stdout.splitlines() if not re.search(r"cache|\.pyc|\.hypothesis", line)
    )


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Verdict], list[str]]:
    """The class, held once."""
    folder = tmp_path_factory.mktemp("class")
    said: list[str] = []
    return folder, hold_class(read_course(ROOT), folder, said.append), said


def outcomes(verdict: Verdict) -> list[Outcome]:
    return [exercise.outcome for exercise in verdict.exercises]


def test_everybody_gets_a_verdict(held) -> None:
    _, verdicts, said = held
    assert set(verdicts) == {learner.name for learner in LEARNERS}
    assert not any(verdict.needs_person for verdict in verdicts.values())
    assert len(said) == 9


def test_the_folder_is_a_course_of_its_own_that_every_command_can_read(held) -> None:
    course = read_course(held[0] / "course")
    assert [unit.name for unit in course.units] == [UNIT]
    assert course.unit(UNIT) == read_course(ROOT).unit(UNIT)
    assert all(course.exercises(unit) and course.solution(unit).is_file() for unit in course.units)


@pytest.mark.parametrize("name", ["ada", "dara"])
def test_right_answers_in_any_style_score_full(held, name: str) -> None:
    verdict = held[1][name]
    assert verdict.score == verdict.max_score > 0


def test_half_of_the_work_scores_what_was_done(held) -> None:
    verdict = held[1]["bela"]
    assert set(outcomes(verdict)[:3]) == {Outcome.PASSED}
    assert set(outcomes(verdict)[3:]) == {Outcome.NOT_ATTEMPTED}


def test_the_classic_mistake_is_named(held) -> None:
    verdict = held[1]["chen"]
    weights = verdict.exercise("attention_weights")
    assert 0 < verdict.score < verdict.max_score
    assert "over the queries" in weights.first_loss.message


def test_a_crash_costs_its_own_exercise_only(held) -> None:
    verdict = held[1]["emil"]
    lost = [exercise.name for exercise in verdict.exercises if exercise.outcome is not Outcome.PASSED]
    assert lost == ["padding_mask"]
    assert "ended its own process" in verdict.exercise("padding_mask").first_loss.message


def test_forging_scores_nothing(held) -> None:
    assert held[1]["fay"].score == 0


def test_feedback_reaches_every_learner(held) -> None:
    folder, verdicts, _ = held
    for name in verdicts:
        page = (folder / "course" / "feedback" / name / UNIT / "attention.html").read_text()
        assert "Content-Security-Policy" in page
        assert str(folder) not in page


def test_the_command_prints_the_gradebook_and_leaves_the_checkout_as_it_was(tmp_path: Path) -> None:
    before = state_of_checkout()
    command = [str(ROOT / ".venv" / "bin" / "proctor"), "demo", "--keep", str(tmp_path / "kept")]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "COLUMNS": "120"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("ada", "fay", "SelfAttention", "Where points were lost", "Feedback pages:"):
        assert word in done.stdout
    assert state_of_checkout() == before
