"""Rewards that need nothing but the answer, the right answer and the row."""

import re
from decimal import Decimal
from typing import Any

from posttrain_api.v1alpha1.environment import Reward

_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")


def score(reward: Reward, answer: str, gold: str | None, columns: dict[str, Any]) -> float | None:
    """What a builtin says of an answer; `columns` are the row's other columns. ValueError names what the row lacks."""
    del columns
    match reward.builtin:
        case "exact":
            assert gold is not None
            return float(answer.strip() == gold.strip())
        case "numeric":
            assert gold is not None
            found = last_number(answer)
            return float(found is not None and found == last_number(gold))
    raise NotImplementedError(reward.builtin)


def last_number(text: str) -> Decimal | None:
    """The last number in a text, without its separators of thousands; None where there is none."""
    found = _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "")) if found else None
