"""Answers of a model while it learns, drawn from its own distribution."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from peft.tuners.lora import Linear
from tests.unit.trainer import builders

from posttrain_trainer import model, tuning
from posttrain_trainer.examples import Prompt
from posttrain_trainer.job import Job
from posttrain_trainer.rl import rollouts
from posttrain_trainer.rl.samples import Sample

LORA = {"lora": {"rank": 4, "alpha": 8}}


def job(base: Path, tmp_path: Path, *, tuning: Mapping[str, Any] = MappingProxyType(LORA), **block: Any) -> Job:
    rows = [{"prompt": f"{'Say it. ' * (number % 3)}Say {number}", "gold": str(number)} for number in range(12)]
    return builders.rl_job(base, tmp_path, rows=rows, grpo=block, tuning=dict(tuning))


def prompts(run: Job) -> list[Prompt]:
    return [row for row in run.task.training if isinstance(row, Prompt)]


def scored(policy: Any, sample: Sample, temperature: float) -> list[float]:
    """Log probability of each token of an answer, by one forward pass without a cache or padding."""
    ids = torch.tensor([[*sample.prompt.token_ids, *sample.token_ids]])
    with torch.no_grad():
        logits = policy(ids).logits[0, len(sample.prompt.token_ids) - 1 : -1] / temperature
    found: list[float] = logits.log_softmax(-1).gather(1, torch.tensor(sample.token_ids)[:, None])[:, 0].tolist()
    return found


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_those_of_the_distribution_that_was_drawn_from(
    base: Path, tmp_path: Path, temperature: float
) -> None:
    run = job(base, tmp_path, maxCompletionTokens=10, temperature=temperature)
    policy = tuning.applied(model.load(run.config, run.places, run.precision), run)
    found = rollouts.answered(policy, run, prompts(run), seed=1)
    assert [sample.prompt for sample in found] == prompts(run)
    for sample in found:
        assert sample.log_probabilities == pytest.approx(scored(policy, sample, temperature), abs=1e-4)
        assert 1 <= len(sample.token_ids) <= 10


def ended(run: Job, found: Sequence[Sample]) -> list[bool]:
    return [sample.token_ids[-1] in run.task.chat.end_of_turn for sample in found]


def test_an_answer_holds_its_end_of_turn_and_its_text_does_not(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, maxCompletionTokens=40, temperature=3.0)
    policy = model.load(run.config, run.places, run.precision)
    found = rollouts.answered(policy, run, prompts(run) * 8, seed=1)
    assert ended(run, found) == [sample.has_ended for sample in found]
    assert 0 < sum(ended(run, found)) < len(found)
    assert {len(sample.token_ids) for sample in found if not sample.has_ended} == {40}
    for sample in found:
        assert not set(sample.token_ids[:-1]) & set(run.task.chat.end_of_turn)
        assert "<|im_end|>" not in sample.text


def test_the_same_seed_answers_the_same_and_nothing_else_is_touched(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, maxCompletionTokens=6)
    policy = tuning.applied(model.load(run.config, run.places, run.precision), run)
    policy.gradient_checkpointing_enable()
    policy.train()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same, other = (rollouts.answered(policy, run, prompts(run), seed=seed) for seed in (1, 1, 2))
    assert [sample.token_ids for sample in one] == [sample.token_ids for sample in same]
    assert [sample.token_ids for sample in one] != [sample.token_ids for sample in other]
    assert torch.equal(torch.get_rng_state(), state)
    assert policy.training
    assert policy.is_gradient_checkpointing


def test_several_answers_to_one_prompt_differ(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, maxCompletionTokens=6)
    policy = model.load(run.config, run.places, run.precision)
    found = rollouts.answered(policy, run, prompts(run)[:1] * 8, seed=1)
    assert len({tuple(sample.token_ids) for sample in found}) > 1


def moved(policy: Any) -> dict[str, torch.Tensor]:
    """The weights of an adapter that says something; a fresh one adds nothing."""
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.05)
    return {name: weight.clone() for name, weight in policy.state_dict().items()}


@pytest.mark.parametrize("lora", [{}, {"dora": True}], ids=["lora", "dora"])
def test_a_model_answers_with_its_adapter_and_is_the_same_afterwards(
    base: Path, tmp_path: Path, lora: dict[str, Any]
) -> None:
    run = job(base, tmp_path, tuning={"lora": {**LORA["lora"], **lora}}, maxCompletionTokens=10)
    policy = tuning.applied(model.load(run.config, run.places, run.precision), run)
    before = moved(policy)
    found = rollouts.answered(policy, run, prompts(run), seed=1)
    assert all(torch.equal(weight, before[name]) for name, weight in policy.state_dict().items())
    for sample in found:
        assert sample.log_probabilities == pytest.approx(scored(policy, sample, 1.0), abs=1e-4)
    with policy.disable_adapter():
        assert sample.log_probabilities != pytest.approx(scored(policy, sample, 1.0), abs=1e-2)


def test_a_plain_adapter_is_in_the_weights_while_the_model_answers(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, maxCompletionTokens=6)
    policy = tuning.applied(model.load(run.config, run.places, run.precision), run)
    seen: list[bool] = []
    layers = [layer for layer in policy.modules() if isinstance(layer, Linear)]
    rollouts.answered(policy, run, prompts(run), seed=1, between=lambda: seen.extend(one.merged for one in layers))
    assert seen
    assert all(seen)
    assert not any(layer.merged for layer in layers)
