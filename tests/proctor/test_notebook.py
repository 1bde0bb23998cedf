from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proctor.notebook import Cell, Limits, NotebookError, exercise_of, names_of, read_untrusted

SMALL = Limits(max_bytes=5_000, max_cells=3, max_source=100, max_sources=200, max_parts=300)


def code(source: Any = "x = 1", **more: Any) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        "source": source,
        **more,
    }


def notebook(*cells: Any, **more: Any) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells), **more}


def written(folder: Path, content: bytes | str | dict[str, Any]) -> Path:
    path = folder / "attention.ipynb"
    text = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refused(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(NotebookError) as caught:
        read_untrusted(path, limits)
    text = str(caught.value)
    assert text
    assert text.isprintable()
    return text


def test_a_cell_keeps_kind_source_and_claims_and_nothing_else(tmp_path: Path) -> None:
    claim = {"nbgrader": {"grade_id": "a", "points": 1000, "grade": False}, "tags": ["skip-execution"]}
    cells = read_untrusted(
        written(
            tmp_path,
            notebook(
                code(["x = 1\n", "y = 2"], metadata=claim, id="one"),
                {"cell_type": "markdown", "source": "# hello", "attachments": {"a": 1}},
                {"cell_type": "heading", "source": "old"},
            ),
        )
    )
    assert cells == [
        Cell(kind="code", source="x = 1\ny = 2", grade_id="a", cell_id="one"),
        Cell(kind="markdown", source="# hello"),
        Cell(kind="raw", source="old"),
    ]


@pytest.mark.parametrize(
    "metadata", [None, [], "x", {"nbgrader": []}, {"nbgrader": {"grade_id": 3}}, {"nbgrader": "a"}]
)
def test_metadata_of_a_wrong_type_claims_nothing(tmp_path: Path, metadata: Any) -> None:
    assert read_untrusted(written(tmp_path, notebook(code(metadata=metadata, id=7)))) == [
        Cell(kind="code", source="x = 1")
    ]


def test_what_is_no_cell_is_dropped(tmp_path: Path) -> None:
    junk = [None, 3, "x", [], {}, code(None), code([1]), code([["x"]]), code({"a": 1})]
    assert [cell.source for cell in read_untrusted(written(tmp_path, notebook(*junk, code("y"))))] == ["y"]


def test_of_a_key_that_occurs_twice_the_last_counts(tmp_path: Path) -> None:
    text = '{"nbformat": 3, "nbformat": 4, "cells": [], "cells": [{"source": "a", "source": "b"}]}'
    assert [cell.source for cell in read_untrusted(written(tmp_path, text))] == ["b"]


def test_a_byte_order_mark_is_no_harm(tmp_path: Path) -> None:
    assert (
        len(read_untrusted(written(tmp_path, b"\xef\xbb\xbf" + json.dumps(notebook(code())).encode()))) == 1
    )


def test_lone_surrogates_become_text_that_can_be_written(tmp_path: Path) -> None:
    (cell,) = read_untrusted(written(tmp_path, notebook(code(["a\ud83d", "\ude00b\ud800"], id="\ud800"))))
    assert cell.source == "a\U0001f600b�"
    assert cell.cell_id == "�"


@pytest.mark.parametrize(
    "number", ["NaN", "-Infinity", "1e999999", "9" * 10_000, "-" + "1" * 5_000, "0.1e-99999"]
)
def test_numbers_of_any_size_do_no_harm(tmp_path: Path, number: str) -> None:
    text = json.dumps(notebook(code(execution_count="HERE"))).replace('"HERE"', number)
    assert len(read_untrusted(written(tmp_path, text))) == 1
    assert "unknown format" in refused(
        written(tmp_path, text.replace('"nbformat": 4', f'"nbformat": {number}'))
    ) or (number.lstrip("-").isdigit())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"\xff\xfe{}", "is not UTF-8 text (byte 0)"),
        (b"hello", "is not JSON (line 1, column 1)"),
        (b'{"nbformat": 4, "cells": [\n{"source": "x', "is not JSON (line 2"),
        (b"[]", "is JSON, but not a notebook"),
        (b'"nbformat"', "is JSON, but not a notebook"),
        (b"{}", "is JSON, but not a notebook"),
        (b'{"nbformat": 4}', "it has no list of cells"),
        (b'{"nbformat": 4, "cells": {}}', "it has no list of cells"),
        (b'{"nbformat": 3, "worksheets": []}', "is a notebook of format 3; open it in JupyterLab"),
        (b'{"nbformat": 5, "cells": []}', "is a notebook of format 5"),
        (b'{"nbformat": "4", "cells": []}', "of an unknown format"),
        (b'{"nbformat": true, "cells": []}', "of an unknown format"),
        (b'{"nbformat": [[]], "cells": []}', "of an unknown format"),
    ],
)
def test_each_kind_of_damage_has_its_own_sentence(tmp_path: Path, content: bytes, expected: str) -> None:
    assert expected in refused(written(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"nbformat": 4, "cells": ' + "[" * 65,
        '{"a": "\\"[]]]\\\\", "nbformat": 4, "cells": ' + "[{" * 50_000,
    ],
)
def test_deep_nesting_is_refused_before_it_is_parsed(tmp_path: Path, content: str) -> None:
    assert "nested more than 64 deep" in refused(written(tmp_path, content))


