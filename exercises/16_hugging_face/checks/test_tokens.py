"""Checks of unit 16, first part: a tokenizer that is trained, and labels of words that become labels of tokens.

Two trainings on the same texts need not end with the same vocabulary, since the trainer breaks ties at random. So what
was learned is judged by properties, and what the tokenizer does with it by ``transformers.BertTokenizer``, which is
given the vocabulary.
"""

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or it warns where a notebook starts a process

import numpy as np
import pytest
from tokenizers import normalizers, pre_tokenizers
from transformers import BertTokenizer

from proctor import expect
from proctor.proxies import Proxy, sketch

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ODD = ["日本", "😀", "Ω", "ж", "ñandu", "_", "¿", "²"]


class Corpus:
    """Texts of made-up words, some frequent, with capitals, accents, marks and digits; and words that are new."""

    def __init__(self, rng):
        letters = rng.permutation(list("abcdefghilmnoprstuv"))[:9].tolist()
        accents = {"a": "á", "e": "ê", "i": "í", "o": "õ", "u": "ü", "n": "ñ", "c": "ç", "s": "š"}
        letters += [accents[letter] for letter in letters if letter in accents][:2] or ["é"]
        syllables = ["".join(rng.choice(letters, int(n))) for n in rng.integers(2, 4, 12)]
        words = ["".join(rng.choice(syllables, int(n))) for n in rng.integers(1, 4, 60)]
        self.common = "".join(rng.choice([x for x in letters if x.isascii()], 6))
        share = 1 / (1 + np.arange(len(words)))
        self.texts = []
        for _ in range(40):
            drawn = rng.choice(words, 7, p=share / share.sum()).tolist() + [self.common] * 3
            drawn = [word.title() if rng.random() < 0.3 else word for word in rng.permutation(drawn).tolist()]
            text = " ".join(drawn)
            self.texts.append(
                text.replace(" ", ", ", 1) + f"{rng.choice(list('.!?'))} {rng.integers(10, 99)}"
            )
        self.syllables = syllables
        self.size = 100

    def new(self, rng, count=6):
        """Texts with words that were not learned from, letters that are unknown, and odd spaces."""
        texts = []
        for _ in range(count):
            words = ["".join(rng.choice(self.syllables, int(n))) for n in rng.integers(1, 5, 5)]
            words = [word.upper() if rng.random() < 0.3 else word for word in words]
            words.insert(int(rng.integers(6)), str(rng.choice(ODD)))
            texts.append("  ".join(words[:3]) + "-" + ", ".join(words[3:]) + "'s\t(ok)")
        return texts


def made(student, corpus, **options):
    """The learner's tokenizer, trained on a corpus."""
    size = options.pop("size", corpus.size)
    try:
        tokenizer = student.train_tokenizer(corpus.texts, size, **options)
    except TypeError as error:
        if "Expected Union" not in str(error):
            raise
        expect.fail(
            expected="special tokens with their ids, for the template of the post-processor",
            got="a TypeError: an id is None",
            ask="`token_to_id` gives None for what is not in the vocabulary. Which tokens was the "
            "trainer told of? And does it go "
            "to train_from_iterator?",
        )
    ask = (
        "Which class of `transformers` is made from a `Tokenizer`, by tokenizer_object=…, and does "
        "the `return` hand it back?"
    )
    what = "a tokenizer of the library `transformers`"
    expect.holds(isinstance(tokenizer, Proxy), expected=what, got=sketch(tokenizer), ask=ask)
    tokenizer = expect.named(tokenizer, "tokenizer")
    try:
        tokenizer.pad_token_id  # noqa: B018 - only whether it is there
    except AttributeError:
        expect.fail(expected=what, got="an object without `pad_token_id`: is it the bare Tokenizer?", ask=ask)
    return tokenizer


def vocabulary(tokenizer, size):
    """The learner's tokens and their ids, which are those from 0 on."""
    found = tokenizer.get_vocab()
    ask = (
        "Which argument of the trainer says how many tokens there are to be, and does the trainer go "
        "to train_from_iterator?"
    )
    plain = isinstance(found, dict) and all(
        type(token) is str and type(i) is int for token, i in found.items()
    )
    expect.holds(plain, expected="a vocabulary of tokens and their ids", got=sketch(found), ask=ask)
    came = f"{len(found)} tokens" + (": nothing was learned" if len(found) <= 6 else "")
    if len(found) == size + 5:
        came += ". The special tokens count, too"
    if len(found) > 1000:
        came += ": the trainer's own vocab_size is 30,000"
    expect.holds(len(found) == size, expected=f"a vocabulary of {size} tokens", got=came, ask=ask)
    expect.holds(
        sorted(found.values()) == list(range(size)) and not any(_odd(token) for token in found),
        expected=f"the ids 0 to {size - 1}, each once",
        got="other ids",
        ask=ask,
    )
    return found


