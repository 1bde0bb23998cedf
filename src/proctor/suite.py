"""The checks of a folder: read once by pytest, and called directly where none of them needs pytest to run.

A pytest session costs as much as a dozen checks, and grading a class would hold one for every submission. Its part in
running a plain check, one that asks for nothing but ``student`` and ``rng``, is to call a function.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

from proctor.pytest_plugin import MARKS
from proctor.undisturbed import forget

GIVEN = {"student", "rng"}  # what a door gives to a check
_OURS = {mark.split("(")[0].split(":")[0] for mark in MARKS}
_QUIET = (
    "cacheprovider stepwise faulthandler logging warnings doctest junitxml pastebin terminalreporter terminal "
    "debugging unittest setuponly setupplan legacypath threadexception unraisableexception"
).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: what its marks and its docstring say, and how to call it."""

    name: str
    title: str
    exercise: str
    points: float = 1.0
    needs: tuple[str, ...] = ()
    draws: int | None = None
    in_place: bool = False
    seed: str = ""  # what its inputs are drawn by
    takes: tuple[str, ...] = ()
    call: Callable[..., Any]
    fixtures: dict[str, Any] = field(default_factory=dict)  # what pytest has set up for it

    @classmethod
    def of(cls, item: pytest.Item | Any) -> Check:
        """The check that pytest has collected, with the fixtures that it has set up by now."""
        takes = tuple(item._fixtureinfo.argnames)
        given = getattr(item, "funcargs", None) or {}
        draws = item.get_closest_marker("draws")
        return cls(
            name=item.name,
            title=(item.function.__doc__ or item.name).strip().splitlines()[0].rstrip("."),
            exercise=exercise_of(item),
            points=points_mark(item),
            needs=tuple(str(mark.args[0]) for mark in item.iter_markers("needs")),
            draws=draws.args[0] if draws else None,
            in_place=item.get_closest_marker("in_place") is not None,
            seed=f"{item.path.stem}::{item.name}",
            takes=takes,
            call=item.obj,
            fixtures={name: given[name] for name in takes if name in given and name not in GIVEN},
        )


def exercise_of(item: pytest.Item | Any) -> str:
    """The exercise that a check belongs to; empty for a test that is no check."""
    mark = item.get_closest_marker("exercise")
    return str(mark.args[0]) if mark and mark.args else ""


def points_mark(item: pytest.Item) -> float:
    """What a check is worth."""
    mark = item.get_closest_marker("points")
    return float(mark.args[0]) if mark else 1.0


@dataclass(slots=True)
class Collector:
    """The pytest plugin of a run that only reads checks."""

    items: list[pytest.Item] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def pytest_configure(self, config: pytest.Config) -> None:
        for mark in MARKS:
            config.addinivalue_line("markers", mark)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.problems.append(first_line(report))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.items = list(items)


def collect(folder: Path) -> Collector:
    """Let pytest read the checks in a folder, without running one."""
    collector = Collector()
    pytest.main([str(folder), "--collect-only", *options(folder)], plugins=[collector])
    forget(folder)
    return collector


def plain_checks(folder: Path) -> Iterator[Check] | None:
    """The checks in a folder in their order, ready to be called; None where it takes pytest to run them.

    Their modules are executed anew each time, so that nothing passes from one learner's run to the next.
    """
    stamp = tuple(
        (str(path), found.st_mtime_ns, found.st_size)
        for path in sorted(folder.rglob("*.py"))
        if (found := path.stat())
    )
    found = _read(folder, stamp)
    if found is None:
        return None
    try:
        modules = {name: _module(name, path, code) for name, (path, code) in found.modules.items()}
    except Exception:
        return None  # pytest tells what is wrong with it
    return (found.bound(place, modules) for place in found.places)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a check stands: its module, its class (or none), its function."""

    module: str
    owner: str | None
    function: str
    check: Check


@dataclass(frozen=True, slots=True)
class _Found:
    modules: dict[str, tuple[Path, CodeType]]
    places: tuple[_Place, ...]

    def bound(self, place: _Place, modules: dict[str, ModuleType]) -> Check:
        owner: Any = modules[place.module]
        if place.owner is not None:
            owner = getattr(owner, place.owner)()  # an instance for each check, as pytest has it
        known = {name: getattr(place.check, name) for name in Check.__slots__}
        return Check(**known | {"call": getattr(owner, place.function)})


@lru_cache(maxsize=16)
def _read(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> _Found | None:
    collector = collect(folder)
    if collector.problems or not collector.items or not all(map(_is_plain, collector.items)):
        return None
    modules: dict[str, tuple[Path, CodeType]] = {}
    places = []
    for item in collector.items:
        module, owner = item.module, item.cls  # type: ignore[attr-defined]
        if module.__name__ not in modules:
            code = compile(item.path.read_bytes(), str(item.path), "exec", dont_inherit=True)
            modules[module.__name__] = item.path, code
        function = item.originalname  # type: ignore[attr-defined]
        places.append(_Place(module.__name__, owner and owner.__name__, function, Check.of(item)))
    return _Found(modules, tuple(places))


def _is_plain(item: pytest.Item | Any) -> bool:
    """Whether a check takes nothing of pytest's: no other fixture, set-up, parameter or mark."""
    owner = item.cls
    return (
        isinstance(item, pytest.Function)
        and exercise_of(item) != ""
        and set(item.fixturenames) <= GIVEN
        and not hasattr(item, "callspec")
        and all(mark.name in _OURS for mark in item.iter_markers())
        and (owner is None or getattr(item.module, owner.__name__, None) is owner)
    )


def _module(name: str, path: Path, code: CodeType) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # `undisturbed` takes it away
    exec(code, vars(module))  # noqa: S102 - what an import of the file does
    return module


def first_line(report: pytest.CollectReport) -> str:
    """Why a check file could not be read, in one line."""
    lines = str(report.longrepr).strip().splitlines() or ["nobody knows why"]
    return f"{Path(report.nodeid).name}: {lines[-1].removeprefix('E').strip()[:300]}"


def options(folder: Path) -> list[str]:
    """What pytest is called with: no file, plugin or setting but the checks of this folder."""
    quiet = [f"-pno:{name}" for name in _QUIET]
    plain = ["--import-mode=importlib", "--assert=plain", "--noconftest", "--capture=no", "--strict-markers"]
    return [*plain, f"--rootdir={folder}", "-c", os.devnull, "-opython_files=test_*.py", *quiet]
