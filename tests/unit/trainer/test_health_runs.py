"""Health while it trains: each rule is broken by its own cause in a tiny training, and one that stops gives the best
weights back."""

import json
import random
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.artifact import folder_name
from posttrain_api.trainer_contract import RunConfig, TrainingReport
from posttrain_api.v1alpha1.health import CONDITIONS, Health
from posttrain_api.v1alpha1.training_run import Checkpoints
from posttrain_trainer import training
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop
from posttrain_trainer.rl.best_weights import GENERATIONS

PAYS_A, PAYS_B = ({"builtin": "regex", "pattern": letter} for letter in "ab")
RIGHT = {"builtin": "exact", "role": "success"}
PAYS_LENGTH = [{"builtin": "length", "maxCharacters": most, "weight": -1} for most in (1, 2, 4)]


@pytest.fixture(scope="module")
def start(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned to answer with one to three letters, a more often than b."""
    folder = tmp_path_factory.mktemp("start")
    drawn = random.Random(0)
    rows = [
        {"prompt": f"Say {place % 64}", "completion": drawn.choice("aab") * drawn.choice((1, 1, 2, 3))}
        for place in range(1280)
    ]
    config = builders.run(
        base,
        builders.json_lines(folder / "rows.jsonl", rows),
        tuning={"full": {}},
        hyperparameters={"epochs": 1, "effectiveBatchSize": 16, "learningRate": 0.01, "maxLength": 64},
    )
    places = Places(claims=folder)
    return places.path(training.train(config, places, Progress("start"), Stop()).artifact.uri)


def config(start: Path, folder: Path, *, method: str = "grpo", gold: str = "a", **spec: Any) -> RunConfig:
    """A run on prompts whose right answer is always the same; `rewards` and `block`, the method's, are given, too."""
    rows = [{"prompt": f"Say {place}", "gold": gold} for place in range(64)]
    dataset = builders.json_lines(folder / "rows.jsonl", rows)
    numbers = {"maxLength": 64, "warmupSteps": 0, "scheduler": "constant", "gradientCheckpointing": False}
    own = {"overlongBufferTokens": 0} if method == "grpo" else {}
    wanted = {
        "method": method,
        "baseModel": {"uri": f"file://{start}", "tuned": True},
        "environment": {
            "dataset": {"uri": f"file://{dataset}"},
            "chatTemplate": {"inline": builders.CHATML},
            "rewards": spec.pop("rewards"),
            "allowNoSignal": True,
        },
        "tuning": {"full": {}},
        "hyperparameters": numbers | spec.pop("hyperparameters"),
        method: {"maxCompletionTokens": 8, **own, **spec.pop("block", {})},
    }
    return builders.run(start, dataset, **(wanted | spec))


def trained(chosen: RunConfig, folder: Path) -> tuple[TrainingReport, Progress]:
    progress = Progress("double")
    return training.train(chosen, Places(claims=folder), progress, Stop()), progress


def numbers(max_steps: int, rate: float, batch: int = 16) -> dict[str, Any]:
    return {"maxSteps": max_steps, "learningRate": rate, "effectiveBatchSize": batch}


CAUSES: Mapping[str, Mapping[str, Any]] = {
    "RewardHacking": {"rewards": [PAYS_B, RIGHT], "hyperparameters": numbers(24, 0.003, 32)},
    "EntropyCollapsed": {"rewards": [PAYS_A], "hyperparameters": numbers(42, 0.006, 32)},
    "LengthExplosion": {"rewards": PAYS_LENGTH, "hyperparameters": numbers(20, 0.01)},
    "KLDrift": {
        "rewards": [{"builtin": "regex", "pattern": "[^ab]+"}],
        "hyperparameters": numbers(16, 0.02),
        "block": {"temperature": 3.0},
    },
    "NoSignal": {
        "rewards": [{"builtin": "regex", "pattern": "never"}],
        # What changes nothing would not be published.
        "hyperparameters": {**numbers(20, 0.001), "weightDecay": 1.0},
    },
    "PolicyMismatch": {"rewards": [PAYS_B], "hyperparameters": numbers(6, 0.001)},
    "TrainingDiverged": {
        "method": "rloo",
        "rewards": [*PAYS_LENGTH, {"builtin": "regex", "pattern": ".{6,}", "weight": 1000}],
        "hyperparameters": numbers(12, 0.0015, 32),
        "block": {"beta": 0.0},
    },
}
"""Rule -> a training that breaks it: it pays for what is wrong, for one answer only, for long answers, for what never
comes, or far more for one thing than for all others."""


def with_dropout(start: Path, folder: Path) -> Path:
    """A base that computes otherwise while it learns than while it answers, by a dropout that TRL does not see."""
    found = shutil.copytree(start, folder / "base")
    settings = json.loads((found / "config.json").read_text())
    (found / "config.json").write_text(json.dumps({**settings, "attention_dropout": 0.9}))
    return found


def test_there_is_a_cause_for_each_rule() -> None:
    assert set(CAUSES) == {rule.value for rule in CONDITIONS.values()}


@pytest.mark.parametrize("rule", CAUSES)
def test_a_rule_is_broken_by_its_cause(rule: str, start: Path, tmp_path: Path) -> None:
    warns = Health(**dict.fromkeys(Health.model_fields, "Warn")).to_json()
    begin = with_dropout(start, tmp_path) if rule == "PolicyMismatch" else start
    report, progress = trained(config(begin, tmp_path, health=warns, **CAUSES[rule]), tmp_path)
    found = {finding.rule: finding for finding in report.health}
    assert rule in found
    assert "since step" in found[rule].message
    assert not found[rule].stopped
    assert (report.stopped_early, report.steps_completed) == (False, report.steps_planned)
    assert progress.status.health == report.health
    assert rule in progress.history[found[rule].step - 1]["health"]
    assert rule not in progress.history[found[rule].step - 2].get("health", [])
    assert progress.registry.get_sample_value("posttrain_trainer_health", {"rule": rule}) == 1.0


@pytest.mark.parametrize("method", ["grpo", "rloo", "ppo"])
def test_a_training_in_good_health_breaks_none(method: str, start: Path, tmp_path: Path) -> None:
    block = {} if method == "grpo" else {"beta": 0.05}
    chosen = config(
        start,
        tmp_path,
        method=method,
        rewards=[{"builtin": "exact"}, RIGHT],
        hyperparameters=numbers(12, 0.002, 32),
        block=block,
    )
    report, progress = trained(chosen, tmp_path)
    assert report.health == []
    assert all("health" not in step for step in progress.history)
    rules = [rule.value for rule in CONDITIONS.values()]
    assert [progress.registry.get_sample_value("posttrain_trainer_health", {"rule": rule}) for rule in rules] == [0] * 7
    for name in ("reward", "success", "entropy", "kl", "noSpreadShare", "meanTokens", "samplingMismatch", "gradNorm"):
        assert None not in [step[name] for step in progress.history], name
    assert undocumented(progress.history) == set()
    assert max(step["samplingMismatch"] for step in progress.history) < 1e-4
    assert 0 <= progress.history[0]["kl"] < progress.history[-1]["kl"] < 1


def undocumented(history: Sequence[Mapping[str, Any]]) -> set[str]:
    """Names of metrics that docs/metrics/trainer.md does not explain."""
    text = (Path(__file__).parents[3] / "docs" / "metrics" / "trainer.md").read_text()
    names = {name for step in history for name in step} - {"step", "epoch", "tokens", "seconds"}
    return {name for name in names if f"`{name.partition('.')[0]}" not in text}


def test_a_rule_that_stops_publishes_the_weights_that_answered_best(start: Path, tmp_path: Path) -> None:
    chosen = config(start, tmp_path, health={"rewardHacking": "Stop"}, **CAUSES["RewardHacking"])
    chosen = chosen.replace(checkpoints=Checkpoints(every_steps=100))
    report, progress = trained(chosen, tmp_path)
    assert [(finding.rule, finding.stopped) for finding in report.health] == [("RewardHacking", True)]
    assert report.stopped_early
    assert report.steps_completed == report.health[0].step < report.steps_planned
    means = moving_means([step["success"] for step in progress.history], GENERATIONS)
    best = progress.findings["bestAnswers"]
    assert best == {"metric": "success", "bestStep": means.index(max(means)) + GENERATIONS - 1, "bestValue": max(means)}
    digests = {named.name: named.digest for named in report.checkpoints}
    assert digests.keys() == {"final", "best"}
    assert digests["best"] == report.artifact.digest != digests["final"]
    folder = tmp_path / "out" / "double" / folder_name(report.artifact.digest)
    written = json.loads((folder / "report.json").read_text())
    assert written["training"]["health"] == [finding.to_json() for finding in report.health]
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["health"]) == (report.steps_completed, ["RewardHacking"])
    text = (folder / "README.md").read_text()
    assert f"the weights of step {best['bestStep']}, whose answers had a success of" in text
    assert f"RewardHacking ended the training at step {report.steps_completed}: {report.health[0].message}" in text


def moving_means(values: Sequence[float], width: int) -> list[float]:
    """Of each `width` values that follow each other."""
    return [statistics.fmean(values[place : place + width]) for place in range(len(values) - width + 1)]
