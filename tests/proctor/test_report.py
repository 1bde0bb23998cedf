"""What reports show: every check, the verdict's own sums, and never a character that acts on the reader."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from proctor import report
from proctor.report import (
    LIMITS,
    MARKS,
    FeedbackCell,
    FeedbackExercise,
    FeedbackOutput,
    FeedbackPage,
    clean,
    feedback_html,
    points,
    print_rubric,
    rubric_html,
    rubric_text,
    to_gradescope,
)
from proctor.results import CheckResult, ExerciseResult, Outcome, Verdict
from proctor.roster import verdict_table


def check(
    title: str, points: float = 2, outcome: Outcome = Outcome.PASSED, message: str = "", name: str = ""
) -> CheckResult:
    """A check, named after its title."""
    name = name or "test_" + "_".join(title.split())
    return CheckResult(name=name, title=title, points=points, outcome=outcome, message=message)


def exercise(name: str, title: str, *checks: CheckResult) -> ExerciseResult:
    """An exercise."""
    return ExerciseResult(name=name, title=title, checks=checks)


OVER_QUERIES = """Row sums are 0.31, 1.74, 0.95; every row should sum to 1.
Called    attention_weights(scores (2, 3, 5))
Expected  a sum of 1.000 in every row
Got       tensor([[0.31, 1.74, 0.95],
                  [1.12, 0.77, 1.11]])
Ask       Over which axis did the softmax run?"""

FUTURE = """∂out[0, 1] / ∂x[0, 3] is 0.27: position 1 sees position 3, which lies in its future.
Called    causal_mask(5)
Expected  True on and below the diagonal, False above it
Got       True above the diagonal too, in 10 places
Ask       Which of `torch.tril` and `torch.triu` keeps the past?"""

SAMPLE = Verdict(
    unit="08_attention",
    exercises=(
        exercise(
            "attention_scores",
            "Attention scores",
            check("scores every query against every key"),
            check("keeps batch rows apart", 1),
            check("gradients agree with `gradcheck`", 1),
        ),
        exercise(
            "attention_weights",
            "Attention weights",
            check("rows sum to one", 2, Outcome.FAILED, OVER_QUERIES),
            check("survives scores of +1000", 2),
            check("agrees with PyTorch on every shape", 2, Outcome.SKIPPED, "Waits for: rows sum to one"),
        ),
        exercise(
            "scaled_dot_product_attention",
            "Scaled dot-product attention",
            check("agrees with PyTorch on every shape", 3),
            check("divides by the root of the key width", 2),
            check(
                "does not call `F.scaled_dot_product_attention`",
                1,
                Outcome.GRADER_ERROR,
                "The check used up its 60 seconds before your code was called.",
            ),
        ),
        exercise(
            "padding_mask",
            "Padding mask",
            check("hides the padding of every row", 2, Outcome.NOT_ATTEMPTED),
            check("accepts a row that is all padding", 1, Outcome.SKIPPED),
        ),
        exercise(
            "causal_mask",
            "Causal mask",
            check("has the shape (T, T) and dtype bool", 1),
            check("lets every position see itself and its past", 4),
            check("hides the future from every position", 4, Outcome.FAILED, FUTURE),
        ),
        exercise(
            "SelfAttention",
            "The self-attention layer",
            check("projects queries, keys and values", 3),
            check("passes the mask on", 2.5),
            check("works on a batch of ragged lengths", 2.5),
        ),
    ),
)

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(17)).decode()
ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "'\" style='position:fixed' x='",
    "`<iframe src=//example.org>`",
    "Ask       </em></p></td></table><form action=//example.org>",
    "Got       </code><a href=javascript:alert(1)>here</a>",
    "</title></pre></style><base href=//example.org>",
    "{{ 7 * 7 }}{% raw %}",
    "[bold red]x[/bold red] [link=https://example.org]y[/link] :smile: [/]",
    "\x1b[31mred\x1b[0m\x1b]8;;https://example.org\x07link\x1b]8;;\x07\x1b[2J\x9b1m\x1bP1q\x1b\\",
    "abc\u202edef\u2066ghi\u2069\0\x07\x08\ufeff\ud800",
    "a\rb\r\nc\x85d\u2028e",
]
texts = st.sampled_from(ATTACKS) | st.text(alphabet=st.characters(codec=None), max_size=40)
messages = st.lists(texts | st.sampled_from(["Called    ", "Got       x", "          y", ""])).map("\n".join)
checks = st.builds(
    CheckResult,
    name=texts,
    title=texts,
    points=st.integers(0, 40).map(lambda quarters: quarters / 4),
    outcome=st.sampled_from(Outcome),
    message=messages,
)
exercises = st.builds(ExerciseResult, name=texts, title=texts, checks=st.lists(checks, max_size=3).map(tuple))
verdicts = st.builds(
    Verdict,
    unit=texts,
    exercises=st.lists(exercises, max_size=3, unique_by=lambda exercise: exercise.name).map(tuple),
    problem=texts,
    notes=st.lists(texts, max_size=2).map(tuple),
)
outputs = st.builds(FeedbackOutput, text=texts, png_base64=texts | st.just(PNG), error=st.booleans())
cells = st.builds(
    FeedbackCell,
    kind=st.sampled_from(["code", "markdown"]),
    source=texts,
    outputs=st.lists(outputs, max_size=2).map(tuple),
    exercise=texts,
)
HARMLESS = "html head meta title style body main header section div h1 h2 h3 p a b br em strong span code pre"
HARMLESS += " table thead tbody tr th td img"


class Page(HTMLParser):
    """What a browser would find in a page: elements, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.pieces: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())


