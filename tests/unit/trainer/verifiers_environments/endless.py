"""Sums without end."""

from collections.abc import Iterable
from itertools import count

import verifiers.v1 as vf
from adding import AddingTask, _data


class Endless(vf.Taskset[AddingTask, vf.TasksetConfig]):
    """The sums."""

    INFINITE = True

    def load(self) -> Iterable[AddingTask]:
        """One task for each number."""
        return (AddingTask(_data(number), self.config.task) for number in count())


__all__ = ["Endless"]
