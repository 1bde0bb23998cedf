"""The figures of unit 06: they draw, they say in words what they show, and nothing that they say is cut off."""

from __future__ import annotations

import numpy as np
import pytest

from scratch import recurrent_diagrams, recurrent_plots

CURVES = {kind: [1.0, 0.5, 1e-3, 1e-14] for kind in ("RNN", "LSTM", "GRU")}
SHARES = {kind: [1.0, 0.5] for kind in ("RNN", "LSTM", "GRU")}
FIGURES = {
    "rnn": lambda: recurrent_diagrams.rnn(),
    "lstm": lambda: recurrent_diagrams.lstm(),
    "gru": lambda: recurrent_diagrams.gru(),
    "unrolled": lambda: recurrent_diagrams.unrolled(),
    "backward": lambda: recurrent_diagrams.unrolled(backward=True),
    "chunks": lambda: recurrent_diagrams.chunks(),
    "bidirectional": lambda: recurrent_diagrams.bidirectional(["one", "two", "three"]),
    "lags": lambda: recurrent_plots.lags({"start": CURVES, "other": SHARES}),
    "accuracies": lambda: recurrent_plots.accuracies({"start": SHARES}, [5, 10], 0.25, "length T"),
    "capacities": lambda: recurrent_plots.capacities({8: [1.0, 0.5], 32: [1.0, 0.9]}, [2, 4], 0.25),
    "learning": lambda: recurrent_plots.learning(SHARES, "epoch", "loss"),
    "losses": lambda: recurrent_plots.losses({"loss": SHARES, "length": SHARES}, [False, True]),
    "reach": lambda: recurrent_plots.reach_maps({"forward": np.tril(np.ones((2, 2)))}, ["one", "two"]),
    "written": lambda: recurrent_plots.written(
        [[("O", 0.5), ("k", 0.9), ("\n", 0.1)], [("U", 0.2), ("\n", 1.0)]], ["Ok"], ["U"]
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_it_draws_and_describes_itself(name: str) -> None:
    picture = FIGURES[name]()
    assert len(picture.alt) > 40
    assert picture.to_html().startswith('<img alt="')


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_leaves_the_picture(name: str) -> None:
    picture = FIGURES[name]()
    picture.savefig("/dev/null", format="png")  # lays it out
    width, height = picture.bbox.width, picture.bbox.height
    for ax in picture.axes:
        for text in ax.texts:
            box = text.get_window_extent()
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert inside, text.get_text()


def test_known_and_unseen_names_are_told_in_words() -> None:
    alt = FIGURES["written"]().alt
    assert "From the training data: Ok." in alt
    assert "Real, and never seen: U." in alt
