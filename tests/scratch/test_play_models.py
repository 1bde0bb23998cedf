"""Character models of plays: the text as ids, baselines, training, kept weights."""

import itertools
import math
from pathlib import Path

import pytest
import torch

from scratch import play_models
from scratch.gpt import GPT, perplexity

TEXT = "to be, or not to be: that is the question.\n" * 40


def test_a_text_comes_back_from_its_ids_and_foreign_characters_are_left_out():
    characters = play_models.Characters(TEXT)
    assert characters.decode(characters.encode(TEXT)) == TEXT
    assert characters.decode(characters.encode("to Ω be")) == "to  be"
    assert len(characters) == len(set(TEXT))


def test_the_bigram_knows_what_follows_and_forbids_nothing():
    characters = play_models.Characters(TEXT)
    ids = characters.encode(TEXT)
    model = play_models.Bigram(ids, len(characters))
    shares = model(characters.encode("q")[None])[0, 0].softmax(-1)
    assert characters.characters[int(shares.argmax())] == "u"
    assert (shares > 0).all()
    pairs = list(itertools.pairwise(TEXT))
    expected = (pairs.count(("t", "o")) + 1) / (sum(a == "t" for a, _ in pairs) + len(characters))
    share = model(characters.encode("t")[None])[0, 0].softmax(-1)[characters.ids["o"]]
    assert share.item() == pytest.approx(expected)


def test_windows_show_what_comes_next():
    ids = torch.arange(100)
    read, follows = play_models.windows(ids, 10, 5, torch.Generator().manual_seed(0))
    assert torch.equal(follows, read + 1)
    ends = torch.cat([play_models.windows(ids, 10, 500, torch.Generator().manual_seed(1))[1]]).flatten()
    assert ends.max() == 99


def test_pieces_held_out_do_not_overlap():
    ids = torch.arange(1000)
    batches = play_models.held_out(ids, 30, 20, size=7)
    assert [len(read) for read, _ in batches] == [7, 7, 6]
    read = torch.cat([read for read, _ in batches]).flatten()
    assert len(read.unique()) == len(read) == 600
    with pytest.raises(ValueError, match="do not hold"):
        play_models.held_out(ids, 60, 20)


@pytest.mark.parametrize("kind", ["gpt", "recurrent"])
def test_models_learn(kind):
    characters = play_models.Characters(TEXT)
    torch.manual_seed(0)
    model = GPT(len(characters), 16, 32, 2, 1) if kind == "gpt" else play_models.Recurrent(TEXT, 16, 32)
    told = []
    losses = play_models.learn(
        model, characters.encode(TEXT), steps=70, length=16, size=8, peak=1e-2, every=40, after=told.append
    )
    assert told == [40, 70]
    assert len(losses) == 70
    assert losses[0] > 0.8 * math.log(len(characters)) > 2 * losses[-1]
    assert perplexity(model, play_models.held_out(characters.encode(TEXT), 16, 20)) < 5


def test_weights_are_kept_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))
    assert play_models.kept("x") is None
    model = GPT(7, 8, 8, 2, 1)
    path = play_models.keep(model, "x")
    found = play_models.kept("x")
    assert found is not None
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in found.items())
    path.write_bytes(b"no weights")
    assert play_models.kept("x") is None
