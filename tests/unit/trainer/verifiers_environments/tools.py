"""Sums with a tool."""

from collections.abc import Iterable

import verifiers.v1 as vf
from adding import AddingTask, _data


class Abacus(vf.Toolset[vf.ToolsetConfig]):
    """The tool."""


class ToolTask(AddingTask):
    """A sum that may be counted out."""

    @classmethod
    def toolsets(cls, config: vf.TaskConfig) -> list[vf.Toolset]:
        """The abacus."""
        del config
        return [Abacus(vf.ToolsetConfig())]


class Counted(vf.Taskset[ToolTask, vf.TasksetConfig]):
    """The sums."""

    def load(self) -> Iterable[ToolTask]:
        """One task."""
        return [ToolTask(_data(1), self.config.task)]


__all__ = ["Counted"]
