"""The last cell of unit 06: the learner's own cells learn to write the names of places."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from scratch.recurrent_models import END, GATES, CharacterModel, RecurrentLayer
from scratch.rewards import UNFINISHED, tried

NAMES = ("rnn_cell", "lstm_cell", "gru_cell", "run_masked", "truncated_bptt")
WIDTH, HIDDEN, LANES, CHUNK, EPOCHS, PEAK = 24, 96, 32, 20, 24, 5e-3


def learn_names(namespace: Mapping[str, Any], cell: str, epochs: int) -> tuple[CharacterModel, list[float]]:
    """Train one of the learner's cells on place names, in chunks of a stream that holds one after the other.

    Returns:
        The model, and the surprise at a character of the held-out names after every epoch.
    """
    from scratch.data.names import load_names
    from scratch.optimization import AdamW, warmup_cosine

    names, held_out = load_names()
    order = random.Random(0)  # noqa: S311 - of names, no secret
    torch.manual_seed(0)
    layer = RecurrentLayer(namespace[cell], namespace["run_masked"], GATES[cell], WIDTH, HIDDEN)
    model = CharacterModel(layer, names + held_out, WIDTH, dropout=0.2)
    optimizer = AdamW(model.parameters(), lr=PEAK)
    seen = []
    for epoch in range(1, epochs + 1):
        order.shuffle(names)
        optimizer.lr = warmup_cosine(epoch, peak=PEAK, warmup=1, total=epochs + 2)
        namespace["truncated_bptt"](
            model,
            lambda scores, targets: F.cross_entropy(scores.flatten(0, 1), targets.flatten()),
            *model.stream(names, LANES),
            layer.start(LANES),
            optimizer,
            chunk=CHUNK,
            max_norm=1.0,
        )
        seen.append(model.surprise(held_out))
    return model, seen


def bigram_surprise(names: Sequence[str], held_out: Sequence[str]) -> float:
    """Return −log p of a character of the held-out names under counts of pairs, with one added to each."""
    count = len(set("".join([*names, *held_out]))) + 1
    pairs = Counter(pair for name in names for pair in zip(END + name, name + END, strict=True))
    firsts = Counter(first for first, _ in pairs.elements())
    tests = [pair for name in held_out for pair in zip(END + name, name + END, strict=True)]
    return sum(-math.log((pairs[pair] + 1) / (firsts[pair[0]] + count)) for pair in tests) / len(tests)


def write_names(namespace: Mapping[str, Any], epochs: int = EPOCHS) -> Any:
    """Train the learner's three cells on 504 names, compare them on 89 others, and let the best one write."""

    def learn() -> tuple[dict[str, list[float]], list]:
        threads = torch.get_num_threads()
        with torch.random.fork_rng(devices=[]):  # the notebook's own random numbers go on as before
            torch.set_num_threads(1)  # matrices this small only wait for one another on several
            try:
                found = {cell: learn_names(namespace, cell, epochs) for cell in GATES}
                best, _ = min(found.values(), key=lambda pair: pair[1][-1])
                written = best.write(24, temperature=0.6, seed=6)
            finally:
                torch.set_num_threads(threads)
        return {cell.removesuffix("_cell").upper(): seen for cell, (_, seen) in found.items()}, written

    found = tried(NAMES, namespace, learn)
    if found is None:
        return None
    lines, invented = found
    if not all(seen[-1] < seen[0] < 6 for seen in lines.values()):
        return print(UNFINISHED)

    from IPython.display import display

    from scratch.data.names import load_names
    from scratch.recurrent_plots import learning, written

    names, held_out = load_names()
    print(f"−log p of a character of {len(held_out)} names that no model has seen:")
    print(f"  counts of pairs {bigram_surprise(names, held_out):.2f}")
    for kind, seen in lines.items():
        print(f"  {kind:15} {seen[-1]:.2f}")
    display(learning(lines, "epoch", "−log p of a held-out character"))
    return written(invented, names, held_out)
