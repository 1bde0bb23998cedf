"""One row at a time, one number at a time, with Python's own math."""

import math

import numpy as np


def rows_of(x, axis):
    """The array with the axis at the end and all others made one, and the shape of these others."""
    moved = np.moveaxis(x, axis, -1)
    return moved.reshape(-1, moved.shape[-1]), moved.shape[:-1]


def softmax(x, axis=-1):
    rows, shape = rows_of(x, axis)
    out = np.empty(rows.shape, dtype=x.dtype)
    for i, row in enumerate(rows):
        top = max(row)
        parts = [math.exp(z - top) for z in row]
        total = sum(parts)
        for j, part in enumerate(parts):
            out[i, j] = part / total
    return np.moveaxis(out.reshape(*shape, -1), -1, axis)


def log_sum_exp(x, axis=-1):
    rows, shape = rows_of(x, axis)
    out = np.empty(len(rows), dtype=x.dtype)
    for i, row in enumerate(rows):
        top = max(row)
        if top == -math.inf:
            out[i] = -math.inf
        else:
            out[i] = top + math.log(sum(math.exp(z - top) for z in row))
    return out.reshape(shape)


def cross_entropy(logits, targets, ignore_index=-100):
    V = logits.shape[-1]
    total, count = 0.0, 0
    for place in np.ndindex(*targets.shape):
        target = int(targets[place])
        if target == ignore_index:
            continue
        if not 0 <= target < V:
            raise ValueError(f"{target} is no outcome")
        row = [float(z) for z in logits[place]]
        top = max(row)
        total += top + math.log(sum(math.exp(z - top) for z in row)) - row[target]
        count += 1
    return total / count if count else 0.0


def kl_divergence(p, q, axis=-1):
    p, q = np.broadcast_arrays(p, q)
    (ps, shape), (qs, _) = rows_of(p, axis), rows_of(q, axis)
    out = np.zeros(len(ps), dtype=p.dtype)
    for i in range(len(ps)):
        for a, b in zip(ps[i], qs[i], strict=True):
            if a == 0:
                continue
            if b == 0:
                out[i] = math.inf
                break
            out[i] += a * math.log(a / b)
    return out.reshape(shape)


def sample(logits, uniform, temperature=1.0):
    if temperature < 0:
        raise ValueError("a temperature below zero")
    out = np.zeros(uniform.shape, dtype=int)
    for place in np.ndindex(*uniform.shape):
        row = [float(z) for z in logits[place]]
        top = max(row)
        if temperature == 0:
            out[place] = row.index(top)
            continue
        parts = [math.exp((z - top) / temperature) for z in row]
        left = uniform[place] * sum(parts)  # the number is stretched, in place of the parts being normalised
        for k, part in enumerate(parts):
            if part == 0:
                continue
            out[place] = k  # should rounding use the parts up, it is the last one that is possible
            left -= part
            if left < 0:
                break
    return out
