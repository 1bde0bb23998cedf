"""Files that are there as a whole or not at all, one run at a time, and full disks told from other errors."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proctor.course import CourseError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room, no quota, no more than this for one file


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no room left to write."""
    return isinstance(error, OSError) and error.errno in _FULL


def disk_full(where: Path | str) -> CourseError:
    """The one sentence about a full disk."""
    return CourseError(
        f"there is no room left on the disk of {where}; make room and run the command again: "
        "what has been graded is kept"
    )


def write_whole(path: Path, data: bytes) -> None:
    """Write a file for this account's eyes only; whoever reads it, whenever, finds all of it or none."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def read_plain(path: Path, most: int) -> bytes | None:
    """The content of a regular file of at most so many bytes; None for anything else, a symbolic link included."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(most + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return data if len(data) <= most else None


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Hold a lock that the kernel lets go of when this process ends, however it ends. Raises CourseError."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CourseError(f"{what} is running already; wait for it to end, or stop it") from error
        yield
