"""Checks of unit 18, first half: span corruption, its inverse, and the buckets of distances.

Every check draws fresh texts, spans and distances. The judges are a slow corruption, token by token, and buckets found
one distance after the other. What is worked out below with something wrong in it names the mistake.
"""

import math

import numpy as np
import pytest
import torch

from proctor import expect
from proctor.proxies import sketch

# ---- lists of ids ---------------------------------------------------------------------------------------------------


def listed(value, what, ask):
    """Expect a list of whole numbers."""
    came = "None" if value is None else f"{type(value).__name__}: {sketch(value)}"
    right = isinstance(value, (list, tuple))
    expect.holds(right, expected=f"{what} as a list of ids", got=came, ask=ask or "What does it return?")
    for item in value:
        whole = isinstance(item, (int, np.integer)) and not isinstance(item, bool)
        came = f"a list with {type(item).__name__}: {sketch(item)}"
        nested = isinstance(item, (list, tuple))
        ask = (
            "Is a list inside a list?" if nested else "What was put into the list, and is it a plain number?"
        )
        expect.holds(whole, expected=f"{what} as a list of whole numbers", got=came, ask=ask)
    return [int(item) for item in value]


def same(value, expected, what, ask, mistakes):
    """Expect exactly this list of ids; name a known mistake."""
    found = listed(value, what, ask)
    if found == expected:
        return
    got = next((sentence for sentence, wrong in mistakes.items() if wrong == found), short(found))
    expect.fail(expected=f"{what} {short(expected)}", got=got, ask=ask)


def short(ids, most=14):
    """A list with its first entries."""
    return f"[{', '.join(map(str, ids[:most]))}{', …' if len(ids) > most else ''}], {len(ids)} ids"


def a_text(rng, length, first, count):
    """Ids of a text, all of them well below the sentinels first, first − 1, …, first − count."""
    return [int(i) for i in rng.integers(0, first - count - 3, length)]


def some_spans(rng, pieces):
    """Spans of a text that is made of gaps (even pieces) and spans (odd ones) of these lengths; and its length."""
    ends = [sum(pieces[: i + 1]) for i in range(len(pieces))]
    return [(ends[i - 1], ends[i]) for i in range(1, len(pieces), 2)], ends[-1]


def corrupted(ids, spans, first, wrong=""):
    """Source and target, token by token, with something wrong if wanted."""
    given, spans = list(spans), sorted(spans)
    if wrong == "merged":
        joined = []
        for span in spans:
            if joined and joined[-1][1] == span[0]:
                joined[-1] = (joined[-1][0], span[1])
            else:
                joined.append(span)
        spans = given = joined
    if wrong == "inclusive":
        spans = given = [(start, end + 1) for start, end in spans]
    if wrong == "lengths":
        spans = given = [(start, start + end) for start, end in spans]
    if wrong == "backwards":
        spans = spans[::-1]
    number = {span: i for i, span in enumerate(given if wrong == "as given" else sorted(spans))}

    def sentinel(i):
        step = {"up": 1, "same": 0}.get(wrong, -1)
        return first + step * (i + (wrong == "from one"))

    source, target = [], []
    for position, token in enumerate(ids):
        inside = next((span for span in spans if span[0] <= position < span[1]), None)
        if inside is None:
            source.append(token)
        elif (position == inside[0] or wrong == "each token") and wrong != "no gaps":
            source.append(sentinel(number[inside]))
    if wrong == "no tail":
        last = max((end for _, end in spans), default=0)
        source = source[: len(source) - (len(ids) - last)]
    for span in spans:
        taken = ids[slice(*span)]
        mark = [sentinel(number[span])]
        target += {"behind": [*taken, *mark], "bare": taken}.get(wrong, [*mark, *taken])
    if wrong == "closed by the last":
        target += [sentinel(len(spans) - 1)]
    elif wrong == "closed by the first":
        target += [first]
    elif wrong not in ("not closed", "bare"):
        target += [first - len(spans) if wrong == "same" else sentinel(len(spans))]
    return source, target


