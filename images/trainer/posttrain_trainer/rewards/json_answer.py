"""JSON in an answer."""

import json
import re
from typing import Any

_BLOCK = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL)


def read(text: str) -> Any:
    """The value of a text that is JSON, or that holds one block of it; ValueError where it is not."""
    blocks = _BLOCK.findall(text)
    try:
        return json.loads(blocks[0] if len(blocks) == 1 else text, parse_constant=_refused, parse_float=_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _number(text: str) -> float | int:
    """1.0 is the number 1 in JSON."""
    number = float(text)
    if abs(number) == float("inf"):
        _refused(text)
    return int(number) if number.is_integer() else number
