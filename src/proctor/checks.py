"""The pytest plugin behind every check: the ``student`` and ``rng`` fixtures, the marks, and how a check has ended.

A check is an ordinary pytest test in a class marked ``@pytest.mark.exercise("name")``. The same test runs at
three doors: the ``check(...)`` cell of a notebook, ``pytest`` in a terminal, and grading. A ``Door`` is what
differs between them: how the learner's work is reached, and where the random inputs come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proctor.course import CourseError
from proctor.draws import Rng, practice_seed, seed_all
from proctor.failures import judge_failure, shortened
from proctor.pytest_plugin import MARKS
from proctor.remote import Backend, Proxy, Student, sketch
from proctor.results import CheckResult, ExerciseResult, Outcome
from proctor.suite import Check, collect, exercise_of, first_line, options, plain_checks, points_mark
from proctor.undisturbed import undisturbed
from proctor.unmet import changes

DRAWS = 3  # how often a check is run, each time on fresh inputs
SHORTCUT = "an answer that uses what the exercise asks you to write"


@dataclass(slots=True)
class Door:
    """How the checks of one run reach the learner's work, and what they draw their inputs from.

    ``open_exercise`` is asked for a way in before each check, by the exercise's name. ``shortcut`` is asked
    for a sentence where the answer uses what the exercise forbids.
    """

    open_exercise: Callable[[str], Backend]
    seed: Callable[[str, int], int] = practice_seed
    draws: int = DRAWS
    shortcut: Callable[[str], str] = field(default=lambda exercise: "")


@dataclass(slots=True)
class Checks:
    """The plugin of one run: selects the checks of ``exercise`` (all, if none is named), collects results."""

    door: Door
    exercise: str | None = None
    results: dict[str, list[CheckResult]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    waiting: dict[str, pytest.Item] = field(
        default_factory=dict
    )  # the checks that have not ended, by node id
    interrupted: bool = False

    def pytest_configure(self, config: pytest.Config) -> None:
        """Register the marks."""
        for mark in MARKS:
            config.addinivalue_line("markers", mark)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the checks that were asked for."""
        if self.exercise is not None:
            items[:] = [item for item in items if exercise_of(item) == self.exercise]
        self.waiting = {item.nodeid: item for item in items if exercise_of(item)}

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note that somebody has stopped the run."""
        self.interrupted = (
            excinfo.type is KeyboardInterrupt
        )  # not pytest's own kind, for a file it cannot read

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A check file that cannot be read is a grader error."""
        if report.failed:
            self.problems.append(f"the checks could not be read: {first_line(report)}")

    @pytest.fixture
    def student(self) -> None:
        """The learner's namespace: every name that the notebook defines is an attribute (see ``_judge``)."""

    @pytest.fixture
    def rng(self) -> None:
        """Fresh random inputs, drawn anew for every run of a check (see ``_run``)."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Run one check on its draws, and take down how it ended."""
        if exercise_of(pyfuncitem) == "":
            return None
        result = self.run(Check.of(pyfuncitem))
        self.waiting.pop(pyfuncitem.nodeid, None)
        if result.outcome is Outcome.SKIPPED:
            pytest.skip(result.message)
        if result.outcome is not Outcome.PASSED:
            pytest.fail(f"{result.title}\n{result.message}", pytrace=False)
        return True

    def run(self, check: Check) -> CheckResult:
        """Run one check on its draws, and take down how it ended."""
        result = self._judge(check)
        self.results.setdefault(check.exercise, []).append(result)
        return result

    def _judge(self, check: Check) -> CheckResult:
        exercise = check.exercise
        earlier = {result.name: result for result in self.results.get(exercise, ())}
        for needs in check.needs:
            needed = earlier.get(needs)
            if needed is None:
                return ending(
                    check, Outcome.GRADER_ERROR, f"it needs {needs!r}, which does not run before it"
                )
            if needed.outcome is Outcome.NOT_ATTEMPTED:
                return ending(check, Outcome.NOT_ATTEMPTED, needed.message)
            if needed.outcome is not Outcome.PASSED:
                return ending(check, Outcome.SKIPPED, f"waits for: {needed.title}")
        backend: Backend | None = None
        try:
            backend = self.door.open_exercise(exercise)
            shortcut = self.door.shortcut(exercise)
            if shortcut:
                return ending(check, Outcome.FAILED, shortcut, SHORTCUT)
            self._draw(check, backend)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            call = backend.calls[-1] if backend and backend.calls else ""
            return ending(check, *judge_failure(error, exercise, call, _no_function(backend, exercise)))
        return ending(check, Outcome.PASSED)

    def _draw(self, check: Check, backend: Backend) -> None:
        given: dict[str, Any] = {**check.fixtures, "student": Student(backend)}
        draws = (check.draws or self.door.draws) if "rng" in check.takes else 1
        for draw in range(draws):
            seed = self.door.seed(check.seed, draw)
            if "rng" in check.takes:
                given["rng"] = Rng(seed)
            backend.calls.clear()
            # What a check works out from its inputs must not depend on what the learner's code has written into them.
            changes.clear()
            backend.changes = None if check.in_place else changes
            seed_all(seed % 2**63)
            backend.seed(seed % 2**63)
            check.call(**{name: given[name] for name in check.takes})


