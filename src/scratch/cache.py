"""The keys and values that attention keeps from one token to the next while a model writes (unit 14).

Symbols: B batch, H heads, S positions seen so far, T new positions, K head width.

Source: Shazeer, "Fast Transformer Decoding: One Write-Head is All You Need", 2019, section 2.4 (incremental attention).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


class KVCache:
    """The keys and values of all positions that one attention layer has seen so far.

    ``key`` and ``value`` are (B, H, S, K), or None before the first ``append``. Its length is S.
    """

    def __init__(self):
        """Begin empty."""
        self.key: Tensor | None = None
        self.value: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.key is None else self.key.shape[-2]

    def append(
        self, key: Float[Tensor, "B H T K"], value: Float[Tensor, "B H T K"]
    ) -> tuple[Float[Tensor, "B H S K"], Float[Tensor, "B H S K"]]:
        """Add the T newest positions behind those kept, and return all S of them, the new ones included."""
        if self.key is not None:
            key = torch.cat([self.key, key], dim=-2)  # (B, H, S - T, K) and (B, H, T, K) -> (B, H, S, K)
            value = torch.cat([self.value, value], dim=-2)
        self.key, self.value = key, value
        return key, value

    def select(self, rows: Int[Tensor, " B"]) -> None:
        """Keep these rows of the batch, in this order; a row may be kept twice, as beam search does."""
        if self.key is not None:
            self.key, self.value = self.key[rows], self.value[rows]
