"""The teacher's side of the command line: grading one notebook, or a class."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from proctor.cache import Verdicts
from proctor.course import Course, CourseError, Unit
from proctor.files import alone, disk_full, is_full, read_plain
from proctor.grade import (
    Graded,
    Material,
    course_key,
    course_material,
    grade_notebook,
    sandbox_for,
    unreadable,
)
from proctor.meter import Meter
from proctor.notebook import Limits, NotebookError, read_bytes
from proctor.pool import Job, Pool
from proctor.report import print_rubric, to_gradescope
from proctor.results import Verdict, to_json
from proctor.walls import Level, required

if TYPE_CHECKING:
    from proctor.nbgrader.record import Handed, Record


class Stopped(KeyboardInterrupt):
    """Somebody has stopped the run: how far it came, and how to go on."""


def grade_one(
    course: Course,
    unit: Unit,
    path: Path,
    console: Console,
    *,
    json: bool = False,
    gradescope: bool = False,
    trusted: bool = False,
) -> None:
    """Grade one notebook on the practice inputs and print the result. Raises CourseError, NotebookError."""
    from proctor.notebook import read_untrusted

    read_untrusted(path)
    material = course_material(course, unit)
    with sandbox_for(material, required(trusted)) as sandbox:
        verdict = grade_notebook(material, path, sandbox).verdict
    if verdict.problem:
        raise CourseError(verdict.problem)
    if gradescope:
        print(msgspec.json.format(msgspec.json.encode(to_gradescope(verdict)), indent=2).decode())
    elif json:
        print(to_json(verdict))
    else:
        for note in verdict.notes:
            console.print(note, markup=False)
        for result in verdict.exercises:
            print_rubric(result, console)
        console.print(f"{verdict.score:g} of {verdict.max_score:g} points", markup=False)


def submissions(course: Course, unit: Unit) -> list[Job]:
    """The collected submissions of a unit, in the order of the students' names."""
    found = sorted(path for path in (course.root / "submitted").glob(f"*/{unit.name}") if path.is_dir())
    # Hidden folders are nobody's, for nbgrader too.
    found = [path for path in found if not path.parent.name.startswith(".")]
    if not found:
        raise CourseError(
            f"no submission of {unit.name} has been collected; `nbgrader collect {unit.name}` fetches them"
        )
    return [
        Job(
            root=course.root,
            unit=unit.name,
            student=path.parent.name,
            path=path / f"{unit.notebook}.ipynb",
        )
        for path in found
    ]


def grade_class(
    course: Course,
    unit: Unit,
    jobs: int,
    console: Console,
    *,
    feedback: bool = True,
    fresh: bool = False,
    trusted: bool = False,
    level: Level | None = None,
    remarks: list[tuple[str, str]] | None = None,
) -> dict[str, Verdict]:
    """Grade every collected submission into nbgrader's gradebook; the verdicts by student.

    What was graded before, and is as it was, is not graded again unless ``fresh``. ``remarks`` takes what a person
    should know besides, as (student, sentence). Submissions are kept apart at the best ``level`` of isolation that
    this machine offers; where it offers none they must be ``trusted``. Raises CourseError, Stopped.
    """
    level = required(trusted) if level is None else level
    todo = submissions(course, unit)
    material = course_material(course, unit)
    verdicts = Verdicts(course.root, material, course_key(course.root))
    try:
        with alone(course.root / ".proctor" / "grade.lock", "another `proctor grade` of this course"):
            run = ClassRun(course, unit, material, verdicts, feedback=feedback, fresh=fresh, level=level)
            run.grade(todo, jobs, console)
    except OSError as error:
        if is_full(error):
            raise disk_full(error.filename or course.root) from error
        raise
    if remarks is not None:
        remarks += run.remarks
    return {student: run.verdicts[student] for student in sorted(run.verdicts)}


