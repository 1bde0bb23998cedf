"""T5: a Transformer in which every task is text to text (unit 18).

    source ids (B, S) ─ embed ─ encoder ─ memory (B, S, D)
                          + bias by distance  │
    labels (B, T) ─ shift ─ embed ─ decoder ──┴─ (B, T, D) ─ head ─ logits (B, T, V)

Read it from the end: ``T5`` is this drawing, made of the stacks of ``scratch.t5_layers``.

Symbols: B batch, S source length, T target length, D model width, H heads, K head width, V vocabulary.

Paper: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", 2020,
section 2.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from scratch.attention import causal_mask
from scratch.cache import KVCache
from scratch.seq2seq import greedy_decode
from scratch.t5_layers import (
    Caches,
    RMSNorm,
    T5Attention,
    T5Decoder,
    T5DecoderLayer,
    T5Encoder,
    T5FeedForward,
    relative_position_bucket,
)
from scratch.transformer import combine_masks

__all__ = [
    "T5",
    "Caches",
    "RMSNorm",
    "T5Attention",
    "T5Decoder",
    "T5DecoderLayer",
    "T5Encoder",
    "T5FeedForward",
    "published_weights",
    "relative_position_bucket",
    "write",
]

IGNORED = -100  # a label that no loss counts, as PyTorch's cross-entropy has it


class T5(nn.Module):
    """Read a source, and say for every position of a target which token comes next.

    What differs from ``Transformer``: positions are not added to the embeddings, which are not scaled either. Instead
    each stack has a table of one number for each bucket and head, ``encoder_bias`` and ``decoder_bias``, each an
    ``nn.Embedding`` of ``buckets`` rows and H columns; what it says of a distance is added to the scores of the
    self-attention of every layer of that stack. The other sub-modules are ``embedding`` (V rows), ``encoder``,
    ``decoder`` and, where the head is not tied, ``head``, an ``nn.Linear`` without bias from D to V.

    Source: Raffel et al., 2020, section 2.1; for the untied head Roberts et al., "T5.1.1", 2020.
    """

    def __init__(
        self,
        vocabulary: int,
        d_model: int = 512,
        heads: int = 8,
        d_key: int = 64,
        d_ff: int = 2048,
        layers: int = 6,
        dropout: float = 0.1,
        gated: bool = False,
        tied: bool = True,
        buckets: int = 32,
        max_distance: int = 128,
        pad: int = 0,
    ):
        """Create the sub-modules; the defaults are the published small model.

        The embedding is drawn with standard deviation 1, the two bias tables and the head with D^(−1/2).

        Args:
            vocabulary: V, the number of tokens, shared by source and target.
            d_model: D.
            heads: H.
            d_key: K, the width of each head.
            d_ff: the inner width of the feed-forward nets.
            layers: how many layers the encoder has, and the decoder likewise.
            dropout: the share of entries zeroed in training: in sub-layer outputs, and in embeddings.
            gated: whether the feed-forward nets are gated.
            tied: whether the embedding's table, turned round, is the head.
            buckets: how many buckets of distances each stack tells apart.
            max_distance: from where on all distances share a bucket.
            pad: the id of the padding token, which is also shown to the decoder as its start.
        """
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.encoder_bias = nn.Embedding(buckets, heads)
        self.decoder_bias = nn.Embedding(buckets, heads)
        self.encoder = T5Encoder(d_model, heads, d_key, d_ff, layers, dropout, gated)
        self.decoder = T5Decoder(d_model, heads, d_key, d_ff, layers, dropout, gated)
        self.dropout = nn.Dropout(dropout)
        self.head = None if tied else nn.Linear(d_model, vocabulary, bias=False)
        nn.init.normal_(self.embedding.weight, std=1.0)
        for part in (self.encoder_bias, self.decoder_bias, self.head):
            if part is not None:
                nn.init.normal_(part.weight, std=d_model**-0.5)
        self.buckets, self.max_distance, self.pad = buckets, max_distance, pad

    def shift_right(self, labels: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """Turn labels into what the decoder is shown: at each step the label before, and ``pad`` at the first.

        A label of −100, which the loss does not count, is shown as ``pad``: no row of the table belongs to it. The
        labels are left unchanged.
        """
        shown = torch.cat([torch.full_like(labels[:, :1], self.pad), labels[:, :-1]], dim=1)
        return shown.masked_fill(shown == IGNORED, self.pad)

    def bias(self, stack: str, queries: int, keys: int, offset: int = 0) -> Float[Tensor, "H T S"]:
        """Say what each head of a stack adds to the score of each key, by its distance from the query.

        Args:
            stack: "encoder", which looks both ways, or "decoder", which looks back.
            queries: T. The queries stand at positions offset, offset + 1, …
            keys: S. The keys stand at positions 0, 1, …
            offset: the position of the first query.

        Returns:
            (H, T, S): entry [h, t, s] is column h of the row that ``relative_position_bucket`` finds for key s and
            query t in the stack's table.
        """
        table = self.encoder_bias if stack == "encoder" else self.decoder_bias
        asks = torch.arange(offset, offset + queries, device=table.weight.device)[:, None]  # (T, 1)
        relative = torch.arange(keys, device=table.weight.device) - asks  # (S,) - (T, 1) -> (T, S)
        bucket = relative_position_bucket(relative, stack == "encoder", self.buckets, self.max_distance)
        return table(bucket).permute(2, 0, 1)  # (T, S, H) -> (H, T, S)

    def encode(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        """Turn the source into the memory, one row for each of its tokens; nobody attends to padding."""
        size = source.shape[1]
        seen = (source != self.pad)[:, None, None]  # (B, 1, 1, S)
        mask = combine_masks(self.bias("encoder", size, size), seen)  # (H, S, S) -> (B, H, S, S)
        return self.encoder(self.dropout(self.embedding(source)), mask)

    def decode(
        self,
        target: Int[Tensor, "B T"],
        memory: Float[Tensor, "B S D"],
        source: Int[Tensor, "B S"],
        caches: list[Caches] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Score the token after each target position, from the target up to it and the memory of the source.

        Args:
            target: (B, T), what the decoder is shown: ``pad`` as its start, and the tokens so far. With caches, only
                those that it has not been shown yet.
            memory: (B, S, D), what ``encode`` made of the source.
            source: (B, S), the ids of the source, which tell where it is padding.
            caches: for each decoder layer the caches of its self-attention and of its cross-attention, as
                ``new_caches`` makes them. The length of a first one tells how many tokens were shown before.

        Returns:
            (B, T, V): logits, before any softmax: the decoder's rows times ``head``, or, where it is tied, times
            D^(−1/2) and the embedding's table. Row t does not depend on targets after t, nor on padding of the source.
        """
        shown = len(caches[0][0]) if caches else 0
        size = target.shape[1]
        total = shown + size
        causal = causal_mask(total)[shown:].to(target.device)  # (T, shown + T)
        mask = combine_masks(self.bias("decoder", size, total, offset=shown), causal)  # (H, T, shown + T)
        seen = (source != self.pad)[:, None, None]  # (B, 1, 1, S)
        x = self.decoder(self.dropout(self.embedding(target)), memory, mask, seen, caches)  # (B, T, D)
        if self.head is not None:
            return self.head(x)
        return x * x.shape[-1] ** -0.5 @ self.embedding.weight.T  # (B, T, D) @ (D, V) -> (B, T, V)

    def new_caches(self) -> list[Caches]:
        """Make empty caches for ``decode``: two for each layer of the decoder."""
        return [(KVCache(), KVCache()) for _ in self.decoder.layers]

    def forward(self, source: Int[Tensor, "B S"], labels: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Score every label, (B, T, V), given the source and the true labels before it: teacher forcing."""
        return self.decode(self.shift_right(labels), self.encode(source), source)


@torch.no_grad()
def write(model: T5, source: Int[Tensor, "B S"], end: int, limit: int) -> Int[Tensor, "B T"]:
    """Write a target for each source, always the likeliest token, with caches; up to ``end`` or ``limit`` tokens."""
    memory, caches = model.encode(source), model.new_caches()

    def step(token: Tensor, caches: list[Caches]) -> tuple[Tensor, list[Caches]]:
        return model.decode(token[:, None], memory, source, caches)[:, -1], caches

    begin = torch.full((len(source),), model.pad)
    return greedy_decode(step, caches, begin, end=end, limit=limit, pad=model.pad)


NAMES = {  # ours by theirs
    "shared.": "embedding.",
    "lm_head.": "head.",
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.": "encoder_bias.",
    "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.": "decoder_bias.",
    ".block.": ".layers.",
    ".final_layer_norm.": ".norm.",
    ".q.": ".query.",
    ".k.": ".key.",
    ".v.": ".value.",
    ".o.": ".output.",
    ".wi.": ".hidden.",
    ".wi_0.": ".hidden.",
    ".wi_1.": ".gate.",
    ".wo.": ".output.",
}
SUBLAYERS = {
    "encoder": ("attention", "feed_forward"),
    "decoder": ("self_attention", "cross_attention", "feed_forward"),
}


def published_weights(weights: Mapping[str, Tensor], tied: bool = True) -> dict[str, Tensor]:
    """Rename the weights of the published T5, as ``transformers`` keeps them, so that ``T5`` can load them.

    Args:
        weights: the ``state_dict()`` of a ``T5ForConditionalGeneration``, from which nothing is copied.
        tied: whether its head is tied, and so not among ours.
    """
    ours = {}
    for name, weight in weights.items():
        if "embed_tokens" in name or (tied and name.startswith("lm_head")):
            continue
        for theirs, mine in NAMES.items():
            name = name.replace(theirs, mine)
        for stack, sublayers in SUBLAYERS.items():
            for i, sublayer in enumerate(sublayers):
                if name.startswith(f"{stack}.") and f".layer.{i}." in name:
                    head, tail = name.split(f".layer.{i}.")
                    part, _, rest = tail.partition(".")
                    name = (
                        f"{head}.{sublayer}_residual.norm.{rest}"
                        if part == "layer_norm"
                        else f"{head}.{sublayer}.{rest}"
                    )
        ours[name] = weight
    return ours
