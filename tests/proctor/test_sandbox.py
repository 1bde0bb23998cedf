"""What a submission may do to its process, to the one it was forked from, and to the machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from proctor.remote import Remote, Student
from proctor.sandbox import Limits, Sandbox, SandboxError
from proctor.trouble import StudentGone
from proctor.walls import Level

LIMITS = Limits(cell_seconds=10, call_seconds=8, total_seconds=60, memory=2 << 30, file=1 << 20)


@pytest.fixture(scope="module")
def warm() -> Iterator[Sandbox]:
    """A sandbox that lives through the whole file, whatever has been done to it."""
    with Sandbox(LIMITS, level=Level.PLAIN) as sandbox:
        yield sandbox


@contextmanager
def opened(sandbox: Sandbox, seconds: float = 8.0) -> Iterator[Remote]:
    with sandbox.submission() as submission:
        yield Remote(submission.connection, seconds, 60.0)


def define(remote: Remote, source: str) -> Student:
    result = remote.run(source, 20.0)
    assert result["error"] is None, result["error"]
    return Student(remote)


def wait_for(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


# Calls that end badly


@pytest.mark.parametrize(
    "body",
    [
        "os._exit(0)", "os.kill(os.getpid(), 9)", "ctypes.string_at(0)", "os.abort()",
        "signal.signal(signal.SIGALRM, signal.SIG_DFL); signal.alarm(1); time.sleep(5)",
        "os.close(3)",
    ],
)  # fmt: skip
def test_a_call_that_ends_its_process_is_told_and_the_next_submission_runs(warm: Sandbox, body: str) -> None:
    with opened(warm) as remote:
        student = define(
            remote, f"import os, ctypes, signal, time\ndef f():\n    {body}\ndef g():\n    return 1"
        )
        assert student.g() == 1
        with pytest.raises(StudentGone, match="ended its own process"):
            student.f()
        with pytest.raises(StudentGone, match="ended its own process"):
            student.g()
    with opened(warm) as remote:
        assert define(remote, "def g(): return 1").g() == 1


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "for s in range(1, 32):\n        try: signal.signal(s, signal.SIG_IGN)\n"
        "        except OSError: pass\n    while True: pass",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n    time.sleep(1000)",
        "3 ** (3 * 10 ** 9)",
        "os.kill(os.getpid(), signal.SIGSTOP)",
        "while True:\n        try: time.sleep(1000)\n        except BaseException: pass",
    ],
    ids=["loop", "ignores signals", "blocks signals", "power", "stops", "catches all"],
)  # fmt: skip
def test_a_call_without_end_is_stopped_in_time(warm: Sandbox, body: str) -> None:
    with opened(warm) as remote:
        student = define(remote, f"import signal, time, os\npid = os.getpid()\ndef f():\n    {body}")
        pid = student.pid
        remote._call_seconds = 0.5
        begun = time.monotonic()
        with pytest.raises(StudentGone, match=r"longer than 0\.5 seconds"):
            student.f()
        assert remote.timed_out
    assert not alive(pid)
    assert time.monotonic() - begun < 10


def test_a_cell_without_end_is_stopped_in_time(warm: Sandbox) -> None:
    with opened(warm) as remote:
        begun = time.monotonic()
        with pytest.raises(StudentGone, match="longer than"):
            remote.run("while True: pass", 0.5)
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "body",
    [
        "return bytearray(16 << 30)", "return torch.zeros(4 << 30)",
        "return np.zeros((16, 1 << 30), np.uint8) + 1",
        "kept = []\n    while True: kept.append(bytearray(64 << 20))", "return 'x' * (16 << 30)",
        "return [0] * (4 << 30)",
    ],
)  # fmt: skip
def test_sixteen_gigabytes_fail_in_the_students_process_only(warm: Sandbox, body: str) -> None:
    before = psutil.Process().memory_info().rss
    with opened(warm, seconds=60) as remote:
        student = define(remote, f"import numpy as np, torch\ndef f():\n    {body}\ndef g():\n    return 1")
        with pytest.raises((MemoryError, RuntimeError)) as caught:
            student.f()
        assert hasattr(caught.value, "trouble")
        assert student.g() == 1
    assert psutil.Process().memory_info().rss - before < 200 << 20


def test_a_file_has_a_largest_size(warm: Sandbox) -> None:
    with opened(warm) as remote:
        student = define(remote, "def f():\n    with open('big', 'wb') as file: file.write(bytes(2 << 20))")
        with pytest.raises(OSError, match="too large"):
            student.f()


# What outlives a call


CHILDREN = {
    "in a session of its own": "subprocess.Popen(['sleep', '1000'], start_new_session=True).pid",
    "without environment": "subprocess.Popen(['sleep', '1000'], start_new_session=True, env={}, cwd='/').pid",
    "an orphan of an orphan": """