class ClassRun:
    """One run over a class: what is kept is fetched, the rest is graded, and all of it is saved one by one."""

    def __init__(
        self,
        course: Course,
        unit: Unit,
        material: Material,
        kept: Verdicts,
        *,
        feedback: bool,
        fresh: bool,
        level: Level,
    ) -> None:
        self.course, self.unit, self.material, self.kept = course, unit, material, kept
        self.feedback, self.fresh, self.level = feedback, fresh, level
        self.verdicts: dict[str, Verdict] = {}
        self.remarks: list[tuple[str, str]] = []
        self._under_way: dict[str, tuple[Handed, str]] = {}  # read and not saved yet, by student
        self._read: dict[str, bytes] = {}  # a digest of what was graded, by student
        self._record: Record
        self._meter: Meter

    def grade(self, todo: list[Job], jobs: int, console: Console) -> None:
        """Grade submissions and save them. Raises CourseError, OSError, Stopped."""
        from proctor.nbgrader.record import Record

        try:
            with (
                Record(self.course, self.unit, self.material) as self._record,
                Meter(f"grading {self.unit.name}", len(todo), console) as self._meter,
                Pool(min(jobs, len(todo))) as pool,
            ):
                for job, graded in pool.grade_all(self._to_grade(todo)):
                    handed, name = self._under_way.pop(job.student)
                    self._keep(name, graded)
                    self._save(handed, graded)
        except KeyboardInterrupt:
            raise Stopped(
                f"stopped; {len(self.verdicts)} of {len(todo)} submissions are graded, "
                f"`proctor grade {self.unit.name}` goes on with the others"
            ) from None
        self.kept.prune()
        for job in todo:
            if job.student in self._read and self._read[job.student] != _digest(
                read_submission(job)[0].content
            ):
                says = f"handed in anew while the class was graded; `proctor grade {self.unit.name}` grades that, too"
                self._remark(job.student, says)

    def _to_grade(self, todo: list[Job]) -> Iterator[Job]:
        """What has to be graded; everything else is saved on the way."""
        for job in todo:
            try:
                job.student.encode()
            except UnicodeEncodeError:
                self._remark(ascii(job.student), "this name of a folder in submitted/ is no text: not graded")
                continue
            if self._record.excluded(job.student):
                continue
            handed, problem = read_submission(job)
            if handed.content is None:
                self._save(handed, Graded(verdict=unreadable(self.material, problem)))
                continue
            name = self.kept.name_of(job.student, handed.content)
            kept = self.kept.get(name)  # asked for in any case: it is in use
            if kept is not None and not self.fresh:
                self._save(handed, kept, worked=False)
                continue
            self._under_way[job.student] = handed, name
            yield Job(
                root=job.root,
                unit=job.unit,
                student=job.student,
                path=job.path,
                content=handed.content,
                digest=self.kept.digest,
                level=self.level,
            )

    def _keep(self, name: str, graded: Graded) -> None:
        try:
            self.kept.put(name, graded)
        except OSError as error:  # it costs a second run its time, and nobody a grade
            says = f"{error.strerror or error}: verdicts are not kept in .proctor, so that a second run takes longer"
            if ("", says) not in self.remarks:
                self._remark("", says)

    def _save(self, handed: Handed, graded: Graded, *, worked: bool = True) -> None:
        left_out = self._record.save(handed, graded, fresh=self.fresh, feedback=self.feedback)
        for sentence in left_out:
            self._remark(handed.student, sentence)
        self.verdicts[handed.student] = graded.verdict
        self._read[handed.student] = _digest(handed.content)
        self._meter.advance(worked=worked)

    def _remark(self, student: str, sentence: str) -> None:
        self.remarks.append((student, sentence))


def read_submission(job: Job) -> tuple[Handed, str]:
    """A submission as it is now, read once; and why its notebook cannot be read, if it cannot."""
    from proctor.nbgrader.record import Handed

    folder, content, problem = job.path.parent, None, ""
    try:
        if folder.is_symlink():
            raise NotebookError(
                f"submitted/{job.student}/{job.unit} is a symbolic link; put the folder itself there"
            )
        content = read_bytes(job.path, Limits())
    except NotebookError as error:
        problem = str(error)
    timestamp = read_plain(folder / "timestamp.txt", 1000)
    return Handed(student=job.student, folder=folder, content=content, timestamp=timestamp), problem


def _digest(content: bytes | None) -> bytes:
    return hashlib.sha256(content).digest() if content is not None else b""
