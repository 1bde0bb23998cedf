"""The command line: ``proctor check · hint · progress · start · reset · grade · report · release · verify · sync · …``.

Every error is one sentence on stderr. Exit codes: 0 done, 1 a check fails or something is not in step, 2 wrong use.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from proctor.cli_report import report
from proctor.course import Course, CourseError, Unit, find_course

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Work on the course's exercises, and grade a class on them.",
)
console = Console(highlight=False)

UnitName = Annotated[str, typer.Argument(metavar="UNIT", help="A unit's name, or how it begins: 08")]


def told(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn an error of the course, a notebook or the machine into one sentence and exit code 2."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from proctor.notebook import NotebookError
        from proctor.sandbox import SandboxError

        try:
            return command(*args, **kwargs)
        except (CourseError, NotebookError, SandboxError) as error:
            sentence = str(error)
        except OSError as error:
            sentence = f"{error.filename or 'a file'}: {error.strerror or error}"
        except KeyboardInterrupt as stop:
            says = str(stop) or "stopped; what was finished is kept, run the command again to go on"
            typer.echo(f"proctor: {says}", err=True)
            raise typer.Exit(130) from None
        typer.echo(f"proctor: {sentence}", err=True)
        raise typer.Exit(2) from None

    return wrapped


@app.command()
@told
def start(
    units: Annotated[list[str] | None, typer.Argument(metavar="UNIT…")] = None,
    every: Annotated[bool, typer.Option("--all", help="All units of the course")] = False,
) -> None:
    """Copy exercises into your own folder, my-work/, where nothing overwrites them."""
    from proctor.learn import start_unit

    for course, unit in _units(units, every):
        fresh, path = start_unit(course, unit)
        console.print(f"{'New' if fresh else 'Kept as it is'}: {_near(path)}", markup=False)


@app.command()
@told
def reset(unit: UnitName) -> None:
    """Put a fresh copy of an exercise into my-work/; your old one is kept beside it."""
    from proctor.learn import reset_unit

    course = find_course()
    path, kept = reset_unit(course, course.unit(unit))
    console.print(f"Fresh: {_near(path)}" + (f"\nYour old work: {_near(kept)}" if kept else ""), markup=False)


@app.command()
@told
def check(
    notebook: Annotated[Path, typer.Argument(help="The notebook that you work in")],
    exercise: Annotated[str | None, typer.Argument(help="One exercise of it; all, if none is named")] = None,
) -> None:
    """Check a notebook and print its rubric; exit code 1 where a check fails."""
    from proctor.learn import check_notebook
    from proctor.report import print_rubric

    verdict = check_notebook(notebook, exercise)
    for note in verdict.notes:
        console.print(note, markup=False)
    for result in verdict.exercises:
        print_rubric(result, console)
        console.print()
    console.print(f"{verdict.score:g} of {verdict.max_score:g} points", markup=False)
    raise typer.Exit(0 if verdict.passed else 1)


@app.command()
@told
def hint(unit: UnitName, exercise: Annotated[str, typer.Argument(help="The exercise's name")]) -> None:
    """One more hint at each call: a question, the tool, the way in pseudocode."""
    from proctor.learn import hints_for

    course = find_course()
    for line in hints_for(course, course.unit(unit), exercise):
        console.print(line, markup=False)


@app.command()
@told
def progress() -> None:
    """The whole course as a map: what is done, begun and untouched, and the points."""
    from proctor.learn import show_progress

    show_progress(find_course(), console)


@app.command()
@told
def doctor(
    notebook: Annotated[Path | None, typer.Argument(help="A damaged notebook to repair")] = None,
) -> None:
    """Say what this machine offers for running other people's code; repair a damaged notebook."""
    from proctor.doctor import examine, repair_notebook

    if notebook is not None:
        for note in repair_notebook(notebook):
            console.print(note, markup=False)
        return
    raise typer.Exit(examine(console))


@app.command()
@told
def release(
    units: Annotated[list[str] | None, typer.Argument(metavar="UNIT…")] = None,
    every: Annotated[bool, typer.Option("--all", help="All units of the course")] = False,
) -> None:
    """Make the exercises of a unit from its solutions and checks, through nbgrader."""
    from proctor.author import kept_unless_done
    from proctor.nbgrader.classroom import release_all

    for course, unit in _units(units, every):
        with kept_unless_done(course.release(unit).parent):
            release_all(course.root, [unit.name])
        console.print(f"Released {unit.name}: {_near(course.release(unit).parent)}", markup=False)


