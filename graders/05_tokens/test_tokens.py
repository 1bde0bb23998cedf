"""Checks of unit 05, second half: the vocabulary, padded batches with their masks, and the embedding.

A vocabulary and an embedding stay on the learner's side; what they answer is judged by plain loops, by PyTorch's own
lookup, and by a product with one-hot rows.
"""

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proctor import expect
from proctor.proxies import Proxy, sketch
from scratch.pieces import BOS, EOS, PAD, SPECIALS, UNK

WORDS = "a and are cat dog é house in it moon of on Tree tree the to under über was water yes Zoo".split()
DOUBLE = torch.float64


def plain(value):
    """What came back, in few characters."""
    return f"{type(value).__name__}: {sketch(value)}" if value is not None else "None"


def listed(value, kind, what, ask=""):
    """Expect a list of ids, or of tokens."""
    right = isinstance(value, (list, tuple))
    expect.holds(right, expected=f"{what} as a list", got=plain(value), ask=ask or "What does it return?")
    for item in value:
        same = isinstance(item, kind) and not isinstance(item, bool)
        name = {int: "whole numbers", str: "texts"}[kind]
        expect.holds(same, expected=f"{what} as a list of {name}", got=f"a list with {plain(item)}", ask=ask)
    return list(value)


def same(value, expected, kind, what, ask, mistakes=None):
    """Expect exactly this list; name a known mistake."""
    found = listed(value, kind, what, ask)
    if found == expected:
        return
    for sentence, wrong in (mistakes or {}).items():
        if found == wrong:
            expect.fail(expected=f"{what}: {short(expected)}", got=sentence, ask=ask)
    expect.fail(expected=f"{what}: {short(expected)}", got=short(found), ask=ask)


def short(items, most=12):
    """A list with its first entries."""
    shown = ", ".join(map(repr, items[:most]))
    return f"[{shown}{', …' if len(items) > most else ''}], {len(items)} in all"


def ranked(counts, least=1):
    """Tokens by frequency, and of equal frequency by their characters."""
    kept = [token for token in counts if counts[token] >= least]
    return sorted(kept, key=lambda token: (-counts[token], token))


def sequences(rng, most=None):
    """Sequences of words in which several are equally frequent, in no order, and none has a frequency of its own."""
    words = [str(word) for word in rng.permutation(WORDS)[: most or 9]]
    times = [1, 2, 3, 3, 2, 1, 5, 2, 3, 1, 2, 3][: len(words)]
    drawn = [
        str(w)
        for w in rng.permutation([word for word, n in zip(words, times, strict=True) for _ in range(n)])
    ]
    cuts = sorted(rng.choice(np.arange(1, len(drawn)), 3, replace=False).tolist())
    return [drawn[i:j] for i, j in zip([0, *cuts], [*cuts, len(drawn)], strict=True)]


