"""Checks of unit 02: softmax, log-sum-exp, cross-entropy, KL divergence and sampling.

Every check draws fresh inputs. Answers are judged by loops in plain Python, or by a property. Nothing is left to
chance: a draw is judged by the uniform number that it was given.
"""

import math

import numpy as np
import pytest

from proctor import expect

INF = math.inf


def plain(value):
    """A single number as an array without dimensions; everything else as it is."""
    number = isinstance(value, (float, int, np.number)) and not isinstance(value, bool)
    return np.asarray(value) if number else value


def logits_like(rng, *shape, scale=1.5):
    """Logits that differ enough for every softmax of them to have a shape of its own."""
    return rng.array(*shape, scale=scale)


def probabilities(rng, *shape):
    """Distributions along the last dimension, without very small entries."""
    weights = np.asarray(rng.uniform(0.2, 2.0, shape))
    return weights / weights.sum(-1, keepdims=True)


def softmax_of_one(z):
    """One softmax in plain Python."""
    parts = [math.exp(n - max(z)) for n in z]
    return np.array([part / math.fsum(parts) for part in parts])


def log_sum_exp_of_one(z):
    """One log-sum-exp in plain Python."""
    top = max(z)
    return top if math.isinf(top) else top + math.log(math.fsum(math.exp(n - top) for n in z))


def softmax_by_hand(x, axis=-1):
    return np.apply_along_axis(softmax_of_one, axis, x.astype(np.float64))


def log_sum_exp_by_hand(x, axis=-1):
    return np.apply_along_axis(log_sum_exp_of_one, axis, x.astype(np.float64))


def surprises(logits, targets):
    """-log p of each target (N,), target by target."""
    rows = zip(logits.reshape(-1, logits.shape[-1]).astype(np.float64), targets.ravel(), strict=True)
    return np.array([log_sum_exp_of_one(row) - row[target] for row, target in rows])


def kl_by_hand(p, q, axis=-1):
    """Outcome by outcome; an outcome with p = 0 adds nothing."""
    p, q = (np.moveaxis(np.asarray(n, dtype=np.float64), axis, -1) for n in np.broadcast_arrays(p, q))
    out = np.zeros(p.shape[:-1])
    for place in np.ndindex(*out.shape):
        for a, b in zip(p[place].tolist(), q[place].tolist(), strict=True):
            if a > 0:
                out[place] += a * (math.log(a) - math.log(b)) if b > 0 else INF
    return out


