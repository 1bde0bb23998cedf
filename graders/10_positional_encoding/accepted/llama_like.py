"""As in the code of published models: tables of cosines and sines, rotate_half, exponentials of logarithms."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from scratch.attention import attention_scores, attention_weights


def permutation_test(function, x, seed=0):
    T = x.shape[0]
    if T < 2:
        raise ValueError("too short")
    g = torch.Generator()
    g.manual_seed(seed)
    # A random round trip through all rows: nobody stays where he was.
    trip = torch.randperm(T, generator=g)
    order = torch.empty_like(trip)
    order[trip] = trip.roll(1)
    with torch.no_grad():
        back = torch.argsort(order)
        return float(torch.max(torch.abs(function(x[order])[back] - function(x))))


def sinusoidal_encoding(length, d_model, base=10000.0):
    pe = torch.zeros(length, d_model)
    position = torch.arange(0, length, dtype=torch.float).unsqueeze(1)
    div_term = torch.exp(torch.arange(0, d_model, 2).float() * (-math.log(base) / d_model))
    pe[:, 0::2] = torch.sin(position * div_term)
    pe[:, 1::2] = torch.cos(position * div_term)[:, : d_model // 2]
    return pe


class LearnedPositions(nn.Module):
    def __init__(self, max_length: int, d_model: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length, d_model))
        self.register_buffer("position_ids", torch.arange(max_length), persistent=False)
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x, offset=0):
        T = x.size(-2)
        if offset < 0:
            raise ValueError("negative position")
        if offset + T > self.weight.size(0):
            raise ValueError("sequence too long")
        return x + F.embedding(self.position_ids[offset : offset + T], self.weight)


def rotate_half(x):
    x1 = x[..., : x.shape[-1] // 2]
    x2 = x[..., x.shape[-1] // 2 :]
    return torch.cat((-x2, x1), dim=-1)


def apply_rope(x, offset=0, base=10000.0):
    dim = x.shape[-1]
    if dim % 2 == 1:
        raise ValueError(f"head_dim {dim} is odd")
    inv_freq = 1.0 / (base ** (torch.arange(0, dim, 2, dtype=torch.float) / dim))
    t = torch.arange(x.shape[-2]).float() + offset
    freqs = torch.outer(t, inv_freq)
    emb = torch.cat((freqs, freqs), dim=-1)
    cos, sin = emb.cos().to(x.dtype), emb.sin().to(x.dtype)
    return (x * cos) + (rotate_half(x) * sin)


def rotary_attention(query, key, value, mask=None, offset=0):
    q, k = apply_rope(query, offset=offset), apply_rope(key, offset=0)
    return torch.matmul(attention_weights(attention_scores(q, k), mask), value)


def get_slopes(n):
    start = 2 ** (-(2 ** -(math.log2(n) - 3)))
    return [start * start**i for i in range(n)]


def alibi_bias(heads, length):
    if heads <= 0 or not math.log2(heads).is_integer():
        raise ValueError("number of heads must be a power of two")
    slopes = torch.tensor(get_slopes(heads)).view(heads, 1, 1)
    context = torch.arange(length)[:, None]
    memory = torch.arange(length)[None, :]
    relative = (memory - context).float()
    mask = torch.triu(torch.full((length, length), float("-inf")), diagonal=1)
    return slopes * relative.clamp(max=0) + mask
