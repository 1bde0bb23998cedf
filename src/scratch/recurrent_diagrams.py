"""The diagrams of unit 06: the three cells, a network unrolled in time, chunks, and reading in both directions.

Within a cell, data flows from left to right, as it does in time. A slanted box is a linear map of x and h with what is
applied to its sum; a circle works entry by entry.
"""

from collections.abc import Sequence

from matplotlib.patches import Circle, FancyBboxPatch

from scratch.blocks import Drawing, sheet
from scratch.plots import FONT, INK, QUERY, SKY, VALUE, WRONG, Picture, tint

Point = tuple[float, float]
ROUND = 0.2  # the radius of a circle
CELL = "#777777"


def _circle(drawing: Drawing, x: float, y: float, sign: str) -> Point:
    """A circle that works entry by entry: ×, + or 1−."""
    drawing.ax.add_patch(Circle((x, y), ROUND, facecolor="white", edgecolor=INK, lw=1.2, zorder=4))
    drawing.write(x, y, sign, size=FONT - 2 if len(sign) > 1 else FONT + 2)
    return x, y


def _gate(drawing: Drawing, x: float, y: float, name: str, applied: str, width: float = 1.0) -> Point:
    """A linear map and what is applied to its sum."""
    drawing.block("linear", x, y, f"{name}   {applied}".strip(), width=width)
    return x, y


def _bend(
    drawing: Drawing, *points: Point, head: bool = True, thick: bool = False, colour: str = INK
) -> None:
    """An arrow that ends at the edge of what stands at its last point, if that is a circle."""
    drawing.arrow(*points, head=head, colour=colour)
    if thick:
        drawing.ax.plot(*zip(*points, strict=True), color=colour, lw=3, zorder=1.5, solid_capstyle="butt")


def _dot(drawing: Drawing, x: float, y: float) -> None:
    """Where a line parts."""
    drawing.ax.add_patch(Circle((x, y), 0.055, facecolor=INK, edgecolor=INK, zorder=5))


def _body(drawing: Drawing, left: float, bottom: float, right: float, top: float) -> None:
    """The outline of a cell."""
    drawing.ax.add_patch(
        FancyBboxPatch(
            (left, bottom), right - left, top - bottom, boxstyle="round,pad=0,rounding_size=0.25",
            facecolor="#F6F6F6", edgecolor="#BBBBBB", lw=1.0, zorder=0,
        )
    )  # fmt: skip


def rnn() -> Picture:
    """Draw the simple cell: one linear map of x and h, and a tanh."""
    alt = (
        "The simple recurrent cell. The old state h comes in from the left and the input x from below; one linear map "
        "of both and a tanh make the new state, which leaves to the right."
    )
    picture, (drawing,) = sheet(4.6, 1.75, alt=alt)
    _body(drawing, 0.6, 0.45, 4.4, 2.0)
    _gate(drawing, 2.5, 1.25, "W x + W h + b", "tanh", width=2.9)
    _bend(drawing, (0.0, 1.25), (1.02, 1.25))
    _bend(drawing, (2.5, 0.1), (2.5, 0.92))
    _bend(drawing, (3.88, 1.25), (5.0, 1.25))
    for x, y, text, align in (
        (-0.1, 1.25, "$h_{t-1}$", "right"),
        (2.5, -0.1, "$x_t$", "center"),
        (5.1, 1.25, "$h_t$", "left"),
    ):
        drawing.write(x, y, text, align=align, size=FONT + 1)
    drawing.fit(-0.8, -0.35, 5.8, 2.1)
    return picture


