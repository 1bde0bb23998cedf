"""What T5 changes in a Transformer's layers: norm, position buckets, attention, feed-forward net (unit 18).

Each part is read as its difference from the Transformer of units 11 and 12: ``T5Encoder`` and ``T5Decoder`` are their
stacks, pre-norm, with T5's parts in the places of their own. What each head has learned about distance reaches the
layers as an additive mask.

Symbols: B batch (``*B``: any number of leading dimensions, none included), T positions that ask, S positions that are
looked up, D model width, H heads, K head width, F inner width of a feed-forward net. ``#`` before a dimension says that
it may also be 1 and then broadcasts.

Papers: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", 2020,
section 2.1; Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019; Shazeer, "GLU Variants Improve
Transformer", 2020.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from scratch.attention import attention_weights
from scratch.cache import KVCache
from scratch.layers import Encoder, FeedForward
from scratch.multi_head_attention import merge_heads, split_heads
from scratch.transformer import Decoder, DecoderLayer

Caches = tuple[KVCache, KVCache]  # of a decoder layer: of its self-attention, and of its cross-attention
Mask = Bool[Tensor, "#B #H #T #S"] | Float[Tensor, "#B #H #T #S"]  # yes or no, or numbers to add


class RMSNorm(nn.Module):
    """Bring every row to a root mean square of one, then stretch each feature as training sees fit.

    What ``LayerNorm`` does beside, T5 leaves out: no mean is subtracted, and there is no bias. The only parameter is
    ``weight`` (D,), which starts at one: this name is part of the contract, because weights are loaded by it.

    Source: Zhang and Sennrich, 2019, section 4, equation 4; Raffel et al., 2020, section 2.1.
    """

    def __init__(self, d_model: int, eps: float = 1e-6):
        """Create ``weight``; eps keeps the division finite where all features of a row are zero."""
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Return x / √(mean of squares + eps) · weight, with the mean square of each row by itself.

        Args:
            x: any number of rows of D features; it is left unchanged.

        Returns:
            Rows of the same shape and dtype. For rows in half precision, whose squares soon leave its range, the
            division is worked out in float32.
        """
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean_square = wide.square().mean(dim=-1, keepdim=True)  # (*B, 1)
        return (wide / torch.sqrt(mean_square + self.eps) * self.weight).to(x.dtype)


def relative_position_bucket(
    relative: Int[Tensor, "*B"], bidirectional: bool = True, buckets: int = 32, max_distance: int = 128
) -> Int[Tensor, "*B"]:
    """Sort distances between a query and a key into buckets: near ones exactly, far ones ever more coarsely.

    With n buckets for distances d = 0, 1, 2, …, the first e = n // 2 hold one distance each: bucket d. From d = e on
    the bucket is e + ⌊(n − e) · log(d / e) / log(max_distance / e)⌋, and never above n − 1.

    Args:
        relative: of any shape, int64: position of the key minus position of the query. It is left unchanged.
        bidirectional: True, as in an encoder: half of the buckets, so n = buckets // 2, are for keys that stand before
            the query or at it, where d = −relative; the other half, n buckets higher, for keys behind it, where
            d = relative. False, as in a decoder: n = buckets, d = −relative, and keys behind the query, which a causal
            mask forbids, count as d = 0.
        buckets: how many buckets there are in all; at least 4, and even.
        max_distance: from where on all distances share the last bucket; greater than n // 2.

    Returns:
        The buckets, int64, of the shape of ``relative``.

    Source: Raffel et al., 2020, section 2.1; the formula is that of the published code.
    """
    offset = torch.zeros_like(relative)
    if bidirectional:
        buckets //= 2
        offset = torch.where(relative > 0, buckets, 0)
        distance = relative.abs()
    else:
        distance = (-relative).clamp(min=0)
    exact = buckets // 2
    # From 0, where the far buckets begin, to 1 at the maximal distance.
    share = torch.log(distance.clamp(min=exact) / exact) / math.log(max_distance / exact)
    far = exact + (share * (buckets - exact)).long()
    return offset + torch.where(distance < exact, distance, far.clamp(max=buckets - 1))


