"""What the figures of unit 04 promise: descriptions, names, integer epochs, frames around what is misread."""

import matplotlib
import numpy as np
import pytest

from scratch import training_plots

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def pictures():
    path = np.array([[-3.0, 1.0], [-1.0, 0.5], [0.0, 0.0]])
    lines = {"training": [2.0, 1.0, 0.5], "held-out": [2.0, 1.5, 1.2]}
    wrong = [False, True, False, False, True]
    return {
        "curves": training_plots.curves(
            {"one": lines, "two": lines}, "epoch", ["loss", "lr"], log=[True, False], top=3
        ),
        "trajectories": training_plots.trajectories(
            lambda a, b: a**2 + b**2, {"map": {"SGD": path}}, (-4, 1, -2, 2)
        ),
        "digits": training_plots.digits(np.zeros((5, 8, 8)), list("01234"), wrong, columns=3),
    }


@pytest.mark.parametrize("name", ["curves", "trajectories", "digits"])
def test_every_picture_describes_itself(pictures, name):
    assert len(pictures[name].alt) > 60
    assert "<img alt=" in pictures[name].to_html()


def test_curves_are_named_scaled_and_counted_in_whole_steps(pictures):
    left, right = pictures["curves"].axes
    assert (left.get_yscale(), right.get_yscale()) == ("log", "linear")
    assert (left.get_ylabel(), right.get_ylabel(), left.get_xlabel()) == ("loss", "lr", "epoch")
    assert left.get_ylim()[1] == 3
    assert all(tick == int(tick) for tick in right.get_xticks())
    assert "held-out: from 2 to 1.2" in pictures["curves"].alt


def test_what_is_held_out_looks_the_same_in_every_place():
    both, alone = {"training": [1, 2], "held-out": [1, 2]}, {"held-out": [1, 2]}
    first = training_plots.curves({"a": both}, "epoch", "loss").axes[0].lines[1]
    second = training_plots.curves({"a": alone}, "epoch", "loss").axes[0].lines[0]
    assert (first.get_color(), first.get_linestyle()) == (second.get_color(), second.get_linestyle())


def test_misread_digits_are_framed_and_told(pictures):
    assert pictures["digits"].alt.endswith("Framed, because misread: 1, 4.")
    assert sum(patch.get_linewidth() > 1 for patch in pictures["digits"].axes[0].patches) == 2
