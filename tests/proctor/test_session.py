from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proctor import session as module
from proctor.cells import MAX_DISPLAYS, MAX_IMAGE, MAX_OUTPUT
from proctor.remote import Student
from proctor.sandbox import Limits, Sandbox
from proctor.session import MAX_CRASHES, MAX_IMAGES, MAX_RESTARTS, MAX_TEXT, CellOutput, CellRun, Session
from proctor.trouble import StudentGone

QUICK = Limits(cell_seconds=1.0, cells_seconds=5.0, call_seconds=1.0, total_seconds=40.0)
PRELUDE = ("prelude", "import os, signal, sys, time\nprint('begun')")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(QUICK) as sandbox:
        yield sandbox


@contextmanager
def session(sandbox: Sandbox, *cells: tuple[str, str]) -> Iterator[Session]:
    opened = Session(sandbox, [PRELUDE, *cells])
    try:
        yield opened
    finally:
        opened.close()


def student(session: Session, exercise: str) -> Student:
    return Student(session.open_exercise(exercise))


def told(outputs: list[dict[str, Any]]) -> str:
    return " ".join(str(output.get("text", "")) + str(output.get("evalue", "")) for output in outputs)


ENDINGS = {
    "hangs": "while True: pass",
    "exits": "os._exit(0)",
    "is killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "crashes": "import ctypes; ctypes.string_at(0)",
}


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_a_cell_that_ends_the_process_is_left_out_and_the_others_names_still_work(
    sandbox: Sandbox, ending: str
) -> None:
    cells = [
        ("a", "def a(): return 'a'"),
        ("bad", f"{ENDINGS[ending]}\ndef bad(): pass"),
        ("b", "def b(): return a() + 'b'"),
    ]
    with session(sandbox, *cells) as opened:
        works = student(opened, "one")
        assert works.b() == "ab"
        with pytest.raises(StudentGone, match="There is no `bad` yet"):
            works.bad()
        reason = "longer than 1 second" if ending == "hangs" else "ended its own process"
        assert reason in told(opened.outputs["bad"])
        assert told(opened.outputs["prelude"]) == "begun\n"
        assert opened._starts == 2


def test_a_cell_that_raises_is_no_more_than_that(sandbox: Sandbox) -> None:
    cells = [
        ("bad", "x = 1\n1 / 0\ny = 2"),
        ("syntax", "def ("),
        ("exit", "sys.exit()"),
        ("good", "z = x + 1"),
    ]
    with session(sandbox, *cells) as opened:
        assert student(opened, "one").z == 2
        [error] = [output for output in opened.outputs["bad"] if output["output_type"] == "error"]
        assert (error["ename"], error["evalue"]) == ("ZeroDivisionError", "division by zero")
        assert error["traceback"][0] == "line 2, in <module>: 1 / 0"
        assert "SyntaxError" in str(opened.outputs["syntax"])
        assert "SystemExit" in str(opened.outputs["exit"])
        assert opened._starts == 1


@pytest.mark.parametrize(
    "garbage",
    [
        "None", "5", "[]", "{}", "{'outputs': 5}", "{'outputs': [5], 'error': None}", "{'outputs': [{}]}",
        "{'outputs': [{'kind': 'html', 'text': 'x'}]}", "{'outputs': [], 'error': 'x'}", "{'outputs': [], 'more': 1}",
        "{'outputs': [{'kind': 'stdout', 'text': 5}]}", "{'outputs': [], 'error': ['a', 'b', [['f', 'x', 'c']]]}",
        "{'outputs': [{'kind': 'display', 'png': 'text'}]}", "object()", "lambda: 0", "np.zeros(3)",
        "{'outputs': [{1: 2}]}", "{'outputs': [[]], 'error': float('nan')}",
    ],
)  # fmt: skip
def test_garbage_instead_of_a_cells_result_costs_that_cell(sandbox: Sandbox, garbage: str) -> None:
    """The learner's code can reach the worker's own objects: what they answer is believed in nothing."""
    tamper = f"""
import gc, numpy as np
from proctor.student import Student
for thing in gc.get_objects():
    if type(thing) is Student:
        thing.peer.answer["run"] = lambda content: {garbage}
"""
    with session(
        sandbox, ("a", "def a(): return 1"), ("tamper", tamper), ("next", "def b(): return 2")
    ) as opened:
        works = student(opened, "one")
        assert works.a() == 1
        with pytest.raises(StudentGone, match="There is no `b`"):
            works.b()
        for outputs in opened.outputs.values():
            nbformat.validate(nbformat.from_dict(as_notebook(outputs)))


def as_notebook(outputs: list[dict[str, Any]]) -> dict[str, Any]:
    cell = {
        "cell_type": "code",
        "id": "x",
        "metadata": {},
        "source": "",
        "execution_count": None,
        "outputs": outputs,
    }
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}


