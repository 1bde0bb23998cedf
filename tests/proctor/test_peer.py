"""The conversation: what a check may do at every door, gradients, and what a forger may try.

The first part is written once and run at three doors: in this process, over a wire to a thread, and in a sandbox.
"""

from __future__ import annotations

import json
import linecache
import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proctor.peer import MAX_NESTED, MAX_REPLIES, Peer, StudentGone
from proctor.proxies import generate
from proctor.remote import Local, Proxy, Remote, Student
from proctor.sandbox import Limits, Sandbox
from proctor.student import Student as Served
from proctor.trouble import Trouble, as_exception, describe
from proctor.values import Encoder
from proctor.wire import MAGIC, Connection, WireClosed, WireError

CELL = '''import collections, sys
from typing import NamedTuple
import numpy as np
import torch
from torch import nn

constant = {"a": [1, (2.5, None)], 3: {"x", b"y"}}
scale = nn.Parameter(torch.tensor(3.0))

def add(a, b=1, *, c=0):
    return a + b + c

def double(x):
    return x * 2

def same(x):
    return x

def scaled(x):
    return x * scale

def cut(x):
    return (x * 2).detach()

def several(x, y):
    return {"sum": x + y, "pair": (x * y, y.argmax()), "other": [x.detach(), "text"]}

def is_same(a, b):
    return a is b

def in_place(x, rest=None):
    x *= 2
    return rest

def in_place_then_out(x):
    x.mul_(3)
    return x.sum()

def deeper(x):
    x.unsqueeze_(0)

def resize(x):
    x.resize(7, refcheck=False)

def overwrite(x, value):
    x[...] = value

def apply(function, *args, **kwargs):
    return function(*args, **kwargs)

def forward(function, x):
    return function(x * 2) + x

def hush(function):
    try:
        return function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def fall(kind, *args):
    raise getattr(__import__("builtins"), kind)(*args)

class Mine(ValueError):
    pass

def fall_mine():
    raise Mine("of my own")

class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no text")

def fall_silently():
    raise Silent

def fall_late(x):
    class Late(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()
        @staticmethod
        def backward(ctx, g):
            raise KeyError("in backward")
    return Late.apply(x)

def leave(code=0):
    sys.exit(code)

def interrupt():
    raise KeyboardInterrupt

class Value:
    def __init__(self, data):
        self.data = data
    def __add__(self, other):
        other = other.data if isinstance(other, Value) else other
        return Value(self.data + other) if isinstance(other, (int, float)) else NotImplemented
    __radd__ = __add__
    def __sub__(self, other):
        return Value(self.data - getattr(other, "data", other))
    def __rsub__(self, other):
        return Value(other - self.data)
    def __mul__(self, other):
        return Value(self.data * getattr(other, "data", other))
    __rmul__ = __mul__
    def __truediv__(self, other):
        return Value(self.data / getattr(other, "data", other))
    def __rtruediv__(self, other):
        return Value(other / self.data)
    def __pow__(self, other):
        return Value(self.data ** other)
    def __matmul__(self, other):
        return self.data * other.data
    def __neg__(self):
        return Value(-self.data)
    def __float__(self):
        return float(self.data)
    def __int__(self):
        return int(self.data)

class Shelf:
    def __init__(self, *things):
        self.things = list(things)
    def __len__(self):
        return len(self.things)
    def __getitem__(self, index):
        return self.things[index]
    def __setitem__(self, index, thing):
        self.things[index] = thing
    def __contains__(self, thing):
        return thing in self.things

class Old:
    def __getitem__(self, index):
        return [10, 20][index]

def count(n):
    yield from range(n)

class Net(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.layers = nn.ModuleList([nn.Linear(outputs, outputs) for _ in range(2)])
        self.kept = None
    def forward(self, x):
        x = self.linear(x)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        self.kept = x
        return x

class Config(NamedTuple):
    width: int
    name: str = "small"

def width_of(config):
    return config.width

class Vocabulary(dict):
    def encode(self, text):
        return [self[letter] for letter in text]

def ordered():
    return collections.OrderedDict(b=1, a=2)

def largest(x):
    return x.max(dim=-1)

class Shield:
    def __init__(self):
        self.log = []
    def __enter__(self):
        self.log.append("in")
        return self
    def __exit__(self, kind, error, trace):
        self.log.append("out")
        return True

class Pretender:
    """Would pass for any answer, if it were asked."""
    def __sub__(self, other):
        return torch.zeros(3)
    __rsub__ = __add__ = __radd__ = __mul__ = __rmul__ = __sub__
    def __lt__(self, other):
        return True
    __le__ = __gt__ = __ge__ = __eq__ = __lt__
    __hash__ = None
    def __abs__(self):
        return 0.0
    __array_interface__ = {"data": (8, False), "shape": (4,), "typestr": "<f4", "version": 3}
    __cuda_array_interface__ = __array_interface__
    def __array__(self, *_, **__):
        return np.zeros(3)

def bowl():
    inner = []
    inner.append(inner)
    return inner

def draw():
    return torch.rand(3)

class Noisy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2
    @staticmethod
    def backward(ctx, gradient):
        return torch.rand(3)

noisy = Noisy.apply

def draw_and_ask(function):
    return torch.rand(3), function()

def counter():
    return 1

def count_up():
    global counter
    old = counter
    counter = lambda: old() + 1

def count_up_and_fall():
    count_up()
    raise ValueError("after it")

def count_up_and_ask(function):
    count_up()
    return function()

def settle(value):
    global counter
    counter = value

def forget():
    global counter
    del counter

number = 1

def raise_number():
    global number
    number += 1

class Endless:
    def pairs(self):
        n = 0
        while True:
            yield n, torch.ones(n)
            n += 1
    def one(self):
        return [1, 2]
    def none(self):
        return None
    def falling(self):
        yield 1
        raise KeyError("on the way")
    def shelf(self):
        return Shelf(1, 2)
'''

Namespace = dict[str, Any]


def cell_namespace() -> Namespace:
    """What the cell defines, with lines that can be told, as in a notebook."""
    name, namespace = "<ipython-input-1-abc>", {"__name__": "__main__"}
    linecache.cache[name] = (len(CELL), None, CELL.splitlines(keepends=True), name)
    exec(compile(CELL, name, "exec"), namespace)
    return namespace


@contextmanager
def over_a_wire(namespace: Namespace, seconds: float = 20.0, total: float = 300.0) -> Iterator[Remote]:
    """A student's side in a thread of this process."""
    ours, theirs = (Connection(end) for end in socket.socketpair())
    served = Served(SimpleNamespace(namespace=namespace, run=None))
    thread = threading.Thread(target=lambda: (served.serve(theirs), theirs.close()), daemon=True)
    thread.start()
    assert ours.receive(time.monotonic() + 20) == ({"ready": True}, [])
    remote = Remote(ours, seconds, total)
    remote.served = served
    yield remote
    ours.close()
    thread.join(20)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(memory=4 << 30)) as sandbox:
        yield sandbox