def orphan():
    r, w = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            for s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)
            os.write(w, str(os.getpid()).encode())
            time.sleep(1000)
        os._exit(0)
    return int(os.read(r, 20))
orphan()""",
    "a plain fork": "(lambda pid: pid if pid else time.sleep(1000))(os.fork())",
}


@pytest.mark.skipif(sys.platform != "linux", reason="orphans come back to their reaper on Linux only")
@pytest.mark.parametrize("end", ["in peace", "killed"])
@pytest.mark.parametrize("kind", list(CHILDREN))
def test_what_a_submission_starts_ends_with_it(warm: Sandbox, kind: str, end: str) -> None:
    *before, last = CHILDREN[kind].strip().splitlines()
    source = "import os, signal, subprocess, time\n" + "\n".join([*before, f"def f():\n    return {last}"])
    with opened(warm) as remote:
        student = define(remote, source + "\ndef die(): os.kill(os.getpid(), 9)")
        pid = student.f()
        assert alive(pid)
        if end == "killed":
            with pytest.raises(StudentGone):
                student.die()
    assert not alive(pid)


def test_fifty_processes_end_with_their_submission(warm: Sandbox) -> None:
    source = """
import os, time
def f():
    pids = []
    for _ in range(50):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            time.sleep(1000)
        pids.append(pid)
    return pids
"""
    with opened(warm) as remote:
        pids = define(remote, source).f()
        assert sum(map(alive, pids)) == 50
    assert not any(map(alive, pids))


def test_a_thread_that_goes_on_ends_with_its_submission(warm: Sandbox) -> None:
    with opened(warm) as remote:
        student = define(remote, "import os, threading, time\npid = os.getpid()\n"
                         "threading.Thread(target=time.sleep, args=(1000,)).start()")  # fmt: skip
        pid = student.pid
    assert not alive(pid)


# The process it was forked from


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_submission_gets_a_new_process_where_this_one_has_killed_its_parent(
    warm: Sandbox, how: signal.Signals
) -> None:
    with opened(warm) as remote:
        home = warm._home
        source = f"""
import os, subprocess
child = subprocess.Popen(['sleep', '1000'], start_new_session=True).pid
def f():
    os.kill(os.getppid(), {int(how)})
    return os.getpid()
"""
        student = define(remote, source)
        child = student.child
        with contextlib.suppress(StudentGone):
            student.f()
    assert not alive(child)
    assert not home.exists()
    with opened(warm) as remote:
        assert define(remote, "def g(): return 1").g() == 1


def test_a_parent_that_was_stopped_is_replaced_in_time(
    warm: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import os, signal\npid = os.getpid()\ndef f(): os.kill(os.getppid(), signal.SIGSTOP)"
    with opened(warm) as remote:
        student = define(remote, source)
        pid = student.pid
        student.f()
        monkeypatch.setattr(warm, "limits", Limits(fork_seconds=0.5))
        begun = time.monotonic()
    assert not alive(pid)
    assert time.monotonic() - begun < 5
    monkeypatch.undo()
    with opened(warm) as remote:
        assert define(remote, "def g(): return 1").g() == 1


def test_a_process_that_cannot_be_set_up_is_a_fault_of_the_machine(
    warm: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(Limits):
        def rlimits(self) -> dict[str, int]:
            return {"RLIMIT_NO_SUCH": 1}

    monkeypatch.setattr(warm, "limits", Odd())
    for _ in range(2):
        with pytest.raises(SandboxError, match="could not be started"), warm.submission():
            pass
    monkeypatch.undo()
    with opened(warm) as remote:
        assert define(remote, "def g(): return 1").g() == 1


def test_a_start_that_takes_too_long_is_told_and_leaves_nothing_behind() -> None:
    sandbox = Sandbox(Limits(start_seconds=0.05))
    with pytest.raises(SandboxError, match="does not answer"):
        sandbox.start()
    assert sandbox._process is None
    assert sandbox._home is None


# What it finds


def test_the_environment_holds_nothing_of_the_callers_and_what_a_course_names_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROCTOR_TEST_SECRET", "hunter2")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    with (
        Sandbox(LIMITS, ("colorsys", "no_such_module"), level=Level.PLAIN) as sandbox,
        opened(sandbox) as remote,
    ):
        source = """
