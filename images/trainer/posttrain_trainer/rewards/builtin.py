"""Rewards that need nothing but the answer, the right answer and the row."""

from typing import Any

from posttrain_api.v1alpha1.environment import Reward
from posttrain_trainer.rewards import numbers


def score(reward: Reward, answer: str, gold: str | None, columns: dict[str, Any]) -> float | None:
    """What a builtin says of an answer; `columns` are the row's other columns. ValueError names what the row lacks."""
    del columns
    match reward.builtin:
        case "exact":
            assert gold is not None
            return float(answer.strip() == gold.strip())
        case "numeric":
            assert gold is not None
            found = numbers.last(answer)
            return float(found is not None and found == numbers.last(gold))
    raise NotImplementedError(reward.builtin)
