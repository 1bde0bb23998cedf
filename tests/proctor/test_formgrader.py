"""The formgrader's buttons in a running ``proctor lab``: nothing stands still while they work."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from browser.servers import Server, lab_on
from minicourse import ANSWERS, UNIT, make_class
from proctor.nbgrader import classroom
from proctor.nbgrader.formgrader import plain

pytestmark = pytest.mark.isolation

SLOW = {**ANSWERS, "norm": "import time\ntime.sleep(3)\n" + ANSWERS["norm"]}
HALF = {**ANSWERS, "norm": "def norm(x):\n    return double(x).sum()"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("class")
    course = make_class(folder, {"ada": ANSWERS, "bela": HALF, "slow": SLOW})
    with lab_on(course.root) as server:
        yield server


def ask(server: Server, path: str, method: str = "GET", wait: float = 120) -> Any:
    headers = {"Authorization": f"token {server.token}"}
    request = urllib.request.Request(f"{server.url}{path}", method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=wait) as answer:
        return json.loads(answer.read())


def autograde(server: Server, student: str) -> dict[str, Any]:
    return ask(server, f"/formgrader/api/submission/{UNIT}/{student}/autograde", "POST")


class Click(threading.Thread):
    """A press on a button, whose answer is waited for elsewhere."""

    def __init__(self, server: Server, student: str) -> None:
        super().__init__(daemon=True)
        self.server, self.student, self.answer = server, student, {}
        self.start()

    def run(self) -> None:
        self.answer = autograde(self.server, self.student)

    def done(self) -> dict[str, Any]:
        self.join(200)
        return self.answer


def desks(server: Server) -> list[psutil.Process]:
    """The processes that do the formgrader's work on this course."""
    found = []
    for process in psutil.process_iter():
        try:
            if "proctor.nbgrader.desk" in " ".join(process.cmdline()) and process.cwd() == str(server.root):
                found.append(process)
        except psutil.Error:
            continue
    return found


def students(server: Server) -> set[str]:
    """Whose submissions the formgrader lists."""
    return {entry["student"] for entry in ask(server, f"/formgrader/api/submissions/{UNIT}")}


class TestTheServer:
    def test_answers_others_while_a_submission_is_graded(self, server: Server) -> None:
        assert autograde(server, "ada")["success"]  # all is warm: what takes its time now is the submission
        click, answered = Click(server, "slow"), 0
        while click.is_alive():
            ask(server, "/api/status")
            listed = students(server)
            answered += click.is_alive()
            # nbgrader reads what is graded and what is not one after the other, so a submission whose grades are
            # saved between the two is in neither, that once.
            assert (listed if "slow" in listed else students(server)) == {"ada", "bela", "slow"}
            time.sleep(0.05)
        assert click.answer["success"], click.answer
        assert answered >= 5  # where the server stands still, the first is answered when all is over
        assert classroom.scores(server.root, UNIT)["slow"] == 6.0

    def test_two_clicks_at_once_both_end_right(self, server: Server) -> None:
        clicks = [Click(server, student) for student in ("ada", "bela")]
        for click in clicks:
            assert click.done()["success"], click.answer
        scores = classroom.scores(server.root, UNIT)
        assert (scores["ada"], scores["bela"]) == (6.0, 3.0)
        for click in clicks:  # each has the log of its own work
            other = {"ada": "bela", "bela": "ada"}[click.student]
            assert f"/{click.student}/" in click.answer["log"]
            assert f"/{other}/" not in click.answer["log"]

    def test_every_click_of_a_whole_class_at_once_is_answered(self, server: Server) -> None:
        clicks = [Click(server, student) for student in ("ada", "bela") * 3]
        assert all(click.done()["success"] for click in clicks)

    def test_feedback_is_written_the_same_way(self, server: Server) -> None:
        assert autograde(server, "bela")["success"]
        answer = ask(server, f"/formgrader/api/assignment/{UNIT}/bela/generate_feedback", "POST")
        assert answer["success"], answer
        assert "Is there a root?" in (server.root / "feedback" / "bela" / UNIT / "mini.html").read_text()


class TestFailure:
    def test_has_the_form_that_nbgrader_gives_it(self, server: Server) -> None:
        answer = autograde(server, "nobody")
        with classroom.inside(server.root):
            stock = classroom.classroom(server.root).autograde(UNIT, "nobody")
        assert answer.keys() == stock.keys() == {"success", "error", "log"}
        assert answer["success"] is stock["success"] is False
        assert answer["error"].splitlines()[-1] == stock["error"].splitlines()[-1]
        assert "No notebooks were matched" in answer["log"]

    def test_of_the_process_itself_is_told_and_the_next_click_works(self, server: Server) -> None:
        click = Click(server, "slow")
        while not (found := desks(server)):
            time.sleep(0.05)
        time.sleep(1)
        for process in found:
            process.kill()
        assert click.done()["success"] is False
        assert "ended" in click.answer["error"]
        assert autograde(server, "ada")["success"]

    def test_a_broken_configuration_grades_nothing(self, server: Server) -> None:
        path = server.root / "nbgrader_config.py"
        before = path.read_text()
        path.write_text(before + "\nraise RuntimeError('half a configuration')\n")
        try:
            answer = autograde(server, "ada")
        finally:
            path.write_text(before)
        assert answer["success"] is False
        assert "half a configuration" in answer["error"]
        assert autograde(server, "ada")["success"]


def test_no_process_is_left_when_the_server_has_ended(tmp_path) -> None:
    course = make_class(tmp_path, {"ada": ANSWERS})
    with lab_on(course.root) as server:
        assert autograde(server, "ada")["success"]
        family = [p for desk in desks(server) for p in (desk, *desk.children(recursive=True))]
        assert len(family) >= 3  # the desk, the one that grades, the student's side
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive


def test_a_learner_who_has_collected_nothing_gets_no_process(tmp_path) -> None:
    course = make_class(tmp_path, {})
    with lab_on(course.root) as server:
        assert ask(server, "/api/status")
        time.sleep(1)
        assert not desks(server)


def test_settings_that_are_no_data_stay_behind() -> None:
    assert dict(plain({"a": 1, "b": [1, "x"], "c": plain, "d": {"e": None}})) == {
        "a": 1,
        "b": [1, "x"],
        "d": {"e": None},
    }
