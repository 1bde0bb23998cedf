"""Checks of unit 15: the layers. Embedding with positions, causal self-attention, encoder layer, decoder layer.

They are the same on every backend of Keras: what goes in are NumPy arrays, what comes back arrives as torch tensors.
The judge is PyTorch's ``scaled_dot_product_attention`` and plain arithmetic on the learner's own layers' weights,
which each check draws. Who can see whom is asked by changing one position and looking at every other. What is worked
out wrongly below names the mistake where an answer differs.
"""

import json
import math
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proctor import expect
from proctor.remote import Proxy

H, K = 2, 3  # heads, and the width of each
D = H * K
HALF, ALL = 0.5, 1.0  # rates of dropout

ATTENTION = [(D, H, K), (H, K)] * 3 + [(H, K, D), (D,)]  # query, key, value, output: kernel and bias
NORM = [(D,), (D,)]  # gamma, beta


# ---- the learner's layers, with weights of the check's ------------------------------------------------------------


def layer_of(student, kind, *args, **kwargs):
    """One of the learner's layers, which must be a layer."""
    layer = getattr(student, kind)(*args, **kwargs)
    expect.holds(isinstance(layer, Proxy), expected=f"a layer from {kind}(…)", got=repr(layer)[:60])
    return layer


def part_of(layer, name, kind):
    """A sub-layer by its name, which is part of the contract."""
    try:
        part = getattr(layer, name)
    except AttributeError:
        part = None
    expect.holds(
        isinstance(part, Proxy),
        expected=f"a sub-layer `{name}`, a {kind}",
        got="none of this name" if part is None else repr(part)[:60],
        ask="Does `__init__` create it, under the name that the docstring gives?",
    )
    return part


def filled(rng, layer, name, shapes, kind, ask):
    """Give a sub-layer random weights of the shapes that it must have, and return them (float64)."""
    part = part_of(layer, name, kind)
    found = part.weights
    plain = isinstance(found, (list, tuple)) and all(isinstance(w, torch.Tensor) for w in found)
    shown = [tuple(w.shape) for w in found] if plain else []
    expect.holds(
        shown == shapes,
        expected=f"`{name}` with weights of shapes {', '.join(map(str, shapes))}",
        got=", ".join(map(str, shown)) or "no weights",
        ask=ask(shown) if callable(ask) else ask,
    )
    values = [rng.array(*shape, scale=shape[0] ** -0.5 if len(shape) > 1 else 0.5) for shape in shapes]
    if shapes == NORM:
        values[0] = values[0] + 1
    values = [value.astype(np.float32) for value in values]
    part.set_weights(values)
    return [torch.from_numpy(value).double() for value in values]


def about_heads(shown):
    """What to ask of an attention whose weights have other shapes."""
    if shown and shown[0] == (D, H, D):
        return "Each head got the whole width: how wide is one of H heads that together are D wide?"
    if shown and shown[0] == (D, K, H):
        return "MultiHeadAttention takes the number of heads first, then the width of one head."
    if not shown:
        return "Is it used in `call`? Its weights are made when it first is."
    return "How many heads are there, and how wide is each?"


def about_norm(shown):
    """What to ask of a norm whose weights have other shapes."""
    return "Is it used in `call`?" if not shown else "The norm works on the last axis, with scale and shift."


def attention_weights(rng, layer, name):
    return filled(rng, layer, name, ATTENTION, "MultiHeadAttention", about_heads)


def norm_weights(rng, layer, name):
    return filled(rng, layer, name, NORM, "LayerNormalization", about_norm)


def inner_weights(rng, layer, width):
    shapes = [(D, width), (width,), (width, D), (D,)]
    ask = "Two Dense: the first F wide with ReLU, the second D wide. Are both in one keras.Sequential, used in `call`?"
    return filled(rng, layer, "feed_forward", shapes, "keras.Sequential", ask)


def single(rng, *shape, scale=1.0):
    """Normal draws as float32, as Keras computes."""
    return rng.array(*shape, scale=scale).astype(np.float32)


def a_table(student, rng, count):
    """A Keras embedding on the learner's side whose id 0 is padding and whose every row counts, and its table."""
    table = single(rng, count, D)
    embedding = student.keras.layers.Embedding(count, D, mask_zero=True)
    embedding(np.zeros((1, 1), np.int32))
    embedding.set_weights([table])
    return embedding, table


def ids_with_gaps(rng, batch, length, count):
    """Ids of which some, anywhere but at the end and never all, are padding; no id twice in a row."""
    ids = np.stack([rng.permutation(np.arange(1, count))[:length] for _ in range(batch)]).astype(np.int32)
    for row in ids:
        gaps = rng.permutation(length - 1)[: int(rng.integers(1, length - 1))]
        row[gaps] = 0
    return ids


def pooled(student, *layers):
    """A model that ends in the mean over what is no padding."""
    return student.keras.Sequential([*layers, student.keras.layers.GlobalAveragePooling1D()])


def mean_over(out, keep):
    """The mean of the rows to keep, sequence by sequence."""
    return ((out.double() * keep[..., None]).sum(1) / keep.sum(1, keepdim=True)).float()


def expect_epsilon(layer, *names):
    """Expect norms that add 1e-5 to the variance, which outputs of the usual size hardly tell."""
    for name in names:
        epsilon = part_of(layer, name, "keras.layers.LayerNormalization").epsilon
        expect.holds(
            isinstance(epsilon, float) and abs(epsilon - 1e-5) < 1e-9,
            expected=f"`{name}` with an epsilon of 1e-5",
            got=str(epsilon)[:40],
            ask="What does the norm add to the variance?",
        )


def expect_default(student, kind, *arguments):
    """Expect a dropout of 0.1 where none is given."""
    rate = part_of(layer_of(student, kind, *arguments), "dropout", "keras.layers.Dropout").rate
    expect.holds(
        rate == 0.1,
        expected="a dropout of rate 0.1 where none is given, as in the signature",
        got=str(rate)[:40],
    )


