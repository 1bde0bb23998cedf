"""Someone who thinks step by step, row by row, prints on the way, and keeps everything in one place."""

import math

import torch
from torch import nn

from scratch.multi_head_attention import MultiHeadAttention


class LayerNorm(nn.Module):
    def __init__(self, d_model, eps=0.00001):
        super(LayerNorm, self).__init__()  # noqa: UP008 - as many learn it
        self.d_model = d_model
        self.eps = eps
        self.weight = nn.Parameter(torch.Tensor([1.0] * d_model))
        self.bias = nn.Parameter(torch.Tensor([0.0] * d_model))

    def forward(self, x):
        rows = x.reshape(-1, self.d_model)
        outputs = []
        for row in rows:
            mean = row.sum() / self.d_model
            total = 0.0
            for value in row:
                total = total + (value - mean) ** 2
            variance = total / self.d_model
            outputs.append((row - mean) / (variance + self.eps) ** 0.5)
        return torch.stack(outputs).reshape(x.shape) * self.weight + self.bias


class FeedForward(nn.Module):
    def __init__(self, d_model, d_ff, activation=None):
        super().__init__()
        self.hidden = nn.Linear(in_features=d_model, out_features=d_ff, bias=True)
        self.output = nn.Linear(in_features=d_ff, out_features=d_model, bias=True)
        self.activation = nn.ReLU() if activation is None else activation

    def forward(self, x):
        x = self.hidden(x)
        print("inner rows", x.shape)
        x = self.activation(x)
        x = self.output(x)
        return x


class Residual(nn.Module):
    def __init__(self, d_model, dropout=0.1, norm_first=False):
        super().__init__()
        self.norm = LayerNorm(d_model)
        self.dropout = dropout
        self.norm_first = norm_first

    def drop(self, found):
        if not self.training:
            return found
        keep = torch.rand(found.shape) >= self.dropout
        return torch.where(keep, found, torch.zeros_like(found)) / (1 - self.dropout)

    def forward(self, x, sublayer):
        residual = x
        if self.norm_first:
            x = self.norm(x)
            x = sublayer(x)
            x = self.drop(x)
            x = residual + x
        else:
            x = sublayer(x)
            x = self.drop(x)
            x = residual + x
            x = self.norm(x)
        return x


class EncoderLayer(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.1, norm_first=False):
        super().__init__()
        self.d_model = d_model
        self.root = math.sqrt(d_model)  # never needed
        self.attention = MultiHeadAttention(d_model=d_model, heads=heads)
        self.feed_forward = FeedForward(d_model=d_model, d_ff=d_ff)
        self.attention_residual = Residual(d_model=d_model, dropout=dropout, norm_first=norm_first)
        self.feed_forward_residual = Residual(d_model=d_model, dropout=dropout, norm_first=norm_first)
        self.mask = None

    def attend(self, x):
        return self.attention(x, mask=self.mask)

    def forward(self, x, mask=None):
        self.mask = mask  # where `attend` finds it
        x = self.attention_residual(x, self.attend)
        x = self.feed_forward_residual(x, lambda x: self.feed_forward(x))
        assert x.shape[-1] == self.d_model
        return x


class Encoder(nn.Module):
    def __init__(self, d_model, heads, d_ff, layers, dropout=0.1, norm_first=False):
        super().__init__()
        made = []
        for _ in range(layers):
            layer = EncoderLayer(d_model, heads, d_ff, dropout, norm_first)
            made.append(layer)
        self.layers = nn.ModuleList(made)
        self.norm_first = norm_first
        if norm_first:
            self.norm = LayerNorm(d_model)
        else:
            self.norm = nn.Identity()

    def forward(self, x, mask=None):
        for i in range(len(self.layers)):
            x = self.layers[i](x, mask)
        if self.norm_first:
            x = self.norm(x)
        return x
