"""The figures of unit 11, in the visual language of ``scratch.plots`` and ``scratch.blocks``.

Lines are told apart by colour, marker and dash, so that they survive a grey printer.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from scratch.attention_plots import map_row
from scratch.blocks import STEP, WIDTH, Drawing, encoder_layer_parts, sheet
from scratch.plots import FONT, INK, KEY, OTHER, QUERY, SIGNED, SKY, VALUE, WRONG, Picture, canvas, name_axes

STYLES = [(QUERY, "o", "-"), (WRONG, "s", "--"), (VALUE, "^", "-."), (KEY, "v", ":"), (OTHER, "D", "--")]
STREAM = "#999999"


def residual_stream() -> Picture:
    """Draw two layers as a stream that flows upwards, from which every sub-layer reads and to which it adds."""
    alt = (
        "The residual stream: a broad line that flows upwards from the embeddings to the output. At its side stand "
        "four sub-layers, self-attention and feed-forward net of layer 1 and of layer 2. An arrow leads from the "
        "stream into each, and from each back to a plus on the stream. Nothing else touches the stream."
    )
    picture, (drawing,) = sheet(6.6, 5.4, alt=alt)
    top = 8.6
    drawing.ax.plot([0, 0], [0.45, top], color=STREAM, lw=9, alpha=0.45, zorder=1, solid_capstyle="butt")
    drawing.write(0, 0.15, "embeddings  (B, T, D)")
    drawing.write(-0.3, 0.75, "$x^{(0)}$", align="right")
    drawing.write(0, top + 0.25, "output  (B, T, D)")
    for i, (kind, name) in enumerate([("attention", "self-attention"), ("feed-forward", "feed-forward")] * 2):
        y = 1.6 + 1.85 * i
        block = drawing.block(kind, 3.4, y, name)
        plus = drawing.block("add", 0, y + 0.62)
        read = y - 0.62
        if kind == "attention":
            drawing.arrow((0, read), (block.x, read), (block.x, block.bottom[1] - 0.14), head=False)
            for part in ("query", "key", "value"):
                x, low = block.mouth(part)
                drawing.arrow((block.x, low - 0.14), (x, low - 0.14), (x, low - 0.06))
        else:
            drawing.arrow((0, read), (block.x, read), block.bottom)
        drawing.arrow(block.top, (block.x, plus.y), plus.right)
        drawing.write(1.1, read + 0.17, "reads", size=FONT - 2, colour="#555555")
        drawing.write(1.1, plus.y + 0.17, "adds", size=FONT - 2, colour="#555555")
        drawing.write(-0.3, y + 1.0, f"$x^{{({i + 1})}}$", align="right")
    for n, low in ((1, 0.72), (2, 4.42)):
        drawing.write(5.15, low + 1.8, f"layer {n}", align="left", colour="#555555")
        drawing.ax.plot([5.0, 5.0], [low + 0.15, low + 3.4], color="#BBBBBB", lw=1.4)
    drawing.fit(-1.5, -0.1, 6.1, top + 0.5)
    return picture


def two_orders() -> Picture:
    """Draw an encoder layer as post-norm and as pre-norm, side by side."""
    alt = (
        "Two encoder layers, data flowing upwards. Post-norm, as in 2017: self-attention, plus, norm, feed-forward "
        "net, plus, norm; every residual line ends at a plus that a norm follows. Pre-norm: norm, self-attention, "
        "plus, norm, feed-forward net, plus; the residual line passes from bottom to top without meeting a norm."
    )
    picture, drawings = sheet(8.2, 4.6, columns=2, alt=alt)
    for drawing, pre in zip(drawings, (False, True), strict=True):
        _framed(drawing, pre, "pre-norm:  x + f(norm(x))" if pre else "post-norm:  norm(x + f(x))")
    return picture


def who_shares_a_mean(batch: int = 3, length: int = 4, width: int = 5) -> Picture:
    """Draw, for four ways to norm, which numbers of a batch share a mean with one of them."""
    b, t, d = 1, 2, 1
    every = np.indices((batch, length, width))
    panels = {
        "layer norm": (every[0] == b) & (every[1] == t),
        "over time": (every[0] == b) & (every[2] == d),
        "batch norm": every[2] == d,
    }
    alt = (
        f"A batch of {batch} sequences, each drawn as {length} positions by {width} features, three times. One number "
        "is framed; coloured are those that share a mean with it. Layer norm: the other features of its row. Over "
        "time: the same feature at the other positions of its sequence, later ones among them. Batch norm: the same "
        "feature at all positions of all sequences."
    )
    picture, axes = canvas(8.6, 2.5, columns=3, alt=alt)
    colours = {"layer norm": VALUE, "over time": WRONG, "batch norm": KEY}
    for ax, (title, shared) in zip(axes, panels.items(), strict=True):
        for i, j, k in np.ndindex(batch, length, width):
            x, y = i * (width + 1) + k, j
            face = colours[title] if shared[i, j, k] else "#EFEFEF"
            ax.add_patch(Rectangle((x, y), 1, 1, facecolor=face, edgecolor="white", lw=1.2))
        ax.add_patch(Rectangle((b * (width + 1) + d, t), 1, 1, fill=False, edgecolor=INK, lw=2.2))
        for i in range(batch):
            x = i * (width + 1) + width / 2
            ax.text(x, length + 0.55, f"sequence {i + 1}", ha="center", fontsize=FONT - 2, color=INK)
        ax.set(xlim=(-1.3, batch * (width + 1) - 0.8), ylim=(length + 0.9, -0.7))
        ax.text(-0.35, length / 2, "← time", rotation=90, ha="center", va="center", fontsize=FONT - 2)
        ax.text(width / 2, -0.35, "features →", ha="center", va="center", fontsize=FONT - 2)
        ax.set_title(title, fontsize=FONT + 1, color=INK)
        ax.axis("off")
    return picture


def _table(ax: Axes, rows: np.ndarray, names: Sequence[str], heads: Sequence[str], top: float) -> None:
    """Write a small matrix into coloured cells, one row for each name."""
    colours = colormaps[SIGNED]
    for (i, j), number in np.ndenumerate(rows):
        face = colours(0.5 + 0.5 * np.clip(number / top, -1, 1))
        red, green, blue, _ = face
        ink = INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
        ax.add_patch(Rectangle((j, i), 1, 1, facecolor=face, edgecolor="white", lw=1.5))
        text = f"{number:.1f}".replace("-0.0", "0.0").replace("-", "−")
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=ink, fontsize=FONT - 1)
    for i, name in enumerate(names):
        ax.text(-0.15, i + 0.5, name, ha="right", va="center", fontsize=FONT - 1, color=INK)
    for j, head in enumerate(heads):
        ax.text(j + 0.5, -0.28, head, ha="center", va="center", fontsize=FONT - 3, color="#555555")


def worksheet(
    steps: Mapping[str, np.ndarray],
    names: Sequence[str],
    heads: Sequence[str],
    columns: int = 4,
    top: float = 4.0,
) -> Picture:
    """Draw what a layer does step by step: for each title a matrix (T, D), with its numbers, in rows of panels.

    ``names`` stand before the rows, ``heads`` above the columns; ``top`` is the number of the strongest colour.
    """
    told = "; ".join(f"{title}: {', '.join(f'{n:.1f}' for n in rows[-1])}" for title, rows in steps.items())
    alt = (
        f"A worksheet of {len(steps)} matrices, with a row for each of {', '.join(names)} and the columns "
        f"{', '.join(heads)}. The row of {names[-1]}: {told}."
    )
    lines = -(-len(steps) // columns)
    width = len(next(iter(steps.values()))[0])
    picture = Picture(figsize=(0.3 + 2.3 * columns, 0.15 + 1.75 * lines), layout="constrained")
    picture.alt = alt
    axes = list(picture.subplots(lines, columns, squeeze=False).flat)
    for ax in axes:
        ax.axis("off")
    for ax, (title, rows) in zip(axes, steps.items(), strict=False):
        _table(ax, np.asarray(rows), names, heads, top)
        ax.set(xlim=(-1.35, width + 0.05), ylim=(len(rows) + 0.05, -0.55))
        ax.set_title(title, fontsize=FONT, color=INK)
    return picture


def lines(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    at: Sequence[float],
    x: str,
    y: Sequence[str],
    *,
    log: Sequence[bool] | None = None,
    bottoms: Sequence[float | None] | None = None,
    marks: Mapping[str, float] | None = None,
) -> Picture:
    """Draw one panel of named lines for each title; all values belong to the places ``at`` on the x axis.

    Args:
        panels: for each title, lines by name; the same name has the same style in every panel.
        at: where along the x axis the values belong.
        x: the name of the x axis.
        y: a name of the y axis for each panel.
        log: whether each panel's y axis is logarithmic.
        bottoms: where each panel's y axis begins.
        marks: heights at which a thin dotted line with a name stands, in every panel.
    """
    ends = " ".join(
        f"{title}: " + "; ".join(f"{name} from {v[0]:.3g} to {v[-1]:.3g}" for name, v in drawn.items()) + "."
        for title, drawn in panels.items()
    )
    alt = f"Line charts against the {x}, from {at[0]} to {at[-1]}. {ends}"
    picture, axes = canvas(4.5 * len(panels) if len(panels) > 1 else 6.6, 3.5, columns=len(panels), alt=alt)
    names = list(dict.fromkeys(name for drawn in panels.values() for name in drawn))
    styles = dict(zip(names, STYLES, strict=False))
    for i, (ax, (title, drawn)) in enumerate(zip(axes, panels.items(), strict=True)):
        for name, values in drawn.items():
            colour, marker, dash = styles[name]
            every = max(1, len(at) // 10)
            ax.plot(
                at, values, color=colour, marker=marker, ms=4, markevery=every, ls=dash, lw=1.7, label=name
            )
        for name, height in (marks or {}).items():
            ax.axhline(height, color="#888888", lw=1, ls=(0, (1, 2)), zorder=0)
            ax.annotate(
                name, (1.01, height), xycoords=("axes fraction", "data"), va="center", fontsize=FONT - 2,
                color="#555555", annotation_clip=False,
            )  # fmt: skip
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if log and log[i]:
            _logarithmic(ax)
        ax.set_ylim(bottom=bottoms[i] if bottoms else None)
        name_axes(ax, x, y[i], title)
    handles, labels = axes[0].get_legend_handles_labels()
    picture.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=2 if len(labels) > 3 else 3,
        fontsize=FONT - 1,
        frameon=False,
    )
    return picture


def _logarithmic(ax: Axes) -> None:
    """Make the y axis logarithmic, with a few plain numbers where it spans little."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    if high / low < 200:
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.minorticks_off()


