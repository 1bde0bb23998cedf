"""After the published code: rsqrt, views, PyTorch's own attention with scale=1, buckets by minimum and where."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from scratch.attention import causal_mask
from scratch.cache import KVCache


def span_corruption(ids, spans, first_sentinel):
    ids, spans = list(ids), sorted(tuple(span) for span in spans)
    sentinels = [first_sentinel - i for i in range(len(spans) + 1)]
    if set(sentinels) & set(ids):
        raise ValueError("a sentinel in the text")
    edges = [0, *(edge for span in spans for edge in span), len(ids)]
    if edges != sorted(edges) or any(start == end for start, end in spans):
        raise ValueError("no such spans")
    source = list(ids)
    target = []
    for sentinel, (start, end) in reversed(list(zip(sentinels, spans, strict=False))):
        source[start:end] = [sentinel]
        target = [sentinel, *ids[start:end], *target]
    return source, [*target, sentinels[-1]]


def restore_spans(source, target, first_sentinel):
    source, target = list(source), list(target)
    count = 0
    cuts = []
    for i, token in enumerate(target):
        if token == first_sentinel - count:
            cuts.append(i)
            count += 1
    if not cuts or cuts[0] != 0 or cuts[-1] != len(target) - 1:
        raise ValueError("a target that does not fit")
    answers = [target[a + 1 : b] for a, b in pairwise(cuts)]
    gaps = [token for token in source if first_sentinel - len(answers) <= token <= first_sentinel]
    if gaps != [first_sentinel - i for i in range(len(answers))]:
        raise ValueError("a source that does not fit")
    table = dict(zip(gaps, answers, strict=True))
    return [t for token in source for t in table.get(token, [token])]


def relative_position_bucket(relative, bidirectional=True, buckets=32, max_distance=128):
    relative_buckets = 0
    if bidirectional:
        buckets //= 2
        relative_buckets += (relative > 0).to(torch.long) * buckets
        relative = torch.abs(relative)
    else:
        relative = -torch.min(relative, torch.zeros_like(relative))
    max_exact = buckets // 2
    is_small = relative < max_exact
    if_large = max_exact + (
        torch.log(relative.float() / max_exact) / math.log(max_distance / max_exact) * (buckets - max_exact)
    ).to(torch.long)
    if_large = torch.min(if_large, torch.full_like(if_large, buckets - 1))
    relative_buckets += torch.where(is_small, relative, if_large)
    return relative_buckets


class RMSNorm(nn.Module):
    def __init__(self, d_model, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.variance_epsilon = eps

    def forward(self, x):
        dtype = x.dtype
        variance = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
        x = x.to(torch.float32) if dtype in (torch.float16, torch.bfloat16) else x
        return (self.weight * (x * torch.rsqrt(variance + self.variance_epsilon))).to(dtype)


class T5Attention(nn.Module):
    def __init__(self, d_model, heads, d_key):
        super().__init__()
        self.heads, self.d_key = heads, d_key
        inner = heads * d_key
        for name in ("query", "key", "value"):
            setattr(self, name, nn.Linear(d_model, inner, bias=False))
        self.output = nn.Linear(inner, d_model, bias=False)
        self.query.weight.data.normal_(mean=0.0, std=(d_model * d_key) ** -0.5)
        self.key.weight.data.normal_(mean=0.0, std=d_model**-0.5)
        self.value.weight.data.normal_(mean=0.0, std=d_model**-0.5)
        self.output.weight.data.normal_(mean=0.0, std=inner**-0.5)

    def forward(self, x, memory=None, mask=None, cache=None):
        shape = (x.shape[0], -1, self.heads, self.d_key)
        query = self.query(x).view(shape).transpose(1, 2)
        if cache is not None and memory is not None and cache.key is not None:
            key, value = cache.key, cache.value
        else:
            states = memory if memory is not None else x
            key = self.key(states).view(shape).transpose(1, 2)
            value = self.value(states).view(shape).transpose(1, 2)
            if cache is not None:
                key, value = cache.append(key, value)
        bias = query.new_zeros(1, 1, 1, 1)
        if mask is not None:
            bias = mask if mask.dtype != torch.bool else bias.masked_fill(~mask, -math.inf)
        bias = bias.expand(x.shape[0], self.heads, query.shape[2], key.shape[2])
        empty = (bias == -math.inf).all(-1, keepdim=True)
        found = F.scaled_dot_product_attention(query, key, value, bias.masked_fill(empty, 0.0), scale=1.0)
        found = found.masked_fill(empty, 0.0)
        return self.output(found.transpose(1, 2).contiguous().view(x.shape[0], -1, self.heads * self.d_key))


class T5(nn.Module):
    def __init__(
        self,
        vocabulary,
        d_model=512,
        heads=8,
        d_key=64,
        d_ff=2048,
        layers=6,
        dropout=0.1,
        gated=False,
        tied=True,
        buckets=32,
        max_distance=128,
        pad=0,
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.embedding.weight.data.normal_(mean=0.0, std=1.0)
        self.encoder = T5Encoder(d_model, heads, d_key, d_ff, layers, dropout, gated)
        self.decoder = T5Decoder(d_model, heads, d_key, d_ff, layers, dropout, gated)
        self.encoder_bias = nn.Embedding(buckets, heads)
        self.decoder_bias = nn.Embedding(buckets, heads)
        self.encoder_bias.weight.data.normal_(mean=0.0, std=d_model**-0.5)
        self.decoder_bias.weight.data.normal_(mean=0.0, std=d_model**-0.5)
        self.head = nn.Linear(d_model, vocabulary, bias=False) if not tied else None
        if self.head is not None:
            self.head.weight.data.normal_(mean=0.0, std=d_model**-0.5)
        self.dropout = nn.Dropout(dropout)
        self.config = (buckets, max_distance)
        self.scale = d_model**-0.5
        self.pad = pad

    def shift_right(self, labels):
        shifted = labels.new_zeros(labels.shape)
        shifted[..., 1:] = labels[..., :-1].clone()
        shifted[..., 0] = self.pad
        shifted.masked_fill_(shifted == -100, self.pad)
        return shifted

    def bias(self, stack, queries, keys, offset=0):
        context = torch.arange(queries, dtype=torch.long)[:, None] + offset
        memory = torch.arange(keys, dtype=torch.long)[None, :]
        bucket = relative_position_bucket(memory - context, stack != "decoder", *self.config)
        return getattr(self, f"{stack}_bias")(bucket).permute([2, 0, 1])

    def hide(self, seen):
        return torch.zeros(seen.shape, dtype=self.embedding.weight.dtype).masked_fill(~seen, -math.inf)

    def encode(self, source):
        S = source.shape[1]
        hidden = self.hide(source.ne(self.pad))[:, None, None, :]
        return self.encoder(self.dropout(self.embedding(source)), self.bias("encoder", S, S)[None] + hidden)

    def decode(self, target, memory, source, caches=None):
        past = len(caches[0][0]) if caches is not None else 0
        T = target.shape[1]
        mask = self.bias("decoder", T, past + T, past)[None] + self.hide(causal_mask(past + T))[-T:]
        across = self.hide(source.ne(self.pad))[:, None, None, :]
        x = self.decoder(self.dropout(self.embedding(target)), memory, mask, across, caches)
        if self.head is None:
            return F.linear(x * self.scale, self.embedding.weight)
        return self.head(x)

    def new_caches(self):
        return [(KVCache(), KVCache()) for _ in range(len(self.decoder.layers))]

    def forward(self, source, labels):
        return self.decode(self.shift_right(labels), self.encode(source), source)
