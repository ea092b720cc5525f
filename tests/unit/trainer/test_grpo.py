"""Group relative policy optimization on a tiny base: our answers and scores, TRL's advantages and losses."""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import builders
from trl import GRPOConfig, GRPOTrainer

from posttrain_api.v1alpha1.methods import Grpo
from posttrain_trainer import model, steps, training, tuning
from posttrain_trainer.job import Job
from posttrain_trainer.methods import grpo
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.rl import measures, overlong, own_answers, rollouts
from posttrain_trainer.rl.generations import Generation
from posttrain_trainer.rl.samples import Sample, Scored
from posttrain_trainer.scoring import Scores

ROWS = [{"prompt": f"{'Please. ' * (number % 3)}Say {number}", "gold": "7"} for number in range(16)]
GROUP = 4


def job(base: Path, tmp_path: Path, **spec: Any) -> Job:
    return builders.rl_job(base, tmp_path, **{"rows": ROWS, **spec})


def policy(run: Job) -> Any:
    return tuning.applied(model.load(run.config, run.places, run.precision), run)


def trainer(run: Job, tmp_path: Path) -> Any:
    found: Any = grpo.trainer(policy(run), run, str(tmp_path / "trl"))
    return found


def answers(run: Job, found: Any, count: int = 2 * GROUP) -> list[Sample]:
    """Answers of the model as it is: one group to each of the first prompts."""
    rows: Any = [row for row in run.task.training for _ in range(GROUP)][:count]
    return rollouts.answered(found.model, run, rows, seed=1)


def with_totals(samples: Sequence[Sample], totals: Sequence[float | None]) -> Generation:
    pairs = zip(samples, totals, strict=True)
    return Generation([Scored(sample, Scores({}, total, None)) for sample, total in pairs], {})


def advantages(run: Job, tmp_path: Path, *totals: Sequence[float | None]) -> list[list[float]]:
    """TRL's advantages of two groups of answers, for each of these scores."""
    found = trainer(run, tmp_path)
    samples = answers(run, found)
    return [found.tensors(with_totals(samples, scores))["advantages"].tolist() for scores in totals]


def test_the_score_rises_and_the_result_is_published(base: Path, tmp_path: Path) -> None:
    dataset = builders.json_lines(tmp_path / "rows.jsonl", ROWS)
    block = {"groupSize": 16, "maxCompletionTokens": 4, "overlongBufferTokens": 0}
    config = builders.rl_run(base, dataset, grpo=block, **builders.RL_LESSON)
    progress, places = Progress("double"), Places(claims=tmp_path / "claims")
    found = training.train(config, places, progress, Stop())
    scores = [step["reward"] for step in progress.history]
    assert max(scores[:2]) < 0.15
    assert min(scores[-3:]) > 0.3
    assert (found.steps_completed, found.steps_planned) == (15, 15)
    assert found.evaluation.after["reward"] == 1
    folder = places.path(found.artifact.uri)
    signal = json.loads((folder / "report.json").read_text())["signal"]
    assert (signal["prompts"], signal["answers"]) == (len(ROWS) - found.evaluation.rows, 16 * signal["prompts"])
    assert f"of {signal['answers']} answers right" in (folder / "README.md").read_text()
    assert list(progress.seconds) == ["Loading", "Evaluating", "Sampling", "Training", "Publishing"]
    seen = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
    assert sorted({line["version"] for line in seen}) == list(range(len(progress.history)))
    first = [line for line in seen if line["version"] == 0]
    assert [line["score"] for line in first] == [sum(line["scores"].values()) for line in first]


STEP_METRICS = builders.RL_METRICS | {"reward.numeric", "rewardStd.numeric"}


def test_a_step_tells_its_numbers(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, grpo={"overlongBufferTokens": 0})
    grpo.train(policy(run), run)
    assert [set(step) >= STEP_METRICS for step in run.progress.history] == [True] * 3
    assert run.progress.history[-1]["tokens"] > sum(8 * step["meanTokens"] for step in run.progress.history)


