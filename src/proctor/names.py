"""What expressions stand for, as far as reading tells: the dotted names of libraries, and constants."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from proctor.constants import MAX_WAYS, fold
from proctor.scopes import assigned, called, imported, matched, names_used

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTERS = {"import_module", "__import__", "locate", "resolve_name", "import_item", "run_module"}
_RUNNERS = {"builtins.exec", "builtins.eval", "builtins.compile"}  # of code in a text
_SHELL = {"run_cell", "ex", "ev"}  # the same in IPython
_LOOK_UPS = {"get", "__getitem__", "pop", "setdefault"}
# What else leads from texts to functions.
_BUILTINS = set("getattr vars exec eval compile __import__ __builtins__".split())
_MAX_DEPTH = 50  # calls in calls
NOWHERE: frozenset[str] = frozenset()  # no function: no name is local


@dataclass(slots=True, eq=False)
class Meaning:
    """What a name stands for: a library's dotted name or code; also what it ``may`` still stand for instead."""

    what: str | ast.AST
    home: Notebook
    at_once: dict[str, Meaning] = field(default_factory=dict)
    may: Meaning | None = None
    libraries: frozenset[str] = frozenset()  # the dotted names that it is another name of
    values: tuple[Any, ...] = ()  # the constants that it may be


class Notebook(Protocol):
    """The definitions among which a meaning stands."""

    final: dict[str, Meaning]
    starred: list[str]
    patches: dict[str, list[Meaning]]


