"""What grading costs, beside nbgrader as it comes: ``make bench-grading``.

Thirty submissions of a unit, mixed like a class, are graded side by side in one run: by nbgrader with none of our
settings, and by ``proctor grade``. Absolute times are those of this machine at this hour; the ratios are what counts.
Every way of grading must give the same scores: the exit code is 1 where one does not.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from findings import Report, Scores, outcomes

ROOT = Path(__file__).parents[1]
STOCK, ONE, TWO = "nbgrader as it comes", "proctor grade --jobs 1", "proctor grade --jobs 2"
FLAT = 0.10


class Bench:
    """One run of the benchmark."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        from mix import Classes

        self.options, self.report, self.scores = options, Report(), Scores()
        with self.report.console.status("making the class"):
            self.classes = Classes(options.unit, folder)
        self.unit = self.classes.unit
        self.scores.hold("what they are worth", self.classes.known())

    def pace(self, root: Path, kind: str) -> float:
        """Seconds from one submission to the next, once the first is done: without the start."""
        from mix import finished

        times = finished(root, self.unit, kind)
        return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else float("nan")

    def verdicts(self, root: Path, way: str, again: int = 0) -> None:
        """Hold the gradebook of a course, and the verdicts in its notebooks, against those before.

        ``again`` is the number of submissions after which the same ones are handed in by others.
        """
        from proctor.nbgrader import classroom

        checks = {}
        for path in root.glob(f"autograded/*/{self.unit.name}/{self.unit.notebook}.ipynb"):
            stored = json.loads(path.read_text())["metadata"].get("proctor", {}).get("verdict")
            if stored:
                checks[path.parts[-3]] = outcomes(stored)
        scores = classroom.scores(root, self.unit.name)
        for number, student in enumerate(sorted(scores) if again else ()):
            first = f"student-{number % again:04}"
            self.scores.hold(way, {first: scores[student]}, {first: checks[student]})
        if not again:
            self.scores.hold(way, scores, checks)

    def side_by_side(self) -> None:
        """nbgrader as it comes and ``proctor grade``, in turns."""
        from measure import Measured, run
        from mix import forget

        count, rounds = self.options.submissions, self.options.rounds
        shares = [range(0)] * rounds
        if stock := min(self.options.stock, count):
            edges = [stock * number // rounds for number in range(rounds + 1)]
            shares = [range(*pair) for pair in itertools.pairwise(edges)]
        seen: dict[str, list[tuple[Measured, float, int]]] = {STOCK: [], ONE: [], TWO: []}
        for number, share in enumerate(shares):
            ways = [STOCK, ONE, TWO]
            for way in ways if number % 2 == 0 else reversed(ways):
                if way == STOCK and len(share) < 2:
                    continue
                self.report.console.print(f"round {number + 1} of {rounds}: {way}", markup=False)
                if way == STOCK:
                    root = self.classes.stock(share)
                    parts = [
                        run(["nbgrader", command, self.unit.name], root)
                        for command in ("autograde", "generate_feedback")
                    ]
                    whole = Measured(
                        sum(p.wall for p in parts), sum(p.cpu for p in parts), max(p.peak for p in parts)
                    )
                    pace, size = self.pace(root, "autograded") + self.pace(root, "feedback"), len(share)
                else:
                    root, jobs = self.classes.ours(count), way.split()[-1]
                    whole = run(["proctor", "grade", self.unit.name, "--fresh", "--jobs", jobs], root)
                    pace, size = self.pace(root, "feedback"), count
                seen[way].append((whole, pace, size))
                self.verdicts(root, way)
                forget(root)
        self._show_side_by_side(seen)

    def _show_side_by_side(self, seen: dict[str, list[tuple[Any, float, int]]]) -> None:
        rows = []
        for way, runs in seen.items():
            if not runs:
                continue
            pace = statistics.median(pace for _, pace, _ in runs)
            ratios = [theirs[1] / own[1] for theirs, own in zip(seen[STOCK], runs, strict=False)]
            rows.append(
                (
                    way,
                    f"{sum(size for *_, size in runs)}",
                    f"{1000 * pace:.0f} ms",
                    f"{1 / pace:.2f}",
                    f"{statistics.median(whole.wall - pace * size for whole, pace, size in runs):.1f} s",
                    f"{statistics.median(whole.cpu / size for whole, _, size in runs):.2f} s",
                    f"{max(whole.peak for whole, *_ in runs) / 1e6:.0f} MB",
                    f"{statistics.median(ratios):.1f}" if ratios else "–",
                )
            )
        columns = (
            "way", "graded", "one submission", "a second", "start and end", "CPU each", "memory", "times as fast",
        )  # fmt: skip
        note = "Gradebook and feedback pages included. Medians over the rounds; the order alternates."
        self.report.table("Side by side", columns, rows, note)

    def isolation(self) -> None:
        """What keeping submissions away from the machine costs: the same pool at the plain and at the best level."""
        from mix import forget

        from proctor import classwork, pool
        from proctor.course import read_course
        from proctor.walls import Level, best

        root = self.classes.ours(self.options.submissions)
        jobs = classwork.submissions(read_course(root), self.unit)
        levels = [Level.PLAIN, best()]
        spent: dict[Any, list[float]] = {level: [] for level in levels}
        for number in range(self.options.rounds):
            for level in levels if number % 2 == 0 else levels[::-1]:
                todo = [dataclasses.replace(job, level=level) for job in jobs]
                with pool.Pool(1) as graders:
                    graders.grade(todo[0])
                    start = time.perf_counter()
                    graded = dict(graders.grade_all(todo))
                    spent[level].append((time.perf_counter() - start) / len(jobs))
                verdicts = {job.student: each.verdict for job, each in graded.items()}
                scores = {student: verdict.score for student, verdict in verdicts.items()}
                self.scores.hold(level.name, scores, {s: outcomes(v) for s, v in verdicts.items()})
        forget(root)
        rows = []
        for level in dict.fromkeys(levels):
            more = statistics.median(
                own / theirs - 1 for own, theirs in zip(spent[level], spent[Level.PLAIN], strict=True)
            )
            rows.append(
                (level.name.lower(), f"{1000 * statistics.median(spent[level]):.0f} ms", f"{more:+.1%}")
            )
        self.report.table(
            "The cost of isolation", ("level", "one submission", "more than a plain process"), rows
        )

    def scaling(self) -> None:
        """Whether the hundredth submission costs what the tenth does."""
        from measure import run
        from mix import forget

        ten, found = self.classes.class_[:10], []
        for count in (*self.options.sizes, *([1000] if self.options.long else [])):
            paces, runs = [], []
            for _ in range(3 if count <= 10 else 1):
                self.report.console.print(f"scaling: {count} submissions", markup=False)
                root = self.classes.ours(count, ten)
                runs.append(run(["proctor", "grade", self.unit.name, "--fresh", "--jobs", "1"], root))
                paces.append(self.pace(root, "feedback"))
                self.verdicts(root, f"{count} submissions", again=len(ten))
                forget(root)
            cpu, peak = (statistics.median(getattr(each, what) for each in runs) for what in ("cpu", "peak"))
            found.append((count, statistics.median(paces), cpu, peak))
        few, pace, cpu, peak = found[0]
        rows = [
            (
                f"{count}",
                f"{1000 * own:.0f} ms",
                f"{own / pace - 1:+.0%}",
                f"{1000 * (spent - cpu) / (count - few):.0f} ms" if count > few else "",
                f"{held / 1e6:.0f} MB",
                f"{held / peak - 1:+.0%}",
            )
            for count, own, spent, held in found
        ]
        flat = all(own <= pace * (1 + FLAT) and held <= peak * (1 + FLAT) for _, own, _, held in found)
        note = f"{'Flat' if flat else 'NOT flat'} within {FLAT:.0%}: time of a submission, memory of all processes."
        columns = ("submissions", "one submission", "more", "CPU of one more", "memory", "more ")
        self.report.table("Many submissions", columns, rows, note)

    def breakdown(self) -> None:
        """Where the time of a submission goes, in one process."""
        from measure import Stopwatch
        from mix import forget

        from proctor import classwork
        from proctor.course import read_course
        from proctor.draws import secret_seed
        from proctor.grade import course_key, course_material, grade_notebook, released_notebook, sandbox_for
        from proctor.nbgrader.record import Record

        fork, cells, calls = "fork, walls and end of its process", "the learner's cells", "the checks' calls"
        checks, book, page = "the checks themselves (trusted side)", "gradebook", "feedback page"
        saving, reading = "autograded notebook", "reading and rebuilding"
        watch = Stopwatch()
        watch.watch("proctor.checks", "run_checks", checks)
        watch.watch("proctor.session", "Session._start", cells)
        watch.watch("proctor.session", "Session.close", fork)
        watch.watch_context("proctor.sandbox", "Sandbox.submission", fork)
        watch.watch("proctor.session", "Session._branch", fork)
        watch.watch("proctor.wire", "Connection.receive", calls, only_in=checks)
        watch.watch("proctor.grade", "rebuild", reading)
        watch.watch("proctor.nbgrader.record", "Record.save", saving)
        watch.watch("proctor.nbgrader.record", "Book.save", book)
        watch.watch("proctor.nbgrader.record", "Record._save_page", page)
        course = read_course(root := self.classes.ours(self.options.submissions))
        material = course_material(course, self.unit)
        release, key = released_notebook(material), course_key(root)
        scores = {}
        with sandbox_for(material) as sandbox, Record(course, self.unit, material) as record:
            jobs = classwork.submissions(course, self.unit)
            for warm, job in [(True, jobs[0]), *((False, job) for job in jobs)]:
                with watch.on(reading):
                    handed, _ = classwork.read_submission(job)
                seed = secret_seed(key, job.student)
                graded = grade_notebook(
                    material, job.path, sandbox, seed=seed, content=handed.content, release=release
                )
                record.save(handed, graded)
                scores[job.student] = graded.verdict.score
                if warm:
                    watch.reset()
            watch.on("rest").__enter__()  # charges what came last
        self.scores.hold("in one process", scores)
        spent = {name: seconds / len(jobs) for name, seconds in watch.spent.items()}
        whole = sum(spent.values())
        rows = [
            (name, f"{1000 * seconds:.1f} ms", f"{seconds / whole:.0%}")
            for name, seconds in sorted(spent.items(), key=lambda item: (item[0] == "rest", -item[1]))
        ]
        rows.append(("all together", f"{1000 * whole:.1f} ms", "100%"))
        note = "Wall-clock, warm, nothing at the same time. “The checks' calls” is waiting for the learner's code."
        self.report.table("Where the time of a submission goes", ("part", "each", "share"), rows, note)
        forget(root)

    def click(self) -> None:
        """How long a press on the formgrader's button takes, and what else the server answers meanwhile."""
        from clicks import press

        root = self.classes.ours(min(10, self.options.submissions))
        rows = press(root, self.unit.name)
        self.verdicts(root, "formgrader")
        self.report.table("A click on “autograde” in the formgrader", ("", "median", "longest"), rows)

    def end(self) -> int:
        """Say whether all ways agree; the exit code."""
        self.report.console.print(*(f"not the same: {line}" for line in self.scores.odd[:20]), sep="\n")
        told = f"{self.scores.compared} scores and verdicts compared, {len(self.scores.odd)} of them not the same."
        self.report.console.print(told)
        self.report.written += ["## Scores", "", told, ""]
        if self.options.write and not self.scores.odd:
            about = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"
            head = ["# What grading costs", "", f"Written by `make bench-grading WRITE=1`. {about}.", ""]
            path = ROOT / "docs" / "grading-speed.md"
            path.write_text("\n".join([*head, *self.report.written]).rstrip() + "\n")
        return 1 if self.scores.odd else 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--unit", default="08_attention")
    parser.add_argument("--submissions", type=int, default=30, help="how many our own way grades a round")
    parser.add_argument("--stock", type=int, default=30, help="how many nbgrader grades as it comes, in all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100], help="classes to compare")
    parser.add_argument("--long", action="store_true", help="grade 1,000 submissions as well")
    parser.add_argument("--only", nargs="*", help="side_by_side, isolation, scaling, breakdown, click")
    parser.add_argument("--write", action="store_true", help="write docs/grading-speed.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-grading-") as folder:
        bench = Bench(options, Path(folder).resolve())
        for part in ("side_by_side", "isolation", "scaling", "click", "breakdown"):
            if not options.only or part in options.only:
                getattr(bench, part)()
        raise SystemExit(bench.end())


if __name__ == "__main__":
    main()
