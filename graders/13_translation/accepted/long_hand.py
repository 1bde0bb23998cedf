"""Someone who writes loops, prints on the way, and yields."""

import math
import random

import torch

from scratch.optimization import clip_grad_norm
from scratch.tokens import PAD


def make_batches(pairs, max_tokens, seed, *, held_out=(), pad=PAD):
    rng = random.Random()
    rng.seed(seed)
    left = []
    for source, target in pairs:
        fine = True
        for other_source, other_target in held_out:
            if list(source) == list(other_source) or list(target) == list(other_target):
                fine = False
        if fine:
            left.append((source, target))
            if max(len(source), len(target)) > max_tokens:
                raise ValueError("this pair will never fit")
    by_size = {}
    for pair in left:
        by_size.setdefault(max(len(pair[0]), len(pair[1])), []).append(pair)
    batches, batch = [], []
    for size in sorted(by_size):
        group = by_size[size]
        rng.shuffle(group)
        for pair in group:
            if batch and size * (len(batch) + 1) > max_tokens:
                batches.append(batch)
                batch = []
            batch.append(pair)
    if batch:
        batches.append(batch)
    rng.shuffle(batches)
    out = []
    for batch in batches:
        sides = []
        for side in (0, 1):
            width = max(len(pair[side]) for pair in batch)
            rows = [list(pair[side]) + [pad] * (width - len(pair[side])) for pair in batch]
            sides.append(torch.tensor(rows, dtype=torch.long))
        out.append((sides[0], sides[1]))
    return out


def label_smoothing_loss(logits, target, smoothing=0.1, pad=PAD):
    B, T, V = logits.shape
    log_p = logits - torch.logsumexp(logits, dim=2, keepdim=True)
    total, count = 0.0, 0
    for b in range(B):
        for t in range(T):
            y = int(target[b, t])
            if y == pad:
                continue
            count += 1
            q = torch.ones(V, dtype=logits.dtype) * smoothing / (V - 2)
            q[y] = 1 - smoothing
            q[pad] = 0.0
            total = total - (q * log_p[b, t]).sum()
    return total / count


def noam_schedule(step, d_model, warmup, factor=1.0):
    if step < 1:
        return 0.0
    rate = step / warmup**1.5 if step < warmup else 1 / math.sqrt(step)
    return factor * rate / math.sqrt(d_model)


def train_step(model, optimizer, batch, *, loss_of, lr, max_norm=None):
    source, target = batch[0], batch[1]
    shown = target[:, : target.shape[1] - 1].clone()
    wanted = target[:, 1:].clone()
    for p in optimizer.parameters:
        p.grad = None
    model.train(True)
    logits = model(source, shown)
    loss = loss_of(logits, wanted)
    loss.backward()
    if max_norm is not None:
        clip_grad_norm(model.parameters(), max_norm)
    optimizer.lr = lr
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def ngrams(tokens, n):
    found = {}
    for i in range(len(tokens)):
        gram = tuple(tokens[i : i + n])
        if len(gram) == n:
            found[gram] = found.get(gram, 0) + 1
    return found


def bleu(hypotheses, references):
    if len(hypotheses) != len(references):
        raise ValueError("lengths differ")
    precisions, smooth = [], 1
    any_match = False
    for n in (1, 2, 3, 4):
        match, total = 0, 0
        for k in range(len(hypotheses)):
            ours, theirs = ngrams(hypotheses[k], n), ngrams(references[k], n)
            for gram, count in ours.items():
                match += min(count, theirs.get(gram, 0))
                total += count
        if total == 0:
            return 0
        if match > 0:
            any_match = True
            precisions.append(match / total)
        else:
            smooth *= 2
            precisions.append(1 / (smooth * total))
    if not any_match:
        return 0
    h = sum([len(tokens) for tokens in hypotheses])
    r = sum([len(tokens) for tokens in references])
    brevity = math.exp(1 - r / h) if h < r else 1.0
    product = precisions[0] * precisions[1] * precisions[2] * precisions[3]
    return brevity * product**0.25 * 100
