"""`proctor report`, from a class that was really graded to the page, the tables and the files for other programs."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.plugins import CsvExportPlugin
from rich.console import Console
from typer.testing import CliRunner, Result

from minicourse import EXERCISES, MANIFEST, UNIT, make_course
from proctor import classwork
from proctor.cli import app
from proctor.course import Course, CourseError, read_course
from proctor.gathered import Gathered, State, gather, known_answers
from proctor.nbgrader import classroom
from proctor.nbgrader.export import unit_marks
from proctor.overview import class_html
from proctor.sheets import class_csv, gradescope_files, harmless, write_files
from proctor.tally import Tally, tally
from wholeclass import CRASH, DAMAGED, HOSTILE, hand_in, make_whole_class, work_of

COUNT = 30
MISTAKES = """
[[norm.mistakes]]
name = "no root"
replace = ".sqrt()"
with = ""
caught_by = "test_matches_torch"
says = "Is there a root?"

[[norm.mistakes]]
name = "half of it forgotten"
replace = " / 2"
with = ""
caught_by = "test_matches_torch"
says = "Is there a root?"
"""
STYLE = "import torch\n\n\ndef double(x):\n    return torch.add(x, x)\n"


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course whose class of thirty has been graded, and one learner who has handed in nothing."""
    folder = tmp_path_factory.mktemp("class")
    plain = make_course(folder / "plain")
    (plain.graders(UNIT) / "exercises.toml").write_text(EXERCISES + MISTAKES)
    (plain.graders(UNIT) / "accepted").mkdir()
    (plain.graders(UNIT) / "accepted" / "add.py").write_text(STYLE)
    course = make_whole_class(plain, plain.unit(UNIT), folder / "room", COUNT)
    classwork.grade_class(course, course.unit(UNIT), 1, Console(quiet=True), feedback=False)
    with gradebook(course.root) as book:
        book.add_student("zoe", first_name="Zoë", last_name="=Zander, von")
    return course.root


