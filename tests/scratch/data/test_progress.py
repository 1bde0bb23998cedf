"""What a run says: a bar on a terminal, one plain line a piece of work everywhere else."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from scratch.data.progress import Reporter, megabytes


def said(terminal: bool) -> str:
    file = io.StringIO()
    reporter = Reporter(
        Console(file=file, force_terminal=terminal, width=100, color_system=None, soft_wrap=True)
    )
    with reporter.work("words 1.0 [all]: 3 MB", 3_000_000) as meter:
        for at in (0, 1_500_000, 9_000_000):
            meter.show(at)
        meter.result = ": 12 words"
    with reporter.work("building"):
        pass
    return file.getvalue()


def test_plain_lines_where_there_is_no_terminal() -> None:
    assert said(terminal=False) == "data: words 1.0 [all]: 3 MB: 12 words, 0 s\ndata: building, 0 s\n"


def test_a_bar_on_a_terminal_and_the_same_lines() -> None:
    out = said(terminal=True)
    assert "/3.0 MB" in out
    assert "\x1b[" in out
    assert "data: words 1.0 [all]: 3 MB: 12 words, 0 s\n" in out


@pytest.mark.parametrize("terminal", [False, True])
def test_a_piece_of_work_that_fails_leaves_no_line(terminal: bool) -> None:
    file = io.StringIO()
    with pytest.raises(KeyError), Reporter(Console(file=file, force_terminal=terminal, width=80)).work("x"):
        raise KeyError
    assert ", 0 s" not in file.getvalue()


def test_sizes_read_as_people_say_them() -> None:
    assert [megabytes(size) for size in (72_506, 9_841_588, 83_506_384)] == ["0.1 MB", "9.8 MB", "84 MB"]
