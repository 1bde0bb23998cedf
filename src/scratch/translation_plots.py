"""The charts of unit 13, in the visual language of ``scratch.plots``."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from torch import Tensor

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
    WRONG,
    Picture,
    attention_map,
    canvas,
    name_axes,
)  # fmt: skip
from scratch.training_plots import STYLES
from scratch.translation import Batch


def padding(panels: Mapping[str, Sequence[Batch]], pad: int = 0) -> Picture:
    """Draw the sources of some batches as rectangles of tokens, one panel for each way of making them.

    Tokens are green, padding is grey and hatched; batches stand below one another.
    """
    shares = {title: _share(batches, pad) for title, batches in panels.items()}
    said = "; ".join(f"{title}: {share:.0%} of the places are padding" for title, share in shares.items())
    alt = f"Batches as rectangles of tokens, rows are sources. {said}."
    picture, axes = canvas(4.4 * len(panels), 3.6, columns=len(panels), alt=alt)
    widest = max(source.shape[1] for batches in panels.values() for source, _ in batches)
    for ax, (title, batches) in zip(axes, panels.items(), strict=True):
        top = 0.0
        for source, _ in batches:
            rows, columns = source.shape
            ax.add_patch(
                Rectangle((0, top), columns, rows, facecolor=MASKED, edgecolor="#777777", hatch=HATCH, lw=0)
            )
            for row, length in enumerate((source != pad).sum(dim=1).tolist()):
                ax.add_patch(Rectangle((0, top + row), length, 1, facecolor=VALUE, edgecolor="white", lw=0.3))
            ax.add_patch(Rectangle((0, top), columns, rows, fill=False, edgecolor=INK, lw=1.2))
            top += rows + 4
        ax.set(xlim=(-0.2, widest + 0.4), ylim=(top, -2), yticks=[])
        ax.spines["left"].set_visible(False)
        name_axes(ax, "place in the source", "", f"{title}: {shares[title]:.0%} padding")
    axes[0].set_ylabel("batches, one row a sentence", fontsize=FONT)
    return picture


def _share(batches: Sequence[Batch], pad: int) -> float:
    sources = [source for source, _ in batches]
    return sum(int((s == pad).sum()) for s in sources) / sum(s.numel() for s in sources)


def distributions(panels: Mapping[str, Sequence[float]], tokens: Sequence[str], right: str) -> Picture:
    """Draw target distributions side by side, one bar a token; the right token is green, padding hatched."""
    told = "; ".join(
        f"{title}: " + ", ".join(f"{token} {q:.2f}" for token, q in zip(tokens, values, strict=True))
        for title, values in panels.items()
    )
    picture, axes = canvas(
        3.2 * len(panels), 2.7, columns=len(panels), alt=f"Bars: target distributions. {told}."
    )
    for ax, (title, values) in zip(axes, panels.items(), strict=True):
        for place, (token, value) in enumerate(zip(tokens, values, strict=True)):
            colour, hatch = (
                (VALUE, "") if token == right else (MASKED, HATCH) if "pad" in token else (SKY, "")
            )
            ax.bar(place, value, color=colour, hatch=hatch, edgecolor="#555555", lw=0.6)
            ax.text(place, value + 0.02, f"{value:.3g}", ha="center", fontsize=FONT - 2, color=INK)
        ax.set_xticks(range(len(tokens)), tokens, rotation=30, ha="right", fontsize=FONT - 1)
        ax.set_ylim(0, 1.12)
        name_axes(ax, "", "q" if ax is axes[0] else "", title)
    return picture


def rates(lines: Mapping[str, Sequence[float]], every: int = 1) -> Picture:
    """Draw learning rates against the step."""
    said = "; ".join(
        f"{name}: highest {max(values):.2g} at step {1 + every * int(np.argmax(values))}, {values[-1]:.2g} at the end"
        for name, values in lines.items()
    )
    picture, (ax,) = canvas(6.4, 3.1, alt=f"Line chart, learning rate against step. {said}.")
    for (name, values), (colour, _, dash) in zip(lines.items(), STYLES, strict=False):
        ax.plot(1 + every * np.arange(len(values)), values, color=colour, ls=dash, lw=1.8, label=name)
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=FONT - 1, frameon=False)
    name_axes(ax, "step n", "learning rate")
    return picture


def learning(
    losses: Mapping[str, Sequence[float]],
    scores: Mapping[str, Sequence[tuple[int, float]]],
    best: int | None = None,
) -> Picture:
    """Draw the loss in training, as means of ten steps, beside BLEU on the validation part; ``best`` is marked."""
    said = "; ".join(
        f"{name}: loss from {np.mean(v[:10]):.2f} to {np.mean(v[-10:]):.2f}" for name, v in losses.items()
    )
    told = "; ".join(
        f"{name}: {points[-1][1]:.0f} at step {points[-1][0]}" for name, points in scores.items() if points
    )
    alt = f"Two line charts against the step. {said}. BLEU on validation, {told}."
    picture, (left, right) = canvas(9.2, 3.3, columns=2, alt=alt)
    for (name, values), (colour, marker, dash) in zip(losses.items(), STYLES, strict=False):
        means = np.reshape(values[: len(values) // 10 * 10], (-1, 10)).mean(axis=1)
        left.plot(10 * np.arange(1, len(means) + 1), means, color=colour, ls=dash, lw=1.5, label=name)
        if scores[name]:
            steps, points = zip(*scores[name], strict=True)
            right.plot(steps, points, color=colour, marker=marker, ms=4, ls=dash, lw=1.5, label=name)
    if best:
        right.axvline(best, color=INK, lw=1, ls=":")
        right.annotate(
            "best", (best, 2), xytext=(-4, 0), textcoords="offset points", ha="right", fontsize=FONT - 1
        )
    if len(losses) > 1:
        left.legend(fontsize=FONT - 1, frameon=False)
    right.set_ylim(0, 104)
    name_axes(left, "step", "smoothed loss", "on what it learns from")
    name_axes(right, "step", "BLEU", "on the validation part")
    return picture


def bars(panels: Mapping[str, Mapping[str, float]], *, percent: Sequence[str] = ()) -> Picture:
    """Draw one panel of horizontal bars for each measure; shares of one for those named in ``percent``."""
    told = "; ".join(
        f"{title}: "
        + ", ".join(f"{name} {_number(value, title in percent)}" for name, value in values.items())
        for title, values in panels.items()
    )
    count = max(map(len, panels.values()))
    picture, axes = canvas(4.6 * len(panels), 0.9 + 0.42 * count, columns=len(panels), alt=f"Bars. {told}.")
    for ax, (title, values) in zip(axes, panels.items(), strict=True):
        shares = title in percent
        for place, (value, colour) in enumerate(
            zip(values.values(), (QUERY, KEY, VALUE, OTHER, SKY, WRONG), strict=False)
        ):
            ax.barh(place, value, color=colour, height=0.62)
            ax.text(value, place, f" {_number(value, shares)}", va="center", fontsize=FONT - 1, color=INK)
        ax.set_yticks(range(len(values)), list(values) if ax is axes[0] else [""] * len(values), color=INK)
        ax.invert_yaxis()
        ax.set_xlim(0, 1.18 * max(values.values()))
        if shares:
            ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        name_axes(ax, "", "", title)
    return picture


def _number(value: float, share: bool) -> str:
    return f"{value:.0%}" if share else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def look_up(
    read: Sequence[str],
    written: Sequence[str],
    weights: Float[Tensor, "H T S"],
    title: str = "",
    heads: bool = False,
) -> Picture:
    """Draw which source token was looked at for each token written: the mean of the heads, or each head."""
    names = [token.strip() or "␣" for token in read], [token.strip() or "␣" for token in written]
    if not heads:
        mean = weights.mean(dim=0)
        axes_names = ("token read (key)", "token written (query)")
        return attention_map(mean, names[1], names[0], title=title, axes_names=axes_names)
    width = 0.9 + len(weights) * (0.5 + 0.3 * len(read))
    picture, axes = canvas(min(width, 9.6), 1.7 + 0.34 * len(written), columns=len(weights))
    for head, ax in enumerate(axes):
        shown = names[1] if not head else [""] * len(written)
        attention_map(weights[head], shown, names[0], title=f"head {head}", ax=ax, bar=ax is axes[-1])
        if head:
            ax.set_ylabel("")
    picture.alt = (
        f"{title}. Attention weights of {len(weights)} heads over {', '.join(names[0])}: "
        + "; ".join(
            f"head {h}: "
            + ", ".join(
                f"{w} looks at {names[0][int(i)]}" for w, i in zip(names[1], part.argmax(-1), strict=True)
            )
            for h, part in enumerate(torch.as_tensor(weights))
        )
    )
    return picture


def by_length(
    lengths: Sequence[int], shares: Mapping[str, Sequence[float]], counts: Sequence[int]
) -> Picture:
    """Draw the share of exact translations against the length of the source, with the number of examples below."""
    said = "; ".join(
        f"{name}: " + ", ".join(f"{share:.0%} at {n}" for n, share in zip(lengths, values, strict=True))
        for name, values in shares.items()
    )
    picture, (ax,) = canvas(
        6.4, 3.2, alt=f"Line chart, share exactly right against words in the source. {said}."
    )
    for (name, values), (colour, marker, dash) in zip(shares.items(), STYLES, strict=False):
        ax.plot(lengths, values, color=colour, marker=marker, ms=5, ls=dash, lw=1.6, label=name)
    ax.set_xticks(lengths, [f"{n}\n({count})" for n, count in zip(lengths, counts, strict=True)])
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if len(shares) > 1:
        ax.legend(fontsize=FONT - 1, frameon=False)
    name_axes(ax, "words in the source (held-out pairs)", "exactly right")
    return picture
