"""The numbers of proximal policy optimization, by hand."""

import math

import pytest
import torch

from posttrain_trainer.rl import ppo_math


def near(*expected: float) -> object:
    return pytest.approx(list(expected), abs=1e-6)


def test_the_score_stands_at_the_last_token_and_every_token_pays_for_its_divergence() -> None:
    rewards = ppo_math.token_rewards(1.0, torch.tensor([0.5, -0.25, 1.0]), 0.1)
    assert rewards.tolist() == near(-0.05, 0.025, 0.9)


@pytest.mark.parametrize(
    ("gamma", "gae_lambda", "expected"),
    [
        # What follows in all, less what was expected.
        pytest.param(1.0, 1.0, (0.5, 0.4, 0.3), id="the score alone is trusted"),
        # 0.6 - 0.5, 0.7 - 0.6, 1 - 0.7
        pytest.param(1.0, 0.0, (0.1, 0.1, 0.3), id="the next value alone is trusted"),
        # Errors 0.04, 0.03 and 0.3, each with 0.9 * 0.8 of what comes behind it.
        pytest.param(0.9, 0.8, (0.21712, 0.246, 0.3), id="both, and later is worth less"),
        # 0.81 - 0.5, 0.9 - 0.6, 1 - 0.7
        pytest.param(0.9, 1.0, (0.31, 0.3, 0.3), id="later is worth less"),
    ],
)
def test_advantages_of_three_tokens(gamma: float, gae_lambda: float, expected: tuple[float, ...]) -> None:
    found = ppo_math.advantages(
        torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.5, 0.6, 0.7]), gamma=gamma, gae_lambda=gae_lambda
    )
    assert found.tolist() == near(*expected)


def test_a_reward_in_the_middle_is_not_seen_by_the_tokens_behind_it() -> None:
    found = ppo_math.advantages(torch.tensor([0.0, 1.0, 0.0]), torch.zeros(3), gamma=0.5, gae_lambda=1.0)
    assert found.tolist() == near(0.5, 1.0, 0.0)


def test_whitened_numbers_have_mean_0_and_deviation_1() -> None:
    assert ppo_math.whitened(torch.tensor([1.0, 3.0])).tolist() == near(-1.0, 1.0)
    found = ppo_math.whitened(torch.tensor([-4.0, 1.0, 2.0, 9.0, 30.0]))
    assert (float(found.mean()), float(found.std(correction=0))) == (
        pytest.approx(0.0, abs=1e-6),
        pytest.approx(1.0, abs=1e-6),
    )


def test_numbers_that_are_all_the_same_are_0_when_they_are_whitened() -> None:
    assert ppo_math.whitened(torch.full((3,), 0.7)).tolist() == near(0.0, 0.0, 0.0)
    assert ppo_math.whitened(torch.tensor([5.0])).tolist() == near(0.0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope", "clipped"),
    [
        pytest.param(1.0, 2.0, -2.0, -2.0, False, id="nothing has changed"),
        pytest.param(1.1, 1.0, -1.1, -1.1, False, id="good and likelier within bounds"),
        pytest.param(1.5, 1.0, -1.2, 0.0, True, id="good and likelier beyond them: it gains no more"),
        pytest.param(0.5, 1.0, -0.5, -0.5, False, id="good and unlikelier: it is brought back"),
        pytest.param(0.9, -1.0, 0.9, 0.9, False, id="bad and unlikelier within bounds"),
        pytest.param(0.5, -1.0, 0.8, 0.0, True, id="bad and unlikelier beyond them: it gains no more"),
        pytest.param(1.5, -1.0, 1.5, 1.5, False, id="bad and likelier: it is brought back"),
        pytest.param(1.5, 0.0, 0.0, 0.0, False, id="neither good nor bad"),
    ],
)
def test_the_clipped_objective(ratio: float, advantage: float, loss: float, slope: float, clipped: bool) -> None:
    old, gained = torch.tensor([math.log(0.2)]), torch.tensor([advantage])
    new = (old + math.log(ratio)).requires_grad_(True)
    found = ppo_math.policy_loss(new, old, gained, 0.2)
    found.sum().backward()
    assert new.grad is not None
    assert (found.tolist(), new.grad.tolist()) == (near(loss), near(slope))
    assert ppo_math.is_clipped(new, old, gained, 0.2).tolist() == [clipped]


@pytest.mark.parametrize(
    ("value", "loss", "slope"),
    [
        pytest.param(0.1, 0.405, -0.9, id="within bounds: half the squared error"),
        pytest.param(0.5, 0.32, 0.0, id="nearer to the return beyond them: it gains no more"),
        pytest.param(-0.5, 1.125, -1.5, id="further from the return beyond them: it is brought back"),
    ],
)
def test_the_clipped_loss_of_a_value(value: float, loss: float, slope: float) -> None:
    new = torch.tensor([value], requires_grad=True)
    found = ppo_math.value_loss(new, torch.tensor([0.0]), torch.tensor([1.0]), 0.2)
    found.sum().backward()
    assert new.grad is not None
    assert (found.tolist(), new.grad.tolist()) == (near(loss), near(slope))


def test_the_divergence_of_a_token_is_never_below_0_and_its_mean_is_the_exact_one() -> None:
    now, start = torch.tensor([0.7, 0.3]), torch.tensor([0.4, 0.6])
    found = ppo_math.divergence((now / start).log())
    assert found.tolist() == near(4 / 7 - 1 + math.log(7 / 4), 2 - 1 - math.log(2))
    assert float((now * found).sum()) == pytest.approx(float((now * (now / start).log()).sum()))
    assert ppo_math.divergence(torch.zeros(1)).tolist() == [0.0]


@pytest.mark.parametrize(
    ("divergence", "beta"),
    [
        pytest.param(6.0, 0.05, id="at its target it stays"),
        pytest.param(6.6, 0.0505, id="a tenth above it rises by a hundredth"),
        pytest.param(60.0, 0.051, id="never by more than a fiftieth"),
        pytest.param(5.4, 0.0495, id="a tenth below it falls by a hundredth"),
        pytest.param(-1.0, 0.049, id="and never by more than a fiftieth"),
    ],
)
def test_beta_follows_the_divergence(divergence: float, beta: float) -> None:
    assert ppo_math.adapted(0.05, divergence=divergence, target=6.0) == pytest.approx(beta)


def test_explained_variance_is_1_for_true_values_and_0_for_a_mean() -> None:
    returns = torch.tensor([0.0, 1.0, 2.0])
    assert ppo_math.explained_variance(returns, returns) == 1.0
    assert ppo_math.explained_variance(torch.ones(3), returns) == 0.0
    assert ppo_math.explained_variance(returns + 5, returns) == 1.0, "an offset is no variance"
    assert not math.isfinite(ppo_math.explained_variance(returns, torch.ones(3)))
