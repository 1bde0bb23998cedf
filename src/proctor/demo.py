"""A class in miniature: ``proctor demo``.

Six learners hand in unit 08 through nbgrader's own exchange: one has everything right, one is half done, one made the
classic mistake, one writes in another style, one's code crashes, and one tries to forge a score. They are collected,
graded and given feedback, all in a temporary folder.
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import nbformat
from rich.console import Console

from proctor.author import BEGIN, END
from proctor.course import Course, CourseError, Unit
from proctor.report import points
from proctor.results import Verdict
from proctor.roster import verdict_table

UNIT = "08_attention"
CLASSIC = ("attention_weights", "softmax over the queries")
FORGERY = """\
# A score is whatever the grader reads, so let it read this.
import torch

class Perfect(torch.Tensor):
    def __eq__(self, other): return True
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None): return True

def check(*names): return 1000.0
torch.allclose = torch.equal = lambda *tensors, **options: True
attention_scores = attention_weights = scaled_dot_product_attention = lambda *inputs, **options: Perfect()
padding_mask = causal_mask = lambda *inputs: Perfect()
SelfAttention = lambda *sizes: (lambda x, mask=None: Perfect())
get_ipython().input_transformers_post.append(lambda lines: ["1000.0\\n"])
"""
CRASH = "import ctypes\nctypes.string_at(0)  # a null pointer: the process dies"


class Learner:
    """One of the class: a name, and what they do to the released notebook."""

    def __init__(self, name: str, story: str, work: Callable[[Class, nbformat.NotebookNode], None]) -> None:
        self.name, self.story, self.work = name, story, work


class Class:
    """The course, copied into a folder of its own, and the answers that its learners draw on."""

    def __init__(self, course: Course, unit: Unit, folder: Path) -> None:
        self.unit, self.folder, self.graders = unit, folder, course.graders(unit)
        self.exercises = course.exercises(unit)
        self.root = folder / "course"
        self.root.mkdir(parents=True, exist_ok=True)
        shutil.copy(course.root / "nbgrader_config.py", self.root)
        (self.root / "course.toml").write_text(_manifest_of(course, unit), encoding="utf-8")
        shutil.copytree(course.solution(unit).parent, self.root / "solutions" / unit.name)
        shutil.copytree(self.graders, self.root / "graders" / unit.name)
        solution = nbformat.read(course.solution(unit), as_version=4)
        self.answers = {
            cell.metadata.nbgrader.grade_id: without_marks(cell.source)
            for cell in solution.cells
            if cell.metadata.get("nbgrader", {}).get("solution")
        }

    def fill_in(self, notebook: nbformat.NotebookNode, answers: dict[str, str]) -> None:
        """Write answers into the stubs of a notebook."""
        for cell in notebook.cells:
            name = cell.metadata.get("nbgrader", {}).get("grade_id")
            if name in answers and cell.metadata.nbgrader.solution:
                cell.source = answers[name]


def _manifest_of(course: Course, unit: Unit) -> str:
    """The course's manifest with this one unit, whose files are all that is copied."""
    text = (course.root / "course.toml").read_text(encoding="utf-8")
    head, *units = re.split(r"^(?=\[\[units\]\])", text, flags=re.MULTILINE)
    return head + next(table for table in units if tomllib.loads(table)["units"][0]["name"] == unit.name)


def without_marks(source: str) -> str:
    """An answer as a learner writes it."""
    return "\n".join(line for line in source.splitlines() if line.strip() not in (BEGIN, END))


def _right(room: Class, notebook: nbformat.NotebookNode) -> None:
    room.fill_in(notebook, room.answers)


