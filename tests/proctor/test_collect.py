"""Collecting from an exchange in which anybody may have put anything, and grading a folder that was copied by hand."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from minicourse import ANSWERS, UNIT, make_class
from proctor.course import Course
from proctor.nbgrader import classroom
from proctor.nbgrader.folders import Copy, Refused, sweep
from proctor.notebook import NotebookError, read_untrusted

pytestmark = pytest.mark.filterwarnings(
    "ignore::sqlalchemy.exc.SAWarning"
)  # raised by nbgrader's own queries
SECRET = "what nobody may read"


@dataclass
class Room:
    """A class of which everything has been handed in, and collected where a test asks for it."""

    folder: Path
    course: Course

    def sent(self, student: str) -> Path:
        """What a student has in the exchange, where they can do as they like."""
        (path,) = (self.folder / "exchange" / "transformers" / "inbound").glob(f"{student}+{UNIT}+*")
        return path

    def got(self, student: str) -> Path:
        return self.course.root / "submitted" / student / UNIT

    def collect(self, **settings: Any) -> str:
        """Collect as the teacher does; the log."""
        exchange = {
            "Exchange": {"root": str(self.folder / "exchange"), "cache": str(self.folder / "cache")},
            "ExchangeCollect": {"check_owner": False},
        }
        api = classroom.classroom(self.course.root, **(exchange | settings))
        with classroom.inside(self.course.root):
            answer = api.collect(UNIT)
        assert answer["success"], answer
        return answer.get("log", "")


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("class")
    make_class(folder, {"ada": ANSWERS, "eve": ANSWERS, "zoe": ANSWERS})
    return folder


@pytest.fixture
def room(handed_in: Path, tmp_path: Path) -> Room:
    """The class before anything is collected; eve is up to something."""
    from proctor.course import read_course

    folder = tmp_path / "class"
    shutil.copytree(handed_in, folder)
    shutil.rmtree(folder / "course" / "submitted")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text(SECRET)
    return Room(folder, read_course(folder / "course"))


def link(path: Path, tmp_path: Path) -> None:
    (path / "notes.txt").symlink_to(tmp_path / "secret" / "key")


def link_up(path: Path, tmp_path: Path) -> None:
    (path / "notes.txt").symlink_to("../../../../secret/key")


def folder_link(path: Path, tmp_path: Path) -> None:
    (path / "more").symlink_to(tmp_path / "secret", target_is_directory=True)


def inner_link(path: Path, tmp_path: Path) -> None:
    (path / "data").mkdir()
    (path / "data" / "key").symlink_to(tmp_path / "secret" / "key")


def dangling(path: Path, tmp_path: Path) -> None:
    (path / "notes.txt").symlink_to(tmp_path / "nowhere")


def circle(path: Path, tmp_path: Path) -> None:
    (path / "more").symlink_to(path, target_is_directory=True)


def fifo(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path / "notes.txt")


def socket_(path: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(path)  # a socket's path must be short
        one.bind("talk")
        os.chdir(here)


def device(path: Path, tmp_path: Path) -> None:
    (path / "zero").symlink_to("/dev/zero")


def no_text(path: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(path) + b"/caf\xe9\xff.txt")).write_text("x")


def escape_code(path: Path, tmp_path: Path) -> None:
    (path / "\x1b[2J.txt").write_text("x")


ODD = [
    link,
    link_up,
    folder_link,
    inner_link,
    dangling,
    circle,
    fifo,
    socket_,
    device,
    no_text,
    escape_code,
]


class TestOddThings:
    @pytest.mark.parametrize("do", ODD, ids=lambda do: do.__name__)
    def test_are_left_out_by_name_and_nobody_else_is_disturbed(
        self, room: Room, tmp_path: Path, do: Callable[[Path, Path], None]
    ) -> None:
        do(room.sent("eve"), tmp_path)
        log = room.collect()
        told = [line for line in log.splitlines() if "left out" in line]
        assert len(told) == 1
        assert "eve: " in told[0]
        assert told[0].isprintable()
        for student in ("ada", "eve", "zoe"):
            files = [path for path in room.got(student).rglob("*") if not path.is_dir()]
            assert {path.name for path in files} == {
                "mini.ipynb",
                "timestamp.txt",
                "submission_secret.txt",
            } | {path.name for path in (room.got("ada") / "checks").iterdir()}
            assert not any(path.is_symlink() for path in room.got(student).rglob("*"))
            assert SECRET not in "".join(path.read_text() for path in files)

    def test_files_beside_the_notebook_come_along(self, room: Room) -> None:
        (room.sent("eve") / "data").mkdir()
        (room.sent("eve") / "data" / "Größe 1.csv").write_text("1,2")
        room.collect()
        assert (room.got("eve") / "data" / "Größe 1.csv").read_text() == "1,2"

    def test_a_fifo_for_the_notebook_hangs_nothing(self, room: Room) -> None:
        notebook = room.sent("eve") / "mini.ipynb"
        notebook.unlink()
        os.mkfifo(notebook)
        assert "eve: 'mini.ipynb' is a FIFO" in room.collect()
        assert not (room.got("eve") / "mini.ipynb").exists()
        assert (room.got("zoe") / "mini.ipynb").exists()

    def test_a_huge_file_is_left_out_and_a_huge_folder_refused(self, room: Room) -> None:
        with (room.sent("eve") / "film.mp4").open("wb") as file:
            file.truncate(30_000_000)
        for number in range(6):
            (room.sent("zoe") / f"{number}.bin").write_bytes(b"0" * 9_000_000)
        log = room.collect()
        assert "eve: 'film.mp4' is larger than 20 MB; it is left out" in log
        assert (room.got("eve") / "mini.ipynb").exists()
        assert "submission of zoe is not collected: it is larger" in log
        assert not room.got("zoe").exists()
        assert (room.got("ada") / "mini.ipynb").exists()

    def test_deep_and_endless_folders(self, room: Room) -> None:
        path = room.sent("eve")
        for _ in range(300):
            path = path / "d"
            path.mkdir()
        for number in range(1100):
            (room.sent("zoe") / f"{number}.txt").touch()
        log = room.collect()
        assert "folders deep; it is left out" in log
        assert (room.got("eve") / "mini.ipynb").exists()
        assert "submission of zoe is not collected: it has more files" in log
        assert not list(room.got("zoe").parent.iterdir())  # nothing half done

    def test_many_odd_things_are_told_shortly(self, room: Room, tmp_path: Path) -> None:
        for number in range(200):
            (room.sent("eve") / f"{number}.txt").symlink_to(tmp_path / "secret" / "key")
        log = room.collect()
        assert log.count("left out") == 20
        assert "eve: … and 180 more" in log

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
    def test_a_file_of_another_account_is_left_out(self, room: Room) -> None:
        (room.sent("eve") / "key").write_text(SECRET)
        os.chown(room.sent("eve") / "key", 65534, -1)
        assert "belongs to another account" in room.collect()
        assert not (room.got("eve") / "key").exists()


class TestTheExchange:
    def test_what_is_no_submission_does_not_end_the_collection(self, room: Room, tmp_path: Path) -> None:
        inbound = room.sent("ada").parent
        (inbound / f"eve+{UNIT}+no time at all").mkdir()
        (inbound / f"..+{UNIT}+2030-01-01 00:00:00 UTC").mkdir()  # hidden: nbgrader does not see it
        (inbound / f"*+{UNIT}+2030-01-01 00:00:00 UTC").mkdir()
        (inbound / f"zoe+{UNIT}+2030-01-01 00:00:00 UTC").symlink_to(tmp_path / "secret")
        (inbound / f"ada+{UNIT}+2030-01-01 00:00:00 UTC").write_text("no folder")
        before = {path.name for path in room.course.root.iterdir()}
        log = room.collect()
        assert log.count("in the exchange is left out") == 4
        assert {path.name for path in room.course.root.iterdir()} - before == {"submitted"}
        assert {path.name for path in (room.course.root / "submitted").iterdir()} == {"ada", "eve", "zoe"}
        for student in ("ada", "eve", "zoe"):  # what they really handed in, not the name that stands in front
            assert (room.got(student) / "mini.ipynb").exists()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
    def test_nobody_takes_the_place_of_a_learners_own_submission(self, room: Room) -> None:
        forged = room.sent("ada").parent / f"root+{UNIT}+2030-01-01 00:00:00 UTC"
        own = room.sent("ada").parent / f"root+{UNIT}+2020-01-01 00:00:00 UTC"
        for path in (forged, own):
            shutil.copytree(room.sent("ada"), path)
            (path / "whose.txt").write_text(path.name)
        os.chown(forged, 65534, -1)
        log = room.collect(ExchangeCollect={"check_owner": True})
        assert (room.got("root") / "whose.txt").read_text() == own.name
        assert "root has submitted something as well" in log

    def test_a_newer_submission_replaces_an_older_one_and_a_refused_one_does_not(self, room: Room) -> None:
        room.collect()
        sent = room.sent("eve")
        newer = sent.with_name(f"eve+{UNIT}+2031-01-01 00:00:00 UTC")
        shutil.copytree(sent, newer)
        (newer / "answer.txt").write_text("42")
        room.collect()
        assert (room.got("eve") / "answer.txt").read_text() == "42"
        newest = sent.with_name(f"eve+{UNIT}+2032-01-01 00:00:00 UTC")
        newest.mkdir()
        for number in range(1100):
            (newest / f"{number}.txt").touch()
        assert "submission of eve is not collected" in room.collect()
        assert (room.got("eve") / "answer.txt").read_text() == "42"
        assert "No newer submission: ada" in room.collect()

    @pytest.mark.parametrize("bad", [b"", b"\xff\xfe", b"tomorrow", None])
    def test_what_nbgrader_relies_on_is_made_good(self, room: Room, bad: bytes | None) -> None:
        for name in ("timestamp.txt", "submission_secret.txt"):
            path = room.sent("eve") / name
            path.unlink()
            if bad is not None:
                path.write_bytes(bad)
        room.collect()
        assert (room.got("eve") / "timestamp.txt").read_text() == room.sent("eve").name.rsplit("+", 3)[2]
        assert (room.got("eve") / "submission_secret.txt").read_text(encoding="ascii")
        kept = room.sent("ada") / "submission_secret.txt"
        assert (room.got("ada") / "submission_secret.txt").read_text() == kept.read_text()


class TestCopy:
    def test_follows_no_link_that_is_put_there_while_it_copies(self, tmp_path: Path) -> None:
        source = tmp_path / "sent"
        (source / "data").mkdir(parents=True)
        (source / "data" / "key").write_text("my own")
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret" / "key").write_text(SECRET)
        over = threading.Event()

        def swap() -> None:
            while not over.is_set():
                (source / "data").rename(source / "aside")
                (source / "data").symlink_to(tmp_path / "secret", target_is_directory=True)
                (source / "data").unlink()
                (source / "aside").rename(source / "data")

        swapping = threading.Thread(target=swap)
        swapping.start()
        try:
            for number in range(150):
                target = tmp_path / f"got{number}"
                copy = Copy(file_bytes=1000, all_bytes=10_000, entries=10, depth=3)
                copy.folder(source, target)
                for path in target.rglob("*"):
                    assert not path.is_symlink()
                    assert path.is_dir() or path.read_text() == "my own"
        finally:
            over.set()
            swapping.join()

    def test_a_link_in_place_of_the_folder_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        (tmp_path / "sent").symlink_to(tmp_path / "there")
        with pytest.raises(OSError):
            Copy(file_bytes=1, all_bytes=1, entries=1, depth=1).folder(tmp_path / "sent", tmp_path / "got")
        assert not (tmp_path / "got").exists()

    def test_counts_what_it_copies_not_what_it_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "sent").mkdir()
        (tmp_path / "sent" / "a").write_bytes(b"0" * 600)
        (tmp_path / "sent" / "b").write_bytes(b"0" * 600)
        with pytest.raises(Refused):
            Copy(file_bytes=1000, all_bytes=1000, entries=9, depth=1).folder(
                tmp_path / "sent", tmp_path / "got"
            )


@pytest.mark.isolation
class TestCopiedByHand:
    @pytest.mark.parametrize("do", [link, folder_link, inner_link, fifo, device], ids=lambda do: do.__name__)
    def test_nothing_outside_reaches_what_is_graded_or_shown(
        self, room: Room, tmp_path: Path, do: Callable[[Path, Path], None]
    ) -> None:
        room.collect()
        do(room.got("eve"), tmp_path)
        api = classroom.classroom(room.course.root)
        with classroom.inside(room.course.root):
            answer = api.autograde(UNIT, "eve")
        assert answer["success"], answer
        assert "it has been removed" in answer["log"]
        classroom.write_feedback(room.course.root, UNIT)
        for made in ("autograded", "feedback"):
            for path in (room.course.root / made / "eve").rglob("*"):
                assert not path.is_symlink()
                assert path.is_dir() or SECRET not in path.read_text()
        assert classroom.scores(room.course.root, UNIT)["eve"] == 6.0

    def test_a_link_for_the_notebook_shows_nothing_of_what_it_leads_to(self, room: Room) -> None:
        room.collect()
        notebook = room.got("eve") / "mini.ipynb"
        notebook.unlink()
        notebook.symlink_to(room.course.solution(UNIT))
        api = classroom.classroom(room.course.root)
        with classroom.inside(room.course.root):
            api.autograde(UNIT, "eve")
        for path in (room.course.root / "autograded" / "eve").rglob("*.ipynb"):
            assert "BEGIN SOLUTION" not in path.read_text()
        assert (
            "eve" not in classroom.scores(room.course.root, UNIT)
            or not classroom.scores(room.course.root, UNIT)["eve"]
        )

    def test_a_fifo_for_the_notebook_hangs_nothing(self, room: Room) -> None:
        room.collect()
        notebook = room.got("eve") / "mini.ipynb"
        notebook.unlink()
        os.mkfifo(notebook)
        with pytest.raises(NotebookError, match="not a regular file"):
            read_untrusted(notebook)
        api = classroom.classroom(room.course.root)
        with classroom.inside(room.course.root):
            api.autograde(UNIT, "eve")
            assert api.autograde(UNIT, "ada")["success"]

    def test_what_cannot_be_removed_ends_the_grading(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "key").symlink_to("/etc/hostname")

        def refuse(path: str) -> None:
            raise PermissionError(1, "no", path)

        monkeypatch.setattr(os, "unlink", refuse)
        with pytest.raises(SystemExit, match="symbolic link; remove it"):
            sweep(notebooks=[str(tmp_path / "mini.ipynb")])
