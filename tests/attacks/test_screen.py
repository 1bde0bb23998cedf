import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from attacks.arena import Result
from attacks.cases.screen import ATTACKS
from attacks.oracles import TestEveryAttack, TestTheClass

__all__ = ["ATTACKS", "TestEveryAttack", "TestTheClass"]

# Control characters, bidirectional marks and invisible letters, save for the ends of lines.
UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
TAGS = re.compile(
    r"<(?:script|iframe|svg|meta|link|base|form|object|embed|img|style)\b[^>]{0,26}", re.IGNORECASE
)


class TestTheScreen:
    def test_the_terminal_gets_letters_only(self, result: Result) -> None:
        assert result.row.screen
        assert UNSEEN.findall(result.row.screen) == []

    def test_the_page_holds_no_unseen_letters(self, result: Result) -> None:
        assert result.row.page
        assert UNSEEN.findall(result.row.page) == []

    def test_the_page_has_no_tags_but_those_of_every_page(self, result: Result) -> None:
        ours = set(TAGS.findall(result.classmates[0].page))
        theirs = {
            tag for tag in TAGS.findall(result.row.page) if not tag.startswith('<img src="data:image/png;')
        }
        assert theirs - ours == set()

    def test_what_formgrader_shows_raw_is_text_or_a_picture(self, result: Result) -> None:
        for outputs in result.row.outputs().values():
            for output in outputs:
                shown = set(output.get("data", {}))
                ours = output["output_type"] == "execute_result"  # the rubric, which is escaped
                assert shown <= ({"text/plain", "text/html"} if ours else {"text/plain", "image/png"})


@pytest.mark.browser
def test_in_a_browser_the_page_runs_nothing_and_fetches_nothing(
    result: Result, chromium: Browser, tmp_path: Path
) -> None:
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
