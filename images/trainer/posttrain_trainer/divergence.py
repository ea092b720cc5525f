"""divergence: how far a model is from the teacher that it learns from."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from posttrain_trainer import answers
from posttrain_trainer.examples import Prompt
from posttrain_trainer.job import Job


def divergence(student: Any, job: Job, *, between: Callable[[], None]) -> float:
    """Nats per token of the student from the teacher, KL(teacher || student), on the held-out prompts' right answers,
    or on the teacher's own where a row has none."""
    total, count = 0.0, 0
    for prompt, answer in _answered(job, between):
        ids = torch.tensor([[*prompt, *answer]], device=student.device)
        with torch.inference_mode():
            wanted, given = (
                model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
                for model in (job.teacher, student)
            )
        total += torch.nn.functional.kl_div(given, wanted, log_target=True, reduction="sum").item()
        count += len(answer)
        between()
    return total / count


def _answered(job: Job, between: Callable[[], None]) -> Sequence[tuple[list[int], list[int]]]:
    chat, room = job.task.chat, job.recipe.evaluation.max_completion_tokens
    rows = [row for row in job.task.held_out_rows if isinstance(row, Prompt)]
    unknown = [row.token_ids for row in rows if row.right is None]
    with torch.inference_mode():
        given = iter(answers.generated(job.teacher, chat, unknown, room=room, between=between) if unknown else [])
    end = chat.end_of_turn[:1]
    texts = [next(given).token_ids if row.right is None else _tokens(chat, row.right) for row in rows]
    return [(list(row.token_ids), [*text, *end]) for row, text in zip(rows, texts, strict=True)]


def _tokens(chat: Any, text: str) -> list[int]:
    found: list[int] = chat.tokenizer(text, add_special_tokens=False)["input_ids"]
    return found
