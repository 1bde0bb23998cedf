"""The page of a class: all that is counted, nothing that acts on the reader, and no word of anybody's code."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser

from proctor import charts
from proctor.course import Exercise, Unit
from proctor.gathered import Gathered, Learner, Mark, State
from proctor.likeness import Alike
from proctor.overview import class_html
from proctor.results import CheckResult, ExerciseResult, Outcome, Verdict
from proctor.tally import Tally, tally

ATTACKS = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' autofocus onfocus='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "`<b>bold</b>`",
    "javascript:alert(1)",
    "\x1b[31mred\x1b]8;;http://x\x07",
    "abc\u202egnp.exe",
    "\u2028\x00\x9b1m",
    "A" * 5_000,
]
ANY = st.text(max_size=40) | st.sampled_from(ATTACKS)


def class_of(text: str = "words") -> Tally:
    """A class in which every text that may be a learner's is this one."""
    unit = Unit(name="01_mini", title="Mini", part="P", notebook="mini", lesson_minutes=1, exercise_minutes=1)
    hints = ("a", "b", "c")
    exercises = {
        name: Exercise(name=name, title=f"Exercise {name}", difficulty=1, minutes=1, hints=hints)
        for name in ("one", "two")
    }

    def result(name: str, *outcomes: Outcome) -> ExerciseResult:
        checks = (
            CheckResult(
                name=f"test_{n}", title=f"does `{n}` right", points=2, outcome=outcome, message=f"Got  {text}",
                mistake="a sum, not a mean" if n else "", ask="Which axis is `dim`?",
            )
            for n, outcome in enumerate(outcomes)
        )  # fmt: skip
        return ExerciseResult(name=name, title=f"Exercise {name}", checks=tuple(checks))

    ends = [
        (Outcome.PASSED, Outcome.PASSED),
        (Outcome.PASSED, Outcome.FAILED),
        (Outcome.FAILED, Outcome.SKIPPED),
        (Outcome.NOT_ATTEMPTED, Outcome.NOT_ATTEMPTED),
        (Outcome.GRADER_ERROR, Outcome.PASSED),
    ]
    learners = []
    for number, (one, other) in enumerate(ends):
        verdict = Verdict(
            unit="01_mini",
            exercises=(result("one", one, other), result("two", Outcome.PASSED, Outcome.PASSED)),
            problem=text if number == 4 else "",
            notes=(text,) if number == 1 else (),
        )
        name = f"{text}{number}"
        mark = Mark(
            student=name,
            last_name=f"n{text}",
            first_name=text,
            score=verdict.score,
            max_score=8,
            penalty=number % 2,
        )
        state = State.WAITS if verdict.needs_person else State.FINAL
        answers = {"one": f"def one():\n    return {text!r} + 'SECRET'"}
        learners.append(Learner(name=name, state=state, mark=mark, verdict=verdict, answers=answers))
    learners.append(Learner(name=f"{text}9", state=State.NOTHING, mark=Mark(student=f"{text}9", max_score=8)))
    gathered = Gathered(course="A course", unit=unit, learners=tuple(learners), stubs={}, max_score=8)
    seen = tally(gathered, exercises)
    group = Alike(exercise="one", learners=(f"{text}0", f"{text}1"), runs=50, share=0.9)
    return dataclasses.replace(seen, alike=(group,))


