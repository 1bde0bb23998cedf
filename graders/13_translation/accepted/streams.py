"""Iterators and NumPy: batches are yielded, scores are arrays."""

import itertools
from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F

from scratch.optimization import clip_grad_norm
from scratch.tokens import PAD, pad_batch


def make_batches(pairs, max_tokens, seed, *, held_out=(), pad=PAD):
    taken = set(map(tuple, itertools.chain.from_iterable(([("s", *s), ("t", *t)] for s, t in held_out))))
    kept = [p for p in pairs if ("s", *p[0]) not in taken and ("t", *p[1]) not in taken]
    if any(max(map(len, p)) > max_tokens for p in kept):
        raise ValueError(f"max_tokens={max_tokens} is too small")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(kept))
    order = order[np.argsort([max(map(len, kept[i])) for i in order], kind="stable")] if len(order) else order
    cuts, start = [], 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * max(map(len, kept[order[end]])) > max_tokens:
            cuts.append(order[start:end])
            start = end
    for k in rng.permutation(len(cuts)):
        yield tuple(pad_batch([kept[i][side] for i in cuts[k]], pad)[0] for side in (0, 1))


def label_smoothing_loss(logits, target, smoothing=0.1, pad=PAD):
    share = smoothing / (logits.shape[-1] - 2)
    log_p = F.log_softmax(logits, dim=-1)
    nll = F.nll_loss(log_p.transpose(1, 2), target, reduction="none")
    everything = -log_p.sum(-1)
    loss = (1 - smoothing - share) * nll + share * (everything + log_p.select(-1, pad))
    mask = (target != pad).to(loss.dtype)
    return torch.sum(loss * mask) / mask.sum()


def noam_schedule(step, d_model, warmup, factor=1.0):
    with np.errstate(divide="ignore"):
        return float(factor * d_model**-0.5 * min(np.float64(step) ** -0.5, step * warmup**-1.5))


def train_step(model, optimizer, batch, *, loss_of, lr, max_norm=None):
    (source, target), optimizer.lr = batch, lr
    was = torch.is_grad_enabled()
    with torch.enable_grad():
        model.train()
        optimizer.zero_grad()
        read, wanted = (
            target.split([target.shape[1] - 1, 1], dim=1)[0],
            target.narrow(1, 1, target.shape[1] - 1),
        )
        (loss := loss_of(model(source, read), wanted)).backward()
    torch.set_grad_enabled(was)
    max_norm is None or clip_grad_norm(optimizer.parameters, max_norm)
    optimizer.step()
    return loss.tolist()


def bleu(hypotheses, references):
    if len(list(hypotheses)) != len(list(references)):
        raise ValueError
    stats = np.zeros((4, 2))
    for h, r in zip(hypotheses, references, strict=True):
        for n in range(1, 5):
            ours = Counter(" ".join(h[i : i + n]) for i in range(len(h) - n + 1))
            theirs = Counter(" ".join(r[i : i + n]) for i in range(len(r) - n + 1))
            stats[n - 1] += sum(min(c, theirs[g]) for g, c in ours.items()), sum(ours.values())
    if stats[0, 0] == 0 or not stats[:, 1].all():
        return 0.0
    matches = stats[:, 0].copy()
    matches[matches == 0] = 0.5 ** np.arange(1, 1 + (matches == 0).sum())
    c, r = sum(map(len, hypotheses)), sum(map(len, references))
    return float(100 * min(1.0, np.exp(1 - r / c)) * np.exp(np.log(matches / stats[:, 1]).mean()))
