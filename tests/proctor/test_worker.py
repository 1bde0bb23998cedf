from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from proctor.cells import MAX_DISPLAYS, MAX_IMAGE, MAX_OUTPUT, Full
from proctor.remote import Remote, Student
from proctor.sandbox import Limits, Sandbox
from proctor.worker import end_children, set_limit


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(files=200)) as sandbox:
        yield sandbox


@pytest.fixture
def remote(sandbox: Sandbox) -> Iterator[Remote]:
    with sandbox.submission() as submission:
        yield Remote(submission.connection, 20.0, 120.0)


def run(remote: Remote, source: str) -> dict[str, Any]:
    return remote.run(source, 30.0)


def texts(result: dict[str, Any], kind: str) -> list[str]:
    return [output["text"] for output in result["outputs"] if output["kind"] == kind]


def test_a_full_buffer_takes_no_more() -> None:
    full = Full(10)
    assert full.write("12345") == 5
    assert not full.cut
    assert full.write("6789012345") == 10
    assert full.write("x" * 1_000_000) == 1_000_000
    assert full.cut
    assert full.getvalue() == "1234567890"


def test_what_a_cell_prints_shows_and_raises_is_told(remote: Remote) -> None:
    result = run(remote, "import sys\nprint('out')\nprint('err', file=sys.stderr)\n1 + 1")
    assert texts(result, "stdout") == ["out\n"]
    assert texts(result, "stderr") == ["err\n"]
    assert texts(result, "display") == ["2"]
    assert result["error"] is None
    result = run(remote, "def f():\n    return 1 / 0\n\nf()")
    assert result["error"] == ["ZeroDivisionError", "division by zero", [
        ("<module>", 4, "f()"), ("f", 2, "return 1 / 0")]]  # fmt: skip
    assert run(remote, "x = (")["error"][0] == "SyntaxError"


@pytest.mark.parametrize(
    "source",
    [
        "raise SystemExit(3)", "raise KeyboardInterrupt", "import sys; sys.exit()", "exit()", "1/0", "x = '\ud800'",
        "\0",
        "(" * 500, "raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})", "%nosuchmagic", "?nothing",
        "raise BaseException", "f(", "def f():\nreturn", "async def f(): pass\nawait f()", "", "    ", "\ufeff1",
        "import asyncio; raise asyncio.CancelledError", "del __builtins__",
    ],
    ids=ascii,
)  # fmt: skip
def test_a_cell_that_fails_leaves_the_process_alive(remote: Remote, source: str) -> None:
    with contextlib.suppress(Exception):  # what IPython cannot even try
        run(remote, source)
    assert not remote.gone
    assert texts(run(remote, "6 * 7"), "display") == ["42"]


def test_endless_output_is_cut(remote: Remote) -> None:
    begun = time.monotonic()
    result = run(remote, "print('x' * 50_000_000)")
    [text] = texts(result, "stdout")
    assert len(text) < MAX_OUTPUT + 100
    assert text.endswith("the rest was cut")
    [text] = texts(run(remote, "for i in range(300_000): print(i)"), "stdout")
    assert len(text) < MAX_OUTPUT + 100
    run(remote, "def f():\n    for i in range(300_000): print('x' * 1000)\n    return 1")
    assert Student(remote).f() == 1
    assert time.monotonic() - begun < 60


def test_values_that_are_shown_have_limits(remote: Remote) -> None:
    result = run(remote, f"for i in range({MAX_DISPLAYS + 20}): display('é' * 20_000)")
    shown = texts(result, "display")
    assert len(shown) == MAX_DISPLAYS
    assert sum(map(len, shown)) <= MAX_OUTPUT


def test_every_letter_may_be_printed(remote: Remote) -> None:
    """A letter beyond ASCII takes up to twelve bytes of a header, of which there are four million."""
    result = run(
        remote, "import sys\nfor s in (sys.stdout, sys.stderr): s.write('😀' * 100_000)\n'😀' * 100_000"
    )
    assert texts(result, "stdout")[0].startswith("😀" * MAX_OUTPUT)
    assert run(remote, "print('\\ud800')")["error"] is None


