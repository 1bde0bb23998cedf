"""The figures of unit 10 describe themselves, and show the numbers that they are given."""

import base64
import functools
import io
import itertools
import re

import matplotlib
import numpy as np
import pytest
from matplotlib.patches import Circle
from PIL import Image

from scratch import positions_plots as plots
from scratch.positions import alibi_bias, sinusoidal_encoding

matplotlib.use("Agg")

CURVES = {name: np.linspace(2, 1, 8 if name == "learned" else 40) for name in plots.STYLES}


@functools.cache
def pictures():
    """Return every kind of figure of the unit, by name."""
    slopes = [1 / 16, 1 / 256]
    return {
        "tables": plots.tables({"one": sinusoidal_encoding(9, 4), "two": sinusoidal_encoding(9, 6)}),
        "against_distance": plots.against_distance(
            range(-3, 4), {"D = 4": np.arange(7.0), "D = 8": np.ones(7)}, "distance", "share"
        ),
        "turning": plots.turning([1.0, 0.0], [0.7, -0.5], [(3, 1), (9, 7)], 0.5),
        "layouts": plots.layouts(6),
        "distances": plots.distances(4),
        "bias_row": plots.bias_row(alibi_bias(2, 5), slopes),
        "extrapolation": plots.extrapolation(CURVES, 8, np.full(39, 0.9), 2.08),
        "where_positions_enter": plots.where_positions_enter(),
        "scoreboard": plots.scoreboard(np.eye(2, 3), ["copy", "sort"], ["none", "rotary", "ALiBi"]),
    }


NAMES = [
    "tables", "against_distance", "turning", "layouts", "distances", "bias_row", "extrapolation",
    "where_positions_enter", "scoreboard",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_describes_itself_and_is_of_reasonable_size(name):
    element = pictures()[name].to_html()
    assert len(re.search(r'<img alt="([^"]*)"', element).group(1)) > 60
    source = re.search(r"base64,([^\"]+)", element).group(1)
    image = Image.open(io.BytesIO(base64.b64decode(source)))
    assert 300 < image.width / 1.6 < 1000
    assert len(source) < 120_000


def test_turned_arrows_keep_their_angle():
    alt = pictures()["turning"].alt
    said = re.findall(r"(\d+) degrees from key to query, dot product (−?-?[\d.]+)", alt)
    assert said[0] != said[1] == said[2]


def test_layouts_name_the_pairs():
    alt = pictures()["layouts"].alt
    assert "neighbours (RoFormer): 0 and 1, 2 and 3, 4 and 5" in alt
    assert "0 and 3, 1 and 4, 2 and 5" in alt


def test_the_future_of_a_bias_is_hatched():
    for ax in pictures()["bias_row"].axes[:2]:
        hatched = {(round(p.get_y() + 0.5), round(p.get_x() + 0.5)) for p in ax.patches if p.get_hatch()}
        assert hatched == {(t, s) for t, s in np.ndindex(5, 5) if s > t}


def test_codes_differ_in_more_than_colour():
    colours, lines, markers = zip(*plots.STYLES.values(), strict=True)
    assert len(set(colours)) == len(set(lines)) == len(set(markers)) == len(plots.STYLES)


def test_the_learned_curve_ends_where_its_vectors_end():
    lines = {line.get_label(): line.get_xdata() for line in pictures()["extrapolation"].axes[0].lines}
    assert lines["learned"][-1] == 7
    assert lines["rotary"][-1] == 39
    assert "no vectors beyond" in pictures()["extrapolation"].alt


def test_waves_stand_where_positions_enter():
    waves = [
        [patch for patch in ax.patches if isinstance(patch, Circle) and patch.radius > 0.1]
        for ax in pictures()["where_positions_enter"].axes
    ]
    assert [len(circles) - 1 for circles in waves] == [1, 2, 1]  # one of each is the sum
    first, second, _ = waves
    assert all(a.center != b.center for a, b in itertools.product(first[:1], second[:2]))


def test_charts_name_their_axes():
    for name in ("tables", "against_distance", "distances", "bias_row", "extrapolation", "scoreboard"):
        panels = [ax for ax in pictures()[name].axes if ax.get_label() != "<colorbar>"]
        assert panels[0].get_ylabel()
        assert all(ax.get_xlabel() for ax in panels)
