"""Small readers and their tasks: what is asked, what is trained, and that positions are what makes the difference."""

import math

import pytest
import torch

import scratch.positions
from scratch.order import TASKS, Code, Reader, drill, make_codes, train_reader, write_language
from scratch.positions import permutation_test
from scratch.reach import gradient_reach
from scratch.training import accuracy

PARTS = vars(scratch.positions)


def test_tasks_do_what_they_are_called():
    ids = torch.tensor([[3, 1, 2, 1], [5, 5, 0, 7]])
    assert {name: task(ids).tolist() for name, task in TASKS.items()} == {
        "copy": [[3, 1, 2, 1], [5, 5, 0, 7]],
        "previous": [[3, 3, 1, 2], [5, 5, 5, 0]],
        "sort": [[1, 1, 2, 3], [0, 5, 5, 7]],
        "reverse": [[1, 2, 1, 3], [7, 0, 5, 5]],
    }


def test_a_drill_repeats_itself_and_differs_from_that_of_another_seed():
    one, again, other = (list(drill("sort", 3, size=4, seed=seed)) for seed in (1, 1, 2))
    assert len(one) == 3
    assert one[0][0].shape == one[0][1].shape == (4, 8)
    assert all(torch.equal(a, b) for a, b in zip(one[0], again[0], strict=True))
    assert not torch.equal(one[0][0], other[0][0])
    assert not torch.equal(one[0][0], one[1][0])


@pytest.mark.parametrize("causal", [False, True])
def test_only_a_reader_without_positions_and_mask_sees_a_set(causal):
    torch.manual_seed(0)
    x = torch.randn(6, 32)
    for name, code in make_codes(PARTS, 6, causal=causal).items():
        model = Reader(8, code)
        with torch.no_grad():
            seen = permutation_test(lambda x, m=model: m.mix(m.add(x[None]))[0], x)
        assert (seen < 1e-5) == (name == "none" and not causal)


def test_under_a_causal_mask_nobody_sees_the_future():
    torch.manual_seed(0)
    x = torch.randn(5, 32)
    for code in make_codes(PARTS, 9, causal=True).values():
        model = Reader(8, code)
        reach = gradient_reach(lambda x, m=model: m.mix(m.add(x[None]))[0], x)
        assert torch.equal(reach > 0, torch.ones(5, 5, dtype=torch.bool).tril())


def test_positions_are_what_reversing_needs():
    codes = make_codes(PARTS, 6)
    state = torch.get_rng_state()
    right = {}
    for name in ("none", "sinusoids", "learned"):
        model, losses = train_reader(codes[name], lambda: drill("reverse", 120, length=6), 120)
        assert len(losses) == 120
        assert not model.training
        right[name] = accuracy(model, *next(drill("reverse", 1, size=300, length=6, seed=9)))
    assert right["none"] < 0.5 < 0.95 < min(right["sinusoids"], right["learned"])
    assert torch.equal(torch.get_rng_state(), state)


def test_training_repeats_itself_whatever_was_trained_before():
    code = make_codes(PARTS, 4)["learned"]
    one, two = (train_reader(code, lambda: drill("copy", 5, length=4), 5)[1] for _ in range(2))
    assert one == two


def test_targets_of_minus_hundred_do_not_count():
    def batches():
        ids = torch.zeros(2, 3, dtype=torch.int64)
        targets = torch.full_like(ids, -100)
        targets[:, 0] = 1
        yield ids, targets

    _, losses = train_reader(Code(), batches, 30)
    assert losses == pytest.approx([math.log(8)], abs=0.4)


def test_the_language_is_the_same_for_every_seed_and_its_texts_are_not():
    (one, chances), (two, same) = write_language(3, 20, seed=1), write_language(3, 20, seed=2)
    assert one.shape == (3, 20)
    assert torch.equal(chances, same)
    assert not torch.equal(one, two)
    torch.testing.assert_close(chances.sum(-1), torch.ones(8, 8))
    texts, _ = write_language(4000, 3, seed=4)
    chosen = (texts[:, 0] == 2) & (texts[:, 1] == 5)
    share = torch.bincount(texts[chosen, 2], minlength=8) / chosen.sum()
    assert (share - chances[2, 5]).abs().max() < 0.25
