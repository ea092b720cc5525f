"""dataset.package: which package it names, its rows, and its score of an answer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from posttrain_api.v1alpha1.environment import GOLD, REASONING_GYM, Dataset
from posttrain_trainer.packages import reasoning_gym, verifiers


class Verifier(Protocol):
    """How an environment scores an answer to one of its rows."""

    columns: Sequence[str]
    """What it needs of a row beside prompt and right answer."""

    def score(self, answer: str, gold: str | None, columns: Mapping[str, Any]) -> float:
        """Its score; `columns` are the row's other columns."""


def content(dataset: Dataset) -> bytes:
    """The rows of dataset.package as JSON Lines, the same bytes each time; Refused where it cannot be had."""
    module, name = _part(dataset)
    rows = module.rows(name, dataset.package_options or {}, dataset.limit)
    return "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows).encode()


def verifier(dataset: Dataset) -> Verifier:
    """The scoring of dataset.package; Refused where it cannot be had."""
    module, name = _part(dataset)
    return module.Verifier(name, dataset.package_options or {})


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


def _part(dataset: Dataset) -> tuple[Any, str]:
    """The module for a package, and the name of the environment in it."""
    assert dataset.package is not None, "a dataset without a package"
    package, _, name = dataset.package.partition(":")
    return (reasoning_gym if package == REASONING_GYM else verifiers), name
