"""Checks of unit 05, first half: byte-pair encoding, learned, applied and undone.

The oracle is the library ``tokenizers``: its byte-level byte-pair encoding on the same words. Its vocabulary
writes tokens in letters that stand for bytes; here ids are compared, which are the same.
"""

import json
import os
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from proctor import expect
from proctor.proxies import sketch
from scratch.pieces import ALPHABET, PATTERN, byte_ids, merge_pair, split_words

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or it warns where a notebook starts a process
LETTERS = "abcdefghijklmnopqrstuvwxyz"
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())  # the letters that stand for bytes, in order of their ids
ODD = ["日本語", "😀", "naïve", "Ωμέγα", "¿qué?", "а́з", "\x00\x7f", "\u200d\ufffd", "\u00a0", "\U0010ffff"]


def library(model):
    """The library's tokenizer around a model, with words cut by the rule of ``split_words``."""
    theirs = Tokenizer(model)
    cut = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    theirs.pre_tokenizer = pre_tokenizers.Sequence([cut, whole])
    theirs.decoder = decoders.ByteLevel()
    return theirs


def learned(text, count):
    """The merges that the library learns from a text."""
    theirs = library(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=256 + count, initial_alphabet=BYTES, show_progress=False)
    theirs.train_from_iterator([text], trainer)
    model = json.loads(theirs.to_str())["model"]
    return [(model["vocab"][left], model["vocab"][right]) for left, right in model["merges"]]


def reader(merges):
    """The library's tokenizer with given merges."""
    names = list(BYTES)
    for left, right in merges:
        names.append(names[left] + names[right])
    pairs = [(names[left], names[right]) for left, right in merges]
    return library(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=pairs))


def tokens_of(merges):
    """The bytes of each token."""
    tokens = list(ALPHABET)
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return tokens


def learn(
    text,
    count,
    *,
    cut=split_words,
    ids_of=byte_ids,
    weigh=True,
    recount=True,
    overlap=True,
    once=False,
    tie=None,
):
    """Merges by a plain loop, with its mistakes to choose from; and how often each pair was counted."""
    counted = Counter(cut(text))
    words = [(ids_of(word), n if weigh else 1) for word, n in counted.items()]
    merges, times, tokens = [], [], [(i,) for i in range(256)]
    pairs = {}
    for new in range(256, 256 + count):
        if recount or not merges:
            pairs = Counter()
            for ids, n in words:
                last = None
                found = list(pairwise(ids))
                for i, pair in enumerate(dict.fromkeys(found) if once else found):
                    if not overlap and last == (i - 1, pair):
                        last = None
                        continue
                    last = (i, pair)
                    pairs[pair] += n
        else:
            del pairs[merges[-1]]
        if not pairs:
            break
        order = tie or (lambda pair, _: pair)
        best = min(pairs, key=lambda pair: (-pairs[pair], order(pair, tokens)))
        merges.append(best)
        times.append(pairs[best])
        tokens.append(tokens[best[0]] + tokens[best[1]])
        words = [(merge_pair(ids, best, new), n) for ids, n in words]
    return merges, times


def corpus(rng, count, letters=LETTERS, size=60):
    """A text of made-up words, some of them frequent, from which ``count`` merges can be learned."""
    while True:
        drawn = rng.permutation(list(letters))[:9]
        syllables = ["".join(rng.choice(drawn, int(n))) for n in rng.integers(1, 4, 8)]
        words = ["".join(rng.choice(syllables, int(n))) for n in rng.integers(1, 4, 14)]
        share = 1 / (1 + rng.permutation(len(words)))
        text = " ".join(rng.choice(words, size, p=share / share.sum()))
        for mark, places in ((", ", 3), ("\n", 2), (" 19", 2)):
            for _ in range(places):
                text = text.replace(" ", mark, 1) if rng.random() < 0.5 else mark.join(text.rsplit(" ", 1))
        merges = learned(text, count)
        if len(merges) == count:
            return text, merges


def spelled(token):
    """What a token spells; its bytes where that is no text."""
    try:
        return repr(token.decode())
    except UnicodeDecodeError:
        return repr(token)


def pair_text(pair, tokens):
    """A pair of ids, and what it spells."""
    known = all(0 <= i < len(tokens) for i in pair)
    return f"{pair}" + (f", which is {' + '.join(spelled(tokens[i]) for i in pair)}" if known else "")


