"""One end of the conversation between the two processes: requests, replies, callbacks, gradients.

Both sides speak the same language and differ in what they answer. The student's side answers everything about
its own namespace (``student.py``); the trusted side answers nothing but calls of the plain functions that a
check has passed in, and for their gradients. While a side waits for a reply it serves the other's requests, so
a call may call back.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.random
import torch

from proctor.tape import Link, RemoteCall, Root
from proctor.trouble import StudentGone, Trouble, as_data, as_exception, describe, from_data, is_cell
from proctor.values import Decoder, Encoder, raw_bytes
from proctor.wire import Connection, WireClosed, WireError, WireTimeout

__all__ = ["Peer", "StudentGone", "Trouble", "as_exception", "describe", "is_cell"]

MAX_REPLIES = 20_000  # requests of the other side that are served within one of this side's
MAX_NESTED = (
    20  # requests of this side that are under way at once, each from within a callback of the one before
)
MAX_TAPES = 10_000  # calls whose graphs are kept for gradients to come


def _at_any_time(exchange: Callable[[float | None], Any]) -> Any:
    return exchange(None)


def _ignore(_: dict[str, Any]) -> None:
    pass


@dataclass(slots=True)
class Peer:
    """Sends requests and answers those of the other side.

    ``answer`` maps an operation's name to a function of its decoded content; ``export`` and ``resolve`` turn
    what is no plain data into a tag and back. What an answer raises goes to the other side, if it is
    ``caught``. ``within`` runs an exchange that nobody has asked for by name, one of gradients, in its time.
    What ``remark`` returns goes along in the header of every message, where the other side's ``heed`` finds it
    before it does anything else: a request of its own would cost as much as a call. ``changed`` takes what the
    other side has changed in place, and what it is now; without it, that changes here too, as without a wire.
    """

    connection: Connection
    answer: dict[str, Callable[[dict[str, Any]], Any]]
    export: Callable[[Any], dict[str, Any]]
    resolve: Callable[[str, Any], Any]
    caught: type[BaseException] = Exception
    within: Callable[[Callable[[float | None], Any]], Any] = _at_any_time
    remark: Callable[[], dict[str, Any]] = dict
    heed: Callable[[dict[str, Any]], None] = _ignore
    changed: Callable[[Any, Any], None] | None = None
    tape: dict[int, tuple[list[Any], list[Any], int]] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)
    _kept: int = 0  # bytes of what the graphs on the tape are kept for
    _serial: int = 0
    _nested: int = 0

    def request(self, op: str, content: dict[str, Any], deadline: float | None = None) -> Any:
        """Ask the other side; return its answer.

        Raises the other side's exception as the nearest built-in one, WireError, WireClosed, WireTimeout, and
        TypeError for what cannot be sent.
        """
        if self._nested >= MAX_NESTED:
            raise RecursionError(f"calls that call back more than {MAX_NESTED} deep")
        dropped = self.dropped[:]
        encoder = Encoder(self.export, self.connection.limits)
        try:
            header = {"op": op, "content": encoder.encode(content), "grad": torch.is_grad_enabled()}
            self._send({**header, "dropped": dropped} if dropped else header, encoder.buffers, deadline)
        except WireError as error:  # a fault of this side, not of the other
            raise TypeError(str(error)) from None
        del self.dropped[: len(dropped)]
        self._nested += 1
        try:
            for _ in range(MAX_REPLIES):
                header, buffers = self.connection.receive(deadline)
                if "op" not in header:
                    return self._take(header, buffers, encoder.arrays)
                self.reply(header, buffers, deadline)
        finally:
            self._nested -= 1
        raise WireError(f"one call called back more than {MAX_REPLIES} times")

    def reply(self, header: dict[str, Any], buffers: list[bytes], deadline: float | None = None) -> None:
        """Answer one request of the other side."""
        encoder = Encoder(self.export, self.connection.limits)
        try:
            decoder = Decoder(buffers, self.resolve, self.connection.limits, raw=[])
            out = self._compute(header, decoder, encoder)
            self._send(out, encoder.buffers, deadline)
        except (WireClosed, WireTimeout, StudentGone):
            raise  # the conversation is over: there is nobody left to tell
        except self.caught as error:
            self._send({"error": as_data(describe(error))}, [], deadline)

    def _send(self, header: dict[str, Any], buffers: list[bytes], deadline: float | None) -> None:
        self.connection.send({**header, **self.remark()}, buffers, deadline)

    def _compute(self, header: dict[str, Any], decoder: Decoder, encoder: Encoder) -> dict[str, Any]:
        operation = self.answer.get(header["op"])
        if operation is None:
            raise WireError("an operation that does not exist")
        self.heed(header)
        for serial in header.get("dropped", ()):
            self._forget(serial)
        content = decoder.decode(header.get("content"))
        inputs: list[torch.Tensor] = []
        if decoder.graph:
            copies: dict[int, torch.Tensor] = {}
            with torch.enable_grad():
                for index in decoder.graph:
                    # No leaf on the other side, so none here, where code may change it in place: a copy of a leaf.
                    leaf = decoder.arrays[index].requires_grad_()
                    decoder.arrays[index] = copies[id(leaf)] = leaf.clone()
                    inputs.append(leaf)
            content = _replace(content, copies)
        leaves = [a for a in decoder.arrays if isinstance(a, torch.Tensor) and a.requires_grad and a.is_leaf]
        kinds = [(array.shape, array.dtype) for array in decoder.arrays]
        with torch.set_grad_enabled(header.get("grad") is True):
            value = operation(content)
            if torch.is_grad_enabled():
                # An input that is handed back as it came is an output of the identity, and no new leaf.
                value = _replace(value, {id(leaf): leaf.view_as(leaf) for leaf in leaves})
        out: dict[str, Any] = {"value": encoder.encode(value)}
        made = (a for a in encoder.arrays if isinstance(a, torch.Tensor))
        outputs = [a for a in made if a.requires_grad and not a.is_leaf]
        if outputs:
            out["tape"] = self._record(inputs + leaves, outputs)
        changed = []
        for index, (array, kind, raw) in enumerate(zip(decoder.arrays, kinds, decoder.raw, strict=True)):
            # Compared as bytes: not-a-number is not equal to itself.
            if (array.shape, array.dtype) != kind or raw_bytes(array) != raw:
                if not _fits(*kind, array):
                    raise ValueError("an argument was resized in place; make a new array instead")
                changed.append([index, encoder.encode(_plain(array))])
        return {**out, "changed": changed} if changed else out

    def _record(self, inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> int:
        # The other side says when it no longer needs a graph; what it may keep alive here has a limit all the same.
        self._serial += 1
        size = sum(tensor.nbytes for tensor in inputs + outputs)
        self.tape[self._serial] = (inputs, outputs, size)
        self._kept += size
        most = self.connection.limits.buffers
        while len(self.tape) > 1 and (len(self.tape) > MAX_TAPES or self._kept > most):
            self._forget(next(iter(self.tape)))
        return self._serial

    def _forget(self, serial: Any) -> None:
        if serial in self.tape:
            self._kept -= self.tape.pop(serial)[2]

    def vjp(self, content: dict[str, Any]) -> list[torch.Tensor | None]:
        """Vector-Jacobian product of an earlier call: gradients of its outputs in, of its inputs out.

        With ``accumulate`` (the other side runs ``backward``, not ``torch.autograd.grad``) the gradients of
        parameters accumulate in ``.grad`` on this side.
        """
        if content["tape"] not in self.tape:
            raise RuntimeError("the graph of this call is no longer kept")
        inputs, outputs, _ = self.tape[content["tape"]]
        pairs = [(o, g) for o, g in zip(outputs, content["gradients"], strict=True) if g is not None]
        if not pairs or not (inputs or content["accumulate"]):
            return [None] * len(inputs)
        with torch.enable_grad():
            root = Root.apply([g for _, g in pairs], *[o for o, _ in pairs])
            if not content["accumulate"]:
                return list(torch.autograd.grad(root, inputs, retain_graph=True, allow_unused=True))
            for tensor in inputs:
                tensor.grad = None
            root.backward(retain_graph=True)
        found = [tensor.grad for tensor in inputs]
        for tensor in inputs:
            tensor.grad = None
        return found

    def _take(self, header: dict[str, Any], buffers: list[bytes], sent: list[Any]) -> Any:
        self.heed(header)
        if "error" in header:
            raise as_exception(from_data(header["error"]))
        if "value" not in header:
            raise WireError("an answer without a value")
        decoder = Decoder(buffers, self.resolve, self.connection.limits)
        value = decoder.decode(header["value"])
        outputs = [decoder.arrays[index] for index in decoder.graph]
        self._take_over(header.get("changed", []), decoder, sent)
        tape = header.get("tape")
        if tape is None:
            return value
        if not isinstance(tape, int) or not outputs or not all(map(_differentiable, outputs)):
            raise WireError("a malformed tape")
        if not torch.is_grad_enabled():
            self.dropped.append(tape)
            return value
        return self._link(value, tape, outputs, sent)

    def _take_over(self, changed: Any, decoder: Decoder, sent: list[Any]) -> None:
        for change in changed if isinstance(changed, list) else [changed]:
            match change:
                case [int(index), tree] if 0 <= index < len(sent):
                    array, new = sent[index], decoder.decode(tree)
                case _:
                    raise WireError("a malformed change")
            if not _fits(array.shape, array.dtype, new):
                raise WireError("a change that does not fit")
            (self.changed or change_in_place)(array, new)

    def _link(self, value: Any, tape: int, outputs: list[torch.Tensor], sent: list[Any]) -> Any:
        # The order of `inputs` is that of `_compute` on the other side: graph tensors first, then leaves.
        inputs = [a for a in sent if isinstance(a, torch.Tensor) and a.requires_grad]
        inputs.sort(key=lambda tensor: tensor.is_leaf)
        anchor = torch.zeros((), requires_grad=True).clone()  # parameters of the other side count as an input
        link = Link(self, tape, [(a.shape, a.dtype) for a in inputs], anchor.grad_fn)
        weakref.finalize(link, self._drop, tape).atexit = False
        linked = RemoteCall.apply(link, tuple(outputs), anchor, *inputs)
        return _replace(value, {id(old): new for old, new in zip(outputs, linked, strict=True)})

    def _drop(self, tape: int) -> None:
        self.dropped.append(tape)


def change_in_place(array: Any, new: Any) -> None:
    """Give an array the entries of another. Raises what torch or NumPy raises where it may not be changed."""
    try:
        with torch.no_grad():
            if isinstance(array, np.ndarray):
                array[...] = new
            elif array.shape == new.shape:
                array.detach().copy_(new)
            else:  # by `unsqueeze_` or its like
                array.data = new
    except (ValueError, RuntimeError) as error:  # a read-only array, an expanded tensor
        raise as_exception(describe(error)) from None


def _replace(value: Any, new: dict[int, Any]) -> Any:
    if id(value) in new:
        return new[id(value)]
    if type(value) in (list, tuple):
        return type(value)(_replace(item, new) for item in value)
    if type(value) is dict:
        return {key: _replace(item, new) for key, item in value.items()}
    return value


def _differentiable(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _plain(array: Any) -> Any:
    return array if isinstance(array, np.ndarray) else array.detach().resolve_conj().resolve_neg()


def _fits(shape: Any, dtype: Any, new: Any) -> bool:
    """Whether a change leaves the array what it was: a tensor's dimensions may change (``unsqueeze_``)."""
    if isinstance(dtype, np.dtype):
        return isinstance(new, np.ndarray) and (new.shape, new.dtype) == (shape, dtype)
    return isinstance(new, torch.Tensor) and (new.numel(), new.dtype) == (shape.numel(), dtype)
