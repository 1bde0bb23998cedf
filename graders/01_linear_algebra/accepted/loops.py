"""One number at a time, with Python's own arithmetic wherever it will do."""

import math

import numpy as np


def batched_matmul(a, b):
    (*_, T, K), (*_, L, S) = a.shape, b.shape
    if K != L:
        raise ValueError(f"{K} is not {L}")
    if a.ndim == 2 and b.ndim == 2:
        return np.array([[sum(a[t, k] * b[k, s] for k in range(K)) for s in range(S)] for t in range(T)])
    # One leading dimension after the other: a size of 1, or none, serves for all.
    depth = max(a.ndim, b.ndim)
    a, b = (x if x.ndim == depth else x[None] for x in (a, b))
    count = max(len(a), len(b))
    pairs = [(a[i % len(a)], b[i % len(b)]) for i in range(count)]
    return np.array([batched_matmul(one, other) for one, other in pairs])


def dot(v, w):
    total = 0.0
    for one, other in zip(v, w, strict=True):
        total += one * other
    return total


def cosine(v, w):
    lengths = math.sqrt(dot(v, v)) * math.sqrt(dot(w, w))
    return dot(v, w) / lengths if lengths else 0.0


def cosine_similarity(x, y):
    if x.ndim == 2 and y.ndim == 2:
        return np.array([[cosine(v.tolist(), w.tolist()) for w in y] for v in x])
    lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x, y = (np.broadcast_to(z, (*lead, *z.shape[-2:])) for z in (x, y))
    return np.array([cosine_similarity(one, other) for one, other in zip(x, y, strict=True)])


def power_iteration(matrix, start, steps=100):
    v = [float(entry) for entry in start]
    for _ in range(steps):
        v = [dot(row, v) for row in matrix.tolist()]
        length = math.hypot(*v)
        if length == 0.0:
            raise ValueError("nothing is left of the vector")
        v = [entry / length for entry in v]
    image = [dot(row, v) for row in matrix.tolist()]
    return float(dot(v, image)), np.array(v)


def pca(x, count):
    N, D = x.shape
    if count < 1 or count > D or count >= N:
        raise ValueError("so many components there are not")
    means = [sum(x[:, d].tolist()) / N for d in range(D)]
    covariance = np.zeros((D, D))
    for i in range(D):
        for j in range(D):
            for row in x.tolist():
                covariance[i, j] += (row[i] - means[i]) * (row[j] - means[j]) / (N - 1)
    values, vectors = np.linalg.eigh(covariance)
    order = sorted(range(D), key=lambda i: -values[i])[:count]
    components = [[vectors[d, i] for d in range(D)] for i in order]
    return np.array(components), np.array([values[i] for i in order])


def low_rank(matrix, rank):
    if matrix.ndim > 2:
        return np.stack([low_rank(part, rank) for part in matrix])
    if rank < 0 or rank > len(matrix) or rank > len(matrix[0]):
        raise ValueError(f"no matrix of this shape has rank {rank}")
    u, s, vt = np.linalg.svd(matrix)
    out = np.zeros(matrix.shape)
    for r in range(rank):
        out += s[r] * np.outer(u[:, r], vt[r])
    return out
