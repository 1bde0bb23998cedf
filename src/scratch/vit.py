"""The Vision Transformer: an encoder that reads the patches of an image, and how to see what it looked at (unit 19).

    image (B, C, height, width) ─ patches (B, N, D) ─ class token in front, positions added (B, T, D)
                                                          │
                    logits (B, classes) ─ linear ─ row 0 ─ encoder, pre-norm, GELU

It is the encoder of ``scratch.layers`` as it stands there. What differs from a Transformer that reads text is what
comes in, patches instead of looked-up tokens, and the class token, whose row is all that is read off at the end.

Symbols: B batch, C channels, P side of a patch in pixels, N patches of an image, T = 1 + N positions, D model width,
H heads, L layers.

Papers: Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021; Abnar and Zuidema, "Quantifying Attention Flow in
Transformers", 2020 (rollout).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scratch.attention import attention_scores, attention_weights
from scratch.layers import Encoder
from scratch.multi_head_attention import split_heads
from scratch.patches import PatchEmbedding
from scratch.positions import LearnedPositions


class ViT(nn.Module):
    """Say what an image shows: embed its patches, let an encoder read them, and ask the class token.

    Its sub-modules are ``patches``, a ``PatchEmbedding``; ``positions``, ``LearnedPositions`` for 1 + N rows, the class
    token's first; ``encoder``, a pre-norm ``Encoder`` whose feed-forward nets bend with the exact GELU (``F.gelu``);
    and ``head``, an ``nn.Linear`` from D to the classes. The class token is the parameter ``class_token`` (D,). These
    names are part of the contract, because weights are loaded by them.

    Source: Dosovitskiy et al., 2021, section 3.1, figure 1, equations 1 to 4.
    """

    def __init__(
        self,
        image_size: tuple[int, int] = (224, 224),
        patch: int = 16,
        channels: int = 3,
        classes: int = 1000,
        d_model: int = 768,
        heads: int = 12,
        d_ff: int = 3072,
        layers: int = 12,
        dropout: float = 0.1,
    ):
        """Create the parts; the defaults are the paper's ViT-Base with patches of 16 by 16 pixels.

        Args:
            image_size: (height, width) of all images, in pixels, both multiples of P.
            patch: P.
            channels: C.
            classes: how many classes there are.
            d_model: D.
            heads: H, which divides D.
            d_ff: the inner width of the feed-forward nets.
            layers: L, how many layers the encoder has.
            dropout: the share of entries zeroed in training: in sub-layer outputs, and in embeddings with their
                positions. The class token is drawn with standard deviation 0.02, as the positions are.
        """
        super().__init__()
        height, width = self.image_size = image_size
        self.patches = PatchEmbedding(patch, channels, d_model)
        self.class_token = nn.Parameter(0.02 * torch.randn(d_model))
        self.positions = LearnedPositions(1 + (height // patch) * (width // patch), d_model)
        self.dropout = nn.Dropout(dropout)
        self.encoder = Encoder(d_model, heads, d_ff, layers, dropout, norm_first=True)
        for layer in self.encoder.layers:
            layer.feed_forward.activation = F.gelu
        self.head = nn.Linear(d_model, classes)

    def embed(self, images: Float[Tensor, "B C height width"]) -> Float[Tensor, "B T D"]:
        """Embed the patches, put the class token in front, add positions to all rows, apply dropout.

        Raises:
            ValueError: the images are not of the size that the model was made for.

        Source: Dosovitskiy et al., 2021, equation 1.
        """
        size = tuple(images.shape[-2:])
        if size != self.image_size:
            raise ValueError(f"the positions are those of images of {self.image_size} pixels, not {size}")
        x = self.patches(images)  # (B, C, height, width) -> (B, N, D)
        x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)  # (B, N, D) -> (B, T, D)
        return self.dropout(self.positions(x))

    def forward(self, images: Float[Tensor, "B C height width"]) -> Float[Tensor, "B classes"]:
        """Score every class for every image, by what the encoder made of the class token; there is no mask."""
        return self.head(self.encoder(self.embed(images))[:, 0])  # (B, T, D) -> (B, D) -> (B, classes)

    def attentions(self, images: Float[Tensor, "B C height width"]) -> Float[Tensor, "B L H T T"]:
        """Return the weights with which every head of every layer attends while the model reads the images.

        Returns:
            (B, L, H, T, T): layer 0 is the one that reads the embeddings; rows are queries, and sum to one.
        """
        x, found = self.embed(images), []
        for layer in self.encoder.layers:
            seen = layer.attention_residual.norm(x)  # pre-norm: this is what the attention reads
            query = split_heads(layer.attention.query(seen), layer.attention.heads)  # (B, H, T, K)
            key = split_heads(layer.attention.key(seen), layer.attention.heads)
            found.append(attention_weights(attention_scores(query, key)))  # (B, H, T, T)
            x = layer(x)
        return torch.stack(found, dim=1)


def attention_rollout(weights: Float[Tensor, "*B L H T T"]) -> Float[Tensor, "*B T T"]:
    """Follow attention through all layers: how much of each input position arrives at each output position.

    A layer hands on half of what its attention brought, averaged over the heads, and half of what came in, for its
    residual connection. With A_l the mean over the heads of layer l, counted from the input:

        rollout = (A_L + I)/2 · … · (A_2 + I)/2 · (A_1 + I)/2

    Args:
        weights: (*B, L, H, T, T), the attention of every head in every layer; all rows sum to one. They are left
            unchanged.

    Returns:
        (*B, T, T): row t says of which inputs output t is made, and in which shares; it sums to one.

    Source: Abnar and Zuidema, 2020, section 3, with the residual connection as in their equation 1.
    """
    identity = torch.eye(weights.shape[-1]).to(weights)
    rollout = identity
    for layer in weights.mean(dim=-3).unbind(dim=-3):  # (*B, L, H, T, T) -> L of (*B, T, T)
        rollout = (layer + identity) / 2 @ rollout
    return rollout
