"""Checks of unit 11, second half: the encoder layer and the stack.

The judge is PyTorch's own layer with the same weights. It is left in training mode, without dropout: in evaluation mode
it may take a fast path that rounds otherwise. Its convention for boolean masks is the opposite of the course's (True
forbids), and its query, key and value maps are one packed matrix.
"""

import re
from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from proctor import expect
from proctor.proxies import generate

DOUBLE = torch.float64
INF = float("inf")
ALL = 1 - 1e-9  # as a dropout: everything, for code too that divides by 1 − p
ATTENTION = ("query", "key", "value", "output")
NORMS = {"n1": "attention_residual.norm", "n2": "feed_forward_residual.norm"}
THEIRS = {
    "self_attn.out_proj": "attention.output",
    "linear1": "feed_forward.hidden",
    "linear2": "feed_forward.output",
    "norm1": "attention_residual.norm",
    "norm2": "feed_forward_residual.norm",
}


def layer_shapes(D, wide, prefix=""):
    """The parameters of one layer, by name."""
    shapes = {}
    for name in ATTENTION:
        shapes |= {f"attention.{name}.weight": (D, D), f"attention.{name}.bias": (D,)}
    shapes |= {"feed_forward.hidden.weight": (wide, D), "feed_forward.hidden.bias": (wide,)}
    shapes |= {"feed_forward.output.weight": (D, wide), "feed_forward.output.bias": (D,)}
    for name in NORMS.values():
        shapes |= {f"{name}.weight": (D,), f"{name}.bias": (D,)}
    return {prefix + name: shape for name, shape in shapes.items()}


def drawn(rng, shapes):
    """Weights of these shapes: matrices that keep sizes, vectors of which none is near zero or one."""
    weights = {}
    for name, shape in shapes.items():
        weight = rng.tensor(*shape, scale=shape[-1] ** -0.5 if len(shape) > 1 else 0.6)
        weights[name] = weight if len(shape) > 1 else weight + 0.4 * weight.sign()
    return weights


def below(weights, prefix):
    """The weights whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


def setting(rng):
    """Width, heads, inner width, batch, length: all different, and heads that divide the width."""
    D, H = ((6, 3), (6, 2), (8, 2), (8, 4), (9, 3))[rng.integers(5)]
    wide, B, T = [n for n in rng.distinct(8, low=2, high=9) if n not in (D, H, D // H)][:3]
    return D, H, wide, B, T


def pytorch_layer(D, heads, wide, norm_first, weights):
    """PyTorch's own layer, in float64, with these weights."""
    layer = nn.TransformerEncoderLayer(
        D, heads, wide, dropout=0.0, batch_first=True, norm_first=norm_first, dtype=DOUBLE
    )
    layer.load_state_dict(packed(weights))
    return layer


def packed(weights):
    """The weights under the names of PyTorch's layer."""
    state = {
        f"{one}.{kind}": weights[f"{two}.{kind}"]
        for one, two in THEIRS.items()
        for kind in ("weight", "bias")
    }
    for kind in ("weight", "bias"):
        parts = [weights[f"attention.{part}.{kind}"] for part in ATTENTION[:3]]
        state[f"self_attn.in_proj_{kind}"] = torch.cat(parts)
    return state


def pytorch_stack(D, heads, wide, layers, norm_first, weights):
    """PyTorch's own stack, in float64, with these weights."""
    last = nn.LayerNorm(D, dtype=DOUBLE) if norm_first else None
    one = nn.TransformerEncoderLayer(
        D, heads, wide, dropout=0.0, batch_first=True, norm_first=norm_first, dtype=DOUBLE
    )
    stack = nn.TransformerEncoder(one, layers, last, enable_nested_tensor=False)
    for i, layer in enumerate(stack.layers):
        layer.load_state_dict(packed(below(weights, f"layers.{i}.")))
    if last is not None:
        last.load_state_dict(below(weights, "norm."))
    return stack


def theirs(mask, batch, heads):
    """A mask of the course's as PyTorch's layers take it: (B·H, T, T), True where attention is forbidden."""
    mask = mask.expand(batch, *mask.shape[-2:]).repeat_interleave(heads, dim=0)
    return ~mask if mask.dtype == torch.bool else mask.double()


