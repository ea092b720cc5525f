"""Proximal policy optimization on a tiny base: what it reads, what it learns from, and its runs from end to end."""

import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import builders

from posttrain_api.artifact import MANIFEST_FILE, Manifest, differences
from posttrain_api.trainer_contract import RunConfig, Source, TrainingReport
from posttrain_api.v1alpha1.methods import Ppo
from posttrain_api.v1alpha1.training_run import Checkpoints
from posttrain_trainer import model, training, tuning
from posttrain_trainer.job import Job
from posttrain_trainer.methods import ppo
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop, Stopped
from posttrain_trainer.rl import rollouts
from posttrain_trainer.rl.actor_critic import ActorCritic, Read
from posttrain_trainer.rl.samples import Sample, Scored
from posttrain_trainer.scoring import Scores

ROWS = [{"prompt": f"{'Please. ' * (number % 3)}Say {number}", "gold": "7"} for number in range(24)]
SHORT: dict[str, Any] = {"rewards": [{"builtin": "length", "maxCharacters": 4}], "allowNoSignal": True}
"""Scores that differ from the first answer on."""


def near(*expected: float, within: float = 1e-6) -> object:
    return pytest.approx(list(expected), abs=within)


# What is learned from


def seen(score: float, *, start: Sequence[float] = (-1.0, -1.0), values: Sequence[float] | None = None) -> ppo.Seen:
    """An answer whose every token had the log probability -1."""
    count = len(start)
    sample: Any = None
    old, entropies = torch.full((count,), -1.0), torch.zeros(count)
    return ppo.Seen(
        sample, score, old, torch.tensor(start), torch.tensor(values if values else [0.0] * count), entropies
    )


def advantages(given: Sequence[ppo.Seen], *, beta: float = 0.0, **chosen: float) -> list[float]:
    found = ppo.experiences(given, Ppo(**chosen), beta)
    return torch.cat([one.advantages for one in found]).tolist()


def test_returns_are_what_came_and_advantages_are_whitened_over_all_tokens() -> None:
    given = [seen(1.0, values=(0.25, 0.5)), seen(0.0, start=(-1.0, -1.0, -1.5))]
    found = ppo.experiences(given, Ppo(gae_lambda=1.0), 0.1)
    assert found[0].returns.tolist() == near(1.0, 1.0)
    assert found[1].returns.tolist() == near(-0.05, -0.05, -0.05), "half a nat from the start at the last token"
    raw = torch.tensor([0.75, 0.5, -0.05, -0.05, -0.05])
    whitened = (raw - raw.mean()) / raw.std(correction=0)
    assert torch.cat([one.advantages for one in found]).tolist() == near(*whitened.tolist(), within=1e-5)


def test_equal_scores_that_were_expected_teach_nothing() -> None:
    given = [seen(0.5, values=(0.5, 0.5)), seen(0.5, start=(-1.0,) * 3, values=(0.5,) * 3)]
    assert advantages(given) == near(*[0.0] * 5)


def test_advantages_do_not_change_when_all_scores_are_shifted_or_scaled() -> None:
    scores = (1.0, 0.0, 0.25)
    given = advantages([seen(score) for score in scores], gae_lambda=1.0)
    assert advantages([seen(score + 3) for score in scores], gae_lambda=1.0) == near(*given, within=1e-5)
    assert advantages([seen(score * 9) for score in scores], gae_lambda=1.0) == near(*given, within=1e-5)
    assert given[0] > 0 > given[2]


def test_what_left_the_start_is_worth_less() -> None:
    near_start, far = seen(1.0), seen(1.0, start=(-1.0, -4.0))
    found = advantages([near_start, far], beta=0.1, gae_lambda=1.0)
    assert found == near(1.0, 1.0, -1.0, -1.0, within=1e-4)


