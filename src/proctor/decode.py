"""The way back from the wire: a JSON tree with raw buffers to values, whoever sent them.

Whatever arrives is checked against limits before it is turned into values: the result is what ``Encoder`` could
have been given, in no more memory than a small multiple of what was sent, or a ``WireError``.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from proctor.wire import LIMITS, Limits, WireError

TORCH_DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        "bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 bfloat16 float32 float64 "
        "complex32 complex64 complex128 float8_e4m3fn float8_e5m2"
    ).split()
}
# What NumPy has too; it knows no bfloat16.
NUMPY_DTYPES: dict[torch.dtype, np.dtype] = {
    dtype: np.dtype(getattr(np, name)) for name, dtype in TORCH_DTYPES.items() if hasattr(np, name)
}
_NUMPY_DTYPE = re.compile(r"[<>|=]?[biufcSU][0-9]{1,6}")
_MALFORMED = (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError, MemoryError)


@dataclass(slots=True)
class Decoder:
    """Turns a JSON tree and buffers back into values; the counterpart of ``Encoder``.

    ``resolve`` is given the tag and content of what is no plain data. ``arrays`` collects tensors and
    arrays in the order of the encoder's, and ``raw``, where it is a list, the bytes that each was made of;
    ``graph`` holds the positions of those tensors that were made by a differentiable computation on the other
    side.
    """

    buffers: list[Any]
    resolve: Callable[[str, Any], Any] | None = None
    limits: Limits = LIMITS
    arrays: list[Any] = field(default_factory=list)
    raw: list[bytes] | None = None
    graph: list[int] = field(default_factory=list)
    _items: int = 0

    def decode(self, tree: Any, depth: int = 0) -> Any:
        """Return the value of a tree. Raises WireError for whatever ``Encoder`` would not have written."""
        self._items += 1
        if depth > self.limits.depth or self._items > self.limits.items:
            raise WireError("the value is nested too deep or has too many items")
        if tree is None or isinstance(tree, (str, int, float)):
            return tree
        if isinstance(tree, list):
            return self._list(tree, depth)
        if not isinstance(tree, dict) or len(tree) != 1:
            raise WireError("a JSON object on the wire is one tag and its content")
        [(tag, content)] = tree.items()
        decode_tag = _TAGS.get(tag)
        try:
            if decode_tag is not None:
                return decode_tag(self, content, depth)
            if self.resolve is not None:
                return self.resolve(tag, content)
        except WireError:
            raise
        except _MALFORMED as error:
            raise WireError(f"malformed {tag[:40]!r}: {str(error)[:200]}") from error
        raise WireError(f"unknown tag {tag[:40]!r}")

    def _list(self, content: Any, depth: int) -> list[Any]:
        if not isinstance(content, list):
            raise WireError("a list was expected")
        depth += 1
        return [self.decode(item, depth) for item in content]

    def _members(self, content: Any, depth: int) -> list[Any]:
        members = self._list(content, depth)
        self._hashes(members)
        return members

    def _dict(self, content: Any, depth: int) -> dict[Any, Any]:
        if not isinstance(content, list):
            raise WireError("a list was expected")
        self._items += len(content)  # each pair is a list of its own
        depth += 2
        pairs = []
        for pair in content:
            if type(pair) is not list or len(pair) != 2:
                raise WireError("a dict is made of pairs")
            pairs.append((self.decode(pair[0], depth), self.decode(pair[1], depth)))
        self._hashes([key for key, _ in pairs])
        return dict(pairs)

    def _hashes(self, keys: list[Any]) -> None:
        if len(keys) <= self.limits.collisions:
            return
        # The hash of a number is no secret: 100,000 keys chosen to share one would keep a dict busy for minutes.
        counts = Counter(map(hash, keys))
        if max(counts.values()) > self.limits.collisions:
            raise WireError("keys that were made to share a hash")

    def _integer(self, content: Any, _: int) -> int:
        if not isinstance(content, str) or len(content) > self.limits.digits + 3:
            raise WireError("a whole number is malformed or too long")
        return int(content, 16)

    def _raw(self, content: Any) -> bytes:
        if not isinstance(content, int) or isinstance(content, bool) or not 0 <= content < len(self.buffers):
            raise WireError("a buffer that was not sent")
        # Taken once: a thousand arrays that name one buffer would be a thousand times what was sent.
        raw, self.buffers[content] = self.buffers[content], None
        if raw is None:
            raise WireError("a buffer that was taken already")
        return raw

    def _shape(self, content: dict[str, Any], itemsize: int) -> tuple[list[int], bytes]:
        shape, raw = content["shape"], self._raw(content["buffer"])
        if not isinstance(shape, list) or len(shape) > self.limits.dimensions:
            raise WireError("a shape is malformed")
        for n in shape:
            if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < 2**48:
                raise WireError("a shape is malformed")
        if math.prod(shape) * itemsize != len(raw):
            raise WireError(f"{len(raw)} bytes do not fill the shape {shape}")
        if not raw and math.prod(n for n in shape if n) > self.limits.empty:
            raise WireError(
                "an empty array of enormous shape"
            )  # whose .tolist() fills the memory all the same
        return shape, raw

    def _same(self, content: Any, _: int) -> Any:
        if not isinstance(content, int) or isinstance(content, bool) or not 0 <= content < len(self.arrays):
            raise WireError("an array that was not sent")
        return self.arrays[content]

    def _array(self, content: Any, _: int) -> np.ndarray:
        array = self._numpy(content)
        self._meet(array, array)
        return array

    def _meet(self, array: Any, raw: bytes | np.ndarray) -> None:
        self.arrays.append(array)
        if self.raw is not None:
            self.raw.append(raw if isinstance(raw, bytes) else raw.tobytes())

    def _scalar(self, content: Any, depth: int) -> np.generic:
        if isinstance(content, dict) and "dtype" in content:
            array = self._numpy(content)
            if array.ndim:
                raise WireError("a scalar with a shape")
            return array[()]
        text = self.decode(content, depth + 1)
        if not isinstance(text, (str, bytes)):
            raise WireError("a scalar that is none")
        return np.str_(text) if isinstance(text, str) else np.bytes_(text)

    def _numpy(self, content: Any) -> np.ndarray:
        dtype = _numpy_dtype(content["dtype"])
        shape, raw = self._shape(content, dtype.itemsize)
        if dtype.kind == "b":  # a byte other than 0 or 1 would be no boolean
            return (np.frombuffer(raw, np.uint8) != 0).reshape(shape)
        if not dtype.itemsize:
            return np.ndarray(shape, dtype)
        if dtype.kind == "U" and (np.frombuffer(raw, f"{dtype.str[0]}u4") > 0x10FFFF).any():
            raise WireError("letters that do not exist")
        return np.frombuffer(raw, dtype).reshape(shape).copy()

    def _tensor(self, content: Any, depth: int) -> torch.Tensor:
        dtype = _torch_dtype(content["dtype"])
        shape, raw = self._shape(content, dtype.itemsize)
        if dtype is torch.bool:  # a byte other than 0 or 1 would be no boolean
            raw = (np.frombuffer(raw, np.uint8) != 0).tobytes()
        tensor = _empty(shape, dtype)
        if dtype in NUMPY_DTYPES:
            tensor.numpy()[...] = np.ndarray(shape, NUMPY_DTYPES[dtype], raw)
        elif raw:
            tensor.reshape(-1).view(torch.uint8).numpy()[:] = np.frombuffer(raw, np.uint8)
        grad = content.get("grad")
        if "parameter" in content:
            tensor = torch.nn.Parameter(tensor, requires_grad=False)
        self._meet(tensor, raw)
        if grad == "leaf":
            tensor.requires_grad_()
            if "accumulated" in content:
                tensor.grad = self._accumulated(content["accumulated"], depth)
        elif grad == "graph":
            self.graph.append(len(self.arrays) - 1)
        elif grad is not None:
            raise WireError("a tensor's gradient is of an unknown kind")
        return tensor

    def _accumulated(self, tree: Any, depth: int) -> torch.Tensor:
        apart = Decoder(self.buffers, None, self.limits, _items=self._items)
        gradient = apart.decode(tree, depth + 1)
        self._items = apart._items
        if not isinstance(gradient, torch.Tensor) or gradient.requires_grad:
            raise WireError("a gradient that is none")
        return gradient


def _empty(shape: list[int], dtype: torch.dtype) -> torch.Tensor:
    if dtype is not torch.complex32:
        return torch.empty(shape, dtype=dtype)
    with warnings.catch_warnings():  # "experimental": that is for whoever computes with it to hear
        warnings.simplefilter("ignore")
        return torch.empty(shape, dtype=dtype)


def _numpy_dtype(name: Any) -> np.dtype:
    if not isinstance(name, str) or not _NUMPY_DTYPE.fullmatch(name):
        raise WireError("an array of unknown dtype")
    return np.dtype(name)


def _torch_dtype(name: Any) -> torch.dtype:
    if not isinstance(name, str) or name not in TORCH_DTYPES:
        raise WireError("an unknown torch dtype")
    return TORCH_DTYPES[name]


_TAGS: dict[str, Callable[[Decoder, Any, int], Any]] = {
    "tuple": lambda d, content, depth: tuple(d._list(content, depth)),
    "set": lambda d, content, depth: set(d._members(content, depth)),
    "frozenset": lambda d, content, depth: frozenset(d._members(content, depth)),
    "dict": Decoder._dict,
    "int": Decoder._integer,
    "complex": lambda d, content, depth: complex(*map(float, content)),
    "bytes": lambda d, content, depth: d._raw(content),
    "str": lambda d, content, depth: d._raw(content).decode("utf-8", "surrogatepass"),
    "array": Decoder._array,
    "scalar": Decoder._scalar,
    "same": Decoder._same,
    "tensor": Decoder._tensor,
    "torch.dtype": lambda d, content, depth: _torch_dtype(content),
    "numpy.dtype": lambda d, content, depth: _numpy_dtype(content),
    "slice": lambda d, content, depth: slice(*d._list(content, depth)),
    "ellipsis": lambda d, content, depth: Ellipsis,
}
