"""Properties of ``scratch.linear_algebra``, judged by slow loops and by what defines each result."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch.linear_algebra import batched_matmul, cosine_similarity, low_rank, pca, power_iteration

sizes = st.integers(1, 6)
leading = st.sampled_from([(), (3,), (2, 3)])
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=50, deadline=None)


def draw(seed, *shape):
    """Standard normal draws."""
    return np.random.default_rng(seed).standard_normal(shape)


def orthonormal(seed, rows, size):
    """A matrix of that many orthonormal rows."""
    return np.linalg.qr(draw(seed, size, size))[0][:, :rows].T


class TestBatchedMatmul:
    @quick
    @given(leading, sizes, sizes, sizes, seeds)
    def test_is_the_product_of_each_pair(self, lead, T, K, S, seed):
        a, b = draw(seed, *lead, T, K), draw(seed + 1, *lead, K, S)
        np.testing.assert_allclose(batched_matmul(a, b), a @ b, atol=1e-12)

    @pytest.mark.parametrize(("one", "other"), [((), (4,)), ((4,), ()), ((1, 3), (2, 1)), ((2, 1), (3,))])
    def test_leading_dimensions_broadcast(self, one, other):
        a, b = draw(0, *one, 2, 3), draw(1, *other, 3, 5)
        np.testing.assert_allclose(batched_matmul(a, b), a @ b, atol=1e-12)

    @pytest.mark.parametrize(
        ("a", "b"), [((2, 3), (4, 5)), ((2, 3), (1, 5)), ((2, 1), (4, 5)), ((5, 2), (5, 2))]
    )
    def test_different_inner_sizes_are_refused(self, a, b):
        with pytest.raises(ValueError, match=rf"\({a[0]}, {a[1]}\) and \({b[0]}, {b[1]}\)"):
            batched_matmul(np.ones(a), np.ones(b))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
    def test_keeps_the_dtype(self, dtype):
        assert batched_matmul(np.ones((2, 3), dtype), np.ones((3, 2), dtype)).dtype == dtype


class TestCosineSimilarity:
    @quick
    @given(leading, sizes, sizes, sizes, seeds, st.floats(1e-150, 1e150))
    def test_is_the_dot_product_over_the_lengths(self, lead, T, S, D, seed, scale):
        x, y = draw(seed, *lead, T, D), draw(seed + 1, *lead, S, D)
        lengths = np.sqrt((x**2).sum(-1))[..., :, None] * np.sqrt((y**2).sum(-1))[..., None, :]
        expected = (x[..., :, None, :] * y[..., None, :, :]).sum(-1) / lengths
        np.testing.assert_allclose(cosine_similarity(x * scale, y / scale), expected, atol=1e-12)

    def test_a_zero_row_is_similar_to_nothing(self):
        out = cosine_similarity(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 0.0]]))
        np.testing.assert_allclose(out, [[0.0, 0.0], [0.6, 0.0]], atol=1e-15)

    @quick
    @given(sizes, sizes, seeds)
    def test_a_row_is_most_similar_to_itself(self, T, D, seed):
        out = cosine_similarity(x := draw(seed, T, D), x)
        np.testing.assert_allclose(np.diag(out), 1.0)
        assert (np.abs(out) <= 1 + 1e-12).all()

    def test_integers_will_do(self):
        np.testing.assert_allclose(cosine_similarity(np.array([[3, 4]]), np.array([[4, 3]])), [[0.96]])


class TestPowerIteration:
    @quick
    @given(st.integers(1, 6), seeds, st.sampled_from([1.0, -1.0]))
    def test_finds_the_largest_eigenvalue_with_its_sign(self, N, seed, sign):
        q = orthonormal(seed, N, N)
        values = sign * np.concatenate([[3.0], np.linspace(1.5, -1.5, N - 1)])
        value, vector = power_iteration(q.T * values @ q, draw(seed + 1, N), 200)
        assert value == pytest.approx(sign * 3.0)
        np.testing.assert_allclose(np.abs(vector @ q[0]), 1.0)

    def test_takes_matrices_that_are_not_symmetric(self):
        value, vector = power_iteration(np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([1.0, 1.0]))
        assert value == pytest.approx(2.0)
        np.testing.assert_allclose(vector, [1.0, 0.0], atol=1e-12)

    def test_applies_the_matrix_as_often_as_told(self):
        matrix, start = draw(0, 4, 4), draw(1, 4)
        for steps in (1, 2, 5):
            expected = np.linalg.matrix_power(matrix, steps) @ start
            expected /= np.linalg.norm(expected)
            value, vector = power_iteration(matrix, start, steps)
            np.testing.assert_allclose(vector, expected)
            assert value == pytest.approx(expected @ matrix @ expected)
        assert power_iteration(matrix, start)[0] == power_iteration(matrix, start, 100)[0]

    def test_huge_and_tiny_eigenvalues_neither_overflow_nor_vanish(self):
        for size in (1e30, 1e-30):
            value, _ = power_iteration(np.diag([size, size / 2]), np.ones(2), 400)
            assert value == pytest.approx(size)

    @pytest.mark.parametrize(("matrix", "start"), [(np.eye(2), np.zeros(2)), (np.eye(2, k=1), np.ones(2))])
    def test_a_vector_that_becomes_zero_is_refused(self, matrix, start):
        with pytest.raises(ValueError, match="to zero"):
            power_iteration(matrix, start)

    def test_the_start_is_left_alone(self):
        start = np.array([1, 2])
        power_iteration(np.array([[2, 0], [0, 1]]), start)
        assert start.tolist() == [1, 2]


class TestPca:
    @quick
    @given(st.integers(3, 20), st.integers(1, 6), seeds)
    def test_components_are_orthonormal_and_variances_those_along_them(self, N, D, seed):
        x = draw(seed, N, D) * np.arange(1, D + 1) + 5
        count = min(N - 1, D)
        components, variances = pca(x, count)
        np.testing.assert_allclose(components @ components.T, np.eye(count), atol=1e-9)
        along = (x @ components.T).var(axis=0, ddof=1)
        np.testing.assert_allclose(variances, along, atol=1e-9)
        assert (np.diff(variances) <= 1e-9).all()
        projected = (x - x.mean(0)) @ components.T
        np.testing.assert_allclose(np.cov(projected.T), np.diag(variances).squeeze(), atol=1e-9)
        if count == D:
            assert variances.sum() == pytest.approx(x.var(axis=0, ddof=1).sum())

    def test_agrees_with_the_singular_values_of_the_centred_points(self):
        x = draw(3, 30, 5) * [1, 2, 3, 4, 5] + 100
        components, variances = pca(x, 3)
        _, s, vh = np.linalg.svd(x - x.mean(axis=0))
        np.testing.assert_allclose(variances, s[:3] ** 2 / 29)
        np.testing.assert_allclose(np.abs((components * vh[:3]).sum(-1)), 1.0)

    @pytest.mark.parametrize(
        ("shape", "count"), [((5, 3), 0), ((5, 3), 4), ((3, 5), 3), ((1, 4), 1), ((5, 3), -1)]
    )
    def test_an_impossible_count_is_refused(self, shape, count):
        with pytest.raises(ValueError, match="components of"):
            pca(np.ones(shape), count)


class TestLowRank:
    @quick
    @given(leading, sizes, sizes, seeds, st.data())
    def test_what_is_left_out_is_the_smaller_singular_values(self, lead, T, S, seed, data):
        matrix = draw(seed, *lead, T, S)
        rank = data.draw(st.integers(0, min(T, S)))
        out = low_rank(matrix, rank)
        s = np.linalg.svd(matrix, compute_uv=False)
        np.testing.assert_allclose(
            ((matrix - out) ** 2).sum((-1, -2)), (s[..., rank:] ** 2).sum(-1), atol=1e-9
        )
        assert (np.linalg.matrix_rank(out) <= rank).all()

    @quick
    @given(seeds, st.integers(1, 3))
    def test_no_other_matrix_of_that_rank_is_closer(self, seed, rank):
        matrix = draw(seed, 4, 5)
        best = ((matrix - low_rank(matrix, rank)) ** 2).sum()
        other = draw(seed + 1, 4, rank) @ draw(seed + 2, rank, 5)
        for _ in range(5):  # towards the best of its rank, by alternating least squares
            left = matrix @ np.linalg.pinv(np.linalg.qr(other.T)[0][:, :rank].T)
            other = left @ (np.linalg.pinv(left) @ matrix)
        assert best <= ((matrix - other) ** 2).sum() + 1e-9

    @pytest.mark.parametrize("rank", [-1, 4])
    def test_an_impossible_rank_is_refused(self, rank):
        for shape in ((3, 5), (5, 3), (2, 3, 5)):
            with pytest.raises(ValueError, match="of a matrix of shape"):
                low_rank(np.ones(shape), rank)
