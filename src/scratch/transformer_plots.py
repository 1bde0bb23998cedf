"""The drawings and charts of unit 12, in the visual language of ``scratch.plots`` and ``scratch.blocks``."""

import inspect
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import Tensor, nn

from scratch.attention import attention_scores, attention_weights
from scratch.blocks import STEP, Block, Drawing, decoder_layer_parts, sheet
from scratch.multi_head_attention import split_heads
from scratch.plots import (
    FONT,
    INK,
    KEY,
    OTHER,
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


def _row(ax: Axes, y: float, tokens: Sequence[str], colour: str, name: str) -> None:
    """Write tokens into cells side by side, and the row's name to their left."""
    ax.text(-0.25, y + 0.4, name, ha="right", va="center", fontsize=FONT, color=INK)
    for i, token in enumerate(tokens):
        cell = Rectangle((i + 0.04, y), 0.92, 0.8, facecolor=tint(colour, 0.3), edgecolor=colour, lw=1.2)
        ax.add_patch(cell)
        ax.text(i + 0.5, y + 0.4, token, ha="center", va="center", fontsize=FONT, color=INK)


def shifted(source: Sequence[str], target: Sequence[str], start: str = "⟨s⟩", end: str = "⟨/s⟩") -> Picture:
    """Draw what the decoder reads and what it is to say: the target, shifted by one."""
    read, say = [start, *target], [*target, end]
    alt = (
        f"Three rows of tokens. The encoder reads {' '.join(source)}. The decoder reads {' '.join(read)}. It is to say "
        f"{' '.join(say)}: under each token the one that follows it. Dotted arrows lead from each token that is said "
        "to the next that is read: in writing, that is where it goes."
    )
    picture, (ax,) = canvas(7.4, 2.6, alt=alt)
    _row(ax, 3.1, source, KEY, "encoder reads")
    _row(ax, 1.6, read, QUERY, "decoder reads")
    _row(ax, 0.0, say, VALUE, "and is to say")
    for t in range(len(read)):
        down = FancyArrowPatch(
            (t + 0.5, 1.58), (t + 0.5, 0.84), arrowstyle="-|>", mutation_scale=9, color=INK
        )
        ax.add_patch(down)
        if t + 1 < len(read):
            up = FancyArrowPatch(
                (t + 0.85, 0.84), (t + 1.3, 1.57), arrowstyle="-|>", mutation_scale=8, color="#777777", ls=":"
            )
            ax.add_patch(up)
    ax.set(xlim=(-2.3, max(len(read), len(source)) + 0.1), ylim=(-0.15, 4.0))
    ax.axis("off")
    return picture


def decoder_layers() -> Picture:
    """Draw the decoder layer twice: norms behind the sums, as in 2017, and norms in front."""
    alt = (
        "Two decoder layers, data flowing upwards. Both have causal self-attention, cross-attention and a feed-forward "
        "net, each with a residual connection; the keys and values of the cross-attention come from the side, from the "
        "memory. Left, post-norm: a norm behind each sum. Right, pre-norm: a norm in front of each sub-layer, and the "
        "residual stream passes by all three."
    )
    picture, drawings = sheet(8.4, 6.0, columns=2, alt=alt)
    for drawing, norm_first, title in zip(
        drawings, (False, True), ("post-norm (2017)", "pre-norm"), strict=True
    ):
        parts = drawing.tower(0.0, 0.5, decoder_layer_parts(norm_first), start=(0.0, -0.1))
        drawing.write(0.0, -0.3, "target rows  (B, T, D)")
        cross = parts[4 if norm_first else 3]
        _memory(drawing, cross.bottom[1] - STEP / 2, cross)
        top = parts[-1].top
        drawing.arrow(top, (0.0, top[1] + 0.4))
        drawing.write(0.0, top[1] + 0.6, title, size=FONT + 1)
        drawing.fit(-2.0, -0.6, 3.9, top[1] + 0.8)
    return picture


def _memory(drawing: Drawing, height: float, cross: Block) -> None:
    """Bring keys and values from the right into a cross-attention."""
    for part, colour, low in (("key", KEY, height), ("value", VALUE, height - 0.1)):
        end = cross.mouth(part)
        drawing.arrow((2.1, low), (end[0], low), (end[0], end[1] - 0.06), colour=colour)
    drawing.write(2.2, height + 0.06, "memory", align="left")
    drawing.write(2.2, height - 0.24, "(B, S, D)", align="left")


PARTS = {
    "embedding": (OTHER, ""),
    "encoder attention": (SKY, ""),
    "encoder feed-forward": ("#F0E442", ""),
    "decoder self-attention": (SKY, "//"),
    "decoder cross-attention": (SKY, "xx"),
    "decoder feed-forward": ("#F0E442", "//"),
    "norms": ("#999999", ""),
}


def budget(budgets: Mapping[str, Mapping[str, int]]) -> Picture:
    """Draw named parameter budgets, each a bar of parts whose lengths are their counts, in millions."""
    told = []
    picture, (ax,) = canvas(8.4, 1.5 + 0.75 * len(budgets))
    for y, (name, parts) in enumerate(budgets.items()):
        total, left = sum(parts.values()), 0.0
        told.append(
            f"{name}: {total / 1e6:.1f} million, "
            + ", ".join(f"{part} {count / 1e6:.2f}" for part, count in parts.items())
        )
        for part, count in parts.items():
            colour, hatch = PARTS[part]
            width = count / 1e6
            ax.barh(
                y, width, left=left, height=0.62, color=tint(colour, 0.55), edgecolor=INK, lw=0.7, hatch=hatch,
                label=part if y == 0 else None,
            )  # fmt: skip
            if width > 0.045 * max(sum(b.values()) for b in budgets.values()) / 1e6:
                ax.text(
                    left + width / 2, y, f"{width:.1f}", ha="center", va="center", fontsize=FONT - 1, color=INK,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.85},
                )  # fmt: skip
            left += width
        ax.text(left, y, f"  {left:.1f} M", va="center", fontsize=FONT, color=INK)
    ax.set_yticks(range(len(budgets)), budgets)
    ax.invert_yaxis()
    ax.set_xlim(right=1.12 * max(sum(b.values()) for b in budgets.values()) / 1e6)
    name_axes(ax, "parameters, in millions", "")
    picture.legend(loc="outside upper center", ncols=4, fontsize=FONT - 1, frameon=False)
    picture.alt = f"Stacked bars of parameters, by part. {'. '.join(told)}."
    return picture


