"""The folders that grading writes, one for each submission: made beside their place, then put there whole.

Whoever looks at any moment, and whenever the process is killed, finds the old folder, the new one or none.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from proctor.nbgrader.folders import kind, opened

NEW, OLD = ".proctor-new-", ".proctor-old-"  # hidden, so that nbgrader does not take them for submissions


def copy_plain(source: Path, target: Path, ignore: Collection[str], left_out: list[str]) -> None:
    """Copy what stands beside the notebooks, as nbgrader does, but follow no link and wait for no FIFO.

    What is not copied is told in ``left_out``. Raises OSError where the copy cannot be written.
    """
    try:
        with opened(source) as descriptor:
            _copy_inside(descriptor, "", target, (*ignore, "*.ipynb"), left_out)
    except (FileNotFoundError, NotADirectoryError):
        return


def _copy_inside(folder: int, path: str, target: Path, ignore: Collection[str], left_out: list[str]) -> None:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if any(_matches(entry.name, pattern) for pattern in ignore):
            continue
        inner, mode = path + entry.name, entry.stat(follow_symlinks=False).st_mode
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            left_out.append(f"{inner!r} is {kind(mode)} and has not been copied")
            continue
        try:
            with opened(entry.name, folder, folder=stat.S_ISDIR(mode)) as descriptor:
                if stat.S_ISDIR(mode):
                    _copy_inside(descriptor, f"{inner}/", target / entry.name, ignore, left_out)
                    continue
                target.mkdir(parents=True, exist_ok=True)
                with open(descriptor, "rb", closefd=False) as read, (target / entry.name).open("wb") as write:
                    shutil.copyfileobj(read, write)
        except PermissionError:
            left_out.append(f"{inner!r} cannot be read and has not been copied")


def _matches(name: str, pattern: str) -> bool:
    """As a shell's pattern: a star does not stand for a dot at the beginning."""
    return fnmatch.fnmatchcase(name, pattern) and (pattern.startswith(".") or not name.startswith("."))


@contextmanager
def made_beside(target: Path) -> Iterator[Path]:
    """A new folder that is to take the place of ``target``: to be filled, and put there with ``put``."""
    new = target.with_name(NEW + target.name)
    remove(new)
    new.mkdir(parents=True)
    try:
        yield new
    finally:
        remove(new)


def put(new: Path, target: Path) -> None:
    """Put a finished folder in its place."""
    old = target.with_name(OLD + target.name)
    remove(old)
    if os.path.lexists(target):
        target.rename(old)
    new.rename(target)
    remove(old)


def same(new: Path, target: Path) -> bool:
    """Whether two folders hold the same files, with the same permissions."""
    return target.is_dir() and not target.is_symlink() and _content(new) == _content(target)


def _content(folder: Path) -> dict[str, tuple[int, bytes | None]]:
    content: dict[str, tuple[int, bytes | None]] = {}
    for inner, folders, files in os.walk(folder):
        for name in files:
            path = Path(inner, name)
            mode = path.lstat().st_mode
            content[str(path.relative_to(folder))] = mode, path.read_bytes() if stat.S_ISREG(mode) else None
        for name in folders:
            path = Path(inner, name)
            content[str(path.relative_to(folder))] = path.lstat().st_mode, None
    return content


def permit(folder: Path, permissions: int, *, shared: bool) -> None:
    """Give all files of a folder nbgrader's permissions; shared folders belong to the group of teachers."""
    for inner, _, names in os.walk(folder):
        for name in names:
            Path(inner, name).chmod(permissions)
        if shared:
            Path(inner).chmod(Path(inner).stat().st_mode | 0o2770)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
