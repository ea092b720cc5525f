"""The held-out rows as questions that the model answers by itself, each with the right answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from posttrain_api.v1alpha1.environment import Reward
from posttrain_trainer import data
from posttrain_trainer.data import Message, Row, Rows
from posttrain_trainer.rewards import builtin, tool_call
from posttrain_trainer.template import ChatFormat


@dataclass(frozen=True)
class Question:
    """A held-out conversation up to its last answer, and that answer."""

    number: int
    """The row's number in its dataset."""
    messages: list[Message]
    token_ids: list[int]
    """Up to where the assistant answers."""
    answer: str
    """The right answer."""
    gold: str | None = None
    """What the rewards compare with instead, where the row has it."""
    columns: dict[str, Any] = field(default_factory=dict)
    """The row's other columns, where something is scored."""


def questions(chat: ChatFormat, rows: Rows) -> list[Question]:
    """The question before the last answer of each row; of kto's, of each desirable row. Refused where a row has no
    answer to compare."""
    problems = data.Problems(rows.name)
    found: list[Question] = []
    for row in rows.rows:
        if row.label is False:
            continue
        messages, answer = _parted(row)
        if not messages or answer is None:
            problems.add(
                f"row {row.number}",
                "a metric on answers, such as exactMatch, needs one here: write a conversation, or remove it",
            )
        else:
            found.append(
                Question(row.number, messages, chat.question(messages, row.tools), answer, row.gold, dict(row.columns))
            )
    problems.refuse()
    return found


def check_rewards(rows: Rows, rewards: Sequence[Reward]) -> None:
    """Refused where a row lacks what a reward needs of it."""
    problems = data.Problems(rows.name)
    for row in rows.rows:
        found = (builtin.lacking(reward, row.gold, dict(row.columns)) for reward in rewards)
        problem = next(filter(None, found), None)
        if problem is not None:
            problems.add(f"row {row.number}", problem)
    problems.refuse()


def _parted(row: Row) -> tuple[list[Message], str | None]:
    """A row's prompt, and the right answer if it has one."""
    if row.answers:
        return row.messages, _said(row.answers[0])
    place = max((at for at, message in enumerate(row.messages) if message["role"] == "assistant"), default=None)
    return (row.messages, None) if place is None else (row.messages[:place], _said(row.messages[: place + 1]))


def _said(messages: Sequence[Message]) -> str:
    return tool_call.said(messages[-1])
