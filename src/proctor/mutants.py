"""Mutants of an answer: the same code with one small thing wrong, one place at a time.

The places are found on the syntax tree and the change is made in the text, so that what differs is one readable
place and the rest stays as its author wrote it. Docstrings, annotations, f-strings and what stands inside `raise`
are left alone. Mutants that compile to the same bytecode as the answer, or as another mutant, are left out.

The idea: DeMillo, Lipton and Sayward, "Hints on Test Data Selection", 1978.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from proctor.spliced import Edit, Spliced, compiled

COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<=", ">"),
    ast.LtE: ("<", ">="),
    ast.Gt: (">=", "<"),
    ast.GtE: (">", "<="),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "/",
    ast.Mod: "//",
    ast.Pow: "*",
    ast.MatMult: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
    ast.BitXor: "&",
    ast.LShift: ">>",
    ast.RShift: "<<",
}
ORDERED = (
    ast.Sub,
    ast.Div,
    ast.FloorDiv,
    ast.Mod,
    ast.Pow,
    ast.MatMult,
)  # operands in each other's place matter
BOTH = (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr, ast.BitXor, ast.MatMult)  # either operand could stand alone
PAIRS = (
    "any all, min max, amin amax, argmin argmax, minimum maximum, tril triu, zeros ones, zeros_like ones_like, "
    "sum mean, std var, sin cos, floor ceil, log log2, keys values, cumsum cumprod, startswith endswith, lower upper"
)
OTHER = {a: b for pair in PAIRS.split(",") for x, y in [pair.split()] for a, b in ((x, y), (y, x))}
SYMMETRIC = {"max", "min", "maximum", "minimum", "swapaxes"}  # in their last two arguments
DROPPED = (ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Delete, ast.Raise, ast.Assert, ast.Return)
DROPPED += (ast.Break, ast.Continue, ast.If, ast.For, ast.While)
# A call of one of these does not give way to its argument: nothing that runs would come of it.
NO_FILTER = {"range", "len", "isinstance", "super", "enumerate", "zip", "print", "getattr", "hasattr", "type"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A mutant: the whole ``source``, and the ``line`` of the answer that ``becomes`` another; what ``kind``."""

    kind: str
    number: int  # of the first line that differs
    line: str
    becomes: str
    source: str


def mutants_of(source: str, modules: Collection[str] = ()) -> list[Mutant]:
    """All mutants of an answer, in the order of its lines; ``modules`` are names that imports have bound.

    Raises SyntaxError or ValueError where the answer is no Python.
    """
    text = Spliced(source)
    found = Places(text, frozenset(modules)).all()
    seen = {compiled(source)}
    mutants = []
    for kind, edits in sorted(found, key=lambda place: min(edit[0] for edit in place[1])):
        mutated = text.edited(edits)
        code = compiled(mutated)
        if code is None or code in seen:
            continue
        seen.add(code)
        number, line, becomes = text.lines(edits)
        mutants.append(Mutant(kind=kind, number=number, line=line, becomes=becomes, source=mutated))
    return mutants


Place = tuple[str, tuple[Edit, ...]]  # what kind of change, and the change


