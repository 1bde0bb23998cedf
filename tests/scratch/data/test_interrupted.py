"""Killed at any moment, or beside another run: nothing half-made is ever seen, and the next run finishes the work."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from datashop import WORDS, Room, Shop
from scratch.data.cache import disk_use

WHEEL, SDIST = "tiny_words-1.0-py3-none-any.whl", "tiny_tweets-1.0.tar.gz"

# Before and after whatever changes the folder, a step is counted; at the step that is asked for, the process is killed.
STEPS = """
import os, pathlib, signal, datashop
from scratch.data import cache, download
at, last = 0, int(os.environ.get("KILLED_AT", 10**6))

def step():
    global at
    at += 1
    if at == last:
        os.kill(os.getpid(), signal.SIGKILL)

def stepped(owner, name):
    plain = getattr(owner, name)
    def wrapped(*args, **kwargs):
        step()
        result = plain(*args, **kwargs)
        step()
        return result
    setattr(owner, name, wrapped)

def fetch(package, work, progress):
    file = work / package.file
    half = len(FILES[package.file]) // 2
    file.write_bytes(FILES[package.file][:half])
    step()
    file.write_bytes(FILES[package.file])
    return file

FILES = {files!r}
download.fetch = fetch
for name in ("mkdir", "rename", "replace", "unlink", "write_bytes", "write_text"):
    stepped(pathlib.Path, name)
import atexit
atexit.register(lambda: print("steps", at))
"""


def seen(room: Room) -> list[bytes | None]:
    return [room.built(name) for name in ("words", "tweets")] if room.data.exists() else [None, None]


def steps(room: Room, shop: Shop) -> str:
    return STEPS.replace("{files!r}", repr(shop.files))


def test_killed_at_every_step_it_leaves_nothing_half_made(room: Room, shop: Shop) -> None:
    count = int(room.run(before=steps(room, shop)).stdout.split()[-1])
    assert count > 40
    for at in range(1, count + 1, 2):  # a step after something is the moment before the next
        for path in sorted(room.data.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        room.environment["KILLED_AT"] = str(at)
        killed = room.run(before=steps(room, shop))
        assert killed.returncode == -signal.SIGKILL
        assert all(
            found in (None, whole) for found, whole in zip(seen(room), (WORDS, b"hello"), strict=True)
        ), at
        del room.environment["KILLED_AT"]
        again = room.run(before=steps(room, shop))
        assert again.returncode == 0, (at, again)
        assert seen(room) == [WORDS, b"hello"], at
        assert room.left() == set(), at


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_within_a_download(how: signal.Signals, room: Room, shop: Shop) -> None:
    shop.seconds = 3
    # Whatever runs the tests in the background may ignore Ctrl-C, and its processes with it.
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    process = room.start("words", before=heard)
    deadline = time.monotonic() + 30
    while not shop.served and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(how)
    _, err = process.communicate(timeout=30)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert err == "data: stopped; what is finished is kept, run it again to go on\n"
    else:
        assert process.returncode == -how
    assert room.built("words") is None
    shop.seconds = 0
    room.done("words")
    assert room.built("words") == WORDS
    assert shop.served[WHEEL] == 2


def test_two_at_once_share_the_work(room: Room, shop: Shop) -> None:
    shop.seconds = 1
    runs = [room.start(), room.start()]
    said = [process.communicate(timeout=60) for process in runs]
    assert [process.returncode for process in runs] == [0, 0], said
    assert shop.served == {WHEEL: 1, SDIST: 1}
    assert sum("another run is at work" in out for out, _ in said) == 1
    assert seen(room) == [WORDS, b"hello"]
    assert room.left() == set()


def test_counting_bytes_does_not_mind_what_pip_removes_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "stays").write_bytes(b"12345")
    ended = threading.Event()

    def pip() -> None:
        while not ended.is_set():
            deep = tmp_path / "pip" / "unpacked" / "deep"
            deep.mkdir(parents=True)
            (deep / "file").touch()
            shutil.rmtree(tmp_path / "pip")

    thread = threading.Thread(target=pip)
    thread.start()
    try:
        assert {disk_use(tmp_path) for _ in range(2000)} == {5}
    finally:
        ended.set()
        thread.join()


def test_where_locks_do_nothing_two_at_once_still_do_no_harm(room: Room, shop: Shop) -> None:
    shop.seconds = 0.5
    unlocked = "import fcntl; fcntl.flock = lambda *a: None\nimport shutil; from scratch.data import cache"
    runs = [room.start(before=unlocked), room.start(before=unlocked)]
    for process in runs:
        process.communicate(timeout=60)
    room.done()
    assert seen(room) == [WORDS, b"hello"]


def test_what_an_interrupted_run_left_is_removed(room: Room) -> None:
    left = room.data / "unfinished" / "of last year"
    left.mkdir(parents=True)
    (left / "half a package").write_bytes(os.urandom(100))
    room.done("words")
    assert room.left() == set()
