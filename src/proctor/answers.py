"""Finds the answers in a submitted notebook, also where the notebook has been damaged.

An answer is found by the grade_id that a cell claims, or else by the names the cell defines. Claims are evidence
only: nothing here is taken over but the source of a cell.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Literal

from proctor.notebook import Cell, Names, NotebookError, names_of, syntax_tree

MOST_PARSED = 300_000  # characters of one submission: on hostile text Python's parser takes its time


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A cell of the release. ``keys`` are the names by which a code answer is known, where it has any."""

    index: int
    role: Literal["answer", "locked", "prose"]
    kind: str
    source: str
    grade_id: str = ""
    cell_id: str | None = None
    graded: bool = False
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where the answers are. ``cells`` are the submitted ones, split ones joined; all others are indices.

    ``chosen`` leads from a slot to the cell that holds its answer, ``host`` from such a cell to the slot it goes to,
    ``place`` from a cell that stands for one of the release's to its slot; ``extras`` are the learner's own cells.
    """

    cells: list[Cell]
    chosen: dict[int, int]
    host: dict[int, int]
    place: dict[int, int]
    extras: list[int]
    notes: list[str]


def slots_of(release: Any) -> list[Slot]:
    """The release's cells as what they are for."""
    slots = []
    for index, cell in enumerate(release["cells"]):
        mark = cell["metadata"].get("nbgrader", {})
        role = "answer" if mark.get("solution") else "locked" if mark else "prose"
        keys: frozenset[str] = frozenset()
        if role == "answer" and cell["cell_type"] == "code":
            names = names_of(cell["source"])
            own = frozenset({mark["grade_id"]})
            keys = own & (names.defined | names.assigned) or names.defined or names.assigned
        slot = Slot(
            index=index,
            role=role,
            kind=cell["cell_type"],
            source=cell["source"],
            grade_id=mark.get("grade_id", ""),
            cell_id=cell.get("id"),
            graded=bool(mark.get("grade")),
            keys=keys,
        )
        slots.append(slot)
    # A name that several answers define says nothing about which of them a cell is.
    often = Counter(key for slot in slots for key in slot.keys)
    return [replace(slot, keys=frozenset(key for key in slot.keys if often[key] == 1)) for slot in slots]


def answer_cells(release: Any) -> dict[str, frozenset[str]]:
    """The release's answer cells: all names that each one's stub makes, by grade_id."""
    answers = [slot for slot in slots_of(release) if slot.role == "answer"]
    made = {slot.grade_id: names_of(slot.source) if slot.kind == "code" else Names() for slot in answers}
    return {grade_id: names.defined | names.assigned for grade_id, names in made.items()}


def check_cells(release: Any) -> dict[str, float]:
    """The release's graded cells that hold no answer: the points of each, by grade_id."""
    marks = [cell["metadata"].get("nbgrader", {}) for cell in release["cells"]]
    return {m["grade_id"]: m.get("points", 0) for m in marks if m.get("grade") and not m.get("solution")}


def pointer(grade_id: str, host: str) -> str:
    """What stands in an answer cell whose answer is in another cell: the code must run only once."""
    return f"# The answer to `{grade_id}` is in the cell of `{host}`."


_POINTER = re.compile(r"# The answer to `[\w-]+` is in the cell of `[\w-]+`\.")


def find(slots: Sequence[Slot], submitted: Iterable[Cell], unit: str = "") -> Found:
    """Find every answer. Raises NotebookError where the notebook is empty, or plainly of another unit."""
    return _Search(slots, list(submitted)).run(f"unit {unit}" if unit else "this unit")


