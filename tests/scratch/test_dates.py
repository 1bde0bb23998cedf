"""Properties of ``scratch.data.dates``: one date a pair, a split that shares none, tokens that join to the text."""

from datetime import date

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch.data.dates import (
    BEGIN,
    END,
    FIRST,
    FORMATS,
    LAST,
    PAD,
    SPECIAL,
    Codec,
    load_dates,
    tokenize,
    write_date,
)

seeds = st.integers(0, 2**31 - 1)
levels = st.sampled_from(["words", "characters"])
quick = settings(max_examples=40, deadline=None)
ABBREVIATED = "yMMMEd"


class TestWriteDate:
    @pytest.mark.parametrize(
        ("form", "source", "target"),
        [
            ("full", "quinta-feira, 12 de março de 2026", "Thursday, March 12, 2026"),
            ("long", "12 de março de 2026", "March 12, 2026"),
            ("medium", "12 de mar. de 2026", "Mar 12, 2026"),
            ("short", "12/03/2026", "3/12/26"),
            (ABBREVIATED, "qui., 12 de mar. de 2026", "Thu, Mar 12, 2026"),
        ],
    )
    def test_tells_one_date_in_every_format(self, form, source, target):
        day = date(2026, 3, 12)
        assert (write_date(day, form, "pt"), write_date(day, form, "en")) == (source, target)

    @pytest.mark.parametrize("form", ["MMMMd", "yMMMM", "y", ""])
    def test_refuses_formats_that_tell_different_dates_alike(self, form):
        with pytest.raises(ValueError, match="must tell day, month and year"):
            write_date(FIRST, form, "en")

    def test_refuses_formats_that_the_language_lacks(self):
        with pytest.raises(ValueError, match="Babel knows no format"):
            write_date(FIRST, "yMMdQQQQQ", "en")


class TestLoadDates:
    @quick
    @given(st.integers(0, 300), st.floats(0, 1), seeds)
    def test_no_date_is_there_twice_and_none_on_both_sides(self, count, share, seed):
        train, held_out = load_dates(count, held_out=share, seed=seed)
        assert len(held_out) == round(share * count)
        assert len({pair.day for pair in train + held_out}) == len(train + held_out) == count
        assert all(FIRST <= pair.day <= LAST for pair in train + held_out)

    @quick
    @given(seeds, st.lists(st.sampled_from([*FORMATS, ABBREVIATED]), min_size=1, max_size=5, unique=True))
    def test_both_sides_tell_the_day_in_the_format(self, seed, formats):
        train, held_out = load_dates(20, formats, seed=seed)
        for pair in train + held_out:
            assert pair.form in formats
            assert pair.source == write_date(pair.day, pair.form, "pt")
            assert pair.target == write_date(pair.day, pair.form, "en")

    @quick
    @given(seeds)
    def test_a_seed_repeats_itself_and_another_does_not(self, seed):
        assert load_dates(30, seed=seed) == load_dates(30, seed=seed) != load_dates(30, seed=seed + 1)

    def test_every_format_and_every_token_of_the_task_turns_up(self):
        train, held_out = load_dates()
        assert {pair.form for pair in held_out} == set(FORMATS)
        assert (len(train), len(held_out)) == (10_800, 1_200)
        codec = Codec.of(pair.source for pair in train)
        codec.encode([pair.source for pair in held_out])  # raises where a token is new

    def test_other_languages(self):
        (pair, *_), _ = load_dates(1, ["long"], languages=("en", "de"), held_out=0)
        assert (pair.source, pair.target) == tuple(write_date(pair.day, "long", to) for to in ("en", "de"))

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"count": -1}, "count must lie between"),
            ({"count": 80_000}, "count must lie between 0 and 73049"),
            ({"held_out": 1.5}, "held_out is a share"),
            ({"formats": []}, "formats is empty"),
            ({"formats": ["MMMd"]}, "must tell day, month and year"),
        ],
    )
    def test_refuses_what_it_cannot_do(self, options, says):
        with pytest.raises(ValueError, match=says):
            load_dates(**{"count": 10} | options)


class TestTokenize:
    @given(st.text(), levels)
    def test_tokens_join_to_the_text(self, text, level):
        tokens = tokenize(text, level)
        assert "".join(tokens) == text
        assert all(tokens)

    def test_names_stay_whole_and_numbers_do_not(self):
        tokens = tokenize("quinta-feira, 12 de março")
        assert tokens == ["quinta-feira", ",", " 1", "2", " de", " março"]

    def test_refuses_other_levels(self):
        with pytest.raises(ValueError, match="level must be"):
            tokenize("a", "bytes")


class TestCodec:
    @quick
    @given(st.lists(st.text(max_size=12), max_size=6), levels)
    def test_gives_texts_back(self, texts, level):
        codec = Codec.of(texts, level)
        ids = codec.encode(texts)
        assert codec.decode(ids.tolist()) == texts
        assert ids.dtype == torch.int64
        assert len(codec) == len(set(codec.tokens))

    @quick
    @given(st.lists(st.text(max_size=12), min_size=1, max_size=6))
    def test_each_row_ends_once_and_is_padded_behind(self, texts):
        ids = Codec.of(texts).encode(texts)
        lengths = [len(tokenize(text)) for text in texts]
        assert ids.shape == (len(texts), max(lengths) + 1)
        for row, length in zip(ids.tolist(), lengths, strict=True):
            assert row[length:] == [END] + [PAD] * (len(row) - length - 1)
            assert all(i >= len(SPECIAL) for i in row[:length])

    def test_special_tokens_have_their_places_and_write_nothing(self):
        codec = Codec.of(["b a"])
        assert codec.tokens == ("<pad>", "<begin>", "<end>", " a", "b")
        assert codec.decode([[BEGIN, 4, PAD, 3, END, 4]]) == ["b a"]

    def test_a_text_that_spells_a_special_token_is_text(self):
        codec = Codec.of(["<end>"])
        assert codec.decode(codec.encode(["<end>"]).tolist()) == ["<end>"]

    def test_refuses_unknown_tokens(self):
        with pytest.raises(ValueError, match="' b' is not in the vocabulary"):
            Codec.of(["a"]).encode(["a b"])

    def test_no_texts_make_no_rows(self):
        assert Codec.of([]).encode([]).shape == (0, 0)
