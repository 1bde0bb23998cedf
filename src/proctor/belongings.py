"""The files of a submission as its cells have left them, put back after the checks of each exercise.

What the checks of one exercise write, change or remove, those of the next never see: otherwise one exercise could
spoil another, or leave word for it. A process that the notebook has started may be at work in the same folders, and
put a link where a folder was: so every step is taken from an open folder by one name, and no link is followed.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

MAX_DEPTH = 40  # folders in folders; what lies deeper is removed, and not brought back

_NOFOLLOW, _DIRECTORY, _NONBLOCK, _PATH = (
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_PATH")
)


@dataclass(slots=True)
class _Kept:
    """A folder's entries, a file's bytes, a link's target; None where nothing can be put back (a pipe)."""

    mode: int
    seen: tuple[int, int]  # inode, and last change by the kernel's clock, which nobody in a sandbox sets
    content: dict[str, _Kept] | bytes | str | None


class Belongings:
    """What lies in some folders at one moment; it is held in memory, whose size the folders' own limits bound."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Take it down."""
        self._kept: dict[Path, _Kept] = {}
        for path in folders:
            with suppress(OSError), _opened(str(path)) as folder:
                about = os.fstat(folder)
                self._kept[path] = _Kept(about.st_mode, _seen(about), _entries(folder, MAX_DEPTH))

    def put_back(self) -> None:
        """Remove what has come since, bring back what is gone, and undo what was changed."""
        for path, kept in self._kept.items():
            with suppress(OSError):
                path.chmod(stat.S_IMODE(kept.mode))
                with _opened(str(path)) as folder:
                    _restore(folder, kept.content)


def _entries(folder: int, depth: int) -> dict[str, _Kept]:
    found = {}
    for name in os.listdir(folder):
        with suppress(OSError):
            about = _stat(name, folder)
            found[name] = _Kept(about.st_mode, _seen(about), _content(name, about.st_mode, folder, depth))
    return found


def _content(name: str, mode: int, folder: int, depth: int) -> dict[str, _Kept] | bytes | str | None:
    with suppress(OSError):
        if stat.S_ISDIR(mode) and depth:
            with _opened(name, folder) as inner:
                return _entries(inner, depth - 1)
        if stat.S_ISLNK(mode):
            return os.readlink(name, dir_fd=folder)
        if stat.S_ISREG(mode):
            with (
                _file(name, os.O_RDONLY | _NONBLOCK, folder) as descriptor,
                os.fdopen(os.dup(descriptor), "rb") as file,
            ):
                return file.read()
    return None


def _restore(folder: int, entries: object) -> None:
    if not isinstance(entries, dict):
        return
    for name in os.listdir(folder):
        with suppress(OSError):
            kind = stat.S_IFMT(_stat(name, folder).st_mode)
            if name in entries and stat.S_IFMT(entries[name].mode) == kind:
                continue
            if kind == stat.S_IFDIR:
                shutil.rmtree(name, ignore_errors=True, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)
    for name, kept in entries.items():
        with suppress(OSError):
            _bring_back(name, kept, folder)


def _bring_back(name: str, kept: _Kept, folder: int) -> None:
    try:
        about = _stat(name, folder)
    except FileNotFoundError:
        about = None
    match kept.content:
        case dict():
            if about is None:
                os.mkdir(name, 0o700, dir_fd=folder)
            _allow(name, stat.S_IMODE(kept.mode), folder)
            with _opened(name, folder) as inner:
                _restore(inner, kept.content)
            return
        case str():
            if about is None or os.readlink(name, dir_fd=folder) != kept.content:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
                os.symlink(kept.content, name, dir_fd=folder)
        case bytes():
            if about is not None and _seen(about) == kept.seen:
                return
            if about is not None:
                _allow(name, 0o600, folder)
            # In place where it is still there: a process of the notebook may have it open.
            with _file(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, folder) as descriptor:
                with os.fdopen(os.dup(descriptor), "wb") as file:
                    file.write(kept.content)
                os.fchmod(descriptor, stat.S_IMODE(kept.mode))
            kept.seen = _seen(_stat(name, folder))


def _allow(name: str, mode: int, folder: int) -> None:
    """Set a mode, of whatever has this name now and is no link."""
    if stat.S_IMODE(_stat(name, folder).st_mode) != mode:
        with _file(name, _PATH, folder) as descriptor:
            os.chmod(f"/proc/self/fd/{descriptor}", mode)  # noqa: PTH101 - it cannot be opened otherwise


def _stat(name: str, folder: int) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def _seen(about: os.stat_result) -> tuple[int, int]:
    return about.st_ino, about.st_ctime_ns


def _opened(name: str, folder: int | None = None) -> AbstractContextManager[int]:
    return _file(name, os.O_RDONLY | _DIRECTORY, folder)


@contextmanager
def _file(name: str, flags: int, folder: int | None) -> Iterator[int]:
    descriptor = os.open(name, flags | _NOFOLLOW, 0o600, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
