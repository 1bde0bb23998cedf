"""A translator learns by its recipe, takes up what it has begun, and the command says what is wrong in one line."""

import dataclasses

import pytest
import torch

from scratch import translate
from scratch.data import cache
from scratch.translator import (
    DATES,
    SENTENCES,
    Corpus,
    Example,
    Recipe,
    Translator,
    make_model,
    weights_file,
    words,
)

TINY = Recipe(
    "dates", steps=30, warmup=10, factor=0.3, d_model=16, heads=2, d_ff=24, layers=1, dropout=0.1, every=10
)
PAIRS = [Example(f"{a} {b}", f"{b.upper()} {a.upper()}") for a in "abcde" for b in "vwxyz"]
CORPUS = Corpus(PAIRS[:20], PAIRS[20:22], PAIRS[22:], cut=str.split, glue=" ")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))


def test_training_goes_on_where_it_was_stopped():
    whole = Translator(TINY, CORPUS, cache.root() / "whole.pt").train()
    Translator(TINY, CORPUS).train(until=13)
    resumed = Translator(TINY, CORPUS)
    assert len(resumed.training.losses) == 13
    assert not resumed.finished
    resumed.train()
    assert resumed.finished
    assert resumed.training.losses == whole.training.losses
    again = Translator(TINY, CORPUS)
    assert again.finished
    texts = [example.source for example in PAIRS]
    assert again.translate(texts) == resumed.translate(texts) == whole.translate(texts)


def test_another_recipe_has_another_file():
    files = {weights_file(recipe) for recipe in (TINY, DATES, SENTENCES, dataclasses.replace(TINY, seed=1))}
    assert len(files) == 4
    assert weights_file(TINY) == weights_file(dataclasses.replace(TINY))


def test_a_damaged_file_is_begun_anew():
    Translator(TINY, CORPUS).train(until=5)
    weights_file(TINY).write_bytes(b"rubbish")
    assert Translator(TINY, CORPUS).training.losses == []


def test_what_is_held_out_is_in_no_batch():
    translator = Translator(TINY, CORPUS)
    seen = {
        tuple(i for i in row if i)
        for _, target in translator.training.batches_of(0)
        for row in target.tolist()
    }
    for example in CORPUS.held_out + CORPUS.validation:
        assert tuple(translator.encode(example)[1]) not in seen


@pytest.mark.parametrize("kind", ["transformer", "torch", "recurrent"])
def test_every_model_is_asked_in_the_same_way(kind):
    torch.manual_seed(0)
    model = make_model(dataclasses.replace(TINY, model=kind), 12).eval()
    source, target = torch.tensor([[5, 6, 2], [7, 2, 0]]), torch.tensor([[1, 4, 5, 2], [1, 8, 2, 0]])
    logits = model(source, target)
    assert logits.shape == (2, 4, 12)
    torch.testing.assert_close(logits, model.decode(target, model.encode(source), source))
    later = target.clone()
    later[:, 2:] = 9
    torch.testing.assert_close(model(source, later)[:, :2], logits[:, :2])
    longer = torch.cat([source, torch.zeros(2, 3, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(model(longer, target)[0], logits[0], atol=1e-5, rtol=1e-4)


def test_another_kind_of_model_is_refused():
    with pytest.raises(ValueError, match="model must be"):
        make_model(dataclasses.replace(TINY, model="none"), 12)


def test_attention_has_a_row_for_each_word_written_and_tells_what_is_unknown():
    translator = Translator(TINY, CORPUS).train()
    read, written, weights = translator.attend("a q")
    assert read == ["a", "q", "⟨/s⟩"]
    assert weights.shape == (2, len(written), 3)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, len(written)))
    assert translator.unknown("a q") == ["q"]


def test_words_of_a_sentence():
    assert words("Abrir a porta!") == ["abrir", "a", "porta"]
    assert words("3 de abril") == ["3", "de", "abril"]


# ---- the command ----------------------------------------------------------------------------------------------------

RECIPES = {"dates and numbers": TINY, "sentences": dataclasses.replace(TINY, corpus="sentences")}


@pytest.fixture
def tiny(monkeypatch):
    other = Corpus([Example("bom dia", "good morning")] * 4, PAIRS[:2], PAIRS[:2], cut=str.split, glue=" ")
    corpora = {"dates": CORPUS, "sentences": other}
    monkeypatch.setattr(translate, "load_corpus", corpora.__getitem__)
    monkeypatch.setattr("scratch.translator.load_corpus", corpora.__getitem__)


@pytest.mark.usefixtures("tiny")
def test_the_command_says_how_to_train_and_then_translates(capsys):
    assert translate.main(["a v"], RECIPES) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert translate.main(["a v"], RECIPES) == 1
    assert "python -m scratch.translate --train" in capsys.readouterr().err
    assert translate.main(["--train"], RECIPES) == 0
    assert "held-out texts exactly right" in capsys.readouterr().out
    assert translate.main(["a v", "bom dia"], RECIPES) == 0
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 2
    assert told.err == ""
    assert translate.main(["bom gato"], RECIPES) == 0
    assert capsys.readouterr().err == "translate: never seen in training: gato\n"


@pytest.mark.parametrize("arguments", [[], [""], ["  "], ["--train", "x"], ["--unknown"], ["--tr"]])
def test_wrong_use_is_one_sentence_and_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        translate.main(arguments, RECIPES)
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_data_the_command_says_what_to_run(capsys):
    recipes = {"dates and numbers": TINY, "sentences": dataclasses.replace(SENTENCES, steps=1)}
    assert translate.main(["palavra desconhecida"], recipes) == 1
    assert "make data" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_an_interruption_keeps_what_is_done(capsys, monkeypatch):
    def stop(self, *args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Translator, "train", stop)
    assert translate.main(["--train"], RECIPES) == 130
    assert "goes on with it" in capsys.readouterr().err
