"""Reverse-mode automatic differentiation over NumPy: rules, graph, backward pass, gradient check (unit 03).

An operation is a function of arrays that returns two things: its result, and its *pullback*, a function that takes
the gradient of the loss by the result and returns the gradients by the inputs, one for each. ``Tensor`` applies
operations, remembers them, and leaves the work to the functions below.

Source: Griewank and Walther, "Evaluating Derivatives", 2008, chapter 3.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Real
from numpy import ndarray

Pullback = Callable[[ndarray], tuple[ndarray, ...]]


def tanh(x: Float[ndarray, "*X"]) -> tuple[Float[ndarray, "*X"], Pullback]:
    """Take the hyperbolic tangent of every entry; its derivative is 1 - tanh²."""
    y = np.tanh(x)
    return y, lambda grad: (grad * (1 - y**2),)


def total(x: Float[ndarray, "*X"]) -> tuple[Float[ndarray, ""], Pullback]:
    """Sum all entries; each of them moves the sum as much as it moves itself."""
    return np.sum(x), lambda grad: (np.broadcast_to(grad, x.shape),)


def transpose(x: Float[ndarray, "*B M N"]) -> tuple[Float[ndarray, "*B N M"], Pullback]:
    """Swap the last two dimensions; the gradient swaps them back."""
    return np.swapaxes(x, -2, -1), lambda grad: (np.swapaxes(grad, -2, -1),)


class Tensor:
    """An array that remembers what it was computed from.

    Attributes:
        data: the array, float64.
        grad: the gradient of the loss by ``data``, of the same shape; None before the first backward pass.
        parents: the tensors that it was computed from, in the order of the operation's inputs; none for a leaf.
        pullback: takes the gradient by ``data``, returns one gradient for each parent, of the parent's shape.
    """

    __array_ufunc__ = None  # so that `array + tensor` is left to the tensor

    def __init__(self, data, parents: "Sequence[Tensor]" = (), pullback: Pullback = lambda grad: ()):
        self.data = np.array(data, dtype=np.float64)
        self.grad = None
        self.parents = tuple(parents)
        self.pullback = pullback

    @staticmethod
    def apply(operation: Callable[..., tuple[ndarray, Pullback]], *inputs) -> "Tensor":
        """Compute an operation and remember it: its inputs, and its pullback with broadcasting undone."""
        parents = [x if isinstance(x, Tensor) else Tensor(x) for x in inputs]
        result, rule = operation(*(parent.data for parent in parents))

        def pullback(grad):
            pairs = [(g, parent.data.shape) for g, parent in zip(rule(grad), parents, strict=True)]
            return [g if np.shape(g) == shape else unbroadcast(g, shape) for g, shape in pairs]

        return Tensor(result, parents, pullback)

    def __add__(self, other):
        return Tensor.apply(add, self, other)

    def __mul__(self, other):
        return Tensor.apply(mul, self, other)

    def __matmul__(self, other):
        return Tensor.apply(matmul, self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other):
        return self + other * -1

    def tanh(self):
        """Take the hyperbolic tangent of every entry."""
        return Tensor.apply(tanh, self)

    def sum(self):
        """Sum all entries to a scalar."""
        return Tensor.apply(total, self)

    @property
    def T(self):  # noqa: N802
        """The tensor with its last two dimensions swapped."""
        return Tensor.apply(transpose, self)

    def backward(self):
        """Fill in ``grad``, the gradient of the sum of this tensor's entries, in every tensor it depends on."""
        backward(topological_order(self), np.ones_like(self.data))


def add(a: Float[ndarray, "*A"], b: Float[ndarray, "*B"]) -> tuple[Float[ndarray, "*Y"], Pullback]:
    """Add two arrays, and tell how the gradient of the sum goes back to them.

    Args:
        a: the first summand.
        b: the second; the two broadcast to the shape *Y.

    Returns:
        y: (*Y), the sum a + b.
        pullback: takes the gradient of the loss by y, (*Y), and returns the pair of gradients by a and by b. Each
            has the shape of y: that broadcasting copied an input is not its concern.

    Neither the inputs nor what the pullback is given are changed.

    Source: Griewank and Walther, 2008, section 3.2.
    """
    return a + b, lambda grad: (grad, grad)


def mul(a: Float[ndarray, "*A"], b: Float[ndarray, "*B"]) -> tuple[Float[ndarray, "*Y"], Pullback]:
    """Multiply two arrays entry by entry, and tell how the gradient of the product goes back to them.

    Args:
        a: the first factor.
        b: the second; the two broadcast to the shape *Y.

    Returns:
        y: (*Y), the product a · b.
        pullback: takes the gradient of the loss by y, (*Y), and returns the pair of gradients by a and by b. Each
            has the shape of y: that broadcasting copied an input is not its concern.

    Neither the inputs nor what the pullback is given are changed.

    Source: Griewank and Walther, 2008, section 3.2.
    """
    return a * b, lambda grad: (grad * b, grad * a)


