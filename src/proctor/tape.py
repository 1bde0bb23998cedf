"""Gradients across the wire: what the autograd graph of either side holds of a call between the two.

For the side that has called, the call is a node whose backward asks the other side for a vector-Jacobian product.
For the side that was called, such a product begins at a node that hands out the gradients it was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from proctor.wire import WireError

if TYPE_CHECKING:
    from proctor.peer import Peer


@dataclass(eq=False)
class Link:
    """What this side's graph holds of a computation that happened on the other side."""

    peer: Peer
    tape: int
    kinds: list[tuple[Any, torch.dtype]]
    parameters: Any  # the node that stands for the other side's parameters

    def vjp(self, gradients: tuple[torch.Tensor | None, ...]) -> list[torch.Tensor | None]:
        # `torch.autograd.grad` leaves parameters alone, `backward` does not: the engine knows which of them runs.
        accumulate = torch._C._will_engine_execute_node(self.parameters)
        content = {"tape": self.tape, "gradients": list(gradients), "accumulate": accumulate}
        return self.peer.within(lambda deadline: self._fitting(self.peer.request("vjp", content, deadline)))

    def _fitting(self, answer: Any) -> list[torch.Tensor | None]:
        fits = isinstance(answer, list) and len(answer) == len(self.kinds)
        for gradient, kind in zip(answer, self.kinds, strict=True) if fits else ():
            is_tensor = isinstance(gradient, torch.Tensor) and (gradient.shape, gradient.dtype) == kind
            fits = fits and (gradient is None or is_tensor)
        if not fits:
            raise WireError("the gradients do not fit the call")
        return [None if gradient is None else gradient.detach() for gradient in answer]


class Root(torch.autograd.Function):
    """A number whose gradients with respect to the outputs of a call are those that were sent.

    Given gradients of its own to begin with, torch imports sympy at the first: half a second of every submission.
    """

    @staticmethod
    def forward(ctx: Any, gradients: list[torch.Tensor], *outputs: torch.Tensor) -> torch.Tensor:
        ctx.gradients = gradients
        return torch.zeros(())

    @staticmethod
    def backward(ctx: Any, _: torch.Tensor) -> Any:
        return (None, *ctx.gradients)


class RemoteCall(torch.autograd.Function):
    """A remote call as a node of this side's autograd graph."""

    @staticmethod
    def forward(ctx: Any, link: Link, outputs: tuple[torch.Tensor, ...], *inputs: torch.Tensor) -> Any:
        ctx.link = link
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        return (None, None, None, *ctx.link.vjp(gradients))
