"""One submission to one verdict, and many: whatever a submission does, the verdict fails closed."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from minicourse import ANSWERS, EXERCISES, UNIT, make_course
from proctor import pool as pools
from proctor import staff
from proctor.course import Course, CourseError, read_course
from proctor.draws import secret_seed
from proctor.grade import (
    Graded,
    Material,
    course_key,
    course_material,
    grade_notebook,
    released_material,
)
from proctor.nbgrader.classroom import release_all
from proctor.pool import Job, Pool
from proctor.results import Outcome, Verdict, from_json, to_json
from proctor.sandbox import Limits, Sandbox

PRIVATE = '''\
import pytest
import torch

from proctor import expect


@pytest.mark.exercise("norm")
class TestPrivately:
    @pytest.mark.points(2)
    def test_of_zero(self, student):
        """is zero for zeros"""
        expect.close(student.norm(torch.zeros(3)), torch.tensor(0.0))
'''
STUB = 'raise NotImplementedError("{}")'


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The mini course, released; tests leave it as it is."""
    course = make_course(tmp_path_factory.mktemp("grade") / "course")
    release_all(course.root, [UNIT])
    return course


@pytest.fixture(scope="module")
def material(course: Course) -> Material:
    return course_material(course, course.unit(UNIT))


@pytest.fixture
def own(course: Course, tmp_path: Path) -> Course:
    """A copy of the course, to be changed."""
    return read_course(shutil.copytree(course.root, tmp_path / "course"))


def submit(
    course: Course,
    folder: Path,
    answers: dict[str, str],
    extra: str = "",
    change: Callable[[Any], None] | None = None,
) -> Path:
    """A submission with answers, and an extra cell at the end."""
    notebook = nbformat.read(course.release(UNIT), as_version=4)
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = answers.get(name, cell.source)
    if extra:
        notebook.cells.append(nbformat.v4.new_code_cell(extra))
    if change:
        change(notebook)
    path = folder / "mini.ipynb"
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


Grading = Callable[..., Verdict]


@pytest.fixture
def grade(course: Course, material: Material, sandbox: Sandbox, tmp_path: Path) -> Grading:
    """The verdict on answers, an extra cell, and a change of the notebook."""

    def run(answers: dict[str, str], extra: str = "", change: Callable[[Any], None] | None = None) -> Verdict:
        return grade_notebook(material, submit(course, tmp_path, answers, extra, change), sandbox).verdict

    return run


def scores(verdict: Verdict) -> dict[str, float]:
    return {exercise.name: exercise.score for exercise in verdict.exercises}


def outcomes(verdict: Verdict) -> list[str]:
    return [exercise.outcome.value for exercise in verdict.exercises]