@pytest.mark.exercise("softmax")
class TestSoftmax:
    @pytest.mark.points(1)
    def test_rows_sum_to_one(self, student, rng):
        """makes each row of logits positive, with sum one"""
        T, V = rng.distinct(2, low=3)
        out = student.softmax(logits_like(rng, T, V))
        expect.array(
            out,
            shape=(T, V),
            kind=np.ndarray,
            what="the probabilities",
            ask="One for each logit: which line changes the shape?",
        )
        real = out.dtype.kind == "f"
        expect.holds(
            real,
            expected="probabilities in floating point",
            got=f"dtype {out.dtype}",
            ask="Where does it change?",
        )
        expect.holds(
            (out > 0).all(),
            expected="every probability above zero",
            got=f"a smallest one of {float(out.min()):.3g}",
            ask="Which function makes any number, negative ones too, positive?",
        )
        sums, ask = out.sum(-1), "What is each exponential divided by?"
        got = "row sums " + ", ".join(f"{total:.5g}" for total in sums[:3])
        for name, axes in (("columns", 0), ("all entries together", None)):
            if np.allclose(out.sum(axes), 1):
                got += f"; it is the sums over the {name} that are 1".replace("the all", "all")
                ask = "`axis` is -1 unless the caller says otherwise. Which axis does your sum run over?"
        if np.allclose(sums, 1, atol=0.02):
            ask = "Nearly so. Where is something rounded, or added to the sum?"
        expect.holds(np.allclose(sums, 1, atol=1e-5), expected="each row to sum to 1", got=got, ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_rows_sum_to_one")
    def test_agrees_with_a_loop(self, student, rng):
        """agrees with a loop, for a vector and for any number of dimensions"""
        B, T, V = rng.distinct(3, low=2, high=7)
        for shape in [(V,), (T, V), (B, T, V), (1, V), (T, 1)]:
            x = logits_like(rng, *shape)
            expected = softmax_by_hand(x)
            out = student.softmax(x)
            mistakes = {
                "a softmax of -x: the largest logit got the smallest probability": softmax_by_hand(-x),
                "powers of 2 where powers of e are meant": softmax_by_hand(x * math.log(2)),
                "the logarithms of the probabilities": np.log(expected),
                "the exponentials of the differences, not yet divided by their sum": np.exp(
                    x - x.max(-1, keepdims=True)
                ),
                "a sigmoid of each logit, divided by the sum of these": lambda x=x: (
                    (s := 1 / (1 + np.exp(-x))) / s.sum(-1, keepdims=True)
                ),
                "a softmax of logits that were stretched to lie between 0 and 1": lambda x=x: softmax_by_hand(
                    (x - x.min()) / np.ptp(x)
                ),
                "absolute values, divided by their sum": np.abs(x) / np.abs(x).sum(-1, keepdims=True),
            }
            ask = "Each probability is exp(logit) over the sum of these along the axis. Which of the two differs here?"
            expect.close(out, expected, what="the probabilities", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_axis(self, student, rng):
        """runs over the axis that it is given, the first or the last, counted from either end"""
        shape = tuple(rng.distinct(3, low=2, high=6))
        for axis in (0, 1, 2, -1, -2, -3):
            x = logits_like(rng, *shape)
            expected = softmax_by_hand(x, axis)
            out = student.softmax(x, axis=axis)
            mistakes = {
                f"a softmax over axis {other}, where axis={axis} was asked for": softmax_by_hand(x, other)
                for other in (2, 0, 1)
                if other != axis % 3
            }
            for other in {0, 1, 2} - {axis % 3}:
                shares = np.exp(x - x.max(axis, keepdims=True))
                mistakes[
                    f"exponentials divided by their sums over axis {other}, where axis={axis} was asked for"
                ] = shares / shares.sum(other, keepdims=True)
                shares = np.exp(x - x.max(other, keepdims=True))
                mistakes[f"the maximum over axis {other} was subtracted, where axis={axis} was asked for"] = (
                    shares / shares.sum(axis, keepdims=True)
                )
            mistakes["a softmax over all entries at once"] = softmax_by_hand(x.ravel()).reshape(shape)
            mistakes["the right numbers with their dimensions in another order"] = np.moveaxis(
                expected, axis, -1
            )
            ask = "Which lines of yours use `axis`? Both the maximum and the sum belong to it."
            expect.close(out, expected, what="the probabilities", ask=ask, mistakes=mistakes)
        expect.close(
            student.softmax(x, 1),
            softmax_by_hand(x, 1),
            what="the probabilities",
            ask="Is `axis` the second one?",
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_large_logits(self, student, rng):
        """stays right for logits in the thousands, up or down, next to each other"""
        T, V = rng.distinct(2, low=3, high=7)
        base = np.round(logits_like(rng, T, V) * 4) / 4
        uneven = base + np.resize([0.0, 1000.0, -3000.0], T)[:, None]
        wide = base - 9000.0 * np.eye(T, V)  # in a row, too, one logit may lie far below the others
        for x, where, nan in (
            (base + 1000.0, "logits near 1000", "NaN throughout: exp(1000) is inf, and inf / inf is NaN"),
            (base - 3000.0, "logits near -3000", "NaN throughout: exp(-3000) is 0, and 0 / 0 is NaN"),
            (uneven, "rows near 0, 1000 and -3000", "NaN throughout"),
            (wide, "logits of which some lie 9000 below the others", "NaN throughout"),
        ):
            expected, out = softmax_by_hand(x), student.softmax(x)
            lost = np.where(x.max(-1, keepdims=True) < x.max() - 700, np.nan, expected)
            with np.errstate(all="ignore"):
                least = np.exp(x - x.min(-1, keepdims=True))
                least = least / least.sum(-1, keepdims=True)
            mistakes = {
                nan: np.full(x.shape, np.nan),
                "NaN where the least logit of a row, or its mean, was subtracted: the largest stays far above 0": least,
                "NaN in rows far below the largest logit of all: each row needs its own maximum": lost,
                "equal probabilities: the logits were cut off, and their differences with them": (
                    np.full(x.shape, 1 / V)
                ),
                "zeros: the exponentials vanished before they were divided": np.zeros(x.shape),
            }
            ask = f"For {where}: what can you subtract from a row that changes none of its probabilities?"
            expect.close(out, expected, what="the probabilities", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_impossible_and_inputs(self, student, rng):
        """gives -inf exactly zero, keeps float32 and float64, and leaves its input alone"""
        T, V = rng.distinct(2, low=3, high=7)
        for dtype in (np.float64, np.float32):
            x = logits_like(rng, T, V).astype(dtype)
            x[np.arange(T), rng.integers(0, V, T)] = -INF
            expected = softmax_by_hand(x)
            with expect.unchanged(x=x):
                out = student.softmax(x)
            ask = "exp(-inf) is exactly 0. Which step of yours makes something else of it?"
            expect.close(out, expected, what="the probabilities", ask=ask)
            exact = (out[x == -INF] == 0).all()
            expect.holds(
                exact, expected="probability exactly 0 where the logit is -inf", got="a little more", ask=ask
            )
            ask = "Does one of your lines fix the dtype of what it makes?"
            expect.array(out, dtype=np.dtype(dtype), kind=np.ndarray, what="the probabilities", ask=ask)


@pytest.mark.exercise("log_sum_exp")
class TestLogSumExp:
    @pytest.mark.points(2)
    def test_agrees_with_a_loop(self, student, rng):
        """agrees with a loop, for a vector and for any number of dimensions"""
        B, T, V = rng.distinct(3, low=2, high=7)
        for shape in [(T, V), (V,), (B, T, V), (1, V), (T, 1)]:
            x = logits_like(rng, *shape)
            expected = np.asarray(log_sum_exp_by_hand(x))
            out = student.log_sum_exp(x)
            top = x.max(-1)
            mistakes = {
                "the sum of the exponentials, without the logarithm": np.exp(expected),
                "the logarithm of the mean, not of the sum": expected - math.log(shape[-1]),
                "the largest entry, which is only the greater part of it": top,
                "a sum from which the maximum is still missing: what you subtract before exp, add after log": (
                    expected - top
                ),
                "a sum to which the maximum was added with the wrong sign": expected - 2 * top,
                "a logarithm to base 2": expected / math.log(2),
                "the right numbers, with the summed axis kept at size 1": np.expand_dims(expected, -1),
                "one number for the whole array: the sum ran over all axes": np.asarray(
                    log_sum_exp_of_one(x.ravel())
                ),
                "a log-softmax: x less what is asked for here": x - np.expand_dims(expected, -1),
                "the sum of x: the logarithm came before the sum, and undid the exponential": x.sum(-1),
                "0, as the logarithm of 1: probabilities always sum to 1, and logits do not": np.zeros_like(
                    expected
                ),
                "every maximum added to every sum: one has kept its axis, and the other has not": lambda x=x: (
                    x.max(-1, keepdims=True) + np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1))
                ),
                "a sum over the first axis": lambda x=x: log_sum_exp_by_hand(x, 0),
            }
            ask = "For x = (0, 0) it is log 2 = 0.69. What does your code make of that, step by step?"
            expect.close(out, expected, what="the result", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_axis(self, student, rng):
        """sums along the axis that it is given, and drops that axis"""
        shape = tuple(rng.distinct(3, low=2, high=6))
        for axis in (0, 1, 2, -1, -2, -3):
            x = logits_like(rng, *shape)
            out = student.log_sum_exp(x, axis=axis)
            mistakes = {
                f"a sum over axis {other}, where axis={axis} was asked for": log_sum_exp_by_hand(x, other)
                for other in (2, 0, 1)
                if other != axis % 3
            }
            ask = "Which lines of yours use `axis`? When is the maximum an array with that axis, and when without?"
            expect.close(out, log_sum_exp_by_hand(x, axis), what="the result", ask=ask, mistakes=mistakes)
        expected = log_sum_exp_by_hand(x, 1)
        expect.close(
            student.log_sum_exp(x, 1), expected, what="the result", ask="Is `axis` the second parameter?"
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_large_entries(self, student, rng):
        """stays right for entries in the thousands, up or down, next to each other"""
        T, V = rng.distinct(2, low=3, high=7)
        base = np.round(logits_like(rng, T, V) * 4) / 4
        shift = np.resize([0.0, 1000.0, -3000.0], T)[:, None]
        for x in (base + 1000.0, base - 3000.0, base + shift, base - 9000.0 * np.eye(T, V)):
            expected, top = log_sum_exp_by_hand(x), x.max(-1)
            with np.errstate(all="ignore"):
                naive = np.log(np.exp(x).sum(-1))
                one_for_all = np.log(np.exp(x - x.max()).sum(-1)) + x.max()
                least = np.log(np.exp(x - x.min(-1, keepdims=True)).sum(-1)) + x.min(-1)
            mistakes = {
                "inf or -inf where exp ran out of range: the logarithm cannot bring back what exp has lost": naive,
                "-inf in rows far below the largest entry of all: each row needs its own maximum": one_for_all,
                "inf where the least entry of a row was subtracted, and the largest is still far above 0": least,
                "the largest entry alone": top,
            }
            ask = "log Σ exp(x) = m + log Σ exp(x - m) for any m. Which m keeps every exponential at 1 or below?"
            expect.close(
                student.log_sum_exp(x),
                expected,
                atol=1e-6,
                rtol=1e-9,
                what="the result",
                ask=ask,
                mistakes=mistakes,
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_zeros(self, student, rng):
        """takes -inf as the logarithm of zero, and a sum of zeros to be -inf again"""
        T, V = rng.distinct(2, low=3, high=7)
        x = logits_like(rng, T, V)
        x[1:, rng.integers(V)] = -INF
        x[0] = x[-1] = -INF
        expected = log_sum_exp_by_hand(x)
        nothing = np.isneginf(expected)
        mistakes = {
            "NaN where every entry is -inf: the maximum is -inf too, and -inf less -inf is NaN": np.where(
                nothing, np.nan, expected
            ),
            "0 where every entry is -inf: that is the logarithm of one, and the sum is zero": np.where(
                nothing, 0.0, expected
            ),
            "inf where every entry is -inf: the sign is lost": np.where(nothing, INF, expected),
        }
        ask = "If all entries are -inf, what should be subtracted, and what is log(0)?"
        out = student.log_sum_exp(x)
        expect.array(out, shape=expected.shape, kind=np.ndarray, what="the result")
        if out.dtype.kind == "f" and np.isfinite(out[nothing]).all() and (out[nothing] != 0).all():
            expect.fail(
                expected="-inf where every entry is -inf",
                got=f"{out[0]:.4g}: was a small number added, or put in place of -inf?",
                ask=ask,
            )
        expect.close(out, expected, what="the result", ask=ask, mistakes=mistakes)
        alone = student.log_sum_exp(x[0])
        expect.close(alone, -INF, what="the result for a vector of -inf", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_inputs(self, student, rng):
        """keeps float32 and float64, and leaves its input alone"""
        T, V = rng.distinct(2, low=3, high=7)
        for dtype in (np.float64, np.float32):
            x = logits_like(rng, T, V).astype(dtype)
            expected = log_sum_exp_by_hand(x)
            with expect.unchanged(x=x):
                out = student.log_sum_exp(x)
            expect.close(out, expected, what="the result", ask="What is different for float32?")
            ask = "Does one of your lines fix the dtype of what it makes?"
            expect.array(out, dtype=np.dtype(dtype), kind=np.ndarray, what="the result", ask=ask)


def loss(value, expected, *, ask, mistakes=None, what="the loss", atol=1e-5):
    """Expect one number."""
    value = plain(value)
    if isinstance(value, np.ndarray) and value.shape == (1,):
        ask = "Which step turns an array with one entry into a number?"
        expect.fail(expected=f"{what} as a plain number", got="an array of shape (1,)", ask=ask)
    wrong = {name: np.asarray(number) for name, number in (mistakes or {}).items()}
    expect.close(value, np.asarray(float(expected)), what=what, ask=ask, atol=atol, mistakes=wrong)


def ignored_somewhere(rng, targets, ignore_index):
    """The targets, with ``ignore_index`` at the ends of rows: none in one, one in another, three in a third."""
    targets, rows = targets.copy(), len(targets)
    for row, count in zip(rng.permutation(rows), np.resize([0, 1, 3], rows), strict=True):
        targets[row, targets.shape[1] - count :] = ignore_index
    return targets


@pytest.mark.exercise("cross_entropy")
class TestCrossEntropy:
    @pytest.mark.points(2)
    def test_agrees_with_a_loop(self, student, rng):
        """averages -log p(target) over the rows"""
        N, V = rng.distinct(2, low=3)
        logits, targets = logits_like(rng, N, V), rng.integers(0, V, N)
        each = surprises(logits, targets)
        every = np.array([surprises(logits, np.full(N, v)) for v in range(V)])
        picked = logits[np.arange(N), targets]
        mistakes = {
            "the sum over the rows, where their mean is asked for": each.sum(),
            "the mean with its sign turned: log p is negative, and surprise is -log p": -each.mean(),
            "a sum over the rows, divided by V": each.sum() / V,
            "the mean in bits: a logarithm to base 2": each.mean() / math.log(2),
            "the mean of -log of the logits: softmax comes first": float(np.mean(-np.log(np.abs(picked)))),
            "NaN: the logarithm of a negative number. The logits are no probabilities yet": math.nan,
            "a mean over every target in every row: row n picks only its own target": each.mean()
            + picked.mean()
            - logits[:, targets].mean(),
            "logits picked from the flattened array, where the targets count along each row": (
                (each + picked).mean() - logits.ravel()[targets].mean()
            ),
            "the mean of the negative logits: nothing is normalised yet": -picked.mean(),
            "the mean of log-sum-exp: the target's own logit is still missing": (each + picked).mean(),
            "the mean probability of the targets, without a logarithm": np.exp(-each).mean(),
            "-log of the mean probability: take the logarithm first, then the mean": -math.log(
                np.exp(-each).mean()
            ),
            "the mean of softmax taken twice: the loss starts from logits": surprises(
                softmax_by_hand(logits), targets
            ).mean(),
            "the mean over all outcomes, not over the targets": every.mean(),
            "the surprise of the most probable outcome: the targets were not used": surprises(
                logits, logits.argmax(-1)
            ).mean(),
            "a softmax over the rows instead of over the outcomes": float(
                (log_sum_exp_by_hand(logits, 0)[targets] - picked).mean()
            ),
        }
        ask = "For each row: the logarithm of the sum of all exponentials, less the logit of the target. And then?"
        answer = student.cross_entropy(logits, targets)
        if isinstance(answer, np.ndarray) and answer.shape == (N,):
            expect.fail(
                expected="one number, the mean",
                got=f"{N} numbers, one for each row",
                ask="What is left to do?",
            )
        loss(answer, each.mean(), ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_leading_dimensions(self, student, rng):
        """takes any number of leading dimensions, and none"""
        B, T, V = rng.distinct(3, low=2, high=7)
        for shape in [(B, T), (2, B, T), (1,), (1, 1)]:
            logits, targets = logits_like(rng, *shape, V), rng.integers(0, V, shape)
            ask = f"Targets of shape {shape} pick from the last dimension, {V} logits long. How do you index them?"
            loss(student.cross_entropy(logits, targets), surprises(logits, targets).mean(), ask=ask)
        logits, target = logits_like(rng, V), np.asarray(rng.integers(0, V))
        ask = "The logits of one prediction are a vector, its target an array without dimensions."
        loss(student.cross_entropy(logits, target), surprises(logits, target)[0], ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_ignored_targets(self, student, rng):
        """leaves ignored targets out of the sum and out of the number that it is divided by"""
        B, T = rng.distinct(2, low=4, high=8)
        for V in (int(rng.integers(3, 9)), int(rng.integers(120, 150))):
            logits = logits_like(rng, B, T, V)
            targets = ignored_somewhere(rng, rng.integers(0, V, (B, T)), -100)
            kept = targets != -100
            each = np.where(kept, surprises(logits, np.where(kept, targets, 0)).reshape(B, T), 0.0)
            mean = each.sum() / kept.sum()
            mistakes = {
                "the sum over the targets that count, divided by the number of all: the ignored still count there": (
                    each.mean()
                ),
                "the mean of each sequence's mean: targets of short sequences count for more": float(
                    (each.sum(1) / kept.sum(1)).mean()
                ),
                "the sum over the targets that count, not divided by their number": each.sum(),
                "the sum over the targets that count, divided by the number of sequences": each.sum() / B,
                "a mean in which ignored targets count as outcome 0": surprises(
                    logits, np.where(kept, targets, 0)
                ).mean(),
            }
            if V > 100:
                name = f"a mean in which -100 picked a logit, the hundredth from the end (V = {V})"
                mistakes[name] = surprises(logits, targets).mean()
            ask = f"{int(kept.sum())} of {targets.size} targets count here. Where does each of the two numbers come up?"
            loss(student.cross_entropy(logits, targets), mean, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_ignored_targets")
    def test_ignore_index(self, student, rng):
        """ignores the index that it is told, be it a valid outcome"""
        B, T, V = rng.distinct(3, low=4, high=8)
        for index in (0, V - 1, -1):
            logits, targets = logits_like(rng, B, T, V), rng.integers(0, V, (B, T))
            targets[targets == index] = 1
            targets = ignored_somewhere(rng, targets, index)
            kept = targets != index
            each = surprises(logits, np.maximum(targets, 0)).reshape(B, T)
            mistakes = {
                "the mean over all targets: `ignore_index` had no effect, and it may be a valid outcome": surprises(
                    logits, targets
                ).mean(),
                "the sum over the targets that count, divided by the number of all": each[kept].sum()
                / each.size,
                "the mean over the ignored targets: the comparison is the wrong way round": each[
                    ~kept
                ].mean(),
            }
            ask = f"With ignore_index={index}, which comparison tells the targets that count from the others?"
            answer = student.cross_entropy(logits, targets, ignore_index=index)
            loss(answer, each[kept].mean(), ask=ask, mistakes=mistakes)
        ask = "Is `ignore_index` the third parameter?"
        loss(student.cross_entropy(logits, targets, index), each[kept].mean(), ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_large_logits(self, student, rng):
        """stays right where a target is a thousand below the best, and is inf where it is impossible"""
        N, V = rng.distinct(2, low=3)
        logits, targets = np.round(logits_like(rng, N, V) * 4) / 4, rng.integers(0, V, N)
        logits[np.arange(N), targets] -= np.resize([1000.0, 0.0], N)
        for shift in (0.0, 2000.0, -2000.0):
            each = surprises(logits + shift, targets)
            mistakes = {
                "inf: softmax gave exactly 0, and log(0) is -inf": INF,
                "NaN: exp overflowed on the way": math.nan,
            }
            ask = "Can you get log p without ever computing p? Which of your functions helps?"
            answer = plain(student.cross_entropy(logits + shift, targets))
            shown = isinstance(answer, np.ndarray) and answer.shape == () and answer.dtype.kind == "f"
            if shown and 3 < answer < each.mean() - 1:
                got = f"{float(answer):.4g}: was p cut off from below, or a small number added, before the logarithm?"
                expect.fail(expected=f"the loss = {each.mean():.4g}", got=got, ask=ask)
            loss(answer, each.mean(), ask=ask, mistakes=mistakes, atol=1e-3)
        logits[0, targets[0]] = -INF
        answer = student.cross_entropy(logits, targets)
        loss(answer, INF, ask="A target with the logit -inf has probability 0. How surprising is it?")
        logits[0], logits[0, targets[0]] = -INF, 0.0
        logits[1:] = 0.0
        each = surprises(logits, targets)
        ask = (
            "Here every outcome but the target is impossible in row 0. What does -inf do on its way through?"
        )
        loss(student.cross_entropy(logits, targets), each.mean(), ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_ignored_targets")
    def test_nothing_counts(self, student, rng):
        """is 0 where every target is ignored"""
        B, T, V = rng.distinct(3, low=2, high=7)
        for shape in [(B, T), (B,)]:
            mistakes = {"NaN: a sum over nothing, divided by zero": math.nan}
            ask = "How many rows are left? What should a batch without anything to predict cost?"
            answer = student.cross_entropy(logits_like(rng, *shape, V), np.full(shape, -100))
            loss(answer, 0.0, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_ignored_targets")
    def test_wrong_targets(self, student, rng):
        """refuses targets that are no outcome"""
        N, V = rng.distinct(2, low=3)
        logits = logits_like(rng, N, V)
        ask = "NumPy takes a negative index without a word, and counts from the end. What do you test before you index?"
        for wrong in (-1, V, -V, V + 7):
            targets = rng.integers(0, V, N)
            targets[rng.integers(N)] = wrong
            when = f"where a target is {wrong} and V = {V}"
            question = (
                ask if wrong < 0 else f"Outcomes run from 0 to {V - 1}. What do you test before you index?"
            )
            expect.raises(
                ValueError, lambda t=targets: student.cross_entropy(logits, t), when=when, ask=question
            )
        targets = rng.integers(0, V, N)
        targets[0] = -100
        when = "where a target is -100, and ignore_index is 0"
        expect.raises(
            ValueError, lambda: student.cross_entropy(logits, targets, ignore_index=0), when=when, ask=ask
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_ignored_targets")
    def test_inputs(self, student, rng):
        """leaves its inputs alone, and does not care what the ignored rows hold"""
        B, T, V = rng.distinct(3, low=4, high=8)
        for dtype in (np.float64, np.float32):
            logits = logits_like(rng, B, T, V).astype(dtype)
            targets = ignored_somewhere(rng, rng.integers(0, V, (B, T)), -100).astype(np.int32)
            kept = targets != -100
            logits[~kept] += 3000.0
            expected = surprises(logits[kept], targets[kept]).mean()
            with expect.unchanged(logits=logits, targets=targets):
                answer = student.cross_entropy(logits, targets)
            ask = "The logits of ignored rows are large here. Where do they still take part?"
            loss(answer, expected, ask=ask)


@pytest.mark.exercise("kl_divergence")
class TestKLDivergence:
    @pytest.mark.points(2)
    def test_agrees_with_a_loop(self, student, rng):
        """agrees with a loop over the outcomes, in the right direction"""
        B, V = rng.distinct(2, low=3)
        for shape in [(B, V), (V,)]:
            p, q = probabilities(rng, *shape), probabilities(rng, *shape)
            expected = kl_by_hand(p, q)
            entropy = -(p * np.log(p)).sum(-1)
            mistakes = {
                "D(q ‖ p), the other direction: the expectation is taken over p": kl_by_hand(q, p),
                "the divergence with its sign turned": -expected,
                "minus D(q ‖ p): the expectation is taken over p": -kl_by_hand(q, p),
                "the divergence in bits: a logarithm to base 2": expected / math.log(2),
                "the cross-entropy of p and q: the entropy of p is still to be subtracted": expected
                + entropy,
                "the entropy of p: q was not used": entropy,
                "a mean over the outcomes, where a sum is asked for": expected / V,
                "half of D(p ‖ q) + D(q ‖ p), which is symmetric; this divergence is not": (
                    (expected + kl_by_hand(q, p)) / 2
                ),
                "D(p ‖ q) + D(q ‖ p), which is symmetric; this divergence is not": expected
                + kl_by_hand(q, p),
                "one number for all rows: the sum ran over all axes": np.asarray(expected.sum()),
                "the mean over all rows": np.asarray(expected.mean()),
                "the terms of the sum, not yet summed": p * np.log(p / q),
                "the entropy of q less that of p: it is log q that p must weigh": (
                    -(q * np.log(q)).sum(-1) - entropy
                ),
                "the entropy of p less that of q: it is log q that p must weigh": (
                    entropy + (q * np.log(q)).sum(-1)
                ),
                "the root of the divergence": np.sqrt(expected),
                "half the sum of |p - q|, which is another way to compare (total variation)": (
                    np.abs(p - q).sum(-1) / 2
                ),
                "the mean divergence of p and q from their average (Jensen-Shannon), which is symmetric": (
                    (kl_by_hand(p, (p + q) / 2) + kl_by_hand(q, (p + q) / 2)) / 2
                ),
                "a sum of log(p / q), not weighted by p": np.log(p / q).sum(-1),
                "a sum of absolute values: single terms may be negative": np.abs(p * np.log(p / q)).sum(-1),
                "a softmax taken of p and q first: they are probabilities already": lambda p=p, q=q: (
                    kl_by_hand(softmax_by_hand(p), softmax_by_hand(q))
                ),
                "the right numbers, with the summed axis kept at size 1": np.expand_dims(expected, -1),
            }
            ask = "Each outcome adds p · log(p / q). Which of p and q stands in front, and which on top?"
            answer = student.kl_divergence(p, q)
            expect.close(answer, expected, what="the divergence", ask=ask, mistakes=mistakes)
        same = student.kl_divergence(p, p)
        expect.close(same, 0.0, what="the divergence of p from itself", ask="log(p / p) is 0.")

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_axis(self, student, rng):
        """sums along the axis that it is given"""
        shape = tuple(rng.distinct(3, low=2, high=6))
        for axis in (0, 1, 2, -1, -2, -3):
            p, q = (
                np.moveaxis(probabilities(rng, *np.moveaxis(np.empty(shape), axis, -1).shape), -1, axis)
                for _ in "pq"
            )
            mistakes = {
                f"a sum over axis {other}, where axis={axis} was asked for": (p * np.log(p / q)).sum(other)
                for other in (2, 0, 1)
                if other != axis % 3
            }
            ask = "Which line of yours uses `axis`?"
            answer = student.kl_divergence(p, q, axis=axis)
            expect.close(answer, kl_by_hand(p, q, axis), what="the divergence", ask=ask, mistakes=mistakes)
        p, q = np.moveaxis(p, 0, 1), np.moveaxis(q, 0, 1)
        expected = kl_by_hand(p, q, 1)
        expect.close(
            student.kl_divergence(p, q, 1), expected, what="the divergence", ask="Is `axis` the third one?"
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_zeros_of_p(self, student, rng):
        """adds exactly nothing for an outcome with p = 0, whatever q is"""
        B, V = rng.distinct(2, low=4)
        p, q = probabilities(rng, B, V), probabilities(rng, B, V)
        gone = rng.integers(V, size=B)
        p[np.arange(B), gone] = 0.0
        p /= p.sum(-1, keepdims=True)
        for both in (False, True):
            if both:  # q is zero there as well, in every second row
                q[np.arange(0, B, 2), gone[::2]] = 0.0
                q /= q.sum(-1, keepdims=True)
            expected = kl_by_hand(p, q)
            answer = student.kl_divergence(p, q)
            mistakes = {
                "NaN: log(0) is -inf, and 0 times -inf is NaN": np.full(B, np.nan),
                "NaN where q is zero as well: 0 / 0": np.where(np.arange(B) % 2 == 0, np.nan, expected),
                "inf where p and q are zero: an outcome that p excludes costs nothing": np.where(
                    np.arange(B) % 2 == 0, INF, expected
                ),
            }
            ask = "p log p goes to 0 as p does. How do you keep NumPy's 0 · inf out of the sum?"
            expect.close(
                answer, expected, atol=1e-7, rtol=1e-7, what="the divergence", ask=ask, mistakes=mistakes
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_zeros_of_p")
    def test_zeros_of_q(self, student, rng):
        """is inf where q excludes what p permits"""
        B, V = rng.distinct(2, low=4)
        p, q = probabilities(rng, B, V), probabilities(rng, B, V)
        rows = np.arange(0, B, 2)
        q[rows, rng.integers(V, size=len(rows))] = 0.0
        q /= q.sum(-1, keepdims=True)
        expected = kl_by_hand(p, q)
        finite = np.array([kl_by_hand(a[b > 0], b[b > 0]) for a, b in zip(p, q, strict=True)])
        mistakes = {
            "the sum over the outcomes with q > 0: those that q excludes are the ones that matter most": finite,
            "NaN where q excludes what p permits": np.where(np.isinf(expected), np.nan, expected),
        }
        ask = "How surprised is someone to whom an event was impossible?"
        answer = student.kl_divergence(p, q)
        expect.array(answer, shape=(B,), kind=np.ndarray, what="the divergence")
        if (
            answer.dtype.kind == "f"
            and np.isfinite(answer[rows]).all()
            and (answer[rows] > finite[rows] + 0.1).all()
        ):
            got = f"{answer[0]:.4g}: a small number in place of zero, or added to it, makes infinity look harmless"
            expect.fail(expected="inf where q = 0 and p > 0", got=got, ask=ask)
        expect.close(answer, expected, what="the divergence", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_broadcast(self, student, rng):
        """compares many distributions with one"""
        B, T, V = rng.distinct(3, low=2, high=7)
        for shape in [(V,), (1, V), (T, V), (B, 1, V)]:
            p, q = probabilities(rng, B, T, V), probabilities(rng, *shape)
            expected = kl_by_hand(p, q)
            ask = f"p has the shape {p.shape}, q {q.shape}. Which of your lines needs equal shapes?"
            expect.close(student.kl_divergence(p, q), expected, what="the divergence", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_zeros_of_p")
    def test_inputs(self, student, rng):
        """keeps float32 and float64, and leaves its inputs alone, zeros too"""
        B, V = rng.distinct(2, low=3)
        for dtype in (np.float64, np.float32):
            p, q = probabilities(rng, B, V), probabilities(rng, B, V)
            p[0], p[0, 0] = 0.0, 1.0
            p, q = p.astype(dtype), q.astype(dtype)
            expected = kl_by_hand(p, q)
            with expect.unchanged(p=p, q=q):
                answer = student.kl_divergence(p, q)
            expect.close(answer, expected, what="the divergence", ask="What is different for float32?")
            ask = "Does one of your lines fix the dtype of what it makes?"
            expect.array(answer, dtype=np.dtype(dtype), kind=np.ndarray, what="the divergence", ask=ask)


def outcomes(value, expected, *, ask, mistakes=None, what="the outcomes"):
    """Expect exactly these outcomes, whole numbers of any kind."""
    value, expected = plain(value), np.asarray(expected)
    expect.array(value, shape=expected.shape, kind=np.ndarray, what=what, ask=ask)
    whole = value.dtype.kind in "iu"
    expect.holds(
        whole,
        expected=f"{what} as whole numbers",
        got=f"dtype {value.dtype}",
        ask="An outcome is an index from 0 to V - 1.",
    )
    expect.equal(value.astype(np.int64), expected.astype(np.int64), what=what, ask=ask, mistakes=mistakes)


def aimed(rng, probability, k):
    """Uniform numbers (...,) that lie well inside the share of outcome k (...,) in each row of ``probability``."""
    here = np.take_along_axis(probability, k[..., None], -1)[..., 0]
    below = np.take_along_axis(probability.cumsum(-1), k[..., None], -1)[..., 0] - here
    return below + here * rng.uniform(0.2, 0.8, k.shape)


def looked_up(probability, uniform):
    """Row by row: walk through the shares until the uniform number is used up."""
    out = np.zeros(uniform.shape, dtype=np.int64)
    for place in np.ndindex(*out.shape):
        left = float(uniform[place])
        for k, share in enumerate(probability[place].tolist()):
            out[place], left = k, left - share
            if left < 0:
                break
    return out


@pytest.mark.exercise("sample")
class TestSample:
    @pytest.mark.points(2)
    def test_frequencies(self, student, rng):
        """draws each outcome as often as its probability says"""
        V, N = int(rng.integers(4, 8)), 4000
        logits = rng.permutation(np.linspace(-1.5, 1.5, V))
        uniform = rng.permutation(
            (np.arange(N) + rng.uniform(0.3, 0.7)) / N
        )  # one in every Nth part of [0, 1)
        answer = student.sample(np.tile(logits, (N, 1)), uniform)
        ask = "Each row has a uniform number of its own. How do the probabilities cut [0, 1) into V pieces?"
        expect.array(answer, shape=(N,), kind=np.ndarray, what=f"the outcomes of {N} draws", ask=ask)
        whole = answer.dtype.kind in "iu" and (answer >= 0).all() and (answer < V).all()
        shown = (
            ", ".join(f"{n:.4g}" for n in answer[:4])
            if answer.dtype.kind in "iuf"
            else f"dtype {answer.dtype}"
        )
        expect.holds(whole, expected=f"whole numbers from 0 to {V - 1}", got=f"{shown}, …", ask=ask)
        probability = softmax_by_hand(logits)
        share = np.bincount(answer.astype(np.int64), minlength=V) / N
        known = {
            "; it is always the most probable outcome, whatever the uniform number": np.eye(V)[
                logits.argmax()
            ],
            "; all outcomes come equally often: the logits were not used": np.full(V, 1 / V),
            "; the smallest logit comes most often": softmax_by_hand(-logits),
            "; these are the probabilities turned round: the last outcome got the share of the first": probability[
                ::-1
            ],
            "; every outcome came one too late": np.roll(probability, 1),
            "; every outcome came one too early": np.roll(probability, -1),
        }
        ends = probability.cumsum()
        for words, wrong in (
            ("; each probability was compared by itself, and not their sums", probability > uniform[:, None]),
            ("; it is the nearest sum, not the first one above", -np.abs(ends - uniform[:, None])),
        ):
            known[words] = np.bincount(wrong.argmax(-1), minlength=V) / N
        got = "frequencies " + ", ".join(f"{n:.2f}" for n in share)
        got += next((words for words, wrong in known.items() if np.abs(share - wrong).max() < 0.01), "")
        if np.abs(share - probability).max() < 0.06:
            got += "; nearly so, as if your code drew random numbers of its own"
        if len(set(answer.tolist())) == 1 and "always" not in got:
            got += "; it is the same outcome in every row"
        told = ", ".join(f"{n:.2f}" for n in probability)
        expect.holds(
            np.abs(share - probability).max() < 2 / N, expected=f"frequencies {told}", got=got, ask=ask
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_frequencies")
    def test_looks_up(self, student, rng):
        """finds the outcome in whose share the uniform number lies, for any leading dimensions"""
        B, T, V = rng.distinct(3, low=4, high=7)
        for shape in [(B * T,), (B, T), (), (1,), (2, B, T)]:
            logits, k = logits_like(rng, *shape, V, scale=1.0), np.asarray(rng.integers(0, V, shape))
            probability = softmax_by_hand(logits)
            uniform = np.asarray(aimed(rng, probability, k))
            mistakes = {
                "the outcomes found from the other end, as if the last one came first": looked_up(
                    probability, 1 - uniform
                ),
                "the outcome after the right one": k + 1,
                "the outcome before the right one": k - 1,
                "the most probable outcomes: the uniform numbers were not used": logits.argmax(-1),
                "the outcomes of a row in which the probabilities were sorted": looked_up(
                    np.sort(probability), uniform
                ),
                "the outcomes of a row in which the probabilities were sorted, the largest first": looked_up(
                    np.sort(probability)[..., ::-1], uniform
                ),
            }
            if shape:
                first = np.broadcast_to(probability.reshape(-1, V)[0], probability.shape)
                mistakes["the outcomes by the first row's probabilities: each row has its own"] = looked_up(
                    first, uniform
                )
            if len(shape) == 2:
                mistakes["the outcomes of probabilities that were added up over the rows, too"] = looked_up(
                    np.diff(probability.cumsum(0).cumsum(-1), prepend=0), uniform
                )
            ask = (
                "Add the probabilities up from outcome 0. Where does the sum first exceed the uniform number?"
            )
            outcomes(student.sample(logits, uniform), k, ask=ask, mistakes=mistakes)
        outcomes(
            student.sample(np.zeros((3, 1)), rng.random(3)),
            np.zeros(3),
            ask="With one outcome there is no choice.",
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_looks_up")
    def test_temperature(self, student, rng):
        """divides the logits by the temperature"""
        N, V = 60, int(rng.integers(5, 8))
        for temperature in (0.5, 2, float(rng.uniform(2.5, 4.0)), float(rng.uniform(0.3, 0.6))):
            logits, k = logits_like(rng, N, V), rng.integers(0, V, N)
            shares = softmax_by_hand(logits)
            probability = softmax_by_hand(logits / temperature)
            uniform = aimed(rng, probability, k)
            scaled = shares / temperature
            mistakes = {
                "outcomes of logits multiplied by the temperature: a high one should even them out": looked_up(
                    softmax_by_hand(logits * temperature), uniform
                ),
                "outcomes at temperature 1: the temperature had no effect": looked_up(shares, uniform),
                "outcomes of probabilities divided by the temperature, where the logits should be": looked_up(
                    scaled, uniform
                ),
                "outcomes of a second softmax, of probabilities divided by the temperature": looked_up(
                    softmax_by_hand(scaled), uniform
                ),
                "outcomes of logits less the temperature": looked_up(
                    softmax_by_hand(logits - temperature), uniform
                ),
                "outcomes of logits divided by the root of the temperature": looked_up(
                    softmax_by_hand(logits / temperature**0.5), uniform
                ),
            }
            ask = f"At temperature {temperature:.3g}, what goes into the softmax?"
            outcomes(student.sample(logits, uniform, temperature=temperature), k, ask=ask, mistakes=mistakes)
        outcomes(student.sample(logits, uniform, temperature), k, ask="Is `temperature` the third parameter?")
        logits = np.round(logits * 4) / 4
        for shift in (1000.0, -3000.0):
            k = rng.integers(0, V, N)
            uniform = aimed(rng, softmax_by_hand(logits / 2), k)
            ask = "Logits in the thousands: does your softmax subtract the maximum?"
            outcomes(student.sample(logits + shift, uniform, temperature=2.0), k, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_looks_up")
    def test_temperature_zero(self, student, rng):
        """takes the largest logit at temperature 0, the first of equals, and refuses a negative temperature"""
        B, T, V = rng.distinct(3, low=4, high=7)
        for shape in [(B,), (B, T)]:
            logits, uniform = logits_like(rng, *shape, V), np.asarray(rng.random(shape))
            logits[0, ..., 1] = logits[0, ..., -1] = 9.0
            expected = np.zeros(shape, dtype=np.int64)
            for place in np.ndindex(*shape):
                expected[place] = logits[place].tolist().index(max(logits[place]))
            last = V - 1 - logits[..., ::-1].argmax(-1)
            mistakes = {
                "the outcomes of a draw at temperature 1": looked_up(softmax_by_hand(logits), uniform),
                "the last of several largest logits, where the first is asked for": last,
                "the smallest logits": logits.argmin(-1),
                "outcome 0 throughout: is that what NaN looks like on its way through a comparison?": np.zeros(
                    shape, np.int64
                ),
            }
            ask = "As the temperature goes to 0, which outcome gets all the probability? And what is x / 0?"
            outcomes(student.sample(logits, uniform, temperature=0), expected, ask=ask, mistakes=mistakes)
            outcomes(student.sample(logits, uniform, temperature=0.0), expected, ask=ask, mistakes=mistakes)
        for negative in (-1.0, -0.1):
            when = f"where the temperature is {negative:g}"
            ask = "Below zero the least probable outcome would win. Which line refuses it?"
            expect.raises(
                ValueError,
                lambda n=negative: student.sample(logits, uniform, temperature=n),
                when=when,
                ask=ask,
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_looks_up")
    def test_impossible(self, student, rng):
        """never draws an outcome of probability zero, and none beyond the last"""
        V = int(rng.integers(4, 8))
        logits = logits_like(rng, 3, V)
        logits[:, 0] = -INF
        logits[1, 1] = -INF
        mistakes = {
            "outcome 0, which is impossible: should the sum exceed the uniform number, or reach it?": np.zeros(
                3, np.int64
            )
        }
        ask = "The uniform number may be exactly 0, and the sum at outcome 0 is 0 here. Is that greater: `<` or `<=`?"
        outcomes(student.sample(logits, np.zeros(3)), [1, 2, 1], ask=ask, mistakes=mistakes)
        short = [V for V in range(200, 900) if np.full(V, 1 / V, np.float32).cumsum()[-1] < 1 - 2e-6]
        V = int(rng.choice(short))
        equal = np.zeros((2, V), dtype=np.float32)
        uniform = np.array([1 - 1e-7, 0.5 / V])
        mistakes = {
            f"outcome {V}, one beyond the last, which is {V - 1}": np.array([V, 0]),
            "outcome 0: is that what an index of none leads to?": np.array([0, 0]),
            "outcome -1: is that what an index of none leads to?": np.array([-1, 0]),
        }
        ask = "In float32 the sum of all probabilities can end at 0.99999. What if the uniform number is greater?"
        outcomes(student.sample(equal, uniform), [V - 1, 0], ask=ask, mistakes=mistakes)
        ends = np.concatenate([equal, np.full((2, 3), -INF, dtype=np.float32)], axis=-1)
        mistakes = {
            f"outcome {V + 2}, the last, which is impossible here: cutting off at V - 1 is not enough": np.array(
                [V + 2, 0]
            ),
            f"outcome {V + 3}, one beyond the last": np.array([V + 3, 0]),
            f"outcome {V}, whose logit is -inf": np.array([V, 0]),
        }
        outcomes(student.sample(ends, uniform), [V - 1, 0], ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_temperature")
    def test_inputs(self, student, rng):
        """leaves its inputs alone, and gives the same answer to the same question"""
        N, V = rng.distinct(2, low=4)
        logits, k = logits_like(rng, N, V), rng.integers(0, V, N)
        for temperature in (1.0, 3.0):
            uniform = aimed(rng, softmax_by_hand(logits / temperature), k)
            with expect.unchanged(logits=logits, uniform=uniform):
                first = student.sample(logits, uniform, temperature=temperature)
            ask = "All chance comes from `uniform`. Does anything in your code draw for itself?"
            outcomes(first, k, ask=ask)
            outcomes(student.sample(logits, uniform, temperature=temperature), k, ask=ask)
