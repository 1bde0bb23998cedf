"""One submission in the sandbox: its cells are run once, and again in a new process where the old one has ended.

A cell or a call that crashes, hangs or is killed costs the submission that exercise, and no other.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any, Literal

import msgspec

from proctor.peer import StudentGone
from proctor.remote import Remote
from proctor.sandbox import Sandbox

MAX_RESTARTS = 12  # of one submission's process, each with all cells run again
MAX_TEXT = 1_000_000  # characters of output that are kept of one submission


class CellOutput(msgspec.Struct, forbid_unknown_fields=True):
    """One output of a cell, as the student's side describes it."""

    kind: Literal["stdout", "stderr", "display"]
    text: str = ""
    png: str = ""


class CellRun(msgspec.Struct, forbid_unknown_fields=True):
    """What running one cell came to, as the student's side describes it."""

    outputs: list[CellOutput]
    error: tuple[str, str, list[tuple[str, int, str]]] | None = None


class Session:
    """A submission in the sandbox: its cells run, and run again in a new process where the old one has ended."""

    def __init__(self, sandbox: Sandbox, cells: list[tuple[str, str]]) -> None:
        self.sandbox, self.cells = sandbox, cells
        self.outputs: dict[str, list[dict[str, Any]]] = {}
        self._end = time.monotonic() + sandbox.limits.total_seconds
        self._skip: set[str] = set()
        self._stack = ExitStack()
        self._remote: Remote | None = None
        self._exercise = ""
        self._starts = 0

    def close(self) -> None:
        """End the submission's process."""
        self._stack.close()

    def open_exercise(self, exercise: str) -> Remote:
        """The way in for the checks of an exercise; a new process where an earlier exercise ended the old one."""
        changed, self._exercise = exercise != self._exercise, exercise
        while self._remote is None or (self._remote.gone and (changed or not self._remote.timed_out)):
            if self._starts > MAX_RESTARTS or time.monotonic() > self._end:
                break
            self._start()
            changed = False
        return self._remote

    def _start(self) -> None:
        self._stack.close()
        self._starts += 1
        limits = self.sandbox.limits
        connection = self._stack.enter_context(self.sandbox.submission())
        self._remote = Remote(connection, limits.call_seconds, max(0.0, self._end - time.monotonic()))
        end = time.monotonic() + limits.cells_seconds
        for name, source in self.cells:
            if name in self._skip:
                continue
            try:
                seconds = max(0.1, min(limits.cell_seconds, end - time.monotonic()))
                run = msgspec.convert(self._remote.run(source, seconds), CellRun)
            except StudentGone as error:
                self._give_up(name, str(error))
                return
            except msgspec.ValidationError:
                self._remote.gone = "Your notebook answered with something that is no result of a cell."
                self._give_up(name, self._remote.gone)
                return
            self._keep(name, run)

    def _give_up(self, name: str, sentence: str) -> None:
        # A cell that ended the process is left out when the others are run again.
        self._skip.add(name)
        self.outputs[name] = [_error("CellStopped", sentence, [])]
        self._remote.timed_out = False

    def _keep(self, name: str, run: CellRun) -> None:
        outputs = []
        for output in run.outputs[:20]:
            if output.kind == "display":
                data = {"text/plain": output.text}
                if output.png:
                    data["image/png"] = output.png
                outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
            else:
                outputs.append({"output_type": "stream", "name": output.kind, "text": output.text})
        if run.error is not None:
            outputs.append(_error(*run.error))
        room = MAX_TEXT - sum(
            len(str(o)) for name_, kept in self.outputs.items() if name_ != name for o in kept
        )
        self.outputs[name] = outputs if len(str(outputs)) <= room else []


def _error(kind: str, text: str, rows: list[tuple[str, int, str]]) -> dict[str, Any]:
    lines = [f"line {line}, in {function}: {code}" for function, line, code in rows]
    return {"output_type": "error", "ename": kind, "evalue": text, "traceback": [*lines, f"{kind}: {text}"]}