class T5Attention(nn.Module):
    """Multi-head attention as T5 has it: scores are plain dot products, and a mask may say more than yes or no.

    Four linear maps without bias: ``query``, ``key`` and ``value`` from D to H·K, ``output`` from H·K to D. These names
    are part of the contract, because weights are loaded by them. K need not be D / H.

    Source: Raffel et al., 2020, section 2.1; Shazeer, "Fast Transformer Decoding", 2019, section 2.4 (the cache).
    """

    def __init__(self, d_model: int, heads: int, d_key: int):
        """Create the four maps; their weights are normal draws of mean 0.

        The standard deviation is (D·K)^(−1/2) for ``query``, which makes up for the division by √K that is left out,
        D^(−1/2) for ``key`` and ``value``, and (H·K)^(−1/2) for ``output``.

        Args:
            d_model: D, the width of what comes in and of what goes out.
            heads: H.
            d_key: K, the width of each head.
        """
        super().__init__()
        self.heads = heads
        width = heads * d_key
        self.query = nn.Linear(d_model, width, bias=False)
        self.key = nn.Linear(d_model, width, bias=False)
        self.value = nn.Linear(d_model, width, bias=False)
        self.output = nn.Linear(width, d_model, bias=False)
        nn.init.normal_(self.query.weight, std=(d_model * d_key) ** -0.5)
        nn.init.normal_(self.key.weight, std=d_model**-0.5)
        nn.init.normal_(self.value.weight, std=d_model**-0.5)
        nn.init.normal_(self.output.weight, std=width**-0.5)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        memory: Float[Tensor, "B S D"] | None = None,
        mask: Mask | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Attend from every position of x to the positions of the memory, by query · key plus what the mask adds.

        Args:
            x: (B, T, D), the sequences that ask.
            memory: (B, S, D), the sequences that are looked up; None stands for x itself (self-attention).
            mask: anything that broadcasts to (B, H, T, S), boolean (True: may attend) or additive (-inf forbids). It
                may differ from head to head.
            cache: keys and values, (B, H, S, K) each, kept from earlier calls. In self-attention those of x are
                appended, and x attends to all S positions so far. With a memory, an empty cache takes the memory's;
                one that is not empty holds them already, and they are not worked out again.

        Returns:
            (B, T, D): for each position what all heads found, mixed by ``output``. A head finds zero where the position
            may attend to nothing.
        """
        query = split_heads(self.query(x), self.heads)  # (B, T, H·K) -> (B, H, T, K)
        if memory is not None and cache is not None and len(cache):
            key, value = cache.key, cache.value
        else:
            looked_up = x if memory is None else memory
            key = split_heads(self.key(looked_up), self.heads)  # (B, S, H·K) -> (B, H, S, K)
            value = split_heads(self.value(looked_up), self.heads)  # (B, S, H·K) -> (B, H, S, K)
            if cache is not None:
                key, value = cache.append(key, value)
        scores = query @ key.transpose(-2, -1)  # (B, H, T, S), and not divided by √K
        found = attention_weights(scores, mask) @ value  # (B, H, T, S) @ (B, H, S, K) -> (B, H, T, K)
        return self.output(merge_heads(found))  # (B, H, T, K) -> (B, T, H·K) -> (B, T, D)


class T5FeedForward(FeedForward):
    """The feed-forward net without biases; gated, one half of a wider hidden layer says how much of the other passes.

    Plain: output(relu(hidden(x))), as in the first T5. Gated: output(gelu(hidden(x)) · gate(x)), as in version 1.1,
    with the approximation of gelu by tanh.

    Source: Raffel et al., 2020, section 2.1; Shazeer, 2020, section 2, equation 6.
    """

    def __init__(self, d_model: int, d_ff: int, gated: bool = False):
        """Create ``hidden``, ``output`` and, where gated, ``gate``, drawn so that each keeps the size of its input."""
        super().__init__(d_model, d_ff)
        self.hidden = nn.Linear(d_model, d_ff, bias=False)
        self.gate = nn.Linear(d_model, d_ff, bias=False) if gated else None
        self.output = nn.Linear(d_ff, d_model, bias=False)
        for part in (self.hidden, self.gate, self.output):
            if part is not None:
                nn.init.normal_(part.weight, std=part.in_features**-0.5)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Return the rows after hidden layer, gate and output layer."""
        if self.gate is None:
            return super().forward(x)
        return self.output(F.gelu(self.hidden(x), approximate="tanh") * self.gate(x))


