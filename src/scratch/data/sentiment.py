"""Tweets that twenty people or more have rated, from −4 (extremely negative) to 4 (extremely positive).

Source: Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text",
ICWSM 2014. The language is what people write when nobody marks it; some of it is crude.
"""

import html
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scratch.data import cache
from scratch.data.archive import Sources
from scratch.data.splits import groups, split

NAME = "sentiment"
CLEAR = 0.5  # from this far off zero, a mean rating says positive or negative
ALIKE = 0.6  # of all words of two texts, the share that both have, from which they count as copies


class Rated(NamedTuple):
    """A text, its mean rating, and the number of its group: texts that are near copies of one another."""

    text: str
    rating: float
    group: int

    @property
    def label(self) -> int:
        """1 where the text is rated positive, 0 where negative."""
        return int(self.rating > 0)


class Sentiment(NamedTuple):
    """Texts to train on, texts to choose by, and texts to judge by; and a line on where they come from."""

    train: list[Rated]
    validation: list[Rated]
    held_out: list[Rated]
    source: str


def load_sentiment(held_out: int = 600, validation: int = 0, seed: int = 0) -> Sentiment:
    """Return the texts, split at random by the seed; copies and near copies of a text are on its side.

    Args:
        held_out: how many texts to judge by.
        validation: how many texts to choose by, such as a threshold.
        seed: another seed, another split.

    Raises:
        NotBuilt: `make data` has not been run.
        ValueError: there are not that many texts to set aside.
    """
    train, judge, choose = split(load_rated(), (held_out, validation), seed, keys=lambda rated: [rated.group])
    return Sentiment(train, choose, judge, cache.credit(NAME))


def load_rated() -> list[Rated]:
    """Return all texts, in the order of their source; raises NotBuilt."""
    rows = (line.split("\t") for line in cache.read(NAME, "rated.tsv").splitlines())
    return [Rated(text, float(rating), int(group)) for group, rating, text in rows]


def build(sources: Sources, to: Path) -> dict[str, int]:
    """Write the texts that are clearly positive or negative: each once, with its mean rating and its group."""
    (content,) = (content for members in sources.values() for content in members.values())
    ratings: dict[str, list[float]] = defaultdict(list)
    written: dict[str, str] = {}
    for line in content.decode("utf-8").rstrip().split("\n"):
        _, rating, text = line.split("\t")
        text = clean(text)
        ratings[key(text)].append(float(rating))
        written.setdefault(key(text), text)
    means = {same: sum(given) / len(given) for same, given in ratings.items()}
    clear = [same for same, mean in means.items() if abs(mean) >= CLEAR]
    group = alike([written[same] for same in clear])
    rows = [f"{g}\t{means[same]:.6f}\t{written[same]}\n" for g, same in zip(group, clear, strict=True)]
    (to / "rated.tsv").write_text("".join(rows), "utf-8")
    return {
        "texts": len(clear),
        "positive": sum(means[same] > 0 for same in clear),
        "groups": len(set(group)),
    }


def clean(text: str) -> str:
    """Return a text without HTML's entities and doubled spaces: ``&amp;`` was written for ``&``."""
    return " ".join(html.unescape(html.unescape(text)).split())


def key(text: str) -> str:
    """Return what two copies of a text have in common: its words and signs, without names and addresses."""
    text = re.sub(r"@anonymous|http\S*", " ", text.lower())
    return " ".join(re.findall(r"\w+(?:'\w+)*|[^\w\s.,]+", text)) or text


def alike(texts: Sequence[str]) -> list[int]:
    """Return a group's number for each text; texts that begin with the same four words, or share most, are in one."""
    words = [key(text).split() for text in texts]
    common = Counter(word for found in words for word in set(found))
    holding: dict[str, list[int]] = defaultdict(list)
    same: list[list[tuple[str, object]]] = [[("text", i)] for i in range(len(texts))]
    for i, found in enumerate(words):
        if len(found) >= 4:
            same[i].append(("begins", tuple(found[:4])))
        rarest = sorted(set(found), key=lambda word: (common[word], word))
        for word in rarest[
            : len(rarest) - math.ceil(ALIKE * len(rarest)) + 1
        ]:  # two that are alike share one of these
            for other in holding[word]:
                both, either = set(found) & set(words[other]), set(found) | set(words[other])
                if len(both) >= ALIKE * len(either):
                    same[i].append(("text", other))
            holding[word].append(i)
    number = [0] * len(texts)
    for n, group in enumerate(groups(range(len(texts)), lambda i: same[i])):
        for i in group:
            number[i] = n
    return number
