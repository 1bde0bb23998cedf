"""Properties of ``scratch.layers``, judged by PyTorch's own layers on shared weights, and by gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scratch.attention import causal_mask, padding_mask
from scratch.layers import Encoder, EncoderLayer, FeedForward, LayerNorm, Residual

sizes = st.integers(1, 7)
seeds = st.integers(0, 2**31 - 1)
quick = settings(max_examples=40, deadline=None)
B, T, D, H, WIDE = 2, 5, 8, 2, 12
PLACES = {
    "self_attn.out_proj": "attention.output",
    "linear1": "feed_forward.hidden",
    "linear2": "feed_forward.output",
    "norm1": "attention_residual.norm",
    "norm2": "feed_forward_residual.norm",
}


def draw(seed, *shape, scale=1.0, **options):
    """Return a float64 tensor drawn from the seed."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, **{"dtype": torch.float64} | options)


def randomise(module, seed=0):
    """Draw every parameter anew, norms and biases too, and compute in float64."""
    module.double()
    for i, p in enumerate(module.parameters()):
        p.data = draw(seed + i, *p.shape, scale=0.5)
    return module


def packed(layer):
    """The state of an ``EncoderLayer`` under the names of ``nn.TransformerEncoderLayer``."""
    state = {
        f"{theirs}.{kind}": layer.get_parameter(f"{ours}.{kind}")
        for theirs, ours in PLACES.items()
        for kind in ("weight", "bias")
    }
    for kind in ("weight", "bias"):
        parts = [layer.get_parameter(f"attention.{part}.{kind}") for part in ("query", "key", "value")]
        state[f"self_attn.in_proj_{kind}"] = torch.cat(parts)
    return state


def pytorch_layer(norm_first):
    """PyTorch's layer in training mode without dropout: so it never takes the fast path, which rounds otherwise."""
    return nn.TransformerEncoderLayer(
        D, H, WIDE, dropout=0.0, batch_first=True, norm_first=norm_first, dtype=torch.float64
    )


def masks():
    """Masks of this course (True: may attend) beside what PyTorch's layer takes for them (True: may not)."""
    pad, causal = padding_mask(torch.tensor([T, T - 2]), T), causal_mask(T)
    both = pad & causal
    return [
        (None, {}),
        (pad, {"src_key_padding_mask": ~pad[:, 0]}),
        (causal, {"src_mask": ~causal}),
        (both, {"src_mask": (~both).repeat_interleave(H, dim=0)}),
    ]


def reach_of(function, x):
    """Who can see whom, (B, T, B, T), by the Jacobian."""
    return torch.autograd.functional.jacobian(function, x).norm(dim=(2, 5)) > 0


def permitted(mask):
    """The reach (B, T, B, T) that a mask (B, T, T) permits to layers with residual connections."""
    allowed = torch.zeros(B, T, B, T, dtype=torch.bool)
    for b in range(B):
        step = mask[b] | torch.eye(T, dtype=torch.bool)
        allowed[b, :, b] = torch.linalg.matrix_power(step.double(), T) > 0
    return allowed


class TestLayerNorm:
    @quick
    @given(st.sampled_from([(), (3,), (2, 3)]), sizes, sizes, seeds, st.sampled_from([1e-5, 1e-2]))
    def test_agrees_with_pytorch(self, lead, T, D, seed, eps):
        norm = randomise(LayerNorm(D, eps), seed)
        x = draw(seed, *lead, T, D, scale=10.0 ** (seed % 5 - 3))
        torch.testing.assert_close(norm(x), F.layer_norm(x, (D,), norm.weight, norm.bias, eps))

    def test_starts_as_mean_zero_and_variance_one(self):
        rows = LayerNorm(50)(draw(0, 4, 50, scale=30.0, dtype=torch.float32) + 7)
        torch.testing.assert_close(rows.mean(-1), torch.zeros(4))
        torch.testing.assert_close(rows.var(-1, unbiased=False), torch.ones(4))

    def test_equal_features_give_the_bias_and_a_finite_gradient(self):
        norm = LayerNorm(4)
        x = torch.full((2, 4), 3.0, requires_grad=True)
        out = norm(x)
        (out * torch.arange(8.0).view(2, 4)).sum().backward()
        assert (out == 0).all()
        assert x.grad.isfinite().all()

    def test_stays_exact_far_from_zero(self):
        x = draw(1, 3, 6, dtype=torch.float32).mul(8).round() / 8 + 4096
        expected = F.layer_norm(x.double(), (6,))
        torch.testing.assert_close(LayerNorm(6)(x).double(), expected, atol=1e-4, rtol=1e-4)

    def test_gradients_are_right(self):
        norm = randomise(LayerNorm(4))
        assert torch.autograd.gradcheck(norm, draw(2, 2, 3, 4).requires_grad_())


class TestFeedForward:
    def test_is_two_maps_with_an_activation_between(self):
        for activation in (torch.relu, F.gelu, torch.tanh):
            net = randomise(FeedForward(D, WIDE, activation))
            x = draw(3, B, T, D)
            hidden = activation(F.linear(x, net.hidden.weight, net.hidden.bias))
            torch.testing.assert_close(net(x), F.linear(hidden, net.output.weight, net.output.bias))

    def test_bends_by_relu_unless_told_otherwise(self):
        assert FeedForward(D, WIDE).activation is torch.relu

    def test_treats_every_position_by_itself(self):
        reach = reach_of(randomise(FeedForward(D, WIDE)), draw(4, B, T, D))
        assert torch.equal(reach.flatten(2).flatten(0, 1), torch.eye(B * T, dtype=torch.bool))


