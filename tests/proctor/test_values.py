from __future__ import annotations

import enum
import json
import math
import struct
import time
import warnings
from collections import OrderedDict, defaultdict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from proctor.values import TORCH_DTYPES, Decoder, Encoder, is_plain
from proctor.wire import LIMITS, Limits, WireError

settings.register_profile("values", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("values")


def through(value: Any, limits: Limits = LIMITS) -> Any:
    """Over the wire and back, JSON included."""
    encoder = Encoder(limits=limits)
    tree = json.loads(json.dumps(encoder.encode(value)))
    decoder = Decoder([bytes(buffer) for buffer in encoder.buffers], limits=limits)
    out = decoder.decode(tree)
    assert len(decoder.arrays) == len(encoder.arrays)
    return out


def bits(tensor: torch.Tensor) -> bytes:
    plain = tensor.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
    return plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""


def canonical(value: Any) -> str:
    """Text that two hashable values share where they are the same, in whatever order a set shows its members."""
    if isinstance(value, (set, frozenset, tuple)):
        members = [canonical(member) for member in value]
        return f"{type(value).__name__}({members if isinstance(value, tuple) else sorted(members)})"
    return f"{type(value).__name__} {value!r}"


def assert_same(one: Any, two: Any) -> None:
    """The same type and value, not-a-number and minus zero included."""
    assert type(one) is type(two)
    if isinstance(one, (np.ndarray, np.generic)):
        assert (one.dtype, one.shape) == (two.dtype, two.shape)
        assert one.dtype.byteorder == two.dtype.byteorder
        padded = one.dtype.char in "gG"  # long doubles are padded with whatever was there
        assert repr(one) == repr(two) if padded else one.tobytes() == two.tobytes()
    elif isinstance(one, torch.Tensor):
        assert (one.dtype, one.shape, one.requires_grad) == (two.dtype, two.shape, two.requires_grad)
        assert bits(one) == bits(two)
    elif isinstance(one, float):
        assert struct.pack("d", one) == struct.pack("d", two) or (math.isnan(one) and math.isnan(two))
    elif isinstance(one, complex):
        assert_same(one.real, two.real)
        assert_same(one.imag, two.imag)
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    elif isinstance(one, dict):
        assert len(one) == len(two)
        for (key, value), (key2, value2) in zip(one.items(), two.items(), strict=True):
            assert_same(key, key2)
            assert_same(value, value2)
    elif isinstance(one, (set, frozenset)):
        assert canonical(one) == canonical(two)
    else:
        assert one == two


TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates and NUL among them
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**2000), 2**2000)
    | st.floats()
    | st.complex_numbers()
    | TEXT
    | st.binary()
)
KEYS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
DTYPES = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?"),
    npst.complex_number_dtypes(endianness="?"),
    npst.byte_string_dtypes(endianness="?", max_len=5),
    npst.unicode_string_dtypes(endianness="?", max_len=5),
)
ARRAYS = npst.arrays(DTYPES, npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
TREES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(KEYS, max_size=4)
        | st.frozensets(KEYS, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.builds(slice, st.none() | st.integers(), st.none() | st.integers(), st.none() | st.integers())
    ),
    max_leaves=12,
)


@given(TREES)
def test_plain_data_comes_out_as_it_went_in(value: Any) -> None:
    assert_same(through(value), value)


@pytest.mark.parametrize(
    "value",
    [
        0, -1, 2**53, -(2**53), 2**63, -(2**64), 10**4000, -(10**4000), True, float("nan"), float("inf"), -0.0,
        5e-324, complex(-0.0, float("nan")), "\ud83d\ude00", "\ud800", "a\0b", "😀" * 5000,
        "\ud83d\ude00" * 5000, b"", b"\0\xff", (), [], {}, set(), frozenset(), {(): {frozenset(): None}}, ...,
        {1: 1, "1": 2, (1,): 3, b"1": 4, None: 5, 1.5: 6, float("nan"): 7, -0.0: 8},
        {-1: "two numbers", -2: "of one hash"}, torch.float32, torch.bfloat16, np.dtype(">f4"), np.dtype("U7"),
        slice(None, (1, 2), ...),
        np.str_("a\0"), np.str_(""), np.str_("\ud800"), np.bytes_(b"a\0\0"), np.bytes_(b""), np.bool_(True),
        np.float16(1.5), np.float64("nan"), np.longdouble("1e-400"), np.complex64(1 - 2j), np.uint64(2**64 - 1),
        np.array(3), np.array("ab"), np.array([], ">U3"), np.zeros((3, 0, 2)), np.ndarray((2, 3), "S0"),
        np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1), np.asfortranarray(np.ones((3, 2))),
        np.arange(10)[::-2], np.broadcast_to(np.arange(3), (2, 3)), np.arange(5, dtype=">i2"),
        np.array(["é", "\udc80", "a"], dtype=">U2"),
    ],
    ids=lambda value: ascii(value)[:40],
)  # fmt: skip
def test_awkward_values_come_out_as_they_went_in(value: Any) -> None:
    assert_same(through(value), value)


