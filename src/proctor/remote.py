"""What a check sees of the learner's work, the same at every door.

``student.SelfAttention(8, 3, 5)(x)`` is written once. In grading it goes over the wire to the student's
process; in the learner's own notebook it is a plain call. Tensors, arrays and other data come back as they
are; any other object stays where it was made, behind a ``Proxy``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from proctor.local import Local
from proctor.peer import Peer, change_in_place
from proctor.proxies import Backend, Proxy, Student, note_call, sketch
from proctor.trouble import StudentGone, clean, undefined
from proctor.wire import Connection, WireClosed, WireError, WireTimeout

__all__ = ["Backend", "Local", "Proxy", "Remote", "Student", "note_call", "sketch"]


class Remote:
    """The student's process, over the wire. Once it has gone, every use says why."""

    def __init__(self, connection: Connection, call_seconds: float, total_seconds: float) -> None:
        self.calls: list[str] = []
        self.changes: list[tuple[Any, Any]] | None = None
        self.gone = ""
        self.timed_out = False
        self._call_seconds = call_seconds
        self._end = self._deadline = time.monotonic() + total_seconds
        self._callbacks: list[Callable[..., Any]] = []
        self._numbers: dict[int, int] = {}  # of callbacks, by id
        self._iterated: dict[int, float] = {}  # seconds spent on the steps of an iterator
        self._label = ""
        self._seed: int | None = None  # still to be told
        self._known: dict[str, int] = {}  # handles, by the names that they have in the notebook
        self._peer = Peer(
            connection,
            {"invoke": self._call_back},
            self._export,
            self._resolve,
            within=self._within,
            remark=self._remark,
            heed=self._heed,
            changed=self._changed,
        )
        self._peer.answer["vjp"] = self._peer.vjp

    def _changed(self, array: Any, new: Any) -> None:
        if self.changes is None:
            change_in_place(array, new)
        else:
            self.changes.append((array, new))

    def run(self, source: str, seconds: float) -> dict[str, Any]:
        """Run one cell of the notebook; its outputs and error as the worker describes them."""
        answer = self._request("run", {"source": source}, seconds)
        if not isinstance(answer, dict) or not isinstance(answer.get("outputs"), list):
            raise self._lost("Your notebook answered with something that is no result of a cell.")
        return answer

    def get(self, name: str) -> Any:
        self._label = name
        # Where there is no time left, it is asked for all the same, so that the end is told.
        if name in self._known and not self.gone and time.monotonic() < self._end:
            return Proxy(self, self._known[name], name)
        return self._within(
            lambda deadline: self._named(name, self._peer.request("get", {"name": name}, deadline))
        )

    def _named(self, name: str, answer: Any) -> Any:
        match answer:
            case []:
                raise undefined(name)
            case [Proxy() as value, True]:  # until it is told that the name stands for something else
                self._known[name] = value._target
                return value
            case [value] | [value, True]:
                return value
        raise WireError("a malformed name")

    def invoke(
        self,
        proxy: Proxy,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        most: int | None = None,
    ) -> Any:
        self._label = note_call(self.calls, proxy, method, args, kwargs)
        content = {"target": proxy._target, "method": method, "args": list(args), "kwargs": kwargs}
        if most is not None:
            content["most"] = most
        if method != "__next__":
            return self._request("invoke", content)
        # All steps of an iterator together are one call: a generator without end must end like any endless loop.
        begun, spent = time.monotonic(), self._iterated.get(proxy._target, 0.0)
        try:
            return self._request("invoke", content, max(1e-3, self._call_seconds - spent))
        finally:
            self._iterated[proxy._target] = spent + time.monotonic() - begun

    def attribute(self, proxy: Proxy, name: str) -> Any:
        self._label = f"{proxy._label}.{name}"
        return self._request("attribute", {"target": proxy, "name": name})

    def assign(self, proxy: Proxy, name: str, value: Any) -> None:
        self._request("assign", {"target": proxy, "name": name, "value": value})

    def seed(self, seed: int) -> None:
        """Seed the generators of the student's side, before anything else happens there."""
        if self.gone:
            raise StudentGone(self.gone)
        self._seed = seed

    def _remark(self) -> dict[str, Any]:
        return {} if self._seed is None else {"seed": self._seed}

    def _heed(self, header: dict[str, Any]) -> None:
        self._seed = None  # whoever answers has taken it
        match header.get("rebound", []):
            case list(names) if all(isinstance(name, str) for name in names):
                for name in names:
                    self._known.pop(name, None)
            case _:
                raise WireError("malformed names")

    def _request(self, op: str, content: dict[str, Any], seconds: float = 0.0) -> Any:
        return self._within(lambda deadline: self._peer.request(op, content, deadline), seconds)

    def _within(self, exchange: Callable[[float], Any], seconds: float = 0.0) -> Any:
        if self.gone:
            raise StudentGone(self.gone)
        outer = self._deadline  # of the call that this one is made from, in a callback
        self._deadline = min(outer, time.monotonic() + (seconds or self._call_seconds))
        try:
            answer = exchange(self._deadline)
        except WireTimeout:
            self.timed_out = True
            limit = seconds if seconds > self._call_seconds else self._call_seconds
            raise self._lost(
                "Your notebook took longer than a submission may take in all, and was stopped."
                if time.monotonic() >= self._end
                else f"Your code took longer than {limit:g} seconds and was stopped."
            ) from None
        except WireClosed:
            raise self._lost(
                "Your code ended its own process (by exit, a crash, or for want of memory), so nothing came back."
            ) from None
        except WireError as error:
            raise self._lost(f"Your code answered with something that is no answer: {error}.") from None
        finally:
            self._deadline = outer
        if self.gone:  # in a callback, where the student's side may have hushed it up
            raise StudentGone(self.gone)
        return answer

    def _lost(self, sentence: str) -> StudentGone:
        self.gone = clean(sentence)
        return StudentGone(self.gone)

    def _export(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Proxy):
            return {"handle": value._target}
        if callable(value):
            if id(value) not in self._numbers:
                self._numbers[id(value)] = len(self._callbacks)
                self._callbacks.append(value)
            return {"callback": self._numbers[id(value)]}
        raise TypeError(f"a check cannot send a {type(value).__name__} to the student's process")

    def _resolve(self, tag: str, content: Any) -> Any:
        match tag, content:
            case "handle", [int(number), str(kind), str(name)]:
                return Proxy(self, number, self._label or clean(name or kind)[:100])
        raise WireError(f"a malformed {tag[:40]!r}")

    def _call_back(self, content: Any) -> Any:
        # All that the student's side may ask of this one: a call of a function that the check passed in.
        match content:
            case {"method": "__call__", "target": int(number), "args": list(args), "kwargs": dict(kwargs)}:
                if 0 <= number < len(self._callbacks) and not isinstance(number, bool):
                    return self._callbacks[number](*args, **kwargs)
        raise WireError("only functions that were passed in can be called back")
