"""The visual language of the course: its colours, its maps, and figures that describe themselves.

Queries are blue, keys orange, values green (Okabe-Ito, told apart by every kind of colour vision). Weights are
drawn in viridis, signed values in a diverging map centred at zero, and forbidden entries in hatched grey.
"""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

QUERY, KEY, VALUE = "#0072B2", "#E69F00", "#009E73"  # blue, orange, bluish green
WRONG, OTHER, SKY = "#D55E00", "#CC79A7", "#56B4E9"  # vermillion, reddish purple, sky blue
INK, MASKED = "#222222", "#D9D9D9"
KEY_INK = "#8A5A00"  # the orange of the keys, darkened so that text in it reads on white
PALETTE = {"query": QUERY, "key": KEY, "value": VALUE, "wrong": WRONG, "other": OTHER, "sky": SKY}
WEIGHTS, SIGNED, HATCH = "viridis", "PuOr", "////"
FONT = 10


def tint(colour: str, strength: float) -> tuple[float, float, float]:
    """Mix a colour with white: strength 0 is white, 1 the colour itself."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return tuple(1 - strength * (1 - rgb))


class Picture(Figure):
    """A matplotlib figure with a description, ``alt``, for readers who do not see it.

    Jupyter shows it as an HTML image: the form whose alternative text JupyterLab and nbconvert both keep.
    """

    alt = ""

    def to_html(self, scale: float = 1.6) -> str:
        """Return an ``<img>`` element: a PNG of ``scale`` device pixels per CSS pixel, and the description."""
        drawn, png = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png", dpi=100 * scale)
        Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
            png, "png", optimize=True
        )
        source = base64.b64encode(png.getvalue()).decode()
        width = round(100 * self.get_figwidth())
        return (
            f'<img alt="{html.escape(self.alt)}" width="{width}" style="max-width: 100%" '
            f'src="data:image/png;base64,{source}">'
        )

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display({"text/html": self.to_html(), "text/plain": f"Figure: {self.alt}"}, raw=True)


def canvas(width: float, height: float, columns: int = 1, alt: str = "") -> tuple[Picture, list[Axes]]:
    """Return an empty picture, in units of 100 CSS pixels, and its axes from left to right."""
    picture = Picture(figsize=(width, height), layout="constrained", facecolor="white")
    picture.alt = alt
    axes = list(picture.subplots(1, columns, squeeze=False)[0])
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=FONT - 1)
    return picture, axes


def name_axes(ax: Axes, x: str, y: str, title: str = "") -> None:
    """Name both axes and, if wanted, the panel."""
    ax.set_xlabel(x, fontsize=FONT, color=INK)
    ax.set_ylabel(y, fontsize=FONT, color=INK)
    ax.set_title(title, fontsize=FONT + 1, color=INK, loc="left")


def attention_map(
    weights,
    rows: Sequence[str],
    columns: Sequence[str],
    mask=None,
    *,
    title: str = "",
    numbers: bool = False,
    top: float = 1.0,
    signed: bool = False,
    label: str = "weight",
    axes_names: tuple[str, str] = ("key", "query"),
    ax: Axes | None = None,
    bar: bool = True,
) -> Picture:
    """Draw weights (T, S) as a map: one row for each query, one column for each key.

    Where ``mask`` (broadcasts to (T, S), True: may attend) is False the cell is grey and hatched. ``top`` is
    the value of the brightest colour; ``signed`` draws from -top to top around zero. Without ``ax`` the picture
    is new; ``bar`` adds the colour scale.
    """
    weights = np.asarray(weights, dtype=float)
    allowed = np.broadcast_to(True if mask is None else np.asarray(mask, dtype=bool), weights.shape)
    if ax is None:
        _, (ax,) = canvas(2.3 + 0.48 * len(columns), 1.5 + 0.36 * len(rows))
    picture = ax.figure
    shown = np.ma.array(weights, mask=~allowed)
    low, colours = (-top, SIGNED) if signed else (0.0, WEIGHTS)
    image = ax.imshow(shown, cmap=colours, vmin=low, vmax=top, aspect="auto")
    for row, column in np.argwhere(~allowed):
        cell = Rectangle(
            (column - 0.5, row - 0.5), 1, 1, facecolor=MASKED, edgecolor="#777777", hatch=HATCH, lw=0
        )
        ax.add_patch(cell)
    if numbers:
        for row, column in np.argwhere(allowed):
            red, green, blue, _ = image.cmap(image.norm(weights[row, column]))
            ink = INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
            text = f"{weights[row, column]:.2f}"
            ax.text(column, row, text, ha="center", va="center", color=ink, fontsize=FONT - 2)
    ax.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor", color=INK)
    ax.set_yticks(range(len(rows)), rows, color=INK)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    name_axes(ax, *axes_names, title)
    ax.xaxis.label.set_color(KEY_INK)
    ax.yaxis.label.set_color(QUERY)
    if bar:
        scale = picture.colorbar(image, ax=ax, shrink=0.9, pad=0.02)
        scale.set_label(label, fontsize=FONT - 1)
        scale.outline.set_visible(False)
        scale.ax.tick_params(labelsize=FONT - 1)
    picture.alt = f"{picture.alt} {describe_map(weights, rows, columns, allowed, title, label)}".strip()
    return picture


def describe_map(weights, rows, columns, allowed, title: str, label: str) -> str:
    """Say in words what a map shows: for each row, the column that stands out most, or that none is permitted."""
    lines = []
    for name, row, permitted in zip(rows, weights, allowed, strict=True):
        if not permitted.any():
            lines.append(f"{name}: nothing permitted")
            continue
        best = int(np.where(permitted, np.abs(row), -1).argmax())
        lines.append(f"{name}: {columns[best]} {row[best]:.2f}")
    hidden = int((~allowed).sum())
    masked = f" {hidden} of {allowed.size} entries are forbidden." if hidden else ""
    return f"{title or 'Map'}: {label} by row and column. Largest in each row: {'; '.join(lines)}.{masked}"
