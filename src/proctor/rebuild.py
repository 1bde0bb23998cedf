"""Makes the notebook to grade: the release's own cells, with the learner's answers and extra cells in them.

Whatever happened to the submission, the cells of the release come out in the release's order, with the release's
metadata and ids, and all but the answer cells with the release's source. Answers are found by the grade_id that a
cell claims, and where that fails by the names a cell defines: a notebook is often damaged by accident (cells split,
merged, copied, moved, retyped; metadata lost), and the answer in it still counts.

The order in which the learner's code runs is the learner's own. There is one exception: where answer cells have been
moved past one another they go back to the release's order, an extra cell between them that only defines something
goes before the answers that followed it, and any other extra cell after the answers that it followed.
"""

from __future__ import annotations

import ast
import copy
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from proctor.answers import Found, answer_cells, check_cells, find, pointer, slots_of
from proctor.notebook import (
    Cell,
    Limits,
    NotebookError,
    cells_of,
    exercise_of,
    parse,
    read_bytes,
    syntax_tree,
)

__all__ = ["Rebuilt", "answer_cells", "check_cells", "exercise_of", "rebuild", "repair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """The notebook to grade, the source that holds each answer, and what was mended, in sentences."""

    notebook: NotebookNode
    answers: dict[str, str]
    notes: tuple[str, ...] = ()


def rebuild(release: NotebookNode, submitted: Sequence[Cell], *, unit: str = "") -> Rebuilt:
    """Put the learner's answers and extra cells into the release; ``unit`` is what messages call it.

    An answer that is not found leaves the release's stub. Raises NotebookError where nothing of the unit is there.
    """
    slots = slots_of(release)
    found = find(slots, submitted, unit)
    extras = _extras(found, len(slots))
    taken = {slot.cell_id for slot in slots}
    with_ids = (release["nbformat"], release["nbformat_minor"]) >= (4, 5)
    answers: dict[str, str] = {}
    cells: list[dict[str, Any]] = []

    def add_extras(index: int) -> None:
        for cell in extras.get(index, ()):
            cells.append(_new_cell(cell, taken if with_ids else None))

    add_extras(-1)
    for slot in slots:
        cell = copy.deepcopy(release["cells"][slot.index])
        if slot.role == "answer":
            answers[slot.grade_id] = slot.source
            if (i := found.chosen.get(slot.index)) is not None:
                host = slots[found.host[i]]
                answers[slot.grade_id] = found.cells[i].source
                cell["source"] = (
                    found.cells[i].source if host is slot else pointer(slot.grade_id, host.grade_id)
                )
            if slot.kind == "code":
                cell["outputs"], cell["execution_count"] = [], None
        cells.append(cell)
        add_extras(slot.index)
    top = {key: copy.deepcopy(value) for key, value in release.items() if key != "cells"}
    notebook = nbformat.from_dict({**top, "cells": cells})
    return Rebuilt(notebook=notebook, answers=answers, notes=tuple(found.notes))


def _extras(found: Found, length: int) -> dict[int, list[Cell]]:
    """The learner's own cells, by the release's cell that they are to follow (-1: before the first one)."""
    extras: dict[int, list[Cell]] = {}
    anchor = last = -1  # the release's cell that was passed last; where the last code cell was put
    own = set(found.extras)
    for i, cell in enumerate(found.cells):
        anchor = found.place.get(i, anchor)
        if i not in own:
            continue
        first = max((slot for j, slot in found.host.items() if j < i), default=-1)
        until = min((slot for j, slot in found.host.items() if j > i), default=length) - 1
        if cell.kind != "code":
            where = anchor
        elif first <= until:
            where = last = min(max(anchor, first, last), until)
        else:  # answers were moved past one another here
            where = until if _only_defines(cell.source) else max(anchor, first)
        extras.setdefault(where, []).append(cell)
    return extras


def _only_defines(source: str) -> bool:
    """Whether a cell needs nothing of what stands above it until its names are used."""
    tree = syntax_tree(source)
    plain = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
    return tree is not None and all(
        isinstance(node, plain) or isinstance(getattr(node, "value", None), ast.Constant)
        for node in tree.body
    )


def _new_cell(cell: Cell, taken: set[str | None] | None) -> dict[str, Any]:
    """A cell with nothing of the submission but its source; raw cells come out in feedback as they are, so none is."""
    new: dict[str, Any] = {"metadata": {}, "source": cell.source}
    new |= {"cell_type": "code", "outputs": [], "execution_count": None} if cell.kind == "code" else {}
    new.setdefault("cell_type", "markdown")
    if taken is not None:
        new["id"] = next(name for n in count(1) if (name := f"extra-{n}") not in taken)
        taken.add(new["id"])
    return new


def repair(
    path: Path, release: NotebookNode, *, unit: str = "", limits: Limits | None = None
) -> tuple[str, ...]:
    """Put a damaged notebook in order, and say what was mended; a notebook that needs nothing is left alone.

    The damaged file is kept beside it as ``name.damaged.ipynb`` (``name.damaged-2.ipynb`` where that one exists).
    Outputs are not kept. Raises NotebookError where the file cannot be read, or is not of this unit.
    """
    limits = limits or Limits()
    raw = read_bytes(path, limits)
    data = parse(path, raw, limits)
    rebuilt = rebuild(release, cells_of(path, data, limits), unit=unit)
    notes = rebuilt.notes
    if _marks(data) != _marks(parse(path, nbformat.writes(release).encode(), Limits())):
        notes = notes or (
            "Cells had been moved, copied or marked otherwise; they are as in the release again.",
        )
    if notes:
        try:
            _keep(path, raw)
            _replace(path, nbformat.writes(rebuilt.notebook) + "\n")
        except OSError as error:
            says = f"{error.strerror or error}; the notebook is as it was"
            raise NotebookError(f"{path.name} cannot be repaired: {says}") from error
    return notes


def _marks(data: dict[str, Any]) -> list[Any]:
    """Kind and nbgrader metadata of all cells that have any, in order."""
    cells = [
        cell for cell in data["cells"] if isinstance(cell, dict) and isinstance(cell.get("metadata"), dict)
    ]
    return [
        (cell.get("cell_type"), cell["metadata"]["nbgrader"])
        for cell in cells
        if "nbgrader" in cell["metadata"]
    ]


def _keep(path: Path, raw: bytes) -> None:
    for n in count(1):
        kept = path.with_name(f"{path.stem}.damaged{f'-{n}' if n > 1 else ''}.ipynb")
        with suppress(FileExistsError), kept.open("xb") as file:
            file.write(raw)
            return


def _replace(path: Path, text: str) -> None:
    """Write atomically: whoever reads the file finds the old content or the new."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem}-", delete=False) as file:
        new = Path(file.name)
        try:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
            new.chmod(path.stat().st_mode & 0o777)
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
