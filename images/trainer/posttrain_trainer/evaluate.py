"""Measures a model on the held-out rows: the same measurement before and after training."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from posttrain_api.v1alpha1.evaluation import GENERATED, RETAINED, RETENTION
from posttrain_api.v1alpha1.training_run_status import Metrics
from posttrain_trainer import answers, divergence, harness, measurable, preference, reward_model
from posttrain_trainer.answers import Answer
from posttrain_trainer.batching import batches, max_tokens, ones, padded
from posttrain_trainer.examples import Example, Labelled, Pair, Prompt
from posttrain_trainer.job import Job
from posttrain_trainer.rl import conversations
from posttrain_trainer.template import ChatFormat

__all__ = ["Measurement", "batches", "finite", "labels_of", "measure", "sampled", "token_metrics"]

_SPARE_TOKENS = 4
"""An answer may be so many tokens longer than the longest right one before it counts as wrong."""


@dataclass(frozen=True)
class Measurement:
    """Metrics of one model on the held-out rows, and what it answered."""

    metrics: Metrics
    answers: list[str] = field(default_factory=list)
    """One for each row that the model answered, in the order of measurable.prompts."""
    samples: list[str] = field(default_factory=list)
    """One for each of evaluation.samplePrompts."""


def measure(model: Any, job: Job, metrics: Sequence[str], *, between: Callable[[], None]) -> Measurement:
    """Metrics of a model on a task's held-out rows and on its retention rows. `between` is called after each batch."""
    found: Metrics = {}
    answered: list[Answer] = []
    with torch.inference_mode():
        if not GENERATED.isdisjoint(metrics):
            rows = measurable.prompts(job.task)
            answered = _answered(model, job, rows, metrics, between)
            found |= _scored(job, rows, answered, metrics)
        if not {"loss", "tokenAccuracy"}.isdisjoint(metrics):
            found |= token_metrics(model, job.task.held_out, job.task.chat.tokenizer.pad_token_id, between=between)
        if "preferenceAccuracy" in metrics:
            found["preferenceAccuracy"] = _preference(model, job, between)
        if "divergence" in metrics:
            found["divergence"] = finite(divergence.divergence(model, job, between=between))
        if job.recipe.evaluation.lm_eval is not None:
            found |= harness.measure(model, job.task.chat.tokenizer, job.recipe.evaluation.lm_eval, metrics, job.places)
        kept = {name: found[name] for name in metrics if name in found}
        kept |= _retained(model, job, metrics, between)
    return Measurement(kept, [answer.text for answer in answered])


def sampled(model: Any, job: Job, *, between: Callable[[], None]) -> list[str]:
    """What the model answers to evaluation.samplePrompts."""
    chat, evaluation = job.task.chat, job.recipe.evaluation
    prompts = [_sample_prompt(chat, text) for text in evaluation.sample_prompts]
    with torch.inference_mode():
        found = answers.generated(model, chat, prompts, room=evaluation.max_completion_tokens, between=between)
    return [answer.text for answer in found]


def _sample_prompt(chat: ChatFormat, text: str) -> list[int]:
    if chat.template is not None:
        return chat.question([{"role": "user", "content": text}])
    ids: list[int] = chat.tokenizer(text)["input_ids"]
    return ids


def _answered(
    model: Any, job: Job, rows: Sequence[Prompt], metrics: Sequence[str], between: Callable[[], None]
) -> list[Answer]:
    """One pass for all metrics that need answers; exactMatch alone is content with less room."""
    chat, longest = job.task.chat, job.recipe.evaluation.max_completion_tokens
    room = _tight_room(chat, rows) if "exactMatch" in metrics else 0
    if set(metrics) & GENERATED != {"exactMatch"}:
        room = max(room, longest)
    if job.recipe.environment.tools is not None:
        return conversations.greedy(model, job, rows, room=max(room, longest), between=between)
    return answers.generated(model, chat, [row.token_ids for row in rows], room=room, between=between)