class Parts:
    """The functions that a layer is composed of, in float64, so that mistakes can be composed of them too."""

    def __init__(self, weights, heads, mask=None, activation=torch.relu):
        self.w = {name: weight.double() for name, weight in weights.items()}
        self.heads, self.mask, self.activation = heads, mask, activation

    def linear(self, x, name):
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def a(self, x, memory=None, mask=None):
        """Self-attention, or attention to a memory."""
        memory = x if memory is None else memory
        mask = self.mask if mask is None else mask
        q, k, v = (
            self.linear(y, f"attention.{n}").unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for n, y in zip(ATTENTION, (x, memory, memory), strict=False)
        )
        mask = mask.unsqueeze(-3) if mask is not None else None
        mask = mask.double() if mask is not None and mask.dtype != torch.bool else mask
        out = F.scaled_dot_product_attention(q, k, v, mask)
        return self.linear(out.transpose(1, 2).flatten(2), "attention.output")

    def f(self, x):
        """The feed-forward net."""
        return self.linear(self.activation(self.linear(x, "feed_forward.hidden")), "feed_forward.output")

    def n1(self, x):
        return self._norm(x, NORMS["n1"])

    def n2(self, x):
        return self._norm(x, NORMS["n2"])

    def _norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def layer(self, x, norm_first):
        """The whole layer, as it should be."""
        if norm_first:
            x = x + self.a(self.n1(x))
            return x + self.f(self.n2(x))
        x = self.n1(x + self.a(x))
        return self.n2(x + self.f(x))


def inner_mistakes(p, norm_first):
    """What goes wrong inside the sub-layers, by what comes of it."""

    def with_batch(x):
        twin = Parts(p.w, p.heads)
        twin.a = lambda y: p.a(y.transpose(0, 1)).transpose(0, 1)
        return twin.layer(x, norm_first)

    def causal(x):
        return Parts(p.w, p.heads, torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril())

    D = len(p.w["attention.query.bias"])
    return {
        "attention over the batch: the sequences looked at one another": with_batch,
        "attention to the past only, as under a causal mask, where no mask was given": lambda x: causal(
            x
        ).layer(x, norm_first),
        "attention with one head": lambda x: Parts(p.w, 1).layer(x, norm_first),
        "attention with as many heads as features": lambda x: Parts(p.w, D).layer(x, norm_first),
        "a GELU in the feed-forward net: it is made with a ReLU": lambda x: Parts(
            p.w, p.heads, None, F.gelu
        ).layer(x, norm_first),
    }


def post_norm_mistakes(p):
    """What is composed wrongly, by what comes of it, for n2(y + f(y)) of y = n1(x + a(x))."""
    a, f, n1, n2 = p.a, p.f, p.n1, p.n2

    def y(x):
        return n1(x + a(x))

    return {
        "a pre-norm layer, though `norm_first` is False": lambda x: p.layer(x, True),
        "the two norms in each other's place": lambda x: n1(n2(x + a(x)) + f(n2(x + a(x)))),
        "the norm of the attention behind the feed-forward net as well: each residual has a norm of its own": (
            lambda x: n1(y(x) + f(y(x)))
        ),
        "the norm of the feed-forward net behind the attention as well: each residual has a norm of its own": (
            lambda x: n2(n2(x + a(x)) + f(n2(x + a(x))))
        ),
        "the feed-forward net first, and then attention": lambda x: n1(n2(x + f(x)) + a(n2(x + f(x)))),
        "the feed-forward net first, and then attention, each with the other's norm": lambda x: n2(
            n1(x + f(x)) + a(n1(x + f(x)))
        ),
        "attention alone: the feed-forward net is missing": y,
        "the feed-forward net alone: attention is missing": lambda x: n2(x + f(x)),
        "attention twice, and no feed-forward net": lambda x: n2(y(x) + a(y(x))),
        "the feed-forward net twice, and no attention": lambda x: n2(n1(x + f(x)) + f(n1(x + f(x)))),
        "no residual connection around attention": lambda x: n2(n1(a(x)) + f(n1(a(x)))),
        "no residual connection around the feed-forward net": lambda x: n2(f(y(x))),
        "no residual connections": lambda x: n2(f(n1(a(x)))),
        "a second residual connection that starts at x, the input of the layer": lambda x: n2(x + f(y(x))),
        "a feed-forward net that reads x, the input of the layer": lambda x: n2(y(x) + f(x)),
        "a feed-forward net that reads x, and is added to x: what attention found is lost": lambda x: n2(x + f(x)),
        "attention and feed-forward net side by side, not one upon the other": lambda x: n2(x + a(x) + f(x)),
        "no norm between the two sub-layers": lambda x: n2(x + a(x) + f(x + a(x))),
        "no norm at the end": lambda x: y(x) + f(y(x)),
        "no norms": lambda x: x + a(x) + f(x + a(x)),
        "x added once more at the end": lambda x: x + n2(y(x) + f(y(x))),
        "the attention's result alone, before its residual connection": a,
    }  # fmt: skip


