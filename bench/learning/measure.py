"""Measurements with nothing but transformers and peft: no line of the trainer takes part."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from examples.demo import measure
from examples.demo.tasks import Row
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from bench.learning import rows as data

ADAPTER_CONFIG = "adapter_config.json"


def exact_match(base: Path, result: Path | None, rows: Sequence[Row]) -> float:
    """Share of rows that are answered to the letter."""
    if result is None or is_adapter(result):
        return measure.exact_match(base=base, adapter=result, rows=rows)
    return measure.exact_match(base=result, adapter=None, rows=rows)


@torch.inference_mode()
def preference_accuracy(base: Path, result: Path | None) -> float:
    """Share of held-out pairs whose chosen answer is likelier per token."""
    model, tokenizer = load(base, result)
    right = 0
    for pair in data.held_out_pairs():
        chosen, rejected = (
            _mean_log_probability(model, tokenizer, pair["prompt"], pair[k]) for k in ("chosen", "rejected")
        )
        right += chosen > rejected
    return right / len(data.held_out_pairs())


@torch.inference_mode()
def ranking_accuracy(reward_model: Path) -> float:
    """Share of held-out pairs whose chosen answer scores higher."""
    model = AutoModelForSequenceClassification.from_pretrained(reward_model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(reward_model)

    def score(prompt: str, answer: str) -> float:
        text = tokenizer.apply_chat_template(_conversation(prompt, answer), tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        return float(model(**ids).logits[0, 0])

    pairs = data.held_out_pairs()
    right = [score(pair["prompt"], pair["chosen"]) > score(pair["prompt"], pair["rejected"]) for pair in pairs]
    return sum(right) / len(right)


@torch.inference_mode()
def divergence(base: Path, result: Path | None, teacher: Path) -> float:
    """Mean KL from the teacher to the model on the held-out answers, in nats per token."""
    model, tokenizer = load(base, result)
    guide, _ = load(teacher, None)
    total, count = 0.0, 0
    for row in data.held_out():
        ids, start = _ids(tokenizer, row.question, row.answer)
        ours, theirs = (found(input_ids=ids).logits[0, start - 1 : -1].log_softmax(-1) for found in (model, guide))
        total += float((theirs.exp() * (theirs - ours)).sum())
        count += ours.shape[0]
    return total / count


def load(base: Path, result: Path | None) -> tuple[Any, Any]:
    """A result, or the base alone, and its tokenizer with a chat template."""
    whole = result if result is not None and not is_adapter(result) else base
    model: Any = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)
    if result is not None and is_adapter(result):
        model = PeftModel.from_pretrained(model, str(result))
    tokenizer = AutoTokenizer.from_pretrained(result or base)
    tokenizer.chat_template = tokenizer.chat_template or measure.CHAT_TEMPLATE
    return model.eval(), tokenizer


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no whole model."""
    return (folder / ADAPTER_CONFIG).exists()


def merged(base: Path, adapter: Path, into: Path) -> Path:
    """The base with an adapter merged in by PEFT, as a folder to start from."""
    model, tokenizer = load(base, adapter)
    model.merge_and_unload().save_pretrained(into)
    tokenizer.save_pretrained(into)
    return into


def _conversation(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def _ids(tokenizer: Any, prompt: str, answer: str) -> tuple[torch.Tensor, int]:
    """Token ids of a question with its answer, shape [1, length], and where the answer begins."""
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    start = len(tokenizer(asked, add_special_tokens=False)["input_ids"])
    ids = tokenizer(asked + answer + measure.TURN_END, add_special_tokens=False, return_tensors="pt")["input_ids"]
    return ids, start


def _mean_log_probability(model: Any, tokenizer: Any, prompt: str, answer: str) -> float:
    ids, start = _ids(tokenizer, prompt, answer)
    logits = model(input_ids=ids).logits[0, start - 1 : -1].log_softmax(-1)
    return float(logits.gather(1, ids[0, start:, None]).mean())