def _half(room: Class, notebook: nbformat.NotebookNode) -> None:
    names = list(room.answers)
    room.fill_in(notebook, {name: room.answers[name] for name in names[: len(names) // 2]})


def _classic(room: Class, notebook: nbformat.NotebookNode) -> None:
    exercise, name = CLASSIC
    mistake = next(m for m in room.exercises[exercise].mistakes if m.name == name)
    room.fill_in(notebook, {**room.answers, exercise: mistake.applied_to(room.answers[exercise])})


def _other_style(room: Class, notebook: nbformat.NotebookNode) -> None:
    style = (room.graders / "accepted" / "einsum.py").read_text()
    tree = ast.parse(style)
    lines = style.splitlines()
    own = {
        node.name: "\n".join(lines[node.lineno - 1 : node.end_lineno])
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in room.answers
    }
    first = min(node.lineno for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)))
    extra = nbformat.v4.new_code_cell("\n".join(lines[: first - 1]).strip())
    notebook.cells.insert(2, extra)
    room.fill_in(notebook, {**room.answers, **own})


def _crash(room: Class, notebook: nbformat.NotebookNode) -> None:
    lines = room.answers["padding_mask"].splitlines()
    crash = "\n".join("    " + line for line in CRASH.splitlines())
    header = next(
        i for i, line in enumerate(lines) if line.rstrip().endswith(":") and line.startswith(("def", ")"))
    )
    room.fill_in(notebook, {**room.answers, "padding_mask": "\n".join([*lines[: header + 1], crash])})


def _forge(room: Class, notebook: nbformat.NotebookNode) -> None:
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FORGERY))
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader", {})
        if about.get("solution"):
            cell.source = "pass"
        if about.get("grade"):
            cell.source, about["points"] = "1000.0", 1000


LEARNERS = (
    Learner("ada", "all right", _right),
    Learner("bela", "half done", _half),
    Learner("chen", "the classic mistake", _classic),
    Learner("dara", "right, in another style", _other_style),
    Learner("emil", "crashes", _crash),
    Learner("fay", "tries to forge a score", _forge),
)


def run_demo(course: Course, console: Console, keep: Path | None = None) -> int:
    """Run the class and print its gradebook; 0 where the gradebook agrees with every verdict."""
    start = time.monotonic()
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise CourseError(f"{keep} is not empty; name a folder that is new")
    folder = (keep or Path(tempfile.mkdtemp(prefix="class-in-miniature-"))).resolve()
    with console.status("opening the classroom"):
        verdicts = hold_class(course, folder, lambda text: console.print(text, markup=False))
    verdict_table(verdicts, console)
    console.print()
    pages = folder / "course" / "feedback"
    console.print(f"Feedback pages: {pages}", markup=False, soft_wrap=True)
    for learner in LEARNERS:
        console.print(
            f"  {learner.name}/{UNIT}/attention.html  {learner.story}", markup=False, soft_wrap=True
        )
    console.print(
        f"{time.monotonic() - start:.0f} seconds; everything lies in {folder}", markup=False, soft_wrap=True
    )
    return 0


def hold_class(course: Course, folder: Path, say: Callable[[str], None]) -> dict[str, Verdict]:
    """Release, fetch, work, submit, collect, grade, give feedback; the verdicts by learner.

    Raises CourseError where a step fails, or where the gradebook says anything but the verdicts.
    """
    from proctor import classwork
    from proctor.nbgrader import classroom as nbgrader

    unit = course.unit(UNIT)
    room = Class(course, unit, folder)
    exchange = {
        "Exchange": {"root": str(folder / "exchange"), "cache": str(folder / "cache")},
        "ExchangeCollect": {"check_owner": False},  # all six share one account here
    }
    (folder / "exchange").mkdir(mode=0o777)
    (folder / "exchange").chmod(0o777)
    teacher = nbgrader.classroom(room.root, **exchange)
    nbgrader.release(teacher, room.root, unit.name)
    say(f"released   {unit.name}: {len(room.exercises)} exercises, with nbgrader")
    for learner in LEARNERS:
        home = folder / "learners" / learner.name
        home.mkdir(parents=True)
        student = nbgrader.classroom(room.root, **exchange, CourseDirectory={"student_id": learner.name})
        nbgrader.fetch(student, home, unit.name)
        path = home / unit.name / f"{unit.notebook}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        learner.work(room, notebook)
        nbformat.write(notebook, path)
        nbgrader.submit(student, home, unit.name)
        say(f"submitted  {learner.name}: {learner.story}")
    nbgrader.collect(teacher, room.root, unit.name)
    say(f"collected  {len(LEARNERS)} submissions")
    copied = Course(root=room.root, title=course.title, parts=course.parts, units=course.units)
    quiet = Console(quiet=True)
    verdicts = classwork.grade_class(copied, unit, 2, quiet, trusted=True)  # all six are ours
    nbgrader.release_feedback(teacher, room.root, unit.name)
    say("graded, with feedback released to the learners")
    scores = nbgrader.scores(room.root, unit.name)
    for name, verdict in verdicts.items():
        if scores.get(name) != verdict.score:
            raise CourseError(
                f"the gradebook says {scores.get(name)} of {name}, the verdict {points(verdict.score)}; do not trust it"
            )
    return verdicts
