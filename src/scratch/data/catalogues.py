"""Reads the texts of programs with their translations: JSON tables of Home Assistant, catalogues of gettext."""

import contextlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

_LANGUAGE = re.compile(r"(?<![^/])(en|pt-BR)(-[0-9a-f]{32})?\.json$")


def texts(members: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """Yield each text of a package as (Portuguese, English), in the order of the files' names and the entries in them.

    Raises:
        ValueError: a file is not of the form that its name tells.
    """
    tables: dict[str, dict[str, Any]] = {}
    for name in sorted(members):
        if name.endswith(".json"):
            language = _LANGUAGE.search(name)
            if language:
                tables.setdefault(name[: language.start()], {})[language[1]] = json.loads(members[name])
        elif name.endswith(".po"):
            with contextlib.redirect_stdout(
                io.StringIO()
            ):  # it prints what it thinks of a catalogue's plural forms
                yield from _of_catalogue(read_po(io.BytesIO(members[name]), locale="pt_BR"))
        elif name.endswith(".mo"):
            yield from _of_catalogue(read_mo(io.BytesIO(members[name])))
    for both in tables.values():
        english, portuguese = (dict(_leaves(both.get(language, {}))) for language in ("en", "pt-BR"))
        yield from ((portuguese[key], text) for key, text in english.items() if key in portuguese)


def _of_catalogue(catalogue: Catalog) -> Iterator[tuple[str, str]]:
    """The texts of a catalogue: the original is English. What a program only guessed is marked fuzzy, and left out."""
    for message in catalogue:
        if message.id and not message.fuzzy:
            originals, translations = (
                text if isinstance(text, tuple | list) else [text] for text in (message.id, message.string)
            )
            yield from ((ours, text) for text, ours in zip(originals, translations, strict=False) if ours)


def _leaves(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        elif isinstance(value, str):
            yield (*path, key), value
