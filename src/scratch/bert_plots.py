"""The drawings and charts of unit 17, in the visual language of ``scratch.plots`` and ``scratch.blocks``."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from scratch.blocks import RADIUS, Drawing, decoder_layer_parts, encoder_layer_parts, sheet
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
    canvas,
    name_axes,
    tint,
)


def _bottom(drawing: Drawing, x: float, tokens: str, embedding: str, faded: bool = False) -> None:
    """Draw tokens, their embedding, and the circle where positions are added."""
    drawing.write(x, 0.1, tokens, colour="#999999" if faded else INK)
    table = drawing.block("embedding", x, 0.95, embedding, faded=faded)
    place = drawing.block("positions", x, 1.7, faded=faded)
    colour = "#AAAAAA" if faded else INK
    drawing.arrow((x, 0.3), table.bottom, colour=colour)
    drawing.arrow(table.top, place.bottom, colour=colour)


def difference() -> Picture:
    """Draw the Transformer with what BERT leaves out faded, and BERT beside it, on the same heights."""
    alt = (
        "Left, the Transformer: an encoder, and a decoder that is only outlined, since BERT does without it. Right, "
        "BERT, on the same heights: word, position and segment are added and normed; then N times the encoder layer "
        "of the Transformer, self-attention and feed-forward net, each with a residual connection and a norm behind. "
        "Marked as different: the three embeddings with their norm, GELU in the feed-forward net, eps 1e-12."
    )
    picture, (drawing,) = sheet(8.8, 5.2, alt=alt)
    encoder, decoder, bert = 0.0, 4.3, 9.6
    _bottom(drawing, encoder, "source", "words × √D")
    _bottom(drawing, decoder, "target", "words × √D", faded=True)
    start = 1.7 + RADIUS
    left = drawing.tower(encoder, 2.5, encoder_layer_parts(), start=(encoder, start))
    y, cross = 2.5, None
    for kind, text in decoder_layer_parts():
        if kind == "add":
            continue
        flat = kind == "norm"
        y += 0.17 if flat else 0.31
        block = drawing.block(kind, decoder, y, text.removesuffix("*"), faded=True)
        cross = block if text.endswith("*") else cross
        y += 0.17 if flat else 0.31
        y += 0.22
    drawing.arrow((decoder, start), (decoder, 2.5), colour="#AAAAAA")
    drawing.frame(encoder - 1.85, 2.15, encoder + 1.55, left[-1].top[1] + 0.14, "N ×")
    top = left[-1].top[1]
    path = (encoder, top), (encoder, top + 0.5), (2.3, top + 0.5), (2.3, cross.y), cross.left
    drawing.arrow(*path, colour="#AAAAAA", dashed=True)
    drawing.arrow((decoder, y), (decoder, top + 0.9), colour="#AAAAAA", dashed=True)
    drawing.write(decoder, top + 1.1, "next token", colour="#999999")
    drawing.write((encoder + decoder) / 2, -0.6, "the Transformer, 2017", size=FONT + 1)
    _bottom(drawing, bert, "[CLS] words [SEP]", "words")
    drawing.write(bert + 0.32, 1.7, "positions + segments, then norm", align="left", colour=WRONG)
    right = drawing.tower(bert, 2.5, encoder_layer_parts(), start=(bert, start))
    drawing.frame(bert - 1.85, 2.15, bert + 1.55, right[-1].top[1] + 0.14, "N ×")
    for block in right:
        if block.high < 0.2 and block.wide > 1:
            drawing.write(bert + 1.65, block.y, "eps 1e-12", align="left", colour=WRONG)
    nets = [block for block in right if block.high > 0.2]
    drawing.write(bert + 1.65, nets[-1].y, "GELU", align="left", colour=WRONG)
    drawing.write(bert + 1.65, nets[0].y, "both directions", align="left", colour=WRONG)
    drawing.write(bert + 1.65, 0.95, "not scaled", align="left", colour=WRONG)
    drawing.arrow((bert, top), (bert, top + 0.9))
    drawing.write(bert, top + 1.1, "hidden states  (B, T, D)")
    drawing.write(bert, -0.6, "BERT, 2018", size=FONT + 1)
    drawing.fit(-2.5, -0.85, 13.9, top + 1.35)
    return picture


def two_heads() -> Picture:
    """Draw BERT under its two heads: all rows name hidden words in pretraining, one row judges in fine-tuning."""
    alt = (
        "Twice the same BERT. Pretraining: the hidden states of chosen tokens go through a dense map with GELU and "
        "norm, and meet the table of words, turned round; out come probabilities of the hidden word. Fine-tuning: the "
        "hidden state of [CLS] alone goes through the pooler with tanh and a linear map; out come probabilities of "
        "classes."
    )
    picture, drawings = sheet(8.4, 4.3, columns=2, alt=alt)
    sides = (
        ("pretraining: name what is hidden", "the [MASK] [SEP]", "rows of chosen tokens", "dense, GELU, norm",
         "words (tied)", "which word?  (M, V)"),
        ("fine-tuning: judge the text", "what a film [SEP]", "row of [CLS]", "pooler, tanh", "classifier",
         "which class?  (B, C)"),
    )  # fmt: skip
    for drawing, (title, text, rows, first, second, end) in zip(drawings, sides, strict=True):
        drawing.write(0, 0.1, f"[CLS] {text}")
        body = drawing.block("attention", 0, 1.1, "BERT, N layers", width=3.4)
        drawing.arrow((0, 0.3), (0, 0.55), head=False)
        for part in ("query", "key", "value"):
            x, low = body.mouth(part)
            drawing.arrow((0, 0.55), (x, 0.55), (x, low - 0.06))
        one = drawing.block("linear", 0, 2.5, first, width=3.0)
        two = drawing.block("linear", 0, 3.5, second, width=3.0)
        soft = drawing.block("softmax", 0, 4.35, "", width=3.0)
        drawing.write(0, 4.35, "softmax", colour=INK)
        drawing.arrow(body.top, one.bottom)
        drawing.write(0.15, 1.82, rows, align="left", colour="#555555")
        drawing.arrow(one.top, two.bottom)
        drawing.arrow(two.top, soft.bottom)
        drawing.arrow(soft.top, (0, 4.95))
        drawing.write(0, 5.15, end)
        drawing.write(0, -0.5, title, size=FONT + 1)
        drawing.fit(-2.6, -0.8, 2.6, 5.4)
    return picture


def _cell(ax: Axes, x: float, y: float, wide: float, text: str, colour: str, strength: float = 0.3) -> None:
    face = tint(colour, strength) if colour != MASKED else MASKED
    hatch = HATCH if colour == MASKED else None
    edge = "#777777" if colour == MASKED else colour
    box = Rectangle((x + 0.03, y), wide - 0.06, 0.8, facecolor=face, edgecolor=edge, lw=1.1, hatch=hatch)
    ax.add_patch(box)
    if text:
        back = {"facecolor": "white", "edgecolor": "none", "pad": 0.8} if hatch else None
        ax.text(
            x + wide / 2, y + 0.4, text, ha="center", va="center", fontsize=FONT - 1, color=INK, bbox=back
        )


def what_is_hidden(text: Sequence[str], read: Sequence[str], asked: Sequence[str | None]) -> Picture:
    """Draw a text, what the model reads of it, and what it is asked: three rows of tokens, one column for each.

    Args:
        text: the tokens.
        read: the inputs; "[MASK]" is drawn hatched, another token than in the text framed.
        asked: the labels; None where nothing is asked.
    """
    told = [
        f"{word} {'is hidden' if seen == '[MASK]' else 'reads ' + seen if seen != word else 'is left as it is'}"
        for word, seen, label in zip(text, read, asked, strict=True)
        if label is not None
    ]
    alt = (
        f"Three rows of tokens. The text: {' '.join(text)}. Of the chosen tokens, {'; '.join(told)}. Under each chosen "
        "token stands its label, the word that was there; under all others −100."
    )
    widths = [max(len(word), len(seen), 4) * 0.115 + 0.22 for word, seen in zip(text, read, strict=True)]
    picture, (ax,) = canvas(1.35 + 0.98 * sum(widths), 2.0, alt=alt)
    for y, name in ((2.4, "text"), (1.2, "inputs"), (0.0, "labels")):
        ax.text(-0.1, y + 0.4, name, ha="right", va="center", fontsize=FONT, color=INK)
    x = 0.0
    for word, seen, label, wide in zip(text, read, asked, widths, strict=True):
        special = word in ("[CLS]", "[SEP]")
        _cell(ax, x, 2.4, wide, word, "#999999" if special else QUERY, 0.15 if special else 0.25)
        colour = MASKED if seen == "[MASK]" else WRONG if seen != word else "#999999" if special else QUERY
        _cell(ax, x, 1.2, wide, seen, colour, 0.15 if special else 0.25)
        if label is None:
            ax.text(x + wide / 2, 0.4, "−100", ha="center", va="center", fontsize=FONT - 2, color="#999999")
        else:
            _cell(ax, x, 0.0, wide, label, VALUE)
        x += wide
    ax.set(xlim=(-0.85, x + 0.05), ylim=(-0.1, 3.35))
    ax.axis("off")
    return picture


def three_vectors(tokens: Sequence[str], segments: Sequence[int]) -> Picture:
    """Draw of every token its three vectors, from the tables of words, positions and segments, and their sum."""
    alt = (
        f"Columns for the tokens {' '.join(tokens)}. Each is the sum of three cells: the word's vector, the vector of "
        f"its position, 0 to {len(tokens) - 1}, and that of its segment: "
        f"{', '.join(map(str, segments))}. Below, the sum is normed."
    )
    picture, (ax,) = canvas(1.5 + 0.72 * len(tokens), 2.9, alt=alt)
    rows = (
        (3.6, "word", OTHER),
        (2.4, "position", SKY),
        (1.2, "segment", KEY),
        (0.0, "norm of the sum", "#999999"),
    )
    for y, name, _ in rows:
        ax.text(-0.15, y + 0.4, name, ha="right", va="center", fontsize=FONT, color=INK)
    for t, (token, segment) in enumerate(zip(tokens, segments, strict=True)):
        texts = (token, f"{t}", "A" if segment == 0 else "B", "")
        for (y, _, colour), text in zip(rows, texts, strict=True):
            _cell(ax, t, y, 1.0, text, colour, 0.45 if y == 1.2 and segment else 0.22)
        for y in (3.4, 2.2):
            ax.text(t + 0.5, y - 0.02, "+", ha="center", va="center", fontsize=FONT, color=INK)
        ax.annotate(
            "", (t + 0.5, 0.83), (t + 0.5, 1.17), arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1}
        )
    ax.set(xlim=(-2.1, len(tokens) + 0.05), ylim=(-0.15, 4.5))
    ax.axis("off")
    return picture


def activations(x: np.ndarray, curves: Mapping[str, np.ndarray], gap: np.ndarray) -> Picture:
    """Draw activations over x on the left, and how far two forms of GELU are apart on the right."""
    alt = (
        f"Left, {', '.join(curves)} over x from {x[0]:g} to {x[-1]:g}: GELU is smooth, and a little below zero left "
        f"of it. Right, the tanh form minus the exact form: never more than {np.abs(gap).max():.1e} apart."
    )
    picture, (left, right) = canvas(8.4, 3.0, columns=2, alt=alt)
    for (name, values), (colour, dash) in zip(curves.items(), ((WRONG, "--"), (QUERY, "-")), strict=True):
        left.plot(x, values, color=colour, ls=dash, lw=1.8, label=name)
    left.legend(fontsize=FONT - 1, frameon=False)
    name_axes(left, "x", "activation")
    right.plot(x, 1e4 * gap, color=INK, lw=1.6)
    right.axhline(0, color="#BBBBBB", lw=0.8)
    name_axes(right, "x", "difference × 10⁴", "tanh form − exact form")
    return picture


def bars(
    values: Mapping[str, float], x: str, *, marks: Mapping[str, float] | None = None, log: bool = False,
    strong: Sequence[str] = (), digits: str = ".2f", left: float | None = None, right: float | None = None,
) -> Picture:  # fmt: skip
    """Draw named numbers as lying bars; ``marks`` are named heights, bars of ``strong`` names stand out."""
    told = "; ".join(f"{name}: {value:{digits}}" for name, value in values.items())
    picture, (ax,) = canvas(8.0, 0.9 + 0.34 * len(values), alt=f"Bars of {x}. {told}.")
    for y, (name, value) in enumerate(values.items()):
        colour = VALUE if name in strong else QUERY
        ax.barh(y, value, height=0.64, color=tint(colour, 0.6), edgecolor=colour, lw=1,
                hatch="//" if name in strong else None)  # fmt: skip
        ax.annotate(f"{value:{digits}}", (max(value, 0) if not log else value, y), (5, 0),
                    textcoords="offset points", va="center", fontsize=FONT - 1, color=INK)  # fmt: skip
    for name, height in (marks or {}).items():
        ax.axvline(height, color=WRONG, lw=1.2, ls=":")
        ax.annotate(name, (height, 1.0), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
                    ha="center", va="bottom", fontsize=FONT - 1, color=WRONG)  # fmt: skip
    ax.set_yticks(range(len(values)), values)
    ax.invert_yaxis()
    if log:
        ax.set_xscale("log")
    ax.set_xlim(left, right)
    name_axes(ax, x, "")
    return picture


def fillings(
    panels: Mapping[str, Mapping[str, Sequence[tuple[str, float]]]], answers: Sequence[str]
) -> Picture:
    """Draw what models put into gaps: a row of panels for each text, one for each model, with its likeliest words.

    Args:
        panels: for each text, for each model its words with their probabilities.
        answers: what stood in the gap of each text; its bar is hatched green.
    """
    models = list(next(iter(panels.values())))
    told = []
    picture = Picture(figsize=(8.6, 1.75 * len(panels)), layout="constrained", facecolor="white")
    axes = picture.subplots(len(panels), len(models), squeeze=False)
    for row, (text, by_model), answer in zip(axes, panels.items(), answers, strict=True):
        for ax, (model, words) in zip(row, by_model.items(), strict=True):
            for y, (word, chance) in enumerate(words):
                right = word == answer
                colour = VALUE if right else QUERY
                ax.barh(
                    y,
                    chance,
                    height=0.7,
                    color=tint(colour, 0.6),
                    edgecolor=colour,
                    hatch="//" if right else None,
                )
            ax.set_yticks(range(len(words)), [word for word, _ in words], fontsize=FONT - 1)
            ax.invert_yaxis()
            ax.set_xlim(0, max(0.05, 1.1 * max(chance for _, chance in words)))
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(axis="x", labelsize=FONT - 2)
            ax.set_title(
                f"{text}\n{model}" if ax is row[0] else f"\n{model}", fontsize=FONT, color=INK, loc="left"
            )
            told.append(f"{text}, {model}: " + ", ".join(f"{word} {chance:.3f}" for word, chance in words))
    picture.alt = f"Bars of probabilities for the gap in each text. {'. '.join(told)}."
    return picture
