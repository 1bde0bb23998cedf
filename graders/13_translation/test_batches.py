"""Checks of unit 13, first part: batches by length, the smoothed loss, the schedule.

Every check draws fresh inputs. Batches are judged by what must hold of them, the loss by a loop in float64, the
schedule by its formula in another form.
"""

import math
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proctor import expect
from proctor.failures import trouble_of
from proctor.proxies import Proxy, generate, sketch

DOUBLE = torch.float64


# ---- batches --------------------------------------------------------------------------------------------------------


def sentence(rng, length):
    """So many ids, none of them a special one."""
    return [int(i) for i in rng.integers(4, 900, length)]


def draw_pairs(rng, count, low=1, high=9):
    """Pairs of random lengths, no two with a side in common; every length from low to high is there."""
    lengths = np.concatenate([np.arange(low, high + 1), rng.integers(low, high + 1, count)])[:count]
    ours, theirs = rng.permutation(lengths).tolist(), rng.permutation(lengths).tolist()
    return [
        ([1000 + i, *sentence(rng, s - 1)], [1000 + i, *sentence(rng, t - 1)])
        for i, (s, t) in enumerate(zip(ours, theirs, strict=True))
    ]


def size(pair):
    return max(map(len, pair))


def handed_out(student, pairs, *args, **options):
    """What ``make_batches`` hands out, as a list of batches; a generator is read to its end."""
    most = len(pairs) + 5
    out = generate(student.make_batches, most, pairs, *args, **options)
    several = hasattr(out, "__next__") or isinstance(out, (list, tuple, Proxy))
    ask = "Which list holds the batches in the end, and is it returned?"
    came = "None" if out is None else f"{type(out).__name__}: {sketch(out)}"
    expect.holds(several, expected="a list of batches", got=came, ask=ask)
    return list(islice(iter(out), most))


def found(student, pairs, *args, pad=0, **options):
    """The learner's batches, each as (source, target, the pairs in it), with padding stripped from the right."""
    if pad:
        options["pad"] = pad
    batches = []
    ask = (
        "Each batch is a tuple of two tensors of ids: sources (B, S) and targets (B, T). "
        "`pad_batch` makes a tensor of lists."
    )
    for batch in handed_out(student, pairs, *args, **options):
        several = isinstance(batch, (tuple, list))
        came = f"{len(batch)} things: " if several else f"{type(batch).__name__}: "
        came += sketch(batch)
        masked = several and any(isinstance(part, (tuple, list)) and len(part) == 2 for part in batch)
        came += ". `pad_batch` returns ids and a mask; only the ids belong here" if masked else ""
        came = "an empty batch: one was begun that nothing was put into" if several and not batch else came
        two = several and len(batch) == 2 and not masked
        expect.holds(two, expected="a tuple (source, target) in each batch", got=came, ask=ask)
        source, target = batch
        for name, part in (("source", source), ("target", target)):
            expect.array(part, dtype=torch.int64, what=f"the {name} of a batch", ask=ask)
            expect.holds(
                part.ndim == 2 and len(part) > 0,
                expected=f"a {name} of shape (B, length) with at least one row",
                got=f"shape {tuple(part.shape)}",
                ask="Is a batch begun that nothing is put into?" if 0 in part.shape else ask,
            )
        expect.holds(
            len(source) == len(target),
            expected="as many sources as targets in a batch",
            got=f"{len(source)} and {len(target)}",
            ask=ask,
        )
        rows = [
            tuple(stripped(row, pad) for row in both)
            for both in zip(source.tolist(), target.tolist(), strict=True)
        ]
        batches.append((source, target, rows))
    return batches


def stripped(row, pad):
    """A row without the padding at its end."""
    end = len(row)
    while end and row[end - 1] == pad:
        end -= 1
    return tuple(row[:end])


def plain(pairs):
    return [tuple(map(tuple, pair)) for pair in pairs]


