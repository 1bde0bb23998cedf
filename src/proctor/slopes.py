"""What a check expects of gradients: that they are there, that they are right, and who can see whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from proctor.unmet import array, dtype_name, fail

STEP = 1e-6  # of finite differences in float64


def gradient(out: torch.Tensor, x: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """The gradient of the sum of ``weights * out`` with respect to the leaf ``x``; expects that there is one.

    Gradients of the learner's parameters accumulate in their ``.grad``, as ``backward`` does.
    """
    return _backward(out, {"the input": x}, weights)["the input"]


def _backward(
    out: torch.Tensor, leaves: dict[str, torch.Tensor], weights: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    array(out)
    ask = "Is it computed from the input by torch operations, without .data, .detach() or NumPy?"
    got = ""
    for leaf in leaves.values():
        leaf.grad = None
    if not out.is_floating_point() or not out.requires_grad:
        got = f"dtype {dtype_name(out.dtype)}" + ("" if out.requires_grad else ", cut off from the input")
    else:
        try:
            out.backward(weights if weights is not None else torch.ones_like(out), retain_graph=True)
        except RuntimeError as error:
            if hasattr(error, "trouble"):
                raise
            got, ask = str(error).splitlines()[0][:110], "Which line changes in place what is still needed?"
        cut = [name for name, leaf in leaves.items() if leaf.grad is None]
        if not got and cut:
            got = f"no path from {cut[0]} to the output"
    if got:
        fail(expected="an output that can be differentiated with respect to the input", got=got, ask=ask)
    found = {name: leaf.grad for name, leaf in leaves.items()}
    for leaf in leaves.values():
        leaf.grad = None
    return found


def gradients(function: Callable[..., Any], *, what: str = "the output", **inputs: torch.Tensor) -> None:
    """Expect the gradient with respect to each named input (float64) to agree with finite differences.

    As in ``torch.autograd.gradcheck``'s fast mode, the Jacobian is tried on random vectors from both sides, but for
    all inputs at once: every call of the learner's function has its price, and one backward gives every gradient.
    """

    def answer(**given: torch.Tensor) -> torch.Tensor:
        out = function(**given)
        dtype = next(iter(inputs.values())).dtype
        array(out, dtype=dtype, what=what, ask="Does one of your lines fix the dtype of what it makes?")
        return out

    random = torch.Generator().manual_seed(0)
    leaves = {name: value.detach().clone().requires_grad_() for name, value in inputs.items()}
    out = answer(**leaves)
    weights = torch.randn(out.shape, generator=random, dtype=out.dtype)
    given = {f"`{name}`": leaf for name, leaf in leaves.items()}
    found = dict(zip(inputs, _backward(out, given, weights).values(), strict=True))
    ways = {
        name: torch.randn(value.shape, generator=random, dtype=value.dtype) for name, value in inputs.items()
    }

    def agrees(names: Iterable[str]) -> bool:
        """Whether a small step along some of the inputs changes the output as their gradients say."""
        ends = []
        for sign in (1, -1):
            step = {
                name: value.detach() + sign * STEP * ways[name]
                for name, value in inputs.items()
                if name in names
            }
            with torch.no_grad():
                end = answer(**{**inputs, **step})
            if end.shape != out.shape:
                return False
            ends.append(end.double())
        seen = ((ends[0] - ends[1]) * weights).sum().item() / (2 * STEP)
        parts = [(found[name] * ways[name]).sum().item() for name in names]
        # What is rounded off in the output comes back divided by the step.
        noise = 1e-15 * (out.detach() * weights).abs().sum().item() / STEP
        return abs(seen - sum(parts)) <= 1e-5 * (abs(seen) + sum(map(abs, parts))) + 10 * noise + 1e-8

    if agrees(inputs):
        return
    name = next((name for name in inputs if not agrees([name])), " and ".join(inputs))
    fail(
        expected=f"the gradient of {what} with respect to `{name}` that small changes of `{name}` show",
        got="another gradient",
        ask="Does every step stay on the graph, without .detach(), .data, .item() or torch.no_grad()?",
    )


def gradient_reach(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Who can see whom: for a batch of sequences, which input positions each output position depends on.

    ``function`` maps ``x`` (B, T, D) to (B, S, D'). Returns a bool tensor (B, S, B, T): whether any feature of
    output [b, s] has a gradient with respect to any feature of input [c, t].
    """
    return _reach(function, x, None)


def _reach(
    function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, rows: tuple[int, ...] | None
) -> torch.Tensor:
    x = x.detach().clone().requires_grad_()
    out = function(x)
    array(out, what="the output")
    if out.ndim != 3:
        fail(expected="an output of three dimensions", got=f"shape {tuple(out.shape)}")
    if rows is not None and tuple(out.shape[:2]) != rows:
        fail(expected=f"an output of shape {(*rows, out.shape[2])}", got=f"shape {tuple(out.shape)}")
    batch, length, _ = out.shape
    reach = torch.zeros(batch, length, x.shape[0], x.shape[1], dtype=torch.bool)
    # Random weights: the entries of a softmax sum to one, so that a plain sum would hide what it depends on.
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out.dtype)
    gradient(out, x, weights)  # says what is wrong where there is none
    for b in range(batch):
        for s in range(length):
            chosen = torch.zeros_like(weights)
            chosen[b, s] = weights[b, s]
            # Of the input alone: `backward` would work out the gradients of all parameters each time.
            (found,) = torch.autograd.grad(out, x, chosen, retain_graph=True)
            reach[b, s] = (found != 0).any(-1) | found.isnan().any(-1)
    return reach


def reaches(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, allowed: torch.Tensor) -> None:
    """Expect output [b, s] to depend on input [c, t] exactly where ``allowed`` (B, S, B, T) is True."""
    reach = _reach(function, x, tuple(allowed.shape[:2]))
    for b, s, c, t in (reach & ~allowed).nonzero().tolist():
        whose = "which the mask forbids" if b == c else "which belongs to another sequence"
        fail(
            expected=f"output [{b}, {s}] independent of x[{c}, {t}], {whose}",
            got="a gradient that is not zero",
            ask="Where do the two meet: in the mask, in the softmax, or in a sum over the wrong dimension?",
        )
    for b, s, c, t in (allowed & ~reach).nonzero().tolist():
        fail(
            expected=f"output [{b}, {s}] to depend on x[{c}, {t}], which it may attend to",
            got="a gradient of exactly zero",
            ask="Is the mask the right way round, and does every step stay on the graph?",
        )
