"""The reward boxed: whether what stands in the last \\boxed{...} is mathematically equal to the gold answer."""

import functools
import logging
from typing import Any

from posttrain_trainer.rewards.bounded import Bounded

_MAX_CHARACTERS = 1000
"""No right answer is so long; what parses it takes time that grows faster than the length."""
_SECONDS = 3.0


class Boxed:
    """Compares answers, each within a few seconds: one that takes longer is not equal."""

    def __init__(self) -> None:
        self._is_equal = Bounded(is_equal, seconds=_SECONDS)

    def __call__(self, answer: str, gold: str) -> float:
        """1 where the answer's box holds the gold answer, else 0."""
        box = content(answer)
        if box is None or len(box) > _MAX_CHARACTERS:
            return 0.0
        try:
            return float(self._is_equal(content(gold) or gold, box))
        except TimeoutError:
            return 0.0


def content(text: str) -> str | None:
    """What stands in the last box of a text; None where there is no whole box."""
    begin = text.rfind(r"\boxed{")
    if begin < 0:
        return None
    depth = 0
    for place in range(begin + len(r"\boxed"), len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin + len(r"\boxed{") : place]
    return None


def is_equal(gold: str, answer: str) -> bool:
    """Whether two contents of boxes are mathematically equal. It may take forever."""
    import math_verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return bool(math_verify.verify(_parsed(gold), _parsed(answer), timeout_seconds=None))


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    """What math-verify reads in a box. Its own time limits are signals, which only a main thread gets."""
    import math_verify

    only_latex = [math_verify.LatexExtractionConfig(boxed_match_priority=0)]
    return math_verify.parse(rf"\boxed{{{text}}}", only_latex, parsing_timeout=None)
