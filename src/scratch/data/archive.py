"""What is used of a package, kept as one small zip file: the same bytes in, the same bytes out."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from scratch.data.cache import DataError

Sources = Mapping[str, Mapping[str, bytes]]
"""The members that are used, by their names, of each package by its name."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_archive(members: Mapping[str, bytes]) -> bytes:
    """Return a zip file of some members, which depends on nothing else."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), members[name], zipfile.ZIP_DEFLATED)
    return file.getvalue()


def read_archive(path: Path | BinaryIO) -> dict[str, bytes]:
    """Return the members of a zip file that ``write_archive`` made; raises DataError where it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path} is damaged ({error}): remove it and run `make data` again") from error
