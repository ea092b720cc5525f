"""On-policy distillation: TRL's DistillationTrainer on prompts whose token ids are ours.

The model answers, and the teacher's distribution over each next token is what it learns from.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from trl import DistillationConfig, DistillationTrainer

from posttrain_trainer import answers, fit, named_models
from posttrain_trainer import model as models
from posttrain_trainer.examples import Prompt
from posttrain_trainer.job import Job


def train(model: Any, job: Job) -> Any:
    """Train a tuned model on its own answers to a task's prompts; returns it in evaluation mode."""
    chosen = teacher(job)
    model.generation_config.eos_token_id = list(job.task.chat.end_of_turn)
    return fit.run(lambda folder: trainer(model, chosen, job, folder), job)


def trainer(model: Any, chosen: Any, job: Job, folder: str) -> DistillationTrainer:
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
        teacher_model=chosen,
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
    prompts = [list(row.token_ids) for row in job.task.training if isinstance(row, Prompt)]
    missing = -len(prompts) % job.recipe.hyperparameters.effective_batch_size
    return Dataset.from_dict({"prompt": prompts + [prompts[place % len(prompts)] for place in range(missing)]})


def teacher(job: Job) -> Any:
    """The teacher, in evaluation mode; that it has the base's vocabulary is known since preflight."""
    uri = named_models.teacher_uri(job.config)
    return models.load_base(job.places.path(uri), uri, job.precision)


def divergence(student: Any, chosen: Any, job: Job, *, between: Callable[[], None]) -> float:
    """Nats per token of the student from the teacher, KL(teacher || student), on the held-out prompts' right answers,
    or on the teacher's own where a row has none."""
    total, count = 0.0, 0
    for prompt, answer in _answered(chosen, job, between):
        ids = torch.tensor([[*prompt, *answer]], device=student.device)
        with torch.inference_mode():
            wanted, given = (
                model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
                for model in (chosen, student)
            )
        total += torch.nn.functional.kl_div(given, wanted, log_target=True, reduction="sum").item()
        count += len(answer)
        between()
    return total / count


def _answered(chosen: Any, job: Job, between: Callable[[], None]) -> Sequence[tuple[list[int], list[int]]]:
    chat, room = job.task.chat, job.recipe.evaluation.max_completion_tokens
    rows = [row for row in job.task.held_out_rows if isinstance(row, Prompt)]
    unknown = [row.token_ids for row in rows if row.gold is None]
    with torch.inference_mode():
        given = iter(answers.generated(chosen, chat, unknown, room=room, between=between) if unknown else [])
    end = chat.end_of_turn[:1]
    texts = [next(given).token_ids if row.gold is None else _tokens(chat, row.gold) for row in rows]
    return [(list(row.token_ids), [*text, *end]) for row, text in zip(rows, texts, strict=True)]


def _tokens(chat: Any, text: str) -> list[int]:
    found: list[int] = chat.tokenizer(text, add_special_tokens=False)["input_ids"]
    return found
