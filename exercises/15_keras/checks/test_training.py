"""Checks of unit 15: the masked loss, the schedule, and a step of training by hand.

They are the same on every backend of Keras. The judges are PyTorch's ``cross_entropy``, the paper's formula, and
plain gradient descent, computed here on the weights that the learner's side starts from.
"""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proctor import expect
from proctor.remote import Proxy


def single(rng, *shape, scale=1.0):
    """Normal draws as float32, as Keras computes."""
    return rng.array(*shape, scale=scale).astype(np.float32)


def an_object(value, what):
    """An object of the learner's, which must be one."""
    expect.holds(
        isinstance(value, Proxy),
        expected=what,
        got=repr(value)[:60],
        ask="Does the class derive from Keras's?",
    )
    return value


def configured(owner, settings):
    """The config of an object, which must hold these settings and go through JSON."""
    config = owner.get_config()
    expect.holds(isinstance(config, dict), expected="a dict from get_config()", got=repr(config)[:60])
    absent = [name for name in settings if name not in config]
    expect.holds(
        not absent,
        expected=f"a config with {', '.join(settings)}",
        got=f"no {', '.join(absent)} among {', '.join(map(str, config))}"[:150],
        ask="What is saved is made again by `cls(**config)`: what does `__init__` need to be told?",
    )
    other = {name: config[name] for name, value in settings.items() if config[name] != value}
    expect.holds(
        not other,
        expected=f"a config with {', '.join(f'{k}={v}' for k, v in settings.items())}",
        got=", ".join(f"{name}={str(value)[:30]}" for name, value in other.items()),
        ask="Are the numbers kept as they were given, under names of their own?",
    )
    try:
        json.dumps(config)
        trouble = ""
    except (TypeError, ValueError):
        trouble = "something in it that is neither: keep what `__init__` was given, not what was made of it"
    expect.holds(
        not trouble, expected="a config of plain numbers and texts, as JSON has them", got=trouble[:100]
    )
    return config


def one_number(value, what):
    """A tensor that holds one number."""
    expect.array(value, shape=(), what=what, ask="Which step makes one number of many?")
    return value.detach()


# ---- the loss -----------------------------------------------------------------------------------------------------


