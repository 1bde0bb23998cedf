"""The last cell of a unit: it draws where the answers work, and otherwise says what it waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from scratch import attention
from scratch.rewards import which_word

NAMES = (
    "attention_scores",
    "attention_weights",
    "scaled_dot_product_attention",
    "causal_mask",
    "SelfAttention",
)
RELEASE = Path(__file__).parents[2] / "exercises" / "08_attention" / "attention.ipynb"


@pytest.fixture
def stubs() -> dict[str, Any]:
    """The notebook's names as the exercise comes: nothing is written yet."""
    namespace: dict[str, Any] = {}
    for cell in nbformat.read(RELEASE, as_version=4).cells:
        if cell.id in ("setup", "padding_mask", *NAMES):
            exec(cell.source, namespace)
    return namespace


@pytest.mark.parametrize("written", range(len(NAMES)))
def test_it_waits_for_the_first_exercise_that_is_missing(
    written: int, stubs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {name: getattr(attention, name) for name in NAMES[:written]}
    assert which_word({**stubs, **answers}) is None
    assert (
        capsys.readouterr().out == f"This picture waits for `{NAMES[written]}`, which is not written yet.\n"
    )


def test_where_one_was_left_out_it_waits_for_that(
    stubs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {name: getattr(attention, name) for name in NAMES if name != "attention_weights"}
    which_word({**stubs, **answers})
    assert "waits for `attention_weights`" in capsys.readouterr().out
    which_word({**answers})
    assert "waits for `attention_weights`" in capsys.readouterr().out


def test_it_draws_where_all_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert which_word({name: getattr(attention, name) for name in NAMES}) is not None
    assert capsys.readouterr().out == ""
