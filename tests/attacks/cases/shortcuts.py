"""Answers that are not theirs: looked up, imported, made to fit."""

from __future__ import annotations

from attacks.model import WRONG, Attack, Notebook, Site, cell_of


def _practice(notebook: Notebook, site: Site) -> None:
    """Answers for the inputs that everybody sees in the notebook."""
    from proctor.checks import DRAWS
    from proctor.draws import Rng, practice_seed

    known = {}
    for draw in range(DRAWS):
        rng = Rng(practice_seed("test_mini::test_values", draw))
        x = rng.tensor(*rng.distinct(2))
        known["double", tuple(x.flatten().tolist())] = (x + x).tolist()
        x = Rng(practice_seed("test_mini::test_unchanged", draw)).tensor(3)
        known["double", tuple(x.tolist())] = (x + x).tolist()
        rng = Rng(practice_seed("test_mini::test_matches_torch", draw))
        x = rng.tensor(rng.distinct(1)[0])
        known["norm", tuple(x.tolist())] = x.square().sum().sqrt().item()
    cell_of(notebook, "own-0")["source"] = f"KNOWN = {known!r}"


ATTACKS = (
    Attack(
        name="other-at-each-call",
        why="a proxy that answers differently at each call",
        cells=(
            "import itertools\nturns = itertools.count()\nclass Turning:\n"
            "    def __call__(self, x): return [x, x * 2, -x][next(turns) % 3]",
        ),
        answers={"double": "double = Turning()", "norm": WRONG["norm"]},
    ),
    Attack(
        name="hard-coded",
        why="hard-coded answers for the practice seed",
        cells=("KNOWN = {}",),
        alter=_practice,
        answers={
            name: f"def {name}(x):\n    import torch\n"
            f"    found = KNOWN.get(({name!r}, tuple(x.flatten().tolist())))\n"
            "    return x if found is None else torch.tensor(found)"
            for name in WRONG
        },
        stock="it has no practice seeds",
    ),
    Attack(
        name="input-zeroed",
        why="the input changed in place, so that a wrong answer fits what the check works out from it",
        answers={
            "double": "def double(x):\n    if hasattr(x, 'zero_'): x.zero_()\n    return x",
            "norm": "def norm(x):\n    x.zero_()\n    return x.sum()",
        },
    ),
    Attack(
        name="input-nan",
        why="the input made NaN in place, and NaN returned",
        answers={
            "double": "def double(x):\n    if hasattr(x, 'fill_'): x.fill_(float('nan'))\n    return x * 1",
            "norm": "def norm(x):\n    x.fill_(float('nan'))\n    return x.sum()",
        },
    ),
    Attack(
        name="library-alias",
        why="a forbidden function under an alias: `import torch.linalg as tools`",
        cells=("import torch.linalg as tools",),
        answers={"double": WRONG["double"], "norm": "def norm(x):\n    return tools.vector_norm(x)"},
    ),
    Attack(
        name="library-getattr",
        why="a forbidden function through `getattr`",
        answers={
            "double": WRONG["double"],
            "norm": 'def norm(x):\n    import torch\n    return getattr(getattr(torch, "lin" + "alg"), "norm")(x)',
        },
    ),
    Attack(
        name="library-importlib",
        why="a forbidden function through `importlib`",
        answers={
            "double": WRONG["double"],
            "norm": "import importlib\ndef norm(x):\n"
            '    return importlib.import_module("torch.linalg").vector_norm(x)',
        },
    ),
)
