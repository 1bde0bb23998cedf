"""One end of the conversation between the two processes: requests, replies, callbacks, gradients.

Both sides speak the same language and differ in what they answer. The student's side answers everything about
its own namespace (``worker.py``); the trusted side answers nothing but calls of the plain functions that a
check has passed in. While a side waits for a reply it serves the other's requests, so a call may call back.
"""

from __future__ import annotations

import builtins
import linecache
import os
import time
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from proctor.values import Decoder, Encoder
from proctor.wire import Connection, WireError

MAX_TEXT = 4_000  # characters of an exception's text that are kept
MAX_NESTED = 20_000  # requests that one request may cause on the other side


@dataclass(frozen=True, slots=True)
class Trouble:
    """An exception of the student's code, as plain text.

    ``rows`` are the frames in the student's own cells, outermost first: (function, line number, line).
    """

    type: str
    text: str
    rows: tuple[tuple[str, int, str], ...] = ()
    mro: tuple[str, ...] = ()


class StudentGone(Exception):
    """The student's process has ended, or was ended. The text is a sentence for the learner."""


def as_exception(trouble: Trouble) -> Exception:
    """The nearest built-in exception, so that ``pytest.raises(ValueError)`` reads the same at every door."""
    for name in trouble.mro:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                error = kind(trouble.text)
            except Exception:  # noqa: S112 - UnicodeDecodeError and its like want more arguments
                continue
            break
    else:
        error = RuntimeError(f"{trouble.type}: {trouble.text}")
    error.trouble = trouble
    return error


def describe(error: BaseException) -> Trouble:
    """An exception as plain text, with the frames that lie in the learner's own cells."""
    rows = []
    for frame in traceback.extract_tb(error.__traceback__):
        if is_cell(frame.filename):
            line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
            rows.append((frame.name, frame.lineno or 0, line))
    if isinstance(error, SyntaxError) and error.lineno is not None:
        rows.append(("cell", error.lineno, (error.text or "").strip()))
    mro = tuple(kind.__name__ for kind in type(error).__mro__)
    try:
        text = str(error)
    except Exception:
        text = "(its text could not be read)"
    return Trouble(type(error).__name__, text, tuple(rows), mro)


def is_cell(filename: str) -> bool:
    """Whether a traceback's file is a notebook cell."""
    return filename.startswith("<ipython-input-") or f"{os.sep}ipykernel_" in filename


