"""The last cell of unit 19: the learner's own ViT reads handwritten digits, and shows where it looked."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from scratch.rewards import UNFINISHED, tried

NAMES = ("patchify", "unpatchify", "PatchEmbedding", "ViT", "interpolate_positions", "attention_rollout")
SIZE, PATCH, WIDTH, HEADS, INNER, LAYERS = (8, 8), 2, 48, 4, 96, 2
EPOCHS, PLAIN, BATCH, PEAK = 36, 12, 64, 2e-3
PATIENCE = 60.0  # seconds of computing that the training may take, however busy the machine is


def shifted(
    images: Float[Tensor, "B C height width"], random: torch.Generator
) -> Float[Tensor, "B C height width"]:
    """Move every image by at most one pixel down or up and by at most one across, each by itself; paper moves in."""
    count, _, height, width = images.shape
    down, across = torch.randint(3, (2, count, 1), generator=random)
    rows, columns = down + torch.arange(height), across + torch.arange(width)  # (B, height), (B, width)
    wider = F.pad(images, (1, 1, 1, 1)).transpose(0, 1)  # (C, B, height + 2, width + 2)
    every = torch.arange(count)[:, None, None]
    return wider[:, every, rows[:, :, None], columns[:, None]].transpose(0, 1)


class TooSlow(Exception):
    """The training would take longer than a reader waits."""


def learn(
    model: nn.Module,
    images: Float[Tensor, "N C height width"],
    labels: Int[Tensor, " N"],
    *,
    epochs: int = EPOCHS,
    plain: int = PLAIN,
    seed: int = 0,
) -> list[float]:
    """Train a model to read: on images that are moved by a pixel, and in the last ``plain`` epochs as they are.

    Returns:
        The loss of every step.

    Raises:
        TooSlow: it would take more than a minute.
    """
    from scratch.optimization import AdamW, warmup_cosine
    from scratch.training import batches, train

    steps, random = -(-len(images) // BATCH), torch.Generator().manual_seed(seed)
    begun, done = time.process_time(), 0

    def data(epoch: int) -> Iterator[tuple[Tensor, ...]]:
        nonlocal done
        for x, y in batches(images, labels, size=BATCH, seed=epoch):
            if done > 3 and (time.process_time() - begun) / done * epochs * steps > PATIENCE:
                raise TooSlow
            done += 1
            yield (shifted(x, random) if epoch < epochs - plain else x), y

    return train(
        model, lambda model, x, y: F.cross_entropy(model(x), y), data, AdamW(model.parameters()), epochs=epochs,
        schedule=lambda step: warmup_cosine(step, peak=PEAK, warmup=2 * steps, total=epochs * steps), max_norm=1.0,
    )  # fmt: skip


def make(vit: Callable[..., nn.Module], size: tuple[int, int] = SIZE) -> nn.Module:
    """Return a small ViT of that class, for digits of that size."""
    return vit(size, PATCH, 1, 10, WIDTH, HEADS, INNER, LAYERS, 0.0)


def _read(namespace: Mapping[str, Any]) -> tuple:
    """Train, read, follow attention, and read at another resolution: what there is to show."""
    from scratch.digits import load_digits

    (images, labels), (unseen, truth) = load_digits()
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):  # the notebook's own random numbers go on as before
        torch.manual_seed(0)
        torch.set_num_threads(1)  # matrices this small only wait for one another on several
        try:
            model = make(namespace["ViT"])
            learn(model, images[:, None], labels)
            model.eval()
            larger = make(namespace["ViT"], (12, 12)).eval()
            weights = dict(model.state_dict())
            place = namespace["interpolate_positions"](weights["positions.weight"], (4, 4), (6, 6))
            larger.load_state_dict(weights | {"positions.weight": place})
            with torch.no_grad():
                said = model(unseen[:, None]).argmax(-1)
                rollout = namespace["attention_rollout"](model.attentions(unseen[:, None]))
                again = namespace["unpatchify"](namespace["patchify"](unseen[:, None], PATCH), PATCH, (4, 4))
                large = F.interpolate(unseen[:, None], size=(12, 12), mode="bilinear")
                said_large = larger(large).argmax(-1)
            return unseen, truth, said, rollout, said_large, torch.equal(again[:, 0], unseen)
        finally:
            torch.set_num_threads(threads)


def read_with_attention(namespace: Mapping[str, Any]) -> Any:
    """Train the learner's ViT on 1,437 digits, and draw its rollout over some of those that it has not seen."""

    def use() -> Any:
        try:
            return _read(namespace)
        except TooSlow:
            return ()

    result = tried(NAMES, namespace, use)
    if result is None:
        return None
    if not result:
        slow = f"Training would take over {PATIENCE:.0f} s"
        return print(f"{slow}: is there a loop over pixels or patches that a tensor operation could be?")
    unseen, truth, said, rollout, said_large, whole = result
    right = said == truth
    if not whole or tuple(rollout.shape) != (len(truth), 17, 17) or right.double().mean() < 0.9:
        return print(UNFINISHED)

    from scratch.vit_plots import overlays

    share, large = right.double().mean(), (said_large == truth).double().mean()
    print(f"{int(right.sum())} of {len(truth)} digits that it has not seen are read: {share:.1%}")
    print(f"enlarged to 12 by 12 pixels, with interpolated positions and no further training: {large:.1%}")
    shown = [int((right & (truth == digit)).nonzero()[0]) for digit in range(10)]
    shown += (~right).nonzero().flatten()[:2].tolist()
    texts = [
        f"{int(truth[i])} as {int(said[i])}" if truth[i] != said[i] else f"{int(said[i])}" for i in shown
    ]
    maps = rollout[shown, 0, 1:].unflatten(-1, (4, 4))
    return overlays(unseen[shown], {"rollout": maps}, texts, [bool(truth[i] != said[i]) for i in shown])
