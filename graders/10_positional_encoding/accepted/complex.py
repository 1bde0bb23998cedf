"""Positions as turns of complex numbers; an embedding as the base class; NumPy where it is shorter."""

import numpy as np
import torch
from torch import nn

from scratch.attention import scaled_dot_product_attention


def permutation_test(function, x, seed=0):
    if x.shape[0] in (0, 1):
        raise ValueError("order needs two rows")
    still = np.arange(x.shape[0])
    draws = (np.random.default_rng([seed, attempt]).permutation(still) for attempt in range(10**6))
    order = torch.from_numpy(next(p for p in draws if (p != still).any()))
    before = torch.index_select(x, 0, order)
    return torch.dist(function(before), function(x).index_select(0, order), p=float("inf")).item()


def sinusoidal_encoding(length, d_model, base=10000.0):
    t = np.arange(length)[:, np.newaxis]
    pairs = np.arange((d_model + 1) // 2)
    turn = np.exp(1j * t * np.power(base, -2 * pairs / d_model))
    encoding = np.empty((length, d_model), dtype=np.float32)
    encoding[:, ::2] = turn.imag
    encoding[:, 1::2] = turn.real[:, : d_model // 2]
    return torch.from_numpy(encoding)


class LearnedPositions(nn.Embedding):
    def __init__(self, max_length, d_model):
        super().__init__(max_length, d_model)
        with torch.no_grad():
            self.weight.mul_(0.02)

    def forward(self, x, offset=0):
        positions = torch.arange(offset, offset + x.size(-2))
        if positions.min() < 0 or positions.max() >= self.num_embeddings:
            raise ValueError(f"only {self.num_embeddings} positions are known")
        return x + super().forward(positions)


def apply_rope(x, offset=0, base=10000.0):
    if x.shape[-1] & 1:
        raise ValueError("the last dimension is odd")
    half = x.shape[-1] // 2
    precise = x.double()
    z = torch.view_as_complex(torch.stack((precise[..., :half], precise[..., half:]), dim=-1))
    theta = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(offset + torch.arange(x.shape[-2], dtype=torch.float64), theta)
    z = z * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((z.real, z.imag), dim=-1).type_as(x)


def rotary_attention(query, key, value, mask=None, offset=0):
    # Only the difference counts: the keys are turned back by the offset, the queries start at 0.
    return scaled_dot_product_attention(apply_rope(query), apply_rope(key, -offset), value, mask)


def alibi_bias(heads, length):
    if bin(max(heads, 0)).count("1") != 1:
        raise ValueError(f"{heads} heads")
    slopes = np.array([0.5 ** (8 / heads * h) for h in range(1, heads + 1)])
    t, s = np.mgrid[:length, :length]
    bias = np.where(s > t, -np.inf, -slopes[:, None, None] * np.abs(t - s))
    return torch.tensor(bias, dtype=torch.float32)
