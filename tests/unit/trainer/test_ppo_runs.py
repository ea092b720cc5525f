"""Whole runs of proximal policy optimization on a tiny base: what they teach, publish and tell."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders
from tests.unit.trainer.test_ppo import ROWS, near

from posttrain_api.artifact import MANIFEST_FILE, Manifest, differences
from posttrain_api.trainer_contract import RunConfig, Source, TrainingReport
from posttrain_api.v1alpha1.training_run import Checkpoints
from posttrain_trainer import model, task, training, tuning
from posttrain_trainer.job import Job
from posttrain_trainer.methods import ppo
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop, Stopped


def config(base: Path, folder: Path, **spec: Any) -> RunConfig:
    rows = builders.json_lines(folder / "rows.jsonl", ROWS)
    environment = builders.RL_SHORT | spec.pop("environment", {})
    numbers = {"warmupSteps": 0, **spec.pop("hyperparameters", {})}
    return builders.rl_run(base, rows, method="ppo", environment=environment, hyperparameters=numbers, **spec)


def trained(config: RunConfig, folder: Path, progress: Progress | None = None) -> tuple[TrainingReport, Progress]:
    progress = progress or Progress("double")
    return training.train(config, Places(claims=folder), progress, Stop()), progress


OWN_METRICS = {"policyLoss", "valueLoss", "explainedVariance", "reward.length", "rewardStd.length"}


@pytest.mark.parametrize("chosen", [{"lora": {"rank": 4, "alpha": 8}}, {"full": {}}], ids=["lora", "full"])
def test_a_run_publishes_its_result_and_tells_every_step(base: Path, tmp_path: Path, chosen: dict[str, Any]) -> None:
    report, progress = trained(config(base, tmp_path, tuning=chosen), tmp_path)
    folder = Places(claims=tmp_path).path(report.artifact.uri)
    manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    assert (manifest.digest, list(differences(folder, manifest.files))) == (report.artifact.digest, [])
    assert not [name for name in manifest.files if "value" in str(name)]
    assert (report.steps_completed, report.steps_planned) == (3, 3)
    assert [step["step"] for step in progress.history] == [1, 2, 3]
    assert all(set(step) >= builders.RL_METRICS | OWN_METRICS for step in progress.history)
    first, last = progress.history[0], progress.history[-1]
    assert (first["kl"], first["samplingMismatch"], first["clippedShare"]) == pytest.approx((0, 0, 0), abs=1e-5)
    assert last["kl"] > 1e-4
    assert first["policyLoss"] == pytest.approx(0, abs=1e-5), "the mean of whitened advantages"
    assert first["tokens"] > 8 * first["meanTokens"]
    assert json.loads((folder / "report.json").read_bytes())["memory"]["policy"].endswith(" weights")


def test_whole_weights_without_beta_need_no_copy_of_the_start(base: Path, tmp_path: Path) -> None:
    _, progress = trained(config(base, tmp_path, tuning={"full": {}}, ppo={"beta": 0}), tmp_path)
    assert progress.findings["memory"]["reference"] == "none, as ppo.beta is 0"
    assert [step["kl"] > 0 for step in progress.history] == [True] * 3, "measured on answers of the start"


def test_the_score_rises(base: Path, tmp_path: Path) -> None:
    block = {"maxCompletionTokens": 4, "gaeLambda": 1.0}
    _, progress = trained(config(base, tmp_path, ppo=block, **builders.RL_LESSON), tmp_path)
    scores = [step["reward"] for step in progress.history]
    assert statistics.fmean(scores[:3]) < 0.2
    assert statistics.fmean(scores[-3:]) > 0.4


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
        environment={"rewards": [*builders.RL_SHORT["rewards"], {"builtin": "numeric", "role": "success"}]},
        evaluation={**stopping, "maxCompletionTokens": 4},
        hyperparameters={"maxSteps": 6},
    )
    report, progress = trained(given.replace(checkpoints=Checkpoints(every_steps=1, keep=2)), tmp_path)
    assert (report.stopped_early, report.steps_completed, report.steps_planned) == (True, 2, 6)
    assert [named.name for named in report.checkpoints] == ["step-1", "step-2", "final", "best"]
    assert progress.history[0]["heldOut.success"] == 0


def test_sigterm_ends_at_a_step_and_publishes_nothing(base: Path, tmp_path: Path) -> None:
    stop = Stop()

    class Watched(Progress):
        def step(self, step: int, **numbers: Any) -> None:
            super().step(step, **numbers)
            stop.requested = step == 2

    with pytest.raises(Stopped, match=r"^stopped by SIGTERM at step 2 of 3$"):
        training.train(config(base, tmp_path), Places(claims=tmp_path), Watched("double"), stop)
    assert list((tmp_path / "out").iterdir()) == []


def prepared(config: RunConfig, places: Places) -> Job:
    stop = Stop()
    return Job(config, places, task.prepare(config, places, stop), model.precision("auto"), Progress("double"), stop)


def test_a_reward_model_teaches(base: Path, tmp_path: Path) -> None:
    pairs = [{"prompt": f"Add {n}", "chosen": f"Please {n}", "rejected": f"Go {n} away"} for n in range(24)]
    rows = builders.json_lines(tmp_path / "pairs.jsonl", pairs)
    numbers = {"maxSteps": 2, "effectiveBatchSize": 4, "learningRate": 0.01, "maxLength": 128}
    judging = builders.run(base, rows, method="reward", hyperparameters=numbers)
    judge = training.train(judging, Places(claims=tmp_path / "judge"), Progress("double"), Stop()).artifact
    folder = Places(claims=tmp_path / "judge").path(judge.uri)
    # Without a right answer there is nothing that so small a judge would have to prefer.
    dataset = {"uri": f"file://{tmp_path / 'rows.jsonl'}", "columns": {"gold": "wanted"}}
    rewards = [{"model": {"fromRun": {"name": "judge"}}}]
    given = config(base, tmp_path, environment={"rewards": rewards, "dataset": dataset})
    source = Source(run="judge", uri=f"file://{folder}", digest=judge.digest, kind=judge.kind)
    # A judge of two steps is refused before a whole run begins: it can be cheated.
    run = prepared(given.replace(sources={"environment.rewards.0": source}), Places(claims=tmp_path))
    ppo.train(tuning.applied(model.load(run.config, run.places, run.precision), run), run)
    first = run.progress.history[0]
    assert first["reward"] == first["reward.model"] != 0
    assert first["rewardStd"] > 0
    assert first["gradNorm"] > 0
