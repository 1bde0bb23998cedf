"""What the figures promise: palette, hatched masks, names, descriptions, and colours that survive a grey printer."""

import base64
import functools
import io
import itertools
import re

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Rectangle
from PIL import Image

from scratch import attention_plots, diagrams, plots

matplotlib.use("Agg")

WORDS = ["the", "dog", "slept"]
CAUSAL = np.tril(np.ones((3, 3), dtype=bool))
WEIGHTS = CAUSAL / CAUSAL.sum(axis=1, keepdims=True)


@functools.cache
def pictures():
    """Return every kind of figure of the course so far, by name."""
    key, value = np.eye(3, 4), np.ones((3, 2))
    widths, curves = [4, 8, 16], {name: np.full((3, 2), i + 1.0) for i, name in enumerate(["1", "√K", "K"])}
    return {
        "attention_map": plots.attention_map(WEIGHTS, WORDS, WORDS, CAUSAL, title="causal"),
        "lookup_table": diagrams.lookup_table(
            WORDS, key[1], key, key @ key[1], WEIGHTS[2], value, value[0], "it"
        ),
        "attention_flow": diagrams.attention_flow(),
        "saturation": attention_plots.saturation(widths, curves, ["spread", "largest"]),
        "map_row": attention_plots.map_row([("a", WEIGHTS, None), ("b", WEIGHTS, CAUSAL)], WORDS),
        "two_maps": attention_plots.two_maps(("a", WEIGHTS, WORDS), ("b", WEIGHTS[:2], WORDS[:2]), WORDS),
        "reach_row": attention_plots.reach_row([("a", WEIGHTS), ("b", WEIGHTS)], WORDS),
        "leak_row": attention_plots.leak_row(WEIGHTS, CAUSAL, WEIGHTS + 0.1, WORDS),
        "cost": attention_plots.cost([1, 2, 4], [2, 4, 8], [1, 4, 16], width=4),
    }


CHARTS = ["attention_map", "map_row", "two_maps", "reach_row", "leak_row", "saturation", "cost"]


@pytest.fixture(params=[*CHARTS, "lookup_table", "attention_flow"])
def picture(request):
    return pictures()[request.param]


def luminance(colour):
    """Return the relative luminance of a colour, as WCAG 2 defines it: 0 black, 1 white."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def hatched(ax):
    """Return the (row, column) of each hatched cell."""
    cells = [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_hatch()]
    return {(round(cell.get_y() + 0.5), round(cell.get_x() + 0.5)) for cell in cells}


def test_every_picture_describes_itself_in_the_notebook(picture):
    element = picture.to_html()
    assert len(picture.alt) > 60
    assert re.search(r'<img alt="([^"]*)"', element).group(1)
    assert "width" in element


def test_every_picture_is_a_png_of_reasonable_size(picture):
    source = re.search(r"base64,([^\"]+)", picture.to_html()).group(1)
    image = Image.open(io.BytesIO(base64.b64decode(source)))
    assert image.format == "PNG"
    assert 300 < image.width / 1.6 < 1000
    assert len(source) < 120_000


def test_every_chart_names_its_axes():
    for name in CHARTS:
        panels = [ax for ax in pictures()[name].axes if ax.get_label() != "<colorbar>"]
        assert panels[0].get_ylabel() or panels[0].get_title(loc="left")
        assert all(ax.get_xlabel() for ax in panels)


def test_description_is_escaped():
    picture, _ = plots.canvas(3, 2, alt='a "quoted" <pad>')
    assert 'alt="a &quot;quoted&quot; &lt;pad&gt;"' in picture.to_html()


def test_notebook_output_is_html_with_a_text_form(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    picture, _ = plots.canvas(3, 2, alt="nothing to see")
    picture._ipython_display_()
    assert set(shown[0]) == {"text/html", "text/plain"}
    assert shown[0]["text/plain"] == "Figure: nothing to see"


def test_masked_entries_are_hatched_grey_and_no_others():
    ax = plots.attention_map(WEIGHTS, WORDS, WORDS, CAUSAL).axes[0]
    assert hatched(ax) == {(0, 1), (0, 2), (1, 2)}
    assert {to_hex(patch.get_facecolor()).upper() for patch in ax.patches} == {plots.MASKED}
    assert not hatched(plots.attention_map(WEIGHTS, WORDS, WORDS).axes[0])


def test_masks_broadcast_as_the_library_does():
    ax = plots.attention_map(WEIGHTS, WORDS, WORDS, np.array([[True, True, False]])).axes[0]
    assert hatched(ax) == {(0, 2), (1, 2), (2, 2)}


def test_map_reads_rows_as_queries_and_columns_as_keys():
    ax = plots.attention_map(WEIGHTS[:2], ["a", "b"], WORDS).axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == WORDS
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("query", "key")


def test_weights_are_viridis_from_zero_to_one_and_signed_values_centred():
    weights = plots.attention_map(WEIGHTS, WORDS, WORDS).axes[0].images[0]
    signed = plots.attention_map(WEIGHTS - 0.5, WORDS, WORDS, signed=True, top=2).axes[0].images[0]
    assert (weights.get_cmap().name, weights.get_clim()) == ("viridis", (0, 1))
    assert signed.get_clim() == (-2, 2)
    assert signed.get_cmap().name == plots.SIGNED


def test_description_names_the_largest_weight_and_counts_the_forbidden():
    weights = np.array([[0.2, 0.8, 0], [0, 0, 0], [0.1, 0.2, 0.7]])
    mask = np.array([[True, True, False], [False] * 3, [True] * 3])
    alt = plots.attention_map(weights, WORDS, WORDS, mask, title="A map").alt
    assert "the: dog 0.80" in alt
    assert "dog: nothing permitted" in alt
    assert "4 of 9 entries are forbidden" in alt


def test_palette_is_okabe_and_ito():
    okabe_ito = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000"}
    assert set(plots.PALETTE.values()) <= okabe_ito
    assert len(set(plots.PALETTE.values())) == len(plots.PALETTE)
    assert (plots.PALETTE["query"], plots.PALETTE["key"], plots.PALETTE["value"]) == (
        "#0072B2",
        "#E69F00",
        "#009E73",
    )


def test_query_key_value_differ_in_lightness():
    light = sorted(luminance(colour) for colour in (plots.QUERY, plots.KEY, plots.VALUE))
    assert all((brighter + 0.05) / (darker + 0.05) > 1.3 for darker, brighter in itertools.pairwise(light))


def test_named_text_reads_on_white():
    for colour in (plots.INK, plots.QUERY, plots.KEY_INK):
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5


def test_lines_differ_in_more_than_colour():
    for name in ("saturation", "cost"):
        lines = pictures()[name].axes[0].lines
        assert len({line.get_linestyle() for line in lines}) == len(lines)
        assert len({line.get_marker() for line in lines}) == len(lines)


def test_leaks_are_framed_where_nothing_is_allowed():
    right = attention_plots.leak_row(WEIGHTS, CAUSAL, WEIGHTS + 0.1, WORDS).axes[1]
    framed = [patch for patch in right.patches if to_hex(patch.get_edgecolor()).upper() == plots.WRONG]
    assert {(round(box.get_y() + 0.4), round(box.get_x() + 0.4)) for box in framed} == {
        (0, 1),
        (0, 2),
        (1, 2),
    }


def test_tint_runs_from_white_to_the_colour():
    assert to_hex(plots.tint(plots.KEY, 0)) == "#ffffff"
    assert to_hex(plots.tint(plots.KEY, 1)).upper() == plots.KEY
