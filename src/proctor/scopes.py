"""Python code as a tree: statements of a cell, scopes, and the names that belong to them."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

_TIMED = re.compile(r"^(\s*)%{1,2}(?:time|timeit|prun)\b[ \t]*", re.MULTILINE)
_MAGIC = re.compile(r"^(\s*)[%!?].*$", re.MULTILINE)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def statements(source: str) -> list[ast.stmt]:
    """The statements of a cell, IPython's own ones turned into Python's; none where it does not parse."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape in a learner's string is none of ours
        for plain in (lambda text: text, _without_magics, _transformed):
            try:
                return ast.parse(plain(source)).body
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
    return []  # such a cell defines nothing when it is run either


def _without_magics(source: str) -> str:
    return _MAGIC.sub(r"\1pass", _TIMED.sub(r"\1", source))


def _transformed(source: str) -> str:
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(source)


def in_scopes(root: ast.AST) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    """Every node below one, each with the names that are local where it stands."""
    todo: list[tuple[ast.AST, frozenset[str]]] = [(root, frozenset())]
    while todo:
        node, inner = todo.pop()
        yield node, inner
        own = inner
        if isinstance(node, (*FUNCTIONS, *COMPREHENSIONS)):
            own = inner | local_names(node)
        later = set(map(id, _body(node)))
        for child in ast.iter_child_nodes(node):
            todo.append((child, own if id(child) in later or isinstance(node, COMPREHENSIONS) else inner))


def _body(node: ast.AST) -> list[ast.AST]:
    """What runs when a function is called."""
    if not isinstance(node, FUNCTIONS):
        return []
    return node.body if isinstance(node.body, list) else [node.body]


def names_used(root: ast.AST, *, later: bool) -> set[str]:
    """The names that code uses when it is run, or ``later``, when its functions are called."""
    found: set[str] = set()
    todo = [(root, False)]
    while todo:
        node, called = todo.pop()
        if isinstance(node, ast.Name) and called == later:
            found.add(node.id)
        body = set(map(id, _body(node)))
        todo += [(child, called or id(child) in body) for child in ast.iter_child_nodes(node)]
    return found


def local_names(scope: ast.AST) -> set[str]:
    """The names that belong to a function or a comprehension."""
    if isinstance(scope, COMPREHENSIONS):
        targets = (node for part in scope.generators for node in ast.walk(part.target))
        return {node.id for node in targets if isinstance(node, ast.Name)}
    found = {node.arg for node in ast.walk(scope.args) if isinstance(node, ast.arg)}
    elsewhere: set[str] = set()
    todo = _body(scope)[:]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found.update(name for name, _ in imported(node))
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
        elif isinstance(node, ast.Global):
            elsewhere.update(node.names)
        if not isinstance(node, (*FUNCTIONS, *COMPREHENSIONS, ast.ClassDef)):
            todo += ast.iter_child_nodes(node)
    return found - elsewhere


def imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The names that an import makes, each with the dotted name that it stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
            if alias.name != "*":
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def starred(node: ast.AST) -> list[str]:
    """The module of which an import takes every name."""
    if isinstance(node, ast.ImportFrom) and node.module and any(a.name == "*" for a in node.names):
        return [node.module]
    return []


def called(node: ast.AST) -> str:
    """The last part of the name of what is called; empty for what is no call."""
    function = node.func if isinstance(node, ast.Call) else None
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def texts(call: ast.Call) -> list[str]:
    """The constant texts among the arguments of a call."""
    return [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
