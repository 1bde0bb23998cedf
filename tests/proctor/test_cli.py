"""The command line: what goes wrong is one sentence on stderr that says what to do, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nbformat
import pytest
from typer.testing import CliRunner

from minicourse import ANSWERS, EXERCISES, MANIFEST, UNIT, make_course
from proctor import classwork, learn
from proctor.author import sync
from proctor.cli import app
from proctor.course import Course, read_course
from proctor.notebook import Limits
from proctor.results import Verdict, from_json
from proctor.sandbox import Sandbox, SandboxError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The mini course, in step; tests leave it as it is."""
    course = make_course(tmp_path_factory.mktemp("cli") / "course")
    sync(course)
    return course


@pytest.fixture
def course(made: Course, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Course:
    """A copy of it, to work in; student code runs in the sandbox that is warm."""
    course = read_course(shutil.copytree(made.root, tmp_path / "course"))
    monkeypatch.chdir(course.root)
    for module in (learn, classwork):
        monkeypatch.setattr(module, "sandbox_for", lambda *_: nullcontext(sandbox))
    return course


def proctor(*arguments: str | Path) -> Any:
    """Run a command in this process, as wide as a page."""
    return CliRunner(env={"COLUMNS": "100"}).invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: str | Path, code: int = 2) -> str:
    """The one sentence with which a command is refused."""
    done = proctor(*arguments)
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("proctor: ")
    assert done.stdout == ""
    return lines[0].removeprefix("proctor: ")


def work_on(course: Course, answers: dict[str, str]) -> Path:
    """The learner's notebook with answers."""
    path = learn.start_unit(course, course.unit(UNIT))[1]
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = answers.get(cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source)
    nbformat.write(notebook, path)
    return path


def files(course: Course) -> dict[str, bytes]:
    return {
        path.relative_to(course.root).as_posix(): path.read_bytes()
        for path in course.root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


class TestCheck:
    def test_full_marks_are_0_and_anything_less_is_1(self, course: Course) -> None:
        done = proctor("check", work_on(course, ANSWERS))
        assert (done.exit_code, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == "6 of 6 points"
        done = proctor("check", work_on(course, {"norm": "def norm(x):\n    return double(x).sum()"}))
        assert (done.exit_code, done.stderr) == (1, "")
        assert done.stdout.splitlines()[-1] == "3 of 6 points"
        assert "Is there a root?" in done.stdout
        assert proctor("check", course.work(UNIT), "double").exit_code == 0

    def test_a_renamed_stub_is_told(self, course: Course) -> None:
        done = proctor("check", work_on(course, {**ANSWERS, "double": "def twice(x):\n    return x * 2"}))
        assert done.exit_code == 1
        assert "There is no `double` yet" in " ".join(done.stdout.split())

    def test_grader_errors_are_never_0(self, course: Course) -> None:
        path = work_on(course, ANSWERS)
        checks = course.graders(UNIT) / "test_mini.py"
        checks.write_text(checks.read_text().replace("points(2)", "points(1)"))
        done = proctor("check", path)
        assert done.exit_code == 1
        assert "grader error" in done.stdout


NOTEBOOKS: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "mini.ipynb is missing: there is no file of this name"),
    "empty": (b"", "mini.ipynb is empty"),
    "no JSON": (b'{"cells": [', "mini.ipynb is not JSON (line 1, column 12); it may have been cut off"),
    "no text": (b"\xff\xfe\x00", "mini.ipynb is not UTF-8 text"),
    "no notebook": (b"[]", "mini.ipynb"),
    "of an old format": (b'{"nbformat": 3, "worksheets": []}', "mini.ipynb"),
    "too large": (b" " * (Limits().max_bytes + 1), "mini.ipynb is larger than 20 MB; clear its outputs"),
    "nested too deep": (b"[" * 100_000, "mini.ipynb"),
    "of no cells": (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}', "empty"),
    "of another unit": (
        b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code", "id": "a",'
        b' "metadata": {}, "source": "x = 1", "outputs": [], "execution_count": null}]}',
        "This notebook is not of unit 01_mini: none of its answer cells is in it (`double`, `norm`)",
    ),
}