def _odd(token):
    return any("\ud800" <= letter <= "\udfff" for letter in token) or len(token) > 200


def words_of(texts, lowercase=True):
    """The words that BERT's normaliser and pre-tokeniser make of texts."""
    normalizer, cut = normalizers.BertNormalizer(lowercase=lowercase), pre_tokenizers.BertPreTokenizer()
    return [word for text in texts for word, _ in cut.pre_tokenize_str(normalizer.normalize_str(text))]


def encoded(tokenizer, *args, **options):
    """What the learner's tokenizer makes of its arguments: a dict."""
    out = tokenizer(*args, **options)
    data = out.data if isinstance(out, Proxy) else out
    got = sketch(data)
    expect.holds(isinstance(data, dict), expected="input_ids and what goes with them", got=got)
    return data


def lists(data, name, what):
    """One entry of what a tokenizer made, as lists of whole numbers."""
    ask = {
        "token_type_ids": "A bare PreTrainedTokenizerFast hands out input_ids and attention_mask. Which "
        "of its arguments "
        "names what is handed out (model_input_names)?",
    }.get(name, "")
    got = f"only {', '.join(map(str, data))}"[:90]
    expect.holds(name in data, expected=f"{name} for {what}", got=got, ask=ask)
    rows = data[name]
    rows = rows if isinstance(rows, list) and all(isinstance(row, list) for row in rows) else [rows]
    plain = all(isinstance(row, list) and all(type(i) is int for i in row) for row in rows)
    expect.holds(plain, expected=f"{name} as lists of whole numbers", got=sketch(rows))
    return rows


def spelled(ids, names, room=11):
    """Ids as the tokens that they stand for."""
    tokens = [names.get(i, f"id {i}") for i in ids]
    return " ".join(tokens[:room]) + (" …" if len(tokens) > room else "")


