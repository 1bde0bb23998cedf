"""The learner's namespace: an IPython shell that runs cells and describes what came of them as plain data."""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import tokenize
from typing import Any

MAX_OUTPUT = 64_000  # characters that one cell may print, and that the values it shows may take
MAX_IMAGE = 1 << 20  # bytes of one figure
MAX_DISPLAYS = 10  # figures and values that one cell may show


class Full(io.StringIO):
    """A text buffer that stops taking at a limit, so that endless printing fills no memory."""

    def __init__(self, limit: int = MAX_OUTPUT) -> None:
        super().__init__()
        self.left, self.cut = limit, False

    def write(self, text: str) -> int:
        kept = text[: self.left]
        self.left -= len(kept)
        self.cut = self.cut or len(kept) < len(text)
        super().write(kept)
        return len(text)


class Cells:
    """The learner's namespace: an IPython shell without history, screen or kernel."""

    def __init__(self) -> None:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        # No history: it would be an open database, and a thread that no fork survives.
        self.shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
        self.shell.showtraceback = lambda *_, **__: None  # errors travel as data, not as printed text
        self.namespace = self.shell.user_ns

    def run(self, source: str) -> dict[str, Any]:
        """Run one cell. Returns its outputs as plain data and the error that ended it, if one did."""
        from IPython.core.displayhook import CapturingDisplayHook, DisplayHook
        from IPython.core.displaypub import CapturingDisplayPublisher

        from proctor.trouble import describe

        out, err = Full(), Full()
        publisher = CapturingDisplayPublisher()
        shown: list[Any] = publisher.outputs
        self.shell.display_pub = publisher
        try:
            hushed = DisplayHook.semicolon_at_end_of_expression(source)
        except (tokenize.TokenError, SyntaxError):
            hushed = False
        self.shell.display_trap.hook = CapturingDisplayHook(self.shell, [] if hushed else shown)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            result = self.shell.run_cell(source, store_history=False)
        error = result.error_before_exec or result.error_in_exec
        outputs = [
            {"kind": name, "text": stream.getvalue() + ("\n… the rest was cut" if stream.cut else "")}
            for name, stream in (("stdout", out), ("stderr", err))
            if stream.getvalue()
        ]
        room = MAX_OUTPUT
        for output in shown[:MAX_DISPLAYS]:
            outputs.append(_display(output, room))
            room -= len(outputs[-1]["text"])
        if error is None:
            return {"outputs": outputs, "error": None}
        trouble = describe(error)
        return {"outputs": outputs, "error": [trouble.type, trouble.text, list(trouble.rows)]}


def _display(output: Any, room: int) -> dict[str, Any]:
    # Text and pictures only: a learner's HTML never reaches a teacher's screen.
    data = output.get("data", {}) if isinstance(output, dict) else {}
    png = data.get("image/png")
    if isinstance(png, str):
        try:
            png = base64.b64decode(png, validate=False)
        except binascii.Error:
            png = b""
    png = png if isinstance(png, bytes) and len(png) <= MAX_IMAGE else b""
    return {"kind": "display", "text": str(data.get("text/plain", ""))[:room], "png": png}