def nearest(table: Float[Tensor, "V 2"], x: Float[Tensor, " 2"], tokens: Sequence[str]) -> Picture:
    """Draw rows of a table of width 2, a row x of the decoder, and the dot products of x with all of them."""
    logits = (table @ x).tolist()
    best = int(np.argmax(logits))
    listed = ", ".join(f"{token} {logit:.1f}" for token, logit in zip(tokens, logits, strict=True))
    alt = f"Left, arrows in the plane: the rows of {', '.join(tokens)}, and x. {tokens[best]} fits best. Right, "
    picture, (left, right) = canvas(
        7.6, 3.1, columns=2, alt=f"{alt}bars: the dot product of x with each: {listed}."
    )
    for i, (token, row) in enumerate(zip(tokens, table.tolist(), strict=True)):
        left.annotate("", row, (0, 0), arrowprops={"arrowstyle": "-|>", "color": OTHER, "lw": 1.4})
        left.text(1.16 * row[0], 1.16 * row[1], token, ha="center", va="center", fontsize=FONT, color=INK)
        right.barh(i, logits[i], color=tint(VALUE if i == best else OTHER, 0.6), edgecolor=INK, lw=0.7)
    left.annotate("", x.tolist(), (0, 0), arrowprops={"arrowstyle": "-|>", "color": QUERY, "lw": 2.2})
    left.text(
        *(1.1 * x).tolist(), "x", ha="center", va="center", fontsize=FONT + 1, color=QUERY, weight="bold"
    )
    left.axhline(0, color="#CCCCCC", lw=0.8, zorder=0)
    left.axvline(0, color="#CCCCCC", lw=0.8, zorder=0)
    reach = 1.3 * float(max(table.abs().max(), x.abs().max()))
    left.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    right.set_yticks(range(len(tokens)), tokens)
    right.invert_yaxis()
    right.axvline(0, color=INK, lw=0.8)
    name_axes(left, "first number", "second number", "rows of the table, and x")
    name_axes(right, "x · row", "", "logits")
    return picture


