"""The figures of unit 05, in the visual language of ``scratch.plots``."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from scratch.plots import (
    FONT,
    HATCH,
    INK,
    MASKED,
    OTHER,
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

TINTS = [
    tint(SKY, 0.75),
    tint(OTHER, 0.35),
    tint("#F0E442", 0.75),
    tint("#999999", 0.35),
]  # neighbours differ
STYLES = [
    (QUERY, "o", "-"),
    (WRONG, "s", "--"),
    (VALUE, "^", "-."),
    (OTHER, "D", ":"),
    ("#777777", "v", "--"),
]
CELL, LINE = 0.105, 0.34  # of a letter of a strip, in units of 100 CSS pixels: width and height of its line


def written(token: str | bytes) -> str:
    """How a token is shown: a space as ␣, a line's end as ⏎, and what is no letter by itself as its bytes."""
    data = token.encode() if isinstance(token, str) else bytes(token)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\uffff"
    if all(0x20 <= ord(c) < 0x7F or 0xA1 <= ord(c) < 0x530 or c == "\n" for c in text):  # what the font has
        return text.replace(" ", "␣").replace("\n", "⏎")
    return " ".join(f"{byte:02X}" for byte in data)


def strips(rows: Mapping[str, Sequence[str | bytes]], width: int = 84) -> Picture:
    """Draw each row of tokens as a strip of coloured boxes, one a token, under its title and the tokens' number.

    ``width`` is the most letters that stand in a line; a longer row goes on in the next.
    """
    lines: list[tuple[str, list[tuple[str, int]]]] = []
    for title, tokens in rows.items():
        line: list[tuple[str, int]] = []
        used, heading = 0, f"{title} · {len(tokens)} token{'s' if len(tokens) != 1 else ''}"
        for number, token in enumerate(tokens):
            size = len(written(token)) + 1
            if line and used + size > width:
                lines.append((heading, line))
                line, used, heading = [], 0, ""
            line.append((written(token), number))
            used += size
        lines.append((heading, line))
    heights = [LINE * (2 if heading else 1) for heading, _ in lines]
    shown = "; ".join(f"{title}: {' | '.join(map(written, tokens))}" for title, tokens in rows.items())
    picture, (ax,) = canvas(0.2 + CELL * (width + 1), 0.15 + sum(heights), alt=f"Tokens as boxes. {shown}.")
    ax.set(xlim=(0, width + 1), ylim=(sum(heights), 0))
    ax.axis("off")
    top = 0.0
    for (heading, line), height in zip(lines, heights, strict=True):
        if heading:
            ax.text(0, top + 0.55 * LINE, heading, fontsize=FONT, color=INK, va="center")
            top += LINE
        x = 0.0
        for text, number in line:
            size = len(text) + 1
            box = Rectangle((x + 0.04, top + 0.03), size - 0.08, LINE - 0.07, lw=0.6, ec="#555555")
            box.set_facecolor(TINTS[number % len(TINTS)])
            ax.add_patch(box)
            style = {"family": "monospace", "fontsize": FONT - 1, "color": INK}
            ax.text(x + size / 2, top + 0.47 * LINE, text, ha="center", va="center", **style)
            x += size
        top += height - (LINE if heading else 0)
    return picture


