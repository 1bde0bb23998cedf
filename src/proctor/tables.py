"""TOML tables as dataclasses: what is wrong with one is told in one sentence that names the file and the line."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

_NAME, _DOTTED = r"\A[A-Za-z0-9_-]+\Z", r"\A[^\W\d]\w*(\.[^\W\d]\w*)*\Z"
_PATTERNS = {
    _NAME: "letters, digits, `_` and `-` only",
    _DOTTED: "a dotted name such as `torch.nn.functional`",
}

# A name becomes a folder, a file or a grade_id, so that nothing but nbgrader's own alphabet will do.
Name = Annotated[str, Meta(pattern=_NAME)]
Dotted = Annotated[str, Meta(pattern=_DOTTED)]
Text = Annotated[str, Meta(min_length=1)]
Built = TypeVar("Built")


class CourseError(ValueError):
    """Something in the course's own files, or in what was asked of them, is wrong: one sentence for people."""


class File(NamedTuple):
    """A file's data, and the line on which each of its tables and keys stands."""

    shown: str
    data: dict[str, Any]
    lines: dict[tuple[str | int, ...], int]

    def error(self, path: tuple[str | int, ...], says: str) -> CourseError:
        """The error at a place, with the line of the key itself or of the table around it."""
        known = (self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines)
        line = next(known, None)
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        return CourseError(f"{self.shown}{f', line {line}' if line else ''}: {name or 'the file'} {says}")


def read_text(path: Path, shown: str) -> str:
    """A file's text, which must be UTF-8; ``shown`` is what messages call the file. Raises CourseError."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise CourseError(f"{shown} is missing; it should be at {path}") from error
    except OSError as error:
        raise CourseError(f"{shown} cannot be read: {error.strerror or error}") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise CourseError(f"{shown}, line {line}: the text is not UTF-8; save the file as UTF-8") from error


def read_toml(path: Path, shown: str) -> File:
    """A TOML file's tables, with their lines. Raises CourseError."""
    text = read_text(path, shown)
    try:
        return File(shown, tomllib.loads(text), _lines(text))
    except tomllib.TOMLDecodeError as error:
        says = re.match(
            r"(.*?)(?: \(at (?:line (\d+), column \d+|end of document)\))?\Z", str(error), re.DOTALL
        )
        line = says[2] or text.rstrip().count("\n") + 1
        raise CourseError(f"{shown}, line {line}: this is not TOML: {says[1]}") from error


_PART = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_PART}(?:\s*\.\s*{_PART})*)\s*\]")
_KEY = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")


def _lines(text: str) -> dict[tuple[str | int, ...], int]:
    """The line of each table and key of a TOML text that has been parsed, and so is known to be well formed."""
    found: dict[tuple[str | int, ...], int] = {}
    lengths: dict[tuple[str | int, ...], int] = {}  # of the arrays of tables, as far as they have been read
    table: tuple[str | int, ...] = ()
    inside = ""  # the quotes of the multi-line string that a line belongs to
    for number, line in enumerate(text.split("\n"), 1):
        if not inside and (match := _HEADER.match(line) or _KEY.match(line)):
            *above, last = (part.strip("\"'") for part in re.findall(_PART, match[match.lastindex or 1]))
            path = table if match.re is _KEY else ()
            for name in above:
                path += (name,)
                path += (lengths[path] - 1,) if path in lengths else ()
            path += (last,)
            found.setdefault(path, number)
            if match.re is _HEADER:
                if match[1] == "[[":
                    lengths[path] = lengths.get(path, 0) + 1
                    path += (lengths[path] - 1,)
                    found[path] = number
                table = path
        for quotes in ('"""', "'''"):
            if inside in ("", quotes) and line.count(quotes) % 2:
                inside = "" if inside else quotes
                break
    return found


def build(
    file: File,
    kind: type[Built],
    table: Any,
    path: tuple[str | int, ...],
    *,
    given: dict[str, Any] | None = None,
    nested: dict[str, type] | None = None,
) -> Built:
    """A dataclass from a table; ``given`` are fields that the table may not set, ``nested`` lists of tables."""
    if not isinstance(table, dict):
        raise file.error(path, f"should be a table, not {_kind(type(table).__name__)}")
    fields = {field.name.rstrip("_"): field.name for field in dataclasses.fields(kind)}
    for key in table:
        if key not in fields or key in (given or {}):
            known = [name for name in fields if name not in (given or {})]
            raise file.error((*path, key), "is not a known key" + closest(key, known))
    plain = {fields[key]: value for key, value in table.items()} | (given or {})
    built = {}
    for key, inner in (nested or {}).items():
        if isinstance(rows := plain.get(key), list):
            del plain[key]
            built[key] = tuple(build(file, inner, row, (*path, key, i)) for i, row in enumerate(rows))
    try:
        return dataclasses.replace(msgspec.convert(plain, kind), **built)
    except msgspec.ValidationError as error:
        says, _, place = str(error).partition(" - at `$")
        below = [int(i) if i else key.rstrip("_") for key, i in re.findall(r"\.(\w+)|\[(\d+)\]", place)]
        if missing := re.match(r"Object missing required field `(\w+)`", says):
            raise file.error((*path, *below, missing[1].rstrip("_")), "is missing") from error
        raise file.error((*path, *below), _in_words(says)) from error


def _in_words(says: str) -> str:
    """What msgspec says of a value, in words for people."""
    for pattern, words in _PATTERNS.items():
        if says.endswith(f"matching regex {pattern!r}"):
            return f"should be {words}"
    if match := re.match(r"Expected `array` of length (\d+), got (\d+)", says):
        return f"should have exactly {match[1]} entries, not {match[2]}"
    if match := re.match(r"Expected `\w+` ([<>]=) (\S+)", says):
        return f"should be at {'most' if match[1] == '<=' else 'least'} {match[2]}"
    if match := re.match(r"Expected `(\w+)`, got `(\w+)`", says):
        return f"should be {_kind(match[1])}, not {_kind(match[2])}"
    return "should not be empty" if says.startswith("Expected `str` of length >= 1") else f"is wrong: {says}"


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "list": "a list",
    "object": "a table",
    "null": "empty",
    "NoneType": "empty",
}


def _kind(name: str) -> str:
    return _KINDS.get(name, name)


def closest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: the known name that was probably meant, or else all there are."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean `{close[0]}`?" if close else f"; there are: {', '.join(known) or 'none'}"


def unknown(what: str, name: str, known: list[str]) -> CourseError:
    """The error for a name that there is not: all there are, and the one that was probably meant."""
    within = [one for one in known if name and name.lower() in one.lower()]
    close = difflib.get_close_matches(name, known, 1, 0.5) or within
    mean = f"; did you mean {close[0]}?" if close else ""
    return CourseError(f"{what} {name!r}; there are: {', '.join(known) or 'none'}{mean}")
