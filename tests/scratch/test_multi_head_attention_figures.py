"""What the figures and the last cell of unit 09 promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from scratch import multi_head_attention, plots
from scratch import multi_head_attention_plots as figures
from scratch.multi_head_attention_rewards import NAMES, ROLES, WORDS, difference, four_heads
from scratch.rewards import UNFINISHED

matplotlib.use("Agg")

ANSWERS = {name: getattr(multi_head_attention, name) for name in NAMES}
RELEASE = Path(__file__).parents[2] / "exercises" / "09_multi_head_attention" / "multi_head_attention.ipynb"
X = np.array([[2.0, 0, 2, 0], [0, 2, 0, 0], [2, 0, 0, 2]])
EVEN = np.full((3, 3), 1 / 3)
LOSSES = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.4]])
DRAWN = {
    "head_maps": lambda: figures.head_maps([("one", [("a", EVEN), ("b", EVEN)])], ["x", "y", "z"]),
    "feature_reach": lambda: figures.feature_reach([("a", np.eye(4)), ("b", np.ones((4, 4)))], heads=2),
    "worksheet": lambda: figures.worksheet(
        ["a", "b", "c"], X, [X[:, :2], X[:, 2:]], [EVEN] * 2, [X[:, :2], X[:, 2:]], X
    ),
    "two_views": lambda: figures.two_views(np.arange(1, 17).reshape(4, 4), 2),
    "layer": figures.layer,
    "sharing": lambda: figures.sharing(4, [("multi-head", 4), ("grouped-query", 2), ("multi-query", 1)]),
    "pruning": lambda: figures.pruning(LOSSES, ["before", "same"], ["all", "without 0", "without 1"]),
    "cache": lambda: figures.cache([1, 2, 4], {"full": [1, 2, 4], "shared": [0.5, 1, 2]}),
}


@pytest.mark.parametrize("name", DRAWN)
def test_every_picture_describes_itself_and_fits_a_page(name):
    picture = DRAWN[name]()
    assert len(picture.alt) > 60
    assert "<img alt=" in picture.to_html()
    assert 3 < picture.get_figwidth() < 10


def test_maps_share_one_scale_and_name_their_axes():
    maps = [(f"head {h}", EVEN) for h in range(2)]
    picture = figures.head_maps([("above", maps), ("below", maps)], ["x", "y", "z"])
    panels = [ax for ax in picture.axes if ax.get_label() != "<colorbar>"]
    assert len(panels) == 4
    assert {ax.images[0].get_clim() for ax in panels} == {(0.0, 1.0)}
    assert [ax.get_ylabel() for ax in panels] == ["above\nquery", "", "below\nquery", ""]
    assert [ax.get_xlabel() for ax in panels] == ["", "", "key", "key"]


def test_features_are_named_with_their_heads_and_zeros_hatched():
    ax = DRAWN["feature_reach"]().axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [
        "0 (head 0)", "1 (head 0)", "2 (head 1)", "3 (head 1)",
    ]  # fmt: skip
    assert sum(patch.get_hatch() is not None for patch in ax.patches) == 12


def test_worksheet_holds_every_number():
    texts = [text.get_text() for text in DRAWN["worksheet"]().axes[0].texts]
    assert texts.count("0.33") == 2 * 9
    assert texts.count("2") == 5 * 5  # in x, in the heads, in what they found, merged, and in the output


def test_the_two_views_show_each_number_once_and_disagree_where_they_should():
    picture = DRAWN["two_views"]()
    texts = [text.get_text() for text in picture.axes[0].texts]
    assert all(texts.count(str(n)) == 3 for n in range(1, 17))
    assert "head 0 has 1, 5, 9, 13 first" in picture.alt
    assert "head 0 has 1, 3, 5, 7 first" in picture.alt


def test_neighbours_share_in_the_drawing():
    alt = DRAWN["sharing"]().alt
    assert "grouped-query: head 0 in pair 0, head 1 in pair 0, head 2 in pair 1, head 3 in pair 1" in alt


def test_tasks_differ_in_more_than_colour():
    bars = DRAWN["pruning"]().axes[0].containers
    assert (
        len({bar[0].get_hatch() for bar in bars})
        == len({to_hex(bar[0].get_facecolor()) for bar in bars})
        == 2
    )


def test_heads_have_colours_of_their_own():
    assert len(set(figures.HEADS)) == len(figures.HEADS)
    assert not set(figures.HEADS) & {plots.QUERY, plots.KEY, plots.VALUE}


@pytest.fixture
def stubs() -> dict[str, Any]:
    """The notebook's names as the exercise comes: nothing is written yet."""
    namespace: dict[str, Any] = {}
    for cell in nbformat.read(RELEASE, as_version=4).cells:
        if cell.id in ("setup", *NAMES):
            exec(cell.source, namespace)
    return namespace


@pytest.mark.parametrize("written", range(len(NAMES)))
def test_the_last_cell_waits_for_the_first_exercise_that_is_missing(written, stubs, capsys):
    assert four_heads({**stubs, **{name: ANSWERS[name] for name in NAMES[:written]}}) is None
    expected = f"This picture waits for `{NAMES[written]}`, which is not written yet.\n"
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, "garbage", torch.zeros(3)], ids=["None", "text", "tensor"])
def test_wrong_answers_are_told_and_raise_nothing(name, value, capsys):
    four_heads({**ANSWERS, name: lambda *args, **kwargs: value})
    told = capsys.readouterr().out
    assert told.startswith(UNFINISHED) or name in ("split_heads", "merge_heads", "count_parameters")


def test_layers_that_return_nonsense_are_told(capsys):
    class Nonsense(multi_head_attention.MultiHeadAttention):
        def forward(self, x, memory=None, mask=None):
            return super().forward(x, memory, mask) * float("nan")

    assert four_heads({**ANSWERS, "MultiHeadAttention": Nonsense}) is None
    assert capsys.readouterr().out.startswith(UNFINISHED)


def test_the_last_cell_draws_four_roles_twice_and_agrees_with_pytorch(capsys):
    picture = four_heads(ANSWERS)
    out = capsys.readouterr().out
    assert "agrees with nn.MultiheadAttention" in out
    assert "7,744 with four pairs of keys and values, 5,808 with two" in out
    above, below = picture.axes[:4], picture.axes[4:8]
    assert tuple(ax.get_title(loc="left") for ax in above) == ROLES
    for one, two in zip(above, below, strict=True):
        assert np.allclose(one.images[0].get_array(), two.images[0].get_array(), atol=1e-6)
    before, after, same, parts = (np.asarray(ax.images[0].get_array()) for ax in above)
    assert np.allclose(np.diag(before, -1), 1, atol=1e-3)
    assert np.allclose(np.diag(after, 1), 1, atol=1e-3)
    assert same[0, 0] == pytest.approx(1 / WORDS.count("the"), abs=1e-3)
    assert parts[1, [2, 8]] == pytest.approx([0.5, 0.5], abs=1e-3)  # dog looks for saw


def test_a_layer_that_differs_is_told(capsys):
    class Halved(multi_head_attention.MultiHeadAttention):
        def forward(self, x, memory=None, mask=None):
            return super().forward(x, memory, mask) * (0.5 if memory is not None else 1)

    assert difference(Halved) > 0.01
    four_heads({**ANSWERS, "MultiHeadAttention": Halved})
    assert "differs from" in capsys.readouterr().out