def matmul(
    a: Float[ndarray, "*A M K"], b: Float[ndarray, "*B K N"]
) -> tuple[Float[ndarray, "*Y M N"], Pullback]:
    """Multiply matrices, and tell how the gradient of the product goes back to them.

    Args:
        a: (*A, M, K), one matrix or many.
        b: (*B, K, N), one or many; the leading dimensions broadcast to *Y.

    Returns:
        y: (*Y, M, N), the matrix products a @ b.
        pullback: takes the gradient of the loss by y, (*Y, M, N), and returns the pair of gradients by a, (*Y, M, K),
            and by b, (*Y, K, N): that broadcasting copied a matrix is not its concern.

    Neither the inputs nor what the pullback is given are changed.

    Source: Giles, "Collected matrix derivative results for forward and reverse mode AD", 2008, section 2.2.
    """
    return a @ b, lambda grad: (grad @ np.swapaxes(b, -2, -1), np.swapaxes(a, -2, -1) @ grad)


def gradient_check(
    f: Callable[[Float[ndarray, "*X"]], float],
    x: Real[ndarray, "*X"],
    grad: Float[ndarray, "*X"],
    eps: float = 1e-6,
) -> float:
    """Compare a gradient with central differences, and return the largest relative error of its entries.

    Entry i of the numerical gradient n is (f(x + eps·e_i) - f(x - eps·e_i)) / (2·eps), where e_i is 1 at entry i and 0
    elsewhere. The error of an entry is |grad - n| / max(1, |grad|, |n|).

    Args:
        f: takes an array of the shape of x and returns a number.
        x: (*X), the point at which to check; it may hold integers. It is left as it was.
        grad: (*X), the gradient of f at x, as somebody claims.
        eps: how far each entry is nudged, up and down.

    Returns:
        The largest error. Where an entry of the gradient is NaN, the error is NaN, and not the largest of the others.

    Raises:
        ValueError: grad has another shape than x.

    Source: Goodfellow, Bengio and Courville, "Deep Learning", 2016, section 11.5.
    """
    if np.shape(grad) != np.shape(x):
        raise ValueError(f"the gradient has shape {np.shape(grad)}, x has shape {np.shape(x)}")
    numeric = np.zeros(np.shape(x))
    for index in np.ndindex(numeric.shape):
        nudge = np.zeros(numeric.shape)
        nudge[index] = eps
        numeric[index] = (f(x + nudge) - f(x - nudge)) / (2 * eps)
    size = np.maximum(1, np.maximum(np.abs(grad), np.abs(numeric)))
    return float(np.max(np.abs(grad - numeric) / size))


def unbroadcast(grad: Float[ndarray, "*Y"], shape: tuple[int, ...]) -> Float[ndarray, "*X"]:
    """Sum a gradient over the copies that broadcasting made, back to the shape of what was copied.

    Args:
        grad: (*Y), the gradient by the broadcast array.
        shape: *X, the shape before broadcasting: it may have fewer dimensions than *Y (broadcasting puts new ones in
            front), and 1 where *Y has more.

    Returns:
        (*X): each entry is the sum of the gradients of all its copies. Nothing is summed where nothing was copied.
    """
    new = grad.ndim - len(shape)  # dimensions that broadcasting has put in front
    stretched = tuple(new + axis for axis, size in enumerate(shape) if size == 1)
    return grad.sum(axis=(*range(new), *stretched)).reshape(shape)


def topological_order(root: Tensor) -> list[Tensor]:
    """List all tensors that a tensor depends on, each once, parents before what was computed from them.

    Args:
        root: a tensor; its ``parents``, their parents and so on make up the graph, which may be thousands of
            tensors deep.

    Returns:
        All tensors of the graph, leaves included, ``root`` last. Where several orders are right, any of them.

    Source: Cormen et al., "Introduction to Algorithms", section 22.4 of the third edition.
    """
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        tensor, done = stack.pop()
        if done:
            order.append(tensor)  # all its parents stand in the list already
        elif tensor not in seen:
            seen.add(tensor)
            stack.append((tensor, True))
            stack.extend((parent, False) for parent in tensor.parents)
    return order


def backward(order: Sequence[Tensor], grad: Float[ndarray, "*Y"]) -> None:
    """Carry a gradient from the last tensor back to all others, and leave in each ``grad`` what arrived there.

    Args:
        order: the tensors of a graph, parents before what was computed from them, as ``topological_order`` lists
            them.
        grad: (*Y), the gradient of the loss by the last of them. It is left as it was.

    Afterwards every tensor's ``grad`` is an array of the shape of its ``data``: the sum of all that its consumers send
    back to it. What ``grad`` held before the call does not matter. Each pullback is called once.

    Source: Baydin et al., "Automatic differentiation in machine learning: a survey", 2018, section 3.2.
    """
    for tensor in order:
        tensor.grad = np.zeros(tensor.data.shape)
    order[-1].grad = order[-1].grad + grad
    for tensor in reversed(order):
        for parent, part in zip(tensor.parents, tensor.pullback(tensor.grad), strict=True):
            parent.grad = parent.grad + part  # a new array: parts may share memory
