"""Verdicts put where nbgrader looks for them: the gradebook, ``autograded/`` and ``feedback/``.

Saving a submission twice leaves what saving it once leaves. So a run that was killed at any moment is mended by the
next, which saves everything that is not there in the state it should be in.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType

import nbformat
from nbformat import NotebookNode
from nbgrader.converters import Autograde, GenerateFeedback
from nbgrader.preprocessors import AssignLatePenalties, CheckCellMetadata
from nbgrader.utils import compute_checksum, is_grade, is_solution, is_task, parse_utc
from traitlets.config import Config

from proctor.course import Course, CourseError, Unit
from proctor.grade import Graded, Material, released_notebook, submitted_cells
from proctor.nbgrader.classroom import classroom, inside
from proctor.nbgrader.feedback import Marks, page_of
from proctor.nbgrader.gradebook import Book, Entry
from proctor.nbgrader.placing import copy_plain, made_beside, permit, put, same
from proctor.nbgrader.steps import write_verdict
from proctor.notebook import NotebookError, exercise_of
from proctor.rebuild import rebuild
from proctor.results import Outcome, Verdict

_STEPS = (
    "exporter_class",
    "sanitize_preprocessors",
    "autograde_preprocessors",
    "pre_convert_hook",
    "post_convert_hook",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A submission as it was when it was read.

    ``content`` is that of its notebook (None: it cannot be read), ``timestamp`` that of its ``timestamp.txt``.
    """

    student: str
    folder: Path
    content: bytes | None
    timestamp: bytes | None = None


