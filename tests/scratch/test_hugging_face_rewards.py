"""The last cell of unit 16: it searches where the answers work, or says what it waits for. And the figures."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
import torch

from scratch import hugging_face, hugging_face_plots, hugging_face_rewards
from scratch.data.cache import NotBuilt
from scratch.hugging_face_rewards import NAMES, Passage, lessons_folder, passages, search_lessons

RELEASE = Path(__file__).parents[2] / "exercises" / "16_hugging_face" / "hugging_face.ipynb"
ANSWERS = {name: getattr(hugging_face, name) for name in NAMES}


@pytest.fixture
def stubs() -> dict[str, Any]:
    """The notebook's names as the exercise comes: nothing is written yet."""
    namespace: dict[str, Any] = {"Sequence": None}
    for cell in nbformat.read(RELEASE, as_version=4).cells:
        if cell.id == "setup":
            lines = [x for x in cell.source.splitlines() if "refuse_network" not in x]  # not in this process
            exec("\n".join(lines), namespace)
        if cell.id in NAMES:
            exec(cell.source, namespace)
    return namespace


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model and a tokenizer that are made up, in the place of the published ones; and two lessons."""
    import transformers

    words = "attention masks padding recurrent nets carry states".split()

    class Tokens:
        pad_token_id = 0

        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [1 + words.index(w) for w in text.lower().split() if w in words] or [9]}

    def model(input_ids, attention_mask):
        table = torch.eye(384)[:10]
        return SimpleNamespace(last_hidden_state=table[input_ids])

    loaded = SimpleNamespace(from_pretrained=lambda folder: SimpleNamespace(eval=lambda: model))
    monkeypatch.setattr(transformers, "AutoModel", loaded)
    monkeypatch.setattr(
        transformers, "AutoTokenizer", SimpleNamespace(from_pretrained=lambda folder: Tokens())
    )
    monkeypatch.setattr(hugging_face_rewards, "checkpoint_folder", lambda: tmp_path)
    found = [
        Passage("08 attention", "Masks", "attention masks padding"),
        Passage("06 recurrent", "States", "recurrent nets carry states"),
    ]
    monkeypatch.setattr(hugging_face_rewards, "passages", lambda folder: found)


@pytest.mark.parametrize("written", range(len(NAMES)))
def test_it_waits_for_the_first_exercise_that_is_missing(
    written: int, stubs: dict[str, Any], small: None, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {**stubs, **{name: ANSWERS[name] for name in NAMES[:written]}}
    assert search_lessons(answers, "masks") is None
    assert f"waits for `{NAMES[written]}`, which is not written yet" in capsys.readouterr().out
    search_lessons({}, "masks")
    assert "waits for `collate`" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, "garbage", [], torch.zeros(2)], ids=str)
def test_garbage_never_throws(name: str, value: Any, small: None, capsys: pytest.CaptureFixture[str]) -> None:
    search_lessons({**ANSWERS, name: lambda *args, **kwargs: value}, "masks")
    assert "waits until the checks above pass" in capsys.readouterr().out


def test_it_shows_what_lies_nearest(small: None, capsys: pytest.CaptureFixture[str]) -> None:
    search_lessons(ANSWERS, "padding masks")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 passages of 2 lessons")
    assert "08 attention, Masks" in lines[2]


def test_it_says_what_else_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> Path:
        raise NotBuilt("checkpoint")

    monkeypatch.setattr(hugging_face_rewards, "checkpoint_folder", missing)
    search_lessons(ANSWERS, "masks")
    assert "`make data`" in capsys.readouterr().out
    monkeypatch.setattr(hugging_face_rewards, "lessons_folder", lambda: None)
    search_lessons(ANSWERS, "masks")
    assert "waits for the lessons" in capsys.readouterr().out


def test_passages_are_the_sections_of_the_lessons(tmp_path: Path) -> None:
    cells = [
        {
            "cell_type": "markdown",
            "source": ["# Masks\n", "\n", "Why " * 40, "\n```\ncode\n```\n| a | b |\n"],
        },
        {"cell_type": "code", "source": ["x = 1"]},
        {"cell_type": "markdown", "source": ["It goes on.\n## Short\nNo."]},
    ]
    folder = tmp_path / "lessons"
    folder.mkdir()
    (folder / "08_attention.ipynb").write_text(json.dumps({"cells": cells}))
    (one,) = passages(folder)
    assert one[:2] == ("08 attention", "Masks")
    assert one.text.endswith("Why It goes on.")
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert lessons_folder(tmp_path / "a" / "b") == folder


def test_figures_say_what_they_show() -> None:
    strip = hugging_face_plots.label_strip(
        ["março", "de"],
        ["[CLS]", "mar", "##co", "de", "[SEP]"],
        [None, 0, 0, 1, None],
        {"first only": [-100, 1, -100, 0, -100]},
        ["O", "B-MONTH", "I-MONTH"],
    )
    assert "none, B-MONTH, none, O, none" in strip.alt
    assert "to 8: 25% of them padding" in hugging_face_plots.padding([8, 4, 8, 4], size=2, fixed=8).alt
    assert "sorted by length: 0% of them" in hugging_face_plots.padding([8, 4, 8, 4], size=2, fixed=8).alt
    assert "a sentence" in hugging_face_plots.similarity(torch.eye(2), ["a sentence", "another"]).alt
    assert "x: 70%; y: 90%" in hugging_face_plots.accuracies({"x": 0.7, "y": 0.9}).alt
