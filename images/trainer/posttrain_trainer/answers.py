"""What a model answers by itself, and the metrics that are counted on its answers."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from transformers import GenerationConfig

from posttrain_trainer.batching import MAX_TOKENS, batches, ones, padded_left
from posttrain_trainer.template import ChatFormat

_SEQUENCE = 4
"""Tokens of a sequence whose return is a repetition."""


@dataclass(frozen=True)
class Answer:
    """A greedy answer."""

    text: str
    """Without space around it."""
    token_ids: list[int]
    """Without the end of turn."""
    has_ended: bool
    """The model ended it by itself."""


def generated(
    model: Any, chat: ChatFormat, prompts: Sequence[Sequence[int]], *, room: int, between: Callable[[], None]
) -> list[Answer]:
    """The model's greedy answer to each prompt, of at most `room` tokens, in the prompts' order."""
    pad = chat.tokenizer.pad_token_id
    # PEFT hands its own settings on to the base, and under a tuned prompt to a part of it that does not generate.
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    model.generation_config = base.generation_config = GenerationConfig(
        max_new_tokens=room, do_sample=False, pad_token_id=pad, eos_token_id=list(chat.end_of_turn)
    )
    found: dict[int, Answer] = {}
    for batch in batches(list(enumerate(prompts)), lambda item: len(item[1]) + room, MAX_TOKENS):
        rows = [prompt for _, prompt in batch]
        ids = padded_left(rows, pad, model.device)
        attention = padded_left(ones(rows), 0, model.device)
        output = model.generate(input_ids=ids, attention_mask=attention)[:, ids.shape[1] :].tolist()
        found |= {place: _answer(chat, tokens) for (place, _), tokens in zip(batch, output, strict=True)}
        between()
    return [found[place] for place in range(len(prompts))]


def _answer(chat: ChatFormat, token_ids: list[int]) -> Answer:
    end = chat.end_of_answer(token_ids)
    return Answer(chat.answer(token_ids).strip(), token_ids[:end], has_ended=end is not None)


def stop_rate(answers: Sequence[Answer]) -> float:
    """Share of answers that end by themselves."""
    return statistics.fmean(answer.has_ended for answer in answers)


def mean_tokens(answers: Sequence[Answer]) -> float:
    """Mean length of an answer, without its end of turn."""
    return statistics.fmean(len(answer.token_ids) for answer in answers)


def repetition(answers: Sequence[Answer]) -> float:
    """Mean share of an answer's four-token sequences that occurred in it before; 0 for a shorter answer."""
    return statistics.fmean(_repeated(answer.token_ids) for answer in answers)


def _repeated(token_ids: list[int]) -> float:
    sequences = [tuple(token_ids[place : place + _SEQUENCE]) for place in range(len(token_ids) - _SEQUENCE + 1)]
    return 1 - len(set(sequences)) / len(sequences) if sequences else 0.0
