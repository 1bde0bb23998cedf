"""Where built data lie, and how they come to lie there: whole, or not at all.

The folder is the user's cache, or what the environment variable ``SCRATCH_DATA`` names. In it ::

    translation-0b8a2c…/    a set that is built: its files, and provenance.json, which lists them
    sources/                what is used of each package, so that a set can be built anew without a download
    downloads/              packages that are fetched and checked, until what is used of them is taken
    packages/               packages, where they are to be kept (--keep)
    unfinished/             what a run is at work on; left behind, it is rubbish
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from scratch.data.manifest import DataSet, manifest

VARIABLE = "SCRATCH_DATA"
PROVENANCE = "provenance.json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LOCKED = (errno.EACCES, errno.EPERM, errno.EROFS)


class DataError(Exception):
    """One sentence: what is wrong, where, and what to do."""


class NotBuilt(DataError):
    """The data are not on this machine yet."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the data '{name}' are not built in {root()} yet: run `make data`, or `python -m scratch.data {name}`"
        )


def root() -> Path:
    """Return the folder that holds all data; it need not exist."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else platformdirs.user_cache_path("transformers-from-scratch")


def folder(data: DataSet) -> Path:
    """Return where a set lies when it is built."""
    return root() / data.key


def is_whole(data: DataSet) -> bool:
    """Whether a set is built, and every file that belongs to it is there in its size."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        files = _listed(data)
        return all((folder(data) / name).stat().st_size == entry["size"] for name, entry in files.items())
    return False


def damaged(data: DataSet) -> list[str]:
    """Return the names of the files of a built set that are not what was built."""
    try:
        files = _listed(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [PROVENANCE]
    return [name for name, entry in files.items() if _sha256(folder(data) / name) != entry["sha256"]]


def read(name: str, file: str) -> str:
    """Return the text of a file of a built set of the course.

    Raises:
        NotBuilt: the set has not been built on this machine.
        DataError: the file is lost or cannot be read.
    """
    path = built(name) / file
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): run `make data`, which builds it anew") from error


def built(name: str) -> Path:
    """Return the folder of a built set of the course; raises NotBuilt."""
    data = manifest().sets[name]
    if not (folder(data) / PROVENANCE).is_file():
        raise NotBuilt(name)
    return folder(data)


def credit(name: str) -> str:
    """Return in a line what a set of the course is made of: packages, versions and licences."""
    return ", ".join(f"{package} ({package.licence})" for package in manifest().sets[name].packages)


def publish(data: DataSet, build: Callable[[Path], dict[str, int]]) -> None:
    """Build a set in a folder of its own, list its files with their hashes, and put it in its place in one move."""
    with workplace() as work:
        made = work / data.key
        made.mkdir()
        counts = build(made)
        files = {
            path.relative_to(made).as_posix(): {"size": path.stat().st_size, "sha256": _sha256(path)}
            for path in sorted(made.rglob("*"))
            if path.is_file()
        }
        packages = [
            {"name": p.name, "version": p.version, "sha256": p.sha256, "licence": p.licence}
            for p in data.packages
        ]
        listed = {
            "set": data.name,
            "build": data.build,
            "packages": packages,
            "counts": counts,
            "files": files,
        }
        (made / PROVENANCE).write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", "utf-8")
        for path in made.rglob("*"):
            _to_disk(path)
        place = folder(data)
        if place.exists():
            if is_whole(data):  # somebody was quicker
                return
            place.rename(work / "damaged")
        made.rename(place)
        _to_disk(place.parent)


def counts(data: DataSet) -> dict[str, int]:
    """Return what was counted as a set was built."""
    return json.loads((folder(data) / PROVENANCE).read_text("utf-8"))["counts"]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with workplace() as work:
        new = work / path.name
        new.write_bytes(content)
        _to_disk(new)
        new.replace(path)


@contextmanager
def workplace() -> Iterator[Path]:
    """A new empty folder on the same disk, removed in the end."""
    unfinished = root() / "unfinished"
    unfinished.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=unfinished))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def alone(wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Let one run at a time write. The lock ends with the process, however it ends.

    Another run calls ``wait`` and waits; without one it raises BlockingIOError.
    """
    root().mkdir(parents=True, exist_ok=True)
    with (root() / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wait is None:
                raise
            wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        for left in (root() / "unfinished").glob("*"):  # by runs that were interrupted
            shutil.rmtree(left, ignore_errors=True)
        yield


@contextmanager
def told() -> Iterator[None]:
    """Turn what the file system refuses into one sentence."""
    try:
        yield
    except OSError as error:
        where = error.filename or root()
        if error.errno in _FULL:
            said = f"no room is left on the disk of {root()}: make room and run it again; what is finished is kept"
        elif error.errno in _LOCKED:
            said = f"{where} cannot be written ({error.strerror}): name another folder by {VARIABLE}=…"
        else:
            said = f"{where}: {error.strerror or error}; a folder of your own can be named by {VARIABLE}=…"
        raise DataError(said) from error


def disk_use(path: Path) -> int:
    """Return the bytes of all files below a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for folder, _, files in os.walk(path):  # Path.rglob raises where a folder vanishes as it looks
        for name in files:
            with suppress(OSError):
                total += Path(folder, name).lstat().st_size
    return total


def _listed(data: DataSet) -> dict[str, dict[str, Any]]:
    return json.loads((folder(data) / PROVENANCE).read_text("utf-8"))["files"]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
