"""Finds answers that are taken from a library which the exercise asks the learner to write.

What an exercise may not use is listed in ``exercises.toml``. Here the learner's code is read, never run: from the
answer's definition, through every name that it uses and the notebook defines, to the dotted names of what it
calls. A forbidden function in a cell that only compares results with the library's is no shortcut.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

_MAGIC = re.compile(r"^(\s*)[%!?].*$", re.MULTILINE)
_FINDERS = {"getattr", "importlib.import_module", "import_module", "__import__"}


def find_shortcut(cells: Iterable[str], answer: str, forbidden: Iterable[str], allowed: str = "") -> str:
    """One kind sentence if the definition of ``answer`` uses a forbidden name; empty if it does not.

    Args:
        cells: the code cells in the order in which they are run; the last definition of a name counts.
        answer: the name that the exercise asks for.
        forbidden: dotted names; what lies below one is forbidden with it.
        allowed: a sentence that says what may be used instead.
    """
    code = _Code(cells)
    forbidden = tuple(forbidden)
    for used in sorted(code.dotted_names(answer)):
        for name in forbidden:
            if used == name or used.startswith(name + ".") or _same_object(used, name):
                return (
                    f"`{used}` already is what this exercise asks you to write, so it may not be used here."
                    + (f" {allowed}" if allowed else "")
                )
    return ""


class _Code:
    """The top-level definitions and imports of a notebook."""

    def __init__(self, cells: Iterable[str]) -> None:
        self.defined: dict[str, ast.AST] = {}
        self.imported: dict[str, str] = {}
        self.starred: list[str] = []
        for source in cells:
            try:
                tree = ast.parse(_MAGIC.sub(r"\1pass", source))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue  # a cell that does not parse defines nothing when it is run either
            for node in tree.body:
                self._define(node)

    def _define(self, node: ast.stmt) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self._bind(node.name, node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        self._bind(name.id, node)
                    elif isinstance(name, ast.Attribute):
                        root = next((n for n in ast.walk(name) if isinstance(n, ast.Name)), None)
                        if root is not None and root.id in self.defined:
                            # `SelfAttention.forward = …`: the assignment is part of what the name means.
                            both = ast.Module(body=[self.defined[root.id], node], type_ignores=[])
                            self.defined[root.id] = both
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, dotted in _imports(node):
                self.imported[name] = dotted
                self.defined.pop(name, None)
            self.starred += _starred(node)
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.For, ast.While)):
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.stmt):
                    self._define(child)
                elif isinstance(child, ast.ExceptHandler):
                    for inner in child.body:
                        self._define(inner)

    def _bind(self, name: str, node: ast.AST) -> None:
        self.defined[name] = node
        self.imported.pop(name, None)

    def dotted_names(self, answer: str) -> set[str]:
        """Every dotted library name that the answer uses, directly or through the notebook's own names."""
        found: set[str] = set()
        todo, seen = [answer], set()
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.imported:
                found.add(self.imported[name])
            elif name in self.defined:
                node = self.defined[name]
                inner = dict(pair for n in ast.walk(node) for pair in _imports(n))
                aliases = self.imported | inner
                found.update(inner.values())
                for child in ast.walk(node):
                    dotted = _dotted(child, aliases)
                    if dotted:
                        found.add(dotted)
                    if isinstance(child, ast.Name):
                        todo.append(child.id)
            else:
                found.update(f"{module}.{name}" for module in self.starred)
        return found


def _imports(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
            if alias.name != "*":
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _starred(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom) and node.module and any(a.name == "*" for a in node.names):
        return [node.module]
    return []


def _dotted(node: ast.AST, aliases: dict[str, str]) -> str:
    """The full dotted name of an expression: ``F.softmax``, ``getattr(F, "softmax")``, ``import_module("…")``."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, "")
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value, aliases)
        return f"{base}.{node.attr}" if base else ""
    if isinstance(node, ast.Call) and node.args:
        function = _dotted(node.func, aliases) or (node.func.id if isinstance(node.func, ast.Name) else "")
        last = node.args[-1] if function != "getattr" else node.args[1] if len(node.args) > 1 else None
        if function in _FINDERS and isinstance(last, ast.Constant) and isinstance(last.value, str):
            if function != "getattr":
                return last.value
            base = _dotted(node.args[0], aliases)
            return f"{base}.{last.value}" if base else ""
    return ""


def _same_object(used: str, name: str) -> bool:
    """Whether two dotted names lead to the same function, such as one of torch's by its inner name."""
    if used.split(".")[0] != name.split(".")[0]:
        return False
    one, two = _lookup(used), _lookup(name)
    return one is not None and one is two


def _lookup(dotted: str) -> Any:
    parts = dotted.split(".")
    if parts[0] != "torch":  # nothing is imported on the word of a submission
        return None
    value: Any = importlib.import_module(parts[0])
    for part in parts[1:]:
        value = getattr(value, part, None)
    return value
