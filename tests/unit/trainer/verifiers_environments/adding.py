"""An environment of the package verifiers: sums of one, with two rewards."""

from collections.abc import Iterable

import verifiers.v1 as vf


class AddingData(vf.TaskData):
    """A sum with its right answer."""

    answer: str


class AddingTask(vf.Task[AddingData]):
    """Scored by the number, and by shortness."""

    @vf.reward(weight=1.0)
    async def right(self, trace: vf.Trace) -> float:
        """1 where the answer is the number."""
        return float(trace.last_reply == self.data.answer)

    @vf.reward(weight=0.5)
    async def short(self, task: AddingData, trace: vf.Trace) -> float:
        """A half where the answer is short."""
        assert task.prompt
        return 0.5 * (len(trace.last_reply) < 9)


class AddingConfig(vf.TasksetConfig):
    """How many sums."""

    count: int = 4


class Adding(vf.Taskset[AddingTask, AddingConfig]):
    """The sums."""

    def load(self) -> Iterable[AddingTask]:
        """One task for each number."""
        return [AddingTask(_data(number), self.config.task) for number in range(self.config.count)]


def _data(number: int) -> AddingData:
    return AddingData(prompt=f"{number} + 1 =", system_prompt="Add.", answer=str(number + 1))


__all__ = ["Adding"]
