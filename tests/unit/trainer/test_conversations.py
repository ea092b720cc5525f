"""Answers of several turns: what tools say is read and not learned from, and calling them is learned."""

import json
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import builders

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig
from posttrain_trainer import model, task, training
from posttrain_trainer import tokenizer as tokenizers
from posttrain_trainer.examples import Prompt
from posttrain_trainer.job import Job
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.rewards import tools
from posttrain_trainer.rl import conversations
from posttrain_trainer.rl.conversations import Ask
from posttrain_trainer.template import ChatFormat

TEMPLATE = (
    "{% if tools %}<|im_start|>system\nCall by <tool_call>{% for tool in tools %}{{ tool.function.name }} {% endfor %}"
    "<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
COUNTER = '''
import os

class Counter:
    def __init__(self):
        self.calls = 0

    def reset(self, gold=None, **row):
        return f" (at most {gold})"

    def add(self, a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: One of them.
            b: The other.
        """
        self.calls += 1
        return a + b

    def leave(self) -> str:
        """Leave for ever."""
        os._exit(7)

    def get_reward(self) -> float:
        return float(self.calls > 0)
'''
ADD = '<tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}</tool_call>'
END = "<|im_end|>"


def run(tmp_path: Path, base: Path, **changes: Any) -> RunConfig:
    """A run of grpo whose environment has the counter."""
    folder = tmp_path / "config-maps" / "counter"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tools.py").write_text(COUNTER)
    rows = builders.json_lines(tmp_path / "rows.jsonl", [{"prompt": f"{n}", "gold": "9"} for n in range(8)])
    environment = {
        "dataset": {"uri": f"file://{rows}"},
        "chatTemplate": {"inline": changes.pop("template", TEMPLATE)},
        "rewards": [{"builtin": "length", "maxCharacters": 4, "weight": 0.01}],
        "tools": {"configMap": {"name": "counter"}, "entrypoint": "tools:Counter", "maxTurns": 2},
        "allowNoSignal": True,
    }
    given = {
        "method": "grpo",
        "allowUntunedBase": True,
        "environment": environment,
        "hyperparameters": {"maxSteps": 8, "effectiveBatchSize": 32, "learningRate": 0.005, "maxLength": 256},
        "grpo": {"groupSize": 8, "maxCompletionTokens": 160, "overlongBufferTokens": 0},
    }
    return builders.run(base, rows, **(given | changes))


@pytest.fixture
def job(tmp_path: Path, base: Path) -> Job:
    config = run(tmp_path, base)
    places = Places(claims=tmp_path / "claims", config_maps=tmp_path / "config-maps")
    prepared = task.prepare(config, places, Stop())
    return Job(config, places, prepared, model.precision("auto"), Progress("double"), Stop())


def says(chat: ChatFormat, *turns: str) -> Ask:
    """A model that writes these turns, one after the other, whatever it is asked."""
    left = list(turns)

    def ask(prompts: Sequence[Sequence[int]], room: int) -> list[tuple[list[int], list[float]]]:
        ids = chat.tokenizer(left.pop(0), add_special_tokens=False)["input_ids"][:room]
        return [(ids, [-1.0] * len(ids)) for _ in prompts]

    return ask


ASKED = Prompt(1, [{"role": "user", "content": "2 + 3?"}], array("i"), "9", {})


def test_what_a_tool_says_stands_between_the_turns_and_is_not_the_models_own(job: Job) -> None:
    chat = job.task.chat
    first, second = f"{ADD}{END}", f"5{END}"
    [found] = conversations.answered(says(chat, first, second), job, [ASKED], room=200)

    heard = "\n<|im_start|>tool\n5<|im_end|>\n<|im_start|>assistant\n"
    assert chat.tokenizer.decode(found.token_ids) == f"{first}{heard}{second}"
    parts = list(zip(found.token_ids, found.own or (), found.log_probabilities, strict=True))
    assert chat.tokenizer.decode([token for token, own, _ in parts if own]) == first + second
    assert {score for _, own, score in parts if not own} == {0.0}
    assert (found.text, found.has_ended, found.earned) == ("5", True, 1.0)
    question = chat.tokenizer.decode(found.prompt.token_ids)
    assert "add leave" in question
    assert "2 + 3? (at most 9)<|im_end|>" in question


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("<tool_call>add 2 3</tool_call>", "error: Expecting value"),
        ('<tool_call>{"name": "multiply", "arguments": {}}</tool_call>', "error: there is no tool multiply, but add"),
        ('<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>', "error: "),
        ("<tool_call>[]</tool_call>", "error: write a call as"),
        (f"{ADD}{ADD}", "5\n5"),
    ],
    ids=["no JSON", "an unknown tool", "an argument is missing", "no call", "two calls"],
)
def test_the_model_reads_what_became_of_its_call(job: Job, call: str, said: str) -> None:
    [found] = conversations.answered(says(job.task.chat, f"{call}{END}", f"5{END}"), job, [ASKED], room=400)
    assert f"<|im_start|>tool\n{said}" in job.task.chat.tokenizer.decode(found.token_ids)


