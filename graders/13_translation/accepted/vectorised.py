"""Someone who thinks in tensors: orders as indices, q built as a tensor, a loss by PyTorch."""

import math
from collections import Counter

import torch
import torch.nn.functional as F
from torch import nn

from scratch.tokens import PAD, pad_batch


def make_batches(pairs, max_tokens, seed, *, held_out=(), pad=PAD):
    seen = [{tuple(pair[side]) for pair in held_out} for side in (0, 1)]
    pairs = [p for p in pairs if not any(tuple(p[side]) in seen[side] for side in (0, 1))]
    if not pairs:
        return []
    sizes = torch.tensor([max(len(s), len(t)) for s, t in pairs])
    if sizes.max() > max_tokens:
        raise ValueError("too large")
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(len(pairs), generator=generator, dtype=torch.float64)
    order = torch.argsort(sizes + noise, descending=True).tolist()  # the large ones first
    batches, start = [], 0
    while start < len(order):
        count = max_tokens // int(sizes[order[start]])
        rows = order[start : start + count]
        source, _ = pad_batch([pairs[i][0] for i in rows], pad=pad)
        target, _ = pad_batch([pairs[i][1] for i in rows], pad=pad)
        batches.append((source, target))
        start += count
    return [batches[i] for i in torch.randperm(len(batches), generator=generator)]


def label_smoothing_loss(logits, target, smoothing=0.1, pad=PAD):
    V = logits.size(-1)
    logits, target = logits.reshape(-1, V), target.reshape(-1)
    real = target.ne(pad)
    logits, target = logits[real], target[real]
    q = torch.full_like(logits, smoothing / (V - 2))
    q[:, pad] = 0
    q.scatter_(1, target.unsqueeze(1), 1 - smoothing)
    return F.cross_entropy(logits, q)


def noam_schedule(step, d_model, warmup, factor=1.0):
    step = torch.tensor(float(step), dtype=torch.float64)
    return float(factor / math.sqrt(d_model) * torch.minimum(step.rsqrt(), step / warmup**1.5))


def train_step(model, optimizer, batch, *, loss_of, lr, max_norm=None):
    source, target = batch
    optimizer.lr = lr
    logits = model.train()(source, target[..., :-1])
    loss = loss_of(logits, target[..., 1:])
    parameters = [p for p in optimizer.parameters if p.requires_grad]
    grads = torch.autograd.grad(loss, parameters)
    if max_norm is not None:
        length = torch.linalg.vector_norm(torch.cat([g.flatten() for g in grads]))
        grads = [g * torch.clamp(max_norm / length, max=1.0) for g in grads]
    for p, g in zip(parameters, grads, strict=True):
        p.grad = g
    optimizer.step()
    return float(loss)


def bleu(hypotheses, references):
    if len(hypotheses) - len(references):
        raise ValueError("one reference for each hypothesis")
    counts = torch.zeros(4, 2, dtype=torch.float64)
    for n in range(4):
        for written, wanted in zip(hypotheses, references, strict=True):
            grams = [
                Counter(zip(*(side[i:] for i in range(n + 1)), strict=False)) for side in (written, wanted)
            ]
            counts[n] += torch.tensor([sum((grams[0] & grams[1]).values()), sum(grams[0].values())])
    match, total = counts.unbind(1)
    if not match.any() or not total.all():
        return 0.0
    zero = match == 0
    match = torch.where(zero, 0.5 ** zero.cumsum(0), match)
    h, r = sum(len(t) for t in hypotheses), sum(len(t) for t in references)
    penalty = 1.0 if h >= r else math.exp(1 - r / h)
    return 100 * penalty * (match / total).log().mean().exp().item()


class Unused(nn.Module):
    """A class that somebody left in the notebook."""
