"""Checks of unit 08: scores, weights, scaled dot-product attention, masks, and the self-attention layer.

Every check draws fresh inputs. Answers are judged by loops in float64, by PyTorch's own operator, or by a property.
"""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proctor import expect

INF = float("inf")


def sizes(rng, count):
    """Different sizes, none of them a square, so that none equals the root of another; the first is for the width K."""
    width = int(rng.choice([3, 5, 6, 7]))
    return [width, *[size for size in rng.distinct(7, high=8) if size not in (width, 4)][: count - 1]]


def permitted(rng, *shape):
    """A boolean mask in which every query may attend to at least one key, and not to at least one other."""
    rank = rng.random(shape).argsort(-1).argsort(-1)
    count = np.asarray(rng.integers(1, shape[-1], shape[:-1]))
    return torch.from_numpy(rank < count[..., None])


def scores_by_hand(query, key):
    """Pair by pair: the dot product, divided by the root of the width."""
    q, k = query.detach().double().numpy(), key.detach().double().numpy()
    out = np.zeros((*q.shape[:-1], k.shape[-2]))
    for *b, t, s in np.ndindex(*out.shape):
        pairs = zip(q[(*b, t)].tolist(), k[(*b, s)].tolist(), strict=True)
        out[(*b, t, s)] = sum(x * y for x, y in pairs) / q.shape[-1] ** 0.5
    return torch.from_numpy(out)


def weights_by_hand(scores, mask=None):
    """A softmax over the permitted keys in float64; a row without any is zero."""
    bias = torch.zeros(()) if mask is None else mask
    bias = torch.where(bias, 0.0, -INF) if bias.dtype == torch.bool else bias
    summed = (scores.detach().double() + bias.double()).numpy()
    top = summed.max(-1, keepdims=True)
    parts = np.exp(summed - np.where(top > -INF, top, 0.0))  # exp(-inf) is 0
    total = parts.sum(-1, keepdims=True)
    return torch.from_numpy(parts / np.where(total > 0, total, 1.0))


def attend_by_hand(query, key, value, mask=None):
    """The three steps in float64, one after the other."""
    return weights_by_hand(scores_by_hand(query, key), mask) @ value.double()


