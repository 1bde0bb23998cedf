"""Probability for models that predict: softmax, log-sum-exp, cross-entropy, KL divergence, sampling (unit 02).

NumPy only. Symbols: V the number of outcomes (for a language model: the words of its vocabulary), ``*B`` any number
of leading dimensions, none included. A logit is a number that a model gives to an outcome before softmax makes a
probability of it; -inf is the logit of an outcome that cannot happen. Logarithms are natural: surprise is in nats.

Book: Goodfellow, Bengio, Courville, Deep Learning, 2016, chapters 3 and 4.
"""

import numpy as np
from jaxtyping import Float, Int


def softmax(x: Float[np.ndarray, "..."], axis: int = -1) -> Float[np.ndarray, "..."]:
    """Turn logits into probabilities: their exponentials, divided by the sum of these along one axis.

    Args:
        x: an array of any shape. It is left unchanged. An entry may be -inf, if another one along the axis is not.
        axis: the axis along which the probabilities sum to one.

    Returns:
        An array of the shape and the floating-point dtype of x. It is right for logits of any size, in the
        thousands too, and exactly zero where x is -inf.

    Source: Goodfellow et al., 2016, section 4.1 (overflow and underflow).
    """
    shifted = x - x.max(axis=axis, keepdims=True)  # at most 0, so that exp cannot overflow
    weights = np.exp(shifted)
    return weights / weights.sum(axis=axis, keepdims=True)


def log_sum_exp(x: Float[np.ndarray, "..."], axis: int = -1) -> Float[np.ndarray, "..."]:
    """Sum numbers that are given by their logarithms, and return the logarithm of the sum, along one axis.

    Args:
        x: an array of any shape, whose entries may be -inf, the logarithm of zero. It is left unchanged.
        axis: the axis along which to sum.

    Returns:
        The shape of x without that axis: log Σ exp(x), right for entries of any size. It is -inf, never NaN, where
        every entry is -inf: a sum of nothing but zeros.

    Source: Blanchard, Higham, Higham, "Accurately computing the log-sum-exp and softmax functions", 2021, section 1.
    """
    top = x.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)  # -inf less -inf would be NaN
    with np.errstate(divide="ignore"):  # log(0) is -inf, as it should be
        return np.log(np.exp(x - top).sum(axis=axis)) + top.squeeze(axis)


def cross_entropy(
    logits: Float[np.ndarray, "*B V"], targets: Int[np.ndarray, "*B"], ignore_index: int = -100
) -> float:
    """Average the surprise, -log p(target), over all targets that count.

    Args:
        logits: (*B, V), one row of logits for each prediction.
        targets: (*B,), the outcome that came true, from 0 to V - 1, or ``ignore_index``.
        ignore_index: the target of rows that do not count, such as padding. They enter neither the sum nor the number
            that it is divided by. It may be a valid outcome.

    Returns:
        A number in nats. It is 0.0 where no row counts, and inf where a target has probability zero.

    Raises:
        ValueError: a target that counts is negative, or V or more.

    Source: Goodfellow et al., 2016, sections 3.13 and 5.5.
    """
    kept = targets != ignore_index
    logits, targets = logits[kept], targets[kept]  # (N, V), (N,): the N rows that count
    if ((targets < 0) | (targets >= logits.shape[-1])).any():
        raise ValueError(f"targets must lie between 0 and {logits.shape[-1] - 1}, or be {ignore_index}")
    if len(targets) == 0:
        return 0.0
    surprise = log_sum_exp(logits) - logits[np.arange(len(targets)), targets]  # (N,)
    return float(surprise.mean())


def kl_divergence(
    p: Float[np.ndarray, "..."], q: Float[np.ndarray, "..."], axis: int = -1
) -> Float[np.ndarray, "..."]:
    """Measure what it costs to expect q where p is true: the Kullback-Leibler divergence D(p ‖ q).

    Args:
        p: probabilities, which sum to one along the axis. They are left unchanged.
        q: probabilities of the same shape, or of one that broadcasts to it. They are left unchanged.
        axis: the axis of the outcomes.

    Returns:
        The shape of p without that axis: Σ p log(p / q), in nats. An outcome with p = 0 adds exactly 0, whatever q
        is; one with p > 0 and q = 0 makes the divergence inf. It is never NaN.

    Source: Kullback, Leibler, "On Information and Sufficiency", 1951, section 2.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # log(0), and 0 · inf where p is 0
        terms = np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0)
    return terms.sum(axis=axis)


def sample(
    logits: Float[np.ndarray, "*B V"], uniform: Float[np.ndarray, "*B"], temperature: float = 1.0
) -> Int[np.ndarray, "*B"]:
    """Draw one outcome from each row: look its uniform number up in the cumulative probabilities.

    All chance is in ``uniform``; the function itself draws nothing, so that the same input gives the same outcome.

    Args:
        logits: (*B, V), one row of logits for each draw. They are left unchanged.
        uniform: (*B,), numbers from [0, 1), such as ``rng.random(B)``.
        temperature: what the logits are divided by before the softmax. At 0 the largest logit wins, or the first of
            several equal ones.

    Returns:
        (*B,), integers: the first outcome at which p_0 + … + p_k is greater than the row's uniform number. It lies
        between 0 and V - 1, and an outcome of probability zero is never drawn.

    Raises:
        ValueError: the temperature is negative.

    Source: Devroye, Non-Uniform Random Variate Generation, 1986, section III.2 (inversion).
    """
    if temperature < 0:
        raise ValueError(f"the temperature must be at least 0, got {temperature}")
    if temperature == 0:
        return logits.argmax(axis=-1)
    cumulative = softmax(logits / temperature).cumsum(axis=-1)  # (*B, V)
    cumulative = cumulative / cumulative[..., -1:]  # rounding may have left the last one below 1
    return (cumulative <= uniform[..., None]).sum(axis=-1)  # how many outcomes lie below the number
