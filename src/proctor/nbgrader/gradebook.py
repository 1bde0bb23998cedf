"""nbgrader's gradebook, open for one unit: each verdict is saved in a transaction of its own.

What ``nbgrader autograde`` leaves in the database with our steps is what is left here, row by row, without a new
connection for every step and a search through six tables for every cell. A test compares the two.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from nbgrader.api import (
    Comment,
    Grade,
    Gradebook,
    InvalidEntry,
    MissingEntry,
    Student,
    SubmittedAssignment,
    SubmittedNotebook,
    new_uuid,
)
from nbgrader.preprocessors import AssignLatePenalties
from sqlalchemy import event, insert, select, update
from sqlalchemy.exc import DBAPIError, StatementError

from proctor.course import CourseError
from proctor.files import disk_full
from proctor.nbgrader.feedback import Marks, marks_of

PATIENCE = 30.0  # seconds that another process may keep the gradebook to itself
SLICE = 500  # milliseconds of it that SQLite waits by itself, deaf to Ctrl-C
T = TypeVar("T")
_S, _N = SubmittedAssignment.__table__, SubmittedNotebook.__table__
_G, _C = Grade.__table__, Comment.__table__


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is to be saved of one submission: by cell, the score (None: a person must give it) and the comment."""

    student: str
    timestamp: datetime | None
    scores: Mapping[str, float | None]
    comments: Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Notebook:
    """A notebook of the assignment, with the ids of its cells by name."""

    id: str
    grades: dict[str, str]
    comments: dict[str, str]
    points: dict[str, float]