@pytest.mark.exercise("attention_scores")
class TestAttentionScores:
    @pytest.mark.points(1)
    def test_one_score_for_each_pair(self, student, rng):
        """returns one score for each pair of a query and a key"""
        K, B, T, S = sizes(rng, 4)
        out = student.attention_scores(rng.tensor(B, T, K), rng.tensor(B, S, K))
        ask = "Rows belong to queries, columns to keys. Which dimension does the product sum over?"
        expect.array(out, shape=(B, T, S), dtype=torch.float32, what="the scores (B, T, S)", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_one_score_for_each_pair")
    def test_agrees_with_a_loop(self, student, rng):
        """agrees with a loop over every pair"""
        K, B, T, S = sizes(rng, 4)
        query, key = rng.tensor(B, T, K), rng.tensor(B, S, K)
        expected = scores_by_hand(query, key)
        out = student.attention_scores(query, key)
        mistakes = {
            "the dot products as they are, not divided by √K": expected * K**0.5,
            "the dot products divided by K, not by √K": expected / K**0.5,
            "the dot products divided by √K cut to a whole number": expected * K**0.5 / int(K**0.5),
            "the dot products multiplied by √K, not divided": expected * K,
            "the dot products divided by the root of S, the number of keys": expected * (K / S) ** 0.5,
            "the dot products divided by the root of T, the number of queries": expected * (K / T) ** 0.5,
            "the dot products divided by the root of B, the size of the batch": expected * (K / B) ** 0.5,
            "the dot products divided by S, the number of keys": expected * K**0.5 / S,
            "weights: a softmax of the scores. That is the next exercise": expected.softmax(-1),
            "cosines: query and key were scaled to length one": lambda: F.cosine_similarity(
                query[:, :, None], key[:, None], dim=-1
            ),
        }
        ask = (
            "Score [b, t, s] is the dot product of query t and key s, over √K. Which part of it differs here?"
        )
        expect.close(out, expected, what="the scores", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_leading_dimensions(self, student, rng):
        """works without a batch, with two leading dimensions, and for single rows"""
        K, B, T, S, H = sizes(rng, 5)
        for q, k in [
            ((T, K), (S, K)),
            ((B, H, T, K), (B, H, S, K)),
            ((1, 1, K), (1, S, K)),
            ((B, T, K), (B, 1, K)),
        ]:
            query, key = rng.tensor(*q), rng.tensor(*k)
            expected = scores_by_hand(query, key)
            out = student.attention_scores(query, key)
            ask = "Do you count dimensions from the end, so that any number may stand in front?"
            expect.close(out, expected, what="the scores", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_one_score_for_each_pair")
    def test_spread(self, student, rng):
        """keeps the spread of the scores near one, however wide the queries are"""
        for width in (int(rng.integers(40, 60)), int(rng.integers(240, 300))):
            out = student.attention_scores(rng.tensor(2, 50, width), rng.tensor(2, 60, width))
            expect.array(out, shape=(2, 50, 60), what="the scores")
            spread = float(out.detach().double().std()) if out.is_floating_point() else 0.0
            expect.holds(
                0.8 < spread < 1.25,
                expected=f"a standard deviation near 1 for standard normal queries and keys of width {width}",
                got=f"a standard deviation of {spread:.3g}",
                ask=f"A sum of {width} such products has a spread of {width**0.5:.3g}. What brings it to 1?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_inputs_and_gradients(self, student, rng):
        """leaves its inputs alone, keeps float64, and sends the right gradients back"""
        K, B, T, S = sizes(rng, 4)
        query, key = rng.tensor(B, T, K, dtype=torch.float64), rng.tensor(B, S, K, dtype=torch.float64)
        with expect.unchanged(query=query, key=key):
            student.attention_scores(query, key)
        expect.gradients(student.attention_scores, query=query, key=key, what="the scores")


@pytest.mark.exercise("attention_weights")
class TestAttentionWeights:
    @pytest.mark.points(1)
    def test_rows_sum_to_one(self, student, rng):
        """gives each query positive weights that sum to one"""
        B, T, S = rng.distinct(3, high=7)
        out = student.attention_weights(rng.tensor(B, T, S, scale=2.0))
        expect.array(out, shape=(B, T, S), dtype=torch.float32, what="the weights")
        expect.holds(
            (out > 0).all(),
            expected="every weight above zero where nothing is forbidden",
            got=f"a weight of {float(out.min()):.3g}",
            ask="Which function makes any real number positive?",
        )
        rows = out.sum(-1)
        got = "row sums " + ", ".join(f"{float(total):.2f}" for total in rows[0, :3])
        ask = "What is each row divided by?"
        for name, dims in (("the queries", -2), ("the batch", 0), ("all pairs at once", (-2, -1))):
            if ((out.sum(dims) - 1).abs() < 1e-4).all():
                got += f"; it is the sums over {name} that are 1: the softmax ran over {name}"
                ask = "Which dimension of (B, T, S) counts the keys?"
        expect.holds(
            ((rows - 1).abs() < 1e-4).all(),
            expected="each row, the weights of one query over the keys, to sum to 1",
            got=got,
            ask=ask,
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_rows_sum_to_one")
    def test_agrees_with_a_loop(self, student, rng):
        """agrees with a loop over the rows, with and without leading dimensions"""
        B, H, T, S = rng.distinct(4, high=6)
        for shape in [(B, T, S), (T, S), (B, H, T, S), (1, 1, S), (B, T, 1)]:
            scores = rng.tensor(*shape, scale=2.0)
            expected = weights_by_hand(scores)
            out = student.attention_weights(scores)
            mistakes = {
                "a softmax of scores that were divided by √S again": (scores / shape[-1] ** 0.5).softmax(-1),
                "scores divided by the sum of their row, without the exponential": scores
                / scores.sum(-1, True),
                "a sigmoid of each score, divided by the sum of its row": F.normalize(
                    scores.sigmoid(), 1, -1
                ),
            }
            ask = "Each weight is exp(score) over the sum of exp(score) in its row: which of the two is different?"
            expect.close(out, expected, what="the weights", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_boolean_mask(self, student, rng):
        """gives forbidden keys exactly zero and shares the rest among the permitted ones"""
        B, T, S = rng.distinct(3, high=7)
        scores, mask = rng.tensor(B, T, S), permitted(rng, B, T, S)
        expected, free = weights_by_hand(scores, mask), scores.softmax(-1)
        out = student.attention_weights(scores.clone(), mask)
        mistakes = {
            "weights that ignore the mask": free,
            "the weights of the inverted mask: True means that the query may attend": weights_by_hand(
                scores, ~mask
            ),
            "weights masked after the softmax, so that rows no longer sum to 1": free * mask,
            "forbidden scores set to 0 before the softmax, where exp(0) is still 1": (scores * mask).softmax(
                -1
            ),
            "True and False added to the scores as 1 and 0": (scores + mask).softmax(-1),
            "a softmax over the queries": lambda: scores.masked_fill(~mask, -INF).softmax(-2).nan_to_num(0.0),
        }
        ask = "Which number before the softmax becomes exactly 0 after it?"
        expect.close(out, expected, what="the weights", ask=ask, mistakes=mistakes)
        expect.holds(
            (out[~mask] == 0).all(),
            expected="forbidden weights that are exactly 0",
            got=f"a weight of {float(out[~mask].abs().max()):.3g}",
            ask=ask,
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_additive_mask(self, student, rng):
        """adds a mask of numbers to the scores"""
        B, T, S = rng.distinct(3, high=7)
        scores, allowed = rng.tensor(B, T, S), permitted(rng, B, T, S)
        mask = rng.tensor(B, T, S).masked_fill(~allowed, -INF)
        out = student.attention_weights(scores.clone(), mask.clone())
        mistakes = {
            "the weights without a mask: it was ignored, or read as yes or no, where any number but 0 is a yes": (
                scores.softmax(-1)
            ),
            "additive numbers read as yes or no: only the -inf had an effect": weights_by_hand(
                scores, allowed
            ),
            "the mask subtracted from the scores": lambda: (scores - mask).softmax(-1),
            "the mask multiplied with the scores": lambda: (scores * mask).softmax(-1),
        }
        ask = "A mask of floating-point numbers is added to the scores as it is. What does your code do with its dtype?"
        expect.close(out, weights_by_hand(scores, mask), what="the weights", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_boolean_mask")
    @pytest.mark.needs("test_additive_mask")
    def test_mask_broadcasts(self, student, rng):
        """takes every mask that broadcasts to the scores"""
        B, H, T, S = rng.distinct(4, high=6)
        for shape in [(S,), (T, S), (B, 1, 1, S), (1, H, T, S)]:
            scores, mask = rng.tensor(B, H, T, S), permitted(rng, *shape)
            for form in (mask, torch.zeros(shape).masked_fill(~mask, -INF)):
                out = student.attention_weights(scores.clone(), form)
                ask = "Which operation stretches dimensions of size 1, and which one insists on equal shapes?"
                expect.close(out, weights_by_hand(scores, form), what="the weights", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_boolean_mask")
    def test_nothing_permitted(self, student, rng):
        """answers zero for a query that may attend to nothing"""
        B, T, S = rng.distinct(3, low=3, high=7)
        scores, mask = rng.tensor(B, T, S), permitted(rng, B, T, S)
        mask[0, 1] = mask[-1, 0] = mask[-1, -1] = False
        for form in (mask, torch.zeros(B, T, S).masked_fill(~mask, -INF)):
            out = student.attention_weights(scores.clone(), form)
            expected = weights_by_hand(scores, form)
            empty = ~mask.any(-1, keepdim=True)
            mistakes = {
                "NaN in the rows without a permitted key: their softmax is 0 / 0": expected.masked_fill(
                    empty, np.nan
                ),
                "equal weights in the rows without a permitted key, as if all were permitted": expected.masked_fill(
                    empty, 1 / S
                ),
                "the unmasked weights in the rows without a permitted key": torch.where(
                    empty, weights_by_hand(scores), expected
                ),
            }
            ask = (
                "How do you find the rows in which every key is forbidden, and when do you set them to zero?"
            )
            expect.close(out, expected, what="the weights", ask=ask, mistakes=mistakes)
        out = student.attention_weights(scores.clone(), torch.zeros(T, S, dtype=torch.bool))
        expect.close(
            out, torch.zeros(B, T, S), what="the weights", ask="What if the mask forbids everything?"
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_nothing_permitted")
    def test_gradient_of_nothing(self, student, rng):
        """sends a zero gradient back from such a query, never NaN"""
        B, T, S = rng.distinct(3, low=3, high=7)
        scores, mask = rng.tensor(B, T, S), permitted(rng, B, T, S)
        mask[1, 0] = mask[-1, -1] = False
        given = rng.tensor(B, T, S)
        weights = weights_by_hand(scores, mask)
        expected = weights * (given - (weights * given).sum(-1, keepdim=True))
        scores.requires_grad_()
        for form in (mask, torch.zeros(B, T, S).masked_fill(~mask, -INF)):
            out = student.attention_weights(scores, form)
            expect.array(out, shape=(B, T, S), dtype=torch.float32, what="the weights")
            found = expect.gradient(out, scores, given)
            mistakes = {
                "NaN in the rows without a permitted key: NaN arose on the way, and was only hidden at the end": (
                    expected.masked_fill(~mask.any(-1, keepdim=True), np.nan)
                )
            }
            ask = "Which numbers could such a row hold before the softmax, so that no step on the way gives NaN?"
            what = "the gradient of the scores"
            expect.close(found, expected, atol=1e-4, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_boolean_mask")
    def test_large_scores(self, student, rng):
        """stays right for scores in the thousands, up or down"""
        B, T, S = rng.distinct(3, low=3, high=7)
        mask = permitted(rng, B, T, S)
        for shift in (1000.0, -3000.0):
            scores = (rng.tensor(B, T, S) * 4).round() / 4 + shift
            expected = weights_by_hand(scores, mask)
            out = student.attention_weights(scores.clone(), mask)
            ask = (
                "exp(1000) overflows, exp(-3000) is 0. What can you subtract from a row and keep its weights?"
            )
            expect.close(out, expected, atol=1e-3, what="the weights", ask=ask)
        scores = rng.tensor(B, T, S)
        expected = weights_by_hand(scores, mask)
        out = student.attention_weights(scores + 1000 * ~mask, mask)
        mistakes = {
            "zeros: the forbidden keys, whose scores are the highest, took all the weight before the mask came": (
                torch.zeros(B, T, S)
            )
        }
        ask = "Could a forbidden key, however high its score, change what the others get?"
        expect.close(out, expected, what="the weights", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_boolean_mask")
    def test_inputs_and_gradients(self, student, rng):
        """leaves scores and mask alone, keeps float64, and sends the right gradient back"""
        B, T, S = rng.distinct(3, high=7)
        scores, mask = rng.tensor(B, T, S, dtype=torch.float64), permitted(rng, T, S)
        additive = torch.zeros(T, S, dtype=torch.float64).masked_fill(~mask, -INF)
        with expect.unchanged(scores=scores, mask=mask):
            student.attention_weights(scores, mask)
        with expect.unchanged(scores=scores, mask=additive):
            student.attention_weights(scores, additive)
        expect.gradients(
            lambda scores: student.attention_weights(scores, mask), scores=scores, what="the weights"
        )


def wrong_attention(query, key, value):
    """What known mistakes make of attention without a mask."""
    raw, K, V = query @ key.mT, query.shape[-1], value.shape[-1]
    t, s = raw.shape[-2:]
    return {
        "attention without the division by √K": raw.softmax(-1) @ value,
        "attention with scores divided by K, not by √K": (raw / K).softmax(-1) @ value,
        "attention with scores divided by √V: the width of the values, not of the keys": (
            (raw / V**0.5).softmax(-1) @ value
        ),
        "attention with a softmax over the queries": (raw / K**0.5).softmax(-2) @ value,
        "the averages of the keys, not of the values": (raw / K**0.5).softmax(-1) @ key,
        "the value of the best key alone: a maximum in place of the softmax": (
            F.one_hot(raw.argmax(-1), s).float() @ value
        ),
        "attention to the past only, as under a causal mask, where no mask was given": (
            F.scaled_dot_product_attention(query, key, value, is_causal=True)
        ),
        "weights transposed before they met the values": (
            (raw / K**0.5).softmax(-1).mT @ value if t == s else value
        ),
        "query and key in each other's place: the keys asked": (
            (raw.mT / K**0.5).softmax(-1) @ value if t == s else value
        ),
        "attention scaled after the softmax, not before": raw.softmax(-1) / K**0.5 @ value,
        "scores times values: there is no softmax between": raw / K**0.5 @ value,
        "the plain average of the values": value.mean(-2, True).expand(*query.shape[:-1], V),
        "the weights themselves: they have not met the values yet": (raw / K**0.5).softmax(-1),
    }


def wrongly_masked(query, key, value, mask, form):
    """What known mistakes make of attention under a mask; ``form`` is the mask that was given, or what it comes to."""
    K = query.shape[-1]
    raw = query @ key.mT / K**0.5
    return {
        "the output without a mask: it was not passed on": raw.softmax(-1) @ value,
        "the output of the inverted mask": weights_by_hand(raw, ~mask).float() @ value,
        "the output of a mask that acts after the softmax": (raw.softmax(-1) * mask) @ value,
        "the output of a mask multiplied by √K": weights_by_hand(
            raw, form if form is mask else form * K**0.5
        ).float()
        @ value,
        "the output of a mask divided by √K": weights_by_hand(
            raw, form if form is mask else form / K**0.5
        ).float()
        @ value,
    }


@pytest.mark.exercise("scaled_dot_product_attention")
class TestScaledDotProductAttention:
    @pytest.mark.points(2)
    def test_agrees_with_pytorch(self, student, rng):
        """agrees with PyTorch on every shape"""
        K, B, T, S, V, H = sizes(rng, 6)
        for batch, t, s in [
            ((B,), T, T),
            ((B,), T, S),
            ((), T, S),
            ((B, H), T, S),
            ((B,), 1, S),
            ((B,), T, 1),
            ((1,), 1, 1),
        ]:
            query, key, value = rng.tensor(*batch, t, K), rng.tensor(*batch, s, K), rng.tensor(*batch, s, V)
            expected = F.scaled_dot_product_attention(query, key, value)
            out = student.scaled_dot_product_attention(query.clone(), key.clone(), value)
            ask = "Which of the three is off: scores, weights, weighted sum? Do the first two pass their own checks?"
            wrong = partial(wrong_attention, query, key, value)
            expect.close(out, expected, what="the output", ask=ask, mistakes=wrong)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_masks(self, student, rng):
        """agrees with PyTorch under boolean and additive masks"""
        K, B, T, S, V = sizes(rng, 5)
        query, key, value = rng.tensor(B, T, K), rng.tensor(B, S, K), rng.tensor(B, S, V)
        for shape in [(B, T, S), (B, 1, S), (T, S)]:
            mask = permitted(rng, *shape)
            for form in (mask, rng.tensor(*shape).masked_fill(~mask, -INF)):
                out = student.scaled_dot_product_attention(query.clone(), key.clone(), value, mask=form)
                ask = "What happens to the mask between your function's first line and the softmax?"
                expected = F.scaled_dot_product_attention(query, key, value, form)
                wrong = partial(wrongly_masked, query, key, value, mask, form)
                expect.close(out, expected, what="the output", ask=ask, mistakes=wrong)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_order_of_keys(self, student, rng):
        """does not care in which order keys and their values are stored"""
        K, B, T, S, V = sizes(rng, 5)
        query, key, value = rng.tensor(B, T, K), rng.tensor(B, S, K), rng.tensor(B, S, V)
        mask, order = permitted(rng, B, T, S), torch.from_numpy(rng.permutation(S))
        one = student.scaled_dot_product_attention(query, key, value, mask)
        expect.array(one, shape=(B, T, V), dtype=torch.float32)
        two = student.scaled_dot_product_attention(query, key[:, order], value[:, order], mask[:, :, order])
        ask = "Key s and value s belong together. Which step treats one position differently from the others?"
        expect.close(two, one, what="the output after shuffling the keys", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_masks")
    def test_nothing_permitted(self, student, rng):
        """answers zero, with finite gradients, for a query that may attend to nothing"""
        K, B, T, S, V = sizes(rng, 5)
        query, key, value = rng.tensor(B, T, K), rng.tensor(B, S, K), rng.tensor(B, S, V)
        mask = permitted(rng, B, T, S)
        mask[0, 0] = mask[-1, -1] = False
        query.requires_grad_()
        out = student.scaled_dot_product_attention(query, key, value, mask)
        expected = attend_by_hand(query, key, value, mask)
        empty = ~mask.any(-1, keepdim=True)
        mistakes = {
            "NaN in the rows without a permitted key": expected.masked_fill(empty, np.nan),
            "the average of all values in the rows without a permitted key": torch.where(
                empty, value.double().mean(1, keepdim=True), expected
            ),
        }
        ask = "What do your weights hold in a row without a permitted key?"
        expect.close(out, expected, what="the output", ask=ask, mistakes=mistakes)
        found = expect.gradient(out, query)
        expect.holds(
            found.isfinite().all() and (found[empty.expand_as(found)] == 0).all(),
            expected="a gradient of exactly zero for a query that may attend to nothing",
            got=f"entries such as {float(found[empty.expand_as(found)][0]):.3g}",
            ask="Is there a NaN on the way that a later step only hides?",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_extreme_inputs(self, student, rng):
        """stays right for scores of a thousand, and for tiny inputs"""
        _, B, T, S, V = sizes(rng, 5)
        key, value = rng.tensor(B, S, 4).round(), rng.tensor(B, S, V)
        query = torch.from_numpy(rng.integers(1, 4, (B, T, 4))).float() * 512
        out = student.scaled_dot_product_attention(query, key, value)
        ask = "Which step overflows, or loses digits, when scores lie in the thousands?"
        expect.close(out, attend_by_hand(query, key, value), atol=2e-3, what="the output", ask=ask)
        query, key, value = (rng.tensor(B, n, w, scale=1e-3) for n, w in ((T, 5), (S, 5), (S, V)))
        out = student.scaled_dot_product_attention(query, key, value)
        ask = "Is a small constant added somewhere? Here the values are as small as it is."
        expect.close(out, attend_by_hand(query, key, value), atol=2e-9, what="the output", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_inputs_and_gradients(self, student, rng):
        """leaves its inputs alone, keeps float64, and sends the right gradients back"""
        K, B, T, S, V = sizes(rng, 5)
        query, key, value = (rng.tensor(B, n, w, dtype=torch.float64) for n, w in ((T, K), (S, K), (S, V)))
        mask = permitted(rng, B, 1, S)
        with expect.unchanged(query=query, key=key, value=value, mask=mask):
            student.scaled_dot_product_attention(query, key, value, mask)
        expect.gradients(
            lambda query, key, value: student.scaled_dot_product_attention(query, key, value, mask),
            query=query,
            key=key,
            value=value,
        )


@pytest.mark.exercise("padding_mask")
class TestPaddingMask:
    def mask(self, student, lengths, size):
        """The mask for lengths that are possible."""
        possible = f"a mask for lengths {lengths} in size {size}, which are possible"
        try:
            out = student.padding_mask(torch.tensor(lengths), size)
        except ValueError:
            expect.fail(expected=possible, got="a ValueError", ask="Are 0 and size itself still allowed?")
        expect.array(out, dtype=torch.bool, what=possible)
        return out

    ASK = "Position s is real where s < lengths[b]. Which of the two sides runs over the batch?"

    @pytest.mark.points(1)
    def test_shape_and_type(self, student, rng):
        """is boolean, with a middle dimension of 1"""
        B, size = rng.distinct(2)
        out = student.padding_mask(torch.from_numpy(rng.integers(1, size, B)), size)
        ask = (
            "`size` may exceed every length. Which dimension of 1 makes the mask broadcast over the queries?"
        )
        expect.array(out, shape=(B, 1, size), what="the mask (B, 1, size)", ask=ask)
        ask = "What does a comparison of tensors return, and what turns it into numbers?"
        expect.array(out, dtype=torch.bool, what="the mask", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_shape_and_type")
    def test_marks_the_real_tokens(self, student, rng):
        """is True for the real tokens and for no other"""
        B, size = rng.distinct(2, low=3)
        lengths = rng.lengths(B, size)
        lengths[lengths.argmin()] = 2  # so that no two of the masks below agree
        out = student.padding_mask(lengths, size)
        place, length = torch.arange(size), lengths[:, None, None]
        mistakes = {
            "a mask that is True for the padding, not for the tokens": place >= length,
            "one position too many: s ≤ lengths[b] counts from 0 and includes the end": place <= length,
            "one position too few": place < length - 1,
            "a mask without position 0": (place > 0) & (place <= length),
            "the padding on the left": place >= size - length,
            "the mask of the lengths in sorted order: row b belongs to lengths[b]": place
            < length.sort(0).values,
            "True at position lengths[b] only": place == length,
            "True at the last real token only": place == length - 1,
        }
        expect.equal(out, place < length, what="the mask", ask=self.ASK, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_marks_the_real_tokens")
    def test_empty_and_full(self, student, rng):
        """takes sequences that are empty or full, and a batch of one"""
        _, size = rng.distinct(2)
        for lengths in ([0, size, 1, 0], [size], [0]):
            out = self.mask(student, lengths, size)
            expected = torch.tensor([[[s < length for s in range(size)]] for length in lengths])
            expect.equal(out, expected, what=f"mask for lengths {lengths}: entry ", ask=self.ASK)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_marks_the_real_tokens")
    def test_padding_is_not_seen(self, student, rng):
        """makes attention over a padded batch equal to attention over each sequence alone"""
        K, B, T, S, V = sizes(rng, 5)
        query, key, value = rng.tensor(B, T, K), rng.tensor(B, S, K), rng.tensor(B, S, V)
        lengths = rng.lengths(B, S)
        mask = student.padding_mask(lengths, S)
        expect.array(mask, shape=(B, 1, S), dtype=torch.bool, what="the mask")
        out = F.scaled_dot_product_attention(query, key, value, mask)
        for b, length in enumerate(lengths.tolist()):
            alone = F.scaled_dot_product_attention(query[b], key[b, :length], value[b, :length])
            ask = "Which keys does your mask let through that are no tokens, or the other way round?"
            expect.close(
                out[b],
                alone,
                what=f"attention over sequence {b}, of length {length}, with your mask,",
                ask=ask,
            )

    @pytest.mark.points(1)
    def test_refuses_impossible_lengths(self, student, rng):
        """raises ValueError for a length that is negative or larger than size"""
        B, size = rng.distinct(2, low=3)
        for wrong, when in (
            (size + 1, f"for a length of {size + 1} in size {size}"),
            (-1, "for a length of -1"),
        ):
            lengths = rng.lengths(B, size)
            lengths[rng.integers(B)] = wrong
            ask = "What would your mask say about such a sequence, and who would notice?"
            expect.raises(ValueError, lambda x=lengths: student.padding_mask(x, size), when=when, ask=ask)
        self.mask(student, [0, 1], size)
        self.mask(student, [size, 1], size)


@pytest.mark.exercise("causal_mask")
class TestCausalMask:
    @pytest.mark.points(1)
    def test_shape_and_type(self, student, rng):
        """is a boolean square"""
        [size] = rng.distinct(1, low=3)
        out = student.causal_mask(size)
        expect.array(
            out,
            shape=(size, size),
            what="the mask",
            ask="Rows are queries, columns are keys: how many of each?",
        )
        ask = "Which dtype do the entries start with? Masks that say yes or no are of dtype bool."
        expect.array(out, dtype=torch.bool, what="the mask", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_shape_and_type")
    def test_agrees_with_a_loop(self, student, rng):
        """permits the present and the past, and nothing of the future"""
        for size in rng.distinct(2, low=3):
            out = student.causal_mask(size)
            expected = torch.tensor([[s <= t for s in range(size)] for t in range(size)])
            everything = torch.ones(size, size, dtype=torch.bool)
            mistakes = {
                "the upper triangle: each position sees the future, not the past": expected.T,
                "the future only: True means that a query may attend": ~expected,
                "the past without the present: the diagonal is missing": everything.tril(-1),
                "one step too far: each position sees the next one as well": everything.tril(1),
                "everything permitted, the future as well": everything,
                "the diagonal only: the past is missing": torch.eye(size, dtype=torch.bool),
                "a triangle from the other corner": expected.flip(0),
                "a triangle from the other corner, upside down": expected.flip(1),
            }
            ask = "In row t, which columns s are already known when position t is computed?"
            expect.equal(out, expected, what="the mask", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_shape_and_type")
    def test_every_size(self, student, rng):
        """leaves every position something to attend to, whatever the size"""
        for size in (1, 2, int(rng.integers(20, 40))):
            out = student.causal_mask(size)
            expect.array(out, shape=(size, size), dtype=torch.bool, what="the mask")
            counts = out.sum(-1)
            wrong = (counts != torch.arange(1, size + 1)).nonzero().flatten().tolist()
            t = wrong[0] if wrong else 0
            expect.holds(
                not wrong,
                expected=f"{t + 1} permitted key{'s' if t else ''} for query {t} of {size}, itself included",
                got=f"{int(counts[t])} permitted",
                ask="Does the diagonal belong to what a position may see?",
            )


@pytest.mark.exercise("SelfAttention")
class TestSelfAttention:
    def layer(self, student, rng, D, K, V):
        """The learner's layer with weights that we have drawn, and these weights."""
        m = student.SelfAttention(D, K, V)
        shapes = {"query.weight": (K, D), "key.weight": (K, D), "value.weight": (V, D)}
        ask = "Are `query`, `key`, `value` three nn.Linear of their own, without bias, made in __init__?"
        expect.parameters(m, shapes, ask=ask)
        weights = {name: rng.tensor(*shape, scale=D**-0.5) for name, shape in shapes.items()}
        m.load_state_dict(weights, strict=False)  # a buffer of the learner's own may keep what it holds
        return m, weights

    def attend(self, x, weights, mask=None, **swap):
        """PyTorch's attention on the same weights; ``swap`` names the weights to use in another's place."""
        q, k, v = (x @ weights[f"{swap.get(n, n)}.weight"].to(x.dtype).T for n in ("query", "key", "value"))
        return F.scaled_dot_product_attention(q, k, v, mask)

    def wrong(self, x, weights, expected):
        """What known mistakes make of the layer, without a mask."""
        q, k, v = (x @ weights[f"{n}.weight"].T for n in ("query", "key", "value"))
        D = x.shape[-1]
        return {
            "query and key in each other's place": self.attend(x, weights, query="key", key="query"),
            "keys that ask for themselves: the map `key` made the queries as well": self.attend(
                x, weights, query="key"
            ),
            "queries that look among queries: the map `query` made the keys as well": self.attend(
                x, weights, key="query"
            ),
            "attention without the division by √K": (q @ k.mT).softmax(-1) @ v,
            "attention divided by √D: K is the width of a key": (q @ k.mT / D**0.5).softmax(-1) @ v,
            "one row for the whole sequence: each position has a row of its own": expected.mean(1, True),
            "one row for each sequence: each position has a row of its own": expected.mean(1),
            "attention over the batch: the sequences looked at one another": (
                F.scaled_dot_product_attention(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1))
            ).transpose(0, 1),
            "attention to the past only, as under a causal mask, where no mask was given": (
                F.scaled_dot_product_attention(q, k, v, is_causal=True)
            ),
            "the values as they are: nothing was attended to": v,
            "averages of the input x itself: the map `value` was not used": F.scaled_dot_product_attention(
                q, k, x
            ),
            "averages of the keys: the map `key` made the values too": self.attend(x, weights, value="key"),
            "averages of the queries: the map `query` made the values too": self.attend(
                x, weights, value="query"
            ),
            "the output plus the values: nothing is to be added here": expected + v,
        }

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns three linear maps without bias, named query, key and value"""
        K, D, V = sizes(rng, 3)
        self.layer(student, rng, D, K, V)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_agrees_with_pytorch(self, student, rng):
        """agrees with PyTorch on the same weights"""
        K, D, V, B, T = sizes(rng, 5)
        m, weights = self.layer(student, rng, D, K, V)
        for shape in [(B, T, D), (1, T, D), (B, 1, D)]:
            x = rng.tensor(*shape)
            out = m(x.clone())
            expected = self.attend(x, weights)
            ask = "Which map makes queries, which keys, which values, and what do you do with the three?"
            wrong = partial(self.wrong, x, weights, expected)
            expect.close(out, expected, what="the output", ask=ask, mistakes=wrong)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_masks(self, student, rng):
        """hands the mask on, boolean or additive"""
        K, D, V, B, T = sizes(rng, 5)
        m, weights = self.layer(student, rng, D, K, V)
        x = rng.tensor(B, T, D)
        for shape in [(B, T, T), (B, 1, T), (T, T)]:
            mask = permitted(rng, *shape)
            for form in (mask, rng.tensor(*shape).masked_fill(~mask, -INF)):
                out = m(x, mask=form)
                mistakes = {
                    "the output without a mask: forward did not hand it on": self.attend(x, weights),
                    "the output of the inverted mask": self.attend(x, weights, ~mask),
                    "the output of the transposed mask": lambda form=form: self.attend(x, weights, form.mT),
                }
                ask = "Where does `mask` go in your forward?"
                expect.close(
                    out, self.attend(x, weights, form), what="the output", ask=ask, mistakes=mistakes
                )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_reach(self, student, rng):
        """depends on exactly the positions that a causal and a padding mask permit"""
        K, D, V = sizes(rng, 3)
        B, T = 2, int(rng.integers(4, 6))
        m, _ = self.layer(student, rng, D, K, V)
        lengths = torch.from_numpy(rng.permutation([T, T - 2]))
        mask = (torch.arange(T) < lengths[:, None, None]) & torch.ones(T, T, dtype=torch.bool).tril()
        mask[rng.integers(B), 0] = False  # one query may attend to nothing, and so depends on nothing
        allowed = torch.zeros(B, T, B, T, dtype=torch.bool)
        for b, t in np.ndindex(B, T):
            allowed[b, t, b] = mask[b, t]
            allowed[b, t, b, t] |= bool(mask[b, t].sum() > 1)  # by its own query

        def attended(x):
            out = m(x, mask)
            expect.array(out, shape=(B, T, V), dtype=torch.float32)
            return out

        expect.reaches(attended, rng.tensor(B, T, D), allowed)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_order_of_positions(self, student, rng):
        """moves its outputs along when positions are shuffled"""
        K, D, V, B, T = sizes(rng, 5)
        m, _ = self.layer(student, rng, D, K, V)
        x, order = rng.tensor(B, T, D), torch.from_numpy(rng.permutation(T))
        one = m(x)
        expect.array(one, shape=(B, T, V), dtype=torch.float32)
        ask = "Attention without a mask does not know where a row stands. Which step of yours does?"
        expect.close(m(x[:, order]), one[:, order], what="the output after shuffling", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_inputs_and_gradients(self, student, rng):
        """leaves x alone, works in float64, and sends the right gradient back"""
        K, D, V, B, T = sizes(rng, 5)
        m, _ = self.layer(student, rng, D, K, V)
        m.double()
        x, mask = rng.tensor(B, T, D, dtype=torch.float64), permitted(rng, T, T)
        with expect.unchanged(x=x, mask=mask):
            m(x, mask)
        expect.gradients(lambda x: m(x, mask), x=x)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_every_map_learns(self, student, rng):
        """sends a gradient to each of its three maps"""
        K, D, V, B, T = sizes(rng, 5)
        m, weights = self.layer(student, rng, D, K, V)
        m.double()
        x, given = rng.tensor(B, T, D, dtype=torch.float64), rng.tensor(B, T, V, dtype=torch.float64)
        copies = {name: weight.double().requires_grad_() for name, weight in weights.items()}
        (self.attend(x, copies) * given).sum().backward()
        out = m(x.requires_grad_())
        expect.array(out, shape=(B, T, V), dtype=torch.float64)
        expect.gradient(out, x, given)
        found = expect.parameters(m, {name: tuple(weight.shape) for name, weight in weights.items()})
        ask = "Is each map called as a module, on the graph, whenever forward runs?"
        for name, copy in copies.items():
            grad, what = found[name].grad, f"the gradient of {name}"
            expect.holds(grad is not None, expected=f"a gradient for {name}", got="none", ask=ask)
            expect.close(grad, copy.grad, what=what, ask=ask)
