"""Grades a class as ``proctor grade`` does, with short limits, in a process of its own that tells what happens.

``python grading.py COURSE UNIT`` writes lines of JSON: each verdict when it is saved, each process that is started.
Whoever started this sees from them whether grading goes on, which submission stops it, and whether the same processes
do the work throughout.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from proctor import classwork, grade, pool
from proctor.course import read_course
from proctor.report import print_rubric
from proctor.results import to_dict
from proctor.roster import verdict_table
from proctor.sandbox import Limits, Sandbox

# A machine that is busy with other things must still give an honest call its time.
LIMITS = Limits(
    fork_seconds=5.0,
    cell_seconds=4.0,
    cells_seconds=8.0,
    call_seconds=3.0,
    total_seconds=16.0,
    memory=2 << 30,
)
_work, _start, _save = pool._work, pool.Pool._start, classwork.ClassRun._save
begun = time.monotonic()


def short_sandbox(*args: Any, **options: Any) -> Sandbox:
    return Sandbox(*args, **{"limits": LIMITS, **options})


def work(connection: Any) -> None:
    """What runs in a process that grades."""
    grade.Sandbox = short_sandbox
    _work(connection)


def start(self: pool.Pool) -> Any:
    worker = _start(self)
    tell(worker=worker.process.pid)
    return worker


def save(self: classwork.ClassRun, handed: Any, graded: Any, **options: Any) -> None:
    """Save a verdict, and tell of it."""
    global begun
    tell(saving=handed.student)
    seconds, begun = time.monotonic() - begun, time.monotonic()
    _save(self, handed, graded, **options)
    screen = Console(file=io.StringIO(), width=100, force_terminal=False)
    for result in graded.verdict.exercises:
        print_rubric(result, screen)
    verdict_table({handed.student: graded.verdict}, screen)
    verdict = to_dict(graded.verdict) | {"needs_person": graded.verdict.needs_person}
    tell(student=handed.student, verdict=verdict, seconds=seconds, screen=screen.file.getvalue())


def tell(**event: Any) -> None:
    print(json.dumps(event), file=sys.__stdout__, flush=True)


def main() -> None:
    course = read_course(Path(sys.argv[1]))
    pool._work, pool.Pool._start, classwork.ClassRun._save = work, start, save
    screen = Console(file=io.StringIO(), width=100, force_terminal=False)
    try:
        classwork.grade_class(course, course.unit(sys.argv[2]), 1, screen)
    except Exception as error:
        tell(broken=f"{type(error).__name__}: {error}"[:500])
        raise SystemExit(1) from None
    tell(done=True)


if __name__ == "__main__":
    main()
