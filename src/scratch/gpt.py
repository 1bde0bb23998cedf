"""A Transformer of decoder layers alone that predicts the next token, and how well it does (unit 14).

    ids (B, T) ─ embed, add positions ─ layers, each looking back ─ norm ─ times the embedding table ─ logits (B, T, V)

Symbols: B batch, T new positions, S all positions, those in the caches included, D model width, V vocabulary.

Papers: Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018; Radford et al., "Language
    Models are Unsupervised Multitask Learners", 2019 (GPT-2).
"""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from scratch.attention import causal_mask
from scratch.cache import CachedLayer, KVCache
from scratch.layers import LayerNorm


class GPT(nn.Module):
    """Say for every position of a text which token comes next, from the tokens up to it.

    Its parts are ``embedding``, an ``nn.Embedding`` of V rows that, turned round, also scores the next token;
    ``positions``, an ``nn.Embedding`` with a row for each position; ``layers``, an ``nn.ModuleList``; and ``norm``, a
    ``LayerNorm``. These names are part of the contract, because weights are loaded by them.

    Rows of different lengths are padded on the **left**, so that all of them go on in the same column. ``real`` says
    where there is a token. The first token of a row has position 0, wherever it stands, and nobody attends to padding:
    a text gets the same logits with padding before it and without.

    Source: Radford et al., 2019, section 2.3; Press and Wolf, "Using the Output Embedding to Improve Language Models",
        2017 (the shared table).
    """

    def __init__(
        self,
        vocabulary: int,
        max_length: int,
        d_model: int = 128,
        heads: int = 4,
        layers: int = 3,
        dropout: float = 0.0,
    ):
        """Create the parts.

        Both tables are drawn from a normal distribution with mean 0 and standard deviation D^(−1/2), so that the logits
        of a new model are near one.

        Args:
            vocabulary: V.
            max_length: the number of positions that have a vector, and so the length of the longest text.
            d_model: D.
            heads: H, which divides D.
            layers: how many ``CachedLayer``s there are; their feed-forward nets are 4·D wide inside.
            dropout: the share of entries zeroed in training: in sub-layer outputs, and in embeddings with their
                positions.
        """
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.positions = nn.Embedding(max_length, d_model)
        for table in (self.embedding, self.positions):
            nn.init.normal_(table.weight, std=d_model**-0.5)
        self.layers = nn.ModuleList(CachedLayer(d_model, heads, 4 * d_model, dropout) for _ in range(layers))
        self.norm = LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        real: Bool[Tensor, "B S"] | None = None,
        caches: Sequence[KVCache] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Score the token after each of the T new positions.

        Args:
            ids: (B, T), the new tokens: the whole text without caches, with them only what they have not seen yet.
            real: (B, S), True where there is a token and False at padding, of the whole text: the S − T positions in
                the caches and, behind them, the T new ones. None: tokens everywhere.
            caches: one ``KVCache`` for each layer, all of the same length, S − T, which may be 0. They take up the
                new positions. None: nothing came before, and S is T.

        Returns:
            (B, T, V): logits, before any softmax; the scalar product of the normed vector with each row of the table,
            unscaled. What stands at padding does not matter, as long as it is finite.

        Raises:
            ValueError: a row has more than ``max_length`` tokens.
        """
        seen = len(caches[0]) if caches else 0  # S − T
        if real is None:
            real = torch.ones(len(ids), seen + ids.shape[1], dtype=torch.bool)
        position = real.cumsum(dim=-1) - 1  # (B, S): how many tokens stand before; -1 in padding at the left
        if position.max() >= self.positions.num_embeddings:
            raise ValueError(
                f"a text is longer than the {self.positions.num_embeddings} positions of the model"
            )
        x = self.embedding(ids) + self.positions(position[:, seen:].clamp(min=0))  # (B, T, D)
        mask = causal_mask(real.shape[1])[seen:] & real[:, None]  # (T, S) and (B, 1, S) -> (B, T, S)
        x = self.dropout(x)
        for layer, cache in zip(self.layers, caches or [None] * len(self.layers), strict=True):
            x = layer(x, mask, cache)
        return self.norm(x) @ self.embedding.weight.T  # (B, T, D) @ (D, V) -> (B, T, V)


@torch.no_grad()
def perplexity(
    model: nn.Module,
    batches: Iterable[tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]],
    ignore_index: int = -100,
) -> float:
    """Measure how many tokens a model hesitates between, on average: the exponential of its mean surprise.

    Args:
        model: called as ``model(ids)`` on (B, T), returns logits (B, T, V) of the token after each position. It is
            asked in evaluation mode, and left in the mode that it was in.
        batches: pairs of ids and targets, both (B, T): target t is the token that follows id t. Batches may differ in
            their sizes. They may come from a generator, and are read once.
        ignore_index: the target of positions that do not count, such as padding.

    Returns:
        exp of −log p(target), averaged over all targets of all batches that count. A plain float: 1.0 where every
        target is certain, V where the model has no idea.

    Raises:
        ValueError: no target counts.

    Source: Jelinek et al., "Perplexity: a measure of the difficulty of speech recognition tasks", 1977.
    """
    mode, surprise, count = model.training, 0.0, 0
    model.eval()
    for ids, targets in batches:
        surprise += F.cross_entropy(
            model(ids).flatten(0, 1), targets.flatten(), ignore_index=ignore_index, reduction="sum"
        ).item()
        count += int((targets != ignore_index).sum())
    model.train(mode)
    if count == 0:
        raise ValueError("a mean of no targets is no number")
    return math.exp(surprise / count)
