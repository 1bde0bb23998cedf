"""The command ``proctor report``: a class's results as a page and as files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proctor.course import CourseError, find_course

Unit = Annotated[str, typer.Argument(metavar="UNIT", help="A unit's name, or how it begins: 08")]


def report(
    unit: Unit,
    output: Annotated[
        Path | None, typer.Option(help="Where the page goes; reports/UNIT.html in the course, if not named")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Also write a table for spreadsheets, a row a learner")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Also write nbgrader's export, for a learning platform")
    ] = None,
    gradescope: Annotated[
        Path | None, typer.Option(help="Also write Gradescope's form into this folder, a file a learner")
    ] = None,
    names: Annotated[
        bool,
        typer.Option("--names/--no-names", help="Tell of single learners on the page, or of the class only"),
    ] = True,
) -> None:
    """Show what a class made of a unit: scores, exercises, mistakes, what waits for a person.

    Reads what `proctor grade` (or nbgrader) has graded, runs nothing and changes nothing.
    """
    from proctor.files import write_whole
    from proctor.gathered import State, gather, known_answers
    from proctor.overview import class_html
    from proctor.sheets import check_folder, class_csv, gradescope_files, write_files
    from proctor.tally import tally

    course = find_course()
    chosen = course.unit(unit)
    for path in filter(None, (output, csv, export)):
        _check(path)
    if gradescope is not None:
        check_folder(gradescope)
    if output is None:
        (course.root / "reports").mkdir(exist_ok=True)
        output = course.root / "reports" / f"{chosen.name}.html"
        _check(output)
    exercises = course.exercises(chosen)
    counted = tally(gather(course, chosen), exercises, known_answers(course, chosen))
    write_whole(output, class_html(counted, names=names).encode())
    told = [f"Page: {_near(output)}"]
    if csv is not None:
        write_whole(csv, class_csv(counted))
        told.append(f"Table: {_near(csv)}")
    if export is not None:
        from proctor.nbgrader.export import export as write_export

        exporter = write_export(course.root, chosen.name, export.resolve(), Path.replace)
        told.append(f"{exporter}: {_near(export)}" if export.exists() else f"{exporter} has done its work")
    if gradescope is not None:
        files = gradescope_files(counted)
        write_files(gradescope, files)
        left = counted.states[State.WAITS]
        says = f"; {left} without a final score {'is' if left == 1 else 'are'} left out" if left else ""
        told.append(f"Gradescope: {len(files)} files in {_near(gradescope)}{says}")
    for line in told:
        typer.echo(line)


def _check(path: Path) -> None:
    """Refuse, before any work, a place where no file can be. Raises CourseError."""
    if path.is_dir():
        raise CourseError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise CourseError(f"there is no folder {path.parent}; make it, or name a file in another one")


def _near(path: Path) -> str:
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)
