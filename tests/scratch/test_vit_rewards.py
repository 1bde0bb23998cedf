"""The last cell of unit 19: it reads and shows where it looked, and otherwise says what it waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

from scratch import patches, vit
from scratch import vit_rewards as rewards

NAMES = rewards.NAMES
ROOT = Path(__file__).parents[2]
ALL = {name: getattr(vit, name, None) or getattr(patches, name) for name in NAMES}


def notebook(*, missing: str) -> dict[str, Any]:
    """The notebook's names where all is solved but one exercise, which is as it comes."""
    namespace: dict[str, Any] = {}
    solved, released = (
        {cell.id: cell.source for cell in nbformat.read(ROOT / room / "19_vit/vit.ipynb", as_version=4).cells}
        for room in ("solutions", "exercises")
    )
    for name in ("setup", *NAMES):
        exec((released if name == missing else solved)[name], namespace)
    return namespace


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rewards.learn.__kwdefaults__, "epochs", 3)


@pytest.mark.parametrize("missing", NAMES)
@pytest.mark.usefixtures("hurried")
def test_it_waits_for_what_is_missing(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert rewards.read_with_attention(notebook(missing=missing)) is None
    assert capsys.readouterr().out == f"This picture waits for `{missing}`, which is not written yet.\n"


@pytest.mark.usefixtures("hurried")
def test_it_does_not_boast_of_a_model_that_cannot_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert rewards.read_with_attention(ALL) is None
    assert rewards.UNFINISHED in capsys.readouterr().out


def test_it_does_not_let_a_reader_wait_for_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewards, "PATIENCE", 1e-3)
    assert rewards.read_with_attention(ALL) is None
    assert "is there a loop over pixels or patches" in capsys.readouterr().out


def test_it_reads_and_shows_where_it_looked(capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.random.get_rng_state()
    picture = rewards.read_with_attention(ALL)
    told = capsys.readouterr().out
    share = float(told.split("are read: ")[1].split("%")[0])
    assert share >= 95
    assert "rollout" in picture.alt
    assert torch.equal(torch.random.get_rng_state(), state)


def test_images_move_by_a_pixel_at_most_and_each_by_itself() -> None:
    images = torch.zeros(40, 1, 5, 7)
    images[:, :, 2, 3] = 1
    moved = rewards.shifted(images, torch.Generator().manual_seed(0))
    places = {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert moved.shape == images.shape
    assert len(moved.nonzero()) == 40
    assert places == {(y, x) for y in (1, 2, 3) for x in (2, 3, 4)}
