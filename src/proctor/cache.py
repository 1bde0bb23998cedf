"""Verdicts that are kept, so that a run which was stopped goes on where it was, and a second one is quick.

A verdict is found by all that it depends on: the bytes of the submission, the student, the checks and the released
notebook, the course key, the course's library and what is installed. No time of day is part of it. Each entry is
signed with the course key: whoever can put a file here still cannot put a score here.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from proctor.course import CourseError
from proctor.files import read_plain, write_whole
from proctor.grade import Graded, Material
from proctor.results import Outcome, ResultError, from_json, to_dict

FORM = b"proctor verdict 1"  # changes where entries are laid out anew
MAX_ENTRY = 100 << 20  # bytes; the figures of one submission are limited to less
LEFT_OUT = (
    "__pycache__",
    ".ipynb_checkpoints",
    "accepted",
    "equivalents.toml",
)  # of a unit's folder: no verdict depends on these


class Verdicts:
    """The kept verdicts on one unit, in ``.proctor/verdicts/UNIT/``; what cannot be read does not exist."""

    def __init__(self, root: Path, material: Material, key: bytes) -> None:
        self.digest = material_digest(material)
        self._key = hmac.digest(key, FORM, "sha256")  # the course key itself goes nowhere
        self._basis = _digest([self.digest.encode(), library_digest(), environment_digest()])
        self._folder = root / ".proctor" / "verdicts" / material.unit
        self._used: set[str] = set()

    def name_of(self, student: str, content: bytes) -> str:
        """The name of the verdict on these bytes, handed in by this student."""
        parts = [self._basis, student.encode(errors="surrogateescape"), hashlib.sha256(content).digest()]
        return hmac.new(self._key, _digest(parts), "sha256").hexdigest()

    def get(self, name: str) -> Graded | None:
        """The kept verdict of that name, if there is one that is whole and ours."""
        self._used.add(name)
        mark, _, payload = (read_plain(self._folder / name, MAX_ENTRY) or b"").partition(b"\n")
        if not hmac.compare_digest(mark, self._sign(payload)):
            return None
        with suppress(msgspec.MsgspecError, ResultError, KeyError, TypeError):
            data = msgspec.json.decode(payload)
            if data["name"] == name:  # an entry that was copied speaks of another submission
                return Graded(
                    verdict=from_json(msgspec.json.encode(data["verdict"])), outputs=data["outputs"]
                )
        return None

    def put(self, name: str, graded: Graded) -> None:
        """Keep a verdict, unless the next run may come to another. Raises OSError."""
        self._used.add(name)
        if not lasting(graded):
            return
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        data: dict[str, Any] = {"name": name, "verdict": to_dict(graded.verdict), "outputs": graded.outputs}
        payload = msgspec.json.encode(data)
        write_whole(self._folder / name, self._sign(payload) + b"\n" + payload)

    def prune(self) -> None:
        """Remove what this run had no use for: verdicts on replaced submissions, and leftovers of a killed run."""
        with suppress(OSError):
            for path in self._folder.iterdir():
                if path.name not in self._used:
                    path.unlink()

    def _sign(self, payload: bytes) -> bytes:
        return hmac.new(self._key, payload, "sha256").hexdigest().encode()


def lasting(graded: Graded) -> bool:
    """Whether the verdict would be the same on a machine in order.

    A grader error, a time-out and a process that ended may be the machine's doing: a regrade tries these again.
    """
    results = graded.verdict.exercises
    broken = any(c.outcome is Outcome.GRADER_ERROR for result in results for c in result.checks)
    return graded.undisturbed and not broken and not graded.verdict.needs_person


def material_files(root: Path, unit: str) -> Iterator[Path]:
    """The files of the course that a verdict depends on."""
    yield root / "course.toml"
    for folder in (root / "graders" / unit, root / "exercises" / unit):
        yield from _files(folder)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder).parts
        if path.is_file() and path.suffix != ".pyc" and not any(part in LEFT_OUT for part in inner):
            yield path


def material_digest(material: Material) -> str:
    """What the checks and the release of a unit come to, as a digest. Raises CourseError."""
    told = [
        material.unit,
        material.titles,
        material.points,
        material.forbidden,
        material.allowed,
        list(material.preload),
    ]
    try:
        parts = [msgspec.json.encode(told), material.notebook.read_bytes(), *_contents(material.checks)]
    except OSError as error:
        raise CourseError(f"{error.filename}: {error.strerror}; the unit cannot be graded") from error
    return _digest(parts).hex()


@cache
def library_digest() -> bytes:
    """What the course's own code comes to: a fix of a check's helper is a reason to grade anew."""
    parts: list[bytes] = []
    for package in ("scratch", "proctor"):
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            parts += _contents(Path(folder), "*.py")
    return _digest(parts)


@cache
def environment_digest() -> bytes:
    """What the Python and all that is installed beside it come to, told by folder names; and Keras's backend."""
    installed = {path.name for entry in sys.path for path in Path(entry or ".").glob("*.dist-info")}
    backend = os.environ.get("KERAS_BACKEND", "")
    return _digest(text.encode() for text in (sys.version, sys.platform, backend, *sorted(installed)))


def _contents(folder: Path, pattern: str = "*") -> Iterator[bytes]:
    for path in _files(folder):
        if path.match(pattern):
            yield path.relative_to(folder).as_posix().encode(errors="surrogateescape")
            yield path.read_bytes()


def _digest(parts: Iterable[bytes]) -> bytes:
    """One digest of several parts, each with its length: no two lists come to the same."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8))
        total.update(part)
    return total.digest()
