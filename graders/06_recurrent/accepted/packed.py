"""Someone who joins x and h into one input, runs only the sequences that are still going, and nests functions."""

import torch
from torch.utils import _pytree as trees


def joined(x, h, w_ih, w_hh, bias):
    return torch.addmm(bias, torch.cat([x, h], dim=1), torch.cat([w_ih, w_hh], dim=1).t())


def rnn_cell(x, h, w_ih, w_hh, b_ih, b_hh):
    return joined(x, h, w_ih, w_hh, b_ih + b_hh).tanh()


def lstm_cell(x, state, w_ih, w_hh, b_ih, b_hh):
    h, c = state
    i, f, g, o = torch.tensor_split(joined(x, h, w_ih, w_hh, b_ih + b_hh), 4, dim=1)
    c = torch.addcmul(f.sigmoid() * c, i.sigmoid(), g.tanh())
    h = o.sigmoid() * c.tanh()
    return h, c


def gru_cell(x, h, w_ih, w_hh, b_ih, b_hh):
    H = h.shape[1]
    rz = joined(x, h, w_ih[: 2 * H], w_hh[: 2 * H], b_ih[: 2 * H] + b_hh[: 2 * H])
    r, z = torch.sigmoid(rz).split(H, dim=1)
    hidden = torch.addmm(b_hh[-H:], h, w_hh[-H:].t())
    n = torch.tanh(torch.addmm(b_ih[-H:], x, w_ih[-H:].t()) + r * hidden)
    return n - n * z + h * z


def run_masked(cell, x, lengths, state, reverse=False):
    single = isinstance(state, torch.Tensor)
    parts = [state] if single else list(state)
    outputs = [torch.zeros_like(parts[0]) for _ in range(x.shape[1])]
    order = sorted(range(x.shape[1]), reverse=reverse)
    for t in order:
        going = (lengths > t).nonzero().flatten()
        if len(going) == 0:
            continue
        old = tuple(part[going] for part in parts)
        new = cell(x[going, t], old[0] if single else old)
        new = (new,) if single else new
        parts = [part.index_copy(0, going, n) for part, n in zip(parts, new, strict=True)]
        outputs[t] = outputs[t].index_copy(0, going, new[0])
    return torch.stack(outputs, 1), parts[0] if single else tuple(parts)


def truncated_bptt(model, loss_of, inputs, targets, state, optimizer, *, chunk, max_norm=None):
    def one(start, state):
        x, y = (tensor.narrow(1, start, min(chunk, T - start)) for tensor in (inputs, targets))
        model.zero_grad()
        outputs, state = model(x, trees.tree_map(torch.Tensor.detach, state))
        loss = loss_of(outputs, y)
        loss.backward()
        if max_norm is not None:
            clip_grad_norm(model.parameters(), max_norm)
        optimizer.step()
        return loss.item(), trees.tree_map(lambda part: part.detach(), state)

    T, losses = inputs.shape[1], []
    for start in range(0, T, chunk):
        loss, state = one(start, state)
        losses.append(loss)
    return tuple(losses), state
