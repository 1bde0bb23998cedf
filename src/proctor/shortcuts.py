"""Finds answers that are taken from a library which the exercise asks the learner to write.

What an exercise may not use is listed in ``exercises.toml``. Here the learner's code is read, never run: from the
answer's definition, through every name that it uses and the notebook defines, to the dotted names of what it
calls. A forbidden function in a cell that only compares results with the library's is no shortcut.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from proctor.definitions import Definitions, lookup


def find_shortcut(cells: Iterable[str], answer: str, forbidden: Iterable[str], allowed: str = "") -> str:
    """One kind sentence if the definition of ``answer`` uses a forbidden name; empty if it does not.

    Args:
        cells: the code cells in the order in which they are run; the last definition of a name counts.
        answer: the name that the exercise asks for.
        forbidden: dotted names; what lies below one is forbidden with it.
        allowed: a sentence that says what may be used instead.
    """
    forbidden = tuple(forbidden)
    if not forbidden:
        return ""
    uses = _definitions(tuple(cells)).uses(answer)
    for used in sorted(uses.names):
        for name in forbidden:
            if used == name or used.startswith(name + ".") or _same_object(used, name):
                return _sentence(used, allowed)
    for name in forbidden:
        # `tools = [torch.nn]; tools[0].functional.softmax`: the library in one place, the name in another.
        above, _, last = name.rpartition(".")
        if last in uses.attributes and any(f"{above}.".startswith(f"{whole}.") for whole in uses.whole):
            return _sentence(name, allowed)
    return ""


@lru_cache(maxsize=4)
def _definitions(cells: tuple[str, ...]) -> Definitions:
    return Definitions(cells)


def _sentence(used: str, allowed: str) -> str:
    says = f"`{used}` already is what this exercise asks you to write, so it may not be used here."
    return f"{says} {allowed}" if allowed else says


def _same_object(used: str, name: str) -> bool:
    """Whether two dotted names lead to the same function, such as one of torch's by its inner name."""
    if used.split(".")[0] != name.split(".")[0]:
        return False
    one = lookup(used)
    return one is not None and one is lookup(name)
