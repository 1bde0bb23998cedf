"""The keys and values that attention keeps while a model writes, and a layer that works with them (unit 14).

Symbols: B batch, H heads, S positions seen so far, T new positions, D model width, K head width. ``#`` before a
    dimension says that it may also be 1 and then broadcasts.

Source: Shazeer, "Fast Transformer Decoding: One Write-Head is All You Need", 2019, section 2.4 (incremental attention).
"""

from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import gelu

from scratch.attention import scaled_dot_product_attention
from scratch.layers import EncoderLayer, FeedForward
from scratch.multi_head_attention import MultiHeadAttention, merge_heads, split_heads


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


class CachedAttention(MultiHeadAttention):
    """Self-attention that takes the keys and values of earlier positions from a cache; its weights are its parent's."""

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "#B #T #S"] | Float[Tensor, "#B #T #S"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Attend from the new positions to all positions: those in the cache, and the new ones.

        Args:
            x: (B, T, D), the new positions. Their keys and values are added to the cache.
            mask: which of all S positions each new one may attend to. A causal mask has S columns here, and T rows.
            cache: what this layer, and no other, has seen of these sequences. None: nothing, and S is T.
        """
        query, key, value = (
            split_heads(projection(x), self.heads) for projection in (self.query, self.key, self.value)
        )  # (B, T, D) -> (B, H, T, K)
        if cache is not None:
            key, value = cache.append(key, value)  # (B, H, T, K) -> (B, H, S, K)
        if mask is not None and mask.ndim == 3:
            mask = mask.unsqueeze(1)  # (#B, #T, #S) -> (#B, 1, #T, #S): the same for every head
        return self.output(merge_heads(scaled_dot_product_attention(query, key, value, mask)))


class CachedLayer(EncoderLayer):
    """A layer as GPT-2 has it: pre-norm, with GELU in its tanh form, and attention that works with a cache.

    Sub-modules and their names are those of ``EncoderLayer``.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.3.
    """

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float = 0.1):
        """Create the parts; the sizes are those of ``EncoderLayer``."""
        super().__init__(d_model, heads, d_ff, dropout, norm_first=True)
        self.attention = CachedAttention(d_model, heads)
        self.feed_forward = FeedForward(d_model, d_ff, partial(gelu, approximate="tanh"))

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "#B #T #S"] | Float[Tensor, "#B #T #S"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return the T new positions after self-attention and feed-forward net; mask and cache as above."""
        x = self.attention_residual(x, lambda x: self.attention(x, mask, cache))
        return self.feed_forward_residual(x, self.feed_forward)
