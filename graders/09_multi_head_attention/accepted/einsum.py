"""Sums over named dimensions: heads are an index, and nothing is transposed."""

import torch
from torch import einsum, nn


def split_heads(x, heads):
    if x.shape[-1] % heads != 0:
        raise ValueError("the heads do not fit")
    return torch.stack(x.chunk(heads, dim=-1), dim=-3)


def merge_heads(x):
    return torch.cat([head.squeeze(-3) for head in x.split(1, dim=-3)], dim=-1)


def attention(query, key, value, mask):
    scores = einsum("...tk,...sk->...ts", query, key) * query.size(-1) ** -0.5
    if mask is not None:
        while mask.dim() < scores.dim():
            mask = mask[None] if mask.dim() < 3 else mask[:, None]
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    alive = torch.isfinite(scores).any(-1, keepdim=True)
    weights = torch.where(alive, scores, torch.zeros_like(scores)).softmax(-1) * alive
    return einsum("...ts,...sk->...tk", weights, value)


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, heads, bias=True):
        super().__init__()
        if d_model % heads:
            raise ValueError("the heads do not fit")
        self.h, self.k = heads, d_model // heads
        # Made in another order, and drawn in another way, than in the course's own answer.
        self.output = nn.Linear(d_model, d_model, bias)
        self.value = nn.Linear(d_model, d_model, bias)
        self.key = nn.Linear(d_model, d_model, bias)
        self.query = nn.Linear(d_model, d_model, bias)
        for layer in self.children():
            nn.init.xavier_uniform_(layer.weight)

    def project(self, layer, x):
        out = einsum("btd,hkd->bhtk", x, layer.weight.view(self.h, self.k, -1))
        return out if layer.bias is None else out + layer.bias.view(self.h, 1, self.k)

    def forward(self, x, memory=None, mask=None):
        y = memory if memory is not None else x
        q, k, v = self.project(self.query, x), self.project(self.key, y), self.project(self.value, y)
        found = attention(q, k, v, mask)
        out = einsum("bhtk,dhk->btd", found, self.output.weight.view(-1, self.h, self.k))
        return out if self.output.bias is None else out + self.output.bias


def count_parameters(d_model, heads, groups=None, bias=True):
    k = d_model // heads
    query = heads * k * d_model
    pair = (groups or heads) * k * d_model * 2
    weights = query + pair + d_model * d_model
    return weights + (2 * d_model + 2 * (groups or heads) * k if bias else 0)


class GroupedQueryAttention(nn.Module):
    def __init__(self, d_model, heads, groups):
        super().__init__()
        if d_model % heads != 0:
            raise ValueError("the heads do not fit")
        if heads % groups != 0:
            raise ValueError("the groups do not fit")
        self.g, self.r, self.k = groups, heads // groups, d_model // heads
        for name, (inputs, outputs) in {
            "query": (d_model, d_model),
            "key": (d_model, groups * self.k),
            "value": (d_model, groups * self.k),
            "output": (d_model, d_model),
        }.items():
            self.add_module(name, nn.Linear(inputs, outputs, bias=False))

    def forward(self, x, mask=None):
        g, r, k = self.g, self.r, self.k
        query = einsum("btd,grkd->bgrtk", x, self.query.weight.view(g, r, k, -1))
        key = einsum("bsd,gkd->bgsk", x, self.key.weight.view(g, k, -1))
        value = einsum("bsd,gkd->bgsk", x, self.value.weight.view(g, k, -1))
        if mask is not None and mask.ndim == 3:
            mask = mask[:, None, None]
        found = attention(query, key[:, :, None], value[:, :, None], mask)
        return einsum("bgrtk,dgrk->btd", found, self.output.weight.view(-1, g, r, k))
