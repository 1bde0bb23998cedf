"""``proctor lab`` on a copy of the course, as a process of its own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Server:
    """A Jupyter server, and the course folder that it serves."""

    url: str
    token: str
    root: Path

    def at(self, path: str) -> str:
        """The address of a page, with the key to it."""
        return f"{self.url}{path}?token={self.token}"


@contextmanager
def lab_on(root: Path) -> Iterator[Server]:
    """Run ``proctor lab`` on a course; all that Jupyter and nbgrader keep elsewhere goes into a folder beside it."""
    home = root.with_name(f"{root.name}-home")
    (home / "config").mkdir(parents=True)
    closed = {"open_browser": False}
    settings = {"ServerApp": {**closed, "ip": "127.0.0.1"}, "ExtensionApp": closed}
    (home / "config" / "jupyter_server_config.json").write_text(json.dumps(settings))
    exchange = {"root": str(home / "exchange"), "cache": str(home / "exchange-cache")}
    (home / "exchange").mkdir()
    (home / "exchange").chmod(0o777)
    (home / "config" / "nbgrader_config.json").write_text(json.dumps({"Exchange": exchange}))
    token = secrets.token_hex(16)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "PYTEST"))}
    environment = kept | {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_PORT": str(free_port()),
        "JUPYTER_TOKEN": token,
    }
    log = home / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [BIN / "proctor", "lab"],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        url, pid = started(process, home / "runtime", log)
        try:
            yield Server(url, token, root)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)  # it ends its kernels, and `proctor lab` ends with it
            with suppress(subprocess.TimeoutExpired):  # it may hang over a kernel that was only just starting
                process.wait(20)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def started(process: subprocess.Popen[bytes], runtime: Path, log: Path) -> tuple[str, int]:
    """The address of a server and its process, once it answers."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            try:
                about = json.loads(path.read_text())
                url = about["url"].rstrip("/")
                with urllib.request.urlopen(f"{url}/api", timeout=5):
                    return url, about["pid"]
            except (OSError, ValueError):
                pass  # not yet
        time.sleep(0.1)
    raise AssertionError(f"`proctor lab` did not start:\n{log.read_text()[-3000:]}")
