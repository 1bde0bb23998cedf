"""The feedback pages of everybody who tried, in a real browser: nothing of theirs runs, and nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from attacks.arena import Result
from attacks.cases.screen import ATTACKS
from browser.conftest import chromium

__all__ = ["ATTACKS", "chromium"]

pytestmark = pytest.mark.browser


def test_the_page_runs_nothing_and_fetches_nothing(result: Result, chromium: Browser, tmp_path: Path) -> None:
    page_file = tmp_path / "page.html"
    page_file.write_text(result.row.page)
    context = chromium.new_context()
    page = context.new_page()
    seen: list[str] = []
    page.on("dialog", lambda dialog: (seen.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: seen.append(request.url))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("console", lambda message: seen.append(message.text))
    try:
        page.goto(page_file.as_uri(), wait_until="load")
        page.mouse.move(200, 200)
        page.keyboard.press("Tab")
        assert [what for what in seen if not what.startswith(("file://", "data:image/png"))] == []
        assert page.url == page_file.as_uri()
        assert page.evaluate("document.scripts.length") == 0
        names = "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames())"
        assert [name for name in page.evaluate(names) if name.startswith("on")] == []
    finally:
        context.close()