WRONG = {
    "up": "sentinels counted upwards: number i has the id first_sentinel − i",
    "same": "one sentinel for all spans: each has its own",
    "as given": "sentinels in the order in which the spans were given: number 0 is the first of the text",
    "from one": "sentinels counted from number 1",
    "each token": "a sentinel for every token of a span: one stands for the whole of it",
    "no gaps": "no sentinel where a span was taken out",
    "no tail": "without the text behind the last span",
    "inclusive": "spans that include the token at their end",
    "lengths": "the second number of a span read as its length",
    "backwards": "the spans from the last to the first",
    "merged": "two spans that touch made one: each has a sentinel of its own",
    "behind": "each sentinel behind the tokens of its span: it stands before them",
    "bare": "the tokens taken out, without any sentinel",
    "not closed": "a target without the sentinel that closes it",
    "closed by the last": "a target that is closed by the last span's sentinel again: the next one closes it",
    "closed by the first": "a target that is closed by sentinel number 0: the next one closes it",
}


def mistaken(side, ids, spans, first):
    """What is said of a wrong source (side 0) or target (side 1), and what it is."""
    right = corrupted(ids, spans, first)
    found = {}
    for name, sentence in WRONG.items():
        wrong = corrupted(ids, spans, first, name)[side]
        if wrong != right[side]:
            found.setdefault(sentence, wrong)
    names = ("the target, in the place of the source", "the source, in the place of the target")
    return found | {
        names[side]: right[1 - side],
        "the text as it was": list(ids),
        "nothing": [],
    }


