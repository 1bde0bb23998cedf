"""A learner in JupyterLab, as ``proctor lab`` opens it: the lesson, the rubric, hints, Validate, the reward."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect

from browser.servers import BIN, Server, lab_on
from proctor.course import Mistake, read_course, read_release
from proctor.demo import without_marks
from proctor.learner import WIDTH

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
COURSE = read_course(ROOT)
UNIT = COURSE.unit("08_attention")
EXERCISE, MISTAKE = "attention_scores", "no scaling"
MARKS = {"✓": "passed", "✗": "failed", "○": "not attempted", "–": "skipped"}
# Everything in an output that sticks out of it. What scrolls inside itself does not.
STICKING_OUT = """
output => [output, ...output.querySelectorAll("*")]
    .filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "auto")
    .map(e => `${e.tagName} ${e.scrollWidth} > ${e.clientWidth}: ${e.textContent.slice(0, 60)}`)
"""
# The contrast of each text with what lies behind it, by WCAG 2's formula, decoration left out: the lowest.
CONTRAST = """
output => {
    const parse = css => { const [r, g, b, a] = css.match(/[\\d.]+/g).map(Number); return [r, g, b, a ?? 1]; };
    const over = ([r, g, b, a], under) => [r, g, b].map((c, i) => c * a + under[i] * (1 - a));
    const line = e => e ? [...line(e.parentElement), e] : [];
    const light = c => c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    let lowest = [21, ""];
    for (const e of output.querySelectorAll("*")) {
        const text = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join("");
        if (!text || e.closest("[aria-hidden=true]")) continue;
        let behind = [255, 255, 255], opacity = 1;
        for (const f of line(e)) {
            behind = over(parse(getComputedStyle(f).backgroundColor), behind);
            opacity *= Number(getComputedStyle(f).opacity);
        }
        const [r, g, b, a] = parse(getComputedStyle(e).color);
        const [low, high] = [light(over([r, g, b, a * opacity], behind)), light(behind)].sort((x, y) => x - y);
        const contrast = (high + .05) / (low + .05);
        if (contrast < lowest[0]) lowest = [contrast, text.slice(0, 60)];
    }
    return lowest;
}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The course as learners have it, opened by ``proctor lab``."""
    root = tmp_path_factory.mktemp("learner") / "course"
    for name in ("lessons", "exercises", "graders"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for name in ("course.toml", "nbgrader_config.py"):
        shutil.copy(ROOT / name, root)
    with lab_on(root) as server:
        yield server


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """The right answers, as learners would write them."""
    solution = nbformat.read(COURSE.solution(UNIT), as_version=4)
    return {
        cell.metadata.nbgrader.grade_id: without_marks(cell.source)
        for cell in solution.cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }


@pytest.fixture(scope="module")
def mistake() -> Mistake:
    return next(m for m in COURSE.exercises(UNIT)[EXERCISE].mistakes if m.name == MISTAKE)


class Notebook:
    """A notebook that is open in JupyterLab; cells go by nbgrader's names."""

    def __init__(self, page: Page, server: Server, path: Path) -> None:
        self.page, self.server, self.path = page, server, path
        cells = nbformat.read(path, as_version=4).cells
        self.places = {
            c.metadata.nbgrader.grade_id: i for i, c in enumerate(cells) if "nbgrader" in c.metadata
        }
        self.places |= {cell.id: i for i, cell in enumerate(cells)}
        where = path.relative_to(server.root).as_posix()
        page.goto(server.at(f"/lab/workspaces/{path.parent.name}/tree/{where}"))
        expect(page.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute("data-status", "idle")
        expect(page.locator(".jp-Notebook > .jp-WindowedPanel-outer .jp-Cell")).to_have_count(len(cells))

    def cell(self, name: str | int) -> Locator:
        place = name if isinstance(name, int) else self.places[name]
        return self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{place}"]')

    def write(self, name: str | int, source: str) -> None:
        """Replace what stands in a cell."""
        editor = self.cell(name).locator(".cm-content")
        editor.click()
        editor.press("Control+A")
        self.page.keyboard.insert_text(source)

    def run(self, name: str | int) -> Locator:
        """Run a cell; its output, once it is done."""
        cell = self.cell(name)
        prompt = cell.locator(".jp-InputPrompt")
        before = prompt.inner_text()
        # JupyterLab may still be moving the focus when a notebook has just been opened: a key can get lost.
        for _ in range(6):
            cell.locator(".cm-content").click()
            self.page.keyboard.press("Control+Enter")
            with suppress(AssertionError):
                expect(prompt).not_to_have_text(before, timeout=10_000)
                break
        expect(prompt).to_have_text(re.compile(r"\[\d+\]:"))
        return cell.locator(".jp-Cell-outputArea")

    def check(self, exercise: str = EXERCISE) -> Locator:
        """Run the cell of an exercise and its check; the check's output."""
        self.run(exercise)
        return self.run(f"check-{exercise}")

    def run_all(self) -> None:
        """Run every cell, by the menu."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
        last = self.cell(max(self.places.values())).locator(".jp-InputPrompt")
        expect(last).to_have_text(re.compile(r"\[\d+\]:"))

    def save(self) -> None:
        self.page.keyboard.press("Escape")
        with self.page.expect_response(
            lambda r: r.request.method == "PUT" and r.url.split("?")[0].endswith(".ipynb")
        ):
            self.page.keyboard.press("Control+S")

    def validate(self) -> Locator:
        """Press Validate; the dialog, once it is there."""
        self.page.locator('jp-button:has-text("Validate")').click()
        dialog = self.page.locator(".jp-Dialog-content")
        expect(dialog).to_contain_text("Validation")
        return dialog

    def close(self) -> None:
        """End the kernel."""
        authority = {"Authorization": f"token {self.server.token}"}
        sessions = f"{self.server.url}/api/sessions"
        for session in self.page.request.get(sessions, headers=authority).json():
            if session["path"] == self.path.relative_to(self.server.root).as_posix():
                self.page.request.delete(f"{sessions}/{session['id']}", headers=authority)


@pytest.fixture
def opened(
    lab: Server, page: Page, request: pytest.FixtureRequest
) -> Iterator[Callable[[dict[str, str]], Notebook]]:
    """Opens a fresh copy of the exercise that ``proctor start`` has put into my-work/, with answers filled in."""
    notebooks = []

    def open_copy(filled_in: dict[str, str] | None = None) -> Notebook:
        started = lab.root / "my-work" / UNIT.name
        name = re.sub(r"\W+", "-", request.node.name).strip("-")
        path = shutil.copytree(started, started.with_name(name)) / f"{UNIT.notebook}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            cell.source = (filled_in or {}).get(cell.id, cell.source)
        nbformat.write(notebook, path)
        notebooks.append(Notebook(page, lab, path))
        return notebooks[-1]

    yield open_copy
    for notebook in notebooks:
        notebook.close()


@pytest.fixture
def ready(opened: Callable[..., Notebook]) -> Callable[..., Notebook]:
    """Opens a copy as ``opened`` does, and runs its set-up."""

    def open_and_set_up(filled_in: dict[str, str] | None = None) -> Notebook:
        notebook = opened(filled_in)
        notebook.run("setup")
        return notebook

    return open_and_set_up


@pytest.fixture
def rewarded(opened: Callable[..., Notebook]) -> Callable[..., tuple[Notebook, Locator]]:
    """Opens a copy as ``opened`` does, and runs all of it; the notebook, and what its reward shows."""

    def open_and_run(filled_in: dict[str, str] | None = None) -> tuple[Notebook, Locator]:
        notebook = opened(filled_in)
        notebook.run_all()
        return notebook, notebook.cell("reward").locator(".jp-Cell-outputArea")

    return open_and_run


@pytest.fixture
def dark(lab: Server, page: Page) -> Iterator[None]:
    """JupyterLab's dark theme."""
    url = f"{lab.url}/lab/api/settings/@jupyterlab/apputils-extension:themes"
    authority = {"Authorization": f"token {lab.token}"}
    assert page.request.put(url, headers=authority, data={"raw": '{"theme": "JupyterLab Dark"}'}).ok
    yield
    page.request.put(url, headers=authority, data={"raw": "{}"})


def rows(output: Locator) -> list[tuple[str, str, str]]:
    """The rubric's lines in the browser: outcome, title, points."""
    lines = [
        [" ".join(cell.split()) for cell in row.locator("td").all_text_contents()]
        for row in output.locator("table[aria-label] > tbody > tr").all()
    ]
    return [(line[0].split(" ", 1)[1], line[1].replace("`", ""), line[2]) for line in lines if len(line) == 3]


def rows_of_proctor_check(path: Path, exercise: str) -> list[tuple[str, str, str]]:
    """The same lines as ``proctor check`` prints them."""
    done = subprocess.run(
        [BIN / "proctor", "check", path, exercise],
        capture_output=True,
        text=True,
        cwd=path.parent,
        env={"PATH": str(BIN), "COLUMNS": "300", "PYTHONUTF8": "1", "HOME": str(path.parent)},
    )
    line = re.compile(rf"^  ([{''.join(MARKS)}]) (\S.*?)  +(\S+ of \S+) +(\S.*?) *$", re.MULTILINE)
    found = line.findall(done.stdout)
    assert found, done.stdout + done.stderr
    return [(word, title.replace("`", ""), points) for _, word, points, title in found]


def stays_inside(page: Page, output: Locator) -> None:
    """Nothing of an output sticks out of its cell, in a wide window or a narrow one."""
    usual = page.viewport_size
    for width in (820, usual["width"]):
        page.set_viewport_size({**usual, "width": width})
        assert output.evaluate(STICKING_OUT) == [], f"at {width} pixels"


class TestLesson:
    def test_proctor_lab_opens_the_first_lesson_with_its_figures_and_no_question(
        self, lab: Server, page: Page, complaints: list[str], shot: Callable[..., None]
    ) -> None:
        page.goto(lab.at("/"))
        expect(page.locator(".jp-Notebook .jp-MarkdownOutput h1").first).to_have_text(
            re.compile(COURSE.units[0].title)
        )
        expect(page.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute("data-status", "idle")
        figures = page.locator(".jp-Notebook .jp-OutputArea-output img")
        expect(figures.first).to_be_attached()
        assert figures.evaluate_all("all => all.every(image => image.naturalWidth > 0)")
        assert page.locator(".Toastify__toast, .jp-Dialog").count() == 0
        assert (lab.root / "my-work" / UNIT.name / f"{UNIT.notebook}.ipynb").is_file()
        shot(page, "lesson")
        figures.first.scroll_into_view_if_needed()
        shot(page, "lesson-figure")
        assert complaints == []


# The same calls as in lessons 13 and 14, on models that know nothing: what moves is the widget.
TRANSLATOR = """
from scratch.translation_widget import playground
from scratch.translator import Corpus, Example, Recipe, Translator
tiny = Recipe("dates", steps=2, warmup=1, factor=0.1, d_model=8, heads=2, d_ff=8, layers=1)
pairs = [Example("bom dia", "good morning"), Example("boa noite", "good night")]
corpus = Corpus(pairs, [], [], cut=str.split, glue=" ")
translator = Translator(tiny, corpus)
playground(lambda text: translator, "bom dia")
"""
SLIDERS = """
import torch
from scratch.gpt import GPT
from scratch.play_models import Characters
from scratch.playground import play
torch.manual_seed(0)
characters = Characters("To be, or not to be")
play(GPT(len(characters), 120, 16, 2, 1).eval(), characters, "To be")
"""


class TestWidgets:
    @pytest.fixture
    def written(self, lab: Server, page: Page) -> Iterator[Callable[[str, str], Notebook]]:
        """Opens a notebook of one cell, and runs it."""
        opened = []

        def write(name: str, source: str) -> Notebook:
            path = lab.root / "my-work" / name / f"{name}.ipynb"
            path.parent.mkdir()
            cell = nbformat.v4.new_code_cell(source.strip())
            kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
            opened.append(Notebook(page, lab, path))
            opened[-1].run(0)
            return opened[-1]

        yield write
        for notebook in opened:
            notebook.close()

    def test_a_sentence_that_is_typed_is_translated_and_drawn(
        self, written: Callable[[str, str], Notebook], complaints: list[str], shot: Callable[..., None]
    ) -> None:
        output = written("typed", TRANSLATOR).cell(0).locator(".jp-OutputArea-output")
        box = output.locator("input[type=text]")
        expect(box).to_have_value("bom dia")
        figure = output.locator("img")
        expect(figure).to_have_attribute("alt", re.compile("bom"))
        box.fill("boa noite")
        box.press("Enter")
        expect(figure).to_have_attribute("alt", re.compile("noite"))
        shot(output.last, "translator")
        box.fill("boa <b>xyz</b>")
        box.press("Enter")
        expect(output.last).to_contain_text("Never seen in training")
        assert complaints == []

    def test_sliders_change_who_may_be_drawn_and_the_text(
        self, written: Callable[[str, str], Notebook], complaints: list[str], shot: Callable[..., None]
    ) -> None:
        output = written("moved", SLIDERS).cell(0).locator(".jp-OutputArea-output")
        sliders = output.get_by_role("slider")
        expect(sliders).to_have_count(3)
        figure, text = output.locator("img"), output.locator("pre")
        before, said = figure.get_attribute("alt"), text.inner_text()
        for _ in range(5):
            sliders.nth(1).press("ArrowLeft")
        expect(figure).not_to_have_attribute("alt", before)
        sliders.nth(2).press("ArrowRight")
        expect(text).not_to_have_text(said)
        shot(output.last, "sliders")
        assert complaints == []


class TestRubric:
    def test_an_untouched_stub_gets_a_calm_rubric_and_no_points(
        self, ready: Callable[..., Notebook], page: Page, complaints: list[str], shot: Callable[..., None]
    ) -> None:
        notebook = ready()
        output = notebook.check()
        most = read_release(notebook.path.parent).exercise(EXERCISE).points
        expect(output).to_contain_text("Not written yet")
        expect(output).to_contain_text(f"0 of {most:g} points")
        assert {word for word, _, _ in rows(output)} == {"not attempted"}
        assert "✗" not in output.inner_text()
        stays_inside(page, output)
        shot(notebook.cell(f"check-{EXERCISE}"), "rubric-not-attempted")
        assert complaints == []

    def test_a_mistake_and_its_repair_are_told_where_the_learner_works(
        self,
        ready: Callable[..., Notebook],
        answers: dict[str, str],
        mistake: Mistake,
        page: Page,
        complaints: list[str],
        shot: Callable[..., None],
    ) -> None:
        notebook = ready()
        notebook.write(EXERCISE, mistake.applied_to(answers[EXERCISE]))
        output = notebook.check()
        expect(output).to_contain_text("✗")
        expect(output).to_contain_text(mistake.says)  # what came back, in words
        expect(output.locator("p em").first).to_have_text(re.compile(r"\?$"))  # and what to ask oneself
        notebook.save()
        seen = rows(output)
        assert "failed" in {word for word, _, _ in seen}
        assert seen == rows_of_proctor_check(notebook.path, EXERCISE)
        stays_inside(page, output)
        shot(notebook.cell(f"check-{EXERCISE}"), "rubric-failing")

        notebook.write(EXERCISE, answers[EXERCISE])
        output = notebook.check()
        most = read_release(notebook.path.parent).exercise(EXERCISE).points
        expect(output).to_contain_text(f"{most:g} of {most:g} points")
        assert {word for word, _, _ in rows(output)} == {"passed"}
        stays_inside(page, output)
        shot(notebook.cell(f"check-{EXERCISE}"), "rubric-passing")
        assert complaints == []

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_every_word_stands_out_from_its_background(
        self,
        theme: str,
        request: pytest.FixtureRequest,
        ready: Callable[..., Notebook],
        answers: dict[str, str],
        mistake: Mistake,
        page: Page,
        shot: Callable[..., None],
    ) -> None:
        if theme == "dark":
            request.getfixturevalue("dark")
        notebook = ready({EXERCISE: mistake.applied_to(answers[EXERCISE])})
        expect(page.locator("body")).to_have_attribute("data-jp-theme-light", str(theme == "light").lower())
        output = notebook.check()
        expect(output).to_contain_text(mistake.says)
        contrast, text = output.locator(".jp-RenderedHTMLCommon").evaluate(CONTRAST)
        assert contrast > 4.5, text  # WCAG 2.2, level AA
        page.keyboard.press("j")  # the frame of the chosen cell moves on, out of the picture
        above, below = (notebook.cell(name).bounding_box() for name in (EXERCISE, f"check-{EXERCISE}"))
        clip = {**above, "height": below["y"] + below["height"] - above["y"] - 8}
        shot(page, "rubric" if theme == "light" else "rubric-dark", clip=clip)


class TestHints:
    def test_each_call_shows_one_more_hint(
        self, ready: Callable[..., Notebook], page: Page, complaints: list[str], shot: Callable[..., None]
    ) -> None:
        notebook = ready()
        page.keyboard.press("Escape")
        page.keyboard.press("b")  # a cell of one's own, below
        place = notebook.places["setup"] + 1
        notebook.write(place, f'hint("{EXERCISE}")')
        hints = read_release(notebook.path.parent).exercise(EXERCISE).hints
        for count in range(1, len(hints) + 1):
            output = notebook.run(place)
            expect(output).to_contain_text(f"Hint {count} of {len(hints)}")
            text = output.inner_text()
            assert text.count(f" of {len(hints)}:") == count
        assert max(map(len, text.splitlines())) <= WIDTH
        stays_inside(page, output)
        shot(notebook.cell(place), "hints")
        assert complaints == []


class TestValidate:
    def test_validate_says_that_an_untouched_notebook_fails(
        self, opened: Callable[..., Notebook], page: Page, shot: Callable[..., None]
    ) -> None:
        dialog = opened().validate()
        assert dialog.locator(".validation-failed").count() == 1
        shot(page, "validate-untouched")

    def test_validate_says_that_a_solved_notebook_passes(
        self, opened: Callable[..., Notebook], answers: dict[str, str], page: Page, shot: Callable[..., None]
    ) -> None:
        dialog = opened(answers).validate()
        expect(dialog).to_contain_text("Success! Your notebook passes all the tests.")
        shot(page, "validate-solved")


class TestReward:
    def test_before_it_says_which_exercise_it_waits_for(
        self,
        rewarded: Callable[..., tuple[Notebook, Locator]],
        page: Page,
        complaints: list[str],
        shot: Callable[..., None],
    ) -> None:
        notebook, output = rewarded()
        expect(output).to_contain_text(f"waits for `{EXERCISE}`")
        assert page.locator('.jp-OutputArea-output[data-mime-type*="error"]').count() == 0
        assert page.locator('.jp-OutputArea-output[data-mime-type*="stderr"]').count() == 0
        shot(notebook.cell("reward"), "reward-waiting")
        assert complaints == []

    def test_after_it_draws_its_figure(
        self,
        rewarded: Callable[..., tuple[Notebook, Locator]],
        answers: dict[str, str],
        page: Page,
        complaints: list[str],
        shot: Callable[..., None],
    ) -> None:
        notebook, output = rewarded(answers)
        figure = output.locator("img")
        expect(figure).to_be_attached()
        assert figure.evaluate("image => image.naturalWidth") > 0
        assert figure.get_attribute("alt")
        for exercise in answers:
            rubric = notebook.cell(f"check-{exercise}").locator(".jp-Cell-outputArea")
            assert {word for word, _, _ in rows(rubric)} == {"passed"}, exercise
        stays_inside(page, output)
        shot(notebook.cell("reward"), "reward")
        assert complaints == []