class T5Encoder(Encoder):
    """The encoder of unit 11, pre-norm, with T5's parts in the places of its own."""

    def __init__(
        self, d_model: int, heads: int, d_key: int, d_ff: int, layers: int, dropout: float, gated: bool
    ):
        """Create the layers, and replace what T5 does otherwise."""
        super().__init__(d_model, 1, d_ff, layers, dropout, norm_first=True)
        for layer in self.layers:
            layer.attention = T5Attention(d_model, heads, d_key)
            layer.feed_forward = T5FeedForward(d_model, d_ff, gated)
            layer.attention_residual.norm = RMSNorm(d_model)
            layer.feed_forward_residual.norm = RMSNorm(d_model)
        self.norm = RMSNorm(d_model)


class T5DecoderLayer(DecoderLayer):
    """The decoder layer of unit 12, pre-norm, with T5's parts in the places of its own, and with caches."""

    def __init__(self, d_model: int, heads: int, d_key: int, d_ff: int, dropout: float, gated: bool):
        """Create the layer, and replace what T5 does otherwise."""
        super().__init__(d_model, 1, d_ff, dropout, norm_first=True)
        self.self_attention = T5Attention(d_model, heads, d_key)
        self.cross_attention = T5Attention(d_model, heads, d_key)
        self.feed_forward = T5FeedForward(d_model, d_ff, gated)
        self.self_attention_residual.norm = RMSNorm(d_model)
        self.cross_attention_residual.norm = RMSNorm(d_model)
        self.feed_forward_residual.norm = RMSNorm(d_model)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        memory: Float[Tensor, "B S D"],
        mask: Mask | None = None,
        memory_mask: Mask | None = None,
        caches: Caches | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return the target sequence after self-attention, attention to the memory, and feed-forward net."""
        own, across = caches or (None, None)
        x = self.self_attention_residual(x, lambda x: self.self_attention(x, None, mask, own))
        x = self.cross_attention_residual(x, lambda x: self.cross_attention(x, memory, memory_mask, across))
        return self.feed_forward_residual(x, self.feed_forward)


class T5Decoder(Decoder):
    """The decoder of unit 12 with T5's layers and last norm, and with the caches of all layers."""

    def __init__(
        self, d_model: int, heads: int, d_key: int, d_ff: int, layers: int, dropout: float, gated: bool
    ):
        """Create the layers and the last norm."""
        super().__init__(d_model, 1, d_ff, 0, dropout, norm_first=True)
        self.layers.extend(T5DecoderLayer(d_model, heads, d_key, d_ff, dropout, gated) for _ in range(layers))
        self.norm = RMSNorm(d_model)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        memory: Float[Tensor, "B S D"],
        mask: Mask | None = None,
        memory_mask: Mask | None = None,
        caches: list[Caches] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Pass x through all layers, bottom to top, with the same memory and masks, and through the last norm."""
        for layer, kept in zip(self.layers, caches or [None] * len(self.layers), strict=True):
            x = layer(x, memory, mask, memory_mask, kept)
        return self.norm(x)