def lstm() -> Picture:
    """Draw the LSTM cell: the memory along the top, four maps of x and h below."""
    alt = (
        "The LSTM cell. Along the top runs the memory c: multiplied by the forget gate f, then increased by the "
        "product of the input gate i and the candidate g. The new hidden state h is tanh of c, multiplied by the "
        "output gate o. Each of f, i, g and o is a linear map of x and the old h, with a sigmoid or, for g, a tanh."
    )
    picture, (drawing,) = sheet(6.6, 3.75, alt=alt)
    top, bus, row, middle = 4.0, 0.6, 1.5, 2.75
    _body(drawing, 0.45, 0.25, 7.35, 4.45)
    f, i, g, o = (_gate(drawing, x, row, name, act) for x, name, act in (
        (1.5, "f", "σ"), (2.9, "i", "σ"), (4.3, "g", "tanh"), (5.7, "o", "σ")))  # fmt: skip
    _bend(drawing, (0.0, top), (1.3, top), thick=True)
    _bend(drawing, (1.7, top), (3.4, top), thick=True)
    _bend(drawing, (3.8, top), (7.9, top), thick=True)
    _circle(drawing, f[0], top, "×")
    _circle(drawing, 3.6, top, "+")
    _circle(drawing, 3.6, middle, "×")
    _bend(drawing, (f[0], row + 0.32), (f[0], top - ROUND))
    _bend(drawing, (i[0], row + 0.32), (i[0], middle), (3.6 - ROUND, middle))
    _bend(drawing, (g[0], row + 0.32), (g[0], middle), (3.6 + ROUND, middle))
    _bend(drawing, (3.6, middle + ROUND), (3.6, top - ROUND))
    _dot(drawing, 6.8, top)
    _bend(drawing, (6.8, top), (6.8, 3.62))
    drawing.block("norm", 6.8, 3.45, "tanh", width=0.8)
    _circle(drawing, 6.8, 2.6, "×")
    _bend(drawing, (6.8, 3.28), (6.8, 2.6 + ROUND))
    _bend(drawing, (o[0], row + 0.32), (o[0], 2.6), (6.8 - ROUND, 2.6))
    _bend(drawing, (6.8, 2.6 - ROUND), (6.8, bus), (7.9, bus))
    drawing.arrow((0.0, bus), (5.7, bus), head=False)
    for x, _ in (f, i, g, o):
        _bend(drawing, (x, bus), (x, row - 0.32))
        if x != o[0]:
            _dot(drawing, x, bus)
    drawing.arrow((0.85, -0.15), (0.85, bus), head=False)
    _dot(drawing, 0.85, bus)
    for x, y, text, align in (
        (-0.1, top, "$c_{t-1}$", "right"),
        (-0.1, bus, "$h_{t-1}$", "right"),
        (0.85, -0.35, "$x_t$", "center"),
        (8.0, top, "$c_t$", "left"),
        (8.0, bus, "$h_t$", "left"),
    ):
        drawing.write(x, y, text, align=align, size=FONT + 1)
    drawing.write(f[0] + 0.28, 3.45, "forget", align="left", colour="#555555", size=FONT - 2)
    drawing.write(i[0] + 0.06, 2.2, "take in", align="left", colour="#555555", size=FONT - 2)
    drawing.write(o[0] + 0.06, 2.2, "show", align="left", colour="#555555", size=FONT - 2)
    drawing.fit(-0.8, -0.6, 8.5, 4.6)
    return picture


