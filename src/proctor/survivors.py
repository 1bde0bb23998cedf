"""What became of mutants: killed, survived, or listed as equivalent in ``graders/UNIT/equivalents.toml``."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from proctor.course import Course, Unit
from proctor.mutants import Mutant
from proctor.tables import Text, build, closest, read_toml

KILLED, SURVIVED, BROKE = "killed", "survived", "broke a check"


class Ending(msgspec.Struct, frozen=True):
    """How a mutant, or the answer itself, ended: the check that it lost, and the seconds that it took."""

    how: str
    check: str = ""
    told: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalent:
    """A mutant that no check can or should kill, named by the line as it is and as it becomes."""

    line: Text
    becomes: str
    reason: Text

    def means(self, mutant: Mutant) -> bool:
        """Whether this is that mutant: spaces do not matter, nor where in the answer the line stands."""
        pairs = ((self.line, mutant.line), (self.becomes, mutant.becomes))
        return all(" ".join(mine.split()) == theirs for mine, theirs in pairs)


@dataclass(slots=True)
class Tried:
    """The mutants of one exercise and how they ended; ``excused`` survive and are listed as equivalent."""

    exercise: str
    endings: list[tuple[Mutant, Ending]]
    excused: list[Mutant] = field(default_factory=list)
    stale: list[tuple[Equivalent, str]] = field(default_factory=list)  # each with what became of it

    @property
    def killed(self) -> int:
        return sum(ending.how == KILLED for _, ending in self.endings)

    @property
    def counted(self) -> int:
        """All mutants but those that are listed as equivalent."""
        return len(self.endings) - len(self.excused)

    @property
    def left(self) -> list[tuple[Mutant, Ending]]:
        """What was not killed and is not excused."""
        return [(m, end) for m, end in self.endings if end.how != KILLED and m not in self.excused]


def score_of(tried: list[Tried]) -> float:
    """The share of mutants that were killed; 1 where there are none."""
    counted = sum(one.counted for one in tried)
    return sum(one.killed for one in tried) / counted if counted else 1.0


def equivalents_of(course: Course, unit: Unit) -> dict[str, list[Equivalent]]:
    """What ``graders/UNIT/equivalents.toml`` lists, by exercise; nothing where there is none. Raises CourseError."""
    path = course.graders(unit) / "equivalents.toml"
    if not path.exists():
        return {}
    file = read_toml(path, path.relative_to(course.root).as_posix())
    known = course.exercises(unit)
    for name, rows in file.data.items():
        if name not in known:
            raise file.error((name,), "is no exercise of the unit" + closest(name, known))
        if not isinstance(rows, list):
            raise file.error((name,), f"should be a list of tables: write [[{name}]] before each")
    return {
        name: [build(file, Equivalent, row, (name, i)) for i, row in enumerate(rows)]
        for name, rows in file.data.items()
    }


def excuse(tried: Tried, listed: list[Equivalent], source: str) -> Tried:
    """Take the survivors that are listed out of the count: one for each entry, in the order of the lines."""
    for equivalent in listed:
        meant = [(mutant, ending) for mutant, ending in tried.endings if equivalent.means(mutant)]
        alive = [m for m, ending in meant if ending.how == SURVIVED and m not in tried.excused]
        if alive:
            tried.excused.append(alive[0])
            continue
        if meant:
            killer = next((ending.check for _, ending in meant if ending.check), "")
            why = f"{killer} kills it" if killer else "another entry names it already"
        elif any(equivalent.line == " ".join(line.split()) for line in source.splitlines()):
            why = "the line is there, but no mutant of it becomes this"
        else:
            why = "the answer has no such line"
        tried.stale.append((equivalent, why))
    return tried
