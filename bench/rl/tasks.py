"""Two tasks whose rows are sums: our own questions, and those of the package reasoning-gym.

A sum is trained or held out in the wording of both: no training, of the start or by a method, sees a held-out one.
"""

import functools
import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import reasoning_gym

from bench.learning import rows

FORM = "= {gold}"
"""How an answer has to be written."""
LARGEST, LARGEST_OF_PACKAGE = 19, 10
NUM_HELD_OUT = 40
PACKAGE_TASK = "basic_arithmetic"
PACKAGE_OPTIONS = {
    "seed": 1,
    "min_terms": 2,
    "max_terms": 2,
    "min_digits": 1,
    "max_digits": 1,
    "operators": ["+"],
    "allow_parentheses": False,
    "allow_negation": False,
}
NUM_PACKAGE_ROWS = 120
OTHER_SEED, NUM_OTHER_ROWS = 100_000, 3000


class Question(NamedTuple):
    """A sum as it is asked."""

    text: str
    gold: str
    expression: str
    """Such as 7 + 10."""


@dataclass(frozen=True, eq=False)
class Task:
    """What is asked, and what a right answer is."""

    name: str
    training: Callable[[], list[Question]]
    held_out: Callable[[], list[Question]]
    environment: Callable[[Path], Mapping[str, Any]]
    """spec.environment; rows that it needs are written into the folder."""
    is_right: Callable[[Question, str], bool]
    """Whether an answer has the wanted form and the right value."""


@functools.cache
def _own_held_out() -> list[Question]:
    """Sums that the package never asks."""
    large = [one for one in _own() if max(map(int, one.expression.split()[::2])) > LARGEST_OF_PACKAGE]
    return random.Random(0).sample(large, NUM_HELD_OUT)


def _own_training() -> list[Question]:
    unseen = {question.expression for question in (*_own_held_out(), *_package_held_out())}
    return [one for one in _own() if one.expression not in unseen]


def _own() -> list[Question]:
    numbers = range(LARGEST + 1)
    return [
        Question(f"What is {one} + {other}?", str(one + other), f"{one} + {other}")
        for one, other in itertools.product(numbers, numbers)
    ]


def _own_environment(scratch: Path) -> Mapping[str, Any]:
    asked = [{"prompt": one.text, "gold": FORM.format(gold=one.gold)} for one in _own_training()]
    written = rows.write(scratch / "arithmetic.jsonl", asked)
    rewards = [{"builtin": "exact"}, {"builtin": "numeric", "role": "success"}]
    return {"dataset": {"uri": f"file://{written}"}, "rewards": rewards}


def _is_to_the_letter(question: Question, answer: str) -> bool:
    return answer == FORM.format(gold=question.gold)


@functools.cache
def _package_training() -> list[Question]:
    """The rows of dataset.package, each once."""
    return list(dict.fromkeys(_package_rows(NUM_PACKAGE_ROWS, PACKAGE_OPTIONS)))


@functools.cache
def _package_held_out() -> list[Question]:
    """Rows that another seed makes, and not the first one."""
    seen = set(_package_training())
    made = dict.fromkeys(_package_rows(NUM_OTHER_ROWS, PACKAGE_OPTIONS | {"seed": OTHER_SEED}))
    return [question for question in made if question not in seen][:NUM_HELD_OUT]


def _package_rows(count: int, options: Mapping[str, Any]) -> list[Question]:
    made = reasoning_gym.create_dataset(PACKAGE_TASK, size=count, **options)
    return [Question(row["question"], row["answer"], row["metadata"]["expression"]) for row in made]


def _package_environment(_scratch: Path) -> Mapping[str, Any]:
    dataset = {"package": f"reasoning-gym:{PACKAGE_TASK}", "packageOptions": PACKAGE_OPTIONS, "limit": NUM_PACKAGE_ROWS}
    return {"dataset": dataset, "answerFormat": FORM}


def _is_right_to_package(question: Question, answer: str) -> bool:
    before, _, value = answer.partition(FORM.format(gold=""))
    judge = reasoning_gym.create_dataset(PACKAGE_TASK, size=1, **PACKAGE_OPTIONS)
    return not before and bool(judge.score_answer(value, {"answer": question.gold}) == 1)


ARITHMETIC = Task("arithmetic", _own_training, _own_held_out, _own_environment, _is_to_the_letter)
PACKAGE = Task(
    f"reasoning-gym:{PACKAGE_TASK}",
    _package_training,
    _package_held_out,
    _package_environment,
    _is_right_to_package,
)
