"""The Transformer of 2017: decoder layer, decoder, and the whole model that turns one sequence into another (unit 12).

    source ids (B, S) ─ embed ─ encoder ─ memory (B, S, D)
                                             │ keys and values of every cross-attention
    target ids (B, T) ─ embed ─ decoder ─────┴─ (B, T, D) ─ times the embedding table ─ logits (B, T, V)

Read it from the end: ``Transformer`` is this drawing, made of the encoder of ``scratch.layers`` and the decoder here.

Symbols: B batch, S source length, T target length, D model width, F inner width of the feed-forward nets, V vocabulary.
    ``#`` before a dimension says that it may also be 1 and then broadcasts.

Paper: Vaswani et al., "Attention Is All You Need", 2017, section 3 and figure 1.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from scratch.attention import causal_mask
from scratch.layers import Encoder, FeedForward, LayerNorm, Residual
from scratch.multi_head_attention import MultiHeadAttention
from scratch.positions import sinusoidal_encoding

Mask = Bool[Tensor, "#B #T #S"] | Float[Tensor, "#B #T #S"]


def combine_masks(*masks: Mask | None) -> Mask | None:
    """Join masks: a key is permitted where every one of them permits it.

    Args:
        masks: any number of them, each boolean (True: may attend), additive (added to the scores, -inf forbids) or None
            (permits all). They broadcast against one another, and are left unchanged.

    Returns:
        None where all are None. A boolean mask where all others are boolean. Otherwise an additive one: the sum of the
        additive masks, with -inf where a boolean one forbids.
    """
    permitted = bias = None
    for mask in masks:
        if mask is None:
            continue
        if mask.dtype == torch.bool:
            permitted = mask if permitted is None else permitted & mask
        else:
            bias = mask if bias is None else bias + mask
    if permitted is None or bias is None:
        return permitted if bias is None else bias
    return torch.where(permitted, bias, -math.inf)


class DecoderLayer(nn.Module):
    """Look at what is written so far, then at the source, then think: three sub-layers, each with its residual.

    Its sub-modules are ``self_attention``, ``cross_attention``, ``feed_forward``, and ``self_attention_residual``,
    ``cross_attention_residual``, ``feed_forward_residual``: these names are part of the contract.

    Source: Vaswani et al., 2017, section 3.1.
    """

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float = 0.1, norm_first: bool = False):
        """Create two ``MultiHeadAttention``s, a ``FeedForward``, and a ``Residual`` for each of the three."""
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, heads)
        self.cross_attention = MultiHeadAttention(d_model, heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.self_attention_residual = Residual(d_model, dropout, norm_first)
        self.cross_attention_residual = Residual(d_model, dropout, norm_first)
        self.feed_forward_residual = Residual(d_model, dropout, norm_first)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        memory: Float[Tensor, "B S D"],
        mask: Bool[Tensor, "#B #T #T"] | Float[Tensor, "#B #T #T"] | None = None,
        memory_mask: Bool[Tensor, "#B #T #S"] | Float[Tensor, "#B #T #S"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return the target sequence after self-attention, attention to the memory, and feed-forward net.

        Args:
            x: (B, T, D), the target side.
            memory: (B, S, D), what the encoder made of the source. It is not normed again.
            mask: which targets each target position may attend to (the causal mask belongs here).
            memory_mask: which source positions each target position may attend to (padding belongs here).
        """
        x = self.self_attention_residual(x, lambda x: self.self_attention(x, mask=mask))
        x = self.cross_attention_residual(x, lambda x: self.cross_attention(x, memory, memory_mask))
        return self.feed_forward_residual(x, self.feed_forward)


