"""What stock nbgrader does with an attack: the same submission, the same two exercises, an ordinary teacher's tests.

Each case is a course folder of its own, autograded in a process that is forked from this one once nbgrader is imported.
It runs as an account of its own, in namespaces of its own for processes and mounts, with limits on memory and
processes, and is killed after a while: that is for the machine's sake, and no part of nbgrader.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil

from attacks.model import RIGHT, Attack, Notebook, Site, handed_in
from attacks.traces import what_is_left
from minicourse import TITLES, UNIT, about

CELL_SECONDS = 10  # nbgrader's own limit for a cell is 30
PATIENCE = 60.0  # seconds, after which a case is killed
ACCOUNT = 64_123  # that nobody has, and one more for each case that runs beside
CLONES = 0x20000 | 0x20000000 | 0x08000000  # of mounts, processes, IPC
TESTS = {
    "double": """\
assert double(3) == 6
assert double(-1.5) == -3.0
### BEGIN HIDDEN TESTS
x = torch.randn(3, 4)
expected = x + x
assert (double(x) == expected).all()
assert torch.allclose(double(x.double()), 2 * x.double())
### END HIDDEN TESTS""",
    "norm": """\
expected = torch.tensor(5.0)
assert torch.allclose(norm(torch.tensor([3.0, 4.0])), torch.tensor(5.0))
### BEGIN HIDDEN TESTS
x = torch.randn(7)
expected = torch.linalg.vector_norm(x)
assert torch.allclose(norm(x), torch.linalg.vector_norm(x))
### END HIDDEN TESTS""",
}


@dataclass
class Measured:
    """What became of one attack."""

    score: float | None = None  # None: there is none in the gradebook
    leaked: bool = False
    left: bool = False  # files or processes
    classmate: float | None = None  # the score of the classmate who was next, if there was one
    beside: bool = False
    seconds: float = 0.0
    ending: str = ""  # how the grading process ended, where that was not by itself


def make_course(root: Path) -> None:
    """The course as an ordinary teacher makes it, released."""
    new = nbformat.v4
    source = root / "source" / UNIT
    source.mkdir(parents=True)
    notebook = new.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    setup = new.new_code_cell("import torch", id="setup", metadata=about(locked=True, grade_id="setup"))
    notebook.cells = [new.new_markdown_cell("# Mini", id="intro"), setup]
    for name, answer in RIGHT.items():
        header, body = answer.split("\n", 1)
        solution = f"{header}\n    ### BEGIN SOLUTION\n{body}\n    ### END SOLUTION"
        marks = about(grade=True, locked=True, points=5, grade_id=f"check-{name}")
        notebook.cells += [
            new.new_markdown_cell(f"## {TITLES[name]}", id=f"text-{name}"),
            new.new_code_cell(solution, id=name, metadata=about(solution=True, grade_id=name)),
            new.new_code_cell(TESTS[name], id=f"check-{name}", metadata=marks),
        ]
    nbformat.write(notebook, source / "mini.ipynb")
    settings = (
        f"c = get_config()\nc.CourseDirectory.course_id = 'stock'\nc.Execute.timeout = {CELL_SECONDS}\n"
    )
    (root / "nbgrader_config.py").write_text(settings)
    _api(root, "generate_assignment", UNIT)


def _api(root: Path, what: str, *arguments: Any) -> None:
    from proctor.nbgrader import classroom

    api = classroom.classroom(root)
    with classroom.inside(root):
        answer = getattr(api, what)(*arguments)
    log = str(answer.get("log", "")) + str(answer.get("error", ""))
    (root / "log.txt").write_text(f"{answer.get('success')}\n{log[-4000:]}")


