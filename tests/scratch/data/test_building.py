"""`make data` on tiny packages: what it fetches, what it refuses, what it says, what it leaves."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest

from datashop import WORDS, Room, Shop, wheel
from scratch.data import building, cache
from scratch.data.progress import Reporter

WHEEL, SDIST = "tiny_words-1.0-py3-none-any.whl", "tiny_tweets-1.0.tar.gz"


def test_it_builds_all_and_runs_nothing_of_a_package(room: Room, shop: Shop) -> None:
    done = room.done()
    assert (room.built("words"), room.built("tweets")) == (WORDS, b"hello")
    assert not shop.trap.exists()
    assert room.left() == set()
    assert done.stderr == ""
    assert "ready in" in done.stdout
    assert shop.served == {WHEEL: 1, SDIST: 1}


def test_what_is_built_is_neither_fetched_nor_built_again(room: Room, shop: Shop) -> None:
    room.done()
    before = {path: path.stat().st_mtime_ns for path in room.data.rglob("*")}
    room.done()
    assert {path: path.stat().st_mtime_ns for path in room.data.rglob("*")} == before
    assert shop.served == {WHEEL: 1, SDIST: 1}


def test_it_works_without_a_network_once_all_is_built(room: Room, shop: Shop) -> None:
    room.done()
    shop.close()
    room.done()
    room.done("--offline")


def test_a_newer_builder_needs_no_download(room: Room, shop: Shop) -> None:
    room.done()
    room.toml.write_text(room.toml.read_text().replace("build = 1", "build = 2"))
    room.done("--offline")
    assert room.built("words") == WORDS
    assert shop.served == {WHEEL: 1, SDIST: 1}


def test_one_name_builds_one_set(room: Room, shop: Shop) -> None:
    room.done("tweets")
    assert shop.served == {SDIST: 1}
    assert room.built("words") is None


def test_after_a_failure_it_goes_on_where_it_was(room: Room, shop: Shop) -> None:
    shop.files[SDIST] = b"another file"
    room.refused()
    assert room.built("words") == WORDS
    shop.files = dict(shop.true)
    room.done()
    assert room.built("tweets") == b"hello"
    assert shop.served[WHEEL] == 1


def test_packages_are_kept_where_that_is_asked(room: Room, shop: Shop) -> None:
    room.done("--keep")
    assert {path.name: path.read_bytes() for path in (room.data / "packages").iterdir()} == shop.true
    for folder in (*room.data.glob("words-*"), room.data / "sources"):
        shutil.rmtree(folder)
    room.done("--offline")
    assert {path.name: path.read_bytes() for path in (room.data / "packages").iterdir()} == shop.true


def test_offline_says_what_is_missing(room: Room, shop: Shop) -> None:
    line = room.refused("--offline")
    assert "tiny_words 1.0" in line
    assert "without --offline" in line
    assert not shop.served


@pytest.mark.parametrize("file", [WHEEL, SDIST])
def test_a_wrong_hash_is_one_line_and_leaves_nothing(file: str, room: Room, shop: Shop) -> None:
    shop.files[file] = (
        wheel("tiny_words", {"tiny_words/words.txt": b"evil"}) if file == WHEEL else b"\x1f\x8bevil"
    )
    line = room.refused("words" if file == WHEEL else "tweets")
    assert file in line
    assert "wrong hash: sha256" in line
    assert "Run it again" in line
    assert room.left() == set()
    assert room.built("words") is None
    assert not shop.trap.exists()


@pytest.mark.parametrize("file", [WHEEL, SDIST])
def test_a_download_that_breaks_off_is_one_line_and_leaves_nothing(file: str, room: Room, shop: Shop) -> None:
    shop.cut = 40
    line = room.refused("words" if file == WHEEL else "tweets")
    assert file in line
    assert "broke off" in line or "wrong hash" in line
    assert room.left() == set()
    shop.cut = 0
    room.done()


def test_no_network_is_one_line(room: Room, shop: Shop) -> None:
    shop.close()
    assert "reaches no package index" in room.refused()
    assert room.left() == set()


def test_an_index_without_the_package_is_one_line(room: Room, shop: Shop) -> None:
    del shop.files[WHEEL]
    assert "not at the package index" in room.refused()


def test_an_environment_without_pip_is_one_line(room: Room) -> None:
    before = (
        "import sys, scratch.data.download as d; d._run = lambda *a: sys.executable + ': No module named pip'"
    )
    assert "has no pip" in room.refused(before=before)


def test_a_package_that_lacks_a_member_is_one_line(room: Room) -> None:
    room.toml.write_text(room.toml.read_text().replace("tiny_words/*.txt", "tiny_words/*.json"))
    assert "holds no tiny_words/*.json" in room.refused()
    assert room.built("words") is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["wrds"], "did you mean 'words'?"),
        (["tweets", "tweeets"], "did you mean 'tweets'?"),
        (["zzzzzz"], "there are words, tweets"),
        (["--ofline"], "unrecognized arguments: --ofline"),
        (["--list", "--check"], "not allowed with"),
    ],
)
def test_wrong_use_is_one_line_and_ends_with_2(given: list[str], said: str, room: Room, shop: Shop) -> None:
    assert said in room.refused(*given, code=2)
    assert not shop.served
    assert not room.data.exists()


def test_list_says_what_is_built(room: Room) -> None:
    room.done("words")
    lines = room.run("--list").stdout.splitlines()
    (words,) = (line for line in lines if line.startswith("words"))
    (tweets,) = (line for line in lines if line.startswith("tweets"))
    assert words.rstrip().endswith("MB")
    assert tweets.rstrip().endswith("no")
    assert str(room.data) in lines[-1]


def test_check_finds_a_changed_file_and_the_next_run_a_lost_one(room: Room) -> None:
    room.done()
    room.done("--check")
    file = room.data / room.manifest.sets["words"].key / "all.txt"
    file.write_bytes(WORDS.upper())  # the same size
    done = room.run("--check")
    assert done.returncode == 1
    assert "words: damaged (all.txt)" in done.stdout
    assert "tweets: every file is what was built" in done.stdout
    file.unlink()
    room.done("--offline")
    assert room.built("words") == WORDS


def test_check_says_what_is_not_built(room: Room) -> None:
    done = room.run("--check", "words")
    assert done.returncode == 1
    assert "words: not built: run `make data`" in done.stdout


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"files": 3}', '{"files": {"all.txt": {}}}'])
def test_a_damaged_list_of_files_is_mended(damage: str, room: Room) -> None:
    room.done("words")
    (room.data / room.manifest.sets["words"].key / "provenance.json").write_text(damage)
    room.done("words", "--offline")
    assert room.built("words") == WORDS


def test_damaged_sources_are_fetched_again(room: Room, shop: Shop) -> None:
    room.done("words")
    (source,) = (room.data / "sources").iterdir()
    source.write_bytes(source.read_bytes()[:-30])
    room.toml.write_text(room.toml.read_text().replace("build = 1", "build = 2"))
    room.done("words")
    assert shop.served[WHEEL] == 2


def test_a_package_that_lies_there_changed_is_fetched_again(room: Room, shop: Shop) -> None:
    (room.data / "downloads").mkdir(parents=True)
    (room.data / "downloads" / WHEEL).write_bytes(b"half of it")
    room.done("words")
    assert room.built("words") == WORDS
    assert shop.served[WHEEL] == 1


def test_a_package_that_lies_there_whole_is_not_fetched(room: Room, shop: Shop) -> None:
    (room.data / "downloads").mkdir(parents=True)
    (room.data / "downloads" / WHEEL).write_bytes(shop.files[WHEEL])
    room.done("words", "--offline")
    assert not shop.served


def test_provenance_says_what_a_set_is_made_of(room: Room) -> None:
    room.done("words")
    listed = json.loads((room.data / room.manifest.sets["words"].key / "provenance.json").read_text())
    (package,) = room.manifest.sets["words"].packages
    expected = {"name": "tiny_words", "version": "1.0", "sha256": package.sha256, "licence": "MIT"}
    assert listed["packages"] == [expected]
    assert listed["counts"] == {"bytes": len(WORDS)}
    assert set(listed["files"]) == {"all.txt"}


def test_a_folder_that_is_a_file_is_one_line(room: Room) -> None:
    room.data.write_text("I was here first")
    assert "SCRATCH_DATA" in room.refused()
    assert room.data.read_text() == "I was here first"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_folder_that_cannot_be_written_is_one_line(number: int, room: Room) -> None:
    before = f"""