class Page(HTMLParser):
    """The elements of a page, their attributes and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.inside, self.raw = "", [""], {"style": "", "script": ""}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag in self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.inside[-1] in self.raw:
            self.raw[self.inside[-1]] += data
        else:
            self.text += data


PLAIN = Page(class_html(class_of()))


class TestHostileText:
    @settings(max_examples=30, deadline=None)
    @given(ANY)
    def test_no_text_of_a_learner_s_adds_or_changes_an_element(self, text: str) -> None:
        page = Page(class_html(class_of(text)))
        free = {"href", "data-v", "title", "aria-label"}
        shape = [(tag, sorted(attrs)) for tag, attrs in page.elements if tag != "code"]
        assert shape == [(tag, sorted(attrs)) for tag, attrs in PLAIN.elements if tag != "code"]
        assert page.raw == PLAIN.raw
        for tag, attrs in page.elements:
            assert not any(name.startswith("on") or name == "style" for name in attrs)
            assert attrs.get("href", "#").startswith("#")
            if tag != "code":
                own = {name: value for name, value in attrs.items() if name not in free}
                assert own in [
                    {k: v for k, v in a.items() if k not in free} for t, a in PLAIN.elements if t == tag
                ]

    @pytest.mark.parametrize("text", ATTACKS)
    def test_nothing_invisible_or_long_reaches_the_page(self, text: str) -> None:
        html = class_html(class_of(text))
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2066-\u2069]", html)
        assert len(html) < 200_000

    def test_no_code_and_no_message_of_a_learner_s_is_on_the_page(self) -> None:
        html = class_html(class_of("MARK"))
        assert "SECRET" not in html
        assert "Got  MARK" not in html

    @pytest.mark.browser
    def test_in_a_browser_nothing_runs_and_nothing_is_loaded(self, chromium: Browser, tmp_path: Path) -> None:
        page, said, asked = chromium.new_page(viewport={"width": 390, "height": 800}), [], []
        page.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        for number, text in enumerate(ATTACKS):
            path = tmp_path / f"{number}.html"
            path.write_text(class_html(class_of(text)))
            page.goto(path.as_uri())
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= 390, text
            assert page.evaluate("[...document.querySelectorAll('script')].length") == 1
        page.close()
        assert said == []
        assert all(url.startswith("file:") for url in asked)


class TestPage:
    def test_the_policy_lets_nothing_in_but_its_own_style_and_script(self) -> None:
        (policy,) = (
            a["content"] for t, a in PLAIN.elements if a.get("http-equiv") == "Content-Security-Policy"
        )
        digests = {
            kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            for kind, text in PLAIN.raw.items()
        }
        assert policy == (
            f"default-src 'none'; style-src 'sha256-{digests['style']}'; script-src 'sha256-{digests['script']}'; "
            "base-uri 'none'; form-action 'none'"
        )

    def test_it_says_what_was_counted(self) -> None:
        for words in (
            "submissions graded5 of 6",
            "1 submission has no final score before a person has looked.",
            "1 of the gradebook's learners has handed in nothing.",
            "Everybody has solved: Exercise two.",
            "Of 2 something is taken off for being late.",
            "1 submission that waits for a person is left out.",
            "1 solved it, 1 partly, 1 got nothing right, 1 did not try, 1 wait for a person.",
            "a sum, not a mean",
            "Which axis is dim?",
            "words0, words1",
            "A hint to look, never a finding.",
        ):
            assert words in " ".join(PLAIN.text.split()), words

    def test_without_names_nobody_is_told_of(self) -> None:
        html = class_html(class_of("NAMED"), names=False)
        assert "NAMED" not in html
        for words in ("1 group of answers is", "a sum, not a mean", "1 submission has"):
            assert words in " ".join(Page(html).text.split())

    def test_every_link_leads_to_a_place_and_every_place_is_one(self) -> None:
        ids = [attrs["id"] for _, attrs in PLAIN.elements if "id" in attrs]
        assert len(set(ids)) == len(ids)
        assert {attrs["href"][1:] for tag, attrs in PLAIN.elements if tag == "a"} <= set(ids)
        assert {attrs["aria-labelledby"] for _, attrs in PLAIN.elements if "aria-labelledby" in attrs} <= set(
            ids
        )

    def test_every_picture_says_itself_in_words_or_is_beside_them(self) -> None:
        pictures = [attrs for tag, attrs in PLAIN.elements if tag == "svg"]
        assert pictures
        for attrs in pictures:
            assert attrs.get("aria-hidden") == "true" or (attrs["role"] == "img" and attrs["aria-label"])
        said = " ".join(attrs["aria-label"] or "" for attrs in pictures if "aria-label" in attrs)
        assert "full marks: 1" in said
        assert (
            "Exercise one: 1 solved, 1 partly right, 1 nothing right, 1 not attempted, 1 waits for a person"
            in said
        )

    def test_the_same_class_is_the_same_page(self) -> None:
        assert class_html(class_of()) == class_html(class_of())

    @pytest.mark.browser
    def test_a_click_sorts_a_table_and_another_turns_it_round(
        self, chromium: Browser, tmp_path: Path
    ) -> None:
        path = tmp_path / "page.html"
        path.write_text(class_html(class_of()))
        page = chromium.new_page()
        page.goto(path.as_uri())
        rows = "[...document.querySelectorAll('table.learners tbody tr')]"
        names = f"{rows}.map(row => row.cells[0].textContent.slice(0, 6))"
        seen = [page.evaluate(names)]
        for _ in range(2):
            page.click("table.learners th:nth-child(2) button")
            seen.append(page.evaluate(names))
        page.close()
        assert seen[0] == ["words0", "words1", "words2", "words3", "words4", "words9"]
        assert seen[1][-1] == "words0"
        assert seen[2][0] == "words0"
        assert sorted(seen[1]) == sorted(seen[2]) == seen[0]


class TestCharts:
    @given(st.lists(st.integers(0, 2_000), min_size=11, max_size=11), st.floats(0, 44))
    def test_bars_are_as_high_as_their_counts(self, bins: list[int], median: float) -> None:
        svg = str(charts.histogram(bins, median, 44))
        heights = [float(h) for h in re.findall(r'<rect class="(?:part|full)"[^>]* height="([\d.]+)"', svg)]
        tallest = max([*bins, 1])
        assert heights == [pytest.approx(charts.HEIGHT * count / tallest, abs=0.06) for count in bins]
        assert re.findall(r'<text class="n"[^>]*>(\d+)<', svg) == [str(count) for count in bins if count]

    @given(st.lists(st.integers(0, 500), min_size=5, max_size=5))
    def test_parts_fill_the_bar_and_no_more(self, counts: list[int]) -> None:
        svg = str(charts.stacked(dict(zip(charts.PARTS, counts, strict=True)), "all"))
        widths = [float(w) for w in re.findall(r'width="([\d.]+)%" height="13"', svg)]
        assert sum(widths) == pytest.approx(100 if sum(counts) else 0, abs=0.1)
        assert len(widths) == sum(count > 0 for count in counts)

    @given(st.integers(0, 5_000), st.integers(1, 5_000))
    def test_only_none_is_0_percent_and_only_all_is_100(self, part: int, whole: int) -> None:
        told = int(charts.percent(min(part, whole), whole).removesuffix("\N{NO-BREAK SPACE}%"))
        assert (told == 0) == (part == 0)
        assert (told == 100) == (part >= whole)
        assert charts.percent(0, 0) == "–"
