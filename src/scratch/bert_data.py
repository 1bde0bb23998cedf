"""Texts as BERT reads them: word pieces, [CLS] and [SEP], blocks of plays, batches of rated texts (unit 17).

The pieces are those of the published tokenizer of BERT, which comes with the checkpoint: 30,522, of which a small model
keeps those that its texts use. The ids of the special tokens are 0 to 4, in the order of ``SPECIALS``.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from scratch.data.plays import Play

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class WordPieces:
    """BERT's own tokenizer, with no more of its pieces than some texts use; ``tokens`` lists them."""

    def __init__(self, folder: Path, texts: Mapping[int, Sequence[str]]):
        """Read ``tokenizer.json`` from a folder, and keep what is frequent.

        Args:
            folder: of the published checkpoint.
            texts: for each number, texts in which a piece must stand so often to be kept.
        """
        os.environ.setdefault(
            "TOKENIZERS_PARALLELISM", "false"
        )  # or it warns where a notebook starts a process
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        kept = set()
        for least, some in texts.items():
            counts = Counter(piece for pieces in self.pieces(some) for piece in pieces)
            kept |= {piece for piece, count in counts.items() if count >= least}
        self.tokens = [*SPECIALS, *sorted(kept - set(SPECIALS))]
        self._ids = {token: i for i, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        """Return V, the number of tokens."""
        return len(self.tokens)

    def pieces(self, texts: Sequence[str]) -> list[list[str]]:
        """Cut texts into pieces: words in small letters; ``##`` marks what goes on within a word."""
        return [e.tokens for e in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without [CLS] and [SEP]; a piece that was not kept is [UNK]."""
        return [[self._ids.get(piece, UNK) for piece in pieces] for pieces in self.pieces(texts)]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens of ids."""
        return [self.tokens[i] for i in ids]


def scenes(plays: Iterable[Play]) -> list[str]:
    """Return what is spoken in each scene, as one text; a text never goes on from one scene to the next."""
    texts: dict[tuple[str, str, str], list[str]] = {}
    for play in plays:
        for speech in play.speeches:
            texts.setdefault((play.title, speech.act, speech.scene), []).extend(speech.lines)
    return [" ".join(lines) for lines in texts.values() if lines]


def blocks(sequences: Iterable[Sequence[int]], length: int) -> Int[Tensor, "N T"]:
    """Cut sequences into rows of T = ``length``, each from [CLS] to [SEP]; what is left at an end is dropped."""
    rows = []
    for sequence in sequences:
        for start in range(0, len(sequence) - length + 3, length - 2):
            rows.append([CLS, *sequence[start : start + length - 2], SEP])
    return torch.tensor(rows)


def ended(sequences: Iterable[Sequence[int]], longest: int) -> list[list[int]]:
    """Put each sequence between [CLS] and [SEP], cut off so that it is no longer than ``longest``."""
    return [[CLS, *sequence[: longest - 2], SEP] for sequence in sequences]


def similar_batches(
    ids: Int[Tensor, "N T"],
    mask: Bool[Tensor, "N T"],
    labels: Int[Tensor, " N"],
    size: int,
    seed: int | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Go through a data set once, in batches of texts of similar length, cut to the longest of the batch.

    Args:
        ids: N texts, padded on the right.
        mask: True where a real token stands.
        labels: (N,), handed on.
        size: of a batch.
        seed: shuffles the texts and the batches; None keeps the texts in order of their length.
    """
    lengths = mask.sum(1)
    random = torch.Generator().manual_seed(seed or 0)
    jitter = torch.rand(len(ids), generator=random) * (0 if seed is None else 4)
    order = (lengths + jitter).argsort(stable=True)
    groups = order.split(size)
    turn = range(len(groups)) if seed is None else torch.randperm(len(groups), generator=random).tolist()
    for i in turn:
        rows = groups[i]
        longest = int(lengths[rows].max())
        yield ids[rows, :longest], mask[rows, :longest], labels[rows]
