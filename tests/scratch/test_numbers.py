"""Numbers in words: known ones, and one text for each number and language."""

import importlib.util

import pytest

from scratch.data.numbers import english, load_numbers, portuguese

KNOWN = {
    0: ("zero", "zero"),
    16: ("dezesseis", "sixteen"),
    40: ("quarenta", "forty"),
    99: ("noventa e nove", "ninety-nine"),
    100: ("cem", "one hundred"),
    101: ("cento e um", "one hundred one"),
    200: ("duzentos", "two hundred"),
    1000: ("mil", "one thousand"),
    1_100: ("mil e cem", "one thousand one hundred"),
    1_234: ("mil duzentos e trinta e quatro", "one thousand two hundred thirty-four"),
    2_021: ("dois mil e vinte e um", "two thousand twenty-one"),
    100_000: ("cem mil", "one hundred thousand"),
    321_040: ("trezentos e vinte e um mil e quarenta", "three hundred twenty-one thousand forty"),
}


@pytest.mark.parametrize(("number", "texts"), KNOWN.items())
def test_known_numbers(number, texts):
    assert (portuguese(number), english(number)) == texts


def test_every_number_has_a_text_of_its_own():
    for write in (portuguese, english):
        assert len({write(number) for number in range(0, 1_000_000, 37)}) == len(range(0, 1_000_000, 37))


@pytest.mark.parametrize("number", [-1, 1_000_000])
def test_other_numbers_are_refused(number):
    with pytest.raises(ValueError, match="can be written"):
        portuguese(number)


def test_held_out_numbers_are_others():
    train, held_out = load_numbers(500, seed=3)
    assert (len(train), len(held_out)) == (450, 50)
    assert not set(train) & set(held_out)
    assert load_numbers(500, seed=3)[0] == train
    with pytest.raises(ValueError, match="count"):
        load_numbers(-1)


@pytest.mark.skipif(importlib.util.find_spec("num2words") is None, reason="num2words is optional")
def test_num2words_says_the_same():
    from num2words import num2words

    for number in range(0, 1_000_000, 997):
        assert english(number) == num2words(number, lang="en").replace(" and ", " ").replace(",", "")
        assert portuguese(number) == num2words(number, lang="pt_BR").replace(",", "")
