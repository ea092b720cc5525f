"""The step calculator agrees with the program that takes the steps."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from posttrain_api.v1alpha1.hyperparameters import Hyperparameters
from posttrain_trainer import steps


def test_one_epoch_of_alpaca_52k_at_batch_16_is_3251_steps() -> None:
    assert steps.total(52_002, Hyperparameters(epochs=1, effective_batch_size=16)) == 3_251


@pytest.mark.parametrize(
    ("rows", "hyperparameters"),
    [
        pytest.param(52_002, Hyperparameters(epochs=1), id="the last batch is smaller"),
        pytest.param(52_002, Hyperparameters(epochs=3), id="several epochs"),
        pytest.param(96, Hyperparameters(epochs=1), id="the batches come out even"),
        pytest.param(97, Hyperparameters(epochs=2.5), id="half an epoch"),
        pytest.param(97, Hyperparameters(epochs=0.01), id="less than a step"),
        pytest.param(3, Hyperparameters(epochs=2), id="fewer rows than a batch"),
        pytest.param(97, Hyperparameters(epochs=1.1, effective_batch_size=1), id="single rows"),
        pytest.param(97, Hyperparameters(max_steps=12), id="steps are given"),
    ],
)
@pytest.mark.parametrize("longest", [8, 2048, 100_000], ids=["one micro-batch", "several", "of one row"])
def test_transformers_takes_as_many_steps(rows: int, hyperparameters: Hyperparameters, longest: int) -> None:
    assert steps.total(rows, hyperparameters) == transformers_steps(rows, hyperparameters, longest)


def transformers_steps(rows: int, hyperparameters: Hyperparameters, longest: int) -> int:
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
    ("batch", "longest", "micro_batch"),
    [(32, 96, 32), (16, 2048, 8), (12, 4096, 4), (7, 4096, 1), (16, 16_384, 1), (16, 100_000, 1)],
)
def test_a_micro_batch_divides_the_batch_and_stays_in_bounds(batch: int, longest: int, micro_batch: int) -> None:
    assert steps.micro_batch_size(batch, longest) == micro_batch
