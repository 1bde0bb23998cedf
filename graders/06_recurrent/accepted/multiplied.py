"""Someone who multiplies by masks, writes the sigmoid as a tanh, and asks for gradients by themselves."""

import torch


def squash(x):
    return 0.5 * (1 + torch.tanh(0.5 * x))


def rnn_cell(x, h, w_ih, w_hh, b_ih, b_hh):
    return (torch.einsum("bd,hd->bh", x, w_ih) + torch.einsum("bk,hk->bh", h, w_hh) + (b_ih + b_hh)).tanh()


def lstm_cell(x, state, w_ih, w_hh, b_ih, b_hh):
    (h, c), H = state, len(b_ih) // 4
    sums = torch.einsum("bd,gd->bg", x, w_ih) + torch.einsum("bh,gh->bg", h, w_hh) + b_ih + b_hh
    blocks = sums.view(-1, 4, H)
    gates = squash(blocks)
    c = gates[:, 1] * c + gates[:, 0] * blocks[:, 2].tanh()
    return gates[:, 3] * c.tanh(), c


def gru_cell(x, h, w_ih, w_hh, b_ih, b_hh):
    H = h.size(-1)
    one = (x @ w_ih.mT + b_ih).unflatten(-1, (3, H))
    two = (h @ w_hh.mT + b_hh).unflatten(-1, (3, H))
    gates = squash(one[:, :2] + two[:, :2])
    candidate = torch.tanh(one[:, 2] + gates[:, 0] * two[:, 2])
    return torch.lerp(candidate, h, gates[:, 1])


def run_masked(cell, x, lengths, state, reverse=False):
    T = x.size(1)
    real = (torch.arange(T)[None, :] < lengths[:, None]).to(x.dtype)
    times = range(T - 1, -1, -1) if reverse else range(T)
    outputs = None
    for t in times:
        m = real[:, t : t + 1]
        new = cell(x[:, t, :], state)
        if type(state) is tuple:
            state = tuple([m * n + (1 - m) * s for n, s in zip(new, state, strict=True)])
            h = state[0]
        else:
            state = h = m * new + (1 - m) * state
        step = (m * h).unsqueeze(1)
        if outputs is None:
            outputs = step
        elif reverse:
            outputs = torch.cat([step, outputs], dim=1)
        else:
            outputs = torch.cat([outputs, step], dim=1)
    return outputs, state


def truncated_bptt(model, loss_of, inputs, targets, state, optimizer, *, chunk, max_norm=None):
    losses = []
    for x, y in zip(torch.split(inputs, chunk, dim=1), torch.split(targets, chunk, dim=1), strict=True):
        out, state = model(x, state)
        loss = loss_of(out, y)
        grads = torch.autograd.grad(loss, optimizer.parameters)
        for p, g in zip(optimizer.parameters, grads, strict=True):
            p.grad = g
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(optimizer.parameters, max_norm)
        optimizer.step()
        losses += [loss.detach().numpy().item()]
        with torch.no_grad():
            state = tuple(s.clone() for s in state) if isinstance(state, tuple) else state.clone()
    optimizer.zero_grad()
    return losses, state
