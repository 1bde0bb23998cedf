"""Span corruption: take spans out of a text, ask for what was there, and put it back (unit 18).

    text      Thou art more lovely and more temperate
    source    Thou art <0> and <1> temperate
    target    <0> more lovely <1> more <2>

``<0>``, ``<1>``, … are **sentinels**: ids that stand in no text. They are counted from the top of the vocabulary down.

Paper: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", 2020,
sections 3.1.4 and 3.3.4, figure 2.
"""

from collections.abc import Iterable, Sequence

from scratch.spans import Span, draw_spans

__all__ = ["Span", "draw_spans", "restore_spans", "span_corruption"]


def span_corruption(
    ids: Sequence[int], spans: Iterable[Span], first_sentinel: int
) -> tuple[list[int], list[int]]:
    """Take spans out of a text: return what is left of it, and what was taken, told apart by sentinels.

    Args:
        ids: the text. It is left unchanged.
        spans: pairs (start, end), in any order: the tokens start, start + 1, …, end − 1 are taken out. Two spans may
            touch, and then have a sentinel each.
        first_sentinel: the id of sentinel number 0. Sentinel number i has the id first_sentinel − i.

    Returns:
        source: the text with one sentinel in the place of each span: number 0 for the first span of the text, number 1
            for the next, and so on.
        target: for each span, in the order of the text, its sentinel and then its tokens; and behind the last one the
            sentinel that comes next, which says that nothing follows.

    Raises:
        ValueError: a span is empty, reaches out of the text, or overlaps another; or the text holds the id of a
            sentinel that is used here.

    Source: Raffel et al., 2020, section 3.1.4 and figure 2.
    """
    last = first_sentinel - len(spans := sorted(spans))
    if any(last <= token <= first_sentinel for token in ids):
        raise ValueError(f"the text holds one of the sentinels {last} to {first_sentinel}")
    source, target, done = [], [], 0
    for i, (start, end) in enumerate(spans):
        if not done <= start < end <= len(ids):
            raise ValueError(f"span ({start}, {end}) is empty, overlaps another, or leaves the text")
        source += [*ids[done:start], first_sentinel - i]
        target += [first_sentinel - i, *ids[start:end]]
        done = end
    return [*source, *ids[done:]], [*target, last]


def restore_spans(source: Sequence[int], target: Sequence[int], first_sentinel: int) -> list[int]:
    """Put back what ``span_corruption`` has taken out: its inverse.

    Args:
        source: a text with sentinels in the place of spans.
        target: for each sentinel of the source, in their order, the sentinel and what belongs there, which may be
            nothing; and behind that the sentinel that comes next, as the last id.
        first_sentinel: the id of sentinel number 0. Sentinel number i has the id first_sentinel − i.

    Returns:
        The text: the source with what belongs there in the place of each sentinel.

    Raises:
        ValueError: source and target do not fit together: the target does not begin with sentinel number 0, or does not
            end with the one that closes it, or the source has other sentinels than those that the target fills.
    """
    spans: list[list[int]] = []
    for token in target:
        if token == first_sentinel - len(spans):
            spans.append([])
        elif spans:
            spans[-1].append(token)
        else:
            raise ValueError(f"the target begins with {token}, and not with sentinel {first_sentinel}")
    if not spans or spans.pop():
        raise ValueError("the target does not end with the sentinel that closes it")
    ids: list[int] = []
    filled = 0
    for token in source:
        if filled < len(spans) and token == first_sentinel - filled:
            ids += spans[filled]
            filled += 1
        elif first_sentinel - len(spans) <= token <= first_sentinel:
            raise ValueError(f"the source has sentinel {token} where it should not stand")
        else:
            ids.append(token)
    if filled < len(spans):
        raise ValueError(f"the source has {filled} sentinels, and the target fills {len(spans)}")
    return ids
