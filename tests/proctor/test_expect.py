"""What checks expect: every helper names the mistake, the place and the shapes, and no value breaks one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from proctor import expect
from proctor.expect import Unmet
from proctor.remote import Local, Student, sketch

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")

SIZES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(max_size=9)
    | st.binary(max_size=9)
)
NUMPY = arrays.arrays(
    arrays.scalar_dtypes() | arrays.unicode_string_dtypes(max_len=3) | arrays.byte_string_dtypes(max_len=3),
    SIZES,
)
TORCH_DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int64, torch.uint16, torch.uint64, torch.float16, torch.bfloat16,
    torch.float32, torch.float64, torch.complex32, torch.complex64, torch.complex128, torch.float8_e4m3fn,
]  # fmt: skip


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    tensor = torch.zeros(draw(SIZES)) + draw(st.floats(width=16))
    return tensor.to(draw(st.sampled_from(TORCH_DTYPES)))


ODD = {
    "an object": object,
    "a module": lambda: nn.Linear(2, 2),
    "a sparse tensor": lambda: torch.eye(2).to_sparse(),
    "a tensor on no device": lambda: torch.zeros(2, 2, device="meta"),
    "a conjugate": lambda: torch.ones(2, 2, dtype=torch.complex64).conj(),
    "a negated view": lambda: torch.ones(2, 2, dtype=torch.complex64).conj().imag,
    "a tensor with a gradient": lambda: torch.ones(2, 2, requires_grad=True),
    "an expanded tensor": lambda: torch.ones(1, 1).expand(2, 2),
    "an array of objects": lambda: np.array([[None, "x"], [1, 2.0]], dtype=object),
    "a structured array": lambda: np.zeros((2, 2), dtype=[("a", int), ("b", float)]),
    "a masked array": lambda: np.ma.masked_array(np.zeros((2, 2)), mask=True),
    "a matrix of dates": lambda: np.zeros((2, 2), dtype="datetime64[s]"),
    "a NumPy scalar": lambda: np.float32(1),
    "a nested list": lambda: [[1.0, 2.0], [3.0]],
    "a deep list": lambda: [[[[[[[[1]]]]]]]],
    "a dict": lambda: {"a\nb": {1: 2}},
    "a function": lambda: len,
    "a dtype": lambda: torch.float32,
}
JUNK = (
    PLAIN
    | NUMPY
    | tensors()
    | st.lists(PLAIN, max_size=3)
    | st.dictionaries(st.text(max_size=3), PLAIN, max_size=2)
    | st.sampled_from(sorted(ODD)).map(lambda name: ODD[name]())
)
EXPECTED = [
    torch.tensor(1.5),
    torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
    torch.ones(2, 2, dtype=torch.float64),
    torch.zeros(0),
    torch.zeros(2, 0, dtype=torch.int64),
    torch.tensor([True, False]),
    torch.tensor([1, 2, 3]),
    torch.tensor([1 + 2j]),
    torch.tensor([float("inf"), -float("inf")]),
    np.array([1.0, 2.0], dtype=np.float32),
    np.array([[True]]),
    np.array(3),
]


def said(call: Callable[[], Any]) -> str:
    """What a helper tells the learner."""
    with pytest.raises(Unmet) as caught:
        call()
    return str(caught.value)


def same(value: Any, expected: Any) -> bool:
    """Whether a value is plainly the expected one, judged another way than by the helpers: entry by entry."""
    if isinstance(value, torch.Tensor) != isinstance(expected, torch.Tensor):
        return False
    if isinstance(expected, np.ndarray) and not isinstance(
        value, np.ndarray
    ):  # a number is an array of shape ()
        value = np.asarray(value) if isinstance(value, (np.generic, int, float, complex)) else None
    if not isinstance(value, (torch.Tensor, np.ndarray)) or tuple(value.shape) != tuple(expected.shape):
        return False
    one, two = (torch.as_tensor(n).detach().flatten().tolist() for n in (value, expected))
    return all(abs(a - b) <= 1e-3 * (1 + abs(b)) or a == b for a, b in zip(one, two, strict=True))


class TestJunk:
    """Whatever comes back, a helper says so, or it is right."""

    @given(JUNK, st.sampled_from(EXPECTED))
    def test_close_tells_or_is_right(self, value: Any, expected: Any) -> None:
        mistakes = {"twice as much": expected + expected, "of another shape": lambda: expected[None]}
        try:
            expect.close(value, expected, mistakes=mistakes)
        except Unmet:
            return
        assert same(value, expected)

    @given(JUNK, st.sampled_from(EXPECTED))
    def test_equal_tells_or_is_right(self, value: Any, expected: Any) -> None:
        try:
            expect.equal(value, expected, mistakes={"of another shape": lambda: expected[None]})
        except Unmet:
            return
        assert np.asarray(value).dtype == np.asarray(expected).dtype
        assert same(value, expected)

    @given(JUNK)
    def test_array_tells_or_is_right(self, value: Any) -> None:
        try:
            expect.array(value, shape=(2, 2), dtype=torch.float32)
        except Unmet:
            return
        assert (tuple(value.shape), value.dtype, value.layout) == ((2, 2), torch.float32, torch.strided)

    @given(JUNK)
    def test_parameters_tell_or_are_right(self, value: Any) -> None:
        layer = Student(Local({"f": lambda: value})).f()
        try:
            found = expect.parameters(layer, {"weight": (2, 2), "bias": (2,)})
        except Unmet:
            return
        assert isinstance(value, nn.Linear)
        assert sorted(found) == ["bias", "weight"]

    @given(JUNK)
    def test_gradients_tell_or_are_right(self, value: Any) -> None:
        x = torch.ones(1, 2, 3, dtype=torch.float64)
        for judge in (expect.gradients, lambda f, x: expect.reaches(f, x, torch.ones(1, 2, 1, 2) > 0)):
            with pytest.raises(Unmet):
                judge(lambda x: value, x=x)

    @given(JUNK)
    def test_a_message_is_at_most_ten_lines(self, value: Any) -> None:
        for judge in (expect.close, expect.equal):
            text = said(lambda judge=judge: judge(value, torch.full((7, 7, 7, 7), 0.125), ask="Why?"))
            assert len(text.splitlines()) <= 10

    @pytest.mark.parametrize("what", ODD)
    def test_what_is_no_plain_number_is_not_close_to_one(self, what: str) -> None:
        value = ODD[what]()
        for expected in (torch.full((2, 2), 7.0), np.full((2, 2), 7.0)):
            assert "Expected" in said(lambda expected=expected: expect.close(value, expected))


class TestClose:
    def test_the_place_both_numbers_and_the_share_are_told(self) -> None:
        value, expected = torch.tensor([[1.0, 2.5], [3.0, 9.0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        text = said(lambda: expect.close(value, expected, what="the scores", ask="Why?"))
        assert text.splitlines() == [
            "Expected  the scores[0, 1] = 2",
            "Got       2.5 at [0, 1]; 2 of 4 entries differ",
            "Ask       Why?",
        ]

    def test_two_numbers_that_differ_never_read_the_same(self) -> None:
        text = said(lambda: expect.close(torch.tensor(1.00002), torch.tensor(1.0), atol=1e-7, rtol=0.0))
        assert "= 1\n" in text
        assert "1.00002" in text

    def test_shapes_are_told(self) -> None:
        text = said(lambda: expect.close(torch.zeros(3, 2), torch.zeros(2, 3), what="it", ask="Why?"))
        assert text.splitlines() == [
            "Expected  it of shape (2, 3)",
            "Got       shape (3, 2)",
            "Ask       Why?",
        ]

    def test_a_known_mistake_is_named_also_one_of_another_shape(self) -> None:
        x = torch.tensor([1.0, 3.0])
        mistakes = {"the square of the input": x * x, "a column": lambda: x[:, None]}
        assert "Got       the square of the input" in said(lambda: expect.close(x * x, x, mistakes=mistakes))
        text = said(lambda: expect.close(x[:, None], x, mistakes=mistakes))
        assert "Got       a column" in text
        assert "of shape (2,)" in text

    def test_a_right_answer_is_never_taken_for_a_mistake(self) -> None:
        x = torch.tensor([1.0, 1.0])
        expect.close(x, x, mistakes={"the square of the input": x * x})
        expect.equal(x, x, mistakes={"the square of the input": x * x})
        assert torch.equal(x, torch.ones(2))

    @pytest.mark.parametrize("expected", [0.0, float("inf"), -float("inf")])
    def test_nan_is_never_close(self, expected: float) -> None:
        text = said(lambda: expect.close(torch.tensor([float("nan"), 0.0]), torch.tensor([expected, 0.0])))
        assert "1 of 2 entries are NaN" in text

    def test_a_mistake_full_of_nan_is_named(self) -> None:
        nan = torch.full((2,), float("nan"))
        assert "a row of zeros" in said(
            lambda: expect.close(nan, torch.ones(2), mistakes={"a row of zeros": nan})
        )

    def test_infinities_of_one_sign_are_close_and_no_others(self) -> None:
        inf = torch.tensor([float("inf"), -float("inf")])
        expect.close(inf.clone(), inf)
        assert "inf" in said(lambda: expect.close(-inf, inf))
        assert "inf" in said(lambda: expect.close(torch.zeros(2), inf))

    def test_zero_size_needs_the_right_shape(self) -> None:
        expect.close(torch.zeros(2, 0), torch.zeros(2, 0))
        assert "shape (0, 2)" in said(lambda: expect.close(torch.zeros(0, 2), torch.zeros(2, 0)))

    def test_booleans_and_complex_numbers_are_no_plain_numbers(self) -> None:
        ones = torch.ones(2)
        assert "dtype bool" in said(lambda: expect.close(ones.bool(), ones))
        assert "dtype complex64" in said(lambda: expect.close(ones.to(torch.complex64), ones))

    def test_other_precisions_and_whole_numbers_are_compared_by_value(self) -> None:
        ones = torch.ones(2)
        for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64):
            expect.close(ones.to(dtype), ones)
        assert "0 at [0]" in said(lambda: expect.close(torch.zeros(2, dtype=torch.int64), ones))

    def test_a_tensor_is_no_array_and_none_asks_for_return(self) -> None:
        assert "a NumPy array" in said(lambda: expect.close(torch.ones(2), np.ones(2)))
        assert "ends in `return`" not in said(lambda: expect.close(np.ones(2), torch.ones(2)))
        assert "return" in said(lambda: expect.close(None, torch.ones(2)))


class TestEqual:
    def test_dtype_counts(self) -> None:
        text = said(lambda: expect.equal(torch.ones(2), torch.ones(2, dtype=torch.bool), what="the mask"))
        assert "the mask of dtype bool" in text
        assert "dtype float32" in text

    def test_the_place_is_told(self) -> None:
        text = said(lambda: expect.equal(torch.tensor([1, 2]), torch.tensor([1, 3])))
        assert "[1] = 3" in text
        assert "2 at [1]; 1 of 2 entries differ" in text

    def test_large_whole_numbers_are_compared_exactly(self) -> None:
        assert "9007199254740993" in said(lambda: expect.equal(torch.tensor(2**53), torch.tensor(2**53 + 1)))

    def test_what_was_nan_before_is_unchanged(self) -> None:
        x = torch.tensor([float("nan"), 1.0])
        expect.equal(x.clone(), x)
        assert torch.isnan(x[0])


class TestArrays:
    """NumPy's arrays and numbers are held to the same as tensors, and are told of in NumPy's words."""

    @pytest.mark.parametrize("number", [np.float64(3), np.float32(3), 3.0, 3, np.array(3.0), np.array(3)])
    @pytest.mark.parametrize("expected", [3.0, np.float64(3), np.array(3.0)])
    def test_any_number_stands_for_an_array_without_dimensions(self, number: Any, expected: Any) -> None:
        expect.close(number, expected, mistakes={"twice as much": 6.0})
        assert "Got       twice as much" in said(
            lambda: expect.close(number * 2, expected, mistakes={"twice as much": 6.0})
        )

    @pytest.mark.parametrize(
        "value", [True, np.bool_(True), 3 + 0j, "3", None, [3.0], 10**400, torch.tensor(3.0)]
    )
    def test_what_is_no_real_number_stands_for_none(self, value: Any) -> None:
        assert "Expected" in said(lambda: expect.close(value, 3.0))

    def test_a_number_in_place_of_an_array_is_told(self) -> None:
        text = said(lambda: expect.close(np.float64(3), np.ones((2, 2)), what="it"))
        assert text.splitlines() == ["Expected  it of shape (2, 2)", "Got       shape (), a single number"]
        assert "one number of what should stay apart" in said(lambda: expect.close(3.0, np.ones((2, 2))))

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ([[1.0, 2.0], [3.0]], "A list neither multiplies nor broadcasts"),
            (torch.ones(2, 2), "Which line makes a tensor?"),
            (torch.ones(2, 2), "Got       Tensor: (2, 2)"),
            ((np.ones(2), np.ones(2)), "Does it return one array or several things?"),
            (np.array([[1.0, None]]), "as an array of numbers"),
            (np.array([[1.0, None]]), "rows differ in length"),
            (np.array(["a"]), "dtype <U1"),
            (np.str_("a"), "dtype <U1"),
            (np.ones((2, 2), dtype=bool), "dtype bool"),
            (np.ones((2, 2), dtype=complex), "dtype complex128"),
            (np.ma.masked_array(np.ones((2, 2)), mask=True), "[0, 0] = 7"),
        ],
    )
    def test_what_is_no_array_of_plain_numbers_is_told(self, value: Any, says: str) -> None:
        assert says in said(lambda: expect.close(value, np.full((2, 2), 7.0)))

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.longdouble, np.int8, np.uint64, ">f4"])
    def test_other_precisions_are_compared_by_value(self, dtype: Any) -> None:
        expect.close(np.full((2, 2), 7, dtype=dtype), np.full((2, 2), 7.0))
        assert "0 at [1]" in said(lambda: expect.close(np.array([7, 0], dtype=dtype), np.array([7.0, 7.0])))

    def test_the_order_in_memory_does_not_count(self) -> None:
        x = np.arange(6.0).reshape(2, 3)
        expect.equal(np.asfortranarray(x), x)
        expect.equal(x[::-1][::-1], x)
        expect.close(np.broadcast_to(np.float32(1), (2, 3)), np.ones((2, 3)))

    def test_dtypes_are_named_as_a_learner_writes_them(self) -> None:
        for dtype in (np.float32, np.dtype("float32"), "float32"):
            text = said(lambda dtype=dtype: expect.array(np.ones(2), dtype=dtype, what="it"))
            assert text.splitlines() == ["Expected  it of dtype float32", "Got       dtype float64"]
        expect.array(np.ones(2, np.float32), dtype=np.float32, shape=(2,))
        expect.array(np.float32(1), dtype=np.float32, shape=())
        assert "a NumPy array" in said(lambda: expect.array(torch.ones(2), dtype=np.float32))

    def test_an_array_changed_in_place_is_told_in_numpy_s_words(self) -> None:
        x = np.zeros((2, 3))

        def change() -> None:
            with expect.unchanged(x=x):
                x.sort()
                x[0] = 1

        text = said(change)
        assert "3 of 6 entries overwritten" in text
        assert "`x.sort()`" in text
        assert "ends in `_`" not in text

    def test_a_call_shows_arrays_by_shape_and_by_dtype_where_it_is_another(self) -> None:
        shown = {
            "(2, 3)": np.ones((2, 3)),
            "float32 (2,)": np.ones(2, np.float32),
            "int64 (2,)": np.arange(2),
            "float64 (2,)": torch.ones(2).double(),
            "0.5": np.float64(0.5),
        }
        assert [sketch(value) for value in shown.values()] == list(shown)


class TestParts:
    def test_a_tuple_or_a_list_of_as_many_things_is_taken_apart(self) -> None:
        assert expect.parts((1, None), "one", "two") == (1, None)
        assert expect.parts([1, 2], "one", "two") == (1, 2)

    @pytest.mark.parametrize(
        "value", [None, "ab", {1: 2, 3: 4}, {1, 2}, np.ones((2, 2)), torch.ones(2, 2), (1,), [1] * 3]
    )
    def test_nothing_else_is(self, value: Any) -> None:
        text = said(lambda: expect.parts(value, "components", "variances"))
        assert text.startswith("Expected  2 things: components, variances\nGot       ")
        assert text.splitlines()[2].startswith("Ask       Does the `return` hand back components, variances")

    def test_what_came_is_counted(self) -> None:
        text = said(lambda: expect.parts((np.ones(2), np.ones(3), 1), "a", "b", ask="Which two?"))
        assert text.splitlines()[1:] == ["Got       3: ((2,), (3,), 1)", "Ask       Which two?"]


class TestHolds:
    def test_an_object_of_the_learner_is_no_truth(self) -> None:
        proxy = Student(Local({"thing": object()})).thing
        assert "three" in said(lambda: expect.holds(proxy, expected="three", got="an object"))

    def test_expected_got_and_question_are_told_in_order(self) -> None:
        text = said(
            lambda: expect.holds(False, expected="rows that sum to 1", got="0.31", ask="Over which axis?")
        )
        assert text == "Expected  rows that sum to 1\nGot       0.31\nAsk       Over which axis?"
        expect.holds(True, expected="")


def mine(source: str, **names: Any) -> Student:
    """Names that a notebook's cell defines."""
    namespace: dict[str, Any] = {"torch": torch, "nn": nn, **names}
    exec(compile(source, "<ipython-input-1-x>", "exec"), namespace)
    return Student(Local(namespace))


