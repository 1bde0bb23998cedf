"""Unit 16 touches no network: with sockets refused, all that the exercise and its solution do works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
REFUSE = "from scratch.offline import refuse_network\nrefuse_network()\n"
# Whatever reaches for a socket that leads to another machine ends the process there and then.
GUARD = """
import os, socket, sys
def forbidden(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        print("a connection to", address); sys.stdout.flush(); os._exit(3)
socket.socket.connect = socket.socket.connect_ex = forbidden
def resolve(*args, **kwargs):
    print("the address of", args[0]); sys.stdout.flush(); os._exit(3)
socket.getaddrinfo = resolve
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=250, check=False
    )


def test_other_machines_are_refused_and_this_one_is_not() -> None:
    code = REFUSE + (
        "import socket\n"
        "calls = [lambda: socket.create_connection(('192.0.2.1', 80), 1)]\n"
        "calls += [lambda: socket.getaddrinfo('pypi.org', 443)]\n"
        "for call in calls:\n"
        "    try:\n        call()\n        raise SystemExit('not refused')\n"
        "    except OSError as error:\n        assert 'no network' in str(error)\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(server.getsockname(), 5).close()\n"
        "refuse_network()\n"
    )
    done = run(code)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lesson_refuses_the_network_before_it_imports_a_library() -> None:
    lesson = nbformat.read(ROOT / "lessons" / "16_hugging_face.ipynb", as_version=4)
    code = [cell.source for cell in lesson.cells if cell.cell_type == "code"]
    before, called, _ = code[0].partition("\nrefuse_network()")
    assert called
    assert before.strip() == "from scratch.offline import refuse_network"
    assert not any("push_to_hub(" in source or "login(" in source for source in code)


def test_the_solution_runs_with_sockets_refused() -> None:
    """The notebook's cells in order, and its functions in use: not even an attempt is made."""
    solution = nbformat.read(ROOT / "solutions" / "16_hugging_face" / "hugging_face.ipynb", as_version=4)
    skipped = ("check-", "reward")
    cells = [c.source for c in solution.cells if c.cell_type == "code" and not c.id.startswith(skipped)]
    use = """
tokenizer = train_tokenizer(["a small text", "another text"] * 9, 40)
rows = [{**tokenizer(text), "labels": i % 2} for i, text in enumerate(["a text", "small", "another", "a small text"])]
batches = [collate(rows[:2], 0), collate(rows[2:], 0)]
sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
config = transformers.BertConfig(vocab_size=40, **sizes)
model = transformers.BertForSequenceClassification(config)
history = fine_tune(model, batches, batches, epochs=1, lr=1e-3)
assert 0 <= history[0]["accuracy"] <= 1
body = transformers.BertModel(config)
batch = {k: v for k, v in batches[0].items() if k != "labels"}
assert mean_pool(body(**batch).last_hidden_state, batch["attention_mask"]).shape == (2, 8)
"""
    done = run(GUARD + "\n".join(cells) + use)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
