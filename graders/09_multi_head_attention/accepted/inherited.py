"""Multi-head attention as the special case of shared heads: one class derives from the other."""

import torch
from torch import nn

from scratch.attention import scaled_dot_product_attention as attend


def split_heads(x, heads):
    if (left := x.shape[-1] % heads) != 0:
        raise ValueError(f"{left} features are left over")
    return torch.stack(torch.tensor_split(x, heads, -1), -3)


def merge_heads(x):
    return torch.permute(x, (*range(x.dim() - 3), -2, -3, -1)).reshape(*x.shape[:-3], x.shape[-2], -1)


def count_parameters(d_model, heads, groups=None, bias=True):
    ratio = (heads, heads) if groups is None else (groups, heads)
    narrow = d_model * ratio[0] // ratio[1]
    weights = 2 * d_model**2 + 2 * d_model * narrow
    return weights + bias * 2 * (d_model + narrow)


class GroupedQueryAttention(nn.Module):
    def __init__(self, d_model, heads, groups, bias=False):
        super().__init__()
        if any((d_model % heads, heads % groups)):
            raise ValueError("what does not divide cannot be shared")
        self.h, self.g = heads, groups
        narrow = d_model // heads * groups
        self.query, self.key, self.value, self.output = (
            nn.Linear(d_model, width, bias=bias) for width in (d_model, narrow, narrow, d_model)
        )

    def forward(self, x, mask=None):
        return self._attend(x, x, mask)

    def _attend(self, x, memory, mask):
        q = split_heads(self.query(x), self.h).unflatten(1, (self.g, -1))  # (B, G, H / G, T, K)
        k, v = (split_heads(f(memory), self.g)[:, :, None] for f in (self.key, self.value))  # (B, G, 1, S, K)
        k, v = (y.expand(-1, -1, self.h // self.g, -1, -1) for y in (k, v))
        if mask is not None and mask.dim() > 2:
            mask = mask[:, None, None]
        return self.output(merge_heads(attend(q, k, v, mask).flatten(1, 2)))


class MultiHeadAttention(GroupedQueryAttention):
    def __init__(self, d_model, heads, bias=True):
        super().__init__(d_model, heads, heads, bias)

    def forward(self, x, memory=None, mask=None):
        return self._attend(x, x if memory is None else memory, mask)
