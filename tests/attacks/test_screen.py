import re

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
        ours = set(TAGS.findall(result.classmates[0].page)) | {'<img src="data:image/png;base64,'}
        assert {tag for tag in TAGS.findall(result.row.page) if tag not in ours} == set()

    def test_what_formgrader_shows_raw_is_text_or_a_picture(self, result: Result) -> None:
        for outputs in result.row.outputs().values():
            for output in outputs:
                shown = set(output.get("data", {}))
                ours = output["output_type"] == "execute_result"  # the rubric, which is escaped
                assert shown <= ({"text/plain", "text/html"} if ours else {"text/plain", "image/png"})
