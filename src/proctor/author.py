"""Keeps every generated file in step with its source: ``proctor sync``.

The library is the source of the solutions, the checks are the source of the points, and both together, released
through nbgrader, are the source of the exercises. Notebooks are brought into one form, so that a diff shows what a
person has changed.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from proctor.course import Course, CourseError, Unit, write_release

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
_KEPT = ("nbgrader", "proctor", "tags", "deletable", "editable")


def answer_source(origin: str) -> str:
    """The answer cell of a library function or class: its own source, each body between solution marks.

    Args:
        origin: ``module:name``, such as ``scratch.attention:SelfAttention``, or ``module:Class.method``.

    Raises CourseError where there is no such thing.
    """
    module, _, path = origin.partition(":")
    try:
        spec = importlib.util.find_spec(module) if module.split(".")[0] == "scratch" else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise CourseError(f"`from: {origin}` names no module of the library")
    text = Path(spec.origin).read_text(encoding="utf-8")
    return _answer(ast.parse(text), text.split("\n"), path.split("."), origin)


def _answer(tree: ast.AST, lines: list[str], path: list[str], origin: str) -> str:
    node = tree
    for name in path:
        inside = getattr(node, "body", ())
        node = next((child for child in inside if getattr(child, "name", None) == name), None)
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            raise CourseError(f"`from: {origin}` names nothing that {origin.partition(':')[0]} defines")
    begin = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    end = node.end_lineno
    for function in reversed([part for part in ast.walk(node) if _has_answer(part, node)]):
        docstring, first = ast.get_docstring(function) is not None, function.body[0]
        start = first.end_lineno if docstring else first.lineno - 1
        if first.lineno == function.lineno or (docstring and function.body[1].lineno == first.end_lineno):
            raise CourseError(
                f"`from: {origin}`: write the body of `{function.name}` on lines of its own, below its `def`"
            )
        indent = " " * first.col_offset
        lines.insert(function.end_lineno, indent + END)
        lines.insert(start, indent + BEGIN)
        end += 2
    block = lines[begin:end]
    margin = " " * (len(block[0]) - len(block[0].lstrip()))
    return "\n".join(line.removeprefix(margin) for line in block)


def _has_answer(part: ast.AST, whole: ast.AST) -> bool:
    """Whether a part is a function that a learner writes: the whole itself, or a method that does something."""
    if not isinstance(part, ast.FunctionDef):
        return False
    does = part.body[1:] if ast.get_docstring(part) is not None else part.body
    return bool(does) and (part is whole or part in getattr(whole, "body", ()))


def tidy(notebook: NotebookNode, *, outputs: bool) -> NotebookNode:
    """The notebook in its one form: little metadata, no run times, outputs only where they are wanted."""
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        cell.metadata = NotebookNode({name: cell.metadata[name] for name in _KEPT if name in cell.metadata})
        if cell.cell_type == "code" and not outputs:
            cell.outputs, cell.execution_count = [], None
        for output in cell.get("outputs", []):
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
    return notebook


def synced_solution(course: Course, unit: Unit) -> str:
    """The text of the solution notebook as its sources have it. Raises CourseError."""
    from proctor.checks import points_of
    from proctor.notebook import exercise_of

    path = course.solution(unit)
    notebook = tidy(read_notebook(path), outputs=False)
    points = points_of(course.graders(unit))
    checked = []
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader", {})
        if about.get("solution") and cell.metadata.get("proctor", {}).get("from"):
            cell.source = answer_source(cell.metadata.proctor["from"])
        if about.get("grade") and not about.get("solution"):
            name = exercise_of(cell.source) or ""
            if name not in points:
                raise CourseError(
                    f"{path.name}: the check cell `{cell.source[:60]}` names no exercise with checks"
                )
            checked.append(name)
            about["points"] = int(points[name]) if points[name] == int(points[name]) else points[name]
    for name in course.exercises(unit):
        if checked.count(name) != 1:
            many = "no check cell" if name not in checked else "several check cells"
            raise CourseError(f'{path.name} has {many} for `{name}`; it should have one: check("{name}")')
    return written(notebook)


def synced_lesson(course: Course, unit: Unit) -> str:
    """The text of the lesson in its one form, with its outputs. Raises CourseError."""
    return written(tidy(read_notebook(course.lesson(unit)), outputs=True))


def read_notebook(path: Path) -> NotebookNode:
    """One of the course's own notebooks. Raises CourseError."""
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError as error:
        raise CourseError(f"{path.parent.name}/{path.name} is missing") from error
    except Exception as error:
        raise CourseError(f"{path.parent.name}/{path.name} is no notebook: {str(error)[:200]}") from error


