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
from typing import Any

from proctor.constants import MAX_WAYS
from proctor.names import DEFINITIONS, NOWHERE, Meaning, Names
from proctor.reader import Reader, Uses
from proctor.scopes import (
    COMPREHENSIONS,
    ELSEWHERE,
    called,
    cell_magic,
    imported,
    in_scopes,
    is_namespace,
    local_names,
    matched,
    names_used,
    starred,
    statements,
)

_MAX_NESTED = 5  # code in texts in code


class Definitions:
    """The top-level definitions and imports of a notebook's cells, in the order in which they are run."""

    def __init__(self, cells: Iterable[str], depth: int = 0) -> None:
        self.final: dict[str, Meaning] = {}
        self.starred: list[str] = []
        self.patches: dict[
            str, list[Meaning]
        ] = {}  # what was put into libraries, by the last part of its name
        self.written: dict[str, Definitions] = {}  # modules that the notebook writes: `%%writefile helper.py`
        self._uses: dict[str, Uses] = {}
        self._last: tuple[Any, dict[str, Meaning]] = (None, {})
        self._aliases: Names | None = None
        self.unread = False  # whether a cell runs code that cannot be read
        for source in cells:
            self._add(source, depth)

    def uses(self, name: str) -> Uses:
        """What a name uses, directly or through other names of the notebook. For reading: it is kept."""
        if name not in self._uses:
            self._uses[name] = self._read(name)
        return self._uses[name]

    def _read(self, name: str) -> Uses:
        uses = Uses(unread=self.unread)
        todo, seen = [meaning for meaning in [self.final.get(name)] if meaning], set[int]()
        if not todo:
            uses.names.update(f"{module}.{name}" for module in self.starred)
        # `torch.Tensor.__matmul__ = …` acts where no name is seen.
        todo += (m for name, patches in self.patches.items() if name.startswith("__") for m in patches)
        while todo:
            meaning = todo.pop()
            if id(meaning) in seen:
                continue
            seen.add(id(meaning))
            todo += [meaning.may] if meaning.may else []
            if isinstance(meaning.what, str):
                uses.names.add(meaning.what)
                todo += self.patches.get(meaning.what.rpartition(".")[-1], ())
            elif id(meaning.what) not in seen:  # of one statement's names, the first speaks for all
                seen.add(id(meaning.what))
                todo += Reader(meaning, uses).read()
            if not todo:
                todo += self._of_written(uses.names)
                todo = [meaning for meaning in todo if id(meaning) not in seen]
        return uses

    def _of_written(self, names: Iterable[str]) -> list[Meaning]:
        parts = [name.split(".") for name in sorted(names)]
        of = [
            (self.written[first].final, part)
            for first, *rest in parts
            if first in self.written
            for part in rest[:1]
        ]
        return [final[part] for final, part in of if part in final]

    def _add(self, source: str, depth: int) -> None:
        name, line, below = cell_magic(source)
        if name:
            self._run_magic(name, line, below, depth)
            return
        for node in statements(source):
            self._define(node, True, depth)

    def _run_magic(self, name: str, line: str, below: str, depth: int) -> None:
        if depth >= _MAX_NESTED or name in ELSEWHERE:
            return
        if name in ("writefile", "file"):
            module = line.split()[-1].strip("\"'").removesuffix(".py") if line.split() else ""
            self.written[module] = Definitions([below], depth + 1)
        elif name in ("time", "timeit", "prun"):
            self._add(f"{line}\n{below}", depth + 1)
        elif name == "run":
            self._add(
                f"from {line.split()[-1].removesuffix('.py')} import *" if line.split() else "", depth + 1
            )
        else:
            self._add(below, depth + 1)

    def _define(self, node: ast.AST, sure: bool, depth: int) -> None:
        if isinstance(node, DEFINITIONS):
            self._bind(node.name, node, sure)
            for inner, names in in_scopes(node):
                for name in inner.names if isinstance(inner, ast.Global) else ():
                    self._bind(name, node, False)
                self._store(inner, node, names)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, dotted in imported(node):
                self._bind(name, dotted, sure)
            for module in starred(node):
                self._star(module)
        elif isinstance(node, ast.Match):
            header = ast.Module([node.subject, *(case.pattern for case in node.cases)], [])
            self._note(header, False, depth)
            for case in node.cases:
                self._define(case, False, depth)
        elif hasattr(node, "body") and not isinstance(node, ast.expr):
            sure = sure and isinstance(node, (ast.With, ast.AsyncWith))
            inner = (ast.stmt, ast.ExceptHandler, ast.match_case)
            children = list(ast.iter_child_nodes(node))
            header: ast.AST = ast.Module(
                [c for c in children if not isinstance(c, (*inner, ast.pattern))], []
            )
            if isinstance(node, (ast.For, ast.AsyncFor)):
                header = ast.For(node.target, node.iter, [], [])
            self._note(header, sure, depth)
            for child in children:
                if isinstance(child, inner):
                    self._define(child, sure, depth)
        else:
            self._note(node, sure, depth)

    def _star(self, module: str) -> None:
        """Take every name of a module."""
        if module in self.written:
            self.final |= self.written[module].final
            return
        self.starred.append(module)
        for name in [name for name in self.final if lookup(f"{module}.{name}") is not None]:
            self._bind(name, f"{module}.{name}", False)

    def _note(self, node: ast.AST, sure: bool, depth: int) -> None:
        """Take down what a statement gives to names, and to the attributes and entries of what names stand for."""
        hidden = {
            name for part in ast.walk(node) if isinstance(part, COMPREHENSIONS) for name in local_names(part)
        }
        for part in list(ast.walk(node)):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store) and part.id not in hidden:
                self._bind(part.id, node, sure and not isinstance(node, ast.AugAssign))
            for name in matched(part):
                self._bind(name, node, False)
            self._store(part, node)
            if isinstance(part, ast.Call):
                self._run(part, depth)

    def _run(self, call: ast.Call, depth: int) -> None:
        """Read the code in the texts that a call runs."""
        names = self._names(call)
        if depth >= _MAX_NESTED:
            return
        if called(call) in ("run_cell_magic", "run_line_magic"):
            for given in zip(*map(names.fold, call.args), strict=False):
                name, line, below, *_ = *map(str, given), "", ""
                self._run_magic(name, line, below, depth + 1)
        elif names.runs(call, NOWHERE):
            texts = names.code(call, NOWHERE)
            for text in texts:
                self._add(text, depth + 1)
            self.unread = self.unread or not (
                texts or names.runs(call.args[0] if call.args else None, NOWHERE)
            )

    def _store(self, part: ast.AST, node: ast.AST, inner: frozenset[str] = NOWHERE) -> None:
        """Take down what a part of a statement, or of a definition, puts into something."""
        if isinstance(part, (ast.Attribute, ast.Subscript)) and isinstance(part.ctx, ast.Store):
            key = [part.attr] if isinstance(part, ast.Attribute) else self._names(node).fold(part.slice)
            self._put(part.value, key, node, inner)
        elif isinstance(part, ast.Call) and called(part) in ("setattr", "__setattr__") and len(part.args) > 1:
            *target, key, _ = part.args
            target = target[0] if target else getattr(part.func, "value", None)
            self._put(target, self._names(node).fold(key), node, inner)
        elif isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
            target = part.func.value
            if is_namespace(target) or part.func.attr == "push":  # `globals().update(attend=…)`
                keys = [word.arg for word in part.keywords]
                for arg in (key for one in part.args for key in getattr(one, "keys", [one])):
                    keys += self._names(node).fold(arg)
                self._put(ast.Name("__main__"), keys, node, inner)
            elif self._hands_over(part, inner):  # `tools.append(…)`
                self._put(target, (), node, inner)

    def _put(self, target: ast.AST, keys: Iterable[Any], node: ast.AST, inner: frozenset[str]) -> None:
        if is_namespace(target) or "__main__" in self._names(node).dotted(target, NOWHERE):
            for key in keys:
                self._bind(str(key), node, False)
            return
        while isinstance(target, (ast.Attribute, ast.Subscript)) or called(target) == "vars":
            target = target.value if not isinstance(target, ast.Call) else (target.args or [None])[0]
        if not isinstance(target, ast.Name) or target.id in inner:
            return
        former = self.final.get(target.id)
        if former is not None and isinstance(former.what, ast.AST) and not former.libraries:
            self._bind(target.id, node, False)
        elif former is not None or target.id == "__builtins__":
            for key in keys:
                self.patches.setdefault(str(key), []).append(self._meaning(node))

    def _hands_over(self, call: ast.Call, inner: frozenset[str]) -> bool:
        """Whether a call is given a function or a module, rather than what a function has returned."""
        names = self._names(call)
        given = [node for part in (*call.args, *call.keywords) for node in ast.walk(part)]
        inside = {id(getattr(node, "func", getattr(node, "value", None))) for node in given}
        inside -= {id(word.value) for word in call.keywords}
        for node in given:
            if isinstance(node, ast.Lambda):
                return True
            if isinstance(node, (ast.Name, ast.Attribute)) and id(node) not in inside:
                own = self.final.get(node.id) if isinstance(node, ast.Name) and node.id not in inner else None
                if names.dotted(node, inner) or (own and isinstance(own.what, DEFINITIONS)):
                    return True
        return False

    def _names(self, node: ast.AST) -> Names:
        return Names(Meaning(node, self))

    def _meaning(self, what: str | ast.AST) -> Meaning:
        if self._last[0] is not what:  # one statement may bind many names
            used = names_used(what, later=False) if isinstance(what, ast.AST) else ()
            self._last = (what, {name: self.final[name] for name in used if name in self.final})
        return Meaning(what, self, self._last[1])

    def _bind(self, name: str, what: str | ast.AST, sure: bool) -> None:
        former = self.final.get(name)
        if former is not None and former.what is what:
            return
        meaning = self._meaning(what)
        libraries, values = {what} if isinstance(what, str) else set(), ()
        if isinstance(what, ast.AST) and not isinstance(what, DEFINITIONS):
            if self._aliases is None or self._aliases.meaning.what is not what:
                self._aliases = Names(meaning)
                self._aliases.take_all()
            libraries, values = self._aliases.aliases.get(name, set()), self._aliases.constants.get(name, ())
        if former is not None and not sure:
            meaning.may = former
            libraries, values = libraries | former.libraries, (*former.values, *values)
        meaning.libraries, meaning.values = frozenset(libraries), values[:MAX_WAYS]
        self.final[name] = meaning


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
    except (AttributeError, ImportError, ValueError):
        return None
    return value
