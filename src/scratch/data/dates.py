"""Dates in Portuguese and English: a translation task in which every answer is right or wrong (units 07 and 13).

``quinta-feira, 12 de março de 2026`` becomes ``Thursday, March 12, 2026``. Words and patterns are those of the Unicode
Common Locale Data Repository (CLDR, Unicode licence), as the package Babel (BSD licence) ships them; nothing is copied
here. No two pairs tell the same date, so that held-out pairs are of dates that were never seen in any format.
"""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

PAD, BEGIN, END = 0, 1, 2
SPECIAL = ("<pad>", "<begin>", "<end>")
FORMATS = ("full", "long", "medium", "short")  # CLDR's names, from the weekday spelt out to digits alone
FIRST, LAST = date(1900, 1, 1), date(2099, 12, 31)
# With the space before it, if there is one: a word (which may hold hyphens), a digit, or any other mark.
TOKEN = re.compile(r" ?(?:[^\W\d_]+(?:-[^\W\d_]+)*|[^ ])| ")


class Pair(NamedTuple):
    """One date, told in the source's language and in the target's."""

    day: date
    form: str
    source: str
    target: str


def write_date(day: date, form: str, language: str) -> str:
    """Tell a date in a language, in one of the ``FORMATS`` or by a CLDR skeleton such as "yMMMEd".

    Raises:
        ValueError: the skeleton leaves out day, month or year, so that it would tell different dates alike; or Babel
            does not know it for this language.
    """
    from babel.dates import format_date, format_skeleton

    if form in FORMATS:
        text = format_date(day, form, locale=language)
    else:
        if not ("y" in form and "M" in form and "d" in form):
            raise ValueError(f"a format must tell day, month and year, and {form!r} does not")
        try:
            text = format_skeleton(form, day, fuzzy=False, locale=language)
        except KeyError:
            raise ValueError(f"Babel knows no format {form!r} for the language {language!r}") from None
    return " ".join(text.split())  # some languages use spaces that do not break


def load_dates(
    count: int = 12_000,
    formats: Sequence[str] = FORMATS,
    *,
    languages: tuple[str, str] = ("pt", "en"),
    held_out: float = 0.1,
    seed: int = 0,
) -> tuple[list[Pair], list[Pair]]:
    """Return pairs to train on and held-out ones: different dates between 1900 and 2099, drawn by the seed.

    Args:
        count: how many pairs, and so how many dates, there are in all: at most 73,049.
        formats: each pair is told in one of these, in both languages, drawn at random; see ``write_date``.
        languages: Babel's names of the source's and of the target's language.
        held_out: the share of the pairs that is not for training, rounded to whole pairs.
        seed: the same seed draws the same dates in the same order.

    Raises:
        ValueError: a count that the calendar does not hold, a share outside [0, 1], no format, or one that does not
            tell a date in both languages.
    """
    days = (LAST - FIRST).days + 1
    if not 0 <= count <= days:
        raise ValueError(f"count must lie between 0 and {days}, the days from {FIRST} to {LAST}, got {count}")
    if not 0 <= held_out <= 1:
        raise ValueError(f"held_out is a share between 0 and 1, got {held_out}")
    if not formats:
        raise ValueError("formats is empty: name at least one")
    draw = random.Random(seed)  # noqa: S311 - nothing here is a secret
    pairs = []
    for number in draw.sample(range(days), count):
        day, form = FIRST + timedelta(number), draw.choice(list(formats))
        pairs.append(Pair(day, form, *(write_date(day, form, language) for language in languages)))
    kept = count - round(held_out * count)
    return pairs[:kept], pairs[kept:]


def tokenize(text: str, level: str = "words") -> list[str]:
    """Cut a text into tokens that give it back when they are joined.

    Args:
        text: any text.
        level: "words" cuts it into words, digits and marks, each with the space before it. Names of months and days are
            a closed list and stay whole; a number is cut into digits, since not every number can be in a list. The
            sequences are a third as long as those of "characters", where every character is a token.

    Raises:
        ValueError: another level.
    """
    if level not in ("words", "characters"):
        raise ValueError(f'level must be "words" or "characters", got {level!r}')
    return TOKEN.findall(text) if level == "words" else list(text)


@dataclass(frozen=True)
class Codec:
    """Tokens to ids and back: the id of ``tokens[i]`` is i. The first three, PAD, BEGIN and END, are ``SPECIAL``."""

    tokens: tuple[str, ...]
    level: str = "words"

    @classmethod
    def of(cls, texts: Iterable[str], level: str = "words") -> "Codec":
        """Collect the tokens of some texts, in alphabetical order."""
        found = {token for text in texts for token in tokenize(text, level)}
        return cls((*SPECIAL, *sorted(found)), level)

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens) if i >= len(SPECIAL)}

    def encode(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """Turn texts into rows of ids: their tokens, END, and PAD up to the longest.

        Raises:
            ValueError: a text holds a token that is not in the vocabulary.
        """
        try:
            rows = [[*(self._ids[token] for token in tokenize(text, self.level)), END] for text in texts]
        except KeyError as error:
            raise ValueError(f"the token {error.args[0]!r} is not in the vocabulary") from None
        size = max(map(len, rows), default=0)
        padded = [row + [PAD] * (size - len(row)) for row in rows]
        return torch.tensor(padded, dtype=torch.int64).view(len(rows), size)

    def pieces(self, row: Iterable[int]) -> list[str]:
        """Return the tokens of one row of ids, up to the first END; special tokens are left out."""
        found = []
        for i in map(int, row):
            if i == END:
                break
            if i >= len(SPECIAL):
                found.append(self.tokens[i])
        return found

    def decode(self, ids: Iterable[Iterable[int]]) -> list[str]:
        """Turn rows of ids back into texts, each up to its first END."""
        return ["".join(self.pieces(row)) for row in ids]
