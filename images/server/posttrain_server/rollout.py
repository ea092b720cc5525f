"""The rollout container: vLLM beside a trainer, which loads the adapter of each step into it and asks it for answers.

No gateway stands before it: it listens on the pod's own loopback address, where only the pod's containers reach it.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain_api.artifact import Dtype
from posttrain_api.v1alpha1.adapter_deployment import BASE_NAME
from posttrain_server import engine

HOST = "127.0.0.1"
NUM_ADAPTERS, NUM_CACHED = 2, 4
"""The adapter of this step and of the last one; a few older ones until they are dropped."""


@dataclass(frozen=True)
class RolloutSettings:
    """What the operator decided for this engine."""

    base: Path
    dtype: Dtype
    max_rank: int
    max_model_length: int
    port: int
    num_gpus: int = 0
    gpu_memory_utilization: float = 0.3


def arguments(settings: RolloutSettings) -> list[str]:
    """vLLM's command line: it answers with the probabilities that it has drawn from, and nothing of the base's folder
    changes how it draws."""
    return [
        *("--model", str(settings.base), "--served-model-name", BASE_NAME, "--dtype", settings.dtype),
        *("--host", HOST, "--port", str(settings.port), "--max-model-len", str(settings.max_model_length)),
        *("--enable-lora", "--max-lora-rank", str(settings.max_rank)),
        *("--max-loras", str(NUM_ADAPTERS), "--max-cpu-loras", str(NUM_CACHED)),
        *("--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"),
        *("--disable-fastapi-docs", "--disable-uvicorn-access-log"),
        *_of_the_machine(settings),
    ]


def _of_the_machine(settings: RolloutSettings) -> tuple[str, ...]:
    if settings.num_gpus == 0:
        return ("--enforce-eager", "--worker-cls", engine.CPU_WORKER)
    memory = ("--gpu-memory-utilization", str(settings.gpu_memory_utilization))
    return (*memory, *(("--tensor-parallel-size", str(settings.num_gpus)) if settings.num_gpus > 1 else ()))


def environment(settings: RolloutSettings, inherited: Mapping[str, str]) -> dict[str, str]:
    """Its environment: what the pod sets, folders that can be written, and the routes that load adapters."""
    required = {"HOME": "/tmp", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_SERVER_DEV_MODE": "0"}
    return {**engine.folders(), **engine.defaults(num_gpus=settings.num_gpus), **inherited, **required}


def fitting_length(wanted: int, base: Path) -> int:
    """So many tokens, or as many as the base has positions for; OSError where its config.json cannot be read."""
    config: dict[str, Any] = json.loads((base / "config.json").read_text())
    positions = (config.get("text_config") or config).get("max_position_embeddings")
    return min(wanted, positions) if positions else wanted


def run(settings: RolloutSettings, inherited: Mapping[str, str]) -> None:
    """Replace this process by vLLM's server, so that signals and exit codes are its own."""
    engine.check_version(engine.installed_version())
    command = [sys.executable, "-m", engine.SERVER_MODULE, *arguments(settings)]
    os.execve(sys.executable, command, environment(settings, inherited))
