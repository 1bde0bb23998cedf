"""What a submission can see and do at each level of isolation that this machine offers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proctor import walls
from proctor.course import CourseError
from proctor.remote import Remote, Student
from proctor.sandbox import Limits, Sandbox, SandboxError
from proctor.session import Session
from proctor.trouble import StudentGone
from proctor.walls import Level

ROOT = Path(__file__).parents[2]
LIMITS = Limits(
    cell_seconds=20, call_seconds=15, total_seconds=90, memory=2 << 30, file=8 << 20, processes=40
)
HIDDEN = {"scratch.attention": "You write this one."}
INNER = [Level.BUBBLEWRAP, Level.NAMESPACES]


def offered(level: Level) -> Level:
    if walls.obstacle(level):
        pytest.skip(f"this machine does not offer {level.name}: {walls.obstacle(level)}")
    return level


@pytest.fixture(scope="module", params=[*INNER, Level.LANDLOCK], ids=lambda level: level.name.lower())
def behind(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A warm sandbox at each isolated level."""
    with Sandbox(LIMITS, level=offered(request.param), hidden=HIDDEN) as sandbox:
        yield sandbox


@pytest.fixture
def inside(behind: Sandbox) -> Sandbox:
    """A warm sandbox at a level with namespaces."""
    if not behind.level.inner:
        pytest.skip("namespaces only")
    return behind


def answers(sandbox: Sandbox, source: str) -> dict[str, Any]:
    """The variables that a cell leaves, as plain data."""
    with sandbox.submission() as submission:
        remote = Remote(submission.connection, 15.0, 60.0)
        source = f"""
before = set(globals())
{source}
def told():
    skipped = before | {{"before", "told"}}
    return {{name: value for name, value in globals().items()
            if name not in skipped and not name.startswith("_") and isinstance(value, (str, int, list, dict, bool))}}
"""
        result = remote.run(source, 20.0)
        assert result["error"] is None, result["error"]
        return Student(remote).told()


TRY = """
import os
def reach(path):
    try:
        if os.path.isdir(path):
            return os.listdir(path)
        with open(path, "rb") as file:
            return file.read(100).decode("latin-1")
    except OSError as error:
        return type(error).__name__
"""
REFUSED = {"FileNotFoundError", "PermissionError", "NotADirectoryError"}


def test_nothing_of_the_course_and_of_homes_can_be_read(behind: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("canary")
    paths = [
        *(str(ROOT / name) for name in ("solutions", "graders", "course.toml", ".git", "tests", "Makefile")),
        str(secret), str(Path.home()), "/home", "/var", "/srv", "/opt", "/mnt", "/sys/kernel", "/etc/passwd",
        "/etc/shadow", "/etc/hostname", str(ROOT / "src" / "scratch" / "attention.py"),
    ]  # fmt: skip
    told = answers(behind, TRY + f"found = {{path: reach(path) for path in {paths}}}")
    # On the way to Python itself there may be folders, with nothing in them but that way.
    ways = {str(parent) for _, path in walls.readable() for parent in (path, *path.parents)}
    for path, found in told["found"].items():
        if path in ways and isinstance(found, list):
            assert all(str(Path(path, name)) in ways for name in found), path
        else:
            assert found in REFUSED, (path, found)


def test_the_environment_can_be_read_and_not_written(behind: Sandbox) -> None:
    source = f"""
import os, sys, torch
def write(path):
    try:
        with open(path, "w") as file:
            file.write("x")
    except OSError as error:
        return type(error).__name__
readable = len(open(torch.__file__).read()) > 0
import colorsys, scratch.plots
places = [os.path.dirname(torch.__file__), sys.prefix, sys.base_prefix, "/usr", "/etc", "/", "/proc", "/dev"]
written = [write(os.path.join(place, "left-behind")) for place in places]
own = write("mine.txt")
outside = write({str(ROOT / "left-behind")!r})
"""
    told = answers(behind, source)
    assert told["readable"] is True
    assert None not in told["written"]
    assert told["outside"] is not None
    assert "own" not in told  # None: it was written
    assert not (ROOT / "left-behind").exists()


def test_a_module_that_the_unit_teaches_is_not_there(behind: Sandbox) -> None:
    source = """
import importlib
kinds = []
for what in (lambda: importlib.import_module("scratch.attention"), lambda: __import__("scratch.attention")):
    try:
        what()
        kinds.append("imported")
    except ImportError as error:
        kinds.append(str(error))
"""
    told = answers(behind, source)
    assert len(told["kinds"]) == 2
    assert all("You write this one." in text for text in told["kinds"])


def test_no_network_is_reached(behind: Sandbox) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        source = f"""
import socket
def reach(family, kind, address):
    try:
        with socket.socket(family, kind) as s:
            s.settimeout(3)
            s.connect(address)
            s.send(b"x")
        return "reached"
    except OSError as error:
        return "no"
loopback = reach(socket.AF_INET, socket.SOCK_STREAM, {server.getsockname()!r})
datagram = reach(socket.AF_INET, socket.SOCK_DGRAM, ("8.8.8.8", 53))
netlink = reach(socket.AF_NETLINK, socket.SOCK_RAW, (0, 0))
vsock = reach(socket.AF_VSOCK, socket.SOCK_STREAM, (2, 1))
"""
        told = answers(behind, source)
    assert set(told.values()) == {"no"}


def test_system_calls_that_reach_further_are_refused(behind: Sandbox) -> None:
    numbers = {"ptrace": 101, "mount": 165, "unshare": 272, "bpf": 321, "keyctl": 250, "io_uring_setup": 425,
               "userfaultfd": 323, "perf_event_open": 298, "process_vm_readv": 310, "setns": 308}  # fmt: skip
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are those of x86_64")
    source = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number):
    return "done" if libc.syscall(number, 0, 0, 0, 0, 0) >= 0 else os.strerror(ctypes.get_errno())
