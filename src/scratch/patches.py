"""Images as sequences: cut into patches, put together again, embedded, with positions for any grid (unit 19).

Symbols: B batch, C channels, P side of a patch in pixels, N patches of an image (rows · columns), D model width. Images
are (B, C, height, width): row 0 is at the top, column 0 at the left.

Paper: Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021, section 3.1.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def patchify(images: Float[Tensor, "B C height width"], patch: int) -> Float[Tensor, "B N C*P*P"]:
    """Cut images into square patches that do not overlap, and make a row of numbers of each.

    Args:
        images: (B, C, height, width). They are left unchanged.
        patch: P, which divides height and width.

    Returns:
        (B, N, C·P·P). The patches are in reading order: the top row of patches from left to right, then the row below.
        Within a patch come all pixels of channel 0 in reading order, then those of channel 1, and so on.

    Raises:
        ValueError: height or width is no multiple of P.

    Source: Dosovitskiy et al., 2021, section 3.1.
    """
    batch, channels, height, width = images.shape
    if height % patch or width % patch:
        raise ValueError(f"{height} by {width} pixels cannot be cut into patches of {patch} by {patch}")
    rows, columns = height // patch, width // patch
    cut = images.reshape(batch, channels, rows, patch, columns, patch)
    cut = cut.permute(0, 2, 4, 1, 3, 5)  # (B, C, rows, P, columns, P) -> (B, rows, columns, C, P, P)
    return cut.reshape(batch, rows * columns, channels * patch * patch)  # -> (B, N, C·P·P)


def unpatchify(
    patches: Float[Tensor, "B N C*P*P"], patch: int, grid: tuple[int, int]
) -> Float[Tensor, "B C height width"]:
    """Put patches together to images: the inverse of ``patchify``.

    Args:
        patches: (B, N, C·P·P), in the order in which ``patchify`` returns them.
        patch: P.
        grid: how many patches an image has from top to bottom and from left to right, (rows, columns).

    Returns:
        (B, C, rows · P, columns · P).

    Raises:
        ValueError: N is not rows · columns, or the width of a row is no multiple of P².
    """
    batch, count, width = patches.shape
    rows, columns = grid
    if count != rows * columns or width % patch**2:
        raise ValueError(f"{count} patches of {width} numbers are no {rows} by {columns} with P = {patch}")
    channels = width // patch**2
    cut = patches.reshape(batch, rows, columns, channels, patch, patch)
    cut = cut.permute(0, 3, 1, 4, 2, 5)  # (B, rows, columns, C, P, P) -> (B, C, rows, P, columns, P)
    return cut.reshape(batch, channels, rows * patch, columns * patch)  # -> (B, C, height, width)


class PatchEmbedding(nn.Module):
    """Turn every patch of an image into a row of width D, by one linear map for all patches.

    The map is ``projection``, an ``nn.Linear`` from C·P·P to D with a bias: this name is part of the contract, because
    weights are loaded by it. It reads a patch as ``patchify`` lays it out. The whole is a convolution whose kernel is
    as large as its stride; the kernel (D, C, P, P) and ``projection.weight`` hold the same numbers in the same order.

    Source: Dosovitskiy et al., 2021, section 3.1, equation 1.
    """

    def __init__(self, patch: int, channels: int, d_model: int):
        """Create ``projection``, and remember P."""
        super().__init__()
        self.patch = patch
        self.projection = nn.Linear(channels * patch * patch, d_model)

    def forward(self, images: Float[Tensor, "B C height width"]) -> Float[Tensor, "B N D"]:
        """Return a row for every patch, in reading order; height and width are any multiples of P."""
        return self.projection(patchify(images, self.patch))  # (B, N, C·P·P) -> (B, N, D)


def interpolate_positions(
    positions: Float[Tensor, "1+N D"], grid: tuple[int, int], new_grid: tuple[int, int]
) -> Float[Tensor, "1+M D"]:
    """Make position vectors for a grid of M patches out of those that were learned for a grid of N.

    Args:
        positions: (1 + N, D). Row 0 belongs to the class token; the others to the patches, in reading order. They are
            left unchanged.
        grid: (rows, columns) that these patches form.
        new_grid: (rows, columns) that the new ones form.

    Returns:
        (1 + M, D): the row of the class token as it was, then one for each new patch. Every feature is taken for an
        image of rows by columns pixels, and that image is resized bicubically, as ``F.interpolate`` does it when it
        aligns the outer edges of the pixels, not their centres (``align_corners=False``), without ``antialias``.

    Raises:
        ValueError: there are not 1 + rows · columns positions.

    Source: Dosovitskiy et al., 2021, section 3.2.
    """
    rows, columns = grid
    if len(positions) != 1 + rows * columns:
        raise ValueError(
            f"a class token and {rows} by {columns} patches do not have {len(positions)} positions"
        )
    image = positions[1:].T.reshape(1, -1, rows, columns)  # (N, D) -> (1, D, rows, columns)
    image = F.interpolate(image, size=new_grid, mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], image[0].flatten(1).T])  # (D, M) -> (M, D), behind (1, D)