def assert_harmless(html: str) -> Page:
    """The page holds our own elements only, well nested, and nothing that runs, loads or leads away."""
    page = Page(html)
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag in HARMLESS.split()
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert "javascript:" not in value or name in ("aria-label",)
            if name == "href":
                assert re.fullmatch(r"#(exercise|cell)-\d+", value)
            if name == "src":
                assert value.startswith("data:image/png;base64,iVBORw0KGgo")
            if name == "style":
                assert "position" not in value
                assert "url(" not in value
    assert_calm(html)
    return page


def assert_calm(text: str) -> None:
    """No character that a terminal or a bidi algorithm acts upon."""
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", text)
    text.encode()


def words(text: str) -> str:
    """A text as it is compared: without backticks, in single spaces."""
    return " ".join(clean(text).replace("`", "").split())


def shown(verdict: Verdict, width: int = 100) -> str:
    """The class table of one verdict as text."""
    console = Console(file=io.StringIO(), width=width)
    verdict_table({"noether": verdict}, console)
    return console.file.getvalue()


def page_of(verdict: Verdict, cells: tuple[FeedbackCell, ...] = (), **changes: object) -> FeedbackPage:
    """A feedback page on which the teacher changed nothing."""
    page = FeedbackPage(
        student="noether",
        unit_title="Attention",
        unit=verdict.unit,
        verdict=verdict,
        score=verdict.score,
        max_score=verdict.max_score,
        exercises=tuple(FeedbackExercise(result=e, score=e.score) for e in verdict.exercises),
        cells=cells,
    )
    return dataclasses.replace(page, **changes)


# Nothing that a student wrote acts on the reader


@settings(deadline=None)
@given(exercises, texts)
def test_a_rubric_is_harmless_whatever_stands_in_it(exercise: ExerciseResult, hint: str) -> None:
    assert_harmless(rubric_html(exercise, lost_hint=hint))
    assert_calm(rubric_text(exercise))


@settings(deadline=None)
@given(verdicts, st.lists(cells, max_size=3).map(tuple), texts, texts, texts)
def test_a_feedback_page_is_harmless_whatever_stands_in_it(
    verdict: Verdict, cells: tuple[FeedbackCell, ...], student: str, title: str, comment: str
) -> None:
    told = tuple(FeedbackExercise(result=e, score=1, comment=comment, manual=True) for e in verdict.exercises)
    page = page_of(verdict, cells, student=student, unit_title=title, exercises=told)
    assert_harmless(feedback_html(page))


