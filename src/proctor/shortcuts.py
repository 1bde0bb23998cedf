"""Finds answers that are taken from a library which the exercise asks the learner to write.

What an exercise may not use is listed in ``exercises.toml``. Here the learner's code is read, never run: from the
answer's definition, through every name that it uses and the notebook defines, to the dotted names of what it
calls. A forbidden function in a cell that only compares results with the library's is no shortcut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from proctor.definitions import Definitions, lookup


def find_shortcut(cells: Iterable[str], answer: str, forbidden: Iterable[str], allowed: str = "") -> str:
    """One kind sentence if the definition of ``answer`` uses a forbidden name; empty if it does not.

    Args:
        cells: the code cells in the order in which they are run; the last definition of a name counts.
        answer: the name that the exercise asks for.
        forbidden: dotted names; what lies below one is forbidden with it. The operator ``@`` is ``operator.matmul``.
        allowed: a sentence that says what may be used instead.
    """
    forbidden = tuple(forbidden)
    if not forbidden:
        return ""
    uses = _definitions(tuple(cells)).uses(answer)
    for used in sorted(uses.names):
        for name in forbidden:
            if _leads_to(used, name):
                return told(used, allowed)
    for name in forbidden:
        # `tools = [torch.nn]; tools[0].functional.softmax`: the library in one place, the name in another.
        if name.rpartition(".")[-1] in uses.attributes and _above(name, uses.whole):
            return told(name, allowed)
    return ""


def find_suspicion(cells: Iterable[str], answer: str, forbidden: Iterable[str]) -> str:
    """One sentence for a person where an answer cannot be read to its end; empty where it can.

    It runs code that it computes, or looks something up in a forbidden function's library by a name that it
    computes. There are honest reasons for either, so this is no verdict.
    """
    forbidden = tuple(forbidden)
    if not forbidden:
        return ""
    uses = _definitions(tuple(cells)).uses(answer)
    if not uses.unread and not any(_above(name, uses.looked_up) for name in forbidden):
        return ""
    return (
        f"`{answer}` looks up or runs something under a name that it computes, so that reading it cannot tell "
        f"what it uses; {LOOK}."
    )


def kind_of(note: str) -> str:
    """What a note of a verdict is about, for whoever looks after the class."""
    return "suspected shortcut" if LOOK in note else "damaged notebook"


ALREADY = "already is what this exercise asks you to write"  # how a shortcut is known in a verdict,
LOOK = "please have a look at its cell"  # and the suspicion of one in its notes


def told(used: str, allowed: str = "") -> str:
    """What the learner is told of a shortcut."""
    used = "@" if used == "operator.matmul" else used
    says = f"`{used}` {ALREADY}, so it may not be used here."
    return f"{says} {allowed}" if allowed else says


@lru_cache(maxsize=4)
def _definitions(cells: tuple[str, ...]) -> Definitions:
    return Definitions(cells)


def _above(name: str, wholes: Iterable[str]) -> bool:
    """Whether a forbidden name lies in one of these modules."""
    above = name.rpartition(".")[0]
    return any(f"{above}.".startswith(f"{whole}.") or whole == "sys.modules" for whole in wholes)


def _leads_to(used: str, name: str) -> bool:
    """Whether a dotted name is a forbidden one, lies below it, or is another name of the same."""
    if used == name or used.startswith(name + "."):
        return True
    if used.split(".")[0] != name.split(".")[0]:
        return False
    return _is_inner_name(used, name) or _same_object(used, name)


def _same_object(used: str, name: str) -> bool:
    """Whether two dotted names lead to one function, such as one of torch's by its inner name, or to one class."""
    one = lookup(used)
    if one is None:
        return False
    other = lookup(name)
    return one is other or (isinstance(one, type) and isinstance(other, type) and issubclass(one, other))


def _is_inner_name(used: str, name: str) -> bool:
    """Whether a name is that of torch's own operator for a forbidden function: ``torch.ops.aten._softmax.default``.

    Nobody comes upon these by chance, so that it is enough for all words of the forbidden name to be in them.
    """
    _, first, *rest = *used.split("."), ""
    if first != "ops" and not first.startswith("_"):
        return False
    wanted, words = _words(name.rpartition(".")[-1]), _words(".".join((first, *rest)))
    return wanted <= words or "".join(sorted(wanted)) in words


def _words(name: str) -> set[str]:
    return set(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace(".", "_").split("_")) - {""}
