"""Marks that were not earned: everything here has wrong answers, and honest grading gives 0."""

from __future__ import annotations

from attacks.cases import TOOLS
from attacks.model import Attack, Notebook, Site

YES = """
class Yes:
    def __eq__(self, other): return Yes()
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None): return True
    def __getattr__(self, name):
        if name.startswith("__"): raise AttributeError(name)
        return lambda *a, **k: Yes()
    def __bool__(self): return True
    def __len__(self): return 1
    def __iter__(self): return iter([Yes()])
    def __call__(self, *a, **k): return Yes()
    __hash__ = None
"""
TENSOR = """
import torch
class Perfect(torch.Tensor):
    def __eq__(self, other): return torch.tensor(True)
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None): return True
"""
FRAMES = """
import sys
def peek(x):
    frame = sys._getframe(1)
    while frame:
        for space in (frame.f_locals, frame.f_globals):
            if "expected" in space:
                return space["expected"]
        frame = frame.f_back
    return x
"""
HISTORY = """
import ast, torch
def look_up(name, x):
    frame = get_ipython().user_ns
    for node in ast.walk(ast.parse(frame["In"][-1])):
        if not isinstance(node, (ast.Compare, ast.Call)): continue
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else node.args
        called = [s for s in sides if isinstance(s, ast.Call) and getattr(s.func, "id", "") == name]
        for call in called:
            try:
                same = eval(ast.unparse(call.args[0]), frame)
                if torch.equal(torch.as_tensor(same), torch.as_tensor(x)):
                    return eval(ast.unparse(next(s for s in sides if s is not call)), frame)
            except Exception: pass
    return x
"""
BOTH = {"double": "def double(x):\n    return {}", "norm": "def norm(x):\n    return {}"}


def both(expression: str) -> dict[str, str]:
    """The same body for both exercises."""
    return {name: text.format(expression) for name, text in BOTH.items()}


def _skip_tags(notebook: Notebook, site: Site) -> None:
    for cell in notebook["cells"]:
        if cell["id"].startswith("check-"):
            cell["metadata"]["tags"] = ["skip-execution"]


UPDATE = (
    TOOLS
    + """
import sqlite3
def update():
    with sqlite3.connect("file:«course»/gradebook.db?mode=rw", uri=True, timeout=2) as book:
        book.execute("UPDATE grade SET manual_score = 999")
succeeds("the gradebook was changed", update)
"""
)
LATE = """
import os, sys, subprocess
late = '''
import os, sqlite3, sys, time
for _ in range(150):
    time.sleep(0.1)
    if os.path.exists("«course»/feedback"): break
try:
    open("/tmp/«marker»-late", "w").close()
    with sqlite3.connect("file:«course»/gradebook.db?mode=rw", uri=True) as book:
        book.execute("UPDATE grade SET manual_score = 999")
except Exception: pass
'''
done = subprocess.Popen([sys.executable, "-c", late, "«marker»"], start_new_session=True)
print("started")
"""