def curves(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    x: str,
    y: Sequence[str],
    *,
    log: bool = False,
    percent: bool = False,
) -> Picture:
    """Draw a panel of named lines, each (x values, y values), for each title; ``log`` makes the x axis logarithmic."""
    ends = " ".join(
        f"{title}: "
        + "; ".join(
            f"{name} from {values[0]:.3g} at {at[0]:,} to {values[-1]:.3g} at {at[-1]:,}"
            for name, (at, values) in lines.items()
        )
        + "."
        for title, lines in panels.items()
    )
    picture, axes = canvas(
        4.6 * len(panels) if len(panels) > 1 else 6.4, 3.4, columns=len(panels), alt=f"Line charts. {ends}"
    )
    for ax, (title, lines), name in zip(axes, panels.items(), y, strict=True):
        for (label, (at, values)), (colour, marker, dash) in zip(lines.items(), STYLES, strict=False):
            ax.plot(at, values, color=colour, marker=marker, ms=4, ls=dash, lw=1.6, label=label)
        ax.set_xscale("log" if log else "linear")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        ax.set_ylim(bottom=0)
        if percent:
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        name_axes(ax, x, name, title)
    found = dict(pair for ax in axes for pair in zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if len(found) > 1:
        place = {"loc": "outside lower center", "ncols": min(5, len(found))}
        picture.legend(found.values(), found.keys(), **place, fontsize=FONT - 1, frameon=False)
    return picture


def batch(ids, mask, tokens: Sequence[Sequence[str]]) -> Picture:
    """Draw a padded batch and its mask side by side, (B, T) each; padding is grey and hatched."""
    ids, mask = np.asarray(ids), np.asarray(mask)
    B, T = ids.shape
    rows = "; ".join(
        f"row {b}: {int(mask[b].sum())} tokens, {int((~mask[b]).sum())} padding" for b in range(B)
    )
    picture, axes = canvas(9.4, 0.9 + 0.42 * B, columns=2, alt=f"A batch of ids and its mask. {rows}.")
    for ax, title in zip(axes, ("ids (B, T)", "mask (B, T)"), strict=True):
        for b, t in np.ndindex(B, T):
            real = bool(mask[b, t])
            cell = Rectangle(
                (t - 0.5, b - 0.5), 1, 1, facecolor="white" if real else MASKED, edgecolor="#777777", lw=0.6
            )
            cell.set_hatch(None if real else HATCH)
            ax.add_patch(cell)
            word = tokens[b][t] if t < len(tokens[b]) else "<pad>"
            text = f"{ids[b, t]}\n{word}" if ax is axes[0] else str(real)
            paper = None if real else {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
            ax.text(t, b, text, ha="center", va="center", fontsize=FONT - 2.5, color=INK, bbox=paper)
        _frame(ax, B, T)
        name_axes(ax, "position t", "sequence b", title)
    return picture


def _frame(ax: Axes, rows: int, columns: int) -> None:
    ax.set(xlim=(-0.54, columns - 0.46), ylim=(rows - 0.46, -0.54))
    ax.set_xticks(range(columns))
    ax.set_yticks(range(rows))
    ax.tick_params(length=0, labelsize=FONT - 1)
    ax.spines[:].set_visible(False)


def lookup(ids: Sequence[int], table, names: Sequence[str]) -> Picture:
    """Draw a look-up as a product: one-hot rows (T, V) times the table (V, D) gives the vectors (T, D)."""
    table = np.asarray(table, dtype=float)
    V, D = table.shape
    hot = np.eye(V)[list(ids)]
    alt = f"One-hot rows for the ids {list(ids)}, times a table of {V} rows, give rows {list(ids)} of the table."
    picture, axes = canvas(9.2, 0.9 + 0.36 * V, columns=3, alt=alt)
    words = [names[i] for i in ids]
    panels = [
        ("one-hot (T, V)", hot, words, [str(i) for i in range(V)], "id", "Greys", 2.4),
        (
            "× table E (V, D)",
            table,
            [f"{i}  {name}" for i, name in enumerate(names)],
            None,
            "feature",
            SIGNED,
            None,
        ),
        ("= vectors (T, D)", table[list(ids)], words, None, "feature", SIGNED, None),
    ]
    top = np.abs(table).max() * 1.25
    for ax, (title, values, rows, columns, x, colours, most) in zip(axes, panels, strict=True):
        ax.imshow(values, cmap=colours, vmin=0 if most else -top, vmax=most or top, aspect="auto")
        for row, column in np.ndindex(*values.shape):
            number = f"{values[row, column]:.0f}" if most else f"{values[row, column]:.1f}"
            dark = not most and abs(values[row, column]) > 0.6 * top
            ink = "white" if dark else INK if values[row, column] or not most else "#999999"
            ax.text(column, row, number, ha="center", va="center", fontsize=FONT - 2, color=ink)
        if ax is axes[1]:
            for i in set(ids):
                ax.add_patch(Rectangle((-0.5, i - 0.5), D, 1, fill=False, ec=INK, lw=1.8))
        _frame(ax, *values.shape)
        ax.set_yticklabels(rows, color=INK)
        ax.set_xticklabels(columns or range(values.shape[1]), color=INK)
        name_axes(ax, x, "", title)
    return picture


def letters(panels: Mapping[str, np.ndarray], symbols: Sequence[str], marked: str) -> Picture:
    """Draw letters at their vectors (N, 2), a panel for each table; those in ``marked`` stand in filled circles."""
    picture, axes = canvas(9.2, 4.4, columns=len(panels))
    said = []
    for ax, (title, points) in zip(axes, panels.items(), strict=True):
        points = np.asarray(points, dtype=float)
        for symbol, (x, y) in zip(symbols, points, strict=True):
            inside = symbol in marked
            ax.plot(
                x, y, "o", ms=13, mfc=tint(SKY, 0.75) if inside else "white", mec=INK if inside else "#BBBBBB"
            )
            weight = "bold" if inside else "normal"
            ax.text(
                x,
                y,
                written(symbol),
                ha="center",
                va="center",
                fontsize=FONT,
                color=INK,
                weight=weight,
                zorder=3,
            )
        centre = {
            side: points[[i for i, s in enumerate(symbols) if (s in marked) == side]].mean(axis=0)
            for side in (True, False)
        }
        said.append(
            f"{title}: the centres of both kinds lie {np.linalg.norm(centre[True] - centre[False]):.2g} apart"
        )
        ax.margins(0.1)
        name_axes(ax, "first feature", "second feature", title)
    picture.alt = f"Letters as points; {marked} are marked. {'; '.join(said)}."
    return picture
