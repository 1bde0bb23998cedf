"""The charts and the drawing of unit 07, in the visual language of ``scratch.plots``."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from scratch.blocks import Drawing, sheet
from scratch.plots import (
    FONT,
    INK,
    KEY,
    MASKED,
    OTHER,
    QUERY,
    VALUE,
    WRONG,
    Picture,
    attention_map,
    canvas,
    name_axes,
    tint,
)

STYLES = {"attention": (QUERY, "o", "-"), "bottleneck": (WRONG, "s", "--")}
OTHERS = [(VALUE, "^", "-."), ("#777777", "D", ":"), (OTHER, "v", "--")]


def quality(
    lengths: Sequence[int],
    lines: Mapping[str, Sequence[float]],
    longest: int,
    *,
    y: str = "share of words right",
    title: str = "",
) -> Picture:
    """Draw named lines between 0 and 1 against the length; what is longer than all that was learned from is shaded.

    Lines whose names contain "attention" or "bottleneck" have these styles, so that a model looks the same everywhere.
    """
    ends = "; ".join(
        f"{name}: " + ", ".join(f"{value:.2f} at {n}" for n, value in zip(lengths, values, strict=True))
        for name, values in lines.items()
    )
    alt = f"Line chart, {y} against the length. {ends}. Words longer than {longest} were not learned from."
    picture, (ax,) = canvas(6.6, 3.3, alt=alt)
    ax.axvspan(longest + 0.5, max(lengths) + 1, facecolor=MASKED, alpha=0.45, lw=0)
    ax.text(
        longest + 0.8, 1.1, "longer than any in training", fontsize=FONT - 2, color="#555555", va="center"
    )
    _draw(ax, lengths, lines)
    ax.set(xlim=(0, max(lengths) + 1), ylim=(-0.03, 1.18))
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
    ax.legend(fontsize=FONT - 1, frameon=False, loc="center left", bbox_to_anchor=(0.0, 0.3))
    name_axes(ax, "length of the word", y, title)
    return picture


def by_position(panels: Mapping[str, Mapping[str, Sequence[float]]], slip: int | None = None) -> Picture:
    """Draw, for each title, named lines between 0 and 1 against the position in the target, from 1; mark the slip."""
    told = " ".join(
        f"{title}: "
        + "; ".join(
            f"{name} from {v[0]:.2f} to {v[-1]:.2f}, lowest {min(v):.2f}" for name, v in lines.items()
        )
        + "."
        for title, lines in panels.items()
    )
    alt = f"Line charts, share of tokens right against the position in the target. {told}"
    alt += f" A wrong token is shown behind position {slip}." if slip else ""
    picture, axes = canvas(4.6 * len(panels), 3.4, columns=len(panels), alt=alt)
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        count = len(next(iter(lines.values())))
        if slip:
            ax.axvline(slip + 0.5, color="#777777", lw=1, ls=":")
            ax.text(slip + 0.6, 1.1, "one wrong token shown", fontsize=FONT - 2, color="#555555", va="center")
        _draw(ax, range(1, count + 1), lines)
        ax.set(ylim=(-0.03, 1.18))
        ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        name_axes(ax, "position in the target", "share of tokens right", title)
    handles, labels = axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=FONT - 1, frameon=False)
    return picture


def _draw(ax, x: Sequence[int], lines: Mapping[str, Sequence[float]]) -> None:
    others = iter(OTHERS)
    for name, values in lines.items():
        named = next((style for key, style in STYLES.items() if key in name), None)
        colour, marker, dash = named or next(others)
        ax.plot(x, values, color=colour, marker=marker, ms=4.5, ls=dash, lw=1.7, label=name)


def alignment(weights, read: Sequence[str], written: Sequence[str], title: str = "") -> Picture:
    """Draw what was looked at: a row for each token written, a column for each token read; weights (T, S)."""
    names = [[token.strip() or "␣" for token in tokens] for tokens in (written, read)]
    return attention_map(
        weights, *names, title=title, axes_names=("token read (key)", "token written (query)")
    )


def encoder_decoder() -> Picture:
    """Draw the same network twice: with one vector between reading and writing, and with attention."""
    alt = (
        "Two drawings of a network that reads a, b, c and writes c, b, a and an end. In both, three encoder cells, "
        "joined in both directions, stand above the source tokens, and four decoder cells, joined from left to right, "
        "above the tokens shown: begin, c, b, a. On the left one vector, the summary, goes into every decoder cell. On "
        "the right every encoder cell hands over a state of its own. The second decoder cell sends them a query, and "
        "the third gets a context back; of the lines from the states to the context, that from a is the widest."
    )
    picture, drawings = sheet(9.2, 2.75, columns=2, alt=alt)
    for drawing, attention in zip(drawings, (False, True), strict=True):
        title = (
            "with attention: every state can be asked" if attention else "the bottleneck: one vector for all"
        )
        drawing.ax.set_title(title, fontsize=FONT + 1, color=INK, loc="left")
        read, shown = [0.0, 1.25, 2.5], [4.3, 5.55, 6.8, 8.05]
        for x, token in zip(read, "abc", strict=True):
            _cell(drawing, x, 1.0, "#777777")
            drawing.write(x, 0.05, token)
            drawing.arrow((x, 0.25), (x, 0.68))
        for left, right in pairwise(read):
            drawing.arrow((left + 0.38, 1.1), (right - 0.38, 1.1))
            drawing.arrow((right - 0.38, 0.9), (left + 0.38, 0.9))
        for x, token, output in zip(shown, ("begin", *"cba"), (*"cba", "end"), strict=True):
            _cell(drawing, x, 1.0, QUERY)
            drawing.write(x, 0.05, token)
            drawing.arrow((x, 0.25), (x, 0.68))
            drawing.arrow((x, 1.32), (x, 3.5))
            drawing.write(x, 3.72, output)
        for left, right in pairwise(shown):
            drawing.arrow((left + 0.38, 1.0), (right - 0.38, 1.0))
        drawing.arrow((read[-1] + 0.38, 1.0), (shown[0] - 0.38, 1.0))
        if attention:
            _asked(drawing, read, shown)
        else:
            _summary(drawing, read, shown)
        drawing.write(1.25, -0.45, "encoder", colour="#555555")
        drawing.write(6.2, -0.45, "decoder, shown the token before", colour="#555555")
        drawing.fit(-0.6, -0.75, 8.75, 4.0)
    return picture


def _cell(drawing: Drawing, x: float, y: float, colour: str, wide: float = 0.76, high: float = 0.64) -> None:
    """A recurrent cell: a box with round corners."""
    drawing.ax.add_patch(
        FancyBboxPatch(
            (x - wide / 2, y - high / 2), wide, high, boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=tint(colour, 0.25), edgecolor=INK, lw=1.1, zorder=3,
        )
    )  # fmt: skip


def _summary(drawing: Drawing, read: Sequence[float], shown: Sequence[float]) -> None:
    """One vector that goes from the encoder into every step of the decoder."""
    x, y = 3.4, 2.35
    for cell in (read[0], read[-1]):
        drawing.arrow((cell, 1.32), (cell, y), (x - 0.22, y))
    _cell(drawing, x, y, VALUE, wide=0.4, high=1.0)
    drawing.write(x, y + 0.75, "summary")
    drawing.arrow((x + 0.2, y), (shown[-1] - 0.25, y), head=False, colour=VALUE)
    for cell in shown:
        drawing.arrow((cell - 0.25, y), (cell - 0.25, 1.34), colour=VALUE)


def _asked(drawing: Drawing, read: Sequence[float], shown: Sequence[float]) -> None:
    """The states of the encoder, and the look-up of one step of the decoder."""
    states, context, asks, gets = 2.0, (3.55, 3.0), shown[1], shown[2] - 0.25
    for x, share in zip(read, (0.8, 0.12, 0.08), strict=True):
        drawing.arrow((x, 1.32), (x, states - 0.2))
        _cell(drawing, x, states, KEY, wide=0.66, high=0.36)
        ends = [x, context[0] - 0.25], [states + 0.18, context[1]]
        drawing.ax.plot(*ends, color=VALUE, lw=0.8 + 4.5 * share, zorder=1, alpha=0.85)
    drawing.write(-0.4, 3.1, "keys and values", align="left")
    drawing.arrow((0.1, 2.95), (0.0, states + 0.24), head=False)
    _cell(drawing, *context, VALUE, wide=0.5, high=0.5)
    drawing.write(context[0], context[1] + 0.47, "context")
    drawing.arrow((context[0] + 0.25, context[1]), (gets, context[1]), (gets, 1.34), colour=VALUE)
    up = asks - 0.22
    drawing.arrow((up, 1.32), (up, states), (read[-1] + 0.36, states), colour=QUERY)
    drawing.write(3.55, states - 0.22, "query", colour=QUERY)
