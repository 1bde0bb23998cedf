"""Loops over pixels, a subclass of nn.Linear, modules under the contract's names and otherwise as one pleases."""

import torch
from torch import nn
from torch.nn import functional

from scratch.attention import attention_scores, attention_weights
from scratch.layers import Encoder
from scratch.multi_head_attention import split_heads
from scratch.positions import LearnedPositions


def patchify(images, patch):
    _, C, height, width = images.shape
    if height % patch != 0:
        raise ValueError("height")
    if width % patch != 0:
        raise ValueError("width")
    rows = []
    for r in range(height // patch):
        for k in range(width // patch):
            numbers = []
            for c in range(C):
                for p in range(patch):
                    for q in range(patch):
                        numbers.append(images[:, c, r * patch + p, k * patch + q])
            rows.append(torch.stack(numbers, dim=-1))
    return torch.stack(rows, dim=1)


def unpatchify(patches, patch, grid):
    B, N, width = patches.shape
    rows, columns = grid
    if rows * columns != N:
        raise ValueError("N")
    if width % (patch * patch) != 0:
        raise ValueError("width")
    C = width // (patch * patch)
    images = patches.new_zeros(B, C, rows * patch, columns * patch)
    for n in range(N):
        r, k = divmod(n, columns)
        block = patches[:, n].reshape(B, C, patch, patch)
        images[:, :, r * patch : (r + 1) * patch, k * patch : (k + 1) * patch] = block
    return images


class PatchEmbedding(nn.Module):
    def __init__(self, patch: int, channels: int, d_model: int):
        super().__init__()
        self.P = patch
        self.projection = nn.Linear(in_features=channels * patch * patch, out_features=d_model, bias=True)

    def forward(self, images):
        patches = patchify(images, self.P)
        rows = []
        for n in range(patches.shape[1]):
            rows.append(self.projection(patches[:, n]))
        return torch.stack(rows, dim=1)


class ViT(nn.Module):
    def __init__(
        self,
        image_size: tuple = (224, 224),
        patch: int = 16,
        channels: int = 3,
        classes: int = 1000,
        d_model: int = 768,
        heads: int = 12,
        d_ff: int = 3072,
        layers: int = 12,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.image_size = list(image_size)
        self.patches = PatchEmbedding(patch, channels, d_model)
        N = (image_size[0] // patch) * (image_size[1] // patch)
        self.class_token = nn.Parameter(torch.zeros(d_model))
        nn.init.trunc_normal_(self.class_token, std=0.02)
        self.positions = LearnedPositions(1 + N, d_model)
        self.embedding_dropout = nn.Dropout(dropout)
        self.encoder = Encoder(d_model, heads, d_ff, layers, dropout, norm_first=True)
        for layer in self.encoder.layers:
            layer.feed_forward.activation = nn.GELU()
        self.head = nn.Linear(d_model, classes)

    def embed(self, images):
        if list(images.shape[2:]) != self.image_size:
            raise ValueError("size")
        x = self.patches(images)
        token = self.class_token.reshape(1, 1, -1).repeat(x.shape[0], 1, 1)
        x = torch.cat((token, x), 1)
        x = x + self.positions.weight
        x = self.embedding_dropout(x)
        return x

    def forward(self, images):
        x = self.embed(images)
        for layer in self.encoder.layers:
            x = layer(x)
        x = self.encoder.norm(x[:, 0])
        return self.head(x)

    def attentions(self, images):
        x = self.embed(images)
        B, T, _ = x.shape
        H = self.encoder.layers[0].attention.heads
        out = torch.zeros(B, len(self.encoder.layers), H, T, T, dtype=x.dtype)
        for i, layer in enumerate(self.encoder.layers):
            normed = layer.attention_residual.norm(x)
            q = split_heads(layer.attention.query(normed), H)
            k = split_heads(layer.attention.key(normed), H)
            out[:, i] = attention_weights(attention_scores(q, k), None)
            x = layer(x)
        return out


def interpolate_positions(positions, grid, new_grid):
    rows, columns = grid
    if positions.shape[0] != 1 + rows * columns:
        raise ValueError("positions")
    features = []
    for d in range(positions.shape[1]):
        picture = positions[1:, d].reshape(1, 1, rows, columns)
        picture = functional.interpolate(picture, size=list(new_grid), mode="bicubic", align_corners=False)
        features.append(picture.flatten())
    new = torch.stack(features, dim=1)
    return torch.cat([positions[0].unsqueeze(0), new], dim=0)


def attention_rollout(weights):
    T = weights.size(-1)
    total = torch.eye(T, dtype=weights.dtype).expand(*weights.shape[:-4], T, T)
    for layer in range(weights.size(-4)):
        mean = sum(weights[..., layer, h, :, :] for h in range(weights.size(-3))) / weights.size(-3)
        # what passed through attention, and what passed it by
        total = 0.5 * (mean @ total) + 0.5 * total
    return total
