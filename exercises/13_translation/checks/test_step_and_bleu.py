"""Checks of unit 13, second part: a training step, and BLEU.

The model of a training step is that of unit 12, made on the learner side, with a twin here of the same weights; its
loss is the ``plain_loss`` of the notebook and its optimiser ``SGD``, so that the step is judged by itself. BLEU is
judged by ``sacrebleu``.
"""

import math
from collections import Counter
from copy import deepcopy

import pytest
import sacrebleu
import torch
import torch.nn.functional as F

from proctor import expect
from proctor.proxies import sketch
from scratch.transformer import Transformer

DOUBLE = torch.float64
V, D, H, WIDE = 13, 8, 2, 12


# ---- a training step ----------------------------------------------------------------


def one_number(value, what, ask):
    """A plain float; whatever else comes back is told by name."""
    got = "None" if value is None else f"{type(value).__name__}: {sketch(value)}"
    if isinstance(value, torch.Tensor):
        got += ": a tensor keeps its whole graph in memory"
    expect.holds(type(value) is float, expected=f"{what} as a plain float", got=got, ask=ask)
    return value


class Run:
    """A Transformer on the learner's side, its twin here, an optimiser for it, and batches."""

    def __init__(self, student, rng, lr=0.3):
        torch.manual_seed(int(rng.integers(10**6)))
        self.twin = Transformer(V, D, H, WIDE, 1, dropout=0.0, norm_first=True).double()
        for p in self.twin.parameters():
            p.data = rng.tensor(*p.shape, scale=0.4, dtype=DOUBLE)
        self.model = student.Transformer(V, D, H, WIDE, 1, 0.0, True)
        self.model.double()
        self.model.load_state_dict(self.twin.state_dict())
        self.optimizer = student.SGD(self.model.parameters(), lr=lr)
        self.student, self.lr = student, lr
        self.shapes = {name: tuple(p.shape) for name, p in self.twin.named_parameters()}
        self.start = self.read()

    def batch(self, rng):
        """Sources and targets in no order, the targets between 1 and 2, both padded with 0."""
        B, S, T = rng.distinct(3, low=3, high=6)
        source = torch.from_numpy(rng.integers(3, V, (B, S)))
        source[torch.arange(S) >= rng.lengths(B, S)[:, None]] = 0
        lengths = rng.lengths(B, T)
        lengths[int(lengths.argmax()) - 1] = T - 1  # at least one is padded
        target = torch.zeros(B, T + 2, dtype=torch.int64)
        for b, length in enumerate(lengths.tolist()):
            target[b, : length + 2] = torch.tensor([1, *rng.permutation(range(3, V))[:length].tolist(), 2])
        return source, target

    def read(self):
        """The learner's weights as one vector."""
        found = expect.parameters(self.model, self.shapes)
        return torch.cat([found[name].detach().flatten() for name in self.shapes])

    def step(self, batch, lr=0.2, **options):
        return self.student.train_step(
            self.model, self.optimizer, batch, loss_of=self.student.plain_loss, lr=lr, **options
        )

    def reference(self, batch, *, lr=0.2, max_norm=None, old=None, wrong=""):
        """Weights after a step as it should be, or with the mistake that ``wrong`` names; and the loss before."""
        model = deepcopy(self.twin)
        source, target = batch
        read, wanted = {
            "not shifted": (target, target),
            "wanted not shifted": (target[:, :-1], target[:, :-1]),
            "shown what is wanted": (target[:, 1:], target[:, 1:]),
            "backwards": (target[:, 1:], target[:, :-1]),
        }.get(wrong, (target[:, :-1], target[:, 1:]))
        if wrong == "sides swapped":
            read, wanted, source = source[:, :-1], source[:, 1:], target
        if wrong == "source alone":
            source = target
        logits = model(source, read)
        flat, ids = logits.flatten(0, 1), wanted.flatten()
        loss = F.cross_entropy(flat, ids, ignore_index=-1 if wrong == "padding" else 0)
        loss.backward()
        grads = [p.grad.clone() for p in model.parameters()]
        if old is not None and wrong == "piled up":
            grads = [g + o for g, o in zip(grads, old, strict=True)]
        if old is not None and wrong == "old":
            grads = old
        norm = math.sqrt(sum(float((g * g).sum()) for g in grads))
        if max_norm is not None:
            if wrong == "by value":
                grads = [g.clamp(-max_norm, max_norm) for g in grads]
            elif wrong == "each by itself":
                grads = [g * min(1.0, max_norm / float(g.norm())) for g in grads]
            elif wrong == "always" or (wrong != "not clipped" and norm > max_norm):
                grads = [g * max_norm / norm for g in grads]
        with torch.no_grad():
            for p, g in zip(model.parameters(), grads, strict=True):
                p -= lr * g
        return torch.cat([p.detach().flatten() for p in model.parameters()]), float(loss)


