from __future__ import annotations

import copy
import errno
import json
import random
import time
import warnings
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from proctor.notebook import Cell, NotebookError, as_cell, read_untrusted
from proctor.rebuild import Rebuilt, answer_cells, check_cells, rebuild, repair

NAMES = ["attention_scores", "causal_mask", "Attention"]
STUBS = {
    "attention_scores": "def attention_scores(q, k):\n    raise NotImplementedError",
    "causal_mask": "def causal_mask(n):\n    raise NotImplementedError",
    "Attention": "class Attention:\n    def forward(self, x):\n        raise NotImplementedError",
}
ANSWERS = {
    "attention_scores": "def attention_scores(q, k):\n    return q @ k.T",
    "causal_mask": "def causal_mask(n):\n    mask = n\n    return mask",
    "Attention": "class Attention:\n    def forward(self, x):\n        return x",
}
SETUP = "import torch\nfrom proctor import check"


def mark(
    grade_id: str, *, grade: bool = False, solution: bool = False, points: int | None = None
) -> dict[str, Any]:
    data = {
        "grade": grade,
        "grade_id": grade_id,
        "locked": not solution,
        "schema_version": 3,
        "solution": solution,
    }
    return {"nbgrader": {**data, "task": False} | ({} if points is None else {"points": points})}


def make_release() -> NotebookNode:
    cells = [
        new_markdown_cell("# Attention", id="title"),
        new_code_cell(SETUP, metadata=mark("setup"), id="setup"),
    ]
    for name in NAMES:
        cells += [
            new_markdown_cell(f"## {name}\n\nWrite it.", id=f"text-{name}"),
            new_code_cell(STUBS[name], metadata=mark(name, solution=True), id=f"id-{name}"),
            new_code_cell(
                f'check("{name}")', metadata=mark(f"check-{name}", grade=True, points=2), id=f"check-{name}"
            ),
        ]
    cells.append(new_markdown_cell("Say why.", metadata=mark("why", solution=True), id="why"))
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


RELEASE = make_release()


def cells_of(notebook: NotebookNode) -> list[Cell]:
    found = [as_cell(json.loads(json.dumps(cell))) for cell in notebook.cells]
    assert None not in found
    return [cell for cell in found if cell]


def submission(**answers: str) -> list[Cell]:
    """The release with answers in it, as the learner hands it in."""
    notebook = copy.deepcopy(RELEASE)
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = (ANSWERS | answers).get(name, cell.source)
    return cells_of(notebook)


def at(cells: list[Cell], grade_id: str) -> int:
    return next(i for i, cell in enumerate(cells) if cell.grade_id == grade_id)


def bare(cell: Cell, **changes: Any) -> Cell:
    """A cell that has lost its metadata and its id."""
    return Cell(**{"kind": cell.kind, "source": cell.source} | changes)


def code(source: str, grade_id: str | None = None) -> Cell:
    return Cell(kind="code", source=source, grade_id=grade_id)


def sources(rebuilt: Rebuilt) -> list[str]:
    return [cell.source for cell in rebuilt.notebook.cells]


def assert_is_release(rebuilt: Rebuilt) -> None:
    """Every cell of the release is there, once, in order and unchanged; only an answer's source may differ."""
    notebook = rebuilt.notebook
    nbformat.validate(notebook)
    own = {cell.id: cell for cell in RELEASE.cells}
    cells = [cell for cell in notebook.cells if cell.id in own]
    assert [cell.id for cell in cells] == list(own)
    for cell in cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            assert {**cell, "source": ""} == {**own[cell.id], "source": ""}
        else:
            assert cell == own[cell.id]
    for cell in notebook.cells:
        if cell.id not in own:
            assert cell.metadata == {}
            assert cell.cell_type in ("code", "markdown")
    assert notebook.metadata == RELEASE.metadata


def build(cells: list[Cell]) -> Rebuilt:
    """Rebuild, and hold what must be true of every rebuilt notebook."""
    rebuilt = rebuild(RELEASE, cells, unit="08_attention")
    assert_is_release(rebuilt)
    again = rebuild(RELEASE, cells_of(rebuilt.notebook))
    assert again.notebook == rebuilt.notebook
    assert again.answers == rebuilt.answers
    for note in rebuilt.notes:
        assert note.endswith(".")
    return rebuilt


