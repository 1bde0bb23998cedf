"""The training loop: batches, the loop itself, and evaluation (unit 04).

Nothing here knows what a model does. A batch is a tuple of tensors, and ``loss_of(model, *batch)`` turns one into a
number to bring down, so that the same loop trains a classifier, a translator and a language model.

Symbols: N rows of a data set, B rows of a batch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from scratch.optimization import Optimizer, clip_grad_norm


def batches(*tensors: Tensor, size: int, seed: int | None = None) -> Iterator[tuple[Tensor, ...]]:
    """Go through a data set once, in batches of rows that belong together.

    Args:
        tensors: one or more, each with N rows; row i of one belongs to row i of every other. Left as they are.
        size: the number of rows in a batch. The last batch holds what is left, and may be smaller.
        seed: None keeps the rows in order. A number shuffles them: the same number always in the same way,
            another number in another way. The global random number generator has no part in it.

    Returns:
        An iterable of tuples, each with the same rows of every tensor. Each row is in exactly one batch.

    Raises:
        ValueError: size is less than 1, or the tensors differ in their number of rows; before the first batch.
    """
    count = len(tensors[0])
    if size < 1:
        raise ValueError(f"a batch needs at least one row, got size={size}")
    if any(len(tensor) != count for tensor in tensors):
        raise ValueError(f"the tensors have different numbers of rows: {[len(tensor) for tensor in tensors]}")
    order = torch.arange(count)
    if seed is not None:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    for start in range(0, count, size):
        rows = order[start : start + size]
        yield tuple(tensor[rows] for tensor in tensors)


def train(
    model: nn.Module,
    loss_of: Callable[..., Tensor],
    data: Callable[[int], Iterable[Sequence[Tensor]]],
    optimizer: "Optimizer",
    *,
    epochs: int,
    schedule: Callable[[int], float] | None = None,
    max_norm: float | None = None,
    after_epoch: Callable[[int], None] | None = None,
) -> list[float]:
    """Train a model: for every batch of every epoch, one step of the optimiser down the slope of the loss.

    Args:
        model: what is trained. It is in training mode whenever a batch is at work.
        loss_of: called as ``loss_of(model, *batch)``, returns the loss of a batch, a tensor with one number.
        data: called as ``data(epoch)`` with 0, 1, …, returns the batches of that epoch.
        optimizer: has ``parameters``, ``lr``, ``step()`` and ``zero_grad()``, as ``SGD`` and ``AdamW`` have.
        epochs: how often to go through the data.
        schedule: called as ``schedule(step)``; before step number 1, 2, …, counted over all epochs, ``lr`` is set
            to what it returns. None leaves ``lr`` alone.
        max_norm: the length to which each step's gradients are clipped together. None clips nothing.
        after_epoch: called as ``after_epoch(epoch)`` when an epoch is over, to evaluate, print or save. It may
            leave the model in evaluation mode.

    Returns:
        The loss of every step, as plain floats.
    """
    losses = []
    for epoch in range(epochs):
        model.train()
        for batch in data(epoch):
            optimizer.zero_grad()
            loss = loss_of(model, *batch)
            loss.backward()
            if max_norm is not None:
                clip_grad_norm(optimizer.parameters, max_norm)
            if schedule is not None:
                optimizer.lr = schedule(len(losses) + 1)
            optimizer.step()
            losses.append(loss.item())
        if after_epoch is not None:
            after_epoch(epoch)
    return losses


@torch.no_grad()
def accuracy(model: nn.Module, inputs: Float[Tensor, "N *D"], targets: Int[Tensor, " N"]) -> float:
    """Return the share of rows for which the largest of the model's outputs is the target, between 0 and 1.

    Args:
        model: maps the inputs to (N, K), one number for each class. It is asked in evaluation mode, and left in
            the mode that it was in.
        inputs: N rows.
        targets: (N,), the right class of each row.
    """
    mode = model.training
    model.eval()
    try:
        return (model(inputs).argmax(dim=-1) == targets).double().mean().item()
    finally:
        model.train(mode)
