"""Checks of unit 12: joined masks, the decoder layer, the decoder, the whole Transformer, where its parameters sit.

Every check draws fresh inputs and weights. The judges are ``torch.nn.TransformerDecoderLayer``, ``TransformerDecoder``
and ``Transformer`` on the same weights, and gradients: who can see whom. What is worked out by hand below names the
mistake where an answer differs.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from proctor import expect

INF = float("inf")
H, K = 2, 3  # heads, and the width of each
D = H * K


# ---- masks --------------------------------------------------------------------------------------------------------


def permitted(rng, *shape):
    """A boolean mask in which every query may attend to at least one key, and not to at least one other."""
    rank = rng.random(shape).argsort(-1).argsort(-1)
    count = np.asarray(rng.integers(1, shape[-1], shape[:-1]))
    return torch.from_numpy(rank < count[..., None])


def biased(rng, mask):
    """An additive mask: numbers where the boolean one permits, -inf where it forbids."""
    return rng.tensor(*mask.shape).masked_fill(~mask, -INF)


def triangle(size):
    """The causal mask."""
    return torch.ones(size, size, dtype=torch.bool).tril()


def joined(*masks):
    """All of them as one additive mask."""
    return sum(torch.zeros(m.shape).masked_fill(~m, -INF) if m.dtype == torch.bool else m for m in masks)


# ---- shapes and weights of the parts --------------------------------------------------------------------------------


def linear(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name):
    return {f"{name}.weight": (D,), f"{name}.bias": (D,)}


def attention(name):
    return {
        k: v
        for part in ("query", "key", "value", "output")
        for k, v in linear(f"{name}.{part}", D, D).items()
    }


def feed_forward(width):
    return linear("feed_forward.hidden", D, width) | linear("feed_forward.output", width, D)


def encoder_layer(width):
    """Names and shapes of an encoder layer's parameters."""
    norms = norm("attention_residual.norm") | norm("feed_forward_residual.norm")
    return attention("attention") | feed_forward(width) | norms


def decoder_layer(width):
    """Names and shapes of a decoder layer's parameters."""
    parts = attention("self_attention") | attention("cross_attention") | feed_forward(width)
    for name in ("self_attention", "cross_attention", "feed_forward"):
        parts |= norm(f"{name}_residual.norm")
    return parts


def stack(layer, layers, norm_first):
    """Names and shapes of a stack of such layers, and of its last norm."""
    parts = {f"layers.{i}.{name}": shape for i in range(layers) for name, shape in layer.items()}
    return parts | (norm("norm") if norm_first else {})


def within(name, parts):
    """The parts of a sub-module of this name."""
    return {f"{name}.{part}": value for part, value in parts.items()}


def out_of(name, weights):
    """The weights of the sub-module of this name, by their names in it."""
    return {key.removeprefix(f"{name}."): w for key, w in weights.items() if key.startswith(f"{name}.")}


def drawn(rng, shapes, dtype=torch.float32):
    """Random weights: norms around one, biases that count, maps that keep the size of what goes through."""
    weights = {}
    for name, shape in shapes.items():
        if len(shape) == 2:
            weights[name] = rng.tensor(*shape, scale=shape[1] ** -0.5, dtype=dtype)
        else:
            weights[name] = rng.tensor(*shape, scale=0.5, dtype=dtype) + (name.endswith("norm.weight"))
    return weights


def loaded(module, weights, ask):
    """The learner's module with these weights, which must be all that it trains, ready for evaluation."""
    expect.parameters(module, {name: tuple(w.shape) for name, w in weights.items()}, ask=ask)
    module.load_state_dict(weights, strict=False)  # a buffer of the learner's own may keep what it holds
    module.eval()
    return module


# ---- PyTorch's layers on the same weights ---------------------------------------------------------------------------

THEIRS = {
    "attention.output": "self_attn.out_proj",
    "self_attention.output": "self_attn.out_proj",
    "cross_attention.output": "multihead_attn.out_proj",
    "feed_forward.hidden": "linear1",
    "feed_forward.output": "linear2",
    "self_attention_residual.norm": "norm1",
    "attention_residual.norm": "norm1",
    "cross_attention_residual.norm": "norm2",
}
PACKED = {"attention": "self_attn", "self_attention": "self_attn", "cross_attention": "multihead_attn"}


def as_torch(weights):
    """A layer's weights under PyTorch's names: there query, key and value of an attention lie in one matrix."""
    renamed = {}
    for ours, theirs in PACKED.items():
        for kind in ("weight", "bias"):
            parts = [f"{ours}.{part}.{kind}" for part in ("query", "key", "value")]
            if parts[0] in weights:
                renamed[f"{theirs}.in_proj_{kind}"] = torch.cat([weights[part] for part in parts])
    last = "norm3" if "cross_attention.output.weight" in weights else "norm2"
    for ours, theirs in (THEIRS | {"feed_forward_residual.norm": last}).items():
        for kind in ("weight", "bias"):
            if f"{ours}.{kind}" in weights:
                renamed[f"{theirs}.{kind}"] = weights[f"{ours}.{kind}"]
    return renamed


def stack_as_torch(weights):
    """The same for a stack."""
    numbers = sorted({name.split(".")[1] for name in weights if name.startswith("layers.")})
    renamed = {f"norm.{kind}": w for kind, w in out_of("norm", weights).items()}
    for i in numbers:
        renamed |= within(f"layers.{i}", as_torch(out_of(f"layers.{i}", weights)))
    return renamed


def forbids(mask, rows):
    """A mask as nn.MultiheadAttention wants it: True forbids, and each head of each sequence has its own."""
    if mask is None:
        return None
    mask = ~mask if mask.dtype == torch.bool else mask
    return mask if mask.dim() == 2 else mask.expand(-1, rows, -1).repeat_interleave(H, dim=0)


def torch_layer(kind, width, norm_first):
    """PyTorch's layer; its dropout is 0, and it stays in training mode, where there is no other way through it."""
    return kind(D, H, width, dropout=0.0, batch_first=True, norm_first=norm_first)


def torch_decoder_layer(weights, x, memory, mask=None, memory_mask=None, norm_first=False):
    layer = torch_layer(nn.TransformerDecoderLayer, len(weights["feed_forward.hidden.bias"]), norm_first).to(
        x.dtype
    )
    return functional_call(
        layer, as_torch(weights), (x, memory, forbids(mask, x.shape[1]), forbids(memory_mask, x.shape[1]))
    )


def torch_stacks(weights, norm_first, dtype):
    """PyTorch's encoder and decoder, without weights, as wide and as high as these."""
    width = next(len(w) for name, w in weights.items() if name.endswith("feed_forward.hidden.bias"))
    count = 1 + max(int(part) for name in weights for part in name.split(".") if part.isdigit())
    ends = [nn.LayerNorm(D) if norm_first else None for _ in range(2)]
    encoder = nn.TransformerEncoder(
        torch_layer(nn.TransformerEncoderLayer, width, norm_first), count, ends[0], enable_nested_tensor=False
    )
    decoder = nn.TransformerDecoder(
        torch_layer(nn.TransformerDecoderLayer, width, norm_first), count, ends[1]
    )
    return encoder.to(dtype), decoder.to(dtype)


def torch_decoder(weights, x, memory, mask=None, memory_mask=None, norm_first=False):
    _, decoder = torch_stacks(weights, norm_first, x.dtype)
    return functional_call(
        decoder,
        stack_as_torch(weights),
        (x, memory, forbids(mask, x.shape[1]), forbids(memory_mask, x.shape[1])),
    )


def torch_transformer(weights, source, target, pad, norm_first):
    """``nn.Transformer`` between an embedding with positions and logits by the same table."""
    table = weights["embedding.weight"]
    encoder, decoder = torch_stacks(weights, norm_first, table.dtype)
    core = nn.Transformer(D, H, custom_encoder=encoder, custom_decoder=decoder, batch_first=True)
    named = {
        f"{side}.{name}": w
        for side in ("encoder", "decoder")
        for name, w in stack_as_torch(out_of(side, weights)).items()
    }
    given = {
        "tgt_mask": ~triangle(target.shape[1]),
        "src_key_padding_mask": source == pad,
        "tgt_key_padding_mask": target == pad,
        "memory_key_padding_mask": source == pad,
    }
    x = functional_call(core, named, (embedded(table, source), embedded(table, target)), given)
    return x @ table.T


