"""A Jupyter server extension: the formgrader's buttons without standstill.

nbgrader's handlers do their work where they are called, and the whole server waits: every kernel, every other page.
These handlers hand it to the desk (``desk.py``) and answer when it is done, with the same answers. The extension comes
with ``proctor lab``; where nbgrader's formgrader is not loaded, as in a learner's account, it does nothing.
"""

from __future__ import annotations

import asyncio
import glob
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyter_server.utils import url_path_join
from nbgrader.server_extensions.formgrader import apihandlers as stock
from nbgrader.server_extensions.formgrader.base import check_notebook_dir, check_xsrf
from tornado import web
from tornado.routing import HostMatches, Rule
from tornado.web import _ApplicationRouter

from proctor.nbgrader import desk

LONGEST = 1 << 26  # bytes of an answer, which holds nbgrader's log
IDLE = 1800.0  # seconds without work after which its processes give their memory back
WORK = {
    stock.AssignHandler: "generate_assignment",
    stock.UnReleaseHandler: "unrelease",
    stock.ReleaseHandler: "release_assignment",
    stock.CollectHandler: "collect",
    stock.AutogradeHandler: "autograde",
    stock.GenerateAllFeedbackHandler: "generate_feedback",
    stock.ReleaseAllFeedbackHandler: "release_feedback",
    stock.GenerateFeedbackHandler: "generate_feedback",
    stock.ReleaseFeedbackHandler: "release_feedback",
}  # each is a POST that calls this method of nbgrader's interface with the names in its address


class Desk:
    """The process that does the work, from the server's side. It starts when it is first needed."""

    def __init__(self, formgrader: Any) -> None:
        self.formgrader = formgrader
        self.warm: set[str] = set()
        self._turn = asyncio.Lock()  # first come, first served
        self._idle: asyncio.TimerHandle | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, do: str, *names: str) -> dict[str, Any]:
        """Have something done, after all that was asked before; the answer in nbgrader's form."""
        async with self._turn:
            try:
                reader, writer = await self._open()
                writer.write(json.dumps(self._order(do, names)).encode() + b"\n")
                await writer.drain()
                answer: dict[str, Any] = json.loads(await reader.readline())
            except (OSError, ValueError):  # a line that is empty: the process has ended
                self.close()
                told = f"the process that does the formgrader's work ended during `{do}`; try again"
                return {"success": False, "error": told, "log": f"[ERROR] {told}"}
            except BaseException:
                self.close()  # or its answer would be taken for that to the next
                raise
            self._idle = asyncio.get_running_loop().call_later(IDLE, self.close)
        return answer

    def get_ready(self, unit: str) -> None:
        """Start what grading a unit takes, in the background, unless it has been started."""
        if unit not in self.warm:
            self.warm.add(unit)
            task = asyncio.ensure_future(self.ask("warm", unit))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def close(self) -> None:
        """End the process, in its own time."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None
        self.warm.clear()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._idle is not None:
            self._idle.cancel()
        if self._streams is None or self._process is None or self._process.poll() is not None:
            self.close()
            ours, theirs = socket.socketpair()
            with theirs:
                command = [sys.executable, "-c", desk.COMMAND.format(theirs.fileno())]
                self._process = subprocess.Popen(
                    command,
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the server, which asks before it ends
                )
            self._streams = await asyncio.open_connection(sock=ours, limit=LONGEST)
        return self._streams

    def _order(self, do: str, names: tuple[str, ...]) -> desk.Order:
        self.formgrader.load_config_file()  # as nbgrader does at every request: the files may have changed
        course = self.formgrader.coursedir.trait_values(config=True)
        settings = {name: dict(plain(traits)) for name, traits in self.formgrader.config.items()}
        return {"do": do, "names": names, "course": dict(plain(course)), "settings": settings}


def plain(traits: Any) -> Iterator[tuple[str, Any]]:
    """The settings that JSON can carry; the rest are classes and functions, which come from the same files again."""
    for name, value in traits.items() if isinstance(traits, dict) else ():
        try:
            if json.loads(json.dumps(value)) == value:
                yield name, value
        except (TypeError, ValueError):
            continue


class AtTheDesk(stock.BaseApiHandler):
    """A handler of nbgrader's whose work is done at the desk."""

    work = ""

    @web.authenticated
    @check_xsrf
    @check_notebook_dir
    async def post(self, *names: str) -> None:
        """Have it done, and answer as nbgrader's handler does."""
        answer = await self.settings["proctor_desk"].ask(self.work, *names)
        for line in answer.get("log", "").splitlines():
            self.log.info("%s %s: %s", self.work, " ".join(names), line)
        self.write(json.dumps(answer))


class SubmissionCollectionHandler(stock.SubmissionCollectionHandler):
    """The list of a unit's submissions: whoever looks at it is about to grade."""

    @web.authenticated
    @check_xsrf
    @check_notebook_dir
    def get(self, assignment_id: str) -> None:
        """List them, and get ready."""
        super().get(assignment_id)
        if collected(self.settings["nbgrader_formgrader"], assignment_id):
            self.settings["proctor_desk"].get_ready(assignment_id)


def handlers() -> Iterator[tuple[str, type[web.RequestHandler]]]:
    """Ours, at the addresses of nbgrader's."""
    for pattern, handler in stock.default_handlers:
        if handler in WORK:
            yield pattern, type(handler.__name__, (AtTheDesk, handler), {"work": WORK[handler]})
        elif handler is stock.SubmissionCollectionHandler:
            yield pattern, SubmissionCollectionHandler


def collected(formgrader: Any, unit: str = "*") -> list[str]:
    """The units of which something has been collected, newest last: only a teacher's folder has any."""
    directory = formgrader.coursedir
    pattern = directory.format_path(directory.submitted_directory, "*", unit)
    found = [Path(path) for path in glob.glob(pattern)]  # noqa: PTH207 - the pattern is absolute
    return [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime) if path.is_dir()]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "proctor.nbgrader.formgrader"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Nothing yet: nbgrader's formgrader may be loaded after this."""


async def _start_jupyter_server_extension(server: Any) -> None:
    """Put our handlers in front of nbgrader's, and get ready where there is something to grade."""
    application = server.web_app
    formgrader = application.settings.get("nbgrader_formgrader")
    if formgrader is None:
        return
    ours = application.settings["proctor_desk"] = Desk(formgrader)
    base = application.settings["base_url"]
    rules = [(url_path_join(base, pattern), handler) for pattern, handler in handlers()]
    router = _ApplicationRouter(application, rules)
    application.default_router.rules.insert(0, Rule(HostMatches(".*$"), router))
    if not application.settings["nbgrader_bad_setup"] and (units := collected(formgrader)):
        ours.get_ready(units[-1])
