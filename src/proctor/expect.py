"""What a check expects, said so that a learner can act on it.

Each helper compares an answer with an expectation and, where they differ, fails with what was expected, what
came back and the next question to ask. The call itself (what was called, with which shapes) is added by the
plugin. Where the wrong value is that of a known mistake, the mistake is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
import torch

from proctor.remote import Proxy, sketch

Array = torch.Tensor | np.ndarray


class Unmet(AssertionError):
    """An expectation that the learner's answer does not meet."""


def fail(*, expected: str = "", got: str = "", ask: str = "", called: str = "") -> NoReturn:
    """Fail with what was expected, what came back, and the next question."""
    lines = [("Called", called), ("Expected", expected), ("Got", got), ("Ask", ask)]
    raise Unmet("\n".join(f"{label:<10}{text}" for label, text in lines if text))


def holds(condition: object, *, expected: str, got: str = "", ask: str = "") -> None:
    """Expect a plain truth."""
    if not condition:
        fail(expected=expected, got=got, ask=ask)


def array(
    value: Any,
    *,
    shape: tuple[int, ...] | None = None,
    dtype: Any = None,
    kind: type | tuple[type, ...] = torch.Tensor,
    what: str = "the output",
    ask: str = "",
) -> None:
    """Expect a tensor (``kind=np.ndarray``: an array), and its shape and dtype where they are given."""
    name = "a torch tensor" if kind is torch.Tensor else "a NumPy array"
    if not isinstance(value, kind):
        came = f"{type(value).__name__}: {sketch(value)}" if value is not None else "None"
        ask = ask if value is not None else "Does every path through your code end in `return`?"
        fail(expected=f"{what} as {name}" + (f" of shape {shape}" if shape else ""), got=came, ask=ask)
    if isinstance(value, torch.Tensor) and (
        value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized
    ):
        kind_of = f"layout {value.layout}, device {value.device}, dtype {_dtype(value.dtype)}"
        fail(expected=f"{what} as an ordinary tensor", got=kind_of)
    if shape is not None and tuple(value.shape) != tuple(shape):
        fail(expected=f"{what} of shape {tuple(shape)}", got=f"shape {tuple(value.shape)}", ask=ask)
    if dtype is not None and value.dtype != dtype:
        fail(expected=f"{what} of dtype {_dtype(dtype)}", got=f"dtype {_dtype(value.dtype)}", ask=ask)


def close(
    value: Any,
    expected: Array,
    *,
    atol: float = 1e-5,
    rtol: float = 1e-4,
    what: str = "the output",
    ask: str = "",
    mistakes: Mapping[str, Array | Callable[[], Array]] | None = None,
) -> None:
    """Expect ``value`` to equal ``expected`` within tolerances, not-a-number nowhere.

    ``mistakes`` maps a sentence about a known mistake to the value that it leads to (or a function that makes
    it); where the answer is that value, the sentence is told.
    """
    kind = torch.Tensor if isinstance(expected, torch.Tensor) else np.ndarray
    mistakes = mistakes or {}
    if isinstance(value, kind) and tuple(value.shape) != tuple(expected.shape):
        _name_mistake(value, expected, mistakes, what, ask, atol, rtol)
    array(value, shape=tuple(expected.shape), kind=kind, what=what, ask=ask)
    got, want = _numbers(value), _numbers(expected)
    off = ~np.isclose(got, want, atol=atol, rtol=rtol)
    if not off.any():
        return
    _name_mistake(value, expected, mistakes, what, ask, atol, rtol)
    nans = int(np.isnan(got).sum())
    if nans:
        fail(
            expected=f"{what} without a NaN",
            got=f"{nans} of {got.size} entries are NaN",
            ask="Which step divides zero by zero, or takes minus infinity from itself?",
        )
    index = tuple(int(i) for i in np.argwhere(off)[0])
    fail(expected=_entry(what, index, want), got=_entry("", index, got) + _share(off), ask=ask)


def equal(
    value: Any,
    expected: Array,
    *,
    what: str = "the output",
    ask: str = "",
    mistakes: Mapping[str, Array | Callable[[], Array]] | None = None,
) -> None:
    """Expect exactly ``expected``: the same dtype, shape and entries (for masks, ids and counts)."""
    kind = torch.Tensor if isinstance(expected, torch.Tensor) else np.ndarray
    mistakes = mistakes or {}
    if isinstance(value, kind) and value.dtype == expected.dtype:
        _name_mistake(value, expected, mistakes, what, ask, 0.0, 0.0)
    array(value, shape=tuple(expected.shape), dtype=expected.dtype, kind=kind, what=what, ask=ask)
    off = _numbers(value) != _numbers(expected)
    if off.any():
        index = tuple(int(i) for i in np.argwhere(off)[0])
        want, got = _numbers(expected), _numbers(value)
        fail(expected=_entry(what, index, want), got=_entry("", index, got) + _share(off), ask=ask)


def raises(kind: type[Exception], call: Callable[[], Any], *, when: str, ask: str = "") -> None:
    """Expect ``call`` to raise an exception of ``kind``."""
    try:
        value = call()
    except kind:
        return
    except NotImplementedError:
        raise
    except Exception as error:
        if not hasattr(error, "trouble"):
            raise
        got = f"{error.trouble.type}: {error.trouble.text[:120]}"
    else:
        got = f"no error, but {sketch(value)}"
    fail(expected=f"a {kind.__name__} {when}", got=got, ask=ask)


