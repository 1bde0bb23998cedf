"""Everything written out: every branch, every sum and norm, every number of the budget."""

import math

import torch
from torch import nn

from scratch.attention import causal_mask
from scratch.layers import Encoder, FeedForward, LayerNorm, Residual
from scratch.multi_head_attention import MultiHeadAttention
from scratch.positions import sinusoidal_encoding


def combine_masks(*masks):
    result = None
    for mask in masks:
        if result is None:
            result = mask
        elif mask is None:
            pass
        elif result.dtype == torch.bool and mask.dtype == torch.bool:
            result = torch.logical_and(result, mask)
        else:
            terms = []
            for part in (result, mask):
                if part.dtype == torch.bool:
                    zeros = torch.zeros_like(part, dtype=torch.float32)
                    part = zeros.masked_fill(part.logical_not(), float("-inf"))
                terms.append(part)
            result = terms[0] + terms[1]
    return result


class DecoderLayer(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.1, norm_first=False):
        super().__init__()
        self.norm_first = norm_first
        self.self_attention = MultiHeadAttention(d_model, heads)
        self.self_attention_residual = Residual(d_model, dropout, norm_first)
        self.cross_attention = MultiHeadAttention(d_model, heads)
        self.cross_attention_residual = Residual(d_model, dropout, norm_first)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.feed_forward_residual = Residual(d_model, dropout, norm_first)

    def forward(self, x, memory, mask=None, memory_mask=None):
        norm1, drop1 = self.self_attention_residual.norm, self.self_attention_residual.dropout
        norm2, drop2 = self.cross_attention_residual.norm, self.cross_attention_residual.dropout
        norm3, drop3 = self.feed_forward_residual.norm, self.feed_forward_residual.dropout
        if self.norm_first:
            x = x + drop1(self.self_attention(norm1(x), None, mask))
            x = x + drop2(self.cross_attention(norm2(x), memory, memory_mask))
            return x + drop3(self.feed_forward(norm3(x)))
        x = norm1(x + drop1(self.self_attention(x, x, mask)))
        x = norm2(x + drop2(self.cross_attention(x, memory, memory_mask)))
        return norm3(x + drop3(self.feed_forward(x)))


class Decoder(nn.Module):
    def __init__(self, d_model, heads, d_ff, layers, dropout=0.1, norm_first=False):
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(layers):
            self.layers.append(DecoderLayer(d_model, heads, d_ff, dropout=dropout, norm_first=norm_first))
        self.norm = None
        if norm_first:
            self.norm = LayerNorm(d_model)

    def forward(self, x, memory, mask=None, memory_mask=None):
        for i in range(len(self.layers)):
            x = self.layers[i](x, memory, mask=mask, memory_mask=memory_mask)
        if self.norm is not None:
            x = self.norm(x)
        return x


class Transformer(nn.Module):
    def __init__(
        self, vocabulary, d_model=512, heads=8, d_ff=2048, layers=6, dropout=0.1, norm_first=False, pad=0
    ):
        super().__init__()
        self.d_model = d_model
        self.pad = pad
        self.embedding = nn.Embedding(vocabulary, d_model, padding_idx=pad)
        with torch.no_grad():
            self.embedding.weight.normal_(mean=0.0, std=1 / math.sqrt(d_model))
        self.encoder = Encoder(d_model, heads, d_ff, layers, dropout=dropout, norm_first=norm_first)
        self.decoder = Decoder(d_model, heads, d_ff, layers, dropout=dropout, norm_first=norm_first)
        self.embedding_dropout = nn.Dropout(p=dropout)

    def embed(self, ids):
        x = self.embedding(ids)
        x = x * math.sqrt(self.d_model)
        positions = sinusoidal_encoding(ids.shape[1], self.d_model).to(x.dtype)
        x = x + positions.unsqueeze(0)
        return self.embedding_dropout(x)

    def encode(self, source):
        mask = source.ne(self.pad).unsqueeze(1)
        return self.encoder(self.embed(source), mask)

    def decode(self, target, memory, source):
        causal = causal_mask(target.shape[1]).unsqueeze(0)
        mask = target.ne(self.pad).unsqueeze(1) & causal
        memory_mask = source.ne(self.pad).unsqueeze(1)
        x = self.decoder(self.embed(target), memory, mask=mask, memory_mask=memory_mask)
        return torch.matmul(x, self.embedding.weight.transpose(0, 1))

    def forward(self, source, target):
        memory = self.encode(source)
        return self.decode(target, memory, source)


def parameter_budget(vocabulary, d_model, d_ff, layers, norm_first=False):
    query = d_model * d_model + d_model
    key = d_model * d_model + d_model
    value = d_model * d_model + d_model
    output = d_model * d_model + d_model
    one_attention = query + key + value + output
    hidden = d_model * d_ff + d_ff
    narrow = d_ff * d_model + d_model
    norm = d_model + d_model
    budget = {}
    budget["embedding"] = vocabulary * d_model
    budget["encoder attention"] = layers * one_attention
    budget["encoder feed-forward"] = layers * (hidden + narrow)
    budget["decoder self-attention"] = layers * one_attention
    budget["decoder cross-attention"] = layers * one_attention
    budget["decoder feed-forward"] = layers * (hidden + narrow)
    budget["norms"] = layers * 2 * norm + layers * 3 * norm
    if norm_first:
        budget["norms"] += 2 * norm
    return budget
