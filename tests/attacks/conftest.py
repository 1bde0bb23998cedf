"""Each file here names its ``ATTACKS``: they are one class, graded once."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("attacks.oracles")

from attacks.arena import Batch, Result, grade  # noqa: E402
from attacks.model import Attack  # noqa: E402
from proctor import walls  # noqa: E402

HERE = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "attack" in metafunc.fixturenames:
        metafunc.parametrize("attack", metafunc.module.ATTACKS, ids=str, scope="module")


@pytest.fixture(scope="module")
def batch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """The file's attacks, graded."""
    if not walls.best().isolated:
        pytest.skip("this machine keeps nobody's work apart: proctor refuses to grade here")
    return grade(request.module.ATTACKS, tmp_path_factory.mktemp("class"))


@pytest.fixture
def result(batch: Batch, attack: Attack) -> Result:
    """What came of one attack."""
    if attack.walls and not walls.best().inner:
        pytest.skip("this machine makes no namespaces")
    return batch.results[attack.name]