@pytest.mark.exercise("train_step")
class TestTrainStep:
    def compare(self, run, batch, *, what, ask="", more=(), **options):
        expected, _ = run.reference(batch, **options)

        def mistakes():
            wrongs = {
                "weights of a step without the shift: shown and wanted were the same whole targets": "not shifted",
                "weights that learned to copy: wanted was what the decoder was shown, not the next "
                "token": "wanted not shifted",
                "weights that learned to copy: the decoder was shown what it is asked for": "shown what is wanted",
                "weights that learned backwards: shown was target[:, 1:], wanted target[:, :-1]": "backwards",
                "weights of a step with source and target exchanged": "sides swapped",
                "weights of a step in which the target was the source as well": "source alone",
            }
            options_ = {**options}
            found = {
                says: lambda w=wrong: run.reference(batch, wrong=w, **options_)[0]
                for says, wrong in wrongs.items()
            }
            found |= {
                says: lambda w=wrong: run.reference(batch, wrong=w, **options_)[0]
                for says, wrong in dict(more).items()
            }
            share = float((batch[1][:, 1:] != 0).double().mean())
            found[
                "weights of a shorter step: the loss was divided by all B · T places, padding among them"
            ] = run.start + share * (expected - run.start)
            found["weights that have not moved"] = run.start
            found["weights that moved up the slope: the sign of the loss is wrong"] = 2 * run.start - expected
            return found

        ask = (
            ask
            or "Which columns of the target is the decoder shown, which is it asked for, and in which "
            "order do backward and step come?"
        )
        expect.close(run.read(), expected, atol=1e-8, rtol=1e-6, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    def test_shift(self, student, rng):
        """shows the model all but the last column of the targets, once, and asks for all but the first"""
        run = Run(student, rng)
        batch = source, target = run.batch(rng)
        calls = []
        run.model.register_forward_hook(lambda model, args, out: calls.append((args, out.shape)) and None)
        seen = []
        plain = student.plain_loss

        def loss_of(logits, wanted):
            seen.append(wanted)
            return plain(logits, wanted)

        student.train_step(run.model, run.optimizer, batch, loss_of=loss_of, lr=0.1)
        got = f"{len(calls)} calls" + (": all positions are predicted in one" if len(calls) > 1 else "")
        ask = "How many rows of logits does one call return, and which of them are needed?"
        expect.holds(len(calls) == 1, expected="one call of the model", got=got, ask=ask)
        args, _ = calls[0]
        two = isinstance(args, (tuple, list)) and len(args) == 2
        expect.holds(
            two, expected="model(source, read)", got=f"{len(args)} arguments", ask="What does the model need?"
        )
        expect.equal(
            args[0],
            source,
            what="the source that the model is given",
            ask="Is the source passed on as it is?",
        )
        ask = "What is the last token good for, to a decoder that is asked for the one after it?"
        mistakes = {
            "all of the target: the last column is only asked for": target,
            "the target without its first column: that is what it is asked for": target[:, 1:],
            "the target without its first and its last column": target[:, 1:-1],
        }
        expect.equal(
            args[1], target[:, :-1], what="the target that the model is shown", ask=ask, mistakes=mistakes
        )
        expect.holds(
            len(seen) == 1,
            expected="one call of loss_of",
            got=f"{len(seen)} calls",
            ask="Which two things does it compare?",
        )
        ask = "Row t of the logits scores what comes after token t. Which token is that?"
        mistakes = {
            "the target without its last column: that is what it was shown": target[:, :-1],
            "all of the target: the first column is only shown": target,
        }
        expect.equal(
            seen[0], target[:, 1:], what="the tokens that loss_of is asked about", ask=ask, mistakes=mistakes
        )

    @pytest.mark.points(3)
    def test_agrees_with_a_plain_step(self, student, rng):
        """moves the weights as the slope of the loss says, whatever gradients were there before"""
        run = Run(student, rng)
        before, batch = run.batch(rng), run.batch(rng)
        # Old gradients, as a run that was broken off leaves them behind.
        for model, loss in ((run.model, run.student.plain_loss), (run.twin, plain)):
            loss(model(before[0], before[1][:, :-1]), before[1][:, 1:]).backward()
        old = [p.grad.clone() for p in run.twin.parameters()]
        run.twin.zero_grad()
        run.step(batch)
        more = {
            "weights whose gradients piled up: backward adds to `grad`, where something was left from "
            "before": "piled up",
            "weights moved by the gradients from before: step came before backward, or these were "
            "never replaced": "old",
        }
        self.compare(run, batch, what="all weights after one step", old=old, more=more.items())

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_plain_step")
    @pytest.mark.draws(2)
    def test_learning_rate(self, student, rng):
        """steps by the learning rate of this step"""
        run = Run(student, rng, lr=0.3)
        batch = run.batch(rng)
        run.step(batch, lr=0.05)
        late, _ = run.reference(batch, lr=0.3)
        expected, _ = run.reference(batch, lr=0.05)
        mistakes = {
            "weights that moved by the rate that the optimiser had before: is `lr` set at all, and before step?": late,
            "weights that have not moved": run.start,
        }
        ask = "Which attribute of the optimiser says how far `step` goes?"
        expect.close(
            run.read(),
            expected,
            atol=1e-8,
            what="all weights after a step at lr=0.05",
            ask=ask,
            mistakes=mistakes,
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_a_plain_step")
    @pytest.mark.draws(2)
    def test_clips(self, student, rng):
        """clips the gradients together where they are too long, and only there"""
        run = Run(student, rng)
        batch = run.batch(rng)
        length = float((run.start - run.reference(batch, lr=1.0)[0]).norm())
        more = {
            "weights of gradients that were not clipped. Is it done after backward and before step?": "not clipped",
            "weights of gradients whose entries were clipped each by itself: it is their common "
            "length that counts": "by value",
            "weights of gradients that were clipped parameter by parameter: they have one length "
            "together": "each by itself",
        }
        ask = "Between which two lines do gradients exist that no step has used yet?"
        what = "all weights after a step with clipped gradients"
        run.step(batch, max_norm=length / 3)
        self.compare(run, batch, what=what, max_norm=length / 3, more=more.items(), ask=ask)
        run = Run(student, rng)
        batch = run.batch(rng)
        length = float((run.start - run.reference(batch, lr=1.0)[0]).norm())
        run.step(batch, max_norm=3 * length)
        more = {"weights of gradients that were made longer: what is short enough stays as it is": "always"}
        what = "all weights after a step whose gradients are short enough"
        self.compare(
            run,
            batch,
            what=what,
            max_norm=3 * length,
            more=more.items(),
            ask="What does clipping do to a short gradient?",
        )
        run = Run(student, rng)
        run.step(batch, max_norm=0.0)
        mistakes = {
            "weights that moved: 0 is a length too, and `if max_norm:` passes over it": lambda: run.reference(
                batch
            )[0]
        }
        expect.close(
            run.read(),
            run.start,
            atol=1e-9,
            what="all weights after a step with max_norm=0",
            ask="When is nothing clipped: for None, or for 0?",
            mistakes=mistakes,
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_plain_step")
    @pytest.mark.draws(1)
    def test_returns_the_loss(self, student, rng):
        """returns the loss before the step as a plain float"""
        run = Run(student, rng)
        batch = run.batch(rng)
        _, loss = run.reference(batch)
        ask = "What turns a tensor with one number into a float, and when was it computed?"
        value = one_number(run.step(batch), "the loss", ask)
        after = deepcopy(run.twin)
        weights, _ = run.reference(batch)
        torch.nn.utils.vector_to_parameters(weights, after.parameters())
        source, target = batch
        tokens = int((target[:, 1:] != 0).sum())
        mistakes = {
            "the loss after the step: the one that led to it is asked for": lambda: plain(
                after(source, target[:, :-1]), target[:, 1:]
            ),
            "the sum over all tokens: it should be what loss_of returned": loss * tokens,
            "the loss divided by the number of sequences: loss_of has taken the mean already": loss
            / len(source),
            "the loss divided by the number of tokens: loss_of has taken the mean already": loss / tokens,
            "the loss times the number of sequences: it should be what loss_of returned": loss * len(source),
            "the loss of a sequence, summed over its tokens: it should be what loss_of returned": loss
            * tokens
            / len(source),
        }
        expect.close(value, loss, what="the loss", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_plain_step")
    @pytest.mark.draws(1)
    def test_training_mode(self, student, rng):
        """has the model in training mode, whatever it was before"""
        run = Run(student, rng)
        modes = []
        run.model.register_forward_hook(lambda model, args, out: modes.append(model.training) and None)
        run.model.eval()
        run.step(run.batch(rng))
        ask = (
            "An evaluation has left the model in evaluation mode. Who switches dropout on again, "
            "and before which line?"
        )
        expect.holds(
            modes == [True],
            expected="training mode while the loss is computed",
            got=f"model.training: {modes}"[:80],
            ask=ask,
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_plain_step")
    @pytest.mark.draws(1)
    def test_batch_stays(self, student, rng):
        """leaves the batch as it is, and takes the optimiser and the loss that it is given"""
        run = Run(student, rng)
        batch = source, target = run.batch(rng)
        with expect.unchanged(source=source, target=target):
            run.step(batch)
        run = Run(student, rng)
        rate, beta = 0.01, 0.8
        run.optimizer = student.AdamW(run.model.parameters(), lr=1.0, betas=(beta, 0.9), weight_decay=0.1)
        theirs = torch.optim.AdamW(run.twin.parameters(), lr=rate, betas=(beta, 0.9), weight_decay=0.1)
        for _ in range(2):
            batch = run.batch(rng)
            run.step(batch, lr=rate)
            theirs.zero_grad()
            plain(run.twin(batch[0], batch[1][:, :-1]), batch[1][:, 1:]).backward()
            theirs.step()
        expected = torch.cat([p.detach().flatten() for p in run.twin.parameters()])
        ask = "Which optimiser does your step use, and does anything but it move weights or its memory?"
        expect.close(run.read(), expected, atol=1e-6, what="all weights after two steps of AdamW", ask=ask)


def plain(logits, wanted):
    """The notebook's ``plain_loss``."""
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=0)


# ---- BLEU ----------------------------------------------------------------


def judged(hypotheses, references):
    """What sacrebleu says, of texts that are split at spaces."""
    texts = [" ".join(tokens) for tokens in hypotheses]
    return sacrebleu.corpus_bleu(
        texts, [[" ".join(tokens) for tokens in references]], tokenize="none", force=True
    ).score


WORDS = "open close the a door window light of is not on off state main set".split()


def corpus(rng, count, low=4, high=10, change=0.25):
    """References, and hypotheses that differ from them here and there: words changed, dropped, doubled, moved."""
    references = [rng.choice(WORDS, int(rng.integers(low, high + 1))).tolist() for _ in range(count)]
    hypotheses = []
    for tokens in references:
        written = []
        for token in tokens:
            chance = rng.random()
            if chance < change / 3:
                continue
            written.append(str(rng.choice(WORDS)) if chance < 2 * change / 3 else token)
            if chance > 1 - change / 4:
                written.append(token)
        if len(written) > 3 and rng.random() < 2 * change:
            written[1:3] = written[2:0:-1]
        hypotheses.append(written or tokens[:1])
    return hypotheses, references


def grams(tokens, n):
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def combined(match, total, h, r, orders=4, brevity=True, mean="geometric"):
    """BLEU of counts, without the rule for zeros."""
    if min(total[:orders]) == 0 or (mean == "geometric" and min(match[:orders]) == 0):
        return math.nan
    p = [m / t for m, t in zip(match[:orders], total[:orders], strict=True)]
    product = math.prod(p)
    value = {"geometric": product ** (1 / orders), "arithmetic": sum(p) / orders, "product": product}[mean]
    return 100 * value * (min(1.0, math.exp(1 - r / h)) if brevity else 1.0)


def other_scores(hypotheses, references):
    """What known mistakes lead to."""
    match, total, theirs, raw, kinds, kinds_total = ([0] * 4 for _ in range(6))
    anywhere = [0] * 4
    for n in range(1, 5):
        everything = sum((grams(ref, n) for ref in references), Counter())
        ours_all = sum((grams(hyp, n) for hyp in hypotheses), Counter())
        anywhere[n - 1] = sum((ours_all & everything).values())
        for written, wanted in zip(hypotheses, references, strict=True):
            a, b = grams(written, n), grams(wanted, n)
            match[n - 1] += sum((a & b).values())
            total[n - 1] += sum(a.values())
            theirs[n - 1] += sum(b.values())
            raw[n - 1] += sum(count for gram, count in a.items() if gram in b)
            kinds[n - 1] += len(set(a) & set(b))
            kinds_total[n - 1] += len(a)
    h, r = (sum(map(len, side)) for side in (hypotheses, references))
    right = combined(match, total, h, r)
    joined = [[token for tokens in side for token in tokens] for side in (hypotheses, references)]
    j_match = [sum((grams(joined[0], n) & grams(joined[1], n)).values()) for n in range(1, 5)]
    j_total = [sum(grams(joined[0], n).values()) for n in range(1, 5)]
    sentences = [judged([a], [b]) for a, b in zip(hypotheses, references, strict=True)]
    each = [
        min(1.0, math.exp(1 - len(b) / len(a))) if a else 0.0
        for a, b in zip(hypotheses, references, strict=True)
    ]
    bare = combined(match, total, h, r, brevity=False)
    shares = [
        [
            sum((grams(a, n) & grams(b, n)).values()) / len(a[n - 1 :])
            for a, b in zip(*both, strict=True)
            if a[n - 1 :]
        ]
        for n in range(1, 5)
        for both in [(hypotheses, references)]
    ]
    means = [sum(part) / len(part) if part else 0.0 for part in shares]
    added = [(m + 1) / (t + 1) for m, t in zip(match, total, strict=True)]
    precisions = [m / t if t else 0.0 for m, t in zip(match, total, strict=True)]
    penalty = min(1.0, math.exp(1 - r / h))
    return {
        "a mean of the scores of sentences: n-grams are counted over the whole corpus, then divided": sum(
            sentences
        )
        / len(sentences),
        "means of the precisions of sentences: matches and totals are summed over the corpus first": 100
        * min(1.0, math.exp(1 - r / h))
        * math.prod(means) ** 0.25,
        "all matches divided by all n-grams: each n has a precision of its own": 100
        * min(1.0, math.exp(1 - r / h))
        * sum(match)
        / sum(total),
        "a brevity penalty of exp(h / r − 1): it is exp(1 − r / h)": bare * min(1.0, math.exp(h / r - 1)),
        "BLEU without the brevity penalty: short translations score too well": bare,
        "BLEU with the lengths exchanged in the brevity penalty: it punishes what is long": bare
        * min(1.0, math.exp(1 - h / r)),
        "a brevity factor that also rewards what is long: it is never more than 1": bare
        * math.exp(1 - r / h),
        "a brevity penalty of h / r, without the exponential": bare * min(1.0, h / r),
        "a brevity penalty of exp(−r / h): it is 1 for h = r": bare * min(1.0, math.exp(-r / h)),
        "the mean of the brevity penalties of sentences: it is one number for the corpus": bare
        * sum(each)
        / len(each),
        "precisions that are not clipped: an n-gram counts at most as often as it stands in the reference": combined(
            raw, total, h, r
        ),
        "n-grams counted once each, as in a set: each counts as often as it was written": combined(
            kinds, kinds_total, h, r
        ),
        "matches in any reference of the corpus: each sentence has its own": combined(anywhere, total, h, r),
        "n-grams that run from one sentence into the next": combined(j_match, j_total, h, r),
        "recalls: matches divided by the n-grams of the references": combined(match, theirs, h, r),
        "the arithmetic mean of the precisions: it is the geometric one": combined(
            match, total, h, r, mean="arithmetic"
        ),
        "the product of the precisions, without its fourth root": combined(
            match, total, h, r, mean="product"
        ),
        "the precisions of n = 1 to 3 alone": combined(match, total, h, r, orders=3),
        "the precisions of n = 1 and 2 alone": combined(match, total, h, r, orders=2),
        "the precision of single tokens alone": combined(match, total, h, r, orders=1),
        "the precision of n = 4 alone": 100 * penalty * precisions[3],
        "precisions with one added to every count": 100 * penalty * math.prod(added) ** 0.25,
        "a share between 0 and 1: BLEU goes from 0 to 100": right / 100,
        "the sum of the logarithms, not divided by 4": 100
        * math.exp(4 * math.log(right / 100 / penalty))
        * penalty
        if right > 0
        else math.nan,
        "hypotheses and references exchanged": judged(references, hypotheses)
        if all(references)
        else math.nan,
        "log BLEU: the exponential is missing": math.log(right / 100) if right > 0 else math.nan,
    }


@pytest.mark.exercise("bleu")
class TestBleu:
    def compare(self, student, hypotheses, references, *, ask, what="BLEU", mistakes=None):
        value = student.bleu(hypotheses, references)
        if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex():
            value = value.item()
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        got = "None" if value is None else f"{type(value).__name__}: {sketch(value)}"
        expect.holds(
            plain, expected=f"{what} as one number", got=got, ask="What does the `return` hand back?"
        )
        expected = judged(hypotheses, references)

        def known():
            wrong = other_scores(hypotheses, references) if mistakes is None else mistakes
            return {says: number for says, number in wrong.items() if not math.isnan(number)}

        expect.close(float(value), expected, atol=1e-6, rtol=1e-6, what=what, ask=ask, mistakes=known)

    @pytest.mark.points(1)
    def test_perfect(self, student, rng):
        """gives 100 to what is word for word the reference, and 0 to what has no word in common"""
        _, references = corpus(rng, 5)
        self.compare(
            student,
            [list(r) for r in references],
            references,
            ask="Every n-gram matches. Which step makes less, or more, of it?",
        )
        strange = [[f"x{token}" for token in tokens] for tokens in references]
        self.compare(
            student,
            strange,
            references,
            ask="What is the docstring's rule where there is no match at all?",
            mistakes={},
        )

    @pytest.mark.points(4)
    def test_agrees_with_sacrebleu(self, student, rng):
        """agrees with sacrebleu on a corpus of translations"""
        while (
            True
        ):  # a corpus in which every n has a match, and h < r, so that all parts of the formula count
            hypotheses, references = corpus(rng, int(rng.integers(6, 12)))
            h, r = (sum(map(len, side)) for side in (hypotheses, references))
            match = [
                sum(
                    sum((grams(a, n) & grams(b, n)).values())
                    for a, b in zip(hypotheses, references, strict=True)
                )
                for n in range(1, 5)
            ]
            if (
                min(match) > 0
                and h < r
                and any(len(a) > len(b) for a, b in zip(hypotheses, references, strict=True))
            ):
                break
        ask = "Work p₁ out by hand. Are matches and totals summed over all sentences before they are divided?"
        self.compare(student, hypotheses, references, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_sacrebleu")
    def test_long_and_short(self, student, rng):
        """punishes what is too short as a whole, and not what is too long"""
        _, references = corpus(rng, 6, low=6)
        longer = [[*tokens, *tokens[:2]] for tokens in references]
        ask = "h tokens against r: what is the factor for h > r, for h = r, and for h < r?"
        self.compare(student, longer, references, ask=ask, what="BLEU of translations that are too long")
        shorter = [tokens[:-1] for tokens in references]
        self.compare(student, shorter, references, ask=ask, what="BLEU of translations that are too short")
        mixed = [tokens[:-1] if i % 2 else [*tokens, tokens[0]] for i, tokens in enumerate(references)]
        self.compare(
            student,
            mixed,
            references,
            ask="Is the penalty worked out once for the corpus?",
            what="BLEU of long and short translations",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_sacrebleu")
    def test_clipping(self, student, rng):
        """counts an n-gram at most as often as it stands in the reference of its own sentence"""
        word, other = rng.choice(WORDS, 2, replace=False).tolist()
        _, references = corpus(rng, 4, low=6)
        references[0] = [word, other, word, other, word, other, "end"]
        references[1] = ["here", *references[1]]
        hypotheses = [list(tokens) for tokens in references]
        hypotheses[0] = [word, other] * 6
        hypotheses[1] = [*references[2][:5], *references[1]]
        ask = "How often does each n-gram stand in the reference of that sentence? More than that does not count."
        self.compare(student, hypotheses, references, ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_sacrebleu")
    def test_zero_counts(self, student, rng):
        """follows the docstring's rule where some n has no match, or no n-gram"""
        a, b, c, d, e, f = rng.permutation(WORDS)[:6].tolist()
        rule = "The first n without a match gets 1/2, the next 1/4, …; no n-gram of some n, or no match at all: 0."
        cases = [  # (what, written, wanted)
            ("with no match for n = 4", [a, b, c, e, d], [a, b, c, d, e]),
            ("with no match for n = 3 and 4", [a, b, d, c, f], [a, b, c, d, e]),
            ("with no match for n = 2, 3 and 4", [a, c, e, b, d], [a, b, c, d, e]),
            ("where nothing is long enough for n = 4", [a, b, c], [a, b, c]),
            ("where nothing was written", [], [a, b, c, d, e]),
            ("of a reference that is longer, with no match for n = 4", [a, b, c, e], [a, b, c, d, e, f]),
        ]
        for what, written, wanted in cases:
            self.compare(student, [written], [wanted], ask=rule, what=f"BLEU {what}", mistakes={
                "0: that is without the docstring's rule for zeros": 0.0 if len(written) > 3 else math.nan,
                "100: no 4-gram was written, so that BLEU is 0": 100.0 if len(written) == 3 else math.nan,
            })  # fmt: skip
        _, references = corpus(rng, 4)
        hypotheses = [list(references[0]), [], references[2][:2], list(references[3])]
        ask = "An empty or a short sentence adds nothing to some counts. Does the whole corpus fall to 0 for it?"
        self.compare(
            student,
            hypotheses,
            references,
            ask=ask,
            what="BLEU of a corpus with an empty and a short sentence",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_sacrebleu")
    @pytest.mark.draws(1)
    def test_whole_tokens(self, student, rng):
        """compares whole tokens, whatever they are, in lists or tuples"""
        _, references = corpus(rng, 5, low=6)
        swap = {"the": "open", "open": "the"}
        references = [
            [f"{token}s" if token in "a on" else token for token in tokens] for tokens in references
        ]
        hypotheses = [
            [swap.get(token, token) if i % 3 else token for i, token in enumerate(tokens)]
            for tokens in references
        ]
        hypotheses[0] = [token.upper() for token in hypotheses[0]]
        ask = "Are tokens compared as they are, in their order, without joining them to one text or lower-casing?"
        self.compare(student, [tuple(t) for t in hypotheses], [tuple(t) for t in references], ask=ask)
        glued = [["ab", "c", "de", "f", "gh"], ["x", "y", "z", "x", "y"]]
        apart = [["a", "bc", "de", "f", "gh"], ["x", "y", "z", "x", "y"]]
        self.compare(student, glued, apart, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.draws(1)
    def test_refuses_other_counts(self, student, rng):
        """raises ValueError where hypotheses and references differ in number"""
        hypotheses, references = corpus(rng, 4)
        ask = "`zip` stops at the shorter list in silence. What tells that a sentence is missing?"
        for ours, theirs in ((hypotheses, references[:-1]), (hypotheses[:-1], references)):
            when = f"for {len(ours)} hypotheses and {len(theirs)} references"
            expect.raises(ValueError, lambda a=ours, b=theirs: student.bleu(a, b), when=when, ask=ask)
