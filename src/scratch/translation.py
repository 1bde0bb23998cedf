"""From a Transformer to a translator: batches, loss, schedule, a training step, and a measure (unit 13).

``scratch.translator`` trains with these, and ``python -m scratch.translate`` uses what was trained.

Symbols: N pairs, B pairs in a batch, S source length, T target length with its beginning and end, D model width, V
vocabulary.

Papers: Vaswani et al., "Attention Is All You Need", 2017, section 5; Papineni et al., "BLEU: a Method for Automatic
Evaluation of Machine Translation", 2002.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from scratch.optimization import Optimizer, clip_grad_norm
from scratch.tokens import PAD, pad_batch

Pair = tuple[Sequence[int], Sequence[int]]  # the ids of a source and of its target
Batch = tuple[Int[Tensor, "B S"], Int[Tensor, "B T"]]


def make_batches(
    pairs: Sequence[Pair], max_tokens: int, seed: int, *, held_out: Sequence[Pair] = (), pad: int = PAD
) -> list[Batch]:
    """Put pairs of similar length into batches, as many as fit, and hand the batches out in random order.

    The size of a pair is the length of its longer side. The pairs are put in order of size, equal ones in random
    order, and this order is cut into batches. A batch is full: with one pair more, the next in the order, it would be
    larger than ``max_tokens``. What is left at the end is a batch too, full or not.

    Args:
        pairs: (source, target), each a list of ids. Left as they are.
        max_tokens: the room in a batch: B pairs, the largest of size L, take B · L of it.
        seed: decides the order of equal pairs and of the batches. The same number always gives the same batches,
            another number others. The global random number generators have no part in it.
        held_out: pairs that the model will be judged by. A pair that has its source or its target in common with any
            of them stands in no batch.
        pad: the id to fill up with.

    Returns:
        The batches, each a tuple of sources (B, S) and targets (B, T), int64. Each side is padded on the right, to the
        longest of that side in that batch. Every pair that is not left out stands in exactly one batch.

    Raises:
        ValueError: a pair that is not left out is by itself larger than max_tokens.

    Source: Vaswani et al., 2017, section 5.1.
    """
    sources, targets = {tuple(source) for source, _ in held_out}, {tuple(target) for _, target in held_out}
    kept = [(s, t) for s, t in pairs if tuple(s) not in sources and tuple(t) not in targets]
    draw = random.Random(seed)  # noqa: S311, RUF100 - nothing here is a secret
    draw.shuffle(kept)
    kept.sort(key=lambda pair: max(map(len, pair)))  # a sort is stable: equal ones stay shuffled
    groups: list[list[Pair]] = []
    for pair in kept:
        size = max(map(len, pair))  # the largest so far
        if size > max_tokens:
            raise ValueError(f"a pair of size {size} does not fit into max_tokens={max_tokens}")
        if not groups or (len(groups[-1]) + 1) * size > max_tokens:
            groups.append([])
        groups[-1].append(pair)
    draw.shuffle(groups)
    return [tuple(pad_batch(side, pad)[0] for side in zip(*group, strict=True)) for group in groups]


def label_smoothing_loss(
    logits: Float[Tensor, "B T V"], target: Int[Tensor, "B T"], smoothing: float = 0.1, pad: int = PAD
) -> Float[Tensor, ""]:
    """Return how far the predictions are from a target that is not quite sure of itself.

    For each target token that is no padding, the cross-entropy −Σ q log p over the vocabulary, p the softmax of the
    logits. q is 1 − smoothing for the target token, 0 for the padding token, and the rest, smoothing, in equal shares
    for all V − 2 others.

    Args:
        logits: (B, T, V), a score for each token of the vocabulary, V ≥ 3.
        target: (B, T), the ids of the right tokens. At least one of them is no padding.
        smoothing: ε, between 0 and 1.
        pad: the id of padding. It may be any id.

    Returns:
        A tensor with one number: the mean over all targets of the batch that are no padding.

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016, section 7; Vaswani et
    al., 2017, section 5.4.
    """
    log_p = torch.log_softmax(logits, dim=-1)
    right = log_p.gather(-1, target[..., None])[..., 0]  # (B, T, V) -> (B, T)
    others = log_p.sum(dim=-1) - right - log_p[..., pad]  # (B, T): the sum over V - 2 tokens
    loss = -(1 - smoothing) * right - smoothing / (logits.shape[-1] - 2) * others
    return loss[target != pad].mean()


def noam_schedule(step: int, d_model: int, warmup: int, factor: float = 1.0) -> float:
    """Return the learning rate of a step: up along a straight line, then down with the root of the step.

    Args:
        step: which step of the optimiser it is, counted from 1. Some schedulers ask for step 0 as well: it gets 0.
        d_model: D; wider models take smaller steps.
        warmup: the step at which the rate is highest, at least 1.
        factor: what all rates are multiplied by.

    Returns:
        factor · D^(−1/2) · min(step^(−1/2), step · warmup^(−3/2)), as a plain float.

    Source: Vaswani et al., 2017, section 5.3, equation 3. It is named after Noam Shazeer.
    """
    if step == 0:
        return 0.0
    return factor * d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)


def train_step(
    model: nn.Module,
    optimizer: Optimizer,
    batch: Batch,
    *,
    loss_of: Callable[[Float[Tensor, "B T V"], Int[Tensor, "B T"]], Float[Tensor, ""]],
    lr: float,
    max_norm: float | None = None,
) -> float:
    """Take one step: the model predicts each token of the targets from those before it, and learns from the loss.

    Args:
        model: called once, as ``model(source, read)``, in training mode, where ``read`` is what the decoder is shown;
            returns a row of logits for each token that it was shown.
        optimizer: has ``parameters``, ``lr``, ``step()`` and ``zero_grad()``. Gradients that are there from before
            have no part in this step.
        batch: source (B, S) and target (B, T), left as they are. Each target begins with a token of its own and ends
            with one: the first is only shown, the last only predicted.
        loss_of: called as ``loss_of(logits, wanted)``, (B, T − 1, V) and (B, T − 1), where ``wanted`` are the tokens to
            predict; returns a tensor with one number.
        lr: the learning rate of this step.
        max_norm: the length to which the gradients are clipped together; None clips nothing.

    Returns:
        The loss before the step, as a plain float.

    Source: Vaswani et al., 2017, sections 3.1 and 5; Pascanu et al., "On the difficulty of training recurrent neural
    networks", 2013 (clipping).
    """
    source, target = batch
    model.train()
    optimizer.zero_grad()
    loss = loss_of(model(source, target[:, :-1]), target[:, 1:])
    loss.backward()
    if max_norm is not None:
        clip_grad_norm(optimizer.parameters, max_norm)
    optimizer.lr = lr
    optimizer.step()
    return loss.item()


def bleu(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> float:
    """Return how much of what was written stands in the references, as BLEU-4 of the whole corpus, from 0 to 100.

    For n = 1, 2, 3, 4, over all sentences together: ``total[n]`` counts the n-grams that were written, ``match[n]``
    those of them that stand in the reference of the same sentence, each at most as often as it stands there. With h
    tokens written and r in the references,

        BLEU = 100 · min(1, exp(1 − r / h)) · (p₁ p₂ p₃ p₄)^(1/4),   pₙ = match[n] / total[n].

    Where counts are zero: BLEU is 0 if there is no match at all, or no n-gram of some n was written. Otherwise the
    first n without a match gets 1/2 in place of match[n], the next 1/4, then 1/8. So the result equals that of
    ``sacrebleu`` for texts that are split at spaces.

    Args:
        hypotheses: what was written, a list of tokens for each sentence. Some may be empty.
        references: what should have been written, one list for each hypothesis.

    Raises:
        ValueError: there are not as many references as hypotheses.

    Source: Papineni et al., 2002, section 2.3; Chen and Cherry, "A Systematic Comparison of Smoothing Techniques for
    Sentence-Level BLEU", 2014, method 3 (zero counts); Post, "A Call for Clarity in Reporting BLEU Scores", 2018.
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses cannot be judged by {len(references)} references")
    logs, missed = 0.0, 0
    for n in range(1, 5):
        match = total = 0
        for written, wanted in zip(hypotheses, references, strict=True):
            ours, theirs = (
                Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
                for tokens in (written, wanted)
            )
            match += (ours & theirs).total()  # of each n-gram the smaller count
            total += ours.total()
        if total == 0 or (n == 1 and match == 0):
            return 0.0
        if match == 0:
            missed += 1
            match = 0.5**missed
        logs += math.log(match / total)
    h, r = (sum(map(len, sentences)) for sentences in (hypotheses, references))
    return 100 * math.exp(min(0.0, 1 - r / h) + logs / 4)
