"""What the engine is asked: names, templates, stop tokens, fields, limits."""

import json
from typing import Any

import pytest
from tests.unit.server.builders import DIGEST, gateway_client, route
from tests.unit.server.engine_stand_in import Engine

from posttrain_server.exchange import RouteTable

VERSION = "support@" + "1" * 12
TABLE = RouteTable(adapters={"support": route()}, waiting=["legal"])
MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        pytest.param({}, 400, "missing_model", id="no model: vLLM would answer from the base"),
        pytest.param({"model": None}, 400, "missing_model", id="null"),
        pytest.param({"model": ""}, 400, "missing_model", id="empty"),
        pytest.param({"model": 3}, 400, "invalid_type", id="a number"),
        pytest.param({"model": ["support"]}, 400, "invalid_type", id="a list"),
        pytest.param({"model": "unknown"}, 404, "model_not_found", id="unknown"),
        pytest.param({"model": VERSION}, 404, "model_not_found", id="a version by the engine's name"),
        pytest.param({"model": "Support"}, 404, "model_not_found", id="another case"),
        pytest.param({"model": "support "}, 404, "model_not_found", id="a space more"),
        pytest.param({"model": "legal"}, 503, "model_not_ready", id="wanted, not yet proven"),
    ],
)
async def test_a_name_that_means_nothing_here_is_refused(path: str, model: dict[str, Any], status: int, code: str):
    engine = Engine()
    async with gateway_client(engine, table=TABLE) as client:
        response = await client.post(path, json={**model, "messages": MESSAGES})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"], engine.seen) == (status, code, "model", [])
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers.get("retry-after") == ("1" if status == 503 else None)


@pytest.mark.parametrize(
    ("name", "asked"),
    [pytest.param("base", "base", id="the base"), pytest.param("support", VERSION, id="an adapter's version")],
)
async def test_a_name_is_resolved_and_shown_again(name: str, asked: str):
    engine = Engine()
    async with gateway_client(engine, table=TABLE) as client:
        response = await client.post("/v1/completions", json={"model": name, "prompt": "Hello"})
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    assert engine.asked == {"model": asked, "prompt": "Hello"}
    assert response.json() == {"id": "1", "model": name, "choices": [{"text": "Grüße"}], "usage": usage}


async def test_before_the_first_table_an_adapter_may_still_come():
    async with gateway_client(Engine()) as client:
        response = await client.post("/v1/completions", json={"model": "support"})
    assert response.status_code == 503


TEMPLATED = RouteTable(adapters={"support": route(chat_template="TRAINED", stop_token_ids=[7, 8])})


@pytest.mark.parametrize(
    ("name", "given", "asked"),
    [
        pytest.param(
            "support", {}, {"chat_template": "TRAINED", "stop_token_ids": [7, 8]}, id="what was trained is served"
        ),
        pytest.param(
            "support",
            {"chat_template": "MINE"},
            {"chat_template": "TRAINED", "stop_token_ids": [7, 8]},
            id="a client's own template is dropped",
        ),
        pytest.param("base", {"chat_template": "MINE"}, {}, id="for the base too"),
        pytest.param(
            "support",
            {"stop_token_ids": [9, 8]},
            {"chat_template": "TRAINED", "stop_token_ids": [9, 8, 7]},
            id="stop tokens are merged",
        ),
        pytest.param(
            "base",
            {"chat_template_kwargs": {"enable_thinking": False, "chat_template": "MINE", "tokenize": True}},
            {"chat_template_kwargs": {"enable_thinking": False}},
            id="template arguments keep the template",
        ),
        pytest.param("base", {"chat_template_kwargs": "MINE"}, {}, id="template arguments that are none"),
        pytest.param(
            "base",
            {"temperature": 0, "response_format": {"type": "json_object"}, "user": "me", "cache_salt": "s"},
            {"temperature": 0, "response_format": {"type": "json_object"}, "user": "me", "cache_salt": "s"},
            id="sampling and formats go on",
        ),
        pytest.param(
            "base",
            {
                "kv_transfer_params": {"remote_host": "x"}, "ec_transfer_params": {}, "vllm_xargs": {"a": 1},
                "priority": -1, "request_id": "1", "session_id": "1", "mm_processor_kwargs": {}, "media_io_kwargs": {},
                "prompt_embeds": "x", "lora_request": {"lora_path": "/"}, "store": True, "metadata": {},
            },
            {},
            id="fields that open doors, or that nobody knows, are dropped",
        ),
        pytest.param(
            "base",
            {"stream": True},
            {"stream": True, "stream_options": {"include_usage": True}},
            id="a stream tells its usage to the meter",
        ),
    ],
)  # fmt: skip
async def test_chat_fields_as_the_engine_gets_them(name: str, given: dict[str, Any], asked: dict[str, Any]):
    engine = Engine()
    async with gateway_client(engine, table=TEMPLATED) as client:
        await client.post("/v1/chat/completions", json={"model": name, "messages": MESSAGES, **given})
    expected_model = VERSION if name == "support" else "base"
    assert engine.asked == {"model": expected_model, "messages": MESSAGES, **asked}


async def test_a_plain_completion_gets_no_template():
    engine = Engine()
    async with gateway_client(engine, table=TEMPLATED) as client:
        await client.post("/v1/completions", json={"model": "support", "prompt": "a", "chat_template": "MINE"})
    assert engine.asked == {"model": VERSION, "prompt": "a"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"", 400, id="empty"),
        pytest.param(b"{", 400, id="cut off"),
        pytest.param(b"[]", 400, id="a list"),
        pytest.param(b'"base"', 400, id="a text"),
        pytest.param(b'{"model": "base", "temperature": NaN}', 400, id="not a number"),
        pytest.param(b'{"model": "\xff"}', 400, id="not UTF-8"),
        pytest.param(b'{"model": "base", "x": ' + b"[" * 4000 + b"]" * 4000 + b"}", 400, id="nested without end"),
        pytest.param(b'{"model": "base", "x": "' + b"y" * 10_000 + b'"}', 413, id="too large"),
    ],
)
async def test_a_body_that_is_none_is_refused(body: bytes, status: int):
    engine = Engine()
    async with gateway_client(engine, table=TABLE) as client:
        response = await client.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, engine.seen) == (status, [])
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_of_two_models_the_engine_sees_the_one_that_was_checked():
    engine = Engine()
    body = f'{{"model": "{VERSION}", "model": "base"}}'.encode()
    async with gateway_client(engine, table=TABLE) as client:
        await client.post("/v1/completions", content=body)
    assert engine.asked == {"model": "base"}


async def test_the_list_of_models_shows_names_and_no_paths():
    async with gateway_client(Engine(), table=TABLE) as client:
        cards = (await client.get("/v1/models")).json()
    created = cards["data"][0]["created"]
    card = {"object": "model", "created": created, "owned_by": "posttrain"}
    assert cards == {
        "object": "list",
        "data": [{"id": "base", "parent": None, **card}, {"id": "support", "parent": "base", **card}],
    }
    assert DIGEST not in json.dumps(cards)
