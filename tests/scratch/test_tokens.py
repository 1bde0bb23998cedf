"""Properties of ``scratch.tokens``, judged by the library ``tokenizers``, by a slow loop, and by round trips."""

import json
import os
import string
from collections import Counter
from itertools import pairwise

import pytest
import torch
from babel import Locale
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from scratch.pieces import PATTERN
from scratch.tokens import (
    ALPHABET,
    BOS,
    EOS,
    PAD,
    SPECIALS,
    UNK,
    Vocabulary,
    bpe_decode,
    bpe_encode,
    bpe_train,
    byte_ids,
    merge_pair,
    pad_batch,
    split_words,
)

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
quick = settings(max_examples=60, deadline=None)
texts = st.text(max_size=40)
repeated = st.lists(
    st.sampled_from(["low", "lower", " lowest", " new", "er", "é", "日本", " ", "\n", "12", "--"]),
    max_size=40,
)
corpora = st.one_of(texts, repeated.map("".join), st.text("ab ", max_size=40), st.text("aé日", max_size=30))
numbers = st.lists(st.integers(0, 20), max_size=6)


def names(locale):
    """What a language calls languages, countries and currencies: the text of the lesson."""
    known = Locale(locale)
    return "\n".join([*known.languages.values(), *known.territories.values(), *known.currencies.values()])


def library(text, count, specials=()):
    """The library's own tokenizer, trained on the same words: byte-level byte-pair encoding."""
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    theirs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(specials) + 256 + count,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(specials),
        show_progress=False,
    )
    theirs.train_from_iterator([text], trainer)
    return theirs


def merges_of(theirs):
    """The library's merges, as pairs of its ids."""
    model = json.loads(theirs.to_str())["model"]
    return [(model["vocab"][left], model["vocab"][right]) for left, right in model["merges"]]


def tokens_of(merges):
    """The bytes of every token, in order of the ids."""
    tokens = list(ALPHABET)
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return tokens


class TestPieces:
    def test_bytes_have_the_ids_that_gpt2_gave_them(self):
        # The library sorts the characters that stand for bytes; GPT-2's file lists the same order.
        theirs = library("", 0).get_vocab()
        assert [theirs[token] for token in sorted(theirs, key=theirs.get)] == list(range(256))
        for i in range(256):
            assert library("", 0).decode([i]) == ALPHABET[i].decode("utf-8", errors="replace")

    @quick
    @given(texts)
    def test_words_are_cut_as_the_library_cuts_by_the_same_rule(self, text):
        parts = pre_tokenizers.Split(Regex(PATTERN), "isolated").pre_tokenize_str(text)
        assert split_words(text) == [part for part, _ in parts]
        assert "".join(split_words(text)) == text

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("low lower", ["low", " lower"]),
            ("In 2024, yes!", ["In", " 2024", ",", " yes", "!"]),
            ("a  b\n\n c", ["a", " ", " b", "\n\n", " c"]),
            ("São Tomé – “ilhas”", ["São", " Tomé", " –", " “", "ilhas", "”"]),
            ("x_y ", ["x", "_", "y", " "]),
        ],
    )
    def test_words(self, text, words):
        assert split_words(text) == words

    @pytest.mark.parametrize("locale", ["en", "pt", "de", "ru"])
    def test_words_of_names_are_nearly_those_of_gpt2(self, locale):
        text = names(locale)
        theirs = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
        ends = {end for _, (_, end) in theirs}
        ours, at = set(), 0
        for word in split_words(text):
            at += len(word)
            ours.add(at)
        assert len(ends ^ ours) < 0.01 * len(ends)

    @quick
    @given(texts)
    def test_bytes_are_those_of_utf8(self, text):
        assert b"".join(ALPHABET[i] for i in byte_ids(text)) == text.encode()

    @quick
    @given(st.lists(st.integers(0, 3), max_size=12))
    def test_a_merge_replaces_as_text_is_replaced(self, ids):
        letters = "".join("abcd"[i] for i in ids)
        for pair in [(0, 1), (2, 2)]:
            new = letters.replace("".join("abcd"[i] for i in pair), "e")
            assert merge_pair(ids, pair, 4) == ["abcde".index(letter) for letter in new]
            assert merge_pair(tuple(ids), pair, 4) == merge_pair(ids, pair, 4)