def test_a_worker_that_raises_instead_of_answering_costs_that_cell(sandbox: Sandbox) -> None:
    tamper = "ip = get_ipython()\ndef no(*a, **k): raise ValueError('tampered \\ud800')\nip.run_cell = no"
    with session(
        sandbox, ("a", "def a(): return 1"), ("tamper", tamper), ("b", "def b(): return 2")
    ) as opened:
        works = student(opened, "one")
        assert works.a() == 1
        assert "tampered ?" in told(opened.outputs["b"])
        with pytest.raises(StudentGone, match="There is no `b`"):
            works.b()


CRASHES = ("crash", "def crash(): os._exit(1)\ndef hang(): time.sleep(100)\ndef fine(): return os.getpid()")


def test_a_call_that_crashes_costs_its_exercise_only(sandbox: Sandbox) -> None:
    with session(sandbox, CRASHES) as opened:
        first = student(opened, "one").fine()
        assert student(opened, "one").fine() == first  # all checks of an exercise talk to one fork
        second = student(opened, "two").fine()
        assert second != first
        with pytest.raises(StudentGone, match="ended its own process"):
            student(opened, "two").crash()
        third = student(opened, "two").fine()  # the other checks of the exercise have a new one
        assert len({first, second, third, student(opened, "three").fine()}) == 4
        assert opened._starts == 1  # and the cells have run but once
        assert opened.outputs.keys() == {"prelude", "crash"}


STATE = """
import os, subprocess, pathlib, sys, time, torch
seen = []
def note(x):
    seen.append(x)
    torch.note = x
    pathlib.Path("note").write_text(str(x))
    return len(seen), os.path.exists("cell")
def look():
    return seen, hasattr(torch, "note"), os.path.exists("note"), os.path.exists("cell")
def start():
    return subprocess.Popen(["sleep", "1000"], start_new_session=True).pid
def runs(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split(")")[1].split()[0] != "Z"
    except ProcessLookupError:
        return False
of_the_cells = start()
pathlib.Path("cell").write_text("written by a cell")
"""


def test_what_one_exercise_leaves_the_next_never_sees(sandbox: Sandbox) -> None:
    with session(sandbox, ("state", STATE)) as opened:
        assert student(opened, "one").note(1) == (1, True)
        assert student(opened, "one").look() == ([1], True, True, True)
        left = student(opened, "one").start()
        assert student(opened, "one").runs(left)
        two = student(opened, "two")
        assert two.look() == ([], False, False, True)
        assert not two.runs(left)
        assert two.runs(two.of_the_cells)


def test_an_exercise_that_kills_the_process_of_the_cells_costs_no_other(sandbox: Sandbox) -> None:
    killer = ("killer", "def kill(): os.kill(os.getppid(), 9)\ndef fine(): return 1")
    with session(sandbox, killer) as opened:
        student(opened, "one").kill()
        assert student(opened, "two").fine() == 1
        assert opened._starts == 2


def test_an_exercise_that_crashes_again_and_again_leaves_the_others_theirs(sandbox: Sandbox) -> None:
    with session(sandbox, CRASHES) as opened:
        for exercise in ("one", "two", "three", "four", "five"):
            before = opened._starts
            for _ in range(8):
                with pytest.raises(StudentGone, match="ended its own process"):
                    student(opened, exercise).crash()
            assert opened._starts - before <= MAX_RESTARTS + 1
        assert student(opened, "last").fine()


def test_a_call_that_takes_too_long_is_not_tried_again_within_its_exercise(sandbox: Sandbox) -> None:
    with session(sandbox, CRASHES) as opened:
        begun = time.monotonic()
        for _ in range(5):
            with pytest.raises(StudentGone, match="longer than 1 second"):
                student(opened, "one").hang()
        assert time.monotonic() - begun < 5
        assert opened._starts == 1
        assert student(opened, "two").fine()
        assert opened._starts == 1


def test_the_total_time_bounds_everything(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "limits", Limits(cell_seconds=1.0, call_seconds=1.0, total_seconds=3.0))
    with session(sandbox, CRASHES) as opened:
        begun = time.monotonic()
        for exercise in range(20):
            for _ in range(3):
                with pytest.raises(StudentGone):
                    student(opened, str(exercise)).hang()
        assert time.monotonic() - begun < 8
        sentence = opened.open_exercise("last").gone
        assert "longer" in sentence


def test_many_cells_that_hang_end_with_the_total_time(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "limits", Limits(cell_seconds=0.3, cells_seconds=1.0, total_seconds=2.0))
    hanging = [(str(number), "while True: pass") for number in range(30)]
    with session(sandbox, *hanging) as opened:
        begun = time.monotonic()
        with pytest.raises(StudentGone):
            student(opened, "one").fine()
        assert time.monotonic() - begun < 6
        with pytest.raises(StudentGone):
            student(opened, "two").fine()
        assert time.monotonic() - begun < 6


