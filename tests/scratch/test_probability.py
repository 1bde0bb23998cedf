"""Properties of ``scratch.probability``, judged by PyTorch's operators, by slow loops, and by exact arithmetic."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scratch.probability import cross_entropy, kl_divergence, log_sum_exp, sample, softmax

quick = settings(max_examples=60, deadline=None)
shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=5)
large = st.floats(-5000, 5000)
arrays = shapes.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=large))
seeds = st.integers(0, 2**31 - 1)


def distributions(seed, *shape, zeros=False):
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.1, 1.0, shape)
    if zeros:
        weights[..., 1:] *= rng.random((*shape[:-1], shape[-1] - 1)) < 0.6
    return weights / weights.sum(-1, keepdims=True)


@st.composite
def array_and_axis(draw):
    x = draw(arrays)
    return x, draw(st.integers(-x.ndim, x.ndim - 1))


class TestSoftmax:
    @quick
    @given(array_and_axis())
    def test_agrees_with_pytorch_on_every_axis_and_size(self, given_array):
        x, axis = given_array
        np.testing.assert_allclose(softmax(x, axis), F.softmax(torch.from_numpy(x), axis).numpy(), atol=1e-12)

    @quick
    @given(arrays, st.floats(-1e4, 1e4))
    def test_a_constant_changes_nothing(self, x, constant):
        np.testing.assert_allclose(softmax(x + constant), softmax(x), atol=1e-9)

    def test_the_last_axis_is_the_default(self):
        np.testing.assert_allclose(softmax(np.arange(6.0).reshape(2, 3)).sum(-1), 1)

    def test_minus_infinity_is_exactly_zero(self):
        assert softmax(np.array([0.0, -math.inf, 0.0])).tolist() == [0.5, 0.0, 0.5]

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_dtype_stays_and_input_too(self, dtype):
        x = np.array([1.0, 2.0], dtype=dtype)
        assert softmax(x).dtype == dtype
        assert x.tolist() == [1.0, 2.0]


class TestLogSumExp:
    @quick
    @given(array_and_axis())
    def test_agrees_with_pytorch_on_every_axis_and_size(self, given_array):
        x, axis = given_array
        np.testing.assert_allclose(
            log_sum_exp(x, axis), torch.logsumexp(torch.from_numpy(x), axis).numpy(), atol=1e-9
        )

    @quick
    @given(hnp.arrays(np.float64, 5, elements=large))
    def test_lies_between_the_maximum_and_log_n_above_it(self, x):
        assert x.max() <= log_sum_exp(x) <= x.max() + math.log(5) + 1e-9

    def test_of_nothing_but_zeros_is_minus_infinity(self):
        assert log_sum_exp(np.full((2, 3), -math.inf)).tolist() == [-math.inf] * 2

    def test_of_infinity_is_infinity(self):
        assert log_sum_exp(np.array([math.inf, 0.0])) == math.inf

    @quick
    @given(hnp.arrays(np.float64, (2, 4), elements=st.floats(-50, 50)))
    def test_its_slope_is_softmax(self, x):
        step = 1e-5 * np.eye(4)
        slope = (log_sum_exp(x[:, None] + step) - log_sum_exp(x[:, None] - step)) / 2e-5  # (2, 4)
        np.testing.assert_allclose(slope, softmax(x), atol=1e-5)

    def test_float32_stays(self):
        assert log_sum_exp(np.zeros((2, 3), dtype=np.float32), axis=0).dtype == np.float32


class TestCrossEntropy:
    @quick
    @given(
        seeds,
        st.sampled_from([(4,), (3, 4), (2, 3, 2), ()]),
        st.integers(2, 6),
        st.sampled_from([-100, 0, 1, -1]),
    )
    def test_agrees_with_pytorch(self, seed, shape, V, index):
        rng = np.random.default_rng(seed)
        logits, targets = rng.normal(0, 20, (*shape, V)), np.asarray(rng.integers(0, V, shape))
        targets = np.where(rng.random(shape) < 0.4, index, targets)
        if (targets == index).all():
            assert cross_entropy(logits, targets, index) == 0.0
            return
        flat = torch.from_numpy(logits).reshape(-1, V), torch.from_numpy(targets).reshape(-1)
        expected = F.cross_entropy(*flat, ignore_index=index).item()
        assert cross_entropy(logits, targets, index) == pytest.approx(expected, abs=1e-9)

    def test_padding_changes_nothing(self):
        rng = np.random.default_rng(0)
        logits, targets = rng.normal(size=(3, 5)), np.array([1, 0, 4])
        padded = (
            np.concatenate([logits, rng.normal(size=(7, 5))]),
            np.concatenate([targets, np.full(7, -100)]),
        )
        assert cross_entropy(*padded) == pytest.approx(cross_entropy(logits, targets))

    def test_an_impossible_target_is_infinitely_surprising(self):
        assert cross_entropy(np.array([[0.0, -math.inf]]), np.array([1])) == math.inf

    def test_a_thousand_below_the_best_costs_a_thousand(self):
        assert cross_entropy(np.array([[0.0, -1000.0]]), np.array([1])) == 1000.0

    @pytest.mark.parametrize("target", [3, -1, -3, -100])
    def test_refuses_what_is_no_outcome(self, target):
        with pytest.raises(ValueError, match="between 0 and 2, or be 7"):
            cross_entropy(np.zeros((2, 3)), np.array([0, target]), ignore_index=7)

    def test_is_a_plain_number(self):
        assert type(cross_entropy(np.zeros((2, 3)), np.array([0, 1]))) is float


class TestKLDivergence:
    @quick
    @given(seeds, st.integers(2, 6), st.booleans())
    def test_agrees_with_pytorch(self, seed, V, zeros):
        p, q = distributions(seed, 3, V, zeros=zeros), distributions(seed + 1, 3, V)
        expected = (
            F.kl_div(torch.from_numpy(np.log(q)), torch.from_numpy(p), reduction="none").sum(-1).numpy()
        )
        np.testing.assert_allclose(kl_divergence(p, q), expected, atol=1e-12)

    @quick
    @given(seeds, st.integers(2, 6))
    def test_is_never_negative_and_zero_only_for_equals(self, seed, V):
        p, q = distributions(seed, V, zeros=True), distributions(seed + 1, V)
        assert kl_divergence(p, q) > 0
        assert kl_divergence(p, p) == 0
        assert kl_divergence(q, q) == 0

    def test_what_q_excludes_is_infinite_and_what_both_exclude_is_free(self):
        p, q = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]), np.array([1.0, 0.0, 0.0])
        assert kl_divergence(p, q).tolist() == [math.inf, 0.0]

    def test_runs_along_the_given_axis(self):
        p, q = distributions(0, 3, 4).T, distributions(1, 3, 4).T
        np.testing.assert_allclose(kl_divergence(p, q, axis=0), kl_divergence(p.T, q.T))

    def test_float32_stays(self):
        p = distributions(0, 3, 4, zeros=True).astype(np.float32)
        assert kl_divergence(p, p).dtype == np.float32


class TestSample:
    @quick
    @given(seeds, st.sampled_from([(), (4,), (2, 3)]), st.integers(1, 6), st.floats(0.2, 5))
    def test_the_number_lies_in_the_share_of_the_outcome(self, seed, shape, V, temperature):
        rng = np.random.default_rng(seed)
        logits, uniform = rng.normal(0, 2, (*shape, V)), np.asarray(rng.random(shape))
        drawn = np.asarray(sample(logits, uniform, temperature))
        assert drawn.shape == shape
        ends = softmax(logits / temperature).cumsum(-1)
        for place in np.ndindex(*shape):
            k, low = drawn[place], ends[place][drawn[place] - 1] if drawn[place] else 0.0
            assert low - 1e-12 <= uniform[place] <= ends[place][k] + 1e-12

    def test_frequencies_are_probabilities(self):
        N, logits = 10_000, np.array([1.0, -0.5, 0.3])
        drawn = sample(np.tile(logits, (N, 1)), (np.arange(N) + 0.5) / N)
        np.testing.assert_allclose(np.bincount(drawn) / N, softmax(logits), atol=1.1 / N)

    @pytest.mark.parametrize("V", range(2, 40))
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_a_number_next_to_one_draws_the_last_possible_outcome(self, V, dtype):
        logits = np.concatenate([np.zeros(V), [-math.inf] * 2]).astype(dtype)
        assert sample(logits, np.asarray(np.nextafter(1, 0))) == V - 1

    def test_zero_draws_the_first_possible_outcome(self):
        assert sample(np.array([-math.inf, -math.inf, 0.0, 0.0]), np.asarray(0.0)) == 2

    def test_temperature_zero_takes_the_first_of_the_largest(self):
        logits = np.array([[0.0, 2.0, 2.0], [5.0, 1.0, 5.0]])
        assert sample(logits, np.array([0.99, 0.99]), temperature=0).tolist() == [1, 0]

    def test_small_temperatures_approach_it(self):
        logits = np.random.default_rng(0).normal(size=(50, 6))
        assert (sample(logits, np.full(50, 0.5), temperature=1e-4) == logits.argmax(-1)).all()

    def test_refuses_a_negative_temperature(self):
        with pytest.raises(ValueError, match="at least 0, got -1"):
            sample(np.zeros(3), np.asarray(0.5), temperature=-1)
