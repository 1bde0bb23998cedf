"""Words to be written back to front: made up, so that their length can be anything (unit 07)."""

import torch
from jaxtyping import Int
from torch import Tensor

PAD, BEGIN, END = 0, 1, 2
LETTERS = "abcdefghij"
SIZE = 3 + len(LETTERS)  # of the vocabulary: the special ids and the letters


def reversing(
    count: int, shortest: int, longest: int, seed: int
) -> tuple[Int[Tensor, "count S"], Int[Tensor, "count S"]]:
    """Return words of random letters, and the same words back to front.

    Args:
        count: how many.
        shortest: how many letters a word has at least; each length up to the longest is as likely.
        longest: how many letters it has at most.
        seed: the same seed makes the same words.

    Returns:
        source and target, (count, longest + 1) each: the letters' ids, END, and PAD.

    Raises:
        ValueError: unless 1 ≤ shortest ≤ longest.
    """
    if not 1 <= shortest <= longest:
        raise ValueError(f"lengths must rise from at least 1, got shortest={shortest}, longest={longest}")
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, longest + 1, (count, 1), generator=generator)
    letters = torch.randint(3, SIZE, (count, longest + 1), generator=generator)
    place = torch.arange(longest + 1)
    back = letters.gather(1, (lengths - 1 - place).clamp(min=0))
    source, target = (
        torch.where(place < lengths, ids, torch.where(place == lengths, END, PAD)) for ids in (letters, back)
    )
    return source, target


def spell(row: Int[Tensor, " T"]) -> str:
    """Write one row of ids as letters, up to its END; an id that is no letter shows as a dot."""
    text = ""
    for i in row.tolist():
        if i == END:
            break
        text += LETTERS[i - 3] if i > END else "."
    return text
