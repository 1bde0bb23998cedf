"""What byte-pair encoding works on: words, bytes, and one merge. Unit 05 gives these, and asks for the rest.

A **word** is a run of letters, of digits, of signs or of white space; a single space before it belongs to it. The bytes
of a word in UTF-8 are its first tokens: 256 suffice for every text in every script.
"""

import re
from collections.abc import Sequence

Pair = tuple[int, int]  # the ids of two neighbouring tokens

PAD, BOS, EOS, UNK = range(4)  # the ids of the special tokens: padding, beginning, end, unknown
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")  # their names, in order of their ids

# Written out, since engines of regular expressions differ in what they take for a letter beyond ASCII.
SPACE, DIGIT = r"\t-\r ", "0-9"
SIGN = r"!-/:-@\[-`{-~¡-©«-´¶-¹»-¿‐-⁞、-〿"
PATTERN = (
    f" ?[{DIGIT}]+| ?[{SIGN}]+| ?[^{SPACE}{DIGIT}{SIGN}]+"  # digits, signs, letters and all else
    f"|[{SPACE}]+(?![^{SPACE}])|[{SPACE}]+"  # white space, but for the one that goes with the next word
)
_WORD = re.compile(PATTERN)

_PRINTED = [*range(33, 127), *range(161, 173), *range(174, 256)]
ALPHABET = tuple(
    bytes([byte]) for byte in (*_PRINTED, *(byte for byte in range(256) if byte not in set(_PRINTED)))
)
"""The tokens 0 to 255, one for each byte, in the order that GPT-2 gave them: first those that can be printed."""
_IDS = {token[0]: i for i, token in enumerate(ALPHABET)}


def split_words(text: str) -> list[str]:
    """Cut a text into words, so that no token reaches across two of them; joined together they are the text.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.2, where the
    rule also cuts off English endings such as 's.
    """
    return _WORD.findall(text)


def byte_ids(word: str) -> list[int]:
    """Return the ids in ``ALPHABET`` of a word's bytes in UTF-8."""
    return [_IDS[byte] for byte in word.encode("utf-8")]


def merge_pair(ids: Sequence[int], pair: Pair, new: int) -> list[int]:
    """Replace every occurrence of a pair of neighbours by the id ``new``, from left to right.

    Occurrences do not overlap: (a, a) in the ids a, a, a gives new, a.
    """
    merged: list[int] = []
    i = 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == tuple(pair):
            merged.append(new)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged
