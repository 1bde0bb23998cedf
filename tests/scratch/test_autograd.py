"""Properties of ``scratch.autograd``, judged by PyTorch, by loops over copies, and by all paths through a graph."""

import inspect
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch import autograd
from scratch.autograd import (
    Tensor,
    add,
    backward,
    gradient_check,
    matmul,
    mul,
    topological_order,
    unbroadcast,
)

seeds = st.integers(0, 2**31 - 1)
quick = settings(max_examples=60, deadline=None)
SOLUTION = Path(__file__).parents[2] / "solutions" / "03_autograd" / "autograd.ipynb"


@st.composite
def broadcasting(draw):
    """Return two shapes that broadcast with each other."""
    full = draw(st.lists(st.integers(1, 4), max_size=4))
    shapes = []
    for _ in range(2):
        kept = full[draw(st.integers(0, len(full))) :]
        shapes.append(tuple(1 if draw(st.booleans()) else size for size in kept))
    return tuple(shapes)


@st.composite
def graphs(draw):
    """Return the parents of each tensor of a random graph, by number; the last tensor is the root."""
    count = draw(st.integers(1, 9))
    return [tuple(draw(st.lists(st.integers(0, n - 1), max_size=3))) if n else () for n in range(count)]


def build(parents, slopes=None):
    """Return the tensors of a graph whose pullbacks multiply by ``slopes[child][i]``."""
    tensors = []
    for number, sources in enumerate(parents):
        by = slopes[number] if slopes else [1.0] * len(sources)
        tensors.append(
            Tensor(number, [tensors[s] for s in sources], lambda grad, by=by: tuple(grad * b for b in by))
        )
    return tensors


def over_all_paths(parents, slopes, start):
    """Sum the products of the slopes over every path from a tensor to the last one."""
    if start == len(parents) - 1:
        return 1.0
    return sum(
        slope * over_all_paths(parents, slopes, child)
        for child, sources in enumerate(parents)
        for source, slope in zip(sources, slopes[child], strict=True)
        if source == start
    )


@pytest.mark.parametrize(("ours", "theirs"), [(add, torch.add), (mul, torch.mul)])
@quick
@given(shapes=broadcasting(), seed=seeds)
def test_rules_and_unbroadcast_agree_with_pytorch(ours, theirs, shapes, seed):
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=shape) for shape in shapes]
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    grad = rng.normal(size=np.broadcast_shapes(*shapes))
    expected = theirs(*tensors)
    y, pullback = ours(*inputs)
    np.testing.assert_allclose(y, expected.detach())
    wanted = torch.autograd.grad(expected, tensors, torch.tensor(grad))
    for part, x, right in zip(pullback(grad), inputs, wanted, strict=True):
        np.testing.assert_allclose(unbroadcast(part, x.shape), right, atol=1e-12)


@quick
@given(broadcasting(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), seeds)
def test_matrix_products_agree_with_pytorch(leading, M, K, N, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(*leading[0], M, K)), rng.normal(size=(*leading[1], K, N))
    tensors = [torch.tensor(x, requires_grad=True) for x in (a, b)]
    y, pullback = matmul(a, b)
    grad = rng.normal(size=y.shape)
    expected = torch.matmul(*tensors)
    np.testing.assert_allclose(y, expected.detach())
    wanted = torch.autograd.grad(expected, tensors, torch.tensor(grad))
    for part, x, right in zip(pullback(grad), (a, b), wanted, strict=True):
        np.testing.assert_allclose(unbroadcast(part, x.shape), right, atol=1e-12)


class TestUnbroadcast:
    @quick
    @given(broadcasting(), seeds)
    def test_is_the_transpose_of_broadcasting(self, shapes, seed):
        rng = np.random.default_rng(seed)
        full = np.broadcast_shapes(*shapes)
        x, grad = rng.normal(size=shapes[0]), rng.normal(size=full)
        back = unbroadcast(grad, x.shape)
        assert back.shape == x.shape
        np.testing.assert_allclose((back * x).sum(), (grad * np.broadcast_to(x, full)).sum(), atol=1e-10)

    def test_of_the_syllabus(self):
        grad = np.arange(24.0).reshape(2, 4, 3)
        np.testing.assert_array_equal(unbroadcast(grad, (1, 1, 3)), [[[84.0, 92.0, 100.0]]])


class TestTopologicalOrder:
    @quick
    @given(graphs())
    def test_lists_ancestors_once_and_parents_first(self, parents):
        tensors = build(parents)
        order = topological_order(tensors[-1])
        ancestors, waiting = set(), [tensors[-1]]
        while waiting:
            tensor = waiting.pop()
            ancestors.add(tensor)
            waiting.extend(parent for parent in tensor.parents if parent not in ancestors)
        assert order[-1] is tensors[-1]
        assert len(order) == len(ancestors)
        assert set(order) == ancestors
        place = {tensor: i for i, tensor in enumerate(order)}
        assert all(place[parent] < place[tensor] for tensor in order for parent in tensor.parents)

    def test_takes_deep_and_tangled_graphs(self):
        tensor = Tensor(0)
        for _ in range(20_000):
            tensor = Tensor(0, (tensor, tensor))
        assert len(topological_order(tensor)) == 20_001


