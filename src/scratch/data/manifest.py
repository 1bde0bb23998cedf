"""What `make data` fetches and the course reads: ``manifest.toml`` as typed records."""

import hashlib
import json
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

PATH = Path(__file__).with_name("manifest.toml")


@dataclass(frozen=True)
class Package:
    """One file of a package registry, pinned, and what is used of it."""

    name: str
    version: str
    file: str
    sha256: str
    size: int  # bytes
    licence: str
    homepage: str
    used: str
    members: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def key(self) -> str:
        """Names what is kept of the package; differs where anything of it, or of what is used, differs."""
        return f"{self.name}-{self.version}-{_digest([self.sha256, *self.members])}"


@dataclass(frozen=True)
class DataSet:
    """What is built of some packages, under one name."""

    name: str
    build: int
    units: tuple[str, ...]
    what: str
    packages: tuple[Package, ...]
    note: str = ""
    verbatim: bool = False  # what is built is what was in the package: nothing else need be kept

    @property
    def key(self) -> str:
        """Names the folder of what is built; differs where what it is built of, or how, differs."""
        return f"{self.name}-{_digest([self.build, *(package.key for package in self.packages)])}"


@dataclass(frozen=True)
class Installed:
    """A package whose data are read where it is installed."""

    name: str
    licence: str
    homepage: str
    used: str
    units: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """All sets by name, in the order in which they are built, and what is read where it is installed."""

    sets: dict[str, DataSet]
    installed: tuple[Installed, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a manifest; a field too many or too few raises TypeError."""
        table = tomllib.loads(path.read_text("utf-8"))
        sets = [_set(entry) for entry in table["sets"]]
        installed = tuple(Installed(**_tuples(entry)) for entry in table.get("installed", ()))
        return cls({entry.name: entry for entry in sets}, installed)


@cache
def manifest() -> Manifest:
    """Return the course's own manifest."""
    return Manifest.read(PATH)


def _set(entry: dict[str, Any]) -> DataSet:
    packages = tuple(Package(**_tuples(package)) for package in entry["packages"])
    note = " ".join(entry.get("note", "").split())
    return DataSet(**{**_tuples(entry), "packages": packages, "note": note})


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
