"""torch.nn.functional, statistics by torch.var_mean, and one expression for each forward."""

import torch
import torch.nn.functional as F
from torch import nn

from scratch.multi_head_attention import MultiHeadAttention


class LayerNorm(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(d_model)), nn.Parameter(torch.zeros(d_model))
        self.eps = eps

    def forward(self, x):
        variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
        return torch.addcmul(self.bias, (x - mean) * torch.rsqrt(variance + self.eps), self.weight)


class FeedForward(nn.Module):
    def __init__(self, d_model, d_ff, activation=F.relu):
        super().__init__()
        self.output = nn.Linear(d_ff, d_model)  # made in another order
        self.hidden = nn.Linear(d_model, d_ff)
        self.bend = activation

    def forward(self, x):
        inner = self.bend(F.linear(x, self.hidden.weight, self.hidden.bias))
        return F.linear(inner, self.output.weight, self.output.bias)


class Residual(nn.Module):
    def __init__(self, d_model, dropout=0.1, norm_first=False):
        super().__init__()
        self.norm = LayerNorm(d_model)
        self.share, self.pre = dropout, norm_first

    def forward(self, x, sublayer):
        before, behind = (self.norm, nn.Identity()) if self.pre else (nn.Identity(), self.norm)
        return behind(F.dropout(sublayer(before(x)), self.share, self.training) + x)


class EncoderLayer(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.1, norm_first=False):
        super().__init__()
        options = {"dropout": dropout, "norm_first": norm_first}
        self.feed_forward_residual = Residual(d_model, **options)
        self.attention_residual = Residual(d_model, **options)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.attention = MultiHeadAttention(d_model, heads)

    def forward(self, x, mask=None):
        def attend(rows):
            return self.attention(rows, rows, mask)

        return self.feed_forward_residual(self.attention_residual(x, attend), self.feed_forward)


class Encoder(nn.Module):
    def __init__(self, d_model, heads, d_ff, layers, dropout=0.1, norm_first=False):
        super().__init__()
        self.layers = nn.ModuleList()
        while len(self.layers) < layers:
            self.layers.append(EncoderLayer(d_model, heads, d_ff, dropout=dropout, norm_first=norm_first))
        self.norm = LayerNorm(d_model) if norm_first else None

    def forward(self, x, mask=None):
        for layer in self.layers:
            x = layer(x, mask=mask)
        return x if self.norm is None else self.norm(x)