def expect_pairs(batches, pairs, *, why=""):
    """Expect that the batches hold exactly these pairs, each once, with both sides together."""
    wanted, got = plain(pairs), [pair for *_, rows in batches for pair in rows]
    ask = "Which pairs are in your list before it is cut, and which after? What happens to the last batch?"
    sources, targets = ({pair[i] for pair in wanted} for i in (0, 1))
    strange = [pair for pair in got if pair not in set(wanted)]
    if strange and all(s in sources and t in targets for s, t in strange):
        expect.fail(
            expected="each source beside its own target",
            got=f"{len(strange)} of {len(got)} pairs have come apart: a source stands beside the "
            f"target of another pair",
            ask="Are the two sides sorted or shuffled each by itself, or both by one order?",
        )
    if strange and all(s in targets and t in sources for s, t in strange):
        expect.fail(expected="(source, target)", got="(target, source)", ask="Which side comes first?")
    if strange:
        pair = strange[0]
        where = next((k for k in (0, 1) if pair[k] not in (sources, targets)[k]), 0)
        name = ("source", "target")[where]
        came = list(pair[where])
        hint = ""
        if any(tuple(came[:-1]) == w[where] or tuple(came[1:]) == w[where] for w in wanted):
            hint = ": an id was added to it"
        elif any(w[where][: len(came)] == tuple(came) or w[where][1:] == tuple(came) for w in wanted):
            hint = ": one or more ids were cut off"
        elif any(w[where] == tuple(reversed(came)) for w in wanted):
            hint = ": it was turned round"
        elif any(tuple(i for i in came if i) == w[where] for w in wanted):
            hint = ": padding stands before it; it belongs on the right"
        expect.fail(
            expected=f"every {name} as it was passed in, with padding on the right alone",
            got=f"{came}{hint}",
            ask="Does anything besides padding change the ids, and on which side is the padding?",
        )
    twice = sum(got.count(pair) > 1 for pair in set(got))
    missing = [pair for pair in wanted if pair not in set(got)]
    said = f"{len(got)} pairs, {len(missing)} of {len(wanted)} missing" + (
        f", {twice} more than once" if twice else ""
    )
    if missing and not twice and batches:
        largest = max(map(size, wanted))
        if all(size(pair) >= max(map(size, got), default=0) for pair in missing) and largest in map(
            size, missing
        ):
            said += ": those that are left at the end of the order, which are a batch too"
    expect.holds(
        not missing and not twice, expected=f"each of {len(wanted)} pairs once{why}", got=said, ask=ask
    )


