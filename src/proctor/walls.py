"""What this machine offers to keep other people's code away from everything, and how to start a process behind it.

The levels, best first:

1. ``BUBBLEWRAP``: bubblewrap around the warm process, which sees the Python environment alone; for each submission
   namespaces of its own inside, seccomp and Landlock.
2. ``NAMESPACES``: the same, the outer wall built by ``enclosure.py``.
3. ``LANDLOCK``: no namespaces; Landlock for files, signals and TCP, seccomp for the rest.
4. ``PLAIN``: a process with limits. Enough for one's own work; other people's is refused, unless they are trusted.
"""

from __future__ import annotations

import enum
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Collection
from functools import cache
from pathlib import Path

from proctor import confine, fences, kernel
from proctor.course import CourseError

_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/nix/store", "/gnu/store")
_SETTINGS = (
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/timezone", "/etc/fonts",
    "/etc/mime.types", "/etc/alternatives",
)  # fmt: skip
_TOOLS = ("/usr/local/bin", "/usr/bin", "/bin")  # where bubblewrap lies, whatever PATH says


class Level(enum.IntEnum):
    """How far other people's code is kept away from the machine; higher is further."""

    PLAIN = 0
    LANDLOCK = 1
    NAMESPACES = 2
    BUBBLEWRAP = 3

    @property
    def isolated(self) -> bool:
        """Whether other people's work may be graded at this level without trusting them."""
        return self is not Level.PLAIN

    @property
    def inner(self) -> bool:
        """Whether each submission gets namespaces of its own."""
        return self >= Level.NAMESPACES

    @property
    def described(self) -> str:
        """The level in a line."""
        return {
            Level.BUBBLEWRAP: "bubblewrap outside, and for each submission its own user, pid, mount, net and ipc "
            "namespaces, seccomp and Landlock inside",
            Level.NAMESPACES: "for each submission its own user, pid, mount, net and ipc namespaces, with seccomp and "
            "Landlock",
            Level.LANDLOCK: "Landlock, seccomp and resource limits, without namespaces",
            Level.PLAIN: "a process with limits: apart from what scores it, not from the files of the account",
        }[self]


@cache
def best() -> Level:
    """The best level at which a process really starts here; tried out, not guessed."""
    return next(level for level in sorted(Level, reverse=True) if not obstacle(level))


