"""Mutants of answers: what each kind of change produces, how they are graded, excused, kept and told."""

from __future__ import annotations

import ast
import io
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import nbformat
import pytest
from rich.console import Console
from typer.testing import CliRunner

from minicourse import CHECKS, UNIT, make_course
from proctor import mutate as mutating
from proctor import verify as proofs
from proctor.cli import app
from proctor.course import Course, CourseError, read_course
from proctor.mutants import Mutant, Places, mutants_of
from proctor.mutate import mutate, show_score
from proctor.nbgrader.classroom import release_all
from proctor.sandbox import Sandbox
from proctor.spliced import Spliced, compiled
from proctor.survivors import BROKE, KILLED, SURVIVED, Equivalent, Tried, score_of

ROOT = Path(__file__).parents[2]


def changes(body: str, kind: str = "", *, within: str = "def f(a, b):\n    {}") -> set[str]:
    """What the mutated line of a function's body becomes, without `return `."""
    body = body.replace("\n", "\n    ")
    mutants = mutants_of(within.format(body), {"torch", "math"})
    return {m.becomes.removeprefix("return ") for m in mutants if not kind or m.kind == kind}


class TestOperators:
    @pytest.mark.parametrize(
        ("kind", "line", "becomes"),
        [
            ("comparison", "a < 0 + b", {"a <= 0 + b", "a > 0 + b"}),
            ("comparison", "a >= b", {"a > b", "a <= b"}),
            ("comparison", "(a) == (b)", {"(a) != (b)"}),
            ("comparison", "a is not None", {"a is None"}),
            ("comparison", "a not in b", {"a in b"}),
            ("comparison", "0 < a != b", {"0 <= a != b", "0 > a != b", "0 < a == b"}),
            ("operator", "a + b", {"a - b"}),
            ("operator", "(a + 1) * (b)", {"(a - 1) * (b)", "(a + 1) / (b)"}),
            ("operator", "a ** b", {"a * b"}),
            ("operator", "a @ b", {"a * b"}),
            ("operator", "a | b", {"a & b"}),
            ("operator", "a and b", {"a or b"}),
            ("operands swapped", "a @ b.T", {"b.T @ a"}),
            ("operands swapped", "a - b - 1", {"b - a - 1", "1 - (a - b)"}),
            ("operand dropped", "a + b.sum()", {"a", "b.sum()"}),
            ("operand dropped", "a / (b + 1)", {"a", "a / (b)", "a / (1)"}),
            ("operand dropped", "a and b or 1", {"a or 1", "b or 1", "a and b", "1"}),
            ("sign", "-a.sum()", {"a.sum()"}),
            ("sign", "~(a & b)", {"(a & b)"}),
            ("sign", "not a == b", {"(a == b)"}),
            ("sign", "a[-1]", {"a[1]"}),
            ("constant", "a[-1]", {"a[0]", "a[-2]"}),
            ("constant", "a.sum(dim=0)", {"a.sum(dim=1)", "a.sum(dim=-1)"}),
            ("constant", "a.view(4)", {"a.view(5)", "a.view(3)", "a.view(0)"}),
            ("constant", "a + 1e-5", {"a + 1.00001", "a + 5e-06", "a + 0.0"}),
            ("constant", "a(True)", {"a(False)"}),
            ("constant", "a[:, None]", {"a[:, ...]"}),
            ("constant", "a is None", set()),
            ("constant", "a.join(' ')", {"a.join('')"}),
            ("constant", "''.join(a)", {"'x'.join(a)"}),
            ("constant", "f'{a} of {3}'", set()),
            ("arguments swapped", "g(a, b[0], *a)", {"g(b[0], a, *a)"}),
            ("arguments swapped", "g(a, a)", set()),
            ("arguments swapped", "max(a, b)", set()),
            ("arguments swapped", "np.swapaxes(a, -2, -1)", {"np.swapaxes(-2, a, -1)"}),
            ("argument dropped", "g(a, dim=-1)", {"g(a)"}),
            ("argument dropped", "g(dim=-1, **b)", {"g(**b)", "g(dim=-1)"}),
            ("call dropped", "a.T.contiguous()", {"a.T"}),
            ("call dropped", "(a @ b).tril()", {"(a @ b)"}),
            ("call dropped", "torch.softmax(a + b, -1) * a", {"(a + b) * a"}),
            ("call dropped", "math.sqrt(a.shape[-1])", {"a.shape[-1]"}),
            ("call dropped", "range(a)", set()),
            ("call dropped", "Tensor(a)", set()),
            ("another function", "torch.tril(a)", {"torch.triu(a)"}),
            ("another function", "max(a)", {"min(a)"}),
            ("another name", "g(a)", {"g(b)"}),
            ("another name", "g(x)", set()),
            ("off by one", "list(range(1, a))", {"list(range(1, a - 1))"}),
            ("off by one", "a[b:]", {"a[b + 1:]"}),
            ("bound dropped", "a[b:-1]", {"a[:-1]", "a[b:]"}),
            ("bound dropped", "a[1:]", set()),
            ("branch dropped", "a if b else 1", {"a", "1"}),
            ("condition negated", "a if b > 0 else 1", {"a if not (b > 0) else 1"}),
            ("condition negated", "a if b is None else 1", set()),
            ("condition negated", "[c for c in a if c.ok()]", {"[c for c in a if not c.ok()]"}),
        ],
    )
    def test_expressions(self, kind: str, line: str, becomes: set[str]) -> None:
        assert changes(f"return {line}", kind) == becomes

    @pytest.mark.parametrize(
        ("kind", "lines", "becomes"),
        [
            ("operator", "a += b\nreturn a", {"a -= b", "a = b"}),
            ("statement dropped", "a += b\nreturn a", {"pass"}),
            ("statement dropped", "return a", set()),
            ("statement dropped", "if a:\n    return b\nreturn a", {"pass"}),
            ("statement dropped", "if a:\n    b = 1\n    a = 2\nreturn a + b", {"pass"}),
            ("statement dropped", "for a in b:\n    if a:\n        break", {"pass"}),
            ("condition negated", "while (a and\n       b):\n    a = g(b)", {"while (not (a and b)):"}),
            ("context dropped", "with torch.no_grad():\n    b = a\nreturn b", {"if True:"}),
            ("context dropped", "with g() as c:\n    b = c\nreturn b", set()),
            ("another exception", "raise ValueError('a' + 'b')", {"raise RuntimeError('a' + 'b')"}),
            ("another exception", "raise", set()),
        ],
    )
    def test_statements(self, kind: str, lines: str, becomes: set[str]) -> None:
        assert changes(lines, kind) == becomes

    def test_an_elif_is_not_dropped(self) -> None:
        lines = "if a:\n    b = 1\nelif b:\n    a = 1\n    b = 2\nelse:\n    a = 2\nreturn a"
        source = f"def f(a, b):\n    {lines}".replace("\n", "\n    ").replace("(a, b):\n    ", "(a, b):\n")
        dropped = [m.number for m in mutants_of(source) if m.kind == "statement dropped"]
        assert dropped == [2, 3, 5, 6, 8]  # the `if` with all that belongs to it, and every assignment

    def test_defaults_of_parameters_change_but_not_annotations(self) -> None:
        source = 'def f(a: F["3 4"] = None, *, p: float = 0.5, q: bool = True) -> "3":\n    c: "4" = a\n    return c'
        assert [m.becomes for m in mutants_of(source) if m.number == 1] == [
            'def f(a: F["3 4"] = ..., *, p: float = 0.5, q: bool = True) -> "3":',
            'def f(a: F["3 4"] = None, *, p: float = 1.5, q: bool = True) -> "3":',
            'def f(a: F["3 4"] = None, *, p: float = 0.25, q: bool = True) -> "3":',
            'def f(a: F["3 4"] = None, *, p: float = 0.0, q: bool = True) -> "3":',
            'def f(a: F["3 4"] = None, *, p: float = 0.5, q: bool = False) -> "3":',
        ]
        assert [m.kind for m in mutants_of(source) if m.number == 2] == ["statement dropped", "another name"]

    def test_docstrings_and_what_is_raised_stay(self) -> None:
        source = 'def f(a):\n    """Doc 1."""\n    if a:\n        raise ValueError(f"{a + 1}", 1 + 1)\n    "more"\n'
        assert [m.becomes for m in mutants_of(source)] == [
            "if not a:",
            "pass",
            'raise RuntimeError(f"{a + 1}", 1 + 1)',
        ]

    def test_decorators_are_dropped(self) -> None:
        source = "class A:\n    @property\n    def b(self):\n        return 'é'"
        assert [(m.kind, m.line, m.becomes) for m in mutants_of(source)] == [
            ("decorator dropped", "@property", ""),
            ("constant", "return 'é'", "return ''"),
        ]