def waves(length, width):
    """Sinusoids, position by position."""
    out = torch.zeros(length, width, dtype=torch.float64)
    for t, i in np.ndindex(length, width):
        angle = t / 10000 ** ((i - i % 2) / width)
        out[t, i] = math.cos(angle) if i % 2 else math.sin(angle)
    return out


def embedded(table, ids):
    """Rows of the table times √D, plus positions."""
    return (table[ids] * table.shape[1] ** 0.5 + waves(ids.shape[1], table.shape[1])).to(table.dtype)


# ---- the same by hand, with its mistakes ----------------------------------------------------------------------------


class ByHand:
    """A decoder layer (or an encoder layer) on given weights, whose steps can be taken in any wrong way."""

    def __init__(self, weights, norm_first=False, single=()):
        self.w, self.norm_first, self.single = weights, norm_first, single  # attentions of a single head

    def linear(self, name, x):
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def norm(self, name, x):
        return F.layer_norm(
            x, (D,), self.w[f"{name}_residual.norm.weight"], self.w[f"{name}_residual.norm.bias"]
        )

    def attend(self, name, x, memory, mask=None):
        heads = 1 if name in self.single else H
        query, key, value = (
            self.linear(f"{name}.{part}", rows).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part, rows in (("query", x), ("key", memory), ("value", memory))
        )
        mask = mask if mask is None else mask.unsqueeze(-3)
        found = F.scaled_dot_product_attention(query, key, value, mask)
        return self.linear(f"{name}.output", found.transpose(1, 2).flatten(-2))

    def think(self, x):
        return self.linear("feed_forward.output", self.linear("feed_forward.hidden", x).relu())

    def add(self, name, x, sublayer):
        if self.norm_first:
            return x + sublayer(self.norm(name, x))
        return self.norm(name, x + sublayer(x))

    def encoder_layer(self, x, mask=None):
        x = self.add("attention", x, lambda x: self.attend("attention", x, x, mask))
        return self.add("feed_forward", x, self.think)

    def layer(self, x, memory, mask=None, memory_mask=None, *, order="scf", wrong=""):
        """The steps in an order (s: self-attention, c: cross-attention, f: feed-forward), with something wrong."""
        norms = {"s": "self_attention", "c": "cross_attention", "f": "feed_forward"}
        norms |= dict.fromkeys("scf", "self_attention") if wrong == "one norm" else {}
        if wrong.startswith("norm of "):
            norms[wrong[-1]] = norms[wrong[-3]]
        names = {"s": "self_attention", "c": "cross_attention"}
        names |= {"s": "cross_attention", "c": "self_attention"} if wrong == "names" else {}
        names |= {"c": "self_attention"} if wrong == "one attention" else {}

        def cross(x):
            asks, looked_up = {"sides": (memory, x), "own side": (x, x)}.get(wrong, (x, memory))
            if wrong == "normed memory":
                looked_up = self.norm("cross_attention", memory)
            return self.attend(names["c"], asks, looked_up, memory_mask)

        steps = {
            "s": lambda x: self.attend(names["s"], x, memory if wrong == "self sides" else x, mask),
            "c": cross,
            "f": self.think,
        }
        for step in order:
            if wrong == f"bare {step}":
                x = (
                    self.norm(norms[step], steps[step](x))
                    if not self.norm_first
                    else steps[step](self.norm(norms[step], x))
                )
            elif wrong == f"no norm {step}":
                x = x + steps[step](x)
            elif wrong == "norm inside":
                x = x + self.norm(norms[step], steps[step](x))
            else:
                again = x if wrong == f"again {step}" else 0
                x = self.add(norms[step], x, steps[step]) + again
        return x

    def mistakes(self, x, memory, mask=None, memory_mask=None):
        """What is said of a wrong decoder layer, and what it returns."""

        def wrong(name="", order="scf"):
            return lambda: self.layer(x, memory, mask, memory_mask, order=order, wrong=name)

        other = ByHand(self.w, not self.norm_first)
        said = {
            "cross-attention left out": wrong(order="sf"),
            "self-attention left out": wrong(order="cf"),
            "the feed-forward net left out": wrong(order="sc"),
            "cross-attention before self-attention": wrong(order="csf"),
            "the feed-forward net between the two attentions": wrong(order="sfc"),
            "the feed-forward net run after each attention": wrong(order="sfcf"),
            "the feed-forward net run twice": wrong(order="scff"),
            "self-attention run twice": wrong(order="sscf"),
            "cross-attention run twice": wrong(order="sccf"),
            "cross-attention in which x looks at itself: the memory was not handed on": wrong("own side"),
            "a self-attention that looks at the memory": wrong("self sides"),
            "self-attention with the weights of `cross_attention`, and the other way round": wrong("names"),
            "both attentions with the weights of `self_attention`": wrong("one attention"),
            "one norm for all three sub-layers: each has its own": wrong("one norm"),
            "the memory normed again: the encoder has done that": wrong("normed memory"),
            "self-attention without its residual connection": wrong("bare s"),
            "cross-attention without its residual connection: x is lost there": wrong("bare c"),
            "the feed-forward net without its residual connection": wrong("bare f"),
            "self-attention without its norm": wrong("no norm s"),
            "cross-attention without its norm": wrong("no norm c"),
            "the feed-forward net without its norm": wrong("no norm f"),
            "the norm around the sub-layer, and the sum outside of it": wrong("norm inside"),
            "pre-norm and post-norm in each other's place: look at `norm_first`": lambda: other.layer(
                x, memory, mask, memory_mask
            ),
            "the memory, passed through as it is": memory,
        }
        attentions = ("self_attention", "cross_attention")
        for names in (attentions, *((name,) for name in attentions)):
            single = ByHand(self.w, self.norm_first, names)
            said[f"{' and '.join(names)} of one head: `heads` was not handed on"] = lambda single=single: (
                single.layer(x, memory, mask, memory_mask)
            )
        full = {"s": "self-attention", "c": "cross-attention", "f": "the feed-forward net"}
        for step, name in full.items():
            said[f"x added again to what the residual of {name} returned: it has added it"] = wrong(
                f"again {step}"
            )
            for other_step, other_name in full.items():
                if step != other_step:
                    said[f"{name} under the norm of {other_name}: each has its own"] = wrong(
                        f"norm of {other_step} {step}"
                    )
        if mask is None and memory_mask is None:
            T, S = x.shape[1], memory.shape[1]
            said["a causal self-attention, where no mask was given"] = lambda: self.layer(
                x, memory, triangle(T)
            )
            said["a causal cross-attention: the source is all there from the start"] = lambda: self.layer(
                x, memory, None, torch.ones(T, S, dtype=torch.bool).tril()
            )
        if x.shape == memory.shape:
            said["queries from the memory, keys and values from x: the sides are swapped"] = wrong("sides")
        return said


def stacked(weights, x, memory, mask=None, memory_mask=None, *, norm_first, order=None, wrong=""):
    """A decoder by hand; ``order`` names the layers, ``wrong`` what goes wrong between them."""
    count = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))

    def end(rows):
        return F.layer_norm(rows, (D,), weights["norm.weight"], weights["norm.bias"])

    x = end(x) if wrong == "norm first" else x
    memory = end(memory) if wrong == "norm memory" else memory
    start = x
    for i in range(count) if order is None else order:
        layer = ByHand(out_of(f"layers.{i}", weights), norm_first)
        if wrong == "masks once" and i:
            mask = memory_mask = None
        y = layer.layer(start if wrong == "no chain" else x, memory, mask, memory_mask)
        memory = y if wrong == "memory moves" and y.shape == memory.shape else memory
        x = x + y if wrong == "residual" else end(y) if wrong == "norm each" else y
    if norm_first and wrong != "no norm":
        x = end(x)
    return F.layer_norm(x, (D,)) if not norm_first and wrong == "norm" else x


def reaches(function, x, allowed, name):
    """``expect.reaches``, for an input of another name than x."""
    try:
        expect.reaches(function, x, allowed)
    except expect.Unmet as error:
        raise expect.Unmet(str(error).replace(" x[", f" {name}[")) from None


def normed(x, times):
    """What is left of x where dropout takes away all that sub-layers find, and new norms are all that works."""
    for _ in range(times):
        x = F.layer_norm(x, x.shape[-1:])
    return x


def within_sequences(mask):
    """A mask (B, T, S) as (B, T, B, S): nothing passes from one sequence to another."""
    B, T, S = mask.shape
    allowed = torch.zeros(B, T, B, S, dtype=torch.bool)
    for b in range(B):
        allowed[b, :, b] = mask[b]
    return allowed


