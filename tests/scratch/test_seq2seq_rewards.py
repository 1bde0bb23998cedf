"""The last cell of unit 07: it learns and draws where the answers work, and otherwise says what it waits for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import pytest
import torch

from scratch import seq2seq_rewards
from scratch.seq2seq_rewards import NAMES, reverse_and_translate

matplotlib.use("Agg")
COURSE = Path(__file__).parents[2]
Printed = pytest.CaptureFixture[str]


def notebook(written: Collection[str] = NAMES) -> dict[str, Any]:
    """The notebook's names where these exercises are written, and the others are as they come."""
    namespace: dict[str, Any] = {}
    for cell in nbformat.read(COURSE / "solutions" / "07_seq2seq" / "seq2seq.ipynb", as_version=4).cells:
        if cell.id in ("setup", "Seq2Seq", *written):
            exec(cell.source, namespace)
    for cell in nbformat.read(COURSE / "exercises" / "07_seq2seq" / "seq2seq.ipynb", as_version=4).cells:
        if cell.id in NAMES and cell.id not in written:
            exec(cell.source, namespace)
    return namespace


@pytest.mark.parametrize("missing", NAMES)
def test_it_waits_for_what_is_missing(missing: str, capsys: Printed) -> None:
    assert reverse_and_translate(notebook(set(NAMES) - {missing})) is None
    assert capsys.readouterr().out == f"This picture waits for `{missing}`, which is not written yet.\n"


def test_it_waits_for_the_first_where_nothing_is_written(capsys: Printed) -> None:
    assert reverse_and_translate(notebook(())) is None
    assert capsys.readouterr().out.startswith("This picture waits for `shift_right`")


def test_it_reverses_translates_and_draws(capsys: Printed) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    picture = reverse_and_translate(notebook(), "1 de abril de 1999")
    out = capsys.readouterr().out
    assert int(out.split("Reversed: ")[1].split()[0]) > 285
    assert int(out.split("Translated: ")[1].split()[0]) > 285
    assert "1 de abril de 1999 → April 1, 1999" in picture.alt
    assert torch.equal(torch.random.get_rng_state(), before)


def test_it_says_that_a_text_is_no_date_before_it_learns(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.setattr(seq2seq_rewards, "_reverse", lambda namespace: ["all"])
    monkeypatch.setattr(seq2seq_rewards, "learn", lambda *_, **__: pytest.fail("it learned"))
    assert reverse_and_translate(notebook(), "amanhã") is None
    assert capsys.readouterr().out.startswith("“amanhã” cannot be read: the token 'amanhã'")


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    monkeypatch.setattr(seq2seq_rewards, "PATIENCE", 0)
    assert reverse_and_translate(notebook()) is None
    assert "stopped after 0 seconds" in capsys.readouterr().out


def test_what_never_learns_is_told_from_what_does(capsys: Printed) -> None:
    """A decoder that is shown the answers learns to copy them, and writes nonsense by itself."""
    namespace = notebook()
    namespace["shift_right"] = lambda target, begin: target
    assert reverse_and_translate(namespace) is None
    assert "waits until the checks above pass" in capsys.readouterr().out
