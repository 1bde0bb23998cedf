"""Expectations of gradients that take several inputs at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from proctor import expect
from proctor.unmet import Unmet

ONE = {"a": torch.tensor([0.3, -1.2, 2.0]).double()}
TWO = {"a": torch.tensor([[0.3, -1.2, 2.0]]).double(), "b": torch.tensor([[1.1], [0.4], [-0.7]]).double()}


def cut(x: torch.Tensor) -> torch.Tensor:
    """Its value, off the graph."""
    return x.detach()


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda a: a.exp(), ONE),
        (lambda a: a.softmax(-1) * 1e6, ONE),
        (lambda a: a.abs() * 1e-6, ONE),
        (lambda a: a[:1].expand(4, 1), ONE),
        (lambda a, b: a @ b, TWO),
        (lambda b, a: (a * b).cumsum(0), TWO),
    ],
)
def test_a_right_gradient_is_right(
    function: Callable[..., torch.Tensor], inputs: dict[str, torch.Tensor]
) -> None:
    expect.gradients(function, **inputs)
    assert all(not value.requires_grad and value.grad is None for value in inputs.values())


@pytest.mark.parametrize(
    ("function", "whose"),
    [
        (lambda a, b: a @ b + 0.01 * cut(b).sum(), "b"),
        (lambda a, b: a @ b + 0.01 * cut(a).square().sum(), "a"),
        (lambda a, b: (a * cut(a)) @ b, "a"),
        (lambda a, b: a @ b * cut(b).norm() / b.norm(), "b"),
    ],
)
def test_the_input_with_the_wrong_gradient_is_named(
    function: Callable[..., torch.Tensor], whose: str
) -> None:
    with pytest.raises(Unmet, match=f"with respect to `{whose}` that small changes of `{whose}` show"):
        expect.gradients(function, **TWO)


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_input_without_a_path_to_the_output_is_named(name: str) -> None:
    def function(**given: torch.Tensor) -> torch.Tensor:
        given[name] = cut(given[name])
        return given["a"] @ given["b"]

    with pytest.raises(Unmet, match=f"no path from `{name}` to the output"):
        expect.gradients(function, **TWO)


@given(st.floats(1e-4, 1.0), st.integers(0, 2))
def test_one_entry_that_is_off_by_a_little_is_found(share: float, entry: int) -> None:
    def function(a: torch.Tensor) -> torch.Tensor:
        weight = torch.zeros(3, dtype=torch.float64)
        weight[entry] = share
        return a.sin() * (1 - weight) + cut(a).sin() * weight

    with pytest.raises(Unmet, match="another gradient"):
        expect.gradients(function, **ONE)


def test_an_output_that_depends_on_chance_is_not_differentiable() -> None:
    with pytest.raises(Unmet, match="another gradient"):
        expect.gradients(lambda a: a * torch.rand(3, dtype=torch.float64), **ONE)


def test_an_output_that_changes_its_shape_is_not_differentiable() -> None:
    shapes = iter([3, 2, 3, 2, 3, 2, 3])
    with pytest.raises(Unmet, match="another gradient"):
        expect.gradients(lambda a: a[: next(shapes)], **ONE)
