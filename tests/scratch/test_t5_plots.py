"""The figures of unit 18 say in words what they show."""

import torch

from scratch import t5_plots as plots
from scratch.t5 import relative_position_bucket


def test_a_corrupted_text_is_told_in_its_three_rows():
    picture = plots.corruption("a b c d".split(), [(1, 3)], ["a", "⟨0⟩", "d"], ["⟨0⟩", "b", "c", "⟨1⟩"])
    assert "text: a b c d. source: a ⟨0⟩ d. target: ⟨0⟩ b c ⟨1⟩." in picture.alt
    assert "<img" in picture.to_html()
    assert len(picture.axes[0].patches) == 4 + 3 + 4


def test_buckets_are_counted():
    relative = torch.arange(-20, 21)
    picture = plots.buckets({"one": (relative, relative_position_bucket(relative, False, 8, 16))})
    assert "one: 8 buckets, from 0 to 7" in picture.alt


def test_the_largest_bias_of_each_head_is_told():
    picture = plots.bias_by_distance(
        {"encoder": (range(-1, 2), torch.tensor([[0.0, 1.5, 0.0], [2.0, 0.0, 0.0]]))}
    )
    assert "head 0: largest, 1.5, at 0" in picture.alt
    assert "head 1: largest, 2.0, at -1" in picture.alt
    assert len(picture.axes[0].lines) == 4  # two heads, and two axes


def test_shares_and_norms_are_told():
    assert "one: 25%; two: 100%" in plots.shares({"one": 0.25, "two": 1.0}, "share").alt
    picture = plots.norms(torch.eye(2), {"kept": torch.eye(2), "lost": torch.ones(2, 2)})
    assert "kept: 2 different points of 2; lost: 1 different points of 2" in picture.alt


def test_the_model_is_drawn_with_two_biases():
    texts = [text.get_text() for ax in plots.model().axes for text in ax.texts]
    assert texts.count("distance") == 2
    assert texts.count("norm") == 2 + 3 + 2
