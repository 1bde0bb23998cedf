"""Checks of unit 01: products of stacks, cosines, power iteration, principal components, low rank.

Every check draws fresh inputs. Answers are judged by loops, by what the input was built from, or by a property.
Eigenvectors and components may point either way.
"""

import numpy as np
import pytest

from proctor import expect


def product_by_hand(a, b):
    """One matrix product for each leading index, entry by entry."""
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = np.broadcast_to(a, (*lead, *a.shape[-2:])), np.broadcast_to(b, (*lead, *b.shape[-2:]))
    out = np.zeros((*lead, a.shape[-2], b.shape[-1]))
    for *i, t, s in np.ndindex(*out.shape):
        pairs = zip(a[(*i, t)].tolist(), b[(*i, slice(None), s)].tolist(), strict=True)
        out[(*i, t, s)] = sum(x * y for x, y in pairs)
    return out


def lengths_of(rows):
    """The length of each row (*B, N, 1)."""
    return np.sqrt((rows * rows).sum(-1, keepdims=True))


def cosines_by_hand(x, y):
    """Dot product over the product of the lengths, pair by pair; 0 where a length is 0."""
    dots = product_by_hand(x, y.swapaxes(-1, -2))
    lengths = product_by_hand(lengths_of(x), lengths_of(y).swapaxes(-1, -2))
    return np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)


def orthonormal(rng, size, count, across=None):
    """(size, count): orthonormal columns; with ``across`` each is at right angles to that vector, too."""
    drawn = rng.array(size, count + 1)
    if across is not None:
        drawn[:, 0] = across
    return np.linalg.qr(drawn)[0][:, 1:] if across is not None else np.linalg.qr(drawn[:, :count])[0]


def turned(wanted, like):
    """The rows of ``wanted``, each pointing as that row of ``like`` does: either way is right."""
    along = np.real(wanted * like).sum(-1, keepdims=True)
    return np.where(along < 0, -wanted, wanted)


