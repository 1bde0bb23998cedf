"""torch.nn.functional wherever it offers something; zeros for empty rows by way of a finite stand-in."""

import torch
import torch.nn.functional as F
from torch import nn


def attention_scores(query, key):
    root = query.shape[-1] ** 0.25
    return torch.matmul(query / root, (key / root).mT)


def attention_weights(scores, mask=None):
    if mask is None:
        return F.softmax(scores, dim=-1)
    if mask.dtype != torch.bool:
        scores, mask = scores + mask, mask != -torch.inf
    # The most negative finite number: softmax gives 0 beside any real score, equal weights where all are forbidden.
    lowest = torch.finfo(scores.dtype).min
    return F.softmax(torch.where(mask, scores, lowest), dim=-1).where(mask, 0.0)


def scaled_dot_product_attention(query, key, value, mask=None):
    return torch.matmul(attention_weights(attention_scores(query, key), mask), value)


def padding_mask(lengths, size):
    too_long = torch.clamp(lengths, min=0, max=size) != lengths
    if torch.any(too_long):
        raise ValueError(f"{int(too_long.sum())} lengths do not fit")
    counted = (
        F.one_hot(lengths, size + 1).flip(-1).cumsum(-1).flip(-1)
    )  # ones up to the length, zeros after it
    return counted[:, None, 1:].bool()


def causal_mask(size):
    return ~torch.triu(torch.ones((size, size), dtype=torch.bool), diagonal=1)


class SelfAttention(nn.Module):
    def __init__(self, d_model, d_key, d_value):
        nn.Module.__init__(self)
        self.query = nn.Linear(d_model, d_key, False)
        self.key = nn.Linear(d_model, d_key, False)
        self.value = nn.Linear(d_model, d_value, False)

    def forward(self, x, mask=None):
        q, k, v = (F.linear(x, getattr(self, name).weight) for name in ("query", "key", "value"))
        return scaled_dot_product_attention(q, k, v, mask=mask)
