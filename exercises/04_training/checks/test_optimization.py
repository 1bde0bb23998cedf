"""Checks of unit 04, first half: AdamW, the schedule, clipping.

An optimiser moves parameters in place, so these must lie where the learner's code runs. Models are made there, through
the ``nn`` of the set-up cell (``student.nn.Linear(…)``), and each has a twin here with the same weights. Gradients come
about as in life: the output of the learner's model is a tensor here, and ``backward`` fills ``grad`` there, through the
wire. Parameters are read back by name, as plain tensors with their ``grad``; nothing has to be marked ``in_place``.
"""

import math

import pytest
import torch
from torch import nn

from proctor import expect
from proctor.proxies import sketch

DOUBLE = torch.float64


def number(value, what, ask=""):
    """An answer that should be one number, as a float; a tensor with one entry will do."""
    if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex():
        value = value.item()
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    ask = ask or "What does the `return` hand back, on every path through your code?"
    got = "None" if value is None else f"{type(value).__name__}: {sketch(value)}"
    expect.holds(plain, expected=f"{what} as one number", got=got, ask=ask)
    return float(value)


class Pair:
    """A linear layer on the learner's side and its twin here: the same weights, and the same gradients."""

    def __init__(self, student, rng, inputs, outputs, scale=1.0):
        self.twin = nn.Linear(inputs, outputs, dtype=DOUBLE)
        weights = {
            "weight": rng.tensor(outputs, inputs, scale=scale),
            "bias": rng.tensor(outputs, scale=scale),
        }
        self.twin.load_state_dict(weights)
        self.layer = student.nn.Linear(inputs, outputs, dtype=DOUBLE)
        self.layer.load_state_dict(self.twin.state_dict())
        self.start = {name: p.detach().clone() for name, p in self.twin.named_parameters()}
        self.grads = {"weight": [], "bias": []}  # of every step so far

    def pull(self, slopes):
        """Give both the gradients ``slopes`` (outputs, inputs) for the weight, and its row sums for the bias."""
        if self.grads["weight"]:
            self.layer.zero_grad()
            self.twin.zero_grad()
        eye = torch.eye(slopes.shape[1], dtype=DOUBLE)
        for one in (self.layer, self.twin):
            out = one(eye)
            expect.array(out, shape=tuple(slopes.T.shape), dtype=DOUBLE)
            out.backward(slopes.T.to(DOUBLE).contiguous())
        for name, p in self.twin.named_parameters():
            self.grads[name].append(p.grad.clone())

    def read(self):
        """The learner's parameters, as they are now."""
        return {"weight": self.layer.weight, "bias": self.layer.bias}


def walk(start, grads, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, decay=0.01, wrong="", place=0):
    """Where AdamW takes a parameter: one step for each gradient; ``wrong`` names the mistake to make on the way."""
    theta, m, v = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    b1, b2 = {"swapped": betas[::-1], "β₁ twice": betas[:1] * 2, "β₂ twice": betas[1:] * 2}.get(wrong, betas)
    for t, g in enumerate(grads, 1):
        t = {"shared t": 2 * t - 1 + place, "late t": t - 1, "t stays": 1}.get(wrong, t)
        if wrong in ("coupled", "both"):
            g = g + decay * theta
        if wrong == "anew":
            m, v = torch.zeros_like(m), torch.zeros_like(v)
        if wrong == "turned round":
            b1, b2 = 1 - betas[0], 1 - betas[1]
        m = (1 if wrong == "m sums" else b1) * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * {
            "v of m": m * m,
            "v of |g|": g.abs(),
            "v of g": g,
            "one v": (g * g).mean(),
        }.get(wrong, g * g)
        one, two = 1 - b1**t, 1 - b2**t
        one = 1.0 if wrong in ("none", "only v") else one
        two = 1.0 if wrong in ("none", "only m") else two
        m_hat, v_hat = (m * one, v * two) if wrong == "times" else (m / one, v / two)
        m_hat = g if wrong == "no m" else m_hat
        root = {"root left out": v_hat + eps, "eps inside": (v_hat + eps).sqrt()}.get(
            wrong, v_hat.sqrt() + eps
        )
        if wrong == "eps early":
            root = (v.sqrt() + eps) / math.sqrt(two)
        step = m_hat / root
        if wrong == "no v":
            step = m_hat
        pull = {"coupled": 0.0, "no decay": 0.0, "growth": -decay, "decay over lr": decay / lr}.get(
            wrong, decay
        )
        before, sign = theta, -1.0 if wrong == "uphill" else 1.0
        theta = theta - lr * (sign * step + pull * theta)
        if wrong == "decay last":
            theta = (before - lr * step) * (1 - lr * decay)
        if wrong == "no lr":
            theta = before - (step + pull * before)
    return theta


