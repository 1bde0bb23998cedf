"""The class that is disturbed, and what grading has left of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from minicourse import ANSWERS, UNIT, gradebook_rows, graded_files
from proctor import classwork
from proctor.course import read_course
from proctor.grade import Graded
from proctor.pool import Job

WRONG = "def norm(x):\n    return double(x).sum()"
SLOW = "\nimport time\ntime.sleep(3)"
CLASS = {
    "ada": ANSWERS,
    "bela": {**ANSWERS, "norm": WRONG + SLOW},
    "chen": {},
    "dora": {**ANSWERS, "double": ANSWERS["double"] + SLOW + "\nprint('hello')"},
    "emil": {"double": "def double(x):\n    return x * x"},
}
Left = tuple[dict[str, list[tuple[object, ...]]], dict[str, tuple[int, bytes]]]


def left(root: Path) -> Left:
    """All that grading has left: every row, every file."""
    return gradebook_rows(root), graded_files(root)


def grade(root: Path, jobs: int = 2, **how: object) -> list[tuple[str, str]]:
    """Grade the class of a course, in this process; the remarks."""
    course, remarks = read_course(root), []
    classwork.grade_class(course, course.unit(UNIT), jobs, Console(quiet=True), remarks=remarks, **how)
    return remarks


@dataclass
class Grader:
    """In the place of the pool, whose processes take seconds to start: it knows the verdicts by the notebooks."""

    verdicts: dict[bytes, Graded] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    before: Callable[[Job], None] = lambda job: None

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def grade_all(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Graded]]:
        for job in jobs:
            self.asked.append(job.student)
            self.before(job)
            yield job, self.verdicts[job.content or b""]
