"""Notebooks and folders that are not what a grader expects: by malice, or by accident."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from attacks.model import HALF, RIGHT, WRONG, Attack, Notebook, Site, cell_of, code


def _cells(change: Callable[[list[Notebook]], object]) -> Callable[[Notebook, Site], None]:
    def alter(notebook: Notebook, site: Site) -> None:
        change(notebook["cells"])

    return alter


def _meta(**about: object) -> Callable[[Notebook, Site], None]:
    """Change what the check cells say about themselves."""

    def alter(notebook: Notebook, site: Site) -> None:
        for name in ("double", "norm"):
            cell_of(notebook, f"check-{name}")["metadata"]["nbgrader"].update(about)

    return alter


def _no_dict(notebook: Notebook, site: Site) -> None:
    for cell, value in zip(
        notebook["cells"], ([], "x", 5, None, {"nbgrader": []}, {"nbgrader": 5}) * 9, strict=False
    ):
        cell["metadata"] = value


def _retyped(notebook: Notebook, site: Site) -> None:
    for name in ("double", "norm"):
        cell_of(notebook, f"check-{name}")["cell_type"] = "markdown"
        cell_of(notebook, name)["cell_type"] = "raw"


def _renamed(notebook: Notebook, site: Site) -> None:
    for name in ("double", "norm"):
        cell = cell_of(notebook, f"check-{name}")
        cell["metadata"]["nbgrader"]["grade_id"] = cell["id"] = f"other-{name}"


def _swapped(notebook: Notebook, site: Site) -> None:
    """The hard exercise's check in the name of the easy one's."""
    cell_of(notebook, "check-norm")["source"] = cell_of(notebook, "check-double")["source"]


def _raw(make: Callable[[Notebook], bytes]) -> Callable[[Notebook, Site], bytes]:
    return lambda notebook, site: make(notebook)


def _instead(make: Callable[[Path, Site], object]) -> Callable[[Path, Site], None]:
    """Something else in the notebook's place."""

    def place(folder: Path, site: Site) -> None:
        (folder / "mini.ipynb").unlink()
        make(folder / "mini.ipynb", site)

    return place


def _socket(path: Path, site: Site) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have 107 letters
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def _shadows(folder: Path, site: Site) -> None:
    """Modules that would be found before the real ones."""
    text = f"open('/tmp/{site.marker}-imported', 'w').close()\nraise SystemExit(0)\n"
    names = "torch math ipykernel_launcher conftest sitecustomize usercustomize json pytest nbgrader_config proctor"
    for name in names.split():
        (folder / f"{name}.py").write_text(text)
    (folder / "nbgrader_config.json").write_text('{"Execute": {"enabled": false}}')


def _beside(folder: Path, site: Site) -> None:
    """More than was asked for."""
    os.mkfifo(folder / "pipe.txt")
    (folder / "other.ipynb").write_text("{}")
    shutil.copy(folder / "mini.ipynb", folder / "mini-copy.ipynb")
    (folder / "a").mkdir()
    (folder / "a" / "mini.ipynb").write_text("[")
    (folder / "\x1b[31mred\x1b[0m.txt").write_text("x")
    with open(os.fsencode(folder) + b"/\xff\xfe.txt", "w") as file:  # noqa: PTH123 - a name that is no UTF-8
        file.write("x")
    (folder / ("n" * 250)).write_text("x")
    deep = folder / "/".join(["d"] * 60)
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    (folder / "locked").write_text("x")
    (folder / "locked").chmod(0)


def _time(text: str) -> Callable[[Path, Site], None]:
    return lambda folder, site: (folder / "timestamp.txt").write_text(text) and None


def _fifo_time(folder: Path, site: Site) -> None:
    os.mkfifo(folder / "timestamp.txt")


def _link_time(folder: Path, site: Site) -> None:
    (folder / "timestamp.txt").symlink_to("/dev/zero")


def _folder_time(folder: Path, site: Site) -> None:
    (folder / "timestamp.txt").mkdir()


