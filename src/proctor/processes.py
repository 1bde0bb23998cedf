"""Ending processes with everything that they have started, and removing what they leave."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


def descendants() -> list[psutil.Process]:
    """Everything that this process has started, and what that has started, as far as nobody else adopted it."""
    import psutil

    return psutil.Process().children(recursive=True)


def _is_zombie(process: psutil.Process) -> bool:
    import psutil

    with suppress(psutil.Error):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def end_children(leader: int | None = None, seconds: float = 10.0, keep: Collection[int] = ()) -> bool:
    """Kill every descendant but those in ``keep``, the group of ``leader`` at one blow; whether none is left.

    As their reaper, this process inherits those whose parents have gone.
    """
    import psutil

    if leader is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        children = [child for child in descendants() if child.pid not in keep]
        children = [child for child in children if not (keep and _is_zombie(child))]
        for child in children:
            with suppress(psutil.Error):
                child.kill()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # never wait for one: it may have been forked since
                pass
        if not children:
            return True
        time.sleep(0.001)
    return False


def end_process(process: subprocess.Popen[bytes], home: Path | None, patience: float) -> None:
    """End the warm process, whose control socket is closed, and whatever else still runs in its folder."""
    import psutil

    killed = process.poll() is not None
    try:
        process.wait(patience)  # it ends its children first, then itself
    except subprocess.TimeoutExpired:
        killed = True
    if not killed and process.returncode == 0:
        return
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.kill()
    process.wait()
    # Orphans of a warm process that was killed are nobody's children: known by their folder, where they did not leave.
    for _ in range(100):
        for other in family:
            with suppress(psutil.Error):
                other.kill()
        family = [other for other in psutil.process_iter() if home is not None and _lives_in(other, home)]
        if not family:
            return


def _lives_in(process: psutil.Process, home: Path) -> bool:
    import psutil

    if process.pid == os.getpid():
        return False
    with suppress(psutil.Error, OSError):
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if Path(process.cwd()).is_relative_to(home):
            return True
    with suppress(psutil.Error, OSError):
        return Path(process.environ().get("HOME", "/")).is_relative_to(home)
    return False


def remove(path: Path) -> None:
    """Remove a file or a folder, also one whose owner has locked himself out."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    with suppress(OSError):
        path.chmod(0o700)
    for folder, names, _ in os.walk(path):
        for inner in (Path(folder, name) for name in names):
            if not inner.is_symlink():
                with suppress(OSError):
                    inner.chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)
