"""What the figures and the reward of unit 03 promise: they describe themselves, and never throw."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import numpy as np
import pytest
from PIL import Image

from scratch import autograd, autograd_plots
from scratch.autograd_plots import Panel
from scratch.autograd_rewards import NAMES, fit_a_curve

matplotlib.use("Agg")

RELEASE = Path(__file__).parents[2] / "exercises" / "03_autograd" / "autograd.ipynb"
PLACES = {"a": (0.0, 0.0), "b": (0.0, 1.5), "y": (3.0, 0.7)}
TEXTS = {"a": "a", "b": "b", "y": "y = a · b"}
VALUES = {"a": 2.0, "b": 5.0, "y": 10.0}
EDGES = [("a", "y"), ("b", "y")]
SENT = Panel(
    title="back", grads={"y": 3, "a": 15, "b": 6}, sent={("a", "y"): "15", ("b", "y"): "6"}, wrong=["b"]
)


def pictures():
    """Return every kind of figure of the unit, by name."""
    return {
        "graph": autograd_plots.graph(PLACES, TEXTS, VALUES, EDGES),
        "local derivatives": autograd_plots.graph(
            PLACES, TEXTS, VALUES, EDGES, Panel(along={("a", "y"): "× 5"})
        ),
        "gradients": autograd_plots.graph(PLACES, TEXTS, VALUES, EDGES, SENT),
        "broadcasting": autograd_plots.broadcast_backward(np.ones(2), np.arange(6.0).reshape(3, 2)),
        "passes": autograd_plots.passes([1, 10], {"nudging": [2, 20], "forward": [1, 10], "reverse": [1, 1]}),
        "differences": autograd_plots.difference_errors(
            [0.1, 0.01], {"one": [0.1, 0.01], "two": [0.01, 1e-4]}
        ),
        "fits": autograd_plots.fits(
            np.arange(9.0), np.ones(9), np.ones(9), np.ones(9), [1.0] * 20, [1.0] * 20, 1e-15
        ),
    }


@pytest.mark.parametrize("name", list(pictures()))
def test_every_picture_describes_itself_and_is_of_reasonable_size(name):
    picture = pictures()[name]
    element = picture.to_html()
    image = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", element).group(1))))
    assert len(picture.alt) > 60
    assert 300 < image.width / 1.6 < 1000


def test_a_graph_tells_values_gradients_and_messages():
    alt = pictures()["gradients"].alt
    assert "y = a · b: 10, gradient 3" in alt
    assert "y to a: 15" in alt
    assert "Wrong and framed: b" in alt


def test_the_gradient_of_a_broadcast_row_is_told():
    assert "(6, 9)" in pictures()["broadcasting"].alt


def test_lines_differ_in_more_than_colour():
    for name in ("passes", "differences"):
        lines = pictures()[name].axes[0].lines
        assert len({line.get_linestyle() for line in lines}) == len(lines)
        assert len({line.get_marker() for line in lines}) == len(lines)


@pytest.fixture
def stubs() -> dict[str, Any]:
    """The notebook's names as the exercise comes: nothing is written yet."""
    namespace: dict[str, Any] = {}
    for cell in nbformat.read(RELEASE, as_version=4).cells:
        if cell.id in ("setup", "operations", "tensor", *NAMES):
            exec(cell.source, namespace)
    return namespace


@pytest.mark.parametrize("written", range(len(NAMES)))
def test_the_reward_waits_for_the_first_exercise_that_is_missing(written, stubs, capsys):
    stubs.update({name: getattr(autograd, name) for name in NAMES[:written]})
    assert fit_a_curve(stubs) is None
    assert (
        capsys.readouterr().out == f"This picture waits for `{NAMES[written]}`, which is not written yet.\n"
    )


def test_the_reward_draws_where_all_is_written_and_says_so_where_something_is_wrong(stubs, capsys):
    stubs.update({name: getattr(autograd, name) for name in NAMES})
    assert "differ by" in fit_a_curve(stubs).alt
    assert capsys.readouterr().out == ""
    stubs["mul"] = lambda a, b: (a * b, lambda grad: (grad * a, grad * b))
    assert fit_a_curve(stubs) is None
    assert "waits until the checks above pass" in capsys.readouterr().out