class TestBackward:
    @quick
    @given(graphs(), seeds)
    def test_sums_over_all_paths(self, parents, seed):
        rng = np.random.default_rng(seed)
        slopes = [rng.normal(size=len(sources)) for sources in parents]
        tensors = build(parents, slopes)
        backward(topological_order(tensors[-1]), np.array(1.0))
        for number, tensor in enumerate(tensors):
            if tensor.grad is not None:
                wanted = over_all_paths(parents, slopes, number)
                np.testing.assert_allclose(tensor.grad, wanted, atol=1e-9)

    def test_starts_afresh_and_leaves_what_it_is_given(self):
        x = Tensor([[1.0, 2.0]])
        y = x.T + x.T
        grad = np.array([[3.0], [5.0]])
        for _ in range(2):
            backward(topological_order(y), grad)
            np.testing.assert_array_equal(x.grad, [[6.0, 10.0]])
        np.testing.assert_array_equal(grad, [[3.0], [5.0]])

    def test_never_writes_into_what_a_pullback_returned(self):
        x = Tensor([1.0, 2.0])
        total = x.sum()  # its pullback returns a view that cannot be written
        (total * 3 + (x * x).sum() + total).backward()
        np.testing.assert_array_equal(x.grad, [6.0, 8.0])
        np.testing.assert_array_equal(total.grad, 4.0)


class TestGradientCheck:
    @quick
    @given(st.lists(st.integers(1, 3), max_size=3), seeds)
    def test_tells_right_from_wrong(self, shape, seed):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=shape)
        right = np.asarray(np.cos(x))
        assert gradient_check(lambda x: float(np.sin(x).sum()), x, right) < 1e-8
        wrong = right.copy()
        wrong[tuple(rng.integers(size) for size in shape)] += 0.3
        assert gradient_check(lambda x: float(np.sin(x).sum()), x, wrong) > 0.2

    def test_measures_as_defined(self):
        f = lambda x: float((x**3).sum())  # noqa: E731
        x = np.array([1.0, 10.0])
        # eps = 1: the central difference is 3x² + 1, so (4, 301)
        assert gradient_check(f, x, np.array([4.0, 301.0]), eps=1.0) == pytest.approx(0)
        assert gradient_check(f, x, np.array([4.0, 602.0]), eps=1.0) == pytest.approx(0.5)
        assert gradient_check(f, x, np.array([1.0, 301.0]), eps=1.0) == pytest.approx(0.75)
        assert gradient_check(f, 0 * x, np.array([1.0, 1.5]), eps=1.0) == pytest.approx(0.5 / 1.5)

    def test_takes_integers_and_leaves_them(self):
        x = np.array([1, 2, 3])
        assert gradient_check(lambda x: float((x**2).sum()), x, 2.0 * x) < 1e-8
        np.testing.assert_array_equal(x, [1, 2, 3])

    def test_lets_no_nan_pass(self):
        assert np.isnan(gradient_check(lambda x: float(x.sum()), np.zeros(3), np.array([1.0, np.nan, 1.0])))

    @pytest.mark.parametrize("shape", [(3, 1), (1, 3), (), (4,)])
    def test_refuses_another_shape(self, shape):
        with pytest.raises(ValueError, match="has shape"):
            gradient_check(lambda x: float(x.sum()), np.zeros(3), np.ones(shape))


class TestTensor:
    def test_every_operation_passes_pytorchs_judgement(self):
        rng = np.random.default_rng(0)
        a, b, c = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=5)

        def run(a, b, c):
            return (((a @ b.T + c).tanh() * 2 - c) * c + 1).sum()

        mine, theirs = (
            [Tensor(x) for x in (a, b, c)],
            [torch.tensor(x, requires_grad=True) for x in (a, b, c)],
        )
        loss = run(*mine)
        loss.backward()
        np.testing.assert_allclose(loss.data, run(*theirs).item())
        for tensor, right in zip(mine, torch.autograd.grad(run(*theirs), theirs), strict=True):
            np.testing.assert_allclose(tensor.grad, right, atol=1e-12)

    def test_arrays_may_stand_on_the_left(self):
        x = Tensor([1.0, 2.0])
        y = np.array([3.0, 4.0]) * x + np.float64(1)
        assert isinstance(np.array([1.0, 1.0]) + y, Tensor)
        np.testing.assert_array_equal(y.data, [4.0, 9.0])

    def test_keeps_its_own_copy_of_the_data(self):
        data = np.ones(2)
        x = Tensor(data)
        data += 1
        np.testing.assert_array_equal(x.data, [1.0, 1.0])
        assert x.grad is None


def test_the_notebook_holds_the_librarys_own_tensor():
    cells = {cell.id: cell.source for cell in nbformat.read(SOLUTION, as_version=4).cells}
    assert cells["tensor"] == inspect.getsource(Tensor).strip()
    for operation in (autograd.tanh, autograd.total, autograd.transpose):
        assert inspect.getsource(operation).strip() in cells["operations"]
