"""What clients see of the engine's answers: their own name, whole streams, and a true count."""

import asyncio
import json

import pytest
from tests.unit.server.builders import DIGEST, KEY, OTHER_DIGEST, gateway_client, route
from tests.unit.server.engine_stand_in import Engine

from posttrain_server.exchange import KEY_HEADER, METRICS_PATH, STATE_PATH, RouteTable
from posttrain_server.gateway.answer import EventStream
from posttrain_server.gateway.question import Question

VERSION = "support@" + "1" * 12
TABLE = RouteTable(adapters={"support": route()})


def event(value: object) -> bytes:
    """One server-sent event as vLLM writes it."""
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def chunk(text: str, *, model: str, **extra: object) -> dict[str, object]:
    """One chunk of a streamed chat answer."""
    return {"id": "1", "model": model, "choices": [{"delta": {"content": text}}], **extra}


HONEST = f'"model":"{VERSION}" said the "ünïcode\n\n'
"""Text that looks like what is rewritten, with the end of an event in it."""
USAGE = {"id": "1", "model": VERSION, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
ENGINE_STREAM = b"".join(
    [
        event(chunk("Hi", model=VERSION)),
        b": keep-alive\n\n",
        event(chunk(HONEST, model=VERSION)),
        event(USAGE),
        b"data: [DONE]\n\n",
    ]
)
CLIENT_STREAM = b"".join(
    [
        event(chunk("Hi", model="support")),
        b": keep-alive\n\n",
        event(chunk(HONEST, model="support")),
        b"data: [DONE]\n\n",
    ]
)


def test_a_stream_cut_anywhere_is_the_same_to_the_client():
    for cut in range(len(ENGINE_STREAM)):
        counted = []
        stream = EventStream(Question("support", VERSION, b"", wants_usage=False), counted.append)
        seen = stream.feed(ENGINE_STREAM[:cut]) + stream.feed(ENGINE_STREAM[cut:]) + stream.feed(b"", last=True)
        assert (seen, counted) == (CLIENT_STREAM, [USAGE["usage"]]), f"cut after byte {cut}"


def test_a_stream_byte_by_byte_keeps_flowing():
    stream = EventStream(Question("support", VERSION, b"", wants_usage=False), lambda _: None)
    pieces = [stream.feed(bytes([byte])) for byte in ENGINE_STREAM]
    assert b"".join(pieces) == CLIENT_STREAM
    assert sum(bool(piece) for piece in pieces) == 4, "each event goes on as soon as it is whole"


def test_a_client_that_asks_for_the_usage_gets_it():
    counted = []
    stream = EventStream(Question("support", VERSION, b"", wants_usage=True), counted.append)
    assert stream.feed(event(USAGE)) == event({**USAGE, "model": "support"})
    assert counted == [USAGE["usage"]]


def test_the_rest_of_a_broken_stream_is_not_lost():
    stream = EventStream(Question("support", VERSION, b"", wants_usage=False), lambda _: None)
    assert stream.feed(b"data: [DO", last=True) == b"data: [DO"


async def test_a_stream_goes_through_the_gateway():
    engine = Engine(chunks=[ENGINE_STREAM[:50], ENGINE_STREAM[50:]])
    async with gateway_client(engine, table=TABLE) as client:
        response = await client.post("/v1/chat/completions", json={"model": "support", "stream": True})
    assert response.content == CLIENT_STREAM
    assert "content-length" not in response.headers


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_an_error_of_the_engine_names_no_version(streamed: bool):
    error = {
        "message": f"The model `{VERSION}` does not exist.",
        "type": "NotFoundError",
        "param": "model",
        "code": 404,
    }
    engine = Engine(chunks=[event({"error": error})]) if streamed else Engine(error=error)
    async with gateway_client(engine, table=TABLE) as client:
        response = await client.post("/v1/completions", json={"model": "support", "stream": streamed})
    shown = json.loads(response.text.removeprefix("data: "))
    assert shown == {"error": {**error, "message": "The model `support` does not exist."}}


async def test_requests_and_tokens_are_counted_per_adapter_and_invented_names_are_not_labels():
    engine = Engine(chunks=[ENGINE_STREAM])
    async with gateway_client(engine, table=TABLE) as client:
        await client.post("/v1/completions", json={"model": "base"})
        await client.post("/v1/completions", json={"model": "support"})
        await client.post("/v1/chat/completions", json={"model": "support", "stream": True})
        for number in range(3):
            await client.post("/v1/completions", json={"model": f"invented-{number}"})
        text = (await client.get(METRICS_PATH, headers={KEY_HEADER: KEY})).text
    found = {line for line in text.splitlines() if line.startswith(("posttrain_server_req", "posttrain_server_tok"))}
    assert {line for line in found if "_total" in line} == {
        'posttrain_server_requests_total{code="200",model="base",route="completions"} 1.0',
        'posttrain_server_requests_total{code="200",model="support",route="completions"} 1.0',
        'posttrain_server_requests_total{code="200",model="support",route="chat"} 1.0',
        'posttrain_server_requests_total{code="404",model="unknown",route="completions"} 3.0',
        'posttrain_server_tokens_total{kind="prompt",model="base"} 5.0',
        'posttrain_server_tokens_total{kind="completion",model="base"} 2.0',
        'posttrain_server_tokens_total{kind="prompt",model="support"} 8.0',
        'posttrain_server_tokens_total{kind="completion",model="support"} 4.0',
    }
    assert "invented" not in text


async def test_a_model_that_is_gone_is_no_label_any_more():
    async with gateway_client(Engine(), table=TABLE) as client:
        await client.post("/v1/completions", json={"model": "support"})
        await client.put_table(RouteTable())
        text = (await client.get(METRICS_PATH, headers={KEY_HEADER: KEY})).text
    assert "support" not in text


class HeldEngine:
    """An engine whose answers wait until they are let go."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.asked = asyncio.Event()
        self.let_go = asyncio.Event()

    def app(self):
        """The application."""

        async def answer(_scope, receive, send):
            self.models.append(json.loads((await receive())["body"])["model"])
            self.asked.set()
            await self.let_go.wait()
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
            )
            await send({"type": "http.response.body", "body": json.dumps({"model": self.models[0]}).encode()})

        return answer


async def test_a_swap_leaves_running_requests_where_they_are_and_counts_them():
    engine = HeldEngine()
    async with gateway_client(engine, table=TABLE) as client:
        old = asyncio.create_task(client.post("/v1/completions", json={"model": "support"}))
        await engine.asked.wait()
        await client.put_table(RouteTable(adapters={"support": route(digest=OTHER_DIGEST)}))
        during = (await client.get(STATE_PATH, headers={KEY_HEADER: KEY})).json()
        new = asyncio.create_task(client.post("/v1/completions", json={"model": "support"}))
        engine.let_go.set()
        answers = [(await task).json() for task in (old, new)]
        after = (await client.get(STATE_PATH, headers={KEY_HEADER: KEY})).json()
    assert (during["inFlight"], after["inFlight"]) == ({VERSION: 1}, {})
    assert answers == [{"model": "support"}, {"model": "support"}]
    assert engine.models == [VERSION, "support@" + "2" * 12]


async def test_an_engine_that_breaks_down_leaves_no_request_behind():
    class Broken:
        def app(self):
            async def answer(_scope, _receive, _send):
                raise ConnectionResetError

            return answer

    async with gateway_client(Broken(), table=TABLE) as client:
        with pytest.raises(ConnectionResetError):
            await client.post("/v1/completions", json={"model": "support"})
        state = (await client.get(STATE_PATH, headers={KEY_HEADER: KEY})).json()
    assert "inFlight" not in state or state["inFlight"] == {}


async def test_the_state_tells_one_engine_from_the_next():
    instances = set()
    for _ in range(2):
        async with gateway_client(Engine(), table=TABLE) as client:
            state = (await client.get(STATE_PATH, headers={KEY_HEADER: KEY})).json()
            instances.add(state["instance"])
            assert (state["dtype"], state["table"]["adapters"]["support"]["digest"]) == ("float32", DIGEST)
    assert len(instances) == 2


async def test_a_table_that_is_none_changes_nothing():
    async with gateway_client(Engine(), table=TABLE) as client:
        refused = await client.put("/posttrain/routes", json={"adapters": 3}, headers={KEY_HEADER: KEY})
        state = (await client.get(STATE_PATH, headers={KEY_HEADER: KEY})).json()
    assert (refused.status_code, list(state["table"]["adapters"])) == (400, ["support"])