@settings(deadline=None)
@given(verdicts, texts)
def test_terminal_and_gradescope_are_calm_whatever_stands_in_them(verdict: Verdict, student: str) -> None:
    console = Console(file=io.StringIO(), width=100)
    verdict_table({student: verdict}, console)
    for exercise in verdict.exercises:
        print_rubric(exercise, console)
    assert_calm(console.file.getvalue())
    result = to_gradescope(verdict)
    for text in (result["output"], *(t["name"] + t["output"] for t in result["tests"])):
        assert_calm(text)
    json.dumps(result)


@pytest.mark.parametrize("attack", ATTACKS)
def test_markup_is_shown_as_it_was_written(attack: str) -> None:
    result = exercise("x", attack, check(attack, 1, Outcome.FAILED, attack))
    visible = re.sub(r"^Ask ", "", words(attack))
    assert visible in words(Page(rubric_html(result)).text)
    assert visible in words(rubric_text(result).replace("→ ", ""))


def test_rich_markup_in_a_message_is_not_interpreted() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor")
    text = "[red]not red[/red] :smile: [/nothing]"
    print_rubric(exercise("x", "X", check("y", 1, Outcome.FAILED, text)), console)
    assert text in console.file.getvalue()


def test_escape_codes_go_and_invisible_characters_show() -> None:
    assert clean("\x1b[1;31mred\x1b[0m \x1b]0;title\x07x\x1b(B") == "red x"
    assert clean("a\u202eb\0c") == "a⟨202E⟩b⟨0000⟩c"
    assert clean("a\r\nb\rc") == "a\nb\nc"
    assert clean("naïve ∂x ≤ 中文 👩‍🔬") == "naïve ∂x ≤ 中文 👩‍🔬"


def test_the_feedback_page_forbids_scripts_frames_forms_and_the_network() -> None:
    page = assert_harmless(feedback_html(page_of(SAMPLE)))
    metas = [attributes for tag, attributes in page.tags if tag == "meta"]
    assert metas[0] == {"charset": "utf-8"}
    policy = metas[1]["content"].split("; ")
    assert metas[1]["http-equiv"] == "Content-Security-Policy"
    assert set(policy) == {
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    }
    assert ("html", {"lang": "en"}) in page.tags


@pytest.mark.parametrize("data", [b"<svg onload=alert(1)>", b"GIF89a", b"", b"\x89PN"])
def test_an_image_that_is_no_png_is_dropped_with_a_sentence(data: bytes) -> None:
    for text in (base64.b64encode(data).decode() or "=", PNG + '" onerror="x', "é" + PNG):
        output = FeedbackOutput(png_base64=text)
        html = feedback_html(page_of(SAMPLE, (FeedbackCell(kind="code", source="", outputs=(output,)),)))
        assert "<img" not in html
        assert "An image is not shown here" in html


def test_a_png_is_shown_from_within_the_page() -> None:
    output = FeedbackOutput(png_base64=f"{PNG[:20]}\n{PNG[20:]}\n")
    html = feedback_html(page_of(SAMPLE, (FeedbackCell(kind="code", source="", outputs=(output,)),)))
    assert f'<img src="data:image/png;base64,{PNG}"' in html


def test_big_outputs_are_cut_with_a_sentence() -> None:
    huge = tuple(FeedbackOutput(text="y" * 3_000_000) for _ in range(LIMITS["outputs"] + 1))
    many = tuple(FeedbackCell(kind="code", source="pass") for _ in range(LIMITS["cells"]))
    html = feedback_html(page_of(SAMPLE, (FeedbackCell(kind="code", source="", outputs=huge), *many)))
    assert len(html) < 1_500_000
    assert "the first 20,000 of 3,000,000 characters are shown" in html
    assert "the first 40 of 41 outputs are shown" in html
    assert "the first 400 of 401 cells are shown" in html
    long = exercise("x", "X", check("y", 1, Outcome.FAILED, "z" * 1_000_000))
    assert len(rubric_html(long)) < 10_000
    assert len(rubric_text(long)) < 10_000


