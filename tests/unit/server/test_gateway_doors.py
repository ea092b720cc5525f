"""Which doors are open, for whom, and what a refusal looks like."""

import pytest
from tests.unit.server.builders import KEY, gateway_client
from tests.unit.server.engine_stand_in import VLLM_ROUTES, Engine

from posttrain_server.exchange import KEY_HEADER

ODD_DOORS = [
    pytest.param("POST", "/health", id="another method"),
    pytest.param("GET", "/v1/models/", id="a slash more"),
    pytest.param("GET", "/v1//models", id="a slash twice"),
    pytest.param("GET", "/V1/models", id="capitals"),
    pytest.param("GET", "/v1/models/support", id="below a door"),
    pytest.param("PUT", "/posttrain/routes", id="the gateway's own table"),
    pytest.param("GET", "/posttrain/state", id="the gateway's own state"),
    pytest.param("GET", "/posttrain/metrics", id="the gateway's own metrics"),
    pytest.param("OPTIONS", "/v1/chat/completions", id="a preflight request"),
]


@pytest.mark.parametrize(("method", "path"), [*VLLM_ROUTES, *ODD_DOORS])
async def test_a_door_that_is_not_on_the_list_does_not_exist(method: str, path: str):
    engine = Engine()
    async with gateway_client(engine) as client:
        response = await client.request(method, path, json={"model": "base"})
    message = f"There is no {method} {path} here."
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "unknown_url"}
    assert (response.status_code, response.json(), engine.seen) == (404, {"error": error}, [])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/metrics", id="metrics"),
        pytest.param("POST", "/v1/load_lora_adapter", id="load"),
        pytest.param("POST", "/v1/unload_lora_adapter", id="unload"),
        pytest.param("GET", "/v1/models", id="the engine's own list"),
        pytest.param("POST", "/v1/completions", id="a version by its own name"),
    ],
)
async def test_the_key_opens_the_doors_that_the_agent_needs(method: str, path: str):
    engine = Engine()
    async with gateway_client(engine) as client:
        response = await client.request(method, path, json={"model": "x@1"}, headers={KEY_HEADER: KEY})
    [(seen_path, seen_headers, seen_body)] = engine.seen
    assert (response.status_code, seen_path, seen_body) == (200, path, {"model": "x@1"})
    assert KEY_HEADER not in seen_headers, "the key ends at the gateway"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("POST", "/adapters", id="a route that nobody needs"),
        pytest.param("POST", "/v1/chat/completions", id="the agent does not chat"),
        pytest.param("POST", "/collective_rpc", id="development mode"),
    ],
)
async def test_the_key_opens_no_other_door(method: str, path: str):
    engine = Engine()
    async with gateway_client(engine) as client:
        response = await client.request(method, path, json={}, headers={KEY_HEADER: KEY})
    assert (response.status_code, engine.seen) == (404, [])


@pytest.mark.parametrize("key", ["", "0" * 64, KEY[:-1], KEY + "0", "ü"])
async def test_a_wrong_key_opens_nothing_not_even_what_is_open(key: str):
    engine = Engine()
    async with gateway_client(engine) as client:
        response = await client.get("/health", headers={KEY_HEADER: key.encode()})
    assert (response.status_code, response.json()["error"]["code"], engine.seen) == (403, "forbidden", [])


async def test_health_is_the_engines_own():
    engine = Engine(error={"message": "dead", "code": 503})
    async with gateway_client(engine) as client:
        response = await client.get("/health")
    assert response.status_code == 503


async def test_a_websocket_is_refused():
    engine = Engine()
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message["type"])

    async with gateway_client(engine) as client:
        await client.gateway({"type": "websocket", "path": "/v1/realtime", "headers": []}, receive, send)
    assert sent == ["websocket.close"]


async def test_headers_that_reach_into_the_engine_are_dropped():
    engine = Engine()
    headers = {
        "X-Amzn-SageMaker-Adapter-Identifier": "other",
        "X-Request-Id": "1",
        "X-data-parallel-rank": "1",
        "X-Session-ID": "1",
        "Authorization": "Bearer secret",
        "traceparent": "00-1-1-01",
    }
    async with gateway_client(engine) as client:
        await client.post("/v1/completions", json={"model": "base"}, headers=headers)
    assert set(engine.seen[0][1]) == {
        "host", "accept", "user-agent", "content-type", "content-length", "traceparent",
    }  # fmt: skip
