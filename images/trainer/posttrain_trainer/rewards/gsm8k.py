"""The reward gsm8k: a number between <answer> and </answer>, with a little for the tags alone."""

import re
from decimal import Decimal

from posttrain_trainer.rewards import numbers

FOR_TAGS, FOR_NUMBER = 0.1, 1.0
_OPEN = "<answer>"
_TAGGED = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL)


def score(answer: str, gold: str) -> float:
    """0.1 for one answer in tags, and 1 more where the one number in it is the last one of the gold answer."""
    tagged = _TAGGED.findall(answer)
    if len({text.strip() for text in tagged}) != 1 or answer.count(_OPEN) != len(tagged):
        return 0.0
    told = set(numbers.found(tagged[0]))
    return FOR_TAGS + FOR_NUMBER * (told == {right(gold)})


def right(gold: str) -> Decimal | None:
    """The number that a gold answer ends with: the data set's own golds are workings, then #### and the number."""
    return numbers.last(gold.rpartition("####")[2])