def test_the_loss_of_two_tokens_and_its_gradient() -> None:
    sample: Any = None
    old = torch.tensor([0.5, 0.5]).log()
    given = ppo.Experience(sample, old, torch.zeros(2), torch.ones(2), torch.tensor([2.0, 1.0]))
    new = torch.tensor([0.55, 0.7]).log().requires_grad_(True)
    values = torch.tensor([0.1, 0.5], requires_grad=True)
    found = ppo.losses(Read(new, torch.zeros(2), values), [given], Ppo(value_coefficient=0.1))
    found["loss"].backward()
    assert new.grad is not None
    assert values.grad is not None
    # Ratios 1.1 and 1.4: -2 * 1.1, and 1.4 counts as 1.2. Values: 0.9^2 / 2, and 0.5 counts as 0.2.
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {"policyLoss": -3.4, "valueLoss": 0.405 + 0.32, "loss": -3.4 + 0.0725, "clippedShare": 1}
    )
    assert new.grad.tolist() == near(-2.2, 0.0)
    assert values.grad.tolist() == near(-0.09, 0.0)


# What is read


def job(base: Path, folder: Path, **spec: Any) -> Job:
    return builders.rl_job(base, folder, rows=ROWS, method="ppo", **spec)


def networks(run: Job) -> ActorCritic:
    return ActorCritic(tuning.applied(model.load(run.config, run.places, run.precision), run), run)


def answers(run: Job, policy: Any) -> list[Sample]:
    """To prompts of different lengths, and themselves of different lengths."""
    rows: Any = run.task.training
    given = rollouts.answered(policy, run, rows[:6], seed=1)
    return [
        Sample(one.prompt, one.text, one.token_ids[: 2 + place], one.log_probabilities[: 2 + place], one.has_ended)
        for place, one in enumerate(given)
    ]


def test_only_the_answers_tokens_are_read_whatever_is_beside_them(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, ppo={"temperature": 0.7})
    found = networks(run)
    torch.nn.init.normal_(found.value_head.weight)
    given = answers(run, found.policy)
    assert len({len(one.prompt.token_ids) for one in given}) > 1
    with torch.no_grad():
        together = found.read(given)
        alone = [expected(found, one, 0.7) for one in given]
    for name, expectations in zip(("log_probabilities", "entropies", "values"), zip(*alone, strict=True), strict=True):
        assert getattr(together, name).tolist() == near(*torch.cat(expectations).tolist(), within=1e-4)
    assert together.log_probabilities.tolist() == near(
        *[score for one in given for score in one.log_probabilities], within=1e-4
    )


