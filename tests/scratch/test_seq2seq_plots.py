"""What the figures of unit 07 promise: descriptions, names, a shaded end, a marked slip."""

import matplotlib
import pytest
import torch

from scratch import seq2seq_plots

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def pictures():
    lines = {"with attention": [1.0, 0.9, 0.5], "bottleneck": [0.8, 0.1, 0.0]}
    return {
        "quality": seq2seq_plots.quality([2, 8, 12], lines, 10),
        "by_position": seq2seq_plots.by_position({"one": lines, "two": lines}, slip=2),
        "alignment": seq2seq_plots.alignment(torch.eye(3), [" de", " ", "end"], [" of", ",", "end"]),
        "encoder_decoder": seq2seq_plots.encoder_decoder(),
    }


@pytest.mark.parametrize("name", ["quality", "by_position", "alignment", "encoder_decoder"])
def test_every_picture_describes_itself(pictures, name):
    assert len(pictures[name].alt) > 60
    assert "<img alt=" in pictures[name].to_html()


def test_a_model_looks_the_same_everywhere(pictures):
    one, two = (pictures[name].axes[0].lines[-2:] for name in ("quality", "by_position"))
    assert [(line.get_color(), line.get_linestyle()) for line in one] == [
        (line.get_color(), line.get_linestyle()) for line in two
    ]


def test_what_was_not_learned_from_is_told(pictures):
    assert "with attention: 1.00 at 2, 0.90 at 8, 0.50 at 12" in pictures["quality"].alt
    assert pictures["quality"].alt.endswith("Words longer than 10 were not learned from.")


def test_the_slip_is_marked_in_every_panel(pictures):
    for ax in pictures["by_position"].axes:
        assert any("one wrong token" in text.get_text() for text in ax.texts)
    assert "A wrong token is shown behind position 2" in pictures["by_position"].alt


def test_tokens_are_named_without_their_spaces(pictures):
    (ax, *_) = pictures["alignment"].axes
    assert [text.get_text() for text in ax.get_xticklabels()] == ["de", "␣", "end"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["of", ",", "end"]