class TestNotebooks:
    @pytest.mark.parametrize("what", NOTEBOOKS)
    @pytest.mark.isolation
    def test_a_notebook_that_cannot_be_read_is_one_sentence_and_stays(
        self, what: str, course: Course
    ) -> None:
        content, says = NOTEBOOKS[what]
        path = learn.start_unit(course, course.unit(UNIT))[1]
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        before = files(course)
        commands = [["check", path], ["grade", UNIT, "--notebook", path, "--json"], ["doctor", path]]
        for command in commands:
            assert says in refused(*command) or (command[0] == "doctor" and content is None)
        assert files(course) == before

    def test_a_folder_and_a_link_are_no_notebooks(self, course: Course) -> None:
        path = learn.start_unit(course, course.unit(UNIT))[1]
        assert "is a folder, not a notebook" in refused("check", path.parent)
        link = path.with_name("link.ipynb")
        link.symlink_to(path)
        assert "is a symbolic link" in refused("check", link)

    def test_doctor_mends_a_damaged_notebook_and_keeps_the_old_one(self, course: Course) -> None:
        path = work_on(course, ANSWERS)
        assert "is whole; nothing was changed" in proctor("doctor", path).stdout
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            cell.metadata = {}
        nbformat.write(notebook, path)
        damaged = path.read_bytes()
        done = proctor("doctor", path)
        assert done.exit_code == 0
        assert "mini.ipynb is whole again." in done.stdout
        assert path.with_name("mini.damaged.ipynb").read_bytes() == damaged
        assert proctor("check", path).exit_code == 0


class TestNames:
    @pytest.mark.parametrize(
        ("command", "says"),
        [
            (["start", "01_mni"], "there is no unit '01_mni'; there are: 01_mini; did you mean 01_mini?"),
            (["reset", "99"], "there is no unit '99'; there are: 01_mini"),
            (
                ["hint", "mini", "double"],
                "there is no unit 'mini'; there are: 01_mini; did you mean 01_mini?",
            ),
            (
                ["hint", "01", "dubble"],
                "unit 01_mini has no exercise 'dubble'; there are: double, norm; did you mean",
            ),
            (["grade", "nothing", "--notebook", "x"], "there is no unit 'nothing'; there are: 01_mini"),
            (["grade", "01", "--json"], "--json and --gradescope go with --notebook FILE"),
            (
                ["grade", "01"],
                "no submission of 01_mini has been collected; `nbgrader collect 01_mini` fetches",
            ),
            (["verify", "02"], "there is no unit '02'; there are: 01_mini"),
            (["start"], "name a unit, or --all; there are: 01_mini"),
            (["release"], "name a unit, or --all; there are: 01_mini"),
            (
                ["check", "exercises/01_mini/mini.ipynb", "nrom"],
                "has no exercise 'nrom'; there are: double, norm; did",
            ),
            (["check", "course.toml"], "course.toml is not JSON"),
        ],
    )
    @pytest.mark.isolation
    def test_an_unknown_name_is_one_sentence_that_lists_what_there_is(
        self, command: list[str], says: str, course: Course
    ) -> None:
        before = files(course)
        assert says in refused(*command)
        assert files(course) == before

    def test_wrong_use_is_2_and_no_traceback(self, course: Course) -> None:
        for command in (
            ["nothing"],
            ["check"],
            ["grade", "01", "--jobs", "0"],
            ["hint", "01"],
            ["start", "--no"],
        ):
            done = proctor(*command)
            assert done.exit_code == 2
            assert "Usage" in done.stderr
            assert "Traceback" not in done.output


BROKEN: dict[str, tuple[str, str, str]] = {
    "no TOML": ("course.toml", "title = [", "course.toml, line 1: this is not TOML"),
    "an unknown key": (
        "course.toml",
        MANIFEST.replace("lesson_minutes", "lesson_minuets"),
        "course.toml, line 9: units[0].lesson_minuets is not a known key; did you mean `lesson_minutes`?",
    ),
    "a wrong kind": (
        "course.toml",
        MANIFEST.replace("exercise_minutes = 10", 'exercise_minutes = "ten"'),
        "course.toml, line 10: units[0].exercise_minutes should be a whole number, not text",
    ),
    "an unknown part": ("course.toml", MANIFEST.replace('part = "Beg', 'part = "Bog'), "course.toml, line 7"),
    "no unit": ("course.toml", 'title = "A"\nparts = []', "course.toml lists no unit"),
    "too few hints": (
        f"graders/{UNIT}/exercises.toml",
        EXERCISES.replace('"The operator `*`.", ', ""),
        f"graders/{UNIT}/exercises.toml, line 5: double.hints should have exactly 3 entries, not 2",
    ),
    "a difficulty that is none": (
        f"graders/{UNIT}/exercises.toml",
        EXERCISES.replace("difficulty = 2", "difficulty = 4"),
        f"graders/{UNIT}/exercises.toml, line 16: norm.difficulty should be at most 3",
    ),
    "no exercise": (f"graders/{UNIT}/exercises.toml", "", f"graders/{UNIT}/exercises.toml lists no exercise"),
    "a damaged release": (f"exercises/{UNIT}/checks/unit.json", "{", "checks/unit.json is not JSON"),
    "a damaged released notebook": (
        f"exercises/{UNIT}/mini.ipynb",
        "{",
        f"exercises/{UNIT}/mini.ipynb is damaged",
    ),
}


