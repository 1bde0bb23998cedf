"""What constant expressions come to is what Python says, within limits, and nothing is run."""

from __future__ import annotations

import ast
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctor.constants import MAX_SIZE, MAX_WAYS, fold

NAMES: dict[str, list[Any]] = {"word": ["scaled"], "either": ["a", "b"], "rest": [("dot", "product")]}


def folded(source: str) -> tuple[Any, ...]:
    return fold(ast.parse(source, mode="eval").body, lambda name: NAMES.get(name, ()))


texts = st.text(alphabet="ab_{}%s ", max_size=6).map(repr)
numbers = st.integers(-9, 9).map(repr)
expressions = st.recursive(
    texts,
    lambda inner: st.one_of(
        st.builds("({} + {})".format, inner, inner),
        st.builds("({})[{}:{}]".format, inner, numbers, numbers),
        st.builds("({})[::-1]".format, inner),
        st.builds("({})[{}]".format, inner, numbers),
        st.builds("({}).replace({}, {})".format, inner, texts, texts),
        st.builds("({}).join([{}, {}])".format, texts, inner, inner),
        st.builds("({} % {})".format, inner, inner),
        st.builds("({}).format({})".format, inner, inner),
        st.builds("({}).{}()".format, inner, st.sampled_from(["upper", "strip", "split", "title"])),
        st.builds("''.join(reversed({}))".format, inner),
        st.builds("''.join(c for c in {})".format, inner),
        st.builds("str({})".format, inner),
        st.builds("({} if 0 else {})".format, inner, inner),
    ),
    max_leaves=6,
)


@given(expressions)
def test_what_it_comes_to_is_among_what_python_says(source: str) -> None:
    try:
        expected = eval(source)
    except Exception:
        return
    found = folded(source)
    expected = tuple(expected) if isinstance(expected, list) else expected
    assert not found or expected in set(found)  # every value is hashable: names keep them in order, each once


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("'a' + 'b'", ("ab",)),
        ("'a b'.split()", (("a", "b"),)),
        ("['a b'.split(), 'c'.rsplit()]", ((("a", "b"), ("c",)),)),
        ("[line.split() for line in 'a b/c'.split('/')]", ((("a", "b"), ("c",)),)),
        ("f'{word}_{\"dot\"}'", ("scaled_dot",)),
        ("'_'.join([word, *['dot']])", ()),  # unpacking is left to a person
        ("'_'.join(rest)", ("dot_product",)),
        ("word + either", ("scaleda", "scaledb")),
        ("'%s-%s' % (word, 'x')", ("scaled-x",)),
        ("''.join(map(chr, [97, 98]))", ("ab",)),
        ("b'ab'.decode()", ("ab",)),
        ("['a', 'b'][1]", ("b",)),
        ("unknown + 'a'", ()),
        ("open('x').read()", ()),
        ("'a'.__class__", ()),
        ("3.5", ()),
        ("None", ()),
        ("'{0.__class__}'.format('a')", ()),
    ],
)
def test_what_is_known(source: str, expected: tuple[Any, ...]) -> None:
    assert folded(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        f"'{'a' * 30_000}'",
        "'%999999999s' % 'a'",
        "'%*s' % (999999999, 'a')",
        "'{:>999999999}'.format('a')",
        "''.join(" * 60 + "'a'" + ")" * 60,
        f"'{'a' * 9000}'" + ".replace('a', 'aaaaaaaaaaaaaaaaaaaa')" * 9,
        " + ".join(["either"] * 500),
        "[" + ", ".join(["either"] * 5000) + "]",
    ],
)
def test_it_stays_within_limits(source: str) -> None:
    begun = time.monotonic()
    found = folded(source)
    assert time.monotonic() - begun < 5
    assert len(found) <= MAX_WAYS
    assert all(len(value) <= MAX_SIZE for value in found)
