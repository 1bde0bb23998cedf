"""The figures of unit 19, in the visual language of ``scratch.plots`` and ``scratch.blocks``."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter
from torch import Tensor

from scratch.blocks import RADIUS, encoder_layer_parts, sheet
from scratch.plots import (
    FONT,
    INK,
    KEY,
    OTHER,
    QUERY,
    SIGNED,
    VALUE,
    WEIGHTS,
    WRONG,
    Picture,
    canvas,
    name_axes,
)

STYLES = [(QUERY, "o", "-"), (WRONG, "s", "--"), (VALUE, "^", "-."), (KEY, "v", ":"), (OTHER, "D", "--")]
PAPER = 0.3  # how bright paper is where ink is 1, so that strokes shine in the colour of their patch


def cut_up(image: Float[Tensor, "height width"], patch: int, label: str) -> Picture:
    """Draw an image with the grid of its patches, numbered, and the row of patches that a model reads."""
    image = np.asarray(image)
    height, width = image.shape
    columns = width // patch
    count = columns * (height // patch)
    alt = (
        f"Left, {label}, {height} by {width} pixels, cut by lines into {height // patch} by {columns} patches, "
        f"numbered 1 to {count} in reading order. Right, the same patches in a row, 1 to {count}, behind a class token."
    )
    picture, axes = canvas(9.2, 2.5, columns=2, alt=alt)
    left, right = axes
    left.get_gridspec().set_width_ratios([1, 3])
    left.imshow(image, cmap="gray_r", vmin=0, vmax=1, extent=(0, width, height, 0))
    for n in range(count):
        y, x = patch * (n // columns), patch * (n % columns)
        left.add_patch(Rectangle((x, y), patch, patch, fill=False, edgecolor=QUERY, lw=1.2))
        left.text(x + 0.12, y + 0.1, n + 1, va="top", fontsize=FONT - 3, color=WRONG, weight="bold")
    left.set(xlim=(-0.1, width + 0.1), ylim=(height + 0.1, -0.1))
    per_line = 9
    for n in range(count + 1):
        x, y = 1.25 * (n % per_line), 1.75 * (n // per_line)
        if n:
            r, c = divmod(n - 1, columns)
            square = image[r * patch : (r + 1) * patch, c * patch : (c + 1) * patch]
            right.imshow(square, cmap="gray_r", vmin=0, vmax=1, extent=(x, x + 1, y + 1, y))
        else:
            right.text(x + 0.5, y + 0.5, "class", ha="center", va="center", fontsize=FONT - 1, color=INK)
        right.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=QUERY if n else OTHER, lw=1.4))
        right.text(x + 0.5, y + 1.28, n, ha="center", va="center", fontsize=FONT - 2, color=WRONG)
    right.set(xlim=(-0.1, 1.25 * per_line), ylim=(1.75 * (1 + count // per_line), -0.15), aspect="equal")
    for ax in axes:
        ax.axis("off")
    return picture


def architecture() -> Picture:
    """Draw the Vision Transformer: what comes in, the encoder, and the one row that is read off."""
    alt = (
        "The Vision Transformer, data flowing upwards. An image (B, C, height, width) is cut into N patches; a linear "
        "map embeds each; the class token is put in front as row 0; positions are added to all T = 1 + N rows. Then L "
        "pre-norm encoder layers: norm, self-attention, plus, norm, feed-forward net, plus. A norm, and of its output "
        "row 0 alone goes through a linear map that scores the classes."
    )
    picture, (drawing,) = sheet(6.4, 6.6, alt=alt)
    image = drawing.block("data", 0, 0.1, "image  (B, C, height, width)")
    patches = drawing.block("linear", 0, 1.0, "patches, linear map")
    drawing.arrow((0, image.top[1] - 0.1), patches.bottom)
    drawing.write(1.55, 1.0, "(B, N, D)", align="left", colour="#555555")
    token = drawing.block("embedding", 3.7, 1.75, "class token")
    place = drawing.block("positions", 0, 1.75)
    drawing.arrow(patches.top, place.bottom)
    drawing.arrow(token.left, place.right)
    drawing.write(1.3, 1.98, "in front, row 0", colour="#555555")
    drawing.write(-0.3, 1.75, "positions", align="right")
    layer = drawing.tower(0, 2.55, encoder_layer_parts(norm_first=True), start=(0, 1.75 + RADIUS))
    drawing.frame(-1.85, 2.2, 1.55, layer[-1].top[1] + 0.14, "L ×")
    drawing.write(1.75, layer[1].y, "(B, T, D), T = 1 + N", align="left", colour="#555555")
    end = drawing.tower(
        0, layer[-1].top[1] + 0.5, [("norm", "norm"), ("linear", "head")], start=layer[-1].top
    )
    drawing.write(1.55, (end[0].y + end[1].y) / 2, "row 0 alone  (B, D)", align="left", colour="#555555")
    drawing.arrow(end[-1].top, (0, end[-1].top[1] + 0.35))
    drawing.write(0, end[-1].top[1] + 0.5, "scores  (B, classes)")
    drawing.fit(-2.5, -0.3, 5.3, end[-1].top[1] + 0.75)
    return picture


def position_maps(panels: Mapping[str, Float[Tensor, "N N"]], grid: tuple[int, int]) -> Picture:
    """Draw for each title a map of maps: at each place of the grid, how alike its position is to all others."""
    rows, columns = grid
    told = []
    picture, axes = canvas(0.7 + 3.6 * len(panels), 3.7, columns=len(panels))
    for ax, (title, cosines) in zip(axes, panels.items(), strict=True):
        cosines = np.asarray(cosines)
        near, far = _by_distance(cosines, grid)
        told.append(f"{title}: {near:.2f} on average between neighbours, {far:.2f} between places far apart")
        for n, values in enumerate(cosines):
            y, x = (rows + 0.6) * (n // columns), (columns + 0.6) * (n % columns)
            extent = (x, x + columns, y + rows, y)
            image = ax.imshow(values.reshape(grid), cmap=SIGNED, vmin=-1, vmax=1, extent=extent)
            own = Rectangle((x + n % columns, y + n // columns), 1, 1, fill=False, edgecolor=INK, lw=1.4)
            ax.add_patch(own)
        ax.set(
            xlim=(-0.3, (columns + 0.6) * columns - 0.3),
            ylim=((rows + 0.6) * rows - 0.3, -0.3),
            aspect="equal",
        )
        ax.set_title(title, fontsize=FONT + 1, color=INK)
        ax.axis("off")
    scale = picture.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    scale.set_label("cosine", fontsize=FONT - 1)
    scale.outline.set_visible(False)
    scale.ax.tick_params(labelsize=FONT - 1)
    picture.alt = (
        f"Maps of maps, {rows} by {columns}: the cosine of each position with every other. {'; '.join(told)}."
    )
    return picture


def _by_distance(cosines: np.ndarray, grid: tuple[int, int]) -> tuple[float, float]:
    """The mean cosine between neighbours in rows or columns, and between places at least three steps apart."""
    place = np.stack(np.divmod(np.arange(len(cosines)), grid[1]), axis=-1)
    steps = np.abs(place[:, None] - place[None]).sum(-1)
    return float(cosines[steps == 1].mean()), float(cosines[steps >= 3].mean())


def lines(
    drawn: Mapping[str, Sequence[float]], at: Sequence[float], x: str, y: str, *, log: bool = False,
    marks: Mapping[str, float] | None = None,
) -> Picture:  # fmt: skip
    """Draw named lines whose values belong to the places ``at``; ``marks`` are heights with a name."""
    told = "; ".join(
        f"{name}: " + ", ".join(f"{v:.2f} at {n}" for n, v in zip(at, values, strict=True))
        for name, values in drawn.items()
    )
    picture, (ax,) = canvas(7.0, 3.5, alt=f"Line chart, {y} against the {x}. {told}.")
    for (name, values), (colour, marker, dash) in zip(drawn.items(), STYLES, strict=False):
        ax.plot(at, values, color=colour, marker=marker, ms=5, ls=dash, lw=1.7, label=name)
    for name, height in (marks or {}).items():
        ax.axhline(height, color="#888888", lw=1, ls=(0, (1, 2)), zorder=0)
        ax.annotate(name, (1.01, height), xycoords=("axes fraction", "data"), va="center", fontsize=FONT - 2,
                    color="#555555", annotation_clip=False)  # fmt: skip
    if log:
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xticks(at, [f"{n:,}" for n in at])
    ax.minorticks_off()
    ax.set_ylim(0, 1.03)
    name_axes(ax, x, y)
    picture.legend(loc="outside upper center", ncols=min(3, len(drawn)), fontsize=FONT - 1, frameon=False)
    return picture


def overlays(
    images: Float[Tensor, "N height width"],
    shares: Mapping[str, Float[Tensor, "N rows columns"]],
    texts: Sequence[str],
    wrong: Sequence[bool] | None = None,
) -> Picture:
    """Draw images in a row, and below, for each name, the same images in the colours of what arrived from each patch.

    Strokes shine in the colour of their patch, paper is darker. Each image has a colour scale of its own, from zero to
    its largest share. The texts stand below; those that are ``wrong`` are starred and red.
    """
    images = np.asarray(images)
    count, height, width = images.shape
    wrong = [False] * count if wrong is None else wrong
    picture, (ax,) = canvas(1.3 + 0.75 * count, 0.5 + 0.85 * (1 + len(shares)))
    step, told = width * 1.15, []
    for i, image in enumerate(images):
        ax.imshow(image, cmap="gray_r", vmin=0, vmax=1, extent=(i * step, i * step + width, height, 0))
        for row, maps in enumerate(shares.values(), start=1):
            share = np.asarray(maps[i])
            patch = height // share.shape[0]
            large = np.kron(share / share.max(), np.ones((patch, patch)))
            colours = colormaps[WEIGHTS](large)[..., :3] * (PAPER + (1 - PAPER) * image[..., None])
            y = row * height * 1.15
            ax.imshow(colours, extent=(i * step, i * step + width, y + height, y))
        text = f"{texts[i]} *" if wrong[i] else texts[i]
        y = (1 + len(shares)) * height * 1.15
        ax.text(i * step + width / 2, y, text, ha="center", va="top", fontsize=FONT - 1,
                color=WRONG if wrong[i] else INK, weight="bold" if wrong[i] else "normal")  # fmt: skip
    for row, name in enumerate(["image", *shares]):
        y = row * height * 1.15 + height / 2
        ax.text(-1, y, name, ha="right", va="center", fontsize=FONT - 1, color=INK)
    for text, *each in zip(texts, *shares.values(), strict=True):
        places = [np.unravel_index(int(np.argmax(np.asarray(share))), share.shape) for share in each]
        where = ", ".join(f"row {r + 1} column {c + 1}" for r, c in places)
        told.append(f"{text}: {where}")
    ax.set(xlim=(-4.6, count * step), ylim=((1 + len(shares)) * height * 1.15 + 2.5, -0.5), aspect="equal")
    ax.axis("off")
    picture.alt = (
        f"{count} digits, and below, {' and '.join(shares)}: how much of each patch arrived at the class token. "
        f"Largest patch of each: {'; '.join(told)}."
    )
    return picture
