"""The set-up holds together: pins, the two lists of them, the Makefile, the licences."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
GROUPS = {
    "run time": PROJECT["project"]["dependencies"],
    "development": PROJECT["dependency-groups"]["dev"],
    "build": PROJECT["build-system"]["requires"],
}
tools = runpy.run_path(str(ROOT / "tools" / "pins.py"))


def pin_lines() -> list[str]:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def pins() -> dict[str, Requirement]:
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, pin_lines())}


def version(pin: Requirement) -> str:
    (only,) = pin.specifier
    return only.version


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


class TestPins:
    def test_every_line_is_one_exact_version(self):
        for pin in map(Requirement, pin_lines()):
            assert [s.operator for s in pin.specifier] == ["=="], f"{pin} is not one exact version"
            assert Version(version(pin)).local is None, (
                f"{pin} has a local suffix, which ties it to one build"
            )

    def test_lines_are_sorted_and_unique(self):
        names = [canonicalize_name(Requirement(line).name) for line in pin_lines()]
        assert names == sorted(set(names))

    @pytest.mark.parametrize("group", GROUPS)
    def test_what_pyproject_asks_for_is_pinned_within_its_bounds(self, group):
        for wanted in map(Requirement, GROUPS[group]):
            pin = pins().get(canonicalize_name(wanted.name))
            assert pin is not None, f"{wanted.name} is not in constraints.txt: run `make pins`"
            assert wanted.specifier.contains(version(pin)), f"{pin} is outside of {wanted}: run `make pins`"

    def test_what_is_installed_is_what_is_pinned(self):
        pinned = {name: version(pin) for name, pin in pins().items()}
        others = {name: v for name, v in tools["installed"]().items() if pinned.get(name) != v}
        assert not others, (
            f"installed, but not at the pin: {others}; run `make setup`, or `make pins` to move the pins"
        )

    @pytest.mark.parametrize("python", ["3.11.2", "3.12.0", "3.13.0"])  # 3.11.2 is Debian 12's
    def test_pins_admit_every_python_we_promise(self, python):
        needs = {
            name: distribution(name).metadata.get("Requires-Python") or "" for name in tools["installed"]()
        }
        against = {name: spec for name, spec in needs.items() if not SpecifierSet(spec).contains(python)}
        assert not against, f"Python {python} cannot install {against}"

    def test_what_tensorflow_needs_besides_is_pinned_and_differs_only_where_it_must(self):
        text = (ROOT / "constraints-tensorflow.txt").read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        beside = {canonicalize_name(pin.name): pin for pin in map(Requirement, lines)}
        assert list(beside) == sorted(beside)
        assert len(beside) == len(lines)
        (wanted,) = map(Requirement, PROJECT["project"]["optional-dependencies"]["tensorflow"])
        assert wanted.specifier.contains(version(beside[canonicalize_name(wanted.name)]))
        assert beside.keys() & pins().keys() == {"h5py"}  # TensorFlow 2.21 asks for one below 3.15
        assert "tensorflow-cpu" not in pins()

    def test_conda_has_the_same_pins(self):
        environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
        (by_pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
        assert by_pip == ["--editable .", *pin_lines()]
        assert environment["channels"] == ["conda-forge"]
        minimum = PROJECT["project"]["requires-python"]
        assert any(str(entry).startswith(f"python{minimum}") for entry in environment["dependencies"])

    def test_no_requirement_names_a_host_or_a_path(self):
        kinds = (
            "*requirements*.txt",
            "*constraints*.txt",
            "environment*.yml",
            "*.toml",
            "Makefile",
            "*.sh",
            ".ci/*",
        )
        skipped = {
            ".venv",
            ".git",
            "my-work",
            "graders",
        }  # exercises.toml holds code, with matrix products in it
        files = {f for kind in kinds for f in ROOT.rglob(kind) if f.is_file()}
        files = {f for f in files if not skipped & set(f.relative_to(ROOT).parts)} | {
            ROOT / "tools" / "pins.py"
        }
        assert {ROOT / "constraints.txt", ROOT / "pyproject.toml", ROOT / "tools" / "setup.sh"} <= files
        for file in files:
            text = file.read_text(encoding="utf-8")
            found = re.findall(r"\S*://\S*|--trusted-host\S*|--find-links\S*|\S+ @ \S+", text)
            found = [f for f in found if not re.search(r"sqlite|\$@", f)]
            # A package's homepage is a link in docs/data.md.
            found = [f for f in found if f"homepage = {f}" not in text]
            assert not found, f"{file.relative_to(ROOT)} names {found}"


class TestMakefile:
    def test_make_alone_lists_every_target(self):
        done = subprocess.run(
            ["make", "-C", ROOT, "--no-print-directory"], capture_output=True, text=True, check=True
        )
        listed = set(re.findall(r"^  make (\S+) +\S", done.stdout, re.MULTILINE))
        assert listed == makefile_targets() - {"help"}

    @pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
    def test_targets_that_documents_show_exist(self, document):
        file = ROOT / document
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        code = "\n".join(
            re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL) + re.findall(r"`make [^`]*`", text)
        )
        shown = set(re.findall(r"\bmake ([a-z][\w-]*)(?![\w-]*=)", code))
        assert shown <= makefile_targets(), f"{document} shows make targets that do not exist"


class TestReadme:
    def test_the_readmes_path_has_the_units_that_are_complete_and_no_other(self) -> None:
        units = tomllib.loads((ROOT / "course.toml").read_text(encoding="utf-8"))["units"]
        path = (ROOT / "README.md").read_text(encoding="utf-8").split("## The path")[1].split("\n## ")[0]
        assert re.findall(r"\*\*(\d\d [^*]+)\*\*", path) == [
            f"{unit['name'][:2]} {unit['title']}" for unit in units
        ]


class TestSetup:
    """tools/setup.sh, in an empty copy: what it says where there is no Python to work with."""

    def fake(self, folder: Path, name: str, body: str) -> str:
        program = folder / name
        program.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        program.chmod(0o755)
        return str(program)

    def run(self, folder: Path, **environment: str) -> str:
        checkout = folder / "a check-out"
        (checkout / "tools").mkdir(parents=True)
        shutil.copy(ROOT / "tools" / "setup.sh", checkout / "tools")
        command = ["/bin/sh", str(checkout / "tools" / "setup.sh")]
        environment.setdefault("PATH", os.environ["PATH"])
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 2
        assert not done.stdout
        assert len(done.stderr.splitlines()) == 1
        assert not (checkout / ".venv").exists()
        return done.stderr

    def test_python_that_does_not_exist(self, tmp_path):
        assert "PYTHON=no-such-python is not a Python" in self.run(tmp_path, PYTHON="no-such-python")

    def test_python_that_is_too_old(self, tmp_path):
        old = self.fake(tmp_path, "old", 'case "$2" in *exit*) exit 1 ;; *print*) echo 3.10.13 ;; esac')
        assert "is Python 3.10.13; the course needs Python 3.11 or newer" in self.run(tmp_path, PYTHON=old)

    def test_python_without_venv(self, tmp_path):
        bare = self.fake(tmp_path, "bare", 'case "$2" in *ensurepip*) exit 1 ;; *print*) echo 3.11.2 ;; esac')
        assert "python3-venv" in self.run(tmp_path, PYTHON=bare)

    @pytest.mark.parametrize("seen", ["nothing", "3.9.2"])
    def test_no_python_at_all(self, tmp_path, seen):
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / "dirname").symlink_to(shutil.which("dirname"))
        if seen != "nothing":
            self.fake(programs, "python3", f'case "$2" in *exit*) exit 1 ;; *print*) echo {seen} ;; esac')
        said = self.run(tmp_path, PATH=str(programs))
        assert "no Python 3.11 or newer found" in said
        assert (seen in said) == (seen != "nothing")


class TestPackage:
    def test_licences_cover_code_and_text(self):
        assert PROJECT["project"]["license"] == "MIT AND CC-BY-4.0"
        assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
        assert "creativecommons.org/licenses/by/4.0/" in (ROOT / "LICENSE-lessons").read_text(
            encoding="utf-8"
        )

    def test_entry_points_are_installed_as_declared(self):
        declared = {"console_scripts": PROJECT["project"]["scripts"], **PROJECT["project"]["entry-points"]}
        entries = distribution(PROJECT["project"]["name"]).entry_points
        assert {g: {e.name: e.value for e in entries.select(group=g)} for g in declared} == declared

    def test_changelog_knows_the_version(self):
        assert PROJECT["project"]["version"] in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
