"""Archives are read, never trusted: whatever their names and sizes claim, only plain bytes of plain files come out."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datashop import tar, wheel
from scratch.data.archive import read_archive, write_archive
from scratch.data.cache import DataError
from scratch.data.unpack import members

NO_HONEST = "in a form that no honest package has"


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two members of one name
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def tarred(*entries: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    return file.getvalue()


def linked(kind: bytes, target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo("a/b.txt")
    entry.type, entry.linkname = kind, target
    return entry


def test_only_what_is_named_is_read() -> None:
    archive = wheel("p", {"p/a.txt": b"a", "p/b/c.txt": b"c", "p/b/d/e.txt": b"e", "p/a.py": b"code"})
    assert members(archive, ["p/*.txt"], "p") == {"p/a.txt": b"a"}
    assert members(archive, ["p/*/*.txt"], "p") == {"p/b/c.txt": b"c"}
    assert set(members(archive, ["p/**/*.txt"], "p")) == {"p/a.txt", "p/b/c.txt", "p/b/d/e.txt"}
    assert set(members(archive, ["p/a.txt", "p/**/e.txt"], "p")) == {"p/a.txt", "p/b/d/e.txt"}


def test_an_archive_in_an_archive_is_entered() -> None:
    inner = tar({"x/1.txt": b"one", "x/2.txt": b"two", "x/3.csv": b"three"})
    archive = tar({"p/inner.tar.gz": inner, "p/4.txt": b"four"})
    found = members(archive, ["p/inner.tar.gz!x/1.txt", "p/4.txt"], "p")
    assert found == {"p/inner.tar.gz!x/1.txt": b"one", "p/4.txt": b"four"}
    with pytest.raises(DataError, match=r"in it inner\.tar\.gz, holds no x/\*\.json"):
        members(archive, ["p/inner.tar.gz!x/*.json"], "p")


@pytest.mark.parametrize(
    "name",
    [
        "a/../b.txt",
        "../a/b.txt",
        "a/./b.txt",
        "/a/b.txt",
        "a//b.txt",
        "a/b\\..\\c.txt",
        "C:/a/b.txt",
        "a/\nb.txt",
    ],
)
def test_a_name_that_would_lead_elsewhere_is_refused(name: str) -> None:
    for archive in (zipped((name, b"evil")), tar({name: b"evil"})):
        with pytest.raises(DataError, match=f"{NO_HONEST}|holds no"):
            members(archive, ["**/*.txt"], "p")


def test_links_and_devices_are_refused() -> None:
    link = zipfile.ZipInfo("a/b.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for archive in (
        zipped((link, b"/etc/passwd")),
        *(
            tarred(linked(kind, "/etc/passwd"))
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
        ),
    ):
        with pytest.raises(DataError, match=NO_HONEST):
            members(archive, ["a/*.txt"], "p")


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match=NO_HONEST):
        members(zipped(("a.txt", b"seen"), ("a.txt", b"used")), ["a.txt"], "p")


@pytest.mark.parametrize("make", [lambda n: zipped(("a.txt", bytes(n))), lambda n: tar({"a.txt": bytes(n)})])
def test_a_bomb_is_refused_before_it_fills_the_memory(make) -> None:
    assert len(members(make(100_000), ["a.txt"], "p", most=200_000)["a.txt"]) == 100_000
    with pytest.raises(DataError, match="unpacks to"):
        members(make(3_000_000), ["a.txt"], "p", most=200_000)


def test_a_bomb_in_what_is_not_read_is_refused_too() -> None:
    with pytest.raises(DataError, match="unpacks to"):
        members(tar({"bomb": bytes(3_000_000), "a.txt": b"a"}), ["a.txt"], "p", most=200_000)


def test_all_members_together_and_inner_archives_share_one_limit() -> None:
    three = {f"{i}.txt": bytes(1000) for i in range(3)}
    assert len(members(zipped(*three.items()), ["*.txt"], "p", most=3000)) == 3
    with pytest.raises(DataError, match="unpacks to"):
        members(zipped(*three.items()), ["*.txt"], "p", most=2999)
    with pytest.raises(DataError, match="unpacks to"):
        members(zipped(("in.zip", zipped(("a.txt", bytes(50_000))))), ["in.zip!a.txt"], "p", most=40_000)


def test_a_size_that_is_a_lie_is_found_out() -> None:
    data = bytearray(zipped(("a.txt", b"x" * 1000)))
    at = data.rindex(b"PK\x01\x02") + 24
    data[at : at + 4] = (10).to_bytes(4, "little")  # "unpacks to ten bytes"
    with pytest.raises(DataError, match="broken"):
        members(bytes(data), ["a.txt"], "p")


def test_too_many_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scratch.data.unpack.MOST_MEMBERS", 3)
    four = {f"{i}.txt": b"" for i in range(4)}
    for archive in (zipped(*four.items()), tar(four)):
        with pytest.raises(DataError, match="more than 3 members"):
            members(archive, ["0.txt"], "p")


def test_what_needs_a_password_is_refused() -> None:
    data = bytearray(zipped(("a.txt", b"x")))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    with pytest.raises(DataError, match="broken"):
        members(bytes(data), ["a.txt"], "p")


def test_a_missing_member_is_named() -> None:
    with pytest.raises(DataError, match=r"a wheel holds no p/\*\.json"):
        members(wheel("p", {"p/a.txt": b"a"}), ["p/a.txt", "p/*.json"], "a wheel")


@given(
    cut=st.integers(0, 400),
    at=st.integers(0, 400),
    bit=st.integers(0, 7),
    form=st.sampled_from(["zip", "tar"]),
)
def test_a_damaged_archive_is_an_error_of_ours_or_gives_what_was_in_it(
    cut: int, at: int, bit: int, form: str
) -> None:
    content = {"a/b.txt": b"to be or not to be", "a/c.txt": b"that is the question"}
    whole = zipped(*content.items()) if form == "zip" else tar(content)
    data = bytearray(whole[: len(whole) - cut] if cut < len(whole) else b"")
    if at < len(data):
        data[at] ^= 1 << bit
    try:
        found = members(bytes(data), ["a/*.txt"], "p")
    except DataError:
        pass
    else:
        assert all(name in content or name.startswith("a/") for name in found)
        if form == "zip":  # a zip file carries sums of what is in it
            assert all(found[name] == content[name] for name in found if name in content)


@given(st.binary(max_size=200))
def test_garbage_is_an_error_of_ours(data: bytes) -> None:
    for garbage in (data, gzip.compress(data), b"PK\x03\x04" + data):
        with pytest.raises(DataError):
            members(garbage, ["**/*.txt"], "p")


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}\.txt", fullmatch=True),
        st.binary(max_size=60),
        max_size=5,
    )
)
def test_what_is_kept_of_a_package_comes_back_and_depends_on_nothing_else(kept: dict[str, bytes]) -> None:
    written = write_archive(kept)
    assert written == write_archive(dict(reversed(kept.items())))
    assert read_archive(io.BytesIO(written)) == kept


def test_a_damaged_archive_of_ours_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kept.zip"
    path.write_bytes(write_archive({"a.txt": b"a" * 100})[:-10])
    with pytest.raises(DataError, match=r"kept\.zip is damaged"):
        read_archive(path)
