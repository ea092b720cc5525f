"""An adapter merged into its base: what chains build on, and how what vLLM cannot load as an adapter is published."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig

from posttrain_api import uri
from posttrain_api.artifact import base_digest, folder_name
from posttrain_api.trainer_contract import MergeConfig
from posttrain_api.v1alpha1.training_run_status import MergedBase
from posttrain_trainer import adapters, export, model, preflight, report
from posttrain_trainer.model import Precision
from posttrain_trainer.places import Places

_EXACT = Precision("cpu", "float32")


def merge(config: MergeConfig, places: Places) -> MergedBase:
    """Publish an adapter's base with the adapter in it, once: a second call returns what the first one made."""
    parent = places.path(config.output) / config.run
    index = parent / f"merged-{config.artifact_digest.removeprefix('sha256:')[:12]}.json"
    done = _finished(index, config, places)
    if done is not None:
        return done
    adapter, base = places.path(config.artifact_uri), places.path(config.base.uri)
    found = adapters.verified(adapter, config.artifact_uri, config.artifact_digest)
    adapters.check_base(base, config.base.uri, found)
    partial = parent / f".unpublished-{index.stem}-{config.uid}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_model(merged(base, config.base.uri, adapter), partial, dtype=model.saved_dtype(base))
        _add_tokenizer(adapter, base, partial)
        set_end_of_turn(partial, found.end_of_turn_token_ids, base=base)
        result = _published(partial, parent, config)
        report.write_json(index, result.to_json())
    except OSError as error:
        raise preflight.unwritable(config.output, parent, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return result


def merged(base: Path, location: str, adapter: Path) -> Any:
    """The base with the PEFT adapter of a folder merged into it, computed in float32 on the CPU."""
    return PeftModel.from_pretrained(model.load_base(base, location, _EXACT), str(adapter)).merge_and_unload()


def write_model(found: Any, folder: Path, *, dtype: str) -> None:
    """Write a whole model as a transformers checkpoint in this number format. It stays in that format."""
    found.to(getattr(torch, dtype)).save_pretrained(folder, safe_serialization=True)


def set_end_of_turn(folder: Path, token_ids: Sequence[int], *, base: Path) -> None:
    """Write the base's generation settings, with these tokens first among those that end an answer."""
    has_settings = (base / "generation_config.json").is_file()
    found = GenerationConfig.from_pretrained(base) if has_settings else GenerationConfig()
    known = found.eos_token_id if isinstance(found.eos_token_id, list) else [found.eos_token_id]
    found.eos_token_id = list(dict.fromkeys([*token_ids, *(token for token in known if token is not None)]))
    found.save_pretrained(folder)


def _finished(index: Path, config: MergeConfig, places: Places) -> MergedBase | None:
    """What an earlier merge of this adapter made, if every byte of it is still there."""
    try:
        found = MergedBase.model_validate_json(index.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    is_ours = found.artifact_digest == config.artifact_digest
    return found if is_ours and _holds(places.path(found.uri), found.digest) else None


def _holds(folder: Path, digest: str) -> bool:
    """Whether a folder holds the whole model with this digest."""
    try:
        return base_digest(folder) == digest
    except ValueError:
        return False


def _add_tokenizer(adapter: Path, base: Path, folder: Path) -> None:
    """The adapter's tokenizer and chat template; the base's where an adopted adapter has none."""
    own = {path.name: path for path in adapter.iterdir() if export.is_tokenizer(path.name)}
    source = adapter if "tokenizer_config.json" in own else base
    for path in sorted(source.iterdir()):
        if export.is_tokenizer(path.name):
            shutil.copyfile(path, folder / path.name)
    for path in own.values():
        shutil.copyfile(path, folder / path.name)


def _published(partial: Path, parent: Path, config: MergeConfig) -> MergedBase:
    digest = base_digest(partial)
    final = parent / f"base-{folder_name(digest).removeprefix('sha256-')}"
    export.make_durable(partial)
    if not _holds(final, digest):
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    location = uri.child(config.output, config.run, final.name)
    return MergedBase(artifact_digest=config.artifact_digest, uri=location, digest=digest)
