"""Which weights move: the base model made ready to be trained as a recipe's tuning wants it."""

from typing import Any

from peft import LoraConfig, get_peft_model

from posttrain_api.v1alpha1.tuning import Lora
from posttrain_trainer.job import Job


def applied(model: Any, job: Job) -> Any:
    """The model in which exactly the weights move that the recipe names. TRL gets this, and never a PEFT config."""
    lora = job.recipe.tuning.lora
    assert lora is not None
    config = lora_config(lora)
    if job.recipe.method == "reward":
        config.task_type = "SEQ_CLS"  # PEFT then trains the head whole, beside the adapter
    return get_peft_model(model, config)


def lora_config(chosen: Lora) -> LoraConfig:
    """PEFT's configuration of a recipe's LoRA."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=chosen.rank,
        lora_alpha=int(chosen.alpha) if chosen.alpha.is_integer() else chosen.alpha,
        lora_dropout=chosen.dropout,
        target_modules=chosen.target_modules or "all-linear",
        bias="none",
    )
