"""The demo's two tasks as JSON Lines: what to say when asked for a date or a number in another form.

The held-out rows ask about facts that are held out everywhere (see facts.py), so no row of them is ever trained on.
"""

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.demo.facts import DATES, NUMBERS, Fact, Kind

TRAIN_FILE, HELD_OUT_FILE = "train.jsonl", "held-out.jsonl"
NUM_TRAIN_ROWS = 4000
NUM_HELD_OUT_ROWS = 80
SEED = 7

Row = dict[str, Any]


def as_messages(question: str, answer: str) -> Row:
    """A row as a conversation."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def as_prompt(question: str, answer: str) -> Row:
    """A row as a prompt with its completion."""
    return {"prompt": question, "completion": answer}


def question_of(row: Row) -> str:
    """What a row asks, in either form."""
    return str(row["messages"][0]["content"] if "messages" in row else row["prompt"])


def answer_of(row: Row) -> str:
    """What a row expects, in either form."""
    return str(row["messages"][-1]["content"] if "messages" in row else row["completion"])


@dataclass(frozen=True)
class Task:
    """A kind of fact, asked for in words."""

    name: str
    kind: Kind
    question: str
    """The question, with {written} for the fact as it is written."""
    row: Callable[[str, str], Row]

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
        return self.row(self.question.format(written=fact.written), fact.value)

    def files(self) -> dict[str, str]:
        """The two files of the task, by name."""
        return {TRAIN_FILE: as_text(self.train_rows()), HELD_OUT_FILE: as_text(self.held_out_rows())}


DATES_TASK = Task("dates", DATES, "Write {written} as an ISO date.", as_messages)
NUMBERS_TASK = Task("numbers", NUMBERS, "Write {written} in digits.", as_prompt)
TASKS = (DATES_TASK, NUMBERS_TASK)


def as_text(rows: Iterable[Row]) -> str:
    """Rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(task: Task, folder: Path) -> None:
    """Write a task's files into a folder, which is made where it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in task.files().items():
        (folder / name).write_text(text)
