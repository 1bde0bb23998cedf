"""The last cell of unit 16: the learner's parts and a published model search the course's own lessons."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scratch.data.cache import NotBuilt
from scratch.data.checkpoint import checkpoint_folder
from scratch.rewards import UNFINISHED, tried

NAMES = ("collate", "mean_pool")
LONGEST, SIZE, SHOWN = 96, 16, 5  # tokens of a passage, passages of a batch, passages to show


class Passage(NamedTuple):
    """A section of a lesson: where it stands, and its prose."""

    lesson: str
    section: str
    text: str


def lessons_folder(start: Path | None = None) -> Path | None:
    """The folder with the lesson notebooks: above where the notebook runs, or beside the library's source."""
    start = start or Path.cwd()
    for folder in (start, *start.parents, *Path(__file__).parents):
        if any((folder / "lessons").glob("[0-9][0-9]_*.ipynb")):
            return folder / "lessons"
    return None


def passages(folder: Path) -> list[Passage]:
    """The sections of all lessons, each with its prose: without code, tables and formulas set apart."""
    found = []
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        prose = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        prose = re.sub(r"```.*?```|\$\$.*?\$\$|^\|.*?$", "", prose, flags=re.DOTALL | re.MULTILINE)
        for section in re.split(r"^#{1,3} ", prose, flags=re.MULTILINE)[1:]:
            title, _, text = section.partition("\n")
            text = " ".join(re.sub(r"[*`$\\]", "", text).split())
            if len(text) > 100:
                found.append(Passage(path.stem.replace("_", " "), title.strip(), text))
    return found


@torch.no_grad()
def embed(texts: list[str], namespace: Mapping[str, Any], tokenizer: Any, model: Any) -> Float[Tensor, "N D"]:
    """Vectors of length one, by the learner's ``collate`` and ``mean_pool``."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors: dict[int, Tensor] = {}
    for start in range(0, len(order), SIZE):
        chosen = order[start : start + SIZE]
        rows = [
            {"input_ids": tokenizer(texts[i], truncation=True, max_length=LONGEST)["input_ids"]}
            for i in chosen
        ]
        batch = namespace["collate"](rows, tokenizer.pad_token_id)
        hidden = model(**batch).last_hidden_state  # (B, T, D)
        pooled = namespace["mean_pool"](hidden, batch["attention_mask"])  # (B, D)
        vectors |= dict(zip(chosen, F.normalize(pooled, dim=-1), strict=True))
    return torch.stack([vectors[i] for i in range(len(texts))])


def search_lessons(namespace: Mapping[str, Any], question: str) -> Any:
    """Print the passages of the course's lessons that lie nearest to a question.

    ``namespace`` is the notebook's ``globals()``. Where the lessons or the model are not at hand, it says so.
    """
    waits = next((name for name in NAMES if not callable(namespace.get(name))), None)
    folder = lessons_folder()
    if waits is None and folder is None:
        return print("This search waits for the lessons: no folder `lessons` lies above this notebook.")
    try:
        checkpoint = checkpoint_folder() if waits is None else None
    except NotBuilt:
        return print("This search waits for the published model. `make data` fetches it, once.")

    def use() -> tuple[list[Passage], Tensor]:
        from transformers import AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        # A try on two texts first, so that what does not work yet is told at once.
        model = AutoModel.from_pretrained(checkpoint).eval()
        embed(["one", "two words"], namespace, tokenizer, model)
        found = passages(folder)
        texts = [f"{p.section}. {p.text}" for p in found]
        return found, embed([question, *texts], namespace, tokenizer, model)

    result = tried(NAMES, namespace, use)
    if result is None:
        return None
    found, vectors = result
    if vectors.shape != (len(found) + 1, 384) or not vectors.isfinite().all():
        return print(UNFINISHED)
    near = vectors[1:] @ vectors[0]
    print(f"{len(found)} passages of {len({p.lesson for p in found})} lessons. {question}\n")
    for i in near.topk(min(SHOWN, len(found))).indices.tolist():
        passage = found[i]
        print(
            f"{near[i]:.2f}  {passage.lesson}, {passage.section}\n      {passage.text[:150].rsplit(' ', 1)[0]} …"
        )
    return None
