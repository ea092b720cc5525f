"""The engine's answer on its way to the client: its name for the model, tokens counted, streams kept flowing."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from posttrain_server.gateway import asgi
from posttrain_server.gateway.asgi import Message, Send
from posttrain_server.gateway.question import Question

Usage = Callable[[dict[str, Any]], None]
"""Takes OpenAI's `usage` object of one finished request."""
_EVENT_END = b"\n\n"


def rewrite(value: Any, question: Question) -> Any:
    """A decoded answer with the client's name in place of the engine's."""
    if not isinstance(value, dict):
        return value
    if "error" in value:
        text = json.dumps(value).replace(question.engine_name, question.name)
        return json.loads(text)
    return value | {"model": question.name} if "model" in value else value


class EventStream:
    """Server-sent events, cut anywhere: feed() gives back whole events only, rewritten."""

    def __init__(self, question: Question, usage: Usage) -> None:
        self._question = question
        self._usage = usage
        self._rest = b""

    def feed(self, chunk: bytes, *, last: bool = False) -> bytes:
        """The bytes that can go on now; with `last`, everything."""
        *events, self._rest = (self._rest + chunk).split(_EVENT_END)
        done = b"".join(self._event(event) + _EVENT_END for event in events if not self._is_extra(event))
        if last and self._rest:
            done, self._rest = done + self._event(self._rest), b""
        return done

    def _event(self, event: bytes) -> bytes:
        return b"\n".join(self._line(line) for line in event.split(b"\n"))

    def _line(self, line: bytes) -> bytes:
        value = _payload(line)
        return line if value is None else b"data: " + asgi.dump(rewrite(value, self._question))

    def _is_extra(self, event: bytes) -> bool:
        """Whether this is the usage that only we asked for; any usage at the end is counted on the way."""
        value = _payload(event)
        if value is None or value.get("choices") != [] or not isinstance(value.get("usage"), dict):
            return False
        self._usage(value["usage"])
        return not self._question.wants_usage


def _payload(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"data: {"):
        return None
    value = json.loads(line.removeprefix(b"data: "))
    return value if isinstance(value, dict) else None


class Answer:
    """A send() for the engine: JSON is rewritten whole, a stream event by event, the rest passes."""

    def __init__(self, send: Send, question: Question, usage: Usage) -> None:
        self.status = 0
        self._send = send
        self._question = question
        self._usage = usage
        self._start: Message | None = None
        self._body = b""
        self._stream: EventStream | None = None

    async def __call__(self, message: Message) -> None:
        """Take one ASGI message of the engine's answer."""
        for outgoing in self._outgoing(message):
            await self._send(outgoing)

    def _outgoing(self, message: Message) -> Iterator[Message]:
        if message["type"] == "http.response.start":
            yield from self._begin(message)
        elif message["type"] == "http.response.body" and self._stream is not None:
            yield from self._flow(message)
        elif message["type"] == "http.response.body" and self._start is not None:
            yield from self._collect(message)
        else:
            yield message

    def _begin(self, message: Message) -> Iterator[Message]:
        self.status = message["status"]
        kind = asgi.header({"headers": message.get("headers", [])}, "content-type") or b""
        if kind.startswith(b"text/event-stream"):
            self._stream = EventStream(self._question, self._usage)
            yield {**message, "headers": asgi.with_length(message["headers"], None)}
        elif kind.startswith(b"application/json"):
            self._start = message
        else:
            yield message

    def _flow(self, message: Message) -> Iterator[Message]:
        assert self._stream is not None
        more = message.get("more_body", False)
        body = self._stream.feed(message.get("body", b""), last=not more)
        if body or not more:
            yield {**message, "body": body}

    def _collect(self, message: Message) -> Iterator[Message]:
        assert self._start is not None
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        value = json.loads(self._body)
        if isinstance(value, dict) and isinstance(value.get("usage"), dict):
            self._usage(value["usage"])
        body = asgi.dump(rewrite(value, self._question))
        yield {**self._start, "headers": asgi.with_length(self._start["headers"], len(body))}
        yield {"type": "http.response.body", "body": body, "more_body": False}
