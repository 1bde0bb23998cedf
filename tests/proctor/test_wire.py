from __future__ import annotations

import enum
import json
import math
import os
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proctor.wire import MAGIC, Connection, Limits, WireClosed, WireError, WireTimeout

FEW = Limits(header=200, buffers=1000, buffer_count=5, total=5000)
Pair = tuple[socket.socket, Connection]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A bare socket, and a connection at its other end."""
    ours, theirs = socket.socketpair()
    with ours:
        connection = Connection(theirs, FEW)
        yield ours, connection
        connection.close()


def soon(seconds: float = 0.2) -> float:
    return time.monotonic() + seconds


def frame(text: bytes, *buffers: bytes, magic: bytes = MAGIC, sizes: list[int] | None = None) -> bytes:
    sizes = [len(buffer) for buffer in buffers] if sizes is None else sizes
    head = struct.pack("<4sII", magic, len(text), len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)
    return head + text + b"".join(buffers)


def test_what_is_sent_arrives() -> None:
    one, two = (Connection(end) for end in socket.socketpair())
    header = {"op": "x", "content": [1, "\ud800", float("inf"), None], "nested": {"a": {}}}
    buffers = [b"", b"abc", os.urandom(3 << 20)]
    thread = threading.Thread(target=one.send, args=(header, buffers))
    thread.start()
    assert two.receive(soon(20)) == (header, buffers)
    thread.join()
    one.close()
    two.close()


@pytest.mark.parametrize(
    "message",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frame(b"{}", magic=b"prw2"),
        frame(b"[]"), frame(b"1"), frame(b"null"), frame(b'"text"'), frame(b""), frame(b"{"), frame(b"\xff\xfe"),
        frame(b"{}{}"), frame(b"[" * 200), frame(b'{"a":' * 40), frame(b'{"a": ' + b"9" * 190 + b"e"),
        frame(b"{}", sizes=[1001]), frame(b"{}", sizes=[500, 501]), frame(b"{}", sizes=[2**64 - 1]),
        frame(b"{}", sizes=[2**63, 2**63]), frame(b"{}", sizes=[0] * 6),
        struct.pack("<4sII", MAGIC, 201, 0), struct.pack("<4sII", MAGIC, 2**32 - 1, 2**32 - 1),
    ],
    ids=lambda message: repr(message)[:40],
)  # fmt: skip
def test_what_is_no_message_is_a_wire_error(pair: Pair, message: bytes) -> None:
    pair[0].sendall(message)
    with pytest.raises(WireError):
        pair[1].receive(soon(5))


def test_text_nested_beyond_reason_is_a_wire_error() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        connection = Connection(theirs)
        for text in (b"[" * 1_000_000, b'{"a":' * 500_000, b"9" * 1_000_000, b"{" + b'"a":1,' * 300_000):
            thread = threading.Thread(target=ours.sendall, args=(frame(text),))
            thread.start()
            with pytest.raises(WireError):
                connection.receive(soon(20))
            thread.join()
        connection.close()


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(max_size=100)
    | st.binary(max_size=60).map(lambda tail: MAGIC + tail)
    | st.builds(frame, st.binary(max_size=50), st.binary(max_size=20), st.binary(max_size=20))
    | st.builds(
        lambda text, sizes: frame(text, sizes=sizes),
        st.just(b"{}"),
        st.lists(st.integers(0, 2**64 - 1), max_size=6),
    )
    | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5).map(
        lambda tree: frame(json.dumps(tree).encode())
    )
)
def test_any_bytes_at_all_end_as_one_of_three(message: bytes) -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(theirs, FEW)
    with ours:
        ours.sendall(message)
        ours.shutdown(socket.SHUT_WR)
        try:
            while True:
                header, buffers = connection.receive(soon(5))
                assert isinstance(header, dict)
                assert sum(map(len, buffers)) <= FEW.buffers
        except (WireError, WireClosed):
            pass  # a WireTimeout would be a hang
        finally:
            connection.close()


@pytest.mark.parametrize("cut", [0, 1, 11, 12, 19, 20, 21, 24])
def test_a_message_that_breaks_off_is_a_closed_wire(pair: Pair, cut: int) -> None:
    pair[0].sendall(frame(b"{}", b"abcd")[:cut])
    pair[0].shutdown(socket.SHUT_WR)
    with pytest.raises(WireClosed):
        pair[1].receive(soon(5))


@pytest.mark.parametrize("cut", [0, 1, 11, 12, 19, 20, 21, 24])
def test_a_message_that_stops_is_a_timeout(pair: Pair, cut: int) -> None:
    pair[0].sendall(frame(b"{}", b"abcd")[:cut])
    begun = time.monotonic()
    with pytest.raises(WireTimeout):
        pair[1].receive(soon(0.1))
    assert time.monotonic() - begun < 2


def test_a_message_that_trickles_is_a_timeout(pair: Pair) -> None:
    stop = threading.Event()

    def trickle() -> None:
        for byte in frame(b"{}", b"a" * 900):
            if stop.wait(0.01):
                return
            pair[0].sendall(bytes([byte]))

    thread = threading.Thread(target=trickle)
    thread.start()
    begun = time.monotonic()
    with pytest.raises(WireTimeout):
        pair[1].receive(soon(0.3))
    assert time.monotonic() - begun < 2
    stop.set()
    thread.join()


def test_nobody_who_reads_is_a_timeout_for_the_sender() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(theirs)
    begun = time.monotonic()
    with ours, pytest.raises(WireTimeout):
        connection.send({}, [bytes(50 << 20)], soon(0.2))
    assert time.monotonic() - begun < 5
    connection.close()


def test_a_deadline_in_the_past_is_a_timeout(pair: Pair) -> None:
    with pytest.raises(WireTimeout):
        pair[1].receive(time.monotonic() - 1)
    with pytest.raises(WireTimeout):
        pair[1].send({}, [], time.monotonic() - 1)


def test_a_closed_end_is_closed_to_both(pair: Pair) -> None:
    pair[0].close()
    for _ in range(2):
        with pytest.raises(WireClosed):
            pair[1].receive(soon(5))
        with pytest.raises(WireClosed):
            for _ in range(100):
                pair[1].send({}, [b"abc"], soon(5))
        pair[1].close()  # and what this end has closed itself reads the same


@pytest.mark.parametrize(
    ("header", "buffers"),
    [({"a": "b" * 200}, []), ({}, [bytes(1001)]), ({}, [bytes(500), bytes(501)]), ({}, [b""] * 6)],
    ids=["text", "one", "two", "many"],
)
def test_a_message_over_the_limits_is_not_sent_at_all(
    pair: Pair, header: dict[str, Any], buffers: list[bytes]
) -> None:
    with pytest.raises(WireError):
        pair[1].send(header, buffers, soon(5))
    pair[1].send({"next": 1}, [], soon(5))
    assert pair[0].recv(1000) == frame(b'{"next":1}')


def test_a_claim_takes_no_memory() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(theirs)
    claims = [
        struct.pack("<4sII", MAGIC, connection.limits.header, 0),
        frame(b"{}", sizes=[connection.limits.buffers]),
        struct.pack("<4sII", MAGIC, 2, connection.limits.buffer_count),
    ]
    with ours:
        for claim in claims:
            ours.sendall(claim)
            tracemalloc.start()
            with pytest.raises(WireTimeout):
                connection.receive(soon(0.1))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 4 << 20
    connection.close()


def test_single_bytes_take_no_more_memory_than_their_number() -> None:
    """A list of a million one-byte pieces would be forty times as large."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    connection = Connection(theirs)
    size = 50_000

    def trickle() -> None:
        for byte in frame(b"{}", bytes(size)):
            ours.sendall(bytes([byte]))

    thread = threading.Thread(target=trickle)
    tracemalloc.start()
    thread.start()
    _, [buffer] = connection.receive(soon(60))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    thread.join()
    ours.close()
    connection.close()
    assert len(buffer) == size
    assert peak < (1 << 20) + 6 * size  # one read's room, the message as it grows, and its copy


