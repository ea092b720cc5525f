"""An answer that the model gave while it learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from posttrain_trainer.examples import Prompt
from posttrain_trainer.rewards.failure import RewardFailed
from posttrain_trainer.scoring import Scores


@dataclass(frozen=True)
class Sample:
    """One answer to a prompt."""

    prompt: Prompt
    text: str
    """The answer without its end of turn."""
    token_ids: Sequence[int]
    """Its tokens with the end of turn, shape [length]. In a conversation of several turns what the tools said, too."""
    log_probabilities: Sequence[float]
    """Of each token under the distribution that it was drawn from, temperature included, shape [length]."""
    has_ended: bool
    """It ended by itself, and was not cut off."""
    own: Sequence[int] | None = None
    """1 where the model wrote the token itself, 0 where a tool did, shape [length]; None: everywhere 1."""
    version: int = 0
    """Optimizer steps that the weights had done which answered."""
    earned: float | None = None
    """What the tools' own get_reward says of it; None where there is none."""
    lost: RewardFailed | None = None
    """Why there is no answer: the tools that it needed are gone."""


@dataclass(frozen=True)
class Scored:
    """An answer with what the rewards say of it."""

    sample: Sample
    scores: Scores

    @property
    def line(self) -> dict[str, Any]:
        """As a line of rollouts.jsonl."""
        return {
            "version": self.sample.version,
            "row": self.sample.prompt.number,
            "answer": self.sample.text,
            "tokens": len(self.sample.token_ids),
            "hasEnded": self.sample.has_ended,
            "score": self.scores.total,
            "success": self.scores.success,
            "scores": dict(self.scores.each),
            **({"failed": dict(self.scores.failed)} if self.scores.failed else {}),
        }