def any_tensor(name: str, *shape: int) -> torch.Tensor:
    dtype, count = TORCH_DTYPES[name], math.prod(shape)
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 2 if name == "bool" else 256, count * dtype.itemsize, dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # complex32 is experimental
        tensor = torch.empty(shape, dtype=dtype)
    if count:
        tensor.reshape(-1).view(torch.uint8).copy_(torch.from_numpy(raw))
    return tensor


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("name", list(TORCH_DTYPES))
def test_tensors_of_every_dtype_keep_their_bits(name: str, shape: tuple[int, ...]) -> None:
    tensor = any_tensor(name, *shape)
    assert_same(through(tensor), tensor)


def test_every_plain_dtype_of_torch_travels() -> None:
    """Whatever torch adds to these families belongs into the table."""
    families = ("int", "uint", "float", "bfloat", "complex", "bool")
    known = {dtype for name, dtype in vars(torch).items() if isinstance(dtype, torch.dtype)}
    named = {str(dtype).removeprefix("torch.") for dtype in known}
    plain = {name for name in named if name.startswith(families) and not name.startswith("float4")}
    odd = {name for name in plain - set(TORCH_DTYPES) if name[-1].isdigit() and len(name.strip("uint")) > 1}
    assert odd <= {"float"}  # the rest are sub-byte integers and the exotic kinds of float8


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1), torch.arange(10)[::3], torch.ones(3, 1).expand(3, 4),
        torch.tensor([1 + 2j, 3j]).conj(), torch.tensor([1 + 2j, 3j]).conj().imag, torch.tensor(float("nan")),
        torch.tensor([True, False]), torch.zeros(2, 0, 3), torch.tensor(-0.0),
    ],
    ids=["permuted", "strided", "expanded", "conj", "neg", "nan", "bool", "empty", "minus zero"],
)  # fmt: skip
def test_views_travel_as_what_they_show(tensor: torch.Tensor) -> None:
    assert_same(through(tensor), tensor)


@given(npst.arrays(np.float32, npst.array_shapes(max_dims=4, max_side=4)), st.data())
def test_tensors_in_any_layout_keep_their_bits(array: np.ndarray, data: Any) -> None:
    order = data.draw(st.permutations(range(array.ndim)))
    tensor = torch.from_numpy(array).permute(*order)
    tensor = tensor[tuple(slice(None, None, data.draw(st.integers(1, 3))) for _ in order)]
    assert_same(through(tensor), tensor)


def test_a_leaf_keeps_its_gradient_and_what_its_gradient_is_of() -> None:
    leaf = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    (leaf**2).sum().backward()
    out = through([leaf])[0]
    assert out.is_leaf
    assert out.requires_grad
    assert_same(out.grad, leaf.grad)
    assert through(torch.ones(2, requires_grad=True)).grad is None


def test_a_parameter_stays_a_parameter() -> None:
    for parameter in (
        torch.nn.Parameter(torch.randn(2)),
        torch.nn.Parameter(torch.tensor([1, 2]), requires_grad=False),
    ):
        assert_same(through(parameter), parameter)


def test_a_tensor_of_a_graph_says_so() -> None:
    x = torch.ones(2, requires_grad=True)
    encoder = Encoder()
    tree = encoder.encode((x, x * 2, torch.zeros(1)))
    decoder = Decoder(list(encoder.buffers))
    first, second, _ = decoder.decode(tree)
    assert decoder.graph == [1]
    assert first.requires_grad
    assert not second.requires_grad


def test_one_array_in_two_places_is_one_array_on_the_other_side() -> None:
    x, a = torch.ones(2), np.ones(2)
    encoder = Encoder()
    tree = encoder.encode([x, {"again": x}, (a, a), x.clone()])
    assert len(encoder.buffers) == 3
    first, again, arrays, other = Decoder(list(encoder.buffers)).decode(tree)
    assert first is again["again"]
    assert arrays[0] is arrays[1]
    assert other is not first