class Places:
    """Finds the places of one answer."""

    def __init__(self, text: Spliced, modules: frozenset[str]) -> None:
        self.text, self.modules = text, modules
        self.parents = {child: node for node in ast.walk(text.tree) for child in ast.iter_child_nodes(node)}

    def all(self) -> list[Place]:
        """Every place, with what becomes of it."""
        return [place for node in self._nodes(self.text.tree) for place in self._at(node)]

    def _nodes(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes that may change."""
        yield node
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "msg") or isinstance(node, (ast.Raise, ast.JoinedStr)):
                continue
            for child in value if isinstance(value, list) else [value]:
                docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
                if isinstance(child, ast.AST) and not docstring:
                    yield from self._nodes(child)

    def _at(self, node: ast.AST) -> Iterable[Place]:
        finder = getattr(self, f"_{type(node).__name__.lower()}", None)
        yield from finder(node) if finder else ()
        yield from self._stmt(node) if isinstance(node, ast.stmt) else ()

    def _compare(self, node: ast.Compare) -> Iterator[Place]:
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            place = self.text.gap(left, right, node)
            for other in COMPARISONS[type(op)]:
                yield "comparison", ((*place, other),)
            left = right

    def _binop(self, node: ast.BinOp) -> Iterator[Place]:
        text, op = self.text, type(node.op)
        yield "operator", ((*text.gap(node.left, node.right, node), ARITHMETIC[op]),)
        left, right = text.atom(node.left, node), text.atom(node.right, node)
        if op in ORDERED:
            between = text.between(text.outer(node.left, node)[1], text.outer(node.right, node)[0])
            yield "operands swapped", text.replaced(node, f"{right}{between}{left}")
        yield "operand dropped", text.replaced(node, left)
        if op in BOTH:
            yield "operand dropped", text.replaced(node, right)

    def _boolop(self, node: ast.BoolOp) -> Iterator[Place]:
        text, other = self.text, "or" if isinstance(node.op, ast.And) else "and"
        for left, right in pairwise(node.values):
            yield "operator", ((*text.gap(left, right, node), other),)
            yield "operand dropped", ((text.outer(left, node)[1], text.outer(right, node)[1], ""),)
        begin, end = (text.outer(value, node)[0] for value in node.values[:2])
        yield "operand dropped", ((begin, end, ""),)

    def _unaryop(self, node: ast.UnaryOp) -> Iterator[Place]:
        if not isinstance(node.op, ast.UAdd):
            yield "sign", self.text.replaced(node, self.text.atom(node.operand, node))

    def _constant(self, node: ast.Constant) -> Iterator[Place]:
        around, value, place = self.parents[node], node.value, node
        if (
            isinstance(around, ast.UnaryOp)
            and isinstance(around.op, ast.USub)
            and type(value) in (int, float)
        ):
            value, place, around = -value, around, self.parents[around]
        others: list[Any] = []
        if isinstance(value, bool):
            others = [not value]
        elif isinstance(value, int):
            others = [value + 1, value - 1, 0]
        elif isinstance(value, float):
            others = [value + 1, 0.5 * value, 0.0]
        elif isinstance(value, (str, bytes)):
            others = [type(value)()] if value else ["x" if isinstance(value, str) else b"x"]
        elif value is None and isinstance(around, (ast.arguments, ast.Subscript, ast.Tuple)):
            others = [...]  # neither None nor anything that a caller would give
        for other in others:
            written = "..." if other is ... else repr(other)
            yield "constant", self.text.replaced(place, written)

    def _call(self, node: ast.Call) -> Iterator[Place]:
        text, args = self.text, node.args
        name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
        for one, other in pairwise(args):
            fixed = isinstance(one, ast.Starred) or isinstance(other, ast.Starred)
            if not fixed and not (name in SYMMETRIC and other is args[-1]):
                yield "arguments swapped", text.swapped(one, other)
        for keyword in node.keywords:
            yield "argument dropped", (text.element(keyword),)
        if name in OTHER:
            end = text.span(node.func)[1]
            yield "another function", ((end - len(name), end, OTHER[name]),)
        if name == "range":
            stop = args[1 if len(args) > 1 else 0]
            if not isinstance(stop, (ast.Constant, ast.Starred)):
                yield "off by one", text.replaced(stop, f"{text.atom(stop)} - 1")
        made = name.lstrip("_")[:1].isupper() or name.startswith("__") or name in NO_FILTER
        if made or isinstance(self.parents[node], ast.Expr):
            return
        if isinstance(node.func, ast.Attribute) and self._is_data(node.func.value):
            yield "call dropped", text.replaced(node, text.atom(node.func.value, node.func))
        elif args and not isinstance(args[0], ast.Starred):
            yield "call dropped", text.replaced(node, text.atom(args[0]))

    def _is_data(self, node: ast.AST) -> bool:
        """Whether a method's object is a value that may stand where its method's result stood."""
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "super":
            return False
        while isinstance(node, ast.Attribute) and not isinstance(node.value, ast.Call):
            node = node.value  # torch.nn.functional
            if isinstance(node, ast.Name) and node.id == "self":
                return True  # self.weight.sum()
        return not (isinstance(node, ast.Name) and (node.id in self.modules or node.id in ("self", "cls")))

    def _slice(self, node: ast.Slice) -> Iterator[Place]:
        for bound in (node.lower, node.upper):
            if bound is None:
                continue
            fixed = isinstance(bound.operand if isinstance(bound, ast.UnaryOp) else bound, ast.Constant)
            if not fixed:
                yield "off by one", self.text.replaced(bound, f"{self.text.atom(bound)} + 1")
            if not fixed or bound is node.upper:
                yield "bound dropped", ((*self.text.outer(bound, node), ""),)

    def _name(self, node: ast.Name) -> Iterator[Place]:
        names = self._parameters(node)
        if node.id in names and isinstance(node.ctx, ast.Load) and len(names) > 1:
            other = names[(names.index(node.id) + 1) % len(names)]
            yield "another name", self.text.replaced(node, other)

    def _parameters(self, node: ast.AST) -> list[str]:
        """The parameters of the function in whose body a node stands."""
        child = node
        while not (isinstance(node, ast.FunctionDef) and child in node.body):
            if node not in self.parents:
                return []
            child, node = node, self.parents[node]
        arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        return [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]

    def _if(self, node: ast.If | ast.While) -> Iterator[Place]:
        yield from self._negated(node.test)

    _while = _if

    def _ifexp(self, node: ast.IfExp) -> Iterator[Place]:
        yield from self._negated(node.test)
        for branch in (node.body, node.orelse):
            yield "branch dropped", self.text.replaced(node, self.text.atom(branch, node))

    def _comprehension(self, node: ast.comprehension) -> Iterator[Place]:
        for test in node.ifs:
            yield from self._negated(test)

    def _negated(self, test: ast.expr) -> Iterator[Place]:
        single = isinstance(test, ast.Compare) and len(test.ops) == 1
        flips = single and len(COMPARISONS[type(test.ops[0])]) == 1
        if not flips and not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
            yield "condition negated", self.text.replaced(test, f"not {self.text.atom(test)}")

    def _augassign(self, node: ast.AugAssign) -> Iterator[Place]:
        place = self.text.gap(node.target, node.value, node)
        yield "operator", ((*place, ARITHMETIC[type(node.op)] + "="),)
        yield "operator", ((*place, "="),)

    def _with(self, node: ast.With) -> Iterator[Place]:
        if all(item.optional_vars is None for item in node.items):
            end = self.text.before(node.body[0], ":")
            yield "context dropped", ((self.text.span(node)[0], end, "if True"),)

    def _raise(self, node: ast.Raise) -> Iterator[Place]:
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        if isinstance(kind, ast.Name):
            other = "ValueError" if kind.id == "RuntimeError" else "RuntimeError"
            yield "another exception", self.text.replaced(kind, other)

    def _functiondef(self, node: ast.FunctionDef | ast.ClassDef) -> Iterator[Place]:
        for decorator in node.decorator_list:
            yield "decorator dropped", ((self.text.before(decorator, "@"), self.text.span(decorator)[1], ""),)

    _classdef = _functiondef

    def _stmt(self, node: ast.stmt) -> Iterator[Place]:
        match node:
            case ast.Expr(value=ast.Constant()) | ast.AnnAssign(value=None):
                return
            case ast.If(body=[_], orelse=[]):
                return  # dropping what stands in it does the same
            case ast.If() if not self.text.of(node).startswith("if"):
                return  # an elif
            case ast.Return():
                around = self.parents[node]
                if isinstance(around, ast.FunctionDef) and around.body[-1] is node:
                    return  # any check sees that nothing comes back
        if isinstance(node, DROPPED):
            yield "statement dropped", self.text.replaced(node, "pass")
