"""Whether two expressions are mathematically equal, by math-verify. It may take forever, and is called in a child.

math-verify's own time limits are signals, which only a main thread gets.
"""

import functools
import logging
from typing import Any

import math_verify

logging.getLogger("math_verify").setLevel(logging.ERROR)
_ONLY_LATEX = [math_verify.LatexExtractionConfig(boxed_match_priority=0)]


def is_equal(gold: str, answer: str) -> bool:
    """Whether two contents of boxes are equal."""
    return bool(math_verify.verify(_parsed(gold), _parsed(answer), timeout_seconds=None))


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    return math_verify.parse(rf"\boxed{{{text}}}", _ONLY_LATEX, parsing_timeout=None)
