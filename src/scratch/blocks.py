"""Architecture drawings: the same block has the same shape and colour wherever it stands (units 09 to 19).

A drawing is a ``Drawing``: ``block`` places a part and returns it, ``arrow`` joins parts, ``tower`` stacks many of them
with their residual connections. Data flows upwards, as in the figures of Vaswani et al., 2017.

What a shape says: attention is a box with three mouths (query blue, key orange, value green), a feed-forward net a
hexagon, since it widens and narrows; a norm is a flat pill, adding a circle with a plus, positions a circle with a
wave; a linear map is a slanted box, an embedding a box with a double edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

from scratch.plots import FONT, INK, KEY, OTHER, QUERY, SKY, VALUE, Picture, canvas, tint

YELLOW = "#F0E442"
COLOURS = {
    "attention": SKY,
    "feed-forward": YELLOW,
    "norm": "#999999",
    "add": INK,
    "positions": INK,
    "embedding": OTHER,
    "linear": "#B8860B",
    "softmax": "#440154",
    "data": "#777777",
}
ROUND = {"add", "positions"}
WIDTH, HEIGHT, FLAT, RADIUS = 2.6, 0.62, 0.34, 0.17
STEP = 0.34  # between one block of a tower and the next
CROSSING = 0.16  # more of it where keys and values come from the side


@dataclass(frozen=True)
class Block:
    """A part of a drawing: its centre, and half its width and height."""

    x: float
    y: float
    wide: float
    high: float

    @property
    def top(self) -> tuple[float, float]:
        """The middle of the upper edge."""
        return self.x, self.y + self.high

    @property
    def bottom(self) -> tuple[float, float]:
        """The middle of the lower edge."""
        return self.x, self.y - self.high

    @property
    def left(self) -> tuple[float, float]:
        """The middle of the left edge."""
        return self.x - self.wide, self.y

    @property
    def right(self) -> tuple[float, float]:
        """The middle of the right edge."""
        return self.x + self.wide, self.y

    def mouth(self, part: str) -> tuple[float, float]:
        """Where an attention block takes its "query", "key" or "value": on the lower edge."""
        share = {"query": -0.55, "key": 0.0, "value": 0.55}[part]
        return self.x + share * self.wide, self.y - self.high


class Drawing:
    """A picture without axes, on which blocks and arrows are placed."""

    def __init__(self, ax: Axes) -> None:
        """Draw on these axes; ``fit`` sets their limits at the end."""
        self.ax = ax
        ax.axis("off")
        ax.set_aspect("equal")

    def block(
        self, kind: str, x: float, y: float, text: str = "", width: float = WIDTH, faded: bool = False
    ) -> Block:
        """Place a block of a kind (a key of ``COLOURS``) around (x, y) and write a text on it.

        A ``faded`` block is only outlined, dashed: a part that was taken out, or that comes later.
        """
        colour = COLOURS[kind]
        style = {"facecolor": tint(colour, 0.32), "edgecolor": INK, "lw": 1.2, "zorder": 3}
        if faded:
            style |= {"facecolor": "white", "edgecolor": "#AAAAAA", "linestyle": "--"}
        if kind in ROUND:
            self.ax.add_patch(Circle((x, y), RADIUS, **style | {"facecolor": "white"}))
            _sign(self.ax, kind, x, y)
            if text:
                self.write(x + RADIUS + 0.12, y, text, align="left")
            return Block(x, y, RADIUS, RADIUS)
        flat = kind in ("norm", "softmax")
        block = Block(x, y, width / 2, (FLAT if flat else HEIGHT) / 2)
        for shape in _shapes(kind, block, style):
            self.ax.add_patch(shape)
        if kind == "attention" and not faded:
            for part, ink in (("query", QUERY), ("key", KEY), ("value", VALUE)):
                px, py = block.mouth(part)
                self.ax.add_patch(Circle((px, py), 0.065, facecolor=ink, edgecolor=INK, lw=0.8, zorder=5))
        self.write(x, y, text, colour="#999999" if faded else INK)
        return block

    def write(
        self,
        x: float,
        y: float,
        text: str,
        *,
        align: str = "center",
        colour: str = INK,
        size: float = FONT - 1,
    ) -> None:
        """Write a text at (x, y)."""
        self.ax.text(x, y, text, ha=align, va="center", fontsize=size, color=colour, zorder=6)

    def arrow(
        self, *points: tuple[float, float], colour: str = INK, head: bool = True, dashed: bool = False
    ) -> None:
        """Draw a line through the points, with a head at the last."""
        line = "--" if dashed else "-"
        for start, end in pairwise(points[:-1]):
            self.ax.plot(*zip(start, end, strict=True), color=colour, lw=1.2, ls=line, zorder=2)
        self.ax.add_patch(
            FancyArrowPatch(
                points[-2], points[-1], arrowstyle="-|>" if head else "-", mutation_scale=9, color=colour,
                lw=1.2, linestyle=line, shrinkA=0, shrinkB=0, zorder=2,
            )
        )  # fmt: skip

    def frame(self, left: float, bottom: float, right: float, top: float, text: str = "") -> None:
        """Draw a frame around parts that are repeated together, and write how often at its upper left."""
        self.ax.add_patch(
            FancyBboxPatch(
                (left, bottom), right - left, top - bottom, boxstyle="round,pad=0,rounding_size=0.2",
                facecolor="#F6F6F6", edgecolor="#BBBBBB", lw=1.0, zorder=0,
            )
        )  # fmt: skip
        self.write(left - 0.1, (bottom + top) / 2, text, align="right", colour="#555555")

    def tower(
        self, x: float, y: float, parts: Sequence[tuple[str, str]], start: tuple[float, float] | None = None
    ) -> list[Block]:
        """Stack parts, each (kind, text), upwards from the height y, and join them.

        Every "add" closes a residual connection. It leaves the main line at the start or behind the previous "add";
        where the norms come behind the sums (post-norm), behind the norm there. An attention block takes its input at
        all three mouths, unless its text ends in "*": then only the query comes from below, and the caller brings key
        and value. ``start`` is where the line comes from.
        """
        blocks: list[Block] = []
        below = start or (x, y - STEP)
        branch = (x, y - STEP / 2)
        post_norm = bool(parts) and parts[0][0] != "norm"
        for kind, text in parts:
            y += CROSSING if text.endswith("*") else 0.0
            half = RADIUS if kind in ROUND else (FLAT if kind in ("norm", "softmax") else HEIGHT) / 2
            y += half
            block = self.block(kind, x, y, text.removesuffix("*"))
            if kind == "attention":
                self._feed(block, below, only_query=text.endswith("*"))
            else:
                self.arrow(below, block.bottom)
            if kind == "add":
                side = x - WIDTH / 2 - 0.3
                self.arrow(branch, (side, branch[1]), (side, y), block.left)
            if kind == "add" or (kind == "norm" and post_norm):
                branch = (x, block.top[1] + STEP / 2)
            blocks.append(block)
            below, y = block.top, y + half + STEP
        return blocks

    def _feed(self, block: Block, below: tuple[float, float], *, only_query: bool) -> None:
        height = block.bottom[1] - STEP / 2 - (CROSSING if only_query else 0.0)
        parts = ["query"] if only_query else ["query", "key", "value"]
        for part in parts:
            end = block.mouth(part)
            self.arrow(below, (below[0], height), (end[0], height), (end[0], end[1] - 0.06))

    def fit(self, left: float, bottom: float, right: float, top: float) -> None:
        """Show this part of the plane."""
        self.ax.set(xlim=(left, right), ylim=(bottom, top))


def sheet(width: float, height: float, columns: int = 1, alt: str = "") -> tuple[Picture, list[Drawing]]:
    """Return an empty picture, in units of 100 CSS pixels, and its drawings from left to right."""
    picture, axes = canvas(width, height, columns, alt)
    return picture, [Drawing(ax) for ax in axes]


def _shapes(kind: str, block: Block, style: dict) -> list:
    """The outlines of a block."""
    (left, y), (right, _) = block.left, block.right
    low, high = y - block.high, y + block.high
    if kind == "feed-forward":
        narrow = 0.28
        corners = [(left + narrow, low), (right - narrow, low), (right, y), (right - narrow, high)]
        return [Polygon([*corners, (left + narrow, high), (left, y)], closed=True, **style)]
    if kind == "linear":
        slant = 0.2
        corners = [(left, low), (right, low), (right - slant, high), (left + slant, high)]
        return [Polygon(corners, closed=True, **style)]
    if kind == "data":
        return [Rectangle((left, low), right - left, high - low, **style | {"lw": 0, "facecolor": "none"})]
    outer = FancyBboxPatch(
        (left, low), right - left, high - low,
        boxstyle=f"round,pad=0,rounding_size={block.high if kind in ('norm', 'softmax') else 0.1}", **style,
    )  # fmt: skip
    if kind != "embedding":
        return [outer]
    gap = 0.07
    inner = Rectangle(
        (left + gap, low + gap), right - left - 2 * gap, high - low - 2 * gap, facecolor="none",
        edgecolor=style["edgecolor"], lw=0.7, zorder=4,
    )  # fmt: skip
    return [outer, inner]


def _sign(ax: Axes, kind: str, x: float, y: float) -> None:
    """The plus or the wave in a circle."""
    size = 0.1
    if kind == "add":
        ax.plot([x - size, x + size], [y, y], color=INK, lw=1.4, zorder=5)
        ax.plot([x, x], [y - size, y + size], color=INK, lw=1.4, zorder=5)
    else:
        t = np.linspace(-1, 1, 40)
        ax.plot(x + size * t, y + 0.07 * np.sin(np.pi * t), color=INK, lw=1.4, zorder=5)


def encoder_layer_parts(norm_first: bool = False, residual: bool = True) -> list[tuple[str, str]]:
    """The parts of an encoder layer from bottom to top, for ``Drawing.tower``."""
    return _layer([("attention", "self-attention")], norm_first, residual)


def decoder_layer_parts(norm_first: bool = False) -> list[tuple[str, str]]:
    """The parts of a decoder layer from bottom to top; the caller brings key and value to the cross-attention."""
    return _layer([("attention", "causal self-attention"), ("attention", "cross-attention*")], norm_first)


def _layer(
    attentions: list[tuple[str, str]], norm_first: bool, residual: bool = True
) -> list[tuple[str, str]]:
    add = [("add", "")] if residual else []
    parts = []
    for sublayer in [*attentions, ("feed-forward", "feed-forward")]:
        parts += [("norm", "norm"), sublayer, *add] if norm_first else [sublayer, *add, ("norm", "norm")]
    return parts


def transformer() -> Picture:
    """Draw the whole Transformer: encoder on the left, decoder on the right, data flowing upwards."""
    alt = (
        "The Transformer. Left, the encoder: source tokens are embedded, positions added, then N layers of "
        "self-attention and feed-forward net, each with a residual connection and a norm. Right, the decoder: target "
        "tokens are embedded, positions added, then N layers of causal self-attention, cross-attention and "
        "feed-forward net; the keys and values of every cross-attention come from the top of the encoder. A linear "
        "map and a softmax turn the top of the decoder into probabilities of the next token."
    )
    picture, (drawing,) = sheet(7.4, 8.2, alt=alt)
    left, right = 0.0, 4.9
    for x, name in ((left, "source tokens  (B, S)"), (right, "target tokens  (B, T)")):
        tokens = drawing.block("data", x, 0.1, name)
        vectors = drawing.block("embedding", x, 1.0, "embedding × √D")
        drawing.arrow((x, tokens.top[1] - 0.1), vectors.bottom)
        place = drawing.block("positions", x, 1.75)
        drawing.arrow(vectors.top, place.bottom)
        drawing.write(x - 0.3, 1.75, "positions", align="right")
    encoder = drawing.tower(left, 2.55, encoder_layer_parts(), start=(left, 1.75 + RADIUS))
    decoder = drawing.tower(right, 2.55, decoder_layer_parts(), start=(right, 1.75 + RADIUS))
    for x, blocks, side in ((left, encoder, "N ×"), (right, decoder, "N ×")):
        drawing.frame(x - 1.85, 2.2, x + 1.55, blocks[-1].top[1] + 0.14, side)
    cross = decoder[3]
    height = cross.bottom[1] - STEP / 2 + 0.02
    middle = 2.3
    top = encoder[-1].top[1] + 0.45
    drawing.arrow(encoder[-1].top, (left, top), (middle, top), head=False)
    drawing.write(middle - 0.05, top + 0.2, "memory  (B, S, D)", align="right")
    for part, colour in (("key", KEY), ("value", VALUE)):
        end = cross.mouth(part)
        low = height - (0.0 if part == "key" else 0.1)
        drawing.arrow((middle, top), (middle, low), (end[0], low), (end[0], end[1] - 0.06), colour=colour)
    end = drawing.tower(
        right, decoder[-1].top[1] + 0.6, [("linear", "linear (tied)"), ("softmax", "softmax")],
        start=decoder[-1].top,
    )  # fmt: skip
    drawing.arrow(end[-1].top, (right, end[-1].top[1] + 0.35))
    drawing.write(right, end[-1].top[1] + 0.5, "next token  (B, T, V)")
    drawing.fit(-2.4, -0.3, 6.7, end[-1].top[1] + 0.75)
    return picture
