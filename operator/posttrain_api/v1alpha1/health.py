"""What is watched while a model learns from rewards, and what follows."""

from typing import Annotated, Literal

from pydantic import Field

from posttrain_api.conditions import Reason
from posttrain_api.model import Model

Action = Literal["Warn", "Stop"]


class Health(Model):
    """What follows where a rule is broken. Warn: a condition says so. Stop: the training ends as well, and the best
    weights until then are its result."""

    entropy_collapse: Action = "Warn"
    """The model has become sure of every token: it tries nothing any more."""
    no_signal: Action = "Warn"
    """All answers to a prompt score the same, for most prompts and many steps: nothing is learned."""
    kl_drift: Action = "Warn"
    """The model has moved far from its start."""
    reward_hacking: Action = "Warn"
    """The score rises while success falls."""
    length_explosion: Action = "Warn"
    """Answers grow until they are cut off."""
    policy_mismatch: Action = "Warn"
    """What answers and what is trained are not the same model any more."""
    training_diverged: Action = "Stop"
    """The loss or its gradient is out of all bounds."""


CONDITIONS = {
    "entropy_collapse": Reason.ENTROPY_COLLAPSED,
    "no_signal": Reason.NO_SIGNAL,
    "kl_drift": Reason.KL_DRIFT,
    "reward_hacking": Reason.REWARD_HACKING,
    "length_explosion": Reason.LENGTH_EXPLOSION,
    "policy_mismatch": Reason.POLICY_MISMATCH,
    "training_diverged": Reason.TRAINING_DIVERGED,
}
"""Attribute of Health -> type of the condition, which is its reason too."""


class HealthFinding(Model):
    """A rule that is broken."""

    rule: Annotated[str, Field(max_length=64)]
    """Type of the condition, such as EntropyCollapsed."""
    message: Annotated[str, Field(max_length=512)]
    """The numbers, since which step, and what to do."""
    step: int
    """The step at which it was broken first."""
    stopped: bool = False
    """It ended the training."""
