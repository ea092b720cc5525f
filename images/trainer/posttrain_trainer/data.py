"""Reads a dataset: JSON Lines become rows, and every row that is wrong is named.

What a row may hold is told in formats.py. The number of a row is the number of its line in the file, counted from 1.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.environment import Dataset
from posttrain_trainer.refusal import Refused

Message = dict[str, Any]

NUM_NAMED = 3
"""So many wrong rows are named in a message; the rest is counted."""
MAX_PROBLEM_CHARACTERS = 300


@dataclass(frozen=True)
class Row:
    """One row, whatever the method."""

    number: int
    messages: list[Message] = field(default_factory=list)
    """For sft the conversation, for the other methods the prompt; empty where the row is plain text."""
    text: str | None = None
    """The row of plain text."""
    answers: tuple[list[Message], ...] = ()
    """What follows the prompt: the chosen and the rejected answer, or one that is labelled."""
    label: bool | None = None
    """Whether the answer is desirable."""
    gold: str | None = None
    """What the rewards compare an answer with."""
    right: str | None = None
    """The right answer to a prompt that the model answers by itself, as it is to be written."""
    unmask: bool = False
    """Everything but the system message counts."""
    tools: list[dict[str, Any]] | None = None
    """Descriptions of the tools, for the chat template."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The other columns of a prompt."""


@dataclass(frozen=True)
class Rows:
    """A dataset as read."""

    name: str
    """What to call it in a message."""
    rows: list[Row]
    digest: str
    """sha256 of the file's bytes."""
    warnings: list[str]
    problems: "Problems | None" = field(default=None, compare=False)
    """What was wrong with it so far; None where nothing is counted yet."""


class Problems:
    """Collects what is wrong with the rows of one dataset, so that one message names the first and counts the rest."""

    def __init__(self, name: str, *, max_share: float = 0.0) -> None:
        """`max_share` of the rows may be wrong."""
        self.name = name
        self.num_read = 0
        """Rows in the dataset."""
        self.num_too_long = 0
        """Rows longer than maxLength."""
        self.all: list[str] = []
        """Every problem with its place."""
        self._max_share = max_share

    def add(self, place: str, problem: str) -> None:
        """Note a problem, such as ("row 3", "...")."""
        self.all.append(f"{place}: {problem[:MAX_PROBLEM_CHARACTERS]}")

    def fits(self, number: int, num_tokens: int, max_length: int) -> bool:
        """Whether a row is no longer than maxLength; a longer one is noted."""
        if num_tokens <= max_length:
            return True
        self.num_too_long += 1
        self.add(
            f"row {number}",
            f"{num_tokens} tokens, but maxLength is {max_length}: shorten the row or raise hyperparameters.maxLength",
        )
        return False

    def refuse(self) -> None:
        """Raise Refused if there are more than may be."""
        if len(self.all) <= self._max_share * self.num_read:
            return
        share = f"more than maxInvalidShare {self._max_share:g} of {self.num_read} rows are wrong: "
        raise Refused(
            Reason.DATASET_INVALID, f"{self.name}: {share if self._max_share else ''}{self._listed('are wrong')}"
        )

    def warnings(self) -> list[str]:
        """What to say of the rows that are left out."""
        count = len(self.all)
        return [f"{count} of {self.num_read} rows were left out: {self._listed('like that')}"] if count else []

    def _listed(self, what: str) -> str:
        more = len(self.all) - NUM_NAMED
        rest = [f"{more} more rows {what}" if more > 1 else f"1 more row {what.replace('are', 'is')}"]
        return "; ".join(self.all[:NUM_NAMED] + (rest if more > 0 else []))


Parse = Callable[[int, Mapping[str, Any]], Row]
"""Makes a row of its number and its columns; ValueError says what is wrong with it."""


def read(name: str, path: Path, parse: Parse, dataset: Dataset | None = None) -> Rows:
    """The rows of a JSON Lines file that can be used; Refused names every place that is wrong."""
    return parsed(name, _content(name, path), parse, dataset)


def parsed(name: str, content: bytes, parse: Parse, dataset: Dataset | None = None) -> Rows:
    """The same of a file's content."""
    skips = dataset is not None and dataset.invalid_rows == "Skip"
    problems = Problems(name, max_share=dataset.max_invalid_share if dataset is not None and skips else 0.0)
    rows: list[Row] = []
    num_capital = 0
    for number, line in _lines(content, dataset.limit if dataset else None):
        problems.num_read += 1
        try:
            value = _renamed(_object(line), dataset.columns if dataset else {})
            rows.append(parse(number, value))
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
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    return Rows(name, rows, digest, _warnings(num_capital), problems)


def _content(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Refused(Reason.DATASET_INVALID, f"{name}: there is no such file") from None
    except IsADirectoryError:
        raise Refused(Reason.DATASET_INVALID, f"{name}: this is a folder: name the JSON Lines file in it") from None
    except OSError as error:
        raise Refused(Reason.DATASET_INVALID, f"{name}: cannot be read: {error.strerror}") from error


def _lines(content: bytes, limit: int | None) -> Iterator[tuple[int, bytes]]:
    content = content.removeprefix(b"\xef\xbb\xbf")
    numbered = ((number, line) for number, line in enumerate(content.split(b"\n"), start=1) if line.strip())
    return islice(numbered, limit)


def _object(line: bytes) -> dict[str, Any]:
    value = json.loads(line.decode())
    if isinstance(value, list):
        raise ValueError("a JSON array, where an object is needed: write JSON Lines, one object a line")
    if not isinstance(value, dict):
        raise ValueError(f"{named_type(value)}, where an object is needed: write one for each row")
    return value


def _renamed(value: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The columns under the names that the method knows; a renamed column goes before one of that name."""
    if not columns:
        return value
    kept = {name: content for name, content in value.items() if name not in columns}
    return kept | {ours: value[theirs] for theirs, ours in columns.items() if theirs in value}


def _json_problem(error: json.JSONDecodeError, line: bytes) -> str:
    hint = ": write JSON Lines, one whole object a line" if line.strip() in (b"[", b"{") else ""
    return f"invalid JSON: {error.msg} at character {error.pos + 1}{hint}"


def _warnings(num_capital: int) -> list[str]:
    if not num_capital:
        return []
    return [f'{num_capital} rows have "Messages": it was read as "messages", write it in small letters']


def named_type(value: Any) -> str:
    """What to call a JSON value in a message."""
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
