"""A step that goes through the model in parts of similar lengths moves the weights as one big batch would."""

import random
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import builders
from tests.unit.trainer.test_methods import job, pairs, tuned

from posttrain_api.conditions import Reason
from posttrain_trainer import batching, micro_batches, model, reward_model, steps, task
from posttrain_trainer.examples import Example
from posttrain_trainer.job import Job
from posttrain_trainer.methods import dpo, reward, sft
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused, Stop

NUMBERS = {"epochs": 2, "effectiveBatchSize": 6, "learningRate": 0.01, "maxLength": 64, "maxTokensPerGpu": 64}
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sft": (sft, {}),
    "dpo": (dpo, {"dpo": {"beta": 1.0}}),
    "dpo-ipo": (dpo, {"dpo": {"loss": ["ipo"]}}),
    "dpo-sft": (dpo, {"dpo": {"loss": ["sigmoid", "sft"], "lossWeights": [1.0, 0.5]}}),
    "reward": (reward, {"reward": {"centerRewardsCoefficient": 0.1}}),
}
EXTREMES = {"min_reward", "max_reward"}
"""Not ours: their means are logged."""


def texts(count: int) -> list[Example]:
    """Texts of 2 to 60 tokens, some of which have few trained ones."""
    draw = random.Random(0)
    lengths = [draw.randint(2, 60) for _ in range(count)]
    return [
        Example(
            number,
            array("l", draw.choices(range(100, 200), k=length)),
            bytearray([0, *(draw.random() < number / count for _ in range(length - 2)), 1]),
        )
        for number, length in enumerate(lengths)
    ]


def trainer(base: Path, folder: Path, name: str, **numbers: Any) -> Any:
    """TRL's trainer of a method for 10 ragged rows: 2 steps an epoch, the second of 4 rows."""
    method, spec = METHODS[name]
    rows: Sequence[Any] = texts(10) if method is sft else pairs(10)
    hyperparameters = {**NUMBERS, **numbers}
    given = job(base, folder, rows, method=name.partition("-")[0], hyperparameters=hyperparameters, **spec)
    return method.trainer(start(given), given, str(folder))


def start(given: Job) -> Any:
    """A tuned model whose adapter does something, so that every weight has a gradient."""
    torch.manual_seed(1)
    if given.recipe.method == "reward":
        bare = model.load(given.config, given.places, given.precision)
        reward_model.use_padding(bare, given.task.chat)
    found = tuned(given)
    for weights in found.parameters():
        if weights.requires_grad:
            torch.nn.init.normal_(weights, std=0.2)
    return found


def gradients(training: Any, batch: Any) -> dict[str, torch.Tensor]:
    training.model.zero_grad()
    training.training_step(training.model, batch)
    return {name: weights.grad for name, weights in training.model.named_parameters() if weights.requires_grad}


