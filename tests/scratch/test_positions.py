"""Properties of ``scratch.positions``, judged by complex numbers, slow loops, and the models of ``transformers``."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch.attention import causal_mask, scaled_dot_product_attention
from scratch.multi_head_attention import GroupedQueryAttention, merge_heads, split_heads
from scratch.positions import (
    LearnedPositions,
    alibi_bias,
    apply_rope,
    permutation_test,
    rotary_attention,
    sinusoidal_encoding,
)
from scratch.reach import gradient_reach

sizes = st.integers(1, 9)
leading = st.sampled_from([(), (3,), (2, 3)])
seeds = st.integers(0, 2**31 - 1)
bases = st.sampled_from([10.0, 500.0, 10000.0, 500000.0])
quick = settings(max_examples=40, deadline=None)


def draw(seed, *shapes, **options):
    """Return one float64 tensor for each shape, drawn from the seed."""
    generator = torch.Generator().manual_seed(seed)
    options = {"dtype": torch.float64} | options
    return [torch.randn(shape, generator=generator, **options) for shape in shapes]


def turned(x, offset=0, base=10000.0):
    """Turn by multiplication with e^(iθ): features i and i + K/2 are a complex number."""
    half = x.shape[-1] // 2
    z = torch.complex(x[..., :half], x[..., half:])
    position = torch.arange(offset, offset + x.shape[-2], dtype=torch.float64)
    angle = torch.outer(position, base ** (-torch.arange(half, dtype=torch.float64) / max(half, 1)))
    z = z * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], dim=-1)


class TestPermutationTest:
    @quick
    @given(st.integers(2, 8), st.integers(1, 5), seeds)
    def test_is_zero_for_attention_and_for_whatever_acts_row_by_row(self, T, D, seed):
        x, w = draw(seed, (T, D), (D, 3))
        assert permutation_test(lambda x: scaled_dot_product_attention(x, x, x), x, seed) < 1e-12
        assert permutation_test(lambda x: (x @ w).tanh(), x, seed) < 1e-12

    @quick
    @given(st.integers(2, 8), seeds)
    def test_is_never_zero_for_functions_that_see_every_position(self, T, seed):
        (x,) = draw(seed, (T, 3))
        for function in (lambda x: x.cumsum(0), lambda x: x + torch.arange(len(x))[:, None]):
            assert permutation_test(function, x, seed) > 1e-3

    def test_is_the_largest_entry_of_the_difference(self):
        x = torch.tensor([[0.0], [5.0]])
        assert permutation_test(lambda x: x + torch.tensor([[0.0, 1], [2, -6]]), x) == 7

    @pytest.mark.parametrize("T", [2, 3, 4])
    def test_draws_every_permutation_but_the_identity(self, T):
        x = torch.arange(float(T))[:, None]
        seen = set()
        for seed in range(200):
            asked = []
            permutation_test(lambda x, asked=asked: asked.append(tuple(x[:, 0].tolist())) or x, x, seed)
            seen |= set(asked)
        assert len(seen) == math.factorial(T)  # the identity among them: f(x) itself is asked for

    def test_leaves_the_global_generator_and_its_input_alone(self):
        x = torch.randn(5, 3)
        before, state = x.clone(), torch.get_rng_state()
        result = permutation_test(lambda x: x.cumsum(0), x, 4)
        assert type(result) is float
        assert result == permutation_test(lambda x: x.cumsum(0), x, 4)
        assert torch.equal(x, before)
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("rows", [0, 1])
    def test_refuses_what_has_no_order(self, rows):
        with pytest.raises(ValueError, match=f"there are {rows}"):
            permutation_test(lambda x: x, torch.zeros(rows, 3))


class TestSinusoidalEncoding:
    @quick
    @given(sizes, sizes, bases)
    def test_agrees_with_a_loop(self, T, D, base):
        encoding = sinusoidal_encoding(T, D, base)
        assert encoding.shape == (T, D)
        assert encoding.dtype == torch.float32
        for t in range(T):
            for feature in range(D):
                angle = t / base ** (2 * (feature // 2) / D)
                expected = math.cos(angle) if feature % 2 else math.sin(angle)
                assert encoding[t, feature].item() == pytest.approx(expected, abs=1e-6)

    @quick
    @given(st.integers(1, 6), st.integers(0, 50), seeds)
    def test_a_shift_is_a_rotation_that_does_not_depend_on_the_position(self, half, shift, seed):
        encoding = sinusoidal_encoding(100, 2 * half).double()
        sin, cos = encoding[shift, ::2], encoding[shift, 1::2]
        rotation = torch.zeros(2 * half, 2 * half, dtype=torch.float64)
        for i in range(half):
            rotation[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = torch.tensor(
                [[cos[i], sin[i]], [-sin[i], cos[i]]]
            )
        torch.testing.assert_close(
            encoding[:50] @ rotation.T, encoding[shift : shift + 50], atol=1e-5, rtol=0
        )

    def test_stays_exact_far_out(self):
        row = sinusoidal_encoding(100_001, 4)[-1]
        expected = [math.sin(1e5), math.cos(1e5), math.sin(1e3), math.cos(1e3)]
        torch.testing.assert_close(row, torch.tensor(expected), atol=1e-6, rtol=0)


class TestLearnedPositions:
    @pytest.fixture
    def layer(self):
        torch.manual_seed(0)
        return LearnedPositions(7, 3)

    def test_the_parameter_is_the_contract(self, layer):
        assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {"weight": (7, 3)}
        weight = LearnedPositions(300, 100).weight
        assert weight.std().item() == pytest.approx(0.02, rel=0.03)
        assert weight.mean().item() == pytest.approx(0, abs=1e-3)

    @quick
    @given(leading, st.integers(1, 7), seeds, st.data())
    def test_adds_the_vector_of_each_position(self, lead, T, seed, data):
        offset = data.draw(st.integers(0, 7 - T))
        layer = LearnedPositions(7, 3)
        (x,) = draw(seed, (*lead, T, 3))
        found = layer(x, offset) - x
        torch.testing.assert_close(found, layer.weight.double()[offset : offset + T].expand(*lead, T, 3))

    def test_only_the_rows_that_were_used_learn(self, layer):
        layer(torch.zeros(2, 3, 3), offset=2).sum().backward()
        assert layer.weight.grad.tolist() == [[2.0 * (2 <= t < 5)] * 3 for t in range(7)]

    @pytest.mark.parametrize(("length", "offset"), [(8, 0), (3, 5), (1, 7), (2, -1)])
    def test_refuses_positions_without_a_vector(self, layer, length, offset):
        with pytest.raises(ValueError, match="7 positions have a vector"):
            layer(torch.zeros(1, length, 3), offset)


class TestApplyRope:
    @quick
    @given(leading, sizes, st.integers(1, 5), st.integers(0, 5000), bases, seeds)
    def test_agrees_with_complex_multiplication(self, lead, T, half, offset, base, seed):
        (x,) = draw(seed, (*lead, T, 2 * half))
        torch.testing.assert_close(apply_rope(x, offset, base), turned(x, offset, base))

    @quick
    @given(st.integers(1, 5), st.integers(0, 300), st.integers(0, 300), st.integers(0, 1000), seeds)
    def test_dot_products_see_only_the_distance(self, half, t, s, shift, seed):
        q, k = draw(seed, (1, 2 * half), (1, 2 * half))
        here = (apply_rope(q, t) * apply_rope(k, s)).sum()
        there = (apply_rope(q, t + shift) * apply_rope(k, s + shift)).sum()
        torch.testing.assert_close(here, there)

    @quick
    @given(sizes, st.integers(1, 5), seeds)
    def test_rows_keep_their_length_and_read_piecewise_as_in_one(self, T, half, seed):
        (x,) = draw(seed, (T, 2 * half))
        whole = apply_rope(x)
        torch.testing.assert_close(whole.norm(dim=-1), x.norm(dim=-1))
        pieces = [apply_rope(x[t : t + 1], offset=t) for t in range(T)]
        torch.testing.assert_close(torch.cat(pieces), whole)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    def test_keeps_the_dtype_and_counts_beyond_what_it_can(self, dtype):
        (x,) = draw(0, (5, 8), dtype=dtype)
        result = apply_rope(x, offset=3001)
        assert result.dtype == dtype
        tolerance = {torch.float64: 1e-9, torch.float32: 1e-5}.get(dtype, 0.03)
        torch.testing.assert_close(
            result.double(), turned(x.double(), offset=3001), atol=tolerance, rtol=tolerance
        )

    def test_gradients_are_right_and_rows_do_not_meet(self):
        (x,) = draw(1, (2, 3, 4), requires_grad=True)
        assert torch.autograd.gradcheck(apply_rope, (x,))
        reach = gradient_reach(apply_rope, x[0].detach())
        assert torch.equal(reach > 0, torch.eye(3, dtype=torch.bool))

    def test_refuses_an_odd_width(self):
        with pytest.raises(ValueError, match="width of 5"):
            apply_rope(torch.zeros(2, 5))


class TestRotaryAttention:
    @quick
    @given(leading, sizes, sizes, st.integers(1, 4), sizes, st.integers(0, 40), seeds)
    def test_is_attention_with_turned_queries_and_keys(self, lead, T, S, half, V, offset, seed):
        query, key, value = draw(seed, (*lead, T, 2 * half), (*lead, S, 2 * half), (*lead, S, V))
        expected = scaled_dot_product_attention(turned(query, offset), turned(key), value)
        torch.testing.assert_close(rotary_attention(query, key, value, offset=offset), expected)

    def test_word_by_word_as_all_at_once(self):
        query, key, value = draw(3, (2, 6, 4), (2, 6, 4), (2, 6, 3))
        whole = rotary_attention(query, key, value, causal_mask(6))
        for t in range(6):
            step = rotary_attention(query[:, t : t + 1], key[:, : t + 1], value[:, : t + 1], offset=t)
            torch.testing.assert_close(step, whole[:, t : t + 1])

    def test_sees_order_but_not_where_the_sequence_begins(self):
        (x,) = draw(4, (5, 4))
        assert permutation_test(lambda x: rotary_attention(x, x, x), x) > 1e-2
        longer = torch.cat([x, x])
        late = torch.zeros(10, 10, dtype=torch.bool)
        late[:, 5:] = True
        torch.testing.assert_close(
            rotary_attention(longer, longer, longer, late)[5:], rotary_attention(x, x, x)
        )


class TestAlibiBias:
    @pytest.mark.parametrize("heads", [1, 2, 4, 8, 16])
    @pytest.mark.parametrize("length", [1, 2, 7])
    def test_agrees_with_a_loop(self, heads, length):
        bias = alibi_bias(heads, length)
        assert bias.shape == (heads, length, length)
        assert bias.dtype == torch.float32
        for h in range(heads):
            slope = 2 ** (-8 * (h + 1) / heads)
            for t in range(length):
                for s in range(length):
                    expected = -slope * (t - s) if s <= t else -math.inf
                    assert bias[h, t, s].item() == pytest.approx(expected)

    def test_an_attention_with_it_is_causal(self):
        (x,) = draw(5, (6, 4))
        for bias in alibi_bias(2, 6).double():
            reach = gradient_reach(lambda x, bias=bias: scaled_dot_product_attention(x, x, x, bias), x)
            assert torch.equal(reach > 0, causal_mask(6))

    @pytest.mark.parametrize("heads", [-4, -1, 0, 3, 6, 12])
    def test_refuses_what_is_no_power_of_two(self, heads):
        with pytest.raises(ValueError, match=f"not for {heads}"):
            alibi_bias(heads, 4)


class TestAgainstTransformers:
    """The same numbers as published models compute, weight for weight."""

    @pytest.mark.parametrize("base", [10000.0, 500000.0])
    @pytest.mark.parametrize("offset", [0, 1000])
    def test_rotation_is_that_of_llama(self, base, offset):
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

        config = LlamaConfig(
            hidden_size=32,
            num_attention_heads=4,
            rope_parameters={"rope_type": "default", "rope_theta": base},
        )
        query, key = draw(6, (2, 4, 5, 8), (2, 2, 5, 8), dtype=torch.float32)
        cos, sin = LlamaRotaryEmbedding(config)(query, torch.arange(offset, offset + 5)[None])
        expected = apply_rotary_pos_emb(query, key, cos, sin)
        found = apply_rope(query, offset, base), apply_rope(key, offset, base)
        torch.testing.assert_close(found, expected, atol=2e-4 if offset else 1e-6, rtol=1e-5)

    def test_attention_layer_of_llama_value_for_value_and_gradient_for_gradient(self):
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

        D, H, G, B, T = 24, 6, 2, 2, 7
        config = LlamaConfig(
            hidden_size=D, num_attention_heads=H, num_key_value_heads=G, attn_implementation="eager"
        )
        torch.manual_seed(0)
        theirs, ours = LlamaAttention(config, layer_idx=0), GroupedQueryAttention(D, H, G)
        names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
        ours.load_state_dict(
            {f"{name}.weight": getattr(theirs, other).weight for name, other in names.items()}
        )

        def attend(x):
            query = split_heads(ours.query(x), H)  # (B, H, T, K)
            key, value = (
                split_heads(part, G).repeat_interleave(H // G, dim=-3)
                for part in (ours.key(x), ours.value(x))
            )
            return ours.output(merge_heads(rotary_attention(query, key, value, causal_mask(T))))

        x, weights = draw(7, (B, T, D), (B, T, D), dtype=torch.float32)
        places = LlamaRotaryEmbedding(config)(x, torch.arange(T)[None])
        blocked = torch.full((T, T), -torch.inf).triu(1)[None, None]
        results = []
        for function in (attend, lambda x: theirs(x, places, blocked)[0]):
            given = x.clone().requires_grad_()
            out = function(given)
            (out * weights).sum().backward()
            results.append((out, given.grad))
        torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)
        for name, other in names.items():
            found, expected = getattr(ours, name).weight.grad, getattr(theirs, other).weight.grad
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("heads", [1, 4, 8])
    def test_bias_is_that_of_bloom_up_to_a_number_for_each_row(self, heads):
        from transformers.models.bloom.modeling_bloom import build_alibi_tensor

        T = 9
        theirs = build_alibi_tensor(torch.ones(1, T, dtype=torch.int64), heads, torch.float32)  # (H, 1, T)
        ours = alibi_bias(heads, T)
        past = causal_mask(T)
        difference = (theirs - ours).masked_fill(~past, 0.0)
        expected = (
            difference[:, :, :1].expand_as(difference).masked_fill(~past, 0.0)
        )  # its first entry: m · t
        torch.testing.assert_close(difference, expected, atol=1e-5, rtol=1e-5)
        scores = draw(8, (heads, T, T), dtype=torch.float32)[0].masked_fill(~past, -torch.inf)
        torch.testing.assert_close((scores + theirs).softmax(-1), (scores + ours).softmax(-1))
