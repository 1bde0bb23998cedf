"""Properties of ``scratch.translation``: batches, smoothed loss, schedule, step, BLEU."""

import math

import pytest
import sacrebleu
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch.optimization import SGD
from scratch.transformer import Transformer
from scratch.translation import bleu, label_smoothing_loss, make_batches, noam_schedule, train_step

side = st.lists(st.integers(3, 30), min_size=1, max_size=7)
pairs_of = st.lists(st.tuples(side, side), max_size=30)
words = st.lists(st.sampled_from("a b c d e".split()), max_size=8)


def rows(batches, pad=0):
    """The pairs that the batches hold, without padding."""
    return [
        tuple(tuple(i for i in row if i != pad) for row in both)
        for source, target in batches
        for both in zip(source.tolist(), target.tolist(), strict=True)
    ]


@settings(deadline=None)
@given(pairs_of, st.integers(7, 40), st.integers(0, 9))
def test_every_pair_is_in_one_batch_within_the_room(pairs, room, seed):
    batches = make_batches(pairs, room, seed)
    assert sorted(rows(batches)) == sorted((tuple(s), tuple(t)) for s, t in pairs)
    for source, target in batches:
        assert source.numel() <= room
        assert target.numel() <= room
        assert source.dtype == target.dtype == torch.int64


@settings(deadline=None)
@given(pairs_of, pairs_of, st.integers(0, 9))
def test_nothing_of_the_held_out_side_is_in_a_batch(pairs, held_out, seed):
    found = rows(make_batches(pairs, 50, seed, held_out=held_out))
    assert not {s for s, _ in found} & {tuple(s) for s, _ in held_out}
    assert not {t for _, t in found} & {tuple(t) for _, t in held_out}


def test_batches_depend_on_the_seed_alone():
    pairs = [([3 + i % 5] * (1 + i % 7), [9, i + 3]) for i in range(60)]
    state = torch.random.get_rng_state()
    one, again, other = (rows(make_batches(pairs, 20, seed)) for seed in (1, 1, 2))
    assert one == again != other
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_pair_that_fits_nowhere_is_refused_unless_it_is_left_out():
    pair = ([5] * 9, [5])
    with pytest.raises(ValueError, match="size 9 does not fit into max_tokens=8"):
        make_batches([pair], 8, 0)
    assert make_batches([pair], 8, 0, held_out=[pair]) == []


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(3, 7), st.floats(0, 1), st.data())
def test_the_smoothed_loss_is_the_cross_entropy_with_smoothed_targets(B, T, V, smoothing, data):
    pad = data.draw(st.integers(0, V - 1))
    target = torch.tensor(data.draw(st.lists(st.integers(0, V - 1), min_size=B * T, max_size=B * T))).view(
        B, T
    )
    target[0, 0] = (pad + 1) % V
    logits = torch.randn(B, T, V, dtype=torch.float64)
    q = torch.full_like(logits, smoothing / (V - 2))
    q.scatter_(-1, target[..., None], 1 - smoothing)
    q[..., pad] = 0.0
    expected = F.cross_entropy(logits[target != pad], q[target != pad])
    torch.testing.assert_close(label_smoothing_loss(logits, target, smoothing, pad), expected)


def test_padding_is_not_learned_and_never_wanted():
    logits = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[2, 3, 0], [4, 0, 0]])
    label_smoothing_loss(logits, target, 0.2).backward()
    assert not logits.grad[target == 0].any()
    torch.testing.assert_close(
        logits.grad[target != 0][:, 0], logits.softmax(-1)[target != 0][:, 0].detach() / 3
    )


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 1024), st.integers(1, 500), st.floats(0.1, 5))
def test_the_schedule_is_highest_at_the_end_of_the_warm_up(step, width, warmup, factor):
    peak = noam_schedule(warmup, width, warmup, factor)
    assert math.isclose(peak, factor / math.sqrt(width * warmup))
    assert 0 < noam_schedule(step, width, warmup, factor) <= peak * (1 + 1e-12)
    assert noam_schedule(0, width, warmup, factor) == 0.0


def test_a_step_is_that_of_a_plain_loop():
    torch.manual_seed(0)
    one, other = (Transformer(11, 8, 2, 12, 1, dropout=0.0) for _ in range(2))
    other.load_state_dict(one.state_dict())
    source, target = torch.tensor([[5, 3, 0], [4, 9, 7]]), torch.tensor([[1, 6, 2, 0], [1, 8, 4, 2]])
    one(source, target).sum().backward()  # gradients from before
    loss = train_step(
        one.eval(), SGD(one.parameters(), lr=9.0), (source, target), loss_of=label_smoothing_loss, lr=0.1
    )
    expected = label_smoothing_loss(other(source, target[:, :-1]), target[:, 1:])
    expected.backward()
    assert one.training
    assert loss == pytest.approx(expected.item())
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q - 0.1 * q.grad)


def test_a_step_clips_the_gradients_together():
    torch.manual_seed(0)
    model = Transformer(11, 8, 2, 12, 1, dropout=0.0)
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    batch = torch.tensor([[5, 3]]), torch.tensor([[1, 6, 2]])
    train_step(
        model, SGD(model.parameters(), 1.0), batch, loss_of=label_smoothing_loss, lr=1.0, max_norm=0.01
    )
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.01, rel=1e-3)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=5))
def test_bleu_equals_sacrebleu(sentences):
    hypotheses, references = zip(*sentences, strict=True)
    texts = [" ".join(tokens) for tokens in hypotheses]
    standard = sacrebleu.corpus_bleu(
        texts, [[" ".join(t) for t in references]], tokenize="none", force=True
    ).score
    assert bleu(hypotheses, references) == pytest.approx(standard, abs=1e-9)


def test_bleu_refuses_a_missing_sentence():
    with pytest.raises(ValueError, match="2 hypotheses cannot be judged by 1"):
        bleu([["a"], ["b"]], [["a"]])


def test_bleu_is_that_of_the_corpus_and_punishes_brevity():
    full = ["a b c d e f g h".split()] * 4
    assert bleu(full, full) == pytest.approx(100)
    assert bleu([tokens[:4] for tokens in full], full) == pytest.approx(100 * math.exp(1 - 2))