import os, psutil, sys
loaded = "colorsys" in sys.modules
mine = dict(os.environ)
parents = [p.environ() for p in (psutil.Process(), psutil.Process().parent())]
home, tmp, here = os.environ["HOME"], os.environ["TMPDIR"], os.getcwd()
import tempfile
temporary = tempfile.gettempdir()
listing = os.listdir()
path = list(sys.path)
"""
        student = define(remote, source)
        allowed = {"PATH", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR", "OMP_NUM_THREADS",
                   "PROCTOR_GRADING", "LC_CTYPE", "USER", "PYTHONDONTWRITEBYTECODE",
                   "KERAS_BACKEND", "KERAS_HOME", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS",
                   "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"}  # fmt: skip
        for environment in (student.mine, *student.parents):
            assert "hunter2" not in repr(environment)
            libraries = {
                name for name in environment if name.startswith(("KMP_", "TORCH", "MPL", "PYDEVD", "TERM"))
            }
            assert set(environment) - libraries <= allowed
        assert student.home == student.tmp == student.here == student.temporary
        assert student.listing == []
        assert "/nowhere" not in student.path
        assert student.loaded is True


def test_descriptors_are_the_wire_and_nothing_else(warm: Sandbox, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        with opened(warm) as remote:
            source = """
import os, stat, subprocess, sys
links = {fd: os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
typed = sys.stdin.read(1) if sys.stdin else ""
raw = os.read(0, 10)
inherited = subprocess.run([sys.executable, "-c", "import os; print(os.listdir('/proc/self/fd'))"],
                           capture_output=True, text=True, close_fds=False).stdout
"""
            student = define(remote, source)
            links = student.links
            assert {fd for fd in links if int(fd) > 3} <= {"4"}  # the listing itself, closed by now
            assert [links[fd] for fd in "012"] == ["/dev/null"] * 3
            assert "socket:" in links["3"]
            assert (student.typed, student.raw) == ("", b"")
            assert "'3'" not in student.inherited or len(eval(student.inherited)) <= 4


def test_nobody_types_and_input_is_an_error(warm: Sandbox) -> None:
    with opened(warm) as remote, pytest.raises(EOFError):
        define(remote, "def f(): return input('?')").f()


def test_files_vanish_with_their_submission(warm: Sandbox) -> None:
    with opened(warm) as remote:
        source = """
import os, pathlib
here = pathlib.Path.cwd()
(here / "a/b").mkdir(parents=True)
(here / "a/b/file").write_text("x")
(here / "link").symlink_to("/")
(here / "dangling").symlink_to("nowhere")
os.mkfifo(here / "pipe")
(here.parent / "beside").write_text("for the next one")
(here.parent / "beside too").mkdir()
(here / "a/b").chmod(0)
(here / "a").chmod(0)
here.chmod(0)
where = str(here)
"""
        where = Path(define(remote, source).where)
        assert where.is_dir()
        home = where.parent
    assert not where.exists()
    assert [path.name for path in home.iterdir()] == ["zygote"]
    assert Path("/etc").is_dir()  # the link was not followed


# Starting and ending


def descendants() -> list[int]:
    return [
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
    ]


def test_closing_ends_everything_also_in_the_middle_of_a_submission() -> None:
    sandbox = Sandbox(LIMITS, level=Level.PLAIN)
    sandbox.start()
    process, home = sandbox._process, sandbox._home
    sandbox.start()
    assert sandbox._process is process
    assert home.is_dir()
    with opened(sandbox) as remote:
        source = "child = subprocess.Popen(['sleep', '1000'], start_new_session=True).pid\npid = os.getpid()"
        student = define(remote, f"import os, subprocess\n{source}")
        pids = student.pid, student.child, process.pid
        assert all(map(alive, pids))
        begun = time.monotonic()
        sandbox.close()
        assert time.monotonic() - begun < 5
        assert not any(map(alive, pids))
    assert sandbox._process is None
    assert not home.exists()
    sandbox.close()


def test_a_submission_that_is_interrupted_here_ends_there(warm: Sandbox) -> None:
    with pytest.raises(KeyboardInterrupt), opened(warm) as remote:
        pid = define(remote, "import os\npid = os.getpid()").pid
        raise KeyboardInterrupt
    assert not alive(pid)


@pytest.mark.parametrize("moment", ["in a call", "starting"])
def test_nothing_is_left_where_the_trusted_process_dies(moment: str, tmp_path: Path) -> None:
    script = tmp_path / "grade.py"
    script.write_text(
        """
import sys, tempfile
from proctor.remote import Remote, Student
from proctor.sandbox import Sandbox
from proctor.walls import Level
sandbox = Sandbox(level=Level.PLAIN)
if sys.argv[1] == "starting":
    import subprocess
    start = subprocess.Popen.__init__
    def tell(self, *args, **kwargs):
        start(self, *args, **kwargs)
        print(self.pid, sandbox._home, self.pid, flush=True)
    subprocess.Popen.__init__ = tell
with sandbox.submission() as submission:
    remote = Remote(submission.connection, 100, 100)
    remote.run("import os, subprocess, time\\npid = os.getpid()\\n"
               "child = subprocess.Popen(['sleep', '1000'], start_new_session=True).pid", 20)
    student = Student(remote)
    print(sandbox._process.pid, sandbox._home, student.pid, student.child, flush=True)
    if sys.argv[1] == "in a call":
        remote.run("time.sleep(1000)", 1000)
    import time
    time.sleep(1000)
"""
    )
    process = subprocess.Popen([sys.executable, script, moment], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid, home, *others = process.stdout.readline().split()
    pids = [int(pid), *map(int, others)]
    assert all(map(alive, pids))
    assert Path(home).is_dir()
    process.kill()
    process.wait()
    process.stdout.close()
    assert wait_for(lambda: not any(map(alive, pids)), 40)
    assert wait_for(lambda: not Path(home).exists())


def test_sandboxes_run_side_by_side(warm: Sandbox) -> None:
    with opened(warm) as first, Sandbox(LIMITS, level=Level.PLAIN) as other, opened(other) as second:
        students = [define(remote, f"x = {n}\ndef f(): return x") for n, remote in enumerate((first, second))]
        assert [student.f() for student in students] == [0, 1]
        assert warm._home != other._home
        other.close()
        assert students[0].f() == 0
        with pytest.raises(StudentGone):
            students[1].f()


def test_thirty_submissions_leak_nothing(warm: Sandbox) -> None:
    with opened(warm):
        pass
    files, zygote = len(os.listdir("/proc/self/fd")), psutil.Process(warm._process.pid)  # noqa: PTH208
    before, theirs = len(descendants()), zygote.num_fds()
    begun = time.monotonic()
    for number in range(30):
        with opened(warm) as remote:
            assert define(remote, f"x = {number}").x == number
    assert time.monotonic() - begun < 60
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208
    assert (len(descendants()), zygote.num_fds()) == (before, theirs)
    assert zygote.children(recursive=True) == []
    assert [path.name for path in warm._home.iterdir()] == ["zygote"]


# Other systems


def test_checks_and_proxies_need_nothing_that_windows_lacks() -> None:
    """A learner there checks in their own notebook: what that imports must not ask for ``resource`` or ``fork``."""
    source = """
import sys
for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
import os
del os.fork
import proctor.remote, proctor.checks, proctor.learner, proctor.sandbox, proctor.session
assert "proctor.worker" not in sys.modules
remote = proctor.remote
student = remote.Student(remote.Local({"f": lambda x: x + 1}))
assert student.f(1) == 2
"""
    subprocess.run([sys.executable, "-c", source], check=True, timeout=100)
