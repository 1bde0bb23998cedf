"""nbgrader's workflow, end to end, on the miniature course: release, exchange, autograding, feedback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.validator import Validator
from rich.console import Console

from minicourse import ANSWERS, UNIT, gradebook_rows, graded_files, make_class, make_course, make_solution
from proctor import classwork
from proctor.course import CourseError, read_course
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
    handed_in = {"ada": ANSWERS, "bela": WRONG, "chen": {}, "dora": {}}
    root = make_class(tmp_path_factory.mktemp("class"), handed_in).root
    truncate(root / "submitted" / "dora" / UNIT / "mini.ipynb")
    return root


def truncate(path: Path) -> None:
    path.write_text(path.read_text()[:200])


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


def by_proctor(root: Path, **how: Any) -> list[tuple[str, str]]:
    course, remarks = read_course(root), []
    how = {"feedback": False, **how}
    classwork.grade_class(course, course.unit(UNIT), 2, Console(quiet=True), remarks=remarks, **how)
    return remarks


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")  # raised by nbgrader's own queries
@pytest.mark.isolation
class TestAutograding:
    def test_command_button_and_proctor_leave_the_same_rows_and_folders(
        self, collected: Path, tmp_path: Path
    ) -> None:
        left = []
        for way in (by_command, by_button, by_proctor):
            root = shutil.copytree(collected, tmp_path / way.__name__)
            way(root)
            left.append((gradebook_rows(root), graded_files(root)))
            assert classroom.scores(root, UNIT) == EXPECTED
        assert left[0] == left[1] == left[2]

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


LATE = "\nc.LateSubmissionPlugin.penalty_method = 'zero'\n"
BREAKS = "if float(student.norm(torch.ones(1))) == 7.0:\n            raise KeyError('a bug in the check')\n        "
ODD_NAMES = ("[x]*?", "o'neil;--", "naïve ünï", "<b>", "-rf", "a b", "{student_id}", "x\\y")


@pytest.fixture(scope="module")
def motley(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The class, and whatever else may lie in a submission; late work costs all its points."""
    root = shutil.copytree(collected, tmp_path_factory.mktemp("motley") / "course")
    with (root / "nbgrader_config.py").open("a") as config:
        config.write(LATE)
    checks = root / "graders" / UNIT / "test_mini.py"
    checks.write_text(checks.read_text().replace("x = rng.tensor(rng.dis", f"{BREAKS}x = rng.tensor(rng.dis"))
    with Gradebook(f"sqlite:///{root / 'gradebook.db'}") as gradebook:
        gradebook.update_or_create_assignment(UNIT, duedate="2020-02-02 12:00:00")
    submitted = root / "submitted"
    for name in ("emil", "fay", "gus", "hal", *ODD_NAMES):
        shutil.copytree(submitted / "ada" / UNIT, submitted / name / UNIT)
    for folder in submitted.iterdir():
        late = folder.name in ("emil", "hal")
        (folder / UNIT / "timestamp.txt").write_text(f"2020-02-0{3 if late else 1} 12:00:00.000001 UTC")
    (submitted / "bela" / UNIT / "timestamp.txt").unlink()
    (submitted / "fay" / UNIT / "mini.ipynb").rename(submitted / "fay" / UNIT / "other.ipynb")
    path = submitted / "gus" / UNIT / "mini.ipynb"
    path.write_text(
        path.read_text().replace("return double(x).square().sum().sqrt() / 2", "return 0 * x.sum() + 7")
    )
    hal = submitted / "hal" / UNIT
    (hal / "data" / "deep").mkdir(parents=True)
    (hal / "data" / "deep" / "x.bin").write_bytes(bytes(range(256)))
    (hal / "data" / "empty").mkdir()
    (hal / "run.sh").write_text("#!/bin/sh")
    (hal / "run.sh").chmod(0o755)
    (hal / ".hidden").write_text("kept")
    (hal / "__pycache__").mkdir()
    (hal / "__pycache__" / "x.py").write_text("ignored")
    (hal / "x.pyc").write_text("ignored")
    (hal / "link").symlink_to("/etc/passwd")
    (hal / "folder").symlink_to(root / "graders")
    os.mkfifo(hal / "data" / "pipe")
    (root / "solutions" / UNIT / "given.csv").write_text("1,2")
    (hal / "given.csv").write_text("changed")
    return root


