"""How an answer is scored without a model: environment.rewards."""

import re
from collections.abc import Sequence
from decimal import Decimal

from posttrain_api.v1alpha1.environment import Reward

_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")


def score(rewards: Sequence[Reward], answer: str, gold: str) -> float:
    """The sum of weight * score of an answer, given the right one."""
    return sum(reward.weight * _builtin(reward, answer, gold) for reward in rewards)


def _builtin(reward: Reward, answer: str, gold: str) -> float:
    match reward.builtin:
        case "exact":
            return float(answer.strip() == gold.strip())
        case "numeric":
            found = last_number(answer)
            return float(found is not None and found == last_number(gold))
    raise AssertionError(f"{reward} is no builtin")


def last_number(text: str) -> Decimal | None:
    """The last number in a text, without its separators of thousands; None where there is none."""
    found = _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "")) if found else None