@dataclass(slots=True)
class Peer:
    """Sends requests and answers those of the other side.

    ``answer`` maps an operation's name to a function of its decoded content; ``export`` and ``resolve`` turn
    what is no plain data into a tag and back.
    """

    connection: Connection
    answer: dict[str, Callable[[dict[str, Any]], Any]]
    export: Callable[[Any], dict[str, Any]]
    resolve: Callable[[str, Any], Any]
    tape: dict[int, tuple[list[Any], list[Any]]] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)
    _serial: int = 0

    def request(self, op: str, content: dict[str, Any], deadline: float | None = None) -> Any:
        """Ask the other side; return its answer.

        Raises the other side's exception as the nearest built-in one, WireError, WireClosed, WireTimeout.
        """
        encoder = Encoder(self.export, self.connection.limits)
        tree = encoder.encode(content)
        dropped, self.dropped = self.dropped, []
        header = {"op": op, "content": tree, "grad": torch.is_grad_enabled(), "dropped": dropped}
        self.connection.send(header, encoder.buffers, deadline)
        for _ in range(MAX_NESTED):
            header, buffers = self.connection.receive(deadline)
            if "op" not in header:
                return self._take(header, buffers, encoder.arrays, deadline)
            self.reply(header, buffers, deadline)
        raise WireError(f"one call called back more than {MAX_NESTED} times")

    def reply(self, header: dict[str, Any], buffers: list[bytes], deadline: float | None = None) -> None:
        """Answer one request of the other side."""
        decoder = Decoder(buffers, self.resolve, self.connection.limits)
        encoder = Encoder(self.export, self.connection.limits)
        try:
            out = self._compute(header, decoder, encoder)
        except Exception as error:
            encoder = Encoder(None, self.connection.limits)
            trouble = describe(error)
            out = {
                "error": [
                    trouble.type[:200],
                    trouble.text[:MAX_TEXT],
                    [[name[:200], line, code[:200]] for name, line, code in trouble.rows[-5:]],
                    list(trouble.mro[:20]),
                ]
            }
        self.connection.send(out, encoder.buffers, deadline)

    def _compute(self, header: dict[str, Any], decoder: Decoder, encoder: Encoder) -> dict[str, Any]:
        operation = self.answer.get(header.get("op"))
        if operation is None:
            raise WireError("an operation that does not exist")
        for serial in header.get("dropped", ()):
            self.tape.pop(serial, None)
        content = decoder.decode(header.get("content"))
        inputs = [decoder.arrays[i].requires_grad_() for i in decoder.graph]
        inputs += [a for a in decoder.arrays if isinstance(a, torch.Tensor) and a.requires_grad and a.is_leaf]
        inputs = list({id(tensor): tensor for tensor in inputs}.values())
        before = [_copy(array) for array in decoder.arrays]
        with torch.set_grad_enabled(header.get("grad") is True):
            value = operation(content)
            if torch.is_grad_enabled():
                # An input that is handed back as it came is an output of the identity, and no new leaf.
                value = _replace(value, {id(tensor): tensor.view_as(tensor) for tensor in inputs})
        tree = encoder.encode(value)
        out: dict[str, Any] = {"value": tree}
        outputs = [
            a for a in encoder.arrays if isinstance(a, torch.Tensor) and a.requires_grad and not a.is_leaf
        ]
        if outputs and header["op"] == "invoke":
            self._serial += 1
            self.tape[self._serial] = (inputs, outputs)
            out["tape"] = self._serial
        changed = [
            [i, encoder.encode(array if isinstance(array, np.ndarray) else array.detach())]
            for i, (array, old) in enumerate(zip(decoder.arrays, before, strict=True))
            if not _same(array, old)
        ]
        if changed:
            out["changed"] = changed
        return out

    def vjp(self, content: dict[str, Any]) -> list[torch.Tensor | None]:
        """Vector-Jacobian product of an earlier call: gradients of its outputs in, of its inputs out.

        Gradients of parameters accumulate in ``.grad`` on this side, as ``backward`` does.
        """
        inputs, outputs = self.tape[content["tape"]]
        pairs = [(o, g) for o, g in zip(outputs, content["gradients"], strict=True) if g is not None]
        for tensor in inputs:
            tensor.grad = None
        with torch.enable_grad():
            torch.autograd.backward([o for o, _ in pairs], [g for _, g in pairs], retain_graph=True)
        gradients = [tensor.grad for tensor in inputs]
        for tensor in inputs:
            tensor.grad = None
        return gradients

    def _take(
        self, header: dict[str, Any], buffers: list[bytes], sent: list[Any], deadline: float | None
    ) -> Any:
        if "error" in header:
            raise as_exception(_trouble(header["error"]))
        if "value" not in header:
            raise WireError("an answer without a value")
        decoder = Decoder(buffers, self.resolve, self.connection.limits)
        value = decoder.decode(header["value"])
        graph, made = list(decoder.graph), list(decoder.arrays)
        self._take_over_changes(header.get("changed", ()), decoder, sent)
        if "tape" in header and torch.is_grad_enabled():
            return self._link(value, header["tape"], [made[i] for i in graph], sent, deadline)
        return value

    def _take_over_changes(self, changed: Any, decoder: Decoder, sent: list[Any]) -> None:
        # What the callee changed in place changes here too, as it would without a wire.
        try:
            for index, tree in changed:
                array, new = sent[index], decoder.decode(tree)
                if isinstance(array, np.ndarray):
                    array[...] = new
                else:
                    with torch.no_grad():
                        array.detach().copy_(new)
        except (TypeError, ValueError, IndexError, RuntimeError) as error:
            raise WireError(f"a malformed change: {error}") from error

    def _link(
        self, value: Any, tape: Any, outputs: list[Any], sent: list[Any], deadline: float | None
    ) -> Any:
        if not isinstance(tape, int):
            raise WireError("a malformed tape")
        # The order of `inputs` is that of `_compute` on the other side: graph tensors first, then leaves.
        inputs = [a for a in sent if isinstance(a, torch.Tensor) and a.requires_grad and not a.is_leaf]
        inputs += [a for a in sent if isinstance(a, torch.Tensor) and a.requires_grad and a.is_leaf]
        seconds = None if deadline is None else max(1.0, deadline - time.monotonic())
        link = _Link(self, tape, len(inputs), [(a.shape, a.dtype) for a in inputs], seconds)
        weakref.finalize(link, self.dropped.append, tape)
        anchor = torch.zeros((), requires_grad=True)  # parameters of the other side count as an input
        linked = _Remote.apply(link, tuple(outputs), anchor, *inputs)
        return _replace(value, {id(old): new for old, new in zip(outputs, linked, strict=True)})


