"""What the sandbox asks of the Linux kernel and Python has no function for: namespaces, mounts, capabilities.

Thin wrappers around libc by ``ctypes``; each raises OSError with the kernel's reason. ``fences.py`` holds seccomp
and Landlock.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any

NEW_MOUNTS, NEW_UTS, NEW_IPC = 0x00020000, 0x04000000, 0x08000000
NEW_USER, NEW_PIDS, NEW_NET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
MNT_DETACH = 2
MADV_COLLAPSE, HUGE_PAGE = 25, 2 << 20
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP = 1, 4, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 36, 38, 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_SYSCALLS = {  # those that libc has no function for
    "x86_64": {"capset": 126, "pivot_root": 155},
    "aarch64": {"capset": 91, "pivot_root": 41},
}


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def known_machine() -> bool:
    """Whether this is Linux on a processor whose system calls are known here."""
    return sys.platform == "linux" and platform.machine() in _SYSCALLS


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def call(name: str, *arguments: Any) -> int:
    """Make a system call that libc has no function for. Raises OSError."""
    number = _SYSCALLS[platform.machine()][name]
    return raw(number, *arguments, what=name)


def raw(number: int, *arguments: Any, what: str = "system call") -> int:
    """Make a system call by its number. Raises OSError."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc().syscall(ctypes.c_long(number), *words), what)


def prctl(option: int, *arguments: int) -> int:
    """Set a property of this process. Raises OSError."""
    words = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_libc().prctl(ctypes.c_int(option), *words), f"prctl {option}")


def collapse_memory() -> int:
    """Put this process's private memory into huge pages, where the kernel has them; the bytes that it did.

    A fork copies the page table, and its end takes that down: half the time with an entry for 2 MB in place of 512.
    """
    done = 0
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    for span, rights, *rest in map(str.split, lines):
        if not rights.startswith("rw-p") or rest[3:] not in ([], ["[heap]"]):
            continue
        begin, end = (int(address, 16) for address in span.split("-"))
        begin, end = -(-begin // HUGE_PAGE) * HUGE_PAGE, end // HUGE_PAGE * HUGE_PAGE
        sizes = ctypes.c_void_p(begin), ctypes.c_size_t(end - begin)
        if end > begin and _libc().madvise(*sizes, ctypes.c_int(MADV_COLLAPSE)) == 0:
            done += end - begin
    return done


def unshare(flags: int) -> None:
    """Leave the namespaces that are named; of processes, only children are in the new one. Raises OSError."""
    _checked(_libc().unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system, or change a mount. Raises OSError."""
    words = [text.encode() if text else None for text in (source, target, kind)]
    result = _libc().mount(*words, ctypes.c_ulong(flags), options.encode() if options else None)
    _checked(result, f"mount {target}")


def unmount(target: str) -> None:
    """Take a mount out of sight, at once. Raises OSError."""
    _checked(_libc().umount2(target.encode(), MNT_DETACH), f"unmount {target}")


def change_root(new: str) -> None:
    """Make ``new``, a mount, the root of this mount namespace, and the old root unreachable. Raises OSError."""
    os.chdir(new)
    call("pivot_root", ctypes.c_char_p(b"."), ctypes.c_char_p(b"."))  # the old root now lies over the new one
    unmount(".")
    os.chdir("/")


def map_ids(inside: int, uid: int, gid: int) -> None:
    """Name the one account of a new user namespace: ``inside`` there, ``uid`` and ``gid`` out here. Raises OSError."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside} {uid} 1"),
        ("gid_map", f"{inside} {gid} 1"),
    ):
        Path("/proc/self", name).write_text(text, encoding="utf-8")


def drop_capabilities() -> None:
    """Give up every capability for good, also those that a program could bring back. Raises OSError."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break  # the kernel knows no more of them, or this process may not: then it has none to drop
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    call("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))


def become(uid: int) -> None:
    """Turn root into an ordinary account without groups. Raises OSError."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
