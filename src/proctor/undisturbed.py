"""Running checks inside a learner's session without a trace of it."""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

_LAST = ("last_exc", "last_type", "last_value", "last_traceback")


@contextlib.contextmanager
def undisturbed(folder: Path) -> Iterator[None]:
    """Leave the process as it was: generators, warnings, output, environment, modules, the last error."""
    python, torches = random.getstate(), torch.random.get_rng_state()
    legacy = np.random.get_state()  # noqa: NPY002 - the learner's code may use the old one
    grad, threads = torch.is_grad_enabled(), torch.get_num_threads()
    environment = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("PYTEST_")}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    modules = forget(folder)
    last = {name: getattr(sys, name) for name in _LAST if hasattr(sys, name)}
    torch.set_grad_enabled(True)
    torch.set_num_threads(1)  # checks work on small tensors, where several threads mostly wait for each other
    try:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)
        for name in [name for name in os.environ if name.startswith("PYTEST_")]:
            del os.environ[name]
        os.environ.update(environment)
        forget(folder)
        sys.modules.update(modules)
        for name in _LAST:
            vars(sys).pop(name, None)
        vars(sys).update(last)
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.random.set_rng_state(torches)


def forget(folder: Path) -> dict[str, ModuleType]:
    """Take away the modules that have the names of a folder's check files; returns them.

    pytest takes a module of the same name for the check file itself: another unit's, or what it was before.
    """
    names = {part for path in folder.rglob("*.py") for part in _module_names(path.relative_to(folder))}
    return {name: sys.modules.pop(name) for name in names if name in sys.modules}


def _module_names(path: Path) -> list[str]:
    parts = path.with_suffix("").parts
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
