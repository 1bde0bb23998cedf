"""Names out of Unicode's CLDR: places in one language for unit 06, and a small text in many languages for unit 05.

Source: the Unicode Common Locale Data Repository (https://cldr.unicode.org, Unicode licence), as the installed package
``babel`` ships it: the names of all territories with a code of two letters, and the exemplar cities of the world's time
zones. Where the repository holds no name for a city, because it equals the English one, the name stands in the zone's
identifier (``America/Sao_Paulo``) and is read from there, as the repository prescribes.
"""

import random
import unicodedata
from functools import cache

from babel import Locale, UnknownLocaleError
from babel.core import get_global

LONGEST = 20  # characters: longer names ("Territoires français du Pacifique…") are descriptions
SHARE = 0.15  # of the names is held out
JOINTS = " -'"  # what may stand between the letters of a name
NO_PLACES = {"EU", "EZ", "QO", "UN", "XA", "XB", "ZZ"}  # unions, "outlying", two test languages, "unknown"


def load_names(locale: str = "en", seed: int = 0) -> tuple[list[str], list[str]]:
    """Return place names to train on, and held-out ones, split at random by the seed.

    A name consists of letters, spaces, hyphens and apostrophes and has at most 20 characters. No two names of both
    lists together are the same, even if upper and lower case, accents and punctuation are disregarded, so that
    nothing held out has been seen. Each list is in random order; the same seed gives the same lists.

    Args:
        locale: the language of the names, as CLDR calls it: ``"en"`` has some 590, ``"pt"`` too.
        seed: chooses which names are held out, about one in seven.

    Raises:
        ValueError: CLDR has no such locale.
    """
    names = list(_names(locale))
    random.Random(seed).shuffle(names)  # noqa: S311 - a split, not a secret
    count = round(SHARE * len(names))
    return names[count:], names[:count]


def all_names(locale: str = "en") -> list[str]:
    """Return every name of a language, a country and a currency in a locale, in CLDR's order: a small, real text.

    Raises:
        ValueError: CLDR has no such locale.
    """
    known = _locale(locale)
    return [*known.languages.values(), *known.territories.values(), *known.currencies.values()]


def _locale(name: str) -> Locale:
    try:
        return Locale.parse(name)
    except (UnknownLocaleError, ValueError) as error:
        raise ValueError(f"CLDR has no locale {name!r}") from error


@cache
def _names(locale: str) -> tuple[str, ...]:
    """All names of a locale that are fit, one of each, in alphabetical order."""
    data = _locale(locale)
    codes = {code for code in data.territories if len(code) == 2} - NO_PLACES
    found = [data.territories[code] for code in codes]
    for zone in get_global("zone_territories"):
        region, _, city = zone.rpartition("/")
        if region not in ("", "Etc"):  # UTC and the like
            found.append(data.time_zones.get(zone, {}).get("city", city.replace("_", " ")))
    plain = (name.replace("’", "'").partition(",")[0] for name in found)
    fit = {_bare(name): name for name in sorted(plain) if _is_fit(name)}
    return tuple(sorted(fit.values()))


def _is_fit(name: str) -> bool:
    """Whether a name is of letters and what joins them, and not too long."""
    letters = name.translate({ord(joint): None for joint in JOINTS})
    return letters.isalpha() and len(name) <= LONGEST


def _bare(name: str) -> str:
    """A name by its letters alone, small and without accents: what two spellings of one name share."""
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in decomposed if letter.isalpha())