@pytest.mark.exercise("train_tokenizer")
class TestTrainTokenizer:
    @pytest.mark.points(2)
    @pytest.mark.draws(2)
    def test_special_tokens(self, student, rng):
        """learns as many tokens as it is told, the special ones first, and knows what these are for"""
        corpus = Corpus(rng)
        tokenizer = made(student, corpus)
        found = vocabulary(tokenizer, corpus.size)
        first = sorted(found, key=found.get)[:5]
        missing = [token for token in SPECIALS if token not in found]
        got = f"without {', '.join(missing)}" if missing else ", ".join(first)
        ask = (
            "The trainer gives special tokens the first ids, in the order of its argument "
            "special_tokens. What is in it?"
        )
        expect.holds(
            first == SPECIALS, expected=f"the ids 0 to 4 for {', '.join(SPECIALS)}", got=got, ask=ask
        )
        for i, name in enumerate(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")):
            known, number = getattr(tokenizer, name), getattr(tokenizer, f"{name}_id")
            expect.holds(
                type(number) is int and known == SPECIALS[i] and number == i,
                expected=f"tokenizer.{name} = {SPECIALS[i]!r}, with the id {i}",
                got=f"{known!r}"[:60] + f", id {number!r}"[:40],
                ask=f"The vocabulary holds {SPECIALS[i]}, but who tells the tokenizer that it is its {name}?",
            )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_special_tokens")
    @pytest.mark.draws(2)
    def test_learns_from_words_that_are_normalised(self, student, rng):
        """learns its tokens from the words of the normalised texts"""
        corpus = Corpus(rng)
        found = set(vocabulary(made(student, corpus), corpus.size)) - set(SPECIALS)
        words = set(words_of(corpus.texts))
        ask = "Are normaliser and pre-tokeniser in their place before train_from_iterator runs?"
        expected = "tokens that stand in the words of the normalised texts"
        for test, what in (
            (lambda t: t != t.lower(), "a capital letter: the texts were not normalised when the "
            "vocabulary was learned"),
            (lambda t: not t.isascii(), "an accent: the texts were not normalised when the vocabulary was learned"),
            (lambda t: any(c.isspace() for c in t), "a space: the texts were not cut into words when "
            "the vocabulary was learned"),
            (lambda t: len(t) > 1 and not t.removeprefix("##").isalnum(),
             "a mark beside letters: the texts were not cut as BertPreTokenizer does when the vocabulary was learned"),
        ):  # fmt: skip
            wrong = sorted(token for token in found if test(token))
            expect.holds(not wrong, expected=expected, got=f"{wrong[:1]}, with {what}", ask=ask)
        begins = {token for token in found if not token.startswith("##")}
        letters = {letter for word in words for letter in word}  # each is in the alphabet, wherever it stands
        places = [(t, t in letters or any(word.startswith(t) for word in words)) for t in begins]
        places += [(t, any(t[2:] in word[1:] for word in words)) for t in found - begins]
        wrong = sorted(token for token, there in places if not there)
        expect.holds(not wrong, expected=expected, got=f"{wrong[:3]}, which stand in none of them", ask=ask)
        letters = {word[0] for word in words} | {f"##{letter}" for word in words for letter in word[1:]}
        missing = sorted(letters - found)
        ask = "Which trainer belongs to models.WordPiece, and what does it do to letters that go on within a word?"
        expected = "every letter of the texts, at the beginning of a word and within one (##)"
        expect.holds(not missing, expected=expected, got=f"without {missing[:5]}", ask=ask)
        expected = f"{corpus.common!r}, the most frequent word of all, as one token"
        got = "it is not in the vocabulary"
        expect.holds(corpus.common in found, expected=expected, got=got, ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_special_tokens")
    @pytest.mark.draws(2)
    def test_encodes_as_bert(self, student, rng):
        """encodes new texts as BERT's tokenizer does with the same vocabulary"""
        corpus = Corpus(rng)
        tokenizer = made(student, corpus)
        found = vocabulary(tokenizer, corpus.size)
        names = {i: token for token, i in found.items()}
        theirs = BertTokenizer(vocab=found)
        texts = [corpus.common, *corpus.texts[:2], *corpus.new(rng), ""]
        rows = lists(encoded(tokenizer, texts), "input_ids", "a list of texts")
        expect.holds(len(rows) == len(texts), expected=f"{len(texts)} rows", got=f"{len(rows)}")
        for text, got in zip(texts, rows, strict=True):
            wanted = theirs(text)["input_ids"]
            if got != wanted:
                ask = self._why(got, wanted, text, found)
                quoted = f"for {text!r}: " if len(text) < 50 else ""
                expect.fail(
                    expected=quoted + spelled(wanted, names), got=spelled(got, names) or "nothing", ask=ask
                )

    def _why(self, got, wanted, text, found):
        """The question to ask, by how two encodings differ."""
        inner = wanted[1:-1]
        if got == inner:
            return "Where do [CLS] and [SEP] come from? Has the tokenizer a post-processor?"
        if got and got[0] == 2 and got[1:] == inner:
            return "What stands behind the last token? Look at the template of the post-processor."
        if got == [*inner, 3]:
            return "What stands before the first token? Look at the template of the post-processor."
        if sorted(got) == sorted(wanted):
            return (
                "The tokens are right, their order is not. What does the template of the post-processor say?"
            )
        if got[1:-1] == [found.get(word, 1) for word in words_of([text])]:
            return "Known as a whole, or unknown: which of `models` cuts words into pieces?"
        plain = pre_tokenizers.WhitespaceSplit().pre_tokenize_str(text)
        if len(got) - 2 < len(plain) or (1 in got and 1 not in wanted):
            return "Is a new text normalised and cut into words just as the texts were when the vocabulary was learned?"
        return "Which stage makes the difference: normaliser, pre-tokeniser, model or post-processor?"

    @pytest.mark.points(1)
    @pytest.mark.needs("test_encodes_as_bert")
    @pytest.mark.draws(2)
    def test_pairs_and_batches(self, student, rng):
        """encodes pairs of texts, with the second marked as such, and pads batches"""
        corpus = Corpus(rng)
        tokenizer = made(student, corpus)
        found = vocabulary(tokenizer, corpus.size)
        names, theirs = {i: token for token, i in found.items()}, BertTokenizer(vocab=found)
        first, second, third = corpus.new(rng, 3)
        data, wanted = encoded(tokenizer, first, second), theirs(first, second)
        ask = (
            "The post-processor has a template for pairs, in which :1 marks what belongs to the "
            "second text. What does yours say?"
        )
        (got,) = lists(data, "input_ids", "a pair")
        expected = "a pair as " + spelled(wanted["input_ids"], names, 30)
        expect.holds(got == wanted["input_ids"], expected=expected, got=spelled(got, names, 30), ask=ask)
        (got,) = lists(data, "token_type_ids", "a pair")
        expected = f"token_type_ids {wanted['token_type_ids']}"
        came = f"{got}: the second text, with its [SEP], is to be told from the first"
        expect.holds(got == wanted["token_type_ids"], expected=expected, got=came, ask=ask)
        texts = [first, corpus.common, third]
        rows = {"input_ids": theirs(texts)["input_ids"]}
        data, wanted = encoded(tokenizer.pad, rows), theirs.pad(dict(rows))["input_ids"]
        ask = "`pad`, which collators call, looks for the first of model_input_names. Which is it?"
        got = lists(data, "input_ids", "rows to pad")
        expect.holds(got == wanted, expected=f"padded rows {sketch(wanted)}", got=sketch(got), ask=ask)
        data, wanted = encoded(tokenizer, texts, padding=True), theirs(texts, padding=True)
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            got = lists(data, name, "a batch")
            ask = "Does the tokenizer know its pad_token?"
            expect.holds(
                got == wanted[name],
                expected=f"{name} of a padded batch {sketch(wanted[name])}",
                got=sketch(got),
                ask=ask,
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_encodes_as_bert")
    @pytest.mark.draws(2)
    def test_decodes(self, student, rng):
        """joins the tokens of a word again when it decodes"""
        corpus = Corpus(rng)
        tokenizer = made(student, corpus)
        theirs = BertTokenizer(vocab=vocabulary(tokenizer, corpus.size))
        for text in [corpus.texts[0], *corpus.new(rng, 2)]:
            ids = theirs(text)["input_ids"]
            for skip in (True, False):
                wanted, got = (one.decode(ids, skip_special_tokens=skip) for one in (theirs, tokenizer))
                ask = "Which decoder knows what ## means?"
                if isinstance(got, str) and "[" in got and skip:
                    ask = (
                        "Special tokens can be skipped if the tokenizer knows that they are special. Does it?"
                    )
                expect.holds(got == wanted, expected=repr(wanted)[:150], got=repr(got)[:150], ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_encodes_as_bert")
    @pytest.mark.draws(2)
    def test_keeps_case(self, student, rng):
        """keeps capitals and accents with lowercase=False"""
        corpus = Corpus(rng)
        corpus.texts.append(f"{corpus.common.upper()} é É")
        tokenizer = made(student, corpus, lowercase=False)
        found = vocabulary(tokenizer, corpus.size)
        capitals = any(t != t.lower() for t in set(found) - set(SPECIALS))
        ask = "Which argument of BertNormalizer decides on small letters, and what does it get?"
        expected = "tokens with capitals and with accents, which the texts hold"
        accents = "É" in found and "é" in found
        got = "a vocabulary without capitals" if not capitals else "a vocabulary without É or é"
        expect.holds(capitals and accents, expected=expected, got=got, ask=ask)
        names, theirs = (
            {i: token for token, i in found.items()},
            BertTokenizer(vocab=found, do_lower_case=False),
        )
        for text in [corpus.texts[-1], *corpus.new(rng, 3)]:
            wanted = theirs(text)["input_ids"]
            (got,) = lists(encoded(tokenizer, text), "input_ids", "a text")
            expect.holds(
                got == wanted, expected=spelled(wanted, names), got=spelled(got, names) or "nothing", ask=ask
            )


def told(labels):
    """Labels as they are shown to a learner."""
    return "[" + ", ".join(map(str, labels[:16])) + (", …" if len(labels) > 16 else "") + "]"


class Text:
    """A text of labelled words, cut into tokens: the numbers of their words, and the right labels."""

    def __init__(self, rng, count=6, classes=7, skip=False):
        self.labels = [int(i) for i in rng.integers(0, classes, count)]
        pieces = [1, 2, 3, 2, *rng.integers(1, 5, count).tolist()][:count]
        pieces = [int(n) for n in rng.permutation(pieces)]
        if skip:  # two words leave no token, and the last is cut off
            pieces[1] = pieces[3] = pieces[-1] = 0
        inner = [word for word, n in enumerate(pieces) for _ in range(n)]
        self.word_ids = [None, *inner, None, *[None] * int(rng.integers(0, 3))]

    def first(self, special=-100, rest=-100):
        """The labels in which the first token of a word has that of the word."""
        out, seen = [], set()
        for word in self.word_ids:
            out.append(special if word is None else self.labels[word] if word not in seen else rest)
            seen.add(word)
        return out

    def all(self, inside):
        """The labels in which the other tokens of a word have one as well."""
        out, seen = [], set()
        for word in self.word_ids:
            label = -100 if word is None else self.labels[word]
            out.append(inside.get(label, label) if word in seen and word is not None else label)
            seen.add(word)
        return out


@pytest.mark.exercise("align_labels")
class TestAlignLabels:
    def found(self, student, *args, **options):
        """The learner's labels: a list of whole numbers."""
        out = student.align_labels(*args, **options)
        ask = "One label is appended for each token, whatever it is, and the list is returned in the end."
        plain = isinstance(out, (list, tuple)) and all(type(label) is int for label in out)
        got = "None" if out is None else f"{type(out).__name__}: {sketch(out)}"
        if isinstance(out, list) and any(label is None for label in out):
            got += ": None is no label that a tensor can hold"
        expect.holds(plain, expected="a list of whole numbers, one for each token", got=got, ask=ask)
        return list(out)

    def compare(self, got, expected, mistakes, ask):
        if got == expected:
            return
        says = next((sentence for sentence, wrong in mistakes.items() if got == wrong), "")
        count = f"{len(got)} labels for {len(expected)} tokens: " if len(got) != len(expected) else ""
        came = f"{count}{told(got)}" + (f": {says}" if says else "")
        expect.fail(expected=told(expected), got=came, ask=ask)

    def wrong(self, text):
        """What known mistakes make of a text."""
        words = [word for word in text.word_ids if word is not None]
        real = [text.labels[word] for word in words]
        padded = [*text.labels, *[-100] * len(text.word_ids)][: len(text.word_ids)]
        last = [
            label if i + 1 == len(text.word_ids) or text.word_ids[i + 1] != text.word_ids[i] else -100
            for i, label in enumerate(text.all({}))
        ]
        every = text.all({})
        return {
            "special tokens have the label 0, which is a class. The loss would count them": text.first(special=0),
            "special tokens have the label 0, and every token of a word has one": [
                0 if word is None else text.labels[word] for word in text.word_ids
            ],
            "the other tokens of a word have the label 0, which is a class": text.first(rest=0),
            "special tokens have the label −1. PyTorch leaves out −100": text.first(special=-1, rest=-1),
            "every token of a word has its label. Without `inside` only the first has": every,
            "the last token of each word has its label, not the first": last,
            "special tokens were left out": [
                x for x, word in zip(text.first(), text.word_ids, strict=True) if word is not None
            ],
            "special tokens were left out, and every token of a word has its label": real,
            "labels of words, one after the other, beside tokens": padded,
            "labels of words, cut or left as they are: there are more tokens than words": text.labels,
            "labels of words behind a special token, one after the other": [-100, *padded][: len(text.word_ids)],
        }  # fmt: skip

    @pytest.mark.points(2)
    def test_special_tokens_do_not_count(self, student, rng):
        """gives special tokens −100, and every token some label"""
        text = Text(rng)
        got = self.found(student, text.labels, text.word_ids)
        expected = text.first()
        ask = "Which label does PyTorch's cross-entropy leave out, and which tokens belong to no word?"
        none = [word is None for word in text.word_ids]
        fits = len(got) == len(expected) and all(
            label == -100 for label, n in zip(got, none, strict=True) if n
        )
        if not fits:
            self.compare(got, expected, self.wrong(text), ask)
        expect.holds(
            any(label != -100 for label in got),
            expected=told(expected),
            got=told(got) + ": nothing is left to learn",
            ask="Which tokens belong to a word, and where does that word's label come from?",
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_special_tokens_do_not_count")
    def test_first_token_of_each_word(self, student, rng):
        """labels the first token of each word, and no other"""
        ask = "How does the loop know that a token is the first of its word? What did the token before it belong to?"
        for count in (7, 1, 12):
            text = Text(rng, count)
            self.compare(self.found(student, text.labels, text.word_ids), text.first(), self.wrong(text), ask)
        same = Text(rng, 5, classes=1)  # neighbours with the same label
        same.labels = [3] * 5
        ask = "Neighbouring words may have the same label. Are words told apart by their numbers?"
        self.compare(self.found(student, same.labels, same.word_ids), same.first(), {}, ask)
        bare = Text(rng, 5)  # encoded without special tokens: the first token begins a word
        bare.word_ids = [word for word in bare.word_ids if word is not None]
        ask = "A text may come without special tokens. What is before its first token?"
        self.compare(self.found(student, bare.labels, bare.word_ids), bare.first(), {}, ask)
        got = self.found(student, [], [None, None])
        expect.holds(
            got == [-100, -100], expected="[-100, -100] for a text without words", got=told(got), ask=ask
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_first_token_of_each_word")
    def test_inside(self, student, rng):
        """with `inside`, labels the other tokens of a word by it"""
        text = Text(rng, 8)
        text.labels = [int(i) for i in rng.permutation([0, 1, 2, 3, 4, 5, 6, 1])]
        ask = "What does the mapping say of the word's label, and what if it says nothing?"
        for inside in ({1: 2, 2: 5, 3: 4}, {0: 6, 4: 0}, {}, dict.fromkeys(range(7), -100)):
            got = self.found(student, text.labels, text.word_ids, inside)
            twice = [
                inside.get(x, x) if x != first else x
                for x, first in zip(text.all(inside), text.all({}), strict=True)
            ]
            strict = [x if i in (first, None) or first in inside else -100 for x, first, i in zip(
                text.all(inside), text.all({}), text.first(), strict=True)]  # fmt: skip
            mistakes = {
                "the other tokens have −100: `inside` was not used": text.first(),
                "every token has the label of its word: `inside` was not used": text.all({}),
                "the first tokens have the label from `inside`, too. It is for the others": [
                    inside.get(label, label) for label in text.all({})
                ],
                "the mapping was applied to what it had returned": twice,
                "words whose label the mapping does not hold": strict,
            }
            if not inside:
                mistakes = {
                    "the other tokens have −100. An empty mapping is a mapping, and not None": text.first()
                }
            self.compare(got, text.all(inside), mistakes, ask)
        got = self.found(student, text.labels, text.word_ids, inside=None)
        self.compare(got, text.first(), self.wrong(text), "What does inside=None mean?")

    @pytest.mark.points(1)
    @pytest.mark.needs("test_first_token_of_each_word")
    def test_missing_words(self, student, rng):
        """finds each word's label by its number, where words are missing"""
        text = Text(rng, 7, skip=True)
        text.labels = [int(i) for i in rng.permutation(7)]
        order = {word: i for i, word in enumerate(dict.fromkeys(w for w in text.word_ids if w is not None))}
        counted = [
            label if label == -100 else text.labels[order[word]]
            for label, word in zip(text.first(), text.word_ids, strict=True)
        ]
        mistakes = {
            "labels counted off word by word. Words 1 and 3 left no token, and their labels are not used": counted
        }
        ask = "The tokens of words 1 and 3 are not there. Which label belongs to word 2?"
        self.compare(self.found(student, text.labels, text.word_ids), text.first(), mistakes, ask)
        inside = {i: i + 10 for i in range(7)}
        got = self.found(student, text.labels, text.word_ids, inside)
        self.compare(got, text.all(inside), {}, ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_first_token_of_each_word")
    def test_refuses_words_without_a_label(self, student, rng):
        """raises ValueError where a token belongs to a word that has no label"""
        text = Text(rng, 6)
        ask = (
            "Labels that are fewer than the words were cut somewhere. Who would notice, if not this function?"
        )
        for kept in (5, 3, 0):
            for inside in (None, {1: 2}):
                expect.raises(
                    ValueError,
                    lambda k=kept, i=inside: student.align_labels(text.labels[:k], text.word_ids, i),
                    when=f"for {kept} labels and 6 words",
                    ask=ask,
                )
        self.found(student, [*text.labels, 1], text.word_ids)  # more labels than words: the text was cut
        self.found(student, text.labels, [None, None])