@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_of_a_split_step_is_that_of_one_batch(base: Path, tmp_path: Path, name: str) -> None:
    training = trainer(base, tmp_path, name)
    training.create_optimizer_and_scheduler(4)
    training.current_gradient_accumulation_steps = 1
    rows = list(training.train_dataset)
    split = training.get_train_dataloader().collate_fn(rows)
    assert len(split["parts"]) > 2
    expected = gradients(training, {"parts": [training.data_collator(rows)]})
    for weights, gradient in gradients(training, split).items():
        torch.testing.assert_close(gradient, expected[weights], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_split_training_takes_the_same_steps_to_the_same_weights(base: Path, tmp_path: Path, name: str) -> None:
    found: list[Any] = []
    for limits in (None, micro_batches.WHOLE):
        training = trainer(base, tmp_path, name)
        training.limits = limits or training.limits
        tokens: list[int] = []
        training.model.get_input_embeddings().register_forward_hook(
            lambda _module, args, _out, tokens=tokens: tokens.append(args[0].numel())
        )
        training.train()
        logged = [entry for entry in training.state.log_history if "loss" in entry]
        weights = {name: weight for name, weight in training.model.named_parameters() if weight.requires_grad}
        found.append((logged, weights, sum(tokens)))
    (split, moved, computed), (whole, expected, padded) = found
    assert [entry["step"] for entry in split] == [1, 2, 3, 4]
    for ours, theirs in zip(split, whole, strict=True):
        assert ours == pytest.approx(ours | {key: theirs[key] for key in ours.keys() - EXTREMES}, rel=1e-3, abs=1e-5)
    for weight, moved_weight in moved.items():
        torch.testing.assert_close(moved_weight, expected[weight], rtol=1e-3, atol=1e-4)
    assert split[-1]["num_tokens"] <= computed < 0.85 * padded


def test_parts_stay_below_the_limit_and_hold_little_padding() -> None:
    lengths = [3, 50, 4, 3, 52, 10, 3, 51, 40]
    found = list(batching.batches(lengths, lambda length: length, 160, max_padding=12))
    assert found == [[3, 3, 3, 4], [10], [40, 50, 51], [52]]


def test_a_loss_that_sorts_the_step_is_not_split(base: Path, tmp_path: Path) -> None:
    METHODS["dpo-aot"] = (dpo, {"dpo": {"loss": ["aot"]}})
    training = trainer(base, tmp_path, "dpo-aot", maxTokensPerGpu=None)
    assert [len(batch["parts"]) for batch in training.get_train_dataloader()] == [1, 1]


def test_a_pair_that_no_part_can_hold_is_refused_by_its_number(base: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "Say", "chosen": "a" * length, "rejected": "b"} for length in (3, 4, 17, 5)]
    lines = builders.json_lines(tmp_path / "rows.jsonl", rows)
    config = builders.run(base, lines, method="dpo", allowUntunedBase=True, hyperparameters=NUMBERS)
    with pytest.raises(Refused) as refused:
        task.prepare(config, Places(), Stop())
    assert refused.value.reason == Reason.DATASET_INVALID
    assert str(refused.value) == (
        f"file://{lines}: row 3: 80 tokens go through the model at once, both answers padded to the longer, but "
        "maxTokensPerGpu is 64: write at least 80, or shorten the row"
    )


def test_what_goes_through_at_once_is_known_before(base: Path, tmp_path: Path) -> None:
    lines = builders.json_lines(tmp_path / "rows.jsonl", builders.exchanges(4))
    recipe = builders.run(base, lines, hyperparameters=NUMBERS).recipe
    assert (steps.max_tokens(recipe, 60), steps.max_tokens(recipe, 20), steps.max_tokens(recipe, 5)) == (60, 60, 30)


def test_packed_rows_do_not_see_each_other(base: Path, tmp_path: Path) -> None:
    training = trainer(base, tmp_path, "sft")
    training.create_optimizer_and_scheduler(4)
    training.current_gradient_accumulation_steps = 1
    rows = list(training.train_dataset)
    expected = gradients(training, {"parts": [training.data_collator(rows)]})
    numbers = {**NUMBERS, "packing": True, "maxTokensPerGpu": 128}
    given = job(base, tmp_path, texts(10), hyperparameters=numbers)
    packing: Any = sft.trainer(training.model, given, str(tmp_path))
    packing.create_optimizer_and_scheduler(4)
    packing.current_gradient_accumulation_steps = 1
    step = packing.get_train_dataloader().collate_fn(rows)
    assert [part["input_ids"].shape[0] for part in step["parts"]] == [1] * len(step["parts"])
    assert sum(part["input_ids"].numel() for part in step["parts"]) == sum(len(row["input_ids"]) for row in rows)
    assert all(part["input_ids"].numel() <= 128 for part in step["parts"])
    assert any(int(part["max_length_q"]) < part["input_ids"].numel() for part in step["parts"])
    for weights, gradient in gradients(packing, step).items():
        torch.testing.assert_close(gradient, expected[weights], rtol=1e-4, atol=1e-6)


def test_packing_is_refused_where_the_image_has_no_flash_attention(base: Path, tmp_path: Path) -> None:
    lines = builders.json_lines(tmp_path / "rows.jsonl", builders.exchanges(4))
    numbers = {"packing": True, "maxLength": 64, "maxSteps": 1}
    config = builders.run(base, lines, hyperparameters=numbers)
    with pytest.raises(
        Refused, match=r"^hyperparameters\.packing needs flash attention, which this image has not: "
    ) as found:
        task.prepare(config, Places(), Stop())
    assert found.value.reason == Reason.INVALID_SPEC
