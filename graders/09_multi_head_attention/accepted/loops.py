"""One head at a time, each on its own slice, and the pieces glued together at the end."""

import torch
from torch import nn

from scratch.attention import scaled_dot_product_attention


def split_heads(x, heads):
    width = x.shape[-1]
    k = width // heads
    if k * heads != width:
        raise ValueError(f"{width} does not divide by {heads}")
    out = x.new_empty(*x.shape[:-2], heads, x.shape[-2], k)
    for h in range(heads):
        out[..., h, :, :] = x[..., :, h * k : (h + 1) * k]
    return out


def merge_heads(x):
    pieces = []
    for h in range(x.shape[-3]):
        pieces.append(x[..., h, :, :])
    return torch.cat(pieces, dim=-1)


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, heads, bias=True):
        super().__init__()
        if d_model / heads != d_model // heads:
            raise ValueError("uneven heads")
        self.d_model = d_model
        self.heads = heads
        self.query = nn.Linear(d_model, d_model, bias=bias)
        self.key = nn.Linear(d_model, d_model, bias=bias)
        self.value = nn.Linear(d_model, d_model, bias=bias)
        self.output = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, x, memory=None, mask=None):
        if memory is None:
            memory = x
        k = self.d_model // self.heads
        q, key, v = self.query(x), self.key(memory), self.value(memory)
        found = []
        for h in range(self.heads):
            here = slice(h * k, (h + 1) * k)
            found.append(scaled_dot_product_attention(q[..., here], key[..., here], v[..., here], mask))
        return self.output(torch.cat(found, dim=-1))


def count_parameters(d_model, heads, groups=None, bias=True):
    if groups is None:
        groups = heads
    total = 0
    for outputs in [d_model, groups * (d_model // heads), groups * (d_model // heads), d_model]:
        total += outputs * d_model
        if bias:
            total += outputs
    return total


class GroupedQueryAttention(nn.Module):
    def __init__(self, d_model, heads, groups):
        super().__init__()
        if d_model % heads or heads % groups:
            raise ValueError("uneven")
        self.heads, self.groups, self.width = heads, groups, d_model // heads
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, groups * self.width, bias=False)
        self.value = nn.Linear(d_model, groups * self.width, bias=False)
        self.output = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, mask=None):
        found = []
        for h in range(self.heads):
            g = h * self.groups // self.heads
            own = self.query(x)[:, :, h * self.width : (h + 1) * self.width]
            key = self.key(x)[:, :, g * self.width : (g + 1) * self.width]
            value = self.value(x)[:, :, g * self.width : (g + 1) * self.width]
            found.append(scaled_dot_product_attention(own, key, value, mask))
        return self.output(torch.cat(found, dim=2))
