"""How many warm sandboxes a grading process keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proctor import pool


class Warm:
    """In the place of a sandbox."""

    def __init__(self, material: Any, level: Any) -> None:
        self.unit, self.closed = material, False

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


def test_the_units_that_were_graded_last_stay_warm_and_the_others_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "sandbox_for", Warm)
    monkeypatch.setattr(pool, "_warm", {})
    made: dict[str, Any] = {}

    def use(unit: str) -> Any:
        job = pool.Job(root=Path(), unit=unit, student="", path=Path())
        return pool._sandbox(job, unit)  # type: ignore[arg-type]

    units = [f"{number:02}" for number in range(pool.WARM)]
    for unit in units:
        made[unit] = use(unit)
    assert use(units[0]) is made[units[0]]
    made["one more"] = use("one more")
    assert [unit for unit, sandbox in made.items() if sandbox.closed] == [units[1]]
    assert use(units[1]) is not made[units[1]]
