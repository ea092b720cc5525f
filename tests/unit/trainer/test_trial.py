"""What an environment is told when it is tried: rows, steps and rewards, one finding each."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused
from posttrain_trainer.trial import rewards, rows

SUMS = [{"prompt": f"{number} + 1 =", "gold": number + 1} for number in range(40)]
CONVERSATION = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
START = {"uri": "file:///base", "tuned": True}


def learning(folder: Path, found: list[dict[str, Any]] = SUMS, **spec: Any) -> RunConfig:
    """A run of grpo on these rows; keywords replace parts of its spec."""
    path = builders.json_lines(folder / "rows.jsonl", found)
    environment = {"dataset": {"uri": f"file://{path}"}, "rewards": [{"builtin": "exact"}]}
    wanted = {"method": "grpo", "baseModel": START, "environment": environment, "hyperparameters": {}, **spec}
    return builders.run(path, path, **wanted)


def test_rows_are_counted_and_the_first_are_shown(tmp_path: Path, places: Places):
    found = rows.rows(learning(tmp_path), places)
    assert (found.verdict, found.message.partition(" of ")[0]) == ("ok", "40")
    assert found.rows[:2] == [["1", "0 + 1 =", "1"], ["2", "1 + 1 =", "2"]]
    assert len(found.rows) == 3


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        pytest.param({"messages": CONVERSATION}, ["Hi", "Hello"], id="a conversation"),
        pytest.param({"text": "It rains."}, ["It rains.", ""], id="plain text"),
        pytest.param({"prompt": "x" * 300, "completion": "y"}, ["x" * 199 + "…", "y"], id="a long prompt"),
    ],
)
def test_a_row_of_sft_is_shown_with_what_is_learned(
    tmp_path: Path, places: Places, row: dict[str, Any], shown: list[str]
):
    config = learning(tmp_path, [row], method="sft")
    config = config.replace(recipe=config.recipe.replace(environment=config.recipe.environment.replace(rewards=[])))
    assert rows.rows(config, places).rows == [["1", *shown]]


def test_held_out_rows_that_are_learned_from_are_told(tmp_path: Path, places: Places):
    judged = builders.json_lines(tmp_path / "held-out.jsonl", [*SUMS[:3], {"prompt": "9 + 9 =", "gold": 18}])
    found = rows.held_out(learning(tmp_path, evaluation={"dataset": {"uri": f"file://{judged}"}}), places)
    assert found is not None
    assert found.verdict == "warning"
    assert found.message.endswith("; 3 of them are among the rows to learn from, and are left out there")


def test_rows_that_are_held_out_by_lot_need_no_finding(tmp_path: Path, places: Places):
    assert rows.held_out(learning(tmp_path), places) is None


@pytest.mark.parametrize(
    ("found", "verdict", "told"),
    [
        (SUMS, "ok", "5 steps; each generation asks 8 prompts, 8 answers each"),
        (SUMS[:5], "warning", "but there are 4 to learn from: lower effectiveBatchSize, or add rows"),
    ],
    ids=["enough prompts", "too few"],
)
def test_a_generation_is_held_against_the_prompts(
    tmp_path: Path, places: Places, found: list[dict[str, Any]], verdict: str, told: str
):
    finding = rows.steps_of(learning(tmp_path, found), places)
    assert finding is not None
    assert (finding.verdict, told in finding.message) == (verdict, True), finding.message


def test_rewards_without_right_answers_are_tried_alone(tmp_path: Path, places: Places):
    environment = {
        "dataset": {"uri": f"file://{tmp_path / 'rows.jsonl'}"},
        "rewards": [{"builtin": "length", "maxCharacters": 9}],
    }
    found = rewards.rewards(learning(tmp_path, [{"prompt": "Be short"}] * 3, environment=environment), places)
    assert (found.verdict, found.message) == (
        "warning",
        "no row has a right answer to compare with: known is that each says the same twice, and is fast",
    )


def test_what_can_be_cheated_is_a_warning_for_sft_alone(tmp_path: Path, places: Places):
    environment = {
        "dataset": {"uri": f"file://{tmp_path / 'rows.jsonl'}"},
        "rewards": [{"builtin": "numeric", "weight": -1}],
    }
    found = rewards.rewards(learning(tmp_path, method="sft", environment=environment), places)
    assert (found.verdict, found.message.startswith("environment.rewards numeric: ")) == ("warning", True)
    with pytest.raises(Refused) as refused:
        rewards.rewards(learning(tmp_path, environment=environment), places)
    assert refused.value.reason is Reason.REWARD_INVALID


def test_a_row_that_a_reward_cannot_judge_is_refused(tmp_path: Path, places: Places):
    with pytest.raises(Refused, match='row 41: reward exact needs the right answer: write "gold"') as refused:
        rewards.rewards(learning(tmp_path, [*SUMS, {"prompt": "1 + 1 ="}]), places)
    assert refused.value.reason is Reason.DATASET_INVALID
