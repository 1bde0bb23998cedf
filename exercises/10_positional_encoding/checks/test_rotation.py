"""Checks of unit 10, second half: rotation, attention with it, and a bias for distance.

Every check draws fresh inputs. A rotation is judged by complex multiplication in float64, the bias by a loop, and
both by properties.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proctor import expect

INF = float("inf")
DOUBLE = torch.float64


def attend(query, key, value, mask=None):
    """Attention in float64 or whatever comes in, by PyTorch's own operations."""
    scores = query @ key.mT / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -INF) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1) @ value


def speeds(width, base=10000.0, double=1.0):
    """By how much each plane of a row turns from one position to the next; ``double`` stretches the exponents."""
    return base ** (-2 * double * torch.arange(width // 2, dtype=DOUBLE) / width)


def turned(x, offset=0, base=10000.0, speed=None):
    """Rotation by complex multiplication in float64: feature i is the real part, i + K/2 the imaginary one."""
    half = x.shape[-1] // 2
    z = torch.complex(x[..., :half].double(), x[..., half:].double())
    speed = speeds(x.shape[-1], base) if speed is None else speed
    angle = torch.arange(offset, offset + x.shape[-2], dtype=DOUBLE)[:, None] * speed
    z = z * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], -1)


def neighbours(x, offset=0, base=10000.0):
    """The other layout: features 2i and 2i + 1 are a plane."""
    halves = turned(torch.cat([x[..., ::2], x[..., 1::2]], -1), offset, base)
    return torch.stack(halves.chunk(2, -1), -1).flatten(-2)


