"""Many submissions to many verdicts: trusted processes that grade side by side."""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from proctor.course import CourseError, read_course
from proctor.grade import Graded, course_key, course_material, grade_notebook, unreadable
from proctor.sandbox import Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One submission to grade: whose, and where the notebook lies."""

    root: Path
    unit: str
    student: str
    path: Path


_warm: dict[str, Sandbox] = {}


def _grade_job(job: Job) -> Graded:
    """Grade one job in a worker process, which keeps its sandbox warm."""
    from proctor.checks import secret_seed

    course = read_course(job.root)
    material = course_material(course, course.unit(job.unit))
    sandbox = _warm.get(job.unit)
    if sandbox is None:
        sandbox = _warm[job.unit] = Sandbox(preload=material.preload)
        atexit.register(sandbox.close)
    seed = secret_seed(course_key(job.root), job.student)
    return grade_notebook(material, job.path, sandbox, seed=seed)


class Pool:
    """Trusted processes that grade, each with a warm sandbox of its own."""

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def grade(self, job: Job) -> Graded:
        """Grade one job; whatever breaks is a grader error, and the next job finds a whole pool."""
        return next(self.grade_all([job]))[1]

    def grade_all(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Graded]]:
        """Grade jobs in parallel; yield each with its verdict as it is done."""
        waiting = deque(jobs)
        running: dict[Future[Graded], Job] = {}
        while waiting or running:
            lost: list[Job] = []
            while waiting and len(running) < 2 * self.jobs:  # one each at work, one each at hand
                job = waiting.popleft()
                try:
                    running[self._submit(job)] = job
                except BrokenProcessPool:
                    lost.append(job)
                    break
            for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                job = running.pop(future)
                try:
                    yield job, self._result(job, future)
                except BrokenProcessPool:
                    lost.append(job)
            if lost:
                # A process that dies takes all jobs under way with it: each of them is tried once more, by itself.
                lost += running.values()
                running.clear()
                self.close()
                for job in lost:
                    yield job, self._alone(job)

    def _alone(self, job: Job) -> Graded:
        try:
            return self._result(job, self._submit(job))
        except BrokenProcessPool:
            self.close()
            return _problem(job, "the grading process ended before it had a verdict; grade this one again")

    def _submit(self, job: Job) -> Future[Graded]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.jobs, mp_context=get_context("spawn"))
        return self._pool.submit(_grade_job, job)

    def _result(self, job: Job, future: Future[Graded]) -> Graded:
        try:
            return future.result()
        except (CourseError, BrokenProcessPool):
            raise
        except Exception as error:
            return _problem(job, f"the grader broke: {type(error).__name__}: {str(error)[:300]}")


def _problem(job: Job, sentence: str) -> Graded:
    course = read_course(job.root)
    return Graded(verdict=unreadable(course_material(course, course.unit(job.unit)), sentence))
