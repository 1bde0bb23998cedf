"""Handwritten digits: 1,797 small images that come with scikit-learn, so that no lesson needs a network.

The images are 8 by 8, their classes 0 to 9. Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten
Digits", UCI Machine Learning Repository, 1998 (its test set).
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

HELD_OUT = 360  # of 1,797 images, a fifth


class Digits(NamedTuple):
    """Images (N, 8, 8) between 0, paper, and 1, ink; and their labels (N,) of dtype int64, from 0 to 9."""

    images: Float[Tensor, "N 8 8"]
    labels: Int[Tensor, " N"]


@cache
def _table() -> np.ndarray:
    # The file is read where it lies: to import scikit-learn for it would take seconds.
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the digits come with scikit-learn, which is not installed: `make setup`")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    return np.loadtxt(path, delimiter=",", dtype=np.float32)


def load_digits(seed: int = 0) -> tuple[Digits, Digits]:
    """Return the images to train on and the 360 held-out ones, split at random by the seed.

    The same people wrote images on both sides, so that held-out accuracy says how well a model reads their hands
    and not how well it reads a stranger's.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    table = torch.from_numpy(_table())
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed))
    images, labels = table[order, :-1].view(-1, 8, 8) / 16, table[order, -1].long()
    train, held_out = (
        Digits(images[part], labels[part]) for part in (slice(HELD_OUT, None), slice(HELD_OUT))
    )
    return train, held_out
