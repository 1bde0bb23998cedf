"""Which core a process of the pool is held to."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from proctor import staff

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system knows no affinity")


def cores(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(10, 10 + count)))


def held(count: int) -> list[Any]:
    workers: list[Any] = []
    for _ in range(count):
        workers.append(SimpleNamespace(core=staff.next_core(workers, count)))
    return [worker.core for worker in workers]


def test_processes_that_take_every_core_share_them_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    cores(3, monkeypatch)
    assert held(3) == [10, 11, 12]
    assert held(7) == [10, 11, 12, 10, 11, 12, 10]


def test_processes_that_leave_a_core_free_are_held_to_none(monkeypatch: pytest.MonkeyPatch) -> None:
    cores(3, monkeypatch)
    assert held(2) == [None, None]


def test_one_that_takes_the_place_of_another_gets_its_core(monkeypatch: pytest.MonkeyPatch) -> None:
    cores(3, monkeypatch)
    left: Any = [SimpleNamespace(core=10), SimpleNamespace(core=12)]
    assert staff.next_core(left, 3) == 11


def test_a_process_runs_on_the_core_that_it_is_held_to() -> None:
    core = max(os.sched_getaffinity(0))
    worker = staff.start(tell_cores, core)
    try:
        # The first answer may have been on its way before the process was held.
        for _ in range(20):
            if worker.connection.recv() == {core}:
                return
        raise AssertionError("it runs on others too")
    finally:
        staff.end([worker])


def tell_cores(connection: Any) -> None:
    """Tell twenty times where it may run."""
    import time

    for _ in range(20):
        connection.send(os.sched_getaffinity(0))
        time.sleep(0.05)
