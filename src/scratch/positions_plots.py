"""The charts, maps and drawings of unit 10, in the visual language of ``scratch.plots`` and ``scratch.blocks``."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Arc, Circle, FancyArrowPatch, Rectangle

from scratch.blocks import STEP, sheet
from scratch.plots import (
    FONT,
    INK,
    KEY,
    KEY_INK,
    QUERY,
    SIGNED,
    VALUE,
    WRONG,
    Picture,
    attention_map,
    canvas,
    name_axes,
    tint,
)

STYLES = {  # of a code, wherever it is drawn as a line: colour, dashes, marker
    "none": ("#777777", ":", "x"),
    "sinusoids": (QUERY, "--", "o"),
    "learned": (KEY_INK, "-.", "s"),
    "rotary": (VALUE, "-", "^"),
    "ALiBi": (WRONG, (0, (5, 1)), "D"),
}


def tables(panels: Mapping[str, np.ndarray]) -> Picture:
    """Draw tables of positions (T, D) side by side: a row for each position, values around zero."""
    said = []
    for title, table in panels.items():
        flips = (np.diff(np.sign(np.asarray(table) + 1e-9), axis=0) != 0).sum(axis=0)
        said.append(
            f"{title}: the sign changes {flips[0]} times in the first column, {flips[-1]} times in the last"
        )
    alt = f"Maps, a row for each position, a column for each feature. {'; '.join(said)}."
    picture, axes = canvas(9.2, 3.6, columns=len(panels), alt=alt)
    for ax, (title, table) in zip(axes, panels.items(), strict=True):
        table = np.asarray(table, dtype=float)
        image = ax.imshow(table, cmap=SIGNED, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
        name_axes(ax, "feature", "position t" if ax is axes[0] else "", title)
        ax.spines[:].set_visible(False)
    scale = picture.colorbar(image, ax=axes, shrink=0.9, pad=0.02)
    scale.set_label("entry", fontsize=FONT - 1)
    scale.outline.set_visible(False)
    scale.ax.tick_params(labelsize=FONT - 1)
    return picture


def against_distance(distances: Sequence[int], curves: Mapping[str, np.ndarray], x: str, y: str) -> Picture:
    """Draw up to three curves against a distance between two positions."""
    at = sorted({0, len(distances) - 1, list(distances).index(0)})
    ends = "; ".join(
        f"{name}: " + ", ".join(f"{curve[i]:.2g} at {distances[i]}" for i in at)
        for name, curve in curves.items()
    )
    picture, (ax,) = canvas(7.4, 3.1, alt=f"Line chart, {y} against {x}. {ends}.")
    styles = [(QUERY, "-"), (KEY_INK, "--"), (VALUE, ":")]
    for (name, curve), (colour, line) in zip(curves.items(), styles, strict=False):
        ax.plot(distances, curve, color=colour, ls=line, lw=1.8, label=name)
    ax.axvline(0, color="#BBBBBB", lw=0.8, zorder=0)
    ax.legend(fontsize=FONT - 1, frameon=False)
    name_axes(ax, x, y)
    return picture


def turning(
    q: Sequence[float], k: Sequence[float], pairs: Sequence[tuple[int, int]], speed: float
) -> Picture:
    """Draw a query and a key of width 2, turned by ``speed`` a position, for pairs (t, s) of positions."""
    picture, axes = canvas(9.2, 3.5, columns=len(pairs) + 1)
    said = []
    for ax, pair in zip(axes, [None, *pairs], strict=True):
        ends = {}
        for name, vector, colour, place in (("q", q, QUERY, 0), ("k", k, KEY, 1)):
            angle = speed * pair[place] if pair else 0.0
            x, y = vector
            ends[name] = np.array(
                [x * np.cos(angle) - y * np.sin(angle), y * np.cos(angle) + x * np.sin(angle)]
            )
            _arrow(ax, ends[name], colour)
            ink = KEY_INK if name == "k" else QUERY
            away = ends[name] * (1 + 0.34 / np.linalg.norm(ends[name]))
            ax.text(*away, f"{name} at {pair[place]}" if pair else name, ha="center", va="center",
                    fontsize=FONT, color=ink)  # fmt: skip
        one, two = (np.degrees(np.arctan2(end[1], end[0])) for end in (ends["k"], ends["q"]))
        ax.add_patch(Arc((0, 0), 0.8, 0.8, theta1=one, theta2=two, color=INK, lw=1.2))
        product, between = float(ends["q"] @ ends["k"]), (two - one) % 360
        title = f"t = {pair[0]}, s = {pair[1]}" if pair else "not turned"
        said.append(f"{title}: {between:.0f} degrees from key to query, dot product {product:.2f}")
        ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor="#BBBBBB", lw=0.8))
        ax.set(xlim=(-1.6, 1.6), ylim=(-1.85, 1.45), aspect="equal")
        ax.axis("off")
        ax.set_title(title, fontsize=FONT + 1, color=INK)
        ax.text(
            0,
            -1.75,
            f"{between:.0f}° apart, q · k = {product:.2f}".replace("-", "−"),
            ha="center",
            fontsize=FONT,
            color=INK,
        )
    picture.alt = f"Arrows in a plane, query blue, key orange. {'. '.join(said)}."
    return picture


def _arrow(ax: Axes, end: np.ndarray, colour: str) -> None:
    arrow = FancyArrowPatch(
        (0, 0), tuple(end), arrowstyle="-|>", mutation_scale=14, color=colour, lw=2.2, shrinkA=0, shrinkB=0
    )
    ax.add_patch(arrow)


def layouts(width: int) -> Picture:
    """Draw which features of a row make a plane: neighbours, as in RoFormer, or halves, as in Llama."""
    half = width // 2
    pairings = {
        "neighbours (RoFormer)": [(2 * i, 2 * i + 1) for i in range(half)],
        "halves (Llama, this course)": [(i, i + half) for i in range(half)],
    }
    alt = f"The {width} features of a row, twice, with arcs between the two that make a plane. " + " ".join(
        f"{name}: {', '.join(f'{a} and {b}' for a, b in pairs)}." for name, pairs in pairings.items()
    )
    picture, axes = canvas(9.2, 2.5, columns=2, alt=alt)
    for ax, (name, pairs) in zip(axes, pairings.items(), strict=True):
        for i, (a, b) in enumerate(pairs):
            for feature in (a, b):
                ax.add_patch(
                    Rectangle(
                        (feature, 0), 1, 0.8, facecolor=tint(QUERY, 0.12 + 0.22 * i), edgecolor="white", lw=2
                    )
                )
                ink = "white" if 0.12 + 0.22 * i > 0.6 else INK
                ax.text(feature + 0.5, 0.4, str(feature), ha="center", va="center", fontsize=FONT, color=ink)
            middle, wide = (a + b + 1) / 2, b - a
            ax.add_patch(Arc((middle, 0.85), wide, 0.5 + 0.3 * wide, theta1=0, theta2=180, color=INK, lw=1.2))
        ax.set(xlim=(-0.2, width + 0.2), ylim=(-0.1, 2.1))
        ax.axis("off")
        ax.set_title(name, fontsize=FONT + 1, color=INK, loc="left")
    return picture


def distances(size: int) -> Picture:
    """Draw the table of all t − s: its diagonals hold one number each."""
    alt = f"A table of {size} by {size} entries t − s: equal along each diagonal, 0 on the main one."
    picture, (ax,) = canvas(4.2, 3.4, alt=alt)
    t, s = np.mgrid[:size, :size]
    ax.imshow(t - s, cmap=SIGNED, vmin=-2 * size, vmax=2 * size)
    for row, column in np.ndindex(size, size):
        number = f"{row - column}".replace("-", "−")
        ax.text(column, row, number, ha="center", va="center", color=INK, fontsize=FONT)
    ax.set_xticks(range(size))
    ax.set_yticks(range(size))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    name_axes(ax, "key s", "query t", "t − s")
    ax.xaxis.label.set_color(KEY_INK)
    ax.yaxis.label.set_color(QUERY)
    return picture


def bias_row(bias, slopes: Sequence[float]) -> Picture:
    """Draw the bias (H, T, T) of every head: the future, which is -inf, is hatched."""
    bias = np.asarray(bias, dtype=float)
    names = [str(t) for t in range(bias.shape[-1])]
    picture, axes = canvas(9.4, 2.9, columns=len(bias))
    finite = np.isfinite(bias)
    top = float(-bias[finite].min())
    for head, (ax, slope) in enumerate(zip(axes, slopes, strict=True)):
        shown = np.where(finite[head], bias[head], 0.0)
        attention_map(shown, names, names, finite[head], title=f"m = 1/{round(1 / slope)}", top=top, signed=True,
                      label="bias", axes_names=("key s", "query t" if head == 0 else ""), ax=ax,
                      bar=ax is axes[-1])  # fmt: skip
        ax.set_xticks(range(len(names)), names, rotation=0, ha="center")
    steepest, gentlest = bias[0, -1, 0], bias[-1, -1, 0]
    picture.alt = (
        f"Maps of the bias of {len(bias)} heads over {len(names)} positions. The future is hatched, the diagonal is 0. "
        f"The first key costs the last query {-steepest:.2f} in the first head and {-gentlest:.3f} in the last."
    )
    return picture


def extrapolation(losses: Mapping[str, np.ndarray], trained: int, floor: np.ndarray, guess: float) -> Picture:
    """Draw the loss at every position, far beyond the length of training; shorter curves end where they must."""
    said = []
    picture, (ax,) = canvas(8.2, 4.0)
    for name, curve in losses.items():
        curve = np.asarray(curve)
        colour, line, marker = STYLES[name]
        smooth = _smooth(curve[1:])
        ax.plot(range(1, len(curve)), smooth, color=colour, ls=line, lw=1.6, marker=marker, ms=4, markevery=(16, 32),
                label=name)  # fmt: skip
        late = f"{curve[-64:].mean():.2f} at the end" if len(curve) > trained else "no vectors beyond"
        said.append(f"{name} {curve[1:trained].mean():.2f} within, {late}")
        if len(curve) <= trained:
            ax.annotate("learned: ends", (len(curve) - 1, smooth[-1]), (len(curve) + 14, 0.72), fontsize=FONT - 1,
                        color=colour, va="center", arrowprops={"arrowstyle": "-", "color": colour})  # fmt: skip
    ax.axvspan(0, trained, color="#EEEEEE", zorder=0)
    top = ax.get_ylim()[1]
    ax.text(trained + 2, top * 0.985, "← seen in training", fontsize=FONT - 1, color=INK, va="top")
    last = max(map(len, losses.values()))
    ax.plot(
        range(1, last),
        _smooth(np.asarray(floor)[: last - 1]),
        color="#777777",
        lw=1.0,
        ls=(0, (1, 2)),
        zorder=1,
    )
    ax.axhline(guess, color="#777777", lw=1.0, ls=(0, (1, 2)), zorder=1)
    for height, text in ((0.8, "knowing the chances of the language"), (guess - 0.02, "guessing")):
        ax.text(last, height, text, fontsize=FONT - 2, color="#555555", ha="right", va="top")
    ax.set_ylim(bottom=0.6)
    ax.legend(fontsize=FONT - 1, frameon=False, ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5))
    name_axes(ax, "position in the text", "loss (mean of 8 positions)")
    picture.alt = (
        f"Line chart: loss against position, for models trained on {trained} positions. {'; '.join(said)}. "
        f"Who knows the chances of the language has {np.mean(floor):.2f}, guessing {guess:.2f}."
    )
    return picture


def _smooth(curve: np.ndarray) -> np.ndarray:
    """The mean of each entry and the seven before it."""
    return np.array([curve[max(0, t - 7) : t + 1].mean() for t in range(len(curve))])


def where_positions_enter() -> Picture:
    """Draw the lower half of an encoder layer three times, with what tells it about positions."""
    alt = (
        "Three times the lower half of an encoder layer. In the first, positions are added to the embeddings: "
        "sinusoids and learned vectors. In the second, a wave sits on the arrows of query and key into the "
        "attention, none on that of the value: rotary. In the third, a bias by distance goes into the attention from "
        "the side: ALiBi and relative biases."
    )
    picture, drawings = sheet(9.4, 4.2, columns=3, alt=alt)
    titles = (
        "added to the rows:\nsinusoids, learned",
        "turning query and key:\nrotary",
        "added to the scores:\nALiBi, relative bias",
    )
    for number, (drawing, title) in enumerate(zip(drawings, titles, strict=True)):
        below = drawing.block("embedding", 0.0, 0.3, "embedding").top
        if number == 0:
            place = drawing.block("positions", 0.0, 1.2)
            drawing.arrow(below, place.bottom)
            drawing.write(0.35, 1.2, "positions", align="left")
            below = place.top
        attention = drawing.block("attention", 0.0, 3.2, "self-attention")
        for part in ("query", "key", "value"):
            x, y = attention.mouth(part)
            drawing.arrow(below, (0.0, 1.85), (x, 1.85), (x, y - 0.06))
            if number == 1 and part != "value":
                drawing.block("positions", x, 2.35)
        if number == 2:
            bias = drawing.block("positions", attention.right[0] + 0.75, attention.y)
            drawing.arrow(bias.left, attention.right)
            drawing.write(bias.x, attention.y - 0.4, "bias")
        add = drawing.block("add", 0.0, 3.2 + 0.31 + STEP + 0.17)
        drawing.arrow(attention.top, add.bottom)
        drawing.arrow((0.0, 1.62), (-1.6, 1.62), (-1.6, add.y), add.left)
        norm = drawing.block("norm", 0.0, add.y + 0.17 + STEP + 0.17, "norm")
        drawing.arrow(add.top, norm.bottom)
        drawing.arrow(norm.top, (0.0, norm.top[1] + STEP))
        drawing.write(0.0, norm.top[1] + 0.85, title, size=FONT)
        drawing.fit(-2.1, -0.2, 2.5, norm.top[1] + 1.3)
    return picture


def scoreboard(scores, tasks: Sequence[str], codes: Sequence[str]) -> Picture:
    """Draw the accuracy (tasks, codes) as a map with numbers."""
    picture = attention_map(
        scores, tasks, codes, numbers=True, title="share of digits that are right", label="accuracy",
        axes_names=("how the model is told about positions", "task"),
    )  # fmt: skip
    ax = picture.axes[0]
    ax.set_xticks(range(len(codes)), codes, rotation=0, ha="center")
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    picture.set_size_inches(7.2, 3.4)
    return picture
