"""One row, one pair, one entry at a time: slow, and right."""

import math
import random

import torch
from torch import nn

from scratch.attention import scaled_dot_product_attention


def permutation_test(function, x, seed=0):
    count = len(x)
    if count <= 1:
        raise ValueError("nothing to permute")
    dice = random.Random(seed)
    order = list(range(count))
    while order == sorted(order):
        dice.shuffle(order)
    shuffled = torch.stack([x[i] for i in order])
    one, two = function(shuffled), function(x)
    worst = 0.0
    for row, i in enumerate(order):
        for a, b in zip(one[row].tolist(), two[i].tolist(), strict=True):
            worst = max(worst, abs(a - b))
    return worst


def sinusoidal_encoding(length, d_model, base=10000.0):
    encoding = torch.zeros(length, d_model)
    for t in range(length):
        for feature in range(d_model):
            angle = t / base ** ((feature - feature % 2) / d_model)
            encoding[t, feature] = math.cos(angle) if feature % 2 else math.sin(angle)
    return encoding


class LearnedPositions(nn.Module):
    def __init__(self, max_length, d_model):
        super().__init__()
        self.max_length = max_length
        self.weight = nn.Parameter(torch.empty(max_length, d_model).normal_(0.0, 0.02))

    def forward(self, x, offset=0):
        rows = []
        for t in range(x.shape[-2]):
            if not 0 <= offset + t < self.max_length:
                raise ValueError(f"no vector for position {offset + t}")
            rows.append(x[..., t, :] + self.weight[offset + t])
        return torch.stack(rows, dim=-2)


def apply_rope(x, offset=0, base=10000.0):
    width = x.shape[-1]
    if width % 2 != 0:
        raise ValueError("odd")
    half = width // 2
    rows = []
    for t in range(x.shape[-2]):
        features = [None] * width
        for i in range(half):
            angle = (offset + t) / base ** (2 * i / width)
            a, b = x[..., t, i], x[..., t, i + half]
            features[i] = a * math.cos(angle) - b * math.sin(angle)
            features[i + half] = b * math.cos(angle) + a * math.sin(angle)
        rows.append(torch.stack(features, dim=-1))
    return torch.stack(rows, dim=-2)


def rotary_attention(query, key, value, mask=None, offset=0):
    queries = [apply_rope(query[..., t : t + 1, :], offset + t) for t in range(query.shape[-2])]
    keys = [apply_rope(key[..., s : s + 1, :], s) for s in range(key.shape[-2])]
    return scaled_dot_product_attention(torch.cat(queries, -2), torch.cat(keys, -2), value, mask)


def alibi_bias(heads, length):
    if heads not in [2**n for n in range(20)]:
        raise ValueError("not a power of two")
    bias = torch.full((heads, length, length), float("-inf"))
    for h in range(heads):
        slope = 2 ** (-8 * (h + 1) / heads)
        for t in range(length):
            for s in range(t + 1):
                bias[h, t, s] = -slope * (t - s)
    return bias
