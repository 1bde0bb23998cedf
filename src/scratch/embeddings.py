"""Embeddings: the table that gives each id a vector (unit 05).

Symbols: V tokens in the vocabulary, D width of a vector, ``*B`` any number of dimensions, none included.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from scratch.pieces import PAD


class Embedding(nn.Module):
    """Give every id a vector: row i of a table that is trained.

    The table is the parameter ``weight`` (V, D): this name is part of the contract, because weights are loaded by it.
    The row of the padding is zero, and training leaves it zero.

    Source: Bengio et al., "A Neural Probabilistic Language Model", 2003, section 2.
    """

    def __init__(self, vocabulary: int, d_model: int, padding_id: int | None = PAD):
        """Create ``weight``: normal draws of mean 0 and standard deviation 1/√D, and a row of zeros for the padding.

        Args:
            vocabulary: V, the number of ids.
            d_model: D, the width of a vector.
            padding_id: whose row is zero and stays zero; None for no such row.
        """
        super().__init__()
        weight = torch.randn(vocabulary, d_model) / math.sqrt(d_model)
        if padding_id is not None:
            weight[padding_id] = 0.0
        self.weight = nn.Parameter(weight)
        self.padding_id = padding_id

    def forward(self, ids: Int[Tensor, "*B"]) -> Float[Tensor, "*B D"]:
        """Look every id up.

        Args:
            ids: of any shape, int64, each from 0 to V − 1.

        Returns:
            (*B, D): the rows of the table, exactly zero where an id is the padding's. The gradient of the table is
            zero in the padding's row, and in every row that was not looked up.

        Raises:
            IndexError: an id is negative, or not below V.
        """
        if ((ids < 0) | (ids >= len(self.weight))).any():
            raise IndexError(f"ids must lie between 0 and {len(self.weight) - 1}")
        rows = self.weight[ids]  # (*B) -> (*B, D)
        if self.padding_id is None:
            return rows
        return rows.masked_fill((ids == self.padding_id)[..., None], 0.0)
