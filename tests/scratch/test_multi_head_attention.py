"""Properties of ``scratch.multi_head_attention``, judged by PyTorch's layer, Llama's, loops and gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as torch_attention

from scratch.attention import causal_mask, padding_mask
from scratch.multi_head_attention import (
    GroupedQueryAttention,
    MultiHeadAttention,
    count_parameters,
    merge_heads,
    split_heads,
)
from scratch.reach import gradient_reach

sizes = st.integers(1, 5)
leading = st.sampled_from([(), (3,), (2, 3)])
seeds = st.integers(0, 2**31 - 1)
quick = settings(max_examples=30, deadline=None)
MAPS = ("query", "key", "value", "output")


def draw(seed, *shape, **options):
    """Return a float64 tensor drawn from the seed."""
    options = {"dtype": torch.float64} | options
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), **options)


def layer_of(kind, *sizes, seed=0, **options):
    """Return a layer in float64 with random weights and, where there are any, random biases."""
    layer = kind(*sizes, **options).double()
    for i, weight in enumerate(layer.parameters()):
        weight.data = draw(seed + i, *weight.shape) / weight.shape[-1] ** 0.5
    return layer


def torch_twin(layer):
    """Return PyTorch's own layer with the same weights."""
    D, bias = layer.query.in_features, layer.query.bias is not None
    twin = nn.MultiheadAttention(D, layer.heads, bias=bias, batch_first=True, dtype=torch.float64)
    stacked = [layer.get_submodule(name) for name in MAPS[:3]]
    state = {
        "in_proj_weight": torch.cat([part.weight for part in stacked]),
        "out_proj.weight": layer.output.weight,
    }
    if bias:
        state |= {
            "in_proj_bias": torch.cat([part.bias for part in stacked]),
            "out_proj.bias": layer.output.bias,
        }
    twin.load_state_dict({name: value.detach() for name, value in state.items()})
    return twin


def allowed_by(mask, B):
    """Where output [b, t] may depend on x[c, s] under a mask (B, T, T): by keys, and by its own query."""
    T = mask.shape[-1]
    allowed = torch.zeros(B, T, B, T, dtype=torch.bool)
    for b in range(B):
        allowed[b, :, b] = mask[b] | torch.eye(T, dtype=torch.bool)
    return allowed


def reach_of(layer, x, *rest):
    """Return (B, T, B, S): how strongly each output row depends on each row of x."""
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x, *rest), x)  # (B, T, D, B, S, D)
    return jacobian.norm(dim=(2, 5))


class TestHeads:
    @quick
    @given(leading, sizes, sizes, sizes, seeds)
    def test_head_h_holds_the_features_from_h_times_k_on(self, lead, T, H, K, seed):
        x = draw(seed, *lead, T, H * K)
        heads = split_heads(x, H)
        assert heads.shape == (*lead, H, T, K)
        for h in range(H):
            assert torch.equal(heads[..., h, :, :], x[..., h * K : (h + 1) * K])

    @quick
    @given(leading, sizes, sizes, sizes, seeds)
    def test_merging_undoes_splitting_and_splitting_merging(self, lead, T, H, K, seed):
        x, heads = draw(seed, *lead, T, H * K), draw(seed, *lead, H, T, K)
        assert torch.equal(merge_heads(split_heads(x, H)), x)
        assert torch.equal(split_heads(merge_heads(heads), H), heads)

    def test_width_that_heads_cannot_share_is_refused(self):
        for call in (
            lambda: split_heads(torch.zeros(2, 6), 4),
            lambda: MultiHeadAttention(6, 4),
            lambda: GroupedQueryAttention(6, 4, 2),
        ):
            with pytest.raises(ValueError, match=r"\b6.*4|4.*\b6"):
                call()

    def test_groups_that_do_not_divide_the_heads_are_refused(self):
        with pytest.raises(ValueError, match="4 heads, 3 groups"):
            GroupedQueryAttention(8, 4, 3)


