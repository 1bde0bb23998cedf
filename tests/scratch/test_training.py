"""Properties of ``scratch.training``, judged by PyTorch's loader and a plain loop; the digits; unit 04's reward."""

import importlib.util
from pathlib import Path

import nbformat
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from scratch import optimization, rewards, training, training_rewards
from scratch.optimization import SGD, AdamW
from scratch.training import accuracy, batches, train

RELEASE = Path(__file__).parents[2] / "exercises" / "04_training" / "training.ipynb"
ANSWERS = {
    name: getattr(optimization, name, None) or getattr(training, name) for name in training_rewards.NAMES
}
digits = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="the digits come with scikit-learn"
)


def error(model, x, y):
    return F.mse_loss(model(x), y)


def problem(rows=10):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 1))
    return model, torch.randn(rows, 3), torch.randn(rows, 1)


@given(st.integers(1, 30), st.integers(1, 35))
def test_batches_in_order_are_those_of_pytorchs_loader(count, size):
    x, y = torch.randn(count, 2), torch.arange(count)
    loader = DataLoader(TensorDataset(x, y), batch_size=size)
    for mine, theirs in zip(batches(x, y, size=size), loader, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@given(st.integers(1, 30), st.integers(1, 35), st.integers(0, 2**31))
def test_a_seed_shuffles_whole_rows_each_once_and_the_same_way_again(count, size, seed):
    x = torch.arange(count)
    state = torch.get_rng_state()
    found = list(batches(x, 10 * x, size=size, seed=seed))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(10 * a, b) for a, b in found)
    rows = torch.cat([a for a, _ in found])
    assert sorted(rows.tolist()) == x.tolist()
    assert [len(a) for a, _ in found] == [len(a) for (a,) in batches(x, size=size)]
    assert torch.equal(rows, torch.cat([a for (a,) in batches(x, size=size, seed=seed)]))


def test_other_seeds_shuffle_otherwise_and_zero_is_a_seed():
    orders = {
        tuple(torch.cat([a for (a,) in batches(torch.arange(20), size=7, seed=s)]).tolist()) for s in range(5)
    }
    assert len(orders) == 5
    assert tuple(range(20)) not in orders


@pytest.mark.parametrize(
    ("other", "size", "says"), [(10, 0, "size=0"), (10, -3, "size=-3"), (9, 4, r"\[10, 9\]")]
)
def test_batches_refuse_what_does_not_fit(other, size, says):
    with pytest.raises(ValueError, match=says):
        next(iter(batches(torch.zeros(10), torch.zeros(other), size=size)))


def test_training_is_the_plain_loop_with_schedule_and_clipping():
    model, x, y = problem()
    other, _, _ = problem()
    torch.manual_seed(1)
    losses = train(
        model, error, lambda epoch: batches(x, y, size=4, seed=epoch), SGD(model.parameters(), 0.1, 0.9),
        epochs=2, schedule=lambda step: 0.1 / step, max_norm=0.3,
    )  # fmt: skip
    torch.manual_seed(1)
    optimizer, expected = torch.optim.SGD(other.parameters(), 0.1, 0.9), []
    for epoch in range(2):
        for a, b in batches(x, y, size=4, seed=epoch):
            optimizer.zero_grad()
            loss = error(other, a, b)
            loss.backward()
            nn.utils.clip_grad_norm_(other.parameters(), 0.3)
            optimizer.param_groups[0]["lr"] = 0.1 / (len(expected) + 1)
            optimizer.step()
            expected.append(loss.item())
    assert losses == pytest.approx(expected)
    assert all(type(loss) is float for loss in losses)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-5)


def test_every_batch_finds_the_model_in_training_mode_and_the_hook_comes_last():
    model, x, y = problem()
    model.eval()
    seen = []

    def loss_of(model, *batch):
        seen.append(model.training)
        return error(model, *batch)

    def data(epoch):
        seen.append(f"data {epoch}")
        return [(x, y)]

    def after_epoch(epoch):
        seen.append(f"after {epoch}")
        model.eval()

    train(model, loss_of, data, AdamW(model.parameters()), epochs=2, after_epoch=after_epoch)
    assert seen == ["data 0", True, "after 0", "data 1", True, "after 1"]


def test_no_epochs_are_no_losses():
    model, _, _ = problem()
    assert train(model, error, lambda epoch: [], AdamW(model.parameters()), epochs=0) == []


@pytest.mark.parametrize("mode", [True, False])
def test_accuracy_is_asked_in_evaluation_mode_and_leaves_the_mode(mode):
    model = nn.Sequential(nn.Dropout(0.99), nn.Identity()).train(mode)
    inputs = torch.eye(4) + 0.1
    assert accuracy(model, inputs, torch.tensor([0, 1, 2, 0])) == 0.75
    assert model.training is mode
    with pytest.raises(RuntimeError):
        accuracy(model, inputs, torch.zeros(3))
    assert model.training is mode


@digits
def test_the_digits_are_split_once_and_by_the_seed():
    from scratch.digits import load_digits

    learn, held_out = load_digits()
    assert learn.images.shape == (1437, 8, 8)
    assert held_out.images.shape == (360, 8, 8)
    assert learn.labels.dtype == held_out.labels.dtype == torch.int64
    images = torch.cat([learn.images, held_out.images])
    assert images.min() == 0
    assert images.max() == 1
    assert set(held_out.labels.tolist()) == set(range(10))
    again, other = load_digits()[1], load_digits(seed=1)[1]
    assert torch.equal(held_out.images, again.images)
    assert not torch.equal(held_out.images, other.images)
    total = torch.cat([part.images for part in load_digits(seed=1)]).sum()
    assert images.sum().item() == pytest.approx(total.item())


def test_without_scikit_learn_the_digits_say_so(monkeypatch):
    from scratch import digits as module

    module._table.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="scikit-learn"):
        module.load_digits()


@digits
def test_the_reward_reads_at_least_96_in_100(capsys):
    assert training_rewards.learn_digits(ANSWERS)[2][-1] >= 0.96


@digits
def test_the_reward_draws_where_all_is_written_and_says_so_where_answers_do_nothing(capsys, monkeypatch):
    monkeypatch.setattr(training_rewards, "EPOCHS", 5)
    state = torch.get_rng_state()
    picture = training_rewards.read_digits(ANSWERS)
    assert "24 handwritten digits" in picture.alt
    assert torch.equal(state, torch.get_rng_state())
    assert "held-out digits read" in capsys.readouterr().out
    assert training_rewards.read_digits({**ANSWERS, "train": lambda *args, **kwargs: None}) is None
    assert capsys.readouterr().out == f"{rewards.UNFINISHED}\n"


def test_the_reward_waits_for_the_first_exercise_that_is_missing(capsys):
    stubs = {}
    for cell in nbformat.read(RELEASE, as_version=4).cells:
        if cell.id in ("setup", *training_rewards.NAMES):
            exec(cell.source, stubs)
    for written, name in enumerate(training_rewards.NAMES):
        answers = {done: ANSWERS[done] for done in training_rewards.NAMES[:written]}
        assert training_rewards.read_digits({**stubs, **answers}) is None
        told = capsys.readouterr().out
        assert f"waits for `{name}`" in told or "scikit-learn" in told
