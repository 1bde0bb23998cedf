"""The last cell of unit 07: the learner's own parts reverse words, and then translate dates."""

import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch.data import dates, reversing
from scratch.optimization import AdamW, warmup_cosine
from scratch.rewards import UNFINISHED, tried
from scratch.training import batches, train

NAMES = ("shift_right", "encode", "additive_attention", "decode_step", "greedy_decode")
SIZE, D, H, PEAK = 64, 32, 64, 5e-3
LONGEST = 8  # letters of a word
PAIRS, HELD_OUT = 3_000, 300
PATIENCE = 90  # seconds for one task; parts in a vectorised style take five
ASKED = "quinta-feira, 12 de março de 2026"


class TooSlowError(Exception):
    """Training took longer than anybody wants to wait for a picture."""


def learn(
    namespace: Mapping[str, Any], sizes: tuple[int, int], source: Tensor, target: Tensor, epochs: int
) -> nn.Module:
    """Train a model of the learner's parts on pairs of padded ids, and return it.

    Raises:
        TooSlowError: it was not done after ``PATIENCE`` seconds.
    """
    model = namespace["Seq2Seq"](*sizes, D, H, H)
    steps = epochs * -(-len(source) // SIZE)
    begun = time.monotonic()

    def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if time.monotonic() - begun > PATIENCE:
            raise TooSlowError
        return F.cross_entropy(model(x, y).flatten(0, 1), y.flatten(), ignore_index=model.pad)

    train(
        model,
        loss_of,
        lambda epoch: batches(source, target, size=SIZE, seed=epoch),
        AdamW(model.parameters(), lr=PEAK, weight_decay=0.0),
        epochs=epochs,
        schedule=lambda step: warmup_cosine(step, peak=PEAK, warmup=steps // 20, total=steps),
        max_norm=1.0,
    )
    return model.eval()


@torch.no_grad()
def write(
    namespace: Mapping[str, Any], model: nn.Module, source: Tensor, limit: int
) -> tuple[Tensor, Tensor]:
    """Let a model write by itself; return the ids (B, T), and for each the weights over the source (B, T, S)."""
    state, memory = model.read(source)
    seen = []

    def step(token: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits, state, weights = namespace["decode_step"](model, token, state, memory)
        seen.append(weights)
        return logits, state

    begin = torch.full((len(source),), model.begin)
    ids = namespace["greedy_decode"](step, state, begin, end=model.end, limit=limit, pad=model.pad)
    return ids, torch.stack(seen, dim=1)


def reverse_and_translate(namespace: Mapping[str, Any], text: str = ASKED) -> Any:
    """Train the learner's parts to reverse words and to translate dates, and draw how they translate ``text``.

    ``namespace`` is the notebook's ``globals()``; ``text`` is a date in Portuguese, such as "1 de abril de 1999".
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):  # the notebook's own random numbers go on as before
        torch.manual_seed(0)
        torch.set_num_threads(1)  # matrices this small only wait for one another on several
        try:
            done = tried(NAMES, namespace, lambda: _learn_both(namespace, text))
        finally:
            torch.set_num_threads(threads)
    if done is None or None in done:
        return None
    reversed_words, translated = done
    print(*reversed_words, "", *translated["lines"], sep="\n")

    from scratch.seq2seq_plots import alignment

    return alignment(
        translated["weights"], translated["read"], translated["written"], title=translated["title"]
    )


def _learn_both(namespace: Mapping[str, Any], text: str) -> tuple | None:
    source, target = reversing.reversing(2, 1, LONGEST, seed=0)
    model = namespace["Seq2Seq"](reversing.SIZE, reversing.SIZE, 3, 4, 5)
    model(source, target)  # a part that is missing shows here, before anything is trained
    write(namespace, model, source, limit=2)
    reversed_words = _reverse(namespace)
    return reversed_words and (reversed_words, _translate(namespace, text))


def _reverse(namespace: Mapping[str, Any]) -> list[str] | None:
    """Lines that tell how words are reversed; None, and a word about it, where they are not."""
    source, target = reversing.reversing(120 * SIZE, 1, LONGEST, seed=0)
    try:
        model = learn(namespace, (reversing.SIZE, reversing.SIZE), source, target, epochs=1)
    except TooSlowError:
        return print(
            f"This picture stopped after {PATIENCE} seconds: the parts work, but slowly, row by row."
        )
    source, target = reversing.reversing(300, 1, LONGEST, seed=1)
    ids, _ = write(namespace, model, source, limit=LONGEST + 4)
    words = [[reversing.spell(row) for row in rows] for rows in (source, target, ids)]
    right = sum(wanted == written for wanted, written in zip(*words[1:], strict=True))
    if right < 200:
        return print(UNFINISHED)
    shown = [f"  {word} → {written}" for word, _, written in zip(*words, strict=True) if len(word) > 5][:3]
    return [f"Reversed: {right} of 300 new words.", *shown]


def _translate(namespace: Mapping[str, Any], text: str) -> dict[str, Any] | None:
    """What to tell and draw of the dates; None, and a word about it, where they are not translated."""
    pairs, held_out = dates.load_dates(PAIRS + HELD_OUT, held_out=HELD_OUT / (PAIRS + HELD_OUT))
    source, target = (dates.Codec.of(getattr(pair, side) for pair in pairs) for side in ("source", "target"))
    x, y = source.encode([pair.source for pair in pairs]), target.encode([pair.target for pair in pairs])
    try:
        asked = source.encode([text])
    except ValueError as error:
        return print(f"“{text}” cannot be read: {error}.")
    try:
        model = learn(namespace, (len(source), len(target)), x, y, epochs=6)
    except TooSlowError:
        return print(
            f"This picture stopped after {PATIENCE} seconds: the parts work, but slowly, row by row."
        )
    limit = y.shape[1] + 4
    ids, _ = write(namespace, model, source.encode([pair.source for pair in held_out]), limit)
    written = target.decode(ids.tolist())
    right = sum(pair.target == line for pair, line in zip(held_out, written, strict=True))
    if right < HELD_OUT // 2:
        return print(UNFINISHED)
    shown = {pair.form: f"  {pair.source} → {line}" for pair, line in zip(held_out, written, strict=True)}
    ids, weights = write(namespace, model, asked, limit)
    read, line = [*source.pieces(asked[0]), "end"], [*target.pieces(ids[0]), "end"]
    return {
        "lines": [f"Translated: {right} of {HELD_OUT} dates that it never saw.", *shown.values()],
        "weights": weights[0, : len(line)],
        "read": read,
        "written": line[: weights.shape[1]],
        "title": f"{text} → {''.join(target.pieces(ids[0]))}",
    }
