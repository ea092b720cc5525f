"""A user's tools while a batch of answers is written: instances of his class, apart from the trainer."""

import math
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from posttrain_trainer.rewards import apart
from posttrain_trainer.rewards.apart import Apart, CallFailed
from posttrain_trainer.sandbox.limits import Limits


class ToolMistaken(Exception):
    """A call that did not work, in words that the model may read: a wrong name or argument, or what the tool raised."""


class Tools:
    """The methods of a class. After a CallFailed its process is gone with all instances; `begin` starts another.

    with Tools(apart, folder, "tools:Calculator", Limits(seconds=60)) as tools:
        first = tools.begin([{"gold": "4"}, {"gold": "6"}])
        said = tools.call(0, "add", {"a": 2, "b": 2})
    """

    def __init__(self, apart: Apart, folder: Path, entrypoint: str, limits: Limits) -> None:
        """limits: the seconds are those of each call."""
        self._apart, self._folder, self._entrypoint = apart, folder, entrypoint
        self._limits = Limits(limits.seconds, limits.memory_bytes, limits.network, is_session=True)
        self._connection: socket.socket | None = None
        self._described: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def describe(self) -> list[dict[str, Any]]:
        """The tools as a chat template takes them; CallFailed says what is wrong with the class."""
        if not self._described:
            self._begun()
        return self._described

    def begin(self, rows: Sequence[Mapping[str, Any]]) -> list[str | None]:
        """A new instance for each row, which its `reset` is given the columns of that it takes; returns what each says,
        to be read by the model before it answers."""
        self.end()
        self._begun()
        match self._told({"begin": [dict(row) for row in rows]}):
            case {"begun": list(said)} if len(said) == len(rows) and all(_is_text(text) for text in said):
                return said
        raise self._nonsense()

    def call(self, instance: int, name: str, arguments: Any) -> str:
        """What a tool of an instance says. ToolMistaken is for the model to read; CallFailed costs all instances."""
        match self._told({"call": name, "instance": instance, "arguments": arguments}):
            case {"result": str(said)}:
                return said
            case {"mistaken": str(said)}:
                raise ToolMistaken(said)
        raise self._nonsense()

    def rewards(self) -> list[float | None] | None:
        """What `get_reward` of each instance returns; None where the class has none."""
        match self._told({"rewards": True}):
            case {"rewards": None}:
                return None
            case {"rewards": list(scores)} if all(score is None or _is_finite(score) for score in scores):
                return scores
        raise self._nonsense()

    def end(self) -> None:
        """The end of the batch: of its instances and their process."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _begun(self) -> None:
        self._connection = self._apart.connect()
        request = {"kind": "tools", "folder": str(self._folder), "entrypoint": self._entrypoint}
        match self._told({**request, "limits": self._limits.to_json()}):
            case {"described": list(described)}:
                self._described = described
                return
        raise self._nonsense()

    def _told(self, message: Mapping[str, Any]) -> Any:
        assert self._connection is not None, "no batch has begun"
        try:
            found = apart.exchanged(self._connection, message, self._limits.seconds)
        except CallFailed:
            self.end()
            raise
        match found:
            case {"failed": str(sentence)}:
                self.end()
                raise CallFailed(f"{self._entrypoint} {sentence}")
        return found

    def _nonsense(self) -> CallFailed:
        self.end()
        return CallFailed(f"{self._entrypoint} answered nonsense")


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
