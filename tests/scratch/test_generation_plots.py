"""The figures of unit 14, and the sliders: what they show, and that they show it without a browser too."""

import ipywidgets
import numpy as np
import pytest
import torch

from scratch import generation_plots as plots
from scratch import live, playground
from scratch.gpt import GPT
from scratch.play_models import Characters
from scratch.plots import Picture

TEXT = "to be, or not to be: that is the question.\n"


def every_figure() -> dict[str, Picture]:
    before = np.array([0.5, 0.3, 0.2])
    return {
        "decoder_only": plots.decoder_only(),
        "perplexities": plots.perplexities({"bigram": 11.8, "GPT": 5.7}, 69),
        "choices": plots.choices({"p = 0.6": (before, np.array([0.625, 0.375, 0]))}, ["a", " ", "\n"]),
        "diversity": plots.diversity([0.5, 1.0], [0.3, 0.6], [0.8, 1.7], (0.6, 1.6)),
        "latency": plots.latency([64, 128], {"without": [1.0, 4.0], "with": [0.5, 1.0]}),
        "recomputed": plots.recomputed(),
        "beam_tree": plots.beam_tree(
            lambda ids: torch.zeros(len(ids), 3) + torch.tensor([0.0, 1.0, 0.5]),
            "ab.",
            width=2,
            limit=3,
            end=2,
        ),
        "widths": plots.widths([1, 3, 9], {"found": [-3.0, -2.5, -2.0], "the best there is": [-2.0] * 3}),
    }


@pytest.mark.parametrize("name", list(every_figure()))
def test_figures_are_drawn_and_described(name):
    html = every_figure()[name].to_html()
    assert html.startswith("<img alt=")
    assert len(every_figure()[name].alt) > 40


def test_a_choice_says_how_many_may_be_drawn():
    assert "2 of 3 tokens may be drawn, the likeliest a 0.62, ␣ 0.38" in every_figure()["choices"].alt


def test_the_tree_says_what_was_kept():
    assert "After 1: kept b 0.51, . 0.31; thrown away 1." in every_figure()["beam_tree"].alt


def model() -> tuple[GPT, Characters]:
    torch.manual_seed(0)
    characters = Characters(TEXT)
    return GPT(len(characters), 40, 16, 2, 1).eval(), characters


def test_what_is_cut_off_cannot_be_drawn_and_the_rest_sums_to_one():
    before, after = playground.cut(torch.tensor([0.0, 2.0, 1.0, -1.0]), 0.8, 0.7)  # 0.76, 0.18
    assert before.sum() == pytest.approx(1)
    assert after.sum() == pytest.approx(1)
    assert (after > 0).tolist() == [False, True, True, False]


def test_without_a_session_there_is_a_figure_and_a_text(capsys, monkeypatch):
    for name in live.SESSIONS:
        monkeypatch.delenv(name, raising=False)
    playground.play(*model(), "to be")
    assert "to be" in capsys.readouterr().out


@pytest.mark.parametrize("name", live.SESSIONS)
def test_in_a_session_there_are_sliders_and_a_figure_for_whoever_reads_the_notebook_later(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    playground.play(*model(), "to be")
    (bundle,) = shown
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/html"].startswith("<img alt=")


def test_a_slider_that_is_moved_shows_something_else(monkeypatch):
    boxes = []

    class Box(ipywidgets.VBox):
        def __init__(self, children):
            super().__init__(children)
            boxes.append(self)

    monkeypatch.setattr(ipywidgets, "VBox", Box)
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: None)
    playground.play(*model(), "to be", live=True)
    row, below = boxes[0].children
    sliders = {slider.description: slider for slider in row.children}
    assert list(sliders) == ["temperature", "p", "seed"]
    for slider, value in zip(row.children, (2.0, 0.3, 7), strict=True):
        before = below.value
        slider.value = value
        assert below.value != before
