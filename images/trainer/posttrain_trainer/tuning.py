"""Which weights move: the base model made ready to be trained as a recipe's tuning wants it."""

from typing import Any

from peft import (
    LoraConfig,
    OSFConfig,
    PeftConfig,
    PeftModel,
    PromptTuningConfig,
    get_peft_model,
    get_peft_model_state_dict,
)
from peft.tuners.lora import EvaConfig

from posttrain_api.v1alpha1.tuning import MOVES_THE_BASE, Lora, Osft, PromptTuning
from posttrain_trainer import activations
from posttrain_trainer.job import Job


def applied(model: Any, job: Job) -> Any:
    """The model in which exactly the weights move that the recipe names. TRL gets this, and never a PEFT config.

    A method that trains nothing has no tuning: it gets the model back as it is.
    """
    chosen = job.recipe.tuning
    if chosen.lora is not None:
        return _with_lora(model, chosen.lora, job)
    if chosen.full is not None:
        return model.float().requires_grad_(True)
    if chosen.osft is not None:
        return get_peft_model(model.float(), _of_method(osft_config(chosen.osft), job))
    if chosen.prompt_tuning is not None:
        return get_peft_model(model, _prompt_config(chosen.prompt_tuning, job))
    return model


def is_finite(model: Any) -> bool:
    """Whether every weight is a number."""
    return all(bool(weight.isfinite().all()) for weight in model.parameters() if weight.is_floating_point())


def starting_point(model: PeftModel) -> dict[str, Any]:
    """The adapter's weights as it began, where its start was taken out of the base; else nothing."""
    return getattr(model, "posttrain_starting_point", {})


def lora_config(chosen: Lora, target_modules: list[str]) -> LoraConfig:
    """PEFT's configuration of a recipe's LoRA on these layers, all linear ones but the output head where none."""
    is_plain = chosen.init == "default"
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=chosen.rank,
        lora_alpha=int(chosen.alpha) if chosen.alpha.is_integer() else chosen.alpha,
        lora_dropout=chosen.dropout,
        target_modules=target_modules or "all-linear",
        bias="none",
        init_lora_weights=True if is_plain else chosen.init,
        # With a rho above 1 some layers would get more than the recipe's rank, and others none.
        eva_config=EvaConfig(rho=1.0) if chosen.init == "eva" else None,
        use_dora=chosen.dora,
        use_rslora=chosen.rank_stabilized,
    )


def osft_config(chosen: Osft) -> OSFConfig:
    """PEFT's configuration: its effective rank is the share that stays. It must be a float: 1 would mean rank 1."""
    return OSFConfig(
        task_type="CAUSAL_LM", effective_rank=float(1 - chosen.unfreeze_rank_ratio), target_modules="all-linear"
    )


def _with_lora(model: Any, chosen: Lora, job: Job) -> PeftModel:
    if chosen.quantization == "nf4":
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if chosen.init in MOVES_THE_BASE:
        model = model.float()
    config = lora_config(chosen, job.task.base.targets(chosen.target_modules))
    tuned = get_peft_model(model, _of_method(config, job), low_cpu_mem_usage=chosen.init == "eva")
    if chosen.init == "eva":
        explained = activations.initialize(tuned, chosen.rank, job)
        job.progress.findings["explainedVariance"] = round(explained, 4)
    if chosen.init in MOVES_THE_BASE:
        start = get_peft_model_state_dict(tuned)
        tuned.posttrain_starting_point = {name: weight.detach().cpu().clone() for name, weight in start.items()}
    return tuned


def _of_method(config: PeftConfig, job: Job) -> PeftConfig:
    """For a reward model PEFT leaves the head as it is and trains it whole."""
    if job.recipe.method == "reward":
        config.task_type = "SEQ_CLS"
    return config


def _prompt_config(chosen: PromptTuning, job: Job) -> PromptTuningConfig:
    text = chosen.init_text
    return PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=chosen.virtual_tokens,
        prompt_tuning_init="SAMPLE_VOCAB" if text is None else "TEXT",
        prompt_tuning_init_text=text,
        tokenizer_name_or_path=None if text is None else str(job.places.path(job.config.base_uri)),
    )
