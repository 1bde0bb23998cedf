"""Write down every version of the set-up: constraints.txt for pip, environment.yml for conda.

``make pins`` runs this in ``.venv``. It starts at what pyproject.toml asks for (run time, development, build), follows
the installed packages' own requirements, and pins each package it comes to at the installed version. What nothing needs
is therefore not pinned, and local suffixes (``+cpu``) are left off, so that any build of a version will do.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Every version of the set-up, run time and development. Written by `make pins`: do not edit.
# To move to newer versions: install them into .venv, run the tests, run `make pins`.
"""
CONDA = """\
# The pins of constraints.txt, for conda. Written by `make pins`: do not edit.
#   conda env create --file environment.yml && conda activate transformers-from-scratch
# On Linux, pip's default build of torch brings CUDA with it. For the small CPU build, set PIP_EXTRA_INDEX_URL to
# PyTorch's index of CPU builds for that one command.
name: transformers-from-scratch
channels:
  - conda-forge
dependencies:
  - python>=3.11,<3.14
  - pip
  - pip:
      - --editable .
"""
# Needed on other systems than the one that writes the pins.
ELSEWHERE = {"appnope": '0.1.4 ; sys_platform == "darwin"'}
# What a CUDA build of PyTorch brings along; it pins these itself.
CUDA = ("nvidia-", "cuda-", "triton")


def roots() -> list[str]:
    """The requirements that pyproject.toml states."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
        *project["build-system"]["requires"],
    ]


def installed() -> dict[str, str]:
    """Name and version of every installed package that the roots need, directly or not."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [Requirement(line) for line in roots()]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name.startswith(CUDA):
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"pins: {name} is not installed: run `make setup`") from None
        versions[name] = Version(package.version).public
        for extra in {"", *wanted.extras} - {e for n, e in seen if n == name}:
            seen.add((name, extra))
            needs = map(Requirement, package.requires or ())
            todo += [r for r in needs if r.marker is None or r.marker.evaluate({"extra": extra})]
    return versions


def pins() -> list[str]:
    """The lines of the pin list, sorted by name."""
    return [f"{name}=={version}" for name, version in sorted({**installed(), **ELSEWHERE}.items())]


def main() -> None:
    """Write both files."""
    lines = pins()
    (ROOT / "constraints.txt").write_text(HEADER + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    conda = "".join(f"      - {line}\n" for line in lines)
    (ROOT / "environment.yml").write_text(CONDA + conda, encoding="utf-8")
    print(f"pins: {len(lines)} versions in constraints.txt and environment.yml")


if __name__ == "__main__":
    main()
