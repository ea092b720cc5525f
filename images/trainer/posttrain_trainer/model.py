"""Loads the base model on the machine's device, in the precision that the recipe asks for."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, set_seed
from transformers.utils import logging

from posttrain_api.artifact import Dtype
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.tuning import MOVES_THE_BASE
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused


@dataclass(frozen=True)
class Precision:
    """Device and number format of the computation."""

    device: str
    """cuda or cpu."""
    dtype: Dtype
    """Of the base's weights; what is trained is always float32."""


def precision(wanted: str) -> Precision:
    """What the machine can do of auto, bf16 or fp32; Refused where it cannot."""
    if not torch.cuda.is_available():
        if wanted == "bf16":
            raise Refused(
                Reason.PRECISION_UNSUPPORTED,
                "hyperparameters.precision bf16 needs a GPU: write auto or fp32, or ask for resources.gpus: 1",
            )
        return Precision("cpu", "float32")
    if torch.cuda.device_count() > 1:
        raise Refused(
            Reason.INVALID_SPEC,
            f"the pod has {torch.cuda.device_count()} GPUs and this trainer uses one: write resources.gpus: 1",
        )
    if wanted == "fp32":
        return Precision("cuda", "float32")
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise Refused(Reason.PRECISION_UNSUPPORTED, "this GPU has no bf16: write hyperparameters.precision: fp32")
    return Precision("cuda", "bfloat16")


def load(config: RunConfig, places: Places, chosen: Precision) -> Any:
    """The base model of a run, in evaluation mode; Refused where it cannot be loaded."""
    set_seed(config.recipe.hyperparameters.seed)
    tuning = config.recipe.tuning
    folder = places.path(config.base_uri)
    if config.recipe.method == "reward":
        from posttrain_trainer import reward_model  # which measures models, and so imports this module

        return reward_model.load_base(folder, config.base_uri, chosen.device)
    if tuning.lora is not None and tuning.lora.quantization == "nf4":
        return load_base(folder, config.base_uri, chosen, _nf4(chosen))
    # What moves must be the base's own numbers, not rounded ones.
    moves_the_base = tuning.full or tuning.osft or (tuning.lora and tuning.lora.init in MOVES_THE_BASE)
    exact = replace(chosen, dtype="float32") if moves_the_base else chosen
    found = load_base(folder, config.base_uri, exact)
    if config.recipe.hyperparameters.packing:
        _use_flash_attention(found, config.base_uri)
    return found


def load_base(folder: Path, uri: str, chosen: Precision, quantization: BitsAndBytesConfig | None = None) -> Any:
    """The causal language model in a folder, in evaluation mode; Refused where it cannot be loaded."""
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, chosen.dtype),
            local_files_only=True,
            use_safetensors=True,
            quantization_config=quantization,
            device_map=None if quantization is None else {"": chosen.device},
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise Refused(Reason.MODEL_INVALID, f"{uri}: the model cannot be loaded: {error}") from error
    return model.to(chosen.device).eval() if quantization is None else model.eval()


def _use_flash_attention(model: Any, uri: str) -> None:
    try:
        model.set_attn_implementation("flash_attention_2")
    except (ImportError, ValueError) as error:
        raise Refused(
            Reason.MODEL_INVALID, f"{uri}: hyperparameters.packing needs flash attention: {error}: remove packing"
        ) from error


def saved_dtype(folder: Path) -> Dtype:
    """The number format of a model's configuration; float32 where it names none of ours."""
    config = json.loads((folder / "config.json").read_bytes())
    named = config.get("dtype") or config.get("torch_dtype")
    return named if named in get_args(Dtype) else "float32"


def _nf4(chosen: Precision) -> BitsAndBytesConfig:
    if chosen.device != "cuda":
        raise Refused(
            Reason.TUNING_UNSUPPORTED,
            "tuning.lora.quantization nf4 needs a GPU: write none, or ask for resources.gpus: 1",
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, chosen.dtype),
    )
