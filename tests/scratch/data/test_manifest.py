"""The manifest is whole and pinned, and the page of the documentation says what it says."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from importlib.metadata import distribution
from pathlib import Path

import pytest

from scratch.data import building, cache
from scratch.data.command import main
from scratch.data.manifest import PATH, DataSet, Manifest, Package, manifest
from scratch.data.provenance import page

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = [package for data in manifest().sets.values() for package in data.packages]


def test_the_page_of_the_documentation_is_the_manifests() -> None:
    written = (ROOT / "docs" / "data.md").read_text("utf-8")
    assert written == page(manifest()), "docs/data.md is not in step: run `make sync`"


def test_the_page_names_every_package_with_its_hash_and_licence() -> None:
    text = page(manifest())
    for package in PACKAGES:
        for part in (
            package.name,
            package.version,
            package.file,
            package.sha256,
            package.licence,
            package.used,
        ):
            assert part in text
    for entry in manifest().installed:
        assert f"| [{entry.name}]({entry.homepage}) | {entry.licence} | {entry.used} |" in text


def test_the_command_writes_the_page_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "data.md"
    assert main(["--table", str(file)]) == 0
    assert file.read_text("utf-8") == page(manifest())
    assert "written anew" in capsys.readouterr().out
    assert main(["--table", str(file)]) == 0
    assert capsys.readouterr().out == ""
    assert main(["--table", str(tmp_path / "nowhere" / "data.md")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_a_package_is_pinned_to_one_file(package: Package) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", package.sha256)
    assert package.size > 0
    assert package.homepage.startswith("https://")
    assert package.licence
    stem = package.file.replace("-", "_").lower()
    assert stem.startswith(f"{package.name}_{package.version}".replace("-", "_").lower())
    assert package.file.endswith((".whl", ".tar.gz"))
    assert "/" not in package.file


def test_names_and_files_are_unique() -> None:
    assert (
        len({package.file for package in PACKAGES})
        == len({package.key for package in PACKAGES})
        == len(PACKAGES)
    )
    keys = [data.key for data in manifest().sets.values()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", manifest().sets)
def test_every_set_has_a_builder(name: str) -> None:
    assert callable(building.builder(name))


@pytest.mark.parametrize(
    "entry", [e for e in manifest().installed if e.name != "Python"], ids=lambda e: e.name
)
def test_what_is_read_where_it_is_installed_is_installed_and_pinned(entry) -> None:
    pins = (ROOT / "constraints.txt").read_text("utf-8").lower()
    assert f"\n{entry.name.lower()}=={distribution(entry.name).version}\n" in pins


def test_the_key_of_a_set_follows_all_that_it_is_made_of() -> None:
    data = manifest().sets["plays"]
    (package,) = data.packages
    others = [
        dataclasses.replace(data, build=data.build + 1),
        *(
            dataclasses.replace(data, packages=(dataclasses.replace(package, **change),))
            for change in ({"version": "9"}, {"sha256": "0" * 64}, {"members": ("*",)})
        ),
    ]
    assert len({data.key, *(other.key for other in others)}) == 5
    assert dataclasses.replace(data, what="said otherwise", units=("99",)).key == data.key


def test_a_manifest_with_a_field_too_many_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "manifest.toml"
    file.write_text(PATH.read_text("utf-8").replace("licence =", "license =", 1), "utf-8")
    with pytest.raises(TypeError, match="license"):
        Manifest.read(file)


def _is_built(data: DataSet) -> bool:
    kept = [cache.root() / "sources" / f"{package.key}.zip" for package in data.packages]
    return cache.is_whole(data) and all(file.is_file() for file in kept)


@pytest.mark.parametrize("name", [name for name, data in manifest().sets.items() if not data.verbatim])
def test_what_is_built_is_what_the_builder_builds_today(name: str, tmp_path: Path) -> None:
    """Otherwise the builder was changed, and `build` in the manifest was not raised."""
    from scratch.data.archive import read_archive

    data = manifest().sets[name]
    if not _is_built(data):
        pytest.skip(f"'{name}' is not built on this machine: `make data`")
    sources = {p.name: read_archive(cache.root() / "sources" / f"{p.key}.zip") for p in data.packages}
    counts = building.builder(name)(sources, tmp_path)
    assert counts == cache.counts(data)
    for file in tmp_path.iterdir():
        again, before = (
            hashlib.sha256(p.read_bytes()).hexdigest() for p in (file, cache.folder(data) / file.name)
        )
        assert again == before, f"raise `build` of '{name}' in manifest.toml, and run `make data`"