class TestRaises:
    def test_the_expected_kind_passes_also_by_a_subclass(self) -> None:
        student = mine("class Own(ValueError): pass\ndef f(): raise Own('x')")
        expect.raises(ValueError, student.f, when="for x")
        assert "a KeyError for x" in said(lambda: expect.raises(KeyError, student.f, when="for x"))

    def test_no_error_and_another_error_are_told_in_one_line(self) -> None:
        student = mine("def f(): return 3\ndef g(): raise IndexError('a\\nb\\nc')")
        assert "no error, but 3" in said(lambda: expect.raises(ValueError, student.f, when="for x"))
        text = said(lambda: expect.raises(ValueError, student.g, when="for x", ask="Why?"))
        assert text.splitlines() == [
            "Expected  a ValueError for x",
            "Got       IndexError: a b c",
            "Ask       Why?",
        ]

    @pytest.mark.parametrize("kind", [RuntimeError, Exception])
    def test_a_stub_does_not_count(self, kind: type[Exception]) -> None:
        student = mine("def f(): raise NotImplementedError('f')")
        with pytest.raises(NotImplementedError):
            expect.raises(kind, student.f, when="for x")

    def test_an_error_of_the_check_itself_does_not_count(self) -> None:
        with pytest.raises(ZeroDivisionError):
            expect.raises(ArithmeticError, lambda: 1 / 0, when="for x")

    def test_a_missing_name_does_not_count(self) -> None:
        with pytest.raises(Exception, match="There is no `f` yet"):
            expect.raises(Exception, lambda: mine("").f(), when="for x")


