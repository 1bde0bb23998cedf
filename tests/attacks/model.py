"""What an attack is: a submission that a grader must survive, and what honest grading gives for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minicourse import ANSWERS

WRONG = {"double": "def double(x):\n    return x", "norm": "def norm(x):\n    return x"}
# Right, and apart: `norm` does without `double`, so that what happens to one tells nothing about the other.
RIGHT = {**ANSWERS, "norm": "def norm(x):\n    return x.square().sum().sqrt()"}
HALF = {**RIGHT, "norm": WRONG["norm"]}
FULL = 10.0  # points of the unit, 5 for each exercise

Notebook = dict[str, Any]


@dataclass(frozen=True)
class Site:
    """What an attacker knows at best: where everything lies. «course» in a cell stands for ``course``, and so on."""

    course: Path
    home: Path  # of the account that grades
    other: Path  # somebody else's submission
    marker: str  # in the name of every file, process and key that the attack makes
    outer: str  # the pid namespace of the grader: who finds another one around himself may kill whom he sees
    port: int = 0  # of a server that must not be reached
    canary: str = ""  # the secret that is planted everywhere

    def fill(self, text: str) -> str:
        """The text of a cell, with what it needs to know in it."""
        for name in ("course", "home", "other", "marker", "outer", "port"):
            text = text.replace(f"«{name}»", str(getattr(self, name)))
        return text


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One submission. Its cells may say «course», «marker» and so on (see ``Site``)."""

    name: str
    why: str  # what it tries, in a few words
    answers: Mapping[str, str] = field(default_factory=lambda: WRONG)
    cells: tuple[str, ...] = ()  # code cells after the set-up
    last: tuple[str, ...] = ()  # code cells at the end
    alter: Callable[[Notebook, Site], Any] | None = (
        None  # changes the notebook, as JSON; may return its bytes
    )
    place: Callable[[Path, Site], None] | None = None  # does something to the folder that is handed in
    follow: tuple[str, ...] = ()  # cells of a second submission, that looks for what the first has left
    student: str = ""  # whose name stands on it, where that is part of the attack
    score: float = 0.0  # what honest grading gives, of 10
    person: bool = False  # whether nobody but a person can say
    proof: str = ""  # a text that comes back if the attack was carried out as it was meant
    walls: bool = False  # whether nothing but namespaces, Landlock and seccomp holds it
    stock: str = ""  # why there is nothing to try on stock nbgrader, if there is not
    seconds: float = 40.0  # in which it must be over

    def __str__(self) -> str:
        return self.name

    def write(self, release: Notebook, folder: Path, site: Site) -> None:
        """Write the submission into a folder, as ``mini.ipynb`` and whatever else belongs to it."""
        folder.mkdir(parents=True)
        notebook = handed_in(release, self.answers, self.cells, self.last, site)
        changed = self.alter(notebook, site) if self.alter else None
        data = changed if isinstance(changed, bytes) else json.dumps(changed or notebook).encode()
        (folder / "mini.ipynb").write_bytes(data)
        if self.place:
            self.place(folder, site)


def handed_in(
    release: Notebook,
    answers: Mapping[str, str],
    cells: tuple[str, ...] = (),
    last: tuple[str, ...] = (),
    site: Site | None = None,
) -> Notebook:
    """A copy of the release with answers in it, and further cells after the set-up and at the end."""
    notebook: Notebook = json.loads(json.dumps(release))
    for cell in notebook["cells"]:
        if cell["id"] in answers:
            cell["source"] = site.fill(answers[cell["id"]]) if site else answers[cell["id"]]
    place = 1 + next(i for i, cell in enumerate(notebook["cells"]) if cell["id"] == "setup")
    notebook["cells"][place:place] = [code(site, text, f"own-{n}") for n, text in enumerate(cells)]
    notebook["cells"] += [code(site, text, f"last-{n}") for n, text in enumerate(last)]
    return notebook


def code(site: Site | None, source: str, name: str, **metadata: Any) -> Notebook:
    """A code cell as JSON."""
    source = site.fill(source) if site else source
    kind = {"cell_type": "code", "execution_count": None, "outputs": [], "id": name}
    return {**kind, "metadata": metadata, "source": source}


def cell_of(notebook: Notebook, name: str) -> Notebook:
    """The cell of that id."""
    return next(cell for cell in notebook["cells"] if cell["id"] == name)
