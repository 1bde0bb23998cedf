"""The charts and maps of unit 08, in the visual language of ``scratch.plots``; its diagrams are in ``diagrams``."""

from collections.abc import Sequence

import numpy as np
from matplotlib.patches import Rectangle

from scratch.plots import FONT, INK, QUERY, VALUE, WRONG, Picture, attention_map, canvas, name_axes


def saturation(widths: Sequence[int], curves: dict[str, np.ndarray], panels: Sequence[str]) -> Picture:
    """Draw what the width K does to scores and softmax; ``curves[divisor]`` has a row a width, a column a panel."""
    ends = "; ".join(
        f"{panel}: " + ", ".join(f"{curve[-1, i]:.2g} if divided by {name}" for name, curve in curves.items())
        for i, panel in enumerate(panels)
    )
    alt = f"Line charts against the key width K, from {widths[0]} to {widths[-1]}. At the right end, {ends}."
    picture, axes = canvas(9.2, 3.2, columns=len(panels), alt=alt)
    styles = [(WRONG, "s", "--"), (QUERY, "o", "-"), ("#777777", "^", ":")]
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        for (name, curve), (colour, marker, line) in zip(curves.items(), styles, strict=True):
            label = f"scores divided by {name}"
            ax.plot(widths, curve[:, i], color=colour, marker=marker, ms=4, ls=line, lw=1.8, label=label)
        ax.set_xscale("log", base=2)
        ax.set_xticks(widths[::2], [str(width) for width in widths[::2]])
        ax.set_yscale("linear" if i else "log")
        ax.set_ylim(bottom=0 if i else None)
        ax.minorticks_off()
        name_axes(ax, "key width K", "", panel)
    handles, labels = axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=FONT - 1, frameon=False)
    return picture


def map_row(panels: Sequence[tuple], tokens: Sequence[str], label: str = "weight") -> Picture:
    """Draw (title, weights (T, T), mask) maps side by side, over one sequence and on one colour scale."""
    picture, axes = canvas(0.6 + 2.9 * len(panels), 3.1, columns=len(panels))
    for ax, (title, weights, mask) in zip(axes, panels, strict=True):
        attention_map(weights, tokens, tokens, mask, title=title, label=label, ax=ax, bar=ax is axes[-1])
        if ax is not axes[0]:
            ax.set_ylabel("")
    return picture


def two_maps(left: tuple, right: tuple, columns: Sequence[str]) -> Picture:
    """Draw two maps, each (title, weights, rows), whose queries differ and whose keys are the same."""
    picture, axes = canvas(9.2, 3.7, columns=2)
    for ax, (title, weights, rows) in zip(axes, (left, right), strict=True):
        attention_map(weights, rows, columns, title=title, ax=ax, bar=ax is axes[1])
    return picture


def reach_row(panels: Sequence[tuple], tokens: Sequence[str]) -> Picture:
    """Draw gradient reach, (title, reach (T, T)), side by side: exact zeros are hatched."""
    maps = [(title, reach / reach.max(), reach > 0) for title, reach in panels]
    picture = map_row(maps, tokens, label="gradient / largest")
    for ax in picture.axes[: len(panels)]:
        ax.set_xlabel("input j", color=INK)
    picture.axes[0].set_ylabel("output i", color=INK)
    picture.alt = picture.alt.replace("are forbidden", "are exactly zero")
    return picture


def leak_row(weights, allowed, reach, tokens: Sequence[str]) -> Picture:
    """Draw the weights beside the gradient reach, and frame what the reach has where nothing is allowed."""
    leak = np.asarray((reach > 0) & ~allowed)
    picture, (left, right) = canvas(7.2, 3.3, columns=2)
    attention_map(weights, tokens, tokens, allowed, title="weights: look causal", ax=left)
    shown, name = reach / reach.max(), "gradient / largest"
    attention_map(shown, tokens, tokens, reach > 0, title="gradient reach: leaks", label=name, ax=right)
    right.set_xlabel("input j", color=INK)
    right.set_ylabel("output i", color=INK)
    for row, column in np.argwhere(leak):
        box = Rectangle((column - 0.4, row - 0.4), 0.8, 0.8, fill=False, edgecolor=WRONG, lw=1.8)
        right.add_patch(box)
    picture.alt += f" {leak.sum()} framed entries of the reach lie above the diagonal: they leak the future."
    return picture


def cost(lengths, projections, attention, width: int) -> Picture:
    """Draw multiply-adds against the length: what grows with it, and what grows with its square."""
    crossing = next(n for n, p, a in zip(lengths, projections, attention, strict=True) if a > p)
    alt = (
        f"Line chart, both axes logarithmic: multiply-adds against sequence length for width {width}. Projections "
        f"grow linearly, attention quadratically; from length {crossing} on attention costs more."
    )
    picture, (ax,) = canvas(6.4, 3.4, alt=alt)
    ax.plot(lengths, projections, color=VALUE, marker="o", ms=4, label="query, key and value projections")
    ax.plot(lengths, attention, color=WRONG, marker="s", ms=4, ls="--", label="scores and weighted sums")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(lengths[::2], [f"{n:,}" for n in lengths[::2]])
    ax.minorticks_off()
    ax.legend(fontsize=FONT - 1, frameon=False)
    name_axes(ax, "sequence length T = S", "multiply-adds")
    return picture