class Record:
    """Everything that nbgrader keeps of a unit's submissions. Use as a context manager. Raises CourseError."""

    def __init__(self, course: Course, unit: Unit, material: Material) -> None:
        self._unit, self._notebook = unit, unit.notebook
        self._release = released_notebook(material)
        api = classroom(course.root)
        _check_steps(api.config, unit)
        self._directory = api.coursedir
        with inside(course.root):
            autograde = Autograde(coursedir=api.coursedir, parent=api)
            self._permissions = int(str(autograde.permissions), 8)
            self._own_files = set(autograde.exclude_overwriting.get(unit.name, ()))
            feedback = GenerateFeedback(coursedir=api.coursedir, parent=api)
            self._page_permissions = int(str(feedback.permissions), 8)
            url, name = api.coursedir.db_url, api.coursedir.course_id
            self._book = Book(url, name, unit.name, unit.notebook, AssignLatePenalties(parent=autograde))
        try:
            self._check_release()
        except BaseException:
            self._book.close()
            raise

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._book.close()

    def excluded(self, student: str) -> bool:
        """Whether nbgrader is told to leave a student out."""
        return student in self._directory.student_id_exclude.split(",")

    def save(
        self, handed: Handed, graded: Graded, *, fresh: bool = False, feedback: bool = True
    ) -> list[str]:
        """Save a verdict and the notebook that it is about; sentences on what was left out of the folder.

        Raises CourseError, OSError.
        """
        remarks: list[str] = []
        notebook = self._rebuilt(handed)
        write_verdict(notebook, graded)
        when = _when(handed.timestamp, remarks)
        place = self._place(self._directory.autograded_directory, handed.student)
        with made_beside(place) as new:
            copy_plain(handed.folder, new, self._directory.ignore, remarks)
            self._add_own(new)
            if handed.timestamp is not None:
                (new / "timestamp.txt").write_bytes(
                    handed.timestamp
                )  # that of these bytes, not of newer ones
            text = nbformat.v4.writes(notebook) + "\n"
            (new / f"{self._notebook}.ipynb").write_text(text, encoding="utf-8")
            permit(new, self._permissions, shared=self._directory.groupshared)
            again = fresh or not same(new, place)
            entry = self._entry(handed.student, when, notebook, graded.verdict)
            # The gradebook first: a run that is killed between the two is found out by the folder that is not there.
            marks = self._book.save(
                entry, lambda name: not (handed.folder / f"{name}.ipynb").exists(), again=again
            )
            if again:
                put(new, place)
        if feedback:
            self._save_page(handed.student, notebook, graded.verdict, marks, place)
        return remarks

    def _save_page(
        self, student: str, notebook: NotebookNode, verdict: Verdict, marks: Marks, graded: Path
    ) -> None:
        place = self._place(self._directory.feedback_directory, student)
        page = page_of(notebook, verdict, marks, student, self._unit.title)
        with made_beside(place) as new:
            copy_plain(graded, new, self._directory.ignore, [])
            (new / f"{self._notebook}.html").write_text(page, encoding="utf-8")
            permit(new, self._page_permissions, shared=self._directory.groupshared)
            if not same(new, place):
                put(new, place)

    def _place(self, step: str, student: str) -> Path:
        return Path(self._directory.format_path(step, student, self._unit.name))

    def _rebuilt(self, handed: Handed) -> NotebookNode:
        """The notebook of a submission, from the bytes that were graded; the release where these hold none."""
        try:
            if handed.content is not None:
                path = handed.folder / f"{self._notebook}.ipynb"
                cells = submitted_cells(path, handed.content)
                return rebuild(self._release, cells, unit=self._unit.name).notebook
        except NotebookError:
            pass
        return copy.deepcopy(self._release)

    def _add_own(self, new: Path) -> None:
        """Copy the files of the unit's source folder, as nbgrader does: they replace what a learner has changed."""
        source = Path(self._directory.format_path(self._directory.source_directory, ".", self._unit.name))
        kept = {name: (new / name).read_bytes() for name in self._own_files if (new / name).is_file()}
        copy_plain(source, new, self._directory.ignore, [])
        for name in self._own_files:
            if name in kept:
                (new / name).write_bytes(kept[name])
            elif (source / name).is_file():
                (new / name).unlink(missing_ok=True)

    def _entry(self, student: str, when: datetime | None, notebook: NotebookNode, verdict: Verdict) -> Entry:
        scores: dict[str, float | None] = {}
        comments: dict[str, str | None] = {}
        for cell in notebook.cells:
            about: Mapping[str, str] = cell.metadata.get("nbgrader", {})
            if is_grade(cell):
                result = verdict.exercise(exercise_of(cell.source) or "")
                broken = result.outcome is Outcome.GRADER_ERROR
                scores[about["grade_id"]] = None if broken else result.score
                if not broken and result.max_score != self._book.own.points[about["grade_id"]]:
                    raise CourseError(
                        f"`{result.name}`: the checks give other points than the release; run "
                        f"`proctor release {self._unit.name}`"
                    )
            if is_solution(cell) or is_task(cell):
                untouched = about.get("checksum") == compute_checksum(cell) and not is_task(cell)
                comments[about["grade_id"]] = "No response." if untouched else None
        return Entry(student=student, timestamp=when, scores=scores, comments=comments)

    def _check_release(self) -> None:
        """That the gradebook and the released notebook speak of the same cells and points. Raises CourseError."""
        again = f"run `proctor release {self._unit.name}`"
        try:
            CheckCellMetadata().preprocess(self._release, {})
        except Exception as error:  # of several kinds, one for each way to be wrong
            raise CourseError(f"the released notebook has lost what nbgrader knows it by; {again}") from error
        for cell in self._release.cells:
            about = cell.metadata.get("nbgrader", {})
            name, book = about.get("grade_id", ""), self._book.own
            if is_grade(cell) and book.points.get(name) != float(about["points"]):
                raise CourseError(
                    f"the gradebook and the release do not agree about the cell `{name}`; {again}"
                )
            if (is_solution(cell) or is_task(cell)) and name not in book.comments:
                raise CourseError(f"the gradebook does not know the cell `{name}` of the release; {again}")


def _check_steps(config: Config, unit: Unit) -> None:
    """Refuse a configuration in which nbgrader's autograding does more than is done here. Raises CourseError."""
    from proctor import nbgrader

    nbgrader.configure(plain := Config())
    for name in _STEPS:
        if str(config.Autograde.get(name)) != str(plain.Autograde.get(name)):
            raise CourseError(
                f"nbgrader_config.py changes Autograde.{name}, which `proctor grade` does not follow; "
                f"run `nbgrader autograde {unit.name}`"
            )


def _when(timestamp: bytes | None, remarks: list[str]) -> datetime | None:
    """When a submission was handed in. A learner may have written anything there."""
    if timestamp is None or not timestamp.strip():
        return None
    try:
        return parse_utc(timestamp.decode().strip())
    except Exception:  # dateutil raises many kinds, and a few by mistake
        remarks.append("its timestamp.txt does not hold a time, so nobody can say whether it is late")
        return None
