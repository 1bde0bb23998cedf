"""Real processes that are killed: those that grade, and the command itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from faults.room import CLASS, Left, grade, left
from minicourse import UNIT
from proctor import classwork, pool

pytestmark = pytest.mark.isolation


def kill(worker: Any) -> None:
    os.kill(worker.process.pid, signal.SIGKILL)


class TestWorkers:
    def test_killed_at_many_moments(
        self, root: Path, undisturbed: Left, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before it is ready, with its first job, at work, and with a job at hand."""
        start, save, killed = pool.start, classwork.ClassRun._save, []
        pools: list[pool.Pool] = []

        def starting(main: Any, core: int | None) -> Any:
            worker = start(main, core)
            if not killed:
                killed.append("before it is ready")
                kill(worker)
            return worker

        def saving(self: Any, *args: Any, **kwargs: Any) -> None:
            save(self, *args, **kwargs)
            at_work = [worker for worker in pools[0]._workers if worker.jobs]
            if at_work and at_work[0].jobs[0].student not in killed:
                killed.append(at_work[0].jobs[0].student)
                time.sleep(0.3 * len(killed))  # so that it is now at the cells, now at the checks
                kill(at_work[0])

        def made(jobs: int) -> pool.Pool:
            pools.append(pool.Pool(jobs))
            return pools[0]

        monkeypatch.setattr(pool, "start", starting)
        monkeypatch.setattr(classwork.ClassRun, "_save", saving)
        monkeypatch.setattr(classwork, "Pool", made)
        assert grade(root) == []
        assert len(killed) >= 3
        assert left(root) == undisturbed

    def test_processes_that_never_get_ready_are_one_sentence(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start = pool.start

        def starting(main: Any, core: int | None) -> Any:
            worker = start(main, core)
            kill(worker)
            return worker

        monkeypatch.setattr(pool, "start", starting)
        with pytest.raises(classwork.CourseError, match="end before they are ready; `proctor doctor` says"):
            grade(root)


@contextmanager
def command(root: Path) -> Iterator[subprocess.Popen[str]]:
    """`proctor grade` at work, in a process group of its own, as at a terminal."""
    script = str(Path(sys.executable).with_name("proctor"))
    # Where these tests run in the background of a shell, SIGINT is ignored, and a process that starts inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [script, "grade", UNIT, "--jobs", "1"],
        cwd=root,
        env={**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def folders(root: Path) -> list[str]:
    return sorted(path.parent.name for path in (root / "feedback").glob(f"*/{UNIT}"))


def test_the_command_killed_and_stopped_and_started_again(root: Path, undisturbed: Left) -> None:
    with command(root) as process:
        wait_for(lambda: len(folders(root)) >= 1)  # the next learner's cell sleeps now
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2  # a process that grades, and its student's side
        process.kill()
        wait_for(lambda: not any(alive(each) for each in family), 60)
    assert folders(root) == ["ada"]

    with command(root) as process:
        wait_for(lambda: len(folders(root)) >= 2)  # a cell of the next but one sleeps, at the latest
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches every process of the terminal
        begun = time.monotonic()
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - begun < 10
        wait_for(lambda: not any(alive(each) for each in family), 20)
    assert process.returncode == 130
    assert out == ""
    says = rf"proctor: stopped; [234] of 5 submissions are graded, `proctor grade {UNIT}` goes on with the others"
    assert re.fullmatch(says, told(err)), err

    with command(root) as process:
        out, err = process.communicate(timeout=240)
    assert (process.returncode, told(err)) == (0, "")
    assert all(name in out for name in CLASS)
    assert left(root) == undisturbed


def told(err: str) -> str:
    """What stands on stderr besides how far the run has come."""
    return "\n".join(line for line in err.splitlines() if not line.startswith(f"grading {UNIT}: "))


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
