"""einsum and transposes; the encoder's layers made with their activation; rollout from the top, by linalg.multi_dot."""

import functools

import torch
import torch.nn.functional as F
from torch import nn

from scratch.layers import Encoder
from scratch.positions import LearnedPositions


def patchify(images, patch):
    if images.shape[2] % patch or images.shape[3] % patch:
        raise ValueError("no multiple of the patch")
    strips = torch.stack(images.split(patch, dim=2), dim=1)  # (B, rows, C, P, width)
    squares = torch.stack(strips.split(patch, dim=4), dim=2)  # (B, rows, columns, C, P, P)
    return squares.flatten(1, 2).flatten(2)


def unpatchify(patches, patch, grid):
    rows, columns = grid
    B, N, width = patches.shape
    channels, rest = divmod(width, patch * patch)
    if rest or rows * columns != N:
        raise ValueError("no such grid of patches")
    cut = (
        patches.view(B, rows, columns, channels, patch, patch)
        if patches.is_contiguous()
        else patches.reshape(B, rows, columns, channels, patch, patch)
    )
    return torch.einsum("brkcpq->bcrpkq", cut).reshape(B, channels, rows * patch, columns * patch)


class PatchEmbedding(nn.Module):
    def __init__(self, patch: int, channels: int, d_model: int):
        super().__init__()
        self.projection = nn.Linear(patch**2 * channels, d_model)
        self.register_buffer("seen", torch.zeros(()))
        self.patch_size = patch

    def forward(self, images):
        weight, bias = self.projection.weight, self.projection.bias
        return torch.einsum("bnp,dp->bnd", patchify(images, self.patch_size), weight) + bias


class ViT(nn.Module):
    def __init__(
        self, image_size=(224, 224), patch=16, channels=3, classes=1000, d_model=768, heads=12, d_ff=3072, layers=12,
        dropout=0.1,
    ):  # fmt: skip
        super().__init__()
        self.height, self.width = image_size
        grid = (self.height // patch, self.width // patch)
        self.patches = PatchEmbedding(patch, channels, d_model)
        self.positions = LearnedPositions(grid[0] * grid[1] + 1, d_model)
        self.register_parameter("class_token", nn.Parameter(torch.randn(d_model) / 50))
        self.encoder = Encoder(d_model, heads, d_ff, layers, dropout=dropout, norm_first=True)
        for i in range(layers):
            self.encoder.layers[i].feed_forward.activation = functools.partial(F.gelu, approximate="none")
        self.drop = nn.Dropout(p=dropout)
        self.head = nn.Linear(d_model, classes)
        self.register_buffer("zero", torch.zeros(d_model), persistent=False)

    def embed(self, images):
        height, width = images.size(-2), images.size(-1)
        if height != self.height or width != self.width:
            raise ValueError(f"images of {height} by {width}")
        x = self.patches(images)
        x = F.pad(x, (0, 0, 1, 0))
        first = F.one_hot(torch.zeros((), dtype=torch.int64), x.shape[1]).to(x)
        return self.drop(self.positions(x + first[:, None] * self.class_token))

    def forward(self, images):
        y = self.encoder(self.embed(images))
        return self.head(y)[:, 0, :]

    def attentions(self, images):
        x = self.embed(images)
        per_layer = []
        for layer in self.encoder.layers:
            attention, rows = layer.attention, layer.attention_residual.norm(x)
            shape = (*rows.shape[:2], attention.heads, -1)
            query, key = attention.query(rows).reshape(shape), attention.key(rows).reshape(shape)
            scores = torch.einsum("bthk,bshk->bhts", query, key) / query.shape[-1] ** 0.5
            per_layer.append(scores.softmax(-1).unsqueeze(1))
            x = layer(x)
        return torch.cat(per_layer, 1)


def interpolate_positions(positions, grid, new_grid):
    if positions.shape[0] - 1 != grid[0] * grid[1]:
        raise ValueError("these positions form another grid")
    if tuple(grid) == tuple(new_grid):
        return positions
    picture = torch.einsum("rkd->drk", positions[1:].reshape(*grid, -1))
    picture = F.interpolate(picture[None], size=tuple(new_grid), mode="bicubic")[0]
    rows = torch.einsum("drk->rkd", picture).reshape(-1, positions.shape[1])
    return torch.cat((positions[0:1], rows), dim=0)


def attention_rollout(weights):
    heads = weights.shape[-3]
    mean = torch.einsum("...lhts->...lts", weights) / heads
    half = 0.5 * mean + 0.5 * torch.eye(weights.shape[-1], dtype=weights.dtype)
    layers = [half[..., i, :, :] for i in reversed(range(half.shape[-3]))]
    return functools.reduce(torch.matmul, layers)
