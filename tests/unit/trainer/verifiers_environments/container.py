"""Sums in a container."""

from collections.abc import Iterable

import verifiers.v1 as vf
from adding import AddingTask, _data


class BoxedTask(AddingTask):
    """A sum that needs a machine."""

    NEEDS_CONTAINER = True


class Boxed(vf.Taskset[BoxedTask, vf.TasksetConfig]):
    """The sums."""

    def load(self) -> Iterable[BoxedTask]:
        """One task."""
        return [BoxedTask(_data(1), self.config.task)]


__all__ = ["Boxed"]
