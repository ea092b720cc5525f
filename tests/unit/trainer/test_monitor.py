"""What is kept of a training while it learns from rewards: its steps, its distance from the start, its best weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from posttrain_api.v1alpha1.health import Health
from posttrain_trainer.examples import Prompt
from posttrain_trainer.model import Precision
from posttrain_trainer.progress import Progress
from posttrain_trainer.rl import health
from posttrain_trainer.rl.best_weights import BestWeights
from posttrain_trainer.rl.monitor import Monitor
from posttrain_trainer.rl.probe import Probe
from posttrain_trainer.rl.samples import Sample, Scored
from posttrain_trainer.scoring import Scores

PRECISION = Precision("cpu", "float32")


def scored(number: int, *, log_probabilities: Sequence[float] = (-0.5, -1.5)) -> Scored:
    """An answer of two tokens."""
    prompt = Prompt(number, [], [*[1] * number, 2, 3 + number], None, {})  # type: ignore[arg-type]
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


def test_a_training_that_goes_on_is_judged_with_the_steps_before(model: Any) -> None:
    progress = Progress("double")
    monitor = watching(progress)
    generation = [{"noSpreadShare": 1.0, "rolloutSeconds": 1.0}, {"noSpreadShare": 1.0}]
    taken = (health.NO_SPREAD_WINDOW - 2) * generation
    monitor.resume([{"step": number, **step} for number, step in enumerate(taken, start=1)])
    for step in (len(taken) + 1, len(taken) + 2):
        assert progress.status.health == []
        monitor.generated(model, [scored(0)], {"noSpreadShare": 1.0})
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