def _no_function(backend: Backend | None, exercise: str) -> str:
    """What lies under the exercise's name where that can be no answer: plain data; empty otherwise."""
    try:
        value = backend.get(exercise) if backend else None
    except Exception:
        return ""
    return "" if isinstance(value, Proxy) else f"{type(value).__name__}: {sketch(value)}"


def ending(
    check: Check, outcome: Outcome, message: str = "", mistake: str = "", ask: str = ""
) -> CheckResult:
    """The result of a check."""
    return CheckResult(
        name=check.name,
        title=check.title,
        points=check.points,
        outcome=outcome,
        message=shortened(message),
        mistake=shortened(mistake),
        ask=shortened(ask),
    )


def run_checks(
    folder: Path, door: Door, titles: Mapping[str, str], exercise: str | None = None
) -> tuple[ExerciseResult, ...]:
    """Run the checks in ``folder``, of one exercise or of all that ``titles`` names, in that order.

    An exercise for which no result came is a grader error, never a pass and never a zero.
    """
    plugin = Checks(door, exercise)
    with undisturbed(folder):
        checks = plain_checks(folder)
        if checks is None:
            pytest.main([str(folder), *options(folder)], plugins=[plugin])
        else:
            for check in checks:
                if exercise in (None, check.exercise):
                    plugin.run(check)
    if plugin.interrupted:
        raise KeyboardInterrupt
    unread = "; ".join(plugin.problems)
    for item in plugin.waiting.values():
        message = unread or "it did not run: a fixture is missing or broken, or a mark leaves it out"
        check = Check.of(item)
        plugin.results.setdefault(check.exercise, []).append(ending(check, Outcome.GRADER_ERROR, message))
    wanted = {exercise: titles[exercise]} if exercise is not None else titles
    problem = unread or "no check of this exercise was run"
    broken = CheckResult(
        name="checks", title="the checks run", points=0, outcome=Outcome.GRADER_ERROR, message=problem
    )
    return tuple(
        ExerciseResult(name=name, title=title, checks=tuple(plugin.results.get(name, [broken])))
        for name, title in wanted.items()
    )


def points_of(folder: Path) -> dict[str, float]:
    """The points of every exercise, as the marks of its checks say; read without running a check.

    Raises CourseError where the checks cannot be read.
    """
    with undisturbed(folder):
        collector = collect(folder)
    if collector.problems:
        raise CourseError(f"graders/{folder.name}: a check file cannot be read: {collector.problems[0]}")
    points: dict[str, float] = {}
    for item in collector.items:
        if name := exercise_of(item):
            points[name] = points.get(name, 0.0) + points_mark(item)
    return points