class Names:
    """What expressions of one definition stand for."""

    def __init__(self, meaning: Meaning) -> None:
        self.meaning, self.home = meaning, meaning.home
        self.aliases: dict[str, set[str]] = {}  # of names within the definition
        self.constants: dict[str, tuple[Any, ...]] = {}
        self.resolved: set[int] = set()  # the expressions that are parts of a longer dotted name
        self.looked_up: set[str] = set()  # libraries in which a name is looked up that is computed
        self.known: dict[int, set[str]] = {}  # dotted names by the expression's id

    @cached_property
    def later(self) -> set[str]:
        """The names that functions in the definition use when they are called."""
        what = self.meaning.what
        return names_used(what, later=True) if isinstance(what, ast.AST) else set()

    def take_all(self) -> None:
        """Take down what a statement gives to names."""
        for node in ast.walk(self.meaning.what) if isinstance(self.meaning.what, ast.AST) else ():
            self.take_aliases(node, NOWHERE)

    def fold(self, node: ast.AST | None, inner: frozenset[str] = NOWHERE) -> tuple[Any, ...]:
        """What an expression may come to."""

        def values(name: str) -> Iterable[Any]:
            yield from self.constants.get(name, ())
            for meaning in () if name in inner else self.meanings(name):
                yield from meaning.values

        return fold(node, values)

    def functions(self, call: ast.Call, inner: frozenset[str], depth: int = 0) -> set[str]:
        """The last parts of the names that what is called may have."""
        return {called(call), *(name.rsplit(".", 1)[-1] for name in self.dotted(call.func, inner, depth + 1))}

    def runs(self, call: ast.AST | None, inner: frozenset[str]) -> bool:
        """Whether a call runs the code in a text."""
        if not isinstance(call, ast.Call):
            return False
        by_shell = isinstance(call.func, ast.Attribute) and call.func.attr in _SHELL
        return by_shell or not _RUNNERS.isdisjoint(self.dotted(call.func, inner))

    def code(self, call: ast.Call, inner: frozenset[str]) -> list[str]:
        """The texts that a call runs as code."""
        return [
            text
            for text in self.fold(first_of(call), inner)
            if isinstance(text, str) and self.runs(call, inner)
        ]

    def dotted(self, node: ast.AST | None, inner: frozenset[str], depth: int = 0) -> set[str]:
        """The dotted names that an expression may be: ``F.softmax``, ``getattr(F, "softmax")``, ``(f := F)``."""
        if id(node) in self.known:
            return self.known[id(node)]
        first, attributes = node, list[str]()
        while isinstance(node, ast.Attribute):
            if not (node.attr in _LOOK_UPS and self._is_table(node.value)):
                self.resolved.add(id(node.value))
            attributes += [] if node.attr == "__dict__" else [node.attr]
            node = node.value
        base: set[str] = set()
        if depth <= _MAX_DEPTH:
            base = self._base(node, inner, depth + 1)
        self.known[id(first)] = {".".join([name, *reversed(attributes)]) for name in base}
        return self.known[id(first)]

    def _base(self, node: ast.AST | None, inner: frozenset[str], depth: int) -> set[str]:
        match node:
            case ast.Name(id=name):
                return self.aliases.get(name, set()) | (set() if name in inner else self._libraries(name))
            case ast.NamedExpr(value=value):
                return self.dotted(value, inner, depth)
            case ast.IfExp(body=one, orelse=other):
                return self.dotted(one, inner, depth) | self.dotted(other, inner, depth)
            case ast.Subscript(value=table, slice=key) if self._is_table(table):
                return self._entries(table, key, inner, depth)
            case ast.Call(func=ast.Attribute(value=table, attr=name), args=[key, *_]) if (
                name in _LOOK_UPS and self._is_table(table)
            ):
                return self._entries(table, key, inner, depth)
            case ast.Call():
                return self._result(node, inner, depth)
        return set()

    def _result(self, call: ast.Call, inner: frozenset[str], depth: int) -> set[str]:
        """The dotted names that a call may return."""
        functions = self.functions(call, inner, depth)
        target, key = [*call.args, None, None][:2]
        if "vars" in functions:
            return self.dotted(target, inner, depth)
        if isinstance(call.func, ast.Call) and "attrgetter" in self.functions(call.func, inner, depth):
            return self._of(target, call.func.args[0] if call.func.args else None, inner, depth)
        if functions & {"getattr", "getattr_static"} and key is not None:
            return self._of(target, key, inner, depth)
        if "__getattribute__" in functions and isinstance(call.func, ast.Attribute):
            plain = key is None
            return self._of(call.func.value if plain else target, target if plain else key, inner, depth)
        if functions & IMPORTERS:
            names = [text for text in self.fold(first_of(call), inner) if isinstance(text, str)]
            given = [*call.args[1:2], *(word.value for word in call.keywords if word.arg == "package")]
            if names and names[0].startswith("."):
                names = [
                    f"{above}{name}"
                    for above in self.fold(given[0] if given else None, inner)
                    for name in names
                ]
            whole = "__import__" not in functions or len(call.args) + len(call.keywords) > 1
            return {name.replace(":", ".") if whole else name.split(".")[0] for name in names}
        return set()

    def _of(self, target: ast.AST | None, key: ast.AST | None, inner: frozenset[str], depth: int) -> set[str]:
        """What ``getattr`` gives."""
        above, names = self.dotted(target, inner, depth), self.fold(key, inner)
        if above and names:
            self.resolved.add(id(target))
        elif above:
            self.looked_up |= above
        return {f"{one}.{name}" for one in above for name in names if isinstance(name, str)}

    def _entries(self, table: ast.AST, key: ast.AST, inner: frozenset[str], depth: int) -> set[str]:
        """What is found in ``vars(F)``, ``F.__dict__``, ``sys.modules`` or ``__builtins__``."""
        names = [name for name in self.fold(key, inner) if isinstance(name, str)]
        if isinstance(table, ast.Name) and table.id == "__builtins__":
            return {f"builtins.{name}" for name in names}
        above = self.dotted(table, inner, depth)
        if not names:
            self.looked_up |= above
        else:
            self.resolved.add(id(table))
        return {name if one == "sys.modules" else f"{one}.{name}" for one in above for name in names}

    def _is_table(self, node: ast.AST) -> bool:
        match node:
            case ast.Attribute(attr="__dict__" | "modules") | ast.Name(id="__builtins__"):
                return True
            case ast.Call(func=ast.Name(id="vars"), args=[_]):
                return True
            case ast.Name(id=name):
                return "sys.modules" in self.aliases.get(name, set()) | self._libraries(name)
        return False

    def meanings(self, name: str) -> list[Meaning]:
        once = self.meaning.at_once.get(name)
        last = self.home.final.get(name) if once is None or name in self.later else None
        return [meaning for meaning in (once, last) if meaning is not None]

    def _libraries(self, name: str) -> set[str]:
        found = self.meanings(name)
        if not found and name in _BUILTINS:
            return {"builtins" if name == "__builtins__" else f"builtins.{name}"}
        return {dotted for meaning in found for dotted in meaning.libraries}

    def take_aliases(self, node: ast.AST, inner: frozenset[str]) -> None:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, dotted in imported(node):
                self.aliases.setdefault(name, set()).add(dotted)
        for target, value, each in assigned(node):
            name = getattr(target, "id", getattr(target, "arg", None)) or next(iter(matched(target)), None)
            if not name:
                continue
            dotted = set() if each else self.dotted(value, inner)
            if dotted:
                self.aliases.setdefault(name, set()).update(dotted)
                if name in inner or node is self.meaning.what or isinstance(node, ast.arguments):
                    self.resolved.add(id(value))  # its other name counts instead
            if isinstance(node, ast.AugAssign):
                value = ast.BinOp(ast.Name(name, ast.Load()), node.op, value)
            ways = self.fold(value, inner)
            if each:
                ways = tuple(one for way in ways if isinstance(way, (tuple, str)) for one in way)
            ways = (*self.constants.get(name, ()), *ways)
            if ways:
                self.constants[name] = tuple(dict.fromkeys(ways))[:MAX_WAYS]


def first_of(call: ast.Call) -> ast.AST | None:
    """The first argument of a call, by place or by name."""
    return (*call.args, *(word.value for word in call.keywords), None)[0]