def runs(rebuilt: Rebuilt) -> dict[str, Any]:
    """The names after the notebook's code has run, checks aside."""
    names: dict[str, Any] = {}
    for cell in rebuilt.notebook.cells:
        if cell.cell_type == "code" and cell.source != SETUP and "check(" not in cell.source:
            exec(cell.source, names)
    return names


def test_the_release_tells_its_answers_and_its_checks() -> None:
    assert answer_cells(RELEASE) == {name: {name} for name in NAMES} | {"why": frozenset()}
    assert check_cells(RELEASE) == {f"check-{name}": 2 for name in NAMES}


def test_an_undamaged_notebook_comes_out_with_its_answers_and_without_notes() -> None:
    rebuilt = build(submission(why="Because."))
    assert rebuilt.answers == ANSWERS | {"why": "Because."}
    assert rebuilt.notes == ()


def test_untouched_stubs_stay_stubs_without_notes() -> None:
    rebuilt = build(cells_of(RELEASE))
    assert rebuilt.notebook == RELEASE
    assert rebuilt.answers == STUBS | {"why": "Say why."}
    assert rebuilt.notes == ()


def test_the_release_itself_is_not_changed() -> None:
    build(submission())
    assert make_release() == RELEASE


def test_extra_cells_stay_where_they_were() -> None:
    cells = submission()
    cells.insert(at(cells, "causal_mask"), code("helper = 1"))
    cells.insert(at(cells, "check-causal_mask"), code("plot()"))
    cells.insert(0, code("%pip install x"))
    cells.append(Cell(kind="markdown", source="my notes"))
    rebuilt = build(cells)
    assert sources(rebuilt) == [cell.source for cell in cells]
    assert rebuilt.notes == ()
    assert [cell.id for cell in rebuilt.notebook.cells if cell.id.startswith("extra")] == [
        "extra-1", "extra-2", "extra-3", "extra-4",
    ]  # fmt: skip


def test_blank_cells_are_left_out_and_raw_ones_come_out_as_prose() -> None:
    cells = [*submission(), code("  \n"), Cell(kind="raw", source="<script>")]
    assert build(cells).notebook.cells[-1].cell_type == "markdown"
    assert len(build(cells).notebook.cells) == len(RELEASE.cells) + 1


def test_an_id_of_the_release_is_not_given_to_an_extra_cell() -> None:
    release = make_release()
    release.cells[0].id = "extra-1"
    rebuilt = rebuild(release, [*submission(), code("x = 1")])
    assert [cell.id for cell in rebuilt.notebook.cells].count("extra-1") == 1
    assert rebuilt.notebook.cells[-1].id == "extra-2"


def test_a_release_of_an_older_minor_version_gets_cells_without_ids() -> None:
    release = make_release()
    release.nbformat_minor = 4
    for cell in release.cells:
        del cell["id"]
    rebuilt = rebuild(release, [*submission(), code("x = 1")])
    assert all("id" not in cell for cell in rebuilt.notebook.cells)
    nbformat.validate(rebuilt.notebook)


# Forged cells.


@pytest.mark.parametrize("name", ["setup", "check-causal_mask"])
@pytest.mark.parametrize("kind", ["code", "markdown", "raw"])
def test_a_locked_cell_is_always_the_releases(name: str, kind: str) -> None:
    cells = submission()
    cells[at(cells, name)] = Cell(kind=kind, source="check = lambda name: 1000.0", grade_id=name)
    rebuilt = build(cells)
    assert "1000" not in "".join(sources(rebuilt))
    assert rebuilt.notes == (f"Locked cells (`{name}`) had been changed; the release's own were put back.",)


def test_a_deleted_check_is_put_back() -> None:
    cells = [cell for cell in submission() if not (cell.grade_id or "").startswith("check-")]
    rebuilt = build(cells)
    assert rebuilt.answers["causal_mask"] == ANSWERS["causal_mask"]
    (note,) = rebuilt.notes
    assert "`check-attention_scores`, `check-causal_mask`, `check-Attention`) were missing" in note


def test_a_renamed_check_is_put_back_and_its_copy_ignored() -> None:
    cells = submission()
    i = at(cells, "check-causal_mask")
    cells[i] = code(cells[i].source, "check-other")
    rebuilt = build(cells)
    assert sources(rebuilt) == [cell.source for cell in cells]
    assert "had lost their metadata" in rebuilt.notes[0]


