"""The engine container: vLLM's arguments and environment as values, then its server in place of this process."""

import importlib.metadata
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from posttrain_api.artifact import Dtype
from posttrain_api.server_contract import Runner
from posttrain_api.v1alpha1.adapter_deployment import BASE_NAME
from posttrain_server import checkpoint

OLDEST_ENGINE = (0, 32)
"""Before it, loading an adapter while requests run could decode them with another adapter's weights (vllm#47724)."""
SERVER_MODULE = "vllm.entrypoints.openai.api_server"
MIDDLEWARE = "posttrain_server.gateway.middleware.EngineGateway"
CPU_WORKER = "posttrain_server.cpu_worker.Worker"
QUIET_PATHS = ("/health", "/metrics", "/v1/models", "/posttrain/state", "/posttrain/metrics")
"""Asked every second: not in the access log."""

_RAW_SCORES = ("--runner", "pooling", "--pooler-config", '{"use_activation": false}')
"""vLLM would put a sigmoid on the one label of a reward model: scores far from zero would all be the same."""
_NO_COMPILER = {"TORCHDYNAMO_DISABLE": "1"}
"""On the CPU the first request for prompt log probabilities compiles a function in C++, --enforce-eager or not. That
takes 21 s on two cores, and is an error where the image has no compiler."""


@dataclass(frozen=True)
class EngineSettings:
    """What the operator decided for this engine."""

    base: Path
    key_file: Path
    dtype: Dtype
    max_rank: int
    max_loaded_adapters: int
    max_cached_adapters: int
    max_model_length: int | None = None
    chat_template: Path | None = None
    host: str = "0.0.0.0"
    port: int = 8000
    num_gpus: int = 0
    runner: Runner = "generate"


def arguments(settings: EngineSettings) -> list[str]:
    """vLLM's command line."""
    line = [
        *("--model", str(settings.base), "--served-model-name", BASE_NAME, "--dtype", settings.dtype),
        *("--host", settings.host, "--port", str(settings.port), "--middleware", MIDDLEWARE),
        *(_RAW_SCORES if settings.runner == "pooling" else _adapters(settings)),
        *("--trust-request-chat-template", "--disable-fastapi-docs"),
        *("--disable-access-log-for-endpoints", ",".join(QUIET_PATHS)),
    ]
    if settings.max_model_length is not None:
        line += ["--max-model-len", str(settings.max_model_length)]
    if settings.chat_template is not None:
        line += ["--chat-template", str(settings.chat_template)]
    if settings.num_gpus == 0:
        line += ["--enforce-eager", "--worker-cls", CPU_WORKER]
    if settings.num_gpus > 1:
        line += ["--tensor-parallel-size", str(settings.num_gpus)]
    return line


def _adapters(settings: EngineSettings) -> tuple[str, ...]:
    """One place more than the adapters is cached, so that a swap holds old and new at once."""
    places = settings.max_cached_adapters + 1
    loaded = ("--max-loras", str(settings.max_loaded_adapters), "--max-cpu-loras", str(places))
    return ("--enable-lora", "--max-lora-rank", str(settings.max_rank), *loaded)


def environment(settings: EngineSettings, inherited: Mapping[str, str]) -> dict[str, str]:
    """The engine's environment: what the pod sets, folders that can be written, and what must not be otherwise."""
    return {**folders(), **defaults(num_gpus=settings.num_gpus), **inherited, **_required(settings)}


def folders() -> dict[str, str]:
    """A pod's root is read-only and its user has no home: everything that wants a folder gets one in /tmp."""
    return {
        "XDG_CACHE_HOME": "/tmp/cache",
        "HF_HOME": "/tmp/cache/huggingface",
        "VLLM_CACHE_ROOT": "/tmp/cache/vllm",
        "VLLM_CONFIG_ROOT": "/tmp/cache/vllm-config",
        "TORCHINDUCTOR_CACHE_DIR": "/tmp/cache/inductor",
        "TRITON_CACHE_DIR": "/tmp/cache/triton",
        "TMPDIR": "/tmp",
        "USER": "posttrain",
    }


def defaults(*, num_gpus: int) -> dict[str, str]:
    """What vLLM does unless the pod says otherwise; 0 GPUs is the CPU."""
    cpu = {"VLLM_CPU_KVCACHE_SPACE": "1", **_NO_COMPILER} if num_gpus == 0 else {}
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    return {**quiet, "PROMETHEUS_DISABLE_CREATED_SERIES": "True", **cpu}


def _required(settings: EngineSettings) -> dict[str, str]:
    return {
        "HOME": "/tmp",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_SERVER_DEV_MODE": "0",
        "POSTTRAIN_KEY_FILE": str(settings.key_file),
        "POSTTRAIN_ENGINE_DTYPE": settings.dtype,
        "POSTTRAIN_ENGINE_RUNNER": settings.runner,
    }


def check_version(version: str) -> None:
    """ValueError where this engine is older than the oldest that we trust."""
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    if numbers < OLDEST_ENGINE:
        oldest = ".".join(map(str, OLDEST_ENGINE))
        raise ValueError(f"vLLM {version} can mix adapters while one is loaded (vllm#47724): use {oldest} or newer")


def installed_version() -> str:
    """The version of the installed vLLM, whichever distribution it came with; ValueError where there is none."""
    for distribution in ("vllm", "vllm-cpu"):
        found = [d.version for d in importlib.metadata.distributions(name=distribution)]
        if found:
            return found[0]
    raise ValueError("vLLM is not installed here: this command is for the server image")


def resolve_dtype(wanted: str, base: Path) -> Dtype:
    """The precision to serve in; `auto` is the base checkpoint's own."""
    return checkpoint.dtype(base) if wanted == "auto" else wanted  # type: ignore[return-value]


def run(settings: EngineSettings, inherited: Mapping[str, str]) -> None:
    """Replace this process by vLLM's server, so that signals and exit codes are its own."""
    check_version(installed_version())
    command = [sys.executable, "-m", SERVER_MODULE, *arguments(settings)]
    os.execve(sys.executable, command, environment(settings, inherited))