class TestMultiHeadAttention:
    B, T, S, D, H = 2, 4, 5, 6, 3

    @pytest.mark.parametrize("bias", [True, False])
    def test_sub_modules_are_the_contract(self, bias):
        D = self.D
        shapes = {f"{name}.weight": (D, D) for name in MAPS} | (
            {f"{name}.bias": (D,) for name in MAPS} if bias else {}
        )
        state = MultiHeadAttention(D, self.H, bias=bias).state_dict()
        assert {name: tuple(value.shape) for name, value in state.items()} == shapes

    @pytest.mark.parametrize("kind", ["none", "padding", "causal", "additive"])
    @pytest.mark.parametrize("cross", [False, True])
    @pytest.mark.parametrize("bias", [True, False])
    def test_agrees_with_pytorch_in_values_and_gradients(self, kind, cross, bias):
        B, T, D, H = self.B, self.T, self.D, self.H
        S = self.S if cross else T
        layer = layer_of(MultiHeadAttention, D, H, bias=bias)
        twin = torch_twin(layer)
        ours, theirs = (
            [draw(n, B, size, D).requires_grad_() for n, size in ((7, T), (8, S))] for _ in range(2)
        )
        ours, theirs = (pair if cross else [pair[0], pair[0]] for pair in (ours, theirs))
        mask = {
            "none": None,
            "padding": padding_mask(torch.tensor([S, S - 2]), S),  # (B, 1, S)
            "causal": torch.ones(T, S, dtype=torch.bool).tril(),  # (T, S)
            "additive": draw(9, B, T, S).masked_fill(draw(10, B, T, S) > 1, -math.inf),
        }[kind]
        options = {}
        if kind == "padding":
            options["key_padding_mask"] = ~mask[:, 0]  # True is forbidden there
        elif kind == "causal":
            options["attn_mask"] = ~mask
        elif kind == "additive":
            options["attn_mask"] = mask.repeat_interleave(H, dim=0)  # (B·H, T, S)
        expected, _ = twin(theirs[0], theirs[1], theirs[1], **options)
        output = layer(ours[0], ours[1] if cross else None, mask)
        torch.testing.assert_close(output, expected)

        given = draw(11, B, T, D)
        (output * given).sum().backward()
        (expected * given).sum().backward()
        for one, two in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one.grad, two.grad)
        stacked = torch.cat([layer.get_submodule(name).weight.grad for name in MAPS[:3]])
        torch.testing.assert_close(stacked, twin.in_proj_weight.grad)
        torch.testing.assert_close(layer.output.weight.grad, twin.out_proj.weight.grad)

    def test_one_head_is_plain_attention(self):
        layer, x = layer_of(MultiHeadAttention, 5, 1, bias=False), draw(1, 2, 4, 5)
        found = torch_attention(layer.query(x), layer.key(x), layer.value(x))
        torch.testing.assert_close(layer(x), layer.output(found))

    def test_mask_means_sequences_and_not_heads_where_there_are_as_many_of_both(self):
        layer, x = layer_of(MultiHeadAttention, 6, 3), draw(1, 3, 4, 6)
        mask = padding_mask(torch.tensor([4, 2, 1]), 4).expand(3, 4, 4)  # B = H = 3
        alone = torch.cat([layer(x[b : b + 1], mask=mask[b : b + 1]) for b in range(3)])
        torch.testing.assert_close(layer(x, mask=mask), alone)

    @pytest.mark.parametrize("shape", [(5,), (4, 5), (1, 4, 5), (2, 1, 5), (2, 4, 1)])
    def test_every_mask_that_broadcasts_holds_for_all_heads(self, shape):
        layer, x, memory = layer_of(MultiHeadAttention, 6, 3), draw(1, 2, 4, 6), draw(2, 2, 5, 6)
        mask = draw(3, *shape) > -0.5
        torch.testing.assert_close(
            layer(x, memory, mask), layer(x, memory, mask.expand(2, 4, 5).contiguous())
        )

    def test_gradient_reaches_what_the_mask_permits_and_nothing_else(self):
        layer, x = layer_of(MultiHeadAttention, self.D, self.H), draw(1, self.B, self.T, self.D)
        mask = causal_mask(self.T) & padding_mask(torch.tensor([4, 2]), self.T)
        assert torch.equal(reach_of(layer, x, None, mask) > 0, allowed_by(mask, self.B))

    def test_gradient_reaches_the_memory_that_the_mask_permits(self):
        layer, x, memory = layer_of(MultiHeadAttention, 6, 3), draw(1, 2, 4, 6), draw(2, 2, 5, 6)
        mask = padding_mask(torch.tensor([5, 3]), 5).expand(2, 4, 5)
        jacobian = torch.autograd.functional.jacobian(lambda memory: layer(x, memory, mask), memory)
        reach = jacobian.norm(dim=(2, 5)) > 0  # (B, T, B, S)
        for b in range(2):
            assert torch.equal(reach[b, :, b], mask[b])
            assert not reach[b, :, 1 - b].any()

    def test_what_a_head_finds_depends_on_its_own_slice_alone(self):
        H, K = 3, 2
        layer = layer_of(MultiHeadAttention, H * K, H, bias=False)
        for name in MAPS:
            layer.get_submodule(name).weight.data = torch.eye(H * K, dtype=torch.float64)
        x = draw(1, 4, H * K)
        reach = gradient_reach(lambda columns: layer(columns.T[None])[0].T, x.T)  # (D, D): feature by feature
        assert torch.equal(reach > 0, torch.block_diag(*[torch.ones(K, K)] * H).bool())

    def test_empty_sentence_brings_the_bias_and_trains(self):
        layer, x = layer_of(MultiHeadAttention, self.D, self.H), draw(1, self.B, self.T, self.D)
        output = layer(x, mask=padding_mask(torch.tensor([4, 0]), self.T))
        output.square().sum().backward()
        torch.testing.assert_close(output[1], layer.output.bias.expand(self.T, self.D))
        assert all(weight.grad.isfinite().all() for weight in layer.parameters())


