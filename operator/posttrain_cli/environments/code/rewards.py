"""What an answer is worth beside its tests. It runs apart from the trainer: without network, files and credentials."""

import ast
import re
from collections.abc import Sequence
from typing import Any

_BLOCK = re.compile(r"\s*```python\n(.*)```\s*", re.DOTALL)


def score(prompts: Sequence[Any], completions: Sequence[str], function: Sequence[str], **columns: Any) -> list[float]:
    """For each answer 1 where it is one block of Python that defines the row's function and nothing else, else 0."""
    return [float(_defines(answer, name)) for answer, name in zip(completions, function, strict=True)]


def _defines(answer: str, name: str) -> bool:
    block = _BLOCK.fullmatch(answer)
    if block is None:
        return False
    try:
        statements = ast.parse(block[1]).body
    except (SyntaxError, ValueError, RecursionError):
        return False
    return [getattr(statement, "name", None) for statement in statements] == [name]
