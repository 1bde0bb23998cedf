"""Someone who writes every step: inner functions, lists for tuples, gradients summed down by the rules themselves."""

import numpy as np


def add(a, b):
    def pullback(grad):
        grad_a = unbroadcast(grad, np.shape(a))
        grad_b = unbroadcast(grad, np.shape(b))
        return [grad_a, grad_b]

    return [np.add(a, b), pullback]


def mul(a, b):
    saved_a, saved_b = a.copy(), b.copy()

    def pullback(grad):
        grad_a = unbroadcast(grad * saved_b, saved_a.shape)
        grad_b = unbroadcast(grad * saved_a, saved_b.shape)
        return [grad_a, grad_b]

    return [a * b, pullback]


def matmul(a, b):
    y = np.matmul(a, b)

    def pullback(grad):
        grad_a = np.zeros(y.shape[:-1] + a.shape[-1:])
        grad_b = np.zeros(y.shape[:-2] + b.shape[-2:])
        for n in range(y.shape[-1]):  # one column of y and of b at a time
            grad_a += grad[..., :, n, None] * b[..., None, :, n]
            grad_b[..., :, n] += (a * grad[..., :, n, None]).sum(axis=-2)
        return [unbroadcast(grad_a, a.shape), unbroadcast(grad_b, b.shape)]

    return [y, pullback]


def gradient_check(f, x, grad, eps=1e-6):
    x = np.array(x, dtype=float)
    if grad.shape != x.shape:
        raise ValueError("shapes differ")
    errors = []
    for i in range(x.size):
        before = x.flat[i]
        x.flat[i] = before + eps
        above = f(x)
        x.flat[i] = before - eps
        below = f(x)
        x.flat[i] = before
        slope = (above - below) / (2 * eps)
        claim = grad.flat[i]
        if np.isnan(claim) or np.isnan(slope):
            return float("nan")
        errors.append(abs(claim - slope) / max(1.0, abs(claim), abs(slope)))
    return max(errors)


def unbroadcast(grad, shape):
    grad = np.asarray(grad)
    while grad.ndim > len(shape):
        grad = grad.sum(axis=0)
    for axis in range(len(shape)):
        if shape[axis] == 1:
            grad = grad.sum(axis=axis, keepdims=True)
    return grad


def topological_order(root):
    # Count consumers, then take away, from the root on, whatever has none left; the list is built from its end.
    consumers, waiting = {root: 0}, [root]
    while waiting:
        tensor = waiting.pop()
        for parent in tensor.parents:
            if parent not in consumers:
                consumers[parent] = 0
                waiting.append(parent)
            consumers[parent] += 1
    order, free = [], [root]
    while free:
        tensor = free.pop()
        order.insert(0, tensor)
        for parent in tensor.parents:
            consumers[parent] -= 1
            if consumers[parent] == 0:
                free.append(parent)
    return order


def backward(order, grad):
    for tensor in order:
        tensor.grad = np.zeros_like(tensor.data)
    order[-1].grad[...] = grad
    for i in range(len(order) - 1, -1, -1):
        tensor = order[i]
        if len(tensor.parents) == 0:
            continue
        parts = tensor.pullback(tensor.grad)
        for j in range(len(tensor.parents)):
            tensor.parents[j].grad += parts[j]  # an array of its own, made above
