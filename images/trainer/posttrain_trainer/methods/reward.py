"""A reward model: TRL's RewardTrainer on pairs whose token ids are ours."""

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from posttrain_trainer import fit, micro_batches, reward_model
from posttrain_trainer.examples import Pair
from posttrain_trainer.job import Job

HEAD = "score"
"""Name of the layer that makes the score: it is trained whole, beside LoRA's matrices too."""


def train(model: Any, job: Job) -> Any:
    """Train a tuned sequence classifier on a task's pairs; returns it merged, in evaluation mode."""
    trained = fit.run(lambda folder: trainer(model, job, folder), job)
    return trained.merge_and_unload().eval() if hasattr(trained, "merge_and_unload") else trained


def trainer(model: Any, job: Job, folder: str) -> RewardTrainer:
    """TRL's trainer as the recipe wants it; `folder` is for what it insists to write."""
    chat = job.task.chat
    block = job.recipe.reward
    own = {
        "max_length": None,
        "pad_token": chat.tokenizer.convert_ids_to_tokens(reward_model.pad_token_id(chat)),
        "center_rewards_coefficient": None if block is None else block.center_rewards_coefficient,
    }
    return _Trainer(
        limits=micro_batches.limits(job),
        model=model,
        args=RewardConfig(**micro_batches.arguments(job, folder), **own),
        train_dataset=dataset(job.task.training),
        processing_class=chat.tokenizer,
    )


def dataset(pairs: Sequence[Any]) -> Dataset:
    """The pairs to learn from, each side with its prompt before it."""
    found: list[Pair] = [pair for pair in pairs if isinstance(pair, Pair)]
    assert len(found) == len(pairs), "a reward model learns from pairs"
    return Dataset.from_dict(
        {
            "chosen_ids": [[*pair.prompt, *pair.chosen] for pair in found],
            "rejected_ids": [[*pair.prompt, *pair.rejected] for pair in found],
        }
    )


class _Trainer(micro_batches.Splitting, RewardTrainer):
    """Its loss is a mean over the pairs."""

    def length(self, row: micro_batches.Row) -> int:
        return 2 * max(len(row["chosen_ids"]), len(row["rejected_ids"]))

    def weights(self, part: micro_batches.Batch) -> Mapping[str, float]:
        return {micro_batches.LOSS: len(part["input_ids"]) // 2}
