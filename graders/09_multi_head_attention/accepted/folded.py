"""Heads folded into the batch, as many older libraries do it; one product for all three maps; masks repeated."""

import torch
import torch.nn.functional as F
from torch import nn

from scratch.attention import attention_scores, attention_weights


def split_heads(x, heads):
    width = x.size(-1)
    if width % heads:
        raise ValueError("uneven heads")
    return x.view(*x.size()[:-1], heads, width // heads).movedim(-2, -3)


def merge_heads(x):
    return x.movedim(-3, -2).contiguous().view(*x.shape[:-3], x.shape[-2], x.shape[-3] * x.shape[-1])


class Projected(nn.Module):
    """Four maps, and heads folded into the batch."""

    def make(self, d_model, heads, narrow, bias):
        if d_model % heads:
            raise ValueError("uneven heads")
        self.heads, self.head_dim = heads, d_model // heads
        self.query, self.output = nn.Linear(d_model, d_model, bias), nn.Linear(d_model, d_model, bias)
        self.key, self.value = nn.Linear(d_model, narrow, bias), nn.Linear(d_model, narrow, bias)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def attend(self, q, k, v, mask):
        self.calls += 1
        B, T = len(q), q.shape[1]
        q, k, v = (split_heads(part, self.heads).flatten(0, 1) for part in (q, k, v))  # (B·H, T, K)
        if mask is not None and mask.ndim == 3:
            mask = mask.expand(B, -1, -1).repeat_interleave(self.heads, dim=0)
        found = attention_weights(attention_scores(q, k), mask) @ v
        return self.output(merge_heads(found.unflatten(0, (B, self.heads))).reshape(B, T, -1))


class MultiHeadAttention(Projected):
    def __init__(self, d_model, heads, bias=True):
        super().__init__()
        self.make(d_model, heads, d_model, bias)

    def forward(self, x, memory=None, mask=None):
        if memory is None:
            layers = (self.query, self.key, self.value)
            weight = torch.cat([layer.weight for layer in layers])
            bias = None if self.query.bias is None else torch.cat([layer.bias for layer in layers])
            return self.attend(*F.linear(x, weight, bias).chunk(3, dim=-1), mask)
        return self.attend(self.query(x), self.key(memory), self.value(memory), mask)


def count_parameters(d_model, heads, groups=None, bias=True):
    share = 1 if groups is None else heads // groups
    outputs = 2 * d_model + 2 * (d_model // share)
    return outputs * (d_model + int(bias))


class GroupedQueryAttention(Projected):
    def __init__(self, d_model, heads, groups):
        super().__init__()
        if heads % groups:
            raise ValueError("uneven groups")
        self.make(d_model, heads, d_model * groups // heads, False)
        self.share = heads // groups

    def copied(self, x):
        """(B, T, G·K) -> (B, T, H·K): each head's features, once for every query head that shares it."""
        pieces = x.unflatten(-1, (-1, 1, self.head_dim))  # (B, T, G, 1, K)
        return pieces.expand(-1, -1, -1, self.share, -1).flatten(2)

    def forward(self, x, mask=None):
        return self.attend(self.query(x), self.copied(self.key(x)), self.copied(self.value(x)), mask)