@contextmanager
def unchanged(**inputs: Array) -> Iterator[None]:
    """Expect that the calls in this block leave the inputs, given by their names, as they were."""
    before = {name: _numbers(value).copy() for name, value in inputs.items()}
    yield
    for name, old in before.items():
        off = _numbers(inputs[name]) != old
        if off.any():
            fail(
                expected=f"`{name}` unchanged by the call",
                got=f"{int(off.sum())} of {off.size} entries overwritten",
                ask="Which line works in place (`+=`, `/=`, `x[...] =`, a method that ends in `_`)?",
            )


def parameters(
    module: Any, shapes: Mapping[str, tuple[int, ...]], *, ask: str = ""
) -> dict[str, torch.Tensor]:
    """Expect a module with exactly these trainable parameters, by name and shape; return them."""
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    if not isinstance(module, Proxy):
        fail(expected=f"a layer with the parameters {listed}", got=sketch(module), ask=ask)
    pairs = module.named_parameters()
    found: dict[str, torch.Tensor] = {}
    for pair in pairs if isinstance(pairs, (Proxy, list)) else ():
        if isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], torch.Tensor):
            found[str(pair[0])] = pair[1]
    if {name: tuple(value.shape) for name, value in found.items()} != dict(shapes):
        got = ", ".join(f"{name} {tuple(value.shape)}" for name, value in found.items())
        fail(expected=f"the parameters {listed}", got=got or "no parameters", ask=ask)
    return found


def gradient(out: torch.Tensor, x: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """The gradient of the sum of ``weights * out`` with respect to the leaf ``x``; expects that there is one.

    Gradients of the learner's parameters accumulate in their ``.grad``, as ``backward`` does.
    """
    array(out)
    ask = "Is the result computed from the input by torch operations, without .data, .detach() or NumPy?"
    x.grad, got = None, ""
    if not out.is_floating_point() or not out.requires_grad:
        got = f"dtype {_dtype(out.dtype)}" + ("" if out.requires_grad else ", cut off from the input")
    else:
        try:
            out.backward(weights if weights is not None else torch.ones_like(out), retain_graph=True)
        except RuntimeError as error:
            if hasattr(error, "trouble"):
                raise
            got = str(error).splitlines()[0][:110]
            ask = "Which line changes a tensor in place that is still needed?"
        if not got and x.grad is None:
            got = "no path from the input to the output"
    if got:
        fail(expected="an output that can be differentiated with respect to the input", got=got, ask=ask)
    found, x.grad = x.grad, None
    return found


def gradients(function: Callable[..., Any], *, what: str = "the output", **inputs: torch.Tensor) -> None:
    """Expect the gradient with respect to each named input (float64) to agree with finite differences."""
    for name, value in inputs.items():

        def answer(x: torch.Tensor, name: str = name) -> torch.Tensor:
            out = function(**{**inputs, name: x})
            array(out, dtype=x.dtype, what=what, ask="Does one of your lines fix the dtype of what it makes?")
            return out

        x = value.detach().clone().requires_grad_()
        gradient(answer(x), x)
        try:
            torch.autograd.gradcheck(answer, [x], fast_mode=True, check_undefined_grad=False)
        except RuntimeError as error:
            if hasattr(error, "trouble"):
                raise
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
    x = x.detach().clone().requires_grad_()
    out = function(x)
    array(out, what="the output")
    if out.ndim != 3:
        fail(expected="an output of three dimensions", got=f"shape {tuple(out.shape)}")
    batch, length, _ = out.shape
    reach = torch.zeros(batch, length, x.shape[0], x.shape[1], dtype=torch.bool)
    # Random weights: the entries of a softmax sum to one, so that a plain sum would hide what it depends on.
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out.dtype)
    for b in range(batch):
        for s in range(length):
            chosen = torch.zeros_like(weights)
            chosen[b, s] = weights[b, s]
            found = gradient(out, x, chosen)
            reach[b, s] = (found != 0).any(-1) | found.isnan().any(-1)
    return reach


def reaches(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, allowed: torch.Tensor) -> None:
    """Expect output [b, s] to depend on input [c, t] exactly where ``allowed`` (B, S, B, T) is True."""
    reach = gradient_reach(function, x)
    array(reach, shape=tuple(allowed.shape), dtype=torch.bool, what="the dependence of outputs on inputs")
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


def _name_mistake(
    value: Any, expected: Array, mistakes: Any, what: str, ask: str, atol: float, rtol: float
) -> None:
    if value.shape == expected.shape and np.allclose(
        _numbers(value), _numbers(expected), atol=atol, rtol=rtol
    ):
        return
    for sentence, wrong in mistakes.items():
        wrong = wrong() if callable(wrong) else wrong
        if tuple(wrong.shape) != tuple(value.shape):
            continue
        one, two = _numbers(value), _numbers(wrong)
        if np.allclose(one, two, atol=max(atol, 1e-6), rtol=max(rtol, 1e-5), equal_nan=True):
            shape = "" if value.shape == expected.shape else f", of shape {tuple(expected.shape)}"
            fail(expected=f"{what} that the docstring describes{shape}", got=sentence, ask=ask)


def _numbers(value: Array) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value.astype(np.float64) if value.dtype.kind == "f" else value
    plain = value.detach().resolve_conj().resolve_neg()
    return plain.to(torch.float64).numpy() if plain.is_floating_point() else plain.numpy()


def _entry(what: str, index: tuple[int, ...], numbers: np.ndarray) -> str:
    place = "[" + ", ".join(map(str, index)) + "]" if index else ""
    number = numbers[index].item()
    text = f"{number:.4g}" if isinstance(number, (float, complex)) else str(number)
    return f"{what}{place} = {text}" if what else f"{text}" + (f" at {place}" if place else "")


def _share(off: np.ndarray) -> str:
    return f"; {int(off.sum())} of {off.size} entries differ" if off.size > 1 else ""


def _dtype(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
