"""Pictures of numbers for a page: SVG that needs no script, reads in black and white, and says itself in words.

Widths are shares of the page's and letters keep their size, so that one picture serves a phone and a sheet of paper.
Colours are Okabe and Ito's; where two areas meet, a pattern tells them apart as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

HEIGHT = 150  # of the tallest bar, in pixels
TOP, FOOT = 44, 42

# What ends a bar of an exercise: the word, and the pattern's or colour's name in the page's styles.
PARTS = {
    "solved": "solved",
    "partly": "partly right",
    "wrong": "nothing right",
    "untouched": "not attempted",
    "waiting": "waits for a person",
}

# The patterns, once on a page; colours stand in its styles.
DEFINITIONS = Markup(
    '<svg class="defs" width="0" height="0" aria-hidden="true" focusable="false"><defs>'
    '<pattern id="partly" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" fill="#F0E442"/><rect width="1.6" height="6" fill="#3d3a00"/></pattern>'
    '<pattern id="wrong" width="5" height="5" patternUnits="userSpaceOnUse">'
    '<rect width="5" height="5" fill="#D55E00"/><rect width="5" height="1.8" fill="#fff"/></pattern>'
    '<pattern id="waiting" width="6" height="6" patternUnits="userSpaceOnUse">'
    '<rect width="6" height="6" fill="#CC79A7"/><circle cx="3" cy="3" r="1.6" fill="#000"/></pattern>'
    "</defs></svg>"
)
_FILLS = {
    "solved": "#009E73",
    "partly": "url(#partly)",
    "wrong": "url(#wrong)",
    "untouched": "#fff",
    "waiting": "url(#waiting)",
}


def percent(part: float, whole: float) -> str:
    """A share in whole percents; what is not all does not read as all, and what is not none not as none."""
    if not whole:
        return "–"
    share = 100 * part / whole
    return f"{min(99, max(1, round(share))) if 0 < share < 100 else round(share)}\N{NO-BREAK SPACE}%"


def histogram(bins: Sequence[int], median: float, most: float) -> Markup:
    """How many learners have which part of the points: a bar for each tenth, and the last for full marks."""
    slot, tallest = 100 / len(bins), max([*bins, 1])
    at = (
        slot * (len(bins) - 0.5)
        if most and median >= most
        else slot * (len(bins) - 1) * (median / most if most else 0)
    )
    floor = TOP + HEIGHT
    pieces = [  # behind the bars: the numbers above them stay readable
        Markup(
            '<line class="median" x1="{0:.2f}%" x2="{0:.2f}%" y1="18" y2="{1}"/>'
            '<text class="{2}" x="{0:.2f}%" y="14">median {3:g}</text>'
        ).format(at, floor, "start" if at < 50 else "end", round(median, 2))
    ]
    for i, count in enumerate(bins):
        high = HEIGHT * count / tallest
        x, middle = slot * i + 0.1 * slot, slot * (i + 0.5)
        kind = "full" if i == len(bins) - 1 else "part"
        pieces.append(
            Markup('<rect class="{}" x="{:.2f}%" y="{:.1f}" width="{:.2f}%" height="{:.1f}"/>').format(
                kind, x, floor - high, 0.8 * slot, high
            )
        )
        if count:
            pieces.append(
                Markup('<text class="n" x="{:.2f}%" y="{:.1f}">{}</text>').format(
                    middle, floor - high - 5, count
                )
            )
        label, place = ("all", middle) if kind == "full" else (f"{10 * i}", slot * i)
        pieces.append(
            Markup('<text class="tick" x="{:.2f}%" y="{}">{}</text>').format(place, floor + 17, label)
        )
    told = [
        f"{'full marks' if i == len(bins) - 1 else f'{10 * i} to under {10 * i + 10} percent'}: {count}"
        for i, count in enumerate(bins)
    ]
    says = f"How many learners have which part of the points. {'; '.join(told)}. The median is {median:g}."
    return Markup(
        '<svg class="histogram" width="100%" height="{}" role="img" aria-label="{}">'
        '<line class="axis" x1="0" x2="100%" y1="{}" y2="{}"/>{}'
        '<text class="tick" x="50%" y="{}">percent of the {:g} points</text></svg>'
    ).format(floor + FOOT, says, floor, floor, Markup("").join(pieces), floor + FOOT - 4, most)


def stacked(parts: Mapping[str, int], what: str) -> Markup:
    """A bar of several parts, as long as all of them together."""
    whole = sum(parts.values())
    x, pieces = 0.0, []
    for name, count in parts.items():
        if not count:
            continue
        width = 100 * count / whole
        pieces.append(
            Markup('<rect x="{:.2f}%" y="0.5" width="{:.2f}%" height="13" fill="{}"/>').format(
                x, width, _FILLS[name]
            )
        )
        x += width
    says = f"{what}: " + ", ".join(f"{count} {PARTS[name]}" for name, count in parts.items() if count)
    return Markup('<svg class="bar" width="100%" height="14" role="img" aria-label="{}">{}</svg>').format(
        says, Markup("").join(pieces)
    )


def swatch(name: str) -> Markup:
    """What a part of a bar looks like, for the legend."""
    return Markup(
        '<svg class="bar swatch" width="22" height="14" aria-hidden="true"><rect x="0.5" y="0.5" width="21" '
        'height="13" fill="{}"/></svg>'
    ).format(_FILLS[name])


def length(part: int, whole: int) -> Markup:
    """A plain bar beside a number, which says it in words."""
    share = 100 * part / whole if whole else 0
    return Markup(
        '<svg class="bar" width="100%" height="10" aria-hidden="true"><rect class="rest" x="0" y="0.5" width="100%" '
        'height="9"/><rect class="done" x="0" y="0.5" width="{:.2f}%" height="9"/></svg>'
    ).format(share)