import os, pathlib
def refuse(path, *args, **kwargs): raise OSError({number}, os.strerror({number}), str(path))
pathlib.Path.mkdir = refuse
"""
    line = room.refused(before=before)
    assert "cannot be written" in line
    assert "SCRATCH_DATA=" in line


def test_a_full_disk_is_one_line_and_leaves_nothing(room: Room) -> None:
    before = """
import datashop, os, errno
def build(sources, to):
    (to / "all.txt").write_bytes(b"some")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
"""
    line = room.refused("words", before=before)
    assert "no room is left" in line
    assert room.built("words") is None
    assert room.left() == set()
    assert room.run("words", "--offline").returncode == 0  # the download was kept


def test_a_full_disk_under_pip_is_one_line(room: Room, shop: Shop) -> None:
    shop.files[WHEEL] = shop.true[WHEEL] = wheel(
        "tiny_words", {"tiny_words/words.txt": bytes(range(256)) * 4000}
    )
    room.toml.write_text(shop.manifest(), "utf-8")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    assert "no room" in room.refused("words", before=limit)
    assert room.left() == set()
    room.done("words")


def test_what_is_built_can_be_used_where_nothing_can_be_written(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.done()

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(cache, "alone", refuse)
    building.build(list(room.manifest.sets.values()), Reporter())


def test_a_set_that_is_not_built_is_one_error_that_says_make_data(room: Room) -> None:
    with pytest.raises(cache.NotBuilt, match=r"'plays' are not built in .*: run `make data`") as error:
        cache.read("plays", "plays.json")
    assert "\n" not in str(error.value)
