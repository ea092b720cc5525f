"""Loads the base model on the machine's device, in the precision that the recipe asks for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, set_seed
from transformers.utils import logging

from posttrain_api.artifact import Dtype
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig
from posttrain_trainer import reward_model
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
    if config.recipe.method == "reward":
        return reward_model.load_base(places.path(config.base_uri), config.base_uri, chosen.device)
    return load_base(places.path(config.base_uri), config.base_uri, chosen)


def load_base(folder: Path, uri: str, chosen: Precision) -> Any:
    """The causal language model in a folder, in evaluation mode; Refused where it cannot be loaded."""
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, chosen.dtype), local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise Refused(Reason.MODEL_INVALID, f"{uri}: the model cannot be loaded: {error}") from error
    return model.to(chosen.device).eval()
