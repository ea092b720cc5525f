"""When a reward gives no score: how often that is borne, and what it is called."""

from collections import Counter
from collections.abc import Sequence

from posttrain_api.conditions import Reason
from posttrain_trainer.refusal import Refused

PATIENCE = 3
"""Failed calls of a reward in a row that end a training."""


class RewardFailed(Refused):
    """A reward could not say what an answer is worth; the message names it and says what to change."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.REWARD_FAILED, message)


class Patience:
    """Counts the failed calls of rewards, and bears some."""

    def __init__(self, calls: int) -> None:
        self._calls = calls
        self._in_a_row: Counter[str] = Counter()
        self.failures = 0
        """Calls that failed until now."""

    def borne(self, name: str, found: Sequence[float | RewardFailed | None]) -> list[float | None]:
        """What a reward said of a batch, None where it failed. RewardFailed where it did so for all of the batch, and
        as often in a row as ends the run."""
        failed = {id(score): score for score in found if isinstance(score, RewardFailed)}
        self.failures += len(failed)
        if not failed or not all(isinstance(score, RewardFailed) for score in found):
            self._in_a_row[name] = 0
            return [None if isinstance(score, RewardFailed) else score for score in found]
        self._in_a_row[name] += 1
        if self._in_a_row[name] >= self._calls:
            times = f", {self._calls} times in a row" if self._calls > 1 else ""
            raise RewardFailed(f"environment.rewards {name}: {next(iter(failed.values()))}{times}")
        return [None] * len(found)
