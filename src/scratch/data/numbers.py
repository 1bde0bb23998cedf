"""Numbers in words, in Portuguese and English: a translation task in which every answer is right or wrong (unit 13).

``trezentos e vinte e um mil e quarenta`` is ``three hundred twenty-one thousand forty``. The rules are short enough to
be written here; whoever has the package ``num2words`` can compare.
"""

import random

LIMIT = 1_000_000  # numbers below it can be written

_PT = (
    "zero um dois três quatro cinco seis sete oito nove dez onze doze treze catorze quinze dezesseis dezessete dezoito "
    "dezenove"
).split()
_PT_TENS = "vinte trinta quarenta cinquenta sessenta setenta oitenta noventa".split()
_PT_HUNDREDS = (
    "cento duzentos trezentos quatrocentos quinhentos seiscentos setecentos oitocentos novecentos".split()
)
_EN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_EN_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def portuguese(number: int) -> str:
    """Write a number in Brazilian Portuguese words.

    Raises:
        ValueError: it is negative, or not below ``LIMIT``.
    """
    _within(number)
    thousands, rest = divmod(number, 1000)
    if not thousands:
        return _pt(rest)
    head = "mil" if thousands == 1 else f"{_pt(thousands)} mil"
    if not rest:
        return head
    # "e" stands before the last hundreds where these are one word: mil e cem, mil e vinte, but mil duzentos e um.
    return f"{head} e {_pt(rest)}" if rest < 100 or rest % 100 == 0 else f"{head} {_pt(rest)}"


def english(number: int) -> str:
    """Write a number in American English words; raises as ``portuguese`` does."""
    _within(number)
    thousands, rest = divmod(number, 1000)
    if not thousands:
        return _en(rest)
    return f"{_en(thousands)} thousand" + (f" {_en(rest)}" if rest else "")


def load_numbers(
    count: int = 4_000, *, held_out: float = 0.1, seed: int = 0
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return pairs (Portuguese, English) to train on and held-out ones, of different numbers.

    A fifth of the numbers lie below 1,000, two fifths from there to 10,000, and the others from there to a million:
    drawn evenly, hardly any would be short.

    Args:
        count: how many pairs there are in all, at most 5,000.
        held_out: the share of the pairs that is not for training, rounded to whole pairs.
        seed: the same seed draws the same numbers.

    Raises:
        ValueError: a count or a share that cannot be.
    """
    if not 0 <= count <= 5_000 or not 0 <= held_out <= 1:
        raise ValueError(
            f"count lies between 0 and 5,000 and held_out between 0 and 1, got {count} and {held_out}"
        )
    draw = random.Random(seed)  # noqa: S311 - nothing here is a secret
    short, middle = count // 5, 2 * count // 5
    numbers = draw.sample(range(1000), short) + draw.sample(range(1000, 10_000), middle)
    numbers += draw.sample(range(10_000, LIMIT), count - short - middle)
    draw.shuffle(numbers)
    pairs = [(portuguese(number), english(number)) for number in numbers]
    kept = count - round(held_out * count)
    return pairs[:kept], pairs[kept:]


def _within(number: int) -> None:
    if not 0 <= number < LIMIT:
        raise ValueError(f"numbers from 0 to {LIMIT - 1:,} can be written, got {number}")


def _pt(number: int) -> str:
    """Below 1000."""
    if number == 100:
        return "cem"
    if number >= 100:
        head, rest = _PT_HUNDREDS[number // 100 - 1], number % 100
    elif number >= 20:
        head, rest = _PT_TENS[number // 10 - 2], number % 10
    else:
        return _PT[number]
    return f"{head} e {_pt(rest)}" if rest else head


def _en(number: int) -> str:
    """Below 1000."""
    if number >= 100:
        head, rest = f"{_EN[number // 100]} hundred", number % 100
        return f"{head} {_en(rest)}" if rest else head
    if number >= 20:
        return _EN_TENS[number // 10 - 2] + (f"-{_EN[number % 10]}" if number % 10 else "")
    return _EN[number]
