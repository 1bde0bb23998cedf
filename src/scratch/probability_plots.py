"""The charts and maps of unit 02, in the visual language of ``scratch.plots``."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from scratch.plots import (
    FONT,
    INK,
    KEY,
    KEY_INK,
    QUERY,
    SKY,
    VALUE,
    WRONG,
    Picture,
    attention_map,
    canvas,
    name_axes,
    tint,
)

STYLES = [(QUERY, "o", "-"), (KEY, "s", "--"), (VALUE, "^", ":"), (WRONG, "D", "-.")]


def _legend(picture: Picture, ax: Axes, columns: int) -> None:
    picture.legend(
        *ax.get_legend_handles_labels(),
        loc="outside upper center",
        ncols=columns,
        fontsize=FONT - 1,
        frameon=False,
    )


def _listed(names: Sequence[str], numbers) -> str:
    return ", ".join(f"{name} {number:.2f}" for name, number in zip(names, numbers, strict=True))


def bars(names: Sequence[str], panels: Mapping[str, np.ndarray], y: str = "probability") -> Picture:
    """Draw distributions over the same outcomes side by side, on one scale, each height written above its bar."""
    alt = "Bar charts. " + " ".join(
        f"{title}: {_listed(names, heights)}." for title, heights in panels.items()
    )
    picture, axes = canvas(0.8 + 2.8 * len(panels), 2.9, columns=len(panels), alt=alt)
    for ax, (title, heights) in zip(axes, panels.items(), strict=True):
        ax.bar(names, heights, color=tint(QUERY, 0.55), edgecolor=QUERY)
        for i, height in enumerate(heights):
            ax.text(i, height, f"{height:.2f}", ha="center", va="bottom", fontsize=FONT - 2, color=INK)
        ax.set_ylim(0, 1.1 * max(map(np.max, panels.values())))
        ax.tick_params(axis="x", length=0, labelrotation=30)
        name_axes(ax, "outcome", y if ax is axes[0] else "", title)
    return picture


def dot_products(
    products: Mapping[int, np.ndarray], curves: Mapping[str, tuple[Sequence[int], np.ndarray]]
) -> Picture:
    """Draw how dot products spread for some widths d, and their variance against d for several kinds of vectors."""
    spreads = ", ".join(f"d = {d}: standard deviation {dots.std():.1f}" for d, dots in products.items())
    ends = "; ".join(
        f"{name}: {variance[-1]:.3g} at d = {widths[-1]}" for name, (widths, variance) in curves.items()
    )
    alt = f"Left, histograms of dot products, wider the larger d is: {spreads}. Right, variance against d. {ends}."
    picture, (left, right) = canvas(9.2, 3.5, columns=2, alt=alt)
    edges = np.linspace(-40, 40, 81)
    for (d, dots), (colour, _, line) in zip(products.items(), STYLES, strict=False):
        left.hist(dots, edges, density=True, histtype="step", color=colour, ls=line, lw=1.8, label=f"d = {d}")
    left.legend(fontsize=FONT - 1, frameon=False)
    name_axes(left, "dot product q · k", "share of draws", "spread")
    for (name, (widths, variance)), (colour, marker, line) in zip(curves.items(), STYLES, strict=False):
        right.plot(widths, variance, color=colour, marker=marker, ms=4, ls=line, lw=1.8, label=name)
    right.set_xscale("log", base=2)
    right.set_yscale("log", base=2)
    ticks = widths[::2]
    right.set_xticks(ticks, [str(d) for d in ticks])
    right.set_yticks([4**n for n in range(0, 11, 2)], [f"{4**n:,}" for n in range(0, 11, 2)])
    right.legend(fontsize=FONT - 1, frameon=False)
    name_axes(right, "width d", "variance", "variance against width")
    return picture


def two_axes(panels: Sequence[tuple], rows: Sequence[str], columns: Sequence[str]) -> Picture:
    """Draw tables of probabilities side by side, each (title, probabilities, numbers below or beside are sums)."""
    picture, axes = canvas(9.2, 2.9, columns=len(panels))
    for ax, (title, table) in zip(axes, panels, strict=True):
        names = ("next word", "beginning" if ax is axes[0] else "")
        attention_map(
            table,
            rows,
            columns,
            title=title,
            numbers=True,
            label="probability",
            axes_names=names,
            ax=ax,
            bar=ax is axes[-1],
        )
        ax.xaxis.label.set_color(INK)
        ax.yaxis.label.set_color(INK)
    return picture


def surprise(x: np.ndarray, entropy: np.ndarray, marks: Mapping[str, float]) -> Picture:
    """Draw the surprise -log p of an outcome, with some of them named, beside the entropy of a coin."""
    told = ", ".join(f"{name} (p = {p:.2g}): {-np.log(p):.2f}" for name, p in marks.items())
    alt = (
        f"Left, surprise falls from infinity at p = 0 to 0 at p = 1; {told}. Right, the entropy of a coin is 0 at both "
        f"ends and largest, {entropy.max():.2f} nats, at one half."
    )
    picture, (left, right) = canvas(9.2, 3.1, columns=2, alt=alt)
    left.plot(x, -np.log(x), color=QUERY, lw=1.8)
    for name, p in marks.items():
        left.plot(p, -np.log(p), "o", color=WRONG, ms=6)
        left.annotate(
            f"{name}: {-np.log(p):.2f}",
            (p, -np.log(p)),
            (7, 5),
            textcoords="offset points",
            fontsize=FONT - 1,
        )
    left.set_xlim(0, 1.12)
    name_axes(left, "probability p of what happened", "−log p  (nats)", "surprise")
    right.plot(x, entropy, color=VALUE, lw=1.8)
    right.axhline(np.log(2), color="#777777", ls=":", lw=1.2)
    right.text(0.02, np.log(2), "log 2", va="bottom", fontsize=FONT - 1, color=INK)
    right.set_ylim(0, 0.8)
    name_axes(right, "probability of heads", "entropy  (nats)", "average surprise of a coin")
    return picture


def temperature(
    taus: np.ndarray,
    entropies: np.ndarray,
    top: float,
    marks: Mapping[float, np.ndarray],
    names: Sequence[str],
) -> Picture:
    """Draw entropy against temperature, and the distribution at some temperatures."""
    each = " ".join(f"At {tau:g}: {_listed(names, p)}." for tau, p in marks.items())
    alt = (
        f"Left, entropy rises with the temperature, from {entropies[0]:.2f} at {taus[0]:.2g} towards its maximum, "
        f"log {len(names)} = {top:.2f}. Right, bars of the distributions. {each}"
    )
    picture, (left, right) = canvas(9.2, 3.3, columns=2, alt=alt)
    left.plot(taus, entropies, color=QUERY, lw=1.8)
    left.axhline(top, color="#777777", ls=":", lw=1.2)
    left.text(taus[0], top, f"log {len(names)}", va="bottom", fontsize=FONT - 1, color=INK)
    fills = [(tint(QUERY, 0.9), ""), (tint(KEY, 0.75), "///"), (tint(VALUE, 0.35), "...")]
    width = 0.8 / len(marks)
    for i, ((tau, p), (colour, hatch), (_, marker, _)) in enumerate(
        zip(marks.items(), fills, STYLES, strict=False)
    ):
        at = float(np.interp(np.log(tau), np.log(taus), entropies))
        left.plot(tau, at, marker, color=colour, markeredgecolor=INK, ms=8)
        left.annotate(f"τ = {tau:g}", (tau, at), (8, -12), textcoords="offset points", fontsize=FONT - 1)
        places = np.arange(len(names)) + (i - (len(marks) - 1) / 2) * width
        right.bar(places, p, width, color=colour, edgecolor=INK, hatch=hatch, lw=0.8, label=f"τ = {tau:g}")
    left.set_xscale("log")
    left.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    left.xaxis.set_minor_formatter(NullFormatter())
    left.set_ylim(0, top * 1.15)
    name_axes(left, "temperature τ", "entropy  (nats)", "entropy")
    right.set_xticks(range(len(names)), names)
    right.tick_params(axis="x", length=0)
    right.legend(fontsize=FONT - 1, frameon=False)
    name_axes(right, "next word", "probability", "the distribution at three temperatures")
    return picture


def soft_maximum(x: np.ndarray, soft: np.ndarray) -> Picture:
    """Draw log(exp(x) + exp(0)) beside max(x, 0)."""
    gap = np.max(soft - np.maximum(x, 0))
    alt = f"Log-sum-exp of x and 0 runs just above the larger of the two; the gap is largest, {gap:.2f}, at x = 0."
    picture, (ax,) = canvas(5.2, 2.9, alt=alt)
    ax.plot(x, soft, color=QUERY, lw=2, label="log(exp(x) + exp(0))")
    ax.plot(x, np.maximum(x, 0), color=WRONG, lw=1.8, ls="--", label="max(x, 0)")
    ax.legend(fontsize=FONT - 1, frameon=False)
    name_axes(ax, "x", "")
    return picture


def directions(x: np.ndarray, p: np.ndarray, fits: Mapping[str, np.ndarray]) -> Picture:
    """Draw a distribution with two bumps, and the single bumps that come closest to it in each direction of KL."""
    told = "; ".join(f"{name}: highest at {x[q.argmax()]:g}" for name, q in fits.items())
    alt = f"A distribution p with two bumps, and two fits of one bump. {told}. The first is broad and covers both."
    picture, axes = canvas(9.2, 3.0, columns=len(fits), alt=alt)
    for ax, (name, q), (colour, _, line) in zip(axes, fits.items(), [STYLES[3], STYLES[0]], strict=True):
        ax.bar(x, p, width=0.9, color="#DDDDDD", edgecolor="#888888", lw=0.8, label="p, the truth")
        ax.plot(x, q, color=colour, ls=line, lw=2, marker=".", ms=5, label="q, the fit")
        ax.set_ylim(0, 1.15 * max(p.max(), *(q.max() for q in fits.values())))
        ax.legend(fontsize=FONT - 1, frameon=False)
        name_axes(ax, "outcome", "probability" if ax is axes[0] else "", name)
    return picture


def likelihood(theta: np.ndarray, curves: Mapping[str, np.ndarray]) -> Picture:
    """Draw the average surprise at the data against the model's parameter, and mark each lowest point."""
    told = "; ".join(f"{name}: lowest at {theta[curve.argmin()]:.2f}" for name, curve in curves.items())
    alt = f"Average surprise against the probability of heads that the model assumes. {told}."
    picture, (ax,) = canvas(6.4, 3.3, alt=alt)
    for (name, curve), (colour, marker, line) in zip(curves.items(), STYLES, strict=False):
        ax.plot(theta, curve, color=colour, ls=line, lw=1.8, label=name)
        ax.plot(theta[curve.argmin()], curve.min(), marker, color=colour, ms=8, markeredgecolor=INK)
    ax.set_ylim(0, 2.0)
    ax.legend(fontsize=FONT - 1, frameon=False, loc="upper center")
    name_axes(ax, "θ, the model's probability of heads", "average surprise  (nats)")
    return picture


