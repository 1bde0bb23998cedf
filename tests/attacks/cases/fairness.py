"""Right answers that must keep full marks, whatever stands around them."""

from __future__ import annotations

import json

from attacks.model import RIGHT, Attack, Notebook, Site, cell_of, code

SLOW = {**RIGHT, "norm": "import time\ndef norm(x):\n    time.sleep(0.9)\n    return x.square().sum().sqrt()"}
STYLE = {
    "double": "from functools import partial\nimport operator\ndouble = partial(operator.mul, 2)",
    "norm": "class Norm:\n    def __call__(self, x):\n        total = 0.0\n"
    "        for entry in x: total = total + entry ** 2\n"
    "        return total ** 0.5\nnorm = Norm()",
}


def _split(notebook: Notebook, site: Site) -> None:
    cell = cell_of(notebook, "norm")
    place = notebook["cells"].index(cell)
    cell["source"] = "# my helper comes first\ndef squares(x):\n    return x.square()"
    notebook["cells"].insert(
        place + 1, code(None, "def norm(x):\n    return squares(x).sum().sqrt()", "second-half")
    )


def _merged(notebook: Notebook, site: Site) -> None:
    one, other = cell_of(notebook, "double"), cell_of(notebook, "norm")
    one["source"] += "\n\n\n" + other["source"]
    notebook["cells"].remove(other)


def _copied(notebook: Notebook, site: Site) -> None:
    cell = cell_of(notebook, "norm")
    notebook["cells"].append(json.loads(json.dumps(cell)))


def _moved(notebook: Notebook, site: Site) -> None:
    cells = notebook["cells"]
    cells.insert(1, cells.pop(cells.index(cell_of(notebook, "norm"))))


def _lost(notebook: Notebook, site: Site) -> None:
    for number, cell in enumerate(notebook["cells"]):
        cell["metadata"], cell["id"] = {}, f"new-{number}"


def _older(notebook: Notebook, site: Site) -> bytes:
    notebook["nbformat_minor"] = 2
    for cell in notebook["cells"]:
        cell.pop("id")
    return b"\xef\xbb\xbf" + json.dumps(notebook, indent=1).replace("\n", "\r\n").encode()


def full(name: str, why: str, *cells: str, **more: object) -> Attack:
    """A case in which everything is right."""
    return Attack(name=name, why=why, cells=cells, **{"answers": RIGHT, "score": 10.0, **more})


ATTACKS = (
    full(
        "warning",
        "a warning on stderr, and a text",
        "import sys, warnings\nwarnings.warn('old')\nprint('to stderr', file=sys.stderr)",
        answers={
            **RIGHT,
            "double": "import warnings\ndef double(x):\n    warnings.warn('old', DeprecationWarning)\n    return x * 2",
        },
        proof="to stderr",
    ),
    full(
        "warnings-as-errors",
        "a warning filter that raises",
        "import warnings, logging\nwarnings.simplefilter('error')\nlogging.basicConfig(level=0)\nlogging.info('begun')",
    ),
    full(
        "helpers",
        "helper functions in extra cells",
        "def helper(x):\n    return x + x",
        "SCALE = 1",
        answers={**RIGHT, "double": "def double(x):\n    return helper(x) * SCALE"},
    ),
    full(
        "prints",
        "prints in cells and answers",
        "print('a' * 5000)",
        answers={**RIGHT, "double": "def double(x):\n    print('doubling', x)\n    return x * 2"},
    ),
    full(
        "plots",
        "plots",
        "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\naxes.plot([1, 2, 3])\nplt.show()",
        "%matplotlib inline\nplt.imshow([[1, 2], [3, 4]]);",
        proof="image/png",
    ),
    full("another-style", "another style: a partial, a class with a loop", answers=STYLE),
    full(
        "magics",
        "`%timeit`, `%%time`, `!ls`, `%load_ext autoreload`, `?`",
        "%timeit -n 2 -r 2 sum(range(10))",
        "%%time\nhere = 1",
        "!echo shell",
        "%load_ext autoreload\n%autoreload 2",
        "sum?",
    ),
    full("slow", "a slow but honest answer inside the limit", answers=SLOW),
    full(
        "errors-in-extra-cells",
        "experiments that fail: an error, a missing package, `input()`, `sys.exit()`",
        "1 / 0",
        "try:\n    import google.colab\nexcept ImportError: pass\nopen('/content/drive/data.csv')",
        "name = input('who?')",
        "import sys\nsys.exit()",
    ),
    full(
        "globals-changed",
        "a default dtype, a seed, a closed stdout, a changed folder",
        "import torch, os, random\ntorch.set_default_dtype(torch.float64)\ntorch.manual_seed(0)\n"
        "os.makedirs('here', exist_ok=True)\nos.chdir('here')\ntorch.set_grad_enabled(False)",
    ),
    full(
        "threads",
        "a thread pool and a child process, as data loaders use them",
        "from concurrent.futures import ThreadPoolExecutor\nimport subprocess, sys\n"
        "with ThreadPoolExecutor(4) as pool: print(list(pool.map(abs, [-1, -2])))\n"
        "print(subprocess.run([sys.executable, '-c', 'print(6 * 7)'], capture_output=True, text=True).stdout)",
        proof="42",
    ),
    full("split", "an answer cell split in two", alter=_split),
    full("merged", "two answer cells merged", alter=_merged),
    full("copied", "an answer cell copied", alter=_copied),
    full("moved", "an answer cell moved to the top", alter=_moved),
    full("metadata-lost", "all metadata and ids lost", alter=_lost),
    full("older-format", "saved as format 4.2, with CRLF and a byte order mark", alter=_older),
    full(
        "unicode",
        "names and texts in other scripts",
        "größe = 1\nπ = 3.14\nprint('日本語 עברית 🎉', π)",
        answers={
            **RIGHT,
            "double": "def double(x):\n    größe_2 = 2  # zweimal – 二倍\n    return x * größe_2",
        },
    ),
)
