"""With helpers and small classes, positions and masks worked out elsewhere."""

import heapq
import math

import numpy as np
import torch
from torch import nn

from scratch.attention import causal_mask
from scratch.cache import CachedLayer, KVCache
from scratch.layers import LayerNorm


def places_and_mask(real, new):
    """Positions (B, T) of the last ``new`` places, and whom they may attend to (B, T, S)."""
    places = torch.where(real, real.cumsum(-1) - 1, 0)
    permitted = real[:, None, :] * causal_mask(real.shape[-1])
    return places[:, -new:], permitted[:, -new:]


class GPT(nn.Module):
    def __init__(self, vocabulary, max_length, d_model=128, heads=4, layers=3, dropout=0.0):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(vocabulary, d_model), nn.Embedding(max_length, d_model)
        with torch.no_grad():
            self.embedding.weight *= d_model**-0.5
            self.positions.weight *= d_model**-0.5
        self.layers = nn.Sequential(
            *(CachedLayer(d_model, heads, 4 * d_model, dropout) for _ in range(layers))
        )
        self.norm = LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def embed(self, ids, places):
        try:
            return self.dropout(self.embedding(ids) + self.positions(places))
        except IndexError as error:
            raise ValueError("the text is too long") from error

    def forward(self, ids, real=None, caches=None):
        if real is None:
            seen = len(caches[0]) if caches else 0
            real = torch.full((ids.shape[0], seen + ids.shape[1]), True)
        places, mask = places_and_mask(real, ids.shape[1])
        x = self.embed(ids, places)
        for layer, cache in zip(
            self.layers, caches if caches is not None else len(self.layers) * [None], strict=True
        ):
            x = layer(x, mask, cache)
        return torch.matmul(self.norm(x), self.embedding.weight.transpose(0, 1))


class Tally:
    def __init__(self):
        self.total, self.count = 0.0, 0

    def add(self, logits, targets, ignored):
        rows, wanted = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
        rows, wanted = rows[wanted != ignored], wanted[wanted != ignored]
        chosen = rows.gather(1, wanted[:, None])[:, 0]
        self.total += float((rows.logsumexp(1) - chosen).sum())
        self.count += wanted.numel()

    def value(self):
        if not self.count:
            raise ValueError("nothing was counted")
        return float(np.exp(self.total / self.count))


@torch.no_grad()
def perplexity(model, batches, ignore_index=-100):
    mode, tally = model.training, Tally()
    model.train(False)
    try:
        for ids, targets in batches:
            tally.add(model(ids), targets, ignore_index)
    finally:
        model.train(mode)
    return tally.value()


def sample_top_p(logits, uniform, p=0.9, temperature=1.0):
    if min(p, temperature) <= 0 or p > 1:
        raise ValueError(f"p={p}, temperature={temperature}")
    shares = torch.softmax(logits / temperature, -1)
    line, ids = torch.sort(shares, dim=-1, descending=True, stable=True)
    count = 1 + (line.cumsum(-1)[:, :-1] < p).sum(-1)
    out = torch.empty_like(uniform, dtype=torch.int64)
    for b, n in enumerate(count.tolist()):
        sums = line[b, :n].cumsum(0)
        place = torch.searchsorted(sums, uniform[b] * sums[-1], right=True)
        out[b] = ids[b, min(int(place), n - 1)]
    return out


class Pen:
    """Writes with a model, and remembers where it is."""

    def __init__(self, model, real):
        self.model, self.real = model, real
        self.caches = [KVCache() for _ in model.layers]

    @torch.no_grad()
    def read(self, ids):
        if self.real.shape[1] < len(self.caches[0]) + ids.shape[1]:
            self.real = torch.nn.functional.pad(self.real, (0, ids.shape[1]), value=True)
        return self.model(ids, self.real, self.caches).select(1, -1)


def generate(model, prompt, choose, *, limit, real=None, end=None):
    pen = Pen(model, torch.ones_like(prompt).bool() if real is None else real.clone())
    columns, last = [prompt], prompt
    alive = torch.ones(len(prompt)).bool()
    while len(columns) <= limit and alive.any():
        last = choose(pen.read(last)).view(-1, 1)
        if end is not None:
            last = torch.where(alive[:, None], last, end)
            alive = alive & (last[:, 0] != end)
        columns.append(last)
    rest = limit + 1 - len(columns)
    if rest:
        columns.append(torch.full((len(prompt), rest), end))
    return torch.hstack(columns)


class Text:
    def __init__(self, ids, written=0, log_p=0.0, closed=False):
        self.ids, self.written, self.log_p, self.closed = ids, written, log_p, closed

    def score(self, alpha):
        return self.log_p / math.pow((5 + self.written) / 6, alpha)

    def grow(self, row, end):
        for token, more in enumerate(row):
            yield Text([*self.ids, token], self.written + 1, self.log_p + more, token == end)


def beam_search(score, prompt, *, width, limit, end=None, alpha=0.0):
    ids, scores = [], []
    for row in prompt.tolist():  # one prompt after the other
        beam = [Text(row)]
        for _ in range(limit):
            alive = [text for text in beam if not text.closed]
            if not alive:
                break
            table = torch.log_softmax(score(torch.tensor([text.ids for text in alive])), -1).tolist()
            grown = [text for text in beam if text.closed]
            for text, more in zip(alive, table, strict=True):
                grown.extend(text.grow(more, end))
            beam = heapq.nlargest(width, grown, key=lambda text: text.score(alpha))
        best = beam[0]
        ids.append(best.ids + [end] * (len(row) + limit - len(best.ids)))
        scores.append(best.score(alpha))
    return torch.tensor(ids), torch.tensor(scores, dtype=torch.float)