class TestUnchanged:
    def test_entries_that_were_overwritten_are_counted(self) -> None:
        x = torch.zeros(2, 3)

        def change() -> None:
            with expect.unchanged(x=x):
                x[0] += 1

        text = said(change)
        assert "`x` unchanged" in text
        assert "3 of 6 entries" in text

    def test_a_new_shape_is_told(self) -> None:
        x = torch.zeros(2, 3)

        def change() -> None:
            with expect.unchanged(x=x):
                x.t_()

        assert "shape (3, 2), which was (2, 3)" in said(change)

    def test_nan_that_stays_is_unchanged(self) -> None:
        x = np.array([np.nan, np.inf])
        with expect.unchanged(x=x, y=torch.tensor([True])):
            pass
        assert np.isnan(x[0])


LAYERS = """
class Right(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 3, bias=False)
class Frozen(Right):
    def __init__(self):
        super().__init__()
        self.a.weight.requires_grad_(False)
class Endless:
    def named_parameters(self):
        while True:
            yield "b", torch.zeros(1)
class Plain:
    pass
"""


class TestParameters:
    def test_the_right_ones_are_returned(self) -> None:
        found = expect.parameters(mine(LAYERS).Right(), {"a.weight": (3, 2)})
        assert {name: tuple(value.shape) for name, value in found.items()} == {"a.weight": (3, 2)}

    def test_others_are_listed_by_name_and_shape(self) -> None:
        text = said(lambda: expect.parameters(mine(LAYERS).Right(), {"a.weight": (2, 3), "a.bias": (3,)}))
        assert "a.weight (2, 3), a.bias (3,)" in text
        assert "Got       a.weight (3, 2)" in text

    def test_a_frozen_one_is_told(self) -> None:
        text = said(lambda: expect.parameters(mine(LAYERS).Frozen(), {"a.weight": (3, 2)}))
        assert "`a.weight` that can be trained" in text

    def test_what_is_no_module_or_never_ends_is_told(self) -> None:
        for name in ("Plain", "Endless"):
            assert "Expected" in said(
                lambda name=name: expect.parameters(getattr(mine(LAYERS), name)(), {"a": (1,)})
            )