WRONG = {
    "none": "steps without bias correction: m and v start at zero, and nothing makes up for it",
    "only m": "steps in which only m is corrected for its start at zero, not v",
    "only v": "steps in which only v is corrected for its start at zero, not m",
    "times": "a bias correction that multiplies by 1 − βᵗ where it should divide",
    "t stays": "a bias correction in which t is 1 at every step",
    "late t": "a bias correction that counts from t = 0, where 1 − β⁰ is 0",
    "shared t": "a t that grows with every parameter: all parameters of one step share the same t",
    "eps inside": "ε under the root, √(v̂ + ε), where it belongs beside it: √v̂ + ε",
    "eps early": "ε added to √v before the bias correction: it belongs beside √v̂",
    "coupled": "coupled decay: weight_decay · θ was added to the gradient, and so went through m and v",
    "both": "decay twice: once through the gradient, and once beside it",
    "no decay": "steps without weight decay",
    "growth": "weight decay of the wrong sign: it pushes the weights away from zero",
    "decay over lr": "weight decay that is not multiplied by lr",
    "decay last": "weight decay applied after the step: both terms start from the same θ",
    "swapped": "β₁ used for v and β₂ for m",
    "β₁ twice": "β₁ used for v as well",
    "β₂ twice": "β₂ used for m as well",
    "turned round": "β₁ and β₂ the wrong way round: m keeps the share β₁ of itself and takes 1 − β₁ of g",
    "one v": "one v for a whole tensor: every entry has a v of its own",
    "v of m": "a v that averages m², not g²",
    "v of |g|": "a v that averages |g|, not g²",
    "v of g": "a v that averages g, not g²",
    "m sums": "an m that forgets nothing: the old m is to be multiplied by β₁",
    "anew": "an m and a v that start from zero again at every step",
    "no m": "steps along the gradient itself: m̂ is not used",
    "no v": "steps along m̂ alone: it is not divided by √v̂ + ε",
    "root left out": "m̂ divided by v̂ + ε: the root is missing",
    "uphill": "steps up the slope: the sign is wrong",
    "no lr": "steps that are not multiplied by lr",
}
STILL = (
    "a parameter that has not moved. `p = p - …` makes a new tensor; the model keeps the old one. Or the "
    "parameters were used up: what `model.parameters()` returns can be read only once"
)