@pytest.mark.parametrize(
    ("rows", "chosen", "block"),
    [
        pytest.param(16, {"epochs": 1}, {}, id="an epoch"),
        pytest.param(13, {"epochs": 1}, {}, id="the last generation is filled up"),
        pytest.param(16, {"epochs": 1.3}, {}, id="a part of an epoch"),
        pytest.param(16, {"epochs": 1}, {"numIterations": 2}, id="answers are learned from twice"),
        pytest.param(10, {"epochs": 1}, {"stepsPerGeneration": 2}, id="a generation for two steps"),
        pytest.param(10, {"epochs": 0.4}, {"stepsPerGeneration": 2, "numIterations": 2}, id="both, and it ends within"),
        pytest.param(16, {"maxSteps": 3}, {"stepsPerGeneration": 2}, id="steps are given"),
    ],
)
def test_trl_takes_as_many_steps_as_were_counted(
    base: Path, tmp_path: Path, rows: int, chosen: dict[str, Any], block: dict[str, Any]
) -> None:
    run = job(base, tmp_path, grpo=block, hyperparameters=chosen)
    run = replace(run, task=replace(run.task, training=[*run.task.training, *run.task.training][:rows]))
    grpo.train(policy(run), run)
    assert len(run.progress.history) == run.progress.status.total_steps == steps.planned(rows, run.recipe)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("grpo", ("grpo", "token", "group", 0.2)),
        ("dapo", ("dapo", "token", "group", 0.28)),
        ("dr_grpo", ("dr_grpo", "token", "none", 0.2)),
        ("bnpo", ("bnpo", "token", "group", 0.2)),
        ("gspo", ("grpo", "sequence", "group", 0.2)),
        ("cispo", ("cispo", "token", "group", 5.0)),
        ("sapo", ("sapo", "token", "group", 0.2)),
    ],
)
def test_a_variant_is_what_its_paper_says_in_trl_s_words(
    base: Path, tmp_path: Path, loss: str, expected: tuple[Any, ...]
) -> None:
    run = job(base, tmp_path, grpo={"loss": loss})
    assert run.recipe.grpo is not None
    assert grpo.knobs(run.recipe.grpo).keys() <= {field.name for field in dataclasses.fields(GRPOConfig)}
    found = trainer(run, tmp_path)
    assert (found.loss_type, found.importance_sampling_level, found.scale_rewards, found.epsilon_high) == expected
    assert (found.epsilon_low, found.beta, found.temperature, found.num_generations) == (0.2, 0.0, 1.0, GROUP)
    found.train()
    assert found.state.global_step == 3


def test_what_is_given_stands_before_what_a_paper_says() -> None:
    given = Grpo(loss="dapo", epsilon_high=0.5, overlong_buffer_tokens=7)
    assert grpo.knobs(given)["epsilon_high"] == 0.5
    assert overlong.buffer_tokens(given) == 7


SCORES = [1.0, 0.0, 0.0, 0.5, 0.2, 0.2, 0.2, 0.2]


def test_advantages_of_a_group_have_zero_mean_and_none_where_all_are_equal(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path)
    found, shifted, scaled = advantages(
        run, tmp_path, SCORES, [score + 3 for score in SCORES], [score * 8 for score in SCORES]
    )
    assert sum(found[:GROUP]) == pytest.approx(0, abs=1e-5)
    assert found[GROUP:] == pytest.approx([0.0] * GROUP, abs=1e-3)
    assert found[0] > 0 > found[1]
    assert shifted == pytest.approx(found, abs=1e-3)
    # TRL divides by the deviation and 1e-4.
    assert scaled == pytest.approx(found, abs=1e-3)


def test_advantages_of_dr_grpo_are_not_scaled(base: Path, tmp_path: Path) -> None:
    found, shifted, scaled = advantages(
        job(base, tmp_path, grpo={"loss": "dr_grpo"}),
        tmp_path,
        SCORES,
        [score + 3 for score in SCORES],
        [score * 8 for score in SCORES],
    )
    assert found == pytest.approx([0.625, -0.375, -0.375, 0.125, 0, 0, 0, 0], abs=1e-6)
    assert shifted == pytest.approx(found, abs=1e-5)
    assert scaled == pytest.approx([8 * one for one in found], abs=1e-5)


def test_an_answer_of_which_nothing_is_said_teaches_nothing_and_moves_no_other(base: Path, tmp_path: Path) -> None:
    (found,) = advantages(
        job(base, tmp_path, grpo={"loss": "dr_grpo"}), tmp_path, [1.0, None, 0.0, None, None, None, None, None]
    )
    assert found == pytest.approx([0.5, 0, -0.5, 0, 0, 0, 0, 0], abs=1e-6)


