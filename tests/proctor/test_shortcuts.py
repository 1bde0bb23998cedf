"""Answers that are taken from a library are found, in every form, and honest ones are left alone."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctor.shortcuts import find_shortcut, find_suspicion

SDPA = "torch.nn.functional.scaled_dot_product_attention"
FORBIDDEN = (SDPA, "torch.nn.MultiheadAttention", "torch.softmax", "scratch.attention")
SETUP = "import math\nimport torch\nimport torch.nn.functional as F\nfrom torch import nn"
HONEST = "def attend(q, k, v):\n    return (q @ k.mT).softmax(-1) @ v"


def submissions(file: str) -> dict[str, list[str]]:
    """The submissions in a file, by what they are about: the cells of each."""
    text = (Path(__file__).with_name("shortcuts") / file).read_text(encoding="utf-8")
    blocks = (block.split("\n", 1) for block in text.split("# --- ")[1:])
    return {name: cells.rstrip().split("\n# + cell\n") for name, cells in blocks}


def find(*cells: str, setup: str = SETUP, forbidden: tuple[str, ...] = FORBIDDEN) -> str:
    return find_shortcut([setup, *map(textwrap.dedent, cells)], "attend", forbidden)


CAUGHT = {
    "plain": "def attend(q, k, v):\n    return F.scaled_dot_product_attention(q, k, v)",
    "from import": """
        from torch.nn.functional import scaled_dot_product_attention
        def attend(q, k, v):
            return scaled_dot_product_attention(q, k, v)
    """,
    "alias of a name": """
        from torch.nn.functional import scaled_dot_product_attention as helper
        def attend(q, k, v):
            return helper(q, k, v)
    """,
    "module alias": """
        import torch.nn.functional as mine
        def attend(q, k, v):
            return mine.scaled_dot_product_attention(q, k, v)
    """,
    "module in full": "def attend(q, k, v):\n    return torch.nn.functional.scaled_dot_product_attention(q, k, v)",
    "getattr": "def attend(q, k, v):\n    return getattr(F, 'scaled_dot_product_attention')(q, k, v)",
    "nested getattr": """
        def attend(q, k, v):
            return getattr(getattr(torch.nn, "functional"), "scaled_dot_product_attention")(q, k, v)
    """,
    "getattr with a default": """
        def attend(q, k, v):
            return getattr(F, "scaled_dot_product_attention", None)(q, k, v)
    """,
    "importlib": """
        import importlib
        def attend(q, k, v):
            return importlib.import_module("torch.nn.functional").scaled_dot_product_attention(q, k, v)
    """,
    "import_module": """
        from importlib import import_module as bring
        def attend(q, k, v):
            return bring("torch.nn.functional").scaled_dot_product_attention(q, k, v)
    """,
    "__import__": """
        def attend(q, k, v):
            return __import__("torch").nn.functional.scaled_dot_product_attention(q, k, v)
    """,
    "__import__ of a part": """
        def attend(q, k, v):
            return __import__("torch.nn.functional").nn.functional.scaled_dot_product_attention(q, k, v)
    """,
    "sys.modules": """
        import sys
        def attend(q, k, v):
            return sys.modules["torch.nn.functional"].scaled_dot_product_attention(q, k, v)
    """,
    "star import": """
        from torch.nn.functional import *
        def attend(q, k, v):
            return scaled_dot_product_attention(q, k, v)
    """,
    "inner name": "def attend(q, k, v):\n    return torch._C._nn.scaled_dot_product_attention(q, k, v)",
    "assigned": "attend = F.scaled_dot_product_attention",
    "assigned with a type": "attend: object = F.scaled_dot_product_attention",
    "assigned in a row": "other = attend = F.scaled_dot_product_attention",
    "assigned in a tuple": "attend, one = F.scaled_dot_product_attention, 1",
    "assigned twice": "helper = F.scaled_dot_product_attention\nattend = helper",
    "imported as the answer": "from torch.nn.functional import scaled_dot_product_attention as attend",
    "assigned module": """
        lib = torch.nn.functional
        def attend(q, k, v):
            return lib.scaled_dot_product_attention(q, k, v)
    """,
    "assigned module inside": """
        def attend(q, k, v):
            lib = torch.nn
            part = lib.functional
            return part.scaled_dot_product_attention(q, k, v)
    """,
    "helper function": """
        def helper(q, k, v):
            return F.scaled_dot_product_attention(q, k, v)
        def attend(q, k, v):
            return helper(q, k, v)
    """,
    "helper defined below": """
        def attend(q, k, v):
            return helper(q, k, v)
        def helper(q, k, v):
            return F.scaled_dot_product_attention(q, k, v)
    """,
    "helper that is overwritten once it is taken": """
        def helper(q, k, v):
            return F.scaled_dot_product_attention(q, k, v)
        attend = helper
        def helper(q, k, v):
            return v
    """,
    "helper class": """
        class Helper:
            def run(self, q, k, v):
                return F.scaled_dot_product_attention(q, k, v)
        def attend(q, k, v):
            return Helper().run(q, k, v)
    """,
    "lambda": "attend = lambda q, k, v: F.scaled_dot_product_attention(q, k, v)",
    "decorator": """
        def instead(function):
            return F.scaled_dot_product_attention
        @instead
        def attend(q, k, v):
            return v
    """,
    "default argument": """
        def attend(q, k, v, f=F.scaled_dot_product_attention):
            return f(q, k, v)
    """,
    "module as a default": """
        def attend(q, k, v, *, lib=F):
            return lib.scaled_dot_product_attention(q, k, v)
    """,
    "base class": "class attend(nn.MultiheadAttention):\n    pass",
    "part of a class": """
        class attend(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = nn.MultiheadAttention(4, 2)
    """,
    "method assigned later": """
        class attend(nn.Module):
            def forward(self, q, k, v):
                raise NotImplementedError
        attend.forward = lambda self, q, k, v: F.scaled_dot_product_attention(q, k, v)
    """,
    "harmless attribute assigned later": """
        class attend(nn.MultiheadAttention):
            pass
        attend.about = "mine"
    """,
    "setattr": """
        class attend(nn.Module):
            pass
        setattr(attend, "forward", F.scaled_dot_product_attention)
    """,
    "entry of a table": """
        tools = {}
        tools["f"] = F.scaled_dot_product_attention
        tools["g"] = 1
        def attend(q, k, v):
            return tools["f"](q, k, v)
    """,
    "appended": """
        tools = []
        tools.append(F.scaled_dot_product_attention)
        def attend(q, k, v):
            return tools[0](q, k, v)
    """,
    "module in a list": """
        tools = [torch.nn]
        def attend(q, k, v):
            return tools[0].functional.scaled_dot_product_attention(q, k, v)
    """,
    "module as an attribute": """
        class Tools:
            pass
        Tools.lib = F
        def attend(q, k, v):
            return Tools.lib.scaled_dot_product_attention(q, k, v)
    """,
    "vars": "def attend(q, k, v):\n    return vars(F)['scaled_dot_product_attention'](q, k, v)",
    "__dict__": "def attend(q, k, v):\n    return F.__dict__['scaled_dot_product_attention'](q, k, v)",
    "partial": "from functools import partial\nattend = partial(F.scaled_dot_product_attention, is_causal=False)",
    "walrus": "(attend := F.scaled_dot_product_attention)",
    "walrus inside": """
        def attend(q, k, v):
            return (f := F).scaled_dot_product_attention(q, k, v)
    """,
    "with": "with torch.no_grad():\n    attend = F.scaled_dot_product_attention",
    "with, inside": """
        def attend(q, k, v):
            with torch.no_grad():
                return F.scaled_dot_product_attention(q, k, v)
    """,
    "try": f"""
        try:
            from torch.nn.functional import scaled_dot_product_attention as attend
        except ImportError:
            {textwrap.indent(HONEST, " " * 12).strip()}
    """,
    "except": """
        try:
            import nothing_of_this_name
        except ImportError:
            attend = F.scaled_dot_product_attention
    """,
    "if": "if True:\n    attend = F.scaled_dot_product_attention",
    "an honest definition that never runs": """
        attend = F.scaled_dot_product_attention
        if False:
            def attend(q, k, v):
                return v
    """,
    "for": "for attend in [F.scaled_dot_product_attention]:\n    pass",
    "match": "match F.scaled_dot_product_attention:\n    case found:\n        attend = F.scaled_dot_product_attention",
    "import in the body": """
        def attend(q, k, v):
            from torch.nn.functional import scaled_dot_product_attention as f
            return f(q, k, v)
    """,
    "module imported in the body": """
        def attend(q, k, v):
            import torch.nn as inner
            return inner.functional.scaled_dot_product_attention(q, k, v)
    """,
    "global": """
        def prepare():
            global attend
            attend = F.scaled_dot_product_attention
        prepare()
    """,
    "exec": "exec('def attend(q, k, v):\\n    return F.scaled_dot_product_attention(q, k, v)')",
    "below a forbidden name": "from scratch.attention import anything\nattend = anything",
    "another of the forbidden": "def attend(q, k, v):\n    return torch.softmax(q @ k.mT, -1) @ v",
    "line magic": "%time attend = F.scaled_dot_product_attention",
    "cell magic": "%%time\nattend = F.scaled_dot_product_attention",
    "cell magic as the kernel writes it": (
        "get_ipython().run_cell_magic('time', '', 'attend = F.scaled_dot_product_attention\\n')"
    ),
    "magics in the cell": "%matplotlib inline\n!ls\nattend = F.scaled_dot_product_attention",
    "output of a magic": "files = !ls\nattend = F.scaled_dot_product_attention",
    "question mark": "attend = F.scaled_dot_product_attention\nattend?",
    "a percent sign at the start of a line": """
        rest = (7
            % 4)
        attend = F.scaled_dot_product_attention
    """,
}


@pytest.mark.parametrize("form", CAUGHT)
def test_a_shortcut_is_found_in_every_form(form: str) -> None:
    assert "already is what this exercise asks you to write" in find(CAUGHT[form])


@pytest.mark.parametrize(
    "source",
    [
        "def attend(q, k):\n    return q @ k",
        "def attend(q, k):\n    q @= k\n    return q",
        "def attend(q, k):\n    return sum(q[i] @ k for i in range(2))",
        "product = lambda q, k: q @ k\nattend = product",
        "import operator\ndef attend(q, k):\n    return operator.matmul(q, k)",
    ],
)
def test_the_operator_of_matrix_products_can_be_forbidden(source: str) -> None:
    says = find_shortcut([source, "print(2 @ 3)"], "attend", ["operator.matmul"], "Use einsum.")
    assert (
        says == "`@` already is what this exercise asks you to write, so it may not be used here. Use einsum."
    )
    assert find_shortcut([source], "attend", ["numpy.matmul"]) == ""


def test_the_operator_in_another_cell_or_as_a_decorator_is_left_alone() -> None:
    source = "import functools\n@functools.cache\ndef attend(q, k):\n    return q * k"
    assert find_shortcut([source, "other = attend(1, 2) @ 3"], "attend", ["operator.matmul"]) == ""


MORE = submissions("caught.txt")


@pytest.mark.parametrize("form", MORE)
def test_a_shortcut_is_found_however_it_is_hidden(form: str) -> None:
    assert "already is what this exercise asks you to write" in find(*MORE[form])


def test_a_shortcut_is_found_where_cells_share_it() -> None:
    assert find(
        "tool = F", "def helper(*a):\n    return tool.scaled_dot_product_attention(*a)", "attend = helper"
    )


def test_a_star_import_below_the_answer_takes_its_place() -> None:
    cells = [
        SETUP,
        "def scaled_dot_product_attention(q, k, v):\n    return v",
        "from torch.nn.functional import *",
    ]
    assert find_shortcut(cells, "scaled_dot_product_attention", [SDPA])


LEFT_ALONE = {
    "honest": HONEST,
    "words in a list": f"words = 'to be'.split()\nrows = [line.split() for line in 'a b/c'.split('/')]\n{HONEST}",
    "comment": f"{HONEST}\n# F.scaled_dot_product_attention would do it",
    "docstring": """
        def attend(q, k, v):
            \"\"\"Like torch.nn.functional.scaled_dot_product_attention.\"\"\"
            return v
    """,
    "text": "def attend(q, k, v):\n    print('F.scaled_dot_product_attention')\n    return v",
    "own function of the same name": """
        def scaled_dot_product_attention(q, k, v):
            return v
        def attend(q, k, v):
            return scaled_dot_product_attention(q, k, v)
    """,
    "own method of the same name": """
        class Own:
            def scaled_dot_product_attention(self, q):
                return F.relu(q)
        def attend(q, k, v):
            return Own().scaled_dot_product_attention(q)
    """,
    "another function of the module": "def attend(q, k, v):\n    return F.softmax(q @ k.mT, dim=-1) @ v",
    "a name that only begins so": "def attend(q, k, v):\n    return torch.softmax_of_mine(q)",
    "a local variable named as one that holds the library's result": """
        out = F.scaled_dot_product_attention(torch.ones(1), torch.ones(1), torch.ones(1))
        def attend(q, k, v):
            out = q @ k.mT
            return [out for out in (out,)][0] @ v
    """,
    "a parameter named as one that holds the library's result": """
        q = F.scaled_dot_product_attention(torch.ones(1), torch.ones(1), torch.ones(1))
        def attend(q, k, v):
            return q
    """,
    "a helper that was overwritten": """
        def helper(q, k, v):
            return F.scaled_dot_product_attention(q, k, v)
        def attend(q, k, v):
            return helper(q, k, v)
        def helper(q, k, v):
            return v
    """,
    "calls of its own in a table": "tools = {}\ntools.update(a=1)\ndef attend(q, k, v):\n    return tools",
    "library imported and not used": """
        from torch.nn.functional import scaled_dot_product_attention
        def attend(q, k, v):
            return v
    """,
    "module imported in the body": "def attend(q, k, v):\n    import torch.nn.functional as F\n    return F.relu(q)",
}


@pytest.mark.parametrize("form", LEFT_ALONE)
def test_honest_code_is_left_alone(form: str) -> None:
    assert find(LEFT_ALONE[form]) == ""


INNOCENT = submissions("innocent.txt")


@pytest.mark.parametrize("form", INNOCENT)
def test_innocent_code_is_left_alone(form: str) -> None:
    assert find(*INNOCENT[form]) == ""


SUSPECTED = submissions("suspected.txt")


@pytest.mark.parametrize("form", SUSPECTED)
def test_what_reading_cannot_judge_is_a_note_for_a_person(form: str) -> None:
    says = find_suspicion([SETUP, *SUSPECTED[form]], "attend", FORBIDDEN)
    assert says.startswith("`attend` looks up or runs something under a name that it computes")
    assert find(*SUSPECTED[form]) == ""


@pytest.mark.parametrize("form", INNOCENT)
def test_honest_code_is_not_suspected(form: str) -> None:
    assert find_suspicion([SETUP, *INNOCENT[form]], "attend", FORBIDDEN) == ""


def test_nothing_is_suspected_where_nothing_is_forbidden() -> None:
    assert find_suspicion([SETUP, *SUSPECTED["computed code"]], "attend", ()) == ""


def test_comparing_with_the_library_in_another_cell_is_no_shortcut() -> None:
    compare = """
        expected = F.scaled_dot_product_attention(q, k, v)
        layer = nn.MultiheadAttention(4, 2)
        torch.testing.assert_close(attend(q, k, v), expected)
        [attend(q, k, v) == F.scaled_dot_product_attention(q, k, v) for q in range(3)]
    """
    assert find(compare, HONEST, compare) == ""


def test_an_honest_answer_after_a_shortcut_counts_and_the_other_way_round() -> None:
    shortcut = "attend = F.scaled_dot_product_attention"
    assert find(shortcut, HONEST) == ""
    assert find(HONEST, shortcut)


def test_a_cell_with_a_syntax_error_defines_nothing() -> None:
    assert find("attend = F.scaled_dot_product_attention\nthis is no python", HONEST) == ""
    assert find(HONEST, "attend = (F.scaled_dot_product_attention") == ""


def test_the_sentence_is_kind_and_says_what_is_allowed() -> None:
    cells = [SETUP, CAUGHT["plain"]]
    says = find_shortcut(cells, "attend", [SDPA], "Matrix products are welcome.")
    assert says == (
        f"`{SDPA}` already is what this exercise asks you to write, so it may not be used here. "
        "Matrix products are welcome."
    )


def test_nothing_is_forbidden_where_nothing_is_listed() -> None:
    assert find(CAUGHT["plain"], forbidden=()) == ""


def test_an_answer_that_is_missing_is_no_shortcut() -> None:
    assert find("other = 1") == ""


HOSTILE = {
    "a long chain of attributes": "def attend(q):\n    return q" + ".a" * 2000,
    "many brackets": "attend = " + "(" * 5000,
    "many calls": "attend = q" + "()" * 1500,
    "many aliases": "\n".join(
        ["a0 = torch"] + [f"a{n + 1} = a{n}" for n in range(3000)] + ["attend = a3000"]
    ),
    "aliases in a circle": "a = b\nb = a\na = b\nattend = a",
    "many definitions of one name": "\n".join(["if attend:\n    attend = attend, attend"] * 2000),
    "functions within functions": "".join(f"{' ' * n}def attend():\n" for n in range(90)) + " " * 90 + "pass",
    "a lone surrogate": "attend = '\ud800'",
    "a zero byte": "attend = '\0'",
    "code in a text in a text": "exec(\"exec('exec(1)')\")\nattend = 1",
    "many names at once": ", ".join(f"a{n}" for n in range(3000)) + " = attend = 1",
    "many names that a function fills": "\n".join(f"a{n} = []" for n in range(2000))
    + "\ndef attend():\n"
    + "\n".join(f"    a{n}.append(attend)" for n in range(2000)),
    "a long sum": "attend = " + "+".join(["'a'"] * 2000),
    "texts that double": "n = 'a'\n" + "n = n + n\n" * 200 + "def attend():\n    return [F, n]",
    "tuples that double": "t = 'a'\n" + "t = (t, t, t, t)\n" * 99 + "def attend():\n    return [F, str(t)]",
    "a wide format": "attend = ['{:>999999999}'.format('a'), '%999999999s' % 'a', '%*s' % (999999999, 'a')]",
    "replacing that grows": "def attend():\n    a = 'aaaa'\n" + "    a = a.replace('a', a)\n" * 99,
    "code that runs itself": "c = 'eval(c) + eval(c) + eval(c)'\ndef attend():\n    return eval(c)",
    "cells that run themselves": "c = 'exec(c); exec(c); exec(c)'\nexec(c)\nattend = 1",
    "insides of insides": "attend = a" + ".__dict__" * 1500,
    "a module with a zero byte": "import sys\nattend = sys.modules['scratch.\\0'].x",
    "magics without what they need": "get_ipython().run_cell_magic('writefile')\n%run\nattend = 1",
    "a name of torch that raises": "attend = torch.classes.nothing.more\nother = torch.ops.nothing.more",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_code_neither_breaks_nor_stalls_the_search(what: str) -> None:
    begun = time.monotonic()
    assert find(HOSTILE[what]) == ""
    assert time.monotonic() - begun < 10


@given(st.lists(st.text(alphabet="attend=q.F()[]{}:\n \t\"'%!?@*,é\\0", max_size=60), max_size=4))
def test_any_text_is_read_without_an_error(cells: list[str]) -> None:
    assert isinstance(find(*cells), str)
