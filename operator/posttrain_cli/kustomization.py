"""The ConfigMaps that a kustomization makes of the files beside it, as `kubectl apply -k` would apply them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from posttrain_cli.documents import STDIN, Document
from posttrain_cli.failure import Failure, one_line

FILE = "kustomization.yaml"

Object = dict[str, Any]


def config_maps(files: Iterable[str]) -> list[Document]:
    """Those of the kustomizations that lie beside these files, each once."""
    folders = dict.fromkeys(Path(file).parent for file in files if file != STDIN)
    return [document for folder in folders if (folder / FILE).is_file() for document in _of(folder)]


def _of(folder: Path) -> Iterator[Document]:
    place = folder / FILE
    try:
        content = yaml.safe_load(place.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise Failure(f"{place}: cannot be read: {one_line(str(problem))}") from problem
    generators = content.get("configMapGenerator") if isinstance(content, dict) else None
    for generator in generators or []:
        data = {key: _text(folder / path, place) for key, path in map(_parted, generator.get("files") or [])}
        data |= dict(literal.split("=", 1) for literal in generator.get("literals") or [])
        yield Document(str(place), _config_map(str(generator.get("name")), data))


def _parted(file: str) -> tuple[str, str]:
    """Key and path of `key=path`, or of a path alone, whose name is the key."""
    key, mark, path = file.partition("=")
    return (key, path) if mark else (Path(file).name, file)


def _text(path: Path, place: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as problem:
        raise Failure(
            f"{place}: {path.name} cannot be read: {getattr(problem, 'strerror', 'it is no text')}"
        ) from problem


def _config_map(name: str, data: dict[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
