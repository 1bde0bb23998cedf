"""What one exercise does to the files of a submission, the next never sees, and nothing outside is touched."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proctor import walls
from proctor.belongings import MAX_DEPTH, Belongings
from proctor.remote import Student
from proctor.sandbox import Limits, Sandbox
from proctor.session import Session
from proctor.walls import Level


def listing(top: Path) -> dict[str, tuple[int, object]]:
    """Every path below a folder: its mode, and what it holds."""
    found = {}
    for path in sorted(top.rglob("*")):
        mode = path.lstat().st_mode
        held: object = None
        if stat.S_ISLNK(mode):
            held = str(path.readlink())
        elif stat.S_ISREG(mode):
            held = path.read_bytes()
        found[str(path.relative_to(top))] = mode, held
    return found


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    (work / "data" / "inner").mkdir(parents=True)
    (work / "empty").mkdir()
    (work / "notes.txt").write_text("as the cells left it")
    (work / "data" / "table.csv").write_text("1,2\n")
    (work / "data" / "inner" / "deep.bin").write_bytes(bytes(range(256)))
    (work / "tool").write_text("#!/bin/sh\n")
    (work / "tool").chmod(0o755)
    (work / "link").symlink_to("data/table.csv")
    return work


def turn_round(folder: Path) -> None:
    (folder / "notes.txt").unlink()
    (folder / "notes.txt").mkdir()
    shutil.rmtree(folder / "empty")
    (folder / "empty").write_text("no folder any more")


CHANGES: dict[str, Callable[[Path], object]] = {
    "written over": lambda w: (w / "notes.txt").write_text("spoilt"),
    "added to": lambda w: (w / "data/table.csv").write_text("1,2\n3,4\n"),
    "removed": lambda w: (w / "notes.txt").unlink(),
    "a folder removed": lambda w: shutil.rmtree(w / "data"),
    "everything removed": lambda w: [shutil.rmtree(w / "data"), *((w / n).unlink() for n in ("tool", "link"))],
    "renamed": lambda w: (w / "data").rename(w / "other"),
    "new files": lambda w: [(w / "new").write_text("x"), (w / "data/new").mkdir(), (w / "data/new/x").touch()],
    "kinds exchanged": turn_round,
    "another file in its place": lambda w: [(w / "x").write_text("other"), (w / "x").replace(w / "notes.txt")],
    "modes changed": lambda w: [(w / "tool").chmod(0o600), (w / "data").chmod(0), (w / "notes.txt").chmod(0)],
    "links turned": lambda w: [(w / "link").unlink(), (w / "link").symlink_to("/etc/passwd")],
    "a pipe": lambda w: [(w / "notes.txt").unlink(), os.mkfifo(w / "notes.txt")],
    "the clock of a file set back": lambda w: [(w / "notes.txt").write_text("spoilt at the same time"),
                                              os.utime(w / "notes.txt", (0, 0))],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_done_to_them_they_are_as_they_were(change: str, work: Path) -> None:
    before = listing(work)
    belongings = Belongings([work])
    for _ in range(2):
        CHANGES[change](work)
        belongings.put_back()
        assert listing(work) == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "a/c", "a/d/e"]), st.binary(max_size=9) | st.none()), max_size=8
    )
)
def test_any_mix_of_files_and_folders_comes_back(
    tmp_path: Path, steps: list[tuple[str, bytes | None]]
) -> None:
    work = tmp_path / "any"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()

    def do(path: Path, content: bytes | None) -> None:
        if not all(parent.is_dir() or not parent.exists() for parent in path.parents):
            return
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if content is None else path.write_bytes(content)

    half = len(steps) // 2
    for name, content in steps[:half]:
        do(work / name, content)
    before, belongings = listing(work), Belongings([work])
    for name, content in steps[half:]:
        do(work / name, content)
    belongings.put_back()
    assert listing(work) == before


def test_no_link_leads_outside(work: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    (outside / "table.csv").write_text("the teacher's")
    (outside / "inner" / "deep.bin").write_text("the teacher's too")
    kept = listing(outside)
    before = listing(work)
    belongings = Belongings([work])
    shutil.rmtree(work / "data")
    (work / "data").symlink_to(outside)
    (work / "notes.txt").unlink()
    (work / "notes.txt").symlink_to(outside / "table.csv")
    belongings.put_back()
    assert listing(outside) == kept
    assert listing(work) == before


def test_a_process_that_has_a_file_open_goes_on_with_the_same_file(work: Path) -> None:
    belongings = Belongings([work])
    with (work / "notes.txt").open("r+") as file:
        (work / "notes.txt").write_text("spoilt")
        belongings.put_back()
        assert file.read() == "as the cells left it"


def test_what_lies_too_deep_is_removed_and_ends_nothing(work: Path) -> None:
    deep = work
    for _ in range(MAX_DEPTH + 20):
        deep /= "d"
        deep.mkdir()
    belongings = Belongings([work])
    (work / "notes.txt").write_text("spoilt")
    belongings.put_back()
    assert (work / "notes.txt").read_text() == "as the cells left it"


LEVELS = [Level.BUBBLEWRAP, Level.NAMESPACES, Level.LANDLOCK, Level.PLAIN]
CELL = """
from pathlib import Path
Path("notes.txt").write_text("as the cells left it")
def spoil():
    Path("notes.txt").write_text("spoilt")
    Path("word.txt").write_text("for the next exercise")
def look():
    return Path("notes.txt").read_text(), Path("word.txt").exists()
"""


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name.lower())
def test_an_exercise_finds_the_files_as_the_cells_left_them(level: Level) -> None:
    if reason := walls.obstacle(level):
        pytest.skip(f"this machine does not offer {level.name}: {reason}")
    with Sandbox(Limits(), level=level) as sandbox:
        session = Session(sandbox, [("cell", CELL)])
        try:
            for exercise in ("one", "two", "three"):
                student = Student(session.open_exercise(exercise))
                assert student.look() == ("as the cells left it", False)
                student.spoil()
                assert student.look() == ("spoilt", True)
        finally:
            session.close()
