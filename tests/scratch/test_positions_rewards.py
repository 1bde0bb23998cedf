"""The reward of unit 10: it trains with the learner's parts, and otherwise says what it waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from scratch import positions, positions_rewards
from scratch.positions_rewards import NAMES, try_codes, which_code

RELEASE = Path(__file__).parents[2] / "exercises" / "10_positional_encoding" / "positional_encoding.ipynb"
PARTS = {name: getattr(positions, name) for name in NAMES}


@pytest.fixture
def stubs() -> dict[str, Any]:
    """The notebook's names as the exercise comes: nothing is written yet."""
    namespace: dict[str, Any] = {}
    for cell in nbformat.read(RELEASE, as_version=4).cells:
        if cell.id in ("setup", *NAMES):
            exec(cell.source, namespace)
    return namespace


@pytest.mark.parametrize("written", range(len(NAMES)))
def test_it_waits_for_the_first_exercise_that_is_missing(
    written: int, stubs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {name: PARTS[name] for name in NAMES[:written]}
    assert which_code({**stubs, **answers}) is None
    said = capsys.readouterr().out
    assert said == f"This picture waits for `{NAMES[written]}`, which is not written yet.\n"


def test_a_few_steps_give_a_number_for_every_task_and_code() -> None:
    seen, scores = try_codes(PARTS, steps=25)
    assert list(seen) == ["none", "sinusoids", "learned", "rotary", "ALiBi"]
    assert seen["none"] < 1e-5 < min(value for name, value in seen.items() if name != "none")
    assert scores.shape == (4, 5)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_wrong_parts_draw_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(positions_rewards, "STEPS", 2)
    wrong = {**PARTS, "permutation_test": lambda function, x, seed=0: 0.0}
    monkeypatch.setattr(positions_rewards, "try_codes", lambda parts: try_codes(parts, steps=21))
    assert which_code(wrong) is None
    assert positions_rewards.UNFINISHED in capsys.readouterr().out
    broken = {**PARTS, "alibi_bias": lambda heads, length: None}
    assert which_code(broken) is None
    assert "TypeError" in capsys.readouterr().out


def test_it_draws_where_all_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(positions_rewards, "try_codes", lambda parts: try_codes(parts, steps=90))
    picture = which_code(PARTS)
    assert picture is not None
    assert "permutation test" in capsys.readouterr().out
