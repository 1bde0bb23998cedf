"""Someone who writes every step out, keeps new tensors and prints on the way."""

import math
import random

import torch


class Memory:
    """What is remembered of one parameter."""

    def __init__(self, p):
        self.p, self.m, self.v, self.power1, self.power2 = p, 0.0, 0.0, 1.0, 1.0


class AdamW(object):  # noqa: UP004 - as it was written for a long time
    def __init__(self, parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        self.parameters = list(parameters)
        self.lr, self.eps, self.weight_decay = lr, eps, weight_decay
        self.beta1, self.beta2 = betas
        self.memories = [Memory(p) for p in self.parameters]

    def step(self):
        for memory in self.memories:
            g = memory.p.grad
            if g is not None:
                memory.p.data = self.moved(memory, memory.p.data, g.clone())

    def moved(self, memory, theta, g):
        memory.power1 = memory.power1 * self.beta1
        memory.power2 = memory.power2 * self.beta2
        memory.m = memory.m + (1 - self.beta1) * (g - memory.m)
        memory.v = memory.v + (1 - self.beta2) * (g * g - memory.v)
        m_hat = memory.m / (1 - memory.power1)
        v_hat = memory.v / (1 - memory.power2)
        change = m_hat / (torch.sqrt(v_hat) + self.eps)
        change = change + self.weight_decay * theta
        return theta - self.lr * change

    def zero_grad(self):
        for p in self.parameters:
            p.grad = None


def warmup_cosine(step, *, peak, warmup, total, floor=0.0):
    if total <= warmup:
        raise ValueError("total must be larger than warmup")
    elif warmup < 0:
        raise ValueError("warmup must not be negative")
    if step < warmup:
        rate = step / warmup * peak
    elif step < total:
        angle = math.pi * (step - warmup) / (total - warmup)
        rate = 0.5 * peak * (1 + math.cos(angle)) + 0.5 * floor * (1 - math.cos(angle))
    else:
        rate = floor
    print("step", step, "rate", rate)
    return rate


def clip_grad_norm(parameters, max_norm):
    parameters = list(parameters)
    squares = 0.0
    for p in parameters:
        if p.grad is not None:
            for entry in p.grad.flatten():
                squares += float(entry) ** 2
    norm = squares**0.5
    if norm <= max_norm:
        return norm
    for p in parameters:
        if p.grad is not None:
            p.grad = p.grad / norm * max_norm
    return norm


def batches(*tensors, size, seed=None):
    if size < 1:
        raise ValueError("size")
    n = len(tensors[0])
    for tensor in tensors:
        if len(tensor) != n:
            raise ValueError(f"{len(tensor)} rows, not {n}")
    rows = list(range(n))
    if seed is not None:
        random.Random(seed).shuffle(rows)
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield tuple(torch.stack([tensor[i] for i in batch]) for tensor in tensors)
            batch = []
    if batch:
        yield tuple(torch.stack([tensor[i] for i in batch]) for tensor in tensors)


def train(model, loss_of, data, optimizer, *, epochs, schedule=None, max_norm=None, after_epoch=None):
    history = []
    step = 0
    epoch = 0
    while epoch < epochs:
        for batch in data(epoch):
            step = step + 1
            model.train(True)
            if schedule is not None:
                optimizer.lr = schedule(step)
            loss = loss_of(model, *batch)
            optimizer.zero_grad()
            loss.backward()
            if max_norm is not None:
                total = clip_grad_norm(optimizer.parameters, max_norm)
                print("gradient", total)
            optimizer.step()
            history.append(loss.detach().numpy().tolist())
        if after_epoch is not None:
            after_epoch(epoch)
        epoch += 1
    return history
