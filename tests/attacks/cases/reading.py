"""What is not theirs: files, the environment, other processes, the network. The answers are right, so 10 is fair."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from attacks.cases import TOOLS
from attacks.model import RIGHT, Attack, Site

READ = (
    TOOLS
    + """
def read(path):
    with open(path, "rb") as file:
        got = file.read(2_000_000).decode("utf-8", "replace")
    if "CANARY" in got: print(got[max(0, got.index("CANARY") - 40):][:200])
    return len(got)
"""
)
FILES = (
    "«course»/solutions/01_mini/mini.ipynb", "«course»/graders/01_mini/test_mini.py",
    "«course»/graders/01_mini/private.txt", "«course»/.proctor/course.key", "«course»/gradebook.db",
    "«course»/roster.csv", "«course»/course.toml", "«other»", "«home»/.netrc", "«home»/id_rsa",
    "/etc/shadow", "/proc/1/environ", "/root/.bashrc",
)  # fmt: skip
LEAK_BY_ANSWER = """
def stolen():
    for path in ("«course»/roster.csv", "«home»/.netrc", "«other»"):
        try:
            return open(path).read()[:3000]
        except OSError as error:
            found = str(error)
    return "nothing"
"""
ENVIRONMENTS = """
import glob
for path in glob.glob("/proc/[0-9]*/environ") + ["/proc/self/environ"]:
    attempt(read, path)
if "CANARY_TOKEN" in os.environ: print(os.environ["CANARY_TOKEN"])
others = [path for path in glob.glob("/proc/[0-9]*/cmdline") if "grading.py" in (attempt(open, path).read() if
          not isinstance(attempt(open, path), BaseException) else "")]
if others: breach("it sees the process that grades", others)
print("looked at", len(glob.glob("/proc/[0-9]*")), "processes")
"""
MEMORY = """
import re
for pid in {os.getppid(), *(int(name) for name in os.listdir("/proc") if name.isdigit())} - {os.getpid(), 0}:
    command = attempt(read, f"/proc/{pid}/cmdline")
    memory = attempt(open, f"/proc/{pid}/mem", "rb", 0)
    maps = attempt(lambda: open(f"/proc/{pid}/maps").read())
    if isinstance(memory, BaseException) or isinstance(maps, BaseException): continue
    named = attempt(lambda: open(f"/proc/{pid}/cmdline").read())
    if "proctor" not in named and "grading.py" not in named: continue  # nobody else's, on a machine that many use
    start = next((line for line in maps.splitlines() if "[heap]" in line), "0-0").split("-")[0]
    def peek():
        memory.seek(int(start, 16))
        return memory.read(64)
    if not isinstance(attempt(peek), BaseException): breach("it reads the memory of", pid, named)
print("done")
"""
PTRACE = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
parent = os.getppid()
named = attempt(lambda: open(f"/proc/{parent}/cmdline").read())
if parent > 0 and (INSIDE or "proctor.worker" in str(named)):
    if libc.ptrace(16, parent, 0, 0) == 0:  # PTRACE_ATTACH
        attempt(os.waitpid, parent, 0x40000000)
        libc.ptrace(17, parent, 0, 0)  # PTRACE_DETACH
        breach("it traces its parent")
print("done")
"""
NETWORK = """
import socket
def reach(family, kind, address):
    with socket.socket(family, kind) as one:
        one.settimeout(1)
        one.connect(address)
        if kind == socket.SOCK_STREAM: one.sendall(b"hello")
succeeds("the loopback", reach, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", int("«port»")))
succeeds("an abstract socket", reach, socket.AF_UNIX, socket.SOCK_STREAM, chr(0) + "«marker»"[:9])
for path in ("/var/run/docker.sock", "/run/dbus/system_bus_socket", "/run/systemd/private"):
    succeeds(path, reach, socket.AF_UNIX, socket.SOCK_STREAM, path)
index = attempt(socket.if_nameindex)
names = [] if isinstance(index, BaseException) else [name for _, name in index]
if set(names) - {"lo"}: breach("it has a network", names)
print("tried")
"""
LOOK = """
import proctor
from pathlib import Path
ways = [Path(path).parts for path in (sys.prefix, sys.base_prefix, proctor.__file__)]  # to Python, which it needs
for top in ("«course»", "«course»/submitted", "«home»", "/root", "/home", "/tmp", "/work", "/var/lib", "/mnt", "/srv"):
    names = attempt(os.listdir, top)
    if isinstance(names, BaseException): continue
    depth = len(Path(top).parts)
    known = {parts[depth] for parts in ways if parts[:depth] == Path(top).parts}
    known.add(os.path.basename(os.environ["HOME"]))
    if set(names) - known: breach("it lists", top, sorted(set(names) - known)[:5])
print("listed")
"""


