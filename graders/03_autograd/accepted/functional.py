"""Short forms: partial application, einsum, the standard library's sorter, gradients collected beside the tensors."""

from functools import partial
from graphlib import TopologicalSorter

import numpy as np


def twice(grad):
    return grad, grad


def times(other, grad):
    return np.einsum("...,...->...", grad, other)


def pairwise(rules, grad):
    return tuple(rule(grad) for rule in rules)


def add(a, b):
    return np.add(a, b), twice


def mul(a, b):
    return np.multiply(a, b), partial(pairwise, (partial(times, b), partial(times, a)))


def matmul(a, b):
    left, right = partial(np.einsum, "...kn,...mn->...mk", b), partial(np.einsum, "...mk,...mn->...kn", a)
    return np.einsum("...mk,...kn->...mn", a, b), partial(pairwise, (left, right))


def gradient_check(f, x, grad, eps=1e-6):
    if not np.array_equal(np.shape(x), np.shape(grad)):
        raise ValueError("different shapes")
    basis = np.eye(np.size(x)).reshape(np.size(x), *np.shape(x))
    numeric = [(f(x + eps * e) - f(x + -eps * e)) / (eps + eps) for e in basis]
    pairs = np.stack([np.ravel(grad), numeric])
    size = np.vstack([np.abs(pairs), np.ones(np.size(x))]).max(axis=0)
    return np.max(np.abs(np.diff(pairs, axis=0)) / size)


def unbroadcast(grad, shape):
    padded = (1,) * (np.ndim(grad) - len(shape)) + tuple(shape)
    copied = tuple(np.flatnonzero(np.not_equal(padded, np.shape(grad))).tolist())
    return np.reshape(np.add.reduce(grad, axis=copied) if copied else grad, shape)


def topological_order(root):
    graph, waiting = {}, [root]
    while waiting:
        tensor = waiting.pop()
        if tensor not in graph:
            graph[tensor] = tensor.parents
            waiting.extend(tensor.parents)
    return tuple(TopologicalSorter(graph).static_order())


def backward(order, grad):
    arrived = {tensor: [] for tensor in order}
    arrived[order[-1]].append(np.array(grad))
    for tensor in order[::-1]:
        tensor.grad = sum(arrived[tensor][1:], start=arrived[tensor][0])
        if tensor.parents:
            for parent, part in zip(tensor.parents, tensor.pullback(tensor.grad), strict=True):
                arrived[parent].append(part)
