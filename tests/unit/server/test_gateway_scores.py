"""The gateway before a reward model: it scores, and does nothing else."""

import pytest
from tests.unit.server.builders import gateway_client
from tests.unit.server.engine_stand_in import VLLM_ROUTES, Engine

from posttrain_server.exchange import RouteTable

CLASSIFY = ("POST", "/classify")
MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(route for route in VLLM_ROUTES if route != CLASSIFY),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
    ],
)
async def test_a_reward_model_has_no_other_doors(method: str, path: str):
    engine = Engine()
    async with gateway_client(engine, runner="pooling") as client:
        response = await client.request(method, path, json={"model": "base"})
    assert (response.status_code, engine.seen) == (404, [])


async def test_a_conversation_is_scored_as_it_is():
    engine = Engine()
    asked = {"model": "base", "messages": MESSAGES, "add_generation_prompt": False}
    async with gateway_client(engine, runner="pooling") as client:
        response = await client.post("/classify", json=asked)
        models = (await client.get("/v1/models")).json()["data"]
    assert (response.status_code, response.json()["model"], engine.asked) == (200, "base", asked)
    assert [card["id"] for card in models] == ["base"]


async def test_nobody_squeezes_scores_or_brings_a_template():
    engine = Engine()
    odd = {"use_activation": True, "chat_template": "{{ x }}", "priority": 1, "stream": True}
    arguments = {"chat_template_kwargs": {"chat_template": "x", "thinking": False}}
    async with gateway_client(engine, runner="pooling") as client:
        await client.post("/classify", json={"model": "base", "messages": MESSAGES, **odd, **arguments})
    assert engine.asked == {"model": "base", "messages": MESSAGES, "chat_template_kwargs": {"thinking": False}}


@pytest.mark.parametrize(
    ("model", "status"), [pytest.param(None, 400, id="no model"), pytest.param("other", 404, id="another model")]
)
async def test_only_the_base_scores(model: str | None, status: int):
    engine = Engine()
    async with gateway_client(engine, runner="pooling") as client:
        await client.put_table(RouteTable())
        response = await client.post("/classify", json={"input": "x", **({"model": model} if model else {})})
    assert (response.status_code, engine.seen) == (status, [])