class TestCountParameters:
    @quick
    @given(sizes, sizes, sizes, st.booleans())
    def test_counts_what_the_layers_have(self, G, share, K, bias):
        H = G * share
        layer = MultiHeadAttention(H * K, H, bias=bias)
        assert count_parameters(H * K, H, bias=bias) == sum(p.numel() for p in layer.parameters())
        grouped = GroupedQueryAttention(H * K, H, G)
        assert count_parameters(H * K, H, G, bias=False) == sum(p.numel() for p in grouped.parameters())

    def test_heads_are_free(self):
        assert {count_parameters(512, heads) for heads in (1, 2, 8, 512)} == {4 * 512 * 513}


class TestGroupedQueryAttention:
    @quick
    @given(sizes, sizes, sizes, sizes, seeds)
    def test_agrees_with_pytorch(self, G, share, K, T, seed):
        H = G * share
        layer = layer_of(GroupedQueryAttention, H * K, H, G, seed=seed)
        x = draw(seed, 2, T, H * K)
        parts = ((layer.query, H), (layer.key, G), (layer.value, G))
        query, key, value = (part(x).view(2, T, count, K).transpose(1, 2) for part, count in parts)
        found = torch_attention(query, key, value, is_causal=True, enable_gqa=True)
        expected = layer.output(found.transpose(1, 2).flatten(2))
        torch.testing.assert_close(layer(x, causal_mask(T)), expected)

    @pytest.mark.parametrize("groups", [1, 2, 4])
    def test_agrees_with_llamas_attention_in_values_and_gradients(self, groups):
        from transformers.models.llama.configuration_llama import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaAttention

        B, T, D, H = 2, 5, 12, 4
        config = LlamaConfig(hidden_size=D, num_attention_heads=H, num_key_value_heads=groups)
        config._attn_implementation = "sdpa"  # the eager form rounds its softmax to float32
        theirs = LlamaAttention(config, layer_idx=0).double()
        layer = layer_of(GroupedQueryAttention, D, H, groups)
        names = dict(zip(MAPS, ("q_proj", "k_proj", "v_proj", "o_proj"), strict=True))
        state = {f"{names[name]}.weight": layer.get_submodule(name).weight.detach() for name in MAPS}
        theirs.load_state_dict(state)

        mask = causal_mask(T) & padding_mask(torch.tensor([T, 3]), T)  # (B, T, T)
        additive = torch.zeros(B, 1, T, T, dtype=torch.float64).masked_fill(~mask[:, None], -math.inf)
        still = (torch.ones(B, T, D // H).double(), torch.zeros(B, T, D // H).double())  # no rotation
        x, y = draw(1, B, T, D).requires_grad_(), draw(1, B, T, D).requires_grad_()
        output, (expected, _) = layer(x, mask), theirs(y, still, additive)
        torch.testing.assert_close(output, expected)

        given = draw(2, B, T, D)
        (output * given).sum().backward()
        (expected * given).sum().backward()
        torch.testing.assert_close(x.grad, y.grad)
        for name in MAPS:
            grads = [part.weight.grad for part in (layer.get_submodule(name), getattr(theirs, names[name]))]
            torch.testing.assert_close(*grads)

    def test_as_many_groups_as_heads_are_multi_head_attention(self):
        layer = layer_of(GroupedQueryAttention, 6, 3, 3)
        full = MultiHeadAttention(6, 3, bias=False).double()
        full.load_state_dict(layer.state_dict())
        x = draw(1, 2, 4, 6)
        torch.testing.assert_close(layer(x), full(x))

    @pytest.mark.parametrize("shape", [(4,), (4, 4), (1, 4, 4), (2, 1, 4)])
    def test_every_mask_that_broadcasts_holds_for_all_heads(self, shape):
        layer, x = layer_of(GroupedQueryAttention, 8, 4, 2), draw(1, 2, 4, 8)
        mask = draw(3, *shape) > -0.5
        torch.testing.assert_close(layer(x, mask), layer(x, mask.expand(2, 4, 4).contiguous()))

    def test_gradient_reaches_what_the_mask_permits_and_nothing_else(self):
        layer, x = layer_of(GroupedQueryAttention, 8, 4, 2), draw(1, 2, 4, 8)
        mask = causal_mask(4) & padding_mask(torch.tensor([4, 2]), 4)
        assert torch.equal(reach_of(layer, x, mask) > 0, allowed_by(mask, 2))

    def test_a_group_serves_its_own_heads_alone(self):
        H, G, K = 4, 2, 3
        layer, x = layer_of(GroupedQueryAttention, H * K, H, G), draw(1, 1, 5, H * K)
        layer.output.weight.data = torch.eye(H * K, dtype=torch.float64)
        (slope,) = torch.autograd.grad(layer(x)[..., :K].square().sum(), layer.value.weight)  # of head 0
        assert (slope[:K] != 0).all()
        assert (slope[K:] == 0).all()


class TestGradientReach:
    def test_is_the_size_of_each_derivative(self):
        x = draw(1, 3, 2)
        reach = gradient_reach(lambda x: torch.stack([x[0] * 3, x[0] + x[2]]), x)  # (2, 3)
        root = math.sqrt(2)
        torch.testing.assert_close(reach, torch.tensor([[3 * root, 0, 0], [root, 0, root]]).double())
