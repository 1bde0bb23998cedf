"""Checks of unit 11, first half: layer norm, feed-forward net, residual connection.

Every check draws fresh inputs. Answers are judged by PyTorch's own operators or by a property. Dropout is random: its
checks ask whether every row is one of the rows that some choice of zeros leads to.
"""

import itertools

import pytest
import torch
import torch.nn.functional as F

from proctor import expect

DOUBLE = torch.float64
ALL = 1 - 1e-9  # as a dropout: everything, for code too that divides by 1 − p


def sizes(rng, count):
    """Different sizes, none of them 4: that is the width wherever a biased variance must show."""
    return [size for size in rng.distinct(7, low=2, high=8) if size != 4][:count]


def loaded(module, rng, shapes, ask):
    """The learner's module with weights that we have drawn, none of them near zero or one, and these weights."""
    expect.parameters(module, shapes, ask=ask)
    weights = {name: rng.tensor(*shape, scale=0.7) for name, shape in shapes.items()}
    weights = {name: weight + 0.4 * weight.sign() for name, weight in weights.items()}
    module.load_state_dict(weights, strict=False)  # a buffer of the learner's own may keep what it holds
    return module, weights


def learns(module, copies, ask):
    """Expect the gradients of the learner's parameters to be those of our copies of them."""
    found = expect.parameters(module, {name: tuple(copy.shape) for name, copy in copies.items()})
    for name, copy in copies.items():
        grad = found[name].grad
        expect.holds(grad is not None, expected=f"a gradient for {name}", got="none", ask=ask)
        expect.close(grad, copy.grad, what=f"the gradient of {name}", ask=ask)


def norm_by_hand(x, weight, bias, eps=1e-5, dims=-1, correction=0, how="inside"):
    """Layer norm in float64, or what a mistake makes of it."""
    x, weight, bias = x.double(), weight.double(), bias.double()
    deviation = x - x.mean(dims, keepdim=True)
    variance = x.var(dims, correction=correction, keepdim=True)
    root = {
        "inside": (variance + eps).sqrt(),
        "outside": variance.sqrt() + eps,
        "no eps": variance.sqrt(),
        "at least eps": variance.clamp(min=eps).sqrt(),
        "no root": variance + eps,
        "sum": (variance * x.shape[-1] + eps).sqrt(),
        "absolute": deviation.abs().mean(dims, keepdim=True) + eps,
    }.get(how, (variance + eps).sqrt())
    if how == "mean stays":
        deviation = x
    if how in ("mean square", "square of rows"):
        root = (x.square().mean(dims, keepdim=True) + eps).sqrt()
        deviation = x if how == "mean square" else deviation
    return deviation / root * weight + bias


def norm_mistakes(x, weight, bias, eps):
    """What the known mistakes make of x (B, T, D)."""

    def by(**changes):
        return lambda: norm_by_hand(x, weight, bias, eps, **changes)

    plain, zero = torch.ones_like(weight), torch.zeros_like(bias)
    return {
        "every feature normalised over time, by a mean over T: a row then depends on later ones": by(dims=-2),
        "every feature normalised over the batch, by a mean over B": by(dims=0),
        "every feature normalised over batch and time, as batch norm does": by(dims=(0, 1)),
        "each sequence normalised as a whole: its rows shared one mean over T and D": by(dims=(-2, -1)),
        "the whole batch normalised at once: all rows shared one mean": by(dims=(0, 1, 2)),
        "an unbiased variance: the sum of the squared deviations was divided by D − 1, not by D": by(
            correction=1
        ),
        "deviations divided by the variance: the root is missing": by(how="no root"),
        "deviations divided by the root of the sum of their squares: the variance is their mean": by(
            how="sum"
        ),
        "deviations divided by their mean absolute value: the variance is the mean of their squares": by(
            how="absolute"
        ),
        "rows divided by their root mean square, from which no mean was taken": by(how="mean square"),
        "deviations divided by the root mean square of the row as it came: it is the deviations that are squared": by(
            how="square of rows"
        ),
        "rows from which the mean was not taken, divided by their standard deviation": by(how="mean stays"),
        "normalised rows before `weight` and `bias`": norm_by_hand(x, plain, zero, eps),
        "rows without the shift by `bias`": norm_by_hand(x, weight, zero, eps),
        "rows without the stretch by `weight`": norm_by_hand(x, plain, bias, eps),
        "rows stretched after the shift: `weight` multiplied `bias` too": norm_by_hand(
            x, weight, bias * weight, eps
        ),
        "rows stretched by 1 + `weight`": norm_by_hand(x, 1 + weight, bias, eps),
        "`weight` and `bias` in each other's place": norm_by_hand(x, bias, weight, eps),
    }


