"""Which prompts are asked next, and which are left out."""

import json
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.v1alpha1.methods import Curriculum
from posttrain_trainer import model, tuning
from posttrain_trainer.examples import Prompt
from posttrain_trainer.methods import grpo
from posttrain_trainer.places import Places
from posttrain_trainer.rl.curriculum import Lessons
from posttrain_trainer.rl.samples import Sample, Scored
from posttrain_trainer.rl.solved import Judge
from posttrain_trainer.scoring import Scorer, Scores

PROMPTS = [Prompt(number, [], array("i"), None, {}) for number in (2, 3, 5, 7, 11, 13)]


def lessons(**chosen: Any) -> Lessons:
    return Lessons(PROMPTS, seed=1, chosen=Curriculum.model_validate(chosen) if chosen else None)


def asked(found: Lessons, passes: int) -> list[int]:
    """Numbers of the prompts of so many passes over all."""
    return [prompt.number for prompt in found.take(passes * len(PROMPTS))]


def test_each_pass_asks_every_prompt_once_in_an_order_of_its_own() -> None:
    numbers = asked(lessons(), 3)
    passes = [numbers[place : place + 6] for place in (0, 6, 12)]
    assert all(sorted(one) == [2, 3, 5, 7, 11, 13] for one in passes)
    assert len({tuple(one) for one in passes}) == 3
    assert numbers == asked(lessons(), 3)


def test_taking_one_by_one_asks_the_same() -> None:
    found = lessons()
    assert [found.take(1)[0].number for _ in range(9)] == asked(lessons(), 2)[:9]


def test_a_prompt_that_was_always_solved_is_not_asked_again() -> None:
    found = lessons(action="Drop", after=2)
    for _ in range(2):
        assert 2 in asked(found, 1)
        found.judged(PROMPTS[0], "always")
    numbers = [prompt.number for prompt in found.take(10)]
    assert sorted(numbers) == sorted([3, 5, 7, 11, 13] * 2)
    assert found.num_left_out == 1
    assert found.findings == {"always": 1, "never": 0, "prompts": 6}


@pytest.mark.parametrize(
    "outcomes",
    [["always", None, "always"], ["always", "never"], ["never", "always"], [None, "never"], [None, None]],
    ids=str,
)
def test_only_the_same_in_succession_counts(outcomes: list[Any]) -> None:
    found = lessons(action="Drop", after=2)
    for outcome in outcomes:
        found.judged(PROMPTS[0], outcome)
    assert found.num_left_out == 0


def test_a_prompt_that_is_never_solved_is_asked_more_and_more_rarely_until_it_is() -> None:
    found = lessons(action="DownWeight", after=1)
    seen = []
    for number in range(12):
        turn = found.take(6 - int(number > 0 and not _is_asked(found)))
        is_there = PROMPTS[0] in turn
        seen.append(is_there)
        if is_there:
            found.judged(PROMPTS[0], "never")
    assert [place for place, one in enumerate(seen) if one] == [0, 2, 6]
    found.judged(PROMPTS[0], None)
    assert found.num_left_out == 0


def _is_asked(found: Lessons) -> bool:
    """Whether the next pass has the first prompt: seen from a copy."""
    copy = lessons(action="DownWeight", after=1)
    copy.restore(json.loads(json.dumps(found.state())))
    return PROMPTS[0] in copy.take(5) or PROMPTS[0] in copy.take(1)


def test_where_all_are_left_out_all_are_asked() -> None:
    found = lessons(action="Drop", after=1)
    for prompt in PROMPTS:
        found.judged(prompt, "never")
    assert sorted(asked(found, 1)) == [2, 3, 5, 7, 11, 13]
    assert found.findings == {"always": 0, "never": 6, "prompts": 6}


def test_what_was_written_down_goes_on_the_same() -> None:
    first = lessons(action="Drop", after=1)
    first.take(4)
    first.judged(PROMPTS[2], "always")
    other = lessons(action="Drop", after=1)
    other.restore(json.loads(json.dumps(first.state())))
    assert [first.take(7), first.num_left_out] == [other.take(7), 1]


def judge(tmp_path: Path, rewards: list[dict[str, Any]]) -> Judge:
    config = builders.rl_run(tmp_path, tmp_path / "rows.jsonl", environment={"rewards": rewards})
    return Judge(Scorer(config, Places(claims=tmp_path), "cpu"))


def answer(total: float | None, success: float | None = None, gold: str | None = "7") -> Scored:
    sample = Sample(Prompt(1, [], array("i"), gold, {}), "", [], [], has_ended=True)
    return Scored(sample, Scores({}, total, success))


EXACT = [{"builtin": "exact", "weight": 2.0}]
WITH_SUCCESS = [{"builtin": "length", "maxCharacters": 9}, {"builtin": "exact", "role": "success"}]


@pytest.mark.parametrize(
    ("rewards", "group", "expected"),
    [
        pytest.param(EXACT, [answer(2.0), answer(2.0)], "always", id="all as the right answer"),
        pytest.param(EXACT, [answer(0.0), answer(0.0)], "never", id="all wrong"),
        pytest.param(EXACT, [answer(0.5), answer(0.5)], "never", id="all partly right"),
        pytest.param(EXACT, [answer(0.5), answer(0.0)], None, id="none is right, but some are better"),
        pytest.param(EXACT, [answer(2.0), answer(0.0)], None, id="some are right"),
        pytest.param(EXACT, [answer(None), answer(None)], "never", id="nothing is said"),
        pytest.param(
            EXACT,
            [answer(1.0, gold=None), answer(0.5, gold=None)],
            None,
            id="no right answer is known, and scores differ",
        ),
        pytest.param(
            EXACT, [answer(1.0, gold=None)] * 2, "always", id="no right answer is known, and better than others"
        ),
        pytest.param(EXACT, [answer(-1.0, gold=None)] * 2, "never", id="no right answer is known, and as bad as any"),
        pytest.param(
            WITH_SUCCESS, [answer(1.0, 1.0), answer(0.2, 1.0)], "always", id="all succeed, some at less length"
        ),
        pytest.param(WITH_SUCCESS, [answer(1.0, 0.0), answer(0.2, 0.0)], None, id="none succeeds, but scores differ"),
        pytest.param(WITH_SUCCESS, [answer(1.0, 0.0), answer(1.0, 0.0)], "never", id="none succeeds, scores are high"),
    ],
)
def test_what_became_of_a_prompt(
    tmp_path: Path, rewards: list[dict[str, Any]], group: list[Scored], expected: str | None
) -> None:
    found = judge(tmp_path, rewards)
    found.see([answer(-1.0, 0.0)])
    assert found.outcome(group) == expected


def test_a_training_leaves_out_what_is_never_solved(base: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {number}", "gold": "7"} for number in range(8)]
    block = {"curriculum": {"action": "Drop", "after": 1}, "overlongBufferTokens": 0}
    run = builders.rl_job(base, tmp_path, rows=rows, grpo=block)
    grpo.train(tuning.applied(model.load(run.config, run.places, run.precision), run), run)
    dropped = [step["droppedPrompts"] for step in run.progress.history]
    assert dropped == sorted(dropped)
    assert dropped[-1] == run.progress.findings["curriculum"]["never"] > 0
    assert Counter(run.progress.findings["curriculum"])["always"] == 0
