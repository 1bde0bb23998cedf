"""The last cell of unit 15: one sentence goes through the learner's Keras layers and through other frameworks."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import torch
from keras import ops

from scratch.backend import has_tensorflow
from scratch.data.dates import Codec, load_dates
from scratch.frameworks import all_logits, from_keras
from scratch.keras_transformer import Transformer, date_ids, write
from scratch.rewards import UNFINISHED, tried

NAMES = (
    "PositionalEmbedding",
    "CausalSelfAttention",
    "EncoderLayer",
    "DecoderLayer",
    "MaskedLoss",
    "NoamSchedule",
    "train_step",
)
ASKED = "quinta-feira, 12 de março de 2026"
PAIRS, EPOCHS, SIZE, HEADS = 3_500, 7, 64, 4


def train_on_dates(
    model: keras.Model,
    loss: Any,
    schedule: Any,
    step: Any,
    source: np.ndarray,
    target: np.ndarray,
    epochs: int,
) -> list[float]:
    """Train a model step by step, ``SIZE`` pairs at a time, with a ``train_step``; return the loss of every step."""
    optimizer = keras.optimizers.Adam(schedule, beta_2=0.98, epsilon=1e-9)
    random, losses = np.random.default_rng(0), []
    for _ in range(epochs):
        for rows in np.array_split(random.permutation(len(source)), len(source) // SIZE):
            value = step(model, optimizer, loss, (source[rows], target[rows, :-1]), target[rows, 1:])
            losses.append(float(ops.convert_to_numpy(value)))
    return losses


def _learn(namespace: Mapping[str, Any]) -> tuple:
    """Train a model of the learner's parts; return it with the codec and its losses."""
    parts = tuple(namespace[name] for name in ("PositionalEmbedding", "EncoderLayer", "DecoderLayer"))
    pairs, held_out = load_dates(PAIRS, held_out=100 / PAIRS)
    codec = Codec.of([text for pair in pairs + held_out for text in (pair.source, pair.target)])
    yours = type("Yours", (Transformer,), {"parts": parts})
    threads = torch.get_num_threads()
    keras.utils.set_random_seed(0)
    torch.set_num_threads(1)  # matrices this small only wait for one another on several
    try:
        model = yours(len(codec), 64, HEADS, 128, 1, dropout=0.0)
        loss, schedule = namespace["MaskedLoss"](), namespace["NoamSchedule"](64, 150)
        losses = train_on_dates(
            model, loss, schedule, namespace["train_step"], *date_ids(codec, pairs), EPOCHS
        )
        source, _ = date_ids(codec, held_out)
        texts = codec.decode(write(model, source)[:, 1:])
        right = float(np.mean([text == pair.target for text, pair in zip(texts, held_out, strict=True)]))
        return codec, model, losses, right
    finally:
        torch.set_num_threads(threads)


def rows_of(logits: Mapping[str, np.ndarray], codec: Codec) -> dict[str, list[tuple[str, float]]]:
    """For the one sentence of a batch: each framework's likeliest tokens, with their probabilities."""
    rows = {}
    for name, values in logits.items():
        p = np.exp(values[0] - values[0].max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        best = p.argmax(-1)
        rows[name] = [(codec.tokens[i], float(p[t, i])) for t, i in enumerate(best) if i > 2]
    return rows


def side_by_side(namespace: Mapping[str, Any], text: str = ASKED) -> Any:
    """Train a model of the learner's layers, and send one date through it and through the other frameworks."""
    result = tried(NAMES, namespace, lambda: _learn(namespace))
    if result is None:
        return None
    codec, model, losses, right = result
    if not losses[-1] < losses[0] / 3:
        return print(UNFINISHED)

    from scratch.keras_plots import side_by_side as draw

    source = codec.encode([text]).numpy()
    target = write(model, source)
    logits = all_logits(from_keras(model), HEADS, model, source, target[:, :-1])
    first = logits["scratch"]
    largest = np.abs(first).max()
    gaps = {
        name: float(np.abs(values - first).max() / largest)
        for name, values in logits.items()
        if name != "scratch"
    }
    print(
        f"Your layers, loss and step: loss {losses[0]:.2f} before, {losses[-1]:.2f} after {len(losses)} steps."
    )
    print(f"Of 100 dates never seen, {100 * right:.0f} are translated without a mistake.")
    print(f"{text} → {codec.decode(target[:, 1:])[0]}")
    absent = "" if has_tensorflow() else "TensorFlow"
    return draw(rows_of(logits, codec), gaps, absent)
