"""Figures of unit 13 draw and describe themselves; kinds of mistakes; the widget, or its figure; the reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ipywidgets
import nbformat
import pytest
import torch

from scratch import live, translation, translation_plots, translation_widget
from scratch import translation_rewards as rewards
from scratch.plots import Picture
from scratch.translation import make_batches
from scratch.translation_errors import KINDS, kind_of, substitutions
from scratch.translator import Corpus, Example, Recipe, Translator

ROOT = Path(__file__).parents[2]
NAMES = rewards.NAMES
TINY = Recipe("dates", steps=2, warmup=1, factor=0.1, d_model=8, heads=2, d_ff=8, layers=1, every=2)
CORPUS = Corpus(*([Example("bom dia", "good morning")],) * 3, cut=str.split, glue=" ")


@pytest.fixture
def translator(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))
    return Translator(TINY, Corpus([Example("bom dia", "good morning")], [], [], cut=str.split, glue=" "))


def figures():
    batches = make_batches([([3] * n, [4] * n) for n in (1, 2, 5)], 6, 0)
    weights = torch.rand(2, 3, 2).softmax(-1)
    yield translation_plots.padding({"a": batches, "b": batches[:1]}), "places are padding"
    yield translation_plots.distributions({"q": [0.0, 0.9, 0.1]}, ["⟨pad⟩", "a", "b"], "a"), "a 0.90"
    yield translation_plots.rates({"one": [1.0, 2.0, 1.5]}), "highest 2 at step 2"
    scores = {"x": [(10, 5.0), (20, 50.0)]}
    yield translation_plots.learning({"x": [3.0] * 20}, scores, best=20), "50 at step 20"
    yield translation_plots.learning({"x": [3.0] * 20, "y": [2.0] * 20}, scores | {"y": []}), "loss from 3.00"
    yield translation_plots.bars({"BLEU": {"a": 3.0}, "exact": {"a": 0.5}}, percent=["exact"]), "exact: a 50%"
    yield translation_plots.look_up(["a", "b"], ["c", "d", "e"], weights, title="t"), "c:"
    yield translation_plots.look_up(["a", "b"], ["c", "d", "e"], weights, heads=True), "head 1: c looks at"
    yield translation_plots.by_length([2, 3], {"x": [0.5, 1.0]}, [9, 8]), "100% at 3"


def test_figures_draw_and_describe_themselves():
    for picture, said in figures():
        assert isinstance(picture, Picture)
        assert said in picture.alt
        assert picture.to_html().startswith("<img alt=")


@pytest.mark.parametrize(
    ("written", "wanted", "kind"),
    [
        ("a b c", "a b c", "exact"),
        ("a c b", "a b c", "other order"),
        ("a x c", "a b c", "one word differs"),
        ("a c", "a b c", "words missing"),
        ("a b c c", "a b c", "words too many"),
        ("x y c", "a b c", "several words differ"),
        ("", "a b", "words missing"),
    ],
)
def test_kinds_of_mistakes(written, wanted, kind):
    assert kind_of(written.split(), wanted.split()) == kind
    assert kind in KINDS


def test_substitutions_are_those_of_one_word():
    pairs = [("a x".split(), "a b".split()), ("x a".split(), "b a".split()), ("y z".split(), "b c".split())]
    assert substitutions(pairs).most_common() == [(("x", "b"), 2)]


def test_without_anybody_to_type_there_is_a_figure(translator, monkeypatch):
    for name in live.SESSIONS:
        monkeypatch.delenv(name, raising=False)
    picture = translation_widget.playground(lambda _: translator, "bom dia")
    assert isinstance(picture, Picture)
    assert "bom dia →" in picture.alt
    with pytest.raises(ValueError, match="no trained translator"):
        translation_widget.figure(lambda _: None, "x")


def test_the_widget_answers_and_carries_the_figure_for_those_without_it(translator, monkeypatch):
    shown: list[dict[str, Any]] = []
    boxes: list[ipywidgets.Text] = []
    text = ipywidgets.Text
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    monkeypatch.setattr(ipywidgets, "Text", lambda **options: boxes.append(text(**options)) or boxes[-1])
    assert translation_widget.playground(lambda _: translator, "bom dia", live=True) is None
    assert "application/vnd.jupyter.widget-view+json" in shown[0]
    assert "<img" in shown[0]["text/html"]
    boxes[0].value = "bom <b>gato</b>"


def test_what_the_widget_says(translator):
    said = translation_widget.answer(lambda _: translator, "bom <gato>")
    assert "&lt;gato&gt;" in said
    assert "<gato>" not in said
    assert "Type a sentence" in translation_widget.answer(lambda _: translator, " ")
    assert "not trained yet" in translation_widget.answer(lambda _: None, "x")


def notebook(*, missing: str) -> dict[str, Any]:
    """The notebook's names where all is solved but one exercise, which is as it comes."""
    namespace: dict[str, Any] = {}
    solved, released = (
        {
            c.id: c.source
            for c in nbformat.read(ROOT / room / "13_translation/translation.ipynb", as_version=4).cells
        }
        for room in ("solutions", "exercises")
    )
    for name in ("setup", *NAMES):
        exec((released if name == missing else solved)[name], namespace)
    return namespace


@pytest.mark.parametrize("missing", NAMES)
def test_the_reward_waits_for_what_is_missing(missing, capsys, monkeypatch):
    monkeypatch.setattr(rewards, "STEPS", 1)
    assert rewards.translate_with_yours(notebook(missing=missing), "1 de abril de 1999") is None
    assert capsys.readouterr().out == f"This picture waits for `{missing}`, which is not written yet.\n"


def test_the_reward_does_not_boast_and_does_not_wait_for_ever(capsys, monkeypatch):
    parts = {name: getattr(translation, name) for name in NAMES}
    monkeypatch.setattr(rewards, "STEPS", 2)
    assert rewards.translate_with_yours(parts, "1 de abril de 1999") is None
    assert rewards.UNFINISHED in capsys.readouterr().out
    rewards._memory.clear()
    monkeypatch.setattr(rewards, "PATIENCE", -1)
    assert rewards.translate_with_yours(parts, "1 de abril de 1999") is None
    assert "seconds" in capsys.readouterr().out


def test_the_reward_translates_and_trains_once(capsys, monkeypatch):
    parts = {name: getattr(translation, name) for name in NAMES}
    calls = []
    learn = rewards.learn

    def quick(*answers):
        calls.append(1)
        model, vocabulary, losses, score, _ = learn(*answers, steps=2)
        return model, vocabulary, losses, score, 0.9

    rewards._memory.clear()
    monkeypatch.setattr(rewards, "learn", quick)
    state = torch.random.get_rng_state()
    for _ in range(2):
        picture = rewards.translate_with_yours(parts, "1 de abril de 1999")
        assert isinstance(picture, Picture)
    assert len(calls) == 1
    assert "exactly right" in capsys.readouterr().out
    assert torch.equal(torch.random.get_rng_state(), state)
    rewards._memory.clear()
