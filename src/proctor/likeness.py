"""Answers to one exercise that are more alike than chance and the exercise explain: a hint for a person, and no more.

Answers are read, never run. Compared is what is left of their syntax trees once the learner's own names, layout,
comments, docstrings and annotations are gone, as overlapping runs of ``RUN`` tokens (shingles: Broder, "On the
resemblance and containment of documents", 1997; of programs: Schleimer, Wilkerson and Aiken, "Winnowing", 2003). Runs
that the stub, a known right answer or a known mistake holds do not count, since everybody may come to them; nor do runs
that many of the class hold, since what is popular is no trace of anybody. Of what remains two answers must share
``LEAST`` runs, some five lines of code that nobody was given, and the share of what either has (Jaccard) must reach
``ALIKE``: right answers of independent styles share a quarter at most.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from proctor.notebook import syntax_tree

RUN = 8  # tokens that follow one another
LEAST = 40  # such runs that two answers share
ALIKE = 0.7  # of all runs that either of them has
FEW = 3  # learners who may hold a run that still counts, and
SHARE, MANY = 0.02, 20  # the part of a class that may, where that is more, and at most so many
MOST = 5_000  # tokens of one answer that are looked at

_OWN = {
    "annotation",
    "returns",
    "type_comment",
    "ctx",
    "kind",
    "type_ignores",
    "type_params",
    "decorator_list",
}
_BUILTIN = frozenset(dir(builtins))


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Learners whose answers to an exercise are alike, each to at least one other of them.

    ``runs`` is how many runs the pair with the fewest shares, ``share`` the smallest part that it is of all of theirs.
    """

    exercise: str
    learners: tuple[str, ...]
    runs: int
    share: float


def alike(exercise: str, answers: Mapping[str, str], known: Iterable[str] = ()) -> tuple[Alike, ...]:
    """The groups of learners with answers that are alike; the most alike first.

    ``answers`` are sources by learner, ``known`` sources that everybody may come to. What cannot be read as Python
    is like nothing.
    """
    given = frozenset[int]().union(*map(runs_of, known))
    own = {
        learner: runs - given for learner, source in answers.items() if len(runs := runs_of(source)) >= LEAST
    }
    held = Counter(run for runs in own.values() for run in runs)
    most = min(max(FEW, SHARE * len(answers)), MANY)
    rare = {learner: {run for run in runs if held[run] <= most} for learner, runs in own.items()}
    holders = defaultdict(list)
    for learner in sorted(rare):
        for run in rare[learner]:
            if held[run] > 1:
                holders[run].append(learner)
    together = Counter(pair for those in holders.values() for pair in combinations(those, 2))
    pairs = {}
    for (one, other), shared in together.items():
        share = shared / len(rare[one] | rare[other])
        if shared >= LEAST and share >= ALIKE:
            pairs[one, other] = (shared, share)
    groups = []
    for group in _joined(pairs):
        among = [found for pair, found in pairs.items() if group.issuperset(pair)]
        runs, share = min(runs for runs, _ in among), min(share for _, share in among)
        groups.append(Alike(exercise=exercise, learners=tuple(sorted(group)), runs=runs, share=share))
    return tuple(sorted(groups, key=lambda group: (-group.share, -group.runs, group.learners)))


def _joined(pairs: Iterable[tuple[str, str]]) -> list[set[str]]:
    """The groups that pairs make."""
    groups: dict[str, set[str]] = {}
    for one, other in pairs:
        whole = groups.get(one, {one}) | groups.get(other, {other})
        groups |= dict.fromkeys(whole, whole)
    return list({id(group): group for group in groups.values()}.values())


def runs_of(source: str) -> frozenset[int]:
    """The runs of tokens in an answer, as numbers; none where it is no Python, or too long to be read."""
    tree = syntax_tree(source)
    tokens = list(_tokens(tree)) if tree is not None else []
    return frozenset(_number(tokens[i : i + RUN]) for i in range(len(tokens) - RUN + 1))


def _number(tokens: list[str]) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(tokens).encode(errors="replace"), digest_size=8).digest())


def _tokens(tree: ast.Module) -> Iterator[str]:
    """The tree from its root on, node by node, without what a learner may write as they like.

    The names of attributes, keyword arguments and of Python's own functions are what code does and stay; all other
    names are the learner's.
    """
    todo: list[ast.AST | str] = [tree]
    for _ in range(MOST):
        if not todo:
            return
        node = todo.pop()
        if isinstance(node, str):
            yield node
            continue
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
                continue  # docstrings, and texts that stand where a comment could
            case ast.Constant():
                yield repr(node.value)[:40]
                continue
            case ast.Name():
                yield node.id if node.id in _BUILTIN else "name"
                continue
            case ast.Attribute():
                yield f".{node.attr}"
            case ast.keyword():
                yield f"{node.arg}="
            case _:
                yield type(node).__name__
        below: list[ast.AST | str] = []
        for field, value in ast.iter_fields(node):
            if field not in _OWN:
                below += [
                    each
                    for each in (value if isinstance(value, list) else [value])
                    if isinstance(each, ast.AST)
                ]
        todo += reversed(below)
