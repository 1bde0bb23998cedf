"""One query at a time, one key at a time: slow, and right."""

import math

import torch
from torch import nn


def leading(*tensors):
    """The tensors with all leading dimensions made one, and these dimensions."""
    shape = tensors[0].shape[:-2]
    return shape, [x.reshape(-1, *x.shape[-2:]) for x in tensors]


def attention_scores(query, key):
    shape, (queries, keys) = leading(query, key)
    root = math.sqrt(query.shape[-1])
    batch = []
    for q, k in zip(queries, keys, strict=True):
        rows = [torch.stack([torch.dot(q_t, k_s) / root for k_s in k]) for q_t in q]
        batch.append(torch.stack(rows))
    return torch.stack(batch).reshape(*shape, query.shape[-2], key.shape[-2])


def weights_of_row(scores, permits):
    weights = torch.zeros_like(scores)
    if permits.any():
        chosen = torch.softmax(scores[permits], dim=0)
        weights = weights.masked_scatter(permits, chosen)
    return weights


def attention_weights(scores, mask=None):
    if mask is None:
        permits = torch.ones_like(scores, dtype=torch.bool)
    elif mask.dtype == torch.bool:
        permits = mask.expand(scores.shape)
    else:
        scores = scores + mask
        permits = scores > -math.inf
    shape, size = scores.shape, scores.shape[-1]
    rows = zip(scores.reshape(-1, size), permits.reshape(-1, size), strict=True)
    return torch.stack([weights_of_row(row, keys) for row, keys in rows]).reshape(shape)


def scaled_dot_product_attention(query, key, value, mask=None):
    weights = attention_weights(attention_scores(query, key), mask)
    shape, (weights, values) = leading(weights, value)
    outputs = []
    for w, v in zip(weights, values, strict=True):
        for row in w:
            output = 0
            for s in range(len(v)):
                output = output + row[s] * v[s]
            outputs.append(output)
    return torch.stack(outputs).reshape(*shape, query.shape[-2], value.shape[-1])


def padding_mask(lengths, size):
    rows = []
    for length in lengths.tolist():
        if not 0 <= length <= size:
            raise ValueError(f"a sequence of length {length} in a batch of size {size}")
        rows.append([[True] * length + [False] * (size - length)])
    return torch.tensor(rows, dtype=torch.bool)


def causal_mask(size):
    mask = torch.zeros(size, size, dtype=torch.bool)
    for t in range(size):
        mask[t, : t + 1] = True
    return mask


class SelfAttention(nn.Module):
    def __init__(self, d_model, d_key, d_value):
        super().__init__()
        for name, width in (("query", d_key), ("key", d_key), ("value", d_value)):
            setattr(self, name, nn.Linear(d_model, width, bias=False))

    def forward(self, x, mask=None):
        outputs = []
        for b, sequence in enumerate(x):
            here = mask
            if mask is not None and mask.ndim == 3:
                here = mask[b if len(mask) > 1 else 0]
            q, k, v = self.query(sequence), self.key(sequence), self.value(sequence)
            outputs.append(scaled_dot_product_attention(q, k, v, here))
        return torch.stack(outputs)
