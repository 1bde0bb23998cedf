"""Reads one definition of a notebook: the library's names in it, and the notebook's own names that it uses."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from proctor.names import Meaning, Names, first_of
from proctor.scopes import imported, in_scopes, is_namespace, statements

# By these a module gives away its names.
_INSIDES = {"__dict__", "__getattribute__", "__getattr__", "__globals__"}
# These tell of a function without calling it.
_ABOUT = {"__doc__", "__name__", "__qualname__", "__module__"}
# By these code does what reading cannot tell.
_UNREADABLE = set(
    "get_objects get_referrers get_referents _getframe currentframe setprofile settrace CodeType "
    "input_transformers_post input_transformers_cleanup ast_transformers".split()
)
_DOTTED = re.compile(r"[^\W\d]\w*(?:[.:][^\W\d]\w*)*")
_MAX_NESTED = 5  # code in texts in code
Scoped = tuple[ast.AST, frozenset[str]]


@dataclass(slots=True)
class Uses:
    """What a definition uses: dotted names, those used as a whole (``f(torch.nn)``), attributes of anything.

    ``unread`` tells whether it looks something up, or runs something, that cannot be told from reading.
    """

    names: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    looked_up: set[str] = field(
        default_factory=set
    )  # libraries in which a name that is computed is looked up
    unread: bool = False


class Reader(Names):
    """Reads one definition."""

    def __init__(self, meaning: Meaning, uses: Uses) -> None:
        super().__init__(meaning)
        self.uses = uses

    def read(self) -> list[Meaning]:
        """The meanings of the notebook's names that the definition uses."""
        nodes = self._nodes()
        self.known.clear()
        self.looked_up.clear()
        dotted = [self.dotted(node, inner) for node, inner in nodes]
        about = {
            id(part)
            for node, _ in nodes
            if getattr(node, "attr", "") in _ABOUT
            for part in (node, node.value)
        }
        # Of a sum, the whole is looked at; what it begins with says no more.
        begins = {id(node.left) for node, _ in nodes if isinstance(node, ast.BinOp)}
        found: list[Meaning] = []
        words: set[str] = set()
        namespace = False
        for (node, inner), names in zip(nodes, dotted, strict=True):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.uses.names.update(name for own, name in imported(node) if own not in inner)
            elif id(node) not in about and isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
                self.uses.names |= names
                self.uses.whole |= names if id(node) not in self.resolved else set()
            if isinstance(node, ast.Attribute) and not names:
                words.add(node.attr)
            elif isinstance(node, ast.MatchClass):
                words.update(node.kwd_attrs)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in inner:
                found += self.meanings(node.id)
                if node.id not in self.home.final:
                    self.uses.names.update(f"{module}.{node.id}" for module in self.home.starred)
                    words.add(node.id)
            elif isinstance(node, ast.expr) and id(node) not in begins:
                words.update(part for text in self._texts(node, inner) for part in re.split("[.:]", text))
            main = [name for name in names if name.startswith("__main__.")]
            words.update(part for name in main for part in name.split("."))
            namespace = namespace or bool(main) or is_namespace(node)
            if isinstance(getattr(node, "op", None), ast.MatMult):  # by the name under which it is forbidden
                self.uses.names.add("operator.matmul")
            self._note_insides(node, inner)
        self.uses.attributes |= words
        self.uses.looked_up |= self.looked_up
        patched = (
            words.union(*(name.split(".") for names in dotted for name in names)) & self.home.patches.keys()
        )
        found += (meaning for name in sorted(patched) for meaning in self.home.patches[name])
        for meaning in [
            self.home.final[word] for word in sorted(words) if namespace and word in self.home.final
        ]:
            found.append(meaning)
            self.uses.whole |= meaning.libraries
        return found

    def _nodes(self) -> list[Scoped]:
        """Every node of the definition, with those of the code in its texts."""
        nodes = more = list(in_scopes(self.meaning.what)) if isinstance(self.meaning.what, ast.AST) else []
        for _ in range(_MAX_NESTED):
            for _ in range(3):  # an alias of an alias
                for node, inner in nodes:
                    self.take_aliases(node, inner)
                self.known.clear()
            calls = [(node, inner) for node, inner in more if isinstance(node, ast.Call)]
            more = [
                below
                for call, inner in calls
                for code in self.code(call, inner)
                for statement in statements(code)
                for below in in_scopes(statement, inner)
            ]
            if not more:
                break
            nodes = nodes + more
        return nodes

    def _texts(self, node: ast.expr, inner: frozenset[str]) -> Iterator[str]:
        """The texts that an expression may come to, where they look like names."""
        for value in self.fold(node, inner):
            if isinstance(value, str) and _DOTTED.fullmatch(value):
                yield value

    def _note_insides(self, node: ast.AST, inner: frozenset[str]) -> None:
        """Take down what gives away a library's names, and what cannot be read."""
        if isinstance(node, ast.Attribute) and node.attr in _INSIDES:
            names = self.dotted(node.value, inner)
            self.uses.whole |= names if id(node) not in self.resolved or node.attr != "__dict__" else set()
            if node.attr == "__globals__":
                self.uses.whole.update(name.split(".")[0] for name in names)
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
        self.uses.unread = self.uses.unread or (isinstance(node, ast.expr) and name in _UNREADABLE)
        if (
            isinstance(node, ast.Call)
            and (first := first_of(node)) is not None
            and not self.runs(first, inner)
        ):
            looks = self.runs(node, inner) or self.functions(node, inner) & {"import_module", "__import__"}
            self.uses.unread = self.uses.unread or bool(looks and not self.fold(first, inner))
