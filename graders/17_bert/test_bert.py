"""Checks of unit 17, second part: embeddings, the model, published weights, the classifier.

The judge is the BERT of the library ``transformers``, small and with weights that each check draws anew; it lives on
the trusted side alone. Gradients tell who sees whom. What is worked out by hand below names the mistake where an answer
differs.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig
from transformers.models.bert import modeling_bert as published_bert

from proctor import expect

D, H, WIDE = 6, 2, 10  # width, heads, inner width of the feed-forward nets
DOUBLE = torch.float64
ALL = 1 - 1e-9  # as a dropout: everything, for code too that divides by 1 − p

# ---- names, shapes and weights --------------------------------------------------------------------------------------

OUTER = {
    "embeddings.words": "embeddings.word_embeddings",
    "embeddings.positions": "embeddings.position_embeddings",
    "embeddings.segments": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "pooler": "pooler.dense",
}
INNER = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_residual.norm": "attention.output.LayerNorm",
    "feed_forward.hidden": "intermediate.dense",
    "feed_forward.output": "output.dense",
    "feed_forward_residual.norm": "output.LayerNorm",
}


def published_name(name):
    """What a parameter of the learner's is called in ``transformers``."""
    part, kind = name.rsplit(".", 1)
    if part in OUTER:
        return f"{OUTER[part]}.{kind}"
    _, _, i, inner = part.split(".", 3)
    return f"encoder.layer.{i}.{INNER[inner]}.{kind}"


def published(weights):
    """Weights under the names of ``transformers``."""
    return {published_name(name): w for name, w in weights.items()}


def linear(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name, width=D):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def embedding_shapes(V, longest, segments, width=D):
    tables = {
        "words.weight": (V, width),
        "positions.weight": (longest, width),
        "segments.weight": (segments, width),
    }
    return tables | norm("norm", width)


def model_shapes(V, layers, longest=12, segments=2, width=D, wide=WIDE):
    """Names and shapes of all parameters of a BertModel."""
    shapes = {f"embeddings.{name}": s for name, s in embedding_shapes(V, longest, segments, width).items()}
    for i in range(layers):
        at = f"encoder.layers.{i}"
        for part in ("query", "key", "value", "output"):
            shapes |= linear(f"{at}.attention.{part}", width, width)
        shapes |= linear(f"{at}.feed_forward.hidden", width, wide)
        shapes |= linear(f"{at}.feed_forward.output", wide, width)
        shapes |= norm(f"{at}.attention_residual.norm", width) | norm(
            f"{at}.feed_forward_residual.norm", width
        )
    return shapes | linear("pooler", width, width)


def drawn(rng, shapes, dtype=torch.float32):
    """Random weights: norms around one, biases that count, maps and tables that keep the size of what goes through."""
    weights = {}
    for name, shape in shapes.items():
        if len(shape) == 2:
            table = "embeddings" in name or name.split(".")[0] in ("words", "positions", "segments")
            weights[name] = rng.tensor(*shape, scale=0.7 if table else shape[1] ** -0.5, dtype=dtype)
        else:
            weights[name] = rng.tensor(*shape, scale=0.5, dtype=dtype) + (name.endswith("norm.weight"))
    return weights


def ids_of(rng, V, *shape):
    """Ids in random order, none twice in a sequence, and none of them 0, whose row may be kept from training."""
    rows = [1 + rng.permutation(V - 1)[: shape[-1]] for _ in range(shape[0])]
    return torch.from_numpy(np.stack(rows))


def segments_of(rng, B, T, count=2):
    """Segments that no other input of the model tells: mixed, and every one of them there."""
    segments = torch.from_numpy(rng.integers(0, count, (B, T)))
    segments[:, 0], segments[0, :2] = torch.from_numpy(rng.integers(0, count, B)), torch.tensor([1, 0])
    return segments


def real_of(rng, B, T):
    """Where real tokens stand: ragged, padded on the right, and in one row on the left."""
    real = torch.arange(T) < rng.lengths(B, T)[:, None]
    real[0], real[1] = torch.arange(T) < T - 1, torch.arange(T) > 0
    return real


def loaded(module, weights, ask):
    """The learner's module with these weights, which must be all that it trains, ready for evaluation."""
    expect.parameters(module, {name: tuple(w.shape) for name, w in weights.items()}, ask=ask)
    module.load_state_dict(weights, strict=False)  # a buffer of the learner's own may keep what it holds
    module.eval()
    return module


# ---- the judge ------------------------------------------------------------------------------------------------------


def theirs(weights, heads=H, kind=published_bert.BertModel, **named):
    """The BERT of ``transformers`` with these weights, in their dtype, in evaluation mode."""
    words, places = weights["embeddings.words.weight"], weights["embeddings.positions.weight"]
    layers = [int(name.split(".")[2]) for name in weights if name.startswith("encoder.layers.")]
    wide = weights["encoder.layers.0.feed_forward.hidden.bias"] if layers else torch.zeros(4)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=words.shape[1],
        num_hidden_layers=max(layers, default=-1) + 1,
        num_attention_heads=heads,
        intermediate_size=len(wide),
        max_position_embeddings=len(places),
        type_vocab_size=len(weights["embeddings.segments.weight"]),
        attn_implementation="eager",
        pad_token_id=0,
        **named,
    )
    model = kind(config).to(words.dtype).eval()
    parts = (
        {f"bert.{n}": w for n, w in published(weights).items()}
        if hasattr(model, "bert")
        else published(weights)
    )
    model.load_state_dict(parts, strict=False)
    return model


def judged(weights, ids, segments=None, mask=None, heads=H):
    """Their hidden states."""
    with torch.no_grad():
        given = {"token_type_ids": segments, "attention_mask": None if mask is None else mask.long()}
        return theirs(weights, heads)(ids, **given).last_hidden_state


def with_gradients(weights, ids, segments, mask, given, pooled):
    """The gradients of (hidden · given) + (pooled row · pooled) with respect to every weight, by our names."""
    model = theirs(weights)
    out = model(ids, token_type_ids=segments, attention_mask=mask.long())
    ((out.last_hidden_state * given).sum() + (out.pooler_output * pooled).sum()).backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    return {name: grads[published_name(name)] for name in weights}


# ---- the same by hand, with its mistakes ----------------------------------------------------------------------------


def exact_gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def normed(x, weight, bias, eps=1e-12):
    return F.layer_norm(x.double(), x.shape[-1:], weight.double(), bias.double(), eps).to(x.dtype)


