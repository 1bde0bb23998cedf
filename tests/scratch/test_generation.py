"""Writing: top-p sampling, generation with a cache, beam search."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.scratch.test_gpt import V, make, padded

from scratch.cache import KVCache
from scratch.generation import CachedScores, beam_search, generate, sample_top_p
from scratch.probability import sample

logits_of = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 7)), elements=st.floats(-9, 9))
uniforms = st.floats(0, 1, exclude_max=True)


def greedy(logits: torch.Tensor) -> torch.Tensor:
    return logits.argmax(dim=-1)


@given(logits_of, uniforms, st.floats(0.01, 1), st.floats(0.2, 4))
def test_top_p_draws_from_the_smallest_set_that_reaches_p(logits, uniform, p, temperature):
    drawn = sample_top_p(torch.from_numpy(logits), torch.full((len(logits),), uniform), p, temperature)
    for row, token in zip(logits, drawn.tolist(), strict=True):
        shares = np.exp(row / temperature - (row / temperature).max())
        shares /= shares.sum()
        likelier = shares[shares > shares[token]].sum()
        assert likelier < p + 1e-9


@settings(deadline=None)
@given(st.integers(0, 99), st.floats(0.05, 1))
def test_over_even_uniform_numbers_the_shares_are_those_of_the_kept_tokens(seed, p):
    logits = torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    count = 4000
    drawn = sample_top_p(logits.expand(count, 6), (torch.arange(count) + 0.5) / count, p)
    line, ids = logits.softmax(-1).sort(descending=True)
    kept = int((line.cumsum(0) < p - 1e-12).sum()) + 1
    expected = torch.zeros(6, dtype=torch.float64)
    expected[ids[:kept]] = line[:kept] / line[:kept].sum()
    found = torch.bincount(drawn, minlength=6) / count
    assert (found - expected).abs().max() < 2 / count


def test_a_small_p_is_greedy_and_a_token_of_probability_zero_is_never_drawn():
    logits = torch.randn(5, 8)
    logits[:, 3] = -torch.inf
    uniform = torch.tensor([0.0, 0.3, 0.6, 0.9, 1 - 2**-24])
    assert torch.equal(sample_top_p(logits, uniform, 1e-6), greedy(logits))
    assert (sample_top_p(logits, uniform, 1.0) != 3).all()
    assert torch.equal(sample_top_p(logits, uniform, 1.0, 1e-4), greedy(logits))


def test_with_p_of_one_it_is_plain_sampling_in_another_order():
    logits = torch.tensor([3.0, 2.0, 1.0, 0.0]).expand(50, 4)  # already in falling order
    uniform = torch.linspace(0, 0.999, 50)
    expected = sample(logits.double().numpy(), uniform.double().numpy())
    assert sample_top_p(logits.double(), uniform.double(), 1.0).tolist() == expected.tolist()


@pytest.mark.parametrize(("p", "temperature"), [(0.0, 1.0), (1.1, 1.0), (-0.2, 1.0), (0.5, 0.0), (0.5, -1.0)])
def test_values_out_of_range_are_refused(p, temperature):
    with pytest.raises(ValueError, match="must lie in"):
        sample_top_p(torch.zeros(1, 3), torch.zeros(1), p, temperature)


def test_generation_with_a_cache_writes_what_it_writes_without():
    model = make(1)
    prompt, real = padded(5, 2, 4, seed=3)
    seen: list[torch.Tensor] = []

    def choose(logits):
        seen.append(logits)
        return greedy(logits)

    out = generate(model, prompt, choose, limit=7, real=real)
    for b, start in enumerate((~real).sum(1).tolist()):
        alone = prompt[b : b + 1, start:]
        for step in range(7):
            logits = model(alone)[:, -1].detach()
            torch.testing.assert_close(seen[step][b : b + 1], logits, atol=1e-4, rtol=1e-4)
            alone = torch.cat([alone, greedy(logits)[:, None]], dim=1)
        assert torch.equal(out[b, start:], alone[0])


def test_each_position_is_computed_once():
    model, read = make(), []
    model.layers[0].register_forward_pre_hook(lambda _, args: read.append(args[0].shape[1]))
    generate(model, torch.zeros(1, 4, dtype=torch.int64), greedy, limit=5)
    assert read == [4, 1, 1, 1, 1]


def test_a_closed_row_is_filled_up_and_the_model_rests_when_all_are_closed():
    model, calls = make(), []
    script = iter([[3, 5], [9, 2], [4, 9]])

    def choose(logits):
        calls.append(logits)
        return torch.tensor(next(script))

    out = generate(model, torch.tensor([[9], [1]]), choose, limit=6, end=9)
    assert out.tolist() == [[9, 3, 9, 9, 9, 9, 9], [1, 5, 2, 9, 9, 9, 9]]
    assert len(calls) == 3


# ---- beam search: all texts can be tried where there are few ---------------------------------------------------------


def scorer(seed: int, tokens: int):
    """Logits that depend on the whole text, drawn anew for each and always the same."""

    def score(ids: torch.Tensor) -> torch.Tensor:
        rows = []
        for row in ids.tolist():
            random = np.random.default_rng([seed, *row])
            rows.append(torch.from_numpy(2 * random.standard_normal(tokens)))
        return torch.stack(rows)

    return score


def exhaustive(score, prompt, tokens, limit, end, alpha):
    """Every text there is, and its score; the best one."""
    best = (-np.inf, ())
    for n in range(1, limit + 1):
        for text in itertools.product(range(tokens), repeat=n):
            closed = end is not None and text[-1] == end
            if (n < limit and not closed) or (end is not None and end in text[:-1]):
                continue
            ids, log_p = list(prompt), 0.0
            for token in text:
                log_p += score(torch.tensor([ids])).log_softmax(-1)[0, token].item()
                ids.append(token)
            best = max(best, (log_p / ((5 + n) / 6) ** alpha, text))
    return best


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10**6),
    st.integers(2, 4),
    st.integers(1, 3),
    st.sampled_from([None, 0, 1]),
    st.floats(0, 2),
)
def test_a_beam_that_holds_every_text_finds_the_best(seed, tokens, limit, end, alpha):
    score, prompt = scorer(seed, tokens), torch.tensor([[1, 0], [1, 1]])
    ids, scores = beam_search(score, prompt, width=tokens**limit, limit=limit, end=end, alpha=alpha)
    for b in range(2):
        best, text = exhaustive(score, prompt[b].tolist(), tokens, limit, end, alpha)
        assert scores[b].item() == pytest.approx(best, abs=1e-5)
        filled = list(text) + [end] * (limit - len(text))
        assert ids[b, 2:].tolist() == filled


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 5), st.floats(0, 2))
def test_a_beam_of_one_is_greedy(seed, tokens, limit, alpha):
    score, ids = scorer(seed, tokens), torch.tensor([[1, 0], [0, 0], [1, 1]])
    found, _ = beam_search(score, ids, width=1, limit=limit, alpha=alpha)
    for _ in range(limit):
        ids = torch.cat([ids, greedy(score(ids))[:, None]], dim=1)
    assert torch.equal(found, ids)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_a_prompt_is_searched_as_if_it_were_alone(seed, width):
    score, prompt = scorer(seed, 4), torch.tensor([[1, 0], [0, 0], [2, 1]])
    ids, scores = beam_search(score, prompt, width=width, limit=4, end=3, alpha=0.7)
    for b in range(3):
        alone = beam_search(score, prompt[b : b + 1], width=width, limit=4, end=3, alpha=0.7)
        assert torch.equal(ids[b : b + 1], alone[0])
        assert scores[b].item() == alone[1].item()


def test_caches_follow_the_beams():
    model = make(2)
    prompt = torch.tensor([[3, 1, 4], [1, 5, 9]])
    cached = CachedScores(model)
    read = []
    model.layers[0].register_forward_pre_hook(lambda _, args: read.append(args[0].shape[1]))
    plain = beam_search(lambda ids: model(ids)[:, -1], prompt, width=3, limit=6, end=7, alpha=0.6)
    again, read[:] = len(read), []
    found = beam_search(cached, prompt, width=3, limit=6, end=7, alpha=0.6)
    assert read == [3] + [1] * (again - 1)
    assert torch.equal(found[0], plain[0])
    torch.testing.assert_close(found[1], plain[1], atol=1e-4, rtol=1e-4)
    read[:] = []
    other = torch.tensor([[3, 1, 4, 1, 0, 2, 5]])  # continues nothing that was read
    torch.testing.assert_close(cached(other), model(other)[:, -1].detach(), atol=1e-4, rtol=1e-4)
    cached(torch.tensor([[0, 0, 0, 0, 0, 0, 0, 0]]))
    assert read[-1] == 8


def test_layers_with_one_cache_between_them_would_differ():
    model = make()
    cache, ids = KVCache(), torch.tensor([[3, 1, 4, 1]])
    with pytest.raises(RuntimeError):
        model(ids, None, [cache] * 2)
    assert V > 4