def expected(found: ActorCritic, one: Sample, temperature: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log probabilities, entropies and values of one answer, by a pass of its own without padding."""
    ids = torch.tensor([[*one.prompt.token_ids, *one.token_ids]])
    begin = len(one.prompt.token_ids) - 1
    output = found.policy(ids, output_hidden_states=True)
    spread = torch.distributions.Categorical(logits=output.logits[0, begin:-1] / temperature)
    values = found.value_head(output.hidden_states[-1][0, begin:-1])[:, 0]
    return spread.log_prob(torch.tensor(one.token_ids)), spread.entropy(), values


def test_an_answer_of_which_the_rewards_say_nothing_is_left_out(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path)
    found = networks(run)
    given = answers(run, found.policy)
    scored = [Scored(one, Scores({}, None if place % 2 else float(place), None)) for place, one in enumerate(given)]
    seen = ppo.judged(scored, found)
    assert {one.score: one.sample for one in seen} == {0.0: given[0], 2.0: given[2], 4.0: given[4]}
    assert [len(one.old) for one in seen] == [len(one.sample.token_ids) for one in seen]
    assert ppo.experiences(ppo.judged(scored[1:2], found), Ppo(), 0.05) == []


TUNINGS = [
    pytest.param({"lora": {"rank": 4, "alpha": 8}}, "the policy without its adapter", id="lora"),
    pytest.param({"full": {}}, "a copy", id="full"),
]


@pytest.mark.parametrize(("chosen", "reference"), TUNINGS)
def test_the_reference_stays_the_start_while_the_policy_moves(
    base: Path, tmp_path: Path, chosen: dict[str, Any], reference: str
) -> None:
    run = job(base, tmp_path, tuning=chosen)
    found = networks(run)
    assert run.progress.findings["memory"]["reference"].startswith(reference)
    given = answers(run, found.policy)
    with torch.no_grad():
        start = found.read(given).log_probabilities
        assert found.reference(given).tolist() == near(*start.tolist(), within=1e-4)
        for weight in found.trained:
            weight += 0.1
        assert found.reference(given).tolist() == near(*start.tolist(), within=1e-4)
        assert not torch.allclose(found.read(given).log_probabilities, start, atol=1e-2)


# Whole runs


def config(base: Path, folder: Path, **spec: Any) -> RunConfig:
    rows = builders.json_lines(folder / "rows.jsonl", ROWS)
    environment, numbers = spec.pop("environment", {}), spec.pop("hyperparameters", {})
    return builders.rl_run(
        base, rows, method="ppo", environment=SHORT | environment, hyperparameters={"warmupSteps": 0, **numbers}, **spec
    )


def trained(config: RunConfig, folder: Path, progress: Progress | None = None) -> tuple[TrainingReport, Progress]:
    progress = progress or Progress("double")
    return training.train(config, Places(claims=folder), progress, Stop()), progress


STEP_METRICS = {
    "loss",
    "policyLoss",
    "valueLoss",
    "explainedVariance",
    "reward",
    "rewardStd",
    "reward.length",
    "rewardStd.length",
    "entropy",
    "kl",
    "noSpreadShare",
    "clippedShare",
    "meanTokens",
    "maxTokens",
    "truncatedShare",
    "samplingMismatch",
    "rolloutSeconds",
    "trainingSeconds",
    "learningRate",
    "gradNorm",
}


@pytest.mark.parametrize("chosen", [each.values[0] for each in TUNINGS], ids=["lora", "full"])
def test_a_run_publishes_its_result_and_tells_every_step(base: Path, tmp_path: Path, chosen: dict[str, Any]) -> None:
    report, progress = trained(config(base, tmp_path, tuning=chosen), tmp_path)
    folder = Places(claims=tmp_path).path(report.artifact.uri)
    manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    assert (manifest.digest, list(differences(folder, manifest.files))) == (report.artifact.digest, [])
    assert not [name for name in manifest.files if "value" in str(name)]
    assert (report.steps_completed, report.steps_planned) == (3, 3)
    assert [step["step"] for step in progress.history] == [1, 2, 3]
    assert all(set(step) >= STEP_METRICS for step in progress.history)
    first, last = progress.history[0], progress.history[-1]
    assert (first["kl"], first["samplingMismatch"], first["clippedShare"]) == pytest.approx((0, 0, 0), abs=1e-5)
    assert last["kl"] > 1e-4
    assert first["policyLoss"] == pytest.approx(0, abs=1e-5), "the mean of whitened advantages"
    assert first["tokens"] > 8 * first["meanTokens"]
    assert json.loads((folder / "report.json").read_bytes())["memory"]["policy"].endswith(" weights")


@pytest.mark.parametrize(
    ("block", "epochs"),
    [
        pytest.param({}, [0.33, 0.67, 1.0], id="once"),
        pytest.param({"numIterations": 2}, [0.17, 0.33, 0.5, 0.67, 0.83, 1.0], id="again"),
        pytest.param({"miniBatches": 3, "numIterations": 2}, [0.17, 0.33, 0.5, 0.67, 0.83, 1.0], id="in parts"),
    ],
)
def test_an_epoch_asks_each_prompt_once(base: Path, tmp_path: Path, block: dict[str, int], epochs: list[float]) -> None:
    given = config(base, tmp_path, ppo=block, hyperparameters={"epochs": 1})
    run = Job(given, Places(claims=tmp_path), *prepared(given, tmp_path))
    progress = run.progress
    ppo.train(networks(run).policy, run)
    assert [round(step["epoch"], 2) for step in progress.history] == epochs
    generations = {step["samplingMismatch"] for step in progress.history}
    assert len(generations) == len(epochs) // (block.get("miniBatches", 1) * block.get("numIterations", 1))


def prepared(given: RunConfig, folder: Path) -> tuple[Any, ...]:
    from posttrain_trainer import task

    places, stop = Places(claims=folder), Stop()
    return task.prepare(given, places, stop), model.precision("auto"), Progress("double"), stop


def test_a_step_in_parts_is_the_same_step(base: Path, tmp_path: Path) -> None:
    def first(limit: int | None) -> dict[str, float]:
        numbers = {"maxSteps": 1, "gradientCheckpointing": limit is None, "maxTokensPerGpu": limit}
        run = job(base, tmp_path, environment=SHORT, hyperparameters=numbers)
        ppo.train(networks(run).policy, run)
        return run.progress.history[0]

    whole, parts = first(None), first(128)
    for name in ("loss", "policyLoss", "valueLoss", "gradNorm", "kl", "entropy"):
        assert parts[name] == pytest.approx(whole[name], abs=1e-5), name


def test_the_score_rises(base: Path, tmp_path: Path) -> None:
    digits = {"rewards": [{"builtin": "regex", "pattern": r"[\s\S]*[0-9][\s\S]*"}]}
    numbers = {"maxSteps": 15, "effectiveBatchSize": 64, "learningRate": 0.03, "gradientCheckpointing": False}
    given = config(
        base,
        tmp_path,
        environment=digits,
        hyperparameters=numbers,
        tuning={"full": {}},
        ppo={"maxCompletionTokens": 3},
    )
    _, progress = trained(given, tmp_path)
    first, last = (sum(step["reward"] for step in part) / 3 for part in (progress.history[:3], progress.history[-3:]))
    assert first < 0.4
    assert last > 0.7


def test_beta_follows_the_divergence_of_the_answers(base: Path, tmp_path: Path) -> None:
    _, progress = trained(config(base, tmp_path, ppo={"klTarget": 0.01, "beta": 0.5}), tmp_path)
    betas = [step["beta"] for step in progress.history]
    assert betas[:2] == near(0.5, 0.49), "answers of the start do not diverge"
    found = progress.history[1]["klOfAnswers"]
    assert betas[2] == pytest.approx(0.49 * (1 + 0.1 * min(max(found / 0.01 - 1, -0.2), 0.2)))


def test_early_stopping_and_named_checkpoints_are_those_of_the_other_methods(base: Path, tmp_path: Path) -> None:
    stopping = {"metrics": ["success"], "earlyStopping": {"metric": "success", "patience": 1, "everySteps": 1}}
    given = config(
        base,
        tmp_path,
        environment={"rewards": [*SHORT["rewards"], {"builtin": "numeric", "role": "success"}]},
        evaluation={**stopping, "maxCompletionTokens": 4},
        hyperparameters={"maxSteps": 6},
    )
    report, progress = trained(given.replace(checkpoints=Checkpoints(every_steps=1, keep=2)), tmp_path)
    assert (report.stopped_early, report.steps_completed, report.steps_planned) == (True, 2, 6)
    assert [named.name for named in report.checkpoints] == ["step-1", "step-2", "final", "best"]
    assert progress.history[0]["heldOut.success"] == 0


@pytest.fixture
def sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("sigterm")
def test_sigterm_ends_at_a_step_and_publishes_nothing(base: Path, tmp_path: Path) -> None:
    class Watched(Progress):
        def step(self, step: int, **numbers: Any) -> None:
            super().step(step, **numbers)
            if step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    stop = Stop()
    stop.listen()
    with pytest.raises(Stopped, match=r"^stopped by SIGTERM at step 2 of 3$"):
        training.train(config(base, tmp_path), Places(claims=tmp_path), Watched("double"), stop)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_reward_model_teaches(base: Path, tmp_path: Path) -> None:
    pairs = [{"prompt": f"Add {n}", "chosen": f"Please {n}", "rejected": f"Go {n} away"} for n in range(24)]
    rows = builders.json_lines(tmp_path / "pairs.jsonl", pairs)
    numbers = {"maxSteps": 2, "effectiveBatchSize": 4, "learningRate": 0.01, "maxLength": 128}
    judging = builders.run(base, rows, method="reward", hyperparameters=numbers)
    judge = training.train(judging, Places(claims=tmp_path / "judge"), Progress("double"), Stop()).artifact
    folder = Places(claims=tmp_path / "judge").path(judge.uri)
    given = config(base, tmp_path, environment={"rewards": [{"model": {"fromRun": {"name": "judge"}}}]})
    source = Source(run="judge", uri=f"file://{folder}", digest=judge.digest, kind=judge.kind)
    _, progress = trained(given.replace(sources={"environment.rewards.0": source}), tmp_path)
    first = progress.history[0]
    assert first["reward"] == first["reward.model"] != 0
    assert first["rewardStd"] > 0
    assert first["gradNorm"] > 0
