"""Full disks, locked databases, spoilt caches, clocks and late submissions: nothing is lost, nobody's score changes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from faults.room import CLASS, Grader, Left, grade, left
from minicourse import UNIT
from proctor import classwork
from proctor.course import CourseError
from proctor.nbgrader import gradebook, placing, record

pytestmark = pytest.mark.isolation


def in_a_child(work: Callable[[], Any]) -> int:
    """Do something in a fork of this process; how that ended (a signal's number, negated, or an exit status)."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except CourseError as error:
            status = 77 if "no room left" in str(error) else 78
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(owner: Any, name: str, number: int, *, after: bool = False) -> None:
    """Let this process be killed at the n-th call of a function, just before or just after it."""
    real, calls = getattr(owner, name), []

    def killing(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        done = real(*args, **kwargs) if after or len(calls) < number else None
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(owner, name, killing)


MOMENTS = {
    "before anything": (record.Record, "save", 1, False),
    "with a folder half made": (record, "copy_plain", 3, True),
    "with a notebook half written": (record, "permit", 3, False),
    "before a transaction": (gradebook.Book, "save", 3, False),
    "in a transaction, the submission new": (gradebook.Book, "_submitted_notebooks", 3, True),
    "in a transaction, the scores written": (gradebook.Book, "_penalty", 3, True),
    "between the gradebook and the folder": (gradebook.Book, "save", 3, True),
    "before a folder is put in its place": (record, "put", 3, False),
    "before a page": (record, "page_of", 2, False),
    "in the last submission": (record, "put", 2 * len(CLASS), False),
    "after the last one": (classwork.Verdicts, "prune", 1, False),
}


class TestKilled:
    @pytest.mark.parametrize("moment", MOMENTS)
    def test_the_command_at_any_moment(self, moment: str, remembered: Path, undisturbed: Left) -> None:
        owner, name, number, after = MOMENTS[moment]

        def work() -> None:
            kill_at(owner, name, number, after=after)
            grade(remembered)

        assert in_a_child(work) == -signal.SIGKILL
        assert grade(remembered) == []
        assert left(remembered) == undisturbed

    @pytest.mark.parametrize("rename", [1, 2, 3])
    def test_a_regrade_between_the_old_folder_and_the_new(
        self, rename: int, graded: Path, tmp_path: Path, undisturbed: Left
    ) -> None:
        root = shutil.copytree(graded, tmp_path / "course")
        for folder in (root / "autograded").glob(f"*/{UNIT}"):
            (folder / "mini.ipynb").unlink()

        def work() -> None:
            kill_at(Path, "rename", rename)
            grade(root)

        assert in_a_child(work) == -signal.SIGKILL
        grade(root)
        assert left(root) == undisturbed

    def test_a_verdict_half_written(self, root: Path, grader: Grader, undisturbed: Left) -> None:
        def work() -> None:
            kill_at(os, "fsync", 3)
            grade(root)

        assert in_a_child(work) == -signal.SIGKILL
        folder = root / ".proctor" / "verdicts" / UNIT
        assert len(list(folder.iterdir())) == 3  # one is a piece of a file
        grade(root)
        assert grader.asked == list(CLASS)[2:]
        assert left(root) == undisturbed
        assert len(list(folder.iterdir())) == len(CLASS)


@contextmanager
def small_disk(path: Path, kilobytes: int) -> Iterator[None]:
    """A disk of its own at a folder; what was in it is copied there."""
    kept = path.with_name(path.name + ".kept")
    path.rename(kept)
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)], capture_output=True)
    if done.returncode:
        path.rmdir()
        kept.rename(path)
        pytest.skip("a small disk cannot be mounted here")
    try:
        shutil.copytree(kept, path, dirs_exist_ok=True)
        resize(path, int(subprocess.check_output(["du", "-sk", str(path)]).split()[0]) + kilobytes)
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
        path.rmdir()
        kept.rename(path)


