"""Gives a LoRA adapter that was made elsewhere a manifest, so that it can be served and proven like one of ours."""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posttrain_api.artifact import (
    BESIDE_THE_PROOF,
    MANIFEST_FILE,
    BaseReference,
    Manifest,
    base_digest,
    canonical_json,
    payload,
)
from posttrain_api.conditions import Reason
from posttrain_trainer import export
from posttrain_trainer.__main__ import add_places
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused

_NEEDED = (export.ADAPTER_CONFIG, export.ADAPTER_WEIGHTS)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="python -m posttrain_trainer.export",
        description="Give a PEFT LoRA adapter that was made elsewhere a manifest.json, and print its digest.",
    )
    found.add_argument("--adopt", type=Path, required=True, metavar="FOLDER", help="the adapter, as PEFT saved it")
    found.add_argument("--base", required=True, metavar="URI", help="its base model: pvc://claim/path or file:///path")
    found.add_argument("--into", type=Path, metavar="FOLDER", help="write a clean copy there, change nothing in place")
    found.add_argument("--chat-template", type=Path, metavar="FILE", help="the template that it was trained with")
    add_places(found)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        folder = prepared(options.adopt, into=options.into, chat_template=options.chat_template)
        found = adopt(folder, options.base, Places.of(options).path(options.base))
    except (Refused, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(found.digest)
    return 0


def prepared(adapter: Path, *, into: Path | None, chat_template: Path | None) -> Path:
    """The folder that gets the manifest: the adapter's own, or a copy of what belongs to an artifact."""
    for name in _NEEDED:
        if not (adapter / name).is_file():
            raise ValueError(f"{adapter}: {name} is missing: save the adapter with PEFT, as safetensors")
    kind = json.loads((adapter / export.ADAPTER_CONFIG).read_bytes()).get("peft_type")
    if kind != "LORA":
        raise ValueError(f"{adapter / export.ADAPTER_CONFIG}: peft_type is {kind}: only LORA is known")
    folder = adapter if into is None else into
    if into is not None:
        into.mkdir(parents=True)
        for path in sorted(adapter.iterdir()):
            if _belongs(path.name):
                shutil.copyfile(path, into / path.name)
    if chat_template is not None:
        shutil.copyfile(chat_template, folder / export.CHAT_TEMPLATE)
    foreign = sorted(name for name in payload(folder) if not _belongs(name))
    if foreign:
        raise ValueError(f"{folder}: {foreign[0]} does not belong to an adapter: write a clean copy with --into FOLDER")
    return folder


def adopt(folder: Path, uri: str, base: Path) -> Manifest:
    """Write an adapter's manifest.json into its folder; Refused where it does not fit the base or does nothing."""
    from peft import PeftModel

    from posttrain_trainer import model, probe

    chat = _chat_format(folder, base, uri)
    bare = model.load_base(base, uri, model.precision("auto"))
    try:
        tuned = PeftModel.from_pretrained(bare, str(folder)).eval()
    except (ValueError, RuntimeError, KeyError) as error:
        raise Refused(Reason.BASE_MISMATCH, f"{folder}: does not fit {uri}: {error}") from error
    found = export.manifest(
        folder,
        method="adopted",
        base=BaseReference(uri=uri, digest=base_digest(base)),
        recipe_digest=None,
        end_of_turn=chat.end_of_turn,
        dtype=probe.dtype_of(tuned),
        probes=probe.probes(tuned, chat),
    )
    (folder / MANIFEST_FILE).write_bytes(canonical_json(found.to_json()))
    return found


def _chat_format(folder: Path, base: Path, uri: str) -> Any:
    """The adapter's own chat template, else its base's."""
    from posttrain_trainer import chat_template, template
    from posttrain_trainer import tokenizer as tokenizers

    tokenizer = tokenizers.load(base, uri)
    own = folder / export.CHAT_TEMPLATE
    text = own.read_text() if own.is_file() else chat_template.chosen(None, tokenizer, Places())
    return template.ChatFormat(tokenizer, text)


def _belongs(name: str) -> bool:
    return name in {*_NEEDED, *BESIDE_THE_PROOF} or export.is_tokenizer(name)
