"""The behavioural half of an artifact's proof: log probabilities of fixed conversations, of base and result."""

import contextlib
from collections.abc import Mapping, Sequence
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
    found = [_probe(model, token_ids) for token_ids in conversations(chat)]
    dtype: Dtype = dtype_of(model)
    moved = max(distance(probe) for probe in found)
    if moved <= NOISE[dtype]:
        raise Refused(
            Reason.NO_EFFECT,
            f"the result answers like its base: log probabilities differ by {moved:.1e} at most; "
            "train longer or with a higher learningRate",
        )
    return found


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


def _probe(model: Any, token_ids: Sequence[int]) -> Probe:
    return Probe(
        token_ids=list(token_ids),
        base=_log_probabilities(model, token_ids, model.disable_adapter()),
        result=_log_probabilities(model, token_ids, contextlib.nullcontext()),
    )


def _log_probabilities(
    model: Any, token_ids: Sequence[int], setting: contextlib.AbstractContextManager[Any]
) -> list[float]:
    ids = torch.tensor([list(token_ids)], device=model.device)
    with setting, torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    chosen = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].tolist()
    return [round(value, 4) for value in chosen]
