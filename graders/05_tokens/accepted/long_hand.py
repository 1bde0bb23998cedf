"""Loops and dictionaries, step by step, as one writes it at first."""

import torch
from torch import nn

from scratch.pieces import ALPHABET, byte_ids, split_words


def replaced(ids, pair, new):
    out, skip = [], False
    for i in range(len(ids)):
        if skip:
            skip = False
        elif i + 1 < len(ids) and ids[i] == pair[0] and ids[i + 1] == pair[1]:
            out.append(new)
            skip = True
        else:
            out.append(ids[i])
    return out


def bpe_train(text, count):
    words = [byte_ids(word) for word in split_words(text)]  # every occurrence, one by one
    merges = []
    while len(merges) < count:
        counts = {}
        for word in words:
            for i in range(len(word) - 1):
                pair = word[i], word[i + 1]
                counts[pair] = counts.get(pair, 0) + 1
        best = None
        for pair in sorted(counts):
            if best is None or counts[pair] > counts[best]:
                best = pair
        if best is None:
            return merges
        for i, word in enumerate(words):
            words[i] = replaced(word, best, 256 + len(merges))
        merges.append(best)
    return merges


def bpe_encode(text, merges):
    out = []
    for word in split_words(text):
        ids = byte_ids(word)
        for i, pair in enumerate(merges):
            ids = replaced(ids, pair, 256 + i)
        out.extend(ids)
    return out


def bpe_decode(ids, merges):
    def spelled(i):
        if i < 0 or i >= 256 + len(merges):
            raise ValueError(f"no token {i}")
        if i < 256:
            return ALPHABET[i]
        left, right = merges[i - 256]
        return spelled(left) + spelled(right)

    data = bytearray()
    for i in ids:
        data += spelled(i)
    return data.decode("utf-8", "replace")


class Vocabulary:
    def __init__(self, sequences, min_count=1, max_size=None):
        special = ["<pad>", "<bos>", "<eos>", "<unk>"]
        counts = {}
        for sequence in sequences:
            for token in sequence:
                counts[token] = counts.get(token, 0) + 1
        words = []
        for token in sorted(counts):
            if token not in special and counts[token] >= min_count:
                words.append(token)
        words.sort(key=lambda token: counts[token], reverse=True)  # stable: the order of characters remains
        if max_size is not None:
            if max_size < 4:
                raise ValueError("too small")
            words = words[: max_size - 4]
        self.words = words
        self.tokens = special + words

    def __len__(self):
        return 4 + len(self.words)

    def encode(self, tokens, ends=False):
        ids = [1] if ends else []
        for token in tokens:
            ids.append(self.words.index(token) + 4 if token in self.words else 3)
        if ends:
            ids.append(2)
        return ids

    def decode(self, ids):
        out = []
        for i in ids:
            if i == 2:
                return out
            if i < 0 or i >= len(self):
                raise ValueError(i)
            if i == 3 or i > 3:
                out.append(self.tokens[i])
        return out


def pad_batch(sequences, pad=0, size=None):
    longest = 0
    for sequence in sequences:
        longest = max(longest, len(sequence))
    if size is None:
        size = longest
    if longest > size:
        raise ValueError("too long")
    ids = torch.zeros(len(sequences), size, dtype=torch.long)
    mask = torch.zeros(len(sequences), size, dtype=torch.bool)
    for b in range(len(sequences)):
        for t in range(size):
            real = t < len(sequences[b])
            ids[b, t] = sequences[b][t] if real else pad
            mask[b, t] = real
    return ids, mask


class Embedding(nn.Module):
    def __init__(self, vocabulary, d_model, padding_id=0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, d_model))
        nn.init.normal_(self.weight, std=d_model**-0.5)
        self.padding_id = padding_id
        if padding_id is not None:
            with torch.no_grad():
                self.weight[padding_id].zero_()

    def forward(self, ids):
        rows = []
        for i in ids.reshape(-1).tolist():
            if not 0 <= i < self.weight.shape[0]:
                raise IndexError(i)
            rows.append(self.weight[i].detach() if i == self.padding_id else self.weight[i])
        if not rows:
            return self.weight[ids]
        return torch.stack(rows).reshape(*ids.shape, self.weight.shape[1])
