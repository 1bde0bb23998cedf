"""The gradebook read in a few queries: a unit's marks, and nbgrader's own export.

``CsvExport`` writes what nbgrader's exporter writes, in the same columns and order. It differs where somebody's id or
name would break a table or become a formula, and in that a class of a thousand takes it a second.
"""

from __future__ import annotations

import csv
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbgrader.api import (
    Assignment,
    BaseCell,
    Grade,
    Gradebook,
    Notebook,
    Student,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.apps.exportapp import ExportApp
from nbgrader.plugins import ExportPlugin
from sqlalchemy import create_engine, func, select
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.orm import Session

from proctor.course import CourseError
from proctor.gathered import Mark
from proctor.nbgrader.classroom import classroom, inside
from proctor.sheets import harmless

COLUMNS = (
    "assignment duedate timestamp student_id last_name first_name email "
    "raw_score late_submission_penalty score max_score"
).split()


class CsvExport(ExportPlugin):
    """nbgrader's CSV of all grades, for a spreadsheet or a learning platform."""

    def export(self, gradebook: Gradebook) -> None:
        """Write the file."""
        wanted = {str(name) for name in self.assignment}, {str(name) for name in self.student}
        session = gradebook.db
        with open(self.to or "grades.csv", "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - as nbgrader's
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            for assignment in gradebook.assignments:
                if wanted[0] and assignment.name not in wanted[0]:
                    continue
                handed_in = _totals(session, assignment.id)
                for student in gradebook.students:
                    if wanted[1] and student.id not in wanted[1]:
                        continue
                    when, score, penalty = handed_in.get(student.id, ("", 0.0, 0.0))
                    about = (student.id, student.last_name, student.first_name, student.email)
                    marks = (score, penalty, max(0.0, score - penalty), assignment.max_score)
                    row = (assignment.name, assignment.duedate, when, *about, *marks)
                    table.writerow(["" if cell is None else harmless(str(cell)) for cell in row])


def _totals(session: Session, assignment: str) -> dict[str, tuple[Any, float, float]]:
    """By student, when they handed in, the score, and what is taken off."""
    scores = dict(
        session.execute(
            select(SubmittedNotebook.assignment_id, func.sum(Grade.score))
            .join(Grade, Grade.notebook_id == SubmittedNotebook.id)
            .group_by(SubmittedNotebook.assignment_id)
        ).all()
    )
    penalty = func.coalesce(func.sum(SubmittedNotebook.late_submission_penalty), 0.0)
    rows = session.execute(
        select(SubmittedAssignment.id, SubmittedAssignment.student_id, SubmittedAssignment.timestamp, penalty)
        .join(SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id, isouter=True)
        .where(SubmittedAssignment.assignment_id == assignment)
        .group_by(SubmittedAssignment.id)
    )
    return {student: (when, scores.get(row) or 0.0, off) for row, student, when, off in rows}


def unit_marks(root: Path, unit: str) -> dict[str, Mark]:
    """What the gradebook says of everybody it knows, by student. Raises CourseError."""
    with _gradebook(classroom(root).coursedir.db_url) as session:
        assignment = session.scalar(select(Assignment.id).where(Assignment.name == unit))
        cells = session.execute(
            select(
                SubmittedAssignment.student_id,
                BaseCell.name,
                Grade.score,
                Grade.manual_score,
                Grade.extra_credit,
            )
            .add_columns(Grade.needs_manual_grade)
            .select_from(Grade)
            .join(BaseCell, BaseCell.id == Grade.cell_id)
            .join(SubmittedNotebook, SubmittedNotebook.id == Grade.notebook_id)
            .join(SubmittedAssignment, SubmittedAssignment.id == SubmittedNotebook.assignment_id)
            .where(SubmittedAssignment.assignment_id == assignment)
        )
        points, by_hand, waiting = defaultdict(dict), defaultdict(set), defaultdict(set)
        for student, cell, score, manual, extra, needs in cells:
            points[student][cell] = score
            if manual is not None or extra is not None:
                by_hand[student].add(cell)
            if needs:
                waiting[student].add(cell)
        most = 0.0
        if assignment is not None:
            notebooks = session.scalars(select(Notebook).where(Notebook.assignment_id == assignment))
            most = sum((notebook.max_score for notebook in notebooks), 0.0)
        totals = _totals(session, assignment)
        marks = {}
        for name, last, first in session.execute(select(Student.id, Student.last_name, Student.first_name)):
            when, score, penalty = totals.get(name, (None, 0.0, 0.0))
            marks[name] = Mark(
                student=name,
                last_name=last or "",
                first_name=first or "",
                handed_in=when,
                points=points[name],
                score=score,
                max_score=most,
                penalty=penalty,
                by_hand=frozenset(by_hand[name]),
                open=frozenset(waiting[name]),
            )
        return marks


@contextmanager
def _gradebook(url: str) -> Iterator[Session]:
    """The database, to be read only: nbgrader's own gradebook makes one where there is none. Raises CourseError."""
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not path.is_file():
        raise CourseError(f"{path.name} is missing: nothing is known of the class; `proctor grade` fills it")
    engine = create_engine(url)
    try:
        with Session(engine) as session:
            yield session
    except (DBAPIError, StatementError) as error:
        cause = str(getattr(error, "orig", error)).splitlines()[0][:200]
        raise CourseError(f"{path.name} cannot be read: {cause}") from error
    finally:
        engine.dispose()


def export(root: Path, unit: str, to: Path, place: Callable[[Path, Path], None]) -> str:
    """Write a unit's grades with the exporter that ``nbgrader_config.py`` names; the exporter's name.

    It writes beside the file, and ``place`` puts what it has written there whole. Raises CourseError.
    """
    api = classroom(root)
    with inside(root), tempfile.TemporaryDirectory(dir=to.parent, prefix=".new-") as folder:
        try:
            app = ExportApp(config=api.config, log=api.log)
            app.init_plugin()
            plugin, new = app.plugin_inst, Path(folder) / to.name
            plugin.to, plugin.assignment = str(new), [unit]
            with Gradebook(api.coursedir.db_url, api.coursedir.course_id) as gradebook:
                plugin.export(gradebook)
        except OSError:
            raise
        except Exception as error:  # an exporter of the teacher's may raise anything
            told = str(error).splitlines()[:1]
            raise CourseError(f"the export failed: {type(error).__name__}: {' '.join(told)[:300]}") from error
        if new.is_file():
            new.chmod(0o600)  # for this account's eyes only, as everything of a class
            place(new, to)
        return type(plugin).__name__
