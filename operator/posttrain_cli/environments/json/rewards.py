"""What an answer is worth. It runs apart from the trainer: without network, files and credentials."""

import json
from collections.abc import Sequence
from typing import Any

FORM = 0.1
"""For the form alone: little, or the form is all that is learned."""


def score(prompts: Sequence[Any], completions: Sequence[str], gold: Sequence[str], **columns: Any) -> list[float]:
    """For each answer 1 where it is the right JSON, FORM where it has the right keys, else 0."""
    return [_score(_parsed(answer), json.loads(right)) for answer, right in zip(completions, gold, strict=True)]


def right(prompts: Sequence[Any], completions: Sequence[str], gold: Sequence[str], **columns: Any) -> list[float]:
    """What is only measured: 1 where an answer is the right JSON, else 0."""
    return [float(_parsed(answer) == json.loads(known)) for answer, known in zip(completions, gold, strict=True)]


def _parsed(answer: str) -> Any:
    """The JSON that an answer is, all of it; None where it is none."""
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return None


def _score(answer: Any, known: dict[str, Any]) -> float:
    if answer == known:
        return 1.0
    return FORM if isinstance(answer, dict) and answer.keys() == known.keys() else 0.0