def rebuilt(student, kind, layer, settings):
    """A second layer from the first one's config, which must hold these settings and go through JSON."""
    config = layer.get_config()
    expect.holds(
        isinstance(config, dict),
        expected="a dict from get_config()",
        got=repr(config)[:60],
        ask="Does every path end in `return`?",
    )
    absent = [name for name in settings if name not in config]
    expect.holds(
        not absent,
        expected=f"a config with {', '.join(settings)}",
        got=f"no {', '.join(absent)} among {', '.join(map(str, config))}"[:150],
        ask="A saved layer is made again by `cls(**config)`: what does `__init__` need to be told?",
    )
    other = {name: config[name] for name, value in settings.items() if config[name] != value}
    expect.holds(
        not other,
        expected=f"a config with {', '.join(f'{k}={v}' for k, v in settings.items())}",
        got=", ".join(f"{name}={str(value)[:20]}" for name, value in other.items()),
        ask="Which of the arguments is kept, and under which name?",
    )
    try:
        json.dumps(config)
        plain = ""
    except (TypeError, ValueError):
        plain = "something in it that is neither: keep what `__init__` was given, not what was made of it"
    expect.holds(not plain, expected="a config of plain numbers and texts, as JSON has them", got=plain[:100])
    expect.holds(
        config.get("name") == "mine",
        expected="the name that the layer was given, 'mine', in its config",
        got=str(config.get("name"))[:40],
        ask="The base class has a config of its own, and takes a name: are `**kwargs` handed on, and is it merged?",
    )
    again = getattr(student, kind).from_config(config)
    expect.holds(isinstance(again, Proxy), expected=f"a {kind} from its config", got=repr(again)[:60])
    return again


# ---- the same by hand, with its mistakes --------------------------------------------------------------------------


def attend(weights, x, memory, allowed=None):
    """Attention of x (B, T, D) to memory (B, S, D), on Keras's weights, by PyTorch."""
    q, k, v = (
        torch.einsum("btd,dhk->bhtk", rows, weights[2 * i]) + weights[2 * i + 1][:, None]
        for i, rows in enumerate((x, memory, memory))
    )
    if allowed is not None and allowed.dim() == 3:
        allowed = allowed[:, None]
    found = F.scaled_dot_product_attention(q, k, v, allowed)
    return torch.einsum("bhtk,hkd->btd", found, weights[6]) + weights[7]


def normed(weights, x, eps=1e-5):
    """Layer normalisation."""
    return F.layer_norm(x, (D,), weights[0], weights[1], eps)


def think(weights, x, activation=F.relu):
    """The feed-forward net."""
    w, b, w2, b2 = weights
    return activation(x @ w + b) @ w2 + b2


def add(norm, x, sublayer, wrong=""):
    """A residual connection, right or wrong."""
    if wrong == "no residual":
        return normed(norm, sublayer(x))
    if wrong == "no norm":
        return x + sublayer(x)
    if wrong == "eps":
        return normed(norm, x + sublayer(x), 1e-3)
    if wrong == "torn eps":
        return normed(norm, x + sublayer(x), 1e-6)
    if wrong == "pre-norm":
        return x + sublayer(normed(norm, x))
    if wrong == "norm inside":
        return x + normed(norm, sublayer(x))
    if wrong == "twice":
        return normed(norm, x + 2 * sublayer(x))
    return normed(norm, x + sublayer(x))


RESIDUAL = {
    "no residual": "without its residual connection: x is lost there",
    "no norm": "without its norm",
    "eps": "with 1e-3 in the norm, which is Keras's default: the contract says 1e-5",
    "torn eps": "with 1e-6 in the norm: the contract says 1e-5",
    "pre-norm": "normed before it and not after the sum: that is pre-norm",
    "norm inside": "with the norm around the sub-layer, and the sum outside of it",
    "twice": "added twice",
}


def triangle(size):
    return torch.ones(size, size, dtype=torch.bool).tril()


def reach(call, x, allowed, rng):
    """Expect output [b, t] to change with x[b, s] exactly where ``allowed`` (T, S) is True, in that sequence."""
    before = call(x)
    expect.array(before, what="the output")
    batch, length = x.shape[:2]
    expect.holds(
        before.dim() == 3 and tuple(before.shape[:2]) == (batch, allowed.shape[0]),
        expected=f"an output of shape ({batch}, {allowed.shape[0]}, {D})",
        got=f"shape {tuple(before.shape)}",
    )
    for s in range(length):
        b = int(rng.integers(batch))
        changed = x.copy()
        changed[b, s] = single(rng, D)
        after = call(changed)
        expect.array(after, shape=tuple(before.shape), what="the output")
        differs = (after - before).abs().amax(-1) > 2e-6  # (B, T)
        for c in range(batch):
            for t in range(allowed.shape[0]):
                may = bool(allowed[t, s]) and b == c
                if bool(differs[c, t]) == may:
                    continue
                whose = "which the mask forbids" if b == c else "which belongs to another sequence"
                expect.fail(
                    expected=f"output [{c}, {t}] to depend on x[{b}, {s}], which it may attend to"
                    if may
                    else f"output [{c}, {t}] independent of x[{b}, {s}], {whose}",
                    got="no change at all" if may else "another output when x is changed there",
                    ask="Is the mask the right way round, and for the right side?"
                    if may
                    else "Where do the two meet: is `use_causal_mask` set, and the padding masked?",
                )


def learns(student, model, parts, inputs, rng):
    """Expect one step of training on a batch to move the weights of every sub-layer."""
    keras = student.keras
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse", run_eagerly=True, jit_compile=False)
    before = {name: [w.detach().clone() for w in part.weights] for name, part in parts.items()}
    batch, length = inputs[0].shape[:2]
    model.train_on_batch(inputs if len(inputs) > 1 else inputs[0], single(rng, batch, length, D))
    for name, part in parts.items():
        for i, (old, new) in enumerate(zip(before[name], part.weights, strict=False)):
            if len(before[name]) == 8 and i == 3:
                continue  # a key's bias adds the same to every score: it has no slope
            expect.holds(
                bool((old != new.detach()).any()),
                expected=f"every weight of `{name}` moved by a step of training",
                got=f"weight {i}, of shape {tuple(old.shape)}, as it was",
                ask="Is every step on the way to the output one of Keras's, without NumPy and without stop_gradient?",
            )


