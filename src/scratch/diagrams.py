"""Diagrams drawn by code: a look-up as a worksheet, and the flow of data through attention (unit 08)."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from scratch.plots import FONT, INK, KEY, KEY_INK, MASKED, QUERY, VALUE, WEIGHTS, Picture, canvas, tint


def _cells(ax: Axes, left: float, top: float, numbers, colour: str | None = None) -> None:
    """Write a row of numbers into cells, tinted by size, or in viridis if no colour is given."""
    for i, number in enumerate(numbers):
        face = tint(colour, 0.12 + 0.16 * min(abs(number), 4)) if colour else colormaps[WEIGHTS](number)
        ink = INK if colour or number > 0.5 else "white"
        ax.add_patch(Rectangle((left + i, top), 1, 1, facecolor=face, edgecolor="white", lw=1.5))
        whole = float(number).is_integer() and colour
        text = f"{number:.0f}" if whole else f"{number:.2f}"
        ax.text(left + i + 0.5, top + 0.5, text, ha="center", va="center", color=ink, fontsize=FONT - 1)


def lookup_table(tokens: Sequence[str], q, k, e, alpha, v, o, asker: str) -> Picture:
    """Draw one soft lookup as a worksheet: a row for each word, from its key to its share of the output."""
    best = int(np.argmax(alpha))
    alt = (
        f"A worksheet. The query of '{asker}' stands above {len(tokens)} rows, one for each word, with the word's "
        f"key, score, weight and value. '{tokens[best]}' has the highest score, {e[best]:.0f}, and weight "
        f"{alpha[best]:.2f}. Below the values stands the output, ({', '.join(f'{n:.2f}' for n in o)})."
    )
    picture, (ax,) = canvas(8.0, 4.7, alt=alt)
    K, V, S = len(q), len(v[0]), len(tokens)
    score, weight, value = K + 1.3, K + 3.6, K + 5.9
    _cells(ax, 0, -1.6, q, QUERY)
    ax.text(-0.3, -1.1, f"query of “{asker}”", ha="right", va="center", color=QUERY, fontsize=FONT)
    heads = [(K / 2, "keys", KEY_INK), (score + 0.5, "score", INK), (weight + 0.5, "weight", INK)]
    for x, text, colour in [*heads, (value + V / 2, "values", VALUE)]:
        ax.text(x, -0.25, text, ha="center", va="center", color=colour, fontsize=FONT, weight="bold")
    for s, token in enumerate(tokens):
        ax.text(-0.3, s + 0.5, token, ha="right", va="center", color=INK, fontsize=FONT)
        _cells(ax, 0, s, k[s], KEY)
        _cells(ax, score, s, [e[s]], "#999999")
        _cells(ax, weight, s, [alpha[s]])
        _cells(ax, value, s, v[s], VALUE)
    middle = S / 2
    for x, text in [(K + 0.65, "q · k"), (score + 1.65, "softmax"), (weight + 1.65, "× value")]:
        ax.annotate(
            "", (x + 0.45, middle), (x - 0.45, middle), arrowprops={"arrowstyle": "-|>", "color": INK}
        )
        ax.text(x, middle - 0.35, text, ha="center", fontsize=FONT - 3, color=INK)
    _cells(ax, value, S + 0.5, o, VALUE)
    ax.text(
        value - 0.2, S + 1, "output = Σ weight × value", ha="right", va="center", fontsize=FONT, color=INK
    )
    ax.set(xlim=(-3.1, value + V + 0.2), ylim=(S + 1.7, -1.8))
    ax.axis("off")
    return picture


def _box(
    ax: Axes, x: float, y: float, text: str, colour: str, width: float = 1.7, height: float = 0.54
) -> None:
    shape = FancyBboxPatch(
        (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0.02,rounding_size=0.1",
        facecolor=tint(colour, 0.25), edgecolor=colour, lw=1.4,
    )  # fmt: skip
    ax.add_patch(shape)
    ax.text(x, y, text, ha="center", va="center", fontsize=FONT - 1, color=INK)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=10, color=INK, lw=1, shrinkA=0, shrinkB=1
        )
    )


def attention_flow() -> Picture:
    """Draw how data flows through self-attention and cross-attention: the same machine, fed differently."""
    alt = (
        "Two flow diagrams. In both, query (T, K) and key (S, K) meet in the scores (T, S), which pass scaling, mask "
        "and softmax to become weights (T, S); weights and value (S, V) give the output (T, V). In self-attention "
        "query, key and value come from one sequence x, so S equals T. In cross-attention the query comes from x, key "
        "and value from a second sequence y."
    )
    picture, axes = canvas(8.6, 5.2, columns=2, alt=alt)
    sources = {"self-attention: one sequence, S = T": False, "cross-attention: two sequences": True}
    for ax, (title, crossed) in zip(axes, sources.items(), strict=True):
        xs, top = (1.0, 3.0, 5.0), 5.2
        for x, name, colour in zip(
            xs, ("query\n(T, K)", "key\n(S, K)", "value\n(S, V)"), (QUERY, KEY, VALUE), strict=True
        ):
            _box(ax, x, top, name, colour)
        if crossed:
            _box(ax, 1.0, 6.6, "x  (T, D)", "#777777")
            _box(ax, 4.0, 6.6, "y  (S, D)", "#777777", width=3.7)
        else:
            _box(ax, 3.0, 6.6, "x  (T, D)", "#777777", width=5.7)
        for x, name in zip(xs, ("W_Q", "W_K", "W_V"), strict=True):
            _arrow(ax, (x, 6.29), (x, top + 0.31))
            ax.text(x + 0.12, 5.9, f"${name[0]}_{name[2]}$", fontsize=FONT, color=INK, va="center")
        steps = [(4.0, "scores  q · k / √K   (T, S)", "#777777"), (3.1, "mask: forbidden → −∞", MASKED)]
        steps += [(2.2, "softmax over the S keys", "#777777"), (1.3, "weights  (T, S)", "#440154")]
        for y, text, colour in steps:
            _box(ax, 2.0, y, text, colour, width=3.7)
        _arrow(ax, (1.0, top - 0.31), (1.0, 4.31))
        _arrow(ax, (3.0, top - 0.31), (3.0, 4.31))
        for upper, lower in ((4.0, 3.1), (3.1, 2.2), (2.2, 1.3)):
            _arrow(ax, (2.0, upper - 0.31), (2.0, lower + 0.31))
        _box(ax, 3.4, 0.2, "output = weights × value   (T, V)", VALUE, width=4.9)
        _arrow(ax, (2.0, 0.99), (2.0, 0.51))
        _arrow(ax, (5.0, top - 0.31), (5.0, 0.51))
        ax.set(xlim=(-0.1, 6.1), ylim=(-0.25, 7.05))
        ax.set_title(title, fontsize=FONT + 1, color=INK)
        ax.axis("off")
    return picture
