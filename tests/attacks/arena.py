"""Grades attacks in a class where honest people sit between them, and gathers what came of it.

Canaries are planted wherever a submission has no business: in the course, in other submissions, in the gradebook,
in the grader's home and environment. Whatever comes back to a student is searched for them afterwards, and the machine
for files and processes that carry the marker of an attack.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import psutil

import minicourse
from attacks.model import FULL, HALF, RIGHT, Attack, Notebook, Site, handed_in
from attacks.traces import clear, namespace, plant, servers, snapshot, what_is_left
from minicourse import UNIT

HERE = Path(__file__).parent
PATIENCE = 75.0  # seconds without a verdict, after which the grader hangs


@dataclass(repr=False)
class Row:
    """What came of one submission."""

    student: str
    verdict: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    screen: str = ""
    saved: tuple[float, float | None, bool] | None = (
        None  # in the gradebook: score, manual score, needs a person
    )
    page: str = ""  # the feedback page
    files: dict[str, bytes] = field(
        default_factory=dict
    )  # all that lies in its autograded and feedback folders
    stopped: str = ""  # how it stopped the whole class

    @property
    def score(self) -> float:
        return self.verdict.get("score", -1.0)

    def came_back(self) -> str:
        """Everything that anybody gets to see of this submission."""
        pieces = [json.dumps(self.verdict, ensure_ascii=False), self.screen]
        return "\n".join([*pieces, *(data.decode("utf-8", "replace") for data in self.files.values())])

    def outputs(self) -> dict[str, list[Notebook]]:
        """What its cells showed, by cell: from the autograded notebook."""
        data = self.files.get("autograded/mini.ipynb")
        cells = json.loads(data)["cells"] if data else []
        return {cell["id"]: cell["outputs"] for cell in cells if cell["cell_type"] == "code"}


@dataclass(repr=False)
class Result:
    """What came of one attack: its own row, those of the classmates around it, and what it left behind."""

    attack: Attack
    site: Site
    rows: list[Row]  # its own; a second one, if it had a second submission
    classmates: list[Row]
    left: list[str]  # files and processes

    @property
    def row(self) -> Row:
        return self.rows[0]

    def untouched(self) -> list[str]:
        """What is wrong with the classmates' verdicts."""
        return [problem for row in self.classmates for problem in _wrong(row)]

    def leaked(self) -> list[str]:
        """Secrets, and walls that were broken, in whatever came back."""
        told = [line for row in self.rows for line in row.came_back().splitlines()]
        breaches = [line.strip()[:200] for line in told if f"BREACH {self.site.marker}" in line]
        return breaches + [f"a canary: {line.strip()[:200]}" for line in told if self.site.canary in line]


