"""The published checkpoint: the very weights, and a model that loads without a network."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scratch.data import cache
from scratch.data.checkpoint import WEIGHTS, WEIGHTS_SHA256, build, checkpoint_folder
from scratch.data.manifest import manifest

needs_data = pytest.mark.skipif(
    not cache.is_whole(manifest().sets["checkpoint"]), reason="'checkpoint' is not built: `make data`"
)
SCRIPT = """
import sys, torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging
logging.disable_progress_bar()
model, tokenizer = (kind.from_pretrained(sys.argv[1]) for kind in (AutoModel, AutoTokenizer))
texts = ["A man is eating food.", "A man eats something.", "The market fell sharply."]
inputs = tokenizer(texts, padding=True, return_tensors="pt")
with torch.no_grad():
    states = model.eval()(**inputs).last_hidden_state
mask = inputs["attention_mask"][..., None]
means = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
print(type(model).__name__, sum(p.numel() for p in model.parameters()), len(tokenizer))
print(*(means[0] @ means[1:].T).tolist())
"""


def test_other_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(cache.DataError, match="published weights"):
        build({"p": {"model/model.safetensors": b"other weights", "model/config.json": b"{}"}}, tmp_path)


def test_without_data_it_says_make_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))
    with pytest.raises(cache.NotBuilt, match="`make data`"):
        checkpoint_folder()


@needs_data
def test_the_weights_are_the_published_ones() -> None:
    with (checkpoint_folder() / WEIGHTS).open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == WEIGHTS_SHA256
    assert WEIGHTS_SHA256.startswith("53aa51172d142c89")


@needs_data
def test_a_bert_loads_without_a_network_and_knows_what_is_alike() -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(checkpoint_folder())],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "BertModel 22713216 30522"
    paraphrase, unrelated = map(float, second.split())
    assert paraphrase > 0.8
    assert abs(unrelated) < 0.1
