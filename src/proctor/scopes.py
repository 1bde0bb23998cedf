"""Python code as a tree: statements of a cell, scopes, and the names that belong to them."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

_TIMED = re.compile(r"^(\s*)%{1,2}(?:time|timeit|prun)\b[ \t]*", re.MULTILINE)
_RUN = re.compile(r"^(\s*)%run[ \t]+(?:-\w[ \t]+)*[\"']?(\w+)\.py\b.*$", re.MULTILINE)
_MAGIC = re.compile(r"^(\s*)[%!?].*$", re.MULTILINE)
_CELL_MAGIC = re.compile(r"\s*%%(!|\w+)[ \t]*(.*)\n?")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# Cells that define nothing here: they run somewhere else, or are no Python.
ELSEWHERE = set("! sx system bash sh cmd script python python2 python3 pypy perl ruby html svg".split())
ELSEWHERE |= set("javascript js latex markdown".split())
_NAMESPACES = {"user_ns", "user_global_ns", "user_module", "__globals__", "f_globals", "f_locals", "ns_table"}


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


def cell_magic(source: str) -> tuple[str, str, str]:
    """The name of a cell's magic, its line and what stands below; an empty name where there is none."""
    found = _CELL_MAGIC.match(source)
    return (found[1], found[2].strip(), source[found.end() :]) if found else ("", "", source)


def _without_magics(source: str) -> str:
    run = _RUN.sub(r"\1from \2 import *", source)
    return _MAGIC.sub(r"\1pass", _TIMED.sub(r"\1", run))


def _transformed(source: str) -> str:
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(source)


def in_scopes(root: ast.AST, inner: frozenset[str] = frozenset()) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    """Every node below one, each with the names that are local where it stands."""
    todo: list[tuple[ast.AST, frozenset[str]]] = [(root, inner)]
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
        else:
            found.update(matched(node))
        if not isinstance(node, (*FUNCTIONS, *COMPREHENSIONS, ast.ClassDef)):
            todo += ast.iter_child_nodes(node)
    return found - elsewhere


def matched(node: ast.AST) -> set[str]:
    """The name that a part of a pattern captures, if it is such a part."""
    name = node.name if isinstance(node, (ast.MatchAs, ast.MatchStar)) else getattr(node, "rest", None)
    return {name} if name else set()


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


def is_namespace(node: ast.AST) -> bool:
    """Whether an expression is the notebook's own names by another way: ``globals()``, ``__main__``, ``user_ns``."""
    while True:
        match node:
            case (
                ast.Attribute(value=value, attr="__dict__") | ast.Call(func=ast.Name(id="vars"), args=[value])
            ):
                node = value
            case (
                ast.Call(func=ast.Name(id="globals" | "locals")) | ast.Call(func=ast.Name(id="vars"), args=[])
            ):
                return True
            case ast.Subscript(value=ast.Attribute(attr="modules") | ast.Name(id="modules"), slice=which):
                return getattr(which, "value", getattr(which, "id", "")) in ("__main__", "__name__")
            case _:
                return getattr(node, "attr", "") in _NAMESPACES or getattr(node, "id", "") == "__main__"


def assigned(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST, bool]]:
    """What a statement gives to what, and whether it gives the entries one by one."""
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield target, value, False
                if isinstance(target, ast.Tuple) and isinstance(value, (ast.Tuple, ast.List)):
                    for part in zip(target.elts, value.elts, strict=False):
                        yield (*part, False)
        case (
            ast.AnnAssign(target=target, value=ast.expr() as value)
            | ast.AugAssign(target=target, value=value)
        ):
            yield target, value, False
        case ast.NamedExpr(target=target, value=value):
            yield target, value, False
        case ast.withitem(optional_vars=ast.expr() as target, context_expr=value):
            yield target, value, False
        case ast.For(target=target, iter=source) | ast.comprehension(target=target, iter=source):
            yield target, source, True
            if isinstance(source, (ast.Tuple, ast.List)):
                for value in source.elts:
                    yield target, value, False
        case ast.Match(subject=value, cases=cases):
            for case in cases:
                yield case.pattern, value, False
        case ast.arguments(posonlyargs=first, args=rest, kwonlyargs=named):
            places = [*first, *rest]
            pairs = [*zip(places[len(places) - len(node.defaults) :], node.defaults, strict=True)]
            for arg, value in (*pairs, *zip(named, node.kw_defaults, strict=True)):
                if value is not None:
                    yield arg, value, False
