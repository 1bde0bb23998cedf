"""The layer in another layout: a base class, the three maps made by a helper, one product for all three."""

import math

import torch
from torch import nn


def attention_weights(scores, mask=None):
    bias = torch.zeros((), dtype=scores.dtype) if mask is None else mask
    if bias.dtype == torch.bool:
        bias = torch.log(bias.to(scores.dtype))  # log 1 = 0, log 0 = -inf
    biased = scores + bias
    total = torch.logsumexp(biased.masked_fill(_empty(biased), 0.0), dim=-1, keepdim=True)
    return torch.exp(biased - total)


def _empty(scores):
    return scores.isneginf().all(dim=-1, keepdim=True)


class Projected(nn.Module):
    """Three maps of one input."""

    def __init__(self, **widths: tuple[int, int]):
        super().__init__()
        for name, (inputs, outputs) in widths.items():
            self.add_module(name, nn.Linear(inputs, outputs, bias=False))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def project(self, x):
        weight = torch.cat([layer.weight for layer in self.children()])
        return (x @ weight.T).split([layer.out_features for layer in self.children()], dim=-1)


class SelfAttention(Projected):
    def __init__(self, d_model: int, d_key: int, d_value: int):
        super().__init__(value=(d_model, d_value), query=(d_model, d_key), key=(d_model, d_key))
        self.scale = 1 / math.sqrt(d_key)

    def forward(self, x, mask=None):
        self.calls += 1
        value, query, key = self.project(x)
        weights = attention_weights(torch.baddbmm(x.new_zeros(()), query, key.mT, alpha=self.scale), mask)
        return torch.bmm(weights, value)
