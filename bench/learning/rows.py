"""The demo's date task in the form that each method reads."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from examples.demo.tasks import DATES_TASK, NUMBERS_TASK, Row, Task

NUM_HELD_OUT = 60


def sentence(row: Row) -> str:
    """The answer that people like: the value in a sentence."""
    return f"It is {row.answer}."


def answers(task: Task, count: int) -> list[dict[str, Any]]:
    """For sft: what is asked and the bare value."""
    return [{"prompt": row.question, "completion": row.answer} for row in task.train_rows()[:count]]


def mixed(count: int) -> list[dict[str, Any]]:
    """For the start of what learns from preferences: bare values and sentences in turn."""
    return [{"prompt": row["prompt"], "completion": row["completion"]} for row in labelled(count)]


def pairs(count: int) -> list[dict[str, Any]]:
    """For dpo, simpo, orpo and reward: the sentence is better than the bare value."""
    return [_pair(row) for row in DATES_TASK.train_rows()[:count]]


def labelled(count: int) -> list[dict[str, Any]]:
    """For kto: sentences are desirable, bare values are not."""
    rows = DATES_TASK.train_rows()[:count]
    return [
        {"prompt": row.question, "completion": sentence(row) if place % 2 else row.answer, "label": bool(place % 2)}
        for place, row in enumerate(rows)
    ]


def prompts(count: int) -> list[dict[str, Any]]:
    """For distill and bestOf: what is asked, and the right answer to score by."""
    return [{"prompt": row.question, "gold": row.answer} for row in DATES_TASK.train_rows()[:count]]


def held_out(task: Task = DATES_TASK) -> list[Row]:
    """Questions that no method sees, with their answers."""
    return task.held_out_rows()[:NUM_HELD_OUT]


def held_out_pairs() -> list[dict[str, Any]]:
    """The same as pairs."""
    return [_pair(row) for row in held_out()]


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _pair(row: Row) -> dict[str, Any]:
    return {"prompt": row.question, "chosen": sentence(row), "rejected": row.answer}


TASKS = (DATES_TASK, NUMBERS_TASK)
