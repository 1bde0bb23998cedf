"""Checks of unit 17, first part: what masked language modelling hides, and what it asks for.

The draws are the learner's own, so nothing is compared with a draw of ours: what must hold for every draw is checked
entry by entry, and shares of many draws against intervals of six standard deviations, which a right answer leaves once
in hundreds of millions of checks.
"""

import math

import numpy as np
import pytest
import torch

from proctor import expect

IGNORE = -100


def setting(rng, share_special=0.2, vocabulary=None):
    """A vocabulary, five special ids from all over it, the one of [MASK] among them, and a function that draws ids."""
    V = int(rng.integers(40, 60)) if vocabulary is None else vocabulary
    order = [int(i) for i in rng.permutation(np.arange(1, V - 1))]
    special, ordinary = order[:5], torch.tensor(sorted([0, V - 1, *order[5:]]))

    def draw(*shape):
        ids = ordinary[torch.from_numpy(rng.integers(0, len(ordinary), shape))]
        which = torch.tensor(special)[torch.from_numpy(rng.integers(0, 5, shape))]
        return torch.where(torch.from_numpy(rng.random(shape) < share_special), which, ids)

    return V, special[int(rng.integers(5))], special, ordinary, draw


def masked(student, ids, *args, **named):
    """The learner's inputs and labels, which are two tensors of whole numbers of the shape of the ids."""
    inputs, labels = expect.parts(student.mask_tokens(ids, *args, **named), "inputs", "labels")
    for name, value in (("the inputs", inputs), ("the labels", labels)):
        ask = "Which line makes booleans or fractions of ids, or loses a dimension?"
        expect.array(value, shape=tuple(ids.shape), dtype=torch.int64, what=name, ask=ask)
    return inputs, labels


def share(count, of, p, expected, ask, names=()):
    """Expect a count that a share p of so many draws explains; ``names`` are (share, what it is the share of)."""
    room = 6 * math.sqrt(of * p * (1 - p)) + 1
    if abs(count - of * p) <= room:
        return
    got = f"{count} of {of}, {count / of:.1%}"
    for other, said in names:
        if abs(count - of * other) <= 6 * math.sqrt(max(of * other * (1 - other), 1.0)) + 1:
            got += f": {said}"
            break
    expect.fail(expected=f"{expected}: {of * p:.0f} ± {room:.0f} of {of}, {p:.0%}", got=got, ask=ask)


FATES = {  # shares of [MASK], another token, the token itself
    "every chosen token became [MASK]": (1.0, 0.0, 0.0),
    "no token is replaced at random": (0.8, 0.0, 0.2),
    "no token stays as it was": (0.8, 0.2, 0.0),
    "no token stays as it was ": (0.9, 0.1, 0.0),
    "no token is replaced at random ": (0.9, 0.0, 0.1),
    "the random tokens are 10 % of the 20 % that are left: they should be half of those": (
        0.8,
        0.02,
        0.18,
    ),
    "the random tokens are drawn over half of all that are chosen, [MASK] among them": (0.4, 0.5, 0.1),
    "the random tokens are drawn over a tenth of all that are chosen, [MASK] among them": (
        0.72,
        0.1,
        0.18,
    ),
    "[MASK] and random tokens in each other's place": (0.1, 0.8, 0.1),
    "[MASK] and unchanged tokens in each other's place": (0.1, 0.1, 0.8),
    "random tokens are 80 % of those that are left": (0.8, 0.16, 0.04),
    "no token became [MASK]": (0.0, 0.1, 0.9),
    "every chosen token was replaced at random": (0.0, 1.0, 0.0),
    "no token was replaced": (0.0, 0.0, 1.0),
}


