"""The inner wall: what a process on the student's side does to itself before it runs the first line of a submission.

Every step goes one way. The warm process *settles* once, at its start; for each submission a fork of it *enters*
namespaces of its own; the process that runs the code *renounces* the rest.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from proctor import fences, kernel

NOBODY = 65534  # whom root becomes: the kernel holds everybody but root to a number of processes
LEARNER = 1000  # the account as a submission sees it
PLACE = Path("/learner")  # in a file system of its own; not /tmp, where Python itself may lie
WORK = PLACE / "work"
TEMPORARY = Path("/tmp")  # noqa: S108 - likewise, where nothing that is needed lies in it
SHARED = Path("/dev/shm")  # noqa: S108 - likewise
_NAMESPACES = (
    kernel.NEW_USER | kernel.NEW_PIDS | kernel.NEW_MOUNTS | kernel.NEW_NET | kernel.NEW_IPC | kernel.NEW_UTS
)


def settle(*, inner: bool) -> None:
    """Turn the warm process, if it is root, into nobody. Raises OSError.

    ``inner``: it stands behind an outer wall and will make namespaces.
    """
    if not kernel.known_machine():
        return
    if os.geteuid() == 0:
        if inner:
            # Bubblewrap, run by root, covers parts of /proc; where any is covered the kernel lets nobody mount it anew.
            with suppress(OSError):
                _mount_processes()
        kernel.become(NOBODY)
        # A process that was root hides its /proc from its own account, and so cannot name who it is in a namespace.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    kernel.drop_capabilities()


def enter() -> None:
    """Leave for new namespaces; the next fork is the first process in them. Raises OSError."""
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(_NAMESPACES)
    kernel.map_ids(LEARNER, uid, gid)


def furnish(size: int) -> None:
    """Lay out the first process's view: empty folders of its own in memory, its own /proc; give up all powers.

    ``size`` is in bytes, for all files together. Raises OSError.
    """
    kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    quiet = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("tmpfs", str(PLACE), "tmpfs", quiet, f"size={size},nr_inodes=20000,mode=0755")
    if TEMPORARY.is_mount():
        kernel.mount("tmpfs", str(TEMPORARY), "tmpfs", quiet, f"size={size // 2},nr_inodes=2000,mode=0700")
    kernel.mount("tmpfs", str(SHARED), "tmpfs", quiet, f"size={size // 2},nr_inodes=2000,mode=0700")
    WORK.mkdir(mode=0o700)
    try:
        _mount_processes()
    except OSError:  # a container that covers parts of its /proc: better none than that of the warm process
        kernel.mount("tmpfs", "/proc", "tmpfs", quiet | kernel.MS_RDONLY, "size=4096")
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)  # nobody in here looks into this process


def folders() -> list[Path]:
    """Where a submission in namespaces of its own can write."""
    return [WORK, SHARED, *([TEMPORARY] if TEMPORARY.is_mount() else [])]


def _mount_processes() -> None:
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def renounce(*, inner: bool, readable: list[str], work: str) -> None:
    """Put up the fences around the process that runs the submission. Raises OSError.

    Args:
        inner: whether it is in namespaces of its own, where everything in sight may be read.
        readable: what may be read otherwise.
        work: the only folder in which it may write.
    """
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    version = fences.landlock_version()
    if version:
        shown = [Path("/")] if inner else [Path(path) for path in readable]
        devices = [Path("/dev", name) for name in ("null", "zero", "full", "random", "urandom")]
        own = [Path(work), *(folders() if inner else [])]
        fences.restrict_files([*shown, *devices[1:]], [*own, devices[0]])
    elif not inner:
        raise OSError("this kernel has no Landlock")
    fences.deny_system_calls(network=inner, signals=inner or version >= 6)


def _try_out(level: str) -> None:
    """Do once what is done for each submission, and say so (see ``walls.obstacle``)."""
    inner = level != "LANDLOCK"
    settle(inner=inner)
    if inner:
        enter()
        first = os.fork()
        if first:
            raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
        furnish(1 << 20)
        second = os.fork()
        if second:
            os._exit(os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]))
    renounce(inner=inner, readable=sys.path, work=str(WORK))
    if inner:
        (WORK / "written").write_text("here")
    import colorsys  # noqa: F401 - something that was not loaded before: Python must still find its files

    os.write(1, b"confined\n")
    os._exit(0)


if __name__ == "__main__":
    _try_out(sys.argv[1])
