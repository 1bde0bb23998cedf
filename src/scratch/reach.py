"""Who can see whom: what each row of an output really depends on, measured by gradients (units 08 to 12)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def gradient_reach(
    function: Callable[[Float[Tensor, "S D"]], Float[Tensor, "T V"]], x: Float[Tensor, "S D"]
) -> Float[Tensor, "T S"]:
    """Return how strongly each output row depends on each input row: ‖∂ output[t] / ∂ x[s]‖.

    An entry that is exactly zero at random inputs means that input s does not influence output t, by any path.

    Args:
        function: takes a sequence (S, D) and returns one (T, V).
        x: (S, D), where the derivatives are taken.
    """
    jacobian = torch.autograd.functional.jacobian(function, x)  # (T, V, S, D)
    return jacobian.norm(dim=(1, 3))
