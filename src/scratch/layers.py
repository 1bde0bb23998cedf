"""The parts that a Transformer is stacked from: norm, feed-forward net, residual connection, encoder (unit 11).

Symbols: B batch (``*B``: any number of leading dimensions, none included), T positions, D model width, F inner width of
the feed-forward net. ``#`` before a dimension says that it may also be 1 and then broadcasts.

Paper: Vaswani et al., "Attention Is All You Need", 2017, sections 3.1, 3.3 and 5.4.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from scratch.multi_head_attention import MultiHeadAttention


class LayerNorm(nn.Module):
    """Bring every row to mean zero and variance one, then stretch and shift each feature as training sees fit.

    Its parameters are ``weight`` (D,), which starts at one, and ``bias`` (D,), which starts at zero: these names are
    part of the contract, because weights are loaded by them.

    Source: Ba, Kiros and Hinton, "Layer Normalization", 2016, section 3, equation 4.
    """

    def __init__(self, d_model: int, eps: float = 1e-5):
        """Create ``weight`` and ``bias``; eps keeps the division finite where all features of a row are equal."""
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Return (x − mean) / √(variance + eps) · weight + bias, with mean and variance of each row by itself.

        The variance is the mean of the D squared deviations from the mean: it is divided by D, not by D − 1, and it is
        right for rows far from zero too.

        Args:
            x: any number of rows of D features; it is left unchanged.

        Returns:
            Rows of the same shape and dtype.
        """
        deviation = x - x.mean(dim=-1, keepdim=True)
        variance = deviation.square().mean(dim=-1, keepdim=True)  # (*B, 1)
        return deviation / torch.sqrt(variance + self.eps) * self.weight + self.bias


class FeedForward(nn.Module):
    """Widen each row, bend it, and narrow it again: the same small network at every position.

    Its maps are ``hidden``, an ``nn.Linear`` from D to F, and ``output``, from F to D, both with a bias: these names
    are part of the contract, because weights are loaded by them.

    Source: Vaswani et al., 2017, section 3.3, equation 2.
    """

    def __init__(self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor] = torch.relu):
        """Create ``hidden`` and ``output``; the activation, applied entry by entry, stands between them."""
        super().__init__()
        self.hidden = nn.Linear(d_model, d_ff)
        self.output = nn.Linear(d_ff, d_model)
        self.activation = activation

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Return output(activation(hidden(x))): (*B, D) -> (*B, F) -> (*B, D)."""
        return self.output(self.activation(self.hidden(x)))


class Residual(nn.Module):
    """Wrap a sub-layer: what it finds is added to what came in, and a norm keeps numbers in bounds.

    With ``norm_first`` (pre-norm): x + dropout(sublayer(norm(x))). Without (post-norm, as in 2017): norm(x +
    dropout(sublayer(x))). The norm is the sub-module ``norm``: its name is part of the contract.

    Source: Vaswani et al., 2017, sections 3.1 and 5.4; Xiong et al., "On Layer Normalization in the Transformer
    Architecture", 2020, section 3 (pre-norm).
    """

    def __init__(self, d_model: int, dropout: float = 0.1, norm_first: bool = False):
        """Create ``norm`` and a dropout.

        Args:
            d_model: D.
            dropout: the share of the entries of the sub-layer's result that is zeroed, in training mode, at random; the
                others are divided by 1 − dropout. Nothing else is dropped, and in evaluation mode nothing at all.
            norm_first: whether the norm comes before the sub-layer or behind the sum.
        """
        super().__init__()
        self.norm = LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.norm_first = norm_first

    def forward(
        self, x: Float[Tensor, "B T D"], sublayer: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "B T D"]:
        """Return x with what the sub-layer finds added to it.

        Args:
            x: (B, T, D), the residual stream; it is left unchanged.
            sublayer: a function from (B, T, D) to (B, T, D). It is called once.
        """
        if self.norm_first:
            return x + self.dropout(sublayer(self.norm(x)))
        return self.norm(x + self.dropout(sublayer(x)))


class EncoderLayer(nn.Module):
    """Let every position look around, then think for itself: self-attention, then a feed-forward net.

    Its sub-modules are ``attention``, ``feed_forward``, ``attention_residual`` and ``feed_forward_residual``: these
    names are part of the contract, because weights are loaded by them.

    Source: Vaswani et al., 2017, section 3.1.
    """

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float = 0.1, norm_first: bool = False):
        """Create a ``MultiHeadAttention``, a ``FeedForward``, and a ``Residual`` for each of the two.

        Args:
            d_model: D.
            heads: H, which divides D.
            d_ff: F, the inner width of the feed-forward net.
            dropout: for both residuals.
            norm_first: for both residuals: pre-norm where True.
        """
        super().__init__()
        self.attention = MultiHeadAttention(d_model, heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.attention_residual = Residual(d_model, dropout, norm_first)
        self.feed_forward_residual = Residual(d_model, dropout, norm_first)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "#B #T #T"] | Float[Tensor, "#B #T #T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return the sequence after self-attention and feed-forward net.

        Args:
            x: (B, T, D).
            mask: who may attend to whom, anything that broadcasts to (B, T, T): boolean (True: may attend) or additive.
        """
        x = self.attention_residual(x, lambda x: self.attention(x, mask=mask))
        return self.feed_forward_residual(x, self.feed_forward)


class Encoder(nn.Module):
    """Stack encoder layers: each has weights of its own, and refines what the one below it wrote.

    Its sub-modules are ``layers``, an ``nn.ModuleList``, and ``norm``, a last ``LayerNorm`` where the layers are
    pre-norm (nothing else would bring their sum to one scale), otherwise an ``nn.Identity``.

    Source: Vaswani et al., 2017, section 3.1; Xiong et al., 2020, table 1 (the last norm).
    """

    def __init__(
        self, d_model: int, heads: int, d_ff: int, layers: int, dropout: float = 0.1, norm_first: bool = False
    ):
        """Create ``layers``, so many ``EncoderLayer``s with these settings, and ``norm``."""
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, heads, d_ff, dropout, norm_first) for _ in range(layers)
        )
        self.norm = LayerNorm(d_model) if norm_first else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "#B #T #T"] | Float[Tensor, "#B #T #T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Pass x through all layers, bottom to top, with the same mask, and through the last norm."""
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)
