"""Values on the wire: plain data to a JSON tree with raw buffers, and back.

Numbers, strings, bytes, lists, tuples, sets, dicts, NumPy arrays and torch tensors of every dtype travel as they
are; what Keras and TensorFlow compute with travels as torch tensors (``foreign.py``). Every JSON object of the tree
is one tag and its content, such as ``{"tuple": [1, 2]}``. The way back, which must hold against any sender, is
``decode.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from proctor.decode import NUMPY_DTYPES, TORCH_DTYPES, Decoder
from proctor.foreign import as_tensor
from proctor.wire import LIMITS, Limits, WireError

__all__ = ["TORCH_DTYPES", "Decoder", "Encoder", "is_plain", "raw_bytes"]

_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}

_LONG = 4096  # characters from which on a string travels as a buffer
_FAMILIES = {"builtins", "collections", "torch"}


def is_plain(value: Any, kind: type) -> bool:
    """Whether a container is data: an instance of ``kind`` that no notebook's class has given a life of its own.

    ``OrderedDict`` and ``torch.Size`` are data; a named tuple, or a learner's ``class Vocabulary(dict)``, is an
    object like any other.
    """
    return isinstance(value, kind) and type(value).__module__.partition(".")[0] in _FAMILIES


def raw_bytes(array: np.ndarray | torch.Tensor) -> bytes:
    """The bytes of an array's or a tensor's elements, in order."""
    if isinstance(array, np.ndarray):
        return array.tobytes()
    plain = array.detach()
    if plain.dtype in NUMPY_DTYPES and plain.is_cpu and not plain.is_conj() and not plain.is_neg():
        return plain.numpy().tobytes()
    plain = plain.cpu().resolve_conj().resolve_neg().contiguous()
    # Not `reshape(-1)`: a dimension of size one may keep any stride, and then its bytes cannot be viewed.
    flat = plain.as_strided((plain.numel(),), (1,), plain.storage_offset())
    return flat.view(torch.uint8).numpy().tobytes()


@dataclass(slots=True)
class Encoder:
    """Turns values into a JSON tree and buffers.

    ``export`` is asked for the tag of anything that is no plain data (an ``nn.Module``, a function).
    ``arrays`` collects the tensors and arrays in the order in which they were met: gradients and changes
    made in place refer to them by position.
    """

    export: Callable[[Any], dict[str, Any]] | None = None
    limits: Limits = LIMITS
    buffers: list[bytes] = field(default_factory=list)
    arrays: list[Any] = field(default_factory=list)
    _met: dict[int, int] = field(default_factory=dict)
    _items: int = 0
    _bytes: int = 0

    def encode(self, value: Any, depth: int = 0) -> Any:
        """Return the JSON tree of ``value``. Raises WireError where it is too deep, too long, or no data."""
        self._items += 1
        if depth > self.limits.depth:
            raise WireError(f"a value nested more than {self.limits.depth} deep cannot be sent")
        if self._items > self.limits.items:
            raise WireError(f"a value of more than {self.limits.items} items cannot be sent")
        write = _WRITE.get(type(value))
        return write(self, value, depth) if write is not None else self._other(value, depth)

    def _other(self, value: Any, depth: int) -> Any:
        """What ``encode`` makes of a value whose very type is not in its table: of a subclass, or of an object."""
        value = as_tensor(value)
        if isinstance(value, np.str_):  # as an array of one, it would lose NULs at its end
            return {"scalar": self._string(str.__str__(value))}
        if isinstance(value, np.bytes_):
            return {"scalar": {"bytes": self._buffer(bytes(value))}}
        if isinstance(value, str):
            return self._string(str.__str__(value))
        if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
            return self._tensor(value, depth) if isinstance(value, torch.Tensor) else self._array(value)
        if isinstance(value, int):
            return self._integer(int(value))
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, complex):
            return {"complex": [value.real, value.imag]}
        if isinstance(value, (bytes, bytearray, memoryview)):
            return {"bytes": self._buffer(bytes(value))}
        for kind, tag in ((list, None), (tuple, "tuple"), (set, "set"), (frozenset, "frozenset")):
            if is_plain(value, kind):
                items = self._list(value, depth)
                return {tag: items} if tag else items
        if is_plain(value, dict):
            return self._dict(value, depth)
        if isinstance(value, torch.dtype):
            return {"torch.dtype": str(value).removeprefix("torch.")}
        if isinstance(value, np.dtype):
            return {"numpy.dtype": value.str}
        if isinstance(value, slice):
            return {"slice": [self.encode(part, depth + 1) for part in (value.start, value.stop, value.step)]}
        if value is Ellipsis:
            return {"ellipsis": None}
        if self.export is None:
            raise WireError(f"a value of type {type(value).__name__} cannot be sent")
        return self.export(value)

    def _list(self, value: Any, depth: int) -> list[Any]:
        depth += 1
        return [self.encode(item, depth) for item in value]

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        depth += 1
        return {"dict": [[self.encode(k, depth), self.encode(v, depth)] for k, v in value.items()]}

    def _buffer(self, data: bytes) -> int:
        self._bytes += len(data)
        if self._bytes > self.limits.buffers or len(self.buffers) >= self.limits.buffer_count:
            raise WireError("a value of so many bytes, or so many arrays, cannot be sent")
        self.buffers.append(data)
        return len(self.buffers) - 1

    def _string(self, value: str) -> Any:
        # JSON joins two surrogates that belong together, and spells out every letter beyond ASCII.
        if len(value) <= _LONG and (
            value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)
        ):
            return value
        return {"str": self._buffer(value.encode("utf-8", "surrogatepass"))}

    def _integer(self, value: int) -> Any:
        if -(2**53) < value < 2**53:
            return value
        if value.bit_length() > 4 * self.limits.digits:
            raise WireError(f"a whole number of more than {self.limits.digits} digits cannot be sent")
        return {"int": hex(value)}

    def _array(self, value: np.ndarray | np.generic) -> dict[str, Any]:
        if id(value) in self._met:  # one array in two places is one array on the other side as well
            return {"same": self._met[id(value)]}
        array = np.asarray(value)
        if array.dtype.kind not in "biufcSU":
            raise WireError(f"an array of dtype {array.dtype} cannot be sent")
        scalar = isinstance(value, np.generic)
        if array.nbytes > self.limits.buffers:
            raise WireError(f"an array of {array.nbytes} bytes cannot be sent")
        if not scalar:
            self._meet(value)
        content = {
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "buffer": self._buffer(array.tobytes()),
        }
        return {"scalar" if scalar else "array": content}

    def _meet(self, value: Any) -> None:
        self._met[id(value)] = len(self.arrays)
        self.arrays.append(value)

    def _tensor(self, value: torch.Tensor, depth: int) -> dict[str, Any]:
        if id(value) in self._met:
            return {"same": self._met[id(value)]}
        self._meet(value)
        name = _NAMES.get(value.dtype)
        if name is None or value.layout is not torch.strided or value.is_quantized:
            name = str(value.dtype).removeprefix("torch.")
            raise WireError(f"a tensor of dtype {name} and layout {value.layout} cannot be sent")
        if value.numel() * value.itemsize > self.limits.buffers:
            raise WireError(f"a tensor of {value.numel() * value.itemsize} bytes cannot be sent")
        content = {"dtype": name, "shape": list(value.shape), "buffer": self._buffer(raw_bytes(value))}
        if isinstance(value, torch.nn.Parameter):
            content["parameter"] = True
        if value.requires_grad:
            content["grad"] = "leaf" if value.is_leaf else "graph"
            if value.is_leaf and value.grad is not None:
                content["accumulated"] = self._accumulated(value.grad.detach(), depth)
        return {"tensor": content}

    def _accumulated(self, gradient: torch.Tensor, depth: int) -> Any:
        # A gradient rides along with its tensor: it is no argument of its own.
        arrays, met = self.arrays, self._met
        self.arrays, self._met = [], {}
        try:
            return self.encode(gradient, depth + 1)
        finally:
            self.arrays, self._met = arrays, met


def _itself(_: Encoder, value: Any, __: int) -> Any:
    return value


# By the very type: what holds for a list or a text need not hold for what a notebook derives from it.
_WRITE: dict[type, Callable[[Encoder, Any, int], Any]] = {
    type(None): _itself,
    bool: _itself,
    float: _itself,
    int: lambda e, value, depth: e._integer(value),
    str: lambda e, value, depth: e._string(value),
    list: Encoder._list,
    tuple: lambda e, value, depth: {"tuple": e._list(value, depth)},
    dict: Encoder._dict,
    np.ndarray: lambda e, value, depth: e._array(value),
    torch.Tensor: Encoder._tensor,
    torch.nn.Parameter: Encoder._tensor,
}
