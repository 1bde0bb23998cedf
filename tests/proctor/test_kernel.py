"""What is asked of the kernel beyond walls: memory in huge pages."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from proctor import kernel

SOURCE = """
from proctor import kernel
things = [bytes([number % 256]) * 1000 for number in range(30_000)]
done = kernel.collapse_memory()
assert all(thing == bytes([number % 256]) * 1000 for number, thing in enumerate(things))
print(done)
"""


@pytest.mark.skipif(not kernel.known_machine(), reason="not a Linux whose system calls are known")
def test_what_lies_in_memory_stays_as_it_is_in_huge_pages() -> None:
    run = subprocess.run(
        [sys.executable, "-c", SOURCE], capture_output=True, text=True, check=True, env=os.environ
    )
    assert int(run.stdout) % kernel.HUGE_PAGE == 0