def pre_norm_mistakes(p):
    """What is composed wrongly, by what comes of it, for y + f(n2(y)) of y = x + a(n1(x))."""
    a, f, n1, n2 = p.a, p.f, p.n1, p.n2

    def y(x):
        return x + a(n1(x))

    return {
        "a post-norm layer, though `norm_first` is True": lambda x: p.layer(x, False),
        "pre-norm around attention, post-norm around the feed-forward net: both residuals get `norm_first`": (
            lambda x: n2(y(x) + f(y(x)))
        ),
        "post-norm around attention, pre-norm around the feed-forward net: both residuals get `norm_first`": (
            lambda x: n1(x + a(x)) + f(n2(n1(x + a(x))))
        ),
        "the two norms in each other's place": lambda x: x + a(n2(x)) + f(n1(x + a(n2(x)))),
        "the norm of the attention before the feed-forward net as well: each residual has a norm of its own": (
            lambda x: y(x) + f(n1(y(x)))
        ),
        "the norm of the feed-forward net before the attention as well: each residual has a norm of its own": (
            lambda x: x + a(n2(x)) + f(n2(x + a(n2(x))))
        ),
        "the feed-forward net first, and then attention": lambda x: x + f(n2(x)) + a(n1(x + f(n2(x)))),
        "the feed-forward net first, and then attention, each with the other's norm": lambda x: (
            x + f(n1(x)) + a(n2(x + f(n1(x))))
        ),
        "attention alone: the feed-forward net is missing": y,
        "the feed-forward net alone: attention is missing": lambda x: x + f(n2(x)),
        "no residual connection around attention": lambda x: a(n1(x)) + f(n2(a(n1(x)))),
        "no residual connection around the feed-forward net": lambda x: f(n2(y(x))),
        "no residual connections": lambda x: f(n2(a(n1(x)))),
        "a second residual connection that starts at x, the input of the layer": lambda x: x + f(n2(y(x))),
        "attention and feed-forward net side by side, not one upon the other": lambda x: y(x) + f(n2(x)),
        "no norm before attention": lambda x: x + a(x) + f(n2(x + a(x))),
        "no norm before the feed-forward net": lambda x: y(x) + f(y(x)),
        "no norms": lambda x: x + a(x) + f(x + a(x)),
        "a norm at the end of the layer as well": lambda x: n2(y(x) + f(n2(y(x)))),
        "queries from the normed rows, keys and values from the stream: all three read the normed rows": (
            lambda x: x + a(n1(x), x) + f(n2(x + a(n1(x), x)))
        ),
        "queries from the stream, keys and values from the normed rows: all three read the normed rows": (
            lambda x: x + a(x, n1(x)) + f(n2(x + a(x, n1(x))))
        ),
        "x added once more at the end": lambda x: x + y(x) + f(n2(y(x))),
        "residual connections that start behind the norms": lambda x: (
            n2(n1(x) + a(n1(x))) + f(n2(n1(x) + a(n1(x))))
        ),
    }  # fmt: skip


def permitted(rng, *shape):
    """A boolean mask in which every query may attend to at least one key, and not to at least one other."""
    rank = rng.random(shape).argsort(-1).argsort(-1)
    count = np.asarray(rng.integers(1, shape[-1], shape[:-1]))
    return torch.from_numpy(rank < count[..., None])


def told(mistakes, x):
    """The mistakes with what each makes of x, worked out when it is asked for."""
    return {says: lambda f=f: f(x.double()).float() for says, f in mistakes.items()}


def padded_and_causal(rng, B, T):
    """A mask (B, T, T): the past alone, and no padding, of which one sequence has some."""
    lengths = torch.from_numpy(rng.permutation([T, T - 2, *[T] * (B - 2)]))
    return (torch.arange(T) < lengths[:, None, None]) & torch.ones(T, T, dtype=torch.bool).tril()


def reach(mask, layers):
    """Whom each position depends on, (B, T, B, T), after so many layers with residual connections."""
    B, T, _ = mask.shape
    allowed = torch.zeros(B, T, B, T, dtype=torch.bool)
    for b in range(B):
        step = (mask[b] | torch.eye(T, dtype=torch.bool)).double()
        allowed[b, :, b] = torch.linalg.matrix_power(step, layers) > 0
    return allowed


def learns(module, wanted):
    """Expect the gradient of every parameter to be the one that PyTorch's layer gets."""
    found = expect.parameters(module, {name: tuple(grad.shape) for name, grad in wanted.items()})
    ask = "Is every part called as a module, on the graph, whenever forward runs?"
    for name, grad in wanted.items():
        expect.holds(found[name].grad is not None, expected=f"a gradient for {name}", got="none", ask=ask)
        expect.close(found[name].grad, grad, what=f"the gradient of {name}", ask=ask)


def wanted_of(layer, prefix=""):
    """The gradients of PyTorch's layer, under the names of the course's."""
    grads = {}
    for one, two in THEIRS.items():
        for kind in ("weight", "bias"):
            grads[f"{prefix}{two}.{kind}"] = layer.get_parameter(f"{one}.{kind}").grad
    for kind in ("weight", "bias"):
        thirds = layer.get_parameter(f"self_attn.in_proj_{kind}").grad.chunk(3)
        for part, grad in zip(ATTENTION, thirds, strict=False):
            grads[f"{prefix}attention.{part}.{kind}"] = grad
    return grads


