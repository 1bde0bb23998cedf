"""What a unit's sandbox does not have: which modules, how their import is refused, and what stays as it was."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import pytest

from proctor import unavailable
from proctor.course import read_course
from proctor.unavailable import blocked_modules, module_of

ROOT = Path(__file__).parents[2]
SENTENCE = "`pack.asked` already holds what this unit asks you to write. Loops are welcome."


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A package with a module to block, one below it, and others that stay."""
    (tmp_path / "pack" / "asked").mkdir(parents=True)
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "asked" / "__init__.py").write_text("answer = 1")
    (tmp_path / "pack" / "asked" / "below.py").write_text("answer = 2")
    (tmp_path / "pack" / "asked_too.py").write_text("other = 3")
    return tmp_path


def run(pack: Path, source: str) -> str:
    """What a program prints in which the module is blocked; it has been loaded before."""
    begin = f"""
        import sys; sys.path.insert(0, {str(pack)!r})
        import pack.asked.below
        from proctor import blocked
        blocked.install({{"pack.asked": {SENTENCE!r}}})
        def error(code):
            try:
                exec(code, {{}})
            except BaseException as error:
                return type(error).__name__ + ": " + str(error)
    """
    program = textwrap.dedent(begin) + textwrap.dedent(source)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


IMPORTS = {
    "import": "import pack.asked",
    "import as": "import pack.asked as own",
    "import of what lies below": "import pack.asked.below",
    "from import": "from pack.asked import answer",
    "from the package": "from pack import asked",
    "star import": "from pack.asked import *",
    "importlib": "import importlib; importlib.import_module('pack.asked')",
    "importlib, relative": "import importlib; importlib.import_module('.asked', 'pack')",
    "__import__": "__import__('pack.asked')",
    "__import__ of a part": "__import__('pack', fromlist=['asked']).asked.answer",
    "resolve_name": "import pkgutil; pkgutil.resolve_name('pack.asked:answer')",
}


@pytest.mark.parametrize("form", IMPORTS)
def test_every_form_of_import_is_refused_with_the_sentence(form: str, pack: Path) -> None:
    says = run(pack, f"print(error({IMPORTS[form]!r}))")
    if form == "__import__ of a part":  # Python looks for an attribute here, and tells of that
        assert says.startswith(("ModuleNotFoundError: " + SENTENCE, "AttributeError"))
    else:
        assert says == f"ModuleNotFoundError: {SENTENCE}"


def test_it_is_as_if_the_module_were_not_installed(pack: Path) -> None:
    source = """
        import importlib.util, pkgutil, runpy
        print(importlib.util.find_spec("pack.asked"), importlib.util.find_spec(".asked.below", "pack"))
        print(importlib.util.find_spec("pack.asked_too").name, importlib.util.find_spec("json").name)
        print(error("import runpy; runpy.run_module('pack.asked.below')").split(":")[0])
        print(error("import pkgutil; pkgutil.get_data('pack.asked', 'x')"))
        print(sorted(name for name in sys.modules if name.startswith("pack")), hasattr(pack, "asked"))
    """
    assert run(pack, source).splitlines() == [
        "None None",
        "pack.asked_too json",
        "ModuleNotFoundError",
        "None",
        "['pack'] False",
    ]


def test_what_has_a_name_that_begins_alike_stays(pack: Path) -> None:
    assert run(pack, "import pack.asked_too, json; print(pack.asked_too.other)") == "3"


def test_one_s_own_instead_is_what_except_is_for(pack: Path) -> None:
    source = """
        try:
            from pack.asked import answer
        except ModuleNotFoundError:
            answer = "own"
        print(answer)
    """
    assert run(pack, source) == "own"


def test_another_unit_s_modules_take_the_place_of_the_first_one_s(pack: Path) -> None:
    source = """
        blocked.install({"pack.asked_too": "another sentence"})
        import pack.asked
        print(error("import pack.asked_too"), sum(isinstance(f, blocked.Refusal) for f in sys.meta_path))
        blocked.install({})
        import pack.asked_too, importlib.util
        print(importlib.util.find_spec("pack.asked").name)
    """
    assert run(pack, source) == "ModuleNotFoundError: another sentence 1\npack.asked"


