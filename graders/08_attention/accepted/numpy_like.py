"""Exponentials and sums by hand, as one would write it in NumPy."""

import math

import torch
from torch import nn


def attention_scores(query, key):
    return (query[..., :, None, :] * key[..., None, :, :]).sum(axis=-1) / query.shape[-1] ** 0.5


def attention_weights(scores, mask=None):
    permits = torch.ones_like(scores, dtype=torch.bool)
    if mask is not None and mask.dtype == torch.bool:
        permits = permits & mask
    elif mask is not None:
        scores = scores + mask
        permits = ~torch.isneginf(scores)
    largest = torch.where(permits, scores, torch.finfo(scores.dtype).min).amax(dim=-1, keepdim=True)
    shifted = torch.where(permits, scores - largest.detach(), 0.0)
    parts = torch.exp(shifted) * permits
    total = parts.sum(dim=-1, keepdim=True)
    return parts / torch.where(total > 0, total, 1.0)


def scaled_dot_product_attention(query, key, value, mask=None):
    weights = attention_weights(attention_scores(query, key), mask)
    return (weights[..., :, :, None] * value[..., None, :, :]).sum(axis=-2)


def padding_mask(lengths, size):
    if not torch.all((lengths >= 0) & (lengths <= size)):
        raise ValueError("lengths must lie between 0 and size")
    positions = torch.tile(torch.arange(size), (len(lengths), 1))
    return (positions < lengths.reshape(-1, 1)).reshape(len(lengths), 1, size)


def causal_mask(size):
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.logical_not(columns > rows)


class SelfAttention(nn.Module):
    def __init__(self, d_model, d_key, d_value):
        super().__init__()
        self.query = nn.Linear(d_model, d_key, bias=False)
        self.key = nn.Linear(d_model, d_key, bias=False)
        self.value = nn.Linear(d_model, d_value, bias=False)
        self.root = math.sqrt(d_key)

    def forward(self, x, mask=None):
        q, k, v = (x @ layer.weight.T for layer in (self.query, self.key, self.value))
        return attention_weights(q @ k.transpose(1, 2) / self.root, mask) @ v
