"""A rotation as a matrix for each position, and sums over named dimensions."""

import torch
from torch import nn

from scratch.attention import attention_weights


def permutation_test(function, x, seed=0):
    T = len(x)
    if T < 2:
        raise ValueError("fewer than two rows")
    generator = torch.Generator().manual_seed(seed)
    keys = torch.rand(T, generator=generator, dtype=torch.float64)
    order = keys.argsort()
    if (order == torch.arange(T)).all():
        order = order.flip(0)
    P = torch.eye(T, dtype=x.dtype)[order]
    out = function(P @ x)
    difference = out - P.to(out.dtype) @ function(x)
    return difference.abs().flatten().sort().values[-1].tolist()


def sinusoidal_encoding(length, d_model, base=10000.0):
    feature = torch.arange(d_model)
    angle = torch.arange(length)[:, None] / base ** (2 * (feature // 2) / d_model)
    shift = torch.pi / 2 * (feature % 2)  # cos x = sin(x + π/2)
    return torch.sin(angle + shift).to(torch.float32)


class LearnedPositions(nn.Module):
    def __init__(self, max_length, d_model):
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.zeros(max_length, d_model)))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x, offset=0):
        limit = len(self.weight)
        if not (offset >= 0 and offset + x.shape[-2] <= limit):
            raise ValueError(f"limit {limit}")
        chosen = torch.eye(limit, dtype=x.dtype)[offset : offset + x.shape[-2]]  # (T, max_length)
        return torch.einsum("tl,ld->td", chosen, self.weight.to(x.dtype)).expand_as(x) + x


def apply_rope(x, offset=0, base=10000.0):
    K = x.shape[-1]
    if K != 2 * (K // 2):
        raise ValueError("odd width")
    i = torch.arange(K // 2)
    theta = torch.arange(offset, offset + x.shape[-2])[:, None] * base ** (-2.0 * i / K)
    R = torch.zeros(x.shape[-2], K, K)  # (T, K, K): one rotation for each position
    R[:, i, i] = R[:, i + K // 2, i + K // 2] = theta.cos()
    R[:, i, i + K // 2] = -theta.sin()
    R[:, i + K // 2, i] = theta.sin()
    return torch.einsum("tij,...tj->...ti", R.to(x.dtype), x)


def rotary_attention(query, key, value, mask=None, offset=0):
    q, k = apply_rope(query, offset), apply_rope(key)
    scores = torch.einsum("...tk,...sk->...ts", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("...ts,...sv->...tv", attention_weights(scores, mask), value)


def alibi_bias(heads, length):
    if heads <= 0:
        raise ValueError("no heads")
    power = 1
    while power < heads:
        power *= 2
    if power != heads:
        raise ValueError("no power of two")
    distance = (
        torch.tril(torch.ones(length, length)).cumsum(0) - 1
    )  # steps since s, on and below the diagonal
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    slopes = torch.logspace(-8 / heads, -8, heads, base=2.0)
    return torch.einsum("h,ts->hts", -slopes, distance).masked_fill(future, -torch.inf)