def test_figures_are_shown_and_many_figures_are_no_problem(remote: Remote) -> None:
    result = run(remote, "import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    [figure] = result["outputs"]  # and not the list of lines, which the semicolon hushes
    assert figure["png"].startswith(b"\x89PNG")
    noisy = (
        "import numpy as np\nfor _ in range(12):\n"
        "    plt.figure(figsize=(5, 5)); plt.imshow(np.random.rand(480, 480)); plt.axis('off'); plt.show()"
    )
    result = run(remote, noisy)
    figures = [output["png"] for output in result["outputs"] if output["png"]]
    assert len(figures) == MAX_DISPLAYS
    assert sum(map(len, figures)) > 1 << 20
    assert all(len(figure) <= MAX_IMAGE for figure in figures)
    result = run(
        remote,
        "from IPython.display import Image, display\ndisplay(Image(data=b'x' * 2_000_000, format='png'))",
    )
    assert [output["png"] for output in result["outputs"]] == [b""]


def test_html_is_not_shown(remote: Remote) -> None:
    result = run(
        remote,
        "from IPython.display import HTML, Javascript\ndisplay(HTML('<script>1</script>'))\nJavascript('1')",
    )
    assert "<script>" not in repr(result)


def test_a_tampered_shell_is_an_error_of_the_student(remote: Remote) -> None:
    run(remote, "ip = get_ipython()\ndef no(*a, **k): raise ValueError('tampered')\nip.run_cell = no")
    with pytest.raises(ValueError, match="tampered") as caught:
        run(remote, "1")
    assert hasattr(caught.value, "trouble")


def test_every_submission_starts_from_the_same_namespace(sandbox: Sandbox) -> None:
    for _ in range(2):
        with sandbox.submission() as submission:
            remote = Remote(submission.connection, 20.0, 60.0)
            assert texts(run(remote, "'leftover' in globals()"), "display") == ["False"]
            run(remote, "leftover = 1; import torch, builtins; torch.leftover = 1; builtins.leftover = 1")


def test_a_handle_that_does_not_exist_is_an_error(remote: Remote) -> None:
    from proctor.remote import Proxy

    for number in (10**6, -1, True, "x", [1], None):
        with pytest.raises(Exception) as caught:
            Proxy(remote, number, "f")()
        assert hasattr(caught.value, "trouble")
    assert not remote.gone


def test_one_object_has_one_handle(remote: Remote) -> None:
    run(remote, "class A: pass\na = A()\ndef get(): return a")
    student = Student(remote)
    assert len({student.get()._target for _ in range(5)} | {student.a._target}) == 1


@pytest.mark.parametrize("name", sorted(Limits().rlimits()))
def test_limits_hold_in_the_students_process(remote: Remote, name: str) -> None:
    result = run(remote, f"import resource\nresource.getrlimit(resource.{name})")
    soft, hard = eval(texts(result, "display")[0])
    assert soft == hard != resource.RLIM_INFINITY
    wanted = Limits(files=200).rlimits()[name]
    assert hard >= wanted if name == "RLIMIT_NPROC" else hard <= wanted
    assert run(remote, f"resource.setrlimit(resource.{name}, ({hard}, {hard}))")["error"] is None


def in_a_child(source: str) -> str:
    command = [sys.executable, "-c", f"import os, resource, sys, time\nfrom proctor import worker\n{source}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout


def test_a_limit_above_the_hard_one_becomes_the_hard_one() -> None:
    out = in_a_child(
        "resource.setrlimit(resource.RLIMIT_NOFILE, (50, 60))\nworker.set_limit('RLIMIT_NOFILE', 1000)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert out.strip() == "(60, 60)"


def test_a_limit_that_linux_refuses_is_no_secret_and_macos_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("refused")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    monkeypatch.setattr(sys, "platform", "darwin")
    set_limit("RLIMIT_AS", 1 << 30)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(ValueError, match="refused"):
        set_limit("RLIMIT_AS", 1 << 30)


def test_processes_are_counted_on_top_of_what_runs_already() -> None:
    mine = sum(p.num_threads() for p in psutil.process_iter() if p.uids().real == os.getuid())
    out = in_a_child(
        "worker.set_limit('RLIMIT_NPROC', 1000)\nprint(*resource.getrlimit(resource.RLIMIT_NPROC))"
    )
    assert abs(int(out.split()[0]) - 1000 - mine) < 300


@pytest.mark.skipif(sys.platform != "linux", reason="orphans come back to their reaper on Linux only")
def test_all_descendants_are_ended_at_once() -> None:
    """Sleepers in sessions of their own, orphans, zombies, and one that runs away by forking without end."""
    out = in_a_child(
        """
import ctypes, signal
ctypes.CDLL(None).prctl(36, 1)
for kind in range(5):
    leader = os.fork()
    if leader == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setsid()
        for _ in range(6):
            if os.fork() == 0:
                if kind % 2: os.setsid()
                if os.fork():
                    if kind == 2: os._exit(0)
                time.sleep(1000)
        if kind == 3: os._exit(0)
        time.sleep(1000)
comet = os.fork()
if comet == 0:
    os.setsid()
    while True:
        if os.fork(): os._exit(0)
time.sleep(0.3)
import psutil
before = len(psutil.Process().children(recursive=True))
begun = time.monotonic()
print(before >= 30, worker.end_children(comet), time.monotonic() - begun < 5)
print(len(psutil.Process().children(recursive=True)))
"""
    )
    assert out.split() == ["True", "True", "True", "0"]


def test_nobody_to_end_is_ended_at_once() -> None:
    assert in_a_child("print(worker.end_children(), worker.end_children(2**22 - 1))").split() == [
        "True",
        "True",
    ]


def test_the_worker_does_not_start_on_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    """It removes its folder in the end: never anybody's home."""
    (tmp_path / "precious").write_text("kept")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "proctor.worker", str(theirs.fileno()), str(tmp_path)]
        done = subprocess.run(
            command, pass_fds=(theirs.fileno(),), capture_output=True, check=False, timeout=100
        )
    assert done.returncode == 1
    assert (tmp_path / "precious").read_text() == "kept"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket, Path]]:
    """A worker by itself, the control socket's other end, and its folder."""
    home = tmp_path / "proctor-test"
    home.mkdir()
    (home / "file").write_text("x")
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "proctor.worker", str(theirs.fileno()), str(home)]
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
    with ours:
        yield process, ours, home
    assert process.wait(100) == 0
    assert not home.exists()


Started = tuple[subprocess.Popen[bytes], socket.socket, Path]


def test_a_worker_whose_other_side_is_gone_at_once_leaves_nothing_behind(started: Started) -> None:
    started[1].close()


def test_a_worker_whose_other_side_is_gone_while_it_loads_leaves_nothing_behind(started: Started) -> None:
    for byte in (
        b'{"level": 0, "hidden": {}, "preload": ["no_such_module", "json"]}\n'
    ):  # an order may come in pieces
        started[1].sendall(bytes([byte]))
    started[1].close()


def test_children_are_ended_in_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Undead:
        pid = 0

        def children(self, recursive: bool) -> list[Any]:
            return [self]

        def kill(self) -> None:
            raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "Process", Undead)
    monkeypatch.setattr(os, "waitpid", lambda *_: (0, 0))
    begun = time.monotonic()
    assert end_children(seconds=0.1) is False
    assert time.monotonic() - begun < 5
