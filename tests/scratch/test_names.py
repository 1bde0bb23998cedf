"""The place names: fit to be spelt, the same for the same seed, and held out without a leak."""

import random
import unicodedata

import pytest

from scratch.data.names import JOINTS, LONGEST, load_names

locales = pytest.mark.parametrize("locale", ["en", "pt", "de", "vi"])


def bare(name: str) -> str:
    """A name by its letters alone."""
    return "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if c.isalpha())


def all_names(locale: str) -> list[str]:
    """What is held out and what is not."""
    train, held_out = load_names(locale)
    return train + held_out


@locales
def test_a_few_hundred_names_some_of_them_held_out(locale: str) -> None:
    train, held_out = load_names(locale)
    assert len(train) > 450
    assert 0.1 < len(held_out) / len(train) < 0.25


@locales
def test_no_name_is_on_both_sides_nor_twice_on_one_however_it_is_spelt(locale: str) -> None:
    train, held_out = load_names(locale)
    letters = [bare(name) for name in train + held_out]
    assert len(set(letters)) == len(letters)


@locales
def test_names_are_letters_and_what_joins_them(locale: str) -> None:
    for name in all_names(locale):
        assert all(letter.isalpha() or letter in JOINTS for letter in name), name
        assert 0 < len(name) <= LONGEST
        assert name == name.strip()


def test_names_that_everybody_knows_are_among_them_and_what_is_no_place_is_not() -> None:
    names = set(all_names("en"))
    assert {"Brazil", "Addis Ababa", "Tell City", "Port-au-Prince"} <= names
    assert not {"Unknown Region", "Unknown City", "Pseudo-Bidi", "UTC", "GMT", "Eurozone"} & names
    assert {"Brasil", "São Paulo"} <= set(all_names("pt"))


def test_the_seed_decides_the_split_and_the_order_and_nothing_else_does() -> None:
    first = load_names(seed=1)
    random.seed(5)
    assert load_names(seed=1) == first
    other = load_names(seed=2)
    assert set(other[1]) != set(first[1])
    assert sorted(other[0] + other[1]) == sorted(first[0] + first[1])


def test_what_is_done_to_the_lists_does_not_come_back() -> None:
    train, _ = load_names()
    count = len(train)
    train.clear()
    assert len(load_names()[0]) == count


def test_an_unknown_locale_is_refused_by_name() -> None:
    for locale in ("xx", "no such thing", ""):
        with pytest.raises(ValueError, match="CLDR has no locale"):
            load_names(locale)
