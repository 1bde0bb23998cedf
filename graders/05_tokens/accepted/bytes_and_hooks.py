"""Tokens as bytes until the end, tensors by PyTorch's own tools, and a hook on the padding's gradient."""

from collections import Counter
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from scratch.pieces import ALPHABET, BOS, EOS, PAD, SPECIALS, UNK, split_words

NUMBER = {token: i for i, token in enumerate(ALPHABET)}


def bpe_train(text, count):
    counts = Counter(split_words(text))
    words = {w: [(bytes([b]), NUMBER[bytes([b])]) for b in w.encode()] for w in counts}
    merges = []
    for i in range(count):
        seen = Counter()
        for w, parts in words.items():
            for (_, left), (_, right) in pairwise(parts):
                seen[left, right] += counts[w]
        if len(seen) == 0:
            break
        top = max(seen.values())
        pair = min(p for p, n in seen.items() if n == top)
        merges.append(pair)
        for parts in words.values():
            j = 0
            while j < len(parts) - 1:
                if (parts[j][1], parts[j + 1][1]) == pair:
                    parts[j : j + 2] = [(parts[j][0] + parts[j + 1][0], 256 + i)]
                j += 1
    return merges


def bpe_encode(text, merges):
    ids = []
    for word in split_words(text):
        parts = [NUMBER[word.encode()[j : j + 1]] for j in range(len(word.encode()))]
        for i, (left, right) in enumerate(merges):
            j = 0
            while j + 1 < len(parts):
                if parts[j] == left and parts[j + 1] == right:
                    parts[j : j + 2] = [256 + i]
                j += 1
        ids = ids + parts
    return ids


def bpe_decode(ids, merges):
    tokens = [*ALPHABET]
    tokens.extend(b"" for _ in merges)
    for i, pair in enumerate(merges):
        tokens[256 + i] = b"".join(tokens[half] for half in pair)
    if any(i not in range(len(tokens)) for i in ids):
        raise ValueError("an id without a token")
    return str(b"".join(tokens[i] for i in ids), "utf-8", "replace")


class Vocabulary:
    def __init__(self, sequences, min_count=1, max_size=None):
        if max_size is not None and max_size - 4 < 0:
            raise ValueError("max_size is too small")
        counter = Counter()
        for sequence in sequences:
            counter.update(sequence)
        for name in SPECIALS:
            del counter[name]
        kept = [token for token, n in sorted(sorted(counter.items()), key=lambda x: -x[1]) if n >= min_count]
        self.tokens = list(SPECIALS) + (kept if max_size is None else kept[: max_size - 4])
        self.stoi = {token: i for i, token in enumerate(self.tokens)}

    def __len__(self):
        return len(self.tokens)

    def encode(self, tokens, ends=False):
        ids = [UNK if token in SPECIALS else self.stoi.get(token, UNK) for token in tokens]
        return [BOS, *ids, EOS] if ends else ids

    def decode(self, ids):
        def up_to_the_end():
            for i in ids:
                if i == EOS:
                    return
                if i < 0 or i > len(self.tokens) - 1:
                    raise ValueError(f"{i}")
                yield i

        return [self.tokens[i] for i in up_to_the_end() if i != PAD and i != BOS]


def pad_batch(sequences, pad=0, size=None):
    rows = [torch.as_tensor(list(sequence), dtype=torch.int64) for sequence in sequences]
    T = max([len(row) for row in rows] + [0]) if size is None else size
    if any(len(row) > T for row in rows):
        raise ValueError(f"longer than {T}")
    if not rows:
        return torch.empty(0, T, dtype=torch.int64), torch.empty(0, T, dtype=torch.bool)
    ids = torch.stack([F.pad(row, (0, T - len(row)), value=pad) for row in rows])
    mask = torch.stack([torch.arange(T).lt(len(row)) for row in rows])
    return ids, mask


class Embedding(nn.Module):
    def __init__(self, vocabulary, d_model, padding_id=0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vocabulary, d_model).mul(d_model**-0.5))
        self.padding_id = padding_id
        if padding_id is not None:
            self.weight.data[padding_id].fill_(0.0)

            def keep(gradient):
                gradient = gradient.clone()
                gradient[padding_id] = 0
                return gradient

            self.weight.register_hook(keep)

    def forward(self, ids):
        if torch.any(ids < 0) or torch.any(ids >= self.weight.size(0)):
            raise IndexError("an id without a row")
        flat = torch.index_select(self.weight, 0, ids.flatten())
        return flat.reshape((*ids.shape, self.weight.size(1)))
