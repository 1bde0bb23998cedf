"""The last cell of unit 11, and its figures: it draws where the answers work, and otherwise says what it waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch

from scratch import layers, layers_plots, layers_rewards
from scratch.layers_rewards import NAMES, judge_brackets, make_brackets

RELEASE = Path(__file__).parents[2] / "exercises" / "11_encoder" / "encoder.ipynb"
ANSWERS = {name: getattr(layers, name) for name in NAMES}


@pytest.fixture
def stubs() -> dict[str, Any]:
    """The notebook's names as the exercise comes: nothing is written yet."""
    namespace: dict[str, Any] = {}
    for cell in nbformat.read(RELEASE, as_version=4).cells:
        if cell.id in ("setup", *NAMES):
            exec(cell.source, namespace)
    return namespace


def balanced(row: list[int]) -> bool:
    """Whether no closing bracket (1) comes before its opening one (0), one by one."""
    depth = 0
    for bracket in row:
        depth += 1 - 2 * bracket
        if depth < 0:
            return False
    return depth == 0


@pytest.mark.parametrize("length", [2, 8, 20])
def test_brackets_are_told_apart_as_a_stack_does(length: int) -> None:
    rows, truth = make_brackets(400, length, seed=3)
    assert (rows.sum(dim=-1) == length // 2).all()
    assert truth.tolist() == [balanced(row) for row in rows.tolist()]
    assert 0.3 < truth.double().mean() < 0.9


@pytest.mark.parametrize("written", range(len(NAMES)))
def test_it_waits_for_the_first_exercise_that_is_missing(
    written: int, stubs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge_brackets({**stubs, **{name: ANSWERS[name] for name in NAMES[:written]}}) is None
    assert (
        capsys.readouterr().out == f"This picture waits for `{NAMES[written]}`, which is not written yet.\n"
    )


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_distance_from_pytorch_is_rounding(norm_first: bool) -> None:
    assert layers_rewards.distance(layers.Encoder, norm_first) < 1e-5


def test_it_shows_what_it_has_learned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(layers_rewards, "STEPS", 300)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    picture = judge_brackets(ANSWERS)
    assert "not balanced" in picture.alt
    assert "Held-out accuracy on brackets: " in capsys.readouterr().out
    assert torch.equal(torch.random.get_rng_state(), before)


def test_it_does_not_praise_an_encoder_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Wrong(layers.Encoder):
        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            return super().forward(x)

    monkeypatch.setattr(layers_rewards, "STEPS", 20)
    assert judge_brackets({**ANSWERS, "Encoder": Wrong}) is None
    assert capsys.readouterr().out.startswith("This picture waits until the checks above pass.")


def test_it_gives_up_where_training_would_take_too_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(layers_rewards, "PATIENCE", 0.01)
    assert judge_brackets(ANSWERS) is None
    assert "is there a loop" in capsys.readouterr().out


def pictures() -> dict[str, Any]:
    """Every figure of the unit."""
    curves = {"one": [1.0, 2.0, 300.0], "two": [2.0, 1.0, 0.5]}
    steps = {"x": np.eye(3, 4), "norm": -np.eye(3, 4)}
    return {
        "residual_stream": layers_plots.residual_stream(),
        "two_orders": layers_plots.two_orders(),
        "one_layer": layers_plots.one_layer(),
        "who_shares_a_mean": layers_plots.who_shares_a_mean(),
        "worksheet": layers_plots.worksheet(steps, list("abc"), list("defg")),
        "lines": layers_plots.lines(
            {"a": curves, "b": curves}, [1, 2, 3], "step", ["loss", "size"], log=[True, False], marks={"m": 1}
        ),
        "cosine_maps": layers_plots.cosine_maps([("all", np.ones((3, 3)))], ["a", "b", "a"]),
        "verdicts": layers_plots.verdicts(["()", ")("], np.ones((2, 2)), ["yes", "yes"], [True, False], "t"),
    }


def test_every_picture_describes_itself() -> None:
    for name, picture in pictures().items():
        assert len(picture.alt) > 25, name
        assert "<img alt=" in picture.to_html(), name


def test_a_wrong_verdict_says_so() -> None:
    picture = pictures()["verdicts"]
    assert "(wrong)" in picture.alt
    assert [text.get_text() for text in picture.axes[0].texts].count("yes (wrong)") == 1


def test_the_same_name_has_the_same_style_in_every_panel() -> None:
    left, right = pictures()["lines"].axes
    for one, two in zip(left.lines[:2], right.lines[:2], strict=True):
        assert (one.get_color(), one.get_linestyle()) == (two.get_color(), two.get_linestyle())
    assert (left.get_yscale(), right.get_yscale()) == ("log", "linear")
