"""Keeping generated files in step: answers, points, exercises, the notebooks' one form."""

from __future__ import annotations

import importlib.util
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicourse import EXERCISES, UNIT, make_course, make_solution
from proctor import author
from proctor.author import BEGIN, END, answer_source, sync
from proctor.course import Course, CourseError, read_course

LIBRARY = '''\
"""A library."""

import functools


def plain(x):
    """Double.

    Of anything.
    """
    y = x  # a comment
    return y * 2


def undocumented(x):
    # what it does
    return x


@functools.cache
@functools.wraps(plain)
def decorated(
    x,
):
    """Once."""

    return x


class Layer(dict):
    """A layer."""

    size = 3

    def __init__(self):
        """Make it."""
        super().__init__()

    @property
    def text(self):
        return """
no margin
        a margin
"""

    def later(self):
        """Only described."""


def one_line(x): return x


def documented_line(x):
    """Doc."""; return x


def last(x):
    return x'''


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library called `scratch`, in place of the course's."""
    path = tmp_path / "library.py"
    path.write_text(LIBRARY)

    def find_spec(name: str) -> SimpleNamespace | None:
        return SimpleNamespace(origin=str(path)) if name == "scratch.library" else None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    return path


@pytest.mark.usefixtures("library")
class TestAnswerSource:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            (
                "plain",
                '''
                def plain(x):
                    """Double.

                    Of anything.
                    """
                    ### BEGIN SOLUTION
                    y = x  # a comment
                    return y * 2
                    ### END SOLUTION
                ''',
            ),
            (
                "undocumented",
                """
                def undocumented(x):
                    # what it does
                    ### BEGIN SOLUTION
                    return x
                    ### END SOLUTION
                """,
            ),
            (
                "decorated",
                '''
                @functools.cache
                @functools.wraps(plain)
                def decorated(
                    x,
                ):
                    """Once."""
                    ### BEGIN SOLUTION

                    return x
                    ### END SOLUTION
                ''',
            ),
            (
                "Layer",
                '''
                class Layer(dict):
                    """A layer."""

                    size = 3

                    def __init__(self):
                        """Make it."""
                        ### BEGIN SOLUTION
                        super().__init__()
                        ### END SOLUTION

                    @property
                    def text(self):
                        ### BEGIN SOLUTION
                        return """
                no margin
                        a margin
                """
                        ### END SOLUTION

                    def later(self):
                        """Only described."""
                ''',
            ),
            (
                "Layer.__init__",
                '''
                def __init__(self):
                    """Make it."""
                    ### BEGIN SOLUTION
                    super().__init__()
                    ### END SOLUTION
                ''',
            ),
            (
                "last",
                """
                def last(x):
                    ### BEGIN SOLUTION
                    return x
                    ### END SOLUTION
                """,
            ),
        ],
    )
    def test_each_body_stands_between_marks(self, name: str, expected: str) -> None:
        assert answer_source(f"scratch.library:{name}") == textwrap.dedent(expected).strip()

    def test_an_answer_without_its_marks_is_the_source_itself(self) -> None:
        for name in ("plain", "undocumented", "decorated", "Layer", "last"):
            lines = answer_source(f"scratch.library:{name}").split("\n")
            plain = "\n".join(line for line in lines if line.strip() not in (BEGIN, END))
            assert plain in LIBRARY
            compile(plain, name, "exec")

    @pytest.mark.parametrize("name", ["one_line", "documented_line"])
    def test_a_body_on_the_line_of_its_def_is_one_sentence(self, name: str) -> None:
        with pytest.raises(CourseError, match=rf"write the body of `{name}` on lines of its own"):
            answer_source(f"scratch.library:{name}")

    @pytest.mark.parametrize(
        ("origin", "says"),
        [
            ("scratch.library:nothing", "names nothing that scratch.library defines"),
            ("scratch.library:plain.inner", "names nothing"),
            ("scratch.library:Layer.size", "names nothing"),
            ("scratch.library:functools", "names nothing"),
            ("scratch.library:", "names nothing"),
            ("scratch.library", "names nothing"),
            ("scratch.nowhere:plain", "names no module of the library"),
            ("os:path", "names no module of the library"),
            ("scratchpad:plain", "names no module of the library"),
            ("", "names no module of the library"),
        ],
    )
    def test_what_is_not_there_is_one_sentence(self, origin: str, says: str) -> None:
        with pytest.raises(CourseError, match=says):
            answer_source(origin)


@pytest.mark.parametrize("origin", ["scratch.no.such:f", "scratch..x:f", ".scratch:f"])
def test_a_module_that_cannot_be_looked_up_is_one_sentence(origin: str) -> None:
    with pytest.raises(CourseError, match="names no module"):
        answer_source(origin)


