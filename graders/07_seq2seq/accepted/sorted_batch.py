"""Before `enforce_sorted=False`: sort, pack, unpack, and put back in order; einsum; write all, then cut."""

import torch
from torch import nn
from torch.nn.utils import rnn


def shift_right(target, begin):
    shown = torch.empty_like(target)
    shown[:, 0] = begin
    shown[:, 1:] = target[:, :-1]
    return shown


def encode(model, source):
    lengths = source.ne(model.pad).sum(-1)
    sorted_lengths, order = lengths.sort(descending=True)
    back = order.argsort()
    packed = rnn.pack_padded_sequence(
        model.source_embedding(source[order]), sorted_lengths.tolist(), batch_first=True
    )
    output, h_n = model.encoder(packed)
    states, _ = rnn.pad_packed_sequence(output, batch_first=True, padding_value=7.0)
    missing = source.shape[1] - states.shape[1]
    states = nn.functional.pad(states, (0, 0, 0, missing))
    summary = h_n.permute(1, 0, 2).flatten(1)
    return states[back], summary[back]


def additive_attention(query, keys, values, mask, v):
    hidden = torch.tanh(query.unsqueeze(-2) + keys)
    scores = torch.einsum("bsk,k->bs", hidden, v)
    scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
    shifted = (scores - scores.max(dim=-1, keepdim=True).values.detach()).exp()
    weights = shifted / shifted.sum(dim=-1, keepdim=True)
    return torch.einsum("bs,bsm->bm", weights, values), weights


def decode_step(model, token, state, memory):
    attend = additive_attention(model.query(state), memory[0], memory[1], memory[2], model.v)
    state = model.cell(input=torch.cat([model.target_embedding(token), attend[0]], -1), hx=state)
    return model.output(torch.cat([state, attend[0]], -1)), state, attend[1]


@torch.no_grad()
def greedy_decode(step, state, begin, *, end, limit, pad=0):
    written = begin[:, None]
    while written.shape[1] <= limit:
        logits, state = step(written[:, -1], state)
        written = torch.cat([written, logits.argmax(-1, keepdim=True)], dim=1)
        if (written[:, 1:] == end).any(dim=1).all():
            break
    written = written[:, 1:]
    ended_before = (written == end).cumsum(dim=1) - (written == end).long() > 0
    return written.masked_fill(ended_before, pad)