class _Search:
    def __init__(self, slots: Sequence[Slot], submitted: list[Cell]) -> None:
        self.answers = [slot for slot in slots if slot.role == "answer"]
        self.locked = [slot for slot in slots if slot.role == "locked"]
        self.by_id = {slot.grade_id: slot for slot in slots if slot.grade_id}
        self.keys = frozenset[str]().union(*(slot.keys for slot in self.answers))
        self.stubs = {slot.source.strip() for slot in self.answers}
        self.notes, self.parsed = list[str](), 0
        self.cells = self._joined(submitted)
        self.texts = [cell.source.strip() for cell in self.cells]
        self.names = [self._names(cell) for cell in self.cells]
        self.claims = [self._claim(i) for i in range(len(self.cells))]
        self.originals = self._originals([slot for slot in slots if slot.role != "answer"])
        self.ignored = {i for i, text in enumerate(self.texts) if not text or _POINTER.fullmatch(text)}
        for i, claim in enumerate(self.claims):
            if i in self.originals or (claim and claim.role == "locked"):
                self.ignored.add(i)

    def run(self, unit: str) -> Found:
        if not any(self.texts):
            raise NotebookError(f"This notebook is empty: there is nothing of {unit} in it to grade")
        chosen: dict[int, int] = {}
        for sure in (True, False):
            for slot in self.answers:
                taken = {self.texts[i] for i in chosen.values()} | self.stubs - {slot.source.strip()}
                if slot.index not in chosen and (i := self._pick(slot, sure, taken)) is not None:
                    chosen[slot.index] = i
        claimed = any(claim and (claim.graded or claim.role == "answer") for claim in self.claims)
        known = (self._is_known(slot, chosen[slot.index]) for slot in self.answers if slot.index in chosen)
        if self.answers and not claimed and not any(known):
            names = ", ".join(f"`{slot.grade_id}`" for slot in self.answers[:5])
            more = " and others" if len(self.answers) > 5 else ""
            raise NotebookError(
                f"This notebook is not of {unit}: none of its answer cells is in it ({names}{more})"
            )
        host: dict[int, int] = {}
        for slot in self.answers:
            i = chosen.get(slot.index)
            if i is not None and (i not in host or self.claims[i] is slot):
                host[i] = slot.index
        self._note_answers(chosen, host)
        self._note_locked()
        place, extras = self._sort(host)
        return Found(cells=self.cells, chosen=chosen, host=host, place=place, extras=extras, notes=self.notes)

    def _joined(self, cells: list[Cell]) -> list[Cell]:
        """The cells, with the indented rest of an answer that was cut in two joined to its first part."""
        joined: list[Cell] = []
        for cell in cells:
            first = next(filter(str.strip, cell.source.splitlines()), "")
            if joined and cell.kind == joined[-1].kind == "code" and first[:1] in (" ", "\t"):
                last = joined[-1]
                whole = f"{last.source}\n{cell.source}"
                claimed = self.by_id.get(last.grade_id or "")
                answers = (claimed and claimed.role == "answer") or self._names(last).defined
                answers = answers and last.source.strip() not in self.stubs
                if answers and syntax_tree(cell.source) is None and syntax_tree(whole) is not None:
                    joined[-1] = replace(last, source=whole, grade_id=last.grade_id or cell.grade_id)
                    self.notes.append(
                        "A cell had been split in the middle of an answer; its parts were joined."
                    )
                    continue
            joined.append(cell)
        return joined

    def _names(self, cell: Cell) -> Names:
        """The names that a cell makes, as far as they matter: what holds none of the keys is not parsed."""
        if not any(key in cell.source for key in self.keys):
            return Names()
        self.parsed += len(cell.source)
        parse = self.parsed <= MOST_PARSED
        claims = cell.kind == "code" or cell.grade_id in self.by_id
        if not claims and not (parse and syntax_tree(cell.source)):
            return Names()  # prose that quotes code
        names = names_of(cell.source, parse=parse)
        return Names(names.defined & self.keys, names.assigned & self.keys)

    def _claim(self, i: int) -> Slot | None:
        """The slot whose id a cell claims. A locked cell that was merged with an answer claims nothing."""
        slot = self.by_id.get(self.cells[i].grade_id or "")
        if slot and slot.role == "locked" and self.texts[i] != slot.source.strip():
            return None if any(self.names[i]) else slot
        return slot

    def _originals(self, slots: list[Slot]) -> dict[int, int]:
        """The cells that are the release's own, but for its answer cells, by their source and not by a claim."""
        waiting: dict[str, list[int]] = {}
        for slot in slots:
            waiting.setdefault(slot.source.strip(), []).append(slot.index)
        found = {}
        for i, text in enumerate(self.texts):
            claim = self.claims[i]
            if (claim is None or claim.source.strip() != text) and (indices := waiting.get(text)):
                found[i] = indices.pop(0) if len(indices) > 1 else indices[0]
        return found

    def _pick(self, slot: Slot, sure: bool, taken: set[str]) -> int | None:
        """The cell that holds an answer: the last of the best group there is, as the last one counts when run.

        What only claims to be the answer, and does not make its name, counts where no surer evidence speaks for
        this answer, and where its text is not another one's or its stub (``taken``).
        """
        stub = slot.source.strip()
        mine = [i for i, claim in enumerate(self.claims) if claim is slot and i not in self.ignored]
        other = [i for i in range(len(self.cells)) if i not in self.ignored and self.claims[i] is not slot]
        changed = {i for i, text in enumerate(self.texts) if text != stub}
        typed = {i for i, cell in enumerate(self.cells) if cell.kind == slot.kind}
        defines = {i for i, names in enumerate(self.names) if slot.keys & names.defined}
        makes = {i for i, names in enumerate(self.names) if slot.keys & names.assigned} | defines
        fits = makes if slot.keys else changed - {i for i, names in enumerate(self.names) if any(names)}
        groups = [
            [i for i in mine if i in fits & changed & typed],
            [i for i in other if i in defines & changed & typed],
            [i for i in mine if i in fits & changed],
            [i for i in other if i in defines & changed],
            [i for i in other if i in makes & changed & typed],
            [i for i in mine if i not in changed],
        ]
        if not sure:
            mine = [i for i in mine if self.texts[i] not in taken]
            other = [i for i in other if self.texts[i] not in taken]
            groups = [
                [i for i in mine if i in typed],
                mine,
                [i for i in other if i in typed and self._has_id(slot, i)],
                [i for i in other if i not in changed],
            ]
        group = next(filter(None, groups), [])
        copies = takewhile(lambda i: self.texts[i] == self.texts[group[-1]], reversed(group))
        return min(
            copies, default=None
        )  # a copy further down adds nothing, and the first one is in its place

    def _has_id(self, slot: Slot, i: int) -> bool:
        """Whether a cell that claims nothing has the id which the editor gave to the release's."""
        return self.claims[i] is None and slot.cell_id is not None and self.cells[i].cell_id == slot.cell_id

    def _is_known(self, slot: Slot, i: int) -> bool:
        """Whether a claim or the names it makes speak for a cell: its id and a text of prose may be anyone's."""
        return self.claims[i] is slot or bool(slot.keys & self.names[i].defined.union(self.names[i].assigned))

    def _note_answers(self, chosen: dict[int, int], host: dict[int, int]) -> None:
        homes = {slot.index: slot.grade_id for slot in self.answers}
        for slot in self.answers:
            name, i = f"`{slot.grade_id}`", chosen.get(slot.index)
            claimed = [j for j, claim in enumerate(self.claims) if claim is slot]
            if i is None:
                gone = "is empty" if claimed and not any(self.texts[j] for j in claimed) else "is missing"
                self.notes.append(f"The cell of {name} {gone}; the untouched stub stands in its place.")
            elif host[i] != slot.index:
                says = f"was found in the cell of `{homes[host[i]]}`; the two had been merged."
                self.notes.append(f"The answer to {name} {says}")
            elif self.texts[i] != slot.source.strip():
                if self.claims[i] is not slot:
                    how = "the name it defines" if self._is_known(slot, i) else "its cell id"
                    self.notes.append(f"The cell of {name} had lost its metadata; it was found by {how}.")
                elif len({self.texts[j] for j in claimed} - {""}) > 1:
                    says = f"{len(claimed)} cells claim to be {name}; the last one that defines it was taken."
                    self.notes.append(says)
                if self.cells[i].kind != slot.kind:
                    says = "had been turned into another kind; it was turned back."
                    self.notes.append(f"The cell of {name} {says}")

    def _note_locked(self) -> None:
        """Say what had become of the cells that nobody may change, in one sentence for each kind of damage."""
        changed, lost, missing = [], [], []
        whole = set(self.originals.values())
        for slot in self.locked:
            claimed = [i for i, claim in enumerate(self.claims) if claim is slot]
            own = (slot.kind, slot.source.strip())
            if own not in [(self.cells[i].kind, self.texts[i]) for i in claimed]:
                names = changed if claimed else lost if slot.index in whole else missing
                names.append(f"`{slot.grade_id}`")
        for names, says in (
            (changed, "had been changed; the release's own were put back."),
            (lost, "had lost their metadata; it was put back."),
            (missing, "were missing; they were put back."),
        ):
            if names:
                self.notes.append(f"Locked cells ({', '.join(names)}) {says}")

    def _sort(self, host: dict[int, int]) -> tuple[dict[int, int], list[int]]:
        """Tell the cells that stand for the release's from the learner's own."""
        copies = {slot.source.strip(): slot.index for slot in self.answers}
        copies |= {self.texts[i]: index for i, index in host.items()}  # a second copy need not run
        place, extras = dict(self.originals), []
        for i, text in enumerate(self.texts):
            if i in host:
                place[i] = host[i]
            elif (claim := self.claims[i]) and i in self.ignored:
                place[i] = claim.index
            elif i not in self.ignored and text in copies:
                place[i] = copies[text]
            elif i not in self.ignored:
                extras.append(i)
        return place, extras
