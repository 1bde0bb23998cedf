import json
import shutil
from pathlib import Path

import pytest

from attacks.cases.shortcuts import ATTACKS
from attacks.oracles import TestEveryAttack, TestTheClass
from proctor import walls
from proctor.course import read_course
from proctor.pool import Job, Pool

__all__ = ["ATTACKS", "TestEveryAttack", "TestTheClass"]

ROOT = Path(__file__).parents[2]
UNIT = "08_attention"
# Ways to take an answer from the library that it is written for. The name stands for each exercise's.
WAYS = {
    "import": "from scratch.attention import NAME",
    "alias": "import scratch.attention as mine\nNAME = mine.NAME",
    "getattr": 'import scratch.attention\nNAME = getattr(scratch.attention, "NA" "ME")',
    "importlib": 'import importlib\nNAME = vars(importlib.import_module("scratch" + ".attention"))["NAME"]',
    "__import__": 'NAME = __import__("scratch.attention", fromlist=["x"]).NAME',
    "exec": 'exec("from scratch.attention import NAME")',
    "modules": 'import scratch.attention, sys\nNAME = sys.modules["scratch" + "." + "attention"].NAME',
    "file": 'import scratch\nexec(open(scratch.__path__[0] + "/attention.py").read())',
}


@pytest.mark.parametrize("way", list(WAYS))
def test_an_answer_that_is_imported_from_the_library_earns_nothing(way: str, tmp_path: Path) -> None:
    if not walls.best().isolated:
        pytest.skip("this machine keeps nobody's work apart: proctor refuses to grade here")
    for name in ("graders", "exercises"):
        shutil.copytree(ROOT / name / UNIT, tmp_path / name / UNIT)
    shutil.copy(ROOT / "course.toml", tmp_path)
    course = read_course(tmp_path)
    unit = course.unit(UNIT)
    notebook = json.loads(course.release(unit).read_text())
    exercises = course.exercises(unit)
    for cell in notebook["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id", "")
        if name in exercises:
            cell["source"] = WAYS[way].replace("NAME", name)
    path = tmp_path / f"{unit.notebook}.ipynb"
    path.write_text(json.dumps(notebook))
    with Pool() as pool:
        verdict = pool.grade(Job(root=tmp_path, unit=UNIT, student="eve", path=path)).verdict
    assert not verdict.needs_person, verdict
    assert {result.name: result.score for result in verdict.exercises} == dict.fromkeys(exercises, 0.0)
