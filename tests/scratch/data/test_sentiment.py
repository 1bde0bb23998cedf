"""The real ratings: how many, how clean, and split so that no copy of a text is on the other side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratch.data import cache
from scratch.data.manifest import manifest
from scratch.data.sentiment import alike, build, clean, key, load_rated, load_sentiment

needs_data = pytest.mark.skipif(
    not cache.is_whole(manifest().sets["sentiment"]), reason="'sentiment' is not built: `make data`"
)


def test_texts_are_built_once_each_where_they_say_something(tmp_path: Path) -> None:
    rows = [
        "1\t2.5\tSo   lucky &amp; happy",
        "2\t0.4\tA bus",
        "3\t1.5\tso lucky & happy.",
        "4\t-0.5\tOh &lt;/3",
        "5\t-1\tOh no",
    ]
    counts = build({"p": {"tweets.txt": "\r\n".join(rows).encode() + b"\r\n"}}, tmp_path)
    assert counts == {"texts": 3, "positive": 1, "groups": 3}
    lines = (tmp_path / "rated.tsv").read_text("utf-8").splitlines()
    assert lines == ["0\t2.000000\tSo lucky & happy", "1\t-0.500000\tOh </3", "2\t-1.000000\tOh no"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Yay. Another good phone interview.", "YAY!!! Another good phone interview!!! :D"),
        ("@anonymous Thank you so much", "thank you so much"),
        (
            "I favorited a YouTube video -- cats http://url_removed",
            "I favorited a YouTube video -- a long talk about dogs",
        ),
        ("what a lovely day for a walk", "what a lovely, lovely day for a short walk"),
    ],
)
def test_copies_and_forms_that_are_filled_in_are_alike(one: str, other: str) -> None:
    assert alike([one, "something else", other]) == [0, 1, 0]


@given(st.lists(st.lists(st.sampled_from("a b c d e f g h".split()), max_size=7).map(" ".join), max_size=12))
def test_texts_that_share_most_words_are_found_as_if_all_were_compared(texts: list[str]) -> None:
    number = alike(texts)
    for i, one in enumerate(texts):
        for j, other in enumerate(texts[:i]):
            a, b = set(key(one).split()), set(key(other).split())
            if a and b and len(a & b) >= 0.6 * len(a | b):
                assert number[i] == number[j]


@given(st.text(max_size=60))
def test_clean_text_is_one_line_without_entities(text: str) -> None:
    assert clean(text) == " ".join(clean(text).split())
    assert clean("a &amp;lt;3 b &quot;c&quot;") == 'a <3 b "c"'


@needs_data
def test_there_are_as_many_texts_as_expected() -> None:
    rated = load_rated()
    assert len(rated) == 3370
    assert all(0.5 <= abs(each.rating) <= 4 for each in rated)
    assert sum(each.label for each in rated) == 2314
    assert all(each.label == (each.rating > 0) for each in rated)
    assert len({key(each.text) for each in rated}) == len(rated)


@needs_data
def test_no_markup_is_left() -> None:
    for each in load_rated():
        assert each.text == each.text.strip() != ""
        assert not re.search(r"&#?\w+;|\s\s|[\t\n\r]|<[a-z/][^>]*>|�", each.text), each


@needs_data
@pytest.mark.parametrize("seed", range(5))
def test_no_copy_is_on_the_other_side(seed: int) -> None:
    data = load_sentiment(held_out=600, validation=300, seed=seed)
    parts = (data.train, data.validation, data.held_out)
    assert [len(part) for part in parts[1:]] == [300, 600]
    assert sorted(each for part in parts for each in part) == sorted(load_rated())
    told = [
        {
            tuple(sorted(set(re.findall("[a-z']+", key(each.text)))))
            for each in part
            if len(key(each.text).split()) > 3
        }
        for part in parts
    ]
    groups = [{each.group for each in part} for part in parts]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not told[one] & told[other]
        assert not groups[one] & groups[other]
    for part in parts:
        assert 0.62 < sum(each.label for each in part) / len(part) < 0.75


@needs_data
def test_a_seed_says_it_all() -> None:
    assert load_sentiment(seed=3) == load_sentiment(seed=3)
    assert load_sentiment(seed=3).held_out != load_sentiment(seed=4).held_out
    assert load_sentiment().source == "vaderSentiment 2.5 (MIT)"


def test_without_data_it_says_make_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))
    with pytest.raises(cache.NotBuilt, match="`make data`"):
        load_sentiment()
