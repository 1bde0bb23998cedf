"""The graphs and charts of unit 03, in the visual language of ``scratch.plots``.

Values are black on grey, gradients purple: they travel along dashed arrows, against the direction of the computation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from scratch.plots import FONT, INK, KEY, OTHER, QUERY, WRONG, Picture, canvas, name_axes, tint

GRADIENT = "#8C3A6B"  # the purple of the palette, darkened so that text in it reads on white
GREY = "#777777"
_WIDTH, _HEIGHT = 1.5, 0.86  # of a box
Edge = tuple[str, str]


@dataclass(frozen=True)
class Panel:
    """One drawing of a graph: its title, the gradients in its boxes, and what is written beside its arrows.

    ``sent`` labels the dashed arrows back, by (parent, child); ``along`` the arrows forward. Boxes named in ``wrong``
    are framed in vermillion.
    """

    title: str = ""
    grads: Mapping[str, float] = field(default_factory=dict)
    along: Mapping[Edge, str] = field(default_factory=dict)
    sent: Mapping[Edge, str] = field(default_factory=dict)
    wrong: Sequence[str] = ()


def graph(
    places: Mapping[str, tuple[float, float]],
    names: Mapping[str, str],
    values: Mapping[str, float],
    edges: Sequence[Edge],
    *panels: Panel,
) -> Picture:
    """Draw a computation graph, once for each panel: values forward, gradients backward.

    Args:
        places: where each tensor stands, in units of 100 pixels.
        names: what is written in each box, such as "u = a · b".
        values: the number in each box.
        edges: (parent, child), one for each arrow.
        panels: what differs from drawing to drawing; none is one drawing of values alone.
    """
    panels = panels or (Panel(),)
    across = max(x for x, _ in places.values()) + _WIDTH + 0.3
    up = max(y for _, y in places.values()) + _HEIGHT + 0.3
    extra = 0.3 if any(panel.title for panel in panels) else 0
    picture, axes = canvas(across * len(panels), up + extra, columns=len(panels))
    for ax, panel in zip(axes, panels, strict=True):
        for edge in edges:
            _connect(ax, places, edge, panel)
        for name, place in places.items():
            _box(ax, place, names[name], values[name], panel.grads.get(name), name in panel.wrong)
        ax.set(xlim=(-_WIDTH / 2 - 0.15, across - _WIDTH / 2 - 0.15))
        ax.set(ylim=(-_HEIGHT / 2 - 0.15, up - _HEIGHT / 2 - 0.15), aspect="equal")
        ax.set_title(panel.title, fontsize=FONT + 1, color=INK, loc="left")
        ax.axis("off")
    picture.alt = " ".join(_described(names, values, edges, panel) for panel in panels)
    return picture


def _box(ax: Axes, place, text: str, value: float, grad: float | None, wrong: bool) -> None:
    x, y = place
    shape = FancyBboxPatch(
        (x - _WIDTH / 2, y - _HEIGHT / 2), _WIDTH, _HEIGHT, boxstyle="round,pad=0,rounding_size=0.1",
        facecolor=tint(GREY, 0.13), edgecolor=WRONG if wrong else GREY, lw=2.4 if wrong else 1.2, zorder=3,
    )  # fmt: skip
    ax.add_patch(shape)
    shift = 0.26 if grad is not None else 0.15
    style = {"ha": "center", "va": "center", "zorder": 4}
    ax.text(x, y + shift, text, fontsize=FONT, color=INK, **style)
    ax.text(x, y + shift - 0.27, f"{value:g}", fontsize=FONT + 1, color=INK, weight="bold", **style)
    if grad is not None:
        ax.text(x, y - 0.28, f"grad {grad:g}", fontsize=FONT, color=GRADIENT, weight="bold", **style)


def _connect(ax: Axes, places, edge: Edge, panel: Panel) -> None:
    (x0, y0), (x1, y1) = places[edge[0]], places[edge[1]]
    length = np.hypot(x1 - x0, y1 - y0)
    along, aside = np.array([x1 - x0, y1 - y0]) / length, np.array([y0 - y1, x1 - x0]) / length
    back = edge in panel.sent
    for forward in (True, False) if back else (True,):
        offset = aside * (0.09 if forward else -0.09) * back
        start, end = _border(places[edge[0]], along, offset), _border(places[edge[1]], -along, offset)
        arrow = FancyArrowPatch(
            *((start, end) if forward else (end, start)), arrowstyle="-|>", mutation_scale=11, shrinkA=1, shrinkB=1,
            color=INK if forward else GRADIENT, lw=1 if forward else 1.5, ls="-" if forward else (0, (4, 2)), zorder=2,
        )  # fmt: skip
        ax.add_patch(arrow)
        text = (panel.along if forward else panel.sent).get(edge)
        if text:
            frame = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}
            middle, colour = (start + end) / 2, INK if forward else GRADIENT
            ax.text(
                *middle, text, ha="center", va="center", fontsize=FONT, color=colour, bbox=frame, zorder=5
            )


def _border(place, direction: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Where a line from beside the middle of a box leaves the box, in this direction."""
    reach = [
        (size / 2 - np.sign(d) * shift) / abs(d) if d else np.inf
        for size, d, shift in zip((_WIDTH, _HEIGHT), direction, offset, strict=True)
    ]
    return np.array(place) + offset + min(reach) * direction