@pytest.mark.exercise("span_corruption")
class TestSpanCorruption:
    def judge(self, student, ids, spans, first, shown=None):
        """Expect source and target of these spans, given in this order."""
        out = student.span_corruption(list(ids), list(shown or spans), first)
        sides = expect.parts(out, "source", "target")
        asks = (
            "Go through the text: what is left, what stands in a gap, and which number has the gap?",
            "For each gap: its sentinel, then what was there. And what comes behind the last one?",
        )
        for side, name in enumerate(("source", "target")):
            expected = corrupted(ids, shown or spans, first)[side]
            wrong = mistaken(side, ids, shown or spans, first)
            same(sides[side], expected, f"the {name}", asks[side], wrong)

    @pytest.mark.points(2)
    def test_one_span(self, student, rng):
        """takes one span out and marks the gap"""
        for size in (1, int(rng.integers(2, 5))):
            spans, length = some_spans(rng, [int(rng.integers(2, 5)), size, int(rng.integers(6, 9))])
            first = int(rng.integers(40, 90))
            self.judge(student, a_text(rng, length, first, 1), spans, first)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_one_span")
    def test_several_spans(self, student, rng):
        """gives every gap a sentinel of its own, counted down, and closes the target"""
        for edge in (False, True):
            pieces = [int(n) for n in rng.integers(1, 5, 9)]
            if edge:  # spans at both ends, and two that touch
                pieces = [0, *pieces[:3], 0, *pieces[3:7], 1]
                pieces = pieces[: len(pieces) - len(pieces) % 2]
            spans, length = some_spans(rng, pieces)
            first = int(rng.integers(40, 90))
            self.judge(student, a_text(rng, length, first, len(spans)), spans, first)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_several_spans")
    def test_any_order(self, student, rng):
        """numbers the gaps in the order of the text, in whatever order the spans are given"""
        spans, length = some_spans(rng, [int(n) for n in rng.integers(1, 4, 7)])
        first = int(rng.integers(40, 90))
        ids = a_text(rng, length, first, len(spans))
        for shown in (spans[::-1], [spans[1], spans[2], spans[0]]):
            self.judge(student, ids, spans, first, shown)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_one_span")
    def test_nothing_to_take(self, student, rng):
        """leaves a text without spans as it is, an empty one too, and takes a whole text out"""
        first = int(rng.integers(40, 90))
        ids = a_text(rng, int(rng.integers(3, 7)), first, 1)
        for text, spans in ((ids, []), ([], []), (ids, [(0, len(ids))])):
            self.judge(student, text, spans, first)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_several_spans")
    def test_refuses_spans(self, student, rng):
        """refuses spans that overlap, are empty, or leave the text"""
        first, n = int(rng.integers(40, 90)), int(rng.integers(8, 12))
        ids = a_text(rng, n, first, 3)
        ask = "Where may a span start, at the earliest, and end, at the latest, once you know where the last one ended?"
        for spans, when in (
            ([(1, 4), (3, 6)], "where two spans overlap"),
            ([(5, 8), (1, 6)], "where two spans overlap, given in another order"),
            ([(1, 7), (2, 3)], "where one span lies within another"),
            ([(2, 5), (2, 5)], "where a span is given twice"),
            ([(3, 3)], "where a span is empty"),
            ([(1, 2), (5, 4)], "where a span ends before it starts"),
            ([(1, 3), (n - 1, n + 1)], "where a span ends behind the text"),
            ([(n, n + 2)], "where a span starts behind the text"),
            ([(-2, 2)], "where a span starts before the text"),
            ([(-3, -1)], "where a span counts from the end: its start is negative"),
        ):
            call = lambda spans=spans: student.span_corruption(list(ids), spans, first)  # noqa: E731
            expect.raises(ValueError, call, when=f"{when}: {spans}", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_several_spans")
    def test_refuses_sentinels_in_the_text(self, student, rng):
        """refuses a text that holds a sentinel that is used, and no other"""
        first, spans = int(rng.integers(40, 90)), [(1, 3), (4, 5)]
        plain = a_text(rng, 8, first, 2)
        ask = "With n spans, n + 1 sentinels are used. Which ids are these?"
        for i, place in zip((0, 1, 2), (0, 2, 6), strict=True):
            ids = [*plain[:place], first - i, *plain[place + 1 :]]
            when = f"where the text holds {first - i}, sentinel number {i}, and there are two spans"
            expect.raises(
                ValueError, lambda ids=ids: student.span_corruption(ids, spans, first), when=when, ask=ask
            )
        for other in (first - 3, first + 1):  # ids like all others
            ids = [other, other, *plain[2:7], other]
            self.judge(student, ids, spans, first)


def filled(source, target, first, wrong=""):
    """What restoring leads to, with something wrong in it."""
    answers, current = {}, None
    for token in target:
        if first - len(answers) == token:
            current = token
            answers[current] = []
        elif current is not None:
            answers[current].append(token)
    out, order = [], [answers[key] for key in answers][:-1]
    gaps = [token for token in source if token in answers]
    for token in source:
        if token not in answers:
            out.append(token)
            continue
        answer = answers[token]
        if wrong == "shifted":
            answer = order[(order.index(answer) + 1) % len(order)]
        if wrong == "backwards":
            answer = answers[gaps[len(gaps) - 1 - gaps.index(token)]]
        if wrong == "reversed":
            answer = answer[::-1]
        out += {
            "kept": [token, *answer],
            "dropped": [],
            "first": answer[:1],
            "all": [t for a in order for t in a],
        }.get(wrong, answer)
    if wrong == "closing":
        out.append(first - len(answers) + 1)
    return out


WRONGLY_FILLED = {
    "kept": "the sentinels left in the text",
    "dropped": "the gaps closed, and the answers left out",
    "first": "the first token of each answer alone",
    "shifted": "each gap filled with the answer for the next",
    "backwards": "the last answer in the first gap",
    "reversed": "each answer from its last token to its first",
    "all": "all answers in every gap",
    "closing": "the closing sentinel at the end of the text",
}


@pytest.mark.exercise("restore_spans")
class TestRestoreSpans:
    ASK = "Which answer of the target belongs to which gap, and where does an answer end?"

    def judge(self, student, source, target, first, expected):
        mistakes = {said: filled(source, target, first, wrong) for wrong, said in WRONGLY_FILLED.items()}
        mistakes = {said: wrong for said, wrong in mistakes.items() if wrong != expected}
        out = student.restore_spans(list(source), list(target), first)
        same(out, expected, "the text", self.ASK, mistakes)

    @pytest.mark.points(3)
    def test_restores(self, student, rng):
        """gives back exactly the text that was corrupted"""
        for edge in (False, True):
            pieces = [int(n) for n in rng.integers(1, 5, 7)]
            pieces = [0, *pieces[:3], 0, *pieces[3:]] if edge else pieces
            pieces = pieces[: len(pieces) - len(pieces) % 2] if edge else pieces
            spans, length = some_spans(rng, pieces)
            first = int(rng.integers(40, 90))
            ids = a_text(rng, length, first, len(spans))
            self.judge(student, *corrupted(ids, spans, first), first, ids)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_restores")
    def test_nothing_there(self, student, rng):
        """leaves a text without gaps as it is, and fills a gap with nothing where the answer is empty"""
        first = int(rng.integers(40, 90))
        a, b, c = a_text(rng, 3, first, 3)
        for source, target, expected in (
            ([a, b, c], [first], [a, b, c]),
            ([], [first], []),
            ([a, first, b, first - 1], [first, first - 1, c, first - 2], [a, b, c]),
            ([first, a, first - 1], [first, b, first - 1, first - 2], [b, a]),
            ([first], [first, a, b, first - 1], [a, b]),
        ):
            self.judge(student, source, target, first, expected)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_restores")
    def test_other_ids_are_text(self, student, rng):
        """takes the ids that are no sentinel of this target for text, above and below"""
        first, spans = int(rng.integers(40, 90)), [(1, 3), (4, 5)]
        ids = a_text(rng, 8, first, 2)
        ids[0] = ids[4] = first + 1  # in a gap's answer, and outside of one
        ids[2] = ids[6] = ids[7] = first - 3
        self.judge(student, *corrupted(ids, spans, first), first, ids)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_restores")
    def test_refuses(self, student, rng):
        """refuses a source and a target that do not fit together"""
        f = int(rng.integers(40, 90))
        a, b, c, d = a_text(rng, 4, f, 4)
        cases = (
            ([a, f, b], [], "where the target is empty"),
            ([a, f, b], [c, f, d, f - 1], "where something stands before the first sentinel of the target"),
            ([a, f, b], [f - 1, c, f - 2], "where the target begins with sentinel 1"),
            ([a, f, b], [f, c], "where the target is not closed"),
            ([a, f, b], [f, c, f - 1, d], "where something stands behind the closing sentinel"),
            ([a, b], [f, c, f - 1], "where the target fills a gap that the source does not have"),
            ([a, f, b], [f, c, f - 1, d, f - 2], "where the source has one gap and the target fills two"),
            ([a, f, b, f - 1], [f, c, f - 1], "where the source has two gaps and the target fills one"),
            ([a, f, b, f], [f, c, f - 1], "where a gap comes twice in the source"),
            (
                [f - 1, a, f, b],
                [f, c, f - 1, d, f - 2],
                "where the sentinels of the source are in another order",
            ),
            ([a, f, b], [f], "where the target closes at once and the source has a gap"),
        )
        for source, target, when in cases:
            ask = f"Source {source}, target {target}: which sentinel has no partner, or stands out of order?"
            call = lambda s=source, t=target: student.restore_spans(s, t, f)  # noqa: E731
            expect.raises(ValueError, call, when=when, ask=ask)


# ---- buckets --------------------------------------------------------------------------------------------------------


def found_in(d, n, max_distance):
    """The buckets that a distance may fall in: one; or two where it starts a bucket, and rounding may decide."""
    e = n // 2
    if d < e:
        return (d,)
    step = (n - e) * math.log(d / e) / math.log(max_distance / e)
    near = round(step)
    steps = (near, near - 1) if abs(step - near) < 1e-4 and near > 0 else (math.floor(step),)
    return tuple(min(n - 1, e + k) for k in steps)


def bucketed(relative, bidirectional, buckets, max_distance, wrong=""):
    """Buckets of distances, one after the other, with something wrong if wanted."""
    out = []
    for r in relative.flatten().tolist():
        if wrong == "sign":
            r = -r
        n, offset, d = buckets, 0, max(-r, 0)
        if bidirectional:
            n, d = buckets // 2, abs(r)
            offset = n if (r < 0 if wrong == "sides" else r >= 0 if wrong == "zero ahead" else r > 0) else 0
            if wrong == "not split":
                n, offset = buckets, 0
            if wrong == "no offset":
                offset = 0
            if wrong == "one n":
                n = buckets
            if wrong == "back only":
                d = max(-r, 0)
            if wrong == "other kind":
                n, offset, d = buckets, 0, max(-r, 0)
        elif wrong == "both ways":
            d = abs(r)
        elif wrong == "halved":
            n = buckets // 2
        elif wrong == "other kind":
            n, d = buckets // 2, abs(r)
            offset = n * (r > 0)
        e = n // 2
        if wrong == "exact":
            e = n - 1
        if d < e or wrong == "plain":
            out.append(offset + min(d, n - 1))
            continue
        share = math.log(max(d, 1) / e) / math.log(max_distance / e)
        if wrong == "share of all":
            share = math.log(max(d, 1)) / math.log(max_distance)
        if wrong == "linear":
            share = (d - e) / (max_distance - e)
        step = share * (n if wrong == "n" else e if wrong == "e" else n - e)
        step = {"round": round, "ceil": math.ceil}.get(wrong, lambda s: math.floor(s + 1e-9))(step)
        if wrong == "next":
            step += 1
        bucket = (0 if wrong == "from zero" else e) + step
        if wrong not in ("no end",):
            bucket = min(bucket, n if wrong == "end" else n - 2 if wrong == "early end" else n - 1)
        out.append(offset + bucket)
    return torch.tensor(out, dtype=torch.int64).view(relative.shape)


WRONG_BUCKETS = {
    "sign": "the sign turned round: key position minus query position is negative for what lies behind",
    "sides": "the upper half for what lies behind: it is for what lies ahead",
    "zero ahead": "distance 0 in the upper half: a key at the query's own place belongs to the lower",
    "not split": "all buckets for both sides: half of them are for what lies ahead",
    "no offset": "both sides in the same buckets: what lies ahead is n buckets higher",
    "one n": "halves that share buckets: n is half of the buckets, for each side",
    "back only": "the keys that lie ahead taken for distance 0: an encoder looks both ways",
    "both ways": "the keys that lie ahead taken for as many behind: a decoder counts them as distance 0",
    "halved": "half of the buckets in a decoder: it has all of them for one side",
    "other kind": "the buckets of a decoder in an encoder, or of an encoder in a decoder: look at `bidirectional`",
    "exact": "one bucket for each distance, to the last: from e on they grow",
    "plain": "one bucket for each distance, to the last: from e on they grow",
    "share of all": "logarithms of d and of max_distance themselves: both are divided by e first",
    "linear": "far buckets all equally wide: they grow with the logarithm of the distance",
    "n": "n far buckets: there are n − e",
    "round": "rounded to the nearest bucket: it is rounded down",
    "ceil": "rounded up: it is rounded down",
    "next": "far buckets that begin at e + 1: the first is e",
    "from zero": "far buckets counted from 0: they come after the first e",
    "no end": "buckets beyond the last: from max_distance on all distances share n − 1",
    "end": "a bucket n: there are n, and the last is n − 1",
    "early end": "the last bucket left empty: it is n − 1",
}


@pytest.mark.exercise("relative_position_bucket")
class TestRelativePositionBucket:
    ASK = "By hand for one of them: which d, which n, which e, and which half?"

    def judge(self, student, relative, bidirectional, buckets, max_distance, what="the buckets"):
        with expect.unchanged(relative=relative):
            out = student.relative_position_bucket(relative, bidirectional, buckets, max_distance)
        self.compare(out, relative, bidirectional, buckets, max_distance, what)

    def compare(self, out, relative, bidirectional, buckets, max_distance, what):
        expect.array(
            out,
            shape=tuple(relative.shape),
            dtype=torch.int64,
            what=what,
            ask="Whole numbers, one for each distance: where do they become another shape or type?",
        )
        expected = torch.empty_like(out).flatten()
        n = buckets // 2 if bidirectional else buckets
        for i, (r, b) in enumerate(zip(relative.flatten().tolist(), out.flatten().tolist(), strict=True)):
            d, offset = (abs(r), n * (r > 0)) if bidirectional else (max(-r, 0), 0)
            fits = [offset + one for one in found_in(d, n, max_distance)]
            expected[i] = b if b in fits else fits[0]

        def mistakes():
            told = {}
            for wrong, said in WRONG_BUCKETS.items():
                value = bucketed(relative, bidirectional, buckets, max_distance, wrong)
                told[said if said not in told else f"{said} "] = value
            return told

        side = "encoder" if bidirectional else "decoder"
        expect.equal(
            out,
            expected.view(relative.shape),
            what=f"{what} ({buckets} of them, max_distance={max_distance}, in the {side})",
            ask=self.ASK,
            mistakes=mistakes,
        )

    def sizes(self, rng):
        """A number of buckets, and a maximal distance that shares nothing with it."""
        buckets = int(rng.choice([8, 12, 16, 20, 24]))
        return buckets, int(rng.integers(2 * buckets, 5 * buckets)) | 1

    def around(self, rng, low, high):
        """All distances from low to high, in a random order, in two dimensions."""
        order = torch.from_numpy(rng.permutation(range(low, high + 1)))
        return order.view(1, -1)

    @pytest.mark.points(1)
    def test_near(self, student, rng):
        """gives each near distance a bucket of its own, in a decoder"""
        buckets, most = self.sizes(rng)
        self.judge(student, self.around(rng, 1 - buckets // 2, 0), False, buckets, most)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_near")
    def test_far(self, student, rng):
        """sorts far distances ever more coarsely, up to the last bucket"""
        for _ in range(2):
            buckets, most = self.sizes(rng)
            self.judge(student, self.around(rng, -2 * most, 0), False, buckets, most)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_near")
    def test_ahead(self, student, rng):
        """counts what lies ahead as distance 0 in a decoder"""
        buckets, most = self.sizes(rng)
        self.judge(student, self.around(rng, -most, most), False, buckets, most)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_far")
    def test_both_sides(self, student, rng):
        """keeps half of the buckets for what lies ahead, in an encoder"""
        for _ in range(2):
            buckets, most = self.sizes(rng)
            relative = self.around(rng, -2 * most, 2 * most)
            self.judge(student, relative, True, buckets, most)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_both_sides")
    def test_edges_and_shapes(self, student, rng):
        """takes any shape, few buckets, and distances around max_distance and far beyond"""
        T, S = rng.distinct(2)
        grid = torch.arange(S) - torch.arange(T)[:, None]
        for bidirectional in (False, True):
            self.judge(student, grid, bidirectional, 8, 17)
            self.judge(student, torch.tensor(int(rng.integers(-9, 0))), bidirectional, 12, 31)
            self.judge(student, torch.zeros(0, 3, dtype=torch.int64), bidirectional, 8, 17)
            buckets, most = int(rng.choice([4, 6, 10])), int(rng.integers(9, 99))
            edges = torch.tensor([-most - 1, -most, 1 - most, 0, most - 1, most, most + 1, 10**6, -(10**6)])
            self.judge(student, edges, bidirectional, buckets, most)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_both_sides")
    def test_defaults(self, student, rng):
        """looks both ways, into 32 buckets up to distance 128, where nothing else is said"""
        relative = self.around(rng, -140, 140)
        out = student.relative_position_bucket(relative)
        self.compare(out, relative, True, 32, 128, "the buckets by default")
        out = student.relative_position_bucket(relative, False)
        self.compare(out, relative, False, 32, 128, "the buckets by default")