class Book:
    """The gradebook, with what it knows of a unit read once. Raises CourseError."""

    def __init__(self, url: str, course_id: str, unit: str, notebook: str, late: AssignLatePenalties) -> None:
        self._where = Path(url.removeprefix("sqlite:///")).name
        self._late = late
        late.init_plugin()
        self.gradebook: Gradebook = self._patiently(lambda: Gradebook(url, course_id))
        engine = self.gradebook.engine
        engine.dispose()  # the connection of the run is made anew, as it is to be
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _at_connect)
            event.listen(engine, "begin", _at_begin)
        try:
            self._read(unit, notebook)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self.gradebook.close()

    def _read(self, unit: str, notebook: str) -> None:
        def read() -> None:
            try:
                assignment = self.gradebook.find_assignment(unit)
                own = self.gradebook.find_notebook(notebook, unit).id
            except MissingEntry as error:
                raise CourseError(
                    f"the gradebook does not know {unit} yet; run `proctor release {unit}`"
                ) from error
            self._assignment, self._duedate = assignment.id, assignment.duedate
            self._notebooks = {each.name: _cells(each) for each in assignment.notebooks}
            self.own = next(each for each in self._notebooks.values() if each.id == own)

        try:
            self._patiently(read)
        finally:
            self.gradebook.db.remove()

    def save(self, entry: Entry, missing: Callable[[str], bool], *, again: bool) -> Marks:
        """Save a verdict and return what the gradebook then says. Raises CourseError.

        ``again`` says that the submission, or its grading, is not the one that is there: then what a person has
        graded by hand asks for a second look, as after nbgrader's autograding. ``missing`` tells of a further
        notebook of the assignment whether it has not been handed in.
        """
        return self._patiently(lambda: self._transaction(entry, missing, again))

    def _transaction(self, entry: Entry, missing: Callable[[str], bool], again: bool) -> Marks:
        session = self.gradebook.db
        try:
            submission, late_seconds, moved = self._submission(session, entry)
            rows = self._submitted_notebooks(session, submission)
            for name, notebook in self._notebooks.items():
                row, _ = rows[notebook.id]
                if notebook is not self.own and missing(name):
                    zero = {"auto_score": 0.0, "needs_manual_grade": False}
                    session.execute(update(_G).where(_G.c.notebook_id == row).values(zero))
            row, penalty = rows[self.own.id]
            self._cells_of(session, row, entry, again or moved)
            marks = marks_of(session, row, penalty)
            if (due := self._penalty(entry.student, marks.score, late_seconds)) != penalty:
                session.execute(update(_N).where(_N.c.id == row).values(late_submission_penalty=due))
                marks = marks_of(session, row, due)
            session.commit()
            return marks
        finally:
            session.remove()  # rolls back what has not been committed

    def _submission(self, session: Any, entry: Entry) -> tuple[str, float, bool]:
        """The row of the submission, how late it is, and whether its time is another than before."""
        if session.scalar(select(Student.id).where(Student.id == entry.student)) is None:
            session.execute(insert(Student.__table__).values(id=entry.student))
        columns = (_S.c.id, _S.c.timestamp, _S.c.extension)
        found = session.execute(
            select(*columns).where(_S.c.assignment_id == self._assignment, _S.c.student_id == entry.student)
        ).one_or_none()
        if found is None:
            found = SimpleNamespace(id=new_uuid(), timestamp=None, extension=None)
            values = {"id": found.id, "assignment_id": self._assignment, "student_id": entry.student}
            session.execute(insert(_S).values(values))
        when = entry.timestamp or found.timestamp
        if moved := when != found.timestamp:
            session.execute(update(_S).where(_S.c.id == found.id).values(timestamp=when))
        if when is None or self._duedate is None:
            return found.id, 0.0, moved
        due = self._duedate + found.extension if found.extension is not None else self._duedate
        return found.id, max(0.0, (when - due).total_seconds()), moved

    def _submitted_notebooks(self, session: Any, submission: str) -> dict[str, tuple[str, float | None]]:
        """By notebook, the row of the submitted one and its penalty; a new row has those of its cells."""
        columns = (_N.c.notebook_id, _N.c.id, _N.c.late_submission_penalty)
        rows = {
            notebook: (row, penalty)
            for notebook, row, penalty in session.execute(
                select(*columns).where(_N.c.assignment_id == submission)
            )
        }
        for notebook in self._notebooks.values():
            if notebook.id in rows:
                continue
            row = new_uuid()
            rows[notebook.id] = (row, None)
            session.execute(insert(_N).values(id=row, assignment_id=submission, notebook_id=notebook.id))
            for table, cells in ((_G, notebook.grades), (_C, notebook.comments)):
                if cells:
                    session.execute(
                        insert(table), [{"cell_id": cell, "notebook_id": row} for cell in cells.values()]
                    )
        return rows

    def _cells_of(self, session: Any, row: str, entry: Entry, again: bool) -> None:
        scores = {self.own.grades[name]: score for name, score in entry.scores.items()}
        comments = {self.own.comments[name]: text for name, text in entry.comments.items()}
        grades = session.execute(
            select(_G.c.id, _G.c.cell_id, _G.c.auto_score, _G.c.manual_score, _G.c.needs_manual_grade).where(
                _G.c.notebook_id == row, _G.c.cell_id.in_(scores)
            )
        ).all()
        remarks = session.execute(
            select(_C.c.id, _C.c.cell_id, _C.c.auto_comment).where(
                _C.c.notebook_id == row, _C.c.cell_id.in_(comments)
            )
        ).all()
        if len(grades) < len(scores) or len(remarks) < len(comments):
            raise CourseError(
                f"the gradebook has no place for a cell of {entry.student}'s notebook: it was released anew; "
                f"remove this submission with `nbgrader db`, or release the unit as it was"
            )
        again = again or any(grade.auto_score != scores[grade.cell_id] for grade in grades)
        again = again or any(remark.auto_comment != comments[remark.cell_id] for remark in remarks)
        for grade in grades:
            auto = scores[grade.cell_id]
            by_hand = grade.manual_score is not None
            needs = again or grade.needs_manual_grade if by_hand else auto is None
            if (grade.auto_score, grade.needs_manual_grade) != (auto, needs):
                values = {"auto_score": auto, "needs_manual_grade": needs}
                session.execute(update(_G).where(_G.c.id == grade.id).values(values))
        for remark in remarks:
            if remark.auto_comment != (text := comments[remark.cell_id]):
                session.execute(update(_C).where(_C.c.id == remark.id).values(auto_comment=text))

    def _penalty(self, student: str, score: float, late_seconds: float) -> float | None:
        """What the teacher's plugin takes off, within nbgrader's own limits."""
        if late_seconds <= 0 or not self._late.enabled:
            return None
        penalty = self._late.plugin_inst.late_submission_penalty(student, score, late_seconds)
        limited = self._late._check_late_penalty
        return None if penalty is None else limited(SimpleNamespace(score=score), penalty)

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do something with the database; wait while another process holds it. Raises CourseError."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return action()
            except InvalidEntry as error:  # of nbgrader's, which has to enter the course first
                if time.monotonic() > end:
                    raise self._told(error, 0, busy=True) from error
            except (DBAPIError, StatementError) as error:
                code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
                busy = code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                if not busy or time.monotonic() > end:
                    raise self._told(error, code, busy) from error
            time.sleep(0.05)

    def _told(self, error: Exception, code: int, busy: bool) -> CourseError:
        logging.getLogger("proctor.nbgrader").error("%s", error)
        if busy:
            return CourseError(
                f"another process has kept {self._where} locked for {PATIENCE:g} seconds; end it, and run the "
                "command again: what has been graded is kept"
            )
        if code == sqlite3.SQLITE_FULL:
            return disk_full(self._where)
        cause = str(getattr(error, "orig", error)).splitlines()[0][:200]
        if code == sqlite3.SQLITE_IOERR:
            return CourseError(
                f"{self._where} cannot be written ({cause}); see whether its disk is full or broken, and run the "
                "command again: what has been graded is kept"
            )
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return CourseError(f"{self._where} is damaged ({cause}); put back a copy of it")
        return CourseError(
            f"{self._where} cannot be used: {cause}; what has been graded is kept. If it is of an older "
            "nbgrader, make a copy of it and run `nbgrader db upgrade`"
        )


def _cells(notebook: Any) -> _Notebook:
    graded = [*notebook.grade_cells, *notebook.task_cells]
    return _Notebook(
        id=notebook.id,
        grades={cell.name: cell.id for cell in graded},
        comments={cell.name: cell.id for cell in (*notebook.solution_cells, *notebook.task_cells)},
        points={cell.name: cell.max_score for cell in graded},
    )


def _at_connect(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says so, and hold from there
    connection.execute(f"PRAGMA busy_timeout = {SLICE}")


def _at_begin(connection: Any) -> None:
    # The right to write is asked for at once: who reads first and writes then may find that it cannot have it.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
