"""Texts as BERT reads them: blocks and batches hold what they should, the vocabulary keeps what is frequent."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch.bert_data import (
    CLS,
    MASK,
    PAD,
    SEP,
    SPECIALS,
    UNK,
    WordPieces,
    blocks,
    ended,
    scenes,
    similar_batches,
)
from scratch.data.cache import NotBuilt
from scratch.data.checkpoint import checkpoint_folder
from scratch.data.plays import Play, Speech
from scratch.tokens import pad_batch

try:
    folder, why = checkpoint_folder(), ""
except NotBuilt as error:
    folder, why = None, str(error)
needs_checkpoint = pytest.mark.skipif(folder is None, reason=why)

rows = st.lists(st.lists(st.integers(5, 99), min_size=0, max_size=40), min_size=1, max_size=6)


def test_special_tokens_have_the_ids_of_their_places():
    assert [SPECIALS[i] for i in (PAD, UNK, CLS, SEP, MASK)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@given(rows, st.integers(3, 12))
def test_blocks_are_full_and_in_order_and_never_run_on_into_the_next_text(texts, length):
    texts = [*texts, [7] * 40]
    found = blocks(texts, length)
    assert found.shape[1] == length
    assert found[:, 0].eq(CLS).all()
    assert found[:, -1].eq(SEP).all()
    inner = length - 2
    expected = [text[i : i + inner] for text in texts for i in range(0, len(text) // inner * inner, inner)]
    assert found[:, 1:-1].tolist() == expected


@given(rows, st.integers(2, 12))
def test_a_text_is_cut_off_before_its_end(texts, longest):
    for text, found in zip(texts, ended(texts, longest), strict=True):
        assert found == [CLS, *text[: longest - 2], SEP]
        assert len(found) <= longest


@settings(deadline=None)
@given(rows, st.integers(1, 4), st.none() | st.integers(0, 99))
def test_each_text_is_in_one_batch_with_its_label_and_no_batch_is_longer_than_its_longest(texts, size, seed):
    ids, mask = pad_batch(ended(texts, 40))
    seen = []
    for batch, real, labels in similar_batches(ids, mask, torch.arange(len(ids)), size, seed):
        assert len(batch) <= size
        assert real.any(0).all()
        for row, kept, label in zip(batch, real, labels.tolist(), strict=True):
            seen.append(label)
            assert row[kept].tolist() == ids[label][mask[label]].tolist()
    assert sorted(seen) == list(range(len(ids)))


def test_another_seed_is_another_order():
    ids, mask = pad_batch([[5] * n for n in range(1, 60)])
    orders = [
        [y.tolist() for *_, y in similar_batches(ids, mask, torch.arange(59), 4, seed)] for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]


def test_a_scene_is_one_text():
    speeches = (
        Speech("ACT I", "SCENE I", "A", ("Who's there?",)),
        Speech("ACT I", "SCENE I", "B", ("Nay, answer me:", "stand.")),
        Speech("ACT I", "SCENE II", "A", ()),
        Speech("ACT II", "SCENE I", "A", ("Good night.",)),
    )
    assert scenes([Play("H", "tragedies", speeches)]) == [
        "Who's there? Nay, answer me: stand.",
        "Good night.",
    ]


@needs_checkpoint
def test_frequent_pieces_are_kept_and_others_are_unknown():
    pieces = WordPieces(folder, {2: ["the cat and the dog", "The dog?"], 1: ["unfolding"]})
    assert pieces.tokens[:5] == list(SPECIALS)
    assert {"the", "dog", "un", "##folding"} <= set(pieces.tokens)
    assert "cat" not in pieces.tokens
    assert len(pieces) == len(pieces.tokens) == 9
    (ids,) = pieces.encode(["The cat"])
    assert pieces.decode(ids) == ["the", "[UNK]"]
