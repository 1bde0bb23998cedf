"""The outer wall where there is no bubblewrap: a process that sees the Python environment alone, and no network.

``python -I -m proctor.enclosure WHAT… -- COMMAND…`` runs a command in new mount, pid, net, ipc and uts namespaces
(and a user namespace, for an ordinary user) whose file system holds the paths that are named, read-only, and
nothing else: ``=PATH`` shows a path, ``-PATH`` lays an empty folder over one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys
from pathlib import Path

from proctor import confine, kernel

_DEVICES = ("null", "zero", "full", "random", "urandom")
_MOUNT_SETATTR, _AT_RECURSIVE, _AT_EMPTY_PATH = 442, 0x8000, 0x1000
_READ_ONLY = 1 | 2 | 4  # and no set-uid programs, no devices


def enclose(shown: list[str], command: list[str]) -> int:
    """Run a command behind the wall; its exit code. Raises OSError where the kernel does not let it."""
    spaces = kernel.NEW_MOUNTS | kernel.NEW_PIDS | kernel.NEW_NET | kernel.NEW_IPC | kernel.NEW_UTS
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        kernel.unshare(spaces)
    else:
        kernel.unshare(spaces | kernel.NEW_USER)
        kernel.map_ids(uid, uid, gid)
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # and with the first process all others end
        socket.sethostname("learner")
        _lay_out([(what[0], Path(what[1:])) for what in shown])
        status = _first_process(command)
    except OSError as error:
        print(error, file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _first_process(command: list[str]) -> int:
    """Start the command and reap whatever is orphaned until it ends."""
    leader = os.fork()
    if not leader:
        try:
            os.execv(command[0], command)  # noqa: S606 - that is the point
        finally:
            os._exit(127)
    while True:
        pid, status = os.wait()
        if pid == leader:
            return abs(os.waitstatus_to_exitcode(status))


def _lay_out(shown: list[tuple[str, Path]]) -> None:
    """Build the new root in memory, and make it the root."""
    kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    sources = {path: os.open(path, os.O_PATH | os.O_NOFOLLOW) for what, path in shown if what == "="}
    devices = {Path("/dev", name): os.open(f"/dev/{name}", os.O_PATH) for name in _DEVICES}
    quiet = kernel.MS_NOSUID | kernel.MS_NODEV
    # Whatever lies in /tmp is reached by its descriptor from now on.
    root = Path("/tmp")  # noqa: S108
    kernel.mount("tmpfs", str(root), "tmpfs", quiet, "mode=0755")
    os.chdir(root)
    for what, path in shown:
        inside = root / path.relative_to("/")
        if what == "-":
            inside.mkdir(parents=True, exist_ok=True)
            kernel.mount("tmpfs", str(inside), "tmpfs", quiet, "mode=0755")
        elif path.is_symlink():
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.symlink_to(path.readlink())
        else:
            _show(sources[path], inside)
            _make_read_only(str(inside), recursive=True)
    (root / "dev" / "shm").mkdir(parents=True)
    for path, descriptor in devices.items():
        _show(descriptor, root / path.relative_to("/"))
    (root / "dev" / "fd").symlink_to("/proc/self/fd")
    (root / "proc").mkdir()
    kernel.mount("proc", str(root / "proc"), "proc", quiet | kernel.MS_NOEXEC)
    for place in (confine.PLACE, confine.TEMPORARY):
        inside = root / place.relative_to("/")
        if not inside.exists():  # otherwise Python or the course lies in it, and it stays read-only
            inside.mkdir()
            kernel.mount("tmpfs", str(inside), "tmpfs", quiet, "mode=1777")
    for descriptor in (*sources.values(), *devices.values()):
        os.close(descriptor)
    _make_read_only(str(root), recursive=False)
    kernel.change_root(str(root))
    os.chdir(confine.PLACE)


def _show(descriptor: int, inside: Path) -> None:
    source = Path(f"/proc/self/fd/{descriptor}")
    inside.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        inside.mkdir(exist_ok=True)
    else:
        inside.touch()
    kernel.mount(str(source), str(inside), flags=kernel.MS_BIND | kernel.MS_REC)


def _make_read_only(path: str, *, recursive: bool) -> None:
    attributes = struct.pack("<QQQQ", _READ_ONLY, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    here = ctypes.c_char_p(path.encode())
    kernel.raw(_MOUNT_SETATTR, -100, here, flags, ctypes.c_char_p(attributes), 32, what=f"read-only {path}")


if __name__ == "__main__":
    end = sys.argv.index("--")
    try:
        sys.exit(enclose(sys.argv[1:end], sys.argv[end + 1 :]))
    except OSError as error:
        sys.exit(f"{error}")