def resize(path: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(path)], check=True)


class TestFull:
    def test_the_disk_of_the_course(self, remembered: Path, undisturbed: Left) -> None:
        """At many sizes, so that it is now the folder, now the database, now the page that has no room."""
        sentences = []
        for room in range(0, 250, 24):
            with small_disk(remembered, room):
                try:
                    grade(remembered)
                except CourseError as error:
                    sentences.append(str(error))
                    resize(remembered, 65536)
                    grade(remembered)
                assert left(remembered) == undisturbed
        assert len(sentences) > 5
        for says in sentences:
            assert says.startswith("there is no room left on the disk of ")
            assert says.endswith("run the command again: what has been graded is kept")

    @pytest.mark.parametrize("kilobytes", [1, 4, 8])
    def test_a_file_that_may_not_grow(self, kilobytes: int, remembered: Path, undisturbed: Left) -> None:
        def work() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, kilobytes << 10))
            grade(remembered)

        assert in_a_child(work) in (77, 78)  # one sentence; SQLite has no word of its own for it
        grade(remembered)
        assert left(remembered) == undisturbed

    def test_the_disk_of_the_kept_verdicts_costs_nobody_a_grade(
        self, root: Path, grader: Grader, undisturbed: Left
    ) -> None:
        folder = root / ".proctor" / "verdicts"
        folder.mkdir()
        with small_disk(folder, 4):
            [(student, says)] = grade(root)
            assert (student, says[:23]) == ("", "No space left on device")
            assert left(root) == undisturbed
        assert grade(root) == []
        assert grader.asked == [*CLASS, *CLASS]


