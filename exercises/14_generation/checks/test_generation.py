"""Checks of unit 14: the model, perplexity, top-p sampling, writing with a cache, beam search.

Every check draws fresh inputs and weights. The model is judged by a few lines on the same weights that know neither
cache nor padding: each text by itself, and whole. Sampling is judged by a loop in float64, beam search by trying out
every text there is and by a search of our own; what these search through, and the models that measuring and writing are
tried with, are scripts of the check that the learner's code calls back.
"""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proctor import expect
from proctor.proxies import sketch

DOUBLE = torch.float64
INF = float("inf")
H, K, L = 2, 3, 2  # heads, the width of each, layers
D = H * K
LONGEST = 9  # positions of the models here


# ---- the model's weights --------------------------------------------------------------------------------------------


def linear(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name, width=D):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def shapes_of(vocabulary, longest=LONGEST, layers=L, width=D):
    """Names and shapes of all parameters."""
    shapes = {"embedding.weight": (vocabulary, width), "positions.weight": (longest, width)}
    for i in range(layers):
        for part in ("query", "key", "value", "output"):
            shapes |= linear(f"layers.{i}.attention.{part}", width, width)
        shapes |= linear(f"layers.{i}.feed_forward.hidden", width, 4 * width)
        shapes |= linear(f"layers.{i}.feed_forward.output", 4 * width, width)
        shapes |= norm(f"layers.{i}.attention_residual.norm", width)
        shapes |= norm(f"layers.{i}.feed_forward_residual.norm", width)
    return shapes | norm("norm", width)


def drawn(rng, shapes):
    """Random weights: norms around one, biases that count, maps that keep the size of what goes through."""
    weights = {}
    for name, shape in shapes.items():
        if len(shape) == 2:
            weights[name] = rng.tensor(*shape, scale=shape[1] ** -0.5)
        else:
            weights[name] = rng.tensor(*shape, scale=0.5) + (name.endswith("norm.weight"))
    for name in ("embedding.weight", "positions.weight"):
        weights[name] = rng.tensor(*shapes[name])
    return weights


# ---- the same by hand -----------------------------------------------------------------------------------------------


def triangle(size):
    """The causal mask."""
    return torch.ones(size, size, dtype=torch.bool).tril()