def test_duplicated_checks_come_out_once() -> None:
    cells = submission()
    i = at(cells, "check-causal_mask")
    cells += [cells[i], bare(cells[i]), cells[i]]
    assert build(cells).notes == ()
    assert sources(build(cells)).count('check("causal_mask")') == 1


def test_an_answer_that_claims_to_be_a_check_earns_no_place_there() -> None:
    cells = submission()
    cells[at(cells, "check-causal_mask")] = code("float('nan')", "check-causal_mask")
    cells.insert(0, code('check("causal_mask")\n', "causal_mask"))
    assert build(cells).answers == ANSWERS | {"why": "Say why."}


def test_learner_code_that_ends_in_a_check_of_its_own_is_no_check_cell() -> None:
    rebuilt = build([*submission(), code('def check(name):\n    return 9.0\ncheck("causal_mask")')])
    assert rebuilt.notebook.cells[-1].metadata == {}


# Accidents.


@pytest.mark.parametrize("name", NAMES)
def test_lost_metadata_is_mended_by_the_name(name: str) -> None:
    cells = submission()
    i = at(cells, name)
    cells[i] = bare(cells[i])
    rebuilt = build(cells)
    assert rebuilt.answers[name] == ANSWERS[name]
    assert sources(rebuilt) == [cell.source for cell in cells]
    assert rebuilt.notes == (
        f"The cell of `{name}` had lost its metadata; it was found by the name it defines.",
    )


def test_all_metadata_lost_loses_no_answer() -> None:
    cells = [bare(cell) for cell in submission()]
    rebuilt = build(cells)
    assert {name: rebuilt.answers[name] for name in NAMES} == ANSWERS
    assert sources(rebuilt) == [cell.source for cell in cells]


def test_an_answer_with_a_syntax_error_is_still_the_answer() -> None:
    broken = "def causal_mask(n:\n    return n"
    cells = submission(causal_mask=broken)
    cells[at(cells, "causal_mask")] = bare(cells[at(cells, "causal_mask")])
    assert build(cells).answers["causal_mask"] == broken


def test_an_answer_by_assignment_or_import_counts() -> None:
    for source in ("causal_mask = lambda n: n", "from helpers import causal_mask"):
        assert build(submission(causal_mask=source)).answers["causal_mask"] == source
        assert build(submission(causal_mask=source)).notes == ()


def test_prose_and_unnamed_answers_are_found_by_the_cells_id() -> None:
    cells = submission(why="Because.", causal_mask="causal_mas = 1")
    for name, cell_id in (("why", "why"), ("causal_mask", "id-causal_mask")):
        i = at(cells, name)
        cells[i] = bare(cells[i], cell_id=cell_id)
    rebuilt = build(cells)
    assert rebuilt.answers["why"] == "Because."
    assert rebuilt.answers["causal_mask"] == "causal_mas = 1"
    assert "The cell of `why` had lost its metadata; it was found by its cell id." in rebuilt.notes


def test_of_several_cells_of_one_id_the_last_that_defines_the_name_is_taken() -> None:
    cells = submission(causal_mask="def causal_mask(n):\n    return 1")
    i = at(cells, "causal_mask")
    cells[i + 1 : i + 1] = [
        code(ANSWERS["causal_mask"], "causal_mask"),
        code("causal_mask(3)", "causal_mask"),
    ]
    rebuilt = build(cells)
    assert rebuilt.answers["causal_mask"] == ANSWERS["causal_mask"]
    assert rebuilt.notes == ("3 cells claim to be `causal_mask`; the last one that defines it was taken.",)
    assert sources(rebuilt) == [cell.source for cell in cells]
    assert runs(rebuilt)["causal_mask"](7) == 7


def test_a_copied_answer_runs_once() -> None:
    cells = submission()
    i = at(cells, "causal_mask")
    cells.insert(i, cells[i])
    cells.append(bare(cells[i]))
    rebuilt = build(cells)
    assert sources(rebuilt).count(ANSWERS["causal_mask"]) == 1
    assert rebuilt.notes == ()