@pytest.mark.exercise("EncoderLayer")
class TestEncoderLayer:
    ASK = (
        "The sub-modules are `attention`, `feed_forward`, `attention_residual` and `feed_forward_residual`; "
        "each residual owns a norm of its own."
    )

    def layer(self, student, rng, D, H, wide, *options, **named):
        m = student.EncoderLayer(D, H, wide, *options, **named)
        shapes = layer_shapes(D, wide)
        expect.parameters(m, shapes, ask=self.ASK)
        weights = drawn(rng, shapes)
        m.load_state_dict(weights, strict=False)
        m.eval()  # what dropout does in training has a check of its own
        return m, weights

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns an attention, a feed-forward net, and a norm for each"""
        D, H, wide, *_ = setting(rng)
        self.layer(student, rng, D, H, wide)
        self.layer(student, rng, D, H, wide, 0.2, norm_first=True)

    def compare(self, student, rng, norm_first, mistakes_of, ask):
        D, H, wide, B, T = setting(rng)
        m, weights = self.layer(student, rng, D, H, wide, 0.0, norm_first)
        reference = pytorch_layer(D, H, wide, norm_first, weights)
        parts = Parts(weights, H)
        for shape in [(B, T, D), (1, T, D), (B, 1, D)]:
            x = rng.tensor(*shape)
            expected = reference(x.double()).detach().float()
            mistakes = told(mistakes_of(parts) | inner_mistakes(parts, norm_first), x)
            try:
                out = m(x)
            except TypeError as error:
                if "not callable" not in str(error):
                    raise
                got = f"TypeError: {str(error).splitlines()[0][:100]}"
                call = "A residual calls its sub-layer. Do you hand it a function, or what a function has returned?"
                expect.fail(expected="a sub-layer that the residual can call", got=got, ask=call)
            expect.close(out, expected, atol=1e-4, rtol=1e-3, what="the output", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_post_norm(self, student, rng):
        """agrees with nn.TransformerEncoderLayer on the same weights"""
        ask = (
            "Attention, sum, norm; feed-forward net, sum, norm. What does each of the six read in your code?"
        )
        self.compare(student, rng, False, post_norm_mistakes, ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_pre_norm(self, student, rng):
        """agrees with nn.TransformerEncoderLayer(norm_first=True)"""
        ask = (
            "Norm, attention, sum; norm, feed-forward net, sum. What does each of the six read in your code?"
        )
        self.compare(student, rng, True, pre_norm_mistakes, ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_post_norm")
    @pytest.mark.needs("test_pre_norm")
    def test_masks(self, student, rng):
        """hands every kind of mask to its attention"""
        D, H, wide, B, T = setting(rng)
        T += 1  # two at least are left to forbid
        for norm_first in (False, True):
            m, weights = self.layer(student, rng, D, H, wide, 0.0, norm_first)
            reference = pytorch_layer(D, H, wide, norm_first, weights)
            for shape in [(B, T, T), (B, 1, T), (T, T), (1, T, T)]:
                mask, x = permitted(rng, *shape), rng.tensor(B, T, D)
                for form in (mask, rng.tensor(*shape).masked_fill(~mask, -INF)):
                    full = form.expand(*shape[:-2], T, T)
                    expected = reference(x.double(), theirs(full, B, H)).detach().float()

                    def by(mask, x=x, weights=weights, norm_first=norm_first, H=H):
                        return lambda: Parts(weights, H, mask).layer(x.double(), norm_first).float()

                    mistakes = {
                        "the output without a mask: it did not reach the attention, or was read as yes or no, "
                        "where any number but 0 is a yes": by(None),
                        "the output of the inverted mask: True means that a position may attend": by(~mask),
                        "the output of the transposed mask": by(full.mT),
                        "the output of the first sequence's mask, for all sequences": by(
                            full.reshape(-1, T, T)[:1]
                        ),
                        "True and False added to the scores as 1 and 0": by(mask.float()),
                        "an additive mask of which only the -inf had an effect": by(mask),
                        "the output of a causal mask": by(torch.ones(T, T, dtype=torch.bool).tril()),
                    }
                    ask = (
                        "Which argument of your MultiHeadAttention is the mask? "
                        "Its second one, by position, is the memory."
                    )
                    try:
                        out = m(x, form)
                    except RuntimeError as error:
                        if "Bool" not in str(error):
                            raise
                        got = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
                        expect.fail(expected="an output under a mask", got=got, ask=ask)
                    expect.close(
                        out, expected, atol=1e-4, rtol=1e-3, what="the output", ask=ask, mistakes=mistakes
                    )
            named = m(x, mask=form)
            expect.close(named, expected, atol=1e-4, rtol=1e-3, what="the output of mask=…")

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    @pytest.mark.draws(2)
    def test_reach(self, student, rng):
        """depends on exactly the positions that a causal and a padding mask permit"""
        D, H, wide, *_ = setting(rng)
        B, T = 2, 4
        mask = padded_and_causal(rng, B, T)
        for norm_first in (False, True):
            m, _ = self.layer(student, rng, D, H, wide, 0.0, norm_first)

            def looked(x, m=m):
                out = m(x, mask)
                expect.array(out, shape=(B, T, D), dtype=torch.float32)
                return out

            expect.reaches(looked, rng.tensor(B, T, D), reach(mask, 1))

    @pytest.mark.points(2)
    @pytest.mark.needs("test_pre_norm")
    @pytest.mark.draws(2)
    def test_dropout(self, student, rng):
        """drops of both sub-layers' results in training, of nothing else, and of nothing in evaluation"""
        D, H, wide, B, _ = setting(rng)
        p, T = float(rng.choice([0.25, 0.5])), 40
        silent = {"attention": "attention.output", "feed_forward": "feed_forward.output"}
        for kept, muted in (("attention", "feed_forward"), ("feed_forward", "attention")):
            m, weights = self.layer(student, rng, D, H, wide, p, norm_first=True)
            weights |= {f"{silent[muted]}.{kind}": torch.zeros_like(weights[f"{silent[muted]}.{kind}"]) for kind in
                        ("weight", "bias")}  # fmt: skip
            m.load_state_dict(weights, strict=False)
            x, parts = rng.tensor(B, T, D), Parts(weights, H)
            sub = "attention" if kept == "attention" else "the feed-forward net"
            found = parts.layer(x.double(), True) - x
            m.train()
            out = m(x)
            expect.array(out, shape=(B, T, D), dtype=torch.float32)
            added = out.detach().double() - x
            zero, scaled = added.abs() < 1e-4, (added - found / (1 - p)).abs() < 1e-3
            plain = (added - found).abs() < 1e-3
            none = plain.all()
            expect.holds(
                (zero | scaled).all(),
                expected=f"every entry that {sub} adds in training zeroed or divided by 1 − p (p = {p})",
                got=f"what {sub} adds in evaluation: nothing was dropped"
                if none
                else "other numbers: something else was dropped, or dropped twice",
                ask="Which parts get the argument `dropout`? Attention and feed-forward net have none inside.",
            )
            clear = found.abs() > 1e-2  # where a zero is no accident
            share = zero[clear].double().mean().item()
            expect.holds(
                abs(share - p) < 0.2,
                expected=f"a share of zeros near p = {p} in what {sub} adds",
                got=f"{share:.2f}",
                ask="Do both residuals get the argument `dropout` as it was given?",
            )
            m.eval()
            out = m(x)
            expect.close(out, (x + found).float(), atol=1e-4, rtol=1e-3, what="the output in evaluation mode")

    @pytest.mark.points(1)
    @pytest.mark.needs("test_dropout")
    @pytest.mark.draws(1)
    def test_defaults(self, student, rng):
        """is a post-norm layer with a dropout of a tenth unless told otherwise"""
        D, H, wide, B, _ = setting(rng)
        m, weights = self.layer(student, rng, D, H, wide)
        m.eval()
        x = rng.tensor(B, 60, D)
        expected = Parts(weights, H).layer(x.double(), False).float()
        mistakes = {"a pre-norm layer": Parts(weights, H).layer(x.double(), True).float()}
        expect.close(m(x), expected, atol=1e-4, rtol=1e-3, what="the output by default", mistakes=mistakes)
        for part, muted in (("attention", "feed_forward"), ("feed_forward", "attention")):
            m, weights = self.layer(student, rng, D, H, wide, norm_first=True)
            ones = torch.zeros_like(weights[f"{part}.output.weight"]), torch.ones(D)
            weights |= {f"{muted}.output.weight": 0 * weights[f"{muted}.output.weight"],
                        f"{muted}.output.bias": torch.zeros(D),
                        f"{part}.output.weight": ones[0], f"{part}.output.bias": ones[1]}  # fmt: skip
            m.load_state_dict(weights, strict=False)
            m.train()
            out = m(x)
            expect.array(out, shape=tuple(x.shape), dtype=torch.float32)
            largest = (out.detach() - x).max()
            expect.close(
                largest, torch.tensor(1 / 0.9), atol=1e-3,
                what=f"the largest entry that {part} adds in training, where it finds ones, by default,",
                ask="Of the kept entries each is divided by 1 − 0.1. Does the stub's default reach both residuals?",
            )  # fmt: skip

    @pytest.mark.points(1)
    @pytest.mark.needs("test_post_norm")
    @pytest.mark.needs("test_pre_norm")
    @pytest.mark.draws(2)
    def test_inputs_and_gradients(self, student, rng):
        """leaves x and mask alone, and trains every part"""
        D, H, wide, B, T = setting(rng)
        mask = permitted(rng, T, T)
        for norm_first in (False, True):
            m, weights = self.layer(student, rng, D, H, wide, 0.0, norm_first)
            m.double()
            x, given = rng.tensor(B, T, D, dtype=DOUBLE), rng.tensor(B, T, D, dtype=DOUBLE)
            with expect.unchanged(x=x, mask=mask):
                m(x, mask)
            reference, leaf = (
                pytorch_layer(D, H, wide, norm_first, weights),
                x.clone().requires_grad_(),
            )
            (reference(leaf, theirs(mask, B, H)) * given).sum().backward()
            mine = x.clone().requires_grad_()
            out = m(mine, mask)
            expect.array(out, shape=(B, T, D), dtype=DOUBLE, ask="Does a line of yours fix the dtype?")
            found = expect.gradient(out, mine, given)
            expect.close(found, leaf.grad, what="the gradient of x")
            learns(m, wanted_of(reference))


