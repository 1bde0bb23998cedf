"""A training that is broken off and taken up again is the same training; checkpoints are whole or not there."""

import pytest
import torch

from scratch.checkpoints import Training, load_checkpoint, save_checkpoint
from scratch.optimization import AdamW
from scratch.progress import Progress, bar
from scratch.transformer import Transformer
from scratch.translation import label_smoothing_loss, make_batches


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path / "data"))


def training(seed=0):
    torch.manual_seed(5)
    model = Transformer(20, 8, 2, 12, 1, dropout=0.3)
    pairs = [([3 + i % 9, 5], [1, 4 + i % 9, 2]) for i in range(20)]
    return Training(
        model,
        AdamW(model.parameters(), lr=0.01),
        lambda epoch: make_batches(pairs, 12, epoch),
        label_smoothing_loss,
        lambda step: 0.01 / step,
        max_norm=1.0,
        seed=seed,
    )


def test_a_break_changes_nothing(tmp_path):
    whole = training()
    whole.run(13, measure=lambda: float(len(whole.losses) % 4), every=2)
    first = training()
    first.run(7, measure=lambda: float(len(first.losses) % 4), every=2, file=tmp_path / "a.pt")
    torch.manual_seed(99)  # what happens meanwhile has no part in it
    second = training(seed=1)
    assert second.load(tmp_path / "a.pt")
    second.run(13, measure=lambda: float(len(second.losses) % 4), every=2)
    assert second.losses == whole.losses
    assert (second.scores, second.best) == (whole.scores, whole.best)
    for p, q in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_the_callers_random_numbers_go_on_as_before():
    state = torch.random.get_rng_state()
    one = training()
    torch.random.set_rng_state(state)
    one.run(3)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_it_stops_when_nothing_gets_better_and_keeps_the_best():
    scores = iter([1.0, 3.0, 2.0, 3.0, 1.0, 9.0])
    one = training()
    one.run(100, measure=lambda: next(scores), every=2, patience=3)
    assert (len(one.losses), one.best, one.done) == (10, 4, True)
    latest = one.model.embedding.weight.detach().clone()
    one.keep_best()
    assert not torch.equal(one.model.embedding.weight, latest)
    one.run(100)  # it stopped for good
    assert len(one.losses) == 10


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_what_is_no_checkpoint_is_none(tmp_path, content):
    file = tmp_path / "x.pt"
    if content is not None:
        file.write_bytes(content)
    assert load_checkpoint(file) is None
    assert not training().load(file)


def test_a_checkpoint_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    file = tmp_path / "x.pt"
    save_checkpoint(file, {"a": 1})
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        save_checkpoint(file, {"a": 2})
    assert load_checkpoint(file) == {"a": 1}


def test_a_bar_tells_how_far_it_is(capsys):
    assert bar(1, 2, "loss 1") == "█" * 15 + "░" * 15 + " 1/2 steps  loss 1"
    show = Progress(2, notebook=False)
    show(1, 3.0)
    show(2, 2.0)
    assert capsys.readouterr().err.endswith("2/2 steps  loss 2.00\n")
