"""A real vLLM that serves a reward model: its scores are those of plain transformers, raw."""

from pathlib import Path

import httpx
import pytest
import torch
from tests.e2e import random_model
from tests.e2e.test_server_local import running_server
from transformers import AutoTokenizer

pytestmark = pytest.mark.e2e
SEQUENCES = [[100, 17, 14, 21, 101], [100, 5, 6, 7, 8, 9, 101, 100, 24, 20, 101], [40]]
TEMPLATE = "{% for message in messages %}<s>{{ message['content'] }}</s>\n{% endfor %}"
"""Something stands behind the end of the last turn, as in most templates: the score is read there."""
MESSAGES = [{"role": "user", "content": "What is 1+1?"}, {"role": "assistant", "content": "2"}]


async def test_scores_are_those_of_transformers_and_nothing_else_is_served(tmp_path: Path):
    folder = tmp_path / "claims/models/random"
    model = random_model.save_reward_model(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    rendered = AutoTokenizer.from_pretrained(folder).apply_chat_template(MESSAGES)["input_ids"]
    with torch.no_grad():
        *expected, conversation = [model(torch.tensor([row])).logits[0, 0].item() for row in (*SEQUENCES, rendered)]
    async with (
        running_server(tmp_path) as server,
        httpx.AsyncClient(base_url=str(server.client.base_url).removesuffix("/v1/"), timeout=60) as client,
    ):
        asked = {"model": "base", "input": SEQUENCES, "use_activation": True}
        answer = (await client.post("/classify", json=asked)).json()
        told = (await client.post("/classify", json={"model": "base", "messages": MESSAGES})).json()
        chat = await client.post("/v1/chat/completions", json={"model": "base", "messages": []})

    assert [row["probs"] for row in answer["data"]] == [pytest.approx([score], abs=1e-4) for score in expected]
    assert told["data"][0]["probs"] == [pytest.approx(conversation, abs=1e-4)]
    assert max(map(abs, expected)) > 1, "no sigmoid could give these"
    assert (answer["model"], chat.status_code) == ("base", 404)
