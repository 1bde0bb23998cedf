"""What tests share: the repository's course, and a warm sandbox."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
from playwright.sync_api import Browser, sync_playwright

from proctor import walls
from proctor.sandbox import Limits, Sandbox

sys.path.insert(0, str(Path(__file__).parent))  # for minicourse.py
matplotlib.use("Agg")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where grading other people's work is refused, there is none to test."""
    graders = [item for item in items if item.get_closest_marker("isolation")]
    if graders and not walls.best().isolated:
        why = f"nothing keeps submissions apart here: {walls.obstacle(walls.Level.NAMESPACES)}"
        for item in graders:
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A warm sandbox with short limits."""
    with Sandbox(Limits(cell_seconds=20, cells_seconds=30, call_seconds=5, total_seconds=60)) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium; one for all tests of a process, since Playwright bears no second one beside it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(names)} is on this machine")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()
