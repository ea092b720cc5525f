"""The ASGI middleware itself: door, name, engine, answer."""

import secrets
import time
from collections import Counter
from dataclasses import dataclass

from pydantic import ValidationError

from posttrain_api.artifact import Dtype
from posttrain_api.server_contract import Runner
from posttrain_server import key
from posttrain_server.exchange import BASE_NAME, KEY_HEADER, GatewayState, RouteTable
from posttrain_server.gateway import asgi, doors, errors, question
from posttrain_server.gateway.answer import Answer
from posttrain_server.gateway.asgi import App, Receive, Scope, Send
from posttrain_server.gateway.doors import Door
from posttrain_server.gateway.errors import Refusal
from posttrain_server.gateway.metering import UNKNOWN, Meter

_TO_ENGINE = frozenset({b"accept", b"content-type", b"host", b"traceparent", b"tracestate", b"user-agent"})
"""Headers of clients that the engine sees. Others could choose an adapter, a request id, a session or a priority."""
_TABLE_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True)
class GatewaySettings:
    """What the engine's start decided for the gateway."""

    key: str
    """The shared key, in hexadecimal."""
    dtype: Dtype
    """The precision of the engine."""
    max_body_bytes: int = 16 * 1024 * 1024
    runner: Runner = "generate"
    """What the engine makes of the base."""


class Gateway:
    """ASGI middleware around vLLM's application."""

    def __init__(self, app: App, *, settings: GatewaySettings) -> None:
        self._app = app
        self._settings = settings
        self._instance = secrets.token_hex(8)
        self._created = int(time.time())
        self._table: RouteTable | None = None
        self._in_flight: Counter[str] = Counter()
        self._meter = Meter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await _refuse_socket(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._enter(scope, receive, send)
        except Refusal as refusal:
            await asgi.send_json(send, refusal.body(), status=refusal.status, headers=refusal.headers())
        except asgi.Disconnected:
            return

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        door = doors.door(self._who(scope), method, path, runner=self._settings.runner)
        if door is None:
            raise self._counted(errors.no_such_route(method, path))
        if door in ("chat", "completions", "classify"):
            await self._ask(door, scope, receive, send)
        elif door == "engine" or door == "health":
            await self._app(self._for_engine(scope), receive, send)
        else:
            await self._own(door, receive, send)

    def _who(self, scope: Scope) -> doors.Who:
        given = asgi.header(scope, KEY_HEADER)
        if given is None:
            return "client"
        if not key.matches(given, self._settings.key):
            raise self._counted(errors.wrong_key())
        return "agent"

    def _for_engine(self, scope: Scope) -> Scope:
        kept = asgi.keep_headers(scope["headers"], _TO_ENGINE | {b"content-length", b"transfer-encoding"})
        return {**scope, "headers": kept}

    def _counted(self, refusal: Refusal, *, model: str | None = None, route: Door | None = None) -> Refusal:
        self._meter.refuse(refusal.code, model=model, route=route, status=refusal.status)
        return refusal

    async def _ask(self, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
        fields: dict[str, object] = {}
        try:
            fields = question.parse(await asgi.read_body(receive, limit=self._settings.max_body_bytes))
            asked = question.question(door, fields, self._table)
        except Refusal as refusal:
            raise self._counted(refusal, model=self._label(fields.get("model")), route=door) from refusal
        # From the table to the count below nothing waits: no version can be drained between the two.
        await self._pass_on(asked, door, scope, receive, send)

    def _label(self, name: object) -> str:
        table = self._table or RouteTable()
        known = (BASE_NAME, *table.adapters, *table.waiting)
        return name if isinstance(name, str) and name in known else UNKNOWN

    async def _pass_on(self, asked: question.Question, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        answer = Answer(send, asked, lambda usage: self._meter.usage(self._label(asked.name), usage))
        headers = asgi.with_length(asgi.keep_headers(scope["headers"], _TO_ENGINE), len(asked.body))
        self._in_flight[asked.engine_name] += 1
        try:
            await self._app({**scope, "headers": headers}, asgi.replay(asked.body, receive), answer)
        finally:
            self._in_flight[asked.engine_name] -= 1
            self._in_flight += Counter()  # drops the zeros
            seconds = time.monotonic() - began
            self._meter.answered(self._label(asked.name), route=door, status=answer.status, seconds=seconds)

    async def _own(self, door: Door, receive: Receive, send: Send) -> None:
        if door == "models":
            await asgi.send_json(send, self._models())
        elif door == "state":
            await asgi.send_json(send, self._state().to_json())
        elif door == "metrics":
            await asgi.send_bytes(send, self._meter.text(), headers={"content-type": "text/plain; version=0.0.4"})
        else:
            self._replace_table(await asgi.read_body(receive, limit=_TABLE_LIMIT))
            await asgi.send_json(send, self._state().to_json())

    def _replace_table(self, body: bytes) -> None:
        try:
            table = RouteTable.model_validate_json(body)
        except ValidationError as error:
            raise errors.invalid_body(str(error)) from error
        old = self._table or RouteTable()
        self._table = table
        gone = {*old.adapters, *old.waiting} - {*table.adapters, *table.waiting}
        self._meter.forget(sorted(gone))

    def _state(self) -> GatewayState:
        return GatewayState(
            instance=self._instance,
            dtype=self._settings.dtype,
            table=self._table,
            in_flight=dict(self._in_flight),
        )

    def _models(self) -> dict[str, object]:
        names = sorted((self._table or RouteTable()).adapters)
        cards = [self._card(BASE_NAME, None), *(self._card(name, BASE_NAME) for name in names)]
        return {"object": "list", "data": cards}

    def _card(self, name: str, parent: str | None) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "posttrain", "parent": parent}


async def _refuse_socket(receive: Receive, send: Send) -> None:
    """No door is a websocket."""
    await receive()
    await send({"type": "websocket.close", "code": 1008, "reason": "no such route"})
