"""Multi-head attention: several attentions side by side, and heads that share keys and values (unit 09).

Symbols: B batch, T queries, S keys, D model width, H heads, G groups (key and value heads), K head width, D / H.
``#`` before a dimension says that it may also be 1 and then broadcasts.

Paper: Vaswani et al., "Attention Is All You Need", 2017, section 3.2.2.
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from scratch.attention import scaled_dot_product_attention


def split_heads(x: Float[Tensor, "*B T D"], heads: int) -> Float[Tensor, "*B H T K"]:
    """Cut every row into H pieces of equal width, and give each head a sequence of its own.

    Args:
        x: (*B, T, D).
        heads: H, which divides D.

    Returns:
        (*B, H, T, K) with K = D / H: head h has, of every row, the features h·K to (h + 1)·K − 1, in their order.

    Raises:
        ValueError: D is no multiple of H.

    Source: Vaswani et al., 2017, section 3.2.2.
    """
    *_, width = x.shape
    if width % heads:
        raise ValueError(f"{heads} heads cannot share a width of {width} equally")
    pieces = x.unflatten(-1, (heads, width // heads))  # (*B, T, D) -> (*B, T, H, K)
    return pieces.transpose(-3, -2)  # (*B, T, H, K) -> (*B, H, T, K)


def merge_heads(x: Float[Tensor, "*B H T K"]) -> Float[Tensor, "*B T D"]:
    """Put the pieces of every row side by side again: the inverse of ``split_heads``.

    Args:
        x: (*B, H, T, K), a sequence for each head.

    Returns:
        (*B, T, D) with D = H·K: row t is the row t of head 0, then that of head 1, and so on.

    Source: Vaswani et al., 2017, section 3.2.2, "Concat".
    """
    pieces = x.transpose(-3, -2)  # (*B, H, T, K) -> (*B, T, H, K)
    return pieces.flatten(-2)  # (*B, T, H, K) -> (*B, T, D)


class MultiHeadAttention(nn.Module):
    """Attend H times side by side, each head in a projection of its own, and mix what the heads bring.

    Four linear maps of width D to D, all with a bias or all without: ``query``, ``key``, ``value`` and ``output``.
    These names are part of the contract, because weights are loaded by them.

    Source: Vaswani et al., 2017, section 3.2.2.
    """

    def __init__(self, d_model: int, heads: int, bias: bool = True):
        """Create ``query``, ``key``, ``value`` and ``output``, and remember the number of heads.

        Args:
            d_model: D, the width of what comes in and of what goes out.
            heads: H, which divides D.
            bias: whether the four maps have a bias.

        Raises:
            ValueError: D is no multiple of H.
        """
        super().__init__()
        if d_model % heads:
            raise ValueError(f"{heads} heads cannot share a width of {d_model} equally")
        self.heads = heads
        self.query = nn.Linear(d_model, d_model, bias=bias)
        self.key = nn.Linear(d_model, d_model, bias=bias)
        self.value = nn.Linear(d_model, d_model, bias=bias)
        self.output = nn.Linear(d_model, d_model, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        memory: Float[Tensor, "B S D"] | None = None,
        mask: Bool[Tensor, "#B #T #S"] | Float[Tensor, "#B #T #S"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Attend from every position of x to the positions of the memory that the mask permits.

        Args:
            x: (B, T, D), the sequences that ask.
            memory: (B, S, D), the sequences that are looked up; None stands for x itself (self-attention).
            mask: anything that broadcasts to (B, T, S), boolean (True: may attend) or additive (-inf forbids). It
                holds for every head alike, and need not have a dimension for the batch.

        Returns:
            (B, T, D): for each position what all heads found, mixed by ``output``. A head finds zero where the position
            may attend to nothing.
        """
        memory = x if memory is None else memory
        query = split_heads(self.query(x), self.heads)  # (B, T, D) -> (B, H, T, K)
        key = split_heads(self.key(memory), self.heads)  # (B, S, D) -> (B, H, S, K)
        value = split_heads(self.value(memory), self.heads)  # (B, S, D) -> (B, H, S, K)
        if mask is not None and mask.ndim == 3:
            mask = mask.unsqueeze(1)  # (#B, #T, #S) -> (#B, 1, #T, #S): the same for every head
        found = scaled_dot_product_attention(query, key, value, mask)  # (B, H, T, K)
        return self.output(merge_heads(found))  # (B, H, T, K) -> (B, T, D)