@pytest.mark.exercise("LayerNorm")
class TestLayerNorm:
    def layer(self, student, rng, D, **options):
        m = student.LayerNorm(D, **options)
        ask = "Are `weight` and `bias` two nn.Parameter of shape (D,), made in __init__ after super().__init__()?"
        return loaded(m, rng, {"weight": (D,), "bias": (D,)}, ask)

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns a weight of ones and a bias of zeros"""
        D = rng.distinct(1, low=3)[0]
        m = student.LayerNorm(D)
        ask = "Are `weight` and `bias` two nn.Parameter of shape (D,), made in __init__ after super().__init__()?"
        found = expect.parameters(m, {"weight": (D,), "bias": (D,)}, ask=ask)
        ask = "A new layer should only normalise. Which stretch and which shift change nothing?"
        expect.close(found["weight"].detach(), torch.ones(D), what="the new `weight`", ask=ask)
        expect.close(found["bias"].detach(), torch.zeros(D), what="the new `bias`", ask=ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_agrees_with_pytorch(self, student, rng):
        """agrees with PyTorch on rows of four features"""
        B, T = sizes(rng, 2)
        m, weights = self.layer(student, rng, 4)
        x = rng.tensor(B, T, 4, scale=2.0) + 3.0
        out = m(x)
        ask = (
            "Write one row of 4 on paper: its mean, its deviations, the mean of their squares. Which differs?"
        )
        expect.close(
            out, F.layer_norm(x, (4,), weights["weight"], weights["bias"]), atol=1e-4, what="the output",
            ask=ask, mistakes=norm_mistakes(x, **weights, eps=1e-5),
        )  # fmt: skip

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_leading_dimensions(self, student, rng):
        """works on one row, on a sequence, and on any number of leading dimensions"""
        D, B, H, T = sizes(rng, 4)
        m, weights = self.layer(student, rng, D)
        for shape in [(D,), (T, D), (B, H, T, D), (1, 1, D)]:
            x = rng.tensor(*shape)
            expected = F.layer_norm(x, (D,), weights["weight"], weights["bias"])
            ask = "Do you count the dimension from the end, and keep it (keepdim=True) so that it broadcasts?"
            expect.close(m(x), expected, atol=1e-4, what="the output", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_tiny_rows(self, student, rng):
        """adds eps under the root, where tiny rows show it"""
        B, T = sizes(rng, 2)
        for options in ({}, {"eps": 10.0 ** -int(rng.integers(3, 5))}):
            m, weights = self.layer(student, rng, 4, **options)
            eps = options.get("eps", 1e-5)
            x = rng.tensor(B, T, 4, scale=0.5 * eps**0.5)

            def by(how="inside", x=x, weights=weights, eps=eps, correction=0):
                return norm_by_hand(x, **weights, eps=eps, how=how, correction=correction)

            mistakes = {
                "eps outside the root, √variance + eps: these rows come out much larger": by("outside"),
                "rows normalised without eps, or with one that was squared": by("no eps"),
                "a variance raised to at least eps: eps is to be added": by("at least eps"),
                "an unbiased variance, divided by D − 1": by(correction=1),
                "the eps that `__init__` was given left aside: this is what 1e-5 gives": by(eps=1e-5),
            }
            ask = f"The entries are near {0.5 * eps**0.5:.1g}, the variance below eps = {eps:g}. Where does eps enter?"
            expected = F.layer_norm(x, (4,), weights["weight"], weights["bias"], eps)
            expect.close(m(x), expected, what="the output", ask=ask, mistakes=mistakes)
            m.eval()
            ask = "A layer norm does the same in training and in evaluation. Which line of yours looks at the mode?"
            expect.close(m(x), expected, what="the output in evaluation mode", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_rows_of_equal_features(self, student, rng):
        """stays finite where all features are equal, forwards and backwards"""
        D, T = sizes(rng, 2)
        m, weights = self.layer(student, rng, D)
        x = torch.full((1, T, D), float(rng.integers(-3, 4)))
        expected = weights["bias"].expand(1, T, D)
        ask = "Deviations and variance are zero here. What does eps, added to the variance, turn 0 / 0 into?"
        expect.close(
            m(x), expected, atol=1e-3, what="the output", ask=ask
        )  # eps magnifies what was rounded off
        given, leaf = rng.tensor(1, T, D), x.clone().requires_grad_()
        (F.layer_norm(leaf, (D,), weights["weight"], weights["bias"]) * given).sum().backward()
        out = m(x.requires_grad_())
        expect.array(out, shape=(1, T, D), dtype=torch.float32)
        ask = "The root has an infinite slope at 0. What stands under your root where the variance is 0?"
        found = expect.gradient(out, x, given)
        expect.close(found, leaf.grad, atol=1e-2, rtol=1e-3, what="the gradient of x", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_far_from_zero(self, student, rng):
        """stays exact for rows far from zero"""
        B, T = sizes(rng, 2)
        m, weights = self.layer(student, rng, 4)
        x = (rng.tensor(B, T, 4) * 8).round() / 8 + 4096  # exact in float32
        expected = norm_by_hand(x, **weights)
        ask = (
            "Near 4096 the mean of the squares and the square of the mean agree in all digits that float32 has. "
            "Do you square the deviations from the mean?"
        )
        expect.close(m(x).double(), expected, atol=1e-3, rtol=1e-3, what="the output", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_reach(self, student, rng):
        """makes each row from itself alone"""
        B, T, D = 2, int(rng.integers(3, 5)), 5
        m, _ = self.layer(student, rng, D)
        allowed = torch.eye(B * T, dtype=torch.bool).view(B, T, B, T)

        def normed(x):
            out = m(x)
            expect.array(out, shape=(B, T, D), dtype=torch.float32)
            return out

        expect.reaches(normed, rng.tensor(B, T, D), allowed)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_inputs_and_gradients(self, student, rng):
        """leaves x alone, works in float64, and sends the right gradients back"""
        B, T, D = sizes(rng, 3)
        m, weights = self.layer(student, rng, D)
        m.double()
        x, given = rng.tensor(B, T, D, dtype=DOUBLE), rng.tensor(B, T, D, dtype=DOUBLE)
        with expect.unchanged(x=x):
            m(x)
        expect.gradients(m, x=x)
        copies = {name: weight.double().requires_grad_() for name, weight in weights.items()}
        (F.layer_norm(x, (D,), copies["weight"], copies["bias"]) * given).sum().backward()
        out = m(x.requires_grad_())
        expect.array(out, shape=(B, T, D), dtype=DOUBLE)
        m.zero_grad()
        expect.gradient(out, x, given)
        learns(m, copies, "Are `weight` and `bias` used as they are, on the graph?")


@pytest.mark.exercise("FeedForward")
class TestFeedForward:
    ASK = "Are `hidden`, D to F, and `output`, F to D, two nn.Linear with a bias, made in __init__?"

    def net(self, student, rng, D, wide, *activation, **options):
        m = student.FeedForward(D, wide, *activation, **options)
        shapes = {
            "hidden.weight": (wide, D),
            "hidden.bias": (wide,),
            "output.weight": (D, wide),
            "output.bias": (D,),
        }
        return loaded(m, rng, shapes, self.ASK)

    def by_hand(self, x, w, activation=torch.relu):
        x, w = x.double(), {name: weight.double() for name, weight in w.items()}
        hidden = activation(F.linear(x, w["hidden.weight"], w["hidden.bias"]))
        return F.linear(hidden, w["output.weight"], w["output.bias"])

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns two linear maps, from D to F and back"""
        D, wide = rng.distinct(2)
        self.net(student, rng, D, wide)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_agrees_with_pytorch(self, student, rng):
        """widens, bends by a ReLU, and narrows"""
        B, T, D, wide = sizes(rng, 4)
        m, w = self.net(student, rng, D, wide)
        m.eval()
        for shape in [(B, T, D), (D,), (1, 1, D), (2, B, T, D)]:
            x = rng.tensor(*shape)
            out, expected = m(x), self.by_hand(x, w)
            linear = self.by_hand(x, w, lambda z: z)
            narrow = {name: (0 if name.endswith("bias") else 1) * weight for name, weight in w.items()}
            mistakes = {
                "two linear maps with nothing between them, which are one linear map": linear,
                "a ReLU behind `output`, where it belongs between the two maps": linear.relu(),
                "a second ReLU, behind `output`: the result may be negative": expected.relu(),
                "a ReLU before `hidden`": self.by_hand(x.relu(), w, lambda z: z),
                "a ReLU before `hidden` as well": self.by_hand(x.relu(), w),
                "the result added to x: that is the work of the residual connection": expected + x,
                "a GELU, where nothing but ReLU was asked for": self.by_hand(x, w, F.gelu),
                "tanh in the place of the ReLU": self.by_hand(x, w, torch.tanh),
                "a sigmoid in the place of the ReLU": self.by_hand(x, w, torch.sigmoid),
                "a leaky ReLU, which lets a hundredth of what is negative through": self.by_hand(
                    x, w, F.leaky_relu
                ),
                "a softmax in the place of the ReLU": self.by_hand(x, w, lambda z: z.softmax(-1)),
                "the maps without their biases": self.by_hand(x, narrow),
                "the inner row, F wide: `output` is still to come": F.linear(
                    x, w["hidden.weight"], w["hidden.bias"]
                ).relu(),
            }
            ask = "What happens to a negative entry of the inner row, and what to a negative entry of the result?"
            expect.close(out, expected.float(), atol=1e-4, what="the output", ask=ask, mistakes=mistakes)
        m.train()
        ask = "Is there a dropout in your net? It belongs to the residual connection, around the net."
        expect.close(m(x), expected.float(), atol=1e-4, what="the output in training mode", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_activation(self, student, rng):
        """bends by the activation that it was given"""
        B, T, D, wide = sizes(rng, 4)
        x = rng.tensor(B, T, D)

        def activation(z):
            return torch.sin(z)

        for m, w in (
            self.net(student, rng, D, wide, activation),
            self.net(student, rng, D, wide, activation=activation),
        ):
            mistakes = {
                "a ReLU, though `__init__` was given another activation": self.by_hand(x, w),
                "the activation, and then a ReLU": self.by_hand(x, w, lambda z: torch.sin(z).relu()),
                "a ReLU, and then the activation": self.by_hand(x, w, lambda z: torch.sin(z.relu())),
                "the activation applied behind `output` too": self.by_hand(x, w, torch.sin).sin(),
            }
            ask = "Where does `__init__` keep the activation, and where does `forward` call it?"
            expected = self.by_hand(x, w, torch.sin).float()
            out = m(x)
            expect.close(out.detach() if isinstance(out, torch.Tensor) else out, expected, atol=1e-4,
                         what="the output", ask=ask, mistakes=mistakes)  # fmt: skip

    @pytest.mark.points(1)
    @pytest.mark.needs("test_parameters")
    def test_reach(self, student, rng):
        """treats every position by itself"""
        B, T, D, wide = (
            2,
            int(rng.integers(3, 5)),
            5,
            30,
        )  # wide enough that no row is bent to zero throughout
        m, _ = self.net(student, rng, D, wide)

        def bent(x):
            out = m(x)
            expect.array(out, shape=(B, T, D), dtype=torch.float32)
            return out

        allowed = torch.eye(B * T, dtype=torch.bool).view(B, T, B, T)
        expect.reaches(bent, rng.tensor(B, T, D), allowed)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_agrees_with_pytorch")
    def test_inputs_and_gradients(self, student, rng):
        """leaves x alone, works in float64, and trains both maps"""
        B, T, D, wide = sizes(rng, 4)
        m, w = self.net(student, rng, D, wide)
        m.double()
        x, given = rng.tensor(B, T, D, dtype=DOUBLE), rng.tensor(B, T, D, dtype=DOUBLE)
        with expect.unchanged(x=x):
            m(x)
        expect.gradients(m, x=x)
        copies = {name: weight.double().requires_grad_() for name, weight in w.items()}
        (self.by_hand(x, copies) * given).sum().backward()
        out = m(x.requires_grad_())
        expect.array(out, shape=(B, T, D), dtype=DOUBLE)
        m.zero_grad()
        expect.gradient(out, x, given)
        learns(m, copies, "Is each map called as a module, on the graph, whenever forward runs?")


def found_by(y):
    """What the sub-layers of these checks make of a row: no entry of it is near zero."""
    return 2 + torch.sin(y + y.roll(1, -1))


class Sublayer:
    """A sub-layer that counts its calls."""

    def __init__(self):
        self.seen = []

    def __call__(self, *args, **kwargs):
        one = len(args) == 1 and not kwargs
        got = f"{len(args) + len(kwargs)} arguments"
        ask = "The sub-layer knows all else that it needs. What does your forward hand to it?"
        expect.holds(one, expected="a call of the sub-layer with one argument", got=got, ask=ask)
        expect.array(args[0], what="what the sub-layer is called with")
        self.seen.append(tuple(args[0].shape))
        return found_by(args[0].detach())


@pytest.mark.exercise("Residual")
class TestResidual:
    def part(self, student, rng, D, *options, **named):
        m = student.Residual(D, *options, **named)
        ask = "`norm` is a LayerNorm of width D, made in __init__; a dropout has no parameters. What else is there?"
        m, weights = loaded(m, rng, {"norm.weight": (D,), "norm.bias": (D,)}, ask)
        return m, lambda x: norm_by_hand(x, weights["norm.weight"], weights["norm.bias"])

    def compare(self, student, rng, m, norm, expected, mistakes, ask):
        """One call, in evaluation mode, beside what is expected of x, and how often the sub-layer was called."""
        B, T, D = *sizes(rng, 2), 4
        x, sublayer = rng.tensor(B, T, D), Sublayer()
        out = m(x, sublayer)
        out = out.detach() if isinstance(out, torch.Tensor) else out
        wrong = {says: lambda f=f, x=x: f(x.double()).float() for says, f in mistakes.items()}
        expect.close(out, expected(x.double()).float(), atol=1e-4, what="the output", ask=ask, mistakes=wrong)
        expect.holds(
            len(sublayer.seen) == 1,
            expected="one call of the sub-layer",
            got=f"{len(sublayer.seen)} calls",
            ask="A second call costs as much as the first, and with dropout inside gives another result. Who makes it?",
        )

    @pytest.mark.points(1)
    def test_parameters(self, student, rng):
        """owns a norm and nothing else that is trained"""
        D = rng.distinct(1)[0]
        self.part(student, rng, D)
        self.part(student, rng, D, 0.2, norm_first=True)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_post_norm(self, student, rng):
        """adds what the sub-layer finds, and then norms the sum"""
        f = found_by
        for options in ((0.0,), (0.0, False)):
            m, norm = self.part(student, rng, 4, *options)
            m.eval()
            mistakes = {
                "x + sublayer(norm(x)): that is pre-norm, and `norm_first` is False": lambda x, n=norm: x + f(n(x)),
                "x + norm(sublayer(x)): x was added behind the norm": lambda x, n=norm: x + n(f(x)),
                "norm(sublayer(x)): there is no residual connection": lambda x, n=norm: n(f(x)),
                "x + sublayer(x): there is no norm": lambda x: x + f(x),
                "norm(x): what the sub-layer found was not added": lambda x, n=norm: n(x),
                "what the sub-layer found, and nothing else": f,
                "norm(x) + sublayer(x): the sum, not x, goes through the norm": lambda x, n=norm: n(x) + f(x),
                "norm(x) + sublayer(norm(x)): the residual connection goes around the norm": lambda x, n=norm: (
                    n(x) + f(n(x))
                ),
                "norm(x + sublayer(norm(x))): normed before and behind": lambda x, n=norm: n(x + f(n(x))),
                "norm(norm(x) + sublayer(norm(x))): normed before and behind": lambda x, n=norm: n(n(x) + f(n(x))),
                "norm(sublayer(x)) + norm(x): it is their sum that is normed": lambda x, n=norm: n(f(x)) + n(x),
                "x − sublayer(x), normed: the two are added": lambda x, n=norm: n(x - f(x)),
                "norm(sublayer(x + sublayer(x)))": lambda x, n=norm: n(f(x + f(x))),
                "x + norm(x + sublayer(x)): x was added twice": lambda x, n=norm: x + n(x + f(x)),
                "norm(norm(x + sublayer(x))): normed twice": lambda x, n=norm: n(n(x + f(x))),
                "(x + sublayer(x)) / √2, normed or not": lambda x: (x + f(x)) / 2**0.5,
            }  # fmt: skip
            ask = "Post-norm: sub-layer, then sum, then norm. In which order do the three stand in your code?"
            self.compare(student, rng, m, norm, lambda x, n=norm: n(x + f(x)), mistakes, ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_parameters")
    def test_pre_norm(self, student, rng):
        """norms what the sub-layer reads, and leaves the stream alone"""
        m, norm = self.part(student, rng, 4, 0.0, norm_first=True)
        m.eval()
        f = found_by
        mistakes = {
            "norm(x + sublayer(x)): that is post-norm, and `norm_first` is True": lambda x: norm(x + f(x)),
            "norm(x) + sublayer(norm(x)): the residual connection starts behind the norm, not at x": lambda x: (
                norm(x) + f(norm(x))
            ),
            "norm(x) + sublayer(x): norm and sub-layer changed places": lambda x: norm(x) + f(x),
            "x + norm(sublayer(x)): the norm stands behind the sub-layer": lambda x: x + norm(f(x)),
            "x + norm(sublayer(norm(x))): normed before and behind": lambda x: x + norm(f(norm(x))),
            "norm(x + sublayer(norm(x))): normed before and behind": lambda x: norm(x + f(norm(x))),
            "norm(norm(x) + sublayer(norm(x))): normed before and behind": lambda x: norm(
                norm(x) + f(norm(x))
            ),
            "sublayer(norm(x)): there is no residual connection": lambda x: f(norm(x)),
            "x + sublayer(x): there is no norm": lambda x: x + f(x),
            "x + norm(x): the sub-layer was not called, or its result not used": lambda x: x + norm(x),
            "x as it came": lambda x: x,
            "x − sublayer(norm(x)): the two are added": lambda x: x - f(norm(x)),
            "x + norm(x) + sublayer(norm(x)): one term too many": lambda x: x + norm(x) + f(norm(x)),
            "x + x + sublayer(norm(x)): one x too many": lambda x: x + x + f(norm(x)),
            "x · sublayer(norm(x)): the two are added": lambda x: x * f(norm(x)),
        }
        ask = "Pre-norm: norm, then sub-layer, then sum with x as it came. Which of them touches the stream itself?"
        self.compare(student, rng, m, norm, lambda x: x + f(norm(x)), mistakes, ask)

    def rows(self, student, rng, p, norm_first):
        """Outputs (N, 4) in training, what they were made from, and the norm."""
        m, norm = self.part(student, rng, 4, p, norm_first)
        m.train()
        x = rng.tensor(4, 50, 4)
        out = m(x, Sublayer())
        expect.array(out, shape=(4, 50, 4), dtype=torch.float32)
        return out.detach().double().view(200, 4), x.double().view(200, 4), norm

    @pytest.mark.points(2)
    @pytest.mark.needs("test_post_norm")
    @pytest.mark.needs("test_pre_norm")
    @pytest.mark.draws(2)
    def test_dropout_in_training(self, student, rng):
        """drops entries of what the sub-layer finds, and nothing else, in training"""
        p = float(rng.choice([0.3, 0.6]))
        keeps = torch.tensor(
            list(itertools.product([0.0, 1.0], repeat=4)), dtype=DOUBLE
        )  # (16, 4): what may stay
        for norm_first in (False, True):
            out, x, norm = self.rows(student, rng, p, norm_first)
            x = x[:, None]  # (N, 1, 4): broadcasts over the 16 choices
            found = found_by(norm(x) if norm_first else x)
            behind = (lambda y: y) if norm_first else norm  # what comes after the sum
            k = keeps / (1 - p)
            choices = behind(x + found * k)
            wrong = {
                "no zeros at all: nothing was dropped": behind(x + found).expand(200, 16, 4),
                "zeros, but the other entries not divided by 1 − p": behind(x + found * keeps),
                "zeros, and the other entries divided by p: the share to keep was taken for the share to drop": (
                    behind(x + found * keeps / p)
                ),
                "zeros, and the other entries multiplied by 1 − p": behind(x + found * keeps * (1 - p)),
                "entries of the sum dropped: only what the sub-layer finds may be": behind((x + found) * k),
                "entries of x dropped, the residual stream: only what the sub-layer finds may be": (
                    behind(x * k + found)
                ),
                "entries dropped from what the sub-layer reads": (
                    behind(x + found_by((norm(x) if norm_first else x) * k))
                ),
                "entries dropped behind the norm": behind(x + found) * k,
                "entries dropped twice": behind(x + found * k / (1 - p)),
            }  # fmt: skip
            close = (out[:, None] - choices).abs().amax(-1) < 1e-3  # (N, 16)
            if not close.any(-1).all():
                named = next((says for says, rows in wrong.items() if self.explains(out, rows)), "")
                one = int((~close.any(-1)).nonzero()[0])
                shown = ", ".join(f"{n:.3f}" for n in (out[one] - x[one, 0]).tolist())
                expect.fail(
                    expected=f"x plus the sub-layer's result, each entry zeroed or divided by 1 − p (p = {p})",
                    got=named or f"rows that no choice of zeros leads to; one of them minus its x: {shown}",
                    ask="What exactly does your dropout take in, and what happens to its result?",
                )
            kept = keeps[close.double().argmax(-1)]  # (N, 4)
            ask = "Does `nn.Dropout` get the share to drop, and does every entry get a draw of its own?"
            share = 1 - kept.mean().item()
            expect.holds(
                abs(share - p) < 0.15,
                expected=f"a share of zeros near p = {p}",
                got=f"{share:.2f} of 800 entries",
                ask=ask,
            )
            alike = (kept == kept[:1]).all() or (kept == kept[:, :1]).all()
            got = "the same choice in all rows, or whole rows at once"
            expect.holds(not alike, expected="every entry dropped or kept by itself", got=got, ask=ask)

    def explains(self, out, rows):
        """Whether every row is one of those that a mistake leads to."""
        return bool(((out[:, None] - rows).abs().amax(-1) < 1e-3).any(-1).all())

    @pytest.mark.points(1)
    @pytest.mark.needs("test_pre_norm")
    @pytest.mark.draws(1)
    def test_dropout_by_default(self, student, rng):
        """drops a tenth in training unless told otherwise, and all or nothing where told so"""
        for p, options in ((0.1, {}), (0.0, {"dropout": 0.0}), (ALL, {"dropout": ALL})):
            m, _ = self.part(student, rng, 4, norm_first=True, **options)
            m.train()
            x = rng.tensor(3, 60, 4)
            out = m(x, torch.ones_like)
            expect.array(out, shape=(3, 60, 4), dtype=torch.float32)
            highest = (out.detach() - x).max().item()
            want = 1 / (1 - p) if p < ALL else 0.0
            given = f"dropout={p:.10g}" if options else "the default dropout of 0.1"
            expect.close(
                torch.tensor(highest), torch.tensor(want), atol=1e-4,
                what=f"the largest entry that is added where the sub-layer finds ones, with {given},",
                ask="Does the dropout get its share from the argument `dropout`, and does the stub's default stand?",
            )  # fmt: skip

    @pytest.mark.points(1)
    @pytest.mark.needs("test_pre_norm")
    def test_no_dropout_in_evaluation(self, student, rng):
        """drops nothing in evaluation mode"""
        for norm_first in (False, True):
            m, norm = self.part(student, rng, 4, 0.5, norm_first)
            m.train()
            m.eval()
            x = rng.tensor(2, 20, 4)
            out = m(x, Sublayer())
            expect.array(out, shape=(2, 20, 4), dtype=torch.float32)
            expected = x + found_by(norm(x)) if norm_first else norm(x + found_by(x))
            half = x + found_by(norm(x)) / 2 if norm_first else norm(x + found_by(x) / 2)
            mistakes = {
                "the sub-layer's result halved: what is kept is scaled in training, never in evaluation": half.float()
            }
            ask = "nn.Dropout knows the mode; torch.nn.functional.dropout has to be told, by `training=self.training`."
            what = "the output in evaluation mode"
            expect.close(out.detach(), expected.float(), atol=1e-4, what=what, ask=ask, mistakes=mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_post_norm")
    @pytest.mark.needs("test_pre_norm")
    def test_inputs_and_gradients(self, student, rng):
        """leaves x alone, and sends gradients through both ways and into norm and sub-layer"""
        B, T, D = sizes(rng, 3)
        for norm_first in (False, True):
            m, _ = self.part(student, rng, D, 0.0, norm_first)
            inner = student.nn.Linear(D, D)
            weights = {"weight": rng.tensor(D, D), "bias": rng.tensor(D)}
            inner.load_state_dict(weights)
            m.double()
            inner.double()
            x, given = rng.tensor(B, T, D, dtype=DOUBLE), rng.tensor(B, T, D, dtype=DOUBLE)
            with expect.unchanged(x=x):
                m(x, inner)
            expect.gradients(lambda x, m=m, inner=inner: m(x, inner), x=x)
            copies = {"norm.weight": m.norm.weight, "norm.bias": m.norm.bias}
            copies = {name: copy.detach().clone().requires_grad_() for name, copy in copies.items()}
            own = {name: weight.double().requires_grad_() for name, weight in weights.items()}
            norm = lambda y, c=copies, D=D: F.layer_norm(y, (D,), c["norm.weight"], c["norm.bias"])  # noqa: E731
            f = lambda y, o=own: F.linear(y, o["weight"], o["bias"])  # noqa: E731
            expected = x + f(norm(x)) if norm_first else norm(x + f(x))
            (expected * given).sum().backward()
            leaf = x.clone().requires_grad_()
            out = m(leaf, inner)
            expect.array(out, shape=(B, T, D), dtype=DOUBLE)
            m.zero_grad()
            inner.zero_grad()
            expect.gradient(out, leaf, given)
            ask = "Do norm and sub-layer both stay on the graph, whenever forward runs?"
            learns(m, copies, ask)
            learns(inner, own, ask)
