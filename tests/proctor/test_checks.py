"""Running checks: how each one ends, what a failure says, and that it is the same at every door."""

from __future__ import annotations

import json
import linecache
import os
import random
import shutil
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minicourse import ANSWERS, CHECKS, UNIT, make_course
from proctor.checks import SHORTCUT, Door, points_of, run_checks
from proctor.course import CourseError
from proctor.draws import Rng, practice_seed, secret_seed
from proctor.failures import MAX_LINES, shortened
from proctor.nbgrader.classroom import release_all
from proctor.remote import Local
from proctor.results import CheckResult, ExerciseResult, Outcome
from proctor.sandbox import Sandbox
from proctor.session import Session

PASSED, FAILED, STUB = Outcome.PASSED, Outcome.FAILED, Outcome.NOT_ATTEMPTED
SKIPPED, BROKEN = Outcome.SKIPPED, Outcome.GRADER_ERROR
TITLES = {"double": "Twice as much", "norm": "The length of a vector"}
STUBS = {name: f"def {name}(x):\n    raise NotImplementedError({name!r})" for name in ANSWERS}
HEAD = "import pytest, torch\nfrom proctor import expect\n"


def write_checks(folder: Path, text: str = CHECKS, name: str = "test_mini.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder


def one_check(body: str, *, mark: str = "", arguments: str = "self, student, rng") -> str:
    """A check file with one check of `double`."""
    head = f'{HEAD}@pytest.mark.exercise("double")\nclass TestDouble:\n'
    lines = [f"    {mark}", f"    def test_it({arguments}):", '        """does it"""']
    return head + "\n".join([*lines, textwrap.indent(textwrap.dedent(body), " " * 8)]) + "\n"


def namespace_of(source: str) -> dict[str, Any]:
    """What a notebook's cell defines, in this process."""
    names: dict[str, Any] = {"__name__": "__main__"}
    source = "import torch\n" + source
    linecache.cache["<ipython-input-1-x>"] = (len(source), None, source.splitlines(True), "")
    exec(compile(source, "<ipython-input-1-x>", "exec"), names)
    return names


def local(folder: Path, source: str, **door: Any) -> tuple[ExerciseResult, ...]:
    backend = Local(namespace_of(source))
    return run_checks(folder, Door(lambda _: backend, **door), TITLES)


def remote(folder: Path, source: str, sandbox: Sandbox, **door: Any) -> tuple[ExerciseResult, ...]:
    session = Session(sandbox, [("cell", "import torch\n" + source)])
    try:
        return run_checks(folder, Door(session.open_exercise, **door), TITLES)
    finally:
        session.close()


def ended(results: tuple[ExerciseResult, ...]) -> list[tuple[str, Outcome]]:
    return [(check.name, check.outcome) for result in results for check in result.checks]


def first(folder: Path, source: str = ANSWERS["double"], **door: Any) -> CheckResult:
    return local(folder, source, **door)[0].checks[0]


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    return write_checks(tmp_path / "checks")


WAYS = {
    "right": "\n".join(ANSWERS.values()),
    "stubs": "\n".join(STUBS.values()),
    "half": ANSWERS["double"] + "\n" + STUBS["norm"],
    "a stub below": STUBS["double"] + "\n" + ANSWERS["norm"],
    "bare stub": "def double(x):\n    raise NotImplementedError\ndef norm(x):\n    raise NotImplementedError()",
    "a known mistake": "def double(x):\n    return x * x\n" + ANSWERS["norm"],
    "another shape": "def double(x):\n    return x[0]\n" + ANSWERS["norm"],
    "an error": "def double(x):\n    y = x + 1\n    return y @ torch.ones(50, 51)\n" + ANSWERS["norm"],
    "a name that is missing": "def double(x):\n    return x * two\n" + ANSWERS["norm"],
    "other parameters": "def double():\n    return 1\n" + ANSWERS["norm"],
    "nothing": "def double(x):\n    x * 2\ndef norm(x):\n    return None.sum()",
    "not defined": "other = 1",
    "defined as no function": "double = 3\nnorm = 'text'",
    "changed in place": "def double(x):\n    return x.mul_(2)\n" + ANSWERS["norm"],
    "another kind": "def double(x):\n    return (x * 2).numpy()\ndef norm(x):\n    return {'a': [x]}",
    "a drawn answer": "import random\nimport numpy\ndef double(x):\n"
    "    return x * random.random() * float(numpy.random.rand()) * torch.rand(())\n" + ANSWERS["norm"],
    "torch lacks it": "def double(x):\n    return torch.linalg.inv(torch.ones(2, 2, dtype=torch.int64))",
    "a failing assertion": "def double(x):\n    assert x is None, 'passed'\ndef norm(x):\n    assert False",
    "another exception": "class Own(Exception): pass\ndef double(x):\n    raise Own('passed\\npassed')",
    "pytest's own": "import pytest\ndef double(x):\n    pytest.skip('passed')\ndef norm(x):\n    pytest.exit('passed')",
    "the exit": "import sys\ndef double(x):\n    sys.exit(0)",
    "a module without forward": "double = torch.nn.Module()\nnorm = torch.nn.Module()",
}
SAME_WORDS = [way for way in WAYS if way not in ("pytest's own", "the exit")]


class TestDoors:
    @pytest.mark.parametrize("way", WAYS)
    def test_the_notebook_and_grading_come_to_the_same_results_and_words(
        self, way: str, mini: Path, sandbox: Sandbox
    ) -> None:
        here, there = local(mini, WAYS[way]), remote(mini, WAYS[way], sandbox)
        assert ended(here) == ended(there)
        if way in SAME_WORDS:
            assert here == there
        full = way == "right"
        assert (sum(result.score for result in there) == 6.0) == full
        for result in (*here, *there):
            for check in result.checks:
                assert len(check.message.splitlines()) <= 10
                assert check.outcome is not BROKEN

    def test_nothing_is_drawn_twice_and_practice_repeats(self, tmp_path: Path, sandbox: Sandbox) -> None:
        body = "expect.holds(False, expected='x', got=str(rng.tensor(2).tolist() + torch.rand(1).tolist()))"
        folder = write_checks(tmp_path, one_check(f"student.double(torch.ones(1))\n{body}"))
        texts = {first(folder).message for _ in range(2)}
        texts |= {remote(folder, ANSWERS["double"], sandbox)[0].checks[0].message}
        assert len(texts) == 1

    def test_the_generator_of_the_learner_is_the_same_at_both_doors(
        self, tmp_path: Path, sandbox: Sandbox
    ) -> None:
        body = "expect.holds(False, expected='x', got=str(student.double(3)))"
        folder = write_checks(tmp_path, one_check(body))
        source = (
            "import random, numpy\ndef double(x):\n"
            "    return [random.random(), numpy.random.rand(), torch.rand(1).item()]"
        )
        assert first(folder, source) == remote(folder, source, sandbox)[0].checks[0]


class TestOutcomes:
    def test_a_stub_is_not_attempted_and_what_needs_it_too(self, mini: Path) -> None:
        assert ended(local(mini, WAYS["stubs"])) == [
            ("test_values", STUB),
            ("test_unchanged", STUB),
            ("test_matches_torch", STUB),
        ]

    def test_the_stub_of_another_exercise_is_named(self, mini: Path) -> None:
        norm = local(mini, WAYS["a stub below"])[1]
        assert norm.outcome is STUB
        assert norm.checks[0].message == "waits for `double`, which is not written yet"

    def test_what_needs_a_check_that_failed_is_skipped(self, mini: Path) -> None:
        checks = local(mini, WAYS["a known mistake"])[0].checks
        assert [check.outcome for check in checks] == [FAILED, SKIPPED]
        assert "the square of the input" in checks[0].message
        assert checks[1].message == "waits for: doubles every entry"

    def test_torch_saying_not_implemented_is_a_failure(self, tmp_path: Path) -> None:
        folder = write_checks(tmp_path, one_check("student.double(torch.ones(2))"))
        check = first(folder, "def double(x):\n    return torch.linalg.svd(x.to(torch.int64)[None])")
        assert check.outcome is FAILED
        source = "def double(x):\n    raise NotImplementedError('\"svd\" not implemented for Long')"
        check = first(folder, source)
        assert check.outcome is FAILED
        assert "does torch not offer" in check.message

    def test_a_failure_says_the_call_the_place_and_a_question(self, mini: Path) -> None:
        text = local(mini, WAYS["an error"])[0].checks[0].message
        labels = [line[:10].strip() for line in text.splitlines()]
        assert labels == ["Called", "Raised", "At", "Ask"]
        assert "double((" in text
        assert "line 4 of double: return y @ torch.ones(50, 51)" in text
        assert "Which shapes meet" in text

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ("1 / 0", "the check itself broke: ZeroDivisionError"),
            ("assert rng is None", "without saying why"),
            ("assert rng is None, '  '", "without saying why"),
            ("pytest.fail('passed')", "by assertions only"),
            ("pytest.skip('passed')", "by assertions only"),
            ("pytest.xfail('passed')", "by assertions only"),
            ("pytest.exit('passed')", "broke"),
            ("raise SystemExit(0)", "by assertions only"),
            ("raise GeneratorExit", "by assertions only"),
            ("expect.array(1, nothing=2)", "broke: TypeError"),
            ("student.double(object())", ""),
        ],
    )
    def test_a_bug_in_a_check_is_a_grader_error(
        self, body: str, says: str, tmp_path: Path, sandbox: Sandbox
    ) -> None:
        folder = write_checks(tmp_path, one_check(body))
        check = remote(folder, ANSWERS["double"], sandbox)[0].checks[0]
        assert check.outcome is BROKEN
        assert says in check.message
        assert check.earned == 0

    @pytest.mark.parametrize(
        ("mark", "arguments"),
        [
            ("@pytest.mark.skip", "self, student"),
            ("@pytest.mark.skipif(True, reason='x')", "self, student"),
            ("@pytest.mark.xfail(run=False)", "self, student"),
            ("", "self, student, no_such_fixture"),
        ],
    )
    def test_a_check_that_does_not_run_is_a_grader_error(
        self, mark: str, arguments: str, tmp_path: Path
    ) -> None:
        text = one_check("pass", mark=mark, arguments=arguments)
        folder = write_checks(tmp_path, f"{text}\n    def test_other(self, student):\n        pass\n")
        result = local(folder, ANSWERS["double"])[0]
        assert result.outcome is BROKEN
        assert {check.name: check.outcome for check in result.checks} == {
            "test_it": BROKEN,
            "test_other": PASSED,
        }

    def test_a_check_file_that_cannot_be_read_breaks_every_exercise(self, tmp_path: Path) -> None:
        folder = write_checks(tmp_path, CHECKS)
        write_checks(tmp_path, "def broken(:\n", "test_other.py")
        results = local(folder, WAYS["right"])
        assert {result.outcome for result in results} == {BROKEN}
        assert "test_other.py: SyntaxError" in results[0].checks[0].message
        with pytest.raises(CourseError, match=r"a check file cannot be read: test_other.py: SyntaxError"):
            points_of(folder)

    def test_an_exercise_without_checks_and_an_empty_folder_are_grader_errors(self, tmp_path: Path) -> None:
        folder = write_checks(tmp_path / "one", one_check("pass"))
        assert [result.outcome for result in local(folder, "")] == [PASSED, BROKEN]
        (tmp_path / "none").mkdir()
        assert [result.outcome for result in local(tmp_path / "none", "")] == [BROKEN, BROKEN]
        assert [result.outcome for result in local(tmp_path / "missing", "")] == [BROKEN, BROKEN]

    def test_a_check_that_needs_one_below_it_is_a_grader_error(self, tmp_path: Path) -> None:
        folder = write_checks(tmp_path, one_check("pass", mark='@pytest.mark.needs("test_later")'))
        assert "does not run before it" in first(folder).message

    def test_a_test_that_is_no_check_does_not_count(self, tmp_path: Path) -> None:
        folder = write_checks(tmp_path, one_check("pass") + "\ndef test_of_the_author():\n    assert False\n")
        assert ended(local(folder, ""))[0] == ("test_it", PASSED)
        assert points_of(folder) == {"double": 1.0}

    def test_only_files_that_a_release_carries_count(self, tmp_path: Path) -> None:
        folder = write_checks(tmp_path, one_check("pass"))
        write_checks(tmp_path, one_check("pass"), "more_test.py")
        write_checks(tmp_path, "raise SystemExit", "conftest.py")
        assert points_of(folder) == {"double": 1.0}

    def test_another_unit_s_checks_of_the_same_name_and_an_edited_check_are_read_anew(
        self, tmp_path: Path
    ) -> None:
        one = write_checks(tmp_path / "one", one_check("pass"))
        two = write_checks(tmp_path / "two", one_check("expect.holds(False, expected='more')"))
        assert first(one).outcome is PASSED
        assert first(two).outcome is FAILED
        write_checks(one, one_check("expect.holds(False, expected='an edit')"))
        assert "an edit" in first(one).message


