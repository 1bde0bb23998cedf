"""Properties of ``scratch.recurrent``, judged by PyTorch's own recurrent layers on shared weights, and by gradients."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from scratch.optimization import SGD
from scratch.recurrent import gru_cell, lstm_cell, rnn_cell, run_masked, truncated_bptt

sizes = st.integers(1, 6)
seeds = st.integers(0, 2**31 - 1)
quick = settings(max_examples=25, deadline=None)
DOUBLE = torch.float64
CELLS = {"RNN": rnn_cell, "LSTM": lstm_cell, "GRU": gru_cell}
kinds = pytest.mark.parametrize("kind", CELLS)


def draw(seed, *shapes):
    """Return one float64 tensor for each shape, drawn from the seed."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=DOUBLE) for shape in shapes]


def make(kind, D, H, seed, **options):
    """PyTorch's layer with weights from the seed, and the cell of ours that shares them."""
    layer = getattr(nn, kind)(D, H, batch_first=True, dtype=DOUBLE, **options)
    for parameter, value in zip(
        layer.parameters(), draw(seed, *(p.shape for p in layer.parameters())), strict=True
    ):
        parameter.data = 0.5 * value
    weights = list(layer.parameters())[:4]
    return layer, lambda x, state: CELLS[kind](x, state, *weights)


def states(kind, seed, B, H):
    """A start state in our form, and in PyTorch's, which has a leading dimension."""
    parts = tuple(draw(seed + 1, *[(B, H)] * (2 if kind == "LSTM" else 1)))
    ours = parts if kind == "LSTM" else parts[0]
    theirs = tuple(part[None] for part in parts)
    return ours, theirs if kind == "LSTM" else theirs[0]


def together(state):
    """All numbers of a state as one tensor."""
    return torch.cat(state, -1) if isinstance(state, tuple) else state


class TestCells:
    @kinds
    @quick
    @given(sizes, sizes, sizes, sizes, seeds)
    def test_along_a_sequence_they_are_pytorchs_layers_in_values_and_gradients(self, kind, B, T, D, H, seed):
        layer, cell = make(kind, D, H, seed)
        (x,) = draw(seed, (B, T, D))
        ours, theirs = states(kind, seed, B, H)
        outputs, state = run_masked(cell, x.requires_grad_(), torch.full((B,), T), ours)
        expected, last = layer(x, theirs)
        torch.testing.assert_close(outputs, expected)
        torch.testing.assert_close(together(state), together(last)[0])
        (given_,) = draw(seed + 2, (B, T, H))
        wanted = torch.autograd.grad((expected * given_).sum(), [x, *layer.parameters()])
        found = torch.autograd.grad((outputs * given_).sum(), [x, *layer.parameters()])
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other)

    @kinds
    def test_gradients_are_right_with_respect_to_every_input(self, kind):
        gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind]
        B, D, H = 2, 3, 4
        shapes = [(B, D), (gates * H, D), (gates * H, H), (gates * H,), (gates * H,), (B, H), (B, H)]
        inputs = [value.requires_grad_() for value in draw(0, *shapes)]

        def step(x, w_ih, w_hh, b_ih, b_hh, h, c):
            return CELLS[kind](x, (h, c) if kind == "LSTM" else h + 0 * c, w_ih, w_hh, b_ih, b_hh)

        assert torch.autograd.gradcheck(step, inputs)

    @kinds
    def test_nothing_is_mutated(self, kind):
        layer, cell = make(kind, 3, 4, 0)
        (x,) = draw(1, (2, 3))
        state, _ = states(kind, 2, 2, 4)
        before = deepcopy([x, state, layer.state_dict()])
        cell(x, state)
        torch.testing.assert_close([x, state, layer.state_dict()], before, rtol=0, atol=0)

    def test_an_open_forget_gate_and_a_shut_input_gate_keep_the_memory(self):
        H = 3
        x, h, c, w_ih, w_hh = draw(3, (2, 4), (2, H), (2, H), (4 * H, 4), (4 * H, H))
        bias = torch.tensor([-1000.0, 1000.0, 0.0, 0.0], dtype=DOUBLE).repeat_interleave(H)
        kept = lstm_cell(x, (h, c), w_ih, w_hh, bias, 0 * bias)[1]
        torch.testing.assert_close(kept, c)

    def test_an_update_gate_of_one_keeps_the_state(self):
        H = 3
        x, h, w_ih, w_hh = draw(4, (2, 4), (2, H), (3 * H, 4), (3 * H, H))
        bias = torch.tensor([0.0, 1000.0, 0.0], dtype=DOUBLE).repeat_interleave(H)
        torch.testing.assert_close(gru_cell(x, h, w_ih, w_hh, bias, 0 * bias), h)


