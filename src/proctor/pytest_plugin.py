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
    "in_place: calls of this check may change its arrays, and it has worked out what it expects before",
)
_runs = pytest.StashKey[dict[Path, "_Run"]]()


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


def pytest_collection_finish(session: pytest.Session) -> None:
    """Open the notebook of every unit whose checks are to run; what stands in the way is told once, and ends it."""
    checks = [item for item in session.items if item.get_closest_marker("exercise")]
    if not checks or session.config.option.collectonly:
        return
    runs = session.config.stash[_runs] = {}
    named = session.config.getoption("--notebook")
    if named and len({_unit_folder(item.path) for item in checks}) > 1:
        raise pytest.UsageError("--notebook goes with the checks of one unit: name its folder before it")
    for item in checks:
        folder = _unit_folder(item.path)
        if folder not in runs:
            runs[folder] = _Run(folder, named)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run one check against the notebook."""
    runs = pyfuncitem.config.stash.get(_runs, {})
    if pyfuncitem.get_closest_marker("exercise") is None or not runs:
        return None
    return runs[_unit_folder(pyfuncitem.path)].checks.pytest_pyfunc_call(pyfuncitem)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the notebooks' processes."""
    for run in config.stash.get(_runs, {}).values():
        run.close()


def _unit_folder(checks: Path) -> Path:
    """The folder of the unit that a check file belongs to."""
    return checks.parent.parent if checks.parent.name == "private" else checks.parent


class _Run:
    """The notebook of one unit, in its sandbox, and the checks on it. Raises pytest.UsageError."""

    def __init__(self, folder: Path, notebook: Path | None) -> None:
        from proctor.checks import Checks, Door
        from proctor.course import CourseError
        from proctor.grade import released_notebook, run_cells, sandbox_for
        from proctor.learn import material_for
        from proctor.notebook import NotebookError, read_untrusted
        from proctor.rebuild import rebuild
        from proctor.session import Session
        from proctor.shortcuts import find_shortcut

        try:
            path = notebook or _default(folder)
            submitted = read_untrusted(path)
            material = material_for(path)
            cells = run_cells(rebuild(released_notebook(material), submitted, unit=material.unit).notebook)
        except (CourseError, NotebookError, OSError) as error:
            raise pytest.UsageError(str(error)) from None
        sources = [source for _, source in cells]

        def shortcut(name: str) -> str:
            return find_shortcut(
                sources, name, material.forbidden.get(name, ()), material.allowed.get(name, "")
            )

        self.sandbox = sandbox_for(material)
        self.session = Session(self.sandbox, cells)
        self.checks = Checks(Door(self.session.open_exercise, shortcut=shortcut))

    def close(self) -> None:
        self.session.close()
        self.sandbox.close()


def _default(folder: Path) -> Path:
    """The learner's notebook of the unit whose checks lie in a folder. Raises CourseError."""
    from proctor.course import CourseError, find_course, read_release

    if folder.name == "checks":
        path = folder.parent / f"{read_release(folder.parent).notebook}.ipynb"
    else:
        course = find_course(folder)
        path = course.work(course.unit(folder.name))
    if not path.is_file():
        raise CourseError(f"there is no {path.name} to check at {path.parent}; name it with --notebook FILE")
    return path
