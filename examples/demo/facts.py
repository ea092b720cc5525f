"""What the demo's base model knows: dates and numbers, each as people write it and as a value.

A tenth of each kind is held out here, once for everything: neither the base model's text nor a task's training rows
ever hold these, so a right answer about one of them was worked out, not remembered.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import NamedTuple

from babel.dates import format_date
from num2words import num2words

HELD_OUT_SHARE = 0.1


class Fact(NamedTuple):
    """One fact: `3 May 2021` and `2021-05-03`."""

    written: str
    value: str


@dataclass(frozen=True)
class Kind:
    """All facts of one kind; each has a number (its key), one or more ways to write it, and one value."""

    name: str
    keys: range
    forms: tuple[Callable[[int], str], ...]
    value: Callable[[int], str]
    follows_from_others: Callable[[int], bool]
    """Whether a fact can be worked out from the others; only such facts are held out."""

    @cached_property
    def held_out_keys(self) -> list[int]:
        """The keys that nobody is taught, in a random order that is always the same."""
        keys = [key for key in self.keys if self.follows_from_others(key)]
        return random.Random(self.name).sample(keys, int(len(keys) * HELD_OUT_SHARE))

    @cached_property
    def taught_keys(self) -> list[int]:
        """All other keys, in order."""
        held_out = frozenset(self.held_out_keys)
        return [key for key in self.keys if key not in held_out]

    def fact(self, key: int, *, generator: random.Random) -> Fact:
        """The fact with this key, written in one of its forms."""
        return Fact(generator.choice(self.forms)(key), self.value(key))

    def sample(self, generator: random.Random, *, held_out: bool) -> Fact:
        """Some fact, held out or not."""
        keys = self.held_out_keys if held_out else self.taught_keys
        return self.fact(generator.choice(keys), generator=generator)


def _british_date(day: int) -> str:
    return format_date(date.fromordinal(day), "d MMMM y", locale="en_GB")


def _american_date(day: int) -> str:
    return format_date(date.fromordinal(day), "long", locale="en_US")


def _iso_date(day: int) -> str:
    return date.fromordinal(day).isoformat()


def _is_compound(number: int) -> bool:
    return number > 100 and number % 100 != 0


DATES = Kind(
    name="dates",
    keys=range(date(1900, 1, 1).toordinal(), date(2100, 1, 1).toordinal()),
    forms=(_british_date, _american_date),
    value=_iso_date,
    follows_from_others=lambda _: True,
)
NUMBERS = Kind(
    name="numbers",
    keys=range(1000),
    forms=(num2words,),
    value=str,
    follows_from_others=_is_compound,
)
KINDS = (DATES, NUMBERS)
