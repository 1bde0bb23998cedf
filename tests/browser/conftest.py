"""A headless Chromium for JupyterLab.

``pytest tests/browser --screenshots FOLDER`` leaves a picture of each state in the folder. The README's picture is
made anew by ``pytest tests/browser -k "stands_out and light" --screenshots docs/images``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

PATIENCE = 60_000  # milliseconds: two slow cores that start a kernel and import torch
expect.set_options(timeout=PATIENCE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, help="a folder for pictures of what the browser tests see")


@pytest.fixture(scope="module")
def context(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """One for the tests of a server: JupyterLab's scripts are loaded and compiled once."""
    fine = 2 if request.config.getoption("--screenshots", None) else 1
    size = {"width": 1310, "height": 1400}
    context = chromium.new_context(viewport=size, device_scale_factor=fine, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    yield page
    page.close()


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """What the browser's console says is wrong."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    return said


@pytest.fixture
def shot(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Takes a picture of a page, or of a part of it, where ``--screenshots`` asks for one."""
    folder: Path | None = request.config.getoption("--screenshots", None)

    def take(what: Page | Locator, name: str, **options: Any) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            picture = Image.open(io.BytesIO(what.screenshot(**options))).convert("RGB")
            small = picture.quantize(256, dither=Image.Dither.NONE)
            small.save(folder / f"{name}.png", optimize=True)

    return take
