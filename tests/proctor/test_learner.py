"""What a learner's notebook calls, in a real kernel and outside of one; hints, progress, starting afresh."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbclient import NotebookClient
from rich.console import Console

from minicourse import ANSWERS, UNIT, make_course
from proctor import learn, learner
from proctor.course import Course, CourseError, ReleasedExercise, ReleasedUnit, read_course, read_release
from proctor.nbgrader.classroom import release_all
from proctor.notebook import NotebookError

# What of a session a check may not change, as text.
STATE = """
import os, random, sys, warnings
import numpy
state = lambda: str([
    hash(random.getstate()), numpy.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist(),
    warnings.filters, sys.stdout is out, dict(os.environ), torch.is_grad_enabled(), sys.path, os.getcwd(),
    sorted(name for name in sys.modules if "mini" in name), getattr(sys, "last_value", None),
])
out, before = sys.stdout, ""
before = state()
"""
SHORTCUT = "def norm(x):\n    return torch.linalg.vector_norm(x)"
CELLS = {
    "stub": 'check("double")',
    "answer": ANSWERS["double"],
    "noisy": ANSWERS["double"].replace("return", "print('noise'); torch.rand(3); return"),
    "before": STATE,
    "right": 'check("double")',
    "after": "state() == before",
    "by itself": "check(double)",
    "shortcut": SHORTCUT,
    "caught": 'check("norm")',
    "wrong": "In = 3\ndef norm(x):\n    return double(x).sum()",
    "failed": 'check("norm")',
    "unknown": 'check("duoble")',
    "no name": "check(3)",
    "hint": 'hint("double")',
    "second hint": 'hint("double")',
    "unknown hint": 'hint("nothing")',
    "value": 'type(check("norm")).__mro__[1].__name__, check("norm") + 1, repr(check("norm"))',
    "stopped": 'def double(x):\n    raise KeyboardInterrupt\ncheck("double")',
}


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The mini course, released; tests leave it as it is."""
    course = make_course(tmp_path_factory.mktemp("learner") / "course")
    release_all(course.root, [UNIT])
    return course


@pytest.fixture
def own(course: Course, tmp_path: Path) -> Course:
    """A copy of the course, to be changed."""
    return read_course(shutil.copytree(course.root, tmp_path / "course"))


