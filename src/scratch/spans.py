"""Which stretches of a text span corruption takes out. Unit 18 gives this, and asks for the corruption itself."""

import random

Span = tuple[int, int]  # where it starts, and where it ends: the token at the end is no part of it


def draw_spans(length: int, density: float = 0.15, mean: float = 3.0, seed: int | None = None) -> list[Span]:
    """Draw spans of a text: so many that they hold a share of its tokens, none next to another, none at the start.

    Args:
        length: how many tokens the text has.
        density: the share of the tokens that the spans hold together, rounded to whole tokens, at least one.
        mean: how long spans are on average; their number is rounded to a whole one, at least one.
        seed: the same number draws the same spans. None draws others each time.

    Returns:
        Spans (start, end) in the order of the text. A text of fewer than two tokens has none.

    Source: Raffel et al., 2020, section 3.3.4; the published code draws in this way.
    """
    if length < 2:
        return []
    draw = random.Random(seed)  # noqa: S311 - nothing here is a secret
    taken = min(max(round(density * length), 1), length - 1)
    count = min(max(round(taken / mean), 1), length - taken)
    spans, done = [], 0
    for gap, size in zip(_cut(length - taken, count, draw), _cut(taken, count, draw), strict=True):
        spans.append((done + gap, done + gap + size))
        done += gap + size
    return spans


def _cut(length: int, count: int, draw: random.Random) -> list[int]:
    """Cut a length into so many pieces, none of them empty: all ways of doing so are equally likely."""
    cuts = sorted(draw.sample(range(1, length), count - 1))
    return [end - start for start, end in zip([0, *cuts], [*cuts, length], strict=True)]