@pytest.fixture
def course(graded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Course:
    """A copy of it to work in."""
    root = shutil.copytree(graded, tmp_path / "course")
    monkeypatch.chdir(root)
    return read_course(root)


def gradebook(root: Path) -> Gradebook:
    return Gradebook(f"sqlite:///{root / 'gradebook.db'}", "transformers")


def report(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def refused(*arguments: str | Path) -> str:
    done = report(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line.removeprefix("proctor: ")


def seen(course: Course) -> tuple[Gathered, Tally]:
    gathered = gather(course, course.unit(UNIT))
    return gathered, tally(gathered, course.exercises(UNIT), known_answers(course, course.unit(UNIT)))


def rows(text: str) -> dict[str, dict[str, str]]:
    return {row["student"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}


pytestmark = [
    pytest.mark.isolation,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning"),  # raised by nbgrader's own queries
]


class TestWhatIsCounted:
    def test_everybody_is_there_once_in_the_state_they_are_in(self, course: Course) -> None:
        gathered, counted = seen(course)
        handed_in = dict(work_of_class(course))
        assert [learner.name for learner in gathered.learners] == sorted([*handed_in, "zoe"])
        damaged = sum(work == DAMAGED for work in handed_in.values())
        assert damaged == 1
        assert counted.states == {
            State.FINAL: COUNT - damaged,
            State.WAITS: damaged,
            State.UNGRADED: 0,
            State.NOTHING: 1,
        }

    def test_numbers_are_those_of_the_work_that_was_handed_in(self, course: Course) -> None:
        _, counted = seen(course)
        work = [answers for _, answers in work_of_class(course) if isinstance(answers, dict)]
        double, norm = counted.exercises
        assert double.untouched == sum("double" not in answers for answers in work)
        squared = sum(answers.get("double", "").endswith("x * x") for answers in work)
        crashed = sum(CRASH in answers.get("double", "") for answers in work)
        assert squared
        assert crashed
        (named,) = (mistake for mistake in double.mistakes if mistake.named)
        assert (named.says, named.learners, named.known) == ("the square of the input", squared, ("squared",))
        assert named.ask == "Which operator doubles?"
        assert double.wrong == squared + crashed
        assert counted.scores is not None
        scores = Counter(
            learner.verdict.score for learner in seen(course)[0].judged if learner.state is State.FINAL
        )
        assert counted.scores.full == scores[6.0]
        assert norm.attempted + norm.untouched == len(work)
        told_so = [mistake for mistake in norm.mistakes if mistake.ask == "Is there a root?"]
        assert told_so[0].known == ("no root", "half of it forgotten")

    def test_points_by_hand_and_for_being_late_count_as_in_the_gradebook(self, course: Course) -> None:
        late, changed = "learner-0006", "learner-0007"
        with gradebook(course.root) as book:
            grade = book.find_grade("check-norm", "mini", UNIT, changed)
            grade.manual_score, grade.extra_credit, grade.needs_manual_grade = 2.5, 0.25, False
            book.find_submission_notebook("mini", UNIT, late).late_submission_penalty = 1.5
            book.db.commit()
            expected = {
                s.student.id: s.score - s.late_submission_penalty for s in book.assignment_submissions(UNIT)
            }
        gathered, counted = seen(course)
        assert {learner.name: learner.mark.counted for learner in gathered.judged} == pytest.approx(
            {name: max(0.0, score) for name, score in expected.items()}
        )
        assert (counted.by_hand, counted.late) == (1, 1)
        assert next(one for one in gathered.judged if one.name == changed).points["norm"] == 2.75

    def test_who_was_given_points_by_a_person_waits_no_more(self, course: Course) -> None:
        with gradebook(course.root) as book:
            for cell in ("check-double", "check-norm"):
                grade = book.find_grade(cell, "mini", UNIT, "learner-0017")
                grade.manual_score, grade.needs_manual_grade = 2.0, False
            book.db.commit()
        _, counted = seen(course)
        assert counted.states[State.WAITS] == 0
        assert not any(matter.pressing for matter in counted.matters)
        assert rows(class_csv(counted).decode("utf-8-sig"))["learner-0017"]["score"] == "4"

    def test_what_is_new_since_and_what_other_checks_have_judged_is_told(self, course: Course) -> None:
        (course.root / "submitted" / "learner-0006" / UNIT / "timestamp.txt").write_text(
            "2026-11-05 10:00:00 UTC"
        )
        hand_in(course.root, course.unit(UNIT), course.release(UNIT), "newcomer", {})
        path = course.root / "autograded" / "learner-0007" / UNIT / "mini.ipynb"
        path.chmod(0o644)
        path.write_text(path.read_text().replace("test_matches_torch", "test_of_last_year"))
        _, counted = seen(course)
        told = {(matter.learner, matter.what) for matter in counted.matters}
        assert ("learner-0006", "handed in anew") in told
        assert ("learner-0007", "judged by other checks") in told
        assert ("newcomer", "not graded") in told
        assert counted.states[State.UNGRADED] == 1

    @pytest.mark.parametrize(
        "damage",
        [
            "",
            "{",
            "[]",
            '{"cells": 3}',
            '{"cells": [], "metadata": {"proctor": {"verdict": "{}"}}}',
            "[" * 9_999,
        ],
    )
    def test_a_graded_notebook_without_a_verdict_is_not_graded(self, damage: str, course: Course) -> None:
        path = course.root / "autograded" / "learner-0007" / UNIT / "mini.ipynb"
        path.chmod(0o644)
        path.write_text(damage)
        assert seen(course)[1].states[State.UNGRADED] == 1

    def test_neither_gathering_nor_showing_changes_anything(self, course: Course) -> None:
        before = {path: path.read_bytes() for path in course.root.rglob("*") if path.is_file()}
        class_html(seen(course)[1])
        assert {path: path.read_bytes() for path in course.root.rglob("*") if path.is_file()} == before


def work_of_class(course: Course) -> list[tuple[str, dict[str, str] | str]]:
    """What the class of the fixture has handed in."""
    from proctor.demo import Class

    return list(work_of(Class(course, course.unit(UNIT), course.root.parent / "again"), COUNT))


class TestCommand:
    def test_it_writes_the_page_where_it_says_readable_for_the_teacher_only(self, course: Course) -> None:
        done = report("01")
        assert (done.exit_code, done.output) == (0, f"Page: reports/{UNIT}.html\n")
        path = course.root / "reports" / f"{UNIT}.html"
        assert path.read_text() == class_html(seen(course)[1])
        assert path.stat().st_mode & 0o077 == 0
        assert [each.name for each in path.parent.iterdir()] == [path.name]
        html = path.read_text()
        assert "the square of the input" in html
        assert CRASH not in html
        assert "SECRET-OF-MINE" not in html
        assert "<script>alert" not in html
        assert "def double" not in html

    def test_all_of_it_at_once_is_written_where_it_was_asked(self, course: Course, tmp_path: Path) -> None:
        page, table, platform, folder = (tmp_path / name for name in ("p.html", "t.csv", "lms.csv", "scope"))
        done = report(
            UNIT, "--output", page, "--csv", table, "--export", platform, "--gradescope", folder, "--no-names"
        )
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines() == [
            f"Page: {page}",
            f"Table: {table}",
            f"CsvExport: {platform}",
            f"Gradescope: {COUNT - 1} files in {folder}; 1 without a final score is left out",
        ]
        assert "learner-0007" not in page.read_text()
        assert not (course.root / "reports").exists()
        assert len(rows(table.read_text("utf-8-sig"))) == COUNT + 1
        assert len(platform.read_text().splitlines()) == COUNT + 2
        assert {path.stat().st_mode & 0o077 for path in (page, table, platform, *folder.iterdir())} == {0}
        assert not list(tmp_path.glob(".new-*"))
        report(UNIT, "--output", page)
        assert "learner-0007" in page.read_text()

    def test_a_place_where_no_file_can_be_is_one_sentence(self, course: Course, tmp_path: Path) -> None:
        nowhere = tmp_path / "nowhere" / "file"
        for option in ("--output", "--csv", "--export"):
            assert refused(UNIT, option, tmp_path) == f"{tmp_path} is a folder; name a file in it"
            assert refused(UNIT, option, nowhere).startswith(f"there is no folder {nowhere.parent}; make it")
        (tmp_path / "file").write_text("mine")
        assert refused(UNIT, "--gradescope", tmp_path / "file").startswith(
            f"{tmp_path / 'file'} is not a folder"
        )
        assert refused(UNIT, "--gradescope", nowhere).startswith(f"there is no folder {nowhere.parent}")
        assert (tmp_path / "file").read_text() == "mine"
        assert not (course.root / "reports").exists()

    def test_what_is_not_there_is_one_sentence(self, course: Course) -> None:
        assert "there is no unit '77'" in refused("77")
        (course.root / "gradebook.db").rename(course.root / "elsewhere.db")
        assert refused(UNIT).startswith("gradebook.db is missing: nothing is known of the class")
        assert not (course.root / "gradebook.db").exists()
        (course.root / "gradebook.db").write_text("no database at all, but long enough to be looked at")
        assert refused(UNIT).startswith("gradebook.db cannot be read: file is not a database")
        shutil.rmtree(course.root / "autograded")
        assert refused(UNIT) == (
            f"no submission of {UNIT} has been graded yet; {COUNT} are collected; `proctor grade {UNIT}` grades them"
        )

    def test_an_exporter_of_the_teacher_s_is_used_and_its_failure_is_one_sentence(
        self, course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "ours.py").write_text(
            "from pathlib import Path\n\nfrom nbgrader.plugins import ExportPlugin\n\n"
            "class Moodle(ExportPlugin):\n"
            "    def export(self, gradebook):\n"
            "        Path(self.to).write_text(f'{self.assignment} {len(gradebook.students)}')\n\n"
            "class Broken(ExportPlugin):\n"
            "    def export(self, gradebook):\n"
            "        raise KeyError('no such course')\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        config = course.root / "nbgrader_config.py"
        plain = config.read_text()
        config.write_text(f"{plain}\nc.ExportApp.plugin_class = 'ours.Moodle'\n")
        assert (
            report(UNIT, "--export", tmp_path / "out.txt").stdout.splitlines()[1]
            == f"Moodle: {tmp_path / 'out.txt'}"
        )
        assert (tmp_path / "out.txt").read_text() == f"['{UNIT}'] {COUNT + 1}"
        config.write_text(f"{plain}\nc.ExportApp.plugin_class = 'ours.Broken'\n")
        assert refused(UNIT, "--export", tmp_path / "other.txt").endswith("KeyError: 'no such course'")
        assert not (tmp_path / "other.txt").exists()
        config.write_text(f"{plain}\nc.ExportApp.plugin_class = 'nowhere.Exporter'\n")
        assert refused(UNIT, "--export", tmp_path / "other.txt").startswith("the export failed")

    @pytest.mark.parametrize("command", [["report", "--help"], ["--help"]])
    def test_it_is_in_the_help(self, command: list[str]) -> None:
        assert "report" in CliRunner().invoke(app, command).stdout


class TestTables:
    def test_no_cell_of_a_spreadsheet_is_a_formula(self, course: Course) -> None:
        _, counted = seen(course)
        text = class_csv(counted).decode("utf-8-sig")
        cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
        assert not [cell for cell in cells if re.match(r"\s*[=+@\t\r-]", cell) and not is_number(cell)]
        assert len({len(row) for row in csv.reader(io.StringIO(text, newline=""))}) == 1
        assert "'=Zander, von" in cells
        assert "Zoë" in cells
        told = rows(text)
        assert told["'=HYPERLINK(1,2)"]["state"] == "graded"
        assert (told["learner-0017"]["score"], told["learner-0017"]["norm"]) == ("", "")
        assert "mini.ipynb is not JSON" in told["learner-0017"]["for_a_person"]
        assert (told["zoe"]["state"], told["zoe"]["score"]) == ("nothing handed in", "")
        assert told["learner-0006"]["handed_in"] == "2026-11-02 10:06:00"

    @pytest.mark.parametrize(
        ("cell", "written"),
        [
            ("=1+1", "'=1+1"), ("+1 555", "'+1 555"), ("-cmd", "'-cmd"), ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"), ("\r=1", "'\r=1"), (" =1", "' =1"), ("\uff1d1", "'\uff1d1"), ("-2.5", "-2.5"),
            ("ada", "ada"), ("", ""), ("a=1", "a=1"), ("12", "12"),
        ],
    )  # fmt: skip
    def test_only_what_begins_like_a_formula_is_marked_as_text(self, cell: str, written: str) -> None:
        assert harmless(cell) == written

    def test_the_export_of_ordinary_names_is_nbgrader_s_to_the_letter(
        self, course: Course, tmp_path: Path
    ) -> None:
        with gradebook(course.root) as book:
            assignment = book.find_assignment(UNIT)
            assignment.duedate = datetime(2026, 11, 2, 10, 5, tzinfo=UTC).replace(tzinfo=None)
            book.find_submission(UNIT, "learner-0008").extension = timedelta(hours=1)
            book.find_submission_notebook("mini", UNIT, "learner-0008").late_submission_penalty = 0.1
            book.find_submission_notebook("mini", UNIT, "learner-0009").late_submission_penalty = 100.0
            book.find_student("learner-0010").email = "ten@example.org"
            book.find_grade("check-norm", "mini", UNIT, "learner-0010").manual_score = 1 / 3
            for name in (*HOSTILE, "zoe"):
                if name in [student.id for student in book.students]:
                    book.remove_student(name)
            book.db.commit()
            stock = CsvExportPlugin(to=str(tmp_path / "stock.csv"), assignment=[UNIT])
            stock.export(book)
        assert report(UNIT, "--export", tmp_path / "ours.csv").exit_code == 0
        assert (tmp_path / "ours.csv").read_text() == (tmp_path / "stock.csv").read_text()

    def test_the_export_of_hostile_names_is_a_table_all_the_same(
        self, course: Course, tmp_path: Path
    ) -> None:
        assert report(UNIT, "--export", tmp_path / "ours.csv").exit_code == 0
        with (tmp_path / "ours.csv").open(newline="") as file:
            told = list(csv.reader(file))
        assert {len(row) for row in told} == {11}
        assert {row[3] for row in told[1:]} >= {"'=HYPERLINK(1,2)", "'+cmd|' ", "zoe"}

    def test_gradescope_is_told_what_counts(self, course: Course) -> None:
        with gradebook(course.root) as book:
            book.find_grade("check-norm", "mini", UNIT, "learner-0007").manual_score = 1.5
            book.db.commit()
        gathered, counted = seen(course)
        files = gradescope_files(counted)
        final = [learner for learner in gathered.judged if learner.state is State.FINAL]
        assert set(files) == {f"{learner.name}.json" for learner in final}
        for learner in final:
            result = json.loads(files[f"{learner.name}.json"])
            assert result["score"] == learner.mark.counted
            assert ("In the gradebook:" in result["output"]) == (learner.name == "learner-0007")
            assert [test["max_score"] for test in result["tests"]] == [2, 1, 3]

    def test_a_name_as_long_as_a_folder_s_can_be_is_a_file_s_all_the_same(
        self, course: Course, tmp_path: Path
    ) -> None:
        long = "ä" * 127
        (course.root / "autograded" / "learner-0007").rename(course.root / "autograded" / long)
        files = gradescope_files(seen(course)[1])
        assert len(files) == COUNT - 1
        write_files(tmp_path / "scope", files)
        assert len(list((tmp_path / "scope").iterdir())) == COUNT - 1


def is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None


class TestMarks:
    def test_they_are_the_gradebook_s(self, course: Course) -> None:
        marks = unit_marks(course.root, UNIT)
        assert {name: mark.score for name, mark in marks.items() if mark.handed_in} == classroom.scores(
            course.root, UNIT
        )
        assert {mark.max_score for mark in marks.values()} == {6.0}
        assert marks["zoe"].handed_in is None
        assert marks["learner-0017"].open == {"check-double", "check-norm"}

    def test_a_unit_that_the_gradebook_does_not_know_has_none(self, course: Course) -> None:
        assert all(
            mark.handed_in is None and not mark.points for mark in unit_marks(course.root, "99_none").values()
        )


def test_a_course_that_nobody_has_handed_in_to_says_so(tmp_path: Path) -> None:
    course = make_course(tmp_path)
    with pytest.raises(CourseError, match="no submission of 01_mini has been graded yet; `proctor grade"):
        gather(course, course.unit(UNIT))


def test_known_answers_are_the_right_ones_the_styles_and_the_mistakes(graded: Path) -> None:
    course = read_course(graded)
    known = known_answers(course, course.unit(UNIT))
    assert {name: len(sources) for name, sources in known.items()} == {"double": 3, "norm": 4}
    assert STYLE in known["double"]
    assert any("x * x" in source for source in known["double"])
    assert (
        "return double"
        in nbformat.read(course.solution(UNIT), as_version=4).cells[6].source + known["norm"][0]
    )
    assert MANIFEST
