"""The demo's two tasks as JSON Lines: what to say when asked for a date or a number in another form.

The held-out rows ask about facts that are held out everywhere (see facts.py), so no row of them is ever trained on.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from examples.demo.facts import DATES, NUMBERS, Fact, Kind

TRAIN_FILE, HELD_OUT_FILE = "train.jsonl", "held-out.jsonl"
NUM_TRAIN_ROWS = 3000
NUM_HELD_OUT_ROWS = 80
SEED = 7


class Row(NamedTuple):
    """A question and its one right answer."""

    question: str
    answer: str


def as_messages(row: Row) -> dict[str, Any]:
    """A row as a conversation."""
    turns = {"user": row.question, "assistant": row.answer}
    return {"messages": [{"role": role, "content": content} for role, content in turns.items()]}


def as_prompt(row: Row) -> dict[str, Any]:
    """A row as a prompt with its completion."""
    return {"prompt": row.question, "completion": row.answer}


@dataclass(frozen=True)
class Task:
    """A kind of fact, asked for in words."""

    name: str
    kind: Kind
    question: str
    """The question, with {written} for the fact as it is written."""
    as_json: Callable[[Row], dict[str, Any]]
    """How a row stands in the task's files."""

    def train_rows(self) -> list[Row]:
        """The rows to learn from."""
        generator = random.Random(f"{SEED} {self.name}")
        return [self._row(self.kind.sample(generator, held_out=False)) for _ in range(NUM_TRAIN_ROWS)]

    def held_out_rows(self) -> list[Row]:
        """The rows to judge by, each another fact."""
        return self._held_out(0, NUM_HELD_OUT_ROWS)

    def fresh_rows(self, count: int) -> list[Row]:
        """Further held-out rows, in neither of the two files."""
        return self._held_out(NUM_HELD_OUT_ROWS, NUM_HELD_OUT_ROWS + count)

    def _held_out(self, start: int, stop: int) -> list[Row]:
        generator = random.Random(f"{SEED} {self.name} held out")
        facts = [self.kind.fact(key, generator=generator) for key in self.kind.held_out_keys[:stop]]
        return [self._row(fact) for fact in facts[start:]]

    def _row(self, fact: Fact) -> Row:
        return Row(self.question.format(written=fact.written), fact.value)

    def files(self) -> dict[str, str]:
        """The two files of the task, by name."""
        return {TRAIN_FILE: self._text(self.train_rows()), HELD_OUT_FILE: self._text(self.held_out_rows())}

    def _text(self, rows: list[Row]) -> str:
        return "".join(json.dumps(self.as_json(row)) + "\n" for row in rows)


DATES_TASK = Task("dates", DATES, "Write as an ISO date: {written}.", as_messages)
NUMBERS_TASK = Task("numbers", NUMBERS, "Write in digits: {written}.", as_prompt)
TASKS = (DATES_TASK, NUMBERS_TASK)


def write(task: Task, folder: Path) -> None:
    """Write a task's files into a folder, which is made where it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in task.files().items():
        (folder / name).write_text(text)
