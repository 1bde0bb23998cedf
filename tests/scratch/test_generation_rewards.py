"""The last cell of unit 14: it measures and writes where the answers work, and otherwise says what it waits for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
import torch

from scratch import generation, gpt, play_models
from scratch import generation_rewards as rewards
from scratch.data import cache, plays

ROOT = Path(__file__).parents[2]
TEXT = (
    "HAMLET:\nTo be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\n\n" * 80
)


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A play of two lines, a small model, and a folder of our own."""
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))
    play = SimpleNamespace(text=TEXT)
    monkeypatch.setattr(plays, "load_plays", lambda: plays.Plays([play], [play], "a test"))
    monkeypatch.setattr(play_models, "SIZES", {"max_length": 128, "d_model": 16, "heads": 2, "layers": 1})
    monkeypatch.setattr(rewards, "STEPS", 30)


def right() -> dict[str, Any]:
    """The library's answers."""
    return {name: getattr(gpt, name, None) or getattr(generation, name) for name in rewards.NAMES}


def notebook(*, missing: str) -> dict[str, Any]:
    """The notebook's names where all is solved but one exercise, which is as it comes."""
    namespace: dict[str, Any] = {}
    solved, released = (
        {
            cell.id: cell.source
            for cell in nbformat.read(ROOT / room / "14_generation/generation.ipynb", as_version=4).cells
        }
        for room in ("solutions", "exercises")
    )
    for name in ("setup", *rewards.NAMES):
        exec((released if name == missing else solved)[name], namespace)
    return namespace


@pytest.mark.parametrize("missing", rewards.NAMES)
def test_it_waits_for_what_is_missing(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    rewards.recite(notebook(missing=missing))
    assert capsys.readouterr().out == f"This picture waits for `{missing}`, which is not written yet.\n"


def test_it_trains_for_a_while_where_there_are_no_weights(capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.random.get_rng_state()
    rewards.recite(right())
    told = capsys.readouterr().out
    assert "30 steps of training" in told
    assert told.count("HAMLET:\n") == rewards.LINES + 1
    assert torch.equal(torch.random.get_rng_state(), state)


def test_it_takes_up_the_lessons_weights(capsys: pytest.CaptureFixture[str]) -> None:
    size = len(play_models.Characters(TEXT))
    play_models.keep(gpt.GPT(size, **play_models.SIZES), rewards.WEIGHTS)
    namespace = right() | {"perplexity": lambda model, batches: min(gpt.perplexity(model, batches), 19.0)}
    rewards.recite(namespace)
    assert "the lesson's weights" in capsys.readouterr().out


def test_it_does_not_boast_of_a_model_that_knows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    rewards.recite(right() | {"perplexity": lambda model, batches: 1e9})
    assert rewards.UNFINISHED in capsys.readouterr().out


def test_it_says_how_to_get_the_plays(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise cache.NotBuilt("plays")

    monkeypatch.setattr(plays, "load_plays", absent)
    rewards.recite(right())
    assert "make data" in capsys.readouterr().out