class TestResidual:
    @pytest.mark.parametrize("norm_first", [False, True])
    def test_adds_what_the_sublayer_finds(self, norm_first):
        residual = randomise(Residual(D, 0.0, norm_first))
        x = draw(5, B, T, D)

        def norm(x):
            return F.layer_norm(x, (D,), residual.norm.weight, residual.norm.bias)

        expected = x + torch.sin(norm(x)) if norm_first else norm(x + torch.sin(x))
        torch.testing.assert_close(residual(x, torch.sin), expected)

    def test_drops_only_what_the_sublayer_finds_and_only_in_training(self):
        residual = Residual(50, 0.3, norm_first=True)
        x = draw(6, 2, 100, 50, dtype=torch.float32)
        torch.manual_seed(0)
        added = residual(x, torch.ones_like) - x
        dropped = (added.abs() < 1e-5).double()
        torch.testing.assert_close(added[dropped == 0], torch.full_like(added, 1 / 0.7)[dropped == 0])
        assert dropped.mean().item() == pytest.approx(0.3, abs=0.02)
        residual.eval()
        torch.testing.assert_close(residual(x, torch.ones_like), x + 1)


@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
class TestAgainstPyTorch:
    """Values and all gradients on shared weights, under every kind of mask."""

    @pytest.mark.parametrize("case", range(4), ids=["no mask", "padding", "causal", "both"])
    def test_layer(self, norm_first, case):
        mask, theirs = masks()[case]
        ours = randomise(EncoderLayer(D, H, WIDE, 0.0, norm_first))
        reference = pytorch_layer(norm_first)
        reference.load_state_dict(packed(ours))
        self.compare(ours, reference, mask, theirs, [(ours, reference)])

    @pytest.mark.parametrize("case", range(4), ids=["no mask", "padding", "causal", "both"])
    def test_stack(self, norm_first, case):
        mask, theirs = masks()[case]
        ours = randomise(Encoder(D, H, WIDE, 3, 0.0, norm_first))
        last = nn.LayerNorm(D, dtype=torch.float64) if norm_first else None
        reference = nn.TransformerEncoder(pytorch_layer(norm_first), 3, last, enable_nested_tensor=False)
        for one, two in zip(ours.layers, reference.layers, strict=True):
            two.load_state_dict(packed(one))
        if last is not None:
            last.load_state_dict(ours.norm.state_dict())
        theirs = {name.replace("src_mask", "mask"): value for name, value in theirs.items()}
        pairs = list(zip(ours.layers, reference.layers, strict=True))
        self.compare(ours, reference, mask, theirs, pairs)
        if last is not None:
            torch.testing.assert_close(ours.norm.weight.grad, last.weight.grad)

    def compare(self, ours, reference, mask, theirs, layers):
        x, weights = draw(7, B, T, D), draw(8, B, T, D)
        outputs, slopes = [], []
        for model, options in ((ours, {"mask": mask}), (reference, theirs)):
            leaf = x.clone().requires_grad_()
            out = model(leaf, **options)
            (out * weights).sum().backward()
            outputs.append(out.detach())
            slopes.append(leaf.grad)
        torch.testing.assert_close(*outputs)
        torch.testing.assert_close(*slopes)
        for one, two in layers:
            expected = {name: p.grad for name, p in two.named_parameters()}
            for theirs, ours_ in PLACES.items():
                for kind in ("weight", "bias"):
                    found = one.get_parameter(f"{ours_}.{kind}").grad
                    torch.testing.assert_close(found, expected[f"{theirs}.{kind}"])
            for kind in ("weight", "bias"):
                parts = [one.get_parameter(f"attention.{n}.{kind}").grad for n in ("query", "key", "value")]
                torch.testing.assert_close(torch.cat(parts), expected[f"self_attn.in_proj_{kind}"])


@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
class TestEncoder:
    def test_gradient_reaches_what_the_mask_permits_and_nothing_else(self, norm_first):
        mask = causal_mask(T) & padding_mask(torch.tensor([T, T - 2]), T)  # (B, T, T)
        encoder = randomise(Encoder(D, H, WIDE, 2, 0.0, norm_first))
        reach = reach_of(lambda x: encoder(x, mask), draw(9, B, T, D))
        assert torch.equal(reach, permitted(mask))

    def test_a_boolean_mask_is_an_additive_one(self, norm_first):
        mask = causal_mask(T)
        additive = torch.zeros(T, T, dtype=torch.float64).masked_fill(~mask, -math.inf)
        encoder, x = randomise(Encoder(D, H, WIDE, 2, 0.0, norm_first)), draw(10, B, T, D)
        torch.testing.assert_close(encoder(x, mask), encoder(x, additive))

    def test_layers_have_weights_of_their_own(self, norm_first):
        encoder = Encoder(D, H, WIDE, 3, norm_first=norm_first)
        one = sum(p.numel() for p in EncoderLayer(D, H, WIDE).parameters())
        assert sum(p.numel() for p in encoder.parameters()) == 3 * one + norm_first * 2 * D
        first, second, _ = encoder.layers
        assert not torch.equal(first.attention.query.weight, second.attention.query.weight)

    def test_full_dropout_leaves_the_stream_alone(self, norm_first):
        encoder = randomise(Encoder(D, H, WIDE, 2, 1.0, norm_first))
        x = draw(11, B, T, D)
        expected = x
        if norm_first:
            expected = encoder.norm(expected)
        else:
            for layer in encoder.layers:
                expected = layer.feed_forward_residual.norm(layer.attention_residual.norm(expected))
        torch.testing.assert_close(encoder(x), expected)
        assert not torch.allclose(encoder.eval()(x), expected)