class Case:
    """One attack, being graded."""

    def __init__(
        self, attack: Attack, course: Path, folder: Path, site: Site, number: int, beside: bool
    ) -> None:
        self.attack, self.site, self.number, self.beside = attack, site, number, beside
        self.root = shutil.copytree(course, folder / "course")
        self.home = folder / "home"
        self.home.mkdir()
        secret = f"{site.canary}\n"
        for path in (self.home / ".netrc", self.home / "id_rsa", self.root / "roster.csv"):
            path.write_text(secret)
        (self.root / "solutions" / UNIT).mkdir(parents=True)
        (self.root / "solutions" / UNIT / "mini.ipynb").write_text(secret)  # where attacks look for it
        release: Notebook = json.loads((self.root / "release" / UNIT / "mini.ipynb").read_text())
        place = self.root / "submitted"
        other = self.root / "elsewhere" / "mini.ipynb"
        other.parent.mkdir()
        other.write_text(secret)
        self.student = f"s001-{attack.student or attack.name}"
        self.site = Site(self.root, self.home, other, site.marker, site.outer, site.port, site.canary)
        attack.write(release, place / self.student / UNIT, self.site)
        if beside:
            honest = place / "s002-honest" / UNIT
            honest.mkdir(parents=True)
            (honest / "mini.ipynb").write_text(json.dumps(handed_in(release, RIGHT)))
        self.begun = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                self._enclosed()
            os._exit(1)

    def _enclosed(self) -> None:
        """In the fork: build the walls, and grade behind them."""
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # ends with the process that measures
        for path in (self.root, *self.root.rglob("*"), self.home, *self.home.rglob("*")):
            os.chown(path, ACCOUNT + self.number, ACCOUNT, follow_symlinks=False)
        if ctypes.CDLL(None, use_errno=True).unshare(CLONES) != 0:
            os._exit(3)
        child = os.fork()  # the first in the namespace: everything in it ends with it
        if child:
            _, status = os.waitpid(child, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 0x7F)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        _mount(self.home.with_name("python"))
        os.environ.clear()
        os.environ |= {"HOME": str(self.home), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
        os.environ |= {
            "TMPDIR": str(self.home),
            "CANARY_TOKEN": self.site.canary,
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
        }
        os.setgroups([])
        os.setresgid(ACCOUNT, ACCOUNT, ACCOUNT)
        for name, most in (("NPROC", 300), ("AS", 3 << 30), ("FSIZE", 400 << 20), ("CORE", 0)):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
        os.setresuid(*[ACCOUNT + self.number] * 3)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # which a change of account takes back
        grader = os.fork()  # so that an attack that kills its parent does not take the namespace with it
        if grader == 0:
            with contextlib.suppress(BaseException):
                _api(self.root, "autograde", UNIT, "*")
                os._exit(0)
            os._exit(1)
        ending = os.waitstatus_to_exitcode(os.waitpid(grader, 0)[1])
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if self.site.marker in path.read_text()]
        (self.root / "ending.json").write_text(json.dumps({"ending": ending, "left": len(left)}))
        os._exit(0)

    def over(self) -> bool:
        """Whether it has ended, or must."""
        if os.waitpid(self.pid, os.WNOHANG)[0]:
            return True
        if time.monotonic() - self.begun > PATIENCE:
            for child in psutil.Process(
                self.pid
            ).children():  # the first in its namespace: all in it end with it
                with contextlib.suppress(psutil.Error):
                    child.kill()
            os.waitpid(self.pid, 0)
            return True
        return False

    def measured(self) -> Measured:
        """What the gradebook and the folders say."""
        found = Measured(beside=self.beside, seconds=time.monotonic() - self.begun)
        scores = _scores(self.root)
        graded = (self.root / "autograded" / self.student / UNIT / "mini.ipynb").is_file()
        found.score = scores.get(self.student) if graded else None
        found.classmate = scores.get("s002-honest")
        try:
            ended = json.loads((self.root / "ending.json").read_text())
        except OSError:
            ended = {"ending": 0, "left": 0}
            found.ending = f"killed after {PATIENCE:g} s"
        else:
            found.ending = "" if ended["ending"] == 0 else f"the grader died ({ended['ending']})"
        for path in (self.root / "autograded" / self.student).rglob("*"):
            if path.is_file() and path.stat().st_size < 100_000_000:
                text = path.read_bytes().decode("utf-8", "replace")
                found.leaked |= self.site.canary in text or f"BREACH {self.site.marker}" in text
        found.left = bool(ended["left"]) or any(
            self.site.marker in told for told, _ in what_is_left(self.root)
        )
        return found


def _mount(aside: Path) -> None:
    """A view of this namespace's processes, and a way to Python where it lies in a home that is closed to others."""
    run = lambda *words: subprocess.run(["mount", *words], check=True)  # noqa: E731
    run("--make-rprivate", "/")
    run("-t", "proc", "proc", "/proc")
    base = Path(sys.base_prefix)
    closed = next((path for path in [*base.parents][::-1] if not path.stat().st_mode & 1), None)
    if closed is not None:
        aside.mkdir()
        run("--bind", str(base), str(aside))
        run("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(closed))
        base.mkdir(parents=True)
        run("--bind", str(aside), str(base))


def _scores(root: Path) -> dict[str, float]:
    from nbgrader.api import Gradebook

    with contextlib.suppress(Exception), Gradebook(f"sqlite:///{root / 'gradebook.db'}") as gradebook:
        return {one.student.id: one.score for one in gradebook.assignment_submissions(UNIT)}
    return {}
