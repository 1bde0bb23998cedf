"""The drawings and charts of unit 14, in the visual language of ``scratch.plots`` and ``scratch.blocks``."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor

from scratch.blocks import RADIUS, sheet
from scratch.plots import (
    FONT,
    HATCH,
    INK,
    KEY,
    MASKED,
    QUERY,
    VALUE,
    WRONG,
    Picture,
    canvas,
    name_axes,
    tint,
)

MODELS = {"bigram": ("#999999", "//"), "recurrent (GRU)": (KEY, "xx"), "GPT": (QUERY, "")}


def shown(character: str) -> str:
    """A character as it can be read in a figure."""
    return {" ": "␣", "\n": "⏎"}.get(character, character)


def decoder_only() -> Picture:
    """Draw GPT: tokens and positions, N layers of causal self-attention and feed-forward net, and the table again."""
    alt = (
        "A decoder-only Transformer, data going up. Tokens are embedded, positions added; then N pre-norm "
        "layers of causal self-attention and feed-forward net, each with a residual connection; a last norm, the "
        "embedding table turned round, and a softmax give probabilities of the next token. There is no encoder and no "
        "cross-attention."
    )
    picture, (drawing,) = sheet(6.2, 6.6, alt=alt)
    tokens = drawing.block("data", 0.0, 0.1, "tokens so far  (B, T)")
    vectors = drawing.block("embedding", 0.0, 0.9, "embedding")
    place = drawing.block("positions", 0.0, 1.62)
    drawing.write(-0.3, 1.62, "positions", align="right")
    drawing.arrow((0.0, tokens.top[1] - 0.1), vectors.bottom)
    drawing.arrow(vectors.top, place.bottom)
    parts = [("norm", "norm"), ("attention", "causal self-attention"), ("add", "")]
    parts += [("norm", "norm"), ("feed-forward", "feed-forward"), ("add", "")]
    layer = drawing.tower(0.0, 2.4, parts, start=(0.0, 1.62 + RADIUS))
    drawing.frame(-1.85, 2.02, 1.55, layer[-1].top[1] + 0.14, "N ×")
    drawing.write(1.75, layer[1].y, "each position looks back,\nat nothing but its own text", align="left")
    drawing.write(1.75, layer[4].y, "each position by itself", align="left")
    ends = [("norm", "norm"), ("linear", "linear (tied)"), ("softmax", "softmax")]
    end = drawing.tower(0.0, layer[-1].top[1] + 0.5, ends, start=layer[-1].top)
    drawing.arrow(end[-1].top, (0.0, end[-1].top[1] + 0.3))
    drawing.write(0.0, end[-1].top[1] + 0.45, "next token  (B, T, V)")
    drawing.fit(-2.5, -0.2, 4.6, end[-1].top[1] + 0.65)
    return picture


def perplexities(values: Mapping[str, float], size: int) -> Picture:
    """Draw the perplexity of each model as a bar, beside that of a guess among ``size`` characters."""
    values = {"a guess": float(size), **values}
    told = "; ".join(f"{name} {value:.1f}" for name, value in values.items())
    picture, (ax,) = canvas(6.4, 2.6, alt=f"Bars, perplexity on plays not seen in training: {told}.")
    for y, (name, value) in enumerate(values.items()):
        colour, hatch = MODELS.get(name, (MASKED, HATCH))
        ax.barh(y, value, color=tint(colour, 0.55), edgecolor=colour, hatch=hatch, height=0.66)
        ax.text(value + size / 80, y, f"{value:.1f}", va="center", fontsize=FONT, color=INK)
    ax.set_yticks(range(len(values)), list(values), fontsize=FONT, color=INK)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.1 * size)
    name_axes(ax, "perplexity: characters it hesitates between", "")
    return picture


def choices(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str], most: int = 26
) -> Picture:
    """Draw who may be drawn: for each title, the likeliest tokens, those that a cut has left and some behind them.

    Each panel is a pair of arrays (V,): probabilities before, and after, zero for what was cut off. ``most`` tokens are
    shown at most.
    """
    top = min(most, 4 + max(int((np.asarray(after) > 0).sum()) for _, after in panels.values()))
    picture, axes = canvas(3.4 * len(panels) + 0.6, 1.1 + 0.2 * top, columns=len(panels))
    told = []
    for ax, (title, (before, after)) in zip(axes, panels.items(), strict=True):
        before, after = np.asarray(before), np.asarray(after)
        order = np.argsort(-before, kind="stable")[:top]
        kept = after > 0
        for y, i in enumerate(order):
            style = (
                {"color": tint(QUERY, 0.6), "edgecolor": QUERY}
                if kept[i]
                else {"color": MASKED, "edgecolor": "#777777", "hatch": HATCH}
            )
            ax.barh(y, after[i] if kept[i] else before[i], height=0.72, **style)
        ax.set_yticks(range(len(order)), [shown(names[i]) for i in order], fontsize=FONT, color=INK)
        ax.invert_yaxis()
        ax.set_xlim(0, 1.06 * max(after.max(), before.max()))
        name_axes(ax, "probability", "", title)
        shares = ", ".join(f"{shown(names[i])} {after[i]:.2f}" for i in order[:4] if kept[i])
        told.append(
            f"{title}: {int(kept.sum())} of {len(before)} tokens may be drawn, the likeliest {shares}."
        )
    picture.alt = "Bars, probability by token, those cut off hatched. " + " ".join(told)
    return picture


def diversity(
    p: Sequence[float], shares: Sequence[float], surprises: Sequence[float], real: tuple[float, float]
):
    """Draw against p how many words differ, and how surprising the texts are to the model; dashed, real text."""
    told = "; ".join(f"p = {x:g}: {a:.0%} and {b:.2f}" for x, a, b in zip(p, shares, surprises, strict=True))
    alt = (
        f"Two line charts against p. Left, the share of words that differ; right, the mean surprise in nats. {told}. "
        f"In real text {real[0]:.0%} and {real[1]:.2f}, dashed."
    )
    picture, axes = canvas(8.4, 3.2, columns=2, alt=alt)
    titles = ("do words differ?", "how likely is the text?")
    names = ("share of different words", "mean surprise (nats)")
    for ax, values, line, title, name in zip(axes, (shares, surprises), real, titles, names, strict=True):
        ax.plot(p, values, color=QUERY, marker="o", ms=5, lw=1.6)
        ax.axhline(line, color=VALUE, ls="--", lw=1.4)
        ax.text(p[0], line, "real text", color="#006B4E", fontsize=FONT - 1, va="bottom", ha="left")
        ax.set_ylim(0, 1.15 * max(*values, line))
        name_axes(ax, "p", name, title)
    return picture


def latency(lengths: Sequence[int], times: Mapping[str, Sequence[float]]) -> Picture:
    """Draw what a text of each length takes to write, and what its last token took: with and without a cache."""
    told = "; ".join(f"{name}: from {values[0]:.3g} to {values[-1]:.3g} s" for name, values in times.items())
    ratios = [a / b for a, b in zip(*times.values(), strict=True)]
    alt = (
        f"Two line charts against the number of tokens, {lengths[0]} to {lengths[-1]}. Left, seconds to write a text: "
        f"{told}. Right, how many times as fast it is with a cache: from {ratios[0]:.1f} to {ratios[-1]:.1f}."
    )
    picture, (left, right) = canvas(8.4, 3.2, columns=2, alt=alt)
    for (name, values), (colour, marker, dash) in zip(
        times.items(), ((WRONG, "s", "--"), (QUERY, "o", "-")), strict=True
    ):
        left.plot(lengths, values, color=colour, marker=marker, ls=dash, ms=5, lw=1.6, label=name)
    left.legend(fontsize=FONT - 1, frameon=False)
    right.plot(lengths, ratios, color=INK, marker="D", ms=5, lw=1.6)
    right.axhline(1, color="#777777", ls=":", lw=1)
    for ax, name, title in ((left, "seconds", "time for a text"), (right, "times as fast", "with a cache")):
        ax.set_ylim(bottom=0)
        ax.set_xticks(list(lengths))
        name_axes(ax, "tokens written", name, title)
    return picture


def recomputed(length: int = 7, prompt: int = 3) -> Picture:
    """Draw which attention scores are worked out for the newest token, without a cache and with one."""
    alt = (
        f"Two grids of queries by keys, a text of {length} tokens, {prompt} of them the prompt. Without a cache, "
        f"all {length * (length + 1) // 2} scores of the triangle are worked out again for the newest token. With "
        f"a cache, its {length} scores alone; the keys and values of the others are kept."
    )
    picture, axes = canvas(7.6, 3.5, columns=2, alt=alt)
    for ax, cached in zip(axes, (False, True), strict=True):
        for t in range(length):
            for s in range(length):
                style = {"facecolor": "white", "edgecolor": "#CCCCCC", "lw": 0.8}
                if s > t:
                    style |= {"facecolor": MASKED, "hatch": HATCH, "edgecolor": "#777777", "lw": 0}
                elif not cached or t == length - 1:
                    style |= {"facecolor": tint(QUERY, 0.55), "edgecolor": QUERY}
                ax.add_patch(Rectangle((s, t), 0.94, 0.94, **style))
        for s in range(length):
            kept = cached and s < length - 1
            colour = tint(KEY, 0.55) if kept else "white"
            ax.add_patch(
                FancyBboxPatch(
                    (s + 0.1, -1.25), 0.74, 0.7, boxstyle="round,pad=0.02", facecolor=colour, edgecolor=KEY
                )
            )
        told = (
            "keys and values: kept, but for the newest" if cached else "keys and values: all worked out again"
        )
        ax.text(length / 2, -1.75, told, ha="center", fontsize=FONT - 1, color=INK)
        ax.set(xlim=(-0.2, length + 0.2), ylim=(length + 0.1, -2.2), xticks=[], yticks=[])
        ax.set_aspect("equal")
        ax.spines[:].set_visible(False)
        name_axes(ax, "key", "query", "with a cache" if cached else "without")
    return picture


def beam_tree(
    score: Callable[[Tensor], Tensor], names: Sequence[str], *, width: int, limit: int, end: int | None = None
) -> Picture:
    """Draw the first steps of a beam search from one prompt, the token 0: what was kept, and what was thrown away."""
    beams: list[list[tuple[tuple[int, ...], float]]] = [[((), 0.0)]]
    levels = []
    for _ in range(limit):
        grown = []
        for text, log_p in beams[-1]:
            if text and text[-1] == end:
                grown.append((text, log_p, text))
                continue
            row = score(torch.tensor([[0, *text]])).log_softmax(-1)[0].tolist()
            grown += [((*text, token), log_p + more, text) for token, more in enumerate(row)]
        grown.sort(key=lambda item: -item[1])
        levels.append(grown)
        beams.append([(text, log_p) for text, log_p, _ in grown[:width]])
    tall = max(map(len, levels))
    picture, (ax,) = canvas(8.6, 0.7 + 0.36 * tall)
    places: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, (tall - 1) / 2)}
    ax.text(0.0, (tall - 1) / 2, "prompt", ha="center", va="center", fontsize=FONT, color=INK)
    told = []
    for depth, grown in enumerate(levels, start=1):
        kept = {text for text, _ in beams[depth]}
        shift = (tall - len(grown)) / 2
        here: dict[tuple[int, ...], tuple[float, float]] = {}
        order = sorted(grown, key=lambda item: (places[item[2]][1], item[0]))
        for place, (text, log_p, parent) in enumerate(order):
            on = text in kept
            x, y = 2.4 * depth, place + shift
            here[text] = (x, y)
            colour = QUERY if on else "#999999"
            ax.plot(
                [places[parent][0] + 0.62, x - 0.62],
                [places[parent][1], y],
                color=colour,
                lw=2.0 if on else 0.8,
            )
            face = tint(QUERY, 0.3) if on else "white"
            ax.add_patch(
                FancyBboxPatch(
                    (x - 0.58, y - 0.3), 1.16, 0.6, boxstyle="round,pad=0.02", facecolor=face, edgecolor=colour,
                    ls="-" if on else "--", lw=1.2,
                )
            )  # fmt: skip
            word = " ".join(names[i] for i in text)
            ax.text(x, y, f"{word}  {np.exp(log_p):.2f}", ha="center", va="center", fontsize=FONT - 1,
                    color=INK if on else "#555555")  # fmt: skip
        told.append(
            f"After {depth}: kept "
            + ", ".join(
                f"{' '.join(names[i] for i in text)} {np.exp(log_p):.2f}" for text, log_p in beams[depth]
            )
            + f"; thrown away {len(grown) - len(kept)}."
        )
        places = here
    ax.set(xlim=(-0.7, 2.4 * limit + 0.75), ylim=(tall - 0.5, -0.6))
    ax.axis("off")
    picture.alt = f"A tree of texts and their probabilities, beam of {width}. " + " ".join(told)
    return picture


def widths(values: Sequence[int], scores: Mapping[str, Sequence[float]]) -> Picture:
    """Draw the log-probability that beam search reaches against its width."""
    told = "; ".join(f"{name}: {', '.join(f'{s:.2f}' for s in row)}" for name, row in scores.items())
    alt = f"Line chart, log p of the best text found for widths {', '.join(map(str, values))}: {told}."
    picture, (ax,) = canvas(6.4, 3.0, alt=alt)
    for (name, row), (colour, marker, dash) in zip(
        scores.items(), ((QUERY, "o", "-"), (VALUE, "", "--")), strict=False
    ):
        ax.plot(values, row, color=colour, marker=marker, ls=dash, ms=5, lw=1.6, label=name)
    ax.set_xscale("log", base=3)
    ax.set_xticks(list(values), list(map(str, values)))
    ax.minorticks_off()
    ax.legend(fontsize=FONT - 1, frameon=False)
    name_axes(ax, "width of the beam", "log p of the text found")
    return picture
