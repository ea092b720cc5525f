"""What a base model's folder holds, and in which precision: read from its files without a deep-learning library.

vLLM's own `auto` turns a float32 checkpoint into bfloat16 on the CPU; what was trained would not be what is served.
"""

import json
import struct
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from posttrain_api.artifact import MANIFEST_FILE, Dtype, Manifest
from posttrain_api.server_contract import Runner

_NO_BASES = {
    "lora": "is an adapter: name it under adapters, or its run in baseModel.fromRun, which merges it",
    "prompt": "is a prompt, which vLLM cannot serve: train with tuning.lora or tuning.full",
    "dataset": "is a dataset: train on it, and serve what was trained",
}
"""Kinds of artifacts that are no model of their own -> what to do instead."""
_SCORING = "ForSequenceClassification"
"""How transformers calls a reward model's architecture."""

_SAFETENSORS_NAMES: dict[str, Dtype] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def manifest(folder: Path) -> Manifest | None:
    """The manifest in a folder; None where there is none of ours."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None


def runner(folder: Path) -> Runner:
    """What vLLM is to make of a base: a reward model scores, by its manifest or else by its architecture; others write.

    Raises ValueError where the folder is no base, OSError where it cannot be read.
    """
    published = manifest(folder)
    if published is None:
        architectures = json.loads((folder / "config.json").read_text()).get("architectures") or []
        return "pooling" if any(str(name).endswith(_SCORING) for name in architectures) else "generate"
    if published.kind in _NO_BASES:
        raise ValueError(f"{folder} {_NO_BASES[published.kind]}")
    return "pooling" if published.kind == "reward-model" else "generate"


def dtype(folder: Path) -> Dtype:
    """The checkpoint's precision: what config.json says, else that of its first floating-point tensor.

    Raises ValueError where neither tells, OSError where the folder cannot be read.
    """
    config = json.loads((folder / "config.json").read_text())
    named = config.get("dtype") or config.get("torch_dtype")
    if named in get_args(Dtype):
        return named  # type: ignore[no-any-return]
    found = (_SAFETENSORS_NAMES.get(kind) for kind in _tensor_kinds(folder))
    for candidate in found:
        if candidate:
            return candidate
    raise ValueError(f"{folder}: config.json names no dtype that we serve and no tensor has one: say engine.dtype")


def _tensor_kinds(folder: Path) -> list[str]:
    headers = (safetensors_header(path) for path in sorted(folder.glob("*.safetensors")))
    return [entry["dtype"] for header in headers for entry in header.values() if "dtype" in entry]


def safetensors_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: tensor name -> {dtype, shape, data_offsets}; ValueError where it is none."""
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= 100_000_000:
            raise ValueError(f"{path.name} is no safetensors file")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError(f"{path.name} is no safetensors file")
    return header