@pytest.mark.parametrize("place", ["before", "after"])
def test_an_untouched_copy_of_the_stub_does_not_win(place: str) -> None:
    cells = submission()
    i = at(cells, "causal_mask")
    cells.insert(i if place == "before" else i + 1, code(STUBS["causal_mask"], "causal_mask"))
    rebuilt = build(cells)
    assert rebuilt.answers["causal_mask"] == ANSWERS["causal_mask"]
    assert STUBS["causal_mask"] not in sources(rebuilt)


def test_an_answer_written_beside_its_untouched_stub_is_found() -> None:
    cells = submission(causal_mask=STUBS["causal_mask"])
    cells.insert(at(cells, "causal_mask"), code(ANSWERS["causal_mask"]))
    rebuilt = build(cells)
    assert rebuilt.answers["causal_mask"] == ANSWERS["causal_mask"]
    assert runs(rebuilt)["causal_mask"](3) == 3


def test_merged_answers_run_once_and_both_are_found() -> None:
    cells = submission()
    i = at(cells, "attention_scores")
    j = at(cells, "causal_mask")
    both = f"{cells[i].source}\n\n{cells[j].source}"
    cells[i] = code(both, "attention_scores")
    del cells[j]
    rebuilt = build(cells)
    assert rebuilt.answers["attention_scores"] == rebuilt.answers["causal_mask"] == both
    assert rebuilt.notes == (
        "The answer to `causal_mask` was found in the cell of `attention_scores`; the two had been merged.",
    )
    assert "".join(sources(rebuilt)).count("def causal_mask") == 1
    assert runs(rebuilt)["causal_mask"](3) == 3


def test_an_answer_merged_with_a_locked_cell_is_found() -> None:
    cells = submission()
    i, j = at(cells, "causal_mask"), at(cells, "setup")
    cells[j] = code(f"{SETUP}\n{cells[i].source}", "setup")
    del cells[i]
    rebuilt = build(cells)
    assert "def causal_mask" in rebuilt.answers["causal_mask"]
    cells = submission()
    i = at(cells, "causal_mask")
    cells[i : i + 2] = [code(f"{cells[i].source}\n{cells[i + 1].source}", "causal_mask")]
    rebuilt = build(cells)
    assert rebuilt.answers["causal_mask"] == f'{ANSWERS["causal_mask"]}\ncheck("causal_mask")'
    assert rebuilt.notes == ("Locked cells (`check-causal_mask`) were missing; they were put back.",)


def test_everything_merged_into_one_cell_is_found() -> None:
    whole = "\n\n".join(cell.source for cell in submission() if cell.kind == "code")
    rebuilt = build([code(whole)])
    assert all(rebuilt.answers[name] == whole for name in NAMES)
    assert "".join(sources(rebuilt)).count("def attention_scores") == 1


@pytest.mark.parametrize("second_claims", [True, False])
@pytest.mark.parametrize("name", ["causal_mask", "Attention"])
def test_an_answer_cut_in_two_is_joined(name: str, second_claims: bool) -> None:
    cells = submission()
    i = at(cells, name)
    head, _, tail = ANSWERS[name].rpartition("\n")
    cells[i : i + 1] = [code(head, name), code(tail, name if second_claims else None)]
    rebuilt = build(cells)
    assert rebuilt.answers[name] == ANSWERS[name]
    assert rebuilt.notes == ("A cell had been split in the middle of an answer; its parts were joined.",)


@pytest.mark.parametrize("claims", [(True, True), (True, False), (False, True), (False, False)])
def test_the_parts_of_a_split_cell_run_in_order(claims: tuple[bool, bool]) -> None:
    parts = [
        "base = 5\ndef helper(n, extra=1):\n    return n",
        "def causal_mask(n, start=helper(base)):\n    return start",
    ]
    cells = submission()
    i = at(cells, "causal_mask")
    cells[i : i + 1] = [
        code(part, "causal_mask" if claim else None) for part, claim in zip(parts, claims, strict=True)
    ]
    rebuilt = build(cells)
    assert rebuilt.answers["causal_mask"] == parts[1]
    assert sources(rebuilt) == [cell.source for cell in cells]
    assert runs(rebuilt)["causal_mask"](0) == 5


