"""The last cell of unit 01: the learner's ``low_rank`` compresses a photograph.

The photograph is one that comes with scikit-learn or, where that is not installed, with Matplotlib. It is read where it
lies: nothing is fetched, and no package is imported for it.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scratch.rewards import UNFINISHED, tried

NAMES = ("batched_matmul", "low_rank")
PHOTOGRAPHS = {  # by package: where it lies in it, and what it shows
    "sklearn": ("datasets/images/china.jpg", "a Chinese palace"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg", "Grace Hopper, who wrote the first compiler"),
}
RANKS = (4, 12, 40)


def compress_photograph(namespace: Mapping[str, Any], ranks: Sequence[int] = RANKS) -> Any:
    """Draw a photograph at some ranks, by the learner's ``low_rank``, and say how many numbers each one takes.

    ``namespace`` is the notebook's ``globals()``; other ``ranks`` give other pictures.
    """
    found = photograph()
    if found is None:
        return print("This reward needs a photograph: one comes with scikit-learn, and one with Matplotlib.")
    image, shows = found
    channels = np.moveaxis(image, -1, 0)  # (3, T, S): one matrix for each of red, green and blue
    images = tried(NAMES, namespace, lambda: [namespace["low_rank"](channels, rank) for rank in ranks])
    if images is None:
        return None
    if not all(_is_closer(channels, out, rank) for out, rank in zip(images, ranks, strict=True)):
        return print(UNFINISHED)

    from scratch.linear_algebra_plots import photographs

    _, T, S = channels.shape
    panels, told = {}, []
    for rank, out in zip(ranks, images, strict=True):
        share = rank * (T + S + 1) / (T * S)
        panels[f"rank {rank}: {share:.0%} of the numbers"] = np.moveaxis(out, 0, -1).clip(0, 1)
        told.append(f"rank {rank} with {share:.0%} of the numbers")
    panels[f"the photograph: rank {min(T, S)}"] = image
    alt = f"A photograph, {shows}: {', '.join(told)}, and the original. The higher the rank, the finer the detail."
    return photographs(panels, alt)


def photograph(packages: Sequence[str] = tuple(PHOTOGRAPHS)) -> tuple[np.ndarray, str] | None:
    """The first photograph that is there, at half its size, (T, S, 3) between 0 and 1, and what it shows; or None."""
    for package in packages:
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            inside, shows = PHOTOGRAPHS[package]
            path = Path(folder) / inside
            if path.is_file():
                with Image.open(path) as picture:
                    return np.asarray(picture.convert("RGB").reduce(2)) / 255, shows
    return None


def _is_closer(channels: np.ndarray, out: Any, rank: int) -> bool:
    """Whether an answer is numbers of the right shape, of that rank, and no worse than any matrix of that rank."""
    if not isinstance(out, np.ndarray) or out.shape != channels.shape or out.dtype.kind != "f":
        return False
    if not np.isfinite(out).all():
        return False
    left_out = np.linalg.svd(channels, compute_uv=False)[:, rank:]  # (3, M - rank)
    return bool(np.allclose(((channels - out) ** 2).sum((1, 2)), (left_out**2).sum(1), rtol=1e-3, atol=1e-3))
