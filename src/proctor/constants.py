"""What a constant expression comes to: ``"scaled_" + "dot"``, ``f"{word}_product"``, ``"_".join(words)``.

An expression is read, never run, and within limits: a submission wrote it. Where a name was given several values,
so may be the expression; where it can not be told, there are none.
"""

from __future__ import annotations

import ast
import itertools
import re
import string
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

MAX_SIZE = 20_000  # of one value
MAX_WAYS = 32  # values that one expression may have
MAX_ENTRIES = 500  # of a list that is gone through
MAX_DEPTH = 90  # of brackets in brackets, sums of sums

_METHODS = {
    *("lower", "upper", "casefold", "title", "capitalize", "swapcase", "strip", "lstrip", "rstrip"),
    *("removeprefix", "removesuffix", "replace", "split", "rsplit", "splitlines", "join", "format"),
    *("encode", "decode"),
}
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "str": str,
    "chr": chr,
    "list": tuple,
    "tuple": tuple,
    "reversed": lambda value: tuple(reversed(value)),
    "dedent": textwrap.dedent,
}
_PLAIN_PERCENT = re.compile(r"(?:[^%]|%s|%d|%%)*")  # no widths: `"%999999999s"` is a gigabyte


def fold(node: ast.AST | None, values: Callable[[str], Iterable[Any]], depth: int = 0) -> tuple[Any, ...]:
    """What an expression may come to: texts, bytes, whole numbers and tuples of these; nothing where unknown.

    Args:
        node: the expression.
        values: what a name may stand for.
        depth: how deep in another expression this one lies.
    """
    if depth > MAX_DEPTH:
        return ()
    try:
        ways = _fold(node, values, depth + 1)
        return tuple(way for way in itertools.islice(ways, MAX_WAYS) if _is_plain(way))
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, LookupError, OverflowError):
        return ()  # it would raise when it is run too


def _fold(node: ast.AST | None, values: Callable[[str], Iterable[Any]], depth: int) -> Iterable[Any]:
    def inner(part: ast.AST | None) -> tuple[Any, ...]:
        return fold(part, values, depth)

    match node:
        case ast.Constant(value=str() | bytes() | int() as value):
            return (value,)
        case ast.Name(id=name):
            return values(name)
        case ast.NamedExpr(value=value) | ast.Starred(value=value):
            return inner(value)
        case ast.IfExp(body=one, orelse=other):
            return (*inner(one), *inner(other))
        case ast.BoolOp(values=parts):
            return (way for part in parts for way in inner(part))
        case ast.UnaryOp(op=ast.USub(), operand=value):
            return (-way for way in inner(value))
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return _product(map(inner, parts))
        case ast.JoinedStr(values=parts):
            return ("".join(map(str, way)) for way in _product(map(inner, parts)))
        case ast.FormattedValue(value=value, conversion=-1 | 115, format_spec=None):
            return inner(value)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return (one + other for one, other in itertools.product(inner(left), inner(right)))
        case ast.BinOp(left=left, op=ast.Mod(), right=right):
            pairs = itertools.product(inner(left), inner(right))
            return (one % other for one, other in pairs if _PLAIN_PERCENT.fullmatch(one))
        case ast.Subscript(value=value, slice=ast.Slice(lower=low, upper=high, step=step)):
            ends = [inner(end) if end else (None,) for end in (low, high, step)]
            return (way[slice(*cut)] for way in inner(value) for cut in itertools.product(*ends))
        case ast.Subscript(value=value, slice=index):
            return (way[at] for way, at in itertools.product(inner(value), inner(index)))
        case ast.Call(func=ast.Name(id="map"), args=[ast.Name(id=name), parts]) if name in _FUNCTIONS:
            return (tuple(map(_FUNCTIONS[name], way)) for way in inner(parts))
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[part], keywords=[]) if (
            name in _FUNCTIONS
        ):
            return map(_FUNCTIONS[name], inner(part))
        case ast.Call(func=ast.Attribute(value=value, attr=name), args=parts, keywords=named) if (
            name in _METHODS
        ):
            keys = [keyword.arg for keyword in named]
            given = _product(inner(part) for part in (*parts, *(keyword.value for keyword in named)))
            calls = itertools.product(inner(value), given)
            return (
                _method(way, name, args[: len(parts)], dict(zip(keys, args[len(parts) :], strict=True)))
                for way, args in calls
            )
        case ast.GeneratorExp() | ast.ListComp():
            return _comprehension(node, values, depth)
    return ()


def _product(parts: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """One value of each part, in every way; few of the ways where there are many."""
    ways: list[tuple[Any, ...]] = [()]
    for count, part in enumerate(parts):
        if count > MAX_ENTRIES:
            return []
        ways = [(*way, value) for way in ways for value in part][:MAX_WAYS]
        if not ways:
            break
    return ways


def _comprehension(
    node: ast.GeneratorExp | ast.ListComp, values: Callable[[str], Iterable[Any]], depth: int
) -> Iterable[Any]:
    match node.generators:
        case [ast.comprehension(target=ast.Name(id=name), iter=source, ifs=[])]:
            for way in fold(source, values, depth):
                entries = [
                    fold(node.elt, lambda asked, one=one: (one,) if asked == name else values(asked), depth)
                    for one in tuple(way)[:MAX_ENTRIES]
                ]
                yield from _product(entries)


def _method(value: str | bytes, name: str, args: tuple[Any, ...], named: dict[Any, Any]) -> Any:
    if not isinstance(value, (str, bytes)):
        raise TypeError
    if name == "replace" and (len(value) + 1) * max(1, len(args[1])) > 10 * MAX_SIZE:
        raise ValueError("too long")
    if name == "join" and sum(map(len, args[0])) + len(value) * len(args[0]) > MAX_SIZE:
        raise ValueError("too long")
    if name == "format" and any(
        spec or "." in str(field) for _, field, spec, _ in string.Formatter().parse(value)
    ):
        raise ValueError("no widths, no attributes")
    result = getattr(value, name)(*args, **named)
    return tuple(result) if isinstance(result, list) else result  # `split`: every value is hashable


def _is_plain(value: Any) -> bool:
    room, todo = MAX_SIZE, [value]
    while todo and room > 0:
        part = todo.pop()
        if isinstance(part, tuple):
            room -= 1
            todo += part
        elif isinstance(part, (str, bytes)):
            room -= 1 + len(part)
        elif not isinstance(part, int) or abs(part) >= 1 << 31:
            return False
    return room > 0
