"""Figures and reward of unit 15."""

from __future__ import annotations

import numpy as np
import pytest

from scratch import keras_layers, keras_plots, keras_rewards, keras_training

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_figures_say_what_they_show():
    assert "torch is the one in use" in keras_plots.stack("torch").alt
    assert "x: no mask" in keras_plots.journey([("embedding", True), ("x", False)]).alt
    assert "highest at 2" in keras_plots.lines({"W": [0.0, 1.0, 2.0]}, "steps", "rate", "a schedule").alt
    picture = keras_plots.side_by_side(
        {"scratch": [("a", 0.9)], "Keras": [("a", 0.9)]}, {"Keras": 1e-7}, "TensorFlow"
    )
    assert "TensorFlow is not installed" in picture.alt


def test_probabilities_of_tokens_that_are_no_marks():
    class Tokens:
        tokens = ("<pad>", "<begin>", "<end>", "May")

    logits = {"one": np.array([[[0.0, 0, 0, 9], [0, 0, 9, 0]]])}
    ((token, p),) = keras_rewards.rows_of(logits, Tokens)["one"]
    assert token == "May"
    assert p > 0.99


def test_the_reward_waits_for_what_is_not_written(capsys):
    assert keras_rewards.side_by_side({}) is None
    assert "waits for `PositionalEmbedding`" in capsys.readouterr().out


def test_the_reward_shows_that_frameworks_agree(capsys, monkeypatch):
    monkeypatch.setattr(keras_rewards, "PAIRS", 1_500)
    monkeypatch.setattr(keras_rewards, "EPOCHS", 6)
    namespace = vars(keras_layers) | vars(keras_training)
    picture = keras_rewards.side_by_side(namespace)
    assert "loss" in capsys.readouterr().out
    assert picture is not None
    assert "nn.Transformer" in picture.alt
