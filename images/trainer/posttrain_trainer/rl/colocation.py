"""vLLM on the trainer's own GPU, as TRL runs it: it gets the weights before each generation, merged."""

import importlib.util
from typing import Any

import torch

from posttrain_api.conditions import Reason
from posttrain_trainer.job import Job
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rl import rollouts


def check(job: Job) -> None:
    """Refused where the recipe wants it and it cannot be."""
    why_not = _why_not(job)
    if rollouts.settings(job).rollout.mode == "colocate" and why_not is not None:
        raise Refused(Reason.INVALID_SPEC, f"{job.recipe.method}.rollout.mode colocate {why_not}")


def arguments(job: Job) -> dict[str, Any]:
    """TRL's settings for it; none where the recipe wants another mode, or where it says nothing and it cannot be."""
    if rollouts.settings(job).rollout.mode not in ("colocate", None) or _why_not(job) is not None:
        return {}
    return {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": rollouts.settings(job).rollout.gpu_memory_utilization,
        "vllm_max_model_length": job.task.longest,
        "generation_kwargs": {"stop_token_ids": list(job.task.chat.end_of_turn)},
    }


def _why_not(job: Job) -> str | None:
    tuning = job.recipe.tuning
    if not torch.cuda.is_available():
        return "needs a GPU: write transformers, which answers with the weights that are trained, or resources.gpus: 1"
    if importlib.util.find_spec("vllm") is None:
        return "needs vLLM, which this image has not: write transformers or server, or name another podTemplate.image"
    if job.recipe.environment.tools is not None:
        return "cannot call environment.tools: write transformers or server"
    if job.recipe.method == "ppo":
        return "works with grpo and rloo: write transformers, or leave it out"
    if tuning.lora is not None and tuning.lora.quantization == "nf4":
        return "merges adapters into weights that are no 4-bit ones: write transformers or server, or quantization none"
    return None
