"""The last cell of unit 13: the learner's own parts train a Transformer, and it translates what they type."""

import time
from collections.abc import Mapping
from typing import Any

import torch

from scratch.data import dates
from scratch.optimization import AdamW
from scratch.rewards import UNFINISHED, tried
from scratch.tokens import EOS, Vocabulary, pad_batch
from scratch.transformer import Transformer
from scratch.translator import write

NAMES = ("make_batches", "label_smoothing_loss", "noam_schedule", "train_step", "bleu")
PAIRS, HELD_OUT = 6_000, 200
STEPS, WARMUP, FACTOR, ROOM = 600, 120, 0.25, 400
PATIENCE = 180  # seconds; parts in a vectorised style take thirty
_memory: dict[str, Any] = {}  # the last training, and the parts that it was made with


class TooSlowError(Exception):
    """Training took longer than anybody wants to wait for a picture."""


def translate_with_yours(namespace: Mapping[str, Any], text: str) -> Any:
    """Train a Transformer on dates with the learner's parts, once, and draw how it translates ``text``.

    ``namespace`` is the notebook's ``globals()``; ``text`` is a date in Portuguese.
    """
    trained = tried(NAMES, namespace, lambda: _trained(namespace))
    if trained == ():
        return print(f"This picture stopped after {PATIENCE} seconds: the parts work, but slowly.")
    if trained is None:
        return None
    model, vocabulary, losses, score, exact = trained
    if not isinstance(score, (int, float)) or exact < 0.3:
        return print(UNFINISHED)
    tokens = dates.tokenize(text.lower())
    ids = [*vocabulary.encode(tokens), EOS]
    row = write(model, torch.tensor([ids]))[0]
    written = vocabulary.decode(row)
    print(f"loss {losses[0]:.2f} before, {losses[-1]:.2f} after {len(losses)} steps")
    print(f"{exact:.0%} of {HELD_OUT} dates that it never saw are exactly right; your BLEU says {score:.1f}")
    print(f"{text} → {''.join(written)}")

    from scratch.tokens import BOS
    from scratch.transformer_plots import looked_up
    from scratch.translation_plots import look_up

    target = torch.tensor([[BOS, *row[: len(written)]]])
    with torch.no_grad():
        weights = looked_up(model.eval(), torch.tensor([ids]), target)
    return look_up([*tokens, "⟨/s⟩"], [*written, "⟨/s⟩"], weights, title=f"{text} → {''.join(written)}")


def _trained(namespace: Mapping[str, Any]) -> tuple:
    """The model, its vocabulary, the losses, BLEU and the share of exact translations; nothing where it took too long.

    The same parts are not trained twice.
    """
    parts = [namespace[name] for name in NAMES]
    if _memory.get("parts") == parts:
        return _memory["trained"]
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):  # the notebook's own random numbers go on as before
        torch.manual_seed(0)
        torch.set_num_threads(1)  # matrices this small only wait for one another on several
        try:
            trained = learn(*parts)
        except TooSlowError:
            return ()
        finally:
            torch.set_num_threads(threads)
    _memory.update(parts=parts, trained=trained)
    return trained


def learn(
    make_batches, label_smoothing_loss, noam_schedule, train_step, bleu, steps: int | None = None
) -> tuple:
    """Train a model with these parts on dates, and judge it by held-out ones."""
    steps = STEPS if steps is None else steps
    train, held_out = dates.load_dates(PAIRS + HELD_OUT, held_out=HELD_OUT / (PAIRS + HELD_OUT))
    texts = [[dates.tokenize(text) for text in (pair.source, pair.target)] for pair in train + held_out]
    vocabulary = Vocabulary(side for both in texts[:PAIRS] for side in both)
    ids = [([*vocabulary.encode(s), EOS], vocabulary.encode(t, ends=True)) for s, t in texts]
    model = Transformer(len(vocabulary), 64, 4, 128, 2, dropout=0.0, norm_first=True)
    optimizer = AdamW(model.parameters(), betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0)
    bleu([["a"]], [["a"]])  # a part that is missing shows here, before anything is trained
    losses: list[float] = []
    begun, epoch = time.monotonic(), 0
    while len(losses) < steps:
        for batch in make_batches(ids[:PAIRS], ROOM, epoch, held_out=ids[PAIRS:]):
            if len(losses) == steps:
                break
            if time.monotonic() - begun > PATIENCE:
                raise TooSlowError
            lr = noam_schedule(len(losses) + 1, 64, WARMUP, FACTOR)
            loss = train_step(model, optimizer, batch, loss_of=label_smoothing_loss, lr=lr, max_norm=1.0)
            losses.append(float(loss))
        epoch += 1
    sources, _ = pad_batch([source for source, _ in ids[PAIRS:]])
    written = [vocabulary.decode(row) for row in write(model, sources)]
    wanted = [target for _, target in texts[PAIRS:]]
    right = sum("".join(a) == "".join(b) for a, b in zip(written, wanted, strict=True))
    return model, vocabulary, losses, bleu(written, wanted), right / len(wanted)
