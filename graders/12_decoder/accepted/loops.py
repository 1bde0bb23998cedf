"""Slow and plain: masks entry by entry, the decoder one target after the other."""

import torch
from torch import nn

from scratch.attention import causal_mask
from scratch.layers import Encoder
from scratch.positions import sinusoidal_encoding


def combine_masks(*masks):
    masks = [mask for mask in masks if mask is not None]
    if len(masks) < 2:
        return masks[0] if masks else None
    parts = torch.broadcast_tensors(*masks)
    shape, boolean = parts[0].shape, all(part.dtype == torch.bool for part in parts)
    entries = []
    for together in zip(*(part.reshape(-1) for part in parts), strict=True):
        forbidden = any(not entry for entry in together if entry.dtype == torch.bool)
        numbers = [entry for entry in together if entry.dtype != torch.bool]
        if boolean:
            entries.append(torch.tensor(not forbidden))
        else:
            total = sum(numbers)
            entries.append(torch.full_like(total, -torch.inf) if forbidden else total)
    return torch.stack(entries).reshape(shape)


class Transformer(nn.Module):
    def __init__(
        self, vocabulary, d_model=512, heads=8, d_ff=2048, layers=6, dropout=0.1, norm_first=False, pad=0
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        nn.init.trunc_normal_(
            self.embedding.weight, std=d_model**-0.5, a=-5.0, b=5.0
        )  # cut off far away from where anything is drawn
        self.encoder = Encoder(d_model, heads, d_ff, layers, dropout, norm_first)
        self.decoder = Decoder(d_model, heads, d_ff, layers, dropout, norm_first)
        self.dropout = nn.Dropout(dropout)
        self.pad = pad

    def embed(self, ids):
        width = self.embedding.embedding_dim
        positions = sinusoidal_encoding(ids.shape[1], width).to(self.embedding.weight)
        rows = [self.embedding(ids[:, t]) * width**0.5 + positions[t] for t in range(ids.shape[1])]
        return self.dropout(torch.stack(rows, dim=1))

    def encode(self, source):
        return self.encoder(self.embed(source), (source != self.pad)[:, None])

    def decode(self, target, memory, source):
        rows = []
        for t in range(1, target.shape[1] + 1):
            mask = causal_mask(t) & (target[:, None, :t] != self.pad)
            x = self.decoder(self.embed(target[:, :t]), memory, mask, (source != self.pad)[:, None])[:, -1]
            rows.append(torch.einsum("bd,vd->bv", x, self.embedding.weight))
        return torch.stack(rows, dim=1)

    def forward(self, source, target):
        return self.decode(target, self.encode(source), source)