def gru() -> Picture:
    """Draw the GRU cell: the state along the top, blended with a candidate that the reset gate looks after."""
    alt = (
        "The GRU cell. Along the top runs the state h: multiplied by the update gate z, then increased by the "
        "candidate n times 1 minus z. The candidate is the tanh of a linear map of x plus the reset gate r "
        "times a linear map of the old h. The gates r and z are linear maps of x and h with a sigmoid."
    )
    picture, (drawing,) = sheet(6.6, 3.75, alt=alt)
    top, lane, row, high, low = 4.0, 2.95, 1.5, 0.75, 0.25
    _body(drawing, 0.45, 0.0, 7.35, 4.45)
    r, hn, xn, z = 1.5, 2.9, 4.3, 5.7
    _gate(drawing, r, row, "r", "σ")
    _gate(drawing, hn, row, "$W_{hn}$ h", "", 1.1)
    _gate(drawing, xn, row, "$W_{in}$ x", "", 1.1)
    _gate(drawing, z, row, "z", "σ")
    _bend(drawing, (0.0, top), (z - ROUND, top), thick=True)
    _bend(drawing, (z + ROUND, top), (6.8 - ROUND, top), thick=True)
    _bend(drawing, (6.8 + ROUND, top), (7.9, top), thick=True)
    _circle(drawing, z, top, "×")
    _circle(drawing, 6.8, top, "+")
    _circle(drawing, r, 2.35, "×")
    _bend(drawing, (r, row + 0.32), (r, 2.35 - ROUND))
    _bend(drawing, (hn, row + 0.32), (hn, 2.35), (r + ROUND, 2.35))
    _circle(drawing, xn, lane, "+")
    _bend(drawing, (r, 2.35 + ROUND), (r, lane), (xn - ROUND, lane))
    _bend(drawing, (xn, row + 0.32), (xn, lane - ROUND))
    drawing.block("norm", 5.08, lane, "tanh", width=0.72)
    _bend(drawing, (xn + ROUND, lane), (4.72, lane))
    _circle(drawing, 6.8, lane, "×")
    _bend(drawing, (5.44, lane), (6.8 - ROUND, lane))
    drawing.write(6.15, lane + 0.2, "n", size=FONT)
    _bend(drawing, (6.8, lane + ROUND), (6.8, top - ROUND))
    _bend(drawing, (z, row + 0.32), (z, top - ROUND))
    _dot(drawing, z, 2.2)
    _circle(drawing, 6.8, 2.2, "1−")
    _bend(drawing, (z, 2.2), (6.8 - ROUND, 2.2))
    _bend(drawing, (6.8, 2.2 + ROUND), (6.8, lane - ROUND))
    drawing.write(z - 0.28, 3.5, "keep", align="right", colour="#555555", size=FONT - 2)
    drawing.write(r - 0.28, 2.35, "reset", align="right", colour="#555555", size=FONT - 2)
    # The old state feeds r, W_hn and z, the input r, W_in and z.
    drawing.arrow((0.65, top), (0.65, high), (z - 0.15, high), head=False)
    _dot(drawing, 0.65, top)
    drawing.arrow((1.0, -0.3), (1.0, low), (z + 0.15, low), head=False, colour=CELL)
    from_h = [(x, high, INK) for x in (r - 0.15, hn, z - 0.15)]
    from_x = [(x, low, CELL) for x in (r + 0.15, xn, z + 0.15)]
    for x, y, colour in from_h + from_x:
        _bend(drawing, (x, y), (x, row - 0.32), colour=colour)
        if x < z - 0.2:
            _dot(drawing, x, y)
    for x, y, text, align in (
        (-0.1, top, "$h_{t-1}$", "right"),
        (1.0, -0.5, "$x_t$", "center"),
        (8.0, top, "$h_t$", "left"),
    ):
        drawing.write(x, y, text, align=align, size=FONT + 1)
    drawing.fit(-0.8, -0.75, 8.5, 4.6)
    return picture


def _node(drawing: Drawing, x: float, y: float, text: str, colour: str, faded: bool = False) -> None:
    """A cell at one step."""
    face = "white" if faded else tint(colour, 0.28)
    drawing.ax.add_patch(
        FancyBboxPatch(
            (x - 0.42, y - 0.32), 0.84, 0.64, boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=face, edgecolor="#AAAAAA" if faded else INK, lw=1.2, zorder=3,
        )
    )  # fmt: skip
    drawing.write(x, y, text)


def unrolled(steps: int = 5, backward: bool = False) -> Picture:
    """Draw a network unrolled in time; with ``backward``, the way of the gradient from the loss at the last step."""
    alt = f"A recurrent network unrolled over {steps} steps: at each, one cell takes x from below, h from the left."
    if backward:
        alt += " Dashed arrows lead from the loss at the last step back through every cell to the first."
    picture, (drawing,) = sheet(8.4, 2.45, alt=alt)
    for t in range(1, steps + 1):
        x = 1.7 * t
        _node(drawing, x, 1.3, "cell", SKY)
        drawing.arrow((x - 1.28 if t > 1 else x - 1.0, 1.3), (x - 0.44, 1.3))
        drawing.write(x - 0.86 if t > 1 else x - 1.15, 1.52 if t > 1 else 1.3, f"$h_{t - 1}$", size=FONT)
        drawing.arrow((x, 0.35), (x, 0.96))
        drawing.write(x, 0.15, f"$x_{t}$", size=FONT + 1)
        drawing.arrow((x, 1.64), (x, 2.1))
        drawing.write(x, 2.3, f"$h_{t}$" if t < steps or not backward else "loss", size=FONT)
        if backward:
            drawing.arrow((x - 0.44, 1.1), (x - 1.26 if t > 1 else x - 0.95, 1.1), colour=WRONG, dashed=True)
    if backward:
        x = 1.7 * steps
        drawing.arrow((x + 0.14, 2.1), (x + 0.14, 1.64), colour=WRONG, dashed=True)
    drawing.fit(0.2, -0.1, 1.7 * steps + 0.7, 2.5)
    return picture


