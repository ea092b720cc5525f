"""What an answer is worth. It runs apart from the trainer: without network, files and credentials."""

import re
from collections.abc import Sequence
from typing import Any

FORM = 0.1
"""For the form alone: little, or the form is all that is learned."""
_TOLD = re.compile(r"<answer>\s*(-?[0-9]+)\s*</answer>")


def score(prompts: Sequence[Any], completions: Sequence[str], gold: Sequence[str], **columns: Any) -> list[float]:
    """For each answer 1 where the one number between the tags is right, FORM where it is wrong, else 0."""
    return [_score(answer, right) for answer, right in zip(completions, gold, strict=True)]


def _score(answer: str, right: str) -> float:
    told = _TOLD.findall(answer)
    if len(told) != 1 or answer.count("<answer>") != 1:
        return 0.0
    return 1.0 if int(told[0]) == int(right) else FORM
