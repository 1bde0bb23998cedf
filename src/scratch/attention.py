"""Scaled dot-product attention: scores, weights, masks, and the self-attention layer (unit 08).

Symbols: B batch (``*B``: any number of leading dimensions, none included), T queries, S keys (one value belongs
to each key), K width of a query and of a key, V width of a value, D model width. ``#`` before a dimension says
that it may also be 1 and then broadcasts.

Paper: Vaswani et al., "Attention Is All You Need", 2017, section 3.2.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def attention_scores(query: Float[Tensor, "*B T K"], key: Float[Tensor, "*B S K"]) -> Float[Tensor, "*B T S"]:
    """Score every key against every query: their dot product, divided by the square root of their width K.

    Args:
        query: (*B, T, K), one row for each of the T positions that ask.
        key: (*B, S, K), one row for each of the S positions that can be looked up.

    Returns:
        (*B, T, S): entry [..., t, s] is query t · key s / √K.

    Source: Vaswani et al., 2017, section 3.2.1, equation 1.
    """
    return query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (*B, T, K) @ (*B, K, S) -> (*B, T, S)


def attention_weights(
    scores: Float[Tensor, "*B T S"],
    mask: Bool[Tensor, "*#B #T #S"] | Float[Tensor, "*#B #T #S"] | None = None,
) -> Float[Tensor, "*B T S"]:
    """Turn scores into weights: a softmax over the keys, restricted to those that the mask permits.

    Args:
        scores: (*B, T, S), as ``attention_scores`` returns them. They are left unchanged.
        mask: anything that broadcasts to the scores. Boolean: True where the query may attend to the key.
            Floating point: added to the scores before the softmax, so that -inf forbids. None permits all.

    Returns:
        (*B, T, S): forbidden entries are exactly zero and each row sums to one. A row that has no permitted key
        is exactly zero throughout; it sends a zero gradient back, never NaN.

    Source: Vaswani et al., 2017, section 3.2.1 (softmax) and 3.2.3 (masking with -inf).
    """
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    empty = (scores == -math.inf).all(dim=-1, keepdim=True)  # (*B, T, 1): queries with no permitted key
    weights = torch.softmax(scores.masked_fill(empty, 0.0), dim=-1)
    return weights.masked_fill(empty, 0.0)


def scaled_dot_product_attention(
    query: Float[Tensor, "*B T K"],
    key: Float[Tensor, "*B S K"],
    value: Float[Tensor, "*B S V"],
    mask: Bool[Tensor, "*#B #T #S"] | Float[Tensor, "*#B #T #S"] | None = None,
) -> Float[Tensor, "*B T V"]:
    """Look every query up among the keys and return, for each, the weighted average of the values.

    Args:
        query: (*B, T, K).
        key: (*B, S, K).
        value: (*B, S, V). Its width V may differ from K.
        mask: anything that broadcasts to (*B, T, S), boolean (True: may attend) or additive (-inf forbids).

    Returns:
        (*B, T, V): row t is the sum over s of weight[t, s] · value[s]. It is zero where query t has no
        permitted key.

    Source: Vaswani et al., 2017, section 3.2.1, equation 1.
    """
    weights = attention_weights(attention_scores(query, key), mask)
    return weights @ value  # (*B, T, S) @ (*B, S, V) -> (*B, T, V)


def padding_mask(lengths: Int[Tensor, " B"], size: int) -> Bool[Tensor, "B 1 size"]:
    """Mark the real tokens of a batch of sequences that were padded on the right to a common size.

    Args:
        lengths: (B,), the number of real tokens in each sequence.
        size: the length that all sequences were padded to.

    Returns:
        (B, 1, size): entry [b, 0, s] is True where s < lengths[b]. The middle dimension broadcasts over queries.

    Raises:
        ValueError: a length is negative or larger than size.
    """
    if ((lengths < 0) | (lengths > size)).any():
        raise ValueError(f"lengths must lie between 0 and size={size}, got {lengths.tolist()}")
    return torch.arange(size, device=lengths.device) < lengths[:, None, None]  # (size,) < (B, 1, 1)


def causal_mask(size: int) -> Bool[Tensor, "size size"]:
    """Let each position attend to itself and to what came before it, never to what comes after.

    Args:
        size: the number of positions, which here are queries and keys alike.

    Returns:
        (size, size): entry [t, s] is True where s ≤ t, that is on and below the diagonal.

    Source: Vaswani et al., 2017, section 3.2.3.
    """
    return torch.ones(size, size, dtype=torch.bool).tril()


class SelfAttention(nn.Module):
    """Let every position of a sequence look at the positions of the same sequence, through one learned head.

    Three linear maps without bias turn each input row into a query, a key and a value. They are the sub-modules
    ``query``, ``key`` and ``value``: these names are part of the contract, because weights are loaded by them.

    Source: Vaswani et al., 2017, section 3.2.3; one head of section 3.2.2.
    """

    def __init__(self, d_model: int, d_key: int, d_value: int):
        """Create ``query``, ``key`` and ``value``, each an ``nn.Linear`` without bias.

        Args:
            d_model: D, the width of the input rows.
            d_key: K, the width of queries and keys.
            d_value: V, the width of values, and so of the output rows.
        """
        super().__init__()
        self.query = nn.Linear(d_model, d_key, bias=False)
        self.key = nn.Linear(d_model, d_key, bias=False)
        self.value = nn.Linear(d_model, d_value, bias=False)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "#B #T #T"] | Float[Tensor, "#B #T #T"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Attend from every position of x to the positions of the same sequence that the mask permits.

        Args:
            x: (B, T, D), a batch of sequences.
            mask: anything that broadcasts to (B, T, T), boolean (True: may attend) or additive (-inf forbids).

        Returns:
            (B, T, V): one row for each position. It is zero where the position may attend to nothing.
        """
        return scaled_dot_product_attention(self.query(x), self.key(x), self.value(x), mask)