class TestAgainstTheLibrary:
    @settings(max_examples=150, deadline=None)
    @given(corpora, st.integers(0, 40))
    def test_merges_and_ids_are_the_librarys(self, text, count):
        ours = bpe_train(text, count)
        theirs = library(text, len(ours))
        assert merges_of(theirs) == ours
        assert theirs.encode(text).ids == bpe_encode(text, ours)

    @quick
    @given(repeated.map("".join), texts)
    def test_ids_of_another_text_are_the_librarys(self, text, other):
        ours = bpe_train(text, 20)
        theirs = library(text, len(ours))
        for read in (other, text + other):
            ids = bpe_encode(read, ours)
            assert theirs.encode(read).ids == ids
            assert theirs.decode(ids) == bpe_decode(ids, ours) == read

    @pytest.mark.parametrize("locale", ["en", "pt", "de", "ru", "hi", "ja", "ar"])
    def test_on_the_names_that_a_language_gives(self, locale):
        text = names(locale)
        ours = bpe_train(text, 300)
        assert len(ours) == 300
        theirs = library(text, 300)
        assert merges_of(theirs) == ours
        for read in ("en", "pt", locale):
            assert theirs.encode(names(read)).ids == bpe_encode(names(read), ours)

    def test_special_tokens_move_all_ids_up(self):
        text = names("en")
        theirs = library(text, 100, SPECIALS)
        ours = bpe_train(text, 100)
        assert [i + len(SPECIALS) for i in bpe_encode(text, ours)] == theirs.encode(text).ids
        assert [theirs.token_to_id(name) for name in SPECIALS] == [PAD, BOS, EOS, UNK]

    @quick
    @given(corpora, st.lists(st.integers(0, 259), max_size=20))
    def test_any_ids_are_decoded_as_by_the_library(self, text, ids):
        ours = bpe_train(text, 4)
        ids = [i for i in ids if i < 256 + len(ours)]
        assert bpe_decode(ids, ours) == library(text, len(ours)).decode(ids)


class TestTraining:
    @quick
    @given(corpora)
    def test_each_merge_is_the_most_frequent_pair_and_of_these_the_smallest(self, text):
        words = [byte_ids(word) for word in split_words(text)]
        for i, best in enumerate(bpe_train(text, 12)):
            counts = Counter(pair for ids in words for pair in pairwise(ids))
            most = max(counts.values())
            assert best == min(pair for pair in counts if counts[pair] == most)
            words = [merge_pair(ids, best, 256 + i) for ids in words]

    @quick
    @given(st.one_of(corpora, st.text("a", max_size=40), st.text("ab", max_size=80)))
    def test_no_token_arises_in_two_ways(self, text):
        # Where a token has its ends, no merge has crossed them: what went on between them depends on its bytes alone.
        # So an id and its bytes are one and the same, and the library, which keeps tokens by their bytes, agrees.
        tokens = tokens_of(bpe_train(text, 60))
        assert len(set(tokens)) == len(tokens)

    @quick
    @given(corpora, st.integers(0, 8), st.integers(0, 8))
    def test_fewer_merges_are_the_first_of_more(self, text, few, more):
        assert bpe_train(text, few + more)[:few] == bpe_train(text, few)

    @quick
    @given(st.one_of(st.text(max_size=12), st.text("ab ", max_size=12)))
    def test_it_ends_where_every_word_is_one_token(self, text):
        merges = bpe_train(text, 10_000)
        assert len(bpe_encode(text, merges)) == len(split_words(text))

    def test_ties(self):
        assert bpe_train("ba", 1) == [(byte_ids("b")[0], byte_ids("a")[0])]
        ids = byte_ids("abcd")
        assert bpe_train("cd ab", 1) == [(ids[0], ids[1])]  # not the first seen
        assert bpe_train("ab\ncdcd", 1) == [(ids[2], ids[3])]  # frequency first


class TestRoundTrip:
    @quick
    @given(corpora, texts)
    def test_any_text_comes_back(self, text, other):
        merges = bpe_train(text, 20)
        assert bpe_decode(bpe_encode(other, merges), merges) == other
        assert bpe_decode(bpe_encode(text, merges), merges) == text

    @quick
    @given(corpora)
    def test_merging_in_order_over_the_whole_word_gives_the_same(self, text):
        merges = bpe_train(text, 20)
        slow = []
        for word in split_words(text):
            ids = byte_ids(word)
            for i, pair in enumerate(merges):
                ids = merge_pair(ids, pair, 256 + i)
            slow += ids
        assert bpe_encode(text, merges) == slow

    def test_what_is_no_text_becomes_the_replacement_character(self):
        part = byte_ids("日")[:2]
        assert bpe_decode([*byte_ids("a"), *part, *byte_ids("b")], []) == "a\ufffdb"

    @pytest.mark.parametrize("wrong", [-1, 257, 1000])
    def test_ids_without_a_token_are_refused(self, wrong):
        with pytest.raises(ValueError, match=str(wrong)):
            bpe_decode([0, wrong], [(0, 1)])
        assert bpe_decode([0, 256], [(0, 1)]) == '!!"'