class TestPlaces:
    def test_the_rest_stays_to_the_letter(self) -> None:
        source = "def f(größe):\n    x = {'é': größe  +  1}   # mehr +\n\n    return ( x )  # the end"
        mutants = {m.kind: m for m in mutants_of(source)}
        assert mutants["operator"].source == source.replace("größe  +  1", "größe  -  1")
        assert mutants["operator"].line == "x = {'é': größe + 1}"
        assert mutants["operator"].becomes == "x = {'é': größe - 1}"
        assert mutants["operator"].number == 2

    def test_a_change_over_several_lines_is_told_as_one(self) -> None:
        source = "def f(a):\n    return g(\n        a,  # this\n        dim=1,  # and that\n        keep=(2),\n    )"
        dropped = [m for m in mutants_of(source) if m.kind == "argument dropped"]
        assert [(m.number, m.line, m.becomes) for m in dropped] == [
            (3, "a, dim=1,", "a,"),
            (4, "dim=1, keep=(2),", "dim=1,"),
        ]
        assert "# and that" in dropped[0].source

    def test_the_same_bytecode_counts_once(self) -> None:
        assert [m.becomes for m in mutants_of("def f(a):\n    return a + 1") if m.kind == "constant"] == [
            "return a + 2",
            "return a + 0",  # n - 1 and 0 are the same here
        ]
        assert changes("return a if not b else b", "sign") == {"a if b else b"}
        assert not changes("return 2 * 0", "operand dropped") & {"0"}  # that is what it was

    @pytest.mark.parametrize("module", ["attention", "diagrams", "plots"])
    def test_no_change_of_real_code_spoils_its_syntax(self, module: str) -> None:
        source = (ROOT / "src" / "scratch" / f"{module}.py").read_text()
        for node in ast.parse(source).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                text = Spliced("\n".join(source.splitlines()[node.lineno - 1 : node.end_lineno]))
                for _, edits in Places(text, frozenset()).all():
                    assert compiled(text.edited(edits)) is not None, text.lines(edits)

    def test_what_is_no_python_has_none(self) -> None:
        with pytest.raises(SyntaxError):
            mutants_of("def f(:")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The mini course, released; tests leave it as it is."""
    course = make_course(tmp_path_factory.mktemp("mutate") / "course")
    release_all(course.root, [UNIT])
    return course


@pytest.fixture
def course(made: Course, tmp_path: Path) -> Course:
    """A copy of it, to be spoilt."""
    return read_course(shutil.copytree(made.root, tmp_path / "course"))


@pytest.fixture(autouse=True)
def warm(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Mutants are graded in this process, in the sandbox that is warm; what is graded is written down."""
    graded: list[str] = []
    before = mutating.try_out

    def note(bench: proofs.Bench, task: mutating.Task) -> object:
        graded.append(task[2])
        return before(bench, task)

    monkeypatch.setattr(proofs, "sandbox_for", lambda *_: nullcontext(sandbox))
    monkeypatch.setattr(mutating, "try_out", note)
    return graded