class ByHand:
    """BERT on given weights, whose steps can be taken in any wrong way."""

    def __init__(self, weights, heads=H, **wrong):
        self.w, self.heads = weights, heads
        self.gelu = wrong.pop("activation", exact_gelu)
        self.eps = wrong.pop("eps", 1e-12)  # of the encoder's norms
        self.first_eps = wrong.pop("first_eps", 1e-12)
        self.pre_norm = wrong.pop("pre_norm", False)
        self.times = wrong.pop("times", 1.0)
        assert not wrong

    def linear(self, name, x):
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def norm(self, name, x, eps):
        return normed(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], eps)

    def embed(self, ids, segments=None):
        segments = torch.zeros_like(ids) if segments is None else segments
        tables = [self.w[f"embeddings.{name}.weight"] for name in ("words", "positions", "segments")]
        rows = self.times * tables[0][ids] + tables[1][: ids.shape[1]] + tables[2][segments]
        return self.norm("embeddings.norm", rows, self.first_eps)

    def attend(self, name, x, mask):
        query, key, value = (
            self.linear(f"{name}.{part}", x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mask = mask if mask is None else mask.unsqueeze(-3)
        found = F.scaled_dot_product_attention(query, key, value, mask)
        return self.linear(f"{name}.output", found.nan_to_num(0.0).transpose(1, 2).flatten(-2))

    def layer(self, i, x, mask):
        at = f"encoder.layers.{i}"

        def think(x):
            return self.linear(
                f"{at}.feed_forward.output", self.gelu(self.linear(f"{at}.feed_forward.hidden", x))
            )

        for name, step in (
            ("attention", lambda x: self.attend(f"{at}.attention", x, mask)),
            ("feed_forward", think),
        ):
            place = f"{at}.{name}_residual.norm"
            before = self.norm(place, x, self.eps)
            x = x + step(before) if self.pre_norm else self.norm(place, x + step(x), self.eps)
        return x

    def layers(self):
        return 1 + max(int(name.split(".")[2]) for name in self.w if name.startswith("encoder.layers."))

    def encode(self, x, mask=None, order=None):
        """``mask``: one (B, T, T), or a list of one for each layer."""
        for i in range(self.layers()) if order is None else order:
            x = self.layer(i, x, mask[i] if isinstance(mask, list) else mask)
        return x

    def hidden(self, ids, segments=None, mask=None, order=None):
        return self.encode(self.embed(ids, segments), mask, order)

    def pool(self, hidden):
        return torch.tanh(self.linear("pooler", hidden[:, 0]))


def embedding_mistakes(weights, ids, segments):
    """What is said of wrong embeddings, and what they are."""
    words, places, parts = (weights[f"{name}.weight"] for name in ("words", "positions", "segments"))
    w, p, s = (
        words[ids],
        places[: ids.shape[1]],
        parts[torch.zeros_like(ids) if segments is None else segments],
    )
    count, width = ids.shape[1], words.shape[1]

    def end(x):
        return normed(x, weights["norm.weight"], weights["norm.bias"])

    ones = parts[torch.ones_like(ids)]
    said = {
        "embeddings without positions": lambda: end(w + s),
        "word vectors alone": lambda: end(w),
        "positions counted from 1": lambda: end(w + places.roll(-1, 0)[:count] + s),
        "positions counted from 2, as RoBERTa does": lambda: end(w + places.roll(-2, 0)[:count] + s),
        "positions counted from the end of the row": lambda: end(w + p.flip(0) + s),
        "the vector of position 0 everywhere": lambda: end(w + places[0] + s),
        "the vector of the last position everywhere": lambda: end(w + places[-1] + s),
        "positions of the batch: the place counts within a sequence": lambda: end(
            w + places[: len(ids), None] + s
        ),
        "position vectors looked up by the ids": lambda: end(w + places[ids % len(places)] + s),
        "the sum, without the norm": lambda: w + p + s,
        "each vector normed by itself, and then added": lambda: end(w) + end(p) + end(s),
        "positions and segments added behind the norm": lambda: end(w) + p + s,
        "positions added behind the norm": lambda: end(w + s) + p,
        "segments added behind the norm": lambda: end(w + p) + s,
        "the norm twice": lambda: end(end(w + p + s)),
        "word vectors multiplied by √D: BERT does not scale": lambda: end(w * math.sqrt(width) + p + s),
        "the sum multiplied by √D and not normed": lambda: (w + p + s) * math.sqrt(width),
        "the three vectors multiplied": lambda: end(w * p * s),
        "a norm without its weight and bias": lambda: F.layer_norm(w + p + s, (width,), eps=1e-12),
        "a norm over the positions: each row is normed by itself": lambda: (
            end(w + p + s).mT.mT if count == width else w
        ),
        "segments left out": lambda: end(w + p),
        "segments multiplied by their vectors": lambda: end(w + p + s * 0),
        "every token in segment 1": lambda: end(w + p + ones),
        "positions added twice: once by yourself, once by LearnedPositions": lambda: end(w + 2 * p + s),
        "word vectors added twice": lambda: end(2 * w + p + s),
    }
    if segments is not None:
        zero, other = parts[torch.zeros_like(ids)], parts[(1 - segments).clamp(0)]
        said |= {
            "every token in segment 0: the segments were not looked up": lambda: end(w + p + zero),
            "segments in each other's place": lambda: end(w + p + other),
            "the segment of each sequence's first token for all of it": lambda: end(w + p + s[:, :1]),
            "the segments of the first sequence for all of them": lambda: end(w + p + s[:1]),
        }
    return said


def model_mistakes(weights, ids, segments):
    """What is said of a wrong model, and what it returns."""
    hand = ByHand(weights)
    rows = hand.embed(ids, segments)
    count, layers = ids.shape[1], hand.layers()
    causal = torch.ones(count, count, dtype=torch.bool).tril()

    def with_(**wrong):
        return lambda: ByHand(weights, **wrong).hidden(ids, segments)

    def of(x):
        return lambda: hand.encode(x)

    tables = [weights[f"embeddings.{name}.weight"] for name in ("words", "positions", "segments")]
    plain = (
        tables[0][ids]
        + tables[1][:count]
        + tables[2][torch.zeros_like(ids) if segments is None else segments]
    )
    said = {
        "ReLU in place of GELU: the encoder's activation is still the Transformer's": with_(
            activation=torch.relu
        ),
        "SiLU in place of GELU": with_(activation=F.silu),
        "the logistic approximation of GELU, x · σ(1.702 x)": with_(
            activation=lambda x: x * (1.702 * x).sigmoid()
        ),
        "no activation": with_(activation=lambda x: x),
        "tanh in place of GELU": with_(activation=torch.tanh),
        "GELU in the first layer alone": lambda: ByHand(weights, activation=torch.relu).encode(
            hand.layer(0, rows, None), order=range(1, layers)
        ),
        "GELU in the last layer alone": lambda: hand.layer(
            layers - 1, ByHand(weights, activation=torch.relu).encode(rows, order=range(layers - 1)), None
        ),
        "a pre-norm encoder: BERT is post-norm": with_(pre_norm=True),
        "a causal mask: BERT sees both directions": lambda: hand.encode(rows, causal),
        "the embeddings: the encoder was not used": rows,
        "segments not handed on": lambda: hand.hidden(ids),
        "ids in the place of the segments": lambda: hand.hidden(ids, ids.clamp(max=1)),
        "the embeddings without their norm, in the encoder": of(plain),
        "word vectors without positions and segments, in the encoder": of(tables[0][ids]),
        "embeddings multiplied by √D: BERT does not scale": of(rows * math.sqrt(D)),
        "word vectors multiplied by √D before they are added": with_(times=math.sqrt(D)),
        "one head: `heads` was not handed on": lambda: ByHand(weights, heads=1).hidden(ids, segments),
        "as many heads as features": lambda: ByHand(weights, heads=D).hidden(ids, segments),
        "the layers passed twice": lambda: hand.encode(hand.encode(rows)),
        "the last layer left out": lambda: hand.encode(rows, order=range(layers - 1)),
        "the first layer left out": lambda: hand.encode(rows, order=range(1, layers)),
        "a last norm: each post-norm layer ends in one": lambda: F.layer_norm(hand.encode(rows), (D,)),
        "the embeddings added to the encoder's output": lambda: hand.encode(rows) + rows,
        "positions added again before the encoder": of(rows + tables[1][:count]),
        "the pooled rows: `forward` returns the hidden states of all tokens": lambda: hand.pool(
            hand.encode(rows)
        ),
        "the hidden states of [CLS] alone": lambda: hand.encode(rows)[:, 0],
        "the pooler applied to every hidden state": lambda: torch.tanh(
            hand.linear("pooler", hand.encode(rows))
        ),
        "logits: scores of words": lambda: hand.encode(rows) @ tables[0].T,
    }
    return said


# ---- what several checks ask ----------------------------------------------------------------------------------------


def same_twice(one, other, what):
    expect.holds(
        torch.equal(one, other) or one.isnan().any(),
        expected=f"{what} the same at every call in evaluation",
        got="another one each time",
        ask="Which dropout is at work in evaluation as well? `nn.Dropout` knows when to rest.",
    )


def dropped(out, plain, p, what, ask):
    """Expect a share p of the entries zero and the others divided by 1 − p."""
    expect.array(out, shape=tuple(plain.shape), dtype=plain.dtype, what=what)
    factor = (out / plain).detach()
    zero = factor.abs() < 1e-6
    kept = (factor - 1 / (1 - p)).abs() < 1e-2
    if not (zero | kept).all():
        bad = factor[~(zero | kept)][0].item()
        said = ": kept entries are not divided by 1 − p" if abs(bad - 1) < 1e-2 else ""
        if abs(bad - 1 / 0.9) < 1e-2 and p != 0.1:
            said = ", as with a rate of 0.1: is that written where `dropout` should stand?"
        if abs(bad * p - 1) < 1e-2:
            said = f", as with a rate of {1 - p:g}: `dropout` is the share that is zeroed"
        if (out == plain).all():
            said = ": nothing was dropped"
        expect.fail(
            expected=f"{what} with entries that are 0 or divided by 1 − {p}",
            got=f"an entry multiplied by {bad:.3g}{said}",
            ask=ask,
        )
    room = 6 * math.sqrt(p * (1 - p) * out.numel()) + 1
    expect.holds(
        abs(int(zero.sum()) - p * out.numel()) <= room,
        expected=f"{p:.0%} of {out.numel()} entries zero in {what}", got=f"{int(zero.sum())}", ask=ask,
    )  # fmt: skip


def learns(module, out, given, grads, ask, lead="the output"):
    """Expect every parameter's gradient to be the judge's; row 0 of the words may be kept from training."""
    expect.array(
        out, shape=tuple(given.shape), dtype=DOUBLE, what=lead, ask="Does a line of yours fix the dtype?"
    )
    expect.holds(
        out.requires_grad, expected=f"{lead} that can be differentiated with respect to the parameters",
        got="one that is cut off from them", ask=ask,
    )  # fmt: skip
    out.backward(given)
    compared(module, grads, ask)


def compared(module, grads, ask):
    found = expect.parameters(module, {name: tuple(grad.shape) for name, grad in grads.items()})
    for name, grad in grads.items():
        mine = found[name].grad
        if mine is None and not grad.abs().max():
            continue
        expect.holds(mine is not None, expected=f"a gradient for {name}", got="none", ask=ask)
        expect.array(mine, shape=tuple(grad.shape), dtype=DOUBLE, what=f"the gradient of {name}")
        rows = slice(1, None) if name.endswith("words.weight") else slice(None)
        expect.close(mine[rows], grad[rows], what=f"the gradient of {name}", ask=ask)


# ---- embeddings -----------------------------------------------------------------------------------------------------


@pytest.mark.exercise("BertEmbeddings")
class TestBertEmbeddings:
    ASK = "Which tables does the docstring name, and how long and wide is each? The norm has a weight and a bias."

    def embeddings(self, student, rng, V=14, longest=9, segments=2, dtype=torch.float32):
        weights = drawn(rng, embedding_shapes(V, longest, segments), dtype)
        m = student.BertEmbeddings(V, D, longest, segments)
        return loaded(m.double() if dtype == DOUBLE else m, weights, self.ASK), weights

    def judge(self, weights, ids, segments):
        with torch.no_grad():
            whole = {f"embeddings.{name}": w for name, w in weights.items()}
            return theirs(whole, kind=published_bert.BertModel).embeddings(ids, token_type_ids=segments)

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns three tables and a norm, under the names of the docstring"""
        for segments in (2, 3):
            V, longest = rng.distinct(2, low=9, high=14)
            self.embeddings(student, rng, V, longest, segments)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_parameters")
    def test_agrees_with_transformers(self, student, rng):
        """adds word, position and segment and norms the sum, as BERT in transformers does"""
        B, T = rng.distinct(2, low=3, high=5)
        count = int(rng.integers(2, 4))
        m, weights = self.embeddings(student, rng, segments=count)
        for ids in (ids_of(rng, 14, B, T), ids_of(rng, 14, 1, 9), ids_of(rng, 14, B, 2)):
            segments = torch.from_numpy(rng.integers(0, count, ids.shape))
            segments[0, :2] = torch.tensor([1, 0])
            expected = self.judge(weights, ids, segments)
            one = m(ids, segments)
            mistakes = lambda ids=ids, s=segments: embedding_mistakes(weights, ids, s)  # noqa: E731
            ask = "Three vectors are added: of what, of where, of which segment. What happens to the sum?"
            expect.close(one, expected, what="the embeddings", ask=ask, mistakes=mistakes)
            same_twice(one, m(ids, segments), "embeddings")
            out = m(ids, segments=segments)
            expect.close(out, expected, what="the embeddings of segments=…", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_transformers")
    def test_without_segments(self, student, rng):
        """puts every token into segment 0 where no segments are given"""
        B, T = rng.distinct(2, low=3, high=5)
        m, weights = self.embeddings(student, rng)
        ids = ids_of(rng, 14, B, T)
        mistakes = lambda: embedding_mistakes(weights, ids, None)  # noqa: E731
        ask = "Segment 0 has a vector too, and it is not zero. What stands for segments that are None?"
        expected = self.judge(weights, ids, torch.zeros_like(ids))
        expect.close(m(ids), expected, what="the embeddings", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_transformers")
    def test_tiny_rows(self, student, rng):
        """norms with an eps of 1e-12, which shows on rows of tiny numbers"""
        m, weights = self.embeddings(student, rng)
        tiny = {name: w if "norm" in name else 1e-6 * w for name, w in weights.items()}
        m.load_state_dict(tiny, strict=False)
        ids, segments = ids_of(rng, 14, 3, 4), segments_of(rng, 3, 4)
        rows = tiny["words.weight"][ids] + tiny["positions.weight"][:4] + tiny["segments.weight"][segments]

        def with_eps(eps):
            return normed(rows, weights["norm.weight"], weights["norm.bias"], eps)

        mistakes = {
            "a norm with an eps of 1e-5: BERT's is 1e-12": lambda: with_eps(1e-5),
            "a norm with an eps of 1e-6": lambda: with_eps(1e-6),
            "a norm with an eps of 1e-8": lambda: with_eps(1e-8),
            "a norm without eps": lambda: with_eps(1e-20),
        }
        ask = "Which eps does `LayerNorm` take by default, and which one does BERT have?"
        expect.close(
            m(ids, segments),
            with_eps(1e-12),
            atol=1e-4,
            rtol=1e-3,
            what="the embeddings of tiny rows",
            ask=ask,
            mistakes=mistakes,
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_too_long(self, student, rng):
        """takes a text as long as there are positions, and refuses a longer one"""
        longest = int(rng.integers(5, 9))
        m, _ = self.embeddings(student, rng, V=30, longest=longest)
        expect.array(
            m(ids_of(rng, 30, 2, longest)), shape=(2, longest, D), what="the embeddings of the longest text"
        )
        for more in (1, 4):
            ask = "Which positions have a vector, and who raises the ValueError for the others?"
            expect.raises(
                ValueError, lambda more=more: m(ids_of(rng, 30, 2, longest + more)),
                when=f"for {longest + more} tokens, with max_length={longest}", ask=ask,
            )  # fmt: skip

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_transformers")
    @pytest.mark.draws(2)
    def test_dropout(self, student, rng):
        """applies dropout behind the norm, in training only, 0.1 where nothing else is said"""
        ids, segments = ids_of(rng, 14, 60, 9), None
        for named, p in (({}, 0.1), ({"dropout": 0.4}, 0.4)):
            weights = drawn(rng, embedding_shapes(14, 9, 2))
            m = loaded(student.BertEmbeddings(14, D, 9, 2, **named), weights, self.ASK)
            plain = self.judge(weights, ids, torch.zeros_like(ids))
            m.train()
            out = m(ids, segments)
            said = f"the embeddings in training, dropout={p},"
            ask = "Dropout comes last, behind the norm, and `nn.Dropout` gets the rate from `dropout`."
            expect.array(out, shape=tuple(plain.shape), dtype=torch.float32, what=said)
            if not (out == 0).any():
                got = "none: nothing was dropped, or it was dropped in front of the norm"
                expect.fail(expected=f"zeros among {said[:-1]}", got=got, ask=ask)
            dropped(out, plain, p, said[:-1], ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    @pytest.mark.draws(1)
    def test_defaults(self, student, rng):
        """has 512 positions and two segments where nothing else is said"""
        V = int(rng.integers(9, 14))
        ask = "Which defaults does the signature of the stub give?"
        expect.parameters(student.BertEmbeddings(V, 4), embedding_shapes(V, 512, 2, 4), ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_transformers")
    def test_gradients(self, student, rng):
        """leaves its inputs alone, works in float64, and trains every table and the norm"""
        B, T = rng.distinct(2, low=3, high=5)
        m, weights = self.embeddings(student, rng, dtype=DOUBLE)
        ids, segments, given = (
            ids_of(rng, 14, B, T),
            segments_of(rng, B, T),
            rng.tensor(B, T, D, dtype=DOUBLE),
        )
        with expect.unchanged(ids=ids, segments=segments):
            out = m(ids, segments)
        leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
        rows = (
            leaves["words.weight"][ids] + leaves["positions.weight"][:T] + leaves["segments.weight"][segments]
        )
        (F.layer_norm(rows, (D,), leaves["norm.weight"], leaves["norm.bias"], 1e-12) * given).sum().backward()
        grads = {name: leaf.grad for name, leaf in leaves.items()}
        learns(
            m,
            out,
            given,
            grads,
            "Is each table looked up on the graph, whenever forward runs?",
            "the embeddings",
        )


# ---- the model ------------------------------------------------------------------------------------------------------


@pytest.mark.exercise("BertModel")
class TestBertModel:
    ASK = "Embeddings, an Encoder and a pooler, each with all its arguments: what else is there to train?"

    def model(self, student, rng, V=14, layers=2, dtype=torch.float32, longest=9, segments=2):
        """The learner's model with weights that we have drawn, and these weights."""
        weights = drawn(rng, model_shapes(V, layers, longest, segments), dtype)
        m = student.BertModel(V, D, H, WIDE, layers, max_length=longest, segments=segments)
        return loaded(m.double() if dtype == DOUBLE else m, weights, self.ASK), weights

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns embeddings, an encoder and a pooler; nothing else is trained"""
        V, longest = rng.distinct(2, low=9, high=14)
        for layers, segments in ((1, 2), (int(rng.integers(2, 4)), int(rng.integers(3, 5)))):
            self.model(student, rng, V, layers, longest=longest, segments=segments)

    @pytest.mark.points(4)
    @pytest.mark.needs("test_parameters")
    def test_agrees_with_transformers(self, student, rng):
        """gives the hidden states of BERT in transformers on the same weights"""
        B, T = rng.distinct(2, low=3, high=5)
        m, weights = self.model(student, rng, layers=int(rng.integers(2, 4)), longest=15)
        for ids, segments in (
            (ids_of(rng, 14, B, T), segments_of(rng, B, T)),
            (ids_of(rng, 14, 2, 13), None),
            (ids_of(rng, 14, 1, T), segments_of(rng, 1, T)),
            (ids_of(rng, 14, T, 1), None),
        ):
            expected = judged(weights, ids, segments)
            mistakes = lambda ids=ids, s=segments: model_mistakes(weights, ids, s)  # noqa: E731
            ask = "What does the encoder read, what does it return, and which three settings are not the Transformer's?"
            out = m(ids, segments) if segments is not None else m(ids)
            # The tanh form of GELU differs by 5e-4 at most; it has a check of its own, in float64.
            expect.close(
                out, expected, atol=2e-3, rtol=1e-3, what="the hidden states", ask=ask, mistakes=mistakes
            )
            same_twice(out, m(ids, segments), "hidden states")

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_transformers")
    def test_gelu(self, student, rng):
        """bends with the exact GELU, to ten digits"""
        m, weights = self.model(student, rng, dtype=DOUBLE)
        ids, segments = ids_of(rng, 14, 3, 5), segments_of(rng, 3, 5)
        expected = judged(weights, ids, segments)

        def tanh(x):
            return F.gelu(x, approximate="tanh")

        hand = ByHand(weights)

        def half():
            first = hand.layer(0, hand.embed(ids, segments), None)
            return ByHand(weights, activation=tanh).encode(first, order=[1])

        mistakes = {
            "GELU by its tanh approximation: BERT's is the exact one, by erf": lambda: ByHand(
                weights, activation=tanh
            ).hidden(ids, segments),
            "the exact GELU in the first layer alone": half,
            "norms with an eps of 1e-5, or one layer with another activation": lambda: ByHand(
                weights, eps=1e-5
            ).hidden(ids, segments),
        }
        ask = (
            "GELU comes in two forms, x · Φ(x) and one with a tanh. Which one do you compute, in every layer?"
        )
        out = m(ids, segments)
        expect.array(out, shape=(3, 5, D), dtype=DOUBLE, ask="Does a line of yours fix the dtype?")
        expect.close(
            out,
            expected,
            atol=1e-9,
            rtol=1e-8,
            what="the hidden states in float64",
            ask=ask,
            mistakes=mistakes,
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_transformers")
    def test_tiny_rows(self, student, rng):
        """norms with an eps of 1e-12 everywhere, which shows on rows of tiny numbers"""
        for layers in (1, 2):
            weights = drawn(rng, model_shapes(14, layers, 9))
            for name, w in weights.items():  # nothing is found, and every norm but the last makes tiny rows
                if ".output." in name:
                    w.zero_()
                if name.endswith("norm.weight") and f"layers.{layers - 1}.feed_forward" not in name:
                    w.mul_(1e-6)
                if name.endswith("norm.bias"):
                    w.zero_()
            m = loaded(student.BertModel(14, D, H, WIDE, layers, max_length=9), weights, self.ASK)
            ids = ids_of(rng, 14, 3, 4)
            start = ByHand(weights).embed(ids)

            def with_eps(one, two, weights=weights, start=start, layers=layers):
                """One eps for the norms behind the attentions, another for those behind the feed-forward nets."""
                x = start
                for i in range(layers):
                    for name, eps in (("attention", one), ("feed_forward", two)):
                        at = f"encoder.layers.{i}.{name}_residual.norm"
                        x = normed(x, weights[f"{at}.weight"], weights[f"{at}.bias"], eps)
                return x

            mistakes = {
                "norms with an eps of 1e-5, as in the Transformer: BERT's is 1e-12": with_eps(1e-5, 1e-5),
                "an eps of 1e-12 for the norms behind the attentions alone": with_eps(1e-12, 1e-5),
                "an eps of 1e-12 for the norms behind the feed-forward nets alone": with_eps(1e-5, 1e-12),
                "norms with an eps of 1e-6": with_eps(1e-6, 1e-6),
                "norms with an eps of 1e-8": with_eps(1e-8, 1e-8),
                "norms without eps": with_eps(1e-30, 1e-30),
            }
            ask = "How many norms does a layer have, and which eps has each of them?"
            what = f"the hidden states of tiny rows, {layers} layer{'s' * (layers > 1)},"
            expected = with_eps(1e-12, 1e-12)
            expect.close(m(ids), expected, atol=2e-5, rtol=2e-3, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_agrees_with_transformers")
    def test_padding(self, student, rng):
        """attends to no padding, whether the mask is of True and False or of 1 and 0, and wherever it lies"""
        B, T = rng.distinct(2, low=3, high=5)
        m, weights = self.model(student, rng)
        ids, segments, real = ids_of(rng, 14, B, T), segments_of(rng, B, T), real_of(rng, B, T)
        hand = ByHand(weights)

        def seen(*masks):
            return lambda: hand.hidden(ids, segments, list(masks))[real]

        keys, both = real[:, None], real[:, None] & real[:, :, None]
        mistakes = {
            "hidden states that depend on padding: the mask was not handed on": seen(None, None),
            "attention to nothing but padding: the mask is inverted": seen(~keys, ~keys),
            "1 and 0 of the mask added to the scores: padding is still seen": seen(
                keys.float(), keys.float()
            ),
            "a large negative number added where a token is real: the mask is inverted": seen(
                *[-1e9 * keys.float()] * 2
            ),
            "0 and 1 added to the scores, from an inverted mask": seen((~keys).float(), (~keys).float()),
            "a mask in the first layer only": seen(keys, None),
            "the mask turned round: it is padding that does not ask, but is still looked up": seen(
                real[:, :, None].expand(B, T, T), real[:, :, None].expand(B, T, T)
            ),
            "a causal mask as well: BERT sees both directions": seen(
                keys & torch.ones(T, T, dtype=torch.bool).tril(),
                keys & torch.ones(T, T, dtype=torch.bool).tril(),
            ),
            "the mask in the place of the segments": lambda: hand.hidden(ids, real.long(), [None, None])[
                real
            ],
            "positions counted among real tokens alone: padding takes a place too": lambda: self.counted(
                weights, ids, segments, real
            )[real],
            "segments of 0: they were lost where a mask was given": lambda: hand.hidden(
                ids, None, [keys, keys]
            )[real],
            "padding hidden from itself alone": seen(both | torch.eye(T, dtype=torch.bool), keys),
        }
        expected = judged(weights, ids, segments, real)[real]
        for mask, said in ((real, "a mask of True and False"), (real.long(), "a mask of 1 and 0")):
            ask = "Who may be looked up, in all sequences and layers? What does `Encoder` do with a mask of numbers?"
            for how in ("by place", "by name"):
                out = m(ids, segments, mask) if how == "by place" else m(ids, segments=segments, mask=mask)
                what = f"the hidden states of real tokens, under {said}"
                expect.array(out, shape=(B, T, D), dtype=torch.float32, what=what)
                expect.close(out[real], expected, atol=2e-3, rtol=1e-3, what=what, ask=ask, mistakes=mistakes)
        out = m(ids, mask=torch.ones_like(ids))
        expect.close(
            out,
            judged(weights, ids),
            atol=2e-3,
            rtol=1e-3,
            what="the hidden states, all tokens real,",
            ask=ask,
        )

    def counted(self, weights, ids, segments, real):
        """Hidden states with positions that padding does not count for."""
        places = (real.cumsum(1) - 1).clamp(min=0)
        tables = [weights[f"embeddings.{name}.weight"] for name in ("words", "positions", "segments")]
        rows = tables[0][ids] + tables[1][places] + tables[2][segments]
        hand = ByHand(weights)
        return hand.encode(hand.norm("embeddings.norm", rows, 1e-12), real[:, None])

    @pytest.mark.points(3)
    @pytest.mark.needs("test_parameters")
    @pytest.mark.draws(2)
    def test_reach(self, student, rng):
        """lets every token depend on all real tokens of its own text, before and behind it, and on nothing else"""
        B, T = 2, 4
        V = B * T + 1
        m, _ = self.model(student, rng, V)
        # Ids have no gradient, rows of the table have: every token gets an id, and so a row, of its own.
        ids = (1 + torch.from_numpy(rng.permutation(V - 1))).view(B, T)
        real = torch.ones(B, T, dtype=torch.bool)
        real[0, -1] = real[1, int(rng.integers(1, T))] = False
        out = m(ids, None, real)
        expect.array(out, shape=(B, T, D), dtype=torch.float32, what="the hidden states")
        expect.holds(
            out.requires_grad, expected="hidden states that can be differentiated with respect to the table",
            got="hidden states that are cut off from it", ask="Which line leaves the graph?",
        )  # fmt: skip
        weights = rng.tensor(B, T, D)
        for b, t in real.nonzero().tolist():
            m.zero_grad()
            chosen = torch.zeros_like(weights)
            chosen[b, t] = weights[b, t]
            out.backward(chosen, retain_graph=True)
            grad = expect.parameters(m.embeddings.words, {"weight": (V, D)}, ask=self.ASK)["weight"].grad
            expect.holds(
                grad is not None,
                expected="hidden states that depend on embeddings.words",
                got="no gradient for it",
                ask="Which line leaves the graph?",
            )
            expect.array(grad, shape=(V, D), dtype=torch.float32, what="the gradient of embeddings.words")
            reached = ((grad != 0).any(-1) | grad.isnan().any(-1))[ids]  # (B, T)
            for c, s in np.ndindex(B, T):
                allowed = c == b and bool(real[c, s])
                why = "of another text" if c != b else "which is padding"
                where = "behind it" if s > t else "before it" if s < t else "which is itself"
                expect.holds(
                    bool(reached[c, s]) == allowed,
                    expected=f"hidden state [{b}, {t}] to depend on token [{c}, {s}], {where}" if allowed
                    else f"hidden state [{b}, {t}] independent of token [{c}, {s}], {why}",
                    got="a gradient of exactly zero" if allowed else "a gradient that is not zero",
                    ask="Which path leads there, or which mask stands in its way?",
                )  # fmt: skip

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_pool(self, student, rng):
        """pools: tanh of a linear map of the first token's row"""
        B, T = rng.distinct(2, low=3, high=5)
        m, weights = self.model(student, rng, layers=1)
        for count, length in ((B, T), (B, 1), (1, T)):
            hidden = rng.tensor(count, length, D)
            with torch.no_grad():
                expected = theirs(weights).pooler(hidden)
            hand = ByHand(weights)

            def dense(x, hand=hand):
                return hand.linear("pooler", x)

            mistakes = {
                "the first row as it is: it goes through `pooler` and tanh": hidden[:, 0],
                "tanh of the first row: `pooler` was left out": hidden[:, 0].tanh(),
                "the pooler's row without tanh": dense(hidden[:, 0]),
                "tanh in front of `pooler`: it comes behind it": dense(hidden[:, 0].tanh()),
                "the mean over all tokens in the place of [CLS]": dense(hidden.mean(1)).tanh(),
                "the mean over all tokens": hidden.mean(1),
                "the largest entries over all tokens in the place of [CLS]": dense(hidden.amax(1)).tanh(),
                "the last token in the place of [CLS]": dense(hidden[:, -1]).tanh(),
                "the second token in the place of [CLS]": dense(hidden[:, min(1, length - 1)]).tanh(),
                "all tokens pooled: there is one row for each text": dense(hidden).tanh(),
                "the first text's tokens: [CLS] is the first token of every text": dense(hidden[0]).tanh(),
                "ReLU in the place of tanh": dense(hidden[:, 0]).relu(),
                "GELU in the place of tanh": exact_gelu(dense(hidden[:, 0])),
                "a sigmoid in the place of tanh": dense(hidden[:, 0]).sigmoid(),
                "the pooled row with a dimension of 1 left in it": dense(hidden[:, :1]).tanh(),
            }
            ask = "Which row stands for the whole text, and what happens to it?"
            with expect.unchanged(hidden=hidden):
                out = m.pool(hidden)
            expect.close(out, expected, what="the pooled rows", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    @pytest.mark.draws(2)
    def test_initial_weights(self, student, rng):
        """starts from matrices and tables of standard deviation 0.02, biases of zero and norms that change nothing"""
        width, wide, V = int(rng.integers(20, 24)) * 2, int(rng.integers(50, 60)), int(rng.integers(60, 80))
        shapes = model_shapes(V, 2, 40, 12, width, wide)
        m = student.BertModel(V, width, 2, wide, 2, max_length=40, segments=12)
        found = expect.parameters(m, shapes, ask=self.ASK)
        for name, value in found.items():
            expect.array(value, shape=shapes[name], dtype=torch.float32, what=name)
            value = value.detach()
            ask = "Which parameters are matrices and tables, which are biases, and which belong to norms?"
            if value.ndim == 1:
                wanted = torch.full_like(value, float(name.endswith("norm.weight")))
                expect.close(value, wanted, what=f"{name} of a new model", ask=ask)
                continue
            # Row 0 of the words may be set to zero, as that of padding.
            value = value[1:] if name == "embeddings.words.weight" else value
            spread, mean, n = float(value.std()), float(value.mean()), value.numel()
            got = f"standard deviation {spread:.3g}, mean {mean:.2g}"
            got += ", as nn.Embedding draws it by itself" if abs(spread - 1) < 0.05 else ""
            plain = shapes[name][1] ** -0.5 / math.sqrt(3)
            got += (
                ", as nn.Linear draws it by itself"
                if "embeddings" not in name and abs(spread / plain - 1) < 0.05
                else ""
            )
            even = float(value.abs().max()) < 0.02 * 1.75
            expect.holds(
                abs(spread / 0.02 - 1) < 6 / math.sqrt(2 * n) + 0.02
                and abs(mean) < 0.02 * 6 / math.sqrt(n)
                and not even,
                expected=f"{name} of a new model drawn from a normal distribution, mean 0, standard deviation 0.02",
                got=got + (", evenly spread" if even else ""),
                ask=ask,
            )
        other = expect.parameters(student.BertModel(V, width, 2, wide, 2, max_length=40, segments=12), shapes)
        name = "encoder.layers.1.attention.key.weight"
        for one, two in ((found[name], other[name]), (found[name], found[name.replace("1", "0")])):
            expect.holds(
                not torch.equal(one, two),
                expected="every matrix drawn by itself",
                got="two that are equal",
                ask=ask,
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_transformers")
    @pytest.mark.draws(1)
    def test_dropout(self, student, rng):
        """hands dropout to the embeddings and to every layer, and has none elsewhere"""
        weights = drawn(rng, model_shapes(14, 2, 9))
        for name in weights:  # each norm brings back what it gets, times two and plus a half
            if name.endswith("norm.weight"):
                weights[name] = torch.full((D,), 2.0)
            if name.endswith("norm.bias"):
                weights[name] = torch.full((D,), 0.5)
        ids = ids_of(rng, 14, 3, 5)
        m = loaded(student.BertModel(14, D, H, WIDE, 2, dropout=ALL, max_length=9), weights, self.ASK)
        m.train()
        ask = "Where does `dropout` go: to the embeddings, to the encoder, and nowhere else?"
        said = "in training, with a dropout of all but 1e-9,"
        expect.close(m.embeddings(ids), torch.zeros(3, 5, D), what=f"the embeddings {said}", ask=ask)
        x = rng.tensor(3, 5, D)
        expected = x
        for _ in range(4):
            expected = F.layer_norm(expected, (D,), eps=1e-12) * 2 + 0.5
        expect.close(m.encoder(x), expected, atol=1e-4, what=f"the encoder's output {said}", ask=ask)
        pooled = torch.tanh(ByHand(weights).linear("pooler", x[:, 0]))
        expect.close(m.pool(x), pooled, what=f"the pooled rows {said}", ask=ask)
        m = loaded(student.BertModel(14, D, H, WIDE, 2, dropout=0.0, max_length=9), weights, self.ASK)
        plain = m(ids)
        m.train()
        expect.array(plain, shape=(3, 5, D), dtype=torch.float32, what="the hidden states")
        expect.close(m(ids), plain, what="the hidden states in training, with dropout=0.0,", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_dropout")
    @pytest.mark.draws(1)
    def test_defaults(self, student, rng):
        """is BERT-base where nothing else is said: 12 layers of 12 heads, 768 and 3072 wide"""
        ask = "Which defaults does the signature give, and where do they go?"
        V = int(rng.integers(9, 14))
        m = student.BertModel(V, layers=0)
        expect.parameters(m, model_shapes(V, 0, 512, 2, 768, 3072), ask=ask)
        m = student.BertModel(V, 12, d_ff=3, max_length=4)
        expect.parameters(m, model_shapes(V, 12, 4, 2, 12, 3), ask=ask)
        shapes = model_shapes(V, 1, 4, 2, 12, 3072)
        m = student.BertModel(V, 12, layers=1, max_length=4)
        expect.parameters(m, shapes, ask=ask)
        weights, ids = drawn(rng, shapes), ids_of(rng, V, 2, 4)
        loaded(m, weights, ask)
        expected = judged(weights, ids, heads=12)
        what = "the hidden states of a model of width 12, whose heads are 12 by default,"
        expect.close(m(ids), expected, atol=2e-3, rtol=1e-3, what=what, ask=ask)
        weights = {n: torch.zeros_like(w) if w.ndim == 2 else torch.ones_like(w) for n, w in weights.items()}
        m.load_state_dict(weights, strict=False)
        m.train()
        out = m.embeddings(torch.zeros(40, 4, dtype=torch.int64))  # each entry is 1, the norm's bias
        dropped(out, torch.ones(40, 4, 12), 0.1, "the embeddings in training, by default", ask)
        parts = {n: torch.zeros_like(w) for n, w in weights.items()}
        at = "encoder.layers.0."
        parts |= {
            f"{at}attention_residual.norm.weight": torch.ones(12),
            f"{at}attention.output.bias": torch.ones(12),
        }
        parts[f"{at}feed_forward_residual.norm.weight"] = torch.ones(12)
        m.load_state_dict(parts, strict=False)
        out = m.encoder(torch.zeros(200, 4, 12))
        expect.array(out, shape=(200, 4, 12), dtype=torch.float32, what="the encoder's output")
        # Ones of which some were dropped, normed: in each row the lower of two values stands where one was dropped.
        low = (out < out.mean(-1, keepdim=True) - 1e-3).float().mean().item()
        expect.holds(
            abs(low - 0.1) < 6 * math.sqrt(0.09 / out.numel()) + 0.01,
            expected="10 % dropped of what a sub-layer of the encoder finds, by default",
            got=f"{low:.1%}",
            ask=ask,
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_gelu")
    def test_gradients(self, student, rng):
        """leaves its inputs alone, and sends the right gradient to every weight, the pooler's too"""
        B, T = rng.distinct(2, low=3, high=4)
        m, weights = self.model(student, rng, dtype=DOUBLE)
        ids, segments, mask = ids_of(rng, 14, B, T), segments_of(rng, B, T), real_of(rng, B, T)
        mask[:, 0] = True
        mask[1] = torch.arange(T) < T - 1
        with expect.unchanged(ids=ids, segments=segments, mask=mask):
            hidden = m(ids, segments, mask)
        given, pooled = rng.tensor(B, T, D, dtype=DOUBLE) * mask[..., None], rng.tensor(B, D, dtype=DOUBLE)
        grads = with_gradients(weights, ids, segments, mask, given, pooled)
        expect.array(hidden, shape=(B, T, D), dtype=DOUBLE, what="the hidden states")
        out = m.pool(hidden)
        expect.array(out, shape=(B, D), dtype=DOUBLE, what="the pooled rows")
        total = (hidden * given).sum() + (out * pooled).sum()
        expect.holds(
            hidden.requires_grad and out.requires_grad,
            expected="hidden states and pooled rows that can be differentiated",
            got="a result that is cut off from the parameters",
            ask="Which line leaves the graph?",
        )
        total.backward()
        compared(m, grads, "Is every part used once, on the graph, whenever forward runs?")


# ---- published weights ----------------------------------------------------------------------------------------------


@pytest.mark.exercise("load_pretrained")
class TestLoadPretrained:
    def setting(self, student, rng, layers=2, extra=None):
        """A model of the learner's, what is published for it, and what its parameters should be."""
        shapes = model_shapes(11, layers, 7)
        weights = drawn(rng, shapes)
        m = student.BertModel(11, D, H, WIDE, layers, max_length=7)
        expect.parameters(m, shapes, ask="This exercise needs the BertModel of exercise 3, with its names.")
        order = list(weights)
        rng.shuffle(order)
        state = {published_name(name): weights[name] for name in order}
        return m, weights, state | (extra or {})

    def holds(self, m, weights, state, old=None):
        """Expect the parameters of the model to be these, and say whose they are where they are not."""
        found = expect.parameters(m, {name: tuple(w.shape) for name, w in weights.items()})
        for name, w in weights.items():
            got = found[name].detach()
            expect.array(got, shape=tuple(w.shape), dtype=torch.float32, what=f"{name} after loading")
            if torch.equal(got, w):
                continue
            said = "other numbers"
            if old is not None and torch.equal(got, old[name]):
                said = "what the model had before: nothing was loaded there"
            elif got.ndim == 2 and got.shape[0] == got.shape[1] and torch.equal(got.T, w):
                said = "the published matrix, transposed: both libraries keep it as (outputs, inputs)"
            for other, value in state.items():
                if value.shape == got.shape and torch.equal(value, got):
                    said = f"the published {other}"
                elif (
                    value.ndim == 2
                    and value.T.shape == got.shape
                    and torch.equal(value.T, got)
                    and "transposed" not in said
                ):
                    said = f"the published {other}, transposed"
            own = published_name(name)
            expect.fail(
                expected=f"{name} = the published {own}",
                got=said,
                ask="Which line makes the published name out of this one, or this one out of the published name?",
            )

    def before(self, m, weights):
        found = expect.parameters(m, {name: tuple(w.shape) for name, w in weights.items()})
        return {name: value.detach().clone() for name, value in found.items()}

    @pytest.mark.points(3)
    def test_every_weight(self, student, rng):
        """puts every published weight into its place, in every layer"""
        # More than ten layers: a name that begins with layer.1 may belong to layer 10.
        for layers in (int(rng.integers(2, 4)), 11):
            m, weights, state = self.setting(student, rng, layers)
            old = self.before(m, weights)
            student.load_pretrained(m, state)
            self.holds(m, weights, state, old)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_every_weight")
    def test_other_names(self, student, rng):
        """reads names that begin with "bert.", and gamma and beta for the weight and bias of norms"""
        for prefix, old_names in (("bert.", False), ("", True), ("bert.", True)):
            m, weights, state = self.setting(student, rng)
            named = {}
            for name, w in state.items():
                if old_names and "LayerNorm" in name:
                    name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                        "LayerNorm.bias", "LayerNorm.beta"
                    )
                named[prefix + name] = w
            student.load_pretrained(m, named)
            self.holds(m, weights, named, None)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_every_weight")
    def test_tells_what_was_left(self, student, rng):
        """returns the published names that the model has no place for, sorted"""
        ask = "Which published names does no parameter of the model ask for? They come back as they are in the file."
        left = {
            "cls.predictions.bias": rng.tensor(11), "cls.predictions.transform.dense.weight": rng.tensor(D, D),
            "cls.seq_relationship.weight": rng.tensor(2, D), "embeddings.position_ids": torch.arange(7)[None],
            "classifier.bias": rng.tensor(3), "cls.predictions.transform.LayerNorm.gamma": rng.tensor(D),
        }  # fmt: skip
        m, weights, state = self.setting(student, rng, 1)
        _, _, more = self.setting(student, rng, 2)
        higher = {name: w for name, w in more.items() if "layer.1." in name}
        for extra, prefix in ((left, ""), (left | higher, ""), ({}, ""), (left, "bert.")):
            items = [(prefix + name, w) for name, w in state.items()]
            items += [((prefix if "embeddings" in name else "") + name, w) for name, w in extra.items()]
            items = [items[i] for i in rng.permutation(len(items))]
            given = dict(items)
            wanted = sorted((prefix if "embeddings" in name else "") + name for name in extra)
            out = student.load_pretrained(m, given)
            found = list(out) if isinstance(out, (list, tuple)) else out
            good = isinstance(found, list) and all(isinstance(name, str) for name in found)
            got = "None: what was not used is ignored in silence" if out is None else f"{type(out).__name__}"
            expect.holds(
                good,
                expected=f"a list of the {len(wanted)} published names that were not used",
                got=got,
                ask=ask,
            )
            if found != wanted:
                absent = [name for name in wanted if name not in found]
                extra_names = [name for name in found if name not in wanted]
                if sorted(found) == wanted:
                    got = "the same names, not sorted"
                elif absent:
                    got = f"a list without {absent[0]}" + (
                        f", but with {extra_names[0]}" if extra_names else ""
                    )
                else:
                    got = (
                        f"{extra_names[0]} besides"
                        if extra_names
                        else f"{len(found)} names, some of them twice"
                    )
                expected = f"the {len(wanted)} names that were not used: {', '.join(wanted[:3])}" + (
                    " …" if len(wanted) > 3 else ""
                )
                expect.fail(expected=expected, got=got, ask=ask)
            self.holds(m, weights, given)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_every_weight")
    def test_refuses(self, student, rng):
        """raises ValueError where a weight is missing or has another shape, and leaves the model as it was"""
        m, weights, state = self.setting(student, rng)
        old = self.before(m, weights)
        names = list(state)
        name = names[int(rng.integers(len(names)))]
        shorter = {n: w for n, w in state.items() if n != name}
        wider = dict(state)
        wider["embeddings.position_embeddings.weight"] = rng.tensor(9, D)
        broadcast = dict(state)
        broadcast["encoder.layer.1.output.dense.bias"] = rng.tensor(1)
        last = dict(state)
        last["pooler.dense.bias"] = rng.tensor(D + 1)
        flat = {
            n: w.flatten() if n == "encoder.layer.0.attention.self.key.weight" else w
            for n, w in state.items()
        }
        no_layer = {n: w for n, w in state.items() if not n.startswith("encoder.layer.1.")}
        turned = {n: w.T if n == "encoder.layer.0.intermediate.dense.weight" else w for n, w in state.items()}
        for given, when in (
            (shorter, f"where {name} is missing"),
            (no_layer, "where the model has a layer more than was published"),
            ({}, "where nothing was published"),
            (wider, "where the table of positions is longer than the model's"),
            (turned, "where a matrix of F rows has F columns"),
            (last, "where the last bias has another length"),
            (broadcast, "where a bias has the shape (1,), which would broadcast"),
            (flat, "where a matrix is published as one long row"),
        ):
            ask = "What does every parameter need? Look before anything is copied."
            expect.raises(
                ValueError, lambda given=given: student.load_pretrained(m, given), when=when, ask=ask
            )
            now = self.before(m, weights)
            changed = [n for n in old if not torch.equal(now[n], old[n])]
            expect.holds(
                not changed,
                expected=f"the model as it was after the ValueError {when}",
                got=f"{len(changed)} of {len(old)} parameters were overwritten",
                ask="What comes first, looking or copying?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_every_weight")
    def test_copies(self, student, rng):
        """copies: the model's parameters stay its own, in its dtype, and can be trained"""
        m, weights, state = self.setting(student, rng)
        half = {name: w.half() for name, w in state.items()}
        one = rng.tensor(D)  # the same tensor under two names
        both = [f"encoder.layer.{i}.output.LayerNorm.weight" for i in (0, 1)]
        half |= dict.fromkeys(both, one)
        kept = {f"w{i}": w for i, w in enumerate(half.values())}
        with expect.unchanged(**kept):
            student.load_pretrained(m, half)
        ask = "Does the parameter take over the published tensor, or its numbers?"
        found = expect.parameters(m, {name: tuple(w.shape) for name, w in weights.items()}, ask=ask)
        names = [f"encoder.layers.{i}.feed_forward_residual.norm.weight" for i in (0, 1)]
        for name, w in weights.items():
            what = f"{name}, for which float16 was published,"
            expect.array(found[name], shape=tuple(w.shape), dtype=torch.float32, what=what, ask=ask)
            expect.close(found[name].detach(), one if name in names else w.half().float(), what=what, ask=ask)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_every_weight")
    def test_gives_the_published_numbers(self, student, rng):
        """with the weights of a model of transformers gives its hidden states and pooled rows, padded batch too"""
        B, T = rng.distinct(2, low=3, high=5)
        m, weights, _ = self.setting(student, rng, 3)
        weights = {name: 0.5 * w if w.ndim == 2 and "layers" in name else w for name, w in weights.items()}
        model = theirs(weights)
        student.load_pretrained(m, {**model.state_dict(), "embeddings.position_ids": torch.arange(7)[None]})
        m.eval()
        ids, segments, real = ids_of(rng, 11, B, T), segments_of(rng, B, T), real_of(rng, B, T)
        real[:, 0] = True
        real[1] = torch.arange(T) < T - 1
        with torch.no_grad():
            expected = model(ids, token_type_ids=segments, attention_mask=real.long())
        out = m(ids, segments, real)
        what = "the hidden states of real tokens"
        expect.array(out, shape=(B, T, D), dtype=torch.float32, what=what)
        mistakes = lambda: {  # noqa: E731
            said: value[real]
            for said, wrong in model_mistakes(weights, ids, segments).items()
            if (value := wrong() if callable(wrong) else wrong).shape == out.shape
        }
        ask = "The weights are right: is it GELU, eps, the order of norm and sum, or the mask of your BertModel?"
        expect.close(
            out[real],
            expected.last_hidden_state[real],
            atol=1e-4,
            rtol=1e-4,
            what=what,
            ask=ask,
            mistakes=mistakes,
        )
        pooled = m.pool(out)
        expect.close(pooled, expected.pooler_output, atol=1e-4, rtol=1e-4, what="the pooled rows", ask=ask)


# ---- the classifier -------------------------------------------------------------------------------------------------


@pytest.mark.exercise("SequenceClassifier")
class TestSequenceClassifier:
    ASK = "Which sub-modules does the docstring name: the bert that was given, and one linear map?"

    def classifier(self, student, rng, classes, layers=1, dtype=torch.float32, **named):
        shapes = model_shapes(11, layers, 7)
        weights = {f"bert.{name}": w for name, w in drawn(rng, shapes, dtype).items()}
        weights |= {
            "classifier.weight": rng.tensor(classes, D, dtype=dtype),
            "classifier.bias": rng.tensor(classes, dtype=dtype),
        }
        bert = student.BertModel(11, D, H, WIDE, layers, dropout=0.0, max_length=7)
        expect.parameters(
            bert, shapes, ask="This exercise needs the BertModel of exercise 3, with its names."
        )
        m = student.SequenceClassifier(bert, classes, **named)
        return loaded(m.double() if dtype == DOUBLE else m, weights, self.ASK), weights, bert

    def shapes(self, classes, layers=1):
        inner = {f"bert.{name}": shape for name, shape in model_shapes(11, layers, 7).items()}
        return inner | {"classifier.weight": (classes, D), "classifier.bias": (classes,)}

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns the bert that it was given, and one linear map to the classes"""
        for classes in (1, int(rng.choice([3, 4, 5, 7]))):
            bert = student.BertModel(11, D, H, WIDE, 1, max_length=7)
            weights = drawn(rng, model_shapes(11, 1, 7))
            loaded(bert, weights, "This exercise needs the BertModel of exercise 3, with its names.")
            m = student.SequenceClassifier(bert, classes)
            found = expect.parameters(m, self.shapes(classes), ask=self.ASK)
            for name, w in weights.items():
                what = f"bert.{name} of a new classifier"
                expect.array(found[f"bert.{name}"], shape=tuple(w.shape), what=what)
                ask = "The bert comes with weights, perhaps pretrained ones. Which line makes it anew?"
                expect.close(found[f"bert.{name}"].detach(), w, what=what, ask=ask)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_parameters")
    def test_logits(self, student, rng):
        """judges by what the bert pools, padding and segments regarded"""
        classes = int(rng.choice([2, 3, 4, 5]))
        B, T = rng.distinct(2, low=3, high=5)
        m, weights, _ = self.classifier(student, rng, classes, 2)
        ids, segments, real = ids_of(rng, 11, B, T), segments_of(rng, B, T), real_of(rng, B, T)
        real[:, 0], real[1] = True, torch.arange(T) < T - 1
        W, c = weights["classifier.weight"], weights["classifier.bias"]
        bert = m.bert
        # What its own bert says is the measure: a wrong BertModel loses points in its own exercise.
        for named in ({}, {"segments": segments}, {"mask": real}, {"segments": segments, "mask": real}):
            hidden = bert(ids, **named)
            expect.array(hidden, shape=(B, T, D), dtype=torch.float32, what="the hidden states of `bert`")
            hidden = hidden.detach()
            pooled = bert.pool(hidden)
            expect.array(pooled, shape=(B, D), dtype=torch.float32, what="what `bert` pools")
            pooled = pooled.detach()
            expected = F.linear(pooled, W, c)

            def from_(x):
                return lambda x=x: F.linear(x, W, c)

            weight = named.get("mask", torch.ones_like(ids)).float()[..., None]
            mistakes = {
                "the hidden state of [CLS] itself, not pooled": from_(hidden[:, 0]),
                "the mean over the tokens, not what `bert` pools": from_(hidden.mean(1)),
                "the mean over the real tokens, not what `bert` pools": from_(
                    (hidden * weight).sum(1) / weight.sum(1)
                ),
                "the last token, not [CLS]": from_(hidden[:, -1]),
                "the last token pooled, not [CLS]": lambda hidden=hidden: F.linear(
                    bert.pool(hidden.flip(1)).detach(), W, c
                ),
                "logits for every token": from_(hidden),
                "probabilities: the softmax is the loss's affair": expected.softmax(-1),
                "log-probabilities: the softmax is the loss's affair": expected.log_softmax(-1),
                "sigmoids: the loss wants logits": expected.sigmoid(),
                "tanh of the logits": expected.tanh(),
                "the classes in place of the logits": expected.argmax(-1),
                "what `bert` pools: the classifier was left out": pooled,
                "a second tanh in front of the classifier": from_(pooled.tanh()),
                "a ReLU in front of the classifier": from_(pooled.relu()),
                "logits without the classifier's bias": F.linear(pooled, W),
            }
            for left in ("mask", "segments"):
                if left in named:
                    fewer = {name: value for name, value in named.items() if name != left}
                    mistakes[f"logits that ignore the {left}: it was not handed on to `bert`"] = (
                        lambda fewer=fewer: F.linear(bert.pool(bert(ids, **fewer)).detach(), W, c)
                    )
            if len(named) == 2:
                mistakes["segments and mask in each other's place"] = lambda: F.linear(
                    bert.pool(bert(ids, real.long(), segments)).detach(), W, c
                )
            ask = "`bert` makes hidden states, `bert.pool` one row of them: what goes into the classifier?"
            said = f"the logits, given {' and '.join(['ids', *named])},"
            out = m(ids, **named)
            expect.close(out, expected, what=said, ask=ask, mistakes=mistakes)
            same_twice(out, m(ids, **named), "logits")
        out = m(ids, segments, real)
        expect.close(out, expected, what="the logits of m(ids, segments, mask)", ask=ask)
        one = m(ids[:1], segments[:1], real[:1])
        expect.close(
            one,
            out[:1].detach(),
            what="the logits of a batch of one text",
            ask="Which line drops a dimension?",
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_logits")
    def test_agrees_with_transformers(self, student, rng):
        """gives the logits of BertForSequenceClassification on the same weights"""
        classes = int(rng.choice([3, 4, 5]))
        B, T = rng.distinct(2, low=3, high=5)
        m, weights, _ = self.classifier(student, rng, classes, 2)
        ids, segments, real = ids_of(rng, 11, B, T), segments_of(rng, B, T), real_of(rng, B, T)
        real[:, 0], real[1] = True, torch.arange(T) < T - 1
        inner = {name.removeprefix("bert."): w for name, w in weights.items() if name.startswith("bert.")}
        judge = theirs(inner, kind=published_bert.BertForSequenceClassification, num_labels=classes)
        judge.classifier.load_state_dict(
            {"weight": weights["classifier.weight"], "bias": weights["classifier.bias"]}
        )
        with torch.no_grad():
            expected = judge(ids, token_type_ids=segments, attention_mask=real.long()).logits
        ask = "Your classifier follows your bert. Is it the bert that differs: does exercise 3 pass all its checks?"
        expect.close(m(ids, segments, real), expected, atol=2e-3, rtol=1e-3, what="the logits", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_logits")
    def test_shares_the_bert(self, student, rng):
        """keeps the bert itself, not a copy: what is trained here is trained there"""
        m, weights, bert = self.classifier(student, rng, 3)
        ids = ids_of(rng, 11, 2, 4)
        before = m(ids)
        other = drawn(rng, model_shapes(11, 1, 7))
        bert.load_state_dict(other, strict=False)
        bert.eval()
        expected = F.linear(
            bert.pool(bert(ids)).detach(), weights["classifier.weight"], weights["classifier.bias"]
        )
        mistakes = {"the logits of the old weights: the classifier holds a copy of the bert": before}
        expect.close(m(ids), expected, what="the logits after the bert got other weights", mistakes=mistakes,
                     ask="Which line copies the bert?")  # fmt: skip

    @pytest.mark.points(1)
    @pytest.mark.needs("test_logits")
    @pytest.mark.draws(2)
    def test_dropout(self, student, rng):
        """applies dropout to the pooled row, in training only, 0.1 where nothing else is said"""
        ids = ids_of(rng, 11, 400, 4)
        for named, p in (({}, 0.1), ({"dropout": 0.4}, 0.4)):
            # One class for each feature, and a classifier that changes nothing: the logits are what it read.
            m, weights, _ = self.classifier(student, rng, D, **named)
            weights |= {"classifier.weight": torch.eye(D), "classifier.bias": torch.zeros(D)}
            m.load_state_dict(weights, strict=False)
            plain = m.bert.pool(m.bert(ids))
            expect.array(plain, shape=(400, D), dtype=torch.float32, what="what `bert` pools")
            m.train()
            out = m(ids)
            ask = "Which dropout acts on the pooled row, and where does it get its rate?"
            what = f"the pooled rows in training, dropout={p}, as the classifier reads them"
            expect.array(out, shape=(400, D), dtype=torch.float32, what=what)
            if (out.detach() - plain.detach()).abs().max() < 1e-5:
                expect.fail(
                    expected=f"{p:.0%} of the entries zero in {what}", got="nothing was dropped", ask=ask
                )
            dropped(out, plain, p, what, ask)
        m, weights, _ = self.classifier(student, rng, 3, dropout=ALL)
        m.train()
        expected = weights["classifier.bias"].expand(400, 3)
        mistakes = {"zeros: dropout on the logits, not on the pooled row": torch.zeros(400, 3)}
        what = "the logits in training, with a dropout of all but 1e-9,"
        expect.close(m(ids), expected, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_transformers")
    def test_trains_everything(self, student, rng):
        """leaves its inputs alone, and trains the classifier and every weight of the bert"""
        B, T = rng.distinct(2, low=3, high=4)
        m, weights, _ = self.classifier(student, rng, 3, 2, DOUBLE)
        ids, segments, mask = ids_of(rng, 11, B, T), segments_of(rng, B, T), real_of(rng, B, T)
        mask[:, 0], mask[1] = True, torch.arange(T) < T - 1
        with expect.unchanged(ids=ids, segments=segments, mask=mask):
            out = m(ids, segments, mask)
        given = rng.tensor(B, 3, dtype=DOUBLE)
        inner = {name.removeprefix("bert."): w for name, w in weights.items() if name.startswith("bert.")}
        judge = theirs(inner, kind=published_bert.BertForSequenceClassification, num_labels=3)
        judge.classifier.load_state_dict(
            {"weight": weights["classifier.weight"], "bias": weights["classifier.bias"]}
        )
        (judge(ids, token_type_ids=segments, attention_mask=mask.long()).logits * given).sum().backward()
        grads = {name: p.grad for name, p in judge.named_parameters()}
        wanted = {
            name: grads[
                name
                if name.startswith("classifier")
                else f"bert.{published_name(name.removeprefix('bert.'))}"
            ]
            for name in weights
        }
        learns(
            m,
            out,
            given,
            wanted,
            "Fine-tuning trains the bert too. Which line freezes it or leaves the graph?",
            "the logits",
        )