def expect_vectors(value, wanted, what, ask, mistakes):
    """Expect these vectors, a row each, pointing either way; a mistake of the same shape may, too."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.shape == wanted.shape:
        wanted = turned(wanted, value)
        mistakes = {
            says: turned(wrong, value) if wrong.shape == value.shape else wrong
            for says, wrong in mistakes.items()
        }
    expect.close(value, wanted, what=what, ask=ask, mistakes=mistakes)


@pytest.mark.exercise("batched_matmul")
class TestBatchedMatmul:
    ASK = "Entry [..., t, s] is row t of a times column s of b. Which letter is summed over, and where does it stand?"

    @pytest.mark.points(2)
    def test_square_matrices(self, student, rng):
        """multiplies rows by columns, also where a wrong product has the right shape"""
        B, N = rng.distinct(2, high=6)
        a, b = rng.array(B, N, N), rng.array(B, N, N)
        out = student.batched_matmul(a, b)
        at, bt = a.swapaxes(1, 2), b.swapaxes(1, 2)
        mistakes = {
            "a · bᵀ: the rows of a times the rows of b, not its columns": product_by_hand(a, bt),
            "aᵀ · b: the columns of a times the columns of b": product_by_hand(at, b),
            "b · a: the two in each other's place": product_by_hand(b, a),
            "the right product, transposed: t and s are in each other's place": product_by_hand(bt, at),
            "aᵀ · bᵀ: both were transposed": product_by_hand(at, bt),
            "the product entry by entry, with nothing summed": a * b,
            "one matrix: the products of the whole stack were added up": product_by_hand(a, b).sum(0),
            "every matrix of a times every matrix of b: each has one partner only": np.tensordot(
                a, b, (2, 1)
            ),
            "a * b summed along its rows: row t of a meets row t of b, and no column": (a * b).sum(-1),
            "a * b summed along its columns: row t of a meets row t of b, and no column": (a * b).sum(-2),
            "a * b summed along both: one number for each matrix": (a * b).sum((1, 2)),
        }
        expect.close(out, product_by_hand(a, b), what="the product", ask=self.ASK, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_square_matrices")
    def test_every_shape(self, student, rng):
        """takes matrices of any shape, single rows and columns, and a stack of one"""
        B, T, K, S = rng.distinct(4, high=7)
        for b, t, k, s in [
            (B, T, K, S),
            (1, T, K, S),
            (B, 1, K, S),
            (B, T, K, 1),
            (B, T, 1, S),
            (1, 1, 1, 1),
        ]:
            one, other = rng.array(b, t, k), rng.array(b, k, s)
            out = student.batched_matmul(one, other)
            expect.close(out, product_by_hand(one, other), what="the product", ask=self.ASK)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_square_matrices")
    def test_leading_dimensions(self, student, rng):
        """works for two single matrices, and for any number of leading dimensions"""
        T, K, S, B, H = rng.distinct(5, high=6)
        ask = "`...` in an einsum stands for all leading dimensions, however many. Where do they go in your code?"
        for lead in [(), (B, H), (2, 1, B)]:
            one, other = rng.array(*lead, T, K), rng.array(*lead, K, S)
            out = student.batched_matmul(one, other)
            expect.close(out, product_by_hand(one, other), what="the product", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_leading_dimensions")
    def test_stacks_broadcast(self, student, rng):
        """lets the leading dimensions of a and b broadcast"""
        T, K, S, B, H = rng.distinct(5, high=6)
        ask = (
            "Which leading shape comes out of the two? np.broadcast_shapes tells; einsum's `...` sees to it."
        )
        for left, right in [((B,), ()), ((), (B,)), ((B, 1), (B, H)), ((H,), (B, 1))]:
            one, other = rng.array(*left, T, K), rng.array(*right, K, S)
            out = student.batched_matmul(one, other)
            expect.close(out, product_by_hand(one, other), what="the product", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_square_matrices")
    def test_refuses_different_widths(self, student, rng):
        """raises ValueError where the inner sizes differ, also where one of them is 1"""
        B, T, K, S, other = rng.distinct(5)
        for inner, own in [(K, other), (K, 1), (1, K), (K + 1, K)]:
            when = f"for a of shape {(B, T, inner)} and b of shape {(B, own, S)}"
            ask = "An inner size of 1 is stretched by broadcasting. Which two sizes should you compare first?"
            a, b = rng.array(B, T, inner), rng.array(B, own, S)
            expect.raises(ValueError, lambda a=a, b=b: student.batched_matmul(a, b), when=when, ask=ask)
        a, b = rng.array(K, K), rng.array(K, K)
        expect.close(student.batched_matmul(a, b), product_by_hand(a, b), what="the product", ask=self.ASK)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_every_shape")
    def test_inputs(self, student, rng):
        """leaves its inputs alone, and takes whole numbers"""
        B, T, K, S = rng.distinct(4, high=6)
        for draw in (rng.array, lambda *shape: rng.integers(-9, 9, shape)):
            a, b = draw(B, T, K), draw(B, K, S)
            with expect.unchanged(a=a, b=b):
                out = student.batched_matmul(a, b)
            expect.close(out, product_by_hand(a, b), what="the product", ask="Of which dtype is your result?")


@pytest.mark.exercise("cosine_similarity")
class TestCosineSimilarity:
    ASK = "Entry [t, s] is x[t] · y[s], over the length of x[t] and over that of y[s]. Which of the three is off?"

    @pytest.mark.points(2)
    def test_agrees_with_a_loop(self, student, rng):
        """agrees with a loop over every pair of rows"""
        T, S, D = rng.distinct(3, low=3, high=7)
        for t, s in [(D, D), (T, S), (S, T)]:
            x, y = rng.array(t, D, scale=2.0), rng.array(s, D, scale=3.0)
            out = student.cosine_similarity(x, y)
            dots, lx, ly = product_by_hand(x, y.T), lengths_of(x), lengths_of(y).T
            expected = dots / lx / ly
            by_column = product_by_hand(x / lengths_of(x.T).T, (y / lengths_of(y.T).T).T)
            ones = (np.abs(x).sum(-1, keepdims=True), np.abs(y).sum(-1))
            mistakes = {
                "the dot products as they are, not divided by the lengths": dots,
                "the dot products divided by the lengths of x only": dots / lx,
                "the dot products divided by the lengths of y only": dots / ly,
                "the dot products divided by the squares of the lengths": dots / lx**2 / ly**2,
                "the dot products divided by the roots of the lengths": dots / np.sqrt(lx * ly),
                "the dot products divided by the sum of the two lengths": dots / (lx + ly),
                "the dot products divided by D": dots / D,
                "rows divided by the sum of their absolute values, which is another norm": dots
                / ones[0]
                / ones[1],
                "every row divided by the length of all rows together: one length for each row is asked for": (
                    dots / np.linalg.norm(x) / np.linalg.norm(y)
                ),
                "columns scaled to length one: the lengths were taken along the wrong axis": by_column,
                "the table transposed: its rows belong to x": expected.T,
                "the absolute values of the cosines: opposite is not alike": np.abs(expected),
                "one minus the cosine, which is a distance": 1 - expected,
                "the angles, not their cosines": np.arccos(expected.clip(-1, 1)),
                "correlations: the mean of each row was subtracted": cosines_by_hand(
                    x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
                ),
                "the cosine of each row of x with the same row of y: every pair is asked for": expected.diagonal(),
                "rows divided by their largest entry: divide by the length": product_by_hand(
                    x / x.max(-1, keepdims=True), (y / y.max(-1, keepdims=True)).T
                ),
                "rows divided by their largest magnitude: divide by the length": product_by_hand(
                    x / np.abs(x).max(-1, keepdims=True), (y / np.abs(y).max(-1, keepdims=True)).T
                ),
            }
            if t == s:
                says = "the dot products over lengths that ran along the columns: a shape (T,) is aligned on the right"
                mistakes[says] = dots / lx[:, 0] / ly[0]
            if s == D:
                whole = product_by_hand(x, y) / np.linalg.norm(x) / np.linalg.norm(y)
                mistakes[
                    "x · y over one length for each matrix: rows meet rows, and each row has its length"
                ] = whole
                square = product_by_hand(x / lx, y / lengths_of(y))
                mistakes["x · y: rows of x times the columns of y, not its rows"] = square
                square = product_by_hand(x / lx, y / lengths_of(y.T).T)
                mistakes["x · y, with columns of y scaled to length one: compare with the rows of y"] = square
            expect.close(out, expected, what="the cosines", ask=self.ASK, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_length_does_not_count(self, student, rng):
        """gives the same for vectors a billion times as long, or as short"""
        T, S, D = rng.distinct(3, high=7)
        x, y = rng.array(T, D), rng.array(S, D)
        for scale in (1e-9, 1e-12, 1e9):
            stretched = x * scale * rng.uniform(0.5, 2.0, (T, 1))
            for one, other in ((stretched, y), (stretched, y * scale)):
                out = student.cosine_similarity(one, other)
                lx, ly = lengths_of(one), lengths_of(other).T
                expected = cosines_by_hand(one, other)
                mistakes = {
                    f"{says}, {eps:g}: it outweighs short vectors": expected * lx * ly / below
                    for eps in (1e-12, 1e-10, 1e-9, 1e-8, 1e-6)
                    for says, below in (
                        ("quotients with a small number added to the product of the lengths", lx * ly + eps),
                        ("quotients with a small number added to each length", (lx + eps) * (ly + eps)),
                        (
                            "lengths that were kept above a small number",
                            np.maximum(lx, eps) * np.maximum(ly, eps),
                        ),
                        ("products of lengths that were kept above a small number", np.maximum(lx * ly, eps)),
                    )
                }
                ask = "Does anything but the direction enter your quotient: a constant, a limit from below?"
                what = f"for rows of length about {scale:g}, the cosines"
                expect.close(out, expected, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_zero_rows(self, student, rng):
        """gives 0, not NaN, for a row of zeros"""
        T, S, D = rng.distinct(3, low=3, high=7)
        x, y = rng.array(T, D), rng.array(S, D)
        x[rng.integers(T)] = 0.0
        for zero in (rng.integers(S), slice(0)):
            other = y.copy()
            other[zero] = 0.0
            out = student.cosine_similarity(x, other)
            expected = cosines_by_hand(x, other)
            none = (lengths_of(x) == 0) | (lengths_of(other).T == 0)
            mistakes = {
                "NaN for the rows of zeros, where 0 is divided by 0": np.where(none, np.nan, expected),
                "1 for the rows of zeros": np.where(none, 1.0, expected),
                "zeros everywhere: the other rows still have their cosines": np.zeros_like(expected),
            }
            ask = "A row of zeros has length 0. What could it be divided by, so that 0 comes out?"
            expect.close(out, expected, what="the cosines", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_leading_dimensions(self, student, rng):
        """works for stacks, whose leading dimensions broadcast"""
        T, S, D, B, H = rng.distinct(5, high=6)
        for left, right in [((B,), (B,)), ((B, H), (B, H)), ((B,), ()), ((B, 1), (1, H))]:
            x, y = rng.array(*left, T, D), rng.array(*right, S, D)
            out = student.cosine_similarity(x, y)
            ask = "Which axes do you swap, and along which do you sum: counted from the end?"
            expect.close(out, cosines_by_hand(x, y), what="the cosines", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_known_angles(self, student, rng):
        """gives 1 for a vector and itself, -1 for its opposite, 0 at right angles"""
        D = int(rng.integers(3, 8))
        one, other = orthonormal(rng, D, 2).T
        x = one[None] * rng.uniform(2, 9)
        y = np.stack([x[0], -x[0] / 7, other, one + other])
        out = student.cosine_similarity(x, y)
        expected = np.array([[1.0, -1.0, 0.0, 0.5**0.5]])
        expect.close(
            out, expected, what="the cosines", ask="What is the dot product of a vector with itself?"
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_inputs(self, student, rng):
        """leaves its inputs alone, and takes whole numbers"""
        T, S, D = rng.distinct(3, high=6)
        for draw in (rng.array, lambda *shape: rng.integers(1, 9, shape)):
            x, y = draw(T, D), draw(S, D)
            with expect.unchanged(x=x, y=y):
                out = student.cosine_similarity(x, y)
            expect.close(out, cosines_by_hand(x, y), what="the cosines", ask="Of which dtype is your result?")


@pytest.mark.exercise("power_iteration")
class TestPowerIteration:
    ASK = "After each product the vector is scaled to length one; λ is vᵀ A v with the last v. Which step is different?"

    def found(self, student, matrix, start, *steps, **named):
        """The learner's eigenvalue and eigenvector, the latter as an array of plain numbers."""
        out = student.power_iteration(matrix, start, *steps, **named)
        value, vector = expect.parts(out, "the eigenvalue", "the eigenvector")
        ask = (
            "Is it one vector (N,), after the eigenvalue? `*` goes entry by entry; `@` sums over what meets."
        )
        what = "the eigenvector (second of the two)"
        expect.array(vector, shape=start.shape, kind=np.ndarray, what=what, ask=ask)
        return value, vector

    def symmetric(self, rng, values):
        """A symmetric matrix with these eigenvalues, and its eigenvectors, a row each."""
        q = orthonormal(rng, len(values), len(values))
        return q * values @ q.T, q.T

    def applied(self, matrix, start, steps):
        """The vector after so many steps, in another way: powers first, scaled once."""
        vector = np.linalg.matrix_power(matrix, steps) @ start
        return vector / np.sqrt(vector @ vector)

    @pytest.mark.points(2)
    def test_finds_the_eigenvector(self, student, rng):
        """finds the eigenvector of the largest eigenvalue, of length one"""
        N = int(rng.integers(4, 7))
        values = np.array([rng.uniform(4, 6), *rng.uniform(-2, 2, N - 1)])
        matrix, vectors = self.symmetric(rng, values)
        start = rng.array(N)
        _, vector = self.found(student, matrix, start)
        length = np.linalg.norm(vector.astype(float)) if vector.dtype.kind in "biuf" else 1.0
        if abs(length - 1) > 1e-3 and np.isfinite(length) and length > 0:
            scaled = vector / length
            right = np.allclose(scaled, turned(vectors[0], scaled), atol=1e-4)
            got = f"a vector of length {length:.3g}" + (" in the right direction" if right else "")
            ask = "Which is the last line that changes the vector: a product, or a division by its length?"
            expect.fail(expected="an eigenvector of length 1", got=got, ask=ask)
        mistakes = {
            "an eigenvector, but of the eigenvalue closest to zero": vectors[np.abs(values).argmin()],
            "an eigenvector, but of the smallest eigenvalue": vectors[values.argmin()],
            "the start, which no step has changed": self.applied(matrix, start, 0),
            "the vector after one step: the product is to be repeated": self.applied(matrix, start, 1),
            "a vector with the largest entry 1: it is the length that should be 1": vectors[0]
            / np.abs(vectors[0]).max(),
        }
        expect_vectors(vector, vectors[0], "the eigenvector", self.ASK, mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_finds_the_eigenvector")
    def test_finds_the_eigenvalue(self, student, rng):
        """returns the eigenvalue with its sign, also where it is negative"""
        N = int(rng.integers(4, 7))
        for sign in (1, -1):
            values = np.array([sign * rng.uniform(4, 6), *rng.uniform(-2, 2, N - 1)])
            matrix, vectors = self.symmetric(rng, values)
            value, vector = self.found(student, matrix, rng.array(N))
            largest = values[0]
            mistakes = {
                "the magnitude of the eigenvalue, without its sign: a length is never negative": abs(largest),
                "the square of the eigenvalue": largest**2,
                "vᵀ v, where the matrix is missing": 1.0,
                "the sum of the entries of A v": (matrix @ vector).sum(),
                "the largest entry of A v": (matrix @ vector).max(),
                "1 / λ": 1 / largest,
                "a table: `*` goes entry by entry, where `@` sums": vector * matrix * vector,
                "λ v, entry by entry: one number is asked for": vector * (matrix @ vector),
                "A v, a vector: one number is asked for": matrix @ vector,
            }
            ask = "Where v is an eigenvector, what is A v? How do you read λ, with its sign, off the two?"
            expect.close(value, largest, what="the eigenvalue", ask=ask, mistakes=mistakes)
            expect_vectors(vector, vectors[0], "the eigenvector", self.ASK, {})

    @pytest.mark.points(1)
    @pytest.mark.needs("test_finds_the_eigenvalue")
    def test_not_symmetric(self, student, rng):
        """applies the matrix from the left, which shows where it is not symmetric"""
        N = int(rng.integers(3, 6))
        basis = np.eye(N) + 0.4 * rng.array(N, N)
        values = np.array([5.0, *rng.uniform(-1, 1, N - 1)])
        matrix = basis * values @ np.linalg.inv(basis)
        start = basis[:, 0] + 0.1 * rng.array(N)
        value, vector = self.found(student, matrix, start)
        left, right = np.linalg.inv(basis)[0], basis[:, 0]
        left, right = left / np.linalg.norm(left), right / np.linalg.norm(right)
        says = "the eigenvector of Aᵀ: x A, a row times the matrix, was computed and not A x"
        expect_vectors(vector, right, "the eigenvector", self.ASK, {says: left})
        expect.close(value, 5.0, what="the eigenvalue", ask=self.ASK)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_finds_the_eigenvector")
    def test_counts_its_steps(self, student, rng):
        """applies the matrix as often as it is told, and 100 times if it is told nothing"""
        N = int(rng.integers(3, 6))
        values = np.array(
            [1.0, 0.98, *rng.uniform(-0.5, 0.5, N - 2)]
        )  # too close to each other to be done soon
        matrix, vectors = self.symmetric(rng, values)
        start = rng.uniform(-0.2, 0.2, N) @ vectors + 0.3 * vectors[0] + vectors[1]
        for steps in (1, 2, 5, 100):
            named = {} if steps == 100 else {"steps": steps}
            value, vector = self.found(student, matrix, start, **named)
            expected = self.applied(matrix, start, steps)
            mistakes = {
                f"the vector after {other} step{'s' if other != 1 else ''}": self.applied(
                    matrix, start, other
                )
                for other in (0, 1, steps - 1, steps + 1, 100, 1000)
                if other != steps
            }
            what = f"the vector after {steps} step{'s' if steps > 1 else ''}"
            ask = "How often does your loop run, and does anything end it early?"
            if isinstance(vector, np.ndarray) and vector.dtype.kind in "biuf":
                expected = turned(expected, vector)
                mistakes = {says: turned(wrong, vector) for says, wrong in mistakes.items()}
            expect.close(vector, expected, atol=1e-7, rtol=1e-6, what=what, ask=ask, mistakes=mistakes)
            rayleigh = expected @ matrix @ expected
            mistakes = {
                "the eigenvalue as the step before estimated it": (
                    (before := self.applied(matrix, start, steps - 1)) @ matrix @ before
                ),
                "the length of A v: an estimate of |λ|, where vᵀ A v is asked for": np.linalg.norm(
                    matrix @ expected
                ),
                "vᵀ A v of the v before the last step, and of the last v": before @ matrix @ expected,
                "the length by which the last step divided": np.linalg.norm(matrix @ before),
            }
            what = f"the eigenvalue vᵀ A v after {steps} step{'s' if steps > 1 else ''}"
            ask = "Which v goes into vᵀ A v: the one that you return?"
            expect.close(value, rayleigh, atol=1e-9, rtol=1e-8, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_finds_the_eigenvalue")
    def test_neither_overflows_nor_vanishes(self, student, rng):
        """stays in range where A to the power of 100 would not"""
        N = int(rng.integers(3, 6))
        for size in (1e8, 1e-8):
            matrix, vectors = self.symmetric(rng, size * np.array([1.0, *rng.uniform(-0.4, 0.4, N - 1)]))
            value, vector = self.found(student, matrix, rng.array(N))
            lost = not np.isfinite(vector).all() or not np.abs(vector).max() > 0
            expect.holds(
                not lost,
                expected=f"an eigenvector of a matrix whose largest eigenvalue is {size:g}",
                got=f"entries such as {vector.flat[0]}",
                ask=f"After 40 steps the vector is {size:g} to the power of 40 times as long. When do you scale it?",
            )
            expect_vectors(vector, vectors[0], "the eigenvector", self.ASK, {})
            expect.close(value, size, atol=0.0, what="the eigenvalue", ask=self.ASK)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_finds_the_eigenvector")
    def test_refuses_zero(self, student, rng):
        """raises ValueError where the vector becomes zero"""
        N = int(rng.integers(2, 6))
        shift = np.eye(N, k=1)  # moves entries up by one, so that N steps leave nothing
        for matrix, start, when in [
            (rng.array(N, N), np.zeros(N), "for a start of zeros"),
            (np.zeros((N, N)), rng.array(N), "for a matrix of zeros"),
            (shift, np.ones(N), f"where {N} steps lead to zero"),
        ]:
            ask = "Which length would you divide by?"
            call = lambda matrix=matrix, start=start: student.power_iteration(matrix, start)  # noqa: E731
            expect.raises(ValueError, call, when=when, ask=ask)
        matrix = shift + np.eye(N)
        value, _ = self.found(student, matrix, np.ones(N), 1)
        vector = self.applied(matrix, np.ones(N), 1)
        expect.close(value, vector @ matrix @ vector, what="the eigenvalue", ask=self.ASK)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_finds_the_eigenvalue")
    def test_inputs(self, student, rng):
        """leaves its inputs alone, and takes whole numbers"""
        N = int(rng.integers(2, 6))
        whole = rng.integers(1, 9, (N, N))
        whole = whole + whole.T + 20 * np.eye(N, dtype=int)
        for matrix, start in [(whole, rng.integers(1, 9, N)), (whole * 0.5, rng.uniform(0.5, 1.5, N))]:
            with expect.unchanged(matrix=matrix, start=start):
                value, vector = self.found(student, matrix, start, 300)
            values, vectors = np.linalg.eigh(matrix)
            expect_vectors(vector, vectors[:, -1], "the eigenvector", self.ASK, {})
            expect.close(value, values[-1], what="the eigenvalue", ask=self.ASK)


@pytest.mark.exercise("pca")
class TestPca:
    ASK = "Subtract the mean point, take the covariance of the columns, and its eigenvectors. Which step is different?"

    def points(self, rng, N, D, count=None):
        """Points (N, D) whose components and variances are known exactly, and these."""
        count = count or min(N - 1, D)
        across = orthonormal(rng, N, count, across=np.ones(N))  # columns of mean zero
        directions = orthonormal(rng, D, count).T  # (count, D)
        deviations = 1.5 ** np.arange(count, 0, -1) * rng.uniform(0.9, 1.1, count)
        x = across * deviations * np.sqrt(N - 1) @ directions + rng.array(D, scale=20.0)
        return x, directions, deviations**2

    def found(self, student, x, count):
        """The learner's components and variances: arrays of plain numbers, the first of them of the right shape."""
        components, variances = expect.parts(student.pca(x, count), "the components", "the variances")
        N, D = x.shape
        ask = "One component a row, each as wide as a point, and the variances after them. Is that what you return?"
        asks = {
            (D, count): "eigh has an eigenvector in each column. What turns columns into rows?",
            (
                N,
                count,
            ): "That is a row for each point, as if the points were projected. Where are the directions?",
            (
                count,
                N,
            ): "The components are as wide as there are points. Does your covariance compare points, or columns?",
        }
        ask = asks.get(tuple(getattr(components, "shape", ())), ask)
        what = "the components (first of the two)"
        expect.array(components, shape=(count, D), kind=np.ndarray, what=what, ask=ask)
        return components, variances

    def look_at_rows(self, components, directions):
        """Fail, and say so, where the rows point along components, but are of another length or in another order."""
        if components.dtype.kind not in "biuf" or not np.isfinite(components).all():
            return
        lengths = lengths_of(components.astype(float))
        if (lengths == 0).any():
            return
        along = np.abs(components / lengths @ directions.T)
        places = along.argmax(1)
        if (along.max(1) < 0.999).any() or len(set(places)) < len(places):
            return
        if (np.abs(lengths - 1) > 1e-3).any():
            got = f"right directions, the first of length {lengths[0, 0]:.3g}"
            ask = "A component says where, not how far: what have you multiplied it by?"
            expect.fail(expected="components of length 1", got=got, ask=ask)
        expected = list(range(1, len(places) + 1))
        ask = "np.linalg.eig sorts nothing, and eigh has the smallest first. What do you sort by?"
        order = [int(place) + 1 for place in places]
        # Where only the smallest are there, or all are turned round, the sentences of the check say more.
        if order != expected and order[::-1] != sorted(order):
            got = f"right directions in the order {order}"
            expect.fail(
                expected=f"the components in the order {expected}, largest variance first", got=got, ask=ask
            )

    @pytest.mark.points(2)
    def test_components(self, student, rng):
        """finds the directions in which the points vary most"""
        D = int(rng.integers(4, 7))
        N = D + int(rng.integers(4, 9))
        x, directions, _ = self.points(rng, N, D)
        for count in (int(rng.integers(2, D)), D):
            components, _ = self.found(student, x, count)
            raw = np.linalg.svd(x)[2]
            by_row = np.linalg.svd(x - x.mean(1, keepdims=True))[2]
            scaled = np.linalg.svd((x - x.mean(0)) / x.std(0))[2]
            once = np.linalg.svd(x - x.mean())[2]
            v = np.linalg.svd(x - x.mean(0))[2].T
            values, vectors = np.linalg.eigh(np.cov(x.T))
            columns = vectors[:, values.argsort()[::-1]]
            mistakes = {
                "the directions of points that were not centred: the first points to their mean": raw,
                "the directions after the mean of each row was subtracted: centre the columns": by_row,
                "the directions after each column was divided by its standard deviation": scaled,
                "the directions after one mean of all numbers was subtracted: each column has its own": once,
                "rows of V: svd returns Vᵀ already, and it was transposed once more": v,
                "rows of the matrix of eigenvectors: eigh has an eigenvector in each column": columns,
                "rows of the matrix of eigenvectors, from its end: eigh has one in each column": vectors[
                    ::-1
                ],
                "rows of the matrix of eigenvectors, and of the smallest eigenvalues first": vectors,
                "the directions in which the points vary least: eigh begins with the smallest": directions[
                    ::-1
                ],
                "the projected points, not the directions": x - x.mean(0),
            }
            mistakes = {says: wrong[:count] for says, wrong in mistakes.items()}
            right = directions[:count]
            mistakes["the right directions in the wrong order: the largest variance comes first"] = right[
                ::-1
            ]
            self.look_at_rows(components, directions)
            expect_vectors(components, right, "the components", self.ASK, mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_components")
    def test_variances(self, student, rng):
        """returns the variance along each of them, the largest first"""
        D = int(rng.integers(4, 7))
        N = D + int(rng.integers(4, 9))
        x, _, expected = self.points(rng, N, D)
        for count in (int(rng.integers(2, D)), D):
            _, variances = self.found(student, x, count)
            wanted = expected[:count]
            mistakes = {
                "sums of squares divided by N, not by N - 1": wanted * (N - 1) / N,
                "sums of squares, not yet divided by N - 1": wanted * (N - 1),
                "sums of squares divided by D - 1: N counts the points": wanted * (N - 1) / (D - 1),
                "the standard deviations, not their squares": np.sqrt(wanted),
                "the singular values of the points: square them, and divide by N - 1": np.sqrt(
                    wanted * (N - 1)
                ),
                "the singular values divided by N - 1, without a square": np.sqrt(wanted * (N - 1)) / (N - 1),
                "the variances with the smallest first": wanted[::-1],
                "the smallest variances": expected[::-1][:count],
                "the smallest variances, in falling order": expected[-count:],
                "shares that sum to one: the variances themselves are asked for": wanted / expected.sum(),
                "shares of what was kept: the variances themselves are asked for": wanted / wanted.sum(),
                "all variances, not the first ones only": expected,
                "the mean squares of points that were not centred": np.sort(
                    np.linalg.eigvalsh(x.T @ x / (N - 1))
                )[::-1][:count],
            }
            ask = (
                "Each is the sum of squared distances from the mean along a component, over N - 1. And yours?"
            )
            expect.close(variances, wanted, what="the variances", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_components")
    def test_one_component(self, student, rng):
        """returns one component as a matrix of one row"""
        x, directions, expected = self.points(rng, 9, int(rng.integers(2, 7)))
        components, variances = self.found(student, x, 1)
        expect_vectors(components, directions[:1], "the component", self.ASK, {})
        expect.close(
            variances, expected[:1], what="the variance", ask="Along which axis do you cut off the rest?"
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_components")
    def test_more_dimensions_than_points(self, student, rng):
        """works where there are fewer points than dimensions, down to two points"""
        for N in (int(rng.integers(3, 6)), 2):
            D = N + int(rng.integers(2, 6))
            x, directions, expected = self.points(rng, N, D)
            components, variances = self.found(student, x, N - 1)
            expect_vectors(components, directions, "the components", self.ASK, {})
            expect.close(variances, expected, what="the variances", ask="Which of N and D do you divide by?")

    @pytest.mark.points(1)
    @pytest.mark.needs("test_variances")
    def test_where_the_points_lie_does_not_matter(self, student, rng):
        """gives the same for the same points somewhere else"""
        x, directions, expected = self.points(rng, 12, 4)
        moved = x + rng.array(4, scale=300.0)
        components, variances = self.found(student, moved, 3)
        ask = "Moving all points moves their mean, too. What is subtracted before anything is squared?"
        expect_vectors(components, directions[:3], "the components", ask, {})
        expect.close(variances, expected[:3], what="the variances", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_components")
    def test_refuses_impossible_counts(self, student, rng):
        """raises ValueError for a count below 1, or above N - 1 or D"""
        D = int(rng.integers(3, 6))
        for shape, count in [
            ((D + 4, D), 0),
            ((D + 4, D), -1),
            ((D + 4, D), D + 1),
            ((D, D + 4), D),
            ((1, D), 1),
        ]:
            when = f"for {count} components of points of shape {shape}"
            ask = "N points span N - 1 directions around their mean, and no more than D. Between what must count lie?"
            x = rng.array(*shape)
            expect.raises(ValueError, lambda x=x, n=count: student.pca(x, n), when=when, ask=ask)
        self.found(student, rng.array(D + 1, D), D)
        self.found(student, rng.array(D, D + 4), D - 1)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_variances")
    def test_inputs(self, student, rng):
        """leaves the points alone, and takes whole numbers"""
        D = int(rng.integers(2, 5))
        x, directions, expected = self.points(rng, 8, D)
        with expect.unchanged(x=x):
            self.found(student, x, D)
        whole = np.round(1000 * x).astype(np.int64)
        components, variances = self.found(student, whole, D)
        ask = "Which line keeps whole numbers where a mean is none?"
        expect.array(variances, shape=(D,), kind=np.ndarray, what="the variances")
        expect.close(variances, 1e6 * expected, rtol=0.02, what="the variances", ask=ask)
        wanted = turned(directions, components) if components.dtype.kind in "biuf" else directions
        expect.close(components, wanted, atol=0.05, what="the components", ask=ask)


@pytest.mark.exercise("low_rank")
class TestLowRank:
    ASK = "Keep the R largest singular values, each with its column of U and its row of Vᵀ. Which of them is off?"

    def built(self, rng, T, S):
        """A matrix (T, S) with known singular vectors and values: U, s, Vᵀ."""
        count = min(T, S)
        s = 1.6 ** np.arange(count, 0, -1) * rng.uniform(0.9, 1.1, count)
        return orthonormal(rng, T, count), s, orthonormal(rng, S, count).T

    def kept(self, u, s, vh, part):
        """The sum over these singular values."""
        return sum(
            (s[i] * np.outer(u[:, i], vh[i]) for i in range(len(s))[part]), np.zeros((len(u), vh.shape[1]))
        )

    @pytest.mark.points(2)
    def test_square_matrices(self, student, rng):
        """keeps the largest singular values of a square matrix, where every transposed factor would fit"""
        N = int(rng.integers(5, 8))
        rank = int(rng.integers(2, N - 1))
        u, s, vh = self.built(rng, N, N)
        matrix = u * s @ vh
        out = student.low_rank(matrix, rank)
        expected = self.kept(u, s, vh, slice(rank))
        u, s, vh = np.linalg.svd(matrix)  # with signs as NumPy chooses them: a wrong product shows them
        centred = matrix - matrix.mean(0)
        cu, cs, cvh = np.linalg.svd(centred)
        mistakes = {
            "the matrix itself: nothing was left out": matrix,
            "the smallest singular values: svd has the largest first": self.kept(
                u, s, vh, slice(N - rank, None)
            ),
            "what the largest singular values leave: keep them instead": self.kept(
                u, s, vh, slice(rank, None)
            ),
            "one singular value too many": self.kept(u, s, vh, slice(rank + 1)),
            "one singular value too few": self.kept(u, s, vh, slice(rank - 1)),
            "one singular value, the one at place R": self.kept(u, s, vh, slice(rank, rank + 1)),
            "all but the largest singular value: they begin at place 0": self.kept(
                u, s, vh, slice(1, rank + 1)
            ),
            "U Vᵀ without the singular values": self.kept(u, np.ones(N), vh, slice(rank)),
            "the squares of the singular values": self.kept(u, s**2, vh, slice(rank)),
            "the roots of the singular values": self.kept(u, np.sqrt(s), vh, slice(rank)),
            "U S V: svd returns Vᵀ already, and it was transposed once more": u[:, :rank]
            * s[:rank]
            @ vh.T[:rank],
            "Uᵀ in the place of U": u.T[:, :rank] * s[:rank] @ vh[:rank],
            "rows of U with the singular values: U has its vectors in columns": u[:rank].T
            * s[:rank]
            @ vh[:rank],
            "the right matrix, transposed": expected.T,
            "the matrix of rank R closest to the centred matrix: nothing is to be subtracted": self.kept(
                cu, cs, cvh, slice(rank)
            ),
            "the principal part with the mean added back: that has rank R + 1": self.kept(
                cu, cs, cvh, slice(rank)
            )
            + matrix.mean(0),
            "the first R rows, and zeros": np.where(np.arange(N)[:, None] < rank, matrix, 0.0),
            "the first R columns, and zeros": np.where(np.arange(N) < rank, matrix, 0.0),
            "R numbers for each row, not a matrix of the old size": u[:, :rank] * s[:rank],
        }
        expect.close(out, expected, what="the matrix", ask=self.ASK, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_square_matrices")
    def test_tall_and_wide(self, student, rng):
        """works for matrices that are higher than wide, or wider than high"""
        T, S = rng.distinct(2, low=3, high=8)
        for shape in [(T, S), (S, T), (1, S), (T, 1)]:
            u, s, vh = self.built(rng, *shape)
            rank = int(rng.integers(1, min(shape) + 1))
            out = student.low_rank(u * s @ vh, rank)
            ask = "U is square by default: `full_matrices=False` gives as many columns as there are singular values."
            expect.close(out, self.kept(u, s, vh, slice(rank)), what="the matrix", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_tall_and_wide")
    def test_every_rank(self, student, rng):
        """gives zeros for rank 0, the matrix itself for full rank, and comes closer with each rank"""
        T, S = rng.distinct(2, low=3, high=6)
        u, s, vh = self.built(rng, T, S)
        matrix = u * s @ vh
        for rank in range(min(T, S) + 1):
            out = student.low_rank(matrix, rank)
            ask = "What does a slice `[:rank]` leave, and what a slice from the end?"
            expected = self.kept(u, s, vh, slice(rank))
            expect.close(out, expected, what=f"for rank {rank}, the matrix", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_square_matrices")
    def test_stacks(self, student, rng):
        """approximates each matrix of a stack by itself"""
        B, H, T, S = rng.distinct(4, low=3, high=7)
        for lead in [(B,), (B, H), (1,)]:
            parts = [self.built(rng, T, S) for _ in range(int(np.prod(lead)))]
            matrix = np.stack([u * s @ vh for u, s, vh in parts]).reshape(*lead, T, S)
            expected = np.stack([self.kept(*part, slice(2)) for part in parts]).reshape(matrix.shape)
            out = student.low_rank(matrix, 2)
            ask = (
                "np.linalg.svd takes stacks: s is then (*B, M). With which axes of U does it have to line up?"
            )
            expect.close(out, expected, what="the stack", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_square_matrices")
    def test_refuses_impossible_ranks(self, student, rng):
        """raises ValueError for a rank that is negative, or larger than T or S"""
        T, S = rng.distinct(2, low=3, high=7)
        smaller, larger = min(T, S), max(T, S)
        for shape in [(smaller, larger), (larger, smaller), (larger + 2, smaller, larger)]:
            for rank in (-1, smaller + 1, larger + 3):
                when = f"for rank {rank} of a matrix of shape {shape}"
                ask = "A slice beyond the end, or from a negative place, is no error in NumPy. What should be one here?"
                matrix = rng.array(*shape)
                expect.raises(ValueError, lambda m=matrix, r=rank: student.low_rank(m, r), when=when, ask=ask)
            expect.close(
                student.low_rank(matrix, 0), np.zeros(shape), what="the matrix of rank 0", ask=self.ASK
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_square_matrices")
    def test_inputs(self, student, rng):
        """leaves the matrix alone, and takes whole numbers"""
        T, S = rng.distinct(2, low=3, high=7)
        for matrix in (rng.array(T, S), rng.integers(0, 256, (T, S)).astype(np.uint8)):
            with expect.unchanged(matrix=matrix):
                out = student.low_rank(matrix, 2)
            u, s, vh = np.linalg.svd(matrix.astype(float), full_matrices=False)
            expected = self.kept(u, s, vh, slice(2))
            ask = "Of which dtype is what you compute with? Whole numbers cut off, and those of uint8 end at 255."
            expect.close(out, expected, atol=1e-3, what="the matrix", ask=ask)
