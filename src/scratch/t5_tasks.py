"""Three tasks on dates, each a text that leads to a text, and what trains one model on all of them (unit 18).

    to English: 12 de março de 2026       →  March 12, 2026
    to Portuguese: March 12, 2026         →  12 de março de 2026
    to ISO: 12 de março de 2026           →  2026-03-12

The dates are those of ``scratch.data.dates``. What is held out is a date that training has not seen in any form.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from scratch.data import dates
from scratch.data.dates import END, PAD, SPECIAL, Codec, tokenize
from scratch.optimization import AdamW, warmup_cosine
from scratch.spans import draw_spans
from scratch.training import train

Batch = tuple[Int[Tensor, "B S"], Int[Tensor, "B T"]]  # sources, and labels: −100 behind the end
Pair = tuple[str, str]  # a source with its prefix, and its target
Ids = tuple[list[int], list[int]]  # the same as ids, each with END
TASKS = ("to English", "to Portuguese", "to ISO")
FORMATS = ("full", "long", "medium")  # the short one tells no century in English
SENTINELS = 12
SIZE, PEAK = 64, 3e-3


class Data(NamedTuple):
    """Pairs of each task to train on and to judge by, and the same dates as plain texts, which ask for nothing."""

    train: dict[str, list[Pair]]
    held_out: dict[str, list[Pair]]
    texts: list[str]


def load_tasks(count: int = 4_000, few: int = 300, held_out: int = 400, seed: int = 1) -> Data:
    """Return the three tasks: many pairs of the two translations, and few of the third task.

    Args:
        count: how many dates there are, those held out included.
        few: of how many of them the third task is shown.
        held_out: how many dates are held out, the same for all tasks.
        seed: another seed, other dates.
    """
    known, unseen = dates.load_dates(count, FORMATS, held_out=held_out / count, seed=seed)
    train = {task: [pair_of(task, date) for date in known] for task in TASKS}
    train[TASKS[2]] = train[TASKS[2]][:few]
    texts = [text for date in known for text in (date.source, date.target)]
    return Data(train, {task: [pair_of(task, date) for date in unseen] for task in TASKS}, texts)


def pair_of(task: str, date: dates.Pair) -> Pair:
    """Say a date as a task asks it. The third task is asked in Portuguese on odd days and in English on even ones."""
    if task == TASKS[0]:
        return f"{task}: {date.source}", date.target
    if task == TASKS[1]:
        return f"{task}: {date.target}", date.source
    return f"{task}: {date.source if date.day.day % 2 else date.target}", date.day.isoformat()


def vocabulary(data: Data) -> Codec:
    """Collect the tokens of the texts to train on; the last ``SENTINELS`` ids are sentinels, the last one number 0."""
    texts = [text for pairs in data.train.values() for pair in pairs for text in pair] + data.texts
    tokens = sorted({token for text in texts for token in tokenize(text)})
    return Codec((*SPECIAL, *tokens, *(f"<{i}>" for i in reversed(range(SENTINELS)))))


def encode(codec: Codec, pair: Pair) -> Ids:
    """Turn both sides of a pair into ids, each with END behind it."""
    source, target = (codec.encode([text])[0].tolist() for text in pair)
    return source, target


def corrupted(codec: Codec, texts: Sequence[str], corrupt: Callable, count: int, seed: int = 0) -> list[Ids]:
    """Make ``count`` exercises out of plain texts: spans of random texts are taken out by ``corrupt``.

    ``corrupt`` is ``span_corruption``. Dates are short: a third of the tokens is taken, two at a time on average.
    """
    draw, first = random.Random(seed), len(codec) - 1  # noqa: S311 - nothing here is a secret
    pairs = []
    for _ in range(count):
        ids = codec.encode([draw.choice(texts)])[0].tolist()[:-1]
        source, target = corrupt(ids, draw_spans(len(ids), 0.3, 2.0, draw.randrange(2**32)), first)
        pairs.append(([*source, END], [*target, END]))
    return pairs


def pad(rows: Iterable[Ids]) -> Batch:
    """Make two rectangles of pairs of ids: sources filled with PAD, labels with −100."""
    sides = zip(*rows, strict=True)
    made = []
    for side, filler in zip(sides, (PAD, -100), strict=True):
        longest = max(map(len, side))
        made.append(torch.tensor([[*ids, *[filler] * (longest - len(ids))] for ids in side]))
    return made[0], made[1]


def mixed(
    parts: Sequence[Sequence[Ids]], shares: Sequence[float], steps: int, seed: int = 0
) -> Iterator[Batch]:
    """Draw ``steps`` batches; each row comes from one of the parts, as often as its share says."""
    draw = random.Random(seed)  # noqa: S311 - nothing here is a secret
    for _ in range(steps):
        yield pad(draw.choice(parts[i]) for i in draw.choices(range(len(parts)), shares, k=SIZE))


def learn(
    model: nn.Module, parts: Sequence[Sequence[Ids]], shares: Sequence[float], steps: int, seed: int = 0
) -> list[float]:
    """Train a model on parts, mixed in these shares, by teacher forcing; return the loss of every step."""

    def loss_of(model: nn.Module, source: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(source, labels).flatten(0, 1), labels.flatten())  # −100 does not count

    return train(
        model,
        loss_of,
        lambda epoch: mixed(parts, shares, steps, seed),
        AdamW(model.parameters(), lr=PEAK, weight_decay=0.0),
        epochs=1,
        schedule=lambda step: warmup_cosine(step, peak=PEAK, warmup=steps // 10, total=steps),
        max_norm=1.0,
    )


def answers(
    model: nn.Module, codec: Codec, sources: Sequence[str], write: Callable, limit: int = 24
) -> list[str]:
    """Let a model answer sources; ``write`` is ``scratch.t5.write`` or does the same."""
    model.eval()
    return codec.decode(write(model, codec.encode(sources), END, limit).tolist())


def exact(model: nn.Module, codec: Codec, pairs: Sequence[Pair], write: Callable) -> float:
    """Return the share of the pairs whose target the model writes to the letter."""
    written = answers(model, codec, [source for source, _ in pairs], write)
    return sum(line == target for line, (_, target) in zip(written, pairs, strict=True)) / len(pairs)
