"""One submission in the sandbox: its cells are run once, and again in a new process where the old one has ended.

A cell or a call that crashes, hangs or is killed costs the submission that exercise, and no other.
"""

from __future__ import annotations

import base64
import time
from contextlib import ExitStack
from typing import Any, Literal

import msgspec

from proctor.cells import MAX_DISPLAYS, MAX_IMAGE, MAX_OUTPUT
from proctor.remote import Remote
from proctor.sandbox import Sandbox, Submission
from proctor.trouble import StudentGone, Trouble, clean
from proctor.wire import Connection, WireClosed, WireError, WireTimeout

MAX_RESTARTS = 3  # of one submission's process for the sake of one exercise, each with all cells run again
MAX_CRASHES = 50  # processes that one submission may use up in all
MAX_TEXT = 1_000_000  # characters of output that are kept of one submission
MAX_IMAGES = 20 << 20  # bytes of its figures
_ENDED = "Your code ended its own process (by exit, a crash, or for want of memory), so nothing came back."
_PNG = b"\x89PNG\r\n\x1a\n"


class CellOutput(msgspec.Struct, forbid_unknown_fields=True):
    """One output of a cell, as the student's side describes it."""

    kind: Literal["stdout", "stderr", "display"]
    text: str = ""
    png: bytes = b""


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
        self._submission: Submission | None = None
        self._cells: Remote | None = None  # to the process in which the cells have run
        self._remote: Remote | None = None  # to the fork of it that the checks of the exercise talk to
        self._exercise = ""
        self._starts = self._tries = 0
        self._sizes: dict[
            str, tuple[int, int]
        ] = {}  # of what is kept of a cell: characters, bytes of figures
        self._text_room, self._image_room = MAX_TEXT, MAX_IMAGES

    def close(self) -> None:
        """End the submission's process."""
        self._stack.close()

    def open_exercise(self, exercise: str) -> Remote:
        """The way in for the checks of an exercise: a fresh fork of the process in which the cells have run.

        A check that ends its fork gets a new one, and so does the next exercise. Where the process itself has gone,
        all cells are run again in a new one.
        """
        changed, self._exercise = exercise != self._exercise, exercise
        if changed:
            self._tries = 0
        elif self._remote is not None and (not self._remote.gone or self._remote.timed_out):
            return self._remote
        while self._remote is None or (self._tries <= MAX_RESTARTS and time.monotonic() < self._end):
            if self._cells is None or self._cells.gone:
                if self._starts > MAX_CRASHES and self._cells is not None:
                    self._remote = self._cells
                    break
                if (
                    not self._start()
                ):  # no try: the cell that ended it is left out of the next, so there is an end
                    continue
            self._tries += 1
            self._branch()
            if not self._remote.gone:
                break
        return self._remote

    def _start(self) -> bool:
        """Run the cells in a new process; whether it has lived through them."""
        self._stack.close()
        self._starts += 1
        limits = self.sandbox.limits
        self._submission = self._stack.enter_context(self.sandbox.submission())
        remote = self._way(self._submission.connection)
        self._cells = self._remote = remote
        end = time.monotonic() + limits.cells_seconds
        for name, source in self.cells:
            if name in self._skip:
                continue
            try:
                seconds = max(0.1, min(limits.cell_seconds, end - time.monotonic()))
                run = msgspec.convert(remote.run(source, seconds), CellRun)
            except StudentGone as error:
                self._give_up(name, str(error))
                return False
            except msgspec.ValidationError:
                remote.gone = "Your notebook answered with something that is no result of a cell."
                self._give_up(name, remote.gone)
                return False
            except (
                Exception
            ) as error:  # a cell that IPython cannot even try, or a shell that was tampered with
                trouble = getattr(error, "trouble", None) or Trouble(type(error).__name__, str(error))
                run = CellRun(outputs=[], error=(trouble.type, trouble.text, list(trouble.rows)))
            self._keep(name, run)
        return True

    def _branch(self) -> None:
        """Talk to a fresh fork from now on; where there is none, to nobody."""
        if self._submission is None or self._cells is None:
            return
        try:
            self._remote = self._way(self._submission.branch())
        except (WireClosed, WireError, WireTimeout):
            self._cells.gone = _ENDED
            self._remote = self._cells

    def _way(self, connection: Connection) -> Remote:
        left = max(0.0, self._end - time.monotonic())
        return Remote(connection, self.sandbox.limits.call_seconds, left)

    def _give_up(self, name: str, sentence: str) -> None:
        # A cell that ended the process is left out when the others are run again.
        if time.monotonic() < self._end:
            self._skip.add(name)
        if self._cells is not None:
            self._cells.timed_out = False
        self._keep(name, CellRun(outputs=[], error=("CellStopped", sentence, [])))

    def _keep(self, name: str, run: CellRun) -> None:
        texts, images = self._sizes.get(name, (0, 0))
        self._text_room, self._image_room = self._text_room + texts, self._image_room + images
        texts = images = 0
        kept: list[dict[str, Any]] = []
        for output in run.outputs[: MAX_DISPLAYS + 2]:
            text = clean(output.text[: min(MAX_OUTPUT + 100, self._text_room - texts)])
            texts += len(text)
            if output.kind != "display":
                kept.append({"output_type": "stream", "name": output.kind, "text": text})
                continue
            data = {"text/plain": text}
            size = len(output.png)
            if output.png.startswith(_PNG) and size <= min(MAX_IMAGE, self._image_room - images):
                images += size
                data["image/png"] = base64.b64encode(output.png).decode()
            kept.append({"output_type": "display_data", "data": data, "metadata": {}})
        if run.error is not None:
            kept.append(_error(*run.error))
        self._text_room, self._image_room = self._text_room - texts, self._image_room - images
        self._sizes[name], self.outputs[name] = (texts, images), kept


def _error(kind: str, text: str, rows: list[tuple[str, int, str]]) -> dict[str, Any]:
    kind, text = clean(kind[:200]), clean(text[:4000])
    lines = [
        f"line {line}, in {clean(function[:200])}: {clean(code[:200])}" for function, line, code in rows[-5:]
    ]
    return {"output_type": "error", "ename": kind, "evalue": text, "traceback": [*lines, f"{kind}: {text}"]}