def _old(notebook: Notebook) -> bytes:
    sheet = {"cells": [{**cell, "input": cell["source"]} for cell in notebook["cells"]], "metadata": {}}
    return json.dumps({"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [sheet]}).encode()


def _duplicated(cells: list[Notebook]) -> None:
    cells += [cell for cell in cells if cell["id"] == "check-double"]


def _duplicate_answers(cells: list[Notebook]) -> None:
    first = next(cell for cell in cells if cell["id"] == "double")
    cells.insert(cells.index(first), {**first, "source": WRONG["double"]})


def _deleted(cells: list[Notebook]) -> None:
    cells[:] = [cell for cell in cells if not cell["id"].startswith("check-")]


def _many(cells: list[Notebook]) -> None:
    cells += [code(None, "", f"n{number}") for number in range(20_000)]


UNREADABLE = {
    "truncated": ("truncated JSON", lambda notebook: json.dumps(notebook).encode()[:900]),
    "deep": ("JSON nested 100,000 deep", lambda notebook: b"[" * 100_000 + b"]" * 100_000),
    "deep-metadata": (
        "metadata nested 50,000 deep",
        lambda n: (
            json.dumps({**n, "metadata": "@"}).replace('"@"', '{"a":' * 50_000 + "1" + "}" * 50_000).encode()
        ),
    ),
    "format-3": ("a notebook of format 3", _old),
    "format-5": ("a notebook of format 5", lambda notebook: json.dumps({**notebook, "nbformat": 5}).encode()),
    "format-text": (
        "a format that is a text",
        lambda notebook: json.dumps({**notebook, "nbformat": "4"}).encode(),
    ),
    "no-notebook": ("JSON that is no notebook", lambda notebook: b'{"cells": 5, "nbformat": 4}'),
    "empty": ("an empty file", lambda notebook: b""),
    "zeros": ("two megabytes of zeros", lambda notebook: bytes(2 << 20)),
    "latin-1": (
        "a text that is no UTF-8",
        lambda n: json.dumps(n).replace("# Mini", "# \xfcml\xe4ut").encode("latin-1"),
    ),
    "huge": (
        "a notebook of 60 MB",
        lambda n: json.dumps({**n, "metadata": {"x": "y" * 60_000_000}}).encode(),
    ),
    "surrogates": (
        "another unit's notebook, its cells lone surrogates",
        lambda n: json.dumps({**n, "cells": [code(None, "\ud800", "\udfff")]}).encode(),
    ),
}

ATTACKS = (
    Attack(
        name="duplicated-check",
        why="one duplicated test cell",
        alter=_cells(_duplicated),
        answers=HALF,
        score=5,
    ),
    Attack(
        name="duplicated-answer",
        why="an answer cell twice, the first one wrong",
        alter=_cells(_duplicate_answers),
        answers=HALF,
        score=5,
    ),
    Attack(name="checks-deleted", why="test cells deleted", alter=_cells(_deleted), answers=HALF, score=5),
    Attack(name="checks-renamed", why="test cells renamed", alter=_renamed, answers=HALF, score=5),
    Attack(
        name="checks-retyped", why="test cells and answers retyped", alter=_retyped, answers=HALF, score=5
    ),
    Attack(
        name="grade-false",
        why="`grade: false` on test cells",
        alter=_meta(grade=False),
        answers=HALF,
        score=5,
    ),
    Attack(name="points-1000", why="`points: 1000`", alter=_meta(points=1000), answers=HALF, score=5),
    Attack(
        name="points-negative", why="`points: -5` and text", alter=_meta(points=-5), answers=HALF, score=5
    ),
    Attack(
        name="schema-99",
        why="metadata of a schema to come",
        alter=_meta(schema_version=99),
        answers=HALF,
        score=5,
    ),
    Attack(
        name="schema-1", why="metadata of an old schema", alter=_meta(schema_version=1), answers=HALF, score=5
    ),
    Attack(name="metadata-no-dict", why="metadata that is no dict", alter=_no_dict, answers=HALF, score=5),
    Attack(
        name="checks-swapped",
        why="the hard check replaced by the easy one's",
        alter=_swapped,
        answers=HALF,
        score=5,
    ),
    Attack(name="many-cells", why="20,000 cells", alter=_cells(_many), answers=RIGHT, person=True),
    *(Attack(name=name, why=why, alter=_raw(make), person=True) for name, (why, make) in UNREADABLE.items()),
    Attack(
        name="fifo",
        why="a FIFO named like the notebook",
        place=_instead(lambda path, site: os.mkfifo(path)),
        person=True,
    ),
    Attack(name="socket", why="a socket named like the notebook", place=_instead(_socket), person=True),
    Attack(
        name="folder",
        why="a folder named like the notebook",
        place=_instead(lambda p, s: p.mkdir()),
        person=True,
    ),
    Attack(name="missing", why="no notebook at all", place=_instead(lambda path, site: None), person=True),
    Attack(
        name="device",
        why="a symlink to /dev/zero named like the notebook",
        place=_instead(lambda path, site: path.symlink_to("/dev/zero")),
        person=True,
    ),
    Attack(
        name="shadows",
        why="`torch.py`, `math.py`, `ipykernel_launcher.py`, `conftest.py`, `sitecustomize.py` beside the notebook",
        place=_shadows,
        answers=RIGHT,
        score=10,
    ),
    Attack(
        name="odd-files-beside",
        why="beside the notebook: a FIFO, another notebook, names with escape codes, 60 folders deep",
        place=_beside,
        answers=RIGHT,
        score=10,
    ),
    Attack(
        name="timestamp-garbage",
        why="a timestamp.txt that is no time",
        place=_time("the day after \x1b[31mtomorrow"),
        answers=RIGHT,
        score=10,
    ),
    Attack(
        name="timestamp-fifo", why="a timestamp.txt that is a FIFO", place=_fifo_time, answers=RIGHT, score=10
    ),
    Attack(
        name="timestamp-endless",
        why="a timestamp.txt that is a link to /dev/zero",
        place=_link_time,
        answers=RIGHT,
        score=10,
        stock="it reads until the memory is full",
    ),
    Attack(
        name="timestamp-folder",
        why="a timestamp.txt that is a folder",
        place=_folder_time,
        answers=RIGHT,
        score=10,
    ),
    Attack(
        name="timestamp-year-0",
        why="a timestamp of the year 0000, which no date holds",
        place=_time("0000-01-01 00:00:00 UTC"),
        answers=RIGHT,
        score=10,
    ),
)
