"""The last cell of unit 18 and what it trains on: it shows what works, and otherwise says what it waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

from scratch import span_corruption, t5, t5_rewards, t5_tasks
from scratch.span_corruption import restore_spans

ROOT = Path(__file__).parents[2]
NAMES = t5_rewards.NAMES


def library() -> dict[str, Any]:
    """All answers as the library has them."""
    return {name: getattr(span_corruption, name, None) or getattr(t5, name) for name in NAMES}


def notebook(*, missing: str) -> dict[str, Any]:
    """The notebook's names where all is solved but one exercise, which is as it comes."""
    namespace: dict[str, Any] = {}
    solved, released = (
        {cell.id: cell.source for cell in nbformat.read(ROOT / room / "18_t5/t5.ipynb", as_version=4).cells}
        for room in ("solutions", "exercises")
    )
    for name in ("setup", *NAMES[:-1], "stacks", NAMES[-1]):
        exec((released if name == missing else solved)[name], namespace)
    return namespace


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly any training, and few dates."""
    monkeypatch.setattr(t5_rewards, "STEPS", 2)
    monkeypatch.setattr(t5_tasks.load_tasks, "__defaults__", (60, 5, 10, 1))


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("missing", NAMES)
def test_it_waits_for_what_is_missing(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert t5_rewards.three_tasks(notebook(missing=missing)) is None
    assert capsys.readouterr().out == f"This picture waits for `{missing}`, which is not written yet.\n"


@pytest.mark.usefixtures("hurried")
def test_it_does_not_boast_of_a_model_that_cannot_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert t5_rewards.three_tasks(library()) is None
    assert t5_rewards.UNFINISHED in capsys.readouterr().out


def test_it_stops_where_training_takes_too_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(t5_rewards, "PATIENCE", -1)
    assert t5_rewards.three_tasks(library()) is None
    assert "stopped after" in capsys.readouterr().out


def test_one_model_does_three_tasks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(t5_rewards, "PATIENCE", 3600)  # a busy machine is no failure
    state = torch.random.get_rng_state()
    picture = t5_rewards.three_tasks(library())
    told = capsys.readouterr().out
    assert picture is not None
    assert "Put back: But soft what light" in told
    assert all(f"{task}: " in told for task in t5_tasks.TASKS)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_no_held_out_date_is_in_training_in_any_form() -> None:
    data = t5_tasks.load_tasks(600, 50, 100)
    seen = {text for pairs in data.train.values() for pair in pairs for text in pair} | set(data.texts)
    assert not any(set(pair) & seen for pairs in data.held_out.values() for pair in pairs)
    assert [len(data.train[task]) for task in t5_tasks.TASKS] == [500, 500, 50]
    assert all(len(pairs) == 100 for pairs in data.held_out.values())


def test_every_pair_and_every_corrupted_text_comes_back_from_its_ids() -> None:
    data = t5_tasks.load_tasks(900, 50, 100)
    codec = t5_tasks.vocabulary(data)
    for pairs in (*data.train.values(), *data.held_out.values()):
        for pair in pairs:
            assert tuple(codec.decode(t5_tasks.encode(codec, pair))) == pair
    for source, target in t5_tasks.corrupted(codec, data.texts, span_corruption.span_corruption, 50):
        assert source[-1] == target[-1] == t5_tasks.END
        ids = restore_spans(source[:-1], target[:-1], len(codec) - 1)
        assert codec.decode([ids])[0] in data.texts


def test_labels_are_filled_with_what_no_loss_counts() -> None:
    source, labels = t5_tasks.pad([([5, 2], [7, 8, 2]), ([5, 6, 2], [2])])
    assert source.tolist() == [[5, 2, 0], [5, 6, 2]]
    assert labels.tolist() == [[7, 8, 2], [2, -100, -100]]
