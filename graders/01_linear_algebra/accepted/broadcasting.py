"""New axes, products entry by entry and sums; components from singular vectors, low rank from eigenvectors."""

import numpy as np


def batched_matmul(a, b):
    if a.shape[-1] == b.shape[-2]:
        return (a[..., :, :, None] * b[..., None, :, :]).sum(axis=-2)
    raise ValueError("inner sizes")


def cosine_similarity(x, y):
    dots = np.sum(x[..., :, None, :] * y[..., None, :, :], axis=-1)
    lengths = np.sqrt((x**2).sum(-1))[..., :, None] * np.sqrt((y**2).sum(-1))[..., None, :]
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(dots / lengths, nan=0.0)


def power_iteration(matrix, start, steps=100):
    column = start[:, None].astype(float)
    while steps > 0:
        column = np.matmul(matrix, column)
        if not column.any():
            raise ValueError
        column /= np.sqrt((column**2).sum())
        steps -= 1
    vector = -column[:, 0]  # the other way round, which is as good
    return np.sum(vector * (matrix * vector).sum(axis=1)), vector


def pca(x, count):
    if count not in range(1, min(len(x) - 1, x.shape[1]) + 1):
        raise ValueError(count)
    _, s, vt = np.linalg.svd(x - np.mean(x, 0, keepdims=True), full_matrices=False)
    return [vt[:count, :], s[:count] ** 2 / (len(x) - 1)]


def low_rank(matrix, rank):
    *_, height, width = matrix.shape
    if rank not in range(min(height, width) + 1):
        raise ValueError(rank)
    if height < width:
        return np.swapaxes(low_rank(np.swapaxes(matrix, -1, -2), rank), -1, -2)
    matrix = matrix.astype(float)
    _, v = np.linalg.eigh(np.swapaxes(matrix, -1, -2) @ matrix)
    v = v[..., width - rank :]
    return matrix @ v @ np.swapaxes(v, -1, -2)  # each row projected onto the strongest directions
