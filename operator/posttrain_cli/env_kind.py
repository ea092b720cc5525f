"""Which environments `env init` can write. Imports nothing heavy."""

from enum import StrEnum


class Kind(StrEnum):
    """What is asked."""

    ARITHMETIC = "arithmetic"
    """Sums, with the answer between tags."""
    JSON = "json"
    """What a sentence says, as JSON."""
    CODE = "code"
    """Python functions, which unit tests try."""
