"""dataset.package: which package it names, its rows, and its score of an answer."""

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain_api.v1alpha1.environment import GOLD, REASONING_GYM, Dataset
from posttrain_trainer.packages import reasoning_gym, verifiers

SCORES = Path(__file__).parent / "scores"
"""The folder with the functions that score."""


@dataclass(frozen=True)
class Scoring:
    """How an environment scores an answer: a function for the place where foreign code runs."""

    function: Callable[..., Any]
    """The function itself, for what may run here."""
    may_run_here: bool
    """It can do no harm, whatever the answer; what evaluates answers may not."""
    columns: Sequence[str]
    """What it needs of a row beside prompt and right answer."""
    environment: str
    options: Mapping[str, Any]

    @property
    def entrypoint(self) -> str:
        """The function as module:function in SCORES."""
        return f"{self.function.__module__.rpartition('.')[2]}:{self.function.__name__}"

    def arguments(
        self, completions: Sequence[str], gold: Sequence[str | None], columns: Sequence[Mapping[str, Any]]
    ) -> dict[str, list[Any]]:
        """What the function is given for a batch of answers, a list with an element for each."""
        count = len(completions)
        return {
            "completions": list(completions),
            "gold": list(gold),
            **{name: [row[name] for row in columns] for name in self.columns},
            "environment": [self.environment] * count,
            "options": [dict(self.options)] * count,
        }


def content(dataset: Dataset) -> bytes:
    """The rows of dataset.package as JSON Lines, the same bytes each time; Refused where it cannot be had."""
    module, name = _part(dataset)
    rows = module.rows(name, dataset.package_options or {}, dataset.limit)
    return "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows).encode()


def scoring(dataset: Dataset) -> Scoring:
    """How dataset.package scores an answer."""
    module, name = _part(dataset)
    return Scoring(
        function=module.SCORE,
        may_run_here=module.may_run_here(name),
        columns=module.COLUMNS,
        environment=name,
        options=dataset.package_options or {},
    )


def told_answer(answer: str, answer_format: str | None) -> str | None:
    """What a verifier is shown of an answer: the part where {gold} stands in environment.answerFormat, or all of it;
    None where the answer has not that form, or begins it more than once."""
    before, after = (mark.strip() for mark in (answer_format or GOLD).split(GOLD))
    if before and answer.count(before) != 1:
        return None
    rest = answer.partition(before)[2] if before else answer
    if not after:
        return rest.strip()
    inner, mark, _ = rest.rpartition(after)
    return inner.strip() if mark else None


def is_disguised(answer: str, gold: str | None) -> bool:
    """Whether an answer has look-alikes of ASCII letters and digits where the right one has none: to a package that
    reads numbers they are numbers."""
    if answer.isascii() or not (gold or "").isascii():
        return False
    return any(letter.isdecimal() or _plain(letter).isalnum() for letter in answer if not letter.isascii())


def _plain(letter: str) -> str:
    """The ASCII that Unicode takes a letter for; empty where there is none."""
    found = unicodedata.normalize("NFKC", letter)
    return found if found.isascii() else ""


def _part(dataset: Dataset) -> tuple[Any, str]:
    """The module for a package, and the name of the environment in it."""
    assert dataset.package is not None, "a dataset without a package"
    package, _, name = dataset.package.partition(":")
    return (reasoning_gym if package == REASONING_GYM else verifiers), name