class TestGradients:
    def test_the_gradient_is_that_of_the_function(self) -> None:
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        assert expect.gradient(x * x, x, torch.tensor([1.0, 10.0])).tolist() == [2.0, 40.0]
        assert x.grad is None

    @pytest.mark.parametrize(
        ("function", "says"),
        [
            (lambda x: x.detach(), "cut off from the input"),
            (lambda x: x > 0, "dtype bool"),
            (lambda x: torch.ones(2, requires_grad=True) * 2, "no path from the input"),
            (lambda x: None, "return"),
            (lambda x: (y := x.exp()).add_(y.exp()), "modified by an inplace operation"),
        ],
    )
    def test_what_has_no_gradient_is_told(self, function: Callable[..., Any], says: str) -> None:
        x = torch.ones(2, requires_grad=True)
        assert says in said(lambda: expect.gradient(function(x), x))

    def test_a_wrong_gradient_is_told_by_the_input_s_name(self) -> None:
        text = said(lambda: expect.gradients(lambda q: q * q.detach(), q=torch.ones(2, dtype=torch.float64)))
        assert "with respect to `q`" in text
        expect.gradients(lambda q, k: q @ k, q=torch.ones(2, 3).double(), k=torch.ones(3, 2).double())

    def test_a_lost_dtype_is_told(self) -> None:
        assert "dtype float64" in said(
            lambda: expect.gradients(lambda q: q.float(), q=torch.ones(2).double())
        )

    def test_an_empty_input_breaks_nothing(self) -> None:
        x = torch.zeros(0, dtype=torch.float64)
        expect.gradients(lambda x: x * 2, x=x)
        assert x.grad is None


