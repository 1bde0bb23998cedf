"""Recurrent networks: three cells, a run over a padded batch, and training in chunks (unit 06).

A cell is one step: it takes the input x of this step and the state that the steps before have left, and returns the
new state. Weights are laid out as in PyTorch: ``w_ih`` holds one matrix of shape (H, D) for each gate, one below the
other, ``w_hh`` one of shape (H, H), and the biases ``b_ih`` and ``b_hh`` a vector of length H for each gate.

Symbols: B batch, T steps, D width of an input, H width of the hidden state h.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from scratch.optimization import Optimizer, clip_grad_norm

State = Tensor | tuple[Tensor, ...]
Cell = Callable[[Tensor, State], State]


def rnn_cell(
    x: Float[Tensor, "B D"],
    h: Float[Tensor, "B H"],
    w_ih: Float[Tensor, "H D"],
    w_hh: Float[Tensor, "H H"],
    b_ih: Float[Tensor, " H"],
    b_hh: Float[Tensor, " H"],
) -> Float[Tensor, "B H"]:
    """Take one step of a simple recurrent network: h ← tanh(W_ih x + b_ih + W_hh h + b_hh).

    Args:
        x: (B, D), the inputs of this step.
        h: (B, H), the hidden state before it.
        w_ih: (H, D), the weights of the input; these four are those of ``nn.RNNCell``.
        w_hh: (H, H), the weights of the hidden state.
        b_ih: (H,), the bias beside the input.
        b_hh: (H,), the bias beside the hidden state.

    Returns:
        (B, H): the hidden state after the step. What came in is left unchanged.

    Source: Elman, "Finding Structure in Time", 1990.
    """
    return torch.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)  # (B, D) @ (D, H) + (B, H) @ (H, H) -> (B, H)


def lstm_cell(
    x: Float[Tensor, "B D"],
    state: tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]],
    w_ih: Float[Tensor, "4*H D"],
    w_hh: Float[Tensor, "4*H H"],
    b_ih: Float[Tensor, " 4*H"],
    b_hh: Float[Tensor, " 4*H"],
) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]:
    """Take one step of a long short-term memory: gates decide what the memory c keeps, takes in and shows.

    Args:
        x: (B, D), the inputs of this step.
        state: (h, c), hidden state and memory before it, each (B, H).
        w_ih: (4H, D), the weights of the input; these four are those of ``nn.LSTMCell``. In each, the rows belong to
            i, f, g and o, from top to bottom: input gate, forget gate, candidate, output gate, H rows each.
        w_hh: (4H, H), the weights of the hidden state.
        b_ih: (4H,), the bias beside the input.
        b_hh: (4H,), the bias beside the hidden state.

    Returns:
        (h, c) after the step, a tuple of two tensors (B, H):

            i, f, o = σ(…), g = tanh(…), where … is W_ih x + b_ih + W_hh h + b_hh, each with its own rows
            c ← f ⊙ c + i ⊙ g
            h ← o ⊙ tanh(c), with the new c

        What came in is left unchanged.

    Source: Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; with the forget gate of Gers et al., 2000.
    """
    h, c = state
    gates = x @ w_ih.T + b_ih + h @ w_hh.T + b_hh  # (B, D) @ (D, 4H) + (B, H) @ (H, 4H) -> (B, 4H)
    i, f, g, o = gates.chunk(4, dim=-1)  # (B, 4H) -> four times (B, H)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_cell(
    x: Float[Tensor, "B D"],
    h: Float[Tensor, "B H"],
    w_ih: Float[Tensor, "3*H D"],
    w_hh: Float[Tensor, "3*H H"],
    b_ih: Float[Tensor, " 3*H"],
    b_hh: Float[Tensor, " 3*H"],
) -> Float[Tensor, "B H"]:
    """Take one step of a gated recurrent unit: blend the old state with a candidate, each entry in its own shares.

    Args:
        x: (B, D), the inputs of this step.
        h: (B, H), the hidden state before it.
        w_ih: (3H, D), the weights of the input; these four are those of ``nn.GRUCell``. In each, the rows belong to
            r, z and n, from top to bottom: reset gate, update gate, candidate, H rows each.
        w_hh: (3H, H), the weights of the hidden state.
        b_ih: (3H,), the bias beside the input.
        b_hh: (3H,), the bias beside the hidden state.

    Returns:
        (B, H): the hidden state after the step:

            r, z = σ(W_ih x + b_ih + W_hh h + b_hh), each with its own rows
            n = tanh(W_in x + b_in + r ⊙ (W_hn h + b_hn)), where n names the candidate's rows
            h ← (1 − z) ⊙ n + z ⊙ h

        The reset gate acts on W_hn h + b_hn, as in PyTorch, and not on h. What came in is left unchanged.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014, section 2.3; with the reset
    gate behind the product, as in PyTorch.
    """
    from_x = x @ w_ih.T + b_ih  # (B, D) @ (D, 3H) -> (B, 3H)
    from_h = h @ w_hh.T + b_hh  # (B, H) @ (H, 3H) -> (B, 3H)
    x_r, x_z, x_n = from_x.chunk(3, dim=-1)  # (B, 3H) -> three times (B, H)
    h_r, h_z, h_n = from_h.chunk(3, dim=-1)
    z = torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
    return (1 - z) * n + z * h


def run_masked(
    cell: Cell,
    x: Float[Tensor, "B T D"],
    lengths: Int[Tensor, " B"],
    state: State,
    reverse: bool = False,
) -> tuple[Float[Tensor, "B T H"], State]:
    """Run a cell over a batch of sequences that were padded on the right, as if each sequence ran alone.

    Args:
        cell: called as ``cell(x_t, state)`` with inputs (B, D) of one step; returns the new state.
        x: (B, T, D), the sequences. What stands in the padding, any finite number, has no effect.
        lengths: (B,), the number of real steps of each sequence, from 0 to T.
        state: the state before the first step: a tensor (B, H), or a tuple of such tensors, as (h, c).
        reverse: read each sequence from its last real step to its first.

    Returns:
        outputs: (B, T, H): entry [b, t] is the hidden state after step t was read, where it is real, and zero in
            the padding. If the state is a tuple, the hidden state is its first tensor. Step t stands at place t,
            also when read backwards.
        state: the state after each sequence's last step to be read, in the form in which it came. A sequence of
            length 0 leaves it as it was.
    """
    outputs = []
    for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
        real = (t < lengths)[:, None]  # (B, 1): which sequences have a step t
        new = cell(x[:, t], state)  # (B, D) -> (B, H)
        if isinstance(state, tuple):
            state = tuple(torch.where(real, part, old) for part, old in zip(new, state, strict=True))
        else:
            state = torch.where(real, new, state)
        h = state[0] if isinstance(state, tuple) else state
        outputs.append(h.masked_fill(~real, 0.0))
    if reverse:
        outputs.reverse()
    return torch.stack(outputs, dim=1), state  # T times (B, H) -> (B, T, H)


def truncated_bptt(
    model: nn.Module,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    state: State,
    optimizer: Optimizer,
    *,
    chunk: int,
    max_norm: float | None = None,
) -> tuple[list[float], State]:
    """Train along a batch of long sequences, chunk by chunk: the state is carried over, gradients are not.

    Each chunk is one step of the optimiser. It goes on from the state in which the chunk before has ended, as a
    constant: gradients reach back to the beginning of their own chunk and no further.

    Args:
        model: called as ``model(inputs, state)`` with the inputs of one chunk; returns (outputs, new state).
        loss_of: called as ``loss_of(outputs, targets)`` with those of one chunk; returns a tensor with one number.
        inputs: (B, T, …), what the model reads.
        targets: (B, T, …), what it should say.
        state: the state before the first step: a tensor, or a tuple of tensors.
        optimizer: has ``parameters``, ``step()`` and ``zero_grad()``.
        chunk: how many steps of T a chunk has. The last one holds what is left, and may be shorter.
        max_norm: the length to which each chunk's gradients are clipped together. None clips nothing.

    Returns:
        The loss of every chunk, as plain floats, and the state after the last one, cut off from the graph.

    Source: Williams and Peng, "An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network
    Trajectories", 1990, section 4, as it is done today.
    """
    losses = []
    for start in range(0, inputs.shape[1], chunk):
        steps = slice(start, start + chunk)
        optimizer.zero_grad()
        outputs, state = model(inputs[:, steps], state)  # (B, chunk, …)
        loss = loss_of(outputs, targets[:, steps])
        loss.backward()
        if max_norm is not None:
            clip_grad_norm(optimizer.parameters, max_norm)
        optimizer.step()
        losses.append(loss.item())
        state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
    return losses, state
