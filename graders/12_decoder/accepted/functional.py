"""torch.nn.functional, reductions and additive masks throughout; the budget from a model that is built and counted."""

import functools
import math
import operator

import torch
import torch.nn.functional as F
from torch import nn

from scratch.attention import causal_mask
from scratch.layers import Encoder, FeedForward, LayerNorm, Residual
from scratch.multi_head_attention import MultiHeadAttention
from scratch.positions import sinusoidal_encoding


def combine_masks(*masks):
    masks = list(filter(lambda mask: mask is not None, masks))
    if not masks:
        return None
    if all(mask.dtype == torch.bool for mask in masks):
        return functools.reduce(operator.and_, masks)
    dtype = next(mask.dtype for mask in masks if mask.is_floating_point())
    return sum(mask.to(dtype).log() if mask.dtype == torch.bool else mask for mask in masks)


class DecoderLayer(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.1, norm_first=False):
        super().__init__()
        parts = {
            "self_attention": MultiHeadAttention(d_model, heads),
            "cross_attention": MultiHeadAttention(d_model, heads),
            "feed_forward": FeedForward(d_model, d_ff),
        }
        for name, part in parts.items():
            self.add_module(name, part)
            self.add_module(f"{name}_residual", Residual(d_model, dropout, norm_first))

    def forward(self, x, memory, mask=None, memory_mask=None):
        look_back = functools.partial(self.self_attention, mask=mask)
        look_across = functools.partial(self.cross_attention, memory=memory, mask=memory_mask)
        for name, part in (
            ("self_attention", look_back),
            ("cross_attention", look_across),
            ("feed_forward", self.feed_forward),
        ):
            x = getattr(self, f"{name}_residual")(x, part)
        return x


class Decoder(nn.Module):
    def __init__(self, d_model, heads, d_ff, layers, dropout=0.1, norm_first=False):
        super().__init__()
        make = functools.partial(DecoderLayer, d_model, heads, d_ff, dropout, norm_first)
        self.layers = nn.ModuleList([make() for _ in range(layers)])
        self.norm = LayerNorm(d_model) if norm_first else (lambda x: x)

    def forward(self, x, memory, mask=None, memory_mask=None):
        def through(x, layer):
            return layer(x, memory, mask, memory_mask)

        return self.norm(functools.reduce(through, self.layers, x))


class Transformer(nn.Module):
    def __init__(
        self, vocabulary, d_model=512, heads=8, d_ff=2048, layers=6, dropout=0.1, norm_first=False, pad=0
    ):
        super().__init__()
        self.p, self.pad = dropout, pad
        table = torch.randn(vocabulary, d_model) / math.sqrt(d_model)
        self.embedding = nn.Embedding.from_pretrained(table, freeze=False)
        self.encoder = Encoder(d_model, heads, d_ff, layers, dropout, norm_first)
        self.decoder = Decoder(d_model, heads, d_ff, layers, dropout, norm_first)

    def embed(self, ids):
        table = self.embedding.weight
        rows = F.embedding(ids, table * table.shape[1] ** 0.5)
        positions = sinusoidal_encoding(ids.shape[1], table.shape[1]).to(table)
        return F.dropout(rows + positions, self.p, self.training)

    def forbidding(self, ids):
        return (
            torch.zeros(ids.shape)
            .masked_fill(ids == self.pad, -math.inf)[:, None, :]
            .to(self.embedding.weight)
        )

    def encode(self, source):
        return self.encoder(self.embed(source), self.forbidding(source))

    def decode(self, target, memory, source):
        mask = combine_masks(self.forbidding(target), causal_mask(target.shape[1]))
        x = self.decoder(self.embed(target), memory, mask, self.forbidding(source))
        return F.linear(x, self.embedding.weight)

    def forward(self, source, target):
        return self.decode(target, memory=self.encode(source), source=source)


def parameter_budget(vocabulary, d_model, d_ff, layers, norm_first=False):
    with torch.device("meta"):
        model = Transformer(vocabulary, d_model, 1, d_ff, layers, norm_first=norm_first)
    places = {
        "encoder attention": ("encoder.", ".attention."),
        "encoder feed-forward": ("encoder.", ".feed_forward."),
        "decoder self-attention": ("decoder.", ".self_attention."),
        "decoder cross-attention": ("decoder.", ".cross_attention."),
        "decoder feed-forward": ("decoder.", ".feed_forward."),
        "norms": ("norm.",),
        "embedding": ("embedding",),
    }
    return {
        name: sum(p.numel() for n, p in model.named_parameters() if all(part in n for part in parts))
        for name, parts in places.items()
    }