class _Link:
    """What the trusted side's graph holds of a computation that happened on the other side."""

    def __init__(self, peer: Peer, tape: int, count: int, kinds: list[Any], seconds: float | None) -> None:
        self.peer, self.tape, self.count, self.kinds, self.seconds = peer, tape, count, kinds, seconds

    def vjp(self, gradients: tuple[torch.Tensor | None, ...]) -> list[torch.Tensor | None]:
        deadline = None if self.seconds is None else time.monotonic() + self.seconds
        answer = self.peer.request("vjp", {"tape": self.tape, "gradients": list(gradients)}, deadline)
        if not isinstance(answer, list) or len(answer) != self.count:
            raise WireError("the gradients do not fit the call")
        for gradient, (shape, dtype) in zip(answer, self.kinds, strict=True):
            fits = isinstance(gradient, torch.Tensor) and (gradient.shape, gradient.dtype) == (shape, dtype)
            if gradient is not None and not fits:
                raise WireError("the gradients do not fit the call")
        return answer


class _Remote(torch.autograd.Function):
    """A remote call as a node of this side's autograd graph."""

    @staticmethod
    def forward(ctx: Any, link: _Link, outputs: tuple[torch.Tensor, ...], *inputs: torch.Tensor) -> Any:
        ctx.link = link
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        return (None, None, None, *ctx.link.vjp(gradients))


def _trouble(content: Any) -> Trouble:
    try:
        kind, text, rows, mro = content
        return Trouble(
            str(kind)[:200],
            str(text)[:MAX_TEXT],
            tuple((str(name)[:200], int(line), str(code)[:200]) for name, line, code in rows[:5]),
            tuple(str(name) for name in mro[:20]),
        )
    except (TypeError, ValueError) as error:
        raise WireError("a malformed error") from error


def _replace(value: Any, new: dict[int, Any]) -> Any:
    if id(value) in new:
        return new[id(value)]
    if type(value) in (list, tuple):
        return type(value)(_replace(item, new) for item in value)
    if type(value) is dict:
        return {key: _replace(item, new) for key, item in value.items()}
    return value


def _copy(array: Any) -> Any:
    return array.copy() if isinstance(array, np.ndarray) else array.detach().clone()


def _same(array: Any, old: Any) -> bool:
    if isinstance(array, np.ndarray):
        return array.shape == old.shape and array.tobytes() == old.tobytes()
    if array.shape != old.shape:
        return False
    # Compared as bytes: not-a-number is not equal to itself.
    one, two = (
        t.detach().reshape(-1).contiguous().view(torch.uint8) if t.numel() else t for t in (array, old)
    )
    return torch.equal(one, two)