def count_parameters(d_model: int, heads: int, groups: int | None = None, bias: bool = True) -> int:
    """Count the numbers that training sets in a multi-head attention, by formula and not by building it.

    Args:
        d_model: D.
        heads: H, which divides D; each is K = D / H wide.
        groups: G, the number of key heads and of value heads, as in ``GroupedQueryAttention``. None: as many as heads.
        bias: whether the four maps have a bias.

    Returns:
        The weights of ``query`` (D to D), ``key`` and ``value`` (D to G·K each) and ``output`` (D to D), and their
        biases.

    Source: Vaswani et al., 2017, section 3.2.2; Ainslie et al., "GQA", 2023, section 2.2.
    """
    groups = heads if groups is None else groups
    narrow = groups * (d_model // heads)  # G·K, the width of all keys of a position
    widths = (d_model, narrow, narrow, d_model)  # of what query, key, value and output return
    return sum(width * (d_model + bias) for width in widths)


class GroupedQueryAttention(nn.Module):
    """Multi-head attention in which H query heads share G pairs of key and value heads.

    Query head h looks up in pair h // (H / G), so neighbours share. G = H is multi-head attention, G = 1 multi-query
    attention. Four linear maps without bias: ``query`` and ``output`` from D to D, ``key`` and ``value`` from D to
    G·K. These names are part of the contract, because weights are loaded by them.

    Source: Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints",
    2023, section 2.2; for G = 1 Shazeer, "Fast Transformer Decoding: One Write-Head is All You Need", 2019.
    """

    def __init__(self, d_model: int, heads: int, groups: int):
        """Create ``query``, ``key``, ``value`` and ``output``, each an ``nn.Linear`` without bias.

        Args:
            d_model: D, the width of what comes in and of what goes out.
            heads: H, the number of query heads, which divides D.
            groups: G, the number of key heads and of value heads, which divides H.

        Raises:
            ValueError: D is no multiple of H, or H no multiple of G.
        """
        super().__init__()
        if d_model % heads or heads % groups:
            raise ValueError(
                f"width {d_model}, {heads} heads, {groups} groups: each must be a multiple of the next"
            )
        self.heads, self.groups = heads, groups
        narrow = groups * (d_model // heads)
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, narrow, bias=False)
        self.value = nn.Linear(d_model, narrow, bias=False)
        self.output = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "#B #T #T"] | Float[Tensor, "#B #T #T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Attend from every position of x to the positions of the same sequence that the mask permits.

        Args:
            x: (B, T, D).
            mask: anything that broadcasts to (B, T, T), boolean (True: may attend) or additive (-inf forbids). It
                holds for every head alike, and need not have a dimension for the batch.

        Returns:
            (B, T, D): for each position what all heads found, mixed by ``output``. A head finds zero where the position
            may attend to nothing.
        """
        share = self.heads // self.groups
        query = split_heads(self.query(x), self.heads)  # (B, T, D) -> (B, H, T, K)
        key = split_heads(self.key(x), self.groups)  # (B, T, G·K) -> (B, G, T, K)
        value = split_heads(self.value(x), self.groups)  # (B, T, G·K) -> (B, G, T, K)
        key = key.repeat_interleave(share, dim=1)  # (B, G, T, K) -> (B, H, T, K): 0 0 1 1, not 0 1 0 1
        value = value.repeat_interleave(share, dim=1)  # (B, G, T, K) -> (B, H, T, K)
        if mask is not None and mask.ndim == 3:
            mask = mask.unsqueeze(1)  # (#B, #T, #T) -> (#B, 1, #T, #T): the same for every head
        found = scaled_dot_product_attention(query, key, value, mask)  # (B, H, T, K)
        return self.output(merge_heads(found))  # (B, H, T, K) -> (B, T, D)