def checks(course: Course, old: str, new: str) -> None:
    assert old in CHECKS
    (course.graders(UNIT) / "test_mini.py").write_text(CHECKS.replace(old, new))


def equivalents(course: Course, text: str) -> None:
    (course.graders(UNIT) / "equivalents.toml").write_text(text)


def weaken(course: Course) -> None:
    """A check of `double` that looks at the shape alone."""
    values = (
        'expect.close(got, x + x, mistakes={"the square of the input": x * x}, ask="Which operator doubles?")'
    )
    checks(course, values, "expect.array(got, shape=tuple(x.shape))")


def entry(line: str, becomes: str, exercise: str = "double") -> str:
    return f'[[{exercise}]]\nline = "{line}"\nbecomes = "{becomes}"\nreason = "It is a test."\n'


def left(tried: Tried) -> dict[str, str]:
    return {mutant.becomes: ending.how for mutant, ending in tried.left}


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(course: Course) -> Run:
    """The exit code of the command's heart, and what it prints."""

    def show(**options: object) -> tuple[int, str]:
        out = io.StringIO()
        code = show_score(course, (course.unit(UNIT),), Console(file=out, width=100), **options)
        return code, out.getvalue()

    return show


class TestGrading:
    def test_sound_checks_kill_what_can_be_killed(self, course: Course) -> None:
        double, norm = mutate(course, course.unit(UNIT))
        assert (double.exercise, norm.exercise) == ("double", "norm")
        assert left(double) == {}
        assert double.killed == double.counted >= 6
        assert {ending.how for _, ending in double.endings} == {KILLED}
        assert score_of([double]) == 1.0

    def test_a_weak_check_lets_mutants_survive(self, course: Course) -> None:
        weaken(course)
        [double] = mutate(course, course.unit(UNIT), exercise="double")
        assert left(double) == dict.fromkeys(
            ["return x / 2", "return x", "return x * 3", "return x * 1", "return x * 0"], SURVIVED
        )
        assert [ending.check for m, ending in double.endings if m.becomes == "return 2"] == ["test_values"]
        assert score_of([double]) == double.killed / len(double.endings) < 0.5

    def test_a_mutant_that_breaks_a_check_is_not_killed(self, course: Course) -> None:
        checks(course, "expect.close(got, x + x,", "expect.close(got.add(0), x + x,")
        [double] = mutate(course, course.unit(UNIT), exercise="double")
        assert left(double) == {"return 2": BROKE}

    def test_a_mutant_that_never_ends_is_killed(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mutating, "PATIENCE", (0.5, 1.0))
        notebook = nbformat.read(course.solution(UNIT), as_version=4)
        [cell] = [cell for cell in notebook.cells if cell.id == "double"]
        cell.source = (
            "def double(x):\n    y, n = 0, 0\n    while n != 2:\n        y, n = y + x, n + 1\n    return y"
        )
        nbformat.write(notebook, course.solution(UNIT))
        source = cell.source.replace("n + 1", "n - 1")
        monkeypatch.setattr(
            mutating,
            "mutants_of",
            lambda *_: [Mutant(kind="operator", number=4, line="n + 1", becomes="n - 1", source=source)],
        )
        [double] = mutate(course, course.unit(UNIT), exercise="double")
        [(_, ending)] = double.endings
        assert ending.how == KILLED
        assert "took longer than" in ending.told

    def test_a_right_answer_that_loses_points_ends_it(self, course: Course) -> None:
        checks(course, "x + x,", "x + x + 1,")
        says = "01_mini: the right answer to `double` has lost points; test_values: "
        with pytest.raises(CourseError, match=says):
            mutate(course, course.unit(UNIT))

    def test_an_exercise_that_is_not_there_is_named(self, course: Course) -> None:
        with pytest.raises(CourseError, match=r"unit 01_mini has no exercise 'dubble'.*did you mean double"):
            mutate(course, course.unit(UNIT), exercise="dubble")

    def test_names_that_imports_bind_are_no_data(self, course: Course) -> None:
        bench = proofs.Bench(course, course.unit(UNIT), Sandbox(), 1)
        assert mutating.imported(bench) == {"torch", "check", "hint"}


