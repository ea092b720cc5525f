"""How a right answer is written: the one place where a gold answer becomes the text that is learned and compared."""

import re
from collections.abc import Callable, Mapping

from posttrain_api.v1alpha1.environment import GOLD, Environment
from posttrain_trainer.rewards import gsm8k

_ANSWER = re.compile(r"<answer>.*?</answer>", re.DOTALL)


def right(gold: str | None, completion: str | None, environment: Environment | None) -> str | None:
    """The right answer as text: the whole answer that a row gives, else its gold answer as it is to be written."""
    if completion is not None or gold is None:
        return completion
    return written(gold, environment).strip()


def written(value: str, environment: Environment | None) -> str:
    """A value as the environment wants an answer: as answerFormat says, else as a reward that teaches wants it."""
    if environment is None:
        return value
    if environment.answer_format is not None:
        return environment.answer_format.replace(GOLD, value)
    builtin = _form(environment)
    return value if builtin is None else _FORMS[builtin](value)


def is_declared(environment: Environment) -> bool:
    """Whether an answer is written otherwise than its value alone."""
    return environment.answer_format not in (None, GOLD) or _form(environment) is not None


def _form(environment: Environment) -> str | None:
    """The first builtin that teaches and has a form of its own."""
    return next((reward.builtin for reward in environment.rewards if reward.teaches and reward.builtin in _FORMS), None)


def _tagged(value: str) -> str:
    found = gsm8k.right(value)
    return value if found is None or _ANSWER.search(value) else f"<answer>{found}</answer>"


def _boxed(value: str) -> str:
    return value if r"\boxed" in value else rf"\boxed{{{value}}}"


_FORMS: Mapping[str, Callable[[str], str]] = {"gsm8k": _tagged, "boxed": _boxed}
"""Builtin -> a gold answer in its form."""
