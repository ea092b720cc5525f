"""Publishes a result: payload, manifest and the files beside them, under their digest, all at once or not at all.

`python -m posttrain_trainer.export --adopt FOLDER --base URI` gives a PEFT adapter that was made elsewhere a manifest.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from posttrain_api import uri
from posttrain_api.artifact import (
    BESIDE_THE_PROOF,
    MANIFEST_FILE,
    ArtifactSummary,
    BaseReference,
    Dtype,
    Kind,
    Manifest,
    Probe,
    canonical_json,
    differences,
    files_digest,
    folder_name,
    payload,
)
from posttrain_trainer.chat_template import FILE as CHAT_TEMPLATE

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TOKENIZER_FILES = ("tokenizer", "vocab", "merges", "special_tokens_map", "added_tokens")
"""How the names of a tokenizer's files begin."""


def write_adapter(
    model: Any,
    tokenizer: Any,
    *,
    template: str | None,
    base: str,
    folder: Path,
    start: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write a PEFT model's payload files: the adapter, the tokenizer and its chat template. No pickles.

    With the weights that an adapter took out of the base at its `start`, it is written as plain LoRA of twice the rank.
    """
    _save_adapter(model, folder, start)
    (folder / "README.md").unlink(missing_ok=True)
    write_tokenizer(tokenizer, template, folder)
    config = json.loads((folder / ADAPTER_CONFIG).read_bytes())
    if config["peft_type"] == "LORA":
        # PEFT holds the names in a set: unsorted they would change the digest from process to process. How the
        # matrices began no longer matters, and engines refuse what they do not know.
        config |= {"target_modules": sorted(config["target_modules"]), "init_lora_weights": True, "eva_config": None}
    if config.get("tokenizer_name_or_path"):
        config["tokenizer_name_or_path"] = base
    config["base_model_name_or_path"] = base
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _save_adapter(model: Any, folder: Path, start: Mapping[str, Any]) -> None:
    if not start:
        model.save_pretrained(folder, safe_serialization=True)
        return
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory(prefix="posttrain-") as parent:
        initial = Path(parent) / "start"
        initial.mkdir()
        save_file(dict(start), initial / ADAPTER_WEIGHTS)
        model.save_pretrained(folder, safe_serialization=True, path_initial_model_for_weight_conversion=str(initial))


def is_tokenizer(name: str) -> bool:
    """Whether a file belongs to a tokenizer, its chat template included."""
    return name == CHAT_TEMPLATE or name.startswith(TOKENIZER_FILES)


def write_tokenizer(tokenizer: Any, template: str | None, folder: Path) -> None:
    """Write a tokenizer with its chat template, the same bytes wherever it was loaded from."""
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_bytes())
    kept = {key: value for key, value in config.items() if key not in ("is_local", "local_files_only")}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def manifest(
    folder: Path,
    *,
    method: str,
    base: BaseReference,
    recipe_digest: str | None,
    end_of_turn: tuple[int, ...],
    dtype: Dtype,
    probes: list[Probe],
    kind: Kind = "lora",
    parents: Sequence[str] = (),
) -> Manifest:
    """The manifest of a folder whose payload is written."""
    files = payload(folder)
    return Manifest(
        kind=kind,
        method=method,
        base=base,
        rank=_rank(folder) if kind == "lora" else None,
        target_modules=target_modules(folder / ADAPTER_WEIGHTS) if kind == "lora" else [],
        parents=list(parents),
        files=files,
        weights_digest=files_digest(files),
        recipe_digest=recipe_digest,
        end_of_turn_token_ids=list(end_of_turn),
        dtype=dtype,
        probes=probes,
    )


def _rank(folder: Path) -> int:
    """The largest rank of any layer."""
    config = json.loads((folder / ADAPTER_CONFIG).read_bytes())
    return max([config["r"], *(config.get("rank_pattern") or {}).values()])


def target_modules(weights: Path) -> list[str]:
    """Short names of the layers that an adapter changes, sorted, read from its weights."""
    from safetensors import safe_open

    with safe_open(weights, framework="numpy") as file:
        names = {name.partition(".lora_")[0] for name in file.keys() if ".lora_" in name}  # noqa: SIM118
    return sorted({name.rpartition(".")[2] for name in names})


def location(parent: str, found: Manifest) -> str:
    """The URI of an artifact's folder below the run's."""
    return uri.child(parent, folder_name(found.digest))


def summary(found: Manifest, location: str) -> ArtifactSummary:
    """A published artifact, as a status shows it."""
    return ArtifactSummary(
        uri=location,
        digest=found.digest,
        weights_digest=found.weights_digest,
        size_bytes=sum(entry.bytes for entry in found.files.values()),
        kind=found.kind,
        rank=found.rank,
        target_modules=found.target_modules,
        base=found.base,
    )


def publish(parent: Path, parent_uri: str, unique: str, write: Callable[[Path], Manifest]) -> ArtifactSummary:
    """Let `write` fill a folder under `parent`, and publish it under its digest at `parent_uri`/sha256-...

    Readers see the folder whole or not at all. An artifact that is there already and complete is kept; of what lies
    beside its proof it gets what it has not yet. `unique` names the unpublished folder: one that a killed process left
    under the same name is removed.
    """
    partial = parent / f".unpublished-{unique}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        found = write(partial)
        (partial / MANIFEST_FILE).write_bytes(canonical_json(found.to_json()))
        make_durable(partial)
        final = parent / folder_name(found.digest)
        if is_complete(final, found.digest):
            _add_beside(partial, final)
        else:
            _move(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if not is_complete(final, found.digest):
        raise OSError(f"{final}: what was written cannot be read back")
    return summary(found, location(parent_uri, found))


def remove(folder: Path) -> None:
    """Take an artifact away: readers find it whole until it is gone."""
    removed = folder.with_name(f".removed-{folder.name}")
    shutil.rmtree(removed, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):  # somebody was faster
        folder.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def is_complete(folder: Path, digest: str) -> bool:
    """Whether a folder holds the artifact with this digest, every byte of it."""
    try:
        found = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return found.digest == digest and not list(differences(folder, found.files))


def _add_beside(partial: Path, final: Path) -> None:
    for name in BESIDE_THE_PROOF - {MANIFEST_FILE}:
        if (partial / name).exists() and not (final / name).exists():
            (partial / name).rename(final / name)
    _sync(final)


def _move(partial: Path, final: Path) -> None:
    if final.exists():
        # It has our digest's name and other bytes: a damaged copy of what we have whole.
        damaged = final.with_name(f".damaged-{partial.name}")
        final.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    partial.rename(final)
    _sync(final.parent)


def make_durable(folder: Path) -> None:
    """Bring every file to the disk, readable for the server's user, before the folder gets its name."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.chmod(0o644)
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def main() -> int:
    """The command line of this module."""
    from posttrain_trainer import adopt

    return adopt.main()


if __name__ == "__main__":
    raise SystemExit(main())
