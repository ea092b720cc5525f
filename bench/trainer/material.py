"""What both sides train on: a base of a few million random weights, and conversations of one or of many lengths."""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from examples.demo.base import model_folder
from examples.demo.tasks import DATES_TASK, NUMBERS_TASK, Row
from tests.cluster import layout
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

STEPS = 10
BATCH_SIZE = 16
MAX_LENGTH = 2048
NUM_HELD_OUT, NUM_PROMPTS = 16, 64
VOCABULARY = 4608
"""Rows of the embedding, most of which no token of the tokenizer names: 27 % of the weights, as in Qwen2.5-0.5B."""
LONGEST = 24
"""Exchanges of a conversation at most."""
Length = Literal["even", "ragged"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message.content }}<|im_end|>{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Material:
    """Files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.base = folder / "base"
        self._folder = folder
        _write_base(self.base)
        for name in get_args(Length):
            made = _conversations(_exchanges_of(name))
            _write(self.train(name), itertools.islice(made, STEPS * BATCH_SIZE))
            _write(self.held_out(name), itertools.islice(made, NUM_HELD_OUT))
        _write(self.prompts, ({"prompt": _messages(row)[:1]} for row in DATES_TASK.train_rows()[:NUM_PROMPTS]))

    def train(self, name: Length) -> Path:
        """Rows to learn from, in a folder of their own, as TRL reads a dataset."""
        return self._folder / name / "train.jsonl"

    @property
    def prompts(self) -> Path:
        """What is asked, in a folder of its own too."""
        return self._folder / "prompts" / "train.jsonl"

    def held_out(self, name: Length) -> Path:
        """Rows that neither side learns from."""
        return self._folder / f"{name}-held-out.jsonl"


def _exchanges_of(name: Length) -> Iterator[int]:
    """Exchanges in each conversation: 4, or as people chat, most of them short and a few very long."""
    if name == "even":
        return itertools.repeat(4)
    draw = random.Random(0)
    return (min(max(round(draw.lognormvariate(1.0, 0.8)), 1), LONGEST) for _ in itertools.count())


def _conversations(lengths: Iterator[int]) -> Iterator[dict[str, Any]]:
    tasks = zip(DATES_TASK.train_rows(), NUMBERS_TASK.train_rows(), strict=True)
    rows = itertools.cycle(itertools.chain.from_iterable(tasks))
    for length in lengths:
        yield {"messages": [message for row in itertools.islice(rows, length) for message in _messages(row)]}


def _messages(row: Row) -> list[dict[str, str]]:
    return [{"role": "user", "content": row.question}, {"role": "assistant", "content": row.answer}]


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_base(folder: Path) -> None:
    """4.3 million weights: enough that computing takes longer than calling."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder(layout.cache()))
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2 * MAX_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
