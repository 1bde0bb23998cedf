"""Sums over named dimensions, in place of transposes."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, einsum, nn


def attention_scores(query: Float[Tensor, "*B T K"], key: Float[Tensor, "*B S K"]) -> Float[Tensor, "*B T S"]:
    scale = query.size(-1) ** -0.5
    return einsum("...tk,...sk->...ts", query * scale, key)


def attention_weights(
    scores: Float[Tensor, "*B T S"],
    mask: Bool[Tensor, "*#B #T #S"] | Float[Tensor, "*#B #T #S"] | None = None,
) -> Float[Tensor, "*B T S"]:
    if mask is None:
        return scores.softmax(-1)
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -torch.inf)
    biased = scores + mask
    alive = torch.isfinite(biased).any(-1, keepdim=True)
    return torch.where(alive, biased, torch.zeros_like(biased)).softmax(-1) * alive


def scaled_dot_product_attention(
    query: Float[Tensor, "*B T K"],
    key: Float[Tensor, "*B S K"],
    value: Float[Tensor, "*B S V"],
    mask: Bool[Tensor, "*#B #T #S"] | Float[Tensor, "*#B #T #S"] | None = None,
) -> Float[Tensor, "*B T V"]:
    weights = attention_weights(attention_scores(query, key), mask)
    return einsum("...ts,...sv->...tv", weights, value)


def padding_mask(lengths: Int[Tensor, " B"], size: int) -> Bool[Tensor, "B 1 size"]:
    if lengths.min() < 0 or lengths.max() > size:
        raise ValueError("a length does not fit the size")
    return torch.lt(torch.arange(size).view(1, 1, size), lengths.view(-1, 1, 1))


def causal_mask(size: int) -> Bool[Tensor, "size size"]:
    t = torch.arange(size)
    return t[:, None] >= t[None, :]


class SelfAttention(nn.Module):
    def __init__(self, d_model: int, d_key: int, d_value: int):
        super().__init__()
        # Made in another order, and drawn in another way, than in the course's own answer.
        self.value = nn.Linear(d_model, d_value, bias=False)
        self.key = nn.Linear(d_model, d_key, bias=False)
        self.query = nn.Linear(d_model, d_key, bias=False)
        for layer in (self.value, self.key, self.query):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(d_model))

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "#B #T #T"] | Float[Tensor, "#B #T #T"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        q = einsum("btd,kd->btk", x, self.query.weight)
        k = einsum("btd,kd->btk", x, self.key.weight)
        v = einsum("btd,vd->btv", x, self.value.weight)
        return scaled_dot_product_attention(q, k, v, mask)