@pytest.mark.parametrize("kind", ["markdown", "raw"])
@pytest.mark.parametrize("claims", [True, False])
def test_an_answer_turned_into_text_is_code_again(kind: str, claims: bool) -> None:
    cells = submission()
    i = at(cells, "causal_mask")
    cells[i] = Cell(kind=kind, source=cells[i].source, grade_id="causal_mask" if claims else None)
    rebuilt = build(cells)
    assert rebuilt.answers["causal_mask"] == ANSWERS["causal_mask"]
    assert "The cell of `causal_mask` had been turned into another kind; it was turned back." in rebuilt.notes


def test_prose_that_quotes_code_is_no_answer() -> None:
    cells = submission()
    del cells[at(cells, "causal_mask")]
    cells.append(Cell(kind="markdown", source="I would write\n```\ndef causal_mask(n): pass\n```"))
    rebuilt = build(cells)
    assert rebuilt.answers["causal_mask"] == STUBS["causal_mask"]
    assert rebuilt.notes == ("The cell of `causal_mask` is missing; the untouched stub stands in its place.",)


def test_an_emptied_answer_is_the_stub() -> None:
    rebuilt = build(submission(causal_mask=" \n"))
    assert rebuilt.answers["causal_mask"] == STUBS["causal_mask"]
    assert rebuilt.notes == ("The cell of `causal_mask` is empty; the untouched stub stands in its place.",)


def test_ids_that_have_been_swapped_do_not_mislead() -> None:
    cells = submission()
    i, j = at(cells, "causal_mask"), at(cells, "attention_scores")
    cells[i], cells[j] = code(cells[i].source, "attention_scores"), code(cells[j].source, "causal_mask")
    rebuilt = build(cells)
    assert {name: rebuilt.answers[name] for name in NAMES} == ANSWERS


def test_moved_answers_go_back_and_their_helpers_go_before_them() -> None:
    cells = submission(attention_scores="@wrapped\ndef attention_scores(q, k):\n    return q")
    i = at(cells, "attention_scores")
    moved = cells.pop(i)
    cells += [code("shown = causal_mask(3)"), code("def wrapped(f):\n    return lambda *_: 'wrapped'"), moved]
    rebuilt = build(cells)
    names = runs(rebuilt)
    assert names["attention_scores"](1, 2) == "wrapped"
    assert names["shown"] == 3


def test_an_extra_cell_after_a_moved_check_still_runs_before_the_answer_it_stood_above() -> None:
    cells = submission(causal_mask="def causal_mask(n, size=base):\n    return size")
    check = cells.pop(at(cells, "check-Attention"))
    i = at(cells, "causal_mask")
    cells[i:i] = [check, code("base = max(3, 4)"), code("base += 1")]
    assert runs(build(cells))["causal_mask"](0) == 5


def test_moved_prose_does_not_reorder_code() -> None:
    cells = submission()
    title, *rest = cells
    i = at(rest, "causal_mask")
    rest[i:i] = [code("a = 1"), title, code("b = a")]
    rebuilt = build(rest)
    assert runs(rebuilt)["b"] == 1


def test_edited_prose_is_kept_beside_the_releases() -> None:
    cells = submission()
    cells[0] = Cell(kind="markdown", source="# Attention\n\nmine", cell_id="title")
    texts = sources(build(cells))
    assert "# Attention" in texts
    assert "# Attention\n\nmine" in texts


def test_cells_of_the_release_with_one_text_are_matched_in_order() -> None:
    release = make_release()
    release.cells[1:1] = [new_markdown_cell("---", id="rule-1"), new_markdown_cell("", id="blank")]
    release.cells.append(new_markdown_cell("---", id="rule-2"))
    cells = [*cells_of(release), code("x = 1")]
    rebuilt = rebuild(release, cells)
    assert sources(rebuilt) == [cell.source for cell in cells]


def test_a_name_that_two_answers_define_is_no_evidence() -> None:
    release = make_release()
    stub = "class Model:\n    pass"
    release.cells += [
        new_code_cell(stub + suffix, metadata=mark(f"step-{n}", solution=True), id=f"step-{n}")
        for n, suffix in enumerate(["", "  # more"])
    ]
    cells = [
        *submission(),
        code("class Model: first = 1", "step-0"),
        code("class Model: second = 2", "step-1"),
    ]
    rebuilt = rebuild(release, cells)
    assert rebuilt.answers["step-0"] == "class Model: first = 1"
    assert rebuilt.answers["step-1"] == "class Model: second = 2"


# Notebooks of something else.


