"""Checks of unit 04, second half: batches and the training loop.

As in the first half, a model is made on the learner's side and has a twin here. Optimiser and loss are the ``SGD`` and
the ``squared_error`` that the notebook gives, so that the loop is judged by itself, and all of a step's graph lies on
the learner's side, whether it runs ``backward`` or asks ``torch.autograd.grad``. The data, the schedule and the hook
that ``train`` is given are functions of the check: what they are called with, and when, is on record here.
"""

import math
from copy import deepcopy
from itertools import islice

import pytest
import torch
from torch import nn

from proctor import expect
from proctor.proxies import Proxy, generate, sketch

DOUBLE = torch.float64


def handed_out(student, *tensors, **options):
    """What ``batches`` hands out, as a list; an endless one is cut off. All of a generator comes in one call."""
    most = len(tensors[0]) + 5
    out = generate(student.batches, most, *tensors, **options)
    several = hasattr(out, "__next__") or isinstance(out, (list, tuple, Proxy))
    ask = "Does it hand out one batch after the other, by `yield` or in a list?"
    came = "None" if out is None else f"{type(out).__name__}: {out!r}"[:80]
    expect.holds(several, expected="an iterable of batches", got=came, ask=ask)
    return list(islice(iter(out), most))


@pytest.mark.exercise("batches")
class TestBatches:
    def data(self, rng, count):
        """Inputs and targets of so many rows; the first column of the inputs and the targets tell the row."""
        x = rng.tensor(count, 2)
        x[:, 0] = torch.arange(count)
        return x, 100 + torch.arange(count)

    def found(self, student, tensors, **options):
        """The learner's batches, each a tuple of as many tensors as were passed in, with the right columns."""
        found = handed_out(student, *tensors, **options)
        ask = "Each batch is a tuple: the same rows of every tensor, in the order in which the tensors came."
        if len(found) == len(tensors) > 1 and all(isinstance(part, torch.Tensor) for part in found):
            got = "the parts of one batch by themselves. Does the loop end at its first batch, by `return`?"
            expect.fail(expected="one batch after the other, each a tuple", got=got, ask=ask)
        for batch in found:
            right = isinstance(batch, (tuple, list)) and len(batch) == len(tensors)
            came = (
                f"{len(batch)} things: " if isinstance(batch, (tuple, list)) else f"{type(batch).__name__}: "
            )
            came += sketch(batch)
            expect.holds(
                right, expected=f"a tuple of {len(tensors)} tensors in each batch", got=came, ask=ask
            )
            for part, tensor in zip(batch, tensors, strict=True):
                expect.array(part, dtype=tensor.dtype, what="a part of a batch", ask=ask)
                shape = (len(part) if part.ndim else 0, *tensor.shape[1:])
                expect.array(part, shape=shape, what="a part of a batch", ask=ask)
        return found

    def rows(self, student, tensors, **options):
        """The rows that the learner's batches hold, by the first column of the inputs."""
        return [int(row) for batch in self.found(student, tensors, **options) for row in batch[0][:, 0]]

    def sizes(self, rng):
        size = int(rng.integers(3, 6))
        return size * int(rng.integers(2, 4)) + int(rng.integers(1, size)), size

    @pytest.mark.points(2)
    def test_in_order(self, student, rng):
        """hands out all rows in order, the smaller last batch included"""
        count, size = self.sizes(rng)
        x, y = self.data(rng, count)
        with expect.unchanged(x=x, y=y):
            found = self.found(student, (x, y), size=size)
        lengths = [len(batch[0]) for batch in found]
        wanted = [size] * (count // size) + [count % size]
        said = {
            str(
                wanted[:-1]
            ): f"{lengths}: the last batch was dropped. It has only {count % size} rows, and they count",
            str([*wanted[:-1], size]): f"{lengths}: the last batch was filled up to {size}",
            str([count]): "one batch with all rows",
            str([1] * count): "one row in each batch",
            str([*wanted, 0]): f"{lengths}: the last batch is empty",
        }
        ask = f"{count} rows in batches of {size}: how many batches, and how many rows are left for the last one?"
        got = said.get(str(lengths), f"{lengths}")
        expect.holds(lengths == wanted, expected=f"batches of {wanted} rows", got=got, ask=ask)
        ask = "Which rows belong to the second batch? At which one does it start?"
        got = torch.cat([batch[0] for batch in found])
        mistakes = {"the rows in another order: without a seed they stay as they are": lambda: got if set(
            got[:, 0].tolist()) == set(range(count)) else x.new_zeros(0)}  # fmt: skip
        expect.equal(
            got, x, what="the inputs of all batches, one after the other,", ask=ask, mistakes=mistakes
        )
        expect.equal(torch.cat([batch[1] for batch in found]), y, what="the targets of all batches", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_in_order")
    def test_shuffles_every_row_once(self, student, rng):
        """with a seed, hands out every row exactly once, in another order"""
        count, size = self.sizes(rng)
        tensors = self.data(rng, count)
        rows = self.rows(student, tensors, size=size, seed=int(rng.integers(1, 10**6)))
        twice = sorted({row for row in rows if rows.count(row) > 1})
        missing = sorted(set(range(count)) - set(rows))
        ask = "Were rows drawn one by one, so that some come twice, or is one order drawn for all of them?"
        got = f"rows {twice} more than once" if twice else f"{len(rows)} rows"
        got += f", rows {missing} never" if missing else ""
        ask = ask if twice else "Did the shuffled order lose the rows of the last batch?"
        expect.holds(
            sorted(rows) == list(range(count)), expected=f"each of {count} rows once", got=got, ask=ask
        )
        lengths = [len(batch[0]) for batch in self.found(student, tensors, size=size, seed=1)]
        expect.holds(
            lengths == [size] * (count // size) + [count % size],
            expected=f"batches of {size} rows, and {count % size} in the last, with a seed too",
            got=f"{lengths}",
            ask="Are the batches cut after shuffling, as they are without a seed?",
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_shuffles_every_row_once")
    def test_rows_stay_together(self, student, rng):
        """keeps the rows of all tensors together when it shuffles"""
        count, size = self.sizes(rng)
        x, y = self.data(rng, count)
        z = x.repeat(1, 2).view(count, 2, 2) + 0.5
        with expect.unchanged(x=x, y=y, z=z):
            found = self.found(student, (x, y, z), size=size, seed=int(rng.integers(1, 10**6)))
        ask = "How many orders does your code draw: one for each tensor, or one for all of them?"
        for number, (inputs, targets, third) in enumerate(found):
            rows = [len(part) for part in (inputs, targets, third)]
            expect.holds(
                len(set(rows)) == 1, expected="as many rows of each tensor", got=f"{rows} rows", ask=ask
            )
            for row, target, more in zip(
                inputs[:, 0].tolist(), targets.tolist(), third[:, 0, 0].tolist(), strict=True
            ):
                got = f"row {row:.0f} of the inputs beside row {target - 100} of the targets"
                got += f" and row {more - 0.5:.0f} of the third tensor"
                together = row == target - 100 == more - 0.5
                expect.holds(
                    together, expected=f"one row of every tensor, in batch {number}", got=got, ask=ask
                )
        again = torch.cat([inputs for inputs, _, _ in found])
        expect.equal(again, x[again[:, 0].long()], what="the inputs, row for row,", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_shuffles_every_row_once")
    def test_seeds(self, student, rng):
        """shuffles in the same way for the same seed, and in another way for another"""
        count, size = self.sizes(rng)
        tensors = self.data(rng, count + 6)
        seed = int(rng.integers(1, 10**6))
        one = self.rows(student, tensors, size=size, seed=seed)
        ask = "Where does your order come from, and what does `seed` have to do with it?"
        expect.holds(
            one != sorted(one), expected=f"another order with seed={seed}", got="the rows in order", ask=ask
        )
        again = self.rows(student, tensors, size=size, seed=seed)
        expect.holds(
            one == again, expected=f"the same order twice with seed={seed}", got="two orders", ask=ask
        )
        others = [self.rows(student, tensors, size=size, seed=other) for other in (seed + 1, seed + 2)]
        different = len({str(rows) for rows in (one, *others)}) == 3
        expect.holds(different, expected="another order for another seed", got="the same order", ask=ask)
        zero = self.rows(student, tensors, size=size, seed=0)
        ask = "0 is a seed like any other. What does `if seed:` make of it?"
        expect.holds(
            zero != sorted(zero), expected="another order with seed=0", got="the rows in order", ask=ask
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_shuffles_every_row_once")
    def test_global_generator(self, student, rng):
        """leaves the global random number generator alone"""
        count, size = self.sizes(rng)
        tensors = self.data(rng, count)
        draw, seed = student.torch.rand, int(rng.integers(1, 10**6))
        drawn = []
        for _ in range(2):
            self.rows(student, tensors, size=size, seed=seed)
            drawn.append(draw(5))
        for numbers in drawn:
            expect.array(numbers, shape=(5,), what="what torch.rand draws")
        ask = (
            "`torch.manual_seed` sets the generator that dropout draws from too. What has a seed of its own?"
        )
        got = "the same numbers from torch.rand after each call: the global generator was set to the seed"
        expected = "a global random number generator that goes on as before"
        expect.holds(not torch.equal(*drawn), expected=expected, got=got, ask=ask)
        state = student.torch.get_rng_state
        before = state()
        self.rows(student, tensors, size=size, seed=seed)
        after = state()
        for numbers in (before, after):
            expect.array(numbers, dtype=torch.uint8, what="the generator's state")
        ask = "`torch.randperm` draws from the global generator, unless it is given one of its own. Is it?"
        got = "a global generator from which numbers were drawn"
        expect.holds(torch.equal(before, after), expected=expected, got=got, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_in_order")
    def test_every_size(self, student, rng):
        """takes any number of tensors and any size"""
        count = int(rng.integers(3, 6)) * 2
        x, y = self.data(rng, count)
        cases = {
            1: [1] * count,
            2: [2] * (count // 2),
            count: [count],
            count + 3: [count],
            count - 1: [count - 1, 1],
        }
        for size, wanted in cases.items():
            for tensors, seed in (((x,), None), ((x, y, y), 3)):
                options = {"size": size} if seed is None else {"size": size, "seed": seed}
                found = self.found(student, tensors, **options)
                lengths = [len(batch[0]) for batch in found]
                ask = "What is left for the last batch? No batch is empty, and none has more rows than there are."
                what = f"batches of {wanted} rows, for {count} rows and size={size}"
                expect.holds(lengths == wanted, expected=what, got=f"{lengths}", ask=ask)

    @pytest.mark.points(1)
    def test_refuses_what_does_not_fit(self, student, rng):
        """raises ValueError for tensors of different lengths, and for a size below 1"""
        count, size = self.sizes(rng)
        x, y = self.data(rng, count)
        ask = "What would be handed out, and who would notice?"

        for other in (y[:-1], y[:1], torch.cat([y, y])):
            when = f"for {count} inputs and {len(other)} targets"
            expect.raises(
                ValueError, lambda o=other: handed_out(student, x, o, size=size), when=when, ask=ask
            )
        when = f"where the third of three tensors has {count - 1} rows, not {count}"
        expect.raises(ValueError, lambda: handed_out(student, x, y, y[:-1], size=size), when=when, ask=ask)
        for wrong in (0, -2):
            expect.raises(
                ValueError,
                lambda s=wrong: handed_out(student, x, y, size=s),
                when=f"for size={wrong}",
                ask=ask,
            )
        self.found(student, (x, y), size=1)


class Run:
    """A model on the learner's side, its twin here, data for both, and all that ``train`` calls back."""

    def __init__(self, student, rng, epochs=2, count=3, momentum=0.5, lr=0.1, batch=4, weighted=False):
        D, H = rng.distinct(2)
        self.twin = nn.Sequential(nn.Linear(D, H), nn.Tanh(), nn.Linear(H, 1)).to(DOUBLE)
        self.twin.load_state_dict({k: rng.tensor(*v.shape) for k, v in self.twin.state_dict().items()})
        make = student.nn
        layers = make.Linear(D, H, dtype=DOUBLE), make.Tanh(), make.Linear(H, 1, dtype=DOUBLE)
        self.model = make.Sequential(*layers)
        self.model.load_state_dict(self.twin.state_dict())
        self.layers = layers[0], layers[2]
        self.optimizer = student.SGD(self.model.parameters(), lr=lr, momentum=momentum)
        self.lr, self.momentum, self.epochs = lr, momentum, epochs
        self.start = self.weights(self.twin)
        # Other data in each epoch, with targets far away, so that gradients are long.
        self.data = [
            [
                (rng.tensor(batch, D, dtype=DOUBLE), 3 + rng.tensor(batch, 1, scale=2.0, dtype=DOUBLE))
                for _ in range(count)
            ]
            for _ in range(epochs)
        ]
        if weighted:  # a third tensor in each batch
            self.data = [
                [(x, y, rng.tensor(*y.shape, dtype=DOUBLE).abs()) for x, y in batches]
                for batches in self.data
            ]
        self.log = []  # what was called back, in order

    def weights(self, model):
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    def read(self):
        """The learner's weights as one vector."""
        values = [value for layer in self.layers for value in (layer.weight, layer.bias)]
        for value in values:
            expect.array(value, dtype=DOUBLE, what="a parameter of the model after training")
        return torch.cat([value.detach().flatten() for value in values])

    def batches(self, epoch):
        self.log.append(("data", epoch))
        return self.data[epoch if isinstance(epoch, int) and 0 <= epoch < len(self.data) else 0]

    def watch(self, look):
        """Call ``look(model)`` whenever the learner's model computes, and take it down in the log."""

        def hook(model, *_):
            self.log.append(("loss", len([1 for what, _ in self.log if what == "loss"]) + 1))
            look(model)

        self.model.register_forward_hook(hook)

    def train(self, student, **options):
        return student.train(
            self.model, student.squared_error, self.batches, self.optimizer, epochs=self.epochs, **options
        )

    def reference(self, *, schedule=None, max_norm=None, wrong="", log=None):
        """The weights after training as it should be, or with the mistake that ``wrong`` names on the way."""
        model = deepcopy(self.twin)
        optimizer = torch.optim.SGD(model.parameters(), lr=self.lr, momentum=self.momentum)
        step, losses = 0, []
        for epoch in range(1 if wrong == "first epoch" else self.epochs):
            if wrong == "zeroed each epoch":
                optimizer.zero_grad()
            data = self.data[0 if wrong == "epoch 0" else epoch]
            data = {"first batch": data[:1], "last dropped": data[:-1], "last batch": data[-1:]}.get(
                wrong, data
            )
            for x, y, *weight in data:
                if wrong not in ("not zeroed", "zeroed each epoch"):
                    optimizer.zero_grad()
                loss = (math.prod(weight) * (model(x) - y) ** 2).mean()
                if schedule is not None:
                    number = {"from 0": step, "by epoch": epoch + 1, "late": step}.get(wrong, step + 1)
                    number = epoch if wrong == "by epoch from 0" else number
                    if not (wrong == "late" and step == 0):
                        optimizer.param_groups[0]["lr"] = schedule(number)
                if wrong == "step before backward":
                    optimizer.step()
                (loss / self.epochs if wrong == "divided" else loss).backward()
                if max_norm is not None and wrong not in ("no clip", "clip late"):
                    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                if wrong != "step before backward":
                    optimizer.step()
                step += 1
                losses.append(loss.item())
        self.losses = losses if not wrong else self.losses
        return self.weights(model)


@pytest.mark.exercise("train")
class TestTrain:
    @pytest.mark.points(3)
    @pytest.mark.draws(2)
    def test_agrees_with_a_plain_loop(self, student, rng):
        """trains a model exactly as a plain loop in PyTorch does"""
        run = Run(student, rng)
        expected = run.reference()
        run.train(student)
        asked = [epoch for what, epoch in run.log if what == "data"]
        ask = "`data` is called once in every epoch, with the epoch's number. Which number has the first one?"
        got = f"data called with {asked}"[:90]
        if asked == [0]:
            got += " and never again. Does something end the loop early, such as a `return` inside it?"
        expect.holds(asked == [0, 1], expected="data(0), then data(1)", got=got, ask=ask)
        mistakes = {
            "weights that have not moved. Were the gradients forgotten between backward and step?": run.start,
            "weights whose gradients piled up: backward adds to `grad`, and nothing set it back": run.reference(
                wrong="not zeroed"
            ),
            "weights whose gradients piled up within an epoch: they are to be forgotten in every step": run.reference(
                wrong="zeroed each epoch"
            ),
            "the weights after one epoch: `epochs` says how often": run.reference(wrong="first epoch"),
            "the weights after the first batch of each epoch": run.reference(wrong="first batch"),
            "weights that have not seen the last batch of each epoch": run.reference(wrong="last dropped"),
            "weights that have seen only the last batch of each epoch: is the step inside the loop?": run.reference(
                wrong="last batch"
            ),
            "weights trained on the first epoch's data in every epoch": run.reference(wrong="epoch 0"),
            "weights whose steps were shorter: the loss was divided by the number of epochs": run.reference(
                wrong="divided"
            ),
            "weights that are one step behind: the step comes before backward": run.reference(
                wrong="step before backward"
            ),
        }
        ask = "Write down the order of zero_grad, loss, backward and step in your loop. Which gradient does step see?"
        expect.close(
            run.read(), expected, atol=1e-8, what="all weights after training", ask=ask, mistakes=mistakes
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_plain_loop")
    @pytest.mark.draws(1)
    def test_returns_the_losses(self, student, rng):
        """returns the loss of every step, as plain floats"""
        run = Run(student, rng, weighted=True)  # each batch holds three tensors
        run.reference()
        out = run.train(student)
        steps = len(run.losses)
        ask = "Which line keeps the loss of a step, and what turns a tensor with one number into a float?"
        several = isinstance(out, (list, tuple))
        got = "None" if out is None else f"{type(out).__name__}: {out!r}"[:80]
        expect.holds(several, expected=f"a list of {steps} floats", got=got, ask=ask)
        kinds = {type(loss).__name__ for loss in out}
        got = f"a list of {len(out)} things of type {', '.join(sorted(kinds)) or 'none'}"
        if "Tensor" in kinds:
            got += ": a tensor keeps its whole graph in memory"
        plain = all(type(loss) is float for loss in out)
        expect.holds(plain, expected=f"a list of {steps} floats", got=got, ask=ask)
        count = steps // run.epochs
        means = [sum(run.losses[i : i + count]) / count for i in range(0, steps, count)]
        mistakes = {
            "one mean for each epoch: every step counts": torch.tensor(means, dtype=DOUBLE),
            "the losses of the last epoch alone": torch.tensor(run.losses[-count:], dtype=DOUBLE),
            "the last loss of each epoch": torch.tensor(run.losses[count - 1 :: count], dtype=DOUBLE),
            "running totals": torch.tensor(run.losses, dtype=DOUBLE).cumsum(0),
        }
        expected = torch.tensor(run.losses, dtype=DOUBLE)
        expect.close(torch.tensor(out, dtype=DOUBLE), expected, what="the losses", ask=ask, mistakes=mistakes)
        run.epochs = 0
        out = run.train(student)
        came = f"{out!r}"[:60]
        expect.holds(
            out in ([], ()),
            expected="no losses, [], for epochs=0",
            got=came,
            ask="How often does the loop run?",
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_a_plain_loop")
    @pytest.mark.draws(2)
    def test_schedule(self, student, rng):
        """sets the learning rate before every step to what the schedule says"""
        run = Run(student, rng)
        asked = []

        def schedule(step):
            asked.append(step)
            return 0.3 / (1 + step) if isinstance(step, int) else 0.0

        expected = run.reference(schedule=lambda step: 0.3 / (1 + step))
        run.train(student, schedule=schedule)
        steps = list(range(1, 7))
        said = {
            str([0, 1, 2, 3, 4, 5]): f"{asked}: steps are counted from 1",
            str([1, 2, 3, 1, 2, 3]): f"{asked}: the count goes on from one epoch to the next",
            str([0, 1, 2, 0, 1, 2]): f"{asked}: the count starts at 1 and goes on from epoch to epoch",
            str([0, 0, 0, 1, 1, 1]): f"{asked}: these are numbers of epochs, not of steps",
            str([1, 1, 1, 2, 2, 2]): f"{asked}: these are numbers of epochs, not of steps",
            str([0, 1]): f"{asked}: it is asked once in every step, not once in every epoch",
            str([1, 2]): f"{asked}: it is asked once in every step, not once in every epoch",
            str([]): "no call: the schedule was not asked",
        }
        ask = "Which number does the very first step have, and who counts on from one epoch to the next?"
        got = said.get(str(asked), f"{asked}"[:100])
        once = sorted(set(map(str, asked))) == sorted(map(str, steps))
        expect.holds(once, expected=f"schedule called with {steps}", got=got, ask=ask)

        def with_schedule(wrong):
            return run.reference(schedule=lambda step: 0.3 / (1 + step), wrong=wrong)

        mistakes = {
            "weights that moved at the optimiser's own lr: what the schedule returned was not used": run.reference(),
            "weights whose steps used the rate of the step before: set it before `step`, not after": with_schedule(
                "late"
            ),
        }
        ask = "Which attribute of the optimiser says how far `step` goes, and is it set by then?"
        expect.close(
            run.read(), expected, atol=1e-8, what="all weights after training", ask=ask, mistakes=mistakes
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_a_plain_loop")
    @pytest.mark.draws(2)
    def test_clips(self, student, rng):
        """clips the gradients of every step to max_norm, if there is one"""
        run = Run(student, rng)
        limit = 0.7
        expected = run.reference(max_norm=limit)
        run.train(student, max_norm=limit)
        mistakes = {
            "weights trained without clipping. Is the gradient clipped after backward and before step?": run.reference()
        }
        ask = "Between which two lines of the loop do gradients exist that no step has used yet?"
        expect.close(
            run.read(), expected, atol=1e-4, what="all weights after training", ask=ask, mistakes=mistakes
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_plain_loop")
    @pytest.mark.draws(1)
    def test_training_mode(self, student, rng):
        """has the model in training mode for every batch, whatever it was before"""
        run = Run(student, rng, count=2)
        modes = []
        run.watch(lambda model: modes.append(model.training))
        run.model.eval()
        run.train(student, after_epoch=lambda epoch: run.model.eval() and None)
        said = {
            "[False, False, False, False]": "evaluation mode in all steps: dropout would never act",
            "[True, True, False, False]": "training mode in the first epoch, evaluation mode in the second: "
            "after_epoch had left the model in that mode",
            "[False, False, True, True]": "evaluation mode in the first epoch",
        }
        ask = "At which place in the loops does one call of `model.train()` cover every epoch?"
        expected = "a model in training mode for all 4 batches"
        expect.holds(
            modes == [True] * 4, expected=expected, got=said.get(str(modes), f"{modes}"[:90]), ask=ask
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_plain_loop")
    @pytest.mark.draws(1)
    def test_order_of_calls(self, student, rng):
        """asks for each epoch's data once, and calls after_epoch when its last step is done"""
        run = Run(student, rng, count=2)
        seen = []
        run.watch(lambda model: None)

        def after_epoch(epoch):
            run.log.append(("after_epoch", epoch))
            seen.append(run.read())

        run.train(student, after_epoch=after_epoch)
        wanted = []
        for epoch in range(2):
            wanted += [("data", epoch), *[("loss", 2 * epoch + i) for i in (1, 2)], ("after_epoch", epoch)]
        wrong = next((i for i, (a, b) in enumerate(zip(run.log, wanted, strict=False)) if a != b), None)
        i = wrong if wrong is not None else min(len(run.log), len(wanted))

        def told(log):
            return f"{log[i][0]}({log[i][1]!r})"[:60] if i < len(log) else "nothing more"

        so_far = ", ".join(f"{what} {n}" for what, n in wanted[:i]) or "the beginning"
        ask = "Which line belongs into the inner loop, and which into the outer one, before or after it?"
        expected = f"{told(wanted)}, after {so_far}"
        expect.holds(run.log == wanted, expected=expected, got=told(run.log), ask=ask)
        run.epochs = 1
        expected = run.reference()
        what = "the weights that after_epoch(0) finds"
        expect.close(
            seen[0], expected, atol=1e-8, what=what, ask="Is the last step of the epoch done by then?"
        )
