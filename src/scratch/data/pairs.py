"""Which texts of a user interface make a pair of sentences, and how they are written then."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import chain

FEWEST, MOST = 2, 8  # English words of a pair
MOST_PORTUGUESE = 12
OFTEN = 4  # pairs in which every word must stand

_WORD = r"[^\W\d_]+(?:['-][^\W\d_]+)*"  # don't, wi-fi
_NO_SENTENCE = re.compile(
    r"[{}<>\[\]()%$@\\|=&#*_/`~^+≠»·⌘\n\t]"  # placeholders, markup, brackets, paths, lists of names
    r"|\d"  # with its number taken out, "from 1 to 9" is no sentence
    r"|[^\W\d_][.:][^\W\d_]"  # configuration.yaml, host:port, e.g.
    r"|�|[\x80-\x9f]|[ÃÂ][^\w\s,.!?]|[ÃÂ][ºª]|â€"  # letters that were lost or read in the wrong code
)
_OTHER_SCRIPTS = re.compile(r"[^\W\d_a-zà-öø-ÿ]")
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))
_APOSTROPHES = str.maketrans("’‘´ʼ‑", "''''-")
# Words that only the one language has: in the other's text they show that it was not translated.
_ENGLISH = frozenset(
    "the is are of and to not with your you this that be from was will has have it its which".split()
)
_PORTUGUESE = frozenset(
    "não de para com uma um dos das seu sua este esta são foi por os em ao pelo pela você".split()
)
# A Portuguese text that ends so goes on in something that was put after it on the screen.
_OPEN = frozenset("no na nos nas do da dos das ao aos os um uma".split())


def words(text: str) -> list[str] | None:
    """Return the lower-cased words of a text, or None where it is no sentence of words alone."""
    text = unicodedata.normalize("NFC", text).translate(_INVISIBLE).replace("\u00a0", " ").strip()
    if _NO_SENTENCE.search(text):
        return None
    text = text.lower().translate(_APOSTROPHES)
    return None if _OTHER_SCRIPTS.search(text) else re.findall(_WORD, text)


def pair(portuguese: str, english: str) -> tuple[str, str] | None:
    """Return two texts as a pair of sentences, or None where they are none, or the one is not a translation."""
    ours, theirs = words(portuguese), words(english)
    if not ours or not theirs or not FEWEST <= len(theirs) <= MOST or len(ours) > MOST_PORTUGUESE:
        return None
    if _ENGLISH & set(ours) or _PORTUGUESE & set(theirs) or plain("".join(ours)) == plain("".join(theirs)):
        return None
    if ours[-1] in _OPEN or (ours[0] in _PORTUGUESE and len(ours) == 1):
        return None
    return " ".join(ours), " ".join(theirs)


def plain(sentence: str) -> str:
    """Return a sentence's letters without accents, hyphens and spaces: "on-line" and "online" are one."""
    return re.sub(r"[^a-z]", "", unicodedata.normalize("NFD", sentence))


def one_answer(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return each Portuguese sentence once, with the English one that it has most often; of equals, the first."""
    often: dict[str, Counter[str]] = {}
    for portuguese, english in pairs:
        often.setdefault(portuguese, Counter())[english] += 1
    return [(portuguese, english.most_common(1)[0][0]) for portuguese, english in often.items()]


def of_common_words(pairs: Iterable[tuple[str, str]], often: int = OFTEN) -> list[tuple[str, str]]:
    """Return the pairs all of whose words, on either side, stand in so many of the pairs returned."""
    kept = list(pairs)
    while True:
        ours, theirs = (
            Counter(chain.from_iterable(set(side.split()) for side in sides)) for sides in _sides(kept)
        )
        common = [
            (p, e)
            for p, e in kept
            if all(ours[word] >= often for word in p.split())
            and all(theirs[word] >= often for word in e.split())
        ]
        if len(common) == len(kept):
            return kept
        kept = common


def _sides(pairs: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [p for p, _ in pairs], [e for _, e in pairs]
