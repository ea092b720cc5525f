"""A second measurement of an adapter, with nothing but transformers and peft: `python -m examples.demo.measure --help`.

It shares no code with the trainer, so that what the trainer reports of itself can be checked.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from examples.demo.tasks import TASKS, Row
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

TURN_END = "<|im_end|>"
MAX_ANSWER_TOKENS = 20
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
"""ChatML, for a base that has no template of its own; an adapter is asked under the one in its folder."""


def exact_match(*, base: Path, adapter: Path | None, rows: Sequence[Row]) -> float:
    """Share of the rows that the base, under this adapter if there is one, answers to the letter (greedily)."""
    given = answers(base=base, adapter=adapter, questions=[row.question for row in rows])
    return sum(answer == row.answer for answer, row in zip(given, rows, strict=True)) / len(rows)


def answers(*, base: Path, adapter: Path | None, questions: Sequence[str]) -> list[str]:
    """The greedy answer to each question, without what ends its turn."""
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(adapter or base)
    tokenizer.chat_template = tokenizer.chat_template or CHAT_TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    return _generate(model.eval(), tokenizer, questions)


@torch.inference_mode()
def _generate(model: Any, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> list[str]:
    conversations = [[{"role": "user", "content": question}] for question in questions]
    texts = [
        tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        for conversation in conversations
    ]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(TURN_END)]
    produced = model.generate(**inputs, max_new_tokens=MAX_ANSWER_TOKENS, do_sample=False, eos_token_id=ends)
    return tokenizer.batch_decode(produced[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def main() -> int:
    """Print the exact match on a demo task's held-out rows as JSON."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo.measure", description=__doc__)
    parser.add_argument("task", choices=[task.name for task in TASKS])
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--adapter", type=Path, help="folder of an artifact; left out: the base alone")
    options = parser.parse_args()
    task = next(task for task in TASKS if task.name == options.task)
    value = exact_match(base=options.base, adapter=options.adapter, rows=task.held_out_rows())
    print(json.dumps({"task": task.name, "exactMatch": value}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
