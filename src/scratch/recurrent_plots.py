"""The charts of unit 06, in the visual language of ``scratch.plots``; its diagrams are in ``recurrent_diagrams``.

Each kind of cell has one colour, marker and dash in every chart.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from scratch.plots import FONT, INK, KEY_INK, OTHER, QUERY, VALUE, WEIGHTS, WRONG, Picture, canvas, name_axes

STYLES = {"RNN": (WRONG, "s", "--"), "LSTM": (QUERY, "o", "-"), "GRU": (VALUE, "^", "-.")}
SPARE = [(OTHER, "D", ":"), (INK, "v", "-"), (WRONG, "s", "--")]
FLOOR = 1e-12  # where the logarithmic axis of gradients ends


def _style(name: str, place: int) -> dict:
    """The colour, marker and dash of a line that is named after a cell, or of another one."""
    kind = next((kind for kind in STYLES if name.startswith(kind)), None)
    colour, marker, dash = STYLES[kind] if kind else SPARE[place % len(SPARE)]
    return {"color": colour, "marker": marker, "ls": dash, "ms": 4, "lw": 1.7, "label": name}


def _legend(picture: Picture, ax: Axes, columns: int) -> None:
    handles, labels = ax.get_legend_handles_labels()
    picture.legend(
        handles, labels, loc="outside upper center", ncols=columns, fontsize=FONT - 1, frameon=False
    )


def lags(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """Draw how much of a small change is left: one panel for each title, one line for each cell.

    The values belong to lags 0, 1, 2, …; the axis is logarithmic, and lines leave it at ``FLOOR``.
    """
    said = " ".join(
        f"{title}: {', '.join(f'{name} {line[-1]:.0e}' for name, line in lines.items())}."
        for title, lines in panels.items()
    )
    alt = f"Line charts: the size of the derivative of the last state by an earlier one, by lag. At the end, {said}"
    picture, axes = canvas(3.1 * len(panels) if len(panels) > 1 else 5.6, 3.5, columns=len(panels), alt=alt)
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        for place, (name, line) in enumerate(lines.items()):
            shown = np.where(np.asarray(line) < FLOOR, np.nan, line)
            ax.plot(range(len(line)), shown, markevery=max(1, len(line) // 6), **_style(name, place))
        ax.set_xlim(-4, 1.04 * max(map(len, lines.values())))
        ax.axhline(1, color="#BBBBBB", lw=0.8, zorder=0)
        ax.set_yscale("log")
        ax.set_ylim(bottom=FLOOR / 2 if min(map(min, lines.values())) < 1e-3 else 0.1)
        ax.minorticks_off()
        name_axes(ax, "lag T − t", r"$\|\,\partial h_T / \partial h_t\,\|$" if ax is axes[0] else "", title)
    _legend(picture, axes[0], len(next(iter(panels.values()))))
    return picture


def accuracies(
    panels: Mapping[str, Mapping[str, Sequence[float]]], lengths: Sequence[int], chance: float, x: str
) -> Picture:
    """Draw accuracy against a length, one panel for each title, with the share that chance gets right."""
    said = " ".join(
        f"{title}: " + ", ".join(f"{name} {', '.join(f'{v:.2f}' for v in line)}" for name, line in lines.items()) + "."
        for title, lines in panels.items()
    )  # fmt: skip
    alt = f"Line charts of accuracy against the {x}, at {', '.join(map(str, lengths))}. {said} Chance: {chance:.2f}."
    wide = 4.4 * len(panels) if len(panels) > 1 else 5.6
    picture, axes = canvas(wide, 3.3, columns=len(panels), alt=alt)
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        for place, (name, line) in enumerate(lines.items()):
            nested = {"lw": 3.4 - place, "ms": 9 - 2.5 * place}  # lines that coincide all show
            ax.plot(lengths, line, **_style(name, place) | nested)
        ax.axhline(chance, color="#999999", lw=1, zorder=0)
        ax.text(lengths[0], chance - 0.015, "chance", fontsize=FONT - 2, color="#666666", va="top")
        ax.set_xscale("log", base=2)
        ax.set_xticks(lengths, [str(n) for n in lengths])
        ax.minorticks_off()
        ax.set_ylim(0, 1.05)
        name_axes(ax, x, "accuracy" if ax is axes[0] else "", title)
    _legend(picture, axes[0], len(next(iter(panels.values()))))
    return picture


def capacities(lines: Mapping[int, Sequence[float]], lengths: Sequence[int], chance: float) -> Picture:
    """Draw the share of symbols recalled against their number, one line for each width H of the state."""
    said = "; ".join(f"H = {size}: {', '.join(f'{v:.2f}' for v in line)}" for size, line in lines.items())
    alt = (
        f"Line chart: the share of symbols recalled against how many were read, at {', '.join(map(str, lengths))}. "
        f"{said}. Chance: {chance:.2f}."
    )
    picture, (ax,) = canvas(6.4, 3.4, alt=alt)
    styles = [(VALUE, "^", "-."), (KEY_INK, "s", "--"), (OTHER, "D", ":")]
    for (size, line), (colour, marker, dash) in zip(lines.items(), styles, strict=False):
        ax.plot(lengths, line, color=colour, marker=marker, ls=dash, ms=5, lw=1.7, label=f"H = {size}")
    ax.axhline(chance, color="#999999", lw=1, zorder=0)
    ax.text(lengths[0], chance - 0.015, "chance", fontsize=FONT - 2, color="#666666", va="top")
    ax.set_xscale("log", base=2)
    ax.set_xticks(lengths, [str(n) for n in lengths])
    ax.minorticks_off()
    ax.set_ylim(0, 1.05)
    ax.legend(fontsize=FONT - 1, frameon=False)
    name_axes(ax, "symbols read", "share recalled")
    return picture


def learning(lines: Mapping[str, Sequence[float]], x: str, y: str) -> Picture:
    """Draw named lines against 1, 2, 3, …, in the styles of their cells."""
    ends = "; ".join(f"{name}: from {line[0]:.2f} to {line[-1]:.2f}" for name, line in lines.items())
    picture, (ax,) = canvas(6.4, 3.2, alt=f"Line chart of {y} against the {x}. {ends}.")
    for place, (name, line) in enumerate(lines.items()):
        ax.plot(range(1, len(line) + 1), line, markevery=max(1, len(line) // 10), **_style(name, place))
    ax.legend(fontsize=FONT - 1, frameon=False)
    name_axes(ax, x, y)
    return picture


def losses(panels: Mapping[str, Mapping[str, Sequence[float]]], logarithmic: Sequence[bool]) -> Picture:
    """Draw named lines against the step, one panel for each title, some of them on a logarithmic axis."""
    ends = {
        title: "; ".join(f"{name}: at most {max(line):.2g}, at last {line[-1]:.2g}" for name, line in lines.items())
        for title, lines in panels.items()
    }  # fmt: skip
    said = " ".join(f"{title}: {end}." for title, end in ends.items())
    picture, axes = canvas(4.4 * len(panels), 3.2, columns=len(panels), alt=f"Line charts by step. {said}")
    for ax, (title, lines), log in zip(axes, panels.items(), logarithmic, strict=True):
        for (name, line), (colour, dash, width) in zip(
            lines.items(), [(WRONG, "-", 0.9), (QUERY, "-", 1.5)], strict=False
        ):
            ax.plot(range(1, len(line) + 1), line, color=colour, ls=dash, lw=width, label=name)
        ax.set_yscale("log" if log else "linear")
        name_axes(ax, "step", "", title)
    _legend(picture, axes[0], 2)
    return picture


def reach_maps(panels: Mapping[str, np.ndarray], words: Sequence[str]) -> Picture:
    """Draw gradient reach (T, T) side by side, each divided by its largest entry; exact zeros are hatched."""
    from scratch.attention_plots import reach_row

    picture = reach_row(list(panels.items()), words)
    for ax in picture.axes[: len(panels)]:
        ax.xaxis.label.set_color(INK)
        ax.yaxis.label.set_color(INK)
    return picture


def written(
    names: Sequence[Sequence[tuple[str, float]]], known: Sequence[str], held_out: Sequence[str]
) -> Picture:
    """Write names in three columns, each character on the colour of its probability.

    Args:
        names: for each name its characters with their probabilities; a line feed ends a name.
        known: the names that the model was trained on: marked by a star.
        held_out: real names that it has never seen: marked by two.
    """
    texts = ["".join(character for character, _ in name).rstrip("\n") for name in names]
    seen, real = [t for t in texts if t in known], [t for t in texts if t in held_out]
    alt = f"{len(names)} names that a model has written, coloured by each character's probability: {', '.join(texts)}."
    alt += f" From the training data: {', '.join(seen) or 'none'}. Real, and never seen: {', '.join(real) or 'none'}."
    rows = -(-len(names) // 3)
    picture, (ax,) = canvas(9.2, 0.75 + 0.31 * rows, alt=alt)
    image = None
    for i, (name, text) in enumerate(zip(names, texts, strict=True)):
        left, top = 24.5 * (i // rows), 1.25 * (i % rows)
        for place, (character, share) in enumerate(name):
            red, green, blue, _ = face = colormaps[WEIGHTS](share)
            ax.add_patch(Rectangle((left + place, top), 0.94, 1, facecolor=face))
            ink = INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
            shown = "·" if character == "\n" else character
            ax.text(
                left + place + 0.47, top + 0.5, shown, ha="center", va="center", color=ink, fontsize=FONT - 1
            )
        mark = "**" if text in held_out else "*" if text in known else ""
        ax.text(
            left + len(name) + 0.2,
            top + 0.55,
            mark,
            va="center",
            color=WRONG,
            fontsize=FONT + 1,
            weight="bold",
        )
    image = ax.scatter([], [], c=[], cmap=WEIGHTS, vmin=0, vmax=1)
    scale = picture.colorbar(image, ax=ax, shrink=0.9, pad=0.01, aspect=25)
    scale.set_label("probability of the character", fontsize=FONT - 1)
    scale.outline.set_visible(False)
    scale.ax.tick_params(labelsize=FONT - 1)
    ax.set(xlim=(-0.3, 73), ylim=(1.25 * rows, -0.3))
    ax.set_title(
        "·  end of a name      *  a name it was trained on      **  a real name it has never seen",
        fontsize=FONT - 1, color=INK, loc="left",
    )  # fmt: skip
    ax.axis("off")
    return picture
