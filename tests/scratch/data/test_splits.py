"""A split that does not leak, whatever is split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratch.data.splits import groups, split

ITEMS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40)


def keys(item: tuple[int, int]) -> list[tuple[str, int]]:
    return [("left", item[0]), ("right", item[1])]


def test_what_hangs_together_by_others_is_one_group() -> None:
    assert groups([(0, 0), (1, 1), (0, 2), (3, 2), (4, 1)], keys) == [
        [(0, 0), (0, 2), (3, 2)],
        [(1, 1), (4, 1)],
    ]


@given(ITEMS)
def test_groups_share_nothing_and_lose_nothing(items: list[tuple[int, int]]) -> None:
    found = groups(items, keys)
    assert sorted(item for group in found for item in group) == sorted(items)
    met: set[tuple[str, int]] = set()
    for group in found:
        mine = {key for item in group for key in keys(item)}
        assert not mine & met
        met |= mine


@given(ITEMS, st.integers(0, 3), st.integers(0, 3), st.integers(0, 5))
def test_parts_have_their_sizes_and_share_nothing(
    items: list[tuple[int, int]], first: int, second: int, seed: int
) -> None:
    try:
        parts = split(items, (first, second), seed, keys)
    except ValueError:
        return
    assert [len(part) for part in parts[1:]] == [first, second]
    assert sorted(item for part in parts for item in part) == sorted(items)
    seen = [{key for item in part for key in keys(item)} for part in parts]
    assert all(not seen[i] & seen[j] for i in range(3) for j in range(i))
    assert split(items, (first, second), seed, keys) == parts


@given(
    st.lists(st.text("abc", min_size=1, max_size=3), max_size=30, unique=True),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_what_is_set_aside_is_made_of_what_is_left(items: list[str], size: int, spare: int) -> None:
    try:
        train, aside = split(items, (size,), 0, keys=lambda item: [item], needs=list, spare=spare)
    except ValueError:
        return
    for item in aside:
        assert all(sum(need in other for other in train) >= spare for need in item)


def test_seeds_split_differently_and_too_much_is_told() -> None:
    items = [(i, i) for i in range(100)]
    assert split(items, (10,), 0, keys)[1] != split(items, (10,), 1, keys)[1]
    with pytest.raises(ValueError, match="of 100 items"):
        split(items, (101,), 0, keys)