ATTACKS = (
    Attack(
        name="equal-to-everything",
        why="an object whose `__eq__` is always true",
        cells=(YES,),
        answers=both("Yes()"),
    ),
    Attack(
        name="tensor-subclass",
        why="a tensor subclass with `__torch_function__`",
        cells=(TENSOR,),
        answers=both("Perfect()"),
    ),
    Attack(
        name="cells-become-pass",
        why="an input transformer that turns every later cell into `pass`",
        cells=('get_ipython().input_transformers_post.append(lambda lines: ["pass\\n"])',),
    ),
    Attack(
        name="asserts-stripped",
        why="an AST transformer that strips asserts",
        cells=(
            "import ast\nclass Strip(ast.NodeTransformer):\n    def visit_Assert(self, node): return ast.Pass()\n"
            "get_ipython().ast_transformers.append(Strip())",
        ),
    ),
    Attack(
        name="displayhook-negative",
        why="`displayhook(-1)` called inside the tested function",
        answers=both("get_ipython().displayhook(-1) or x"),
    ),
    Attack(
        name="repr-nan",
        why="an object whose repr is `nan`, displayed inside the tested function",
        cells=('class Nan:\n    def __repr__(self): return "nan"',),
        answers=both("get_ipython().displayhook(Nan()) or x"),
    ),
    Attack(
        name="repr-maximum",
        why="an object that prints exactly the maximum",
        cells=('class Five:\n    def __repr__(self): return "5.0"',),
        answers=both("get_ipython().displayhook(Five()) or x"),
    ),
    Attack(name="skip-execution", why="`skip-execution` tags on test cells", alter=_skip_tags),
    Attack(
        name="errors-dropped",
        why="`kernel.session.send` patched to drop errors",
        cells=(
            'kernel = getattr(get_ipython(), "kernel", None)\nif kernel:\n    send = kernel.session.send\n'
            "    def quiet(stream, kind, content=None, *a, **k):\n"
            '        if kind == "error": return\n        if kind == "execute_reply":\n'
            '            content = {"status": "ok", "execution_count": 1, "payload": [], "user_expressions": {}}\n'
            "        return send(stream, kind, content, *a, **k)\n    kernel.session.send = quiet",
        ),
    ),
    Attack(
        name="allclose-patched",
        why="`torch.allclose`, `torch.testing`, `torch.equal`, `torch.Tensor.__eq__` patched",
        cells=(
            "import torch\nyes = lambda *a, **k: True\n"
            "torch.allclose = torch.equal = torch.testing.assert_close = torch.Tensor.allclose = yes\n"
            "torch.Tensor.__eq__ = lambda *a: torch.tensor(True)\ntorch.Tensor.all = yes",
        ),
        answers=both("torch.zeros(2) if not isinstance(x, torch.Tensor) else x"),
    ),
    Attack(
        name="builtins-patched",
        why="`builtins` patched: `AssertionError`, `all`, `abs`, `isinstance`, `float`",
        cells=(
            "import builtins\nfor name in ('all', 'any'):\n    setattr(builtins, name, lambda *a: True)\n"
            "builtins.abs = lambda x: 0\nclass Quiet(Exception):\n    def __new__(cls, *a): raise SystemExit(0)\n"
            "builtins.AssertionError = Quiet",
        ),
    ),
    Attack(
        name="check-redefined",
        why="`check` redefined in the notebook",
        cells=("def check(*names): return 5.0\nimport builtins\nbuiltins.check = check",),
    ),
    Attack(
        name="proctor-replaced",
        why="the whole `proctor` package replaced by one that is content with everything",
        cells=(
            "import sys, types\nclass Content(types.ModuleType):\n    __path__ = []\n"
            "    def __getattr__(self, name): return lambda *a, **k: True\n"
            "for name in [n for n in sys.modules if n.split('.')[0] == 'proctor'] + ['proctor']:\n"
            "    sys.modules[name] = Content(name)",
        ),
    ),
    Attack(
        name="oracle-patched",
        why="`proctor.expect`, `results` and `checks` patched where they are",
        cells=(
            "import proctor.expect, proctor.results\n"
            "proctor.expect.close = proctor.expect.equal = lambda *a, **k: None\n"
            "proctor.results.CheckResult.earned = property(lambda self: self.points)",
        ),
    ),
    Attack(
        name="expected-from-history",
        why="expected values computed from `In[-1]`",
        cells=(HISTORY,),
        answers={name: f"def {name}(x):\n    return look_up({name!r}, x)" for name in BOTH},
    ),
    Attack(
        name="expected-from-frames",
        why="expected values read from the frames above",
        cells=(FRAMES,),
        answers=both("peek(x)"),
    ),
    Attack(
        name="expected-from-gc",
        why="expected values read from what `gc` finds",
        cells=(
            "import gc, torch\ndef found(x):\n"
            "    some = [t for t in gc.get_objects() if type(t) is torch.Tensor and t is not x]\n"
            "    want = [t for t in some if t.shape == getattr(x, 'shape', None)] or [t for t in some if not t.ndim]\n"
            "    return want[-1] if want else x",
        ),
        answers=both("found(x)"),
    ),
    Attack(
        name="gradebook-update",
        why="`UPDATE grade SET manual_score = 999` in gradebook.db",
        cells=(UPDATE,),
        walls=True,
    ),
    Attack(
        name="late-writer",
        why="a `setsid` child that writes after grading has ended",
        cells=(LATE,),
        proof="started",
    ),
)
