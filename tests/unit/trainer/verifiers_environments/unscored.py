"""Questions that nothing scores."""

from collections.abc import Iterable

import verifiers.v1 as vf


class Unscored(vf.Taskset[vf.Task[vf.TaskData], vf.TasksetConfig]):
    """One question."""

    def load(self) -> Iterable[vf.Task]:
        """One task."""
        return [vf.Task(vf.TaskData(prompt="Why?"), self.config.task)]


__all__ = ["Unscored"]
