"""What the teacher is told of a class: who needs a person, and how far a run has come."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from proctor import meter
from proctor.meter import Meter
from proctor.results import CheckResult, ExerciseResult, Outcome, Verdict
from proctor.roster import verdict_table
from proctor.shortcuts import find_shortcut, find_suspicion


def verdict(outcome: Outcome = Outcome.PASSED, message: str = "", **fields: object) -> Verdict:
    check = CheckResult(name="t", title="works", points=1, outcome=outcome, message=message)
    return Verdict(unit="u", exercises=(ExerciseResult(name="norm", title="N", checks=(check,)),), **fields)


def told(verdicts: dict[str, Verdict], remarks: list[tuple[str, str]] | None = None) -> list[str]:
    out = io.StringIO()
    verdict_table(verdicts, Console(file=out, width=300), remarks or [])
    lines = out.getvalue().splitlines()
    if "Needs a person" not in lines:
        return []
    start = lines.index("Needs a person") + 1
    return [line.strip() for line in lines[start : [*lines, ""].index("", start)]]


def test_each_matter_for_a_person_is_a_line_with_the_student() -> None:
    shortcut = find_shortcut(
        ["import torch\n\ndef norm(x):\n    return torch.norm(x)"], "norm", ["torch.norm"]
    )
    suspicion = find_suspicion(["def norm(x):\n    return eval(x)"], "norm", ["torch.norm"])
    lines = told(
        {
            "ada": verdict(),
            "bela": verdict(notes=("The cell of `norm` is missing.",)),
            "chen": verdict(Outcome.FAILED, shortcut),
            "dora": verdict(Outcome.GRADER_ERROR, "KeyError"),
            "em\x1b[31mil": verdict(problem="mini.ipynb is not JSON"),
            "gus": verdict(notes=(suspicion,)),
        },
        [("fay", "'x' is a symbolic link"), ("", "the disk is slow")],
    )
    assert lines == [
        "! bela · damaged notebook: The cell of `norm` is missing.",
        f"! chen · suspected shortcut: norm: {shortcut}",
        "! dora · a person must look: a check broke in norm",
        "! emil · a person must look: mini.ipynb is not JSON",
        f"! gus · suspected shortcut: {suspicion}",
        "! fay · 'x' is a symbolic link",
        "! the disk is slow",
    ]


def test_where_nothing_is_amiss_nobody_is_asked() -> None:
    assert told({"ada": verdict(), "bela": verdict(Outcome.FAILED, "wrong")}) == []


def test_off_a_terminal_a_plain_line_comes_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    with Meter("grading", 100, Console()) as counting:
        for _ in range(40):
            now[0] += 1
            counting.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "grading: 10 of 100, 1.0/s, 1:30 left"
    assert len(lines) == 4


def test_what_was_kept_does_not_count_as_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    counting = Meter("grading", 10_000, Console(quiet=True))
    for _ in range(1000):
        counting.advance(worked=False)
    assert counting.pace() == ""
    now[0] = 2.0
    counting.advance()
    assert counting.pace() == "0.5/s, 4:59:58 left"