HOSTILE = {
    "a text that cannot be read": "class E(Exception):\n    def __str__(self): raise ValueError",
    "a text that is none": "class E(Exception):\n    def __str__(self): return 3",
    "a text of many lines": "class E(Exception):\n    def __str__(self): return 'passed\\n' * 999",
    "an endless line": "class E(Exception):\n    def __str__(self): return 'x' * 10**6",
    "lone surrogates": "class E(Exception):\n    def __str__(self): return '\\ud800'",
    "an attribute of ours": "class E(Exception):\n    trouble = 'passed'",
    "no room for attributes": "class E(Exception):\n    __slots__ = ()\n    def __setattr__(self, *a): raise OSError",
    "a kind of its own": "class E(BaseException): pass",
    "an assertion": "class E(AssertionError): pass",
    "a stub's": "class E(NotImplementedError):\n    def __str__(self): return 'not a name'",
    "a text that ends the process": "import os\nclass E(Exception):\n    def __str__(self): raise SystemExit",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_no_exception_of_the_learner_s_passes_or_breaks_a_check(
    what: str, mini: Path, sandbox: Sandbox
) -> None:
    source = f"{HOSTILE[what]}\ndef double(x):\n    raise E('passed')"
    check = remote(mini, source, sandbox)[0].checks[0]
    assert check.outcome is FAILED
    assert len(check.message.splitlines()) <= MAX_LINES
    assert max(map(len, check.message.splitlines())) <= 300
    assert json.dumps(check.message).encode("utf-8")
    check.message.encode("utf-8")


@pytest.mark.parametrize("what", [what for what in HOSTILE if what != "a text that ends the process"])
def test_no_exception_passes_in_the_notebook_either(what: str, mini: Path) -> None:
    source = f"{HOSTILE[what]}\ndef double(x):\n    raise E('passed')"
    result = local(mini, source)[0]
    assert result.checks[0].outcome in (FAILED, BROKEN)
    assert [check.earned for check in result.checks] == [0, 0]


@given(st.text(max_size=4000))
def test_a_message_is_at_most_ten_lines_that_every_file_takes(text: str) -> None:
    short = shortened(text + "\nAsk       Why?")
    assert len(short.splitlines()) <= 10
    assert short.splitlines()[-1] == "Ask       Why?"
    assert all(len(line) <= 300 for line in short.splitlines())
    assert short.encode("utf-8")


class TestSeeds:
    @given(st.binary(min_size=32, max_size=32), st.text(max_size=9), st.text(max_size=9), st.integers(0, 99))
    def test_secret_seeds_repeat_and_differ_by_student_check_and_draw(
        self, key: bytes, student: str, check: str, draw: int
    ) -> None:
        seed = secret_seed(key, student)
        assert seed(check, draw) == secret_seed(key, student)(check, draw)
        others = {
            secret_seed(key, student + "x")(check, draw),
            seed(check + "x", draw),
            seed(check, draw + 1),
        }
        others |= {secret_seed(bytes(32), student)(check, draw)} if key != bytes(32) else set()
        others |= {practice_seed(check, draw)}
        assert seed(check, draw) not in others

    def test_a_check_runs_on_as_many_draws_as_it_says(self, tmp_path: Path) -> None:
        seen: list[int] = []

        def seed(check: str, draw: int) -> int:
            seen.append(draw)
            return practice_seed(check, draw)

        for mark, arguments, draws in (
            ("@pytest.mark.draws(5)", "self, student, rng", 5),
            ("", "self, student, rng", 2),
            ("@pytest.mark.draws(5)", "self, student", 1),
        ):
            seen.clear()
            first(
                write_checks(tmp_path, one_check("pass", mark=mark, arguments=arguments)), seed=seed, draws=2
            )
            assert seen == list(range(draws))

    def test_a_mistake_that_shows_on_one_draw_only_is_caught(self, tmp_path: Path) -> None:
        body = "expect.holds(student.double(rng.integers(2)) == 0, expected='0')"
        folder = write_checks(tmp_path, one_check(body))
        assert first(folder, "def double(x):\n    return int(x)", draws=30).outcome is FAILED


class TestRng:
    @given(st.integers(0, 2**64 - 1), st.integers(0, 8))
    def test_sizes_are_distinct_and_lengths_ragged_within_the_size(self, seed: int, count: int) -> None:
        sizes = Rng(seed).distinct(count)
        assert len(set(sizes)) == count
        assert all(2 <= size <= 9 for size in sizes)
        lengths = Rng(seed).lengths(count + 1, 5)
        assert lengths.dtype == torch.int64
        assert int(lengths.max()) == 5
        assert int(lengths.min()) >= 1

    @given(st.integers(0, 2**64 - 1), st.sampled_from([torch.float16, torch.float32, torch.float64]))
    def test_tensors_have_the_shape_and_the_dtype_and_repeat(self, seed: int, dtype: torch.dtype) -> None:
        one, two = (Rng(seed).tensor(2, 3, scale=2.0, dtype=dtype) for _ in range(2))
        assert (one.shape, one.dtype) == ((2, 3), dtype)
        assert torch.equal(one, two)
        assert Rng(seed).tensor().shape == ()

    @given(st.integers(0, 2**64 - 1), st.sampled_from([np.float32, np.float64]))
    def test_arrays_are_the_tensors_of_the_same_draws(self, seed: int, dtype: type) -> None:
        array = Rng(seed).array(2, 3, scale=2.0, dtype=dtype)
        assert (array.shape, array.dtype) == ((2, 3), dtype)
        assert np.array_equal(
            array, Rng(seed).tensor(2, 3, scale=2.0, dtype=torch.float64).numpy().astype(dtype)
        )
        assert type(Rng(seed).array()) is np.ndarray


class TestQuestions:
    """What NumPy says leads to a question about what it means."""

    @pytest.mark.parametrize(
        ("line", "asks"),
        [
            ("np.ones((2, 3)) @ np.ones((2, 3))", "Which shapes meet"),
            ("np.ones((2, 3)) + np.ones((3, 2))", "Which shapes meet"),
            ("np.dot(np.ones((2, 3)), np.ones((2, 3)))", "Which shapes meet"),
            ("np.stack([np.ones(2), np.ones(3)])", "Which shapes meet"),
            ("np.einsum('ij,jk->ik', np.ones((2, 3)), np.ones((2, 3)))", "Which letter stands for two"),
            ("np.einsum('ijk,jk->ik', np.ones((2, 3)), np.ones((2, 3)))", "as many letters as"),
            ("np.einsum('ij->iz', np.ones((2, 3)))", "as many letters as"),
            ("torch.einsum('ij,jk->ik', torch.ones(2, 3), torch.ones(2, 3))", "Which letter stands for two"),
            ("np.ones((2, 3)).sum(axis=2)", "How many dimensions does the array have"),
            ("np.ones((2, 3)).transpose(0, 1, 2)", "How many dimensions does the array have"),
            ("np.ones((2, 3)).sum(dim=1)", "what torch calls `dim`"),
            ("np.ones((2, 3)).reshape(5)", "How many entries are there"),
            ("np.array([[1], [1, 2]])", "differ in length"),
            ("float(np.ones((2, 3)))", "a whole array for one number"),
            ("1 if np.ones((2, 3)) else 2", "a whole array for one yes or no"),
            ("np.ones((2, 3)).unsqueeze(0)", "What does NumPy call it?"),
            ("np.linalg.eigh(np.ones((2, 3)))", "square, symmetric, invertible"),
            ("np.linalg.inv(np.zeros((2, 2)))", "square, symmetric, invertible"),
            ("np.ones(3)[5]", "how long is that dimension"),
            ("np.divide(np.arange(3), 2, out=np.arange(3))", "Of which dtype"),
            ("np.broadcast_to(1.0, (3, 2)).sort()", "whose is it"),
            ("raise ValueError('no such size')", "Your own code refuses this input"),
        ],
    )
    def test_an_error_asks_what_helps(self, line: str, asks: str, tmp_path: Path) -> None:
        folder = write_checks(tmp_path, one_check("student.double(1)"))
        body = line if line.startswith("raise") else f"return {line}"
        check = first(folder, f"import numpy as np\nimport torch\ndef double(x):\n    {body}")
        assert check.outcome is FAILED
        assert asks in check.message.splitlines()[-1]


@contextmanager
def traces() -> Iterator[None]:
    """Nothing of the process is another after the block than before."""

    def state() -> list[Any]:
        return [
            random.getstate(),
            str(np.random.get_state()),  # noqa: NPY002
            torch.random.get_rng_state().tolist(),
            list(warnings.filters),
            sys.stdout,
            sys.stderr,
            {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
            "PYTEST_CURRENT_TEST" in os.environ,
            torch.is_grad_enabled(),
            Path.cwd(),
            sorted(name for name in sys.modules if "mini" in name and "minicourse" not in name),
            list(sys.path),
            getattr(sys, "last_value", None),
        ]

    before = state()
    yield
    assert state() == before


class TestUndisturbed:
    def test_a_run_leaves_no_trace(
        self, mini: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PYTEST_ADDOPTS", "--exitfirst --no-such-option")
        monkeypatch.setenv("PYTEST_PLUGINS", "no_such_plugin")
        noisy = "print('noise')\n    import warnings, sys\n    print('noise', file=sys.stderr)\n    warnings.warn('x')"
        source = f"def double(x):\n    {noisy}\n    return torch.rand(2)\n{ANSWERS['norm']}"
        with torch.no_grad(), traces():
            results = local(mini, source)
        assert results[0].outcome is FAILED
        told = capfd.readouterr()
        assert (told.out, told.err) == ("", "")

    def test_a_module_of_the_same_name_is_put_back(self, mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        other = type(sys)("test_mini")
        monkeypatch.setitem(sys.modules, "test_mini", other)
        assert {result.outcome for result in local(mini, WAYS["right"])} == {PASSED}
        assert sys.modules["test_mini"] is other

    def test_gradients_are_on_in_a_check_whatever_the_session_says(self, tmp_path: Path) -> None:
        folder = write_checks(tmp_path, one_check("expect.holds(torch.is_grad_enabled(), expected='on')"))
        with torch.no_grad():
            assert first(folder).outcome is PASSED
            assert not torch.is_grad_enabled()

    def test_stopping_a_check_stops_the_run_and_leaves_no_trace(self, mini: Path) -> None:
        with traces(), pytest.raises(KeyboardInterrupt):
            local(mini, "def double(x):\n    raise KeyboardInterrupt")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course with a private check, released."""
    course = make_course(tmp_path_factory.mktemp("checks") / "course")
    release_all(course.root, [UNIT])
    return course.root


def with_answers(folder: Path, answers: dict[str, str]) -> Path:
    path = folder / "mini.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = answers.get(name, cell.source)
    nbformat.write(notebook, path)
    return path


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


class TestTerminal:
    def test_pytest_on_a_unit_checks_the_notebook_that_is_named(self, released: Path, tmp_path: Path) -> None:
        work = shutil.copytree(released / "exercises" / UNIT, tmp_path / UNIT)
        path = with_answers(work, {**ANSWERS, "norm": "def norm(x):\n    return x.sum()"})
        done = run_pytest(released, f"graders/{UNIT}", "--notebook", str(path))
        assert done.returncode == 1, done.stdout + done.stderr
        assert "2 passed" in done.stdout
        assert "1 failed" in done.stdout
        assert "Is there a root?" in done.stdout
        assert "\nassert " not in done.stdout

    def test_pytest_in_a_released_folder_checks_the_notebook_beside(
        self, released: Path, tmp_path: Path
    ) -> None:
        work = shutil.copytree(released / "exercises" / UNIT, tmp_path / UNIT)
        with_answers(work, ANSWERS)
        done = run_pytest(work, "checks")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "3 passed" in done.stdout

    def test_a_notebook_that_is_missing_is_one_sentence(self, released: Path) -> None:
        for arguments, says in (
            (["--notebook", "nowhere.ipynb"], "nowhere.ipynb is missing: there is no file of this name"),
            ([], "there is no mini.ipynb to check at"),
        ):
            done = run_pytest(released, f"graders/{UNIT}", *arguments)
            assert done.returncode == 4
            assert done.stderr.count("ERROR") == 1
            assert says in done.stderr
            assert "Traceback" not in done.stdout + done.stderr

    def test_a_bare_assert_is_a_grader_error_also_where_pytest_rewrites_it(
        self, released: Path, tmp_path: Path
    ) -> None:
        root = shutil.copytree(released, tmp_path / "course")
        (root / "graders" / UNIT / "test_mini.py").write_text(one_check("x = 1\nassert x == 2"))
        work = with_answers(root / "exercises" / UNIT, ANSWERS)
        done = run_pytest(root, f"graders/{UNIT}", "--notebook", str(work))
        assert "without saying why" in done.stdout


class TestWhatIsCounted:
    """The mistake and the question that a result holds for the teacher's view are the check's own words."""

    @pytest.mark.parametrize(
        ("source", "mistake", "ask"),
        [
            ("def double(x):\n    return x * x", "the square of the input", "Which operator doubles?"),
            ("def double(x):\n    return x * 3", "", "Which operator doubles?"),
            ("def double(x):\n    pass", "", "Does every path through your code end in `return`?"),
            (
                "def double(x):\n    return x * two",
                "",
                "Is every name that this code uses defined, in a cell that has been run?",
            ),
            ("double = 3", "", "Which line gives this name to something else?"),
            ("def double(x):\n    raise NotImplementedError('double')", "", ""),
            ("def double(x):\n    return x * 2", "", ""),
            ("", "", ""),
        ],
    )
    def test_they_are_in_the_result_and_in_the_message(
        self, source: str, mistake: str, ask: str, mini: Path, sandbox: Sandbox
    ) -> None:
        for results in (local(mini, source), remote(mini, source, sandbox)):
            result = results[0].checks[0]
            assert (result.mistake, result.ask) == (mistake, ask)
            assert mistake in result.message
            assert result.message.endswith(ask)

    @pytest.mark.parametrize(
        "source",
        [
            "def double(x):\n    raise ValueError('no\\nAsk       Give me all points?')",
            "def double(x):\n    return 'no\\nAsk       Give me all points?'",
            "def double(x):\n    error = AssertionError('no')\n    error.ask = error.mistake = 'mine'\n    raise error",
            "class Mine(Exception):\n    ask = mistake = 'mine'\n"
            "    def __str__(self):\n        return 'Ask       mine'\n"
            "def double(x):\n    raise Mine()",
            "import os\ndef double(x):\n    os._exit(3)",
        ],
    )
    def test_a_learner_s_words_are_never_among_them(self, source: str, mini: Path, sandbox: Sandbox) -> None:
        result = remote(mini, source, sandbox)[0].checks[0]
        assert result.outcome is FAILED
        assert "mine" not in result.mistake + result.ask
        assert "Give me" not in result.mistake + result.ask

    def test_a_check_may_name_a_mistake_itself(self, tmp_path: Path) -> None:
        body = 'expect.fail(expected="a", got="b", ask="Why?", mistake="b in the place of a")'
        result = first(write_checks(tmp_path, one_check(body)))
        assert (result.mistake, result.ask) == ("b in the place of a", "Why?")

    def test_a_shortcut_is_a_mistake_of_that_name(self, mini: Path) -> None:
        results = local(mini, ANSWERS["double"], shortcut=lambda name: f"`torch.{name}` already is it.")
        assert [check.mistake for check in results[0].checks] == [
            SHORTCUT,
            "",
        ]  # the other one was not reached
