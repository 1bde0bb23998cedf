"""As PyTorch writes it: everything in place, state in a dictionary by parameter, helpers for each part."""

import math

import torch
from torch import nn


class AdamW:
    def __init__(self, parameters, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01):
        self.lr = lr
        self.parameters = list(parameters)
        self.options = betas, eps, weight_decay
        self.state = {}

    def step(self):
        (b1, b2), eps, decay = self.options
        for p in self.parameters:
            g = p.grad
            if g is None:
                continue
            if p not in self.state:
                self.state[p] = [0, torch.zeros_like(p.data), torch.zeros_like(p.data)]
            state = self.state[p]
            state[0] += 1
            t, m, v = state
            with torch.no_grad():
                p.mul_(1 - self.lr * decay)
                m.lerp_(g, 1 - b1)
                v.mul_(b2).addcmul_(g, g, value=1 - b2)
                below = v.sqrt().div_(math.sqrt(1 - b2**t)).add_(eps)
                p.addcdiv_(m, below, value=-self.lr / (1 - b1**t))

    def zero_grad(self):
        for p in self.parameters:
            if p.grad is not None:
                p.grad.zero_()


def warmup_cosine(step, *, peak, warmup, total, floor=0.0):
    if warmup < 0 or warmup > total - 1:
        raise ValueError("no room for the cosine")
    if step > total:
        return floor
    if warmup > 0 and step <= warmup:
        return torch.tensor(peak, dtype=torch.float64) * (step / warmup)
    return floor + (peak - floor) * math.cos(math.pi / 2 * (step - warmup) / (total - warmup)) ** 2


def clip_grad_norm(parameters, max_norm):
    grads = [p.grad.detach() for p in parameters if p.grad is not None]
    if not grads:
        return torch.zeros(())
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads]))
    factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    for g in grads:
        g.mul_(factor)
    return norm


def batches(*tensors, size, seed=None):
    counts = {tensor.shape[0] for tensor in tensors}
    if len(counts) > 1 or size <= 0:
        raise ValueError("what should be in a batch?")
    if seed is not None:
        generator = torch.Generator()
        generator.manual_seed(seed)
        order = torch.randperm(counts.pop(), generator=generator)
        tensors = [tensor.index_select(0, order) for tensor in tensors]
    return list(zip(*(tensor.split(size) for tensor in tensors), strict=True))


class Trainer:
    def __init__(self, model: nn.Module, loss_of, optimizer, schedule, max_norm):
        self.model, self.loss_of, self.optimizer = model, loss_of, optimizer
        self.schedule, self.max_norm, self.count = schedule, max_norm, 0

    def step(self, batch):
        self.count += 1
        self.model.train()
        loss = self.loss_of(self.model, *batch)
        loss.backward()
        if self.max_norm:
            clip_grad_norm(self.model.parameters(), self.max_norm)
        if self.schedule:
            self.optimizer.lr = self.schedule(self.count)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)


def train(model, loss_of, data, optimizer, *, epochs, schedule=None, max_norm=None, after_epoch=None):
    optimizer.zero_grad()
    trainer = Trainer(model, loss_of, optimizer, schedule, max_norm)
    losses = []
    for epoch in range(epochs):
        losses.extend(trainer.step(batch) for batch in data(epoch))
        if after_epoch:
            after_epoch(epoch)
    return losses
