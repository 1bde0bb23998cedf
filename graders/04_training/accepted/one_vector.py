"""All parameters as one long vector, a schedule out of a small class, an iterator class for batches."""

import math

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector


class AdamW:
    def __init__(
        self, parameters, lr: float = 1e-3, betas=(0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01
    ):
        self.parameters = [*parameters]
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        flat = parameters_to_vector(self.parameters).detach()
        # Entry by entry a mean, a mean square, and the number of gradients that are in them.
        self.mean, self.square, self.count = (torch.zeros_like(flat) for _ in range(3))

    @torch.no_grad()
    def step(self):
        theta = parameters_to_vector(self.parameters)
        here = torch.cat([torch.full_like(p, p.grad is not None).flatten() for p in self.parameters])
        g = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in self.parameters]
        )
        b1, b2 = self.betas
        self.count += here
        self.mean = torch.where(here > 0, b1 * self.mean + (1 - b1) * g, self.mean)
        self.square = torch.where(here > 0, b2 * self.square + (1 - b2) * g * g, self.square)
        t = self.count.clamp(min=1)
        m_hat, v_hat = self.mean / (1 - b1**t), self.square / (1 - b2**t)
        theta = theta - here * self.lr * (m_hat / (v_hat**0.5 + self.eps) + self.weight_decay * theta)
        start = 0
        for p in self.parameters:
            p.copy_(theta[start : start + p.numel()].view_as(p))
            start += p.numel()

    def zero_grad(self, set_to_none=True):
        for p in self.parameters:
            p.grad = None if set_to_none else torch.zeros_like(p)


def warmup_cosine(step, *, peak, warmup, total, floor=0.0):
    if warmup not in range(total):
        raise ValueError(f"{warmup} steps of {total}")
    x = np.clip((step - warmup) / (total - warmup), 0, 1)
    line = step / warmup if warmup else 1.0
    return float(np.minimum(peak * line, floor + (peak - floor) * 0.5 * (1 + np.cos(np.pi * x))))


def clip_grad_norm(parameters, max_norm):
    parameters = [p for p in parameters if p.grad is not None]
    flat = torch.cat([p.grad.reshape(-1) for p in parameters]) if parameters else torch.zeros(1)
    length = flat.dot(flat).sqrt()
    if math.isfinite(length) and length > max_norm:
        for p in parameters:
            p.grad.data = p.grad.data * (max_norm / length)
    return length.item()


class Epoch:
    def __init__(self, tensors, size, seed):
        if size < 1:
            raise ValueError("a batch of nothing")
        if len({len(tensor) for tensor in tensors}) != 1:
            raise ValueError("rows without a partner")
        self.tensors, self.size, self.at = tensors, size, 0
        rows = np.arange(len(tensors[0]))
        self.rows = rows if seed is None else np.random.default_rng(seed).permutation(rows)

    def __iter__(self):
        return self

    def __next__(self):
        rows = torch.from_numpy(self.rows[self.at : self.at + self.size])
        if not len(rows):
            raise StopIteration
        self.at += self.size
        return [tensor[rows] for tensor in self.tensors]


def batches(*tensors, size, seed=None):
    return Epoch(tensors, size, seed)


def train(model, loss_of, data, optimizer, *, epochs, schedule=None, max_norm=None, after_epoch=None):
    losses = torch.zeros(0, dtype=torch.float64)
    for epoch in range(epochs):
        model.train()
        for number, batch in enumerate(data(epoch), start=len(losses) + 1):
            loss = loss_of(model, *batch)
            grads = torch.autograd.grad(loss, optimizer.parameters)
            for p, grad in zip(optimizer.parameters, grads, strict=True):
                p.grad = grad
            clip_grad_norm(optimizer.parameters, math.inf if max_norm is None else max_norm)
            optimizer.lr = optimizer.lr if schedule is None else schedule(number)
            optimizer.step()
            losses = torch.cat([losses, loss.detach().double().view(1)])
        (after_epoch or (lambda epoch: None))(epoch)
    return losses.tolist()
