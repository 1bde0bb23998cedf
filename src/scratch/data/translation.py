"""Portuguese and English sentences from the user interfaces of programs, as pairs, for units 13 and 15.

People have translated the programs; nothing here is made up. ``docs/data.md`` says where each package comes from.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scratch.data import cache
from scratch.data.archive import Sources
from scratch.data.pairs import of_common_words, one_answer, pair, plain
from scratch.data.splits import split

NAME = "translation"
SPARE = 2  # pairs to train on in which every word of a held-out pair stands


class Pair(NamedTuple):
    """A sentence in two languages, lower-case words with single spaces between; and the package it is from."""

    portuguese: str
    english: str
    package: str


class Translation(NamedTuple):
    """Pairs to train on, pairs to choose by, and pairs to judge by; and a line on where they come from."""

    train: list[Pair]
    validation: list[Pair]
    held_out: list[Pair]
    source: str


def load_translation(held_out: int = 500, validation: int = 0, seed: int = 0) -> Translation:
    """Return the pairs, split at random by the seed so that nothing of one part is seen in another.

    No English and no Portuguese sentence stands in two parts, with or without accents and hyphens. Every word of the
    pairs set aside stands in at least two of those to train on, so that no part has unknown words.

    Args:
        held_out: how many pairs to judge by.
        validation: how many pairs to choose by, such as when to stop.
        seed: another seed, another split.

    Raises:
        NotBuilt: `make data` has not been run.
        ValueError: there are not that many pairs to set aside.
    """
    train, judge, choose = split(
        load_pairs(), (held_out, validation), seed, keys=_sentences, needs=_words, spare=SPARE
    )
    return Translation(train, choose, judge, cache.credit(NAME))


def load_pairs() -> list[Pair]:
    """Return all pairs, in the order of the packages and their files; raises NotBuilt."""
    rows = (line.split("\t") for line in cache.read(NAME, "pairs.tsv").splitlines())
    return [Pair(portuguese, english, package) for package, portuguese, english in rows]


def build(sources: Sources, to: Path) -> dict[str, int]:
    """Write the pairs of all packages."""
    first: dict[tuple[str, str], str] = {}
    for found, package in (every := list(_found(sources))):
        first.setdefault(found, package)
    kept = of_common_words(one_answer(found for found, _ in every))
    rows = [f"{first[both]}\t{both[0]}\t{both[1]}\n" for both in kept]
    (to / "pairs.tsv").write_text("".join(rows), "utf-8")
    vocabulary = [{word for both in kept for word in both[side].split()} for side in (0, 1)]
    return {"pairs": len(kept), "Portuguese words": len(vocabulary[0]), "English words": len(vocabulary[1])}


def _found(sources: Sources) -> Iterator[tuple[tuple[str, str], str]]:
    from scratch.data.catalogues import texts  # Babel's readers, which the loaders do not need

    for package, members in sources.items():
        for portuguese, english in texts(members):
            if both := pair(portuguese, english):
                yield both, package


def _sentences(both: Pair) -> list[tuple[str, str]]:
    return [("portuguese", plain(both.portuguese)), ("english", plain(both.english))]


def _words(both: Pair) -> list[tuple[str, str]]:
    sides = ("portuguese", both.portuguese), ("english", both.english)
    return [(side, word) for side, sentence in sides for word in sentence.split()]
