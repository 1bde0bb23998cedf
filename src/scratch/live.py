"""Widgets where somebody sits before the notebook, and what stands in their place everywhere else."""

import os
from typing import Any

SESSIONS = ("JPY_SESSION_NAME", "VSCODE_PID")  # set by JupyterLab and Notebook, and by VS Code


def is_live() -> bool:
    """Whether somebody can type and move sliders here."""
    return any(name in os.environ for name in SESSIONS)


def display_with_html(widget: Any, html: str) -> None:
    """Display a widget, and with it what whoever reads the saved notebook elsewhere, without widgets, sees instead."""
    from IPython.display import display

    display({**widget._repr_mimebundle_(), "text/html": html}, raw=True)
