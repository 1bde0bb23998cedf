"""The system calls that are refused: their numbers, and what a process behind the fence can still do."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from proctor import fences, kernel

HEADERS = {
    "x86_64": [*Path("/usr/include").glob("*/asm/unistd_64.h")],
    "aarch64": [Path("/usr/include/asm-generic/unistd.h")],
}
pytestmark = pytest.mark.skipif(not kernel.known_machine(), reason="Linux on x86_64 or aarch64 only")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    headers = [path for path in HEADERS[machine] if path.exists()]
    if not headers:
        pytest.skip("the kernel's headers are not installed (linux-libc-dev)")
    text = headers[0].read_text()
    numbers = {m[1]: int(m[2]) for m in re.finditer(r"#define\s+__NR(?:3264)?_(\w+)\s+(\d+)", text)}
    single = {
        "clone": fences._CLONE[machine], "socket": fences._SOCKET[machine], "ioctl": fences._IOCTL[machine],
        "kill": fences._KILL[machine][0], "tkill": fences._KILL[machine][1], "clone3": fences._CLONE3,
        "rt_sigqueueinfo": fences._KILL[machine][2], "tgkill": fences._TGKILL[machine][0],
        "rt_tgsigqueueinfo": fences._TGKILL[machine][1], "pidfd_send_signal": fences._PIDFD_SEND_SIGNAL,
        **kernel._SYSCALLS[machine],
    }  # fmt: skip
    ours = {**fences._DENIED[machine], **fences._DENIED_EVERYWHERE, **single}
    known = {
        name: number for name, number in ours.items() if name in numbers
    }  # headers may be older than a call
    assert len(known) > len(ours) - 6
    assert known == {name: numbers[name] for name in known}


def behind(fence: str, code: str) -> list[str]:
    """What a program prints that has put up a fence first."""
    source = f"import os\nfrom pathlib import Path\nfrom proctor import fences\n{fence}\n{code}"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


ATTEMPT = """
def attempt(what):
    try:
        what()
        print("done")
    except OSError as error:
        print(type(error).__name__)
"""


def test_without_signals_a_process_reaches_only_itself() -> None:
    code = ATTEMPT + "attempt(lambda: os.kill(os.getppid(), 0))\nattempt(lambda: os.kill(os.getpid(), 0))\n"
    code += (
        "attempt(lambda: os.kill(-1, 0))\nimport signal\nattempt(lambda: signal.raise_signal(signal.SIGCHLD))"
    )
    fence = "fences.deny_system_calls(network=False, signals=False)"
    assert behind(fence, code) == ["PermissionError", "done", "PermissionError", "done"]


def test_sockets_of_the_machine_itself_remain_and_others_do_not() -> None:
    code = ATTEMPT + "import socket\n" + "".join(
        f"attempt(lambda: socket.socket(socket.{family}, socket.SOCK_DGRAM).close())\n"
        for family in ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET")
    )  # fmt: skip
    without = behind("fences.deny_system_calls(network=False, signals=True)", code)
    assert without == ["done", *["PermissionError"] * 4]
    within = behind("fences.deny_system_calls(network=True, signals=True)", code)
    assert within == ["done", "done", "done", "PermissionError", "PermissionError"]


def test_ordinary_work_goes_on_behind_the_fence() -> None:
    code = """
import multiprocessing, subprocess, threading, tempfile, torch
thread = threading.Thread(target=print, args=("thread",))
thread.start()
thread.join()
print(subprocess.run(["echo", "child"], capture_output=True, text=True).stdout.strip())
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(sum(pool.map(abs, [-1, -2])))
print(int((torch.ones(64, 64) @ torch.ones(64, 64)).sum()))
"""
    done = behind("fences.deny_system_calls(network=True, signals=True)", code)
    assert done == ["thread", "child", "3", str(64**3)]


@pytest.mark.skipif(not fences.landlock_version(), reason="this kernel has no Landlock")
def test_files_that_are_not_named_are_out_of_reach(tmp_path: Path) -> None:
    for name in ("seen", "own", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    fence = f"at = Path({str(tmp_path)!r})\nfences.restrict_files([at / 'seen', Path('/usr')], [at / 'own'])"
    code = (
        ATTEMPT
        + """
attempt((at / "seen" / "file").read_text)
attempt(lambda: (at / "seen" / "file").write_text("y"))
attempt(lambda: (at / "own" / "new").write_text("y"))
attempt((at / "other" / "file").read_text)
attempt(lambda: os.listdir(at / "other"))
attempt(lambda: os.rename(at / "own" / "file", at / "other" / "moved"))
attempt(lambda: os.link(at / "seen" / "file", at / "own" / "linked"))
"""
    )
    refused = "PermissionError"
    told = behind(fence, code)
    assert told[:5] == ["done", refused, "done", refused, refused]
    assert set(told[5:]) <= {refused, "OSError"}


def test_the_kernels_reason_is_told() -> None:
    with pytest.raises(OSError, match="mount /nowhere"):
        kernel.mount("none", "/nowhere", "no-such-kind")
    with pytest.raises(OSError, match="unmount /nowhere"):
        kernel.unmount("/nowhere")
    assert platform.machine() in kernel._SYSCALLS