def is_id(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def merges_from(value):
    """The learner's merges as a list of pairs of ids."""
    ask = "What does your loop append, and what does it return?"
    if isinstance(value, dict):
        expect.fail(
            expected="a list of pairs of ids, in the order of the merges",
            got=f"a dict: {sketch(value)}",
            ask="Which of its halves are the pairs? In a list, merge i is at place i.",
        )
    listed = isinstance(value, (list, tuple))
    got = f"{type(value).__name__}: {sketch(value)}" if value is not None else "None"
    expect.holds(listed, expected="a list of pairs of ids, in the order of the merges", got=got, ask=ask)
    for i, pair in enumerate(value):
        two = isinstance(pair, (list, tuple)) and len(pair) == 2 and all(map(is_id, pair))
        question = ask
        if isinstance(pair, (list, tuple)) and any(isinstance(part, (str, bytes)) for part in pair):
            question = "Tokens are ids here, not letters: what does byte_ids return?"
        elif isinstance(pair, (list, tuple)) and any(isinstance(part, (list, tuple)) for part in pair):
            question = (
                "The pair alone is enough: its token's id, 256 + i, follows from its place in the list."
            )
        expected = f"merge {i} as a pair of ids, which are whole numbers"
        expect.holds(two, expected=expected, got=sketch(pair), ask=question)
    return [tuple(int(part) for part in pair) for pair in value]


def same_merges(found, expected, *, text="", mistakes=None, ask=""):
    """Expect these merges; where they are those of a mistake, name it, and otherwise say where they part."""
    if found == expected:
        return
    told = "the merges that the library `tokenizers` learns from this text"
    for sentence, wrong in (mistakes or {}).items():
        wrong = wrong() if callable(wrong) else wrong
        if found == wrong:
            expect.fail(expected=told, got=sentence, ask=ask)
    tokens = tokens_of(expected)
    _, times = learn(text, len(expected))
    for i, (one, two) in enumerate(zip(found, expected, strict=False)):
        if one != two:
            often = f", counted {times[i]} time{'s' if times[i] > 1 else ''}" if i < len(times) else ""
            got = f"{pair_text(one, tokens[: 256 + i])}; {i or 'no'} merge{'s' if i != 1 else ''} before it"
            if max(one) >= 256 + i:
                got += f". There is no token {max(one)} yet"
                ask = "Merge number i, counted from 0, makes the token 256 + i. Which id do you put into the words?"
            elif i == 0:
                ask = "What is counted for this pair, and how often does your code count it?"
            expect.fail(expected=f"merge {i} = {pair_text(two, tokens)}{often}", got=got, ask=ask)
    if len(found) < len(expected):
        ask = "When does your loop end? A pair that occurs once is still a pair."
    number = f"{len(expected)} merge{'s' if len(expected) != 1 else ''}"
    expect.fail(expected=number, got=f"{len(found) or 'none'}, right as far as they go", ask=ask)


def ids_from(value):
    """The learner's ids as a list."""
    listed = isinstance(value, (list, tuple))
    came = f"{type(value).__name__}: {sketch(value)}" if value is not None else "None"
    ask = "What is collected, and how?"
    if value is None:
        ask = "Does every path through your code end in `return`?"
    elif hasattr(value, "tolist"):
        ask = "A plain list is asked for: what makes one of a tensor?"
    expect.holds(listed, expected="a list of ids", got=came, ask=ask)
    inner = next((item for item in value if not is_id(item)), None)
    expect.holds(
        inner is None and all(map(is_id, value)),
        expected="a list of ids, which are whole numbers",
        got=f"a list that holds {sketch(inner)}",
        ask="Are the ids of all words put into one list (`+=` or `extend`), or is each word's list appended?",
    )
    return [int(item) for item in value]


def same_ids(found, expected, text, merges, *, mistakes=None, ask=""):
    """Expect these ids; say at which token they part."""
    if found == expected:
        return
    for sentence, wrong in (mistakes or {}).items():
        wrong = wrong() if callable(wrong) else wrong
        if found == wrong:
            expect.fail(
                expected=f"the ids that the library `tokenizers` gives for {sketch(text)}",
                got=sentence,
                ask=ask,
            )
    tokens = tokens_of(merges)

    def spell(ids):
        # as Python writes bytes, without their b
        shown = [repr(tokens[i])[1:] if 0 <= i < len(tokens) else "no token" for i in ids[:8]]
        return f"{ids[:8]}{' …' if len(ids) > 8 else ''}: {' '.join(shown)}"

    at = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), None)
    at = min(len(found), len(expected)) if at is None else at
    begin = max(0, at - 1)
    expect.fail(
        expected=f"{len(expected)} ids; from place {begin} on {spell(expected[begin:])}",
        got=f"{len(found)} ids; there {spell(found[begin:])}",
        ask=ask,
    )


