"""The few pieces of ASGI that the gateway needs: types, bodies in, JSON out."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from posttrain_server.gateway import errors

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class Disconnected(Exception):
    """The client went away before its request was complete."""


async def read_body(receive: Receive, *, limit: int) -> bytes:
    """The request's body; Refusal above `limit` bytes, Disconnected where the client left."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise errors.body_too_large(limit)
        if not message.get("more_body", False):
            return b"".join(parts)


def replay(body: bytes, receive: Receive) -> Receive:
    """A receive() that gives this body once, then whatever comes, such as the client's leaving."""
    pending = [body]

    async def receive_again() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return receive_again


def header(scope: Scope, name: str) -> bytes | None:
    """The first header of this lower-case name."""
    wanted = name.encode()
    return next((value for key, value in scope["headers"] if key.lower() == wanted), None)


def keep_headers(headers: Iterable[tuple[bytes, bytes]], names: frozenset[bytes]) -> Headers:
    """Only the headers of these lower-case names."""
    return [(key, value) for key, value in headers if key.lower() in names]


def with_length(headers: Iterable[tuple[bytes, bytes]], length: int | None) -> Headers:
    """The headers with this content-length in place of any; None for none."""
    kept = [(key, value) for key, value in headers if key.lower() != b"content-length"]
    return kept if length is None else [*kept, (b"content-length", str(length).encode())]


def dump(value: Any) -> bytes:
    """A JSON value as the engine writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")


async def send_json(send: Send, value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
    """Answer with a JSON value."""
    await send_bytes(send, dump(value), status=status, headers={"content-type": "application/json", **(headers or {})})


async def send_bytes(send: Send, body: bytes, *, status: int = 200, headers: Mapping[str, str]) -> None:
    """Answer with these bytes."""
    lines = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": with_length(lines, len(body))})
    await send({"type": "http.response.body", "body": body})