def _tight_room(chat: ChatFormat, rows: Sequence[Prompt]) -> int:
    return max(len(chat.tokenizer(row.right or "")["input_ids"]) for row in rows) + _SPARE_TOKENS


def _scored(job: Job, rows: Sequence[Prompt], answered: Sequence[Answer], metrics: Sequence[str]) -> Metrics:
    found: Metrics = {
        "stopRate": answers.stop_rate(answered),
        "repetition": answers.repetition(answered),
        "meanTokens": answers.mean_tokens(answered),
    }
    if "exactMatch" in metrics:
        found["exactMatch"] = _exact_match(rows, answered)
    if not {"reward", "success"}.isdisjoint(metrics):
        scores = job.scorer.score([(row, answer.text) for row, answer in zip(rows, answered, strict=True)])
        found["reward"] = _mean(score.total for score in scores)
        found["success"] = _mean(score.success for score in scores)
    return found


def _mean(scores: Iterable[float | None]) -> float | None:
    """Of those that there are; None where there is none."""
    known = [score for score in scores if score is not None]
    return finite(statistics.fmean(known)) if known else None


def _exact_match(rows: Sequence[Prompt], answered: Sequence[Answer]) -> float:
    return statistics.fmean(given.text == row.right for row, given in zip(rows, answered, strict=True))


def _preference(model: Any, job: Job, between: Callable[[], None]) -> float | None:
    rows: Any = [row for row in job.task.held_out_rows if isinstance(row, (Pair, Labelled))]
    if job.recipe.method == "reward":
        return finite(preference.accuracy(rows, lambda texts: _rewards(model, texts, between)))
    pad = job.task.chat.tokenizer.pad_token_id
    return finite(preference.accuracy(rows, lambda texts: preference.likelihoods(model, texts, pad, between=between)))


def _rewards(model: Any, texts: Sequence[preference.Answered], between: Callable[[], None]) -> list[float]:
    return reward_model.scores(model, [[*prompt, *answer] for prompt, answer in texts], between=between)


def _retained(model: Any, job: Job, metrics: Sequence[str], between: Callable[[], None]) -> Metrics:
    """The metrics of RETAINED that are measured, or the loss, on the retention rows."""
    task = job.task
    if not task.retention:
        return {}
    wanted = [name for name in metrics if name in RETAINED] or ["loss"]
    found: Metrics = {}
    if wanted != ["exactMatch"]:
        found |= token_metrics(model, task.retention, task.chat.tokenizer.pad_token_id, between=between)
    if "exactMatch" in wanted:
        rows = measurable.asked(task.retention_questions)
        found["exactMatch"] = _exact_match(rows, _answered(model, job, rows, ["exactMatch"], between))
    return {f"{RETENTION}{name}": found[name] for name in wanted}


def token_metrics(model: Any, examples: Sequence[Example], pad: int, *, between: Callable[[], None]) -> Metrics:
    """loss: nats per trained token; tokenAccuracy: share of trained tokens that are the likeliest."""
    loss, right, count = 0.0, 0, 0
    for batch in batches(examples, lambda example: len(example.token_ids), max_tokens(model)):
        texts = [list(example.token_ids) for example in batch]
        ids, attention = padded(texts, pad, model.device), padded(ones(texts), 0, model.device)
        # A tuned prompt's vectors stand before the row's own tokens.
        logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, -ids.shape[1] : -1].float()
        wanted = padded([labels_of(example) for example in batch], -100, model.device)[:, 1:]
        loss += torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="sum").item()
        right += int((logits.argmax(-1) == wanted).sum())
        count += int((wanted != -100).sum())
        between()
    return {"loss": finite(loss / count), "tokenAccuracy": finite(right / count)}


def finite(value: float) -> float | None:
    """The number, or None where JSON has none for it."""
    return value if math.isfinite(value) else None


def labels_of(example: Example) -> list[int]:
    """The token ids where the loss counts, -100 elsewhere, shape [length]."""
    pairs = zip(example.token_ids, example.trained, strict=True)
    return [token if is_trained else -100 for token, is_trained in pairs]
