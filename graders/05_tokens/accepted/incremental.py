"""Counts kept up to date from merge to merge, a heap of merges for each word, and one-hot rows times the table."""

import heapq
from collections import Counter, defaultdict
from itertools import chain, groupby, pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from scratch.pieces import ALPHABET, BOS, EOS, PAD, SPECIALS, UNK, byte_ids, merge_pair, split_words


def bpe_train(text, count):
    words = [[byte_ids(word), n] for word, n in Counter(split_words(text)).items()]
    counts, places = Counter(), defaultdict(set)

    def enter(w, sign):
        ids, n = words[w]
        for pair in pairwise(ids):
            counts[pair] += sign * n
            places[pair].add(w)

    for w in range(len(words)):
        enter(w, 1)
    merges = []
    for new in range(256, 256 + count):
        best = max(counts, key=lambda pair: (counts[pair], -pair[0], -pair[1]), default=None)
        if best is None or counts[best] == 0:
            break
        for w in list(places[best]):
            enter(w, -1)
            words[w][0] = merge_pair(words[w][0], best, new)
            enter(w, 1)
        merges.append(list(best))
    return merges


def bpe_encode(text, merges):
    rank = {tuple(pair): i for i, pair in enumerate(merges)}

    def of_word(word):
        ids = list(byte_ids(word))
        heap = [(rank[p], i) for i, p in enumerate(pairwise(ids)) if p in rank]
        heapq.heapify(heap)
        while heap:
            r, _ = heapq.heappop(heap)
            ids = merge_pair(ids, merges[r], 256 + r)
            heap = [(rank[p], i) for i, p in enumerate(pairwise(ids)) if p in rank]
            heapq.heapify(heap)
        return ids

    return list(chain.from_iterable(map(of_word, split_words(text))))


def bpe_decode(ids, merges):
    table = dict(enumerate(ALPHABET))
    for i, (left, right) in enumerate(merges, start=256):
        table[i] = table[left] + table[right]
    try:
        data = b"".join([table[i] for i in ids])
    except KeyError as error:
        raise ValueError(f"no token {error}") from None
    return data.decode(errors="replace")


class Vocabulary:
    def __init__(self, sequences, min_count=1, max_size=None):
        if max_size is not None and max_size < len(SPECIALS):
            raise ValueError("no room")
        flat = sorted(token for token in chain.from_iterable(sequences) if token not in set(SPECIALS))
        counts = [(token, len(list(group))) for token, group in groupby(flat)]
        kept = sorted((-n, token) for token, n in counts if n >= min_count)
        self.tokens = list(SPECIALS)
        for _, token in kept:
            if len(self.tokens) == max_size:
                break
            self.tokens.append(token)
        self.index = dict(zip(self.tokens[4:], range(4, len(self.tokens)), strict=True))

    def __len__(self):
        return len(self.index) + len(SPECIALS)

    def encode(self, tokens, ends=False):
        ids = [self.index.get(token, UNK) for token in tokens]
        return [BOS] * ends + ids + [EOS] * ends

    def decode(self, ids):
        ids = list(ids)
        if EOS in ids:
            ids = ids[: ids.index(EOS)]
        if any(i < 0 or i >= len(self) for i in ids):
            raise ValueError("no such token")
        return [self.tokens[i] for i in ids if i not in {PAD, BOS}]


def pad_batch(sequences, pad=0, size=None):
    lengths = np.array([len(sequence) for sequence in sequences], dtype=int)
    width = int(lengths.max(initial=0)) if size is None else size
    if (lengths > width).any():
        raise ValueError("a sequence is too long")
    mask = np.arange(width) < lengths[:, None]
    ids = np.full(mask.shape, pad)
    ids[mask] = list(chain.from_iterable(sequences))
    return torch.from_numpy(ids), torch.from_numpy(mask)


class Embedding(nn.Module):
    def __init__(self, vocabulary, d_model, padding_id=0):
        super().__init__()
        real = torch.ones(vocabulary, 1)
        if padding_id is not None:
            real[padding_id] = 0
        self.register_buffer("real", real)
        self.weight = nn.Parameter(torch.normal(0.0, d_model**-0.5, (vocabulary, d_model)) * real)

    def forward(self, ids):
        V = self.weight.shape[0]
        if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= V):
            raise IndexError("no such row")
        return F.one_hot(ids, V).to(self.weight.dtype) @ (self.weight * self.real)
