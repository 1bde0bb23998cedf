"""How an expectation fails: what was expected, what came back, and the next question."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import torch

from proctor.remote import Proxy, sketch
from proctor.values import TORCH_DTYPES

changes: list[
    tuple[Any, Any]
] = []  # what calls of the check at work have made of its arrays (see ``Backend``)


class Unmet(AssertionError):
    """An expectation that the learner's answer does not meet."""


def fail(*, expected: str = "", got: str = "", ask: str = "", called: str = "") -> NoReturn:
    """Fail with what was expected, what came back, and the next question."""
    lines = [("Called", called), ("Expected", expected), ("Got", got), ("Ask", ask)]
    raise Unmet("\n".join(f"{label:<10}{text}" for label, text in lines if text))


def holds(condition: object, *, expected: str, got: str = "", ask: str = "") -> None:
    """Expect a plain truth; an object of the learner's is none, whatever it says of itself."""
    if isinstance(condition, Proxy) or not condition:
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
    name = "a NumPy array" if kind is np.ndarray else "a torch tensor"
    if not isinstance(value, kind):
        came = f"{type(value).__name__}: {sketch(value)}" if value is not None else "None"
        asks = {type(None): "Does every path through your code end in `return`?"}
        ask = asks.get(type(value), "Does it return one tensor or several things? Of which type?")
        fail(expected=f"{what} as {name}" + (f" of shape {shape}" if shape else ""), got=came, ask=ask)
    if isinstance(value, torch.Tensor) and not _ordinary(value):
        came = f"{value.layout}, {value.device}, {value.dtype}" + (", nested" if value.is_nested else "")
        fail(expected=f"{what} as an ordinary tensor", got=came, ask=ask)
    if shape is not None and tuple(value.shape) != tuple(shape):
        fail(expected=f"{what} of shape {tuple(shape)}", got=f"shape {tuple(value.shape)}", ask=ask)
    if dtype is not None and value.dtype != dtype:
        fail(expected=f"{what} of dtype {dtype_name(dtype)}", got=f"dtype {dtype_name(value.dtype)}", ask=ask)


def _ordinary(value: torch.Tensor) -> bool:
    """Whether a tensor is plain numbers in the memory of this machine."""
    strided = value.layout == torch.strided and value.is_cpu and not value.is_nested
    return strided and not value.is_quantized and value.dtype in TORCH_DTYPES.values()


def dtype_name(dtype: Any) -> str:
    """A dtype as a learner writes it."""
    return str(dtype).removeprefix("torch.")
