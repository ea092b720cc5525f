"""Prompts, answers and groups that do not fit, said before a GPU is taken."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.conditions import Reason
from posttrain_trainer import preflight
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused, Stop

POSITIONS = 512
"""Tokens that the tiny base was made for; it has a token for each letter."""
ROWS = [{"prompt": f"Say {number}", "gold": "7"} for number in range(64)]


def warnings(base: Path, tmp_path: Path, rows: Any = ROWS, **spec: Any) -> list[str]:
    config = builders.rl_run(base, builders.json_lines(tmp_path / "rows.jsonl", rows), **spec)
    return list(preflight.preflight(config, Places(claims=tmp_path), Stop()).warnings)


def with_long(length: int) -> list[dict[str, str]]:
    """Rows of which one has a prompt of so many letters."""
    return [*ROWS[:32], {"prompt": "a" * length, "gold": "7"}, *ROWS[33:]]


@pytest.mark.parametrize("method", ["grpo", "rloo", "ppo"])
def test_what_fits_is_not_spoken_of(base: Path, tmp_path: Path, method: str) -> None:
    found = warnings(base, tmp_path, method=method, hyperparameters={"learningRate": 1e-5, "effectiveBatchSize": 16})
    assert found == []


def test_a_prompt_that_leaves_no_room_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(
        Refused, match=r"row 33: its prompt has 5\d\d tokens and .* made for 512.* at most 511"
    ) as refused:
        warnings(base, tmp_path, with_long(POSITIONS - 5), hyperparameters={"maxLength": 1024})
    assert refused.value.reason is Reason.DATASET_INVALID


def test_answers_that_would_be_cut_are_counted_with_what_fits(base: Path, tmp_path: Path) -> None:
    found = warnings(base, tmp_path, grpo={"maxCompletionTokens": 500}, hyperparameters={"learningRate": 1e-5})
    (said,) = [text for text in found if "answers of" in text]
    assert "answers of 500 tokens to " in said
    assert "longer than the 512 tokens" in said
    fitting = int(said.rpartition(" ")[2])
    again = warnings(base, tmp_path, grpo={"maxCompletionTokens": fitting}, hyperparameters={"learningRate": 1e-5})
    assert not [text for text in again if "answers of" in text]
    again = warnings(base, tmp_path, grpo={"maxCompletionTokens": fitting + 1}, hyperparameters={"learningRate": 1e-5})
    assert [text for text in again if "answers of" in text]


@pytest.mark.parametrize(
    ("method", "block", "batch", "expected"),
    [
        ("grpo", {"groupSize": 4}, 64, None),
        ("grpo", {"groupSize": 4, "stepsPerGeneration": 8}, 64, "asks 128 prompts"),
        ("rloo", {"groupSize": 2}, 256, "asks 128 prompts"),
        ("ppo", {}, 128, "asks 128 prompts"),
        ("ppo", {"miniBatches": 4}, 32, "asks 128 prompts"),
    ],
)
def test_a_generation_of_more_prompts_than_there_are_is_odd(
    base: Path, tmp_path: Path, method: str, block: dict[str, Any], batch: int, expected: str | None
) -> None:
    numbers = {"effectiveBatchSize": batch, "learningRate": 1e-5}
    found = warnings(base, tmp_path, method=method, hyperparameters=numbers, **{method: block})
    assert [expected is not None and expected in text for text in found] == ([] if expected is None else [True])


def test_dropout_that_does_nothing_is_odd(base: Path, tmp_path: Path) -> None:
    numbers = {"learningRate": 1e-5}
    found = warnings(base, tmp_path, tuning={"lora": {"dropout": 0.1}}, hyperparameters=numbers)
    assert found == ["tuning.lora.dropout is off with grpo: what is trained must be what answered: remove it"]
