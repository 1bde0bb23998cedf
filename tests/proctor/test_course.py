from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctor.course import (
    Course,
    CourseError,
    Mistake,
    find_course,
    read_course,
    read_release,
    write_release,
)
from proctor.tables import read_toml

COURSE = """\
title = "Transformers from scratch"
parts = ["Foundations", "Attention"]

[[units]]
name = "01_softmax"
title = "Softmax"
part = "Foundations"
notebook = "softmax"
lesson_minutes = 20
exercise_minutes = 40

[[units]]
name = "08_attention"
title = "Attention"
part = "Attention"      # a comment
notebook = "attention"
lesson_minutes = 35
exercise_minutes = 75
preload = ["torch.nn"]

[[units]]
name = "08b_masks"
title = "Masks"
part = "Attention"
notebook = "masks"
lesson_minutes = 5
exercise_minutes = 5
"""

EXERCISES = """\
[attention_scores]
title = "The scores"
difficulty = 1
minutes = 10
hints = ["Which sizes?", "A product of matrices.", "Transpose the keys."]

[causal_mask]
title = "No looking ahead"
difficulty = 2
minutes = 15
hints = [
    "Who may see whom?",
    "A triangle: rows = queries.",
    \"\"\"
[not_a_table]
minutes = 3
\"\"\",
]
forbidden = ["torch.triu", "torch.nn.functional.scaled_dot_product_attention"]
allowed = "Everything in torch but torch.triu."

[[causal_mask.mistakes]]
name = "the diagonal masked too"
replace = "diagonal=1"
with = "diagonal=0"
caught_by = "test_sees_itself"
says = "itself"

[[causal_mask.mistakes]]
name = "two lines"
replace = '''
a = 1
title = 2
'''
with = ""
caught_by = "test_sees_itself"
says = "itself"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "course.toml").write_text(COURSE)
    graders = tmp_path / "graders" / "08_attention"
    graders.mkdir(parents=True)
    (graders / "exercises.toml").write_text(EXERCISES)
    return tmp_path


@pytest.fixture
def course(root: Path) -> Course:
    return read_course(root)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def says(root: Path, old: str, new: str) -> str:
    """What is said of the manifest with one edit in it."""
    assert old in COURSE
    (root / "course.toml").write_text(COURSE.replace(old, new, 1))
    with pytest.raises(CourseError) as caught:
        read_course(root)
    return one_sentence(caught)


def says_of_exercises(root: Path, old: str, new: str) -> str:
    assert old in EXERCISES
    (root / "graders/08_attention/exercises.toml").write_text(EXERCISES.replace(old, new, 1))
    with pytest.raises(CourseError) as caught:
        read_course(root).exercises("08_attention")
    return one_sentence(caught)


def one_sentence(caught: pytest.ExceptionInfo[CourseError]) -> str:
    text = str(caught.value)
    assert "\n" not in text
    assert not text.endswith(".")
    return text


def test_the_courses_own_manifest_can_be_read() -> None:
    course = find_course(Path(__file__))
    assert course.units


def test_every_room_has_the_units_folder_name(course: Course, root: Path) -> None:
    unit = course.unit("08_attention")
    assert course.solution(unit) == root / "solutions/08_attention/attention.ipynb"
    assert course.release(unit) == root / "exercises/08_attention/attention.ipynb"
    assert course.work("08_attention") == root / "my-work/08_attention/attention.ipynb"
    assert course.graders(unit) == root / "graders/08_attention"
    assert course.lesson(unit) == root / "lessons/08_attention.ipynb"


def test_a_unit_is_found_by_its_name_or_a_unique_beginning(course: Course) -> None:
    assert course.unit("01").title == "Softmax"
    assert course.unit("08_attention") is course.unit("08_")
    assert course.unit("08_attention").preload == ("torch.nn",)


def test_a_beginning_that_several_units_share_lists_them(course: Course) -> None:
    with pytest.raises(CourseError, match=r"08_attention, 08b_masks.*more of the name"):
        course.unit("08")


@pytest.mark.parametrize("name", ["attention", "08_atention", "08_Attention"])
def test_an_unknown_unit_lists_what_there_is_and_the_closest(course: Course, name: str) -> None:
    with pytest.raises(CourseError, match=r"01_softmax, 08_attention.*did you mean 08_attention\?"):
        course.unit(name)


@pytest.mark.parametrize("name", ["", "../08_attention", "zzz"])
def test_a_name_like_no_units_is_an_error_too(course: Course, name: str) -> None:
    with pytest.raises(CourseError, match="there is no unit"):
        course.unit(name)


def test_the_course_is_found_from_any_folder_in_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "graders" / "08_attention")
    assert find_course().root == root.resolve()
    assert find_course(root).title == "Transformers from scratch"


def test_outside_a_course_the_error_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match=r"is not in a course; change to"):
        find_course(tmp_path)


def test_exercises_come_in_the_files_order_with_their_mistakes(course: Course) -> None:
    exercises = course.exercises("08_attention")
    assert list(exercises) == ["attention_scores", "causal_mask"]
    mask = exercises["causal_mask"]
    assert (mask.name, mask.difficulty, mask.minutes, len(mask.hints)) == ("causal_mask", 2, 15, 3)
    assert mask.forbidden[0] == "torch.triu"
    assert [mistake.name for mistake in mask.mistakes] == ["the diagonal masked too", "two lines"]
    assert mask.mistakes[1].replace == "a = 1\ntitle = 2\n"
    assert exercises["attention_scores"].mistakes == ()


def test_a_mistake_edits_every_place_and_must_find_one() -> None:
    mistake = Mistake(name="m", replace="-1", with_="-2", caught_by="test_a", says="over")
    assert mistake.applied_to("f(-1) + g(-1)") == "f(-2) + g(-2)"
    with pytest.raises(CourseError, match="not in the answer"):
        mistake.applied_to("f(0)")


@pytest.mark.parametrize(
    ("old", "new", "line_at", "expected"),
    [
        ("exercise_minutes = 75", 'exercise_minutes = "75"', "exercise_minutes = 75",
         "units[1].exercise_minutes should be a whole number, not text"),
        ("exercise_minutes = 75", "exercise_minutes = true", "exercise_minutes = 75",
         "units[1].exercise_minutes should be a whole number, not true or false"),
        ("exercise_minutes = 75", "exercise_minutes = -1", "exercise_minutes = 75",
         "units[1].exercise_minutes should be at least 0"),
        ("exercise_minutes = 75", "exercise_minuets = 75", "exercise_minutes = 75",
         "units[1].exercise_minuets is not a known key; did you mean `exercise_minutes`?"),
        ('title = "Attention"\n', "", '[[units]]\nname = "08_attention"', "units[1].title is missing"),
        ('title = "Attention"', 'title = ""', 'title = "Attention"', "units[1].title should not be empty"),
        ('name = "08_attention"', 'name = "../08"', 'name = "08_attention"',
         "units[1].name should be letters, digits, `_` and `-` only"),
        ('name = "08_attention"', 'name = "01_softmax"', 'name = "08_attention"',
         "units[1].name is '01_softmax', which units[0] is called already"),
        ('part = "Attention"', 'part = "Atention"', 'part = "Attention"',
         "units[1].part is 'Atention', which is not among parts; did you mean `Attention`?"),
        ('["torch.nn"]', '["torch nn"]', "preload",
         "units[1].preload[0] should be a dotted name such as `torch.nn.functional`"),
        ('["torch.nn"]', '"torch.nn"', "preload", "units[1].preload should be a list, not text"),
        ("parts = [", "colour = 1\nparts = [", "parts = [", "colour is not a known key"),
        ("parts = [", "parts = [3, ", "parts = [", "parts[0] should be text, not a whole number"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_manifest_is_told_with_its_line(
    root: Path, old: str, new: str, line_at: str, expected: str
) -> None:
    assert says(root, old, new).startswith(f"course.toml, line {line_of(COURSE, line_at)}: {expected}")


@pytest.mark.parametrize(
    ("old", "new", "line_at", "expected"),
    [
        ("difficulty = 2", "difficulty = 4", "difficulty = 2", "causal_mask.difficulty should be at most 3"),
        ("difficulty = 2", "difficulty = 0", "difficulty = 2", "causal_mask.difficulty should be at least 1"),
        ("difficulty = 2", "difficulty = 2.5", "difficulty = 2",
         "causal_mask.difficulty should be a whole number, not a number"),
        ('"A product of matrices.", ', "", "hints", "attention_scores.hints should have exactly 3 entries, not 2"),
        ('"A product of matrices."', "1", "hints", "attention_scores.hints[1] should be text, not a whole number"),
        ("[causal_mask]\n", '[causal_mask]\nname = "x"\n', 'title = "No', "causal_mask.name is not a known key"),
        ("says = ", "say = ", "says = ",
         "causal_mask.mistakes[0].say is not a known key; did you mean `says`?"),
        ('with = "diagonal=0"', "with = 0", 'with = "d',
         "causal_mask.mistakes[0].with should be text, not a whole number"),
        ('with = ""\n', "", '[[causal_mask.mistakes]]\nname = "two', "causal_mask.mistakes[1].with is missing"),
        ("replace = '''\na = 1\ntitle = 2\n'''", 'replace = ""', "replace = '''",
         "causal_mask.mistakes[1].replace should not be empty"),
        ('"torch.triu"', '"torch.triu()"', "forbidden",
         "causal_mask.forbidden[0] should be a dotted name"),
        ('[attention_scores]\n', "stray = 1\n[attention_scores]\n", "[attention_scores]",
         "stray should be a table, not a whole number"),
        ("[causal_mask]", '["causal mask"]', "[causal_mask]", "causal mask.name should be letters"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_an_exercise_is_told_with_its_line(
    root: Path, old: str, new: str, line_at: str, expected: str
) -> None:
    if old == "[causal_mask]":  # its mistakes move along
        text = EXERCISES.replace("[causal_mask]", new).replace("[[causal_mask.", '[["causal mask".')
        (root / "graders/08_attention/exercises.toml").write_text(text)
        with pytest.raises(CourseError) as caught:
            read_course(root).exercises("08_attention")
        told = one_sentence(caught)
    else:
        told = says_of_exercises(root, old, new)
    line = line_of(EXERCISES, line_at)
    assert told.startswith(f"graders/08_attention/exercises.toml, line {line}: {expected}")


def test_a_syntax_error_is_told_with_its_line(root: Path) -> None:
    assert says(root, "lesson_minutes = 35", "lesson_minutes = ").startswith(
        "course.toml, line 17: this is not TOML"
    )
    (root / "course.toml").write_text('title = "a"\nparts = [\n')
    with pytest.raises(CourseError, match=r"course\.toml, line 2: this is not TOML"):
        read_course(root)


def test_text_that_is_not_utf8_is_told_with_its_line(root: Path) -> None:
    (root / "course.toml").write_bytes(b'title = "a"\n# \xff\n')
    with pytest.raises(CourseError, match=r"course\.toml, line 2: the text is not UTF-8"):
        read_course(root)


def test_a_byte_order_mark_is_no_harm(root: Path) -> None:
    (root / "course.toml").write_text(COURSE, encoding="utf-8-sig")
    assert len(read_course(root).units) == 3


def test_a_missing_file_is_told_with_its_place(root: Path, course: Course) -> None:
    with pytest.raises(CourseError, match=r"graders/01_softmax/exercises\.toml is missing; it should be at"):
        course.exercises("01")
    (root / "course.toml").unlink()
    (root / "course.toml").mkdir()
    with pytest.raises(CourseError, match="cannot be read"):
        read_course(root)


def test_a_unit_without_exercises_and_a_course_without_units_are_errors(root: Path, course: Course) -> None:
    (root / "graders/08_attention/exercises.toml").write_text("# none yet\n")
    with pytest.raises(CourseError, match="lists no exercise; write a table for each"):
        course.exercises("08_attention")
    (root / "course.toml").write_text('title = "a"\nparts = ["b"]\n')
    with pytest.raises(CourseError, match="lists no unit"):
        read_course(root)


def test_a_release_reads_back_as_it_was_written_and_holds_no_mistake(course: Course, tmp_path: Path) -> None:
    text = write_release(course, "08_attention", {"attention_scores": 2, "causal_mask": 3.5})
    assert b"diagonal" not in text
    assert text.startswith(b'{\n  "schema": 1,\n  "unit": "08_attention"')
    folder = tmp_path / "somewhere"
    (folder / "checks").mkdir(parents=True)
    (folder / "checks" / "unit.json").write_bytes(text)
    unit = read_release(folder)
    assert (unit.unit, unit.title, unit.notebook) == ("08_attention", "Attention", "attention")
    exercises = course.exercises("08_attention")
    for released in unit.exercises:
        written = exercises[released.name]
        for name in ("title", "difficulty", "minutes", "hints", "forbidden", "allowed"):
            assert getattr(released, name) == getattr(written, name)
    assert [exercise.points for exercise in unit.exercises] == [2.0, 3.5]
    assert unit.exercise("causal_mask").points == 3.5
    with pytest.raises(CourseError, match=r"no exercise 'casual_mask'.*did you mean causal_mask\?"):
        unit.exercise("casual_mask")


def test_a_release_needs_points_for_exactly_its_exercises(course: Course) -> None:
    with pytest.raises(CourseError, match="`causal_mask` has no check that gives points"):
        write_release(course, "08_attention", {"attention_scores": 2})
    with pytest.raises(CourseError, match="checks of `extra`, which"):
        write_release(course, "08_attention", {"attention_scores": 2, "causal_mask": 1, "extra": 1})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is not of schema 1"),
        (b'{"schema": 2}', "is not of schema 1"),
        (b'{"schema": 1}', "unit is missing"),
        (b'{"schema": 1, "unit": "u", "title": "t", "notebook": "n", "exercises": 3}', "exercises should be a list"),
        (b'{"schema": 1, "unit": "u", "title": "t", "notebook": "../n"}', "notebook should be letters"),
        (b'{"schema": 1, "exercises": [null]}', r"exercises\[0\] should be a table, not empty"),
        (b'{"schema": 1, "exercises": [{"mistakes": []}]}', r"exercises\[0\].mistakes is not a known key"),
        (b"\xff", "is not UTF-8"),
    ],
)  # fmt: skip
def test_a_malformed_release_is_told_in_a_sentence(tmp_path: Path, text: bytes, expected: str) -> None:
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "unit.json").write_bytes(text)
    with pytest.raises(CourseError, match=expected):
        read_release(tmp_path)


def test_a_folder_without_a_release_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="there is no folder `checks` in it"):
        read_release(tmp_path)
    (tmp_path / "checks").mkdir()
    with pytest.raises(CourseError, match=r"checks/unit\.json is missing"):
        read_release(tmp_path)


@given(data=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["schema", "unit", "title", "notebook", "exercises", "name", "hints", "x"]), inner, max_size=5
    ),
))  # fmt: skip
def test_any_json_is_a_release_or_a_course_error(
    tmp_path_factory: pytest.TempPathFactory, data: object
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    (folder / "checks").mkdir(parents=True, exist_ok=True)
    if isinstance(data, dict):
        data["schema"] = 1
    try:
        text = msgspec.json.encode(data)
    except OverflowError:
        return
    (folder / "checks" / "unit.json").write_bytes(text)
    try:
        read_release(folder)
    except CourseError as error:
        assert "unit.json" in str(error)  # noqa: PT017


def test_lines_are_those_of_the_keys_themselves(tmp_path: Path) -> None:
    text = 'a.b = 1\n"q r" = 2\n[[t]]\nx = """\nx = 1\n[t]\n"""\n[t.sub]\ny = 1\n'
    text += '[[t]]\nx = [\n  "z = 1",\n]\n[t.sub]\ny=2\n'
    (tmp_path / "f.toml").write_text(text)
    lines = read_toml(tmp_path / "f.toml", "f.toml").lines
    expected = {
        ("a", "b"): 1, ("q r",): 2, ("t",): 3, ("t", 0): 3, ("t", 0, "x"): 4, ("t", 0, "sub"): 8,
        ("t", 0, "sub", "y"): 9, ("t", 1): 10, ("t", 1, "x"): 11, ("t", 1, "sub"): 14, ("t", 1, "sub", "y"): 15,
    }  # fmt: skip
    assert lines == expected


def test_reading_the_course_imports_nothing_heavy() -> None:
    code = (
        "import sys, proctor.course; print(*({'torch', 'numpy', 'nbgrader', 'nbformat'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