def stack_mistakes(x, weights, heads, count, norm_first):
    """What is stacked wrongly, by what comes of it."""
    x = x.double()
    layers = [
        lambda y, mask=None, i=i: Parts(below(weights, f"layers.{i}."), heads, mask).layer(y, norm_first)
        for i in range(count)
    ]
    last = below(weights, "norm.")

    def norm(y):
        return F.layer_norm(y, y.shape[-1:], last["weight"].double(), last["bias"].double()) if last else y

    def bare(y):
        return F.layer_norm(y, y.shape[-1:])

    def run(order, between=lambda y: y, end=norm, start=lambda y: y, mask=None):
        y = start(x)
        for i in order:
            y = between(layers[i](y, mask))
        return end(y).float()

    def residual():
        y = x
        for layer in layers:
            y = y + layer(y)
        return norm(y).float()

    order, tril = list(range(count)), torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
    mistakes = {
        "the layers from the last to the first: x passes `layers[0]` first": lambda: run(order[::-1]),
        "the first layer alone": lambda: run([0]),
        "the last layer alone: each layer was given the x that came in, not what the one below it made": (
            lambda: run([count - 1])
        ),
        "the first layer again and again, in the place of the others": lambda: run([0] * count),
        "the last layer again and again, in the place of the others": lambda: run([count - 1] * count),
        "the last layer left out": lambda: run(order[:-1]),
        "the first layer left out": lambda: run(order[1:]),
        "the layers passed twice": lambda: run(order * 2),
        "attention to the past only, as under a causal mask, where no mask was given": lambda: run(
            order, mask=tril
        ),
        "x added to the result of every layer: residual connections are inside the layers": residual,
        "the sum of what all layers make of x": lambda: norm(sum(layer(x) for layer in layers)).float(),
    }
    if norm_first:
        mistakes |= {
            "the stream before the last norm": lambda: run(order, end=lambda y: y),
            "a norm behind every layer: it stands behind the last one only": lambda: run(order, norm, lambda y: y),
            "a norm behind every layer, and another at the end": lambda: run(order, norm),
            "the norm at the start, where it belongs to the end": lambda: run(order, start=norm, end=lambda y: y),
            "the norm at the start as well": lambda: run(order, start=norm),
            "x added behind the last norm": lambda: run(order) + x.float(),
        }  # fmt: skip
    else:
        mistakes["a last norm, which a post-norm stack does not have: each of its layers ends in one"] = (
            lambda: run(order, end=bare)
        )
    return mistakes


