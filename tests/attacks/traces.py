"""What is planted for attacks to find, and what is looked for after them: files, processes, connections."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from minicourse import UNIT

SHARED = [Path(name) for name in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/run/lock", "/", "/root")]


@contextlib.contextmanager
def servers(marker: str) -> Iterator[tuple[int, list[int]]]:
    """Listen on the loopback and on an abstract socket; count who comes."""
    calls = [0]
    listening = [socket.create_server(("127.0.0.1", 0))]
    if sys.platform == "linux":
        listening.append(socket.socket(socket.AF_UNIX))
        listening[1].bind(f"\0{marker}")
        listening[1].listen()
    done = threading.Event()

    def serve(server: socket.socket) -> None:
        while not done.is_set():
            with contextlib.suppress(OSError):
                caller, _ = server.accept()
                calls[0] += not done.is_set()
                caller.close()

    threads = [threading.Thread(target=serve, args=(server,), daemon=True) for server in listening]
    for thread in threads:
        thread.start()
    try:
        yield listening[0].getsockname()[1], calls
    finally:
        done.set()
        for server, thread in zip(listening, threads, strict=True):
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            server.close()


def plant(course: Path, home: Path, canary: str) -> None:
    """Put the canary where a grader has secrets."""
    from nbgrader.api import Gradebook

    home.mkdir()
    for path in (
        home / ".netrc",
        home / "id_rsa",
        course / "roster.csv",
        course / "graders" / UNIT / "private.txt",
    ):
        path.write_text(f"{canary}\n")
    solution = course / "solutions" / UNIT / "mini.ipynb"
    solution.write_text(solution.read_text().replace("# Mini", f"# Mini {canary}"))
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        gradebook.add_student("zoe", last_name=canary)
        gradebook.db.commit()


def snapshot(course: Path, home: Path) -> dict[str, str]:
    """What must not change while a class is graded."""
    found = {}
    rooms = [
        course / name for name in ("solutions", "graders", "exercises", "course.toml", "nbgrader_config.py")
    ]
    rooms += [course / ".proctor" / "course.key", course / "submitted", home]
    for room in rooms:
        for path in [room, *room.rglob("*")] if room.is_dir() else [room]:
            if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
                found[str(path.relative_to(course.parent))] = hashlib.sha256(path.read_bytes()).hexdigest()
    allowed = re.compile(r"home/\.(cache|config|local|jupyter|ipython|matplotlib)/|course/\.proctor/")
    return {name: digest for name, digest in found.items() if not allowed.match(name)}


def _places(folder: Path) -> Iterator[Path]:
    """Paths in which an attack may have left something of its own."""
    for top in (*SHARED, Path(sysconfig.get_path("purelib"))):
        with contextlib.suppress(OSError):
            yield from top.iterdir()
    skip = {"submitted", "stopped"}
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in skip]
        yield from (Path(top, name) for name in (*folders, *names))


def _processes() -> Iterator[tuple[psutil.Process, str]]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE:
                told = [process.name(), *process.cmdline()]
                with contextlib.suppress(psutil.Error, OSError):
                    told += [f"{name}={value}" for name, value in process.environ().items()]
                yield process, "\0".join(told)


def what_is_left(folder: Path) -> list[tuple[str, str]]:
    """Every file and process that could be an attack's: what may carry its marker, and what to call it."""
    found = [(path.name, str(path)) for path in _places(folder)]
    return found + [(told, f"process {process.pid}") for process, told in _processes()]


def clear(token: str, folder: Path) -> None:
    """Take away what attacks have left. Every name and process carries the token of this very batch."""
    for path in [path for path in _places(folder) if token in path.name]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for process, told in _processes():
        if token in told and process.pid != os.getpid():
            with contextlib.suppress(psutil.Error):
                process.kill()


def namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
