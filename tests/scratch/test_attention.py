"""Properties of ``scratch.attention``, judged by PyTorch's own operator, a slow loop, and gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention as torch_attention

from scratch.attention import (
    SelfAttention,
    attention_scores,
    attention_weights,
    causal_mask,
    padding_mask,
    scaled_dot_product_attention,
)

sizes = st.integers(1, 7)
leading = st.sampled_from([(), (3,), (2, 3)])
seeds = st.integers(0, 2**31 - 1)
quick = settings(max_examples=40, deadline=None)


def draw(seed, *shapes, scale=1.0, **options):
    """Return one float64 tensor for each shape, drawn from the seed."""
    generator = torch.Generator().manual_seed(seed)
    options = {"dtype": torch.float64} | options
    return [scale * torch.randn(shape, generator=generator, **options) for shape in shapes]


def draw_mask(seed, *shape, keep_one=False):
    """Return a random boolean mask; with ``keep_one`` every row permits at least one key."""
    generator = torch.Generator().manual_seed(seed + 1)
    mask = torch.rand(shape, generator=generator) < 0.6
    if keep_one:
        mask[..., 0] |= ~mask.any(dim=-1)
    return mask


def additive(mask, dtype=torch.float64):
    """Return the additive form of a boolean mask."""
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, -math.inf)


def slow_attention(query, key, value, mask):
    """Attend in plain Python: one query, one permitted key at a time (no batch)."""
    output = torch.zeros(len(query), value.shape[1], dtype=value.dtype)
    for t in range(len(query)):
        permitted = [s for s in range(len(key)) if mask[t, s]]
        scores = [
            sum(a * b for a, b in zip(query[t].tolist(), key[s].tolist(), strict=True)) for s in permitted
        ]
        shares = [math.exp(score / math.sqrt(query.shape[1])) for score in scores]
        for share, s in zip(shares, permitted, strict=True):
            output[t] += share / sum(shares) * value[s]
    return output


class TestAttentionScores:
    @quick
    @given(leading, sizes, sizes, sizes, seeds)
    def test_are_dot_products_over_root_k(self, lead, T, S, K, seed):
        query, key = draw(seed, (*lead, T, K), (*lead, S, K))
        expected = torch.einsum("...tk,...sk->...ts", query, key) / K**0.5
        torch.testing.assert_close(attention_scores(query, key), expected)

    def test_keep_variance_one_at_any_width(self):
        for K in (4, 64, 512):
            query, key = draw(K, (400, K), (500, K))
            assert attention_scores(query, key).var().item() == pytest.approx(1, abs=0.1)


class TestAttentionWeights:
    @quick
    @given(leading, sizes, sizes, seeds)
    def test_rows_sum_to_one_or_are_empty(self, lead, T, S, seed):
        (scores,) = draw(seed, (*lead, T, S), scale=4)
        mask = draw_mask(seed, *lead, T, S)
        weights = attention_weights(scores, mask)
        torch.testing.assert_close(weights.sum(dim=-1), mask.any(dim=-1).double())
        assert (weights[~mask] == 0).all()
        assert (weights >= 0).all()

    @quick
    @given(leading, sizes, sizes, seeds)
    def test_boolean_and_additive_masks_agree(self, lead, T, S, seed):
        (scores,) = draw(seed, (*lead, T, S))
        mask = draw_mask(seed, *lead, T, S)
        assert torch.equal(attention_weights(scores, mask), attention_weights(scores, additive(mask)))

    @quick
    @given(sizes, sizes, seeds)
    def test_finite_additive_mask_is_added(self, T, S, seed):
        scores, bias = draw(seed, (2, T, S), (T, S))
        torch.testing.assert_close(attention_weights(scores, bias), torch.softmax(scores + bias, dim=-1))

    @pytest.mark.parametrize("form", [torch.Tensor.bool, additive], ids=["boolean", "additive"])
    def test_empty_row_is_zero_with_zero_gradient(self, form):
        scores = torch.tensor([[1.0, 2, 3], [4, 5, 6]], dtype=torch.float64, requires_grad=True)
        mask = torch.tensor([[False, False, False], [True, False, True]])
        weights = attention_weights(scores, form(mask))
        (weights * torch.tensor([1.0, 2, 3])).sum().backward()
        assert (weights[0] == 0).all()
        assert (scores.grad[0] == 0).all()
        assert scores.grad.isfinite().all()
        assert (scores.grad[1, [0, 2]] != 0).all()

    def test_huge_scores_stay_finite(self):
        weights = attention_weights(torch.tensor([[1000.0, 999.0, -1000.0]]))
        torch.testing.assert_close(weights, torch.tensor([[1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0.0]]))

    @pytest.mark.parametrize("shape", [(5,), (1, 5), (4, 5), (2, 1, 5), (1, 4, 5), (2, 4, 1)])
    def test_masks_broadcast(self, shape):
        (scores,) = draw(0, (2, 4, 5))
        mask = draw_mask(3, *shape)
        full = mask.broadcast_to(scores.shape)
        assert torch.equal(attention_weights(scores, mask), attention_weights(scores, full))

    def test_nothing_is_mutated(self):
        (scores,) = draw(1, (2, 4, 5))
        for mask in (draw_mask(1, 4, 5), additive(draw_mask(1, 4, 5))):
            before = scores.clone(), mask.clone()
            attention_weights(scores, mask)
            assert torch.equal(scores, before[0])
            assert torch.equal(mask, before[1])


class TestScaledDotProductAttention:
    @quick
    @given(leading, sizes, sizes, sizes, sizes, seeds, st.sampled_from(["none", "boolean", "additive"]))
    def test_agrees_with_pytorch(self, lead, T, S, K, V, seed, kind):
        query, key, value = draw(seed, (*lead, T, K), (*lead, S, K), (*lead, S, V))
        mask = draw_mask(seed, *lead, T, S, keep_one=True)
        mask = {"none": None, "boolean": mask, "additive": additive(mask)}[kind]
        expected = torch_attention(query, key, value, attn_mask=mask)
        torch.testing.assert_close(scaled_dot_product_attention(query, key, value, mask), expected)

    @settings(max_examples=15, deadline=None)
    @given(sizes, sizes, sizes, sizes, seeds)
    def test_agrees_with_a_slow_loop_even_on_empty_rows(self, T, S, K, V, seed):
        query, key, value = draw(seed, (T, K), (S, K), (S, V))
        mask = draw_mask(seed, T, S)
        expected = slow_attention(query, key, value, mask)
        torch.testing.assert_close(scaled_dot_product_attention(query, key, value, mask), expected)

    @pytest.mark.parametrize("form", [torch.Tensor.bool, additive], ids=["boolean", "additive"])
    def test_gradients_are_right_with_an_empty_row(self, form):
        inputs = draw(5, (2, 3, 2), (2, 4, 2), (2, 4, 5), requires_grad=True)
        mask = draw_mask(5, 2, 3, 4)
        mask[0, 1] = False
        assert torch.autograd.gradcheck(
            lambda q, k, v: scaled_dot_product_attention(q, k, v, form(mask)), inputs
        )

    @quick
    @given(sizes, sizes, seeds)
    def test_output_lies_between_the_values(self, T, S, seed):
        query, key, value = draw(seed, (T, 3), (S, 3), (S, 2))
        output = scaled_dot_product_attention(query, key, value)
        assert (output <= value.amax(dim=0) + 1e-9).all()
        assert (output >= value.amin(dim=0) - 1e-9).all()

    def test_keys_and_values_may_be_shuffled_together(self):
        query, key, value = draw(6, (4, 3), (5, 3), (5, 2))
        order = torch.tensor([3, 0, 4, 2, 1])
        output = scaled_dot_product_attention(query, key, value)
        torch.testing.assert_close(scaled_dot_product_attention(query, key[order], value[order]), output)


class TestPaddingMask:
    @quick
    @given(
        st.lists(st.integers(0, 9), min_size=1, max_size=5),
        st.integers(0, 3),
        st.sampled_from([torch.int64, torch.int32]),
    )
    def test_marks_as_many_as_there_are_tokens(self, lengths, extra, dtype):
        size = max(lengths) + extra
        mask = padding_mask(torch.tensor(lengths, dtype=dtype), size)
        assert mask.shape == (len(lengths), 1, size)
        assert mask.dtype == torch.bool
        assert mask[:, 0].tolist() == [[True] * n + [False] * (size - n) for n in lengths]

    @pytest.mark.parametrize("lengths", [[-1, 2], [2, 4]])
    def test_refuses_impossible_lengths(self, lengths):
        with pytest.raises(ValueError, match="between 0 and size=3"):
            padding_mask(torch.tensor(lengths), 3)


class TestCausalMask:
    @pytest.mark.parametrize("size", [0, 1, 2, 5])
    def test_permits_what_came_before(self, size):
        mask = causal_mask(size)
        assert mask.dtype == torch.bool
        assert mask.tolist() == [[s <= t for s in range(size)] for t in range(size)]


class TestSelfAttention:
    B, T, D, K, V = 2, 5, 6, 4, 3

    @pytest.fixture
    def layer(self):
        torch.manual_seed(0)
        return SelfAttention(self.D, self.K, self.V).double()

    @pytest.fixture
    def x(self):
        return draw(1, (self.B, self.T, self.D))[0]

    def test_sub_modules_are_the_contract(self, layer):
        shapes = {name: tuple(weight.shape) for name, weight in layer.state_dict().items()}
        K, D, V = self.K, self.D, self.V
        assert shapes == {"query.weight": (K, D), "key.weight": (K, D), "value.weight": (V, D)}

    def test_agrees_with_pytorch_on_its_own_projections(self, layer, x):
        mask = causal_mask(self.T)
        expected = torch_attention(layer.query(x), layer.key(x), layer.value(x), attn_mask=mask)
        torch.testing.assert_close(layer(x, mask), expected)

    def test_is_permutation_equivariant(self, layer, x):
        order = torch.tensor([3, 0, 4, 2, 1])
        torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])

    def test_gradient_reaches_what_the_mask_permits_and_nothing_else(self, layer, x):
        mask = causal_mask(self.T) & padding_mask(torch.tensor([5, 3]), self.T)  # (B, T, T)
        jacobian = torch.autograd.functional.jacobian(lambda x: layer(x, mask), x)  # (B, T, V, B, T, D)
        reach = jacobian.norm(dim=(2, 5))  # (B, T, B, T)
        permitted = mask | torch.eye(self.T, dtype=torch.bool)  # every position also depends on its own query
        for b in range(self.B):
            for other in range(self.B):
                expected = permitted[b] if b == other else torch.zeros_like(permitted[b])
                assert torch.equal(reach[b, :, other] > 0, expected)

    def test_empty_sentence_is_zero_and_trains(self, layer, x):
        output = layer(x, padding_mask(torch.tensor([5, 0]), self.T))
        output.square().sum().backward()
        assert (output[1] == 0).all()
        assert all(weight.grad.isfinite().all() and (weight.grad != 0).any() for weight in layer.parameters())