def test_brackets_in_strings_are_no_nesting(tmp_path: Path) -> None:
    source = "[" * 1000 + '\\"' + "{" * 1000
    assert read_untrusted(written(tmp_path, notebook(code(source))))[0].source == source


@pytest.mark.parametrize(
    "content",
    ['"' + "\\n" * 9_999_999, '"' * 19_999_999, "[]," * 6_600_000, "[[" + "1," * 9_000_000, "]" * 19_999_999],
)
def test_large_hostile_text_is_refused_quickly(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, content)
    began = time.perf_counter()
    refused(path)
    assert time.perf_counter() - began < 15  # a second or two, where nothing else runs


def test_limits_are_told_with_their_numbers(tmp_path: Path) -> None:
    assert "larger than 0.005 MB" in refused(written(tmp_path, b" " * 5_001), SMALL)
    assert "has 4 cells; 3 are allowed" in refused(written(tmp_path, notebook(*[code()] * 4)), SMALL)
    assert "cell 2 has 101 bytes" in refused(written(tmp_path, notebook(code(), code("x" * 101))), SMALL)
    assert "cell 1 has 102 bytes" in refused(written(tmp_path, notebook(code("é" * 51))), SMALL)
    assert "more than 200 bytes" in refused(written(tmp_path, notebook(*[code("x" * 90)] * 3)), SMALL)
    assert "more than 300 parts" in refused(written(tmp_path, notebook(code([""] * 400))), SMALL)
    assert len(read_untrusted(written(tmp_path, notebook(*[code("x" * 60)] * 3)), SMALL)) == 3


def test_twenty_thousand_cells_are_refused(tmp_path: Path) -> None:
    assert "has 20000 cells; 2000 are allowed" in refused(written(tmp_path, notebook(*[code()] * 20_000)))


def test_large_outputs_are_left_behind(tmp_path: Path) -> None:
    lines = [{"output_type": "stream", "name": "stdout", "text": ["x" * 40 + "\n"] * 100_000}]
    assert read_untrusted(written(tmp_path, notebook(code(outputs=lines)))) == [
        Cell(kind="code", source="x = 1")
    ]


def test_a_symbolic_link_is_refused_and_not_followed(tmp_path: Path) -> None:
    target = written(tmp_path, notebook(code()))
    link = tmp_path / "link.ipynb"
    link.symlink_to(target)
    assert "is a symbolic link" in refused(link)
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    assert "is a symbolic link" in refused(link)


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)
    assert "is missing" in refused(tmp_path / "other.ipynb")
    assert "is not a file name" in refused(tmp_path / "a\0b.ipynb")
    assert "cannot be opened" in refused(tmp_path / ("x" * 300))
    fifo = tmp_path / "fifo.ipynb"
    os.mkfifo(fifo)
    assert "is not a regular file" in refused(fifo)  # and does not wait for a writer
    assert "is not a regular file" in refused(Path("/dev/zero"))


