"""Exceptions of the student's code as plain text, and back to the nearest built-in exception."""

from __future__ import annotations

import builtins
import linecache
import os
import traceback
from dataclasses import dataclass
from typing import Any

from proctor.wire import WireError

MAX_TEXT = 4_000  # characters of an exception's text that are kept
MAX_NAME = 200  # characters of a name, and of a line of code
MAX_ROWS = 5  # frames, the innermost
MAX_MRO = 20  # classes that an exception descends from


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


def describe(error: BaseException) -> Trouble:
    """An exception as plain text, with the frames that lie in the learner's own cells."""
    rows = []
    for frame in traceback.extract_tb(error.__traceback__):
        if is_cell(frame.filename):
            line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
            rows.append((_cut(frame.name), frame.lineno or 0, _cut(line)))
    if isinstance(error, SyntaxError) and isinstance(error.lineno, int):
        rows.append(("cell", error.lineno, _cut(str(error.text or "").strip())))
    mro = tuple(_cut(kind.__name__) for kind in type(error).__mro__[:MAX_MRO])
    try:
        text = str(error)
    except Exception:
        text = "(its text could not be read)"
    return Trouble(_cut(type(error).__name__), _cut(text, MAX_TEXT), tuple(rows[-MAX_ROWS:]), mro)


def is_cell(filename: str) -> bool:
    """Whether a traceback's file is a notebook cell."""
    return filename.startswith("<ipython-input-") or f"{os.sep}ipykernel_" in filename


def as_exception(trouble: Trouble) -> Exception:
    """The nearest built-in exception, so that ``pytest.raises(ValueError)`` reads the same at every door."""
    for name in trouble.mro:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                error = kind(_Verbatim(trouble.text))
            except Exception:  # noqa: S112 - UnicodeDecodeError and its like want more arguments
                continue
            break
    else:
        error = RuntimeError(f"{trouble.type}: {trouble.text}")
    error.trouble = trouble
    return error


class _Verbatim(str):
    """A text that shows as it is, where ``KeyError`` would show its repr: it is one already."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def as_data(trouble: Trouble) -> list[Any]:
    """A trouble as it goes over the wire."""
    return [trouble.type, trouble.text, [list(row) for row in trouble.rows], list(trouble.mro)]


def from_data(content: Any) -> Trouble:
    """A trouble as it came over the wire. Raises WireError where it is none."""
    match content:
        case [str(kind), str(text), list(rows), list(mro)] if all(isinstance(name, str) for name in mro):
            told = []
            for row in rows[-MAX_ROWS:]:
                match row:
                    case [str(name), int(line), str(code)] if 0 <= line < 10**9:
                        told.append((_cut(name), line, _cut(code)))
                    case _:
                        raise WireError("a malformed error")
            kinds = tuple(_cut(name) for name in mro[:MAX_MRO])
            return Trouble(_cut(kind), _cut(text, MAX_TEXT), tuple(told), kinds)
    raise WireError("a malformed error")


def clean(text: str) -> str:
    """A text without lone surrogates, which no file and no screen takes."""
    return text.encode("utf-8", "replace").decode()


def _cut(text: str, room: int = MAX_NAME) -> str:
    return clean(text[:room])


def undefined(name: str) -> StudentGone:
    """What is raised where the notebook has no such name."""
    return StudentGone(f"There is no `{name}` yet: run the cell that defines it, under exactly this name.")
