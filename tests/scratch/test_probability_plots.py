"""What the figures of unit 02 promise: descriptions, named axes, and lines that differ in more than colour."""

import functools

import matplotlib
import numpy as np
import pytest

from scratch import probability_plots as plots

matplotlib.use("Agg")

WORDS = ["mat", "sofa", "moon"]
P = np.array([0.5, 0.3, 0.2])


@functools.cache
def pictures():
    """Return every kind of figure of the unit, by name."""
    x, widths = np.linspace(0.01, 0.99, 20), [2, 4, 8]
    tells = {f"word{i}": 2 - i / 10 for i in range(15)}
    return {
        "bars": plots.bars(WORDS, {"one": P, "two": P[::-1]}),
        "dot_products": plots.dot_products(
            {4: np.arange(9.0), 16: 3 * np.arange(9.0)},
            {"independent": (widths, np.array(widths)), "copies": (widths, np.array(widths) ** 2)},
        ),
        "two_axes": plots.two_axes([("rows", np.eye(3)), ("columns", np.eye(3))], WORDS, WORDS),
        "surprise": plots.surprise(x, x * (1 - x), {"mat": 0.5, "moon": 0.05}),
        "temperature": plots.temperature(x + 0.1, x, np.log(3), {0.3: P, 1.0: P[::-1]}, WORDS),
        "soft_maximum": plots.soft_maximum(x, np.log(np.exp(x) + 1)),
        "directions": plots.directions(np.arange(3), P, {"forward": P, "backward": P[::-1]}),
        "likelihood": plots.likelihood(x, {"a": (x - 0.7) ** 2 + 0.5, "b": 1 - x / 2}),
        "staircase": plots.staircase(WORDS, P, {0.2: 0, 0.6: 1, 0.9: 2}),
        "what_a_word_tells": plots.what_a_word_tells(tells, {"none": 3.0, "word": 2.0}, "a play"),
    }


NAMES = [
    "bars",
    "dot_products",
    "two_axes",
    "surprise",
    "temperature",
    "soft_maximum",
    "directions",
    "likelihood",
]


@pytest.mark.parametrize("name", [*NAMES, "staircase", "what_a_word_tells"])
def test_every_picture_describes_itself_and_names_its_axes(name):
    picture = pictures()[name]
    assert len(picture.alt) > 60
    assert len(picture.to_html()) < 160_000
    panels = [ax for ax in picture.axes if ax.get_label() != "<colorbar>"]
    assert all(ax.get_xlabel() for ax in panels)


@pytest.mark.parametrize(("name", "panel"), [("dot_products", 1), ("soft_maximum", 0)])
def test_lines_differ_in_more_than_colour(name, panel):
    lines = pictures()[name].axes[panel].lines
    assert len({line.get_linestyle() for line in lines}) == len(lines)


def test_the_lowest_point_of_each_curve_is_marked():
    marks = [line for line in pictures()["likelihood"].axes[0].lines if len(line.get_xdata()) == 1]
    assert [round(float(mark.get_xdata()[0]), 2) for mark in marks] == [0.68, 0.99]
    assert len({mark.get_marker() for mark in marks}) == 2


def test_bars_write_their_heights():
    texts = {text.get_text() for text in pictures()["bars"].axes[0].texts}
    assert texts == {"0.50", "0.30", "0.20"}
    assert "mat 0.50, sofa 0.30, moon 0.20" in pictures()["bars"].alt


def test_stairs_rise_to_one_and_tell_where_numbers_lead():
    bars = pictures()["staircase"].axes[0].patches[:3]
    assert [round(bar.get_y() + bar.get_height(), 6) for bar in bars] == [0.5, 0.8, 1.0]
    assert "0.6 leads to sofa" in pictures()["staircase"].alt
