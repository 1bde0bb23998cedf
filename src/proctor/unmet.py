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
    """An expectation that the learner's answer does not meet; ``mistake`` and ``ask`` are for ``CheckResult``."""

    mistake = ""
    ask = ""


def fail(
    *, expected: str = "", got: str = "", ask: str = "", called: str = "", mistake: str = ""
) -> NoReturn:
    """Fail with what was expected, what came back, and the next question.

    ``mistake`` names the known mistake that this is, in words of the check's own: a class's mistakes are counted by it.
    """
    lines = [("Called", called), ("Expected", expected), ("Got", got), ("Ask", ask)]
    unmet = Unmet("\n".join(f"{label:<10}{text}" for label, text in lines if text))
    unmet.mistake, unmet.ask = mistake, ask
    raise unmet


def holds(condition: object, *, expected: str, got: str = "", ask: str = "") -> None:
    """Expect a plain truth; an object of the learner's is none, whatever it says of itself."""
    if isinstance(condition, Proxy) or not condition:
        fail(expected=expected, got=got, ask=ask)


def array(
    value: Any,
    *,
    shape: tuple[int, ...] | None = None,
    dtype: Any = None,
    kind: type | None = None,
    what: str = "the output",
    ask: str = "",
) -> None:
    """Expect a tensor or, with ``kind=np.ndarray`` or a dtype of NumPy's, an array of numbers.

    Its shape and dtype count where they are given. A NumPy scalar is an array of shape ().
    """
    if kind is None:
        kind = torch.Tensor if dtype is None or isinstance(dtype, torch.dtype) else np.ndarray
    numpy = kind is np.ndarray
    if not isinstance(value, (np.ndarray, np.generic) if numpy else kind):
        name = ("a NumPy array" if numpy else "a torch tensor") + (f" of shape {shape}" if shape else "")
        came = f"{type(value).__name__}: {sketch(value)}" if value is not None else "None"
        fail(expected=f"{what} as {name}", got=came, ask=_ask_for_kind(value, numpy))
    if isinstance(value, torch.Tensor) and not _ordinary(value):
        came = f"{value.layout}, {value.device}, {value.dtype}" + (", nested" if value.is_nested else "")
        fail(expected=f"{what} as an ordinary tensor", got=came, ask=ask)
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind not in "biufc":
        objects = (
            "Do its rows differ in length, or is one of its entries None?" if value.dtype == object else ask
        )
        fail(expected=f"{what} as an array of numbers", got=f"dtype {value.dtype}", ask=objects)
    if shape is not None and tuple(value.shape) != tuple(shape):
        came = f"shape {tuple(value.shape)}" + ("" if value.shape else ", a single number")
        fail(expected=f"{what} of shape {tuple(shape)}", got=came, ask=ask)
    if dtype is not None and value.dtype != dtype:
        fail(expected=f"{what} of dtype {dtype_name(dtype)}", got=f"dtype {dtype_name(value.dtype)}", ask=ask)


def parts(value: Any, *names: str, ask: str = "") -> tuple[Any, ...]:
    """Expect as many things as there are names, in a tuple or a list, and return them: guard each as you use it."""
    if isinstance(value, (tuple, list)) and len(value) == len(names):
        return tuple(value)
    several = isinstance(value, (tuple, list))
    came = f"{len(value)}: {sketch(value)}" if several else f"{type(value).__name__}: {sketch(value)}"
    fail(
        expected=f"{len(names)} things: {', '.join(names)}",
        got=came if value is not None else "None",
        ask=ask
        or f"Does the `return` hand back {', '.join(names)}, in this order, with commas between them?",
    )


def _ask_for_kind(value: Any, numpy: bool) -> str:
    if value is None:
        return "Does every path through your code end in `return`?"
    if numpy and isinstance(value, list):
        return "A list neither multiplies nor broadcasts as an array does. What turns it into one?"
    if numpy and isinstance(value, torch.Tensor):
        return "This exercise computes in NumPy. Which line makes a tensor?"
    if isinstance(value, (int, float)):
        return "Which step makes one number of what should stay apart?"
    return f"Does it return one {'array' if numpy else 'tensor'} or several things? Of which type?"


def _ordinary(value: torch.Tensor) -> bool:
    """Whether a tensor is plain numbers in the memory of this machine."""
    strided = value.layout == torch.strided and value.is_cpu and not value.is_nested
    return strided and not value.is_quantized and value.dtype in TORCH_DTYPES.values()


def dtype_name(dtype: Any) -> str:
    """A dtype as a learner writes it."""
    return str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else str(np.dtype(dtype))