@pytest.fixture(params=["local", "wire", "sandbox"])
def student(request: pytest.FixtureRequest) -> Iterator[Student]:
    if request.param == "local":
        yield Student(Local(cell_namespace()))
    elif request.param == "wire":
        with over_a_wire(cell_namespace()) as remote:
            yield Student(remote)
            assert not remote.gone
    else:
        with request.getfixturevalue("sandbox").submission() as submission:
            remote = Remote(submission.connection, 20.0, 300.0)
            assert remote.run(CELL, 30.0) == {"outputs": [], "error": None}
            yield Student(remote)
            assert not remote.gone


def randn(*shape: int, grad: bool = True) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


# What a check does, at every door


def test_calls_take_and_give_plain_data(student: Student) -> None:
    assert student.add(1) == 2
    assert student.add(1, 2, c=3) == 6
    assert student.add(a=[1], b=[2], c=[3]) == [1, 2, 3]
    assert torch.equal(student.double(torch.ones(2)), torch.full((2,), 2.0))
    assert student.constant == {"a": [1, (2.5, None)], 3: {"x", b"y"}}
    assert student.same(("a\0", "\ud83d\ude00", 2**70, float("inf"))) == (
        "a\0",
        "\ud83d\ude00",
        2**70,
        math.inf,
    )


def test_a_name_that_does_not_exist_is_told(student: Student) -> None:
    with pytest.raises(StudentGone, match="There is no `nothing` yet"):
        student.nothing  # noqa: B018


def test_attributes_are_read_and_set(student: Student) -> None:
    value = student.Value(2)
    assert value.data == 2
    value.data = 5
    assert value.data == 5
    value.inner = student.Value(3)
    assert value.inner.data == 3
    with pytest.raises(AttributeError) as caught:
        value.missing  # noqa: B018
    assert caught.value.trouble.type == "AttributeError"
    assert not hasattr(value, "missing")


def test_functions_and_classes_tell_their_names(student: Student) -> None:
    assert student.add.__name__ == "add"
    assert student.Net.__name__ == "Net"


def test_containers_of_the_learners_are_asked_as_their_own(student: Student) -> None:
    shelf = student.Shelf("a", student.Value(1), torch.ones(2))
    assert len(shelf) == 3
    assert shelf[0] == "a"
    assert shelf[1].data == 1
    assert shelf[0:1] == ["a"]
    shelf[0] = "b"
    assert shelf[0] == "b"
    assert "b" in shelf
    assert [type(thing) for thing in shelf] == [str, Proxy, torch.Tensor]
    with pytest.raises(IndexError):
        shelf[9]
    assert list(student.Old()) == [10, 20]


def test_generators_are_iterated(student: Student) -> None:
    assert list(student.count(5)) == [0, 1, 2, 3, 4]
    numbers = student.count(2)
    assert next(numbers) == 0
    assert next(numbers) == 1
    with pytest.raises(StopIteration):
        next(numbers)


def test_operators_make_objects_of_the_learners(student: Student) -> None:
    a, b = student.Value(6.0), student.Value(2.0)
    for made, expected in [
        (a + b, 8), (a + 1, 7), (1 + a, 7), (a - b, 4), (1 - a, -5), (a * b, 12), (2 * a, 12), (a / b, 3), (3 / a, 0.5),
        (a**2, 36), (-a, -6), (a - 1, 5),
    ]:  # fmt: skip
        assert isinstance(made, Proxy)
        assert made.data == expected
    assert a @ b == 12
    assert float(a) == 6.0
    assert int(a) == 6
    with pytest.raises(TypeError, match="unsupported operand"):
        a + "text"


