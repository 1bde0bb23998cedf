"""A Python source whose text is changed where its syntax tree says: what is not touched stays to the letter."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate
from types import CodeType
from typing import Any

Span = tuple[int, int]  # begin and end in the source, counted in characters
Edit = tuple[int, int, str]  # a span, and what takes its place

_SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
_WHOLE = (ast.Name, ast.Constant, ast.Attribute, ast.Subscript, ast.Call, ast.List, ast.Dict, ast.Set)
_WHOLE += (ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp, ast.JoinedStr)


class Spliced:
    """A source with its syntax tree, its tokens and the places of both. Raises SyntaxError or ValueError."""

    def __init__(self, source: str) -> None:
        self.source, self.tree = source, ast.parse(source)
        self._lines = [line + "\n" for line in source.split("\n")]
        self._starts = [0, *accumulate(map(len, self._lines))]
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
        self._tokens = [
            (self._starts[t.start[0] - 1] + t.start[1], self._starts[t.end[0] - 1] + t.end[1], t.string)
            for t in tokens
            if t.type not in _SILENT
        ]
        self._comments = [
            (self._starts[t.start[0] - 1] + t.start[1], self._starts[t.end[0] - 1] + t.end[1], "")
            for t in tokens
            if t.type == tokenize.COMMENT
        ]

    def span(self, node: ast.AST) -> Span:
        """Where a node stands, without parentheses around it."""
        return (
            self._place(node.lineno, node.col_offset),  # type: ignore[attr-defined]
            self._place(node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
        )

    def _place(self, line: int, column: int) -> int:
        # The tree counts the bytes of UTF-8.
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def outer(self, node: ast.AST, within: ast.AST) -> Span:
        """Where an operand stands inside its operation, with the parentheses around it."""
        (begin, end), (first, last) = self.span(node), self.span(within)
        while True:
            before = bisect_left(self._tokens, (begin,)) - 1
            after = bisect_left(self._tokens, (end,))
            if before < 0 or after == len(self._tokens):
                return begin, end
            left, right = self._tokens[before], self._tokens[after]
            if left[2] != "(" or right[2] != ")" or left[0] < first or right[1] > last:
                return begin, end
            begin, end = left[0], right[1]

    def between(self, begin: int, end: int) -> str:
        """The text of a span."""
        return self.source[begin:end]

    def of(self, node: ast.AST) -> str:
        """The text of a node, without parentheses around it."""
        return self.between(*self.span(node))

    def atom(self, node: ast.AST, within: ast.AST | None = None) -> str:
        """The text of an operand, in parentheses where it would fall apart without."""
        text = self.between(*self.outer(node, within)) if within else self.of(node)
        bracketed = text.startswith("(") and text != self.of(node)
        whole = (
            isinstance(node, _WHOLE) or bracketed or (isinstance(node, ast.Tuple) and text.startswith("("))
        )
        return text if whole else f"({text})"

    def gap(self, left: ast.AST, right: ast.AST, within: ast.AST) -> Span:
        """Where the operator between two operands stands."""
        begin, end = self.outer(left, within)[1], self.outer(right, within)[0]
        inside = self._tokens[bisect_left(self._tokens, (begin,)) : bisect_left(self._tokens, (end,))]
        return inside[0][0], inside[-1][1]

    def before(self, node: ast.AST, token: str) -> int:
        """The place of the last such token before a node."""
        index = bisect_left(self._tokens, (self.span(node)[0],)) - 1
        while self._tokens[index][2] != token:
            index -= 1
        return self._tokens[index][0]

    def replaced(self, node: ast.AST, text: str) -> tuple[Edit, ...]:
        """The edit that puts a text in the place of a node."""
        return ((*self.span(node), text),)

    def swapped(self, one: ast.AST, other: ast.AST) -> tuple[Edit, ...]:
        """The edits that put two nodes in each other's place."""
        return *self.replaced(one, self.of(other)), *self.replaced(other, self.of(one))

    def element(self, node: ast.AST) -> Edit:
        """The edit that takes an argument out of a call, with its comma."""
        begin, end = self.span(node)
        index = bisect_left(self._tokens, (begin,))
        if self._tokens[index - 1][2] == ",":
            return self._tokens[index - 1][0], end, ""
        index = bisect_left(self._tokens, (end,))
        if self._tokens[index][2] == ",":
            end = self._tokens[index + 1][0]
        return begin, end, ""

    def edited(self, edits: Iterable[Edit]) -> str:
        """The source with the edits made; they do not overlap."""
        return _spliced(self.source, edits)

    def lines(self, edits: Iterable[Edit]) -> tuple[int, str, str]:
        """The number of the first line that edits touch, and the lines as they were and are, each as one line.

        Comments are left out.
        """
        edits = list(edits)
        first = bisect_right(self._starts, min(edit[0] for edit in edits)) - 1
        begin, last = self._starts[first], max(edit[1] for edit in edits)
        end = self._starts[bisect_left(self._starts, last)]
        inside = [comment for comment in self._comments if begin <= comment[0] < end]
        kept = [c for c in inside if all(c[1] <= e[0] or e[1] <= c[0] for e in edits)]
        part = self.source[begin:end]
        was, now = (
            _spliced(part, [(start - begin, stop - begin, text) for start, stop, text in changes])
            for changes in (inside, [*kept, *edits])
        )
        return first + 1, " ".join(was.split()), " ".join(now.split())


def _spliced(source: str, edits: Iterable[Edit]) -> str:
    for begin, end, text in sorted(edits, reverse=True):
        source = source[:begin] + text + source[end:]
    return source


def compiled(source: str) -> Any:
    """What a source compiles to, without the places of its lines; None where it does not compile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `"x"()` and the like: a mutant may be silly
        try:
            return _bare(compile(source, "<answer>", "exec", dont_inherit=True))
        except (SyntaxError, ValueError):
            return None


def _bare(code: CodeType) -> Any:
    kept = (code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_exceptiontable)
    constants = tuple(
        _bare(one) if isinstance(one, CodeType) else (type(one).__name__, repr(one)) for one in code.co_consts
    )
    return (kept, counts, constants)