def test_a_notebook_of_another_unit_is_refused() -> None:
    other = [
        code(SETUP, "setup"),
        code("def softmax(x):\n    return x", "softmax"),
        Cell(kind="markdown", source="Say why.", grade_id="explain", cell_id="why"),
        Cell(kind="code", source="x = 1", cell_id="id-causal_mask"),
    ]
    with pytest.raises(
        NotebookError, match=r"not of unit 08_attention: none .*\(`attention_scores`, `causal_mask`,"
    ):
        rebuild(RELEASE, other, unit="08_attention")


@pytest.mark.parametrize("cells", [[], [code(" \n")]])
def test_an_empty_notebook_is_refused(cells: list[Cell]) -> None:
    with pytest.raises(NotebookError, match="This notebook is empty"):
        rebuild(RELEASE, cells)


@pytest.mark.parametrize(
    "cell", [code("", "causal_mask"), code("x", "check-causal_mask"), code(STUBS["causal_mask"])]
)
def test_one_cell_of_the_unit_is_enough(cell: Cell) -> None:
    build([cell, code("y = 1")])


def test_a_unit_without_answers_takes_any_notebook() -> None:
    release = make_release()
    release.cells = release.cells[:2]
    assert sources(rebuild(release, [code("x = 1")]))[0] == "x = 1"


# Any damage.

HELPERS = ["helper = 1", "def helper(n):\n    return n", "print(causal_mask(3))"]
IDS = st.sampled_from([None, "setup", "why", *NAMES, *(f"check-{name}" for name in NAMES), "other"])