class Decoder(nn.Module):
    """Stack decoder layers; each looks at the same memory.

    Its sub-modules are ``layers``, an ``nn.ModuleList``, and ``norm``, a last ``LayerNorm`` where the layers are
    pre-norm, otherwise an ``nn.Identity``.

    Source: Vaswani et al., 2017, section 3.1.
    """

    def __init__(
        self, d_model: int, heads: int, d_ff: int, layers: int, dropout: float = 0.1, norm_first: bool = False
    ):
        """Create ``layers``, so many ``DecoderLayer``s, and ``norm``."""
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(d_model, heads, d_ff, dropout, norm_first) for _ in range(layers)
        )
        self.norm = LayerNorm(d_model) if norm_first else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        memory: Float[Tensor, "B S D"],
        mask: Bool[Tensor, "#B #T #T"] | Float[Tensor, "#B #T #T"] | None = None,
        memory_mask: Bool[Tensor, "#B #T #S"] | Float[Tensor, "#B #T #S"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Pass x through all layers, bottom to top, with the same memory and masks, and through the last norm."""
        for layer in self.layers:
            x = layer(x, memory, mask, memory_mask)
        return self.norm(x)


class Transformer(nn.Module):
    """Read a source, and say for every position of a target which token comes next.

    One table of vectors, ``embedding`` (an ``nn.Embedding`` of V rows), embeds source and target and, turned round,
    scores the next token; there is no further output layer. ``encoder`` and ``decoder`` are the stacks. Positions are
    sinusoids.

    Source: Vaswani et al., 2017, section 3, figure 1; 3.4 for the shared table; Press and Wolf, "Using the Output
    Embedding to Improve Language Models", 2017.
    """

    def __init__(
        self,
        vocabulary: int,
        d_model: int = 512,
        heads: int = 8,
        d_ff: int = 2048,
        layers: int = 6,
        dropout: float = 0.1,
        norm_first: bool = False,
        pad: int = 0,
    ):
        """Create ``embedding``, ``encoder`` and ``decoder``; the defaults are the paper's base model.

        The embedding is drawn with standard deviation D^(−1/2), so that after the scaling by √D its entries are near
        one and the logits, which use it unscaled, are too.

        Args:
            vocabulary: V, the number of tokens, shared by source and target.
            d_model: D.
            heads: H, which divides D.
            d_ff: the inner width of the feed-forward nets.
            layers: how many layers the encoder has, and the decoder likewise.
            dropout: the share of entries zeroed in training: in sub-layer outputs, and in embeddings with their
                positions.
            norm_first: pre-norm where True, post-norm as in 2017 where False.
            pad: the id of the padding token, which nobody attends to.
        """
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)
        self.encoder = Encoder(d_model, heads, d_ff, layers, dropout, norm_first)
        self.decoder = Decoder(d_model, heads, d_ff, layers, dropout, norm_first)
        self.dropout = nn.Dropout(dropout)
        self.pad = pad

    def embed(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Look ids up, scale the vectors by √D, add sinusoids for positions 0, 1, 2, …, apply dropout.

        Source: Vaswani et al., 2017, sections 3.4 (scale), 3.5 (positions), 5.4 (dropout).
        """
        x = self.embedding(ids) * math.sqrt(self.embedding.embedding_dim)  # (B, T) -> (B, T, D)
        return self.dropout(x + sinusoidal_encoding(*x.shape[-2:]).to(x))  # (B, T, D) + (T, D)

    def encode(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        """Turn the source into the memory, one row for each of its tokens; nobody attends to padding."""
        return self.encoder(self.embed(source), (source != self.pad)[:, None])  # mask (B, 1, S)

    def decode(
        self, target: Int[Tensor, "B T"], memory: Float[Tensor, "B S D"], source: Int[Tensor, "B S"]
    ) -> Float[Tensor, "B T V"]:
        """Score the token after each target position, from the target up to it and the memory of the source.

        Args:
            target: (B, T), the tokens so far, from the start token on.
            memory: (B, S, D), what ``encode`` made of the source.
            source: (B, S), the ids of the source, which tell where it is padding.

        Returns:
            (B, T, V): logits, before any softmax. Row t does not depend on targets after t, nor on padding of either
            side.
        """
        causal = causal_mask(target.shape[-1]).to(target.device)  # (T, T)
        mask = combine_masks((target != self.pad)[:, None], causal)  # (B, 1, T) and (T, T) -> (B, T, T)
        x = self.decoder(self.embed(target), memory, mask, (source != self.pad)[:, None])
        return x @ self.embedding.weight.T  # (B, T, D) @ (D, V) -> (B, T, V)

    def forward(self, source: Int[Tensor, "B S"], target: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Score the token after each target position, (B, T, V), given the source and the targets up to it."""
        return self.decode(target, self.encode(source), source)


def parameter_budget(
    vocabulary: int, d_model: int, d_ff: int, layers: int, norm_first: bool = False
) -> dict[str, int]:
    """Count the numbers that training sets in a ``Transformer``, by formula: what sits where.

    Args:
        vocabulary: V.
        d_model: D. The number of heads does not matter, since together they are D wide.
        d_ff: F, the inner width of the feed-forward nets.
        layers: how many layers each stack has.
        norm_first: whether the two stacks end in a norm.

    Returns:
        The counts by part, over the whole model: ``embedding`` (once, since it is tied), ``encoder attention``,
        ``encoder feed-forward``, ``decoder self-attention``, ``decoder cross-attention``, ``decoder feed-forward``,
        ``norms``.

    Source: Vaswani et al., 2017, table 3.
    """
    attention = 4 * d_model * (d_model + 1)
    feed_forward = d_ff * (d_model + 1) + d_model * (d_ff + 1)
    norms = 5 * layers + 2 * norm_first  # two in an encoder layer, three in a decoder layer, one at each end
    return {
        "embedding": vocabulary * d_model,
        "encoder attention": layers * attention,
        "encoder feed-forward": layers * feed_forward,
        "decoder self-attention": layers * attention,
        "decoder cross-attention": layers * attention,
        "decoder feed-forward": layers * feed_forward,
        "norms": norms * 2 * d_model,
    }