@pytest.mark.exercise("bpe_train")
class TestBpeTrain:
    @pytest.mark.points(2)
    def test_first_merge(self, student, rng):
        """merges the pair that is most frequent in the text, as a pair of ids"""
        a, b, c, d, e, f = rng.permutation(list(LETTERS))[:6]
        # a b: in one frequent word; c d: in several rare ones; f and the line's end: in two words, side by side
        words = [f"{a}{b}"] * 5 + [f"{c}{d}{x}" for x in (a, b, e)] + [f] * 9
        text = "\n".join(rng.permutation(words))
        expected = learned(text, 1)
        wrong = {
            "the pair that stands in most different words: a word that occurs n times counts n times": learn(
                text, 1, weigh=False
            )[0],
            "a pair that reaches across two words: pairs are counted inside each word": learn(
                text, 1, cut=lambda text: [text]
            )[0],
            "a pair of byte values: the ids of bytes are their places in ALPHABET, as byte_ids gives them": learn(
                text, 1, ids_of=lambda word: list(word.encode())
            )[0],
            "a pair of code points: the ids of bytes are their places in ALPHABET, as byte_ids gives them": learn(
                text, 1, ids_of=lambda word: list(map(ord, word))
            )[0],
        }
        ask = "Which pair of neighbours do you count how often, and which of the counts do you choose?"
        found = merges_from(student.bpe_train(text, 1))
        same_merges(found, expected, text=text, mistakes=wrong, ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_first_merge")
    def test_ties(self, student, rng):
        """of pairs that are equally frequent, takes the smallest"""
        ask = (
            "All these pairs are equally frequent. What does your code compare next, and in which direction?"
        )
        low, mid, high, top = sorted(rng.permutation(list(LETTERS))[:4])
        orders = {
            "the pair that came first in the text: equally frequent ones are told apart by their ids": (
                lambda pair, _: 0
            ),
            "the largest pair of ids: the smallest comes first": lambda pair, _: (-pair[0], -pair[1]),
            "of the pairs with the smallest first id, the largest second one": (
                lambda pair, _: (pair[0], -pair[1])
            ),
            "of the pairs with the smallest first id, the one that came first: the second id decides too": (
                lambda pair, _: pair[0]
            ),
            "the pair with the smallest second id: the first one is compared first": (
                lambda pair, _: (pair[1], pair[0])
            ),
            "the smaller bytes: it is ids that are compared, and a space has the id 220": (
                lambda pair, tokens: [ALPHABET[i] for half in pair for i in tokens[half]]
            ),
            "the smaller token in ALPHABET's letters: compare ids, so that older tokens come first": (
                lambda pair, tokens: [tokens[half] for half in pair]
            ),
            "the longer pair of tokens: compare ids": (
                lambda pair, tokens: (-sum(len(tokens[half]) for half in pair), pair)
            ),
            "the shorter pair of tokens: compare ids": (
                lambda pair, tokens: (sum(len(tokens[half]) for half in pair), pair)
            ),
        }
        texts = [
            f"{high}{mid}\n{low}{high}\n{top}{high}\n{mid}{low}\n{low}{top}\n{low}{mid}",  # the smallest comes last
            f"{high}{low}\n{mid}{high}\n{low}{high}\n{low}{mid}",
            f"{low}{mid}\n{high}{low}\n{mid}{high}",  # and first
            f"{mid}{high}\n {low}\n日",  # a space: byte 32, id 220
            "éà",  # C3 A9 and C3 A0, of which the ids stand the other way round than the bytes
            f"{mid}{low}{high}{low}\n{low}{mid}{high}{low}\n{high}{high}{mid}",
            f"{high}{low}{mid}{high}{low}\n{low}{mid}",
        ]
        for text in texts:
            expected = learned(text, 1 if text is texts[0] else 4)
            size = len(expected)
            turned = expected[::-1] if size > 2 else None
            wrong = {"the merges in reverse order: the first one learned comes first": turned} | {
                sentence: lambda t=text, n=size, tie=tie: learn(t, n, tie=tie)[0]
                for sentence, tie in orders.items()
            }
            found = merges_from(student.bpe_train(text, size))
            same_merges(found, expected, text=text, mistakes=wrong, ask=ask)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_first_merge")
    def test_agrees_with_tokenizers(self, student, rng):
        """learns the same merges as the library tokenizers"""
        ask = "The first merge is right. What changes in the words, and in the counts, before the next one?"
        for letters, count in ((LETTERS, 20), (LETTERS, 30), ("aBcDeéÃçßøжШы日本", 25)):
            text, expected = corpus(rng, count, letters)
            again = learn(text, count, recount=False)[0]
            wrong = {
                "the most frequent pairs of the start, counted only once: each merge makes new pairs": again,
                "merges that were counted without regard to how often a word occurs": (
                    lambda t=text, n=count: learn(t, n, weigh=False)[0]
                ),
                "merges of pairs that were counted once in each word: a pair may stand in a word twice": (
                    lambda t=text, n=count: learn(t, n, once=True)[0]
                ),
                "merges that reach across words": lambda t=text, n=count: learn(t, n, cut=lambda s: [s])[0],
                "merges of words without the space before them: split_words keeps it": (
                    lambda t=text, n=count: learn(t, n, cut=str.split)[0]
                ),
                "merges with ties by who came first": lambda t=text, n=count: learn(t, n, tie=lambda *_: 0)[
                    0
                ],
                "one merge more than was asked for": expected + learned(text, count + 1)[count:],
                "one merge fewer than was asked for": expected[:-1],
                "the merges in reverse order: the first one learned comes first": expected[::-1],
                "the merges in the order of their ids: keep the order in which they were learned": sorted(
                    expected
                ),
            }
            found = merges_from(student.bpe_train(text, count))
            same_merges(found, expected, text=text, mistakes=wrong, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_first_merge")
    def test_runs(self, student, rng):
        """counts and merges a token that stands beside its like"""
        a, b, c = rng.permutation(list(LETTERS))[:3]
        ask = "Where does (a, a) stand in a a a? At which places does one merge then put the new token?"
        for text, count in (
            (f"{a}{a}{a}\n{b}{c}\n{b}{c}", 1),  # two places against one, or a tie
            (f"{a}{a}{a}{a}{b}\n{a}{a}{a}{c}\n{b}{c}", 3),
            (f"{c}{a}{a}{a}{a}\n{a}{a}{a}", 3),
        ):
            expected = learned(text, count)
            apart = learn(text, count, overlap=False)[0]
            once = learn(text, count, once=True)[0]
            wrong = {
                "merges that count a a a as one place of (a, a), where it has two": apart,
                "merges of pairs that were counted once in each word: a pair may stand in a word twice": once,
            }
            found = merges_from(student.bpe_train(text, count))
            same_merges(found, expected, text=text, mistakes=wrong, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_first_merge")
    def test_ends(self, student, rng):
        """ends where no pair is left, and learns nothing from nothing"""
        a, b, c, d = rng.permutation(list(LETTERS))[:4]
        text = f"{a}{b}{c}\n{d}{a}"
        ask = "What do the counts hold when every word is one token?"
        for given, count in (
            (text, 50),
            (f"{a}\n{b}", 3),
            ("", 5),
            (text, 0),
            (f"{a}{b}", 1),
            (f"{a}{b}", 2),
        ):
            found = merges_from(student.bpe_train(given, count))
            same_merges(found, learned(given, count), text=given, ask=ask)


@pytest.mark.exercise("bpe_encode")
class TestBpeEncode:
    ASK = "Which of the pairs that stand in the word was learned first, and is merged first?"

    def encoded(self, student, text, merges, **options):
        found = ids_from(student.bpe_encode(text, merges))
        expected = reader(merges).encode(text).ids
        same_ids(found, expected, text, merges, **({"ask": self.ASK} | options))
        return found

    @pytest.mark.points(1)
    def test_without_merges(self, student, rng):
        """gives the ids of the bytes where there are no merges, and none for an empty text"""
        text, _ = corpus(rng, 5)
        text = text[:30] + str(rng.choice(ODD[:5]))
        ask = "What are the first tokens of a word, before any merge?"
        wrong = {
            "the values of the bytes: their ids are their places in ALPHABET": list(text.encode()),
            "the code points of the letters: tokens are bytes": list(map(ord, text)),
            "the ids of the words without their spaces": [i for w in text.split() for i in byte_ids(w)],
            "the ids without those of the spaces": [i for i in byte_ids(text) if ALPHABET[i] != b" "],
        }
        self.encoded(student, text, [], ask=ask, mistakes=wrong)
        self.encoded(student, "", [], ask="What comes out where there is no word?")
        self.encoded(student, "", [(64, 65)], ask="What comes out where there is no word?")

    @pytest.mark.points(3)
    @pytest.mark.needs("test_without_merges")
    def test_order_of_merges(self, student, rng):
        """applies the merges in the order in which they were learned"""
        a, b, c, d, e = (byte_ids(x)[0] for x in rng.permutation(list(LETTERS))[:5])
        spell = b"".join
        cases = [
            ([(b, c), (c, d), (a, b), (d, e)], [a, b, c, d, e]),
            ([(b, c), (a, b)], [a, b, c]),
            ([(c, d), (b, c), (a, b)], [a, b, c, d]),
            ([(a, b), (c, d), (b, c), (256, 257)], [a, b, c, d, b, c]),
            ([(b, c), (a, b), (a, 256)], [a, b, c, a, b, a]),
            ([(c, d), (a, b), (b, 256), (a, 258)], [a, b, c, d, a, b]),
        ]
        for merges, ids in cases:
            text = spell(ALPHABET[i] for i in ids).decode()
            wrong = {
                "the first pair from the left that has a merge, at each step: the earliest merge comes first": (
                    lambda m=merges, i=ids: leftmost(i, m)
                ),
                "the merges from last to first": lambda m=merges, i=ids: in_order(i, m, reverse=True),
                "the longest token at each place: which merge was learned first decides": (
                    lambda m=merges, t=text: longest(t, m)
                ),
                "the ids of the first merge alone": lambda m=merges, i=ids: in_order(i, m[:1]),
                "the bytes: no merge was applied": ids,
            }
            self.encoded(student, text, merges, mistakes=wrong)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_without_merges")
    def test_every_place(self, student, rng):
        """merges a pair at every place, from left to right"""
        a, b, c = rng.permutation(list(LETTERS))[:3]
        one, two, three = (byte_ids(x)[0] for x in (a, b, c))
        ask = "Where does the pair stand in the word? Does your loop take all of the places, from the left?"
        for text, merges in (
            (f"{a}{b}{c}{a}{b}{a}{b}", [(one, two)]),
            (f"{a}{a}{a} {a}{a}{a}{a}{a}", [(one, one)]),
            (f"{a}{a}{a}{a}{a}{a}{a}", [(one, one), (256, 256)]),
            (f"{a}{b}{a}{b}{c}", [(one, two), (256, three), (256, 257)]),
        ):
            self.encoded(student, text, merges, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_without_merges")
    def test_inside_words(self, student, rng):
        """merges inside words, never across two of them"""
        a, b = rng.permutation(list(LETTERS))[:2]
        one, two, space = byte_ids(a)[0], byte_ids(b)[0], byte_ids(" ")[0]
        comma = byte_ids(",")[0]
        merges = [(one, space), (space, two), (one, comma), (two, one), (256, two)]
        ask = "What does split_words make of the text, and do you merge before or after that?"
        for text in (f"{a} {b}{a}", f"{a},{b}", f"{b}{a} {b}"):
            whole = in_order(byte_ids(text), merges)
            wrong = {"ids of tokens that reach across two words": whole}
            self.encoded(student, text, merges, ask=ask, mistakes=wrong)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_order_of_merges")
    def test_agrees_with_tokenizers(self, student, rng):
        """gives the ids of the library tokenizers, also for a text that was not learned from"""
        text, merges = corpus(rng, 40, size=90)
        other, _ = corpus(rng, 5)
        for read in (text[:150], text[:60] + other[:60]):
            self.encoded(student, read, merges)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_without_merges")
    def test_any_text(self, student, rng):
        """takes every character, learned or not, and loses none"""
        _, merges = corpus(rng, 12, "abcdeéãçßø")
        sun = chr(int(rng.integers(0x4E00, 0x9F00)))
        parts = [str(rng.choice(ODD)), "Ação", "  ", str(rng.choice(ODD)), "\n\t", sun]
        for text in ("".join(rng.permutation(parts)), *ODD[-4:]):
            ask = "Which bytes does this character have in UTF-8? Every byte has an id."
            found = self.encoded(student, text, merges, ask=ask)
            tokens = tokens_of(merges)
            back = b"".join(tokens[i] for i in found).decode()
            expect.holds(back == text, expected=f"ids that spell {text!r}", got=repr(back), ask=ask)


def in_order(ids, merges, reverse=False):
    """The ids after each merge in turn."""
    steps = list(enumerate(merges))
    for i, pair in reversed(steps) if reverse else steps:
        ids = merge_pair(ids, pair, 256 + i)
    return ids


def leftmost(ids, merges):
    """The ids where the first pair from the left that has a merge is merged, until there is none."""
    rank = {pair: i for i, pair in enumerate(merges)}
    while place := [i for i, pair in enumerate(pairwise(ids)) if pair in rank]:
        i = place[0]
        ids = [*ids[:i], 256 + rank[ids[i], ids[i + 1]], *ids[i + 2 :]]
    return ids


def longest(text, merges):
    """The ids where each place takes the longest token that fits."""
    ids = {token: i for i, token in enumerate(tokens_of(merges))}
    data, out = text.encode(), []
    while data:
        size = max(n for n in range(1, len(data) + 1) if data[:n] in ids)
        out.append(ids[data[:size]])
        data = data[size:]
    return out


@pytest.mark.exercise("bpe_decode")
class TestBpeDecode:
    def decoded(self, student, ids, merges, mistakes=None, ask=""):
        """Expect the text that the bytes of the tokens spell."""
        found = student.bpe_decode(ids, merges)
        tokens = tokens_of(merges)
        expected = b"".join(tokens[i] for i in ids).decode("utf-8", errors="replace")
        came = f"{type(found).__name__}: {sketch(found)}" if found is not None else "None"
        is_text = isinstance(found, str)
        expect.holds(
            is_text, expected="a text, of type str", got=came, ask="What do bytes become by `decode`?"
        )
        if found == expected:
            return
        for sentence, wrong in (mistakes or {}).items():
            if found == (wrong() if callable(wrong) else wrong):
                expect.fail(expected=f"the text {sketch(expected)}", got=sentence, ask=ask)
        expect.fail(expected=f"the text {sketch(expected)}", got=sketch(found), ask=ask)

    @pytest.mark.points(2)
    def test_spells_the_tokens(self, student, rng):
        """joins the bytes of all tokens to a text"""
        text, merges = corpus(rng, 15)
        ids = reader(merges).encode(f" {text[:60]}").ids
        tokens = tokens_of(merges)
        pieces = [tokens[i].decode() for i in ids]
        wrong = {
            "the tokens with a space between them: the spaces are bytes of the tokens": " ".join(pieces),
            "the text without its spaces": "".join(pieces).replace(" ", ""),
            "the text without a space at its ends": "".join(pieces).strip(),
            "the tokens of the bytes alone: the merged ones are missing": "".join(
                piece for piece, i in zip(pieces, ids, strict=True) if i < 256
            ),
            "byte i for the id i: the bytes stand in ALPHABET, in their own order": lambda: b"".join(
                values_of(merges)[i] for i in ids
            ).decode("utf-8", errors="replace"),
            "character i for the id i: the bytes stand in ALPHABET": lambda: "".join(
                values_of(merges, chr)[i] for i in ids
            ),
            "the second half of each pair before the first": lambda: b"".join(
                values_of(merges, ALPHABET.__getitem__, turned=True)[i] for i in ids
            ).decode(errors="replace"),
            "the text in reverse order": "".join(pieces)[::-1],
            "bytes written out as Python shows them: `decode` makes a text of them": lambda: str(
                b"".join(tokens[i] for i in ids)
            ),
        }
        ask = "Which bytes does token 256 stand for, and how are they found for a merge of merges?"
        self.decoded(student, ids, merges, wrong, ask)
        self.decoded(student, ids[:1], merges, ask=ask)
        self.decoded(student, [255 + len(merges), 64, 255 + len(merges)], merges, ask=ask)
        self.decoded(student, [], merges, ask="What do no tokens spell?")
        self.decoded(student, byte_ids("~ok!"), [], ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_spells_the_tokens")
    def test_characters_in_several_tokens(self, student, rng):
        """puts a character together that is spread over tokens"""
        letter = str(rng.choice(list("éãçßøжшы")))
        first, second = byte_ids(letter)
        sun = byte_ids(chr(int(rng.integers(0x4E00, 0x9F00))))
        face = byte_ids(chr(int(rng.integers(0x1F600, 0x1F640))))
        a, b = (byte_ids(x)[0] for x in rng.permutation(list(LETTERS))[:2])
        merges = [(a, first), (second, b), (sun[1], sun[2]), (256, 257)]
        ids = [256, second, a, first, 257, 259, sun[0], 258, *face, b]
        tokens = tokens_of(merges)
        wrong = {
            "a replacement character for each half: join the bytes of all tokens first, then decode": "".join(
                tokens[i].decode(errors="replace") for i in ids
            ),
            "a text without the characters that are spread over tokens: join all bytes first, then decode": (
                "".join(tokens[i].decode(errors="ignore") for i in ids)
            ),
            "each byte as a character of its own: UTF-8 spells some characters with several bytes": b"".join(
                tokens[i] for i in ids
            ).decode("latin-1"),
        }
        ask = "When do you decode: token by token, or once all the bytes stand side by side?"
        self.decoded(student, ids, merges, wrong, ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_spells_the_tokens")
    def test_what_is_no_text(self, student, rng):
        """puts U+FFFD where the bytes are no valid UTF-8"""
        sun = byte_ids(chr(int(rng.integers(0x4E00, 0x9F00))))
        a, b = (byte_ids(x)[0] for x in rng.permutation(list(LETTERS))[:2])
        merges = [(a, b)]
        ask = "What does `decode` do with bytes that are no text? Look up its argument `errors`."
        tokens = tokens_of(merges)
        for ids in (
            [a, *sun[:2], 256],
            [*sun[1:], a],
            [256, sun[0]],
            [sun[0], *sun],
            [ALPHABET.index(b"\xff")],
        ):
            data = b"".join(tokens[i] for i in ids)
            wrong = {
                "a text from which the invalid bytes were dropped": data.decode(errors="ignore"),
                "the invalid bytes written out": data.decode(errors="backslashreplace"),
                "the invalid bytes as characters of their own": data.decode("latin-1"),
                "a question mark where U+FFFD belongs": data.decode(errors="replace").replace("\ufffd", "?"),
                "an empty text": "",
            }
            self.decoded(student, ids, merges, wrong, ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_spells_the_tokens")
    def test_comes_back(self, student, rng):
        """gives back every text that was encoded"""
        text, merges = corpus(rng, 20, "abcdeéãçßø")
        for read in (text[:80], " ".join(rng.permutation(ODD)), "  a \n\n b  "):
            ids = reader(merges).encode(read).ids
            self.decoded(
                student, ids, merges, ask="Which of the characters did not come back, and which bytes has it?"
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_spells_the_tokens")
    def test_refuses_what_is_no_token(self, student, rng):
        """raises ValueError for an id that no token has"""
        _, merges = corpus(rng, int(rng.integers(3, 7)))
        size = 256 + len(merges)
        asks = {
            size: f"With {len(merges)} merges, which is the last id?",
            size + 40: "What would this id stand for?",
            -1: "What does Python find at place -1 of a list? A negative id is nobody's.",
            -size: "What does Python find at a negative place of a list?",
        }
        for wrong, ask in asks.items():
            when = f"for the id {wrong}, where ids go from 0 to {size - 1}"
            expect.raises(ValueError, lambda i=wrong: student.bpe_decode([64, i], merges), when=when, ask=ask)
        self.decoded(student, [0, size - 1], merges, ask="Are 0 and the last id still allowed?")


def values_of(merges, base=lambda i: bytes([i]), turned=False):
    """What tokens would spell if byte i had the id i, or if the halves were turned round."""
    tokens = [base(i) for i in range(256)]
    for left, right in merges:
        tokens.append(tokens[right] + tokens[left] if turned else tokens[left] + tokens[right])
    return tokens
