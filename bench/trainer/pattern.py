"""The reward of grpo's two sides. TRL's command line imports it by name, where only the trainer's packages are."""

import re
from typing import Any

PATTERN = r"(?s).*e.*"
"""What is rewarded; some answers of a random base have it, and others not."""


def score(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
    """1 where all of an answer matches, as our builtin regex does."""
    return [float(re.fullmatch(PATTERN, turns[0]["content"]) is not None) for turns in completions]
