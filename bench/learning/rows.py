"""The demo's tasks in the form that each method reads."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.demo.tasks import DATES_TASK, NUMBERS_TASK, Row, Task

NUM_HELD_OUT = 60
LIKED_ONE_IN = 5
"""Of so many rows of the mixed start, one has the answer that people like: it is the unlikely one."""


def disliked(row: Row) -> str:
    """The answer that people do not like: with a full stop, as the base has always read it."""
    return f"{row.answer}."


def held_out(task: Task = DATES_TASK) -> list[Row]:
    """Questions that no method sees, with their right answers, which people like."""
    return task.held_out_rows()[:NUM_HELD_OUT]


def held_out_disliked() -> list[Row]:
    """The same questions with the answers that people do not like."""
    return [row._replace(answer=disliked(row)) for row in held_out()]


def pairs_of(rows: Iterable[Row]) -> list[dict[str, str]]:
    """The bare value is better than the one with a full stop."""
    return [{"prompt": row.question, "chosen": row.answer, "rejected": disliked(row)} for row in rows]


def rankings_of(rows: Sequence[Row], others: Sequence[Row]) -> list[dict[str, str]]:
    """Dates and numbers in turn: a value of the wanted kind is better than one of the other kind.

    Which one that is only the question tells: to prefer one kind of answer is right in half of the pairs.
    """
    return [
        {"prompt": row.question, "chosen": row.answer, "rejected": other.answer}
        for two in zip(rows, others, strict=True)
        for row, other in (two, two[::-1])
    ]


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def learned(kind: str, count: int) -> list[dict[str, Any]]:
    """So many rows of a kind to learn from."""
    return KINDS[kind](count)


def asked(count: int) -> list[Row]:
    """The dates to learn from."""
    return DATES_TASK.train_rows()[:count]


def _mixed(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": row.question, "completion": disliked(row) if place % LIKED_ONE_IN else row.answer}
        for place, row in enumerate(asked(count))
    ]


def _labelled(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": row.question, "completion": disliked(row) if place % 2 else row.answer, "label": not place % 2}
        for place, row in enumerate(asked(count))
    ]


KINDS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "dates": lambda count: [DATES_TASK.as_json(row) for row in asked(count)],
    "numbers": lambda count: [NUMBERS_TASK.as_json(row) for row in NUMBERS_TASK.train_rows()[:count]],
    "mixed": _mixed,
    "pairs": lambda count: pairs_of(asked(count)),
    "rankings": lambda count: rankings_of(asked(count // 2), NUMBERS_TASK.train_rows()[: count // 2]),
    "labelled": _labelled,
    "prompts": lambda count: [{"prompt": row.question, "gold": row.answer} for row in asked(count)],
}
"""What a case learns from: messages for dates, prompt and completion for numbers and mixed, and so on."""