def _link_to(target: str) -> object:
    def place(folder: Path, site: Site) -> None:
        (folder / "mini.ipynb").unlink()
        (folder / "mini.ipynb").symlink_to(site.fill(target))

    return place


def _links_beside(folder: Path, site: Site) -> None:
    (folder / "data.csv").symlink_to(site.course / "roster.csv")
    (folder / "more").symlink_to(site.home)
    (folder / "again").symlink_to(".")
    (folder / "gone").symlink_to("nowhere")
    (folder / "figure.png").symlink_to(site.course / "gradebook.db")


def _hard_link(folder: Path, site: Site) -> None:
    os.link(
        site.home / "id_rsa", folder / "notes.txt"
    )  # a student's own account cannot, where links are protected


def _linked_folder(folder: Path, site: Site) -> None:
    aside = folder.parent.parent.parent / f"{site.marker}-elsewhere"
    shutil.move(folder, aside / "x")
    (aside / "x" / "roster.csv").symlink_to(site.course / "roster.csv")
    folder.symlink_to(aside / "x")


ATTACKS = (
    Attack(
        name="files",
        why="the source notebook, the checks, the key, gradebook.db, other submissions, the home folder",
        cells=(READ + f"for path in {FILES!r}:\n    succeeds('it reads ' + path, read, path)",),
        answers=RIGHT,
        score=10,
        walls=True,
    ),
    Attack(
        name="files-by-answer",
        why="the same, told by what an answer returns and raises",
        cells=(LEAK_BY_ANSWER,),
        answers={
            "double": "def double(x):\n    return stolen()",
            "norm": "def norm(x):\n    raise ValueError(stolen())",
        },
        walls=True,
    ),
    Attack(
        name="folders",
        why="the names of other students, and of what else lies there",
        cells=(TOOLS + LOOK,),
        answers=RIGHT,
        score=10,
        proof="listed",
        walls=True,
    ),
    Attack(
        name="environment",
        why="the environment's secrets, of itself and of every process that it can see",
        cells=(READ + ENVIRONMENTS,),
        answers=RIGHT,
        score=10,
        proof="looked at",
        walls=True,
    ),
    Attack(
        name="memory",
        why="the memory of the processes that grade",
        cells=(READ + MEMORY,),
        answers=RIGHT,
        score=10,
        proof="done",
        walls=True,
    ),
    Attack(
        name="ptrace",
        why="its parent, traced",
        cells=(TOOLS + PTRACE,),
        answers=RIGHT,
        score=10,
        proof="done",
        walls=True,
    ),
    Attack(
        name="network",
        why="the network, loopback included",
        cells=(TOOLS + NETWORK,),
        answers=RIGHT,
        score=10,
        proof="tried",
        walls=True,
    ),
    Attack(
        name="link-instead",
        why="a symlink to a file outside, in place of the notebook",
        place=_link_to("«course»/solutions/01_mini/mini.ipynb"),
        person=True,
    ),
    Attack(
        name="link-to-another",
        why="a symlink to somebody else's submission",
        place=_link_to("«other»"),
        person=True,
    ),
    Attack(
        name="links-beside",
        why="symlinks to files and folders outside, beside the notebook",
        place=_links_beside,
        answers=RIGHT,
        score=10,
    ),
)
