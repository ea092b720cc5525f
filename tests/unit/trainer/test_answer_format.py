"""How a right answer is written: for what sft learns, for held-out rows, and for what the rewards compare with."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.v1alpha1.environment import Environment
from posttrain_trainer import formats, measurable, task
from posttrain_trainer.examples import Example, Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Stop
from posttrain_trainer.rewards import forms, tool_call
from posttrain_trainer.task import Task

GSM8K, BOXED, EXACT = {"builtin": "gsm8k"}, {"builtin": "boxed"}, {"builtin": "exact"}
SUCCESS = {"role": "success"}
SAID = {"answerFormat": "It is {gold}."}
WORKED = "Half of 36 is 18.\n#### 18"


def environment(*rewards: dict[str, Any], **spec: Any) -> Environment:
    return Environment.model_validate({"dataset": {"uri": "file:///rows.jsonl"}, "rewards": list(rewards), **spec})


@pytest.mark.parametrize(
    ("gold", "completion", "given", "right"),
    [
        pytest.param("18", None, environment(), "18", id="as it is"),
        pytest.param("18", None, environment(**SAID), "It is 18.", id="as answerFormat says"),
        pytest.param("18", "18, I think", environment(GSM8K, **SAID), "18, I think", id="a whole answer stays"),
        pytest.param("18", None, environment(GSM8K, **SAID), "It is 18.", id="answerFormat goes before a builtin"),
        pytest.param("18", None, environment(EXACT), "18", id="a builtin without a form"),
        pytest.param(WORKED, None, environment(GSM8K), "<answer>18</answer>", id="gsm8k"),
        pytest.param("<answer>18</answer>", None, environment(GSM8K), "<answer>18</answer>", id="gsm8k already"),
        pytest.param("1/2", None, environment(BOXED), r"\boxed{1/2}", id="boxed"),
        pytest.param(r"\boxed{1/2}", None, environment(BOXED), r"\boxed{1/2}", id="boxed already"),
        pytest.param("18", None, environment(GSM8K | SUCCESS), "18", id="only what teaches has a say"),
        pytest.param("18", None, None, "18", id="rows of another task"),
        pytest.param(None, None, environment(**SAID), None, id="no gold answer"),
    ],
)
def test_a_right_answer_is_written_as_the_environment_wants_it(
    gold: str | None, completion: str | None, given: Environment | None, right: str | None
) -> None:
    assert forms.right(gold, completion, given) == right


@pytest.mark.parametrize(
    ("given", "declared"),
    [
        (environment(), False),
        (environment(EXACT), False),
        (environment(answerFormat="{gold}"), False),
        (environment(**SAID), True),
        (environment(GSM8K), True),
        (environment(BOXED | SUCCESS), False),
    ],
)
def test_a_form_is_declared_where_an_answer_is_more_than_its_value(given: Environment, declared: bool) -> None:
    assert forms.is_declared(given) is declared


CALL = {"name": "add", "arguments": {"a": 1}}


@pytest.mark.parametrize(
    ("gold", "text"),
    [(18, "18"), (0.5, "0.5"), ("18", "18"), (CALL, '{"name": "add", "arguments": {"a": 1}}')],
    ids=["a number", "a fraction", "text", "a call"],
)
def test_a_gold_answer_may_be_data(gold: Any, text: str) -> None:
    row = formats.prompt(1, {"prompt": "?", "gold": gold}, environment(**SAID))
    assert (row.gold, row.right) == (text, f"It is {text}.")


def test_several_calls_are_a_gold_answer() -> None:
    assert formats.prompt(1, {"prompt": "?", "gold": [CALL, CALL]}).gold == f"[{', '.join(2 * [str(CALL)])}]".replace(
        "'", '"'
    )


CALLED = {"role": "assistant", "content": "I add.", "tool_calls": [{"type": "function", "function": CALL}]}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "1 + 1?"}, CALLED]},
        {"prompt": "1 + 1?", "completion": [CALLED]},
    ],
    ids=["a conversation", "a completion"],
)
def test_calls_of_a_message_are_a_right_answer_as_templates_write_it(row: dict[str, Any]) -> None:
    found = formats.prompt(1, row, environment({"builtin": "tool_call"}))
    assert found.right == 'I add.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    assert tool_call.score(json.dumps(CALL), found.gold or "") == 1


def prepared(base: Path, folder: Path, places: Places, *, method: str, **spec: Any) -> Task:
    rows = [{"prompt": f"Double {n}", "gold": 2 * n, "level": n} for n in range(20)]
    dataset = builders.json_lines(folder / "rows.jsonl", rows)
    given = {
        "dataset": {"uri": f"file://{dataset}"},
        "chatTemplate": {"inline": builders.CHATML},
        "rewards": [EXACT],
        **SAID,
    }
    retained = {"retention": {"dataset": {"uri": f"file://{dataset}"}}} if method == "sft" else {}
    evaluation = {"metrics": ["exactMatch", "loss", "reward"], **retained}
    made = builders.rl_run if method == "grpo" else builders.run
    config = made(base, dataset, method=method, environment=given, evaluation=evaluation, **spec)
    return task.prepare(config, places, Stop())


def learned(found: Task, row: Any) -> str:
    assert isinstance(row, Example)
    tokens = [token for token, counts in zip(row.token_ids, row.trained, strict=True) if counts]
    return str(found.chat.tokenizer.decode(tokens)).removesuffix("<|im_end|>")


def test_sft_learns_and_is_judged_by_the_form_and_scored_by_the_value(
    base: Path, tmp_path: Path, places: Places
) -> None:
    found = prepared(base, tmp_path, places, method="sft")
    for row in (*found.training, *found.held_out):
        assert learned(found, row) == f"It is {2 * (row.number - 1)}."
    [asked] = measurable.prompts(found)
    assert (asked.right, asked.gold) == (f"It is {2 * (asked.number - 1)}.", str(2 * (asked.number - 1)))
    assert asked.columns["level"] == asked.number - 1


def test_what_is_retained_is_of_another_task(base: Path, tmp_path: Path, places: Places) -> None:
    found = prepared(base, tmp_path, places, method="sft")
    assert {learned(found, row) for row in found.retention} == {str(2 * number) for number in range(20)}


def test_reinforcement_learning_is_judged_by_the_same_form(base: Path, tmp_path: Path, places: Places) -> None:
    found = prepared(base, tmp_path, places, method="grpo")
    first = found.training[0]
    assert isinstance(first, Prompt)
    assert (first.gold, first.right) == (str(2 * (first.number - 1)), f"It is {2 * (first.number - 1)}.")
    assert [learned(found, row) for row in found.held_out] == [f"It is {2 * (found.held_out[0].number - 1)}."]