def by_hand(root: Path) -> None:
    """What a teacher does in the formgrader."""
    with Gradebook(f"sqlite:///{root / 'gradebook.db'}") as gradebook:
        for student in ("bela", "gus", "emil"):
            grade = gradebook.find_grade("check-norm", "mini", UNIT, student)
            grade.manual_score, grade.needs_manual_grade = 1.5, False
        gradebook.find_grade("check-double", "mini", UNIT, "ada").extra_credit = 0.25
        gradebook.find_comment("norm", "mini", UNIT, "bela").manual_comment = "Nearly <b>there</b>."
        gradebook.update_or_create_student("ada", first_name="Ada", email="ada@example.org")
        gradebook.db.commit()


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
@pytest.mark.isolation
class TestGradebook:
    """The quick way into the gradebook leaves what nbgrader's own leaves, to the last byte."""

    def test_rows_folders_and_pages_are_those_of_nbgrader(self, motley: Path, tmp_path: Path) -> None:
        theirs = shutil.copytree(motley, tmp_path / "theirs", symlinks=True, ignore=no_pipes)
        ours = shutil.copytree(motley, tmp_path / "ours", symlinks=True, ignore=no_pipes)
        os.mkfifo(ours / "submitted" / "hal" / UNIT / "data" / "pipe")
        api = classroom.classroom(theirs)
        for fresh in (False, True):
            with classroom.inside(theirs):
                api.autograde(UNIT, "*")  # says that it failed: one notebook is missing
                answer = api.generate_feedback(UNIT)
            assert answer["success"], answer
            remarks = by_proctor(ours, feedback=True, fresh=fresh)
            assert {who for who, _ in remarks} == {"hal"}
            told = " ".join(text for _, text in remarks)
            assert all(
                what in told for what in ("'link' is a symbolic link", "'folder' is", "'data/pipe' is a FIFO")
            )
            same(theirs, ours)
            by_hand(theirs)
            by_hand(ours)
        scores = classroom.scores(ours, UNIT)
        assert (scores["ada"], scores["bela"], scores["gus"], scores["fay"]) == (6.25, 4.5, 4.5, 0.0)
        assert {scores[name] for name in ODD_NAMES} == {6.0}
        assert {row[0]: row[3] for row in gradebook_rows(ours)["notebooks"]}["hal"] == 6.0

    def test_a_notebook_that_is_missing_is_for_a_person(self, motley: Path, tmp_path: Path) -> None:
        root = shutil.copytree(motley, tmp_path / "course", symlinks=True, ignore=no_pipes)
        by_proctor(root, feedback=True)
        grades = [row for row in gradebook_rows(root)["grades"] if row[0] == "fay"]
        assert [(row[2], row[5]) for row in grades] == [(None, 1), (None, 1)]
        page = (root / "feedback" / "fay" / UNIT / "mini.html").read_text()
        assert "mini.ipynb is missing" in page
        assert (root / "autograded" / "fay" / UNIT / "mini.ipynb").exists()  # for the formgrader to show

    def test_work_that_did_not_change_keeps_what_a_person_made_of_it(
        self, collected: Path, tmp_path: Path
    ) -> None:
        root = shutil.copytree(collected, tmp_path / "course")
        by_proctor(root)
        by_hand_of_bela(root)
        before = gradebook_rows(root)
        by_proctor(root)
        assert gradebook_rows(root) == before  # nothing is to be looked at again
        path = root / "submitted" / "bela" / UNIT / "mini.ipynb"
        path.write_text(path.read_text().replace(".sum()", ".sum() * 1"))
        by_proctor(root)
        row = next(r for r in gradebook_rows(root)["grades"] if r[:2] == ("bela", "check-norm"))
        assert row[2:] == (0.0, 1.5, None, 1)

    def test_another_step_in_the_configuration_is_not_passed_over(
        self, collected: Path, tmp_path: Path
    ) -> None:
        root = shutil.copytree(collected, tmp_path / "course")
        with (root / "nbgrader_config.py").open("a") as config:
            config.write("\nc.Autograde.autograde_preprocessors = ['proctor.nbgrader.Grade']\n")
        with pytest.raises(
            CourseError, match=r"changes Autograde.autograde_preprocessors.*run `nbgrader autograde"
        ):
            by_proctor(root)

    def test_a_gradebook_that_does_not_know_the_release_is_one_sentence(
        self, collected: Path, tmp_path: Path
    ) -> None:
        root = shutil.copytree(collected, tmp_path / "course")
        (root / "gradebook.db").unlink()
        with pytest.raises(CourseError, match="does not know 01_mini yet; run `proctor release 01_mini`"):
            by_proctor(root)
        (root / "gradebook.db").write_bytes(b"no database at all" * 100)
        with pytest.raises(CourseError, match=r"gradebook\.db is damaged"):
            by_proctor(root)


def no_pipes(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "pipe"]


def by_hand_of_bela(root: Path) -> None:
    with Gradebook(f"sqlite:///{root / 'gradebook.db'}") as gradebook:
        grade = gradebook.find_grade("check-norm", "mini", UNIT, "bela")
        grade.manual_score, grade.needs_manual_grade = 1.5, False
        gradebook.db.commit()


def same(theirs: Path, ours: Path) -> None:
    """Two are left out: where a notebook is missing, or a name is a pattern, nbgrader gives up half-way."""
    rows = [gradebook_rows(root) for root in (theirs, ours)]
    for each in rows:
        for what in each:
            each[what] = [row for row in each[what] if row[0] not in (ODD_NAMES[0], "fay")]
    for what in rows[0]:
        assert [row for row in rows[0][what] if row not in rows[1][what]] == []
        assert [row for row in rows[1][what] if row not in rows[0][what]] == []
    files = [graded_files(root) for root in (theirs, ours)]
    for each in files:
        for name in [name for name in each if name.split("/")[1] in (ODD_NAMES[0], "fay")]:
            del each[name]
    assert list(files[0]) == list(files[1])
    assert [name for name in files[0] if files[0][name] != files[1][name]] == []


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


@pytest.mark.isolation
def test_the_rubric_of_an_autograded_cell_is_ours(collected: Path) -> None:
    course = read_course(collected)
    verdict = classwork.grade_class(course, course.unit(UNIT), 1, Console(quiet=True), feedback=False)["bela"]
    assert "Is there a root?" in rubric_html(verdict.exercise("norm"))
