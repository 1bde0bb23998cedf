"""Dates whose words are labelled by the pattern that wrote them."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratch.data.dates import FIRST, FORMATS, LAST, write_date
from scratch.data.fields import INSIDE, LABELS, WORD, label_date, load_fields

LANGUAGES = ["en", "pt", "es", "fr", "de", "it", "nl", "da", "ro", "sv"]


@given(st.dates(FIRST, LAST), st.sampled_from(FORMATS), st.sampled_from(LANGUAGES))
def test_text_and_words_are_those_of_babel(day: date, form: str, language: str) -> None:
    row = label_date(day, form, language)
    assert row.text == write_date(day, form, language)
    assert row.words == WORD.findall(row.text)
    assert len(row.labels) == len(row.words)


@given(st.dates(FIRST, LAST), st.sampled_from(FORMATS), st.sampled_from(LANGUAGES))
def test_every_date_tells_day_month_and_year_once(day: date, form: str, language: str) -> None:
    row = label_date(day, form, language)
    told = {LABELS[label]: word for word, label in zip(row.words, row.labels, strict=True)}
    assert int(told["B-DAY"]) == day.day
    assert str(day.year).endswith(told["B-YEAR"])
    for field in ("DAY", "MONTH", "YEAR"):
        assert row.labels.count(LABELS.index(f"B-{field}")) == 1


def test_what_goes_on_within_a_field_is_marked() -> None:
    row = label_date(date(2026, 3, 12), "full", "pt")
    assert row.words == "quinta - feira , 12 de março de 2026".split()
    assert [LABELS[i] for i in row.labels] == (
        "B-WEEKDAY I-WEEKDAY I-WEEKDAY O B-DAY O B-MONTH O B-YEAR".split()
    )
    assert {LABELS[i]: LABELS[j] for i, j in INSIDE.items()} == {
        f"B-{field}": f"I-{field}" for field in ("WEEKDAY", "DAY", "MONTH", "YEAR")
    }


def test_the_same_seed_draws_the_same_dates_and_none_twice() -> None:
    rows = load_fields(["en"], 200, seed=4)
    assert rows == load_fields(["en"], 200, seed=4)
    assert rows != load_fields(["en"], 200, seed=5)
    with pytest.raises(ValueError, match="between 0 and 73049"):
        load_fields(["en"], 80_000)