@pytest.mark.exercise("Encoder")
class TestEncoder:
    def stack(self, student, rng, D, H, wide, count, *options, norm_first=False, **named):
        m = student.Encoder(D, H, wide, count, *options, norm_first=norm_first, **named)
        shapes = {}
        for i in range(count):
            shapes |= layer_shapes(D, wide, f"layers.{i}.")
        if norm_first:
            shapes |= {"norm.weight": (D,), "norm.bias": (D,)}
        self.owns(m, shapes, count, norm_first)
        weights = drawn(rng, shapes)
        m.load_state_dict(weights, strict=False)
        m.eval()  # what dropout does in training has a check of its own
        return m, weights

    def names(self, m, most):
        """The names of the first parameters: a message of `expect` does not list all of them."""
        try:
            pairs = generate(m.named_parameters, most)
            return [str(pair[0]) for pair in islice(pairs, most) if isinstance(pair, tuple) and pair]
        except Exception:  # it has no such method, or one that fails: then `expect` has said so
            return []

    def owns(self, m, shapes, count, norm_first):
        """Expect the parameters of so many layers, and say in short what is missing."""
        try:
            expect.parameters(m, shapes)
        except expect.Unmet as unmet:
            got = "".join(line for line in str(unmet).splitlines() if line.startswith("Got"))
            got = got.removeprefix("Got").strip()
            names = self.names(m, len(shapes) + 50)
            owners = len({name.split(".")[1] for name in names if re.match(r"layers\.\d+\.", name)})
            ends = "norm.weight" in names
            ask = (
                "Do `layers`, an nn.ModuleList, and `norm` have these names, and are all settings handed on?"
            )
            if owners and owners != count:
                got = f"{owners} of them with parameters of its own" if owners == 1 else f"{owners} of them"
                ask = "Is each layer of the ModuleList a new EncoderLayer, or does one stand there several times?"
            elif owners and ends != norm_first:
                got = "a `norm` with parameters" if ends else "no last norm with parameters"
                ask = "With `norm_first` the stack ends in a LayerNorm, without it in an nn.Identity."
            else:
                return expect.parameters(m, shapes, ask=ask)
            layers = f"{count} EncoderLayer{'s' * (count > 1)}"
            end = "a last LayerNorm" if norm_first else "no last norm"
            expect.fail(expected=f"the parameters of {layers} and {end}", got=got, ask=ask)

    @pytest.mark.points(2)
    def test_parameters(self, student, rng):
        """owns as many layers as asked for, each with weights of its own, and a last norm for pre-norm"""
        D, H, wide, *_ = setting(rng)
        for count in (int(rng.integers(2, 5)), 1):
            self.stack(student, rng, D, H, wide, count)
            self.stack(student, rng, D, H, wide, count, 0.2, norm_first=True)

    def compare(self, student, rng, norm_first, ask):
        D, H, wide, B, T = setting(rng)
        for count in (3, 1):
            m, weights = self.stack(student, rng, D, H, wide, count, 0.0, norm_first=norm_first)
            x = rng.tensor(B, T, D)
            expected = pytorch_stack(D, H, wide, count, norm_first, weights)(x.double()).detach().float()
            mistakes = stack_mistakes(x, weights, H, count, norm_first)
            expect.close(m(x), expected, atol=3e-4, rtol=1e-3, what="the output", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_post_norm(self, student, rng):
        """agrees with nn.TransformerEncoder on the same weights"""
        ask = "Each layer reads what the one below it wrote. Which variable carries that from layer to layer?"
        self.compare(student, rng, False, ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_pre_norm(self, student, rng):
        """agrees with nn.TransformerEncoder(norm_first=True) and its last norm"""
        ask = "Is every layer pre-norm, and does what the last one wrote pass `norm`, once?"
        self.compare(student, rng, True, ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_post_norm")
    @pytest.mark.needs("test_pre_norm")
    def test_masks(self, student, rng):
        """hands the mask to every layer"""
        D, H, wide, B, T = setting(rng)
        T += 1
        for norm_first in (False, True):
            m, weights = self.stack(student, rng, D, H, wide, 3, 0.0, norm_first=norm_first)
            reference = pytorch_stack(D, H, wide, 3, norm_first, weights)
            for shape in [(B, T, T), (B, 1, T), (T, T)]:
                mask, x = permitted(rng, *shape), rng.tensor(B, T, D)
                full = mask.expand(*shape[:-2], T, T)
                for form in (full, torch.zeros(full.shape).masked_fill(~full, -INF)):
                    expected = reference(x.double(), theirs(form, B, H)).detach().float()

                    def masked(which, x=x, weights=weights, norm_first=norm_first, full=full):
                        def value():
                            y = x.double()
                            for i in range(3):
                                y = Parts(below(weights, f"layers.{i}."), H, which[i]).layer(y, norm_first)
                            last = below(weights, "norm.")
                            end = F.layer_norm(y, (D,), *(w.double() for w in last.values())) if last else y
                            return end.float()

                        return value

                    mistakes = {
                        "the output without a mask": masked([None] * 3),
                        "a mask in the first layer only: later layers looked where they may not": masked(
                            [full, None, None]
                        ),
                        "a mask in the last layer only": masked([None, None, full]),
                        "the output of the inverted mask": masked([~full] * 3),
                    }
                    ask = "Does every layer of the stack get the mask?"
                    out = m(x, form if form.dtype != torch.bool else mask)
                    expect.close(
                        out, expected, atol=3e-4, rtol=1e-3, what="the output", ask=ask, mistakes=mistakes
                    )
            named = m(x, mask=form)
            expect.close(named, expected, atol=3e-4, rtol=1e-3, what="the output of mask=…")

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    @pytest.mark.draws(2)
    def test_reach(self, student, rng):
        """depends on exactly the positions that the masks permit, through all layers"""
        D, H, wide, *_ = setting(rng)
        B, T = 2, 4
        mask = padded_and_causal(rng, B, T)
        for norm_first in (False, True):
            m, _ = self.stack(student, rng, D, H, wide, 2, 0.0, norm_first=norm_first)

            def looked(x, m=m):
                out = m(x, mask)
                expect.array(out, shape=(B, T, D), dtype=torch.float32)
                return out

            expect.reaches(looked, rng.tensor(B, T, D), reach(mask, 2))

    @pytest.mark.points(1)
    @pytest.mark.needs("test_pre_norm")
    @pytest.mark.draws(2)
    def test_dropout(self, student, rng):
        """hands the dropout to every layer"""
        D, H, wide, B, T = setting(rng)
        x = rng.tensor(B, T, D)
        for norm_first in (False, True):
            m, weights = self.stack(student, rng, D, H, wide, 2, ALL, norm_first=norm_first)
            m.train()
            kept = x.double()  # the sub-layers add nothing
            for i in range(2):
                parts = Parts(below(weights, f"layers.{i}."), H)
                kept = kept if norm_first else parts.n2(parts.n1(kept))
            last = below(weights, "norm.")
            expected = F.layer_norm(kept, (D,), *(w.double() for w in last.values())) if last else kept
            ask = "With such a dropout every sub-layer adds nothing. Which layer did not get its dropout?"
            what = "the output in training, with a dropout of all but 1e-9,"
            expect.close(m(x), expected.float(), atol=1e-4, rtol=1e-3, what=what, ask=ask)
            m.eval()
            expected = pytorch_stack(D, H, wide, 2, norm_first, weights)(x.double()).detach().float()
            what = "the output in evaluation mode"
            expect.close(m(x), expected, atol=3e-4, rtol=1e-3, what=what)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_post_norm")
    @pytest.mark.draws(1)
    def test_defaults(self, student, rng):
        """is a post-norm stack with a dropout of a tenth unless told otherwise"""
        D, H, wide, B, _ = setting(rng)
        m = student.Encoder(D, H, wide, 2)
        shapes = layer_shapes(D, wide, "layers.0.") | layer_shapes(D, wide, "layers.1.")
        self.owns(m, shapes, 2, False)
        m = student.Encoder(D, H, wide, 1, norm_first=True)
        shapes = layer_shapes(D, wide, "layers.0.") | {"norm.weight": (D,), "norm.bias": (D,)}
        self.owns(m, shapes, 1, True)
        weights = drawn(rng, shapes)
        for part, bias in (("attention", 0.0), ("feed_forward", 1.0)):
            weights[f"layers.0.{part}.output.weight"].zero_()
            weights[f"layers.0.{part}.output.bias"].fill_(bias)
        m.load_state_dict(weights, strict=False)
        m.train()
        x = rng.tensor(B, 60, D)
        out = m.layers[0](x)
        expect.array(out, shape=tuple(x.shape), dtype=torch.float32)
        largest = (out.detach() - x).max()
        what = "the largest entry that a layer adds in training, where its feed-forward net finds ones, by default,"
        ask = "Of the kept entries each is divided by 1 − 0.1. Does the stub's default reach the layers?"
        expect.close(largest, torch.tensor(1 / 0.9), atol=1e-3, what=what, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_post_norm")
    @pytest.mark.needs("test_pre_norm")
    @pytest.mark.draws(1)
    def test_inputs_and_gradients(self, student, rng):
        """leaves x and mask alone, and trains every part of every layer"""
        D, H, wide, B, T = setting(rng)
        mask = permitted(rng, T, T)
        for norm_first in (False, True):
            m, weights = self.stack(student, rng, D, H, wide, 2, 0.0, norm_first=norm_first)
            m.double()
            x, given = rng.tensor(B, T, D, dtype=DOUBLE), rng.tensor(B, T, D, dtype=DOUBLE)
            with expect.unchanged(x=x, mask=mask):
                m(x, mask)
            reference = pytorch_stack(D, H, wide, 2, norm_first, weights)
            leaf, mine = x.clone().requires_grad_(), x.clone().requires_grad_()
            (reference(leaf, theirs(mask, B, H)) * given).sum().backward()
            out = m(mine, mask)
            expect.array(out, shape=(B, T, D), dtype=DOUBLE, ask="Does a line of yours fix the dtype?")
            found = expect.gradient(out, mine, given)
            expect.close(found, leaf.grad, what="the gradient of x")
            wanted = {}
            for i, layer in enumerate(reference.layers):
                wanted |= wanted_of(layer, f"layers.{i}.")
            if norm_first:
                wanted |= {f"norm.{kind}": p.grad for kind, p in reference.norm.named_parameters()}
            learns(m, wanted)
