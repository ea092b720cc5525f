"""Rewards that need nothing but the answer, the gold answer and the row."""

from collections.abc import Callable
from typing import Any

import regex

from posttrain_api.v1alpha1.environment import COMPARED_WITH_GOLD, Reward
from posttrain_trainer.rewards import gsm8k, json_schema, numbers, tool_call
from posttrain_trainer.rewards.boxed import Boxed
from posttrain_trainer.rewards.code import TESTS
from posttrain_trainer.rewards.failure import RewardFailed
from posttrain_trainer.rewards.json_schema import JsonSchema

Columns = dict[str, Any]
Score = Callable[[str, str | None, Columns], float]
"""The score of an answer, given the gold answer and the row's other columns, of a row that has what is needed."""

_PATTERN_SECONDS = 1.0
_SEQUENCE = 4
"""Words of a sequence whose return is a repetition."""


def scoring(reward: Reward) -> Score:
    """What a builtin says of an answer; ValueError says what is wrong with the reward."""
    match reward.builtin:
        case "exact":
            return _comparing(lambda answer, gold: float(answer.strip() == gold.strip()))
        case "numeric":
            return _comparing(_numeric)
        case "gsm8k":
            return _comparing(gsm8k.score)
        case "boxed":
            return _comparing(Boxed())
        case "tool_call":
            return _comparing(tool_call.score)
        case "regex":
            return _alone(_matching(reward.pattern or ""))
        case "length":
            return _alone(lambda answer: _length(answer, reward.max_characters or 1))
        case "repetition":
            return _alone(_repetition)
        case "json_schema":
            return _fitting(reward)
    raise AssertionError(f"{reward.kind} is scored elsewhere")


def lacking(reward: Reward, gold: str | None, columns: Columns) -> str | None:
    """What a row lacks for a builtin, and what to write instead; None where it has everything."""
    if reward.builtin in COMPARED_WITH_GOLD and gold is None:
        return f'reward {reward.builtin} needs the right answer: write "gold" or "completion"'
    try:
        _check(reward, gold or "", columns)
    except ValueError as error:
        return f"reward {reward.builtin}: {error}"
    return None


def _check(reward: Reward, gold: str, columns: Columns) -> None:
    if reward.builtin in ("numeric", "gsm8k") and gsm8k.right(gold) is None:
        raise ValueError(f'the right answer "{gold[-40:]}" holds no number: write one, or another reward')
    if reward.builtin == "tool_call":
        tool_call.calls(gold)
    if reward.builtin == "unit_tests" and not str(columns.get(TESTS) or "").strip():
        raise ValueError(f'no Python statements in the column "{TESTS}": write such as "assert double(2) == 4"')
    if reward.builtin == "json_schema" and reward.json_schema is None:
        json_schema.check(None, columns)


def _comparing(compare: Callable[[str, str], float]) -> Score:
    def score(answer: str, gold: str | None, _columns: Columns) -> float:
        assert gold is not None
        return compare(answer, gold)

    return score


def _alone(judge: Callable[[str], float]) -> Score:
    return lambda answer, _gold, _columns: judge(answer)


def _fitting(reward: Reward) -> Score:
    if reward.json_schema is not None:
        json_schema.check(reward.json_schema, {})
    fits = JsonSchema(reward.json_schema)
    return lambda answer, _gold, columns: fits(answer, columns)


def _numeric(answer: str, gold: str) -> float:
    found = numbers.last(answer)
    return float(found is not None and found == numbers.last(gold))


def _matching(pattern: str) -> Callable[[str], float]:
    try:
        compiled = regex.compile(pattern, regex.DOTALL)
    except regex.error as error:
        raise ValueError(f"pattern: {error}") from None

    def judge(answer: str) -> float:
        try:
            return float(compiled.fullmatch(answer.strip(), timeout=_PATTERN_SECONDS) is not None)
        except TimeoutError:
            raise RewardFailed(
                f"the pattern takes more than {_PATTERN_SECONDS:g} s on an answer of {len(answer)} characters: "
                "write it without repetition within repetition"
            ) from None

    return judge


def _length(answer: str, most: int) -> float:
    """1 up to so many characters, falling to 0 at twice as many."""
    return min(1.0, max(0.0, 2 - len(answer) / most))


def _repetition(answer: str) -> float:
    words = answer.split()
    sequences = [tuple(words[place : place + _SEQUENCE]) for place in range(len(words) - _SEQUENCE + 1)]
    return len(set(sequences)) / len(sequences) - 1 if sequences else 0.0
