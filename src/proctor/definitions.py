"""What the names of a notebook stand for, read from its code: definitions, imports, aliases, and what they use.

Python binds a function's names when it is called, and everything else when it is run. So a definition holds the
former meanings of the names that it uses at once (bases, decorators, defaults, the right-hand side of ``=``), and
the names in a function's body mean what they mean at the end of the notebook. Nothing is run.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from proctor.scopes import (
    COMPREHENSIONS,
    called,
    imported,
    in_scopes,
    local_names,
    names_used,
    starred,
    statements,
    texts,
)

_RUNNERS = {"exec", "eval", "run_cell", "run_cell_magic", "run_line_magic", "ex", "ev"}
_IMPORTERS = {"importlib.import_module", "import_module", "__import__"}
_MAX_NESTED = 5  # code in strings in code


@dataclass(slots=True, eq=False)
class Meaning:
    """What a name stands for: a library's dotted name or code; also what it ``may`` still stand for instead."""

    what: str | ast.AST
    at_once: dict[str, Meaning] = field(default_factory=dict)
    may: Meaning | None = None
    libraries: frozenset[str] = frozenset()  # the dotted names that it is another name of


@dataclass(slots=True)
class Uses:
    """What a definition uses: dotted names, those used as a whole (``f(torch.nn)``), attributes of anything."""

    names: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)


class Definitions:
    """The top-level definitions and imports of a notebook's cells, in the order in which they are run."""

    def __init__(self, cells: Iterable[str]) -> None:
        self.final: dict[str, Meaning] = {}
        self.starred: list[str] = []
        for source in cells:
            self._add(source, 0)

    def uses(self, name: str) -> Uses:
        """What a name uses, directly or through other names of the notebook."""
        uses = Uses()
        todo, seen = [meaning for meaning in [self.final.get(name)] if meaning], set[int]()
        if not todo:
            uses.names.update(f"{module}.{name}" for module in self.starred)
        while todo:
            meaning = todo.pop()
            if id(meaning) in seen:
                continue
            seen.add(id(meaning))
            todo += [meaning.may] if meaning.may else []
            if isinstance(meaning.what, str):
                uses.names.add(meaning.what)
            else:
                todo += _Reader(self, meaning, uses).read()
        return uses

    def _add(self, source: str, depth: int) -> None:
        for node in statements(source):
            self._define(node, True, depth)

    def _define(self, node: ast.AST, sure: bool, depth: int) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self._bind(node.name, node, sure)
            for inner in ast.walk(node):
                for name in inner.names if isinstance(inner, ast.Global) else ():
                    self._bind(name, node, False)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, dotted in imported(node):
                self._bind(name, dotted, sure)
            for module in starred(node):
                self.starred.append(module)
                for name in [name for name in self.final if lookup(f"{module}.{name}") is not None]:
                    self._bind(name, f"{module}.{name}", False)
        elif hasattr(node, "body") and not isinstance(node, ast.expr):
            header = ast.Module([], [])
            sure = sure and isinstance(node, (ast.With, ast.AsyncWith))
            for child in ast.iter_child_nodes(node):
                if isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)):
                    self._define(child, sure, depth)
                else:
                    header.body.append(child)
            self._note(header, sure, depth)
        else:
            self._note(node, sure, depth)

    def _note(self, node: ast.AST, sure: bool, depth: int) -> None:
        """Take down what a statement gives to names, and to the attributes and entries of what names stand for."""
        hidden = {
            name for part in ast.walk(node) if isinstance(part, COMPREHENSIONS) for name in local_names(part)
        }
        for part in list(ast.walk(node)):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store) and part.id not in hidden:
                self._bind(part.id, node, sure and not isinstance(node, ast.AugAssign))
            elif isinstance(part, (ast.Attribute, ast.Subscript)) and isinstance(part.ctx, ast.Store):
                self._extend(part, node)
            elif isinstance(part, ast.Call):
                method = called(part)
                if method == "setattr" and part.args:
                    self._extend(part.args[0], node)
                elif method in _RUNNERS and depth < _MAX_NESTED:
                    for text in texts(part):
                        self._add(text, depth + 1)
                elif isinstance(part.func, ast.Attribute):
                    self._extend(part.func, node)  # `tools.append(…)`

    def _extend(self, target: ast.AST, node: ast.AST) -> None:
        while isinstance(target, (ast.Attribute, ast.Subscript)):
            target = target.value
        if isinstance(target, ast.Name) and isinstance(self.final.get(target.id, Meaning("")).what, ast.AST):
            self._bind(target.id, node, False)

    def _bind(self, name: str, what: str | ast.AST, sure: bool) -> None:
        former = self.final.get(name)
        if former is not None and former.what is what:
            return
        names = names_used(what, later=False) if isinstance(what, ast.AST) else ()
        meaning = Meaning(what, {used: self.final[used] for used in names if used in self.final})
        libraries = {what} if isinstance(what, str) else _Reader(self, meaning, Uses()).aliases_of(name)
        if former is not None and not sure:
            meaning.may = former
            libraries |= former.libraries
        meaning.libraries = frozenset(libraries)
        self.final[name] = meaning


