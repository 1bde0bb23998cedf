"""Dates of many languages, each word labelled with what it tells: weekday, day, month or year (unit 16).

Words, patterns and so the labels are those of the Unicode Common Locale Data Repository (CLDR, Unicode licence), as the
package Babel (BSD licence) ships them: a date's pattern says which part of the text each field has made.
"""

import random
import re
from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

from scratch.data.dates import FIRST, FORMATS, LAST

WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")  # letters, digits, or any other mark
FIELDS = {"E": "WEEKDAY", "d": "DAY", "M": "MONTH", "L": "MONTH", "y": "YEAR"}  # by CLDR's letters
# B- begins a field, I- goes on within it, O is outside of all. The number of a label is its place here.
LABELS = ("O", *(f"{mark}-{field}" for field in ("WEEKDAY", "DAY", "MONTH", "YEAR") for mark in "BI"))
INSIDE = {i: i + 1 for i, label in enumerate(LABELS) if label[0] == "B"}


class Labelled(NamedTuple):
    """A date as text, its words, the label of each, and the language."""

    text: str
    words: list[str]
    labels: list[int]
    language: str


def label_date(day: date, form: str, language: str) -> Labelled:
    """Write a date in one of the ``FORMATS`` of a language, and label its words."""
    from babel.dates import DateTimeFormat, get_date_format, tokenize_pattern

    fields = DateTimeFormat(day, language)
    text, words, labels = "", [], []
    for kind, part in tokenize_pattern(get_date_format(form, language).pattern):
        written = part if kind == "chars" else fields[part[0] * part[1]]
        field = None if kind == "chars" else FIELDS.get(part[0])
        for number, word in enumerate(WORD.findall(written)):
            words.append(word)
            mark = "B" if number == 0 else "I"
            labels.append(LABELS.index(f"{mark}-{field}") if field else 0)
        text += written
    return Labelled(" ".join(text.split()), words, labels, language)


def load_fields(languages: Sequence[str], count: int, seed: int = 0) -> list[Labelled]:
    """Return so many labelled dates between 1900 and 2099: no date twice, languages and formats drawn by the seed.

    Args:
        languages: Babel's names, such as "pt" or "en".
        count: how many dates.
        seed: the same seed draws the same dates in the same order.

    Raises:
        ValueError: a count that the calendar does not hold.
    """
    days = (LAST - FIRST).days + 1
    if not 0 <= count <= days:
        raise ValueError(f"count must lie between 0 and {days}, the days from {FIRST} to {LAST}, got {count}")
    draw = random.Random(seed)  # noqa: S311 - nothing here is a secret
    numbers = draw.sample(range(days), count)
    return [
        label_date(FIRST + timedelta(n), draw.choice(FORMATS), draw.choice(list(languages))) for n in numbers
    ]
