"""Optimisers and what goes with them: SGD, AdamW, a learning-rate schedule, clipping of gradients (unit 04).

An optimiser holds the parameters that it moves and their learning rate, as the attributes ``parameters`` and
``lr``, and offers ``step()`` and ``zero_grad()``. A schedule sets ``lr`` anew before each step.
"""

import math
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor


class Optimizer(Protocol):
    """What every optimiser of the course offers, and all that ``scratch.training.train`` asks of one."""

    parameters: list[Tensor]
    lr: float

    def step(self) -> None:
        """Move every parameter that has a gradient."""

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""


class SGD:
    """Stochastic gradient descent: a step against the gradient, with momentum if wanted.

    Momentum keeps a velocity u for each parameter, u ← momentum · u + g, and steps along it: θ ← θ − lr · u.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013,
    section 2; in the form that PyTorch uses, where lr stands before the velocity.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.0):
        """Hold the parameters (any iterable of leaf tensors, read once) and start from a velocity of zero."""
        self.parameters, self.lr, self.momentum = list(parameters), lr, momentum
        self.velocity = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient, in place."""
        for p, u in zip(self.parameters, self.velocity, strict=True):
            if p.grad is not None:
                u.mul_(self.momentum).add_(p.grad)
                p -= self.lr * u

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for p in self.parameters:
            p.grad = None


class AdamW:
    """Adam with decoupled weight decay: each entry's step is measured by the usual size of its own gradient.

    In the t-th step of a parameter θ, t = 1, 2, …, with gradient g, entry by entry:

        m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²        (both zero before the first step)
        m̂ = m / (1 − β₁ᵗ)            v̂ = v / (1 − β₂ᵗ)
        θ ← θ − lr · (m̂ / (√v̂ + ε) + weight_decay · θ)

    The attributes ``parameters`` (a list) and ``lr`` are part of the contract: whoever trains reads the one, and
    sets the other between steps.

    Source: Kingma and Ba, "Adam", 2015, algorithm 1; Loshchilov and Hutter, "Decoupled Weight Decay
    Regularization", 2019, algorithm 2.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        """Hold the parameters, and make room for m, v and t of each.

        Args:
            parameters: the tensors to move; any iterable, also one that can be read only once, such as
                ``model.parameters()``.
            lr: the learning rate.
            betas: β₁ and β₂, the share of m and of v that each step keeps.
            eps: ε, which is added to the root, not under it.
            weight_decay: how far each step pulls θ towards zero, as a multiple of lr.
        """
        self.parameters, self.lr = list(parameters), lr
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.m = [torch.zeros_like(p) for p in self.parameters]
        self.v = [torch.zeros_like(p) for p in self.parameters]
        self.t = [0 for _ in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient, in place; leave its gradient as it is.

        A parameter whose ``grad`` is None sits this step out: it does not move, nor decay, nor does its t count.
        """
        beta1, beta2 = self.betas
        for i, p in enumerate(self.parameters):
            if p.grad is None:
                continue
            self.t[i] += 1
            self.m[i] = beta1 * self.m[i] + (1 - beta1) * p.grad
            self.v[i] = beta2 * self.v[i] + (1 - beta2) * p.grad**2
            m_hat = self.m[i] / (1 - beta1 ** self.t[i])
            v_hat = self.v[i] / (1 - beta2 ** self.t[i])
            p -= self.lr * (m_hat / (v_hat.sqrt() + self.eps) + self.weight_decay * p)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters: each ``grad`` is None (or all zeros) afterwards."""
        for p in self.parameters:
            p.grad = None


def warmup_cosine(step: int, *, peak: float, warmup: int, total: int, floor: float = 0.0) -> float:
    """Return the learning rate of a step: up along a straight line, then down along half a cosine wave.

    Args:
        step: which step of the optimiser it is, counted from 1.
        peak: the highest learning rate, reached at step ``warmup``.
        warmup: how many steps the line takes from 0 to the peak; 0 for none.
        total: the step at which the cosine has come down to the floor.
        floor: the lowest learning rate of the cosine, kept for every step after ``total``.

    Returns:
        peak · step / warmup up to step ``warmup``; from there on floor + (peak − floor) · (1 + cos πx) / 2, where
        x grows evenly from 0 at step ``warmup`` to 1 at step ``total``.

    Raises:
        ValueError: unless 0 ≤ warmup < total.

    Source: Loshchilov and Hutter, "SGDR", 2017, equation 5 (cosine); Goyal et al., "Accurate, Large Minibatch
    SGD", 2017, section 2.2 (warm-up).
    """
    if not 0 <= warmup < total:
        raise ValueError(f"warmup must lie between 0 and total - 1, got warmup={warmup}, total={total}")
    if step < warmup:
        return peak * step / warmup
    x = min((step - warmup) / (total - warmup), 1.0)
    return floor + (peak - floor) * (1 + math.cos(math.pi * x)) / 2


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Shorten the gradient of all parameters together to ``max_norm`` where it is longer; keep its direction.

    Args:
        parameters: the tensors whose ``grad`` is meant, any iterable. Those whose ``grad`` is None have no part.
        max_norm: the greatest length that the gradients may have together.

    Returns:
        Their length before clipping: the root of the sum of the squares of all entries of all gradients.

    The gradients are scaled by max_norm / length, in place or by new tensors in ``grad``, where the length is
    greater than max_norm, and otherwise left exactly as they are.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013,
    algorithm 1.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    length = math.hypot(*(grad.norm().item() for grad in grads))
    if length > max_norm:
        for grad in grads:
            grad *= max_norm / length
    return length