class TestCourse:
    @pytest.mark.parametrize("what", BROKEN)
    @pytest.mark.isolation
    def test_a_mistake_in_the_course_s_files_is_told_with_file_and_line(
        self, what: str, course: Course
    ) -> None:
        path = work_on(course, ANSWERS)
        name, text, says = BROKEN[what]
        (course.root / name).write_text(text)
        before = files(course)
        for command in (["grade", UNIT, "--notebook", path], ["verify"]):
            assert says in refused(*command)
        # A learner needs no more than what lies beside, and the released notebook.
        assert proctor("check", path).exit_code == (2 if name.endswith(".ipynb") else 0)
        assert files(course) == before

    def test_a_folder_that_is_no_course_is_one_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for command in (
            ["start", "--all"],
            ["progress"],
            ["sync"],
            ["grade", "01"],
            ["hint", "01", "double"],
        ):
            assert "is not in a course; change to the folder with course.toml" in refused(*command)
        assert list(tmp_path.iterdir()) == []

    def test_a_unit_that_is_not_released_is_one_sentence(self, course: Course) -> None:
        path = work_on(course, ANSWERS)
        shutil.rmtree(course.release(UNIT).parent)
        says = "01_mini is not released yet; `proctor release 01_mini` makes the exercise"
        for command in (["reset", UNIT], ["grade", UNIT, "--notebook", path], ["verify"]):
            assert refused(*command) == says
        assert path.exists()
        assert proctor("check", path).exit_code == 0

    def test_solutions_and_checks_that_disagree_are_not_released(self, course: Course) -> None:
        notebook = nbformat.read(course.solution(UNIT), as_version=4)
        notebook.cells[4].metadata["nbgrader"]["points"] = 7
        nbformat.write(notebook, course.solution(UNIT))
        before = files(course)
        says = refused("release", UNIT)
        assert "the check cell of `double` gives 7 points, its checks come to 3; run `make sync`" in says
        left = files(course)
        assert {name for name in left if name not in before} <= {"gradebook.db"}
        assert {name: left[name] for name in before} == before

    @pytest.mark.isolation
    def test_checks_that_changed_since_the_release_are_grader_errors(self, course: Course) -> None:
        path = work_on(course, ANSWERS)
        checks = course.graders(UNIT) / "test_mini.py"
        checks.write_text(checks.read_text().replace("points(3)", "points(30)"))
        done = proctor("grade", UNIT, "--notebook", path, "--json")
        verdict = from_json(done.stdout)
        assert verdict.needs_person
        assert (verdict.score, verdict.max_score) == (3.0, 6.0)
        assert "its checks came to 30 points, but the exercise is worth 3" in done.stdout

    def test_a_file_that_cannot_be_written_is_one_sentence(self, course: Course) -> None:
        (course.root / "my-work").write_text("a file where a folder should be")
        assert "my-work" in refused("start", UNIT)

    def test_a_machine_without_a_sandbox_is_one_sentence(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise SandboxError("the student's side has ended")

        path = work_on(course, ANSWERS)
        monkeypatch.setattr(learn, "sandbox_for", fail)
        assert refused("check", path) == "the student's side has ended"

    def test_stopping_a_command_is_130_and_one_sentence(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(learn, "show_progress", stop)
        assert (
            refused("progress", code=130)
            == "stopped; what was finished is kept, run the command again to go on"
        )


class TestClass:
    """`proctor grade UNIT`; tests/faults and test_nbgrader.py see to what it leaves."""

    def test_stopping_says_how_far_it_came_and_is_130(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*_: object, **__: object) -> None:
            raise classwork.Stopped("stopped; 3 of 9 submissions are graded, `proctor grade 01` goes on")

        monkeypatch.setattr(classwork, "grade_class", stop)
        says = refused("grade", UNIT, code=130)
        assert says == "stopped; 3 of 9 submissions are graded, `proctor grade 01` goes on"

    def test_options_and_remarks_reach_their_place(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: dict[str, Any] = {}

        def note(*_: object, remarks: list[tuple[str, str]], **how: object) -> dict[str, Verdict]:
            asked.update(how)
            remarks.append(("ada", "'x' is a symbolic link and has not been copied"))
            return {"ada": Verdict(unit=UNIT, exercises=())}

        monkeypatch.setattr(classwork, "grade_class", note)
        done = proctor("grade", UNIT, "--fresh", "--no-feedback")
        assert done.exit_code == 0
        assert asked == {"feedback": False, "fresh": True, "trusted": False}
        assert "ada · 'x' is a symbolic link and has not been copied" in done.stdout


class TestGrade:
    @pytest.mark.isolation
    def test_json_is_exactly_the_documented_model(self, course: Course) -> None:
        path = work_on(course, {"double": ANSWERS["double"], "norm": "def norm(x):\n    return x.sum()"})
        done = proctor("grade", UNIT, "--notebook", path, "--json")
        assert (done.exit_code, done.stderr) == (0, "")
        told = json.loads(done.stdout)
        message = told["exercises"][1]["checks"][0].pop("message")
        assert message.startswith("Called    norm((")
        check = {"name": "test_values", "title": "doubles every entry", "points": 2.0, "earned": 2.0}
        other = {
            "name": "test_unchanged",
            "title": "leaves its input as it was",
            "points": 1.0,
            "earned": 1.0,
        }
        failed = {
            "name": "test_matches_torch",
            "title": "agrees with torch.linalg.norm",
            "points": 3.0,
            "earned": 0.0,
            "ask": "Is there a root?",
        }
        assert told == {
            "schema": 1,
            "unit": UNIT,
            "score": 3.0,
            "max_score": 6.0,
            "problem": "",
            "notes": [],
            "exercises": [
                {
                    "name": "double",
                    "title": "Twice as much",
                    "score": 3.0,
                    "max_score": 3.0,
                    "outcome": "passed",
                    "checks": [{**row, "outcome": "passed", "message": ""} for row in (check, other)],
                },
                {
                    "name": "norm",
                    "title": "The length of a vector",
                    "score": 0.0,
                    "max_score": 3.0,
                    "outcome": "failed",
                    "checks": [{**failed, "outcome": "failed"}],
                },
            ],
        }

    @pytest.mark.isolation
    def test_gradescope_and_the_terminal_tell_the_same_score(self, course: Course) -> None:
        path = work_on(course, {"double": ANSWERS["double"]})
        told = json.loads(proctor("grade", UNIT, "--notebook", path, "--gradescope").stdout)
        assert told["score"] == 3.0
        assert sum(test["max_score"] for test in told["tests"]) == 6.0
        assert proctor("grade", UNIT, "--notebook", path).stdout.splitlines()[-1] == "3 of 6 points"


class TestLearning:
    def test_start_reset_hint_and_progress(self, course: Course) -> None:
        assert proctor("start", "--all").stdout == "New: my-work/01_mini/mini.ipynb\n"
        course.work(UNIT).write_text(course.work(UNIT).read_text().replace("# Mini", "# Mine"))
        assert proctor("start", "01").stdout == "Kept as it is: my-work/01_mini/mini.ipynb\n"
        assert [len(proctor("hint", "01", "norm").stdout.splitlines()) for _ in range(2)] == [1, 2]
        assert "0 of 6 points" in proctor("progress").stdout
        done = proctor("reset", "01")
        assert "Fresh: my-work/01_mini/mini.ipynb\nYour old work: my-work/01_mini.2" in done.stdout
        assert "# Mine" not in course.work(UNIT).read_text()

    def test_sync_says_what_is_not_in_step_and_ends_in_1(self, course: Course) -> None:
        assert proctor("sync", "--check").exit_code == 0
        course.release(UNIT).write_text("{}")
        done = proctor("sync", "--check")
        assert done.exit_code == 1
        assert done.stdout == f"not in step: exercises/{UNIT}/mini.ipynb\n"
        assert done.stderr == "proctor: run `make sync`, look at the change, and commit it\n"
        assert f"written: exercises/{UNIT}/mini.ipynb" in proctor("sync").stdout
        assert proctor("release", UNIT).stdout == f"Released {UNIT}: exercises/{UNIT}\n"
        assert proctor("sync", "--check").exit_code == 0


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The real command in a process of its own, on a terminal that knows ASCII only."""

    def run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("proctor")), *arguments],
            cwd=folder or tmp_path,
            env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONWARNINGS": "error"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_the_real_command_ends_in_one_sentence_too(command: Command, course: Course) -> None:
    done = command("check", "nowhere.ipynb")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "proctor: nowhere.ipynb is missing: there is no file of this name\n"
    done = command("hint", "01", "norm", folder=course.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Hint 1 of 3")


def test_the_command_works_where_the_folder_has_gone(command: Command, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    script = f'rmdir "{tmp_path / "gone"}"; exec "{Path(sys.executable).with_name("proctor")}" progress'
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path / "gone", capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "the current folder does not exist any more" in done.stderr
