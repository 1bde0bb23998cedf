"""Values on the wire: plain data to a JSON tree with raw buffers, and back.

Numbers, strings, bytes, lists, tuples, sets, dicts, NumPy arrays and torch tensors of every dtype travel as they
are. Every JSON object of the tree is one tag and its content, such as ``{"tuple": [1, 2]}``. What arrives is
checked against limits before it is turned into values.
"""

from __future__ import annotations

import math
import re
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
_NUMPY_DTYPE = re.compile(r"[<>|=]?[biufcSU][0-9]{1,6}")


@dataclass(slots=True)
class Encoder:
    """Turns values into a JSON tree and buffers.

    ``export`` is asked for the tag of anything that is no plain data (an ``nn.Module``, a function).
    ``arrays`` collects the tensors and arrays in the order in which they were met: gradients and changes
    made in place refer to them by position.
    """

    export: Callable[[Any], dict[str, Any]] | None = None
    limits: Limits = LIMITS
    buffers: list[memoryview | bytes] = field(default_factory=list)
    arrays: list[Any] = field(default_factory=list)
    _items: int = 0

    def encode(self, value: Any, depth: int = 0) -> Any:
        """Return the JSON tree of ``value``. Raises WireError where it is too deep, too long, or no data."""
        self._items += 1
        if depth > self.limits.depth:
            raise WireError(f"a value nested more than {self.limits.depth} deep cannot be sent")
        if self._items > self.limits.items:
            raise WireError(f"a value of more than {self.limits.items} items cannot be sent")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str(value)
        if isinstance(value, (np.ndarray, np.generic)):
            return self._array(value)
        if isinstance(value, torch.Tensor):
            return self._tensor(value, depth)
        if isinstance(value, int):
            return self._integer(int(value))
        if isinstance(value, float):
            return float(value)
        if isinstance(value, complex):
            return {"complex": [value.real, value.imag]}
        if isinstance(value, (bytes, bytearray, memoryview)):
            return {"bytes": self._buffer(bytes(value))}
        for kind, tag in ((list, None), (tuple, "tuple"), (set, "set"), (frozenset, "frozenset")):
            if isinstance(value, kind):
                items = [self.encode(item, depth + 1) for item in value]
                return {tag: items} if tag else items
        if isinstance(value, dict):
            pairs = [[self.encode(k, depth + 1), self.encode(v, depth + 1)] for k, v in value.items()]
            return {"dict": pairs}
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

    def _buffer(self, data: memoryview | bytes) -> int:
        self.buffers.append(data)
        return len(self.buffers) - 1

    def _integer(self, value: int) -> Any:
        if -(2**53) < value < 2**53:
            return value
        if value.bit_length() > 4 * self.limits.digits:
            raise WireError(f"a whole number of more than {self.limits.digits} digits cannot be sent")
        return {"int": hex(value)}

    def _array(self, value: np.ndarray | np.generic) -> dict[str, Any]:
        array = np.asarray(value)
        if array.dtype.kind not in "biufcSU":
            raise WireError(f"an array of dtype {array.dtype} cannot be sent")
        scalar = isinstance(value, np.generic)
        if not scalar:
            self.arrays.append(value)
        content = {
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "buffer": self._buffer(array.tobytes()),
        }
        return {"scalar" if scalar else "array": content}

    def _tensor(self, value: torch.Tensor, depth: int) -> dict[str, Any]:
        self.arrays.append(value)
        name = str(value.dtype).removeprefix("torch.")
        if name not in TORCH_DTYPES or value.layout is not torch.strided or value.is_quantized:
            raise WireError(f"a tensor of dtype {name} and layout {value.layout} cannot be sent")
        plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        raw = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        content = {"dtype": name, "shape": list(value.shape), "buffer": self._buffer(raw)}
        if value.requires_grad:
            content["grad"] = "leaf" if value.is_leaf else "graph"
            if value.is_leaf and value.grad is not None:
                content["accumulated"] = Encoder.encode(self._for_gradient(), value.grad.detach(), depth + 1)
        return {"tensor": content}

    def _for_gradient(self) -> Encoder:
        # A gradient rides along with its tensor: it shares the buffers, but is no argument of its own.
        return Encoder(self.export, self.limits, self.buffers, [], self._items)


