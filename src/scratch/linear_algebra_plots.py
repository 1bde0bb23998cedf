"""The figures of unit 01, in the visual language of ``scratch.plots``: arrows, maps of the plane, ranks, variances."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from scratch.plots import (
    FONT,
    INK,
    KEY,
    KEY_INK,
    QUERY,
    SIGNED,
    SKY,
    VALUE,
    WRONG,
    Picture,
    canvas,
    name_axes,
    tint,
)

PALE = "#BBBBBB"
_WAYS = [(QUERY, "-"), (WRONG, "--"), (VALUE, "-."), (KEY_INK, ":")]  # told apart without colour, too


def _arrow(
    ax: Axes, end, colour: str, *, start=(0.0, 0.0), line: str = "-", name: str = "", shift=None
) -> None:
    """Draw an arrow, and beyond its end its name, unless ``shift`` moves that elsewhere (in points)."""
    style = {"arrowstyle": "-|>", "color": colour, "lw": 2, "ls": line, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", tuple(end), tuple(start), arrowprops=style)
    way = np.subtract(end, start) / np.linalg.norm(np.subtract(end, start))
    side = "center" if abs(way[0]) < 0.35 else "left" if way[0] > 0 else "right"
    place = {"ha": side, "va": "center", "textcoords": "offset points", "fontsize": FONT, "weight": "bold"}
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
    if name:
        ax.annotate(name, tuple(end), shift or tuple(way * (7, 10)), color=colour, bbox=box, **place)


def _square(ax: Axes, low: tuple[float, float], high: tuple[float, float]) -> None:
    """Equal units on both axes, which cross at zero."""
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    ax.axhline(0, color=PALE, lw=0.8, zorder=0)
    ax.axvline(0, color=PALE, lw=0.8, zorder=0)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=7))


def arrows(vectors: Mapping[str, Sequence[float]], axes_names: tuple[str, str]) -> Picture:
    """Draw vectors of the plane as named arrows from the origin."""
    ends = np.array(list(vectors.values()))
    told = "; ".join(f"{name} ({x:g}, {y:g})" for name, (x, y) in zip(vectors, ends, strict=True))
    picture, (ax,) = canvas(5.2, 4.4, alt=f"Arrows from the origin, by their ends: {told}.")
    for (name, end), (colour, line) in zip(vectors.items(), _WAYS, strict=False):
        _arrow(ax, end, colour, line=line, name=name, shift=(-6, 9))
    _square(ax, (-0.2, -0.2), tuple(ends.max(axis=0) + np.array([0.8, 0.5])))
    name_axes(ax, *axes_names)
    return picture


def projection(x, u, p) -> Picture:
    """Draw a vector x, the line along the unit vector u, the projection p of x on it, and what remains."""
    alt = (
        f"The vector x = ({x[0]:g}, {x[1]:g}), a line through the origin along u, and the projection "
        f"p = ({p[0]:.2f}, {p[1]:.2f}) on the line. A dashed arrow from p to x meets the line at a right angle."
    )
    picture, (ax,) = canvas(5.2, 3.8, alt=alt)
    ax.plot(*np.outer(u, [-1, 6]), color=PALE, lw=1.2)
    _arrow(ax, x, QUERY, name="x")
    _arrow(ax, p, VALUE, name="p = (x · u) u", shift=(6, -12))
    _arrow(ax, u, KEY_INK, name="u", shift=(-4, -12))
    _arrow(ax, x, WRONG, start=p, line="--")
    middle = (np.asarray(x) + p) / 2
    ax.annotate(
        "x - p", middle, (6, 0), textcoords="offset points", color=WRONG, fontsize=FONT, weight="bold"
    )
    across = np.array([-u[1], u[0]])
    corner = np.array([p - 0.18 * u, p - 0.18 * u + 0.18 * across, p + 0.18 * across])
    ax.plot(*corner.T, color=INK, lw=1)
    _square(ax, (-0.3, -0.3), (4.6, 3.5))
    name_axes(ax, "first number", "second number")
    return picture


def _grid(ax: Axes, matrix: np.ndarray, extent: int = 2) -> None:
    lines = np.linspace(-extent, extent, 2)
    for at in range(-extent, extent + 1):
        for points in (np.array([np.full(2, at), lines]), np.array([lines, np.full(2, at)])):
            ax.plot(*(matrix @ points), color=SKY, lw=0.9, zorder=0)


_LETTER = np.array([[0.2, 0.2], [0.2, 1.4], [0.9, 1.4], [0.9, 1.1], [0.5, 1.1], [0.5, 0.9], [0.8, 0.9], [0.8, 0.6],
                    [0.5, 0.6], [0.5, 0.2], [0.2, 0.2]]).T  # fmt: skip


def plane_maps(maps: Mapping[str, np.ndarray]) -> Picture:
    """Draw what matrices (2, 2) do to a grid, to the two unit vectors and to the letter F, side by side."""
    told = "; ".join(
        f"{name}: (1, 0) goes to ({m[0, 0]:.2g}, {m[1, 0]:.2g}), (0, 1) to ({m[0, 1]:.2g}, {m[1, 1]:.2g})"
        for name, m in maps.items()
    )
    picture, axes = canvas(
        2.6 * len(maps), 2.9, columns=len(maps), alt=f"A grid and a letter F under maps. {told}."
    )
    for ax, (name, matrix) in zip(axes, maps.items(), strict=True):
        matrix = np.asarray(matrix, dtype=float)
        _grid(ax, matrix)
        ax.fill(*(matrix @ _LETTER), color=tint(QUERY, 0.35), ec=QUERY, lw=1.2)
        _arrow(ax, matrix[:, 0], WRONG)
        _arrow(ax, matrix[:, 1], KEY_INK, line="--")
        _square(ax, (-3, -3), (3, 3))
        name_axes(ax, "", "", name)
    return picture


def eigenvectors(matrix: np.ndarray, values: np.ndarray, vectors: np.ndarray, steps: int = 16) -> Picture:
    """Draw the unit circle and its image under a matrix; vectors on the lines of the eigenvectors stay on them."""
    told = " and ".join(
        f"({v[0]:.2f}, {v[1]:.2f}) by {value:g}" for value, v in zip(values, vectors.T, strict=True)
    )
    alt = (
        f"Left: arrows to points of the unit circle, and two lines along the eigenvectors. Right: the map has made "
        f"an ellipse of the circle. The arrows on the two lines are still on them, stretched: {told}."
    )
    picture, axes = canvas(8.2, 4.2, columns=2, alt=alt)
    angles = np.linspace(0, 2 * np.pi, 200)
    few = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    for ax, map_, title in zip(axes, (np.eye(2), matrix), ("x, of length 1", "A x"), strict=True):
        _grid(ax, map_)
        ax.plot(*(map_ @ [np.cos(angles), np.sin(angles)]), color=INK, lw=1.2)
        for end in (map_ @ [np.cos(few), np.sin(few)]).T:
            ax.plot(*zip((0, 0), end, strict=True), color=PALE, lw=1)
        for v, colour, line, name in zip(vectors.T, (WRONG, QUERY), ("-", "--"), ("v₁", "v₂"), strict=True):
            ax.plot(*np.outer(v, [-5, 5]), color=colour, lw=0.8, ls=":")
            _arrow(ax, map_ @ v, colour, line=line, name=name if ax is axes[0] else f"A{name}")
        _square(ax, (-3.3, -3.3), (3.3, 3.3))
        name_axes(ax, "", "", title)
    return picture


def singular_vectors(matrix: np.ndarray, u: np.ndarray, s: np.ndarray, vh: np.ndarray) -> Picture:
    """Draw the unit circle with the rows of Vᵀ, and its image with the columns of U, each s times as long."""
    alt = (
        f"Left: the unit circle with two arrows at right angles, v₁ and v₂. Right: the ellipse that the matrix makes "
        f"of it. Its half axes are A v₁ = {s[0]:.2f} u₁ and A v₂ = {s[1]:.2f} u₂, again at right angles."
    )
    picture, axes = canvas(8.2, 3.7, columns=2, alt=alt)
    angles = np.linspace(0, 2 * np.pi, 200)
    circle = np.array([np.cos(angles), np.sin(angles)])
    for ax, map_, ends, title in (
        (axes[0], np.eye(2), vh, "before: v₁, v₂"),
        (axes[1], matrix, (u * s).T, "after: σ₁ u₁, σ₂ u₂"),
    ):
        _grid(ax, map_)
        ax.plot(*(map_ @ circle), color=INK, lw=1.2)
        names = ("v₁", "v₂") if ax is axes[0] else ("σ₁ u₁", "σ₂ u₂")
        for end, colour, line, name in zip(ends, (WRONG, QUERY), ("-", "--"), names, strict=True):
            _arrow(ax, end, colour, line=line, name=name)
        _square(ax, (-3, -2.6), (3, 2.6))
        name_axes(ax, "", "", title)
    return picture


def broadcasting(column: Sequence[float], row: Sequence[float]) -> Picture:
    """Draw a column (T, 1) and a row (1, S), both stretched to (T, S), and their sum; what is copied is pale."""
    total = np.add.outer(column, row)
    T, S = total.shape
    alt = (
        f"Three tables of {T} rows and {S} columns. In the first a column of numbers is repeated to the right, in the "
        f"second a row is repeated downwards. The third holds the sums, from {total.min():g} to {total.max():g}."
    )
    picture, (ax,) = canvas(8.2, 2.5, alt=alt)
    tables = [
        (np.repeat(np.array(column)[:, None], S, 1), QUERY, lambda t, s: s == 0, f"({T}, 1) → ({T}, {S})"),
        (np.repeat(np.array(row)[None], T, 0), KEY, lambda t, s: t == 0, f"(1, {S}) → ({T}, {S})"),
        (total, VALUE, lambda t, s: True, f"({T}, {S})"),
    ]
    for place, (table, colour, own, name) in enumerate(tables):
        left = place * (S + 1.2)
        for (t, s), number in np.ndenumerate(table):
            strength, ink = (0.45, INK) if own(t, s) else (0.1, "#888888")
            edge = {"edgecolor": "white" if own(t, s) else PALE, "ls": "-" if own(t, s) else ":", "lw": 1.2}
            ax.add_patch(Rectangle((left + s, t), 0.96, 0.92, facecolor=tint(colour, strength), **edge))
            ax.text(
                left + s + 0.48, t + 0.46, f"{number:g}", ha="center", va="center", color=ink, fontsize=FONT
            )
        ax.text(left + S / 2, -0.35, name, ha="center", fontsize=FONT, color=INK)
        if place:
            ax.text(
                left - 0.6, T / 2, "+=-"[place - 1], ha="center", va="center", fontsize=FONT + 5, color=INK
            )
    ax.set(xlim=(-0.1, 3 * S + 2.5), ylim=(T + 0.1, -0.9))
    ax.axis("off")
    return picture


def cloud(points: np.ndarray, directions: Mapping[str, tuple]) -> Picture:
    """Draw points (N, 2) and named arrows, each (start, end): ways to say where the points extend to."""
    told = "; ".join(
        f"{name}: from ({start[0]:.1f}, {start[1]:.1f}) to ({end[0]:.1f}, {end[1]:.1f})"
        for name, (start, end) in directions.items()
    )
    picture, (ax,) = canvas(6.0, 4.2, alt=f"A cloud of {len(points)} points. Arrows, {told}.")
    ax.scatter(*points.T, s=14, color=tint(QUERY, 0.5), edgecolor="white", lw=0.4)
    for (name, (start, end)), (colour, line) in zip(directions.items(), _WAYS[1:], strict=False):
        _arrow(ax, end, colour, start=start, line=line, name=name)
    high = points.max(axis=0) + 0.6
    _square(ax, (-0.6, -0.6), (max(high[0], 7.5), high[1]))
    name_axes(ax, "first number", "second number")
    return picture


def explained_variance(shares: np.ndarray) -> Picture:
    """Draw the share of the variance along each component as bars, and their running sum as a line."""
    total = np.cumsum(shares)
    alt = (
        f"Bar chart: shares of the variance along {len(shares)} components, from {shares[0]:.0%} down to "
        f"{shares[-1]:.1%}; the first three are {', '.join(f'{share:.0%}' for share in shares[:3])}. A line of their "
        f"running sum reaches {total[2]:.0%} at the third component and then rises slowly to 100%."
    )
    picture, (ax,) = canvas(6.8, 3.4, alt=alt)
    places = np.arange(1, len(shares) + 1)
    ax.bar(places, shares, color=tint(QUERY, 0.6), edgecolor=QUERY, label="of one component")
    ax.plot(places, total, color=WRONG, marker="o", ms=4, ls="--", label="of all up to here")
    ax.set_xticks(places)
    ax.set_ylim(0, 1.04)
    ax.legend(fontsize=FONT - 1, frameon=False, loc="center right")
    name_axes(ax, "component", "share of the variance")
    return picture


def matrix_row(panels: Mapping[str, np.ndarray]) -> Picture:
    """Draw matrices of one shape side by side, on one scale of signed values."""
    top = max(float(np.abs(matrix).max()) for matrix in panels.values())
    told = "; ".join(f"{name}: entries from {m.min():.1f} to {m.max():.1f}" for name, m in panels.items())
    picture, axes = canvas(
        2.3 * len(panels) + 0.7, 2.5, columns=len(panels), alt=f"Maps of matrices. {told}."
    )
    for ax, (name, matrix) in zip(axes, panels.items(), strict=True):
        image = ax.imshow(matrix, cmap=SIGNED, vmin=-top, vmax=top, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        name_axes(ax, "", "", name)
    bar = picture.colorbar(image, ax=axes, shrink=0.85, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=FONT - 1)
    return picture


def photographs(panels: Mapping[str, np.ndarray], alt: str) -> Picture:
    """Draw images (height, width, 3), values between 0 and 1, side by side under their names."""
    height, width = next(iter(panels.values())).shape[:2]
    each = 9.2 / len(panels)
    picture, axes = canvas(9.2, each * height / width + 0.4, columns=len(panels), alt=alt)
    for ax, (name, image) in zip(axes, panels.items(), strict=True):
        ax.imshow(image)
        ax.axis("off")
        ax.set_title(name, fontsize=FONT, color=INK)
    return picture
