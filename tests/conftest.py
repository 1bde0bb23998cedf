"""What tests share: the repository's course, and a warm sandbox."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest

from proctor.sandbox import Limits, Sandbox

sys.path.insert(0, str(Path(__file__).parent))  # for minicourse.py
matplotlib.use("Agg")


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A warm sandbox with short limits."""
    with Sandbox(Limits(cell_seconds=20, cells_seconds=30, call_seconds=5, total_seconds=60)) as sandbox:
        yield sandbox