words = st.lists(st.sampled_from(["a", "b", "ab", "ç", "<pad>", "<eos>", "z"]), max_size=8)


class TestVocabulary:
    @quick
    @given(st.lists(words, max_size=6), st.integers(1, 4), st.one_of(st.none(), st.integers(4, 9)))
    def test_it_keeps_the_most_frequent_in_a_stable_order(self, sequences, least, most):
        known = Vocabulary(sequences, min_count=least, max_size=most)
        counts = Counter(token for sequence in sequences for token in sequence)
        for name in SPECIALS:
            counts.pop(name, None)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [token for token, n in ranked if n >= least]
        assert known.tokens == [*SPECIALS, *(kept if most is None else kept[: most - 4])]
        assert len(known) == len(known.tokens)
        assert known.tokens == Vocabulary(sequences[::-1], min_count=least, max_size=most).tokens

    @quick
    @given(st.lists(words, max_size=4), words, st.booleans())
    def test_what_is_known_comes_back_and_nothing_else_does(self, sequences, read, ends):
        known = Vocabulary(sequences)
        seen = {token for sequence in sequences for token in sequence} - set(SPECIALS)
        ids = known.encode(read, ends=ends)
        assert len(ids) == len(read) + 2 * ends
        assert known.decode(ids) == [token if token in seen else "<unk>" for token in read]
        if ends:
            assert (ids[0], ids[-1]) == (BOS, EOS)
        assert not {PAD, BOS, EOS} & set(ids[1:-1] if ends else ids)

    def test_characters_are_tokens_of_a_text(self):
        known = Vocabulary(["banana", "cab"])
        assert known.tokens == [*SPECIALS, "a", "b", "n", "c"]
        assert known.encode("nab?") == [6, 4, 5, UNK]

    def test_decoding_stops_at_the_end(self):
        known = Vocabulary([["a", "b"]])
        assert known.decode([BOS, 4, PAD, 5, UNK, EOS, 4, 99, PAD]) == ["a", "b", "<unk>"]

    @pytest.mark.parametrize("wrong", [-1, 6])
    def test_ids_without_a_token_are_refused(self, wrong):
        with pytest.raises(ValueError, match=str(wrong)):
            Vocabulary([["a", "b"]]).decode([4, wrong])

    @pytest.mark.parametrize("size", [0, 3, -1])
    def test_no_room_for_the_special_tokens(self, size):
        with pytest.raises(ValueError, match="room"):
            Vocabulary([["a"]], max_size=size)


class TestPadBatch:
    @quick
    @given(
        st.lists(numbers, min_size=1, max_size=5), st.integers(-3, 5), st.one_of(st.none(), st.integers(6, 9))
    )
    def test_the_mask_picks_exactly_what_came_in(self, sequences, pad, size):
        ids, mask = pad_batch(sequences, pad=pad, size=size)
        longest = max(map(len, sequences))
        assert ids.shape == mask.shape == (len(sequences), longest if size is None else size)
        assert (ids.dtype, mask.dtype) == (torch.int64, torch.bool)
        for row, real, sequence in zip(ids, mask, sequences, strict=True):
            assert row[real].tolist() == sequence
            assert real.tolist() == [True] * len(sequence) + [False] * (ids.shape[1] - len(sequence))
            assert (row[~real] == pad).all()

    def test_a_sequence_that_does_not_fit_is_refused(self):
        with pytest.raises(ValueError, match="length 3"):
            pad_batch([[1], [1, 2, 3]], size=2)


def test_printed_bytes_come_first():
    assert [token.decode() for token in ALPHABET[:94]] == list(map(chr, range(33, 127)))
    assert set(string.printable.encode()) <= {token[0] for token in ALPHABET}
    assert sorted(ALPHABET) == [bytes([i]) for i in range(256)]