@settings(max_examples=100, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_no_answer_is_lost_however_cells_are_moved_copied_and_stripped(
    data: st.DataObject, seed: int
) -> None:
    cells = submission() + [code(source) for source in HELPERS]
    chaos = random.Random(seed)
    damage = data.draw(st.sets(st.sampled_from(["move", "copy", "strip", "swap", "retype", "delete"])))
    needed = set(ANSWERS.values())
    if "strip" in damage:
        cells = [bare(cell) if chaos.random() < 0.5 else cell for cell in cells]
    if "swap" in damage:
        ids = [cell.grade_id for cell in cells]
        chaos.shuffle(ids)
        cells = [Cell(kind=c.kind, source=c.source, grade_id=i) for c, i in zip(cells, ids, strict=True)]
    if "retype" in damage:
        cells = [bare(c, kind="markdown", grade_id=c.grade_id) if chaos.random() < 0.2 else c for c in cells]
    if "copy" in damage:
        cells += chaos.sample(cells, 5)
    if "delete" in damage:
        cells = [c for c in cells if c.source in needed or chaos.random() < 0.7]
    if "move" in damage:
        chaos.shuffle(cells)
    rebuilt = build(cells)
    assert {name: rebuilt.answers[name] for name in NAMES} == ANSWERS
    if not damage & {"retype", "swap"}:  # a helper that claims to be a locked cell is taken for one
        helpers = [c.source for c in cells if c.source in HELPERS]
        assert sorted(text for text in sources(rebuilt) if text in HELPERS) == sorted(helpers)


SOURCES = st.one_of(
    st.sampled_from([SETUP, "", "# Attention", *STUBS.values(), *ANSWERS.values(), *HELPERS]),
    st.sampled_from(
        [ANSWERS["causal_mask"] + "\n" + ANSWERS["Attention"], "    return 1", 'check("Attention")']
    ),
    st.text(max_size=20).filter(lambda text: text.isprintable()),
)
CELLS = st.builds(
    Cell,
    kind=st.sampled_from(["code", "markdown", "raw"]),
    source=SOURCES,
    grade_id=IDS,
    cell_id=st.sampled_from([None, "why", "setup", "id-causal_mask", "extra-1"]),
)


@settings(max_examples=150, deadline=None)
@given(cells=st.lists(CELLS, max_size=12))
def test_whatever_is_handed_in_the_release_comes_out(cells: list[Cell]) -> None:
    try:
        rebuilt = rebuild(RELEASE, cells)
    except NotebookError:
        return
    assert_is_release(rebuilt)
    if any(cell.source.startswith(" ") for cell in cells):
        return  # the rest of a split cell may have come to stand beside its first part, and is joined next time
    again = rebuild(RELEASE, cells_of(rebuilt.notebook))
    assert again.notebook == rebuilt.notebook


@settings(max_examples=60, deadline=None)
@given(kept=st.lists(st.integers(0, 20), unique=True), extra=st.lists(st.integers(0, 11), max_size=6))
def test_without_moves_all_code_keeps_the_learners_order(kept: list[int], extra: list[int]) -> None:
    cells = [cell for i, cell in enumerate(submission()) if i not in kept or cell.source in ANSWERS.values()]
    for n, place in enumerate(extra):
        cells.insert(min(place, len(cells)), code(f"x{n} = {n}"))
    mine = [c.source for c in cells if c.source in ANSWERS.values() or c.source.startswith("x")]
    rebuilt = build(cells)
    assert [s for s in sources(rebuilt) if s in ANSWERS.values() or s.startswith("x")] == mine


# Repair.


def saved(folder: Path, notebook: Any) -> Path:
    path = folder / "attention.ipynb"
    path.write_text(json.dumps(notebook))
    return path


def damaged() -> dict[str, Any]:
    notebook = json.loads(json.dumps(RELEASE))
    for cell in notebook["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        cell["source"] = ANSWERS.get(name, cell["source"])
        cell["metadata"] = {}
    return notebook


def test_a_repaired_notebook_is_as_the_release_and_the_damaged_one_is_kept(tmp_path: Path) -> None:
    path = saved(tmp_path, damaged())
    before = path.read_bytes()
    path.chmod(0o640)
    notes = repair(path, RELEASE, unit="08_attention")
    assert len(notes) == 4
    assert (tmp_path / "attention.damaged.ipynb").read_bytes() == before
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.metadata for cell in notebook.cells] == [cell.metadata for cell in RELEASE.cells]
    assert {name: rebuild(RELEASE, read_untrusted(path)).answers[name] for name in NAMES} == ANSWERS
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["attention.damaged.ipynb", "attention.ipynb"]


def test_an_older_kept_copy_is_never_overwritten(tmp_path: Path) -> None:
    for _ in range(3):
        repair(saved(tmp_path, damaged()), RELEASE)
    names = [
        "attention.damaged-2.ipynb",
        "attention.damaged-3.ipynb",
        "attention.damaged.ipynb",
        "attention.ipynb",
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_a_notebook_that_needs_nothing_is_left_alone(tmp_path: Path) -> None:
    notebook = json.loads(json.dumps(RELEASE))
    notebook["cells"] += [
        {"cell_type": "code", "source": "", "metadata": {"collapsed": True}, "outputs": [1]}
    ]
    notebook["cells"][0]["source"] = "# Attention, with a note of mine"
    path = saved(tmp_path, notebook)
    before = path.read_bytes()
    assert repair(path, RELEASE) == ()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["attention.ipynb"]


@pytest.mark.parametrize(
    "change", [{"points": 1000}, {"grade": False}, {"grade_id": "check-causal_mask", "locked": 1}]
)
def test_marks_that_were_changed_are_put_right(tmp_path: Path, change: dict[str, Any]) -> None:
    notebook = json.loads(json.dumps(RELEASE))
    notebook["cells"][4]["metadata"]["nbgrader"].update(change)
    path = saved(tmp_path, notebook)
    assert len(repair(path, RELEASE)) == 1
    assert nbformat.read(path, as_version=4) == RELEASE


def test_what_cannot_be_repaired_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "attention.ipynb"
    path.write_text("{")
    with pytest.raises(NotebookError, match="is not JSON"):
        repair(path, RELEASE)
    assert path.read_text() == "{"
    saved(tmp_path, damaged())
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(NotebookError, match="No space left on device; the notebook is as it was"):
        repair(path, RELEASE)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["attention.damaged.ipynb", "attention.ipynb"]


def test_a_learners_invalid_escape_raises_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(submission(causal_mask='def causal_mask(n):\n    return "\\d"'))


def test_two_hundred_cells_that_are_slow_to_parse_are_looked_through_quickly() -> None:
    slow = "def causal_mask(n): f'" + "{a}" * 3200 + "'"
    began = time.perf_counter()
    rebuilt = rebuild(RELEASE, [code(f"{slow}  # {n}") for n in range(200)])
    assert time.perf_counter() - began < 8  # a second or two, where nothing else runs
    assert rebuilt.answers["causal_mask"] == f"{slow}  # 199"
