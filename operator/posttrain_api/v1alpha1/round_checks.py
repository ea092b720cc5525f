"""What must hold between the fields of a spec, and of the recipe of each of its rounds: a patch may change them."""

from typing import Any

from posttrain_api.model import Check
from posttrain_api.v1alpha1.hyperparameters import effective_batch_size


def _whole_groups(name: str) -> Check:
    batch, size = "self.hyperparameters.effectiveBatchSize", f"self.{name}.groupSize"

    def holds(spec: Any) -> bool:
        block, given = getattr(spec, name), spec.hyperparameters.effective_batch_size
        return block is None or (given or effective_batch_size(name)) % block.group_size == 0

    return Check(
        f"!has(self.{name}) || (has({batch}) ? {batch} : {effective_batch_size(name)}) % {size} == 0",
        holds,
        f"a step holds whole groups: make hyperparameters.effectiveBatchSize, {effective_batch_size(name)} where it is "
        f"left out, a multiple of {name}.groupSize",
    )


def _adapters_are_served(name: str) -> Check:
    """What answers beside the trainer takes adapters only."""
    asked = f"has(self.{name}) && has(self.{name}.rollout.mode) && self.{name}.rollout.mode == 'server'"
    other = (
        "has(self.tuning) && (has(self.tuning.full) || has(self.tuning.osft) || "
        "(has(self.tuning.lora) && self.tuning.lora.dora))"
    )

    def holds(spec: Any) -> bool:
        block, lora = getattr(spec, name), spec.tuning.lora
        is_other = spec.tuning.full or spec.tuning.osft or (lora and lora.dora)
        return block is None or block.rollout.mode != "server" or not is_other

    return Check(
        f"!({asked}) || !({other})",
        holds,
        f"{name}.rollout.mode server gets an adapter for each step: write tuning.lora without dora, or another mode",
    )


ROUND_CHECKS = (
    *(_whole_groups(name) for name in ("grpo", "rloo")),
    *(_adapters_are_served(name) for name in ("grpo", "rloo")),
    Check(
        "!has(self.ppo) || !has(self.ppo.rollout.mode) || self.ppo.rollout.mode != 'server'",
        lambda spec: spec.ppo is None or spec.ppo.rollout.mode != "server",
        "ppo.rollout.mode server is not there for ppo: write transformers or colocate, or leave it out",
    ),
)