def learns(module, out, given, copies, ask, but=None):
    """Expect every parameter's gradient to be that of the copies, which the judge's own run has left there."""
    expect.array(out, shape=tuple(given.shape), dtype=torch.float64)
    expect.holds(
        out.requires_grad,
        expected="an output that can be differentiated with respect to the parameters",
        got="one that is cut off from them",
        ask=ask,
    )
    out.backward(given)
    found = expect.parameters(module, {name: tuple(copy.shape) for name, copy in copies.items()})
    for name, copy in copies.items():
        grad = found[name].grad
        expect.holds(grad is not None, expected=f"a gradient for {name}", got="none", ask=ask)
        rows = slice(None) if but is None or name != "embedding.weight" else torch.arange(len(copy)) != but
        expect.array(grad, shape=tuple(copy.shape), dtype=torch.float64, what=f"the gradient of {name}")
        expect.close(grad[rows], copy.grad[rows], what=f"the gradient of {name}", ask=ask)


def scales_by(layer, rng, width, p, when, ask):
    """Expect a pre-norm decoder layer in training to scale what its sub-layers find by 1 / (1 − p), all three of them.

    All maps are zero and three biases are not, so that each sub-layer finds one number, over and over; dropout either
    zeroes it or scales it, and among so many entries some have kept all three.
    """
    found = {
        "self_attention.output.bias": 1.0,
        "cross_attention.output.bias": 10.0,
        "feed_forward.output.bias": 100.0,
    }
    shapes = decoder_layer(width)
    layer.load_state_dict(
        {n: torch.full(shape, found.get(n, 0.0)) for n, shape in shapes.items()}, strict=False
    )
    layer.train()
    x, memory = rng.tensor(8, 20, D), rng.tensor(8, 3, D)
    out = layer(x, memory)
    expect.array(out, shape=tuple(x.shape), dtype=torch.float32)
    most = float((out - x).max())
    expect.holds(
        abs(most * (1 - p) / 111 - 1) < 1e-3,
        expected=f"sub-layers that find 1, 10 and 100 to add at most 111 / (1 - {p}) = {111 / (1 - p):.2f}, {when}",
        got=f"at most {most:.2f}",
        ask=ask,
    )


# ---- the checks -----------------------------------------------------------------------------------------------------


