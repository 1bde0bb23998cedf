"""The steps that nbgrader takes for this course in place of its own: on release, on autograding, for feedback."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import Exporter, NotebookExporter
from nbformat import NotebookNode
from nbgrader import preprocessors as stock
from nbgrader.api import Gradebook
from nbgrader.utils import is_grade, is_solution

from proctor import author, grade, pool, report
from proctor.course import CourseError, find_course
from proctor.notebook import NotebookError, exercise_of, read_untrusted
from proctor.rebuild import rebuild
from proctor.results import ExerciseResult, Outcome, Verdict, from_json, to_json

known: dict[tuple[str, str], grade.Graded] = {}  # verdicts that `proctor grade` has at hand already
_pool = pool.Pool()
atexit.register(_pool.close)


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
        sent = path.resolve().is_relative_to(self._submitted(about))
        if not sent:
            return self.from_notebook_node(nbformat.read(path, as_version=4), resources, **kw)
        release = nbformat.read(course.release(unit), as_version=4)
        try:
            notebook = rebuild(release, read_untrusted(path), unit=unit.name).notebook
        except NotebookError as error:
            notebook = release
            self.log.error("%s of %s: %s", about["assignment"], about["student"], error)
        resources["proctor_submitted"] = str(path)
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
        )
        graded = known.get((job.student, job.unit)) or _pool.grade(job)
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
            cell.outputs = [
                nbformat.v4.new_output("execute_result", data=data, execution_count=cell.execution_count)
            ]


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


class FeedbackExporter(Exporter):
    """Our own feedback page: the rubric first, everything of the learner's escaped, no script, no path."""

    file_extension = ".html"

    def from_filename(self, filename: str, resources: Any = None, **_: Any) -> tuple[str, Any]:
        """The page for one autograded notebook."""
        resources = {**(resources or {}), "output_extension": ".html"}
        about = resources["nbgrader"]
        notebook = nbformat.read(filename, as_version=4)
        stored = notebook.metadata.get("proctor", {}).get("verdict", "")
        if not stored:
            raise CourseError(
                f"{about['student']} has no verdict on {about['assignment']} yet; autograde it first"
            )
        verdict = from_json(stored)
        course = find_course()
        unit = course.unit(about["assignment"])
        with Gradebook(about["db_url"]) as gradebook:
            page = _page(notebook, verdict, gradebook, about, unit.title)
        return report.feedback_html(page), resources


def _page(
    notebook: NotebookNode, verdict: Verdict, gradebook: Gradebook, about: Mapping[str, str], title: str
) -> report.FeedbackPage:
    names = (about["notebook"], about["assignment"], about["student"])
    submission = gradebook.find_submission_notebook(*names)
    comments: dict[str, str] = {}
    exercises, cells, current = [], [], ""
    for cell in notebook.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        if is_solution(cell):
            current = grade_id
            comments[grade_id] = gradebook.find_comment(grade_id, *names).comment or ""
        if is_grade(cell):
            result = verdict.exercise(exercise_of(cell.source) or "")
            row = gradebook.find_grade(grade_id, *names)
            exercises.append(
                report.FeedbackExercise(
                    result=result,
                    score=row.score,
                    comment=comments.get(result.name, ""),
                    manual=row.manual_score is not None,
                )
            )
        elif cell.cell_type in ("code", "markdown"):
            shown = tuple(_output(output) for output in cell.get("outputs", []))
            exercise = current if is_solution(cell) else ""
            cells.append(
                report.FeedbackCell(kind=cell.cell_type, source=cell.source, outputs=shown, exercise=exercise)
            )
    penalty = submission.late_submission_penalty or 0.0
    return report.FeedbackPage(
        student=about["student"],
        unit_title=title,
        unit=verdict.unit,
        verdict=verdict,
        score=submission.score - penalty,
        max_score=submission.max_score,
        late_penalty=penalty,
        exercises=tuple(exercises),
        cells=tuple(cells),
    )


def _output(output: NotebookNode) -> report.FeedbackOutput:
    if output.output_type == "error":
        return report.FeedbackOutput(text="\n".join(output.traceback), error=True)
    if output.output_type == "stream":
        return report.FeedbackOutput(text=output.text)
    return report.FeedbackOutput(
        text=output.data.get("text/plain", ""), png_base64=output.data.get("image/png", "")
    )
