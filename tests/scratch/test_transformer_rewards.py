"""The last cell of unit 12: it counts and writes where the answers work, and otherwise says what it waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

from scratch import transformer
from scratch import transformer_rewards as rewards

NAMES = rewards.NAMES
ROOT = Path(__file__).parents[2]


def notebook(*, missing: str) -> dict[str, Any]:
    """The notebook's names where all is solved but one exercise, which is as it comes."""
    namespace: dict[str, Any] = {}
    solved, released = (
        {
            cell.id: cell.source
            for cell in nbformat.read(ROOT / room / "12_decoder/decoder.ipynb", as_version=4).cells
        }
        for room in ("solutions", "exercises")
    )
    for name in ("setup", *NAMES):
        exec((released if name == missing else solved)[name], namespace)
    return namespace


@pytest.mark.parametrize("missing", NAMES)
def test_it_waits_for_what_is_missing(
    missing: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewards.learn, "__defaults__", (2,))
    assert rewards.read_and_write(notebook(missing=missing)) is None
    assert capsys.readouterr().out == f"This picture waits for `{missing}`, which is not written yet.\n"


def test_it_does_not_boast_of_a_model_that_cannot_write(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewards.learn, "__defaults__", (2,))
    assert rewards.read_and_write({name: getattr(transformer, name) for name in NAMES}) is None
    assert rewards.UNFINISHED in capsys.readouterr().out


def test_it_counts_and_writes_where_all_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.random.get_rng_state()
    picture = rewards.read_and_write({name: getattr(transformer, name) for name in NAMES})
    told = capsys.readouterr().out
    assert picture is not None
    assert "63,082,496 parameters" in told
    assert "mask       → ksam" in told
    assert torch.equal(torch.random.get_rng_state(), state)


def test_backwards_is_the_source_read_from_its_end() -> None:
    source, target = rewards.backwards(20, torch.Generator().manual_seed(1))
    for one, other in zip(source.tolist(), target.tolist(), strict=True):
        assert rewards.spell(one) == rewards.spell(other)[::-1]
        assert other[0] == rewards.START
        assert rewards.END in other
