"""Which modules a unit's sandbox does not have: those that hold what the unit asks to write.

It is told from names, from where modules lie and from what distributions say of themselves; nothing is imported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.machinery import PathFinder

LIBRARY = "scratch"  # what the course builds
DISTRIBUTION = "transformers-from-scratch"  # this one, as it is installed
# They come with the course to be compared with and for later units; a sandbox loads them where its unit says so.
READY_MADE = frozenset({"tokenizers", "transformers"})


def blocked_modules(
    forbidden: Mapping[str, Iterable[str]], allowed: Mapping[str, str], preload: Iterable[str] = ()
) -> dict[str, str]:
    """The modules that a unit's sandbox does not have, each with a sentence for those who import it.

    These are the modules of the course's library that an exercise forbids, or a name in them; and packages that
    every exercise which forbids anything forbids as a whole, if nothing in the sandbox needs them.

    Args:
        forbidden: what each exercise forbids, as dotted names.
        allowed: the sentence in which an exercise says what may be used instead.
        preload: what the unit has loaded into its sandbox.
    """
    lists = {exercise: tuple(names) for exercise, names in forbidden.items() if tuple(names)}
    found: dict[str, list[str]] = {}
    for exercise, names in lists.items():
        for name in names:
            if name.split(".")[0] == LIBRARY:
                found.setdefault(module_of(name), []).append(exercise)
    whole = set.intersection(*map(set, lists.values())) if lists else set()
    needed = {name.split(".")[0] for name in preload}
    for name in sorted(whole):
        if "." not in name and name != LIBRARY and name not in needed and not _is_needed(name):
            found[name] = list(lists)
    return {
        module: _sentence(module, [allowed.get(one, "") for one in found[module]]) for module in sorted(found)
    }


def module_of(dotted: str) -> str:
    """The module of the course's library that a dotted name is, or lies in.

    A name that is not there (yet) is taken for a module directly in the library, never for the library as a whole.
    """
    parts = dotted.split(".")
    module, spec = parts[0], importlib.util.find_spec(parts[0])
    for part in parts[1:]:
        if spec is None or spec.submodule_search_locations is None:
            break
        spec = PathFinder.find_spec(f"{module}.{part}", spec.submodule_search_locations)
        if spec is None:
            break
        module = f"{module}.{part}"
    return max(module, ".".join(parts[:2]), key=len)


def _sentence(module: str, allowed: Iterable[str]) -> str:
    says = f"`{module}` already holds what this unit asks you to write, so it cannot be imported here."
    sentences = list(dict.fromkeys(filter(None, allowed)))
    if len(sentences) == 1:
        return f"{says} {sentences[0]}"
    return f"{says} Use what you have written yourself in the exercises above, and what an exercise says it allows."


def _is_needed(package: str) -> bool:
    """Whether a package is Python's own, or one that the course is installed with: the sandbox may load it."""
    if package in READY_MADE:
        return False
    if package in sys.stdlib_module_names or package == __name__.split(".")[0]:
        return True
    return any(_plain(name) in _course_needs() for name in _owners().get(package, [package]))


@cache
def _owners() -> Mapping[str, list[str]]:
    """The distributions that packages come from, by the packages' names."""
    return importlib.metadata.packages_distributions()  # this takes a second


@cache
def _course_needs() -> frozenset[str]:
    """The distributions that this one needs, and those that these need."""
    seen: set[str] = set()
    todo = [DISTRIBUTION]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            requirements = importlib.metadata.requires(name) or ()
        except importlib.metadata.PackageNotFoundError:
            continue
        todo += [
            _plain(re.split(r"[^\w.-]", line, maxsplit=1)[0])
            for line in requirements
            if "extra ==" not in line
        ]
    return frozenset(seen)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
