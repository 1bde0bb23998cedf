"""torch.nn.functional wherever it offers something: PyTorch's own attention between one's own split and merge."""

import torch
import torch.nn.functional as F
from torch import nn


def split_heads(x, heads):
    pieces, left = divmod(x.shape[-1], heads)
    if left:
        raise ValueError("uneven heads")
    return x.reshape(*x.shape[:-1], heads, pieces).transpose(-2, -3)


def merge_heads(x):
    return x.transpose(-2, -3).reshape(*x.shape[:-3], x.shape[-2], x.shape[-1] * x.shape[-3])


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, heads, bias=True):
        super().__init__()
        if divmod(d_model, heads)[1]:
            raise ValueError("uneven heads")
        self.heads = heads
        for name in ("query", "key", "value", "output"):
            setattr(self, name, nn.Linear(d_model, d_model, bias=bias))

    def forward(self, x, memory=None, mask=None):
        memory = x if memory is None else memory
        inputs = zip((self.query, self.key, self.value), (x, memory, memory), strict=True)
        heads = [split_heads(F.linear(y, f.weight, f.bias), self.heads) for f, y in inputs]
        if mask is not None:
            mask = mask[..., None, :, :]
        return F.linear(
            merge_heads(F.scaled_dot_product_attention(*heads, mask)), self.output.weight, self.output.bias
        )


def count_parameters(d_model, heads, groups=None, bias=True):
    sizes = [d_model * d_model] * 2 + [d_model * d_model * (groups or heads) // heads] * 2
    if bias:
        sizes += [size // d_model for size in sizes]
    return sum(sizes)


class GroupedQueryAttention(nn.Module):
    def __init__(self, d_model, heads, groups):
        super().__init__()
        if d_model % heads:
            raise ValueError("uneven heads")
        if heads % groups:
            raise ValueError("uneven groups")
        self.heads, self.groups = heads, groups
        narrow = groups * d_model // heads
        for name, width in zip(
            ("query", "key", "value", "output"), (d_model, narrow, narrow, d_model), strict=True
        ):
            self.register_module(name, nn.Linear(d_model, width, bias=False))

    def forward(self, x, mask=None):
        query = split_heads(self.query(x), self.heads)
        key, value = (split_heads(f(x), self.groups) for f in (self.key, self.value))
        # One group at a time: its query heads, its key head, its value head.
        found, share = [], self.heads // self.groups
        for g in range(self.groups):
            own = query[:, g * share : (g + 1) * share]  # (B, H / G, T, K)
            scores = own @ key[:, g : g + 1].mT / own.shape[-1] ** 0.5
            if mask is not None:
                here = mask if mask.ndim < 3 else mask[:, None]
                scores = scores.where(here, -torch.inf) if here.dtype == torch.bool else scores + here
            empty = scores.eq(-torch.inf).all(-1, keepdim=True)
            weights = F.softmax(scores.where(~empty, 0.0), dim=-1).where(~empty, 0.0)
            found.append(weights @ value[:, g : g + 1])
        return self.output(merge_heads(torch.cat(found, dim=1)))
