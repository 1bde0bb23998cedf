"""Checks of unit 18, second half: the norm and the attention.

Every check draws fresh inputs and weights. The judges are ``torch.nn.functional.rms_norm``, an attention worked out
step by step, and gradients: who can see whom. What is worked out with something wrong in it names the mistake.
"""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proctor import expect

INF = float("inf")
D, H, K = 6, 2, 5  # K is not D / H, and H·K not D


# ---- weights --------------------------------------------------------------------------------------------------------


def attention():
    """Names and shapes of an attention's parameters."""
    return {f"{part}.weight": (H * K, D) for part in ("query", "key", "value")} | {
        "output.weight": (D, H * K)
    }


def drawn(rng, shapes, dtype=torch.float32):
    """Random weights: norms around one, maps that keep the size of what goes through."""
    weights = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            weights[name] = rng.tensor(*shape, scale=0.4, dtype=dtype) + 1
        else:
            weights[name] = rng.tensor(*shape, scale=shape[1] ** -0.5, dtype=dtype)
    return weights


def loaded(module, weights, ask):
    """The learner's module with these weights, which must be all that it trains, ready for evaluation."""
    expect.parameters(module, {name: tuple(w.shape) for name, w in weights.items()}, ask=ask)
    module.load_state_dict(weights, strict=False)  # a buffer of the learner's own may keep what it holds
    module.eval()
    return module


def learns(module, out, given, copies, ask):
    """Expect every parameter's gradient to be that of the copies, which the judge's own run has left there."""
    expect.array(
        out, shape=tuple(given.shape), dtype=given.dtype, ask="Does a line fix the dtype of what it makes?"
    )
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
        expect.array(grad, shape=tuple(copy.shape), dtype=given.dtype, what=f"the gradient of {name}")
        expect.close(grad, copy.grad, what=f"the gradient of {name}", ask=ask)


def triangle(size, offset=0):
    """The causal mask of so many queries, the first of which stands at the offset."""
    return torch.ones(size, offset + size, dtype=torch.bool).tril(offset)


def permitted(rng, *shape):
    """A boolean mask in which every query may attend to at least one key, and not to at least one other."""
    rank = rng.random(shape).argsort(-1).argsort(-1)
    count = np.asarray(rng.integers(1, shape[-1], shape[:-1]))
    return torch.from_numpy(rank < count[..., None])


# ---- the norm -------------------------------------------------------------------------------------------------------


def normed(x, weight, eps=1e-6):
    return F.rms_norm(x, x.shape[-1:], weight, eps)