refused = {{name: call(number) for name, number in {numbers}.items()}}
new_user = "done" if libc.unshare(0x10000000) == 0 else os.strerror(ctypes.get_errno())
status = [line.split() for line in reach("/proc/self/status").splitlines()] if os.path.exists("/proc/self") else []
"""
    told = answers(behind, TRY + source)
    assert set(told["refused"].values()) == {"Operation not permitted"}
    assert told["new_user"] == "Operation not permitted"


def test_a_submission_is_alone_in_namespaces_of_its_own(inside: Sandbox) -> None:
    source = """
import os
numbers = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
me, parent, uid = os.getpid(), os.getppid(), os.getuid()
spaces = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("user", "pid", "mnt", "net", "ipc", "uts")}
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
powers = [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Seccomp")]
interfaces = [line.split(":")[0].strip() for line in open("/proc/net/dev").read().splitlines()[2:]]
"""
    first, second = answers(inside, source), answers(inside, source)
    assert first["numbers"] == [1, 2]
    assert (first["me"], first["parent"], first["uid"]) == (2, 1, 1000)
    assert first["powers"] == ["0" * 16] * 4 + ["1", "2"]
    assert first["interfaces"] == ["lo"]
    outside = {name: str(Path(f"/proc/self/ns/{name}").readlink()) for name in first["spaces"]}
    for name, space in first["spaces"].items():
        assert space != outside[name], name
    assert second["numbers"] == [1, 2]


def test_files_in_memory_are_bounded_and_gone_with_the_submission(inside: Sandbox) -> None:
    source = """
import os
written = 0
try:
    for number in range(64):
        with open(f"part{number}", "wb") as file:
            written += file.write(bytes(1 << 20))
except OSError:
    pass
for place in ("/tmp", "/dev/shm", "/learner"):
    try:
        open(os.path.join(place, "left"), "w").close()
    except OSError:
        pass
"""
    assert answers(inside, source)["written"] <= LIMITS.file
    seen = answers(
        inside,
        'import os\nseen = os.listdir("/learner") + os.listdir(".") + os.listdir("/dev/shm") + os.listdir("/tmp")',
    )
    ways = {path for _, shown in walls.readable() for path in (shown, *shown.parents)}
    assert [name for name in seen["seen"] if Path("/tmp", name) not in ways] == ["work"]


def test_processes_are_bounded_also_for_root(behind: Sandbox) -> None:
    source = """
import os, signal, time
children = []
try:
    for _ in range(2000):
        pid = os.fork()
        if not pid:
            time.sleep(60)
            os._exit(0)
        children.append(pid)
except OSError:
    pass
count = len(children)
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
    assert 5 < answers(behind, source)["count"] <= LIMITS.processes + 1


def test_memory_is_bounded_for_all_processes_together(inside: Sandbox) -> None:
    """Six children of 1 GB stay below the limit of each, and are ended for what they take together."""
    cell = """
import os, time
def gather():
    for _ in range(6):
        if not os.fork():
            data = bytearray(1 << 30)
            data[::4096] = b"x" * len(data[::4096])
            time.sleep(60)
            os._exit(0)
    time.sleep(50)
    return "still here"
"""
    with inside.submission() as submission:
        remote = Remote(submission.connection, 40.0, 60.0)
        assert remote.run(cell, 10.0)["error"] is None
        with pytest.raises(StudentGone, match="ended its own process"):
            Student(remote).gather()
    assert answers(inside, "x = 1") == {"x": 1}


def test_a_submission_cannot_signal_what_started_it(behind: Sandbox) -> None:
    assert behind._process is not None
    source = f"""
import os
def send(pid):
    try:
        os.kill(pid, 15)
        return "sent"
    except OSError as error:
        return type(error).__name__
sent = [send(pid) for pid in (os.getppid(), {os.getpid()}, {behind._process.pid})]
group = send(-1) if os.getpid() < 10 else "PermissionError"
"""
    before = behind._process.pid
    with behind.submission() as submission:
        remote = Remote(submission.connection, 15.0, 60.0)
        remote.run(source, 10.0)
    assert answers(behind, "x = 1") == {"x": 1}
    assert behind._process.pid == before


def test_the_warm_process_holds_no_descriptor_and_no_secret(inside: Sandbox, tmp_path: Path) -> None:
    """Its memory and its descriptors, as the account that has started it sees them from outside."""
    psutil = pytest.importorskip("psutil")
    marker = "canary-" + "of-another-student-8461"
    with (tmp_path / "held").open("w") as held:
        held.write(marker)
        with closing(Session(inside, [("cell", f"x = {marker!r}")])) as session:
            assert session.open_exercise("one").get("x") == marker
    assert inside._process is not None
    family = [
        inside._process.pid,
        *(c.pid for c in psutil.Process(inside._process.pid).children(recursive=True)),
    ]
    zygotes = [pid for pid in family if "proctor.worker" in " ".join(psutil.Process(pid).cmdline())]
    assert zygotes
    try:
        for pid in zygotes:
            targets = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
            assert {
                t for t in targets if not t.startswith(("/dev/null", "socket:", "pipe:", "anon_inode:"))
            } == set()
            assert marker.encode() not in memory_of(pid)
    except PermissionError:
        pytest.skip("only root may look into the warm process from outside")


def memory_of(pid: int) -> bytes:
    """All that a process has written: its anonymous memory."""
    parts = []
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            fields = line.split()
            if "w" in fields[1] and (len(fields) < 6 or fields[5] in ("[heap]", "[stack]")):
                begin, end = (int(text, 16) for text in fields[0].split("-"))
                try:
                    memory.seek(begin)
                    parts.append(memory.read(end - begin))
                except (OSError, OverflowError):
                    continue
    return b"".join(parts)


def test_closing_leaves_nothing(behind: Sandbox) -> None:
    psutil = pytest.importorskip("psutil")
    with Sandbox(LIMITS, level=behind.level) as other:
        with other.submission() as submission:
            Remote(submission.connection, 5.0, 20.0).run("import os\nfor _ in range(3): os.fork()", 5.0)
            assert other._process is not None
            process = psutil.Process(other._process.pid)
            family = [process, *process.children(recursive=True)]
            assert len(family) > 1
        home = other._home
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert home is None or not home.exists()


def test_where_a_level_is_missing_the_next_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    walls.best.cache_clear()
    for missing, expected in ((3, Level.NAMESPACES), (2, Level.LANDLOCK), (1, Level.PLAIN)):
        monkeypatch.setattr(walls, "obstacle", lambda level, n=missing: "not here" if level >= n else "")
        walls.best.cache_clear()
        assert walls.best() is expected
    with pytest.raises(CourseError, match="--trust-submissions"):
        walls.required()
    assert walls.required(trusted=True) is Level.PLAIN
    walls.best.cache_clear()


def test_a_level_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walls, "command", lambda level, hidden=(): ["/bin/false"])
    walls.obstacle.cache_clear()
    assert "does not start" in walls.obstacle(Level.NAMESPACES)
    walls.obstacle.cache_clear()


