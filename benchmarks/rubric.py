"""How long a learner waits for the rubric, beside their own code: ``make bench``.

Runs ``check("…")`` for every exercise of every unit on the solution, in an IPython shell as a notebook does, and takes
off the time that the learner's own functions took. One warm-up, then the median, in milliseconds.
"""

from __future__ import annotations

import os
import statistics
import time

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from rich.console import Console
from rich.table import Table

from proctor import learner, local
from proctor.course import find_course
from proctor.grade import run_cells

RUNS = 9
TARGET = 150.0  # ms


def main() -> None:
    """Measure and print."""
    course = find_course()
    shell = InteractiveShell.instance()
    own = 0.0
    guarded = local._guarded

    def timed(call):  # the one place through which every call of the learner's code goes
        nonlocal own
        start = time.perf_counter()
        try:
            return guarded(call)
        finally:
            own += time.perf_counter() - start

    local._guarded = timed
    learner._shows_html = lambda: True  # as in JupyterLab
    table = Table(title="check(): milliseconds until the rubric stands there", title_justify="left")
    for column in ("unit", "exercise", "median", "of it the learner's own code", "overhead"):
        table.add_column(column, justify="left" if column in ("unit", "exercise") else "right")
    worst = 0.0
    for unit in course.units:
        os.chdir(course.release(unit).parent)
        for _, source in run_cells(nbformat.read(course.solution(unit), as_version=4)):
            shell.run_cell(source)
        for exercise in course.exercises(unit):
            whole, theirs = [], []
            for run in range(RUNS + 1):
                own, start = 0.0, time.perf_counter()
                score = learner.check(exercise)
                rubric_html_of(score)
                if run:
                    whole.append(1000 * (time.perf_counter() - start))
                    theirs.append(1000 * own)
            overhead = statistics.median(w - t for w, t in zip(whole, theirs, strict=True))
            worst = max(worst, overhead)
            row = (statistics.median(whole), statistics.median(theirs), overhead)
            table.add_row(unit.name, exercise, *(f"{value:.0f}" for value in row))
    console = Console()
    console.print(table)
    console.print(f"largest overhead {worst:.0f} ms, target {TARGET:.0f} ms")


def rubric_html_of(score: learner.Score) -> str:
    """What JupyterLab asks the value for."""
    return score._repr_html_() or ""


if __name__ == "__main__":
    main()
