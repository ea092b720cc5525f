"""The artifact: what a training publishes, how it is named by content, and how anyone proves it.

A folder `sha256-<digest>` with the payload files and `manifest.json`, which holds only what is the same in every
repetition. `weightsDigest` is made from the payload's files, `digest` from the manifest, which names the weightsDigest:
base, rank and reference log probabilities cannot be swapped under it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from posttrain_api.model import Model

MANIFEST_FILE = "manifest.json"
MANIFEST_VERSION: Literal[1] = 1
BESIDE_THE_PROOF = frozenset(
    {MANIFEST_FILE, "report.json", "metrics.jsonl", "samples.jsonl", "rollouts.jsonl", "README.md"}
)
"""Files of an artifact's folder that are no payload: they may differ between repetitions."""

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
"""A sha256 with its scheme, in lower-case hexadecimal."""
Kind = Literal["lora", "model", "reward-model", "prompt", "dataset"]
"""lora: a PEFT LoRA adapter. model: a whole transformers checkpoint. reward-model: one that classifies a sequence, with
one label. prompt: a PEFT prompt-tuning adapter. dataset: rows.jsonl."""
Dtype = Literal["float32", "bfloat16", "float16"]


class BaseReference(Model):
    """The base model under an adapter."""

    uri: str
    """Where it was read from."""
    digest: Digest
    """Digest of its weights, configuration and tokenizer."""


class FileEntry(Model):
    """A payload file."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Its sha256, in lower-case hexadecimal."""
    bytes: Annotated[int, Field(ge=0)]
    """Its size in bytes."""


class Probe(Model):
    """Reference log probabilities of one fixed conversation, the behavioural half of the proof."""

    token_ids: Annotated[list[int], Field(min_length=2)]
    """The conversation as token ids, shape [length]."""
    base: list[float]
    """log p(token_ids[i + 1] | token_ids[:i + 1]) under the base, in nats, shape [length - 1], rounded to 1e-4."""
    result: list[float]
    """The same under the base with this adapter."""


class Manifest(Model):
    """What an artifact is: everything that must not be swapped under its digest, and nothing that differs by chance."""

    schema_version: Literal[1] = MANIFEST_VERSION
    kind: Kind
    """What it is."""
    method: str
    """How it was made."""
    base: BaseReference
    """The model that it belongs to, or was made from."""
    rank: Annotated[int, Field(ge=1)] | None = None
    """The largest LoRA rank of any module; absent for other kinds."""
    target_modules: list[str] = []
    """Names of the adapted modules, sorted; empty for other kinds."""
    files: dict[str, FileEntry]
    """The payload: path in the folder -> digest and size."""
    weights_digest: Digest
    """Digest of the payload files."""
    recipe_digest: Digest | None = None
    """Digest of the recipe; absent for an adapter that was made elsewhere."""
    parents: list[Digest] = []
    """Digests of the artifacts that it was made from."""
    end_of_turn_token_ids: list[int]
    """Tokens that end an answer."""
    dtype: Dtype
    """The precision in which the probes were computed."""
    probes: list[Probe] = []
    """Fixed conversations with their log probabilities; none for a dataset. For a reward model, whose answer is one
    number, base is empty and result is the raw score of the whole conversation, shape [1]."""

    @property
    def digest(self) -> str:
        """The digest by which the artifact is known: sha256 of the canonical manifest."""
        return digest_of(self.to_json())


class ArtifactSummary(Model):
    """A published artifact, as a status shows it."""

    uri: str
    """Its folder."""
    digest: Digest
    """Digest of its manifest.json: the name by which everything refers to it."""
    weights_digest: Digest
    """Digest of its payload files."""
    size_bytes: Annotated[int, Field(ge=0)]
    """Size of its payload files together."""
    kind: Kind
    """lora, model, reward-model, prompt or dataset."""
    rank: Annotated[int, Field(ge=1)] | None = None
    """The largest LoRA rank of any module; absent for other kinds."""
    target_modules: list[str] = []
    """Names of the adapted modules, sorted and without repetition of layers; empty for other kinds."""
    base: BaseReference
    """The model that it belongs to."""


def canonical_json(value: Any) -> bytes:
    """The one way to write a JSON value for hashing: sorted keys, no spaces, UTF-8, no NaN, a whole number as such.

    The API server hands 1.0 back as 1: both are one number and have one digest.
    """
    text = json.dumps(_whole_numbers(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _whole_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_whole_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def digest_of(value: Any) -> str:
    """`sha256:...` of a JSON value's canonical form."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def folder_name(digest: str) -> str:
    """The folder in which the artifact with this digest lies."""
    return digest.replace(":", "-", 1)


def file_entry(path: Path) -> FileEntry:
    """Digest and size of a file."""
    with path.open("rb") as file:
        return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), bytes=path.stat().st_size)


def payload_paths(folder: Path) -> dict[str, Path]:
    """Where the payload files of an artifact's folder lie, by path relative to it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: path for name, path in names.items() if name not in BESIDE_THE_PROOF}


def payload(folder: Path) -> dict[str, FileEntry]:
    """The payload files of an artifact's folder, by path relative to it."""
    return {name: file_entry(path) for name, path in payload_paths(folder).items()}


def files_digest(files: Mapping[str, FileEntry]) -> str:
    """One digest over files: sha256 over their sorted (path, sha256)."""
    return digest_of([[name, entry.sha256] for name, entry in sorted(files.items())])


def base_digest(folder: Path) -> str:
    """The digest of a base model's folder: its safetensors, config.json and tokenizer files.

    Raises ValueError where the folder is no complete model.
    """
    return base_digest_of({name: file_entry(path) for name, path in base_paths(folder).items()})


def base_paths(folder: Path) -> dict[str, Path]:
    """Where the files lie that a base model's digest is made from, by name; ValueError where it is no complete one."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    found = {path.name: path for path in paths if _is_part_of_base(path.name)}
    if "config.json" not in found or not any(name.endswith(".safetensors") for name in found):
        raise ValueError(f"{folder}: no model here: config.json and *.safetensors are needed")
    return found


def base_digest_of(files: Mapping[str, FileEntry]) -> str:
    """The digest of the base model among these files of a folder."""
    return files_digest({name: entry for name, entry in files.items() if _is_part_of_base(name)})


def _is_part_of_base(name: str) -> bool:
    tokenizer = ("tokenizer", "vocab", "merges", "special_tokens_map", "added_tokens")
    is_named = name == "config.json" or name.endswith(".safetensors") or name.startswith(tokenizer)
    return is_named and "/" not in name


def differences(folder: Path, files: Mapping[str, FileEntry]) -> Iterable[str]:
    """What of a folder's payload does not match these entries, as sentences; nothing where all match."""
    return _differences(payload(folder), files)


def faults(found: Mapping[str, FileEntry], manifest: Manifest) -> Iterable[str]:
    """What of the payload that was found does not match its manifest, as sentences; nothing where all does."""
    if files_digest(manifest.files) != manifest.weights_digest:
        yield "the manifest's weightsDigest is not that of the files it names"
    yield from _differences(found, manifest.files)


def _differences(found: Mapping[str, FileEntry], files: Mapping[str, FileEntry]) -> Iterable[str]:
    for name in sorted(found.keys() | files.keys()):
        if name not in found:
            yield f"{name} is missing"
        elif name not in files:
            yield f"{name} is not named in the manifest"
        elif found[name] != files[name]:
            yield f"{name} has sha256 {found[name].sha256[:12]}, the manifest says {files[name].sha256[:12]}"
