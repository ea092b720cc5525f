"""Whether vLLM can serve an adapter as it was trained: read from PEFT's configuration before anything is loaded."""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from posttrain_api.artifact import Manifest
from posttrain_api.conditions import Reason
from posttrain_server import checkpoint
from posttrain_server.agent.failure import ArtifactError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".joblib"})
_HARMLESS_INITS = frozenset({"gaussian", "eva", "orthogonal"})
"""They only choose the adapter's first weights; others such as PiSSA and OLoRA change the base's."""
_SWITCHES = {
    "use_dora": "DoRA: vLLM cannot serve it unmerged",
    "modules_to_save": "modules_to_save: it replaces whole layers of the base",
    "lora_bias": "a LoRA bias",
    "alora_invocation_tokens": "aLoRA",
    "layer_replication": "layer replication",
    "trainable_token_indices": "trained token embeddings",
    "use_qalora": "QALoRA",
    "use_bdlora": "BD-LoRA",
}


def check(folder: Path, manifest: Manifest, *, base_digest: str, max_rank: int) -> None:
    """ArtifactError with the first reason for which these files cannot be served on this base and engine."""
    _check_kind(manifest)
    _check_base(manifest, base_digest)
    _check_names(manifest)
    config = _config(folder)
    unsupported = next(_unsupported(config), None)
    if unsupported:
        raise ArtifactError(Reason.UNSUPPORTED_ADAPTER, f"the adapter uses {unsupported}")
    _check_rank(config, manifest, max_rank)
    _check_weights(folder / WEIGHTS_FILE)


def _check_kind(manifest: Manifest) -> None:
    if manifest.kind != "lora":
        message = f"the artifact is of kind {manifest.kind}: only one of kind lora can be loaded on a base"
        raise ArtifactError(Reason.UNSUPPORTED_ADAPTER, message)


def _check_base(manifest: Manifest, base_digest: str) -> None:
    if manifest.base.digest != base_digest:
        raise ArtifactError(
            Reason.BASE_MISMATCH,
            f"the adapter belongs to the base {manifest.base.digest[:19]} ({manifest.base.uri}), "
            f"this server has {base_digest[:19]}",
        )


def _check_names(manifest: Manifest) -> None:
    for name in manifest.files:
        if PurePosixPath(name).suffix in _PICKLES:
            raise ArtifactError(Reason.UNSUPPORTED_ADAPTER, f"{name} is no safetensors file: it could run code")


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(Reason.UNSUPPORTED_ADAPTER, f"{CONFIG_FILE} cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ArtifactError(Reason.UNSUPPORTED_ADAPTER, f"{CONFIG_FILE} is not that of a PEFT LoRA adapter")
    return config


def _unsupported(config: dict[str, Any]) -> Iterator[str]:
    yield from (name for switch, name in _SWITCHES.items() if config.get(switch))
    if config.get("bias", "none") != "none":
        yield f"bias={config['bias']}"
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _HARMLESS_INITS:
        yield f"the init {init}, which changes the base's weights: export it as a plain LoRA"


def _check_rank(config: dict[str, Any], manifest: Manifest, max_rank: int) -> None:
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise ArtifactError(Reason.UNSUPPORTED_ADAPTER, f"{CONFIG_FILE} names no valid rank")
    rank = max(*ranks, manifest.rank or 0)
    if rank > max_rank:
        raise ArtifactError(
            Reason.RANK_TOO_LARGE, f"the adapter has rank {rank}, the engine takes {max_rank}: raise engine.maxRank"
        )


def _check_weights(path: Path) -> None:
    try:
        checkpoint.safetensors_header(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(Reason.UNSUPPORTED_ADAPTER, f"{WEIGHTS_FILE} cannot be read: {error}") from error