class TestEquivalents:
    def test_one_that_is_listed_leaves_the_count(self, course: Course) -> None:
        weaken(course)
        equivalents(course, entry("return x * 2", "return  x * 3") + entry("return x * 2", "return x"))
        [double] = mutate(course, course.unit(UNIT), exercise="double")
        assert [m.becomes for m in double.excused] == ["return x * 3", "return x"]
        assert set(left(double)) == {"return x / 2", "return x * 1", "return x * 0"}
        assert double.counted == len(double.endings) - 2
        assert double.stale == []

    @pytest.mark.parametrize(
        ("line", "becomes", "why"),
        [
            ("return x * 2", "return x / 2", "test_values kills it"),
            ("return x * 2", "return x * 7", "the line is there, but no mutant of it becomes this"),
            ("return 2 * x", "return 3 * x", "the answer has no such line"),
        ],
    )
    def test_one_that_no_survivor_matches_is_stale(
        self, line: str, becomes: str, why: str, course: Course
    ) -> None:
        equivalents(course, entry(line, becomes))
        [double] = mutate(course, course.unit(UNIT), exercise="double")
        assert [reason for _, reason in double.stale] == [why]
        assert double.excused == []

    def test_an_entry_stands_for_one_mutant(self, course: Course) -> None:
        weaken(course)
        equivalents(course, 2 * entry("return x * 2", "return x * 3"))
        [double] = mutate(course, course.unit(UNIT), exercise="double")
        assert len(double.excused) == 1
        assert [why for _, why in double.stale] == ["another entry names it already"]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            (
                entry("a", "b", "dubble"),
                r"equivalents.toml, line 1: dubble is no exercise of the unit; did you",
            ),
            (
                "[double]\nline = 'a'",
                r"line 1: double should be a list of tables: write \[\[double\]\] before",
            ),
            ("[[double]]\nline = 'a'\nbecomes = 'b'", r"line 1: double\[0\].reason is missing"),
            ("[[double]]\nline = 'a'\nbecomes = 'b'\nreason = ''", r"line 4: .*reason should not be empty"),
        ],
    )
    def test_a_list_that_is_wrong_is_one_sentence(self, text: str, says: str, course: Course) -> None:
        equivalents(course, text)
        with pytest.raises(CourseError, match=says):
            mutate(course, course.unit(UNIT))

    def test_the_list_is_no_part_of_a_verdict_and_is_not_released(self, course: Course) -> None:
        bench = proofs.Bench(course, course.unit(UNIT), Sandbox(), 1)
        before = mutating.material_digest(bench.material)
        equivalents(course, entry("return x * 2", "return x"))
        assert mutating.material_digest(bench.material) == before
        release_all(course.root, [UNIT])
        assert not list((course.root / "exercises").rglob("equivalents*"))


