"""Checks of unit 06, second half: running a cell over a padded batch, and training in chunks.

The cells and layers that the learner's code runs are PyTorch's, made on the learner's side with weights that are drawn
here, where each has a twin. What is expected comes from running each sequence by itself, without padding, or from a
plain loop over the chunks.
"""

from copy import deepcopy

import pytest
import torch
from torch import nn

from proctor import expect
from proctor.proxies import named

DOUBLE = torch.float64


def as_parts(state):
    return state if isinstance(state, tuple) else (state,)


def like(state, parts):
    """Parts as a state of the same form: a tuple, or one tensor."""
    return tuple(parts) if isinstance(state, tuple) else parts[0]


class Batch:
    """A cell on either side, a padded batch of sequences, and the state before the first step."""

    def __init__(self, student, rng, kind="RNN", lengths=None, sizes=None, dtype=torch.float32):
        B, T, D, H = sizes or rng.distinct(4, low=3, high=7)
        self.H = H
        self.twin = getattr(nn, f"{kind}Cell")(D, H, dtype=DOUBLE)
        weights = {name: rng.tensor(*value.shape) for name, value in self.twin.state_dict().items()}
        self.twin.load_state_dict(weights)
        cell = getattr(student.nn, f"{kind}Cell")(D, H, dtype=dtype)
        cell.load_state_dict(weights)
        self.cell = named(cell, "cell")
        self.x = rng.tensor(B, T, D, dtype=dtype)
        self.lengths = rng.lengths(B, T) if lengths is None else torch.tensor(lengths)
        if lengths is None:  # one full, one of length 1, one in between
            self.lengths[rng.permutation(B)[:3]] = torch.tensor([T, 1, 2])
        h, c = rng.tensor(B, H, dtype=dtype), rng.tensor(B, H, dtype=dtype)
        self.state = (h, c) if kind == "LSTM" else h

    def reference(
        self,
        *,
        reverse=False,
        shift=0,
        runs_on=(),
        from_start=False,
        before=False,
        order=None,
        flipped=False,
        zeroed=False,
    ):
        """Outputs (B, T, H) and state in float64, sequence by sequence; or with a mistake on the way.

        ``shift`` reads so many steps more of each sequence than are real; the parts of the state in ``runs_on`` do not
        stop at its end; ``from_start`` takes every step from the first state; ``before`` puts out the state before
        each step; ``order`` exchanges the lengths; ``flipped`` turns each row round as a whole, with its padding;
        ``zeroed`` sets the inputs in the padding to zero.
        """
        B, T, _ = self.x.shape
        x = self.x.detach().double()
        x = x.flip(1) if flipped else x
        x = x * (torch.arange(T) < self.lengths[:, None])[..., None] if zeroed else x
        lengths = (self.lengths if order is None else self.lengths[order]).tolist()
        outputs, ends = torch.zeros(B, T, self.H, dtype=DOUBLE), []
        with torch.no_grad():
            for b, length in enumerate(lengths):
                first = [part.detach().double()[b : b + 1] for part in as_parts(self.state)]
                now, until = list(first), min(max(length + shift, 0), T)
                for t in reversed(range(T)) if reverse else range(T):
                    old = now
                    new = as_parts(self.twin(x[b : b + 1, t], like(self.state, first if from_start else now)))
                    real = t < until
                    now = [new[i] if real or i in runs_on else old[i] for i in range(len(new))]
                    if real:
                        outputs[b, t] = (old if before else now)[0]
                ends.append(now)
        return outputs, like(self.state, [torch.cat(parts) for parts in zip(*ends, strict=True)])

    def run(self, student, *more, **options):
        """The learner's outputs (B, T, H) and the parts of its state, all of the right shape."""
        out = student.run_masked(self.cell, self.x, self.lengths, self.state, *more, **options)
        outputs, state = expect.parts(out, "outputs", "state")
        B, T, _ = self.x.shape
        ask = "One output for each step, side by side along dimension 1: which function puts a list of (B, H) together?"
        expect.array(outputs, what="the outputs", ask=ask)
        if tuple(outputs.shape) == (T, B, self.H):
            got = f"shape {tuple(outputs.shape)}: the steps are in front"
            expect.fail(expected=f"outputs of shape {(B, T, self.H)}", got=got, ask=ask)
        longest = int(self.lengths.max())
        if longest < T and tuple(outputs.shape) == (B, longest, self.H):
            got = f"shape {tuple(outputs.shape)}: the steps of the longest sequence alone"
            ask = "How many steps has x, and what do the outputs hold where no sequence is that long?"
            expect.fail(expected=f"outputs of shape {(B, T, self.H)}", got=got, ask=ask)
        if outputs.ndim == 3 and 0 < outputs.shape[1] < T:
            ask = "Does something end the loop early, such as `break` or `return`?"
        expect.array(outputs, shape=(B, T, self.H), what="the outputs", ask=ask)
        ask = "Does one of your lines fix the dtype of what it makes?"
        expect.array(outputs, dtype=self.x.dtype, what="the outputs", ask=ask)
        return outputs, self.parts(state)

    def parts(self, state):
        """The learner's state as a list of tensors, in the form in which the first one went in."""
        if isinstance(self.state, tuple):
            ask = "The state comes as a tuple and goes as a tuple. Is each of its parts frozen by itself?"
            found = expect.parts(state, *"hc"[: len(self.state)], ask=ask)
        else:
            ask = "The state came as one tensor, and goes as one."
            found = (state,)
        for part, name in zip(found, "hc", strict=False):
            what = f"{name} of the state" if isinstance(self.state, tuple) else "the state"
            expect.array(part, shape=(len(self.x), self.H), dtype=self.x.dtype, what=what, ask=ask)
        return found


