"""Reads notebooks that nobody has vouched for.

What a submission says about itself is not believed: of each cell its kind, its source and the ids it claims are
kept, and metadata, outputs, attachments and the kernel's name are left behind. The bytes are parsed here, within
limits, and never handed to nbformat; :mod:`proctor.rebuild` then makes the notebook to grade from the release.
"""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

# nbformat takes two seconds to import, and nothing here needs it.

FORMAT = 4  # the major version of the notebook format
PARSED = 10_000  # characters up to which Python's parser may see a source: on some texts its time grows as the square


class NotebookError(ValueError):
    """A notebook that cannot be graded, or not as it is: one sentence for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a submitted notebook may be; sizes are in bytes, those of sources as UTF-8."""

    max_bytes: int = 20_000_000
    max_depth: int = 64  # of lists and objects within one another
    max_parts: int = (
        2_000_000  # of the JSON: strings, brackets and commas, which a parser's memory grows with
    )
    max_cells: int = 2000
    max_source: int = 200_000  # of one cell
    max_sources: int = 2_000_000  # of all cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A submitted cell. ``grade_id`` and ``cell_id`` are claims: evidence of what the cell was, and no more."""

    kind: Literal["code", "markdown", "raw"]
    source: str
    grade_id: str | None = None
    cell_id: str | None = None


def read_untrusted(path: Path, limits: Limits | None = None) -> list[Cell]:
    """The cells of a submitted notebook.

    Cells that are no objects or have no source are dropped, and a cell of an unknown type is a raw one. Where a
    key occurs twice in the JSON, the last one counts. Only the path's last part may not be a symbolic link: folders
    on the way are for the caller to judge. Raises NotebookError, and nothing else, for whatever the file holds.
    """
    limits = limits or Limits()
    return cells_of(path, parse(path, read_bytes(path, limits), limits), limits)


def read_bytes(path: Path, limits: Limits) -> bytes:
    """The content of a regular file within the limit. Raises NotebookError."""
    name = _shown(path)
    flags = os.O_RDONLY
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):  # not every system has each of them
        flags |= getattr(os, flag, 0)
    try:
        if os.name == "nt" and path.is_symlink():
            raise OSError(errno.ELOOP, "symbolic link")
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        raise NotebookError(f"{name} is missing: there is no file of this name") from error
    except ValueError as error:
        raise NotebookError(f"{name} is not a file name that this system allows") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotebookError(f"{name} is a symbolic link; hand in the notebook itself") from error
        if error.errno == errno.ENXIO:  # a socket, or a device without a driver
            raise NotebookError(f"{name} is not a regular file; hand in the notebook itself") from error
        raise NotebookError(f"{name} cannot be opened: {error.strerror or error}") from error
    try:  # with the descriptor, not the name: what has been checked is what is read
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise NotebookError(f"{name} is a folder, not a notebook")
        if not stat.S_ISREG(mode):
            raise NotebookError(f"{name} is not a regular file; hand in the notebook itself")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            raw = file.read(limits.max_bytes + 1)  # not as many as fstat promises: the file may be growing
    except OSError as error:
        raise NotebookError(f"{name} cannot be read: {error.strerror or error}") from error
    finally:
        os.close(descriptor)
    if len(raw) > limits.max_bytes:
        most = f"{limits.max_bytes / 1e6:g} MB"
        raise NotebookError(f"{name} is larger than {most}; clear its outputs, save it and hand it in again")
    return raw


def parse(path: Path, raw: bytes, limits: Limits) -> dict[str, Any]:
    """The JSON object of a notebook of format 4, its numbers left out. Raises NotebookError."""
    name = _shown(path)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotebookError(
            f"{name} is not UTF-8 text (byte {error.start}); save it from JupyterLab"
        ) from error
    if not text.strip():
        raise NotebookError(f"{name} is empty")
    _check_nesting(name, text, limits)
    try:
        # Small whole numbers are all that is looked at, and a huge one would raise or take memory.
        data = json.loads(text, parse_int=_small, parse_float=_nothing, parse_constant=_nothing)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise NotebookError(f"{name} is not JSON ({where}); it may have been cut off on its way") from error
    if not isinstance(data, dict) or "nbformat" not in data:
        raise NotebookError(f"{name} is JSON, but not a notebook")
    if data["nbformat"] != FORMAT or isinstance(data["nbformat"], bool):
        which = f"format {data['nbformat']}" if type(data["nbformat"]) is int else "an unknown format"
        raise NotebookError(
            f"{name} is a notebook of {which}; open it in JupyterLab and save it as format {FORMAT}"
        )
    if not isinstance(data.get("cells"), list):
        raise NotebookError(f"{name} is JSON, but not a notebook: it has no list of cells")
    return data


