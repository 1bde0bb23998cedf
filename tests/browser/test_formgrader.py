"""A teacher in nbgrader's formgrader: the buttons do what the commands do, and the rubric is there to read."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook
from playwright.sync_api import Locator, Page, expect

from browser.servers import BIN, Server, lab_on
from minicourse import ANSWERS, UNIT, make_class

pytestmark = [
    pytest.mark.browser,
    pytest.mark.isolation,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning"),  # raised by nbgrader's own queries
]

WRONG = {**ANSWERS, "norm": "def norm(x):\n    return double(x).sum()"}
HANDED_IN = {"ada": ANSWERS, "bela": WRONG, "chen": {}}


@pytest.fixture(scope="module")
def expected(formgrader: Server) -> dict[str, float]:
    """What ``proctor grade`` gives on a copy of the same class."""
    copy = formgrader.root.with_name("graded-by-proctor")
    subprocess.run([BIN / "proctor", "grade", UNIT, "--jobs", "2"], cwd=copy, check=True, capture_output=True)
    with Gradebook(f"sqlite:///{copy / 'gradebook.db'}") as gradebook:
        return {s.student.id: s.score for s in gradebook.assignment_submissions(UNIT)}


@pytest.fixture(scope="module")
def formgrader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The course of a class whose work is collected, opened by ``proctor lab``."""
    course = make_class(tmp_path_factory.mktemp("class"), HANDED_IN)
    shutil.copytree(course.root, course.root.with_name("graded-by-proctor"))
    with lab_on(course.root) as server:
        yield server


@pytest.fixture
def teacher(formgrader: Server, page: Page) -> Page:
    """A browser that has logged in, as JupyterLab's own page does."""
    page.goto(f"{formgrader.at('/login')}&next=/api")
    return page


def press(page: Page, row: Locator, button: str) -> None:
    """Press one of formgrader's buttons, and let it say that all went well."""
    row.locator(f"{button} a").click()
    dialog = page.locator(".modal.in")
    expect(dialog.locator(".modal-title")).to_have_text("Success")
    dialog.get_by_role("button", name="OK").click()
    expect(page.locator(".modal, .modal-backdrop")).to_have_count(0)


def row_of(page: Page, student: str) -> Locator:
    return page.locator("#main-table tr").filter(has=page.locator(".student-id", has_text=student))


class TestAutograde:
    def test_the_button_gives_the_scores_of_proctor_grade_and_the_page_shows_the_rubric(
        self, formgrader: Server, expected: dict[str, float], teacher: Page, shot: Callable[..., None]
    ) -> None:
        page = teacher
        page.goto(formgrader.at(f"/formgrader/manage_submissions/{UNIT}"))
        for student in HANDED_IN:
            row = row_of(page, student)
            expect(row.locator(".status")).to_have_text("needs autograding")
            press(page, row, ".autograde")
            expect(row.locator(".score")).to_have_text(f"{expected[student]:g} / 6")
            expect(row.locator(".status")).to_have_text("graded")
        shot(page, "formgrader-submissions")

        press(page, row_of(page, "bela"), ".generate-feedback")
        feedback = formgrader.root / "feedback" / "bela" / UNIT / "mini.html"
        assert "Is there a root?" in feedback.read_text()

        page.goto(formgrader.at(f"/formgrader/gradebook/{UNIT}/mini"))
        rows = page.locator("#main-table tr")
        expect(rows).to_have_count(len(HANDED_IN))
        seen = {}
        for link in rows.locator("a").evaluate_all("all => all.map(a => a.href)"):
            page.goto(link)
            expect(page.locator("table[aria-label='Checks of norm']")).to_be_visible()
            score = page.locator("input.score#check-norm")
            expect(score).to_have_attribute("placeholder", re.compile(r"\d"))  # it comes after the page
            marks = {
                name: float(page.locator(f"#check-{name}").get_attribute("placeholder")) for name in ANSWERS
            }
            words = page.locator("table[aria-label='Checks of norm']").inner_text()
            seen[sum(marks.values())] = words
            if "Is there a root?" in words:
                shot(page, "formgrade", full_page=True)
        assert set(seen) == set(expected.values())
        assert "failed" in seen[expected["bela"]]
        assert "Is there a root?" in seen[expected["bela"]]
        assert "passed" in seen[expected["ada"]]
        assert "not attempted" in seen[expected["chen"]]


class TestGenerate:
    def test_the_button_makes_stubs_and_puts_the_checks_beside_them(
        self, formgrader: Server, teacher: Page, shot: Callable[..., None]
    ) -> None:
        made: Path = formgrader.root / "exercises" / UNIT
        shutil.rmtree(made)
        page = teacher
        page.goto(formgrader.at("/formgrader/manage_assignments"))
        row = page.locator("#main-table tr").filter(has_text=UNIT)
        expect(row).to_have_count(1)
        shot(page, "formgrader-assignments")
        press(page, row, ".assign")
        assert {path.name for path in (made / "checks").iterdir()} == {"test_mini.py", "unit.json"}
        notebook = nbformat.read(made / "mini.ipynb", as_version=4)
        for cell in notebook.cells:
            if cell.id in ANSWERS:
                assert f'raise NotImplementedError("{cell.id}")' in cell.source
                assert ANSWERS[cell.id].split("\n")[1] not in cell.source