# Nothing is left out, and nothing is added


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_its_own_symbol_and_word(outcome: Outcome) -> None:
    symbol, word, colour, _ = MARKS[outcome]
    assert len({mark[0] for mark in MARKS.values()}) == len({mark[1] for mark in MARKS.values()}) == 5
    result = exercise("x", "X", check("y", 1, outcome))
    assert f"{symbol} {word}" in Page(rubric_html(result)).text
    assert f"{symbol} {word}" in rubric_text(result)
    assert colour in {"#009E73", "#D55E00", "#0072B2", "#CC79A7", "currentColor"}


@settings(deadline=None)
@given(exercises)
def test_text_and_html_tell_the_same_checks(result: ExerciseResult) -> None:
    def told(text: str) -> list[str]:
        marks = "|".join(f"{re.escape(symbol)} {word}" for symbol, word, _, _ in MARKS.values())
        return re.findall(rf"(?:{marks}) +\S+ of \S+|[\d.]+ of [\d.]+ points", words(text))

    order = r"(<td[^>]*>)(?=<strong)(.*?</td>)\s*(<td.*?</td>)\s*(<td.*?</td>)"
    html = re.sub(order, r"\1\2 \4 \3", rubric_html(result), flags=re.DOTALL)
    assert told(Page(html).text) == told(rubric_text(result))
    for check in result.checks:
        line = words(" ".join(clean(check.title).split()))
        assert line in words(Page(html).text)
        assert line in words(rubric_text(result))


def test_a_rubric_says_what_was_earned_and_what_is_at_stake() -> None:
    for show in (rubric_text, lambda e: Page(rubric_html(e)).text):
        assert "5 of 9 points; 4 still at stake in grading" in show(SAMPLE.exercise("causal_mask"))
        assert "4 of 4 points" in show(SAMPLE.exercise("attention_scores"))
        assert "at stake" not in show(SAMPLE.exercise("attention_scores"))
        assert "not final, a person must look" in show(SAMPLE.exercise("scaled_dot_product_attention"))
        assert "a person must look, and it never counts as a zero" in show(exercise("x", "X"))


def test_what_is_not_written_yet_is_told_in_one_calm_sentence() -> None:
    for show in (rubric_text, lambda e: Page(rubric_html(e)).text):
        text = show(SAMPLE.exercise("padding_mask"))
        assert text.count("Not written yet") == 1
        assert "✗" not in text
        assert "failed" not in text
    assert MARKS[Outcome.FAILED][2] not in rubric_html(SAMPLE.exercise("padding_mask"))


def test_the_next_question_stands_apart_without_a_label() -> None:
    result = SAMPLE.exercise("attention_weights")
    assert "→ Over which axis did the softmax run?" in rubric_text(result)
    assert re.search(r"<em[^>]*>Over which axis did the softmax run\?</em>", rubric_html(result))
    assert "Ask" not in rubric_text(result) + Page(rubric_html(result)).text


def test_a_value_over_several_lines_keeps_its_columns() -> None:
    result = SAMPLE.exercise("attention_weights")
    assert "tensor([[0.31, 1.74, 0.95],\n        [1.12, 0.77, 1.11]])</pre>" in rubric_html(result)
    assert "Got       tensor([[0.31, 1.74, 0.95],\n                        [1.12," in rubric_text(result)


def test_the_hint_stands_only_where_work_is_left() -> None:
    told = {e.name for e in SAMPLE.exercises if "Stuck?" in rubric_html(e, lost_hint="Stuck?")}
    assert told == {"attention_weights", "padding_mask", "causal_mask"}


# The class


def test_the_table_lists_every_loss_with_its_reason() -> None:
    text = shown(SAMPLE)
    for line in (
        "noether · attention_weights · −4 · Row sums are 0.31, 1.74, 0.95; every row",
        "noether · scaled_dot_product_attention · −1 · grader error in: does not",
        "noether · padding_mask · −3 · not written yet",
        "noether · causal_mask · −4 · ",
        "! noether · a person must look: a check broke in scaled_dot_product_attention",
    ):
        assert line in text
    assert text.count("noether · ") == 5


