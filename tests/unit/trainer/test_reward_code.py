"""Rewards that are code, as a run scores by them: what they are given, and what a failed call costs."""

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.conditions import Reason
from posttrain_trainer.examples import Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards.failure import RewardFailed
from posttrain_trainer.scoring import Scorer

PYTHON: dict[str, Any] = {"configMap": {"name": "mine"}, "entrypoint": "rewards:score"}
EXACT = {"builtin": "exact", "role": "success"}
SOURCE = """
import os
def score(prompts, completions, gold, level, **rest):
    if "crash" in completions:
        os._exit(1)
    assert rest == {}
    return [2.0 * (c == g) + n if p[-1]["content"] == "Say it" else None
            for p, c, g, n in zip(prompts, completions, gold, level)]
"""


def prompt(number: int = 0, gold: str | None = "7", **columns: Any) -> Prompt:
    return Prompt(number, [{"role": "user", "content": "Say it"}], array("i"), gold, columns)


@pytest.fixture
def scorer(places: Places) -> Iterator[Callable[..., Scorer]]:
    """Scores by these rewards."""
    made: list[Scorer] = []

    def of(*rewards: dict[str, Any], **options: Any) -> Scorer:
        environment = {"dataset": {"uri": "file:///rows.jsonl"}, "rewards": list(rewards)}
        config = builders.run(Path("/base"), Path("/rows.jsonl"), environment=environment)
        made.append(Scorer(config, places, "cpu", **options))
        return made[-1]

    folder = places.config_maps / "mine"
    folder.mkdir(parents=True)
    (folder / "rewards.py").write_text(SOURCE)
    yield of
    for found in made:
        found.close()


def test_a_function_is_given_messages_text_gold_and_columns(scorer: Callable[..., Scorer]) -> None:
    answered = [(prompt(level=1), "7"), (prompt(level=5), "8"), (prompt(gold=None, level=0), "9")]
    found = scorer({"python": PYTHON, "weight": 0.5}).score(answered)
    assert [scores.each for scores in found] == [{"score": 3.0}, {"score": 5.0}, {"score": 0.0}]
    assert [scores.total for scores in found] == [1.5, 2.5, 0.0]


def test_a_folder_of_a_claim_has_modules_too(scorer: Callable[..., Scorer], places: Places) -> None:
    folder = places.claims / "code" / "inner"
    folder.mkdir(parents=True)
    (folder / "rewards.py").write_text("async def seven(completions): return [float(c == '7') for c in completions]")
    reward = {"python": {"uri": "pvc://code/inner", "entrypoint": "rewards:seven"}}
    assert scorer(reward).scores([(prompt(), "7"), (prompt(), "8")]) == [1.0, 0.0]


def test_a_failed_call_costs_its_answers_and_no_other_score(scorer: Callable[..., Scorer]) -> None:
    made = scorer({"python": PYTHON}, EXACT)
    first, second = made.score([(prompt(level=1), "7"), (prompt(level=1), "crash")])
    assert (first.each, first.total, first.success) == ({"score": None, "exact": 1.0}, None, 1.0)
    assert second.success == 0.0
    assert made.failures == 1
    (after,) = made.score([(prompt(level=1), "7")])
    assert (after.total, after.success) == (3.0, 1.0)


def test_three_failed_calls_in_a_row_end_the_run(scorer: Callable[..., Scorer]) -> None:
    made = scorer({"python": PYTHON})
    bad, good = [(prompt(level=1), "crash")], [(prompt(level=1), "7")]
    for answered in (bad, bad, good, bad, bad):
        made.score(answered)
    with pytest.raises(RewardFailed) as failed:
        made.score(bad)
    assert failed.value.reason is Reason.REWARD_FAILED
    assert str(failed.value) == (
        "environment.rewards score: rewards:score ended with exit code 1 before it answered, 3 times in a row"
    )
    assert made.failures == 5


def test_before_a_gpu_is_taken_the_first_failure_is_one_too_many(scorer: Callable[..., Scorer]) -> None:
    with pytest.raises(
        RewardFailed,
        match=r"^environment.rewards score: other:score is not there: there is no other\.py, but rewards\.py$",
    ):
        scorer({"python": {**PYTHON, "entrypoint": "other:score"}}, patience=1).score([(prompt(level=1), "7")])


def test_unit_tests_score_the_share_that_passes(scorer: Callable[..., Scorer]) -> None:
    tests = "assert double(2) == 4\nassert double(3) == 6"
    answers = ["def double(n): return 2 * n", "def double(n): return 4", "import os; os._exit(0)"]
    made = scorer({"builtin": "unit_tests"})
    assert made.scores([(prompt(gold=None, tests=tests), answer) for answer in answers]) == [1.0, 0.5, 0.0]


def test_a_row_without_its_unit_tests_is_refused(scorer: Callable[..., Scorer]) -> None:
    with pytest.raises(Refused, match=r"^row 3: builtin unit_tests needs the column tests: write Python") as refused:
        scorer({"builtin": "unit_tests"}).score([(prompt(3), "x = 1")])
    assert refused.value.reason is Reason.DATASET_INVALID