def written(notebook: NotebookNode) -> str:
    """A notebook as text."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def release_files(course: Course, unit: Unit) -> dict[str, bytes]:
    """What a release carries beside the notebook, by path: the public checks, and what a learner may know.

    Raises CourseError where solutions, checks and exercises.toml disagree.
    """
    from proctor.checks import points_of

    graders = course.graders(unit)
    files = {f"checks/{path.name}": path.read_bytes() for path in sorted(graders.glob("test_*.py"))}
    files["checks/unit.json"] = write_release(course, unit, points_of(graders))
    return files


def check_points(course: Course, unit: Unit, notebook: NotebookNode) -> None:
    """Raise CourseError where the points of a check cell are not those of its checks."""
    from proctor.checks import points_of
    from proctor.notebook import exercise_of

    points = points_of(course.graders(unit))
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader", {})
        if about.get("grade") and not about.get("solution"):
            name = exercise_of(cell.source) or ""
            if float(about.get("points", -1)) != points.get(name):
                raise CourseError(
                    f"solutions/{unit.name}: the check cell of `{name or cell.source[:40]}` gives "
                    f"{about.get('points')} points, its checks come to {points.get(name, 0):g}; run `make sync`"
                )


def generated(course: Course) -> dict[Path, bytes]:
    """Every generated or tidied file of the course as its sources have it, by path. Raises CourseError."""
    from proctor.nbgrader.classroom import release_all

    files: dict[Path, bytes] = {}
    with tempfile.TemporaryDirectory(prefix="proctor-sync-") as folder:
        copy = Path(folder).resolve()
        for name in ("course.toml", "nbgrader_config.py"):
            shutil.copy(course.root / name, copy)
        for unit in course.units:
            solution = synced_solution(course, unit).encode()
            files[course.solution(unit)] = solution
            shutil.copytree(course.graders(unit), copy / "graders" / unit.name)
            target = copy / "solutions" / unit.name / course.solution(unit).name
            target.parent.mkdir(parents=True)
            target.write_bytes(solution)
            if course.lesson(unit).exists():
                files[course.lesson(unit)] = synced_lesson(course, unit).encode()
        release_all(copy, [unit.name for unit in course.units])
        for path in sorted((copy / "exercises").rglob("*")):
            if path.is_file():
                files[course.root / path.relative_to(copy)] = path.read_bytes()
    return files


def sync(course: Course, *, check: bool = False) -> list[Path]:
    """Write (or, with ``check``, only compare) all generated files; returns those that were not in step."""
    files = generated(course)
    room = course.root / "exercises"
    known = {path for path in room.rglob("*") if path.is_file() and not _ignored(path)}
    surplus = sorted(known - set(files))
    changed = [path for path, content in files.items() if not path.exists() or path.read_bytes() != content]
    if not check:
        for path in surplus:
            path.unlink()
        for path in changed:
            write(path, files[path])
    return [*surplus, *changed]


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_bytes(content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def kept_unless_done(folder: Path) -> Iterator[None]:
    """Put a folder back as it was where this block fails: nbgrader clears a release away before it makes a new one."""
    with tempfile.TemporaryDirectory(prefix="proctor-kept-") as aside:
        kept = Path(aside) / folder.name
        if folder.is_dir():
            shutil.copytree(folder, kept)
        try:
            yield
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            if kept.is_dir():
                shutil.copytree(kept, folder)
            raise


def _ignored(path: Path) -> bool:
    return any(part in ("__pycache__", ".ipynb_checkpoints") for part in path.parts)


def stub_of(cell: Any) -> str:
    """The line that stands where an answer goes."""
    name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
    return f'raise NotImplementedError("{name}")'