def test_many_large_messages_end_somewhere_too(pair: Pair) -> None:
    for _ in range(5):
        pair[0].sendall(frame(b"{}", bytes(990)))
        pair[1].receive(soon(5))
    pair[0].sendall(frame(b"{}", bytes(990)))
    with pytest.raises(WireError, match="in all"):
        pair[1].receive(soon(5))


@pytest.mark.parametrize("size", [0, 10, 1 << 16, 1 << 20], ids=str)
def test_what_comes_after_a_message_is_left_alone(size: int) -> None:
    """A file descriptor may: whoever reads on would lose it."""
    one, two = (Connection(end) for end in socket.socketpair())
    reader, writer = os.pipe()

    def send() -> None:
        one.send({"op": "branch", "text": "x" * size}, [bytes(size), b"abc"], soon(20))
        one.pass_descriptor(writer, soon(20))
        one.send({"next": 1}, [], soon(20))

    thread = threading.Thread(target=send)
    thread.start()
    header, buffers = two.receive(soon(20))
    assert (header["op"], buffers) == ("branch", [bytes(size), b"abc"])
    passed = two.take_descriptor()
    assert two.receive(soon(20)) == ({"next": 1}, [])
    thread.join()
    os.write(passed, b"through")
    assert os.read(reader, 100) == b"through"
    for descriptor in (reader, writer, passed):
        os.close(descriptor)
    one.close()
    two.close()


