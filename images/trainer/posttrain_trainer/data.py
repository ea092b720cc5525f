"""Reads a dataset: JSON Lines in one of four formats become rows, and every row that is wrong is named.

The number of a row is the number of its line in the file, counted from 1.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_trainer.refusal import Refused

Message = dict[str, Any]

ROLES = ("system", "user", "assistant", "tool")
NUM_NAMED = 3
"""So many wrong rows are named in a message; the rest is counted."""
MAX_PROBLEM_CHARACTERS = 300
_FORMATS = 'write "messages", or "prompt" and "completion", or "instruction" and "output", or "text"'


@dataclass(frozen=True)
class Row:
    """One row: a conversation, or plain text."""

    number: int
    messages: list[Message] = field(default_factory=list)
    """Empty where the row is plain text."""
    text: str | None = None


@dataclass(frozen=True)
class Rows:
    """A dataset as read."""

    name: str
    """What to call it in a message."""
    rows: list[Row]
    digest: str
    """sha256 of the file's bytes."""
    warnings: list[str]


class Problems:
    """Collects what is wrong with the rows of one dataset, so that one message names the first and counts the rest."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._first: list[str] = []
        self._count = 0

    def add(self, place: str, problem: str) -> None:
        """Note a problem, such as ("row 3", "...")."""
        self._count += 1
        if self._count <= NUM_NAMED:
            self._first.append(f"{place}: {problem[:MAX_PROBLEM_CHARACTERS]}")

    def refuse(self) -> None:
        """Raise Refused if there is any."""
        if self._count:
            more = self._count - len(self._first)
            listed = self._first + (
                [f"{more} more rows are wrong" if more > 1 else "1 more row is wrong"] if more else []
            )
            raise Refused(Reason.DATASET_INVALID, f"{self.name}: " + "; ".join(listed))


def read(name: str, path: Path) -> Rows:
    """All rows of a JSON Lines file; Refused names every place that is wrong."""
    content = _content(name, path)
    problems = Problems(name)
    rows: list[Row] = []
    num_capital = 0
    for number, line in _lines(content):
        try:
            value = _object(line)
            rows.append(_row(number, value))
            num_capital += "Messages" in value
        except json.JSONDecodeError as error:
            problems.add(f"line {number}", _json_problem(error, line))
        except UnicodeDecodeError as error:
            problems.add(f"line {number}", f"not UTF-8 at byte {error.start + 1}: save the file as UTF-8")
        except ValueError as error:
            problems.add(f"row {number}", str(error))
    problems.refuse()
    if not rows:
        raise Refused(Reason.DATASET_INVALID, f"{name}: the dataset is empty: write one JSON object a line")
    return Rows(name, rows, "sha256:" + hashlib.sha256(content).hexdigest(), _warnings(num_capital))


def _content(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Refused(Reason.DATASET_INVALID, f"{name}: there is no such file") from None
    except IsADirectoryError:
        raise Refused(Reason.DATASET_INVALID, f"{name}: this is a folder: name the JSON Lines file in it") from None
    except OSError as error:
        raise Refused(Reason.DATASET_INVALID, f"{name}: cannot be read: {error.strerror}") from error


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    content = content.removeprefix(b"\xef\xbb\xbf")
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _object(line: bytes) -> dict[str, Any]:
    value = json.loads(line.decode())
    if isinstance(value, list):
        raise ValueError("a JSON array, where an object is needed: write JSON Lines, one object a line")
    if not isinstance(value, dict):
        raise ValueError(f"{_named_type(value)}, where an object is needed: {_FORMATS}")
    return value


def _json_problem(error: json.JSONDecodeError, line: bytes) -> str:
    hint = ": write JSON Lines, one whole object a line" if line.strip() in (b"[", b"{") else ""
    return f"invalid JSON: {error.msg} at character {error.pos + 1}{hint}"


def _warnings(num_capital: int) -> list[str]:
    if not num_capital:
        return []
    return [f'{num_capital} rows have "Messages": it was read as "messages", write it in small letters']


def _row(number: int, value: Mapping[str, Any]) -> Row:
    for column, parse in _PARSERS.items():
        if value.get(column) is not None:
            return parse(number, value)
    columns = ", ".join(f'"{key}"' for key in value) or "no column"
    raise ValueError(f"has {columns}: {_FORMATS}")


def _from_messages(number: int, value: Mapping[str, Any]) -> Row:
    messages = value.get("messages", value.get("Messages"))
    if not isinstance(messages, list) or not messages:
        raise ValueError(f'"messages" is {_named_type(messages)}: write [{{"role": ..., "content": ...}}, ...]')
    return Row(number, [_message(f"message {place}", message) for place, message in enumerate(messages, start=1)])


def _message(place: str, message: Any) -> Message:
    if not isinstance(message, dict):
        raise ValueError(f'{place} is {_named_type(message)}: write {{"role": ..., "content": ...}}')
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ValueError(f"{place} has the role {json.dumps(role)}: write one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise ValueError(f'{place}: "content" is {_named_type(content)}: write text')
    _check_whole(f'{place}: "content"', content)
    return message


def _from_prompt(number: int, value: Mapping[str, Any]) -> Row:
    prompt, completion = _text(value, "prompt"), _text(value, "completion")
    return Row(number, _exchange(prompt, completion))


def _from_alpaca(number: int, value: Mapping[str, Any]) -> Row:
    instruction, output = _text(value, "instruction"), _text(value, "output")
    extra = _text(value, "input") if value.get("input") is not None else ""
    return Row(number, _exchange(f"{instruction}\n\n{extra}" if extra else instruction, output))


def _from_text(number: int, value: Mapping[str, Any]) -> Row:
    return Row(number, text=_text(value, "text"))


def _exchange(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _text(value: Mapping[str, Any], column: str) -> str:
    text = value.get(column)
    if text is None:
        raise ValueError(f'"{column}" is missing: {_FORMATS}')
    if isinstance(text, list):
        raise ValueError(f'"{column}" is a list: write text, or a conversation as "messages"')
    if not isinstance(text, str):
        raise ValueError(f'"{column}" is {_named_type(text)}: write text')
    _check_whole(f'"{column}"', text)
    return text


def _check_whole(place: str, text: str) -> None:
    """JSON can name half of a UTF-16 pair, which no tokenizer takes."""
    half = next((letter for letter in text if "\ud800" <= letter <= "\udfff"), None) if not text.isascii() else None
    if half is not None:
        raise ValueError(f"{place} holds half a character, \\u{ord(half):x}: write UTF-8")


def _named_type(value: Any) -> str:
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    names = {
        type(None): "null",
        bool: "a truth value",
        int: "a number",
        float: "a number",
        str: "text",
        dict: "an object",
    }
    return names[type(value)]


_PARSERS: Mapping[str, Callable[[int, Mapping[str, Any]], Row]] = {
    "messages": _from_messages,
    "Messages": _from_messages,
    "prompt": _from_prompt,
    "completion": _from_prompt,
    "instruction": _from_alpaca,
    "output": _from_alpaca,
    "text": _from_text,
}
"""The column that tells a format -> how a row of it is read, in order of precedence."""
