"""The data-only wire between the student's process and the one that scores.

A message is a JSON header and raw buffers, and nothing else: no pickle, no code, in either direction. What
arrives is held to limits before it is read, so that a malformed message is a ``WireError`` (the sender's
failure) and never an accident in the receiver. What a header holds is the business of ``values.py``.

A frame is ``MAGIC``, the header's length, the number of buffers, the length of each buffer, the header,
the buffers.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

import msgspec

MAGIC = b"prw1"
_FRAME = struct.Struct("<4sII")
_SMALL = 1 << 16  # bytes of a message up to which its parts are sent, and read, as one


class WireError(Exception):
    """What the other side sent is not a message, or is larger than the limits allow."""


class WireClosed(Exception):
    """The other side has gone."""


class WireTimeout(Exception):
    """The other side did not answer in time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one message may hold, and all of them together."""

    header: int = 4 << 20  # bytes
    buffers: int = 512 << 20  # bytes, all together
    buffer_count: int = 10_000
    depth: int = 32
    items: int = 200_000
    dimensions: int = 32
    digits: int = 3_500  # of a whole number, in base 16: more than 4,300 in base 10 Python refuses to print
    empty: int = 1 << 24  # the other dimensions, multiplied, of an array in which one is zero
    collisions: int = 64  # members of a set, or keys of a dict, that share a hash
    total: int = 4 << 30  # bytes that one end takes in over its whole life


LIMITS = Limits()


class Connection:
    """One end of a socket that carries frames, each send and receive within a deadline."""

    def __init__(self, sock: socket.socket, limits: Limits = LIMITS) -> None:
        self._socket = sock
        self.limits = limits
        self._received = 0

    def send(self, header: dict[str, Any], buffers: list[Any], deadline: float | None = None) -> None:
        """Send one frame. Raises WireError (too large: nothing was sent), WireClosed or WireTimeout."""
        text = _dump(header)
        sizes = [len(buffer) for buffer in buffers]
        self._check(len(text), sizes)
        head = _FRAME.pack(MAGIC, len(text), len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)
        # In parts, a small message would wake the other side more than once.
        small = len(text) + sum(sizes) <= _SMALL
        for part in (b"".join((head, text, *buffers)),) if small else (head + text, *buffers):
            try:
                self._socket.settimeout(_left(deadline))
                self._socket.sendall(part)
            except TimeoutError:
                raise WireTimeout from None
            except OSError as error:
                raise WireClosed from error

    def receive(self, deadline: float | None = None) -> tuple[dict[str, Any], list[bytes]]:
        """Wait for one frame. Raises WireError (malformed, too large), WireClosed or WireTimeout."""
        magic, length, count = _FRAME.unpack(self._read(_FRAME.size, deadline))
        if magic != MAGIC:
            raise WireError("what was sent is no message")
        self._check(length, [0] * min(count, self.limits.buffer_count + 1))
        sizes = struct.unpack(f"<{count}Q", self._read(8 * count, deadline))
        self._check(length, sizes)
        # Every message may be kept by whoever asked for it, so that many large ones must end somewhere too.
        self._received += length + sum(sizes)
        if self._received > self.limits.total:
            raise WireError(f"more than {_size(self.limits.total)} in all")
        if length + sum(sizes) > _SMALL:
            header = _load(self._read(length, deadline))
            return header, [self._read(size, deadline) for size in sizes]
        # Never a byte beyond this message: a file descriptor may come after it.
        rest = self._read(length + sum(sizes), deadline)
        buffers, begin = [], length
        for size in sizes:
            buffers.append(rest[begin : begin + size])
            begin += size
        return _load(rest[:length]), buffers

    def pass_descriptor(self, descriptor: int, deadline: float | None = None) -> None:
        """Give the other side a file descriptor. Raises WireClosed or WireTimeout."""
        try:
            self._socket.settimeout(_left(deadline))
            socket.send_fds(self._socket, [b"d"], [descriptor])
        except TimeoutError:
            raise WireTimeout from None
        except OSError as error:
            raise WireClosed from error

    def take_descriptor(self) -> int:
        """The file descriptor that the other side gives. Raises WireClosed where it gives none."""
        self._socket.settimeout(None)
        _, descriptors, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not descriptors:
            raise WireClosed
        return descriptors[0]

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _check(self, header: int, sizes: Any) -> None:
        if header > self.limits.header:
            raise WireError(f"a message of more than {_size(self.limits.header)} of text")
        if len(sizes) > self.limits.buffer_count:
            raise WireError(f"a message of more than {self.limits.buffer_count} arrays")
        if sum(sizes) > self.limits.buffers:
            raise WireError(f"a message of more than {_size(self.limits.buffers)}")

    def _read(self, size: int, deadline: float | None) -> bytes:
        # Memory is taken as it arrives, never on the sender's word alone, and byte by byte costs no more.
        data = bytearray()
        while len(data) < size:
            try:
                self._socket.settimeout(_left(deadline))
                part = self._socket.recv(min(size - len(data), 1 << 20))
            except TimeoutError:
                raise WireTimeout from None
            except OSError as error:
                raise WireClosed from error
            if not part:
                raise WireClosed
            if len(part) == size:
                return part
            data += part
        return bytes(data)


def _dump(header: dict[str, Any]) -> bytes:
    try:
        text = msgspec.json.encode(header)
    except (TypeError, ValueError, RecursionError):  # half a surrogate pair, a subclass of str
        text = b"null"
    # It writes what is no number, or infinite, as null too: wherever there is one, the standard library writes.
    return json.dumps(header, separators=(",", ":")).encode() if b"null" in text else text


def _load(text: bytes) -> dict[str, Any]:
    try:
        header = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        # Not-a-number, an infinity, half a surrogate pair; or no JSON at all.
        try:
            header = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise WireError(f"the header is no JSON: {type(error).__name__}") from error
    if not isinstance(header, dict):
        raise WireError("the header is no JSON object")
    return header


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise WireTimeout
    return left


def _size(count: int) -> str:
    return f"{count >> 20} MB" if count >= 1 << 20 else f"{count} bytes"
