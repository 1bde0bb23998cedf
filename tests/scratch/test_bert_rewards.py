"""The last cell of unit 17: it shows published numbers where the answers give them, or says what is amiss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

from scratch import bert
from scratch import bert_rewards as rewards
from scratch.data import cache
from scratch.data.cache import NotBuilt
from scratch.data.checkpoint import checkpoint_folder

ROOT = Path(__file__).parents[2]

try:
    folder, why = checkpoint_folder(), ""
except NotBuilt as error:
    folder, why = None, str(error)
needs_checkpoint = pytest.mark.skipif(folder is None, reason=why)


def notebook(*, missing: str) -> dict[str, Any]:
    """The notebook's names where all is solved but one exercise, which is as it comes."""
    namespace: dict[str, Any] = {}
    solved, released = (
        {
            cell.id: cell.source
            for cell in nbformat.read(ROOT / room / "17_bert/bert.ipynb", as_version=4).cells
        }
        for room in ("solutions", "exercises")
    )
    for name in ("setup", *rewards.NAMES):
        exec((released if name == missing else solved)[name], namespace)
    return namespace


@needs_checkpoint
@pytest.mark.parametrize("missing", rewards.NEEDED)
def test_it_waits_for_what_is_missing(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert rewards.published_numbers(notebook(missing=missing)) is None
    assert capsys.readouterr().out == f"This picture waits for `{missing}`, which is not written yet.\n"


def test_without_the_checkpoint_it_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    assert rewards.published_numbers(vars(bert)) is None
    assert "python -m scratch.data checkpoint" in capsys.readouterr().out


@needs_checkpoint
def test_it_does_not_boast_of_a_model_that_gives_other_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    class Other(bert.BertModel):
        def forward(self, ids, segments=None, mask=None):
            return super().forward(ids, segments)

    assert rewards.published_numbers({**vars(bert), "BertModel": Other}) is None
    assert rewards.UNFINISHED in capsys.readouterr().out


@needs_checkpoint
def test_it_matches_and_answers_where_all_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.random.get_rng_state()
    picture = rewards.published_numbers(vars(bert))
    told = capsys.readouterr().out
    assert picture is not None
    assert "22,713,216 published weights" in told
    assert told.count("1e-04: yes") + told.count("1e-04:   yes") == 2
    assert "Nearest:  A causal mask hides later words from a decoder." in told
    assert torch.equal(torch.random.get_rng_state(), state)