def test_a_small_message_arrives_as_one(pair: Pair) -> None:
    pair[1].send({"a": 1}, [b"one", b"", b"two"], soon(5))
    assert pair[0].recv(1000) == frame(b'{"a":1}', b"one", b"", b"two")


class Colour(enum.StrEnum):
    RED = "r"


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from([10**400, -(2**64), 5e-324, 1e308, "null", Colour.RED])
)
HEADERS = st.dictionaries(
    st.text(st.characters(exclude_categories=()), max_size=4),
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


def shown(value: Any) -> str:
    """Text that is the same for two values which are the same, not-a-number and minus zero included."""
    return json.dumps(value, sort_keys=True)


@settings(deadline=None, max_examples=300)
@given(HEADERS)
def test_any_header_arrives_as_it_was_sent(header: dict[str, Any]) -> None:
    one, two = (Connection(end) for end in socket.socketpair())
    one.send(header, [], soon(5))
    assert shown(two.receive(soon(5))[0]) == shown(header)
    one.close()
    two.close()


@settings(deadline=None, max_examples=300)
@given(
    HEADERS.map(json.dumps) | HEADERS.map(lambda header: json.dumps(header, ensure_ascii=False)), st.data()
)
def test_any_header_is_read_as_the_standard_library_reads_it(text: str, data: Any) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    if data.draw(st.booleans()):  # a byte more, or another
        at = data.draw(st.integers(0, len(raw) - 1))
        raw = (
            raw[:at] + data.draw(st.binary(min_size=1, max_size=2)) + raw[at + data.draw(st.integers(0, 1)) :]
        )
    ours, theirs = socket.socketpair()
    connection = Connection(theirs)
    with ours:
        ours.sendall(frame(raw))
        try:
            expected = json.loads(raw)
        except ValueError:
            expected = None
        if isinstance(expected, dict):
            assert shown(connection.receive(soon(5))[0]) == shown(expected)
        else:
            with pytest.raises(WireError):
                connection.receive(soon(5))
    connection.close()


def test_what_is_no_finite_number_arrives_as_such() -> None:
    one, two = (Connection(end) for end in socket.socketpair())
    one.send({"a": [math.inf, {"b": -math.inf}, math.nan, None, 1.5]}, [], soon(5))
    [first, second, third, fourth, fifth] = two.receive(soon(5))[0]["a"]
    assert (first, second, fourth, fifth) == (math.inf, {"b": -math.inf}, None, 1.5)
    assert math.isnan(third)
    one.close()
    two.close()
