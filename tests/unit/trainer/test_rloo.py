"""REINFORCE leave one out on a tiny base: our answers and scores, TRL's advantages and loss."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import builders

from posttrain_trainer import model, steps, training, tuning
from posttrain_trainer.job import Job
from posttrain_trainer.methods import rloo
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop
from posttrain_trainer.rl import rollouts
from posttrain_trainer.rl.generations import Generation
from posttrain_trainer.rl.samples import Scored
from posttrain_trainer.scoring import Scores

ROWS = [{"prompt": f"{'Please. ' * (number % 3)}Say {number}", "gold": "7"} for number in range(16)]
GROUP = 4
SCORES = [1.0, 0.0, 0.0, 0.5, 0.2, 0.2, 0.2, 0.2]


def job(base: Path, tmp_path: Path, **spec: Any) -> Job:
    return builders.rl_job(base, tmp_path, method="rloo", **{"rows": ROWS, **spec})


def trainer(run: Job, tmp_path: Path) -> Any:
    policy = tuning.applied(model.load(run.config, run.places, run.precision), run)
    found: Any = rloo.trainer(policy, run, str(tmp_path / "trl"))
    return found


def advantages(run: Job, tmp_path: Path, *totals: Sequence[float | None]) -> list[list[float]]:
    """TRL's advantages of two groups of answers, for each of these scores."""
    found = trainer(run, tmp_path)
    rows: Any = [row for row in run.task.training[:2] for _ in range(GROUP)]
    samples = rollouts.answered(found.model, run, rows, seed=1)
    generations = [
        Generation([Scored(sample, Scores({}, total, None)) for sample, total in zip(samples, scores, strict=True)], {})
        for scores in totals
    ]
    return [found.tensors(generation)["advantages"].tolist() for generation in generations]


def left_one_out(scores: Sequence[float]) -> list[float]:
    """Each score less the mean of the others, by hand."""
    return [score - statistics.fmean([*scores[:at], *scores[at + 1 :]]) for at, score in enumerate(scores)]


def test_an_advantage_is_what_a_score_exceeds_the_mean_of_the_others(base: Path, tmp_path: Path) -> None:
    found, shifted, scaled = advantages(
        job(base, tmp_path, rloo={"beta": 0.0}),
        tmp_path,
        SCORES,
        [score + 3 for score in SCORES],
        [score * 8 for score in SCORES],
    )
    assert found == pytest.approx([*left_one_out(SCORES[:GROUP]), *left_one_out(SCORES[GROUP:])], abs=1e-6)
    assert sum(found[:GROUP]) == pytest.approx(0, abs=1e-6)
    assert found[GROUP:] == pytest.approx([0.0] * GROUP, abs=1e-6)
    assert shifted == pytest.approx(found, abs=1e-5)
    assert scaled == pytest.approx([8 * one for one in found], abs=1e-5)


def test_normalized_advantages_have_mean_0_and_deviation_1_and_no_scale(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, rloo={"beta": 0.0, "normalizeAdvantages": True})
    found, scaled = advantages(run, tmp_path, SCORES, [score * 8 for score in SCORES])
    assert statistics.fmean(found) == pytest.approx(0, abs=1e-6)
    assert statistics.stdev(found) == pytest.approx(1, abs=1e-3)
    assert scaled == pytest.approx(found, abs=1e-3)


def test_an_answer_of_which_nothing_is_said_teaches_nothing_and_moves_no_other(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, rloo={"beta": 0.0})
    (found,) = advantages(run, tmp_path, [1.0, None, 0.0, None, None, None, None, 1.0])
    assert found == pytest.approx([1, 0, -1, 0, 0, 0, 0, 0], abs=1e-6)


def test_the_divergence_from_the_start_is_a_part_of_the_score(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, rloo={"beta": 1.0})
    found = trainer(run, tmp_path)
    assert list(found.model.peft_config) == ["default"], "without its adapter the model is the start"
    with torch.no_grad():
        for name, weight in found.model.named_parameters():
            if "lora_B" in name:
                weight += 0.1 * torch.randn_like(weight)
    rows: Any = [row for row in run.task.training[:2] for _ in range(GROUP)]
    samples = rollouts.answered(found.model, run, rows, seed=1)
    with found.model.disable_adapter():
        kls = [sum(sample.log_probabilities) - log_probability(found.model, sample) for sample in samples]
    output = found.tensors(Generation([Scored(sample, Scores({}, 0.0, None)) for sample in samples], {}))
    expected = [*left_one_out([-kl for kl in kls[:GROUP]]), *left_one_out([-kl for kl in kls[GROUP:]])]
    assert max(map(abs, kls)) > 0.01
    assert output["advantages"].tolist() == pytest.approx(expected, abs=1e-3)


def log_probability(policy: Any, sample: Any) -> float:
    """Of a whole answer, by one forward pass."""
    ids = torch.tensor([[*sample.prompt.token_ids, *sample.token_ids]])
    with torch.no_grad():
        logits = policy(ids).logits[0, len(sample.prompt.token_ids) - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, torch.tensor(sample.token_ids)[:, None]).sum())


def test_the_score_rises(base: Path, tmp_path: Path) -> None:
    dataset = builders.json_lines(tmp_path / "rows.jsonl", ROWS)
    block = {"groupSize": 16, "maxCompletionTokens": 4}
    config = builders.rl_run(base, dataset, method="rloo", rloo=block, **builders.RL_LESSON)
    progress = Progress("double")
    found = training.train(config, Places(claims=tmp_path / "claims"), progress, Stop())
    scores = [step["reward"] for step in progress.history]
    assert max(scores[:2]) < 0.15
    assert min(scores[-3:]) > 0.3
    assert found.evaluation.after["reward"] == 1
    assert all(step["samplingMismatch"] < 1e-4 for step in progress.history)
    # The whole model is trained, and a second one stands still.
    assert progress.history[-1]["kl"] > progress.history[1]["kl"]


@pytest.mark.parametrize(
    ("chosen", "block"),
    [({"epochs": 1.3}, {}), ({"epochs": 1}, {"numIterations": 2})],
    ids=["a part of an epoch", "answers are learned from twice"],
)
def test_trl_takes_as_many_steps_as_were_counted(
    base: Path, tmp_path: Path, chosen: dict[str, Any], block: dict[str, Any]
) -> None:
    run = job(base, tmp_path, rloo=block, hyperparameters=chosen)
    rloo.train(tuning.applied(model.load(run.config, run.places, run.precision), run), run)
    assert len(run.progress.history) == run.progress.status.total_steps
    assert run.progress.status.total_steps == steps.planned(len(run.task.training), run.recipe)
