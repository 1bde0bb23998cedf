"""Checks of unit 03: rules for sum and products, the gradient check, broadcasting, the order, the backward pass.

Each exercise is judged by itself: its inputs are arrays, functions or graphs that the check makes, and what the other
exercises should have given comes from the check. Only the last check of all puts the learner's parts together.
"""

import time

import numpy as np
import pytest
import torch

from proctor import expect

CLOSE = {"atol": 1e-8, "rtol": 1e-6}


def told(value):
    """A value of a wrong kind, in a few words."""
    if isinstance(value, (tuple, list, dict, set)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else f"{value!r}"[:80]


def as_array(value):
    """A scalar as the array it could be; anything else as it is."""
    return np.asarray(value) if isinstance(value, (float, int, np.generic)) else value


def several(value, count, what, ask):
    """Expect a tuple or a list of ``count`` things, and return them."""
    right = isinstance(value, (tuple, list)) and len(value) == count
    expect.holds(right, expected=what, got=told(value), ask=ask)
    return value


def summed_down(grad, shape):
    """What of a gradient reaches an input of this shape, summed over the copies; the gradient itself if it cannot."""
    grad = np.asarray(grad)
    while grad.ndim > len(shape):
        grad = grad.sum(0)
    for axis in range(-len(shape), 0):
        if grad.ndim == len(shape) and shape[axis] == 1 != grad.shape[axis]:
            grad = grad.sum(axis, keepdims=True)
    return grad


class Applied:
    """One call of an operation: its result and its pullback, both of the kind that they should be."""

    def __init__(self, student, name, a, b):
        ask = "Does it end in `return y, pullback`, where pullback is a function that waits for its gradient?"
        result = getattr(student, name)(a, b)
        what = "two things: the result, an array, and the pullback, a function"
        y, self.pullback = several(result, 2, what, ask)
        self.y = as_array(y)
        expect.array(self.y, kind=np.ndarray, what="the result", ask=ask)
        expect.holds(
            callable(self.pullback),
            expected="a pullback that can be called",
            got=told(self.pullback),
            ask=ask,
        )

    def gradients(self, grad, ask):
        """What the pullback returns for ``grad``: two arrays."""
        try:
            pair = self.pullback(grad)
        except ValueError as error:  # shapes that do not fit
            got = f"ValueError: {' '.join(str(error).split())[:160]}"
            expected = f"a pair of gradients from the pullback, each of the shape of y, {self.y.shape}, or of its input"
            expect.fail(expected=expected, got=got, ask=ask)
        what = "a pair from the pullback: the gradients by a and by b"
        pair = [
            as_array(part) for part in several(pair, 2, what, "An operation with two inputs sends back what?")
        ]
        for part, name in zip(pair, "ab", strict=True):
            expect.array(part, kind=np.ndarray, what=f"the gradient by {name}", ask=ask)
        return pair


def check_gradients(student, name, a, b, grad, ask, mistakes=(None, None)):
    """Expect the gradients that PyTorch finds; one that is summed over copies already is as good."""
    inputs = [torch.tensor(x, requires_grad=True) for x in (a, b)]
    operation = {"add": torch.add, "mul": torch.mul, "matmul": torch.matmul}[name]
    wanted = torch.autograd.grad(operation(*inputs), inputs, torch.tensor(grad))
    applied = Applied(student, name, a, b)
    expect.array(applied.y, shape=grad.shape, kind=np.ndarray, what="the result")
    pair = applied.gradients(grad, ask)
    for x, part, right, wrong, letter in zip((a, b), pair, wanted, mistakes, "ab", strict=True):
        expect.close(
            summed_down(part, x.shape),
            right.numpy(),
            what=f"the gradient by {letter}",
            ask=ask,
            mistakes=wrong,
            **CLOSE,
        )


def check_leaves_alone(student, name, a, b, grad):
    """Expect that neither the call nor the pullback writes into what it is given, and that it can be called again."""
    with expect.unchanged(a=a, b=b):
        applied = Applied(student, name, a, b)
    with expect.unchanged(grad=grad):
        first = applied.gradients(
            grad, "Which arrays does the pullback combine, and are their shapes what you think?"
        )
    again = applied.gradients(grad, "The first call of the pullback went well. What has it left behind?")
    for one, two, letter in zip(first, again, "ab", strict=True):
        ask = "Does a call of the pullback change something that the next call needs?"
        expect.close(two, one, what=f"the gradient by {letter}, at the second call,", ask=ask, **CLOSE)


@pytest.mark.exercise("add")
class TestAdd:
    @pytest.mark.points(1)
    def test_result(self, student, rng):
        """returns the sum, and a pullback"""
        M, N = rng.distinct(2)
        a, b = rng.normal(size=(M, N)), rng.normal(size=(M, N))
        mistakes = {"the product of the two": a * b, "the difference of the two": a - b}
        expect.close(Applied(student, "add", a, b).y, a + b, what="the result", mistakes=mistakes, **CLOSE)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_result")
    def test_gradients(self, student, rng):
        """sends the gradient back to both summands, also where they broadcast"""
        B, M, N = rng.distinct(3)
        ask = "If a grows by a little, by how much does a + b grow? And the loss, if grad is its slope there?"
        for first, second in [((M, N), (M, N)), ((B, M, N), (N,)), ((M, 1), (B, 1, N)), ((), (N,))]:
            a, b = rng.normal(size=first), rng.normal(size=second)
            grad = rng.normal(size=np.broadcast_shapes(first, second))
            mistakes = []
            for x, other in ((a, b), (b, a)):
                wrong = {
                    "the derivative of the sum alone, 1: the chain rule multiplies it by grad": np.ones_like(
                        grad
                    ),
                    "half of the gradient: both summands get all of it, it is not shared out": grad / 2,
                    "the gradient with its sign turned round": -grad,
                    "the rule of the product: a sum does not scale its gradient": grad * other,
                    "the gradient times the summand itself": grad * x,
                }
                mistakes.append({text: summed_down(value, x.shape) for text, value in wrong.items()})
            check_gradients(student, "add", a, b, grad, ask, mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_result")
    def test_leaves_alone(self, student, rng):
        """changes nothing that it is given, and its pullback can be called again"""
        M, N = rng.distinct(2)
        check_leaves_alone(student, "add", *rng.normal(size=(3, M, N)))


@pytest.mark.exercise("mul")
class TestMul:
    @pytest.mark.points(1)
    def test_result(self, student, rng):
        """returns the product entry by entry, and a pullback"""
        M, N = rng.distinct(2)
        a, b = rng.normal(size=(M, N)), rng.normal(size=(M, N))
        mistakes = {"the sum of the two": a + b, "the quotient of the two": a / b}
        expect.close(Applied(student, "mul", a, b).y, a * b, what="the result", mistakes=mistakes, **CLOSE)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_result")
    def test_gradients(self, student, rng):
        """sends to each factor the gradient times the other factor"""
        M, N = rng.distinct(2)
        a, b, grad = rng.normal(size=(3, M, N))
        mistakes = [
            {
                f"the gradient times {name} itself: how steep the product is in {name} depends on the other": grad
                * x,
                "the other factor alone: the chain rule multiplies it by grad": other,
                "the gradient as it came: that is the rule of the sum": grad,
                "the gradient times both factors": grad * x * other,
                "the gradient divided by the other factor": grad / other,
            }
            for name, x, other in (("a", a, b), ("b", b, a))
        ]
        both = mistakes[1].pop("the gradient times both factors")
        mistakes[1][
            "the gradient times both factors: did the pullback write into grad (`grad *= b`) on its way?"
        ] = both
        ask = "Hold b still: y = a · b is a line in a. What is its slope, and what does the chain rule do with it?"
        check_gradients(student, "mul", a, b, grad, ask, mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_gradients")
    def test_broadcasting(self, student, rng):
        """works where the factors broadcast"""
        B, M, N = rng.distinct(3)
        ask = "Let NumPy broadcast the other factor against grad: which shape does the product have?"
        for first, second in [((B, M, N), (N,)), ((M, 1), (B, 1, N)), ((1, 1, N), (B, M, N)), ((M, N), ())]:
            a, b = rng.normal(size=first), rng.normal(size=second)
            check_gradients(student, "mul", a, b, rng.normal(size=np.broadcast_shapes(first, second)), ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_result")
    def test_leaves_alone(self, student, rng):
        """changes nothing that it is given, and its pullback can be called again"""
        M, N = rng.distinct(2)
        check_leaves_alone(student, "mul", *rng.normal(size=(3, M, N)))


@pytest.mark.exercise("matmul")
class TestMatmul:
    @pytest.mark.points(1)
    def test_result(self, student, rng):
        """returns the matrix product, for one matrix or many, and a pullback"""
        B, H, M, K, N = rng.distinct(5, high=6)
        ask = "Which operator multiplies the last two dimensions and broadcasts those before them?"
        for first, second in [((M, K), (K, N)), ((B, M, K), (K, N)), ((B, H, M, K), (H, K, N))]:
            a, b = rng.normal(size=first), rng.normal(size=second)
            expect.close(Applied(student, "matmul", a, b).y, a @ b, what="the result", ask=ask, **CLOSE)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_result")
    def test_gradients(self, student, rng):
        """sends the right gradients to both matrices"""
        M, K, N = rng.distinct(3)
        a, b, grad = rng.normal(size=(M, K)), rng.normal(size=(K, N)), rng.normal(size=(M, N))
        by_a, by_b = grad @ b.T, a.T @ grad
        mistakes = [
            {
                "the gradient by b: the pair is in the wrong order": by_b,
                "its transpose": by_a.T,
                "the matrix b, turned round, and no grad in it": np.ones_like(grad) @ b.T,
                "the gradient with its sign turned round": -by_a,
            },
            {
                "the gradient by a: the pair is in the wrong order": by_a,
                "its transpose": by_b.T,
                "the matrix a, turned round, and no grad in it": a.T @ np.ones_like(grad),
                "the gradient with its sign turned round": -by_b,
            },
        ]
        ask = (
            f"grad is {grad.shape}, a {a.shape}, b {b.shape}. Which product of grad and b, one of them perhaps "
            f"turned round, has the shape of a? Which of grad and a has that of b?"
        )
        check_gradients(student, "matmul", a, b, grad, ask, mistakes)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_gradients")
    def test_square(self, student, rng):
        """is right for square matrices too, where every order of the factors has the right shape"""
        K = int(rng.integers(2, 6))
        a, b, grad = rng.normal(size=(3, K, K))
        orders = {
            "grad @ b without the transpose": grad @ b,
            "b.T @ grad: the two stand the wrong way round": b.T @ grad,
            "b @ grad": b @ grad,
        }
        others = {
            "a @ grad without the transpose": a @ grad,
            "grad @ a.T: the two stand the wrong way round": grad @ a.T,
            "grad @ a": grad @ a,
        }
        ask = "Write out one entry: y[m, n] is a sum over k of a[m, k] · b[k, n]. Where does a[m, k] occur in y?"
        check_gradients(student, "matmul", a, b, grad, ask, (orders, others))

    @pytest.mark.points(2)
    @pytest.mark.needs("test_gradients")
    def test_batches(self, student, rng):
        """works for batches of matrices, and where one matrix meets many"""
        B, H, M, K, N = rng.distinct(5, high=6)
        ask = "`.T` turns round *all* dimensions, the batch too. What swaps the last two and leaves the others alone?"
        for first, second in [
            ((B, M, K), (B, K, N)),
            ((B, H, M, K), (B, H, K, N)),
            ((B, M, K), (K, N)),
            ((M, K), (B, K, N)),
            ((B, 1, M, K), (H, K, N)),
        ]:
            a, b = rng.normal(size=first), rng.normal(size=second)
            check_gradients(student, "matmul", a, b, rng.normal(size=(a @ b).shape), ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_result")
    def test_leaves_alone(self, student, rng):
        """changes nothing that it is given, and its pullback can be called again"""
        M, K, N = rng.distinct(3)
        inputs = rng.normal(size=(M, K)), rng.normal(size=(K, N)), rng.normal(size=(M, N))
        check_leaves_alone(student, "matmul", *inputs)


class Cubes:
    """The function Σ w·x³, which notes where it is asked; its central differences are known exactly."""

    def __init__(self, w):
        self.w, self.points, self.strange = w, [], ""

    def __call__(self, x):
        right = isinstance(x, np.ndarray) and x.shape == self.w.shape and x.dtype.kind in "fiu"
        if not right:
            self.strange = self.strange or told(x)
            return 0.0
        self.points.append(x.astype(float))
        return float((self.w * self.points[-1] ** 3).sum())

    def slope(self, x):
        """The gradient."""
        return 3 * self.w * x**2

    def numeric(self, x, eps):
        """What central differences give."""
        return self.w * (3 * x**2 + eps**2)


def error_of(grad, numeric):
    """The error that the docstring defines."""
    return float(np.max(np.abs(grad - numeric) / np.maximum(1, np.maximum(np.abs(grad), np.abs(numeric)))))


def checked(student, f, x, grad, *eps):
    """The error that the learner's check returns, as an array, after looking at what it asked of f."""
    got = student.gradient_check(f, x, grad, *eps)
    if f.strange:
        expected = f"f called with arrays of the shape of x, {x.shape}"
        expect.fail(
            expected=expected,
            got=f.strange,
            ask="f takes all of x, with one entry nudged. What do you hand it?",
        )
    number = as_array(got)
    right = isinstance(number, np.ndarray) and number.shape == () and number.dtype.kind in "fiu"
    ask = "Which single number says how far the worst entry is off?"
    expect.holds(right, expected="one number, the largest error", got=told(got), ask=ask)
    return number.astype(float)


@pytest.mark.exercise("gradient_check")
class TestGradientCheck:
    @pytest.mark.points(1)
    def test_nudges(self, student, rng):
        """nudges one entry at a time, by eps, which is 1e-6 unless something else is asked for"""
        shape = tuple(rng.distinct(2, high=4))
        for eps in [(), (0.25,)]:
            x, f = rng.normal(size=shape), Cubes(rng.normal(size=shape))
            checked(student, f, x, f.slope(x), *eps)
            wanted = eps[0] if eps else 1e-6
            nudges = [point - x for point in f.points]
            many = max((int((np.abs(nudge) > wanted / 100).sum()) for nudge in nudges), default=0)
            far = max((float(np.abs(nudge).max()) for nudge in nudges), default=0.0)
            got = f"{many} entries nudged at once" if many > 1 else f"nudges of {far:.3g} at most"
            expect.holds(
                many == 1 and abs(far / wanted - 1) < 1e-3,
                expected=f"f called with one entry of x moved by {wanted:g}",
                got=got if f.points else "f never called",
                ask="Which entries does your code move, by how much, and are they back when the next has its turn?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_nudges")
    def test_right_gradient(self, student, rng):
        """finds next to no error in a right gradient"""
        for shape in [(3,), (2, 4)]:
            x, f = rng.uniform(0.5, 1, size=shape), Cubes(rng.uniform(0.5, 1, size=shape))
            grad = f.slope(x)
            mistakes = {
                "the error against differences that are divided by eps, though they span 2·eps": error_of(
                    grad, 2 * grad
                ),
                "the error against differences that are divided by 2, not by 2·eps": error_of(
                    grad, grad * 1e-6
                ),
                "the error against differences that are not divided": error_of(grad, grad * 2e-6),
                "the error of a gradient with its sign turned round": error_of(grad, -grad),
                "the error against zero: the differences are not in there": error_of(grad, 0 * grad),
            }
            wrong = {text: np.asarray(value) for text, value in mistakes.items()}
            ask = "How does f change from one nudge down to one nudge up, and how far apart are the two?"
            error = checked(student, f, x, grad)
            what = "the error of a right gradient"
            expect.close(error, np.zeros(()), atol=1e-5, rtol=0, what=what, ask=ask, mistakes=wrong)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_right_gradient")
    def test_measures_the_error(self, student, rng):
        """returns the largest relative error of the central differences, as defined"""
        shape, eps = tuple(rng.distinct(2, high=4)), round(float(rng.uniform(0.1, 0.2)), 3)
        # Small gradients are measured against 1; large ones against themselves, or against the numerical ones.
        for scale, factor in [(0.05, 0.5), (30.0, 1.4), (30.0, 0.6)]:
            x = rng.uniform(0.5, 1.5, size=shape) * rng.choice([-1, 1], size=shape)
            f = Cubes(scale * rng.uniform(0.5, 1.5, size=shape) * rng.choice([-1, 1], size=shape))
            worst = tuple(int(rng.integers(size)) for size in shape)
            f.w[worst] = -abs(f.w[worst])  # where |grad| and grad are two
            right = f.slope(x)
            grad = right * rng.uniform(0.95, 1.05, size=shape)
            grad[worst] = factor * right[worst]
            numeric = f.numeric(x, eps)
            ahead = f.w * (3 * x**2 + 3 * x * eps + eps**2)
            apart, size = np.abs(grad - numeric), np.maximum(1, np.maximum(np.abs(grad), np.abs(numeric)))
            signed = (grad - numeric) / size
            mistakes = {
                "the error against differences to one side, (f(x + eps) - f(x)) / eps": error_of(grad, ahead),
                "the error against differences that are divided by eps, though they span 2·eps": error_of(
                    grad, 2 * numeric
                ),
                "the error against differences that are not divided": error_of(grad, numeric * 2 * eps),
                "the error of a gradient with its sign turned round": error_of(grad, -numeric),
                "the mean over the entries; one wrong entry among many must not drown": (apart / size).mean(),
                "the sum over the entries": (apart / size).sum(),
                "the largest absolute error: it was not divided by anything": apart.max(),
                "the error divided by |grad| and |n|, without the 1": (
                    apart / np.maximum(np.abs(grad), np.abs(numeric))
                ).max(),
                "the error divided by |grad| alone": (apart / np.abs(grad)).max(),
                "the error divided by |n| alone": (apart / np.abs(numeric)).max(),
                "the error divided by the sum |grad| + |n|": (apart / (np.abs(grad) + np.abs(numeric))).max(),
                "the error divided by the larger of 1 and |grad|": (
                    apart / np.maximum(1, np.abs(grad))
                ).max(),
                "the error divided by the larger of 1 and |n|": (
                    apart / np.maximum(1, np.abs(numeric))
                ).max(),
                "the error of the gradient as a whole, a norm over a norm; here every entry is judged by itself": (
                    np.linalg.norm(grad - numeric) / max(1, np.linalg.norm(grad), np.linalg.norm(numeric))
                ),
                "the largest signed error: errors below zero were left out": signed.max(),
                "the smallest error": (apart / size).min(),
            }
            wrong = {text: np.asarray(value) for text, value in mistakes.items()}
            wanted = np.asarray(error_of(grad, numeric))
            ask = f"eps was {eps:.3g}. Work out one entry by hand: its difference, then its error."
            error = checked(student, f, x, grad, eps)
            expect.close(error, wanted, atol=1e-9, rtol=1e-6, what="the error", ask=ask, mistakes=wrong)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_right_gradient")
    def test_every_entry(self, student, rng):
        """finds one wrong entry wherever it stands"""
        x, f = rng.normal(size=(2, 1, 3)), Cubes(rng.uniform(1, 2, size=(2, 1, 3)))
        for index in np.ndindex(x.shape):
            grad = f.slope(x)
            grad[index] -= 0.5
            error = checked(student, f, x, grad)
            wanted = error_of(grad, f.numeric(x, 1e-6))
            expect.holds(
                error > wanted / 50,
                expected=f"an error of {wanted:.3g}, since the gradient is wrong at {index}",
                got=f"{float(error):.3g}",
                ask="Does your loop reach every entry, in every dimension, and set each back before the next?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_right_gradient")
    def test_integers(self, student, rng):
        """works at a point of integers, and leaves x and grad as they were"""
        x, f = rng.integers(-3, 4, size=(2, 3)), Cubes(rng.uniform(0.5, 1, size=(2, 3)))
        x[0, 0] = 2  # somewhere the slope is not zero
        grad = f.slope(x)
        with expect.unchanged(x=x, grad=grad):
            error = checked(student, f, x, grad)
        expect.holds(
            abs(error) < 1e-4,
            expected="an error below 1e-4 for a right gradient at a point of integers",
            got=f"{float(error):.3g}",
            ask="An array of integers that is given 2.000001 keeps 2. Of which dtype is the array that you nudge?",
        )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_right_gradient")
    def test_nan(self, student, rng):
        """lets no NaN pass as a small error"""
        x, f = rng.normal(size=(2, 3)), Cubes(rng.normal(size=(2, 3)))
        for index in ((0, 0), (1, 2), (0, 2)):
            grad = f.slope(x)
            grad[index] = np.nan
            error = checked(student, f, x, grad)
            expect.holds(
                np.isnan(error),
                expected=f"NaN, since the gradient is NaN at {index}",
                got=f"an error of {float(error):.3g}: the gradient would count as right",
                ask="What is max(0.0, nan) in Python, and what is np.max([0.0, nan])?",
            )

    @pytest.mark.points(1)
    @pytest.mark.needs("test_right_gradient")
    def test_other_shape(self, student, rng):
        """refuses a gradient of another shape, even one that broadcasts"""
        N = int(rng.integers(2, 6))
        x, f = rng.normal(size=(N,)), Cubes(rng.normal(size=(N,)))
        ask = "(N,) and (N, 1) subtract without complaint, to (N, N). Where do you compare the two shapes?"
        for shape in [(N, 1), (1, N), (), (N + 1,)]:
            grad = rng.normal(size=shape)
            when = f"for x of shape {x.shape} and a gradient of shape {shape}"
            expect.raises(ValueError, lambda g=grad: student.gradient_check(f, x, g), when=when, ask=ask)


def unbroadcast_by_hand(grad, shape):
    """Entry by entry: each goes to the place from which broadcasting would have copied it."""
    out = np.zeros(shape)
    source = np.broadcast_to(np.arange(out.size).reshape(shape), grad.shape)
    for index in np.ndindex(grad.shape):
        out.reshape(-1)[source[index]] += grad[index]
    return out


def check_unbroadcast(student, rng, large, shape, ask):
    """Expect the sum over all copies."""
    grad = rng.normal(size=large)
    expected = unbroadcast_by_hand(grad, shape)
    copies = grad.size // expected.size
    new = len(large) - len(shape)
    front = grad.sum(tuple(range(new)))
    ones = tuple(i for i, size in enumerate(shape) if size == 1)
    as_it_came = "with nothing summed" if new else "where the dimensions that were 1 are still long"
    first = grad[(0,) * new + tuple(slice(0, 1) if size == 1 else slice(None) for size in shape)]
    mistakes = {
        f"the mean over the {copies} copies: the loss feels every copy, so their gradients add up": expected
        / copies,
        f"the gradient as it came, {as_it_came}": grad,
        "the sum over the new dimensions in front, with those that were stretched from 1 left long": front,
        "the right sums, in another shape: a dimension of size 1 was lost": front.sum(ones),
        "the right sums, in another shape: the dimensions in front are still there, as 1s": expected.reshape(
            (1,) * new + tuple(shape)
        ),
        "the sum of everything": np.sum(grad),
        "the gradient of the first copy only": first,
        "the largest gradient of the copies": grad.max(
            tuple(range(new)) + tuple(new + i for i in ones)
        ).reshape(shape),
    }
    wrong = {text: np.asarray(value) for text, value in mistakes.items()}
    out = as_array(student.unbroadcast(grad, shape))
    expect.close(out, expected, what=f"the gradient, summed to {shape},", ask=ask, mistakes=wrong, **CLOSE)


@pytest.mark.exercise("unbroadcast")
class TestUnbroadcast:
    @pytest.mark.points(1)
    def test_new_dimensions(self, student, rng):
        """sums over the dimensions that broadcasting has put in front"""
        B, M, N = rng.distinct(3)
        ask = "Broadcasting puts new dimensions in front. How many does grad have more than shape?"
        for large, shape in [((M, N), (N,)), ((B, M, N), (N,)), ((B, M, N), (M, N)), ((N, N, N), (N,))]:
            check_unbroadcast(student, rng, large, shape, ask)

    @pytest.mark.points(2)
    def test_stretched(self, student, rng):
        """sums over the dimensions that were stretched from 1, and keeps them as 1"""
        B, M, N = rng.distinct(3)
        ask = "Which dimensions are 1 in shape and longer in grad? What does `keepdims=True` do in a sum?"
        for shape in [(1, 1, N), (B, 1, N), (1, M, 1), (B, M, 1), (1, 1, 1)]:
            check_unbroadcast(student, rng, (B, M, N), shape, ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_new_dimensions")
    @pytest.mark.needs("test_stretched")
    def test_both(self, student, rng):
        """does both at once, down to a single number"""
        B, H, M, N = rng.distinct(4, high=6)
        ask = "First bring grad to as many dimensions as shape has. Then which of these are 1 in shape?"
        for large, shape in [
            ((B, M, N), (M, 1)),
            ((B, M, N), (1, N)),
            ((B, H, M, N), (1, M, 1)),
            ((B, M, N), (1,)),
            ((B, M, N), ()),
            ((B, M, 1), (M, 1)),
            ((1, M, N), (1, 1)),
        ]:
            check_unbroadcast(student, rng, large, shape, ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_both")
    def test_nothing_to_do(self, student, rng):
        """returns the gradient as it is where nothing was copied"""
        ask = "Which dimensions did broadcasting add or stretch here? None. What is left to sum?"
        for shape in [tuple(rng.distinct(3)), (4, 1, 2), (3,), ()]:
            check_unbroadcast(student, rng, shape, shape, ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_both")
    def test_leaves_alone(self, student, rng):
        """leaves the gradient that it is given as it was"""
        B, M, N = rng.distinct(3)
        grad = rng.normal(size=(B, M, N))
        with expect.unchanged(grad=grad):
            for shape in [(M, 1), (B, M, N), (N,)]:
                student.unbroadcast(grad, shape)


def make_graph(student, parents):
    """Tensors by number: number i is made from ``parents[i]``, and its data is i."""
    tensors = []
    for number, sources in enumerate(parents):
        tensor = student.Tensor(float(number), tuple(tensors[source] for source in sources))
        tensors.append(expect.named(tensor, f"tensor {number}"))
    return tensors


def picture(parents):
    """A graph in one line."""
    return (
        ", ".join(f"{i} from {' and '.join(map(str, p))}" for i, p in enumerate(parents) if p) or "one alone"
    )


def numbers_of(order, most):
    """The numbers of the tensors in a list that the learner returned."""
    ask = "Does it `return` a list (a function with `yield` does not), with the tensors themselves in it?"
    expect.holds(isinstance(order, (list, tuple)), expected="a list of tensors", got=told(order), ask=ask)
    numbers = []
    for tensor in order[: 3 * most]:
        plain = tensor is None or isinstance(
            tensor, (int, float, str, tuple, list, dict, np.ndarray, torch.Tensor)
        )
        value = None if plain else as_array(tensor.data)
        right = isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind == "f"
        got = f"{told(tensor)} in the list"
        expect.holds(right, expected="a list of tensors", got=got, ask=ask)
        numbers.append(int(value))
    return numbers


def meeting(parents, root, first, backwards):
    """The order in which a walk meets the tensors: depth first or breadth first."""
    seen, waiting = [], [root]
    while waiting:
        node = waiting.pop(0 if first == "breadth" else -1)
        if node not in seen:
            seen.append(node)
            waiting += parents[node][::-1] if backwards else parents[node]
    return seen


def check_order(student, parents, root):
    """Expect all ancestors of the root once, parents before what was made from them."""
    tensors = make_graph(student, parents)
    numbers = numbers_of(student.topological_order(tensors[root]), len(parents))
    wanted = set(meeting(parents, root, "depth", False))
    shown = f"tensors made as: {picture(parents)}; root {root}"

    def fail(expected, got, ask):
        expect.fail(expected=f"{expected} ({shown})", got=f"{got}, in {numbers}", ask=ask)

    twice = sorted({n for n in numbers if numbers.count(n) > 1})
    if twice:
        ask = f"Tensor {twice[0]} is reached along several paths. How do you know that you have been there?"
        fail("each tensor once", f"tensor {twice[0]} stands in the list {numbers.count(twice[0])} times", ask)
    missing, surplus = sorted(wanted - set(numbers)), sorted(set(numbers) - wanted)
    if missing:
        kind = "the root" if missing == [root] else "a leaf" if not parents[missing[0]] else "an inner one"
        ask = "Leaves and the root belong to the graph too. Which of them does your walk leave out?"
        fail("every tensor of the graph", f"no tensor {missing[0]} ({kind})", ask)
    if surplus:
        fail(
            "ancestors of the root only",
            f"tensor {surplus[0]}",
            "Is it left from an earlier call, in a default argument or a list outside the function?",
        )
    place = {n: i for i, n in enumerate(numbers)}
    early = [(p, n) for n in numbers for p in parents[n] if place[p] > place[n]]
    if not early:
        return
    parent, child = early[0]
    got = f"tensor {child} before its parent {parent}"
    ask = (
        f"When is it safe to add tensor {child} to the list: on meeting it, or after all its parents are in?"
    )
    if all(place[p] > place[n] for n in numbers for p in parents[n]):
        got = "the list the other way round: the root first, every tensor before its parents"
        ask = "Which end should the leaves be at?"
        fail("parents before what was made from them", got, ask)
    walks = {
        f: [meeting(parents, root, f, backwards) for backwards in (False, True)] for f in ("depth", "breadth")
    }
    alike = [f"{f}-first" for f, walk in walks.items() if numbers in (*walk, *(w[::-1] for w in walk))]
    if alike:
        got = f"the order in which a {' or '.join(alike)} walk first meets the tensors: {got}"
    fail("parents before what was made from them", got, ask)


# Small graphs that tell the usual wrong walks apart: a chain, a diamond, a short cut met first and met last.
GRAPHS = {
    "chain": [(), (0,), (1,), (2,)],
    "diamond": [(), (0,), (0,), (1, 2)],
    "short cut first": [(), (0,), (1,), (0, 2)],
    "short cut last": [(), (0,), (1,), (2, 0)],
    "two short cuts": [(), (0,), (0, 1), (1, 2), (3, 1, 0)],
}


@pytest.mark.exercise("topological_order")
class TestTopologicalOrder:
    @pytest.mark.points(1)
    def test_chain(self, student):
        """lists the tensors of a chain from the leaf to the root"""
        check_order(student, GRAPHS["chain"], 3)
        check_order(student, [()], 0)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_chain")
    def test_diamonds(self, student):
        """lists a tensor with several consumers once, and before all of them"""
        for name, parents in GRAPHS.items():
            if name != "chain":
                check_order(student, parents, len(parents) - 1)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_chain")
    def test_same_parent_twice(self, student):
        """copes with a tensor that was made from one parent twice, as in x · x"""
        check_order(student, [(), (0, 0), (1, 1)], 2)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_diamonds")
    def test_any_graph(self, student, rng):
        """is right for any graph, and leaves out what the root does not depend on"""
        count = int(rng.integers(7, 10))
        parents = [()]
        for number in range(1, count):
            many = int(rng.integers(0, min(number, 3) + 1))
            parents.append(tuple(int(n) for n in rng.choice(number, size=many, replace=False)))
        parents.append(tuple(int(n) for n in rng.permutation(count)[:3]))
        parents.append((0,))  # made from a tensor of the graph, but not part of it
        check_order(student, parents, count)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_diamonds")
    def test_deep(self, student):
        """gets to the end of a graph that is 1,200 tensors deep"""
        tensor = student.Tensor(0.0)
        for number in range(1, 1200):
            tensor = expect.named(student.Tensor(float(number), (tensor,)), f"tensor {number}")
        ask = "Python gives up on calls within calls at 1,000. Can a list of what is still to do take their place?"
        try:
            order = student.topological_order(tensor)
        except RecursionError as error:
            got = f"RecursionError: {str(error)[:60]}"
            expect.fail(expected="all 1,200 tensors of a long chain, as of a recurrent net", got=got, ask=ask)
        size = len(order) if isinstance(order, (list, tuple)) else 0
        expect.holds(size == 1200, expected="a list of 1,200 tensors", got=f"{size} tensors", ask=ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_diamonds")
    def test_many_paths(self, student):
        """visits each tensor once, though half a million paths lead to it"""

        def made(times):
            tensor = student.Tensor(0.0)
            for number in range(1, 20):
                tensor = expect.named(student.Tensor(float(number), (tensor,) * times), f"tensor {number}")
            return tensor

        def seconds(tensor):
            begun = time.perf_counter()
            student.topological_order(tensor)
            return time.perf_counter() - begun

        # As many tensors in a chain, with one path, tell how long this machine takes; that it may be busy for a moment
        # is why one quick answer of several will do. A walk along all paths is slow every time.
        chain, tangle = made(1), made(2)
        enough = 8 * min(seconds(chain) for _ in range(5)) + 0.01
        took = 0.0
        for _ in range(4):
            took = seconds(tangle)
            if took < enough:
                return
        expect.fail(
            expected="an answer at once for 20 tensors, each made from the one before it twice",
            got=f"{took:.2f} seconds: the walk goes along every one of 524,288 paths",
            ask="Do you ask whether a tensor has been visited before you walk on to its parents, or only at the end?",
        )


class Graph:
    """A graph whose pullbacks are the check's own: each multiplies the gradient by known numbers, and takes notes."""

    def __init__(self, student, rng, parents, shape):
        self.parents, self.log, self.strange = parents, [], ""
        self.scales = [[rng.normal(size=shape) for _ in sources] for sources in parents]
        self.tensors, self.shape = [], shape
        for number, sources in enumerate(parents):
            made = [tuple(self.tensors[i] for i in sources), self.rule(number)] if sources else []
            tensor = student.Tensor(rng.normal(size=shape), *made)
            self.tensors.append(expect.named(tensor, f"tensor {number}"))

    def rule(self, number):
        """The pullback of one tensor."""

        def pullback(grad=None):
            given = as_array(grad)
            right = isinstance(given, np.ndarray) and given.shape == self.shape and given.dtype.kind == "f"
            self.log.append((number, np.array(given) if right else told(grad)))
            given = given if right else np.zeros(self.shape)
            return tuple(scale * given for scale in self.scales[number])

        return pullback

    def wanted(self, grad, combine=None):
        """The gradient of every tensor; ``combine`` tells how what arrives joins what is there."""
        combine = combine or (lambda old, new: new if old is None else old + new)
        grads = [None] * len(self.parents)
        grads[-1] = grad
        for number in reversed(range(len(self.parents))):
            for source, scale in zip(self.parents[number], self.scales[number], strict=True):
                grads[source] = combine(grads[source], scale * grads[number])
        return grads

    def run(self, student, grad):
        """Call the learner's backward, look at how it went, and return all gradients."""
        self.log.clear()
        try:
            student.backward(self.tensors, grad)
        except TypeError as error:
            if "NoneType" not in str(error):
                raise
            ask = "Before the first backward pass every `grad` is None. What should each tensor start with?"
            expect.fail(expected="a sum of gradients", got=f"TypeError: {error}", ask=ask)
        inner = [number for number, sources in enumerate(self.parents) if sources]
        shown = f"tensors made as: {picture(self.parents)}"
        called = [number for number, _ in self.log]
        if called and called[0] == inner[0] and len(inner) > 1:
            expect.fail(
                expected=f"the pullback of tensor {inner[-1]}, the last, to be called first ({shown})",
                got=f"that of tensor {inner[0]} was: the list was walked from its front",
                ask="Parents stand before what was made from them. At which end does the gradient start?",
            )
        for number in inner:
            if called.count(number) != 1:
                expect.fail(
                    expected=f"each pullback called once ({shown})",
                    got=f"that of tensor {number} was called {called.count(number)} times",
                    ask="Each tensor passes on, once, all that has arrived. Who calls its pullback, and when?",
                )
        for number, given in self.log:
            if isinstance(given, str):
                expect.fail(
                    expected=f"the pullback of tensor {number} called with its gradient, of shape {self.shape}",
                    got=f"{given}",
                    ask="What does a pullback take, and where do you keep it?",
                )
        return [self.gradient_of(number) for number in range(len(self.parents))]

    def gradient_of(self, number):
        """What lies in ``grad`` of a tensor: an array."""
        found = as_array(self.tensors[number].grad)
        ask = "`backward` returns nothing: it leaves each gradient in its tensor. Where do you write it?"
        expect.holds(
            found is not None, expected=f"a gradient in `grad` of tensor {number}", got="None", ask=ask
        )
        expect.array(found, kind=np.ndarray, what=f"the `grad` of tensor {number}", ask=ask)
        return found


def check_backward(student, rng, parents, mistakes=None, ask=""):
    """Expect the gradients of all tensors of a graph."""
    shape = tuple(rng.distinct(2, high=5))
    graph, grad = Graph(student, rng, parents, shape), rng.normal(size=shape)
    found, wanted = graph.run(student, grad), graph.wanted(grad)
    for number in reversed(range(len(parents))):
        wrong = {text: value[number] for text, value in (mistakes(graph, grad) if mistakes else {}).items()}
        what = f"the `grad` of tensor {number} ({picture(parents)})"
        expect.close(found[number], wanted[number], what=what, ask=ask, mistakes=wrong, **CLOSE)


def overwriting(graph, grad):
    """The gradients of those who keep only one of the parts that arrive."""
    return {
        "only the last part that arrived: it has overwritten what was there": graph.wanted(
            grad, lambda old, new: new
        ),
        "only the first part that arrived": graph.wanted(grad, lambda old, new: new if old is None else old),
        "the product of the parts that arrive": graph.wanted(
            grad, lambda old, new: new if old is None else old * new
        ),
        "the mean of the parts that arrive": graph.wanted(
            grad, lambda old, new: new if old is None else (old + new) / 2
        ),
    }


@pytest.mark.exercise("backward")
class TestBackward:
    @pytest.mark.points(2)
    def test_chain(self, student, rng):
        """carries a gradient along a chain, to the leaf"""

        def wrong(graph, grad):
            ones = np.ones_like(grad)
            return {
                "the gradient for a start with ones: the one that was given was not used": graph.wanted(ones),
                "the gradient that was given, as if nothing lay between": [grad] * 4,
                "zero: the gradient that was given has not been put into the last tensor": [0 * grad] * 4,
            }

        ask = "The last tensor's `grad` is the one that was given. What do you do with what its pullback returns?"
        check_backward(student, rng, [(), (0,), (1,), (2,)], wrong, ask)
        check_backward(student, rng, [()], None, ask)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_chain")
    def test_two_parents(self, student, rng):
        """gives each parent its own part"""

        def swapped(graph, grad):
            parts = [scale * grad for scale in graph.scales[2]]
            return {
                "the part that belongs to the other parent": [*parts[::-1], grad],
                "the sum of both parts": [sum(parts), sum(parts), grad],
            }

        ask = "The parts stand in the order of the parents. What goes through two lists side by side?"
        check_backward(student, rng, [(), (), (0, 1)], swapped, ask)
        check_backward(student, rng, [(), (), (), (0, 1, 2)], None, ask)

    @pytest.mark.points(3)
    @pytest.mark.needs("test_two_parents")
    def test_diamond(self, student, rng):
        """adds up what arrives along several paths"""
        ask = (
            "Two consumers send back to one tensor. What does the second do to what the first has left there?"
        )
        for parents in (GRAPHS["diamond"], GRAPHS["short cut first"], GRAPHS["two short cuts"], [(), (0, 0)]):
            check_backward(student, rng, parents, overwriting, ask)

    @pytest.mark.points(1)
    @pytest.mark.needs("test_diamond")
    def test_again(self, student, rng):
        """starts afresh at each call"""
        shape = tuple(rng.distinct(2, high=5))
        graph = Graph(student, rng, GRAPHS["diamond"], shape)
        first, second = rng.normal(size=(2, *shape))
        before = graph.run(student, first)
        found, wanted = graph.run(student, second), graph.wanted(second)
        for number in reversed(range(4)):
            mistakes = {
                "the sum of both calls: what the first had left was still there": wanted[number]
                + before[number],
                "the gradient of the first call": before[number],
            }
            ask = "What lies in `grad` before a call, and where do you clear it away?"
            what = f"the `grad` of tensor {number} after a second call"
            expect.close(found[number], wanted[number], what=what, ask=ask, mistakes=mistakes, **CLOSE)

    @pytest.mark.points(2)
    @pytest.mark.needs("test_diamond")
    def test_shared_memory(self, student, rng):
        """never writes into an array that a pullback has returned, or that it was given"""
        N = int(rng.integers(2, 6))
        given = rng.normal(size=(3, 1, N))
        # Reading x.T back is a view of the gradient of x.T, not a copy; that of a sum is a view that cannot be written.
        # In both graphs that part arrives first, and another one is added to it.
        x = student.Tensor(rng.normal(size=(N, 1)))
        w = student.Tensor(rng.normal(size=(N, 1)), (x,), lambda grad: (3 * np.asarray(grad),))
        y = x.T
        root = student.Tensor(rng.normal(size=(1, N)), (w, y), lambda grad: (given[0].T, given[1]))
        ask = "A pullback may return its own input, or a view of it. What does `+=` do to it, and what `a = a + b`?"
        student.backward([x, w, y, root], given[2])
        wrong = {"a gradient that was changed after it had been passed on": given[1] + 3 * given[0]}
        expect.close(
            as_array(y.grad), given[1], what="the `grad` of y = x.T", ask=ask, mistakes=wrong, **CLOSE
        )
        expect.close(as_array(x.grad), given[1].T + 3 * given[0].T, what="the `grad` of x", ask=ask, **CLOSE)
        start = (
            "The last tensor's `grad` is what was given, in the shape of its own data. Where do you set it?"
        )
        expect.close(as_array(root.grad), given[2], what="the `grad` of the last tensor", ask=start, **CLOSE)

        u = student.Tensor(rng.normal(size=(1, N)))
        v = student.Tensor(rng.normal(size=(1, N)), (u,), lambda grad: (3 * np.asarray(grad),))
        total = u.sum()
        root = student.Tensor(0.0, (v, total), lambda grad: (given[0], np.array(2.0)))
        try:
            student.backward([u, v, total, root], np.array(1.0))
        except ValueError as error:
            expect.fail(
                expected="the `grad` of u, which a sum and another tensor share",
                got=f"ValueError: {error}",
                ask=ask,
            )
        expect.close(as_array(u.grad), 2 + 3 * given[0], what="the `grad` of u", ask=ask, **CLOSE)

        x = student.Tensor(rng.normal(size=(N, 1)))
        w = student.Tensor(rng.normal(size=(N, 1)), (x,), lambda grad: (3 * np.asarray(grad),))
        y = x.T
        z = student.Tensor(rng.normal(size=(1, N)), (w, y), lambda grad: (given[0].T, given[1]))
        with expect.unchanged(grad=given[2].T):
            student.backward([x, w, y, z, z.T], given[2].T)

    @pytest.mark.points(3)
    @pytest.mark.draws(1)
    @pytest.mark.needs("test_diamond")
    def test_trains_like_pytorch(self, student, rng):
        """with all your parts together, trains a small network as PyTorch does, to 1e-6"""
        N, D, H = rng.distinct(3, low=3, high=7)
        x, y = rng.normal(size=(N, D)), rng.normal(size=(N, 1))
        start = {
            "W1": rng.normal(size=(D, H)),
            "b1": rng.normal(size=H),
            "W2": rng.normal(size=(H, 1)),
            "b2": rng.normal(size=1),
        }
        mine = {name: student.Tensor(value) for name, value in start.items()}
        theirs = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
        through = {
            "W2": "`matmul`",
            "b2": "`add` and `unbroadcast`",
            "W1": "`matmul` twice",
            "b1": "`matmul`, `add` and `unbroadcast`",
        }

        def loss_of(p, x, y, size):
            apart = (x @ p["W1"] + p["b1"]).tanh() @ p["W2"] + p["b2"] - y
            return (apart * apart).sum() * (1 / size)

        inputs = student.Tensor(x), student.Tensor(y)
        for step in range(20):
            loss, wanted = loss_of(mine, *inputs, N), loss_of(theirs, torch.tensor(x), torch.tensor(y), N)
            ask = "Do the checks of `add`, `mul` and `matmul` pass?"
            what = f"the loss before step {step}"
            expect.close(as_array(loss.data), wanted.detach().numpy(), what=what, ask=ask, atol=1e-6, rtol=0)
            loss.backward()
            right = torch.autograd.grad(wanted, list(theirs.values()))
            for (name, way), grad in zip(
                sorted(through.items(), key=lambda pair: list(start).index(pair[0])), right, strict=True
            ):
                what = f"the gradient of {name}, of shape {start[name].shape}, at step {step}"
                ask = (
                    f"After `mul` and `add` it comes through {way}. Which of these checks does not pass yet?"
                )
                found = as_array(mine[name].grad)
                expect.close(found, grad.numpy(), what=what, ask=ask, atol=1e-6, rtol=0)
                mine[name].data = start[name] = start[name] - 0.1 * found
                theirs[name] = (theirs[name] - 0.1 * grad).detach().requires_grad_()
