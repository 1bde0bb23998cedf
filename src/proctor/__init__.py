"""How the course is scored: checks, the sandbox they run against, reports and the classroom.

A notebook uses two names of it: ``from proctor import check, hint``.
"""

from __future__ import annotations

from typing import Any

__all__ = ["check", "hint"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: the command line and the sandbox need none of it.
    if name in __all__:
        from proctor import learner

        return getattr(learner, name)
    raise AttributeError(f"module 'proctor' has no attribute {name!r}")
