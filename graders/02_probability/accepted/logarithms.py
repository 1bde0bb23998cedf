"""Everything by way of log-probabilities; long-hand, with prints and asserts."""

import numpy as np


def log_sum_exp(x, axis=-1):
    m = np.amax(x, axis)
    safe = np.where(m == -np.inf, np.zeros_like(m), m)
    total = np.sum(np.exp(x - np.expand_dims(safe, axis)), axis)
    print("totals", total.shape)
    with np.errstate(all="ignore"):
        return np.add(safe, np.log(total))


def softmax(x, axis=-1):
    probabilities = np.exp(x - np.expand_dims(log_sum_exp(x, axis), axis))
    assert probabilities.shape == x.shape
    return probabilities


def cross_entropy(logits, targets, ignore_index=-100):
    flat = np.reshape(logits, (-1, np.shape(logits)[-1]))
    wanted = np.ravel(targets)
    mask = np.not_equal(wanted, ignore_index).astype(float)
    wanted = np.where(mask == 1, wanted, 0)
    if np.any(wanted < 0) or np.any(wanted > flat.shape[1] - 1):
        raise ValueError("no such outcome")
    picked = np.take_along_axis(flat, wanted[:, None], axis=1)[:, 0]
    surprise = np.where(mask == 1, log_sum_exp(flat) - picked, 0.0)
    return np.sum(surprise) / max(mask.sum(), 1)


def kl_divergence(p, q, axis=-1):
    p, q = np.broadcast_arrays(p, q)
    safe_p = np.where(p == 0, 1, p)  # log 1 = 0
    safe_q = np.where((p == 0) & (q == 0), 1, q)
    with np.errstate(divide="ignore"):
        cross = np.sum(-p * np.log(np.where(p == 0, 1, safe_q)), axis=axis)
    entropy = -np.sum(p * np.log(safe_p), axis=axis)
    return cross - entropy


def sample(logits, uniform, temperature=1.0):
    if not temperature >= 0:
        raise ValueError(temperature)
    if not temperature:
        return np.argmax(logits, -1).astype(np.int32)
    probabilities = softmax(np.asarray(logits, dtype=np.float64) / temperature)
    ends = np.cumsum(probabilities, -1)
    ends /= np.max(ends, -1, keepdims=True)
    return np.argmax(ends > np.expand_dims(uniform, -1), -1)
