"""Many submissions to many verdicts: trusted processes that grade side by side.

Each process has a connection of its own, so that one which dies takes nothing with it but the job at work in it, and
that job is tried once more.
"""

from __future__ import annotations

import atexit
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import nbformat

from proctor.cache import material_digest, material_files
from proctor.course import CourseError, read_course
from proctor.files import disk_full, is_full
from proctor.grade import (
    Graded,
    Material,
    course_key,
    course_material,
    grade_notebook,
    released_notebook,
    sandbox_for,
    unreadable,
)
from proctor.sandbox import Sandbox
from proctor.staff import Worker, end, next_core, serve, start
from proctor.walls import Level

AHEAD = 2  # jobs that a process holds: one at work, one at hand
WARM = 4  # sandboxes that a process keeps, each of some 350 MB
STILLBORN = 3  # processes that may end in a row before they are ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One submission to grade: whose, and where the notebook lies.

    ``content`` is what was in it when it was read: that is what is graded, whatever lies there by now. ``digest``
    stands for the checks and the release that the verdict is meant to come from (see ``proctor.cache``).
    """

    root: Path
    unit: str
    student: str
    path: Path
    content: bytes | None = None
    digest: str = ""
    level: Level | None = None  # of isolation; the best that the machine offers, if none is named


@dataclass(frozen=True, slots=True)
class _Kept:
    """The material of a unit, read once for as long as its files stay as they are."""

    stamp: tuple[object, ...]
    material: Material
    release: nbformat.NotebookNode
    digest: str


_warm: dict[tuple[str, Level | None], Sandbox] = {}
_kept: dict[tuple[Path, str], _Kept] = {}


def _grade_job(job: Job) -> Graded:
    """Grade one job in a worker process, which keeps its sandbox warm."""
    from proctor.draws import secret_seed

    kept = _material(job)
    sandbox = _sandbox(job, kept.material)
    seed = secret_seed(course_key(job.root), job.student)
    graded = grade_notebook(
        kept.material, job.path, sandbox, seed=seed, content=job.content, release=kept.release
    )
    _material(job)
    return graded


def _sandbox(job: Job, material: Material) -> Sandbox:
    """The warm sandbox of a unit; of many units, the ones that were used last."""
    key = job.unit, job.level
    sandbox = _warm.pop(key, None) or sandbox_for(material, job.level)
    _warm[key] = sandbox
    while len(_warm) > WARM:
        _warm.pop(next(iter(_warm))).close()
    return sandbox


def _material(job: Job) -> _Kept:
    """The material to grade with. Raises CourseError where it is not what the job was meant for."""
    stamp = _stamp(job)
    kept = _kept.get((job.root, job.unit))
    if kept is None or kept.stamp != stamp:
        course = read_course(job.root)
        material = course_material(course, course.unit(job.unit))
        kept = _Kept(stamp, material, released_notebook(material), material_digest(material))
        _kept[job.root, job.unit] = kept
    if job.digest not in ("", kept.digest):
        raise CourseError(
            f"the checks or the release of {job.unit} changed while they were used; run the command again"
        )
    return kept


def _stamp(job: Job) -> tuple[object, ...]:
    stats = ((path, path.stat()) for path in material_files(job.root, job.unit))
    return tuple((str(path), s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_ino) for path, s in stats)


class Pool:
    """Trusted processes that grade, each with a warm sandbox of its own."""

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        self._workers: list[Worker] = []
        self._stillborn = 0
        self._one = threading.Lock()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes and what they have started."""
        atexit.unregister(self.close)
        workers, self._workers = self._workers, []
        end(workers)

    def grade(self, job: Job) -> Graded:
        """Grade one job; whatever breaks is a grader error, and the next job finds a whole pool."""
        with self._one:
            return next(self.grade_all([job]))[1]

    def grade_all(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Graded]]:
        """Grade jobs in parallel; yield each with its verdict as it is done. ``jobs`` is asked as work is needed."""
        source, again, tried = iter(jobs), deque[Job](), set[Job]()
        try:
            while self._hand_out(source, again):
                for worker in self._heard():
                    try:
                        kind, content, worker.tired = worker.connection.recv()
                    except (EOFError, OSError):
                        yield from self._lost(worker, again, tried)
                        continue
                    if kind == "ready":
                        worker.ready, self._stillborn = True, 0
                        continue
                    job = worker.jobs.popleft()
                    if worker.tired and not worker.jobs:
                        self._dismiss([worker])
                    if kind == "course":
                        raise CourseError(content)
                    yield job, content if kind == "graded" else _problem(job, content)
        finally:
            # Where somebody has lost interest, nothing of this run may reach the next.
            self._dismiss([worker for worker in self._workers if worker.jobs])

    def _hand_out(self, source: Iterator[Job], again: deque[Job]) -> bool:
        """Give jobs to whoever has room, the idle first; whether anything is under way."""
        while worker := self._roomy():
            job = again.popleft() if again else next(source, None)
            if job is None:
                break
            worker = worker if worker in self._workers else self._start()
            worker.jobs.append(job)
            with suppress(OSError):  # it has died: its end is found when it is heard
                worker.connection.send(job)
        return any(worker.jobs for worker in self._workers)

    def _roomy(self) -> Worker | bool:
        """Who takes the next job: an idle process, a new one (True), one with a job at hand to spare; else False."""
        able = [worker for worker in self._workers if not worker.tired and len(worker.jobs) < AHEAD]
        idle = [worker for worker in able if not worker.jobs]
        if not idle and len(self._workers) < self.jobs:
            return True
        return min(able, key=lambda worker: len(worker.jobs), default=False)

    def _heard(self) -> list[Worker]:
        heard = wait([worker.connection for worker in self._workers])
        return [worker for worker in self._workers if worker.connection in heard]

    def _lost(self, worker: Worker, again: deque[Job], tried: set[Job]) -> Iterator[tuple[Job, Graded]]:
        """A process has died: what it had at hand goes to another, what it was at is tried once more."""
        self._dismiss([worker])
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                raise CourseError(
                    "the processes that grade end before they are ready; `proctor doctor` says what is amiss"
                )
        elif worker.jobs and worker.jobs[0] in tried:
            job = worker.jobs.popleft()
            yield (
                job,
                _problem(job, "the grading process ended before it had a verdict; grade this one again"),
            )
        elif worker.jobs:
            tried.add(worker.jobs[0])
        again.extendleft(reversed(worker.jobs))

    def _start(self) -> Worker:
        if not self._workers:
            atexit.register(self.close)
        self._workers.append(start(_work, next_core(self._workers, self.jobs)))
        return self._workers[-1]

    def _dismiss(self, workers: list[Worker]) -> None:
        self._workers = [worker for worker in self._workers if worker not in workers]
        end(workers)


def _work(connection: Connection) -> None:
    """What a process of the pool does."""
    serve(connection, _answer, _leave)


def _answer(job: Job) -> tuple[str, Any]:
    try:
        return "graded", _grade_job(job)
    except CourseError as error:
        return "course", str(error)
    except Exception as error:
        if is_full(error):
            return "course", str(disk_full(tempfile.gettempdir()))
        return "broke", f"the grader broke: {type(error).__name__}: {str(error)[:300]}"


def _leave() -> None:
    for sandbox in _warm.values():
        sandbox.close()


def _problem(job: Job, sentence: str) -> Graded:
    course = read_course(job.root)
    return Graded(verdict=unreadable(course_material(course, course.unit(job.unit)), sentence))
