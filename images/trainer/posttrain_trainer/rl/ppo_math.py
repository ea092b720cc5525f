"""The numbers of proximal policy optimization, without a model: Schulman and others, 2016 and 2017.

The tokens of several answers stand one after another: there is no padding and no mask.
"""

import torch

_MAX_ERROR = 0.2
_ADAPTATION = 0.1
"""Ziegler and others, 2019: how much of an error of the divergence counts, and how much of that changes beta."""


def token_rewards(score: float, log_ratio: torch.Tensor, beta: float) -> torch.Tensor:
    """What each token of an answer earns, shape [length]: its divergence from the start costs beta, and the last one
    earns the score. `log_ratio`: log probability less that of the start, shape [length]."""
    rewards = -beta * log_ratio
    rewards[-1] += score
    return rewards


def advantages(rewards: torch.Tensor, values: torch.Tensor, *, gamma: float, gae_lambda: float) -> torch.Tensor:
    """By how much each token of an answer did better than was expected before it, shape [length].

    Generalized advantage estimation. Nothing comes after the last token, also where the answer was cut off.
    """
    found: list[float] = []
    latest, after = 0.0, 0.0
    for reward, value in zip(reversed(rewards.tolist()), reversed(values.tolist()), strict=True):
        latest = reward + gamma * after - value + gamma * gae_lambda * latest
        after = value
        found.append(latest)
    return torch.tensor(found[::-1], device=values.device)


def whitened(numbers: torch.Tensor) -> torch.Tensor:
    """Scaled to mean 0 and deviation 1; numbers that are all the same are 0."""
    return (numbers - numbers.mean()) * torch.rsqrt(numbers.var(correction=0) + 1e-8)


def policy_loss(new: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Of each token, from its log probabilities, shape [tokens]: none of them gains by a change beyond epsilon."""
    ratio = (new - old).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages)


def is_clipped(new: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Whether a token counts no more, because it has changed by epsilon already, shape [tokens]."""
    ratio = (new - old).exp()
    return torch.where(advantages > 0, ratio > 1 + epsilon, (ratio < 1 - epsilon) & (advantages < 0))


def value_loss(new: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Of each token, shape [tokens]: half the squared error, which falls no more by a change beyond epsilon."""
    near = old + (new - old).clamp(-epsilon, epsilon)
    return 0.5 * torch.maximum((new - returns) ** 2, (near - returns) ** 2)


def divergence(log_ratio: torch.Tensor) -> torch.Tensor:
    """Of each token in nats, never below 0: Schulman's k3, whose mean is the divergence too, with less variance."""
    return torch.exp(-log_ratio) - 1 + log_ratio


def explained_variance(values: torch.Tensor, returns: torch.Tensor) -> float:
    """Share of the returns' variance that the values foretold; NaN or infinite where the returns have none."""
    found = 1 - (returns - values).var(correction=0) / returns.var(correction=0)
    return float(found)


def adapted(beta: float, *, divergence: float, target: float) -> float:
    """Beta after answers with this divergence: higher where it was more than the target."""
    error = min(max(divergence / target - 1, -_MAX_ERROR), _MAX_ERROR)
    return beta * (1 + _ADAPTATION * error)
