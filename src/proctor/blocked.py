"""On the student's side: modules that hold what a unit asks to write cannot be imported, and a sentence says why.

This is a fence for convenience, and it stands on the student's own side: who wants to can climb it. What keeps the
files away is the wall around the sandbox, behind which they do not exist; but there Python only says that there is no
such module, and a learner who has imported from habit wants to know why.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from functools import wraps
from importlib.machinery import ModuleSpec
from types import ModuleType


class Refusal:
    """A finder of modules that comes first, and refuses some with a sentence."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self.modules = dict(modules)

    def sentence(self, name: str) -> str:
        """Why a module cannot be imported; empty if it can."""
        while name and name not in self.modules:
            name = name.rpartition(".")[0]
        return self.modules.get(name, "")

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Python's import system asks every finder for a module; here it is refused."""
        if sentence := self.sentence(name):
            # Like a module that is not installed, so that `except ImportError` and its kind do what they are for. The
            # error does not name the module: `from scratch import attention` would swallow one that does.
            raise ModuleNotFoundError(sentence)
        return None


def install(modules: Mapping[str, str]) -> None:
    """Refuse to import modules, and what lies below them; each with its sentence, by its dotted name.

    What is loaded of them is dropped. A later call replaces an earlier one's modules.
    """
    refusal = Refusal(modules)
    sys.meta_path[:] = [refusal, *(finder for finder in sys.meta_path if not isinstance(finder, Refusal))]
    for name in [name for name in sys.modules if refusal.sentence(name)]:
        sys.modules.pop(name)
        above, _, last = name.rpartition(".")
        vars(sys.modules.get(above, refusal)).pop(last, None)
    _answer_find_spec(refusal)


def _answer_find_spec(refusal: Refusal) -> None:
    """Who asks whether a module is there is told no, as by ``pkgutil`` and ``runpy``, which ask here too."""
    plain = getattr(importlib.util.find_spec, "__wrapped__", importlib.util.find_spec)

    @wraps(plain)
    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        absolute = importlib.util.resolve_name(name, package)
        return None if refusal.sentence(absolute) else plain(name, package)

    importlib.util.find_spec = find_spec
