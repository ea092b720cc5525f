"""Messages between client, server and child: a length of eight bytes, then JSON. Nothing is ever unpickled."""

import json
import math
import socket
import struct
from typing import Any

MAX_REQUEST_BYTES = 256 << 20
MAX_ANSWER_BYTES = 4 << 20
_LENGTH = struct.Struct(">Q")


class Broken(Exception):
    """What came is no message: too long, cut off, or no JSON."""


def frame(message: Any) -> bytes:
    """A message as bytes. ValueError where it holds what JSON cannot."""
    body = json.dumps(message, allow_nan=False).encode()
    return _LENGTH.pack(len(body)) + body


def send(connection: socket.socket, message: Any) -> None:
    """Send a message; OSError where the other side is gone."""
    connection.sendall(frame(message))


def receive(connection: socket.socket, most: int) -> Any:
    """The next message; None where the other side has closed. Broken where it is longer than so many bytes."""
    head = _exactly(connection, _LENGTH.size)
    if not head:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > most:
        raise Broken(f"a message of {length:,} bytes: at most {most:,} are read")
    body = _exactly(connection, length)
    if len(body) < length:
        raise Broken("a message that was cut off")
    return parsed(body)


def whole(received: bytes | bytearray, most: int) -> bytes | None:
    """The message in what has come so far, as JSON; None where more is to come. Broken where it is too long."""
    if len(received) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(received)
    if length > most:
        raise Broken(f"{length:,} bytes: at most {most:,} are read")
    end = _LENGTH.size + length
    if len(received) > end:
        raise Broken("more than one message")
    return bytes(received[_LENGTH.size : end]) if len(received) == end else None


def parsed(body: bytes) -> Any:
    """JSON without NaN, infinity and endless depth."""
    try:
        return json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise Broken("no JSON") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _finite(text: str) -> float:
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(text)
    return found


def _exactly(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer where the other side closes before."""
    found = bytearray()
    while len(found) < count:
        more = connection.recv(min(1 << 20, count - len(found)))
        if not more:
            break
        found += more
    return bytes(found)