def through(weights, x, mask, last=True, order=None):
    """Rows (B, T, D) through all layers under a mask (B, T, S), and the last norm."""

    def linear(name, x):
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    mask = mask.expand(-1, x.shape[1], -1) if mask.ndim == 3 else mask
    blind = ~mask.bool().any(-1, keepdim=True)  # may attend to nothing, and finds zero
    if mask.dtype == torch.bool:
        mask = mask | (blind & torch.eye(x.shape[1], dtype=torch.bool))
    else:  # added to the scores, as it is
        blind = torch.zeros_like(blind)
    if order is None:
        order = range(1 + max(int(n.split(".")[1]) for n in weights if n.startswith("layers.")))
    for i in order:
        name = f"layers.{i}"
        y = norm(f"{name}.attention_residual.norm", x)
        query, key, value = (
            linear(f"{name}.attention.{part}", y).unflatten(-1, (H, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        found = F.scaled_dot_product_attention(query, key, value, mask.unsqueeze(-3))
        found = found.masked_fill(blind.unsqueeze(-3), 0.0)
        x = x + linear(f"{name}.attention.output", found.transpose(1, 2).flatten(-2))
        y = linear(f"{name}.feed_forward.hidden", norm(f"{name}.feed_forward_residual.norm", x))
        x = x + linear(f"{name}.feed_forward.output", F.gelu(y, approximate="tanh"))
    return norm("norm", x) if last else x


def one_by_one(weights, x, mask, taken, last=False):
    """Rows through the layers, where ``taken(x, y)`` goes on from what came in and what a layer has made of it."""
    for i in range(L):
        x = taken(x, through(weights, x, mask, last, order=[i]))
    return x


def logits_of(weights, ids, position=None, mask=None, scale=1.0, table=None, **how):
    """What the model says of ids (B, T), at positions and under a mask that may be wrong ones."""
    position = torch.arange(ids.shape[1]).expand(ids.shape) if position is None else position
    mask = triangle(ids.shape[1]) if mask is None else mask
    E = weights["embedding.weight"]
    x = E[ids] * scale + weights["positions.weight"][position]
    return through(weights, x, mask, **how) @ (E if table is None else table).T


def alone(weights, ids, real):
    """The logits of ragged texts, each by itself and without padding; zeros at padding."""
    out = torch.zeros(*ids.shape, len(weights["embedding.weight"]))
    for b, row in enumerate(real):
        out[b, row] = logits_of(weights, ids[b, row][None])[0]
    return out


def ragged(rng, B, T, vocabulary):
    """Ids in random order, and where they are real: padded on the left, one row in full length, one of length 1."""
    lengths = np.concatenate([[T, 1], rng.integers(2, T, max(B - 2, 0))])[:B]
    real = torch.arange(T) >= T - torch.from_numpy(rng.permutation(lengths))[:, None]
    return different(rng, vocabulary, B, T), real


def different(rng, vocabulary, *shape):
    """Ids in random order, no one twice in a row."""
    return torch.from_numpy(np.stack([rng.permutation(vocabulary)[: shape[1]] for _ in range(shape[0])]))


def chosen(mistakes, where):
    """The same mistakes, of which only some entries are looked at."""
    return lambda: {said: (wrong() if callable(wrong) else wrong)[where] for said, wrong in mistakes.items()}


@pytest.mark.exercise("GPT")
class TestGPT:
    ASK = "Two nn.Embedding, an nn.ModuleList of CachedLayer, a LayerNorm: under which names, and what else is there?"

    def model(self, student, rng, vocabulary):
        """The learner's model with weights that we have drawn, ready for evaluation, and these weights."""
        weights = drawn(rng, shapes_of(vocabulary))
        m = student.GPT(vocabulary, LONGEST, D, H, L)
        expect.parameters(m, {name: tuple(w.shape) for name, w in weights.items()}, ask=self.ASK)
        m.load_state_dict(weights, strict=False)  # a buffer of the learner's own may keep what it holds
        m.eval()
        return m, weights

    def caches(self, student, count=L):
        return [student.KVCache() for _ in range(count)]

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns two tables, its layers and a norm; nothing else is trained, since the table scores as well"""
        V, longest, layers = rng.distinct(3, low=2, high=14)
        m = student.GPT(V, longest, 8, 2, layers)
        found = expect.parameters(m, shapes_of(V, longest, layers, 8), ask=self.ASK)
        firsts = [found[f"layers.{i}.attention.query.weight"] for i in range(layers)]
        expect.array(firsts[0], shape=(8, 8), what="a weight")
        plain = student.GPT(V, longest)
        expect.parameters(
            plain, shapes_of(V, longest, 3, 128), ask="What are the defaults of d_model and layers?"
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_tables_start_small(self, student, rng):
        """draws both tables with standard deviation 1/√D, so that the first logits are near one"""
        V, longest, width = (
            int(rng.integers(400, 500)),
            int(rng.integers(400, 500)),
            int(rng.choice([36, 64, 100])),
        )
        m = student.GPT(V, longest, width, 2, 1)
        for name, table in (("embedding", m.embedding.weight), ("positions", m.positions.weight)):
            expect.array(table, dtype=torch.float32, what=f"{name}.weight")
            spread, mean = float(table.detach().std()), float(table.detach().mean())
            got = f"standard deviation {spread:.3f}, mean {mean:.3f}"
            if abs(spread - 1) < 0.05:
                got += ", as nn.Embedding draws it by itself"
            expect.holds(
                abs(spread * width**0.5 - 1) < 0.05 and abs(mean) * width**0.5 < 0.05,
                expected=f"{name}.weight of mean 0 and standard deviation 1/√{width} = {width**-0.5:.3f}",
                got=got,
                ask="What does `nn.init.normal_` do to a weight that is there already?",
            )

    @pytest.mark.points(3)
    @pytest.mark.needs("test_parameters")
    def test_agrees_on_shared_weights(self, student, rng):
        """scores the token after every position of whole texts"""
        B, T = rng.distinct(2, low=3, high=6)
        V = int(rng.integers(11, 15))
        m, weights = self.model(student, rng, V)
        E, P = weights["embedding.weight"], weights["positions.weight"]
        for shape in ((B, T), (T, T), (1, 1), (B, 1)):
            ids = different(rng, V, *shape)
            expected, end = logits_of(weights, ids), shape[1]
            x = E[ids] + P[:end]
            mistakes = {
                "the table's rows multiplied by √D: here they are taken as they are": lambda ids=ids: (
                    logits_of(weights, ids, scale=D**0.5)
                ),
                "no positions": lambda ids=ids: through(weights, E[ids], triangle(ids.shape[1])) @ E.T,
                "positions counted from 1": lambda ids=ids, end=end: logits_of(
                    weights, ids, torch.arange(1, end + 1).expand(ids.shape)
                ),
                "position 0 for every token": lambda ids=ids: logits_of(weights, ids, torch.zeros_like(ids)),
                "the same position, the last, for every token": lambda ids=ids, end=end: logits_of(
                    weights, ids, torch.full_like(ids, end - 1)
                ),
                "positions counted from the end": lambda ids=ids, end=end: logits_of(
                    weights, ids, torch.arange(end).flip(0).expand(ids.shape)
                ),
                "the positions of the batch: the place counts within a text": lambda ids=ids: logits_of(
                    weights, ids, torch.arange(len(ids))[:, None].expand(ids.shape)
                ),
                "no causal mask: every position sees the ones after it": lambda ids=ids, end=end: logits_of(
                    weights, ids, mask=torch.ones(end, end, dtype=torch.bool)
                ),
                "a causal mask the wrong way round: positions see what comes after": lambda ids=ids, end=end: (
                    logits_of(weights, ids, mask=triangle(end).T)
                ),
                "a causal mask that hides each position from itself": lambda ids=ids, end=end: logits_of(
                    weights, ids, mask=triangle(end).roll(1, 0).tril(-1)
                ),
                "rows that met the table without the last norm": lambda x=x, end=end: (
                    through(weights, x, triangle(end), last=False) @ E.T
                ),
                "the last norm before the layers": lambda x=x, end=end: (
                    through(
                        weights,
                        F.layer_norm(x, (D,), weights["norm.weight"], weights["norm.bias"]),
                        triangle(end),
                        last=False,
                    )
                    @ E.T
                ),
                "embeddings without the layers": lambda x=x: (
                    F.layer_norm(x, (D,), weights["norm.weight"], weights["norm.bias"]) @ E.T
                ),
                "the layers from top to bottom": lambda x=x, end=end: (
                    through(weights, x, triangle(end), order=range(L)[::-1]) @ E.T
                ),
                "the last norm behind every layer: it comes once, at the end": lambda x=x, end=end: (
                    through(
                        weights,
                        one_by_one(weights, x, triangle(end), lambda x, y: y, last=True),
                        triangle(end),
                        order=[],
                    )
                    @ E.T
                ),
                "another residual connection round every layer: the layers have theirs": lambda x=x, end=end: (
                    through(
                        weights,
                        one_by_one(weights, x, triangle(end), lambda x, y: x + y),
                        triangle(end),
                        order=[],
                    )
                    @ E.T
                ),
                "the first layer alone": lambda x=x, end=end: (
                    through(weights, x, triangle(end), order=[0]) @ E.T
                ),
                "the first layer in every place": lambda x=x, end=end: (
                    through(weights, x, triangle(end), order=[0] * L) @ E.T
                ),
                "a mask of ones and zeros, numbers that are added to the scores: a boolean one permits and forbids": (
                    lambda ids=ids, end=end: logits_of(weights, ids, mask=triangle(end).float())
                ),
                "the last rows, before they meet the table": lambda x=x, end=end: through(
                    weights, x, triangle(end)
                ),
                "probabilities: the softmax is the loss's affair": expected.softmax(-1),
                "log-probabilities: the softmax is the loss's affair": expected.log_softmax(-1),
                "logits divided by √D": expected / D**0.5,
                "logits multiplied by √D": expected * D**0.5,
                "the logits after the last position alone": expected[:, -1:],
                "the logits after the last position alone, without its dimension": expected[:, -1],
                "logits moved on by one position: whoever calls shifts the targets": expected.roll(1, 1),
                "the logits without the last position: whoever calls shifts the targets": expected[:, :-1],
            }
            ask = "What is added to a token's row, who may look at whom, and what turns rows into logits?"
            out = m(ids)
            expect.close(out, expected, what="the logits", ask=ask, mistakes=mistakes)
            everywhere = torch.ones_like(ids, dtype=torch.bool)
            with expect.unchanged(ids=ids, real=everywhere):
                again = m(ids, everywhere)
            expect.close(
                again, expected, what="the logits with real=True everywhere", ask=ask, mistakes=mistakes
            )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_reach(self, student, rng):
        """depends on earlier tokens of the same text: never on later ones, padding, or other texts"""
        B, T = 2, 4
        V = B * T + 2
        m, _ = self.model(student, rng, V)
        # Ids have no gradient, rows of the table have: every place gets an id, and so a row, of its own. The logits
        # need the table too, so those of one token are read that stands nowhere.
        order = torch.from_numpy(rng.permutation(V))
        absent, ids = int(order[0]), order[1 : 1 + B * T].view(B, T)
        real = torch.ones(B, T, dtype=torch.bool)
        real[1, : int(rng.integers(1, 3))] = False
        out = m(ids, real)
        expect.array(out, shape=(B, T, V), dtype=torch.float32, what="the logits")
        expect.holds(
            out.requires_grad,
            expected="logits that can be differentiated with respect to the table",
            got="logits that are cut off from it",
            ask="Which line leaves the graph?",
        )
        for b, t in real.nonzero().tolist():
            m.zero_grad()
            picked = torch.zeros_like(out)
            picked[b, t, absent] = 1
            out.backward(picked, retain_graph=True)
            grad = expect.parameters(m.embedding, {"weight": (V, D)}, ask=self.ASK)["weight"].grad
            expect.holds(grad is not None, expected="a gradient for the table", got="none", ask=self.ASK)
            expect.array(grad, shape=(V, D), dtype=torch.float32, what="the gradient of the table")
            reached = (grad != 0).any(-1) | grad.isnan().any(-1)
            for c, s in itertools.product(range(B), range(T)):
                allowed = c == b and bool(real[c, s]) and s <= t
                why = "another text" if c != b else "padding" if not real[c, s] else "a later token"
                expect.holds(
                    bool(reached[ids[c, s]]) == allowed,
                    expected=f"logits [{b}, {t}] {'' if allowed else 'not '}to depend on token [{c}, {s}]"
                    + ("" if allowed else f", {why}"),
                    got="a gradient of exactly zero" if allowed else "a gradient that is not zero",
                    ask="Which path leads there, or which mask stands in its way?",
                )

    def beside_padding(self, weights, ids, real):
        """Logits of ragged texts, whole, as wrong models have them."""
        T = ids.shape[1]
        columns = torch.arange(T).expand(ids.shape)
        position = (real.cumsum(-1) - 1).clamp(min=0)
        mask = triangle(T) & real[:, None]
        return {
            "positions that count the padding: a text begins at position 0 wherever it stands": lambda: (
                logits_of(weights, ids, columns, mask)
            ),
            "padding attended to": lambda: logits_of(weights, ids, position, triangle(T)),
            "padding attended to, and counted in the positions: `real` was not used": lambda: logits_of(
                weights, ids
            ),
            "only padding attended to: `real` is True at tokens": lambda: logits_of(
                weights, ids, position, triangle(T) & ~real[:, None]
            ),
            "a mask for those who ask: padding must not be looked at (`real[:, None]`)": lambda: logits_of(
                weights, ids, position, triangle(T) & real[..., None]
            ),
            "padding left out, and the causal mask with it": lambda: logits_of(
                weights, ids, position, real[:, None].expand(-1, T, -1)
            ),
            "a token attended to where it is real or earlier: it has to be both": lambda: logits_of(
                weights, ids, position, triangle(T) | real[:, None]
            ),
            "positions counted from 1": lambda: logits_of(weights, ids, real.cumsum(-1), mask),
            "position 0 for every token": lambda: logits_of(weights, ids, torch.zeros_like(ids), mask),
            "positions that count padding: `real` is True at tokens": lambda: logits_of(
                weights, ids, ((~real).cumsum(-1) - 1).clamp(min=0), mask
            ),
        }

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_on_shared_weights")
    def test_ragged_batch(self, student, rng):
        """scores a text alike with padding before it and alone"""
        B, T = rng.distinct(2, low=3, high=6)
        V = int(rng.integers(11, 15))
        m, weights = self.model(student, rng, V)
        for shape in ((B, T), (T, T)):
            ids, real = ragged(rng, *shape, V)
            out = m(ids, real)
            expect.array(out, shape=(*shape, V), dtype=torch.float32, what="the logits")
            expect.holds(
                bool(out.isfinite().all()),
                expected="finite logits, at padding too",
                got=f"{int((~out.isfinite()).sum())} entries that are not",
                ask="What are the weights of a position that may attend to nothing?",
            )
            ask = "At which position stands the first token of a padded text, and which columns may nobody look at?"
            expect.close(
                out[real],
                alone(weights, ids, real)[real],
                what="the logits at tokens:",
                ask=ask,
                mistakes=chosen(self.beside_padding(weights, ids, real), real),
            )

    def read_in_parts(self, m, student, ids, real, sizes):
        """What the model says when it is given the text in parts of these sizes, with caches."""
        caches, parts, start = self.caches(student), [], 0
        for size in sizes:
            given = None if real is None else real[:, : start + size]
            part = m(ids[:, start : start + size], given, caches)
            expect.array(part, dtype=torch.float32, what="the logits of a part")
            rows, columns = part.shape[:2] if part.ndim == 3 else (0, 0)
            expect.holds(
                part.ndim == 3 and (rows, columns) == (len(ids), size),
                expected=f"logits of {len(ids)} texts at the {size} new positions, {start} are in the caches",
                got=f"shape {tuple(part.shape)}",
                ask="With caches, the ids are the new tokens alone: what do you return, and of which positions?",
            )
            for i, cache in enumerate(caches):
                held = len(cache)
                expect.holds(
                    held == start + size,
                    expected=f"caches that hold {start + size} positions after that",
                    got=f"{held} in that of layer {i}"
                    + (
                        ": it was not handed to its layer" if held == 0 else ": does each layer have its own?"
                    ),
                    ask="Which layer is given which cache, and how often?",
                )
            parts.append(part)
            start += size
        return torch.cat(parts, dim=1)

    def in_parts(self, weights, ids, real, sizes):
        """Logits of texts that come in parts, as models with caches have them that do something wrong."""
        B, S = ids.shape
        starts = np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)  # of the part that a position came in
        start = torch.from_numpy(starts)
        column = torch.arange(S)
        seen_before = (column < start[:, None]) & real[:, None]  # (B, S, S)
        mask = triangle(S) & real[:, None]
        together = (start == start[:, None]) & real[:, None]
        right = (real.cumsum(-1) - 1).clamp(min=0)
        skipped = right.gather(1, start.clamp(max=S - 1).expand(B, S))
        size = torch.from_numpy(np.repeat(sizes, sizes))
        return {
            "positions that begin at 0 again with every part: they go on behind what is in the caches": lambda: (
                logits_of(weights, ids, (column - start).expand(B, S), mask)
            ),
            "positions that begin at 0 again with every part, padding left out": lambda: logits_of(
                weights, ids, torch.stack([self.again(row, sizes) for row in real]), mask
            ),
            "positions that count the padding: a text begins at position 0 wherever it stands": lambda: (
                logits_of(weights, ids, column.expand(B, S), mask)
            ),
            "the position of the first new token for all that come with it": lambda: logits_of(
                weights, ids, skipped, mask
            ),
            "positions one too far on: the first new token stands behind the last one seen": lambda: (
                logits_of(weights, ids, right + (start > 0), mask)
            ),
            "positions one too few: the first new token stands behind the last one seen": lambda: logits_of(
                weights, ids, right - (start > 0).long(), mask
            ),
            "the causal mask lost: new tokens see one another in both directions": lambda: logits_of(
                weights, ids, right, seen_before | together
            ),
            "the causal mask lost with caches: new tokens see one another in both directions": lambda: (
                logits_of(weights, ids, right, torch.where(start[:, None] > 0, seen_before | together, mask))
            ),
            "new tokens that see the cache and not one another": lambda: logits_of(
                weights, ids, right, seen_before
            ),
            "new tokens that do not see the caches": lambda: logits_of(
                weights, ids, right, mask & (start == start[:, None])
            ),
            "the first rows of the causal mask: new tokens stand in its last ones": lambda: logits_of(
                weights, ids, right, (column <= (column - start)[:, None]) & real[:, None]
            ),
            "padding in the caches attended to": lambda: logits_of(
                weights, ids, right, mask | (triangle(S) & (column < start[:, None]))
            ),
            "padding attended to": lambda: logits_of(weights, ids, right, triangle(S)),
            "the positions of the parts' lengths": lambda: logits_of(
                weights, ids, (size - 1).clamp(min=0).expand(B, S), mask
            ),
        }

    def again(self, row, sizes):
        """Positions of a row whose tokens are counted anew in each part."""
        return torch.cat([(part.cumsum(0) - 1).clamp(min=0) for part in row.split(sizes)])

    def splits(self, rng, S):
        """Ways to read S positions: one by one; a prompt and then one by one; in two parts; in three."""
        prompt = int(rng.integers(2, S - 1))
        return [1] * S, [prompt, *[1] * (S - prompt)], [S - 2, 2], [1, S - 3, 2]

    @pytest.mark.points(3)
    @pytest.mark.needs("test_agrees_on_shared_weights")
    def test_cached(self, student, rng):
        """says with caches at every position what it says without them"""
        B, S = rng.distinct(2, low=2, high=6)
        S = max(S, 5)
        V = int(rng.integers(11, 15))
        m, weights = self.model(student, rng, V)
        ids = different(rng, V, B, S)
        expected, real = logits_of(weights, ids), torch.ones(B, S, dtype=torch.bool)
        for sizes in self.splits(rng, S):
            out = self.read_in_parts(m, student, ids, None, sizes)
            what = f"the logits of {S} tokens (in parts of {', '.join(map(str, sizes))})"
            ask = "Of all S positions, which do the new ones have, and which rows of the causal mask are theirs?"
            mistakes = self.in_parts(weights, ids, real, sizes)
            expect.close(out, expected, what=what, ask=ask, mistakes=mistakes)
        plain = m(ids)
        expect.close(plain, expected, what="the logits without caches, after calls with them,", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_cached", "test_ragged_batch")
    def test_cached_ragged_batch(self, student, rng):
        """does so in a batch of texts of different lengths"""
        B, S = rng.distinct(2, low=3, high=6)
        S = max(S, 5)
        V = int(rng.integers(11, 15))
        m, weights = self.model(student, rng, V)
        ids, real = ragged(rng, B, S, V)
        for sizes in self.splits(rng, S):
            out = self.read_in_parts(m, student, ids, real, sizes)
            what = f"the logits at tokens ({S} places in parts of {', '.join(map(str, sizes))})"
            ask = (
                "`real` covers all S places: what do you make of it before you cut off those that were seen?"
            )
            mistakes = chosen(self.in_parts(weights, ids, real, sizes), real)
            expect.close(out[real], alone(weights, ids, real)[real], what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_on_shared_weights")
    def test_too_long(self, student, rng):
        """refuses a text with more tokens than there are positions; padding does not count"""
        V = LONGEST + 3
        m, weights = self.model(student, rng, V)
        ids = different(rng, V, 2, LONGEST + 2)
        when = f"for {LONGEST + 1} tokens and a max_length of {LONGEST}"
        ask = "Which position has the last token of a row, and how many rows does the table have?"
        long = ids[:, 1:]
        expect.raises(ValueError, lambda: m(long), when=when, ask=ask)
        real = torch.ones(2, LONGEST + 1, dtype=torch.bool)
        real[0, :4] = False
        expect.raises(ValueError, lambda: m(long, real), when=f"{when}, in one of two rows", ask=ask)
        caches = self.caches(student)
        expect.close(
            m(ids[:, :LONGEST], None, caches),
            logits_of(weights, ids[:, :LONGEST]),
            what=f"the logits of {LONGEST} tokens, which is as many as may be,",
            ask=ask,
        )
        more = ids[:, LONGEST : LONGEST + 1]
        expect.raises(
            ValueError, lambda: m(more, None, caches), when=f"{when}, the last one behind caches", ask=ask
        )
        real[1, 0] = False
        out = m(long, real)
        expect.array(out, shape=(2, LONGEST + 1, V), dtype=torch.float32, what="the logits")
        expected = alone(weights, long, real)[real]
        what = f"the logits at tokens, {LONGEST} at most, and padding:"
        expect.close(out[real], expected, what=what, ask="Does padding take up positions?")

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_on_shared_weights")
    def test_dropout(self, student, rng):
        """applies dropout to embeddings with their positions, and hands it to the layers"""
        B, T = rng.distinct(2, low=3, high=6)
        V = int(rng.integers(11, 15))
        weights, ids = drawn(rng, shapes_of(V)), different(rng, V, B, T)
        m = student.GPT(V, LONGEST, D, H, L, 1.0)
        m.load_state_dict(weights, strict=False)
        m.train()
        E, P, bias = weights["embedding.weight"], weights["positions.weight"][:T], weights["norm.bias"]

        def normed(x):
            return F.layer_norm(x.expand(B, T, D), (D,), weights["norm.weight"], bias) @ E.T

        mistakes = {
            "no dropout on the embeddings": normed(E[ids] + P),
            "dropout on the tokens' rows only: positions are added before it": normed(P),
            "dropout on the positions only": normed(E[ids]),
            "no dropout at all": logits_of(weights, ids),
            "no dropout in the layers": lambda: through(weights, torch.zeros(B, T, D), triangle(T)) @ E.T,
            "dropout behind the last norm": torch.zeros(B, T, V),
        }
        ask = "Where does `dropout` go: to the layers, and where else?"
        what = "the logits in training, with dropout=1.0,"
        expect.close(m(ids), normed(torch.zeros(1)), what=what, ask=ask, mistakes=mistakes)
        m.eval()
        expect.close(m(ids), logits_of(weights, ids), what="the logits in evaluation, dropout=1.0,", ask=ask)
        plain = student.GPT(V, LONGEST, D, H, L)
        plain.load_state_dict(weights, strict=False)
        plain.train()
        what = "the logits in training, with the default dropout of 0,"
        expect.close(plain(ids), logits_of(weights, ids), what=what, ask=ask)


# ---- perplexity -----------------------------------------------------------------------------------------------------


class Known:
    """A module on the learner's side that says what this script has for each batch, and how it was asked."""

    def __init__(self, student, batches, logits):
        self.module = student.nn.Module()
        self.module.forward = self.forward
        self.rows = {
            tuple(row): answer
            for (ids, _), said in zip(batches, logits, strict=True)
            for row, answer in zip(ids.tolist(), said, strict=True)
        }
        self.modes, self.strange = [], None

    def forward(self, *args, **options):
        self.modes.append(self.module.training)
        given = args[0] if len(args) == 1 else None
        if isinstance(given, torch.Tensor) and given.ndim == 2 and len(given):
            found = [self.rows.get(tuple(row)) for row in given.tolist()]
            if all(answer is not None for answer in found):
                return torch.stack(found)
        self.strange = ", ".join([sketch(a) for a in args] + [f"{k}={sketch(v)}" for k, v in options.items()])
        raise ValueError(
            f"this model was built for the ids (B, T) of a batch, as they are, and got ({self.strange})"
        )


@pytest.mark.exercise("perplexity")
class TestPerplexity:
    IGNORED = -100

    def data(self, rng, sizes, V, scale=2.0, ignored=None):
        """Batches of ids and targets, some of which do not count, and what the model says."""
        ignored = self.IGNORED if ignored is None else ignored
        batches, logits = [], []
        for n, (B, T) in enumerate(sizes):
            targets = torch.from_numpy(rng.integers(0, V, (B, T)))
            if ignored >= 0:
                targets[targets == ignored] = (ignored + 1) % V
            skipped = torch.from_numpy(rng.random((B, T)) < (0.6 if n == 0 else 0.1))
            skipped[0, 0], skipped[-1, -1] = False, True
            ids = torch.from_numpy(rng.integers(0, V, (B, T)))
            while len(ids.unique(dim=0)) < B:  # each text is another
                ids = torch.from_numpy(rng.integers(0, V, (B, T)))
            ids = ids + V * n  # and each batch
            batches.append((ids, targets.masked_fill(skipped, ignored)))
            logits.append(rng.tensor(B, T, V, scale=scale * (0.2 if n else 1.5)))
        return batches, logits

    def surprises(self, batches, logits, ignored=None):
        """For each batch the surprise of each target that counts."""
        ignored = self.IGNORED if ignored is None else ignored
        return [
            -said.double().log_softmax(-1)[y != ignored].gather(-1, y[y != ignored][:, None])[:, 0]
            for (_, y), said in zip(batches, logits, strict=True)
        ]

    def asked(self, student, batches, logits, *options):
        """What the learner's function says, and the model that it asked."""
        model = Known(student, batches, logits)
        return student.perplexity(model.module, batches, *options), model

    def mistakes(self, batches, logits, ignored=None):
        ignored = self.IGNORED if ignored is None else ignored
        each = self.surprises(batches, logits, ignored)
        together = torch.cat(each)
        count = len(together)
        tokens = sum(y.numel() for _, y in batches)
        mean = together.mean().item()
        safe = [(ids, y.clamp(min=0)) for ids, y in batches]
        everything = torch.cat(self.surprises(safe, logits, -1)).mean().item()
        shares = torch.cat([(-e).exp() for e in each])
        one, last = each[0].mean().item(), each[-1].mean().item()
        sequences = []
        for (_, y), said in zip(batches, logits, strict=True):
            for row, s in zip(y, said, strict=True):
                kept = row != ignored
                if kept.any():
                    sequences.append(F.cross_entropy(s.double()[kept], row[kept]).item())
        means = [e.mean().item() for e in each]
        return {
            "the mean of the batches' perplexities: a target in a small batch must not weigh more": float(
                np.mean(np.exp(means))
            ),
            "a mean of the batches' means: a target in a small batch must not weigh more": float(
                np.exp(np.mean(means))
            ),
            "batches weighted by all their places, padding included": float(
                np.exp(np.average(means, weights=[y.numel() for _, y in batches]))
            ),
            "batches weighted by their numbers of texts": float(
                np.exp(np.average(means, weights=[len(y) for _, y in batches]))
            ),
            "a mean over texts: a target in a short text must not weigh more": float(
                np.exp(np.mean(sequences))
            ),
            "the mean of the texts' perplexities": float(np.mean(np.exp(sequences))),
            "the mean surprise: its exponential is missing": mean,
            "the surprise in bits: 2 to the power of a mean that is in nats": float(2**mean),
            "10 to the power of a mean that is in nats": float(10 ** min(mean, 300)),
            "e to the power of a mean that is in bits": float(np.exp(min(mean / math.log(2), 700))),
            "the mean of exp(surprise) over targets: first the mean, then the exponential": float(
                together.exp().mean()
            ),
            "one over the mean probability: it is the mean of the logarithms that counts": float(
                1 / shares.mean()
            ),
            "the sum of the surprises divided by all places, padding included": float(
                np.exp(together.sum().item() / tokens)
            ),
            "padding counted among the targets": float(np.exp(everything)),
            "the exponential of the sum of all surprises": float(np.exp(min(together.sum().item(), 700))),
            "the sum of the surprises divided by the number of batches": float(
                np.exp(min(together.sum().item() / len(batches), 700))
            ),
            "the inverse: exp of the mean log-probability, without its minus": float(np.exp(-mean)),
            "the first batch alone": float(np.exp(one)),
            "the last batch alone": float(np.exp(last)),
            "the sum of the surprises divided by the number of targets of the last batch": float(
                np.exp(min(together.sum().item() / len(each[-1]), 700))
            ),
            "the number of targets": float(count),
        }

    @pytest.mark.points(2)
    def test_one_batch(self, student, rng):
        """is the exponential of the mean surprise"""
        B, T, V = rng.distinct(3, low=3)
        batches, logits = self.data(rng, [(B, T)], V, scale=0.7)
        batches = [(batches[0][0], batches[0][1].clamp(min=0))]  # every target counts
        out, _ = self.asked(student, batches, logits)
        expect.holds(
            isinstance(out, float), expected="a plain float", got=sketch(out), ask="`.item()` and `math.exp`"
        )
        (surprises,) = self.surprises(batches, logits)
        ask = "What is the surprise of a target, over what is its mean, and what undoes the logarithm?"
        mistakes = self.mistakes(batches, logits) | self.more(batches, logits)
        expect.close(out, surprises.mean().exp().item(), what="the perplexity", ask=ask, mistakes=mistakes)

    def more(self, batches, logits):
        """Mistakes that are told apart on a single batch of which all counts."""
        ((ids, y),), (said,) = batches, logits
        said = said.double()
        raw = said.gather(-1, y[..., None])
        shares = said.softmax(-1)
        wrong = {
            "logits taken for log-probabilities: where is the softmax?": (-raw).mean().exp().item(),
            "a softmax taken twice: cross_entropy is given logits": F.cross_entropy(
                shares.flatten(0, 1), y.flatten()
            )
            .exp()
            .item(),
            "the entropy of the predictions: the targets were not used": (-(shares * shares.log()).sum(-1))
            .mean()
            .exp()
            .item(),
            "the surprise of the ids: it is the targets that follow": F.cross_entropy(
                said.flatten(0, 1), ids.flatten()
            )
            .exp()
            .item(),
            "a softmax over the positions": F.nll_loss(said.log_softmax(1).flatten(0, 1), y.flatten())
            .exp()
            .item(),
            "a softmax over the batch": F.nll_loss(said.log_softmax(0).flatten(0, 1), y.flatten())
            .exp()
            .item(),
        }
        if said.shape[1] > 1:
            wrong["targets shifted once more: target t already follows id t"] = (
                F.cross_entropy(said[:, :-1].flatten(0, 1), y[:, 1:].flatten()).exp().item()
            )
            wrong["targets shifted the other way: target t already follows id t"] = (
                F.cross_entropy(said[:, 1:].flatten(0, 1), y[:, :-1].flatten()).exp().item()
            )
            wrong["the last position left out: it has a target too"] = (
                F.cross_entropy(said[:, :-1].flatten(0, 1), y[:, :-1].flatten()).exp().item()
            )
            wrong["the last position alone"] = F.cross_entropy(said[:, -1], y[:, -1]).exp().item()
        return wrong

    @pytest.mark.points(3)
    @pytest.mark.needs("test_one_batch")
    def test_every_target_counts_once(self, student, rng):
        """weighs every target alike, whatever the batches' sizes, and padding not at all"""
        V = int(rng.integers(5, 9))
        sizes = [(2, 3), (5, 4), (3, 6)]
        batches, logits = self.data(rng, sizes, V)
        out, _ = self.asked(student, batches, logits)
        expected = torch.cat(self.surprises(batches, logits)).mean().exp().item()
        ask = "Which two totals run over all batches, and when do you divide?"
        expect.close(out, expected, what="the perplexity", ask=ask, mistakes=self.mistakes(batches, logits))
        # An iterator of the learner's side, which is at its end when it has been gone through.
        once = iter(student.torch.utils.data.DataLoader(batches, batch_size=None))
        ask = "How often do you go through `batches`? A generator hands each of them out once."
        try:
            out = student.perplexity(Known(student, batches, logits).module, once)
        except Exception as error:
            if not any(word in str(error) for word in ("no len()", "no targets", "not subscriptable")):
                raise
            got = f"a second reading, which finds nothing: {error}"
            expect.fail(expected="batches that are read once, one after the other", got=got, ask=ask)
        rest = torch.cat(self.surprises(batches, logits)[1:]).mean().exp().item()
        mistakes = {
            "batches gone through twice: the second time there are none": 1.0,
            "the first batch gone: whoever looks at it takes it out of the generator": rest,
        }
        what = "the perplexity of batches that can be gone through only once"
        expect.close(out, expected, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_every_target_counts_once")
    def test_ignore_index(self, student, rng):
        """leaves out the targets that `ignore_index` names, be it 0"""
        V = int(rng.integers(5, 9))
        for ignored in (0, int(rng.integers(1, V))):
            batches, logits = self.data(rng, [(2, 4), (4, 5)], V, ignored=ignored)
            out, _ = self.asked(student, batches, logits, ignored)
            expected = torch.cat(self.surprises(batches, logits, ignored)).mean().exp().item()
            ask = (
                "Which targets does this call leave out: from the sum, and from the number it is divided by?"
            )
            mistakes = {
                "no target left out: `ignore_index` was not used": torch.cat(
                    self.surprises(batches, logits, -100)
                )
                .mean()
                .exp()
                .item()
            } | self.mistakes(batches, logits, ignored)
            what = f"the perplexity with ignore_index={ignored}"
            expect.close(out, expected, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_one_batch")
    def test_mode(self, student, rng):
        """asks in evaluation mode, and leaves the model in the mode that it was in"""
        batches, logits = self.data(rng, [(2, 3), (3, 4)], 5)
        for mode in (True, False):
            model = Known(student, batches, logits)
            model.module.train(mode)
            student.perplexity(model.module, batches)
            ask = "`model.training` is the mode, `model.eval()` and `model.train(mode)` set it: when, and to what?"
            expect.holds(
                bool(model.modes) and not any(model.modes),
                expected="a model that is in evaluation mode whenever it is asked",
                got=f"in training mode at calls {[i + 1 for i, on in enumerate(model.modes) if on]}"
                if any(model.modes)
                else "no calls",
                ask=ask,
            )
            after = model.module.training
            expect.holds(
                after is mode,
                expected=f"a model in {'training' if mode else 'evaluation'} mode afterwards, as before",
                got=f"{'training' if after else 'evaluation'} mode",
                ask=ask,
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_every_target_counts_once")
    def test_nothing_counts(self, student, rng):
        """refuses to average over no targets, and passes over a batch without any"""
        batches, logits = self.data(rng, [(2, 3), (3, 4)], 5)
        ids, targets = batches[0]
        empty = (ids, torch.full_like(targets, self.IGNORED))
        model = Known(student, [empty], logits[:1])
        ask = "What would be divided by what?"
        for none in ([empty], []):
            expect.raises(
                ValueError,
                lambda none=none: student.perplexity(model.module, none),
                when="where no target counts",
                ask=ask,
            )
        out, _ = self.asked(student, [empty, batches[1]], logits)
        expected = self.surprises(batches, logits)[1].mean().exp().item()
        expect.close(out, expected, what="the perplexity where one batch is all padding", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_one_batch")
    def test_known_values(self, student, rng):
        """is V where the model has no idea, 1 where it is certain, and right for logits in the thousands"""
        V = int(rng.integers(5, 9))
        (batch, *_), _ = self.data(rng, [(3, 4)], V)
        ids, targets = batch
        targets = targets.clamp(min=0)
        flat = torch.full((3, 4, V), float(rng.normal()))
        sure = torch.full((3, 4, V), -1000.0).scatter(-1, targets[..., None], 1000.0)
        for logits, expected, when in (
            (flat, V, "all logits are equal"),
            (sure, 1.0, "every target is certain"),
        ):
            out, _ = self.asked(student, [(ids, targets)], [logits])
            ask = "Is the logarithm taken of a probability that may have been rounded to zero?"
            expect.close(out, float(expected), what=f"the perplexity where {when}", ask=ask)


# ---- top-p sampling -------------------------------------------------------------------------------------------------


def shares_of(logits, temperature=1.0):
    """Probabilities in float64."""
    return (logits.double() / temperature).softmax(-1)


def line_up(shares):
    """Ids of a row, the likeliest first, of equals the smaller."""
    return sorted(range(len(shares)), key=lambda i: (-shares[i], i))


def kept_of(shares, p):
    """The first of the line whose sum reaches p."""
    line, total, kept = line_up(shares), 0.0, []
    for i in line:
        kept.append(i)
        total += shares[i]
        if total >= p:
            break
    return kept


def pick(shares, line, u):
    """The first in a line at which the running sum is above u times the total."""
    total, running = sum(shares[i] for i in line), 0.0
    for i in line:
        running += shares[i]
        if running > u * total:
            return i
    return line[-1]


def by_loop(logits, uniform, p, temperature=1.0, how=pick, keep=kept_of):
    """Each row by itself."""
    rows = shares_of(logits, temperature).tolist()
    return torch.tensor([how(row, keep(row, p), u) for row, u in zip(rows, uniform.tolist(), strict=True)])


@pytest.mark.exercise("sample_top_p")
class TestSampleTopP:
    def inputs(self, rng, B, V, p, temperature=1.0):
        """Rows of which more than one token is kept, and uniform numbers; none lies within rounding of a border."""
        rows, numbers = [], []
        while len(rows) < B:
            logits, u = rng.tensor(V, scale=float(rng.uniform(0.4, 2.0))), float(np.float32(rng.random()))
            row = shares_of(logits, temperature).tolist()
            sums = np.cumsum([row[i] for i in line_up(row)])
            kept = np.cumsum([row[i] for i in kept_of(row, p)])
            if len(kept) > 1 and np.abs(sums - p).min() > 1e-4 and np.abs(kept / kept[-1] - u).min() > 1e-4:
                rows.append(logits)
                numbers.append(u)
        return torch.stack(rows), torch.tensor(numbers)

    def mistakes(self, logits, uniform, p, temperature=1.0):
        """What is said of wrong samplers, and what they draw."""
        given = (logits, uniform, p, temperature)

        def below(row, p):  # without the one that crosses
            return kept_of(row, p)[:-1] or kept_of(row, p)[:1]

        def one_more(row, p):
            return line_up(row)[: len(kept_of(row, p)) + 1]

        def least(row, p):
            line, total, kept = line_up(row)[::-1], 0.0, []
            for i in line:
                kept.append(i)
                total += row[i]
                if total >= p:
                    break
            return kept

        def short(row, p):
            return kept_of(row, 1 - p)

        def a_share(row, p):
            return line_up(row)[: math.ceil(p * len(row))]

        def divided_by_p(row, kept, u):
            running = 0.0
            for i in kept:
                running += row[i]
                if running > u * p:
                    return i
            return kept[-1]

        def as_likely(row, p):  # as p times the first
            return [i for i in line_up(row) if row[i] >= p * max(row)]

        def again(row, kept, u):
            return pick([math.exp(share) for share in row], kept, u)

        def by_id(row, kept, u):
            return pick(row, sorted(kept), u)

        def rank(row, kept, u):
            return line_up(row).index(pick(row, kept, u))

        def not_divided(row, kept, u):
            running = 0.0
            for i in kept:
                running += row[i]
                if running > u:
                    return i
            return kept[-1]

        def from_the_end(row, kept, u):
            return pick(row, kept, 1 - u)

        def everyone_alike(row, kept, u):
            return kept[int(u * len(kept))]

        def one_line(row, kept, u):
            return pick(row, line_up(row), u)

        wrong = {
            "always the likeliest token: the uniform number was not used, or tokens were kept by their own probability "
            "where it is their sum that counts": {"how": lambda row, kept, u: kept[0]},
            "the token dropped with which the sum crosses p: it belongs in": {"keep": below},
            "the place in the line, not the token that stands there": {"how": rank},
            "one token too many kept: the first that reaches p is the last": {"keep": one_more},
            "tokens kept until the sum reaches 1 − p": {"keep": short},
            "a share p of all tokens kept: it is their probabilities that are summed": {"keep": a_share},
            "kept probabilities that were divided by p: their sum is more than that": {"how": divided_by_p},
            "tokens kept that are at least p times as likely as the first: it is their sum that counts": {
                "keep": as_likely
            },
            "a softmax taken of the kept probabilities: they are divided by their sum": {"how": again},
            **{
                f"always the {k} likeliest kept: how many depends on p": {
                    "keep": lambda row, p, k=k: line_up(row)[:k]
                }
                for k in range(2, logits.shape[1])
            },
            "nothing cut off: p was not used": {"keep": lambda row, p: line_up(row)},
            "the least likely tokens kept": {"keep": least},
            "kept tokens in the order of their ids: the likeliest stands first": {"how": by_id},
            "kept probabilities that were not divided by their total": {"how": not_divided},
            "the line gone through from its end": {"how": from_the_end},
            "kept tokens drawn as if all were equally likely": {"how": everyone_alike},
            "always the last token that is kept": {"how": lambda row, kept, u: kept[-1]},
            "always the least likely token": {"how": lambda row, kept, u: line_up(row)[-1]},
        }
        said = {sentence: (lambda how=how: by_loop(*given, **how)) for sentence, how in wrong.items()}
        if temperature != 1:
            cut_first = [kept_of(row, p) for row in shares_of(logits).tolist()]
            flat = shares_of(logits, temperature).tolist()
            said["the temperature turned round: logits are divided by it"] = lambda: by_loop(
                logits, uniform, p, 1 / temperature
            )
            said["no temperature"] = lambda: by_loop(logits, uniform, p)
            said["the cut made before the temperature: it comes first"] = lambda: torch.tensor(
                [pick(r, k, u) for r, k, u in zip(flat, cut_first, uniform.tolist(), strict=True)]
            )

            def late(row, p):
                return kept_of(row, p)

            said["the temperature used for the cut only"] = lambda: torch.tensor(
                [
                    pick(r, late(f, p), u)
                    for r, f, u in zip(shares_of(logits).tolist(), flat, uniform.tolist(), strict=True)
                ]
            )
            said["probabilities divided by the temperature: it belongs to the logits"] = lambda: by_loop(
                logits, uniform, p * temperature
            )
        return said

    ASK = "Who stands in line, up to whom is it kept, and at whose running sum does the uniform number stop?"

    def drawn(self, student, logits, uniform, *options):
        try:
            out = student.sample_top_p(logits, uniform, *options)
        except Exception as error:
            if "out of bounds" not in str(error):
                raise
            expect.fail(
                expected="a token for every uniform number below 1",
                got="an index behind the end of the line: no running sum was greater than the number",
                ask="Is anything kept in every row, what does it sum to, and is the number measured against that sum?",
            )
        expect.array(
            out,
            shape=tuple(uniform.shape),
            dtype=torch.int64,
            what="the tokens, one for each row",
            ask="Ids are int64, one for each row; `gather` leaves a dimension of size one: which index takes it away?",
        )
        return out

    @pytest.mark.points(3)
    def test_draws(self, student, rng):
        """draws from the fewest likely tokens that reach p"""
        B, V = int(rng.integers(50, 60)), int(rng.integers(6, 10))
        for p in (float(rng.uniform(0.4, 0.6)), float(rng.uniform(0.7, 0.85))):
            logits, uniform = self.inputs(rng, B, V, p)
            with expect.unchanged(logits=logits, uniform=uniform):
                out = self.drawn(student, logits, uniform, p)
            mistakes = self.mistakes(logits, uniform, p)
            expect.equal(out, by_loop(logits, uniform, p), what="the tokens", ask=self.ASK, mistakes=mistakes)
        logits, uniform = self.inputs(rng, B, V, 0.9)
        out, expected = self.drawn(student, logits, uniform), by_loop(logits, uniform, 0.9)
        what = "the tokens with the default p, 0.9,"
        mistakes = self.mistakes(logits, uniform, 0.9)
        expect.equal(out, expected, what=what, ask=self.ASK, mistakes=mistakes)

    @pytest.mark.points(2)
    def test_the_one_that_crosses(self, student, rng):
        """keeps the token with which the sum reaches p, and none behind it"""
        V = int(rng.integers(5, 8))
        order = torch.from_numpy(rng.permutation(V))
        shares = torch.full((V,), 0.02)
        shares[order[:3]] = torch.tensor([0.5, 0.3, 0.2 - 0.02 * (V - 3)])
        ask = "Is a token kept by the sum up to it, or by the sum of those before it?"
        for p, kept in ((0.6, 2), (0.75, 2), (0.83, 3), (0.3, 1)):
            logits = shares.log().expand(3, V)
            uniform = torch.tensor([0.001, 0.5, 0.999])
            out = self.drawn(student, logits, uniform, p)
            last, expected = int(order[kept - 1]), by_loop(logits, uniform, p)
            got = int(out[-1])
            where = order.tolist().index(got) if 0 <= got < V else V
            said = f"token {got}, place {where + 1}"
            if where < kept - 1:
                said += ": the token was dropped with which the sum crosses p"
            elif where >= kept:
                said += ": the sum had reached p before it"
            expect.holds(
                got == last,
                expected=f"token {last}, place {kept} in a line of 0.5, 0.3, {shares[order[2]]:.2f}, …, for p = {p} "
                "and a uniform number of 0.999",
                got=said,
                ask=ask,
            )
            expect.equal(out, expected, what=f"the tokens for p = {p} and {uniform.tolist()}", ask=self.ASK)
        # Sums that are exact: a quarter each.
        for p, kept in ((0.25, 1), (0.5, 2), (0.75, 3)):
            out = self.drawn(student, torch.zeros(1, 4), torch.tensor([0.999]), p)
            expect.equal(
                out,
                torch.tensor([kept - 1]),
                what=f"the last token kept of 4 equal ones for p = {p}, the smaller id first:",
                ask="When the sum is p exactly, is it reached?",
            )
        # Uniform numbers that are a running sum exactly: it is not greater than they are.
        out = self.drawn(student, torch.zeros(4, 4), torch.tensor([0.0, 0.25, 0.5, 0.75]), 1.0)
        mistakes = {
            "the first running sum that is at least the uniform number: it has to be greater": torch.tensor(
                [0, 0, 1, 2]
            )
        }
        what = "the tokens of 4 equal ones for uniform numbers of 0, 0.25, 0.5 and 0.75"
        expect.equal(out, torch.arange(4), what=what, ask=self.ASK, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_draws")
    def test_temperature(self, student, rng):
        """divides the logits by the temperature before anything is cut off"""
        B, V = int(rng.integers(50, 60)), int(rng.integers(6, 10))
        for temperature in (float(rng.uniform(0.4, 0.7)), float(rng.uniform(1.5, 2.5))):
            p = float(rng.uniform(0.6, 0.8))
            logits, uniform = self.inputs(rng, B, V, p, temperature)
            with expect.unchanged(logits=logits, uniform=uniform):
                out = self.drawn(student, logits, uniform, p, temperature)
            ask = "What is divided by the temperature, and what comes after that?"
            mistakes = self.mistakes(logits, uniform, p, temperature)
            expected = by_loop(logits, uniform, p, temperature)
            what = f"the tokens at temperature {temperature:.2f}"
            expect.equal(out, expected, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_draws")
    def test_extremes(self, student, rng):
        """is greedy for a tiny p, open for p = 1, and never draws what is impossible"""
        B, V = rng.distinct(2, low=6, high=10)
        logits = rng.tensor(B, V)
        uniform = torch.linspace(0, 1 - 2**-24, B)
        ask = "What is kept when the first token alone reaches p, and what when p is 1?"
        out = self.drawn(student, logits, uniform, 1e-4)
        expect.equal(out, logits.argmax(-1), what="the tokens for p = 0.0001", ask=ask)
        shares = torch.linspace(1, 2, V)[torch.from_numpy(rng.permutation(V))]
        many = (torch.arange(200) + 0.5) / 200
        out = self.drawn(student, shares.log().expand(200, V), many, 1.0)
        missing = sorted(set(range(V)) - set(out.tolist()))
        got = f"never {missing}" if missing else "all of them"
        expect.holds(not missing, expected=f"every one of {V} tokens drawn for p = 1", got=got, ask=ask)
        impossible = logits.clone()
        banned = [int(i) for i in rng.permutation(V)[:2]]
        impossible[:, banned] = -INF
        for u in (0.0, 1 - 2**-24):
            out = self.drawn(student, impossible, torch.full((B,), u), 1.0)
            expect.holds(
                not set(out.tolist()) & set(banned),
                expected=f"no token of probability zero, uniform number {u}",
                got=f"one of {banned}",
                ask="Is the running sum *greater than* the uniform number there?",
            )
        huge = torch.from_numpy(np.stack([rng.permutation(V) for _ in range(B)])).float() * 1000
        out = self.drawn(student, huge, uniform)
        expect.equal(out, huge.argmax(-1), what="the tokens for logits in the thousands", ask=ask)
        one = self.drawn(student, torch.zeros(1, 1), torch.tensor([0.5]))
        expect.equal(one, torch.tensor([0]), what="the token of a vocabulary of one", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_draws")
    def test_equal_tokens(self, student, rng):
        """places the smaller id first where tokens are equally likely"""
        V = 64
        uniform = (torch.arange(V) + 0.5) / V
        out = self.drawn(student, torch.zeros(V, V), uniform, 1.0)
        ask = "Which option of `sort` keeps equals in their order?"
        expect.equal(out, torch.arange(V), what=f"the tokens of {V} equal ones", ask=ask)

    @pytest.mark.points(1)
    def test_range(self, student, rng):
        """refuses a p outside (0, 1], and a temperature that is not above 0"""
        logits, uniform = rng.tensor(2, 5), torch.tensor([0.2, 0.7])
        ask = "What would be kept, or divided?"
        for p, temperature in ((0.0, 1.0), (-0.1, 1.0), (1.01, 1.0), (0.5, 0.0), (0.5, -1.0)):
            expect.raises(
                ValueError,
                lambda p=p, temperature=temperature: student.sample_top_p(logits, uniform, p, temperature),
                when=f"for p = {p}, temperature = {temperature}",
                ask=ask,
            )
        self.drawn(student, logits, uniform, 1.0, 0.01)


# ---- writing with a cache -------------------------------------------------------------------------------------------


class Writer:
    """A model on the learner's side that is a script of ours: it takes down how it is asked, and fills the caches."""

    def __init__(self, student, rng, tokens, vocabulary, layers):
        self.module = student.nn.Module()
        self.module.layers = student.nn.ModuleList([student.nn.Identity() for _ in range(layers)])
        self.module.forward = self.forward
        self.rng, self.tokens, self.vocabulary, self.layers = (
            rng,
            tokens,
            vocabulary,
            layers,
        )  # tokens (B, limit)
        self.ids, self.real, self.held, self.said, self.shown = [], [], [], [], []
        self.trouble = ""

    def forward(self, *args, **options):
        given = dict(zip(("ids", "real", "caches"), args, strict=False)) | options
        ids, caches = given.get("ids"), given.get("caches")
        ok = isinstance(ids, torch.Tensor) and ids.ndim == 2 and ids.dtype == torch.int64 and ids.shape[1] > 0
        if not ok:
            self.trouble = f"ids of {sketch(ids)}: they are (B, T), and the newest alone (B, 1)"
            raise ValueError(self.trouble)
        self.ids.append(ids.detach().clone())
        real = given.get("real")
        self.real.append(real.detach().clone() if isinstance(real, torch.Tensor) else real)
        if caches is None or len(caches) != self.layers:
            self.trouble = "no caches" if caches is None else f"{len(caches)} caches for {self.layers} layers"
            raise ValueError(f"this model has {self.layers} layers and got {self.trouble}")
        held = []
        for cache in caches:
            held.append(len(cache))
            cache.key = cache.value = torch.zeros(len(ids), 1, held[-1] + ids.shape[1], 1)
        self.held.append(held)
        said = self.rng.tensor(*ids.shape, self.vocabulary)
        self.said.append(said)
        return said

    def choose(self, logits):
        self.shown.append(logits.detach().clone() if isinstance(logits, torch.Tensor) else logits)
        return self.tokens[:, min(len(self.shown), self.tokens.shape[1]) - 1]


@pytest.mark.exercise("generate")
class TestGenerate:
    V = 20

    def write(self, student, rng, prompt, tokens, *, layers=2, asked=True, **options):
        """What was written, and the script that wrote it."""
        writer = Writer(student, rng, tokens, self.V, layers)
        options = {"limit": tokens.shape[1]} | options
        try:
            out = student.generate(writer.module, prompt, writer.choose, **options)
        except Exception:
            if writer.trouble:
                expect.fail(
                    expected="a model that is given ids (B, T), `real`, and a KVCache for each of its layers",
                    got=writer.trouble,
                    ask="`model(ids, real, caches)`: how many caches does it take, and who makes them?",
                )
            raise
        expect.holds(
            bool(writer.ids) or not asked,
            expected="a model that is asked for the logits of the next token",
            got="a model that was never called",
            ask="Where do the logits come from that `choose` is given?",
        )
        expect.holds(
            bool(writer.shown) or not asked,
            expected="a `choose` that is asked for the next tokens",
            got="a `choose` that was never called",
            ask="Who decides which token comes next?",
        )
        for shown in writer.shown:
            if isinstance(shown, torch.Tensor) and shown.ndim == 2 and shown.shape[1] == self.V:
                expect.holds(
                    shown.shape[0]
                    in (prompt.shape[0], prompt.shape[1], self.V),  # what else it may be is told later
                    expected=f"`choose` called once for all rows, with logits {(len(prompt), self.V)}",
                    got=f"a call with logits {tuple(shown.shape)}",
                    ask="What does `choose` return: one token, or one for each row?",
                )
        return out, writer

    def start(self, rng, B, T, low=10):
        """Prompts, and no `end` in them."""
        return torch.from_numpy(rng.integers(low, self.V, (B, T)))

    @pytest.mark.points(2)
    def test_writes_what_is_chosen(self, student, rng):
        """puts behind each prompt the tokens that `choose` returns, `limit` of them"""
        T, n = sorted(rng.distinct(2, low=2, high=6))
        for B in (int(rng.integers(2, 6)), 1):
            self.written(student, rng, B, T, n)

    def written(self, student, rng, B, T, n):
        """Expect of so many texts what ``choose`` has chosen."""
        prompt, tokens = self.start(rng, B, T), self.start(rng, B, n)
        with expect.unchanged(prompt=prompt):
            out, _ = self.write(student, rng, prompt, tokens)
        expected = torch.cat([prompt, tokens], dim=1)
        mistakes = {
            "what was written, without the prompt": tokens,
            "one token too few": expected[:, :-1],
            "one token too many: `limit` counts those that are written": torch.cat(
                [expected, tokens[:, -1:]], dim=1
            ),
            "tokens in front of the prompt": torch.cat([tokens, prompt], dim=1),
            "the newest token first": torch.cat([prompt, tokens.flip(1)], dim=1),
            "`limit` taken for the length of the whole text": expected[:, :n] if n > T else prompt,
            "the last token alone": tokens[:, -1:],
        }
        ask = "What is appended in each step, along which dimension, and how often?"
        expect.equal(out, expected, what="the text", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_writes_what_is_chosen")
    def test_each_position_once(self, student, rng):
        """gives the model the prompt first, and then only the token written last"""
        B, T, n = rng.distinct(3, low=3, high=6)
        prompt, tokens = self.start(rng, B, T), self.start(rng, B, n)
        prompt[0, 0] = tokens[-1, 0] = 0  # a token like any other
        _, writer = self.write(student, rng, prompt, tokens)
        whole = torch.cat([prompt, tokens], dim=1)
        ask = "The caches hold everything that the model was given before. What is new to it?"
        for i, ids in enumerate(writer.ids):
            start, stop = (0, T) if i == 0 else (T + i - 1, T + i)
            mistakes = {
                "the whole text again: the caches hold it already": whole[:, : T + i],
                "the prompt again": prompt,
                "the token before the last": whole[:, T + i - 2 : T + i - 1] if i > 1 else whole[:, :0],
                "the last token of the prompt: what was chosen comes next": prompt[:, -1:],
                "what was written so far, all of it": tokens[:, :i],
                "a token of the prompt at a time: it may be read at once": prompt[:, :1],
                "the prompt without its last token": prompt[:, :-1],
            }
            what = f"the ids that call {i + 1} of the model is given"
            expect.equal(ids, whole[:, start:stop], what=what, ask=ask, mistakes=mistakes)
            if writer.real[i] is not None:  # which stands for tokens everywhere
                everywhere = torch.ones(B, T + i, dtype=torch.bool)
                what = f"what call {i + 1} of the model is given as `real` where nothing is padded"
                expect.equal(writer.real[i], everywhere, what=what, ask="What does None stand for in `real`?")
        calls = len(writer.ids)
        more = ": nobody asks what follows the last token" if calls == n + 1 else ""
        expect.holds(
            calls == n and len(writer.shown) == n,
            expected=f"{n} calls of the model and of `choose` for {n} tokens",
            got=f"{calls} of the model, {len(writer.shown)} of `choose`{more}",
            ask="When is the model asked, and when is it known enough?",
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_writes_what_is_chosen")
    def test_caches(self, student, rng):
        """hands over a cache for each layer, empty at first, and the same ones at every call"""
        B, T, n = rng.distinct(3, low=3, high=6)
        for layers in (1, int(rng.integers(2, 5))):
            prompt, tokens = self.start(rng, B, T), self.start(rng, B, n)
            _, writer = self.write(student, rng, prompt, tokens, layers=layers)
            seen = 0
            for i, (ids, held) in enumerate(zip(writer.ids, writer.held, strict=True)):
                got = f"they hold {', '.join(map(str, held))}"
                if layers > 1 and held == [seen * layers + k * ids.shape[1] for k in range(layers)]:
                    got += ": that is one cache under several names"
                elif i and not any(held):
                    got += ": they are new ones at every call"
                elif not i and any(held):
                    got += ": the prompt was read more than once"
                expect.holds(
                    held == [seen] * layers,
                    expected=f"{layers} caches that hold {seen} positions each before call {i + 1}",
                    got=got,
                    ask="How many KVCache are made, when, and is `[KVCache()] * n` more than one?",
                )
                seen += ids.shape[1]
        prompt, tokens = self.start(rng, B, T), self.start(rng, B, n)
        _, writer = self.write(student, rng, prompt, tokens)
        expect.holds(
            writer.held[0] == [0, 0],
            expected="empty caches at the start of a second text",
            got=f"they hold {writer.held[0]}",
            ask="Do your caches outlive the call that made them?",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_writes_what_is_chosen")
    def test_chooses_after_the_last(self, student, rng):
        """lets `choose` see the logits after the last position, (B, V)"""
        B, T, n = rng.distinct(3, low=2, high=6)
        prompt, tokens = self.start(rng, B, T), self.start(rng, B, n)
        _, writer = self.write(student, rng, prompt, tokens)
        for i, (shown, said) in enumerate(zip(writer.shown, writer.said, strict=False)):
            mistakes = {
                "those of every position": said,
                "those after the first position": said[:, 0],
                "those of the last text in the batch": said[-1],
                "those after the last position, with its dimension": said[:, -1:],
                "probabilities: `choose` is given logits": said[:, -1].softmax(-1),
                "log-probabilities: `choose` is given logits": said[:, -1].log_softmax(-1),
            }
            what = f"the logits that `choose` sees for token {i + 1}"
            ask = "(B, T, V) come back from the model: of which position is the next token?"
            expect.close(shown, said[:, -1], what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_writes_what_is_chosen")
    def test_ragged_batch(self, student, rng):
        """tells the model where the padding of the prompts is, at every call, and that what was written is real"""
        B, T, n = rng.distinct(3, low=3, high=6)
        prompt, real = ragged(rng, B, T, self.V)
        tokens = self.start(rng, B, n)
        tokens[0, 0] = tokens[-1, 1] = prompt[:, -1] = 0  # a token like any other
        with expect.unchanged(prompt=prompt, real=real):
            out, writer = self.write(student, rng, prompt, tokens, real=real)
        ask = "`real` covers what is in the caches and what is new: by how much does it grow, and with what?"
        for i, given in enumerate(writer.real):
            expected = torch.cat([real, torch.ones(B, i, dtype=torch.bool)], dim=1)
            what = f"what call {i + 1} of the model is given as `real`"
            told = "None: then the model takes the padding of the prompts for tokens"
            expect.holds(given is not None, expected=f"{what}, {B} by {T + i}", got=told, ask=ask)
            mistakes = {
                "that of the prompt, which has not grown": real,
                "only the new place: those in the caches count too": torch.ones(B, 1, dtype=torch.bool),
                "True everywhere: the padding of the prompts is still there": torch.ones_like(expected),
                "padding on the right: what was written is real": torch.cat([real, ~expected[:, T:]], dim=1),
                "the new places in front": torch.cat([expected[:, T:], real], dim=1),
                "the other way round: True is a token": ~expected,
            }
            expect.equal(given, expected, what=what, ask=ask, mistakes=mistakes)
        expect.equal(
            out, torch.cat([prompt, tokens], dim=1), what="the text, prompts as they were padded,", ask=ask
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_writes_what_is_chosen")
    def test_end(self, student, rng):
        """closes a row with `end`, fills it up, and lets the model rest when all rows are closed"""
        for end in (int(rng.integers(1, 9)), 0):
            self.ended(student, rng, end)

    def ended(self, student, rng, end):
        """Expect of rows of several lengths that each is closed with ``end``."""
        B, T = int(rng.integers(3, 5)), int(rng.integers(2, 5))
        limit = B + 4
        prompt, tokens = self.start(rng, B, T), self.start(rng, B, limit)
        lengths = rng.permutation(np.arange(1, B + 1)) + int(rng.integers(0, 2))
        expected = tokens.clone()
        for b, n in enumerate(lengths):
            tokens[b, n - 1] = end
            expected[b, n - 1 :] = end
        out, writer = self.write(student, rng, prompt, tokens, end=end)
        written = torch.cat([prompt, expected], dim=1)
        longest = int(lengths.max())
        closed = torch.arange(limit) >= torch.from_numpy(lengths)[:, None]
        mistakes = {
            "rows that go on behind their end": torch.cat([prompt, tokens], dim=1),
            "rows that go on behind their end, until all have closed": torch.cat(
                [prompt, torch.where(torch.arange(limit) < longest, tokens, end)], dim=1
            ),
            "the text cut where the last row closed: it has T + limit columns": written[:, : T + longest],
            "the text cut where the first row closed": written[:, : T + int(lengths.min())],
            "0 behind the end, where `end` belongs": torch.cat(
                [prompt, expected.masked_fill(closed, 0)], dim=1
            ),
        }
        ask = "What do you remember about each row from step to step, and which tokens does it replace?"
        expect.equal(out, written, what=f"the text, {end=},", ask=ask, mistakes=mistakes)
        calls, said = len(writer.ids), {limit: "on to the limit", longest + 1: "one more than needed"}
        expect.holds(
            calls == longest,
            expected=f"{longest} calls of the model: by then all rows are closed",
            got=f"{calls}" + (f": {said[calls]}" if calls in said else ""),
            ask="After each step: are all rows closed by now?",
        )
        for i, ids in enumerate(writer.ids[1:], start=T):
            what = f"the ids that call {i - T + 2} of the model is given, closed rows included,"
            expect.equal(ids, written[:, i : i + 1], what=what, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_writes_what_is_chosen")
    def test_end_in_the_prompt(self, student, rng):
        """looks for `end` in what was written, not in the prompt, and for nothing where it is None"""
        B, T, n = rng.distinct(3, low=2, high=6)
        end = int(rng.integers(0, 9))
        prompt, tokens = self.start(rng, B, T), self.start(rng, B, n)
        prompt[:, -1] = prompt[0] = end
        ask = "Some models begin with the token that ends a text. When do you look for `end` first?"
        expected = torch.cat([prompt, tokens], dim=1)
        out, _ = self.write(student, rng, prompt, tokens, end=end, asked=False)
        expect.equal(out, expected, what="the text behind a prompt with `end` in it", ask=ask)
        tokens[:] = torch.from_numpy(rng.integers(0, 3, tokens.shape))  # 0 and 1 among them
        tokens[:, 0] = 0
        out, _ = self.write(student, rng, prompt, tokens)
        expect.equal(out, torch.cat([prompt, tokens], dim=1), what="the text without an `end`", ask=ask)


# ---- beam search ----------------------------------------------------------------------------------------------------


class Tree:
    """Scores of the next token that depend on all of the text, and are drawn once for each text.

    ``closed`` texts are asked about at most in vain: what is said of them is noise.
    """

    def __init__(self, rng, tokens, scale=1.5, boost=None, only=None):
        self.seed, self.tokens, self.scale = int(rng.integers(2**31)), tokens, scale
        self.boost, self.only = (
            boost,
            only,
        )  # a token and what its logit gains; behind which first token (elsewhere it loses)
        self.rows, self.asked, self.strange = {}, [], ""

    def logits(self, text):
        text = tuple(text)
        if text not in self.rows:
            row = self.scale * np.random.default_rng([self.seed, *text]).standard_normal(self.tokens)
            if self.boost is not None:
                token, more = self.boost
                row[token] += more if self.only in (None, text[0]) else -more
            self.rows[text] = row
        return self.rows[text]

    def log_p(self, text):
        row = self.logits(text)
        return row - row.max() - math.log(np.exp(row - row.max()).sum())

    def __call__(self, ids):
        fine = isinstance(ids, torch.Tensor) and ids.ndim == 2 and ids.dtype == torch.int64
        if fine:
            known = bool(((ids >= 0) & (ids < self.tokens)).all())
            fine = known and ids.shape[0] <= 5000 and ids.shape[1] <= 50
        if not fine:
            self.strange = sketch(ids)
            if isinstance(ids, torch.Tensor) and ids.ndim == 2 and ids.numel():
                self.strange += (
                    f" with ids from {int(ids.min())} to {int(ids.max())}, of {self.tokens} tokens"
                )
            raise ValueError(f"`score` takes the ids (N, T) of whole texts, and got {self.strange}")
        self.asked.append(ids.detach().clone())
        rows = np.stack([self.logits(row) for row in ids.tolist()])
        return torch.from_numpy(rows).float()


def worth(log_p, n, alpha):
    return log_p / ((5 + n) / 6) ** alpha


def every_text(tree, prompt, limit, end, alpha):
    """The best of all texts there are: (score, what was written)."""
    best = (-INF, ())

    def go(text, log_p):
        nonlocal best
        n = len(text)
        if n and (n == limit or text[-1] == end):
            best = max(best, (worth(log_p, n, alpha), text))
            return
        for token, more in enumerate(tree.log_p((*prompt, *text))):
            go((*text, token), log_p + more)

    go((), 0.0)
    return best


def searched(tree, prompt, width, limit, end, alpha, wrong=""):
    """A beam search for one prompt, with something wrong if wanted: (score, what was written)."""
    beam = [(0.0, (), False)] * (width if wrong == "copies" else 1)  # log p, text, closed
    done = []

    def rank(item):
        log_p, text, closed = item
        n = len(text)
        if wrong == "raw sums":
            return log_p
        if wrong == "penalty by length":
            return log_p / n**alpha
        if wrong == "penalty turned round":
            return log_p * ((5 + n) / 6) ** alpha
        if wrong == "prompt counted":
            return worth(log_p, n + len(prompt), alpha)
        if wrong == "end not counted":
            return worth(log_p, n - closed, alpha)
        if wrong == "penalty not a power":
            return log_p / ((5 + n) / 6 * alpha) if alpha else log_p
        if wrong == "penalty of 6 + n":
            return worth(log_p, n + 1, alpha)
        return worth(log_p, n, alpha)

    best = min if wrong == "worst" else max
    for step in range(limit):
        if all(closed for *_, closed in beam):
            break
        if wrong == "stops at the first" and any(closed for *_, closed in beam):
            break
        grown = []
        for log_p, text, closed in beam:
            if closed and wrong == "kept outside":
                done.append((log_p, text, True))
                continue
            if closed and wrong == "forgotten":
                continue
            if closed and wrong not in ("extended", "pays for end"):
                grown.append((log_p, text, True))
                continue
            more = tree.log_p((*prompt, *text))
            if wrong == "sums of logits":
                more = tree.logits((*prompt, *text))
            if wrong == "sums of probabilities":
                more = np.exp(more)
            for token, add in enumerate(more):
                if closed and wrong == "pays for end" and token != end:
                    continue
                base = 0.0 if wrong == "last token alone" else log_p
                grown.append((base + add, (*text, token), closed or (end is not None and token == end)))
        if not grown:
            break
        if wrong == "penalty at the end":
            grown.sort(key=lambda item: -item[0])
        elif wrong == "worst":
            grown.sort(key=rank)
        elif wrong == "one for each":
            firsts = {}
            for item in grown:
                if item[1][:-1] not in firsts or rank(item) > rank(firsts[item[1][:-1]]):
                    firsts[item[1][:-1]] = item
            grown = list(firsts.values()) if step else grown
            grown.sort(key=rank, reverse=True)
        else:
            grown.sort(key=rank, reverse=True)
        beam = grown[:width]
    beam = [*beam, *done] if wrong == "kept outside" else beam
    if wrong == "best log p":
        item = max(beam, key=lambda item: item[0])
        return rank(item), item[1]
    item = beam[0] if wrong == "first of the beam" else best(beam, key=rank)
    return rank(item), item[1]


def filled(prompt, text, limit, fill):
    return [*prompt, *text, *[fill] * (limit - len(text))]


SAID = {
    "copies": "what greedy decoding finds: did the beam begin with {width} copies of the prompt, which choose alike?",
    "extended": "closed texts continued behind their end: a closed text stays as it is",
    "forgotten": "closed texts thrown out of the beam: they stay and compete",
    "kept outside": "closed texts taken out of the beam, which goes on with others: they stay and compete",
    "pays for end": "closed texts that pay for every further `end`: their log p stays as it is",
    "stops at the first": "a search that ends as soon as one text is closed: open ones may still be better",
    "sums of logits": "logits summed up: it is log-probabilities that sum to the log-probability of a text",
    "sums of probabilities": "probabilities summed up: they would have to be multiplied, or their logarithms summed",
    "last token alone": "texts compared by their last token: the log p of all tokens counts",
    "worst": "the texts with the lowest scores",
    "one for each": "one continuation kept for each text: the best of one may be worse than the second best of another",
    "raw sums": "log p without the length penalty",
    "penalty by length": "log p divided by n to the power of alpha: it is ((5 + n) / 6)",
    "penalty turned round": "log p multiplied by the penalty: it is divided by it",
    "prompt counted": "the prompt counted in n: n counts what was written",
    "end not counted": "n without the `end`: it is counted",
    "penalty not a power": "alpha as a factor: it is the power",
    "penalty of 6 + n": "((6 + n) / 6) to the power of alpha: n counts what was written, and it is 5 + n",
    "penalty at the end": "the length penalty applied to the last beam only: it decides in every step who stays",
    "best log p": "the text of the last beam with the best log p, not the one with the best score",
    "first of the beam": "the first text of the beam, which is not the best",
}


@pytest.mark.exercise("beam_search")
class TestBeamSearch:
    ASK = "Of which continuations do you choose the best, by which number, and what do you take over from those chosen?"

    def found(self, student, tree, prompt, *, width, limit, **options):
        """The learner's answer: ids and scores of the right shapes and types."""
        tree.asked = []
        try:
            out = student.beam_search(tree, prompt, width=width, limit=limit, **options)
        except Exception:
            if tree.strange:
                expect.fail(
                    expected="`score` called with the ids (N, T) of all texts, one below the other",
                    got=tree.strange,
                    ask="(B, W, T) are the texts of all beams: which dimensions become one for the call?",
                )
            raise
        pair = isinstance(out, (tuple, list)) and len(out) == 2
        expect.holds(pair, expected="ids and scores, in a tuple", got=sketch(out), ask="What does it return?")
        ids, scores = out
        B, T = prompt.shape
        shape = f"the ids (B, T + limit) = {(B, T + limit)} of the best texts"
        expect.array(ids, dtype=torch.int64, what=shape, ask=self.ASK)
        got = f"shape {tuple(ids.shape)}"
        if tuple(ids.shape) == (B, width, T + limit):
            got += ": all texts of the beams, of which the best alone is asked for"
        elif tuple(ids.shape) == (B, limit):
            got += ": the prompts are missing"
        elif ids.ndim == 2 and ids.shape[0] == B and ids.shape[1] < T + limit:
            got += ": texts are filled up with `end`"
        expect.holds(tuple(ids.shape) == (B, T + limit), expected=shape, got=got, ask=self.ASK)
        expect.array(
            scores, shape=(B,), dtype=torch.float32, what="the scores (B,) of the best texts", ask=self.ASK
        )
        foreign = [b for b in range(B) if not torch.equal(ids[b, :T], prompt[b])]
        expect.holds(
            not foreign,
            expected="each text behind its own prompt",
            got=f"rows {foreign} behind something else: texts of different prompts were mixed",
            ask="(B, W·V): whose texts stand in one row, and which prompt's is the one that you go on with?",
        )
        return ids, scores

    def compare(
        self, out, tree, prompt, best, *, width, limit, end=None, alpha=0.0, wrong=(), what="", more=None
    ):
        """Expect the texts and scores of ``best``, a list of (score, text) for each prompt."""
        ids, scores = out
        fill = 0 if end is None else end
        rows = prompt.tolist()
        wanted = torch.tensor(
            [filled(row, text, limit, fill) for row, (_, text) in zip(rows, best, strict=True)]
        )

        def mistaken():
            said = {}
            for name in wrong:  # texts alone would fit several mistakes
                found = [searched(tree, row, width, limit, end, alpha, name) for row in rows]
                if not torch.allclose(torch.tensor([value for value, _ in found]).float(), scores, atol=1e-4):
                    continue
                texts = [filled(row, text, limit, fill) for row, (_, text) in zip(rows, found, strict=True)]
                said[SAID[name].format(width=width)] = torch.tensor(texts)
            if end is not None:
                steps = max(
                    ids.shape[1] for ids in tree.asked
                )  # the columns that the search itself has filled
                for zero in (0, -1):
                    texts = [filled(r, t, limit, zero) for r, (_, t) in zip(rows, best, strict=True)]
                    said[f"{zero} behind the end, where `end` belongs"] = torch.tensor(texts)
                    late = wanted.clone()
                    late[:, steps + 1 :] = zero
                    said[f"{zero} behind the end, where `end` belongs, once all were closed"] = late
            return said | (more or {})

        what = what or f"the best texts for {width=}, {limit=}" + ("" if end is None else f", {end=}")
        what += f", alpha={alpha:.2f}" if alpha else ""
        expect.equal(ids, wanted, what=what, ask=self.ASK, mistakes=mistaken)

        def scored():
            numbers = {}
            for name in wrong:
                found = [searched(tree, row, width, limit, end, alpha, name) for row in rows]
                numbers[SAID[name].format(width=width)] = torch.tensor([value for value, _ in found]).float()
            plain = torch.tensor([value for value, _ in best])
            logs = [value * ((5 + len(text)) / 6) ** alpha for value, text in best]
            numbers["the log-probabilities, without the length penalty"] = torch.tensor(logs).float()
            numbers["the probabilities: the score is their logarithm"] = plain.exp().float()
            numbers["the scores without their sign"] = -plain.float()
            return numbers

        expected = torch.tensor([value for value, _ in best]).float()
        expect.close(scores, expected, what=f"the scores of {what}", ask=self.ASK, mistakes=scored)

    def prompts(self, rng, B, T, tokens, end=None):
        """Prompts, in which there is no ``end``."""
        if end is None:
            return different(rng, max(tokens, T), B, T)
        return torch.from_numpy((end + rng.integers(1, tokens, (B, T))) % tokens)

    @pytest.mark.points(3)
    def test_finds_the_best_of_all(self, student, rng):
        """finds the best of all texts where the beam is wide enough to hold them all"""
        for tokens, limit, end in (
            (3, 3, None),
            (3, 3, int(rng.integers(1, 3))),
            (4, 2, 0),
            (5, 1, None),
        ):
            B, T = rng.distinct(2, low=1, high=3)
            prompt = self.prompts(rng, B, T, tokens, end)
            tree = Tree(rng, tokens)
            width = tokens**limit
            given = {"width": width, "limit": limit, "end": end}
            with expect.unchanged(prompt=prompt):
                out = self.found(student, tree, prompt, **given)
            best = [every_text(tree, row, limit, end, 0.0) for row in prompt.tolist()]
            wrong = [
                "copies",
                "sums of logits",
                "sums of probabilities",
                "last token alone",
                "worst",
                "one for each",
            ]
            if end is not None:
                wrong += ["extended", "forgotten", "pays for end", "stops at the first"]
            what = f"the best of all {width} texts" + ("" if end is None else f", {end=}")
            self.compare(out, tree, prompt, best, **given, wrong=wrong, what=what)

    @pytest.mark.points(1)
    def test_a_beam_of_one_is_greedy(self, student, rng):
        """is greedy decoding where the beam is one text wide"""
        tokens, limit = int(rng.integers(4, 7)), int(rng.integers(3, 6))
        B, T = rng.distinct(2, low=1, high=4)
        prompt = self.prompts(rng, B, T, tokens)
        tree = Tree(rng, tokens)
        out = self.found(student, tree, prompt, width=1, limit=limit)
        best = []
        for row in prompt.tolist():
            text, log_p = (), 0.0
            for _ in range(limit):
                more = tree.log_p((*row, *text))
                text, log_p = (*text, int(more.argmax())), log_p + more.max()
            best.append((log_p, text))
        wrong = ["worst", "sums of logits", "last token alone", "sums of probabilities"]
        what = "the texts of greedy decoding (width=1)"
        self.compare(out, tree, prompt, best, width=1, limit=limit, wrong=wrong, what=what)

    def told_apart(self, rng, names, **given):
        """A tree and prompts for which these wrong searches find other texts than the right one does.

        Two of them may find the same texts where they give them different scores. Where no tree among many tells all
        apart, the one that tells the most apart.
        """
        T = given.pop("T", 2)
        B, tokens = given.pop("B", 2), given.pop("tokens", 5)
        boost = given.pop("boost", None)
        settings = [given[key] for key in ("width", "limit", "end", "alpha")]
        most, found = -1, None
        for _ in range(150):
            prompt = self.prompts(rng, B, T, tokens, given["end"])
            tree = Tree(rng, tokens, scale=given.get("scale", 1.2), boost=boost)
            rows = prompt.tolist()
            best = [searched(tree, row, *settings) for row in rows]
            if (
                found and max(len(text) for _, text in best) < 3
            ):  # short texts get the same score for many reasons
                continue
            told = set()
            for name in names:
                wrong = [searched(tree, row, *settings, name) for row in rows]
                texts, scores = zip(*[(text, round(score, 3)) for score, text in wrong], strict=True)
                if texts != tuple(text for _, text in best):
                    told.add((texts, scores))
            if len(told) > most:
                most, found = len(told), (tree, prompt, best)
            if most == len(names):
                break
        return found

    @pytest.mark.points(2)
    def test_narrow_beam(self, student, rng):
        """keeps the `width` best continuations of all texts of a beam, step by step"""
        wrong = ["copies", "one for each", "last token alone"]
        others = [*wrong, "sums of logits", "sums of probabilities", "worst"]
        for width, limit in ((2, 4), (3, 5)):
            given = {"width": width, "limit": limit, "end": None, "alpha": 0.0}
            tree, prompt, best = self.told_apart(rng, wrong, **given)
            out = self.found(student, tree, prompt, width=width, limit=limit)
            self.compare(out, tree, prompt, best, **given, wrong=others)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_narrow_beam")
    def test_batch(self, student, rng):
        """searches for each prompt by itself"""
        tokens, width, limit, T = 5, int(rng.integers(2, 4)), 4, 2
        ask = "(B, W·V): whose texts stand in one row, and which prompt's is the one that you go on with?"
        for B in (3, width):  # as many prompts as texts in a beam, too
            tree = Tree(rng, tokens)
            prompt = self.prompts(rng, B, T, tokens)
            ids, scores = self.found(student, tree, prompt, width=width, limit=limit)
            best = [searched(tree, row, width, limit, None, 0.0) for row in prompt.tolist()]
            expected = torch.tensor(
                [[*row, *text] for row, (_, text) in zip(prompt.tolist(), best, strict=True)]
            )
            expect.equal(ids, expected, what="the best texts of each prompt by itself", ask=ask)
            value = torch.tensor([value for value, _ in best]).float()
            expect.close(scores, value, what="their scores", ask=ask)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_narrow_beam")
    def test_closed_texts(self, student, rng):
        """keeps closed texts as they are, and lets them compete"""
        wrong = ["extended", "forgotten", "stops at the first"]
        others = [
            *wrong,
            "pays for end",
            "copies",
            "kept outside",
            "sums of logits",
            "one for each",
            "last token alone",
        ]
        for width, B, end in (
            (2, 1, int(rng.integers(1, 5))),
            (3, 2, 0),
        ):  # alone first: others keep a search going
            given = {"width": width, "limit": 4, "end": end, "alpha": 0.0}
            tree, prompt, best = self.told_apart(rng, wrong, boost=(end, 0.7), B=B, **given)
            out = self.found(student, tree, prompt, width=width, limit=4, end=end)
            self.compare(out, tree, prompt, best, **given, wrong=others)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_closed_texts")
    def test_length_penalty(self, student, rng):
        """divides log p by ((5 + n) / 6)^alpha, n written tokens with their end"""
        wrong = ["raw sums", "penalty turned round", "best log p"]
        others = [*wrong, "penalty at the end", "penalty by length", "prompt counted", "end not counted"]
        others += ["penalty not a power", "penalty of 6 + n", "stops at the first", "extended"]
        alphas = float(rng.uniform(0.5, 0.9)), float(rng.uniform(1.2, 2.0)), float(rng.uniform(1.2, 2.0))
        for alpha, names in zip(alphas, (wrong, wrong, ["penalty at the end"]), strict=True):
            end = int(rng.integers(5))
            given = {"width": 3, "limit": 5, "end": end, "alpha": alpha}
            tree, prompt, best = self.told_apart(rng, names, boost=(end, 0.5), T=3, **given)
            out = self.found(student, tree, prompt, width=3, limit=5, end=end, alpha=alpha)
            self.compare(out, tree, prompt, best, **given, wrong=others)
        tokens, limit, end = 3, 3, 1
        tree, prompt = Tree(rng, tokens), self.prompts(rng, 2, 2, tokens, end)
        best = [every_text(tree, row, limit, end, 1.0) for row in prompt.tolist()]
        given = {"width": tokens**limit, "limit": limit, "end": end, "alpha": 1.0}
        out = self.found(student, tree, prompt, **given)
        self.compare(out, tree, prompt, best, **given, wrong=others)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_closed_texts")
    def test_end_in_the_prompt(self, student, rng):
        """looks for `end` in what was written, not in the prompt"""
        tokens, end = 5, int(rng.integers(5))
        tree = Tree(rng, tokens, boost=(end, -3.0))
        prompt = torch.from_numpy((end + rng.integers(1, tokens, (2, 3))) % tokens)
        prompt[0, -1] = prompt[1, 0] = end
        given = {"width": 2, "limit": 3, "end": end}
        out = self.found(student, tree, prompt, **given)
        best = [searched(tree, row, 2, 3, end, 0.0) for row in prompt.tolist()]
        what = "the best texts behind prompts with `end` in them"
        nothing = torch.cat([prompt, torch.full((2, 3), end)], dim=1)
        written = torch.tensor(
            [filled(r, t, 3, end) for r, (_, t) in zip(prompt.tolist(), best, strict=True)]
        )
        sentence = "texts that were taken for closed before anything was written"
        more = {sentence: nothing, f"{sentence},": torch.stack([nothing[0], written[1]])}
        self.compare(out, tree, prompt, best, **given, what=what, more=more)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_narrow_beam")
    def test_asks_no_more_than_needed(self, student, rng):
        """asks about at most `width` texts a prompt in a step, and rests when all texts are closed"""
        tokens, width, limit, T = 5, 3, 4, 2
        tree = Tree(rng, tokens)
        prompt = self.prompts(rng, 2, T, tokens)
        self.found(student, tree, prompt, width=width, limit=limit)
        lengths = {length for _, length in (ids.shape for ids in tree.asked)}
        wanted = set(range(T, T + limit))
        ask = "What is `score` called with, and how often in a step?"
        expect.holds(
            lengths == wanted,
            expected=f"texts of {', '.join(map(str, sorted(wanted)))} tokens asked about, prompts included",
            got=f"texts of {', '.join(map(str, sorted(lengths)))} tokens",
            ask=ask,
        )
        for length in wanted:
            count = sum(len(ids) for ids in tree.asked if ids.shape[1] == length)
            expect.holds(
                count <= 2 * width,
                expected=f"at most {2 * width} texts of {length} tokens asked about: {width} of each of 2 prompts",
                got=f"{count} texts",
                ask=ask,
            )
        end = int(rng.integers(1, tokens))  # not 0, which is what is easily put behind it
        sure = Tree(rng, tokens, boost=(end, 40.0))  # all texts close in their second step at the latest
        prompt = self.prompts(rng, 2, T, tokens, end)
        out = self.found(student, sure, prompt, width=2, limit=7, end=end)
        given = {"width": 2, "limit": 7, "end": end}
        best = [searched(sure, row, 2, 7, end, 0.0) for row in prompt.tolist()]
        self.compare(out, sure, prompt, best, **given)
        longest = max(ids.shape[1] for ids in sure.asked)
        expect.holds(
            longest == T + 1,
            expected=f"a last call of `score` with texts of {T + 1} tokens: behind them every text is closed",
            got=f"texts of {longest} tokens asked about"
            + (": on to the limit" if longest == T + 6 else "")
            + (" at most: a search that rests while texts are open" if longest < T + 1 else ""),
            ask="When is there nothing left that could be continued?",
        )
        prompt[0, 0], prompt[1, 0] = (end + 1) % tokens, (end + 2) % tokens
        for first, number in (
            (0, "first"),
            (1, "last"),
        ):  # the texts of one prompt close, those of the other do not
            half = Tree(rng, tokens, boost=(end, 40.0), only=int(prompt[first, 0]))
            given = {"width": 2, "limit": 4, "end": end}
            out = self.found(student, half, prompt, **given)
            best = [searched(half, row, 2, 4, end, 0.0) for row in prompt.tolist()]
            early = [searched(half, row, 2, 2, end, 0.0) for row in prompt.tolist()]
            texts = [filled(row, text, 4, end) for row, (_, text) in zip(prompt.tolist(), early, strict=True)]
            sentence = (
                f"a search cut off when all texts of the {number} prompt were closed: the other's go on"
            )
            self.compare(out, half, prompt, best, **given, more={sentence: torch.tensor(texts)})
