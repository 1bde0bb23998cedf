"""Positions: a test for who sees order, sinusoids, learned vectors, rotation, and bias (unit 10).

Symbols: B batch (``*B``: any number of leading dimensions, none included), T positions, S positions that are looked
up, D model width, H heads, K head width, V value width. ``#`` before a dimension says that it may also be 1 and then
broadcasts.

Papers: Vaswani et al., "Attention Is All You Need", 2017, section 3.5; Su et al., "RoFormer", 2021 (rotation);
Press et al., "Train Short, Test Long", 2022 (bias).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from scratch.attention import scaled_dot_product_attention


def permutation_test(
    function: Callable[[Float[Tensor, "T D"]], Float[Tensor, "T V"]], x: Float[Tensor, "T D"], seed: int = 0
) -> float:
    """Measure how far a function is from not seeing order: the largest entry of |f(Px) − P f(x)|.

    P shuffles the T rows. It is drawn, by a generator of its own, from all permutations but the one that leaves every
    row where it is: with that one, every function would pass.

    Args:
        function: takes a sequence (T, D), returns one row for each position, (T, V).
        x: (T, D), T ≥ 2. It is left unchanged.
        seed: draws P. The same number always draws the same permutation; the numbers from 0 on draw different ones.

    Returns:
        A plain float: zero, up to rounding, if the function treats its rows as a set (permutation equivariance).

    Raises:
        ValueError: there are fewer than two rows, which have no order.

    Source: Lee et al., "Set Transformer", 2019, section 3.1, property 1.
    """
    if len(x) < 2:
        raise ValueError(f"order needs at least two rows, and there are {len(x)}")
    generator = torch.Generator().manual_seed(seed)
    order = torch.arange(len(x))
    while torch.equal(order, torch.arange(len(x))):
        order = torch.randperm(len(x), generator=generator)
    return (function(x[order]) - function(x)[order]).abs().max().item()


def sinusoidal_encoding(length: int, d_model: int, base: float = 10000.0) -> Float[Tensor, "T D"]:
    """Give every position a row of sines and cosines, from fast to slow.

    Args:
        length: T, the number of positions, which are counted from 0.
        d_model: D, the width of a row. It may be odd: then the last sine has no cosine.
        base: from pair to pair the waves grow longer, by a factor that would reach the base after D features.

    Returns:
        (T, D), float32: entry [t, 2i] is sin(t / base^(2i/D)), entry [t, 2i + 1] is cos(t / base^(2i/D)).

    Source: Vaswani et al., 2017, section 3.5.
    """
    position = torch.arange(length)[:, None]  # (T, 1)
    even = torch.arange(0, d_model, 2, dtype=torch.float64)  # 0, 2, 4, …: what the paper calls 2i
    angle = position / base ** (even / d_model)  # (T, ⌈D/2⌉)
    encoding = torch.stack([angle.sin(), angle.cos()], dim=-1)  # (T, ⌈D/2⌉, 2)
    return encoding.flatten(-2)[:, :d_model].float()


class LearnedPositions(nn.Module):
    """Add to every row a vector that belongs to its position and is trained like any weight.

    The vectors are the parameter ``weight`` (max_length, D): the name is part of the contract, because weights are
    loaded by it.

    Source: Gehring et al., "Convolutional Sequence to Sequence Learning", 2017, section 3.1; Devlin et al., "BERT",
        2019.
    """

    def __init__(self, max_length: int, d_model: int):
        """Create ``weight`` (max_length, D), drawn from a normal distribution with standard deviation 0.02."""
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(max_length, d_model))

    def forward(self, x: Float[Tensor, "*B T D"], offset: int = 0) -> Float[Tensor, "*B T D"]:
        """Return x with the vector of its position added to each row.

        Args:
            x: (*B, T, D). It is left unchanged.
            offset: the position of the first row, as when a text is read piece by piece.

        Raises:
            ValueError: a position has no vector: it is max_length or more, or negative.
        """
        end = offset + x.shape[-2]
        if offset < 0 or end > len(self.weight):
            raise ValueError(
                f"{len(self.weight)} positions have a vector, not those from {offset} to {end - 1}"
            )
        return x + self.weight[offset:end]


def apply_rope(x: Float[Tensor, "*B T K"], offset: int = 0, base: float = 10000.0) -> Float[Tensor, "*B T K"]:
    """Turn queries or keys by angles that grow with their position, so that dot products see distances.

    Features i and i + K/2 of a row are a point in a plane. At position t it is turned by θ = t / base^(2i/K),
    counterclockwise:

        x'[i] = x[i] cos θ − x[i + K/2] sin θ        x'[i + K/2] = x[i + K/2] cos θ + x[i] sin θ

    Args:
        x: (*B, T, K), queries or keys (never values) of one or many heads. It is left unchanged.
        offset: the position of the first row, as when a text is read piece by piece.
        base: the larger, the slower the last planes turn.

    Returns:
        (*B, T, K), in the dtype of x: every row as long as it was. The angles are worked out in float32 at least,
        whatever the dtype of x: bfloat16 cannot count beyond 256.

    Raises:
        ValueError: K is odd.

    Source: Su et al., 2021, section 3.2.2, with the planes laid out as in Llama (the paper pairs neighbours).
    """
    *_, length, width = x.shape
    if width % 2:
        raise ValueError(f"a width of {width} cannot be paired up into planes")
    position = torch.arange(offset, offset + length, device=x.device)[:, None]  # (T, 1)
    even = torch.arange(0, width, 2, dtype=torch.float64, device=x.device)  # 2i
    angle = position / base ** (even / width)  # (T, K/2)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)  # two of (*B, T, K/2)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def rotary_attention(
    query: Float[Tensor, "*B T K"],
    key: Float[Tensor, "*B S K"],
    value: Float[Tensor, "*B S V"],
    mask: Bool[Tensor, "*#B #T #S"] | Float[Tensor, "*#B #T #S"] | None = None,
    offset: int = 0,
) -> Float[Tensor, "*B T V"]:
    """Attend by what stands in the rows and by how far apart they stand: queries and keys are turned first.

    Args:
        query: (*B, T, K), the queries of positions offset, offset + 1, …
        key: (*B, S, K), the keys of positions 0, 1, …, not yet turned.
        value: (*B, S, V). What is handed over is not turned.
        mask: anything that broadcasts to (*B, T, S), boolean (True: may attend) or additive (-inf forbids).
        offset: the position of the first query. The keys always start at position 0: as when a text is written word
            by word, and the keys of all words so far are at hand.

    Returns:
        (*B, T, V), as ``scaled_dot_product_attention`` returns it.

    Source: Su et al., 2021, section 3.2.2, equation 16.
    """
    return scaled_dot_product_attention(apply_rope(query, offset), apply_rope(key), value, mask)


def alibi_bias(heads: int, length: int) -> Float[Tensor, "H T T"]:
    """Make the additive mask with which each head prefers what is near, one head more than the next.

    Args:
        heads: H, a power of two (1 is one).
        length: T, the number of positions.

    Returns:
        (H, T, T), float32: entry [h, t, s] is −m · (t − s) with the slope m = 2^(−8 (h + 1) / H) where s ≤ t, and -inf
        where s > t. Heads are counted from h = 0.

    Raises:
        ValueError: H is no power of two.

    Source: Press et al., 2022, section 3.
    """
    if heads < 1 or heads & (heads - 1):
        raise ValueError(f"the slopes are defined for a power of two heads, not for {heads}")
    slope = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)  # (H,)
    position = torch.arange(length)
    distance = position[:, None] - position[None, :]  # (T, T): t − s
    bias = -slope[:, None, None] * distance  # (H, T, T)
    return bias.masked_fill(distance < 0, -torch.inf)
