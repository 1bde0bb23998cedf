"""Checks of unit 16, last part: the loop that fine-tunes.

A small BERT of ``transformers`` is made on the learner's side and has a twin with the same weights here, which a plain
loop trains as it should be trained, or with a known mistake on the way. Hooks take down which batches the learner's
model sees, and in which mode.
"""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

from proctor import expect
from proctor.proxies import sketch

DOUBLE = torch.float64
SIZES = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 12,
    "num_labels": 3,
}
KINDS = {"sequence": BertForSequenceClassification, "token": BertForTokenClassification}


class Run:
    """A model on the learner's side, its twin here, and batches for both."""

    def __init__(
        self, student, rng, *, kind="sequence", epochs=2, count=3, dropout=0.0, frozen=(), **options
    ):
        self.options = {"lr": 0.02, "warmup": 0.55, "weight_decay": 0.4, "max_norm": 0.5, **options}
        self.epochs, self.frozen = epochs, frozen
        settings = {**SIZES, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        self.twin = KINDS[kind](BertConfig(**settings)).double()
        weights = {
            name: rng.tensor(*value.shape, scale=0.4, dtype=DOUBLE) + (name.endswith("LayerNorm.weight"))
            for name, value in self.twin.named_parameters()
        }
        self.twin.load_state_dict(weights, strict=False)
        for name, parameter in self.twin.named_parameters():
            parameter.requires_grad = not name.startswith(frozen) if frozen else True
        make = student.transformers
        self.model = expect.named(getattr(make, KINDS[kind].__name__)(make.BertConfig(**settings)), "model")
        self.model.double()
        self.model.load_state_dict(weights, strict=False)
        for name in frozen:
            getattr(self.model.bert, name.split(".")[1]).requires_grad_(False)
        self.train = [self.batch(rng, kind, 3 + i % 3) for i in range(count)]
        self.validation = [self.batch(rng, kind, rows) for rows in (4, 4, 1)]
        self.start = self.vector(self.twin.state_dict())
        self.seen = []

    def batch(self, rng, kind, rows):
        T = int(rng.integers(4, 8))
        lengths = rng.lengths(rows, T)
        mask = (torch.arange(T) < lengths[:, None]).long()
        ids = torch.from_numpy(rng.integers(5, 30, (rows, T))) * mask
        labels = torch.from_numpy(rng.integers(0, 3, rows if kind == "sequence" else (rows, T)))
        if kind == "token":
            labels = labels.masked_fill(mask == 0, -100)
            labels[:, 0] = -100
            labels[0, 1] = int(rng.integers(0, 3))
            mask[0, 1] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def vector(self, weights):
        return torch.cat(
            [value.detach().flatten() for name, value in sorted(weights.items()) if value.is_floating_point()]
        )

    def read(self):
        """The learner's weights as one vector."""
        found = self.model.state_dict()
        fine = isinstance(found, dict) and all(isinstance(value, torch.Tensor) for value in found.values())
        expect.holds(fine, expected="a model with its weights after training", got=sketch(found))
        for value in found.values():
            expect.array(value, what="a parameter of the model after training")
        vector = self.vector(found)
        expect.array(vector, dtype=DOUBLE, what="the weights after training")
        return vector

    def go(self, student, **options):
        """Call the learner's function."""
        given = {**self.options, "epochs": self.epochs, **options}
        return student.fine_tune(self.model, self.train, self.validation, **given)

    def watch(self):
        """Take down the mode, and whether there is a graph, for every batch that the learner's model sees."""

        def hook(model, args, kwargs, output):
            loss = output[0] if isinstance(output, (tuple, list)) else output.loss
            graph = isinstance(loss, torch.Tensor) and loss.requires_grad
            ids = kwargs.get("input_ids") if isinstance(kwargs, dict) else None
            self.seen.append((self.which(ids), model.training, graph))

        self.model.register_forward_hook(hook, with_kwargs=True)

    def which(self, ids):
        for what, batches in (("train", self.train), ("validation", self.validation)):
            for i, batch in enumerate(batches):
                if isinstance(ids, torch.Tensor) and torch.equal(ids, batch["input_ids"]):
                    return f"{what} {i}"
        return "something else"

    def rate(self, n, steps, wrong):
        """The share of the learning rate in step n, from 0."""
        lr, warm = 1.0, self.options["warmup"] * steps
        others = {
            "floor": math.floor(warm),
            "no warmup": 0,
            "warmup by epoch": self.options["warmup"] * len(self.train),
        }
        warm = math.ceil(others.get(wrong, warm))
        if wrong == "constant":
            return lr
        if wrong == "late":
            n = max(n - 1, 0)
        if wrong == "early":
            n += 1
        if n < warm:
            return n / warm
        if wrong == "no decay":
            return lr
        down = (n - warm) / max(1, steps - warm)
        return (1 + math.cos(math.pi * down)) / 2 if wrong == "cosine" else 1 - down

    def reference(self, wrong=""):
        """The weights after training as it should be, or with the mistake that ``wrong`` names."""
        model = deepcopy(self.twin)
        parameters = [p for p in model.parameters() if p.requires_grad or wrong == "thawed"]
        for p in parameters:
            p.requires_grad = True
        matrices = [p for p in parameters if p.ndim >= 2]
        vectors = [p for p in parameters if p.ndim < 2]
        decay = self.options["weight_decay"]
        decays = {"decay all": (decay, decay), "decay none": (0.0, 0.0), "decay vectors": (0.0, decay)}
        first, second = decays.get(wrong, (decay, 0.0))
        groups = [{"params": matrices, "weight_decay": first}, {"params": vectors, "weight_decay": second}]
        kind = torch.optim.Adam if wrong == "adam" else torch.optim.AdamW
        optimizer = kind(groups, lr=self.options["lr"])
        per_epoch = len(self.train)
        total = self.epochs * per_epoch
        steps = per_epoch if wrong == "steps of one epoch" else total
        n, history = 0, []
        for epoch in range(1 if wrong == "one epoch" else self.epochs):
            losses = []
            for batch in self.train if wrong != "last dropped" else self.train[:-1]:
                if wrong != "not zeroed":
                    optimizer.zero_grad()
                for group in optimizer.param_groups:
                    by_epoch = wrong == "by epoch"
                    at = epoch * per_epoch if by_epoch else n % per_epoch if wrong == "anew" else n
                    share = self.rate(at, steps, wrong)
                    group["lr"] = self.options["lr"] * max(share, 0.0)
                given = {k: v for k, v in batch.items() if k != "attention_mask" or wrong != "unmasked"}
                loss = model(**given).loss
                loss.backward()
                if wrong not in ("not clipped", "clipped late"):
                    limit = {"clipped to one": 1.0}.get(wrong, self.options["max_norm"])
                    if wrong == "clipped by value":
                        nn.utils.clip_grad_value_(parameters, limit)
                    elif wrong == "clipped one by one":
                        for p in parameters:
                            nn.utils.clip_grad_norm_([p], limit)
                    else:
                        nn.utils.clip_grad_norm_(parameters, limit)
                optimizer.step()
                n += 1
                losses.append(loss.item())
            if wrong in ("", "trained on validation"):
                history.append(self.measure(model, losses))
            if wrong == "trained on validation":
                for group in optimizer.param_groups:
                    group["lr"] = self.options["lr"] * max(self.rate(n, steps, wrong), 0.0)
                for batch in self.validation:
                    optimizer.zero_grad()
                    model(**batch).loss.backward()
                    optimizer.step()
        self.history = history or getattr(self, "history", [])
        return self.vector(model.state_dict())

    @torch.no_grad()
    def measure(self, model, losses):
        """What an evaluation should say, and what known mistakes make of it."""
        model.eval()
        parts = []
        for batch in self.validation:
            out, labels = model(**batch), batch["labels"]
            real = labels != -100
            right = (out.logits.argmax(-1) == labels) & real
            parts.append((out.loss.item(), int(real.sum()), int(right.sum()), labels.numel(), len(labels)))
        model.train()
        count = sum(p[1] for p in parts)
        return {
            "loss": sum(losses) / len(losses),
            "last loss": losses[-1],
            "total loss": sum(losses),
            "validation_loss": sum(p[0] * p[1] for p in parts) / count,
            "mean of losses": sum(p[0] for p in parts) / len(parts),
            "by rows": sum(p[0] * p[4] for p in parts) / sum(p[4] for p in parts),
            "sum of losses": sum(p[0] for p in parts),
            "by all": sum(p[0] * p[3] for p in parts) / sum(p[3] for p in parts),
            "accuracy": sum(p[2] for p in parts) / count,
            "mean of accuracies": sum(p[2] / p[1] for p in parts) / len(parts),
            "over all": sum(p[2] for p in parts) / sum(p[3] for p in parts),
            "over rows": sum(p[2] for p in parts) / sum(p[4] for p in parts),
            "count": sum(p[2] for p in parts),
            "last batch": parts[-1][2] / parts[-1][1],
        }


@pytest.mark.exercise("fine_tune")
class TestFineTune:
    def history(self, out, epochs):
        """What the learner's function returned: a dict of floats for each epoch."""
        names = ("loss", "validation_loss", "accuracy")
        expected = f"a list of {epochs} dicts, each with {', '.join(names)}"
        ask = "What is collected in every epoch, and does the `return` stand behind the loop?"
        several = isinstance(out, (list, tuple))
        expect.holds(several, expected=expected, got="None" if out is None else sketch(out), ask=ask)
        expect.holds(len(out) == epochs, expected=expected, got=f"{len(out)} things", ask=ask)
        for entry in out:
            fine = isinstance(entry, dict) and set(entry) == set(names)
            expect.holds(fine, expected=expected, got=sketch(entry), ask=ask)
            for name in names:
                kind = type(entry[name])
                got = f"{kind.__name__}: {sketch(entry[name])}"
                got += ": a tensor keeps its graph, and prints as one" if kind is torch.Tensor else ""
                expect.holds(
                    kind is float, expected=f"{name} as a float", got=got, ask="What makes a plain float?"
                )
        return out

    @pytest.mark.points(3)
    @pytest.mark.draws(1)
    def test_agrees_with_a_plain_loop(self, student, rng):
        """trains a model exactly as a plain loop does"""
        run = Run(student, rng)
        expected = run.reference()
        run.go(student)
        sentences = {
            "weights whose gradients piled up: backward adds to `grad`, and nothing set it back": "not zeroed",
            "weights of a model in which padding was attended to: every entry of a batch goes to the model": "unmasked",
            "the weights after one epoch": "one epoch",
            "weights that have not seen the last batch of each epoch": "last dropped",
            "weights that have learned from the batches of validation": "trained on validation",
            "weights trained without clipping": "not clipped",
            "weights whose gradients were clipped to 1: max_norm says to what": "clipped to one",
            "weights whose gradients were clipped entry by entry: all together are meant": "clipped by value",
            "weights whose gradients were clipped parameter by parameter: all together are "
            "meant": "clipped one by one",
            "weights at a constant learning rate: the schedule was not used": "constant",
            "weights whose rate rose and never fell": "no decay",
            "weights whose rate fell from the start: there was no warm-up": "no warmup",
            "weights with a warm-up of ⌊warmup · N⌋ steps: it is rounded up": "floor",
            "weights with a warm-up of `warmup` times the steps of one epoch: N counts all "
            "steps": "warmup by epoch",
            "weights whose rate had come down to nothing after one epoch: N counts all "
            "steps": "steps of one epoch",
            "weights whose rate was set once an epoch: it changes with every step": "by epoch",
            "weights whose schedule began anew in each epoch": "anew",
            "weights that use each rate one step late: is schedule.step() called before the optimiser's?": "late",
            "weights that use each rate one step early: step 0 has the rate 0, if there is a warm-up": "early",
            "weights under a cosine: a straight line is meant": "cosine",
            "weights of which all decay, biases and norms as well": "decay all",
            "weights without any decay": "decay none",
            "weights of which only biases and norms decay: matrices are to": "decay vectors",
            "weights that Adam has moved: its decay goes through the averages. AdamW's does not": "adam",
        }

        def mistakes():
            found = {"weights that have not moved": run.start}
            return found | {sentence: run.reference(wrong) for sentence, wrong in sentences.items()}

        ask = (
            "Write down the order of zero_grad, loss, backward, clip, step and schedule in your loop. "
            "What does each need?"
        )
        expect.close(
            run.read(), expected, atol=1e-7, what="all weights after training", ask=ask, mistakes=mistakes
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_plain_loop")
    @pytest.mark.draws(1)
    def test_every_setting(self, student, rng):
        """heeds epochs, lr, warmup, weight_decay and max_norm, and what they are if nobody says"""
        cases = (
            {"epochs": 1, "count": 2, "warmup": 0.0, "lr": 0.03, "max_norm": 1e6, "weight_decay": 0.0},
            {"epochs": 3, "count": 1, "warmup": 0.67, "lr": 0.01, "max_norm": 0.1, "weight_decay": 2.0},
            {"epochs": 3, "count": 4},
        )
        for i, case in enumerate(cases):
            run = Run(student, rng, **case)
            if i == 2:  # with the defaults
                run.options = {"lr": 0.02, "warmup": 0.1, "weight_decay": 0.01, "max_norm": 1.0}
            expected = run.reference()
            given = {"lr": 0.02, "epochs": 3} if i == 2 else {**run.options, "epochs": run.epochs}
            student.fine_tune(run.model, run.train, run.validation, **given)
            ask = "Is there a number in your code that should be an argument?"
            if i == 2:
                ask = (
                    "The head of the function says what warmup, weight_decay and max_norm are by "
                    "default. Are they used?"
                )
            expect.close(run.read(), expected, atol=1e-7, what="all weights after training", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_a_plain_loop")
    @pytest.mark.draws(1)
    def test_modes(self, student, rng):
        """trains in training mode, evaluates in evaluation mode without gradients, in every epoch"""
        run = Run(student, rng, count=2)
        run.model.eval()
        run.watch()
        run.go(student)
        per_epoch = [f"train {i}" for i in range(2)] + [f"validation {i}" for i in range(3)]
        order = [what for what, _, _ in run.seen]
        ask = "Which batches does the model see in one epoch, and in which order?"
        got = ", ".join(order[:9]) + (", …" if len(order) > 9 else "") or "no batch at all"
        expect.holds(order == per_epoch * 2, expected=", ".join(per_epoch) + ", twice", got=got, ask=ask)
        for epoch, place in ((1, 0), (2, 5)):
            parts = run.seen[place : place + 2], run.seen[place + 2 : place + 5]
            modes = [[training for _, training, _ in part] for part in parts]
            got = "evaluation mode: dropout never acts"
            got += ". Evaluation had left it so" if epoch == 2 else ""
            expect.holds(
                modes[0] == [True] * 2,
                expected=f"a model in training mode for the training batches of epoch {epoch}",
                got=got,
                ask="At which place does one call of model.train() cover every epoch?",
            )
            got = "training mode: dropout would act, and the accuracy would depend on chance"
            expect.holds(
                modes[1] == [False] * 3,
                expected=f"a model in evaluation mode for the batches of validation in epoch {epoch}",
                got=got,
                ask="Which call switches dropout off, and does it come before the batches of validation?",
            )
            expect.holds(
                not any(graph for _, _, graph in parts[1]),
                expected="an evaluation without gradients",
                got="a loss with a graph behind it: memory for nothing",
                ask="Under which context does PyTorch keep no graph?",
            )
        mode = run.model.training
        expect.holds(
            mode is False,
            expected="a model in evaluation mode in the end",
            got="one in training mode",
            ask="In which mode do you leave the model after the last evaluation?",
        )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_agrees_with_a_plain_loop")
    @pytest.mark.draws(2)
    def test_history(self, student, rng):
        """returns the mean loss, the loss of validation and the accuracy of every epoch"""
        run = Run(student, rng)
        run.reference()
        found = self.history(run.go(student), 2)
        for epoch, (got, want) in enumerate(zip(found, run.history, strict=True)):
            self.compare(got, want, epoch)
        empty = Run(student, rng, count=1)
        out = empty.go(student, epochs=0)
        expect.holds(out in ([], ()), expected="no entries, [], for epochs=0", got=sketch(out))

    def compare(self, got, want, epoch):
        labels = "How many labels of the batches of validation are not −100, and does each count the same?"
        for name, ask, mistakes in (
            ("loss", "The mean of which losses is it?", {
                "the loss of the last batch": "last loss",
                "the sum of the losses": "total loss",
            }),
            ("validation_loss", labels, {
                "the mean of the batches' losses. The last batch has fewer labels": "mean of losses",
                "the mean over rows. In each, another number of labels counts": "by rows",
                "the mean over all positions, those with −100 as well": "by all",
                "the sum of the batches' losses": "sum of losses",
                "the loss in training": "loss",
            }),
            ("accuracy", labels, {
                "the mean of the batches' accuracies. The last batch has fewer labels": "mean of accuracies",
                "the right ones among all positions, those with −100 as well": "over all",
                "the right ones, divided by the number of rows": "over rows",
                "how many were right, not their share": "count",
                "the accuracy of the last batch": "last batch",
            }),
        ):  # fmt: skip
            values = {
                f"{sentence} ({want[key]:.4g})": want[key]
                for sentence, key in mistakes.items()
                if abs(want[key] - want[name]) > 1e-6
            }
            what = f"{name} of epoch {epoch}"
            expect.close(got[name], want[name], atol=1e-6, what=what, ask=ask, mistakes=values)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_history")
    @pytest.mark.draws(2)
    def test_labels_that_do_not_count(self, student, rng):
        """evaluates labels of tokens, of which those with −100 do not count"""
        run = Run(student, rng, kind="token", epochs=1, count=2)
        expected = run.reference()
        (got,) = self.history(run.go(student), 1)
        self.compare(got, run.history[0], 0)
        expect.close(run.read(), expected, atol=1e-7, what="all weights after training")

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_a_plain_loop")
    @pytest.mark.draws(1)
    def test_what_stays(self, student, rng):
        """leaves frozen parameters as they are, and forgets gradients from before"""
        run = Run(student, rng, epochs=1, frozen=("bert.embeddings",))
        expected = run.reference()
        x = rng.tensor(2, 5, 8, dtype=DOUBLE).requires_grad_()
        loss, _ = run.model(inputs_embeds=x, labels=torch.tensor([0, 2]), return_dict=False)
        loss.backward()  # over there, parameters now have a gradient
        run.go(student)
        mistakes = {"weights of which the frozen ones have moved": lambda: run.reference("thawed")}
        ask = (
            "The embeddings here have requires_grad=False, and the others gradients from before. "
            "What reaches the first step?"
        )
        expect.close(
            run.read(), expected, atol=1e-7, what="all weights after training", ask=ask, mistakes=mistakes
        )
