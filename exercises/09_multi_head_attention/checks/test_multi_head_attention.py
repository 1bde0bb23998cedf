"""Checks of unit 09: splitting and merging heads, the multi-head layer, its parameters, and heads that share keys.

Every check draws fresh inputs. Answers are judged by slices and loops, by ``nn.MultiheadAttention`` and PyTorch's
grouped attention on the same weights, or by who can see whom.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from proctor import expect

INF = float("inf")
MAPS = ("query", "key", "value", "output")
HEADS_PASS = "Do your split_heads and merge_heads pass their own checks?"


def cut(x, H):
    """Head by head, (*B, T, D) -> (*B, H, T, K): the features that belong to each."""
    K = x.shape[-1] // H
    return torch.stack([x[..., h * K : (h + 1) * K] for h in range(H)], dim=-3)


def join(heads):
    """Head beside head: (*B, H, T, K) -> (*B, T, D)."""
    return torch.cat(heads.unbind(-3), dim=-1)


def permitted(rng, *shape):
    """A boolean mask in which every query may attend to at least one key, and not to at least one other."""
    rank = rng.random(shape).argsort(-1).argsort(-1)
    count = np.asarray(rng.integers(1, shape[-1], shape[:-1]))
    return torch.from_numpy(rank < count[..., None])


def forms(rng, mask):
    """A boolean mask, and an additive one that forbids the same keys, prefers some of the others, and has zeros."""
    return mask, rng.tensor(*mask.shape).round().masked_fill(~mask, -INF)


def linear(x, weights, name):
    """What the map of this name makes of x; without a name, x itself."""
    if not name:
        return x
    bias = weights.get(f"{name}.bias")
    return F.linear(x, weights[f"{name}.weight"].to(x.dtype), None if bias is None else bias.to(x.dtype))


def near(heads, share):
    """Each head as often as it is shared, copies side by side."""
    return heads.repeat_interleave(share, 1)


def far(heads, share):
    """All heads, and then all of them again."""
    return heads.repeat(1, share, 1, 1)


def at_once(x, H):
    """Heads cut out of memory, with no exchange of positions and heads."""
    return x.reshape(len(x), H, x.shape[1], -1)


def in_turn(x, H):
    """Features dealt out to the heads one by one."""
    return x.reshape(*x.shape[:2], -1, H).permute(0, 3, 1, 2)


def put_back(heads):
    """Rows made from heads with no exchange of heads and positions."""
    return heads.reshape(len(heads), heads.shape[2], -1)


def woven(heads):
    """Rows made of the first feature of every head, then the second of every head, and so on."""
    return heads.permute(0, 2, 3, 1).flatten(2)


def attend(query, key, value, *, mask=None, scale=None, causal=False, dim=-1, late=None, pool=False):
    """PyTorch's attention; or a softmax over another ``dim``, a mask after it, the same weights for all heads."""
    if dim == -1 and late is None and not pool:
        return F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, scale=scale)
    weights = (query @ key.mT / key.shape[-1] ** 0.5).softmax(dim)
    weights = weights if late is None else weights * (late if late.dtype == torch.bool else late > -INF)
    return (weights.mean(1, keepdim=True) if pool else weights) @ value


