"""Numbers in a text: only those that are written in ASCII count, so that a look-alike is none."""

import re
from decimal import Decimal

_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?", re.ASCII)


def found(text: str) -> list[Decimal]:
    """The numbers in a text, without their separators of thousands."""
    return [Decimal(number.replace(",", "")) for number in _NUMBER.findall(text)]


def last(text: str) -> Decimal | None:
    """The last number in a text; None where there is none."""
    numbers = found(text)
    return numbers[-1] if numbers else None