@pytest.fixture(scope="module")
def outputs(course: Course, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What a kernel showed for each of CELLS, run one after the other in a copy of the release."""
    folder = shutil.copytree(course.release(UNIT).parent, tmp_path_factory.mktemp("work") / UNIT)
    notebook = nbformat.read(folder / "mini.ipynb", as_version=4)
    for name, source in CELLS.items():
        notebook.cells.append(nbformat.v4.new_code_cell(source, metadata={"name": name}))
    for cell in notebook.cells:
        if cell.id.startswith("check-"):
            cell.source = ""
    client = NotebookClient(
        notebook, timeout=120, allow_errors=True, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return {cell.metadata["name"]: cell.outputs for cell in notebook.cells if "name" in cell.metadata}


def shown(output: Any) -> str:
    """All that a person sees of an output."""
    data = output.get("data", {})
    return "\n".join([output.get("text", ""), *output.get("traceback", []), *map(str, data.values())])


class TestKernel:
    @pytest.mark.parametrize(
        ("cell", "points", "says"),
        [
            ("stub", "0.0", "not attempted"),
            ("right", "3.0", "doubles every entry"),
            ("by itself", "3.0", "doubles every entry"),
            ("caught", "0.0", "Use square, sum and sqrt."),
            ("failed", "0.0", "Is there a root?"),
        ],
    )
    def test_a_check_prints_as_a_plain_number_and_shows_the_rubric(
        self, cell: str, points: str, says: str, outputs: dict[str, list[Any]]
    ) -> None:
        [output] = outputs[cell]
        assert output["data"]["text/plain"] == points
        assert says in output["data"]["text/html"]

    def test_the_value_is_a_float(self, outputs: dict[str, list[Any]]) -> None:
        [output] = outputs["value"]
        assert output["data"]["text/plain"] == "('float', 1.0, '0.0')"

    def test_a_check_leaves_the_session_as_it_was(self, outputs: dict[str, list[Any]]) -> None:
        assert shown(outputs["after"][0]).strip() == "True"
        assert "noise" not in shown(outputs["right"][0])

    @pytest.mark.parametrize(
        ("cell", "says"),
        [
            (
                "unknown",
                "unit 01_mini has no exercise 'duoble'; there are: double, norm; did you mean double?",
            ),
            ("no name", "unit 01_mini has no exercise '3'; there are: double, norm"),
            ("unknown hint", "unit 01_mini has no exercise 'nothing'; there are: double, norm"),
        ],
    )
    def test_a_mistake_is_one_sentence(self, cell: str, says: str, outputs: dict[str, list[Any]]) -> None:
        [output] = outputs[cell]
        assert output["output_type"] == "error"
        assert output["traceback"] == [says]

    def test_stopping_a_check_is_an_interrupt(self, outputs: dict[str, list[Any]]) -> None:
        assert outputs["stopped"][-1]["ename"] == "KeyboardInterrupt"

    def test_hints_climb(self, outputs: dict[str, list[Any]]) -> None:
        assert outputs["hint"][0]["text"] == "Hint 1 of 3: What is x + x?\n"
        assert outputs["second hint"][0]["text"].splitlines()[1] == "Hint 2 of 3: The operator `*`."


def run_script(folder: Path, source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text("from proctor import check, hint\nimport torch\n" + source)
    return subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class TestOutsideOfAKernel:
    def test_the_rubric_is_text_and_shortcuts_are_found(self, own: Course) -> None:
        folder = own.release(UNIT).parent
        done = run_script(folder, f'{ANSWERS["double"]}\n{SHORTCUT}\nprint([check("double"), check("norm")])')
        assert "doubles every entry" in done.stdout
        assert "Use square, sum and sqrt." in done.stdout
        assert done.stdout.splitlines()[-1] == "[3.0, 0.0]"
        assert done.stderr == ""

    def test_in_grading_a_check_is_worth_nothing_and_reads_nothing(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PROCTOR_GRADING", "1")
        monkeypatch.chdir(tmp_path)
        assert learner.check("anything") == 0.0
        assert capsys.readouterr().out == ""

    def test_without_checks_beside_the_notebook_one_sentence_says_what_to_do(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for call in (learner.check, learner.hint):
            with pytest.raises(CourseError, match=r"keep it in the folder it came in, next to `checks`"):
                call("double")

    def test_in_the_course_the_release_of_the_folder_s_unit_is_used(
        self, course: Course, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        folder = course.solution(UNIT).parent
        assert learner.release_folder(folder) == course.release(UNIT).parent


class TestHints:
    @staticmethod
    def climb(course: Course, folder: Path, exercise: str = "double") -> list[str]:
        return learner.next_hints(read_release(course.release(UNIT).parent), exercise, folder)

    def test_the_ladder_climbs_to_its_top_and_stays_there(self, course: Course, tmp_path: Path) -> None:
        assert [len(self.climb(course, tmp_path)) for _ in range(5)] == [1, 2, 3, 3, 3]
        assert len(self.climb(course, tmp_path, "norm")) == 1
        assert [p.name for p in tmp_path.iterdir()] == [".hints.json"]

    @given(
        st.binary(max_size=50)
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["double", "norm"]), inner),
        ).map(lambda data: json.dumps(data).encode())
        | st.just(b"[" * 100_000)
        | st.just(b'{"double": 1e999}')
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_garbage_in_the_file_is_forgotten(self, course: Course, tmp_path: Path, garbage: bytes) -> None:
        (tmp_path / ".hints.json").write_bytes(garbage)
        rungs = [len(self.climb(course, tmp_path)) for _ in range(3)]
        assert rungs == sorted(rungs)
        assert 1 <= rungs[0] <= 3
        assert rungs[-1] == 3

    def test_long_hints_are_wrapped_between_words_and_pseudocode_keeps_its_margins(
        self, tmp_path: Path
    ) -> None:
        words = "Which operation turns two rows of one width into one number, and what does it sum over? " * 3
        code = f"for each row:\n    for each column:\n        {words.strip()}\nreturn the rows\n"
        hints = (words, f"`torch.{'long_' * 20}name` does it", code)
        exercise = ReleasedExercise(
            name="double", title="t", difficulty=1, minutes=1, points=1.0, hints=hints
        )
        unit = ReleasedUnit(unit=UNIT, title="t", notebook="mini", exercises=(exercise,))
        for _ in range(3):
            shown = learner.next_hints(unit, "double", tmp_path)
        prose, long, pseudocode = shown
        assert max(map(len, [*prose.splitlines(), *pseudocode.splitlines()])) <= learner.WIDTH
        assert " ".join(prose.splitlines()) == f"Hint 1 of 3: {words.strip()}"
        assert hints[1].split()[0] in long  # a name is never cut
        lines = pseudocode.splitlines()
        assert lines[:3] == ["Hint 3 of 3:", "    for each row:", "        for each column:"]
        assert lines[3].startswith("            Which operation")
        assert all(line.startswith(" " * 16) for line in lines[4:-1])
        assert lines[-1] == "    return the rows"

    def test_a_folder_that_cannot_be_written_to_forgets(self, course: Course, tmp_path: Path) -> None:
        assert [len(self.climb(course, tmp_path / "missing")) for _ in range(2)] == [1, 1]
        (tmp_path / ".hints.json").mkdir()
        assert [len(self.climb(course, tmp_path)) for _ in range(2)] == [1, 1]
        assert [p.name for p in tmp_path.iterdir()] == [".hints.json"]

    def test_hints_are_remembered_before_a_unit_is_started_too(self, own: Course) -> None:
        unit = own.unit(UNIT)
        assert [len(learn.hints_for(own, unit, "norm")) for _ in range(2)] == [1, 2]
        learn.start_unit(own, unit)
        assert [len(learn.hints_for(own, unit, "norm")) for _ in range(2)] == [1, 2]
        assert (own.work(UNIT).parent / ".hints.json").is_file()


class TestStarting:
    def test_starting_never_overwrites(self, own: Course) -> None:
        unit = own.unit(UNIT)
        fresh, path = learn.start_unit(own, unit)
        assert fresh
        assert (path.parent / "checks" / "unit.json").is_file()
        path.write_text("my work")
        assert learn.start_unit(own, unit) == (False, path)
        assert path.read_text() == "my work"

    def test_starting_afresh_keeps_every_old_folder(self, own: Course) -> None:
        unit = own.unit(UNIT)
        assert learn.reset_unit(own, unit)[1] is None
        for number in range(3):
            own.work(UNIT).write_text(f"my work {number}")
            path, kept = learn.reset_unit(own, unit)
            assert kept is not None
            assert (kept / "mini.ipynb").read_text() == f"my work {number}"
            assert path.read_bytes() == own.release(UNIT).read_bytes()
        assert len(list((own.root / "my-work").iterdir())) == 4

    def test_what_cannot_be_started_moves_nothing(self, own: Course) -> None:
        unit = own.unit(UNIT)
        learn.start_unit(own, unit)
        own.work(UNIT).write_text("my work")
        shutil.rmtree(own.release(UNIT).parent)
        with pytest.raises(CourseError, match=r"not released yet; `proctor release 01_mini`"):
            learn.reset_unit(own, unit)
        assert own.work(UNIT).read_text() == "my work"
        assert [p.name for p in (own.root / "my-work").iterdir()] == [UNIT]

    def test_nothing_half_made_is_left_behind(self, own: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(source: Path, target: Path, **_: Any) -> None:
            target.mkdir()
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(shutil, "copytree", fail)
        with pytest.raises(OSError, match="No space left"):
            learn.start_unit(own, own.unit(UNIT))
        assert list((own.root / "my-work").iterdir()) == []


def work_on(course: Course, answers: dict[str, str]) -> Path:
    """The learner's copy, with answers."""
    path = learn.start_unit(course, course.unit(UNIT))[1]
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = answers.get(cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source)
    nbformat.write(notebook, path)
    return path


def progress(course: Course) -> str:
    out = io.StringIO()
    learn.show_progress(course, Console(file=out, width=100))
    return out.getvalue()


class TestProgress:
    def test_the_map_shows_what_is_done_begun_and_untouched(self, own: Course) -> None:
        assert "not started" in progress(own)
        work_on(own, {"double": ANSWERS["double"]})
        half = progress(own)
        assert "✓ ○" in half
        assert "3 of 6 points" in half
        work_on(own, ANSWERS)
        assert "6 of 6 points" in progress(own)

    @pytest.mark.parametrize("text", ["", "{}", "no JSON"])
    def test_one_damaged_notebook_or_missing_release_does_not_hide_the_map(
        self, text: str, own: Course
    ) -> None:
        learn.start_unit(own, own.unit(UNIT))[1].write_text(text)
        assert "0 of 6 points" in progress(own)
        assert "mini.ipynb" in progress(own)
        shutil.rmtree(own.release(UNIT).parent)
        assert "not released" in progress(own)


class TestCheckNotebook:
    def test_it_is_checked_by_what_lies_beside_it_outside_of_a_course(
        self, course: Course, tmp_path: Path
    ) -> None:
        folder = shutil.copytree(course.release(UNIT).parent, tmp_path / "anywhere")
        path = folder / "mine.ipynb"
        shutil.copy(folder / "mini.ipynb", path)
        assert learn.check_notebook(path, "norm").max_score == 3.0

    def test_what_cannot_be_checked_is_one_sentence(self, own: Course, tmp_path: Path) -> None:
        path = work_on(own, {})
        with pytest.raises(CourseError, match=r"has no exercise 'nrom'.*did you mean norm\?"):
            learn.check_notebook(path, "nrom")
        with pytest.raises(NotebookError, match="there is no file of this name"):
            learn.check_notebook(path.with_name("other.ipynb"))
        stray = shutil.copy(path, tmp_path / "stray.ipynb")
        with pytest.raises(CourseError, match="is not in a course"):
            learn.check_notebook(Path(stray))

    def test_a_notebook_of_another_unit_is_told(self, own: Course) -> None:
        path = learn.start_unit(own, own.unit(UNIT))[1]
        other = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent("x = 1"))])
        nbformat.write(other, path)
        with pytest.raises(CourseError, match="not of unit 01_mini"):
            learn.check_notebook(path)
