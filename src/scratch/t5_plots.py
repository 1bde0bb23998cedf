"""The figures of unit 18, in the visual language of ``scratch.plots`` and ``scratch.blocks``."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from scratch.blocks import STEP, decoder_layer_parts, encoder_layer_parts, sheet
from scratch.plots import FONT, INK, KEY, OTHER, QUERY, SKY, VALUE, WRONG, Picture, canvas, name_axes, tint

LINE, LETTER = 0.42, 0.1  # of a row of tokens, and of a letter, in units of 100 CSS pixels
STYLES = [(QUERY, "o", "-"), (WRONG, "s", "--"), (VALUE, "^", "-."), (OTHER, "D", ":")]


def corruption(
    words: Sequence[str], spans: Sequence[tuple[int, int]], source: Sequence[str], target: Sequence[str]
) -> Picture:
    """Draw a text with its spans, and below it the source and the target; sentinels are those words in ⟨⟩."""
    taken = {i for start, end in spans for i in range(start, end)}
    rows = [
        ("text", [(word, "taken" if i in taken else "kept") for i, word in enumerate(words)]),
        ("source", [(word, "sentinel" if word.startswith("⟨") else "kept") for word in source]),
        ("target", [(word, "sentinel" if word.startswith("⟨") else "taken") for word in target]),
    ]
    told = " ".join(f"{name}: {' '.join(word for word, _ in row)}." for name, row in rows)
    cut = "; ".join(" ".join(words[start:end]) for start, end in spans)
    widest = max(sum(len(word) + 1.6 for word, _ in row) for _, row in rows)
    picture, (ax,) = canvas(
        0.75 + LETTER * widest,
        0.2 + LINE * len(rows),
        alt=f"Three rows of words. {told} Taken out, and marked green in text and target: {cut}. Sentinels are orange.",
    )
    looks = {"kept": ("white", ""), "taken": (tint(VALUE, 0.35), ""), "sentinel": (tint(KEY, 0.45), "")}
    for y, (name, row) in enumerate(rows):
        ax.text(-1.0, y + 0.5, name, ha="right", va="center", fontsize=FONT, color=INK)
        x = 0.0
        for word, kind in row:
            size = len(word) + 1.4
            colour, hatch = looks[kind]
            ax.add_patch(
                Rectangle((x, y + 0.12), size, 0.76, facecolor=colour, hatch=hatch, ec="#555555", lw=0.7)
            )
            weight = "bold" if kind == "taken" else "normal"
            ax.text(
                x + size / 2, y + 0.5, word, ha="center", va="center", family="monospace", fontsize=FONT - 1,
                weight=weight, color=INK,
            )  # fmt: skip
            x += size + 0.2
    ax.set(xlim=(-7.5, widest), ylim=(len(rows), 0))
    ax.axis("off")
    return picture


def buckets(panels: Mapping[str, tuple[Int[Tensor, " N"], Int[Tensor, " N"]]]) -> Picture:
    """Draw, for each title, the bucket against the relative position (positions, buckets)."""
    told = "; ".join(
        f"{title}: {len(set(bucket.tolist()))} buckets, from {int(bucket.min())} to {int(bucket.max())}"
        for title, (_, bucket) in panels.items()
    )
    picture, axes = canvas(
        9.2, 3.2, columns=len(panels), alt=f"Staircases of buckets against distance. {told}."
    )
    for ax, (title, (relative, bucket)) in zip(axes, panels.items(), strict=True):
        ax.plot(relative, bucket, color=QUERY, lw=1.6, drawstyle="steps-mid")
        ax.axvline(0, color="#999999", lw=0.8, ls=":")
        name_axes(ax, "key position − query position", "bucket", title)
    return picture


def bias_by_distance(panels: Mapping[str, tuple[Sequence[int], Float[Tensor, "H N"]]]) -> Picture:
    """Draw for each title what each head adds to a score (H, N) against the relative position (N)."""
    told = []
    picture, axes = canvas(9.2, 3.4, columns=len(panels))
    for ax, (title, (relative, bias)) in zip(axes, panels.items(), strict=True):
        for h, (line, (colour, marker, dash)) in enumerate(zip(bias, STYLES, strict=False)):
            ax.plot(
                relative, line, color=colour, marker=marker, ms=3.5, lw=1.5, ls=dash, label=f"head {h}",
                drawstyle="default",
            )  # fmt: skip
            at = int(np.argmax(np.asarray(line)))
            told.append(f"{title}, head {h}: largest, {float(line[at]):.1f}, at {relative[at]}")
        ax.axhline(0, color="#999999", lw=0.8)
        ax.axvline(0, color="#999999", lw=0.8, ls=":")
        name_axes(ax, "key position − query position", "added to the score", title)
    handles, labels = axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=FONT - 1, frameon=False)
    picture.alt = f"Line charts of the learned bias against the relative position. {'; '.join(told)}."
    return picture


def shares(bars: Mapping[str, float], x: str) -> Picture:
    """Draw a named bar for each share."""
    told = "; ".join(f"{name}: {share:.0%}" for name, share in bars.items())
    picture, (ax,) = canvas(7.6, 0.8 + 0.42 * len(bars), alt=f"Bars: {x}. {told}.")
    for y, (name, share) in enumerate(bars.items()):
        ax.barh(y, share, height=0.6, color=tint(SKY, 0.55), edgecolor=INK, lw=0.7, label=name)
        ax.text(share + 0.01, y, f"{share:.0%}", va="center", fontsize=FONT - 1, color=INK)
    ax.set_yticks(range(len(bars)), bars, fontsize=FONT)
    ax.set_xlim(0, 1.12)
    ax.invert_yaxis()
    name_axes(ax, x, "")
    return picture


def norms(x: Float[Tensor, "N 2"], panels: Mapping[str, Float[Tensor, "N 2"]]) -> Picture:
    """Draw rows of two features before and after each norm, as points in the plane."""
    told = "; ".join(
        f"{name}: {len(np.unique(np.round(np.asarray(y), 2), axis=0))} different points of {len(x)}"
        for name, y in panels.items()
    )
    picture, axes = canvas(
        9.2, 3.3, columns=len(panels) + 1, alt=f"Rows of two features as points. {told}. {circle_of(panels)}"
    )
    for ax, (name, rows) in zip(axes, {"rows": x, **panels}.items(), strict=True):
        _points(ax, np.asarray(rows), np.asarray(x), name)
    return picture


def circle_of(panels: Mapping[str, Float[Tensor, "N 2"]]) -> str:
    """Say how far from zero the points lie."""
    spread = {name: np.linalg.norm(np.asarray(y), axis=1) for name, y in panels.items()}
    return " ".join(f"{name}: all {d.min():.2f} to {d.max():.2f} from zero." for name, d in spread.items())


def _points(ax: Axes, rows: np.ndarray, before: np.ndarray, name: str) -> None:
    angle = np.arctan2(before[:, 1], before[:, 0])
    ax.axhline(0, color="#CCCCCC", lw=0.8)
    ax.axvline(0, color="#CCCCCC", lw=0.8)
    ax.scatter(rows[:, 0], rows[:, 1], c=angle, cmap="twilight", s=34, edgecolor=INK, lw=0.5, zorder=3)
    ax.set_aspect("equal")
    limit = 1.15 * max(np.abs(rows).max(), 1.0)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
    name_axes(ax, "feature 1", "feature 2", name)


def model() -> Picture:
    """Draw T5: the Transformer's stacks, pre-norm, with a bias by distance into every self-attention."""
    alt = (
        "T5. Left the encoder, right the decoder, both pre-norm: a norm before each sub-layer, and one at the top. "
        "No positions are added to the embeddings. Instead a bias by distance, one for each stack, goes into the "
        "self-attention of every layer; none goes into the cross-attention. The decoder starts from a padding token."
    )
    picture, (drawing,) = sheet(8.4, 7.6, alt=alt)
    left, right = 0.0, 5.2
    tops = []
    for x, name, parts, number in (
        (left, "source, with its prefix  (B, S)", encoder_layer_parts(True), 1),
        (right, "⟨pad⟩, and labels shifted  (B, T)", decoder_layer_parts(True), 1),
    ):
        tokens = drawing.block("data", x, 0.1, "")
        drawing.write(x, 0.1, name)
        vectors = drawing.block("embedding", x, 1.0, "embedding")
        drawing.arrow((x, tokens.top[1] - 0.1), vectors.bottom)
        tower = drawing.tower(x, 1.95, parts, start=vectors.top)
        attention = tower[number]
        bias = drawing.block("positions", x + 2.05, attention.y)
        drawing.arrow(bias.left, attention.right, colour=WRONG)
        drawing.write(x + 2.05, attention.y - 0.36, "bias by")
        drawing.write(x + 2.05, attention.y - 0.6, "distance")
        drawing.frame(x - 1.8, 1.5, x + 1.5, tower[-1].top[1] + 0.14, "N ×")
        end = drawing.tower(x, tower[-1].top[1] + 0.55, [("norm", "norm")], start=tower[-1].top)
        tops.append((tower, end[-1]))
    (_, memory), (decoder, last) = tops
    cross, middle = decoder[4], 2.75
    height, top = cross.bottom[1] - STEP / 2, memory.top[1] + 0.3
    drawing.arrow(memory.top, (left, top), (middle, top), head=False)
    drawing.write(left + 0.15, top + 0.2, "memory  (B, S, D)", align="left")
    for part, colour, low in (("key", KEY, height), ("value", VALUE, height - 0.1)):
        end = cross.mouth(part)
        drawing.arrow((middle, top), (middle, low), (end[0], low), (end[0], end[1] - 0.06), colour=colour)
    head = drawing.tower(right, last.top[1] + 0.35, [("linear", "linear (tied: ÷ √D)")], start=last.top)
    drawing.arrow(head[-1].top, (right, head[-1].top[1] + 0.3))
    drawing.write(right, head[-1].top[1] + 0.45, "logits  (B, T, V)")
    drawing.fit(-2.4, -0.3, 7.9, head[-1].top[1] + 0.7)
    return picture