@pytest.mark.exercise("apply_rope")
class TestApplyRope:
    def sizes(self, rng):
        """Different sizes B, T and K = 2 · half."""
        B, T, half = rng.distinct(3, low=3, high=8)
        return B, T, 2 * half

    @pytest.mark.points(1)
    def test_turns(self, student, rng):
        """turns rows, which keep their shape and dtype"""
        B, T, K = self.sizes(rng)
        x = rng.tensor(B, T, K)
        out = student.apply_rope(x.clone())
        ask = "Each row is turned and stays where it is. Which of your lines changes the shape or the dtype?"
        expect.array(out, shape=(B, T, K), dtype=torch.float32, ask=ask)
        expect.holds(
            out.isfinite().all() and not torch.equal(out, x),
            expected="rows that have been turned, from position 1 on",
            got="x as it was" if torch.equal(out, x) else "an entry that is no finite number",
            ask="Does the `return` hand back what you have turned?",
        )

    @pytest.mark.points(3)
    @pytest.mark.needs("test_turns")
    def test_agrees_with_complex_numbers(self, student, rng):
        """agrees with multiplication by complex numbers"""
        B, T, K = self.sizes(rng)
        x = rng.tensor(B, T, K)
        with expect.unchanged(x=x):
            out = student.apply_rope(x)
        expected = turned(x)
        half, theta = K // 2, torch.arange(T, dtype=DOUBLE)[:, None] * speeds(K)
        one, two = x[..., :half].double(), x[..., half:].double()
        cos, sin = theta.cos(), theta.sin()
        first, second = one * cos - two * sin, two * cos + one * sin
        side = theta.repeat_interleave(2, -1)
        crossed = torch.cat([-two, one], -1)
        even, odd = x[..., ::2].double(), x[..., 1::2].double()
        mistakes = {
            "neighbours turned, features 2i and 2i + 1, as in the RoFormer paper. Here the planes are i and i + K/2": (
                neighbours(x)
            ),
            "planes of neighbours, put back as halves": torch.cat(
                [even * cos - odd * sin, odd * cos + even * sin], -1
            ),
            "planes of halves, put back as neighbours": torch.stack([first, second], -1).flatten(-2),
            "two layouts mixed: angles repeated for neighbours, features paired in halves": x * side.cos()
            + crossed * side.sin(),
            "planes turned clockwise: the signs of the sines are the other way round": turned(
                x, speed=-speeds(K)
            ),
            "no turn in the first half's sines: both signs are plus": torch.cat(
                [one * cos + two * sin, two * cos + one * sin], -1
            ),
            "both signs minus": torch.cat([one * cos - two * sin, two * cos - one * sin], -1),
            "a second half that was made from the first one after it had been turned": torch.cat(
                [first, two * cos + first * sin], -1
            ),
            "sine and cosine in each other's place": torch.cat(
                [one * sin - two * cos, two * sin + one * cos], -1
            ),
            "the halves swapped": torch.cat([second, first], -1),
            "positions counted from 1: row 0 is at position 0 and stays as it is": turned(x, offset=1),
            "exponents twice as large: an index that counts 0, 2, 4, … is 2i already": turned(
                x, speed=speeds(K, double=2.0)
            ),
            "exponents half as large: i/K, where 2i/K is asked for": turned(x, speed=speeds(K, double=0.5)),
            "all planes turned by the same angle, that of the first": turned(x, speed=torch.ones(half)),
            "angles multiplied by base^(2i/K), not divided": turned(x, speed=1 / speeds(K)),
            "planes from slow to fast: the first turns by 1 a position": turned(x, speed=speeds(K).flip(0)),
            "the sinusoidal encoding added to x. Here x is turned": x
            + torch.stack([sin, cos], -1).flatten(1),
            "x times its cosines alone: the sines are missing": torch.cat([one * cos, two * cos], -1),
            "the rows of the batch counted, not the positions": turned(x.transpose(0, 1)).transpose(0, 1),
            "rows that were brought to length 1: a turn leaves their length": F.normalize(expected, dim=-1),
            "the first half turned, and the second as it was": torch.cat([first, two], -1),
        }
        ask = "Take row 1 and plane 0: (x[0], x[K/2]) is turned by 1 radian. What does your code make of these two?"
        expect.close(out, expected, what="the output", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_complex_numbers")
    def test_offset(self, student, rng):
        """turns a piece of a text as it turns the whole"""
        B, T, K = self.sizes(rng)
        for offset in (1, int(rng.integers(3, 40)), int(rng.integers(100, 400))):
            x = rng.tensor(B, T, K)
            out = student.apply_rope(x, offset=offset)
            mistakes = {
                "rows turned as if the first stood at position 0: offset has no effect": turned(x),
                "offset subtracted": turned(x, offset=-offset),
                "one position too far": turned(x, offset=offset + 1),
                "positions multiplied by offset": turned(x, speed=offset * speeds(K)),
                "every row turned by offset, the rows' own positions left out": turned(
                    x.unsqueeze(-2), offset=offset
                ).squeeze(-2),
            }
            ask = f"With offset={offset}, row 0 stands at position {offset}. At which one does row 1 stand?"
            expect.close(out, turned(x, offset), atol=1e-4, what="the output", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_offset")
    def test_dot_products_see_the_distance(self, student, rng):
        """keeps the length of every row, and gives dot products that depend on the distance alone"""
        B, T, K = self.sizes(rng)
        x = rng.tensor(B, T, K)
        out = student.apply_rope(x, offset=int(rng.integers(1, 30)))
        expect.array(out, shape=(B, T, K))
        ask = "(a cos θ − b sin θ)² + (b cos θ + a sin θ)² is a² + b². Which of the four terms is different in yours?"
        expect.close(out.norm(dim=-1), x.norm(dim=-1), what="‖x‖ of each row", ask=ask)
        q, k = rng.tensor(1, 1, K), rng.tensor(1, 1, K)
        t, s, far = (int(n) for n in rng.permutation(np.arange(1, 30))[:3])
        products = []
        for shift in (0, far):
            one, two = student.apply_rope(q, offset=t + shift), student.apply_rope(k, offset=s + shift)
            for out in (one, two):
                expect.array(out, shape=(1, 1, K))
            products.append((one.double() * two.double()).sum().item())
        expect.holds(
            abs(products[0] - products[1]) < 1e-3,
            expected=f"the same dot product at {t} and {s} as at {t + far} and {s + far}: {products[0]:.6g}",
            got=f"{products[1]:.6g}",
            ask="Does a plane turn by the same angle from each position to the next?",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_complex_numbers")
    def test_base(self, student, rng):
        """lets the base say how slowly the last planes turn"""
        B, T, K = self.sizes(rng)
        x = rng.tensor(B, T, K)
        for base in (float(rng.uniform(5, 50)), 500000.0, 100):
            out = student.apply_rope(x, base=base)
            mistakes = {f"the rotation of base 10000, where base={base:.6g} was given": turned(x)}
            expect.close(
                out,
                turned(x, base=base),
                what="the output",
                ask="Where does `base` come in?",
                mistakes=mistakes,
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_complex_numbers")
    def test_every_shape(self, student, rng):
        """takes any number of leading dimensions, one row, and a width of 2"""
        B, T, K = self.sizes(rng)
        for shape in [(T, K), (2, B, T, K), (1, T, K), (B, 1, K), (B, T, 2), (2, 3, B, T, 4)]:
            x = rng.tensor(*shape)
            ask = "Positions are in the dimension before the last. Do you count dimensions from the end?"
            expect.close(student.apply_rope(x), turned(x), what="the output", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_complex_numbers")
    def test_far_positions_and_short_numbers(self, student, rng):
        """stays right far out, and for rows of bfloat16"""
        B, T, K = self.sizes(rng)
        offset = int(rng.integers(2500, 3000)) * 2 + 1
        x = rng.tensor(B, T, K)
        ask = "Which dtype do positions and angles have on the way?"
        out = student.apply_rope(x, offset=offset)
        expect.close(out, turned(x, offset), atol=1e-2, rtol=1e-3, what="the output", ask=ask)
        x, offset = x.bfloat16(), int(rng.integers(300, 400)) * 2 + 1
        out = student.apply_rope(x, offset=offset)
        expect.array(out, shape=(B, T, K), dtype=torch.bfloat16, ask="The output has the dtype of x.")
        wrong = torch.arange(offset, offset + T).bfloat16().double()[:, None] * speeds(K)
        z = torch.complex(*(part.double() for part in x.chunk(2, -1))) * torch.polar(
            torch.ones_like(wrong), wrong
        )
        by_hand = torch.cat([z.real, z.imag], -1)
        expected = turned(x, offset)
        counted = (out.double() - by_hand).abs().max() < 0.1 < (by_hand - expected).abs().max()
        off = (out.double() - expected).abs().max().item()
        got = f"an output that is off by up to {off:.2g}"
        got += ": positions were counted in bfloat16, which goes 256, 258, 260, …" if counted else ""
        what = f"rows of bfloat16 from position {offset} on turned as rows of float32 are, up to rounding"
        expect.holds(off < 0.12, expected=what, got=got, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_complex_numbers")
    def test_reach_and_gradients(self, student, rng):
        """keeps float64, sends the right gradient back, and lets no row see another"""
        K = 2 * int(rng.integers(2, 5))
        B, T = 2, int(rng.integers(3, 5))
        expect.gradients(lambda x: student.apply_rope(x), x=rng.tensor(B, T, K, dtype=DOUBLE))
        allowed = torch.eye(B * T, dtype=torch.bool).view(B, T, B, T)
        expect.reaches(lambda x: student.apply_rope(x), rng.tensor(B, T, K), allowed)

    @pytest.mark.points(1)
    def test_refuses_an_odd_width(self, student, rng):
        """raises ValueError for an odd width"""
        B, T, K = self.sizes(rng)
        for width in (K + 1, 1):
            expect.raises(
                ValueError,
                lambda width=width: student.apply_rope(rng.tensor(B, T, width)),
                when=f"for a width of {width}",
                ask="Which feature would have no partner?",
            )
        expect.array(student.apply_rope(rng.tensor(B, T, K)), shape=(B, T, K))


@pytest.mark.exercise("rotary_attention")
class TestRotaryAttention:
    def inputs(self, rng, *lead, dtype=torch.float32):
        """Queries, keys and values, all sizes different, the widths even."""
        T, S = rng.distinct(2, low=3, high=7)
        K, V = (2 * half for half in rng.distinct(2, low=2, high=5))
        shapes = ((T, K), (S, K), (S, V))
        return [rng.tensor(*lead, *shape, dtype=dtype) for shape in shapes]

    def expected(self, query, key, value, mask=None, offset=0):
        """By complex numbers and PyTorch's operations, in float64."""
        return attend(turned(query, offset), turned(key), value.double(), mask)

    @pytest.mark.points(3)
    def test_agrees_with_complex_numbers(self, student, rng):
        """turns queries and keys, and nothing else, and attends"""
        q, k, v = self.inputs(rng, int(rng.integers(2, 4)))
        self.agrees(student, k.roll(1, 0) + 1.0, k, v)  # as many queries as keys
        self.agrees(student, q, k, v)

    def agrees(self, student, q, k, v):
        """Expect the right answer, or name the mistake that leads to another."""
        with expect.unchanged(query=q, key=k, value=v):
            out = student.rotary_attention(q, k, v)
        plain = [part.double() for part in (q, k, v)]
        back = turned(v, speed=-speeds(v.shape[-1]))
        mistakes = {
            "values that were turned as well: they are handed over as they are": attend(
                turned(q), turned(k), turned(v)
            ),
            "values that were turned back": attend(turned(q), turned(k), back),
            "the output turned": turned(self.expected(q, k, v)),
            "attention without any rotation": attend(*plain),
            "queries turned, and keys as they were": attend(turned(q), *plain[1:]),
            "keys turned, and queries as they were": attend(plain[0], turned(k), plain[2]),
            "queries and keys turned in opposite directions: they see t + s": lambda: attend(
                turned(q), turned(k, speed=-speeds(k.shape[-1])), plain[2]
            ),
            "queries and keys turned twice": attend(turned(turned(q)), turned(turned(k)), plain[2]),
            "attention to the past only, as under a causal mask, where no mask was given": attend(
                turned(q), turned(k), plain[2], torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
            ),
            "keys that follow the queries: key 0 stands at position 0 too": attend(
                turned(q), turned(k, q.shape[-2]), plain[2]
            ),
            "keys that begin at S − T: key 0 stands at position 0": attend(
                turned(q), turned(k, k.shape[-2] - q.shape[-2]), plain[2]
            ),
            "averages of the keys": attend(turned(q), turned(k), turned(k)),
            "attention without the division by √K": attend(
                turned(q) * q.shape[-1] ** 0.5, turned(k), plain[2]
            ),
            "neighbours turned, as in the RoFormer paper": attend(neighbours(q), neighbours(k), plain[2]),
        }
        if q.shape == k.shape:
            mistakes["the keys asked, and the queries were searched"] = attend(turned(k), turned(q), plain[2])
        ask = "Which of query, key and value go through `apply_rope`? (Do its own checks pass?)"
        expect.close(out, self.expected(q, k, v), what="the output", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_complex_numbers")
    def test_offset(self, student, rng):
        """begins the queries at offset, and the keys at 0"""
        q, k, v = self.inputs(rng, 2)
        T, S = q.shape[-2], k.shape[-2]
        for offset in (1, S - 1, int(rng.integers(10, 60))):
            out = student.rotary_attention(q, k, v, offset=offset)
            mistakes = {
                "queries that begin at position 0: offset has no effect": self.expected(q, k, v),
                "keys that begin at offset too: then nothing but the distance from before is seen": self.expected(
                    q, k, v
                ),
                "keys that begin at offset, and queries at 0": attend(
                    turned(q), turned(k, offset), v.double()
                ),
                "queries that begin at S − T": self.expected(q, k, v, offset=S - T),
                "offset subtracted": self.expected(q, k, v, offset=-offset),
            }
            ask = f"With offset={offset}, query 0 stands at {offset}, key 0 at 0. How far apart are they?"
            expect.close(
                out, self.expected(q, k, v, offset=offset), what="the output", ask=ask, mistakes=mistakes
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_offset")
    def test_word_by_word(self, student, rng):
        """gives, word by word, what it gives for a whole text at once"""
        T, half, V = rng.distinct(3, low=2, high=6)
        q, k, v = rng.tensor(2, T, 2 * half), rng.tensor(2, T, 2 * half), rng.tensor(2, T, V)
        whole = self.expected(q, k, v, torch.ones(T, T, dtype=torch.bool).tril())
        for t in range(T):
            out = student.rotary_attention(q[:, t : t + 1], k[:, : t + 1], v[:, : t + 1], offset=t)
            ask = f"One query, at position {t}, looks back at the keys 0 to {t}. Where do yours stand?"
            what = f"the output for word {t} by itself"
            expect.close(out, whole[:, t : t + 1], what=what, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_complex_numbers")
    def test_masks_and_heads(self, student, rng):
        """hands the mask on, and takes any number of leading dimensions"""
        for lead in ((), (2, 3), (1,)):
            q, k, v = self.inputs(rng, *lead)
            T, S = q.shape[-2], k.shape[-2]
            mask = torch.from_numpy(rng.random((T, S)) < 0.6)
            mask[:, int(rng.integers(S))] = True
            for form in (mask, rng.tensor(T, S).masked_fill(~mask, -INF)):
                out = student.rotary_attention(q, k, v, form)
                mistakes = {"the output without a mask": self.expected(q, k, v)}
                if form.dtype == torch.bool:
                    mistakes["the output of the inverted mask"] = self.expected(q, k, v, ~form).nan_to_num(
                        0.0
                    )
                ask = "Where does `mask` go in your code?"
                expect.close(out, self.expected(q, k, v, form), what="the output", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_complex_numbers")
    def test_nothing_permitted(self, student, rng):
        """answers zero for a query that may attend to nothing"""
        q, k, v = self.inputs(rng)
        T, S = q.shape[-2], k.shape[-2]
        mask = torch.ones(T, S, dtype=torch.bool)
        empty = int(rng.integers(T))
        mask[empty] = False
        out = student.rotary_attention(q, k, v, mask)
        expected = self.expected(q, k, v)
        expected[empty] = 0.0
        mistakes = {
            "NaN for the query that may attend to nothing": expected.index_fill(
                0, torch.tensor([empty]), math.nan
            ),
            "an average of all values for the query that may attend to nothing": expected.index_copy(
                0, torch.tensor([empty]), v.double().mean(0, keepdim=True)
            ),
        }
        ask = "`scaled_dot_product_attention` of unit 08 answers zero there. What did you use instead?"
        expect.close(out, expected, what="the output", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_complex_numbers")
    def test_gradients(self, student, rng):
        """works in float64 and sends the right gradients back"""
        q, k, v = self.inputs(rng, 2, dtype=DOUBLE)
        offset = int(rng.integers(1, 9))
        expect.gradients(
            lambda query, key, value: student.rotary_attention(query, key, value, offset=offset),
            query=q,
            key=k,
            value=v,
        )


def prices(heads, length, slope=None, distance=None):
    """The bias entry by entry in float64."""
    out = np.zeros((heads, length, length))
    for h, t, s in np.ndindex(*out.shape):
        m = slope(h) if slope else 2.0 ** (-8 * (h + 1) / heads)
        out[h, t, s] = -m * (distance(t, s) if distance else t - s)
        if s > t:
            out[h, t, s] = -INF
    return torch.from_numpy(out + 0.0)  # no entry is −0


@pytest.mark.exercise("alibi_bias")
class TestAlibiBias:
    @pytest.mark.points(1)
    def test_shape_and_type(self, student, rng):
        """gives each head a matrix of float32, a row for each query"""
        H, T = int(rng.choice([2, 4, 8])), int(rng.choice([3, 5, 6, 7]))
        out = student.alibi_bias(H, T)
        ask = "One matrix for each head, so heads come first. How does (H,) broadcast against (T, T)?"
        expect.array(out, shape=(H, T, T), what="the bias (H, T, T)", ask=ask)
        ask = "The bias is added to scores of float32. Which of your lines decides the dtype?"
        expect.array(out, dtype=torch.float32, what="the bias", ask=ask)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_shape_and_type")
    def test_agrees_with_a_loop(self, student, rng):
        """agrees with a loop over heads, queries and keys"""
        H, T = int(rng.choice([2, 4, 8])), int(rng.choice([3, 5, 6, 7]))
        out, expected = student.alibi_bias(H, T), prices(H, T)
        future = expected == -INF
        past = expected.masked_fill(future, 0.0)
        both = -torch.tensor([2.0 ** (-8 * (h + 1) / H) for h in range(H)], dtype=DOUBLE)[:, None, None]
        d = (torch.arange(T)[:, None] - torch.arange(T)).double()
        mistakes = {
            "a reward for distance: the sign is the other way round": (-past).masked_fill(future, -INF),
            "a bias without -inf: the future pays |t − s|, but is not forbidden": both * d.abs(),
            "a bias without -inf: the future is rewarded with m · (s − t)": both * d,
            "zeros in the future, which forbid nothing": past,
            "keys in the rows and queries in the columns: -inf in the past, prices in the future": (
                both * d.abs()
            ).masked_fill(d > 0, -INF),
            "rewards in the past, and -inf in the future": (-both * d).masked_fill(future, -INF),
            "-inf on the diagonal too: a position may attend to itself": expected.masked_fill(d == 0, -INF),
            "finite numbers where -inf is asked for: -1e9": expected.masked_fill(future, -1e9),
            "finite numbers where -inf is asked for: the smallest float32": expected.masked_fill(
                future, torch.finfo(torch.float32).min
            ),
            "slopes that begin with 2^0: heads are counted from h = 0, slopes with h + 1": prices(
                H, T, lambda h: 2.0 ** (-8 * h / H)
            ),
            "slopes from gentle to steep: the first head has the steepest": expected.flip(0),
            "slopes 2^(−(h + 1)), as for 8 heads": prices(H, T, lambda h: 2.0 ** -(h + 1)),
            "slopes 2^(−(h + 1)/H): the 8 is missing": prices(H, T, lambda h: 2.0 ** (-(h + 1) / H)),
            "slopes 2^(−8): all heads alike": prices(H, T, lambda h: 2.0**-8),
            "the exponents as slopes, 8(h + 1)/H": prices(H, T, lambda h: 8 * (h + 1) / H),
            "slopes above 1: the exponent is negative": prices(H, T, lambda h: 2.0 ** (8 * (h + 1) / H)),
            "exponents of e, where 2 is asked for": prices(H, T, lambda h: math.exp(-8 * (h + 1) / H)),
            "no slopes: every step costs 1": prices(H, T, lambda h: 1.0),
            "a step too much: the nearest key, at distance 0, costs nothing": prices(
                H, T, distance=lambda t, s: t - s + 1
            ),
            "m · s, without −m · t. A softmax does not notice, and BLOOM does so, but −m (t − s) is asked for": prices(
                H, T, distance=lambda t, s: -s
            ),
            "the square of the distance": prices(H, T, distance=lambda t, s: (t - s) ** 2),
            "positions divided by T": prices(H, T, distance=lambda t, s: (t - s) / T),
            "a causal mask and nothing else: the past costs nothing": (0 * past).masked_fill(future, -INF),
            "+inf in the future, which attracts all attention": past.masked_fill(future, INF),
            "+inf in the future, and rewards in the past": (-past).masked_fill(future, INF),
            "exponentials of the bias: the softmax is taken later": expected.exp(),
            "NaN in the past: 0 · inf is no number. `masked_fill` or `torch.where` put -inf where it belongs": (
                torch.full_like(expected, math.nan).masked_fill(future, -INF)
            ),
        }
        mistakes = {name: value for name, value in mistakes.items() if not torch.equal(value, expected)}
        ask = f"With H = {H}, head 0 has the slope 2^(−{8 / H:g}). What stands in its entries [1, 0] and [0, 1]?"
        expect.close(out, expected, what="the bias", ask=ask, mistakes=mistakes)
        expect.holds(
            (out[future] == -INF).all(),
            expected="exactly -inf in the future",
            got="another number",
            ask="A large number forbids most of the time, -inf always.",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_every_size(self, student, rng):
        """takes one head or many, one position or many"""
        T = int(rng.integers(3, 8))
        for heads, length in (
            (1, T),
            (1, 1),
            (2, T),
            (16, T),
            (32, 2),
            (64, 1),
            (2, int(rng.integers(40, 60))),
        ):
            out = student.alibi_bias(heads, length)
            what = f"the bias of {heads} heads and {length} positions"
            ask = "Which part of the formula do you use for the slopes, and does it hold for every power of two?"
            expect.close(out, prices(heads, length), what=what, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_shape_and_type")
    def test_an_attention_with_it_is_causal(self, student, rng):
        """makes an attention causal: each row depends on itself and the past, on nothing else"""
        H, T, K = 2, int(rng.integers(4, 7)), int(rng.integers(2, 5))
        bias = student.alibi_bias(H, T)
        expect.array(bias, shape=(H, T, T), what="the bias (H, T, T)")
        causal = torch.ones(T, T, dtype=torch.bool).tril()
        allowed = torch.zeros(H, T, H, T, dtype=torch.bool)
        allowed[0, :, 0], allowed[1, :, 1] = causal, causal  # (H, T, K): a sequence for each head
        expect.reaches(lambda x: attend(x, x, x, bias), rng.tensor(H, T, K, scale=0.5), allowed)

    @pytest.mark.points(1)
    def test_refuses_what_is_no_power_of_two(self, student, rng):
        """raises ValueError for a number of heads that is no power of two"""
        ask = "Powers of two are 1, 2, 4, 8, … How do you tell that a number is none?"
        for heads in (3, 6, 12, int(rng.choice([5, 7, 9, 10])), 0, -1, -4):
            expect.raises(
                ValueError,
                lambda heads=heads: student.alibi_bias(heads, 4),
                when=f"for {heads} heads",
                ask=ask,
            )
        for heads in (1, 2, 4, 16):
            expect.array(student.alibi_bias(heads, 3), shape=(heads, 3, 3), what=f"the bias of {heads} heads")