def cosine_maps(maps: Sequence[tuple[str, np.ndarray]], words: Sequence[str]) -> Picture:
    """Draw how alike all rows of a sentence are, (title, cosines (T, T)), side by side."""
    picture = map_row([(title, cosines, None) for title, cosines in maps], words, label="cosine")
    same = np.array([[one == two for two in words] for one in words])
    apart = ~np.eye(len(words), dtype=bool)
    told = []
    for title, cosines in maps:
        cosines = np.asarray(cosines)
        equal, other = cosines[same & apart].mean(), cosines[~same].mean()
        told.append(
            f"{title}: {equal:.2f} on average between equal words, {other:.2f} between different ones"
        )
    picture.alt = (
        f"Maps of the cosine between all rows of the sentence '{' '.join(words)}'. {'; '.join(told)}."
    )
    for ax in picture.axes[: len(maps)]:
        ax.set_xlabel("")
        ax.set_ylabel("")
    return picture


def verdicts(
    texts: Sequence[str], weights: np.ndarray, said: Sequence[str], right: Sequence[bool], title: str
) -> Picture:
    """Draw texts character by character, tinted by weights (N, T) in [0, 1], with what was said of each at its right.

    What was said wrongly is red, and says so.
    """
    weights = np.asarray(weights)
    told = "; ".join(
        f"{text}: {word}" + ("" if ok else " (wrong)")
        for text, word, ok in zip(texts, said, right, strict=True)
    )
    picture, (ax,) = canvas(0.34 * len(texts[0]) + 2.6, 0.75 + 0.36 * len(texts), alt=f"{title}. {told}.")
    blue = np.array([int(SKY[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    for row, (text, shares, word, ok) in enumerate(zip(texts, weights, said, right, strict=True)):
        for column, (letter, share) in enumerate(zip(text, shares, strict=True)):
            face = tuple(1 - float(share) * (1 - blue))
            ax.add_patch(Rectangle((column, row), 1, 0.86, facecolor=face, edgecolor="#DDDDDD", lw=0.6))
            ax.text(column + 0.5, row + 0.43, letter, ha="center", va="center", fontsize=FONT + 1, color=INK)
        ax.text(
            len(text) + 0.5, row + 0.43, word if ok else f"{word} (wrong)", ha="left", va="center", fontsize=FONT,
            color=INK if ok else WRONG, weight="normal" if ok else "bold",
        )  # fmt: skip
    ax.set(xlim=(-0.2, len(texts[0]) + 6.5), ylim=(len(texts), -0.1))
    ax.set_title(title, fontsize=FONT + 1, color=INK, loc="left")
    ax.axis("off")
    return picture


def one_layer(norm_first: bool = False) -> Picture:
    """Draw one encoder layer."""
    alt = (
        "One encoder layer, data flowing upwards: self-attention, a plus that adds what came in, norm, feed-forward "
        "net, a plus that adds what came in, norm."
    )
    picture, (drawing,) = sheet(4.2, 4.4, alt=alt)
    _framed(drawing, norm_first, "x  (B, T, D)")
    return picture


def _framed(drawing: Drawing, norm_first: bool, title: str) -> None:
    """Place one encoder layer in a drawing, in a frame, with a text above it."""
    blocks = drawing.tower(0, 0.75, encoder_layer_parts(norm_first))
    high = blocks[-1].top
    drawing.arrow((0, 0.02), (0, 0.75 - STEP))
    drawing.arrow(high, (0, high[1] + 0.5))
    drawing.frame(-WIDTH / 2 - 0.6, 0.28, WIDTH / 2 + 0.35, high[1] + 0.2)
    drawing.write(0, -0.14, "x  (B, T, D)")
    drawing.write(0, high[1] + 0.72, title)
    drawing.fit(-2.4, -0.35, 2.2, high[1] + 0.95)
