"""By loops over texts and tokens, with lists and plain numbers."""

import math

import torch
from torch import nn

from scratch.attention import causal_mask
from scratch.cache import CachedLayer, KVCache
from scratch.layers import LayerNorm


class GPT(nn.Module):
    def __init__(self, vocabulary, max_length, d_model=128, heads=4, layers=3, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.positions = nn.Embedding(max_length, d_model)
        nn.init.normal_(self.embedding.weight, mean=0.0, std=d_model**-0.5)
        nn.init.normal_(self.positions.weight, mean=0.0, std=d_model**-0.5)
        self.layers = nn.ModuleList()
        for _ in range(layers):
            self.layers.append(CachedLayer(d_model, heads, 4 * d_model, dropout))
        self.norm = LayerNorm(d_model)
        self.drop = nn.Dropout(dropout)
        self.max_length = max_length

    def forward(self, ids, real=None, caches=None):
        seen = 0
        if caches:
            seen = len(caches[0])
        B, T = ids.shape
        if real is None:
            real = torch.ones(B, seen + T, dtype=torch.bool)
        rows, masks = [], []
        for b in range(B):
            places = []
            count = int(real[b, :seen].sum())
            for t in range(T):
                places.append(min(count, self.max_length) if real[b, seen + t] else 0)
                count += bool(real[b, seen + t])
            if count > self.max_length:
                raise ValueError(f"{count} tokens, but only {self.max_length} positions")
            rows.append(self.embedding(ids[b]) + self.positions(torch.tensor(places)))
            masks.append(causal_mask(seen + T)[seen:] & real[b])
        x = self.drop(torch.stack(rows))
        mask = torch.stack(masks)
        for number, layer in enumerate(self.layers):
            x = layer(x, mask, caches[number]) if caches else layer(x, mask)
        return torch.einsum("btd,vd->btv", self.norm(x), self.embedding.weight)


def perplexity(model, batches, ignore_index=-100):
    before = model.training
    model.eval()
    logs = []
    with torch.no_grad():
        for ids, targets in batches:
            log_p = model(ids).double().log_softmax(-1)
            for row, wanted in zip(log_p, targets.tolist(), strict=True):
                logs += [row[t, y].item() for t, y in enumerate(wanted) if y != ignore_index]
    if before:
        model.train()
    if not logs:
        raise ValueError("no targets")
    return math.exp(-sum(logs) / len(logs))


def sample_top_p(logits, uniform, p=0.9, temperature=1.0):
    if not (p > 0 and p <= 1 and temperature > 0):
        raise ValueError("out of range")
    drawn = []
    for row, u in zip(logits.double(), uniform.double().tolist(), strict=True):
        shares = torch.softmax(row / temperature, 0).tolist()
        line = sorted(enumerate(shares), key=lambda pair: -pair[1])
        kept, total = [], 0.0
        for token, share in line:
            kept.append((token, share))
            total += share
            if total >= p:
                break
        running = 0.0
        for token, share in kept:  # noqa: B007 (the token at which it stops)
            running += share
            if running > u * total:
                break
        drawn.append(token)
    return torch.tensor(drawn)


def generate(model, prompt, choose, *, limit, real=None, end=None):
    texts = prompt.tolist()
    known = torch.ones(prompt.shape, dtype=torch.bool).tolist() if real is None else real.tolist()
    caches = []
    for _ in model.layers:
        caches.append(KVCache())
    closed = [False] * len(texts)
    given = prompt
    for _ in range(limit):
        if not all(closed):
            with torch.no_grad():
                logits = model(given, torch.tensor(known), caches)
            tokens = choose(logits[:, -1]).tolist()
        for b in range(len(texts)):
            if closed[b]:
                tokens[b] = end
            texts[b].append(tokens[b])
            known[b].append(True)
            if end is not None and tokens[b] == end:
                closed[b] = True
        given = torch.tensor(tokens)[:, None]
    return torch.tensor(texts)


def beam_search(score, prompt, *, width, limit, end=None, alpha=0.0):
    def rank(entry):
        total, text, _ = entry
        return total / ((5 + len(text)) / 6) ** alpha

    beams = [[(0.0, [], False)] for _ in prompt]
    for _ in range(limit):
        open_texts = [(b, entry) for b, beam in enumerate(beams) for entry in beam if not entry[2]]
        if not open_texts:
            break
        ids = torch.stack(
            [torch.cat([prompt[b], torch.tensor(text, dtype=torch.int64)]) for b, (_, text, _) in open_texts]
        )
        log_p = score(ids).double().log_softmax(-1).tolist()
        grown = [[entry for entry in beam if entry[2]] for beam in beams]
        for (b, (total, text, _)), row in zip(open_texts, log_p, strict=True):
            for token, more in enumerate(row):
                grown[b].append((total + more, [*text, token], token == end))
        beams = [sorted(candidates, key=rank, reverse=True)[:width] for candidates in grown]
    best = [max(beam, key=rank) for beam in beams]
    ids = [
        row + text + [end] * (limit - len(text))
        for row, (_, text, _) in zip(prompt.tolist(), best, strict=True)
    ]
    return torch.tensor(ids), torch.tensor([rank(entry) for entry in best], dtype=torch.float32)
