"""No packing: the GRU's weights in a loop of one's own, whose state waits at padding; a small network as modules."""

import torch
import torch.nn.functional as F
from torch import nn


def shift_right(target, begin):
    shown = target.roll(1, dims=-1)
    shown[:, 0] = begin
    return shown


def run(x, real, weights, backwards):
    """One direction: the state is frozen wherever there is no token."""
    h = x.new_zeros(len(x), weights[1].shape[1])
    steps = range(x.shape[1])
    states = {}
    for s in reversed(steps) if backwards else steps:
        new = torch.gru_cell(x[:, s], h, *weights)
        h = torch.where(real[:, s, None], new, h)
        states[s] = h
    return torch.stack([states[s] for s in steps], dim=1), h


def encode(model, source):
    x, real = model.source_embedding(source), source != model.pad
    gru = model.encoder
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    ahead, last = run(x, real, [getattr(gru, name) for name in names], backwards=False)
    back, first = run(x, real, [getattr(gru, name + "_reverse") for name in names], backwards=True)
    return torch.cat((ahead, back), dim=2), torch.cat((last, first), dim=1)


class Scorer(nn.Module):
    """v · tanh(q + k), as a module whose last layer borrows v."""

    def __init__(self, v):
        super().__init__()
        self.v = v

    def forward(self, q, k):
        return F.linear((q.unsqueeze(1) + k).tanh(), self.v.unsqueeze(0)).squeeze(-1)


def additive_attention(query, keys, values, mask, v):
    scores = Scorer.forward(type("Borrowed", (), {"v": v}), query, keys)
    bias = torch.zeros_like(scores).masked_fill(mask.logical_not(), -torch.inf)
    weights = F.softmax(scores + bias, dim=1)
    return torch.bmm(weights.unsqueeze(1), values).squeeze(1), weights


def decode_step(model, token, state, memory):
    context, weights = additive_attention(F.linear(state, model.query.weight), *memory, v=model.v)
    x = torch.cat((model.target_embedding(token), context), 1)
    new = torch.gru_cell(x, state, *model.cell.parameters())
    left, right = model.output.weight.split([state.shape[1], context.shape[1]], dim=1)
    return new @ left.T + context @ right.T + model.output.bias, new, weights


def greedy_decode(step, state, begin, *, end, limit, pad=0):
    B = begin.shape[0]
    out = torch.full((B, limit), pad, dtype=torch.long)
    alive = torch.ones(B, dtype=torch.bool)
    token = begin
    for t in range(limit):
        scores, state = step(token, state)
        token = torch.where(alive, scores.argmax(1), torch.full_like(begin, pad))
        out[:, t] = token
        alive = alive & (token != end)
        if not alive.any():
            return out[:, : t + 1]
    return out
