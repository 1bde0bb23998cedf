"""With einsum, searchsorted, a table of borders, and masks that stay boolean as long as they can."""

import math
from itertools import chain

import torch
from torch import nn

from scratch.attention import attention_weights, causal_mask
from scratch.cache import KVCache
from scratch.transformer import combine_masks


def span_corruption(ids, spans, first_sentinel):
    spans = sorted(spans)
    names = range(first_sentinel, first_sentinel - len(spans) - 1, -1)
    if any(token in names for token in ids):
        raise ValueError("a sentinel in the text")
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    fits = all(0 <= s < e <= len(ids) for s, e in spans)
    if not fits or any(end > start for end, start in zip(ends, starts[1:], strict=False)):
        raise ValueError("no such spans")
    gaps = zip([0, *ends], [*starts, len(ids)], strict=True)
    kept = [list(ids[a:b]) for a, b in gaps]
    source = [*chain.from_iterable([*k, n] for k, n in zip(kept, names, strict=True))][:-1]
    taken = chain.from_iterable([n, *ids[s:e]] for n, (s, e) in zip(names, spans, strict=False))
    return source, [*taken, names[-1]]


def restore_spans(source, target, first_sentinel):
    target = list(target)
    count = 0
    where = []
    while first_sentinel - count in target[where[-1] if where else 0 :]:
        where.append(target.index(first_sentinel - count, where[-1] if where else 0))
        count += 1
    if not where or where[0] > 0 or where[-1] + 1 < len(target):
        raise ValueError("the target does not fit")
    text, done = [], 0
    source = list(source)
    for i in range(count - 1):
        try:
            place = source.index(first_sentinel - i, done)
        except ValueError:
            raise ValueError(f"no gap {i}") from None
        text += source[done:place] + target[where[i] + 1 : where[i + 1]]
        done = place + 1
    text += source[done:]
    names = {first_sentinel - i for i in range(count)}
    if sum(token in names for token in source) != count - 1:
        raise ValueError("gaps left over")
    return text


def relative_position_bucket(relative, bidirectional=True, buckets=32, max_distance=128):
    n = buckets // (1 + bidirectional)
    d = relative.abs() if bidirectional else relative.neg().clamp_min(0)
    e = n // 2
    steps = torch.arange(1, n - e, dtype=torch.float64)
    borders = e * torch.exp(steps / (n - e) * math.log(max_distance / e))
    far = e + torch.searchsorted(borders, d.double() + 1e-9, right=True)
    found = torch.where(d < e, d, far)
    return found + n * (relative > 0) if bidirectional else found


class RMSNorm(nn.Module):
    def __init__(self, d_model, eps=1e-6):
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.full((d_model,), 1.0)))
        self.eps = eps

    def forward(self, x):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        square = torch.einsum("...d,...d->...", wide, wide).unsqueeze(-1) / x.shape[-1]
        return (wide * (square + self.eps).pow(-0.5) * self.weight).type_as(x)


class T5Attention(nn.Module):
    def __init__(self, d_model, heads, d_key):
        super().__init__()
        self.shape = (heads, d_key)
        spread = {"query": d_model * d_key, "key": d_model, "value": d_model}
        for name, size in spread.items():
            part = nn.Linear(d_model, heads * d_key, bias=False)
            nn.init.normal_(part.weight, 0.0, 1 / math.sqrt(size))
            self.add_module(name, part)
        self.output = nn.Linear(heads * d_key, d_model, bias=False)
        nn.init.normal_(self.output.weight, 0.0, 1 / math.sqrt(heads * d_key))

    def forward(self, x, memory=None, mask=None, cache=None):
        q = self.query(x).unflatten(-1, self.shape)  # (B, T, H, K)
        known = memory is not None and cache is not None and len(cache) > 0
        if known:
            k, v = cache.key, cache.value
        else:
            rows = x if memory is None else memory
            k, v = (part(rows).unflatten(-1, self.shape).transpose(1, 2) for part in (self.key, self.value))
            k, v = (k, v) if cache is None else cache.append(k, v)
        scores = torch.einsum("bthk,bhsk->bhts", q, k)
        found = torch.einsum("bhts,bhsk->bthk", attention_weights(scores, mask), v)
        return self.output(found.flatten(-2))


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
        sizes = (d_model, heads, d_key, d_ff, layers, dropout, gated)
        self.encoder, self.decoder = T5Encoder(*sizes), T5Decoder(*sizes)
        self.embedding = nn.Embedding(vocabulary, d_model, padding_idx=None)
        self.encoder_bias, self.decoder_bias = (nn.Embedding(buckets, heads) for _ in range(2))
        self.head = nn.Identity() if tied else nn.Linear(d_model, vocabulary, bias=False)
        self.drop = nn.Dropout(dropout)
        for part in (self.encoder_bias, self.decoder_bias, *([] if tied else [self.head])):
            nn.init.normal_(part.weight, std=1 / math.sqrt(d_model))
        self.tied, self.buckets, self.max_distance, self.pad = tied, buckets, max_distance, pad
        self.register_buffer("start", torch.tensor(pad), persistent=False)

    def shift_right(self, labels):
        known = torch.where(labels == -100, self.pad, labels)
        shown = known.roll(1, dims=1)
        shown[:, 0] = self.start
        return shown

    def bias(self, stack, queries, keys, offset=0):
        table = (self.encoder_bias if stack == "encoder" else self.decoder_bias).weight
        s, t = torch.arange(keys), torch.arange(queries) + offset
        relative = s[None] - t[:, None]
        bucket = relative_position_bucket(relative, stack == "encoder", self.buckets, self.max_distance)
        return torch.stack([column[bucket] for column in table.unbind(1)])

    def encode(self, source):
        size = source.size(1)
        real = source.ne(self.pad).view(-1, 1, 1, size)
        x = self.drop(self.embedding(source))
        return self.encoder(x, combine_masks(real, self.bias("encoder", size, size)[None]))

    def decode(self, target, memory, source, caches=None):
        shown = 0 if not caches else len(caches[0][0])
        end = shown + target.size(1)
        whole = combine_masks(causal_mask(end), self.bias("decoder", end, end))
        real = source.ne(self.pad).view(len(source), 1, 1, -1)
        x = self.drop(self.embedding(target))
        x = self.decoder(x, memory, whole[None, :, shown:], real, caches)
        if self.tied:
            return torch.einsum("btd,vd->btv", x, self.embedding.weight * x.size(-1) ** -0.5)
        return self.head(x)

    def new_caches(self):
        return [tuple(KVCache() for _ in range(2)) for _ in self.decoder.layers]

    def forward(self, source, labels):
        return self.decode(self.shift_right(labels), self.encode(source), source)