@cache
def obstacle(level: Level) -> str:
    """Why this machine does not offer a level; empty if it does."""
    if level is Level.PLAIN:
        return ""
    if not kernel.known_machine():
        return "this needs Linux on x86_64 or aarch64"
    if level is Level.BUBBLEWRAP and _bubblewrap() is None:
        return "bubblewrap is not installed"
    if level is Level.LANDLOCK and not fences.landlock_version():
        return "this kernel has no Landlock, or it is switched off"
    try:
        trial = subprocess.run(
            [*command(level), sys.executable, "-I", "-m", "proctor.confine", level.name],
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"a process behind it does not start: {error}"
    if trial.returncode == 0 and trial.stdout == "confined\n":
        return ""
    lines = trial.stderr.strip().splitlines() or [f"it ended with {trial.returncode}"]
    return f"a process behind it does not start: {lines[-1][:300]}"


def required(trusted: bool = False) -> Level:
    """The level for grading other people's work. Raises CourseError where this machine has none, unless trusted."""
    level = best()
    if level.isolated or trusted:
        return level
    raise CourseError(
        f"nothing on this machine keeps submissions away from your files ({obstacle(Level.NAMESPACES)}), so other "
        f"people's work is not graded here; {advice()} (`proctor doctor` tells more), or say `--trust-submissions` "
        "if you trust everybody who handed in"
    )


def advice() -> str:
    """What would raise the level here; empty at the best."""
    if best() is Level.BUBBLEWRAP:
        return ""
    if not kernel.known_machine():
        return "grade on Linux (x86_64 or aarch64), for instance in a virtual machine"
    if _bubblewrap() is None:
        return "install bubblewrap (`apt-get install bubblewrap` on Debian and Ubuntu)"
    return (
        "let ordinary users make namespaces (`sysctl user.max_user_namespaces`, `kernel.unprivileged_userns_clone=1`, "
        "`kernel.apparmor_restrict_unprivileged_userns=0`; in a container, a seccomp profile that allows `unshare`)"
    )


def readable(hidden: Collection[str] = ()) -> list[tuple[str, Path]]:
    """What a submission may read: the system's programs and libraries, Python, and the installed packages.

    ``hidden`` names modules of the course's library that are left out. Each entry is ``("=", path)`` for a path
    that is shown, or ``("-", path)`` for a folder that is empty but for what is shown in it afterwards.
    """
    paths = [Path(p) for p in (*_SYSTEM, *_SETTINGS)]
    paths += [Path(p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)]
    paths += [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths += [Path(place) for place in sys.path if Path(place).name in ("site-packages", "dist-packages")]
    paths += [Path(sys.executable).parent, Path(os.path.realpath(sys.executable)).parent]
    # A checkout that is installed in place has everything else beside its packages: only they are shown.
    paths += [_package("proctor")]
    library = _package("scratch")
    shown = _outermost([path for path in (*paths, library) if path.exists()])
    if not hidden or not library.is_dir():
        return [("=", path) for path in shown]
    kept = [path for path in sorted(library.rglob("*.py")) if _module(path, library) not in hidden]
    others = [("=", path) for path in shown if path != library]
    return [*others, ("-", library), *(("=", path) for path in kept)]


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    places = [*(spec.submodule_search_locations or ())] if spec else []
    return Path(places[0]) if places else Path("/nonexistent")


def _module(path: Path, library: Path) -> str:
    parts = (library.name, *path.relative_to(library).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def _outermost(paths: list[Path]) -> list[Path]:
    kept: list[Path] = []
    for path in sorted(set(paths), key=lambda p: len(p.parts)):
        if not any(path.is_relative_to(other) and not other.is_symlink() for other in kept):
            kept.append(path)
    return kept


def command(level: Level, hidden: Collection[str] = ()) -> list[str]:
    """What to put before a command so that it runs behind the outer wall of a level."""
    if level is Level.BUBBLEWRAP:
        return _bubblewrap_command(hidden)
    if level is Level.NAMESPACES:
        shown = [f"{what}{path}" for what, path in readable(hidden)]
        return [sys.executable, "-I", "-m", "proctor.enclosure", *shown, "--"]
    return []


@cache
def _bubblewrap() -> str | None:
    return shutil.which("bwrap", path=os.pathsep.join(_TOOLS))


def _bubblewrap_command(hidden: Collection[str]) -> list[str]:
    arguments = [_bubblewrap() or "bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    arguments += ["--unshare-cgroup-try", "--die-with-parent", "--hostname", "learner"]
    if os.geteuid() == 0:
        # As root it makes no user namespace: what runs inside puts a whole /proc over the one that bubblewrap
        # covers in part, then becomes nobody (see ``confine.settle``).
        for capability in ("SYS_ADMIN", "SETUID", "SETGID", "SETPCAP"):
            arguments += ["--cap-add", f"CAP_{capability}"]
    else:
        arguments += ["--unshare-user"]
    made: set[Path] = set()
    for what, path in readable(hidden):
        for parent in reversed(path.parents[:-1]):
            if parent not in made:  # bubblewrap by itself would let nobody but root pass through them
                arguments += ["--perms", "0755", "--dir", str(parent)]
                made.add(parent)
        if what == "-":
            arguments += ["--tmpfs", str(path)]
        elif path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        else:
            arguments += ["--ro-bind", str(path), str(path)]
    place = str(confine.PLACE)
    arguments += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", place, "--chdir", place]
    if confine.TEMPORARY not in made:  # otherwise Python or the course lies in it, and it stays read-only
        arguments += ["--perms", "1777", "--tmpfs", str(confine.TEMPORARY)]
    return [*arguments, "--remount-ro", "/", "--"]