def by_hand(
    weights,
    H,
    x,
    memory,
    G=None,
    *,
    reads="xmm",
    maps=MAPS,
    split=cut,
    copies=(near, near),
    merge=join,
    **options,
):
    """Attention of H query heads with G (or H) key and value heads; any step may be another than the right one."""
    sources = {"x": x, "m": memory}
    parts = [linear(sources[source], weights, name) for source, name in zip(reads, maps, strict=False)]
    query, key, value = (split(part, n) for part, n in zip(parts, (H, G or H, G or H), strict=True))
    key, value = (copy(heads, H // (G or H)) for copy, heads in zip(copies, (key, value), strict=True))
    found = merge(attend(query, key, value, **options))
    return linear(found, weights, "output") if len(maps) == 4 else found


def known(weights, H, x, memory, G=None):
    """What known mistakes make of x and the memory, as functions."""
    D, K = x.shape[-1], x.shape[-1] // H
    ways = {
        "heads without the map `output`: what they found was not mixed": {"maps": MAPS[:3]},
        "scores divided by √D: each head's dot product has K = D / H terms": {"scale": D**-0.5},
        "scores that were not divided by √K": {"scale": 1.0},
        "scores divided by K, not by √K": {"scale": 1 / K},
        "scores divided by √H: K is the width of a head, H the number of heads": {"scale": H**-0.5},
        "scores divided by the root of D / G: a head is D / H wide, shared or not": {
            "scale": ((G or H) / D) ** 0.5
        },
        "heads that were cut out of memory at once, (B, T, D) to (B, H, T, K), and put back the same way: each sees "
        "a part of the sequence only": {"split": at_once, "merge": put_back},
        "heads that were split at once, (B, T, D) to (B, H, T, K), without an exchange of T and H": {
            "split": at_once
        },
        "heads that were merged at once, (B, H, T, K) to (B, T, D), without an exchange of H and T": {
            "merge": put_back
        },
        "heads of features dealt out in turn: head h has h, h + H, h + 2·H, …": {
            "split": in_turn,
            "merge": woven,
        },
        "heads that were split by features in turn and merged side by side": {"split": in_turn},
        "heads that were split right and merged by features in turn": {"merge": woven},
        "heads mixed up with the batch: folded into it as (H·B), unfolded as (B, H)": {
            "merge": lambda heads: join(heads.transpose(0, 1).reshape(heads.shape))
        },
        "heads mixed up with the batch: folded into it as (B·H), unfolded as (H, B)": {
            "merge": lambda heads: join(heads.reshape(H, len(heads), *heads.shape[2:]).transpose(0, 1))
        },
        "heads in reverse order": {"merge": lambda heads: join(heads.flip(1))},
        "the average of the heads in every head's place": {
            "merge": lambda heads: join(heads.mean(1, keepdim=True).expand_as(heads))
        },
        "keys and values in each other's place": {"maps": ("query", "value", "key", "output")},
        "averages of the keys: the map `key` made the values too": {
            "maps": ("query", "key", "key", "output")
        },
        "values that were found by themselves: the map `value` made the keys too": {
            "maps": ("query", "value", "value", "output")
        },
        "attention to the past only, as under a causal mask, where no mask was given": {"causal": True},
        "a softmax over the queries": {"dim": -2},
        "a softmax over the heads": {"dim": 1},
        "weights averaged over the heads: each head has weights of its own": {"pool": True},
    }
    if G in (None, H):
        ways["one head of width D: the rows were not split"] = {
            "split": lambda y, n: y[:, None],
            "merge": lambda heads: heads[:, 0],
        }
        ways["K heads of width H: `split_heads` takes the number of heads"] = {
            "split": lambda y, n: cut(y, K)
        }
        for name in MAPS[:3]:
            ways[f"the map `{name}` not used: x, or the memory, stands in the place of what it makes"] = {
                "maps": [part if part != name else "" for part in MAPS]
            }
        ways["query and key in each other's place"] = {"maps": ("key", "query", "value", "output")}
        ways["averages of the queries: the map `query` made the values too"] = {
            "maps": ("query", "key", "query", "output")
        }
        ways["queries that looked among queries: the map `query` made the keys too"] = {
            "maps": ("query", "query", "value", "output")
        }
    if x.shape == memory.shape:
        ways |= {
            "self-attention: the memory was not used": {"reads": "xxx"},
            "attention of the memory to itself: it is x that asks": {"reads": "mmm"},
            "keys and values of x, queries of the memory: x asks, the memory is looked up": {"reads": "mxx"},
            "keys of x: keys belong to the memory": {"reads": "xxm"},
            "values of x: values belong to the memory": {"reads": "xmx"},
            "attention over the batch: the sequences looked at one another": {
                "split": lambda y, n: cut(y.transpose(0, 1), n),
                "merge": lambda heads: join(heads).transpose(0, 1),
            },
            "heads of one position that looked at one another: positions and heads were never exchanged": {
                "split": lambda y, n: y.unflatten(-1, (n, -1)).repeat_interleave(H // n, 2),
                "copies": (lambda heads, share: heads,) * 2,
                "merge": lambda heads: heads.flatten(2),
            },
        }
    return {name: lambda way=way: by_hand(weights, H, x, memory, G, **way) for name, way in ways.items()}


def masked(shape, mask, answer, hand):
    """What known mistakes make of a mask; ``answer`` is right for a mask, ``hand`` attends with (B, 1, T, S)."""
    B, T, S = shape
    lined_up = mask.unsqueeze(1) if mask.ndim == 3 else mask
    named = {"the output of a mask that acts after the softmax": lambda: hand(late=lined_up)}
    if mask.dtype != torch.bool:
        named["the output of a mask whose zeros were taken for a no: they are added, and change nothing"] = (
            lambda: hand(mask=lined_up.masked_fill(lined_up == 0, -INF))
        )
    if mask.dtype == torch.bool:
        named["the output of the inverted mask: True means that the query may attend"] = lambda: answer(~mask)
        named["the output of a mask whose True and False were added to the scores as 1 and 0"] = lambda: (
            answer(mask.float())
        )
    if T == S:
        named["the output of the transposed mask"] = lambda: answer(mask.mT)
    return named | {
        "the output without a mask: forward did not hand it on, or took every number for a yes": lambda: (
            answer(None)
        ),
        "the output of a mask read as yes or no: its numbers were not added to the scores": lambda: answer(
            mask > -INF
        ),
        "the output of the first sequence's mask for all sequences": lambda: answer(
            mask.expand(B, *mask.shape[-2:])[:1]
        ),
    }


def lines_up(names, scores, mask):
    """What to ask of somebody whose mask did not do what it says."""
    if mask.dtype != torch.bool:
        return "A mask of numbers is added to the scores as it is, whatever its shape. What does your code do with it?"
    return (
        f"Scores are {names} = {scores}, the mask is {tuple(mask.shape)}. Where must a dimension of 1 stand in it, if "
        "anywhere, so that it lines up?"
    )


def misplaced(mask, answer):
    """What comes of a mask (B, T, S) whose dimension for the heads stands in the wrong place, where B = H = T."""
    return {
        "the mask of sequence b held for head b: (B, T, S) met (B, H, T, S) as it was, or copies lie as (H, B)": (
            lambda: answer(mask[None])
        ),
        "the mask of query t held for head t: its dimension of 1 stands behind T": lambda: answer(
            mask.unsqueeze(2)
        ),
    }


def loaded(rng, m, shapes, ask):
    """Weights that we have drawn, after the learner's layer was given them."""
    expect.parameters(m, shapes, ask=ask)
    weights = {name: rng.tensor(*shape, scale=shape[-1] ** -0.5) for name, shape in shapes.items()}
    m.load_state_dict(weights, strict=False)  # a buffer of the learner's own may keep what it holds
    return weights


def reach_of_causal_attention(rng, m, B, T, D):
    """Expect a self-attention layer to depend on exactly what a causal and a padding mask permit."""
    # Where a query has one key only, its weight is 1 whatever it asks: an exact zero, or what rounding makes of it.
    lengths = torch.from_numpy(rng.permutation([T, *rng.integers(2, T, B - 1)]))
    mask = (torch.arange(T) < lengths[:, None, None]) & torch.ones(T, T, dtype=torch.bool).tril()
    mask[rng.integers(B), 0] = False  # one query may attend to nothing, and so depends on nothing
    allowed = torch.zeros(B, T, B, T, dtype=torch.bool)
    for b, t in np.ndindex(B, T):
        allowed[b, t, b] = mask[b, t]
        allowed[b, t, b, t] |= bool(mask[b, t].any())  # by its own query

    def attended(x):
        out = m(x, mask=mask)
        expect.array(out, shape=(B, T, D), dtype=torch.float32)
        return out

    expect.reaches(attended, rng.tensor(B, T, D), allowed)


def feature_reach(m, x):
    """Which features of the output depend on which features of x, at whatever position: (D, D)."""

    def turned(columns):
        out = m(columns.transpose(1, 2))
        expect.array(out, shape=tuple(x.shape), dtype=torch.float32)
        return out.transpose(1, 2)

    return expect.gradient_reach(turned, x.transpose(1, 2))[0, :, 0]


def same_gradients(m, copies, what):
    """Expect each of the layer's parameters to have the gradient of its copy."""
    found = expect.parameters(m, {name: tuple(copy.shape) for name, copy in copies.items()})
    ask = "Is each map called as a module, on the graph, whenever forward runs?"
    for name, copy in copies.items():
        grad = found[name].grad
        expect.holds(grad is not None, expected=f"a gradient for {name}", got="none", ask=ask)
        expect.close(grad, copy.grad, what=f"the gradient of {name} {what}", ask=ask)


@pytest.mark.exercise("split_heads")
class TestSplitHeads:
    @pytest.mark.points(1)
    def test_one_sequence_for_each_head(self, student, rng):
        """returns a sequence for each head"""
        B, T, H, K = rng.distinct(4, high=6)
        x = rng.tensor(B, T, H * K)
        out = student.split_heads(x, H)
        right = cut(x, H)
        mistakes = {
            f"shape {(B, T, H, K)}: a row was cut into heads, but heads do not stand before positions yet": (
                right.transpose(1, 2)
            ),
            f"shape {(B * H, T, K)}: the heads went into the batch and should stay apart": right.flatten(
                0, 1
            ),
            f"shape {(H * B, T, K)}, head by head: the heads went into the batch and should stay apart": (
                right.transpose(0, 1).flatten(0, 1)
            ),
            f"shape {(H, B, T, K)}: the heads stand before the batch": right.transpose(0, 1),
            f"shape {(B, H, K, T)}: rows and columns of each head are exchanged": right.mT,
            f"shape {(B, K, T, H)}: `heads` is the number of pieces, not the width of one": lambda: cut(x, K),
            f"shape {(B, T, K)}: one head only": right[:, 0],
        }
        ask = "H heads of width K = D / H: where do H and K stand in what your line returns?"
        if isinstance(out, torch.Tensor) and tuple(out.shape) != tuple(right.shape):
            expect.close(out, right, what="the heads", ask=ask, mistakes=mistakes)
        expect.array(out, shape=(B, H, T, K), dtype=torch.float32, what="the heads (B, H, T, K)", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_one_sequence_for_each_head")
    def test_agrees_with_slices(self, student, rng):
        """gives head h the features h·K to (h + 1)·K − 1 of every row"""
        B, T, H, K = rng.distinct(4, high=6)
        x = rng.tensor(B, T, H * K)
        out = student.split_heads(x, H)
        right = cut(x, H)
        mistakes = {
            "numbers of other positions: the shape was changed to (B, H, T, K) at once, which cuts the row of numbers "
            "in memory and not each position's row": x.reshape(B, H, T, K),
            "features dealt out in turn: head h has h, h + H, h + 2·H, …": x.reshape(B, T, K, H).permute(
                0, 3, 1, 2
            ),
            "the heads in reverse order": right.flip(1),
            "the first head's features in every head": right[:, :1].expand_as(right),
            "the features of each head in reverse order": right.flip(-1),
            "(B, K, T, H) or (B, T, K, H) in another shape: the wrong dimensions were exchanged": (
                x.reshape(B, T, H, K).transpose(1, 3).reshape(B, H, T, K)
            ),
            "the positions in reverse order": right.flip(2),
        }
        ask = (
            "Change the shape first so that each position's own row is cut, (B, T, H, K). What then brings H "
            "before T without moving any number to another position?"
        )
        expect.close(out, right, atol=0, rtol=0, what="the heads", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_slices")
    def test_leading_dimensions(self, student, rng):
        """works without a batch, with two leading dimensions, for one head, and for heads of width one"""
        A, B, T, H, K = rng.distinct(5, high=6)
        ask = "Do you count dimensions from the end, so that any number may stand in front?"
        for shape, heads in [
            ((T, H * K), H),
            ((A, B, T, H * K), H),
            ((B, 1, H * K), H),
            ((1, T, H * K), H),
            ((B, T, K), 1),
            ((B, T, H), H),
        ]:
            x = rng.tensor(*shape)
            expect.close(student.split_heads(x, heads), cut(x, heads), what="the heads", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_one_sequence_for_each_head")
    def test_refuses_unequal_heads(self, student, rng):
        """raises ValueError where the heads cannot share the width equally"""
        T, H, K = rng.distinct(3, low=3, high=6)
        ask = "Which error comes up now, and would its text tell somebody that the number of heads is wrong?"
        for width in (H * K + 1, H * K - 1, H - 1):
            when = f"for a width of {width} and {H} heads"
            expect.raises(
                ValueError,
                lambda width=width: student.split_heads(rng.tensor(2, T, width), H),
                when=when,
                ask=ask,
            )
        expect.array(student.split_heads(rng.tensor(2, T, H * K), H), shape=(2, H, T, K), what="the heads")

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_slices")
    def test_inputs_and_gradients(self, student, rng):
        """leaves x alone, keeps float64, and sends the right gradient back"""
        B, T, H, K = rng.distinct(4, high=6)
        x = rng.tensor(B, T, H * K, dtype=torch.float64)
        with expect.unchanged(x=x):
            student.split_heads(x, H)
        expect.gradients(lambda x: student.split_heads(x, H), x=x, what="the heads")


@pytest.mark.exercise("merge_heads")
class TestMergeHeads:
    @pytest.mark.points(1)
    def test_one_row_for_each_position(self, student, rng):
        """returns one row of width D for each position"""
        B, T, H, K = rng.distinct(4, high=6)
        heads = rng.tensor(B, H, T, K)
        out = student.merge_heads(heads)
        right = join(heads)
        mistakes = {
            f"shape {(B, T, H, K)}: heads and positions are exchanged, but the pieces are not one row yet": (
                heads.transpose(1, 2)
            ),
            f"shape {(B, H, T * K)}: the positions of each head were joined, not the heads of each position": (
                heads.flatten(2)
            ),
            f"shape {(B, H * T, K)}: the heads stand behind one another in time, not side by side": heads.flatten(
                1, 2
            ),
            f"shape {(H, T, B * K)}: the sequences of the batch were joined, not the heads": torch.cat(
                heads.unbind(0), dim=-1
            ),
            f"shape {(B, T, K)}: the heads were added up; each keeps its own features": heads.sum(1),
            f"shape {(B, T, K)}: the heads were averaged; each keeps its own features": heads.mean(1),
        }
        ask = "Which two dimensions become one, and do they stand side by side, H before K, when they do?"
        if isinstance(out, torch.Tensor) and tuple(out.shape) != tuple(right.shape):
            expect.close(out, right, what="the rows", ask=ask, mistakes=mistakes)
        expect.array(out, shape=(B, T, H * K), dtype=torch.float32, what="the rows (B, T, D)", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_one_row_for_each_position")
    def test_agrees_with_concatenation(self, student, rng):
        """puts what the heads have at a position side by side, head 0 first"""
        B, T, H, K = rng.distinct(4, high=6)
        heads = rng.tensor(B, H, T, K)
        right = join(heads)
        mistakes = {
            "numbers of other positions: the shape was changed at once, with H still before T": heads.reshape(
                B, T, H * K
            ),
            "features woven together: the first of every head, then the second of every head, …": heads.permute(
                0, 2, 3, 1
            ).reshape(B, T, H * K),
            "the heads in reverse order": join(heads.flip(1)),
            "numbers of other positions: T and K were exchanged, not H and T": heads.mT.reshape(B, T, H * K),
            "numbers of other positions: H and K were exchanged, not H and T": heads.transpose(1, 3).reshape(
                B, T, H * K
            ),
        }
        ask = "After which exchange do H and K stand side by side, so that joining them gives each position its row?"
        out = student.merge_heads(heads)
        expect.close(out, right, atol=0, rtol=0, what="the rows", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_concatenation")
    def test_leading_dimensions(self, student, rng):
        """works without a batch, with two leading dimensions, for one head, and for heads of width one"""
        A, B, T, H, K = rng.distinct(5, high=6)
        ask = "Do you count dimensions from the end, so that any number may stand in front?"
        for shape in [(H, T, K), (A, B, H, T, K), (B, H, 1, K), (1, H, T, K), (B, 1, T, K), (B, H, T, 1)]:
            heads = rng.tensor(*shape)
            expect.close(student.merge_heads(heads), join(heads), what="the rows", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_concatenation")
    def test_inputs_and_gradients(self, student, rng):
        """leaves its input alone, keeps float64, and sends the right gradient back"""
        B, T, H, K = rng.distinct(4, high=6)
        x = rng.tensor(B, H, T, K, dtype=torch.float64)
        with expect.unchanged(x=x):
            student.merge_heads(x)
        expect.gradients(student.merge_heads, x=x, what="the rows")


@pytest.mark.exercise("MultiHeadAttention")
class TestMultiHeadAttention:
    ASK = "Are `query`, `key`, `value` and `output` four nn.Linear of their own, D to D, made in __init__?"

    def layer(self, student, rng, D, H, bias=True):
        """The learner's layer with weights that we have drawn, and these weights."""
        shapes = {f"{name}.weight": (D, D) for name in MAPS}
        if bias:
            shapes |= {f"{name}.bias": (D,) for name in MAPS}
        m = student.MultiHeadAttention(D, H) if bias else student.MultiHeadAttention(D, H, bias=False)
        ask = self.ASK + ("" if bias else " Does each of them hand on `bias`?")
        return m, loaded(rng, m, shapes, ask)

    def twin(self, weights, D, H, dtype=torch.float32):
        """PyTorch's layer with the same weights."""
        twin = nn.MultiheadAttention(D, H, bias="output.bias" in weights, batch_first=True, dtype=dtype)
        state = {"in_proj_weight": torch.cat([weights[f"{name}.weight"] for name in MAPS[:3]])}
        state["out_proj.weight"] = weights["output.weight"]
        if "output.bias" in weights:
            state["in_proj_bias"] = torch.cat([weights[f"{name}.bias"] for name in MAPS[:3]])
            state["out_proj.bias"] = weights["output.bias"]
        twin.load_state_dict(state)
        return twin

    def attend(self, weights, H, x, memory=None, mask=None):
        """What PyTorch's layer makes of x. Its boolean masks say what is forbidden; each head has a mask of its own."""
        memory = x if memory is None else memory
        if mask is not None:
            mask = mask.expand(len(x), x.shape[1], memory.shape[1]).repeat_interleave(H, dim=0)  # (B·H, T, S)
            mask = ~mask if mask.dtype == torch.bool else mask
        twin = self.twin(weights, x.shape[-1], H, x.dtype)
        return twin(x, memory, memory, attn_mask=mask, need_weights=False)[0].detach()

    def mistakes(self, weights, H, x, memory=None):
        """What known mistakes make of x, as functions."""
        memory = x if memory is None else memory
        plain = {name: value for name, value in weights.items() if "weight" in name}
        right = self.attend(weights, H, x, memory)
        return known(weights, H, x, memory) | {
            "maps without their bias": lambda: self.attend(plain, H, x, memory),
            "maps turned round, x @ weight: nn.Linear keeps its weight as (outputs, inputs)": lambda: (
                self.attend(
                    {name: value.T if "weight" in name else value for name, value in weights.items()},
                    H,
                    x,
                    memory,
                )
            ),
            "the output plus x: nothing is to be added here": lambda: right + x,
            "the map `output` applied twice": lambda: linear(right, weights, "output"),
            "the bias of `output` added twice": lambda: right + weights.get("output.bias", 0.0),
            "an output that was normed: a norm belongs to the layer around this one": lambda: F.layer_norm(
                right, right.shape[-1:]
            ),
        }

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns four linear maps from D to D, all with a bias or all without"""
        H, K = rng.distinct(2, high=5)
        self.layer(student, rng, H * K, H)
        self.layer(student, rng, H * K, H, bias=False)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_parameters")
    def test_agrees_with_pytorch(self, student, rng):
        """agrees with nn.MultiheadAttention on the same weights"""
        B, T, H, K = rng.distinct(4, high=5)
        m, weights = self.layer(student, rng, H * K, H)
        for shape in [(B, T, H * K), (1, T, H * K), (B, 1, H * K), (B + 1, T, H * K)]:
            x = rng.tensor(*shape)
            ask = HEADS_PASS + " What happens between them, and what after?"
            out = m(x.clone())
            expect.array(
                out,
                shape=shape,
                dtype=torch.float32,
                ask="The output is like x, (B, T, D). Which step ends otherwise?",
            )
            chance = "Is chance at work, such as dropout? This layer has none."
            expect.close(m(x.clone()), out.detach(), what="a second answer to the same x", ask=chance)
            expect.close(out, self.attend(weights, H, x), ask=ask, mistakes=self.mistakes(weights, H, x))

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_one_head_and_many(self, student, rng):
        """works with one head, with as many heads as features, and without biases"""
        B, T, H, K = rng.distinct(4, high=5)
        for heads, bias in ((1, True), (H * K, True), (H, False)):
            m, weights = self.layer(student, rng, H * K, heads, bias)
            x = rng.tensor(B, T, H * K)
            ask = "Is the width of a head D / H, whatever H is?"
            mistakes = self.mistakes(weights, heads, x)
            what = f"the output of {heads} head{'s' if heads > 1 else ''}"
            expect.close(m(x), self.attend(weights, heads, x), what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_memory(self, student, rng):
        """takes keys and values from the memory, where one is given"""
        B, T, S, H, K = rng.distinct(5, high=6)
        m, weights = self.layer(student, rng, H * K, H)
        for size in (T, S, 1):
            x, memory = rng.tensor(B, T, H * K), rng.tensor(B, size, H * K)
            mistakes = self.mistakes(weights, H, x, memory)
            ask = "Which of the three maps read x, and which the memory?"
            expected = self.attend(weights, H, x, memory)
            expect.close(m(x, memory), expected, ask=ask, mistakes=mistakes)
        mask = permitted(rng, T, S)
        x, memory = rng.tensor(B, T, H * K), rng.tensor(B, S, H * K)
        mistakes = masked(
            (B, T, S),
            mask,
            lambda mask: self.attend(weights, H, x, memory, mask),
            lambda **way: by_hand(weights, H, x, memory, **way),
        )
        ask = "Is the mask handed on in cross-attention too? Are x, memory and mask the arguments, in this order?"
        out, expected = m(x, memory, mask), self.attend(weights, H, x, memory, mask)
        expect.close(out, expected, ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_masks(self, student, rng):
        """hands every mask that broadcasts on, boolean or additive"""
        B, T, S, H, K = rng.distinct(5, high=6)
        T, S = sorted((T, S))  # two keys and one forbidden would leave nothing to prefer
        m, weights = self.layer(student, rng, H * K, H)
        x, memory = rng.tensor(B, T, H * K), rng.tensor(B, S, H * K)
        for shape in [(T, S), (B, 1, S), (1, T, S), (B, T, S)]:
            for mask in forms(rng, permitted(rng, *shape)):
                out = m(x, memory, mask=mask)
                mistakes = masked(
                    (B, T, S),
                    mask,
                    lambda mask: self.attend(weights, H, x, memory, mask),
                    lambda **way: by_hand(weights, H, x, memory, **way),
                )
                ask = lines_up("(B, H, T, S)", (B, H, T, S), mask)
                expect.close(out, self.attend(weights, H, x, memory, mask), ask=ask, mistakes=mistakes)
        mask = permitted(rng, T, T)
        expect.close(
            m(x, mask=mask),
            self.attend(weights, H, x, mask=mask),
            ask="Does self-attention get the mask too?",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_mask_belongs_to_sequences(self, student, rng):
        """holds a sequence's mask for all its heads, where there are as many heads as sequences"""
        H, S, K = rng.distinct(3, low=3, high=6)
        B = T = H
        m, weights = self.layer(student, rng, H * K, H)
        x, memory = rng.tensor(B, T, H * K), rng.tensor(B, S, H * K)
        for mask in (*forms(rng, permitted(rng, B, T, S)), permitted(rng, B, 1, S)):
            mistakes = misplaced(mask, lambda mask: by_hand(weights, H, x, memory, mask=mask))
            ask = f"Here B = H = {H}, so that shapes fit by accident. Which dimension of the mask stands for the heads?"
            out = m(x, memory, mask)
            expect.close(out, self.attend(weights, H, x, memory, mask), ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_masks")
    def test_nothing_permitted(self, student, rng):
        """answers with the bias of `output`, and finite gradients, where a position may attend to nothing"""
        B, T, S, H, K = rng.distinct(5, high=6)
        m, weights = self.layer(student, rng, H * K, H)
        x, memory, mask = rng.tensor(B, T, H * K), rng.tensor(B, S, H * K), permitted(rng, B, T, S)
        mask[0, 0] = mask[-1, -1] = False
        empty = ~mask.any(-1, keepdim=True)
        expected = self.attend(weights, H, x, memory, mask | empty)
        expected = torch.where(empty, weights["output.bias"], expected)
        x.requires_grad_()
        out = m(x, memory, mask)
        even = self.attend(weights, H, x, memory, torch.where(empty, -1e9, torch.where(mask, 0.0, -INF)))
        mistakes = {
            "NaN in the rows without a permitted key": expected.masked_fill(empty, np.nan),
            "the average of all values in the rows without a permitted key": torch.where(
                empty, even, expected
            ),
            "zeros in the rows without a permitted key: the heads find zero, and `output` adds its bias": (
                expected.masked_fill(empty, 0.0)
            ),
        }
        ask = "`scaled_dot_product_attention` of unit 08 finds zero there. What does the map `output` make of zero?"
        expect.close(out, expected, ask=ask, mistakes=mistakes)
        found = expect.gradient(out, x)
        expect.holds(
            found.isfinite().all(),
            expected="a finite gradient",
            got=f"{int((~found.isfinite()).sum())} of {found.numel()} entries are NaN or infinite",
            ask="Is there a NaN on the way that a later step only hides?",
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_heads_do_not_mix(self, student, rng):
        """lets each head look at its own features only, until `output` mixes them"""
        H, T, K = rng.distinct(3, low=2, high=4)
        D = H * K
        m, weights = self.layer(student, rng, D, H)
        m.load_state_dict(
            {name: torch.eye(D) if "weight" in name else torch.zeros(D) for name in weights}, strict=False
        )
        reach = feature_reach(m, rng.tensor(1, T, D))
        for i, j in np.ndindex(D, D):
            one, two = f"feature {i} of the output (head {i // K})", f"feature {j} of x (head {j // K})"
            with_ones = f"With all four maps the identity, {H} heads of width {K}:"
            expect.holds(
                i // K == j // K or not reach[i, j],
                expected=f"{with_ones} {one} independent of {two}",
                got="a gradient that is not zero",
                ask="Where do features of two heads meet before `output`: in the split, in the softmax, in the merge?",
            )
            expect.holds(
                i // K != j // K or reach[i, j],
                expected=f"{with_ones} {one} to depend on {two}",
                got="a gradient of exactly zero",
                ask="Are the K features of a head neighbours, and do they come back to the place they came from?",
            )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_reach(self, student, rng):
        """depends on exactly the positions that a causal and a padding mask permit"""
        H, K = rng.distinct(2, high=4)
        m, _ = self.layer(student, rng, H * K, H)
        reach_of_causal_attention(rng, m, 2, int(rng.integers(4, 6)), H * K)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_reach_into_the_memory(self, student, rng):
        """depends on exactly the positions of its own memory that a mask permits"""
        T, S, H, K = rng.distinct(4, high=5)
        m, _ = self.layer(student, rng, H * K, H)
        x, mask = rng.tensor(2, T, H * K), permitted(rng, 2, 1, S)
        allowed = torch.zeros(2, T, 2, S, dtype=torch.bool)
        allowed[0, :, 0], allowed[1, :, 1] = mask[0], mask[1]

        def attended(memory):
            out = m(x, memory, mask)
            expect.array(out, shape=(2, T, H * K), dtype=torch.float32)
            return out

        expect.reaches(attended, rng.tensor(2, S, H * K), allowed)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_refuses_unequal_heads(self, student, rng):
        """raises ValueError where the heads cannot share the width equally"""
        H, K = rng.distinct(2, low=3, high=6)
        ask = "When should somebody learn of it: when the layer is made, or when a batch arrives?"
        for width in (H * K + 1, H * K - 1, H - 1):
            when = f"for a width of {width} and {H} heads, when the layer is made"
            expect.raises(
                ValueError, lambda width=width: student.MultiHeadAttention(width, H), when=when, ask=ask
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_memory")
    def test_inputs_and_gradients(self, student, rng):
        """leaves its inputs alone, works in float64, and sends the right gradients back"""
        B, T, S, H, K = rng.distinct(5, high=6)
        m, _ = self.layer(student, rng, H * K, H)
        m.double()
        x, memory = (rng.tensor(B, size, H * K, dtype=torch.float64) for size in (T, S))
        mask = permitted(rng, B, 1, S)
        with expect.unchanged(x=x, memory=memory, mask=mask):
            m(x, memory, mask)
        expect.gradients(lambda x, memory: m(x, memory, mask), x=x, memory=memory)
        expect.gradients(lambda x: m(x), x=x)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_memory")
    def test_every_map_learns(self, student, rng):
        """sends the right gradient to each weight and bias of its four maps"""
        B, T, S, H, K = rng.distinct(5, high=6)
        m, weights = self.layer(student, rng, H * K, H)
        m.double()
        x, memory, given = (rng.tensor(B, size, H * K, dtype=torch.float64) for size in (T, S, T))
        copies = {name: weight.double().requires_grad_() for name, weight in weights.items()}
        parts = [cut(linear(y, copies, name), H) for y, name in zip((x, memory, memory), MAPS, strict=False)]
        (linear(join(F.scaled_dot_product_attention(*parts)), copies, "output") * given).sum().backward()
        out = m(x.requires_grad_(), memory)
        expect.array(out, shape=(B, T, H * K), dtype=torch.float64)
        expect.gradient(out, x, given)
        same_gradients(m, copies, "that PyTorch finds on the same weights")


@pytest.mark.exercise("count_parameters")
class TestCountParameters:
    def whole(self, value, expected, what, ask, mistakes):
        """Expect a whole number."""
        if isinstance(value, (float, np.floating)):
            says = "Is one of your divisions `/`? `//` keeps whole numbers whole."
            expect.fail(expected=f"{what} as a whole number", got=f"{float(value):g}, a float", ask=says)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            says = "Plain arithmetic on the arguments gives an int. What does your `return` hand back?"
            came = "None" if value is None else f"something else, of type {type(value).__name__}"
            expect.fail(expected=f"{what} as a whole number, an int", got=came, ask=says)
        expect.equal(value, expected, what=what, ask=ask, mistakes=mistakes)

    def built(self, *maps, bias):
        """What PyTorch has in linear maps of these sizes."""
        return sum(p.numel() for sizes in maps for p in nn.Linear(*sizes, bias=bias).parameters())

    @pytest.mark.points(2)
    def test_agrees_with_pytorch(self, student, rng):
        """counts what nn.MultiheadAttention has, weights and biases"""
        H, K = rng.distinct(2, low=3, high=8)
        D = H * K
        for heads in (H, K, 1, D):
            expected = sum(p.numel() for p in nn.MultiheadAttention(D, heads).parameters())
            mistakes = {
                "the weights only: each map has a bias as well": 4 * D * D,
                "three maps: there are four, query, key, value and output": 3 * D * (D + 1),
                "as many maps as there are heads, each from D to D": heads * 3 * D * (D + 1) + D * (D + 1),
                "four maps for every head, each from D to D": heads * 4 * D * (D + 1),
                "maps from D to K: all heads together are D wide": 3 * (D // heads) * (D + 1) + D * (D + 1),
                "four maps from D to K: all heads together are D wide": 4 * (D // heads) * (D + 1),
                "a bias for three of four maps": 4 * D * D + 3 * D,
                "one bias for all four maps": 4 * D * D + D,
                "biases for two of four maps": 4 * D * D + 2 * D,
                "one number for each bias: a bias is a vector of D numbers": 4 * D * D + 4,
                "a bias for each head": 4 * D * D + 4 * heads,
                "two biases for each map": 4 * D * (D + 2),
                "one pair of key and value heads: without `groups` there are as many as heads": (
                    2 * (D + D // heads) * (D + 1)
                ),
                "one map only": D * (D + 1),
            }
            ask = "How many linear maps are there, of which sizes, and does cutting their results cost a parameter?"
            what = f"the count for D = {D} and {heads} head{'s' if heads > 1 else ''}"
            self.whole(student.count_parameters(D, heads), expected, what, ask, mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_without_bias(self, student, rng):
        """leaves the biases out where there are none"""
        H, K = rng.distinct(2, low=3, high=8)
        D = H * K
        for groups in (None, H):
            expected = self.built(*[(D, D)] * 4, bias=False)
            mistakes = {
                "a count with biases": 4 * D * (D + 1),
                "a count from which biases were taken away": 4 * D * (D - 1),
                "three maps: there are four, query, key, value and output": 3 * D * D,
            }
            value = student.count_parameters(D, H, groups, bias=False)
            what = f"the count for D = {D}, {H} heads and no bias"
            self.whole(value, expected, what, "What does each map have beside its weight?", mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_groups(self, student, rng):
        """counts narrower maps for keys and values where heads share them"""
        G, share, K = rng.distinct(3, low=2, high=6)
        H = G * share
        D = H * K
        for groups, bias in ((G, True), (G, False), (1, True), (1, False), (H, True)):
            narrow = groups * K
            expected = self.built((D, D), (D, narrow), (D, narrow), (D, D), bias=bias)
            mistakes = {
                "the count without groups: `groups` was not used": 4 * D * (D + bias),
                "narrow keys, but values as wide as the model": 3 * D * (D + bias) + narrow * (D + bias),
                "maps from D to D / G for keys and values: G heads of width K are G·K wide": (
                    2 * (D + D // groups) * (D + bias)
                ),
                "maps from D to G for keys and values: each of the G heads is K wide": 2
                * (D + groups)
                * (D + bias),
                "maps from D to K for keys and values: there are G heads of width K": 2
                * (D + K)
                * (D + bias),
                "maps that are all narrow: queries and output keep all heads": 4 * narrow * (D + bias),
                "narrow queries, or a narrow `output`, too: only keys and values are shared": (
                    (3 * narrow + D) * (D + bias)
                ),
                "biases of D numbers for the narrow maps: a bias is as wide as what its map returns": (
                    2 * (D + narrow) * D + 4 * D * bias
                ),
                "heads of width D / G: K is D / H, shared or not": 2
                * (D + groups * (D // groups))
                * (D + bias),
                "a count that does not heed `bias`": 2 * (D + narrow) * (D + (not bias)),
            }
            what = (
                f"the count for D = {D}, {H} heads and {groups} key and value head{'s' if groups > 1 else ''}"
            )
            ask = "How wide are all keys of a position together, if there are G heads of width K = D / H?"
            value = student.count_parameters(D, H, groups, bias)
            self.whole(value, expected, what, ask, mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_groups")
    def test_by_formula(self, student, rng):
        """counts a layer that no machine could hold, to the last parameter"""
        G, share = rng.distinct(2, low=2, high=4)
        H = G * share
        K = int(rng.integers(2**21, 2**22)) * 2 + 1
        D, narrow = H * K, G * K
        ask = "Do you count by formula, in whole numbers, or build the layer first?"
        try:
            value = student.count_parameters(D, H, G, True)
        except (RuntimeError, MemoryError) as error:
            if "alloc" not in str(error):
                raise
            expect.fail(expected=f"a count for D = {D}", got="no memory left to build such a layer", ask=ask)
        self.whole(value, 2 * (D + narrow) * (D + 1), f"the count for D = {D}", ask, {})


@pytest.mark.exercise("GroupedQueryAttention")
class TestGroupedQueryAttention:
    ASK = (
        "Are `query` and `output` maps from D to D, `key` and `value` maps from D to G·K with K = D / H, none with a "
        "bias?"
    )

    def layer(self, student, rng, G, share, K):
        """The learner's layer with weights that we have drawn, and these weights."""
        H = G * share
        D, narrow = H * K, G * K
        shapes = {"query.weight": (D, D), "key.weight": (narrow, D), "value.weight": (narrow, D)}
        m = student.GroupedQueryAttention(D, H, G)
        return m, loaded(rng, m, shapes | {"output.weight": (D, D)}, self.ASK)

    def attend(self, weights, x, H, G, mask=None):
        """What PyTorch's grouped attention makes of x."""
        mask = mask.unsqueeze(1) if mask is not None and mask.ndim == 3 else mask
        q, k, v = (cut(linear(x, weights, name), n) for name, n in zip(MAPS, (H, G, G), strict=False))
        found = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
        return linear(join(found), weights, "output")

    def mistakes(self, weights, x, H, G):
        """What known mistakes make of x, as functions."""

        def first(heads, share):
            return near(heads[:, :1].expand_as(heads), share)

        def average(heads, share):
            return near(heads.mean(1, keepdim=True).expand_as(heads), share)

        def reversed_(heads, share):
            return near(heads.flip(1), share)

        def rows(heads, share):
            return heads.repeat_interleave(share, 2).reshape(len(heads), -1, *heads.shape[2:])

        def along_the_batch(heads, share):
            return heads.repeat(share, 1, 1, 1).reshape(len(heads), -1, *heads.shape[2:])

        def features(heads, share):
            return cut(join(heads).repeat_interleave(share, -1), H)

        ways = {
            "groups tiled, 0 1 0 1 …: neighbours should share, 0 0 1 1 …": (far, far),
            "keys tiled, 0 1 0 1 …, and values not: neighbours should share both, 0 0 1 1 …": (far, near),
            "values tiled, 0 1 0 1 …, and keys not: neighbours should share both, 0 0 1 1 …": (near, far),
            "the first pair of keys and values for all heads": (first, first),
            "the average of the groups' keys and values for all heads": (average, average),
            "the groups in reverse order": (reversed_, reversed_),
            "copies along the positions: repeat the heads, not the rows": (rows, rows),
            "heads mixed up with the batch: copies were laid down along the batch": (along_the_batch,) * 2,
            "copies cut from the features: repeat the heads, not the features of a row": (features, features),
        }
        right = self.attend(weights, x, H, G)
        return (
            known(weights, H, x, x, G)
            | {"the output plus x: nothing is to be added here": right + x}
            | {
                name: lambda copies=copies: by_hand(weights, H, x, x, G, copies=copies)
                for name, copies in ways.items()
            }
        )

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns four linear maps without bias, those of keys and values only G·K wide"""
        G, share, K = rng.distinct(3, low=2, high=4)
        for groups, heads in ((G, share), (1, share), (G, 1)):
            self.layer(student, rng, groups, heads, K)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_parameters")
    def test_agrees_with_pytorch(self, student, rng):
        """agrees with PyTorch's grouped attention on the same weights"""
        G, share, K, B, T = rng.distinct(5, high=6)
        H = G * share
        m, weights = self.layer(student, rng, G, share, K)
        for shape in [(B, T, H * K), (1, T, H * K), (B, 1, H * K), (B + 1, T, H * K)]:
            x = rng.tensor(*shape)
            ask = f"{H} query heads, {G} pairs of key and value heads: which pair belongs to head h?"
            mistakes = self.mistakes(weights, x, H, G)
            expect.close(m(x.clone()), self.attend(weights, x, H, G), ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_one_group_and_as_many_as_heads(self, student, rng):
        """is multi-query attention with one group, multi-head attention with as many groups as heads"""
        H, K, B, T = rng.distinct(4, high=5)
        for G, name in ((1, "multi-query attention, G = 1"), (H, "multi-head attention, G = H")):
            m, weights = self.layer(student, rng, G, H // G, K)
            x = rng.tensor(B, T, H * K)
            what = f"the output ({name})"
            ask = "Which key head belongs to query head h when H / G is H, and when it is 1?"
            mistakes = self.mistakes(weights, x, H, G)
            expect.close(m(x), self.attend(weights, x, H, G), what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_masks(self, student, rng):
        """holds every mask that broadcasts for all heads, boolean or additive"""
        G, share, K, B, T = rng.distinct(5, high=6)
        B, T = sorted((B, T))  # two keys and one forbidden would leave nothing to prefer
        H = G * share
        m, weights = self.layer(student, rng, G, share, K)
        x = rng.tensor(B, T, H * K)
        for shape in [(T, T), (B, 1, T), (1, T, T), (B, T, T)]:
            for mask in forms(rng, permitted(rng, *shape)):
                mistakes = masked(
                    (B, T, T),
                    mask,
                    lambda mask: self.attend(weights, x, H, G, mask),
                    lambda **way: by_hand(weights, H, x, x, G, **way),
                )
                ask = lines_up("(B, H, T, T)", (B, H, T, T), mask)
                expected = self.attend(weights, x, H, G, mask)
                expect.close(m(x, mask), expected, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_mask_belongs_to_sequences(self, student, rng):
        """holds a sequence's mask for all its heads, where there are as many heads as sequences"""
        G, share, K = rng.distinct(3, low=2, high=4)
        B = T = H = G * share
        m, weights = self.layer(student, rng, G, share, K)
        x = rng.tensor(B, T, H * K)
        for mask in (*forms(rng, permitted(rng, B, T, T)), permitted(rng, B, 1, T)):
            mistakes = misplaced(mask, lambda mask: by_hand(weights, H, x, x, G, mask=mask))
            ask = f"Here B = H = {H}, so that shapes fit by accident. Which dimension of the mask stands for the heads?"
            expect.close(m(x, mask), self.attend(weights, x, H, G, mask), ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_groups_serve_their_own_heads(self, student, rng):
        """lets each query head look up in the keys and values of its own group only"""
        G, share, K = (int(n) for n in rng.permutation([2, 2, 3]))
        H, T = G * share, int(rng.integers(3, 5))
        D, narrow = H * K, G * K
        m, _ = self.layer(student, rng, G, share, K)
        first = torch.eye(narrow, D)  # group g reads slice g of x
        m.load_state_dict(
            {
                "query.weight": torch.eye(D),
                "key.weight": first,
                "value.weight": first,
                "output.weight": torch.eye(D),
            },
            strict=False,
        )
        reach = feature_reach(m, rng.tensor(1, T, D))
        start = "With maps that copy features:"
        for i, j in np.ndindex(D, D):
            head, group = i // K, i // K // share
            one = f"feature {i} of the output (head {head}, which shares pair {group})"
            asked, found = j // K == head, j // K == group
            expect.holds(
                asked or found or not reach[i, j],
                expected=f"{start} {one} independent of feature {j} of x, "
                + (
                    f"which only pair {j // K} reads" if j < narrow else f"which only head {j // K} asks with"
                ),
                got="a gradient that is not zero",
                ask=f"Head h belongs to pair h // {share}. To which pair does your head {head} belong?",
            )
            expect.holds(
                not (asked or found) or reach[i, j],
                expected=f"{start} {one} to depend on feature {j} of x, "
                + ("which its own query holds" if asked else "which its pair of key and value heads reads"),
                got="a gradient of exactly zero",
                ask=f"Head h belongs to pair h // {share}. To which pair does your head {head} belong?",
            )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_reach(self, student, rng):
        """depends on exactly the positions that a causal and a padding mask permit"""
        G, share, K = (int(n) for n in rng.permutation([2, 2, 3]))
        m, _ = self.layer(student, rng, G, share, K)
        reach_of_causal_attention(rng, m, 2, int(rng.integers(4, 6)), G * share * K)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_refuses_what_does_not_divide(self, student, rng):
        """raises ValueError where heads do not divide the width, or groups the heads"""
        G, share, K = rng.distinct(3, low=3, high=5)
        H = G * share
        D = H * K
        for width, heads, groups, which in (
            (D + 1, H, G, "the width is no multiple of the heads"),
            (D - G, H, G, "the width is no multiple of the heads"),
            (D * (H + 1), H + 1, G, "the heads are no multiple of the groups"),
            (D, H, 2 * H, "the heads are no multiple of the groups"),
        ):
            expect.raises(
                ValueError,
                lambda width=width, heads=heads, groups=groups: student.GroupedQueryAttention(
                    width, heads, groups
                ),
                when=f"for a width of {width}, {heads} heads and {groups} groups: {which}",
                ask="Which two divisions have to come out even, and what does `%` say of them?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_inputs_and_gradients(self, student, rng):
        """leaves its inputs alone, works in float64, and sends the right gradient back"""
        G, share, K, B, T = rng.distinct(5, high=6)
        m, _ = self.layer(student, rng, G, share, K)
        m.double()
        x, mask = rng.tensor(B, T, G * share * K, dtype=torch.float64), permitted(rng, B, 1, T)
        mask[0] = False  # a sequence without any token: its gradient is zero, never NaN
        with expect.unchanged(x=x, mask=mask):
            m(x, mask)
        expect.gradients(lambda x: m(x, mask), x=x)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_every_map_learns(self, student, rng):
        """sends the right gradient to each weight of its four maps"""
        G, share, K, B, T = rng.distinct(5, high=6)
        H = G * share
        m, weights = self.layer(student, rng, G, share, K)
        m.double()
        x, given = (rng.tensor(B, T, H * K, dtype=torch.float64) for _ in range(2))
        copies = {name: weight.double().requires_grad_() for name, weight in weights.items()}
        (self.attend(copies, x, H, G) * given).sum().backward()
        out = m(x.requires_grad_())
        expect.array(out, shape=(B, T, H * K), dtype=torch.float64)
        expect.gradient(out, x, given)
        same_gradients(m, copies, "that PyTorch finds on the same weights")