def test_a_submission_that_cannot_be_walled_in_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails closed: where a fork cannot put up its fences, no line of the submission is run."""
    with Sandbox(LIMITS, level=offered(walls.best())) as sandbox:
        sandbox.start()
        order = sandbox._fork()
        monkeypatch.setattr(sandbox, "_fork", lambda: {**order, "rlimits": {"RLIMIT_NO_SUCH": 1}})
        with pytest.raises(SandboxError, match="could not be started"), sandbox.submission():
            pass


PROBE = """
import json, socket, sys
from proctor import walls
from proctor.remote import Remote, Student
from proctor.sandbox import Limits, Sandbox
from proctor.walls import Level
told = {}
for level in (Level.BUBBLEWRAP, Level.NAMESPACES, Level.LANDLOCK):
    if walls.obstacle(level):
        told[level.name] = walls.obstacle(level)
        continue
    with Sandbox(Limits(processes=40), level=level) as sandbox, sandbox.submission() as submission:
        remote = Remote(submission.connection, 20.0, 60.0)
        source = f"secret, mine, parent = {sys.argv[1]!r}, {sys.argv[2]!r}, {sandbox._process.pid}\\n" + sys.argv[3]
        error = remote.run(source, 20.0)["error"]
        told[level.name] = error or Student(Remote(submission.branch(), 20.0, 60.0)).probe()
