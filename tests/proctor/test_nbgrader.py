"""nbgrader's workflow, end to end, on the miniature course: release, exchange, autograding, feedback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.validator import Validator
from rich.console import Console

from minicourse import ANSWERS, UNIT, make_course, make_solution
from proctor import classwork
from proctor.course import CourseError, read_course
from proctor.grade import course_key
from proctor.nbgrader import classroom
from proctor.report import rubric_html

BIN = Path(sys.executable).parent
WRONG = {**ANSWERS, "norm": "def norm(x):\n    return double(x).sum()"}
EXPECTED = {"ada": 6.0, "bela": 3.0, "chen": 0.0, "dora": 0.0}


def nbgrader(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the nbgrader command as a teacher does."""
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder), "JUPYTER_PLATFORM_DIRS": "1"}
    command = [str(BIN / "nbgrader"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)


def answer(notebook: nbformat.NotebookNode, answers: dict[str, str]) -> None:
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in answers:
            cell.source = answers[name]


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course with four submissions that went through the exchange: right, half wrong, untouched, broken."""
    folder = tmp_path_factory.mktemp("class")
    course = make_course(folder / "course")
    (folder / "exchange").mkdir(mode=0o777)
    (folder / "exchange").chmod(0o777)
    exchange = {
        "Exchange": {"root": str(folder / "exchange"), "cache": str(folder / "cache")},
        "ExchangeCollect": {"check_owner": False},
    }
    teacher = classroom.classroom(course.root, **exchange)
    classroom.release(teacher, course.root, UNIT)
    for name in EXPECTED:
        home = folder / name
        home.mkdir()
        student = classroom.classroom(course.root, **exchange, CourseDirectory={"student_id": name})
        classroom.fetch(student, home, UNIT)
        path = home / UNIT / "mini.ipynb"
        notebook = nbformat.read(path, as_version=4)
        answer(notebook, {"ada": ANSWERS, "bela": WRONG}.get(name, {}))
        nbformat.write(notebook, path)
        if name == "dora":
            path.write_text(path.read_text()[:200])
        classroom.submit(student, home, UNIT)
    classroom.collect(teacher, course.root, UNIT)
    course_key(course.root)  # made here, so that every copy of the course draws the same inputs
    return course.root


@pytest.fixture
def course_root(collected: Path, tmp_path: Path) -> Path:
    return shutil.copytree(collected, tmp_path / "course")


def rows(root: Path) -> list[tuple[object, ...]]:
    """Every grade of the unit, as nbgrader has it."""
    with Gradebook(f"sqlite:///{root / 'gradebook.db'}") as gradebook:
        return sorted(
            (s.student.id, g.name, g.auto_score, g.manual_score, g.needs_manual_grade, g.max_score, g.score)
            for s in gradebook.assignment_submissions(UNIT)
            for n in s.notebooks
            for g in n.grades
        )


def by_command(root: Path) -> None:
    done = nbgrader(root, "autograde", UNIT)
    assert done.returncode == 0, done.stderr


def by_button(root: Path) -> None:
    api = classroom.classroom(root)  # what the formgrader's handlers call
    with classroom.inside(root):
        for name in EXPECTED:
            answer = api.autograde(UNIT, name)
            assert answer["success"], answer


def by_proctor(root: Path) -> None:
    course = read_course(root)
    classwork.grade_class(course, course.unit(UNIT), 2, Console(quiet=True), feedback=False)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in (root / "autograded").rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")  # raised by nbgrader's own queries
class TestAutograding:
    def test_command_button_and_proctor_leave_the_same_grades_and_folders(
        self, collected: Path, tmp_path: Path
    ) -> None:
        left = {}
        for way in (by_command, by_button, by_proctor):
            root = shutil.copytree(collected, tmp_path / way.__name__)
            way(root)
            notebooks = {}
            for path in sorted((root / "autograded").rglob("*.ipynb")):
                notebooks[path.parts[-3]] = json.loads(path.read_text())["metadata"]["proctor"]
            left[way.__name__] = (rows(root), files(root), notebooks)
        assert left["by_command"] == left["by_button"] == left["by_proctor"]
        scores = {
            name: sum(float(row[-1]) for row in left["by_proctor"][0] if row[0] == name) for name in EXPECTED
        }
        assert scores == EXPECTED

    def test_an_unreadable_notebook_waits_for_a_person_and_harms_nobody(self, course_root: Path) -> None:
        by_proctor(course_root)
        broken = [row for row in rows(course_root) if row[0] == "dora"]
        assert {(row[2], row[4]) for row in broken} == {(None, True)}
        assert {row[4] for row in rows(course_root) if row[0] != "dora"} == {False}

    def test_no_execute_does_not_give_marks(self, course_root: Path) -> None:
        assert nbgrader(course_root, "autograde", UNIT, "--no-execute").returncode == 0
        scores = classroom.scores(course_root, UNIT)
        assert scores == EXPECTED

    def test_a_manual_score_and_a_comment_outlive_regrading_and_reach_the_feedback(
        self, course_root: Path
    ) -> None:
        by_proctor(course_root)
        with Gradebook(f"sqlite:///{course_root / 'gradebook.db'}") as gradebook:
            gradebook.find_grade("check-norm", "mini", UNIT, "bela").manual_score = 1.5
            gradebook.find_comment("norm", "mini", UNIT, "bela").manual_comment = "Nearly <b>there</b>."
            gradebook.db.commit()
        by_proctor(course_root)
        assert classroom.scores(course_root, UNIT)["bela"] == 4.5
        classroom.write_feedback(course_root, UNIT)
        page = (course_root / "feedback" / "bela" / UNIT / "mini.html").read_text()
        assert "Nearly &lt;b&gt;there&lt;/b&gt;." in page
        assert "4.5" in page

    def test_feedback_by_command_shows_rubric_first_and_no_path_nor_check_source(
        self, course_root: Path
    ) -> None:
        by_proctor(course_root)
        done = nbgrader(course_root, "generate_feedback", UNIT)
        assert done.returncode == 0, done.stderr
        page = (course_root / "feedback" / "bela" / UNIT / "mini.html").read_text()
        assert page.index("The length of a vector") < page.index("def norm")
        assert str(course_root) not in page
        assert "<script" not in page
        assert "rng.distinct" not in page

    def test_the_verdict_stands_in_the_autograded_notebook_for_the_formgrader(
        self, course_root: Path
    ) -> None:
        by_proctor(course_root)
        notebook = nbformat.read(course_root / "autograded" / "ada" / UNIT / "mini.ipynb", as_version=4)
        shown = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
        assert shown["check-double"][0].data["text/plain"] == "3.0"
        assert "doubles every entry" in shown["check-double"][0].data["text/html"]


class TestRelease:
    def test_points_that_disagree_with_the_checks_are_one_sentence(self, tmp_path: Path) -> None:
        course = make_course(tmp_path)
        notebook = make_solution()
        notebook.cells[4].metadata["nbgrader"]["points"] = 7
        nbformat.write(notebook, course.solution(UNIT))
        with pytest.raises(CourseError, match=r"check cell of `double` gives 7 points, its checks come to 3"):
            classroom.release_all(course.root, [UNIT])
        assert not course.release(UNIT).exists()

    def test_a_release_by_command_carries_checks_and_hints_but_no_answer(self, tmp_path: Path) -> None:
        course = make_course(tmp_path)
        done = nbgrader(tmp_path, "generate_assignment", UNIT)
        assert done.returncode == 0, done.stderr
        made = course.release(UNIT).parent
        assert sorted(p.name for p in (made / "checks").iterdir()) == ["test_mini.py", "unit.json"]
        text = "".join(path.read_text() for path in made.rglob("*") if path.is_file())
        assert "caught_by" not in text
        for solution in ANSWERS.values():
            assert solution.split("\n")[1].strip() not in text
        assert 'raise NotImplementedError(\\"norm\\")' in text


@pytest.fixture
def solved(collected: Path, tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """A learner's copy of the release, with answers filled in."""

    def make(answers: dict[str, str]) -> Path:
        folder = shutil.copytree(collected / "exercises" / UNIT, tmp_path / "work" / UNIT)
        path = folder / "mini.ipynb"
        notebook = nbformat.read(path, as_version=4)
        answer(notebook, answers)
        nbformat.write(notebook, path)
        return path

    return make


class TestStockNbgrader:
    """The same notebooks with none of our configuration."""

    def test_partial_credit(self, collected: Path, tmp_path: Path) -> None:
        source = tmp_path / "source" / UNIT
        shutil.copytree(collected / "solutions" / UNIT, source)
        shutil.copytree(collected / "exercises" / UNIT / "checks", source / "checks")
        (tmp_path / "nbgrader_config.py").write_text(
            "c = get_config()\nc.CourseDirectory.course_id = 'stock'\n"
        )
        assert nbgrader(tmp_path, "generate_assignment", UNIT).returncode == 0
        for name, answers in (("ada", ANSWERS), ("bela", WRONG), ("chen", {})):
            path = tmp_path / "submitted" / name / UNIT / "mini.ipynb"
            path.parent.mkdir(parents=True)
            notebook = nbformat.read(tmp_path / "release" / UNIT / "mini.ipynb", as_version=4)
            answer(notebook, answers)
            nbformat.write(notebook, path)
        done = nbgrader(tmp_path, "autograde", UNIT)
        assert done.returncode == 0, done.stderr
        scores = dict.fromkeys(("ada", "bela", "chen"), 0.0)
        for row in rows(tmp_path):
            scores[str(row[0])] += float(row[-1])
        assert scores == {"ada": 6.0, "bela": 3.0, "chen": 0.0}

    def test_validate_fails_on_stubs_and_passes_on_answers(
        self, solved: Callable[..., Path], tmp_path: Path
    ) -> None:
        untouched = Validator().validate(str(solved({})))
        assert len(untouched["failed"]) == 2
        shutil.rmtree(tmp_path / "work")
        assert Validator().validate(str(solved(ANSWERS))) == {}


def test_the_rubric_of_an_autograded_cell_is_ours(collected: Path) -> None:
    course = read_course(collected)
    verdict = classwork.grade_class(course, course.unit(UNIT), 1, Console(quiet=True), feedback=False)["bela"]
    assert "Is there a root?" in rubric_html(verdict.exercise("norm"))
