"""What a check expects, said so that a learner can act on it.

Each helper compares an answer with an expectation and, where they differ, fails with what was expected, what
came back and the next question to ask. The call itself (what was called, with which shapes) is added by the
plugin. Where the wrong value is that of a known mistake, the mistake is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch

from proctor.failures import trouble_of
from proctor.proxies import Proxy, generate, named, sketch
from proctor.slopes import gradient, gradient_reach, gradients, reaches
from proctor.unmet import Unmet, array, changes, dtype_name, fail, holds, parts

__all__ = [
    "Unmet",
    "array",
    "close",
    "equal",
    "fail",
    "gradient",
    "gradient_reach",
    "gradients",
    "holds",
    "named",
    "parameters",
    "parts",
    "raises",
    "reaches",
    "unchanged",
]

Array = torch.Tensor | np.ndarray | np.generic | float  # a number of Python's is a NumPy array of shape ()
Mistakes = Mapping[str, Array | Callable[[], Array]]


def close(
    value: Any,
    expected: Array,
    *,
    atol: float = 1e-5,
    rtol: float = 1e-4,
    what: str = "the output",
    ask: str = "",
    mistakes: Mistakes | Callable[[], Mistakes] | None = None,
) -> None:
    """Expect ``value`` to equal ``expected`` within tolerances, not-a-number nowhere.

    Where ``expected`` is a single number of NumPy's or Python's, either kind of number will do.

    ``mistakes`` maps a sentence about a known mistake to the value that it leads to (or a function that makes
    it); where the answer is that value, the sentence is told. A function that makes the whole mapping is called only
    where the answer is wrong: most are right, and then nobody needs those values.
    """
    value, expected, kind = _settled(value, expected)
    mistakes = mistakes or {}
    _array_like(value, expected, kind, what, ask)
    if tuple(value.shape) != tuple(expected.shape):
        _name_mistake(value, expected, mistakes, what, ask, atol, rtol)
    array(value, shape=tuple(expected.shape), kind=kind, what=what, ask=ask)
    got, want = _numbers(value), _numbers(expected)
    for letter, numbers in (("b", "no booleans"), ("c", "no complex ones")):
        if got.dtype.kind == letter != want.dtype.kind:
            came = f"dtype {dtype_name(value.dtype)}"
            fail(expected=f"{what} of plain numbers, {numbers}", got=came, ask=ask)
    off = ~_isclose(got, want, atol, rtol)
    if not off.any():
        return
    _name_mistake(value, expected, mistakes, what, ask, atol, rtol)
    nans = int(_isnan(got).sum())
    if nans:
        fail(
            expected=f"{what} without a NaN",
            got=f"{nans} of {got.size} entries are NaN",
            ask="Which step divides zero by zero, or takes minus infinity from itself?",
        )
    _fail_at(off, want, got, what, ask)


def equal(
    value: Any,
    expected: Array,
    *,
    what: str = "the output",
    ask: str = "",
    mistakes: Mistakes | Callable[[], Mistakes] | None = None,
) -> None:
    """Expect exactly ``expected``: the same dtype, shape and entries (for masks, ids and counts)."""
    value, expected, kind = _settled(value, expected)
    mistakes = mistakes or {}
    _array_like(value, expected, kind, what, ask)
    if value.dtype == expected.dtype:
        _name_mistake(value, expected, mistakes, what, ask, 0.0, 0.0)
    array(value, shape=tuple(expected.shape), dtype=expected.dtype, kind=kind, what=what, ask=ask)
    want, got = _numbers(expected), _numbers(value)
    _fail_at(_differ(want, got), want, got, what, ask)


def raises(kind: type[Exception], call: Callable[[], Any], *, when: str, ask: str = "") -> None:
    """Expect ``call`` to raise an exception of ``kind``, in the learner's code; a stub's own does not count."""
    try:
        value = call()
    except Exception as error:
        trouble = trouble_of(error)
        unwritten = isinstance(error, NotImplementedError) and not issubclass(kind, NotImplementedError)
        if trouble is None or unwritten:
            raise
        if isinstance(error, kind):
            return
        got = f"{trouble.type}: {' '.join(trouble.text.split())[:120]}"
    else:
        got = f"no error, but {sketch(value)}"
    fail(expected=f"a {kind.__name__} {when}", got=got, ask=ask)


@contextmanager
def unchanged(**inputs: Array) -> Iterator[None]:
    """Expect that the calls in this block leave the inputs, given by their names, as they were."""
    before = {name: _numbers(value).copy() for name, value in inputs.items()}
    begun = len(changes)
    yield
    for name, old in before.items():
        made = [new for array, new in changes[begun:] if array is inputs[name]]
        new = _numbers(made[-1] if made else inputs[name])
        off = _differ(new, old) if new.shape == old.shape else None
        if off is None or off.any():
            came = f"{int(off.sum())} of {off.size} entries overwritten" if off is not None else ""
            fail(
                expected=f"`{name}` unchanged by the call",
                got=came or f"shape {new.shape}, which was {old.shape}",
                ask=f"Which line works in place (`+=`, `/=`, `x[...] =`, {_in_place(inputs[name])})?",
            )


def parameters(
    module: Any, shapes: Mapping[str, tuple[int, ...]], *, ask: str = ""
) -> dict[str, torch.Tensor]:
    """Expect a module with exactly these trainable parameters, by name and shape; return them."""
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    if not isinstance(module, Proxy):
        fail(expected=f"a layer with the parameters {listed}", got=sketch(module), ask=ask)
    try:
        pairs = generate(module.named_parameters, len(shapes) + 50)
    except AttributeError:
        fail(expected="an nn.Module", got=sketch(module), ask="Does the class derive from nn.Module?")
    found = {}
    # A list that never ends is none: what is read of it suffices to see that it is another one.
    for pair in islice(pairs, len(shapes) + 50) if isinstance(pairs, (Proxy, list)) else ():
        if isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], torch.Tensor):
            found[str(pair[0])] = pair[1]
    frozen = [name for name, value in found.items() if not value.requires_grad]
    wanted = {name: tuple(shape) for name, shape in shapes.items()}
    shown = {name: tuple(value.shape) for name, value in found.items()}
    if shown != wanted:
        if len(listed) > 250 and found:  # of a long list only what differs is told
            fail(**_difference(wanted, shown), ask=ask)
        got = ", ".join(f"{name} {shape}" for name, shape in shown.items())
        fail(expected=f"the parameters {listed}", got=got or "no parameters", ask=ask)
    if frozen:
        fail(expected=f"`{frozen[0]}` that can be trained", got="a parameter without requires_grad", ask=ask)
    return found


def _difference(
    wanted: Mapping[str, tuple[int, ...]], shown: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """Of many parameters: which of those wanted are not there, and what is there that nobody wants."""
    absent, extra = (
        [f"{name} {shape}" for name, shape in one.items() if other.get(name) != shape]
        for one, other in ((wanted, shown), (shown, wanted))
    )
    among = f", among them {', '.join(absent)}" if absent else " and no others"
    got = f"{', '.join(extra)}{'' if absent else ' besides'}" if extra else "all but these"
    return {"expected": f"{len(wanted)} parameters{among}", "got": got}


def _settled(value: Any, expected: Array) -> tuple[Any, Any, type]:
    """The answer and what is expected of it as arrays, and their kind; any number stands for one of shape ()."""
    if isinstance(expected, torch.Tensor):
        return value, expected, torch.Tensor
    expected = np.asarray(expected)
    if isinstance(value, np.generic) or (expected.ndim == 0 and isinstance(value, (int, float, complex))):
        value = np.asarray(value)
    return value, expected, np.ndarray


def _array_like(value: Any, expected: Array, kind: type, what: str, ask: str) -> None:
    """Expect numbers in an array, of whatever shape."""
    if not isinstance(value, kind):
        array(value, shape=tuple(expected.shape), kind=kind, what=what, ask=ask)
    array(value, kind=kind, what=what, ask=ask)


def _in_place(value: Array) -> str:
    is_tensor = isinstance(value, torch.Tensor)
    return "a method that ends in `_`" if is_tensor else "`x.sort()`, `out=x`"


def _name_mistake(
    value: Array, expected: Array, mistakes: Any, what: str, ask: str, atol: float, rtol: float
) -> None:
    got, want = _numbers(value), _numbers(expected)
    if got.shape == want.shape and _isclose(got, want, atol, rtol).all():
        return
    for sentence, wrong in (mistakes() if callable(mistakes) else mistakes).items():
        wrong = _numbers(wrong() if callable(wrong) else wrong)
        if wrong.shape != got.shape:
            continue
        if (_isclose(got, wrong, max(atol, 1e-6), max(rtol, 1e-5)) | (_isnan(got) & _isnan(wrong))).all():
            shape = "" if got.shape == want.shape else f", of shape {want.shape}"
            told = f"{what} that the docstring describes{shape}"
            fail(expected=told, got=sentence, ask=ask, mistake=sentence)


def _numbers(value: Array) -> np.ndarray:
    if not isinstance(value, torch.Tensor):
        plain = np.asarray(value)
        return plain.astype(np.float64) if plain.dtype.kind == "f" else plain
    tensor = value.detach().resolve_conj().resolve_neg()
    if tensor.is_floating_point():
        return tensor.to(torch.float64).numpy()
    return (tensor.to(torch.complex128) if tensor.is_complex() else tensor).numpy()


def _isclose(one: np.ndarray, two: np.ndarray, atol: float, rtol: float) -> np.ndarray:
    one, two = (n.astype(np.uint8) if n.dtype.kind == "b" else n for n in (one, two))
    with np.errstate(all="ignore"):
        return np.asarray(np.isclose(one, two, atol=atol, rtol=rtol))


def _isnan(numbers: np.ndarray) -> np.ndarray:
    return np.isnan(numbers) if numbers.dtype.kind in "fc" else np.zeros(numbers.shape, bool)


def _differ(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.asarray(one != two) & ~(_isnan(one) & _isnan(two))


def _fail_at(off: np.ndarray, want: np.ndarray, got: np.ndarray, what: str, ask: str) -> None:
    if not off.any():
        return
    index = tuple(int(i) for i in np.argwhere(off)[0])
    place = "[" + ", ".join(map(str, index)) + "]" if index else ""
    one, two = _told_apart(want[index].item(), got[index].item())
    share = f"; {int(off.sum())} of {off.size} entries differ" if off.size > 1 else ""
    fail(expected=f"{what}{place} = {one}", got=two + (f" at {place}" if place else "") + share, ask=ask)


def _told_apart(one: complex, two: complex) -> tuple[str, str]:
    """Two numbers in as few digits as show that they differ."""
    for digits in (4, 6, 9, 17):
        texts = tuple(f"{n:.{digits}g}" if isinstance(n, (float, complex)) else str(n) for n in (one, two))
        if texts[0] != texts[1]:
            break
    return texts
