"""Reads members out of packages without trusting them: nothing is run, and no name in an archive becomes a path here.

Members are returned as bytes, within limits that hold for what comes out, whatever an archive says of itself.
"""

import gzip
import io
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from scratch.data.cache import DataError

MOST_BYTES = 200_000_000  # of all members read from a package, and of all that a compressed tar file holds
MOST_MEMBERS = 100_000
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    gzip.BadGzipFile,
    NotImplementedError,
    RuntimeError,
)


def members(
    archive: Path | bytes, patterns: Sequence[str], name: str, most: int = MOST_BYTES
) -> dict[str, bytes]:
    """Return the content of all members that the patterns name, by their names.

    In a pattern, ``*`` stands for anything but a slash, ``**/`` for any folders, and ``!`` enters an archive inside.

    Args:
        archive: a zip file (a wheel is one) or a compressed tar file, by its path or as its bytes.
        patterns: what to read; each must name something.
        name: what to call the archive in errors.
        most: how many bytes may come out.

    Raises:
        DataError: the archive is broken, lacks something, or is built to do harm.
    """
    outer = {pattern: pattern.partition("!")[0] for pattern in patterns}
    wanted = {pattern: _regex(part) for pattern, part in outer.items()}
    found: dict[str, bytes] = {}
    left = most
    try:
        with io.BytesIO(archive) if isinstance(archive, bytes) else archive.open("rb") as file:
            for member, regular, stream in _walk(file, name, most):
                if not any(regex.fullmatch(member) for regex in wanted.values()):
                    continue
                if not regular or member in found or not _is_plain(member):
                    raise DataError(
                        f"{name} holds {member!r} in a form that no honest package has: it is not used"
                    )
                found[member] = stream.read(left + 1)
                left -= len(found[member])
                if left < 0:
                    raise DataError(
                        f"{name} unpacks to more than {most:,} bytes, far more than it should: it is not used"
                    )
    except _BROKEN as error:
        raise DataError(
            f"{name} is broken ({error or type(error).__name__}): remove it and run `make data` again"
        ) from error
    for pattern, regex in wanted.items():
        if not any(regex.fullmatch(member) for member in found):
            raise DataError(
                f"{name} holds no {outer[pattern]}: it is not the package that the course was made with"
            )
    return _entered(found, patterns, name, left)


def _entered(found: dict[str, bytes], patterns: Sequence[str], name: str, left: int) -> dict[str, bytes]:
    """Replace archives inside by the members that are wanted of them."""
    result = {}
    for member, content in found.items():
        inner = [
            p.partition("!")[2]
            for p in patterns
            if "!" in p and _regex(p.partition("!")[0]).fullmatch(member)
        ]
        if not inner:
            result[member] = content
            continue
        inside = members(content, inner, f"{name}, in it {PurePosixPath(member).name},", left)
        result |= {f"{member}!{name}": content for name, content in inside.items()}
    return result


def _walk(file: IO[bytes], name: str, most: int) -> Iterator[tuple[str, bool, IO[bytes]]]:
    """Each member's name, whether it is a regular file, and its content as a stream."""
    if file.read(2) == b"\x1f\x8b":
        file.seek(0)
        with tarfile.open(fileobj=_Limited(gzip.GzipFile(fileobj=file), name, most), mode="r|") as tar:
            for count, entry in enumerate(tar):
                _few(count, name)
                yield entry.name, entry.isreg(), tar.extractfile(entry) if entry.isreg() else io.BytesIO()
        return
    with zipfile.ZipFile(file) as archive:
        for count, info in enumerate(archive.infolist()):
            _few(count, name)
            mode = stat.S_IFMT(info.external_attr >> 16)
            if not info.is_dir():
                with archive.open(info) as stream:
                    yield info.filename, mode in (0, stat.S_IFREG), stream


def _few(count: int, name: str) -> None:
    if count >= MOST_MEMBERS:
        raise DataError(
            f"{name} has more than {MOST_MEMBERS:,} members, far more than it should: it is not used"
        )


class _Limited(io.RawIOBase):
    """A stream that gives so many bytes and no more, so that a small file cannot keep a reader busy for hours."""

    def __init__(self, stream: IO[bytes], name: str, most: int) -> None:
        self.stream, self.name, self.left = stream, name, most

    def readable(self) -> bool:
        """It can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read on; raises DataError where the limit is reached."""
        data = self.stream.read(min(size, self.left + 1) if size >= 0 else self.left + 1)
        self.left -= len(data)
        if self.left < 0:
            raise DataError(f"{self.name} unpacks to far more than it should: it is not used")
        return data


def _is_plain(member: str) -> bool:
    parts = member.split("/")
    return not (set(parts) & {"", ".", ".."} or re.search(r"[\\:\x00-\x1f]", member))


def _regex(pattern: str) -> re.Pattern[str]:
    parts = (re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split("**/"))
    return re.compile("(?:[^/]+/)*".join(parts))