@pytest.mark.exercise("mask_tokens")
class TestMaskTokens:
    @pytest.mark.points(2)
    def test_labels(self, student, rng):
        """labels say what was there where a token was chosen, and −100 everywhere else"""
        B, T = int(rng.integers(5, 9)), int(rng.integers(40, 60))
        V, mask_id, special, _, draw = setting(rng)
        ids = draw(B, T)
        inputs, labels = masked(student, ids, V, mask_id, special, 0.5)
        ask = "The loss leaves out the label −100. Where is nothing asked, and what is asked elsewhere?"
        what = "labels that are −100, or the id that was there"
        swapped = bool(((inputs == IGNORE) | (inputs == ids)).all() and (inputs == IGNORE).any())
        expect.holds(
            not swapped,
            expected="first the inputs, then the labels",
            got="labels and inputs in each other's place",
            ask="In which order does the docstring return them?",
        )
        expect.holds(
            not (inputs == IGNORE).any(),
            expected="inputs that are ids",
            got="−100 among them: were the labels written into the ids?",
            ask="Which line works in place, on a tensor that is still needed?",
        )
        if torch.equal(labels, ids):
            got = "the ids everywhere: labels outside the mask, for tokens that are in plain sight"
            expect.fail(expected=what, got=got, ask=ask)
        wrong = (labels != ids) & (labels != IGNORE)
        if wrong.any():
            found = labels[wrong].unique()
            got = f"{labels[wrong][0].item()} where {ids[wrong][0].item()} was"
            if (torch.equal(labels[wrong], inputs[wrong]) and len(found) > 1) or (found == mask_id).all():
                got += ": a label that holds what the model reads, not what was there before"
            elif len(found) <= 1:
                got += f": {found[0].item()} in the place of −100"
            elif ((labels == 0) | (labels == 1)).all():
                got = "zeros and ones: a mask, not labels"
            expect.fail(expected=what, got=got, ask=ask)
        changed = inputs != ids
        outside = changed & (labels == IGNORE)
        if outside.any():
            first = f"{ids[outside][0].item()} by {inputs[outside][0].item()}"
            got = f"{int(outside.sum())} tokens that were replaced and have the label −100, such as {first}"
            if not (changed & (labels != IGNORE)).any():
                got += ", and labels for the others: the mask is the wrong way round"
            expect.fail(expected="a label for every token that was replaced", got=got, ask=ask)
        expect.holds(
            bool(changed.any()),
            expected="inputs in which about 45 % of the tokens are replaced",
            got="the ids as they were",
            ask="What do you return as inputs?",
        )
        expect.holds(
            bool((labels == IGNORE).any()) and bool((labels != IGNORE).any()),
            expected="labels for about half of the tokens, with rate=0.5",
            got=f"labels for {int((labels != IGNORE).sum())} of {labels.numel()} tokens", ask=ask,
        )  # fmt: skip

    @pytest.mark.points(2)
    @pytest.mark.needs("test_labels")
    def test_specials(self, student, rng):
        """never chooses a special token, wherever it stands"""
        B, T = int(rng.integers(5, 9)), int(rng.integers(40, 60))
        V, mask_id, special, _, draw = setting(rng, 0.4)
        ids = draw(B, T)
        ids[0] = torch.tensor(special)[torch.from_numpy(rng.integers(0, 5, T))]  # a row of nothing else
        is_special = torch.isin(ids, torch.tensor(special))
        for rate, given in ((1.0, special), (0.5, tuple(special))):
            inputs, labels = masked(student, ids, V, mask_id, given, rate)
            chosen = labels != IGNORE
            for wrong, said in ((chosen, "with a label"), (inputs != ids, "replaced")):
                hidden = wrong & is_special
                if hidden.any():
                    name = ids[hidden][0].item()
                    got = f"{int(hidden.sum())} of {int(is_special.sum())} special tokens {said}"
                    got += (
                        f", such as {name}, which is [MASK] itself"
                        if name == mask_id
                        else f", such as {name}"
                    )
                    left = ids[is_special & ~wrong].unique().tolist()
                    if 0 < len(left) < 5 and rate == 1.0:
                        got += f"; left alone was only {', '.join(map(str, left))}"
                    ask = "Which of the ids are special, and which line leaves all of them out of the draw?"
                    expect.fail(expected=f"the special tokens {special} never chosen", got=got, ask=ask)
            if rate == 1.0:
                missed = ~chosen & ~is_special
                expect.holds(
                    not missed.any(),
                    expected="every token that is not special chosen, with rate=1.0",
                    got=f"{int(missed.sum())} of {int((~is_special).sum())} of them without a label",
                    ask="Do tokens that stay as they are, or that are replaced at random, have a label too? "
                    "Does `rate` decide?",
                )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_labels")
    @pytest.mark.draws(2)
    def test_rate(self, student, rng):
        """chooses 15 % of the tokens that are not special, or another share that it is told"""
        V, mask_id, special, _, draw = setting(rng, 0.3)
        ids = draw(100, 150)
        ordinary = int((~torch.isin(ids, torch.tensor(special))).sum())
        for given in ({}, {"rate": 0.4}, {"rate": 0.05}):
            p = given.get("rate", 0.15)
            _, labels = masked(student, ids, V, mask_id, special, **given)
            names = [
                (0.15, "is 0.15 written where `rate` should stand?"),
                (0.8 * p, "80 % of what should be chosen. Are only those labelled that become [MASK]?"),
                (0.9 * p, "90 % of what should be chosen. Are only those labelled that were replaced?"),
                (0.1 * p, "10 % of what should be chosen"),
                (1 - p, "those that should not be chosen"),
                (p / (ordinary / ids.numel()), "the share of all tokens, special ones included"),
                (1.0, "all of them"),
            ]
            said = ", by default" if not given else f", with rate={p}"
            ask = "Which comparison chooses a token with the probability `rate`?"
            chosen = int((labels != IGNORE).sum())
            share(chosen, ordinary, p, f"tokens chosen among those that are not special{said}", ask, names)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_specials")
    @pytest.mark.draws(2)
    def test_fates(self, student, rng):
        """of the chosen ones makes 80 % [MASK], 10 % a random token, and leaves 10 % as they are"""
        V, mask_id, special, ordinary, draw = setting(rng)
        ids = draw(130, 150)
        ask = "Three fates that exclude one another, of 80, 10 and 10 in 100: which draw decides, with which borders?"
        for rate in (1.0, 0.3):
            inputs, labels = masked(student, ids, V, mask_id, special, rate)
            chosen = labels != IGNORE
            count = int(chosen.sum())
            hidden, kept = (int((chosen & (inputs == value)).sum()) for value in (mask_id, ids))
            same = 0.1 / len(ordinary)  # a random token may be the one that was there
            shares = [hidden / count, 1 - (hidden + kept) / count, kept / count]
            room = [6 * math.sqrt(p * (1 - p) / count) + 1 / count for p in (0.8, 0.1, 0.1)]
            wanted = [0.8, 0.1 - same, 0.1 + same]
            if all(abs(s - w) <= r for s, w, r in zip(shares, wanted, room, strict=True)):
                continue
            got = ", ".join(
                f"{s:.1%} {name}"
                for s, name in zip(shares, ("[MASK]", "another token", "as it was"), strict=True)
            )
            off, said = min(
                (max(abs(s - w) for s, w in zip(shares, other, strict=True)), said)
                for said, other in FATES.items()
            )
            got += f": {said}" if off < 0.03 else ""
            expect.fail(
                expected=f"of {count} chosen tokens 80 % [MASK], 10 % another token, 10 % as it was, {rate=}",
                got=got,
                ask=ask,
            )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_fates")
    @pytest.mark.draws(2)
    def test_random_tokens(self, student, rng):
        """draws random tokens evenly from all that are not special, the first and the last one included"""
        V, mask_id, special, ordinary, _ = setting(rng, vocabulary=int(rng.integers(16, 24)))
        few = ordinary[torch.from_numpy(rng.permutation(len(ordinary)))[:2]]  # what stands in the texts
        ids = few[torch.from_numpy(rng.integers(0, 2, (160, 180)))]
        ids[0, :5] = torch.tensor(special)
        inputs, labels = masked(student, ids, V, mask_id, special, 1.0)
        replaced = (labels != IGNORE) & (inputs != ids) & (inputs != mask_id)
        found = inputs[replaced]
        count, ask = len(found), "What is each random token drawn from?"
        outside = found[(found < 0) | (found >= V)]
        expect.holds(
            not len(outside), expected=f"random tokens between 0 and {V - 1}",
            got=f"{outside[0].item() if len(outside) else ''}", ask=ask,
        )  # fmt: skip
        wrong = found[torch.isin(found, torch.tensor(special))].unique().tolist()
        expect.holds(
            not wrong,
            expected="random tokens that are not special",
            got=f"special tokens among them: {wrong}",
            ask="From which list of ids can only tokens come that are not special?",
        )
        n = len(ordinary)
        drawn = torch.bincount(found, minlength=V)
        absent = [i for i in ordinary.tolist() if i not in few.tolist() and not drawn[i]]
        got = f"never {', '.join(map(str, absent[:6]))}"
        if absent == [V - 1]:
            got += f": the last id is V − 1 = {V - 1}, and `randint` leaves its upper end out"
        elif absent == [0]:
            got += ": ids begin with 0"
        elif len(absent) == n - 2:
            got += ": only tokens that stand in the batch"
        elif len(absent) > n - 4:
            got += ": the same token everywhere"
        expect.holds(
            not absent, expected=f"each of {n} tokens drawn at some of {count} places", got=got, ask=ask
        )
        for i in ordinary.tolist():
            if i not in few.tolist():  # what stood there already cannot be counted
                p = 1 / (n - 1)  # at a place where one of the n stood
                names = []
                share(int(drawn[i]), count, p, f"the token {i} among random tokens, drawn evenly", ask, names)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_labels")
    @pytest.mark.draws(2)
    def test_each_by_itself(self, student, rng):
        """draws for each token by itself: rows, columns and calls differ"""
        V, mask_id, special, ordinary, _ = setting(rng)
        B, T = 300, int(rng.integers(12, 16))
        row = ordinary[torch.from_numpy(rng.integers(0, len(ordinary), T))]
        ids = row.expand(B, T).contiguous()
        inputs, labels = masked(student, ids, V, mask_id, special, 0.5)
        chosen = labels != IGNORE
        ask = "Which shape do your random numbers have: one for every token?"
        one = "each token chosen by itself, with rate=0.5"
        columns, rows = chosen.sum(0), chosen.sum(1)
        expect.holds(
            not (chosen == chosen[:1]).all(), expected=one, got="the same positions in every row", ask=ask
        )
        expect.holds(
            not ((rows == 0) | (rows == T)).all(),
            expected=one,
            got="rows that are chosen whole or not at all",
            ask=ask,
        )
        for t in range(T):
            share(int(columns[t]), B, 0.5, f"position {t} chosen in the rows of the batch, {one}", ask)
        pairs = int((chosen[:, 1:] & chosen[:, :-1]).sum())
        off = abs(pairs - B * (T - 1) / 4)
        expect.holds(
            off <= 12 * math.sqrt(B * (T - 1) * 3 / 16),
            expected=f"neighbours chosen together about {B * (T - 1) // 4} times, {one}",
            got=f"{pairs} times",
            ask=ask,
        )
        lonely = chosen.sum(1) > T // 3
        hidden = (inputs == mask_id) & chosen
        alike = (hidden == chosen).all(1) | ~hidden.any(1)
        expect.holds(
            int((alike & lonely).sum()) < 0.75 * int(lonely.sum()),
            expected="the fate of each chosen token drawn by itself",
            got="rows in which all chosen tokens have one fate",
            ask="Which shape has the draw that decides the fate?",
        )
        again, _ = masked(student, ids, V, mask_id, special, 0.5)
        expect.holds(
            not torch.equal(again, inputs),
            expected="other tokens chosen at the next call",
            got="the same inputs again",
            ask="Which line seeds the generator anew at every call?",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_labels")
    def test_leaves_the_ids_alone(self, student, rng):
        """leaves the ids as they are, and has nothing to hide at rate 0 or among special tokens alone"""
        V, mask_id, special, _, draw = setting(rng)
        ids = draw(int(rng.integers(3, 6)), int(rng.integers(20, 30)))
        with expect.unchanged(ids=ids):
            masked(student, ids, V, mask_id, special, 0.9)
        only = torch.tensor(special)[torch.from_numpy(rng.integers(0, 5, (2, 7)))]
        for told, rate, what in ((ids, 0.0, "rate=0.0"), (only, 0.9, "nothing but special tokens")):
            inputs, labels = masked(student, told, V, mask_id, special, rate)
            ask = "Does anything happen where no token is chosen?"
            expect.equal(labels, torch.full_like(told, IGNORE), what=f"the labels, {what},", ask=ask)
            expect.equal(inputs, told, what=f"the inputs, {what},", ask=ask)
        one = torch.tensor([[V - 1]])
        _, labels = masked(student, one, V, mask_id, special, 1.0)
        expect.equal(labels, one, what="the labels of a single token, with rate=1.0,")
