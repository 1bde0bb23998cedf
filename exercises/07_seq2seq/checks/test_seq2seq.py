"""Checks of unit 07: what the decoder is shown, the encoder, additive attention, one step, and writing by itself.

Every check draws fresh inputs. Encoder and step are judged by PyTorch's own GRU with the same weights, each source
alone and without padding; attention by a loop in float64; greedy decoding by scripts, functions of the check that the
learner's loop calls back.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from proctor import expect
from proctor.proxies import sketch

DOUBLE = torch.float64
INF = float("inf")


def listed(value, count, what, ask):
    """The things that a function returns together; a tuple or a list of so many."""
    several = isinstance(value, (tuple, list)) and len(value) == count
    expect.holds(several, expected=f"{what}, in a tuple", got=sketch(value), ask=ask)
    return value


def real_tokens(rng, B, S):
    """A mask (B, S) that is True on the first tokens of each row; lengths are ragged, not sorted, and one is S."""
    lengths = rng.integers(1, S, B)
    lengths[1 + int(rng.integers(B - 1))] = S  # never the first, so that they do not come in falling order
    return torch.arange(S) < torch.from_numpy(lengths)[:, None]


@pytest.mark.exercise("shift_right")
class TestShiftRight:
    def target(self, rng, B, T):
        """Ids in no order, different within a row and from row to row, and a begin that is none of them."""
        ids = rng.permutation(np.arange(5, 5 + B * T + 9))
        return torch.from_numpy(ids[: B * T].reshape(B, T).copy()), int(ids[-1])

    @pytest.mark.points(1)
    def test_shape_and_type(self, student, rng):
        """returns as many ids as the target has"""
        B, T = rng.distinct(2, low=3)
        target, begin = self.target(rng, B, T)
        out = student.shift_right(target, begin)
        if isinstance(out, torch.Tensor) and tuple(out.shape) in ((B, T + 1), (B, T - 1), (B + 1, T)):
            more = f"shape {tuple(out.shape)}"
            said = {
                (B, T + 1): f"{more}: begin came in front, and the last token was kept",
                (B, T - 1): f"{more}: the last token went, and begin did not come",
                (B + 1, T): f"{more}: begin came in front of the batch, as a row of its own",
            }
            ask = "Every step is shown one token. How many steps are there, and what is asked after the last token?"
            expect.fail(expected=f"ids of shape {(B, T)}", got=said[tuple(out.shape)], ask=ask)
        expect.array(
            out, shape=(B, T), dtype=torch.int64, what="what is shown", ask="Ids stay whole numbers."
        )
        expect.holds(
            not torch.equal(out, target),
            expected="something else than the target",
            got="the target as it is: every step is shown the very token that it is asked for",
            ask="What may the decoder know when it has to write the first token?",
        )

    @pytest.mark.points(3)
    @pytest.mark.needs("test_shape_and_type")
    def test_shows_the_token_before(self, student, rng):
        """shows each step the token before, and the first one `begin`"""
        B, T = rng.distinct(2, low=3)
        target, begin = self.target(rng, B, T)
        expected = torch.tensor([[begin, *row[:-1]] for row in target.tolist()])
        out = student.shift_right(target.clone(), begin)
        first = expected[:, :1]
        later = torch.cat([target[:, 1:], first], 1)
        mistakes = {
            "the target with its first token overwritten: step 1 is shown token 1, the one that it is asked for": (
                torch.cat([first, target[:, 1:]], 1)
            ),
            "the target moved to the left: every step is shown the token after the one that it is asked for": later,
            "the target moved to the left, and its last token twice: it is shown the future": torch.cat(
                [target[:, 1:], target[:, -1:]], 1
            ),
            "the target rolled: its last token came round to the front, where `begin` belongs": target.roll(
                1, 1
            ),
            "the target rolled to the left: every step is shown the future": target.roll(-1, 1),
            "0 in front: `begin` is the id to use": torch.cat([torch.zeros_like(first), target[:, :-1]], 1),
            "1 in front: `begin` is the id to use": torch.cat([torch.ones_like(first), target[:, :-1]], 1),
            "2 in front: `begin` is the id to use": torch.cat([torch.full_like(first, 2), target[:, :-1]], 1),
            "the first token twice: `begin` belongs in front of it": torch.cat(
                [target[:, :1], target[:, :-1]], 1
            ),
            "the target moved by two places": torch.cat([first, first, target[:, :-2]], 1),
            "the target moved down the batch: each row was shown another row": torch.cat(
                [torch.full_like(target[:1], begin), target[:-1]]
            ),
            "`begin` in every place of the first row: it belongs into the first column": torch.cat(
                [torch.full_like(target[:1], begin), target.roll(1, 1)[1:]]
            ),
            "`begin` and then one token throughout: each column was copied from one that had been written over": (
                torch.cat([first, target[:, :1].expand(B, T - 1)], 1)
            ),
            "`begin` throughout: each column was copied from one that had been written over": first.expand(
                B, T
            ),
            "the target back to front": torch.cat([first, target.flip(1)[:, :-1]], 1),
            "the target back to front, without `begin`": target.flip(1),
        }
        ask = "Write target and result below each other. Which token stands above which?"
        expect.equal(out, expected, what="what is shown", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_shows_the_token_before")
    def test_padding_and_small_sizes(self, student, rng):
        """keeps padding and ends in their order, and works for one sequence and one step"""
        begin = int(rng.integers(5, 20))
        B, T = int(rng.integers(3, 6)), 6
        target = torch.from_numpy(rng.integers(30, 60, (B, T)))
        mask = real_tokens(rng, B, T)
        target = target.masked_fill(~mask, 0)
        target[torch.arange(B), mask.sum(1) - 1] = 2
        for given in (target, target[:1], target[:, :1], target[:1, :1]):
            expected = torch.tensor([[begin, *row[:-1]] for row in given.tolist()])
            out = student.shift_right(given.clone(), begin)
            mistakes = {
                "the result without ends: they are tokens like others": expected.masked_fill(
                    expected == 2, 0
                ),
                "another order of `begin` and padding: `begin` comes first in every row": torch.where(
                    expected == begin, 0, expected
                ),
            }
            ask = "Does anything in your code look at what the ids mean? It need not."
            expect.equal(out, expected, what="what is shown", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_shows_the_token_before")
    def test_target_stays(self, student, rng):
        """leaves the target as it is"""
        B, T = rng.distinct(2, low=3)
        target, begin = self.target(rng, B, T)
        with expect.unchanged(target=target):
            student.shift_right(target, begin)


class Twin(nn.Module):
    """PyTorch's own layers with the weights that the learner's model is given."""

    def __init__(self, N, V, D, H, K):
        super().__init__()
        self.source_embedding = nn.Embedding(N, D)
        self.encoder = nn.GRU(D, H, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * H, H)
        self.query = nn.Linear(H, K, bias=False)
        self.key = nn.Linear(2 * H, K, bias=False)
        self.v = nn.Parameter(torch.zeros(K))
        self.target_embedding = nn.Embedding(V, D)
        self.cell = nn.GRUCell(D + 2 * H, H)
        self.output = nn.Linear(3 * H, V)


class Pair:
    """A model on the learner's side and its twin here, with the same weights, drawn here; and their sizes."""

    def __init__(self, student, rng, pad=0, dtype=torch.float32):
        self.H = int(rng.integers(3, 6))
        self.D, self.K, self.N, self.V = (
            int(n) for n in rng.permutation([n for n in range(2, 15) if n not in (self.H, 2 * self.H)])[:4]
        )
        self.N, self.V = self.N + 15, self.V + 16
        sizes = (self.N, self.V, self.D, self.H, self.K)
        self.twin = Twin(*sizes).to(dtype)
        self.twin.load_state_dict(
            {name: rng.tensor(*p.shape, scale=0.7, dtype=dtype) for name, p in self.twin.named_parameters()}
        )
        self.pad, self.rng = pad, rng
        self.model = student.Seq2Seq(*sizes, pad=pad)
        self.model.to(dtype)
        self.model.load_state_dict(self.twin.state_dict())

    def source(self, B, S, mask=None):
        """Ids (B, S), none of them the padding's, which stands where the mask is False."""
        ids = torch.from_numpy(self.rng.integers(0, self.N - 1, (B, S)))
        ids = ids + (ids >= self.pad)
        return ids if mask is None else ids.masked_fill(~mask, self.pad)

    def alone(self, source):
        """States and summaries of sources read one by one, each without its padding."""
        states = torch.zeros(*source.shape, 2 * self.H, dtype=self.twin.v.dtype)
        summaries = []
        for b, row in enumerate(source):
            ids = row[row != self.pad]
            out, last = self.twin.encoder(self.twin.source_embedding(ids[None]))
            states[b, : len(ids)] = out[0]
            summaries.append(torch.cat([last[0, 0], last[1, 0]]))
        return states, torch.stack(summaries)

    def learnt(self, names, twin_loss, given_back, what):
        """Compare the gradients of the named weights on both sides, after ``given_back`` has sent them back."""
        self.twin.zero_grad()
        twin_loss.backward()
        given_back()
        shapes = {name: tuple(p.shape) for name, p in self.twin.named_parameters()}
        found = expect.parameters(
            self.model, shapes, ask="The model's parameters are given: are they as they were?"
        )
        ask = "Does every step stay on the graph, without .detach(), .data, .item() or torch.no_grad()?"
        for name, p in self.twin.named_parameters():
            if name.startswith(names):
                grad = found[name].grad
                expect.holds(grad is not None, expected=f"a gradient for {name}", got="none", ask=ask)
                expect.close(grad, p.grad, atol=1e-8, what=f"the gradient of {name}, from {what},", ask=ask)