@pytest.mark.exercise("run_masked")
class TestRunMasked:
    @pytest.mark.points(1)
    def test_full_sequences(self, student, rng):
        """runs a cell step by step where nothing is padded"""
        B, T, D, H = rng.distinct(4, low=2, high=6)
        batch = Batch(student, rng, lengths=[T] * B, sizes=(B, T, D, H))
        outputs, (state,) = batch.run(student)
        expected, end = batch.reference()
        behind, _ = batch.reference(before=True)
        alone, _ = batch.reference(from_start=True)
        mistakes = {
            "outputs that are one step behind: the state before each step, not after it": behind,
            "steps that do not build on one another: each starts from the first state": alone,
            "the steps read from last to first": batch.reference(reverse=True)[0],
            "the steps in reverse order": expected.flip(1),
        }
        ask = "Entry [b, t] is the state after step t. What does your loop hand to the cell, and what does it keep?"
        expect.close(outputs, expected, what="the outputs", ask=ask, mistakes=mistakes)
        mistakes = {
            "the state before the first step": batch.state.double(),
            "the state before the last step": expected[:, -2],
            "the state after the first step": expected[:, 0],
        }
        ask = "Which of the states is there when the loop is over?"
        expect.close(state, end, what="the state", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_full_sequences")
    def test_outputs_of_a_padded_batch(self, student, rng):
        """gives each sequence the outputs that it has alone, and zero in its padding"""
        batch = Batch(student, rng)
        outputs, _ = batch.run(student)
        expected, end = batch.reference()
        padding = torch.arange(batch.x.shape[1]) >= batch.lengths[:, None]
        mistakes = {
            "the outputs of a run that never looks at the lengths": batch.reference(shift=99)[0],
            "the outputs of a run over inputs that are zero in the padding: they too change the state": (
                batch.reference(shift=99, zeroed=True)[0]
            ),
            "the frozen state in the padding: there the outputs are zero": torch.where(
                padding[..., None], end[:, None], expected
            ),
            "one step too many: step lengths[b] is padding already": batch.reference(shift=1)[0],
            "one step too few: step lengths[b] - 1 is real": batch.reference(shift=-1)[0],
            "outputs in the padding only, where they are to be zero": batch.reference(shift=99)[0]
            * padding[..., None],
            "the outputs of other lengths: row b of x belongs to lengths[b]": batch.reference(
                order=batch.lengths.argsort()
            )[0],
        }
        ask = "For which t is step t of sequence b real, and what does outputs[b, t] hold for the others?"
        expect.close(outputs, expected, what="the outputs", ask=ask, mistakes=mistakes)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_full_sequences")
    def test_state_of_a_padded_batch(self, student, rng):
        """freezes the state at the end of each sequence"""
        batch = Batch(student, rng)
        _, (state,) = batch.run(student)
        expected, end = batch.reference()
        free, ran_on = batch.reference(shift=99)
        mistakes = {
            "a state that ran on over the padding: where a sequence has ended, the old state stays": ran_on,
            "a state that ran on over padding set to zero: inputs of zero change the state too": batch.reference(
                shift=99, zeroed=True
            )[1],
            "zero where a sequence has ended: was its state cleared, or the last column of the outputs taken?": (
                expected[:, -1]
            ),
            "the state before the first step": batch.state.double(),
            "a state frozen one step too late: step lengths[b] is padding already": batch.reference(shift=1)[
                1
            ],
            "a state frozen one step too early: step lengths[b] - 1 is real": batch.reference(shift=-1)[1],
            "the first state again where a sequence has ended": torch.where(
                (batch.lengths == batch.x.shape[1])[:, None], end, batch.state.double()
            ),
            "the states of other lengths: row b of x belongs to lengths[b]": batch.reference(
                order=batch.lengths.argsort()
            )[1],
            "the state of the shortest sequence's end, for all": free[:, int(batch.lengths.min()) - 1],
        }
        ask = "A sequence of length 2 in a batch of 5 steps: which state does it have after step 4?"
        expect.close(state, end, what="the state", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_state_of_a_padded_batch")
    def test_state_of_two_parts(self, student, rng):
        """freezes every part of a state that is a tuple, as an LSTM's (h, c)"""
        batch = Batch(student, rng, "LSTM")
        outputs, found = batch.run(student)
        expected, end = batch.reference()
        ask = (
            "The output of a step is its hidden state, the first part of the tuple. Which part did you take?"
        )
        expect.close(outputs, expected, what="the outputs", ask=ask)
        for i, name in enumerate("hc"):
            mistakes = {
                f"{name} that ran on over the padding: each part of the state is frozen": batch.reference(
                    runs_on=(i,)
                )[1][i],
                "a state that ran on over the padding": batch.reference(shift=99)[1][i],
                f"{'ch'[i]} in the place of {name}": end[1 - i],
                f"another {name}: it was frozen, but {'ch'[i]}, which it is made from, ran on": batch.reference(
                    runs_on=(1 - i,)
                )[1][i],
            }
            ask = "Do you keep the old value of every part where a sequence has ended?"
            expect.close(found[i], end[i], what=f"{name} of the state", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_state_of_two_parts")
    def test_state_of_any_number_of_parts(self, student, rng):
        """takes a state of any number of parts, and any function as a cell"""
        ask = "Does any line of yours count on a state of one or two parts, or on a cell of one kind?"
        for count in (3, 1):
            batch = Batch(student, rng)
            B, _, D = batch.x.shape
            matrix = rng.tensor(D, batch.H, dtype=DOUBLE)
            batch.state = tuple(rng.tensor(B, batch.H) for _ in range(count))
            strange = []

            def cell(x, state, count=count, matrix=matrix, strange=strange):
                """Push what comes in into the first part; each part hands on what it held."""
                several = isinstance(state, (tuple, list))
                right = (
                    several and len(state) == count and isinstance(x, torch.Tensor) and x.is_floating_point()
                )
                if not right or not all(isinstance(part, torch.Tensor) for part in state):
                    strange.append(
                        f"a cell called with {len(state)} parts" if several else type(state).__name__
                    )
                    return state
                return (torch.tanh(x.double() @ matrix).to(x.dtype) + state[-1], *state[:-1])

            batch.twin = cell
            try:
                out = student.run_masked(cell, batch.x, batch.lengths, batch.state)
            finally:
                what = f"a cell called with an input and the state, a tuple of {count}"
                expect.holds(not strange, expected=what, got=strange[0] if strange else "", ask=ask)
            outputs, found = expect.parts(out, "outputs", "state")
            expected, end = batch.reference()
            what = f"the outputs of a cell whose state is a tuple of {count}"
            expect.close(outputs, expected, what=what, ask=ask)
            parts = expect.parts(found, *[f"part {i}" for i in range(count)], ask=ask)
            for i, (part, wanted) in enumerate(zip(parts, end, strict=True)):
                expect.close(part, wanted, what=f"part {i} of a state of {count}", ask=ask)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_state_of_a_padded_batch")
    def test_backwards(self, student, rng):
        """reads backwards from each sequence's last real step"""
        for kind in ("GRU", "LSTM"):
            batch = Batch(student, rng, kind)
            outputs, found = batch.run(student, reverse=True)
            expected, end = batch.reference(reverse=True)
            leaked = batch.reference(reverse=True, shift=99)
            turned = batch.reference(flipped=True)
            forwards, _ = batch.reference()
            mistakes = {
                "what comes of reading forwards: `reverse` was ignored": forwards,
                "outputs of reading forwards, turned round: it is the loop that runs backwards": forwards.flip(1),
                "the first state in the padding, where it waits: there the outputs are zero": torch.where(
                    (torch.arange(batch.x.shape[1]) >= batch.lengths[:, None])[..., None],
                    as_parts(batch.state)[0].double()[:, None],
                    expected,
                ),
                "outputs in the order of reading: step t stands at place t, also when read backwards": expected.flip(1),
                "outputs of a run that began in the padding and carried its state into the sequence": torch.where(
                    (expected != 0).any(-1, keepdim=True), leaked[0], 0.0
                ),
                "outputs that hold something in the padding, which was read first": leaked[0],
                "outputs of rows that were flipped as a whole: their padding came to the front": turned[0],
                "outputs of rows that were flipped as a whole, and back: their padding was read as if it were real": (
                    turned[0].flip(1)
                ),
            }  # fmt: skip
            ask = "A sequence of length 2 in a batch of 5 steps: which step is read first, and with which state?"
            expect.close(outputs, expected, what="the outputs, read backwards,", ask=ask, mistakes=mistakes)
            for part, wanted, other, leak in zip(
                found, as_parts(end), as_parts(batch.reference()[1]), as_parts(leaked[1]), strict=True
            ):
                mistakes = {
                    "the state of reading forwards": other,
                    "a state that began in the padding": leak,
                }
                ask = "Read backwards, step 0 comes last. Is the state what it leaves?"
                expect.close(part, wanted, what="the state, read backwards,", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_backwards")
    def test_shortest_cases(self, student, rng):
        """takes empty sequences, a batch of one, and a single step"""
        B, T, D, H = rng.distinct(4, low=3, high=6)
        cases = [
            ([T - 1] * B, (B, T, D, H)),
            ([0] + [T] * (B - 1), (B, T, D, H)),
            ([0] * B, (B, T, D, H)),
            ([T], (1, T, D, H)),
            ([1] * B, (B, 1, D, H)),
        ]
        for lengths, size in cases:
            batch = Batch(student, rng, lengths=lengths, sizes=size)
            for reverse in (False, True):
                outputs, (state,) = batch.run(student, reverse)
                expected, end = batch.reference(reverse=reverse)
                ask = "A sequence of length 0 leaves the state as it came. Does any line of yours need a real step?"
                expect.close(outputs, expected, what=f"the outputs for lengths {lengths}", ask=ask)
                expect.close(state, end, what=f"the state for lengths {lengths}", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_outputs_of_a_padded_batch")
    @pytest.mark.draws(1)
    def test_reach(self, student, rng):
        """depends on the real steps so far, on no padding and on no other sequence"""
        B, T, D, H = 2, 4, 3, 2
        lengths = [int(n) for n in rng.permutation([T, 2])]
        batch = Batch(student, rng, "GRU", lengths=lengths, sizes=(B, T, D, H))
        for reverse in (False, True):
            allowed = torch.zeros(B, T, B, T, dtype=torch.bool)
            for b, length in enumerate(lengths):
                ones = torch.ones(length, length, dtype=torch.bool)
                allowed[b, :length, b, :length] = ones.triu() if reverse else ones.tril()

            def outputs(x, reverse=reverse):
                batch.x = x
                return batch.run(student, reverse=reverse)[0]

            expect.reaches(outputs, rng.tensor(B, T, D), allowed)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_state_of_two_parts")
    def test_inputs_and_gradients(self, student, rng):
        """leaves what comes in alone, keeps float64, and sends the right gradients back"""
        batch = Batch(student, rng, "LSTM", dtype=DOUBLE)
        x, lengths, (h, c) = batch.x, batch.lengths, batch.state
        for reverse in (False, True):
            with expect.unchanged(x=x, lengths=lengths, h=h, c=c):
                student.run_masked(batch.cell, x, lengths, (h, c), reverse=reverse)

        def everything(x, h, c):
            batch.x, batch.state = x, (h, c)
            outputs, state = batch.run(student)
            return torch.cat([outputs.flatten(), *(part.flatten() for part in state)])

        expect.gradients(everything, x=x, h=h, c=c, what="outputs and state")


class Lesson:
    """A recurrent layer on the learner's side, its twin here, and a long batch of sequences to train on."""

    def __init__(self, student, rng, kind="RNN", T=8, chunk=3, lr=0.1):
        B, D, H = rng.distinct(3, high=5)
        self.twin = getattr(nn, kind)(D, H, batch_first=True, dtype=DOUBLE)
        weights = {name: rng.tensor(*value.shape) for name, value in self.twin.state_dict().items()}
        self.twin.load_state_dict(weights)
        self.model = named(getattr(student.nn, kind)(D, H, batch_first=True, dtype=DOUBLE), "model")
        self.model.load_state_dict(weights)
        self.weights = list(weights)
        self.loss_of = named(
            student.nn.PoissonNLLLoss(), "loss_of"
        )  # outputs and targets have each a part of their own
        self.lr, self.chunk, self.steps = lr, chunk, T
        self.optimizer = named(student.SGD(self.model.parameters(), lr=lr), "optimizer")
        self.inputs = rng.tensor(B, T, D, dtype=DOUBLE)
        self.targets = 6 + rng.tensor(B, T, H, dtype=DOUBLE)  # far away, so that gradients are long
        h, c = rng.tensor(1, B, H, dtype=DOUBLE), rng.tensor(1, B, H, dtype=DOUBLE)
        self.state = (h, c) if kind == "LSTM" else h
        self.start = self.flat(self.twin)
        self.seen = []  # what the model was called with: inputs and state
        self.given = []  # what it returned

    def flat(self, model):
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    def watch(self):
        """Write down what the learner's model is called with, and what it returns."""

        def hook(_, given, out):
            self.seen.append(given)
            self.given.append(out)

        self.model.register_forward_hook(hook)

    def read(self):
        """The learner's weights as one vector."""
        values = [getattr(self.model, name) for name in self.weights]
        for value in values:
            expect.array(value, dtype=DOUBLE, what="a weight of the model after training")
        return torch.cat([value.detach().flatten() for value in values])

    def run(self, student, state=None, steps=slice(None), **options):
        """The learner's losses and state; what a forgotten `detach` brings about is told in a sentence."""
        options = {"chunk": self.chunk} | options
        state = self.state if state is None else state
        inputs, targets = self.inputs[:, steps], self.targets[:, steps]
        try:
            out = student.truncated_bptt(
                self.model, self.loss_of, inputs, targets, state, self.optimizer, **options
            )
        except RuntimeError as error:
            text = " ".join(getattr(getattr(error, "trouble", None), "text", "").split())
            several = "h and c both" if isinstance(self.state, tuple) else "the state"
            ask = f"What does `detach()` return, and is it called on {several} between two chunks?"
            if "second time" in text:
                got = "RuntimeError: backward went through an earlier chunk's graph a second time"
                expect.fail(expected="gradients that end where their chunk begins", got=got, ask=ask)
            if "modified by an inplace operation" in text:
                got = "RuntimeError: backward reached an earlier chunk, whose weights the optimiser has changed since"
                expect.fail(expected="gradients that end where their chunk begins", got=got, ask=ask)
            raise
        return expect.parts(out, "losses", "state")

    def reference(self, wrong="", max_norm=None, calls=1):
        """Weights, losses and state after training as it should be, or with the mistake that ``wrong`` names."""
        model = deepcopy(self.twin)
        optimizer = torch.optim.SGD(model.parameters(), lr=self.lr)
        losses, state, kept = [], self.state, []
        pieces = list(zip(self.inputs.split(self.chunk, 1), self.targets.split(self.chunk, 1), strict=True))
        if wrong == "short dropped":
            pieces = [piece for piece in pieces if piece[0].shape[1] == self.chunk]
        pieces = {"first": pieces[:1], "all at once": [(self.inputs, self.targets)]}.get(wrong, pieces)
        pieces = pieces[-1:] if wrong == "last" else pieces
        if wrong == "step by step":
            pieces = list(zip(self.inputs.split(1, 1), self.targets.split(1, 1), strict=True))
        for x, y in pieces:
            if wrong not in ("not zeroed", "one step", "one sum"):
                optimizer.zero_grad()
            given = {"from start": self.state, "from zero": like(state, [0 * part for part in as_parts(state)])}.get(
                wrong, state
            )  # fmt: skip
            outputs, state = model(x, given)
            loss = nn.functional.poisson_nll_loss(*((y, outputs) if wrong == "swapped" else (outputs, y)))
            kept.append(loss)
            if wrong == "step before backward":
                optimizer.step()
            if wrong != "one sum":
                (loss / len(pieces) if wrong == "divided" else loss).backward()
                state = like(state, [part.detach() for part in as_parts(state)])
            if wrong == "by value":
                nn.utils.clip_grad_value_(model.parameters(), max_norm)
            elif max_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            if wrong not in ("one step", "one sum", "step before backward"):
                optimizer.step()
            losses.append(loss.item())
        if wrong == "one sum":
            sum(kept).backward()
        if wrong in ("one step", "one sum"):
            optimizer.step()
        return self.flat(model), losses, state


@pytest.mark.exercise("truncated_bptt")
class TestTruncatedBptt:
    @pytest.mark.points(2)
    def test_chunks(self, student, rng):
        """cuts the sequences into chunks along time, each of which starts in the state of the one before"""
        lesson = Lesson(student, rng, "GRU")
        lesson.watch()
        lesson.run(student)
        ask = "Dimension 0 of the inputs is the batch, dimension 1 is time. Where does each chunk start and end?"
        for given in lesson.seen:
            two = isinstance(given, (tuple, list)) and len(given) == 2
            got = f"{len(given) if isinstance(given, (tuple, list)) else type(given).__name__} positional arguments"
            expect.holds(two, expected="a model called as model(inputs, state)", got=got)
            for part in given:
                expect.array(part, what="what the model is called with", ask=ask)
        shapes = [tuple(inputs.shape) for inputs, _ in lesson.seen]
        B, T, D = lesson.inputs.shape
        wanted = [(B, n, D) for n in (3, 3, 2)]
        said = {
            str(wanted[:2]): "chunks of 3 and 3 steps: the last 2 steps were dropped, and they count",
            str([(B, 3, D)] * 3): "three chunks of 3 steps: the last one overlaps the one before",
            str([(B, T, D)]): "one chunk with all steps",
            str(
                wanted[:1]
            ): "one chunk, and no other. Does something end the loop early, such as a `return` inside it?",
            str([(B, 1, D)] * T): "chunks of one step each",
            str([]): "no chunk: the model was never called",
        }
        got = said.get(str(shapes), f"the shapes {shapes}"[:110])
        expect.holds(
            shapes == wanted, expected=f"{T} steps in chunks of 3, 3 and 2: the shapes {wanted}", got=got, ask=ask
        )  # fmt: skip
        found = torch.cat([inputs for inputs, _ in lesson.seen], dim=1)
        expect.equal(found, lesson.inputs, what="the inputs of all chunks, one after the other,", ask=ask)
        states = [lesson.state, *[out[1] if isinstance(out, (tuple, list)) else None for out in lesson.given]]
        for i, (_, state) in enumerate(lesson.seen):
            expect.array(states[i], what="the state that the model returned")
            mistakes = {
                "the state before the first step again: it is carried over from chunk to chunk": lesson.state
            }
            mistakes |= {"zeros: the state is carried over from chunk to chunk": 0 * lesson.state}
            what = f"the state that chunk {i} starts from"
            ask = "Which state is there when a chunk begins, and who keeps it?"
            expect.close(state, states[i].detach(), what=what, ask=ask, mistakes=mistakes if i else {})

    @pytest.mark.points(3)
    @pytest.mark.needs("test_chunks")
    def test_trains_as_a_plain_loop(self, student, rng):
        """takes one step for each chunk, with gradients that end where the chunk begins"""
        lesson = Lesson(student, rng)
        lesson.run(student)
        expected, _, _ = lesson.reference()
        reasons = {
            "weights that have not moved. Were the gradients forgotten between backward and step?": lesson.start,
            "weights whose gradients piled up from chunk to chunk: nothing set them back": "not zeroed",
            "weights after a single step: each chunk is a step of its own": "one step",
            "weights after a single step, with gradients that reach back over all chunks": "one sum",
            "weights that have only seen the first chunk": "first",
            "weights that have only moved for the last chunk": "last",
            "weights that start each chunk from the first state": "from start",
            "weights that start each chunk from zero": "from zero",
            "weights that took a step for every step of time": "step by step",
            "weights of a loss whose arguments were exchanged: it is called as loss_of(outputs, targets)": "swapped",
            "weights that are one step behind: the step comes before backward": "step before backward",
            "weights whose steps were shorter: the loss was divided by the number of chunks": "divided",
        }
        mistakes = {
            text: wrong
            if isinstance(wrong, torch.Tensor)
            else (lambda wrong=wrong: lesson.reference(wrong)[0])
            for text, wrong in reasons.items()
        }
        ask = (
            "Write down the order of zero_grad, the model, the loss, backward, step and detach for one chunk."
        )
        expect.close(
            lesson.read(), expected, atol=1e-8, what="all weights after training", ask=ask, mistakes=mistakes
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_chunks")
    def test_returns_the_losses(self, student, rng):
        """returns the loss of every chunk, as plain floats"""
        lesson = Lesson(student, rng)
        out, _ = lesson.run(student)
        _, losses, _ = lesson.reference()
        ask = "Which line keeps the loss of a chunk, and what turns a tensor with one number into a float?"
        several = isinstance(out, (list, tuple))
        got = "None" if out is None else f"{type(out).__name__}: {out!r}"[:80]
        expect.holds(several, expected=f"a list of {len(losses)} floats", got=got, ask=ask)
        kinds = {type(loss).__name__ for loss in out}
        got = f"a list of {len(out)} things of type {', '.join(sorted(kinds)) or 'none'}"
        if "Tensor" in kinds:
            got += ": a tensor keeps its whole graph in memory"
        plain = all(type(loss) is float for loss in out)
        expect.holds(plain, expected=f"a list of {len(losses)} floats", got=got, ask=ask)
        expected = torch.tensor(losses, dtype=DOUBLE)
        mistakes = {
            "one mean for all chunks": expected.mean()[None],
            "running totals": expected.cumsum(0),
            "the losses divided by the number of chunks": expected / len(losses),
            "the last loss alone": expected[-1:],
        }
        expect.close(torch.tensor(out, dtype=DOUBLE), expected, what="the losses", ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_trains_as_a_plain_loop")
    def test_returns_the_state(self, student, rng):
        """returns the state after the last chunk, cut off from the graph, to go on from"""
        lesson = Lesson(student, rng)
        expected, _, end = lesson.reference()
        _, state = lesson.run(student)
        mistakes = {
            "the state before the first step": lesson.state,
            "the state of another chunk's end: the last one is meant": lesson.reference("short dropped")[2],
        }
        ask = "Which state is there when the loop is over?"
        expect.close(state, end, atol=1e-8, what="the state", ask=ask, mistakes=mistakes)
        expect.holds(
            not state.requires_grad,
            expected="a state that is cut off from the graph",
            got="a tensor that requires a gradient: it keeps the last chunk's whole graph in memory",
            ask="Is the state detached after the last chunk too?",
        )
        lesson = Lesson(student, rng, T=6)
        expected, _, end = lesson.reference()
        _, state = lesson.run(student, steps=slice(0, 3))
        _, state = lesson.run(student, state=state, steps=slice(3, 6))
        ask = "A second call goes on where the first has ended. What does your code keep, or change, outside it?"
        expect.close(state, end, atol=1e-8, what="the state after two calls", ask=ask)
        expect.close(lesson.read(), expected, atol=1e-8, what="the weights after two calls", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_trains_as_a_plain_loop")
    def test_state_of_two_parts(self, student, rng):
        """carries over and detaches both parts of an LSTM's state"""
        lesson = Lesson(student, rng, "LSTM")
        expected, _, (end_h, end_c) = lesson.reference()
        _, state = lesson.run(student)
        ask = "Which kinds of state does the docstring name, and what does your code do with a tuple?"
        h, c = expect.parts(state, "h", "c", ask=ask)
        for part, end, name in ((h, end_h, "h"), (c, end_c, "c")):
            expect.close(part, end, atol=1e-8, what=f"{name} of the state", ask=ask)
            got = f"a {name} that requires a gradient"
            expect.holds(not part.requires_grad, expected="a state cut off from the graph", got=got, ask=ask)
        expect.close(lesson.read(), expected, atol=1e-8, what="all weights after training", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_trains_as_a_plain_loop")
    def test_clips(self, student, rng):
        """clips the gradients of every chunk to max_norm, if there is one"""
        lesson = Lesson(student, rng)
        limit = 0.05
        expected, _, _ = lesson.reference(max_norm=limit)
        lesson.run(student, max_norm=limit)
        unclipped, _, _ = lesson.reference()
        mistakes = {
            "weights trained without clipping. Is the gradient clipped after backward and before step?": unclipped,
            "weights of a single step, clipped": lambda: lesson.reference("one step", limit)[0],
            "weights whose gradients were cut off entry by entry: they are shortened together": lambda: (
                lesson.reference("by value", limit)[0]
            ),
        }
        ask = "Between which two lines of the loop do gradients exist that no step has used yet?"
        expect.close(
            lesson.read(), expected, atol=1e-6, what="all weights after training", ask=ask, mistakes=mistakes
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_trains_as_a_plain_loop")
    def test_every_chunk(self, student, rng):
        """takes chunks of one step, of all steps and of more, and leaves its inputs alone"""
        for T, chunk in ((3, 1), (3, 3), (3, 7), (4, 2)):
            lesson = Lesson(student, rng, T=T, chunk=chunk)
            expected, losses, _ = lesson.reference()
            with expect.unchanged(inputs=lesson.inputs, targets=lesson.targets, state=lesson.state):
                out, _ = lesson.run(student)
            ask = "How many chunks are there, and how long is the last one?"
            few = isinstance(out, (list, tuple)) and len(out) == len(losses)
            got = f"{len(out)}" if isinstance(out, (list, tuple)) else type(out).__name__
            what = f"{len(losses)} loss{'es' if len(losses) > 1 else ''} for {T} steps and chunk={chunk}"
            expect.holds(few, expected=what, got=got, ask=ask)
            what = f"all weights after {T} steps with chunk={chunk}"
            expect.close(lesson.read(), expected, atol=1e-8, what=what, ask=ask)
