"""What a method learns from: rows as the model sees them, in token ids."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from posttrain_trainer.data import Message


@dataclass(frozen=True)
class Example:
    """A text in which some tokens are learned: for sft, and what every model is judged by."""

    number: int
    """The row's number in its dataset."""
    token_ids: "array[int]"
    """Shape [length]."""
    trained: bytearray
    """1 where the loss counts the token, else 0, shape [length]. The first token is never predicted, so it is 0."""

    @property
    def num_trained(self) -> int:
        """Tokens that the loss counts."""
        return sum(self.trained)

    @property
    def num_tokens(self) -> int:
        """Length of the longest sequence of the row."""
        return len(self.token_ids)

    @property
    def total_tokens(self) -> int:
        """Tokens of all sequences of the row."""
        return self.num_tokens


@dataclass(frozen=True)
class Pair:
    """A prompt with a better and a worse answer."""

    number: int
    """The row's number in its dataset."""
    prompt: "array[int]"
    """Up to where the assistant answers, shape [prompt length]."""
    chosen: "array[int]"
    """The better answer with its end of turn."""
    rejected: "array[int]"
    """The worse answer with its end of turn."""

    @property
    def num_trained(self) -> int:
        """Tokens of both answers."""
        return len(self.chosen) + len(self.rejected)

    @property
    def num_tokens(self) -> int:
        """Length of the longer sequence."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    @property
    def total_tokens(self) -> int:
        """Tokens of both sequences, each with the prompt."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)


@dataclass(frozen=True)
class Labelled:
    """A prompt with an answer that is desirable or not."""

    number: int
    """The row's number in its dataset."""
    prompt: "array[int]"
    """Up to where the assistant answers."""
    completion: "array[int]"
    """The answer with its end of turn."""
    is_desirable: bool

    @property
    def num_trained(self) -> int:
        """Tokens of the answer."""
        return len(self.completion)

    @property
    def num_tokens(self) -> int:
        """Length of the sequence."""
        return len(self.prompt) + len(self.completion)

    @property
    def total_tokens(self) -> int:
        """Tokens of all sequences of the row."""
        return self.num_tokens


@dataclass(frozen=True)
class Prompt:
    """A prompt that the model answers by itself."""

    number: int
    """The row's number in its dataset."""
    messages: list[Message]
    token_ids: "array[int]"
    """Up to where the assistant answers."""
    gold: str | None
    """What the rewards compare an answer with, where the row has it."""
    columns: dict[str, Any]
    """The row's other columns."""
    whole: str | None = None
    """The right answer as it is to be written, where that is not the gold answer as it is."""

    @property
    def right(self) -> str | None:
        """The right answer as it is to be written, where the row has one."""
        return self.gold if self.whole is None else self.whole

    @property
    def num_trained(self) -> int:
        """The answer is not known yet."""
        return 0

    @property
    def num_tokens(self) -> int:
        """Length of the prompt."""
        return len(self.token_ids)

    @property
    def total_tokens(self) -> int:
        """Tokens of all sequences of the row."""
        return self.num_tokens


def token_ids(row: Example | Pair | Labelled | Prompt) -> "Sequence[array[int]]":
    """Every token of a row, in parts."""
    match row:
        case Pair():
            return row.prompt, row.chosen, row.rejected
        case Labelled():
            return row.prompt, row.completion
        case _:
            return (row.token_ids,)
