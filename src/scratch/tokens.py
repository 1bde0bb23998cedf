"""Tokens: byte-pair encoding, vocabularies with special tokens, and batches with masks (unit 05).

Symbols: B sequences in a batch, T the length that they are padded to. The first 256 tokens of byte-pair encoding are
the bytes, in the order of ``scratch.pieces.ALPHABET``; what the merges add comes after them.

Paper: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units", 2016, section 3.2;
on bytes as in Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.2.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from scratch.pieces import ALPHABET, BOS, EOS, PAD, SPECIALS, UNK, Pair, byte_ids, merge_pair, split_words

__all__ = [
    "ALPHABET",
    "BOS",
    "EOS",
    "PAD",
    "SPECIALS",
    "UNK",
    "Pair",
    "Vocabulary",
    "bpe_decode",
    "bpe_encode",
    "bpe_train",
    "byte_ids",
    "merge_pair",
    "pad_batch",
    "split_words",
]


def bpe_train(text: str, count: int) -> list[Pair]:
    """Learn up to ``count`` merges from a text: again and again, make one token of the most frequent pair.

    A pair is two neighbouring tokens of one word. It counts once for each place where it stands (twice in a, a, a),
    and as often as the word occurs. Merge number i (from 0) makes the token with the id 256 + i wherever the pair
    stands, as ``merge_pair`` does, and then pairs are counted anew.

    Args:
        text: what to learn from. ``split_words`` cuts it into words, whose first tokens are ``byte_ids``.
        count: the number of merges to learn.

    Returns:
        The pairs of ids in the order in which they were merged. They are fewer than ``count`` if every word has
        become a single token. Of pairs that are equally frequent the smallest comes first, as tuples compare:
        (5, 9) before (5, 12) before (6, 1).

    Source: Sennrich et al., 2016, section 3.2, algorithm 1; ties as in the library ``tokenizers``.
    """
    words = {tuple(byte_ids(word)): n for word, n in Counter(split_words(text)).items()}
    merges: list[Pair] = []
    for new in range(256, 256 + count):
        pairs: Counter[Pair] = Counter()
        for ids, n in words.items():
            for pair in pairwise(ids):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {tuple(merge_pair(ids, best, new)): n for ids, n in words.items()}
    return merges


def bpe_encode(text: str, merges: Sequence[Pair]) -> list[int]:
    """Turn a text into ids: cut it into words and bytes, then merge as was learned, the earliest merge first.

    Args:
        text: any text, also with characters that were never learned from.
        merges: as ``bpe_train`` returns them: merge number i makes the token 256 + i.

    Returns:
        The ids of the whole text, one word after the other; no ids for an empty text.

    Source: Sennrich et al., 2016, section 3.2.
    """
    rank = {pair: i for i, pair in enumerate(merges)}
    known: dict[str, list[int]] = {}
    for word in set(split_words(text)):
        ids = byte_ids(word)
        while found := [rank[pair] for pair in pairwise(ids) if pair in rank]:
            first = min(found)
            ids = merge_pair(ids, merges[first], 256 + first)
        known[word] = ids
    return [i for word in split_words(text) for i in known[word]]


def bpe_decode(ids: Iterable[int], merges: Sequence[Pair]) -> str:
    """Turn ids back into the text that they stand for.

    Args:
        ids: as ``bpe_encode`` returns them, or any others, such as those that a model has written.
        merges: the merges that the ids were made with.

    Returns:
        The text. Tokens are bytes, and one character may be spread over several of them; what is no valid UTF-8
        in the end becomes the character U+FFFD, as ``bytes.decode`` with ``errors="replace"`` has it.

    Raises:
        ValueError: an id is negative, or no token has it.
    """
    tokens = list(ALPHABET)
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    parts = []
    for i in ids:
        if not 0 <= i < len(tokens):
            raise ValueError(f"there is no token {i}: ids lie between 0 and {len(tokens) - 1}")
        parts.append(tokens[i])
    return b"".join(parts).decode("utf-8", errors="replace")


class Vocabulary:
    """The tokens that a model knows, each with an id: its place in the list ``tokens``.

    The first four are special: ``SPECIALS``, with the ids PAD = 0, BOS = 1, EOS = 2, UNK = 3. They stand for
    padding, the beginning, the end, and whatever the vocabulary does not know, and come from no text: what is only
    spelled like one of them there, such as ``"<pad>"``, is unknown. The list ``tokens`` is part of the contract.
    """

    def __init__(self, sequences: Iterable[Sequence[str]], min_count: int = 1, max_size: int | None = None):
        """Count the tokens of all sequences, and keep the most frequent.

        Args:
            sequences: what to count: lists of words, or texts, whose characters are then the tokens.
            min_count: a token is kept if it comes at least so many times, in all sequences together.
            max_size: the most tokens that there may be, the special ones included; None for no limit.

        The kept ones follow the special tokens: the most frequent first, equally frequent ones in the order of
        their characters (as ``sorted`` has it).

        Raises:
            ValueError: max_size has no room for the special tokens.
        """
        if max_size is not None and max_size < len(SPECIALS):
            raise ValueError(f"max_size={max_size} has no room for the {len(SPECIALS)} special tokens")
        counts = Counter(token for sequence in sequences for token in sequence if token not in SPECIALS)
        kept = [token for token in counts if counts[token] >= min_count]
        self.tokens = [*SPECIALS, *sorted(kept, key=lambda token: (-counts[token], token))][:max_size]
        self._ids = {token: i for i, token in enumerate(self.tokens) if i >= len(SPECIALS)}

    def __len__(self) -> int:
        """Return the number of tokens, the special ones included: the V of the model."""
        return len(self.tokens)

    def encode(self, tokens: Iterable[str], ends: bool = False) -> list[int]:
        """Return the id of each token, UNK for those that are not known; with ``ends``, BOS before and EOS after."""
        ids = [self._ids.get(token, UNK) for token in tokens]
        return [BOS, *ids, EOS] if ends else ids

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens of a sequence: those before the first EOS, without PAD and BOS. UNK shows as "<unk>".

        Raises:
            ValueError: an id before the first EOS is negative, or no token has it.
        """
        tokens = []
        for i in ids:
            if i == EOS:
                break
            if not 0 <= i < len(self.tokens):
                raise ValueError(f"there is no token {i}: ids lie between 0 and {len(self.tokens) - 1}")
            if i not in (PAD, BOS):
                tokens.append(self.tokens[i])
        return tokens


def pad_batch(
    sequences: Sequence[Sequence[int]], pad: int = PAD, size: int | None = None
) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """Make one tensor of sequences of different lengths, padded on the right, and say what in it is real.

    Args:
        sequences: B ≥ 1 lists of ids; some may be empty.
        pad: the id to fill up with. It may also be the id of a real token.
        size: T, the length to pad to; None for the length of the longest sequence.

    Returns:
        The ids (B, T), of dtype int64, and the mask (B, T), boolean: True where a real token stands, which may be
        attended to, False where there is padding.

    Raises:
        ValueError: a sequence is longer than size.
    """
    lengths = [len(sequence) for sequence in sequences]
    longest = max(lengths)
    size = longest if size is None else size
    if longest > size:
        raise ValueError(f"a sequence of length {longest} does not fit into size={size}")
    ids = torch.full((len(sequences), size), pad)  # (B, T)
    for b, sequence in enumerate(sequences):
        ids[b, : lengths[b]] = torch.tensor(sequence)
    return ids, torch.arange(size) < torch.tensor(lengths)[:, None]  # (T,) < (B, 1) -> (B, T)
