"""The figures of unit 15: what Keras stands on, where a mask gets to, and frameworks side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import FancyBboxPatch, Rectangle

from scratch.plots import (
    FONT,
    HATCH,
    INK,
    KEY,
    MASKED,
    OTHER,
    QUERY,
    SKY,
    VALUE,
    Picture,
    canvas,
    name_axes,
    tint,
)


def stack(backend: str) -> Picture:
    """Draw what Keras stands on; the backend in use is filled."""
    alt = (
        "Boxes on three floors. On top: your layers, fit, callbacks, saving. In the middle: keras.layers and "
        f"keras.ops. Below: three backends side by side, torch, tensorflow and jax; {backend} is the one in use."
    )
    picture, (ax,) = canvas(6.4, 2.9, alt=alt)
    ax.axis("off")
    ax.set(xlim=(0, 6.4), ylim=(0, 3.0))

    def box(x: float, y: float, width: float, text: str, colour: str, strength: float = 0.3) -> None:
        style = "round,pad=0.02,rounding_size=0.1"
        face = tint(colour, strength)
        ax.add_patch(
            FancyBboxPatch((x, y), width, 0.62, boxstyle=style, facecolor=face, edgecolor=colour, lw=1.4)
        )
        ax.text(x + width / 2, y + 0.31, text, ha="center", va="center", fontsize=FONT, color=INK)

    box(0.2, 2.2, 6.0, "your layers · model.fit · callbacks · saving", QUERY)
    box(0.2, 1.25, 6.0, "keras.layers · keras.ops", KEY)
    for i, name in enumerate(("torch", "tensorflow", "jax")):
        used = name == backend
        text = f"{name} (in use)" if used else name
        box(0.2 + 2.05 * i, 0.3, 1.9, text, VALUE if used else "#999999", 0.3 if used else 0.0)
    return picture


def journey(stations: Sequence[tuple[str, bool]]) -> Picture:
    """Draw which tensors on the way still carry a mask: (what was done, whether the result has a mask)."""
    said = "; ".join(f"{text}: {'mask' if has else 'no mask'}" for text, has in stations)
    alt = f"A list of tensors, and whether each carries a mask. {said}."
    picture, (ax,) = canvas(7.6, 0.6 + 0.36 * len(stations), alt=alt)
    ax.axis("off")
    ax.set(xlim=(0, 7.6), ylim=(-len(stations) + 0.4, 0.6))
    lost = {"facecolor": MASKED, "edgecolor": "#777777", "hatch": HATCH}
    label = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    for i, (text, has) in enumerate(stations):
        style = {"facecolor": tint(VALUE, 0.45), "edgecolor": VALUE} if has else lost
        ax.add_patch(Rectangle((5.8, -i - 0.34), 1.6, 0.68, lw=1.0, **style))
        under = None if has else label
        ax.text(
            6.6,
            -i,
            "mask" if has else "no mask",
            ha="center",
            va="center",
            fontsize=FONT,
            color=INK,
            bbox=under,
        )
        ax.text(0.1, -i, text, ha="left", va="center", fontsize=FONT - 1, color=INK, family="monospace")
    return picture


def lines(curves: Mapping[str, Sequence[float]], x: str, y: str, title: str) -> Picture:
    """Draw named curves over 0, 1, 2, …, told apart by colour and dash."""
    ends = "; ".join(f"{name}: highest at {int(np.argmax(values))}" for name, values in curves.items())
    picture, (ax,) = canvas(6.2, 3.0, alt=f"Line chart, {title}, against the {x}. {ends}.")
    styles = zip((QUERY, KEY, VALUE, OTHER), ("-", "--", "-.", ":"), strict=True)
    for (name, values), (colour, dash) in zip(curves.items(), styles, strict=False):
        ax.plot(values, color=colour, ls=dash, lw=1.8, label=name)
    ax.legend(frameon=False, fontsize=FONT - 1)
    name_axes(ax, x, y, title)
    return picture


def side_by_side(
    written: Mapping[str, Sequence[tuple[str, float]]], differences: Mapping[str, float], absent: str = ""
) -> Picture:
    """Draw what every framework writes, token by token with its probability, and how far it is from the first.

    Args:
        written: for each framework, the tokens it finds likeliest, each with its probability.
        differences: for each framework but the first, the largest difference of a logit from the first one's,
            over the largest logit.
        absent: a framework that is not installed; its row is hatched.
    """
    said = "; ".join(f"{name}: {''.join(token for token, _ in row)}" for name, row in written.items())
    gaps = "; ".join(f"{name}: {gap:.0e}" for name, gap in differences.items())
    alt = f"Left, a row of tokens for each framework, with probabilities. {said}. "
    alt += f"Right, the largest difference of a logit, over the largest logit: {gaps}." + (
        f" {absent} is not installed." if absent else ""
    )
    names = [*written, *([absent] if absent else [])]
    columns = max(map(len, written.values()))
    picture, (left, right) = canvas(9.6, 0.9 + 0.5 * len(names), columns=2, alt=alt)
    gone = {"facecolor": MASKED, "edgecolor": "#777777", "hatch": HATCH, "lw": 0}
    for i, name in enumerate(names):
        for j, (token, p) in enumerate(written.get(name, ())):
            style = {"facecolor": tint(SKY, 0.15 + 0.5 * p), "edgecolor": "white"}
            left.add_patch(Rectangle((j - 0.5, i - 0.42), 1, 0.84, **style))
            size = FONT - 2 if len(token.strip()) < 6 else FONT - 4.5
            left.text(j, i - 0.14, token.strip() or "␣", ha="center", va="center", fontsize=size, color=INK)
            left.text(j, i + 0.22, f"{p:.2f}", ha="center", va="center", fontsize=FONT - 3, color=INK)
        if name == absent:
            left.add_patch(Rectangle((-0.5, i - 0.42), columns, 0.84, **gone))
            under = {"facecolor": "white", "edgecolor": "none", "pad": 2}
            place = {"ha": "center", "va": "center", "fontsize": FONT - 1}
            left.text(columns / 2 - 0.5, i, "not installed", bbox=under, **place)
    left.set(xlim=(-0.5, columns - 0.5), ylim=(len(names) - 0.5, -0.5), xticks=[])
    left.set_yticks(range(len(names)), names, fontsize=FONT - 1)
    left.spines[:].set_visible(False)
    left.tick_params(length=0)
    left.set_title("likeliest token, and its probability", fontsize=FONT)
    shown = {name: max(gap, 1e-9) for name, gap in differences.items()}
    right.barh(
        [names.index(name) for name in shown], list(shown.values()), color=tint(QUERY, 0.6), edgecolor=QUERY
    )
    right.set_xscale("log")
    right.axvline(1e-5, color=INK, ls="--", lw=1.2)
    right.text(1e-5, len(names) - 0.45, " 1e-5", ha="left", va="bottom", fontsize=FONT - 1, color=INK)
    right.set(xlim=(1e-9, 1e-2), ylim=(len(names) - 0.4, -0.5))
    right.set_yticks(range(len(names)), [""] * len(names))
    name_axes(right, "largest difference from scratch, over the largest logit", "")
    return picture
