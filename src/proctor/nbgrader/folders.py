"""Folders that somebody else has filled: copied without following a link, or swept of what is no plain file."""

from __future__ import annotations

import fnmatch
import logging
import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from traitlets.config import Application

SHOWN = 20  # lines of the log for one submission
CHUNK = 1 << 20


class Refused(Exception):
    """A submission that is not taken at all: one sentence for people."""


@dataclass(kw_only=True)
class Copy:
    """Copies a folder that somebody else can write to, while it is read: no link is ever followed."""

    file_bytes: int
    all_bytes: int
    entries: int
    depth: int
    ignore: tuple[str, ...] = ()
    include: tuple[str, ...] = ("*",)
    shared: bool = False  # whether the group of teachers may write to the copy
    left_out: list[str] = field(default_factory=list)
    _owner: int = -1

    def folder(self, source: Path, target: Path) -> None:
        """Copy ``source`` to ``target``, which is new. Raises Refused, OSError; ``left_out`` tells what is missing."""
        with opened(source) as descriptor:
            self._owner = os.fstat(descriptor).st_uid
            self._inside(descriptor, "", target)

    def _inside(self, descriptor: int, path: str, target: Path) -> None:
        target.mkdir()
        if self.shared:
            target.chmod(target.stat().st_mode | 0o2770)
        with os.scandir(descriptor) as entries:
            for entry in entries:  # one by one: there may be millions
                if any(fnmatch.fnmatch(entry.name, pattern) for pattern in self.ignore):
                    continue
                self.entries -= 1
                if self.entries < 0:
                    raise Refused("it has more files and folders than a submission may have")
                inner = f"{path}{entry.name}"
                try:
                    why = self._entry(descriptor, entry, inner, target / entry.name)
                except OSError as error:
                    why = f"cannot be read ({error.strerror or error})"
                if why:
                    self.left_out.append(f"{inner!r} {why}; it is left out")

    def _entry(self, parent: int, entry: os.DirEntry[str], path: str, target: Path) -> str:
        """Copy one file or folder; why it is left out, where it is."""
        if not fit(entry.name):
            return "has a name that is no text"
        about = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(about.st_mode):
            if path.count("/") + 1 > self.depth:
                return f"lies more than {self.depth} folders deep"
            with opened(entry.name, parent) as descriptor:
                self._inside(descriptor, path + "/", target)
            return ""
        if not stat.S_ISREG(about.st_mode):
            return f"is {kind(about.st_mode)}"
        if not any(fnmatch.fnmatch(entry.name, pattern) for pattern in self.include):
            return "is not among the files to hand in"
        with opened(entry.name, parent, folder=False) as descriptor:
            return self._file(descriptor, target)

    def _file(self, descriptor: int, target: Path) -> str:
        about = os.fstat(descriptor)  # of what is open now, whatever the name meant a moment ago
        if not stat.S_ISREG(about.st_mode):
            return f"is {kind(about.st_mode)}"
        if about.st_uid != self._owner:  # a hard link to a file of the teacher's, or of another learner's
            return f"belongs to another account ({account(about.st_uid)})"
        most = min(self.file_bytes, self.all_bytes)
        with target.open("xb") as file:
            size = 0
            while size <= most and (part := os.read(descriptor, CHUNK)):
                size += file.write(part)
        if size > self.file_bytes:
            target.unlink()
            return f"is larger than {self.file_bytes / 1e6:g} MB"
        self.all_bytes -= size
        if self.all_bytes < 0:
            raise Refused("it is larger than a submission may be (CourseDirectory.max_dir_size)")
        if self.shared:
            target.chmod(target.stat().st_mode | 0o660)
        return ""


def sweep(*, notebooks: list[str], **_: object) -> None:
    """nbgrader's hook before it autogrades: take links, FIFOs and the like out of a folder that was copied by hand.

    What goes holds nothing of the learner's: a link is a name. nbgrader would follow it into what the learner is shown.
    Raises SystemExit, since nbgrader goes on after any other exception of a hook.
    """
    log = Application.instance().log if Application.initialized() else logging.getLogger("proctor.nbgrader")
    folders = {os.path.dirname(path) for path in notebooks}  # noqa: PTH120 - names that are no text, too
    left_out: list[str] = []
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as entries:
            for entry in list(entries):
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    folders.add(entry.path)
                elif not stat.S_ISREG(mode):
                    try:
                        os.unlink(entry.path)  # noqa: PTH108
                    except OSError as error:
                        raise SystemExit(
                            f"{entry.path!r} is {kind(mode)}; remove it and grade again"
                        ) from error
                    left_out.append(f"{entry.path!r} is {kind(mode)}; it has been removed")
    for line in told_of(left_out):
        log.warning("%s", line)


@contextmanager
def opened(path: str | Path, parent: int | None = None, *, folder: bool = True) -> Iterator[int]:
    """A descriptor of a file or a folder that is no link; no FIFO is waited for."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_DIRECTORY if folder else 0)
    descriptor = os.open(path, flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def kind(mode: int) -> str:
    """What a thing in a folder is, in words."""
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFDIR: "a folder",
    }
    return kinds.get(stat.S_IFMT(mode), "not a plain file")


def fit(name: str) -> bool:
    """Whether a name is text: no bytes that are not UTF-8, no escape codes, nothing that turns the line around."""
    return not any(unicodedata.category(letter) in ("Cc", "Cf", "Cs") for letter in name)


def account(number: int) -> str:
    """The name of an account."""
    with suppress(ImportError, KeyError):
        import pwd

        return pwd.getpwuid(number).pw_name
    return "unknown id"


def told_of(lines: list[str]) -> list[str]:
    """The first lines, and how many more there are."""
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f"… and {more} more"]
