"""Another layout: an output layer that shares the table's weight, positions in a buffer, layers in an nn.Sequential."""

import torch
from torch import nn

from scratch.layers import Encoder, FeedForward, LayerNorm, Residual
from scratch.multi_head_attention import MultiHeadAttention
from scratch.positions import sinusoidal_encoding


def combine_masks(*masks):
    booleans = [mask for mask in masks if mask is not None and not mask.is_floating_point()]
    numbers = [mask for mask in masks if mask is not None and mask.is_floating_point()]
    if not numbers:
        return torch.stack(torch.broadcast_tensors(*booleans)).all(dim=0) if booleans else None
    total = torch.stack(
        torch.broadcast_tensors(*numbers, *(torch.zeros_like(m, dtype=numbers[0].dtype) for m in booleans))
    ).sum(0)
    for mask in booleans:
        total = total.masked_fill(~mask, -torch.inf)
    return total


class SubLayer(Residual):
    """A residual connection that takes its sub-layer's further arguments."""

    def forward(self, x, sublayer, *args):
        return super().forward(x, lambda x: sublayer(x, *args))


class DecoderLayer(nn.Module):
    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float = 0.1, norm_first: bool = False):
        super().__init__()
        self.feed_forward_residual = SubLayer(d_model, dropout, norm_first)
        self.cross_attention_residual = SubLayer(d_model, dropout, norm_first)
        self.self_attention_residual = SubLayer(d_model, dropout, norm_first)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.cross_attention, self.self_attention = (MultiHeadAttention(d_model, heads) for _ in range(2))

    def forward(self, x, memory, mask=None, memory_mask=None):
        x = self.self_attention_residual(x, self.self_attention, None, mask)
        x = self.cross_attention_residual(x, self.cross_attention, memory, memory_mask)
        return self.feed_forward_residual(x, self.feed_forward)


class Decoder(nn.Module):
    def __init__(self, d_model, heads, d_ff, layers, dropout=0.1, norm_first=False):
        super().__init__()
        self.norm = LayerNorm(d_model) if norm_first else nn.Sequential()
        self.layers = nn.Sequential(
            *(DecoderLayer(d_model, heads, d_ff, dropout, norm_first) for _ in range(layers))
        )

    def forward(self, x, memory, mask=None, memory_mask=None):
        for layer in self.layers:
            x = layer(x, memory, mask, memory_mask)
        return self.norm(x)


class Transformer(nn.Module):
    def __init__(
        self, vocabulary, d_model=512, heads=8, d_ff=2048, layers=6, dropout=0.1, norm_first=False, pad=0
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.output = nn.Linear(d_model, vocabulary, bias=False)
        self.output.weight = self.embedding.weight  # one parameter under two names
        self.register_buffer("positions", sinusoidal_encoding(200, d_model, base=10000), persistent=False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.embedding_dropout = nn.Dropout(dropout)
        self.encoder = Encoder(d_model, heads, d_ff, layers, dropout, norm_first)
        self.decoder = Decoder(d_model, heads, d_ff, layers, dropout, norm_first)
        self.scale, self.padding = d_model**0.5, pad
        self.reset()

    @torch.no_grad()
    def reset(self):
        self.embedding.weight.copy_(torch.randn_like(self.embedding.weight) / self.scale)

    def embed(self, ids):
        x = self.embedding(ids).mul(self.scale)
        return self.embedding_dropout(x + self.positions[: ids.size(1)].to(x.dtype))

    def encode(self, source):
        return self.encoder(self.embed(source), self.real(source))

    def real(self, ids):
        return (ids != self.padding).unsqueeze(-2)

    def decode(self, target, memory, source):
        self.calls += 1
        T = target.size(1)
        order = torch.arange(T)
        mask = combine_masks(order[None, :, None] >= order[None, None, :], self.real(target))
        return self.output(self.decoder(self.embed(target), memory, mask, self.real(source)))

    def forward(self, source, target):
        return self.decode(target, self.encode(source), source)


def parameter_budget(vocabulary, d_model, d_ff, layers, norm_first=False):
    attention = sum((d_model + 1) * d_model for _ in range(4))
    thinking = 2 * d_model * d_ff + d_ff + d_model
    counts = {f"{side} feed-forward": layers * thinking for side in ("encoder", "decoder")}
    for name in ("encoder attention", "decoder self-attention", "decoder cross-attention"):
        counts[name] = layers * attention
    last = 4 * d_model if norm_first else 0
    return counts | {"norms": 10 * d_model * layers + last, "embedding": d_model * vocabulary}
