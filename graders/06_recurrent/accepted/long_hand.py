"""Someone who writes every step out: slices for the gates, each sequence by itself, a while loop over the chunks."""

import torch
import torch.nn.functional as F


def rnn_cell(x, h, w_ih, w_hh, b_ih, b_hh):
    from_x = F.linear(x, w_ih, b_ih)
    from_h = F.linear(h, w_hh, b_hh)
    new = from_x + from_h
    print("the state before tanh has shape", tuple(new.shape))
    return F.tanh(new)


def lstm_cell(x, state, w_ih, w_hh, b_ih, b_hh):
    h = state[0]
    c = state[1]
    H = h.shape[1]

    def gate(k):
        rows = slice(k * H, (k + 1) * H)
        return F.linear(x, w_ih[rows], b_ih[rows]) + F.linear(h, w_hh[rows], b_hh[rows])

    input_gate = torch.sigmoid(gate(0))
    forget_gate = torch.sigmoid(gate(1))
    candidate = torch.tanh(gate(2))
    output_gate = torch.sigmoid(gate(3))
    new_c = forget_gate * c + input_gate * candidate
    new_h = output_gate * torch.tanh(new_c)
    return [new_h, new_c]


def gru_cell(x, h, w_ih, w_hh, b_ih, b_hh):
    H = w_hh.shape[1]
    w_ir, w_iz, w_in = w_ih[:H], w_ih[H : 2 * H], w_ih[2 * H :]
    w_hr, w_hz, w_hn = w_hh[:H], w_hh[H : 2 * H], w_hh[2 * H :]
    b_ir, b_iz, b_in = b_ih[:H], b_ih[H : 2 * H], b_ih[2 * H :]
    b_hr, b_hz, b_hn = b_hh[:H], b_hh[H : 2 * H], b_hh[2 * H :]
    r = torch.sigmoid(x @ w_ir.T + b_ir + h @ w_hr.T + b_hr)
    z = torch.sigmoid(x @ w_iz.T + b_iz + h @ w_hz.T + b_hz)
    n = torch.tanh(x @ w_in.T + b_in + r * (h @ w_hn.T + b_hn))
    return n + z * (h - n)


def run_masked(cell, x, lengths, state, reverse=False):
    B, T = x.shape[0], x.shape[1]
    single = not isinstance(state, tuple)
    rows, ends = [], []
    for b in range(B):
        now = state[b : b + 1] if single else tuple(part[b : b + 1] for part in state)
        h = now if single else now[0]
        row = [torch.zeros_like(h)] * T
        steps = list(range(int(lengths[b])))
        if reverse:
            steps = steps[::-1]
        for t in steps:
            now = cell(x[b : b + 1, t], now)
            row[t] = now if single else now[0]
        rows.append(torch.cat(row))
        ends.append(now)
    outputs = torch.stack(rows)
    if single:
        return outputs, torch.cat(ends)
    return outputs, tuple(torch.cat([end[i] for end in ends]) for i in range(len(state)))


def truncated_bptt(model, loss_of, inputs, targets, state, optimizer, *, chunk, max_norm=None):
    losses = []
    start = 0
    T = inputs.size(1)
    while start < T:
        end = min(start + chunk, T)
        if isinstance(state, tuple):
            h, c = state
            state = (h.detach(), c.detach())
        else:
            state = state.detach()
        x = inputs[:, start:end]
        y = targets[:, start:end]
        optimizer.zero_grad()
        out, state = model(x, state)
        loss = loss_of(out, y)
        loss.backward()
        if max_norm:
            length = clip_grad_norm(optimizer.parameters, max_norm)
            print("gradient length", length)
        optimizer.step()
        losses.append(float(loss))
        start = end
    if isinstance(state, tuple):
        return losses, (state[0].detach(), state[1].detach())
    return losses, state.detach()
