"""Answers to try rewards with: the right one of a row, and those that would get a reward for nothing. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from posttrain_api.v1alpha1.environment import Environment
from posttrain_trainer.examples import Prompt
from posttrain_trainer.rewards import boxed, forms, gsm8k, numbers

RIGHT = "the right answer"
WRONG_VALUE = "a wrong value in the right form"
OTHER_FORM = "the right value without its form"
EMPTY, SPACE = "an empty answer", "only space"
LONG = "a very long answer"
SEVERAL, ALL = "several answers", "all answers"
ECHO = "the prompt repeated"
OTHER_ROW = "another row's right answer"
LOOK_ALIKE = "look-alike letters"
CHEATS = (WRONG_VALUE, OTHER_ROW, OTHER_FORM, EMPTY, SPACE, ECHO, LONG, SEVERAL, ALL, LOOK_ALIKE)
"""Every kind but the right answer, the plainest first."""
ABOUT_VALUES = frozenset({WRONG_VALUE, OTHER_ROW, SEVERAL, ALL, LOOK_ALIKE, OTHER_FORM})
"""Kinds that only a reward which knows the right answer can tell from it."""
NO_PROGRAMS = ABOUT_VALUES - {OTHER_ROW}
"""Kinds that are no wrong answer where a program is one: with another name or number it may do the same."""

_LONG_CHARACTERS = 20_000
_MOST_VALUES = 16
_DIGITS = re.compile(r"\d+", re.ASCII)
_FULL_WIDTH = {ord("0") + digit: chr(0xFF10 + digit) for digit in range(10)}
_CYRILLIC = str.maketrans("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ")
_FOLDED = str.maketrans("s", "ſ")
"""Casefolding makes it the letter again."""


@dataclass(frozen=True)
class Candidate:
    """An answer to try."""

    kind: str
    prompt: Prompt
    text: str


def candidates(prompt: Prompt, others: Sequence[Prompt], environment: Environment) -> list[Candidate]:
    """What is tried on a row; of a row without a right answer, what holds none. None is right by chance."""
    found = [(RIGHT, prompt.right)] if prompt.right is not None else []
    cheats = [(kind, text) for kind, text in _cheats(prompt, others, environment) if not _is_right(text, prompt)]
    return [Candidate(kind, prompt, text) for kind, text in [*found, *dict.fromkeys(cheats)]]


def value(prompt: Prompt) -> str:
    """What of the gold answer stands in the right one: without the forms of the field, or its number; else nothing."""
    gold = prompt.gold or ""
    known = (boxed.content(gold) or gold.rpartition("####")[2]).strip()
    forms_of_it = [known, *map(str, numbers.found(known)[-1:])]
    return next((one for one in forms_of_it if one and _told(one).search(prompt.right or "")), "")


def _cheats(prompt: Prompt, others: Sequence[Prompt], environment: Environment) -> Iterator[tuple[str, str]]:
    yield EMPTY, ""
    yield SPACE, " \n\t\n "
    asked = str(prompt.messages[-1]["content"])
    known = value(prompt)
    if not (known and _told(known).search(asked)):
        yield ECHO, asked
    is_program = any(reward.builtin == "unit_tests" for reward in environment.rewards if reward.teaches)
    wrong = None if not known or is_program else _wrong(known, others)
    yield LONG, _long(_with(prompt, wrong) if wrong else asked)
    if known:
        yield from _of_values(prompt, known, wrong, others)
        if forms.is_declared(environment):
            yield OTHER_FORM, known
    elif prompt.right is not None:
        different = (other.right for other in others if _meant(other.gold or "") != _meant(prompt.gold or ""))
        yield from ((OTHER_ROW, text) for text in islice(filter(None, different), 1))


def _of_values(prompt: Prompt, known: str, wrong: str | None, others: Sequence[Prompt]) -> Iterator[tuple[str, str]]:
    different = _different(known, others)
    if wrong is not None:
        yield WRONG_VALUE, _with(prompt, wrong)
        yield SEVERAL, _with(prompt, f"{known}, {wrong}")
        yield SEVERAL, f"{prompt.right}\n{_with(prompt, wrong)}"
        yield SEVERAL, _with(prompt, f"{wrong}, {known}, {different[0] if different else wrong}")
    if different:
        yield OTHER_ROW, _with(prompt, different[0])
    if len(different) > 1:
        middle = len(different) // 2
        yield ALL, _with(prompt, ", ".join([*different[:middle], known, *different[middle:]]))
    for letters in (_FULL_WIDTH | _CYRILLIC, _FOLDED):
        yield LOOK_ALIKE, _with(prompt, known.translate(letters))


def _wrong(known: str, others: Sequence[Prompt]) -> str | None:
    """A value of the same form: the last number is another; where there is none, another row's value."""
    digits = list(_DIGITS.finditer(known))
    if not digits:
        return next(iter(_different(known, others)), None)
    begin, end = digits[-1].span()
    return known[:begin] + str(int(known[begin:end][-18:]) + 1).zfill(end - begin) + known[end:]


def _different(known: str, others: Sequence[Prompt]) -> list[str]:
    """What other rows have as their values, each once, without those that may mean the same."""
    found = {_meant(text): text for other in others if (text := value(other))}
    found.pop(_meant(known), None)
    return list(found.values())[:_MOST_VALUES]


def _meant(text: str) -> str:
    number = gsm8k.right(text) if not re.search(r"[^\W\d_]", text) else None
    return text.casefold() if number is None else str(number.normalize())


def _with(prompt: Prompt, instead: str) -> str:
    """The right answer of a row with something else for its value."""
    assert prompt.right is not None
    return _told(value(prompt)).sub(lambda _: instead, prompt.right)


def _told(known: str) -> re.Pattern[str]:
    """A value where it stands for itself, and is no part of another number or word."""
    return re.compile(rf"(?<![^\W_]){re.escape(known)}(?![^\W_])")


def _long(begin: str) -> str:
    sentence = "Let me think about it again. "
    return begin + "\n" + sentence * (_LONG_CHARACTERS // len(sentence))


def _is_right(text: str, prompt: Prompt) -> bool:
    return prompt.right is not None and text.strip() == prompt.right.strip()
