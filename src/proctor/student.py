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
    peer: Any = None
    connection: Any = None

    def run(self, content: dict[str, Any]) -> Any:
        """Run one cell of the notebook."""
        return self.cells.run(content["source"])

    def get(self, content: dict[str, Any]) -> Any:
        """The value of a name that the notebook has defined."""
        name = content["name"]
        if name not in self.cells.namespace:
            raise NameError(name)
        return self.cells.namespace[name]

    def has(self, content: dict[str, Any]) -> bool:
        """Whether the notebook has defined a name."""
        return content["name"] in self.cells.namespace

    def invoke(self, content: dict[str, Any]) -> Any:
        """Call a method of an object, ``__call__`` for the object itself."""
        from proctor.proxies import perform

        return perform(content["target"], content["method"], content["args"], content["kwargs"])

    def attribute(self, content: dict[str, Any]) -> Any:
        """An attribute of an object."""
        return getattr(content["target"], content["name"])

    def assign(self, content: dict[str, Any]) -> None:
        """Set an attribute of an object."""
        setattr(content["target"], content["name"], content["value"])

    def seed(self, content: dict[str, Any]) -> None:
        """Seed every generator that a layer may draw from."""
        import random

        import numpy as np
        import torch

        random.seed(content["seed"])
        np.random.seed(content["seed"] % 2**32)  # noqa: NPY002 - the learner's code may use the old one
        torch.default_generator.manual_seed(
            content["seed"]
        )  # torch.manual_seed asks for a GPU each time: 2 ms

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

        names = ("run", "get", "has", "invoke", "attribute", "assign", "seed")
        answer = {name: getattr(self, name) for name in names}
        # SystemExit and KeyboardInterrupt in the learner's code are errors like any other.
        self.connection = connection
        self.peer = Peer(connection, answer, self.export, self.resolve, caught=BaseException)
        answer["vjp"] = self.peer.vjp

    def hang_up(self) -> None:
        """Close the wire in a child that the learner's code has made: it must not keep it open."""
        if self.connection is not None:
            self.connection.close()