def test_cells_that_end_the_process_are_left_out_one_by_one(sandbox: Sandbox) -> None:
    """More of them than an exercise has restarts."""
    deadly = [(f"bad {number}", "os._exit(0)") for number in range(MAX_RESTARTS + 5)]
    with session(sandbox, *deadly, ("good", "def good(): return 1")) as opened:
        assert student(opened, "one").good() == 1
        assert opened._starts == len(deadly) + 1 <= MAX_CRASHES


def test_crashes_have_an_end(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CRASHES", 4)
    deadly = [(str(number), "os._exit(0)") for number in range(10)]
    with session(sandbox, *deadly) as opened:
        for exercise in ("one", "two", "three"):
            with pytest.raises(StudentGone):
                student(opened, exercise).good()
        assert opened._starts == 5


def test_no_time_at_all_is_still_an_answer(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "limits", Limits(total_seconds=0.0))
    with session(sandbox, CRASHES) as opened, pytest.raises(StudentGone):
        student(opened, "one").fine()


def test_the_zygote_may_be_killed_in_the_middle(sandbox: Sandbox) -> None:
    killer = ("killer", "def kill(): os.kill(os.getppid(), 9); os._exit(0)\ndef fine(): return 1")
    with session(sandbox, killer) as opened:
        with pytest.raises(StudentGone):
            student(opened, "one").kill()
        assert student(opened, "two").fine() == 1


# What is kept of a cell's outputs


def keep(*runs: tuple[str, CellRun]) -> dict[str, list[dict[str, Any]]]:
    opened = Session(Sandbox(), [])
    for name, run in runs:
        opened._keep(name, run)
    return opened.outputs


PNG = b"\x89PNG\r\n\x1a\n"


def test_outputs_are_those_of_a_notebook() -> None:
    outputs = [
        CellOutput("stdout", "a"),
        CellOutput("stderr", "b"),
        CellOutput("display", "<Figure>", PNG + b"x"),
    ]
    kept = keep(("a", CellRun(outputs=outputs, error=("E", "text", [("f", 3, "code")]))))["a"]
    nbformat.validate(nbformat.from_dict(as_notebook(kept)))
    assert [output["output_type"] for output in kept] == ["stream", "stream", "display_data", "error"]
    assert base64.b64decode(kept[2]["data"]["image/png"]) == PNG + b"x"


def test_what_is_no_picture_or_too_large_is_left_out() -> None:
    for png in (b"", b"<script>", b"GIF89a", PNG + bytes(MAX_IMAGE)):
        [output] = keep(("a", CellRun(outputs=[CellOutput("display", "text", png)])))["a"]
        assert output["data"] == {"text/plain": "text"}


def test_pictures_have_a_limit_for_the_whole_submission() -> None:
    picture = CellOutput("display", "", PNG + bytes(MAX_IMAGE - len(PNG)))
    kept = keep(*((str(n), CellRun(outputs=[picture])) for n in range(MAX_IMAGES // MAX_IMAGE + 10)))
    found = [output for outputs in kept.values() for output in outputs if "image/png" in output["data"]]
    assert len(found) == MAX_IMAGES // MAX_IMAGE


def test_text_has_a_limit_for_the_whole_submission() -> None:
    long = CellRun(outputs=[CellOutput("stdout", "x" * 10**6)] * 40)
    kept = keep(*((str(n), long) for n in range(30)))
    texts = [output["text"] for outputs in kept.values() for output in outputs]
    assert sum(map(len, texts)) <= MAX_TEXT
    assert max(map(len, texts)) <= MAX_OUTPUT + 100
    assert max(map(len, kept.values())) <= MAX_DISPLAYS + 2


def test_a_cell_that_is_run_again_replaces_what_it_left() -> None:
    full = CellRun(outputs=[CellOutput("stdout", "x" * MAX_OUTPUT)] * 12)
    kept = keep(*[("a", full)] * 50, ("b", CellRun(outputs=[CellOutput("stdout", "last")])))
    assert told(kept["b"]) == "last"


def test_twenty_thousand_cells_are_kept_in_reasonable_time() -> None:
    begun = time.monotonic()
    keep(*((str(n), CellRun(outputs=[CellOutput("stdout", "x")])) for n in range(20_000)))
    assert time.monotonic() - begun < 5


LETTERS = st.text(st.characters(exclude_categories=()), max_size=20)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.builds(
            CellOutput, st.sampled_from(["stdout", "stderr", "display"]), LETTERS, st.binary(max_size=9)
        )
    ),
    st.none() | st.tuples(LETTERS, LETTERS, st.lists(st.tuples(LETTERS, st.integers(), LETTERS), max_size=9)),
)
def test_whatever_is_kept_can_be_written_to_a_notebook(outputs: list[CellOutput], error: Any) -> None:
    kept = keep(("a", CellRun(outputs=outputs, error=error)))["a"]
    notebook = nbformat.from_dict(as_notebook(kept))
    nbformat.validate(notebook)
    nbformat.writes(notebook).encode()  # no lone surrogates