def test_an_object_is_not_its_own_judge(student: Student) -> None:
    """What would let an object see the answer, or say that it is right, fails as the learner's error."""
    forged, tensor, array = student.Pretender(), torch.ones(3), np.ones(3)
    attempts: list[Callable[[], Any]] = [
        lambda: forged - tensor, lambda: tensor - forged, lambda: forged - array, lambda: array - forged,
        lambda: forged - np.float32(1), lambda: np.float32(1) - forged, lambda: forged - 1.0, lambda: 1.0 - forged,
        lambda: forged + tensor, lambda: tensor * forged, lambda: forged < 1, lambda: 1 < forged,  # noqa: SIM300
        lambda: forged >= 1,
        lambda: tensor < forged, lambda: array < forged, lambda: abs(forged), lambda: round(forged),
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(TypeError) as caught:
            attempt()
        assert caught.value.trouble.type == "TypeError"
        assert "where a tensor, an array or a number was expected" in str(caught.value)
    assert forged != 1
    assert not forged == 1  # noqa: SIM201
    assert 1 not in [forged]


def test_numpy_and_torch_are_told_nothing_of_a_proxy(student: Student) -> None:
    """``__array_interface__`` is an address: whoever may name one may read all memory of this process."""
    forged = student.Pretender()
    for name in (
        "__array_interface__ __array_struct__ __cuda_array_interface__ __array__ __dlpack__ __index__".split()
    ):
        assert not hasattr(forged, name)
    for make in (np.asarray, np.array):
        with suppress(TypeError, ValueError):
            assert make(forged).dtype == object
    for make in (torch.tensor, torch.as_tensor, torch.asarray):
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            make(forged)


def test_a_learners_context_manager_cannot_swallow_what_a_check_raises(student: Student) -> None:
    shield = student.Shield()
    with pytest.raises(AssertionError, match="of the check"), shield as inner:
        assert inner.log == ["in"]
        raise AssertionError("of the check")
    assert shield.log == ["in", "out"]


def test_modules_carry_their_parameters(student: Student) -> None:
    net = student.Net(3, 2)
    reference = torch.nn.Linear(3, 2)
    state = net.state_dict()
    assert list(state) == [
        f"{part}.{kind}" for part in ("linear", "layers.0", "layers.1") for kind in ("weight", "bias")
    ]
    state["linear.weight"], state["linear.bias"] = reference.weight.detach(), reference.bias.detach()
    net.load_state_dict(state)
    x = torch.randn(4, 3)
    assert torch.allclose(net.linear(x), reference(x))
    named = dict(net.named_parameters())
    assert set(named) == set(state)
    assert all(isinstance(parameter, torch.nn.Parameter) for parameter in named.values())
    assert torch.equal(named["linear.weight"], reference.weight)
    assert sum(parameter.numel() for parameter in net.parameters()) == 3 * 2 + 2 + 2 * (2 * 2 + 2)
    assert len(net.layers) == 2
    assert net.layers[1].weight.shape == (2, 2)
    assert net.linear.weight.requires_grad
    assert net.training is True
    net.eval()
    assert net.training is False
    net.linear.weight = torch.nn.Parameter(torch.zeros(2, 3))
    assert torch.equal(net.linear(x), net.linear.bias.expand(4, 2))
    with pytest.raises(RuntimeError, match="Missing key"):
        net.load_state_dict({})


def test_seeds_are_the_same_at_every_door(student: Student) -> None:
    student._backend.seed(7)
    torch.manual_seed(7)
    expected = student.draw()
    student._backend.seed(7)
    torch.manual_seed(7)
    assert torch.equal(student.draw(), expected)


def test_a_name_stands_for_what_it_stands_for_now(student: Student) -> None:
    """However a call of the learner's gives it to something else, and although it is not asked for each time."""
    first = student.counter
    assert student.counter() == 1
    student.count_up()
    assert student.counter() == 2
    assert first() == 1
    with pytest.raises(ValueError, match="after it"):
        student.count_up_and_fall()
    assert student.counter() == 3
    assert student.count_up_and_ask(lambda: student.counter()) == 4
    student.settle(5)
    assert student.counter == 5
    student.settle(torch.ones(2))
    assert torch.equal(student.counter, torch.ones(2))
    student.settle(first)
    assert student.counter() == 1
    student.forget()
    with pytest.raises(StudentGone, match="There is no `counter` yet"):
        student.counter  # noqa: B018
    student.settle(first)
    assert student.counter() == 1


def test_a_name_of_plain_data_is_seen_fresh(student: Student) -> None:
    for expected in (1, 2, 3):
        assert student.number == expected
        student.raise_number()


def test_a_seed_holds_for_whatever_is_asked_next(student: Student) -> None:
    def seeded(use: Callable[[], Any]) -> Any:
        torch.manual_seed(7)
        student._backend.seed(7)
        return use()

    torch.manual_seed(7)
    expected = torch.rand(3)
    assert torch.equal(seeded(lambda: student.draw()), expected)
    assert torch.equal(seeded(lambda: student.draw_and_ask(lambda: 1))[0], expected)
    assert not torch.equal(student.draw(), expected)
    x = torch.ones(3, requires_grad=True)
    out = student.noisy(x).sum()
    seeded(lambda: out.backward(retain_graph=True))
    assert torch.equal(x.grad, expected)
    assert torch.equal(seeded(lambda: torch.autograd.grad(out, x))[0], expected)


def test_a_generator_is_listed_in_one_call(student: Student) -> None:
    things = student.Endless()
    pairs = generate(things.pairs, 4)
    assert [(n, tuple(tensor.shape)) for n, tensor in pairs] == [(n, (n,)) for n in range(4)]
    assert generate(things.one, 1) == [1, 2]
    assert generate(things.none, 1) is None
    assert list(generate(things.shelf, 1)) == [1, 2]
    with pytest.raises(KeyError, match="on the way"):
        generate(things.falling, 3)
    parameters = generate(student.Net(3, 2).named_parameters, 2)
    assert [name for name, _ in parameters] == ["linear.weight", "linear.bias"]
    assert all(isinstance(value, torch.nn.Parameter) for _, value in parameters)


def test_objects_and_data_of_containers_are_told_apart(student: Student) -> None:
    config = student.Config(7)
    assert config.width == 7
    assert student.width_of(config) == 7
    assert config[1] == "small"
    vocabulary = student.Vocabulary(a=1, b=2)
    assert vocabulary.encode("ab") == [1, 2]
    assert student.ordered() == {"a": 2, "b": 1}
    assert type(student.ordered()) is dict
    values, indices = student.largest(torch.tensor([[1.0, 5.0]]))
    assert (values.item(), indices.item()) == (5.0, 1)
    assert type(student.largest(torch.ones(1, 1))) is tuple
    with pytest.raises((RuntimeError, RecursionError)) as caught:
        student.bowl()
    assert hasattr(caught.value, "trouble")


def test_one_tensor_passed_twice_is_one_tensor(student: Student) -> None:
    x, a = torch.ones(2), np.ones(2)
    assert student.is_same(x, x) is True
    assert student.is_same(a, a) is True
    assert student.is_same(x, x.clone()) is False


def test_calls_are_written_down_as_a_learner_reads_them(student: Student) -> None:
    student._backend.calls.clear()
    net = student.Net(3, outputs=2)
    net(torch.ones(1, 3))
    list(net.parameters())
    assert student._backend.calls == [
        "Net(3, outputs=2)",
        "Net(3, outputs=2)((1, 3))",
        "Net(3, outputs=2).parameters()",
    ]


# Callbacks


def test_functions_of_a_check_are_called_back(student: Student) -> None:
    seen = []

    def note(*args: Any, **kwargs: Any) -> Any:
        seen.append((args, kwargs))
        return {"args": list(args)}

    assert student.apply(note, 1, (2,), key="k") == {"args": [1, (2,)]}
    assert seen == [((1, (2,)), {"key": "k"})]
    assert student.apply(student.apply, note, 5) == {"args": [5]}
    assert torch.equal(student.apply(torch.relu, torch.tensor([-1.0, 1.0])), torch.tensor([0.0, 1.0]))
    assert student.apply(lambda function: function(3), student.double) == 6
    assert student.apply(student.apply(lambda: note, *()), 1) == {"args": [1]}


def test_a_function_may_call_the_learner_again(student: Student) -> None:
    assert student.apply(lambda x: student.double(x) + 1, 3) == 7


def test_what_a_callback_raises_comes_back_through_the_learner(student: Student) -> None:
    def fail() -> None:
        raise ValueError("of the check")

    with pytest.raises(ValueError, match="of the check"):
        student.apply(fail)
    assert student.hush(fail) == "ValueError: of the check"


def test_gradients_flow_through_a_callback(student: Student) -> None:
    weight = randn(3)
    x = randn(3)
    out = student.forward(lambda y: (y * weight).tanh(), x)
    expected = (x * 2 * weight).tanh() + x
    assert torch.allclose(out, expected)
    direction = torch.randn(3, dtype=torch.float64)
    out.backward(direction)
    found = x.grad, weight.grad
    x.grad = weight.grad = None
    expected.backward(direction)
    assert torch.allclose(found[0], x.grad)
    assert torch.allclose(found[1], weight.grad)


def test_gradients_flow_through_a_callback_that_calls_the_learner(student: Student) -> None:
    x = randn(3)
    function = lambda x: student.forward(lambda y: student.double(y) ** 2, x)  # noqa: E731
    [found] = torch.autograd.grad(function(x).sum(), x)
    assert torch.allclose(found, 32 * x + 1)
    assert torch.autograd.gradcheck(function, [x])


# Exceptions


@pytest.mark.parametrize(
    ("kind", "args", "text"),
    [
        ("ValueError", ("a text",), "a text"), ("TypeError", (), ""), ("KeyError", ("key",), "'key'"),
        ("ZeroDivisionError", ("z",), "z"), ("NotImplementedError", ("name",), "name"),
        ("AssertionError", ("no",), "no"), ("StopIteration", (5,), "5"), ("OSError", ("gone",), "gone"),
        ("TimeoutError", ("late",), "late"), ("RecursionError", ("deep",), "deep"), ("MemoryError", (), ""),
        ("UnicodeError", ("u",), "u"), ("UserWarning", ("w",), "w"), ("EOFError", (), ""),
        ("IndexError", ("\ud800 \x1b[31m",), "? \x1b[31m"),
    ],
    ids=lambda value: ascii(value),
)  # fmt: skip
def test_exceptions_come_back_as_the_nearest_of_python(
    student: Student, kind: str, args: tuple[Any, ...], text: str
) -> None:
    with pytest.raises(getattr(__import__("builtins"), kind)) as caught:
        student.fall(kind, *args)
    trouble = caught.value.trouble
    assert (trouble.type, trouble.text) == (kind, text)
    if kind != "IndexError":
        assert str(caught.value) == text
    line = next(n for n, line in enumerate(CELL.splitlines(), 1) if "getattr(__import__" in line)
    assert trouble.rows[-1] == ("fall", line, 'raise getattr(__import__("builtins"), kind)(*args)')


def test_exceptions_of_the_learners_own_come_back_as_what_they_descend_from(student: Student) -> None:
    with pytest.raises(ValueError, match="of my own") as caught:
        student.fall_mine()
    assert caught.value.trouble.type == "Mine"
    assert caught.value.trouble.mro[:2] == ("Mine", "ValueError")
    with pytest.raises(Exception) as caught:
        student.fall_silently()
    assert caught.value.trouble.text == "(its text could not be read)"


def test_an_exit_is_an_error_like_any_other(student: Student) -> None:
    with pytest.raises(RuntimeError, match="SystemExit: 3") as caught:
        student.leave(3)
    assert caught.value.trouble.type == "SystemExit"
    assert student.add(1) == 2


def test_an_interrupt_in_the_students_process_is_an_error_like_any_other() -> None:
    """In the learner's own process it is the learner who stops the check."""
    with over_a_wire(cell_namespace()) as remote:
        student = Student(remote)
        with pytest.raises(RuntimeError, match="KeyboardInterrupt"):
            student.interrupt()
        assert student.add(1) == 2


def test_exceptions_in_backward_are_the_learners(student: Student) -> None:
    out = student.fall_late(randn(2))
    with pytest.raises(KeyError) as caught:
        out.sum().backward()
    if not isinstance(student._backend, Local):
        assert caught.value.trouble.text == "'in backward'"


# Gradients


def check_gradients(
    function: Callable[..., Any], expected: Callable[..., Any], *inputs: torch.Tensor
) -> None:
    out, want = function(*inputs), expected(*inputs)
    assert torch.allclose(out, want)
    assert out.requires_grad
    direction = torch.randn_like(want)
    kept = {"retain_graph": True, "allow_unused": True}
    found = torch.autograd.grad(out, inputs, direction, **kept)
    again = torch.autograd.grad(out, inputs, direction, **kept)
    wanted = torch.autograd.grad(want, inputs, direction, allow_unused=True)
    for one, two, three in zip(found, again, wanted, strict=True):
        assert torch.allclose(one, three)
        assert torch.equal(one, two)


def test_gradients_of_one_and_of_several_inputs(student: Student) -> None:
    check_gradients(student.double, lambda x: x * 2, randn(3, 2))
    check_gradients(lambda x, y: student.several(x, y)["sum"], lambda x, y: x + y, randn(3), randn(3))
    check_gradients(lambda x, y: student.several(x, y)["pair"][0], lambda x, y: x * y, randn(3), randn(3))


def test_gradients_of_the_same_tensor_passed_twice(student: Student) -> None:
    check_gradients(lambda x: student.several(x, x)["pair"][0], lambda x: x * x, randn(3))
    check_gradients(lambda x: student.several(x, x * 1)["pair"][0], lambda x: x * x, randn(3))


def test_gradients_of_inputs_that_are_no_leaves(student: Student) -> None:
    check_gradients(lambda x: student.double(torch.sin(x) * 3), lambda x: torch.sin(x) * 6, randn(3))
    check_gradients(
        lambda x, y: student.several(x.exp(), y)["pair"][0], lambda x, y: x.exp() * y, randn(3), randn(3)
    )


def test_gradients_through_several_calls(student: Student) -> None:
    check_gradients(lambda x: student.double(student.double(x) ** 2), lambda x: 8 * x**2, randn(3))


def test_gradients_of_a_function_that_returns_its_input(student: Student) -> None:
    check_gradients(lambda x: student.same([x])[0] * 3, lambda x: x * 3, randn(3))
    check_gradients(lambda x: student.same(x * 1), lambda x: x * 1, randn(3))


def test_gradients_in_single_precision_and_complex_numbers(student: Student) -> None:
    for dtype in (torch.float32, torch.complex64, torch.complex128):
        x = torch.randn(3, dtype=dtype, requires_grad=True)
        check_gradients(student.double, lambda x: x * 2, x)


def test_gradcheck_holds(student: Student) -> None:
    assert torch.autograd.gradcheck(student.double, [randn(2, 3)])
    assert torch.autograd.gradcheck(lambda x, y: student.several(x, y)["pair"][0], [randn(2), randn(2)])
    net = student.Net(3, 2)
    net.double()
    assert torch.autograd.gradcheck(net, [randn(2, 3)])


def test_backward_fills_the_leaves_and_adds_up(student: Student) -> None:
    x, y = randn(3), randn(3)
    for times in (1, 2):
        student.several(x, y)["pair"][0].sum().backward()
        assert torch.allclose(x.grad, times * y)
        assert torch.allclose(y.grad, times * x)
    assert torch.equal(student.same(x).detach(), x.detach())  # a leaf with a gradient is sent like any other


def test_backward_fills_the_learners_parameters(student: Student) -> None:
    net = student.Net(3, 2)
    reference = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    net.load_state_dict(
        dict(zip(net.state_dict(), [p.detach() for p in reference.parameters()], strict=True))
    )
    x = torch.randn(4, 3)
    net(x).sum().backward()
    linear, one, two = reference
    torch.tanh(two(torch.tanh(one(linear(x))))).sum().backward()
    for (name, found), wanted in zip(net.named_parameters(), reference.parameters(), strict=True):
        assert torch.allclose(found.grad, wanted.grad, atol=1e-6), name
    assert torch.allclose(net.linear.weight.grad, linear.weight.grad, atol=1e-6)
    net.zero_grad()
    assert net.linear.weight.grad is None


def test_grad_leaves_the_learners_parameters_alone(student: Student) -> None:
    """As ``torch.autograd.grad`` does in one process; ``backward(inputs=...)`` likewise."""
    x = torch.ones(2, 3, requires_grad=True)
    net = student.Net(3, 2)
    out = net(x).sum()
    torch.autograd.grad(out, x, retain_graph=True)
    assert net.linear.weight.grad is None
    out.backward(inputs=[x], retain_graph=True)
    assert net.linear.weight.grad is None
    out.backward()
    assert net.linear.weight.grad is not None


def test_what_an_object_keeps_has_gradients_too(student: Student) -> None:
    net = student.Net(3, 2)
    net(torch.ones(1, 3))
    net.kept.sum().backward()
    assert net.linear.weight.grad is not None


def test_what_needs_no_gradient_has_none(student: Student) -> None:
    x = randn(3)
    assert not student.cut(x).requires_grad
    out = student.several(x, x.detach())
    assert out["pair"][0].requires_grad
    assert not out["pair"][1].requires_grad
    assert not out["other"][0].requires_grad
    assert not student.double(x.detach()).requires_grad
    assert student.scaled(x.detach()).requires_grad
    with torch.no_grad():
        assert not student.double(x).requires_grad
        assert not student.Net(3, 2)(torch.ones(1, 3)).requires_grad
    with torch.no_grad():
        out = student.apply(lambda: torch.is_grad_enabled())
    assert out is False


# Changes in place


def test_what_a_call_changes_in_place_changes_here(student: Student) -> None:
    for x in (
        torch.ones(3),
        torch.ones(2, 4)[:, ::2],
        torch.tensor(1.0),
        torch.ones(3, dtype=torch.bfloat16),
    ):
        student.in_place(x)
        assert torch.equal(x, torch.full_like(x, 2))
    for a in (np.ones(3), np.ones((2, 4))[:, ::2], np.ones(3, ">f4"), np.array(1.0)):
        student.overwrite(a, 2)
        assert (a == 2).all()
    inner = {"deep": [torch.ones(2)]}
    student.overwrite(inner["deep"][0], float("nan"))
    assert inner["deep"][0].isnan().all()
    student.apply(lambda: None)
    one, other = torch.ones(2), torch.ones(2)
    assert student.in_place(one, other) is not None
    assert torch.equal(other, torch.ones(2))


def test_what_a_callback_changes_in_place_changes_for_the_learner(student: Student) -> None:
    x = torch.ones(2)
    assert student.apply(lambda x: x.add_(1), x).tolist() == [2, 2]
    assert x.tolist() == [2, 2]


def test_dimensions_may_change_in_place_and_sizes_may_not(student: Student) -> None:
    x = torch.ones(3)
    student.deeper(x)
    assert x.shape == (1, 3)
    if not isinstance(student._backend, Local):
        with pytest.raises(ValueError, match="resized in place") as caught:
            student.resize(np.ones(3))
        assert hasattr(caught.value, "trouble")


def test_a_graphs_tensor_may_be_changed_in_place(student: Student) -> None:
    leaf = randn(3)
    out = student.in_place_then_out(leaf * 1)
    out.backward()
    assert torch.equal(leaf.grad, torch.full((3,), 3.0, dtype=torch.float64))


def test_a_leaf_may_not_be_changed_in_place(student: Student) -> None:
    with pytest.raises(RuntimeError, match="leaf Variable") as caught:
        student.in_place(randn(3))
    assert hasattr(caught.value, "trouble")


def test_what_cannot_be_written_to_is_the_learners_error(student: Student) -> None:
    fixed = np.ones(3)
    fixed.flags.writeable = False
    for value in (fixed, torch.ones(1).expand(3)):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            student.in_place(value)
        assert hasattr(caught.value, "trouble")
        assert (value == 1).all()
    assert student.add(1) == 2


# Over the wire only


@contextmanager
def counted(remote: Remote) -> Iterator[list[str]]:
    """The operations that are asked for."""
    asked: list[str] = []
    send = remote._peer.connection.send

    def note(header: dict[str, Any], *rest: Any) -> None:
        asked.append(header.get("op", "answer"))
        send(header, *rest)

    remote._peer.connection.send = note
    yield asked
    remote._peer.connection.send = send


def test_a_function_is_fetched_once_and_a_seed_travels_with_a_call() -> None:
    with over_a_wire(cell_namespace()) as remote, counted(remote) as asked:
        student = Student(remote)
        for seed in range(3):
            remote.seed(seed)
            student.add(1)
        assert asked == ["get", "invoke", "invoke", "invoke"]
        student.number, student.number  # noqa: B018
        assert asked[4:] == ["get", "get"]
        student.count_up()
        assert asked[6:] == ["get", "invoke"]
        student.add(1)
        assert asked[8:] == ["invoke"]


def test_a_seed_is_told_once_and_not_lost_with_what_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(Served, "seed", lambda self, seed: seeds.append(seed))
    with over_a_wire(cell_namespace()) as remote:
        student = Student(remote)
        remote.seed(2**63 - 1)
        with pytest.raises(TypeError):
            student.add(object())
        student.add(1)
        student.apply(lambda: student.add(1))
        assert seeds == [2**63 - 1]
        remote.seed(1)
        remote.seed(2)
        student.add(1)
        assert seeds[1:] == [2]


def test_gradients_cost_the_students_side_no_import(sandbox: Sandbox) -> None:
    """torch imports sympy to look at gradients that it is given; half a second, in every submission anew."""
    with sandbox.submission() as way:
        remote = Remote(way.connection, 20.0, 300.0)
        remote.run(
            "import sys\ndef double(x): return x * 2\ndef loaded(): return 'sympy' in sys.modules", 30.0
        )
        student, x = Student(remote), randn(2, 3)
        out = student.double(x)
        out.backward(torch.ones_like(out), retain_graph=True)
        torch.autograd.grad(out, x, torch.ones_like(out))
        assert torch.equal(x.grad, torch.full_like(x, 2))
        assert student.loaded() is False


def test_graphs_are_kept_no_longer_than_they_are_needed() -> None:
    with over_a_wire(cell_namespace()) as remote:
        student = Student(remote)
        for _ in range(50):
            student.double(randn(2)).sum().backward()
        outs = [student.double(randn(2)) for _ in range(5)]
        student.add(1)
        assert len(remote.served.peer.tape) == len(outs)
        with torch.no_grad():
            student.apply(lambda: None)
        del outs
        student.add(1)
        assert not remote.served.peer.tape


def test_graphs_of_callbacks_take_a_limited_room() -> None:
    """The student's side says when it needs one no more: it might never."""

    def hoard(function: Any) -> None:
        kept = [function(torch.ones(1 << 20, requires_grad=True)) for _ in range(30)]
        kept[-1].sum().backward()
        kept[0].sum().backward()

    with over_a_wire({"hoard": hoard}) as remote:
        remote._peer.connection.limits = type(remote._peer.connection.limits)(buffers=40 << 20)
        with pytest.raises(RuntimeError, match="no longer kept"):
            Student(remote).hoard(lambda x: x * 2)
        assert 1 <= len(remote._peer.tape) <= 5


def test_a_value_too_large_is_an_error_and_not_the_end() -> None:
    def large() -> torch.Tensor:
        return torch.zeros(1).expand(2**40)

    namespace = {"large": large, "many": lambda: [0] * 300_000, "wide": lambda: ["x" * 4000] * 2000}
    with over_a_wire(namespace) as remote:
        student = Student(remote)
        for name in namespace:
            with pytest.raises(Exception, match=r"more than|cannot be sent") as caught:
                getattr(student, name)()
            assert caught.value.trouble.type == "WireError"
        assert not remote.gone


def test_what_a_check_cannot_send_is_the_checks_own_fault() -> None:
    with over_a_wire(cell_namespace()) as remote:
        student = Student(remote)
        for value in (object(), [0] * 300_000, torch.eye(2).to_sparse(), torch.zeros(1).expand(2**40)):
            with pytest.raises(TypeError) as caught:
                student.same(value)
            assert not hasattr(caught.value, "trouble")
        assert student.add(1) == 2


def test_one_function_is_kept_once() -> None:
    with over_a_wire(cell_namespace()) as remote:
        for _ in range(20):
            Student(remote).apply(math.sqrt, 4.0)
        assert len(remote._callbacks) == 1


def test_calls_to_and_fro_have_a_depth() -> None:
    with over_a_wire(cell_namespace()) as remote:
        student = Student(remote)

        def again() -> Any:
            return student.apply(again)

        with pytest.raises(RecursionError, match=str(MAX_NESTED)) as caught:
            student.apply(again)
        assert hasattr(caught.value, "trouble")
        assert student.add(1) == 2


def test_a_generator_without_end_ends_like_an_endless_loop() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 1

    with over_a_wire({"endless": endless}, seconds=0.5) as remote:
        begun = time.monotonic()
        with pytest.raises(StudentGone, match=r"longer than 0\.5 seconds"):
            list(Student(remote).endless())
        assert time.monotonic() - begun < 5
        assert remote.timed_out


def test_time_between_the_steps_of_an_iterator_is_the_checks() -> None:
    with over_a_wire(cell_namespace(), seconds=0.3) as remote:
        for _ in Student(remote).count(5):
            time.sleep(0.1)


@pytest.mark.parametrize("backward", [False, True])
def test_a_call_that_hangs_ends_in_time(backward: bool) -> None:
    class Hang(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            time.sleep(2)
            return g

    namespace = {"hang": lambda: time.sleep(2), "hang_late": Hang.apply}
    with over_a_wire(namespace, seconds=0.3) as remote:
        student, x = Student(remote), randn(2)
        begun = time.monotonic()
        with pytest.raises(StudentGone, match="longer than"):
            student.hang_late(x).sum().backward() if backward else student.hang()
        assert time.monotonic() - begun < 1.5
        assert remote.timed_out
        with pytest.raises(StudentGone, match="longer than"):
            student.hang()
        assert time.monotonic() - begun < 1.5


def test_a_callback_gives_no_more_time_than_the_call_it_is_made_in() -> None:
    def chain(function: Any) -> None:
        time.sleep(0.2)
        function()

    with over_a_wire({"chain": chain}, seconds=0.7) as remote:
        student = Student(remote)
        begun = time.monotonic()

        def again() -> None:
            student.chain(again)

        with pytest.raises(StudentGone, match="longer than"):
            student.chain(again)
        assert time.monotonic() - begun < 2


def test_the_whole_submission_has_an_end() -> None:
    with over_a_wire(cell_namespace(), total=0.3) as remote:
        student = Student(remote)
        begun = time.monotonic()
        with pytest.raises(StudentGone, match="in all"):
            while time.monotonic() - begun < 10:
                student.add(1)
        assert time.monotonic() - begun < 3


def test_a_loss_that_a_callback_meets_is_not_hushed_up() -> None:
    with over_a_wire(cell_namespace(), seconds=0.5) as remote:
        student = Student(remote)

        def lose() -> None:
            remote.gone = "It has gone."
            student.add(1)

        with pytest.raises(StudentGone, match="has gone"):
            student.hush(lose)


# A forger: the student's end of the wire, played from a script


def frame(header: Any, *buffers: bytes) -> bytes:
    text = json.dumps(header).encode()
    sizes = struct.pack(f"<{len(buffers)}Q", *map(len, buffers))
    return struct.pack("<4sII", MAGIC, len(text), len(buffers)) + sizes + text + b"".join(buffers)


@contextmanager
def forged(*answers: bytes, seconds: float = 1.0) -> Iterator[Remote]:
    """A remote whose student answers each request with the next of ``answers``, whatever was asked."""
    ours, theirs = socket.socketpair()

    def play() -> None:
        connection = Connection(theirs)
        with suppress(WireClosed, OSError):
            for answer in answers:
                header, _ = connection.receive(time.monotonic() + 20)
                if "op" in header:
                    theirs.sendall(answer)
            theirs.settimeout(20)
            while theirs.recv(1 << 16):
                pass

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    with theirs:
        connection = Connection(ours)
        yield Remote(connection, seconds, 30.0)
        connection.close()
        thread.join(20)


FLOATS = {"dtype": "float32", "shape": [2], "buffer": 0}
GRAPH = {"tensor": {**FLOATS, "grad": "graph"}}
EIGHT = bytes(8)
GOOD = frame({"value": GRAPH, "tape": 1}, EIGHT)


@pytest.mark.parametrize(
    "answer",
    [
        b"this is no message", frame([]), frame({}), frame({"valu": 1}), frame({"value": {"handle": 1}}),
        frame({"value": {"handle": [1, 2]}}), frame({"value": {"handle": ["1", "a", "b"]}}),
        frame({"value": {"handle": [1, {}, "b"]}}), frame({"value": {"handle": None}}),
        frame({"value": {"callback": 0}}), frame({"value": {"__class__": 0}}), frame({"value": {"set": [[]]}}),
        frame({"value": {"dict": [{"handle": [1, "a", "b"]}]}}), frame({"value": {"tuple": {"handle": [1, "a", "b"]}}}),
        frame({"value": {"tensor": {**FLOATS, "shape": [3]}}}, EIGHT),
        frame({"value": GRAPH, "tape": "1"}, EIGHT), frame({"value": GRAPH, "tape": 1.5}, EIGHT),
        frame({"value": GRAPH, "tape": [1]}, EIGHT), frame({"value": GRAPH, "tape": {}}, EIGHT),
        frame({"value": 1, "tape": 1}), frame({"value": [], "tape": 0}),
        frame({"value": {"tensor": {**FLOATS, "dtype": "int32", "grad": "graph"}}, "tape": 1}, EIGHT),
        *(frame({"value": 1, "changed": changed}, EIGHT) for changed in (
            5, "ab", {}, {"a": 1}, [1], [[0]], [[0, 1, 2]], [[5, 1]], [[-1, {"tensor": FLOATS}]], [["0", 1]],
            [[0, 1]], [[0, None]], [[0, {"handle": [1, "a", "b"]}]], [[0.0, {"tensor": FLOATS}]],
            [[0, {"tensor": {**FLOATS, "shape": [1], "dtype": "float64"}}]],
            [[0, {"array": {**FLOATS, "dtype": "<f4"}}]],
            [[0, {"tensor": {**FLOATS, "shape": [1, 1, 2]}}], [0, {"tensor": FLOATS}]],
            [[1, {"tensor": FLOATS}]], [[1, {"array": {**FLOATS, "dtype": "<f4", "shape": [1, 2]}}]],
            [[1, {"array": {**FLOATS, "dtype": "<i4"}}]], [[0, {"tensor": {**FLOATS, "dtype": "int32"}}]],
        )),
        *(frame({"error": error}) for error in (
            None, 5, "text", [], ["a"], ["a", "b", [], [], "c"], ["a", "b", 5, []], ["a", "b", [], 5],
            ["a", "b", [[1, 2, 3]], []], ["a", "b", [["f", "1", "c"]], []], ["a", "b", [["f", 1e400, "c"]], []],
            ["a", "b", [["f", -1, "c"]], []], ["a", "b", [["f", 10**15, "c"]], []], ["a", "b", {}, []],
            ["a", "b", [], [1]], ["a", "b", [], {}], [[], "b", [], []], ["a", {}, [], []], ["a", "b", ["abc"], []],
            ["a", "b", [], [["Exception"]]], {"type": "a"},
        )),
        *(frame({"value": 1, "rebound": rebound}) for rebound in (5, None, "ab", {}, [1], [None], [["f"]], {"f": 1})),
        frame({"value": {"int": "f" * 5000}}),
        frame({"value": {"array": {**FLOATS, "dtype": "U0", "shape": [2**40]}}}, b""),
        frame({"value": json.loads("[" * 400 + "]" * 400)}),
    ],
    ids=lambda answer: ascii(answer[12:])[:70],
)  # fmt: skip
def test_a_malformed_answer_ends_the_student_and_nothing_else(answer: bytes) -> None:
    with forged(answer, seconds=20) as remote:
        x, a = torch.ones(2), np.ones(2, np.float32)
        proxy = Proxy(remote, 1, "f")
        begun = time.monotonic()
        with pytest.raises(StudentGone, match="no answer"):
            proxy(x, a)
        assert time.monotonic() - begun < 5
        for use in (
            proxy,
            lambda: proxy.name,
            lambda: len(proxy),
            lambda: remote.get("f"),
            lambda: remote.seed(0),
        ):
            with pytest.raises(StudentGone, match="no answer"):
                use()
        with pytest.raises(StudentGone, match="no answer"):
            proxy.name = 1
        assert x.dtype == torch.float32
        assert (x.numel(), a.shape) == (2, (2,))


@pytest.mark.parametrize(
    "gradients",
    [
        None, 5, [], [None, None], {"tuple": [None]}, ["x"], [1.0], [{"handle": [1, "a", "b"]}], {"dict": []},
        [{"tensor": {**FLOATS, "shape": [1, 2]}}], [{"tensor": {**FLOATS, "shape": [1]}}], GRAPH,
        [{"tensor": {**FLOATS, "dtype": "int32"}}], [{"tensor": {**FLOATS, "dtype": "float64", "shape": [1]}}],
        [{"array": {**FLOATS, "dtype": "<f4"}}],
    ],
    ids=lambda value: ascii(value)[:60],
)  # fmt: skip
@pytest.mark.parametrize("by", ["grad", "backward"])
def test_malformed_gradients_end_the_student_and_nothing_else(gradients: Any, by: str) -> None:
    with forged(GOOD, frame({"value": gradients}, EIGHT)) as remote:
        x = torch.ones(2, requires_grad=True)
        out = Proxy(remote, 1, "f")(x).sum()
        with pytest.raises(StudentGone, match="no answer"):
            torch.autograd.grad(out, x) if by == "grad" else out.backward()
        assert x.grad is None
        with pytest.raises(StudentGone):
            remote.get("f")


def test_gradients_that_claim_a_graph_of_their_own_are_plain() -> None:
    answer = frame({"value": [{"tensor": {**FLOATS, "grad": "leaf"}}]}, EIGHT)
    with forged(GOOD, answer) as remote:
        x = torch.ones(2, requires_grad=True)
        Proxy(remote, 1, "f")(x).sum().backward()
        assert not x.grad.requires_grad


def test_a_graph_without_a_tape_is_a_plain_tensor() -> None:
    with forged(frame({"value": GRAPH}, EIGHT)) as remote:
        assert not Proxy(remote, 1, "f")(torch.ones(2, requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("__len__", [-1, 2**70, 1.5, "3", None, {"int": "0x5"}, {"handle": [1, "a", "b"]}, [], GRAPH]),
        ("__float__", [None, "1.0", 1, [], {"handle": [1, "a", "b"]}, {"complex": [1, 2]}, GRAPH]),
        ("__int__", [None, "1", 1.5, {"handle": [1, "a", "b"]}]),
        ("__contains__", [None, 1, GRAPH, {"handle": [1, "a", "b"]}, "yes"]),
        ("__iter__", [None, 1, [1, 2], "ab", GRAPH]),
    ],
)
def test_special_methods_that_answer_nonsense_are_the_learners_error(method: str, values: list[Any]) -> None:
    use: dict[str, Callable[[Any], Any]] = {
        "__len__": len, "__float__": float, "__int__": int, "__contains__": lambda p: 1 in p, "__iter__": list,
    }  # fmt: skip
    for value in values:
        with forged(frame({"value": value}, EIGHT)) as remote:
            if method == "__len__" and value == {"int": "0x5"}:
                assert len(Proxy(remote, 1, "f")) == 5
                continue
            with pytest.raises(TypeError) as caught:
                use[method](Proxy(remote, 1, "f"))
            assert hasattr(caught.value, "trouble")


CALL = {"target": 0, "method": "__call__", "args": [], "kwargs": {"dict": []}}


def as_content(**changes: Any) -> Any:
    return {"dict": [[key, value] for key, value in {**CALL, **changes}.items()]}


@pytest.mark.parametrize(
    "header",
    [
        {"op": "get", "content": {"dict": [["name", "x"]]}}, {"op": "run", "content": {"dict": [["source", "1"]]}},
        {"op": "attribute", "content": as_content(name="__globals__")}, {"op": "has"}, {"op": "seed"},
        {"op": "assign", "content": as_content(name="x", value=1)}, {"op": None}, {"op": []}, {"op": {}}, {"op": 5},
        {"op": "__class__"}, {"op": "invoke"}, {"op": "invoke", "content": None}, {"op": "invoke", "content": [1]},
        {"op": "invoke", "content": as_content(method="__getattribute__")},
        {"op": "invoke", "content": as_content(method="__globals__")},
        {"op": "invoke", "content": as_content(method=["__call__"])},
        {"op": "invoke", "content": as_content(target=1)}, {"op": "invoke", "content": as_content(target=-1)},
        {"op": "invoke", "content": as_content(target=True)}, {"op": "invoke", "content": as_content(target=False)},
        {"op": "invoke", "content": as_content(target=0.0)}, {"op": "invoke", "content": as_content(target="0")},
        {"op": "invoke", "content": as_content(target={"handle": [0, "a", "b"]})},
        {"op": "invoke", "content": as_content(args={"handle": [0, "a", "b"]})},
        {"op": "invoke", "content": as_content(args="ab")}, {"op": "invoke", "content": as_content(args={"tuple": []})},
        {"op": "invoke", "content": as_content(kwargs={"handle": [0, "a", "b"]})},
        {"op": "invoke", "content": as_content(kwargs=[])},
        {"op": "invoke", "content": as_content(kwargs={"dict": [[1, 2]]})},
        {"op": "invoke", "content": as_content(), "dropped": 5},
        {"op": "invoke", "content": {"callback": 0}}, {"op": "invoke", "content": {"nothing": 0}},
        {"op": "vjp"}, {"op": "vjp", "content": {"dict": [["tape", 1], ["gradients", []], ["accumulate", True]]}},
        {"op": "vjp", "content": {"dict": [["tape", []], ["gradients", []], ["accumulate", True]]}},
    ],
    ids=lambda header: ascii(header)[:80],
)  # fmt: skip
def test_the_trusted_side_answers_nothing_but_calls_of_what_was_passed_in(header: dict[str, Any]) -> None:
    called: list[Any] = []
    ours, theirs = (Connection(end) for end in socket.socketpair())
    remote = Remote(ours, 5.0, 30.0)
    answers: list[Any] = []

    def play() -> None:
        theirs.receive(time.monotonic() + 20)
        theirs.send(header, [])
        answers.append(theirs.receive(time.monotonic() + 20)[0])
        theirs.send({"value": 7}, [])

    thread = threading.Thread(target=play)
    thread.start()
    assert Proxy(remote, 1, "f")(lambda *args, **kwargs: called.append(args)) == 7
    thread.join()
    assert "error" in answers[0]
    assert not called
    ours.close()
    theirs.close()


def test_callbacks_without_end_end_in_time() -> None:
    ours, theirs = socket.socketpair()
    request = frame({"op": "invoke", "content": as_content()})
    stop = threading.Event()

    def flood() -> None:
        with suppress(OSError):
            while not stop.is_set():
                theirs.sendall(request)

    def drain() -> None:
        with suppress(OSError):
            while theirs.recv(1 << 16):
                pass

    threads = [threading.Thread(target=flood), threading.Thread(target=drain)]
    for thread in threads:
        thread.start()
    connection = Connection(ours)
    begun = time.monotonic()
    called: list[int] = []
    with pytest.raises(StudentGone):
        Proxy(Remote(connection, 2.0, 30.0), 1, "f")(lambda: called.append(1))
    assert time.monotonic() - begun < 10
    assert len(called) <= MAX_REPLIES
    stop.set()
    connection.close()
    theirs.close()
    for thread in threads:
        thread.join(20)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        5,
        "f",
        {"dict": []},
        [1, 2],
        [1, False],
        [1, 1],
        [1, True, 2],
        [[], None],
        {"handle": [1, "a", "b"]},
    ],
    ids=ascii,
)
def test_a_malformed_answer_to_a_name_ends_the_student(answer: Any) -> None:
    with forged(frame({"value": answer})) as remote:
        for _ in range(2):
            with pytest.raises(StudentGone, match="no answer"):
                remote.get("f")


