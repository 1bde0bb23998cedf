"""The last cell of unit 04: the learner's own parts teach a network to read handwriting."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from scratch.rewards import UNFINISHED, tried

NAMES = ("AdamW", "warmup_cosine", "clip_grad_norm", "batches", "train")
EPOCHS, SIZE, PEAK = 30, 32, 3e-3


def make_reader() -> nn.Module:
    """Return the network of unit 04: 64 pixels, 128 hidden units, a score for each of ten digits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def learn_digits(namespace: Mapping[str, Any]) -> tuple[nn.Module, list[float], list[float]]:
    """Train a network on the digits with the learner's parts.

    Returns:
        The network, the loss of every step, and the held-out accuracy after every epoch.
    """
    from scratch.digits import load_digits
    from scratch.training import accuracy

    (images, labels), held_out = load_digits()
    steps = -(-len(images) // SIZE)
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):  # the notebook's own random numbers go on as before
        torch.manual_seed(0)
        torch.set_num_threads(1)  # matrices this small only wait for one another on several
        try:
            model, seen = make_reader(), []
            losses = namespace["train"](
                model,
                lambda model, x, y: F.cross_entropy(model(x), y),
                lambda epoch: namespace["batches"](images, labels, size=SIZE, seed=epoch),
                namespace["AdamW"](model.parameters(), lr=PEAK),
                epochs=EPOCHS,
                schedule=lambda step: namespace["warmup_cosine"](
                    step, peak=PEAK, warmup=steps, total=EPOCHS * steps
                ),
                max_norm=1.0,
                after_epoch=lambda epoch: seen.append(accuracy(model, *held_out)),
            )
        finally:
            torch.set_num_threads(threads)
    return model, losses, seen


def read_digits(namespace: Mapping[str, Any]) -> Any:
    """Train on 1,437 digits with the learner's five parts, and show how the network reads the 360 held-out ones."""
    result = tried(NAMES, namespace, lambda: learn_digits(namespace))
    if result is None:
        return None
    model, losses, seen = result
    if not isinstance(losses, list) or len(seen) != EPOCHS or seen[-1] < 0.9:
        return print(UNFINISHED)

    from IPython.display import display

    from scratch.digits import load_digits
    from scratch.training_plots import curves, digits

    _, (images, labels) = load_digits()
    with torch.no_grad():
        read = model.eval()(images).argmax(-1)
    missed = (read != labels).nonzero().flatten().tolist()
    right = (read == labels).nonzero().flatten().tolist()
    print(f"{len(labels) - len(missed)} of {len(labels)} held-out digits read: {seen[-1]:.1%}")
    each = len(losses) // EPOCHS
    means = [sum(losses[i : i + each]) / each for i in range(0, each * EPOCHS, each)]
    panels = {
        "loss on what it learns from": {"mean loss": means},
        "what it never saw": {"held-out accuracy": seen},
    }
    display(curves(panels, "epoch", ["mean loss of the epoch", "accuracy"]))
    shown = [*missed[:12], *right[: 24 - len(missed[:12])]]
    texts = [f"{int(labels[i])} as {int(read[i])}" if i in missed else f"{int(read[i])}" for i in shown]
    return digits(images[shown], texts, [i in missed for i in shown])
