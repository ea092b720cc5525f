"""Generations of answers: their scores, what is taken off for length, and groups that make room for others."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.v1alpha1.methods import Grpo
from posttrain_trainer import model, tuning
from posttrain_trainer.job import Job
from posttrain_trainer.rl import measures, overlong
from posttrain_trainer.rl.generations import Generations
from posttrain_trainer.rl.samples import Scored
from posttrain_trainer.scoring import Scores

ROWS = [{"prompt": f"{'Please. ' * (number % 3)}Say {number}", "gold": "7"} for number in range(16)]


def job(base: Path, tmp_path: Path, **spec: Any) -> Job:
    return builders.rl_job(base, tmp_path, rows=ROWS, **spec)


def policy(run: Job) -> Any:
    return tuning.applied(model.load(run.config, run.places, run.precision), run)


@pytest.mark.parametrize(
    ("length", "expected"), [(1, 0.0), (80, 0.0), (85, -0.25), (90, -0.5), (100, -1.0)], ids=lambda value: str(value)
)
def test_an_answer_is_punished_the_more_the_nearer_it_comes_to_the_longest(length: int, expected: float) -> None:
    assert overlong.punishment(length, longest=100, buffer=20) == pytest.approx(expected)
    assert overlong.punishment(length, longest=100, buffer=0) == 0


@pytest.mark.parametrize(
    ("block", "buffer"),
    [({}, 20), ({"loss": "grpo"}, 0), ({"overlongBufferTokens": 0}, 0), ({"overlongBufferTokens": 5}, 5)],
)
def test_only_dapo_punishes_length_unless_told(block: dict[str, Any], buffer: int) -> None:
    assert overlong.buffer_tokens(Grpo.model_validate({"maxCompletionTokens": 100, **block})) == buffer


def test_the_punishment_is_a_part_of_the_score_and_shown(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, grpo={"overlongBufferTokens": 4})
    found = Generations(run).next(policy(run), num_prompts=2, version=0)
    for one in found.scored:
        off = overlong.punishment(len(one.sample.token_ids), longest=8, buffer=4)
        assert one.scores.each["overlong"] == off
        assert one.scores.total == pytest.approx(off + (one.scores.each["numeric"] or 0))
    assert found.metrics["reward.overlong"] == pytest.approx(
        sum(one.scores.each["overlong"] or 0 for one in found.scored) / len(found.scored)
    )


def test_what_is_only_measured_never_teaches(base: Path, tmp_path: Path) -> None:
    rewards = [{"builtin": "numeric", "role": "success"}, {"builtin": "exact", "weight": 2.0}]
    run = job(base, tmp_path, environment={"rewards": rewards}, grpo={"overlongBufferTokens": 0})
    found = Generations(run).next(policy(run), num_prompts=len(run.task.training), version=0)
    assert any(one.scores.success for one in found.scored)
    assert all(one.scores.total == 2 * (one.scores.each["exact"] or 0) for one in found.scored)
    assert {"success", "reward.numeric", "reward.exact"} <= found.metrics.keys()


def test_groups_without_spread_make_room_for_others(base: Path, tmp_path: Path) -> None:
    shares = []
    for rounds in (0, 6):
        block = {"groupSize": 8, "dynamicSamplingRounds": rounds, "overlongBufferTokens": 0}
        run = job(base, tmp_path, grpo=block, hyperparameters={"effectiveBatchSize": 64})
        found = Generations(run).next(policy(run), num_prompts=8, version=0)
        groups = list(measures.split(found.scored, 8))
        assert len(groups) == 8
        assert all(len({one.sample.prompt.number for one in group}) == 1 for group in groups)
        share = sum(not measures.has_spread(group) for group in groups) / 8
        assert found.metrics["noSpreadShare"] == share
        shares.append((share, found.metrics.get("resampledShare")))
    (before, nothing), (after, resampled) = shares
    assert nothing is None
    assert after <= before / 2
    assert resampled == pytest.approx(before - after)


def test_answers_that_differ_in_length_alone_have_no_spread() -> None:
    scored = [Scored(Any, Scores({"exact": 0.0, overlong.NAME: off}, off, None)) for off in (0.0, -1.0)]  # type: ignore[arg-type]
    assert not measures.has_spread(scored)
