"""The steps that nbgrader takes for this course in place of its own: on release, on autograding, for feedback."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader import preprocessors as stock
from nbgrader.utils import is_grade, is_solution
from traitlets import Bool

from proctor import author, grade, pool, report
from proctor.course import CourseError, find_course
from proctor.nbgrader.feedback import FeedbackExporter
from proctor.notebook import Limits, NotebookError, exercise_of, read_bytes
from proctor.rebuild import rebuild
from proctor.results import ExerciseResult, Outcome, Verdict, to_json
from proctor.walls import required

__all__ = [
    "AddChecks",
    "ClearSolutions",
    "FeedbackExporter",
    "Grade",
    "SaveVerdict",
    "SubmissionExporter",
    "write_verdict",
]

_read: dict[tuple[str, str], bytes] = {}  # what a notebook was rebuilt from, until it is graded
graders = pool.Pool()  # of a page that is clicked: warm from the first click on
atexit.register(graders.close)


class ClearSolutions(stock.ClearSolutions):
    """Puts a stub in the place of each answer that names its exercise."""

    def preprocess_cell(self, cell: NotebookNode, resources: Any, index: int) -> tuple[NotebookNode, Any]:
        """Clear one cell."""
        if is_solution(cell) and cell.cell_type == "code":
            self.code_stub = {**self.code_stub, "python": author.stub_of(cell)}
        cell.metadata.pop("proctor", None)
        return super().preprocess_cell(cell, resources, index)


class AddChecks(stock.NbGraderPreprocessor):
    """Puts the checks and the hints beside the released notebook, once they agree with it."""

    def preprocess(self, notebook: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Add the files to what nbconvert writes. Raises CourseError, which ends the release."""
        course = find_course()
        unit = course.unit(resources["nbgrader"]["assignment"])
        author.check_points(course, unit, notebook)
        resources.setdefault("outputs", {}).update(author.release_files(course, unit))
        return notebook, resources


class SubmissionExporter(NotebookExporter):
    """Reads a submission as untrusted: nbformat sees what has been rebuilt, never what was sent."""

    def from_filename(self, filename: str, resources: Any = None, **kw: Any) -> tuple[str, Any]:
        """Rebuild (or, where that is done, read) one notebook and send it through the preprocessors."""
        resources = resources or {}
        course = find_course()
        about = resources["nbgrader"]
        unit = course.unit(about["assignment"])
        path = Path(filename)
        # The notebook itself may be a link, and leads nowhere that is trusted.
        sent = (path.parent.resolve() / path.name).is_relative_to(self._submitted(about))
        if not sent:
            return self.from_notebook_node(nbformat.read(path, as_version=4), resources, **kw)
        release = nbformat.read(course.release(unit), as_version=4)
        _read.clear()
        try:
            content = _read[about["student"], unit.name] = read_bytes(path, Limits())
            cells = grade.submitted_cells(path, content)
            notebook = rebuild(release, cells, unit=unit.name).notebook
        except NotebookError as error:
            notebook = release
            self.log.error("%s of %s: %s", about["assignment"], about["student"], error)
        return self.from_notebook_node(notebook, resources, **kw)

    def _submitted(self, about: Mapping[str, str]) -> Path:
        directory = self.parent.coursedir
        folder = directory.format_path(directory.submitted_directory, about["student"], about["assignment"])
        return Path(folder).resolve()


class Always(stock.NbGraderPreprocessor):
    """A step that no flag switches off: ``--no-execute`` must not mean full marks."""

    def __call__(self, notebook: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Run the step."""
        return self.preprocess(notebook, resources)


class Grade(Always):
    """Fetches the verdict on a submission and writes it, with the learner's own outputs, into the notebook."""

    trust_submissions = Bool(
        False, help="Grade also on a machine that cannot keep submissions away from your files."
    ).tag(config=True)

    def preprocess(self, notebook: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Grade one notebook."""
        about = resources["nbgrader"]
        course = find_course()
        unit = course.unit(about["assignment"])
        directory = self.parent.parent.coursedir
        folder = Path(directory.format_path(directory.submitted_directory, about["student"], unit.name))
        job = pool.Job(
            root=course.root,
            unit=unit.name,
            student=about["student"],
            path=folder / f"{about['notebook']}.ipynb",
            content=_read.pop((about["student"], unit.name), None),
            level=required(self.trust_submissions),
        )
        graded = graders.grade(job)
        write_verdict(notebook, graded)
        resources["proctor"] = graded.verdict
        return notebook, resources


def write_verdict(notebook: NotebookNode, graded: grade.Graded) -> None:
    """Put the outputs of the learner's cells and the rubrics of the check cells into a rebuilt notebook."""
    verdict = graded.verdict
    notebook.metadata["proctor"] = {"verdict": to_json(verdict)}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs = [nbformat.from_dict(output) for output in graded.outputs.get(cell.id, [])]
        if is_grade(cell):
            result = verdict.exercise(exercise_of(cell.source) or "")
            data = {
                "text/plain": repr(float(result.score)),
                "text/html": report.rubric_html(result, graded=True),
            }
            # A node like any other, without the schema's check of each: it is checked as a whole when it is written.
            shown = {"data": data, "execution_count": cell.execution_count, "metadata": {}}
            cell.outputs = [nbformat.from_dict({"output_type": "execute_result", **shown})]


class SaveVerdict(Always, stock.SaveAutoGrades):
    """Saves what ``Grade`` has found. A grader error has no automatic score: it waits for a person."""

    def preprocess(self, notebook: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Save one notebook's scores. Raises CourseError where there is no verdict: no score then."""
        if not isinstance(resources.get("proctor"), Verdict):
            raise CourseError(
                "there is no verdict on this submission; the step `Grade` must come before this one"
            )
        return super().preprocess(notebook, resources)

    def _add_score(self, cell: NotebookNode, resources: Any) -> None:
        super()._add_score(cell, resources)
        result: ExerciseResult = resources["proctor"].exercise(exercise_of(cell.source) or "")
        row = self.gradebook.find_grade(
            cell.metadata.nbgrader["grade_id"], self.notebook_id, self.assignment_id, self.student_id
        )
        if result.outcome is Outcome.GRADER_ERROR:
            row.auto_score, row.needs_manual_grade = None, True
        elif row.auto_score != result.score or row.max_score != result.max_score:
            raise CourseError(
                f"`{result.name}`: the verdict says {result.score:g} of {result.max_score:g}, the gradebook "
                f"{row.auto_score} of {row.max_score}; release the unit again"
            )
        self.gradebook.db.commit()
