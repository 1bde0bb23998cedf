"""Another layout: einsum, layers copied from one, and everything composed of functions."""

import copy
from functools import partial, reduce

import torch
from torch import einsum, nn

from scratch.multi_head_attention import MultiHeadAttention


class LayerNorm(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.register_parameter("bias", nn.Parameter(torch.zeros(d_model)))
        self.register_parameter("weight", nn.Parameter(torch.ones(d_model)))
        self.register_buffer("centring", torch.eye(d_model) - 1 / d_model, persistent=False)
        self.eps = eps

    def forward(self, x):
        deviation = einsum("...d,ed->...e", x, self.centring)  # a mean taken away is a projection
        variance = einsum("...d,...d->...", deviation, deviation)[..., None] / x.shape[-1]
        return self.bias + self.weight * deviation * (variance + self.eps).pow(-0.5)


class FeedForward(nn.Module):
    def __init__(self, d_model, d_ff, activation=torch.relu):
        super().__init__()
        self.hidden, self.output = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)
        for layer in (self.hidden, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.steps = [self.hidden, activation, self.output]

    def forward(self, x):
        return reduce(lambda rows, step: step(rows), self.steps, x)


class Residual(nn.Module):
    def __init__(self, d_model, dropout=0.1, norm_first=False):
        super().__init__()
        self.norm = LayerNorm(d_model)
        self.drop = nn.Dropout(dropout)
        self.way = self.pre if norm_first else self.post

    def pre(self, x, f):
        return torch.add(x, self.drop(f(self.norm(x))))

    def post(self, x, f):
        return self.norm(torch.stack([x, self.drop(f(x))]).sum(0))

    def forward(self, x, sublayer):
        return self.way(x, sublayer)


class EncoderLayer(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.1, norm_first=False):
        super().__init__()
        residual = partial(Residual, d_model, dropout, norm_first)
        self.attention, self.attention_residual = MultiHeadAttention(d_model, heads), residual()
        self.feed_forward, self.feed_forward_residual = FeedForward(d_model, d_ff), residual()

    def forward(self, x, mask=None):
        steps = [
            (self.attention_residual, partial(self.attention, mask=mask)),
            (self.feed_forward_residual, self.feed_forward.forward),
        ]
        for residual, sublayer in steps:
            x = residual(x, sublayer)
        return x


class Encoder(nn.Module):
    def __init__(self, d_model, heads, d_ff, layers, dropout=0.1, norm_first=False):
        super().__init__()
        one = EncoderLayer(d_model, heads, d_ff, dropout, norm_first)
        # Copies own their weights; that they start alike, as in nn.TransformerEncoder, is not ideal and not wrong.
        self.layers = nn.ModuleList([one, *(self.fresh(one) for _ in range(layers - 1))])
        self.norm = LayerNorm(d_model) if norm_first else nn.Sequential()

    def fresh(self, layer):
        twin = copy.deepcopy(layer)
        for residual in (twin.attention_residual, twin.feed_forward_residual):
            residual.way = residual.pre if residual.way.__name__ == "pre" else residual.post
        twin.feed_forward.steps[::2] = [twin.feed_forward.hidden, twin.feed_forward.output]
        return twin

    def forward(self, x, mask=None):
        return self.norm(reduce(lambda rows, layer: layer(rows, mask), self.layers, x))
