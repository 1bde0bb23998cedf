"""Someone who thinks step by step, prints on the way, and keeps everything in one place."""

import warnings

import torch
from torch import nn


def attention_scores(query, key):
    k_width = query.shape[-1]
    key_t = torch.movedim(key, -1, -2)
    product = torch.matmul(query, key_t)
    print("product", product.shape)
    return torch.div(product, torch.sqrt(torch.tensor(k_width, dtype=query.dtype)))


def attention_weights(scores, mask=None):
    if mask is not None:
        if mask.is_floating_point():
            scores = scores + mask
        else:
            scores = scores.clone()
            forbidden = torch.broadcast_to(torch.logical_not(mask), scores.shape)
            scores[forbidden] = float("-inf")
    empty = torch.isinf(scores).all(dim=-1)
    if empty.any():
        warnings.warn("some queries may attend to nothing", stacklevel=2)
        scores = scores.clone()
        scores[empty] = 0.0
    weights = torch.nn.Softmax(dim=-1)(scores)
    if empty.any():
        keep = torch.ones_like(weights)
        keep[empty] = 0.0
        weights = weights * keep
    return weights


def scaled_dot_product_attention(query, key, value, mask=None):
    scores = attention_scores(query, key)
    weights = attention_weights(scores, mask)
    output = torch.matmul(weights, value)
    assert output.shape[-1] == value.shape[-1]
    return output


def padding_mask(lengths, size):
    for length in lengths:
        if length < 0:
            raise ValueError("negative")
        if length > size:
            raise ValueError("too long")
    mask = torch.full((lengths.shape[0], 1, size), False)
    for i in range(lengths.shape[0]):
        mask[i, 0, 0 : lengths[i]] = True
    return mask


def causal_mask(size):
    rows = []
    for t in range(size):
        rows.append([s <= t for s in range(size)])
    return torch.tensor(rows)


class SelfAttention(nn.Module):
    def __init__(self, d_model, d_key, d_value):
        super().__init__()
        self.query = nn.Linear(in_features=d_model, out_features=d_key, bias=False)
        self.key = nn.Linear(in_features=d_model, out_features=d_key, bias=False)
        self.value = nn.Linear(in_features=d_model, out_features=d_value, bias=False)
        self.last_weights = None  # kept for a plot

    def forward(self, x, mask=None):
        queries = self.query(x)
        keys = self.key(x)
        values = self.value(x)
        self.last_weights = attention_weights(attention_scores(queries, keys), mask)
        return self.last_weights @ values