@pytest.mark.exercise("make_batches")
class TestMakeBatches:
    def drawn(self, rng, high=9):
        """Pairs, and a room into which several but not many of them fit."""
        pairs = draw_pairs(rng, int(rng.integers(50, 60)), high=high)
        return pairs, int(rng.integers(3, 5)) * high + int(rng.integers(1, high))

    @pytest.mark.points(2)
    def test_every_pair_once(self, student, rng):
        """hands out every pair exactly once, each source beside its target"""
        pairs, room = self.drawn(rng)
        batches = found(student, pairs, room, int(rng.integers(1, 10**6)))
        expect_pairs(batches, pairs)
        one = found(student, pairs[:1], room, 3)
        expect_pairs(one, pairs[:1])

    @pytest.mark.points(2)
    @pytest.mark.needs("test_every_pair_once")
    def test_room(self, student, rng):
        """fills batches up to max_tokens, padding included, and no further"""
        for side in (0, 1):
            pairs, _ = self.drawn(rng)
            # One side is the longer one in nearly all pairs, and several sizes fill the room exactly.
            pairs = [tuple(p[k] if k == side else p[k][: len(p[k]) // 2 + 1] for k in (0, 1)) for p in pairs]
            room = int(rng.choice([24, 36, 48]))
            batches = [rows for *_, rows in found(student, pairs, room, int(rng.integers(1, 10**6)))]
            self.not_larger(batches, room)
            self.full(batches, room)

    def not_larger(self, batches, room):
        """Expect that no batch takes more than the room."""
        large = [rows for rows in batches if len(rows) * max(map(size, rows)) > room]
        if not large:
            return
        rows, last = large[0], max(map(size, large[0]))
        count = len(rows)
        got = f"a batch of {count} pairs whose largest has size {last}: {count * last}"
        ask = "Is it decided with the new pair, and its size, whether it still fits?"
        alone = [
            name
            for k, name in enumerate(("source", "target"))
            if all(len(rows) * max(len(pair[k]) for pair in rows) <= room for rows in batches)
        ]
        if max(map(len, batches)) == room:
            got += ". max_tokens counts tokens, not pairs"
        elif alone:
            got += f". It is the {alone[0]} alone that keeps within the room"
            ask = "Which of the two sides is the longer one, pair by pair?"
        elif all(sum(map(size, rows)) <= room for rows in batches):
            got += f". Their own lengths sum to {sum(map(size, rows))}: padding takes room too"
            ask = "What is the area of the rectangle, padding included?"
        elif all((len(rows) - 1) * max(map(size, rows)) <= room for rows in batches):
            got += f". With one pair less it would be {(count - 1) * last}"
            ask = "Is the pair counted that is about to be added?"
        expect.fail(expected=f"at most {room} in each batch", got=got, ask=ask)

    def full(self, batches, room):
        """Expect that no batch could take the next pair, whichever end of the order the cutting began at."""
        up = sorted(batches, key=lambda rows: (min(map(size, rows)), max(map(size, rows)), -len(rows)))
        down = sorted(batches, key=lambda rows: (max(map(size, rows)), min(map(size, rows)), len(rows)))
        rising = [(len(a) + 1) * min(map(size, b)) > room for a, b in pairwise(up)]
        falling = [(len(b) + 1) * max(map(size, b)) > room for _, b in pairwise(down)]
        if all(rising) or all(falling):
            return
        place = rising.index(False)
        a, b = up[place], up[place + 1]
        after = (len(a) + 1) * min(map(size, b))
        got = f"a batch of {len(a)} pairs up to size {max(map(size, a))} is closed, though the next pair, of size "
        got += f"{min(map(size, b))}, would make it {after}"
        ask = "Which number is compared with max_tokens: pairs times the largest size, with the new pair?"
        if all(len(rows) == 1 for rows in batches):
            got, ask = "one pair in each batch", "What is a batch for?"
        elif len({len(rows) for rows in batches}) <= 2 and len(batches) > 4:
            got += ". All batches have about the same number of pairs"
            ask = "Short pairs take less room. How many of them fit into one batch?"
        elif after == room:
            ask = "May a batch be exactly as large as max_tokens?"
        expect.fail(expected=f"full batches: no pair more would fit into {room}", got=got, ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_every_pair_once")
    def test_by_length(self, student, rng):
        """puts pairs of similar size together, and pads each batch to its own longest"""
        pairs, room = self.drawn(rng)
        batches = found(student, pairs, room, int(rng.integers(1, 10**6)))
        spans = sorted((min(map(size, rows)), max(map(size, rows))) for *_, rows in batches)
        ask = (
            "The size of a pair is the length of its longer side. In which order are the pairs when "
            "they are cut into batches?"
        )
        for (low, high), (low2, high2) in pairwise(spans):
            if high <= low2:
                continue
            got = f"one batch holds sizes from {low} to {high}, another from {low2} to {high2}"
            for name, key in (
                ("length of the source alone", lambda pair: len(pair[0])),
                ("length of the target alone", lambda pair: len(pair[1])),
                ("sum of both lengths", lambda pair: len(pair[0]) + len(pair[1])),
                ("length of the shorter side", lambda pair: min(map(len, pair))),
            ):
                by = sorted((min(map(key, rows)), max(map(key, rows))) for *_, rows in batches)
                if all(a[1] <= b[0] for a, b in pairwise(by)):
                    got += f". They are in order of the {name}"
                    break
            else:
                if [pair for *_, rows in batches for pair in rows] == plain(pairs):
                    got += ". The pairs are in the order in which they came"
            expect.fail(expected="batches that follow one another in size", got=got, ask=ask)
        for source, target, rows in batches:
            for i, (name, part) in enumerate((("source", source), ("target", target))):
                longest = max(len(pair[i]) for pair in rows)
                if part.shape[1] == longest:
                    continue
                got = f"width {part.shape[1]}"
                if part.shape[1] == max(map(size, rows)):
                    got += ", the longest of both sides: each side has a width of its own"
                elif part.shape[1] == max(map(size, pairs)) or part.shape[1] == max(
                    len(pair[i]) for pair in pairs
                ):
                    got += ", the longest of all pairs: each batch has a width of its own"
                ask = "To which length does `pad_batch` pad when it is not told?"
                expect.fail(
                    expected=f"a {name} of width {longest}, the longest in its batch", got=got, ask=ask
                )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_every_pair_once")
    def test_seeds(self, student, rng):
        """draws the order of batches and of equal pairs by the seed"""
        pairs, room = self.drawn(rng)
        seed = int(rng.integers(1, 10**6))
        one, again, other, zero, zero_again = (
            [rows for *_, rows in found(student, pairs, room, s)] for s in (seed, seed, seed + 1, 0, 0)
        )
        ask = "Which generator is the order drawn from, and who gives it the seed?"
        expect.holds(one == again, expected=f"the same batches twice with seed={seed}", got="others", ask=ask)
        falsy = "0 is a seed like any other. What do `if seed` and `seed or …` make of it?"
        expect.holds(
            zero == zero_again, expected="the same batches twice with seed=0", got="others", ask=falsy
        )
        expect.holds(one != other, expected="others with another seed", got="the same batches", ask=ask)
        for seeded, value in ((one, seed), (zero, 0)):
            sizes = [max(map(size, rows)) for rows in seeded]
            sorted_out = sizes in (sorted(sizes), sorted(sizes, reverse=True))
            expect.holds(
                not sorted_out,
                expected=f"batches in random order, with seed={value} too",
                got=f"batches of sizes {sizes}"[:90],
                ask="`if seed:` passes over 0; does yours?"
                if value == 0
                else "The pairs are sorted to be cut. What is done to the batches after that?",
            )
        same = [([1000 + i, *sentence(rng, 3)], [1000 + i, *sentence(rng, 3)]) for i in range(40)]
        sets = [{frozenset(rows) for *_, rows in found(student, same, 20, s)} for s in (seed, seed + 1)]
        expect.holds(
            sets[0] != sets[1],
            expected="pairs of one size in other company with another seed",
            got="the same pairs together in every epoch; only the batches change places",
            ask="What is the order of equal pairs before they are sorted? A sort keeps it.",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_every_pair_once")
    @pytest.mark.draws(1)
    def test_global_generators(self, student, rng):
        """leaves the global random number generators alone"""
        pairs, room = self.drawn(rng)
        kinds = (
            ("random", student.random.seed, student.random.random, "random.Random(seed)"),
            ("torch", student.torch.manual_seed, lambda: student.torch.rand(()).item(), "torch.Generator()"),
        )
        for name, set_seed, draw, instead in kinds:
            drawn = []
            for call in (False, True):
                set_seed(5)
                if call:
                    handed_out(student, pairs, room, 77)
                drawn.append(draw())
            ok = all(isinstance(number, float) for number in drawn) and drawn[0] == drawn[1]
            expect.holds(
                ok,
                expected=f"the global generator of `{name}` as it was",
                got="one from which numbers were drawn, or which was seeded anew: dropout elsewhere would depend on it",
                ask=f"What does `{instead}` give you?",
            )

    @pytest.mark.points(3)
    @pytest.mark.needs("test_every_pair_once")
    def test_held_out(self, student, rng):
        """keeps out of the batches what shares a source or a target with a held-out pair"""
        pairs, room = self.drawn(rng)
        a, b, c = rng.permutation(len(pairs))[:3].tolist()
        whole, source, target = pairs[a], (pairs[b][0], sentence(rng, 4)), (sentence(rng, 4), pairs[c][1])
        stranger = (sentence(rng, 3), sentence(rng, 5))
        held_out = [stranger, whole, source, target]
        if rng.integers(2):
            held_out = plain(held_out)  # tuples of ids where the pairs are lists, or lists as they are
        batches = found(student, pairs, room, int(rng.integers(1, 10**6)), held_out=held_out)
        got = {pair for *_, rows in batches for pair in rows}
        ask = (
            "What does a model know of a held-out pair, if it has learned from one with the same "
            "source, or the same target?"
        )
        if any(pair in got for pair in plain([stranger, source, target])):
            expect.fail(
                expected="no held-out pair in any batch",
                got="one that is in none of the pairs to learn from",
                ask=ask,
            )
        inside = [
            name
            for name, i in (("both sides", a), ("its source", b), ("its target", c))
            if plain([pairs[i]])[0] in got
        ]
        if inside:
            said = "a pair that has " + " and one that has ".join(inside) + " in common with a held-out one"
            if len(inside) == 3:
                said += ". Is `held_out` used, and are lists compared with lists or tuples with tuples?"
            expect.fail(expected="no pair of the test side in any batch", got=said, ask=ask)
        expect_pairs(
            batches,
            [pair for i, pair in enumerate(pairs) if i not in (a, b, c)],
            why=" of those that share nothing with a held-out one",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_every_pair_once")
    def test_padding(self, student, rng):
        """pads on the right with the id that it is given"""
        pairs, room = self.drawn(rng)
        pad = int(rng.integers(2000, 3000))
        batches = found(student, pairs, room, 5, pad=pad)
        zeros = sum(int((part == 0).sum()) for *both, _ in batches for part in both)
        ask = "Who is told what to fill up with?"
        expect.holds(zeros == 0, expected=f"padding with the id {pad}", got="padding with the id 0", ask=ask)
        expect_pairs(batches, pairs)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_every_pair_once")
    def test_too_large(self, student, rng):
        """raises ValueError for a pair that fits into no batch, unless it is left out"""
        pairs, _ = self.drawn(rng)
        ask = "What would your code do with a pair that is larger than the room, and who would notice?"
        long, short = [1, *sentence(rng, 12)], [2, *sentence(rng, 4)]
        for pair, side in (((long, short), "source"), ((short, long), "target")):
            place = int(rng.integers(len(pairs)))
            given = [*pairs[:place], pair, *pairs[place:]]
            when = f"for max_tokens=12 and a {side} of 13 ids"
            expect.raises(ValueError, lambda p=given: handed_out(student, p, 12, 1), when=when, ask=ask)
            fits = "batches for a pair of 13 and max_tokens=13: it fits exactly"
            expect_pairs(self.accepted(student, given, 13, fits), given)
            left = (
                "batches for max_tokens=12, where the pair of 13 is a held-out one: it is left "
                "out, so it need not fit"
            )
            expect_pairs(self.accepted(student, given, 12, left, held_out=[pair]), pairs)

    def accepted(self, student, pairs, room, expected, **options):
        """The batches, where a ValueError would be one too many."""
        try:
            return found(student, pairs, room, 1, **options)
        except Exception as error:
            trouble = trouble_of(error)
            if trouble is None or trouble.type != "ValueError":
                raise
            ask = "Which pairs are compared with max_tokens: those that will stand in a batch? And how?"
            expect.fail(expected=expected, got=f"ValueError: {' '.join(trouble.text.split())[:90]}", ask=ask)


# ---- the smoothed loss ----------------------------------------------------------------


def by_hand(logits, target, smoothing=0.1, pad=0):
    """Token by token in float64: the loss of every target, (B, T), and which of them are real."""
    logits = logits.detach().double()
    B, T, V = logits.shape
    out = torch.zeros(B, T, dtype=DOUBLE)
    for b, t in np.ndindex(B, T):
        row = logits[b, t]
        log_p = row - torch.logsumexp(row, 0)
        y = int(target[b, t])
        for v in range(V):
            q = 1 - smoothing if v == y else 0.0 if v == pad else smoothing / (V - 2)
            out[b, t] -= q * log_p[v] if q else 0.0
    return out, target != pad


def other_losses(logits, target, smoothing, pad):
    """What known mistakes lead to, as one number each."""
    logits = logits.detach().double()
    B, T, V = logits.shape
    log_p, real = logits.log_softmax(-1), target != pad
    right = log_p.gather(-1, target[..., None])[..., 0]
    others, padding = log_p.sum(-1) - right - log_p[..., pad], log_p[..., pad]
    each = -(1 - smoothing) * right - smoothing / (V - 2) * others

    def mean(loss):
        return loss[real].mean()

    entropy = -(1 - smoothing) * math.log(1 - smoothing) - smoothing * math.log(smoothing / (V - 2))
    masked = logits.clone()
    masked[..., pad] = -torch.inf
    lm = masked.log_softmax(-1)
    lm_right = lm.gather(-1, target[..., None])[..., 0]
    lm_others = lm.masked_fill(torch.arange(V) == pad, 0.0).sum(-1) - lm_right
    left = torch.where(real, each, -smoothing / (V - 2) * (log_p.sum(-1) - padding))
    counted = torch.where(
        real, each, -(1 - smoothing) * right - smoothing / (V - 2) * (log_p.sum(-1) - right)
    )
    rows = [each[b][real[b]].mean() for b in range(B) if real[b].any()]
    spread = smoothing / (V - 1)
    return {
        "padding gets a share of ε: it was spread over V − 1 tokens, the padding token among them": mean(
            -(1 - smoothing) * right - spread * (others + padding)
        ),
        "ε spread over all V tokens, padding and right token included, as PyTorch's label_smoothing does": mean(
            -(1 - smoothing) * right - smoothing / V * (others + padding + right)
        ),
        "shares of ε / V: only V − 2 tokens are left to share ε": mean(
            -(1 - smoothing) * right - smoothing / V * others
        ),
        "shares of ε / (V − 1): the padding token gets no share, so V − 2 are left": mean(
            -(1 - smoothing) * right - spread * others
        ),
        "ε spread over V − 1 tokens, the right one among them": mean(
            -(1 - smoothing) * right - spread * (others + right)
        ),
        "shares of ε / (V − 2) for the padding token too: then q sums to more than one": mean(
            -(1 - smoothing) * right - smoothing / (V - 2) * (others + padding)
        ),
        "shares of ε / (V − 2) for the right token on top of its 1 − ε": mean(
            -(1 - smoothing) * right - smoothing / (V - 2) * (others + right)
        ),
        "shares of ε / (V − 2) for every token of the vocabulary": mean(
            -(1 - smoothing) * right - smoothing / (V - 2) * (others + right + padding)
        ),
        "every other token with a weight of ε, not with its share of it": mean(
            -(1 - smoothing) * right - smoothing * others
        ),
        "the right token with a weight of 1: it gives ε away": mean(-right - smoothing / (V - 2) * others),
        "the plain cross-entropy, without smoothing": mean(-right),
        "1 − ε and ε exchanged": mean(-smoothing * right - (1 - smoothing) / (V - 2) * others),
        "a sum that has the places of padding in it, divided by the number of real targets": left.sum()
        / real.sum(),
        "the sum over all tokens: it is to be divided by how many are no padding": each[real].sum(),
        "the loss divided by all B · T places: padding is counted in the mean": each[real].sum() / (B * T),
        "a mean in which padding has a loss of its own": each.mean(),
        "a mean in which padding has a loss of its own: it is learned like any other token": counted.mean(),
        "the loss divided by B, the number of sequences": each[real].sum() / B,
        "a mean of the means of sequences: every token counts alike": torch.stack(rows).mean(),
        "the mean over the vocabulary too: the sum over V belongs to the cross-entropy": mean(each) / V,
        "the Kullback–Leibler divergence: the cross-entropy less the entropy of q": mean(each) - entropy,
        "a negative loss: the minus sign of −log p is missing": -mean(each),
        "−q log p of a softmax without the padding token: p runs over all V": mean(
            -(1 - smoothing) * lm_right - smoothing / (V - 2) * lm_others
        ),
        "sums of q · p, without the logarithm": mean(
            (1 - smoothing) * right.exp()
            + smoothing / (V - 2) * (log_p.exp().sum(-1) - right.exp() - padding.exp())
        ),
        "sums of −q times the logits themselves: where is the softmax?": mean(
            -(1 - smoothing) * logits.gather(-1, target[..., None])[..., 0]
            - smoothing
            / (V - 2)
            * (logits.sum(-1) - logits.gather(-1, target[..., None])[..., 0] - logits[..., pad])
        ),
        "the loss of a uniform q over V − 1 tokens": mean(-(right + others) / (V - 1)),
    }


def padded_targets(rng, B, T, V, pad, whole=False):
    """Random targets without the padding id, and padding at the end of rows of ragged lengths."""
    ids = torch.from_numpy(rng.integers(0, V - 1, (B, T)))
    ids += ids >= pad  # every id but pad
    lengths = rng.lengths(B, T)
    if B > 1:
        lengths[lengths.argmax() - 1] = max(1, T // 2)  # some row is shorter
    ids[0, 0] = (pad + 1) % V  # nothing is asked where all is padding
    return ids if whole else ids.masked_fill(torch.arange(T) >= lengths[:, None], pad)


def as_number(out, dtype=torch.float32, what="the loss"):
    ask = "Which lines make one number of (B, T) losses? It stays a tensor, so that `backward` can start from it."
    expect.array(out, shape=(), dtype=dtype, what=what, ask=ask)


@pytest.mark.exercise("label_smoothing_loss")
class TestLabelSmoothingLoss:
    def drawn(self, rng, pad=0, dtype=torch.float32):
        B, T, V = rng.distinct(3, low=3, high=8)
        V += 3
        return rng.tensor(B, T, V, scale=2.0, dtype=dtype), padded_targets(rng, B, T, V, pad)

    def compare(self, out, logits, target, smoothing=0.1, pad=0, ask=""):
        loss, real = by_hand(logits, target, smoothing, pad)
        as_number(out, logits.dtype)
        expected = loss[real].mean()
        ask = (
            ask
            or "Write q for one target: what does the right token get, what padding, and what each of "
            "the others? Do they sum to 1?"
        )

        def mistakes():
            return other_losses(logits, target, smoothing, pad) if 0 < smoothing < 1 else {}

        expect.close(out, expected, atol=2e-6, rtol=2e-5, what="the loss", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    def test_uniform(self, student, rng):
        """is ln V for logits that are all alike, however much is smoothed"""
        B, T, V = rng.distinct(3, low=3)
        target = padded_targets(rng, B, T, V, 0)
        logits = torch.full((B, T, V), float(rng.normal()))
        for smoothing in (0.1, 0.4):
            out = student.label_smoothing_loss(logits, target, smoothing)
            as_number(out)
            expected = torch.tensor(math.log(V))
            real = int((target != 0).sum())
            mistakes = {
                "q sums to more or less than 1": expected * (1 + smoothing / (V - 2)),
                "q sums to less than 1: shares of ε / (V − 1) for V − 2 tokens": expected
                * (1 - smoothing + smoothing * (V - 2) / (V - 1)),
                "q sums to less than 1: shares of ε / V for V − 2 tokens": expected
                * (1 - smoothing + smoothing * (V - 2) / V),
                "q sums to less than 1: only 1 − ε is there": expected * (1 - smoothing),
                "ln V, divided by all B · T places: padding is counted in the mean": expected
                * real
                / (B * T),
                "ln V, once for every target: the sum, not the mean": expected * real,
                "−ln V: the minus sign of −log p is missing": -expected,
                "the Kullback–Leibler divergence: ln V less the entropy of q": expected
                + (1 - smoothing) * math.log(1 - smoothing)
                + smoothing * math.log(smoothing / (V - 2)),
                "0: is what it returns the divergence from the uniform distribution?": torch.zeros(()),
                "ln V, divided by V: the sum over the vocabulary became a mean": expected / V,
            }
            ask = f"All log p are −ln {V}, so the loss is ln {V} times the sum of q. What does your q sum to?"
            expect.close(out, expected, what="the loss", ask=ask, mistakes=mistakes)

    @pytest.mark.points(3)
    def test_agrees_with_a_loop(self, student, rng):
        """agrees with a loop over every target and every token"""
        logits, target = self.drawn(rng)
        smoothing = float(rng.uniform(0.15, 0.35))
        self.compare(student.label_smoothing_loss(logits, target, smoothing), logits, target, smoothing)
        for rows, columns in ((1, None), (None, 1), (1, 1)):  # dimensions of one must stay where they are
            few, wanted = logits[:rows, :columns], target[:rows, :columns]
            self.compare(student.label_smoothing_loss(few, wanted, smoothing), few, wanted, smoothing)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_padding_gets_nothing(self, student, rng):
        """learns nothing from padding, and pushes the padding token down everywhere else"""
        logits, target = self.drawn(rng, dtype=DOUBLE)
        leaf = logits.requires_grad_()
        out = student.label_smoothing_loss(leaf, target, 0.2)
        as_number(out, DOUBLE)
        grad = expect.gradient(out, leaf)
        real = target != 0
        expect.holds(
            not grad[~real].any(),
            expected="no gradient at targets that are padding",
            got="a gradient that is not zero: the model is taught to write padding",
            ask="Which entries are left out of the mean?",
        )
        wanted = leaf.detach().softmax(-1)[..., 0] / real.sum()
        ask = "The gradient of −Σ q log p is p − q. Which q does the padding token have?"
        expect.close(
            grad[..., 0][real],
            wanted[real],
            atol=1e-9,
            what="the gradient at the padding token's logits",
            ask=ask,
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    def test_any_pad(self, student, rng):
        """takes any id for padding"""
        B, T, V = rng.distinct(3, low=4, high=9)
        for pad in (V - 1, int(rng.integers(1, V - 1))):
            logits, target = rng.tensor(B, T, V), padded_targets(rng, B, T, V, pad)
            target[0, 0] = 0  # an ordinary token here
            ask = "Which id is padding here? Does a 0, a slice `[1:]` or a default stand where `pad` should?"
            out = student.label_smoothing_loss(logits, target, 0.2, pad)
            self.compare(out, logits, target, 0.2, pad, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    @pytest.mark.draws(2)
    def test_amounts(self, student, rng):
        """smooths by 0.1 if not told otherwise, and is the plain cross-entropy without smoothing"""
        logits, target = self.drawn(rng)
        ask = "What is the default in the stub, and is it used?"
        self.compare(student.label_smoothing_loss(logits, target), logits, target, ask=ask)
        out = student.label_smoothing_loss(logits, target, 0.0)
        as_number(out)
        expected = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=0)
        ask = "With ε = 0 only the right token is left. Does 0 count as a number here, or as False?"
        expect.close(out, expected, what="the loss with smoothing=0", ask=ask)
        self.compare(student.label_smoothing_loss(logits, target, 1.0), logits, target, 1.0)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    @pytest.mark.draws(2)
    def test_large_logits(self, student, rng):
        """stays finite for logits of a thousand"""
        logits, target = self.drawn(rng)
        logits = logits * 20 + 1000 * torch.sign(rng.tensor(*logits.shape))
        out = student.label_smoothing_loss(logits, target, 0.2)
        as_number(out)
        loss, real = by_hand(logits, target, 0.2)
        ask = "exp(1000) is infinite and log(0) too. Which function takes softmax and logarithm in one step?"
        finite = bool(torch.isfinite(out.detach()))
        expect.holds(
            finite, expected=f"a loss of {float(loss[real].mean()):.1f}", got=f"{float(out):.4g}", ask=ask
        )
        expect.close(out, loss[real].mean(), rtol=1e-4, what="the loss", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_loop")
    @pytest.mark.draws(2)
    def test_inputs_and_gradients(self, student, rng):
        """leaves its inputs alone, and sends the right gradients back"""
        logits, target = self.drawn(rng, dtype=DOUBLE)
        with expect.unchanged(logits=logits, target=target):
            student.label_smoothing_loss(logits, target)
        expect.gradients(
            lambda logits: student.label_smoothing_loss(logits, target), logits=logits, what="the loss"
        )


# ---- the schedule ----------------------------------------------------------------


def number(value, what, ask=""):
    """An answer that should be one number, as a float; a tensor with one entry will do."""
    if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex():
        value = value.item()
    is_number = isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, bool)
    got = "None" if value is None else f"{type(value).__name__}: {sketch(value)}"
    ask = ask or "What does the `return` hand back, on every path through your code?"
    expect.holds(is_number, expected=f"{what} as one number", got=got, ask=ask)
    return float(value)


def line_and_root(steps, d_model, warmup, factor=1.0):
    """The schedule in another form: peak · n / w up to the peak, peak · √(w / n) after it."""
    peak = factor / math.sqrt(d_model * warmup)
    return torch.tensor(
        [peak * (n / warmup if n < warmup else math.sqrt(warmup / n)) for n in steps], dtype=DOUBLE
    )


@pytest.mark.exercise("noam_schedule")
class TestNoamSchedule:
    def rates(self, student, steps, *options):
        return torch.tensor(
            [number(student.noam_schedule(n, *options), f"the rate of step {n}") for n in steps], dtype=DOUBLE
        )

    def mistakes(self, steps, D, w, factor):
        n = torch.tensor(steps, dtype=DOUBLE)
        line, root = n * w**-1.5, n**-0.5
        scale = factor * D**-0.5
        least = torch.minimum(line, root)
        return {
            "a peak that is kept: after the warm-up the rate falls": scale
            * torch.minimum(line, torch.tensor(w**-0.5)),
            "n ** -1/2 as Python reads it, (n ** -1) / 2: the exponent needs brackets": (
                scale * torch.minimum(1 / n / 2, n * w**-3 / 2)
            ),
            "n ** -3/2 as Python reads it, (n ** -3) / 2: the exponent needs brackets": (
                scale * torch.minimum(root, n * w**-3 / 2)
            ),
            "d_model and warmup exchanged": factor * w**-0.5 * torch.minimum(root, n * D**-1.5),
            "the larger of the two terms: it is to be the smaller": scale * torch.maximum(line, root),
            "rates that are not multiplied by D^(−1/2)": factor * least,
            "rates multiplied by √D, not by D^(−1/2)": factor * D**0.5 * least,
            "rates divided by D, not by its root": factor / D * least,
            "n · w^(−1/2): the exponent of the warm-up is −3/2": scale * torch.minimum(n * w**-0.5, root),
            "n / w, a line up to 1: the exponent of the warm-up is −3/2": scale * torch.minimum(n / w, root),
            "√n: it falls with n^(−1/2)": scale * torch.minimum(line, n**0.5),
            "1 / n: it falls with the root of n": scale * torch.minimum(line, 1 / n),
            "the falling root alone, without the warm-up: is the exponent −3/2 negative in your code?": scale
            * root,
            "the rising line alone: after the warm-up it falls": scale * line,
            "the rates of the step before: steps are counted from 1": line_and_root(
                [k - 1 for k in steps], D, w, factor
            ),
            "the rates of the next step: steps are counted from 1": line_and_root(
                [k + 1 for k in steps], D, w, factor
            ),
            "rates without the factor": D**-0.5 * least,
            "rates divided by the factor": D**-0.5 * least / factor,
            "the sum of the two terms": scale * (line + root),
            "the product of the two terms": scale * line * root,
            "a falling term that is multiplied by the warm-up": scale * torch.minimum(line * w, root * w),
        }

    @pytest.mark.points(2)
    def test_agrees_with_the_formula(self, student, rng):
        """rises along a line and falls with the root of the step"""
        D, w, factor = int(rng.integers(5, 60)), int(rng.integers(4, 9)), float(rng.uniform(0.3, 3))
        steps = [1, 2, w - 1, w, w + 1, 2 * w, 50 * w]
        out = self.rates(student, steps, D, w, factor)
        ask = f"Which of n^(−1/2) and n · {w}^(−3/2) is smaller at step 1, and which at step {2 * w}?"
        what = f"the rates of steps {steps} for D={D}, warmup={w}"
        mistakes = self.mistakes(steps, D, w, factor)
        expect.close(
            out,
            line_and_root(steps, D, w, factor),
            atol=1e-9,
            rtol=1e-6,
            what=what,
            ask=ask,
            mistakes=mistakes,
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_the_formula")
    @pytest.mark.draws(1)
    def test_step_zero(self, student, rng):
        """gives step 0 a rate of 0, and divides by nothing"""
        for D, w, factor in ((64, 4, 1.0), (int(rng.integers(5, 60)), 1, 2.0)):
            try:
                value = student.noam_schedule(0, D, w, factor)
            except NotImplementedError:
                raise
            except Exception as error:
                if (
                    "ZeroDivisionError"
                    not in f"{type(error).__name__} {error!r} {getattr(error, 'trouble', '')}"
                ):
                    raise
                expect.fail(
                    expected="a rate of 0 at step 0",
                    got="ZeroDivisionError: 0 ** -0.5 divides by zero",
                    ask="PyTorch's LambdaLR asks for step 0 before the first step. Which of the two "
                    "terms is the smaller one there?",
                )
            rate = number(value, "the rate of step 0")
            got = f"{rate:.4g}"
            if rate > 0 and math.isclose(rate, float(line_and_root([1], D, w, factor)[0]), rel_tol=1e-6):
                got += ", the rate of step 1: the line begins at 0"
            ask = "Where does the line n · w^(−3/2) begin?"
            expect.holds(rate == 0.0, expected="a rate of 0 at step 0", got=got, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_the_formula")
    @pytest.mark.draws(2)
    def test_defaults_and_extremes(self, student, rng):
        """has a factor of 1 if none is given, and works for one step of warm-up and for very many"""
        D, w = int(rng.integers(5, 60)), int(rng.integers(4, 9))
        steps = [1, w, 3 * w]
        out = self.rates(student, steps, D, w)
        ask = "What is the default of `factor` in the stub?"
        mistakes = self.mistakes(steps, D, w, 1.0)
        what = f"the rates of steps {steps} without a factor"
        expect.close(
            out, line_and_root(steps, D, w), atol=1e-9, rtol=1e-6, what=what, ask=ask, mistakes=mistakes
        )
        for warmup in (1, 4000):
            steps = [1, 2, 400, 4000, 100_000]
            out = self.rates(student, steps, 512, warmup)
            what = f"the rates of steps {steps} for D=512, warmup={warmup}"
            ask = "Is something rounded, or cut to a whole number (`//`)?"
            expect.close(out, line_and_root(steps, 512, warmup), atol=1e-10, rtol=1e-6, what=what, ask=ask)
