"""Someone who thinks step by step, prints on the way, keeps the weights for a plot, and starts with the shapes."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


def split_heads(x: Float[Tensor, "*B T D"], heads: int) -> Float[Tensor, "*B H T K"]:
    D = x.shape[-1]
    if D % heads != 0:
        raise ValueError(f"d_model {D} must be a multiple of heads {heads}")
    K = D // heads
    new_shape = [*list(x.shape[:-1]), heads, K]
    cut = x.reshape(new_shape)
    print("cut into", cut.shape)
    return torch.swapaxes(cut, -2, -3)


def merge_heads(x: Float[Tensor, "*B H T K"]) -> Float[Tensor, "*B T D"]:
    H, T, K = x.shape[-3:]
    swapped = torch.swapaxes(x, -2, -3).contiguous()
    return swapped.view([*list(x.shape[:-3]), T, H * K])


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model: int, heads: int, bias: bool = True):
        super().__init__()
        if d_model % heads != 0:
            raise ValueError("d_model must be a multiple of heads")
        self.num_heads = heads
        self.head_width = int(d_model / heads)
        self.query = nn.Linear(in_features=d_model, out_features=d_model, bias=bias)
        self.key = nn.Linear(in_features=d_model, out_features=d_model, bias=bias)
        self.value = nn.Linear(in_features=d_model, out_features=d_model, bias=bias)
        self.output = nn.Linear(in_features=d_model, out_features=d_model, bias=bias)
        self.last_weights = None

    def forward(self, x, memory=None, mask: Bool[Tensor, "#B #T #S"] | None = None):
        if memory is None:
            memory = x
        B, T, D = x.shape
        S = memory.shape[1]
        queries = split_heads(self.query(x), self.num_heads)
        keys = split_heads(self.key(memory), self.num_heads)
        values = split_heads(self.value(memory), self.num_heads)
        scores = torch.matmul(queries, keys.transpose(2, 3)) / math.sqrt(self.head_width)
        assert scores.shape == (B, self.num_heads, T, S)
        if mask is not None:
            if mask.dim() == 2:
                mask = mask[None, :, :]
            mask = mask[:, None, :, :]
            if mask.dtype == torch.bool:
                scores = torch.where(mask, scores, torch.tensor(float("-inf"), dtype=scores.dtype))
            else:
                scores = scores + mask
        nothing = (scores == float("-inf")).all(dim=-1, keepdim=True)
        scores = scores.masked_fill(nothing, 0)
        weights = nn.Softmax(dim=-1)(scores)
        weights = weights.masked_fill(nothing, 0)
        self.last_weights = weights.detach()
        heads = torch.matmul(weights, values)
        merged = merge_heads(heads)
        assert merged.shape == (B, T, D)
        return self.output(merged)


def count_parameters(d_model, heads, groups=None, bias=True):
    if groups is None:
        groups = heads
    head_width = d_model // heads
    query_parameters = d_model * d_model
    key_parameters = d_model * groups * head_width
    value_parameters = key_parameters
    output_parameters = d_model * d_model
    total = query_parameters + key_parameters + value_parameters + output_parameters
    if bias:
        total = total + d_model + groups * head_width + groups * head_width + d_model
    return total


class GroupedQueryAttention(nn.Module):
    def __init__(self, d_model, heads, groups):
        super().__init__()
        if d_model % heads != 0:
            raise ValueError("d_model must be a multiple of heads")
        if heads % groups != 0:
            raise ValueError("heads must be a multiple of groups")
        self.heads = heads
        self.groups = groups
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, groups * (d_model // heads), bias=False)
        self.value = nn.Linear(d_model, groups * (d_model // heads), bias=False)
        self.output = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, mask=None):
        q = split_heads(self.query(x), self.heads)
        k = split_heads(self.key(x), self.groups)
        v = split_heads(self.value(x), self.groups)
        index = torch.tensor([h // (self.heads // self.groups) for h in range(self.heads)])
        k = k[:, index]
        v = v[:, index]
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if mask is not None:
            if mask.dim() == 3:
                mask = mask.unsqueeze(1)
            if mask.dtype == torch.bool:
                scores = scores.masked_fill(mask.logical_not(), float("-inf"))
            else:
                scores = scores + mask
        nothing = scores.isneginf().all(-1, keepdim=True)
        weights = torch.softmax(scores.masked_fill(nothing, 0), -1).masked_fill(nothing, 0)
        return self.output(merge_heads(weights @ v))
