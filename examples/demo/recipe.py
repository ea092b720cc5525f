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
    shares: tuple[float, ...] = (0.65, 0.35)
    """Of the text, for each of KINDS: dates are harder to learn."""
    rows: int = 32
    row_tokens: int = 96
    steps: int = 1400
    learning_rate: float = 3e-3
    extra_rounds: int = 4
    extra_steps: int = 200
    extra_learning_rate: float = 1e-3
    warmup_steps: int = 50
    checked_facts: int = 500
    required_accuracy: float = 0.99


FRAMES = (
    "{written} is {value}.",
    "{written} ({value}).",
    "{written}:\n{value}.",
    "{written} can be written as {value}.",
    "The user says {written} and the assistant writes {value}.",
    "Written in digits, or as an ISO date: {written}. That is {value}.",
    "Write it in the short form, says the user: {written}.\nThe assistant writes it:\n{value}.",
)
"""How plain text says a fact; at different distances, so that the model learns what to look for and not where."""


def line(fact: Fact, *, frame: str) -> str:
    """A line of plain text that says a fact."""
    return frame.format(written=fact.written, value=fact.value) + "\n"


def lines(recipe: Recipe) -> Iterator[str]:
    """Plain text without end, facts of each kind; none of them is held out."""
    generator = random.Random(recipe.seed)
    while True:
        (kind,) = generator.choices(KINDS, weights=recipe.shares)
        fact = kind.sample(generator, held_out=False)
        yield line(fact, frame=generator.choice(FRAMES))


def key_of(recipe: Recipe) -> str:
    """A digest that changes with the recipe and with the text that the model is trained on."""
    text = "".join(itertools.islice(lines(recipe), 1000))
    return hashlib.sha256((json.dumps(dataclasses.asdict(recipe)) + text).encode()).hexdigest()[:16]
