"""Properties of ``scratch.optimization``, judged by PyTorch's optimisers and clipping, and by hand."""

import inspect
import itertools
import math
from pathlib import Path

import nbformat
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch.optimization import SGD, AdamW, clip_grad_norm, warmup_cosine

ROOT = Path(__file__).parents[2]
seeds = st.integers(0, 2**31 - 1)
quick = settings(max_examples=30, deadline=None)


def parameters(seed, scale=1.0):
    """Return three parameters of different shapes, one of them a single number."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.nn.Parameter(scale * torch.randn(shape, generator=generator, dtype=torch.float64))
        for shape in ((3, 2), (4,), ())
    ]


def run(optimizer, params, seed, steps, scale=1.0, skip=()):
    """Take steps along drawn gradients; ``skip`` holds (step, parameter) without one. Return where they end."""
    generator = torch.Generator().manual_seed(seed + 1)
    for step in range(steps):
        for i, p in enumerate(params):
            g = scale * torch.randn(p.shape, generator=generator, dtype=p.dtype)
            p.grad = None if (step, i) in skip else g
        optimizer.step()
    return [p.detach().clone() for p in params]


def same(one, two):
    return all(torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(one, two, strict=True))


@quick
@given(
    seeds,
    st.floats(1e-4, 0.5),
    st.floats(0, 0.95),
    st.floats(0.5, 0.999),
    st.sampled_from([1e-8, 1e-2]),
    st.floats(0, 1),
)
def test_adamw_walks_as_pytorch_does(seed, lr, beta1, beta2, eps, decay):
    options = {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": decay}
    mine, theirs = parameters(seed), parameters(seed)
    skip = {(0, 1), (1, 1), (2, 2)}
    one = run(AdamW(iter(mine), **options), mine, seed, 4, skip=skip)
    assert same(one, run(torch.optim.AdamW(theirs, **options), theirs, seed, 4, skip=skip))


@pytest.mark.parametrize("scale", [1e-7, 1.0])
def test_adamw_has_pytorchs_defaults(scale):
    mine, theirs = parameters(0, 30), parameters(0, 30)
    one = run(AdamW(mine), mine, 0, 5, scale)
    assert same(one, run(torch.optim.AdamW(theirs), theirs, 0, 5, scale))


@quick
@given(seeds, st.floats(1e-3, 0.5), st.floats(0, 0.99))
def test_sgd_walks_as_pytorch_does(seed, lr, momentum):
    mine, theirs = parameters(seed), parameters(seed)
    skip = {(1, 0)}
    one = run(SGD(iter(mine), lr, momentum), mine, seed, 4, skip=skip)
    assert same(one, run(torch.optim.SGD(theirs, lr, momentum), theirs, seed, 4, skip=skip))


@pytest.mark.parametrize("make", [AdamW, lambda p: SGD(p, 0.1)])
def test_an_optimizer_has_parameters_forgets_gradients_and_heeds_its_rate(make):
    params = parameters(1)
    optimizer = make(iter(params))
    assert optimizer.parameters == params
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.lr = 0.0
    before = [p.detach().clone() for p in params]
    optimizer.step()
    assert same(before, [p.detach() for p in params])
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in params)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


def test_a_tiny_gradient_moves_by_nearly_the_rate():
    p = torch.zeros(1, requires_grad=True)
    p.grad = torch.full((1,), 1e-6)
    AdamW([p], lr=1.0, weight_decay=0.0).step()
    assert -p.item() == pytest.approx(1 / 1.01, rel=1e-4)


@given(st.integers(0, 50), st.integers(1, 50), st.floats(1e-4, 10), st.floats(0, 1))
def test_the_schedule_rises_to_its_peak_falls_to_its_floor_and_stays(warmup, more, peak, share):
    total, floor = warmup + more, share * peak
    rates = [warmup_cosine(t, peak=peak, warmup=warmup, total=total, floor=floor) for t in range(total + 3)]
    assert rates[warmup] == pytest.approx(peak)
    assert rates[total:] == pytest.approx([floor] * 3)
    assert rates[:warmup] == pytest.approx([peak * t / warmup for t in range(warmup)] if warmup else [])
    fall = rates[warmup : total + 1]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(fall))
    mirrored = [peak + floor - rate for rate in reversed(fall)]
    assert fall == pytest.approx(mirrored)


def test_the_schedules_wave_is_pytorchs():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9, eta_min=0.5)
    for t in range(10):
        assert warmup_cosine(t, peak=2.0, warmup=0, total=9, floor=0.5) == pytest.approx(
            theirs.get_last_lr()[0]
        )
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(("warmup", "total"), [(-1, 5), (5, 5), (6, 5), (0, 0)])
def test_a_warm_up_without_room_is_refused(warmup, total):
    with pytest.raises(ValueError, match=f"warmup={warmup}, total={total}"):
        warmup_cosine(1, peak=1.0, warmup=warmup, total=total)


@quick
@given(seeds, st.floats(0.01, 100), st.floats(1e-3, 100))
def test_clipping_agrees_with_pytorch(seed, scale, limit):
    mine, theirs = parameters(seed, scale), parameters(seed, scale)
    for p in (*mine[:2], *theirs[:2]):  # the third has no gradient
        p.grad = p.detach().clone()
    length = clip_grad_norm(iter(mine), limit)
    assert length == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, limit).item())
    for a, b in zip(mine[:2], theirs[:2], strict=True):
        # PyTorch adds 1e-6 to the length.
        assert torch.allclose(a.grad, b.grad, rtol=1e-3 if length < 0.01 else 1e-4)
    after = math.hypot(*(p.grad.norm().item() for p in mine[:2]))
    assert after == pytest.approx(min(length, limit))


def test_clipping_takes_gradients_of_zero_and_none():
    p = torch.zeros(3, requires_grad=True)
    assert clip_grad_norm([p], 1.0) == 0.0
    p.grad = torch.zeros(3)
    assert clip_grad_norm([p], 1.0) == 0.0
    assert torch.equal(p.grad, torch.zeros(3))


def test_the_optimizer_that_the_exercise_gives_is_the_librarys():
    notebook = nbformat.read(ROOT / "solutions" / "04_training" / "training.ipynb", as_version=4)
    [cell] = [cell for cell in notebook.cells if cell.id == "SGD"]
    assert cell.source == inspect.getsource(SGD).rstrip()
