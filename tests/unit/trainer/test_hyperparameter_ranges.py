"""Unusual numbers: named with what is usual, and nothing said of the defaults."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_trainer import hyperparameter_ranges

USUAL = {"hyperparameters": {}, "tuning": {}, "allowUntunedBase": True}

REWARDED = {"dataset": {"uri": "file:///rows.jsonl"}, "rewards": [{"builtin": "exact"}]}


def warnings(**spec: Any) -> list[str]:
    return hyperparameter_ranges.warnings(builders.run(Path("/base"), Path("/rows"), **USUAL | spec).recipe)


@pytest.mark.parametrize("method", ["sft", "dpo", "simpo", "orpo", "kto", "reward"])
@pytest.mark.parametrize("tuning", [{"lora": {}}, {"full": {}}, {"osft": {}}], ids=["lora", "full", "osft"])
def test_the_defaults_are_usual(method: str, tuning: dict[str, Any]) -> None:
    assert warnings(method=method, tuning=tuning) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            {"method": "dpo", "hyperparameters": {"learningRate": 2e-4}},
            "hyperparameters.learningRate 0.0002 is unusual: for dpo with lora it is mostly between 5e-07 and 2.5e-05",
            id="sft's learning rate with dpo",
        ),
        pytest.param(
            {"hyperparameters": {"learningRate": 2e-4}, "tuning": {"full": {}}},
            "hyperparameters.learningRate 0.0002 is unusual: for sft with full it is mostly between 2e-06 and 0.0001",
            id="LoRA's learning rate with every weight",
        ),
        pytest.param(
            {"method": "kto", "kto": {"beta": 5}},
            "kto.beta 5 is unusual: for kto with lora it is mostly between 0.01 and 0.5",
            id="a setting of the method",
        ),
        pytest.param(
            {"method": "grpo", "grpo": {"groupSize": 2}, "environment": REWARDED},
            "grpo.groupSize 2 is unusual: for grpo with lora it is mostly between 4 and 64",
            id="a setting of two words",
        ),
        pytest.param(
            {"tuning": {"lora": {"rank": 8, "alpha": 256}}},
            "tuning.lora.alpha / rank 32 is unusual: for sft with lora it is mostly between 0.5 and 4",
            id="a setting of the tuning",
        ),
    ],
)
def test_an_unusual_number_is_named_with_the_usual_range(spec: dict[str, Any], expected: str) -> None:
    assert warnings(**spec) == [expected]


@pytest.mark.parametrize("method", ["grpo", "rloo", "ppo"])
def test_the_defaults_of_learning_from_rewards_are_usual(method: str) -> None:
    assert warnings(method=method, environment=REWARDED) == []
