"""Checks of unit 18, last part: the whole model.

The judge is the T5 of ``transformers``, a random configuration of it with the same weights; and gradients: who can see
whom. A model worked out by hand, with something wrong in it, names the mistake where an answer differs.
"""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from proctor import expect

INF = float("inf")
D, H, K, INNER, LAYERS = 6, 2, 5, 7, 2  # K is not D / H
BUCKETS, FAR = 8, 10
SUBLAYERS = {
    "encoder": ("attention", "feed_forward"),
    "decoder": ("self_attention", "cross_attention", "feed_forward"),
}


# ---- weights --------------------------------------------------------------------------------------------------------


def model_shapes(V, gated, tied):
    """Names and shapes of all parameters of a model."""
    maps = {f"{part}.weight": (H * K, D) for part in ("query", "key", "value")} | {
        "output.weight": (D, H * K)
    }
    thinks = {"hidden.weight": (INNER, D), "output.weight": (D, INNER)}
    thinks |= {"gate.weight": (INNER, D)} if gated else {}
    shapes = {"embedding.weight": (V, D)}
    for stack, names in SUBLAYERS.items():
        shapes |= {f"{stack}_bias.weight": (BUCKETS, H), f"{stack}.norm.weight": (D,)}
        for i in range(LAYERS):
            for name in names:
                layer = f"{stack}.layers.{i}.{name}"
                shapes[f"{layer}_residual.norm.weight"] = (D,)
                parts = thinks if name == "feed_forward" else maps
                shapes |= {f"{layer}.{part}": shape for part, shape in parts.items()}
    return shapes if tied else shapes | {"head.weight": (V, D)}


def drawn(rng, shapes, dtype=torch.float32):
    """Random weights: norms around one, biases of distance that count, maps that keep the size of what goes through."""
    weights = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            weights[name] = rng.tensor(*shape, scale=0.4, dtype=dtype) + 1
        else:
            scale = 1.5 if "bias" in name else 1.0 if name.startswith("embedding") else shape[1] ** -0.5
            weights[name] = rng.tensor(*shape, scale=scale, dtype=dtype)
    return weights


def loaded(module, weights, ask):
    """The learner's module with these weights, which must be all that it trains, ready for evaluation."""
    expect.parameters(module, {name: tuple(w.shape) for name, w in weights.items()}, ask=ask)
    module.load_state_dict(weights, strict=False)  # a buffer of the learner's own may keep what it holds
    module.eval()
    return module


THEIRS = {"query": "q", "key": "k", "value": "v", "output": "o", "hidden": "wi_0", "gate": "wi_1"}


