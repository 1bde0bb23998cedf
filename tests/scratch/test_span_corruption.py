"""Properties of ``scratch.span_corruption`` and ``scratch.spans``, judged on any text."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratch.data.dates import Codec
from scratch.span_corruption import draw_spans, restore_spans, span_corruption

TOP = 99  # the first sentinel; the ids of texts lie below all that are used


@st.composite
def corrupted(draw):
    """A text of any ids, and any spans of it that do not overlap, in any order."""
    ids = draw(st.lists(st.integers(0, TOP - 30), max_size=40))
    cuts = sorted(draw(st.sets(st.integers(0, len(ids)), max_size=20)))
    spans = [(a, b) for a, b in itertools.pairwise(cuts) if draw(st.booleans())]
    return ids, draw(st.permutations(spans))


@given(corrupted())
def test_restoring_gives_back_exactly_what_was_corrupted(case):
    ids, spans = case
    assert restore_spans(*span_corruption(ids, spans, TOP), TOP) == ids


@given(st.text(min_size=1), st.floats(0.01, 0.99), st.floats(1.0, 9.0), st.integers(0, 10))
def test_any_text_comes_back_whatever_is_drawn(text, density, mean, seed):
    codec = Codec.of([text], "characters")
    ids = codec.encode([text])[0].tolist()[:-1]
    top = len(codec) + len(ids)  # above every id of the text, with room for the sentinels
    source, target = span_corruption(ids, draw_spans(len(ids), density, mean, seed), top)
    assert codec.decode([restore_spans(source, target, top)]) == [text]


@given(st.lists(st.integers(0, TOP), max_size=12), st.integers(0, 4))
def test_a_text_that_holds_one_of_its_sentinels_is_refused_and_every_other_comes_back(ids, count):
    spans = [(i, i + 1) for i in range(min(count, len(ids)))]
    if any(TOP - len(spans) <= token for token in ids):
        with pytest.raises(ValueError, match="sentinels"):
            span_corruption(ids, spans, TOP)
    else:
        assert restore_spans(*span_corruption(ids, spans, TOP), TOP) == ids


@given(corrupted())
def test_every_token_is_on_exactly_one_side_and_sentinels_are_counted_down(case):
    ids, spans = case
    source, target = span_corruption(ids, spans, TOP)
    used = [TOP - i for i in range(len(spans))]
    assert [token for token in source if token > TOP - 25] == used
    assert [token for token in target if token > TOP - 25] == [*used, TOP - len(spans)]
    assert sorted([*source, *target]) == sorted([*ids, *used, *used, TOP - len(spans)])


def test_the_example_of_the_paper():
    text = "Thank you for inviting me to your party last week .".split()
    ids = list(range(len(text)))
    source, target = span_corruption(ids, [(8, 9), (2, 4)], TOP)
    assert source == [0, 1, TOP, 4, 5, 6, 7, TOP - 1, 9, 10]
    assert target == [TOP, 2, 3, TOP - 1, 8, TOP - 2]


@pytest.mark.parametrize(
    "spans", [[(0, 2), (1, 3)], [(1, 1)], [(2, 1)], [(3, 6)], [(-1, 1)], [(0, 4), (1, 2)]]
)
def test_spans_that_overlap_are_empty_or_leave_the_text_are_refused(spans):
    with pytest.raises(ValueError, match="overlaps"):
        span_corruption([5, 6, 7, 8, 9], spans, TOP)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ([1, TOP, 2], [5, TOP, 6, TOP - 1]),  # something before the first sentinel
        ([1, TOP, 2], []),
        ([1, TOP, 2], [TOP, 5]),  # not closed
        ([1, TOP, 2], [TOP, 5, TOP - 1, 6]),  # something behind the end
        ([1, 2], [TOP, 5, TOP - 1]),  # no place for it
        ([1, TOP, TOP - 1], [TOP, 5, TOP - 1]),  # nothing for this place
        ([1, TOP, TOP], [TOP, 5, TOP - 1]),
        ([TOP - 1, TOP], [TOP, 5, TOP - 1, 6, TOP - 2]),  # the wrong order
    ],
)
def test_sides_that_do_not_fit_are_refused(source, target):
    with pytest.raises(ValueError, match=r"target|source"):
        restore_spans(source, target, TOP)


@given(st.integers(0, 200), st.floats(0.01, 0.99), st.floats(1.0, 9.0), st.integers(0, 10))
def test_spans_hold_their_share_apart_from_one_another_and_the_start(length, density, mean, seed):
    spans = draw_spans(length, density, mean, seed)
    ends = [0, *(end for _, end in spans)]
    assert all(end < start < stop <= length for end, (start, stop) in zip(ends, spans, strict=False))
    if length >= 2:
        taken = sum(end - start for start, end in spans)
        assert taken == min(max(round(density * length), 1), length - 1)
        assert len(spans) == min(max(round(taken / mean), 1), length - taken)
    assert spans == draw_spans(length, density, mean, seed)


def test_spans_differ_from_seed_to_seed():
    assert len({tuple(draw_spans(60, seed=seed)) for seed in range(20)}) > 15