def _described(names, values, edges: Sequence[Edge], panel: Panel) -> str:
    boxes = [
        f"{text}: {values[name]:g}" + (f", gradient {panel.grads[name]:g}" if name in panel.grads else "")
        for name, text in names.items()
    ]
    arrows = [
        f"{parent} to {child}"
        + (f" ({panel.along[parent, child]})" if (parent, child) in panel.along else "")
        for parent, child in edges
    ]
    back = [f"{child} to {parent}: {text}" for (parent, child), text in panel.sent.items()]
    title = panel.title or "Computation graph"
    sent = f" Sent back: {'; '.join(back)}." if back else ""
    wrong = f" Wrong and framed: {', '.join(panel.wrong)}." if panel.wrong else ""
    return f"{title}. {'; '.join(boxes)}. Arrows: {', '.join(arrows)}.{sent}{wrong}"


def broadcast_backward(b: np.ndarray, grad: np.ndarray) -> Picture:
    """Draw a row that is copied into every row of a matrix, and the gradients of the copies, summed down to it."""
    rows, columns = grad.shape
    sums = grad.sum(axis=0)
    told = ", ".join(f"{n:g}" for n in sums)
    alt = (
        f"Left, forward: the row b with {columns} entries is copied into {rows} rows. Right, "
        f"backward: the gradient has {rows} rows, one a copy; summed down each column they give the gradient of b, "
        f"({told})."
    )
    picture, axes = canvas(8.6, 3.0, columns=2, alt=alt)
    copies = np.broadcast_to(b, grad.shape)
    for ax, top, below, colour, title in (
        (axes[0], b, copies, INK, "forward: b is copied"),
        (axes[1], sums, grad, GRADIENT, "backward: its copies' gradients add up"),
    ):
        forward = ax is axes[0]
        for row in range(-1, rows):
            for column in range(columns):
                number = top[column] if row < 0 else below[row, column]
                y = -1.7 if row < 0 else row
                face = tint(GREY if forward else OTHER, 0.35 if row < 0 else 0.13)
                ax.add_patch(Rectangle((column, y), 1, 1, facecolor=face, edgecolor="white", lw=1.5))
                ax.text(
                    column + 0.5, y + 0.5, f"{number:g}", ha="center", va="center", color=colour, fontsize=FONT,
                    weight="bold" if row < 0 else "normal",
                )  # fmt: skip
        for column in range(columns):
            ends = ((column + 0.5, -0.67), (column + 0.5, -0.05))
            style = {"arrowstyle": "-|>", "color": colour, "lw": 1.4, "ls": "-" if forward else (0, (4, 2))}
            ax.annotate(
                "", ends[1] if forward else ends[0], ends[0] if forward else ends[1], arrowprops=style
            )
        words = ("b", f"({columns},)", "copies", f"({rows}, {columns})")
        if not forward:
            words = ("gradient of b", "= column sums", "gradient of", "the copies")
        for y, text in zip((-1.35, -0.95, rows / 2 - 0.2, rows / 2 + 0.2), words, strict=True):
            ax.text(-0.2, y, text, ha="right", va="center", color=colour, fontsize=FONT)
        ax.set(xlim=(-2.3, columns + 0.1), ylim=(rows + 0.1, -1.8))
        ax.set_title(title, fontsize=FONT + 1, color=INK, loc="left")
        ax.axis("off")
    return picture


