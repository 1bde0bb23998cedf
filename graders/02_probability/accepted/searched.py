"""NumPy's searches and reductions: searchsorted row by row, einsum for the sums, one-hot targets."""

import numpy as np


def softmax(x, axis=-1):
    e = np.exp(np.subtract(x, np.max(x, axis, keepdims=True)))
    return e * (1 / np.add.reduce(e, axis, keepdims=True))


def log_sum_exp(x, axis=-1):
    x = np.moveaxis(x, axis, 0)
    top = np.nan_to_num(x.max(0), neginf=0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.einsum("v...->...", np.exp(x - top))) + top


def cross_entropy(logits, targets, ignore_index=-100):
    V = logits.shape[-1]
    counts = targets != ignore_index
    if np.setdiff1d(targets[counts], np.arange(V)).size:
        raise ValueError("a target lies outside of the vocabulary")
    if not np.any(counts):
        return np.float64(0)
    chosen = (targets[..., None] == np.arange(V)) & counts[
        ..., None
    ]  # (*B, V), one True in each row that counts
    lost = log_sum_exp(logits)[..., None] - logits
    return np.mean(lost[chosen])


def kl_divergence(p, q, axis=-1):
    ratio = np.divide(
        p, q, out=np.full(np.broadcast_shapes(p.shape, q.shape), np.inf, dtype=p.dtype), where=q > 0
    )
    ratio = np.where(p == 0, 1, ratio)
    return np.sum(p * np.log(ratio), axis=axis)


def sample(logits, uniform, temperature=1.0):
    if temperature < 0:
        raise ValueError("temperature")
    if temperature == 0:
        return np.argmax(logits, axis=-1)
    rows = (logits / temperature).reshape(-1, logits.shape[-1])
    drawn = []
    for row, u in zip(softmax(rows), np.ravel(uniform), strict=True):
        possible = np.flatnonzero(row)
        ends = row[possible].cumsum()
        ends[-1] = 1.0
        drawn.append(possible[np.searchsorted(ends, u, side="right")])
    return np.array(drawn).reshape(uniform.shape)
