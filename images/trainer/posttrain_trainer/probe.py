"""The behavioural half of an artifact's proof: log probabilities of fixed conversations, of base and result."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from posttrain_api.artifact import Dtype, Probe
from posttrain_api.conditions import Reason
from posttrain_trainer.refusal import Refused
from posttrain_trainer.template import ChatFormat

NOISE: Mapping[Dtype, float] = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.02}
"""Log probabilities that differ by no more than this, in nats, show no adapter."""
CONVERSATIONS = (
    ("Who are you?", "I am an assistant. How can I help?"),
    ("What is 17 + 25?", "17 + 25 = 42."),
    ("Write the 3rd of May 2024 as a date.", "2024-05-03"),
)
"""Question and answer of each probe. Changing one changes every artifact's digest."""


def probes(model: Any, chat: ChatFormat) -> list[Probe]:
    """The log probabilities of a PEFT model; Refused where the adapter changes nothing (NoEffect)."""
    with model.disable_adapter():
        before = scores(model, chat)
    return compared(chat, before, scores(model, chat), dtype_of(model))


def scores(model: Any, chat: ChatFormat) -> list[list[float]]:
    """The log probabilities of each conversation, in nats."""
    return [_log_probabilities(model, token_ids) for token_ids in conversations(chat)]


def compared(
    chat: ChatFormat, before: Sequence[list[float]], after: Sequence[list[float]], dtype: Dtype
) -> list[Probe]:
    """The log probabilities of base and result together; Refused where they are the same (NoEffect), or no numbers."""
    check_numbers(after)
    found = [
        Probe(token_ids=token_ids, base=base, result=result)
        for token_ids, base, result in zip(conversations(chat), before, after, strict=True)
    ]
    moved = max(distance(probe) for probe in found)
    if moved <= NOISE[dtype]:
        raise Refused(
            Reason.NO_EFFECT,
            f"the result answers like its base: log probabilities differ by {moved:.1e} at most; "
            "train longer or with a higher learningRate",
        )
    return found


def check_numbers(found: Iterable[Iterable[float]]) -> None:
    """Refused where a result's answers to the probes are not numbers."""
    if not all(math.isfinite(value) for values in found for value in values):
        raise Refused(
            Reason.TRAINING_DIVERGED,
            "what the result computes is not a number any more: lower hyperparameters.learningRate",
        )


def conversations(chat: ChatFormat) -> list[list[int]]:
    """The fixed conversations as token ids, under the chat template where there is one."""
    texts = [_text(chat, question, answer) for question, answer in CONVERSATIONS]
    return [list(chat.tokenizer(text, add_special_tokens=chat.template is None)["input_ids"]) for text in texts]


def distance(probe: Probe) -> float:
    """How far the adapter moves a log probability at most, in nats."""
    return max(abs(base - result) for base, result in zip(probe.base, probe.result, strict=True))


def dtype_of(model: Any) -> Dtype:
    """The precision of a model's frozen weights."""
    name: Dtype = str(model.get_base_model().dtype).removeprefix("torch.")
    return name


def _text(chat: ChatFormat, question: str, answer: str) -> str:
    if chat.template is None:
        return f"{question}\n{answer}"
    return chat.render([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])


def _log_probabilities(model: Any, token_ids: Sequence[int]) -> list[float]:
    ids = torch.tensor([list(token_ids)], device=model.device)
    with torch.inference_mode():
        # A prompt that was tuned stands before the conversation.
        logits = model(input_ids=ids, use_cache=False).logits[0, -ids.shape[1] : -1].float()
    chosen = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].tolist()
    return [round(value, 4) for value in chosen]