@pytest.mark.exercise("AdamW")
class TestAdamW:
    def compare(self, pair, *, what, ask="", **options):
        """The learner's parameters beside those that PyTorch's AdamW has moved with the same gradients."""
        theirs = {"decay" if name == "weight_decay" else name: value for name, value in options.items()}
        expected = dict(pair.twin.named_parameters())
        for place, (name, value) in enumerate(pair.read().items()):
            start, grads = pair.start[name], pair.grads[name]
            mistakes = {
                says: lambda wrong=wrong, s=start, g=grads, p=place: walk(
                    s, g, **theirs, wrong=wrong, place=p
                )
                for wrong, says in WRONG.items()
            }
            expect.array(value, shape=tuple(start.shape), dtype=DOUBLE, what=name)
            still = "Which object does your step change: the very tensor that the model holds?"
            moved = not torch.equal(value, start)
            expect.holds(moved, expected=f"another {name} {what}", got=STILL, ask=still)
            ask = (
                ask
                or "Write m, v, m̂, v̂ for one entry on paper. Which of them does your code compute otherwise?"
            )
            expect.close(
                value,
                expected[name].detach(),
                atol=1e-9,
                rtol=1e-7,
                what=f"{name} {what}",
                ask=ask,
                mistakes=mistakes,
            )

    @pytest.mark.points(1)
    def test_first_step(self, student, rng):
        """moves a model's parameters by one step, in place"""
        n, k = rng.distinct(2)
        pair = Pair(student, rng, n, k)
        options = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 0.01, "weight_decay": 0.5}
        mine = student.AdamW(pair.layer.parameters(), **options)
        theirs = torch.optim.AdamW(pair.twin.parameters(), **options)
        pair.pull(rng.tensor(k, n))
        mine.step()
        theirs.step()
        theta, g = (float(x.flatten()[0]) for x in (pair.start["weight"], pair.grads["weight"][0]))
        ask = (
            f"In entry [0, 0], θ was {theta:.4g} and g is {g:.4g}. In the first step m̂ is g itself and v̂ is g². "
            "What are yours?"
        )
        self.compare(pair, what="after one step", ask=ask, **options)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_first_step")
    def test_agrees_with_pytorch(self, student, rng):
        """agrees with PyTorch's AdamW step after step"""
        n, k = rng.distinct(2)
        pair = Pair(student, rng, n, k)
        options = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 0.01, "weight_decay": 0.5}
        mine = student.AdamW(pair.layer.parameters(), **options)
        theirs = torch.optim.AdamW(pair.twin.parameters(), **options)
        step = mine.step
        for t in range(1, 5):
            pair.pull(rng.tensor(k, n))
            step()
            theirs.step()
            if t in (2, 4):
                self.compare(pair, what=f"after {t} steps", **options)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_first_step")
    @pytest.mark.draws(1)
    def test_small_gradients(self, student, rng):
        """takes a step of nearly lr along a gradient of one millionth"""
        n, k = rng.distinct(2)
        pair = Pair(student, rng, n, k)
        options = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
        pair.pull(torch.full((k, n), 1e-6))
        student.AdamW(pair.layer.parameters(), **options).step()
        value, start = pair.read()["weight"], pair.start["weight"]
        expect.array(value, shape=tuple(start.shape), dtype=DOUBLE, what="the weight")
        moved = ((start - value.detach()) / 0.01).mean().item()
        expected = 1e-6 / (1e-6 + 1e-8)
        ask = "With g = 1e-6, v̂ is 1e-12. Which is larger there, v̂ or ε = 1e-8? And √v̂ or ε?"
        mistakes = {
            "1 % of lr: that is ε under the root, √(v̂ + ε). It drowns small gradients": 1e-6
            / (1e-12 + 1e-8) ** 0.5,
            "76 % of lr: ε was added to √v before the bias correction": 1e-6 / (1e-6 + 1e-8 / 0.001**0.5),
            "all of lr: there is no ε": 1.0,
        }
        expect.close(moved, expected, atol=1e-4, what="a step, as a share of lr,", ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_first_step")
    @pytest.mark.draws(1)
    def test_decay_is_decoupled(self, student, rng):
        """pulls every weight towards zero by the same share, whatever its gradient"""
        n, k = rng.distinct(2)
        pair = Pair(student, rng, n, k)
        pair.pull(torch.zeros(k, n))
        step = student.AdamW(pair.layer.parameters(), lr=0.1, weight_decay=0.2).step
        step()
        step()
        start = pair.start["weight"]
        mistakes = {
            "steps of lr towards zero: the decay went through m̂ / √v̂, which makes any gradient one of size lr": walk(
                start, [torch.zeros_like(start)] * 2, lr=0.1, decay=0.2, wrong="coupled"
            ),
            "no decay at all": start,
            "a decay that is not multiplied by lr": start * 0.8**2,
            "a decay of the wrong sign": start * 1.02**2,
        }
        ask = "Where the gradient is zero, θ becomes θ − lr · weight_decay · θ. Does your code add to the gradient?"
        what = "the weight after two steps without a gradient"
        expect.close(pair.read()["weight"], start * 0.98**2, atol=1e-9, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_first_step")
    @pytest.mark.draws(2)
    def test_defaults(self, student, rng):
        """has PyTorch's default settings"""
        n, k = rng.distinct(2)
        pair = Pair(student, rng, n, k, scale=30.0)  # large weights show the decay, small gradients show eps
        slopes = [rng.tensor(k, n) * 10.0 ** rng.integers(-9, -5, (k, n)) for _ in range(3)]
        mine = student.AdamW(pair.layer.parameters())
        theirs = torch.optim.AdamW(pair.twin.parameters())
        step = mine.step
        for slope in slopes:
            pair.pull(slope)
            step()
            theirs.step()
        found, expected = pair.read(), dict(pair.twin.named_parameters())
        for name, value in found.items():
            changed = {
                "lr": {"lr": 0.01}, "betas": {"betas": (0.9, 0.99)}, "eps": {"eps": 1e-6},
                "weight_decay": {"decay": 0.0}, "weight_decay of 0.1": {"decay": 0.1},
            }  # fmt: skip
            mistakes = {
                f"what another default gives: look at {setting}": walk(
                    pair.start[name], pair.grads[name], **options
                )
                for setting, options in changed.items()
            }
            ask = "The stub gives lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01. Are they used as given?"
            expect.close(
                value, expected[name].detach(), atol=1e-10, rtol=1e-9,
                what=f"{name} after three steps with the default settings", ask=ask, mistakes=mistakes,
            )  # fmt: skip

    @pytest.mark.points(1)
    @pytest.mark.needs("test_first_step")
    @pytest.mark.draws(2)
    def test_without_a_gradient(self, student, rng):
        """leaves a parameter out of a step for which it has no gradient"""
        n, k = rng.distinct(2)
        one, late = Pair(student, rng, n, k), Pair(student, rng, k, n)
        both = student.nn.ModuleList([one.layer, late.layer])
        options = {"lr": 0.1, "weight_decay": 0.3}
        mine = student.AdamW(both.parameters(), **options)
        theirs = torch.optim.AdamW([*one.twin.parameters(), *late.twin.parameters()], **options)
        step = mine.step
        for _ in range(2):
            one.pull(rng.tensor(k, n))
            step()
            theirs.step()
        decayed = late.start["weight"] * 0.97**2
        ask = "`grad` is None where backward has not come by. What does your loop do then?"
        mistakes = {"a parameter that has decayed all the same": decayed}
        what = "the weight of a layer whose grad is None"
        expect.close(
            late.read()["weight"], late.start["weight"], atol=1e-12, what=what, ask=ask, mistakes=mistakes
        )
        late.pull(rng.tensor(n, k))
        step()
        theirs.step()
        start, [g] = late.start["weight"], late.grads["weight"]
        m_hat, v_hat = 0.1 * g / (1 - 0.9**3), 0.001 * g**2 / (1 - 0.999**3)
        mistakes = {
            "a step with t = 3. It is the third step of the others, and the first of this parameter: its m and v have "
            "met one gradient": start - 0.1 * (m_hat / (v_hat.sqrt() + 1e-8) + 0.3 * start)
        }
        ask = (
            "How many gradients are in this parameter's m and v? The bias correction makes up for that many."
        )
        what = "the weight of a layer that gets its first gradient in the third step"
        expected = late.twin.weight.detach()
        expect.close(late.read()["weight"], expected, atol=1e-9, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_first_step")
    @pytest.mark.draws(1)
    def test_zero_grad(self, student, rng):
        """forgets all gradients, when told to and not before"""
        n, k = rng.distinct(2)
        pair = Pair(student, rng, n, k)
        optimizer = student.AdamW(pair.layer.parameters(), lr=0.1)
        pair.pull(rng.tensor(k, n))
        for _ in range(2):  # in the second step m and v are no longer zero
            optimizer.step()
        for name, value in pair.read().items():
            expect.array(value, what=name)
            ask = "Is one of m and v the gradient itself, under another name, and then changed in place?"
            held = value.grad if value.grad is not None else torch.zeros(0)
            expect.close(held, pair.grads[name][0], what=f"after `step`, the gradient of {name}", ask=ask)
        optimizer.zero_grad()
        for name, value in pair.read().items():
            expect.array(value, what=name)
            ask = "Which attribute of each parameter has to become None?"
            gone = value.grad is None or not value.grad.any()
            expect.holds(
                gone, expected=f"no gradient of {name} after zero_grad", got="the old gradient", ask=ask
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_first_step")
    @pytest.mark.draws(1)
    def test_learning_rate(self, student, rng):
        """steps by what `lr` says at that moment"""
        n, k = rng.distinct(2)
        pair = Pair(student, rng, n, k)
        mine = student.AdamW(pair.layer.parameters(), lr=0.1, weight_decay=0.2)
        theirs = torch.optim.AdamW(pair.twin.parameters(), lr=0.1, weight_decay=0.2)
        expect.close(number(mine.lr, "the attribute `lr`"), 0.1, what="the attribute `lr`")
        for lr in (0.1, 0.02):
            mine.lr = theirs.param_groups[0]["lr"] = lr
            pair.pull(rng.tensor(k, n))
            mine.step()
            theirs.step()
        fixed = walk(pair.start["weight"], pair.grads["weight"], lr=0.1, decay=0.2)
        ask = "A schedule sets the attribute `lr` before every step. Where does your step look it up?"
        mistakes = {"steps of the lr that the optimiser was made with": fixed}
        what = "the weight after lr was set from 0.1 to 0.02"
        expected = pair.twin.weight.detach()
        expect.close(pair.read()["weight"], expected, atol=1e-9, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_first_step")
    @pytest.mark.draws(1)
    def test_parameters(self, student, rng):
        """keeps its parameters in a list, for others to read"""
        n, k = rng.distinct(2)
        pair = Pair(student, rng, n, k)
        optimizer = student.AdamW(pair.layer.parameters())
        held = optimizer.parameters
        ask = "`model.parameters()` can be read only once. What keeps what it gives, to be read again and again?"
        is_list = isinstance(held, (list, tuple)) and all(isinstance(p, torch.Tensor) for p in held)
        came = f"{len(held)} things" if isinstance(held, (list, tuple)) else f"{held!r}"[:80]
        expect.holds(is_list, expected="the attribute `parameters` as a list of tensors", got=came, ask=ask)
        shapes = [tuple(p.shape) for p in held]
        expect.holds(
            shapes == [(k, n), (k,)],
            expected=f"parameters of shapes {[(k, n), (k,)]}",
            got=f"{shapes}",
            ask=ask,
        )
        expect.close(held[0].detach(), pair.start["weight"], what="the first of the parameters")


def schedule_by_hand(step, peak, warmup, total, floor):
    """The schedule in another form: (1 + cos πx) / 2 is the square of cos(πx / 2)."""
    if step <= warmup and warmup:
        return peak - peak * (warmup - step) / warmup
    x = (step - warmup) / (total - warmup)
    return floor if x >= 1 else floor + (peak - floor) * math.cos(math.pi / 2 * x) ** 2


def falling(steps, peak, warmup, total, floor, shape, x_of=None):
    """A wrong way down: ``shape`` maps a share x of the way to a height, ``x_of`` a step to x."""
    x_of = x_of or (lambda t: (t - warmup) / (total - warmup))
    return torch.tensor([floor + (peak - floor) * shape(min(x_of(t), 1.0)) for t in steps], dtype=DOUBLE)


def half_wave(x):
    return (1 + math.cos(math.pi * x)) / 2


@pytest.mark.exercise("warmup_cosine")
class TestWarmupCosine:
    def rates(self, student, steps, **options):
        """The learner's rates for some steps, as a tensor."""
        rates = [number(student.warmup_cosine(t, **options), f"the rate of step {t}") for t in steps]
        return torch.tensor(rates, dtype=DOUBLE)

    def expected(self, steps, **options):
        return torch.tensor([schedule_by_hand(t, **options) for t in steps], dtype=DOUBLE)

    def options(self, rng, floor=True):
        warmup = int(rng.integers(4, 7))
        peak = float(rng.uniform(0.5, 2))
        total = warmup + int(rng.integers(5, 9))
        return {"peak": peak, "warmup": warmup, "total": total, "floor": 0.2 * peak if floor else 0.0}

    @pytest.mark.points(1)
    def test_warm_up(self, student, rng):
        """rises along a straight line to the peak"""
        options = self.options(rng)
        peak, w, low = options["peak"], options["warmup"], options["floor"]
        steps = list(range(1, w))
        rise = self.expected(steps, **options)
        share = torch.tensor(steps, dtype=DOUBLE) / w
        mistakes = {
            "one step behind: steps count from 1, so that step 1 already gets peak / warmup": rise - peak / w,
            "one step ahead: step `warmup` gets the peak, not the one before": rise + peak / w,
            "the peak from the first step on: there is no warm-up": torch.full_like(rise, peak),
            "a line that starts at the floor: it starts at 0": low + (peak - low) * share,
            "a line from 0 to 1: it is not multiplied by the peak": share,
            "the rise upside down: warmup / step": peak / share,
            "a line that has not reached the peak by step `warmup`: it is divided by total": peak
            * share * w / options["total"],
            "a line over warmup + 1 steps": peak * share * w / (w + 1),
            "0: the share step / warmup was cut to a whole number": 0 * rise,
            "the falling cosine: steps before `warmup` belong to the line": torch.tensor(
                [low + (peak - low) * half_wave((t - w) / (options["total"] - w)) for t in steps], dtype=DOUBLE
            ),
        }  # fmt: skip
        out = self.rates(student, steps, **options)
        ask = "Which share of the peak does step 1 get, and which step `warmup`?"
        what = f"the rates of steps 1 to {w - 1} (index 0 is step 1)"
        expect.close(out, rise, atol=1e-7, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_warm_up")
    def test_cosine(self, student, rng):
        """falls along half a cosine wave to the floor"""
        options = self.options(rng)
        peak, w, n, low = options.values()
        steps = list(range(w, n + 1))
        mistakes = {
            "a straight line down": falling(steps, **options, shape=lambda x: 1 - x),
            "a quarter of a cosine wave: cos(πx / 2)": falling(
                steps, **options, shape=lambda x: math.cos(math.pi * x / 2)
            ),
            "cos πx as it is, which goes down to −1": falling(
                steps, **options, shape=lambda x: math.cos(math.pi * x)
            ),
            "1 + cos πx without the half: it starts at twice the height": falling(
                steps, **options, shape=lambda x: 2 * half_wave(x)
            ),
            "cos x without π": falling(steps, **options, shape=lambda x: (1 + math.cos(x)) / 2),
            "the cosine of 180 x: `math.cos` takes radians, not degrees": falling(
                steps, **options, shape=lambda x: (1 + math.cos(180 * x)) / 2
            ),
            "cos 2πx: a whole wave, down and up again": falling(
                steps, **options, shape=lambda x: (1 + math.cos(2 * math.pi * x)) / 2
            ),
            "a rising wave: 1 − cos πx": falling(steps, **options, shape=lambda x: 1 - half_wave(x)),
            "a wave over all `total` steps: x should be 0 at step `warmup`": falling(
                steps, **options, shape=half_wave, x_of=lambda t: t / n
            ),
            "a wave that begins at `warmup` and takes `total` steps: x should be 1 at step `total`": falling(
                steps, **options, shape=half_wave, x_of=lambda t: (t - w) / n
            ),
            "a wave that is one step behind": falling(
                steps, **options, shape=half_wave, x_of=lambda t: (t - 1 - w) / (n - w)
            ),
            "a wave that ends one step early": falling(
                steps, **options, shape=half_wave, x_of=lambda t: (t - w) / (n - w - 1)
            ),
            "a wave down to 0: the floor is not used": falling(steps, peak, w, n, 0.0, half_wave),
            "the floor on top of the wave: it starts at peak + floor": low
            + falling(steps, peak, w, n, 0.0, half_wave),
            "a wave to 0, cut off at the floor": falling(steps, peak, w, n, 0.0, half_wave).clamp(min=low),
        }
        out = self.rates(student, steps, **options)
        ask = "What is x at step `warmup`, half-way, and at step `total`? And the height there?"
        what = f"the rates of steps {w} to {n} (index 0 is step {w}, the peak)"
        expect.close(out, self.expected(steps, **options), atol=1e-7, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_cosine")
    def test_after_the_end(self, student, rng):
        """stays at the floor after the last step, and the floor is 0 if none is given"""
        options = self.options(rng)
        n, low = options["total"], options["floor"]
        steps = [n + 1, n + 2, 2 * n, 5 * n]
        out = self.rates(student, steps, **options)
        width = n - options["warmup"]
        rising = [low + (options["peak"] - low) * half_wave((t - options["warmup"]) / width) for t in steps]
        mistakes = {
            "rates that rise again: a cosine wave does not stop by itself at x = 1": torch.tensor(
                rising, dtype=DOUBLE
            ),
            "zeros: after the end it is the floor": torch.zeros(len(steps), dtype=DOUBLE),
        }
        ask = "How large may x become at most?"
        what = f"the rates of steps {steps} (the end is at {n})"
        expect.close(out, torch.full_like(out, low), atol=1e-9, what=what, ask=ask, mistakes=mistakes)
        del options["floor"]
        steps = [n - 1, n]
        out = self.rates(student, steps, **options)
        expected = self.expected(steps, **options, floor=0.0)
        ask = "What is the default of `floor` in the stub?"
        expect.close(out, expected, atol=1e-9, what="the last two rates without a floor", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_cosine")
    @pytest.mark.draws(2)
    def test_short_and_long_warm_up(self, student, rng):
        """works without a warm-up, and with one that leaves a single step"""
        options = {**self.options(rng), "warmup": 0}
        steps = [1, 2, options["total"]]
        out = self.rates(student, steps, **options)
        ask = "With warmup=0 the cosine begins at step 0. Does your code divide by warmup?"
        what = f"the rates of steps {steps} with warmup=0"
        expect.close(out, self.expected(steps, **options), atol=1e-7, what=what, ask=ask)
        options["warmup"] = options["total"] - 1
        steps = [1, options["total"] - 1, options["total"]]
        out = self.rates(student, steps, **options)
        ask = "With warmup = total − 1 the wave has a single step, from the peak to the floor."
        what = f"the rates of steps {steps} with warmup={options['warmup']}, total={options['total']}"
        expect.close(out, self.expected(steps, **options), atol=1e-7, what=what, ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.draws(1)
    def test_refuses_impossible_settings(self, student, rng):
        """raises ValueError where the warm-up leaves no step for the wave"""
        options = self.options(rng)
        n = options["total"]
        ask = "Between which two numbers must warmup lie?"
        for warmup in (n, n + 2, -1):
            when = f"for warmup={warmup}, total={n}"
            settings = {**options, "warmup": warmup}
            for step in (1, n + 1):
                expect.raises(
                    ValueError, lambda t=step, s=settings: student.warmup_cosine(t, **s), when=when, ask=ask
                )
        number(student.warmup_cosine(1, **{**options, "warmup": n - 1}), "the rate of step 1")
        number(student.warmup_cosine(1, **{**options, "warmup": 0}), "the rate of step 1")


@pytest.mark.exercise("clip_grad_norm")
class TestClipGradNorm:
    def pull(self, pair, rng, length):
        """Give a pair gradients that have a length together; return them by name."""
        slopes = rng.tensor(*pair.start["weight"].shape, dtype=DOUBLE)
        # The weight's gradient is `slopes`, that of the bias its row sums.
        pair.pull(slopes * length / self.length([slopes, slopes.sum(1)]))
        return {name: grads[-1] for name, grads in pair.grads.items()}

    def length(self, grads):
        """Entry by entry: the root of the sum of squares."""
        return math.sqrt(math.fsum(entry**2 for grad in grads for entry in grad.flatten().tolist()))

    def held(self, pair):
        """The gradients that the learner's parameters hold now."""
        found = {}
        for name, value in pair.read().items():
            expect.array(value, what=f"the parameter {name}")
            ask = "Clipping shortens gradients; it does not remove them. What became of `grad`?"
            expect.holds(value.grad is not None, expected=f"a gradient of {name}", got="None", ask=ask)
            found[name] = value.grad
        return found

    @pytest.mark.points(1)
    def test_returns_the_length(self, student, rng):
        """returns the length of all gradients together, before clipping"""
        pair = Pair(student, rng, *rng.distinct(2))
        for length, limit in ((10.0, 4.0), (3.0, 7.0)):
            grads = self.pull(pair, rng, length)
            out = student.clip_grad_norm(pair.layer.parameters(), limit)
            out = number(out, "the length")
            each = [self.length([grad]) for grad in grads.values()]
            mistakes = {
                "the length after clipping": min(limit, length),
                "max_norm": limit,
                "the lengths of the parameters' gradients, added: squares add, lengths do not": sum(each),
                "the length of the longest gradient alone": max(each),
                "the length of the first parameter's gradient alone": each[0],
                "the length of the last parameter's gradient alone": each[-1],
                "the sum of the squares: the root is missing": length**2,
                "the largest entry": max(float(grad.abs().max()) for grad in grads.values()),
                "the root of a mean, where the squares are to be summed": length
                / math.sqrt(sum(grad.numel() for grad in grads.values())),
                "the root of the sum of each gradient's mean square": math.sqrt(
                    sum(float(grad.square().mean()) for grad in grads.values())
                ),
                "the factor": limit / length,
                "the factor, at most 1": min(1.0, limit / length),
                "the sum of the absolute values": sum(float(grad.abs().sum()) for grad in grads.values()),
                "the length of the parameters, not of their gradients": self.length(pair.start.values()),
                "zero: what `model.parameters()` gives can be read only once. Was it empty by then?": 0.0,
            }
            ask = (
                "Gradients (6) and (0, 8) have the length 10 together. What would your code return for them?"
            )
            what = "the length of all gradients together"
            expect.close(out, length, atol=1e-4, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_returns_the_length")
    def test_shortens_long_gradients(self, student, rng):
        """scales gradients that are too long to max_norm, all by one factor"""
        pair = Pair(student, rng, *rng.distinct(2))
        for length, limit in ((10.0, 1.5), (0.5, 0.07)):
            grads = self.pull(pair, rng, length)
            student.clip_grad_norm(pair.layer.parameters(), limit)
            found = self.held(pair)
            for name, grad in grads.items():
                alone = self.length([grad])
                mistakes = {
                    "the gradient as it was. Either the parameters could be read only once, and were used up by "
                    "the length, or the scaled gradients were not put back": grad,
                    "this parameter clipped by its own length: the length is that of all gradients together": grad
                    * min(1.0, limit / alone),
                    "a factor of its own for this parameter, by its own length": grad * limit / alone,
                    "each entry cut off at max_norm, which changes the direction": grad.clamp(-limit, limit),
                    "a gradient of length 1: max_norm is missing in the factor": grad / length,
                    "the factor upside down: it is max_norm / length": grad * length / limit,
                    "max_norm divided by the sum of squares: the root is missing": grad * limit / length**2,
                    "the gradient times max_norm": grad * limit,
                    "a gradient scaled twice": grad * (limit / length) ** 2,
                    "zeros": torch.zeros_like(grad),
                }
                ask = f"The length of all together is {length}, max_norm is {limit}. By which factor do they shrink?"
                expect.close(
                    found[name],
                    grad * limit / length,
                    what=f"the gradient of {name}",
                    ask=ask,
                    mistakes=mistakes,
                )

    @pytest.mark.points(2)
    @pytest.mark.needs("test_returns_the_length")
    def test_leaves_short_gradients_alone(self, student, rng):
        """leaves gradients that are short enough exactly as they are"""
        pair = Pair(student, rng, *rng.distinct(2))
        for length, limit in ((3.0, 7.0), (1e-3, 1.0), (0.99, 1.0)):
            grads = self.pull(pair, rng, length)
            student.clip_grad_norm(pair.layer.parameters(), limit)
            found = self.held(pair)
            for name, grad in grads.items():
                mistakes = {
                    "a gradient made longer, to max_norm: clipping only ever shortens": grad * limit / length,
                    "a gradient made a little longer": grad * limit / (length + 1e-6),
                    "each entry cut off": grad.clamp(-limit, limit),
                    "zeros": torch.zeros_like(grad),
                }
                ask = f"The length is {length} and max_norm is {limit}. What is there to clip?"
                what = f"the gradient of {name}"
                expect.close(found[name], grad, atol=0.0, rtol=1e-7, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_returns_the_length")
    @pytest.mark.draws(1)
    def test_missing_and_zero_gradients(self, student, rng):
        """takes parameters without a gradient, and gradients that are all zero"""
        n, k = rng.distinct(2)
        pair = Pair(student, rng, n, k)
        grads = self.pull(pair, rng, 10.0)
        both = student.nn.ModuleList([student.nn.Linear(n, k), pair.layer])
        out = number(student.clip_grad_norm(both.parameters(), 5.0), "the length")
        ask = "A parameter whose `grad` is None has no part. Does your code leave it out?"
        expect.close(out, 10.0, atol=1e-4, what="the length, where one layer has no gradient,", ask=ask)
        expect.close(
            self.held(pair)["weight"], grads["weight"] / 2, what="the gradient of the other layer", ask=ask
        )
        bare = student.nn.Linear(n, k)
        out = number(student.clip_grad_norm(bare.parameters(), 5.0), "the length")
        expect.close(out, 0.0, what="the length, where nothing has a gradient,", ask=ask)
        pair.pull(torch.zeros_like(grads["weight"]))
        out = number(student.clip_grad_norm(pair.layer.parameters(), 5.0), "the length")
        ask = "With a length of 0, what is max_norm divided by it? And is there anything to shorten?"
        expect.close(out, 0.0, what="the length of gradients that are all zero", ask=ask)
        found = self.held(pair)["weight"]
        expect.close(
            found, torch.zeros_like(grads["weight"]), what="a gradient of zeros, after clipping,", ask=ask
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_returns_the_length")
    @pytest.mark.draws(1)
    def test_leaves_parameters_alone(self, student, rng):
        """changes gradients only, never the parameters themselves"""
        pair = Pair(student, rng, *rng.distinct(2))
        self.pull(pair, rng, 10.0)
        student.clip_grad_norm(pair.layer.parameters(), 4.0)
        for name, value in pair.read().items():
            ask = "Which tensor does your code scale, the parameter or its `grad`?"
            expect.close(value, pair.start[name], atol=0.0, rtol=0.0, what=f"the parameter {name}", ask=ask)
