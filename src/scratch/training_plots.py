"""The charts of unit 04, in the visual language of ``scratch.plots``.

Lines are told apart by colour, marker and dash, so that they survive a grey printer.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from scratch.plots import FONT, INK, KEY, OTHER, QUERY, SKY, VALUE, WRONG, Picture, canvas, name_axes

STYLES = [
    (QUERY, "o", "-"),
    (WRONG, "s", "--"),
    (VALUE, "^", "-."),
    (OTHER, "D", ":"),
    (KEY, "v", "-"),
    (SKY, "P", "--"),
]
HELD_OUT = (VALUE, "^", "--")


def _draw(ax: Axes, lines: Mapping[str, Sequence[float]]) -> None:
    """Draw named lines in the course's styles, with about ten markers on each; what is held out is always green."""
    for (name, values), style in zip(lines.items(), STYLES, strict=False):
        colour, marker, dash = HELD_OUT if name.startswith("held-out") else style
        places = range(1, len(values) + 1)
        every = max(1, len(values) // 10)
        ax.plot(
            places, values, color=colour, marker=marker, ms=4, markevery=every, ls=dash, lw=1.6, label=name
        )


def _ends(lines: Mapping[str, Sequence[float]]) -> str:
    """Say in words where each line begins and ends."""
    return "; ".join(f"{name}: from {values[0]:.3g} to {values[-1]:.3g}" for name, values in lines.items())


def curves(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    x: str,
    y: str | Sequence[str],
    *,
    log: bool | Sequence[bool] = False,
    top: float | None = None,
) -> Picture:
    """Draw one panel of named lines for each title; values belong to 1, 2, 3, … along the x axis.

    ``log`` makes the y axis logarithmic, of all panels or of each; ``top`` cuts it off there.
    """
    alt = " ".join(
        f"Line chart, {title}, against the {x}. {_ends(lines)}." for title, lines in panels.items()
    )
    picture, axes = canvas(4.6 * len(panels) if len(panels) > 1 else 6.4, 3.3, columns=len(panels), alt=alt)
    names = [y] * len(panels) if isinstance(y, str) else y
    scales = [log] * len(panels) if isinstance(log, bool) else log
    for ax, (title, lines), name, logarithmic in zip(axes, panels.items(), names, scales, strict=True):
        _draw(ax, lines)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if logarithmic:
            ax.set_yscale("log")
        if top is not None:
            ax.set_ylim(top=top)
        ax.legend(fontsize=FONT - 1, frameon=False)
        name_axes(ax, x, name, title)
    return picture


def trajectories(
    height: Callable[[np.ndarray, np.ndarray], np.ndarray],
    panels: Mapping[str, Mapping[str, np.ndarray]],
    box: tuple[float, float, float, float],
) -> Picture:
    """Draw paths (steps + 1, 2) over the contours of a height; the minimum is at the origin.

    Args:
        height: maps grids of the two weights to the loss.
        panels: for each title, paths by name.
        box: left, right, bottom and top of the map.
    """
    ends = "; ".join(
        f"{name} from ({path[0, 0]:.2g}, {path[0, 1]:.2g}) to ({path[-1, 0]:.2g}, {path[-1, 1]:.2g})"
        for paths in panels.values()
        for name, path in paths.items()
    )
    alt = f"Maps of a loss over two weights, with contours around the minimum at (0, 0). Paths: {ends}."
    picture, axes = canvas(4.7 * len(panels) if len(panels) > 1 else 6.4, 3.9, columns=len(panels), alt=alt)
    left, right, bottom, top = box
    grid = np.meshgrid(np.linspace(left, right, 200), np.linspace(bottom, top, 200))
    levels = np.geomspace(height(*grid).max() / 2000, height(*grid).max(), 12)
    for ax, (title, paths) in zip(axes, panels.items(), strict=True):
        ax.contour(*grid, height(*grid), levels=levels, colors="#BBBBBB", linewidths=0.8)
        for (name, path), (colour, marker, dash) in zip(paths.items(), STYLES, strict=False):
            ax.plot(*path.T, color=colour, marker=marker, ms=3.5, ls=dash, lw=1.3, label=name)
        ax.plot(0, 0, marker="*", color=INK, ms=11, ls="none", label="minimum")
        ax.set(xlim=(left, right), ylim=(bottom, top))
        ax.legend(fontsize=FONT - 1, frameon=True, framealpha=0.9, edgecolor="white", loc="upper right")
        name_axes(ax, "weight θ₁", "weight θ₂", title)
    return picture


def digits(images, labels: Sequence[str], wrong: Sequence[bool] | None = None, columns: int = 12) -> Picture:
    """Draw images (N, 8, 8) in rows, each with its label below; those that are ``wrong`` are framed and starred."""
    wrong = [False] * len(images) if wrong is None else wrong
    rows = -(-len(images) // columns)
    framed = [label for label, bad in zip(labels, wrong, strict=True) if bad]
    alt = f"{len(images)} handwritten digits with labels: {', '.join(labels)}."
    alt += f" Framed, because misread: {', '.join(framed)}." if framed else ""
    picture, (ax,) = canvas(0.2 + 0.72 * columns, 0.1 + 0.98 * rows, alt=alt)
    for i, (image, label, bad) in enumerate(zip(images, labels, wrong, strict=True)):
        x, y = 10 * (i % columns), 13.5 * (i // columns)
        extent = (x, x + 8, y + 8, y)
        ax.imshow(np.asarray(image), cmap="gray_r", vmin=0, vmax=1, extent=extent, interpolation="nearest")
        colour = WRONG if bad else "#BBBBBB"
        ax.add_patch(Rectangle((x, y), 8, 8, fill=False, edgecolor=colour, lw=2.2 if bad else 0.6))
        text = f"{label} *" if bad else label
        weight = "bold" if bad else "normal"
        ax.text(x + 4, y + 10.6, text, ha="center", va="center", fontsize=FONT - 1, color=INK, weight=weight)
    ax.set(xlim=(-1, 10 * min(columns, len(images)) - 1), ylim=(13.5 * rows - 0.5, -1))
    ax.set_aspect("equal")
    ax.axis("off")
    return picture