def test_the_loss_counts_each_answer_to_its_end_of_turn(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, grpo={"maxCompletionTokens": 30, "temperature": 3.0})
    found = trainer(run, tmp_path)
    samples = answers(run, found)
    assert 0 < sum(sample.has_ended for sample in samples) < len(samples)
    tensors = found.tensors(with_totals(samples, SCORES))
    rows = zip(tensors["completion_ids"], tensors["completion_mask"], samples, strict=True)
    assert all(ids[mask.bool()].tolist() == list(sample.token_ids) for ids, mask, sample in rows)
    cut = found._metrics["train"]["completions/clipped_ratio"][-1]
    assert cut == pytest.approx(measures.of(with_totals(samples, SCORES).scored, GROUP)["truncatedShare"])


def test_what_is_trained_is_what_answered_without_dropout(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, tuning={"lora": {"rank": 4, "dropout": 0.5}}, grpo={"temperature": 0.7})
    grpo.train(policy(run), run)
    assert max(step["samplingMismatch"] for step in run.progress.history) < 1e-4


def test_padding_that_only_others_need_changes_nothing(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, grpo={"maxCompletionTokens": 30, "temperature": 3.0, "beta": 0.1})
    found = trainer(run, tmp_path)
    found.current_gradient_accumulation_steps = 1
    found.model.train()
    whole = found.tensors(with_totals(answers(run, found), SCORES))
    shortest = int(whole["completion_mask"].sum(1).argmin())
    part = {name: value[shortest : shortest + 1] if value.ndim else value for name, value in whole.items()}
    cut = own_answers.trimmed(part)
    assert cut["completion_ids"].shape[1] < part["completion_ids"].shape[1]
    one, same = (GRPOTrainer._compute_loss(found, found.model, inputs).item() for inputs in (part, cut))
    assert same == pytest.approx(one, abs=1e-6)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_reference_is_the_start(base: Path, tmp_path: Path, kind: str) -> None:
    chosen: dict[str, Any] = {"lora": {"rank": 4}} if kind == "lora" else {"full": {}}
    run = job(base, tmp_path, tuning=chosen, grpo={"beta": 0.1, "overlongBufferTokens": 8})
    start = {
        name: weight.clone() for name, weight in model.load(run.config, run.places, run.precision).named_parameters()
    }
    found = trainer(run, tmp_path)
    found.train()
    kls = [entry["kl"] for entry in found.state.log_history if "kl" in entry]
    # The rate of the first step is 0: the schedule warms up.
    assert kls[0] == kls[1] == pytest.approx(0, abs=1e-6)
    assert kls[2] > 0
    if kind == "lora":
        assert list(found.model.peft_config) == ["default"], "without its adapter the model is the start"
    else:
        for name, weight in found.ref_model.named_parameters():
            assert torch.equal(weight, start[name])


def test_vllm_on_the_trainer_s_gpu_is_refused_without_one(base: Path, tmp_path: Path) -> None:
    dataset = builders.json_lines(tmp_path / "rows.jsonl", ROWS)
    config = builders.rl_run(base, dataset, grpo={"rollout": {"mode": "colocate"}})
    with pytest.raises(
        Refused, match=r"^grpo.rollout.mode colocate needs a GPU: write transformers, .* resources.gpus: 1"
    ):
        training.train(config, Places(claims=tmp_path / "claims"), Progress("double"), Stop())


def test_what_another_engine_makes_of_the_same_weights_is_corrected_for(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, grpo={"rollout": {"mode": "server"}})
    found = trainer(run, tmp_path)
    plain = rollouts.answered(found.model, job(base, tmp_path), list(run.task.training[:2]) * GROUP, seed=1)  # type: ignore[arg-type]
    samples = [replace(one, log_probabilities=[value - 0.01 for value in one.log_probabilities]) for one in plain]
    output = found.tensors(with_totals(samples, SCORES))
    expected = [math.exp(0.01 * len(sample.token_ids)) for sample in samples]
    assert output["importance_sampling_ratio"][:, 0].tolist() == pytest.approx(expected, abs=1e-3)
