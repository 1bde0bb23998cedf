"""Two fences that a process puts around itself and cannot take down: seccomp (system calls) and Landlock (files).

Behind namespaces they are the second wall: what gets past those still finds no mount, no ptrace, no keyring. Where
there are no namespaces they are the first. Both hold for everything that the process starts.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst and landlock.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable
from pathlib import Path

from proctor import kernel

# System calls that no course needs and that reach beyond the process, by their numbers on each processor.
_DENIED = {
    "x86_64": {
        "ptrace": 101, "syslog": 103, "vhangup": 153, "modify_ldt": 154, "pivot_root": 155, "adjtimex": 159,
        "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168,
        "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "init_module": 175,
        "delete_module": 176, "quotactl": 179, "clock_settime": 227, "kexec_load": 246, "add_key": 248,
        "request_key": 249, "keyctl": 250, "unshare": 272, "move_pages": 279, "perf_event_open": 298,
        "fanotify_init": 300, "name_to_handle_at": 303, "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "kexec_file_load": 320,
        "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": {
        "ptrace": 117, "syslog": 116, "vhangup": 58, "pivot_root": 41, "adjtimex": 171, "chroot": 51, "acct": 89,
        "settimeofday": 170, "mount": 40, "umount2": 39, "swapon": 224, "swapoff": 225, "reboot": 142,
        "sethostname": 161, "setdomainname": 162, "init_module": 105, "delete_module": 106, "quotactl": 60,
        "clock_settime": 112, "kexec_load": 104, "add_key": 217, "request_key": 218, "keyctl": 219, "unshare": 97,
        "move_pages": 239, "perf_event_open": 241, "fanotify_init": 262, "name_to_handle_at": 264,
        "open_by_handle_at": 265, "clock_adjtime": 266, "setns": 268, "process_vm_readv": 270,
        "process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "kexec_file_load": 294, "bpf": 280,
        "userfaultfd": 282,
    },
}  # fmt: skip
_DENIED_EVERYWHERE = {  # newer calls have the same number on every processor
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "quotactl_fd": 443, "open_tree_attr": 467,
}  # fmt: skip
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE, _SOCKET, _IOCTL = (
    {"x86_64": 56, "aarch64": 220},
    {"x86_64": 41, "aarch64": 198},
    {"x86_64": 16, "aarch64": 29},
)
_KILL = {
    "x86_64": (62, 200, 129),
    "aarch64": (129, 130, 138),
}  # kill, tkill, rt_sigqueueinfo: a process, first
_TGKILL = {"x86_64": (234, 297), "aarch64": (131, 240)}  # tgkill, rt_tgsigqueueinfo: its threads
_PIDFD_SEND_SIGNAL, _CLONE3 = 424, 435
_NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW… flag that clone takes
_FORGED_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into a terminal

_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS
_NUMBER, _ARCH, _FIRST, _SECOND = (
    0,
    4,
    16,
    24,
)  # where the kernel puts the call's number, machine and arguments
_UNIX, _INET, _INET6 = 1, 2, 10


def deny_system_calls(*, network: bool, signals: bool) -> None:
    """Refuse, with ``PermissionError``, the system calls that reach beyond this process and its children.

    Args:
        network: whether internet sockets may be made (they lead nowhere in a network namespace of its own).
        signals: whether other processes may be signalled; without, none but this process itself.

    Raises OSError where the kernel has no seccomp.
    """
    machine = platform.machine()
    denied = sorted({*_DENIED[machine].values(), *_DENIED_EVERYWHERE.values()})
    refuse = [(_RETURN, 0, 0, _REFUSE)]
    program = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _ARCHITECTURE[machine]),
        *refuse,
        (_LOAD, 0, 0, _NUMBER),
        # x32, another set of numbers on the same processor, is refused as a whole.
        *([(_AT_LEAST, 0, 1, 0x40000000), *refuse] if machine == "x86_64" else []),
    ]
    for number in denied:
        program += [(_EQUAL, 0, 1, number), *refuse]
    # Arguments of clone3 lie in memory, where a filter cannot look: libc takes clone where there is no clone3.
    program += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _UNKNOWN)]
    program += _when(_CLONE[machine], [(_LOAD, 0, 0, _FIRST), (_ANY_BIT, 0, 1, _NEW_NAMESPACES), *refuse])
    families = (_UNIX, _INET, _INET6) if network else (_UNIX,)
    program += _when(_SOCKET[machine], [(_LOAD, 0, 0, _FIRST), *_only(families)])
    typing = [line for value in _FORGED_INPUT for line in ((_EQUAL, 0, 1, value), *refuse)]
    program += _when(_IOCTL[machine], [(_LOAD, 0, 0, _SECOND), *typing])
    if not signals:
        own = (os.getpid(),)
        for number in (*_KILL[machine], *_TGKILL[machine]):
            program += _when(number, [(_LOAD, 0, 0, _FIRST), *_only(own)])
        program += [(_EQUAL, 0, 1, _PIDFD_SEND_SIGNAL), *refuse]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = b"".join(struct.pack("<HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("@HxxxxxxP", len(program), ctypes.addressof(buffer))
    holder = ctypes.create_string_buffer(head, len(head))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(22, 2, ctypes.addressof(holder))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def _when(number: int, then: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Run ``then`` for one system call; afterwards its number is at hand again."""
    return [(_EQUAL, 0, len(then) + 1, number), *then, (_LOAD, 0, 0, _NUMBER)]


def _only(values: Iterable[int]) -> list[tuple[int, int, int, int]]:
    """Refuse where the value at hand is none of these."""
    values = [*values]
    return [
        *((_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)),
        (_RETURN, 0, 0, _REFUSE),
    ]


_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | 1 << 14 | 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446


def landlock_version() -> int:
    """The version of Landlock that this kernel has; 0 where it has none or it is switched off."""
    try:
        return kernel.raw(_CREATE_RULESET, 0, 0, 1, what="Landlock")
    except OSError:
        return 0


def restrict_files(readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Leave this process nothing of the file system but what is named, and (where known) no signals and no TCP.

    Raises OSError where the kernel has no Landlock.
    """
    version = landlock_version()
    rights = (1 << 13) - 1  # everything that version 1 knows
    for since, right in (
        (2, 1 << 13),
        (3, 1 << 14),
        (5, 1 << 15),
    ):  # linking across folders, truncating, ioctl
        rights |= right if version >= since else 0
    network = 3 if version >= 4 else 0  # to bind and to connect by TCP
    scoped = 3 if version >= 6 else 0  # abstract sockets and signals of processes outside
    attributes = struct.pack("<QQQ", rights, network, scoped)[
        : 24 if version >= 6 else 16 if version >= 4 else 8
    ]
    ruleset = kernel.raw(
        _CREATE_RULESET, ctypes.c_char_p(attributes), len(attributes), 0, what="landlock_create_ruleset"
    )
    try:
        for path, allowed in [*((p, _READ) for p in readable), *((p, rights) for p in writable)]:
            _allow(ruleset, path, allowed & rights)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        kernel.raw(_RESTRICT_SELF, ruleset, 0, what="landlock_restrict_self")
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not path.is_dir():
            rights &= _FILE_RIGHTS
        rule = struct.pack("<Qi", rights, descriptor)
        kernel.raw(_ADD_RULE, ruleset, 1, ctypes.c_char_p(rule), 0, what=f"Landlock's rule for {path}")
    finally:
        os.close(descriptor)
