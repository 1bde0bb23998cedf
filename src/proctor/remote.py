"""What a check sees of the learner's work: proxies that read the same at every door.

``student.SelfAttention(8, 3, 5)(x)`` is written once. In grading it goes over the wire to the student's
process; in the learner's own notebook it is a plain call. Tensors, arrays and other data come back as they
are; any other object stays where it was made, behind a ``Proxy``.
"""

from __future__ import annotations

import builtins
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

from proctor.peer import Peer, StudentGone, describe
from proctor.wire import Connection, WireClosed, WireError, WireTimeout

_DATA = (type(None), bool, int, float, complex, str, bytes, np.ndarray, np.generic, torch.Tensor)
_DATA += (torch.dtype, np.dtype, slice, type(Ellipsis))


class Backend(Protocol):
    """One way of reaching the learner's work."""

    calls: list[str]

    def get(self, name: str) -> Any: ...
    def invoke(self, proxy: Proxy, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...
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

    def __init__(self, backend: Backend, target: Any, label: str) -> None:
        object.__setattr__(self, "_backend", backend)
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_label", label)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._backend.invoke(self, "__call__", args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._backend.attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._backend.assign(self, name, value)

    def __repr__(self) -> str:
        return self._label

    def __bool__(self) -> bool:
        return True

    __hash__ = object.__hash__


def _forward(method: str) -> Callable[..., Any]:
    def special(self: Proxy, *args: Any) -> Any:
        return self._backend.invoke(self, method, args, {})

    special.__name__ = method
    return special


for _method in (
    "__len__ __iter__ __next__ __getitem__ __setitem__ __contains__ __float__ __int__ __neg__ __add__ __radd__ "
    "__sub__ __rsub__ __mul__ __rmul__ __truediv__ __rtruediv__ __matmul__ __rmatmul__ __pow__ "
    "__enter__ __exit__ __lt__ __le__ __gt__ __ge__"
).split():
    setattr(Proxy, _method, _forward(_method))


class Local:
    """The learner's own process: calls are plain calls. Exceptions are marked as the learner's."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.calls: list[str] = []

    def get(self, name: str) -> Any:
        if name not in self.namespace:
            raise _undefined(name)
        return self._wrap(self.namespace[name], name)

    def invoke(self, proxy: Proxy, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        label = note_call(self.calls, proxy, method, args, kwargs)
        target = proxy._target
        function = target if method == "__call__" else getattr(target, method)
        args, kwargs = _unwrap(list(args)), _unwrap(kwargs)
        return self._wrap(_guarded(lambda: function(*args, **kwargs)), label)

    def attribute(self, proxy: Proxy, name: str) -> Any:
        label = f"{proxy._label}.{name}"
        return self._wrap(_guarded(lambda: getattr(proxy._target, name)), label)

    def assign(self, proxy: Proxy, name: str, value: Any) -> None:
        _guarded(lambda: setattr(proxy._target, name, _unwrap(value)))

    def seed(self, seed: int) -> None:
        """Nothing: the checks have seeded this very process."""

    def _wrap(self, value: Any, label: str) -> Any:
        if isinstance(value, _DATA):
            return value
        if type(value) in (list, tuple, set, frozenset):
            return type(value)(self._wrap(item, label) for item in value)
        if isinstance(value, dict):
            return {key: self._wrap(item, label) for key, item in value.items()}
        return Proxy(self, value, label)


class Remote:
    """The student's process, over the wire. Once it has gone, every use says why."""

    def __init__(self, connection: Connection, call_seconds: float, total_seconds: float) -> None:
        self.calls: list[str] = []
        self.gone = ""
        self.timed_out = False
        self._call_seconds = call_seconds
        self._end = time.monotonic() + total_seconds
        self._callbacks: list[Callable[..., Any]] = []
        self._label = ""
        self._peer = Peer(connection, {"invoke": self._call_back}, self._export, self._resolve)
        self._peer.answer["vjp"] = self._peer.vjp

    def run(self, source: str, seconds: float) -> dict[str, Any]:
        """Run one cell of the notebook; its outputs and error as the worker describes them."""
        answer = self._request("run", {"source": source}, seconds)
        if not isinstance(answer, dict) or not isinstance(answer.get("outputs"), list):
            raise self._lost("Your notebook answered with something that is no result of a cell.")
        return answer

    def get(self, name: str) -> Any:
        self._label = name
        if self._request("has", {"name": name}) is not True:
            raise _undefined(name)
        return self._request("get", {"name": name})

    def invoke(self, proxy: Proxy, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._label = note_call(self.calls, proxy, method, args, kwargs)
        content = {"target": proxy, "method": method, "args": list(args), "kwargs": kwargs}
        return self._request("invoke", content)

    def attribute(self, proxy: Proxy, name: str) -> Any:
        self._label = f"{proxy._label}.{name}"
        return self._request("attribute", {"target": proxy, "name": name})

    def assign(self, proxy: Proxy, name: str, value: Any) -> None:
        self._request("assign", {"target": proxy, "name": name, "value": value})

    def seed(self, seed: int) -> None:
        self._request("seed", {"seed": seed})

    def _request(self, op: str, content: dict[str, Any], seconds: float = 0.0) -> Any:
        if self.gone:
            raise StudentGone(self.gone)
        seconds = seconds or self._call_seconds
        deadline = min(time.monotonic() + seconds, self._end)
        try:
            return self._peer.request(op, content, deadline)
        except WireTimeout:
            self.timed_out = True
            raise self._lost(f"Your code took longer than {seconds:g} seconds and was stopped.") from None
        except WireClosed:
            raise self._lost(
                "Your code ended its own process (by exit, a crash, or for want of memory), so nothing came back."
            ) from None
        except WireError as error:
            raise self._lost(f"Your code answered with something that is no answer: {error}.") from None

    def _lost(self, sentence: str) -> StudentGone:
        self.gone = sentence
        return StudentGone(sentence)

    def _export(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Proxy):
            return {"handle": value._target}
        if callable(value):
            self._callbacks.append(value)
            return {"callback": len(self._callbacks) - 1}
        raise TypeError(f"a check cannot send a {type(value).__name__} to the student's process")

    def _resolve(self, tag: str, content: Any) -> Any:
        if tag != "handle":
            raise WireError(f"unknown tag {tag[:40]!r}")
        number, kind, name = content
        if not isinstance(number, int) or not isinstance(kind, str) or not isinstance(name, str):
            raise WireError("a malformed handle")
        return Proxy(self, number, self._label or name or kind)

    def _call_back(self, content: Any) -> Any:
        # All that the student's side may ask of this one: a call of a function that the check passed in.
        if not isinstance(content, dict) or content.get("method") != "__call__":
            raise WireError("only functions that were passed in can be called back")
        number = content.get("target")
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(self._callbacks):
            raise WireError("a function that was not passed in")
        return self._callbacks[number](*content["args"], **content["kwargs"])


def _guarded(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        if not hasattr(error, "trouble"):
            error.trouble = describe(error)
        raise
    except SystemExit as error:
        lost = RuntimeError("SystemExit was raised")
        lost.trouble = describe(error)
        raise lost from error


def _unwrap(value: Any) -> Any:
    if isinstance(value, Proxy):
        return value._target
    if type(value) in (list, tuple):
        return type(value)(_unwrap(item) for item in value)
    if type(value) is dict:
        return {key: _unwrap(item) for key, item in value.items()}
    return value


def _undefined(name: str) -> StudentGone:
    return StudentGone(f"There is no `{name}` yet: run the cell that defines it, under exactly this name.")


def note_call(
    calls: list[str], proxy: Proxy, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    """Write down a call as a learner would read it, and return that line."""
    shown = [sketch(value) for value in args] + [f"{name}={sketch(value)}" for name, value in kwargs.items()]
    name = proxy._label if method == "__call__" else f"{proxy._label}.{method}"
    line = f"{name}({', '.join(shown)})"
    if not (method.startswith("__") and method != "__call__"):
        calls.append(line)
    return line


def sketch(value: Any, room: int = 60) -> str:
    """A value in few characters: a tensor by its shape (and its dtype, where that is not float32)."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        kind = str(value.dtype).removeprefix("torch.")
        shape = "(" + ", ".join(map(str, value.shape)) + ("," if value.ndim == 1 else "") + ")"
        return shape if kind == "float32" else f"{kind} {shape}"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(sketch(item, room // 2) for item in value[:4]) + (", …" if len(value) > 4 else "")
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: …" for key in list(value)[:4]) + "}"
    if callable(value) and not isinstance(value, Proxy):
        return getattr(value, "__name__", "a function")
    text = builtins.repr(value)
    return text if len(text) <= room else text[: room - 1] + "…"
