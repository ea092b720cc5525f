"""Whether an answer is a right one, as far as its scores tell."""

from collections.abc import Sequence
from typing import Literal

from posttrain_trainer.rl import measures, overlong
from posttrain_trainer.rl.samples import Scored
from posttrain_trainer.scoring import Scorer

Outcome = Literal["always", "never"]
"""Of a prompt that teaches nothing: all of its answers are right, or none is."""


class Judge:
    """Tells right ones among the answers that it has seen: by success where that is measured, else by what the right
    answer scores, else, or where others score more than that, by whether one scores more than the least of all."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._has_success = any(not reward.teaches for reward in scorer.rewards.values())
        self._right: dict[int, float | None] = {}
        """A row's number -> what its right answer scores; None where there is none, or nothing is said of it."""
        self._least, self._best = float("inf"), float("-inf")

    def see(self, scored: Sequence[Scored]) -> None:
        """Take note of what these answers score, and of what would be right in their place."""
        values = [value for one in scored if (value := self._value(one)) is not None]
        self._least, self._best = min([self._least, *values]), max([self._best, *values])
        asked = {one.sample.prompt.number: one.sample.prompt for one in scored}
        rights = [
            (prompt, prompt.right) for number, prompt in asked.items() if prompt.right and number not in self._right
        ]
        for (prompt, _), scores in zip(rights, self._scorer.score(rights) if rights else [], strict=True):
            self._right[prompt.number] = scores.success if self._has_success else scores.total

    def state(self) -> list[float]:
        """What `restore` needs, as JSON."""
        return [self._least, self._best]

    def restore(self, state: Sequence[float]) -> None:
        """Go on where another was."""
        self._least, self._best = state

    def is_right(self, one: Scored) -> bool:
        """Whether this is a right answer; one of which nothing is said is not."""
        value = self._value(one)
        if value is None:
            return False
        prompt = one.sample.prompt
        right = None if prompt.right is None else self._right.get(prompt.number)
        if right is None or right < self._best - measures.SPREAD:
            return value > self._least + measures.SPREAD
        return value >= right - measures.SPREAD

    def outcome(self, group: Sequence[Scored]) -> Outcome | None:
        """What became of a prompt that teaches nothing; None where its answers differ."""
        rights = [self.is_right(one) for one in group]
        if self._has_success and all(rights):
            return "always"
        if measures.has_spread(group):
            return None
        return "always" if all(rights) else "never"

    def _value(self, one: Scored) -> float | None:
        return one.scores.success if self._has_success else overlong.unpunished(one)