@app.command()
@told
def grade(
    unit: UnitName,
    notebook: Annotated[Path | None, typer.Option(help="Grade this one notebook, without a class")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON")] = False,
    gradescope: Annotated[bool, typer.Option("--gradescope", help="Print Gradescope's form")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that grade side by side")] = os.cpu_count() or 1,
    feedback: Annotated[bool, typer.Option(help="Write the feedback pages, too")] = True,
    fresh: Annotated[bool, typer.Option("--fresh", help="Grade anew what was graded already")] = False,
    trust: Annotated[
        bool, typer.Option("--trust-submissions", help="Grade also where nothing keeps them apart")
    ] = False,
) -> None:
    """Grade every submission of a unit into nbgrader's gradebook, or one notebook by itself.

    A run that was stopped goes on where it was when the command is given again.
    """
    from proctor import classwork
    from proctor.roster import verdict_table

    course = find_course()
    if notebook is not None:
        shown = {"json": json, "gradescope": gradescope}
        classwork.grade_one(course, course.unit(unit), notebook, console, trusted=trust, **shown)
        return
    if json or gradescope:
        raise CourseError("--json and --gradescope go with --notebook FILE")
    remarks: list[tuple[str, str]] = []
    verdicts = classwork.grade_class(
        course,
        course.unit(unit),
        jobs,
        console,
        feedback=feedback,
        fresh=fresh,
        trusted=trust,
        remarks=remarks,
    )
    verdict_table(verdicts, console, remarks)


app.command()(told(report))


@app.command()
@told
def verify(
    units: Annotated[list[str] | None, typer.Argument(metavar="UNIT…")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Fresh inputs that each right answer is tried on")] = 20,
) -> None:
    """Prove the checks: stubs score 0, right answers full marks, every known mistake is caught and named."""
    from proctor.verify import show_proof

    chosen = _units(units, every=not units)
    raise typer.Exit(show_proof(chosen[0][0], tuple(unit for _, unit in chosen), draws, console))


@app.command()
@told
def mutate(
    units: Annotated[list[str] | None, typer.Argument(metavar="UNIT…")] = None,
    exercise: Annotated[str | None, typer.Option(help="The answer to one exercise only")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that grade side by side")] = os.cpu_count() or 1,
    bar: Annotated[float, typer.Option(min=0, max=1, help="The share that must be killed")] = 0.95,
    every: Annotated[bool, typer.Option("--list", help="Print every mutant, with how it ended")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Grade anew what was graded already")] = False,
) -> None:
    """Measure the checks: how many small changes of the right answers lose points. Exit code 1 below the bar."""
    from proctor.mutate import show_score

    chosen = _units(units, every=not units)
    if exercise is not None and len(chosen) > 1:
        raise CourseError("--exercise goes with one unit: name it")
    course, those = chosen[0][0], tuple(unit for _, unit in chosen)
    options = {"exercise": exercise, "jobs": jobs, "bar": bar, "every": every, "fresh": fresh}
    raise typer.Exit(show_score(course, those, console, **options))


@app.command()
@told
def sync(
    check: Annotated[bool, typer.Option("--check", help="Only say what is not in step")] = False,
) -> None:
    """Bring every generated file in step with its source: answers, points, exercises, notebooks' form."""
    from proctor.author import sync as run

    course = find_course()
    drifted = run(course, check=check)
    for path in drifted:
        console.print(
            f"{'not in step' if check else 'written'}: {path.relative_to(course.root)}", markup=False
        )
    if check and drifted:
        typer.echo("proctor: run `make sync`, look at the change, and commit it", err=True)
        raise typer.Exit(1)
    console.print(f"{len(course.units)} units in step.")


@app.command()
@told
def lab() -> None:
    """Open JupyterLab on the lessons and on your own folder, with nbgrader's extensions."""
    from proctor.learn import open_lab

    open_lab(find_course())


@app.command()
@told
def demo(
    keep: Annotated[Path | None, typer.Option(help="Put the class here and keep it")] = None,
) -> None:
    """A class in miniature: six learners, released, collected, graded and given feedback in a temporary folder."""
    from proctor.demo import run_demo

    raise typer.Exit(run_demo(find_course(), console, keep))


def _units(names: list[str] | None, every: bool) -> list[tuple[Course, Unit]]:
    course = find_course()
    if every and not names:
        return [(course, unit) for unit in course.units]
    if not names:
        listed = ", ".join(unit.name for unit in course.units)
        raise CourseError(f"name a unit, or --all; there are: {listed}")
    return [(course, course.unit(name)) for name in names]


def _near(path: Path) -> str:
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
    app()