def test_what_claims_to_be_a_function_is_remembered_only_where_it_is_none_of_the_data() -> None:
    handle, good = {"handle": [1, "function", "f"]}, frame({"value": 3})
    with forged(
        frame({"value": [5, True]}), frame({"value": [handle, True]}), good, frame({"value": []})
    ) as remote:
        assert remote.get("f") == 5
        assert isinstance(remote.get("f"), Proxy)
        assert remote.get("f")() == 3
        remote._heed({"rebound": ["f", "g"]})
        with pytest.raises(StudentGone, match="There is no `f` yet"):
            remote.get("f")


def test_silence_ends_in_time() -> None:
    with forged(b"", seconds=0.3) as remote:
        begun = time.monotonic()
        with pytest.raises(StudentGone, match="longer than"):
            remote.get("f")
        assert time.monotonic() - begun < 3


def test_an_end_that_closes_is_told() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    connection = Connection(ours)
    with pytest.raises(StudentGone, match="ended its own process"):
        Remote(connection, 5.0, 30.0).get("f")
    connection.close()


@pytest.mark.parametrize("answer", [{}, {"dict": []}, 5, {"dict": [["outputs", 5]]}, None, GRAPH])
def test_what_is_no_result_of_a_cell_is_told(answer: Any) -> None:
    with forged(frame({"value": answer}, EIGHT)) as remote, pytest.raises(StudentGone):
        remote.run("1", 5.0)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["tuple", "set", "dict", "handle", "same", "int"]), inner, min_size=1, max_size=1
        )
        | st.just(GRAPH)
        | st.just({"tensor": FLOATS})
    ),
    max_leaves=6,
)  # fmt: skip


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "value": TREES,
            "tape": TREES | st.just(1),
            "changed": TREES | st.lists(st.tuples(st.integers(-1, 2), TREES), max_size=2),
            "error": TREES | st.lists(TREES, min_size=4, max_size=4),
        },
    )
)
def test_any_answer_is_a_value_a_failure_or_the_end_of_the_student(header: dict[str, Any]) -> None:
    with forged(frame(header, EIGHT), frame({"value": [None]})) as remote:
        x = torch.ones(2, requires_grad=True)
        try:
            value = Proxy(remote, 1, "f")(x, np.ones(2))
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                value.sum().backward()
        except StudentGone:
            pass
        except Exception as error:
            assert isinstance(error.trouble, Trouble)  # noqa: PT017
        assert x.shape.numel() == 2


