"""The messages between a process and the one that decodes for it: a kind, a JSON object and bytes, over a socket.

One side asks (`OPEN`, with the descriptor of an open file or without one; `BEGIN`, `NEXT` and `CLOSE`), the other
answers each with one message, after any number of `WARNING`. Where it got no descriptor it asks back, with `READ`, for
bytes of the file, and gets them as `BYTES`: perhaps after the next request, which was on its way. Lengths are bounded,
whatever the other side is up to.
"""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Protocol

OPEN, BEGIN, NEXT, CLOSE = b"O", b"B", b"N", b"C"
READY, INFO, SAMPLES, DONE, ERROR, WARNING = b"R", b"I", b"S", b"D", b"E", b"W"
READ, BYTES = b"F", b"Y"

BLOCK_BYTES = 4 << 20
"""The most that one message carries, and thus one block of decoded samples: 65 s of a telephone call in stereo."""

_HEAD = struct.Struct("<cII")
_MAX_JSON_BYTES = 1 << 16


class Readable(Protocol):
    """What of a socket is used to read."""

    def recv(self, count: int, /) -> bytes:
        """Return up to so many bytes; none at the end."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Fill a buffer, and return how far."""


class ProtocolError(Exception):
    """The other side has ended, or sent what it should not have."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    kind: bytes
    fields: dict[str, Any] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)


def send(
    connection: socket.socket,
    kind: bytes,
    fields: dict[str, Any] | None = None,
    data: bytes | memoryview = b"",
    descriptor: int | None = None,
) -> None:
    """Send one message, and with it an open file."""
    text = json.dumps(fields).encode() if fields else b""  # ASCII: a name that is not UTF-8 has lone surrogates
    head = _HEAD.pack(kind, len(text), len(data)) + text
    if descriptor is not None:
        head = head[socket.send_fds(connection, [head], [descriptor]) :]
    connection.sendall(head)
    if data:
        connection.sendall(data)


def receive(connection: Readable, descriptors: list[int] | None = None) -> Message:
    """Return the next message; open files that come with it are added to `descriptors`, which takes a socket.

    Raises:
        ProtocolError: the other side has ended, or what came is no message.
    """
    head = bytearray()
    while len(head) < _HEAD.size:
        if descriptors is not None and isinstance(connection, socket.socket):
            part, came, _, _ = socket.recv_fds(connection, _HEAD.size - len(head), 1)
            descriptors += came
        else:
            part = connection.recv(_HEAD.size - len(head))
        if not part:
            raise ProtocolError("it ended")
        head += part
    kind, text_bytes, data_bytes = _HEAD.unpack(head)
    if text_bytes > _MAX_JSON_BYTES or data_bytes > BLOCK_BYTES:
        raise ProtocolError("a message is too long")
    text, data = bytearray(text_bytes), bytearray(data_bytes)
    _fill(connection, text)
    _fill(connection, data)
    try:
        fields = json.loads(text) if text else {}
    except ValueError as error:
        raise ProtocolError("a message is damaged") from error
    if not isinstance(fields, dict):
        raise ProtocolError("a message is damaged")
    return Message(kind, fields, data)


def _fill(connection: Readable, part: bytearray) -> None:
    rest = memoryview(part)
    while rest:
        count = connection.recv_into(rest)
        if not count:
            raise ProtocolError("it ended")
        rest = rest[count:]