@pytest.mark.exercise("RMSNorm")
class TestRMSNorm:
    ASK = (
        "The root of the mean of the squares, of each row by itself: which dimension, and where does eps go?"
    )

    def made(self, student, rng, width, eps=None, dtype=torch.float32):
        m = student.RMSNorm(width) if eps is None else student.RMSNorm(width, eps)
        weight = rng.tensor(width, scale=0.4, dtype=dtype) + 1
        return loaded(m, {"weight": weight}, "One weight for each feature, and nothing besides?"), weight

    def mistakes(self, x, weight, eps):
        """What is said of a wrong norm, and what it returns."""
        square, mean = x.square(), x.mean(-1, keepdim=True)
        root = (square.mean(-1, keepdim=True) + eps).sqrt()
        rows = tuple(range(x.ndim - 1))
        said = {
            "the mean subtracted first: that is LayerNorm, without its bias": F.layer_norm(
                x, x.shape[-1:], weight, None, eps
            ),
            "the mean subtracted, and the root taken of the squares of x itself": (x - mean) / root * weight,
            "x divided by its standard deviation, which is a deviation from the mean": x
            / (x.var(-1, keepdim=True, correction=0) + eps).sqrt()
            * weight,
            "x divided by its standard deviation, divided by D − 1": x
            / (x.var(-1, keepdim=True) + eps).sqrt()
            * weight,
            "the sum of the squares in place of their mean: √D too small": x
            / (square.sum(-1, keepdim=True) + eps).sqrt()
            * weight,
            "the squares divided by D − 1 in place of D": x
            / (square.sum(-1, keepdim=True) / max(x.shape[-1] - 1, 1) + eps).sqrt()
            * weight,
            "eps outside of the root: it is added to the mean square": x
            / (square.mean(-1, keepdim=True).sqrt() + eps)
            * weight,
            "no eps": x / square.mean(-1, keepdim=True).sqrt() * weight,
            "no weight": x / root,
            "the weight added": x / root + weight,
            "the weight added to one": x / root * (1 + weight),
            "divided by the mean square, without its root": x / root.square() * weight,
            "multiplied by the root mean square": x * root * weight,
            "the mean of |x| in place of the root mean square": x
            / (x.abs().mean(-1, keepdim=True) + eps)
            * weight,
            "one norm for all rows together": x / (square.mean() + eps).sqrt() * weight,
            "the root of the mean of x, squared": x / (mean.square() + eps).sqrt() * weight,
            "x as it was": x,
        }
        if rows:
            said["the squares averaged over the rows, feature by feature: each row is normed by itself"] = (
                x / (square.mean(rows, keepdim=True) + eps).sqrt() * weight
            )
        if x.ndim > 2:
            said["the squares averaged over the sequence, so that a row sees the others"] = (
                x / (square.mean(-2, keepdim=True) + eps).sqrt() * weight
            )
            said[
                "the squares averaged over sequence and features together, so that a row sees the others"
            ] = x / (square.mean((-2, -1), keepdim=True) + eps).sqrt() * weight
        return said

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """has one weight for each feature, which starts at one, and no bias"""
        width = int(rng.integers(3, 9))
        m = student.RMSNorm(width)
        found = expect.parameters(m, {"weight": (width,)}, ask="What does T5 leave out of LayerNorm?")
        expect.close(found["weight"], torch.ones(width), what="the new weight", ask="Where does it start?")

    @pytest.mark.points(3)
    @pytest.mark.needs("test_parameters")
    def test_agrees_with_pytorch(self, student, rng):
        """agrees with PyTorch's rms_norm on rows of any number"""
        for lead in ((), tuple(rng.distinct(1)), tuple(rng.distinct(2)), tuple(rng.distinct(3, high=5))):
            width = int(rng.integers(3, 6)) + 6 * len(lead)
            m, weight = self.made(student, rng, width)
            x = rng.tensor(*lead, width) * 2 + rng.tensor(1)
            with expect.unchanged(x=x):
                out = m(x)
            mistakes = lambda x=x, w=weight: self.mistakes(x, w, 1e-6)  # noqa: E731
            expect.close(out, normed(x, weight), ask=self.ASK, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_eps(self, student, rng):
        """adds eps to the mean square, so that small rows stay small and zeros stay zero"""
        T, width = rng.distinct(2, low=3)
        for eps in (None, float(rng.uniform(0.05, 0.2))):
            m, weight = self.made(student, rng, width, eps)
            used = 1e-6 if eps is None else eps
            x = rng.tensor(2, T, width, scale=used**0.5)
            x[0, 0] = 0

            def mistakes(x=x, w=weight, e=used):
                others = [other for other in (1e-5, 1e-8, 1e-12, 1e-6) if other != e]
                return self.mistakes(x, w, e) | {
                    f"an eps of {other}": normed(x, w, other) for other in others
                }

            what = f"the output for small rows, eps={used:.3g}" + (" by default," if eps is None else ",")
            expect.close(m(x), normed(x, weight, used), what=what, ask=self.ASK, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_half_precision(self, student, rng):
        """is right in half precision, whose squares leave its range, and keeps the dtype"""
        width = int(rng.integers(3, 9))
        m, weight = self.made(student, rng, width)
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            x = (400 * (1 + rng.random((4, 1))) * np.sign(rng.normal(size=(4, width)))).astype(np.float32)
            x = (torch.from_numpy(x) * (1 + rng.tensor(4, width, scale=0.1))).to(dtype)
            out = m(x)
            ask = "Which dtype goes in, in which are the squares taken, and which comes out?"
            expect.array(out, shape=(4, width), dtype=dtype, what="the output", ask=ask)
            expected = normed(x.double(), weight.double())
            what = f"the output for rows of {str(dtype).removeprefix('torch.')} around 500"
            zero = {"zeros: the squares became infinite, in float16": torch.zeros(4, width)}
            expect.close(out.double(), expected, atol=1e-2, rtol=1e-2, what=what, ask=ask, mistakes=zero)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_reach_and_gradients(self, student, rng):
        """norms every row by itself, and sends the right gradients to x and weight"""
        B, T, width = rng.distinct(3, low=2, high=6)
        m, weight = self.made(student, rng, width)
        allowed = torch.zeros(B, T, B, T, dtype=torch.bool)
        for b in range(B):
            allowed[b, :, b] = torch.eye(T, dtype=torch.bool)
        expect.reaches(m, rng.tensor(B, T, width), allowed)
        x, given = rng.tensor(B, T, width).requires_grad_(), rng.tensor(B, T, width)
        copies = {"weight": weight.clone().requires_grad_()}
        twin = x.detach().clone().requires_grad_()
        (normed(twin, copies["weight"]) * given).sum().backward()
        m.zero_grad()
        ask = "Does every step stay on the graph, the root mean square too?"
        learns(m, m(x), given, copies, ask)
        expect.array(x.grad, shape=(B, T, width), what="the gradient of x", ask=ask)
        expect.close(x.grad, twin.grad, what="the gradient of x", ask=ask)


# ---- the attention --------------------------------------------------------------------------------------------------


def attend(w, x, memory=None, mask=None, wrong=""):
    """T5's attention on given weights, with something wrong if wanted."""
    asks, looked_up = x, x if memory is None else memory
    if wrong == "own side":
        looked_up = x
    if wrong == "sides":
        asks, looked_up = looked_up, asks
    values = x if wrong == "values of x" else looked_up
    names = {"query": "query", "key": "key", "value": "value"}
    if wrong == "keys and values":
        names |= {"key": "value", "value": "key"}
    if wrong == "queries and keys":
        names |= {"query": "key", "key": "query"}
    heads = 1 if wrong == "one head" else H
    query, key, value = (
        F.linear(rows, w[f"{names[part]}.weight"]).unflatten(-1, (heads, -1)).transpose(1, 2)
        for part, rows in (("query", asks), ("key", looked_up), ("value", values))
    )
    scores = query @ key.transpose(-2, -1)
    scores = scores * {
        "scaled": K**-0.5,
        "by D": D**-0.5,
        "by D/H": (D / H) ** -0.5,
        "by K": 1 / K,
        "times": K**0.5,
    }.get(wrong, 1)
    if mask is not None and wrong != "no mask":
        if mask.dtype == torch.bool:
            mask = ~mask if wrong == "inverted" else mask
            mask = mask.expand(-1, H, -1, -1)[:, :1] if wrong == "first head" and mask.ndim == 4 else mask
            scores = scores.masked_fill(~mask, -1e9 if wrong == "average" else -INF)
        elif wrong == "yes or no":
            scores = scores.masked_fill(mask == -INF, -INF)
        elif wrong == "first head":
            scores = scores + mask.expand(-1, H, -1, -1)[:, :1]
        else:
            scores = scores - mask if wrong == "minus" else scores + mask
    weights = torch.softmax(scores, -2 if wrong == "queries" else -1)
    weights = weights.nan_to_num(0.0)
    if wrong == "mask after" and mask is not None and mask.dtype != torch.bool:
        weights = torch.softmax(query @ key.transpose(-2, -1), -1) + mask
    if wrong == "scaled with mask":
        weights = torch.softmax(scores / math.sqrt(K), -1).nan_to_num(0.0)
    found = weights @ value
    merged = (
        found.flatten(1, 2).reshape(x.shape[0], -1, H * K)
        if wrong == "merge"
        else found.transpose(1, 2).flatten(-2)
    )
    return merged if wrong == "no output" and merged.shape[-1] == D else F.linear(merged, w["output.weight"])


ATTENTION = {
    "scaled": "scores divided by √K: T5 does not scale them",
    "scaled with mask": "scores divided by √K, the mask with them: T5 does not scale",
    "by D": "scores divided by √D: T5 does not scale them",
    "by D/H": "scores divided by √(D / H): T5 does not scale them, and K need not be D / H",
    "by K": "scores divided by K: T5 does not scale them",
    "times": "scores multiplied by √K: T5 does not scale them",
    "no mask": "the mask left out",
    "inverted": "the mask turned round: True permits",
    "yes or no": "an additive mask read as yes or no: its numbers join the scores",
    "minus": "the additive mask subtracted",
    "first head": "the first head's mask for all heads: it may differ from head to head",
    "average": "an average of all values where nothing is permitted: it should be zero",
    "queries": "weights that sum to one over the queries: a softmax runs over the keys",
    "one head": "one head as wide as all: each has K features of its own",
    "keys and values": "keys from `value`, and values from `key`",
    "queries and keys": "queries from `key`, and keys from `query`",
    "own side": "x looked up in itself, though a memory was given",
    "sides": "queries from the memory, keys and values from x: the sides are swapped",
    "values of x": "keys from the memory and values from x",
    "merge": "heads merged without their dimension having been exchanged back",
}


def attention_mistakes(w, x, memory=None, mask=None):
    """What is said of a wrong attention, and what it returns."""
    said = {}
    for wrong, sentence in ATTENTION.items():
        try:
            said[sentence] = attend(w, x, memory, mask, wrong)
        except RuntimeError:
            continue  # such a mistake ends in an error of its own
    return said


@pytest.mark.exercise("T5Attention")
class TestT5Attention:
    ASK = "Per head: q · k, plus the mask, a softmax over the keys, times the values. What is no part of it?"
    NAMES = "Four maps without bias: how wide is what goes into each, and what comes out?"

    def made(self, student, rng, dtype=torch.float32):
        weights = drawn(rng, attention(), dtype)
        m = student.T5Attention(D, H, K)
        if dtype == torch.float64:
            m.double()
        return loaded(m, weights, self.NAMES), weights

    def judge(self, out, weights, x, memory=None, mask=None, what="the output", ask=ASK):
        mistakes = lambda: attention_mistakes(weights, x, memory, mask)  # noqa: E731
        expect.close(out, attend(weights, x, memory, mask), what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """has four maps without bias, between D and H·K, whatever K is"""
        for width, heads, d_key in ((D, H, K), rng.distinct(3), (7, 3, 2)):
            inner = heads * d_key
            shapes = {f"{part}.weight": (inner, width) for part in ("query", "key", "value")}
            shapes["output.weight"] = (width, inner)
            expect.parameters(student.T5Attention(width, heads, d_key), shapes, ask=self.NAMES)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_scores_are_not_scaled(self, student, rng):
        """attends by plain dot products, to x itself"""
        for B, T in (rng.distinct(2), (1, 1), (H, H)):
            m, weights = self.made(student, rng)
            x = rng.tensor(B, T, D, scale=1.5)
            with expect.unchanged(x=x):
                out = m(x)
            self.judge(out, weights, x)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_scores_are_not_scaled")
    def test_memory(self, student, rng):
        """looks up another sequence where one is given"""
        for B, T, S in (rng.distinct(3), (2, 4, 4), (1, 1, 3)):
            m, weights = self.made(student, rng)
            x, memory = rng.tensor(B, T, D), rng.tensor(B, S, D)
            ask = "Who asks, and who is looked up: which of the two goes into which map?"
            self.judge(m(x, memory), weights, x, memory, ask=ask)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_memory")
    def test_masks(self, student, rng):
        """takes masks that differ from head to head, and those that broadcast, boolean or additive"""
        B, T, S = rng.distinct(3, low=3)
        for rows, shape in (
            (B, (B, H, T, S)),
            (B, (1, H, T, S)),
            (B, (B, 1, 1, S)),
            (B, (H, T, S)),
            (B, (T, S)),
            (H, (H, 1, T, S)),
            (H, (1, H, 1, S)),
        ):
            m, weights = self.made(student, rng)
            x, memory = rng.tensor(rows, T, D), rng.tensor(rows, S, D)
            yes = permitted(rng, *shape)
            for mask in (yes, rng.tensor(*shape).masked_fill(~yes, -INF), rng.tensor(*shape, scale=2.0)):
                kind = "boolean" if mask.dtype == torch.bool else "additive"
                with expect.unchanged(mask=mask):
                    out = m(x, memory, mask)
                what, full = f"the output under a mask {shape}, {kind},", mask.expand(rows, H, T, S)
                self.judge(out, weights, x, memory, full, what)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_masks")
    def test_nothing_permitted(self, student, rng):
        """finds zero where a position may attend to nothing"""
        B, T = rng.distinct(2, low=3)
        m, weights = self.made(student, rng)
        x = rng.tensor(B, T, D)
        mask = permitted(rng, B, 1, T, T)
        mask[0, 0, 1] = False
        ask = "What does a softmax make of a row of -inf, and what does `attention_weights` do about it?"
        for given in (mask, torch.zeros(mask.shape).masked_fill(~mask, -INF)):
            self.judge(m(x, None, given), weights, x, None, mask.expand(B, H, T, T), ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_masks")
    def test_reach(self, student, rng):
        """depends on what the mask permits, and on nothing else"""
        B, T, S = 2, *rng.distinct(2, low=3, high=5)
        m, _ = self.made(student, rng)
        mask, x = (
            torch.from_numpy(rng.permuted(np.arange(S) < 2 * np.ones((B, T, 1)), axis=-1)),
            rng.tensor(B, T, D),
        )
        allowed = torch.zeros(B, T, B, S, dtype=torch.bool)
        for b in range(B):
            allowed[b, :, b] = mask[b]
        expect.reaches(lambda memory: m(x, memory, mask[:, None]), rng.tensor(B, S, D), allowed)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_scores_are_not_scaled")
    def test_cache(self, student, rng):
        """goes on where a cache ends: token by token, or by several, as if all had come at once"""
        B, T = int(rng.integers(2, 5)), int(rng.integers(5, 8))
        m, weights = self.made(student, rng)
        x = rng.tensor(B, T, D)
        whole = attend(weights, x, None, triangle(T))
        cuts = [0, *sorted(int(i) for i in rng.permutation(np.arange(1, T))[:2]), T]
        for steps in (list(range(T + 1)), cuts):
            cache = student.KVCache()
            for start, end in itertools.pairwise(steps):
                new = x[:, start:end]
                out = m(new, None, triangle(end - start, start), cache)
                alone = attend(weights, new, None, triangle(end - start))
                ask = "What do `cache.append(key, value)` take and return, and which of them are then attended to?"
                expect.close(
                    out,
                    whole[:, start:end],
                    what=f"the output at positions {start} to {end - 1}, {start} before them in the cache,",
                    ask=ask,
                    mistakes={
                        "what the new positions find among themselves: the cache was not attended to": alone
                    },
                )
                held = len(cache)
                expect.holds(
                    held == end,
                    expected=f"{end} positions in the cache after so many tokens",
                    got=str(held),
                    ask="Are keys and values of the new positions appended, once, and those alone?",
                )
        out = m(x, None, triangle(T))
        expect.close(out, whole, what="the output without a cache, after calls with one,", ask=self.ASK)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_cache")
    def test_cache_of_a_memory(self, student, rng):
        """keeps the memory's keys and values, which later calls do not work out again"""
        B, S, first, then = rng.distinct(4, low=2, high=7)
        m, weights = self.made(student, rng)
        memory, other = rng.tensor(B, S, D), rng.tensor(B, S, D)
        mask = permitted(rng, B, 1, 1, S)
        cache = student.KVCache()
        for i, T in enumerate((first, then, 1)):
            x = rng.tensor(B, T, D)
            out = m(x, other if i else memory, mask, cache)
            full = mask.expand(B, H, T, S)
            mistakes = lambda x=x, full=full: {  # noqa: E731
                "what a memory given later holds: the cache was full already": attend(
                    weights, x, other, full
                ),
                "what x finds in itself": attend(weights, x),
            }
            ask = "An empty cache takes the memory's keys and values. What does a full one mean?"
            what = f"the output of call {i + 1} on the same cache"
            expect.close(out, attend(weights, x, memory, full), what=what, ask=ask, mistakes=mistakes)
            held = len(cache)
            expect.holds(
                held == S,
                expected=f"{S} positions in the cache, those of the memory, after call {i + 1}",
                got=str(held),
                ask="Is the memory appended once, and x never?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_first_weights(self, student, rng):
        """draws its first weights so that the scores need no division"""
        width, heads, d_key = 48, int(rng.integers(3, 6)), 32
        found = expect.parameters(
            student.T5Attention(width, heads, d_key),
            {f"{part}.weight": (heads * d_key, width) for part in ("query", "key", "value")}
            | {"output.weight": (width, heads * d_key)},
        )
        for part, std in (
            ("query", (width * d_key) ** -0.5),
            ("key", width**-0.5),
            ("value", width**-0.5),
            ("output", (heads * d_key) ** -0.5),
        ):
            weight = found[f"{part}.weight"].detach()
            expect.array(
                weight, shape=tuple(weight.shape), dtype=torch.float32, what=f"the weight of `{part}`"
            )
            got = weight.std().item()
            expect.holds(
                abs(got / std - 1) < 0.1 and abs(weight.mean().item()) < 0.1 * std,
                expected=f"new weights of `{part}` with mean 0 and standard deviation {std:.4f}",
                got=f"mean {weight.mean().item():.4f} and standard deviation {got:.4f}",
                ask="Which of the four standard deviations of the docstring is this, and what are its D, H and K?",
            )
            most = weight.abs().max().item() / std
            expect.holds(
                most > 2.5,
                expected=f"normal draws for `{part}`: some of {weight.numel():,} are beyond 2.5 standard deviations",
                got=f"none beyond {most:.2f}",
                ask="Are they normal, or uniform?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_masks")
    def test_gradients(self, student, rng):
        """sends the right gradient to every weight, to x, to the memory and to the mask"""
        B, T, S = rng.distinct(3, low=2, high=5)
        m, weights = self.made(student, rng, torch.float64)
        inputs = [rng.tensor(*shape, dtype=torch.float64) for shape in ((B, T, D), (B, S, D), (1, H, T, S))]
        given = rng.tensor(B, T, D, dtype=torch.float64)
        ours, theirs = ([i.clone().requires_grad_() for i in inputs] for _ in range(2))
        copies = {name: w.clone().requires_grad_() for name, w in weights.items()}
        (attend(copies, *theirs) * given).sum().backward()
        ask = "Does every step stay on the graph? The mask is learned too: it is a bias by distance."
        learns(m, m(*ours), given, copies, ask)
        for name, one, two in zip(("x", "the memory", "the mask"), ours, theirs, strict=True):
            expect.holds(one.grad is not None, expected=f"a gradient for {name}", got="none", ask=ask)
            expect.close(one.grad, two.grad, what=f"the gradient of {name}", ask=ask)