# Exceptions as text


@given(st.text(st.characters(exclude_categories=())), st.lists(st.text(max_size=20), max_size=4))
def test_any_trouble_becomes_an_exception_that_tells_it(text: str, names: list[str]) -> None:
    trouble = Trouble("Mine", text, (), tuple(names))
    error = as_exception(trouble)
    assert isinstance(error, Exception)
    assert error.trouble is trouble
    str(error)


@pytest.mark.parametrize("name", sorted(name for name in dir(__import__("builtins"))))
def test_any_name_of_python_becomes_an_exception_and_nothing_else(name: str) -> None:
    """``print``, ``exit`` and ``SystemExit`` are names as well."""
    error = as_exception(Trouble(name, "text", (), (name, "BaseException", "object")))
    assert isinstance(error, Exception)
    assert not isinstance(error, (SystemExit, KeyboardInterrupt))


def test_what_is_told_has_limits() -> None:
    class Long(Exception):
        pass

    Long.__name__ = "L" * 10_000
    trouble = describe(Long("x" * 100_000 + "\ud800"))
    assert len(trouble.type) <= 200
    assert len(trouble.text) <= 4000
    assert len(Encoder().encode(trouble.text)) <= 4000


def test_a_peer_that_knows_nothing_answers_nothing() -> None:
    ours, theirs = (Connection(end) for end in socket.socketpair())

    def refuse(*_: Any) -> Any:
        raise WireError("nothing to see")

    peer = Peer(ours, {}, refuse, refuse)
    for header in ({"op": "invoke"}, {"op": "vjp"}, {"op": "answer"}, {}):
        peer.reply(header, [])
        assert "error" in theirs.receive(time.monotonic() + 5)[0]
    ours.close()
    theirs.close()


def test_attention_reads_the_same_at_every_door(student: Student) -> None:
    """A check in small: values against PyTorch, weights that are shared, gradients."""
    net = student.Net(4, 3)
    reference = torch.nn.Linear(4, 3)
    net.linear.load_state_dict(reference.state_dict())
    x = torch.randn(5, 4, requires_grad=True)
    assert torch.allclose(net.linear(x), F.linear(x, reference.weight, reference.bias))
