"""The figures of unit 16, in the visual language of ``scratch.plots``."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle

from scratch.plots import (
    FONT,
    HATCH,
    INK,
    MASKED,
    OTHER,
    QUERY,
    SKY,
    VALUE,
    Picture,
    attention_map,
    canvas,
    name_axes,
    tint,
)

TINTS = [tint(SKY, 0.55), tint("#F0E442", 0.6)]  # of neighbouring words
CELL = 0.62  # of a token, in units of 100 CSS pixels


def label_strip(
    words: Sequence[str],
    tokens: Sequence[str],
    word_ids: Sequence[int | None],
    rows: Mapping[str, Sequence[int]],
    names: Sequence[str],
) -> Picture:
    """Draw words above their tokens, and below them rows of labels; −100 is grey and hatched.

    Args:
        words: as somebody labelled them.
        tokens: what a tokenizer made of them, special ones included.
        word_ids: for each token the number of its word, or None.
        rows: titles, and a label for each token.
        names: the name of each label.
    """
    told = [
        f"{title}: " + ", ".join("none" if i == -100 else names[i] for i in labels)
        for title, labels in rows.items()
    ]
    alt = f"Words above their tokens: {' '.join(tokens)}. Labels, {'; '.join(told)}."
    width = [max(CELL, 0.1 * len(token) + 0.14) for token in tokens]
    left = np.concatenate([[0], np.cumsum(width)])
    picture, (ax,) = canvas(1.5 + left[-1], 0.85 + 0.42 * len(rows), alt=alt)

    def box(i: int, j: int, y: float, text: str, colour, ink: str = INK, *, hatch: str = "") -> None:
        place = (left[i] + 0.02, y + 0.04), left[j] - left[i] - 0.04, 0.92
        edge = "#777777" if hatch else "#555555"
        ax.add_patch(Rectangle(*place, facecolor=colour, edgecolor=edge, hatch=hatch, lw=0 if hatch else 0.7))
        middle = (left[i] + left[j]) / 2, y + 0.5
        patch = {"facecolor": MASKED, "edgecolor": "none", "pad": 0.8} if hatch else None
        ax.text(*middle, text, ha="center", va="center", fontsize=FONT - 1, color=ink, bbox=patch)

    for number, word in enumerate(words):
        places = [i for i, w in enumerate(word_ids) if w == number]
        if places:
            box(places[0], places[-1] + 1, 1.1, word, TINTS[number % 2])
    for i, (token, word) in enumerate(zip(tokens, word_ids, strict=True)):
        box(i, i + 1, 0, token, "white" if word is None else TINTS[word % 2])
    for row, labels in enumerate(rows.values()):
        for i, label in enumerate(labels):
            y = -1.25 - 1.1 * row
            if label == -100:
                box(i, i + 1, y, "−100", MASKED, hatch=HATCH)
            else:
                shade = 0.0 if names[label] == "O" else 0.45 if names[label].startswith("B") else 0.2
                box(
                    i,
                    i + 1,
                    y,
                    names[label].replace("-", "\n", 1).replace("WEEKDAY", "WEEKD."),
                    tint(VALUE, shade),
                )
    for y, title in [(1.6, "words"), (0.5, "tokens"), *[(-0.75 - 1.1 * r, t) for r, t in enumerate(rows)]]:
        ax.text(-0.12, y, title, ha="right", va="center", fontsize=FONT, color=INK)
    ax.set_xlim(-1.4, left[-1] + 0.05)
    ax.set_ylim(-0.3 - 1.1 * len(rows), 2.15)
    ax.axis("off")
    for text in ax.texts:
        if "\n" in text.get_text():
            text.set_fontsize(FONT - 2.5)
            text.set_linespacing(0.95)
    return picture


def padding(lengths: Sequence[int], size: int, fixed: int) -> Picture:
    """Draw what batches of ``size`` texts compute: real tokens, and padding, under four ways of padding.

    To a ``fixed`` length; to the longest text of all; to the longest of each batch; the same with texts of like length
    in one batch.
    """
    real = sum(lengths)

    def batched(order: Sequence[int]) -> int:
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        return sum(max(batch) * len(batch) for batch in batches)

    totals = {
        f"to {fixed}": fixed * len(lengths),
        "to the longest of all": max(lengths) * len(lengths),
        "to the longest of the batch": batched(lengths),
        "the same, sorted by length": batched(sorted(lengths)),
    }
    share = {name: 1 - real / total for name, total in totals.items()}
    alt = "Bars, tokens computed. " + "; ".join(f"{n}: {share[n]:.0%} of them padding" for n in totals) + "."
    picture, (ax,) = canvas(7.4, 2.5, alt=alt)
    places = np.arange(len(totals))
    ax.barh(places, [real / 1000] * len(totals), color=QUERY, label="tokens")
    rest = [(total - real) / 1000 for total in totals.values()]
    ax.barh(
        places,
        rest,
        left=real / 1000,
        facecolor=MASKED,
        edgecolor="#777777",
        hatch=HATCH,
        lw=0,
        label="padding",
    )
    for y, (name, total) in enumerate(totals.items()):
        ax.text(
            total / 1000 * 1.01, y, f" {share[name]:.0%} padding", va="center", fontsize=FONT - 1, color=INK
        )
    ax.set_yticks(places, list(totals), fontsize=FONT)
    ax.invert_yaxis()
    ax.set_xlim(0, max(totals.values()) / 1000 * 1.2)
    name_axes(ax, "thousands of positions that the model computes", "")
    ax.legend(frameon=False, fontsize=FONT - 1, loc="lower right")
    return picture


def similarity(cosines, texts: Sequence[str]) -> Picture:
    """Draw the cosines between sentences as a map; rows carry the sentences, columns their numbers."""
    rows = [f"{i + 1}  {text}" for i, text in enumerate(texts)]
    columns = [str(i + 1) for i in range(len(texts))]
    picture, (ax,) = canvas(3.6 + 0.075 * max(map(len, texts)) + 0.3 * len(texts), 1.1 + 0.36 * len(texts))
    picture = attention_map(
        cosines,
        rows,
        columns,
        numbers=True,
        signed=True,
        label="cosine",
        axes_names=("sentence", ""),
        ax=ax,
    )
    ax.set_xticks(range(len(columns)), columns, rotation=0, ha="center")
    ax.xaxis.label.set_color(INK)
    return picture


def accuracies(shares: Mapping[str, float], floor: float = 0.5) -> Picture:
    """Draw named accuracies as bars, from ``floor`` to 1, in the order given."""
    alt = "Bars, accuracy on held-out texts. " + "; ".join(f"{n}: {a:.0%}" for n, a in shares.items()) + "."
    picture, (ax,) = canvas(7.0, 0.9 + 0.34 * len(shares), alt=alt)
    colours = [OTHER] * (len(shares) - 1) + [VALUE]
    hatches = ["//"] * (len(shares) - 1) + [""]
    ax.barh(range(len(shares)), list(shares.values()), color=colours, hatch=hatches, edgecolor="white", lw=0)
    for y, share in enumerate(shares.values()):
        ax.text(share + 0.004, y, f"{share:.0%}", va="center", fontsize=FONT - 1, color=INK)
    ax.set_yticks(range(len(shares)), list(shares), fontsize=FONT)
    ax.invert_yaxis()
    ax.set_xlim(floor, 1.03)
    name_axes(ax, f"accuracy on held-out texts (the axis begins at {floor:g})", "")
    return picture
