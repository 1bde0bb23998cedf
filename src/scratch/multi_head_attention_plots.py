"""The drawings, charts and maps of unit 09, in the visual language of ``scratch.plots`` and ``scratch.blocks``.

A head has a colour of its own, none of those of query, key and value, and its number stands beside it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from scratch.attention_plots import reach_row
from scratch.blocks import COLOURS, HEIGHT, YELLOW, Drawing, sheet
from scratch.plots import (
    FONT,
    INK,
    KEY,
    KEY_INK,
    OTHER,
    QUERY,
    SKY,
    VALUE,
    WEIGHTS,
    WRONG,
    Picture,
    attention_map,
    canvas,
    name_axes,
    tint,
)  # fmt: skip

HEADS = (SKY, OTHER, YELLOW, "#999999")


def head_maps(
    rows: Sequence[tuple[str, Sequence[tuple]]], tokens: Sequence[str], width: float = 2.1, top: float = 1.0
) -> Picture:
    """Draw rows of maps over one sequence: (name of the row, [(title, weights (T, T)), ...]), on one scale."""
    count = max(len(maps) for _, maps in rows)
    picture = Picture(
        figsize=(1.3 + width * count, 0.8 + width * len(rows)), layout="constrained", facecolor="white"
    )
    grid = picture.subplots(len(rows), count, squeeze=False)
    for i, (name, maps) in enumerate(rows):
        for j, (title, weights) in enumerate(maps):
            ax = grid[i, j]
            attention_map(weights, tokens, tokens, title=title, top=top, ax=ax, bar=False)
            ax.set_xlabel("key" if i == len(rows) - 1 else "")
            ax.set_ylabel((f"{name}\n" if name else "") + "query" if j == 0 else "")
            ax.tick_params(labelsize=FONT - 2, labelbottom=i == len(rows) - 1, labelleft=j == 0)
    scale = picture.colorbar(grid[0, 0].images[0], ax=list(grid.flat), shrink=0.6, pad=0.01)
    scale.set_label("weight", fontsize=FONT - 1)
    scale.outline.set_visible(False)
    scale.ax.tick_params(labelsize=FONT - 1)
    return picture


def feature_reach(panels: Sequence[tuple], heads: int) -> Picture:
    """Draw which features of the output depend on which of x, (title, reach (D, D)), side by side."""
    D = len(panels[0][1])
    names = [f"{i} (head {i * heads // D})" for i in range(D)]
    picture = reach_row(panels, names)
    for ax in picture.axes[: len(panels)]:
        ax.set_xlabel("feature of x", color=INK)
    picture.axes[0].set_ylabel("feature of the output", color=INK)
    return picture


def _table(ax: Axes, left: float, top: float, numbers, colours, size: float = FONT - 2.5) -> None:
    """Write numbers into cells, row by row; ``colours`` has one for each column, or is the map for weights."""
    for (i, j), number in np.ndenumerate(np.asarray(numbers, dtype=float)):
        face, ink = colours[j % len(colours)], INK
        if isinstance(colours, str):
            face, ink = colormaps[colours](number), INK if number > 0.5 else "white"
        ax.add_patch(Rectangle((left + j, top + i), 1, 1, facecolor=face, edgecolor="white", lw=1.2))
        text = (
            f"{number:.0f}"
            if float(number).is_integer() and not isinstance(colours, str)
            else f"{number:.2f}"
        )
        ax.text(left + j + 0.5, top + i + 0.5, text, ha="center", va="center", color=ink, fontsize=size)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 9, "color": INK, "lw": 1, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(start, end, **style))


def worksheet(tokens: Sequence[str], x, slices, weights, found, output) -> Picture:
    """Draw split, attend, merge, project with their numbers: ``slices``, ``weights`` and ``found`` hold two heads."""
    T, D = np.shape(x)
    H, K = len(slices), D // len(slices)
    alt = (
        f"A worksheet from left to right. The rows of x, {', '.join(tokens)}, {D} numbers each, are split into "
        f"{H} heads of {K}. Each head has its own weights, one row for each word: "
        + "; ".join(
            f"head {h}, row {tokens[0]}: {', '.join(f'{n:.2f}' for n in weights[h][0])}" for h in range(H)
        )
        + ". What the heads found is merged into rows again and mixed by the map output."
    )
    picture, (ax,) = canvas(9.4, 3.7, alt=alt)
    shades = [tint(HEADS[h], 0.5) for h in range(H) for _ in range(K)]
    gap, height = 1.5, T + 1.9
    split = D + gap
    cards = split + K + gap
    finds = cards + T + gap
    merge = finds + K + gap
    mixed = merge + D + gap
    middle = (height * H - 1.9 - T) / 2
    _table(ax, 0, middle, x, shades)
    _table(ax, merge, middle, np.concatenate(found, axis=1), shades)
    _table(ax, mixed, middle, output, [tint("#777777", 0.25)])
    for t, token in enumerate(tokens):
        ax.text(-0.25, middle + t + 0.5, token, ha="right", va="center", fontsize=FONT - 1, color=INK)
    for left, wide, text in ((0, D, "x\n(T, D)"), (merge, D, "merged\n(T, D)"), (mixed, D, "output\n(T, D)")):
        ax.text(left + wide / 2, middle - 0.3, text, ha="center", va="bottom", fontsize=FONT - 1, color=INK)
    for h in range(H):
        top, colour = h * height, tint(HEADS[h], 0.5)
        _table(ax, split, top, slices[h], [colour])
        _table(ax, cards, top, weights[h], WEIGHTS)
        _table(ax, finds, top, found[h], [colour])
        for left, wide, text in (
            (split, K, f"head {h}\n(T, K)"), (cards, T, "weights\n(T, T)"), (finds, K, "found\n(T, K)"),
        ):  # fmt: skip
            ax.text(left + wide / 2, top - 0.3, text, ha="center", va="bottom", fontsize=FONT - 1, color=INK)
        level = top + T / 2
        _arrow(ax, (D + 0.2, middle + T / 2), (split - 0.2, level))
        _arrow(ax, (split + K + 0.2, level), (cards - 0.2, level))
        _arrow(ax, (cards + T + 0.2, level), (finds - 0.2, level))
        _arrow(ax, (finds + K + 0.2, level), (merge - 0.2, middle + T / 2))
    _arrow(ax, (merge + D + 0.2, middle + T / 2), (mixed - 0.2, middle + T / 2))
    bottom = height * H - 1.9
    for left, text in ((D, "split"), (split + K, "attend"), (finds + K, "merge"), (merge + D, "project")):
        ax.text(left + gap / 2, bottom + 0.9, text, ha="center", fontsize=FONT - 1, color=INK, style="italic")
    ax.set(xlim=(-2.4, mixed + D + 0.2), ylim=(bottom + 1.1, -1.9))
    ax.set_aspect("equal")
    ax.axis("off")
    return picture


def two_views(x, heads: int) -> Picture:
    """Draw where each number of x (T, D) goes: cut row by row, and cut out of memory at once. Colours are positions."""
    T, D = np.shape(x)
    K = D // heads
    right = [x[:, h * K : (h + 1) * K] for h in range(heads)]
    wrong = list(np.reshape(x, (heads, T, K)))
    alt = (
        f"A table of {T} positions with {D} numbers each, counted from 1, and two ways to give them to {heads} heads. "
        "Each row cut: "
        + "; ".join(
            f"head {h} has {', '.join(str(int(n)) for n in head[:, 0])} first" for h, head in enumerate(right)
        )
        + ". Cut out of memory at once: "
        + "; ".join(
            f"head {h} has {', '.join(str(int(n)) for n in head[:, 0])} first" for h, head in enumerate(wrong)
        )
        + ": each head has whole rows of a part of the sequence."
    )
    picture, (ax,) = canvas(8.6, 2.7, alt=alt)
    shade = [tint(colour, 0.55) for colour in HEADS]
    starts = {"x": 0.0, "right": D + 2.5, "wrong": D + 2.5 + heads * (K + 0.6) + 2.5}

    def cells(left: float, numbers) -> None:
        for (i, j), number in np.ndenumerate(numbers):
            face = shade[int(number - 1) // D % len(shade)]
            ax.add_patch(Rectangle((left + j, i), 1, 1, facecolor=face, edgecolor="white", lw=1.2))
            place = {"ha": "center", "va": "center", "fontsize": FONT, "color": INK}
            ax.text(left + j + 0.5, i + 0.5, f"{int(number)}", **place)

    cells(0, x)
    for t in range(T):
        ax.text(-0.2, t + 0.5, f"position {t}", ha="right", va="center", fontsize=FONT - 1, color=INK)
    titles = {"x": "x  (T, D)", "right": "every row cut", "wrong": "cut at once: wrong"}
    widths = {"x": D, "right": heads * (K + 0.6) - 0.6, "wrong": heads * (K + 0.6) - 0.6}
    for name, pieces in (("right", right), ("wrong", wrong)):
        for h, piece in enumerate(pieces):
            left = starts[name] + h * (K + 0.6)
            cells(left, piece)
            ax.text(left + K / 2, T + 0.65, f"head {h}", ha="center", fontsize=FONT - 1, color=INK)
    for name, text in titles.items():
        colour = WRONG if name == "wrong" else INK
        ax.text(starts[name] + widths[name] / 2, -0.5, text, ha="center", fontsize=FONT + 1, color=colour)
    ax.set(xlim=(-3.0, starts["wrong"] + widths["wrong"] + 0.2), ylim=(T + 1.0, -1.1))
    ax.set_aspect("equal")
    ax.axis("off")
    return picture


def layer() -> Picture:
    """Draw the layer: three maps, H attentions side by side, one map that mixes what they found."""
    alt = (
        "Multi-head attention, data flowing upwards. x (B, T, D) enters the map query; the memory (B, S, D), which is "
        "x itself in self-attention, enters the maps key and value. Their results are split into H heads of width K, "
        "(B, H, T, K), and go to H attentions drawn one behind the other. What they find is merged, (B, T, D), and "
        "passes the map output. A mask (B, 1, T, S) enters all attentions from the side."
    )
    picture, (drawing,) = sheet(6.6, 4.6, alt=alt)
    source = drawing.block("data", -1.9, 0.0, "x  (B, T, D)")
    memory = drawing.block("data", 0.95, 0.0, "memory  (B, S, D)")
    maps = [
        drawing.block("linear", x, 1.15, name, width=1.5)
        for x, name in ((-1.9, "query"), (0.0, "key"), (1.9, "value"))
    ]
    drawing.arrow((source.x, 0.2), maps[0].bottom)
    for part in maps[1:]:
        drawing.arrow((memory.x, 0.2), (memory.x, 0.5), (part.x, 0.5), part.bottom)
    for offset in (0.36, 0.18):  # the other heads, behind the first, without mouths of their own
        drawing.ax.add_patch(
            FancyBboxPatch(
                (offset - 2.1, 3.0 + offset - HEIGHT / 2), 4.2, HEIGHT, boxstyle="round,pad=0,rounding_size=0.1",
                facecolor=tint(COLOURS["attention"], 0.32), edgecolor=INK, lw=1.2, zorder=3,
            )
        )  # fmt: skip
    attention = drawing.block("attention", 0.0, 3.0, "attention", width=4.2)
    for part, name, colour in zip(maps, ("query", "key", "value"), (QUERY, KEY, VALUE), strict=True):
        end = attention.mouth(name)
        drawing.arrow(part.top, (part.x, 2.2), (end[0], 2.2), (end[0], end[1] - 0.06), colour=colour)
    drawing.write(-2.75, 1.85, "split\n(B, H, T, K)", align="right")
    drawing.write(2.6, 3.7, "× H", align="left", size=FONT + 1)
    drawing.write(3.8, 3.25, "mask\n(B, 1, T, S)")
    drawing.arrow((3.1, 3.25), (2.48, 3.25))
    top = drawing.block("linear", 0.0, 4.75, "output", width=1.5)
    drawing.arrow((0.0, 3.68), top.bottom)
    drawing.write(-0.2, 4.05, "merge  (B, T, D)", align="right")
    drawing.arrow(top.top, (0.0, 5.4))
    drawing.write(0.0, 5.55, "(B, T, D)")
    drawing.fit(-4.4, -0.35, 4.6, 5.75)
    return picture


def sharing(heads: int, groups: Sequence[tuple[str, int]]) -> Picture:
    """Draw which pair of key and value heads each query head looks up in, one panel for each (name, G)."""
    told = "; ".join(
        f"{name}: " + ", ".join(f"head {h} in pair {h // (heads // G)}" for h in range(heads))
        for name, G in groups
    )
    picture, axes = canvas(9.2, 2.6, columns=len(groups), alt=f"Which pair a query head looks up in. {told}.")
    for ax, (name, G) in zip(axes, groups, strict=True):
        drawing, share = Drawing(ax), heads // G
        for g in range(G):
            x = g * share + (share - 1) / 2
            for dy, part, colour in ((0.0, "key", KEY), (-0.62, "value", VALUE)):
                ax.add_patch(
                    Rectangle(
                        (x - 0.36, dy - 0.28), 0.72, 0.56, facecolor=tint(colour, 0.4), edgecolor=INK, lw=1.1
                    )
                )
                drawing.write(x, dy, f"{part} {g}", size=FONT - 2.5)
            for h in range(g * share, (g + 1) * share):
                drawing.arrow((h, 1.37), (x, 0.3))
        for h in range(heads):
            ax.add_patch(
                Rectangle((h - 0.36, 1.37), 0.72, 0.56, facecolor=tint(QUERY, 0.4), edgecolor=INK, lw=1.1)
            )
            drawing.write(h, 1.65, f"query {h}", size=FONT - 2.5)
        drawing.fit(-0.5, -1.0, heads - 0.5, 2.0)
        ax.set_title(f"{name}, G = {G}", fontsize=FONT, color=INK)
    return picture


def pruning(errors: np.ndarray, tasks: Sequence[str], names: Sequence[str]) -> Picture:
    """Draw the error on each task, ``errors`` (N, tasks), with all heads and with one head taken out."""
    told = "; ".join(
        f"{name}: " + ", ".join(f"{task} {error:.2f}" for task, error in zip(tasks, row, strict=True))
        for name, row in zip(names, errors, strict=True)
    )
    picture, (ax,) = canvas(7.2, 3.0, alt=f"Bar chart of the share that is lost. {told}.")
    styles = [(SKY, ""), (OTHER, "///")]
    for i, (task, (colour, hatch)) in enumerate(zip(tasks, styles, strict=False)):
        place = np.arange(len(names)) + (i - (len(tasks) - 1) / 2) * 0.38
        bars = ax.bar(
            place, errors[:, i], 0.36, color=tint(colour, 0.7), edgecolor=INK, hatch=hatch, label=task
        )
        ax.bar_label(bars, fmt="%.2f", fontsize=FONT - 2, padding=2)
    ax.set_xticks(range(len(names)), names)
    ax.set_ylim(0, max(1.3, float(errors.max()) * 1.3))
    ax.legend(fontsize=FONT - 1, frameon=False, loc="upper left", ncols=2)
    name_axes(ax, "", "share lost")
    return picture


def cache(lengths: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Picture:
    """Draw gigabytes of kept keys and values against the number of tokens, one line for each way of sharing."""
    ends = "; ".join(f"{name} {values[-1]:.3g} GB" for name, values in curves.items())
    alt = f"Line chart, both axes logarithmic: size of the cache against tokens. At {lengths[-1]:,} tokens: {ends}."
    picture, (ax,) = canvas(6.6, 3.3, alt=alt)
    styles = [(WRONG, "s", "--"), (QUERY, "o", "-"), (KEY_INK, "^", ":")]
    for (name, values), (colour, marker, line) in zip(curves.items(), styles, strict=False):
        ax.plot(lengths, values, color=colour, marker=marker, ms=4, ls=line, lw=1.8, label=name)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(lengths[::2], [f"{n:,}" for n in lengths[::2]])
    ax.minorticks_off()
    ax.legend(fontsize=FONT - 1, frameon=False)
    name_axes(ax, "tokens kept", "gigabytes")
    return picture
