"""What attacks do to stock nbgrader, and to proctor: ``make baseline`` measures both and writes docs/attacks.md.

The cases are those of ``tests/attacks/cases``. For stock nbgrader each is a course of its own, released from classic
test cells with hidden tests, and autograded; for proctor each group is a class in which honest people sit between the
attacks. It takes about six minutes on two cores, and must run as root: stock nbgrader keeps nothing from the machine,
so each of its cases runs as an account of its own, in namespaces of its own, and is ended after a while.

    python benchmarks/baseline.py                        everything; writes docs/attacks.md
    python benchmarks/baseline.py --show forging wire    these groups, on the screen
    python benchmarks/baseline.py --show --only proctor
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from attacks import arena, stock, traces  # noqa: E402
from attacks.model import Attack, Site  # noqa: E402

GROUPS = {
    "forging": "Forging marks",
    "shortcuts": "Answers that are not theirs",
    "reading": "Reading what is not theirs",
    "breaking": "Breaking the grader: processes",
    "hoarding": "Breaking the grader: memory, disk, output",
    "damaged": "Breaking the grader: notebooks and folders",
    "screen": "At the teacher's screen",
    "wire": "On the wire",
    "carried": "Left for the next one",
    "system": "Asked of the kernel",
    "fairness": "Fairness: right answers that must keep full marks",
}
ALONE = {
    "forging",
    "screen",
    "fairness",
}  # in these stock nbgrader gets no classmate to harm: it would say nothing
HEAD = """\
# Attacks

What {count} hostile, damaged or merely unusual submissions do to stock nbgrader and to proctor. **This page is
written by `make baseline`**, which carries all of them out; it is measured, and not edited by hand.

Measured on {date} with nbgrader {nbgrader}, Python {python}, torch {torch}, Linux {linux}; proctor's walls: {walls}.

Each submission is one notebook with two exercises, 5 points each. *Honest* is what they are worth. Stock nbgrader
has no configuration but a limit of {cell} seconds a cell (its own is 30, which would take longer to wait for); its
test cells are asserts with hidden tests, as an ordinary teacher writes them.
A score in **bold** is not the honest one. "Batch" says
what became of a classmate who was graded next; "left" is a process or a file that outlived grading; "read" means that a
secret of the teacher's, or word of a wall that was passed, came back in the graded notebook.

