"""What the course consists of: reads ``course.toml``, ``graders/<unit>/exercises.toml`` and a release's ``unit.json``.

Whatever is wrong in one of these files is told in one sentence that names the file and the line.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from proctor.tables import (
    CourseError,
    Dotted,
    File,
    Name,
    Text,
    build,
    closest,
    read_text,
    read_toml,
    unknown,
)

__all__ = [
    "Course",
    "CourseError",
    "Exercise",
    "Mistake",
    "ReleasedExercise",
    "ReleasedUnit",
    "Unit",
    "find_course",
    "read_course",
    "read_release",
    "write_release",
]

SCHEMA = 1
Minutes = Annotated[int, Meta(ge=0)]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A mistake people make, as an edit of the right answer, and the check that must catch it with these words."""

    name: Text
    replace: Text
    with_: str  # `with` in the file, a keyword here
    caught_by: Text
    says: Text

    def applied_to(self, answer: str) -> str:
        """The answer with the mistake in it. Raises CourseError where the text to replace does not occur."""
        if self.replace not in answer:
            raise CourseError(
                f"the mistake {self.name!r} replaces {self.replace!r}, which is not in the answer"
            )
        return answer.replace(self.replace, self.with_)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """One exercise as its author describes it; ``hints`` are the three rungs of its ladder."""

    name: Name
    title: Text
    difficulty: Annotated[int, Meta(ge=1, le=3)]
    minutes: Minutes
    hints: tuple[Text, Text, Text]
    forbidden: tuple[Dotted, ...] = ()
    allowed: str = ""
    mistakes: tuple[Mistake, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One unit of the manifest; ``preload`` names modules that a sandbox imports before it forks."""

    name: Name
    title: Text
    part: Text
    notebook: Name
    lesson_minutes: Minutes
    exercise_minutes: Minutes
    preload: tuple[Dotted, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedExercise:
    """What a learner may know of an exercise: no mistakes, since these hold the answer."""

    name: Name
    title: Text
    difficulty: Annotated[int, Meta(ge=1, le=3)]
    minutes: Minutes
    points: Annotated[float, Meta(ge=0)]
    hints: tuple[str, ...]
    forbidden: tuple[Dotted, ...] = ()
    allowed: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedUnit:
    """A released folder's ``checks/unit.json``."""

    unit: Name
    title: Text
    notebook: Name
    exercises: tuple[ReleasedExercise, ...] = ()

    def exercise(self, name: str) -> ReleasedExercise:
        """The exercise of that name. Raises CourseError that names the closest one and all there are."""
        for exercise in self.exercises:
            if exercise.name == name:
                return exercise
        raise unknown(f"unit {self.unit} has no exercise", name, [e.name for e in self.exercises])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The course: its root folder and its manifest. A unit may be given as itself or by its name."""

    root: Path
    title: str
    parts: tuple[str, ...]
    units: tuple[Unit, ...]

    def unit(self, name: str) -> Unit:
        """The unit of that name, or the only one whose name begins so (``08``). Raises CourseError."""
        exact = [unit for unit in self.units if unit.name == name]
        begins = exact or [unit for unit in self.units if name and unit.name.startswith(name)]
        if len(begins) > 1:
            names = ", ".join(unit.name for unit in begins)
            raise CourseError(f"{name!r} could be any of these units: {names}; write more of the name")
        if not begins:
            raise unknown("there is no unit", name, [unit.name for unit in self.units])
        return begins[0]

    def solution(self, unit: Unit | str) -> Path:
        """The author's notebook, with the answers in it."""
        return self._notebook("solutions", unit)

    def release(self, unit: Unit | str) -> Path:
        """The notebook that learners get."""
        return self._notebook("exercises", unit)

    def work(self, unit: Unit | str) -> Path:
        """The learner's own copy."""
        return self._notebook("my-work", unit)

    def graders(self, unit: Unit | str) -> Path:
        """The folder of the unit's checks."""
        return self.root / "graders" / self._unit(unit).name

    def lesson(self, unit: Unit | str) -> Path:
        """The notebook to read."""
        return self.root / "lessons" / f"{self._unit(unit).name}.ipynb"

    def exercises(self, unit: Unit | str) -> dict[str, Exercise]:
        """The unit's exercises by name, in the file's order. Raises CourseError."""
        path = self.graders(unit) / "exercises.toml"
        file = read_toml(path, path.relative_to(self.root).as_posix())
        if not file.data:
            raise CourseError(
                f"{file.shown} lists no exercise; write a table for each, such as [causal_mask]"
            )
        return {
            name: build(file, Exercise, table, (name,), given={"name": name}, nested={"mistakes": Mistake})
            for name, table in file.data.items()
        }

    def _unit(self, unit: Unit | str) -> Unit:
        return self.unit(unit) if isinstance(unit, str) else unit

    def _notebook(self, room: str, unit: Unit | str) -> Path:
        unit = self._unit(unit)
        return self.root / room / unit.name / f"{unit.notebook}.ipynb"


def find_course(start: Path | None = None) -> Course:
    """The course that a folder (the current one, if none is given) lies in. Raises CourseError."""
    try:
        folder = (start or Path.cwd()).resolve()
    except OSError as error:
        raise CourseError(
            "the current folder does not exist any more; change to the course's folder"
        ) from error
    for root in (folder, *folder.parents):
        if (root / "course.toml").is_file():
            return read_course(root)
    raise CourseError(f"{folder} is not in a course; change to the folder with course.toml, or one inside it")


def read_course(root: Path) -> Course:
    """The course whose ``course.toml`` lies in this folder. Raises CourseError."""
    file = read_toml(root / "course.toml", "course.toml")
    manifest = build(file, _Manifest, file.data, (), nested={"units": Unit})
    if not manifest.units:
        raise CourseError("course.toml lists no unit; write a [[units]] table for each")
    seen: dict[str, int] = {}
    for index, unit in enumerate(manifest.units):
        if unit.name in seen:
            says = f"is {unit.name!r}, which units[{seen[unit.name]}] is called already"
            raise file.error(("units", index, "name"), says)
        if unit.part not in manifest.parts:
            says = f"is {unit.part!r}, which is not among parts" + closest(unit.part, manifest.parts)
            raise file.error(("units", index, "part"), says)
        seen[unit.name] = index
    return Course(root=root, title=manifest.title, parts=manifest.parts, units=manifest.units)


def write_release(course: Course, unit: Unit | str, points: dict[str, float]) -> bytes:
    """The text of a release's ``unit.json``; ``points`` are those of its checks, by exercise. Raises CourseError."""
    unit = course.unit(unit) if isinstance(unit, str) else unit
    exercises = course.exercises(unit)
    shown = f"graders/{unit.name}"
    for name in [name for name in exercises if name not in points]:
        raise CourseError(f"{shown}: exercise `{name}` has no check that gives points; write one")
    for name in [name for name in points if name not in exercises]:
        raise CourseError(f"{shown}: there are checks of `{name}`, which exercises.toml does not list")
    fields = [field.name for field in dataclasses.fields(ReleasedExercise) if field.name != "points"]
    rows = [
        {field: getattr(exercise, field) for field in fields} | {"points": float(points[name])}
        for name, exercise in exercises.items()
    ]
    data = {
        "schema": SCHEMA,
        "unit": unit.name,
        "title": unit.title,
        "notebook": unit.notebook,
        "exercises": rows,
    }
    return msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n"


def read_release(folder: Path) -> ReleasedUnit:
    """What ``checks/unit.json`` of a released folder says. Raises CourseError."""
    shown, again = "checks/unit.json", "fetch the exercise again, for instance with `proctor start`"
    if not (folder / "checks").is_dir():
        raise CourseError(f"{folder} holds no exercise: there is no folder `checks` in it; {again}")
    text = read_text(folder / "checks" / "unit.json", shown)
    try:
        data = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise CourseError(f"{shown} is not JSON ({error}); {again}") from error
    if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
        raise CourseError(f"{shown} is not of schema {SCHEMA}, which this proctor reads; {again}")
    return build(File(shown, data, {}), ReleasedUnit, data, (), nested={"exercises": ReleasedExercise})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Manifest:
    title: Text
    parts: tuple[Text, ...]
    units: tuple[Unit, ...] = ()
