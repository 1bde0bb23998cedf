"""The last cell of unit 17: the learner's BERT holds published weights, gives their numbers, and finds an answer."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scratch.data.cache import DataError
from scratch.data.checkpoint import WEIGHTS, checkpoint_folder
from scratch.rewards import UNFINISHED, tried

NAMES = ("mask_tokens", "BertEmbeddings", "BertModel", "load_pretrained", "SequenceClassifier")
NEEDED = ("BertEmbeddings", "BertModel", "load_pretrained")
CLOSE = 1e-4
QUESTION = "Why can a decoder not look into the future?"
SENTENCES = (
    "BERT reads a text in both directions at once.",
    "A causal mask hides later words from a decoder.",
    "The plays of Shakespeare were written more than four hundred years ago.",
    "Dropout sets some entries to zero during training.",
    "The learning rate rises during warm-up and then decays.",
    "Each word of a text is cut into pieces before it is read.",
    "Attention is a weighted average of values.",
    "My dog chased the ball across the park.",
)


def sizes(config: Mapping[str, Any]) -> dict[str, int]:
    """The arguments of ``BertModel`` for a published ``config.json``."""
    return {
        "vocabulary": config["vocab_size"],
        "d_model": config["hidden_size"],
        "heads": config["num_attention_heads"],
        "d_ff": config["intermediate_size"],
        "layers": config["num_hidden_layers"],
        "max_length": config["max_position_embeddings"],
        "segments": config["type_vocab_size"],
    }


def from_folder(folder: Path, model: Any, load: Any) -> tuple[nn.Module, list[str]]:
    """A model of the class ``model``, filled by ``load`` from a published folder; and what ``load`` returns."""
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text("utf-8"))
    bert = model(**sizes(config))
    left = load(bert, load_file(folder / WEIGHTS))
    return bert.eval(), left


def published(folder: Path) -> tuple[Any, Any]:
    """The tokenizer and the model of the library ``transformers`` from a folder, without a word on the screen."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return tokenizer, AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()


def mean_vectors(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean over the real tokens of each text, of length one: (B, T, D) and (B, T) -> (B, D)."""
    weight = mask[..., None].to(hidden.dtype)
    return nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)


@torch.no_grad()
def _compared(namespace: Mapping[str, Any], folder: Path) -> tuple[int, float, float, list[float]]:
    """Parameters, the largest differences of hidden states and of pooled rows, the similarities to the question."""
    with torch.random.fork_rng(devices=[]):  # the notebook's own random numbers go on as before
        bert, _ = from_folder(folder, namespace["BertModel"], namespace["load_pretrained"])
    tokenizer, theirs = published(folder)
    batch = tokenizer([QUESTION, *SENTENCES], padding=True, return_tensors="pt")
    mask = batch["attention_mask"]
    hidden = bert(batch["input_ids"], batch["token_type_ids"], mask)  # (B, T, D)
    judge = theirs(**batch)
    off = (hidden - judge.last_hidden_state)[mask.bool()].abs().max().item()
    pooled = (bert.pool(hidden) - judge.pooler_output).abs().max().item()
    vectors = mean_vectors(hidden, mask)  # (B, D)
    count = sum(parameter.numel() for parameter in bert.parameters())
    return count, off, pooled, (vectors[1:] @ vectors[0]).tolist()


def published_numbers(namespace: Mapping[str, Any]) -> Any:
    """Load the published checkpoint into the learner's BERT, hold it against ``transformers``, answer a question.

    ``namespace`` is the notebook's ``globals()``.
    """
    try:
        folder = checkpoint_folder()
    except DataError as error:
        return print(f"This picture needs published weights: {error}.")
    found = tried(NEEDED, namespace, lambda: _compared(namespace, folder))
    if found is None:
        return None
    count, off, pooled, alike = found
    if not max(off, pooled) <= CLOSE:  # not-a-number is no match either
        gap = f"by up to {off:.1e} (hidden states) and {pooled:.1e} (pooled rows)"
        return print(f"{UNFINISHED} Your numbers differ from those of transformers, {gap}.")

    from scratch.bert_plots import bars

    print(f"Your BertModel holds {count:,} published weights (all-MiniLM-L6-v2).")
    print(f"{1 + len(SENTENCES)} sentences in one padded batch, yours against transformers:")
    print(f"  hidden states differ by less than {CLOSE:.0e}: yes")
    print(f"  pooled rows differ by less than {CLOSE:.0e}:   yes")
    print(f"Question: {QUESTION}")
    order = sorted(range(len(alike)), key=lambda i: -alike[i])
    print(f"Nearest:  {SENTENCES[order[0]]}")
    ranked = {_short(SENTENCES[i]): alike[i] for i in order}
    return bars(
        ranked,
        "cosine with the question",
        strong=[_short(SENTENCES[order[0]])],
        left=min(0.0, min(alike) - 0.1),
    )


def _short(text: str, room: int = 58) -> str:
    return text if len(text) <= room else f"{text[: room - 1].rsplit(' ', 1)[0]} …"