class TestVerdict:
    def test_the_solution_scores_all(self, grade: Grading) -> None:
        verdict = grade(ANSWERS)
        assert scores(verdict) == {"double": 3.0, "norm": 3.0}
        assert verdict.passed
        assert verdict.notes == ()

    def test_stubs_score_nothing_and_are_not_attempted(self, grade: Grading) -> None:
        verdict = grade({})
        assert scores(verdict) == {"double": 0.0, "norm": 0.0}
        assert outcomes(verdict) == ["not attempted"] * 2
        assert not verdict.needs_person

    def test_half_the_work_scores_its_half(self, grade: Grading) -> None:
        verdict = grade({"double": ANSWERS["double"]})
        assert scores(verdict) == {"double": 3.0, "norm": 0.0}
        assert outcomes(verdict) == ["passed", "not attempted"]

    def test_a_wrong_answer_fails_and_says_why(self, grade: Grading) -> None:
        verdict = grade({**ANSWERS, "norm": "def norm(x):\n    return double(x).sum()"})
        assert scores(verdict) == {"double": 3.0, "norm": 0.0}
        assert "Is there a root?" in verdict.exercise("norm").checks[0].message

    def test_a_shortcut_fails_kindly(self, grade: Grading) -> None:
        verdict = grade({**ANSWERS, "norm": "def norm(x):\n    return torch.linalg.vector_norm(x)"})
        assert outcomes(verdict) == ["passed", "failed"]
        assert "Use square, sum and sqrt." in verdict.exercise("norm").checks[0].message

    def test_a_renamed_stub_says_which_name_is_missing(self, grade: Grading) -> None:
        verdict = grade({**ANSWERS, "double": "def twice(x):\n    return x * 2"})
        assert scores(verdict) == {"double": 0.0, "norm": 0.0}
        assert "There is no `double` yet" in verdict.exercise("double").checks[0].message

    @pytest.mark.parametrize(
        "deed", ["import os; os._exit(0)", "import os; os.kill(os.getpid(), 9)", "raise SystemExit(0)"]
    )
    def test_a_crash_in_one_exercise_costs_only_that(self, deed: str, grade: Grading) -> None:
        verdict = grade(
            {"double": f"def double(x):\n    {deed}", "norm": "def norm(x):\n    return (x @ x).sqrt()"}
        )
        assert scores(verdict) == {"double": 0.0, "norm": 3.0}
        assert outcomes(verdict) == ["failed", "passed"]

    def test_an_exercise_graded_alone_comes_alone(
        self, course: Course, material: Material, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        path = submit(course, tmp_path, ANSWERS)
        verdict = grade_notebook(material, path, sandbox, exercise="norm").verdict
        assert scores(verdict) == {"norm": 3.0}

    def test_what_the_learner_s_cells_printed_is_kept(
        self, course: Course, material: Material, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        path = submit(course, tmp_path, ANSWERS, "print('hello')\n1 / 0")
        outputs = [
            output for cell in grade_notebook(material, path, sandbox).outputs.values() for output in cell
        ]
        assert [output["output_type"] for output in outputs] == ["stream", "error"]
        assert outputs[0]["text"] == "hello\n"


@pytest.fixture(scope="module")
def impatient() -> Iterator[Sandbox]:
    with Sandbox(Limits(cell_seconds=1, cells_seconds=6, call_seconds=1, total_seconds=40)) as sandbox:
        yield sandbox


class TestContent:
    def test_what_was_read_is_graded_whatever_lies_there_by_now(
        self, course: Course, material: Material, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        path = submit(course, tmp_path, ANSWERS)
        content = path.read_bytes()
        submit(course, tmp_path, {})
        assert grade_notebook(material, path, sandbox, content=content).verdict.score == 6.0
        assert grade_notebook(material, path, sandbox).verdict.score == 0.0

    def test_a_process_that_lived_through_it_is_told_from_one_that_did_not(
        self, course: Course, material: Material, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        exit_in_a_call = {**ANSWERS, "norm": "def norm(x):\n    import os; os._exit(0)"}
        for answers, extra, undisturbed in (
            (ANSWERS, "1 / 0", True),
            (exit_in_a_call, "", False),
            (ANSWERS, "import os; os._exit(0)", False),
        ):
            path = submit(course, tmp_path, answers, extra)
            assert grade_notebook(material, path, sandbox).undisturbed is undisturbed


class TestEndless:
    def test_an_endless_loop_costs_its_exercise_only(
        self, course: Course, material: Material, impatient: Sandbox, tmp_path: Path
    ) -> None:
        answers = {
            "double": "def double(x):\n    while True: pass",
            "norm": "def norm(x):\n    return (x @ x).sqrt()",
        }
        verdict = grade_notebook(material, submit(course, tmp_path, answers), impatient).verdict
        assert outcomes(verdict) == ["failed", "passed"]
        assert "took longer than 1 seconds" in verdict.exercise("double").checks[0].message

    def test_a_cell_that_hangs_is_left_out_and_the_others_count(
        self, course: Course, material: Material, impatient: Sandbox, tmp_path: Path
    ) -> None:
        def first(notebook: Any) -> None:
            notebook.cells.insert(0, nbformat.v4.new_code_cell("while True: pass"))

        path = submit(course, tmp_path, ANSWERS, change=first)
        graded = grade_notebook(material, path, impatient)
        assert graded.verdict.score == 6.0
        assert "CellStopped" in str(graded.outputs)


def forge_check(notebook: Any) -> None:
    for cell in notebook.cells:
        if cell.id.startswith("check-"):
            cell.source, cell.outputs = "3.0", []


def forge_points(notebook: Any) -> None:
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            cell.metadata["nbgrader"]["points"] = 100


def forge_tags(notebook: Any) -> None:
    notebook.metadata["proctor"] = {"verdict": "passed"}
    for cell in notebook.cells:
        cell.metadata["tags"] = ["passed", "skip-execution", "remove-cell", "hide-input"]
        cell.metadata["nbgrader"] = {**cell.metadata.get("nbgrader", {}), "grade": False, "points": 6}


FORGED = {
    "another check": "def check(exercise):\n    return 3.0\nimport proctor\nproctor.check = check",
    "another pytest": "import pytest\npytest.fail = lambda *a, **k: None\npytest.main = lambda *a, **k: 0",
    "another comparison": "import torch, numpy\ntorch.allclose = numpy.isclose = lambda *a, **k: True",
    "another expect": "from proctor import expect\nexpect.close = expect.equal = lambda *a, **k: None",
    "another outcome": "from proctor import results\nresults.Outcome.FAILED = results.Outcome.PASSED",
    "an environment": "import os\nos.environ['PROCTOR_GRADING'] = ''\nos.environ['PYTEST_ADDOPTS'] = '--collect-only'",
    "an answer that agrees": """
class Yes:
    def __eq__(self, other): return True
    def __getattr__(self, name): return self
    def __call__(self, *args, **kwargs): return self
double = norm = Yes()
""",
    "another shape of zero": "def double(x):\n    import torch\n    return torch.zeros(0)",
}


class TestForged:
    @pytest.mark.parametrize("what", FORGED)
    def test_nothing_that_a_cell_does_forges_a_point(self, what: str, grade: Grading) -> None:
        verdict = grade({"double": "def double(x):\n    return x * 3"}, FORGED[what])
        assert verdict.score == 0.0
        assert verdict.max_score == 6.0

    @pytest.mark.parametrize("change", [forge_check, forge_points, forge_tags])
    def test_nothing_that_a_notebook_says_of_itself_forges_a_point(
        self, change: Callable[[Any], None], grade: Grading
    ) -> None:
        verdict = grade({"double": "def double(x):\n    return x * 3"}, change=change)
        assert (verdict.score, verdict.max_score) == (0.0, 6.0)
        assert grade(ANSWERS, change=change).score == 6.0

    def test_an_extra_cell_counts_as_the_learner_s_own_work(self, grade: Grading) -> None:
        verdict = grade({"double": "def double(x):\n    return x * 3"}, "def double(x):\n    return x * 2")
        assert verdict.exercise("double").outcome is Outcome.PASSED

    def test_a_shortcut_in_an_extra_cell_is_found(self, grade: Grading) -> None:
        verdict = grade(ANSWERS, "import torch\nnorm = torch.linalg.norm")
        assert verdict.exercise("norm").outcome is Outcome.FAILED


class TestUnreadable:
    @pytest.mark.parametrize("text", [None, "", "no JSON", "{}", '{"nbformat": 4, "cells": []}', "[1]"])
    def test_an_unreadable_notebook_is_for_a_person(
        self, text: str | None, material: Material, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        path = tmp_path / "mini.ipynb"
        if text is not None:
            path.write_text(text)
        verdict = grade_notebook(material, path, sandbox).verdict
        assert outcomes(verdict) == ["grader error"] * 2
        assert verdict.problem
        assert (verdict.score, verdict.max_score) == (0.0, 6.0)
        assert from_json(to_json(verdict)) == verdict

    def test_a_damaged_release_is_an_error_of_the_course_and_nobody_s_zero(
        self, own: Course, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        path = submit(own, tmp_path, ANSWERS)
        material = course_material(own, own.unit(UNIT))
        own.release(UNIT).write_text("{")
        with pytest.raises(CourseError, match=r"exercises/01_mini/mini.ipynb is damaged"):
            grade_notebook(material, path, sandbox)


def write_points(course: Course, **points: float) -> None:
    """Make the release's unit.json say other points."""
    path = course.release(UNIT).parent / "checks" / "unit.json"
    data = json.loads(path.read_text())
    for row in data["exercises"]:
        row["points"] = points.get(row["name"], row["points"])
    path.write_text(json.dumps(data))


class TestPoints:
    def test_points_that_disagree_with_the_release_are_a_grader_error(
        self, own: Course, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        path = submit(own, tmp_path, ANSWERS)
        write_points(own, double=1)
        verdict = grade_notebook(course_material(own, own.unit(UNIT)), path, sandbox).verdict
        assert outcomes(verdict) == ["grader error", "passed"]
        assert verdict.exercise("double").max_score == 1.0
        assert "its checks came to 3 points, but the exercise is worth 1" in str(verdict)

    def test_a_check_that_was_lost_never_leads_to_full_marks(
        self, own: Course, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        path = submit(own, tmp_path, ANSWERS)
        checks = own.graders(UNIT) / "test_mini.py"
        checks.write_text(checks.read_text().replace("def test_unchanged", "def unchanged"))
        verdict = grade_notebook(course_material(own, own.unit(UNIT)), path, sandbox).verdict
        assert outcomes(verdict) == ["grader error", "passed"]

    def test_exercises_that_are_not_in_the_release_are_one_sentence(self, own: Course) -> None:
        table = EXERCISES.split("[norm]")[1].replace("double.", "other.")
        (own.graders(UNIT) / "exercises.toml").write_text(f"{EXERCISES}\n[other]{table}")
        with pytest.raises(CourseError, match=r"do not have the same exercises \(`other`"):
            course_material(own, own.unit(UNIT))

    def test_private_checks_count_and_are_not_released(self, tmp_path: Path, sandbox: Sandbox) -> None:
        course = make_course(tmp_path / "course")
        folder = course.graders(UNIT) / "private"
        folder.mkdir()
        (folder / "test_secretly.py").write_text(PRIVATE)
        notebook = nbformat.read(course.solution(UNIT), as_version=4)
        notebook.cells[-1].metadata["nbgrader"]["points"] = 5
        nbformat.write(notebook, course.solution(UNIT))
        release_all(course.root, [UNIT])
        released = course.release(UNIT).parent
        assert "of_zero" not in "".join(path.read_text() for path in released.rglob("*") if path.is_file())
        path = submit(
            course,
            tmp_path / "work",
            {**ANSWERS, "norm": "def norm(x):\n    return x.norm() + (x == 0).all()"},
        )
        material = course_material(course, course.unit(UNIT))
        assert scores(grade_notebook(material, path, sandbox).verdict) == {"double": 3.0, "norm": 3.0}
        assert material.points == {"double": 3.0, "norm": 5.0}
        home = shutil.copytree(released, tmp_path / "home")
        practice = grade_notebook(released_material(home), submit(course, home, ANSWERS), sandbox).verdict
        assert outcomes(practice) == ["passed", "passed"]


class TestSeeds:
    def test_inputs_differ_by_student_and_a_regrade_repeats_them(
        self, course: Course, material: Material, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        path = submit(course, tmp_path, {"double": "def double(x):\n    return x * 2 + x.sum()"})
        key = bytes(range(32))

        def told(student: str) -> str:
            graded = grade_notebook(material, path, sandbox, seed=secret_seed(key, student))
            return graded.verdict.exercise("double").checks[0].message

        assert told("ada") == told("ada")
        assert told("ada") != told("bela")


def _make_key(root: Path, queue: Any) -> None:
    queue.put(course_key(root))


class TestCourseKey:
    def test_it_is_made_once_and_for_the_teacher_s_eyes(self, tmp_path: Path) -> None:
        key = course_key(tmp_path)
        path = tmp_path / ".proctor" / "course.key"
        assert len(key) == 32
        assert course_key(tmp_path) == key
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert [p.name for p in path.parent.iterdir()] == ["course.key"]

    def test_processes_that_start_at_once_agree(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        processes = [context.Process(target=_make_key, args=(tmp_path, queue)) for _ in range(8)]
        for process in processes:
            process.start()
        keys = {queue.get(timeout=60) for _ in processes}
        for process in processes:
            process.join()
        assert keys == {course_key(tmp_path)}

    @pytest.mark.parametrize("damage", [b"", b"abc", b"z" * 64, b"ab" * 31, b"\xff" * 64, b"ab" * 33])
    def test_a_damaged_key_is_one_sentence_and_stays(self, damage: bytes, tmp_path: Path) -> None:
        course_key(tmp_path)
        path = tmp_path / ".proctor" / "course.key"
        path.write_bytes(damage)
        with pytest.raises(CourseError, match=r"course.key in .proctor is damaged; put back a copy"):
            course_key(tmp_path)
        assert path.read_bytes() == damage


def _stand_in(job: Job) -> Graded:
    """What a pool's process does in these tests: it dies for some students, and says whose job it was."""
    once = job.path.with_name(f"{job.student}-tried")
    again = once.exists()
    once.touch()
    if again:
        job.path.with_name(f"{job.student}-again").touch()
    if job.student == "killer" or (job.student == "victim" and not again):
        os.kill(os.getpid(), signal.SIGKILL)
    if job.student == "bug":
        raise KeyError("a bug")
    if job.student == "error":
        raise CourseError("the course is not whole")
    return Graded(verdict=Verdict(unit=UNIT, exercises=(), notes=(job.student, str(os.getpid()))))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # quick to start; the real ones are spawned
class TestPool:
    @pytest.fixture
    def jobs(
        self, course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[..., list[Job]]:
        monkeypatch.setattr(pools, "_grade_job", _stand_in)
        monkeypatch.setattr(staff, "get_context", lambda _: multiprocessing.get_context("fork"))
        return lambda *names: [
            Job(root=course.root, unit=UNIT, student=name, path=tmp_path / name) for name in names
        ]

    @staticmethod
    def run(jobs: list[Job], size: int = 2) -> dict[str, Verdict]:
        with Pool(size) as pool:
            return {job.student: graded.verdict for job, graded in pool.grade_all(jobs)}

    def test_a_job_that_ends_its_process_is_for_a_person_and_costs_nobody_else(
        self, jobs: Callable[..., list[Job]]
    ) -> None:
        names = ("ada", "killer", "bela", "chen", "dora", "eve", "fay")
        verdicts = self.run(jobs(*names))
        assert sorted(verdicts) == sorted(names)
        assert "ended before it had a verdict" in verdicts["killer"].problem
        assert verdicts["killer"].needs_person
        assert [e.outcome for e in verdicts["killer"].exercises] == [Outcome.GRADER_ERROR] * 2
        assert {verdict.notes[0] for verdict in verdicts.values() if verdict.notes} == {*names} - {"killer"}

    def test_a_job_whose_process_died_is_tried_again(self, jobs: Callable[..., list[Job]]) -> None:
        verdicts = self.run(jobs("ada", "victim", "bela"))
        assert {name: verdict.notes[0] for name, verdict in verdicts.items()} == {
            name: name for name in ("ada", "victim", "bela")
        }

    def test_a_process_that_dies_costs_no_other_job_a_second_try(
        self, jobs: Callable[..., list[Job]], tmp_path: Path
    ) -> None:
        names = ("ada", "killer", "bela", "victim", "chen", "dora")
        verdicts = self.run(jobs(*names))
        again = {path.name for path in tmp_path.glob("*-again")}
        assert again == {"killer-again", "victim-again"}
        assert [name for name, verdict in verdicts.items() if verdict.problem] == ["killer"]

    def test_jobs_are_asked_for_as_they_are_needed(self, jobs: Callable[..., list[Job]]) -> None:
        made, seen = jobs(*(f"s{n}" for n in range(20))), []

        def source() -> Iterator[Job]:
            for job in made:
                seen.append(job)
                yield job

        with Pool(2) as pool:
            for done, _ in enumerate(pool.grade_all(source()), 1):
                assert len(seen) <= done + 2 * pools.AHEAD
        assert seen == made

    def test_a_process_that_has_grown_gives_way_to_a_new_one(
        self, jobs: Callable[..., list[Job]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(staff, "GROWTH", -1)
        verdicts = self.run(jobs(*(f"s{n}" for n in range(6))), size=1)
        assert len({verdict.notes[1] for verdict in verdicts.values()}) >= 3

    def test_a_run_that_is_given_up_leaves_nothing_to_the_next(self, jobs: Callable[..., list[Job]]) -> None:
        with Pool(2) as pool:
            next(given_up := pool.grade_all(jobs("ada", "bela", "chen", "dora")))
            given_up.close()
            rest = [job.student for job, _ in pool.grade_all(jobs("eve", "fay"))]
            assert sorted(rest) == ["eve", "fay"]
            assert pool.grade(jobs("ada")[0]).verdict.notes[0] == "ada"

    def test_a_bug_of_the_grader_is_for_a_person(self, jobs: Callable[..., list[Job]]) -> None:
        verdicts = self.run(jobs("ada", "bug"))
        assert verdicts["bug"].problem == "the grader broke: KeyError: 'a bug'"
        assert verdicts["bug"].max_score == 6.0
        assert verdicts["ada"].notes[0] == "ada"

    def test_an_error_of_the_course_ends_the_run(self, jobs: Callable[..., list[Job]]) -> None:
        with pytest.raises(CourseError, match="the course is not whole"):
            self.run(jobs("error"))

    def test_no_jobs_are_no_verdicts_and_no_processes(self, jobs: Callable[..., list[Job]]) -> None:
        with Pool(2) as pool:
            assert list(pool.grade_all([])) == []
            assert pool._workers == []

    def test_submissions_are_graded_in_a_process_of_the_pool(self, course: Course, tmp_path: Path) -> None:
        made = [
            Job(root=course.root, unit=UNIT, student=name, path=submit(course, tmp_path / name, answers))
            for name, answers in (("ada", ANSWERS), ("bela", {"double": ANSWERS["double"]}))
        ]
        made.append(Job(root=course.root, unit=UNIT, student="chen", path=tmp_path / "missing.ipynb"))
        verdicts = self.run(made, size=1)
        assert {name: verdict.score for name, verdict in verdicts.items()} == {
            "ada": 6.0,
            "bela": 3.0,
            "chen": 0.0,
        }
        assert [name for name, verdict in verdicts.items() if verdict.needs_person] == ["chen"]