class TestKept:
    def test_a_second_run_grades_nothing(self, course: Course, warm: list[str]) -> None:
        first = mutate(course, course.unit(UNIT))
        assert len(warm) == sum(len(one.endings) for one in first) + 2
        warm.clear()
        assert mutate(course, course.unit(UNIT)) == first
        assert warm == []
        mutate(course, course.unit(UNIT), exercise="double", fresh=True)
        assert len(warm) == len(first[0].endings) + 1

    def test_a_changed_check_grades_anew(self, course: Course, warm: list[str]) -> None:
        mutate(course, course.unit(UNIT), exercise="double")
        warm.clear()
        weaken(course)
        [double] = mutate(course, course.unit(UNIT), exercise="double")
        assert len(warm) == len(double.endings) + 1

    def test_what_was_graded_before_a_stop_is_kept(
        self, course: Course, warm: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(done: int, of: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            mutate(course, course.unit(UNIT), exercise="double", progress=stop)
        assert len(warm) == 2
        [double] = mutate(course, course.unit(UNIT), exercise="double")
        assert len(warm) == len(double.endings) + 1

    def test_a_broken_check_is_tried_again_and_a_damaged_file_is_none(
        self, course: Course, warm: list[str]
    ) -> None:
        checks(course, "expect.close(got, x + x,", "expect.close(got.add(0), x + x,")
        [double] = mutate(course, course.unit(UNIT), exercise="double")
        warm.clear()
        mutate(course, course.unit(UNIT), exercise="double")
        assert len(warm) == 1
        path = course.root / ".proctor" / "mutants" / f"{UNIT}.json"
        assert path.stat().st_mode & 0o777 == 0o600
        path.write_text('{"a": 1}')
        warm.clear()
        mutate(course, course.unit(UNIT), exercise="double")
        assert len(warm) == len(double.endings) + 1


class TestShown:
    def test_above_the_bar_is_0(self, run: Run) -> None:
        code, told = run(exercise="double")
        assert code == 0
        assert "✗" not in told
        assert "01_mini: 100.0 % killed, 95.0 % wanted" in told

    def test_below_the_bar_is_1_with_each_survivor_as_a_diff(self, course: Course, run: Run) -> None:
        weaken(course)
        code, told = run(exercise="double")
        assert code == 1
        assert "✗ double, line 3, constant: survived\n  - return x * 2\n  + return x * 3\n" in told
        assert "or list it in graders/01_mini/equivalents.toml" in " ".join(told.split())
        assert run(exercise="double", bar=0.1)[0] == 0

    def test_a_stale_entry_and_a_broken_check_are_1(self, course: Course, run: Run) -> None:
        equivalents(course, entry("return x * 2", "return x / 2"))
        code, told = run(exercise="double")
        assert code == 1
        assert (
            "stale in equivalents.toml, double: test_values kills it\n  - return x * 2\n  + return x / 2"
            in told
        )
        equivalents(course, "")
        checks(course, "expect.close(got, x + x,", "expect.close(got.add(0), x + x,")
        code, told = run(exercise="double", bar=0.1)
        assert code == 1
        assert "✗ double, line 3, operand dropped: broke a check test_values: the check itself broke" in told

    def test_all_are_listed_on_demand(self, course: Course, run: Run) -> None:
        weaken(course)
        equivalents(course, entry("return x * 2", "return x * 3"))
        _, told = run(exercise="double", every=True)
        assert "✓ double, line 3, constant: equivalent\n" in told
        assert "✓ double, line 3, operand dropped: killed by test_values\n" in told
        assert "✗ double, line 3, constant: survived\n" in told

    def test_a_share_below_the_bar_never_reads_as_the_bar(self) -> None:
        assert mutating._percent(0.9499999) == "94.9 %"
        assert score_of([]) == 1.0

    def test_an_entry_is_found_whatever_its_spaces(self) -> None:
        mutant = Mutant(kind="", number=1, line="a = f(b)", becomes="", source="")
        assert Equivalent(line=" a  = f(b)", becomes=" ", reason="why").means(mutant)
        assert not Equivalent(line="a = f(c)", becomes="", reason="why").means(mutant)


class TestCommand:
    def test_it_takes_units_and_options(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(course.root)
        monkeypatch.setattr(os, "cpu_count", lambda: 1)
        command = ["mutate", "01", "--exercise", "double", "--jobs", "1"]
        assert CliRunner().invoke(app, command).exit_code == 0
        weaken(course)
        assert CliRunner().invoke(app, command).exit_code == 1
        assert CliRunner().invoke(app, [*command, "--bar", "0"]).exit_code == 0
        assert CliRunner().invoke(app, ["mutate", "01", "--exercise", "none"]).exit_code == 2
        assert CliRunner().invoke(app, ["mutate", "02"]).exit_code == 2

    def test_mutants_are_graded_side_by_side(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()  # other processes have sandboxes of their own
        [double] = mutate(course, course.unit(UNIT), exercise="double", jobs=2)
        assert double.killed == len(double.endings)
