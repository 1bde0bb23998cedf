"""The last cell of unit 02: it writes where the answers work, and otherwise says what it waits for."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from scratch import probability, probability_rewards
from scratch.data.plays import Play, Speech
from scratch.probability_rewards import NAMES, Bigrams, manual, writes_a_line
from scratch.probability_rewards import play as read_play

RELEASE = Path(__file__).parents[2] / "exercises" / "02_probability" / "probability.ipynb"
ANSWERS = {name: getattr(probability, name) for name in NAMES}


@pytest.fixture(autouse=True)
def short_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of our own, so that the tests depend on no package and take no time."""
    line, other = "the dog saw the cat".split(), "a cat saw a dog".split()
    text = [line, other, line, "my dog saw a bird".split()] * 60
    monkeypatch.setattr(probability_rewards, "play", lambda: ("a play", text))


@pytest.fixture
def stubs() -> dict[str, Any]:
    """The notebook's names as the exercise comes: nothing is written yet."""
    namespace: dict[str, Any] = {}
    for cell in nbformat.read(RELEASE, as_version=4).cells:
        if cell.id in ("setup", *NAMES):
            exec(cell.source, namespace)
    return namespace


@pytest.mark.parametrize("written", range(len(NAMES)))
def test_it_waits_for_the_first_exercise_that_is_missing(
    written: int, stubs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert writes_a_line({**stubs, **{name: ANSWERS[name] for name in NAMES[:written]}}) is None
    assert (
        capsys.readouterr().out == f"This picture waits for `{NAMES[written]}`, which is not written yet.\n"
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value", [None, "garbage", np.zeros(3), np.full((2, 3), np.nan)], ids=["None", "text", "array", "NaN"]
)
def test_wrong_answers_are_told_and_raise_nothing(
    name: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert writes_a_line({**ANSWERS, name: lambda *args, **kwargs: value}) is None
    assert capsys.readouterr().out.startswith(probability_rewards.UNFINISHED)


def test_it_writes_and_draws_where_all_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    picture = writes_a_line(ANSWERS)
    assert "cross-entropy on lines kept aside" in picture.alt
    out = capsys.readouterr().out
    assert re.findall(r"temperature (\S+)", out) == ["0.3", "1.0", "2.0"]
    assert set(re.findall(r"[a-z]+", out.partition("\n\n")[2])) <= set(
        "temperature the dog saw cat a my bird".split()
    )


def test_only_words_that_followed_are_written_and_other_seeds_write_others() -> None:
    _, text = probability_rewards.play()
    followed = {pair for line in text for pair in itertools.pairwise(line)}
    written = [
        line.split()
        for seed in (1, 2)
        for lines in Bigrams(text, ANSWERS, seed).written.values()
        for line in lines
    ]
    assert {pair for line in written for pair in itertools.pairwise(line)} <= followed
    assert written[: len(written) // 2] != written[len(written) // 2 :]


def test_context_is_worth_something() -> None:
    losses = Bigrams(probability_rewards.play()[1], ANSWERS, 0).losses
    assert list(losses.values()) == sorted(losses.values(), reverse=True)


def test_the_manual_is_there_where_no_play_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probability_rewards, "play", lambda: None)
    assert writes_a_line(ANSWERS) is not None
    assert "Counted from Python's manual" in capsys.readouterr().out


def test_without_any_text_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probability_rewards, "play", lambda: None)
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert manual() is None
    assert writes_a_line(ANSWERS) is None
    assert "needs a text" in capsys.readouterr().out


def test_the_play_is_hamlet_where_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    speech = Speech("ACT I", "SCENE I", "A", ("Who's there, I say?", "'Tis I.", "Ay."))
    monkeypatch.setattr(probability_rewards, "load_play", lambda title: Play(title, "tragedies", (speech,)))
    assert read_play() == ("Hamlet", [["who's", "there", "i", "say"], ["tis", "i"]])


def test_there_is_no_play_where_none_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))
    assert read_play() is None