def staircase(names: Sequence[str], p: np.ndarray, draws: Mapping[float, int]) -> Picture:
    """Draw the cumulative probabilities as stairs, and how uniform numbers are looked up in them."""
    told = ", ".join(f"{u:g} leads to {names[k]}" for u, k in draws.items())
    alt = f"Stairs that rise from 0 to 1, one step for each word, as high as its probability. {told}."
    picture, (ax,) = canvas(6.8, 3.5, alt=alt)
    top = np.cumsum(p)
    ax.bar(range(len(p)), p, 1.0, bottom=top - p, color=tint(SKY, 0.45), edgecolor=QUERY)
    for (u, k), (colour, marker, line) in zip(draws.items(), [STYLES[3], STYLES[2], STYLES[1]], strict=False):
        ink = KEY_INK if colour == KEY else colour
        ax.annotate(
            "", (k, u), (-0.75, u), arrowprops={"arrowstyle": "-", "color": ink, "ls": line, "lw": 1.6}
        )
        ax.annotate("", (k, 0), (k, u), arrowprops={"arrowstyle": "-|>", "color": ink, "ls": line, "lw": 1.6})
        ax.plot(-0.75, u, marker, color=ink, ms=7, clip_on=False)
        ax.text(-0.6, u + 0.015, f"u = {u:g}", fontsize=FONT - 1, color=ink, va="bottom")
    ax.set(xlim=(-0.75, len(p) - 0.4), ylim=(0, 1.02))
    ax.set_xticks(range(len(p)), names)
    name_axes(ax, "next word", "cumulative probability")
    return picture


