"""Measures a model on the held-out rows: the same measurement before and after training."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import GenerationConfig

from posttrain_api.v1alpha1.evaluation import Metric
from posttrain_api.v1alpha1.training_run_status import Metrics
from posttrain_trainer.examples import Example
from posttrain_trainer.task import Question, Task
from posttrain_trainer.template import ChatFormat

_MAX_TOKENS = 16384
"""Padded tokens that go through the model at once."""
_MAX_LOGITS = 2**28
"""Logits that are in memory at once: 1 GiB in float32."""
_SPARE_TOKENS = 4
"""An answer may be so many tokens longer than the longest right one before it counts as wrong."""

T = TypeVar("T")


@dataclass(frozen=True)
class Measurement:
    """Metrics of one model on the held-out rows, and what it answered."""

    metrics: Metrics
    answers: list[str]
    """One for each question of the task."""


def measure(model: Any, task: Task, metrics: Sequence[Metric], *, between: Callable[[], None]) -> Measurement:
    """The metrics of a model on a task's held-out rows. `between` is called after each batch."""
    found: Metrics = {}
    answers: list[str] = []
    with torch.inference_mode():
        if "loss" in metrics or "tokenAccuracy" in metrics:
            found |= token_metrics(model, task.held_out, task.chat.tokenizer.pad_token_id, between=between)
        if "exactMatch" in metrics:
            answers = generated(model, task.chat, task.questions, between=between)
            right = [given == question.answer for given, question in zip(answers, task.questions, strict=True)]
            found["exactMatch"] = sum(right) / len(right)
    return Measurement({name: found[name] for name in metrics}, answers)


def token_metrics(model: Any, examples: Sequence[Example], pad: int, *, between: Callable[[], None]) -> Metrics:
    """loss: nats per trained token; tokenAccuracy: share of trained tokens that are the likeliest."""
    loss, right, count = 0.0, 0, 0
    limit = min(_MAX_TOKENS, _MAX_LOGITS // model.config.get_text_config().vocab_size)
    for batch in batches(examples, lambda example: len(example.token_ids), limit):
        ids, labels, attention = _padded(batch, pad, model.device)
        logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1].float()
        wanted = labels[:, 1:]
        loss += torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="sum").item()
        right += int((logits.argmax(-1) == wanted).sum())
        count += int((wanted != -100).sum())
        between()
    return {"loss": finite(loss / count), "tokenAccuracy": finite(right / count)}


def generated(model: Any, chat: ChatFormat, questions: Sequence[Question], *, between: Callable[[], None]) -> list[str]:
    """The model's greedy answer to each question, in the questions' order."""
    room = max(len(chat.tokenizer(question.answer)["input_ids"]) for question in questions) + _SPARE_TOKENS
    pad = chat.tokenizer.pad_token_id
    model.generation_config = GenerationConfig(
        max_new_tokens=room, do_sample=False, pad_token_id=pad, eos_token_id=list(chat.end_of_turn)
    )
    answers: dict[int, str] = {}
    for batch in batches(list(enumerate(questions)), lambda item: len(item[1].token_ids) + room, _MAX_TOKENS):
        ids, attention = _padded_left([question.token_ids for _, question in batch], pad, model.device)
        output = model.generate(input_ids=ids, attention_mask=attention)[:, ids.shape[1] :].tolist()
        answers |= {place: chat.answer(tokens) for (place, _), tokens in zip(batch, output, strict=True)}
        between()
    return [answers[place] for place in range(len(questions))]


def batches(items: Sequence[T], length: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Items of similar length together, so that a batch padded to its longest stays within `limit` tokens."""
    batch: list[T] = []
    for item in sorted(items, key=length):
        if batch and (len(batch) + 1) * length(item) > limit:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def finite(value: float) -> float | None:
    """The number, or None where JSON has none for it."""
    return value if math.isfinite(value) else None


def _padded(batch: Sequence[Example], pad: int, device: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, labels (-100 where the loss does not count) and attention mask, each of shape [rows, longest]."""
    longest = max(len(example.token_ids) for example in batch)
    ids = torch.full((len(batch), longest), pad)
    labels = torch.full((len(batch), longest), -100)
    attention = torch.zeros((len(batch), longest), dtype=torch.long)
    for row, example in enumerate(batch):
        length = len(example.token_ids)
        ids[row, :length] = torch.tensor(example.token_ids)
        labels[row, :length] = torch.tensor(labels_of(example))
        attention[row, :length] = 1
    return ids.to(device), labels.to(device), attention.to(device)


def _padded_left(batch: Sequence[list[int]], pad: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(tokens) for tokens in batch)
    ids = [[pad] * (longest - len(tokens)) + tokens for tokens in batch]
    attention = [[0] * (longest - len(tokens)) + [1] * len(tokens) for tokens in batch]
    return torch.tensor(ids, device=device), torch.tensor(attention, device=device)


def labels_of(example: Example) -> list[int]:
    """The token ids where the loss counts, -100 elsewhere, shape [length]."""
    pairs = zip(example.token_ids, example.trained, strict=True)
    return [token if is_trained else -100 for token, is_trained in pairs]
