"""Slow and plain: token by token, distance by distance, one query after the other."""

import math

import torch
from torch import nn

from scratch.cache import KVCache


def span_corruption(ids, spans, first_sentinel):
    used = range(first_sentinel - len(list(spans)), first_sentinel + 1)
    for token in ids:
        if token in used:
            raise ValueError("a sentinel in the text")
    taken = {}
    for span in spans:
        start, end = span
        if start < 0 or end > len(ids) or start >= end:
            raise ValueError("no such span")
        for position in range(start, end):
            if position in taken:
                raise ValueError("spans overlap")
            taken[position] = start
    source, target, sentinel = [], [], first_sentinel
    for position, token in enumerate(ids):
        if position not in taken:
            source.append(token)
            continue
        if taken[position] == position:
            source.append(sentinel)
            target.append(sentinel)
            sentinel -= 1
        target.append(token)
    target.append(sentinel)
    return source, target


def restore_spans(source, target, first_sentinel):
    rest = list(target)
    answers = []
    sentinel = first_sentinel
    if not rest or rest.pop(0) != sentinel:
        raise ValueError("no first sentinel")
    while rest:
        answer = []
        while rest and rest[0] != sentinel - 1:
            answer.append(rest.pop(0))
        if not rest:
            raise ValueError("not closed")
        rest.pop(0)
        sentinel -= 1
        answers.append(answer)
    text, number = [], 0
    for token in source:
        if not sentinel <= token <= first_sentinel:
            text.append(token)
        elif token == first_sentinel - number and number < len(answers):
            text.extend(answers[number])
            number += 1
        else:
            raise ValueError("a sentinel out of place")
    if number != len(answers):
        raise ValueError("an answer without a gap")
    return text


def relative_position_bucket(relative, bidirectional=True, buckets=32, max_distance=128):
    out = []
    for r in relative.reshape(-1).tolist():
        n = buckets // 2 if bidirectional else buckets
        d = abs(r) if bidirectional else max(0, -r)
        e = n // 2
        far = 0 if d < e else int((n - e) * math.log(d / e) / math.log(max_distance / e))
        bucket = d if d < e else e + far
        out.append(min(bucket, n - 1) + (n if bidirectional and r > 0 else 0))
    return torch.tensor(out, dtype=torch.long).reshape(relative.shape)


class RMSNorm(nn.Module):
    def __init__(self, d_model, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1])
        if x.dtype.itemsize < 4:
            rows = rows.float()
        normed = [row / ((row * row).sum() / len(row) + self.eps).sqrt() * self.weight for row in rows]
        return torch.stack(normed).reshape(x.shape).to(x.dtype)


class T5Attention(nn.Module):
    def __init__(self, d_model, heads, d_key):
        super().__init__()
        self.heads, self.d_key = heads, d_key
        self.query = nn.Linear(d_model, heads * d_key, bias=False)
        self.key = nn.Linear(d_model, heads * d_key, bias=False)
        self.value = nn.Linear(d_model, heads * d_key, bias=False)
        self.output = nn.Linear(heads * d_key, d_model, bias=False)
        with torch.no_grad():
            self.query.weight.normal_(0, (d_model * d_key) ** -0.5)
            self.key.weight.normal_(0, d_model**-0.5)
            self.value.weight.normal_(0, d_model**-0.5)
            self.output.weight.normal_(0, (heads * d_key) ** -0.5)

    def cut(self, rows):
        pieces = rows.split(self.d_key, dim=-1)
        return torch.stack(pieces, dim=1)

    def forward(self, x, memory=None, mask=None, cache=None):
        B, T = x.shape[:2]
        query = self.cut(self.query(x))
        if memory is None:
            key, value = self.cut(self.key(x)), self.cut(self.value(x))
            if cache is not None:
                key, value = cache.append(key, value)
        elif cache is None:
            key, value = self.cut(self.key(memory)), self.cut(self.value(memory))
        else:
            if len(cache) == 0:
                cache.append(self.cut(self.key(memory)), self.cut(self.value(memory)))
            key, value = cache.key, cache.value
        S = key.shape[2]
        if mask is None:
            mask = torch.zeros(1, 1, 1, 1, dtype=x.dtype)
        if mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, dtype=x.dtype).masked_fill(~mask, -math.inf)
        mask = mask.expand(B, self.heads, T, S)
        rows = []
        for t in range(T):
            heads = []
            for h in range(self.heads):
                scores = (query[:, h, t, None] * key[:, h]).sum(-1) + mask[:, h, t]
                empty = (scores == -math.inf).all(-1, keepdim=True)
                weights = torch.softmax(scores.masked_fill(empty, 0.0), -1).masked_fill(empty, 0.0)
                heads.append((weights[..., None] * value[:, h]).sum(1))
            rows.append(torch.cat(heads, -1))
        return self.output(torch.stack(rows, 1))


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
        self.pad, self.tied, self.buckets, self.max_distance = pad, tied, buckets, max_distance
        self.d_model = d_model
        self.embedding = nn.Embedding(vocabulary, d_model)  # PyTorch draws it with standard deviation 1
        self.encoder_bias = nn.Embedding(buckets, heads)
        self.decoder_bias = nn.Embedding(buckets, heads)
        self.encoder = T5Encoder(d_model, heads, d_key, d_ff, layers, dropout, gated)
        self.decoder = T5Decoder(d_model, heads, d_key, d_ff, layers, dropout, gated)
        self.dropout = nn.Dropout(dropout)
        if not tied:
            self.head = nn.Linear(d_model, vocabulary, bias=False)
            self.head.weight.data.normal_(0, d_model**-0.5)
        self.encoder_bias.weight.data.normal_(0, d_model**-0.5)
        self.decoder_bias.weight.data.normal_(0, d_model**-0.5)

    def shift_right(self, labels):
        rows = []
        for row in labels.tolist():
            shown = [self.pad, *row[:-1]]
            rows.append([self.pad if token == -100 else token for token in shown])
        return torch.tensor(rows)

    def bias(self, stack, queries, keys, offset=0):
        table = {"encoder": self.encoder_bias, "decoder": self.decoder_bias}[stack].weight
        rows = []
        for t in range(offset, offset + queries):
            relative = torch.tensor([s - t for s in range(keys)])
            bucket = relative_position_bucket(relative, stack == "encoder", self.buckets, self.max_distance)
            rows.append(table[bucket].T)  # (S, H) -> (H, S)
        return torch.stack(rows, dim=1)

    def encode(self, source):
        bias = self.bias("encoder", source.shape[1], source.shape[1])
        masks = [bias.masked_fill(row == self.pad, -math.inf) for row in source]
        return self.encoder(self.dropout(self.embedding(source)), torch.stack(masks))

    def decode(self, target, memory, source, caches=None):
        before = 0 if caches is None else len(caches[0][0])
        T = target.shape[1]
        bias = self.bias("decoder", T, before + T, before)
        later = torch.tensor([[s > before + t for s in range(before + T)] for t in range(T)])
        mask = bias.masked_fill(later, -math.inf)[None]
        memory_mask = torch.stack([row != self.pad for row in source])[:, None, None]
        x = self.decoder(self.dropout(self.embedding(target)), memory, mask, memory_mask, caches)
        if self.tied:
            return torch.einsum("btd,vd->btv", x, self.embedding.weight) / math.sqrt(self.d_model)
        return self.head(x)

    def new_caches(self):
        caches = []
        for _ in range(len(self.decoder.layers)):
            caches.append((KVCache(), KVCache()))
        return caches

    def forward(self, source, labels):
        memory = self.encode(source)
        return self.decode(self.shift_right(labels), memory, source)
