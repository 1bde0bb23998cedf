"""Properties of ``scratch.data.reversing``: a target is its source back to front, whatever the length."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch.data.reversing import END, LETTERS, PAD, SIZE, reversing, spell


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 6), st.integers(0, 2**31 - 1))
def test_targets_are_sources_back_to_front(count, shortest, more, seed):
    longest = shortest + more
    source, target = reversing(count, shortest, longest, seed)
    assert source.shape == target.shape == (count, longest + 1)
    assert source.dtype == target.dtype == torch.int64
    for read, written in zip(source.tolist(), target.tolist(), strict=True):
        length = read.index(END)
        assert shortest <= length <= longest
        assert all(END < i < SIZE for i in read[:length])
        assert written[:length] == read[length - 1 :: -1]
        assert read[length:] == written[length:] == [END] + [PAD] * (longest - length)


def test_a_seed_repeats_itself_and_another_does_not():
    one, again, other = (reversing(20, 1, 9, seed)[0] for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_every_length_and_letter_turns_up():
    source, _ = reversing(2_000, 1, 5, seed=0)
    words = [spell(row) for row in source]
    assert {len(word) for word in words} == {1, 2, 3, 4, 5}
    assert set("".join(words)) == set(LETTERS)


@pytest.mark.parametrize(("shortest", "longest"), [(0, 3), (4, 3)])
def test_refuses_impossible_lengths(shortest, longest):
    with pytest.raises(ValueError, match="lengths must rise"):
        reversing(1, shortest, longest, seed=0)


def test_spelling_stops_at_the_end_and_shows_what_is_no_letter():
    assert spell(torch.tensor([3, 4, 1, 0, 12, 2, 5])) == "ab..j"
