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
import torch
from tests.unit.trainer import builders
from transformers import AutoModelForCausalLM

from posttrain_api.artifact import folder_name
from posttrain_api.trainer_contract import RunConfig, TrainingReport
from posttrain_api.v1alpha1.health import CONDITIONS, Health
from posttrain_api.v1alpha1.training_run import Checkpoints
from posttrain_trainer import training
from posttrain_trainer.examples import Prompt
from posttrain_trainer.model import Precision
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop
from posttrain_trainer.rl import health
from posttrain_trainer.rl.best_weights import GENERATIONS, BestWeights
from posttrain_trainer.rl.monitor import Monitor
from posttrain_trainer.rl.probe import Probe
from posttrain_trainer.rl.samples import Sample, Scored
from posttrain_trainer.scoring import Scores

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
    assert max(step["samplingMismatch"] for step in progress.history) < 1e-4
    assert 0 <= progress.history[0]["kl"] < progress.history[-1]["kl"] < 1


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


PRECISION = Precision("cpu", "float32")


def scored(number: int, *, log_probabilities: Sequence[float] = (-0.5, -1.5)) -> Scored:
    """An answer of two tokens."""
    prompt = Prompt(number, [], [1, 2, 3 + number], None, {})  # type: ignore[arg-type]
    tokens = [97 + number, 258]
    return Scored(Sample(prompt, "a", tokens, log_probabilities, has_ended=True), Scores({}, 1.0, None))


def watching(progress: Progress, **actions: str) -> Monitor:
    progress.begin_training(total_steps=50)
    return Monitor(Health(**actions), progress, pad=0, precision=PRECISION)


@pytest.fixture
def model(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base)


def test_weights_that_are_no_numbers_any_more_are_replaced_by_the_best(model: Any) -> None:
    progress = Progress("double")
    monitor = watching(progress)
    weight = model.model.norm.weight
    for step, success in enumerate([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.0, 0.0]):
        weight.data.fill_(1 + step)
        monitor.generated(model, [scored(0)], {"success": success, "reward": float(step)})
        progress.step(step + 1, epoch=0.0, tokens=0, metrics=monitor.step(step + 1, {"loss": 0.1, "gradNorm": 1.0}))
    weight.data.fill_(float("nan"))
    monitor.step(9, {"loss": None, "gradNorm": None})
    assert monitor.has_stopped
    monitor.on_train_end(None, None, None, model=model)
    assert monitor.has_restored
    # Of each five generations, the third to the sixth and the fourth to the seventh do not come up to the second's.
    assert weight.tolist() == [6.0] * len(weight)
    assert progress.findings["bestAnswers"] == {"metric": "success", "bestStep": 5, "bestValue": pytest.approx(0.4)}


def test_where_early_stopping_keeps_the_best_weights_no_others_are_given_back(model: Any) -> None:
    monitor = Monitor(Health(), Progress("double"), pad=0, precision=PRECISION, keeps_best=False)
    for step in range(1, 8):
        monitor.generated(model, [scored(0)], {"reward": 1.0})
        monitor.step(step, {"loss": None})
    monitor.on_train_end(None, None, None, model=model)
    assert (monitor.has_stopped, monitor.has_restored) == (True, False)


def test_a_step_shows_what_its_generation_shows_and_what_its_method_does_not_give(model: Any) -> None:
    monitor = watching(Progress("double"))
    monitor.generated(
        model, [scored(0), scored(1, log_probabilities=[-2.0, 0.0])], {"reward": 1.0, "rolloutSeconds": 3}
    )
    found = monitor.step(1, {"loss": 0.1})
    assert found == {"reward": 1.0, "entropy": 1.0, "kl": pytest.approx(0, abs=1e-6), "loss": 0.1}
    assert monitor.step(2, {"loss": 0.2, "entropy": 0.7, "kl": 0.3, "reward": 2.0}) == {
        "reward": 2.0,
        "entropy": 0.7,
        "kl": 0.3,
        "loss": 0.2,
    }


def test_steps_that_learn_from_the_same_answers_are_judged_as_one(model: Any) -> None:
    progress = Progress("double")
    monitor = watching(progress)
    for step in range(1, 2 * health.NO_SPREAD_WINDOW):
        if step % 2:
            monitor.generated(model, [scored(0)], {"noSpreadShare": 1.0})
        assert progress.status.health == []
        monitor.step(step, {"loss": 0.1})
    assert [finding.rule for finding in progress.status.health] == ["NoSignal"]


def test_a_rule_stays_broken_for_a_while(model: Any) -> None:
    progress = Progress("double")
    monitor = watching(progress)
    shown = []
    for step, mismatch in enumerate([1.0] * 5 + [0.0] * 12, start=1):
        monitor.generated(model, [scored(0)], {})
        monitor.step(step, {"samplingMismatch": mismatch})
        shown.append([(finding.rule, finding.step) for finding in progress.status.health])
    assert shown == [[]] * 4 + [[("PolicyMismatch", 5)]] * (1 + health.WINDOW) + [[]] * 2


def test_the_distance_is_the_divergence_at_the_start_s_own_answers(model: Any) -> None:
    answers = [scored(number).sample for number in range(2)]
    probe = Probe(model.train(), answers, pad=0, precision=PRECISION)
    assert probe.distance(model) == pytest.approx(0, abs=1e-6)
    assert model.training
    kept = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    found = probe.distance(model)
    moved = [distributions(model, answer) for answer in answers]
    model.load_state_dict(kept)
    start = [distributions(model, answer) for answer in answers]
    by_hand = torch.nn.functional.kl_div(torch.cat(start), torch.cat(moved), log_target=True, reduction="none").sum(1)
    assert found == pytest.approx(float(by_hand.mean()), rel=1e-4)
    assert found > 0.01


def distributions(model: Any, sample: Sample) -> torch.Tensor:
    """Log probabilities of every token where an answer's own stand, shape [length, vocabulary]."""
    prompt = list(sample.prompt.token_ids)
    with torch.no_grad():
        logits = model.eval()(torch.tensor([[*prompt, *sample.token_ids]])).logits[0]
    found: torch.Tensor = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return found


def test_a_few_tokens_of_a_few_answers_are_looked_at(model: Any) -> None:
    long = [scored(number % 20).sample for number in range(60)]
    probe = Probe(model, long, pad=0, precision=PRECISION)
    assert probe.num_places == 8 * 2


@pytest.mark.parametrize(
    ("values", "best_step", "value"),
    [
        pytest.param([1.0, 0.0, 0.0, 0.0], None, float("-inf"), id="too few to judge"),
        pytest.param([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0], 5, 0.4, id="the later of two that are as good counts not"),
        pytest.param([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], 4, 1.0, id="the start was best"),
        pytest.param([0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0], 5, 1.0, id="one lucky generation"),
    ],
)
def test_the_best_of_several_generations_together_counts(
    values: list[float], best_step: int | None, value: float
) -> None:
    best = BestWeights()
    layer = torch.nn.Linear(2, 2)
    for step, reached in enumerate(values):
        torch.nn.init.constant_(layer.weight, step)
        best.answered(layer, reached, step=step, total_steps=10)
    assert (best.step, best.value) == (best_step, pytest.approx(value))
    assert best.give_back(layer) == (best_step is not None)
    assert layer.weight.mean().item() == (len(values) - 1 if best_step is None else best_step)


def test_weights_are_written_at_most_fifty_times() -> None:
    best = BestWeights()
    layer = torch.nn.Linear(2, 2)
    for step in range(100):
        best.answered(layer, float(step), step=step, total_steps=500)
    assert best.step == 94
