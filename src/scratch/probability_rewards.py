"""The last cell of unit 02: a bigram model, counted from a play and run by the learner's functions, writes a line.

The text is *Hamlet*, where ``make data`` has built the plays; otherwise it is Python's own manual, which comes with
Python.
"""

import importlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from scratch.data.cache import DataError
from scratch.data.plays import load_play
from scratch.rewards import UNFINISHED, tried

NAMES = ("softmax", "log_sum_exp", "cross_entropy", "kl_divergence", "sample")
END = "/"  # where a line ends and the next begins; outcome 0
TEMPERATURES = (0.3, 1.0, 2.0)
LONGEST = 12  # words of a line


def writes_a_line(namespace: Mapping[str, Any], seed: int = 2) -> Any:
    """Print lines that a bigram model writes at three temperatures, and draw what it has learned.

    ``namespace`` is the notebook's ``globals()``; another ``seed`` gives other lines.
    """
    text = play() or manual()
    if text is None:
        return print(
            "This reward needs a text to read: the plays that `make data` builds, or Python's own documentation."
        )
    title, lines = text
    done = tried(NAMES, namespace, lambda: (model := Bigrams(lines, namespace, seed), model.works()))
    if done is None:
        return None
    model, works = done
    if not works:
        return print(UNFINISHED)

    from scratch.probability_plots import what_a_word_tells

    print(f"Counted from {title}: which of {len(model.words):,} words follows which.\n")
    for temperature, written in model.written.items():
        print(f"temperature {temperature:<4}", "\n                 ".join(written))
    return what_a_word_tells(model.tells, model.losses, title)


def play() -> tuple[str, list[list[str]]] | None:
    """The lines of *Hamlet* as lists of words, and its title; None where the plays are not built."""
    try:
        hamlet = load_play("Hamlet")
    except DataError:
        return None
    return hamlet.title, _words(hamlet.lines)


def manual() -> tuple[str, list[list[str]]] | None:
    """The sentences of Python's manual as lists of words, and a title; None where Python comes without it."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        return None
    sentences = re.findall(r"[A-Z][a-z',\s]{20,140}\.\s", "\n".join(topics.values()))
    return "Python's manual", _words(sentences)


def _words(lines: Sequence[str]) -> list[list[str]]:
    found = (re.findall(r"[a-z]+(?:'[a-z]+)*", line.lower()) for line in lines)
    return [words for words in found if len(words) > 1]


class Bigrams:
    """A model that knows how often each word follows each, and everything that the reward shows of it."""

    def __init__(
        self, lines: list[list[str]], answers: Mapping[str, Any], seed: int, size: int = 1000
    ) -> None:
        """Count the first nine tenths of the lines, keeping the most common words, and judge by the last tenth."""
        softmax, log_sum_exp, cross_entropy, kl_divergence, sample = (answers[name] for name in NAMES)
        cut = len(lines) * 9 // 10
        common = Counter(word for line in lines[:cut] for word in line).most_common(size)
        self.words = [END, *(word for word, _ in common)]
        ids = {word: i for i, word in enumerate(self.words)}
        counts = np.zeros((len(ids), len(ids)))  # (V, V): row w, column the word after w
        np.add.at(counts, tuple(_pairs(lines[:cut], ids)), 1)
        alone, heard = counts.sum(axis=0), counts.sum(axis=1)  # (V,): how often each comes after, and before
        counts[heard == 0] = alone  # all that followed these words was rare
        with np.errstate(divide="ignore"):
            logits, common_logits = np.log(counts), np.log(alone)  # -inf for what was never seen

        # Both models mixed, four parts to one, in logarithms: what never followed is rare, and not impossible.
        pair = logits - log_sum_exp(logits, axis=-1)[:, None] + np.log(0.8)  # (V, V)
        single = common_logits - log_sum_exp(common_logits) + np.log(0.2)  # (V,)
        mixed = log_sum_exp(np.stack([pair, np.broadcast_to(single, pair.shape)]), axis=0)  # (V, V)
        before, after = _pairs(lines[cut:], ids, unknown=-100)
        guesses = {"no model": 0 * alone, "how common each word is": common_logits, "the word before": mixed}
        self.losses = {
            name: float(cross_entropy(np.broadcast_to(guess, mixed.shape)[before], after, ignore_index=-100))
            for name, guess in guesses.items()
        }
        told = kl_divergence(softmax(mixed), softmax(common_logits))  # (V,)
        fits = np.shape(told) == np.shape(heard)
        often = [w for w in np.argsort(-told) if heard[w] >= 60 and w] if fits else []
        self.tells = {self.words[w]: float(told[w]) for w in often}

        rng = np.random.default_rng(seed)

        def following(word: int, temperature: float) -> int:
            return int(sample(logits[word], np.asarray(rng.random()), temperature=temperature))

        self.written = {
            t: [self._line(lambda w, t=t: following(w, t)) for _ in range(2)] for t in TEMPERATURES
        }

    def _line(self, following: Callable[[int], int]) -> str:
        line, word = [], following(0)
        while word and len(line) < LONGEST:
            line.append(self.words[word])
            word = following(word)
        return " ".join(line)

    def works(self) -> bool:
        """Whether the numbers can be right: each model is better than the one before it, and words tell something."""
        losses = np.array(list(self.losses.values()))
        better = np.isfinite(losses).all() and (np.diff(losses) < 0).all()
        return bool(better and self.tells and all(told >= 0 for told in self.tells.values()))


def _pairs(lines: list[list[str]], ids: Mapping[str, int], unknown: int | None = None) -> np.ndarray:
    """Each word and the next, as two rows of ids; pairs with rare words are left out, or get the target ``unknown``."""
    text = [END, *(word for line in lines for word in (*line, END))]
    pairs = [(ids.get(a), ids.get(b)) for a, b in pairwise(text)]
    if unknown is None:
        return np.array([pair for pair in pairs if None not in pair]).T
    return np.array([(0, unknown) if None in pair else pair for pair in pairs]).T