@pytest.mark.exercise("encode")
class TestEncode:
    def call(self, student, pair, source):
        """States and summary, of the right shapes."""
        ask = "States for every token, and one summary of each source: does your function return both?"
        out = listed(student.encode(pair.model, source), 2, "states and summary", ask)
        B, S = source.shape
        wide = 2 * pair.H
        dtype = pair.twin.v.dtype
        if isinstance(out[0], (tuple, list)) and len(out[0]) == 4:
            ask = "What turns a packed sequence back into a tensor with a row for each source?"
            expect.fail(expected=f"states of shape {(B, S, wide)}", got="a packed sequence", ask=ask)
        if isinstance(out[0], torch.Tensor) and out[0].ndim == 3 and len(out[0]) == B and out[0].shape[1] < S:
            got = f"{out[0].shape[1]} columns, as many as the longest source has tokens"
            ask = "The batch was padded to S columns. What does pad_packed_sequence's `total_length` do?"
            expect.fail(expected=f"states of shape {(B, S, wide)}", got=got, ask=ask)
        ask = "Forward and backward state stand side by side: H and H make 2H. Is the batch the first dimension?"
        expect.array(out[0], shape=(B, S, wide), dtype=dtype, what="the states (B, S, 2H)", ask=ask)
        ask = "A GRU's last states have the shape (2, B, H), one layer for each direction. How do they become (B, 2H)?"
        expect.array(out[1], shape=(B, wide), dtype=dtype, what="the summary (B, 2H)", ask=ask)
        return out

    @pytest.mark.points(1)
    def test_shapes(self, student, rng):
        """returns states (B, S, 2H) and a summary (B, 2H)"""
        pair = Pair(student, rng)
        B, S = int(rng.integers(3, 5)), int(rng.integers(5, 8))
        self.call(student, pair, pair.source(B, S))
        self.call(student, pair, pair.source(1, 1))

    @pytest.mark.points(2)
    @pytest.mark.needs("test_shapes")
    def test_without_padding(self, student, rng):
        """agrees with PyTorch's GRU where no source is padded"""
        pair = Pair(student, rng)
        B, S = int(rng.integers(3, 5)), int(rng.integers(5, 8))
        source = pair.source(B, S)
        x = pair.twin.source_embedding(source)
        expected, last = pair.twin.encoder(x)
        states, summary = self.call(student, pair, source)
        H = pair.H
        ahead, back = expected[..., :H], expected[..., H:]
        mistakes = {
            "backward states in the place of forward ones, and the other way round": torch.cat(
                [back, ahead], -1
            ),
            "backward states in the order of reading: turned round again, row s belongs to token s": (
                torch.cat([ahead, back.flip(1)], -1)
            ),
            "forward states twice": torch.cat([ahead, ahead], -1),
            "backward states twice": torch.cat([back, back], -1),
            "states of a GRU that took the batch for the sequence": lambda: torch.cat(
                [pair.twin.encoder(x.transpose(0, 1).contiguous())[0].transpose(0, 1)], -1
            ),
            "states without the last token: every length is one too small": F.pad(
                pair.twin.encoder(x[:, :-1])[0], (0, 0, 0, 1)
            ),
            "states that read the target's embeddings": lambda: pair.twin.encoder(
                pair.twin.target_embedding(source % pair.V)
            )[0],
            "the states of the sources back to front": lambda: pair.twin.encoder(x.flip(1))[0],
        }
        ask = "Row s holds the forward state after token s and the backward state after it. Which of the two differs?"
        expect.close(states, expected, what="the states", ask=ask, mistakes=mistakes)
        wanted = torch.cat([last[0], last[1]], -1)
        mistakes = {
            "the states at the last token: there the backward GRU has read one token only": expected[:, -1],
            "the states at the first token: there the forward GRU has read one token only": expected[:, 0],
            "the first backward and the first forward state: each has read one token": torch.cat(
                [ahead[:, 0], back[:, -1]], -1
            ),
            "numbers of different sources in one row: (2, B, H) was viewed as (B, 2H) without exchanging dimensions": (
                last.reshape(B, 2 * H)
            ),
            "the backward state in front of the forward one": torch.cat([last[1], last[0]], -1),
            "the last forward state twice": torch.cat([last[0], last[0]], -1),
            "the last backward state twice": torch.cat([last[1], last[1]], -1),
            "forward and backward numbers in turn": torch.stack([last[0], last[1]], -1).flatten(1),
            "the mean of the states": expected.mean(1),
            "the sum of the states": expected.sum(1),
            "the largest of the states": expected.amax(1),
        }
        ask = "Where does the forward GRU stand when it has read all, and where the backward one?"
        expect.close(summary, wanted, what="the summary", ask=ask, mistakes=mistakes)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_without_padding")
    def test_padding(self, student, rng):
        """reads a padded source as it reads it alone"""
        pair = Pair(student, rng)
        B, S = 4, int(rng.integers(5, 8))
        mask = real_tokens(rng, B, S)
        source = pair.source(B, S, mask)
        expected, wanted = pair.alone(source)
        states, summary = self.call(student, pair, source)
        x = pair.twin.source_embedding(source)
        read, last = pair.twin.encoder(x)  # the padding read too
        H, lengths = pair.H, mask.sum(1)
        order = lengths.argsort(descending=True, stable=True)
        rows = torch.arange(B)
        half = torch.cat([expected[..., :H], read[..., H:]], -1)
        mistakes = {
            "the states of a GRU that read the padding: the backward one began there": read[mask],
            "states of other rows: the batch was sorted by length, and not put back in order": lambda: (
                expected[order][mask]
            ),
            "states that read embeddings set to zero at padding, but read them: the backward GRU began there": lambda: (
                pair.twin.encoder(x * mask[..., None])[0][mask]
            ),
        }
        ask = "What does the backward GRU read first, in a source that is followed by padding?"
        expect.close(
            states[mask], expected[mask], what="the states of real tokens", ask=ask, mistakes=mistakes
        )
        mistakes = {
            "the last states of a GRU that read the padding": torch.cat([last[0], last[1]], -1),
            "the forward state behind the padding, and the right backward one": torch.cat(
                [last[0], wanted[:, H:]], -1
            ),
            "the last column of the states: where a source is shorter, that is padding": states[:, -1],
            "the forward half of the last column: where a source is shorter, that is padding": torch.cat(
                [states[:, -1, :H], states[:, 0, H:]], -1
            ),
            "the states at the last token: there the backward GRU has read one token only": expected[
                rows, lengths - 1
            ],
            "the forward state one token too early": torch.cat(
                [expected[rows, (lengths - 2).clamp(min=0), :H], wanted[:, H:]], -1
            ),
            "the right forward state, and a backward one that began in the padding": torch.cat(
                [wanted[:, :H], half[:, 0, H:]], -1
            ),
            "summaries of other rows: the batch was sorted by length, and not put back in order": wanted[
                order
            ],
        }
        ask = "In which column does each source end, and which state had each direction there?"
        expect.close(summary, wanted, what="the summary", ask=ask, mistakes=mistakes)
        fine = states.isfinite().all()
        ask = "Even a weight of zero makes NaN of what is not finite."
        expect.holds(fine, expected="finite numbers at padding", got="a state that is not finite", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_padding")
    def test_more_padding(self, student, rng):
        """keeps all S columns where even the longest source is padded"""
        pair = Pair(student, rng)
        B, S = 3, int(rng.integers(4, 6))
        mask = F.pad(real_tokens(rng, B, S), (0, int(rng.integers(1, 4))))
        source = pair.source(*mask.shape, mask)
        expected, wanted = pair.alone(source)
        states, summary = self.call(student, pair, source)
        ask = "Does a number of yours depend on how many columns the batch has?"
        expect.close(states[mask], expected[mask], what="the states of real tokens", ask=ask)
        expect.close(summary, wanted, what="the summary", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_padding")
    def test_other_padding(self, student, rng):
        """knows the padding by `model.pad`, whichever id that is"""
        pair = Pair(student, rng, pad=int(rng.integers(3, 9)))
        B, S = 3, int(rng.integers(4, 7))
        mask = real_tokens(rng, B, S)
        source = pair.source(B, S, mask)
        source[:, 0] = 0  # an id like others, where the padding has another
        expected, wanted = pair.alone(source)
        with expect.unchanged(source=source):
            states, summary = self.call(student, pair, source)
        ask = f"The padding's id is {pair.pad} here, and 0 is a token. Where does your code compare with 0?"
        expect.close(states[mask], expected[mask], what="the states of real tokens", ask=ask)
        expect.close(summary, wanted, what="the summary", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_padding")
    def test_every_weight_learns(self, student, rng):
        """sends the right gradients to embedding and GRU, and leaves the source alone"""
        pair = Pair(student, rng, dtype=DOUBLE)
        B, S = 3, int(rng.integers(4, 6))
        mask = real_tokens(rng, B, S)
        source = pair.source(B, S, mask)
        given = rng.tensor(B, S, 2 * pair.H, dtype=DOUBLE) * mask[..., None]
        last = rng.tensor(B, 2 * pair.H, dtype=DOUBLE)
        expected, wanted = pair.alone(source)
        with expect.unchanged(source=source):
            states, summary = self.call(student, pair, source)

        def back():
            ask = "Is it computed by torch operations, without .data, .detach() or NumPy?"
            for out, name in ((states, "states"), (summary, "a summary")):
                on = out.requires_grad
                expect.holds(on, expected=f"{name} on the graph", got="cut off from the weights", ask=ask)
            torch.autograd.backward([states, summary], [given, last])

        loss = (expected * given).sum() + (wanted * last).sum()
        pair.learnt(("source_embedding", "encoder"), loss, back, "states and summary")


def scores_by_hand(query, keys, v):
    """Key by key in float64: v · tanh(query + key)."""
    q, k, v = (x.detach().double().tolist() for x in (query, keys, v))

    def score(b, s):
        return sum(c * math.tanh(x + y) for x, y, c in zip(q[b], k[b][s], v, strict=True))

    return torch.tensor([[score(b, s) for s in range(keys.shape[1])] for b in range(len(keys))], dtype=DOUBLE)


def softmax_by_hand(scores, mask):
    """Row by row: a softmax over what the mask permits."""
    out = np.zeros(tuple(scores.shape))
    numbers = scores.double().numpy()
    for b in range(len(out)):
        allowed = np.flatnonzero(mask[b].numpy())
        parts = np.exp(numbers[b, allowed] - numbers[b, allowed].max())
        out[b, allowed] = parts / parts.sum()
    return torch.from_numpy(out)


def averages(weights, values):
    """The average of the values of each row, in the shares of its weights."""
    return torch.einsum("bs,bsm->bm", weights.double(), values.detach().double())


@pytest.mark.exercise("additive_attention")
class TestAdditiveAttention:
    def draw(self, rng, dtype=torch.float32, scale=1.0):
        """A query, keys, values, a mask that permits all, and v; all sizes differ."""
        B, S, K, M = rng.distinct(4, low=3, high=8)
        tensors = [rng.tensor(*shape, scale=scale, dtype=dtype) for shape in ((B, K), (B, S, K), (B, S, M))]
        return [*tensors, torch.ones(B, S, dtype=torch.bool), rng.tensor(K, scale=1.5, dtype=dtype)]

    def call(self, student, query, keys, values, mask, v):
        """Context and weights, of the right shapes."""
        out = student.additive_attention(query, keys, values, mask, v)
        (B, S), M = mask.shape, values.shape[-1]
        ask = "The averages of the values, and the weights that made them: are both returned?"
        listed(out, 2, "context and weights", ask)
        if all(isinstance(part, torch.Tensor) for part in out) and M != S:
            shapes = [tuple(part.shape) for part in out]
            turned = shapes == [(B, S), (B, M)]
            ask = "In which order does the docstring name the two?"
            expect.holds(not turned, expected="the context first", got="the weights first", ask=ask)
        ask = (
            "One query for each sequence: which dimension is summed away in the scores, which in the context?"
        )
        expect.array(out[0], shape=(B, M), dtype=values.dtype, what="the context (B, M)", ask=ask)
        expect.array(out[1], shape=(B, S), dtype=values.dtype, what="the weights (B, S)", ask=ask)
        return out

    @pytest.mark.points(1)
    def test_shapes(self, student, rng):
        """returns a context (B, M) and weights (B, S)"""
        self.call(student, *self.draw(rng))

    @pytest.mark.points(2)
    @pytest.mark.needs("test_shapes")
    def test_weights(self, student, rng):
        """weighs each key by a softmax of v · tanh(query + key)"""
        for row in range(2):
            query, keys, values, mask, v = self.draw(rng)
            if row:  # one sequence, and in it one token
                query, keys, values, mask = query[:1], keys[:1, :1], values[:1, :1], mask[:1, :1]
            _, weights = self.call(student, query, keys, values, mask, v)
            scores = scores_by_hand(query, keys, v)
            q, k, c = query.double()[:, None], keys.double(), v.double()
            K, S = len(v), keys.shape[1]
            mistakes = {
                "the scores themselves: there is no softmax": scores,
                "a softmax over the batch: the shares of one source token in all sequences": scores.softmax(
                    0
                ),
                "a softmax over all sequences at once": scores.flatten().softmax(0).view_as(scores),
                "weights without the tanh: v · (query + key)": ((q + k) @ c).softmax(-1),
                "weights of dot products, query · key": (q * k).sum(-1).softmax(-1),
                "weights of v · tanh(query · key): the two are added": (torch.tanh(q * k) @ c).softmax(-1),
                "weights of dot products of query and tanh(key)": (q * torch.tanh(k)).sum(-1).softmax(-1),
                "weights that do not depend on the query: it is added to the key inside the tanh": (
                    torch.tanh(k) @ c
                ).softmax(-1),
                "NaN: was every token masked (True stands for a token), or 0 multiplied by infinity?": torch.full_like(
                    scores, math.nan
                ),
                "the tanh of the whole score: it belongs inside, before v": torch.tanh((q + k) @ c).softmax(
                    -1
                ),
                "two tanhs: the score itself has none around it": torch.tanh(torch.tanh(q + k) @ c).softmax(
                    -1
                ),
                "a relu where the tanh belongs": (torch.relu(q + k) @ c).softmax(-1),
                "a sigmoid where the tanh belongs": (torch.sigmoid(q + k) @ c).softmax(-1),
                "v left out: tanh(query + key), summed": torch.tanh(q + k).sum(-1).softmax(-1),
                "v left out: tanh(query + key), averaged": torch.tanh(q + k).mean(-1).softmax(-1),
                "the query subtracted": (torch.tanh(k - q) @ c).softmax(-1),
                "the key subtracted": (torch.tanh(q - k) @ c).softmax(-1),
                "the scores divided by √K: that belongs to dot products": (scores / K**0.5).softmax(-1),
                "the scores divided by K": (scores / K).softmax(-1),
                "the scores divided by the number of source tokens": (scores / S).softmax(-1),
                "a softmax of the negative scores": (-scores).softmax(-1),
                "logarithms of the weights": scores.log_softmax(-1),
                "a sigmoid of each score": scores.sigmoid(),
                "a sigmoid of each score, divided by their sum": F.normalize(scores.sigmoid(), 1, -1),
                "the scores divided by their sum, without the exponential": scores / scores.sum(-1, True),
                "the same weight for every token": torch.full_like(scores, 1 / S),
                "all the weight on the best key: the softmax is soft": F.one_hot(
                    scores.argmax(-1), S
                ).double(),
            }
            ask = "Which comes first: the sum, the tanh, or the product with v? And what does the softmax run over?"
            expect.close(weights, scores.softmax(-1), what="the weights", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_weights")
    def test_context(self, student, rng):
        """averages the values in the shares of the weights"""
        query, keys, values, mask, v = self.draw(rng)
        context, _ = self.call(student, query, keys, values, mask, v)
        weights = scores_by_hand(query, keys, v).softmax(-1)
        x = values.double()
        mistakes = {
            "the plain mean of the values": x.mean(1),
            "the sum of the values": x.sum(1),
            "the average divided by the number of source tokens again": averages(weights, values)
            / x.shape[1],
            "the value of the best key alone": x[torch.arange(len(x)), weights.argmax(-1)],
            "the values in the shares of the scores, not of the weights": averages(
                scores_by_hand(query, keys, v), values
            ),
            "averages of the values of other sequences": averages(weights.roll(1, 0), values),
            "tanh of the average": averages(weights, values).tanh(),
        }
        ask = "Each value times its weight, and the sum over the source: which of the two is different?"
        expect.close(context, averages(weights, values), what="the context", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_context")
    def test_padding(self, student, rng):
        """gives padding exactly no weight, and the rest to the real tokens"""
        query, keys, values, mask, v = self.draw(rng)
        mask = real_tokens(rng, *mask.shape)
        context, weights = self.call(student, query, keys, values, mask, v)
        scores = scores_by_hand(query, keys, v)
        expected, free = softmax_by_hand(scores, mask), scores.softmax(-1)
        mistakes = {
            "weights that ignore the mask: padding gets its share": free,
            "the weights of the inverted mask: True is a token": scores.masked_fill(mask, -INF).softmax(-1),
            "weights masked after the softmax, so that they no longer sum to 1": free * mask,
            "scores of padding set to 0 before the softmax, where exp(0) is still 1": (scores * mask).softmax(
                -1
            ),
            "True and False added to the scores as 1 and 0": (scores + mask).softmax(-1),
            "keys of padding set to zero: their score is v · tanh(query), and takes part": lambda: (
                scores_by_hand(query, keys * mask[..., None], v).softmax(-1)
            ),
            "scores of padding lowered by 1": (scores - 1.0 * ~mask).softmax(-1),
        }
        ask = "Which number before the softmax becomes exactly 0 after it?"
        expect.close(weights, expected, what="the weights", ask=ask, mistakes=mistakes)
        least = float(weights[~mask].abs().max())
        got = f"a weight of {least:.3g} at padding"
        expect.holds(least == 0, expected="a weight of exactly 0 at padding", got=got, ask=ask)
        mistakes = {
            "the average without the mask: weights other than those that you return": averages(free, values)
        }
        ask = "Are the weights that make the context the same as those that you return?"
        expect.close(context, averages(expected, values), what="the context", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_padding")
    def test_reach(self, student, rng):
        """depends on the real tokens of its own source, and on nothing else"""
        B, S, K, M = 2, int(rng.integers(4, 6)), 3, 2
        query, keys, values = rng.tensor(B, K), rng.tensor(B, S, K), rng.tensor(B, S, M)
        v = rng.tensor(K, scale=1.5)
        mask = torch.arange(S) < torch.from_numpy(rng.permutation([S, S - 2]))[:, None]
        allowed = torch.zeros(B, 1, B, S, dtype=torch.bool)
        for b in range(B):
            allowed[b, 0, b] = mask[b]
        expect.reaches(lambda x: self.call(student, query, keys, x, mask, v)[0][:, None], values, allowed)
        expect.reaches(lambda x: self.call(student, query, x, values, mask, v)[0][:, None], keys, allowed)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_padding")
    def test_large_scores(self, student, rng):
        """stays finite where scores are in the thousands, up or down"""
        query, keys, values, mask, v = self.draw(rng, dtype=DOUBLE)
        mask = real_tokens(rng, *mask.shape)
        for scale in (1000.0, -1000.0):
            large = scale * v.abs()
            lifted = keys.abs() + 1.0  # so that all scores have the sign of the scale
            asked = query.abs()
            _, weights = self.call(student, asked, lifted, values, mask, large)
            expected = softmax_by_hand(scores_by_hand(asked, lifted, large), mask)
            ask = "exp(1000) overflows, exp(-1000) is 0. What does a softmax subtract first, and from which numbers?"
            expect.close(weights, expected, what="the weights", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_padding")
    def test_inputs_and_gradients(self, student, rng):
        """leaves its inputs alone, keeps float64, and sends the right gradients back"""
        query, keys, values, mask, v = self.draw(rng, dtype=DOUBLE)
        mask = real_tokens(rng, *mask.shape)
        with expect.unchanged(query=query, keys=keys, values=values, mask=mask, v=v):
            self.call(student, query, keys, values, mask, v)
        given = rng.tensor(values.shape[-1], keys.shape[1], dtype=DOUBLE)

        def both(query, keys, values, v):
            context, weights = self.call(student, query, keys, values, mask, v)
            return torch.cat([context, weights @ given.T], -1)

        expect.gradients(both, query=query, keys=keys, values=values, v=v, what="context and weights")


@pytest.mark.exercise("decode_step")
class TestDecodeStep:
    def draw(self, student, rng, B=4, S=5, dtype=torch.float32):
        """A model, and what it needs for a step: token, state, and keys, values and mask of a source."""
        pair = Pair(student, rng, dtype=dtype)
        token = torch.from_numpy(rng.permutation(pair.V)[:B].copy())
        shapes = ((B, pair.H), (B, S, pair.K), (B, S, 2 * pair.H))
        state, keys, values = (rng.tensor(*shape, dtype=dtype) for shape in shapes)
        mask = real_tokens(rng, B, S) if B > 1 and S > 1 else torch.ones(B, S, dtype=torch.bool)
        return pair, token, state, (keys, values, mask)

    def call(self, student, pair, token, state, memory):
        """Logits, state and weights, of the right shapes."""
        ask = "The scores of the next token, the new state, and the weights of the look-up: are all three returned?"
        out = listed(
            student.decode_step(pair.model, token, state, memory), 3, "logits, state and weights", ask
        )
        (B, H), S = state.shape, memory[2].shape[1]
        ask = "Which layer makes a score for each token of the vocabulary, and what goes into it?"
        expect.array(out[0], shape=(B, pair.V), dtype=state.dtype, what="the logits (B, V)", ask=ask)
        ask = "Which layer turns the old state into the new one?"
        expect.array(out[1], shape=(B, H), dtype=state.dtype, what="the state (B, H)", ask=ask)
        ask = "Does `additive_attention` return them, and do you hand them on?"
        expect.array(out[2], shape=(B, S), dtype=state.dtype, what="the weights (B, S)", ask=ask)
        return out

    def look_up(self, pair, query, memory):
        """Context and weights, in the precision of the state."""
        keys, values, mask = memory
        scores = torch.tanh(query[:, None] + keys) @ pair.twin.v
        weights = scores.masked_fill(~mask, -INF).softmax(-1)
        return torch.einsum("bs,bsm->bm", weights, values), weights

    def reference(self, pair, token, state, memory):
        """Logits, state, weights and context, by PyTorch's layers."""
        twin = pair.twin
        context, weights = self.look_up(pair, twin.query(state), memory)
        new = twin.cell(torch.cat([twin.target_embedding(token), context], -1), state)
        return twin.output(torch.cat([new, context], -1)), new, weights, context

    @pytest.mark.points(1)
    def test_shapes(self, student, rng):
        """returns logits (B, V), a state (B, H) and weights (B, S)"""
        self.call(student, *self.draw(student, rng))
        self.call(student, *self.draw(student, rng, B=1, S=1))

    @pytest.mark.points(1)
    @pytest.mark.needs("test_shapes")
    def test_weights(self, student, rng):
        """looks the source up with the old state"""
        pair, token, state, memory = self.draw(student, rng)
        _, _, weights = self.call(student, pair, token, state, memory)
        _, new, expected, _ = self.reference(pair, token, state, memory)
        twin = pair.twin
        everywhere = (*memory[:2], torch.ones_like(memory[2]))
        mistakes = {
            "the weights of a look-up by the new state: the old one asks, since the new one needs the context": (
                self.look_up(pair, twin.query(new), memory)[1]
            ),
            "weights that do not depend on the state": self.look_up(pair, 0 * twin.query(state), memory)[1],
            "weights by keys made anew from the values: memory holds the keys": self.look_up(
                pair, twin.query(state), (twin.key(memory[1]), *memory[1:])
            )[1],
            "weights over the padding alone: the mask was inverted": self.look_up(
                pair, twin.query(state), (*memory[:2], ~memory[2] | memory[2].all(-1, keepdim=True))
            )[1],
            "weights over the padding too: the mask was not handed on": self.look_up(
                pair, twin.query(state), everywhere
            )[1],
            "the weights of the first sequence for all": expected[:1].expand_as(expected),
        }
        ask = "What does `model.query` take, and in which order does `additive_attention` want its five arguments?"
        expect.close(weights, expected, what="the weights", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_weights")
    def test_state(self, student, rng):
        """moves the state on by the token and the context"""
        pair, token, state, memory = self.draw(student, rng)
        _, new, _ = self.call(student, pair, token, state, memory)
        _, expected, _, context = self.reference(pair, token, state, memory)
        twin = pair.twin
        x = twin.target_embedding(token)

        def cell(*parts, state=state):
            return twin.cell(torch.cat(parts, -1), state)

        nothing = torch.zeros_like(state)
        mistakes = {
            "the old state: the cell's result was not used": state,
            "a cell whose input is the context and then the token: the token's embedding comes first": cell(
                context, x
            ),
            "a cell that began at zero: it takes the old state as well": cell(x, context, state=nothing),
            "a cell without the token: its embedding was zero": cell(0 * x, context),
            "a cell without the context": cell(x, 0 * context),
            "a cell that was shown the source's embedding of the token: the target has its own": cell(
                twin.source_embedding(token % pair.N), context
            ),
            "two steps of the cell": cell(x, context, state=expected),
            "old and new state added": state + expected,
            "a tanh of the new state: the cell has its own": expected.tanh(),
            "a cell whose context is the plain mean of the source": cell(x, memory[1].mean(1)),
        }
        ask = (
            "What are the two arguments of `model.cell`, and in which order do the parts of the first stand?"
        )
        expect.close(new, expected, what="the new state", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_state")
    def test_logits(self, student, rng):
        """scores the next token by the new state and the context"""
        pair, token, state, memory = self.draw(student, rng)
        logits, _, _ = self.call(student, pair, token, state, memory)
        expected, new, _, context = self.reference(pair, token, state, memory)
        out = pair.twin.output
        after, _ = self.look_up(pair, pair.twin.query(new), memory)
        mistakes = {
            "scores by the old state: the new one has read the token": out(torch.cat([state, context], -1)),
            "scores by context and then state: the new state comes first": out(torch.cat([context, new], -1)),
            "probabilities: the logits have no softmax yet, cross-entropy brings its own": expected.softmax(
                -1
            ),
            "logarithms of probabilities: the logits have no softmax yet": expected.log_softmax(-1),
            "scores without the context": out(torch.cat([new, 0 * context], -1)),
            "scores without the state": out(torch.cat([0 * new, context], -1)),
            "scores by a second look-up, with the new state: the context is that of the first": out(
                torch.cat([new, after], -1)
            ),
            "scores without the output's bias": expected - out.bias,
            "tanh of the scores": expected.tanh(),
        }
        ask = "What are the two parts of the output's input, and in which order do they stand?"
        expect.close(logits, expected, what="the logits", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_shapes")
    def test_reach(self, student, rng):
        """depends on the real tokens of its own source, and on nothing else of any source"""
        B, S = 2, int(rng.integers(4, 6))
        pair, token, state, (keys, values, _) = self.draw(student, rng, B, S)
        mask = torch.arange(S) < torch.from_numpy(rng.permutation([S, S - 2]))[:, None]
        allowed = torch.zeros(B, 1, B, S, dtype=torch.bool)
        for b in range(B):
            allowed[b, 0, b] = mask[b]
        for part in range(2):

            def step(x, part=part):
                return self.call(student, pair, token, state, (keys, x, mask))[part][:, None]

            expect.reaches(step, values, allowed)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_logits")
    def test_one_vector(self, student, rng):
        """works on a memory of one row, where there is nothing to choose"""
        pair, token, state, (keys, values, _) = self.draw(student, rng, B=3, S=1)
        memory = (keys, values, torch.ones(3, 1, dtype=torch.bool))
        found = self.call(student, pair, token, state, memory)
        expected = self.reference(pair, token, state, memory)
        ask = "Is a dimension of size 1 squeezed away, or taken for another one?"
        for out, wanted, what in zip(
            found, expected, ("the logits", "the new state", "the weights"), strict=False
        ):
            expect.close(out, wanted, what=what, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_logits")
    def test_every_weight_learns(self, student, rng):
        """sends the right gradients to every layer and to the state, and leaves its inputs alone"""
        pair, token, state, memory = self.draw(student, rng, dtype=DOUBLE)
        keys, values, mask = memory
        with expect.unchanged(token=token, state=state, keys=keys, values=values, mask=mask):
            self.call(student, pair, token, state, memory)
        copy = state.clone().requires_grad_()
        logits, new, _, _ = self.reference(pair, token, copy, memory)
        given = rng.tensor(*logits.shape, dtype=DOUBLE), rng.tensor(*state.shape, dtype=DOUBLE)
        state.requires_grad_()
        found = self.call(student, pair, token, state, memory)

        def back():
            ask = "Is it computed by torch operations, without .data, .detach() or NumPy?"
            for out, name in zip(found, ("logits", "a state"), strict=False):
                on = out.requires_grad
                expect.holds(on, expected=f"{name} on the graph", got="cut off from the weights", ask=ask)
            torch.autograd.backward(found[:2], given)

        names = ("query", "v", "target_embedding", "cell", "output")
        pair.learnt(names, (logits * given[0]).sum() + (new * given[1]).sum(), back, "logits and state")
        ask = "The state carries the past: is its gradient cut off on the way?"
        expect.holds(state.grad is not None, expected="a gradient for `state`", got="none", ask=ask)
        expect.close(state.grad, copy.grad, atol=1e-8, what="the gradient of `state`", ask=ask)


class Script:
    """A step that scores given rows highest, whatever it is shown, and takes down what it was called with.

    Its state counts the calls; the scores beside the highest are random, and none is positive.
    """

    def __init__(self, rng, rows, limit):
        self.rows, self.limit = torch.as_tensor(rows), limit
        B, T = self.rows.shape
        self.scores = -rng.tensor(T, B, 30).abs() - 2
        self.scores.scatter_(2, self.rows.T[..., None], -1.0)
        self.start = torch.from_numpy(rng.integers(100, 200, (B, 1)))
        self.shown, self.states = [], []

    def __call__(self, token, state):
        self.shown.append(token.clone() if isinstance(token, torch.Tensor) else token)
        self.states.append(state.clone() if isinstance(state, torch.Tensor) else state)
        call = len(self.shown)
        if call > len(self.scores):
            ask = "Which condition ends your loop, and does `limit` take part in it?"
            expect.fail(expected=f"at most {self.limit} calls of step", got=f"call number {call}", ask=ask)
        return self.scores[call - 1].clone(), self.start + call

    def calls(self):
        """How often it was called, in words."""
        return f"{len(self.shown)} call{'s' if len(self.shown) != 1 else ''} of step"


@pytest.mark.exercise("greedy_decode")
class TestGreedyDecode:
    def run(self, student, script, begin, *, end, limit, pad=0):
        """What was written, ids of the right type in two dimensions."""
        options = {"pad": pad} if pad else {}
        out = student.greedy_decode(script, script.start, begin, end=end, limit=limit, **options)
        ask = "The tokens of every step, side by side: a tensor of ids, a row for each sequence."
        B = len(begin)
        expect.array(out, dtype=torch.int64, what="what was written (B, T)", ask=ask)
        two = out.ndim == 2 and len(out) == B
        turned = out.ndim == 2 and out.shape[1] == B and len(out) == len(script.shown)
        got = f"shape {tuple(out.shape)}" + (": steps and sequences are exchanged" if turned else "")
        expect.holds(two, expected=f"ids of shape ({B}, T), a row for each sequence", got=got, ask=ask)
        return out

    @pytest.mark.points(2)
    def test_writes_the_best(self, student, rng):
        """writes the token with the highest score at every step"""
        B, T = rng.distinct(2, low=3, high=7)
        rows = torch.from_numpy(rng.integers(5, 30, (B, T)))
        script = Script(rng, torch.cat([rows, rows, rows], 1), T)
        begin = torch.from_numpy(rng.integers(5, 30, B))
        out = self.run(student, script, begin, end=2, limit=T)
        worst = script.scores.argmin(-1).T[:, : out.shape[1]]
        early = torch.cat([begin[:, None], rows], 1)
        mistakes = {
            "`begin` in front of what was written: it is shown, not written": early,
            "`begin` in front, and the last token missing": early[:, :-1],
            "the token with the lowest score": worst,
            "one token too few: `limit` counts tokens written": rows[:, :-1],
            "one token too many: `limit` counts tokens written": torch.cat([rows, rows[:, :1]], 1),
            "the tokens of the last step only": rows[:, -1:],
            "the tokens of the first step in every column": rows[:, :1].expand(B, T),
            "the tokens back to front": rows.flip(1),
            "the best of the state: `step` returns the scores first": torch.zeros_like(rows),
        }
        ask = "Which function says where the highest score is, and along which dimension of (B, V)?"
        expect.equal(out, rows, what="what was written", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_writes_the_best")
    def test_is_shown_its_own(self, student, rng):
        """shows each step the tokens written last, and hands the state on"""
        B, T = rng.distinct(2, low=3, high=6)
        rows = torch.from_numpy(np.stack([rng.permutation(np.arange(5, 30))[:T] for _ in range(B)]))
        script = Script(rng, rows, T)
        begin = torch.from_numpy(rng.integers(5, 30, B))
        with expect.unchanged(begin=begin):
            self.run(student, script, begin, end=2, limit=T)
        ask = "At the end of a step: what becomes of `token`, and what of `state`?"
        before = torch.cat([begin[:, None], rows], 1)
        for t, (token, state) in enumerate(zip(script.shown, script.states, strict=True)):
            what = f"the token that call {t + 1} of step is shown"
            mistakes = {} if not t else {
                "`begin` again: later steps are shown what was written last": begin,
            }  # fmt: skip
            if isinstance(token, torch.Tensor) and torch.equal(token, script.start + t):
                expect.fail(expected=what, got="the state: `step` takes the token first", ask=ask)
            if isinstance(token, torch.Tensor) and token.ndim == 2:
                got = (
                    f"shape {tuple(token.shape)}: step takes the last tokens alone, the state holds the past"
                )
                expect.fail(expected=f"{what}, of shape ({B},)", got=got, ask=ask)
            expect.equal(token, before[:, t], what=what, ask=ask, mistakes=mistakes)
            what = f"the state that call {t + 1} of step is given"
            mistakes = {} if not t else {
                "the first state again: each step returns the one for the next": script.start,
            }  # fmt: skip
            expect.equal(state, script.start + t, what=what, ask=ask, mistakes=mistakes)

    def ended(self, rng, B, end, pad, limit):
        """Rows that go on behind their end, what should be written of them, and how long the longest is."""
        usual = [n for n in range(30) if n not in (end, pad)]
        rows = torch.from_numpy(rng.choice(usual, (B, limit + 4)))
        lengths = rng.permutation(np.arange(2, 2 + B))  # each ends at another step
        expected = rows.clone()
        for b, n in enumerate(lengths):
            rows[b, n - 1] = expected[b, n - 1] = end
            expected[b, n:] = pad
        longest = int(lengths.max())
        return rows, expected[:, :longest], lengths

    @pytest.mark.points(2)
    @pytest.mark.needs("test_writes_the_best")
    def test_stops(self, student, rng):
        """stops when every sequence has written `end`, not before and not later"""
        B, limit, end = int(rng.integers(3, 5)), int(rng.integers(9, 12)), int(rng.integers(2, 9))
        rows, _, lengths = self.ended(rng, B, end, 0, limit)
        script = Script(rng, rows, limit)
        begin = torch.from_numpy(rng.integers(10, 30, B))
        out = self.run(student, script, begin, end=end, limit=limit)
        last, first = int(lengths.max()), int(lengths.min())
        said = {
            limit: "on to the limit, whether sequences have ended or not",
            limit + 1: "on to the limit and beyond it",
            first: "until the first sequence had ended; the others had not",
            last + 1: "one step more than needed",
            last - 1: "one step less than needed",
        }
        calls = len(script.shown)
        got = script.calls() + (f": {said[calls]}" if calls in said else "")
        ask = "After each step: which sequences have ended by now, in this step or before, and are these all?"
        expect.holds(
            calls == last,
            expected=f"{last} calls of step: by then all have written {end}, which is `end` here",
            got=got,
            ask=ask,
        )
        wide = out.shape[1]
        ask = "One column for each call of step: what holds the columns, and when is it cut to size?"
        got = f"{wide} columns" + (", as many as `limit` allows" if wide == limit else "")
        expect.holds(wide == last, expected=f"{last} columns", got=got, ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_stops")
    def test_pads_behind_the_end(self, student, rng):
        """keeps `end`, and fills with `pad` behind it"""
        for pad in (0, int(rng.integers(3, 9))):
            B, limit, end = int(rng.integers(3, 5)), int(rng.integers(9, 12)), int(rng.integers(10, 20))
            rows, expected, lengths = self.ended(rng, B, end, pad, limit)
            out = self.run(
                student, Script(rng, rows, limit), torch.full((B,), 1), end=end, limit=limit, pad=pad
            )
            longest = expected.shape[1]
            ended = torch.arange(longest) >= torch.from_numpy(lengths)[:, None]
            once = rows[:, :longest].clone()
            once[torch.arange(longest) == torch.from_numpy(lengths)[:, None]] = pad
            mistakes = {
                "sequences that go on behind their end": rows[:, :longest],
                "`pad` once, and then the sequence goes on: who has ended has ended for good": once,
                "`end` missing: it is the last token of a sequence": expected.masked_fill(
                    expected == end, pad
                ),
                "`end` again and again behind the end, where `pad` belongs": expected.masked_fill(ended, end),
                "0 behind the end: `pad` says what belongs there": expected.masked_fill(ended, 0),
            }
            ask = "What do you remember about each sequence from step to step, and which tokens does it replace?"
            expect.equal(out, expected, what="what was written", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_writes_the_best")
    def test_limit(self, student, rng):
        """stops at the limit where a sequence does not end, be it one step"""
        for limit, B in ((1, 1), (int(rng.integers(3, 6)), 2)):
            rows = torch.from_numpy(rng.integers(5, 30, (B, limit + 3)))
            if B > 1:
                rows[0, 1] = 2  # one has ended, the other has not
            script = Script(rng, rows, limit)
            out = self.run(student, script, torch.full((B,), 1), end=2, limit=limit)
            ask = "A sequence that never ends: what stops your loop, and after how many tokens?"
            calls = len(script.shown)
            expect.holds(calls == limit, expected=f"{limit} calls of step", got=script.calls(), ask=ask)
            expected = rows[:, :limit].clone()
            if B > 1:
                expected[0, 2:] = 0
            expect.equal(out, expected, what="what was written", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_stops")
    def test_begins_with_any_id(self, student, rng):
        """looks for `end` in what was written, not in what it begins with"""
        B, limit, end = 3, 10, int(rng.integers(2, 9))
        rows, expected, _ = self.ended(rng, B, end, 0, limit)
        script = Script(rng, rows, limit)
        out = self.run(student, script, torch.full((B,), end), end=end, limit=limit)
        ask = "Some models begin with the id that ends a sequence. When does your code look for `end` first?"
        expect.equal(out, expected, what="what was written", ask=ask)
