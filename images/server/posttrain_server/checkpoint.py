"""The precision of a base model's checkpoint, read from its files without a deep-learning library.

vLLM's own `auto` turns a float32 checkpoint into bfloat16 on the CPU; what was trained would not be what is served.
"""

import json
import struct
from pathlib import Path
from typing import Any, get_args

from posttrain_api.artifact import Dtype

_SAFETENSORS_NAMES: dict[str, Dtype] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


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