def published(weights, gated):
    """The same weights under the names of ``transformers``."""
    renamed = {}
    for name, w in weights.items():
        stack, *path = name.split(".")
        if name == "embedding.weight":
            for shared in ("shared", "encoder.embed_tokens", "decoder.embed_tokens"):
                renamed[f"{shared}.weight"] = w
        elif name == "head.weight":
            renamed["lm_head.weight"] = w
        elif stack.endswith("_bias"):
            stack = stack.removesuffix("_bias")
            renamed[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = w
        elif path[0] == "norm":
            renamed[f"{stack}.final_layer_norm.weight"] = w
        else:
            _, i, sublayer, part, *_ = path
            place = SUBLAYERS[stack].index(sublayer.removesuffix("_residual"))
            inner = (
                ("SelfAttention", "EncDecAttention")[place] if "attention" in sublayer else "DenseReluDense"
            )
            there = f"{stack}.block.{i}.layer.{place}"
            if sublayer.endswith("_residual"):
                renamed[f"{there}.layer_norm.weight"] = w
            elif inner == "DenseReluDense":
                theirs = {"output": "wo", "gate": "wi_1", "hidden": "wi_0" if gated else "wi"}[part]
                renamed[f"{there}.{inner}.{theirs}.weight"] = w
            else:
                renamed[f"{there}.{inner}.{THEIRS[part]}.weight"] = w
    renamed.setdefault("lm_head.weight", weights["embedding.weight"])
    return renamed


def of_transformers(weights, V, pad, gated, tied):
    """The T5 of ``transformers`` with these weights; the package is imported where it is first needed."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=V,
        d_model=D,
        d_kv=K,
        d_ff=INNER,
        num_layers=LAYERS,
        num_heads=H,
        relative_attention_num_buckets=BUCKETS,
        relative_attention_max_distance=FAR,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu" if gated else "relu",
        tie_word_embeddings=tied,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        use_cache=False,
    )
    model = T5ForConditionalGeneration(config)
    if not tied:  # this version always ties them, and scales what it took for tied
        model.lm_head.weight = nn.Parameter(torch.zeros(V, D))
    model.to(weights["embedding.weight"].dtype).load_state_dict(published(weights, gated))
    return model.eval()


# ---- the same by hand, with its mistakes ----------------------------------------------------------------------------


def buckets_of(relative, bidirectional):
    """Buckets of distances, for ``BUCKETS`` of them up to ``FAR``."""
    n = BUCKETS // 2 if bidirectional else BUCKETS
    d = relative.abs() if bidirectional else (-relative).clamp(min=0)
    e = n // 2
    steps = (n - e) * torch.log(d.clamp(min=e) / e) / np.log(FAR / e)
    far = (e + (steps + 1e-6).floor().long()).clamp(max=n - 1)
    return torch.where(d < e, d, far) + (n * (relative > 0) if bidirectional else 0)


class ByHand:
    """A model on given weights, whose steps can be taken in a wrong way."""

    def __init__(self, weights, pad, gated, tied, wrong=""):
        self.w, self.pad, self.gated, self.tied, self.wrong = weights, pad, gated, tied, wrong

    def norm(self, name, x):
        return F.rms_norm(x, (D,), self.w[f"{name}.weight"], 1e-6)

    def bias(self, stack, T, S, offset=0):
        """What is added to the scores: (H, T, S)."""
        wrong, table = self.wrong, stack
        if wrong in (f"no {stack} bias", "no bias"):
            return torch.zeros(H, T, S, dtype=self.w["embedding.weight"].dtype)
        if wrong == "tables swapped":
            table = {"encoder": "decoder", "decoder": "encoder"}[stack]
        if wrong in ("encoder", "decoder"):
            table = wrong
        if wrong == "encoder's bias" and stack == "decoder":
            table = stack = "encoder"
        relative = torch.arange(S) - torch.arange(offset, offset + T)[:, None]
        if wrong in ("sign", f"{stack} sign"):
            relative = -relative
        if wrong == "sides":
            relative = -relative.abs()
        both = (stack == "encoder") != (wrong == f"{stack} ways" or wrong == "ways")
        values = self.w[f"{table}_bias.weight"][buckets_of(relative, both)]  # (T, S, H)
        if wrong == "view":
            return values.reshape(H, T, S)
        if wrong == "transposed" and T == S:
            return values.permute(2, 1, 0)
        return values.permute(2, 0, 1)

    def attend(self, name, x, memory, mask):
        q, k, v = (
            F.linear(rows, self.w[f"{name}.{part}.weight"]).unflatten(-1, (H, K)).transpose(1, 2)
            for part, rows in (("query", x), ("key", memory), ("value", memory))
        )
        found = torch.softmax(q @ k.transpose(-2, -1) + mask, -1).nan_to_num(0.0) @ v
        return F.linear(found.transpose(1, 2).flatten(-2), self.w[f"{name}.output.weight"])

    def think(self, name, x):
        hidden = F.linear(x, self.w[f"{name}.hidden.weight"])
        gated = self.gated and self.wrong != "not gated"
        hidden = (
            F.gelu(hidden, approximate="tanh") * F.linear(x, self.w[f"{name}.gate.weight"])
            if gated
            else hidden.relu()
        )
        return F.linear(hidden, self.w[f"{name}.output.weight"])

    def stack(self, stack, x, mask, memory=None, memory_mask=None):
        for i in range(LAYERS):
            for name in SUBLAYERS[stack]:
                layer = f"{stack}.layers.{i}.{name}"
                y = self.norm(f"{layer}_residual.norm", x)
                if name == "feed_forward":
                    x = x + self.think(layer, y)
                elif name == "cross_attention":
                    x = x + self.attend(layer, y, memory, memory_mask)
                else:
                    only = self.wrong == "first layer" and i
                    x = x + self.attend(
                        layer,
                        y,
                        y,
                        mask.clamp(max=0, min=-1e30).where(mask == -INF, torch.zeros(())) if only else mask,
                    )
        return x if self.wrong == "no last norm" else self.norm(f"{stack}.norm", x)

    def embed(self, ids):
        x = self.w["embedding.weight"][ids]
        return x * D**0.5 if self.wrong == "embedding times" else x

    def hidden(self, ids):
        """-inf for keys that are padding: (B, 1, 1, S)."""
        return torch.zeros(ids.shape)[:, None, None].masked_fill((ids == self.pad)[:, None, None], -INF)

    def encode(self, source):
        S = source.shape[1]
        mask = self.bias("encoder", S, S)
        hidden = self.hidden(source)
        if self.wrong == "inverted padding":
            hidden = torch.zeros(hidden.shape).masked_fill(hidden == 0, -INF)
        if self.wrong == "padding asks":
            hidden = hidden.transpose(-2, -1)
        if self.wrong == "padding by head" and len(source) == H:
            hidden = hidden[:, 0]
        if self.wrong not in ("source padding", "padding in encoder"):
            mask = mask + hidden
        if self.wrong == "causal encoder":
            mask = mask.masked_fill(torch.ones(S, S, dtype=torch.bool).triu(1), -INF)
        return self.stack("encoder", self.embed(source), mask)

    def decode(self, target, memory, source, start=0):
        """The logits; what goes wrong with caches does so from target number ``start`` on."""
        T, S = target.shape[1], source.shape[1]
        mask, later = self.bias("decoder", T, T), torch.ones(T, T, dtype=torch.bool).triu(1)
        if self.wrong in ("no offset", "no offset at all"):
            mask = torch.cat([mask[:, :start], self.bias("decoder", T - start, T)], 1)
        if self.wrong in ("first rows", "no offset at all"):
            later = torch.cat([later[:start], later[: T - start]])
        if self.wrong != "no causal mask":
            mask = mask.masked_fill(later, -INF)
        if self.wrong == "target padding":
            mask = mask + self.hidden(target)
        if self.wrong == "norm again":
            memory = self.norm("encoder.norm", memory)
        across = self.hidden(source)
        if self.wrong in ("source padding", "padding across"):
            across = torch.zeros(across.shape)
        if self.wrong == "bias across":
            across = across + self.bias("decoder", T, S)
        x = self.stack("decoder", self.embed(target), mask, memory, across)
        table = (
            self.w["embedding.weight"]
            if self.tied or self.wrong == "head left out"
            else self.w["head.weight"]
        )
        scaled = self.wrong == "head left out" or self.tied != (self.wrong == "scale")
        if self.wrong == "softmax":
            return (x @ table.T * (D**-0.5 if scaled else 1)).softmax(-1)
        if self.wrong == "scaled up":
            return x @ table.T * D**0.5
        return x @ table.T * (D**-0.5 if scaled else 1)

    def shift(self, labels):
        first = torch.full_like(labels[:, :1], self.pad + (self.wrong == "start one"))
        shown = {
            "not shifted": labels,
            "shifted left": torch.cat([labels[:, 1:], first], 1),
            "rolled": labels.roll(1, 1),
        }.get(self.wrong, torch.cat([first, labels[:, :-1]], 1))
        return shown.masked_fill(shown == -100, 1 if self.wrong == "ignored one" else self.pad)

    def logits(self, source, labels):
        return self.decode(self.shift(labels), self.encode(source), source)


MODEL = {
    "no bias": "no bias by distance",
    "no encoder bias": "no bias by distance in the encoder",
    "no decoder bias": "no bias by distance in the decoder",
    "first layer": "a bias by distance in the first layer alone: all layers of a stack share it",
    "tables swapped": "the encoder's table in the decoder, and the other way round",
    "encoder": "the encoder's table in both stacks: the decoder has its own",
    "decoder": "the decoder's table in both stacks: the encoder has its own",
    "encoder's bias": "the encoder's bias in the decoder: it has a table of its own, and looks back",
    "sign": "distances with the sign turned round: key position minus query position",
    "encoder sign": "distances with the sign turned round in the encoder: key position minus query position",
    "decoder sign": "distances with the sign turned round in the decoder: key position minus query position",
    "sides": "distances without their sign: keys ahead have buckets of their own",
    "norm again": "the memory normed again: the encoder has done that",
    "softmax": "probabilities in place of logits: the softmax is left to the loss",
    "transposed": "the bias of key s for query t where that of key t for query s belongs",
    "view": "the bias reshaped to (H, T, S): its dimensions have to be exchanged",
    "ways": "an encoder whose buckets look back alone, and a decoder whose buckets look both ways",
    "encoder ways": "an encoder whose buckets look back alone: it looks both ways",
    "decoder ways": "a decoder whose buckets look both ways: it looks back",
    "bias across": "a bias by distance in the cross-attention: source and target share no positions",
    "source padding": "padding of the source attended to",
    "padding in encoder": "padding of the source attended to in the encoder",
    "inverted padding": "padding attended to in the encoder, and nothing else: the mask is turned round",
    "padding asks": "a mask that forbids padding to ask: it must not be looked up, so it is the keys that count",
    "padding by head": "the padding of one sequence for each head: the mask needs a dimension for the heads",
    "padding across": "padding of the source attended to in the cross-attention",
    "target padding": "padding of the target masked out: the start token, which is padding, with it",
    "no causal mask": "a decoder without its causal mask: it sees the answers",
    "causal encoder": "an encoder with a causal mask: it looks both ways",
    "embedding times": "embeddings multiplied by √D: T5 takes them as they are",
    "scaled up": "logits multiplied by √D: with a tied table they are divided",
    "not shifted": "labels that are not shifted: each position is shown its own answer",
    "shifted left": "labels shifted to the left: each position is shown the answer after its own",
    "rolled": "the last label came round to the front: the decoder starts from padding",
    "start one": "a start token other than the padding",
    "no last norm": "stacks without their last norm",
    "not gated": "feed-forward nets that are not gated: `gated` was not handed on",
}

LATER = {
    "first rows": "the first rows of the causal mask: those of the new targets are its last",
    "no offset at all": "new targets that stand at position 0 again, in bias and causal mask: others stand before them",
    "no offset": "a bias whose queries stand at position 0 again: others stand before them, in the caches",
}


def said_of(weights, pad, gated, tied):
    """What is said of a wrong model, and the model."""
    said = MODEL | {
        "scale": "logits without the factor D^(−1/2): a tied table needs it"
        if tied
        else "logits multiplied by D^(−1/2): only a tied table needs that",
    }
    if not tied:
        said["head left out"] = "logits from the embedding's table: this model has a head of its own"
    return {sentence: ByHand(weights, pad, gated, tied, wrong) for wrong, sentence in said.items()}


# ---- the checks -----------------------------------------------------------------------------------------------------


@pytest.mark.exercise("T5")
class TestT5:
    NAMES = "Which sub-modules does the docstring name, and with which sizes is each made?"

    def ids(self, rng, V, pad, B, T):
        """Random ids, none of which is padding."""
        return torch.from_numpy(rng.choice([i for i in range(V) if i != pad], (B, T)))

    def source(self, rng, V, pad, B, S):
        """Sources with padding at their end, one of them (or none, where there is one) without."""
        source = self.ids(rng, V, pad, B, S)
        for b, length in enumerate(rng.lengths(B, S).tolist()):
            source[b, length:] = pad
        source[-1, max(S - 2, 1) :] = pad
        return source

    def labels(self, rng, V, pad, B, T):
        """Labels that end at different places, with −100 behind."""
        labels = self.ids(rng, V, pad, B, T)
        for b, length in enumerate(rng.lengths(B, T).tolist()):
            labels[b, length:] = -100
        return labels

    def model(self, student, rng, V, pad=0, gated=False, tied=True, dtype=torch.float32):
        """The learner's model with random weights."""
        weights = drawn(rng, model_shapes(V, gated, tied), dtype)
        m = student.T5(
            V, D, H, K, INNER, LAYERS, 0.0, gated=gated, tied=tied, buckets=BUCKETS, max_distance=FAR, pad=pad
        )
        if dtype == torch.float64:
            m.double()
        return loaded(m, weights, self.NAMES), weights

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """has one table of tokens, a table of biases for each stack, the stacks, and a head where it is not tied"""
        V = int(rng.integers(11, 15))
        for gated, tied in ((False, True), (True, False), (True, True)):
            m = student.T5(V, D, H, K, INNER, LAYERS, gated=gated, tied=tied, buckets=BUCKETS)
            ask = f"{self.NAMES} (gated={gated}, tied={tied}; a bias by distance is shared by all layers of a stack)"
            expect.parameters(m, model_shapes(V, gated, tied), ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_shift_right(self, student, rng):
        """shows the labels one step late, padding first, and padding for −100"""
        ask = (
            "Below each label, what is the decoder shown: which label does it know by then? And at the first?"
        )
        for pad in (0, int(rng.integers(2, 8))):
            V, (B, T) = int(rng.integers(11, 15)), rng.distinct(2, low=3)
            m, weights = self.model(student, rng, V, pad)
            labels = self.labels(rng, V, pad, B, T)
            labels[0, 1], labels[1, :2] = -100, torch.tensor([5, -100])
            for given in (labels, labels[:1, :1]):
                first = torch.full_like(given[:, :1], pad)
                expected = torch.cat([first, given[:, :-1]], 1)
                zero = torch.cat([torch.zeros_like(first), given[:, :-1]], 1)
                mistakes = {
                    "−100 shown as it is: no row of the table belongs to it": expected,
                    "0 in place of the padding, which is another id here": zero.masked_fill(zero == -100, 0),
                    "0 shown for −100: the padding is another id here": expected.masked_fill(
                        expected == -100, 0
                    ),
                    "a start of 0: the padding, which starts it, is another id here": zero.masked_fill(
                        zero == -100, pad
                    ),
                }
                for wrong in ("not shifted", "shifted left", "rolled", "start one", "ignored one"):
                    sentence = MODEL.get(wrong, "another token than the padding for −100")
                    mistakes[sentence] = ByHand(weights, pad, False, True, wrong).shift(given)
                expected = expected.masked_fill(expected == -100, pad)
                mistakes = {k: v for k, v in mistakes.items() if not torch.equal(v, expected)}
                with expect.unchanged(labels=given):
                    out = m.shift_right(given)
                what = f"what is shown for {given[0].tolist()} (pad={pad}),"
                expect.equal(out, expected, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_parameters")
    def test_bias(self, student, rng):
        """looks up, for every query and key, what each head has learned about their distance"""
        V = int(rng.integers(11, 15))
        m, weights = self.model(student, rng, V)
        ask = "Where does query t stand, where key s, which bucket is that, and which dimension is whose?"
        T, S = sorted(rng.distinct(2, low=4, high=14))
        for stack in ("encoder", "decoder"):
            for T_, S_, offset in ((T, S, 0), (S, S, 0), (T, S, S - T), (1, S, S - 1), (H, S, 0)):
                shown = m.bias(stack, T_, S_, offset) if offset else m.bias(stack, T_, S_)
                right = ByHand(weights, 0, False, True)
                names = ("no bias", "tables swapped", "sign", "sides", "transposed", "view", f"{stack} ways")
                mistakes = {
                    MODEL[wrong]: ByHand(weights, 0, False, True, wrong).bias(stack, T_, S_, offset)
                    for wrong in names
                }
                if offset:
                    mistakes["queries that stand at 0, 1, …: the first stands at the offset"] = right.bias(
                        stack, T_, S_
                    )
                    mistakes["the offset subtracted from the queries"] = right.bias(stack, T_, S_, -offset)
                mistakes["(T, S, H): the heads come first"] = right.bias(stack, T_, S_, offset).permute(
                    1, 2, 0
                )
                mistakes["a dimension for the batch: there is none"] = right.bias(stack, T_, S_, offset)[None]
                what = f"the bias of the {stack}, T={T_}, S={S_}, offset={offset},"
                expected = right.bias(stack, T_, S_, offset)
                expect.close(shown, expected, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(4)
    @pytest.mark.needs("test_bias")
    @pytest.mark.needs("test_shift_right")
    def test_agrees_with_transformers(self, student, rng):
        """agrees with the T5 of `transformers` on the same weights: plain or gated, tied or not"""
        first = bool(rng.integers(2))
        for gated, tied in ((first, True), (not first, False), (not first, True)):
            V, pad = int(rng.integers(11, 15)), 0 if tied == first else int(rng.integers(1, 9))
            B, (T, S) = int(rng.integers(2, 4)), rng.distinct(2, low=4, high=13)
            m, weights = self.model(student, rng, V, pad, gated, tied)
            source, labels = self.source(rng, V, pad, B, S), self.labels(rng, V, pad, B, T)
            theirs = of_transformers(weights, V, pad, gated, tied)
            with torch.no_grad():
                expected = theirs(
                    input_ids=source, attention_mask=(source != pad).long(), labels=labels
                ).logits
            with expect.unchanged(source=source, labels=labels):
                out = m(source, labels)

            def mistakes(w=weights, pad=pad, gated=gated, tied=tied, source=source, labels=labels):
                return {said: by.logits(source, labels) for said, by in said_of(w, pad, gated, tied).items()}

            kind = f"{'gated' if gated else 'plain'}, {'tied' if tied else 'not tied'}, pad={pad}"
            ask = "Take it apart: is `encode(source)` right, is what the decoder is shown, and who sees whom in it?"
            expect.close(out, expected, atol=1e-4, what=f"the logits ({kind})", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_bias")
    def test_encode(self, student, rng):
        """reads the source both ways, by distance, and never its padding"""
        V, pad = int(rng.integers(11, 15)), int(rng.integers(3))
        for B, S in ((1, 1), (H, 7), (3, int(rng.integers(8, 14)))):
            m, weights = self.model(student, rng, V, pad, gated=bool(B % 2))
            source = self.source(rng, V, pad, B, S) if S > 1 else self.ids(rng, V, pad, B, S)
            out = m.encode(source)
            expect.array(out, shape=(B, S, D), dtype=torch.float32, what="the memory")
            real = source != pad
            expected = ByHand(weights, pad, bool(B % 2), True).encode(source)[real]

            def mistakes(w=weights, source=source, real=real, gated=bool(B % 2)):
                return {said: by.encode(source)[real] for said, by in said_of(w, pad, gated, True).items()}

            ask = "Which mask reaches the encoder: what does each head add, and which keys are forbidden?"
            what = f"the memory of {B} sources of length {S}, where they are not padding,"
            expect.close(out[real], expected, atol=1e-4, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_bias")
    def test_decode(self, student, rng):
        """scores the next token from the memory that it is given and the targets so far, the start token too"""
        V, pad = int(rng.integers(11, 15)), int(rng.integers(3))
        B, (T, S) = int(rng.integers(2, 4)), rng.distinct(2, low=4, high=12)
        for tied in (True, False):
            m, weights = self.model(student, rng, V, pad, tied=tied)
            source, memory = self.source(rng, V, pad, B, S), rng.tensor(B, S, D)
            target = torch.cat([torch.full((B, 1), pad), self.ids(rng, V, pad, B, T - 1)], 1)
            target[0, T // 2] = pad  # as a label of −100 within a target is shown
            with expect.unchanged(target=target, memory=memory, source=source):
                out = m.decode(target, memory, source)

            def mistakes(w=weights, tied=tied, target=target, memory=memory, source=source):
                said = {
                    said: by.decode(target, memory, source)
                    for said, by in said_of(w, pad, False, tied).items()
                }
                own = ByHand(w, pad, False, tied)
                return said | {
                    "the memory that `encode` makes of the source: `decode` is given one": own.decode(
                        target, own.encode(source), source
                    ),
                    "targets shifted again: `decode` is given what the decoder is shown": own.decode(
                        own.shift(target), memory, source
                    ),
                }

            ask = "Which masks reach the decoder, for its self-attention and for its cross-attention?"
            expected = ByHand(weights, pad, False, tied).decode(target, memory, source)
            expect.close(
                out, expected, atol=1e-4, what="the logits for this memory", ask=ask, mistakes=mistakes
            )
            t = int(rng.integers(1, T))
            part = m.decode(target[:, :t], memory, source)
            expect.close(
                part, expected[:, :t], atol=1e-4, what=f"the logits for the first {t} targets", ask=ask
            )

    @pytest.mark.points(3)
    @pytest.mark.needs("test_decode")
    def test_caches(self, student, rng):
        """writes with caches, token by token or by several, what it scores in one pass"""
        V, pad = int(rng.integers(11, 15)), int(rng.integers(3))
        B, (T, S) = int(rng.integers(2, 4)), rng.distinct(2, low=7, high=12)
        m, weights = self.model(student, rng, V, pad, tied=bool(rng.integers(2)))
        tied = "head.weight" not in weights
        source = self.source(rng, V, pad, B, S)
        target = torch.cat([torch.full((B, 1), pad), self.ids(rng, V, pad, B, T - 1)], 1)
        byhand = ByHand(weights, pad, False, tied)
        memory = byhand.encode(source)
        whole = byhand.decode(target, memory, source)
        cuts = [0, *sorted(int(i) for i in rng.permutation(np.arange(1, T))[:2]), T]
        for steps in (list(range(T + 1)), cuts):
            caches = m.new_caches()
            self.lengths(caches, 0, 0, "when they are new")
            for start, end in itertools.pairwise(steps):
                new = target[:, start:end]
                out = m.decode(new, memory, source, caches)

                def mistakes(new=new, start=start, end=end):
                    said = {
                        sentence: ByHand(weights, pad, False, tied, wrong).decode(
                            target[:, :end], memory, source, start
                        )[:, start:]
                        for wrong, sentence in LATER.items()
                    }
                    alone = byhand.decode(new, memory, source)
                    return said | {"the logits of these tokens as if nothing stood before them": alone}

                ask = "After so many tokens in the caches: at which positions do queries and keys stand?"
                what = f"the logits for targets {start} to {end - 1}, with {start} in the caches,"
                self.lengths(caches, end, S, f"after {end} targets")
                expect.close(out, whole[:, start:end], atol=1e-4, what=what, ask=ask, mistakes=mistakes)
        fresh = m.decode(target[:, :2], memory, source, m.new_caches())
        ask = "Does `new_caches` make new ones each time, two for each layer?"
        expect.close(
            fresh, whole[:, :2], atol=1e-4, what="the logits with new caches, after others,", ask=ask
        )
        low = student.T5(V, D, H, K, INNER, 1, 0.0, pad=pad)
        low.eval()
        kept = low.new_caches()
        for t in range(3):
            out = low.decode(target[:, t : t + 1], memory, source, kept)
            what = f"the logits of a model of one layer with {t} in its caches,"
            ask = "Which of the caches does this model have, and which of them tells how many were shown?"
            expect.array(out, shape=(B, 1, V), dtype=torch.float32, what=what, ask=ask)
            at_once = low.decode(target[:, : t + 1], memory, source)
            expect.array(at_once, shape=(B, t + 1, V), dtype=torch.float32, what="the logits without caches")
            expect.close(out, at_once[:, t:], atol=1e-4, what=what, ask=ask)

    def lengths(self, caches, own, across, when):
        """Expect two caches for each layer that hold so many positions."""
        expect.holds(
            isinstance(caches, (list, tuple)) and len(caches) == LAYERS,
            expected=f"a list with two caches for each of {LAYERS} layers",
            got=f"{len(caches)} entries" if isinstance(caches, (list, tuple)) else type(caches).__name__,
            ask="What does `new_caches` make, and for how many layers?",
        )
        for i, pair in enumerate(caches):
            kept = expect.parts(pair, "the cache of the self-attention", "the cache of the cross-attention")
            for name, cache, length in zip(("self", "cross"), kept, (own, across), strict=True):
                ask = "Has every attention of every layer a new cache of its own?"
                expect.holds(
                    hasattr(cache, "append"), expected="a KVCache", got=type(cache).__name__, ask=ask
                )
                held = len(cache)
                expect.holds(
                    held == length,
                    expected=f"{length} positions in the {name}-attention's cache of layer {i}, {when}",
                    got=str(held),
                    ask=ask,
                )

    @pytest.mark.points(3)
    @pytest.mark.needs("test_parameters")
    def test_reach(self, student, rng):
        """depends on the whole source but its padding, and on targets up to each: never on later ones"""
        B, T, S = 2, 4, 4
        V = B * (T + S) + 2
        m, _ = self.model(student, rng, V, tied=False, gated=bool(rng.integers(2)))
        # Ids have no gradient, rows of the table have: every position gets an id, and so a row, of its own.
        order = torch.from_numpy(1 + rng.permutation(V - 1))
        places = order[: B * (S + T)].view(B, S + T)
        for padded in (True, False):  # padding in the source; or as the start of the target, which is seen
            source, target = places[:, :S].clone(), places[:, S:].clone()
            if padded:
                source[0, int(rng.integers(1, S))] = source[1, -1] = 0
            else:
                target[0, 0] = 0
            logits = m.decode(target, m.encode(source), source)
            expect.array(logits, shape=(B, T, V), dtype=torch.float32, what="the logits")
            expect.holds(
                logits.requires_grad,
                expected="logits that can be differentiated with respect to the table",
                got="logits that are cut off from it",
                ask="Which line leaves the graph?",
            )
            for b in range(B):
                for t in range(T):
                    m.zero_grad()
                    chosen = torch.zeros_like(logits)
                    chosen[b, t] = rng.tensor(V)
                    logits.backward(chosen, retain_graph=True)
                    table = expect.parameters(m.embedding, {"weight": (V, D)}, ask=self.NAMES)
                    self.reached(table["weight"].grad, source, target, b, t, padded)

    def reached(self, grad, source, target, b, t, padded):
        """Expect the rows of the table that have a gradient to be those that logit [b, t] may depend on."""
        expect.holds(grad is not None, expected="a gradient for the table", got="none", ask=self.NAMES)
        expect.array(grad, shape=(len(grad), D), dtype=torch.float32, what="the gradient of the table")
        rows = (grad != 0).any(-1) | grad.isnan().any(-1)
        for name, ids in (("source", source), ("target", target)):
            for c in range(len(ids)):
                for s, row in enumerate(ids[c].tolist()):
                    hidden = padded and row == 0
                    allowed = c == b and not hidden and (name == "source" or s <= t)
                    why = "another sequence" if c != b else "padding" if hidden else "a later target"
                    must = "to depend" if allowed else "not to depend"
                    start = " (the start token, which is padding)" if name == "target" and row == 0 else ""
                    expect.holds(
                        bool(rows[row]) == allowed,
                        expected=f"logits [{b}, {t}] {must} on {name} [{c}, {s}]{start}"
                        + ("" if allowed else f", {why}"),
                        got="a gradient of exactly zero" if allowed else "a gradient that is not zero",
                        ask="Does a mask hide the start token, or does `padding_idx` keep it from learning?"
                        if start
                        else "Which path leads there, or which mask stands in its way?",
                    )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_first_weights(self, student, rng):
        """draws its tables with the standard deviations of the docstring"""
        V, width, buckets, heads = 400, 40, 300, 8
        m = student.T5(V, width, heads, 2, 3, 1, tied=False, buckets=buckets)
        for name, part, shape, std in (
            ("embedding", m.embedding, (V, width), 1.0),
            ("encoder_bias", m.encoder_bias, (buckets, heads), width**-0.5),
            ("decoder_bias", m.decoder_bias, (buckets, heads), width**-0.5),
            ("head", m.head, (V, width), width**-0.5),
        ):
            weight = expect.parameters(part, {"weight": shape}, ask=self.NAMES)["weight"].detach()
            expect.array(weight, shape=shape, dtype=torch.float32, what=f"the table `{name}`")
            got, most = weight.std().item(), weight.abs().max().item() / std
            expect.holds(
                abs(got / std - 1) < 0.12 and most > 2.2,
                expected=f"normal draws of standard deviation {std:.3f} in `{name}`",
                got=f"standard deviation {got:.3f}, the largest entry {weight.abs().max().item():.3f}",
                ask="What does the docstring say of its first weights?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_decode")
    def test_dropout(self, student, rng):
        """applies dropout to embeddings, hands it to both stacks, and drops nothing in evaluation"""
        V, (B, T, S) = int(rng.integers(11, 15)), rng.distinct(3, low=3, high=6)
        source, labels = self.ids(rng, V, 0, B, S), self.ids(rng, V, 0, B, T)
        ask = "Where does `dropout` go: to the encoder, to the decoder, and where else?"
        m = student.T5(V, D, H, K, INNER, LAYERS, dropout=1.0)
        m.train()
        x = rng.tensor(B, T, D)
        for name, out in (("encoder", m.encoder(x)), ("decoder", m.decoder(x, rng.tensor(B, S, D)))):
            what = f"the {name}'s output in training, with dropout=1.0,"
            expect.close(out, F.rms_norm(x, (D,), eps=1e-6), what=what, ask=ask)
        what = "in training, with dropout=1.0,"
        expect.close(m.encode(source), torch.zeros(B, S, D), what=f"the memory {what}", ask=ask)
        target, memory = labels.clone(), rng.tensor(B, S, D)
        logits = m.decode(target, memory, source)
        expect.close(logits, torch.zeros(B, T, V), what=f"the logits {what}", ask=ask)
        m = student.T5(V, D, H, K, INNER, LAYERS, dropout=0.0)
        m.train()
        training = m(source, labels)
        m.eval()
        expect.array(training, shape=(B, T, V), dtype=torch.float32, what="the logits")
        expect.close(m(source, labels), training, what="the logits in evaluation", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_dropout")
    def test_defaults(self, student, rng):
        """is the published small model where nothing else is said"""
        V, ask = int(rng.integers(11, 15)), "Which defaults does the signature give, and where do they go?"
        m = student.T5(V, heads=1, d_key=2, d_ff=3, layers=1)
        expect.parameters(m.embedding, {"weight": (V, 512)}, ask=ask)
        m = student.T5(V, 8, layers=1)
        layer = m.encoder.layers[0]
        expect.parameters(layer.attention.query, {"weight": (8 * 64, 8)}, ask=ask)
        expect.parameters(
            layer.feed_forward, {"hidden.weight": (2048, 8), "output.weight": (8, 2048)}, ask=ask
        )
        expect.parameters(m.encoder_bias, {"weight": (32, 8)}, ask=ask)
        m = student.T5(V, 4, 1, 2, 3)
        for name, part in (("encoder", m.encoder), ("decoder", m.decoder)):
            count = len(part.layers)
            expect.holds(count == 6, expected=f"6 layers in the {name} by default", got=str(count), ask=ask)
        m.eval()
        S = 132
        bias = m.bias("decoder", 1, S, S - 1)
        expect.array(bias, shape=(1, 1, S), dtype=torch.float32, what="the bias")
        table = expect.parameters(m.decoder_bias, {"weight": (32, 1)}, ask=ask)["weight"].detach()[:, 0]
        back = bias.detach()[0, 0].flip(0)  # by distance
        for distance, bucket in ((15, 15), (40, 23), (100, 30), (112, 30), (113, 31), (131, 31)):
            expect.close(
                back[distance], table[bucket], what=f"the bias at distance {distance} by default", ask=ask
            )
        expect.parameters(m, self.small(V), ask=ask)
        m = student.T5(V, 16, 1, 2, 3, 0)
        m.train()
        ids = torch.ones(8, 40, dtype=torch.int64)
        out = m.encode(ids)
        expect.array(out, shape=(8, 40, 16), dtype=torch.float32, what="the memory")
        share = (out == 0).double().mean().item()
        expect.holds(
            0.06 < share < 0.14, expected="dropout of 0.1 by default", got=f"{share:.0%} zeros", ask=ask
        )
        expect.equal(
            m.shift_right(torch.tensor([[7, -100, 3]])),
            torch.tensor([[0, 7, 0]]),
            what="what is shown by default",
            ask=ask,
        )

    def small(self, V):
        """Names and shapes of a model of the default height with D = 4, one head of width 2, and F = 3."""
        maps = {f"{part}.weight": (2, 4) for part in ("query", "key", "value")} | {"output.weight": (4, 2)}
        shapes = {"embedding.weight": (V, 4)}
        for stack, names in SUBLAYERS.items():
            shapes |= {f"{stack}_bias.weight": (32, 1), f"{stack}.norm.weight": (4,)}
            for i in range(6):
                for name in names:
                    layer = f"{stack}.layers.{i}.{name}"
                    shapes[f"{layer}_residual.norm.weight"] = (4,)
                    parts = (
                        {"hidden.weight": (3, 4), "output.weight": (4, 3)} if name == "feed_forward" else maps
                    )
                    shapes |= {f"{layer}.{part}": shape for part, shape in parts.items()}
        return shapes

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_transformers")
    def test_gradients(self, student, rng):
        """sends the right gradient to every weight, both tables of biases among them"""
        V, gated, tied = int(rng.integers(11, 15)), bool(rng.integers(2)), bool(rng.integers(2))
        B, (T, S) = 2, rng.distinct(2, low=3, high=8)
        m, weights = self.model(student, rng, V, 0, gated, tied, dtype=torch.float64)
        source, labels = self.source(rng, V, 0, B, S), self.labels(rng, V, 0, B, T)
        out = m(source, labels)
        ask = "Does every step stay on the graph, and is every weight used where it belongs?"
        expect.array(
            out, shape=(B, T, V), dtype=torch.float64, what="the logits", ask="Which line fixes a dtype?"
        )
        expect.holds(out.requires_grad, expected="logits on the graph", got="logits cut off from it", ask=ask)
        given = rng.tensor(B, T, V, dtype=torch.float64)
        copies = {name: w.clone().requires_grad_() for name, w in weights.items()}
        (ByHand(copies, 0, gated, tied).logits(source, labels) * given).sum().backward()
        out.backward(given)
        found = expect.parameters(m, {name: tuple(copy.shape) for name, copy in copies.items()})
        for name, copy in copies.items():
            grad = found[name].grad
            expect.holds(grad is not None, expected=f"a gradient for {name}", got="none", ask=ask)
            expect.array(grad, shape=tuple(copy.shape), dtype=torch.float64, what=f"the gradient of {name}")
            rows = torch.arange(len(copy)) != 0 if name == "embedding.weight" else slice(None)
            # An nn.Embedding with padding_idx gives the row of padding none from look-ups: here it starts targets too.
            # A norm may work in float32, as the published code does.
            close = {"atol": 1e-4, "rtol": 1e-3}
            expect.close(grad[rows], copy.grad[rows], what=f"the gradient of {name}", ask=ask, **close)
