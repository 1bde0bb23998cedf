"""The figures of unit 05 describe themselves, and show what they are given."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import Rectangle

from scratch.token_plots import batch, curves, letters, lookup, strips, written


def drawn(picture):
    """The texts in a figure, once it has been drawn; a letter that the font lacks would be a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture.to_html()
    return [text.get_text() for ax in picture.axes for text in ax.texts]


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (b" the", "␣the"),
        ("São", "São"),
        (b"\xc3", "C3"),
        ("日", "E6 97 A5"),
        ("\n", "⏎"),
        (b"a\x00", "61 00"),
        (b"", ""),
    ],
)
def test_tokens_are_written_so_that_they_can_be_seen(token, shown):
    assert written(token) == shown


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=6))
def test_whatever_a_token_holds_can_be_drawn(token):
    drawn(strips({"row": [token, token.encode()[:1]]}))


def test_strips_go_on_in_the_next_line_and_show_every_token():
    tokens = [f"word{i}" for i in range(40)]
    picture = strips({"many": tokens, "few": [b"a"], "none": []})
    texts = drawn(picture)
    assert [text for text in texts if text.startswith("word")] == tokens
    assert {"many · 40 tokens", "few · 1 token", "none · 0 tokens"} <= set(texts)
    (ax,) = picture.axes
    boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert len(boxes) == 41
    assert all(box.get_x() + box.get_width() <= ax.get_xlim()[1] for box in boxes)
    assert all(box.get_y() + box.get_height() <= ax.get_ylim()[0] for box in boxes)
    assert "few: a" in picture.alt


def test_every_line_has_its_name():
    panels = {"one": {"a": ([1, 2], [3, 4])}, "two": {"a": ([1, 2], [3, 4]), "b": ([1, 2], [5.0, 6])}}
    picture = curves(panels, "x", ["y", "z"])
    drawn(picture)
    (legend,) = picture.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert "b from 5 at 1 to 6 at 2" in picture.alt


def test_padding_is_hatched_in_ids_and_mask():
    picture = batch([[5, 0], [5, 6]], np.array([[True, False], [True, True]]), [["a"], ["a", "b"]])
    texts = drawn(picture)
    assert texts[:4] == ["5\na", "0\n<pad>", "5\na", "6\nb"]
    assert texts[4:] == ["True", "False", "True", "True"]
    for ax in picture.axes:
        assert [bool(patch.get_hatch()) for patch in ax.patches] == [False, True, False, False]
    assert "row 0: 1 tokens, 1 padding" in picture.alt


def test_a_lookup_shows_the_rows_that_it_takes():
    table = np.array([[0.0, 0], [1, 2], [3, 4]])
    picture = lookup([2, 0, 2], table, ["<pad>", "a", "b"])
    assert drawn(picture)[-6:] == ["3.0", "4.0", "0.0", "0.0", "3.0", "4.0"]
    assert [label.get_text() for label in picture.axes[2].get_yticklabels()] == ["b", "<pad>", "b"]
    assert len(picture.axes[1].patches) == 2
    assert "[2, 0, 2]" in picture.alt


def test_letters_stand_at_their_points():
    points = np.array([[0.0, 0], [1, 1], [2, 0]])
    picture = letters({"before": points, "after": 2 * points}, "abc", "a")
    assert drawn(picture) == list("abcabc")
    assert "before: the centres of both kinds lie 1.6 apart" in picture.alt
