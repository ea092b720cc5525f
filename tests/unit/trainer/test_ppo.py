"""Proximal policy optimization: what it learns from, by hand, and what it reads of a tiny base."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import builders

from posttrain_api.v1alpha1.methods import Ppo
from posttrain_trainer import model, tuning
from posttrain_trainer.job import Job
from posttrain_trainer.methods import ppo
from posttrain_trainer.rl import ppo_math, rollouts
from posttrain_trainer.rl.actor_critic import ActorCritic, Read
from posttrain_trainer.rl.samples import Sample, Scored
from posttrain_trainer.scoring import Scores

ROWS = [{"prompt": f"{'Please. ' * (number % 3)}Say {number}", "gold": "7"} for number in range(24)]


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


def test_the_value_model_learns_what_answers_are_worth(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path)
    found = networks(run)
    given = answers(run, found.policy)
    lengths = [len(one.token_ids) for one in given]
    nothing = [torch.zeros(length) for length in lengths]
    worth = [torch.full((length,), float(place % 2)) for place, length in enumerate(lengths)]
    lessons = [
        ppo.Experience(one, old, old, returns, old) for one, old, returns in zip(given, nothing, worth, strict=True)
    ]
    optimizer = torch.optim.AdamW(found.trained, lr=0.01)
    for _ in range(60):
        ppo.losses(found.read(given), lessons, Ppo(value_epsilon=100))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        assert ppo_math.explained_variance(found.read(given).values, torch.cat(worth)) > 0.9


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


# Steps


def test_a_step_in_parts_is_the_same_step(base: Path, tmp_path: Path) -> None:
    def first(limit: int | None) -> dict[str, float]:
        numbers = {"maxSteps": 1, "gradientCheckpointing": limit is None, "maxTokensPerGpu": limit}
        run = job(base, tmp_path, environment=builders.RL_SHORT, hyperparameters=numbers)
        ppo.train(networks(run).policy, run)
        return run.progress.history[0]

    whole, parts = first(None), first(128)
    for name in ("loss", "policyLoss", "valueLoss", "gradNorm", "kl", "entropy"):
        assert parts[name] == pytest.approx(whole[name], abs=1e-5), name


@pytest.mark.parametrize(
    ("block", "epochs"),
    [
        pytest.param({}, [0.33, 0.67, 1.0], id="once"),
        pytest.param({"numIterations": 2}, [0.17, 0.33, 0.5, 0.67, 0.83, 1.0], id="again"),
        pytest.param({"miniBatches": 3, "numIterations": 2}, [0.17, 0.33, 0.5, 0.67, 0.83, 1.0], id="in parts"),
    ],
)
def test_an_epoch_asks_each_prompt_once(base: Path, tmp_path: Path, block: dict[str, int], epochs: list[float]) -> None:
    run = job(base, tmp_path, environment=builders.RL_SHORT, ppo=block, hyperparameters={"epochs": 1})
    ppo.train(networks(run).policy, run)
    assert [round(step["epoch"], 2) for step in run.progress.history] == epochs
    generations = {step["samplingMismatch"] for step in run.progress.history}
    assert len(generations) == len(epochs) // (block.get("miniBatches", 1) * block.get("numIterations", 1))
    longest = 24 * block.get("numIterations", 1) * run.task.longest
    assert longest / 2 < run.progress.history[-1]["tokens"] <= longest, "each answer is learned from once in each turn"
