"""One temporary folder with the claims and ConfigMaps of a run, as a trainer on this machine finds them."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from posttrain_api import uri
from posttrain_api.uri import claim_of
from posttrain_cli.documents import Document
from posttrain_cli.failure import Failure

OUTPUT_CLAIM = "posttrain-estimate"
"""Everything is published there, so that nothing is written on the user's disk."""


@dataclass(frozen=True)
class Workplace:
    """Folders that a trainer is told of, and that are gone afterwards."""

    folder: Path
    image: Path = Path("/")
    """file:///path lies at <path> below it."""

    @property
    def claims(self) -> Path:
        """pvc://claim/path lies at <claim>/<path> below it."""
        return self.folder / "claims"

    @property
    def config_maps(self) -> Path:
        """A ConfigMap's key lies at <name>/<key> below it."""
        return self.folder / "config-maps"

    @property
    def output(self) -> Path:
        """What pvc://OUTPUT_CLAIM holds."""
        return self.claims / OUTPUT_CLAIM

    def check_has(self, recipe: Any) -> None:
        """Failure where a recipe names a claim or a ConfigMap that is not here."""
        for claim in sorted(set(_claims(recipe))):
            if not (self.claims / claim).exists():
                raise Failure(
                    f"the claim {claim} is not here: say --claims FOLDER, where FOLDER/{claim} holds what it holds"
                )
        for path in sorted(set(_image_paths(recipe))):
            if not (self.image / path).exists():
                raise Failure(
                    f"file:///{path} lies in the trainer's image, and not here: say --image-files FOLDER, where "
                    f"FOLDER/{path} holds the same"
                )
        for name in sorted(set(_config_maps(recipe))):
            if not (self.config_maps / name).exists():
                raise Failure(
                    f"the ConfigMap {name} is not here: add it to the file, or say --config-maps FOLDER, where "
                    f"FOLDER/{name} holds a file for each key"
                )


@contextmanager
def workplace(
    *, claims: Iterable[Path], config_maps: Path | None, image: Path | None = None, documents: Sequence[Document]
) -> Iterator[Workplace]:
    """These folders' claims and ConfigMaps, and the ConfigMaps among the documents, which win."""
    with TemporaryDirectory(prefix="posttrain-") as folder:
        made = Workplace(Path(folder), image or Workplace.image)
        made.output.mkdir(parents=True)
        made.config_maps.mkdir()
        for document in documents:
            if document.kind == "ConfigMap" and document.name:
                _write(document, made.config_maps / document.name)
        for source in claims:
            _link(source, made.claims)
        if config_maps is not None:
            _link(config_maps, made.config_maps)
        yield made


def _link(source: Path, target: Path) -> None:
    """A link to each folder of a folder; what is there already stays."""
    if not source.is_dir():
        raise Failure(f"{source}: there is no such folder")
    for entry in source.iterdir():
        if entry.is_dir() and not (target / entry.name).exists():
            (target / entry.name).symlink_to(entry.resolve())


def _write(config_map: Document, folder: Path) -> None:
    """A file for each key, as a pod sees it."""
    folder.mkdir(exist_ok=True)
    for key, text in (config_map.content.get("data") or {}).items():
        (folder / Path(key).name).write_text(str(text))
    for key, text in (config_map.content.get("binaryData") or {}).items():
        (folder / Path(key).name).write_bytes(base64.b64decode(text))


def _claims(content: Any) -> Iterator[str]:
    for value in _values(content, "uri"):
        if claim := claim_of(value):
            yield claim


def _image_paths(content: Any) -> Iterator[str]:
    for value in _values(content, "uri"):
        claim, path = uri.parse(value)
        if claim is None:
            yield path


def _config_maps(content: Any) -> Iterator[str]:
    return (reference["name"] for reference in _values(content, "configMap"))


def _values(content: Any, wanted: str) -> Iterator[Any]:
    """What stands under a key, wherever that is."""
    if isinstance(content, list):
        for inner in content:
            yield from _values(inner, wanted)
    elif isinstance(content, dict):
        for key, inner in content.items():
            if key == wanted:
                yield inner
            else:
                yield from _values(inner, wanted)
