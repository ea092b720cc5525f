"""What must hold between the fields of a spec, and of the recipe of each of its rounds: a patch may change them."""

from typing import Any

from posttrain_api.model import Check
from posttrain_api.v1alpha1.hyperparameters import effective_batch_size
from posttrain_api.v1alpha1.methods import Grpo, Rloo


def _whole_groups(name: str, *, usual: int) -> Check:
    """usual: the size of a group where the block is left out."""
    batch, size = "self.hyperparameters.effectiveBatchSize", f"(has(self.{name}) ? self.{name}.groupSize : {usual})"

    def holds(spec: Any) -> bool:
        block, given = getattr(spec, name), spec.hyperparameters.effective_batch_size
        group_size = usual if block is None else block.group_size
        return spec.method != name or (given or effective_batch_size(name)) % group_size == 0

    return Check(
        f"self.method != '{name}' || (has({batch}) ? {batch} : {effective_batch_size(name)}) % {size} == 0",
        holds,
        f"a step holds whole groups: make hyperparameters.effectiveBatchSize, {effective_batch_size(name)} where it is "
        f"left out, a multiple of {name}.groupSize, {usual} where it is left out",
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
    _whole_groups("grpo", usual=Grpo().group_size),
    _whole_groups("rloo", usual=Rloo().group_size),
    *(_adapters_are_served(name) for name in ("grpo", "rloo")),
    Check(
        "!has(self.ppo) || !has(self.ppo.rollout.mode) || self.ppo.rollout.mode != 'server'",
        lambda spec: spec.ppo is None or spec.ppo.rollout.mode != "server",
        "ppo.rollout.mode server is not there for ppo: write transformers, or leave it out",
    ),
)