def passes(inputs: Sequence[int], counts: Mapping[str, Sequence[int]]) -> Picture:
    """Draw how many passes through a program each way of finding all slopes takes, against the number of inputs."""
    ends = "; ".join(f"{name}: {count[-1]:,}" for name, count in counts.items())
    alt = f"Line chart, both axes logarithmic: passes against the number of inputs. At {inputs[-1]:,} inputs, {ends}."
    picture, (ax,) = canvas(6.4, 3.3, alt=alt)
    styles = [(WRONG, "s", ":"), (KEY, "^", "--"), (QUERY, "o", "-")]
    for (name, count), (colour, marker, line) in zip(counts.items(), styles, strict=True):
        ax.plot(inputs, count, color=colour, marker=marker, ms=5, ls=line, lw=1.8, label=name)
    ax.set(xscale="log", yscale="log")
    ax.minorticks_off()
    ax.legend(fontsize=FONT - 1, frameon=False)
    name_axes(ax, "inputs (parameters)", "passes through the program")
    return picture


def difference_errors(eps: Sequence[float], errors: Mapping[str, Sequence[float]]) -> Picture:
    """Draw the error of numerical derivatives against the size of the nudge."""
    best = "; ".join(
        f"{name}: least {min(error):.1g} at eps {eps[int(np.argmin(error))]:.0e}"
        for name, error in errors.items()
    )
    alt = f"Line chart, both axes logarithmic: error against eps, V-shaped. {best}."
    picture, (ax,) = canvas(6.4, 3.3, alt=alt)
    styles = [(WRONG, "s", "--"), (QUERY, "o", "-"), (GREY, "^", ":")]
    for (name, error), (colour, marker, line) in zip(errors.items(), styles, strict=False):
        ax.plot(eps, error, color=colour, marker=marker, ms=4, ls=line, lw=1.8, label=name)
    ax.set(xscale="log", yscale="log")
    ax.minorticks_off()
    ax.legend(fontsize=FONT - 1, frameon=False)
    name_axes(ax, "size of the nudge, eps", "error of the derivative")
    return picture


def fits(x, y, curve, others, losses, other_losses, apart: float) -> Picture:
    """Draw the curve that the learner's autograd has fitted, PyTorch's beside it, and both losses against the step."""
    alt = (
        f"Left: {len(x)} noisy points and the curve fitted through them; circles, PyTorch's values, lie on it. Right: "
        f"the loss against the step, from {losses[0]:.2f} down to {losses[-1]:.3f}, PyTorch's circles on the "
        f"line. The parameters differ by {apart:.0e} at most."
    )
    picture, (left, right) = canvas(8.8, 3.5, columns=2, alt=alt)
    left.scatter(x, y, s=14, color="#999999", marker="x", lw=1, label="data")
    left.plot(x, curve, color=QUERY, lw=2, label="your autograd")
    circle = {"ls": "none", "marker": "o", "ms": 7, "mfc": "none", "mec": WRONG, "mew": 1.4}
    left.plot(x[::6], others[::6], **circle, label="PyTorch")
    left.legend(fontsize=FONT - 1, frameon=False)
    name_axes(left, "x", "y", f"parameters apart by {apart:.0e} at most")
    steps = np.arange(len(losses))
    right.plot(steps, losses, color=QUERY, lw=2)
    some = np.unique(np.geomspace(1, len(losses), 14).astype(int)) - 1
    right.plot(steps[some], np.asarray(other_losses)[some], **circle)
    right.set(yscale="log")
    right.minorticks_off()
    name_axes(right, "step", "loss (mean squared error)", f"loss after {len(losses)} steps: {losses[-1]:.4f}")
    return picture