def chunks(length: int = 3, count: int = 3) -> Picture:
    """Draw truncated back-propagation: the state crosses from chunk to chunk, gradients do not."""
    alt = (
        f"A sequence of {length * count} steps in {count} chunks. Solid arrows carry the state through all steps; "
        "dashed arrows carry gradients back, and stop where their chunk begins."
    )
    picture, (drawing,) = sheet(9.2, 1.75, alt=alt)
    for k in range(count):
        left = k * (length * 1.3 + 0.7)
        drawing.frame(left - 0.62, 0.85, left + 1.3 * (length - 1) + 0.62, 2.15)
        drawing.write(
            left + 0.65 * (length - 1), 0.55, f"chunk {k}: one step of the optimiser", size=FONT - 1
        )
        for t in range(length):
            x = left + 1.3 * t
            _node(drawing, x, 1.5, f"$h_{{{k * length + t + 1}}}$", SKY)
            gap = 0.88 if t or not k else 1.58
            if t or k:
                drawing.arrow((x - gap, 1.5), (x - 0.44, 1.5))
            if t:
                drawing.arrow((x - 0.44, 1.3), (x - gap + 0.02, 1.3), colour=WRONG, dashed=True)
            elif k:
                drawing.write(x - 1.0, 1.27, "×", colour=WRONG, size=FONT + 4)
                drawing.write(x - 1.0, 1.9, "detach", size=FONT - 2)
    drawing.fit(-0.8, 0.3, (count - 1) * (length * 1.3 + 0.7) + 1.3 * (length - 1) + 0.8, 2.3)
    return picture


def bidirectional(words: Sequence[str]) -> Picture:
    """Draw two networks over one sentence, one in each direction, whose states are put side by side."""
    alt = (
        f"The words {', '.join(words)}. A forward network runs over them from left to right, a backward network from "
        "right to left; at each word, the two states together are the output."
    )
    picture, (drawing,) = sheet(8.4, 3.25, alt=alt)
    for t, word in enumerate(words):
        x = 1.7 * t
        drawing.write(x, 0.1, word, size=FONT)
        _node(drawing, x - 0.2, 1.0, "→", QUERY)
        _node(drawing, x + 0.2, 1.9, "←", VALUE)
        drawing.arrow((x - 0.2, 0.3), (x - 0.2, 0.66))
        drawing.ax.plot([x + 0.42, x + 0.42], [0.3, 1.0], color=INK, lw=1.2, zorder=2)
        drawing.arrow((x + 0.42, 1.0), (x + 0.42, 1.56))
        drawing.arrow((x - 0.45, 1.34), (x - 0.45, 2.62))
        drawing.arrow((x + 0.2, 2.24), (x + 0.2, 2.62))
        drawing.ax.add_patch(
            FancyBboxPatch(
                (x - 0.65, 2.64), 1.1, 0.5, boxstyle="round,pad=0,rounding_size=0.12",
                facecolor="#F6F6F6", edgecolor=INK, lw=1.2, zorder=3,
            )
        )  # fmt: skip
        drawing.write(x - 0.1, 2.89, "→ | ←")
        if t:
            drawing.arrow((x - 1.7 + 0.24, 1.0), (x - 0.64, 1.0), colour=QUERY)
            drawing.arrow((x - 0.24, 1.9), (x - 1.7 + 0.64, 1.9), colour=VALUE)
    drawing.fit(-0.9, -0.1, 1.7 * (len(words) - 1) + 0.9, 3.2)
    return picture