@dataclass(slots=True)
class Decoder:
    """Turns a JSON tree and buffers back into values; the counterpart of ``Encoder``.

    ``resolve`` is given the tag and content of what is no plain data. ``arrays`` collects tensors and
    arrays in the order of the encoder's; ``graph`` holds the positions of those tensors that were made by
    a differentiable computation on the other side.
    """

    buffers: list[bytes]
    resolve: Callable[[str, Any], Any] | None = None
    limits: Limits = LIMITS
    arrays: list[Any] = field(default_factory=list)
    graph: list[int] = field(default_factory=list)
    _items: int = 0

    def decode(self, tree: Any, depth: int = 0) -> Any:
        """Return the value of a tree. Raises WireError for whatever ``Encoder`` would not have written."""
        self._items += 1
        if depth > self.limits.depth or self._items > self.limits.items:
            raise WireError("the value is nested too deep or has too many items")
        if tree is None or isinstance(tree, (bool, int, float, str)):
            return tree
        if isinstance(tree, list):
            return [self.decode(item, depth + 1) for item in tree]
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
        except (
            TypeError,
            ValueError,
            KeyError,
            IndexError,
            OverflowError,
            RuntimeError,
            MemoryError,
        ) as error:
            raise WireError(f"malformed {tag!r}: {error}") from error
        raise WireError(f"unknown tag {tag[:40]!r}")

    def _list(self, content: Any, depth: int) -> list[Any]:
        if not isinstance(content, list):
            raise WireError("a list was expected")
        return [self.decode(item, depth + 1) for item in content]

    def _dict(self, content: Any, depth: int) -> dict[Any, Any]:
        pairs = self._list(content, depth)
        return {key: value for key, value in pairs}  # noqa: C416 - a pair of another length must raise

    def _integer(self, content: Any, _: int) -> int:
        if not isinstance(content, str) or len(content) > self.limits.digits + 3:
            raise WireError("a whole number is malformed or too long")
        return int(content, 16)

    def _raw(self, content: Any) -> bytes:
        if not isinstance(content, int) or isinstance(content, bool) or not 0 <= content < len(self.buffers):
            raise WireError("a buffer that was not sent")
        return self.buffers[content]

    def _shape(self, content: dict[str, Any], itemsize: int) -> tuple[list[int], bytes]:
        shape, raw = content["shape"], self._raw(content["buffer"])
        if not isinstance(shape, list) or len(shape) > self.limits.dimensions:
            raise WireError("a shape is malformed")
        if any(not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < 2**48 for n in shape):
            raise WireError("a shape is malformed")
        if math.prod(shape) * itemsize != len(raw):
            raise WireError(f"{len(raw)} bytes do not fill the shape {shape}")
        return shape, raw

    def _array(self, content: Any, depth: int) -> np.ndarray:
        array = self._numpy(content)
        self.arrays.append(array)
        return array

    def _scalar(self, content: Any, depth: int) -> np.generic:
        return self._numpy(content)[()]

    def _numpy(self, content: Any) -> np.ndarray:
        dtype = _numpy_dtype(content["dtype"])
        shape, raw = self._shape(content, dtype.itemsize)
        if dtype.kind == "b":  # a byte other than 0 or 1 would be no boolean
            return (np.frombuffer(raw, np.uint8) != 0).reshape(shape)
        if not dtype.itemsize:
            return np.zeros(shape, dtype)
        return np.frombuffer(raw, dtype).reshape(shape).copy()

    def _tensor(self, content: Any, depth: int) -> torch.Tensor:
        dtype = TORCH_DTYPES.get(content["dtype"])
        if dtype is None:
            raise WireError("a tensor of unknown dtype")
        shape, raw = self._shape(content, dtype.itemsize)
        tensor = torch.empty(shape, dtype=dtype)
        if raw:
            values = np.frombuffer(raw, np.uint8)
            tensor.reshape(-1).view(torch.uint8).numpy()[:] = values != 0 if dtype is torch.bool else values
        self.arrays.append(tensor)
        grad = content.get("grad")
        if grad == "leaf":
            tensor.requires_grad_()
            if "accumulated" in content:
                tensor.grad = Decoder(self.buffers, None, self.limits).decode(
                    content["accumulated"], depth + 1
                )
        elif grad == "graph":
            self.graph.append(len(self.arrays) - 1)
        elif grad is not None:
            raise WireError("a tensor's gradient is of an unknown kind")
        return tensor


def _numpy_dtype(name: Any) -> np.dtype:
    if not isinstance(name, str) or not _NUMPY_DTYPE.fullmatch(name):
        raise WireError("an array of unknown dtype")
    return np.dtype(name)


def _torch_dtype(name: Any) -> torch.dtype:
    if name not in TORCH_DTYPES:
        raise WireError("an unknown torch dtype")
    return TORCH_DTYPES[name]


_TAGS: dict[str, Callable[[Decoder, Any, int], Any]] = {
    "tuple": lambda d, content, depth: tuple(d._list(content, depth)),
    "set": lambda d, content, depth: set(d._list(content, depth)),
    "frozenset": lambda d, content, depth: frozenset(d._list(content, depth)),
    "dict": Decoder._dict,
    "int": Decoder._integer,
    "complex": lambda d, content, depth: complex(*map(float, content)),
    "bytes": lambda d, content, depth: d._raw(content),
    "array": Decoder._array,
    "scalar": Decoder._scalar,
    "tensor": Decoder._tensor,
    "torch.dtype": lambda d, content, depth: _torch_dtype(content),
    "numpy.dtype": lambda d, content, depth: _numpy_dtype(content),
    "slice": lambda d, content, depth: slice(*d._list(content, depth)),
    "ellipsis": lambda d, content, depth: Ellipsis,
}