def _wrong(row: Row) -> list[str]:
    honest = HONEST[int(row.student[1:4]) // 2 % 2]
    expected = FULL if honest is RIGHT else FULL / 2
    problems = []
    if row.score != expected or row.verdict.get("needs_person") is not False:
        problems.append(f"{row.student} got {row.score}, and not {expected}: {json.dumps(row.verdict)[:600]}")
    if row.saved != (expected, None, False):
        problems.append(f"the gradebook says {row.saved} of {row.student}, and not {expected}")
    return problems


HONEST = (RIGHT, HALF)


@dataclass(repr=False)
class Batch:
    """A graded class."""

    results: dict[str, Result]
    changed: list[str]  # files of the course, or of the grader's home, that are not what they were
    calls: int  # connections to the server that must not be reached
    workers: int  # processes that graded
    trouble: str = ""


def make_course(root: Path) -> Path:
    """The miniature course with 5 points an exercise, released."""
    from proctor.nbgrader import classroom

    course = minicourse.make_course(root)
    tests = course.graders(UNIT) / "test_mini.py"
    worth = minicourse.CHECKS.replace("points(2)", "points(4)").replace("points(3)", "points(5)")
    tests.write_text(worth)
    notebook = nbformat.read(course.solution(UNIT), as_version=4)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            cell.metadata["nbgrader"]["points"] = 5
    nbformat.write(notebook, course.solution(UNIT))
    classroom.release_all(root, [UNIT])
    return root


def grade(attacks: Sequence[Attack], folder: Path) -> Batch:
    """Grade attacks in one class, with an honest classmate before and after each."""
    token = secrets.token_hex(3)
    canary = f"CANARY{secrets.token_hex(8)}"
    course, home = make_course(folder / "course"), folder / "home"
    plant(course, home, canary)
    release = json.loads((course / "exercises" / UNIT / "mini.ipynb").read_text())
    outer = namespace()
    with servers(f"atk{token}") as (port, calls):
        sites: dict[str, Site] = {}
        students: dict[str, list[str]] = {}
        place = 0

        def hand_in(name: str) -> Path:
            nonlocal place
            place += 1
            return course / "submitted" / f"s{place - 1:03d}-{name}" / UNIT

        def honest() -> str:
            nonlocal place
            place += place % 2  # the even ones
            answers = HONEST[place // 2 % 2]
            to = hand_in("honest")
            to.mkdir(parents=True)
            (to / "mini.ipynb").write_text(json.dumps(handed_in(release, answers, (f"# {canary}",))))
            return to.parent.name

        order: list[tuple[str, list[str]]] = [(honest(), [])]
        for number, attack in enumerate(attacks):
            other = course / "submitted" / order[-1][0] / UNIT / "mini.ipynb"
            marker = f"atk{token}{number:03d}"
            site = sites[attack.name] = Site(course, home, other, marker, outer, port, canary)
            own = [to := hand_in(attack.student or attack.name)]
            attack.write(release, to, site)
            if attack.follow:
                honest()
                own.append(to := hand_in(f"{attack.name}-again"))
                to.mkdir(parents=True)
                (to / "mini.ipynb").write_text(json.dumps(handed_in(release, RIGHT, attack.follow, (), site)))
            order.append((honest(), students.setdefault(attack.name, [path.parent.name for path in own])))
        before = snapshot(course, home)
        try:
            rows, trouble, workers = _run(course, home, canary)
            found = what_is_left(folder)
            left = {
                name: [where for told, where in found if site.marker in told] for name, site in sites.items()
            }
        finally:
            clear(f"atk{token}", folder)
    after = snapshot(course, home)
    _saved(course, rows)
    results = {}
    for ((before_it, _), (after_it, own)), attack in zip(pairwise(order), attacks, strict=True):
        beside = [rows[before_it], rows[after_it]]
        mine = [rows[name] for name in own]
        results[attack.name] = Result(attack, sites[attack.name], mine, beside, left[attack.name])
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return Batch(results, changed, calls[0], workers, trouble)


def _run(course: Path, home: Path, canary: str) -> tuple[dict[str, Row], str, int]:
    """Grade the class; where a submission stops that, take note, take it away and go on."""
    rows = {path.name: Row(path.name) for path in sorted((course / "submitted").iterdir())}
    trouble, workers = [], 0
    aside = course / "stopped"
    while rows:
        saving, broken, started = _once(course, home, canary, rows)
        workers += started
        if not broken:
            break
        graded = {name for name, row in rows.items() if row.verdict}
        waiting = sorted(path.name for path in (course / "submitted").iterdir() if path.name not in graded)
        culprit = saving or (waiting[0] if waiting else "")
        trouble.append(f"{culprit}: {broken}")
        if not culprit:
            break
        rows[culprit].stopped = broken
        aside.mkdir(exist_ok=True)
        shutil.move(course / "submitted" / culprit, aside / culprit)
    for path in aside.iterdir() if aside.is_dir() else ():
        shutil.move(path, course / "submitted" / path.name)
    return rows, "; ".join(trouble), workers


def _once(course: Path, home: Path, canary: str, rows: dict[str, Row]) -> tuple[str, str, int]:
    """Grade until the end, or until it breaks: whose verdict was being saved then, how it broke, processes used."""
    here = {**os.environ, "HOME": str(home), "CANARY_TOKEN": canary}
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, str(HERE / "grading.py"), str(course), UNIT],
        cwd=course,
        env={**here, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines: queue.Queue[str] = queue.Queue()
    errors: list[str] = []
    readers = [
        threading.Thread(target=lambda: [*map(lines.put, process.stdout), lines.put("")], daemon=True),
        threading.Thread(target=lambda: errors.extend(process.stderr), daemon=True),
    ]
    for reader in readers:
        reader.start()
    saving, broken, done, workers = "", "", False, 0
    try:
        while not done and not broken:
            try:
                line = lines.get(timeout=PATIENCE)
            except queue.Empty:
                broken = f"grading hangs: nothing for {PATIENCE:g} seconds"
                break
            event = json.loads(line) if line else {"broken": f"the grader died: {''.join(errors)[-600:]}"}
            done, broken = event.get("done", False), event.get("broken", "")
            workers += "worker" in event
            saving = event.get("saving", saving)
            if "student" in event:
                row, saving = rows[event["student"]], ""
                row.verdict, row.seconds, row.screen = event["verdict"], event["seconds"], event["screen"]
    finally:
        if not done:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                with contextlib.suppress(psutil.Error, ProcessLookupError):
                    child.kill()
        process.wait(60)
        for reader in readers:
            reader.join(10)
        process.stdout.close()
        process.stderr.close()
    return saving, broken, workers


def _saved(course: Path, rows: dict[str, Row]) -> None:
    """Read what has been written for each student."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        for submission in gradebook.assignment_submissions(UNIT):
            grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
            manual = next((grade.manual_score for grade in grades if grade.manual_score is not None), None)
            person = any(grade.needs_manual_grade for grade in grades)
            rows[submission.student.id].saved = (submission.score, manual, person)
    for name, row in rows.items():
        for room in ("autograded", "feedback"):
            top = course / room / name / UNIT
            for path in sorted(top.rglob("*")) if top.is_dir() else ():
                if path.is_file() and path.stat().st_size < 100_000_000:
                    row.files[f"{room}/{path.relative_to(top)}"] = path.read_bytes()
        row.page = row.files.get("feedback/mini.html", b"").decode()
