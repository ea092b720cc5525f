"""The step calculator agrees with the program that takes the steps."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from posttrain_api.v1alpha1.hyperparameters import ResolvedHyperparameters
from posttrain_api.v1alpha1.training_run import TrainingRunSpec
from posttrain_trainer import steps


def numbers(**chosen: Any) -> ResolvedHyperparameters:
    return ResolvedHyperparameters(**{"learning_rate": 1e-4, "effective_batch_size": 16, **chosen})


def test_one_epoch_of_alpaca_52k_at_batch_16_is_3251_steps() -> None:
    assert steps.total(52_002, numbers(epochs=1)) == 3_251


@pytest.mark.parametrize(
    ("rows", "hyperparameters"),
    [
        pytest.param(52_002, numbers(epochs=1), id="the last batch is smaller"),
        pytest.param(52_002, numbers(epochs=3), id="several epochs"),
        pytest.param(96, numbers(epochs=1), id="the batches come out even"),
        pytest.param(97, numbers(epochs=2.5), id="half an epoch"),
        pytest.param(97, numbers(epochs=0.01), id="less than a step"),
        pytest.param(3, numbers(epochs=2), id="fewer rows than a batch"),
        pytest.param(97, numbers(epochs=1.1, effective_batch_size=1), id="single rows"),
        pytest.param(97, numbers(max_steps=12), id="steps are given"),
    ],
)
@pytest.mark.parametrize("longest", [8, 2048, 100_000], ids=["one micro-batch", "several", "of one row"])
def test_transformers_takes_as_many_steps(rows: int, hyperparameters: ResolvedHyperparameters, longest: int) -> None:
    assert steps.total(rows, hyperparameters) == transformers_steps(rows, hyperparameters, longest)


def transformers_steps(rows: int, hyperparameters: ResolvedHyperparameters, longest: int) -> int:
    from transformers import Trainer

    micro_batch = steps.micro_batch_size(hyperparameters.effective_batch_size, longest)
    batches = torch.utils.data.DataLoader(range(rows), batch_size=micro_batch)
    arguments: Any = SimpleNamespace(
        max_steps=hyperparameters.max_steps or -1,
        num_train_epochs=hyperparameters.epochs,
        gradient_accumulation_steps=hyperparameters.effective_batch_size // micro_batch,
        train_batch_size=micro_batch,
    )
    trainer: Any = SimpleNamespace(
        get_total_train_batch_size=lambda _: micro_batch * arguments.gradient_accumulation_steps,
        get_sp_size=lambda: 1,
        num_examples=lambda _: rows,
    )
    return Trainer.set_initial_training_values(trainer, arguments, batches)[-1]


@pytest.mark.parametrize(
    ("rows", "chosen", "block", "expected"),
    [
        pytest.param(128, {"epochs": 1}, {}, 8, id="every answer is learned from once"),
        pytest.param(120, {"epochs": 1}, {}, 8, id="the last generation is filled up"),
        pytest.param(128, {"epochs": 1}, {"numIterations": 3}, 24, id="several times"),
        pytest.param(128, {"epochs": 1}, {"miniBatches": 4}, 8, id="in several steps"),
        pytest.param(65, {"epochs": 1}, {"miniBatches": 4, "numIterations": 2}, 16, id="a large generation is filled"),
        pytest.param(128, {"epochs": 0.3}, {"miniBatches": 4}, 4, id="less than a generation"),
        pytest.param(128, {"maxSteps": 5}, {"miniBatches": 4}, 5, id="steps are given"),
    ],
)
def test_ppo_takes_its_steps_in_whole_generations(
    rows: int, chosen: dict[str, Any], block: dict[str, Any], expected: int
) -> None:
    spec = {
        "method": "ppo",
        "baseModel": {"uri": "file:///base", "tuned": True},
        "environment": {"dataset": {"uri": "file:///rows.jsonl"}, "rewards": [{"builtin": "exact"}]},
        "hyperparameters": {"effectiveBatchSize": 16, **chosen},
        "ppo": block,
        "output": {"uri": "pvc://out"},
    }
    assert steps.planned(rows, TrainingRunSpec.model_validate(spec).recipe()) == expected


@pytest.mark.parametrize(
    ("method", "block", "every", "expected"),
    [
        pytest.param("sft", {}, 3, [3, 6, 9, 12], id="sft"),
        pytest.param("grpo", {}, 3, [3, 6, 9, 12], id="a generation for each step"),
        pytest.param("grpo", {"stepsPerGeneration": 2}, 3, [4, 6, 10, 12], id="a generation for two"),
        pytest.param("grpo", {"stepsPerGeneration": 2, "numIterations": 2}, 3, [4, 8, 12], id="and twice"),
        pytest.param("rloo", {"numIterations": 4}, 1, [4, 8, 12], id="rloo"),
        pytest.param("ppo", {"miniBatches": 3}, 4, [6, 9, 12], id="ppo"),
    ],
)
def test_between_the_steps_of_one_generation_nothing_is_due(
    method: str, block: dict[str, Any], every: int, expected: list[int]
) -> None:
    spec = {
        "method": method,
        "baseModel": {"uri": "file:///base", "tuned": True},
        "environment": {"dataset": {"uri": "file:///rows.jsonl"}, "rewards": [{"builtin": "exact"}]},
        method: block,
    }
    recipe = TrainingRunSpec.model_validate(spec).recipe()
    assert [step for step in range(1, 13) if steps.is_due(step, every, recipe)] == expected


@pytest.mark.parametrize(
    ("batch", "longest", "micro_batch"),
    [(32, 96, 32), (16, 2048, 8), (12, 4096, 4), (7, 4096, 1), (16, 16_384, 1), (16, 100_000, 1)],
)
def test_a_micro_batch_divides_the_batch_and_stays_in_bounds(batch: int, longest: int, micro_batch: int) -> None:
    assert steps.micro_batch_size(batch, longest) == micro_batch
