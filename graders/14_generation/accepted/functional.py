"""As one writes it with PyTorch at hand: one-liners, functional calls, another layout of the model."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from scratch.cache import CachedLayer, KVCache
from scratch.layers import LayerNorm


class GPT(nn.Module):
    def __init__(self, vocabulary, max_length, d_model=128, heads=4, layers=3, dropout=0.0):
        super().__init__()
        self.layers = nn.ModuleList(
            [CachedLayer(d_model, heads, d_model * 4, dropout) for _ in range(layers)]
        )
        self.norm = LayerNorm(d_model)
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.positions = nn.Embedding(max_length, d_model)
        self.embedding.weight.data.normal_(0, d_model**-0.5)
        self.positions.weight.data.normal_(0, d_model**-0.5)
        self.p = dropout

    def forward(self, ids, real=None, caches=None):
        B, T = ids.shape
        S = T + (len(caches[0]) if caches is not None else 0)
        if real is None:
            real = ids.new_ones((B, S), dtype=torch.bool)
        if real.sum(-1).max() > self.positions.num_embeddings:
            raise ValueError("too long")
        place = (real.long().cumsum(1) - 1).clamp_min(0)[:, -T:]
        x = F.embedding(ids, self.embedding.weight) + F.embedding(place, self.positions.weight)
        x = F.dropout(x, self.p, self.training)
        new, old = torch.arange(S - T, S), torch.arange(S)
        mask = real.unsqueeze(1) & (old[None] <= new[:, None])
        for i, layer in enumerate(self.layers):
            x = layer(x, mask, None if caches is None else caches[i])
        return F.linear(self.norm(x), self.embedding.weight)


@torch.inference_mode()
def perplexity(model, batches, ignore_index=-100):
    was = model.training
    model.eval()
    surprises = [
        F.cross_entropy(model(ids).transpose(1, 2), y, ignore_index=ignore_index, reduction="none")[
            y != ignore_index
        ]
        for ids, y in batches
    ]
    model.train(was)
    if not sum(map(len, surprises)):
        raise ValueError("nothing to average over")
    return torch.cat(surprises).mean().exp().item()


def sample_top_p(logits, uniform, p=0.9, temperature=1.0):
    if p <= 0 or p > 1:
        raise ValueError("p")
    if temperature <= 0:
        raise ValueError("temperature")
    shares = F.softmax(logits / temperature, dim=-1)
    order = shares.argsort(dim=-1, descending=True, stable=True)
    line = shares.gather(-1, order)
    sums = line.cumsum(-1)
    drop = torch.zeros_like(line, dtype=torch.bool)
    drop[:, 1:] = sums[:, :-1] >= p
    line = torch.where(drop, torch.zeros_like(line), line)
    line = line / line.sum(-1, keepdim=True)
    above = line.cumsum(-1) > uniform.unsqueeze(-1)
    return order[torch.arange(len(order)), above.float().argmax(-1)]


def generate(model, prompt, choose, *, limit, real=None, end=None):
    B, T = prompt.shape
    out = torch.full((B, T + limit), 0 if end is None else end, dtype=prompt.dtype)
    out[:, :T] = prompt
    mask = torch.ones(B, T + limit, dtype=torch.bool)
    if real is not None:
        mask[:, :T] = real
    open_rows = torch.ones(B, dtype=torch.bool)
    caches = [KVCache() for _ in range(len(model.layers))]
    with torch.no_grad():
        for t in range(T, T + limit):
            start = 0 if t == T else t - 1
            token = choose(model(out[:, start:t], mask[:, :t], caches)[:, -1, :])
            out[open_rows, t] = token[open_rows]
            if end is not None:
                open_rows &= token != end
                if not open_rows.any():
                    break
    return out


def beam_search(score, prompt, *, width, limit, end=None, alpha=0.0):
    B, T = prompt.shape
    ids = prompt.repeat_interleave(width, 0)
    total = torch.full((B, width), -math.inf)
    total[:, 0] = 0.0
    lengths = torch.zeros(B, width)
    done = torch.zeros(B, width, dtype=torch.bool)
    best = torch.zeros(B, width)
    for _ in range(limit):
        if bool(done.all()):
            break
        logp = F.log_softmax(score(ids), -1).view(B, width, -1)
        V = logp.size(-1)
        if end is not None:
            logp = logp.masked_fill(done.unsqueeze(-1), -math.inf)
            logp[..., end] = logp[..., end].masked_fill(done, 0.0)
        lengths = lengths + (~done).float()
        sums = (total.unsqueeze(-1) + logp).view(B, -1)
        penalty = ((5 + lengths) / 6).pow(alpha).repeat_interleave(V, 1)
        best, top = (sums / penalty).topk(width, dim=1)
        total = sums.gather(1, top)
        which, token = torch.div(top, V, rounding_mode="floor"), top.remainder(V)
        flat = (which + width * torch.arange(B).unsqueeze(1)).view(-1)
        ids = torch.cat([ids[flat], token.view(-1, 1)], 1)
        done, lengths = done.gather(1, which), lengths.gather(1, which)
        if end is not None:
            done = done | token.eq(end)
    ids = ids.view(B, width, -1)[:, 0]
    if ids.size(1) < T + limit:
        ids = F.pad(ids, (0, T + limit - ids.size(1)), value=end)
    return ids, best[:, 0]
