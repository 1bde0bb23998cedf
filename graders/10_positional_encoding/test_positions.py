"""Checks of unit 10, first half: who sees order, and vectors that are added to put it in.

Every check draws fresh inputs. Answers are judged by loops in float64, and by properties. Where an answer may draw a
permutation as it likes, the function that it is given keeps a record of what it was called with: that tells which
permutation it was.
"""

import math

import numpy as np
import pytest
import torch

from proctor import expect

DOUBLE = torch.float64


@pytest.mark.exercise("permutation_test")
class TestPermutationTest:
    def asked(self, student, function, x, seed):
        """What the learner's test returns, and the permutations, one a row, that the function was called with."""
        given = []

        def observed(rows):
            given.append(rows)
            usable = isinstance(rows, torch.Tensor) and rows.shape == x.shape and rows.dtype == x.dtype
            return function(rows if usable else x)

        out = student.permutation_test(observed, x.clone(), **({} if seed is None else {"seed": seed}))
        orders = [self.order_of(rows, x) for rows in given]
        ask = "`.item()` makes a plain number of a tensor with one entry. Does the `return` hand that back?"
        got = f"{type(out).__name__}: {out!r}"[:100] if out is not None else "None"
        expect.holds(type(out) is float, expected="a plain float", got=got, ask=ask)
        ask = "Both f(Px) and f(x) are needed. Do you call the function on both?"
        still = torch.arange(len(x))
        expect.holds(
            any(torch.equal(order, still) for order in orders) or len(orders) > 1,
            expected="the function called on x and on the shuffled x",
            got=f"{len(orders)} calls",
            ask=ask,
        )
        moved = [order for order in orders if not torch.equal(order, still)]
        expect.holds(
            moved,
            expected=f"the {len(x)} rows in another order",
            got=f"the rows as they were, with seed={seed}: every function passes such a test",
            ask="One of the permutations leaves all as it is. What do you do when it is drawn?",
        )
        return out, torch.stack(moved)

    def order_of(self, rows, x):
        """Which row of x each row is that the function was called with: all of them, in some order."""
        what = "what the function is called with"
        ask = "f takes a whole sequence: all T rows of x, in another order. Is it the rows that you shuffle?"
        expect.array(rows, shape=tuple(x.shape), dtype=x.dtype, what=what, ask=ask)
        same = (rows[:, None] == x[None]).all(-1)  # (T, T)
        got = "rows that are no rows of x"
        if torch.equal(rows.sort(-1).values, x.sort(-1).values):
            got = "the rows in their places, and the features within them shuffled"
        elif same.any(-1).all():
            got = "some rows of x twice, and others not at all"
        proper = same.any(-1).all() and same.any(0).all()
        expect.holds(proper, expected=f"{what}: each row of x once", got=got, ask=ask)
        return same.int().argmax(-1)

    def functions(self, rng, D, V):
        """Functions that treat rows as a set: attention, a network row by row, each row beside the mean."""
        w, u = rng.tensor(D, V, dtype=DOUBLE), rng.tensor(D, D, dtype=DOUBLE)
        yield lambda x: (x @ u @ x.T).softmax(-1) @ x @ w
        yield lambda x: (x @ w).tanh()
        yield lambda x: (x - x.mean(0)) @ w

    @pytest.mark.points(2)
    def test_zero_where_order_is_not_seen(self, student, rng):
        """is zero for attention, and for all that treats rows as a set"""
        T, D, V = rng.distinct(3, low=3)
        x = rng.tensor(T, D, dtype=DOUBLE)
        for function in self.functions(rng, D, V):
            out, (P, *_) = self.asked(student, function, x, int(rng.integers(0, 1000)))
            back = P.argsort()
            said = {
                "f(Px) was compared with f(x), whose rows stand in another order": function(x[P])
                - function(x),
                "P acted where its inverse belongs, or the other way round": function(x[P])
                - function(x)[back],
                "the output was shuffled, and the input was not": function(x)[P] - function(x),
            }
            near = " or ".join(
                name for name, d in said.items() if abs(d.abs().max().item() - abs(out)) < 1e-9
            )
            expect.holds(
                abs(out) < 1e-9,
                expected="0, up to rounding, for a function that does not see order",
                got=f"{out:.4g}" + (f": {near}" if near else ""),
                ask="The rows of f(Px) stand in the order P. Are those of f(x) brought into it, by the same P?",
            )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_zero_where_order_is_not_seen")
    def test_the_largest_difference(self, student, rng):
        """is the largest entry of |f(Px) − P f(x)| where order is seen"""
        T, D, V = rng.distinct(3, low=3)
        x, w, place = rng.tensor(T, D), rng.tensor(D, V), rng.tensor(T, V, scale=3.0)
        for sign in (1, -1):

            def function(x, sign=sign):
                return sign * 0.01 * (x @ w + place).square()

            out, orders = self.asked(student, function, x, int(rng.integers(0, 1000)))
            differences = torch.stack([function(x[P]) - function(x)[P] for P in orders])
            expected = differences.abs().max().item()
            first, P = differences[0], orders[0]
            mistakes = {
                "the largest difference with its sign: a large negative one counts as much": first.max().item(),
                "the smallest difference": first.abs().min().item(),
                "the mean of the differences: one row that betrays the order is enough": first.abs()
                .mean()
                .item(),
                "the mean of the differences, where signs cancel": first.mean().item(),
                "the sum of the differences": first.abs().sum().item(),
                "the sum of the differences, where signs cancel": first.sum().item(),
                "the root of the sum of squares": first.norm().item(),
                "the root of the mean square": first.square().mean().sqrt().item(),
                "the largest square": first.square().max().item(),
                "f(Px) compared with f(x), not with P f(x)": (function(x[P]) - function(x))
                .abs()
                .max()
                .item(),
                "relative differences": lambda P=P: (function(x[P]) / function(x)[P] - 1).abs().max().item(),
                "zero": 0.0,
            }
            ask = "All entries of f(Px) − P f(x) count, whatever their sign. Which one number is asked for?"
            mistakes = {
                name: value
                for name, value in mistakes.items()
                if callable(value) or abs(value - expected) > 1e-3 * expected
            }
            expect.close(out, expected, what="the answer", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_zero_where_order_is_not_seen")
    def test_never_the_identity(self, student, rng):
        """never draws the permutation that leaves all rows where they are"""
        D, first = int(rng.integers(2, 6)), int(rng.integers(0, 1000))
        x = rng.tensor(2, D)
        for seed in range(first, first + 12):
            self.asked(student, lambda x: x.cumsum(0), x, seed)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_zero_where_order_is_not_seen")
    def test_seeds(self, student, rng):
        """draws the same permutation for the same seed, and others for others, 0 among them"""
        T, D = int(rng.integers(9, 12)), int(rng.integers(2, 6))
        x = rng.tensor(T, D)

        def drawn(seed):
            return tuple(self.asked(student, lambda x: x.cumsum(0), x, seed)[1].flatten().tolist())

        one, again = drawn(0), drawn(0)
        ask = "Where does the order come from, and what does `seed` have to do with it?"
        expect.holds(
            one == again, expected="the same permutation twice with seed=0", got="two permutations", ask=ask
        )
        ask = "What is `seed` where nobody gives it?"
        expect.holds(
            drawn(None) == one,
            expected="the permutation of seed=0 where no seed is given",
            got="another one",
            ask=ask,
        )
        ask = "Where does the order come from, and what does `seed` have to do with it?"
        others = {drawn(seed) for seed in range(1, 6)} | {one}
        got = (
            "the same permutation for the seeds 0 to 5" if len(others) == 1 else f"{len(others)} for 6 seeds"
        )
        expect.holds(len(others) > 2, expected="different permutations for different seeds", got=got, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_zero_where_order_is_not_seen")
    def test_no_pattern_in_the_shuffle(self, student, rng):
        """also finds out a function that sees only who stands next to whom"""
        T, D = int(rng.integers(11, 14)), int(rng.integers(2, 6))
        x = rng.tensor(T, D)
        out, (P, *_) = self.asked(
            student, lambda x: x.roll(1, 0) + x.roll(-1, 0), x, int(rng.integers(0, 1000))
        )
        steps = (P - P.roll(1)) % T
        kind = {1: ": P only rotates the rows", T - 1: ": P turns the order round"}.get(int(steps[1]), "")
        expect.holds(
            out > 1e-3,
            expected="far more than 0 for a function that adds up each row's neighbours",
            got=f"{out:.3g}" + (kind if len(set(steps.tolist())) == 1 else ""),
            ask="Such a P keeps neighbours together. What draws any permutation, with equal chances?",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_zero_where_order_is_not_seen")
    def test_leaves_the_rest_alone(self, student, rng):
        """leaves x and the global random number generator as they were"""
        T, D = rng.distinct(2, low=3)
        x = rng.tensor(T, D)
        with expect.unchanged(x=x):
            student.permutation_test(torch.sin, x, seed=int(rng.integers(0, 1000)))
        state = student.torch.get_rng_state
        before = state()
        self.asked(student, torch.cos, x, int(rng.integers(0, 1000)))
        after = state()
        for numbers in (before, after):
            expect.array(numbers, dtype=torch.uint8, what="the generator's state")
        expect.holds(
            torch.equal(before, after),
            expected="a global random number generator that goes on as before",
            got="a global generator that was set or drawn from",
            ask="`torch.manual_seed` sets the generator of all. What has a seed of its own?",
        )

    @pytest.mark.points(1)
    def test_refuses_what_has_no_order(self, student, rng):
        """raises ValueError for fewer than two rows"""
        D = int(rng.integers(2, 6))
        for rows in (1, 0):
            expect.raises(
                ValueError,
                lambda rows=rows: student.permutation_test(torch.sin, rng.tensor(rows, D), seed=3),
                when=f"for {rows} rows",
                ask="One row can stand in one order only. What would the answer 0 make believe?",
            )
        self.asked(student, torch.sin, rng.tensor(2, D), 3)


def waves(length, d_model, base=10000.0):
    """The encoding in a loop, in float64."""
    out = np.zeros((length, d_model))
    for t, feature in np.ndindex(length, d_model):
        angle = t / base ** (2 * (feature // 2) / d_model)
        out[t, feature] = math.cos(angle) if feature % 2 else math.sin(angle)
    return torch.from_numpy(out)


def waves_of(angle, d_model):
    """Sines and cosines of angles (T, pairs), side by side, for one mistake or another."""
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :d_model]


@pytest.mark.exercise("sinusoidal_encoding")
class TestSinusoidalEncoding:
    @pytest.mark.points(1)
    def test_shape_and_type(self, student, rng):
        """gives each position a row of D float32 numbers"""
        T, half = rng.distinct(2, low=3)
        out = student.sinusoidal_encoding(T, 2 * half)
        ask = "One row for each position, one column for each feature: which dimension is which?"
        expect.array(out, shape=(T, 2 * half), what="the encoding (T, D)", ask=ask)
        ask = "The rows are added to embeddings of float32. Which of your lines decides the dtype?"
        expect.array(out, dtype=torch.float32, what="the encoding", ask=ask)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_shape_and_type")
    def test_agrees_with_a_loop(self, student, rng):
        """agrees with a loop over positions and features"""
        T, half = rng.distinct(2, low=3)
        D = 2 * half
        out = student.sinusoidal_encoding(T, D)
        t, i, one = torch.arange(T, dtype=DOUBLE)[:, None], torch.arange(half, dtype=DOUBLE), 10000.0
        angle = t / one ** (2 * i / D)
        own = t / one ** (torch.arange(D, dtype=DOUBLE) / D)
        doubled = t / one ** (2 * torch.arange(D, dtype=DOUBLE) / D)
        sines = (torch.arange(D) % 2 == 0)[None]
        mistakes = {
            "sines in the left half and cosines in the right one. They take turns: column 1 is cos(t)": (
                torch.cat([angle.sin(), angle.cos()], -1)
            ),
            "all cosines in the left half and all sines in the right one": torch.cat(
                [angle.cos(), angle.sin()], -1
            ),
            "exponents twice as large: an index that counts 0, 2, 4, … is 2i already": waves_of(
                t / one ** (4 * i / D), D
            ),
            "exponents half as large: i/D, where 2i/D is asked for": waves_of(t / one ** (i / D), D),
            "a wave of its own for each feature. A pair shares one: the exponent of column 2i + 1 is 2i/D": (
                torch.where(sines, own.sin(), own.cos())
            ),
            "a wave of its own for each feature, and exponents twice as large: a pair shares 2i/D": (
                torch.where(sines, doubled.sin(), doubled.cos())
            ),
            "exponents with an index from 1: 2(i + 1)/D. The first pair turns by 1 a position": waves_of(
                t / one ** (2 * (i + 1) / D), D
            ),
            "exponents over D − 2, so that the last wave is 1/base exactly": waves_of(
                t / one ** (2 * i / max(D - 2, 1)), D
            ),
            "cosines in the even columns and sines in the odd ones": torch.stack(
                [angle.cos(), angle.sin()], -1
            ).flatten(1),
            "sines only": torch.stack([angle.sin(), angle.sin()], -1).flatten(1),
            "cosines only": torch.stack([angle.cos(), angle.cos()], -1).flatten(1),
            "the angles themselves, without sine and cosine": torch.stack([angle, angle], -1).flatten(1),
            "positions counted from 1: the first row is that of position 0": waves_of(
                (t + 1) / one ** (2 * i / D), D
            ),
            "angles multiplied by base^(2i/D), not divided: the last pair is the slowest": lambda: waves_of(
                t * one ** (2 * i / D), D
            ),
            "pairs from slow to fast: the first pair turns by 1 a position": waves_of(angle.flip(-1), D),
            "angles in turns instead of radians": waves_of(2 * math.pi * angle, D),
            "all pairs as fast as the first: the exponents were cut to whole numbers": waves_of(
                t.expand(T, half), D
            ),
            "frequencies exp(−2i/D): the base does not take part": waves_of(t * torch.exp(-2 * i / D), D),
            "positions divided by T": waves_of(angle / T, D),
            "an encoding that was divided by the length of its rows": waves_of(angle, D) / half**0.5,
            "rows that do not differ: where do the positions come in?": waves_of(
                angle[:1].expand(T, half), D
            ),
        }
        ask = f"Entry [t, 1] is cos(t), entry [t, 2] is sin(t / 10000^(2/{D})). What stands in yours?"
        expect.close(out, waves(T, D), what="the encoding", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_base(self, student, rng):
        """lets the base say how slow the last waves are"""
        T, half = rng.distinct(2, low=3)
        D = 2 * half
        for base in (float(rng.uniform(1.2, 2.5)), float(rng.uniform(300, 3000)), 100):
            out = student.sinusoidal_encoding(T, D, base=base)
            mistakes = {f"the encoding of base 10000, where base={base:.4g} was given": waves(T, D)}
            ask = "Where does `base` come in?"
            expect.close(out, waves(T, D, base), what="the encoding", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_odd_width_and_small_sizes(self, student, rng):
        """also fills an odd number of features, where the last sine has no cosine"""
        T, half = rng.distinct(2, low=3)
        for length, width in ((T, 2 * half + 1), (T, 3), (T, 1), (T, 2), (1, 2 * half), (1, 1), (0, 4)):
            out = student.sinusoidal_encoding(length, width)
            mistakes = {
                "exponents over D − 1, the even part of an odd width": lambda w=width, n=length: waves_of(
                    torch.arange(n, dtype=DOUBLE)[:, None]
                    / 10000.0 ** (2 * torch.arange((w + 1) // 2, dtype=DOUBLE) / max(w - 1, 1)),
                    w,
                ),
                "exponents over D + 1: the width was rounded up": lambda w=width, n=length: waves_of(
                    torch.arange(n, dtype=DOUBLE)[:, None]
                    / 10000.0 ** (2 * torch.arange((w + 1) // 2, dtype=DOUBLE) / (w + 1)),
                    w,
                ),
                "a last column of zeros": lambda w=width, n=length: torch.cat(
                    [waves(n, w)[:, :-1], torch.zeros(n, 1)], -1
                ),
                "a cosine in the last column: its turn is a sine": lambda w=width, n=length: torch.cat(
                    [waves(n, w)[:, :-1], (torch.arange(n) / 10000.0 ** ((w - 1) / w))[:, None].cos()], -1
                ),
            }
            ask = f"With D = {width} there are {(width + 1) // 2} sines and {width // 2} cosines. Where do yours go?"
            what = f"the encoding for length={length}, d_model={width}"
            if width % 2 == 0:
                mistakes = {}
            expect.close(out, waves(length, width), what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_far_positions(self, student, rng):
        """stays right for positions in the thousands and for wide rows"""
        T, D = int(rng.integers(3000, 3300)), 8
        out = student.sinusoidal_encoding(T, D)
        t = torch.arange(T, dtype=DOUBLE)[:, None]
        frequency = 10000.0 ** (-2 * torch.arange(D // 2, dtype=DOUBLE) / D)
        mistakes = {
            f"positions that were counted in {name}, which cannot tell large numbers apart": waves_of(
                torch.arange(T).to(dtype).double()[:, None] * frequency, D
            )
            for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16))
        }
        ask = "Which dtype do positions and angles have on the way? The first angle grows to T."
        expect.close(
            out, waves_of(t * frequency, D), atol=2e-3, what="the encoding", ask=ask, mistakes=mistakes
        )
        wide = 2 * int(rng.integers(150, 200))
        out = student.sinusoidal_encoding(3, wide)
        expect.close(out, waves(3, wide), what=f"the encoding for d_model={wide}", ask=ask)


@pytest.mark.exercise("LearnedPositions")
class TestLearnedPositions:
    def layer(self, student, rng, length, width):
        """The learner's layer with weights that we have drawn, and these weights."""
        m = student.LearnedPositions(length, width)
        ask = "Is `weight` an nn.Parameter of one row for each position, made in __init__?"
        expect.parameters(m, {"weight": (length, width)}, ask=ask)
        weight = rng.tensor(length, width)
        m.load_state_dict(
            {"weight": weight}, strict=False
        )  # a buffer of the learner's own may keep what it holds
        return m, weight

    def sizes(self, rng):
        """Different sizes B, D, and T < max_length."""
        B, D, T = rng.distinct(3, high=7)
        return B, D, T, int(rng.integers(T + 4, T + 9))

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns one parameter, `weight`, a row for each position"""
        L, D = rng.distinct(2)
        self.layer(student, rng, L, D)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_starts_small(self, student, rng):
        """starts from normal draws with standard deviation 0.02"""
        L, D = int(rng.integers(180, 220)), int(rng.integers(48, 64))
        m = student.LearnedPositions(L, D)
        weight = expect.parameters(m, {"weight": (L, D)})["weight"].detach().double()
        mean, spread = float(weight.mean()), float(weight.std())
        known = {
            "0: every position starts alike": spread == 0,
            "that of torch.randn and nn.Embedding": abs(spread - 1) < 0.05,
            "√0.02: 0.02 is the standard deviation, not the variance": abs(spread - 0.02**0.5) < 0.005,
            "0.02²": abs(spread - 0.02**2) < 2e-5,
            "0.02/√3, that of even draws between −0.02 and 0.02": abs(spread - 0.02 / 3**0.5) < 3e-4,
            "that of one row for all positions": bool((weight[:-1] == weight[1:]).all()),
        }
        why = next((f": {text}" for text, holds in known.items() if holds), "")
        expect.holds(
            abs(spread - 0.02) < 0.001 and abs(mean) < 0.0015 and not why,
            expected="a mean of 0 and a standard deviation of 0.02, over all positions",
            got=f"a mean of {mean:.2g} and a standard deviation of {spread:.3g}{why}",
            ask="What does `torch.randn` draw, and what makes it narrower?",
        )
        largest = float((weight - mean).abs().max()) / spread
        expect.holds(
            2.5 < largest < 8,
            expected="normal draws",
            got=f"no entry beyond {largest:.2f} standard deviations" if largest < 3 else "an entry far out",
            ask="`torch.randn` draws from a normal distribution, `torch.rand` evenly from an interval. Which is it?",
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_adds_the_vector_of_each_position(self, student, rng):
        """adds to each row the vector of its position"""
        B, D, T, L = self.sizes(rng)
        m, weight = self.layer(student, rng, L, D)
        x = rng.tensor(B, T, D)
        with expect.unchanged(x=x):
            out = m(x)
        expected = x + weight[:T]
        mistakes = {
            "the vectors of the positions alone: they are added to x": weight[:T].expand(B, T, D),
            "the vectors of the positions alone, without a batch: they are added to x": weight[:T],
            "x as it was": x,
            "x times the vectors: they are added": x * weight[:T],
            "the vector of position 0 in every row": x + weight[0],
            "the last rows of `weight`": x + weight[-T:],
            "the rows of `weight` from position 1 on: the first row of x is position 0": x
            + weight[1 : T + 1],
            "the rows of `weight` in reverse": x + weight[:T].flip(0),
            "the same vector for a whole sequence: positions count rows, not sequences": lambda: (
                x + weight[:B, None]
            ),
            "x times √D, plus the vectors: scaling is not asked for here": x * D**0.5 + weight[:T],
            "x minus the vectors": x - weight[:T],
        }
        ask = "Row [b, t] of the output is row [b, t] of x plus row t of `weight`. Which part of yours is different?"
        expect.close(out, expected, what="the output", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_adds_the_vector_of_each_position")
    def test_offset(self, student, rng):
        """begins at the position that offset names"""
        B, D, T, L = self.sizes(rng)
        m, weight = self.layer(student, rng, L, D)
        for offset in (1, L - T, int(rng.integers(1, 4))):
            x = rng.tensor(B, T, D)
            out = m(x, offset=offset)
            mistakes = {
                "the vectors of the positions from 0 on: offset has no effect": x + weight[:T],
                "offset added to x as a number": x + weight[:T] + offset,
                "one position too far": lambda x=x, o=offset: x + weight[o + 1 : o + 1 + T],
                "offset counted from the end": lambda x=x, o=offset: x + weight[L - o - T : L - o],
            }
            ask = f"With offset={offset} and {T} rows, from which row of `weight` to which do you read?"
            expect.close(out, x + weight[offset : offset + T], what="the output", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_adds_the_vector_of_each_position")
    def test_every_shape(self, student, rng):
        """takes any number of leading dimensions, one row, and as many rows as there are vectors"""
        B, D, T, L = self.sizes(rng)
        m, weight = self.layer(student, rng, L, D)
        for shape in [(T, D), (B, 2, T, D), (1, T, D), (B, 1, D), (B, L, D)]:
            x = rng.tensor(*shape)
            ask = "Do you count dimensions from the end, so that any number may stand in front?"
            expect.close(m(x), x + weight[: shape[-2]], what="the output", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_refuses_positions_without_a_vector(self, student, rng):
        """raises ValueError where a position has no vector"""
        B, D, T, L = self.sizes(rng)
        m, _ = self.layer(student, rng, L, D)
        ask = "The positions run from offset to offset + T − 1. Between which bounds do they have to lie?"
        for length, offset in ((L + 1, 0), (T, L - T + 1), (1, L), (T, L + 3), (T, -1), (1, -L)):
            when = f"for {length} rows from position {offset} on, with {L} vectors"
            expect.raises(
                ValueError,
                lambda n=length, o=offset: m(rng.tensor(B, n, D), offset=o),
                when=when,
                ask=ask,
            )
        for length, offset in ((L, 0), (T, L - T), (1, L - 1)):
            out = m(rng.tensor(B, length, D), offset=offset)
            what = f"the output for {length} rows from position {offset} on, with {L} vectors,"
            expect.array(out, shape=(B, length, D), what=what, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_offset")
    def test_only_what_is_used_learns(self, student, rng):
        """sends a gradient to x and to the vectors in use, to no others"""
        B, D, T, L = self.sizes(rng)
        m, _ = self.layer(student, rng, L, D)
        m.double()
        offset = int(rng.integers(1, 4))
        x, given = rng.tensor(B, T, D, dtype=DOUBLE), rng.tensor(B, T, D, dtype=DOUBLE)
        expect.gradients(lambda x: m(x, offset=offset), x=x)
        m.zero_grad()
        out = m(x.requires_grad_(), offset=offset)
        expect.array(out, shape=(B, T, D), dtype=DOUBLE)
        expect.gradient(out, x, given)
        grad = expect.parameters(m, {"weight": (L, D)})["weight"].grad
        ask = "Does forward compute with `self.weight` itself, on the graph, without .data or .detach()?"
        expect.holds(grad is not None, expected="a gradient for weight", got="none", ask=ask)
        expected = torch.zeros(L, D, dtype=DOUBLE)
        expected[offset : offset + T] = given.sum(0)
        expect.close(grad, expected, what="the gradient of weight", ask=ask)
