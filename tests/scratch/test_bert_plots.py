"""The drawings and charts of unit 17: they say in words what they show, and what they show is what was computed."""

import numpy as np

from scratch import bert_plots as plots


def test_what_bert_leaves_out_is_outlined_and_what_differs_is_named():
    picture = plots.difference()
    texts = [text.get_text() for text in picture.axes[0].texts]
    assert texts.count("self-attention") == 2
    assert texts.count("eps 1e-12") == 2
    assert {"GELU", "not scaled", "both directions", "causal self-attention", "cross-attention"} <= set(texts)
    assert "<img" in picture.to_html()


def test_both_heads_stand_on_the_same_bert():
    picture = plots.two_heads()
    texts = [[text.get_text() for text in ax.texts] for ax in picture.axes]
    assert all("BERT, N layers" in one for one in texts)
    assert "classifier" in texts[1]
    assert "words (tied)" in texts[0]


def test_what_is_hidden_tells_each_fate():
    picture = plots.what_is_hidden(
        ["[CLS]", "my", "lord", "speaks", "[SEP]"],
        ["[CLS]", "my", "[MASK]", "tower", "[SEP]"],
        [None, "my", "lord", "speaks", None],
    )
    assert "my is left as it is; lord is hidden; speaks reads tower" in picture.alt
    shown = [text.get_text() for text in picture.axes[0].texts]
    assert shown.count("−100") == 2
    assert shown.count("lord") == 2


def test_three_vectors_stand_under_each_token():
    picture = plots.three_vectors(["[CLS]", "a", "[SEP]"], [0, 0, 1])
    shown = [text.get_text() for text in picture.axes[0].texts]
    assert {"0", "1", "2", "A", "B"} <= set(shown)
    assert "0, 0, 1" in picture.alt


def test_activations_tell_how_far_the_forms_are_apart():
    x = np.linspace(-1, 1, 5)
    picture = plots.activations(x, {"ReLU": x, "GELU": x}, 3e-4 * x)
    assert "never more than 3.0e-04 apart" in picture.alt


def test_bars_tell_their_numbers():
    picture = plots.bars(
        {"a": 1e-6, "b": 2e-3}, "off", marks={"1e-4": 1e-4}, log=True, strong=["a"], digits=".0e", left=1e-7
    )
    assert picture.alt == "Bars of off. a: 1e-06; b: 2e-03."
    assert picture.axes[0].get_xscale() == "log"
    assert len(picture.axes[0].patches) == 2


def test_fillings_have_a_panel_for_each_text_and_model():
    words = [("night", 0.5), ("day", 0.25)]
    picture = plots.fillings({"good [MASK]": {"pretrained": words, "untrained": words}}, ["day"])
    assert len(picture.axes) == 2
    assert "good [MASK], pretrained: night 0.500, day 0.250" in picture.alt
    hatched = [patch.get_hatch() for patch in picture.axes[0].patches]
    assert hatched == [None, "//"]
