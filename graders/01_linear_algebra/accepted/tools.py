"""NumPy's own tools wherever there is one: apply_along_axis, cov, argsort, diag, matrix_transpose."""

import numpy as np


def batched_matmul(a, b):
    np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    try:
        assert a.shape[-1] == b.shape[-2]
    except AssertionError as error:
        raise ValueError("a and b do not fit") from error
    return np.einsum(a, [..., 0, 1], b, [..., 1, 2], [..., 0, 2], optimize=True)


def unit(row):
    length = np.linalg.norm(row)
    return row / length if length else row * 1.0


def cosine_similarity(x, y):
    x, y = np.apply_along_axis(unit, -1, x), np.apply_along_axis(unit, -1, y)
    return np.clip(np.matmul(x, np.matrix_transpose(y)), -1.0, 1.0)


def power_iteration(matrix, start, steps=100):
    image = np.dot(matrix, start)
    for step in range(steps):
        size = np.sqrt(np.dot(image, image))
        if np.isclose(size, 0.0, rtol=0, atol=1e-300):
            raise ValueError(f"zero after {step} steps")
        start = image / size
        image = np.dot(matrix, start)
    return float(np.vdot(start, image)), start


def pca(x, count):
    points, width = x.shape
    if not (0 < count < points and count <= width):
        raise ValueError("count out of range")
    values, vectors = np.linalg.eig(np.atleast_2d(np.cov(x, rowvar=False)))
    largest = np.argsort(-values.real)[:count]
    return np.real(vectors[:, largest]).transpose(), np.real(values[largest])


def low_rank(matrix, rank):
    decomposed = np.linalg.svd(matrix, full_matrices=False)
    if rank < 0 or rank > decomposed.S.shape[-1]:
        raise ValueError("rank out of range")
    kept = np.where(np.arange(decomposed.S.shape[-1]) < rank, decomposed.S, 0.0)
    return np.einsum("...ti,...i,...is->...ts", decomposed.U, kept, decomposed.Vh)