# One string (a closing quote may be missing), bracket or comma. Possessive, so that the scan is linear on any text.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|([\[{])|[\]},]', re.DOTALL)


def _check_nesting(name: str, text: str, limits: Limits) -> None:
    """Refuse what the parser would run out of stack or memory on, before it sees it."""
    depth = 0
    for count, token in enumerate(_TOKEN.finditer(text)):
        if token[1]:
            depth += 1
            if depth > limits.max_depth:
                raise NotebookError(
                    f"{name} is nested more than {limits.max_depth} deep, which no notebook is"
                )
        elif token[0] in "]}":
            depth -= 1
        if count >= limits.max_parts:
            raise NotebookError(
                f"{name} has more than {limits.max_parts} parts; clear its outputs and save it"
            )


def cells_of(path: Path, data: dict[str, Any], limits: Limits) -> list[Cell]:
    """The cells that are cells. Raises NotebookError where there are too many, or they hold too much."""
    name = _shown(path)
    if len(data["cells"]) > limits.max_cells:
        raise NotebookError(f"{name} has {len(data['cells'])} cells; {limits.max_cells} are allowed")
    cells, total = [], 0
    for number, entry in enumerate(data["cells"], 1):
        if (cell := as_cell(entry)) is None:
            continue
        size = len(cell.source.encode())
        total += size
        if size > limits.max_source:
            raise NotebookError(
                f"{name}: cell {number} has {size} bytes of text; {limits.max_source} are allowed"
            )
        if total > limits.max_sources:
            raise NotebookError(f"{name}: its cells have more than {limits.max_sources} bytes of text in all")
        cells.append(cell)
    return cells


def as_cell(entry: Any) -> Cell | None:
    """One entry of a notebook's list of cells, or None where it is no cell."""
    if not isinstance(entry, dict):
        return None
    source = entry.get("source")
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        return None
    kind = entry.get("cell_type")
    metadata = entry.get("metadata")
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    return Cell(
        kind=kind if kind in ("code", "markdown") else "raw",
        source=_encodable(source),
        grade_id=_claim(nbgrader.get("grade_id")) if isinstance(nbgrader, dict) else None,
        cell_id=_claim(entry.get("id")),
    )


def _encodable(text: str) -> str:
    """The text without lone surrogates, which JSON can spell and nothing can write, print or compile."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _claim(value: Any) -> str | None:
    return _encodable(value) if isinstance(value, str) else None


def _small(digits: str) -> int:
    return int(digits) if len(digits) <= 9 else 0


def _nothing(_: str) -> None:
    return None


def _shown(path: Path) -> str:
    """The file's name, fit for a terminal: a name may hold escape codes."""
    name = path.name[:100] or str(path)
    return "".join(letter if letter.isprintable() else "?" for letter in name)


class Names(NamedTuple):
    """The names that a cell makes at its top level: by ``def`` or ``class``, and by assignment."""

    defined: frozenset[str] = frozenset()
    assigned: frozenset[str] = frozenset()


_LINE_MAGIC = re.compile(r"^[%!?].*", re.MULTILINE)
_DEFINITION = re.compile(r"^(?:async[ \t]+def|def|class)[ \t]+(\w+)", re.MULTILINE)
_PLAIN_CELL_MAGICS = (
    "%%time",
    "%%capture",
    "%%prun",
)  # what runs the rest of the cell in the notebook's own names


def syntax_tree(source: str) -> ast.Module | None:
    """The source's syntax tree, magics aside, or None where there is none. Nothing is run."""
    if len(source) > PARSED:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape in a learner's string is none of ours
        try:
            return ast.parse(_LINE_MAGIC.sub("", source))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None  # MemoryError is what the parser raises on text that is nested too deep


def names_of(source: str, *, parse: bool = True) -> Names:
    """The names that a cell makes. Where it is not parsed, or cannot be, lines that look like definitions count."""
    first = source.lstrip().split(None, 1)[:1]
    if first and first[0].startswith("%%") and first[0] not in _PLAIN_CELL_MAGICS:
        return Names()
    if (tree := syntax_tree(source) if parse else None) is None:
        return Names(frozenset(_DEFINITION.findall(source)))
    defined, assigned = set(), set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            assigned.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            assigned.add(node.target.id)
    return Names(frozenset(defined), frozenset(assigned))


def exercise_of(source: str) -> str | None:
    """The exercise that a check cell checks: its last expression is ``check("causal_mask")``; else None."""
    tree = syntax_tree(source)
    match tree.body[-1] if tree and tree.body else None:
        case ast.Expr(ast.Call(ast.Name("check"), [ast.Constant(str(name))], [])):
            return name
    return None