def test_the_course_s_own_plots_are_drawn_without_the_blocked_module() -> None:
    program = """
        from proctor import blocked
        blocked.install({"scratch.attention": "no"})
        import scratch.rewards, scratch.plots, scratch.diagrams, scratch.attention_plots
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


class TestBlockedModules:
    def test_the_unit_on_attention_lacks_its_module_and_nothing_of_torch(self) -> None:
        course = read_course(ROOT)
        exercises = course.exercises("08_attention")
        blocked = blocked_modules(
            {name: exercise.forbidden for name, exercise in exercises.items()},
            {name: exercise.allowed for name, exercise in exercises.items()},
        )
        assert list(blocked) == ["scratch.attention"]
        says = "`scratch.attention` already holds what this unit asks you to write, so it cannot be imported here. "
        assert blocked["scratch.attention"].startswith(says + "Use what you have written yourself")

    def test_one_exercise_s_sentence_says_what_is_allowed(self) -> None:
        blocked = blocked_modules(
            {"one": ["scratch.attention.SelfAttention"], "two": ["torch.softmax"], "three": []},
            {"one": "nn.Linear is yours to use.", "two": "Loops."},
        )
        assert list(blocked) == ["scratch.attention"]
        assert blocked["scratch.attention"].endswith(" nn.Linear is yours to use.")

    @pytest.mark.parametrize(
        ("forbidden", "preload", "expected"),
        [
            ({"a": ["transformers"], "b": ["transformers", "torch.nn"]}, (), ["transformers"]),
            ({"a": ["transformers"], "b": ["transformers"], "c": []}, (), ["transformers"]),
            ({"a": ["transformers"], "b": ["torch.nn"]}, (), []),  # `b` may use it
            (
                {"a": ["tokenizers"]},
                (),
                ["tokenizers"],
            ),  # installed with the course, and not what a sandbox runs on
            ({"a": ["transformers"]}, ("transformers.models",), []),
            ({"a": ["transformers.models"]}, (), []),
            (
                {"a": ["torch", "numpy", "json", "sympy", "PIL", "IPython", "proctor", "torch.nn.attention"]},
                (),
                [],
            ),
            ({"a": ["scratch"]}, (), ["scratch"]),
            ({"a": ["scratch.not_there.name"]}, (), ["scratch.not_there"]),
            ({}, (), []),
        ],
    )
    def test_packages_that_nothing_needs(
        self, forbidden: dict[str, list[str]], preload: tuple[str, ...], expected: list[str]
    ) -> None:
        assert list(blocked_modules(forbidden, {}, preload)) == expected

    @pytest.mark.parametrize(
        ("name", "module"),
        [
            ("scratch.attention", "scratch.attention"),
            ("scratch.attention.SelfAttention", "scratch.attention"),
            ("scratch.attention.SelfAttention.forward", "scratch.attention"),
            ("scratch", "scratch"),
        ],
    )
    def test_a_name_lies_in_a_module(self, name: str, module: str) -> None:
        assert module_of(name) == module

    def test_nothing_heavy_is_imported_to_decide(self) -> None:
        program = """
            import sys
            from proctor.unavailable import blocked_modules
            blocked_modules({"a": ["scratch.attention.causal_mask", "transformers", "torch", "numpy"]}, {})
            print([name for name in sys.modules if name.split(".")[0] in ("torch", "numpy", "scratch")])
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.strip() == "[]"

    def test_this_distribution_is_known_by_its_name(self) -> None:
        assert metadata.distribution(unavailable.DISTRIBUTION).name == unavailable.DISTRIBUTION

    def test_all_that_the_warm_process_loads_counts_as_needed(self) -> None:
        program = """
            import sys
            from proctor import worker
            from proctor.unavailable import blocked_modules
            worker.preload([])
            files = {name for name, module in sys.modules.items() if getattr(module, "__file__", None)}
            tops = {name for name in files if "." not in name and not name.startswith("_")} - {"scratch"}
            print(sorted(blocked_modules({"a": tops}, {})), len(tops) > 50)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stdout.strip() == "[] True"
