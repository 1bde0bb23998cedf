"""Properties of ``scratch.seq2seq``, judged by PyTorch's GRU on single sentences, loops, and gradients."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch import seq2seq
from scratch.seq2seq import Seq2Seq, additive_attention, decode_step, encode, greedy_decode, shift_right

sizes = st.integers(1, 6)
seeds = st.integers(0, 2**31 - 1)
quick = settings(max_examples=40, deadline=None)
SOLUTION = Path(__file__).parents[2] / "solutions" / "07_seq2seq" / "seq2seq.ipynb"


def draw(seed, *shapes):
    """Return one float64 tensor for each shape, drawn from the seed."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def draw_ids(seed, B, T, vocabulary=11):
    """Return ids (B, T), padded with 0 behind lengths of at least 1, the longest of them T; and the lengths."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, T + 1, (B,), generator=generator)
    lengths[seed % B] = T
    ids = torch.randint(3, vocabulary, (B, T), generator=generator)
    return ids.masked_fill(torch.arange(T) >= lengths[:, None], 0), lengths


@pytest.fixture(params=[True, False], ids=["attention", "bottleneck"])
def model(request):
    torch.manual_seed(0)
    return Seq2Seq(11, 9, 5, 4, 3, attention=request.param).double()


def make(seed):
    torch.manual_seed(seed)
    return Seq2Seq(11, 9, 5, 4, 3).double()


class TestShiftRight:
    @quick
    @given(sizes, st.integers(0, 6), seeds)
    def test_every_step_is_shown_the_token_before(self, B, T, seed):
        target = torch.randint(3, 50, (B, T), generator=torch.Generator().manual_seed(seed))
        shown = shift_right(target, 1)
        assert shown.dtype == target.dtype
        assert shown.tolist() == [([1, *row])[:T] for row in target.tolist()]


class TestEncode:
    @quick
    @given(sizes, sizes, seeds)
    def test_reads_each_source_as_if_it_were_alone(self, B, S, seed):
        model = make(seed)
        source, lengths = draw_ids(seed, B, S)
        states, summary = encode(model, source)
        assert states.shape == (B, S, 8)
        for b, n in enumerate(lengths.tolist()):
            alone, last = model.encoder(model.source_embedding(source[b : b + 1, :n]))
            torch.testing.assert_close(states[b, :n], alone[0])
            torch.testing.assert_close(summary[b], last[:, 0].flatten())

    def test_more_padding_changes_nothing(self):
        model = make(0)
        source, _ = draw_ids(0, 3, 5)
        states, summary = encode(model, F.pad(source, (0, 4)))
        assert states.shape == (3, 9, 8)
        assert states.isfinite().all()
        torch.testing.assert_close(summary, encode(model, source)[1])

    def test_both_halves_read_what_they_should(self):
        model = make(0)
        x = torch.tensor([[3, 4, 5, 6]])
        changed = torch.tensor([[3, 4, 7, 6]])
        same = (encode(model, x)[0] == encode(model, changed)[0])[0]
        assert same[:2, :4].all()  # forward states before the change
        assert same[3:, 4:].all()  # backward states behind it
        assert not same[2:, :4].any()
        assert not same[:3, 4:].any()


def slow_attention(query, keys, values, mask, v):
    """One sequence, one permitted key at a time, in plain Python."""
    scores = {
        s: sum(c * math.tanh(a + b) for a, b, c in zip(query.tolist(), key.tolist(), v.tolist(), strict=True))
        for s, key in enumerate(keys)
        if mask[s]
    }
    total = sum(math.exp(score) for score in scores.values())
    weights = torch.zeros(len(keys), dtype=torch.float64)
    for s, score in scores.items():
        weights[s] = math.exp(score) / total
    return sum(weights[s] * values[s] for s in scores), weights


class TestAdditiveAttention:
    @quick
    @given(sizes, sizes, sizes, sizes, seeds)
    def test_agrees_with_a_slow_loop(self, B, S, K, M, seed):
        query, keys, values, v = draw(seed, (B, K), (B, S, K), (B, S, M), (K,))
        mask = draw_ids(seed, B, S)[0] != 0
        context, weights = additive_attention(query, keys, values, mask, v)
        for b in range(B):
            expected = slow_attention(query[b], keys[b], values[b], mask[b], v)
            torch.testing.assert_close((context[b], weights[b]), expected)

    def test_gradients_are_right_and_padding_gets_none(self):
        query, keys, values, v = draw(1, (2, 3), (2, 4, 3), (2, 4, 5), (3,))
        mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
        inputs = [x.requires_grad_() for x in (query, keys, values, v)]
        assert torch.autograd.gradcheck(lambda q, k, x, v: additive_attention(q, k, x, mask, v), inputs)
        context, _ = additive_attention(query, keys, values, mask, v)
        for grad in torch.autograd.grad(context.square().sum(), (keys, values)):
            assert ((grad != 0).any(dim=-1) == mask).all()

    def test_one_key_takes_all_the_weight(self):
        query, keys, values, v = draw(2, (3, 2), (3, 1, 2), (3, 1, 4), (2,))
        context, weights = additive_attention(query, keys, values, torch.ones(3, 1, dtype=torch.bool), v)
        assert (weights == 1).all()
        torch.testing.assert_close(context, values[:, 0])


class TestDecodeStep:
    def test_is_a_gru_on_token_and_context(self, model):
        source, _ = draw_ids(3, 3, 5)
        state, memory = model.read(source)
        token = torch.tensor([4, 8, 2])
        logits, new, weights = decode_step(model, token, state, memory)
        context, expected = additive_attention(model.query(state), *memory, model.v)
        torch.testing.assert_close(weights, expected)
        x = torch.cat([model.target_embedding.weight[token], context], dim=1)
        torch.testing.assert_close(new, model.cell(x, state))
        torch.testing.assert_close(logits, model.output(torch.cat([new, context], dim=1)))

    def test_the_context_reaches_exactly_the_source(self):
        model = make(4)
        source = torch.tensor([[3, 4, 0, 0], [5, 6, 7, 3]])
        state, (keys, values, mask) = model.read(source)
        values = values.detach().requires_grad_()
        logits, _, _ = decode_step(model, torch.tensor([3, 4]), state, (keys, values, mask))
        for b in range(2):
            (grad,) = torch.autograd.grad(logits[b].square().sum(), values, retain_graph=True)
            expected = torch.zeros_like(mask)
            expected[b] = mask[b]
            assert torch.equal((grad != 0).any(dim=-1), expected)


class TestSeq2Seq:
    def test_position_t_sees_the_source_and_the_tokens_before_it(self, model):
        source, _ = draw_ids(5, 2, 4)
        target = torch.randint(3, 9, (2, 6), generator=torch.Generator().manual_seed(5))
        logits = model(source, target)
        assert logits.shape == (2, 6, 9)
        for t in range(6):
            changed = target.clone()
            changed[0, t] = 3 + (changed[0, t] - 2) % 6
            differs = (model(source, changed) != logits).any(dim=-1)
            assert differs[0].tolist() == [s > t for s in range(6)]
            assert not differs[1].any()

    def test_padding_of_the_source_changes_nothing(self, model):
        source, _ = draw_ids(6, 3, 4)
        target, _ = draw_ids(7, 3, 5, vocabulary=9)
        torch.testing.assert_close(model(F.pad(source, (0, 3)), target), model(source, target))

    def test_without_attention_one_vector_is_all_there_is(self):
        torch.manual_seed(0)
        model = Seq2Seq(11, 9, 5, 4, 3, attention=False)
        source, _ = draw_ids(8, 3, 4)
        _, (keys, values, mask) = model.read(source)
        assert (keys.shape, values.shape, mask.shape) == ((3, 1, 3), (3, 1, 8), (3, 1))
        assert torch.equal(values[:, 0], encode(model, source)[1])

    def test_every_weight_learns(self, model):
        source, _ = draw_ids(9, 3, 4)
        target, _ = draw_ids(9, 3, 5, vocabulary=9)
        F.cross_entropy(model(source, target).flatten(0, 1), target.flatten(), ignore_index=0).backward()
        idle = {name for name, p in model.named_parameters() if not (p.grad != 0).any()}
        # With one key the weight is 1, whatever is asked: the question learns nothing.
        assert idle == (set() if model.attention else {"v", "query.weight", "key.weight"})

    def test_writes_what_it_scores_highest_when_shown_it(self, model):
        """Greedy decoding and teacher forcing agree on what greedy decoding has written."""
        source, _ = draw_ids(10, 4, 5)
        state, memory = model.read(source)
        written = greedy_decode(
            lambda token, state: decode_step(model, token, state, memory)[:2],
            state, torch.full((4,), model.begin), end=model.end, limit=7,
        )  # fmt: skip
        scores = model(source, written).argmax(dim=-1)
        real = written != model.pad
        assert torch.equal(scores[real], written[real])


class Script:
    """A step that writes given rows whatever it is shown, and keeps what it was called with."""

    def __init__(self, rows, vocabulary=12):
        self.rows, self.vocabulary, self.shown = torch.tensor(rows), vocabulary, []

    def __call__(self, token, state):
        self.shown.append(token.tolist())
        assert state == len(self.shown) - 1
        return F.one_hot(self.rows[:, state], self.vocabulary).float(), state + 1


class TestGreedyDecode:
    def test_stops_when_all_have_ended_and_pads_behind(self):
        script = Script([[5, 2, 7, 7, 9], [4, 6, 8, 2, 9], [2, 5, 5, 5, 9]])
        written = greedy_decode(script, 0, torch.tensor([1, 1, 1]), end=2, limit=20)
        assert written.tolist() == [[5, 2, 0, 0], [4, 6, 8, 2], [2, 0, 0, 0]]
        assert len(script.shown) == 4

    @pytest.mark.parametrize("limit", [1, 3])
    def test_stops_at_the_limit(self, limit):
        written = greedy_decode(Script([[5, 6, 7, 8]]), 0, torch.tensor([1]), end=2, limit=limit)
        assert written.tolist() == [[5, 6, 7][:limit]]

    def test_each_step_is_shown_what_was_written_last(self):
        script = Script([[5, 6, 2], [7, 8, 2]])
        greedy_decode(script, 0, torch.tensor([1, 3]), end=2, limit=9)
        assert script.shown == [[1, 3], [5, 7], [6, 8]]

    @given(st.lists(st.lists(st.integers(1, 6), min_size=8, max_size=8), min_size=1, max_size=4))
    def test_writes_each_row_up_to_its_first_end(self, rows):
        written = greedy_decode(Script(rows), 0, torch.ones(len(rows), dtype=torch.long), end=2, limit=8)
        for row, line in zip(written.tolist(), rows, strict=True):
            wanted = line[: line.index(2) + 1] if 2 in line else line
            assert row == wanted + [0] * (len(row) - len(wanted))


def test_the_notebook_gives_the_class_of_the_library():
    """The cell that the learner is given is a copy; whoever changes the one changes the other."""
    import inspect

    cells = json.loads(SOLUTION.read_text())["cells"]
    (given,) = ("".join(cell["source"]) for cell in cells if cell.get("id") == "Seq2Seq")
    assert given.strip().endswith(inspect.getsource(seq2seq.Seq2Seq).strip())