def test_what_came_can_be_written_to_and_shares_nothing_with_the_wire() -> None:
    for value in (np.zeros(3), np.zeros(3, bool), np.array(1.0), torch.zeros(3), torch.tensor(True)):
        encoder = Encoder()
        tree = encoder.encode(value)
        buffers = [bytes(buffer) for buffer in encoder.buffers]
        kept = bytes(buffers[0])
        out = Decoder(buffers).decode(tree)
        out[...] = 1
        assert kept == bytes(encoder.buffers[0])


def test_containers_of_the_standard_library_are_data_and_those_of_a_notebook_are_objects() -> None:
    assert through(OrderedDict(a=1)) == {"a": 1}
    assert through(defaultdict(int, a=1)) == {"a": 1}
    assert through(torch.Size([1, 2])) == (1, 2)
    largest = torch.tensor([[3.0, 1.0]]).max(dim=-1)
    assert through(largest) == (torch.tensor([3.0]), torch.tensor([0]))

    class Vocabulary(dict):
        pass

    point = namedtuple("point", "x y")
    for value in (Vocabulary(a=1), point(1, 2)):
        assert not is_plain(value, type(value))
        assert Encoder(export=lambda value: {"handle": type(value).__name__}).encode(value) == {
            "handle": type(value).__name__
        }
        with pytest.raises(WireError, match="cannot be sent"):
            through(value)


def test_subclasses_of_text_and_numbers_travel_as_what_they_hold() -> None:
    class Colour(enum.StrEnum):
        RED = "r"

    class Level(enum.IntEnum):
        LOW = 3

    assert_same(through([Colour.RED, Level.LOW]), ["r", 3])


