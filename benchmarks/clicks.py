"""Clicks on the formgrader's “autograde” in a running ``proctor lab``, as a browser makes them."""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser.servers import Server, lab_on


def ask(server: Server, path: str, method: str = "GET") -> tuple[float, Any]:
    """The seconds that an answer takes, and the answer."""
    headers = {"Authorization": f"token {server.token}"}
    request = urllib.request.Request(f"{server.url}{path}", method=method, headers=headers)
    start = time.perf_counter()
    with urllib.request.urlopen(request, timeout=600) as answer:
        read = json.loads(answer.read())
    return time.perf_counter() - start, read


def press(root: Path, unit: str) -> list[tuple[str, str, str]]:
    """Grade every submission of a course twice, click by click; the rows of a table. Raises SystemExit."""
    students = sorted(path.name for path in (root / "submitted").iterdir())
    over, waits = threading.Event(), []
    with lab_on(root) as server:

        def click(student: str) -> float:
            path = f"/formgrader/api/submission/{unit}/{student}/autograde"
            seconds, answer = ask(server, path, "POST")
            if not answer["success"]:
                raise SystemExit(f"the formgrader's button failed: {answer}")
            return seconds

        def look() -> None:
            while not over.is_set():
                waits.append(ask(server, "/api/status")[0])
                time.sleep(0.05)

        first = click(students[0])
        warm = [click(student) for student in students]
        looking = threading.Thread(target=look)
        looking.start()
        try:
            watched = [click(student) for student in students]
        finally:
            over.set()
            looking.join()
    rows = [("the first, straight after the server has started", [first])]
    rows += [("warm", warm), ("warm, while others use the server", watched)]
    rows += [("the server's answer to those others", waits)]
    return [
        (what, f"{1000 * statistics.median(took):.0f} ms", f"{1000 * max(took):.0f} ms")
        for what, took in rows
    ]