@pytest.mark.exercise("Vocabulary")
class TestVocabulary:
    ORDER = "Which come first, and what decides between two tokens that are equally frequent?"

    def made(self, student, given, **options):
        """The learner's vocabulary, and its tokens."""
        known = student.Vocabulary(given, **options)
        ask = "Is `Vocabulary` a class, whose objects are made by __init__?"
        expect.holds(isinstance(known, Proxy), expected="an object of the class", got=plain(known), ask=ask)
        ask = "Does __init__ set `self.tokens`, a list in which a token's place is its id?"
        try:
            tokens = known.tokens
        except AttributeError:
            expect.fail(expected="an attribute `tokens`", got="none of this name", ask=ask)
        return known, listed(tokens, str, "`tokens`", ask)

    @pytest.mark.points(2)
    def test_tokens(self, student, rng):
        """lists the special tokens, then all others, the most frequent first"""
        given = sequences(rng)
        counts = Counter(token for sequence in given for token in sequence)
        _, tokens = self.made(student, given)
        kept = ranked(counts)
        appeared = list(counts)
        mistakes = {
            "the tokens without the special ones, which take the first four ids": kept,
            "the special tokens at the end: they have the ids 0 to 3": [*kept, *SPECIALS],
            "equally frequent tokens in the order in which they appeared: their characters decide": [
                *SPECIALS,
                *sorted(appeared, key=lambda token: -counts[token]),
            ],
            "equally frequent tokens in reverse order of their characters": [
                *SPECIALS,
                *sorted(appeared, key=lambda token: (counts[token], token), reverse=True),
            ],
            "the rarest tokens first": [
                *SPECIALS,
                *sorted(appeared, key=lambda token: (counts[token], token)),
            ],
            "the tokens in the order of their characters, without regard to their counts": [
                *SPECIALS,
                *sorted(appeared),
            ],
            "equally frequent tokens by their letters, large and small alike: compare them as they are": [
                *SPECIALS,
                *sorted(appeared, key=lambda token: (-counts[token], token.lower())),
            ],
            "the tokens in the order in which they appeared": [*SPECIALS, *appeared],
            "the tokens of the first sequence alone": [*SPECIALS, *ranked(Counter(given[0]))],
            "the tokens of the last sequence alone": [*SPECIALS, *ranked(Counter(given[-1]))],
            "tokens counted by the sequences that have them, not by how often they come": [
                *SPECIALS,
                *ranked(Counter(token for sequence in given for token in set(sequence))),
            ],
            "the special tokens and nothing else": list(SPECIALS),
            "all letters, where the tokens are words": [
                *SPECIALS,
                *ranked(Counter(letter for s in given for token in s for letter in token)),
            ],
        }
        same(tokens, [*SPECIALS, *kept], str, "`tokens`", self.ORDER, mistakes)
        _, tokens = self.made(student, given[::-1])
        same(tokens, [*SPECIALS, *kept], str, "`tokens`, with the sequences turned round,", self.ORDER)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_tokens")
    def test_characters(self, student, rng):
        """takes texts, whose characters are then the tokens, and no sequences at all"""
        given = ["".join(rng.choice(list("abcdeé "), 12)) for _ in range(2)]
        kept = ranked(Counter("".join(given)))
        known, tokens = self.made(student, given)
        ask = "A text is a sequence of characters. Does your loop treat it as one?"
        same(tokens, [*SPECIALS, *kept], str, "`tokens`", ask)
        found = known.encode(given[0])
        same(found, [4 + kept.index(c) for c in given[0]], int, "the ids", ask)
        _, tokens = self.made(student, [])
        same(tokens, list(SPECIALS), str, "`tokens` of no sequences", "What is always there?")

    @pytest.mark.points(2)
    @pytest.mark.needs("test_tokens")
    def test_limits(self, student, rng):
        """keeps tokens that come often enough, and no more than there is room for"""
        given = sequences(rng)
        counts = Counter(token for sequence in given for token in sequence)
        for least in (2, 3, 50):
            _, tokens = self.made(student, given, min_count=least)
            mistakes = {
                f"only tokens that come more than {least} times: {least} times is enough": [
                    *SPECIALS,
                    *ranked(counts, least + 1),
                ],
                "all tokens, whatever min_count": [*SPECIALS, *ranked(counts)],
            }
            ask = "Is a token kept that comes exactly min_count times?"
            what = f"`tokens` for min_count={least}"
            same(tokens, [*SPECIALS, *ranked(counts, least)], str, what, ask, mistakes)
        for most, least in ((4, 1), (6, 1), (9, 1), (100, 1), (6, 3), (9, 3)):
            _, tokens = self.made(student, given, max_size=most, min_count=least)
            kept = ranked(counts, least)
            mistakes = {
                "max_size tokens beside the special ones: these are included": [*SPECIALS, *kept[:most]],
                "all tokens, whatever max_size": [*SPECIALS, *kept],
                "one token too many": [*SPECIALS, *kept[: most - 3]],
                "one token too few": [*SPECIALS, *kept[: max(0, most - 5)]],
                "the rarest of the tokens: the most frequent are kept": [*SPECIALS, *kept[-(most - 4) :]],
                "the tokens of an earlier cut, with min_count forgotten": [
                    *SPECIALS,
                    *ranked(counts)[: most - 4],
                ],
            }
            ask = "How many places are left when the special tokens have theirs?"
            what = f"`tokens` for max_size={most}, min_count={least}"
            same(tokens, [*SPECIALS, *kept[: most - 4]], str, what, ask, mistakes)
        for wrong in (3, 0):
            ask = "Where would the special tokens go?"
            when = f"for max_size={wrong}"
            expect.raises(
                ValueError, lambda n=wrong: student.Vocabulary(given, max_size=n), when=when, ask=ask
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_tokens")
    def test_len(self, student, rng):
        """has a length: the number of its tokens"""
        for given in (sequences(rng), []):
            known, tokens = self.made(student, given)
            ask = "`len(vocabulary)` is V, the number of all ids, the special ones included."
            try:
                found = len(known)
            except TypeError as error:
                if "has no len" not in str(error):
                    raise
                ask = "Which special method does Python call for `len(vocabulary)`?"
                expect.fail(expected=f"a length of {len(tokens)}", got=str(error), ask=ask)
            expect.holds(found == len(tokens), expected=f"a length of {len(tokens)}", got=f"{found}", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_tokens")
    def test_encodes(self, student, rng):
        """gives each token its id, UNK to the others, and adds the ends where asked"""
        given = sequences(rng)
        known, tokens = self.made(student, given)
        read = [str(w) for w in rng.permutation([*tokens[4:8], tokens[-1], "zebra", "", "THE"])]
        expected = [tokens.index(token) if token in tokens else UNK for token in read]
        ask = "Which id has a token that is not in the list?"
        mistakes = {
            "the ids without those of unknown tokens: each is UNK": [i for i in expected if i != UNK],
            "PAD for unknown tokens: their id is UNK": [PAD if i == UNK else i for i in expected],
            "-1 for unknown tokens: their id is UNK": [-1 if i == UNK else i for i in expected],
            "ids that do not count the special tokens": [i - 4 if i != UNK else UNK for i in expected],
            "the ends, which were not asked for": [BOS, *expected, EOS],
        }
        same(known.encode(read), expected, int, "the ids", ask, mistakes)
        ask = "With ends=True, what stands before the tokens, and what after them?"
        mistakes = {
            "the ids without ends, with ends=True": expected,
            "EOS before and BOS after": [EOS, *expected, BOS],
            "only the beginning": [BOS, *expected],
            "only the end": [*expected, EOS],
        }
        same(known.encode(read, ends=True), [BOS, *expected, EOS], int, "the ids with ends", ask, mistakes)
        same(known.encode([], ends=True), [BOS, EOS], int, "the ids of no tokens, with ends", ask)
        same(known.encode([]), [], int, "the ids of no tokens", ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_encodes")
    def test_spelled_like_special_tokens(self, student, rng):
        """takes what a text spells like a special token for unknown"""
        given = [[*sequence, str(rng.choice(SPECIALS)), "<eos>", "<pad>"] for sequence in sequences(rng)]
        counts = Counter(token for sequence in given for token in sequence if token not in SPECIALS)
        known, tokens = self.made(student, given)
        expected = [*SPECIALS, *ranked(counts)]
        twice = [*SPECIALS, *ranked(Counter(token for sequence in given for token in sequence))]
        ask = "Are special tokens of the text counted and listed a second time?"
        mistakes = {"the special tokens a second time, since the text spells them": twice}
        same(tokens, expected, str, "`tokens`, where the text spells special ones,", ask, mistakes)
        word = tokens[4]
        read = ["<eos>", word, "<pad>", "<bos>", "<unk>"]
        ask = "Whoever writes `<eos>` into a text must not end the sequence: which ids may come from a text?"
        mistakes = {
            "the ids of the special tokens themselves: a text that spells `<eos>` would end the sequence": [
                EOS, 4, PAD, BOS, UNK
            ],
        }  # fmt: skip
        what = f"the ids of {read}"
        same(known.encode(read), [UNK, 4, UNK, UNK, UNK], int, what, ask, mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_tokens")
    def test_decodes(self, student, rng):
        """gives the tokens back, up to the end, without padding and beginning"""
        known, tokens = self.made(student, sequences(rng))
        one, two, three = (int(i) for i in rng.permutation(np.arange(4, len(tokens)))[:3])
        a, b, c = tokens[one], tokens[two], tokens[three]
        plain_ids = [one, two, one, len(tokens) - 1, 4]
        ask = "Which token stands at which place of `tokens`?"
        what = f"the tokens of {plain_ids}"
        mistakes = {"the tokens as one text: a list of them is asked for": []}
        same(known.decode(plain_ids), [tokens[i] for i in plain_ids], str, what, ask, mistakes)
        ids = [BOS, one, PAD, UNK, two, EOS, three, PAD, PAD]
        ask = "Which special tokens say something about the text, and where does it end?"
        mistakes = {
            "tokens that come after the first EOS: the sequence ends there": [a, "<unk>", b, c],
            "the special tokens as well": [tokens[i] for i in ids],
            "the special tokens up to the end as well": [tokens[i] for i in ids[:6]],
            "the tokens with <eos>: it is not part of the sequence": [a, "<unk>", b, "<eos>"],
            "the tokens with <bos>": ["<bos>", a, "<unk>", b],
            "the tokens with <pad>": [a, "<pad>", "<unk>", b],
            "the tokens with <bos> and <pad>": ["<bos>", a, "<pad>", "<unk>", b],
            "the tokens without the unknown one: it stands for something, and shows as <unk>": [a, b],
            "the tokens before the first padding: padding is left out, and nothing ends there": [a],
        }
        same(known.decode(ids), [a, "<unk>", b], str, f"the tokens of {ids}", ask, mistakes)
        same(known.decode([EOS, one]), [], str, f"the tokens of {[EOS, one]}", ask)
        same(
            known.decode([two, EOS, one, EOS, three]), [b], str, "the tokens before the first of two EOS", ask
        )
        same(known.decode([]), [], str, "the tokens of no ids", ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_decodes")
    def test_refuses_what_is_no_token(self, student, rng):
        """raises ValueError for an id that no token has"""
        known, tokens = self.made(student, sequences(rng))
        V = len(tokens)
        for wrong, ask in (
            (V, f"With {V} tokens, which is the last id?"),
            (V + 30, "What would this id stand for?"),
            (-1, "What does Python find at place -1 of a list? A negative id is nobody's."),
            (-V, "What does Python find at a negative place of a list?"),
        ):
            when = f"for the id {wrong}, where ids go from 0 to {V - 1}"
            expect.raises(ValueError, lambda i=wrong: known.decode([4, i, 4]), when=when, ask=ask)
        ask = "Is the last id still allowed?"
        same(known.decode([V - 1]), [tokens[-1]], str, f"the token of {V - 1}", ask)


@pytest.mark.exercise("pad_batch")
class TestPadBatch:
    def batch(self, student, given, **options):
        """The learner's ids and mask, of which it is known that they are tensors."""
        ask = "Two things come back: `return ids, mask`."
        ids, mask = expect.parts(student.pad_batch(given, **options), "ids (B, T)", "mask (B, T)", ask=ask)
        T = options.get("size") or max(map(len, given), default=0)
        ask = "One row for each sequence, and how many columns?"
        expect.array(ids, shape=(len(given), T), what="the ids (B, T)", ask=ask)
        ask = "Ids are whole numbers: what does torch.tensor make of an empty list, if no dtype is given?"
        expect.array(ids, dtype=torch.int64, what="the ids", ask=ask)
        expect.array(mask, shape=(len(given), T), what="the mask (B, T)", ask="One entry for each id.")
        ask = "What does a comparison of tensors return? A mask that says yes or no is of dtype bool."
        expect.array(mask, dtype=torch.bool, what="the mask", ask=ask)
        return ids, mask

    def given(self, rng, low=1):
        """Sequences of distinct lengths, in no order; zeros are among the real tokens, at the ends too."""
        lengths = [int(n) for n in rng.permutation(np.arange(1, 7))[:4]]
        lengths[int(rng.integers(4))] = 7
        given = [[int(i) for i in rng.integers(low, 50, n)] for n in lengths]
        for sequence in given:
            if len(sequence) > 2:
                sequence[int(rng.integers(1, len(sequence) - 1))] = PAD
                sequence[-1] = PAD
        return given, lengths

    def filled(self, given, T, pad=PAD):
        return torch.tensor([sequence + [pad] * (T - len(sequence)) for sequence in given])

    @pytest.mark.points(1)
    def test_shapes(self, student, rng):
        """returns ids and a mask, both of shape (B, T)"""
        given, _ = self.given(rng)
        self.batch(student, given)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_shapes")
    def test_ids(self, student, rng):
        """fills the shorter sequences up on the right"""
        given, _ = self.given(rng)
        for pad in (PAD, int(rng.integers(60, 90)), -100):
            options = {} if pad == PAD else {"pad": pad}
            ids, _ = self.batch(student, given, **options)
            expected, T = self.filled(given, 7, pad), 7
            mistakes = {
                "padding on the left": torch.tensor([[pad] * (T - len(s)) + s for s in given]),
                "padding with 0, whatever `pad`": self.filled(given, T),
                "rows ordered by their length: row b is sequence b": self.filled(
                    sorted(given, key=len, reverse=True), T, pad
                ),
                "rows ordered by their length, the shortest first: row b is sequence b": self.filled(
                    sorted(given, key=len), T, pad
                ),
                "the last token of each sequence repeated": torch.tensor(
                    [s + [s[-1]] * (T - len(s)) for s in given]
                ),
                "padding and no tokens": torch.full((len(given), T), pad),
                "sequences without their last token": self.filled([s[:-1] for s in given], T, pad),
            }
            ask = f"Row b holds sequence b, and then {pad} up to the end. Which row differs?"
            expect.equal(ids, expected, what="ids", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_shapes")
    def test_mask(self, student, rng):
        """is True for the real tokens and for no others, whatever their ids"""
        given, lengths = self.given(rng)
        length, place = torch.tensor(lengths)[:, None], torch.arange(7)
        expected = place < length
        for pad in (PAD, int(given[0][0]), 77):
            _, mask = self.batch(student, given, pad=pad)
            padded = self.filled(given, 7, pad)
            mistakes = {
                "True for the padding: True means that a token is real, and may be attended to": ~expected,
                f"False for real tokens with the id {pad}: read the mask off the lengths, not off the ids": (
                    padded != pad
                ),
                "False for real tokens with the id 0: read the mask off the lengths, not off the ids": padded
                != 0,
                "True for the ids that are the padding's: a real token may have this id too, and True means real": (
                    padded == pad
                ),
                "False for the padding's id at the end of a row, where real tokens have it too": torch.tensor(
                    [[bool((row[t:] != pad).any()) for t in range(7)] for row in padded]
                ),
                "one position too many: t ≤ length counts from 0 and includes the end": place <= length,
                "one position too few": place < length - 1,
                "a mask for padding on the left": place >= 7 - length,
                "True throughout": torch.ones_like(expected),
                "the mask of the rows in order of their length": torch.tensor(sorted(lengths))[:, None]
                > place,
                "a causal mask: the padding is asked for": torch.ones(len(given), 7, dtype=torch.bool).tril(),
            }
            ask = "What tells a real token from padding, if any id may be real?"
            expect.equal(mask, expected, what="mask", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_ids")
    @pytest.mark.needs("test_mask")
    def test_size(self, student, rng):
        """pads to a given size, and refuses a sequence that does not fit"""
        given, lengths = self.given(rng)
        length = torch.tensor(lengths)[:, None]
        for size in (7, 8, int(rng.integers(9, 14))):
            ids, mask = self.batch(student, given, size=size, pad=3)
            ask = "How many columns does `size` ask for?"
            expect.equal(ids, self.filled(given, size, 3), what="ids", ask=ask)
            expect.equal(mask, torch.arange(size) < length, what="mask", ask=ask)
        ask = (
            "Cutting a sequence off would lose tokens, its end first, and nobody would notice. What says so?"
        )
        for size in (6, 1, 0):
            when = f"for a sequence of length 7 and size={size}"
            expect.raises(ValueError, lambda n=size: student.pad_batch(given, size=n), when=when, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_ids")
    @pytest.mark.needs("test_mask")
    def test_empty_and_single(self, student, rng):
        """takes empty sequences, and a single one"""
        n = int(rng.integers(2, 6))
        row = [int(i) for i in rng.integers(1, 50, n)]
        ask = "What are the length and the mask of a sequence without tokens?"
        for given, size in (
            ([row], None),
            ([[], row], None),
            ([[]], 3),
            ([[], []], None),
        ):
            options = {} if size is None else {"size": size}
            ids, mask = self.batch(student, given, **options)
            T = size or max(map(len, given), default=0)
            lengths = torch.tensor([len(sequence) for sequence in given], dtype=torch.int64)
            rows = [sequence + [PAD] * (T - len(sequence)) for sequence in given]
            expected = torch.tensor(rows, dtype=torch.int64).reshape(len(given), T)
            expect.equal(ids, expected, what="ids", ask=ask)
            expect.equal(mask, torch.arange(T) < lengths[:, None], what="mask", ask=ask)


@pytest.mark.exercise("Embedding")
class TestEmbedding:
    def layer(self, student, rng, V, D, padding_id=PAD, dtype=torch.float32):
        """The learner's layer with a table that we have drawn, and this table."""
        m = student.Embedding(V, D) if padding_id == PAD else student.Embedding(V, D, padding_id)
        ask = "Is the table an nn.Parameter named `weight`, with a row for each id, and nothing else trained?"
        expect.parameters(m, {"weight": (V, D)}, ask=ask)
        if dtype == DOUBLE:
            m.double()
        weight = rng.tensor(V, D, dtype=dtype)
        if padding_id is not None:
            weight[padding_id] = 0
        m.load_state_dict(
            {"weight": weight}, strict=False
        )  # a buffer of the learner's own keeps what it holds
        return m, weight

    def sizes(self, rng):
        V, D = int(rng.integers(7, 10)), int(rng.integers(3, 6))
        return V, D

    @pytest.mark.points(2)
    def test_start(self, student, rng):
        """starts from a table with the spread 1/√D and a row of zeros for the padding"""
        D = int(rng.integers(50, 70))
        V = int(rng.integers(100, 120))
        row = int(rng.integers(1, V))
        ask = "Is the table an nn.Parameter named `weight`, with a row for each id, and nothing else trained?"
        for padding_id in (PAD, row, None):
            m = student.Embedding(V, D) if padding_id == PAD else student.Embedding(V, D, padding_id)
            weight = expect.parameters(m, {"weight": (V, D)}, ask=ask)["weight"].detach()
            expect.array(weight, dtype=torch.float32, what="`weight`")
            others = weight[[i for i in range(V) if i != padding_id]].double()
            if padding_id is not None:
                largest = float(weight[padding_id].abs().max())
                expect.holds(
                    largest == 0,
                    expected=f"zeros in row {padding_id}, with padding_id={padding_id}",
                    got=f"an entry of {largest:.3g}",
                    ask="Which row belongs to the padding, and when is it set to zero?",
                )
            empty = (others == 0).all(-1).any()
            expect.holds(
                not empty,
                expected="a row of zeros for the padding, and no other",
                got="another row of zeros",
                ask="Which row belongs to the padding, and is there one where padding_id is None?",
            )
            spread, mean = float(others.std()), float(others.mean())
            said = {
                "1: divide by √D": 1.0,
                "1/D: divide by √D": 1 / D,
                "√D: divide by √D": D**0.5,
                "1/√V: D is the width": V**-0.5,
                "1/√(3D): the draws are uniform, not normal": (3 * D) ** -0.5,
            }
            got = f"a standard deviation of {spread:.3g} and a mean of {mean:.2g}"
            got += next((f", near {t}" for t, s in said.items() if abs(spread / s - 1) < 0.08), "")
            near = abs(spread * D**0.5 - 1) < 0.08 and abs(mean) < 0.08 / D**0.5
            expect.holds(
                near,
                expected=f"normal draws of mean 0 and standard deviation 1/√{D} = {D**-0.5:.3f}",
                got=got,
                ask="What is the standard deviation of torch.randn, and what becomes of it if all is divided?",
            )
            beyond = float((others.abs() > 2.2 * D**-0.5).double().mean())
            expect.holds(
                0.01 < beyond < 0.06,  # 2.8 % of normal draws
                expected="normal draws, of which some three in a hundred lie beyond 2.2 standard deviations",
                got=f"{beyond:.1%}",
                ask="torch.rand draws from an interval, torch.randn from the bell.",
            )

    @pytest.mark.points(2)
    def test_looks_up(self, student, rng):
        """gives every id its row, whatever the shape of the ids"""
        V, D = self.sizes(rng)
        B, T, S = rng.distinct(3, high=6)
        for padding_id in (PAD, int(rng.integers(1, V - 1)), None):
            m, weight = self.layer(student, rng, V, D, padding_id)
            for shape in ((B, T), (T,), (B, T, S), (1, 1)):
                ids = torch.from_numpy(np.asarray(rng.integers(0, V, shape)))
                ids.view(-1)[0] = V - 1
                expected = F.embedding(ids, weight)
                hidden = (ids == padding_id)[..., None] if padding_id is not None else torch.tensor(False)
                mistakes = {
                    "a table with one-hot rows: these are still to be multiplied by `weight`": lambda i=ids: (
                        F.one_hot(i, V).float()
                    ),
                    "rows that are one place off": lambda i=ids, w=weight, h=hidden: w.roll(1, 0)[
                        i
                    ].masked_fill(h, 0.0),
                    "rows one place off, the other way": lambda i=ids, w=weight, h=hidden: w.roll(-1, 0)[
                        i
                    ].masked_fill(h, 0.0),
                    "rows multiplied by √D: scaling is the model's affair, not the table's": expected
                    * D**0.5,
                    "columns of the table": lambda i=ids, w=weight: w.T[i] if int(i.max()) < D else i,
                    "one vector for each sequence: every id has its own": lambda e=expected: e.mean(-2),
                    "one vector for each sequence, the sum: every id has its own": lambda e=expected: e.sum(
                        -2
                    ),
                    "rows scaled to length one": F.normalize(expected, dim=-1),
                    "zeros where the id is 0, though the padding has another id": lambda e=expected, i=ids: (
                        e * (i != 0)[..., None]
                    ),
                }
                ask = "Which row of `weight` belongs to the id, and which shape has the answer?"
                with expect.unchanged(ids=ids):
                    out = m(ids)
                expect.array(out, shape=(*shape, D), dtype=torch.float32, what="the vectors (*B, D)", ask=ask)
                expect.close(out, expected, atol=1e-6, what="vectors", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_looks_up")
    def test_gradient(self, student, rng):
        """sends the gradient to the rows that were looked up, once for each time"""
        V, D = self.sizes(rng)
        B, T = 3, int(rng.integers(4, 7))
        m, weight = self.layer(student, rng, V, D, None, DOUBLE)
        ids = torch.from_numpy(rng.integers(0, V - 2, (B, T)))
        ids[0, :2] = ids[1, 0] = 0
        given = rng.tensor(B, T, D, dtype=DOUBLE)
        found = self.gradient_of(m, ids, given, V, D)
        copy = weight.clone().requires_grad_()
        (F.embedding(ids, copy) * given).sum().backward()
        once = torch.zeros(V, D, dtype=DOUBLE)
        once[ids.view(-1)] = given.view(-1, D)
        mistakes = {
            "the gradient of one place where an id stands several times: they add up": once,
            "a gradient without row 0, where padding_id is None": lambda: copy.grad.index_fill(
                0, torch.tensor([0]), 0.0
            ),
            "no gradient: the rows were cut off from the graph": torch.zeros(V, D, dtype=DOUBLE),
        }
        ask = "Are the rows taken from the parameter itself, without .data or .detach()?"
        expect.close(found, copy.grad, what="the gradient of `weight`", ask=ask, mistakes=mistakes)

    def gradient_of(self, m, ids, given, V, D):
        """The gradient of the table after one look-up, weighted."""
        out = m(ids)
        expect.array(out, shape=(*ids.shape, D), dtype=given.dtype, what="the vectors")
        ask = "Are the rows taken from the parameter itself, without .data or .detach()?"
        expect.holds(
            out.requires_grad,
            expected="vectors that can be differentiated with respect to `weight`",
            got="vectors that are cut off from it",
            ask=ask,
        )
        m.zero_grad()
        out.backward(given)
        found = expect.parameters(m, {"weight": (V, D)})["weight"].grad
        expect.holds(found is not None, expected="a gradient for `weight`", got="none", ask=ask)
        expect.array(found, shape=(V, D), dtype=given.dtype, what="the gradient of `weight`")
        return found

    @pytest.mark.points(3)
    @pytest.mark.needs("test_looks_up")
    def test_padding_is_not_trained(self, student, rng):
        """keeps the padding's row at zero: no output, no gradient, no step"""
        V, D = self.sizes(rng)
        B, T = 3, int(rng.integers(4, 7))
        for padding_id in (PAD, int(rng.integers(1, V))):
            m, weight = self.layer(student, rng, V, D, padding_id, DOUBLE)
            ids = torch.from_numpy(rng.integers(0, V, (B, T)))
            ids[:, -1] = padding_id
            ids[0, 0] = (padding_id + 1) % V
            given = rng.tensor(B, T, D, dtype=DOUBLE)
            found = self.gradient_of(m, ids, given, V, D)
            copy = weight.clone().requires_grad_()
            (F.embedding(ids, copy) * given).sum().backward()
            expected = copy.grad.clone()
            expected[padding_id] = 0
            mistakes = {
                f"a gradient in row {padding_id}: one step, and padding means something": copy.grad,
                "a gradient without row 0, though the padding has another id": copy.grad.index_fill(
                    0, torch.tensor([0]), 0.0
                ),
                "no gradient in any row": torch.zeros(V, D, dtype=DOUBLE),
            }
            ask = f"Row {padding_id} is looked up too. What keeps the gradient from flowing into it?"
            expect.close(found, expected, what="the gradient of `weight`", ask=ask, mistakes=mistakes)
            optimizer = student.torch.optim.SGD(m.parameters(), lr=0.1)
            optimizer.step()
            out = m(torch.tensor([padding_id]))
            expect.array(out, shape=(1, D), what="the vector of the padding")
            expect.holds(
                (out == 0).all(),
                expected="a vector of zeros for the padding after a step of SGD",
                got=f"an entry of {float(out.abs().max()):.3g}",
                ask=ask,
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_looks_up")
    def test_refuses_what_has_no_row(self, student, rng):
        """raises IndexError for an id that is negative or too large"""
        V, D = self.sizes(rng)
        for padding_id in (PAD, None):
            m, _ = self.layer(student, rng, V, D, padding_id)
            for wrong, ask in (
                (V, f"With {V} rows, which is the last id?"),
                (-1, "What does indexing find at -1? A negative id is a mistake that should be heard."),
                (-100, "-100 marks labels to ignore. As an id it is a mistake."),
                (-V, "What does indexing find at a negative place?"),
            ):
                ids = torch.from_numpy(rng.integers(0, V, (2, 3)))
                ids[int(rng.integers(2)), int(rng.integers(3))] = wrong
                when = f"for the id {wrong}, where ids go from 0 to {V - 1}"
                expect.raises(IndexError, lambda i=ids, m=m: m(i), when=when, ask=ask)
            out = m(torch.tensor([0, V - 1]))
            expect.array(out, shape=(2, D), what="the vectors of the first id and the last")