# ---- the embedding ------------------------------------------------------------------------------------------------


def waves(length, width=D):
    """Sinusoids, position by position."""
    out = torch.zeros(length, width, dtype=torch.float64)
    for t, i in np.ndindex(length, width):
        angle = t / 10000 ** ((i - i % 2) / width)
        out[t, i] = math.cos(angle) if i % 2 else math.sin(angle)
    return out


@pytest.mark.exercise("PositionalEmbedding")
class TestPositionalEmbedding:
    KIND = "PositionalEmbedding"

    def made(self, student, rng, dropout=0.0, length=None):
        """A layer with a random table, and the table."""
        V = int(rng.integers(9, 14))
        layer = layer_of(student, self.KIND, V, D, dropout)
        layer(np.ones((1, 2), np.int32))
        table = filled(
            rng,
            layer,
            "embedding",
            [(V, D)],
            "keras.layers.Embedding",
            "V rows of width D, and `call` uses them?",
        )[0]
        return layer, table

    def ids(self, rng, table, batch, length):
        ids = np.stack([rng.permutation(np.arange(len(table)))[:length] for _ in range(batch)]).astype(
            np.int32
        )
        ids[0, int(rng.integers(length))] = 0
        return ids

    @pytest.mark.points(2)
    def test_values(self, student, rng):
        """returns √D times the rows of the table plus the sinusoids"""
        layer, table = self.made(student, rng)
        batch, length = rng.distinct(2, 2, 7)
        ids = self.ids(rng, table, batch, length)
        rows, pe = table[ids.astype(np.int64)], waves(length)
        halves = torch.cat([pe[:, 0::2], pe[:, 1::2]], -1)
        expect.close(
            layer(ids),
            (rows * D**0.5 + pe).float(),
            ask="Which numbers are scaled, by what, and what is added to which row?",
            mistakes={
                "rows that are not scaled by √D": (rows + pe).float(),
                "rows scaled by D": (rows * D + pe).float(),
                "rows divided by √D": (rows / D**0.5 + pe).float(),
                "positions scaled as well": ((rows + pe) * D**0.5).float(),
                "no positions": (rows * D**0.5).float(),
                "positions counted from 1": (rows * D**0.5 + waves(length + 1)[1:]).float(),
                "sines in the first half, cosines in the second: they alternate here": (
                    rows * D**0.5 + halves
                ).float(),
                "positions alone": pe.expand(batch, -1, -1).float(),
                "the row of position 0 added everywhere": (rows * D**0.5 + pe[:1]).float(),
                "zeros where the id is 0: padding is masked, and its row stays": (
                    (rows * D**0.5 + pe) * torch.from_numpy(ids != 0)[..., None]
                ).float(),
            },
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_values")
    def test_lengths(self, student, rng):
        """works for sequences of any length, one token among them, and for other widths"""
        layer, table = self.made(student, rng)
        for length in (1, int(rng.integers(2, 6)), 7):
            ids = self.ids(rng, table, 2, length)
            expect.close(
                layer(ids),
                (table[ids.astype(np.int64)] * D**0.5 + waves(length)).float(),
                ask="Do the positions follow the length of the sequence at hand?",
            )
        wide = layer_of(student, self.KIND, 11, 16, 0.0)
        out = wide(np.ones((1, 70), np.int32))
        expect.array(out, shape=(1, 70, 16))
        expect.close(
            out[0] - out[0, :1],
            (waves(70, 16) - waves(70, 16)[:1]).float(),
            atol=1e-4,
            ask="Is any size written down in `call`?",
        )

    @pytest.mark.points(2)
    def test_mask(self, student, rng):
        """says which ids are padding, and hands the mask to the next layer"""
        layer, table = self.made(student, rng)
        batch, length = rng.distinct(2, 3, 7)
        ids = self.ids(rng, table, batch, length)
        ids[1, : int(rng.integers(1, length))] = 0
        ids[:, -1] = np.maximum(ids[:, -1], 1)  # no sequence is padding alone: it has no mean
        real = torch.from_numpy(ids != 0)
        mask = layer.compute_mask(ids)
        mask = torch.from_numpy(mask) if isinstance(mask, np.ndarray) and mask.dtype == bool else mask
        expect.holds(
            mask is not None,
            expected="a mask from compute_mask(ids)",
            got="None",
            ask="Does the embedding take id 0 for padding (`mask_zero`), and does compute_mask ask the embedding?",
        )
        expect.equal(
            mask,
            real,
            what="the mask",
            ask="A mask of Keras's is True where a real token stands.",
            mistakes={"a mask that is True where there is padding: it is inverted": ~real},
        )
        out = layer(ids)
        expect.array(out, shape=(batch, length, D))
        mean = partial(mean_over, out)
        expect.close(
            pooled(student, layer)(ids),
            mean(real),
            what="the mean over real tokens, by a layer that comes after yours",
            ask="Is `compute_mask` defined, with the arguments (ids, mask=None)?",
            mistakes={
                "the mean over all tokens: the mask does not arrive at the next layer": mean(
                    real | True
                ).float(),
                "the mean over padding: the mask is inverted": mean(~real),
            },
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_values")
    @pytest.mark.draws(1)
    def test_dropout(self, student, rng):
        """drops entries of the sum, in training only"""
        layer, table = self.made(student, rng, HALF)
        part_of(layer, "dropout", "keras.layers.Dropout")
        ids = self.ids(rng, table, 3, 7)
        plain = (table[ids.astype(np.int64)] * D**0.5 + waves(7)).float()
        for when, out in (("a plain call", layer(ids)), ("training=False", layer(ids, training=False))):
            expect.close(
                out, plain, what=f"the output of {when}", ask="Who decides whether the dropout is at work?"
            )
        out = layer(ids, training=True)
        expect.array(out, shape=tuple(plain.shape), what="the output in training")
        zero, kept = out == 0, (out - 2 * plain).abs() < 1e-4
        added = out - waves(7).float()  # zero or doubled, if the rows alone went through the dropout
        rows = added.abs().lt(1e-4) | (added - 2 * (plain - waves(7).float())).abs().lt(1e-4)
        expect.holds(
            bool((zero | kept).all()) and 0 < int(zero.sum()) < zero.numel(),
            expected="in training, at rate 0.5, entries of the sum that are zero or doubled",
            got="nothing dropped at all"
            if bool(((out - plain).abs() < 1e-4).all())
            else "the rows dropped before the positions were added"
            if bool(rows.all())
            else "entries that are neither",
            ask="What does the dropout come after, and is its rate the one that was given?",
        )

    @pytest.mark.points(1)
    @pytest.mark.draws(1)
    def test_config(self, student, rng):
        """can be made again from its config, so that a model with it can be saved"""
        expect_default(student, self.KIND, 11, D)
        settings = {"vocabulary": 11, "d_model": D, "dropout": 0.25}
        layer = layer_of(student, self.KIND, *settings.values(), name="mine")
        again = rebuilt(student, self.KIND, layer, settings)
        again(np.ones((1, 2), np.int32))
        filled(
            rng, again, "embedding", [(11, D)], "keras.layers.Embedding", "V and D are those of the config?"
        )
        rate = part_of(again, "dropout", "keras.layers.Dropout").rate
        expect.holds(
            rate == 0.25, expected="a dropout of rate 0.25 in the layer made again", got=str(rate)[:40]
        )


# ---- self-attention -----------------------------------------------------------------------------------------------


class Layer:
    """What the checks of all three attention layers have in common."""

    KIND = ""
    SETTINGS: ClassVar = {}

    def built(self, student, rng, dropout=0.0, **kwargs):
        """The learner's layer, and its weights by the names of its sub-layers."""
        layer = layer_of(student, self.KIND, *self.arguments(dropout), **kwargs)
        self.warm(layer)
        return layer, self.weights(rng, layer)

    def warm(self, layer):
        """A first call, which makes the weights."""
        layer(np.ones((1, 2, D), np.float32))

    def config(self, student, rng):
        expect_default(student, self.KIND, *self.arguments(0.0)[:-1])
        settings = {"d_model": D, "heads": H} | self.SETTINGS | {"dropout": 0.25}
        layer = layer_of(student, self.KIND, *settings.values(), name="mine")
        again = rebuilt(student, self.KIND, layer, settings)
        self.warm(again)
        self.weights(rng, again)
        rate = part_of(again, "dropout", "keras.layers.Dropout").rate
        expect.holds(
            rate == 0.25, expected="a dropout of rate 0.25 in the layer made again", got=str(rate)[:40]
        )

    def goes_on(self, student, rng):
        """The mask of what comes in must arrive at what comes after."""
        layer, _ = self.built(student, rng)
        batch, length = rng.distinct(2, 3, 7)
        embedding, _ = a_table(student, rng, 12)
        ids = ids_with_gaps(rng, batch, length, 12)
        real = torch.from_numpy(ids != 0)
        out = student.keras.Sequential([embedding, layer])(ids)
        expect.array(out, shape=(batch, length, D))
        mean = partial(mean_over, out)
        expect.close(
            pooled(student, embedding, layer)(ids),
            mean(real),
            what="the mean over real tokens, by a layer that comes after yours",
            ask="Keras takes a layer for one that cannot handle masks until `__init__` says otherwise. How?",
            mistakes={
                "the mean over all tokens: the mask ends in your layer (supports_masking)": mean(
                    real | True
                ).float()
            },
        )


@pytest.mark.exercise("CausalSelfAttention")
class TestCausalSelfAttention(Layer):
    KIND = "CausalSelfAttention"

    def arguments(self, dropout):
        return D, H, dropout

    def weights(self, rng, layer):
        return {
            "attention": attention_weights(rng, layer, "attention"),
            "norm": norm_weights(rng, layer, "norm"),
        }

    def right(self, w, x, allowed, wrong=""):
        return add(w["norm"], x, lambda x: attend(w["attention"], x, x, allowed), wrong)

    def mistakes(self, w, x, allowed):
        size = x.shape[1]
        said = {
            f"attention {text}": (lambda wrong=wrong: self.right(w, x, allowed, wrong).float())
            for wrong, text in RESIDUAL.items()
        }
        ones = torch.ones(size, size, dtype=torch.bool)
        said |= {
            "attention to all positions: use_causal_mask is left out": lambda: self.right(w, x, ones).float(),
            "attention to what comes after: the triangle is the wrong way round": lambda: self.right(
                w, x, ones.triu()
            ).float(),
            "x normed, and nothing attended to": lambda: normed(w["norm"], x).float(),
            "the attention alone, without residual connection and norm": lambda: attend(
                w["attention"], x, x, allowed
            ).float(),
        }
        return said

    @pytest.mark.points(2)
    def test_values(self, student, rng):
        """agrees with PyTorch's attention, with residual connection and norm"""
        layer, w = self.built(student, rng)
        batch, length = rng.distinct(2, 2, 7)
        for scale in (1.0, 0.02):
            x = single(rng, batch, length, D, scale=scale)
            double, allowed = torch.from_numpy(x).double(), triangle(length)
            expect.close(
                layer(x),
                self.right(w, double, allowed).float(),
                atol=2e-5,
                ask="Who attends to whom, what is added to what, and where does the norm stand?",
                mistakes=lambda double=double, allowed=allowed: self.mistakes(w, double, allowed),
            )
        expect_epsilon(layer, "norm")

    @pytest.mark.points(2)
    def test_reach(self, student, rng):
        """no output depends on what comes after, or on another sequence"""
        layer, _ = self.built(student, rng)
        length = int(rng.integers(3, 6))
        reach(layer, single(rng, 2, length, D), triangle(length), rng)

    @pytest.mark.points(2)
    def test_padding(self, student, rng):
        """nobody attends to padding, wherever it stands"""
        layer, w = self.built(student, rng)
        batch, length = rng.distinct(2, 3, 7)
        embedding, table = a_table(student, rng, 12)
        ids = ids_with_gaps(rng, batch, length, 12)
        real = torch.from_numpy(ids != 0)
        x = torch.from_numpy(table).double()[ids.astype(np.int64)]
        out = student.keras.Sequential([embedding, layer])(ids)
        expect.array(out, shape=(batch, length, D))
        expect.close(
            out[real],
            self.right(w, x, triangle(length) & real[:, None])[real].float(),
            atol=2e-5,
            what="the output at real tokens",
            ask="x carries a mask. Does the attention get to see it, on the very tensor or as an argument?",
            mistakes={
                "padding attended to: the mask does not arrive at the attention": self.right(
                    w, x, triangle(length)
                )[real].float(),
                "attention to all positions that are no padding: use_causal_mask is left out": self.right(
                    w, x, real[:, None].expand(-1, length, -1)
                )[real].float(),
            },
        )

    @pytest.mark.points(1)
    @pytest.mark.draws(1)
    def test_mask_goes_on(self, student, rng):
        """hands the mask on to the layer after it"""
        self.goes_on(student, rng)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_values")
    @pytest.mark.draws(1)
    def test_dropout(self, student, rng):
        """drops what the attention found, in training only, and nothing else"""
        layer, w = self.built(student, rng, ALL)
        batch, length = rng.distinct(2, 2, 7)
        x = single(rng, batch, length, D)
        double = torch.from_numpy(x).double()
        plain = self.right(w, double, triangle(length)).float()
        expect.close(
            layer(x),
            plain,
            atol=2e-5,
            what="the output of a plain call",
            ask="Who decides whether the dropout is at work?",
            mistakes={"dropout at work outside of training": normed(w["norm"], double).float()},
        )
        expect.close(
            layer(x, training=True),
            normed(w["norm"], double).float(),
            atol=2e-5,
            what="the output in training, at rate 1",
            ask="Of norm(x + dropout(…)), what is left if dropout leaves nothing?",
            mistakes={
                "nothing dropped at all": plain,
                "the sum dropped, x with it": normed(w["norm"], 0 * double).float(),
                "the output dropped, after the norm": torch.zeros(x.shape),
                "the attention's weights dropped (its own `dropout`), and not what it found": normed(
                    w["norm"], double + w["attention"][7]
                ).float(),
            },
        )
        half = layer_of(student, self.KIND, *self.arguments(HALF))
        self.warm(half)
        w = self.weights(rng, half)
        x = single(rng, 1, 1, D)
        found = attend(w["attention"], torch.from_numpy(x).double(), torch.from_numpy(x).double())[0, 0]
        keep = torch.from_numpy(np.array(list(np.ndindex(*[2] * D))))
        rows = normed(
            w["norm"], torch.from_numpy(x[0, 0]).double() + 2 * keep * found
        )  # (2^D, D): every choice
        out = half(x, training=True)
        expect.array(out, shape=(1, 1, D))
        expect.holds(
            bool(((rows - out[0, 0].double()).abs().amax(-1) < 1e-4).any()),
            expected="in training, at rate 0.5, entries of what the attention found that are zero or doubled",
            got="a row that no choice of zeros explains",
            ask="Is the dropout's rate the one that was given, and is anything else dropped besides?",
        )

    @pytest.mark.points(1)
    @pytest.mark.draws(1)
    def test_trains(self, student, rng):
        """has weights that training moves"""
        layer, _ = self.built(student, rng)
        parts = {"attention": layer.attention, "norm": layer.norm}
        learns(student, student.keras.Sequential([layer]), parts, [single(rng, 3, 4, D)], rng)

    @pytest.mark.points(1)
    @pytest.mark.draws(1)
    def test_config(self, student, rng):
        """can be made again from its config"""
        self.config(student, rng)


# ---- encoder layer ------------------------------------------------------------------------------------------------


@pytest.mark.exercise("EncoderLayer")
class TestEncoderLayer(Layer):
    KIND = "EncoderLayer"
    WIDTH = 7
    SETTINGS: ClassVar = {"d_ff": 7}

    def arguments(self, dropout):
        return D, H, self.WIDTH, dropout

    def weights(self, rng, layer):
        return {
            "attention": attention_weights(rng, layer, "attention"),
            "attention_norm": norm_weights(rng, layer, "attention_norm"),
            "feed_forward": inner_weights(rng, layer, self.WIDTH),
            "feed_forward_norm": norm_weights(rng, layer, "feed_forward_norm"),
        }

    def right(self, w, x, allowed=None, wrong="", order="at", activation=F.relu):
        """a: attention, t: feed-forward net; ``wrong`` is "a:…" or "t:…"."""
        where, _, how = wrong.partition(":")
        norms = {"a": w["attention_norm"], "t": w["feed_forward_norm"]}
        if how == "swapped":
            norms = {"a": norms["t"], "t": norms["a"]}
        if how == "one":
            norms["t"] = norms["a"]
        if how == "other":
            norms["a"] = norms["t"]
        steps = {
            "a": lambda x: attend(w["attention"], x, x, allowed),
            "t": lambda x: think(w["feed_forward"], x, activation),
        }
        for step in order:
            x = add(norms[step], x, steps[step], how if step == where or where == "both" else "")
        return x

    def mistakes(self, w, x, allowed=None):
        names = {"a": "attention", "t": "the feed-forward net", "both": "both sub-layers"}
        said = {
            f"{name} {text}": (lambda wrong=f"{part}:{wrong}": self.right(w, x, allowed, wrong).float())
            for part, name in names.items()
            for wrong, text in RESIDUAL.items()
        }
        causal = triangle(x.shape[1]) if allowed is None else triangle(x.shape[1]) & allowed
        variants = {
            "attention under a causal mask: an encoder may look ahead": (causal, "", "at", F.relu),
            "the feed-forward net left out": (allowed, "", "a", F.relu),
            "attention left out": (allowed, "", "t", F.relu),
            "the feed-forward net before attention": (allowed, "", "ta", F.relu),
            "one norm for both sub-layers": (allowed, "_:one", "at", F.relu),
            "one norm for both sub-layers, under two names": (allowed, "_:other", "at", F.relu),
            "the two norms in each other's place": (allowed, "_:swapped", "at", F.relu),
            "no ReLU between the two Dense": (allowed, "", "at", torch.nn.Identity()),
            "GELU in place of ReLU": (allowed, "", "at", F.gelu),
        }
        said |= {text: (lambda v=v: self.right(w, x, *v).float()) for text, v in variants.items()}

        def last_relu():
            y = add(w["attention_norm"], x, lambda x: attend(w["attention"], x, x, allowed))
            return add(w["feed_forward_norm"], y, lambda y: think(w["feed_forward"], y).relu()).float()

        def first_x():
            y = add(w["attention_norm"], x, lambda x: attend(w["attention"], x, x, allowed))
            return normed(w["feed_forward_norm"], x + think(w["feed_forward"], y)).float()

        said["ReLU after the second Dense as well"] = last_relu
        said["the x that came in added twice: the second residual connection begins after the first norm"] = (
            first_x
        )
        return said

    @pytest.mark.points(3)
    def test_values(self, student, rng):
        """agrees with PyTorch on the same weights"""
        layer, w = self.built(student, rng)
        batch, length = rng.distinct(2, 2, 6)
        for scale in (1.0, 0.02):
            x = single(rng, batch, length, D, scale=scale)
            double = torch.from_numpy(x).double()
            expect.close(
                layer(x),
                self.right(w, double).float(),
                atol=2e-5,
                ask="Two sub-layers: what is added to what, and where do the norms stand?",
                mistakes=lambda double=double: self.mistakes(w, double),
            )
        expect_epsilon(layer, "attention_norm", "feed_forward_norm")

    @pytest.mark.points(2)
    def test_reach(self, student, rng):
        """every output depends on every position of its own sequence, and on no other"""
        layer, _ = self.built(student, rng)
        length = int(rng.integers(3, 6))
        reach(layer, single(rng, 2, length, D), torch.ones(length, length, dtype=torch.bool), rng)

    @pytest.mark.points(2)
    def test_padding(self, student, rng):
        """nobody attends to padding, wherever it stands"""
        layer, w = self.built(student, rng)
        batch, length = rng.distinct(2, 3, 7)
        embedding, table = a_table(student, rng, 12)
        ids = ids_with_gaps(rng, batch, length, 12)
        real = torch.from_numpy(ids != 0)
        x = torch.from_numpy(table).double()[ids.astype(np.int64)]
        out = student.keras.Sequential([embedding, layer])(ids)
        expect.array(out, shape=(batch, length, D))
        allowed = real[:, None].expand(-1, length, -1)
        expect.close(
            out[real],
            self.right(w, x, allowed)[real].float(),
            atol=2e-5,
            what="the output at real tokens",
            ask="x carries a mask. Does the attention get to see it, on the very tensor or as an argument?",
            mistakes={
                "padding attended to: the mask does not arrive at the attention": self.right(w, x)[
                    real
                ].float(),
                "padding alone attended to: the mask is inverted": self.right(w, x, ~allowed)[real].float(),
            },
        )

    @pytest.mark.points(1)
    @pytest.mark.draws(1)
    def test_mask_goes_on(self, student, rng):
        """hands the mask on to the layer after it"""
        self.goes_on(student, rng)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_values")
    @pytest.mark.draws(1)
    def test_dropout(self, student, rng):
        """drops what each sub-layer found, in training only"""
        layer, w = self.built(student, rng, ALL)
        x = single(rng, 2, 3, D)
        double = torch.from_numpy(x).double()
        one, two = w["attention_norm"], w["feed_forward_norm"]
        plain = self.right(w, double).float()
        bare = normed(two, normed(one, double)).float()
        expect.close(
            layer(x),
            plain,
            atol=2e-5,
            what="the output of a plain call",
            ask="Who decides whether the dropout is at work?",
            mistakes={"dropout at work outside of training": bare},
        )
        expect.close(
            layer(x, training=True),
            bare,
            atol=2e-5,
            what="the output in training, at rate 1",
            ask="Of norm(x + dropout(…)), what is left if dropout leaves nothing?",
            mistakes={
                "nothing dropped at all": plain,
                "what the attention found is not dropped": normed(
                    two, self.right(w, double, order="a")
                ).float(),
                "what the feed-forward net found is not dropped": self.right(
                    w, normed(one, double), order="t"
                ).float(),
                "the attention's weights dropped (its own `dropout`), and not what it found": normed(
                    two, normed(one, double + w["attention"][7])
                ).float(),
            },
        )
        rate = part_of(
            layer_of(student, self.KIND, *self.arguments(0.25)), "dropout", "keras.layers.Dropout"
        ).rate
        expect.holds(rate == 0.25, expected="a dropout of the rate that was given, 0.25", got=str(rate)[:40])

    @pytest.mark.points(1)
    @pytest.mark.draws(1)
    def test_trains(self, student, rng):
        """has weights that training moves"""
        layer, w = self.built(student, rng)
        parts = {name: getattr(layer, name) for name in w}
        learns(student, student.keras.Sequential([layer]), parts, [single(rng, 3, 4, D)], rng)

    @pytest.mark.points(1)
    @pytest.mark.draws(1)
    def test_config(self, student, rng):
        """can be made again from its config"""
        self.config(student, rng)


# ---- decoder layer ------------------------------------------------------------------------------------------------


@pytest.mark.exercise("DecoderLayer")
class TestDecoderLayer(Layer):
    KIND = "DecoderLayer"
    WIDTH = 7
    SETTINGS: ClassVar = {"d_ff": 7}

    def arguments(self, dropout):
        return D, H, self.WIDTH, dropout

    def warm(self, layer):
        layer(np.ones((1, 2, D), np.float32), np.ones((1, 3, D), np.float32))

    def weights(self, rng, layer):
        inner = part_of(layer, "self_attention", "CausalSelfAttention")
        return {
            "attention": attention_weights(rng, inner, "attention"),
            "norm": norm_weights(rng, inner, "norm"),
            "cross_attention": attention_weights(rng, layer, "cross_attention"),
            "cross_attention_norm": norm_weights(rng, layer, "cross_attention_norm"),
            "feed_forward": inner_weights(rng, layer, self.WIDTH),
            "feed_forward_norm": norm_weights(rng, layer, "feed_forward_norm"),
        }

    def right(self, w, x, memory, seen=None, allowed=None, wrong="", order="sct", activation=F.relu):
        """s: self-attention, c: cross-attention, t: feed-forward net; ``wrong`` is "c:…", "t:…" or one of its own."""
        where, _, how = wrong.partition(":")
        norms = {"s": w["norm"], "c": w["cross_attention_norm"], "t": w["feed_forward_norm"]}
        if how == "one":
            norms["t"] = norms["c"]
        if how == "other":
            norms["c"] = norms["t"]
        if how == "swapped":
            norms["c"], norms["t"] = norms["t"], norms["c"]
        causal = triangle(x.shape[1]) if allowed is None else allowed

        def cross(x):
            if how == "sides":
                return attend(w["cross_attention"], memory, x)
            if how == "own":
                return attend(w["cross_attention"], x, x)
            if how == "causal":
                return attend(
                    w["cross_attention"], x, memory, torch.ones(x.shape[1], memory.shape[1]).tril().bool()
                )
            if how == "same weights":
                return attend(w["attention"], x, memory, seen)
            return attend(w["cross_attention"], x, memory, seen)

        steps = {
            "s": lambda x: attend(w["attention"], x, x, causal),
            "c": cross,
            "t": lambda x: think(w["feed_forward"], x, activation),
        }
        for step in order:
            x = add(norms[step], x, steps[step], how if step == where else "")
        return x

    def mistakes(self, w, x, memory, seen=None):
        names = {"c": "cross-attention", "t": "the feed-forward net"}
        said = {
            f"{name} {text}": (
                lambda wrong=f"{part}:{wrong}": self.right(w, x, memory, seen, wrong=wrong).float()
            )
            for part, name in names.items()
            for wrong, text in RESIDUAL.items()
        }
        everything = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool)
        variants = {
            "cross-attention with its sides swapped: the memory asks": {"wrong": "_:sides"},
            "cross-attention to x itself: the memory is not handed on": {"wrong": "_:own"},
            "cross-attention under a causal mask: the whole source is there": {"wrong": "_:causal"},
            "both attentions with the weights of self-attention": {"wrong": "_:same weights"},
            "one norm for cross-attention and feed-forward net": {"wrong": "_:one"},
            "one norm for cross-attention and feed-forward net, under two names": {"wrong": "_:other"},
            "two norms in each other's place": {"wrong": "_:swapped"},
            "self-attention to all positions: it is not causal": {"allowed": everything},
            "cross-attention left out": {"order": "st"},
            "self-attention left out": {"order": "ct"},
            "the feed-forward net left out": {"order": "sc"},
            "cross-attention before self-attention": {"order": "cst"},
            "the feed-forward net between the two attentions": {"order": "stc"},
            "self-attention run twice": {"order": "ssct"},
            "no ReLU between the two Dense": {"activation": torch.nn.Identity()},
            "GELU in place of ReLU": {"activation": F.gelu},
        }
        if x.shape != memory.shape:
            variants.pop("cross-attention with its sides swapped: the memory asks")
        said |= {
            text: (lambda v=v: self.right(w, x, memory, seen, **v).float()) for text, v in variants.items()
        }

        def again():  # x added once more around self-attention, which has its residual connection
            y = self.right(w, x, memory, seen, order="s")
            return self.right(w, x + y, memory, seen, order="ct").float()

        def outer():
            y = self.right(w, x, memory, seen, order="s")
            z = normed(w["cross_attention_norm"], x + attend(w["cross_attention"], y, memory, seen))
            return self.right(w, z, memory, seen, order="t").float()

        said["x added again after self-attention, which has its residual connection inside"] = again
        said["the x that came in added around cross-attention, and not what self-attention made"] = outer
        return said

    @pytest.mark.points(3)
    def test_values(self, student, rng):
        """agrees with PyTorch on the same weights"""
        layer, w = self.built(student, rng)
        B, T, S = rng.distinct(3, 2, 6)
        for length, scale in (
            (S, 1.0),
            (T, 1.0),
            (S, 0.02),
        ):  # as long as the target: a swap of sides has the same shape
            x, memory = single(rng, B, T, D, scale=scale), single(rng, B, length, D)
            ours = torch.from_numpy(x).double(), torch.from_numpy(memory).double()
            expect.close(
                layer(x, memory),
                self.right(w, *ours).float(),
                atol=2e-5,
                ask="Three sub-layers: who asks, who is looked up, what is added to what?",
                mistakes=lambda ours=ours: self.mistakes(w, *ours),
            )
        expect_epsilon(layer, "cross_attention_norm", "feed_forward_norm")

    @pytest.mark.points(2)
    def test_reach(self, student, rng):
        """no output depends on later targets; every output depends on the whole memory"""
        layer, _ = self.built(student, rng)
        T, S = rng.distinct(2, 3, 5)
        x, memory = single(rng, 2, T, D), single(rng, 2, S, D)
        reach(lambda x: layer(x, memory), x, triangle(T), rng)
        reach(lambda memory: layer(x, memory), memory, torch.ones(T, S, dtype=torch.bool), rng)

    @pytest.mark.points(2)
    def test_memory_mask(self, student, rng):
        """attends to no row of the memory that memory_mask forbids"""
        layer, w = self.built(student, rng)
        B, T, S = rng.distinct(3, 3, 6)
        x, memory = single(rng, B, T, D), single(rng, B, S, D)
        for size in (S, T):
            memory = single(rng, B, size, D)
            real = ids_with_gaps(rng, B, size, 12) != 0
            ours = torch.from_numpy(x).double(), torch.from_numpy(memory).double()
            seen = torch.from_numpy(real)[:, None].expand(-1, T, -1)
            said = {
                "every row of the memory attended to: memory_mask is not used": self.right(w, *ours),
                "the rows attended to that memory_mask forbids: it is inverted": self.right(w, *ours, ~seen),
            }
            if size == T:
                asked = torch.from_numpy(real)[:, :, None].expand(-1, -1, T)
                said["memory_mask taken for a mask of the queries"] = self.right(w, *ours, asked)
                target = triangle(T) & torch.from_numpy(real)[:, None]
                said["memory_mask used in self-attention"] = self.right(w, *ours, allowed=target)
            expect.close(
                layer(x, memory, memory_mask=real),
                self.right(w, *ours, seen).float(),
                atol=2e-5,
                ask="Which argument of MultiHeadAttention says which keys and values are real?",
                mistakes={text: value.float() for text, value in said.items()},
            )

    @pytest.mark.points(2)
    def test_carried_masks(self, student, rng):
        """heeds the masks that target and memory carry"""
        layer, w = self.built(student, rng)
        B, T, S = rng.distinct(3, 3, 6)
        embedding, table = a_table(student, rng, 12)
        read, written = ids_with_gaps(rng, B, S, 12), ids_with_gaps(rng, B, T, 12)
        keras = student.keras
        inputs = [keras.Input((S,), dtype="int32"), keras.Input((T,), dtype="int32")]
        model = keras.Model(inputs, layer(embedding(inputs[1]), embedding(inputs[0])))
        rows = torch.from_numpy(table).double()
        x, memory = (rows[ids.astype(np.int64)] for ids in (written, read))
        real = torch.from_numpy(written != 0)
        seen = torch.from_numpy(read != 0)[:, None].expand(-1, T, -1)
        allowed = triangle(T) & real[:, None]
        out = model([read, written])
        expect.array(out, shape=(B, T, D))
        expect.close(
            out[real],
            self.right(w, x, memory, seen, allowed)[real].float(),
            atol=2e-5,
            what="the output at real targets",
            ask="Keras fills `memory_mask` from the memory, and x carries its own mask: is either lost on the way?",
            mistakes={
                "padding of the source attended to": self.right(w, x, memory, None, allowed)[real].float(),
                "padding of the target attended to": self.right(w, x, memory, seen)[real].float(),
                "padding of source and target attended to": self.right(w, x, memory)[real].float(),
            },
        )

    @pytest.mark.points(1)
    @pytest.mark.draws(1)
    def test_mask_goes_on(self, student, rng):
        """hands the target's mask on to the layer after it"""
        layer, _ = self.built(student, rng)
        B, T, S = rng.distinct(3, 3, 6)
        embedding, _ = a_table(student, rng, 12)
        read, written = ids_with_gaps(rng, B, S, 12), ids_with_gaps(rng, B, T, 12)
        real = torch.from_numpy(written != 0)
        keras = student.keras
        inputs = [keras.Input((S,), dtype="int32"), keras.Input((T,), dtype="int32")]
        rows = layer(embedding(inputs[1]), embedding(inputs[0]))
        out = keras.Model(inputs, rows)([read, written])
        expect.array(out, shape=(B, T, D))
        mean = partial(mean_over, out)
        expect.close(
            keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(rows))([read, written]),
            mean(real),
            what="the mean over real targets, by a layer that comes after yours",
            ask="Keras takes a layer for one that cannot handle masks until `__init__` says otherwise. How?",
            mistakes={
                "the mean over all tokens: the mask ends in your layer (supports_masking)": mean(real | True)
            },
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_values")
    @pytest.mark.draws(1)
    def test_dropout(self, student, rng):
        """drops what each sub-layer found, in training only"""
        layer, w = self.built(student, rng, ALL)
        x, memory = single(rng, 2, 3, D), single(rng, 2, 4, D)
        ours = torch.from_numpy(x).double(), torch.from_numpy(memory).double()
        plain = self.right(w, *ours).float()
        first, second, third = w["norm"], w["cross_attention_norm"], w["feed_forward_norm"]
        bare = normed(third, normed(second, normed(first, ours[0])))
        expect.close(
            layer(x, memory),
            plain,
            atol=2e-5,
            what="the output of a plain call",
            ask="Who decides whether the dropout is at work?",
            mistakes={"dropout at work outside of training": bare.float()},
        )
        alone = normed(first, ours[0])
        expect.close(
            layer(x, memory, training=True),
            bare.float(),
            atol=2e-5,
            what="the output in training, at rate 1",
            ask="Of norm(x + dropout(…)), what is left if dropout leaves nothing?",
            mistakes={
                "nothing dropped at all": plain,
                "what self-attention found is not dropped: is the rate handed to it?": normed(
                    third, normed(second, self.right(w, *ours, order="s"))
                ).float(),
                "what cross-attention found is not dropped": normed(
                    third, self.right(w, alone, ours[1], order="c")
                ).float(),
                "what the feed-forward net found is not dropped": self.right(
                    w, normed(second, alone), ours[1], order="t"
                ).float(),
            },
        )
        rate = part_of(
            layer_of(student, self.KIND, *self.arguments(0.25)), "dropout", "keras.layers.Dropout"
        ).rate
        expect.holds(rate == 0.25, expected="a dropout of the rate that was given, 0.25", got=str(rate)[:40])

    @pytest.mark.points(1)
    @pytest.mark.draws(1)
    def test_trains(self, student, rng):
        """has weights that training moves"""
        layer, w = self.built(student, rng)
        keras = student.keras
        inputs = [keras.Input((4, D)), keras.Input((5, D))]
        own = {name: getattr(layer, name) for name in w if name not in ("attention", "norm")}
        parts = own | {"self_attention": layer.self_attention.attention}
        data = [single(rng, 3, 4, D), single(rng, 3, 5, D)]
        learns(student, keras.Model(inputs, layer(*inputs)), parts, data, rng)

    @pytest.mark.points(1)
    @pytest.mark.draws(1)
    def test_config(self, student, rng):
        """can be made again from its config"""
        self.config(student, rng)