@pytest.mark.parametrize(
    "value",
    [
        object(), lambda: 0, torch.nn.Linear(1, 1), np.array([object()]), np.array(["2026"], "M8[Y]"),
        torch.eye(2).to_sparse(), 10**5000, range(3), {1: {2: object()}},
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_data_cannot_be_sent(value: Any) -> None:
    with pytest.raises(WireError):
        through(value)


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def test_depth_is_limited_on_both_ends() -> None:
    assert through(nested(LIMITS.depth)) == nested(LIMITS.depth)
    with pytest.raises(WireError, match="nested"):
        Encoder().encode(nested(LIMITS.depth + 1))
    with pytest.raises(WireError, match="nested"):
        Decoder([]).decode(nested(LIMITS.depth + 1))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(WireError, match="nested"):
        Encoder().encode(endless)


def test_items_are_limited_on_both_ends() -> None:
    few = Limits(items=10)
    assert through([0] * 9, few) == [0] * 9
    with pytest.raises(WireError, match="items"):
        Encoder(limits=few).encode([0] * 10)
    with pytest.raises(WireError, match="items"):
        Decoder([], limits=few).decode([0] * 10)


def test_items_of_gradients_count_as_well() -> None:
    few = Limits(items=3)
    leaf = torch.ones(1, requires_grad=True)
    leaf.sum().backward()
    encoder = Encoder()
    tree = encoder.encode([leaf, leaf.detach().clone().requires_grad_()])
    with pytest.raises(WireError, match="items"):
        Decoder(list(encoder.buffers), limits=few).decode(tree)


def test_bytes_and_buffers_are_limited_at_the_sender() -> None:
    few = Limits(buffers=100, buffer_count=3)
    with pytest.raises(WireError, match="bytes"):
        Encoder(limits=few).encode([b"a" * 60, b"b" * 60])
    with pytest.raises(WireError, match="arrays"):
        Encoder(limits=few).encode([b"a"] * 4)
    with pytest.raises(WireError, match="tensor of"):
        Encoder(limits=few).encode(torch.zeros(1).expand(2**40))  # nothing of which is ever made
    with pytest.raises(WireError, match="array of"):
        Encoder(limits=few).encode(np.broadcast_to(0.0, 2**40))


def test_a_whole_number_that_python_would_not_print_is_not_taken() -> None:
    largest = {"int": hex(16**LIMITS.digits - 1)}
    assert len(repr(Decoder([]).decode(largest))) <= 4300
    with pytest.raises(WireError):
        Decoder([]).decode({"int": "0x" + "f" * (LIMITS.digits + 2)})
    with pytest.raises(WireError):
        Encoder().encode(16 ** (LIMITS.digits + 1))


def array_tree(tag: str = "array", **changes: Any) -> Any:
    content = {"dtype": "<f4" if tag != "tensor" else "float32", "shape": [2], "buffer": 0}
    return {tag: {**content, **changes}}


@pytest.mark.parametrize("tag", ["array", "tensor", "scalar"])
@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2**40, 2**40, 0]}, {"shape": [2**47] * 32}, {"shape": [2**200]}, {"shape": [-1, -2]},
        {"shape": [True, 2]}, {"shape": [2.0]}, {"shape": "2"}, {"shape": [1] * 33}, {"shape": None}, {"shape": 2},
        {"shape": [3]}, {"shape": [[2]]}, {"shape": {"tuple": [2]}},
        {"dtype": "O"}, {"dtype": "|O8"}, {"dtype": "<f3"}, {"dtype": "V8"}, {"dtype": "U999999"}, {"dtype": None},
        {"dtype": "U9999999999"}, {"dtype": ["<f4"]}, {"dtype": "<M8[s]"}, {"dtype": "f4,f4"}, {"dtype": {"a": 1}},
        {"dtype": "float31"}, {"dtype": "qint8"}, {"dtype": "__class__"}, {"dtype": 7},
        {"buffer": -1}, {"buffer": 1}, {"buffer": True}, {"buffer": None}, {"buffer": "0"}, {"buffer": 0.0},
        {"buffer": [0]}, {"buffer": 2**70},
    ],
    ids=str,
)  # fmt: skip
def test_a_malformed_array_is_a_wire_error(tag: str, changes: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        Decoder([bytes(8)]).decode(array_tree(tag, **changes))


@pytest.mark.parametrize("missing", ["dtype", "shape", "buffer"])
@pytest.mark.parametrize("tag", ["array", "tensor"])
def test_an_incomplete_array_is_a_wire_error(tag: str, missing: str) -> None:
    tree = array_tree(tag)
    del tree[tag][missing]
    with pytest.raises(WireError):
        Decoder([bytes(8)]).decode(tree)


@pytest.mark.parametrize("dtype", ["<U0", "S0", "<f4"])
def test_an_empty_array_of_enormous_shape_is_refused(dtype: str) -> None:
    shape = [2**40] if dtype != "<f4" else [2**40, 0]
    with pytest.raises(WireError, match="enormous"):
        Decoder([b""]).decode(array_tree(dtype=dtype, shape=shape))
    if dtype == "<f4":
        with pytest.raises(WireError, match="enormous"):
            Decoder([b""]).decode(array_tree("tensor", shape=shape))


def test_a_buffer_is_taken_once_so_that_nothing_is_multiplied() -> None:
    with pytest.raises(WireError, match="taken already"):
        Decoder([bytes(8)]).decode([array_tree(), array_tree()])
    with pytest.raises(WireError, match="taken already"):
        Decoder([bytes(8)]).decode([{"bytes": 0}, {"str": 0}])


def test_bytes_that_are_no_boolean_become_one() -> None:
    out = Decoder([bytes([0, 1, 2, 255]), bytes([0, 1, 2, 255])]).decode(
        [array_tree(dtype="|b1", shape=[4]), array_tree("tensor", dtype="bool", shape=[4], buffer=1)]
    )
    assert out[0].view(np.uint8).tolist() == out[1].view(torch.uint8).tolist() == [0, 1, 1, 1]


def test_letters_that_do_not_exist_are_refused() -> None:
    """NumPy would take them, and Python would fail on the first look with a SystemError."""
    for order in "<>":
        with pytest.raises(WireError, match="letters"):
            Decoder([b"\xff\xff\xff\xff"]).decode(array_tree(dtype=f"{order}U1", shape=[1]))
        out = Decoder([np.array([0x10FFFF], f"{order}u4").tobytes()]).decode(
            array_tree(dtype=f"{order}U1", shape=[1])
        )
        assert out.tolist() == ["\U0010ffff"]


@pytest.mark.parametrize(
    "tree",
    [
        {"int": 5}, {"int": "zz"}, {"complex": 1}, {"complex": [1, 2, 3]}, {"complex": ["x", 1]},
        {"complex": [10**400, 0]}, {"tuple": 5}, {"tuple": {"tuple": []}}, {"set": [[1]]}, {"set": [{"dict": []}]},
        {"set": [{"slice": [1, 2, 3]}]}, {"frozenset": "ab"}, {"dict": [[[1], 2]]}, {"dict": [[1]]},
        {"dict": ["ab"]}, {"dict": [{"tuple": [1, 2]}]}, {"dict": {}}, {"dict": [[{"set": []}, 2]]},
        {"slice": [1, 2, 3, 4]}, {"slice": []}, {"bytes": 9}, {"str": 9}, {"same": 0}, {"same": -1},
        {"same": True}, {"same": "0"}, {"torch.dtype": "int9"}, {"torch.dtype": []}, {"numpy.dtype": "O"},
        {"numpy.dtype": 3}, {"scalar": 3}, {"scalar": [1]}, {"scalar": None}, {"handle": 1}, {"no such tag": 1},
        {}, {"tuple": [], "list": []}, {"tensor": []}, {"tensor": "dtype"}, {"array": 1}, {"array": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_tag_with_the_wrong_content_is_a_wire_error(tree: Any) -> None:
    with pytest.raises(WireError):
        Decoder([]).decode(tree)


def test_text_that_is_no_utf8_is_a_wire_error() -> None:
    with pytest.raises(WireError):
        Decoder([b"\xff\xfe"]).decode({"str": 0})


LEAF = {"dtype": "float32", "shape": [2], "buffer": 0, "grad": "leaf"}


@pytest.mark.parametrize(
    "gradient",
    [
        5, [1.0], array_tree("array", buffer=1), array_tree("tensor", buffer=1, shape=[1, 2]),
        array_tree("tensor", buffer=1, dtype="int32"), {"tensor": {**LEAF, "buffer": 1}}, {"handle": 1},
        {"tensor": {**LEAF, "buffer": 1, "accumulated": array_tree("tensor", buffer=1)}}, {"same": 0},
        array_tree("tensor", buffer=0), None,
    ],
    ids=str,
)  # fmt: skip
def test_a_gradient_that_is_none_is_a_wire_error(gradient: Any) -> None:
    with pytest.raises(WireError):
        Decoder([bytes(8), bytes(8)]).decode({"tensor": {**LEAF, "accumulated": gradient}})


def test_gradients_of_gradients_of_gradients_are_a_wire_error() -> None:
    tree: Any = {"tensor": {**LEAF, "buffer": 0}}
    for number in range(1, 200):
        tree = {"tensor": {**LEAF, "buffer": number, "accumulated": tree}}
    with pytest.raises(WireError):
        Decoder([bytes(8)] * 200).decode(tree)


@pytest.mark.parametrize("grad", ["root", 1, [], True])
def test_a_gradient_of_unknown_kind_is_a_wire_error(grad: Any) -> None:
    with pytest.raises(WireError):
        Decoder([bytes(8)]).decode(array_tree("tensor", grad=grad))


def test_whole_numbers_have_no_gradients() -> None:
    with pytest.raises(WireError):
        Decoder([bytes(8)]).decode(array_tree("tensor", dtype="int32", grad="leaf"))


@pytest.mark.parametrize("kind", ["set", "frozenset", "dict"])
@pytest.mark.parametrize("form", ["plain", "tagged", "tuple"])
def test_keys_made_to_share_a_hash_are_refused_at_once(kind: str, form: str) -> None:
    keys = [number * (2**61 - 1) for number in range(1, 50_000)]
    forms = {
        "plain": lambda key: key,
        "tagged": lambda key: {"int": hex(key)},
        "tuple": lambda key: {"tuple": [key]},
    }
    members = [forms[form](key) for key in keys]
    begun = time.monotonic()
    with pytest.raises(WireError, match="hash"):
        Decoder([]).decode({kind: [[m, 0] for m in members] if kind == "dict" else members})
    assert time.monotonic() - begun < 5  # a dict of them would take half a minute


def test_large_honest_sets_and_dicts_are_taken() -> None:
    value = {"ids": set(range(-20_000, 20_000)), "halves": {n / 2: str(n) for n in range(20_000)}}
    assert through(value) == value


SMALL = st.integers(-2, 4) | st.sampled_from([2**40, 2**63, True, -1])
NAMES = st.sampled_from(
    "tuple set frozenset dict int complex bytes str array scalar same tensor torch.dtype numpy.dtype slice "
    "ellipsis handle callback".split()
)
FIELDS = {
    "dtype": st.sampled_from(
        ["<f4", ">U2", "|b1", "S3", "U0", "<c8", "float32", "bool", "bfloat16", "complex32"]
    )
    | st.text(max_size=4),
    "shape": st.lists(SMALL, max_size=4) | SMALL,
    "buffer": SMALL,
    "grad": st.sampled_from(["leaf", "graph", "x", None]),
    "parameter": st.booleans(),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | SMALL,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(NAMES, inner, min_size=1, max_size=1)
        | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["array", "tensor", "scalar"]),
            st.fixed_dictionaries({}, optional={**FIELDS, "accumulated": inner}),
            min_size=1,
            max_size=1,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=500)
@given(JSON, st.lists(st.binary(max_size=20), max_size=4))
def test_any_json_with_any_buffers_is_a_value_or_a_wire_error(tree: Any, buffers: list[bytes]) -> None:
    limits = Limits(items=100, depth=8, empty=1000)
    try:
        value = Decoder(list(buffers), limits=limits).decode(tree)
    except WireError:
        return
    repr(value)  # what was taken can be looked at
    Encoder(limits=LIMITS).encode(value)  # and sent on