def test_after_the_last_turn_a_call_is_an_answer(job: Job) -> None:
    calls = [f"{ADD}{END}"] * 3
    [found] = conversations.answered(says(job.task.chat, *calls), job, [ASKED], room=400)
    assert job.task.chat.tokenizer.decode(found.token_ids).count("<|im_start|>tool") == 2
    assert (found.text, found.has_ended) == (ADD, True)


def test_an_answer_has_no_more_tokens_than_may_be_with_all_that_tools_say(job: Job) -> None:
    first = f"{ADD}{END}"
    own = len(job.task.chat.tokenizer(first, add_special_tokens=False)["input_ids"])
    [cut] = conversations.answered(says(job.task.chat, first), job, [ASKED], room=own - 1)
    assert (len(cut.token_ids), cut.has_ended) == (own - 1, False)
    [full] = conversations.answered(says(job.task.chat, first), job, [ASKED], room=own + 3)
    assert (len(full.token_ids), full.text) == (own, ADD), "no room for what the tool says"


def test_tools_that_go_away_cost_their_answers_and_at_last_the_run(job: Job) -> None:
    from posttrain_trainer.rl import generations

    leave = '<tool_call>{"name": "leave", "arguments": {}}</tool_call><|im_end|>'
    for _ in range(2):
        lost = conversations.answered(says(job.task.chat, leave), job, [ASKED] * 2, room=200)
        assert [one.scores.total for one in generations.scored(job, lost)] == [None, None]
    lost = conversations.answered(says(job.task.chat, leave), job, [ASKED] * 2, room=200)
    with pytest.raises(Refused, match=r"environment.rewards tools: tools:Counter .*exit code 7.* 3 times in a row"):
        generations.scored(job, lost)


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        (builders.CHATML, "does not tell the model of add, leave: give one"),
        (TEMPLATE.replace("Call by <tool_call>", ""), "does not tell the model of how to call"),
        (
            TEMPLATE.replace(
                "{{ message.content }}", "{% if message.role != 'tool' %}{{ message.content }}{% endif %}"
            ),
            "leaves out messages with the role tool",
        ),
    ],
    ids=["no tools", "no form of calls", "no results"],
)
def test_a_template_that_cannot_tell_of_tools_is_refused(job: Job, template: str, sentence: str) -> None:
    named = job.recipe.environment.tools
    assert named is not None
    with pytest.raises(Refused, match=sentence) as refused:
        tools.check(named, job.places, ChatFormat(job.task.chat.tokenizer, template))
    assert refused.value.reason is Reason.CHAT_TEMPLATE_INVALID


def test_to_call_a_tool_is_learned(tmp_path: Path) -> None:
    base = builders.base(tmp_path / "base")
    _teach(base, lambda number: ADD if number % 3 == 0 else "no")
    progress = Progress("double")
    places = Places(claims=tmp_path / "claims", config_maps=tmp_path / "config-maps")
    training.train(run(tmp_path, base), places, progress, Stop())
    called = [step["reward.tools"] for step in progress.history]
    assert sum(called[-2:]) / 2 > sum(called[:2]) / 2 + 0.25
    assert max(step["samplingMismatch"] for step in progress.history) < 1e-3


def _teach(base: Path, answer: Callable[[int], str]) -> None:
    """Let a base learn to answer the rows of `run` so, each of some kinds as often as the function says."""
    from transformers import AutoModelForCausalLM

    tokenizer = tokenizers.load(base, str(base))
    chat = ChatFormat(tokenizer, TEMPLATE)
    described = [{"function": {"name": name}} for name in ("add", "leave")]
    texts = [
        chat.render([{"role": "user", "content": f"{n % 8} (at most 9)"}], add_generation_prompt=True, tools=described)
        + f"{answer(n // 8)}{END}"
        for n in range(24)
    ]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    found = AutoModelForCausalLM.from_pretrained(base)
    optimizer = torch.optim.AdamW(found.parameters(), lr=1e-2)
    for _ in range(120):
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        found(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    found.save_pretrained(base)
    assert json.loads((base / "config.json").read_text())["model_type"] == "qwen2"
