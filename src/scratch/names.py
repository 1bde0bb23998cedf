"""Names in many languages: what Unicode's CLDR calls languages, countries and currencies, as Babel carries it.

A small, real text that is the same on every machine: names of places and languages, some common, most rare, with the
endings that a language makes such names with.
"""

from babel import Locale


def names(language: str = "en") -> list[str]:
    """Return the names of languages, countries and currencies in a language, given by its code, such as "pt"."""
    known = Locale.parse(language)
    return [*known.languages.values(), *known.territories.values(), *known.currencies.values()]
