"""One slice a patch, torch.nn.functional throughout, hooks for the weights."""

import torch
import torch.nn.functional as F
from torch import nn

from scratch.attention import attention_scores, attention_weights
from scratch.layers import Encoder
from scratch.multi_head_attention import split_heads
from scratch.positions import LearnedPositions


def patchify(images, patch):
    *_, height, width = images.shape
    if not (height % patch == 0 == width % patch):
        raise ValueError("the patch does not divide the image")
    patches = [
        images[:, :, top : top + patch, left : left + patch].flatten(1)
        for top in range(0, height, patch)
        for left in range(0, width, patch)
    ]
    return torch.stack(patches, dim=1)


def unpatchify(patches, patch, grid):
    rows, columns = grid
    if patches.shape[1] != rows * columns:
        raise ValueError("another number of patches than the grid has")
    if patches.shape[2] % (patch * patch):
        raise ValueError("no whole number of channels")
    blocks = patches.unflatten(2, (-1, patch, patch))
    lines = [torch.cat([blocks[:, r * columns + c] for c in range(columns)], dim=-1) for r in range(rows)]
    return torch.cat(lines, dim=-2)


class PatchEmbedding(nn.Module):
    def __init__(self, patch, channels, d_model):
        super().__init__()
        self.shape = (d_model, channels, patch, patch)
        self.projection = nn.Linear(channels * patch * patch, d_model)

    def forward(self, images):
        kernel = self.projection.weight.view(self.shape)
        out = F.conv2d(images, kernel, self.projection.bias, stride=self.shape[-1])
        return out.flatten(2).transpose(1, 2)


class ViT(nn.Module):
    def __init__(
        self, image_size=(224, 224), patch=16, channels=3, classes=1000, d_model=768, heads=12, d_ff=3072, layers=12,
        dropout=0.1,
    ):  # fmt: skip
        super().__init__()
        self.size, self.p, self.heads = torch.Size(image_size), dropout, heads
        self.head = nn.Linear(d_model, classes)
        self.encoder = Encoder(d_model, heads, d_ff, layers, dropout, True)
        for name, module in self.encoder.named_modules():
            if name.endswith("feed_forward"):
                module.activation = nn.GELU()
        count = self.size.numel() // patch**2
        self.positions = LearnedPositions(count + 1, d_model)
        self.class_token = nn.Parameter(nn.init.normal_(torch.empty(d_model), std=0.02))
        self.patches = PatchEmbedding(patch, channels, d_model)

    def embed(self, images):
        if images.shape[2:] != self.size:
            raise ValueError("another size")
        patches = self.patches(images) + self.positions.weight[1:]
        token = (self.class_token + self.positions.weight[0]).repeat(len(images), 1)
        x = torch.cat([token.unsqueeze(1), patches], dim=1)
        return F.dropout(x, self.p, self.training)

    def forward(self, images):
        return F.linear(self.encoder(self.embed(images)).select(1, 0), self.head.weight, self.head.bias)

    def attentions(self, images):
        read = []
        hooks = [
            layer.attention.register_forward_pre_hook(lambda module, args: read.append((module, args[0])))
            for layer in self.encoder.layers
        ]
        try:
            self(images)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack([self.weights(*pair) for pair in read]).transpose(0, 1)

    def weights(self, attention, x):
        query, key = (split_heads(part(x), self.heads) for part in (attention.query, attention.key))
        return attention_weights(attention_scores(query, key))


def interpolate_positions(positions, grid, new_grid):
    token, rest = positions[0], positions[1:]
    if len(rest) != grid[0] * grid[1]:
        raise ValueError("another number of positions")
    image = rest.unflatten(0, grid).permute(2, 0, 1).unsqueeze(0)
    larger = F.interpolate(image, new_grid, mode="bicubic")
    return torch.vstack([token.unsqueeze(0), larger.squeeze(0).permute(1, 2, 0).reshape(-1, len(token))])


def attention_rollout(weights):
    mean = weights.mean(-3)
    mixed = mean + torch.eye(mean.shape[-1]).to(mean)
    mixed = mixed / mixed.sum(-1, keepdim=True)
    out = mixed[..., 0, :, :]
    for i in range(1, mixed.shape[-3]):
        out = mixed[..., i, :, :].matmul(out)
    return out