class _Reader:
    """Reads one definition: notes the library's names in it, and finds the notebook's own that it uses."""

    def __init__(self, definitions: Definitions, meaning: Meaning, uses: Uses) -> None:
        self.definitions, self.meaning, self.uses = definitions, meaning, uses
        self.aliases: dict[str, set[str]] = {}  # of names within the definition
        self.later = names_used(meaning.what, later=True) if isinstance(meaning.what, ast.AST) else set()

    def read(self) -> list[Meaning]:
        """The meanings of the notebook's names that the definition uses."""
        found: list[Meaning] = []
        nodes = list(in_scopes(self.meaning.what))
        for _ in range(3):  # an alias of an alias
            for node, inner in nodes:
                self._take_aliases(node, inner)
        inside = {id(node.value) for node, _ in nodes if isinstance(node, ast.Attribute)}
        for node, inner in nodes:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.uses.names.update(dotted for _, dotted in imported(node))
            dotted = self._dotted(node, inner)
            self.uses.names |= dotted
            if id(node) not in inside and isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
                self.uses.whole |= dotted
            if isinstance(node, ast.Attribute) and not dotted:
                self.uses.attributes.add(node.attr)
            elif isinstance(node, ast.Call) and called(node) in (
                "getattr",
                "attrgetter",
                "__getattribute__",
            ):
                self.uses.attributes.update(part for text in texts(node) for part in text.split("."))
            elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                self.uses.attributes.add(str(node.slice.value))
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in inner:
                found += self._meanings(node.id)
                if node.id not in self.definitions.final:
                    self.uses.names.update(f"{module}.{node.id}" for module in self.definitions.starred)
        return found

    def aliases_of(self, name: str) -> set[str]:
        """The dotted names that an assignment makes a name stand for."""
        if not isinstance(self.meaning.what, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for node in ast.walk(self.meaning.what):
                self._take_aliases(node, frozenset())
        return self.aliases.get(name, set())

    def _meanings(self, name: str) -> list[Meaning]:
        once = self.meaning.at_once.get(name)
        last = self.definitions.final.get(name) if once is None or name in self.later else None
        return [meaning for meaning in (once, last) if meaning is not None]

    def _take_aliases(self, node: ast.AST, inner: frozenset[str]) -> None:
        pairs: list[tuple[ast.AST | None, ast.AST | None]] = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.withitem):
            pairs = [(node.optional_vars, node.context_expr)]
        elif isinstance(node, (ast.For, ast.comprehension)) and isinstance(node.iter, (ast.Tuple, ast.List)):
            pairs = [(node.target, value) for value in node.iter.elts]
        elif isinstance(node, ast.arguments):
            named = [*node.posonlyargs, *node.args]
            pairs = [*zip(named[len(named) - len(node.defaults) :], node.defaults, strict=True)]
            pairs += zip(node.kwonlyargs, node.kw_defaults, strict=True)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, dotted in imported(node):
                self.aliases.setdefault(name, set()).add(dotted)
        for target, value in pairs:
            name = getattr(target, "id", getattr(target, "arg", None))
            if name and value is not None and (dotted := self._dotted(value, inner)):
                self.aliases.setdefault(name, set()).update(dotted)

    def _dotted(self, node: ast.AST, inner: frozenset[str]) -> set[str]:
        """The dotted names that an expression may be: ``F.softmax``, ``getattr(F, "softmax")``, ``(f := F)``."""
        attributes: list[str] = []
        while True:
            if isinstance(node, ast.Attribute):
                attributes += [] if node.attr == "__dict__" else [node.attr]
                node = node.value
            elif isinstance(node, ast.NamedExpr):
                node = node.value
            elif isinstance(node, ast.Call) and called(node) == "getattr" and len(node.args) > 1:
                if not (named := texts(node)) or isinstance(node.args[0], ast.Constant):
                    return set()
                attributes.append(named[0])
                node = node.args[0]
            else:
                break
        base: set[str] = set()
        if isinstance(node, ast.Name):
            base = self.aliases.get(node.id, set()) | (
                set() if node.id in inner else self._libraries(node.id)
            )
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            if "sys.modules" in self._dotted(node.value, inner):
                base = {str(node.slice.value)}
        elif isinstance(node, ast.Call) and texts(node):
            function = self._dotted(node.func, inner) | {called(node)}
            if function & _IMPORTERS:
                text = texts(node)[0]
                whole = "__import__" not in function or len(node.args) + len(node.keywords) > 1
                base = {text if whole else text.split(".")[0]}
        return {".".join([name, *reversed(attributes)]) for name in base}

    def _libraries(self, name: str) -> set[str]:
        return {dotted for meaning in self._meanings(name) for dotted in meaning.libraries}


def lookup(dotted: str) -> Any:
    """What a dotted name of torch or of the course's library is; None for anything else.

    Nothing is imported, and no code is run, on the word of a submission.
    """
    *above, last = dotted.split(".")
    if not above or above[0] not in ("torch", "scratch"):
        return None
    try:
        value: Any = importlib.import_module(above[0])
        if above[0] == "scratch":
            value, above = importlib.import_module(".".join(above)), above[:1]
        for part in (*above[1:], last):
            value = inspect.getattr_static(value, part)
    except (AttributeError, ImportError):
        return None
    return value