@given(
    st.lists(
        st.sampled_from(["x", "y = x", "if x:\n    pass", "# only\nreturn x", '"""text"""', "\nreturn x"]),
        min_size=1,
    ),
    st.booleans(),
)
def test_any_body_comes_back_whole(parts: list[str], documented: bool) -> None:
    body = "\n".join(['"""Do it."""'] * documented + parts)
    text = f"def f(x):\n{textwrap.indent(body, '    ')}"
    tree = author.ast.parse(text)
    answer = author._answer(tree, text.split("\n"), ["f"], "scratch.x:f")
    assert "\n".join(line for line in answer.split("\n") if line.strip() not in (BEGIN, END)) == text
    assert answer.count(BEGIN) == answer.count(END) <= 1
    assert author.ast.dump(author.ast.parse(answer)) == author.ast.dump(tree)


def edit(path: Path, change: Callable[[nbformat.NotebookNode], None]) -> None:
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


def contents(course: Course) -> dict[str, bytes]:
    return {
        path.relative_to(course.root).as_posix(): path.read_bytes()
        for path in sorted(course.root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The mini course with a lesson, in step; tests leave it as it is."""
    course = make_course(tmp_path_factory.mktemp("author") / "course")
    (course.root / "lessons").mkdir()
    lesson = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1", id="one", execution_count=3)])
    lesson.cells[0].outputs = [
        nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=9)
    ]
    nbformat.write(lesson, course.lesson(UNIT))
    sync(course)
    return course


@pytest.fixture
def course(made: Course, tmp_path: Path) -> Course:
    """A copy of it, to be changed."""
    return read_course(shutil.copytree(made.root, tmp_path / "course"))


def say_origin(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[3].metadata["proctor"] = {"from": "scratch.attention:attention_scores"}


def add_output(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="a path of this machine")]
    notebook.cells[1].execution_count = 4


def add_metadata(notebook: nbformat.NotebookNode) -> None:
    notebook.metadata["widgets"] = {"state": {}}
    notebook.cells[0].metadata["collapsed"] = True


def change_points(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[4].metadata["nbgrader"]["points"] = 7


def change_source(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[3].source += "\n# edited by hand"


DRIFT: dict[str, tuple[str, Callable[[Course], object]]] = {
    "an answer that left its source": (
        f"solutions/{UNIT}/mini.ipynb",
        lambda course: edit(course.solution(UNIT), say_origin),
    ),
    "points": (f"solutions/{UNIT}/mini.ipynb", lambda course: edit(course.solution(UNIT), change_points)),
    "an output in a solution": (
        f"solutions/{UNIT}/mini.ipynb",
        lambda course: edit(course.solution(UNIT), add_output),
    ),
    "metadata in a solution": (
        f"solutions/{UNIT}/mini.ipynb",
        lambda course: edit(course.solution(UNIT), add_metadata),
    ),
    "metadata in a lesson": (f"lessons/{UNIT}.ipynb", lambda course: edit(course.lesson(UNIT), add_metadata)),
    "an exercise edited by hand": (
        f"exercises/{UNIT}/mini.ipynb",
        lambda course: edit(course.release(UNIT), change_source),
    ),
    "an exercise that is missing": (
        f"exercises/{UNIT}/mini.ipynb",
        lambda course: course.release(UNIT).unlink(),
    ),
    "a surplus file": (
        "exercises/08_old/old.ipynb",
        lambda course: author.write(course.root / "exercises/08_old/old.ipynb", b"{}"),
    ),
    "a hint": (
        f"exercises/{UNIT}/checks/unit.json",
        lambda course: (course.graders(UNIT) / "exercises.toml").write_text(
            EXERCISES.replace("root of", "The root of")
        ),
    ),
    "a released check edited by hand": (
        f"exercises/{UNIT}/checks/test_mini.py",
        lambda course: (course.release(UNIT).parent / "checks" / "test_mini.py").write_text(""),
    ),
}


SOURCES = ("an answer that left its source", "a hint")  # after these the course is another one


class TestSync:
    def test_it_is_idempotent(self, course: Course) -> None:
        before = contents(course)
        assert sync(course) == []
        assert contents(course) == before

    @pytest.mark.parametrize("kind", DRIFT)
    def test_drift_is_found_and_mended(self, kind: str, made: Course, course: Course) -> None:
        path, drift = DRIFT[kind]
        drift(course)
        drifted = contents(course)
        found = {found.relative_to(course.root).as_posix() for found in sync(course, check=True)}
        assert path in found
        assert contents(course) == drifted
        sync(course)
        if kind in SOURCES:
            assert sync(course, check=True) == []
        else:
            assert contents(course) == contents(made)

    def test_an_answer_comes_from_the_library_and_points_from_the_checks(self, course: Course) -> None:
        edit(course.solution(UNIT), say_origin)
        edit(course.solution(UNIT), change_points)
        sync(course)
        cells = nbformat.read(course.solution(UNIT), as_version=4).cells
        assert "def attention_scores(" in cells[3].source
        assert cells[3].source.count(BEGIN) == 1
        assert cells[4].metadata["nbgrader"]["points"] == 3
        stub = nbformat.read(course.release(UNIT), as_version=4).cells[3].source
        assert stub.endswith('raise NotImplementedError("double")')

    def test_a_lesson_keeps_its_outputs(self, course: Course) -> None:
        [cell] = nbformat.read(course.lesson(UNIT), as_version=4).cells
        assert cell.outputs[0].data["text/plain"] == "2"
        assert cell.outputs[0].execution_count == cell.execution_count == 3

    def test_what_learners_and_checkpoints_leave_is_no_drift(self, course: Course) -> None:
        for folder in ("__pycache__", ".ipynb_checkpoints"):
            author.write(course.release(UNIT).parent / folder / "x", b"")
        assert sync(course, check=True) == []


def without_checks(course: Course) -> None:
    edit(course.solution(UNIT), lambda notebook: notebook.cells.pop())


def twice(course: Course) -> None:
    def add(notebook: nbformat.NotebookNode) -> None:
        notebook.cells.append(nbformat.from_dict({**notebook.cells[4], "id": "again"}))
        notebook.cells[-1].metadata["nbgrader"]["grade_id"] = "again"

    edit(course.solution(UNIT), add)


def misspelt(course: Course) -> None:
    def change(notebook: nbformat.NotebookNode) -> None:
        notebook.cells[4].source = 'check("duoble")'

    edit(course.solution(UNIT), change)


WRONG: dict[str, tuple[Callable[[Course], object], str]] = {
    "no check cell": (without_checks, "mini.ipynb has no check cell for `norm`"),
    "two check cells": (twice, "several check cells for `double`"),
    "an unknown exercise": (misspelt, r'the check cell `check\("duoble"\)` names no exercise with checks'),
    "no notebook": (lambda course: course.solution(UNIT).unlink(), f"{UNIT}/mini.ipynb is missing"),
    "a damaged notebook": (lambda course: course.solution(UNIT).write_text("{"), "is no notebook"),
    "a damaged lesson": (lambda course: course.lesson(UNIT).write_text("{"), "is no notebook"),
    "a broken check file": (
        lambda course: (course.graders(UNIT) / "test_mini.py").write_text("def"),
        "a check file cannot be read: test_mini.py: SyntaxError",
    ),
    "an exercise without checks": (
        lambda course: (course.graders(UNIT) / "exercises.toml").write_text(
            EXERCISES + EXERCISES.split("[norm]")[1].join(["[other]", ""])
        ),
        "has no check cell for `other`",
    ),
    "checks of no exercise": (
        lambda course: (course.graders(UNIT) / "exercises.toml").write_text(EXERCISES.split("[norm]")[0]),
        "there are checks of `norm`, which exercises.toml does not list",
    ),
    "no configuration": (lambda course: (course.root / "nbgrader_config.py").unlink(), "nbgrader_config.py"),
}


@pytest.mark.parametrize("what", WRONG)
def test_nothing_is_written_where_something_is_wrong(what: str, course: Course) -> None:
    change, says = WRONG[what]
    author.write(course.release(UNIT).parent / "surplus.txt", b"")
    change(course)
    before = contents(course)
    with pytest.raises((CourseError, FileNotFoundError), match=says):
        sync(course)
    assert contents(course) == before


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notebook.ipynb"
    path.write_bytes(b"old")

    def fail(self: Path, content: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(OSError, match="No space left"):
            author.write(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["notebook.ipynb"]
    assert path.read_bytes() == b"old"
    author.write(path, b"new")
    assert path.read_bytes() == b"new"


def test_points_that_disagree_are_one_sentence(tmp_path: Path) -> None:
    course = make_course(tmp_path)
    notebook = make_solution()
    author.check_points(course, course.unit(UNIT), notebook)
    change_points(notebook)
    with pytest.raises(
        CourseError, match=r"check cell of `double` gives 7 points, its checks come to 3; run `make sync`"
    ):
        author.check_points(course, course.unit(UNIT), notebook)
