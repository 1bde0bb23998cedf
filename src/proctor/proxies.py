"""Proxies: objects of the learner's that stay where they were made, and read as if they were here.

A check may do with a proxy what it may do with an object, save for what would let the object judge itself. A
proxy is never equal to anything, cannot be compared, does not mix with tensors and arrays, and tells NumPy and
torch nothing: ``out - expected``, where ``out`` is a cleverly made object, would show the answer to it, and
``__array_interface__`` would name any address in the memory of the process that scores.
"""

from __future__ import annotations

import builtins
import operator
import sys
from collections.abc import Callable
from itertools import islice
from types import GeneratorType
from typing import Any, Protocol

import numpy as np
import torch

from proctor.trouble import Trouble, as_exception

_TOLD = {
    "__name__",
    "__qualname__",
    "__doc__",
    "__annotations__",
}  # of the special attributes, to whoever asks


class Backend(Protocol):
    """One way of reaching the learner's work.

    While ``changes`` is a list, a call leaves what a check passes in as it was, and notes there what the learner's
    code has made of it, as (array, new entries); otherwise arrays change as in any call.
    """

    calls: list[str]
    changes: list[tuple[Any, Any]] | None

    def get(self, name: str) -> Any: ...
    def invoke(
        self,
        proxy: Proxy,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        most: int | None = None,
    ) -> Any: ...
    def attribute(self, proxy: Proxy, name: str) -> Any: ...
    def assign(self, proxy: Proxy, name: str, value: Any) -> None: ...
    def seed(self, seed: int) -> None: ...


class Student:
    """The learner's namespace, as the ``student`` fixture of a check: every name in it is an attribute."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return self._backend.get(name)


class Proxy:
    """An object of the learner's: called, asked for attributes, indexed and iterated as if it were here."""

    __slots__ = ("__weakref__", "_backend", "_label", "_target")
    __array_ufunc__ = None  # NumPy leaves `array - proxy` to the proxy, which refuses

    def __init__(self, backend: Backend, target: Any, label: str) -> None:
        object.__setattr__(self, "_backend", backend)
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_label", label)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._backend.invoke(self, "__call__", args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__") and name not in _TOLD:
            raise AttributeError(f"a proxy has no {name}")
        return self._backend.attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._backend.assign(self, name, value)

    def __repr__(self) -> str:
        return self._label

    def __format__(self, spec: str) -> str:
        return self._label

    def __bool__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        # Neither told of an exception nor asked about it: the student's side could swallow a failing assertion.
        self._backend.invoke(self, "__exit__", (None, None, None), {})

    __hash__ = object.__hash__


_UNARY: dict[str, Callable[..., Any]] = {
    "__iter__": iter,
    "__next__": next,
    "__len__": len,
    "__int__": int,
    "__float__": float,
    "__neg__": operator.neg,
    "__enter__": lambda target: target.__enter__(),
}
_BINARY: dict[str, Callable[..., Any]] = {
    f"__{name}__": getattr(operator, name) for name in "add sub mul truediv matmul pow".split()
}
_REFLECTED: dict[str, Callable[..., Any]] = {
    name.replace("__", "__r", 1): lambda target, other, function=function: function(other, target)
    for name, function in _BINARY.items()
}
_ITEMS: dict[str, Callable[..., Any]] = {
    "__getitem__": operator.getitem,
    "__setitem__": operator.setitem,
    "__contains__": operator.contains,
}
_SPECIAL = {**_UNARY, **_BINARY, **_REFLECTED, **_ITEMS}
_KINDS = {"__len__": int, "__int__": int, "__float__": float, "__contains__": bool, "__iter__": Proxy}
_REFUSED = "__lt__ __le__ __gt__ __ge__ __abs__ __round__".split()


def generate(function: Any, most: int, *args: Any, **kwargs: Any) -> Any:
    """Call a function; of a generator that it returns, hand back at most so many items, as a list.

    That is one call to the learner's process, where each step of the generator would be another.
    """
    return (
        function._backend.invoke(function, "__call__", args, kwargs, most)
        if isinstance(function, Proxy)
        else function(*args, **kwargs)
    )


def perform(
    target: Any,
    method: str,
    args: list[Any] | tuple[Any, ...],
    kwargs: dict[str, Any],
    most: int | None = None,
) -> Any:
    """Do to an object what was done to its proxy; of a generator that comes of it, list ``most`` items, if given."""
    if most is not None:
        value = perform(target, method, args, kwargs)
        return list(islice(value, most)) if isinstance(value, GeneratorType) else value
    if method == "__call__":
        return target(*args, **kwargs)
    return _SPECIAL.get(method, lambda target, *args: getattr(target, method)(*args))(target, *args)


def _forward(method: str) -> Callable[..., Any]:
    def special(self: Proxy, *args: Any) -> Any:
        other = args[0] if args and method not in _ITEMS else self
        if isinstance(other, (torch.Tensor, np.ndarray, np.generic)):
            raise _misplaced(self)
        value = self._backend.invoke(self, method, args, {})
        # With a number, an object of the learner's may become another such object, and not an answer.
        if not isinstance(value, _KINDS.get(method, object if isinstance(other, Proxy) else Proxy)):
            raise _misplaced(self)
        if method == "__len__" and not 0 <= value <= sys.maxsize:  # what a real object cannot claim
            raise _misplaced(self)
        return float(value) if method == "__float__" else value

    special.__name__ = method
    return special


def _refuse(method: str) -> Callable[..., Any]:
    def special(self: Proxy, *_: Any) -> Any:
        raise _misplaced(self)

    special.__name__ = method
    return special


def _misplaced(proxy: Proxy) -> Exception:
    text = f"{proxy} is an object of its own kind, where a tensor, an array or a number was expected"
    return as_exception(Trouble("TypeError", text, (), ("TypeError",)))


for _method in _SPECIAL:
    setattr(Proxy, _method, _forward(_method))
for _method in _REFUSED:
    setattr(Proxy, _method, _refuse(_method))


def named(value: Any, name: str) -> Any:
    """Give an object of the learner's the name under which messages show it; anything else stays as it is."""
    if isinstance(value, Proxy):
        object.__setattr__(value, "_label", name)
    return value


def note_call(
    calls: list[str], proxy: Proxy, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    """Write down a call as a learner would read it, and return what its result is called."""
    if method in ("__iter__", "__next__", "__enter__"):
        return proxy._label
    if method == "__getitem__":
        return f"{proxy._label}[{sketch(args[0])}]"
    shown = [sketch(value) for value in args] + [f"{name}={sketch(value)}" for name, value in kwargs.items()]
    name = proxy._label if method == "__call__" else f"{proxy._label}.{method}"
    line = f"{name}({', '.join(shown)})"
    if not (method.startswith("__") and method != "__call__"):
        calls.append(line)
    return line


def sketch(value: Any, room: int = 60) -> str:
    """A value in few characters: an array by its shape (and its dtype, where that is not the library's own)."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        kind = str(value.dtype).removeprefix("torch.")
        shape = "(" + ", ".join(map(str, value.shape)) + ("," if value.ndim == 1 else "") + ")"
        usual = "float32" if isinstance(value, torch.Tensor) else "float64"
        return shape if kind == usual else f"{kind} {shape}"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        inner = ", ".join(sketch(item, room // 2) for item in value[:4]) + (", …" if len(value) > 4 else "")
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: …" for key in list(value)[:4]) + "}"
    if callable(value) and not isinstance(value, Proxy):
        return getattr(value, "__name__", "a function")
    text = builtins.repr(value)
    return text if len(text) <= room else text[: room - 1] + "…"
