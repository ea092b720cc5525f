"""On-policy distillation: TRL's DistillationTrainer on prompts whose token ids are ours.

The model answers, and the teacher's distribution over each next token is what it learns from.
"""

from typing import Any

from datasets import Dataset
from trl import DistillationConfig, DistillationTrainer

from posttrain_trainer import fit
from posttrain_trainer.job import Job


def train(model: Any, job: Job) -> Any:
    """Train a tuned model on its own answers to a task's prompts; returns it in evaluation mode."""
    model.generation_config.eos_token_id = list(job.task.chat.end_of_turn)
    return fit.run(lambda folder: trainer(model, job, folder), job)


def trainer(model: Any, job: Job, folder: str) -> DistillationTrainer:
    """TRL's trainer as the recipe wants it; `folder` is for what it insists to write."""
    block = job.recipe.distill
    assert block is not None
    own = {
        "max_completion_length": block.max_completion_tokens,
        "temperature": block.temperature,
        "beta": block.beta,
    }
    return _Trainer(
        model=model,
        teacher_model=job.teacher,
        args=DistillationConfig(**fit.arguments(job, folder), **own),
        train_dataset=dataset(job),
        processing_class=job.task.chat.tokenizer,
    )


class _Trainer(DistillationTrainer):
    """TRL's trainer, whose prompts are token ids already."""

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return prompts, None, {}


def dataset(job: Job) -> Dataset:
    """The prompts, some of them twice: TRL leaves out a last batch that is not full, and our steps count it."""
    prompts = [list(row.token_ids) for row in job.task.prompts]
    missing = -len(prompts) % job.recipe.hyperparameters.effective_batch_size
    return Dataset.from_dict({"prompt": prompts + [prompts[place % len(prompts)] for place in range(missing)]})
