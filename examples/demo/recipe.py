"""What the demo's base model reads: plain lines such as `3 May 2021 is 2021-05-03.`, and the recipe that it is made by.

Free of heavy imports, so that a set-up that finds the model complete ends at once.
"""

import dataclasses
import hashlib
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from examples.demo.facts import KINDS, Fact

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the base model."""

    seed: int = 1
    vocabulary: int = 512
    hidden: int = 128
    intermediate: int = 344
    layers: int = 3
    heads: int = 4
    positions: int = 1024
    lines: int = 30_000
    rows: int = 32
    row_tokens: int = 96
    steps: int = 800
    learning_rate: float = 3e-3
    extra_rounds: int = 4
    extra_steps: int = 200
    extra_learning_rate: float = 1e-3
    warmup_steps: int = 50
    checked_facts: int = 500
    required_accuracy: float = 0.99


def line(fact: Fact) -> str:
    """A fact as plain text says it."""
    return f"{fact.written} is {fact.value}.\n"


def lines(recipe: Recipe) -> Iterator[str]:
    """Plain text without end, as much of each kind of fact; none of them is held out."""
    generator = random.Random(recipe.seed)
    while True:
        yield line(generator.choice(KINDS).sample(generator, held_out=False))


def key_of(recipe: Recipe) -> str:
    """A digest that changes with the recipe and with the text that the model is trained on."""
    text = "".join(itertools.islice(lines(recipe), 1000))
    return hashlib.sha256((json.dumps(dataclasses.asdict(recipe)) + text).encode()).hexdigest()[:16]
