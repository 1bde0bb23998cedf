"""Where the random inputs of checks come from: one generator a draw, seeded by the door that a check is run at."""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Callable

import numpy as np
import torch


class Rng(np.random.Generator):
    """NumPy's generator, with what checks on tensors draw again and again."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))

    def distinct(self, count: int, low: int = 2, high: int = 9) -> list[int]:
        """``count`` different sizes in [low, high], so that no transpose can hide."""
        return [int(n) for n in self.permutation(np.arange(low, high + 1))[:count]]

    def tensor(self, *shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A tensor of normal draws."""
        return torch.from_numpy(np.asarray(self.normal(0.0, scale, shape))).to(dtype)

    def array(self, *shape: int, scale: float = 1.0, dtype: np.typing.DTypeLike = np.float64) -> np.ndarray:
        """An array of normal draws."""
        return np.asarray(self.normal(0.0, scale, shape)).astype(dtype)

    def lengths(self, batch: int, size: int) -> torch.Tensor:
        """Ragged lengths in [1, size], the full size among them, in random order (int64)."""
        lengths = self.integers(1, size + 1, batch)
        lengths[self.integers(batch)] = size
        return torch.from_numpy(lengths)


def practice_seed(check: str, draw: int) -> int:
    """The seed of the notebook: fixed, so that a failure repeats."""
    return int.from_bytes(hashlib.sha256(f"practice|{check}|{draw}".encode()).digest()[:8])


def secret_seed(key: bytes, student: str) -> Callable[[str, int], int]:
    """The seeds of grading: from the course key, for one student; a regrade repeats exactly."""

    def seed(check: str, draw: int) -> int:
        message = f"{student}|{check}|{draw}".encode()
        return int.from_bytes(hmac.digest(key, message, "sha256")[:8])

    return seed


def seed_all(seed: int) -> None:
    """Seed the generators that the learner's code may draw from, as the student's side does (see ``student.py``)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the learner's code may use the old one
    torch.default_generator.manual_seed(seed)
