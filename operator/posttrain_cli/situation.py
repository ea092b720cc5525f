"""What a person has to learn from: the questions that a recommendation rests on. Imports nothing heavy."""

from dataclasses import dataclass
from enum import StrEnum


class Have(StrEnum):
    """What there is to learn from."""

    EXAMPLES = "examples"
    """Questions with the right answer."""
    PAIRS = "pairs"
    """Questions with a better and a worse answer."""
    THUMBS = "thumbs"
    """Answers that were liked or not, each on its own."""
    SCORER = "scorer"
    """Questions whose answers a program can score."""
    TEACHER = "teacher"
    """Questions, and a larger model that answers them well."""


MEANINGS = {
    Have.EXAMPLES: "questions with the right answer",
    Have.PAIRS: "questions with a better and a worse answer",
    Have.THUMBS: "answers that were liked or not",
    Have.SCORER: "questions whose answers can be scored",
    Have.TEACHER: "questions and a larger model of the same vocabulary",
}
MANY_ROWS = 10_000
"""From here on a whole model has enough to learn from."""


@dataclass(frozen=True)
class Situation:
    """The answers."""

    have: Have
    rows: int
    """Rows of data."""
    base: str
    """URI of the model to start from."""
    is_tuned: bool
    """Whether that model follows instructions already."""
    data: str
    """URI of the rows."""
    teaches_knowledge: bool = False
    """Whether the examples hold facts that the model does not know, rather than a form of answer."""
    teacher: str = ""
    """URI of the teacher."""
    name: str = "my-model"
    """Name of the result's run."""


def asks_for_knowledge(have: Have, rows: int) -> bool:
    """Whether it matters what the examples teach: only with many of them does anything follow from it."""
    return have is Have.EXAMPLES and rows >= MANY_ROWS