HOLD = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
connection.rollback()
connection.close()
"""


@contextmanager
def locked(root: Path, seconds: float) -> Iterator[None]:
    """Another process keeps the gradebook to itself for a while."""
    command = [sys.executable, "-c", HOLD, str(root / "gradebook.db"), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield
        process.terminate()


class TestLocked:
    def test_for_a_while(self, remembered: Path, undisturbed: Left, monkeypatch: pytest.MonkeyPatch) -> None:
        save = record.Record.save

        def saving(self: record.Record, handed: record.Handed, *args: Any, **kwargs: Any) -> Any:
            if handed.student == "chen":
                with locked(remembered, 1.2):
                    return save(self, handed, *args, **kwargs)
            return save(self, handed, *args, **kwargs)

        monkeypatch.setattr(record.Record, "save", saving)
        assert grade(remembered) == []
        assert left(remembered) == undisturbed

    def test_for_good(self, remembered: Path, undisturbed: Left, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gradebook, "PATIENCE", 1.0)
        says = "another process has kept gradebook.db locked for 1 seconds; end it, and run the command again"
        with locked(remembered, 60), pytest.raises(CourseError, match=says):
            grade(remembered)
        assert grade(remembered) == []
        assert left(remembered) == undisturbed

    def test_by_another_grading(self, remembered: Path) -> None:
        with (
            classwork.alone(remembered / ".proctor" / "grade.lock", "another one"),
            pytest.raises(CourseError, match="another `proctor grade` of this course is running already"),
        ):
            grade(remembered)


def swapped(one: Path, other: Path) -> None:
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def forged(path: Path) -> None:
    """Full marks, by somebody who does not have the course key."""
    mark, payload = path.read_bytes().split(b"\n", 1)
    data = json.loads(payload)
    for exercise in data["verdict"]["exercises"]:
        for check in exercise["checks"]:
            check["outcome"] = "passed"
    path.write_bytes(mark + b"\n" + json.dumps(data).encode())


def replaced_by_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


SPOILT: dict[str, Callable[[list[Path]], Any]] = {
    "empty": lambda paths: paths[0].write_bytes(b""),
    "cut off": lambda paths: paths[0].write_bytes(paths[0].read_bytes()[:-1]),
    "one bit": lambda paths: paths[0].write_bytes(
        bytes([paths[0].read_bytes()[0] ^ 1]) + paths[0].read_bytes()[1:]
    ),
    "not ours": lambda paths: paths[0].write_text('{"verdict": {}}'),
    "no text": lambda paths: paths[0].write_bytes(os.urandom(5000)),
    "forged": lambda paths: forged(paths[0]),
    "somebody else's": lambda paths: swapped(paths[0], paths[1]),
    "a link": lambda paths: replaced_by_link(paths[0]),
    "a folder": lambda paths: (paths[0].unlink(), paths[0].mkdir()),
}


class TestSpoilt:
    @pytest.mark.parametrize("how", SPOILT)
    def test_a_spoilt_verdict_is_found_anew(
        self, how: str, remembered: Path, grader: Grader, undisturbed: Left
    ) -> None:
        paths = sorted((remembered / ".proctor" / "verdicts" / UNIT).iterdir())
        SPOILT[how](paths)
        grade(remembered)
        assert len(grader.asked) == (2 if how == "somebody else's" else 1)
        assert left(remembered) == undisturbed


class TestClock:
    @pytest.mark.parametrize("seconds", [-4e8, 4e8])
    def test_set_back_or_forth(
        self,
        seconds: float,
        remembered: Path,
        grader: Grader,
        undisturbed: Left,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        now = time.time() + seconds
        monkeypatch.setattr(time, "time", lambda: now)
        for path in remembered.rglob("*"):
            os.utime(path, (now, now))
        grade(remembered)
        assert grader.asked == []
        assert left(remembered) == undisturbed

    def test_a_submission_that_claims_to_be_as_old_as_the_one_before(
        self, remembered: Path, grader: Grader
    ) -> None:
        grade(remembered)
        old, new = (remembered / "submitted" / name / UNIT / "mini.ipynb" for name in ("chen", "ada"))
        when = old.stat().st_mtime
        old.write_bytes(new.read_bytes())
        os.utime(old, (when, when))
        grade(remembered)
        assert grader.asked == ["chen"]


class TestReplaced:
    def test_while_it_is_graded(
        self, collected: Path, root: Path, grader: Grader, undisturbed: Left, tmp_path: Path
    ) -> None:
        """The gradebook gets the verdict and the notebook of what was graded; the next run grades what is there now."""
        files = {name: root / "submitted" / name / UNIT / "mini.ipynb" for name in CLASS}
        late = files["ada"].read_bytes()
        late_time = b"2031-01-01 00:00:00 UTC"

        def hand_in_again(job: classwork.Job) -> None:
            if job.student == "chen":
                files["chen"].write_bytes(late)
                files["chen"].with_name("timestamp.txt").write_bytes(late_time)

        grader.before = hand_in_again
        [(student, says)] = grade(root)
        assert (student, says[:15]) == ("chen", "handed in anew ")
        assert left(root) == undisturbed
        grader.before, grader.asked = lambda job: None, []
        assert grade(root) == []
        assert grader.asked == ["chen"]
        other = shutil.copytree(collected, tmp_path / "other")
        for name, content in (("mini.ipynb", late), ("timestamp.txt", late_time)):
            (other / "submitted" / "chen" / UNIT / name).write_bytes(content)
        grade(other)
        assert left(root) == left(other)

    def test_a_submission_that_went_away_is_for_a_person(self, root: Path, grader: Grader) -> None:
        grader.before = lambda job: job.path.unlink() if job.student == "chen" else None
        grade(root)
        grader.before = lambda job: None
        assert [who for who, _ in grade(root)] == []
        rows = [row for row in left(root)[0]["grades"] if row[0] == "chen"]
        assert {row[2] for row in rows} == {None}


def test_leftovers_are_hidden_from_nbgrader() -> None:
    assert placing.NEW.startswith(".")
    assert placing.OLD.startswith(".")