def mixing(weights: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that mixes the positions of each sequence by given weights (S, T)."""
    return lambda x: torch.einsum("st,btd->bsd", weights, x)


class TestReach:
    @given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 4), st.integers(1, 4))), st.integers(1, 3))
    def test_it_finds_exactly_the_positions_that_are_mixed(self, mixed: np.ndarray, batch: int) -> None:
        weights = torch.from_numpy(mixed.astype(np.float32))
        x = torch.ones(batch, weights.shape[1], 2)
        reach = expect.gradient_reach(mixing(weights), x)
        allowed = torch.zeros_like(reach)
        for b in range(batch):
            allowed[b, :, b] = torch.from_numpy(mixed)
        assert torch.equal(reach, allowed)
        expect.reaches(mixing(weights), x, allowed)

    def test_what_a_softmax_depends_on_is_not_hidden_by_its_sum(self) -> None:
        reach = expect.gradient_reach(lambda x: x.softmax(-1), torch.zeros(1, 1, 4))
        assert reach.all()

    def test_a_gradient_that_is_nan_counts_as_reached(self) -> None:
        assert expect.gradient_reach(lambda x: (x - x).sqrt() * x, torch.ones(1, 1, 1)).all()

    def test_the_future_another_sequence_and_a_missing_dependence_are_told(self) -> None:
        x, causal = torch.ones(2, 3, 4), torch.ones(3, 3).tril()
        allowed = torch.zeros(2, 3, 2, 3, dtype=torch.bool)
        allowed[0, :, 0] = allowed[1, :, 1] = causal.bool()
        expect.reaches(mixing(causal), x, allowed)
        text = said(lambda: expect.reaches(mixing(torch.ones(3, 3)), x, allowed))
        assert "output [0, 0] independent of x[0, 1], which the mask forbids" in text
        text = said(lambda: expect.reaches(lambda x: mixing(causal)(x) + x.flip(0), x, allowed))
        assert "x[1, 0], which belongs to another sequence" in text
        text = said(lambda: expect.reaches(mixing(torch.eye(3)), x, allowed))
        assert "output [0, 1] to depend on x[0, 0]" in text

    def test_an_output_of_another_length_is_told_before_anything_is_computed(self) -> None:
        allowed = torch.ones(1, 2, 1, 2, dtype=torch.bool)
        text = said(lambda: expect.reaches(lambda x: x.repeat(1, 50_000, 1), torch.ones(1, 2, 3), allowed))
        assert "an output of shape (1, 2, 3)" in text
        assert "shape (1, 100000, 3)" in text


def test_an_object_may_be_given_the_name_that_messages_show():
    student = Student(Local({"f": object, "g": lambda *_: 1}))
    thing = expect.named(student.f(), "tensor 3")
    assert sketch([thing]) == "[tensor 3]"
    assert expect.named(2.0, "a number") == 2.0


class TestManyParameters:
    """Of twenty layers, what differs would stand behind what does not: only the difference is told."""

    def told(self, *extra: nn.Module, without: int | None = None, changed: int | None = None) -> str:
        layers = [nn.Linear(2, 3 if i == changed else 2) for i in range(10)]
        wanted = {
            f"{i}.{kind}": (2, 2)[: 2 - (kind == "bias")] for i in range(10) for kind in ("weight", "bias")
        }
        module = nn.Module()
        for i, layer in enumerate([*layers, *extra]):
            if i != without:
                module.add_module(str(i), layer)
        proxy = Student(Local({"f": lambda: module})).f()
        return said(lambda: expect.parameters(proxy, wanted))

    def test_what_is_missing(self) -> None:
        text = self.told(without=7)
        assert "20 parameters, among them 7.weight (2, 2), 7.bias (2,)" in text
        assert "all but these" in text

    def test_what_is_too_many(self) -> None:
        text = self.told(nn.Linear(2, 5, bias=False))
        assert "20 parameters and no others" in text
        assert "10.weight (5, 2) besides" in text

    def test_what_has_another_shape(self) -> None:
        text = self.told(changed=4)
        assert "among them 4.weight (2, 2), 4.bias (2,)" in text
        assert "4.weight (3, 2), 4.bias (3,)" in text
        assert "besides" not in text


class TestMistakesAreMadeOnDemand:
    def test_a_right_answer_asks_for_none(self) -> None:
        def never() -> dict[str, torch.Tensor]:
            raise AssertionError("nobody needs it")

        expect.close(torch.ones(3), torch.ones(3), mistakes=never)
        expect.equal(torch.ones(3), torch.ones(3), mistakes=never)

    def test_a_wrong_answer_is_named_all_the_same(self) -> None:
        with pytest.raises(Unmet, match="twice as much"):
            expect.close(
                2 * torch.ones(3), torch.ones(3), mistakes=lambda: {"twice as much": 2 * torch.ones(3)}
            )