With proctor, every attack sits between two honest classmates in one class, and *untouched* says that their verdicts,
what came back and what was left are as without it. What is tried is in `tests/attacks/cases/`.
"""


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--show", action="store_true", help="on the screen, nothing is written")
    parser.add_argument("--only", choices=["stock", "proctor"])
    parser.add_argument("--name", action="append", help="one attack")
    parser.add_argument("--cells", type=Path, help="a file for what came of them, by name")
    arguments = parser.parse_args()
    chosen = {}
    for group in arguments.groups or GROUPS:
        attacks = import_module(f"attacks.cases.{group}").ATTACKS
        chosen[group] = [a for a in attacks if not arguments.name or a.name in arguments.name]
    if arguments.only != "proctor" and os.geteuid() != 0:
        raise SystemExit("run this as root: stock nbgrader's cases need an account of their own (see above)")
    begun = time.monotonic()
    with workplace() as folder:
        if arguments.only == "proctor":
            theirs, ours = {}, measure_proctor(chosen, folder)
        elif arguments.only == "stock":
            theirs, ours = measure_stock(chosen, folder), {}
        else:  # side by side: the one mostly waits for kernels to start, and each has processes of its own
            cells = folder / "proctor.json"
            names = [f"--name={name}" for name in arguments.name or ()]
            command = [
                sys.executable,
                __file__,
                "--only",
                "proctor",
                "--cells",
                str(cells),
                *arguments.groups,
                *names,
            ]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as beside:
                theirs = measure_stock(chosen, folder)
            if beside.returncode:
                raise SystemExit("proctor could not be measured")
            ours = json.loads(cells.read_text())
    lines = [*table(chosen, theirs, ours)]
    if arguments.cells:
        arguments.cells.write_text(json.dumps(ours))
    elif arguments.show or arguments.groups or arguments.name:
        print("\n".join(lines))
    else:
        (ROOT / "docs" / "attacks.md").write_text("\n".join([head(chosen), *lines]) + "\n")
        print("docs/attacks.md is written")
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder that other accounts may look into."""
    folder = Path(tempfile.mkdtemp(prefix="baseline-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure_stock(
    chosen: dict[str, list[Attack]], folder: Path, side_by_side: int = 2
) -> dict[str, stock.Measured]:
    """Each attack on stock nbgrader, by its name."""
    course = folder / "stock"
    stock.make_course(course)
    token, outer, found = secrets.token_hex(3), traces.namespace(), {}
    waiting = deque(
        (group, attack) for group, attacks in chosen.items() for attack in attacks if not attack.stock
    )
    again = set()
    running: list[stock.Case] = []
    free = list(range(side_by_side))
    number = 0
    with traces.servers(f"atk{token}") as (port, _):
        while waiting or running:
            for case in [case for case in running if case.over()] or time.sleep(0.05) or ():
                running.remove(case)
                free.append(case.number)
                name = case.attack.name
                found[name] = case.measured()
                shutil.rmtree(case.root.parent, ignore_errors=True)
                # A busy machine runs into the limit of a cell: what looks like that is measured once more, at the end.
                if found[name].classmate == 0 and name not in again:
                    again.add(name)
                    waiting.append((case.group, case.attack))
                print(f"stock: {name}: {stock_cells(case.attack, found[name])}", file=sys.stderr)
            while free and waiting and (len(waiting) > len(again) or not running):
                group, attack = waiting.popleft()
                own = folder / f"case-{number}"
                own.mkdir(mode=0o755)
                secret = f"CANARY{secrets.token_hex(8)}"
                site = Site(own, own, own, f"atk{token}{number:03d}", outer, port, secret)
                running.append(stock.Case(attack, course, own, site, free.pop(), group not in ALONE))
                running[-1].group = group
                number += 1
    traces.clear(f"atk{token}", folder)
    return found


def measure_proctor(chosen: dict[str, list[Attack]], folder: Path) -> dict[str, str]:
    """What came of each attack on proctor, by its name: two cells of its row."""
    found: dict[str, str] = {}
    for group, attacks in chosen.items():
        batch = arena.grade(attacks, folder / group)
        found |= {name: proctor_cells(result.attack, result) for name, result in batch.results.items()}
        for problem in (
            batch.trouble,
            "; ".join(batch.changed),
            f"{batch.calls} calls" if batch.calls else "",
        ):
            if problem:
                print(f"proctor: {group}: {problem[:600]}", file=sys.stderr)
        if batch.workers != 1:
            print(f"proctor: {group}: graded by {batch.workers} processes", file=sys.stderr)
    return found


def head(chosen: dict[str, list[Attack]]) -> str:
    from proctor import walls

    return HEAD.format(
        count=sum(map(len, chosen.values())),
        date=f"{datetime.now(UTC):%-d %B %Y}",
        nbgrader=version("nbgrader"),
        python=platform.python_version(),
        torch=version("torch"),
        linux=platform.release(),
        walls=walls.best().described,
        cell=stock.CELL_SECONDS,
    )


def table(
    chosen: dict[str, list[Attack]], theirs: dict[str, stock.Measured], ours: dict[str, str]
) -> Iterator[str]:
    """The lines of the page."""
    for group, attacks in chosen.items():
        yield f"\n## {GROUPS[group]}\n"
        yield "| attack | honest | stock nbgrader | s | proctor | s |"
        yield "|---|---|---|---|---|---|"
        for attack in attacks:
            honest = "a person" if attack.person else f"{attack.score:g}"
            left = stock_cells(attack, theirs.get(attack.name))
            right = ours.get(attack.name, "not measured | ")
            yield f"| {attack.why} | {honest} | {left} | {right} |"


def marked(score: float | None, attack: Attack) -> str:
    if score is None:
        return "no score"
    return f"{score:g}" if score == attack.score and not attack.person else f"**{score:g}**"


def stock_cells(attack: Attack, found: stock.Measured | None) -> str:
    """Two cells of a row."""
    if attack.stock:
        return f"— ({attack.stock}) | "
    if found is None:
        return "not measured | "
    told = [marked(found.score, attack)]
    told += ["read"] * found.leaked + ["left"] * found.left + [found.ending] * bool(found.ending)
    if found.beside and found.classmate != 10:
        told.append(
            "batch: the next has " + ("no score" if found.classmate is None else f"**{found.classmate:g}**")
        )
    return f"{'; '.join(told)} | {found.seconds:.1f}"


def proctor_cells(attack: Attack, found: arena.Result) -> str:
    """Two cells of a row."""
    row = found.row
    if row.stopped:
        return f"**stopped the class**: {row.stopped[:200]} | "
    person = row.verdict["needs_person"]
    told = [
        "a person" if person and attack.person else "**a person**" if person else marked(row.score, attack)
    ]
    told += [f"**{what}**: {problems[0][:150]}" for what, problems in (
        ("read", found.leaked()), ("left", found.left), ("classmates", found.untouched())) if problems]  # fmt: skip
    if row.saved is None or row.saved[0] != row.score:
        told.append(f"**gradebook: {row.saved}**")
    if len(told) == 1:
        told.append("untouched")
    return f"{'; '.join(told).replace('|', '/')} | {row.seconds:.1f}"


if __name__ == "__main__":
    main()