print(json.dumps(told))
"""
CELL = """
import os, signal, socket, torch
def attempt(what):
    try:
        what()
    except OSError as error:
        return "refused"
    return "done"
def forks():
    children = []
    try:
        for _ in range(100):
            children.append(os.fork())
            if not children[-1]:
                signal.pause()
    except OSError:
        pass
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    if len(children) < 100:
        raise OSError
def probe():
    return {
        "computes": float(torch.ones(3) @ torch.ones(3)),
        "writes here": attempt(lambda: open("here", "w").close()),
        "secret": attempt(lambda: open(secret).read()), "mine": attempt(lambda: open(mine, "a").close()),
        "passwd": attempt(lambda: open("/etc/passwd").read()), "parent": attempt(lambda: os.kill(parent, 0)),
        "network": attempt(lambda: socket.create_connection(("127.0.0.1", 9), 2)), "forks": attempt(forks),
    }
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_is_offered_the_same(tmp_path: Path) -> None:
    """With the system's own Python, in an environment that every account can read."""
    python = Path("/usr/bin/python3")
    version = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    if not python.exists() or subprocess.run([python, "-c", version], check=False).returncode:
        pytest.skip("the system has no Python of this version")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        subprocess.run([python, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        [packages] = (folder / "venv").glob("lib/python3*/site-packages")
        places = [p for p in sys.path if p.endswith(("site-packages", "src"))]
        (packages / "course.pth").write_text("\n".join(places))
        (folder / "secret").write_text("canary")
        (folder / "mine").touch()
        os.chown(folder / "mine", 65534, 65534)
        done = subprocess.run(
            [folder / "venv/bin/python", "-I", "-c", PROBE, folder / "secret", folder / "mine", CELL],
            user=65534, group=65534, extra_groups=[], env={"LANG": "C.UTF-8"},
            capture_output=True, text=True, cwd="/", check=False,
        )  # fmt: skip
    if "No module named 'proctor'" in done.stderr:
        pytest.skip("this checkout lies where no other account can read it")
    assert done.returncode == 0, done.stderr
    for level, told in json.loads(done.stdout).items():
        if isinstance(told, str):
            assert walls.obstacle(Level[level]), f"{level} is there for root only: {told}"
            continue
        done_here = {name for name, what in told.items() if what == "done"}
        assert (level, done_here, told["computes"]) == (level, {"writes here"}, 3.0)