@pytest.mark.exercise("combine_masks")
class TestCombineMasks:
    def numbers(self, out, expected, ask, mistakes):
        """Expect an additive mask of these numbers."""
        came = "a boolean mask: the numbers of the additive ones are lost"
        boolean = isinstance(out, torch.Tensor) and out.dtype == torch.bool
        expect.holds(not boolean, expected="an additive mask, of floating point, where any mask is one", got=came,
                     ask=ask)  # fmt: skip
        expect.close(out, expected, what="the combined mask", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    def test_boolean_masks(self, student, rng):
        """permits what every one of several boolean masks permits"""
        B, T, S = rng.distinct(3, low=3)
        a, b, c = (torch.from_numpy(rng.random(shape) < 0.6) for shape in ((B, 1, S), (T, S), (B, T, S)))
        a[0, 0, :2], b[:2, :2] = torch.tensor([True, False]), torch.tensor([[True, True], [False, False]])
        c[0, :2, :2] = torch.tensor([[False, True], [True, True]])
        for masks in ([a, b], [b, a], [a, b, c], [c, b, a], [c]):
            expected = torch.ones(())
            for mask in masks:
                expected = expected * mask
            expected = expected.bool()
            mistakes = {}
            if len(masks) > 1:
                some = sum(mask.int() for mask in masks)
                mistakes = {
                    "what any one of them permits: or, where every one must agree": some > 0,
                    "the first mask alone": masks[0],
                    "the last mask alone": masks[-1],
                    "what the masks disagree about": some % 2 == 1,
                    "True where a key is forbidden": ~expected,
                }
            if len(masks) > 2:
                mistakes["the first two masks: there may be any number"] = (masks[0] & masks[1]).expand_as(
                    expected
                )
            ask = (
                "A key is permitted where all masks say True. Which operator says so, and may shapes differ?"
            )
            out = student.combine_masks(*masks)
            expect.equal(out, expected, what="the combined mask", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    def test_additive_masks(self, student, rng):
        """adds additive masks up"""
        B, T, S = rng.distinct(3, low=3)
        a, b, c = (biased(rng, permitted(rng, *shape)) for shape in ((B, 1, S), (T, S), (B, T, S)))
        for masks in ([a, b], [a, b, c], [b]):
            expected = joined(*masks)
            mistakes = {}
            if len(masks) > 1:
                mistakes = {
                    "the first mask alone": masks[0],
                    "the last mask alone": masks[-1],
                    "the smaller of the numbers: additive masks are added": lambda a=masks[0], b=masks[1]: (
                        torch.minimum(a, b)
                    ),
                    "yes or no (0 or -inf) in place of the numbers": torch.zeros_like(expected).masked_fill(
                        expected == -INF, -INF
                    ),
                }
            out = student.combine_masks(*masks)
            ask = "Each is added to the scores. What do you add to the scores in place of all of them?"
            self.numbers(out, expected, ask, mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_boolean_masks")
    @pytest.mark.needs("test_additive_masks")
    def test_both_kinds(self, student, rng):
        """lets a boolean mask forbid within an additive one, in any order"""
        B, T, S = rng.distinct(3, low=3)
        yes, also = permitted(rng, B, 1, S), permitted(rng, T, S)
        numbers = biased(rng, permitted(rng, T, S))
        more = rng.tensor(B, T, S)
        for masks in ([yes, numbers], [numbers, yes], [more, yes, numbers, also], [yes, also, more]):
            expected = joined(*masks)
            plain = sum(mask.float() for mask in masks)
            added = sum((mask for mask in masks if mask.dtype != torch.bool), torch.zeros(()))
            agreed = torch.ones((), dtype=torch.bool)
            for mask in masks:
                agreed = agreed & mask if mask.dtype == torch.bool else agreed
            mistakes = {
                "True and False added as 1 and 0": plain,
                "the boolean mask multiplied with the numbers: 0 · -inf is no number": lambda n=added, m=agreed: (
                    n * m
                ),
                "the additive masks alone: what a boolean one forbids is still permitted": added,
                "-inf where the boolean mask permits: it is inverted": lambda n=added, m=agreed: torch.where(
                    m, -INF, n
                ),
                "0 and -inf: the numbers of the additive one are lost": torch.zeros_like(
                    expected
                ).masked_fill(expected == -INF, -INF),
                "a large negative number in place of -inf": lambda n=added, m=agreed: torch.where(m, n, -1e9),
                "the lowest finite number in place of -inf": lambda n=added, m=agreed: torch.where(
                    m, n, torch.finfo(torch.float32).min
                ),
                "-1e9 added in place of -inf": lambda n=added, m=agreed: torch.where(m, n, n - 1e9),
            }
            out = student.combine_masks(*masks)
            ask = "Written as an additive mask, what is True, and what is False?"
            self.numbers(out, expected, ask, mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_boolean_masks")
    def test_no_mask_permits_all(self, student, rng):
        """passes over None, and returns None where nothing forbids"""
        B, T, S = rng.distinct(3, low=3)
        a, b = permitted(rng, B, 1, S), permitted(rng, T, S)
        ask = "None stands for a mask that permits all. What is left when you leave it out?"
        for masks in ([a, None], [None, a], [None, a, None, b]):
            expected = a & b if len(masks) > 2 else a
            out = student.combine_masks(*masks)
            expect.holds(out is not None, expected="the masks that are not None, joined", got="None", ask=ask)
            expect.equal(out, expected, what="the combined mask", ask=ask)
        number = biased(rng, b)
        expect.close(student.combine_masks(None, number), number, what="the combined mask", ask=ask)
        for masks in ([None], [None, None], []):
            out = student.combine_masks(*masks)
            called = ", ".join(map(str, masks)) or "no mask at all"
            expect.holds(
                out is None,
                expected=f"None for {called}",
                got="another value",
                ask="What does attention take where there is nothing to forbid?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_both_kinds")
    def test_inputs_and_gradients(self, student, rng):
        """leaves its masks alone, keeps float64, and sends a gradient to an additive mask"""
        B, T, S = rng.distinct(3, low=3)
        a, b = permitted(rng, B, T, S), permitted(rng, B, T, S)
        c, d = rng.tensor(B, T, S, dtype=torch.float64), rng.tensor(B, T, S, dtype=torch.float64)
        for masks in (
            {"a": a, "b": b},
            {"a": c, "b": d},
            {"a": a, "b": c},
            {"a": c, "b": a},
            {"a": a.clone()},
        ):
            with expect.unchanged(**masks):
                student.combine_masks(*masks.values())

        def under(bias, other):
            out = student.combine_masks(a, bias, b, other)
            expect.array(out, shape=(B, T, S), dtype=torch.float64, what="the combined mask")
            return out.where(a & b, 0.0)

        expect.gradients(under, bias=c, other=d, what="the combined mask")


@pytest.mark.exercise("DecoderLayer")
class TestDecoderLayer:
    ASK = "What does __init__ make? Two attentions, a feed-forward net, and for each of these a Residual of its own."

    def layer(self, student, rng, norm_first, width=7, dtype=torch.float32):
        """The learner's layer with weights that we have drawn, and these weights."""
        weights = drawn(rng, decoder_layer(width), dtype)
        m = student.DecoderLayer(D, H, width, norm_first=norm_first)
        return loaded(m.double() if dtype == torch.float64 else m, weights, self.ASK), weights

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns two attentions, a feed-forward net and three residuals, under the names of the docstring"""
        for norm_first in (False, True):
            self.layer(student, rng, norm_first, int(rng.integers(7, 12)))

    @pytest.mark.points(3)
    @pytest.mark.needs("test_parameters")
    def test_agrees_with_pytorch(self, student, rng):
        """agrees with nn.TransformerDecoderLayer on the same weights, post-norm and pre-norm"""
        B, T, S = rng.distinct(3, low=2, high=5)
        for norm_first in (False, True):
            m, weights = self.layer(student, rng, norm_first)
            for length in (
                T,
                S,
            ):  # with one length for both, swapped sides show as numbers and not as an error
                x, memory = rng.tensor(B, T, D), rng.tensor(B, length, D)
                expected = torch_decoder_layer(weights, x, memory, norm_first=norm_first)
                out = m(x.clone(), memory.clone())
                mistakes = ByHand(weights, norm_first).mistakes(x, memory)
                kind = "pre-norm" if norm_first else "post-norm"
                ask = "Self-attention, cross-attention, feed-forward: what goes into each, and what is it added to?"
                expect.close(out, expected, what=f"the output ({kind})", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_masks(self, student, rng):
        """hands `mask` to the self-attention and `memory_mask` to the cross-attention, boolean or additive"""
        B, T, S = rng.distinct(3, low=3, high=6)
        norm_first = bool(rng.integers(2))
        m, weights = self.layer(student, rng, norm_first)
        by_hand = ByHand(weights, norm_first)
        ask = "Where does `mask` go in your forward, and where does `memory_mask`?"
        for shapes in (((B, T, T), (B, T, T)), ((T, T), (B, 1, S)), ((B, 1, T), (T, S))):
            for additive in (False, True):
                masks = [permitted(rng, *shape) for shape in shapes]
                masks = [biased(rng, mask) for mask in masks] if additive else masks
                x, memory = rng.tensor(B, T, D), rng.tensor(B, shapes[1][-1], D)
                for mask, memory_mask in (masks, (masks[0], None), (None, masks[1])):
                    expected = torch_decoder_layer(weights, x, memory, mask, memory_mask, norm_first)
                    mistakes = self.mask_mistakes(by_hand, x, memory, mask, memory_mask)
                    out = m(x, memory, mask, memory_mask)
                    expect.close(out, expected, what="the output", ask=ask, mistakes=mistakes)

    def mask_mistakes(self, by_hand, x, memory, mask, memory_mask):
        """What is said where a mask went astray."""

        def under(mask, memory_mask):
            return lambda: by_hand.layer(x, memory, mask, memory_mask)

        said = {
            "the output without any mask": under(None, None),
            "the output without `memory_mask`: padding of the source is attended to": under(mask, None),
            "the output without `mask`: the self-attention saw everything": under(None, memory_mask),
        }
        if x.shape == memory.shape:
            said["the two masks in each other's place"] = under(memory_mask, mask)
            both = [m for m in (mask, memory_mask) if m is not None]
            said["`mask` on the cross-attention as well: who writes may read all of the source"] = under(
                mask, joined(*both)
            )
            said["`memory_mask` on the self-attention as well"] = under(joined(*both), memory_mask)
            said["`mask` on the cross-attention, in place of `memory_mask`"] = under(mask, mask)
            said["`memory_mask` on both attentions"] = under(memory_mask, memory_mask)
        flipped = [~m if m is not None and m.dtype == torch.bool else m for m in (mask, memory_mask)]
        said["the outputs of inverted masks: True means that a key may be attended to"] = under(*flipped)
        return said

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_reach_of_targets(self, student, rng):
        """depends on the targets that a causal and a padding mask permit, and on no other"""
        B, T, S = 2, int(rng.integers(4, 6)), 3
        for norm_first in (False, True):
            m, _ = self.layer(student, rng, norm_first)
            lengths = torch.from_numpy(rng.permutation([T, T - 2]))
            mask = (torch.arange(T) < lengths[:, None, None]) & triangle(T)
            memory, memory_mask = rng.tensor(B, S, D), permitted(rng, B, 1, S)
            allowed = within_sequences(mask | torch.eye(T, dtype=torch.bool))  # each asks a query of its own

            def answer(x, m=m, mask=mask, memory=memory, memory_mask=memory_mask):
                out = m(x, memory, mask, memory_mask)
                expect.array(out, shape=(B, T, D), dtype=torch.float32)
                return out

            expect.reaches(answer, rng.tensor(B, T, D), allowed)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_reach_of_memory(self, student, rng):
        """depends on the source positions that `memory_mask` permits, at every position, and on no other"""
        B, T, S = 2, 3, int(rng.integers(4, 6))
        m, _ = self.layer(student, rng, bool(rng.integers(2)))
        memory_mask = permitted(rng, B, T, S)
        x, mask = rng.tensor(B, T, D), triangle(T)

        def answer(memory):
            out = m(x, memory, mask, memory_mask)
            expect.array(out, shape=(B, T, D), dtype=torch.float32)
            return out

        reaches(answer, rng.tensor(B, S, D), within_sequences(memory_mask), "memory")

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_dropout(self, student, rng):
        """applies dropout to what each sub-layer finds, in training only"""
        B, T, S = rng.distinct(3, low=2, high=5)
        x, memory, weights = rng.tensor(B, T, D), rng.tensor(B, S, D), drawn(rng, decoder_layer(7))
        ask = "Do you hand `dropout` on to each of the three Residuals? They do the rest."
        for p, when in ((1.0, "in training, with dropout=1.0"), (0.0, "in training, with dropout=0.0")):
            m = loaded(student.DecoderLayer(D, H, 7, dropout=p, norm_first=True), weights, self.ASK)
            m.train()
            plain = torch_decoder_layer(weights, x, memory, norm_first=True)
            mistakes = {
                "the output without dropout: it was not handed on": plain,
                "zeros: the sum was dropped, and not only what is added to x": torch.zeros_like(x),
            }
            out = m(x, memory)
            expected = x if p else plain
            expect.close(out, expected, what=f"the output ({when})", ask=ask, mistakes=mistakes)
        m = student.DecoderLayer(D, H, 7, dropout=0.3, norm_first=True)
        scales_by(m, rng, 7, 0.3, "in training, with dropout=0.3", ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_dropout")
    def test_defaults(self, student, rng):
        """is post-norm, with a dropout of 0.1, where nothing else is said"""
        x, memory, weights = rng.tensor(2, 3, D), rng.tensor(2, 4, D), drawn(rng, decoder_layer(7))
        m = loaded(student.DecoderLayer(D, H, 7), weights, self.ASK)
        mistakes = {"a pre-norm layer": lambda: torch_decoder_layer(weights, x, memory, norm_first=True)}
        expected, ask = torch_decoder_layer(weights, x, memory), "Which defaults does the signature give?"
        expect.close(m(x, memory), expected, what="the output, post-norm", ask=ask, mistakes=mistakes)
        m = student.DecoderLayer(D, H, 7, norm_first=True)
        scales_by(m, rng, 7, 0.1, "in training, as dropout=0.1 is the default", ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_inputs_and_gradients(self, student, rng):
        """leaves its inputs alone, works in float64, and sends the right gradients to x, memory and every weight"""
        B, T, S = rng.distinct(3, low=2, high=4)
        norm_first = bool(rng.integers(2))
        m, weights = self.layer(student, rng, norm_first, dtype=torch.float64)
        x, memory, given = (rng.tensor(B, n, D, dtype=torch.float64) for n in (T, S, T))
        masks = triangle(T), permitted(rng, B, T, S)
        with expect.unchanged(x=x, memory=memory, mask=masks[0], memory_mask=masks[1]):
            out = m(x, memory, *masks)
        copies = {name: w.clone().requires_grad_() for name, w in weights.items()}
        (torch_decoder_layer(copies, x, memory, *masks, norm_first) * given).sum().backward()
        learns(m, out, given, copies, "Is each sub-module called on the graph, whenever forward runs?")
        expect.gradients(lambda x, memory: m(x, memory, *masks), x=x, memory=memory)


@pytest.mark.exercise("Decoder")
class TestDecoder:
    ASK = "Are the layers in an nn.ModuleList, each an object of its own? When does the stack end in a norm?"

    def decoder(self, student, rng, norm_first, layers=2, width=5, dtype=torch.float32):
        """The learner's decoder with weights that we have drawn, and these weights."""
        weights = drawn(rng, stack(decoder_layer(width), layers, norm_first), dtype)
        m = student.Decoder(D, H, width, layers, norm_first=norm_first)
        return loaded(m.double() if dtype == torch.float64 else m, weights, self.ASK), weights

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns as many layers as asked for, each with weights of its own, and a last norm where they are pre-norm"""
        for norm_first in (False, True):
            self.decoder(student, rng, norm_first, int(rng.integers(1, 4)), int(rng.integers(7, 12)))

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_agrees_with_pytorch(self, student, rng):
        """agrees with nn.TransformerDecoder on the same weights, post-norm and pre-norm"""
        B, T, S = rng.distinct(3, low=2, high=5)
        for norm_first in (False, True):
            m, weights = self.decoder(student, rng, norm_first)
            for length in (T, S):
                x, memory = rng.tensor(B, T, D), rng.tensor(B, length, D)
                expected = torch_decoder(weights, x, memory, norm_first=norm_first)

                def wrong(name="", order=None, weights=weights, x=x, memory=memory, norm_first=norm_first):
                    return lambda: stacked(weights, x, memory, norm_first=norm_first, order=order, wrong=name)

                mistakes = {
                    "the layers from top to bottom": wrong(order=[1, 0]),
                    "the first layer alone": wrong(order=[0]),
                    "the first layer twice": wrong(order=[0, 0]),
                    "the last layer twice": wrong(order=[1, 1]),
                    "the last layer alone, on x itself: each takes what the one below returned": wrong(
                        "no chain"
                    ),
                    "a memory that each layer overwrites: all look at the same one": wrong("memory moves"),
                    "x added around whole layers: their residuals are within": wrong("residual"),
                    "a stack without the last norm": wrong("no norm"),
                    "a last norm after post-norm layers, which end in one": wrong("norm"),
                    "the stack run with x and memory swapped": lambda w=weights, x=x, y=memory, n=norm_first: (
                        stacked(w, y, x, norm_first=n)
                    ),
                }
                if norm_first:
                    mistakes |= {
                        "a stack that norms what comes in: its norm is the last thing": wrong("norm first"),
                        "a memory that passed the decoder's norm: it is handed on as it is": wrong(
                            "norm memory"
                        ),
                        "the last norm after each layer": wrong("norm each"),
                    }
                kind = "pre-norm" if norm_first else "post-norm"
                ask = "What goes into the second layer, and what does it look at?"
                out = m(x.clone(), memory.clone())
                expect.close(out, expected, what=f"the output ({kind})", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_masks(self, student, rng):
        """hands both masks to every layer"""
        B, T, S = rng.distinct(3, low=3, high=5)
        norm_first = bool(rng.integers(2))
        m, weights = self.decoder(student, rng, norm_first)
        for length, additive in ((T, False), (S, True)):
            masks = [permitted(rng, B, T, T), permitted(rng, B, T, length)]
            masks = [biased(rng, mask) for mask in masks] if additive else masks
            x, memory = rng.tensor(B, T, D), rng.tensor(B, length, D)

            def under(*masks, x=x, memory=memory, wrong=""):
                return lambda: stacked(weights, x, memory, *masks, norm_first=norm_first, wrong=wrong)

            mistakes = {
                "the output without any mask": under(None, None),
                "the output without `memory_mask`": under(masks[0], None),
                "the output without `mask`": under(None, masks[1]),
                "masks in the first layer alone": under(*masks, wrong="masks once"),
            }
            if length == T:
                mistakes["the two masks in each other's place"] = under(*masks[::-1])
            expected = torch_decoder(weights, x, memory, *masks, norm_first)
            out = m(x, memory, *masks)
            ask = "Which masks does each layer get?"
            expect.close(out, expected, what="the output", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_reach(self, student, rng):
        """depends on earlier targets and on the source's tokens, through all layers, and on nothing else"""
        B, T, S = 2, 4, 3
        m, _ = self.decoder(student, rng, bool(rng.integers(2)))
        x, memory, memory_mask = rng.tensor(B, T, D), rng.tensor(B, S, D), permitted(rng, B, 1, S)

        def answer(x, memory):
            out = m(x, memory, triangle(T), memory_mask)
            expect.array(out, shape=(B, T, D), dtype=torch.float32)
            return out

        allowed = within_sequences(triangle(T).expand(B, T, T))
        expect.reaches(lambda x: answer(x, memory), x, allowed)
        allowed = within_sequences(memory_mask.expand(B, T, S))
        reaches(lambda memory: answer(x, memory), memory, allowed, "memory")

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_dropout_and_gradients(self, student, rng):
        """hands dropout to its layers, leaves its inputs alone, and sends the right gradient to every weight"""
        B, T, S = rng.distinct(3, low=2, high=4)
        x, memory = rng.tensor(B, T, D), rng.tensor(B, S, D)
        ask = "Do you hand `dropout` on to every layer?"
        for norm_first in (False, True):
            m = student.Decoder(D, H, 5, 2, dropout=1.0, norm_first=norm_first)
            m.train()
            what = f"the output (in training, with dropout=1.0, {norm_first=})"
            mistakes = {"zeros: the sum was dropped, and not only what is added to x": torch.zeros_like(x)}
            expected = normed(x, 1 if norm_first else 6)
            expect.close(m(x, memory), expected, what=what, ask=ask, mistakes=mistakes)
        norm_first = bool(rng.integers(2))
        m, weights = self.decoder(student, rng, norm_first, dtype=torch.float64)
        x, memory, given = x.double(), memory.double(), rng.tensor(B, T, D, dtype=torch.float64)
        masks = triangle(T), permitted(rng, B, T, S)
        with expect.unchanged(x=x, memory=memory):
            out = m(x, memory, *masks)
        copies = {name: w.clone().requires_grad_() for name, w in weights.items()}
        (torch_decoder(copies, x, memory, *masks, norm_first) * given).sum().backward()
        learns(m, out, given, copies, "Does every layer run, on the graph, whenever forward does?")

    @pytest.mark.points(1)
    @pytest.mark.needs("test_dropout_and_gradients")
    def test_defaults(self, student, rng):
        """is post-norm, with a dropout of 0.1, where nothing else is said"""
        ask = "Which defaults does the signature give, and do they reach the layers?"
        expect.parameters(student.Decoder(D, H, 5, 1), stack(decoder_layer(5), 1, False), ask=ask)
        m = student.Decoder(D, H, 5, 1, norm_first=True)
        scales_by(m.layers[0], rng, 5, 0.1, "in training, as dropout=0.1 is the default", ask)


@pytest.mark.exercise("Transformer")
class TestTransformer:
    ASK = "One nn.Embedding, the Encoder, your Decoder, each with all its arguments: what else is there to train?"

    def model(self, student, rng, vocabulary, norm_first=False, layers=1, pad=0, dtype=torch.float32):
        """The learner's model with weights that we have drawn, and these weights."""
        weights = drawn(rng, self.shapes(vocabulary, layers, norm_first), dtype)
        m = student.Transformer(vocabulary, D, H, 5, layers, norm_first=norm_first, pad=pad)
        return loaded(m.double() if dtype == torch.float64 else m, weights, self.ASK), weights

    def shapes(self, vocabulary, layers, norm_first):
        """Names and shapes of all parameters, for an inner width of 5."""
        shapes = {"embedding.weight": (vocabulary, D)}
        shapes |= within("encoder", stack(encoder_layer(5), layers, norm_first))
        return shapes | within("decoder", stack(decoder_layer(5), layers, norm_first))

    def ids(self, rng, vocabulary, pad, *shape):
        """Ids in random order, no one twice in a sequence, and none of them the padding."""
        rows = [
            rng.permutation([i for i in range(vocabulary) if i != pad])[: shape[-1]] for _ in range(shape[0])
        ]
        return torch.from_numpy(np.stack(rows))

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns one table, an encoder and a decoder; nothing else is trained"""
        V = int(rng.integers(11, 15))
        for norm_first in (False, True):
            self.model(student, rng, V, norm_first, layers=int(rng.integers(1, 3)))

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_embed(self, student, rng):
        """embeds: row of the table, times √D, plus position"""
        B, T = rng.distinct(2, low=2, high=5)
        V = int(rng.integers(11, 15))
        m, weights = self.model(student, rng, V)
        ids = self.ids(rng, V, 0, B, T)
        rows, places = weights["embedding.weight"][ids], waves(T, D).float()
        mistakes = {
            "rows that are not multiplied by √D": rows + places,
            "rows multiplied by D, not by √D": rows * D + places,
            "rows divided by √D": rows / D**0.5 + places,
            "positions multiplied by √D as well: they are added after it": (rows + places) * D**0.5,
            "no positions": rows * D**0.5,
            "no positions, and no √D": rows,
            "positions added twice": rows * D**0.5 + 2 * places,
            "positions counted from 1": rows * D**0.5 + waves(T + 1, D)[1:].float(),
            "positions in place of the rows": places.expand(B, T, D),
            "the positions of the batch: the place counts within a sequence": rows * D**0.5
            + waves(B, D).float()[:, None],
            "the same position for every token": rows * D**0.5 + waves(1, D).float(),
        }
        ask = "Scale first, then add: what is multiplied by √D, and where do positions begin?"
        expected = embedded(weights["embedding.weight"], ids)
        one, other = m.embed(ids), m.embed(ids)
        for out in (one, other):
            expect.array(out, shape=(B, T, D), dtype=torch.float32, what="the embedding")
        expect.holds(
            torch.equal(one, other) or one.isnan().any(),
            expected="the same embedding at every call in evaluation",
            got="another one each time",
            ask="Which dropout is at work in evaluation as well? `nn.Dropout` knows when to rest.",
        )
        expect.close(one, expected, what="the embedding", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_embedding_starts_small(self, student, rng):
        """draws the table with standard deviation 1/√D, so that inputs and logits start near one"""
        V, width = int(rng.integers(500, 700)), int(rng.choice([36, 64, 100]))
        m = student.Transformer(V, width, 2, 4, 1)
        expect.array(
            table := m.embedding.weight, shape=(V, width), dtype=torch.float32, what="embedding.weight"
        )
        spread, mean = float(table.detach().std()), float(table.detach().mean())
        got = f"standard deviation {spread:.3f}, mean {mean:.3f}"
        if abs(spread - 1) < 0.05:
            got += ", as nn.Embedding draws it by itself"
        expect.holds(
            abs(spread * width**0.5 - 1) < 0.05 and abs(mean) * width**0.5 < 0.05,
            expected=f"a table of mean 0 and standard deviation 1/√{width} = {width**-0.5:.3f}",
            got=got,
            ask=f"The logits are dot products of width {width}: how large would they be with entries of size one?",
        )

    @pytest.mark.points(3)
    @pytest.mark.needs("test_embed")
    def test_agrees_with_pytorch(self, student, rng):
        """agrees with nn.Transformer on the same weights, between embedding and tied logits"""
        B, T, S = rng.distinct(3, low=2, high=5)
        V = int(rng.integers(11, 15))
        for norm_first in (False, True):
            m, weights = self.model(student, rng, V, norm_first, layers=2)
            for length in (T, S):
                source, target = self.ids(rng, V, 0, B, length), self.ids(rng, V, 0, B, T)
                expected = torch_transformer(weights, source, target, 0, norm_first)
                mistakes = self.mistakes(weights, source, target, norm_first, expected)
                kind = "pre-norm" if norm_first else "post-norm"
                ask = "What does the encoder read, what the decoder, and what turns its rows into logits?"
                out = m(source, target)
                expect.close(out, expected, what=f"the logits ({kind})", ask=ask, mistakes=mistakes)

    def mistakes(self, weights, source, target, norm_first, expected):
        """What is said of a wrong model, and what it returns."""
        table = weights["embedding.weight"]
        encoder, decoder = out_of("encoder", weights), out_of("decoder", weights)
        x, y = embedded(table, source), embedded(table, target)

        def encode(x, mask=None):
            return self.encoded(encoder, x, norm_first, mask)[-1]

        def decode(y, memory, mask=None, memory_mask=None):
            return stacked(decoder, y, memory, mask, memory_mask, norm_first=norm_first) @ table.T

        def side_by_side():
            each, z = self.encoded(encoder, x, norm_first), y
            for i, memory in enumerate(each[:-1]):
                z = ByHand(out_of(f"layers.{i}", decoder), norm_first).layer(z, memory, causal)
            z = F.layer_norm(z, (D,), decoder["norm.weight"], decoder["norm.bias"]) if norm_first else z
            return z @ table.T

        causal, S = triangle(target.shape[1]), source.shape[1]
        said = {
            "logits multiplied by √D: the scale belongs to the inputs alone": expected * D**0.5,
            "logits divided by √D": expected / D**0.5,
            "probabilities: the softmax is the loss's affair": expected.softmax(-1),
            "sigmoids of the logits: the softmax is the loss's affair": expected.sigmoid(),
            "log-probabilities: the softmax is the loss's affair": expected.log_softmax(-1),
            "the decoder's rows, before they meet the table": lambda: stacked(
                decoder, y, encode(x), causal, norm_first=norm_first
            ),
            "the encoder's rows as logits: the decoder was not used": lambda: encode(x) @ table.T,
            "targets shifted within the model: whoever calls it has shifted them": lambda: torch_transformer(
                weights, source, target.roll(1, 1), 0, norm_first
            ),
            "logits moved on by one position": expected.roll(1, 1),
            "logits moved back by one position": expected.roll(-1, 1),
            "the logits after the last target alone": expected[:, -1],
            "the logits after the last target alone, ": expected[:, -1:],
            "logits of the second target on: each target gets its own": expected[:, 1:],
            "the logits without those after the last target": expected[:, :-1],
            "logits without the causal mask: every target sees the ones after it": lambda: decode(
                y, encode(x)
            ),
            "a decoder that reads the embedded source, not what the encoder made of it": lambda: decode(
                y, x, causal
            ),
            "a causal mask in the encoder: the source may be read in both directions": lambda: decode(
                y, encode(x, triangle(S)), causal
            ),
            "source and target in each other's place": lambda: decode(x, encode(y), triangle(S)),
            "a decoder that got the source as its target": lambda: decode(x, encode(x), triangle(S)),
            "an encoder that reads rows of the table as they are: what is `embed` for?": lambda: decode(
                y, encode(table[source]), causal
            ),
            "a decoder that reads rows of the table as they are: what is `embed` for?": lambda: decode(
                table[target], encode(x), causal
            ),
            "a decoder whose memory is the embedded target": lambda: decode(y, y, causal),
            "rows that were normed once more before they met the table": lambda: (
                F.layer_norm(stacked(decoder, y, encode(x), causal, norm_first=norm_first), (D,)) @ table.T
            ),
            "an encoder that got the target: the source was not read": lambda: decode(y, encode(y), causal),
            "each decoder layer looking at the encoder layer of its height: all look at its top": side_by_side,
            "positions added in the decoder again": lambda: decode(
                y + waves(y.shape[1], D).to(y.dtype), encode(x), causal
            ),
            "a memory with positions added again": lambda: decode(
                y, encode(x) + waves(S, D).to(y.dtype), causal
            ),
            "a causal mask on the cross-attention: the source is all there from the start": lambda: decode(
                y, encode(x), causal, torch.ones(target.shape[1], S, dtype=torch.bool).tril()
            ),
        }
        return said

    def encoded(self, weights, x, norm_first, mask=None):
        """What each encoder layer returns, and at the end what the encoder does."""
        count = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
        each = []
        for i in range(count):
            x = ByHand(out_of(f"layers.{i}", weights), norm_first).encoder_layer(x, mask)
            each.append(x)
        last = F.layer_norm(x, (D,), weights["norm.weight"], weights["norm.bias"]) if norm_first else x
        return [*each, last]

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_padding(self, student, rng):
        """attends to padding on neither side, wherever it stands and whatever its id is"""
        B, T, S = rng.distinct(3, low=3, high=5)
        V = int(rng.integers(11, 15))
        pad, norm_first = int(rng.integers(1, V)), bool(rng.integers(2))
        m, weights = self.model(student, rng, V, norm_first, pad=pad)
        for length in (T, S):
            source, target = self.ids(rng, V, pad, B, length), self.ids(rng, V, pad, B, T)
            source[0, -1] = source[1, 1] = target[0, -1] = target[-1, 1] = pad
            expected = torch_transformer(weights, source, target, pad, norm_first)

            def seen(in_encoder, in_decoder, in_cross, source=source, target=target):
                return lambda: self.under(
                    weights, norm_first, source, target, in_encoder, in_decoder, in_cross
                )

            e, d = (source != pad)[:, None], (target != pad)[:, None] & triangle(T)
            mistakes = {
                "logits that attend to all padding": seen(None, triangle(T), None),
                "logits that attend to padding of the source": seen(None, d, None),
                "an encoder that attends to padding: only the decoder leaves it out": seen(None, d, e),
                "a cross-attention that attends to padding: only the encoder leaves it out": seen(e, d, None),
                "logits that attend to padding of the target": seen(e, triangle(T), e),
                "the id 0 taken for padding: it is `pad`": lambda s=source, t=target: torch_transformer(
                    weights, s, t, 0, norm_first
                ),
            }
            zero = (source != 0)[:, None]
            mistakes["the id 0 taken for padding of the source: it is `pad`"] = seen(zero, d, zero)
            mistakes["the id 0 taken for padding of the target: it is `pad`"] = seen(
                e, (target != 0)[:, None] & triangle(T), e
            )
            if length == T:
                mistakes["the target's padding as mask of the source"] = seen(e, d, (target != pad)[:, None])
            real = target != pad
            out = m(source, target)
            expect.array(out, shape=(B, T, V), dtype=torch.float32, what="the logits")
            ask = "Three attentions, each with keys of its own: which padding must each leave out?"
            mistakes = {
                said: lambda wrong=wrong, real=real: wrong()[real] for said, wrong in mistakes.items()
            }
            expect.close(
                out[real], expected[real], what="the logits of real targets:", ask=ask, mistakes=mistakes
            )

    def under(self, weights, norm_first, source, target, *masks):
        """The logits under other masks: of the encoder, of the decoder on itself and on the memory."""
        table = weights["embedding.weight"]
        memory = self.encoded(out_of("encoder", weights), embedded(table, source), norm_first, masks[0])[-1]
        y = embedded(table, target)
        return stacked(out_of("decoder", weights), y, memory, *masks[1:], norm_first=norm_first) @ table.T

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_step_by_step(self, student, rng):
        """decodes with the memory it is given, and says the same of a target token by token as of the whole"""
        B, T, S = rng.distinct(3, low=2, high=4)
        V = int(rng.integers(11, 15))
        norm_first = bool(rng.integers(2))
        m, weights = self.model(student, rng, V, norm_first)
        source, target = self.ids(rng, V, 0, B, S), self.ids(rng, V, 0, B, T)
        whole, memory = m(source, target), m.encode(source)
        expect.array(whole, shape=(B, T, V), dtype=torch.float32, what="the logits")
        expect.array(memory, shape=(B, S, D), dtype=torch.float32, what="the memory")
        other, decoder = rng.tensor(B, S, D), out_of("decoder", weights)
        y, table = embedded(weights["embedding.weight"], target), weights["embedding.weight"]
        out = m.decode(target, other, source)
        expected = torch_decoder(decoder, y, other, triangle(T), None, norm_first) @ table.T
        mistakes = {"those for the memory that `encode` makes of the source: `decode` is given one": whole}
        ask = "What does `decode` need the source for, when it has the memory?"
        expect.close(out, expected, what="the logits for another memory", ask=ask, mistakes=mistakes)
        for t in range(T):
            out = m.decode(target[:, : t + 1], memory, source)
            expect.array(out, shape=(B, t + 1, V), dtype=torch.float32, what="the logits")
            ask = "Does `decode` use anything but the targets so far, the memory, and where the source is padding?"
            expect.close(
                out[:, t], whole[:, t], what=f"the logits after target {t}, written up to there,", ask=ask
            )

    @pytest.mark.points(3)
    @pytest.mark.needs("test_parameters")
    def test_reach(self, student, rng):
        """depends on the whole source and on earlier targets: never on later ones, padding, or other sequences"""
        B, T, S = 2, 4, 3
        V, norm_first = B * (T + S) + 2, bool(rng.integers(2))
        m, _ = self.model(student, rng, V, norm_first)
        # Ids have no gradient, rows of the table have: every position gets an id, and so a row, of its own. The logits
        # need the table too, so those of one token are read that stands nowhere.
        order = torch.from_numpy(1 + rng.permutation(V - 1))
        absent, places = int(order[0]), order[1:].view(B, S + T)
        source, target = places[:, :S].clone(), places[:, S:].clone()
        source[0, rng.integers(S)] = target[1, 1] = 0
        out = m(source, target)
        expect.array(out, shape=(B, T, V), dtype=torch.float32, what="the logits")
        expect.holds(
            out.requires_grad,
            expected="logits that can be differentiated with respect to the table",
            got="logits that are cut off from it",
            ask="Which line leaves the graph?",
        )
        for b, t in (target != 0).nonzero().tolist():
            m.zero_grad()
            chosen = torch.zeros_like(out)
            chosen[b, t, absent] = 1
            out.backward(chosen, retain_graph=True)
            grad = expect.parameters(m.embedding, {"weight": (V, D)}, ask=self.ASK)["weight"].grad
            expect.holds(grad is not None, expected="a gradient for the table", got="none", ask=self.ASK)
            expect.array(grad, shape=(V, D), dtype=torch.float32, what="the gradient of the table")
            reached = (grad != 0).any(-1) | grad.isnan().any(-1)
            for c, name, s, row in [
                *((c, "source", s, source[c, s]) for c in range(B) for s in range(S)),
                *((c, "target", s, target[c, s]) for c in range(B) for s in range(T)),
            ]:
                allowed = c == b and row != 0 and (name == "source" or s <= t)
                why = "another sequence" if c != b else "padding" if row == 0 else "a later target"
                must = "to depend on" if allowed else "not to depend on"
                asks = "Which path leads there, or which mask stands in its way?"
                expect.holds(
                    bool(reached[row]) == allowed,
                    expected=f"logits [{b}, {t}] {must} {name} [{c}, {s}]" + ("" if allowed else f", {why}"),
                    got="a gradient of exactly zero" if allowed else "a gradient that is not zero",
                    ask=asks,
                )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_dropout(self, student, rng):
        """applies dropout to embeddings with their positions, and hands it to both stacks"""
        B, T, S = rng.distinct(3, low=2, high=5)
        V = int(rng.integers(11, 15))
        source, target = self.ids(rng, V, 0, B, S), self.ids(rng, V, 0, B, T)
        ask = "Where does `dropout` go: to the encoder, to the decoder, and where else?"
        x, memory = rng.tensor(B, T, D), rng.tensor(B, S, D)
        for norm_first in (False, True):
            m = student.Transformer(V, D, H, 5, 1, dropout=1.0, norm_first=norm_first)
            m.train()
            what = f"in training, with dropout=1.0, {norm_first=},"
            places = {
                "positions only: dropout comes after they are added": waves(S, D).expand(B, S, D).float()
            }
            nothing = torch.zeros(B, S, D)
            expect.close(m.embed(source), nothing, what=f"the embedding, {what}", ask=ask, mistakes=places)
            for name, out, norms in (("encoder", m.encoder(x), 2), ("decoder", m.decoder(x, memory), 3)):
                expected = normed(x, 1 if norm_first else norms)
                expect.close(out, expected, what=f"the {name}'s output, {what}", ask=ask)
        m = student.Transformer(V, D, H, 5, 1, dropout=0.0)
        m.train()
        training = m(source, target)
        m.eval()
        expect.array(training, shape=(B, T, V), dtype=torch.float32, what="the logits")
        expect.close(m(source, target), training, what="the logits in evaluation", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_dropout")
    def test_defaults(self, student, rng):
        """is the base model of 2017, its padding 0, where nothing else is said"""
        V, ask = int(rng.integers(11, 15)), "Which defaults does the signature give, and where do they go?"

        def holds(shown, wanted, what):
            expect.holds(shown == wanted, expected=f"{what} by default", got=str(shown), ask=ask)

        table = expect.parameters(
            student.Transformer(V, d_ff=3, layers=1).embedding, {"weight": (V, 512)}, ask=ask
        )
        expect.array(table["weight"], shape=(V, 512), what="the table of the default width")
        m = student.Transformer(V, 8, layers=1)  # eight heads, each of width 1
        hidden = expect.parameters(
            m.encoder.layers[0].feed_forward.hidden, {"weight": (2048, 8), "bias": (2048,)}, ask=ask
        )
        holds(tuple(hidden["bias"].shape), (2048,), "feed-forward nets of inner width 2048")
        m = student.Transformer(V, 8, d_ff=3)
        for name, part in (("encoder", m.encoder), ("decoder", m.decoder)):
            holds(len(part.layers), 6, f"6 layers in the {name}")
        ids = self.ids(rng, V, 0, 8, 9)
        m.eval()
        plain = m.embed(ids)
        m.train()
        dropped = m.embed(ids)
        for out in (plain, dropped):
            expect.array(out, shape=(8, 9, 8), dtype=torch.float32, what="the embedding")
        most = float((dropped / plain).max())
        holds(round(1 - 1 / max(most, 1e-3), 3), 0.1, "a dropout of 0.1")
        weights = drawn(rng, self.shapes(V, 1, False))
        source, target = self.ids(rng, V, 0, 2, 4), self.ids(rng, V, 0, 2, 3)
        source[0, 1] = target[1, 1] = 0
        m = loaded(student.Transformer(V, D, H, 5, 1), weights, self.ASK)
        out, real = m(source, target), target != 0
        expect.array(out, shape=(2, 3, V), dtype=torch.float32, what="the logits")
        expected = torch_transformer(weights, source, target, 0, False)
        expect.close(out[real], expected[real], what="the logits where 0 is padding", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_gradients(self, student, rng):
        """sends the right gradient to every weight; the table gets one from source, target and logits"""
        B, T, S = rng.distinct(3, low=2, high=4)
        V, norm_first = int(rng.integers(11, 15)), bool(rng.integers(2))
        m, weights = self.model(student, rng, V, norm_first, dtype=torch.float64)
        source, target = self.ids(rng, V, 0, B, S), self.ids(rng, V, 0, B, T)
        with expect.unchanged(source=source, target=target):
            out = m(source, target)
        given = rng.tensor(B, T, V, dtype=torch.float64)
        copies = {name: w.clone().requires_grad_() for name, w in weights.items()}
        (torch_transformer(copies, source, target, 0, norm_first) * given).sum().backward()
        # An nn.Embedding with padding_idx gives the row of padding no gradient from look-ups: there is none here.
        learns(m, out, given, copies, "Is the table used as it is, on the graph, in all three places?", but=0)


@pytest.mark.exercise("parameter_budget")
class TestParameterBudget:
    NAMES = ("embedding", "encoder attention", "encoder feed-forward", "decoder self-attention")
    NAMES += ("decoder cross-attention", "decoder feed-forward", "norms")

    def sizes(self, rng):
        """Sizes of a model: V, D, F, and the number of layers."""
        V, width, inner = rng.distinct(3, low=5, high=60)
        return V, 4 * width, inner, int(rng.integers(2, 6))

    def counted(self, vocabulary, d_model, d_ff, layers, norm_first):
        """What PyTorch's own layers hold, without their numbers, part by part; and the tied table."""

        def count(module, *names):
            return layers * sum(p.numel() for n, p in module.named_parameters() if n.startswith(names))

        options = {"norm_first": norm_first, "device": "meta"}
        encoder = nn.TransformerEncoderLayer(d_model, 2, d_ff, **options)
        decoder = nn.TransformerDecoderLayer(d_model, 2, d_ff, **options)
        norms = [count(encoder, "norm"), count(decoder, "norm"), 2 * 2 * d_model * norm_first]
        counts = [
            vocabulary * d_model,
            count(encoder, "self_attn"),
            count(encoder, "linear"),
            count(decoder, "self_attn"),
            count(decoder, "multihead_attn"),
            count(decoder, "linear"),
            sum(norms),
        ]
        return dict(zip(self.NAMES, counts, strict=True))

    def budget(self, student, *sizes):
        """The learner's budget: whole numbers under the names of the docstring."""
        budget = student.parameter_budget(*sizes)
        listed = ", ".join(self.NAMES)
        fine = isinstance(budget, dict) and set(budget) == set(self.NAMES)
        ask = "A dict: which seven names does the docstring give its keys?"
        got = f"the keys {', '.join(map(str, budget))}" if isinstance(budget, dict) else type(budget).__name__
        expect.holds(fine, expected=f"a dict with the keys {listed}", got=got, ask=ask)
        for name, count in budget.items():
            whole = isinstance(count, int) and not isinstance(count, bool)
            kind = type(count).__name__
            ask = "Is each of them a count, and every division one without a remainder (//)?"
            expect.holds(whole, expected=f"a whole number (int) for {name}", got=f"{kind}: {count}", ask=ask)
        return budget

    @pytest.mark.points(1)
    def test_names_and_numbers(self, student, rng):
        """returns seven whole numbers under the names of the docstring"""
        self.budget(student, *self.sizes(rng))

    @pytest.mark.points(3)
    @pytest.mark.needs("test_names_and_numbers")
    def test_counts_each_part(self, student, rng):
        """counts in every part what PyTorch's layers hold there"""
        for norm_first in (False, True):
            V, width, inner, layers = self.sizes(rng)
            budget = self.budget(student, V, width, inner, layers, norm_first)
            expected = self.counted(V, width, inner, layers, norm_first)
            maps, each, ends = 4 * width * width, 2 * width, 2 * norm_first
            attention = {
                "attentions without biases: each of the four maps has one": layers * maps,
                "three maps for each attention: `output` is the fourth": layers * (maps + 4 * width) * 3 // 4,
                "one layer's attention": maps + 4 * width,
                "both stacks together": 2 * layers * (maps + 4 * width),
            }
            thinking = {
                "feed-forward nets without biases": layers * 2 * width * inner,
                "feed-forward nets with one bias each: both maps have one": layers
                * (2 * width * inner + inner),
                "feed-forward nets with a bias of width D each: the first map's is F wide": layers
                * (2 * width * inner + 2 * width),
                "both stacks together": 2 * layers * (2 * width * inner + width + inner),
                "one layer's feed-forward net": 2 * width * inner + width + inner,
                "one map for each feed-forward net: there are two": layers * (width * inner + inner),
            }
            mistakes = {
                "embedding": {
                    "a table for the input and one for the logits: they are tied": 2 * V * width,
                    "three tables: source, target and logits share one": 3 * V * width,
                    "a bias for the logits": V * width + V,
                },
                "encoder attention": attention,
                "decoder self-attention": attention,
                "decoder cross-attention": attention,
                "encoder feed-forward": thinking,
                "decoder feed-forward": thinking,
                "norms": {
                    "norms with weights and no biases": (5 * layers + ends) * width,
                    "two norms in each layer: a decoder layer has three": (4 * layers + ends) * each,
                    "three norms in each layer: an encoder layer has two": (6 * layers + ends) * each,
                    "one norm for each sub-layer of one layer": (5 + ends) * each,
                    "norms without those at the end of pre-norm stacks": 5 * layers * each,
                    "one norm at the end: each of the two pre-norm stacks has one": (5 * layers + ends / 2)
                    * each,
                    "last norms in a post-norm model": (5 * layers + 2) * each,
                },
            }
            ask = (
                "Which maps are in one such part, how large is each with its bias, in how many layers is it?"
            )
            for name, count in expected.items():
                got = budget[name]
                for sentence, wrong in mistakes[name].items():
                    if got == wrong != count:
                        got = f"{got:,}: {sentence}"
                        break
                expect.holds(
                    budget[name] == count,
                    expected=f"{count:,} for {name} (V={V}, D={width}, F={inner}, {layers} layers, {norm_first=})",
                    got=got if isinstance(got, str) else f"{got:,}",
                    ask=ask,
                )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_names_and_numbers")
    def test_base_model(self, student, rng):
        """adds up to the base model of 2017, whatever its vocabulary"""
        V = int(rng.integers(30_000, 45_000))
        total = sum(self.budget(student, V, 512, 2048, 6).values())
        expected = sum(self.counted(V, 512, 2048, 6, False).values())
        expect.holds(
            total == expected,
            expected=f"{expected:,} parameters for V={V}, D=512, F=2048 and 6 layers",
            got=f"{total:,}",
            ask="Does every part count once for each layer in which it stands?",
        )
