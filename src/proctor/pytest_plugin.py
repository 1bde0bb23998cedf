"""The checks at a terminal: ``pytest graders/08_attention --notebook my-work/08_attention/attention.ipynb``.

Loaded by every pytest run of this environment, so it imports what checks need only once it meets one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

MARKS = (
    "exercise(name): the exercise that a class of checks belongs to",
    "points(n): what a check is worth (1 where nothing is said)",
    "needs(check): skip this check where another one of the exercise has not passed",
    "draws(n): on how many fresh inputs the check runs",
)
_run = pytest.StashKey["_Run"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--notebook``."""
    group = parser.getgroup("proctor", "checks of the course's exercises")
    group.addoption("--notebook", type=Path, help="the notebook to check; my-work/UNIT/… if none is named")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks."""
    for mark in MARKS:
        config.addinivalue_line("markers", mark)


@pytest.fixture
def student() -> None:
    """The learner's namespace; put in its place when the check runs."""


@pytest.fixture
def rng() -> None:
    """Fresh random inputs; put in their place for every draw."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run one check against the notebook."""
    if pyfuncitem.get_closest_marker("exercise") is None:
        return None
    stash = pyfuncitem.config.stash
    if _run not in stash:
        stash[_run] = _Run(pyfuncitem)
    return stash[_run].checks.pytest_pyfunc_call(pyfuncitem)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the notebook's process."""
    if _run in config.stash:
        config.stash[_run].close()


class _Run:
    """The notebook of this run, in its sandbox, and the checks on it."""

    def __init__(self, item: pytest.Function) -> None:
        import nbformat

        from proctor.checks import Checks, Door
        from proctor.course import CourseError
        from proctor.grade import run_cells
        from proctor.learn import material_for
        from proctor.notebook import NotebookError, read_untrusted
        from proctor.rebuild import rebuild
        from proctor.sandbox import Sandbox
        from proctor.session import Session
        from proctor.shortcuts import find_shortcut

        try:
            path = item.config.getoption("--notebook") or _default(item.path)
            material = material_for(path)
            release = nbformat.read(material.notebook, as_version=4)
            cells = run_cells(rebuild(release, read_untrusted(path)).notebook)
        except (CourseError, NotebookError, OSError) as error:
            raise pytest.UsageError(str(error)) from None
        self.sandbox = Sandbox(preload=material.preload)
        self.session = Session(self.sandbox, cells)
        sources = [source for _, source in cells]

        def shortcut(name: str) -> str:
            return find_shortcut(
                sources, name, material.forbidden.get(name, ()), material.allowed.get(name, "")
            )

        self.checks = Checks(Door(self.session.open_exercise, shortcut=shortcut))

    def close(self) -> None:
        self.session.close()
        self.sandbox.close()


def _default(checks: Path) -> Path:
    """The learner's notebook of the unit whose checks these are. Raises CourseError."""
    from proctor.course import CourseError, find_course, read_release

    folder = checks.parent
    if folder.name == "checks":
        path = folder.parent / f"{read_release(folder.parent).notebook}.ipynb"
    else:
        course = find_course(folder)
        path = course.work(course.unit(folder.name))
    if not path.is_file():
        raise CourseError(f"there is no {path.name} to check at {path.parent}; name it with --notebook FILE")
    return path
