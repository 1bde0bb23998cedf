"""The feedback page of one submission, from its graded notebook and from what the gradebook says now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nbformat
from nbconvert.exporters import Exporter
from nbformat import NotebookNode
from nbgrader.api import BaseCell, Comment, Grade, Gradebook
from nbgrader.utils import is_grade, is_solution
from sqlalchemy import select

from proctor import report
from proctor.course import CourseError, find_course
from proctor.notebook import exercise_of
from proctor.results import Verdict, from_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What the gradebook says about one submitted notebook: by cell, the score and whether a person gave it."""

    scores: Mapping[str, tuple[float, bool]]
    comments: Mapping[str, str]
    max_score: float
    penalty: float

    @property
    def score(self) -> float:
        """The sum of the scores, before anything is taken off."""
        return sum((score for score, _ in self.scores.values()), 0.0)


def marks_of(session: Any, notebook_id: str, penalty: float | None) -> Marks:
    """Read what the gradebook says about a submitted notebook, by the notebook's row."""
    grades = session.execute(
        select(BaseCell.name, Grade.score, Grade.manual_score, Grade.max_score)
        .join(BaseCell, BaseCell.id == Grade.cell_id)
        .where(Grade.notebook_id == notebook_id)
        .order_by(BaseCell.name)
    ).all()
    comments = session.execute(
        select(BaseCell.name, Comment.comment)
        .join(BaseCell, BaseCell.id == Comment.cell_id)
        .where(Comment.notebook_id == notebook_id)
    )
    return Marks(
        scores={name: (score, manual is not None) for name, score, manual, _ in grades},
        comments={name: comment or "" for name, comment in comments},
        max_score=sum((most for *_, most in grades), 0.0),
        penalty=penalty or 0.0,
    )


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
        course = find_course()
        unit = course.unit(about["assignment"])
        with Gradebook(about["db_url"]) as gradebook:
            row = gradebook.find_submission_notebook(about["notebook"], about["assignment"], about["student"])
            marks = marks_of(gradebook.db, row.id, row.late_submission_penalty)
        return page_of(notebook, from_json(stored), marks, about["student"], unit.title), resources


def page_of(notebook: NotebookNode, verdict: Verdict, marks: Marks, student: str, title: str) -> str:
    """The page as HTML."""
    exercises, cells, current = [], [], ""
    for cell in notebook.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        if is_solution(cell):
            current = grade_id
        if is_grade(cell):
            result = verdict.exercise(exercise_of(cell.source) or "")
            score, manual = marks.scores[grade_id]
            comment = marks.comments.get(result.name, "")
            exercises.append(
                report.FeedbackExercise(result=result, score=score, comment=comment, manual=manual)
            )
        elif cell.cell_type in ("code", "markdown"):
            shown = tuple(_output(output) for output in cell.get("outputs", []))
            exercise = current if is_solution(cell) else ""
            cells.append(
                report.FeedbackCell(kind=cell.cell_type, source=cell.source, outputs=shown, exercise=exercise)
            )
    return report.feedback_html(
        report.FeedbackPage(
            student=student,
            unit_title=title,
            unit=verdict.unit,
            verdict=verdict,
            score=marks.score - marks.penalty,
            max_score=marks.max_score,
            late_penalty=marks.penalty,
            exercises=tuple(exercises),
            cells=tuple(cells),
        )
    )


def _output(output: NotebookNode) -> report.FeedbackOutput:
    if output.output_type == "error":
        return report.FeedbackOutput(text="\n".join(output.traceback), error=True)
    if output.output_type == "stream":
        return report.FeedbackOutput(text=output.text)
    return report.FeedbackOutput(
        text=output.data.get("text/plain", ""), png_base64=output.data.get("image/png", "")
    )
