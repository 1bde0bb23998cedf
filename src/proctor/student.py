"""What the student's process answers: requests of the trusted side about the learner's namespace."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

from proctor.cells import Cells


@dataclass(slots=True)
class Student:
    """Answers the trusted side's requests about the learner's namespace."""

    cells: Cells
    handles: dict[int, Any] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)  # of handles, by the object's id
    told: dict[str, Any] = field(default_factory=dict)  # what the other side takes these names to stand for
    peer: Any = None
    connection: Any = None

    def run(self, content: dict[str, Any]) -> Any:
        """Run one cell of the notebook."""
        return self.cells.run(content["source"])

    def get(self, content: dict[str, Any]) -> list[Any]:
        """The value of a name, in a list; an empty one where the notebook has not defined it.

        A function or a class comes with True: the other side need not ask again until it is told so.
        """
        name, namespace = content["name"], self.cells.namespace
        self.told.pop(name, None)
        if name not in namespace:
            return []
        value = namespace[name]
        if not callable(value):
            return [value]
        self.told[name] = value
        return [value, True]

    def remark(self) -> dict[str, Any]:
        """The names that no longer stand for what the other side takes them for."""
        namespace = self.cells.namespace
        rebound = [name for name, value in self.told.items() if namespace.get(name) is not value]
        return {"rebound": rebound} if rebound else {}

    def heed(self, header: dict[str, Any]) -> None:
        """Take a seed that came along with a message."""
        if "seed" in header:
            self.seed(header["seed"])

    def invoke(self, content: dict[str, Any]) -> Any:
        """Call a method of an object, ``__call__`` for the object itself."""
        from proctor.proxies import perform

        target = self.handles[content["target"]]
        return perform(target, content["method"], content["args"], content["kwargs"], content.get("most"))

    def attribute(self, content: dict[str, Any]) -> Any:
        """An attribute of an object."""
        return getattr(content["target"], content["name"])

    def assign(self, content: dict[str, Any]) -> None:
        """Set an attribute of an object."""
        setattr(content["target"], content["name"], content["value"])

    def seed(self, seed: int) -> None:
        """Seed every generator that a layer may draw from."""
        import random

        import numpy as np
        import torch

        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - the learner's code may use the old one
        torch.default_generator.manual_seed(seed)  # torch.manual_seed asks for a GPU each time: 2 ms

    def export(self, value: Any) -> dict[str, Any]:
        """An object that is no plain data stays here, behind a handle."""
        number = self.numbers.setdefault(id(value), len(self.handles))
        self.handles[number] = value
        name = getattr(value, "__name__", "")
        return {"handle": [number, type(value).__name__, name if isinstance(name, str) else ""]}

    def resolve(self, tag: str, content: Any) -> Any:
        """What a handle or a callback of the other side stands for."""
        if tag == "handle":
            return self.handles[content]
        if tag == "callback":
            return self._callback(content)
        from proctor.wire import WireError

        raise WireError(f"unknown tag {tag!r}")

    def _callback(self, number: int) -> Any:
        def callback(*args: Any, **kwargs: Any) -> Any:
            content = {"target": number, "method": "__call__", "args": list(args), "kwargs": kwargs}
            return self.peer.request("invoke", content)

        return callback

    def serve(self, connection: Any) -> None:
        """Answer requests until the other side has gone."""
        from proctor.branch import make
        from proctor.peer import StudentGone
        from proctor.wire import WireClosed, WireError, WireTimeout

        earlier: list[int] = []
        with contextlib.suppress(WireClosed, WireError, WireTimeout, StudentGone):
            connection.send({"ready": True}, [])
            self._listen(connection)
            while True:
                header, buffers = self.connection.receive()
                if header.get("op") == "branch":
                    now = make(self.connection, earlier)
                    if now is not self.connection:
                        self._listen(now)
                else:
                    self.peer.reply(header, buffers)

    def _listen(self, connection: Any) -> None:
        from proctor.peer import Peer

        names = ("run", "get", "invoke", "attribute", "assign")
        answer = {name: getattr(self, name) for name in names}
        # SystemExit and KeyboardInterrupt in the learner's code are errors like any other.
        self.connection, self.told = connection, {}
        self.peer = Peer(
            connection,
            answer,
            self.export,
            self.resolve,
            caught=BaseException,
            remark=self.remark,
            heed=self.heed,
        )
        answer["vjp"] = self.peer.vjp

    def hang_up(self) -> None:
        """Close the wire in a child that the learner's code has made: it must not keep it open."""
        if self.connection is not None:
            self.connection.close()
