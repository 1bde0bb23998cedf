"""The pytest plugin behind every check: the ``student`` and ``rng`` fixtures, the marks, and what a failure says.

A check is an ordinary pytest test in a class marked ``@pytest.mark.exercise("name")``. The same test runs at
three doors: the ``check(...)`` cell of a notebook, ``pytest`` in a terminal, and grading. A ``Door`` is what
differs between them: how the learner's work is reached, and where the random inputs come from.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from proctor.course import CourseError
from proctor.peer import StudentGone, Trouble
from proctor.pytest_plugin import MARKS
from proctor.remote import Backend, Student
from proctor.results import CheckResult, ExerciseResult, Outcome

DRAWS = 3  # how often a check is run, each time on fresh inputs
_QUIET = (
    "cacheprovider stepwise faulthandler logging warnings doctest junitxml pastebin terminalreporter terminal "
    "debugging unittest setuponly setupplan legacypath threadexception unraisableexception"
).split()


class Rng(np.random.Generator):
    """NumPy's generator, with what checks on tensors draw again and again."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))

    def distinct(self, count: int, low: int = 2, high: int = 9) -> list[int]:
        """``count`` different sizes in [low, high], so that no transpose can hide."""
        return [int(n) for n in self.permutation(np.arange(low, high + 1))[:count]]

    def tensor(self, *shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A tensor of normal draws."""
        return torch.from_numpy(np.asarray(self.normal(0.0, scale, shape))).to(dtype)

    def lengths(self, batch: int, size: int) -> torch.Tensor:
        """Ragged lengths in [1, size], the full size among them, in random order (int64)."""
        lengths = self.integers(1, size + 1, batch)
        lengths[self.integers(batch)] = size
        return torch.from_numpy(lengths)


def practice_seed(check: str, draw: int) -> int:
    """The seed of the notebook: fixed, so that a failure repeats."""
    return int.from_bytes(hashlib.sha256(f"practice|{check}|{draw}".encode()).digest()[:8])


def secret_seed(key: bytes, student: str) -> Callable[[str, int], int]:
    """The seeds of grading: from the course key, for one student; a regrade repeats exactly."""

    def seed(check: str, draw: int) -> int:
        message = f"{student}|{check}|{draw}".encode()
        return int.from_bytes(hmac.digest(key, message, "sha256")[:8])

    return seed


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

    def pytest_configure(self, config: pytest.Config) -> None:
        """Register the marks."""
        for mark in MARKS:
            config.addinivalue_line("markers", mark)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the checks that were asked for."""
        if self.exercise is not None:
            items[:] = [item for item in items if exercise_of(item) == self.exercise]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A check file that cannot be read is a grader error."""
        if report.failed:
            self.problems.append(f"the checks could not be read: {str(report.longrepr)[-300:]}")

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
        result = self._judge(pyfuncitem)
        self.results.setdefault(exercise_of(pyfuncitem), []).append(result)
        if result.outcome is Outcome.SKIPPED:
            pytest.skip(result.message)
        if result.outcome is not Outcome.PASSED:
            pytest.fail(f"{result.title}\n{result.message}", pytrace=False)
        return True

    def _judge(self, item: pytest.Function) -> CheckResult:
        exercise = exercise_of(item)
        title = (item.function.__doc__ or item.name).strip().splitlines()[0].rstrip(".")
        points = points_mark(item)

        def ended(outcome: Outcome, message: str = "") -> CheckResult:
            return CheckResult(name=item.name, title=title, points=points, outcome=outcome, message=message)

        earlier = {result.name: result for result in self.results.get(exercise, ())}
        for needs in item.iter_markers("needs"):
            needed = earlier.get(needs.args[0])
            if needed is None:
                return ended(
                    Outcome.GRADER_ERROR, f"it needs {needs.args[0]!r}, which does not run before it"
                )
            if needed.outcome is Outcome.NOT_ATTEMPTED:
                return ended(Outcome.NOT_ATTEMPTED, needed.message)
            if needed.outcome is not Outcome.PASSED:
                return ended(Outcome.SKIPPED, f"waits for: {needed.title}")
        backend: Backend | None = None
        try:
            backend = self.door.open_exercise(exercise)
            item.funcargs["student"] = Student(backend)
            shortcut = self.door.shortcut(exercise)
            if shortcut:
                return ended(Outcome.FAILED, shortcut)
            self._run(item, backend)
        except Exception as error:
            return ended(
                *judge_failure(error, exercise, backend.calls[-1] if backend and backend.calls else "")
            )
        except (pytest.fail.Exception, pytest.skip.Exception) as error:
            return ended(Outcome.GRADER_ERROR, f"a check fails by assertions only, not by {error!r}")
        return ended(Outcome.PASSED)

    def _run(self, item: pytest.Function, backend: Backend) -> None:
        arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
        mark = item.get_closest_marker("draws")
        draws = (mark.args[0] if mark else self.door.draws) if "rng" in arguments else 1
        name = f"{item.path.stem}::{item.name}"
        for draw in range(draws):
            seed = self.door.seed(name, draw)
            if "rng" in arguments:
                arguments["rng"] = Rng(seed)
            backend.calls.clear()
            torch.manual_seed(seed)
            backend.seed(seed % 2**63)
            item.obj(**arguments)


def exercise_of(item: pytest.Item | Any) -> str:
    """The exercise that a check belongs to; empty for a test that is no check."""
    mark = item.get_closest_marker("exercise")
    return str(mark.args[0]) if mark and mark.args else ""


def judge_failure(error: Exception, exercise: str, call: str) -> tuple[Outcome, str]:
    """How a check that raised has ended, and what the learner is told."""
    called = f"{'Called':<10}{call}\n" if call else ""
    if isinstance(error, StudentGone):
        return Outcome.FAILED, called + str(error)
    trouble: Trouble | None = getattr(error, "trouble", None)
    if trouble is not None:
        if is_stub(trouble):
            name = trouble.text.strip()
            waits = name.isidentifier() and name not in ("", exercise)
            return Outcome.NOT_ATTEMPTED, f"waits for `{name}`, which is not written yet" if waits else ""
        return Outcome.FAILED, called + describe_trouble(trouble)
    if isinstance(error, AssertionError):
        message = str(error).strip()
        if not message:
            return Outcome.GRADER_ERROR, "the check failed without saying why"
        return Outcome.FAILED, message if message.startswith("Called") else called + message
    return Outcome.GRADER_ERROR, f"the check itself broke: {type(error).__name__}: {str(error)[:300]}"


def is_stub(trouble: Trouble) -> bool:
    """Whether an exception is that of a stub which nobody has filled in yet."""
    text = trouble.text.strip()
    bare = text == "" or text.isidentifier() or 'missing the required "forward" function' in text
    return trouble.type == "NotImplementedError" and bare


def describe_trouble(trouble: Trouble) -> str:
    """An exception of the learner's code, in the lines of a failure."""
    text = trouble.text.strip().splitlines() or [""]
    lines = [f"{'Raised':<10}{trouble.type}: {text[0][:200]}"]
    for function, line, code in trouble.rows[-2:]:
        lines.append(f"{'At':<10}line {line} of {function}: {code[:120]}")
    lines.append(f"{'Ask':<10}{_question(trouble, text[0])}")
    return "\n".join(lines)


def _question(trouble: Trouble, text: str) -> str:
    if trouble.type == "NameError":
        return "Is every name that this code uses defined, in a cell that has been run?"
    if "positional argument" in text or "unexpected keyword" in text:
        return "Do the parameters still have the names and the order that the stub gave them?"
    if trouble.type == "AttributeError" and "NoneType" in text:
        return "Which of your functions ends without `return`?"
    if "size of tensor" in text or "shapes cannot be multiplied" in text or "must match" in text:
        return "Which shapes meet in that line? Write them down next to each other."
    if trouble.type == "NotImplementedError":
        return "Which of the operations in that line does torch not offer for these inputs?"
    return "What does that line do with an input of these shapes?"


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave the process as it was: generators, warnings, output and environment."""
    python, legacy, threads = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    grad = torch.is_grad_enabled()
    before = os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    torch.set_grad_enabled(True)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_grad_enabled(grad)
        os.environ.pop("PYTEST_DISABLE_PLUGIN_AUTOLOAD", None)
        if before is not None:
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = before
        random.setstate(python)
        np.random.set_state(legacy)
        torch.random.set_rng_state(threads)


def run_checks(
    folder: Path, door: Door, titles: Mapping[str, str], exercise: str | None = None
) -> tuple[ExerciseResult, ...]:
    """Run the checks in ``folder``, of one exercise or of all that ``titles`` names, in that order.

    An exercise for which no result came is a grader error, never a pass and never a zero.
    """
    plugin = Checks(door, exercise)
    with _undisturbed():
        pytest.main([str(folder), *_options(folder)], plugins=[plugin])
    wanted = {exercise: titles[exercise]} if exercise is not None else titles
    problem = "; ".join(plugin.problems) or "no check of this exercise was run"
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
    collector = _Collector()
    with _undisturbed():
        pytest.main([str(folder), "--collect-only", *_options(folder)], plugins=[collector])
    if collector.problems:
        raise CourseError(f"graders/{folder.name}: a check file cannot be read: {collector.problems[0]}")
    return collector.points


@dataclass(slots=True)
class _Collector:
    """The plugin of a run that only counts points."""

    points: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def pytest_configure(self, config: pytest.Config) -> None:
        for mark in MARKS:
            config.addinivalue_line("markers", mark)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.problems.append(str(report.longrepr).strip().splitlines()[-1][:300])

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if exercise_of(item):
                self.points[exercise_of(item)] = self.points.get(exercise_of(item), 0.0) + points_mark(item)


def points_mark(item: pytest.Item) -> float:
    """What a check is worth."""
    mark = item.get_closest_marker("points")
    return float(mark.args[0]) if mark else 1.0


def _options(folder: Path) -> list[str]:
    quiet = [f"-pno:{name}" for name in _QUIET]
    plain = ["--import-mode=importlib", "--assert=plain", "--noconftest", "--capture=no", "--strict-markers"]
    return [*plain, f"--rootdir={folder}", "-c", os.devnull, *quiet]