def test_a_socket_is_no_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.ipynb")
        assert "is not a regular file" in refused(tmp_path / "s.ipynb")


def test_escape_codes_in_a_file_name_do_not_reach_the_terminal(tmp_path: Path) -> None:
    assert "?[31mred.ipynb is missing" in refused(tmp_path / "\x1b[31mred.ipynb")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any") / "any.ipynb"


def read_or_refused(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    try:
        cells = read_untrusted(path)
    except NotebookError as error:
        assert str(error).isprintable()  # noqa: PT017
    else:
        for cell in cells:
            cell.source.encode()
            names_of(cell.source)


@given(raw=st.binary(max_size=300))
def test_any_bytes_are_cells_or_a_notebook_error(place: Path, raw: bytes) -> None:
    read_or_refused(place, raw)


KEYS = ["nbformat", "cells", "cell_type", "source", "metadata", "nbgrader", "grade_id", "id", "x"]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["code", "raw"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=25,
)


@given(value=VALUES)
def test_any_json_is_cells_or_a_notebook_error(place: Path, value: Any) -> None:
    read_or_refused(place, json.dumps(value).encode())


@given(cells=VALUES, cut=st.integers(0, 60))
def test_any_cells_of_a_notebook_are_cells_or_a_notebook_error(place: Path, cells: Any, cut: int) -> None:
    text = json.dumps({"nbformat": 4, "metadata": cells, "cells": [cells, code(cells), code(metadata=cells)]})
    read_or_refused(place, text.encode())
    read_or_refused(place, text[:-cut].encode())


@given(source=st.text(alphabet="defclass fgh():=\n\"'\\%{}[]#@1-\0\ud800", max_size=60))
def test_names_are_looked_for_in_any_text_without_harm(source: str) -> None:
    names_of(source)
    exercise_of(source)


@pytest.mark.parametrize(
    ("source", "defined", "assigned"),
    [
        ("def f(): pass\nclass C: pass\nasync def g(): pass", "f C g", ""),
        ("x = y = 1\nz: int = 2\nw: int\na.b = 3\nf = lambda: 0", "", "x y z f"),
        ("if True:\n    def f(): pass", "", ""),
        ("%matplotlib inline\n!ls\ndef f(): pass", "f", ""),
        ("%%time\ndef f(): pass", "f", ""),
        ("%%writefile f.py\ndef f(): pass", "", ""),
        ("text = '''\ndef f(): pass\n'''", "", "text"),
        ("def f(x:\n  return x\nclass C(:\n    def g(): pass", "f C", ""),
        ('"\\d"\ndef f(): pass', "f", ""),
        ("def f(): pass\n" + "# long\n" * 5000, "f", ""),
        ("def f():\n  return " + "-" * 9_000 + "1", "f", ""),
        ("def f():\n  return a" + ".b" * 4_500, "f", ""),
        ("def f(): pass\0", "f", ""),
    ],
)  # fmt: skip
def test_the_names_that_a_cell_makes(source: str, defined: str, assigned: str) -> None:
    names = names_of(source)
    assert names.defined == set(defined.split())
    assert names.assigned == set(assigned.split())


@settings(max_examples=5)
@given(filler=st.sampled_from(["{a}", "(", "a;", "lambda:", "f('"]))
def test_hostile_code_is_looked_through_quickly(filler: str) -> None:
    began = time.perf_counter()
    names_of("def f():\n  f'" + filler * 60_000)
    names_of("def f():\n  f'" + filler * 5_000)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('check("causal_mask")', "causal_mask"),
        ("# look\nx = 1\ncheck('causal_mask')\n", "causal_mask"),
        ('check("a"); 1', None),
        ("check(name)", None),
        ("check(3)", None),
        ('check("a", "b")', None),
        ('check("a", strict=True)', None),
        ('other.check("a")', None),
        ("check(", None),
        ("", None),
    ],
)
def test_a_check_cell_names_its_exercise(source: str, expected: str | None) -> None:
    assert exercise_of(source) == expected


def test_reading_notebooks_imports_nothing_heavy() -> None:
    code = "import sys, proctor.notebook; print(*({'torch', 'numpy', 'nbgrader', 'nbformat'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