@settings(deadline=None)
@given(verdicts)
def test_the_table_has_a_line_for_every_exercise_that_lost(verdict: Verdict) -> None:
    text = shown(verdict, width=400)
    lost = sum(e.first_loss is not None for e in verdict.exercises)
    assert text.count("noether · ") >= (
        1 if verdict.problem else lost
    )  # a problem is told once for all of them
    assert f"{points(verdict.score)}/{points(verdict.max_score)}" in text
    assert ("a person must look" in text) >= verdict.needs_person


def test_six_exercises_fit_into_a_hundred_columns_with_nothing_cut() -> None:
    table = shown(SAMPLE).split("\n\n")[0]
    assert max(map(len, table.splitlines())) <= 100
    assert "…" not in table
    assert "24/36" in table
    for word in ("scaled_", "dot_", "product_", "attention", "padding_", "causal_", "Self", "Attention"):
        assert re.search(rf"\b{word}(\s|$)", table)


def test_a_submission_that_cannot_be_read_is_marked_with_its_problem() -> None:
    console = Console(file=io.StringIO(), width=100)
    broken = Verdict(unit="08_attention", exercises=(), problem="The notebook is not JSON.")
    verdict_table({"noether": SAMPLE, "[b]": broken}, console)
    assert "! [b] · a person must look: The notebook is not JSON." in console.file.getvalue()


# What leaves the house


@settings(deadline=None)
@given(verdicts)
def test_gradescope_adds_up_to_the_verdict(verdict: Verdict) -> None:
    result = to_gradescope(verdict)
    assert result["score"] == verdict.score == sum(test["score"] for test in result["tests"])
    assert sum(test["max_score"] for test in result["tests"]) == verdict.max_score
    assert len(result["tests"]) == sum(len(e.checks) for e in verdict.exercises)
    for test in result["tests"]:
        assert test["status"] == "passed" or test["score"] == 0
        assert test["visibility"] == result["visibility"] == "visible"
        assert test["output_format"] == test["name_format"] == "text"
    assert ("A person must look" in result["output"]) >= verdict.needs_person


def test_the_feedback_page_shows_the_final_points_and_what_changed_them() -> None:
    changed = tuple(
        FeedbackExercise(result=e, score=6, manual=True, comment="Well argued.")
        if e.name == "attention_weights"
        else FeedbackExercise(result=e, score=e.score)
        for e in SAMPLE.exercises
    )
    text = Page(feedback_html(page_of(SAMPLE, score=26.5, late_penalty=1.5, exercises=changed))).text
    assert "26.5 of 36 points, after 1.5 off for being late" in text
    assert "6 of 6 points, set by your teacher (the checks: 2 of 6 points)" in text
    assert "Your teacher writes Well argued." in text.replace("writesWell", "writes Well")
    assert "Not final: a person must look at this submission." in text
    assert "at stake" not in text


def test_every_anchor_of_the_feedback_page_leads_somewhere() -> None:
    answers = tuple(FeedbackCell(kind="code", source="pass", exercise=e.name) for e in SAMPLE.exercises)
    page = Page(feedback_html(page_of(SAMPLE, answers)))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    targets = [attributes["href"][1:] for tag, attributes in page.tags if tag == "a"]
    assert len(ids) == len(set(ids))
    assert set(targets) <= set(ids)
    assert len(targets) == 12
    assert [t for t, _ in page.tags if t in ("h1", "h2", "h3")] == ["h1", "h2", *["h3"] * 6, "h2"]


def test_source_and_output_keep_every_line_and_blank() -> None:
    source = "\n\ndef f(x):\n    return x  # two  blanks\n"
    html = feedback_html(page_of(SAMPLE, (FeedbackCell(kind="code", source=source),)))
    assert f'tabindex="0">\n{source}</pre>' in html


def test_what_prints_is_clean_as_it_is() -> None:
    printable = "".join(filter(str.isprintable, map(chr, range(0x110000))))
    rest = report._BREAK.sub("\n", report._ESCAPE.sub("", printable)).expandtabs(4).translate(report._VISIBLE)
    assert report.clean(printable) == rest == printable