class TestRunMasked:
    @kinds
    @quick
    @given(st.lists(st.integers(1, 6), min_size=1, max_size=4), seeds)
    def test_agrees_with_packed_sequences_in_both_directions(self, kind, lengths, seed):
        B, T, D, H = len(lengths), max(lengths) + seed % 3, 3, 4
        lengths = torch.tensor(lengths)
        layer, _ = make(kind, D, H, seed, bidirectional=True)
        weights = list(layer.parameters())
        (x,) = draw(seed, (B, T, D))
        start, _ = states(kind, seed, B, H)
        parts = start if isinstance(start, tuple) else (start,)
        both = tuple(part.expand(2, B, H).contiguous() for part in parts)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        expected, last = layer(packed, both if kind == "LSTM" else both[0])
        expected, _ = pad_packed_sequence(expected, batch_first=True, total_length=T)
        for i, reverse in enumerate((False, True)):
            own = weights[4 * i : 4 * i + 4]
            outputs, state = run_masked(
                lambda x, s, own=own: CELLS[kind](x, s, *own), x, lengths, start, reverse
            )
            torch.testing.assert_close(outputs, expected[..., H * i : H * (i + 1)])
            torch.testing.assert_close(together(state), together(last)[i])

    @kinds
    @pytest.mark.parametrize("reverse", [False, True])
    def test_padding_gets_no_gradient_and_gives_no_output(self, kind, reverse):
        _, cell = make(kind, 3, 4, 0)
        (x,) = draw(1, (3, 5, 3))
        lengths = torch.tensor([2, 5, 0])
        start, _ = states(kind, 1, 3, 4)
        outputs, state = run_masked(cell, x.requires_grad_(), lengths, start, reverse)
        (outputs.square().sum() + together(state).square().sum()).backward()
        padding = torch.arange(5) >= lengths[:, None]  # (B, T)
        assert (x.grad[padding] == 0).all()
        assert (x.grad[~padding] != 0).all()
        assert (outputs[padding] == 0).all()
        torch.testing.assert_close(together(state)[2], together(start)[2], rtol=0, atol=0)


class TestTruncatedBptt:
    def problem(self, kind, seed=0, B=2, T=7, D=3, H=4):
        layer, _ = make(kind, D, H, seed)
        inputs, targets = draw(seed + 1, (B, T, D), (B, T, H))
        return layer, inputs, targets, states(kind, seed, B, H)[1]

    @kinds
    @pytest.mark.parametrize("chunk", [1, 3, 7, 20])
    @pytest.mark.parametrize("max_norm", [None, 0.05])
    def test_is_a_loop_in_which_each_chunk_starts_from_constants(self, kind, chunk, max_norm):
        layer, inputs, targets, start = self.problem(kind)
        twin = deepcopy(layer)
        losses, state = truncated_bptt(
            layer, nn.functional.mse_loss, inputs, targets, start,
            SGD(layer.parameters(), lr=0.1), chunk=chunk, max_norm=max_norm,
        )  # fmt: skip
        optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
        expected, now = [], start
        for x, y in zip(inputs.split(chunk, dim=1), targets.split(chunk, dim=1), strict=True):
            optimizer.zero_grad()
            outputs, now = twin(x, now)
            loss = nn.functional.mse_loss(outputs, y)
            loss.backward()
            if max_norm is not None:
                nn.utils.clip_grad_norm_(twin.parameters(), max_norm)
            optimizer.step()
            expected.append(loss.item())
            now = torch.utils._pytree.tree_map(torch.Tensor.detach, now)
        assert losses == pytest.approx(expected, abs=1e-6)
        torch.testing.assert_close(together(state), together(now), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(layer.state_dict(), twin.state_dict(), rtol=1e-5, atol=1e-6)

    @kinds
    def test_the_state_that_comes_back_is_cut_off(self, kind):
        layer, inputs, targets, start = self.problem(kind)
        _, state = truncated_bptt(
            layer, nn.functional.mse_loss, inputs, targets, start, SGD(layer.parameters(), lr=0.1), chunk=3
        )
        assert not together(state).requires_grad

    def test_in_two_calls_it_does_what_it_does_in_one(self):
        layer, inputs, targets, start = self.problem("LSTM", T=6)
        twin = deepcopy(layer)
        optimizer = SGD(layer.parameters(), lr=0.1)
        state = start
        for part in (slice(0, 3), slice(3, 6)):
            _, state = truncated_bptt(
                layer, nn.functional.mse_loss, inputs[:, part], targets[:, part], state, optimizer, chunk=3
            )
        _, other = truncated_bptt(
            twin, nn.functional.mse_loss, inputs, targets, start, SGD(twin.parameters(), lr=0.1), chunk=3
        )
        torch.testing.assert_close(together(state), together(other))
        torch.testing.assert_close(layer.state_dict(), twin.state_dict())