def what_a_word_tells(tells: Mapping[str, float], losses: Mapping[str, float], title: str) -> Picture:
    """Draw what the words of a bigram model tell about the next one, and how well the model foresees new lines."""
    most, least = list(tells)[:9], list(tells)[9:][-4:]
    words = most + least
    first, last = words[0], words[-1]
    told = "; ".join(f"{name} {loss:.2f}" for name, loss in losses.items())
    alt = (
        f"Left, KL divergence of what follows a word from what is common in {title}: {first} tells most, "
        f"{tells[first]:.2f} nats, {last} least, {tells[last]:.2f}. Right, cross-entropy on lines kept aside: {told}."
    )
    picture, (left, right) = canvas(9.2, 3.7, columns=2, alt=alt)
    places = [*range(len(most)), *(10 + i for i in range(len(least)))]
    colours = [tint(QUERY, 0.6)] * len(most) + [tint(KEY, 0.5)] * len(least)
    left.barh(places, [tells[word] for word in words], color=colours, edgecolor=INK, lw=0.6)
    left.set_yticks(places, [f"“{word}”" for word in words])
    left.invert_yaxis()
    left.tick_params(axis="y", length=0)
    name_axes(left, "KL(next word ‖ any word)  in nats", "", "what a word tells about the next")
    names = list(losses)
    right.barh(names, list(losses.values()), color=tint(VALUE, 0.5), edgecolor=INK, lw=0.6, height=0.55)
    for i, loss in enumerate(losses.values()):
        right.text(
            loss - 0.1,
            i,
            f"{loss:.2f}: as one of {np.exp(loss):.0f}",
            ha="right",
            va="center",
            fontsize=FONT - 1,
        )
    right.invert_yaxis()
    right.tick_params(axis="y", length=0)
    name_axes(right, "cross-entropy on new lines  (nats)", "", "foreseen by")
    return picture