def whole_reach(
    source: Float[Tensor, "T S"], target: Float[Tensor, "T T"], read: Sequence[str], written: Sequence[str]
) -> Picture:
    """Draw how strongly the logits at each target position depend on source and on target tokens; zeros are hatched."""
    picture, axes = canvas(8.6, 3.3, columns=2)
    for ax, reach, columns, title in zip(
        axes, (source, target), (read, written), ("… on the source", "… on the target"), strict=True
    ):
        attention_map(
            reach / reach.max(), written, columns, reach > 0, title=title, label="gradient / largest",
            axes_names=("input token", "logits after"), ax=ax,
        )  # fmt: skip
    picture.alt = picture.alt.replace("are forbidden", "are exactly zero")
    return picture


@torch.no_grad()
def looked_up(
    model: nn.Module, source: Int[Tensor, "1 S"], target: Int[Tensor, "1 T"]
) -> Float[Tensor, "H T S"]:
    """Return the weights of the last cross-attention while the model scores a target, head by head."""
    attention = model.decoder.layers[-1].cross_attention
    seen: dict = {}

    def note(module: nn.Module, args: tuple, kwargs: dict, _: Tensor) -> None:
        seen.update(inspect.signature(module.forward).bind(*args, **kwargs).arguments)

    handle = attention.register_forward_hook(note, with_kwargs=True)
    try:
        model(source, target)
    finally:
        handle.remove()
    query, key = (
        split_heads(part, attention.heads)
        for part in (attention.query(seen["x"]), attention.key(seen["memory"]))
    )
    mask = seen.get("mask")
    return attention_weights(attention_scores(query, key), None if mask is None else mask.unsqueeze(-3))[0]


def head_row(weights: Float[Tensor, "H T S"], read: Sequence[str], written: Sequence[str]) -> Picture:
    """Draw the cross-attention of each head: for each target token that is read, where in the source it looks."""
    picture, axes = canvas(0.8 + 2.3 * len(weights), 3.1, columns=len(weights))
    for h, (ax, each) in enumerate(zip(axes, weights, strict=True)):
        attention_map(each, written, read, title=f"head {h}", ax=ax, bar=h == len(weights) - 1)
        if h:
            ax.set_ylabel("")
    return picture


def ablation(shares: Mapping[str, tuple[float, float]]) -> Picture:
    """Draw for each model the share of tokens predicted, given the right ones before, and of words written right."""
    told = "; ".join(f"{name}: {one:.0%} and {two:.0%}" for name, (one, two) in shares.items())
    alt = f"Pairs of bars: share of tokens predicted given the right ones before, and of words written right. {told}."
    picture, (ax,) = canvas(7.6, 0.9 + 0.62 * len(shares), alt=alt)
    for i, pair in enumerate(shares.values()):
        for share, shift, colour, hatch, label in (
            (pair[0], -0.19, SKY, "", "tokens predicted, teacher forcing"),
            (pair[1], 0.19, WRONG, "//", "words written, one token after the other"),
        ):
            ax.barh(
                i + shift, share, height=0.36, color=tint(colour, 0.55), edgecolor=INK, lw=0.7, hatch=hatch,
                label=label if i == 0 else None,
            )  # fmt: skip
            ax.text(share + 0.01, i + shift, f"{share:.0%}", va="center", fontsize=FONT - 1, color=INK)
    ax.set_yticks(range(len(shares)), shares)
    ax.set_xlim(0, 1.12)
    ax.invert_yaxis()
    name_axes(ax, "share that is right", "")
    picture.legend(loc="outside upper center", ncols=2, fontsize=FONT - 1, frameon=False)
    return picture
