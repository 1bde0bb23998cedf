"""The way to the learner's work in a notebook: it lies in this very process, and a call is a plain call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from proctor.foreign import as_tensor
from proctor.proxies import Proxy, note_call, perform
from proctor.trouble import as_exception, describe, undefined
from proctor.values import is_plain, raw_bytes

_DATA = (type(None), bool, int, float, complex, str, bytes, np.ndarray, np.generic, torch.Tensor)
_DATA += (torch.dtype, np.dtype, slice, type(Ellipsis))


class Local:
    """The learner's own process: calls are plain calls. Exceptions are marked as the learner's."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.calls: list[str] = []
        self.changes: list[tuple[Any, Any]] | None = None

    def get(self, name: str) -> Any:
        if name not in self.namespace:
            raise undefined(name)
        return _guarded(lambda: self._wrap(self.namespace[name], name))

    def invoke(
        self,
        proxy: Proxy,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        most: int | None = None,
    ) -> Any:
        label = note_call(self.calls, proxy, method, args, kwargs)
        args, kwargs = _unwrap(args), _unwrap(kwargs)
        if self.changes is None:
            return _guarded(lambda: self._wrap(perform(proxy._target, method, args, kwargs, most), label))
        copies: dict[int, tuple[Any, Any]] = {}
        args, kwargs = _copied(args, copies), _copied(kwargs, copies)
        try:
            return _guarded(lambda: self._wrap(perform(proxy._target, method, args, kwargs, most), label))
        finally:
            self.changes += [pair for pair in copies.values() if _has_changed(*pair)]

    def attribute(self, proxy: Proxy, name: str) -> Any:
        label = f"{proxy._label}.{name}"
        return _guarded(lambda: self._wrap(getattr(proxy._target, name), label))

    def assign(self, proxy: Proxy, name: str, value: Any) -> None:
        _guarded(lambda: setattr(proxy._target, name, _unwrap(value)))

    def seed(self, seed: int) -> None:
        """Nothing: the checks have seeded this very process."""

    def _wrap(self, value: Any, label: str) -> Any:
        value = as_tensor(value)
        if isinstance(value, (bytearray, memoryview)):
            return bytes(value)
        if isinstance(value, _DATA):
            return value
        for kind in (list, tuple, set, frozenset):
            if is_plain(value, kind):
                return kind(self._wrap(item, label) for item in value)
        if is_plain(value, dict):
            return {self._wrap(key, label): self._wrap(item, label) for key, item in value.items()}
        return Proxy(self, value, label)


def _guarded(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        if not hasattr(error, "trouble"):
            error.trouble = describe(error)
        raise
    except (SystemExit, GeneratorExit) as error:
        raise as_exception(describe(error)) from error


def _unwrap(value: Any) -> Any:
    if isinstance(value, Proxy):
        return value._target
    if type(value) in (list, tuple):
        return type(value)(_unwrap(item) for item in value)
    if type(value) is dict:
        return {key: _unwrap(item) for key, item in value.items()}
    return value


def _copied(value: Any, copies: dict[int, tuple[Any, Any]]) -> Any:
    """Data with copies in the place of its arrays, the same for the same; gradients flow on to the original."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        if id(value) not in copies:
            copies[id(value)] = value, value.copy() if isinstance(value, np.ndarray) else value.clone()
        # A leaf stays itself, as its gradient is kept there; what is done to it is undone.
        return value if _is_leaf(value) else copies[id(value)][1]
    if type(value) in (list, tuple):
        return type(value)(_copied(item, copies) for item in value)
    if type(value) is dict:
        return {key: _copied(item, copies) for key, item in value.items()}
    return value


def _is_leaf(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_leaf and value.requires_grad


def _has_changed(array: Any, copy: Any) -> bool:
    """Whether an array and its copy have become two; a leaf, which has no other, is put back."""
    if array.shape == copy.shape and array.dtype == copy.dtype and raw_bytes(array) == raw_bytes(copy):
        return False
    if _is_leaf(array):
        changed, before = array.detach().clone(), copy.detach().clone()
        array.data, copy.data = before, changed
    return True