@pytest.mark.exercise("MaskedLoss")
class TestMaskedLoss:
    def data(self, rng, pad=0, share=0.4):
        """Logits, and labels of which some are padding, in every sequence another number."""
        B, T, V = rng.distinct(3, 4, 9)
        logits = single(rng, B, T, V, scale=2.0)
        labels = rng.integers(0, V, (B, T))
        labels[labels == pad] = (pad + 1) % V
        for b, row in enumerate(labels):
            row[rng.permutation(T)[: b % (T - 1) + 1]] = pad
        return logits, labels.astype(np.int32)

    def right(self, logits, labels, pad=0, smoothing=0.0):
        z, y = torch.from_numpy(logits).double(), torch.from_numpy(labels.astype(np.int64))
        return F.cross_entropy(
            z.flatten(0, 1), y.flatten(), ignore_index=pad, label_smoothing=smoothing
        ).float()

    def losses(self, logits, labels):
        z, y = torch.from_numpy(logits).double(), torch.from_numpy(labels.astype(np.int64))
        return F.cross_entropy(z.transpose(1, 2), y, reduction="none"), y

    def mistakes(self, logits, labels, pad=0, smoothing=0.0):
        z, y = torch.from_numpy(logits).double(), torch.from_numpy(labels.astype(np.int64))
        V = z.shape[-1]

        def smooth(share, rest):
            target = torch.full(z.shape, rest, dtype=torch.float64)
            return -(target.scatter(-1, y[..., None], share) * z.log_softmax(-1)).sum(-1)

        losses, real = (
            F.cross_entropy(z.transpose(1, 2), y, reduction="none", label_smoothing=smoothing),
            y != pad,
        )
        per_row = (losses * real).sum(1) / real.sum(1)
        probabilities = z.softmax(-1).log_softmax(-1)
        said = {
            "the mean over all labels, padding among them": losses.mean(),
            "padding left out of the sum and counted in the mean: it is divided by B · T": (
                losses * real
            ).mean(),
            "the sum: it is not divided by the number of labels that count": (losses * real).sum(),
            "divided by the number of sequences": (losses * real).sum() / len(y),
            "the mean of the sequences' means: a label of a short one then counts more": per_row.mean(),
            "the loss over padding alone: the mask is inverted": losses[~real].mean(),
            "softmax taken twice": -(probabilities.gather(-1, y[..., None])[..., 0] * real).sum()
            / real.sum(),
            "logits taken for probabilities": (
                -z.clamp_min(1e-7).log().gather(-1, y[..., None])[..., 0] * real
            ).sum()
            / real.sum(),
            "logits taken for probabilities by a loss of Keras's: from_logits is left out": (
                -(z / z.sum(-1, keepdim=True)).clamp(1e-7, 1 - 1e-7).log().gather(-1, y[..., None])[..., 0]
                * real
            ).sum()
            / real.sum(),
            "softmax over the positions, not over the vocabulary": -(
                z.log_softmax(1).gather(-1, y[..., None])[..., 0] * real
            ).sum()
            / real.sum(),
            "labels moved by one": -(
                z.log_softmax(-1).gather(-1, (y - 1).clamp_min(0)[..., None])[..., 0] * real
            ).sum()
            / real.sum(),
            "a divisor that is one too large": (losses * real).sum() / (real.sum() + 1),
            "the mean of all tokens' losses in place of the label's": -(
                z.log_softmax(-1).mean(-1) * real
            ).sum()
            / real.sum(),
            "logits without softmax": -(z.gather(-1, y[..., None])[..., 0] * real).sum() / real.sum(),
            "the probability in place of its logarithm": -(
                z.softmax(-1).gather(-1, y[..., None])[..., 0] * real
            ).sum()
            / real.sum(),
            "the sign turned round: a loss falls as the model gets better": -(losses * real).sum()
            / real.sum(),
            "positions masked by the logits' largest entry and not by the label": (
                losses * (z.argmax(-1) != pad)
            ).sum()
            / (z.argmax(-1) != pad).sum().clamp_min(1),
            "id 0 masked, whatever `pad` is": (losses * (y != 0)).sum() / (y != 0).sum(),
        }
        if smoothing:
            plain = F.cross_entropy(z.transpose(1, 2), y, reduction="none")
            variants = {
                "no smoothing": plain,
                "the ε spread over the other V − 1 tokens": smooth(1 - smoothing, smoothing / (V - 1)),
                "ε / V at the other tokens, and at the label 1 − ε alone": smooth(
                    1 - smoothing, smoothing / V
                ),
                "the label's share left at 1": smooth(1.0 + smoothing / V, smoothing / V),
                "ε and 1 − ε exchanged": F.cross_entropy(
                    z.transpose(1, 2), y, reduction="none", label_smoothing=1 - smoothing
                ),
                "the sum over V where ε takes the mean": (1 - smoothing) * plain
                - smoothing * z.log_softmax(-1).sum(-1),
            }
            said |= {text: (value * real).sum() / real.sum() for text, value in variants.items()}
        return {text: value.float() for text, value in said.items()}

    @pytest.mark.points(2)
    def test_mean_over_real_labels(self, student, rng):
        """agrees with PyTorch's cross-entropy that ignores padding"""
        logits, labels = self.data(rng)
        expect.close(
            an_object(student.MaskedLoss(), "a loss")(labels, logits),
            self.right(logits, labels),
            what="the loss",
            ask="Which labels count, and what is the sum divided by?",
            mistakes=lambda: self.mistakes(logits, labels),
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_mean_over_real_labels")
    def test_as_keras_calls_it(self, student, rng):
        """gives the same when Keras calls it, with labels as floats and logits that carry a mask"""
        logits, labels = self.data(rng)
        loss = an_object(student.MaskedLoss(), "a loss")
        right = self.right(logits, labels)
        for given in (labels, labels.astype(np.float32)):
            expect.close(
                loss(given, logits),
                right,
                what="the loss",
                ask="Keras turns labels into floats before it calls `call`. What must they be to index with?",
                mistakes=lambda: self.mistakes(logits, labels),
            )
        # Logits made by a model whose inputs are masked elsewhere than the labels: that mask is another one.
        keras, V = student.keras, logits.shape[-1]
        ids = labels[:, ::-1].copy()
        embedding = keras.layers.Embedding(V, V, mask_zero=True)
        embedding(ids)
        table = single(rng, V, V, scale=2.0)
        embedding.set_weights([table])
        model = keras.Sequential([embedding])
        model(ids)
        model.compile(loss=loss, run_eagerly=True, jit_compile=False)
        value = model.evaluate(ids, labels, verbose=0, batch_size=len(ids))
        got = table[ids]
        expect.close(
            value,
            float(self.right(got, labels)),
            what="the loss that model.evaluate tells",
            ask="Does `call` return one number, so that Keras's own mask has nothing left to weigh?",
            mistakes=lambda: {text: float(v) for text, v in self.mistakes(got, labels).items()},
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_mean_over_real_labels")
    def test_other_pad(self, student, rng):
        """leaves out the label that it is told is padding, and counts 0"""
        pad = int(rng.integers(1, 4))
        logits, labels = self.data(rng, pad)
        labels[0, int(np.flatnonzero(labels[0] != pad)[0])] = 0
        expect.close(
            an_object(student.MaskedLoss(pad=pad), "a loss")(labels, logits),
            self.right(logits, labels, pad),
            what=f"the loss with pad={pad}",
            ask="Which label is padding here?",
            mistakes=lambda: self.mistakes(logits, labels, pad),
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_mean_over_real_labels")
    def test_smoothing(self, student, rng):
        """spreads ε of the target over all tokens"""
        smoothing = float(rng.uniform(0.1, 0.4))
        logits, labels = self.data(rng)
        expect.close(
            an_object(student.MaskedLoss(smoothing=smoothing), "a loss")(labels, logits),
            self.right(logits, labels, 0, smoothing),
            what=f"the loss with smoothing={smoothing:.2f}",
            ask="What does the target give to the label, and what to every token?",
            mistakes=lambda: self.mistakes(logits, labels, 0, smoothing),
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_mean_over_real_labels")
    def test_extremes(self, student, rng):
        """stays finite: for logits in the thousands, and 0 where all is padding"""
        logits, labels = self.data(rng)
        for shift in (1000.0, -1000.0):
            moved = (logits + np.float32(shift)).astype(np.float32)
            expect.close(
                an_object(student.MaskedLoss(), "a loss")(labels, moved),
                self.right(moved, labels),
                atol=1e-3,
                what=f"the loss of logits near {shift:.0f}",
                ask="Is the logarithm taken of a softmax that may be 0, or by log_softmax?",
            )
        sharp = (logits * 100).astype(np.float32)
        expect.close(
            an_object(student.MaskedLoss(), "a loss")(labels, sharp),
            self.right(sharp, labels),
            rtol=1e-3,
            what="the loss of logits in the hundreds",
            ask="Is the logarithm taken of a softmax that may be 0, or by log_softmax?",
        )
        value = an_object(student.MaskedLoss(), "a loss")(np.zeros_like(labels), logits)
        expect.close(
            value,
            torch.tensor(0.0),
            what="the loss of a batch of padding",
            ask="What is 0 divided by where no label counts?",
        )
        one = np.zeros_like(labels)
        one[0, 0] = 1
        expect.close(
            an_object(student.MaskedLoss(), "a loss")(one, logits),
            self.right(logits, one),
            what="the loss of a batch with one label that counts",
            ask="Is the divisor exactly the number of labels that count?",
        )

    @pytest.mark.points(1)
    def test_config(self, student, rng):
        """can be made again from its config"""
        settings = {"pad": 2, "smoothing": 0.3, "name": "mine", "reduction": "sum"}
        loss = an_object(student.MaskedLoss(**settings), "a loss")
        config = configured(loss, settings)
        again = an_object(student.MaskedLoss.from_config(config), "a loss from its config")
        logits, labels = self.data(rng, 2)
        expect.close(
            again(labels, logits),
            self.right(logits, labels, 2, 0.3),
            what="the loss made again from the config",
            ask="Does `__init__` keep each argument, and `get_config` return each?",
        )


# ---- the schedule -------------------------------------------------------------------------------------------------


@pytest.mark.exercise("NoamSchedule")
class TestNoamSchedule:
    def rate(self, step, d_model, warmup, factor=1.0):
        n = step + 1
        return torch.tensor(factor * d_model**-0.5 * min(n**-0.5, n * warmup**-1.5), dtype=torch.float32)

    def mistakes(self, steps, d_model, warmup, factor=1.0):
        """What is said of wrong rates at these counters."""
        W, base = warmup, factor * d_model**-0.5
        said = {
            "the larger of the two: the rate first falls, then rises": lambda n: (
                base * max(n**-0.5, n * W**-1.5)
            ),
            "D^(1/2) where D^(−1/2) stands": lambda n: factor * d_model**0.5 * min(n**-0.5, n * W**-1.5),
            "no factor D^(−1/2)": lambda n: factor * min(n**-0.5, n * W**-1.5),
            "W^(−1/2) where W^(−3/2) stands": lambda n: base * min(n**-0.5, n * W**-0.5),
            "a rate that keeps rising: the root is missing": lambda n: base * n * W**-1.5,
            "no warm-up": lambda n: base * n**-0.5,
            "the factor left out": lambda n: d_model**-0.5 * min(n**-0.5, n * W**-1.5),
            "a rate that falls as 1/n after the top, not as its root": lambda n: (
                base * min(1 / n, n * W**-1.5)
            ),
            "the counter taken for n: n is the counter plus 1": lambda n: (
                base * (min((n - 1) ** -0.5, (n - 1) * W**-1.5) if n > 1 else 0.0)
            ),
        }
        return {
            text: torch.tensor([wrong(step + 1) for step in steps], dtype=torch.float32)
            for text, wrong in said.items()
        }

    @pytest.mark.points(2)
    def test_formula(self, student, rng):
        """follows the paper's formula before, at and after the top"""
        for factor in (1.0, float(rng.uniform(0.2, 3.0))):
            d_model, warmup = int(rng.integers(5, 600)), int(rng.integers(5, 400))
            args = (d_model, warmup) if factor == 1.0 else (d_model, warmup, factor)
            schedule = an_object(student.NoamSchedule(*args), "a schedule")
            steps = [0, 1, warmup - 1, warmup, int(rng.integers(warmup + 1, 9000))]
            rates = [schedule(step) for step in steps]
            for step, rate in zip(steps, rates, strict=True):
                expect.array(rate, shape=(), dtype=torch.float32, what=f"the rate at counter {step}")
            expect.close(
                torch.stack([rate.detach() for rate in rates]),
                torch.stack([self.rate(step, d_model, warmup, factor) for step in steps]),
                atol=0,
                what=f"the rates at counters {steps} (D={d_model}, W={warmup}, factor={factor:.2f})",
                ask="What is n at this counter, and which of the two terms is smaller?",
                mistakes=lambda s=steps, d=d_model, w=warmup, f=factor: self.mistakes(s, d, w, f),
            )
        expect.close(
            an_object(student.NoamSchedule(512), "a schedule")(9),
            self.rate(9, 512, 4000),
            atol=0,
            what="the rate at counter 9, with the default warm-up",
            ask="What are the defaults in the signature?",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_formula")
    def test_in_an_optimizer(self, student, rng):
        """works in an optimiser of Keras, whose counter is a tensor of whole numbers"""
        keras, warmup = student.keras, int(rng.integers(2, 5))
        schedule = an_object(student.NoamSchedule(16, warmup), "a schedule")
        counter = keras.ops.convert_to_tensor(np.int32(7))
        expect.close(
            schedule(counter), self.rate(7, 16, warmup), atol=0, what="the rate at a counter in a tensor"
        )
        optimizer = keras.optimizers.SGD(schedule)
        dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        model = keras.Sequential([dense])
        # The error of what is far too large has the slope 1 at every step.
        model.compile(optimizer=optimizer, loss="mean_absolute_error", run_eagerly=True, jit_compile=False)
        position, one = 0.0, np.ones((1, 1), np.float32)
        for step in range(2 * warmup):
            expect.close(
                optimizer.learning_rate,
                self.rate(step, 16, warmup),
                atol=0,
                what=f"the optimiser's rate before step {step + 1}",
                ask="The counter is a tensor of whole numbers: which of your operations does not take one?",
            )
            model.train_on_batch(one, -100 * one)
            position -= float(self.rate(step, 16, warmup))
        expect.close(
            dense.weights[0].detach(),
            torch.tensor([[position]]),
            what="a weight after these steps, at slope 1",
            ask="Does the rate come out as one float32 number?",
        )

    @pytest.mark.points(2)
    def test_can_be_saved(self, student, rng):
        """can be made again from its config, and so saved with the optimiser"""
        settings = {"d_model": int(rng.integers(5, 99)), "warmup": int(rng.integers(5, 99)), "factor": 1.5}
        schedule = an_object(student.NoamSchedule(**settings), "a schedule")
        try:
            config = configured(schedule, settings)
        except NotImplementedError as error:
            if "NoamSchedule" in str(error) and "get_config" not in str(error):
                raise
            expect.fail(
                expected="a schedule with a get_config of its own",
                got="the base class's, which says that there is none",
                ask="Without it, nothing that trains with this schedule can be saved. What must `__init__` be told?",
            )
        again = an_object(student.NoamSchedule.from_config(config), "a schedule from its config")
        step = int(rng.integers(1, 200))
        expect.close(
            again(step),
            self.rate(step, *settings.values()),
            atol=0,
            what="the rate of the schedule made again",
        )
        kind = student.keras.optimizers.schedules.LearningRateSchedule
        saved = student.keras.saving.serialize_keras_object(student.keras.optimizers.Adam(schedule))
        inner = saved.get("config", {}).get("learning_rate") if isinstance(saved, dict) else None
        expect.holds(
            isinstance(inner, dict)
            and inner.get("config", {}) is not None
            and inner.get("class_name") == "NoamSchedule",
            expected="an optimiser whose saved form holds the schedule and its config",
            got=repr(inner)[:100],
            ask=f"Does the class derive from keras.optimizers.schedules.{kind.__name__}?",
        )


# ---- one step -----------------------------------------------------------------------------------------------------


@pytest.mark.exercise("train_step")
class TestTrainStep:
    def model(self, student, rng, inputs, outputs, *, penalty=0.0, extra=()):
        """A linear map as a Keras model, its layer, and its weights."""
        keras = student.keras
        kwargs = {"kernel_regularizer": keras.regularizers.L2(penalty)} if penalty else {}
        dense = keras.layers.Dense(outputs, **kwargs)
        model = keras.Sequential([dense, *extra])
        model(np.zeros((2, inputs), np.float32))
        weights = [single(rng, inputs, outputs), single(rng, outputs)]
        dense.set_weights(weights)
        return model, dense, [torch.from_numpy(w).double() for w in weights]

    def slopes(self, weights, x, y, penalty=0.0):
        """Mean squared error of a linear map, and its slopes, by PyTorch."""
        w, b = (weight.clone().requires_grad_() for weight in weights)
        error = F.mse_loss(torch.from_numpy(x).double() @ w + b, torch.from_numpy(y).double())
        total = error + penalty * w.square().sum()
        return (
            total.detach().float(),
            torch.autograd.grad(total, (w, b)),
            torch.autograd.grad(
                F.mse_loss(torch.from_numpy(x).double() @ w + b, torch.from_numpy(y).double()), (w, b)
            ),
        )

    def expect_weights(self, dense, right, what, mistakes, ask):
        found = dense.weights
        names = ("kernel", "bias")
        for i, (name, value) in enumerate(zip(names, right, strict=True)):
            expect.close(
                found[i].detach() if isinstance(found[i], torch.Tensor) else found[i],
                value.float(),
                what=f"the {name} {what}",
                ask=ask,
                mistakes={text: wrong[i].float() for text, wrong in mistakes.items()},
            )

    @pytest.mark.points(3)
    def test_one_step(self, student, rng):
        """moves the weights down the slope of the loss, and returns the loss before"""
        B, N, M = rng.distinct(3, 2, 7)
        model, dense, weights = self.model(student, rng, N, M)
        x, y, rate = single(rng, B, N), single(rng, B, M), float(rng.uniform(0.1, 0.5))
        keras = student.keras
        optimizer = keras.optimizers.SGD(rate)
        value = student.train_step(model, optimizer, keras.losses.MeanSquaredError(), x, y)
        loss, (w, b), _ = self.slopes(weights, x, y)
        old_w, old_b = weights
        moved = [old_w - rate * w, old_b - rate * b]
        after = self.slopes(moved, x, y)[0]
        expect.close(
            one_number(value, "the loss"),
            loss,
            what="the loss",
            ask="Which loss, at which weights?",
            mistakes={"the loss after the step: it is asked for before": after},
        )
        self.expect_weights(
            dense,
            moved,
            "after the step",
            {
                "as it was: no step was taken": weights,
                "moved up the slope": [old_w + rate * w, old_b + rate * b],
                "moved twice": [old_w - 2 * rate * w, old_b - 2 * rate * b],
            },
            "Do the gradients reach the optimiser, in the order of the variables?",
        )
        steps = optimizer.iterations
        expect.holds(
            isinstance(steps, torch.Tensor) and steps.numel() == 1 and int(steps) == 1,
            expected="an optimiser that has taken one step",
            got=f"{steps} steps" if not isinstance(steps, torch.Tensor) else f"{steps.tolist()} steps",
            ask="Does the optimiser move the weights, by apply(gradients, variables), once?",
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_one_step")
    def test_steps_do_not_add_up(self, student, rng):
        """takes each step by its own gradients, whatever happened before"""
        B, N, M = rng.distinct(3, 2, 7)
        model, dense, weights = self.model(student, rng, N, M)
        keras, rate = student.keras, 0.2
        optimizer, loss = keras.optimizers.SGD(rate), keras.losses.MeanSquaredError()
        both, right, past = weights, weights, [torch.zeros_like(w) for w in weights]
        for _ in range(3):
            x, y = single(rng, B, N), single(rng, B, M)
            student.train_step(model, optimizer, loss, x, y)
            slopes = self.slopes(right, x, y)[1]
            right = [w - rate * s for w, s in zip(right, slopes, strict=True)]
            slopes = self.slopes(both, x, y)[1]
            past = [p + s for p, s in zip(past, slopes, strict=True)]
            both = [w - rate * p for w, p in zip(both, past, strict=True)]
            self.expect_weights(
                dense,
                right,
                "after several steps",
                {"moved by the gradients of all steps so far, added up: what clears them?": both},
                "Where do a step's gradients go when the next one begins?",
            )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_one_step")
    def test_training_mode(self, student, rng):
        """computes the outputs in training mode"""
        B, N, M = rng.distinct(3, 4, 8)
        keras = student.keras
        norm = keras.layers.BatchNormalization(momentum=0.5, center=False, scale=False, epsilon=1e-3)
        model, _, weights = self.model(student, rng, N, M, extra=(norm,))
        x, y = single(rng, B, N, scale=2.0), single(rng, B, M)
        value = student.train_step(model, keras.optimizers.SGD(0.1), keras.losses.MeanSquaredError(), x, y)
        w, b = weights
        out = torch.from_numpy(x).double() @ w + b
        mean, variance = out.mean(0), out.var(0, unbiased=False)
        target = torch.from_numpy(y).double()

        def error(z):
            return (z - target).square().mean().float()

        expect.close(
            one_number(value, "the loss"),
            error((out - mean) / (variance + 1e-3).sqrt()),
            atol=1e-4,
            what="the loss of a model with batch normalisation",
            ask="Layers such as dropout do nothing unless they are told that this is training. How are they told?",
            mistakes={
                "the loss in inference mode: `training=True` is left out": error(out / (1 + 1e-3) ** 0.5)
            },
        )
        found = norm.moving_mean
        expect.close(
            found.detach() if isinstance(found, torch.Tensor) else found,
            (0.5 * mean).float(),
            atol=1e-4,
            what="the running mean of the batch normalisation",
            ask="How often is the model called in a step?",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_one_step")
    def test_penalties(self, student, rng):
        """minimises what layers add as well"""
        B, N, M = rng.distinct(3, 2, 7)
        penalty, rate = float(rng.uniform(0.2, 0.6)), 0.1
        model, dense, weights = self.model(student, rng, N, M, penalty=penalty)
        x, y, keras = single(rng, B, N), single(rng, B, M), student.keras
        value = student.train_step(model, keras.optimizers.SGD(rate), keras.losses.MeanSquaredError(), x, y)
        loss, slopes, bare = self.slopes(weights, x, y, penalty)
        expect.close(
            one_number(value, "the loss"),
            loss,
            what="what was minimised",
            ask="A layer with a regulariser adds a penalty. Where does the model keep it?",
            mistakes={
                "the loss without the layers' penalties (`model.losses`)": self.slopes(weights, x, y)[0]
            },
        )
        self.expect_weights(
            dense,
            [w - rate * s for w, s in zip(weights, slopes, strict=True)],
            "after a step with a penalty",
            {"moved without the penalty": [w - rate * s for w, s in zip(weights, bare, strict=True)]},
            "Is the penalty in what the gradients are of?",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_one_step")
    def test_frozen_and_pairs(self, student, rng):
        """leaves frozen layers alone, and takes a pair of inputs and any loss"""
        B, N, M = rng.distinct(3, 2, 7)
        keras = student.keras
        first, second = keras.layers.Dense(M), keras.layers.Dense(M)
        inputs = [keras.Input((N,)), keras.Input((N + 1,))]
        model = keras.Model(inputs, keras.layers.Add()([first(inputs[0]), second(inputs[1])]))
        second.trainable = False
        before = [[w.detach().clone() for w in part.weights] for part in (first, second)]
        x, z, y = single(rng, B, N), single(rng, B, N + 1), single(rng, B, M)
        y += np.sign(y, dtype=np.float32)  # it is divided by
        loss, rate = keras.losses.MeanAbsolutePercentageError(), 0.003
        value = student.train_step(model, keras.optimizers.SGD(rate), loss, (x, z), y)
        w = [p.double().requires_grad_(i == 0) for i, part in enumerate(before) for p in part]
        target = torch.from_numpy(y).double()
        out = torch.from_numpy(x).double() @ w[0] + w[1] + torch.from_numpy(z).double() @ w[2] + w[3]
        gap = (out - target).abs()
        error = 100 * (gap / target.abs()).mean()
        slopes = torch.autograd.grad(error, w[:2], retain_graph=True)
        expect.close(
            one_number(value, "the loss"),
            error.detach().float(),
            what="the loss of a model with two inputs",
            ask="Is the given loss used, with targets first, and are the inputs handed on as they came?",
            mistakes={
                "the mean squared error, whatever loss was given": gap.square().mean().detach().float(),
                "targets and outputs in each other's place: a loss takes what is true first": (
                    100 * (gap / out.abs()).mean().detach().float()
                ),
            },
        )
        self.expect_weights(
            second,
            before[1],
            "of the frozen layer",
            {},
            "Which variables of the model are there to be moved?",
        )
        self.expect_weights(
            first,
            [(p - rate * s).detach() for p, s in zip(w[:2], slopes, strict=True)],
            "of the other layer",
            {},
            "Which variables of the model are there to be moved?",
        )
